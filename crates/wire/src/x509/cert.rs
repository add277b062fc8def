//! Building certificates: the bytes to sign, and the signature put on them.
//!
//! Spec: RFC 5280 section 4.1.

use super::{
    DistinguishedName, Extension, ExtensionSet, MAX_CERT_BYTES, SignatureAlg, X509Error, at_most,
    csr::assemble,
};
use alloc::vec::Vec;
use core::time::Duration;
use der::{
    DateTime, Decode, Encode, Sequence,
    asn1::{AnyRef, GeneralizedTime, UintRef, UtcTime},
};
use x509_cert::time::Time;

/// Most octets in a serial number. Spec: RFC 5280 section 4.1.2.2.
pub const MAX_SERIAL_BYTES: usize = 20;

/// First second of 2050, from which times are GeneralizedTime. Spec: RFC 5280 section 4.1.2.5.
const YEAR_2050: u64 = 2_524_608_000;

/// A certificate's serial number: positive, at most 20 octets encoded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialNumber {
    /// Big-endian magnitude, without leading zeros.
    bytes: Vec<u8>,
}

impl SerialNumber {
    /// Takes a big-endian magnitude; leading zeros are dropped.
    ///
    /// # Errors
    /// If it is zero, or its INTEGER would exceed [`MAX_SERIAL_BYTES`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, X509Error> {
        let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
        let bytes = bytes.get(start..).unwrap_or_default();
        let Some(first) = bytes.first() else {
            return Err(X509Error::Empty {
                what: "serial number",
            });
        };
        let encoded = bytes.len() + usize::from(*first >= 0x80);
        at_most("serial number", encoded, MAX_SERIAL_BYTES)?;
        Ok(Self {
            bytes: bytes.to_vec(),
        })
    }

    /// A serial number of 17 octets: 0x01, then 16 random ones.
    ///
    /// The leading octet keeps the number positive and its length constant without taking a bit
    /// of the random part away.
    pub fn from_random(random: &[u8; 16]) -> Self {
        let mut bytes = Vec::with_capacity(17);
        bytes.push(0x01);
        bytes.extend_from_slice(random);
        Self { bytes }
    }

    /// The magnitude, big-endian, without leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl core::fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&hex::encode(&self.bytes))
    }
}

/// When a certificate is valid, in seconds since 1970 (UTC), both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second of validity.
    pub not_before_secs: u64,
    /// Last second of validity; `None` writes 99991231235959Z, "no well-defined expiration date".
    pub not_after_secs: Option<u64>,
}

/// Validity on the wire.
#[derive(Sequence)]
struct ValiditySeq {
    /// notBefore.
    not_before: Time,
    /// notAfter.
    not_after: Time,
}

/// UTCTime until 2049, GeneralizedTime from 2050. Spec: RFC 5280 section 4.1.2.5.
pub(super) fn time(unix_secs: u64) -> Result<Time, X509Error> {
    let at = DateTime::from_unix_duration(Duration::from_secs(unix_secs))
        .map_err(|_| X509Error::Validity)?;
    Ok(if unix_secs < YEAR_2050 {
        Time::UtcTime(UtcTime::from_date_time(at).map_err(|_| X509Error::Validity)?)
    } else {
        Time::GeneralTime(GeneralizedTime::from_date_time(at))
    })
}

impl Validity {
    /// The structure to encode.
    fn to_seq(self) -> Result<ValiditySeq, X509Error> {
        let not_before = time(self.not_before_secs)?;
        let not_after = match self.not_after_secs {
            None => Time::INFINITY,
            Some(end) if end > self.not_before_secs => time(end)?,
            Some(_) => return Err(X509Error::Validity),
        };
        Ok(ValiditySeq {
            not_before,
            not_after,
        })
    }
}

/// TBSCertificate, version 3.
#[derive(Sequence)]
struct Tbs<'a> {
    /// v3 (2).
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: u8,
    /// Serial number.
    serial: UintRef<'a>,
    /// Algorithm of the signature to come.
    signature: spki::AlgorithmIdentifierOwned,
    /// Issuer name.
    issuer: AnyRef<'a>,
    /// Validity.
    validity: ValiditySeq,
    /// Subject name.
    subject: AnyRef<'a>,
    /// Public key.
    spki: AnyRef<'a>,
    /// Extensions.
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Vec<x509_cert::ext::Extension>>,
}

/// Everything a certificate says. Root, issuing and device certificates are all built with it.
#[derive(Debug, Clone)]
pub struct CertBuilder {
    /// Serial number, unique for the issuer.
    pub serial: SerialNumber,
    /// Algorithm of the issuer's key.
    pub signature_alg: SignatureAlg,
    /// The issuer's subject, byte for byte.
    pub issuer: DistinguishedName,
    /// Validity period.
    pub validity: Validity,
    /// Subject; if empty, there must be a critical subjectAltName.
    pub subject: DistinguishedName,
    /// DER of the subject's SubjectPublicKeyInfo.
    pub spki_der: Vec<u8>,
    /// Extensions in order.
    pub extensions: ExtensionSet,
}

impl CertBuilder {
    /// The bytes to sign: DER of TBSCertificate.
    ///
    /// # Errors
    /// If the issuer is empty, the subject is empty without a critical subjectAltName, the
    /// validity is no period, or the result exceeds [`MAX_CERT_BYTES`].
    ///
    /// Spec: RFC 5280 sections 4.1.2.4, 4.1.2.6, 4.2.1.6.
    pub fn to_tbs(&self) -> Result<Vec<u8>, X509Error> {
        if self.issuer.is_empty() {
            return Err(X509Error::Empty { what: "issuer" });
        }
        let san = self.extensions.find(&super::oid::SUBJECT_ALT_NAME);
        if self.subject.is_empty() && !san.is_some_and(|e| e.critical) {
            return Err(X509Error::Empty { what: "subject" });
        }
        spki::SubjectPublicKeyInfoRef::from_der(&self.spki_der)?;
        let list = self.extensions.as_slice();
        let extensions = if list.is_empty() {
            None
        } else {
            Some(
                list.iter()
                    .map(Extension::to_x509)
                    .collect::<Result<Vec<_>, _>>()?,
            )
        };
        let tbs = Tbs {
            version: 2,
            serial: UintRef::new(self.serial.as_bytes())?,
            signature: self.signature_alg.identifier(),
            issuer: AnyRef::from_der(self.issuer.as_der())?,
            validity: self.validity.to_seq()?,
            subject: AnyRef::from_der(self.subject.as_der())?,
            spki: AnyRef::from_der(&self.spki_der)?,
            extensions,
        }
        .to_der()?;
        at_most("certificate", tbs.len(), MAX_CERT_BYTES)?;
        Ok(tbs)
    }
}

/// Puts a raw signature (r‖s or Ed25519) on the bytes of [`CertBuilder::to_tbs`].
///
/// # Errors
/// If the signature has the wrong length for `alg`, or `tbs` is not DER.
pub fn assemble_certificate(
    tbs: &[u8],
    alg: SignatureAlg,
    raw_signature: &[u8],
) -> Result<Vec<u8>, X509Error> {
    assemble(tbs, alg, raw_signature)
}
