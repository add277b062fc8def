//! How sessions reach the [`Tee`](crate::Tee): one object-safe trait, and its implementation over
//! whatever lock the backend keeps the TEE behind.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::marker::PhantomData;

use tegata_wire::cbor;
use tegata_wire::ids::{DeviceUuid, Digest, TaUuid};
use zeroize::Zeroizing;

use crate::gp::host::{ComponentKind, HostError, PersistentTime, TeeInfo};
use crate::platform::{OemId, Platform, PlatformError};
use crate::position::Position;
use crate::storage::{Existing, StorageError, TaId};
use crate::suit::Part;
use crate::ta_store::TaStoreError;
use crate::{Tee, TeeError};

/// A TA that is installed and may be started.
pub struct LoadedTa {
    /// Who it is.
    pub id: TaId,
    /// SHA-256 of its module: says whether a running instance is of this release.
    pub measurement: Digest,
    /// Its module, verified when it was installed and authenticated when it was read.
    pub module: Arc<Vec<u8>>,
}

/// What sessions need of the TEE. Each call is bound to a TA that the caller has established.
#[allow(clippy::missing_errors_doc)] // Each returns the HostError that the TA or client will see.
pub trait TeeAccess: Send + Sync {
    /// The installed TA of that UUID.
    fn load(&self, uuid: &TaUuid) -> Result<Option<LoadedTa>, HostError>;
    /// Who owns that UUID and which module is installed, without reading the module.
    fn installed(&self, uuid: &TaUuid) -> Result<Option<(TaId, Digest)>, HostError>;
    /// Facts about the TEE and device.
    fn info(&self) -> Result<TeeInfo, HostError>;
    /// Random bytes.
    fn random(&self, out: &mut [u8]) -> Result<(), HostError>;
    /// See [`Platform::system_time_ms`].
    fn system_time_ms(&self) -> u64;
    /// See [`Platform::ree_time_ms`].
    fn ree_time_ms(&self) -> u64;
    /// See [`Platform::position`].
    fn position(&self) -> Result<Position, HostError>;
    /// Waits about `ms` milliseconds, or less.
    fn idle(&self, ms: u32);
    /// Reads an object whole.
    fn object_read(&self, ta: &TaId, id: &[u8]) -> Result<Zeroizing<Vec<u8>>, HostError>;
    /// Creates an object; `replace` says whether one of that id is replaced.
    fn object_create(
        &self,
        ta: &TaId,
        id: &[u8],
        content: &[u8],
        replace: bool,
    ) -> Result<(), HostError>;
    /// Replaces an object that exists.
    fn object_write(&self, ta: &TaId, id: &[u8], content: &[u8]) -> Result<(), HostError>;
    /// Renames an object; the new id must be free.
    fn object_rename(&self, ta: &TaId, from: &[u8], to: &[u8]) -> Result<(), HostError>;
    /// Deletes an object.
    fn object_delete(&self, ta: &TaId, id: &[u8]) -> Result<(), HostError>;
    /// Ids of all objects, sorted.
    fn object_list(&self, ta: &TaId) -> Result<Vec<Vec<u8>>, HostError>;
    /// A component of the TA's release.
    fn component(
        &self,
        ta: &TaId,
        kind: ComponentKind,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, HostError>;
    /// The TA's persistent clock.
    fn clock(&self, ta: &TaId) -> Result<Option<PersistentTime>, HostError>;
    /// Sets it.
    fn set_clock(&self, ta: &TaId, time: PersistentTime) -> Result<(), HostError>;
    /// See [`Tee::ta_unique_key`].
    fn ta_unique_key(&self, ta: &TaId, context: &[u8]) -> Result<Zeroizing<[u8; 32]>, HostError>;
    /// EAT evidence over `nonce`.
    fn evidence(&self, nonce: &[u8]) -> Result<Vec<u8>, HostError>;
    /// A line of a TA for the TEE's log.
    fn log(&self, ta: &TaId, line: &str);
}

/// A lock around a value: whatever the backend has. Holders never call back into sessions.
pub trait Exclusive<T>: Send + Sync {
    /// Runs `work` with the value, alone.
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R;
}

impl<T: Send> Exclusive<T> for spin::Mutex<T> {
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.lock())
    }
}

/// Takes a TA's log line.
type LogSink = Box<dyn Fn(&TaId, &str) + Send + Sync>;

