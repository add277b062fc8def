//! The CA's answers, protected by the signature of the issuing key.
//!
//! Spec: RFC 9483 section 3.1 (header), 4.1.1 and 4.1.4 (cp, pkiConf), 3.6 (error).

use tegata_crypto::Signer;
use tegata_crypto::cmp::protect_signature;
use tegata_wire::cmp::{
    BodyKind, MessageToProtect, NONCE_BYTES, P10CR_CERT_REQ_ID, PkiHeader, PkiStatusInfo,
    ProtectionAlg, RawBody, UnverifiedPkiMessage, directory_name, null_dn,
};
use tegata_wire::x509::RawDer;

use super::denial::CmpDenial;
use super::request::CRMF_CERT_REQ_ID;
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
    /// Certificates (DER) from the issuing CA on that lead to what a device may have for an anchor; none
    /// if it has them already.
    pub chain: &'a [Vec<u8>],
    /// The time.
    pub now: UnixSecs,
    /// Fresh random bytes.
    pub nonce: [u8; NONCE_BYTES],
}

/// What of a request decides the form of its answer: nothing of it is believed.
#[derive(Debug, Clone)]
pub struct Request {
    header: PkiHeader,
    kind: BodyKind,
}

impl Request {
    /// `None` if the bytes are not a PKIMessage: the answer then says so to nobody in particular.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let message = UnverifiedPkiMessage::from_der(bytes).ok()?;
        Some(Self {
            header: message.header().clone(),
            kind: message.kind(),
        })
    }

    /// ip, cp or kup, with the certReqId, for a request for a certificate.
    fn cert_rep(&self) -> Option<(BodyKind, i64)> {
        let id = match self.kind {
            BodyKind::P10cr => P10CR_CERT_REQ_ID,
            BodyKind::Ir | BodyKind::Cr | BodyKind::Kur => CRMF_CERT_REQ_ID,
            _ => return None,
        };
        Some((self.kind.answer()?, id))
    }
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
    /// Builds and signs the answer to a request (`None`: it could not be read).
    ///
    /// # Errors
    /// `Failed` if the answer cannot be built or signed.
    pub fn build(
        &self,
        request: Option<&Request>,
        reply: &Reply<'_>,
    ) -> Result<Vec<u8>, CmpDenial> {
        let wire = |_| CmpDenial::Failed("building the answer");
        let sender = directory_name(&self.issuer.name).map_err(wire)?;
        let header = match request {
            Some(request) => PkiHeader::reply_to(&request.header, sender),
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
                let (kind, id) = request
                    .and_then(Request::cert_rep)
                    .ok_or(CmpDenial::Failed("a certificate that nobody asked for"))?;
                RawBody::granted(kind, id, certificate, &[])
            }
            Reply::Confirmed => RawBody::pki_conf(),
            // An authenticated request that is refused gets an ip, cp or kup, all else an error: a
            // TA gives a kur up for such a refusal, which nobody on the way can bring about.
            Reply::Denied(denial) => match (request.and_then(Request::cert_rep), denial) {
                (Some((kind, id)), CmpDenial::Issue(_) | CmpDenial::SignerRevoked) => {
                    let status = PkiStatusInfo::rejection(denial.failure(), denial.peer_text());
                    RawBody::not_granted(kind, id, status)
                }
                _ => RawBody::error(denial.failure(), denial.peer_text()),
            },
        }
        .map_err(wire)?;
        let chain: Result<Vec<_>, _> = self.chain.iter().map(|c| RawDer::from_bytes(c)).collect();
        let chain = chain.map_err(|_| CmpDenial::Failed("CA certificate"))?;
        let message = MessageToProtect::new(&header, &body).map_err(wire)?;
        let part = message.protected_part().map_err(wire)?;
        let protection = protect_signature(self.signer, &part)
            .map_err(|_| CmpDenial::Failed("signing the answer"))?;
        message.into_der(Some(&protection), &chain).map_err(wire)
    }
}
