//! [`PublicKey`]: a checked public key in the forms the protocols use.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use der::asn1::{AnyRef, BitStringRef};
use der::{Decode, Encode};
use p256::elliptic_curve::sec1::ToSec1Point;
use sha2::{Digest, Sha256};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use tegata_wire::cbor::Value;

use crate::{CryptoError, KeyAlg};

/// Largest encoded key that is looked at, in bytes: a P-384 COSE_Key with every common
/// parameter stays below 400.
const ENCODED_KEY_LEN_BYTES_MAX: usize = 1024;

/// COSE_Key labels. Spec: RFC 9052 section 7.1, RFC 9053 section 7.
const COSE_KTY: i64 = 1;
const COSE_ALG: i64 = 3;
const COSE_CRV: i64 = -1;
const COSE_X: i64 = -2;
const COSE_Y: i64 = -3;
const COSE_D: i64 = -4;

/// A public key that is known to be a valid point of its curve, with its RFC 9679 thumbprint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    alg: KeyAlg,
    /// Uncompressed SEC1 point, or the 32 bytes of Ed25519.
    bytes: Vec<u8>,
    thumbprint: [u8; 32],
}

impl PublicKey {
    /// Reads a SEC1 point (uncompressed, or compressed) or, for Ed25519, the 32 key bytes.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] unless the bytes are a point of the curve, and for Ed25519 a
    /// canonical encoding of a point that is not of small order.
    ///
    /// Spec: SEC 1 section 2.3.4; RFC 8032 section 5.1.3.
    pub fn from_sec1(alg: KeyAlg, bytes: &[u8]) -> Result<Self, CryptoError> {
        // The identity (00) and the hybrid forms (06, 07) are not keys.
        let plain_form = matches!(bytes.first(), Some(0x02..=0x04));
        let bytes = match alg {
            KeyAlg::P256 if plain_form => {
                let key = p256::PublicKey::from_sec1_bytes(bytes)
                    .map_err(|_| CryptoError::InvalidKey("not a point of P-256"))?;
                key.to_sec1_point(false).as_bytes().to_vec()
            }
            KeyAlg::P384 if plain_form => {
                let key = p384::PublicKey::from_sec1_bytes(bytes)
                    .map_err(|_| CryptoError::InvalidKey("not a point of P-384"))?;
                key.to_sec1_point(false).as_bytes().to_vec()
            }
            KeyAlg::P256 | KeyAlg::P384 => {
                return Err(CryptoError::InvalidKey("not a SEC1 point"));
            }
            KeyAlg::Ed25519 => checked_ed25519(bytes)?.to_vec(),
        };
        let thumbprint = cose_thumbprint(alg, &bytes)?;
        Ok(Self {
            alg,
            bytes,
            thumbprint,
        })
    }

    /// Reads the 32 bytes of an Ed25519 key.
    ///
    /// # Errors
    /// As [`PublicKey::from_sec1`].
    pub fn from_ed25519(bytes: &[u8]) -> Result<Self, CryptoError> {
        Self::from_sec1(KeyAlg::Ed25519, bytes)
    }

