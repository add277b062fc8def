//! The bodies of answers to ir, cr, kur and rr.
//!
//! Spec: RFC 9810 sections 5.3.2 to 5.3.10, 5.3.22.

use super::{
    BodyKind, CertId, CertOrEncCert, CertRepMessage, CertResponse, CertifiedKeyPair, CmpError,
    PkiStatus, PkiStatusInfo, RawBody, RevRepContent, status::free_text,
};
use crate::x509::{List, RawDer};
use alloc::vec::Vec;

impl BodyKind {
    /// The kind of the answer to a request for a certificate or its revocation; `None` for others.
    pub fn answer(self) -> Option<Self> {
        match self {
            Self::Ir => Some(Self::Ip),
            Self::Cr | Self::P10cr => Some(Self::Cp),
            Self::Kur => Some(Self::Kup),
            Self::Rr => Some(Self::Rp),
            _ => None,
        }
    }
}

impl RawBody {
    /// An ip, cp or kup that grants a certificate; `ca_pubs` are CA certificates (DER) that the
    /// asker may trust because of this message's protection.
    ///
    /// # Errors
    /// If `kind` is another, or a certificate is not one whole element.
    pub fn granted(
        kind: BodyKind,
        cert_req_id: i64,
        cert_der: &[u8],
        ca_pubs: &[&[u8]],
    ) -> Result<Self, CmpError> {
        let certificate = CertOrEncCert::Certificate(RawDer::from_bytes(cert_der)?);
        let pubs = ca_pubs
            .iter()
            .map(|der| RawDer::from_bytes(der))
            .collect::<Result<Vec<_>, _>>()?;
        let message = CertRepMessage {
            ca_pubs: (!pubs.is_empty()).then(|| List::new(pubs)).transpose()?,
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
        Self::cert_rep_of(kind, &message)
    }

    /// An ip, cp or kup without a certificate: rejected, or to be polled for.
    ///
    /// # Errors
    /// If `kind` is another, or the text cannot be encoded.
    pub fn not_granted(
        kind: BodyKind,
        cert_req_id: i64,
        status: PkiStatusInfo,
    ) -> Result<Self, CmpError> {
        let message = CertRepMessage {
            ca_pubs: None,
            response: List::one(CertResponse {
                cert_req_id,
                status,
                certified_key_pair: None,
                rsp_info: None,
            }),
        };
        Self::cert_rep_of(kind, &message)
    }

    fn cert_rep_of(kind: BodyKind, message: &CertRepMessage) -> Result<Self, CmpError> {
        match kind {
            BodyKind::Ip | BodyKind::Cp | BodyKind::Kup => Self::new(kind, message),
            got => Err(CmpError::BodyKind {
                expected: BodyKind::Cp,
                got,
            }),
        }
    }

    /// An rp for one request.
    ///
    /// # Errors
    /// If a part cannot be encoded.
    pub fn rev_rep(status: PkiStatusInfo, certificate: Option<CertId>) -> Result<Self, CmpError> {
        let content = RevRepContent {
            status: List::one(status),
            rev_certs: certificate.map(List::one),
            crls: None,
        };
        Self::new(BodyKind::Rp, &content)
    }
}

impl PkiStatusInfo {
    /// Not decided yet: the asker polls. Spec: RFC 9483 section 4.4.
    pub fn waiting(text: &str) -> Self {
        Self {
            status: PkiStatus::Waiting,
            status_string: free_text(text),
            fail_info: None,
        }
    }

    /// Whether the asker is to poll.
    pub fn is_waiting(&self) -> bool {
        self.status == PkiStatus::Waiting
    }
}
