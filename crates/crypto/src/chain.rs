//! X.509 path validation from a leaf through issuing CAs to a trust anchor.

use alloc::vec::Vec;

use x509_cert::Certificate;

use crate::{CryptoError, Provider, PublicKey};

/// Most intermediate certificates a peer may send; ours sends one.
pub const INTERMEDIATES_MAX: usize = 8;
/// Longest path, leaf and last intermediate included, anchor excluded.
pub const PATH_LEN_MAX: usize = 4;
/// Most signatures verified for one leaf, whatever the peer sends.
pub const SIGNATURES_MAX: u32 = 16;
/// Largest certificate that is looked at, in bytes.
pub const CERT_LEN_BYTES_MAX: usize = 16 * 1024;

/// A root that is trusted because it was configured, not because of its signature.
#[derive(Debug, Clone)]
pub struct TrustAnchor {
    pub(crate) certificate: Certificate,
    pub(crate) public_key: PublicKey,
    pub(crate) der: Vec<u8>,
}

/// What the leaf must be good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// An end entity that signs (digitalSignature, if it states its key usage).
    EndEntity,
    /// An issuing CA (basicConstraints cA, keyCertSign).
    Ca,
}

/// A path that was checked, leaf first.
#[derive(Debug)]
#[must_use]
pub struct VerifiedChain {
    pub(crate) path: Vec<(Vec<u8>, Certificate)>,
    pub(crate) leaf_key: PublicKey,
    pub(crate) anchor: TrustAnchor,
}

impl TrustAnchor {
    /// Takes a CA certificate in DER as a trust anchor.
    ///
    /// # Errors
    /// [`ChainError`] unless it parses, holds a key we support and may sign certificates.
    pub fn from_cert_der(_der: &[u8]) -> Result<Self, ChainError> {
        Err(ChainError::Crypto(CryptoError::Unreachable(
            "to be filled in",
        )))
    }

    /// The certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The anchor's key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The certificate, parsed.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

impl VerifiedChain {
    /// The leaf, parsed.
    pub fn leaf(&self) -> &Certificate {
        // Invariant: `path` is never empty; the anchor is only there for the type.
        self.path
            .first()
            .map_or(&self.anchor.certificate, |(_, leaf)| leaf)
    }

    /// The leaf's key.
    pub fn leaf_key(&self) -> &PublicKey {
        &self.leaf_key
    }

    /// The path in DER, leaf first, anchor excluded.
    pub fn path_der(&self) -> impl Iterator<Item = &[u8]> {
        self.path.iter().map(|(der, _)| der.as_slice())
    }

    /// The anchor the path ends at.
    pub fn anchor(&self) -> &TrustAnchor {
        &self.anchor
    }
}

/// Why no acceptable path was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A certificate does not parse.
    #[error("malformed certificate")]
    Malformed,
    /// More certificates, bytes or signatures than the budget allows.
    #[error("{0} above the limit")]
    LimitExceeded(&'static str),
    /// No trust anchor, or none that issued this path.
    #[error("no trusted issuer")]
    UnknownIssuer,
    /// A certificate is not yet valid.
    #[error("certificate is not yet valid: not before {not_before}, now {now}")]
    NotYetValid {
        /// Start of validity, seconds since 1970.
        not_before: u64,
        /// The time given, seconds since 1970.
        now: u64,
    },
    /// A certificate has expired.
    #[error("certificate has expired: not after {not_after}, now {now}")]
    Expired {
        /// End of validity, seconds since 1970.
        not_after: u64,
        /// The time given, seconds since 1970.
        now: u64,
    },
    /// An issuer is no CA, or its path length constraint is exceeded.
    #[error("an issuer is not a CA for this path")]
    NotACa,
    /// The key usage does not allow what the certificate is used for.
    #[error("key usage does not allow this use")]
    KeyUsage,
    /// A critical extension that this code does not process.
    #[error("unknown critical extension")]
    UnknownCriticalExtension,
    /// The same extension twice, or an unparsable one.
    #[error("malformed extension")]
    BadExtension,
    /// Signature algorithm of the issuer's key and of the certificate differ.
    #[error("signature algorithm mismatch")]
    AlgMismatch,
    /// A key or a signature is refused.
    #[error("refused key or signature")]
    Crypto(#[from] CryptoError),
}

/// Finds and checks a path from `leaf` (DER) over `intermediates` (DER, any order, untrusted) to
/// one of `anchors`, at `now` (seconds since 1970).
///
/// # Errors
/// [`ChainError`]: the reason of the last path that was tried.
///
/// Spec: RFC 5280 section 6.1 without policies and name constraints (refused if critical).
pub fn verify_chain(
    _provider: &dyn Provider,
    _leaf: &[u8],
    _intermediates: &[&[u8]],
    _anchors: &[TrustAnchor],
    _purpose: Purpose,
    _now: u64,
) -> Result<VerifiedChain, ChainError> {
    Err(ChainError::Crypto(CryptoError::Unreachable(
        "to be filled in",
    )))
}
