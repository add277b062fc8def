//! A key as PKCS#11 sees it: curve, public point, what it may do, and the check of its signatures.

use der::asn1::{ObjectIdentifier, OctetStringRef};
use der::{Decode, Encode};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use sha2::{Digest, Sha256};
use spki::SubjectPublicKeyInfoRef;
use tegata_wire::x509::{CertView, usage};

use crate::rv::{Result, rv};

/// The curves there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    P256,
    P384,
    Ed25519,
}

impl Kind {
    /// Length of a coordinate and of half a signature, in bytes.
    pub(crate) const fn field_len(self) -> usize {
        match self {
            Self::P256 | Self::Ed25519 => 32,
            Self::P384 => 48,
        }
    }

    /// Length of a signature, in bytes.
    pub(crate) const fn signature_len(self) -> usize {
        self.field_len() * 2
    }

    /// `CKA_EC_PARAMS`: the name of the curve. Spec: PKCS #11 3.1 sections 6.3.3 and 6.3.5.
    pub(crate) fn ec_params(self) -> Result<Vec<u8>> {
        let der = match self {
            Self::P256 => P256.to_der(),
            Self::P384 => P384.to_der(),
            Self::Ed25519 => {
                der::asn1::PrintableStringRef::new("edwards25519").and_then(|name| name.to_der())
            }
        };
        der.map_err(|_| rv!(CKR_GENERAL_ERROR))
    }

    /// True if an uncompressed point has this form.
    pub(crate) fn is_point(self, bytes: &[u8]) -> bool {
        self != Self::Ed25519
            && bytes.len() == 1 + 2 * self.field_len()
            && bytes.first() == Some(&4)
    }
}

/// One key pair, whose private part is in the TEE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The caller's name for it; after a renewal it names another key.
    pub label: String,
    /// SHA-256 of `spki_der`: names this key for ever.
    pub digest: [u8; 32],
    /// DER of SubjectPublicKeyInfo.
    pub spki_der: Vec<u8>,
    /// Curve.
    pub kind: Kind,
    /// The public key's octets: an uncompressed SEC1 point, or 32 bytes.
    pub point: Vec<u8>,
    /// The certificate lets it sign.
    pub signs: bool,
    /// The certificate lets it agree on keys.
    pub derives: bool,
}

impl Key {
    /// The key of a certificate; `None` for a curve that is not known here.
    pub(crate) fn of(label: &str, cert: &CertView<'_>) -> Option<Self> {
        let spki = SubjectPublicKeyInfoRef::from_der(cert.spki_der).ok()?;
        let kind = if spki.algorithm.oid == ED25519 {
            Kind::Ed25519
        } else {
            match spki.algorithm.parameters_oid().ok()? {
                P256 => Kind::P256,
                P384 => Kind::P384,
                _ => return None,
            }
        };
        let point = spki.subject_public_key.as_bytes()?.to_vec();
        let fits = match kind {
            Kind::Ed25519 => point.len() == 32,
            _ => kind.is_point(&point),
        };
        if !fits {
            return None;
        }
        let usages = cert.key_usage().ok()?.unwrap_or(usage::ALL);
        Some(Self {
            label: label.into(),
            digest: Sha256::digest(cert.spki_der).into(),
            spki_der: cert.spki_der.to_vec(),
            kind,
            point,
            signs: usages & (usage::DIGITAL_SIGNATURE | usage::NON_REPUDIATION) != 0,
            derives: kind != Kind::Ed25519 && usages & usage::KEY_AGREEMENT != 0,
        })
    }

    /// `CKA_ID`: the same for key pair and certificate, another one after a renewal.
    pub(crate) fn id(&self) -> Vec<u8> {
        key_id(&self.spki_der)
    }

    /// `CKA_EC_POINT`: an OCTET STRING around the octets.
    pub(crate) fn ec_point(&self) -> Result<Vec<u8>> {
        OctetStringRef::new(&self.point)
            .and_then(|octets| octets.to_der())
            .map_err(|_| rv!(CKR_GENERAL_ERROR))
    }

    /// A digest of any length as the TEE takes it: as long as the curve's order. Cutting to the
    /// left and filling with zeros on the left are what ECDSA itself does. Spec: FIPS 186-5 6.4.1.
    pub(crate) fn fit(&self, digest: &[u8]) -> Vec<u8> {
        let len = self.kind.field_len();
        let kept = digest.get(..len).unwrap_or(digest);
        let mut out = vec![0; len.saturating_sub(kept.len())];
        out.extend_from_slice(kept);
        out
    }

    /// Checks a raw signature over a fitted digest or, for Ed25519, over a message.
    pub(crate) fn verify(&self, input: &[u8], signature: &[u8]) -> Result<()> {
        if signature.len() != self.kind.signature_len() {
            return Err(rv!(CKR_SIGNATURE_LEN_RANGE));
        }
        let wrong = |_| rv!(CKR_SIGNATURE_INVALID);
        let bad_key = |_| rv!(CKR_GENERAL_ERROR);
        match self.kind {
            Kind::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(&self.point)
                .map_err(bad_key)?
                .verify_prehash(
                    input,
                    &p256::ecdsa::Signature::from_slice(signature).map_err(wrong)?,
                )
                .map_err(wrong),
            Kind::P384 => p384::ecdsa::VerifyingKey::from_sec1_bytes(&self.point)
                .map_err(bad_key)?
                .verify_prehash(
                    input,
                    &p384::ecdsa::Signature::from_slice(signature).map_err(wrong)?,
                )
                .map_err(wrong),
            Kind::Ed25519 => {
                let point = self.point.as_slice().try_into();
                let point: &[u8; 32] = point.map_err(|_| rv!(CKR_GENERAL_ERROR))?;
                ed25519_dalek::VerifyingKey::from_bytes(point)
                    .map_err(bad_key)?
                    .verify_strict(
                        input,
                        &ed25519_dalek::Signature::from_slice(signature).map_err(wrong)?,
                    )
                    .map_err(wrong)
            }
        }
    }
}

/// An identifier of a public key: 20 bytes, as programs expect them.
pub(crate) fn key_id(spki_der: &[u8]) -> Vec<u8> {
    Sha256::digest(spki_der).iter().copied().take(20).collect()
}

const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
