//! The CA's decisions: its own certificates, releases of the enrolment TA, deliveries, issuance, status.
//!
//! Invariants: a certificate is signed only over a [`issue::LintedTbs`], which exists only for an
//! [`issue::IssuanceToken`], which exists only for a request whose protection, proof of possession,
//! identity and profile were checked. Each is consumed by the next step; none can be copied or made elsewhere.
//!
//! Trusted: who changes this module can issue anything.

pub mod attested;
pub mod authority_cert;
pub mod cmp;
pub mod delivery;
pub mod est;
pub mod issue;
pub mod maker;
pub mod means;
pub mod release;
pub mod revocation;
pub mod status;

use tegata_crypto::{CryptoError, KeyAlg};
use tegata_wire::x509::{SignatureAlg, X509Error};

/// The X.509 signature algorithm of a key.
pub(crate) fn signature_alg(alg: KeyAlg) -> Result<SignatureAlg, CryptoError> {
    SignatureAlg::from_oid(&alg.signature_oid())
        .ok_or(CryptoError::UnsupportedAlgorithm("certificate signature"))
}

/// Why a CA certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaCertError {
    /// A name or a lifetime that cannot be in a certificate.
    #[error("the CA certificate cannot be made or read: {0}")]
    X509(#[from] X509Error),
    /// A key or signature failed.
    #[error("the CA key cannot be used: {0}")]
    Crypto(#[from] CryptoError),
    /// It is not the certificate of a CA that may sign certificates.
    #[error("the certificate is not one of a CA")]
    NotACa,
}
