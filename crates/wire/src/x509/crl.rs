//! Building certificate revocation lists: the bytes to sign, and the signature put on them.
//!
//! Spec: RFC 5280 section 5.

use super::{
    DistinguishedName, Extension, SerialNumber, SignatureAlg, X509Error, at_most,
    cert::time,
    csr::assemble,
    ext::{points, uri_name},
    oid,
};
use alloc::{string::String, vec::Vec};
use der::{
    Decode, Encode, Sequence,
    asn1::{AnyRef, OctetString, Uint},
};
use x509_cert::{
    crl::RevokedCert,
    ext::pkix::{
        AuthorityKeyIdentifier, CrlDistributionPoints, CrlReason, IssuingDistributionPoint,
        name::DistributionPointName,
    },
    time::Time,
};

/// Most entries in one list: 10 MiB, which a relying party may still hold. Shards stay far below.
pub const MAX_CRL_ENTRIES: usize = 262_144;

/// Why a certificate is listed.
///
/// Spec: RFC 5280 section 5.3.1. Reasons of CA and attribute certificates are absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationReason {
    /// No reason is told.
    Unspecified,
    /// The key is known, or suspected to be known, to others.
    KeyCompromise,
    /// Names in the certificate are no longer right.
    AffiliationChanged,
    /// Another certificate took its place.
    Superseded,
    /// The certificate is no longer needed.
    CessationOfOperation,
    /// On hold: the one reason that can be lifted.
    CertificateHold,
    /// In a delta list alone: the hold was lifted.
    RemoveFromCrl,
    /// A privilege that the certificate tells of was withdrawn.
    PrivilegeWithdrawn,
}

impl RevocationReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
        Self::RemoveFromCrl,
        Self::PrivilegeWithdrawn,
    ];

    /// Its number in the standard.
    pub const fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::CertificateHold => 6,
            Self::RemoveFromCrl => 8,
            Self::PrivilegeWithdrawn => 9,
        }
    }

    /// The reason of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// Its name in the standard.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::RemoveFromCrl => "removeFromCRL",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
        }
    }

    /// The reason as `x509-cert` has it.
    pub(crate) const fn to_x509(self) -> CrlReason {
        match self {
            Self::Unspecified => CrlReason::Unspecified,
            Self::KeyCompromise => CrlReason::KeyCompromise,
            Self::AffiliationChanged => CrlReason::AffiliationChanged,
            Self::Superseded => CrlReason::Superseded,
            Self::CessationOfOperation => CrlReason::CessationOfOperation,
            Self::CertificateHold => CrlReason::CertificateHold,
            Self::RemoveFromCrl => CrlReason::RemoveFromCRL,
            Self::PrivilegeWithdrawn => CrlReason::PrivilegeWithdrawn,
        }
    }
}

/// One certificate in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlEntry {
    /// Its serial number.
    pub serial: SerialNumber,
    /// Since when it is not to be trusted, seconds since 1970.
    pub at_secs: u64,
    /// Why.
    pub reason: RevocationReason,
}

/// What kind of list it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlKind<'a> {
    /// Every certificate of the scope that is revoked; URLs of its delta lists.
    Complete {
        /// Where lists of what changed since are found.
        freshest_urls: &'a [String],
    },
    /// What changed since the complete list of this number.
    Delta {
        /// Number of that list.
        base: u128,
    },
}

/// TBSCertList, version 2.
#[derive(Sequence)]
struct TbsCertListSeq<'a> {
    /// v2 (1).
    version: u8,
    /// Algorithm of the signature to come.
    signature: spki::AlgorithmIdentifierOwned,
    /// Issuer name.
    issuer: AnyRef<'a>,
    /// thisUpdate.
    this_update: Time,
    /// nextUpdate.
    next_update: Time,
    /// revokedCertificates; absent rather than empty.
    revoked: Option<Vec<RevokedCert>>,
    /// crlExtensions.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    extensions: Vec<x509_cert::ext::Extension>,
}

