//! SUIT digests.

use alloc::vec;
use alloc::vec::Vec;

use super::SuitError;
use crate::cbor::{self, Value};
use crate::ids::Digest;

/// Hash algorithms that SUIT names, by their COSE numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashAlg {
    /// SHA-256: the only one that Tegata computes.
    Sha256,
    /// SHAKE128.
    Shake128,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SHAKE256.
    Shake256,
}

impl HashAlg {
    /// COSE algorithm number.
    #[must_use]
    pub const fn cose_alg(self) -> i64 {
        match self {
            Self::Sha256 => -16,
            Self::Shake128 => -18,
            Self::Sha384 => -43,
            Self::Sha512 => -44,
            Self::Shake256 => -45,
        }
    }

    /// The algorithm with this COSE number.
    ///
    /// # Errors
    /// `SuitError::DigestAlgorithm` for any other number.
    pub const fn from_cose_alg(alg: i64) -> Result<Self, SuitError> {
        match alg {
            -16 => Ok(Self::Sha256),
            -18 => Ok(Self::Shake128),
            -43 => Ok(Self::Sha384),
            -44 => Ok(Self::Sha512),
            -45 => Ok(Self::Shake256),
            got => Err(SuitError::DigestAlgorithm { got }),
        }
    }

    /// Length of its digests in bytes (for SHAKE, the length that COSE fixes).
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 | Self::Shake128 => 32,
            Self::Sha384 => 48,
            Self::Sha512 | Self::Shake256 => 64,
        }
    }
}

/// An algorithm and a digest.
///
/// Spec: draft-ietf-suit-manifest section 10
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuitDigest {
    /// The hash algorithm.
    pub alg: HashAlg,
    /// The digest, as long as the algorithm makes it.
    pub bytes: Vec<u8>,
}

impl SuitDigest {
    /// A SHA-256 digest.
    #[must_use]
    pub fn sha256(digest: impl Into<Digest>) -> Self {
        Self {
            alg: HashAlg::Sha256,
            bytes: digest.into().0.to_vec(),
        }
    }

    /// The digest, if it is SHA-256.
    ///
    /// # Errors
    /// `SuitError::DigestAlgorithm` for another algorithm.
    pub fn to_sha256(&self) -> Result<Digest, SuitError> {
        let other = SuitError::DigestAlgorithm {
            got: self.alg.cose_alg(),
        };
        if self.alg != HashAlg::Sha256 {
            return Err(other);
        }
        Digest::from_slice(&self.bytes).map_err(|_| other)
    }

    /// Encodes the digest: an array of two.
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn encode(&self) -> Result<Vec<u8>, SuitError> {
        Ok(cbor::encode(&self.to_value())?)
    }

    /// Decodes a digest.
    ///
    /// # Errors
    /// `SuitError` if the bytes are none, or if its length does not fit its algorithm.
    pub fn decode(bytes: &[u8]) -> Result<Self, SuitError> {
        Self::from_value(cbor::decode(bytes, 1)?)
    }

    /// The digest as a tree.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Array(vec![
            self.alg.cose_alg().into(),
            Value::Bytes(self.bytes.clone()),
        ])
    }

    /// Reads a digest from a tree.
    ///
    /// # Errors
    /// As [`SuitDigest::decode`].
    pub fn from_value(value: Value) -> Result<Self, SuitError> {
        let mut items = cbor::into_array(value, "SUIT_Digest", 2, 2)?.into_iter();
        let (Some(alg), Some(bytes)) = (items.next(), items.next()) else {
            return Err(SuitError::Invalid {
                what: "SUIT_Digest",
            });
        };
        let alg = HashAlg::from_cose_alg(cbor::int(&alg, "suit-digest-algorithm-id")?)?;
        let len = alg.digest_len();
        Ok(Self {
            alg,
            bytes: cbor::into_bytes_sized(bytes, "suit-digest-bytes", len, len)?,
        })
    }
}

impl From<Digest> for SuitDigest {
    fn from(digest: Digest) -> Self {
        Self::sha256(digest)
    }
}
