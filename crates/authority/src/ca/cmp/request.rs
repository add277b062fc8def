//! Decoding a request: what it asks, and who it says it is from.

use tegata_wire::cmp::{
    BodyKind, CertId, CertReqMsg, CertStatus, NONCE_BYTES, PkiBody, PkiHeader, ProtectionAlg,
    UnverifiedPkiMessage,
};
use tegata_wire::enrolment::{RenewalToken, SenderKid};
use tegata_wire::x509::CertView;

use super::denial::CmpDenial;

/// A request as it came: well-formed, nothing in it believed.
#[derive(Debug)]
pub struct AllegedRequest {
    pub(super) message: UnverifiedPkiMessage,
    pub(super) claim: Claim,
    pub(super) body: RequestBody,
}

/// The bodies this CA serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestBody {
    /// A PKCS#10 request (DER, as received).
    P10cr(Vec<u8>),
    /// ir, cr or kur.
    Crmf(Box<AskedCertificate>),
    /// A confirmation; empty means that every certificate is refused.
    CertConf(Vec<CertStatus>),
}

/// The one request of an ir, cr or kur.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedCertificate {
    /// ir, cr or kur.
    pub kind: BodyKind,
    /// The request and its proof of possession.
    pub message: CertReqMsg,
    /// The certificate that it is to replace, if it says one.
    pub old: Option<CertId>,
    /// The TA's word on the new key, if it has one.
    pub token: Option<RenewalToken>,
}

/// Who a request says it is from: whose key is to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// A MAC under the `CsrAuthKey` of this release and device.
    Ta(SenderKid),
    /// A signature by the key of the certificate of this serial number, the first in extraCerts.
    Certificate {
        /// Serial number, big-endian.
        serial: Vec<u8>,
    },
    /// Nobody that could be known.
    Nobody,
}

impl AllegedRequest {
    /// Whose key to look up.
    #[must_use]
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Whose TA is said to vouch for the new key.
    #[must_use]
    pub fn token(&self) -> Option<&RenewalToken> {
        match &self.body {
            RequestBody::Crmf(asked) => asked.token.as_ref(),
            _ => None,
        }
    }

    /// The header, for the answer.
    #[must_use]
    pub fn header(&self) -> &PkiHeader {
        self.message.header()
    }

    /// Whether it is a confirmation.
    #[must_use]
    pub fn is_confirmation(&self) -> bool {
        matches!(self.body, RequestBody::CertConf(_))
    }
}

/// Reads a request within the limits of `tegata_wire::cmp`.
///
/// # Errors
/// What is wrong with its form; nothing depends on our state.
pub fn decode(bytes: &[u8]) -> Result<AllegedRequest, CmpDenial> {
    let message = UnverifiedPkiMessage::from_der(bytes).map_err(CmpDenial::Malformed)?;
    let header = message.header();
    let len = |o: &Option<der::asn1::OctetString>| o.as_ref().map_or(0, |o| o.as_bytes().len());
    let got = len(&header.transaction_id);
    if got < NONCE_BYTES {
        return Err(CmpDenial::TransactionId {
            got,
            min: NONCE_BYTES,
        });
    }
    let got = len(&header.sender_nonce);
    if got < NONCE_BYTES {
        return Err(CmpDenial::SenderNonce {
            got,
            min: NONCE_BYTES,
        });
    }
    let body = body_of(&message)?;
    let claim = claim_of(&message)?;
    Ok(AllegedRequest {
        message,
        claim,
        body,
    })
}

fn body_of(message: &UnverifiedPkiMessage) -> Result<RequestBody, CmpDenial> {
    let kind = message.kind();
    // The kinds served are named before anything is decoded: others cost nothing.
    if !matches!(
        kind,
        BodyKind::P10cr | BodyKind::Ir | BodyKind::Cr | BodyKind::Kur | BodyKind::CertConf
    ) {
        return Err(CmpDenial::Body { got: kind });
    }
    match message.body().decode().map_err(CmpDenial::Malformed)? {
        PkiBody::P10cr(csr) => Ok(RequestBody::P10cr(csr.into_bytes())),
        PkiBody::Ir(list) | PkiBody::Cr(list) | PkiBody::Kur(list) => {
            let got = list.len();
            let [message] = <[CertReqMsg; 1]>::try_from(list.into_vec())
                .map_err(|_| CmpDenial::Requests { got })?;
            asked(kind, message).map(|asked| RequestBody::Crmf(Box::new(asked)))
        }
        PkiBody::CertConf(list) => Ok(RequestBody::CertConf(list.into_vec())),
        _ => Err(CmpDenial::Body { got: kind }),
    }
}

fn asked(kind: BodyKind, message: CertReqMsg) -> Result<AskedCertificate, CmpDenial> {
    let malformed = |e: der::Error| CmpDenial::Malformed(e.into());
    let request = message.request().map_err(malformed)?;
    // Spec: RFC 9483 section 4.1.1.
    if request.cert_req_id != CRMF_CERT_REQ_ID {
        return Err(CmpDenial::RequestId {
            got: request.cert_req_id,
        });
    }
    let token = request.reg_token().map_err(malformed)?;
    Ok(AskedCertificate {
        kind,
        old: request.old_cert_id().map_err(malformed)?,
        // Some other CA's regToken vouches for nothing here.
        token: token.and_then(|text| RenewalToken::parse(&text).ok()),
        message,
    })
}

fn claim_of(message: &UnverifiedPkiMessage) -> Result<Claim, CmpDenial> {
    let alg = message.header().protection();
    if let Some(ProtectionAlg::Signature(_)) = alg.map_err(CmpDenial::Malformed)? {
        // Spec: RFC 9483 section 3.3: the first one is that of the protection.
        let first = message.extra_certs().first();
        let view = first.and_then(|der| CertView::from_der(der.as_bytes()).ok());
        return Ok(view.map_or(Claim::Nobody, |view| Claim::Certificate {
            serial: view.serial.to_vec(),
        }));
    }
    let kid = message.header().sender_kid();
    let kid = kid.and_then(|kid| SenderKid::parse(kid).ok());
    Ok(kid.map_or(Claim::Nobody, Claim::Ta))
}

/// certReqId of the one request of an ir, cr or kur.
pub const CRMF_CERT_REQ_ID: i64 = 0;
