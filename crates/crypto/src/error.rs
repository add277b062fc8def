//! The error of keys and providers. Each protocol's glue has an enum of its own around it.

use crate::KeyAlg;

/// What can go wrong with a key or a primitive. Carries no secret and no peer-chosen text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CryptoError {
    /// The signature does not verify under this key over these bytes.
    #[error("the signature does not verify")]
    BadSignature,
    /// The MAC differs.
    #[error("the MAC does not verify")]
    BadMac,
    /// Authenticated decryption or key unwrap failed: wrong key, or altered data.
    #[error("decryption failed: wrong key, or altered data")]
    BadCiphertext,
    /// The bytes are not a key that this crate accepts.
    #[error("invalid key: {0}")]
    InvalidKey(&'static str),
    /// A fixed-length input has another length.
    #[error("{what} has {got} bytes, expected {expected}")]
    WrongLength {
        /// Which input.
        what: &'static str,
        /// Length wanted, in bytes.
        expected: usize,
        /// Length found, in bytes.
        got: usize,
    },
    /// An input is above the limit that bounds the work for it.
    #[error("{what} is {got}, above the limit of {limit}")]
    LimitExceeded {
        /// Which input.
        what: &'static str,
        /// Largest value accepted.
        limit: u64,
        /// Value found.
        got: u64,
    },
    /// The bytes do not parse.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The key is of another algorithm than the operation needs.
    #[error("the key is {got}, the operation needs {expected}")]
    WrongKeyAlg {
        /// Algorithm the operation needs.
        expected: KeyAlg,
        /// Algorithm of the key.
        got: KeyAlg,
    },
    /// The algorithm identifier names nothing that this crate implements.
    #[error("unsupported algorithm for {0}")]
    UnsupportedAlgorithm(&'static str),
    /// The random number generator failed.
    #[error("the random number generator failed")]
    Rng,
    /// A bug in this crate: a state that its invariants exclude.
    #[error("internal error: {0}")]
    Unreachable(&'static str),
}

impl CryptoError {
    /// Stable short name, for metric labels.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadSignature => "bad-signature",
            Self::BadMac => "bad-mac",
            Self::BadCiphertext => "bad-ciphertext",
            Self::InvalidKey(_) => "invalid-key",
            Self::WrongLength { .. } => "wrong-length",
            Self::LimitExceeded { .. } => "limit-exceeded",
            Self::Malformed(_) => "malformed",
            Self::WrongKeyAlg { .. } => "wrong-key-alg",
            Self::UnsupportedAlgorithm(_) => "unsupported-algorithm",
            Self::Rng => "rng",
            Self::Unreachable(_) => "unreachable",
        }
    }
}
