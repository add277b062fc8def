//! PKIBody and its contents.
//!
//! Spec: RFC 9810 section 5.1.2 and 5.3. Its module has EXPLICIT TAGS.

use super::{
    CmpError, FreeText, HashAlg, InfoTypeAndValue, MAX_ENTRIES, MAX_EXTRA_CERTS, MAX_INFO_VALUES,
    PkiFailureInfo, PkiStatus, PkiStatusInfo,
    crmf::{CertReqMsg, CertTemplate},
    oid,
    status::free_text,
};
use crate::x509::{
    AllegedCsr, List, MAX_EXTENSIONS, RawDer,
    walk::{Element, Flaw, context, put, put_algorithm, wrap},
};
use alloc::vec::Vec;
use der::{
    Choice, Decode, Encode, EncodeValue, Length, Reader, Sequence, Tag, TagMode, TagNumber, Tagged,
    Writer,
    asn1::{ContextSpecific, ContextSpecificRef, Int, Null, OctetString},
};
use x509_cert::ext::{Extension, pkix::name::GeneralName};

/// Which alternative of PKIBody a message has. The value is the tag number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // The names are those of RFC 9810 section 5.1.2.
pub enum BodyKind {
    Ir = 0,
    Ip = 1,
    Cr = 2,
    Cp = 3,
    P10cr = 4,
    PopDecc = 5,
    PopDecr = 6,
    Kur = 7,
    Kup = 8,
    Krr = 9,
    Krp = 10,
    Rr = 11,
    Rp = 12,
    Ccr = 13,
    Ccp = 14,
    CkuAnn = 15,
    CAnn = 16,
    RAnn = 17,
    CrlAnn = 18,
    PkiConf = 19,
    Nested = 20,
    Genm = 21,
    Genp = 22,
    Error = 23,
    CertConf = 24,
    PollReq = 25,
    PollRep = 26,
}

impl BodyKind {
    /// Every kind; the index is the tag number.
    const ALL: [Self; 27] = [
        Self::Ir,
        Self::Ip,
        Self::Cr,
        Self::Cp,
        Self::P10cr,
        Self::PopDecc,
        Self::PopDecr,
        Self::Kur,
        Self::Kup,
        Self::Krr,
        Self::Krp,
        Self::Rr,
        Self::Rp,
        Self::Ccr,
        Self::Ccp,
        Self::CkuAnn,
        Self::CAnn,
        Self::RAnn,
        Self::CrlAnn,
        Self::PkiConf,
        Self::Nested,
        Self::Genm,
        Self::Genp,
        Self::Error,
        Self::CertConf,
        Self::PollReq,
        Self::PollRep,
    ];

    /// The tag number.
    pub fn tag(self) -> u8 {
        // The representation is u8 and is the tag.
        self as u8
    }

    /// The kind of a tag number.
    pub fn from_tag(tag: u32) -> Option<Self> {
        usize::try_from(tag)
            .ok()
            .and_then(|t| Self::ALL.get(t))
            .copied()
    }
}

/// A body whose kind is known and whose content is not decoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBody {
    /// Its kind.
    pub kind: BodyKind,
    /// DER inside the kind's tag.
    pub content: RawDer,
}

impl<'a> Decode<'a> for RawBody {
    type Error = der::Error;

    fn decode<R: Reader<'a>>(reader: &mut R) -> der::Result<Self> {
        let field = ContextSpecific::<RawDer>::decode(reader)?;
        let kind = BodyKind::from_tag(field.tag_number.value())
            .ok_or_else(|| reader.error(Tag::Sequence.value_error()))?;
        Ok(Self {
            kind,
            content: field.value,
        })
    }
}

