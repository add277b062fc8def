//! The platform under the TEE core, made of what a Linux process has.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tegata_crypto::Secret;
use tegata_crypto::device_keys::software_derive;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_tee::platform::{
    AntiRollback, BlobName, HardwareIdentity, MonotonicCounter, NoPosition, Platform,
    PlatformError, Position, SecurityDescription, SecurityLevel,
};

use super::blobs::BlobDir;
use super::gnss::Receiver;
use super::sys::SecretPage;

/// A device whose secure world is a process.
pub struct SoftwareMachine {
    identity: HardwareIdentity,
    root_key: SecretPage,
    blobs: BlobDir,
    missing: Vec<String>,
    started: Instant,
    receiver: Option<Receiver>,
}

impl SoftwareMachine {
    /// Puts it together; `missing` are the walls of the sandbox that this start lacks.
    #[must_use]
    pub fn new(
        identity: HardwareIdentity,
        root_key: SecretPage,
        blobs: BlobDir,
        missing: Vec<String>,
    ) -> Self {
        Self {
            identity,
            root_key,
            blobs,
            missing,
            started: Instant::now(),
            receiver: None,
        }
    }

    /// Gives it a receiver.
    #[must_use]
    pub fn with_receiver(mut self, receiver: Option<Receiver>) -> Self {
        self.receiver = receiver;
        self
    }
}

impl Platform for SoftwareMachine {
    fn identity(&self) -> &HardwareIdentity {
        &self.identity
    }

    fn security(&self) -> SecurityDescription {
        SecurityDescription {
            level: SecurityLevel::Software,
            // No counter in hardware: who copies the disk back rolls it back.
            anti_rollback: AntiRollback::None,
            storage_root: "file".into(),
            missing: self.missing.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    fn derive(&self, label: &str, context: &[u8]) -> Result<Secret<[u8; 32]>, PlatformError> {
        let mut key = Secret::new([0u8; 32]);
        let page = self.root_key.expose();
        if page.len() != key.expose_secret().len() {
            return Err(PlatformError::RootKey);
        }
        // A copy for the time of the call; wiped as it is dropped.
        key.expose_secret_mut().copy_from_slice(page);
        software_derive(&RustCrypto, &key, label, context).map_err(|_| PlatformError::RootKey)
    }

    fn random(&self, out: &mut [u8]) -> Result<(), PlatformError> {
        getrandom::fill(out).map_err(|_| PlatformError::Random)
    }

    fn system_time_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn ree_time_ms(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn blob_read(&self, name: &BlobName) -> Result<Option<Vec<u8>>, PlatformError> {
        self.blobs.read(name)
    }

    fn blob_write(&self, name: &BlobName, data: &[u8]) -> Result<(), PlatformError> {
        self.blobs.write(name, data)
    }

    fn blob_remove(&self, name: &BlobName) -> Result<(), PlatformError> {
        self.blobs.remove(name)
    }

    fn blob_list(&self, prefix: &str) -> Result<Vec<BlobName>, PlatformError> {
        self.blobs.list(prefix)
    }

    fn position(&self) -> Result<Position, NoPosition> {
        self.receiver
            .as_ref()
            .ok_or(NoPosition::NoSource)?
            .position()
    }

    fn counter(&self) -> Option<&dyn MonotonicCounter> {
        None
    }
}