/// [`TeeAccess`] over a [`Tee`] behind a lock.
pub struct SharedTee<P, X> {
    tee: Arc<X>,
    idle: Box<dyn Fn(u32) + Send + Sync>,
    log: LogSink,
    platform: PhantomData<fn() -> P>,
}

impl<P: Platform, X: Exclusive<Tee<P>>> SharedTee<P, X> {
    /// Access to `tee`. `idle` sleeps for some milliseconds; `log` takes a TA's log line.
    #[must_use]
    pub fn new(
        tee: Arc<X>,
        idle: impl Fn(u32) + Send + Sync + 'static,
        log: impl Fn(&TaId, &str) + Send + Sync + 'static,
    ) -> Self {
        Self {
            tee,
            idle: Box::new(idle),
            log: Box::new(log),
            platform: PhantomData,
        }
    }
}

impl From<PlatformError> for HostError {
    fn from(error: PlatformError) -> Self {
        match error {
            PlatformError::NoSpace { .. } | PlatformError::TooLarge { .. } => Self::StorageNoSpace,
            PlatformError::Storage { .. } | PlatformError::Counter => Self::StorageNotAvailable,
            PlatformError::RootKey | PlatformError::Random => Self::Generic,
        }
    }
}

impl From<StorageError> for HostError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NotFound => Self::ItemNotFound,
            StorageError::AlreadyExists => Self::AccessConflict,
            StorageError::Corrupt | StorageError::RolledBack { .. } => Self::CorruptObject,
            StorageError::IdLength { .. } => Self::BadParameters,
            StorageError::TooLarge { .. } | StorageError::Quota => Self::StorageNoSpace,
            StorageError::Platform(error) => error.into(),
            StorageError::Crypto(_) => Self::Generic,
        }
    }
}

impl From<TeeError> for HostError {
    fn from(error: TeeError) -> Self {
        match error {
            TeeError::Platform(error) => error.into(),
            TeeError::Storage(error) | TeeError::TaStore(TaStoreError::Storage(error)) => {
                error.into()
            }
            TeeError::Nonce { .. } => Self::BadParameters,
            _ => Self::Generic,
        }
    }
}

const CLOCK: &[u8] = b"clock";

