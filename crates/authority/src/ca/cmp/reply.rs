//! The CA's answers, protected by the signature of the issuing key; those to who proved an enrolment
//! secret by a MAC under it, for then the client has no other trust anchor.
//!
//! Spec: RFC 9483 sections 3.1 (header), 3.6 (error), 4.1 to 4.4.

use std::sync::Arc;

use tegata_crypto::cmp::{protect_mac, protect_signature};
use tegata_crypto::{Provider, Secret, Signer};
use tegata_wire::cmp::{
    BodyKind, CertId, InfoTypeAndValue, MessageToProtect, NONCE_BYTES, P10CR_CERT_REQ_ID,
    PkiHeader, PkiStatusInfo, ProtectionAlg, RawBody, UnverifiedPkiMessage, directory_name,
    null_dn,
};
use tegata_wire::x509::RawDer;

use super::denial::CmpDenial;
use super::request::{AllegedRequest, CRMF_CERT_REQ_ID};
use crate::UnixSecs;
use crate::ca::authority_cert::Issuer;
use crate::ca::signature_alg;

/// What every answer needs.
#[derive(Clone, Copy)]
pub struct ReplyContext<'a> {
    /// The issuing CA.
    pub issuer: &'a Issuer,
    /// The root certificate (DER): given to who has no trust anchor but the shared secret.
    pub root: &'a [u8],
    /// The issuing key.
    pub signer: &'a dyn Signer,
    /// Certificates (DER) from the issuing CA on that lead to what a device may have for an anchor; none
    /// if it has them already.
    pub chain: &'a [Vec<u8>],
    /// For MACs.
    pub provider: &'a dyn Provider,
    /// The time.
    pub now: UnixSecs,
    /// Fresh random bytes.
    pub nonce: [u8; NONCE_BYTES],
    /// Until when a certConf is awaited.
    pub confirm_until: UnixSecs,
    /// The secret that the request was proved with, if it was one.
    pub mac: Option<&'a MacAnswer>,
}

/// How an answer to who proved an enrolment secret is protected.
pub struct MacAnswer {
    alg: ProtectionAlg,
    kid: Vec<u8>,
    text: Secret<Vec<u8>>,
}

impl MacAnswer {
    /// By the algorithm of the request, with a salt of our own. `None` if it has no MAC.
    #[must_use]
    pub fn to(request: &PkiHeader, text: Secret<Vec<u8>>, salt: [u8; 16]) -> Option<Self> {
        let mut alg = request.protection().ok()??;
        match &mut alg {
            ProtectionAlg::Pbmac1(params) => params.salt = salt.to_vec(),
            ProtectionAlg::PasswordBasedMac(params) => params.salt = salt.to_vec(),
            ProtectionAlg::Hmac(_) => {}
            _ => return None,
        }
        Some(Self {
            alg,
            kid: request.sender_kid()?.to_vec(),
            text,
        })
    }
}

/// What of a request decides the form of its answer: nothing of it is believed.
#[derive(Debug, Clone)]
pub struct Request {
    header: Arc<PkiHeader>,
    kind: BodyKind,
}

impl Request {
    /// Of a request that was decoded.
    #[must_use]
    pub fn of(alleged: &AllegedRequest) -> Self {
        Self {
            header: Arc::new(alleged.header().clone()),
            kind: alleged.message.kind(),
        }
    }

    /// `None` if the bytes are not a PKIMessage: the answer then says so to nobody in particular.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let message = UnverifiedPkiMessage::from_der(bytes).ok()?;
        Some(Self {
            header: Arc::new(message.header().clone()),
            kind: message.kind(),
        })
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &Arc<PkiHeader> {
        &self.header
    }

