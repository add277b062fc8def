//! The machine under the core: OP-TEE.
//!
//! Invariants: the root key is what OP-TEE derives for this image from the hardware unique key,
//! and stays in this image's memory; blobs are OP-TEE's persistent objects, replaced atomically;
//! the counter counts in RPMB, and is there only where OP-TEE says that the REE cannot roll its
//! storage back. Within one command nothing is read twice (`recent`).
//!
//! Trusted: OP-TEE. Not trusted: what storage gives back; the core seals and checks all of it.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::sync::atomic::AtomicBool;

use optee_utee::property::{PropertyKey, TeeTrustedStorageAntiRollbackProtectionLevel};
use optee_utee::{
    DataFlag, Error, ErrorKind, GenericObject, ObjectEnumHandle, ObjectStorageConstants,
    ParamIndex, PersistentObject, TaSessionBuilder, TeeParams, Uuid,
};
use tegata_crypto::Secret;
use tegata_crypto::device_keys::software_derive;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_optee_wall as wall;
use tegata_tee::image::{
    OBJECT_ID_LEN_BYTES_MAX, blob_id, blob_name, counter_at, own_ueid, unprovisioned_identity,
};
use tegata_tee::platform::{
    AntiRollback, BlobName, HardwareIdentity, MAX_BLOB_BYTES, MonotonicCounter, Platform,
    PlatformError, SecurityDescription, SecurityLevel,
};
use tegata_wire::ids::Ueid;

use crate::recent::Recent;

/// OP-TEE's system pseudo TA, and its command that derives a key unique to the calling TA.
const PTA_SYSTEM: [u8; 16] = [
    0x3a, 0x2f, 0x89, 0x78, 0x5d, 0xc0, 0x11, 0xe8, 0x9c, 0x2d, 0xfa, 0x7a, 0xe0, 0x1b, 0xbe, 0xbc,
];
const DERIVE_TA_UNIQUE_KEY: u32 = 1;
const ROOT_KEY_LABEL: &[u8] = b"tegata root key v1";

/// What the time of a command goes to.
#[cfg(feature = "measure")]
mod clocks {
    use tegata_optee_wall::measure::Clock;

    pub static READ: Clock = Clock::new("read");
    pub static WRITE: Clock = Clock::new("write");
    pub static REMOVE: Clock = Clock::new("remove");
    pub static LIST: Clock = Clock::new("list");
    pub static COUNT: Clock = Clock::new("counter read");
    pub static STEP: Clock = Clock::new("counter step");
}
#[cfg(feature = "measure")]
pub static CLOCKS: [&tegata_optee_wall::measure::Clock; 6] = [
    &clocks::READ,
    &clocks::WRITE,
    &clocks::REMOVE,
    &clocks::LIST,
    &clocks::COUNT,
    &clocks::STEP,
];

/// Runs `$work`, on a clock if there are clocks.
macro_rules! clocked {
    ($clock:ident, $work:expr) => {{
        #[cfg(feature = "measure")]
        let done = clocks::$clock.run(|| $work);
        #[cfg(not(feature = "measure"))]
        let done = $work;
        done
    }};
}

/// The device, as OP-TEE gives it to this image.
pub struct Machine {
    identity: HardwareIdentity,
    root_key: Secret<[u8; 32]>,
    counter: Option<RpmbCounter>,
}

impl Machine {
    /// Asks OP-TEE for the root key, and whether there is a counter.
    ///
    /// # Errors
    /// [`PlatformError::RootKey`]; [`PlatformError::Counter`] if there must be a counter and it does
    /// not answer now.
    pub fn new() -> Result<Self, PlatformError> {
        let root_key = root_key().map_err(|error| {
            wall::log(&alloc::format!("no root key: {error}"));
            PlatformError::RootKey
        })?;
        // Told for real only after the id was derived from the root key.
        let mut machine = Self {
            identity: unprovisioned_identity(Ueid::from_random([0; 16])),
            root_key,
            counter: None,
        };
        let own = own_ueid(&machine).map_err(|_| PlatformError::RootKey)?;
        machine.identity = unprovisioned_identity(own);
        let level = TeeTrustedStorageAntiRollbackProtectionLevel.get();
        machine.counter = counter_at(level, RpmbCounter::new())?;
        Ok(machine)
    }
}

fn root_key() -> optee_utee::Result<Secret<[u8; 32]>> {
    let mut key = Secret::new([0; 32]);
    let mut session = TaSessionBuilder::new(Uuid::from_bytes(PTA_SYSTEM)).build()?;
    let mut params = TeeParams::new()
        .with_memref_in(ParamIndex::Arg0, ROOT_KEY_LABEL)
        .with_memref_out(ParamIndex::Arg1, key.expose_secret_mut());
    session.invoke_command(DERIVE_TA_UNIQUE_KEY, &mut params)?;
    Ok(key)
}

