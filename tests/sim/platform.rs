//! The machine under a simulated TEE: the factory's identity and root key, the simulation's clock
//! and randomness, and a medium that a test can make crash.

use std::sync::{Arc, Mutex};

use tegata_crypto::device_keys::software_derive;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{Rng as _, Secret};
use tegata_tee::platform::{
    BlobName, HardwareIdentity, MonotonicCounter, Platform, PlatformError, SecurityDescription,
};
use tegata_tee::testing::TestPlatform;

use crate::clock::Clock;
use crate::prng::Prng;

/// One device's machine. Clones are the same machine.
#[derive(Clone)]
pub struct SimPlatform {
    /// The medium, with its crash points.
    pub medium: TestPlatform,
    /// Who the machine says it is.
    pub identity: HardwareIdentity,
    tee_key: Arc<Secret<[u8; 32]>>,
    /// Time as the REE tells it.
    pub clock: Clock,
    random: Arc<Mutex<Random>>,
}

struct Random {
    prng: Prng,
    /// What was drawn lately in the length of a private scalar: one of these is a new key.
    scalars: Vec<Vec<u8>>,
}

impl SimPlatform {
    pub fn new(
        identity: HardwareIdentity,
        tee_key: &Secret<[u8; 32]>,
        clock: Clock,
        prng: Prng,
        with_counter: bool,
    ) -> Self {
        let medium = TestPlatform::new(0);
        Self {
            medium: if with_counter {
                medium.with_counter()
            } else {
                medium
            },
            identity,
            tee_key: Arc::new(Secret::new(*tee_key.expose_secret())),
            clock,
            random: Arc::new(Mutex::new(Random {
                prng,
                scalars: Vec::new(),
            })),
        }
    }

    /// Takes out the late draw that is wanted.
    pub fn take_scalar(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let scalars = &mut self.random.lock().unwrap().scalars;
        let at = scalars.iter().rposition(|scalar| wanted(scalar))?;
        Some(scalars.remove(at))
    }

    /// The root key, for the list of what must never be seen.
    pub fn expose_tee_key(&self) -> &Secret<[u8; 32]> {
        &self.tee_key
    }
}

impl Platform for SimPlatform {
    fn identity(&self) -> &HardwareIdentity {
        &self.identity
    }

    fn security(&self) -> SecurityDescription {
        self.medium.security()
    }

    fn derive(&self, label: &str, context: &[u8]) -> Result<Secret<[u8; 32]>, PlatformError> {
        software_derive(&RustCrypto, &self.tee_key, label, context)
            .map_err(|_| PlatformError::RootKey)
    }

    fn random(&self, out: &mut [u8]) -> Result<(), PlatformError> {
        let mut random = self.random.lock().unwrap();
        random.prng.fill(out).map_err(|_| PlatformError::Random)?;
        if matches!(out.len(), 32 | 48) {
            if random.scalars.len() >= SCALARS_MAX {
                random.scalars.remove(0);
            }
            random.scalars.push(out.to_vec());
        }
        Ok(())
    }

    fn system_time_ms(&self) -> u64 {
        self.clock.uptime_ms()
    }

    fn ree_time_ms(&self) -> u64 {
        self.clock.now().0
    }

    fn blob_read(&self, name: &BlobName) -> Result<Option<Vec<u8>>, PlatformError> {
        self.medium.blob_read(name)
    }

    fn blob_write(&self, name: &BlobName, data: &[u8]) -> Result<(), PlatformError> {
        self.medium.blob_write(name, data)
    }

    fn blob_remove(&self, name: &BlobName) -> Result<(), PlatformError> {
        self.medium.blob_remove(name)
    }

    fn blob_list(&self, prefix: &str) -> Result<Vec<BlobName>, PlatformError> {
        self.medium.blob_list(prefix)
    }

    fn counter(&self) -> Option<&dyn MonotonicCounter> {
        self.medium.counter()
    }
}

/// Draws remembered; a key that is asked for later than this is not found.
const SCALARS_MAX: usize = 200;
