//! SUIT: encrypted payloads, and manifests whose signature was verified.

use alloc::vec::Vec;

use crate::{CryptoError, PrivateKey, Provider, PublicKey, Rng, Secret};

/// Length of a content encryption key (A128GCM, A128CTR), in bytes.
pub const CEK_LEN_BYTES: usize = 16;

/// The keys a device may be reached by; the recipient structure decides which one is used.
#[derive(Debug, Default, Clone, Copy)]
pub struct DeliveryKeys<'a> {
    /// AES-128 key-encryption key (symmetric delivery).
    pub kek: Option<&'a Secret<[u8; 16]>>,
    /// P-256 key (asymmetric delivery).
    pub ecdh: Option<&'a PrivateKey>,
}

/// Why encryption information or a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuitError {
    /// Not what the specification describes.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// Content or recipient algorithm that we do not implement.
    #[error("unsupported {what} algorithm {alg}")]
    Algorithm {
        /// Content, recipient, digest or signature.
        what: &'static str,
        /// COSE algorithm number.
        alg: i64,
    },
    /// No recipient is for the keys that were given.
    #[error("not encrypted for this device")]
    NotForUs,
    /// The manifest's digest is not the one in the authentication wrapper.
    #[error("manifest digest does not match")]
    Digest,
    /// No authentication block verifies under a trusted key.
    #[error("no trusted signature")]
    Untrusted,
    /// COSE message refused.
    #[error("refused COSE message")]
    Cose(#[from] crate::cose::CoseError),
    /// Primitive failed.
    #[error("refused key, signature or ciphertext")]
    Crypto(#[from] CryptoError),
}

/// Encrypts a payload under `cek` with A128GCM; returns (ciphertext ‖ tag, 12-byte iv).
///
/// # Errors
/// [`CryptoError::Rng`] if no iv can be drawn.
pub fn seal_payload(
    _provider: &dyn Provider,
    _rng: &mut dyn Rng,
    _cek: &Secret<[u8; CEK_LEN_BYTES]>,
    _plaintext: &[u8],
) -> Result<(Vec<u8>, [u8; 12]), SuitError> {
    Err(SuitError::Crypto(CryptoError::Unreachable(
        "to be filled in",
    )))
}

/// Encryption information with `cek` wrapped under a shared key: COSE_Encrypt bytes.
///
/// # Errors
/// [`SuitError::Crypto`].
///
/// Spec: draft-ietf-suit-firmware-encryption section 6.1.
pub fn encryption_info_a128kw(
    _provider: &dyn Provider,
    _kek: &Secret<[u8; 16]>,
    _kid: &[u8],
    _cek: &Secret<[u8; CEK_LEN_BYTES]>,
    _iv: &[u8; 12],
) -> Result<Vec<u8>, SuitError> {
    Err(SuitError::Crypto(CryptoError::Unreachable(
        "to be filled in",
    )))
}

/// Encryption information with `cek` encrypted to a P-256 key: COSE_Encrypt bytes.
///
/// # Errors
/// [`SuitError::Crypto`].
///
/// Spec: draft-ietf-suit-firmware-encryption section 6.2.
pub fn encryption_info_ecdh_es(
    _provider: &dyn Provider,
    _rng: &mut dyn Rng,
    _recipient: &PublicKey,
    _cek: &Secret<[u8; CEK_LEN_BYTES]>,
    _iv: &[u8; 12],
) -> Result<Vec<u8>, SuitError> {
    Err(SuitError::Crypto(CryptoError::Unreachable(
        "to be filled in",
    )))
}

/// Decrypts a payload with the recipient structure that fits one of `keys`.
///
/// # Errors
/// [`SuitError`].
pub fn open_payload(
    _provider: &dyn Provider,
    _encryption_info: &[u8],
    _ciphertext: &[u8],
    _keys: DeliveryKeys<'_>,
) -> Result<Secret<Vec<u8>>, SuitError> {
    Err(SuitError::Crypto(CryptoError::Unreachable(
        "to be filled in",
    )))
}
