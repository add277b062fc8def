//! Public keys as COSE_Key.

use alloc::vec;
use alloc::vec::Vec;

use super::{CoseError, LIMITS};
use crate::cbor::{self, MapBuilder, MapReader, Value};

/// A public key: the curves that Tegata uses, coordinates as fixed-length big-endian bytes.
///
/// Whether the point is on its curve is for the crypto crate to check.
///
/// Spec: RFC 9053 section 7
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CoseKey {
    /// P-256 (kty EC2, crv 1).
    P256 {
        /// 32 bytes.
        x: [u8; 32],
        /// 32 bytes.
        y: [u8; 32],
    },
    /// P-384 (kty EC2, crv 2).
    P384 {
        /// 48 bytes.
        x: [u8; 48],
        /// 48 bytes.
        y: [u8; 48],
    },
    /// Ed25519 (kty OKP, crv 6).
    Ed25519 {
        /// 32 bytes.
        x: [u8; 32],
    },
}

const KTY_OKP: i64 = 1;
const KTY_EC2: i64 = 2;
const CRV_P256: i64 = 1;
const CRV_P384: i64 = 2;
const CRV_ED25519: i64 = 6;

impl CoseKey {
    /// Decodes a COSE_Key.
    ///
    /// # Errors
    /// As [`CoseKey::from_value`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CoseError> {
        Self::from_value(cbor::decode_limited(bytes, LIMITS)?)
    }

    /// Reads a COSE_Key from a tree. Identifier, algorithm, operations are left to the caller.
    ///
    /// # Errors
    /// `CoseError::Key` for another key type or curve, for a compressed point, and for a private
    /// key; `CoseError::Cbor` for coordinates of another length.
    pub fn from_value(value: Value) -> Result<Self, CoseError> {
        let mut map = MapReader::new(value, "COSE_Key")?;
        let kty = cbor::int(&map.require(1, "kty")?, "kty")?;
        let crv = cbor::int(&map.require(-1, "crv")?, "crv")?;
        let x = map.require(-2, "x")?;
        if map.take(-4).is_some() {
            return Err(CoseError::Key);
        }
        match (kty, crv) {
            (KTY_EC2, CRV_P256) => {
                let y = uncompressed(map.require(-3, "y")?)?;
                Ok(Self::P256 {
                    x: cbor::into_byte_array(x, "x")?,
                    y: cbor::into_byte_array(y, "y")?,
                })
            }
            (KTY_EC2, CRV_P384) => {
                let y = uncompressed(map.require(-3, "y")?)?;
                Ok(Self::P384 {
                    x: cbor::into_byte_array(x, "x")?,
                    y: cbor::into_byte_array(y, "y")?,
                })
            }
            (KTY_OKP, CRV_ED25519) => Ok(Self::Ed25519 {
                x: cbor::into_byte_array(x, "x")?,
            }),
            _ => Err(CoseError::Key),
        }
    }

    /// The required members and no others, as a tree in deterministic order.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Map(self.entries())
    }

    fn entries(&self) -> Vec<(Value, Value)> {
        let (kty, crv, x, y): (i64, i64, &[u8], Option<&[u8]>) = match self {
            Self::P256 { x, y } => (KTY_EC2, CRV_P256, x, Some(y)),
            Self::P384 { x, y } => (KTY_EC2, CRV_P384, x, Some(y)),
            Self::Ed25519 { x } => (KTY_OKP, CRV_ED25519, x, None),
        };
        let bytes = |b: &[u8]| Value::Bytes(b.to_vec());
        let mut entries = vec![
            (1.into(), kty.into()),
            ((-1).into(), crv.into()),
            ((-2).into(), bytes(x)),
        ];
        if let Some(y) = y {
            entries.push(((-3).into(), bytes(y)));
        }
        entries
    }

    /// The same with a key identifier and an algorithm.
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn to_value_with(&self, kid: Option<&[u8]>, alg: Option<i64>) -> Result<Value, CoseError> {
        Ok(MapBuilder::new()
            .extend(self.entries())
            .put_opt(2, kid.map(|kid| Value::Bytes(kid.to_vec())))
            .put_opt(3, alg)
            .finish()?)
    }

    /// Encodes the required members: this is also the input of the key's thumbprint.
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn encode(&self) -> Result<Vec<u8>, CoseError> {
        Ok(cbor::encode(&self.to_value())?)
    }

    /// The bytes whose SHA-256 is the key's thumbprint.
    ///
    /// Spec: RFC 9679 section 3
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn thumbprint_input(&self) -> Result<Vec<u8>, CoseError> {
        self.encode()
    }

    /// The signature algorithm of the key, by its modern number.
    #[must_use]
    pub const fn signature_alg(&self) -> i64 {
        match self {
            Self::P256 { .. } => super::ALG_ESP256,
            Self::P384 { .. } => super::ALG_ESP384,
            Self::Ed25519 { .. } => super::ALG_ED25519,
        }
    }
}

/// A compressed point has a truth value for y: it is allowed by COSE and not supported here.
fn uncompressed(y: Value) -> Result<Value, CoseError> {
    if y.is_bool() {
        Err(CoseError::Key)
    } else {
        Ok(y)
    }
}
