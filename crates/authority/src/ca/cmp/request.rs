//! Decoding a request: what it asks, and who it says it is from.

use der::Decode as _;
use tegata_wire::cmp::{
    BodyKind, CertId, CertReqMsg, CertStatus, InfoTypeAndValue, NONCE_BYTES, PkiBody, PkiHeader,
    ProtectionAlg, RawBody, RevDetails, UnverifiedPkiMessage,
};
use tegata_wire::enrolment::{RenewalToken, SenderKid};
use tegata_wire::x509::{AllegedCsr, CertView};

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
    /// A PKCS#10 request.
    P10cr(Box<AllegedCsr>),
    /// ir, cr or kur.
    Crmf(Box<AskedCertificate>),
    /// A confirmation; empty means that every certificate is refused.
    CertConf(Vec<CertStatus>),
    /// A revocation request.
    Rr(Box<RevDetails>),
    /// Questions about the CA.
    Genm(Vec<InfoTypeAndValue>),
    /// Whether a request has been decided; the number is that request's certReqId.
    PollReq(i64),
    /// The client says that it failed.
    Error {
        /// Its text, for the log.
        text: String,
    },
}

impl RequestBody {
    /// The certificate that is to be followed, if the request names one. A name that cannot be read is none
    /// here: it is refused where it is checked.
    #[must_use]
    pub fn old(&self) -> Option<CertId> {
        match self {
            Self::P10cr(csr) => CertId::of_request(csr).ok().flatten(),
            Self::Crmf(asked) => asked.old.clone(),
            _ => None,
        }
    }
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
    /// A MAC under the enrolment secret of this id.
    Secret(String),
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

    /// The certificate that is said to have signed it (DER).
    #[must_use]
    pub fn shown_certificate(&self) -> Option<&[u8]> {
        self.message.extra_certs().first().map(|c| c.as_bytes())
    }

    /// The header, for the answer.
    #[must_use]
    pub fn header(&self) -> &PkiHeader {
        self.message.header()
    }

    /// What it asks.
    #[must_use]
    pub fn body(&self) -> &RequestBody {
        &self.body
    }

    /// The body as received (DER), to decode it again with [`decode_body`].
    #[must_use]
    pub fn body_der(&self) -> &[u8] {
        self.message.body_der()
    }

    /// Questions about the CA that nobody protected: what is answered to them is public, and signed.
    #[must_use]
    pub fn asks_in_the_open(&self) -> bool {
        matches!(self.body, RequestBody::Genm(_)) && self.message.protection().is_none()
    }
}

/// Reads a body that was kept, with its tag.
///
/// # Errors
/// As [`decode`].
pub fn decode_body(body_der: &[u8]) -> Result<RequestBody, CmpDenial> {
    let body = RawBody::from_der(body_der).map_err(|e| CmpDenial::Malformed(e.into()))?;
    body_of(&body)
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
    let body = body_of(message.body())?;
    let claim = claim_of(&message)?;
    Ok(AllegedRequest {
        message,
        claim,
        body,
    })
}

fn body_of(body: &RawBody) -> Result<RequestBody, CmpDenial> {
    use BodyKind as K;
    let kind = body.kind;
    // The kinds served are named before anything is decoded: others cost nothing.
    let served = [
        K::P10cr,
        K::Ir,
        K::Cr,
        K::Kur,
        K::CertConf,
        K::Rr,
        K::Genm,
        K::PollReq,
        K::Error,
    ];
    if !served.contains(&kind) {
        return Err(CmpDenial::Body { got: kind });
    }
    match body.decode().map_err(CmpDenial::Malformed)? {
        PkiBody::P10cr(csr) => match AllegedCsr::from_der(csr.as_bytes()) {
            Ok(csr) => Ok(RequestBody::P10cr(Box::new(csr))),
            Err(e) => Err(CmpDenial::Malformed(e.into())),
        },
        PkiBody::Ir(list) | PkiBody::Cr(list) | PkiBody::Kur(list) => {
            let message = only(list.into_vec())?;
            asked(kind, message).map(|asked| RequestBody::Crmf(Box::new(asked)))
        }
        PkiBody::CertConf(list) => Ok(RequestBody::CertConf(list.into_vec())),
        PkiBody::Rr(list) => Ok(RequestBody::Rr(Box::new(only(list.into_vec())?))),
        PkiBody::Genm(list) => Ok(RequestBody::Genm(list.into_vec())),
        PkiBody::PollReq(list) => Ok(RequestBody::PollReq(only(list.into_vec())?.cert_req_id)),
        PkiBody::Error(content) => Ok(RequestBody::Error {
            text: content.status.text().unwrap_or("no text").to_owned(),
        }),
        _ => Err(CmpDenial::Body { got: kind }),
    }
}

/// The one entry of a list. Spec: RFC 9483 sections 4.1.1, 4.2 and 4.4.
fn only<T>(list: Vec<T>) -> Result<T, CmpDenial> {
    let got = list.len();
    let [one] = <[T; 1]>::try_from(list).map_err(|_| CmpDenial::Requests { got })?;
    Ok(one)
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
    let kid = message.header().sender_kid().unwrap_or_default();
    if let Some(id) = secret_id(kid) {
        return Ok(Claim::Secret(id));
    }
    Ok(SenderKid::parse(kid).map_or(Claim::Nobody, Claim::Ta))
}

/// The id of an enrolment secret: shorter than any senderKID of a TA.
fn secret_id(kid: &[u8]) -> Option<String> {
    let digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if kid.len() != SECRET_ID_CHARS || !kid.iter().all(digit) {
        return None;
    }
    Some(String::from_utf8_lossy(kid).into_owned())
}

/// Length of the id of an enrolment secret: lower-case hexadecimal digits.
pub const SECRET_ID_CHARS: usize = 12;

/// certReqId of the one request of an ir, cr or kur.
pub const CRMF_CERT_REQ_ID: i64 = 0;
