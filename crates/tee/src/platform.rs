//! What the TEE core needs from the machine under it: one small trait.
//!
//! Invariants an implementation keeps: `derive` gives the same bytes for the same device, label
//! and context for the life of the device, and no other program can ask for them; `blob_write` is
//! atomic and durable (after a crash the blob is wholly old or wholly new); `random` is a
//! cryptographic generator or an error, never a weak answer.
//!
//! Trusted: an implementation knows the device's root secret and its time. The blob medium
//! itself is *not* trusted: all that is written there is encrypted and authenticated above.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::AtomicBool;

use tegata_crypto::{CryptoError, Rng, Secret};

pub use crate::position::{NoPosition, Position};

/// Who this device is: write-once data of the hardware or the factory, never said by the REE.
pub use tegata_wire::device::{DeviceIdentity as HardwareIdentity, Oem as OemId};

/// The machine under the TEE core.
///
/// All methods take `&self`: an implementation is its own lock where it needs one.
pub trait Platform {
    /// Who this device is: write-once data of the hardware or the factory.
    fn identity(&self) -> &HardwareIdentity;

    /// What this TEE protects against, told as it is.
    fn security(&self) -> SecurityDescription;

    /// Derives 32 bytes from the hardware unique key for `label` and `context`.
    ///
    /// # Errors
    /// [`PlatformError::RootKey`] if the root key cannot be used now.
    fn derive(&self, label: &str, context: &[u8]) -> Result<Secret<[u8; 32]>, PlatformError>;

    /// Fills `out` with random bytes from the platform's generator.
    ///
    /// # Errors
    /// [`PlatformError::Random`] if the generator cannot answer.
    fn random(&self, out: &mut [u8]) -> Result<(), PlatformError>;

    /// Time since some point before this boot of the TEE, in milliseconds; never goes back.
    fn system_time_ms(&self) -> u64;

    /// Time of the untrusted side, in milliseconds since 1970-01-01 UTC; it may lie.
    fn ree_time_ms(&self) -> u64;

    /// Reads a blob whole; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`PlatformError::Storage`] if the medium fails, [`PlatformError::TooLarge`] above
    /// [`MAX_BLOB_BYTES`].
    fn blob_read(&self, name: &BlobName) -> Result<Option<Vec<u8>>, PlatformError>;

    /// Creates or replaces a blob, atomically and durably.
    ///
    /// # Errors
    /// [`PlatformError::Storage`] or [`PlatformError::NoSpace`]; then the old blob still stands.
    fn blob_write(&self, name: &BlobName, data: &[u8]) -> Result<(), PlatformError>;

    /// Removes a blob durably; removing what is not there succeeds.
    ///
    /// # Errors
    /// [`PlatformError::Storage`] if the medium fails.
    fn blob_remove(&self, name: &BlobName) -> Result<(), PlatformError>;

    /// Names of all blobs that begin with `prefix`, in any order.
    ///
    /// # Errors
    /// [`PlatformError::Storage`] if the medium fails.
    fn blob_list(&self, prefix: &str) -> Result<Vec<BlobName>, PlatformError>;

    /// Where the device is, by a receiver that belongs to the TEE and not to the REE. A platform
    /// without one keeps this answer.
    ///
    /// # Errors
    /// [`NoPosition`]: no receiver, or no fix.
    fn position(&self) -> Result<Position, NoPosition> {
        Err(NoPosition::NoSource)
    }

    /// The hardware counter that makes replay of old blobs visible, if the device has one.
    fn counter(&self) -> Option<&dyn MonotonicCounter>;
}

/// A counter in hardware that only goes up and survives everything.
///
/// It reads 0 on a device whose storage was never written: an implementation subtracts what the
/// hardware counted before the device was provisioned.
pub trait MonotonicCounter {
    /// The present value.
    ///
    /// # Errors
    /// [`PlatformError::Counter`] if the hardware does not answer.
    fn read(&self) -> Result<u64, PlatformError>;

