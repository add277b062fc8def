//! Installed TAs: module, procedure and personalization data, their manifests and version floors.
//!
//! Everything is one namespace of sealed objects, so an installation of all components, its record
//! and its new version floor are one commit: a crash leaves the old TA or the new one.
//!
//! Invariants: a floor never sinks and survives the removal of its TA; at most one TA is installed
//! under a UUID, and only its own signer may replace it; the storage of a removed TA is wiped
//! before any TA can be installed under its identity again; the tokens of the last
//! [`MAX_APPLIED_TOKENS`] installations and removals of a TA are kept and survive its removal.
//!
//! Trusted: callers of [`TaStore::apply`] have verified what they hand in (see [`crate::suit`]).

mod record;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use tegata_crypto::{Provider, Secret};
use tegata_wire::ids::{Digest, ReleaseDigest, TaUuid};

use crate::platform::Platform;
use crate::storage::{Change, Limits, Namespace, SecureStorage, StorageError, TaId};
use crate::suit::Part;

pub use record::{Applied, Floor, TaRecord};

/// A TA as it is installed, ready to run.
pub struct InstalledTa {
    /// What is known about it.
    pub record: TaRecord,
    /// The Wasm module, up to [`MAX_MODULE_BYTES`].
    pub module: Vec<u8>,
    /// The CA's procedure, CBOR of `wire::enrolment::Procedure`, if the release has one.
    pub procedure: Option<Vec<u8>>,
    /// Personalization data of this device, if the release has any.
    pub config: Option<Secret<Vec<u8>>>,
}

/// The manifests an installation came with, each an envelope without payloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifests {
    /// The release manifest.
    pub release: Vec<u8>,
    /// The personalization manifest.
    pub config: Option<Vec<u8>>,
    /// The TAM's manifest that brought both.
    pub dependent: Option<Vec<u8>>,
}

/// A verified installation. Only [`crate::suit`] makes one.
pub struct Installation {
    /// What is known about it.
    pub(crate) record: TaRecord,
    /// Version floors from now on.
    pub(crate) floor: Floor,
    /// The Wasm module.
    pub(crate) module: Vec<u8>,
    /// The CA's procedure.
    pub(crate) procedure: Option<Vec<u8>>,
    /// Personalization data.
    pub(crate) config: Option<Secret<Vec<u8>>>,
    /// The manifests.
    pub(crate) manifests: Manifests,
}

impl Installation {
    /// What is known about the TA.
    #[must_use]
    pub fn record(&self) -> &TaRecord {
        &self.record
    }
}

/// One part of a change of the store.
#[non_exhaustive]
pub enum TaChange {
    /// A TA is installed, or replaced by a newer release of its signer.
    Install(alloc::boxed::Box<Installation>),
    /// A TA is removed; its floor stays.
    Uninstall(TaUuid),
}

/// The installed TAs of this device.
pub struct TaStore<'a, P: Platform + ?Sized> {
    platform: &'a P,
    provider: &'a dyn Provider,
    namespace: Namespace<'a, P>,
}

impl<'a, P: Platform + ?Sized> TaStore<'a, P> {
    /// Opens the store; it may be empty.
    ///
    /// # Errors
    /// [`TaStoreError::Storage`] if the root key cannot be used.
    pub fn new(platform: &'a P, provider: &'a dyn Provider) -> Result<Self, TaStoreError> {
        let namespace = Namespace::new(platform, provider, STORE_LABEL, b"", STORE_LIMITS)?;
        Ok(Self {
            platform,
            provider,
            namespace,
        })
    }

