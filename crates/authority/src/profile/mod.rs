//! Certificate profiles: what a certificate of one kind says, from a readable file to a checked value.
//!
//! Purpose: [`Profiles::parse`] turns TOML into [`Profile`]s or into every mistake with line and
//! column. A `Profile` is what the CA enforces on a CSR and what it writes into the procedure that
//! the TA follows, so the two sides cannot disagree. The file format: `docs/spec/profile.md`.
//!
//! Invariants: a `Profile` is complete and consistent (every template's attribute is required
//! identity, lifetimes fit, usages fit the key algorithms). No check is skipped by an absent value.
//!
//! Trusted: who changes a profile decides what certificates say.

mod file;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use const_oid::ObjectIdentifier;
use tegata_crypto::KeyAlg;
use tegata_wire::enrolment::{
    CertificateOrder, ConfirmMode, IdentityAttribute, KeyKind, Procedure, ProtocolProfile,
    SanTemplate, Template,
};
use tegata_wire::x509::AttributeSpec;

pub use template::TemplateMistake;
pub(crate) use template::is_forbidden;

use crate::config::ConfigError;

/// All profiles of a CA, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profiles {
    by_name: BTreeMap<String, Profile>,
}

impl Profiles {
    /// Reads a profile file.
    ///
    /// # Errors
    /// Every mistake in it, each with line, column and what to write.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        file::parse(text).map(|by_name| Self { by_name })
    }

    /// The profile of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Profile> {
        self.by_name.get(name)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.by_name.values()
    }

    /// The longest lifetime of a certificate, seconds; those without an end are not counted.
    #[must_use]
    pub fn longest_secs(&self) -> u64 {
        let lives = self.iter().map(|profile| match profile.validity {
            Validity::Secs(secs) => secs,
            Validity::Indefinite => 0,
        });
        lives.max().unwrap_or(0)
    }
}

/// What a certificate of one kind says, and what the CA asks of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Name: 1 to 64 of `a-z 0-9 -`; also the last part of the CMP path.
    pub name: String,
    /// For people.
    pub description: String,
    /// Key algorithms accepted; the first is the one the TA makes.
    pub key_algs: Vec<KeyAlg>,
    /// Subject attributes in order, one per RDN.
    pub subject: Vec<(SubjectAttribute, Template)>,
    /// Subject alternative names.
    pub san: SubjectAltNames,
    /// Bits of the keyUsage extension.
    pub key_usage: Vec<KeyUsage>,
    /// Purposes of the extendedKeyUsage extension; the extension is absent if empty.
    pub extended_key_usage: Vec<ObjectIdentifier>,
    /// Lifetime.
    pub validity: Validity,
    /// How long before the end a device renews, in seconds.
    pub renewal_window_secs: u64,
    /// How long after the end a device may return with fresh evidence, in seconds.
    pub renewal_grace_secs: u64,
    /// How old that evidence may be, in seconds.
    pub evidence_max_age_secs: u64,
    /// New certificates that one device may have within a day; renewals that are due not counted
    /// against it.
    pub daily_limit: u32,
    /// Identity the device must have; every template variable is among them.
    pub required: Vec<IdentityAttribute>,
    /// Whether a device may ask not to send certConf.
    pub implicit_confirm: bool,
    /// What must prove who asks: one of these.
    pub authentication: Vec<Authentication>,
    /// Whether an operator approves each certificate but those that update one.
    pub approval: bool,
    /// Whether a certificate may be renewed over EST with the key that it has.
    pub reuse_key: bool,
    /// Certificate policies.
    pub policies: Vec<ObjectIdentifier>,
    /// CRL URLs.
    pub crl_urls: Vec<String>,
    /// OCSP responder URLs.
    pub ocsp_urls: Vec<String>,
    /// URLs of the issuing CA's certificate.
    pub ca_issuers_urls: Vec<String>,
}

/// Subject attribute types that a profile may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SubjectAttribute {
    /// Country, two letters.
    Country,
    /// State or province.
    State,
    /// Locality.
    Locality,
    /// Organization.
    Organization,
    /// Organizational unit.
    OrganizationalUnit,
    /// Common name.
    CommonName,
    /// Serial number of the device (not of the certificate).
    SerialNumber,
}

