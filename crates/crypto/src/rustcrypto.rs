//! The provider in pure Rust: the one for devices, `no_std`, and the reference for the other.

use alloc::boxed::Box;
use alloc::vec::Vec;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit};
use aes_kw::KwAes128;
use hmac::{Hmac, Mac};
use p256::ecdsa::signature::Verifier as _;
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::{CryptoError, KeyAlg, PrivateKey, Provider, PublicKey, Rng, Secret, Signer};

/// RustCrypto's curves, hashes and ciphers, and `ed25519-dalek`.
#[derive(Debug, Default, Clone, Copy)]
pub struct RustCrypto;

/// Longest HKDF-SHA256 output, in bytes. Spec: RFC 5869 section 2.3.
pub(crate) const HKDF_SHA256_LEN_BYTES_MAX: usize = 255 * 32;

impl Provider for RustCrypto {
    fn verify(&self, key: &PublicKey, msg: &[u8], sig: &[u8]) -> Result<(), CryptoError> {
        let bad = |_| CryptoError::BadSignature;
        let checked = |_| CryptoError::Unreachable("PublicKey holds a checked point");
        match key.alg() {
            KeyAlg::P256 => {
                let sig = p256::ecdsa::Signature::from_slice(sig).map_err(bad)?;
                p256::ecdsa::VerifyingKey::from_sec1_bytes(key.bytes())
                    .map_err(checked)?
                    .verify(msg, &sig)
                    .map_err(bad)
            }
            KeyAlg::P384 => {
                let sig = p384::ecdsa::Signature::from_slice(sig).map_err(bad)?;
                p384::ecdsa::VerifyingKey::from_sec1_bytes(key.bytes())
                    .map_err(checked)?
                    .verify(msg, &sig)
                    .map_err(bad)
            }
            KeyAlg::Ed25519 => {
                let sig = ed25519_dalek::Signature::from_slice(sig).map_err(bad)?;
                let key: &[u8; 32] = key
                    .bytes()
                    .try_into()
                    .map_err(|_| CryptoError::Unreachable("Ed25519 key length"))?;
                ed25519_dalek::VerifyingKey::from_bytes(key)
                    .map_err(checked)?
                    .verify_strict(msg, &sig)
                    .map_err(bad)
            }
        }
    }

    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }

    fn sha384(&self, data: &[u8]) -> [u8; 48] {
        Sha384::digest(data).into()
    }

    fn sha512(&self, data: &[u8]) -> [u8; 64] {
        Sha512::digest(data).into()
    }

    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> [u8; 32] {
        hmac_sha256_parts(key, &[data])
    }

    fn hmac_sha384(&self, key: &[u8], data: &[u8]) -> [u8; 48] {
        let key = hmac_key::<48, 128>(key, |key| Sha384::digest(key).into());
        let mut mac = Hmac::<Sha384>::new((&*key).into());
        mac.update(data);
        mac.finalize().into_bytes().into()
    }

    fn hkdf_sha256(
        &self,
        ikm: &[u8],
        salt: &[u8],
        info: &[u8],
        out: &mut [u8],
    ) -> Result<(), CryptoError> {
        hkdf::Hkdf::<Sha256>::new(Some(salt), ikm)
            .expand(info, out)
            .map_err(|_| hkdf_too_long(out.len()))
    }

    fn pbkdf2_hmac_sha256(
        &self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
        out: &mut [u8],
    ) -> Result<(), CryptoError> {
        if iterations == 0 {
            return Err(CryptoError::LimitExceeded {
                what: "PBKDF2 iterations",
                limit: 1,
                got: 0,
            });
        }
        pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, out);
        Ok(())
    }

    fn aes_gcm_seal(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let payload = Payload { msg: plain, aad };
        match key.len() {
            16 => gcm::<Aes128Gcm>(key)?.encrypt(nonce.into(), payload),
            32 => gcm::<Aes256Gcm>(key)?.encrypt(nonce.into(), payload),
            got => return Err(gcm_key_len(got)),
        }
        .map_err(|_| CryptoError::Unreachable("AES-GCM input above 64 GiB"))
    }

    fn aes_gcm_open(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Secret<Vec<u8>>, CryptoError> {
        let payload = Payload { msg: sealed, aad };
        match key.len() {
            16 => gcm::<Aes128Gcm>(key)?.decrypt(nonce.into(), payload),
            32 => gcm::<Aes256Gcm>(key)?.decrypt(nonce.into(), payload),
            got => return Err(gcm_key_len(got)),
        }
        .map(Secret::new)
        .map_err(|_| CryptoError::BadCiphertext)
    }

    fn aes_kw_wrap(&self, kek: &[u8; 16], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        check_kw_len(key.len())?;
        let mut out = alloc::vec![0; key.len() + aes_kw::IV_LEN];
        KwAes128::new(kek.into())
            .wrap_key(key, &mut out)
            .map_err(|_| CryptoError::Unreachable("key wrap of a checked length"))?;
        Ok(out)
    }

    fn aes_kw_unwrap(
        &self,
        kek: &[u8; 16],
        wrapped: &[u8],
    ) -> Result<Secret<Vec<u8>>, CryptoError> {
        let len = wrapped
            .len()
            .checked_sub(aes_kw::IV_LEN)
            .ok_or(CryptoError::BadCiphertext)?;
        check_kw_len(len).map_err(|_| CryptoError::BadCiphertext)?;
        let mut out = Secret::new(alloc::vec![0; len]);
        KwAes128::new(kek.into())
            .unwrap_key(wrapped, out.expose_secret_mut())
            .map_err(|_| CryptoError::BadCiphertext)?;
        Ok(out)
    }

    fn generate(&self, alg: KeyAlg, rng: &mut dyn Rng) -> Result<PrivateKey, CryptoError> {
        PrivateKey::generate(alg, rng)
    }

    fn ecdh_p256(
        &self,
        private: &PrivateKey,
        peer: &PublicKey,
    ) -> Result<Secret<[u8; 32]>, CryptoError> {
        check_ecdh_p256(private, peer)?;
        let shared = private.ecdh(peer)?;
        let mut out = Secret::new([0; 32]);
        if shared.expose_secret().len() != 32 {
            return Err(CryptoError::Unreachable("P-256 shared secret length"));
        }
        out.expose_secret_mut()
            .copy_from_slice(shared.expose_secret());
        Ok(out)
    }

    fn signer(&self, key: &PrivateKey) -> Result<Box<dyn Signer>, CryptoError> {
        Ok(Box::new(key.dangerous_clone()))
    }
}

