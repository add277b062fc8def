//! Time as an argument.

/// A moment in seconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSecs(pub u64);

/// A moment in milliseconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// The whole seconds of it.
    #[must_use]
    pub fn secs(self) -> UnixSecs {
        UnixSecs(self.0 / 1_000)
    }
}
