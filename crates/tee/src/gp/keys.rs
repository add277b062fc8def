//! Key values: checked when they enter, made by the native libraries, used through typed keys.

use alloc::vec::Vec;

use ed25519_dalek::{SigningKey as EdSigningKey, VerifyingKey as EdVerifyingKey};
use zeroize::Zeroizing;

use super::consts::*;
use super::fail::{Res, code, panic_with};
use super::host::SecretBytes;
use super::object::{Attribute, Attributes, is_secret_type};
use super::state::GpState;

/// Checks that `attributes` of an object of this type fit together; its size in bits.
///
/// # Errors
/// `TEE_ERROR_BAD_PARAMETERS` if they do not.
pub fn check(object_type: u32, attributes: &Attributes) -> Res<u32> {
    if is_secret_type(object_type) {
        let len = u32::try_from(buffer(attributes, TEE_ATTR_SECRET_VALUE)?.len());
        return len.map_or(code(TEE_ERROR_BAD_PARAMETERS), |len| {
            Ok(len.saturating_mul(8))
        });
    }
    match object_type {
        TEE_TYPE_ECDSA_PUBLIC_KEY | TEE_TYPE_ECDH_PUBLIC_KEY => {
            ec_public(attributes).map(|key| key.bits())
        }
        TEE_TYPE_ECDSA_KEYPAIR | TEE_TYPE_ECDH_KEYPAIR => {
            let public = ec_public(attributes)?;
            let private = ec_private(attributes)?;
            if private.public() != public {
                return code(TEE_ERROR_BAD_PARAMETERS);
            }
            Ok(public.bits())
        }
        TEE_TYPE_ED25519_PUBLIC_KEY => ed_public(attributes).map(|_| 256),
        TEE_TYPE_ED25519_KEYPAIR => {
            let pair = ed_private(attributes)?;
            if pair.verifying_key() != ed_public(attributes)? {
                return code(TEE_ERROR_BAD_PARAMETERS);
            }
            Ok(256)
        }
        TEE_TYPE_X25519_PUBLIC_KEY => {
            array32(attributes, TEE_ATTR_X25519_PUBLIC_VALUE).map(|_| 256)
        }
        TEE_TYPE_X25519_KEYPAIR => {
            let private = array32(attributes, TEE_ATTR_X25519_PRIVATE_VALUE)?;
            let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(*private));
            if public.as_bytes() != &*array32(attributes, TEE_ATTR_X25519_PUBLIC_VALUE)? {
                return code(TEE_ERROR_BAD_PARAMETERS);
            }
            Ok(256)
        }
        _ => panic_with(TEE_ERROR_BAD_STATE),
    }
}

/// Makes a key pair of `object_type`.
///
/// # Errors
/// `TEE_ERROR_BAD_PARAMETERS` for a curve of another size; a panic for missing or foreign
/// parameters.
pub fn generate(
    st: &mut GpState,
    object_type: u32,
    bits: u32,
    params: &Attributes,
) -> Res<Attributes> {
    match object_type {
        TEE_TYPE_ECDSA_KEYPAIR | TEE_TYPE_ECDH_KEYPAIR => {
            let Some(Attribute::Value(curve, _)) = params.get(&TEE_ATTR_ECC_CURVE) else {
                return panic_with(TEE_ERROR_BAD_PARAMETERS);
            };
            if params.len() != 1 {
                return panic_with(TEE_ERROR_BAD_PARAMETERS);
            }
            generate_ec(st, *curve, bits)
        }
        TEE_TYPE_ED25519_KEYPAIR if params.is_empty() => {
            let mut seed = Zeroizing::new([0; 32]);
            st.random(&mut *seed)?;
            let public = EdSigningKey::from_bytes(&seed).verifying_key().to_bytes();
            Ok(Attributes::from([
                (TEE_ATTR_ED25519_PRIVATE_VALUE, bytes(&*seed)),
                (TEE_ATTR_ED25519_PUBLIC_VALUE, bytes(&public)),
            ]))
        }
        TEE_TYPE_X25519_KEYPAIR if params.is_empty() => {
            let mut secret = Zeroizing::new([0; 32]);
            st.random(&mut *secret)?;
            let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(*secret));
            Ok(Attributes::from([
                (TEE_ATTR_X25519_PRIVATE_VALUE, bytes(&*secret)),
                (TEE_ATTR_X25519_PUBLIC_VALUE, bytes(public.as_bytes())),
            ]))
        }
        _ => panic_with(TEE_ERROR_BAD_PARAMETERS),
    }
}

