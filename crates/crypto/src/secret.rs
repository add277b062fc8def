//! [`Secret`]: a value that leaves memory when dropped and never shows itself by accident.

use core::fmt;

use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroize;

/// A secret value: zeroized on drop, hidden from `Debug`, equal only by [`Secret::ct_eq`],
/// readable only by [`Secret::expose_secret`]. No `Clone`, no `PartialEq`, no serde.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value in.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Whoever calls this keeps it out of logs and errors.
    pub fn expose_secret(&self) -> &T {
        &self.0
    }

    /// The value itself, to fill it in place.
    pub fn expose_secret_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize + Clone> Secret<T> {
    /// A second copy in memory: only where two owners are really needed.
    pub fn dangerous_clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Equality in time that depends on the lengths alone.
    #[must_use]
    pub fn ct_eq(&self, other: &[u8]) -> bool {
        let equal: Choice = self.0.as_ref().ct_eq(other);
        equal.into()
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<T: Zeroize> zeroize::ZeroizeOnDrop for Secret<T> {}
