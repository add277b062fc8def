//! The enrolment procedure: what the CA orders its TA to do, public and signed with the release.
//!
//! Spec: docs/spec/procedure.md.

use super::{
    EnrolmentError, Identity, IdentityAttribute, Template, no_rest, template::MAX_TEMPLATE_BYTES,
    text, version,
};
use crate::{
    cbor::{self, CborError, MapBuilder, MapReader, Value},
    x509::{
        AttributeSpec, CertView, DistinguishedName, MAX_CERT_BYTES, NameBuilder, SanEntry, usage,
    },
};
use alloc::{string::String, vec::Vec};
use der::asn1::ObjectIdentifier;

/// Largest procedure, in bytes: eight roots of a few KiB and the rest.
pub const MAX_PROCEDURE_BYTES: usize = 48 * 1024;
/// Version written and read.
const VERSION: u64 = 1;
/// Most subject attributes.
const MAX_SUBJECT: usize = 16;
/// Most alternative names.
const MAX_SAN: usize = 16;
/// Most extended key usages.
const MAX_EKU: usize = 16;
/// Most kinds of certificate: a device has a handful of uses for one, and the limit keeps the
/// procedure within its 48 KiB.
const MAX_CERTIFICATES: usize = 8;
/// Most trust anchors.
const MAX_ANCHORS: usize = 8;
/// Longest names and paths, in bytes.
const MAX_LABEL_BYTES: usize = 128;
/// Longest lifetime, in seconds: a hundred years. Longer is `None`, without end.
const MAX_VALIDITY_SECS: u64 = 100 * 366 * 86_400;

/// Which of the two key schemes a release uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ProtocolProfile {
    /// Asymmetric delivery, one `CsrAuthKey` for each device.
    Default = 0,
    /// The paper's keys: symmetric delivery, one `CsrAuthKey` for all devices of a release.
    Paper = 1,
}

/// Whether the device confirms a certificate with certConf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConfirmMode {
    /// certConf and pkiConf.
    Explicit = 0,
    /// The device asks for implicitConfirm; if it is not granted, certConf.
    Implicit = 1,
}

/// Kind of the key pair the TA makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

impl KeyKind {
    /// The COSE algorithm identifier that stands for it (RFC 9864).
    #[must_use]
    pub const fn cose_alg(self) -> i64 {
        match self {
            Self::P256 => -9,
            Self::P384 => -51,
            Self::Ed25519 => -19,
        }
    }

    /// The kind of a COSE algorithm identifier.
    #[must_use]
    pub fn from_cose_alg(alg: i64) -> Option<Self> {
        [Self::P256, Self::P384, Self::Ed25519]
            .into_iter()
            .find(|k| k.cose_alg() == alg)
    }
}

/// One alternative name of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SanTemplate {
    /// dNSName.
    Dns(Template),
    /// URI.
    Uri(Template),
    /// HardwareModuleName; the serial number is the bytes of the expanded text.
    HardwareModule {
        /// hwType.
        hw_type: ObjectIdentifier,
        /// hwSerialNum.
        serial: Template,
    },
    /// PermanentIdentifier.
    PermanentIdentifier {
        /// identifierValue.
        value: Template,
        /// assigner, if not the CA.
        assigner: Option<ObjectIdentifier>,
    },
}

impl SanTemplate {
    /// Its template.
    fn template(&self) -> &Template {
        match self {
            Self::Dns(t) | Self::Uri(t) => t,
            Self::HardwareModule { serial, .. } => serial,
            Self::PermanentIdentifier { value, .. } => value,
        }
    }

    /// The name of one device.
    fn expand(&self, identity: &Identity) -> Result<SanEntry, EnrolmentError> {
        let text = self.template().expand(identity)?;
        Ok(match self {
            Self::Dns(_) => SanEntry::Dns(text),
            Self::Uri(_) => SanEntry::Uri(text),
            Self::HardwareModule { hw_type, .. } => SanEntry::HardwareModule {
                hw_type: *hw_type,
                hw_serial: text.into_bytes(),
            },
            Self::PermanentIdentifier { assigner, .. } => SanEntry::PermanentIdentifier {
                value: Some(text),
                assigner: *assigner,
            },
        })
    }