    /// Reads a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] for anything but a named-curve P-256 or P-384 key or an
    /// Ed25519 key, and for a point that is none.
    ///
    /// Spec: RFC 5480 section 2, RFC 8410 section 4.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, CryptoError> {
        if der.len() > ENCODED_KEY_LEN_BYTES_MAX {
            return Err(too_long(der.len()));
        }
        let spki = SubjectPublicKeyInfoRef::from_der(der)
            .map_err(|_| CryptoError::InvalidKey("malformed SubjectPublicKeyInfo"))?;
        let algorithm = &spki.algorithm;
        let alg = if algorithm.oid == crate::alg::OID_ED25519 {
            if algorithm.parameters.is_some() {
                return Err(CryptoError::InvalidKey("Ed25519 with parameters"));
            }
            KeyAlg::Ed25519
        } else if algorithm.oid == crate::alg::OID_EC_PUBLIC_KEY {
            let curve = algorithm
                .parameters_oid()
                .map_err(|_| CryptoError::InvalidKey("EC key without a named curve"))?;
            KeyAlg::ALL
                .into_iter()
                .find(|alg| alg.curve_oid() == Some(curve))
                .ok_or(CryptoError::InvalidKey("unsupported curve"))?
        } else {
            return Err(CryptoError::InvalidKey("unsupported key algorithm"));
        };
        let point = spki
            .subject_public_key
            .as_bytes()
            .ok_or(CryptoError::InvalidKey("key BIT STRING with unused bits"))?;
        Self::from_sec1(alg, point)
    }

    /// Writes a DER SubjectPublicKeyInfo (uncompressed point).
    ///
    /// # Errors
    /// [`CryptoError::Unreachable`] only.
    pub fn to_spki_der(&self) -> Result<Vec<u8>, CryptoError> {
        let curve = self.alg.curve_oid();
        let spki = SubjectPublicKeyInfoRef {
            algorithm: AlgorithmIdentifierRef {
                oid: self.alg.spki_oid(),
                parameters: curve.as_ref().map(AnyRef::from),
            },
            subject_public_key: BitStringRef::from_bytes(&self.bytes)
                .map_err(|_| CryptoError::Unreachable("key bits"))?,
        };
        spki.to_der()
            .map_err(|_| CryptoError::Unreachable("encode SubjectPublicKeyInfo"))
    }

    /// Reads an encoded COSE_Key.
    ///
    /// # Errors
    /// As [`PublicKey::from_cose_key_value`], and [`CryptoError::InvalidKey`] for bytes that are
    /// not exactly one CBOR item.
    pub fn from_cose_key(bytes: &[u8]) -> Result<Self, CryptoError> {
        if bytes.len() > ENCODED_KEY_LEN_BYTES_MAX {
            return Err(too_long(bytes.len()));
        }
        let value = tegata_wire::cbor::decode(bytes, COSE_KEY_DEPTH_MAX)
            .map_err(|_| CryptoError::InvalidKey("malformed COSE_Key"))?;
        Self::from_cose_key_value(&value)
    }

    /// Reads a COSE_Key map. Parameters we have no use for (kid, key_ops, …) are passed over.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] for another key type or curve, a missing or repeated
    /// parameter, an `alg` that contradicts the curve, a private key, or an invalid point.
    ///
    /// Spec: RFC 9052 section 7, RFC 9053 section 7.
    pub fn from_cose_key_value(value: &Value) -> Result<Self, CryptoError> {
        let map = value
            .as_map()
            .ok_or(CryptoError::InvalidKey("COSE_Key is not a map"))?;
        if param(map, COSE_D)?.is_some() {
            return Err(CryptoError::InvalidKey(
                "private COSE_Key where a public one belongs",
            ));
        }
        let int = |label| -> Result<Option<i64>, CryptoError> {
            let Some(value) = param(map, label)? else {
                return Ok(None);
            };
            let int = value.as_integer().and_then(|int| i64::try_from(int).ok());
            int.map(Some).ok_or(CryptoError::InvalidKey(
                "COSE_Key parameter of another type",
            ))
        };
        let (kty, crv) = (int(COSE_KTY)?, int(COSE_CRV)?);
        let alg = KeyAlg::ALL
            .into_iter()
            .find(|alg| kty == Some(alg.cose_kty()) && crv == Some(alg.cose_crv()))
            .ok_or(CryptoError::InvalidKey(
                "unsupported COSE key type or curve",
            ))?;
        if let Some(value) = param(map, COSE_ALG)?
            && !alg_fits(alg, value)
        {
            return Err(CryptoError::InvalidKey(
                "COSE_Key alg contradicts its curve",
            ));
        }
        let x = param(map, COSE_X)?.and_then(Value::as_bytes);
        let x = x.ok_or(CryptoError::InvalidKey("COSE_Key without x"))?;
        if alg == KeyAlg::Ed25519 {
            return Self::from_sec1(alg, x);
        }
        if x.len() != alg.scalar_len() {
            return Err(CryptoError::InvalidKey("coordinate of another length"));
        }
        let mut point = Vec::with_capacity(alg.public_len());
        match param(map, COSE_Y)? {
            Some(Value::Bool(odd)) => {
                point.push(if *odd { 0x03 } else { 0x02 });
                point.extend_from_slice(x);
            }
            Some(Value::Bytes(y)) if y.len() == x.len() => {
                point.push(0x04);
                point.extend_from_slice(x);
                point.extend_from_slice(y);
            }
            _ => return Err(CryptoError::InvalidKey("COSE_Key without a usable y")),
        }
        Self::from_sec1(alg, &point)
    }

    /// The COSE_Key as a CBOR map: kty, crv, x and, for curves, y. No kid, no alg.
    pub fn to_cose_key_value(&self) -> Value {
        cose_key_value(self.alg, &self.bytes)
    }

    /// The encoded COSE_Key, in deterministic encoding.
    ///
    /// # Errors
    /// [`CryptoError::Unreachable`] only.
    pub fn to_cose_key(&self) -> Result<Vec<u8>, CryptoError> {
        encode(&self.to_cose_key_value())
    }

    /// Algorithm.
    pub fn alg(&self) -> KeyAlg {
        self.alg
    }

    /// Uncompressed SEC1 point (65 or 97 bytes), or the 32 bytes of Ed25519.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// COSE Key Thumbprint with SHA-256, 32 bytes: the `kid` of everything signed with this key.
    ///
    /// Spec: RFC 9679 section 4.
    pub fn thumbprint(&self) -> [u8; 32] {
        self.thumbprint
    }

    /// SHA-1 free key identifier for X.509: the leftmost 160 bits of SHA-256 over the key bits.
    ///
    /// Spec: RFC 7093 section 2, method 1.
    pub fn x509_key_id(&self) -> [u8; 20] {
        let mut id = [0; 20];
        id.iter_mut()
            .zip(Sha256::digest(&self.bytes))
            .for_each(|(out, byte)| *out = byte);
        id
    }
}

