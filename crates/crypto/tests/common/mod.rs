//! What several test files use: both providers, a repeatable generator, hex.
#![allow(dead_code)]

use tegata_crypto::{CryptoError, KeyAlg, PrivateKey, Provider, Rng, rustcrypto::RustCrypto};

/// Every provider of this build, by name.
pub fn providers() -> Vec<(&'static str, Box<dyn Provider>)> {
    vec![
        ("rustcrypto", Box::new(RustCrypto)),
        #[cfg(feature = "std")]
        ("aws-lc", Box::new(tegata_crypto::aws_lc::AwsLc)),
    ]
}

/// A repeatable generator: SHA-256 in counter mode.
pub struct TestRng {
    seed: u64,
    counter: u64,
}

impl TestRng {
    pub fn new(seed: u64) -> Self {
        Self { seed, counter: 0 }
    }
}

impl Rng for TestRng {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        for chunk in out.chunks_mut(32) {
            let input = [self.seed.to_be_bytes(), self.counter.to_be_bytes()].concat();
            chunk.copy_from_slice(&RustCrypto.sha256(&input)[..chunk.len()]);
            self.counter += 1;
        }
        Ok(())
    }
}

/// A generator that always fails.
pub struct BrokenRng;

impl Rng for BrokenRng {
    fn fill(&mut self, _: &mut [u8]) -> Result<(), CryptoError> {
        Err(CryptoError::Rng)
    }
}

/// A generator that always gives the same byte.
pub struct StuckRng(pub u8);

impl Rng for StuckRng {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        out.fill(self.0);
        Ok(())
    }
}

/// The bytes of hex text, in which white space does not count.
pub fn hex(text: &str) -> Vec<u8> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    hex::decode(text).expect("hex")
}

/// Hex as an array.
pub fn hex_array<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().expect("length")
}

/// A key of each algorithm, from one seed.
pub fn key(alg: KeyAlg, seed: u64) -> PrivateKey {
    PrivateKey::generate(alg, &mut TestRng::new(seed)).expect("generate")
}

/// Runs `check` on every copy of `bytes` with one bit flipped.
pub fn each_bit_flip(bytes: &[u8], mut check: impl FnMut(usize, &[u8])) {
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        check(bit, &changed);
    }
}

/// Runs `check` on every proper prefix of `bytes`.
pub fn each_prefix(bytes: &[u8], mut check: impl FnMut(&[u8])) {
    for len in 0..bytes.len() {
        check(&bytes[..len]);
    }
}