    /// `[kind, template, ? oid]`.
    fn to_value(&self) -> Value {
        let template = Value::from(self.template().as_str());
        let items = match self {
            Self::Dns(_) => alloc::vec![Value::from(0), template],
            Self::Uri(_) => alloc::vec![Value::from(1), template],
            Self::HardwareModule { hw_type, .. } => {
                alloc::vec![Value::from(2), template, oid_value(hw_type)]
            }
            Self::PermanentIdentifier { assigner, .. } => {
                let mut items = alloc::vec![Value::from(3), template];
                items.extend(assigner.as_ref().map(oid_value));
                items
            }
        };
        Value::Array(items)
    }

    /// From `[kind, template, ? oid]`.
    fn from_value(value: Value) -> Result<Self, EnrolmentError> {
        let mut items = cbor::into_array(value, "san", 2, 3)?.into_iter();
        let missing = || CborError::Missing { what: "san" };
        let kind = cbor::uint(&items.next().ok_or_else(missing)?, "san kind")?;
        let text = cbor::into_text(
            items.next().ok_or_else(missing)?,
            "san template",
            MAX_TEMPLATE_BYTES,
        )?;
        let template = Template::new(&text)?;
        let oid = items.next().map(oid).transpose()?;
        match (kind, oid) {
            (0, None) => Ok(Self::Dns(template)),
            (1, None) => Ok(Self::Uri(template)),
            (2, Some(hw_type)) => Ok(Self::HardwareModule {
                hw_type,
                serial: template,
            }),
            (3, assigner) => Ok(Self::PermanentIdentifier {
                value: template,
                assigner,
            }),
            _ => Err(CborError::Range { what: "san kind" }.into()),
        }
    }
}

/// One kind of certificate that the CA orders its enrolment TA to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateOrder {
    /// Certificate profile at the CA; each once in a procedure.
    pub profile: String,
    /// Kind of key pair to make.
    pub key_kind: KeyKind,
    /// Subject: attribute (of [`AttributeSpec`]) and template, in order.
    pub subject: Vec<(&'static AttributeSpec, Template)>,
    /// Alternative names, in order.
    pub san: Vec<SanTemplate>,
    /// Attributes a device must have; templates may name only these and the UEID.
    pub required: Vec<IdentityAttribute>,
    /// keyUsage as bits of [`usage`]. Never 0. The TA lets the key do this and nothing else.
    pub key_usage: u16,
    /// extKeyUsage; may be empty.
    pub ext_key_usage: Vec<ObjectIdentifier>,
    /// Lifetime of a certificate in seconds; `None` is without end (99991231235959Z).
    pub validity_secs: Option<u64>,
    /// How long before its end a certificate is renewed, in seconds; 0 is never.
    pub renewal_window_secs: u64,
    /// Path of the CA's CMP resource, for example `/.well-known/cmp/p/device`.
    pub cmp_path: String,
    /// Confirmation of certificates.
    pub confirm_mode: ConfirmMode,
}

/// What the CA orders its enrolment TA to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Procedure {
    /// Name of the release, for people and logs.
    pub release_name: String,
    /// Key scheme.
    pub protocol_profile: ProtocolProfile,
    /// The kinds of certificate, at least one; the first is made when none is named.
    pub certificates: Vec<CertificateOrder>,
    /// DER of the root certificates that certificates are checked against, at least one.
    pub trust_anchors: Vec<Vec<u8>>,
}

impl Procedure {
    /// The order of that profile.
    #[must_use]
    pub fn certificate(&self, profile: &str) -> Option<&CertificateOrder> {
        self.certificates
            .iter()
            .find(|order| order.profile == profile)
    }

