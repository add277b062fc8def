//! Reading a certificate without copying it.
//!
//! Small on purpose: the enrolment TA links it. It borrows from the bytes and decodes extension
//! values only when asked.
//!
//! Spec: RFC 5280 section 4.1.

use super::{
    DistinguishedName, MAX_CERT_BYTES, MAX_EXTENSIONS, MAX_NAME_BYTES, MAX_SERIAL_BYTES, SanEntry,
    SignatureAlg, X509Error, at_most, decode_san, oid,
    walk::{Element, Flaw, Walk, primitive},
};
use alloc::vec::Vec;
use der::{
    Decode, Sequence, Tag,
    asn1::{
        AnyRef, BitStringRef, GeneralizedTime, IntRef, ObjectIdentifier, OctetStringRef, UtcTime,
    },
};

/// One extension, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtensionView<'a> {
    /// Its type.
    pub oid: ObjectIdentifier,
    /// Whether who does not know it must refuse the certificate.
    pub critical: bool,
    /// DER of its value.
    pub value: &'a [u8],
}

/// basicConstraints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Sequence)]
pub struct BasicConstraints {
    /// Whether the subject is a CA.
    #[asn1(default = "Default::default")]
    pub ca: bool,
    /// Most intermediate certificates that may follow.
    pub path_len: Option<u8>,
}

/// authorityKeyIdentifier: only the key identifier is read.
#[derive(Sequence)]
struct AuthorityKeyId<'a> {
    /// keyIdentifier.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    key_id: Option<&'a OctetStringRef>,
    /// authorityCertIssuer.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    _issuer: Option<Vec<AnyRef<'a>>>,
    /// authorityCertSerialNumber.
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    _serial: Option<IntRef<'a>>,
}

/// A certificate as a peer sent it: well-formed, nothing in it believed yet.
#[derive(Debug, Clone)]
pub struct CertView<'a> {
    /// The whole certificate.
    pub der: &'a [u8],
    /// The bytes signed: DER of TBSCertificate.
    pub tbs_der: &'a [u8],
    /// 1, 2 or 3.
    pub version: u8,
    /// Serial number: contents of the INTEGER, big-endian two's complement.
    pub serial: &'a [u8],
    /// DER of the issuer name.
    pub issuer_der: &'a [u8],
    /// First second of validity since 1970.
    pub not_before_secs: u64,
    /// Last second of validity since 1970.
    pub not_after_secs: u64,
    /// DER of the subject name.
    pub subject_der: &'a [u8],
    /// DER of SubjectPublicKeyInfo.
    pub spki_der: &'a [u8],
    /// Extensions in order, each type once.
    pub extensions: Vec<ExtensionView<'a>>,
    /// DER of the signature's AlgorithmIdentifier, equal inside and outside.
    pub signature_algorithm_der: &'a [u8],
    /// Octets of the signature BIT STRING.
    pub signature: &'a [u8],
}

impl<'a> CertView<'a> {
    /// Reads a certificate.
    ///
    /// # Errors
    /// If the bytes are not a certificate in DER, exceed a limit, have an extension twice, or name
    /// different algorithms inside and outside the signed part.
    pub fn from_der(bytes: &'a [u8]) -> Result<Self, X509Error> {
        at_most("certificate", bytes.len(), MAX_CERT_BYTES)?;
        let mut outer = Element::only(bytes)?.sequence()?;
        let tbs = outer.next()?;
        let signature_algorithm_der = outer.next()?.der;
        let signature = outer
            .next()?
            .bit_octets()?
            .ok_or(X509Error::SignatureForm)?;
        outer.finish()?;
        algorithm(signature_algorithm_der)?;

        let mut walk = tbs.sequence()?;
        let version = match walk.explicit(0)? {
            None => 1,
            Some(number) => match u8::from_der(number.der) {
                Ok(v @ (1 | 2)) => v + 1,
                Ok(got) => return Err(X509Error::Version { got, expected: 2 }),
                Err(_) => return Err(Flaw.into()),
            },
        };
        let serial = integer(walk.next()?)?;
        // One octet of tolerance: some issuers count the 20 without the sign octet.
        at_most("serial number", serial.len(), MAX_SERIAL_BYTES + 1)?;
        if walk.next()?.der != signature_algorithm_der {
            return Err(X509Error::AlgorithmMismatch);
        }
        let issuer_der = name_bytes(walk.next()?)?;
        let mut validity = walk.next()?.sequence()?;
        let not_before_secs = time(validity.next()?)?;
        let not_after_secs = time(validity.next()?)?;
        validity.finish()?;
        let subject_der = name_bytes(walk.next()?)?;
        let spki_der = walk.next()?.der;
        public_key(spki_der)?;
        let extensions = read_tail(&mut walk, version)?;
        walk.finish()?;
        Ok(Self {
            der: bytes,
            tbs_der: tbs.der,
            version,
            serial,
            issuer_der,
            not_before_secs,
            not_after_secs,
            subject_der,
            spki_der,
            extensions,
            signature_algorithm_der,
            signature,
        })
    }

