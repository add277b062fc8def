//! Key kinds: what each means to the TEE, in a certificate and in a signature.

use alloc::vec::Vec;

use der::asn1::{Any, BitString, ObjectIdentifier};
use der::{Decode, Encode};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::object::Object;
use tegata_ta_sdk::{Error, Result, crypto, sys};
use tegata_wire::enrolment::KeyKind;
use tegata_wire::x509::{SignatureAlg, oid, usage};
use zeroize::Zeroizing;

use crate::limits;

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

/// Makes a key pair in the TEE. It signs its request, and is then [`confine`]d.
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
    Ok(object)
}

/// True if a certificate of that keyUsage lets its key sign.
#[must_use]
pub const fn may_sign(key_usage: u16) -> bool {
    key_usage & (usage::DIGITAL_SIGNATURE | usage::NON_REPUDIATION) != 0
}

/// True if a certificate of that keyUsage lets its key do ECDH.
#[must_use]
pub const fn may_agree(key_usage: u16) -> bool {
    key_usage & usage::KEY_AGREEMENT != 0
}

/// The key pair as it is kept: it can do what its certificate's keyUsage says, by the TEE's own
/// rules, and cannot be read out.
///
/// The one exception is a key that does both. A GP object signs or derives, so the TA keeps such a
/// key as a signing key that it can itself read, and makes a deriving one of it at each ECDH.
///
/// # Errors
/// `TEE_ERROR_NOT_SUPPORTED` if a key of this kind can do nothing of that.
pub fn confine(alg: SignatureAlg, key: Object, key_usage: u16) -> Result<Object> {
    let agrees = may_agree(key_usage) && alg != SignatureAlg::Ed25519;
    let signs = TEE_USAGE_SIGN | TEE_USAGE_VERIFY;
    match (may_sign(key_usage), agrees) {
        (true, false) => key.restrict_usage(signs).map(|()| key),
        (true, true) => key
            .restrict_usage(signs | TEE_USAGE_EXTRACTABLE)
            .map(|()| key),
        (false, true) => deriving(alg, &key),
        (false, false) => Err(Error(TEE_ERROR_NOT_SUPPORTED)),
    }
}

/// An ECDH key pair of the same value.
fn deriving(alg: SignatureAlg, key: &Object) -> Result<Object> {
    let kind = kind(alg)?;
    let private = Zeroizing::new(key.attribute(TEE_ATTR_ECC_PRIVATE_VALUE)?);
    let x = key.attribute(TEE_ATTR_ECC_PUBLIC_VALUE_X)?;
    let y = key.attribute(TEE_ATTR_ECC_PUBLIC_VALUE_Y)?;
    let object = Object::transient(TEE_TYPE_ECDH_KEYPAIR, kind.bits)?;
    object.populate(&[
        sys::buffer(TEE_ATTR_ECC_PRIVATE_VALUE, &private),
        sys::buffer(TEE_ATTR_ECC_PUBLIC_VALUE_X, &x),
        sys::buffer(TEE_ATTR_ECC_PUBLIC_VALUE_Y, &y),
        sys::value(TEE_ATTR_ECC_CURVE, kind.curve),
    ])?;
    object.restrict_usage(TEE_USAGE_DERIVE)?;
    Ok(object)
}

/// Length of what [`agree`] gives in bytes.
///
/// # Errors
/// `TEE_ERROR_NOT_SUPPORTED` for a kind that agrees on nothing.
pub fn shared_len(alg: SignatureAlg) -> Result<usize> {
    match alg {
        SignatureAlg::EcdsaSha256 => Ok(32),
        SignatureAlg::EcdsaSha384 => Ok(48),
        _ => Err(Error(TEE_ERROR_NOT_SUPPORTED)),
    }
}