    /// Encodes the procedure.
    ///
    /// # Errors
    /// If a field is outside its limits or contradicts another: nothing that [`Self::decode`]
    /// would refuse is ever written.
    pub fn encode(&self) -> Result<Vec<u8>, EnrolmentError> {
        self.check()?;
        let (first, further) =
            self.certificates
                .split_first()
                .ok_or(EnrolmentError::Inconsistent(
                    "a procedure orders a certificate",
                ))?;
        let further = further
            .iter()
            .map(|order| order.entries(MapBuilder::new()).finish())
            .collect::<Result<Vec<_>, _>>()?;
        let anchors = self
            .trust_anchors
            .iter()
            .map(|c| Value::Bytes(c.clone()))
            .collect();
        let builder = MapBuilder::new()
            .put(1, VERSION)
            .put(2, self.release_name.as_str())
            .put(4, self.protocol_profile as u8)
            .put(13, Value::Array(anchors))
            .put_opt(16, (!further.is_empty()).then_some(Value::Array(further)));
        let bytes = first.entries(builder).encode()?;
        cbor::check_len(bytes.len(), "procedure", 1, MAX_PROCEDURE_BYTES)?;
        Ok(bytes)
    }

    /// Decodes and checks a procedure.
    ///
    /// # Errors
    /// If the bytes are not a procedure of this version, or it is outside its limits or
    /// contradicts itself.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        cbor::check_len(bytes.len(), "procedure", 1, MAX_PROCEDURE_BYTES)?;
        let mut map = MapReader::new(cbor::decode(bytes, 6)?, "procedure")?;
        version(&mut map, "procedure", VERSION)?;
        let release_name = text(
            map.require(2, "release name")?,
            "release name",
            1,
            MAX_LABEL_BYTES,
        )?;
        let protocol_profile = match cbor::uint(&map.require(4, "protocol")?, "protocol")? {
            0 => ProtocolProfile::Default,
            1 => ProtocolProfile::Paper,
            _ => return Err(CborError::Range { what: "protocol" }.into()),
        };
        let mut certificates = alloc::vec![CertificateOrder::take(&mut map)?];
        let trust_anchors = list(
            map.require(13, "trust anchors")?,
            "trust anchors",
            MAX_ANCHORS,
            |v| {
                Ok(cbor::into_bytes_sized(
                    v,
                    "trust anchor",
                    1,
                    MAX_CERT_BYTES,
                )?)
            },
        )?;
        if let Some(further) = map.take(16) {
            let further = cbor::into_array(further, "certificates", 1, MAX_CERTIFICATES - 1)?;
            for order in further {
                let mut map = MapReader::new(order, "certificate")?;
                certificates.push(CertificateOrder::take(&mut map)?);
                no_rest(&map, "certificate")?;
            }
        }
        no_rest(&map, "procedure")?;
        let procedure = Self {
            release_name,
            protocol_profile,
            certificates,
            trust_anchors,
        };
        procedure.check()?;
        Ok(procedure)
    }

    /// Checks limits and consistency.
    fn check(&self) -> Result<(), EnrolmentError> {
        cbor::check_len(self.release_name.len(), "release name", 1, MAX_LABEL_BYTES)?;
        cbor::check_len(self.trust_anchors.len(), "trust anchors", 1, MAX_ANCHORS)?;
        let count = self.certificates.len();
        cbor::check_len(count, "certificates", 1, MAX_CERTIFICATES)?;
        self.certificates
            .iter()
            .try_for_each(CertificateOrder::check)?;
        let names: Vec<&str> = self
            .certificates
            .iter()
            .map(|c| c.profile.as_str())
            .collect();
        if has_repeats(&names) {
            return Err(EnrolmentError::Inconsistent("a profile is ordered twice"));
        }
        for anchor in &self.trust_anchors {
            let cert = CertView::from_der(anchor)?;
            if !cert.basic_constraints()?.is_some_and(|b| b.ca) {
                return Err(EnrolmentError::Inconsistent(
                    "a trust anchor is not a CA certificate",
                ));
            }
        }
        Ok(())
    }
}

