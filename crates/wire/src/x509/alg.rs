//! Signature algorithms: identifiers and the two forms of a signature.

use super::{
    X509Error, oid,
    walk::{Element, Flaw, wrap},
};
use alloc::vec::Vec;
use der::{
    Decode, Encode, Tag,
    asn1::{ObjectIdentifier, UintRef},
};

/// Signature algorithms Tegata issues and accepts in certificates, requests and CMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignatureAlg {
    /// ECDSA on P-256 with SHA-256.
    EcdsaSha256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaSha384,
    /// Ed25519.
    Ed25519,
}

impl SignatureAlg {
    /// The algorithm's object identifier.
    pub const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::EcdsaSha256 => oid::ECDSA_WITH_SHA256,
            Self::EcdsaSha384 => oid::ECDSA_WITH_SHA384,
            Self::Ed25519 => oid::ED25519,
        }
    }

    /// The algorithm of an object identifier, or `None` if it is not one of ours.
    pub fn from_oid(oid: &ObjectIdentifier) -> Option<Self> {
        [Self::EcdsaSha256, Self::EcdsaSha384, Self::Ed25519]
            .into_iter()
            .find(|a| a.oid() == *oid)
    }

    /// Length of the raw form of a signature (r‖s, or the 64 bytes of Ed25519), in bytes.
    pub const fn raw_len(self) -> usize {
        match self {
            Self::EcdsaSha256 | Self::Ed25519 => 64,
            Self::EcdsaSha384 => 96,
        }
    }

    /// AlgorithmIdentifier, always without parameters.
    ///
    /// Spec: RFC 5758 section 3.2, RFC 8410 section 3.
    pub const fn identifier(self) -> spki::AlgorithmIdentifierOwned {
        spki::AlgorithmIdentifierOwned {
            oid: self.oid(),
            parameters: None,
        }
    }

    /// The algorithm of an AlgorithmIdentifier.
    ///
    /// Parameters must be absent, as the standards require.
    pub fn from_identifier(id: &spki::AlgorithmIdentifierOwned) -> Option<Self> {
        if id.parameters.is_some() {
            None
        } else {
            Self::from_oid(&id.oid)
        }
    }

    /// Turns a raw signature into the octets of the signature BIT STRING.
    ///
    /// # Errors
    /// [`X509Error::SignatureForm`] if `raw` has the wrong length.
    pub fn signature_to_bits(self, raw: &[u8]) -> Result<Vec<u8>, X509Error> {
        if raw.len() != self.raw_len() {
            return Err(X509Error::SignatureForm);
        }
        match self {
            Self::EcdsaSha256 | Self::EcdsaSha384 => ecdsa_to_der(raw),
            Self::Ed25519 => Ok(raw.to_vec()),
        }
    }

    /// Turns the octets of a signature BIT STRING into a raw signature.
    ///
    /// # Errors
    /// [`X509Error::SignatureForm`] if the octets are not a signature of this algorithm.
    pub fn signature_from_bits(self, bits: &[u8]) -> Result<Vec<u8>, X509Error> {
        match self {
            Self::EcdsaSha256 | Self::EcdsaSha384 => ecdsa_from_der(bits, self.raw_len() / 2),
            Self::Ed25519 if bits.len() == self.raw_len() => Ok(bits.to_vec()),
            Self::Ed25519 => Err(X509Error::SignatureForm),
        }
    }
}

/// Turns r‖s, each of half the length, into the DER of ECDSA-Sig-Value.
///
/// Spec: RFC 3279 section 2.2.3.
///
/// # Errors
/// [`X509Error::SignatureForm`] if `raw` is empty or of odd length.
pub fn ecdsa_to_der(raw: &[u8]) -> Result<Vec<u8>, X509Error> {
    if raw.is_empty() || !raw.len().is_multiple_of(2) {
        return Err(X509Error::SignatureForm);
    }
    let (r, s) = raw.split_at(raw.len() / 2);
    let mut numbers = Vec::new();
    for number in [r, s] {
        UintRef::new(number)?.encode_to_vec(&mut numbers)?;
    }
    Ok(wrap(Tag::Sequence, &numbers)?)
}

/// Turns the DER of ECDSA-Sig-Value into r‖s, each `field_len` bytes.
///
/// # Errors
/// [`X509Error::SignatureForm`] if the bytes are not DER, or a number is negative or too long.
pub fn ecdsa_from_der(bytes: &[u8], field_len: usize) -> Result<Vec<u8>, X509Error> {
    let read = || -> Result<[&[u8]; 2], Flaw> {
        let mut walk = Element::only(bytes)?.sequence()?;
        let r = UintRef::from_der(walk.next()?.der)?.as_bytes();
        let s = UintRef::from_der(walk.next()?.der)?.as_bytes();
        walk.finish()?;
        Ok([r, s])
    };
    let numbers = read().map_err(|_| X509Error::SignatureForm)?;
    let mut raw = Vec::with_capacity(field_len.saturating_mul(2));
    for number in numbers {
        let pad = field_len
            .checked_sub(number.len())
            .ok_or(X509Error::SignatureForm)?;
        raw.resize(raw.len() + pad, 0);
        raw.extend_from_slice(number);
    }
    Ok(raw)
}
