//! The lists through which programs find the functions, and the three that they find by name.
#![allow(non_snake_case)] // Names of the specification.

use std::ffi::{CStr, c_char};

use cryptoki_sys as ck;

use super::enter;
use super::functions::*;
use super::memory::{get, list, put};
use super::unsupported::*;
use crate::rv::rv;

/// The functions since version 2, and those of version 3.
macro_rules! lists {
    (since 2: $($old:ident)*; since 3: $($new:ident)*;) => {
        static LIST_2_40: ck::CK_FUNCTION_LIST = ck::CK_FUNCTION_LIST {
            version: ck::CK_VERSION { major: 2, minor: 40 },
            $($old: Some($old),)*
        };
        static LIST_3_0: ck::CK_FUNCTION_LIST_3_0 = list_3(0);
        static LIST_3_1: ck::CK_FUNCTION_LIST_3_0 = list_3(1);

        /// The list of version 3.0 and that of 3.1 differ in their number.
        const fn list_3(minor: ck::CK_BYTE) -> ck::CK_FUNCTION_LIST_3_0 {
            ck::CK_FUNCTION_LIST_3_0 {
                version: ck::CK_VERSION { major: 3, minor },
                $($old: Some($old),)*
                $($new: Some($new),)*
            }
        }
    };
}

lists! {
    since 2:
        C_Initialize C_Finalize C_GetInfo C_GetFunctionList C_GetSlotList C_GetSlotInfo
        C_GetTokenInfo C_GetMechanismList C_GetMechanismInfo C_InitToken C_InitPIN C_SetPIN
        C_OpenSession C_CloseSession C_CloseAllSessions C_GetSessionInfo C_GetOperationState
        C_SetOperationState C_Login C_Logout C_CreateObject C_CopyObject C_DestroyObject
        C_GetObjectSize C_GetAttributeValue C_SetAttributeValue C_FindObjectsInit C_FindObjects
        C_FindObjectsFinal C_EncryptInit C_Encrypt C_EncryptUpdate C_EncryptFinal C_DecryptInit
        C_Decrypt C_DecryptUpdate C_DecryptFinal C_DigestInit C_Digest C_DigestUpdate
        C_DigestKey C_DigestFinal C_SignInit C_Sign C_SignUpdate C_SignFinal C_SignRecoverInit
        C_SignRecover C_VerifyInit C_Verify C_VerifyUpdate C_VerifyFinal C_VerifyRecoverInit
        C_VerifyRecover C_DigestEncryptUpdate C_DecryptDigestUpdate C_SignEncryptUpdate
        C_DecryptVerifyUpdate C_GenerateKey C_GenerateKeyPair C_WrapKey C_UnwrapKey C_DeriveKey
        C_SeedRandom C_GenerateRandom C_GetFunctionStatus C_CancelFunction C_WaitForSlotEvent
    ;
    since 3:
        C_GetInterfaceList C_GetInterface C_LoginUser C_SessionCancel C_MessageEncryptInit
        C_EncryptMessage C_EncryptMessageBegin C_EncryptMessageNext C_MessageEncryptFinal
        C_MessageDecryptInit C_DecryptMessage C_DecryptMessageBegin C_DecryptMessageNext
        C_MessageDecryptFinal C_MessageSignInit C_SignMessage C_SignMessageBegin
        C_SignMessageNext C_MessageSignFinal C_MessageVerifyInit C_VerifyMessage
        C_VerifyMessageBegin C_VerifyMessageNext C_MessageVerifyFinal
    ;
}

/// Interfaces in the order in which they are offered; the first is the default.
#[repr(transparent)]
struct Interfaces([ck::CK_INTERFACE; 3]);

// SAFETY: the pointers in it lead to statics that never change.
unsafe impl Sync for Interfaces {}

static INTERFACES: Interfaces = Interfaces([
    interface((&raw const LIST_3_1).cast_mut().cast()),
    interface((&raw const LIST_3_0).cast_mut().cast()),
    interface((&raw const LIST_2_40).cast_mut().cast()),
]);
/// Their versions, in the same order.
const VERSIONS: [(u8, u8); 3] = [(3, 1), (3, 0), (2, 40)];
const NAME: &CStr = c"PKCS 11";

const fn interface(functions: *mut std::ffi::c_void) -> ck::CK_INTERFACE {
    ck::CK_INTERFACE {
        pInterfaceName: NAME.as_ptr().cast_mut().cast(),
        pFunctionList: functions,
        // Not CKF_INTERFACE_FORK_SAFE: a child after a fork gets CKR_CRYPTOKI_NOT_INITIALIZED
        // until it initialises itself, and its parent's sessions are not its own.
        flags: 0,
    }
}

/// The functions of version 2.40.
///
/// # Safety
/// `out` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(out: *mut *mut ck::CK_FUNCTION_LIST) -> ck::CK_RV {
    // SAFETY: the contract.
    enter(|| unsafe { put(out, (&raw const LIST_2_40).cast_mut()) })
}

/// All interfaces.
///
/// # Safety
/// `count` is null or may be read and written; `out` is null or has room for `*count` interfaces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetInterfaceList(
    out: *mut ck::CK_INTERFACE,
    count: *mut ck::CK_ULONG,
) -> ck::CK_RV {
    // SAFETY: the contract.
    enter(|| unsafe { list(&INTERFACES.0, out, count) })
}

/// The interface of this name, version and flags; null and 0 stand for any.
///
/// # Safety
/// `name` is null or text that ends with a zero; `version` is null or may be read; `out` is null or
/// may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetInterface(
    name: *mut ck::CK_UTF8CHAR,
    version: *mut ck::CK_VERSION,
    out: *mut *mut ck::CK_INTERFACE,
    flags: ck::CK_FLAGS,
) -> ck::CK_RV {
    enter(|| {
        // SAFETY: the contract.
        if !name.is_null() && unsafe { CStr::from_ptr(name.cast::<c_char>()) } != NAME {
            return Err(rv!(CKR_ARGUMENTS_BAD));
        }
        let wanted = if version.is_null() {
            None
        } else {
            // SAFETY: the contract; not null.
            let version = unsafe { get(version) }?;
            Some((version.major, version.minor))
        };
        let found = INTERFACES.0.iter().zip(VERSIONS).find(|(found, own)| {
            wanted.is_none_or(|wanted| wanted == *own) && found.flags & flags == flags
        });
        let (found, _) = found.ok_or(rv!(CKR_ARGUMENTS_BAD))?;
        // SAFETY: the contract.
        unsafe { put(out, std::ptr::from_ref(found).cast_mut()) }
    })
}
