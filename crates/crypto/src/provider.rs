//! The two traits everything else is written against: [`Signer`] and [`Provider`].

use alloc::boxed::Box;
use alloc::vec::Vec;

use subtle::ConstantTimeEq;

use crate::{CryptoError, KeyAlg, PrivateKey, PublicKey, Rng, Secret};

/// Something that signs with one private key, wherever that key lives.
pub trait Signer: Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs a message. The hash is fixed by the key: SHA-256 for P-256, SHA-384 for P-384.
    ///
    /// Returns the raw form: r ‖ s (64 or 96 bytes), or the 64 bytes of Ed25519.
    ///
    /// # Errors
    /// Whatever the place where the key lives reports.
    fn sign(&self, msg: &[u8]) -> Result<Vec<u8>, CryptoError>;

    /// Signs a message that lies in pieces. Who hashes here need not put a long one together.
    ///
    /// # Errors
    /// As [`Signer::sign`].
    fn sign_pieces(&self, msg: &[&[u8]]) -> Result<Vec<u8>, CryptoError> {
        self.sign(&msg.concat())
    }

    /// Whether the key is in this process's own memory: then a signature that the process did not hand
    /// on was seen by nobody. A device or a server that signs may keep a record of its own, and counts.
    fn is_in_process(&self) -> bool {
        false
    }
}

/// The primitives. Both implementations give the same answers; one test suite runs over both.
pub trait Provider: Send + Sync {
    /// Verifies a raw-form signature (see [`Signer::sign`]).
    ///
    /// # Errors
    /// [`CryptoError::BadSignature`] for any signature that is not valid, of any length.
    fn verify(&self, key: &PublicKey, msg: &[u8], sig: &[u8]) -> Result<(), CryptoError>;

    /// SHA-256.
    fn sha256(&self, data: &[u8]) -> [u8; 32];
    /// SHA-384.
    fn sha384(&self, data: &[u8]) -> [u8; 48];
    /// SHA-512.
    fn sha512(&self, data: &[u8]) -> [u8; 64];
    /// HMAC-SHA256. To check a MAC use [`hmac_verify`].
    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> [u8; 32];
    /// HMAC-SHA384.
    fn hmac_sha384(&self, key: &[u8], data: &[u8]) -> [u8; 48];

    /// HKDF-SHA256 (extract, then expand into `out`).
    ///
    /// # Errors
    /// [`CryptoError::LimitExceeded`] if `out` is longer than 255 × 32 bytes.
    ///
    /// Spec: RFC 5869.
    fn hkdf_sha256(
        &self,
        ikm: &[u8],
        salt: &[u8],
        info: &[u8],
        out: &mut [u8],
    ) -> Result<(), CryptoError>;

    /// PBKDF2 with HMAC-SHA256. The caller bounds `iterations` and `out` before it calls.
    ///
    /// # Errors
    /// [`CryptoError::LimitExceeded`] if `iterations` is zero.
    ///
    /// Spec: RFC 8018 section 5.2.
    fn pbkdf2_hmac_sha256(
        &self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
        out: &mut [u8],
    ) -> Result<(), CryptoError>;

    /// AES-GCM encryption under a 16- or 32-byte key; returns ciphertext ‖ 16-byte tag.
    ///
    /// A nonce must never be used twice with one key.
    ///
    /// # Errors
    /// [`CryptoError::WrongLength`] for another key length.
    fn aes_gcm_seal(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, CryptoError>;

    /// AES-GCM decryption of ciphertext ‖ 16-byte tag.
    ///
    /// # Errors
    /// [`CryptoError::BadCiphertext`] if anything was altered; [`CryptoError::WrongLength`] for
    /// another key length.
    fn aes_gcm_open(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Secret<Vec<u8>>, CryptoError>;

    /// AES-128 key wrap; returns 8 bytes more than `key`, which is a multiple of 8 from 16 to 64.
    ///
    /// # Errors
    /// [`CryptoError::WrongLength`] for another length of `key`.
    ///
    /// Spec: RFC 3394 section 2.2.1.
    fn aes_kw_wrap(&self, kek: &[u8; 16], key: &[u8]) -> Result<Vec<u8>, CryptoError>;

    /// AES-128 key unwrap.
    ///
    /// # Errors
    /// [`CryptoError::BadCiphertext`] for any altered, truncated or over-long input.
    ///
    /// Spec: RFC 3394 section 2.2.2.
    fn aes_kw_unwrap(&self, kek: &[u8; 16], wrapped: &[u8])
    -> Result<Secret<Vec<u8>>, CryptoError>;

    /// Makes a key pair from `rng`.
    ///
    /// # Errors
    /// [`CryptoError::Rng`] if the generator fails.
    fn generate(&self, alg: KeyAlg, rng: &mut dyn Rng) -> Result<PrivateKey, CryptoError>;

    /// ECDH on P-256: the x coordinate of the shared point, 32 bytes, not yet a key.
    ///
    /// # Errors
    /// [`CryptoError::WrongKeyAlg`] unless both keys are P-256.
    fn ecdh_p256(
        &self,
        private: &PrivateKey,
        peer: &PublicKey,
    ) -> Result<Secret<[u8; 32]>, CryptoError>;

    /// A signer over this key with whatever the provider can compute once, for a hot path.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] if the provider refuses the key.
    fn signer(&self, key: &PrivateKey) -> Result<Box<dyn Signer>, CryptoError>;
}

/// Checks an HMAC-SHA256 in constant time. Only the full 32-byte MAC is accepted.
///
/// # Errors
/// [`CryptoError::BadMac`] if it differs in content or length.
pub fn hmac_verify(
    provider: &dyn Provider,
    key: &[u8],
    data: &[u8],
    mac: &[u8],
) -> Result<(), CryptoError> {
    if ct_eq(&provider.hmac_sha256(key, data), mac) {
        Ok(())
    } else {
        Err(CryptoError::BadMac)
    }
}

/// Equality of byte strings in time that depends on their lengths alone.
#[must_use]
pub fn ct_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}