impl RawBody {
    /// The element with its explicit tag, to encode.
    fn tagged(&self) -> ContextSpecificRef<'_, RawDer> {
        ContextSpecificRef {
            tag_number: TagNumber(u32::from(self.kind.tag())),
            tag_mode: TagMode::Explicit,
            value: &self.content,
        }
    }

    /// DER of the body, with its tag.
    pub(super) fn write(&self) -> Result<Vec<u8>, Flaw> {
        let number = u32::from(self.kind.tag());
        wrap(context(number), self.content.as_bytes())
    }

    /// Content of the given kind as a `T`.
    fn content_as<'a, T>(&'a self, kind: BodyKind) -> Result<T, CmpError>
    where
        T: Decode<'a, Error = der::Error>,
    {
        if self.kind != kind {
            return Err(CmpError::BodyKind {
                expected: kind,
                got: self.kind,
            });
        }
        Ok(self.content.decode_as()?)
    }

    /// Any content as a body of the given kind.
    pub(super) fn new(kind: BodyKind, content: &impl Encode) -> Result<Self, CmpError> {
        Ok(Self {
            kind,
            content: RawDer::from_bytes(&content.to_der()?)?,
        })
    }

    /// A p10cr body around a certification request.
    ///
    /// # Errors
    /// If `csr_der` is not one whole element.
    pub fn p10cr(csr_der: &[u8]) -> Result<Self, CmpError> {
        Ok(Self {
            kind: BodyKind::P10cr,
            content: RawDer::from_bytes(csr_der)?,
        })
    }

    /// The certification request of a p10cr body, as received.
    ///
    /// # Errors
    /// If the body is of another kind.
    pub fn p10cr_csr(&self) -> Result<&[u8], CmpError> {
        if self.kind != BodyKind::P10cr {
            return Err(CmpError::BodyKind {
                expected: BodyKind::P10cr,
                got: self.kind,
            });
        }
        Ok(self.content.as_bytes())
    }

    /// A cp body that grants a certificate.
    ///
    /// `cert_req_id` is [`super::P10CR_CERT_REQ_ID`] in answer to p10cr.
    ///
    /// # Errors
    /// If `cert_der` is not one whole element.
    pub fn cp_granted(cert_req_id: i64, cert_der: &[u8]) -> Result<Self, CmpError> {
        let certificate = CertOrEncCert::Certificate(RawDer::from_bytes(cert_der)?);
        let message = CertRepMessage {
            ca_pubs: None,
            response: List::one(CertResponse {
                cert_req_id,
                status: PkiStatusInfo::accepted(),
                certified_key_pair: Some(CertifiedKeyPair {
                    cert_or_enc_cert: certificate,
                    private_key: None,
                    publication_info: None,
                }),
                rsp_info: None,
            }),
        };
        Self::new(BodyKind::Cp, &message)
    }

    /// A cp body that rejects a request.
    ///
    /// # Errors
    /// If the text cannot be encoded.
    pub fn cp_rejected(
        cert_req_id: i64,
        failure: PkiFailureInfo,
        text: &str,
    ) -> Result<Self, CmpError> {
        let message = CertRepMessage {
            ca_pubs: None,
            response: List::one(CertResponse {
                cert_req_id,
                status: PkiStatusInfo::rejection(failure, text),
                certified_key_pair: None,
                rsp_info: None,
            }),
        };
        Self::new(BodyKind::Cp, &message)
    }

    /// The content of ip, cp or kup.
    ///
    /// # Errors
    /// If the body is of another kind or malformed.
    pub fn cert_rep(&self) -> Result<CertRepMessage, CmpError> {
        match self.kind {
            BodyKind::Ip | BodyKind::Cp | BodyKind::Kup => Ok(self.content.decode_as()?),
            got => Err(CmpError::BodyKind {
                expected: BodyKind::Cp,
                got,
            }),
        }
    }

    /// A certConf body for one certificate.
    ///
    /// `hash_alg` must be given, and pvno be 3, if the certificate's signature algorithm does not
    /// name the hash used: then it is put into the message.
    ///
    /// # Errors
    /// If the hash cannot be encoded.
    ///
    /// Spec: RFC 9810 section 5.3.18.
    pub fn cert_conf(
        cert_req_id: i64,
        cert_hash: &[u8],
        hash_alg: Option<HashAlg>,
    ) -> Result<Self, CmpError> {
        let mut status = Vec::new();
        put(&mut status, Tag::OctetString, cert_hash)?;
        cert_req_id.encode_to_vec(&mut status)?;
        if let Some(alg) = hash_alg {
            let mut id = Vec::new();
            put_algorithm(&mut id, &alg.hash_identifier())?;
            put(&mut status, context(0), &id)?;
        }
        let list = wrap(Tag::Sequence, &wrap(Tag::Sequence, &status)?)?;
        Ok(Self {
            kind: BodyKind::CertConf,
            content: RawDer::from_bytes(&list)?,
        })
    }

    /// A certConf body that refuses the certificate.
    ///
    /// # Errors
    /// If a part cannot be encoded.
    pub fn cert_conf_rejected(
        cert_req_id: i64,
        cert_hash: &[u8],
        hash_alg: Option<HashAlg>,
        failure: PkiFailureInfo,
        text: &str,
    ) -> Result<Self, CmpError> {
        let status = CertStatus {
            cert_hash: OctetString::new(cert_hash)?,
            cert_req_id,
            status_info: Some(PkiStatusInfo::rejection(failure, text)),
            hash_alg: hash_alg.map(HashAlg::hash_identifier),
        };
        Self::new(BodyKind::CertConf, &List::<_, MAX_ENTRIES>::one(status))
    }

    /// The content of certConf; empty means that every certificate is refused.
    ///
    /// # Errors
    /// If the body is of another kind or malformed.
    pub fn cert_conf_content(&self) -> Result<List<CertStatus, MAX_ENTRIES>, CmpError> {
        self.content_as(BodyKind::CertConf)
    }

    /// A pkiConf body.
    ///
    /// # Errors
    /// None in practice.
    pub fn pki_conf() -> Result<Self, CmpError> {
        Self::new(BodyKind::PkiConf, &Null)
    }

    /// Checks that this is pkiConf.
    ///
    /// # Errors
    /// If the body is of another kind or not NULL.
    pub fn expect_pki_conf(&self) -> Result<(), CmpError> {
        self.content_as::<Null>(BodyKind::PkiConf).map(|_| ())
    }

    /// An error body: a rejection with its reason and a text for people.
    ///
    /// # Errors
    /// If the text cannot be encoded.
    pub fn error(failure: PkiFailureInfo, text: &str) -> Result<Self, CmpError> {
        let content = ErrorMsgContent {
            status: PkiStatusInfo::rejection(failure, text),
            error_code: None,
            error_details: None,
        };
        Self::new(BodyKind::Error, &content)
    }

    /// The content of error.
    ///
    /// # Errors
    /// If the body is of another kind or malformed.
    pub fn error_content(&self) -> Result<ErrorMsgContent, CmpError> {
        self.content_as(BodyKind::Error)
    }

    /// A pollRep body: ask again after some seconds.
    ///
    /// # Errors
    /// If the text cannot be encoded.
    pub fn poll_rep(cert_req_id: i64, check_after_secs: i64, text: &str) -> Result<Self, CmpError> {
        let entry = PollRepEntry {
            cert_req_id,
            check_after_secs,
            reason: free_text(text),
        };
        Self::new(BodyKind::PollRep, &List::<_, MAX_ENTRIES>::one(entry))
    }

    /// Decodes the content as what the kind says.
    ///
    /// # Errors
    /// If the content is not of its kind.
    pub fn decode(&self) -> Result<PkiBody, CmpError> {
        let c = &self.content;
        Ok(match self.kind {
            BodyKind::Ir => PkiBody::Ir(c.decode_as()?),
            BodyKind::Cr => PkiBody::Cr(c.decode_as()?),
            BodyKind::Kur => PkiBody::Kur(c.decode_as()?),
            BodyKind::Ip => PkiBody::Ip(c.decode_as()?),
            BodyKind::Cp => PkiBody::Cp(c.decode_as()?),
            BodyKind::Kup => PkiBody::Kup(c.decode_as()?),
            BodyKind::P10cr => PkiBody::P10cr(c.clone()),
            BodyKind::Rr => PkiBody::Rr(c.decode_as()?),
            BodyKind::Rp => PkiBody::Rp(c.decode_as()?),
            BodyKind::PkiConf => {
                self.expect_pki_conf()?;
                PkiBody::PkiConf
            }
            BodyKind::Genm => PkiBody::Genm(c.decode_as()?),
            BodyKind::Genp => PkiBody::Genp(c.decode_as()?),
            BodyKind::Error => PkiBody::Error(c.decode_as()?),
            BodyKind::CertConf => PkiBody::CertConf(c.decode_as()?),
            BodyKind::PollReq => PkiBody::PollReq(c.decode_as()?),
            BodyKind::PollRep => PkiBody::PollRep(c.decode_as()?),
            BodyKind::PopDecc
            | BodyKind::PopDecr
            | BodyKind::Krr
            | BodyKind::Krp
            | BodyKind::Ccr
            | BodyKind::Ccp
            | BodyKind::CkuAnn
            | BodyKind::CAnn
            | BodyKind::RAnn
            | BodyKind::CrlAnn
            | BodyKind::Nested => PkiBody::Other(self.clone()),
        })
    }
}

