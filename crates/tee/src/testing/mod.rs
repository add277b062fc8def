//! A [`Platform`] in memory for tests: a map for the medium, a crash where the test wants one.
//!
//! Every change of the medium (write, remove, counter step) is a numbered point. A test sets
//! [`TestPlatform::crash_at`] to one of them; there the change is either lost or kept and the
//! machine is dead until [`TestPlatform::reboot`]. Nothing here protects anything.

#[allow(clippy::unwrap_used, clippy::as_conversions)]
// For tests: what cannot be made is a broken test.
pub mod release;

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{Provider, Secret};
use tegata_wire::ids::{ClassId, Ueid, VendorId};

use crate::platform::{
    AntiRollback, BlobName, HardwareIdentity, MonotonicCounter, NoPosition, OemId, Platform,
    PlatformError, Position, SecurityDescription, SecurityLevel,
};

/// What happens to the change during which the machine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The change never reached the medium.
    Lost,
    /// The change reached the medium, the program never learned of it.
    Kept,
}

#[derive(Default)]
struct Medium {
    blobs: BTreeMap<String, Vec<u8>>,
    counter: u64,
    changes: u64,
    reads: u64,
    crash: Option<(u64, Crash)>,
    dead: bool,
    no_space: bool,
    time_ms: u64,
    /// What the REE says the time is, once a test said so.
    ree_ms: Option<u64>,
    random: u64,
    /// The receiver, once a test gave the device one.
    position: Option<Option<Position>>,
}

/// A device in memory. Clones are the same device.
#[derive(Clone)]
pub struct TestPlatform {
    medium: Arc<Mutex<Medium>>,
    identity: HardwareIdentity,
    root: [u8; 32],
    has_counter: bool,
    settled: Arc<AtomicBool>,
}

impl TestPlatform {
    /// Device number `seed`: its own ueid and root key.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        let vendor = VendorId::derive("example.com");
        let class = ClassId::derive(&vendor, "sensor-1");
        let identity = HardwareIdentity {
            ueid: Ueid::from_random([seed; 16]),
            serial: alloc::format!("SN-{seed:04}"),
            oemid: OemId::Pen(32473),
            hwmodel: b"sensor-1".to_vec(),
            hwversion: "1.0".to_string(),
            imei: None,
            mac: Some([2, 0, 0, 0, 0, seed]),
            vendor_ids: vec![vendor.0],
            class_ids: vec![class.0],
        };
        let medium = Arc::new(Mutex::new(Medium {
            random: u64::from(seed) << 32,
            ..Medium::default()
        }));
        Self {
            medium,
            identity,
            root: [seed; 32],
            has_counter: false,
            settled: Arc::default(),
        }
    }

    /// The same device with a monotonic counter in hardware.
    #[must_use]
    pub fn with_counter(mut self) -> Self {
        self.has_counter = true;
        self
    }

    /// The machine dies at the `at`-th change from now, counted from 0.
    pub fn crash_at(&self, at: u64, crash: Crash) {
        let mut medium = self.lock();
        medium.crash = Some((medium.changes.saturating_add(at), crash));
    }

    /// The machine starts again; no crash is planned.
    pub fn reboot(&self) {
        let mut medium = self.lock();
        medium.dead = false;
        medium.crash = None;
        self.settled.store(false, Ordering::Relaxed);
    }

    /// Whether the machine is dead.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Changes of the medium so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Blob reads so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// From now on the medium is full (or, with `false`, no longer).
    pub fn set_full(&self, full: bool) {
        self.lock().no_space = full;
    }

    /// What the receiver says from now on; `None`: it has no fix.
    pub fn set_position(&self, position: Option<Position>) {
        self.lock().position = Some(position);
    }

    /// Lets `ms` milliseconds pass.
    pub fn advance_ms(&self, ms: u64) {
        let mut medium = self.lock();
        medium.time_ms = medium.time_ms.saturating_add(ms);
    }

    /// What the REE says the time is from now on, in milliseconds since 1970; its clock stands still.
    pub fn set_ree_ms(&self, ms: u64) {
        self.lock().ree_ms = Some(ms);
    }

    /// The TEE's clock begins at 0 again, as on a machine that was off.
    pub fn restart_clock(&self) {
        self.lock().time_ms = 0;
    }

    /// A copy of the whole medium, as an attacker with the flash in hand takes it.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, Vec<u8>> {
        self.lock().blobs.clone()
    }

    /// Puts a copy of the medium back. The hardware counter stays where it is.
    pub fn restore(&self, blobs: BTreeMap<String, Vec<u8>>) {
        self.lock().blobs = blobs;
    }

    fn lock(&self) -> MutexGuard<'_, Medium> {
        self.medium.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One change of the medium, or the crash that stands there.
    fn change(&self, blob: &str, apply: impl FnOnce(&mut Medium)) -> Result<(), PlatformError> {
        let failed = PlatformError::Storage {
            blob: blob.to_string(),
        };
        let mut medium = self.lock();
        if medium.dead {
            return Err(failed);
        }
        let point = medium.changes;
        medium.changes = point.saturating_add(1);
        match medium.crash {
            Some((at, crash)) if at == point => {
                if crash == Crash::Kept {
                    apply(&mut medium);
                }
                medium.dead = true;
                Err(failed)
            }
            _ => {
                apply(&mut medium);
                Ok(())
            }
        }
    }
}

