//! The provider for servers: AWS-LC through `aws-lc-rs`.
//!
//! [`AwsLc::signer`] keeps the parsed key pair, so that a hot path only signs. AWS-LC draws the
//! ECDSA nonce from its own generator mixed with the key and the message.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU32;

use aws_lc_rs::key_wrap::{AES_128, AesKek, KeyWrap};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, ParsedPublicKey,
    VerificationAlgorithm,
};
use aws_lc_rs::{aead, agreement, digest, hkdf, hmac, pbkdf2};

use crate::rustcrypto::{
    HKDF_SHA256_LEN_BYTES_MAX, check_ecdh_p256, check_kw_len, gcm_key_len, hkdf_too_long,
};
use crate::{CryptoError, KeyAlg, PrivateKey, Provider, PublicKey, Rng, Secret, Signer};

/// AWS-LC.
#[derive(Debug, Default, Clone, Copy)]
pub struct AwsLc;

/// A key pair that AWS-LC has parsed once.
struct AwsLcSigner {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ecdsa(EcdsaKeyPair, &'static digest::Algorithm),
    Ed25519(Ed25519KeyPair),
}

impl AwsLc {
    /// A signer over this key, with AWS-LC's key pair computed once.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] if AWS-LC refuses the key.
    pub fn signer(&self, key: &PrivateKey) -> Result<Box<dyn Signer>, CryptoError> {
        let refused = |_| CryptoError::InvalidKey("refused by AWS-LC");
        let public = key.public_key().clone();
        let scalar = key.expose_scalar_bytes();
        let ecdsa = |alg, hash| {
            EcdsaKeyPair::from_private_key_and_public_key(
                alg,
                scalar.expose_secret(),
                public.bytes(),
            )
            .map(|pair| Pair::Ecdsa(pair, hash))
            .map_err(refused)
        };
        let pair = match key.alg() {
            KeyAlg::P256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, &digest::SHA256)?,
            KeyAlg::P384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, &digest::SHA384)?,
            KeyAlg::Ed25519 => Pair::Ed25519(
                Ed25519KeyPair::from_seed_and_public_key(scalar.expose_secret(), public.bytes())
                    .map_err(refused)?,
            ),
        };
        Ok(Box::new(AwsLcSigner { pair, public }))
    }
}

impl Signer for AwsLcSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, msg: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.sign_pieces(&[msg])
    }

    fn sign_pieces(&self, msg: &[&[u8]]) -> Result<Vec<u8>, CryptoError> {
        let signature = match (&self.pair, msg) {
            (Pair::Ecdsa(pair, hash), _) => {
                let mut hashed = digest::Context::new(hash);
                msg.iter().for_each(|piece| hashed.update(piece));
                pair.sign_digest(&hashed.finish())
            }
            // Ed25519 hashes the whole message twice.
            (Pair::Ed25519(pair), [whole]) => pair.try_sign(whole),
            (Pair::Ed25519(pair), _) => pair.try_sign(&msg.concat()),
        };
        let signature = signature.map_err(|_| CryptoError::Rng)?;
        Ok(signature.as_ref().to_vec())
    }

    fn is_in_process(&self) -> bool {
        true
    }
}

impl fmt::Debug for AwsLcSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AwsLcSigner(.., {:?})", self.public)
    }
}

