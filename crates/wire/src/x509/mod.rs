//! Certificates, certification requests and revocation lists (RFC 5280, RFC 2986): bytes only.
//!
//! Purpose: build what will be signed, put a signature on it, and read what a peer sent. Signing,
//! verifying and path building are done by others over the bytes this module keeps.
//!
//! Invariants: a parsed value keeps the exact bytes that were signed; every list is limited before
//! it is walked; an extension or attribute that occurs twice is refused. No object-identifier name
//! database is linked: names of attributes come from one small table.
//!
//! Not trusted: a parsed certificate or request says only what its bytes say.
//!
//! Spec: RFC 5280, RFC 2986, RFC 4108 section 5, RFC 4043, RFC 5480, RFC 8410.

mod alg;
mod attestation;
mod cert;
mod crl;
mod csr;
mod ext;
mod list;
mod name;
pub mod oid;
mod raw;
mod san;

mod view;
pub(crate) mod walk;

pub use alg::{SignatureAlg, ecdsa_from_der, ecdsa_to_der};
pub use attestation::{AttestationBundle, AttestationStatement, BundledCert};
pub use cert::{CertBuilder, MAX_SERIAL_BYTES, SerialNumber, Validity, assemble_certificate};
pub use crl::{CrlBuilder, CrlEntry, CrlKind, MAX_CRL_ENTRIES, RevocationReason, assemble_crl};
pub use csr::{AllegedCsr, CsrAttribute, CsrBuilder, assemble_csr, cert_id};
pub use ext::{Extension, ExtensionSet, KeyUsages, usage};
pub use list::List;
pub use name::{AttributeSpec, AttributeValue, DistinguishedName, NameBuilder, TextForm};
pub use raw::RawDer;
pub use san::{SanEntry, decode_san, encode_san, san_extension};
pub use view::{BasicConstraints, CertView, ExtensionView};

use der::asn1::ObjectIdentifier;

/// Largest certificate or request accepted, in bytes. ML-DSA-87 certificates are near 8 KiB.
pub const MAX_CERT_BYTES: usize = 16 * 1024;
/// Largest distinguished name accepted, in bytes. Real device names stay under 300.
pub const MAX_NAME_BYTES: usize = 2048;
/// Most relative distinguished names in one name.
pub const MAX_RDNS: usize = 24;
/// Most extensions in one certificate or request.
pub const MAX_EXTENSIONS: usize = 32;
/// Most alternative names in one certificate or request.
pub const MAX_SAN_ENTRIES: usize = 32;
/// Most attributes in one certification request.
pub const MAX_CSR_ATTRIBUTES: usize = 16;

/// Why bytes are not a certificate, a request or a part of one; or why one cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum X509Error {
    /// The bytes are not the DER of the expected structure.
    #[error("not the expected DER: {0}")]
    Der(der::Error),
    /// The bytes are not the DER of the expected structure, found where no detail is kept.
    #[error("not the expected DER")]
    Malformed,
    /// A length or a count exceeds its limit.
    #[error("{what}: {got} exceeds the limit of {max}")]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// Measured size or count.
        got: usize,
        /// Allowed size or count.
        max: usize,
    },
    /// A length or a count is below what the standard requires.
    #[error("{what}: {got} is below the minimum of {min}")]
    TooSmall {
        /// What was measured.
        what: &'static str,
        /// Measured size or count.
        got: usize,
        /// Required size or count.
        min: usize,
    },
    /// An extension or attribute occurs more than once.
    #[error("{oid} occurs more than once")]
    Duplicate {
        /// The extension or attribute.
        oid: ObjectIdentifier,
    },
    /// A version number this code does not know.
    #[error("version {got} is not supported (expected {expected})")]
    Version {
        /// The version read.
        got: u8,
        /// The version understood.
        expected: u8,
    },
    /// A text has a character its string type forbids.
    #[error("{what} has a character that is not allowed there")]
    Text {
        /// What was being encoded.
        what: &'static str,
    },
    /// The algorithm inside the signed part differs from the one outside.
    #[error("the signed part and the signature name different algorithms")]
    AlgorithmMismatch,
    /// The signature has the wrong length or form for its algorithm.
    #[error("the signature does not have the form its algorithm requires")]
    SignatureForm,
    /// notAfter is not after notBefore, or a time is outside years 1970 to 9999.
    #[error("the validity period is not a period")]
    Validity,
    /// A name that must not be empty is empty.
    #[error("{what} is empty")]
    Empty {
        /// What is empty.
        what: &'static str,
    },
}

impl From<der::Error> for X509Error {
    fn from(error: der::Error) -> Self {
        Self::Der(error)
    }
}

impl From<walk::Flaw> for X509Error {
    fn from(_: walk::Flaw) -> Self {
        Self::Malformed
    }
}

/// Refuses a size or count over its limit.
pub(crate) fn at_most(what: &'static str, got: usize, max: usize) -> Result<(), X509Error> {
    if got > max {
        Err(X509Error::TooLarge { what, got, max })
    } else {
        Ok(())
    }
}
