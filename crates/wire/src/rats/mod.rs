//! RATS messages: Evidence (EAT) and attestation results (EAR), as CWT claims sets.
//!
//! Purpose: claims between bytes and types. The COSE_Sign1 around them is the crypto crate's; what
//! the claims are worth is the Verifier's to say.
//!
//! Invariants: a claim that is not known is kept and has no meaning. A known claim with a wrong
//! type is an error: it is never taken for absent.
//!
//! Trusted: who changes this module can make a device look like another.
//!
//! Spec: RFC 9711, RFC 8392, RFC 8747, draft-ietf-rats-ear, draft-ietf-rats-ar4si,
//! draft-ietf-rats-eat-measured-component, RFC 9783 (PSA), RFC 9999 (CMW), `docs/spec/evidence.md`

use crate::cbor::{CborError, Limits};

pub mod cmw;
pub mod ear;
pub mod eat;
pub mod psa;
pub mod statement;

/// For claims sets: submodules nest.
pub(crate) const LIMITS: Limits = Limits {
    depth: 12,
    items: 4096,
};

/// Longest encoded claims set in bytes.
pub const MAX_CLAIMS_LEN: usize = 64 * 1024;
/// Longest text claim in bytes.
pub const MAX_TEXT_LEN: usize = 512;
/// Items of any list of claims.
pub const MAX_LIST: usize = 64;

/// Why bytes are not the claims set that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RatsError {
    /// Not the CBOR of the specification.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// The claims set has another profile than the one that this reader knows.
    #[error("profile of the claims set is not known")]
    Profile,
    /// A claim is against its specification.
    #[error("claim {what} is not valid")]
    Claim {
        /// Name of the claim.
        what: &'static str,
    },
    /// An attestation result says more than its trustworthiness vector allows.
    #[error("status is better than the trustworthiness vector allows")]
    Status,
}
