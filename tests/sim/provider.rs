//! Cryptography of the simulated servers: what gives the same answer everywhere is the fast library's,
//! as in production; keys and signatures are made by the one that makes the same from the same seed.

use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{CryptoError, KeyAlg, PrivateKey, Provider, PublicKey, Rng, Secret, Signer};

type Result<T> = std::result::Result<T, CryptoError>;

/// See the module.
pub struct Repeatable;

impl Provider for Repeatable {
    fn generate(&self, alg: KeyAlg, rng: &mut dyn Rng) -> Result<PrivateKey> {
        RustCrypto.generate(alg, rng)
    }
    fn signer(&self, key: &PrivateKey) -> Result<Box<dyn Signer>> {
        RustCrypto.signer(key)
    }
    fn verify(&self, key: &PublicKey, msg: &[u8], sig: &[u8]) -> Result<()> {
        AwsLc.verify(key, msg, sig)
    }
    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        AwsLc.sha256(data)
    }
    fn sha384(&self, data: &[u8]) -> [u8; 48] {
        AwsLc.sha384(data)
    }
    fn sha512(&self, data: &[u8]) -> [u8; 64] {
        AwsLc.sha512(data)
    }
    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> [u8; 32] {
        AwsLc.hmac_sha256(key, data)
    }
    fn hmac_sha384(&self, key: &[u8], data: &[u8]) -> [u8; 48] {
        AwsLc.hmac_sha384(key, data)
    }
    fn hkdf_sha256(&self, ikm: &[u8], salt: &[u8], info: &[u8], out: &mut [u8]) -> Result<()> {
        AwsLc.hkdf_sha256(ikm, salt, info, out)
    }
    fn pbkdf2_hmac_sha256(
        &self,
        pw: &[u8],
        salt: &[u8],
        rounds: u32,
        out: &mut [u8],
    ) -> Result<()> {
        AwsLc.pbkdf2_hmac_sha256(pw, salt, rounds, out)
    }
    fn aes_gcm_seal(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>> {
        AwsLc.aes_gcm_seal(key, nonce, aad, plain)
    }
    fn aes_gcm_open(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Secret<Vec<u8>>> {
        AwsLc.aes_gcm_open(key, nonce, aad, sealed)
    }
    fn aes_kw_wrap(&self, kek: &[u8; 16], key: &[u8]) -> Result<Vec<u8>> {
        AwsLc.aes_kw_wrap(kek, key)
    }
    fn aes_kw_unwrap(&self, kek: &[u8; 16], wrapped: &[u8]) -> Result<Secret<Vec<u8>>> {
        AwsLc.aes_kw_unwrap(kek, wrapped)
    }
    fn ecdh_p256(&self, private: &PrivateKey, peer: &PublicKey) -> Result<Secret<[u8; 32]>> {
        AwsLc.ecdh_p256(private, peer)
    }
}
