//! Distinguished names, built attribute by attribute and kept as bytes.
//!
//! Names are compared byte for byte: an issuer name is copied from the CA certificate, never
//! encoded a second time.

use super::{
    MAX_NAME_BYTES, MAX_RDNS, RawDer, X509Error, at_most,
    walk::{Element, Flaw, Walk, put, put_oid, put_sequence, wrap},
};
use alloc::{string::String, vec::Vec};
use der::{Decode, Tag, asn1::ObjectIdentifier};
use x509_cert::name::Name;

/// Which string type an attribute value takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextForm {
    /// PrintableString only.
    Printable,
    /// PrintableString where the characters allow it, else UTF8String.
    Directory,
    /// IA5String only.
    Ia5,
}

/// One row of the attribute table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributeSpec {
    /// Short name as in RFC 4514, for example `CN`.
    pub short: &'static str,
    /// Long name, for example `commonName`.
    pub long: &'static str,
    /// Its object identifier.
    pub oid: ObjectIdentifier,
    /// String type of its value.
    pub form: TextForm,
    /// Most characters in a value.
    pub max_chars: usize,
}

/// Makes a table row.
const fn row(
    short: &'static str,
    long: &'static str,
    oid: &str,
    form: TextForm,
    max_chars: usize,
) -> AttributeSpec {
    AttributeSpec {
        short,
        long,
        oid: ObjectIdentifier::new_unwrap(oid),
        form,
        max_chars,
    }
}

/// The attributes a subject template may use, with the upper bounds of RFC 5280 appendix A.1.
const ATTRIBUTES: &[AttributeSpec] = &[
    row("CN", "commonName", "2.5.4.3", TextForm::Directory, 64),
    row("SN", "surname", "2.5.4.4", TextForm::Directory, 40),
    row(
        "serialNumber",
        "serialNumber",
        "2.5.4.5",
        TextForm::Printable,
        64,
    ),
    row("C", "countryName", "2.5.4.6", TextForm::Printable, 2),
    row("L", "localityName", "2.5.4.7", TextForm::Directory, 128),
    row(
        "ST",
        "stateOrProvinceName",
        "2.5.4.8",
        TextForm::Directory,
        128,
    ),
    row(
        "street",
        "streetAddress",
        "2.5.4.9",
        TextForm::Directory,
        128,
    ),
    row("O", "organizationName", "2.5.4.10", TextForm::Directory, 64),
    row(
        "OU",
        "organizationalUnitName",
        "2.5.4.11",
        TextForm::Directory,
        64,
    ),
    row("title", "title", "2.5.4.12", TextForm::Directory, 64),
    row(
        "postalCode",
        "postalCode",
        "2.5.4.17",
        TextForm::Directory,
        40,
    ),
    row("name", "name", "2.5.4.41", TextForm::Directory, 64),
    row("GN", "givenName", "2.5.4.42", TextForm::Directory, 40),
    row(
        "dnQualifier",
        "dnQualifier",
        "2.5.4.46",
        TextForm::Printable,
        64,
    ),
    row(
        "pseudonym",
        "pseudonym",
        "2.5.4.65",
        TextForm::Directory,
        128,
    ),
    row(
        "organizationIdentifier",
        "organizationIdentifier",
        "2.5.4.97",
        TextForm::Directory,
        128,
    ),
    row(
        "UID",
        "userId",
        "0.9.2342.19200300.100.1.1",
        TextForm::Directory,
        256,
    ),
    row(
        "DC",
        "domainComponent",
        "0.9.2342.19200300.100.1.25",
        TextForm::Ia5,
        63,
    ),
    row(
        "emailAddress",
        "emailAddress",
        "1.2.840.113549.1.9.1",
        TextForm::Ia5,
        255,
    ),
];

