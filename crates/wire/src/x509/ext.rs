//! Extensions: the ones we write, and a set that holds each at most once.

use super::{
    MAX_EXTENSIONS, SanEntry, X509Error, at_most, oid, san_extension,
    walk::{Flaw, put, put_oid, put_sequence},
};
use alloc::{string::String, vec::Vec};
use der::{
    Encode, Tag,
    asn1::{Ia5String, ObjectIdentifier, OctetString},
    flagset::FlagSet,
};
use x509_cert::ext::pkix::{
    self, AccessDescription, AuthorityInfoAccessSyntax, AuthorityKeyIdentifier,
    CertificatePolicies, CrlDistributionPoints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier,
    certpolicy::PolicyInformation,
    crl::dp::DistributionPoint,
    name::{DistributionPointName, GeneralName},
};

pub use x509_cert::ext::pkix::KeyUsages;

/// keyUsage bits as numbers: bit 0 of the standard is bit 0 of the number.
///
/// Spec: RFC 5280 section 4.2.1.3.
pub mod usage {
    /// Signatures other than on certificates and CRLs.
    pub const DIGITAL_SIGNATURE: u16 = 1 << 0;
    /// Non-repudiation (contentCommitment).
    pub const NON_REPUDIATION: u16 = 1 << 1;
    /// Encrypting keys.
    pub const KEY_ENCIPHERMENT: u16 = 1 << 2;
    /// Encrypting data.
    pub const DATA_ENCIPHERMENT: u16 = 1 << 3;
    /// Agreeing on keys.
    pub const KEY_AGREEMENT: u16 = 1 << 4;
    /// Signatures on certificates.
    pub const KEY_CERT_SIGN: u16 = 1 << 5;
    /// Signatures on CRLs.
    pub const CRL_SIGN: u16 = 1 << 6;
    /// With keyAgreement: only to encipher.
    pub const ENCIPHER_ONLY: u16 = 1 << 7;
    /// With keyAgreement: only to decipher.
    pub const DECIPHER_ONLY: u16 = 1 << 8;
    /// Every bit there is.
    pub const ALL: u16 = 0x01ff;
}

/// One extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Its type.
    pub oid: ObjectIdentifier,
    /// Whether who does not know it must refuse the certificate.
    pub critical: bool,
    /// DER of its value.
    pub value: Vec<u8>,
}

impl Extension {
    /// The extension as `x509-cert` has it.
    pub(crate) fn to_x509(&self) -> der::Result<x509_cert::ext::Extension> {
        Ok(x509_cert::ext::Extension {
            extn_id: self.oid,
            critical: self.critical,
            extn_value: OctetString::new(self.value.as_slice())?,
        })
    }

    /// Appends the extension.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), Flaw> {
        let mut contents = Vec::new();
        put_oid(&mut contents, &self.oid)?;
        // FALSE is the default, which DER leaves out.
        if self.critical {
            put(&mut contents, Tag::Boolean, &[0xff])?;
        }
        put(&mut contents, Tag::OctetString, &self.value)?;
        put_sequence(out, &contents)
    }

    /// The extension from what `x509-cert` decoded.
    pub(crate) fn from_x509(ext: x509_cert::ext::Extension) -> Self {
        Self {
            oid: ext.extn_id,
            critical: ext.critical,
            value: ext.extn_value.into_bytes().into_vec(),
        }
    }
}

/// Extensions in order, each type at most once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtensionSet {
    /// The extensions.
    items: Vec<Extension>,
}

