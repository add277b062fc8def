//! How an API function ends: a return code for the TA, or a panic of the TA.
//!
//! GP makes programmer errors panics. The host itself never panics: it ends the instance.

use super::host::HostError;

/// Anything but success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fail {
    /// The function returns this code; functions without a return code panic with it.
    Code(u32),
    /// The TA panics with this code.
    Panic(u32),
}

impl From<HostError> for Fail {
    fn from(error: HostError) -> Self {
        Self::Code(error.code())
    }
}

/// Result of an API function's body.
pub type Res<T = ()> = Result<T, Fail>;

/// The function returns `code`.
pub const fn code<T>(code: u32) -> Res<T> {
    Err(Fail::Code(code))
}

/// The TA panics with `code`.
pub const fn panic_with<T>(code: u32) -> Res<T> {
    Err(Fail::Panic(code))
}
