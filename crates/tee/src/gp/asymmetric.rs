//! Signatures, key agreement and key derivation.
//!
//! Spec: TEE Internal Core API 1.3.1 sections 6.7 and 6.8. Signatures are raw (`r || s`, or the 64
//! bytes of Ed25519). ECDSA takes a digest of the algorithm's hash; Ed25519 takes the message, as
//! GP says. RSA is not offered.

use alloc::vec::Vec;

use ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use ed25519_dalek::Signer as _;
use hkdf::Hkdf;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::consts::*;
use super::fail::{Fail, Res, code, panic_with};
use super::host::SecretBytes;
use super::keys::{self, EcPrivate, EcPublic};
use super::object::{Attribute, Attributes, KEY_FUEL, unique};
use super::operation::{Operation, chunk};
use super::state::Ctx;

/// `TEE_AsymmetricEncrypt`, `TEE_AsymmetricDecrypt`: this TEE has no RSA.
#[allow(clippy::too_many_arguments)] // The standard's own signature.
pub fn asymmetric_cipher(
    c: &mut Ctx<'_>,
    operation: u32,
    _params: u32,
    _param_count: u32,
    _src: u32,
    _src_len: u32,
    _dest: u32,
    _dest_len: u32,
) -> Res {
    // No operation of this class can be allocated, so any handle here is a programmer error.
    c.st.operations
        .get(operation)?
        .expect(TEE_OPERATION_ASYMMETRIC_CIPHER, None)
}

fn digest_fits(op: &Operation, digest: &[u8]) -> Res {
    let length = op.rule()?.length;
    let fits = length == 0 || u32::try_from(digest.len()) == Ok(length);
    if fits {
        Ok(())
    } else {
        panic_with(TEE_ERROR_BAD_PARAMETERS)
    }
}

fn no_params(c: &Ctx<'_>, params: u32, count: u32) -> Res {
    // Pre-hashed and context Ed25519 are the only parameters that could come here.
    if c.mem.attributes(params, count)?.is_empty() {
        Ok(())
    } else {
        panic_with(TEE_ERROR_NOT_SUPPORTED)
    }
}

/// `TEE_AsymmetricSignDigest`.
#[allow(clippy::too_many_arguments)] // The standard's own signature.
pub fn asymmetric_sign_digest(
    c: &mut Ctx<'_>,
    operation: u32,
    params: u32,
    param_count: u32,
    digest: u32,
    digest_len: u32,
    signature: u32,
    signature_len: u32,
) -> Res {
    c.st.charge(KEY_FUEL);
    no_params(c, params, param_count)?;
    let digest = chunk(&c.mem, digest, digest_len)?;
    let op = c.st.operations.get(operation)?;
    op.expect(TEE_OPERATION_ASYMMETRIC_SIGNATURE, Some(TEE_MODE_SIGN))?;
    digest_fits(op, digest)?;
    let attributes = &op.key()?.attributes;
    let made: Vec<u8> = if op.algorithm == TEE_ALG_ED25519 {
        keys::ed_private(attributes)?
            .sign(digest)
            .to_bytes()
            .to_vec()
    } else {
        let failed = Fail::Panic(TEE_ERROR_BAD_STATE);
        match keys::ec_private(attributes)? {
            EcPrivate::P256(key) => {
                let key = p256::ecdsa::SigningKey::from(&key);
                let made: p256::ecdsa::Signature = key.sign_prehash(digest).or(Err(failed))?;
                made.to_bytes().to_vec()
            }
            EcPrivate::P384(key) => {
                let key = p384::ecdsa::SigningKey::from(&key);
                let made: p384::ecdsa::Signature = key.sign_prehash(digest).or(Err(failed))?;
                made.to_bytes().to_vec()
            }
        }
    };
    c.mem.out_buffer(signature, signature_len, &made)
}

/// `TEE_AsymmetricVerifyDigest`.
#[allow(clippy::too_many_arguments)] // The standard's own signature.
pub fn asymmetric_verify_digest(
    c: &mut Ctx<'_>,
    operation: u32,
    params: u32,
    param_count: u32,
    digest: u32,
    digest_len: u32,
    signature: u32,
    signature_len: u32,
) -> Res {
    c.st.charge(KEY_FUEL);
    no_params(c, params, param_count)?;
    let digest = chunk(&c.mem, digest, digest_len)?;
    let signature = chunk(&c.mem, signature, signature_len)?;
    let op = c.st.operations.get(operation)?;
    op.expect(TEE_OPERATION_ASYMMETRIC_SIGNATURE, Some(TEE_MODE_VERIFY))?;
    digest_fits(op, digest)?;
    let attributes = &op.key()?.attributes;
    let good = if op.algorithm == TEE_ALG_ED25519 {
        ed25519_dalek::Signature::from_slice(signature).is_ok_and(|s| {
            keys::ed_public(attributes).is_ok_and(|k| k.verify_strict(digest, &s).is_ok())
        })
    } else {
        match keys::ec_public(attributes)? {
            EcPublic::P256(key) => p256::ecdsa::Signature::from_slice(signature).is_ok_and(|s| {
                p256::ecdsa::VerifyingKey::from(&key)
                    .verify_prehash(digest, &s)
                    .is_ok()
            }),
            EcPublic::P384(key) => p384::ecdsa::Signature::from_slice(signature).is_ok_and(|s| {
                p384::ecdsa::VerifyingKey::from(&key)
                    .verify_prehash(digest, &s)
                    .is_ok()
            }),
        }
    };
    if good {
        Ok(())
    } else {
        code(TEE_ERROR_SIGNATURE_INVALID)
    }
}