    /// The signature algorithm, if it is one of ours.
    pub fn signature_alg(&self) -> Option<SignatureAlg> {
        match algorithm(self.signature_algorithm_der) {
            Ok((oid, None)) => SignatureAlg::from_oid(&oid),
            _ => None,
        }
    }

    /// The signature in raw form (r‖s or Ed25519) with its algorithm.
    ///
    /// # Errors
    /// If the algorithm is not one of ours or the signature not of its form.
    pub fn raw_signature(&self) -> Result<(SignatureAlg, Vec<u8>), X509Error> {
        let alg = self.signature_alg().ok_or(X509Error::SignatureForm)?;
        Ok((alg, alg.signature_from_bits(self.signature)?))
    }

    /// Whether subject and issuer are the same bytes.
    pub fn is_self_issued(&self) -> bool {
        self.subject_der == self.issuer_der
    }

    /// The extension of a type.
    pub fn extension(&self, oid: &ObjectIdentifier) -> Option<&ExtensionView<'a>> {
        self.extensions.iter().find(|e| e.oid == *oid)
    }

    /// basicConstraints, if present.
    ///
    /// # Errors
    /// If its value is malformed.
    pub fn basic_constraints(&self) -> Result<Option<BasicConstraints>, X509Error> {
        let Some(extension) = self.extension(&oid::BASIC_CONSTRAINTS) else {
            return Ok(None);
        };
        Ok(Some(read_basic_constraints(extension.value)?))
    }

    /// keyUsage as bits of [`super::usage`], if present.
    ///
    /// # Errors
    /// If its value is malformed.
    pub fn key_usage(&self) -> Result<Option<u16>, X509Error> {
        let Some(bits) = self.decode_extension::<BitStringRef<'a>>(&oid::KEY_USAGE)? else {
            return Ok(None);
        };
        let mut usage = 0u16;
        for (position, bit) in bits.bits().enumerate() {
            match (position, bit) {
                (_, false) => {}
                (0..=8, true) => usage |= 1 << position,
                (_, true) => return Err(X509Error::Text { what: "keyUsage" }),
            }
        }
        Ok(Some(usage))
    }

    /// extKeyUsage; empty if absent.
    ///
    /// # Errors
    /// If its value is malformed.
    pub fn ext_key_usage(&self) -> Result<Vec<ObjectIdentifier>, X509Error> {
        let mut purposes = Vec::new();
        if let Some(extension) = self.extension(&oid::EXT_KEY_USAGE) {
            let mut walk = Element::only(extension.value)?.sequence()?;
            while !walk.is_finished() {
                purposes.push(walk.next()?.oid()?);
            }
        }
        Ok(purposes)
    }

    /// subjectKeyIdentifier, if present.
    ///
    /// # Errors
    /// If its value is malformed.
    pub fn subject_key_id(&self) -> Result<Option<&'a [u8]>, X509Error> {
        let id = self.decode_extension::<&'a OctetStringRef>(&oid::SUBJECT_KEY_IDENTIFIER)?;
        Ok(id.map(OctetStringRef::as_bytes))
    }

    /// keyIdentifier of authorityKeyIdentifier, if present.
    ///
    /// # Errors
    /// If its value is malformed.
    pub fn authority_key_id(&self) -> Result<Option<&'a [u8]>, X509Error> {
        let id = self.decode_extension::<AuthorityKeyId<'a>>(&oid::AUTHORITY_KEY_IDENTIFIER)?;
        Ok(id.and_then(|a| a.key_id).map(OctetStringRef::as_bytes))
    }

    /// Alternative names; empty if absent.
    ///
    /// # Errors
    /// If the extension's value is malformed or has names of unsupported kinds.
    pub fn san(&self) -> Result<Vec<SanEntry>, X509Error> {
        self.extension(&oid::SUBJECT_ALT_NAME)
            .map_or(Ok(Vec::new()), |e| decode_san(e.value))
    }

    /// The subject.
    ///
    /// # Errors
    /// If it is not a name within limits.
    pub fn subject(&self) -> Result<DistinguishedName, X509Error> {
        DistinguishedName::from_der(self.subject_der)
    }

    /// The issuer.
    ///
    /// # Errors
    /// If it is not a name within limits.
    pub fn issuer(&self) -> Result<DistinguishedName, X509Error> {
        DistinguishedName::from_der(self.issuer_der)
    }

    /// Decodes the value of an extension.
    fn decode_extension<T>(&self, oid: &ObjectIdentifier) -> Result<Option<T>, X509Error>
    where
        T: Decode<'a, Error = der::Error>,
    {
        match self.extension(oid) {
            Some(extension) => Ok(Some(T::from_der(extension.value)?)),
            None => Ok(None),
        }
    }
}

