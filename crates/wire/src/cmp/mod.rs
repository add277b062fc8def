//! Certificate Management Protocol messages (RFC 9810, RFC 9481, RFC 9483): bytes only.
//!
//! Purpose: read a PKIMessage so that its protection can be checked over the very bytes received,
//! and build the messages Tegata sends: p10cr, kur, cp, certConf, pkiConf, error.
//!
//! Invariants: a received message keeps the DER of header and body; nothing is encoded a second
//! time before it is verified. A body is decoded only when asked for, and only as the type asked
//! for, so a device that reads `cp` does not carry a decoder for `kur`. Sizes and counts are
//! limited before anything is stored; no type contains itself, so depth is bounded.
//!
//! Deliberately absent: computing a MAC or signature, and deciding who may ask for what.
//!
//! Not trusted: an [`UnverifiedPkiMessage`] says only what its bytes say.

mod answer;
mod body;
mod crmf;
mod header;
mod info;
mod kur;
mod message;
pub mod oid;
mod protection;
mod status;

pub use body::{
    BodyKind, CertId, CertOrEncCert, CertRepMessage, CertResponse, CertStatus, CertifiedKeyPair,
    ErrorMsgContent, PkiBody, PollRepEntry, PollReqEntry, RawBody, RevDetails, RevRepContent,
};
pub use crmf::{
    CertReqMsg, CertRequest, CertTemplate, OptionalValidity, PopoSigningKey, ProofOfPossession,
    RegInfo,
};
pub use header::{
    GeneralName, InfoTypeAndValue, PkiHeader, directory_name, directory_name_der, null_dn,
};
pub use info::{CrlStatus, cert_req_template, sequence_of};
pub use kur::{CERT_REQ_ID, KeyUpdate};
pub use message::{MessageToProtect, UnverifiedPkiMessage};
pub use protection::{HashAlg, PbmParameter, Pbmac1Parameter, ProtectionAlg};
pub use status::{PkiFailureInfo, PkiStatus, PkiStatusInfo};

use crate::x509::{X509Error, walk::Flaw};

/// Largest PKIMessage accepted, in bytes: a response with a chain of four certificates and room.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Largest PKIHeader accepted, in bytes: two names of 2 KiB, parameters and texts.
pub const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Most certificates in extraCerts or caPubs: a chain, and one for a key rollover on each level.
pub const MAX_EXTRA_CERTS: usize = 16;
/// Most requests, responses or confirmations in one message.
pub const MAX_ENTRIES: usize = 16;
/// Most texts in a PKIFreeText.
pub const MAX_FREE_TEXTS: usize = 8;
/// Most InfoTypeAndValue in generalInfo or a general message.
pub const MAX_INFO_VALUES: usize = 16;
/// Longest transactionID or nonce accepted, in bytes. RFC 9483 section 3.1 asks for 16.
pub const MAX_NONCE_BYTES: usize = 64;
/// Length of the transactionID and nonces we send, in bytes.
pub const NONCE_BYTES: usize = 16;
/// Longest senderKID or recipKID accepted, in bytes.
pub const MAX_KID_BYTES: usize = 128;
/// certReqId of a request without one, that is of p10cr. Spec: RFC 9483 section 4.1.4.
pub const P10CR_CERT_REQ_ID: i64 = -1;

/// PKIFreeText: texts for people.
pub type FreeText = crate::x509::List<alloc::string::String, MAX_FREE_TEXTS>;

/// Why bytes are not a CMP message, or one cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmpError {
    /// The bytes are not the DER of the expected structure.
    #[error("not the expected DER: {0}")]
    Der(der::Error),
    /// A certificate, request or name inside is malformed.
    #[error("a part is malformed: {0}")]
    X509(X509Error),
    /// A length exceeds its limit.
    #[error("{what}: {got} exceeds the limit of {max}")]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// Measured size or count.
        got: usize,
        /// Allowed size or count.
        max: usize,
    },
    /// pvno is neither 2 nor 3.
    #[error("protocol version {got} is not supported (2 and 3 are)")]
    Version {
        /// The version read.
        got: u8,
    },
    /// The body has another kind than the one asked for.
    #[error("the body is {got:?}, not {expected:?}")]
    BodyKind {
        /// The kind wanted.
        expected: BodyKind,
        /// The kind found.
        got: BodyKind,
    },
    /// A body tag outside 0 to 26.
    #[error("unknown body tag {tag}")]
    UnknownBody {
        /// The context-specific tag number.
        tag: u32,
    },
    /// protectionAlg and protection must be both present or both absent.
    #[error("protectionAlg and protection must come together")]
    ProtectionMismatch,
    /// The parameters of protectionAlg are malformed or outside the accepted range.
    #[error("the parameters of the protection algorithm are not acceptable")]
    ProtectionParameters,
    /// A list that must not be empty is empty.
    #[error("{what} is empty")]
    Empty {
        /// What is empty.
        what: &'static str,
    },
}

impl From<der::Error> for CmpError {
    fn from(error: der::Error) -> Self {
        Self::Der(error)
    }
}

impl From<X509Error> for CmpError {
    fn from(error: X509Error) -> Self {
        Self::X509(error)
    }
}

impl From<Flaw> for CmpError {
    fn from(flaw: Flaw) -> Self {
        Self::X509(flaw.into())
    }
}

/// Refuses a size or count over its limit.
fn at_most(what: &'static str, got: usize, max: usize) -> Result<(), CmpError> {
    if got > max {
        Err(CmpError::TooLarge { what, got, max })
    } else {
        Ok(())
    }
}