/// `TEE_DeriveKey`: any failure is a panic, for the function has no return code.
pub fn derive_key(
    c: &mut Ctx<'_>,
    operation: u32,
    params: u32,
    param_count: u32,
    derived: u32,
) -> Res {
    c.st.charge(KEY_FUEL);
    let params = unique(c.mem.attributes(params, param_count)?)?;
    let op = c.st.operations.get(operation)?;
    op.expect(TEE_OPERATION_KEY_DERIVATION, Some(TEE_MODE_DERIVE))?;
    let secret = match op.algorithm {
        TEE_ALG_HKDF => hkdf(op, &params)?,
        TEE_ALG_X25519 => x25519(op, &params)?,
        _ => ecdh(op, &params)?,
    };
    let target = c.st.empty_object(derived)?;
    if target.object_type != TEE_TYPE_GENERIC_SECRET
        && !(super::object::is_secret_type(target.object_type) && op_is_kdf(&params))
    {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    let value = Attribute::Buffer(SecretBytes(secret));
    target.populate(Attributes::from([(TEE_ATTR_SECRET_VALUE, value)]))
}

/// HKDF output may become a key of any secret type; a raw shared secret only a generic secret.
fn op_is_kdf(params: &Attributes) -> bool {
    params.contains_key(&TEE_ATTR_KDF_KEY_SIZE)
}

fn only(params: &Attributes, allowed: &[u32]) -> Res {
    if params.keys().all(|id| allowed.contains(id)) {
        Ok(())
    } else {
        panic_with(TEE_ERROR_BAD_PARAMETERS)
    }
}

fn ecdh(op: &Operation, params: &Attributes) -> Res<Zeroizing<Vec<u8>>> {
    only(
        params,
        &[TEE_ATTR_ECC_PUBLIC_VALUE_X, TEE_ATTR_ECC_PUBLIC_VALUE_Y],
    )?;
    let private = keys::ec_private(&op.key()?.attributes)?;
    let peer = keys::ec_peer(&private, params)?;
    private
        .agree(&peer)
        .ok_or(Fail::Panic(TEE_ERROR_BAD_PARAMETERS))
}

fn x25519(op: &Operation, params: &Attributes) -> Res<Zeroizing<Vec<u8>>> {
    only(params, &[TEE_ATTR_X25519_PUBLIC_VALUE])?;
    let private = keys::array32(&op.key()?.attributes, TEE_ATTR_X25519_PRIVATE_VALUE)?;
    let peer = keys::array32(params, TEE_ATTR_X25519_PUBLIC_VALUE)?;
    let shared = x25519_dalek::StaticSecret::from(*private)
        .diffie_hellman(&x25519_dalek::PublicKey::from(*peer));
    // Spec: RFC 7748 section 6.1: an all-zero secret comes of a peer that contributed nothing.
    if !shared.was_contributory() {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    Ok(Zeroizing::new(shared.as_bytes().to_vec()))
}

fn hkdf(op: &Operation, params: &Attributes) -> Res<Zeroizing<Vec<u8>>> {
    only(
        params,
        &[
            TEE_ATTR_HKDF_SALT,
            TEE_ATTR_HKDF_INFO,
            TEE_ATTR_HKDF_HASH_ALGORITHM,
            TEE_ATTR_KDF_KEY_SIZE,
        ],
    )?;
    let value = |id| match params.get(&id) {
        Some(Attribute::Value(a, _)) => Some(*a),
        _ => None,
    };
    let optional = |id| match params.get(&id) {
        Some(Attribute::Buffer(bytes)) => Some(bytes.0.as_slice()),
        _ => None,
    };
    let key = keys::buffer(&op.key()?.attributes, TEE_ATTR_SECRET_VALUE)?;
    let (salt, info) = (optional(TEE_ATTR_HKDF_SALT), optional(TEE_ATTR_HKDF_INFO));
    let info = info.unwrap_or(&[]);
    let size = value(TEE_ATTR_KDF_KEY_SIZE)
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| (1..=HKDF_LEN_MAX).contains(size))
        .ok_or(Fail::Panic(TEE_ERROR_BAD_PARAMETERS))?;
    let mut out = Zeroizing::new(alloc::vec![0; size]);
    let done = match value(TEE_ATTR_HKDF_HASH_ALGORITHM) {
        Some(TEE_ALG_SHA256) => Hkdf::<Sha256>::new(salt, key).expand(info, &mut out),
        Some(TEE_ALG_SHA384) => Hkdf::<Sha384>::new(salt, key).expand(info, &mut out),
        Some(TEE_ALG_SHA512) => Hkdf::<Sha512>::new(salt, key).expand(info, &mut out),
        _ => return panic_with(TEE_ERROR_BAD_PARAMETERS),
    };
    done.map_or(panic_with(TEE_ERROR_BAD_PARAMETERS), |()| Ok(out))
}

/// Longest derived key in bytes: the largest generic secret.
const HKDF_LEN_MAX: usize = 512;