impl Tagged for RawBody {
    fn tag(&self) -> Tag {
        self.tagged().tag()
    }
}

impl EncodeValue for RawBody {
    fn value_len(&self) -> der::Result<Length> {
        self.tagged().value_len()
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        self.tagged().encode_value(writer)
    }
}

/// A decoded body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PkiBody {
    /// Initialization request.
    Ir(List<CertReqMsg, MAX_ENTRIES>),
    /// Initialization response.
    Ip(CertRepMessage),
    /// Certification request.
    Cr(List<CertReqMsg, MAX_ENTRIES>),
    /// Certification response.
    Cp(CertRepMessage),
    /// PKCS#10 request, as received.
    P10cr(RawDer),
    /// Key update request.
    Kur(List<CertReqMsg, MAX_ENTRIES>),
    /// Key update response.
    Kup(CertRepMessage),
    /// Revocation request.
    Rr(List<RevDetails, MAX_ENTRIES>),
    /// Revocation response.
    Rp(RevRepContent),
    /// Confirmation.
    PkiConf,
    /// General message.
    Genm(List<InfoTypeAndValue, MAX_INFO_VALUES>),
    /// General response.
    Genp(List<InfoTypeAndValue, MAX_INFO_VALUES>),
    /// Error.
    Error(ErrorMsgContent),
    /// Certificate confirmation.
    CertConf(List<CertStatus, MAX_ENTRIES>),
    /// Polling request.
    PollReq(List<PollReqEntry, MAX_ENTRIES>),
    /// Polling response.
    PollRep(List<PollRepEntry, MAX_ENTRIES>),
    /// A kind whose content is left uninterpreted.
    Other(RawBody),
}