/// Everything a list says.
#[derive(Debug, Clone)]
pub struct CrlBuilder<'a> {
    /// Algorithm of the issuer's key.
    pub signature_alg: SignatureAlg,
    /// The issuer's subject, byte for byte.
    pub issuer: &'a DistinguishedName,
    /// The issuer's subjectKeyIdentifier.
    pub issuer_key_id: &'a [u8],
    /// When it was made, seconds since 1970.
    pub this_update_secs: u64,
    /// When the next one will be there at the latest, seconds since 1970.
    pub next_update_secs: u64,
    /// Number of the list: above that of every earlier one of this scope.
    pub number: u128,
    /// Where lists of this scope are found; empty for a list of all certificates of the issuer.
    pub scope_urls: &'a [String],
    /// Complete or delta.
    pub kind: CrlKind<'a>,
    /// Its entries.
    pub entries: &'a [CrlEntry],
}

impl CrlBuilder<'_> {
    /// The bytes to sign: DER of TBSCertList.
    ///
    /// # Errors
    /// If the issuer is empty, nextUpdate is not after thisUpdate, a URL is not ASCII, or there are
    /// more than [`MAX_CRL_ENTRIES`].
    ///
    /// Spec: RFC 5280 sections 5.1.2 and 5.2.
    pub fn to_tbs(&self) -> Result<Vec<u8>, X509Error> {
        if self.issuer.is_empty() {
            return Err(X509Error::Empty { what: "issuer" });
        }
        if self.next_update_secs <= self.this_update_secs {
            return Err(X509Error::Validity);
        }
        at_most("CRL entries", self.entries.len(), MAX_CRL_ENTRIES)?;
        let entries = self.entries.iter().map(revoked);
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let extensions = self.extensions()?;
        let tbs = TbsCertListSeq {
            version: 1,
            signature: self.signature_alg.identifier(),
            issuer: AnyRef::from_der(self.issuer.as_der())?,
            this_update: time(self.this_update_secs)?,
            next_update: time(self.next_update_secs)?,
            revoked: (!entries.is_empty()).then_some(entries),
            extensions: extensions
                .iter()
                .map(Extension::to_x509)
                .collect::<Result<Vec<_>, _>>()?,
        };
        Ok(tbs.to_der()?)
    }

    /// crlExtensions in order.
    fn extensions(&self) -> Result<Vec<Extension>, X509Error> {
        let plain = |oid, value| Extension {
            oid,
            critical: false,
            value,
        };
        let authority = AuthorityKeyIdentifier {
            key_identifier: Some(OctetString::new(self.issuer_key_id)?),
            ..Default::default()
        };
        let mut out = alloc::vec![
            plain(oid::AUTHORITY_KEY_IDENTIFIER, authority.to_der()?),
            plain(oid::CRL_NUMBER, number(self.number)?),
        ];
        if !self.scope_urls.is_empty() {
            let names = self.scope_urls.iter().map(|url| uri_name(url));
            let scope =
                IssuingDistributionPoint {
                    distribution_point: Some(DistributionPointName::FullName(
                        names.collect::<Result<Vec<_>, _>>()?,
                    )),
                    only_contains_user_certs: false,
                    only_contains_ca_certs: false,
                    only_some_reasons: None,
                    indirect_crl: false,
                    only_contains_attribute_certs: false,
                };
            out.push(Extension {
                critical: true,
                ..plain(oid::ISSUING_DISTRIBUTION_POINT, scope.to_der()?)
            });
        }
        match self.kind {
            CrlKind::Complete { freshest_urls: [] } => {}
            CrlKind::Complete { freshest_urls } => {
                let freshest = CrlDistributionPoints(points(freshest_urls)?);
                out.push(plain(oid::FRESHEST_CRL, freshest.to_der()?));
            }
            CrlKind::Delta { base } => out.push(Extension {
                critical: true,
                ..plain(oid::DELTA_CRL_INDICATOR, number(base)?)
            }),
        }
        Ok(out)
    }
}