fn generate_ec(st: &mut GpState, curve: u32, bits: u32) -> Res<Attributes> {
    let len = match (curve, bits) {
        (TEE_ECC_CURVE_NIST_P256, 256) => 32,
        (TEE_ECC_CURVE_NIST_P384, 384) => 48,
        _ => return code(TEE_ERROR_BAD_PARAMETERS),
    };
    // A random string is a scalar but for a chance of 2^-32 (P-256) or less at each try.
    for _ in 0..8 {
        let mut scalar = Zeroizing::new(alloc::vec![0; len]);
        st.random(&mut scalar)?;
        if let Ok(private) = EcPrivate::new(curve, &scalar) {
            let public = private.public();
            let (x, y) = public.coordinates();
            return Ok(Attributes::from([
                (
                    TEE_ATTR_ECC_PRIVATE_VALUE,
                    Attribute::Buffer(SecretBytes(scalar)),
                ),
                (TEE_ATTR_ECC_PUBLIC_VALUE_X, bytes(&x)),
                (TEE_ATTR_ECC_PUBLIC_VALUE_Y, bytes(&y)),
                (TEE_ATTR_ECC_CURVE, Attribute::Value(curve, 0)),
            ]));
        }
    }
    panic_with(TEE_ERROR_GENERIC)
}

/// A private key on a NIST curve; wiped when dropped.
#[derive(Clone)]
pub enum EcPrivate {
    /// P-256.
    P256(p256::SecretKey),
    /// P-384.
    P384(p384::SecretKey),
}

/// A public key on a NIST curve.
#[derive(Clone, PartialEq, Eq)]
pub enum EcPublic {
    /// P-256.
    P256(p256::PublicKey),
    /// P-384.
    P384(p384::PublicKey),
}

impl EcPrivate {
    fn new(curve: u32, scalar: &[u8]) -> Res<Self> {
        match curve {
            TEE_ECC_CURVE_NIST_P256 if scalar.len() == 32 => p256::SecretKey::from_slice(scalar)
                .map(Self::P256)
                .or(code(BAD)),
            TEE_ECC_CURVE_NIST_P384 if scalar.len() == 48 => p384::SecretKey::from_slice(scalar)
                .map(Self::P384)
                .or(code(BAD)),
            _ => code(BAD),
        }
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> EcPublic {
        match self {
            Self::P256(key) => EcPublic::P256(key.public_key()),
            Self::P384(key) => EcPublic::P384(key.public_key()),
        }
    }

    /// The shared x coordinate with `peer`; `None` if the curves differ.
    #[must_use]
    pub fn agree(&self, peer: &EcPublic) -> Option<Zeroizing<Vec<u8>>> {
        let secret = match (self, peer) {
            (Self::P256(key), EcPublic::P256(peer)) => {
                key.diffie_hellman(peer).raw_secret_bytes().to_vec()
            }
            (Self::P384(key), EcPublic::P384(peer)) => {
                key.diffie_hellman(peer).raw_secret_bytes().to_vec()
            }
            _ => return None,
        };
        Some(Zeroizing::new(secret))
    }
}

impl EcPublic {
    fn new(curve: u32, x: &[u8], y: &[u8]) -> Res<Self> {
        let mut point = Vec::from([4]);
        point.extend_from_slice(x);
        point.extend_from_slice(y);
        match curve {
            TEE_ECC_CURVE_NIST_P256 if x.len() == 32 && y.len() == 32 => {
                p256::PublicKey::from_sec1_bytes(&point)
                    .map(Self::P256)
                    .or(code(BAD))
            }
            TEE_ECC_CURVE_NIST_P384 if x.len() == 48 && y.len() == 48 => {
                p384::PublicKey::from_sec1_bytes(&point)
                    .map(Self::P384)
                    .or(code(BAD))
            }
            _ => code(BAD),
        }
    }

    /// Size in bits.
    #[must_use]
    pub const fn bits(&self) -> u32 {
        match self {
            Self::P256(_) => 256,
            Self::P384(_) => 384,
        }
    }