impl AttributeSpec {
    /// The row of a short or long name, case-insensitive; `None` if the table has no such name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        ATTRIBUTES
            .iter()
            .find(|a| a.short.eq_ignore_ascii_case(name) || a.long.eq_ignore_ascii_case(name))
    }

    /// The row of an object identifier.
    pub fn by_oid(oid: &ObjectIdentifier) -> Option<&'static Self> {
        ATTRIBUTES.iter().find(|a| a.oid == *oid)
    }

    /// The string type that `text` takes as this attribute's value.
    ///
    /// # Errors
    /// If `text` is empty, too long, or has characters its string type forbids.
    fn tag_of(&self, text: &str) -> Result<Tag, X509Error> {
        if text.is_empty() {
            return Err(X509Error::Empty { what: self.long });
        }
        at_most(self.long, text.chars().count(), self.max_chars)?;
        if text.chars().any(char::is_control) {
            return Err(X509Error::Text { what: self.long });
        }
        let printable = text.bytes().all(is_printable);
        let tag = match self.form {
            TextForm::Printable | TextForm::Directory if printable => Tag::PrintableString,
            TextForm::Directory => Tag::Utf8String,
            TextForm::Ia5 if text.is_ascii() => Tag::Ia5String,
            TextForm::Printable | TextForm::Ia5 => return Err(X509Error::Text { what: self.long }),
        };
        if self.max_chars == 2 && text.len() != 2 {
            return Err(X509Error::TooSmall {
                what: self.long,
                got: text.len(),
                min: 2,
            });
        }
        Ok(tag)
    }
}

/// Whether a byte is in the PrintableString alphabet. Spec: X.680 section 41.4.
fn is_printable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte)
}

/// One attribute of a parsed name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributeValue<'a> {
    /// Attribute type.
    pub oid: ObjectIdentifier,
    /// String type of the value.
    pub tag: Tag,
    /// Contents of the value, without tag and length.
    pub bytes: &'a [u8],
}

impl<'a> AttributeValue<'a> {
    /// The value as text, if it is a PrintableString, UTF8String or IA5String.
    pub fn text(&self) -> Option<&'a str> {
        match self.tag {
            Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => {
                core::str::from_utf8(self.bytes).ok()
            }
            _ => None,
        }
    }
}

/// A distinguished name as its DER bytes.
///
/// Two names are equal when their bytes are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DistinguishedName {
    /// The DER of Name.
    der: Vec<u8>,
}

impl DistinguishedName {
    /// The empty name: a SEQUENCE without elements (`NULL-DN` of CMP).
    pub fn empty() -> Self {
        Self {
            der: alloc::vec![0x30, 0x00],
        }
    }

    /// Checks and keeps the DER of a Name.
    ///
    /// # Errors
    /// If the bytes are not a Name, or exceed [`MAX_NAME_BYTES`] or [`MAX_RDNS`].
    pub fn from_der(bytes: &[u8]) -> Result<Self, X509Error> {
        at_most("distinguished name", bytes.len(), MAX_NAME_BYTES)?;
        let name = Self {
            der: bytes.to_vec(),
        };
        name.attributes()?;
        Ok(name)
    }

    /// The DER of the name.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The name as one DER element.
    pub fn to_raw(&self) -> der::Result<RawDer> {
        RawDer::from_bytes(&self.der)
    }

    /// The name as the type used inside GeneralName.
    pub fn to_name(&self) -> der::Result<Name> {
        Name::from_der(&self.der)
    }

    /// Whether the name has no attribute.
    pub fn is_empty(&self) -> bool {
        self.der == [0x30, 0x00]
    }