/// DER of a list's number.
fn number(number: u128) -> Result<Vec<u8>, X509Error> {
    Ok(Uint::new(&number.to_be_bytes())?.to_der()?)
}

/// One entry on the wire. Spec: RFC 5280 section 5.3.1: unspecified is said by saying nothing.
fn revoked(entry: &CrlEntry) -> Result<RevokedCert, X509Error> {
    let extensions = match entry.reason {
        RevocationReason::Unspecified => None,
        reason => Some(alloc::vec![x509_cert::ext::Extension {
            extn_id: oid::CRL_REASON,
            critical: false,
            extn_value: OctetString::new(reason.to_x509().to_der()?)?,
        }]),
    };
    Ok(RevokedCert {
        serial_number: x509_cert::serial_number::SerialNumber::new(entry.serial.as_bytes())?,
        revocation_date: time(entry.at_secs)?,
        crl_entry_extensions: extensions,
    })
}

/// Puts a raw signature on the bytes of [`CrlBuilder::to_tbs`].
///
/// # Errors
/// If the signature has the wrong length for `alg`, or `tbs` is not DER.
pub fn assemble_crl(
    tbs: &[u8],
    alg: SignatureAlg,
    raw_signature: &[u8],
) -> Result<Vec<u8>, X509Error> {
    assemble(tbs, alg, raw_signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::{AttributeSpec, NameBuilder};
    use x509_cert::crl::CertificateList;

    #[test]
    fn a_delta_says_of_what_and_since_when() {
        let spec = AttributeSpec::by_name("CN").unwrap();
        let issuer = NameBuilder::new().push(spec, "CA").unwrap();
        let issuer = issuer.build().unwrap();
        let urls = [String::from("http://ca.example/crl/3.crl")];
        let entry = |n: u8, reason| CrlEntry {
            serial: SerialNumber::from_bytes(&[n]).unwrap(),
            at_secs: 1_795_000_000,
            reason,
        };
        let entries = [
            entry(1, RevocationReason::RemoveFromCrl),
            entry(2, RevocationReason::Unspecified),
        ];
        let builder = CrlBuilder {
            signature_alg: SignatureAlg::Ed25519,
            issuer: &issuer,
            issuer_key_id: &[7; 20],
            this_update_secs: 1_795_000_000,
            next_update_secs: 1_795_003_600,
            number: 0x80_0000_0000,
            scope_urls: &urls,
            kind: CrlKind::Delta { base: 5 },
            entries: &entries,
        };
        let der = assemble_crl(&builder.to_tbs().unwrap(), SignatureAlg::Ed25519, &[1; 64]);
        let der = der.unwrap();
        let list: CertificateList = CertificateList::from_der(&der).unwrap();
        assert_eq!(list.to_der().unwrap(), der);
        let revoked = list.tbs_cert_list.revoked_certificates.unwrap();
        assert_eq!(revoked.len(), 2);
        assert!(revoked[0].crl_entry_extensions.is_some());
        assert!(revoked[1].crl_entry_extensions.is_none());
        let extensions = list.tbs_cert_list.crl_extensions.unwrap();
        let critical = |oid| {
            extensions
                .iter()
                .find(|e| e.extn_id == oid)
                .unwrap()
                .critical
        };
        assert!(critical(oid::ISSUING_DISTRIBUTION_POINT));
        assert!(critical(oid::DELTA_CRL_INDICATOR));
        assert!(!critical(oid::CRL_NUMBER));
        let none = CrlBuilder {
            entries: &[],
            next_update_secs: 1_795_000_000,
            ..builder.clone()
        };
        assert_eq!(none.to_tbs(), Err(X509Error::Validity));
        let none = CrlBuilder {
            next_update_secs: 1_795_000_001,
            ..none
        };
        let der = assemble_crl(&none.to_tbs().unwrap(), SignatureAlg::Ed25519, &[1; 64]);
        let list: CertificateList = CertificateList::from_der(&der.unwrap()).unwrap();
        assert_eq!(list.tbs_cert_list.revoked_certificates, None);
    }
}