    /// Affine coordinates, full length.
    #[must_use]
    pub fn coordinates(&self) -> (Vec<u8>, Vec<u8>) {
        use elliptic_curve::sec1::ToSec1Point;
        let point = match self {
            Self::P256(key) => key.to_sec1_point(false).as_bytes().to_vec(),
            Self::P384(key) => key.to_sec1_point(false).as_bytes().to_vec(),
        };
        let xy = point.get(1..).unwrap_or(&[]);
        let (x, y) = xy.split_at(xy.len() / 2);
        (x.to_vec(), y.to_vec())
    }
}

/// The public key in EC attributes.
///
/// # Errors
/// `TEE_ERROR_BAD_PARAMETERS` if it is not a point of its curve.
pub fn ec_public(attributes: &Attributes) -> Res<EcPublic> {
    EcPublic::new(
        curve(attributes)?,
        buffer(attributes, TEE_ATTR_ECC_PUBLIC_VALUE_X)?,
        buffer(attributes, TEE_ATTR_ECC_PUBLIC_VALUE_Y)?,
    )
}

/// A peer's point on the curve of `own`.
///
/// # Errors
/// As [`ec_public`].
pub fn ec_peer(own: &EcPrivate, attributes: &Attributes) -> Res<EcPublic> {
    let curve = match own {
        EcPrivate::P256(_) => TEE_ECC_CURVE_NIST_P256,
        EcPrivate::P384(_) => TEE_ECC_CURVE_NIST_P384,
    };
    EcPublic::new(
        curve,
        buffer(attributes, TEE_ATTR_ECC_PUBLIC_VALUE_X)?,
        buffer(attributes, TEE_ATTR_ECC_PUBLIC_VALUE_Y)?,
    )
}

/// The private key in EC attributes.
///
/// # Errors
/// `TEE_ERROR_BAD_PARAMETERS` if it is not a scalar of its curve.
pub fn ec_private(attributes: &Attributes) -> Res<EcPrivate> {
    EcPrivate::new(
        curve(attributes)?,
        buffer(attributes, TEE_ATTR_ECC_PRIVATE_VALUE)?,
    )
}

/// The Ed25519 public key in attributes.
///
/// # Errors
/// `TEE_ERROR_BAD_PARAMETERS` if it is not a point.
pub fn ed_public(attributes: &Attributes) -> Res<EdVerifyingKey> {
    let bytes = array32(attributes, TEE_ATTR_ED25519_PUBLIC_VALUE)?;
    EdVerifyingKey::from_bytes(&bytes).or(code(BAD))
}

/// The Ed25519 private key in attributes.
///
/// # Errors
/// `TEE_ERROR_BAD_PARAMETERS` for another length.
pub fn ed_private(attributes: &Attributes) -> Res<EdSigningKey> {
    Ok(EdSigningKey::from_bytes(&*array32(
        attributes,
        TEE_ATTR_ED25519_PRIVATE_VALUE,
    )?))
}

/// 32 bytes of a buffer attribute.
///
/// # Errors
/// `TEE_ERROR_BAD_PARAMETERS` for another length.
pub fn array32(attributes: &Attributes, id: u32) -> Res<Zeroizing<[u8; 32]>> {
    <[u8; 32]>::try_from(buffer(attributes, id)?)
        .map(Zeroizing::new)
        .or(code(BAD))
}

fn curve(attributes: &Attributes) -> Res<u32> {
    match attributes.get(&TEE_ATTR_ECC_CURVE) {
        Some(Attribute::Value(curve, _)) => Ok(*curve),
        _ => code(BAD),
    }
}

/// The bytes of a buffer attribute.
///
/// # Errors
/// `TEE_ERROR_BAD_PARAMETERS` if there is none.
pub fn buffer(attributes: &Attributes, id: u32) -> Res<&[u8]> {
    match attributes.get(&id) {
        Some(Attribute::Buffer(bytes)) => Ok(&bytes.0),
        _ => code(BAD),
    }
}

fn bytes(value: &[u8]) -> Attribute {
    Attribute::Buffer(SecretBytes::new(value.to_vec()))
}

const BAD: u32 = TEE_ERROR_BAD_PARAMETERS;