impl CertificateOrder {
    /// Adds the entries of this order.
    fn entries(&self, builder: MapBuilder) -> MapBuilder {
        let subject = self
            .subject
            .iter()
            .map(|(a, t)| Value::Array(alloc::vec![Value::from(a.long), Value::from(t.as_str())]))
            .collect();
        let san = self.san.iter().map(SanTemplate::to_value).collect();
        let required = self
            .required
            .iter()
            .map(|a| Value::from(a.number()))
            .collect();
        let purposes = self.ext_key_usage.iter().map(oid_value).collect();
        builder
            .put(3, self.profile.as_str())
            .put(5, self.key_kind.cose_alg())
            .put(6, Value::Array(subject))
            .put(7, Value::Array(san))
            .put(8, Value::Array(required))
            .put(9, self.key_usage)
            .put(10, Value::Array(purposes))
            .put_opt(11, self.validity_secs)
            .put(12, self.renewal_window_secs)
            .put(14, self.cmp_path.as_str())
            .put(15, self.confirm_mode as u8)
    }

    /// Takes the entries of an order out of a map.
    fn take(map: &mut MapReader) -> Result<Self, EnrolmentError> {
        let profile = text(map.require(3, "profile")?, "profile", 1, MAX_LABEL_BYTES)?;
        let key_kind = KeyKind::from_cose_alg(cbor::int(&map.require(5, "key")?, "key")?)
            .ok_or(CborError::Range { what: "key" })?;
        let subject = list(
            map.require(6, "subject")?,
            "subject",
            MAX_SUBJECT,
            subject_entry,
        )?;
        let san = list(
            map.require(7, "san")?,
            "san",
            MAX_SAN,
            SanTemplate::from_value,
        )?;
        let required = list(map.require(8, "required")?, "required", 8, |v| {
            Ok(IdentityAttribute::from_number(cbor::uint(&v, "required")?)?)
        })?;
        let key_usage = u16::try_from(cbor::uint(&map.require(9, "keyUsage")?, "keyUsage")?)
            .map_err(|_| CborError::Range { what: "keyUsage" })?;
        let ext_key_usage = list(map.require(10, "extKeyUsage")?, "extKeyUsage", MAX_EKU, oid)?;
        let validity_secs = map
            .take(11)
            .map(|v| cbor::uint(&v, "validity"))
            .transpose()?;
        let renewal_window_secs =
            cbor::uint(&map.require(12, "renewal window")?, "renewal window")?;
        let cmp_path = text(map.require(14, "CMP path")?, "CMP path", 1, MAX_LABEL_BYTES)?;
        let confirm_mode = match cbor::uint(&map.require(15, "confirm mode")?, "confirm mode")? {
            0 => ConfirmMode::Explicit,
            1 => ConfirmMode::Implicit,
            _ => {
                return Err(CborError::Range {
                    what: "confirm mode",
                }
                .into());
            }
        };
        Ok(Self {
            profile,
            key_kind,
            subject,
            san,
            required,
            key_usage,
            ext_key_usage,
            validity_secs,
            renewal_window_secs,
            cmp_path,
            confirm_mode,
        })
    }

    /// The subject of one device's certificate.
    ///
    /// # Errors
    /// If the device lacks an attribute, or a value does not fit the name's attribute.
    pub fn subject(&self, identity: &Identity) -> Result<DistinguishedName, EnrolmentError> {
        let mut name = NameBuilder::new();
        for (spec, template) in &self.subject {
            name = name.push(spec, &template.expand(identity)?)?;
        }
        Ok(name.build()?)
    }

    /// The alternative names of one device's certificate.
    ///
    /// # Errors
    /// If the device lacks an attribute.
    pub fn san(&self, identity: &Identity) -> Result<Vec<SanEntry>, EnrolmentError> {
        self.san.iter().map(|s| s.expand(identity)).collect()
    }

    /// Checks that a device has every attribute required.
    ///
    /// # Errors
    /// [`EnrolmentError::MissingIdentity`] naming the first it lacks.
    pub fn check_identity(&self, identity: &Identity) -> Result<(), EnrolmentError> {
        self.required
            .iter()
            .try_for_each(|a| identity.value(*a).map(|_| ()))
    }