impl SubjectAttribute {
    /// Every one, for tables.
    pub const ALL: [Self; 7] = [
        Self::Country,
        Self::State,
        Self::Locality,
        Self::Organization,
        Self::OrganizationalUnit,
        Self::CommonName,
        Self::SerialNumber,
    ];

    /// The short name that profile files use, as in RFC 4514.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Country => "C",
            Self::State => "ST",
            Self::Locality => "L",
            Self::Organization => "O",
            Self::OrganizationalUnit => "OU",
            Self::CommonName => "CN",
            Self::SerialNumber => "serialNumber",
        }
    }

    /// The attribute of that [`Self::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    /// Longest value in characters. Spec: RFC 5280 appendix A.1, upper bounds.
    #[must_use]
    pub fn chars_max(self) -> usize {
        match self {
            Self::Country => 2,
            Self::State | Self::Locality => 128,
            Self::Organization | Self::OrganizationalUnit | Self::CommonName => 64,
            Self::SerialNumber => 64,
        }
    }
}

/// Subject alternative names of a profile; at least one, or the subject is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubjectAltNames {
    /// otherName HardwareModuleName (RFC 4108 section 5): this hwType, and the serial number.
    pub hardware_module_type: Option<ObjectIdentifier>,
    /// otherName PermanentIdentifier (RFC 4043) with this identifier value.
    pub permanent_identifier: Option<Template>,
    /// dNSName values.
    pub dns: Vec<Template>,
    /// uniformResourceIdentifier values.
    pub uri: Vec<Template>,
}

impl SubjectAltNames {
    /// Whether there is none at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hardware_module_type.is_none()
            && self.permanent_identifier.is_none()
            && self.dns.is_empty()
            && self.uri.is_empty()
    }
}

/// Bits of keyUsage that an end-entity profile may set.
///
/// Spec: RFC 5280 section 4.2.1.3
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum KeyUsage {
    /// Bit 0.
    DigitalSignature,
    /// Bit 1 (also called contentCommitment).
    NonRepudiation,
    /// Bit 4: ECDH; not for Ed25519.
    KeyAgreement,
}

impl KeyUsage {
    /// Every one, for tables.
    pub const ALL: [Self; 3] = [
        Self::DigitalSignature,
        Self::NonRepudiation,
        Self::KeyAgreement,
    ];

    /// Name as in RFC 5280.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DigitalSignature => "digitalSignature",
            Self::NonRepudiation => "nonRepudiation",
            Self::KeyAgreement => "keyAgreement",
        }
    }

    /// Number of its bit in the extension.
    #[must_use]
    pub fn bit(self) -> u32 {
        match self {
            Self::DigitalSignature => 0,
            Self::NonRepudiation => 1,
            Self::KeyAgreement => 4,
        }
    }
}

/// What proves who asks for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Authentication {
    /// The device's enrolment TA: the key of the certificate is in the TEE.
    Ta,
    /// An enrolment secret that an operator made for the device.
    Secret,
    /// The key of a certificate of this CA that the device has.
    Certificate,
    /// The key of a certificate that the device has from its maker.
    Maker,
    /// Evidence in the request, of a Root of Trust that the operator registered.
    Evidence,
}

impl Authentication {
    /// Every one, for tables.
    pub const ALL: [Self; 5] = [
        Self::Ta,
        Self::Secret,
        Self::Certificate,
        Self::Maker,
        Self::Evidence,
    ];

    /// The name that profile files use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ta => "ta",
            Self::Secret => "secret",
            Self::Certificate => "certificate",
            Self::Maker => "maker",
            Self::Evidence => "evidence",
        }
    }
}

/// How long a certificate of the profile is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// That many seconds from issuance, and never past the issuer's own end.
    Secs(u64),
    /// `99991231235959Z`: no well-defined expiration. Spec: RFC 5280 section 4.1.2.5, IEEE 802.1AR.
    Indefinite,
}

/// Purposes of extendedKeyUsage that have a name in profile files; others are written as an OID.
pub const EKU_NAMES: [(&str, ObjectIdentifier); 5] = [
    (
        "clientAuth",
        ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2"),
    ),
    (
        "serverAuth",
        ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"),
    ),
    (
        "codeSigning",
        ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3"),
    ),
    (
        "emailProtection",
        ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.4"),
    ),
    (
        "ipsecIKE",
        ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.17"),
    ),
];