/// The bytes of a Name, checked for tag and size only.
fn name_bytes(element: Element<'_>) -> Result<&[u8], X509Error> {
    at_most("distinguished name", element.der.len(), MAX_NAME_BYTES)?;
    element.expect(Tag::Sequence)?;
    Ok(element.der)
}

/// Object identifier and parameters of an AlgorithmIdentifier.
fn algorithm(bytes: &[u8]) -> Result<(ObjectIdentifier, Option<Element<'_>>), Flaw> {
    let mut walk = Element::only(bytes)?.sequence()?;
    let oid = walk.next()?.oid()?;
    let parameters = if walk.is_finished() {
        None
    } else {
        Some(walk.next()?)
    };
    walk.finish()?;
    Ok((oid, parameters))
}

/// Checks the form of SubjectPublicKeyInfo.
fn public_key(bytes: &[u8]) -> Result<(), Flaw> {
    let mut walk = Element::only(bytes)?.sequence()?;
    algorithm(walk.next()?.der)?;
    walk.next()?.bit_octets()?;
    walk.finish()
}

/// The contents of an INTEGER.
fn integer(element: Element<'_>) -> Result<&[u8], Flaw> {
    Ok(IntRef::from_der(element.der)?.as_bytes())
}

/// A Time in seconds since 1970.
fn time(element: Element<'_>) -> Result<u64, Flaw> {
    let duration = if element.tag == Tag::UtcTime {
        UtcTime::from_der(element.der)?.to_unix_duration()
    } else {
        GeneralizedTime::from_der(element.der)?.to_unix_duration()
    };
    Ok(duration.as_secs())
}

/// A BOOLEAN DEFAULT FALSE, if one comes next.
fn boolean(walk: &mut Walk<'_>) -> Result<bool, Flaw> {
    match walk.optional(Tag::Boolean)? {
        Some(element) => Ok(bool::from_der(element.der)?),
        None => Ok(false),
    }
}

/// Reads the value of basicConstraints.
fn read_basic_constraints(bytes: &[u8]) -> Result<BasicConstraints, Flaw> {
    let mut walk = Element::only(bytes)?.sequence()?;
    let ca = boolean(&mut walk)?;
    let path_len = match walk.optional(Tag::Integer)? {
        Some(element) => Some(u8::from_der(element.der)?),
        None => None,
    };
    walk.finish()?;
    Ok(BasicConstraints { ca, path_len })
}

/// Reads one extension.
fn extension<'a>(element: Element<'a>) -> Result<ExtensionView<'a>, Flaw> {
    let mut walk = element.sequence()?;
    let oid = walk.next()?.oid()?;
    let critical = boolean(&mut walk)?;
    let value = walk.next()?.expect(Tag::OctetString)?;
    walk.finish()?;
    Ok(ExtensionView {
        oid,
        critical,
        value,
    })
}

/// Steps over the unique identifiers `[1]` and `[2]`, which are IMPLICIT BIT STRINGs.
fn skip_unique_ids(walk: &mut Walk<'_>) -> Result<(), Flaw> {
    for number in [1, 2] {
        if let Some(id) = walk.optional(primitive(number))? {
            let (unused, octets) = id.value.split_first().ok_or(Flaw)?;
            BitStringRef::new(*unused, octets)?;
        }
    }
    Ok(())
}

/// Reads what may follow the public key: unique identifiers (skipped) and extensions.
fn read_tail<'a>(walk: &mut Walk<'a>, version: u8) -> Result<Vec<ExtensionView<'a>>, X509Error> {
    skip_unique_ids(walk)?;
    let mut found: Vec<ExtensionView<'a>> = Vec::new();
    let Some(list) = walk.explicit(3)? else {
        return Ok(found);
    };
    if version != 3 {
        return Err(X509Error::Version {
            got: version,
            expected: 3,
        });
    }
    let mut items = list.sequence()?;
    while !items.is_finished() {
        at_most("extensions", found.len() + 1, MAX_EXTENSIONS)?;
        let item = extension(items.next()?)?;
        if found.iter().any(|e| e.oid == item.oid) {
            return Err(X509Error::Duplicate { oid: item.oid });
        }
        found.push(item);
    }
    Ok(found)
}