impl PkiBody {
    /// Encodes the body.
    ///
    /// # Errors
    /// If a part cannot be encoded.
    pub fn to_raw(&self) -> Result<RawBody, CmpError> {
        match self {
            Self::Ir(c) => RawBody::new(BodyKind::Ir, c),
            Self::Ip(c) => RawBody::new(BodyKind::Ip, c),
            Self::Cr(c) => RawBody::new(BodyKind::Cr, c),
            Self::Cp(c) => RawBody::new(BodyKind::Cp, c),
            Self::P10cr(c) => Ok(RawBody {
                kind: BodyKind::P10cr,
                content: c.clone(),
            }),
            Self::Kur(c) => RawBody::new(BodyKind::Kur, c),
            Self::Kup(c) => RawBody::new(BodyKind::Kup, c),
            Self::Rr(c) => RawBody::new(BodyKind::Rr, c),
            Self::Rp(c) => RawBody::new(BodyKind::Rp, c),
            Self::PkiConf => RawBody::pki_conf(),
            Self::Genm(c) => RawBody::new(BodyKind::Genm, c),
            Self::Genp(c) => RawBody::new(BodyKind::Genp, c),
            Self::Error(c) => RawBody::new(BodyKind::Error, c),
            Self::CertConf(c) => RawBody::new(BodyKind::CertConf, c),
            Self::PollReq(c) => RawBody::new(BodyKind::PollReq, c),
            Self::PollRep(c) => RawBody::new(BodyKind::PollRep, c),
            Self::Other(raw) => Ok(raw.clone()),
        }
    }
}

/// CertRepMessage: content of ip, cp and kup.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct CertRepMessage {
    /// CA certificates the sender offers as trusted; never trusted for being here.
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    pub ca_pubs: Option<List<RawDer, MAX_EXTRA_CERTS>>,
    /// One response for each request.
    pub response: List<CertResponse, MAX_ENTRIES>,
}

/// CertResponse.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct CertResponse {
    /// Which request this answers; -1 for p10cr.
    pub cert_req_id: i64,
    /// How it fared.
    pub status: PkiStatusInfo,
    /// The certificate, if granted.
    pub certified_key_pair: Option<CertifiedKeyPair>,
    /// Information on registration.
    pub rsp_info: Option<OctetString>,
}

impl CertResponse {
    /// DER of the certificate, if one is there and not encrypted.
    pub fn certificate(&self) -> Option<&[u8]> {
        match &self.certified_key_pair.as_ref()?.cert_or_enc_cert {
            CertOrEncCert::Certificate(der) => Some(der.as_bytes()),
            CertOrEncCert::EncryptedCert(_) => None,
        }
    }
}