impl Platform for TestPlatform {
    fn identity(&self) -> &HardwareIdentity {
        &self.identity
    }

    fn security(&self) -> SecurityDescription {
        SecurityDescription {
            level: SecurityLevel::Software,
            anti_rollback: if self.has_counter {
                AntiRollback::Hardware
            } else {
                AntiRollback::None
            },
            storage_root: "memory".to_string(),
            missing: vec!["sandbox".to_string()],
            version: "0.1.0-test".to_string(),
        }
    }

    fn derive(&self, label: &str, context: &[u8]) -> Result<Secret<[u8; 32]>, PlatformError> {
        let info = [label.as_bytes(), &[0], context].concat();
        let mut out = Secret::new([0u8; 32]);
        RustCrypto
            .hkdf_sha256(&self.root, b"", &info, out.expose_secret_mut())
            .map_err(|_| PlatformError::RootKey)?;
        Ok(out)
    }

    fn random(&self, out: &mut [u8]) -> Result<(), PlatformError> {
        let mut medium = self.lock();
        for chunk in out.chunks_mut(32) {
            medium.random = medium.random.wrapping_add(1);
            let block = RustCrypto.sha256(&medium.random.to_be_bytes());
            for (to, from) in chunk.iter_mut().zip(block) {
                *to = from;
            }
        }
        Ok(())
    }

    fn system_time_ms(&self) -> u64 {
        self.lock().time_ms
    }

    fn ree_time_ms(&self) -> u64 {
        let medium = self.lock();
        let running = medium.time_ms.saturating_add(1_760_000_000_000);
        medium.ree_ms.unwrap_or(running)
    }

    fn position(&self) -> Result<Position, NoPosition> {
        match self.lock().position {
            None => Err(NoPosition::NoSource),
            Some(None) => Err(NoPosition::NoFix),
            Some(Some(position)) => Ok(position),
        }
    }

    fn blob_read(&self, name: &BlobName) -> Result<Option<Vec<u8>>, PlatformError> {
        let mut medium = self.lock();
        if medium.dead {
            return Err(PlatformError::Storage {
                blob: name.to_string(),
            });
        }
        medium.reads = medium.reads.saturating_add(1);
        Ok(medium.blobs.get(name.as_str()).cloned())
    }

    fn blob_write(&self, name: &BlobName, data: &[u8]) -> Result<(), PlatformError> {
        if self.lock().no_space {
            return Err(PlatformError::NoSpace {
                blob: name.to_string(),
            });
        }
        self.change(name.as_str(), |medium| {
            medium.blobs.insert(name.to_string(), data.to_vec());
        })
    }

    fn blob_remove(&self, name: &BlobName) -> Result<(), PlatformError> {
        self.change(name.as_str(), |medium| {
            medium.blobs.remove(name.as_str());
        })
    }

    fn blob_list(&self, prefix: &str) -> Result<Vec<BlobName>, PlatformError> {
        let medium = self.lock();
        if medium.dead {
            return Err(PlatformError::Storage {
                blob: prefix.to_string(),
            });
        }
        let names = medium.blobs.keys().filter(|name| name.starts_with(prefix));
        Ok(names.filter_map(|name| BlobName::new(name)).collect())
    }

    fn counter(&self) -> Option<&dyn MonotonicCounter> {
        if self.has_counter { Some(self) } else { None }
    }
}

impl MonotonicCounter for TestPlatform {
    fn read(&self) -> Result<u64, PlatformError> {
        let medium = self.lock();
        if medium.dead {
            Err(PlatformError::Counter)
        } else {
            Ok(medium.counter)
        }
    }

    fn increment(&self) -> Result<u64, PlatformError> {
        self.change("counter", |medium| {
            medium.counter = medium.counter.saturating_add(1);
        })
        .map_err(|_| PlatformError::Counter)?;
        MonotonicCounter::read(self)
    }

    fn settled(&self) -> &AtomicBool {
        &self.settled
    }
}
