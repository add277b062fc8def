//! Key kinds: what each means to the TEE, in a certificate and in a signature.

use alloc::vec::Vec;

use der::asn1::{Any, BitString, ObjectIdentifier};
use der::{Decode, Encode};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::object::Object;
use tegata_ta_sdk::{Error, Result, crypto, sys};
use tegata_wire::enrolment::KeyKind;
use tegata_wire::x509::{SignatureAlg, oid};

/// What the TEE calls a key kind.
struct Kind {
    pair: u32,
    public: u32,
    bits: u32,
    curve: u32,
}

const fn ec(bits: u32, curve: u32) -> Kind {
    Kind {
        pair: TEE_TYPE_ECDSA_KEYPAIR,
        public: TEE_TYPE_ECDSA_PUBLIC_KEY,
        bits,
        curve,
    }
}

fn kind(alg: SignatureAlg) -> Result<Kind> {
    match alg {
        SignatureAlg::EcdsaSha256 => Ok(ec(256, TEE_ECC_CURVE_NIST_P256)),
        SignatureAlg::EcdsaSha384 => Ok(ec(384, TEE_ECC_CURVE_NIST_P384)),
        SignatureAlg::Ed25519 => Ok(Kind {
            pair: TEE_TYPE_ED25519_KEYPAIR,
            public: TEE_TYPE_ED25519_PUBLIC_KEY,
            bits: 256,
            curve: 0,
        }),
        _ => Err(Error(TEE_ERROR_NOT_SUPPORTED)),
    }
}

/// The signature algorithm that goes with a procedure's key kind.
///
/// # Errors
/// `TEE_ERROR_NOT_SUPPORTED` for a kind this TA does not know.
pub fn signature_alg(key: KeyKind) -> Result<SignatureAlg> {
    match key {
        KeyKind::P256 => Ok(SignatureAlg::EcdsaSha256),
        KeyKind::P384 => Ok(SignatureAlg::EcdsaSha384),
        KeyKind::Ed25519 => Ok(SignatureAlg::Ed25519),
        _ => Err(Error(TEE_ERROR_NOT_SUPPORTED)),
    }
}

/// Makes a key pair in the TEE that can sign and verify, and can never be read out.
///
/// # Errors
/// Of the TEE.
pub fn generate(alg: SignatureAlg) -> Result<Object> {
    let kind = kind(alg)?;
    let object = Object::transient(kind.pair, kind.bits)?;
    match alg {
        SignatureAlg::Ed25519 => object.generate(kind.bits, &[])?,
        _ => object.generate(kind.bits, &[sys::value(TEE_ATTR_ECC_CURVE, kind.curve)])?,
    }
    object.restrict_usage(TEE_USAGE_SIGN | TEE_USAGE_VERIFY)?;
    Ok(object)
}

/// SubjectPublicKeyInfo of a key pair in the TEE.
///
/// # Errors
/// Of the TEE.
pub fn spki_der(alg: SignatureAlg, key: &Object) -> Result<Vec<u8>> {
    let (oid_is, parameters, point) = match alg {
        SignatureAlg::Ed25519 => (
            oid::ED25519,
            None,
            key.attribute(TEE_ATTR_ED25519_PUBLIC_VALUE)?,
        ),
        _ => {
            let curve = if alg == SignatureAlg::EcdsaSha256 {
                oid::SECP256R1
            } else {
                oid::SECP384R1
            };
            let mut point = Vec::from([4]);
            point.extend(key.attribute(TEE_ATTR_ECC_PUBLIC_VALUE_X)?);
            point.extend(key.attribute(TEE_ATTR_ECC_PUBLIC_VALUE_Y)?);
            (oid::EC_PUBLIC_KEY, Some(curve), point)
        }
    };
    encode_spki(oid_is, parameters, &point).map_err(|_| Error(TEE_ERROR_GENERIC))
}

fn encode_spki(
    oid: ObjectIdentifier,
    parameters: Option<ObjectIdentifier>,
    point: &[u8],
) -> der::Result<Vec<u8>> {
    let parameters = match parameters {
        Some(curve) => Some(Any::encode_from(&curve)?),
        None => None,
    };
    SubjectPublicKeyInfo {
        algorithm: AlgorithmIdentifierOwned { oid, parameters },
        subject_public_key: BitString::from_bytes(point)?,
    }
    .to_der()
}

