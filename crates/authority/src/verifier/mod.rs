//! The Verifier: what evidence is worth, by endorsements, reference values and policy.
//!
//! Invariants: every claim of the trustworthiness vector says what was looked at; what was not
//! looked at is left out, never called good. A software TEE gets no claim about hardware, memory or
//! storage: an affirming result for it says that it is the endorsed device running known software
//! in an accepted configuration, and no more.
//!
//! Trusted: who changes this module or the policy can pass a bad device; they cannot forge one that
//! the factory never made.
//!
//! Spec: draft-ietf-rats-ear, draft-ietf-rats-ar4si, RFC 9711, docs/spec/appraisal.md

mod appraise;
mod policy;
pub mod psa;
mod request;
#[cfg(test)]
mod tests;

pub use appraise::{
    AppraisalDenied, Appraised, EVIDENCE_SUBMODULE, ReferenceValue, Verdict, appraise,
    evidence_kid, reasons_of, sign_result,
};
pub use policy::{AppraisalPolicy, EXAMPLE, PsaPolicy, SecurityLevel};
pub use request::AppraisalRequest;
