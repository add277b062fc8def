//! CMP messages as a client with a certificate sends them: each part can be made wrong.
#![allow(dead_code)]

use der::{Decode as _, Encode as _};
use tegata_authority::UnixMs;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{PrivateKey, Provider as _, Signer as _};
use tegata_store::issuer::{CmpAnswer, Issuer};
use tegata_wire::cmp::{
    BodyKind, CertId, CertReqMsg, CertRequest, CertTemplate, MessageToProtect, PkiBody, PkiHeader,
    PopoSigningKey, ProofOfPossession, ProtectionAlg, RawBody, RegInfo, RevDetails,
    UnverifiedPkiMessage, directory_name, null_dn, oid,
};
use tegata_wire::enrolment::{Identity, RenewalToken, SenderKid, token_input};
use tegata_wire::x509::{CertView, DistinguishedName, List, RawDer, SignatureAlg, san_extension};

use std::sync::Arc;

use super::{Device, Seeded};

/// A certificate and its key.
#[derive(Clone)]
pub struct Current {
    pub key: Arc<PrivateKey>,
    pub der: Vec<u8>,
}

impl Current {
    pub fn serial(&self) -> Vec<u8> {
        CertView::from_der(&self.der).unwrap().serial.to_vec()
    }

    /// A message signed by this certificate's key.
    pub fn sign(&self, body: &RawBody, transaction: u8, recip_nonce: Option<&[u8]>) -> Vec<u8> {
        let view = CertView::from_der(&self.der).unwrap();
        let sender = DistinguishedName::from_der(view.subject_der).unwrap();
        let kid = view.subject_key_id().unwrap().unwrap().to_vec();
        self.sign_as(
            &sender,
            Some(&kid),
            &self.der,
            body,
            transaction,
            recip_nonce,
        )
    }

    pub fn sign_as(
        &self,
        sender: &DistinguishedName,
        kid: Option<&[u8]>,
        certificate: &[u8],
        body: &RawBody,
        transaction: u8,
        recip_nonce: Option<&[u8]>,
    ) -> Vec<u8> {
        let alg = SignatureAlg::from_oid(&self.key.public_key().alg().signature_oid()).unwrap();
        let mut header = PkiHeader::new(directory_name(sender).unwrap(), null_dn())
            .with_transaction_id(&[transaction; 16])
            .and_then(|h| h.with_sender_nonce(&[transaction ^ 0x55; 16]))
            .and_then(|h| h.with_protection(&ProtectionAlg::Signature(alg)))
            .unwrap();
        if let Some(kid) = kid {
            header = header.with_sender_kid(kid).unwrap();
        }
        if let Some(nonce) = recip_nonce {
            header = header.with_recip_nonce(nonce).unwrap();
        }
        let message = MessageToProtect::new(&header, body).unwrap();
        let part = message.protected_part().unwrap();
        let protection = tegata_crypto::cmp::protect_signature(self.key.as_ref(), &part).unwrap();
        let extra = [RawDer::from_bytes(certificate).unwrap()];
        message.into_der(Some(&protection), &extra).unwrap()
    }

    /// The confirmation of what came in an answer, signed by this key.
    pub fn conf(&self, answer: &[u8], new: &[u8], transaction: u8) -> Vec<u8> {
        let hash = RustCrypto.sha256(new);
        let body = RawBody::cert_conf(0, &hash, None).unwrap();
        let nonce = UnverifiedPkiMessage::from_der(answer).unwrap();
        let nonce = nonce.header().sender_nonce().unwrap().to_vec();
        self.sign(&body, transaction, Some(&nonce))
    }
}

/// A request for a certificate in CRMF, as the TA makes it; each part may be changed before `body`.
#[derive(Clone)]
pub struct Asked {
    pub kind: BodyKind,
    pub request: CertRequest,
    pub popo_key: Arc<PrivateKey>,
}

impl Asked {
    /// The key update of a device's TA: names, new key, old certificate, token.
    pub fn kur(device: &Device, current: &Current, new: &Arc<PrivateKey>) -> Self {
        let installed = device.installed.as_ref().unwrap();
        let order = &installed.procedure.certificates[0];
        let identity = Identity::from(&device.identity);
        let subject = order.subject(&identity).unwrap();
        let san = san_extension(&order.san(&identity).unwrap(), subject.is_empty()).unwrap();
        let view = CertView::from_der(&current.der).unwrap();
        let old = CertId::new(view.issuer_der, view.serial).unwrap();
        let mut asked = Self::cr(new);
        asked.kind = BodyKind::Kur;
        let template = &mut asked.request.cert_template;
        template.subject = Some(der::Decode::from_der(subject.as_der()).unwrap());
        template.extensions = Some(List::one(x509_cert::ext::Extension {
            extn_id: san.oid,
            critical: san.critical,
            extn_value: der::asn1::OctetString::new(san.value).unwrap(),
        }));
        asked.control(oid::REG_CTRL_OLD_CERT_ID, &old);
        let token = token(device, &current.der, new);
        asked.control(oid::REG_CTRL_REG_TOKEN, &token);
        asked
    }

    /// A request that names nothing but a key.
    pub fn cr(new: &Arc<PrivateKey>) -> Self {
        let spki = new.public_key().to_spki_der().unwrap();
        Self {
            kind: BodyKind::Cr,
            request: CertRequest {
                cert_req_id: 0,
                cert_template: CertTemplate {
                    public_key: Some(der::Decode::from_der(&spki).unwrap()),
                    ..CertTemplate::default()
                },
                controls: None,
            },
            popo_key: Arc::clone(new),
        }
    }

