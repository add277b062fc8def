//! Subject alternative names, with the two that name hardware.
//!
//! Spec: RFC 5280 section 4.2.1.6, RFC 4108 section 5 (HardwareModuleName), RFC 4043 section 2
//! (PermanentIdentifier).

use super::{DistinguishedName, Extension, MAX_SAN_ENTRIES, X509Error, at_most, oid};
use alloc::{string::String, vec::Vec};
use der::{
    Any, Decode, Encode, Sequence,
    asn1::{Ia5String, ObjectIdentifier, OctetString},
};
use x509_cert::ext::pkix::name::{GeneralName, OtherName};

/// One subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SanEntry {
    /// dNSName.
    Dns(String),
    /// uniformResourceIdentifier.
    Uri(String),
    /// rfc822Name.
    Email(String),
    /// iPAddress: 4 or 16 bytes.
    Ip(Vec<u8>),
    /// directoryName.
    Directory(DistinguishedName),
    /// registeredID.
    RegisteredId(ObjectIdentifier),
    /// HardwareModuleName.
    HardwareModule {
        /// Kind of hardware, named by its maker.
        hw_type: ObjectIdentifier,
        /// Serial number of the module, unique for the kind.
        hw_serial: Vec<u8>,
    },
    /// PermanentIdentifier.
    PermanentIdentifier {
        /// The identifier; if absent, the subject's serialNumber attribute is it.
        value: Option<String>,
        /// Who assigned it; if absent, the certificate's issuer.
        assigner: Option<ObjectIdentifier>,
    },
    /// Any other otherName, uninterpreted.
    Other {
        /// Its type.
        type_id: ObjectIdentifier,
        /// DER of its value.
        value: Vec<u8>,
    },
}

/// HardwareModuleName. Spec: RFC 4108 section 5.
#[derive(Sequence)]
struct HardwareModuleName {
    /// Kind of hardware.
    hw_type: ObjectIdentifier,
    /// Serial number.
    hw_serial_num: OctetString,
}

/// PermanentIdentifier. Spec: RFC 4043 section 2.
#[derive(Sequence)]
struct PermanentIdentifier {
    /// identifierValue.
    value: Option<String>,
    /// assigner.
    assigner: Option<ObjectIdentifier>,
}

impl SanEntry {
    /// The entry as a GeneralName.
    ///
    /// # Errors
    /// If a text is not ASCII where it must be, or an address has the wrong length.
    pub fn to_general_name(&self) -> Result<GeneralName, X509Error> {
        Ok(match self {
            Self::Dns(text) => GeneralName::DnsName(ia5("dNSName", text)?),
            Self::Uri(text) => GeneralName::UniformResourceIdentifier(ia5("URI", text)?),
            Self::Email(text) => GeneralName::Rfc822Name(ia5("rfc822Name", text)?),
            Self::Ip(bytes) => {
                if !matches!(bytes.len(), 4 | 16) {
                    return Err(X509Error::Text { what: "iPAddress" });
                }
                GeneralName::IpAddress(OctetString::new(bytes.as_slice())?)
            }
            Self::Directory(name) => GeneralName::DirectoryName(name.to_name()?),
            Self::RegisteredId(oid) => GeneralName::RegisteredId(*oid),
            Self::HardwareModule { hw_type, hw_serial } => {
                if hw_serial.is_empty() {
                    return Err(X509Error::Empty {
                        what: "hwSerialNum",
                    });
                }
                let name = HardwareModuleName {
                    hw_type: *hw_type,
                    hw_serial_num: OctetString::new(hw_serial.as_slice())?,
                };
                other(oid::ON_HARDWARE_MODULE_NAME, Any::encode_from(&name)?)
            }
            Self::PermanentIdentifier { value, assigner } => {
                let name = PermanentIdentifier {
                    value: value.clone(),
                    assigner: *assigner,
                };
                other(oid::ON_PERMANENT_IDENTIFIER, Any::encode_from(&name)?)
            }
            Self::Other { type_id, value } => other(*type_id, Any::from_der(value)?),
        })
    }

