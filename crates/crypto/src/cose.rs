//! COSE_Sign1 made and verified.

use alloc::vec::Vec;

use crate::{CryptoError, Provider, PublicKey, Signer};

/// `content type` header. Spec: RFC 9052 section 3.1.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentType {
    /// CoAP Content-Format number.
    Number(u16),
    /// Media type.
    Text(alloc::string::String),
}

/// Headers beyond `alg` (protected) and `kid` (protected, the key's thumbprint).
#[derive(Debug, Clone, Default)]
pub struct Sign1Headers {
    /// Protected content type.
    pub content_type: Option<ContentType>,
    /// Unprotected x5chain, leaf first, DER (RFC 9360).
    pub x5chain: Vec<Vec<u8>>,
    /// Leave out CBOR tag 18.
    pub untagged: bool,
    /// Leave out `kid`.
    pub no_kid: bool,
}

/// A COSE_Sign1 whose signature was verified.
#[derive(Debug)]
#[must_use]
pub struct VerifiedSign1 {
    pub(crate) payload: Vec<u8>,
    pub(crate) kid: Option<Vec<u8>>,
    pub(crate) alg: i64,
    pub(crate) key: PublicKey,
    pub(crate) content_type: Option<ContentType>,
}

impl VerifiedSign1 {
    /// The signed payload (attached, or the detached one that was given).
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The signed payload, by value.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }

    /// Key identifier of the message, if it has one.
    pub fn kid(&self) -> Option<&[u8]> {
        self.kid.as_deref()
    }

    /// Algorithm number of the message.
    pub fn alg(&self) -> i64 {
        self.alg
    }

    /// The key that verified.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Protected content type.
    pub fn content_type(&self) -> Option<&ContentType> {
        self.content_type.as_ref()
    }
}

/// Where the key of a message is looked up. Implemented for slices of keys (by thumbprint) and
/// for closures from `kid`.
pub trait Keys {
    /// The keys to try for this `kid`, few.
    fn candidates(&self, kid: Option<&[u8]>) -> Vec<PublicKey>;
}

impl Keys for [PublicKey] {
    fn candidates(&self, kid: Option<&[u8]>) -> Vec<PublicKey> {
        let matches = |key: &&PublicKey| kid.is_none_or(|kid| kid == key.thumbprint());
        self.iter().filter(matches).cloned().collect()
    }
}

impl<const N: usize> Keys for [PublicKey; N] {
    fn candidates(&self, kid: Option<&[u8]>) -> Vec<PublicKey> {
        self.as_slice().candidates(kid)
    }
}

impl Keys for Vec<PublicKey> {
    fn candidates(&self, kid: Option<&[u8]>) -> Vec<PublicKey> {
        self.as_slice().candidates(kid)
    }
}

impl Keys for PublicKey {
    fn candidates(&self, kid: Option<&[u8]>) -> Vec<PublicKey> {
        core::slice::from_ref(self).candidates(kid)
    }
}

impl<F: Fn(Option<&[u8]>) -> Option<PublicKey>> Keys for F {
    fn candidates(&self, kid: Option<&[u8]>) -> Vec<PublicKey> {
        self(kid).into_iter().collect()
    }
}

/// Why a COSE message is refused or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoseError {
    /// Not a COSE_Sign1 in CBOR that we accept.
    #[error("malformed COSE message")]
    Malformed,
    /// Above the limit on size.
    #[error("COSE message has {got} bytes, above the limit of {limit}")]
    TooLarge {
        /// Limit, in bytes.
        limit: usize,
        /// Length found, in bytes.
        got: usize,
    },
    /// No `alg` in the protected header.
    #[error("no algorithm in the protected header")]
    NoAlgorithm,
    /// An algorithm that we do not implement, or that is not the key's.
    #[error("algorithm {alg} is not acceptable here")]
    Algorithm {
        /// COSE algorithm number.
        alg: i64,
    },
    /// A critical header that we do not process, or a broken `crit`.
    #[error("critical header not understood")]
    Critical,
    /// No key for this `kid`.
    #[error("no key for this kid")]
    UnknownKey,
    /// A detached payload was given for an attached one, or none for a detached one.
    #[error("payload attached or detached against expectation")]
    Detached,
    /// Key or signature refused.
    #[error("refused key or signature")]
    Crypto(#[from] CryptoError),
}

/// Makes a COSE_Sign1 with the payload inside, or left out if `detached`.
///
/// # Errors
/// What the signer reports.
///
/// Spec: RFC 9052 section 4.2 and 4.4; kid: RFC 9679.
pub fn sign1(
    _signer: &dyn Signer,
    _payload: &[u8],
    _headers: &Sign1Headers,
    _external_aad: &[u8],
    _detached: bool,
) -> Result<Vec<u8>, CoseError> {
    Err(CoseError::Crypto(CryptoError::Unreachable(
        "to be filled in",
    )))
}

/// Verifies a COSE_Sign1, tagged (18, also within 61) or not, with a key from `keys`.
///
/// # Errors
/// [`CoseError`].
///
/// Spec: RFC 9052 section 4.4.
pub fn verify_sign1(
    _provider: &dyn Provider,
    _bytes: &[u8],
    _keys: &(impl Keys + ?Sized),
    _external_aad: &[u8],
    _detached_payload: Option<&[u8]>,
) -> Result<VerifiedSign1, CoseError> {
    Err(CoseError::Crypto(CryptoError::Unreachable(
        "to be filled in",
    )))
}