    /// Sets a control, or replaces it.
    pub fn control(&mut self, oid: der::asn1::ObjectIdentifier, value: &impl der::Encode) {
        let mut all = self
            .request
            .controls
            .take()
            .map_or(Vec::new(), List::into_vec);
        all.retain(|c| c.oid != oid);
        let value = RawDer::from_bytes(&value.to_der().unwrap()).unwrap();
        all.push(RegInfo { oid, value });
        self.request.controls = Some(List::new(all).unwrap());
    }

    pub fn without(&mut self, oid: der::asn1::ObjectIdentifier) {
        let mut all = self
            .request
            .controls
            .take()
            .map_or(Vec::new(), List::into_vec);
        all.retain(|c| c.oid != oid);
        self.request.controls = (!all.is_empty()).then(|| List::new(all).unwrap());
    }

    pub fn body(&self) -> RawBody {
        let der = self.request.to_der().unwrap();
        let alg = self.popo_key.public_key().alg();
        let raw = self.popo_key.sign(&der).unwrap();
        let bits = tegata_crypto::ecdsa_sig::to_der(alg, &raw).unwrap();
        let popo = ProofOfPossession::Signature(PopoSigningKey {
            popo_sk_input: None,
            alg: alg.signature_alg().identifier(),
            signature: der::asn1::BitString::from_bytes(&bits).unwrap(),
        });
        self.body_with(Some(popo))
    }

    pub fn body_with(&self, popo: Option<ProofOfPossession>) -> RawBody {
        let message = CertReqMsg {
            cert_req: RawDer::from_bytes(&self.request.to_der().unwrap()).unwrap(),
            popo,
            reg_info: None,
        };
        let list = List::one(message);
        match self.kind {
            BodyKind::Ir => PkiBody::Ir(list),
            BodyKind::Cr => PkiBody::Cr(list),
            _ => PkiBody::Kur(list),
        }
        .to_raw()
        .unwrap()
    }
}

/// The TA's word that the new key is in its TEE.
pub fn token(device: &Device, old_der: &[u8], new: &Arc<PrivateKey>) -> String {
    let installed = device.installed.as_ref().unwrap();
    let spki = new.public_key().to_spki_der().unwrap();
    let input = token_input(&RustCrypto.sha256(&spki), &RustCrypto.sha256(old_der));
    RenewalToken {
        kid: SenderKid::parse(&installed.kid).unwrap(),
        mac: RustCrypto.hmac_sha256(&installed.key, &input),
    }
    .to_text()
}

/// The certificate in an ip, cp or kup, after the answer's signature was verified; or the kind of
/// the answer and the names of the failure.
pub fn granted(answer: &[u8], ca: &Issuer) -> Result<Vec<u8>, String> {
    let message = UnverifiedPkiMessage::from_der(answer).unwrap();
    let issuer =
        tegata_authority::ca::authority_cert::Issuer::from_cert(ca.issuing_certificate()).unwrap();
    let _proof =
        tegata_crypto::cmp::verify_message_signature(&RustCrypto, &message, &issuer.public_key)
            .unwrap();
    let failure = |status: &tegata_wire::cmp::PkiStatusInfo| {
        let names = status
            .fail_info
            .map(|i| i.names().collect::<Vec<_>>().join("|"));
        format!("{:?} {}", message.kind(), names.unwrap_or_default())
    };
    match message.body().decode().unwrap() {
        PkiBody::Ip(rep) | PkiBody::Cp(rep) | PkiBody::Kup(rep) => {
            let response = &rep.response[0];
            let certificate = response.certificate().map(<[u8]>::to_vec);
            certificate.ok_or_else(|| failure(&response.status))
        }
        PkiBody::Error(content) => Err(failure(&content.status)),
        PkiBody::PkiConf => Err("PkiConf".into()),
        other => panic!("{other:?}"),
    }
}

/// The request that a certificate be revoked, for a reason if it says one.
pub fn rr(current: &[u8], reason: Option<u8>) -> RawBody {
    let view = CertView::from_der(current).unwrap();
    let entry = reason.map(|reason| {
        List::one(x509_cert::ext::Extension {
            extn_id: der::asn1::ObjectIdentifier::new_unwrap("2.5.29.21"),
            critical: false,
            extn_value: der::asn1::OctetString::new(vec![0x0a, 1, reason]).unwrap(),
        })
    });
    let details = RevDetails {
        cert_details: CertTemplate {
            serial_number: Some(der::asn1::Int::new(view.serial).unwrap()),
            issuer: Some(der::Decode::from_der(view.issuer_der).unwrap()),
            ..CertTemplate::default()
        },
        crl_entry_details: entry,
    };
    PkiBody::Rr(List::one(details)).to_raw().unwrap()
}

/// Sends a message to the CA.
pub fn send(ca: &Issuer, rng: &mut Seeded, message: &[u8], now: UnixMs) -> CmpAnswer {
    ca.cmp("device", message, rng, now)
}

pub fn name(text: &str) -> DistinguishedName {
    let cn = tegata_wire::x509::AttributeSpec::by_name("CN").unwrap();
    let builder = tegata_wire::x509::NameBuilder::new();
    builder.push(cn, text).unwrap().build().unwrap()
}

/// A message with its last byte but `n` turned over.
pub fn turned(message: &[u8], n: usize) -> Vec<u8> {
    let mut out = message.to_vec();
    let at = out.len() - 1 - n;
    out[at] ^= 1;
    out
}

/// The protection's first bytes are a SEQUENCE: for tests that cut a message open.
pub fn reread(message: &[u8]) -> UnverifiedPkiMessage {
    UnverifiedPkiMessage::from_der(message).unwrap()
}

pub fn cert_id(der: &[u8]) -> CertId {
    let view = CertView::from_der(der).unwrap();
    CertId::from_der(
        &CertId::new(view.issuer_der, view.serial)
            .unwrap()
            .to_der()
            .unwrap(),
    )
    .unwrap()
}