    /// Every attribute in the order of the bytes.
    ///
    /// # Errors
    /// If the bytes are not a Name; cannot happen for a value made by [`Self::from_der`].
    pub fn attributes(&self) -> Result<Vec<AttributeValue<'_>>, X509Error> {
        let mut sets = Element::only(&self.der)?.sequence()?;
        let mut found = Vec::new();
        let mut count = 0usize;
        while !sets.is_finished() {
            count += 1;
            at_most("relative distinguished names", count, MAX_RDNS)?;
            let mut pairs = Walk::new(sets.next()?.expect(Tag::Set)?);
            if pairs.is_finished() {
                return Err(X509Error::Empty {
                    what: "relative distinguished name",
                });
            }
            while !pairs.is_finished() {
                found.push(attribute(pairs.next()?)?);
            }
        }
        Ok(found)
    }

    /// Whether every set of attributes is in the order of DER.
    ///
    /// Names are taken as they come, and some issuers do not sort; this is for where it matters.
    pub(super) fn is_sorted(&self) -> Result<bool, X509Error> {
        let mut sets = Element::only(&self.der)?.sequence()?;
        while !sets.is_finished() {
            let mut pairs = Walk::new(sets.next()?.expect(Tag::Set)?);
            let mut last: &[u8] = &[];
            while !pairs.is_finished() {
                let pair = pairs.next()?.der;
                if last >= pair {
                    return Ok(false);
                }
                last = pair;
            }
        }
        Ok(true)
    }

    /// The text of the first attribute of a type, if there is one and it is text.
    pub fn text(&self, oid: &ObjectIdentifier) -> Option<String> {
        let attributes = self.attributes().ok()?;
        attributes
            .iter()
            .find(|a| a.oid == *oid)
            .and_then(|a| a.text())
            .map(String::from)
    }

    /// The name for people, first attribute first: `C=JP, O=…, CN=…`.
    ///
    /// For display only: not RFC 4514, and never to be compared.
    pub fn to_display(&self) -> String {
        use core::fmt::Write;
        let mut out = String::new();
        for attribute in self.attributes().unwrap_or_default() {
            if !out.is_empty() {
                out.push_str(", ");
            }
            // Writing to a String cannot fail.
            let _ = match AttributeSpec::by_oid(&attribute.oid) {
                Some(spec) => write!(out, "{}=", spec.short),
                None => write!(out, "{}=", attribute.oid),
            };
            match attribute.text() {
                Some(text) => {
                    for c in text.chars() {
                        if matches!(c, ',' | '=' | '\\') || c.is_control() {
                            let _ = write!(out, "\\{:02x}", u32::from(c));
                        } else {
                            out.push(c);
                        }
                    }
                }
                None => {
                    let _ = write!(out, "#{}", hex::encode(attribute.bytes));
                }
            }
        }
        out
    }
}

impl core::fmt::Debug for DistinguishedName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "DistinguishedName({})", hex::encode(&self.der))
    }
}

/// Reads one AttributeTypeAndValue.
fn attribute(pair: Element<'_>) -> Result<AttributeValue<'_>, Flaw> {
    let mut walk = pair.sequence()?;
    let oid = walk.next()?.oid()?;
    let value = walk.next()?;
    walk.finish()?;
    Ok(AttributeValue {
        oid,
        tag: value.tag,
        bytes: value.value,
    })
}

/// Builds a name, one attribute per relative distinguished name.
#[derive(Debug, Default)]
pub struct NameBuilder {
    /// DER of the relative distinguished names so far, in order.
    rdns: Vec<u8>,
    /// Their number.
    count: usize,
}

impl NameBuilder {
    /// An empty name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one attribute.
    ///
    /// # Errors
    /// If the text is empty, too long for the attribute, or has characters it forbids; or there
    /// are [`MAX_RDNS`] attributes already.
    pub fn push(mut self, spec: &AttributeSpec, text: &str) -> Result<Self, X509Error> {
        self.count += 1;
        at_most("relative distinguished names", self.count, MAX_RDNS)?;
        let tag = spec.tag_of(text)?;
        self.append(&spec.oid, tag, text.as_bytes())?;
        Ok(self)
    }

    /// Appends a set of one attribute.
    fn append(&mut self, oid: &ObjectIdentifier, tag: Tag, value: &[u8]) -> Result<(), Flaw> {
        let mut pair = Vec::new();
        put_oid(&mut pair, oid)?;
        put(&mut pair, tag, value)?;
        let mut set = Vec::new();
        put_sequence(&mut set, &pair)?;
        put(&mut self.rdns, Tag::Set, &set)
    }

    /// The name.
    ///
    /// # Errors
    /// If it exceeds [`MAX_NAME_BYTES`].
    pub fn build(self) -> Result<DistinguishedName, X509Error> {
        let der = wrap(Tag::Sequence, &self.rdns)?;
        at_most("distinguished name", der.len(), MAX_NAME_BYTES)?;
        Ok(DistinguishedName { der })
    }
}