    /// Adds one and returns the new value, durably.
    ///
    /// # Errors
    /// [`PlatformError::Counter`] if the hardware does not answer.
    fn increment(&self) -> Result<u64, PlatformError>;

    /// A note that secure storage keeps while this machine runs: nothing was made for a value
    /// above the present one. An implementation only holds it; `false` at each start.
    fn settled(&self) -> &AtomicBool;
}

/// What kind of wall stands around this TEE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecurityLevel {
    /// A sandboxed process of the same kernel: root of the REE is not kept out.
    Software,
    /// An OP-TEE trusted application in TrustZone: the REE kernel is kept out.
    OpTee,
}

impl SecurityLevel {
    /// Stable name, as it stands in evidence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::OpTee => "optee",
        }
    }
}

/// Who can roll trusted storage back unseen. Values of
/// `gpd.tee.trustedStorage.antiRollback.protectionLevel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum AntiRollback {
    /// No protection against a replay of the whole medium.
    None = 0,
    /// Protected by a mechanism the REE controls.
    Ree = 100,
    /// Protected by hardware the TEE alone controls.
    Hardware = 1000,
}

impl AntiRollback {
    /// The GP property value: 0, 100 or 1000.
    #[must_use]
    pub const fn level(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Ree => 100,
            Self::Hardware => 1000,
        }
    }
}

/// What this TEE protects against, told as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityDescription {
    /// The wall around the TEE.
    pub level: SecurityLevel,
    /// Protection of trusted storage against replay.
    pub anti_rollback: AntiRollback,
    /// Where the root key lies: `"file"`, `"tpm"`, `"huk"`, …
    pub storage_root: String,
    /// Sandbox items that this start lacks, by name; empty when the sandbox is whole.
    pub missing: Vec<String>,
    /// Version of the TEE binary, as it stands in evidence.
    pub version: String,
}

/// Name of a blob: 1 to [`BlobName::MAX_LEN`] bytes of `a-z 0-9 - .`, not starting with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobName(String);

impl BlobName {
    /// Longest name in bytes: fits every file system, and an OP-TEE object id when packed
    /// ([`crate::image::blob_id`]).
    pub const MAX_LEN: usize = 96;

    /// A name, if it is one.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        let ok = !name.is_empty()
            && name.len() <= Self::MAX_LEN
            && !name.starts_with('.')
            && name.bytes().all(plain);
        ok.then(|| Self(String::from(name)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the platform could not do it. All are of the environment, none is the peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// The root key cannot be used.
    #[error("root key not available")]
    RootKey,
    /// The random generator does not answer.
    #[error("random generator failed")]
    Random,
    /// The medium failed; nothing changed.
    #[error("storage medium failed at {blob}")]
    Storage {
        /// The blob concerned.
        blob: String,
    },
    /// The medium is full; nothing changed.
    #[error("no space left for {blob}")]
    NoSpace {
        /// The blob concerned.
        blob: String,
    },
    /// A blob is larger than any the TEE writes.
    #[error("{blob} is {got_bytes} bytes, more than {max_bytes}")]
    TooLarge {
        /// The blob concerned.
        blob: String,
        /// Its length in bytes.
        got_bytes: u64,
        /// Limit in bytes.
        max_bytes: u64,
    },
    /// The monotonic counter does not answer.
    #[error("monotonic counter failed")]
    Counter,
}

/// A platform's generator as the crypto crate wants it.
#[derive(Clone, Copy)]
pub struct PlatformRng<'a, P: ?Sized>(pub &'a P);

impl<P: Platform + ?Sized> Rng for PlatformRng<'_, P> {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        self.0.random(out).map_err(|_| CryptoError::Rng)
    }
}

/// Largest blob the TEE writes, in bytes: a TA module of 2 MiB and its envelope.
pub const MAX_BLOB_BYTES: usize = 3 * 1024 * 1024;