impl<P: Platform + 'static, X: Exclusive<Tee<P>>> TeeAccess for SharedTee<P, X> {
    fn load(&self, uuid: &TaUuid) -> Result<Option<LoadedTa>, HostError> {
        let found = self.tee.with(|tee| tee.installed(uuid))?;
        Ok(found.map(|ta| LoadedTa {
            id: ta.record.id,
            measurement: ta.record.module_digest,
            module: Arc::new(ta.module),
        }))
    }

    fn installed(&self, uuid: &TaUuid) -> Result<Option<(TaId, Digest)>, HostError> {
        let found = self
            .tee
            .with(|tee| -> Result<_, TeeError> { Ok(tee.store()?.record(uuid)?) })?;
        Ok(found.map(|record| (record.id, record.module_digest)))
    }

    fn info(&self) -> Result<TeeInfo, HostError> {
        self.tee.with(|tee| {
            let identity = tee.platform().identity();
            let security = tee.platform().security();
            Ok(TeeInfo {
                device_id: DeviceUuid::derive(&identity.ueid).0,
                ueid: identity.ueid.as_bytes().to_vec(),
                serial: identity.serial.clone(),
                hwmodel: identity.hwmodel.clone(),
                hwversion: identity.hwversion.clone(),
                oem_pen: match identity.oemid {
                    OemId::Pen(pen) => Some(pen),
                    OemId::Bytes(_) => None,
                },
                imei: identity.imei.clone(),
                mac: identity.mac,
                security_level: String::from(security.level.name()),
                anti_rollback_level: security.anti_rollback.level(),
                version: security.version,
            })
        })
    }

    fn random(&self, out: &mut [u8]) -> Result<(), HostError> {
        Ok(self.tee.with(|tee| tee.platform().random(out))?)
    }

    fn system_time_ms(&self) -> u64 {
        self.tee.with(|tee| tee.platform().system_time_ms())
    }

    fn ree_time_ms(&self) -> u64 {
        self.tee.with(|tee| tee.platform().ree_time_ms())
    }

    fn position(&self) -> Result<Position, HostError> {
        Ok(self.tee.with(|tee| tee.platform().position())?)
    }

    fn idle(&self, ms: u32) {
        (self.idle)(ms);
    }

    fn object_read(&self, ta: &TaId, id: &[u8]) -> Result<Zeroizing<Vec<u8>>, HostError> {
        self.tee.with(|tee| {
            let storage = tee.storage(ta)?;
            match storage.read(id) {
                Ok(object) => Ok(Zeroizing::new(object.data.expose_secret().clone())),
                Err(StorageError::Corrupt) => {
                    // GP: a corrupt object is deleted, the TA learns of it once.
                    let _ = storage.delete(id);
                    Err(HostError::CorruptObject)
                }
                Err(error) => Err(error.into()),
            }
        })
    }

    fn object_create(
        &self,
        ta: &TaId,
        id: &[u8],
        content: &[u8],
        replace: bool,
    ) -> Result<(), HostError> {
        let existing = if replace {
            Existing::Replace
        } else {
            Existing::Refuse
        };
        self.tee
            .with(|tee| Ok(tee.storage(ta)?.create(id, content, &[], existing)?))
    }

    fn object_write(&self, ta: &TaId, id: &[u8], content: &[u8]) -> Result<(), HostError> {
        self.tee
            .with(|tee| Ok(tee.storage(ta)?.write(id, content, &[])?))
    }

    fn object_rename(&self, ta: &TaId, from: &[u8], to: &[u8]) -> Result<(), HostError> {
        self.tee.with(|tee| Ok(tee.storage(ta)?.rename(from, to)?))
    }

    fn object_delete(&self, ta: &TaId, id: &[u8]) -> Result<(), HostError> {
        self.tee.with(|tee| Ok(tee.storage(ta)?.delete(id)?))
    }

    fn object_list(&self, ta: &TaId) -> Result<Vec<Vec<u8>>, HostError> {
        self.tee.with(|tee| {
            let list = tee.storage(ta)?.list()?;
            Ok(list.into_iter().map(|summary| summary.id).collect())
        })
    }

    fn component(
        &self,
        ta: &TaId,
        kind: ComponentKind,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, HostError> {
        let part = match kind {
            ComponentKind::Procedure => Part::Procedure,
            ComponentKind::Config => Part::Config,
        };
        // The part alone: a TA asks at each command, and its module is a hundred times as long.
        let found = self.tee.with(|tee| -> Result<_, TeeError> {
            let store = tee.store()?;
            // Another signer's TA may have taken the UUID since this instance began.
            match store.record(&ta.uuid)? {
                Some(record) if record.id == *ta => Ok(Some(store.component(&ta.uuid, part)?)),
                _ => Ok(None),
            }
        })?;
        let content = found.ok_or(HostError::ItemNotFound)?;
        Ok(content.map(|content| Zeroizing::new(content.expose_secret().clone())))
    }

    fn clock(&self, ta: &TaId) -> Result<Option<PersistentTime>, HostError> {
        match self.object_read(&ta.clock(), CLOCK) {
            Ok(bytes) => cbor::from_slice(&bytes)
                .map(Some)
                .map_err(|_| HostError::CorruptObject),
            Err(HostError::ItemNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn set_clock(&self, ta: &TaId, time: PersistentTime) -> Result<(), HostError> {
        let bytes = cbor::to_vec(&time).map_err(|_| HostError::Generic)?;
        let clock = ta.clock();
        match self.object_create(&clock, CLOCK, &bytes, true) {
            // Nothing of it can be read any more: setting the time is what mends it.
            Err(HostError::CorruptObject) => {
                self.tee
                    .with(|tee| -> Result<_, TeeError> { Ok(tee.storage(&clock)?.wipe()?) })?;
                self.object_create(&clock, CLOCK, &bytes, true)
            }
            done => done,
        }
    }

    fn ta_unique_key(&self, ta: &TaId, context: &[u8]) -> Result<Zeroizing<[u8; 32]>, HostError> {
        let key = self.tee.with(|tee| tee.ta_unique_key(ta, context))?;
        Ok(Zeroizing::new(*key.expose_secret()))
    }

    fn evidence(&self, nonce: &[u8]) -> Result<Vec<u8>, HostError> {
        Ok(self.tee.with(|tee| tee.evidence(nonce))?)
    }

    fn log(&self, ta: &TaId, line: &str) {
        (self.log)(ta, line);
    }
}