/// Depth of a COSE_Key: a map of arrays (key_ops).
const COSE_KEY_DEPTH_MAX: usize = 8;

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PublicKey({} {})",
            self.alg,
            hex::encode(self.thumbprint)
        )
    }
}

fn too_long(len: usize) -> CryptoError {
    CryptoError::LimitExceeded {
        what: "encoded key",
        limit: ENCODED_KEY_LEN_BYTES_MAX.try_into().unwrap_or(u64::MAX),
        got: len.try_into().unwrap_or(u64::MAX),
    }
}

/// Whether a COSE_Key `alg` allows this key: its signature algorithms, or key agreement.
fn alg_fits(alg: KeyAlg, value: &Value) -> bool {
    let Some(number) = value.as_integer().and_then(|int| i64::try_from(int).ok()) else {
        return false;
    };
    // ECDH-ES and ECDH-SS with HKDF or key wrap (RFC 9053 section 6.3 and 6.4).
    let agreement = alg != KeyAlg::Ed25519 && (-34..=-25).contains(&number);
    agreement || alg.cose_alg_matches(number)
}

/// The value at an integer label, refusing a map that has it twice.
fn param(map: &[(Value, Value)], label: i64) -> Result<Option<&Value>, CryptoError> {
    let wanted = Value::from(label);
    let mut found = map
        .iter()
        .filter(|(key, _)| *key == wanted)
        .map(|(_, value)| value);
    let first = found.next();
    if found.next().is_some() {
        return Err(CryptoError::InvalidKey("COSE_Key parameter repeated"));
    }
    Ok(first)
}

/// The required parameters, in the order that deterministic encoding asks for.
fn cose_key_value(alg: KeyAlg, bytes: &[u8]) -> Value {
    let mut map = vec![
        (Value::from(COSE_KTY), Value::from(alg.cose_kty())),
        (Value::from(COSE_CRV), Value::from(alg.cose_crv())),
    ];
    // An uncompressed point is 04 ‖ x ‖ y; an Ed25519 key is x alone.
    let coordinates = if alg == KeyAlg::Ed25519 {
        bytes
    } else {
        bytes.get(1..).unwrap_or(&[])
    };
    let labels = [COSE_X, COSE_Y];
    for (label, coordinate) in labels.into_iter().zip(coordinates.chunks(alg.scalar_len())) {
        map.push((Value::from(label), Value::Bytes(coordinate.to_vec())));
    }
    Value::Map(map)
}

fn encode(value: &Value) -> Result<Vec<u8>, CryptoError> {
    tegata_wire::cbor::encode(value).map_err(|_| CryptoError::Unreachable("encode COSE_Key"))
}

fn cose_thumbprint(alg: KeyAlg, bytes: &[u8]) -> Result<[u8; 32], CryptoError> {
    Ok(Sha256::digest(encode(&cose_key_value(alg, bytes))?).into())
}

/// Checks an Ed25519 public key more strictly than the curve library must: canonical, on the
/// curve, and not one of the small-order points under which any message has a valid signature.
fn checked_ed25519(bytes: &[u8]) -> Result<[u8; 32], CryptoError> {
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| CryptoError::WrongLength {
        what: "Ed25519 public key",
        expected: 32,
        got: bytes.len(),
    })?;
    // y must be below p = 2^255 - 19; the top bit is the sign of x.
    let [low, middle @ .., high] = bytes;
    if high & 0x7f == 0x7f && middle.iter().all(|byte| *byte == 0xff) && low >= 0xed {
        return Err(CryptoError::InvalidKey("non-canonical Ed25519 key"));
    }
    let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes)
        .map_err(|_| CryptoError::InvalidKey("not a point of Ed25519"))?;
    if key.is_weak() {
        return Err(CryptoError::InvalidKey("Ed25519 key of small order"));
    }
    Ok(bytes)
}