impl Platform for Machine {
    fn identity(&self) -> &HardwareIdentity {
        &self.identity
    }

    fn security(&self) -> SecurityDescription {
        SecurityDescription {
            level: SecurityLevel::OpTee,
            anti_rollback: match self.counter {
                Some(_) => AntiRollback::Hardware,
                None => AntiRollback::None,
            },
            storage_root: "huk".to_owned(),
            missing: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    fn derive(&self, label: &str, context: &[u8]) -> Result<Secret<[u8; 32]>, PlatformError> {
        software_derive(&RustCrypto, &self.root_key, label, context)
            .map_err(|_| PlatformError::RootKey)
    }

    fn random(&self, out: &mut [u8]) -> Result<(), PlatformError> {
        wall::random(out);
        Ok(())
    }

    fn system_time_ms(&self) -> u64 {
        wall::system_time_ms()
    }

    fn ree_time_ms(&self) -> u64 {
        wall::ree_time_ms()
    }

    fn blob_read(&self, name: &BlobName) -> Result<Option<Vec<u8>>, PlatformError> {
        let mut recent = RECENT.lock();
        if let Some(known) = recent.blob(name) {
            return Ok(known.clone());
        }
        let failed = |error: Error| storage(name, &error);
        let flags = DataFlag::ACCESS_READ | DataFlag::SHARE_READ;
        let id = blob_id(name);
        let mut object = match clocked!(READ, PersistentObject::open(BLOBS, &id, flags)) {
            Ok(object) => object,
            Err(error) if error.kind() == ErrorKind::ItemNotFound => {
                recent.keep(name, None);
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let len = object.info().map_err(failed)?.data_size();
        if len > MAX_BLOB_BYTES {
            return Err(PlatformError::TooLarge {
                blob: name.to_string(),
                got_bytes: u64::try_from(len).unwrap_or(u64::MAX),
                max_bytes: u64::try_from(MAX_BLOB_BYTES).unwrap_or(u64::MAX),
            });
        }
        let content = clocked!(READ, object.read_remaining_to_vec()).map_err(failed)?;
        recent.keep(name, Some(&content));
        recent.hold(name, object);
        Ok(Some(content))
    }

    fn blob_write(&self, name: &BlobName, data: &[u8]) -> Result<(), PlatformError> {
        let mut recent = RECENT.lock();
        recent.lose(name);
        let object = clocked!(WRITE, replace(BLOBS, &blob_id(name), data))
            .map_err(|error| storage(name, &error))?;
        recent.keep(name, Some(data));
        recent.hold(name, object);
        if let Some(names) = NAMES.lock().as_mut() {
            names.insert(name.clone());
        }
        Ok(())
    }

    fn blob_remove(&self, name: &BlobName) -> Result<(), PlatformError> {
        RECENT.lock().lose(name);
        // A name too many costs one look at storage; a name too few would leave a blob for ever.
        let id = blob_id(name);
        let failed = |error: Error| storage(name, &error);
        let flags = DataFlag::ACCESS_WRITE_META;
        match clocked!(REMOVE, PersistentObject::open(BLOBS, &id, flags)) {
            Ok(object) => {
                clocked!(REMOVE, object.close_and_delete()).map_err(failed)?;
                if let Some(names) = NAMES.lock().as_mut() {
                    names.remove(name);
                }
                Ok(())
            }
            // What cannot be opened any more is deleted by OP-TEE itself.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ItemNotFound | ErrorKind::CorruptObject
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn blob_list(&self, prefix: &str) -> Result<Vec<BlobName>, PlatformError> {
        let mut names = NAMES.lock();
        let all = match names.take() {
            Some(all) => all,
            None => clocked!(LIST, all_names()).map_err(|error| PlatformError::Storage {
                blob: alloc::format!("{prefix}*: {error}"),
            })?,
        };
        let found = all.iter().filter(|name| name.as_str().starts_with(prefix));
        let found = found.cloned().collect();
        *names = (all.len() <= NAMES_MAX).then_some(all);
        Ok(found)
    }

    fn counter(&self) -> Option<&dyn MonotonicCounter> {
        self.counter
            .as_ref()
            .map(|counter| counter as &dyn MonotonicCounter)
    }
}

/// A counter of two objects in RPMB, which take turns: while one is written the other still holds
/// the value before. What the REE cannot write, it cannot take back.
struct RpmbCounter {
    settled: AtomicBool,
}

impl RpmbCounter {
    const SLOTS: [&[u8]; 2] = [b"counter 0", b"counter 1"];

    const fn new() -> Self {
        Self {
            settled: AtomicBool::new(false),
        }
    }

    /// Writes a slot. Once it is there its eight bytes are replaced where they lie: they are within
    /// one block of the RPMB, which is written whole or not at all, and a new object would take six
    /// writes.
    fn put(id: &[u8], bytes: &[u8; 8]) -> optee_utee::Result<()> {
        match PersistentObject::open(COUNTER, id, DataFlag::ACCESS_WRITE) {
            Ok(mut object) if object.info()?.data_size() == bytes.len() => object.write(bytes),
            Ok(object) => {
                drop(object);
                replace(COUNTER, id, bytes).map(drop)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ItemNotFound | ErrorKind::CorruptObject
                ) =>
            {
                replace(COUNTER, id, bytes).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// The value in a slot; 0 if it was never written or its writing was cut off.
    fn slot(id: &[u8]) -> Result<u64, PlatformError> {
        let flags = DataFlag::ACCESS_READ | DataFlag::SHARE_READ;
        let mut object = match PersistentObject::open(COUNTER, id, flags) {
            Ok(object) => object,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ItemNotFound | ErrorKind::CorruptObject
                ) =>
            {
                return Ok(0);
            }
            Err(_) => return Err(PlatformError::Counter),
        };
        let mut bytes = [0; 8];
        match object.read(&mut bytes) {
            Ok(8) => Ok(u64::from_be_bytes(bytes)),
            Ok(_) => Ok(0),
            Err(error) if error.kind() == ErrorKind::CorruptObject => Ok(0),
            Err(_) => Err(PlatformError::Counter),
        }
    }
}

impl MonotonicCounter for RpmbCounter {
    fn read(&self) -> Result<u64, PlatformError> {
        if let Some(value) = RECENT.lock().counter() {
            return Ok(value);
        }
        let [even, odd] = Self::SLOTS;
        let (even, odd) = clocked!(COUNT, (Self::slot(even), Self::slot(odd)));
        let value = even?.max(odd?);
        RECENT.lock().count(Some(value));
        Ok(value)
    }

    fn increment(&self) -> Result<u64, PlatformError> {
        let next = self.read()?.checked_add(1).ok_or(PlatformError::Counter)?;
        RECENT.lock().count(None);
        let [even, odd] = Self::SLOTS;
        let slot = if next % 2 == 0 { even } else { odd };
        clocked!(STEP, Self::put(slot, &next.to_be_bytes())).map_err(|_| PlatformError::Counter)?;
        RECENT.lock().count(Some(next));
        Ok(next)
    }

    fn settled(&self) -> &AtomicBool {
        &self.settled
    }
}

/// Names of all blobs that OP-TEE has for this image.
fn all_names() -> optee_utee::Result<BTreeSet<BlobName>> {
    let mut names = BTreeSet::new();
    let mut objects = ObjectEnumHandle::allocate()?;
    match objects.start(STORAGE_PRIVATE_REE) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::ItemNotFound => return Ok(names),
        Err(error) => return Err(error),
    }
    let mut id = [0u8; OBJECT_ID_LEN_BYTES_MAX];
    loop {
        let len = match objects.get_next(None, &mut id) {
            Ok(len) => usize::try_from(len).unwrap_or(0),
            Err(error) if error.kind() == ErrorKind::ItemNotFound => return Ok(names),
            Err(error) => return Err(error),
        };
        names.extend(id.get(..len).and_then(blob_name));
    }
}

/// Names of all blobs, once they were listed: to list them, OP-TEE opens every object. Only this
/// image writes them; the core lists them only to find what nothing names any more.
static NAMES: spin::Mutex<Option<BTreeSet<BlobName>>> = spin::Mutex::new(None);
/// Most names that are remembered.
const NAMES_MAX: usize = 512;

/// A command ended: the next one looks at storage anew.
pub fn command_ended() {
    *RECENT.lock() = Recent::new();
}

/// What the command that runs now has read and written.
static RECENT: spin::Mutex<Recent> = spin::Mutex::new(Recent::new());

/// Creates or replaces an object, atomically and durably.
fn replace(
    storage: ObjectStorageConstants,
    id: &[u8],
    data: &[u8],
) -> optee_utee::Result<PersistentObject> {
    let flags = DataFlag::ACCESS_WRITE | DataFlag::OVERWRITE;
    PersistentObject::create(storage, id, flags, None, data)
}

fn storage(name: &BlobName, error: &Error) -> PlatformError {
    if error.kind() == ErrorKind::StorageNoSpace {
        return PlatformError::NoSpace {
            blob: name.to_string(),
        };
    }
    wall::log(&alloc::format!("storage: {name}: {error}"));
    PlatformError::Storage {
        blob: name.to_string(),
    }
}

const BLOBS: ObjectStorageConstants = ObjectStorageConstants::PrivateRee;
const COUNTER: ObjectStorageConstants = ObjectStorageConstants::PrivateRpmb;
/// `TEE_STORAGE_PRIVATE_REE`, for the enumerator, which takes a number.
const STORAGE_PRIVATE_REE: u32 = 0x8000_0000;