    /// Checks limits and consistency.
    fn check(&self) -> Result<(), EnrolmentError> {
        cbor::check_len(self.profile.len(), "profile", 1, MAX_LABEL_BYTES)?;
        cbor::check_len(self.subject.len(), "subject", 0, MAX_SUBJECT)?;
        cbor::check_len(self.san.len(), "san", 0, MAX_SAN)?;
        cbor::check_len(self.ext_key_usage.len(), "extKeyUsage", 0, MAX_EKU)?;
        if self.subject.is_empty() && self.san.is_empty() {
            return Err(EnrolmentError::Inconsistent(
                "a certificate needs a subject or a name",
            ));
        }
        if self.key_usage == 0 || self.key_usage & !usage::ALL != 0 {
            return Err(CborError::Range { what: "keyUsage" }.into());
        }
        if self
            .validity_secs
            .is_some_and(|v| !(60..=MAX_VALIDITY_SECS).contains(&v))
        {
            return Err(CborError::Range { what: "validity" }.into());
        }
        if self
            .validity_secs
            .is_some_and(|v| self.renewal_window_secs >= v)
        {
            return Err(EnrolmentError::Inconsistent(
                "the renewal window exceeds the validity",
            ));
        }
        if self.validity_secs.is_none() && self.renewal_window_secs != 0 {
            return Err(EnrolmentError::Inconsistent(
                "a certificate without end has no renewal",
            ));
        }
        if has_repeats(&self.required) || has_repeats(&self.ext_key_usage) {
            return Err(EnrolmentError::Inconsistent("a list has an entry twice"));
        }
        let templates = self
            .subject
            .iter()
            .map(|(_, t)| t)
            .chain(self.san.iter().map(SanTemplate::template));
        for attribute in templates.flat_map(Template::attributes) {
            if attribute != IdentityAttribute::Ueid && !self.required.contains(&attribute) {
                return Err(EnrolmentError::NotRequired(attribute));
            }
        }
        check_path(&self.cmp_path)
    }
}

/// A path of unreserved characters, beginning with one slash, without empty or dot segments.
fn check_path(path: &str) -> Result<(), EnrolmentError> {
    cbor::check_len(path.len(), "CMP path", 2, MAX_LABEL_BYTES)?;
    let plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    match path.strip_prefix('/') {
        Some(rest) if rest.split('/').all(plain) => Ok(()),
        _ => Err(EnrolmentError::Inconsistent(
            "the CMP path is not a plain absolute path",
        )),
    }
}

/// Whether an element occurs twice.
fn has_repeats<T: PartialEq>(items: &[T]) -> bool {
    items
        .iter()
        .enumerate()
        .any(|(i, a)| items.iter().skip(i + 1).any(|b| a == b))
}

/// Decodes the elements of an array.
fn list<T>(
    value: Value,
    what: &'static str,
    max: usize,
    item: impl Fn(Value) -> Result<T, EnrolmentError>,
) -> Result<Vec<T>, EnrolmentError> {
    cbor::into_array(value, what, 0, max)?
        .into_iter()
        .map(item)
        .collect()
}

/// From `[attribute, template]`.
fn subject_entry(value: Value) -> Result<(&'static AttributeSpec, Template), EnrolmentError> {
    let mut items = cbor::into_array(value, "subject", 2, 2)?.into_iter();
    let missing = || CborError::Missing { what: "subject" };
    let name = cbor::into_text(items.next().ok_or_else(missing)?, "subject attribute", 64)?;
    let spec = AttributeSpec::by_name(&name).ok_or(CborError::Range {
        what: "subject attribute",
    })?;
    let template = cbor::into_text(
        items.next().ok_or_else(missing)?,
        "subject template",
        MAX_TEMPLATE_BYTES,
    )?;
    Ok((spec, Template::new(&template)?))
}

/// An object identifier as the byte string of its BER contents (as under tag 111 of RFC 9090).
fn oid_value(oid: &ObjectIdentifier) -> Value {
    Value::Bytes(oid.as_bytes().to_vec())
}

/// An object identifier from the byte string of its BER contents.
fn oid(value: Value) -> Result<ObjectIdentifier, EnrolmentError> {
    let bytes = cbor::into_bytes_sized(value, "object identifier", 1, 39)?;
    ObjectIdentifier::from_bytes(&bytes).map_err(|_| {
        CborError::Range {
            what: "object identifier",
        }
        .into()
    })
}