/// CertifiedKeyPair.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct CertifiedKeyPair {
    /// The certificate.
    pub cert_or_enc_cert: CertOrEncCert,
    /// A key made by the CA; never used by Tegata, uninterpreted.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub private_key: Option<RawDer>,
    /// Where it was published; uninterpreted.
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    pub publication_info: Option<RawDer>,
}

/// CertOrEncCert.
#[derive(Debug, Clone, PartialEq, Eq, Choice)]
pub enum CertOrEncCert {
    /// A certificate.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", constructed = "true")]
    Certificate(RawDer),
    /// An encrypted certificate; uninterpreted.
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", constructed = "true")]
    EncryptedCert(RawDer),
}

/// CertStatus: one entry of certConf.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct CertStatus {
    /// Hash of the certificate.
    pub cert_hash: OctetString,
    /// Which request the certificate answered.
    pub cert_req_id: i64,
    /// Accepted if absent.
    pub status_info: Option<PkiStatusInfo>,
    /// Hash algorithm, if the certificate's signature algorithm does not name it.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub hash_alg: Option<spki::AlgorithmIdentifierOwned>,
}

impl CertStatus {
    /// Whether the certificate is accepted. Spec: RFC 9810 section 5.3.18.
    pub fn is_accepted(&self) -> bool {
        self.status_info
            .as_ref()
            .is_none_or(|s| s.status == PkiStatus::Accepted)
    }
}

/// RevDetails: one entry of rr.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct RevDetails {
    /// Which certificate: issuer and serial number at least.
    pub cert_details: CertTemplate,
    /// Reason and date.
    pub crl_entry_details: Option<List<Extension, MAX_EXTENSIONS>>,
}

/// CertId.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct CertId {
    /// Issuer.
    pub issuer: GeneralName,
    /// Serial number.
    pub serial_number: Int,
}

impl CertId {
    /// The certificate of this issuer (DER of its name) and serial number (big-endian, as in the
    /// certificate).
    ///
    /// # Errors
    /// If the name is not one.
    pub fn new(issuer_der: &[u8], serial: &[u8]) -> Result<Self, CmpError> {
        Ok(Self {
            issuer: GeneralName::DirectoryName(Decode::from_der(issuer_der)?),
            serial_number: Int::new(serial)?,
        })
    }

    /// What a certification request says that it is in place of, if it does.
    ///
    /// # Errors
    /// If the attribute has another value, or more than one.
    pub fn of_request(csr: &AllegedCsr) -> Result<Option<Self>, CmpError> {
        let mut attributes = csr.attributes.iter();
        let Some(named) = attributes.find(|a| a.oid == oid::REG_CTRL_OLD_CERT_ID) else {
            return Ok(None);
        };
        let values = Element::only(&named.values)?.expect(Tag::Set)?;
        // A second value is refused as trailing data.
        Ok(Some(Self::from_der(values)?))
    }

    /// DER of the issuer's name, if it is a directory name.
    pub fn issuer_der(&self) -> Option<Vec<u8>> {
        match &self.issuer {
            GeneralName::DirectoryName(name) => name.to_der().ok(),
            _ => None,
        }
    }

    /// Serial number, big-endian, as in the certificate.
    pub fn serial(&self) -> &[u8] {
        self.serial_number.as_bytes()
    }
}

/// RevRepContent: content of rp.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct RevRepContent {
    /// One status for each request.
    pub status: List<PkiStatusInfo, MAX_ENTRIES>,
    /// Which certificates.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub rev_certs: Option<List<CertId, MAX_ENTRIES>>,
    /// The resulting CRLs.
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    pub crls: Option<List<RawDer, MAX_ENTRIES>>,
}

/// ErrorMsgContent.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct ErrorMsgContent {
    /// Always a rejection.
    pub status: PkiStatusInfo,
    /// A code of the sender's implementation.
    pub error_code: Option<i64>,
    /// Texts of the sender's implementation.
    pub error_details: Option<FreeText>,
}

/// One entry of pollReq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Sequence)]
pub struct PollReqEntry {
    /// Which request.
    pub cert_req_id: i64,
}

/// One entry of pollRep.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct PollRepEntry {
    /// Which request.
    pub cert_req_id: i64,
    /// When to ask again, in seconds.
    pub check_after_secs: i64,
    /// Texts for people.
    pub reason: Option<FreeText>,
}
