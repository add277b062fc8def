//! CMP at the CA: from bytes of a stranger to an authenticated request, and the answers.
//!
//! Invariants: nothing is looked up but by senderKID, nothing is believed before the MAC verifies,
//! and every way of not being authenticated looks the same outside: unknown release, unknown
//! device and wrong MAC cost the same work and give the same answer.
//!
//! Spec: RFC 9810, RFC 9481 section 6.2.1, RFC 9483 sections 3 and 4.1.4.

mod confirm;
mod denial;
mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use confirm::{Confirmation, PendingTransaction, Verdict, check_confirmation};
pub use denial::{CmpDenial, NotAuthenticated};
pub use reply::{Reply, ReplyContext};
pub use request::{
    AllegedRequest, Authenticated, Credential, MacPolicy, RequestBody, authenticate, decode,
};