/// A public key of a certificate as an object of the TEE.
///
/// # Errors
/// `TEE_ERROR_NOT_SUPPORTED` for another algorithm, `TEE_ERROR_BAD_FORMAT` for a wrong point.
pub fn public_object(spki_der: &[u8]) -> Result<(SignatureAlg, Object)> {
    let bad = Error(TEE_ERROR_BAD_FORMAT);
    let spki = SubjectPublicKeyInfoRef::from_der(spki_der).map_err(|_| bad)?;
    let point = spki.subject_public_key.as_bytes().ok_or(bad)?;
    if spki.algorithm.oid == oid::ED25519 {
        if point.len() != 32 {
            return Err(bad);
        }
        let object = Object::transient(TEE_TYPE_ED25519_PUBLIC_KEY, 256)?;
        object.populate(&[sys::buffer(TEE_ATTR_ED25519_PUBLIC_VALUE, point)])?;
        return Ok((SignatureAlg::Ed25519, object));
    }
    if spki.algorithm.oid != oid::EC_PUBLIC_KEY {
        return Err(Error(TEE_ERROR_NOT_SUPPORTED));
    }
    let curve = spki.algorithm.parameters_oid().map_err(|_| bad)?;
    let alg = if curve == oid::SECP256R1 {
        SignatureAlg::EcdsaSha256
    } else if curve == oid::SECP384R1 {
        SignatureAlg::EcdsaSha384
    } else {
        return Err(Error(TEE_ERROR_NOT_SUPPORTED));
    };
    let kind = kind(alg)?;
    // Only the uncompressed form, as RFC 5480 section 2.2 requires of all.
    let xy = point.strip_prefix(&[4]).ok_or(bad)?;
    if xy.len() * 4 != usize::try_from(kind.bits).unwrap_or(0) {
        return Err(bad);
    }
    let (x, y) = xy.split_at(xy.len() / 2);
    let object = Object::transient(kind.public, kind.bits)?;
    object.populate(&[
        sys::buffer(TEE_ATTR_ECC_PUBLIC_VALUE_X, x),
        sys::buffer(TEE_ATTR_ECC_PUBLIC_VALUE_Y, y),
        sys::value(TEE_ATTR_ECC_CURVE, kind.curve),
    ])?;
    Ok((alg, object))
}

/// What the TEE signs for a message: its digest, or the message itself for Ed25519.
fn to_sign(alg: SignatureAlg, message: &[u8]) -> Result<(u32, Vec<u8>)> {
    match alg {
        SignatureAlg::EcdsaSha256 => Ok((
            TEE_ALG_ECDSA_SHA256,
            crypto::digest(TEE_ALG_SHA256, message)?,
        )),
        SignatureAlg::EcdsaSha384 => Ok((
            TEE_ALG_ECDSA_SHA384,
            crypto::digest(TEE_ALG_SHA384, message)?,
        )),
        SignatureAlg::Ed25519 => Ok((TEE_ALG_ED25519, message.to_vec())),
        _ => Err(Error(TEE_ERROR_NOT_SUPPORTED)),
    }
}

/// Signs `message`; the signature is raw.
///
/// # Errors
/// Of the TEE.
pub fn sign(alg: SignatureAlg, key: &Object, message: &[u8]) -> Result<Vec<u8>> {
    let (gp, digest) = to_sign(alg, message)?;
    crypto::sign(gp, key, &digest)
}

/// Verifies the signature of `alg` (octets of its BIT STRING) over `message` by the key in
/// `spki_der`.
///
/// # Errors
/// `TEE_ERROR_SIGNATURE_INVALID`; or the key is of another kind than `alg` asks for.
pub fn verify(spki_der: &[u8], alg: SignatureAlg, message: &[u8], bits: &[u8]) -> Result<()> {
    let invalid = Error(TEE_ERROR_SIGNATURE_INVALID);
    let (key_alg, key) = public_object(spki_der)?;
    // ECDSA with SHA-256 on P-256 and with SHA-384 on P-384, nothing across.
    if key_alg != alg {
        return Err(invalid);
    }
    let raw = alg.signature_from_bits(bits).map_err(|_| invalid)?;
    let (gp, digest) = to_sign(alg, message)?;
    crypto::verify(gp, &key, &digest, &raw)
}

/// Signs a digest that the client made (for Ed25519: its message).
///
/// # Errors
/// `TEE_ERROR_BAD_PARAMETERS` if it is no digest of a hash this key signs.
pub fn sign_digest(alg: SignatureAlg, key: &Object, digest: &[u8]) -> Result<Vec<u8>> {
    let gp = match (alg, digest.len()) {
        (SignatureAlg::Ed25519, _) => TEE_ALG_ED25519,
        (_, 32) => TEE_ALG_ECDSA_SHA256,
        (_, 48) => TEE_ALG_ECDSA_SHA384,
        _ => return Err(Error(TEE_ERROR_BAD_PARAMETERS)),
    };
    crypto::sign(gp, key, digest)
}