impl ExtensionSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The extensions in order.
    pub fn as_slice(&self) -> &[Extension] {
        &self.items
    }

    /// The extensions in order.
    pub fn into_vec(self) -> Vec<Extension> {
        self.items
    }

    /// The extension of a type.
    pub fn find(&self, oid: &ObjectIdentifier) -> Option<&Extension> {
        self.items.iter().find(|e| e.oid == *oid)
    }

    /// Adds an extension.
    ///
    /// # Errors
    /// If one of that type is there already, or the set is full.
    pub fn push(&mut self, extension: Extension) -> Result<(), X509Error> {
        if self.find(&extension.oid).is_some() {
            return Err(X509Error::Duplicate { oid: extension.oid });
        }
        at_most("extensions", self.items.len() + 1, MAX_EXTENSIONS)?;
        self.items.push(extension);
        Ok(())
    }

    /// Adds basicConstraints, critical.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn basic_constraints(&mut self, ca: bool, path_len: Option<u8>) -> Result<(), X509Error> {
        let path_len_constraint = if ca { path_len } else { None };
        let value = pkix::BasicConstraints {
            ca,
            path_len_constraint,
        }
        .to_der()?;
        self.push(Extension {
            oid: oid::BASIC_CONSTRAINTS,
            critical: true,
            value,
        })
    }

    /// Adds keyUsage, critical.
    ///
    /// # Errors
    /// If `usages` is empty, or as [`Self::push`].
    pub fn key_usage(&mut self, usages: FlagSet<KeyUsages>) -> Result<(), X509Error> {
        if usages.is_empty() {
            return Err(X509Error::Empty { what: "keyUsage" });
        }
        let value = KeyUsage(usages).to_der()?;
        self.push(Extension {
            oid: oid::KEY_USAGE,
            critical: true,
            value,
        })
    }

    /// Adds keyUsage from bits of [`usage`], critical.
    ///
    /// # Errors
    /// If `bits` is 0 or has a bit outside [`usage::ALL`], or as [`Self::push`].
    pub fn key_usage_bits(&mut self, bits: u16) -> Result<(), X509Error> {
        let usages = FlagSet::new(bits).map_err(|_| X509Error::Text { what: "keyUsage" })?;
        self.key_usage(usages)
    }

    /// Adds extKeyUsage, not critical; nothing if `purposes` is empty.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn ext_key_usage(&mut self, purposes: &[ObjectIdentifier]) -> Result<(), X509Error> {
        if purposes.is_empty() {
            return Ok(());
        }
        let value = ExtendedKeyUsage(purposes.to_vec()).to_der()?;
        self.push(Extension {
            oid: oid::EXT_KEY_USAGE,
            critical: false,
            value,
        })
    }

    /// Adds subjectKeyIdentifier.
    ///
    /// `key_id` is the leftmost 160 bits of the SHA-256 of the key's BIT STRING contents
    /// (RFC 7093 section 2, method 1).
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn subject_key_id(&mut self, key_id: &[u8; 20]) -> Result<(), X509Error> {
        let value = SubjectKeyIdentifier(OctetString::new(key_id.as_slice())?).to_der()?;
        self.push(Extension {
            oid: oid::SUBJECT_KEY_IDENTIFIER,
            critical: false,
            value,
        })
    }

    /// Adds authorityKeyIdentifier with the issuer's subjectKeyIdentifier.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn authority_key_id(&mut self, key_id: &[u8]) -> Result<(), X509Error> {
        let value = AuthorityKeyIdentifier {
            key_identifier: Some(OctetString::new(key_id)?),
            ..Default::default()
        }
        .to_der()?;
        self.push(Extension {
            oid: oid::AUTHORITY_KEY_IDENTIFIER,
            critical: false,
            value,
        })
    }

    /// Adds subjectAltName, critical if the subject is empty; nothing if `entries` is empty.
    ///
    /// # Errors
    /// As [`san_extension`] and [`Self::push`].
    pub fn subject_alt_name(
        &mut self,
        entries: &[SanEntry],
        subject_empty: bool,
    ) -> Result<(), X509Error> {
        if entries.is_empty() {
            return Ok(());
        }
        self.push(san_extension(entries, subject_empty)?)
    }

    /// Adds certificatePolicies without qualifiers; nothing if `policies` is empty.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn certificate_policies(&mut self, policies: &[ObjectIdentifier]) -> Result<(), X509Error> {
        if policies.is_empty() {
            return Ok(());
        }
        let list = policies
            .iter()
            .map(|p| PolicyInformation {
                policy_identifier: *p,
                policy_qualifiers: None,
            })
            .collect();
        let value = CertificatePolicies(list).to_der()?;
        self.push(Extension {
            oid: oid::CERTIFICATE_POLICIES,
            critical: false,
            value,
        })
    }

    /// Adds cRLDistributionPoints with one point per URI; nothing if `uris` is empty.
    ///
    /// # Errors
    /// If a URI is not ASCII, or as [`Self::push`].
    pub fn crl_distribution_points(&mut self, uris: &[String]) -> Result<(), X509Error> {
        if uris.is_empty() {
            return Ok(());
        }
        let value = CrlDistributionPoints(points(uris)?).to_der()?;
        self.push(Extension {
            oid: oid::CRL_DISTRIBUTION_POINTS,
            critical: false,
            value,
        })
    }

    /// Adds authorityInfoAccess; nothing if both lists are empty.
    ///
    /// # Errors
    /// If a URI is not ASCII, or as [`Self::push`].
    pub fn authority_info_access(
        &mut self,
        ocsp: &[String],
        ca_issuers: &[String],
    ) -> Result<(), X509Error> {
        if ocsp.is_empty() && ca_issuers.is_empty() {
            return Ok(());
        }
        let describe = |method: ObjectIdentifier, uri: &String| {
            Ok(AccessDescription {
                access_method: method,
                access_location: uri_name(uri)?,
            })
        };
        let list = ocsp
            .iter()
            .map(|uri| describe(oid::AD_OCSP, uri))
            .chain(
                ca_issuers
                    .iter()
                    .map(|uri| describe(oid::AD_CA_ISSUERS, uri)),
            )
            .collect::<Result<Vec<_>, X509Error>>()?;
        let value = AuthorityInfoAccessSyntax(list).to_der()?;
        self.push(Extension {
            oid: oid::AUTHORITY_INFO_ACCESS,
            critical: false,
            value,
        })
    }
}

/// One distribution point for each URI.
pub(super) fn points(uris: &[String]) -> Result<Vec<DistributionPoint>, X509Error> {
    let point = |uri: &String| {
        Ok(DistributionPoint {
            distribution_point: Some(DistributionPointName::FullName(alloc::vec![uri_name(uri)?])),
            reasons: None,
            crl_issuer: None,
        })
    };
    uris.iter().map(point).collect()
}

/// A URI as a GeneralName.
pub(super) fn uri_name(uri: &str) -> Result<GeneralName, X509Error> {
    if uri.is_empty() || !uri.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(X509Error::Text { what: "URI" });
    }
    Ok(GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?))
}