    /// What is known about the TA of that UUID, if one is installed.
    ///
    /// # Errors
    /// [`TaStoreError::Storage`] if the record is corrupt.
    pub fn record(&self, uuid: &TaUuid) -> Result<Option<TaRecord>, TaStoreError> {
        match self.namespace.read(&key(RECORD, uuid.as_bytes())) {
            Ok(object) => {
                let record = TaRecord::decode(object.data.expose_secret());
                Ok(Some(record.ok_or(StorageError::Corrupt)?))
            }
            Err(StorageError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// All installed TAs, ordered by UUID.
    ///
    /// # Errors
    /// [`TaStoreError::Storage`] if a record is corrupt.
    pub fn records(&self) -> Result<Vec<TaRecord>, TaStoreError> {
        let mut records = Vec::new();
        for uuid in self.uuids()? {
            records.extend(self.record(&uuid)?);
        }
        Ok(records)
    }

    /// The installed TA of that UUID with all its components.
    ///
    /// # Errors
    /// [`TaStoreError::Storage`] if any component is corrupt: a TA never runs in part.
    pub fn load(&self, uuid: &TaUuid) -> Result<Option<InstalledTa>, TaStoreError> {
        let Some(record) = self.record(uuid)? else {
            return Ok(None);
        };
        let module = self.part(MODULE, uuid)?.ok_or(StorageError::Corrupt)?;
        let module = module.expose_secret().clone();
        if self.provider.sha256(&module) != record.module_digest.0 {
            return Err(StorageError::Corrupt.into());
        }
        let procedure = self
            .part(PROCEDURE, uuid)?
            .map(|bytes| bytes.expose_secret().clone());
        let config = self.part(CONFIG, uuid)?;
        Ok(Some(InstalledTa {
            record,
            module,
            procedure,
            config,
        }))
    }

    /// One part of an installed TA.
    ///
    /// # Errors
    /// [`TaStoreError::Storage`] if it is corrupt.
    pub fn component(
        &self,
        uuid: &TaUuid,
        part: Part,
    ) -> Result<Option<Secret<Vec<u8>>>, TaStoreError> {
        let kind = match part {
            Part::Ta => MODULE,
            Part::Procedure => PROCEDURE,
            Part::Config => CONFIG,
        };
        self.part(kind, uuid)
    }

    /// The manifests of an installed TA.
    ///
    /// # Errors
    /// [`TaStoreError::Storage`] if one is corrupt.
    pub fn manifests(&self, uuid: &TaUuid) -> Result<Option<Manifests>, TaStoreError> {
        let Some(release) = self.part(RELEASE_MANIFEST, uuid)? else {
            return Ok(None);
        };
        let plain = |bytes: Secret<Vec<u8>>| bytes.expose_secret().clone();
        Ok(Some(Manifests {
            release: plain(release),
            config: self.part(CONFIG_MANIFEST, uuid)?.map(plain),
            dependent: self.part(DEPENDENT_MANIFEST, uuid)?.map(plain),
        }))
    }

    /// The version floors of a (signer, UUID) pair; `None` if nothing of it was ever installed.
    ///
    /// # Errors
    /// [`TaStoreError::Storage`] if the floor is corrupt: then nothing may be installed.
    pub fn floor(&self, ta: &TaId) -> Result<Option<Floor>, TaStoreError> {
        match self.namespace.read(&key(FLOOR, &self.floor_name(ta))) {
            Ok(object) => Ok(Some(
                Floor::decode(object.data.expose_secret()).ok_or(StorageError::Corrupt)?,
            )),
            Err(StorageError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Which messages a (signer, UUID) pair was installed and removed by last.
    ///
    /// # Errors
    /// [`TaStoreError::Storage`] if the record is corrupt: then nothing may be installed.
    pub fn applied(&self, ta: &TaId) -> Result<Applied, TaStoreError> {
        match self.namespace.read(&key(APPLIED, &self.floor_name(ta))) {
            Ok(object) => {
                Ok(Applied::decode(object.data.expose_secret()).ok_or(StorageError::Corrupt)?)
            }
            Err(StorageError::NotFound) => Ok(Applied::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes all changes or none.
    ///
    /// # Errors
    /// A rule of the store, or [`TaStoreError::Storage`]; then the old state stands.
    pub fn apply(&self, changes: &[TaChange]) -> Result<(), TaStoreError> {
        self.apply_message(changes, None)
    }

    /// Makes all changes of the message with that token, or none, and remembers the token.
    ///
    /// # Errors
    /// As [`TaStore::apply`].
    pub fn apply_message(
        &self,
        changes: &[TaChange],
        token: Option<&[u8]>,
    ) -> Result<(), TaStoreError> {
        // 1. Wipes that an earlier removal promised. A crash here leaves the promise.
        self.finish_wipes()?;
        let mut plan = Plan::default();
        for change in changes {
            match change {
                TaChange::Install(installation) => {
                    self.plan_install(&mut plan, installation, token)?
                }
                TaChange::Uninstall(uuid) => self.plan_uninstall(&mut plan, uuid, token)?,
            }
        }
        if plan.0.is_empty() {
            return Ok(());
        }
        // 2. The commit. Before it the old TAs stand, after it the new ones.
        let changes: Vec<Change<'_>> = plan.0.iter().map(Planned::change).collect();
        self.namespace.commit(&changes)?;
        // 3. Storage of removed TAs. A crash here leaves the promise, which `recover` keeps.
        self.finish_wipes()
    }

    /// Finishes what a crash interrupted. Callers run it before the first TA.
    ///
    /// # Errors
    /// [`TaStoreError::Storage`] if the medium fails; it may be run again.
    pub fn recover(&self) -> Result<(), TaStoreError> {
        self.finish_wipes()
    }

    fn plan_install(
        &self,
        plan: &mut Plan,
        installation: &Installation,
        token: Option<&[u8]>,
    ) -> Result<(), TaStoreError> {
        let Installation {
            record,
            floor,
            module,
            procedure,
            config,
            manifests,
        } = installation;
        let uuid = &record.id.uuid;
        if module.len() > MAX_MODULE_BYTES {
            let (got_bytes, max_bytes) = (module.len(), MAX_MODULE_BYTES);
            return Err(StorageError::TooLarge {
                got_bytes,
                max_bytes,
            }
            .into());
        }
        match self.record(uuid)? {
            Some(old) if old.id != record.id => {
                return Err(TaStoreError::OtherSigner {
                    installed: old.id,
                    got: record.id,
                });
            }
            None if self.uuids()?.len() >= MAX_TAS => return Err(TaStoreError::TooManyTas),
            _ => {}
        }
        let old = self.floor(&record.id)?;
        if old.is_some_and(|old| floor.release < old.release || floor.dependent < old.dependent) {
            return Err(TaStoreError::FloorSinks { ta: record.id });
        }
        let id = uuid.as_bytes();
        plan.put(key(RECORD, id), &record.encode()?);
        plan.put(key(FLOOR, &self.floor_name(&record.id)), &floor.encode()?);
        if let Some(token) = token {
            let mut applied = self.applied(&record.id)?;
            applied.add_installation(token);
            plan.put(
                key(APPLIED, &self.floor_name(&record.id)),
                &applied.encode()?,
            );
        }
        plan.put(key(MODULE, id), module);
        plan.set(key(PROCEDURE, id), procedure.as_deref());
        plan.set(
            key(CONFIG, id),
            config.as_ref().map(|c| c.expose_secret().as_slice()),
        );
        plan.put(key(RELEASE_MANIFEST, id), &manifests.release);
        plan.set(key(CONFIG_MANIFEST, id), manifests.config.as_deref());
        plan.set(key(DEPENDENT_MANIFEST, id), manifests.dependent.as_deref());
        Ok(())
    }

    fn plan_uninstall(
        &self,
        plan: &mut Plan,
        uuid: &TaUuid,
        token: Option<&[u8]>,
    ) -> Result<(), TaStoreError> {
        let Some(record) = self.record(uuid)? else {
            return Ok(());
        };
        if let Some(token) = token {
            let mut applied = self.applied(&record.id)?;
            applied.add_removal(token);
            plan.put(
                key(APPLIED, &self.floor_name(&record.id)),
                &applied.encode()?,
            );
        }
        for kind in ALL_PARTS {
            plan.set(key(*kind, uuid.as_bytes()), None);
        }
        plan.put(
            key(WIPE, &self.floor_name(&record.id)),
            &record.id.context(),
        );
        Ok(())
    }

    fn finish_wipes(&self) -> Result<(), TaStoreError> {
        let table = self.namespace.load()?;
        let pending = table.entries.keys().filter(|id| id.first() == Some(&WIPE));
        for id in pending.cloned().collect::<Vec<_>>() {
            let object = self.namespace.read(&id)?;
            let ta = record::id_from_context(object.data.expose_secret())
                .ok_or(StorageError::Corrupt)?;
            for of_ta in [ta, ta.clock()] {
                SecureStorage::new(self.platform, self.provider, &of_ta)?.wipe()?;
            }
            self.namespace.commit(&[Change::remove(&id)])?;
        }
        Ok(())
    }

    fn part(&self, kind: u8, uuid: &TaUuid) -> Result<Option<Secret<Vec<u8>>>, TaStoreError> {
        match self.namespace.read(&key(kind, uuid.as_bytes())) {
            Ok(object) => Ok(Some(object.data)),
            Err(StorageError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn uuids(&self) -> Result<Vec<TaUuid>, TaStoreError> {
        let table = self.namespace.load()?;
        let uuid = |id: &Vec<u8>| match id.split_first() {
            Some((&RECORD, uuid)) => TaUuid::from_slice(uuid).ok(),
            _ => None,
        };
        Ok(table.entries.keys().filter_map(uuid).collect())
    }

    /// Signer and UUID together are 48 bytes; an object id has room for them.
    fn floor_name(&self, ta: &TaId) -> Vec<u8> {
        ta.context()
    }
}

/// Changes that own their bytes.
#[derive(Default)]
struct Plan(Vec<Planned>);

struct Planned {
    id: Vec<u8>,
    data: Option<Secret<Vec<u8>>>,
}

impl Plan {
    fn put(&mut self, id: Vec<u8>, data: &[u8]) {
        self.set(id, Some(data));
    }

    fn set(&mut self, id: Vec<u8>, data: Option<&[u8]>) {
        self.0.push(Planned {
            id,
            data: data.map(|data| Secret::new(data.to_vec())),
        });
    }
}

impl Planned {
    fn change(&self) -> Change<'_> {
        match &self.data {
            Some(data) => Change::put(&self.id, data.expose_secret(), b""),
            None => Change::remove(&self.id),
        }
    }
}

fn key(kind: u8, name: &[u8]) -> Vec<u8> {
    [&[kind], name].concat()
}

/// Short description of an installed TA for evidence: release digest and module measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// The TA.
    pub uuid: TaUuid,
    /// SUIT digest of its release manifest.
    pub release: ReleaseDigest,
    /// SHA-256 of its Wasm module.
    pub module: Digest,
    /// Sequence number of the release.
    pub sequence_number: u64,
}

/// Why the store refused. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaStoreError {
    /// The UUID belongs to a TA of another signer.
    #[error("{installed} is installed; {got} cannot replace it")]
    OtherSigner {
        /// The TA that is installed.
        installed: TaId,
        /// The TA that wanted its place.
        got: TaId,
    },
    /// The floor would sink.
    #[error("version floor of {ta} would sink")]
    FloorSinks {
        /// The TA.
        ta: TaId,
    },
    /// No room for another TA.
    #[error("already {MAX_TAS} TAs installed")]
    TooManyTas,
    /// Storage did not do it.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Largest Wasm module in bytes.
pub const MAX_MODULE_BYTES: usize = 2 * 1024 * 1024;

/// Tokens of past messages kept for each kind of change of a TA. The replay of a removal needs a
/// message older than that many removals of the same TA.
pub const MAX_APPLIED_TOKENS: usize = 32;

/// Most installed TAs: each costs up to a module of storage, and evidence lists them all.
pub const MAX_TAS: usize = 32;

const STORE_LABEL: &str = "tegata ta-store v1";

const STORE_LIMITS: Limits = Limits {
    max_object_bytes: MAX_MODULE_BYTES,
    // Seven parts for each TA; floors and tokens of TAs that are gone.
    max_objects: 1024,
    max_total_bytes: 32 * 1024 * 1024,
};

const RECORD: u8 = b'r';
const FLOOR: u8 = b'f';
const APPLIED: u8 = b't';
const WIPE: u8 = b'w';
const MODULE: u8 = b'm';
const PROCEDURE: u8 = b'p';
const CONFIG: u8 = b'c';
const RELEASE_MANIFEST: u8 = b'1';
const CONFIG_MANIFEST: u8 = b'2';
const DEPENDENT_MANIFEST: u8 = b'3';
const ALL_PARTS: &[u8] = &[
    RECORD,
    MODULE,
    PROCEDURE,
    CONFIG,
    RELEASE_MANIFEST,
    CONFIG_MANIFEST,
    DEPENDENT_MANIFEST,
];