/// ECDH with a peer's public key: a SubjectPublicKeyInfo, or the uncompressed point alone. The
/// result is the x coordinate, as in SEC 1 section 3.3.1.
///
/// # Errors
/// `TEE_ERROR_BAD_PARAMETERS` if it is not a point of this key's curve.
pub fn agree(alg: SignatureAlg, key: &Object, peer: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let bad = |_| Error(TEE_ERROR_BAD_PARAMETERS);
    let len = shared_len(alg)?;
    // The point of a SubjectPublicKeyInfo is its end; whose kind it is was checked.
    let point = if peer.len() == 2 * len + 1 {
        peer
    } else {
        let (found, _) = public_object(peer).map_err(bad)?;
        let start = peer.len().checked_sub(2 * len + 1);
        let point = start.and_then(|start| peer.get(start..));
        point
            .filter(|_| found == alg)
            .ok_or(Error(TEE_ERROR_BAD_PARAMETERS))?
    };
    let xy = point
        .strip_prefix(&[4])
        .ok_or(Error(TEE_ERROR_BAD_PARAMETERS))?;
    let (x, y) = xy.split_at(len);
    let kind = kind(alg)?;
    // An object refuses a point that is not on the curve; the operation would end the TA.
    Object::transient(TEE_TYPE_ECDH_PUBLIC_KEY, kind.bits)?
        .populate(&[
            sys::buffer(TEE_ATTR_ECC_PUBLIC_VALUE_X, x),
            sys::buffer(TEE_ATTR_ECC_PUBLIC_VALUE_Y, y),
            sys::value(TEE_ATTR_ECC_CURVE, kind.curve),
        ])
        .map_err(bad)?;
    let [object_type, ..] = key.info()?;
    if object_type == TEE_TYPE_ECDH_KEYPAIR {
        crypto::ecdh(key, x, y)
    } else {
        crypto::ecdh(&deriving(alg, key)?, x, y)
    }
}

/// Proves that a key fits the public key of its certificate, by using it.
///
/// # Errors
/// `TEE_ERROR_SECURITY` if it does not.
pub fn prove(alg: SignatureAlg, key: &Object, key_usage: u16, spki: &[u8]) -> Result<()> {
    if may_sign(key_usage) {
        let challenge = crypto::random::<32>()?;
        let raw = sign(alg, key, &challenge)?;
        let bits = alg
            .signature_to_bits(&raw)
            .map_err(|_| Error(TEE_ERROR_GENERIC))?;
        return verify(spki, alg, &challenge, &bits);
    }
    let other = generate(alg)?;
    let ours = agree(alg, key, &spki_der(alg, &other)?)?;
    let theirs = agree(alg, &other, spki)?;
    if ours == theirs {
        Ok(())
    } else {
        Err(Error(TEE_ERROR_SECURITY))
    }
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
/// `TEE_ERROR_BAD_PARAMETERS` if it is no digest of SHA-256, SHA-384 or SHA-512,
/// `TEE_ERROR_EXCESS_DATA` if the message is too long.
pub fn sign_digest(alg: SignatureAlg, key: &Object, digest: &[u8]) -> Result<Vec<u8>> {
    let gp = match (alg, digest.len()) {
        (SignatureAlg::Ed25519, 0..=limits::MESSAGE_BYTES) => TEE_ALG_ED25519,
        (SignatureAlg::Ed25519, _) => return Err(Error(TEE_ERROR_EXCESS_DATA)),
        (_, 32) => TEE_ALG_ECDSA_SHA256,
        (_, 48) => TEE_ALG_ECDSA_SHA384,
        // ECDSA takes the leftmost bits, as many as the curve has. Spec: FIPS 186-5 section 6.4.1.
        (_, 64) => {
            let (gp, bits) = match alg {
                SignatureAlg::EcdsaSha256 => (TEE_ALG_ECDSA_SHA256, digest.get(..32)),
                _ => (TEE_ALG_ECDSA_SHA384, digest.get(..48)),
            };
            return crypto::sign(gp, key, bits.unwrap_or_default());
        }
        _ => return Err(Error(TEE_ERROR_BAD_PARAMETERS)),
    };
    crypto::sign(gp, key, digest)
}
