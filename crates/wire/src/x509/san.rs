//! Subject alternative names, with the two that name hardware.
//!
//! Spec: RFC 5280 section 4.2.1.6, RFC 4108 section 5 (HardwareModuleName), RFC 4043 section 2
//! (PermanentIdentifier).

use super::{
    DistinguishedName, Extension, MAX_SAN_ENTRIES, X509Error, at_most, oid,
    walk::{Element, Flaw, Walk, context, primitive, put, put_oid, put_sequence, wrap},
};
use alloc::{string::String, vec::Vec};
use der::{Tag, asn1::ObjectIdentifier};

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

impl SanEntry {
    /// Appends the entry as a GeneralName.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), X509Error> {
        match self {
            Self::Email(text) => ia5(out, 1, "rfc822Name", text)?,
            Self::Dns(text) => ia5(out, 2, "dNSName", text)?,
            Self::Uri(text) => ia5(out, 6, "URI", text)?,
            Self::Ip(bytes) => {
                if !matches!(bytes.len(), 4 | 16) {
                    return Err(X509Error::Text { what: "iPAddress" });
                }
                put(out, primitive(7), bytes)?;
            }
            Self::Directory(name) => put(out, context(4), name.as_der())?,
            Self::RegisteredId(oid) => put(out, primitive(8), oid.as_bytes())?,
            Self::HardwareModule { hw_type, hw_serial } => {
                if hw_serial.is_empty() {
                    return Err(X509Error::Empty {
                        what: "hwSerialNum",
                    });
                }
                let mut name = Vec::new();
                put_oid(&mut name, hw_type)?;
                put(&mut name, Tag::OctetString, hw_serial)?;
                other(
                    out,
                    &oid::ON_HARDWARE_MODULE_NAME,
                    &wrap(Tag::Sequence, &name)?,
                )?;
            }
            Self::PermanentIdentifier { value, assigner } => {
                let mut name = Vec::new();
                if let Some(value) = value {
                    put(&mut name, Tag::Utf8String, value.as_bytes())?;
                }
                if let Some(assigner) = assigner {
                    put_oid(&mut name, assigner)?;
                }
                other(
                    out,
                    &oid::ON_PERMANENT_IDENTIFIER,
                    &wrap(Tag::Sequence, &name)?,
                )?;
            }
            Self::Other { type_id, value } => {
                Element::only(value)?;
                other(out, type_id, value)?;
            }
        }
        Ok(())
    }

    /// The entry of a GeneralName.
    ///
    /// # Errors
    /// If an otherName of a known type does not hold that type, or the kind is not supported.
    fn read(name: Element<'_>) -> Result<Self, X509Error> {
        if name.tag == context(0) {
            return read_other(name.value);
        }
        if name.tag == context(4) {
            let name = DistinguishedName::from_der(name.value)?;
            if !name.is_sorted()? {
                return Err(Flaw.into());
            }
            return Ok(Self::Directory(name));
        }
        if name.tag == context(5) {
            return Err(X509Error::Text {
                what: "ediPartyName",
            });
        }
        if name.tag == primitive(7) {
            return match name.value.len() {
                4 | 16 => Ok(Self::Ip(name.value.to_vec())),
                _ => Err(X509Error::Text { what: "iPAddress" }),
            };
        }
        if name.tag == primitive(8) {
            let oid = ObjectIdentifier::from_bytes(name.value).map_err(|_| Flaw)?;
            return Ok(Self::RegisteredId(oid));
        }
        let kind = if name.tag == primitive(1) {
            Self::Email
        } else if name.tag == primitive(2) {
            Self::Dns
        } else if name.tag == primitive(6) {
            Self::Uri
        } else {
            return Err(Flaw.into());
        };
        // IA5String is ASCII.
        match core::str::from_utf8(name.value) {
            Ok(text) if text.is_ascii() => Ok(kind(String::from(text))),
            _ => Err(Flaw.into()),
        }
    }
}

/// Reads the contents of an otherName.
fn read_other(contents: &[u8]) -> Result<SanEntry, X509Error> {
    let mut walk = Walk::new(contents);
    let type_id = walk.next()?.oid()?;
    let value = walk.explicit(0)?.ok_or(Flaw)?;
    walk.finish()?;
    if type_id == oid::ON_HARDWARE_MODULE_NAME {
        let mut walk = value.sequence()?;
        let hw_type = walk.next()?.oid()?;
        let hw_serial = walk.next()?.expect(Tag::OctetString)?.to_vec();
        walk.finish()?;
        return Ok(SanEntry::HardwareModule { hw_type, hw_serial });
    }
    if type_id == oid::ON_PERMANENT_IDENTIFIER {
        let mut walk = value.sequence()?;
        let text = walk.optional(Tag::Utf8String)?;
        let value = match text.map(|text| core::str::from_utf8(text.value)) {
            None => None,
            Some(Ok(text)) => Some(String::from(text)),
            Some(Err(_)) => return Err(Flaw.into()),
        };
        let assigner = match walk.optional(Tag::ObjectIdentifier)? {
            Some(element) => Some(element.oid()?),
            None => None,
        };
        walk.finish()?;
        return Ok(SanEntry::PermanentIdentifier { value, assigner });
    }
    Ok(SanEntry::Other {
        type_id,
        value: value.der.to_vec(),
    })
}

/// Appends an IA5String without control characters, under an implicit tag.
fn ia5(out: &mut Vec<u8>, number: u32, what: &'static str, text: &str) -> Result<(), X509Error> {
    if text.is_empty() {
        return Err(X509Error::Empty { what });
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(X509Error::Text { what });
    }
    Ok(put(out, primitive(number), text.as_bytes())?)
}

/// Appends an otherName around the DER of its value.
fn other(out: &mut Vec<u8>, type_id: &ObjectIdentifier, value: &[u8]) -> Result<(), Flaw> {
    let mut name = Vec::new();
    put_oid(&mut name, type_id)?;
    put(&mut name, context(0), value)?;
    put(out, context(0), &name)
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
    let mut names = Vec::new();
    for entry in entries {
        entry.write(&mut names)?;
    }
    let mut out = Vec::new();
    put_sequence(&mut out, &names)?;
    Ok(out)
}

/// Decodes the value of a subjectAltName extension.
///
/// # Errors
/// If the bytes are not GeneralNames of supported kinds, or over [`MAX_SAN_ENTRIES`].
pub fn decode_san(bytes: &[u8]) -> Result<Vec<SanEntry>, X509Error> {
    let mut names = Element::only(bytes)?.sequence()?;
    if names.is_finished() {
        return Err(X509Error::Empty {
            what: "subjectAltName",
        });
    }
    let mut entries = Vec::new();
    while !names.is_finished() {
        at_most("alternative names", entries.len() + 1, MAX_SAN_ENTRIES)?;
        entries.push(SanEntry::read(names.next()?)?);
    }
    Ok(entries)
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
