//! Return codes as errors.

/// A return code other than `TEE_SUCCESS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(pub u32);

/// Result of an API call.
pub type Result<T> = core::result::Result<T, Error>;

/// `code` as a result.
///
/// # Errors
/// Any code but `TEE_SUCCESS`.
pub const fn check(code: u32) -> Result<()> {
    if code == crate::consts::TEE_SUCCESS {
        Ok(())
    } else {
        Err(Error(code))
    }
}