/// What profiles leave to the release that uses them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcedureDetails {
    /// Name of the release, for people and logs.
    pub release_name: String,
    /// Key scheme.
    pub protocol_profile: ProtocolProfile,
    /// Root certificates (DER) that the TA checks certificates against.
    pub trust_anchors: Vec<Vec<u8>>,
}

impl ProcedureDetails {
    /// The procedure that makes a TA ask for exactly what these profiles give; the first is made
    /// when none is named.
    #[must_use]
    pub fn procedure<'a>(self, profiles: impl IntoIterator<Item = &'a Profile>) -> Procedure {
        Procedure {
            release_name: self.release_name,
            protocol_profile: self.protocol_profile,
            certificates: profiles.into_iter().map(Profile::to_order).collect(),
            trust_anchors: self.trust_anchors,
        }
    }
}

impl Profile {
    /// Whether this is proof enough of who asks.
    #[must_use]
    pub fn allows(&self, authentication: Authentication) -> bool {
        self.authentication.contains(&authentication)
    }

    /// What a procedure orders so that a TA asks for exactly what this profile gives.
    #[must_use]
    pub fn to_order(&self) -> CertificateOrder {
        let key_kind = match self.key_algs.first() {
            Some(KeyAlg::P384) => KeyKind::P384,
            Some(KeyAlg::Ed25519) => KeyKind::Ed25519,
            _ => KeyKind::P256,
        };
        CertificateOrder {
            profile: self.name.clone(),
            key_kind,
            subject: self
                .ordered_subject()
                .map(|(a, t)| (a, t.clone()))
                .collect(),
            san: self.ordered_san().collect(),
            required: self.required.clone(),
            key_usage: self.ordered_key_usage(),
            ext_key_usage: self.extended_key_usage.clone(),
            validity_secs: match self.validity {
                Validity::Secs(secs) => Some(secs),
                Validity::Indefinite => None,
            },
            renewal_window_secs: self.renewal_window_secs,
            cmp_path: format!("{CMP_PATH_PREFIX}{}", self.name),
            confirm_mode: if self.implicit_confirm {
                ConfirmMode::Implicit
            } else {
                ConfirmMode::Explicit
            },
        }
    }

    /// Whether a release made earlier still asks for what this profile gives (lifetimes may differ:
    /// they are the CA's alone).
    #[must_use]
    pub fn agrees_with(&self, order: &CertificateOrder) -> bool {
        let subject = order.subject.iter().map(|(a, t)| (*a, t));
        let mut san = order.san.iter();
        self.name == order.profile
            && self.ordered_subject().eq(subject)
            && self.ordered_san().all(|mine| san.next() == Some(&mine))
            && san.next().is_none()
            && self.required == order.required
            && self.ordered_key_usage() == order.key_usage
            && self.extended_key_usage == order.ext_key_usage
    }

    fn ordered_subject(&self) -> impl Iterator<Item = (&'static AttributeSpec, &Template)> {
        let spec = |a: SubjectAttribute| AttributeSpec::by_name(a.name());
        let all = self.subject.iter();
        all.filter_map(move |(a, t)| Some((spec(*a)?, t)))
    }

    fn ordered_san(&self) -> impl Iterator<Item = SanTemplate> {
        let module = self.san.hardware_module_type.and_then(|hw_type| {
            let serial = Template::new("{serial}").ok()?;
            Some(SanTemplate::HardwareModule { hw_type, serial })
        });
        let permanent = self.san.permanent_identifier.as_ref();
        let permanent = permanent.map(|value| SanTemplate::PermanentIdentifier {
            value: value.clone(),
            assigner: None,
        });
        let dns = self.san.dns.iter().cloned().map(SanTemplate::Dns);
        let uri = self.san.uri.iter().cloned().map(SanTemplate::Uri);
        module.into_iter().chain(permanent).chain(dns).chain(uri)
    }

    /// Bits of keyUsage.
    fn ordered_key_usage(&self) -> u16 {
        let usages = self.key_usage.iter();
        usages.fold(0, |bits, usage| bits | 1 << usage.bit())
    }
}

/// What CMP paths of profiles begin with; the profile's name follows.
///
/// Spec: RFC 9811 section 3.4
pub const CMP_PATH_PREFIX: &str = "/.well-known/cmp/p/";

/// A profile file to begin with.
pub const EXAMPLE: &str = include_str!("example.toml");