/// HMAC-SHA256 over the concatenation of `parts`, without joining them in memory.
pub(crate) fn hmac_sha256_parts(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let key = hmac_key::<32, 64>(key, |key| Sha256::digest(key).into());
    let mut mac = Hmac::<Sha256>::new((&*key).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The key padded to the hash's block, hashed first if it is longer: what HMAC does itself, done
/// here so that no key length is an error. Spec: RFC 2104 section 2.
fn hmac_key<const HASH: usize, const BLOCK: usize>(
    key: &[u8],
    hash: impl Fn(&[u8]) -> [u8; HASH],
) -> zeroize::Zeroizing<[u8; BLOCK]> {
    let mut block = zeroize::Zeroizing::new([0; BLOCK]);
    if key.len() > BLOCK {
        let hashed = zeroize::Zeroizing::new(hash(key));
        block
            .iter_mut()
            .zip(hashed.iter())
            .for_each(|(out, byte)| *out = *byte);
    } else {
        block
            .iter_mut()
            .zip(key)
            .for_each(|(out, byte)| *out = *byte);
    }
    block
}

fn gcm<C: KeyInit>(key: &[u8]) -> Result<C, CryptoError> {
    C::new_from_slice(key).map_err(|_| gcm_key_len(key.len()))
}

pub(crate) fn gcm_key_len(got: usize) -> CryptoError {
    CryptoError::WrongLength {
        what: "AES-GCM key",
        expected: 16,
        got,
    }
}

pub(crate) fn hkdf_too_long(got: usize) -> CryptoError {
    CryptoError::LimitExceeded {
        what: "HKDF output",
        limit: HKDF_SHA256_LEN_BYTES_MAX.try_into().unwrap_or(u64::MAX),
        got: got.try_into().unwrap_or(u64::MAX),
    }
}

/// Length of a key that is wrapped: two to eight 64-bit blocks.
pub(crate) fn check_kw_len(len: usize) -> Result<(), CryptoError> {
    if (16..=64).contains(&len) && len.is_multiple_of(8) {
        Ok(())
    } else {
        Err(CryptoError::WrongLength {
            what: "key to wrap",
            expected: 16,
            got: len,
        })
    }
}

pub(crate) fn check_ecdh_p256(private: &PrivateKey, peer: &PublicKey) -> Result<(), CryptoError> {
    for got in [private.alg(), peer.alg()] {
        if got != KeyAlg::P256 {
            return Err(CryptoError::WrongKeyAlg {
                expected: KeyAlg::P256,
                got,
            });
        }
    }
    Ok(())
}