    /// The entry of a GeneralName.
    ///
    /// # Errors
    /// If an otherName of a known type does not hold that type, or the kind is not supported.
    pub fn from_general_name(name: &GeneralName) -> Result<Self, X509Error> {
        Ok(match name {
            GeneralName::DnsName(text) => Self::Dns(String::from(text.as_str())),
            GeneralName::UniformResourceIdentifier(text) => Self::Uri(String::from(text.as_str())),
            GeneralName::Rfc822Name(text) => Self::Email(String::from(text.as_str())),
            GeneralName::IpAddress(bytes) => match bytes.as_bytes().len() {
                4 | 16 => Self::Ip(bytes.as_bytes().to_vec()),
                _ => return Err(X509Error::Text { what: "iPAddress" }),
            },
            GeneralName::DirectoryName(name) => {
                Self::Directory(DistinguishedName::from_der(&name.to_der()?)?)
            }
            GeneralName::RegisteredId(oid) => Self::RegisteredId(*oid),
            GeneralName::OtherName(name) if name.type_id == oid::ON_HARDWARE_MODULE_NAME => {
                let module: HardwareModuleName = name.value.decode_as()?;
                Self::HardwareModule {
                    hw_type: module.hw_type,
                    hw_serial: module.hw_serial_num.as_bytes().to_vec(),
                }
            }
            GeneralName::OtherName(name) if name.type_id == oid::ON_PERMANENT_IDENTIFIER => {
                let id: PermanentIdentifier = name.value.decode_as()?;
                Self::PermanentIdentifier {
                    value: id.value,
                    assigner: id.assigner,
                }
            }
            GeneralName::OtherName(name) => Self::Other {
                type_id: name.type_id,
                value: name.value.to_der()?,
            },
            GeneralName::EdiPartyName(_) => {
                return Err(X509Error::Text {
                    what: "ediPartyName",
                });
            }
        })
    }
}

/// An IA5String without control characters.
fn ia5(what: &'static str, text: &str) -> Result<Ia5String, X509Error> {
    if text.is_empty() {
        return Err(X509Error::Empty { what });
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(X509Error::Text { what });
    }
    Ok(Ia5String::new(text)?)
}

/// An otherName.
fn other(type_id: ObjectIdentifier, value: Any) -> GeneralName {
    GeneralName::OtherName(OtherName { type_id, value })
}

/// Encodes GeneralNames.
///
/// # Errors
/// If there is no entry or over [`MAX_SAN_ENTRIES`], or an entry cannot be encoded.
pub fn encode_san(entries: &[SanEntry]) -> Result<Vec<u8>, X509Error> {
    if entries.is_empty() {
        return Err(X509Error::Empty {
            what: "subjectAltName",
        });
    }
    at_most("alternative names", entries.len(), MAX_SAN_ENTRIES)?;
    let names: Vec<GeneralName> = entries
        .iter()
        .map(SanEntry::to_general_name)
        .collect::<Result<_, _>>()?;
    Ok(names.to_der()?)
}

/// Decodes the value of a subjectAltName extension.
///
/// # Errors
/// If the bytes are not GeneralNames of supported kinds, or over [`MAX_SAN_ENTRIES`].
pub fn decode_san(bytes: &[u8]) -> Result<Vec<SanEntry>, X509Error> {
    let names = Vec::<GeneralName>::from_der(bytes)?;
    if names.is_empty() {
        return Err(X509Error::Empty {
            what: "subjectAltName",
        });
    }
    at_most("alternative names", names.len(), MAX_SAN_ENTRIES)?;
    names.iter().map(SanEntry::from_general_name).collect()
}

/// The subjectAltName extension: critical exactly when the subject is empty.
///
/// Spec: RFC 5280 section 4.2.1.6.
///
/// # Errors
/// As [`encode_san`].
pub fn san_extension(entries: &[SanEntry], subject_empty: bool) -> Result<Extension, X509Error> {
    Ok(Extension {
        oid: oid::SUBJECT_ALT_NAME,
        critical: subject_empty,
        value: encode_san(entries)?,
    })
}
