//! A provider whose keys are not in this process, and which remembers what they signed.
#![allow(dead_code)] // Each test uses some.

use std::sync::{Arc, Mutex};

use tegata_authority::ca::cmp::MacPolicy;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{CryptoError, KeyAlg, PrivateKey, Provider, PublicKey, Rng, Secret, Signer};
use tegata_store::Faults;
use tegata_store::issuer::Issuer;
use tegata_store::role::Role;

use super::{World, profiles, role};

/// As [`RustCrypto`]; its signers say where they are, and write down what they sign.
#[derive(Clone, Default)]
pub struct Watched {
    /// Whether keys are in this process.
    pub in_process: bool,
    /// What was signed.
    pub signed: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// Opens the CA anew, its keys in this process or elsewhere.
pub fn reopen_with_keys(world: &mut World, faults: Arc<dyn Faults>, in_process: bool) {
    let keys = Watched {
        in_process,
        ..Watched::default()
    };
    keys.reopen(world, faults);
}

impl Watched {
    /// Opens the CA anew with these keys.
    pub fn reopen(&self, world: &mut World, faults: Arc<dyn Faults>) {
        let role = Role {
            provider: Arc::new(self.clone()),
            ..role(&world.dir.path().join("ca.db"), faults)
        };
        world.ca = Issuer::open(role, profiles(), MacPolicy::default()).unwrap();
    }

    /// Whether these bytes were signed as part of something: the serial number of a certificate, say.
    pub fn has_signed(&self, part: &[u8]) -> bool {
        let signed = self.signed.lock().unwrap();
        signed
            .iter()
            .any(|one| one.windows(part.len()).any(|w| w == part))
    }

    /// How many certificates were signed: what begins as a TBSCertificate of version 3 does.
    pub fn certificates(&self) -> usize {
        let signed = self.signed.lock().unwrap();
        let version_3 = [0xa0, 3, 2, 1, 2];
        let is_certificate = |one: &&Vec<u8>| one.get(4..9) == Some(&version_3[..]);
        signed.iter().filter(is_certificate).count()
    }
}

struct WatchedKey {
    key: Box<dyn Signer>,
    by: Watched,
}

impl Signer for WatchedKey {
    fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    fn sign(&self, msg: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.by.signed.lock().unwrap().push(msg.to_vec());
        self.key.sign(msg)
    }

    fn is_in_process(&self) -> bool {
        self.by.in_process
    }
}

impl Provider for Watched {
    fn signer(&self, key: &PrivateKey) -> Result<Box<dyn Signer>, CryptoError> {
        Ok(Box::new(WatchedKey {
            key: RustCrypto.signer(key)?,
            by: self.clone(),
        }))
    }

    fn verify(&self, key: &PublicKey, msg: &[u8], sig: &[u8]) -> Result<(), CryptoError> {
        RustCrypto.verify(key, msg, sig)
    }

    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        RustCrypto.sha256(data)
    }

    fn sha384(&self, data: &[u8]) -> [u8; 48] {
        RustCrypto.sha384(data)
    }

    fn sha512(&self, data: &[u8]) -> [u8; 64] {
        RustCrypto.sha512(data)
    }

    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> [u8; 32] {
        RustCrypto.hmac_sha256(key, data)
    }

    fn hmac_sha384(&self, key: &[u8], data: &[u8]) -> [u8; 48] {
        RustCrypto.hmac_sha384(key, data)
    }

    fn hkdf_sha256(
        &self,
        ikm: &[u8],
        salt: &[u8],
        info: &[u8],
        out: &mut [u8],
    ) -> Result<(), CryptoError> {
        RustCrypto.hkdf_sha256(ikm, salt, info, out)
    }

    fn pbkdf2_hmac_sha256(
        &self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
        out: &mut [u8],
    ) -> Result<(), CryptoError> {
        RustCrypto.pbkdf2_hmac_sha256(password, salt, iterations, out)
    }

    fn aes_gcm_seal(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        RustCrypto.aes_gcm_seal(key, nonce, aad, plain)
    }

    fn aes_gcm_open(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Secret<Vec<u8>>, CryptoError> {
        RustCrypto.aes_gcm_open(key, nonce, aad, sealed)
    }

    fn aes_kw_wrap(&self, kek: &[u8; 16], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        RustCrypto.aes_kw_wrap(kek, key)
    }

    fn aes_kw_unwrap(
        &self,
        kek: &[u8; 16],
        wrapped: &[u8],
    ) -> Result<Secret<Vec<u8>>, CryptoError> {
        RustCrypto.aes_kw_unwrap(kek, wrapped)
    }

    fn generate(&self, alg: KeyAlg, rng: &mut dyn Rng) -> Result<PrivateKey, CryptoError> {
        RustCrypto.generate(alg, rng)
    }

    fn ecdh_p256(
        &self,
        private: &PrivateKey,
        peer: &PublicKey,
    ) -> Result<Secret<[u8; 32]>, CryptoError> {
        RustCrypto.ecdh_p256(private, peer)
    }
}
