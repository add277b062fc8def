//! Status of certificates for those who rely on them: lists and responses, signed.
//!
//! Trusted: what is signed here is believed by relying parties until its nextUpdate.

pub mod crl;
pub mod ocsp;

use tegata_crypto::CryptoError;
use tegata_wire::ocsp::OcspError;
use tegata_wire::x509::X509Error;

/// Where the status of one certificate is found, and the certificate of its issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusUrls {
    /// The list of its shard.
    pub crl: String,
    /// The responder.
    pub ocsp: String,
    /// The issuer's certificate.
    pub ca_issuers: String,
}

impl StatusUrls {
    /// The URLs below a base URL, for an issuer by its subjectKeyIdentifier.
    #[must_use]
    pub fn of(base: &str, issuer_key_id: &[u8], shard: u64) -> Self {
        let issuer = hex::encode(issuer_key_id);
        Self {
            crl: crl_url(base, &issuer, &shard.to_string()),
            ocsp: format!("{base}/ocsp"),
            ca_issuers: format!("{base}/ca/{issuer}.cer"),
        }
    }
}

/// URL of a list: `scope` is a shard, or a shard and `.delta`.
#[must_use]
pub fn crl_url(base: &str, issuer: &str, scope: &str) -> String {
    format!("{base}/crl/{issuer}/{scope}.crl")
}

/// Why a list or a response cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// It cannot be built.
    #[error("the status cannot be built: {0}")]
    X509(#[from] X509Error),
    /// It cannot be built.
    #[error("the response cannot be built: {0}")]
    Ocsp(#[from] OcspError),
    /// A key or the random generator failed.
    #[error("a key or the random generator failed: {0}")]
    Crypto(#[from] CryptoError),
}