impl Provider for AwsLc {
    fn verify(&self, key: &PublicKey, msg: &[u8], sig: &[u8]) -> Result<(), CryptoError> {
        if sig.len() != key.alg().signature_len() {
            return Err(CryptoError::BadSignature);
        }
        let alg: &'static dyn VerificationAlgorithm = match key.alg() {
            KeyAlg::P256 => &ECDSA_P256_SHA256_FIXED,
            KeyAlg::P384 => &ECDSA_P384_SHA384_FIXED,
            KeyAlg::Ed25519 => &ED25519,
        };
        ParsedPublicKey::new(alg, key.bytes())
            .map_err(|_| CryptoError::Unreachable("PublicKey holds a checked point"))?
            .verify_sig(msg, sig)
            .map_err(|_| CryptoError::BadSignature)
    }

    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        copied(digest::digest(&digest::SHA256, data).as_ref())
    }

    fn sha384(&self, data: &[u8]) -> [u8; 48] {
        copied(digest::digest(&digest::SHA384, data).as_ref())
    }

    fn sha512(&self, data: &[u8]) -> [u8; 64] {
        copied(digest::digest(&digest::SHA512, data).as_ref())
    }

    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> [u8; 32] {
        copied(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref())
    }

    fn hmac_sha384(&self, key: &[u8], data: &[u8]) -> [u8; 48] {
        copied(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA384, key), data).as_ref())
    }

    fn hkdf_sha256(
        &self,
        ikm: &[u8],
        salt: &[u8],
        info: &[u8],
        out: &mut [u8],
    ) -> Result<(), CryptoError> {
        if out.len() > HKDF_SHA256_LEN_BYTES_MAX {
            return Err(hkdf_too_long(out.len()));
        }
        if out.is_empty() {
            return Ok(());
        }
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
            .extract(ikm)
            .expand(&[info], OutLen(out.len()))
            .and_then(|okm| okm.fill(out))
            .map_err(|_| CryptoError::Unreachable("HKDF of a checked length"))
    }

    fn pbkdf2_hmac_sha256(
        &self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
        out: &mut [u8],
    ) -> Result<(), CryptoError> {
        let iterations = NonZeroU32::new(iterations).ok_or(CryptoError::LimitExceeded {
            what: "PBKDF2 iterations",
            limit: 1,
            got: 0,
        })?;
        if !out.is_empty() {
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, out);
        }
        Ok(())
    }

    fn aes_gcm_seal(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let key = gcm_key(key)?;
        let mut sealed = Vec::with_capacity(plain.len().saturating_add(16));
        sealed.extend_from_slice(plain);
        let nonce = aead::Nonce::assume_unique_for_key(*nonce);
        key.seal_in_place_append_tag(nonce, aead::Aad::from(aad), &mut sealed)
            .map_err(|_| CryptoError::Unreachable("AES-GCM input above 64 GiB"))?;
        Ok(sealed)
    }

    fn aes_gcm_open(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Secret<Vec<u8>>, CryptoError> {
        let key = gcm_key(key)?;
        let mut plain = Secret::new(sealed.to_vec());
        let nonce = aead::Nonce::assume_unique_for_key(*nonce);
        let len = key
            .open_in_place(nonce, aead::Aad::from(aad), plain.expose_secret_mut())
            .map_err(|_| CryptoError::BadCiphertext)?
            .len();
        plain.expose_secret_mut().truncate(len);
        Ok(plain)
    }

    fn aes_kw_wrap(&self, kek: &[u8; 16], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        check_kw_len(key.len())?;
        let mut out = alloc::vec![0; key.len().saturating_add(8)];
        kw_key(kek)?
            .wrap(key, &mut out)
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
            .checked_sub(8)
            .ok_or(CryptoError::BadCiphertext)?;
        check_kw_len(len).map_err(|_| CryptoError::BadCiphertext)?;
        // AWS-LC asks for room for the integrity block too.
        let mut out = Secret::new(alloc::vec![0; wrapped.len()]);
        let got = kw_key(kek)?
            .unwrap(wrapped, out.expose_secret_mut())
            .map_err(|_| CryptoError::BadCiphertext)?
            .len();
        if got != len {
            return Err(CryptoError::Unreachable("length of an unwrapped key"));
        }
        out.expose_secret_mut().truncate(len);
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
        let scalar = private.expose_scalar_bytes();
        let key =
            agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, scalar.expose_secret())
                .map_err(|_| CryptoError::InvalidKey("refused by AWS-LC"))?;
        let peer = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, peer.bytes());
        let mut out = Secret::new([0; 32]);
        let failed = CryptoError::Unreachable("ECDH of checked keys");
        agreement::agree(&key, peer, failed, |shared| {
            if shared.len() != 32 {
                return Err(CryptoError::Unreachable("P-256 shared secret length"));
            }
            out.expose_secret_mut().copy_from_slice(shared);
            Ok(())
        })?;
        Ok(out)
    }

    fn signer(&self, key: &PrivateKey) -> Result<Box<dyn Signer>, CryptoError> {
        AwsLc::signer(self, key)
    }
}

/// Output length of HKDF, as `aws-lc-rs` wants it.
struct OutLen(usize);

impl hkdf::KeyType for OutLen {
    fn len(&self) -> usize {
        self.0
    }
}

fn gcm_key(key: &[u8]) -> Result<aead::LessSafeKey, CryptoError> {
    let alg = match key.len() {
        16 => &aead::AES_128_GCM,
        32 => &aead::AES_256_GCM,
        got => return Err(gcm_key_len(got)),
    };
    aead::UnboundKey::new(alg, key)
        .map(aead::LessSafeKey::new)
        .map_err(|_| CryptoError::Unreachable("AES-GCM key of a checked length"))
}

fn kw_key(kek: &[u8; 16]) -> Result<AesKek, CryptoError> {
    AesKek::new(&AES_128, kek).map_err(|_| CryptoError::Unreachable("AES-KW key length"))
}

/// A digest of the algorithm's own length as an array.
fn copied<const N: usize>(bytes: &[u8]) -> [u8; N] {
    debug_assert_eq!(bytes.len(), N);
    let mut out = [0; N];
    out.iter_mut()
        .zip(bytes)
        .for_each(|(out, byte)| *out = *byte);
    out
}
