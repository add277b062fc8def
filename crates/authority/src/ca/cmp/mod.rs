//! CMP at the CA: from bytes of a stranger to an authenticated request, and the answers.
//!
//! Invariants: nothing is looked up but by senderKID or by the serial number of the certificate that
//! came along, nothing is believed before MAC or signature verify, and every way of not having a
//! MAC's key looks the same outside: unknown release, unknown device and wrong MAC cost the same
//! work and give the same answer.
//!
//! Spec: RFC 9810, RFC 9481, RFC 9483 sections 3 and 4.

mod authenticate;
mod confirm;
mod denial;
mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use super::means::Authenticated;
pub use authenticate::{Credential, MacPolicy, TaKey, authenticate};
pub use confirm::{Confirmation, PendingTransaction, Verdict, check_confirmation};
pub use denial::{CmpDenial, NotAuthenticated};
pub use reply::{Reply, ReplyContext, Request};
pub use request::{AllegedRequest, AskedCertificate, CRMF_CERT_REQ_ID, Claim, RequestBody, decode};
