//! Online certificate status: requests as received, responses as built.
//!
//! Purpose: read what anybody on the network asks, and write what a responder signs. Invariants: a
//! certificate is named in the response by the very bytes that named it in the request; a list is
//! limited before it is walked. Deliberately absent: reading responses, signatures of requesters
//! (they change nothing for status that is public), and the extensions no relying party sends us.
//!
//! Not trusted: a request says only what its bytes say.
//!
//! Spec: RFC 6960, RFC 9654 (nonce), RFC 5019 (the profile for many clients).

mod request;
mod response;

pub use request::{CertId, IdHash, MAX_REQUEST_BYTES, MAX_REQUESTS, NONCE_BYTES_MAX, OcspRequest};
pub use response::{
    CertStatus, OcspFailure, ResponseBuilder, SingleStatus, assemble_response, failure_response,
};

use crate::x509::X509Error;

/// Why bytes are not a request, or a response cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OcspError {
    /// The bytes are not the DER of the expected structure.
    #[error("not the expected DER: {0}")]
    Der(der::Error),
    /// A length, a count or a name.
    #[error("{0}")]
    X509(X509Error),
    /// A version other than 1.
    #[error("version {got} is not 1")]
    Version {
        /// The version read.
        got: u16,
    },
    /// A nonce that is empty or too long.
    #[error("the nonce has {got} bytes, from 1 to {max} are allowed")]
    Nonce {
        /// Its length in bytes.
        got: usize,
        /// Longest allowed, bytes.
        max: usize,
    },
    /// A critical extension that is not understood.
    #[error("the critical extension {0} is not understood")]
    Critical(der::asn1::ObjectIdentifier),
    /// No certificate is asked for.
    #[error("the request asks for nothing")]
    Nothing,
}

impl From<der::Error> for OcspError {
    fn from(error: der::Error) -> Self {
        Self::Der(error)
    }
}

impl From<X509Error> for OcspError {
    fn from(error: X509Error) -> Self {
        Self::X509(error)
    }
}

#[cfg(test)]
mod tests;
