//! The CA's answers, protected by the signature of the issuing key.
//!
//! Spec: RFC 9483 section 3.1 (header), 4.1.1 and 4.1.4 (cp, pkiConf), 3.6 (error).

use tegata_crypto::Signer;
use tegata_crypto::cmp::protect_signature;
use tegata_wire::cmp::{
    BodyKind, MessageToProtect, NONCE_BYTES, P10CR_CERT_REQ_ID, PkiHeader, ProtectionAlg, RawBody,
    directory_name, null_dn,
};
use tegata_wire::x509::RawDer;

use super::denial::CmpDenial;
use crate::UnixSecs;
use crate::ca::authority_cert::Issuer;
use crate::ca::signature_alg;

/// What every answer needs.
#[derive(Clone, Copy)]
pub struct ReplyContext<'a> {
    /// The issuing CA.
    pub issuer: &'a Issuer,
    /// Its key.
    pub signer: &'a dyn Signer,
    /// The time.
    pub now: UnixSecs,
    /// Fresh random bytes.
    pub nonce: [u8; NONCE_BYTES],
}

/// What to answer.
#[derive(Debug)]
pub enum Reply<'a> {
    /// The certificate.
    Granted {
        /// It, in DER.
        certificate: &'a [u8],
        /// No certConf is awaited.
        implicit_confirm: bool,
    },
    /// The confirmation is recorded.
    Confirmed,
    /// A refusal.
    Denied(&'a CmpDenial),
}

impl ReplyContext<'_> {
    /// Builds and signs the answer to a request with that header (`None`: it could not be read).
    ///
    /// # Errors
    /// `Failed` if the answer cannot be built or signed.
    pub fn build(
        &self,
        request: Option<&PkiHeader>,
        reply: &Reply<'_>,
    ) -> Result<Vec<u8>, CmpDenial> {
        let wire = |_| CmpDenial::Failed("building the answer");
        let sender = directory_name(&self.issuer.name).map_err(wire)?;
        let header = match request {
            Some(header) => PkiHeader::reply_to(header, sender),
            None => PkiHeader::new(sender, null_dn()),
        };
        let alg = signature_alg(self.signer.public_key().alg())
            .map_err(|_| CmpDenial::Failed("signature algorithm"))?;
        let mut header = header
            .with_message_time(self.now.0)
            .and_then(|h| h.with_sender_kid(&self.issuer.key_id))
            .and_then(|h| h.with_sender_nonce(&self.nonce))
            .and_then(|h| h.with_protection(&ProtectionAlg::Signature(alg)))
            .map_err(wire)?;
        let body = match reply {
            Reply::Granted {
                certificate,
                implicit_confirm,
            } => {
                if *implicit_confirm {
                    header = header.with_implicit_confirm().map_err(wire)?;
                }
                RawBody::cp_granted(P10CR_CERT_REQ_ID, certificate)
            }
            Reply::Confirmed => RawBody::pki_conf(),
            // An authenticated request that is refused gets a cp, all else an error message.
            Reply::Denied(denial @ CmpDenial::Issue(_)) => {
                RawBody::cp_rejected(P10CR_CERT_REQ_ID, denial.failure(), denial.peer_text())
            }
            Reply::Denied(denial) => RawBody::error(denial.failure(), denial.peer_text()),
        }
        .map_err(wire)?;
        let chain = match body.kind {
            BodyKind::PkiConf => Vec::new(),
            _ => vec![
                RawDer::from_bytes(&self.issuer.cert_der)
                    .map_err(|_| CmpDenial::Failed("CA certificate"))?,
            ],
        };
        let message = MessageToProtect::new(&header, &body).map_err(wire)?;
        let part = message.protected_part().map_err(wire)?;
        let protection = protect_signature(self.signer, &part)
            .map_err(|_| CmpDenial::Failed("signing the answer"))?;
        message.into_der(Some(&protection), &chain).map_err(wire)
    }
}
