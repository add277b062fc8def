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
mod info;
mod operation;
mod reply;
mod request;
mod revoke;
#[cfg(test)]
mod tests;

pub use super::means::Authenticated;
pub use authenticate::{Credential, MacPolicy, TaKey, authenticate};
pub use confirm::{Confirmation, PendingTransaction, Verdict, check_confirmation};
pub use denial::{CmpDenial, NotAuthenticated, RevokeDenied};
pub use info::{InfoAsked, ca_certs, crls, current_crl, no_new_root, root_update, template};
pub use operation::Operation;
pub use reply::{MacAnswer, Reply, ReplyContext, Request};
pub use request::{
    AllegedRequest, AskedCertificate, CRMF_CERT_REQ_ID, Claim, RequestBody, SECRET_ID_CHARS,
    decode, decode_body,
};
pub use revoke::{RevocationAsked, check_revocation, named_serial};
