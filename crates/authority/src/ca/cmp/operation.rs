//! What a CMP path is for.
//!
//! Spec: RFC 9483 section 6.1, RFC 9811 section 3.4.

use tegata_wire::cmp::{BodyKind, oid};

use super::denial::CmpDenial;
use super::request::RequestBody;

/// The last part of a path that says what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // The labels are those of the standard.
pub enum Operation {
    Initialization,
    Certification,
    KeyUpdate,
    Pkcs10,
    Revocation,
    GetCaCerts,
    GetRootUpdate,
    GetCertReqTemplate,
    GetCrls,
}

impl Operation {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Initialization,
        Self::Certification,
        Self::KeyUpdate,
        Self::Pkcs10,
        Self::Revocation,
        Self::GetCaCerts,
        Self::GetRootUpdate,
        Self::GetCertReqTemplate,
        Self::GetCrls,
    ];

    /// Its label in paths.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Initialization => "initialization",
            Self::Certification => "certification",
            Self::KeyUpdate => "keyupdate",
            Self::Pkcs10 => "pkcs10",
            Self::Revocation => "revocation",
            Self::GetCaCerts => "getcacerts",
            Self::GetRootUpdate => "getrootupdate",
            Self::GetCertReqTemplate => "getcertreqtemplate",
            Self::GetCrls => "getcrls",
        }
    }

    /// Refuses a request of another kind. What follows in a transaction (certConf, pollReq, error)
    /// goes to the path of its first message.
    ///
    /// # Errors
    /// `Path`.
    pub fn check(self, body: &RequestBody) -> Result<(), CmpDenial> {
        let asks = |items: &[tegata_wire::cmp::InfoTypeAndValue], wanted: &[_]| {
            items.iter().all(|item| wanted.contains(&item.info_type))
        };
        let (fits, got) = match (self, body) {
            (_, RequestBody::CertConf(_)) => (true, BodyKind::CertConf),
            (_, RequestBody::PollReq(_)) => (true, BodyKind::PollReq),
            (_, RequestBody::Error { .. }) => (true, BodyKind::Error),
            (_, RequestBody::P10cr(_)) => (self == Self::Pkcs10, BodyKind::P10cr),
            (_, RequestBody::Rr(_)) => (self == Self::Revocation, BodyKind::Rr),
            (_, RequestBody::Crmf(asked)) => {
                let fits = match asked.kind {
                    BodyKind::Ir => self == Self::Initialization,
                    BodyKind::Cr => self == Self::Certification,
                    _ => self == Self::KeyUpdate,
                };
                (fits, asked.kind)
            }
            (_, RequestBody::Genm(items)) => {
                let fits = match self {
                    Self::GetCaCerts => asks(items, &[oid::IT_CA_CERTS]),
                    Self::GetRootUpdate => asks(items, &[oid::IT_ROOT_CA_CERT]),
                    Self::GetCertReqTemplate => asks(items, &[oid::IT_CERT_REQ_TEMPLATE]),
                    Self::GetCrls => asks(items, &[oid::IT_CRL_STATUS_LIST, oid::IT_CURRENT_CRL]),
                    _ => false,
                };
                (fits, BodyKind::Genm)
            }
        };
        if fits {
            Ok(())
        } else {
            Err(CmpDenial::Path {
                expected: self.label(),
                got,
            })
        }
    }
}
