//! Reading a certificate without copying it.
//!
//! Small on purpose: the enrolment TA links it. It borrows from the bytes and decodes extension
//! values only when asked.
//!
//! Spec: RFC 5280 section 4.1.

use super::{
    DistinguishedName, MAX_CERT_BYTES, MAX_EXTENSIONS, MAX_NAME_BYTES, MAX_SERIAL_BYTES, SanEntry,
    SignatureAlg, X509Error, at_most, decode_san, oid,
};
use alloc::vec::Vec;
use der::{
    Decode, Reader, Sequence, SliceReader, Tag, TagNumber, Tagged,
    asn1::{AnyRef, BitStringRef, ContextSpecific, IntRef, ObjectIdentifier, OctetStringRef},
};
use x509_cert::time::Time;

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

/// Extension on the wire.
#[derive(Sequence)]
struct ExtensionSeq<'a> {
    /// extnID.
    oid: ObjectIdentifier,
    /// critical.
    #[asn1(default = "Default::default")]
    critical: bool,
    /// extnValue.
    value: &'a OctetStringRef,
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

/// Validity on the wire.
#[derive(Sequence)]
struct ValiditySeq {
    /// notBefore.
    not_before: Time,
    /// notAfter.
    not_after: Time,
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
        let outer = AnyRef::from_der(bytes)?;
        outer.tag().assert_eq(Tag::Sequence)?;
        let mut reader = SliceReader::new(outer.value())?;
        let tbs_der = reader.tlv_bytes()?;
        let signature_algorithm_der = reader.tlv_bytes()?;
        spki::AlgorithmIdentifierRef::from_der(signature_algorithm_der)?;
        let signature = BitStringRef::decode(&mut reader)?
            .as_bytes()
            .ok_or(X509Error::SignatureForm)?;
        reader.finish()?;

        let tbs = AnyRef::from_der(tbs_der)?;
        tbs.tag().assert_eq(Tag::Sequence)?;
        let mut r = SliceReader::new(tbs.value())?;
        let version = match r.context_specific::<u8>(TagNumber(0), der::TagMode::Explicit)? {
            None => 1,
            Some(v @ (1 | 2)) => v + 1,
            Some(got) => return Err(X509Error::Version { got, expected: 2 }),
        };
        let serial = IntRef::decode(&mut r)?.as_bytes();
        // One octet of tolerance: some issuers count the 20 without the sign octet.
        at_most("serial number", serial.len(), MAX_SERIAL_BYTES + 1)?;
        if r.tlv_bytes()? != signature_algorithm_der {
            return Err(X509Error::AlgorithmMismatch);
        }
        let issuer_der = name_bytes(&mut r)?;
        let validity = ValiditySeq::decode(&mut r)?;
        let subject_der = name_bytes(&mut r)?;
        let spki_der = r.tlv_bytes()?;
        spki::SubjectPublicKeyInfoRef::from_der(spki_der)?;
        let extensions = if r.is_finished() {
            Vec::new()
        } else {
            read_tail(&mut r, version)?
        };
        r.finish()?;
        Ok(Self {
            der: bytes,
            tbs_der,
            version,
            serial,
            issuer_der,
            not_before_secs: validity.not_before.to_unix_duration().as_secs(),
            not_after_secs: validity.not_after.to_unix_duration().as_secs(),
            subject_der,
            spki_der,
            extensions,
            signature_algorithm_der,
            signature,
        })
    }

    /// The signature algorithm, if it is one of ours.
    pub fn signature_alg(&self) -> Option<SignatureAlg> {
        let id = spki::AlgorithmIdentifierRef::from_der(self.signature_algorithm_der).ok()?;
        if id.parameters.is_some() {
            None
        } else {
            SignatureAlg::from_oid(&id.oid)
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
        self.decode_extension(&oid::BASIC_CONSTRAINTS)
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
        Ok(self
            .decode_extension(&oid::EXT_KEY_USAGE)?
            .unwrap_or_default())
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
fn name_bytes<'a>(reader: &mut SliceReader<'a>) -> Result<&'a [u8], X509Error> {
    let bytes = reader.tlv_bytes()?;
    at_most("distinguished name", bytes.len(), MAX_NAME_BYTES)?;
    AnyRef::from_der(bytes)?.tag().assert_eq(Tag::Sequence)?;
    Ok(bytes)
}

/// Reads what may follow the public key: unique identifiers (skipped) and extensions.
fn read_tail<'a>(
    reader: &mut SliceReader<'a>,
    version: u8,
) -> Result<Vec<ExtensionView<'a>>, X509Error> {
    for number in [1, 2] {
        reader.context_specific::<BitStringRef<'a>>(TagNumber(number), der::TagMode::Implicit)?;
    }
    let list = ContextSpecific::<AnyRef<'a>>::decode_explicit(reader, TagNumber(3))?;
    let Some(list) = list.map(|field| field.value) else {
        return Ok(Vec::new());
    };
    if version != 3 {
        return Err(X509Error::Version {
            got: version,
            expected: 3,
        });
    }
    list.tag().assert_eq(Tag::Sequence)?;
    let mut items = SliceReader::new(list.value())?;
    let mut found: Vec<ExtensionView<'a>> = Vec::new();
    while !items.is_finished() {
        at_most("extensions", found.len() + 1, MAX_EXTENSIONS)?;
        let item = ExtensionSeq::decode(&mut items)?;
        if found.iter().any(|e| e.oid == item.oid) {
            return Err(X509Error::Duplicate { oid: item.oid });
        }
        let value = item.value.as_bytes();
        found.push(ExtensionView {
            oid: item.oid,
            critical: item.critical,
            value,
        });
    }
    Ok(found)
}
