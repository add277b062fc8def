//! Return values: what went wrong, in the words of PKCS#11.

use cryptoki_sys as ck;
use tegata_client::codes;
use tegata_client::keys::KeyError;

/// A `CKR_*` value other than `CKR_OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rv(pub ck::CK_RV);

/// What every function inside gives.
pub(crate) type Result<T> = core::result::Result<T, Rv>;

/// Turns the name of a return value into an error.
macro_rules! rv {
    ($name:ident) => {
        crate::rv::Rv(cryptoki_sys::$name)
    };
}
pub(crate) use rv;

impl From<KeyError> for Rv {
    fn from(error: KeyError) -> Self {
        // A key that was there when the operation began, and is no more: deleted, or the TA was.
        if error.is_without_ta() {
            return rv!(CKR_FUNCTION_REJECTED);
        }
        match error {
            KeyError::NoKey { .. } => rv!(CKR_FUNCTION_REJECTED),
            KeyError::WhichTa { .. } => rv!(CKR_TOKEN_NOT_RECOGNIZED),
            KeyError::NoRoom(_) => rv!(CKR_TOKEN_RESOURCE_EXCEEDED),
            KeyError::Answer(_) => rv!(CKR_DEVICE_ERROR),
            KeyError::Tee(error) => match error.code() {
                codes::TEEC_ERROR_ACCESS_DENIED => rv!(CKR_KEY_FUNCTION_NOT_PERMITTED),
                codes::TEEC_ERROR_BUSY => rv!(CKR_TOKEN_RESOURCE_EXCEEDED),
                codes::TEEC_ERROR_OUT_OF_MEMORY => rv!(CKR_DEVICE_MEMORY),
                codes::TEEC_ERROR_BAD_PARAMETERS => rv!(CKR_DATA_INVALID),
                codes::TEEC_ERROR_EXCESS_DATA => rv!(CKR_DATA_LEN_RANGE),
                codes::TEEC_ERROR_CANCEL => rv!(CKR_FUNCTION_CANCELED),
                _ => rv!(CKR_DEVICE_ERROR),
            },
            _ => rv!(CKR_DEVICE_ERROR),
        }
    }
}

/// A number as `CK_ULONG`; what does not fit is "not available".
pub(crate) fn ulong<T: TryInto<ck::CK_ULONG>>(number: T) -> ck::CK_ULONG {
    number.try_into().unwrap_or(ck::CK_UNAVAILABLE_INFORMATION)
}