    /// The same, answered as a request of that kind: a poll is answered as what it asks about.
    #[must_use]
    pub fn answered_as(self, kind: Option<BodyKind>) -> Self {
        Self {
            kind: kind.unwrap_or(self.kind),
            ..self
        }
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
    /// The confirmation, or what else the client had to say, is recorded.
    Confirmed,
    /// The certificate is revoked.
    Revoked(CertId),
    /// Answers to questions about the CA.
    Told(&'a [InfoTypeAndValue]),
    /// An operator is to decide; the client polls.
    Waiting,
    /// As `Waiting`, in answer to a poll.
    StillWaiting {
        /// certReqId of the request.
        cert_req_id: i64,
    },
    /// A refusal.
    Denied(&'a CmpDenial),
}

impl ReplyContext<'_> {
    /// Builds and protects the answer to a request (`None`: it could not be read).
    ///
    /// # Errors
    /// `Failed` if the answer cannot be built or protected.
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
        let (alg, kid) = match self.mac {
            Some(mac) => (mac.alg.clone(), &mac.kid),
            None => {
                let alg = signature_alg(self.signer.public_key().alg());
                let alg = alg.map_err(|_| CmpDenial::Failed("signature algorithm"))?;
                (ProtectionAlg::Signature(alg), &self.issuer.key_id)
            }
        };
        let mut header = header
            .with_message_time(self.now.0)
            .and_then(|h| h.with_sender_kid(kid))
            .and_then(|h| h.with_sender_nonce(&self.nonce))
            .and_then(|h| h.with_protection(&alg))
            .map_err(wire)?;
        if let Reply::Granted {
            implicit_confirm, ..
        } = reply
        {
            header = if *implicit_confirm {
                header.with_implicit_confirm().map_err(wire)?
            } else {
                let until = self.confirm_until.0;
                header.with_confirm_wait_time(until).map_err(wire)?
            };
        }
        let body = self.body(request, reply)?;
        let chain: Result<Vec<_>, _> = self.chain.iter().map(|c| RawDer::from_bytes(c)).collect();
        let chain = chain.map_err(|_| CmpDenial::Failed("CA certificate"))?;
        let message = MessageToProtect::new(&header, &body).map_err(wire)?;
        let part = message.protected_part().map_err(wire)?;
        let protection = match self.mac {
            Some(mac) => {
                let text = mac.text.expose_secret();
                protect_mac(self.provider, &mac.alg, text, &part)
            }
            None => protect_signature(self.signer, &part),
        }
        .map_err(|_| CmpDenial::Failed("protecting the answer"))?;
        message.into_der(Some(&protection), &chain).map_err(wire)
    }

    fn body(&self, request: Option<&Request>, reply: &Reply<'_>) -> Result<RawBody, CmpDenial> {
        let asked = request.and_then(Request::cert_rep);
        let nobody = CmpDenial::Failed("an answer that nobody asked for");
        match reply {
            Reply::Granted { certificate, .. } => {
                let (kind, id) = asked.ok_or(nobody)?;
                let pubs: &[&[u8]] = match self.mac {
                    Some(_) => &[self.root],
                    None => &[],
                };
                RawBody::granted(kind, id, certificate, pubs)
            }
            Reply::Confirmed => RawBody::pki_conf(),
            Reply::Revoked(id) => RawBody::rev_rep(PkiStatusInfo::accepted(), Some(id.clone())),
            Reply::Told(items) => RawBody::genp(items.to_vec()),
            Reply::Waiting => {
                let (kind, id) = asked.ok_or(nobody)?;
                RawBody::not_granted(kind, id, PkiStatusInfo::waiting(WAITING))
            }
            Reply::StillWaiting { cert_req_id } => {
                RawBody::poll_rep(*cert_req_id, CHECK_AFTER_SECS, WAITING)
            }
            // An authenticated request that is refused gets an answer of its kind, all else an error: a
            // TA gives a kur up for such a refusal, which nobody on the way can bring about, and asks as the
            // release, in place of the certificate. So what may pass is an error: the kur is good once it has.
            Reply::Denied(denial) => {
                let status = PkiStatusInfo::rejection(denial.failure(), denial.peer_text());
                match (asked, denial) {
                    (Some((BodyKind::Kup, _)), CmpDenial::Issue(denied)) if denied.may_pass() => {
                        RawBody::error(denial.failure(), denial.peer_text())
                    }
                    (Some((kind, id)), CmpDenial::Issue(_) | CmpDenial::SignerRevoked) => {
                        RawBody::not_granted(kind, id, status)
                    }
                    (_, CmpDenial::Revoke(_)) => RawBody::rev_rep(status, None),
                    _ => RawBody::error(denial.failure(), denial.peer_text()),
                }
            }
        }
        .map_err(|_| CmpDenial::Failed("building the answer"))
    }
}

/// What a client that waits is told.
const WAITING: &str = "the CA's operator has to approve this request";
/// How soon it is to ask again: while its connection is still open, which some programs count on.
const CHECK_AFTER_SECS: i64 = 5;
