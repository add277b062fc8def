//! A namespace of sealed objects with an atomic commit over any number of them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tegata_crypto::{CryptoError, Provider, Secret};

use super::ledger::Ledger;
use super::table::{Entry, Table};
use super::{Object, Protection, StorageError, check_id};
use crate::platform::{BlobName, Platform};

/// What one namespace may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Largest object in bytes, data and attributes together.
    pub max_object_bytes: usize,
    /// Most objects.
    pub max_objects: usize,
    /// Most bytes over all objects.
    pub max_total_bytes: usize,
}

/// One part of a commit.
pub(crate) struct Change<'c> {
    id: &'c [u8],
    content: Option<(&'c [u8], &'c [u8])>,
}

impl<'c> Change<'c> {
    /// Object `id` gets this data and these attributes.
    pub fn put(id: &'c [u8], data: &'c [u8], attributes: &'c [u8]) -> Self {
        Self {
            id,
            content: Some((data, attributes)),
        }
    }

    /// Object `id` goes; it need not exist.
    pub fn remove(id: &'c [u8]) -> Self {
        Self { id, content: None }
    }
}

/// Sealed objects under one key.
pub(crate) struct Namespace<'a, P: Platform + ?Sized> {
    platform: &'a P,
    provider: &'a dyn Provider,
    limits: Limits,
    seal_key: Secret<[u8; 32]>,
    name_key: Secret<[u8; 32]>,
    /// Tag of this namespace in blob names: 8 bytes of a MAC, hexadecimal; reveals nothing.
    tag: String,
}

impl<'a, P: Platform + ?Sized> Namespace<'a, P> {
    /// The namespace whose keys are derived for `label` and `context`.
    ///
    /// # Errors
    /// [`StorageError::Platform`] if the root key cannot be used.
    pub fn new(
        platform: &'a P,
        provider: &'a dyn Provider,
        label: &str,
        context: &[u8],
        limits: Limits,
    ) -> Result<Self, StorageError> {
        let root = platform.derive(label, context)?;
        let subkey = |info: &[u8]| -> Result<Secret<[u8; 32]>, StorageError> {
            let mut key = Secret::new([0u8; 32]);
            provider
                .hkdf_sha256(root.expose_secret(), b"", info, key.expose_secret_mut())
                .map_err(StorageError::Crypto)?;
            Ok(key)
        };
        let seal_key = subkey(b"seal")?;
        let name_key = subkey(b"name")?;
        let mac = provider.hmac_sha256(name_key.expose_secret(), b"namespace");
        let tag = hex::encode(mac.get(..8).unwrap_or_default());
        Ok(Self {
            platform,
            provider,
            limits,
            seal_key,
            name_key,
            tag,
        })
    }

    /// What this namespace can notice.
    pub fn protection(&self) -> Protection {
        match self.platform.counter() {
            Some(_) => Protection::ReplayProtected,
            None => Protection::Authenticated,
        }
    }

    /// Reads one object.
    pub fn read(&self, id: &[u8]) -> Result<Object, StorageError> {
        check_id(id)?;
        let table = self.load()?;
        let entry = table.entries.get(id).ok_or(StorageError::NotFound)?;
        self.read_entry(id, entry)
    }

    /// Reads one object through a table that was loaded already.
    pub fn read_entry(&self, id: &[u8], entry: &Entry) -> Result<Object, StorageError> {
        let name = self.object_name(id, entry.version)?;
        let sealed = self
            .platform
            .blob_read(&name)?
            .ok_or(StorageError::Corrupt)?;
        let aad = self.object_aad(id, entry.version);
        let plain = self
            .provider
            .aes_gcm_open(self.seal_key.expose_secret(), &entry.nonce, &aad, &sealed)
            .map_err(as_corrupt)?;
        let plain = plain.expose_secret();
        if Some(plain.len()) != entry.data_len.checked_add(entry.attributes_len) {
            return Err(StorageError::Corrupt);
        }
        let (attributes, data) = plain
            .split_at_checked(entry.attributes_len)
            .ok_or(StorageError::Corrupt)?;
        Ok(Object {
            data: Secret::new(data.to_vec()),
            attributes: Secret::new(attributes.to_vec()),
        })
    }

    /// The table as it stands; empty if this namespace was never written.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] or [`StorageError::RolledBack`].
    pub fn load(&self) -> Result<Table, StorageError> {
        let name = self.table_name()?;
        let sealed = self.platform.blob_read(&name)?;
        let (table, digest) = match &sealed {
            None => (Table::default(), None),
            Some(sealed) => {
                let table = self.open_table(sealed)?;
                (table, Some(self.provider.sha256(sealed)))
            }
        };
        if let Some(ledger) = Ledger::of(self.platform, self.provider)? {
            ledger.check(&self.tag, table.epoch, digest)?;
        }
        Ok(table)
    }

    /// Makes all changes or none.
    ///
    /// # Errors
    /// A limit, or [`StorageError::Platform`]; then the old state stands.
    pub fn commit(&self, changes: &[Change<'_>]) -> Result<(), StorageError> {
        let old = self.load()?;
        self.sweep(&old)?;
        let epoch = old.epoch.checked_add(1).ok_or(StorageError::Quota)?;
        let mut new = Table {
            epoch,
            entries: old.entries.clone(),
        };
        // 1. New objects beside the old ones. A crash here leaves blobs that no table names.
        for change in changes {
            check_id(change.id)?;
            match change.content {
                None => {
                    new.entries.remove(change.id);
                }
                Some((data, attributes)) => {
                    let entry = self.check_entry(&mut new, change.id, data, attributes, epoch)?;
                    self.write_object(change.id, &entry, data, attributes)?;
                }
            }
        }
        // 2. The commit: one atomic write. Before it the old state stands, after it the new.
        let sealed = self.seal_table(&new)?;
        self.platform.blob_write(&self.table_name()?, &sealed)?;
        // 3. The hardware counter moves on. A crash before it leaves a table one step ahead of the
        //    ledger, which the next load accepts and records.
        if let Some(ledger) = Ledger::of(self.platform, self.provider)? {
            ledger.check(&self.tag, epoch, Some(self.provider.sha256(&sealed)))?;
        }
        // 4. What nobody names any more goes. The commit stands whatever happens here.
        for (id, entry) in &old.entries {
            if new.entries.get(id).map(|kept| kept.version) != Some(entry.version) {
                let _ = self
                    .platform
                    .blob_remove(&self.object_name(id, entry.version)?);
            }
        }
        Ok(())
    }

    /// Removes every object, also from a namespace that no longer opens. The table itself stays,
    /// empty, so that the epoch goes on and nothing old fits again.
    pub fn wipe(&self) -> Result<(), StorageError> {
        let ids: Vec<Vec<u8>> = match self.load() {
            Ok(table) => table.entries.into_keys().collect(),
            Err(StorageError::Corrupt | StorageError::RolledBack { .. }) => return self.reset(),
            Err(error) => return Err(error),
        };
        let changes: Vec<Change<'_>> = ids.iter().map(|id| Change::remove(id)).collect();
        if changes.is_empty() {
            Ok(())
        } else {
            self.commit(&changes)
        }
    }

    /// Starts a damaged namespace anew. Who tampered with it gains nothing but its loss.
    fn reset(&self) -> Result<(), StorageError> {
        let ledger = Ledger::of(self.platform, self.provider)?;
        let known = match &ledger {
            Some(ledger) => ledger.epoch(&self.tag)?,
            None => 0,
        };
        let epoch = known.checked_add(1).ok_or(StorageError::Quota)?;
        self.sweep(&Table::default())?;
        let sealed = self.seal_table(&Table {
            epoch,
            ..Table::default()
        })?;
        self.platform.blob_write(&self.table_name()?, &sealed)?;
        match ledger {
            Some(ledger) => ledger.check(&self.tag, epoch, Some(self.provider.sha256(&sealed))),
            None => Ok(()),
        }
    }

    /// Adds the entry of a new object to `table`, within the limits.
    fn check_entry(
        &self,
        table: &mut Table,
        id: &[u8],
        data: &[u8],
        attributes: &[u8],
        version: u64,
    ) -> Result<Entry, StorageError> {
        let got_bytes = data.len().saturating_add(attributes.len());
        if got_bytes > self.limits.max_object_bytes {
            let max_bytes = self.limits.max_object_bytes;
            return Err(StorageError::TooLarge {
                got_bytes,
                max_bytes,
            });
        }
        let mut nonce = [0u8; 12];
        self.platform.random(&mut nonce)?;
        let entry = Entry {
            version,
            nonce,
            data_len: data.len(),
            attributes_len: attributes.len(),
        };
        table.entries.insert(id.to_vec(), entry.clone());
        let total = table
            .entries
            .values()
            .fold(0usize, |sum, entry| sum.saturating_add(entry.len()));
        if table.entries.len() > self.limits.max_objects || total > self.limits.max_total_bytes {
            return Err(StorageError::Quota);
        }
        Ok(entry)
    }

    fn write_object(
        &self,
        id: &[u8],
        entry: &Entry,
        data: &[u8],
        attributes: &[u8],
    ) -> Result<(), StorageError> {
        let plain = Secret::new([attributes, data].concat());
        let aad = self.object_aad(id, entry.version);
        let key = self.seal_key.expose_secret();
        let sealed = self
            .provider
            .aes_gcm_seal(key, &entry.nonce, &aad, plain.expose_secret())
            .map_err(StorageError::Crypto)?;
        self.platform
            .blob_write(&self.object_name(id, entry.version)?, &sealed)?;
        Ok(())
    }

    /// Removes what a crash left behind: object blobs of this namespace that the table lacks.
    fn sweep(&self, table: &Table) -> Result<(), StorageError> {
        let mut live = Vec::new();
        for (id, entry) in &table.entries {
            live.push(self.object_name(id, entry.version)?);
        }
        for name in self.platform.blob_list(&format!("o-{}-", self.tag))? {
            if !live.contains(&name) {
                self.platform.blob_remove(&name)?;
            }
        }
        Ok(())
    }

    fn seal_table(&self, table: &Table) -> Result<Vec<u8>, StorageError> {
        let mut nonce = [0u8; 12];
        self.platform.random(&mut nonce)?;
        let plain = Secret::new(table.encode()?);
        let key = self.seal_key.expose_secret();
        let sealed = self
            .provider
            .aes_gcm_seal(key, &nonce, &self.table_aad(), plain.expose_secret())
            .map_err(StorageError::Crypto)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    fn open_table(&self, sealed: &[u8]) -> Result<Table, StorageError> {
        let (nonce, body) = sealed
            .split_first_chunk::<12>()
            .ok_or(StorageError::Corrupt)?;
        let key = self.seal_key.expose_secret();
        let plain = self
            .provider
            .aes_gcm_open(key, nonce, &self.table_aad(), body)
            .map_err(as_corrupt)?;
        Table::decode(plain.expose_secret()).ok_or(StorageError::Corrupt)
    }

    fn table_name(&self) -> Result<BlobName, StorageError> {
        BlobName::new(&format!("t-{}", self.tag)).ok_or(UNREACHABLE_NAME)
    }

    fn object_name(&self, id: &[u8], version: u64) -> Result<BlobName, StorageError> {
        let input = [b"object".as_slice(), &version.to_be_bytes(), id].concat();
        let mac = self
            .provider
            .hmac_sha256(self.name_key.expose_secret(), &input);
        let leaf = hex::encode(mac.get(..16).unwrap_or_default());
        BlobName::new(&format!("o-{}-{leaf}", self.tag)).ok_or(UNREACHABLE_NAME)
    }

    fn table_aad(&self) -> Vec<u8> {
        [b"tegata table v1\0".as_slice(), self.tag.as_bytes()].concat()
    }

    fn object_aad(&self, id: &[u8], version: u64) -> Vec<u8> {
        let head = [b"tegata object v1\0".as_slice(), self.tag.as_bytes()].concat();
        [head.as_slice(), &version.to_be_bytes(), id].concat()
    }
}

/// What cannot be decrypted was tampered with; anything else is a failure of the primitive.
pub(super) fn as_corrupt(error: CryptoError) -> StorageError {
    match error {
        CryptoError::BadCiphertext => StorageError::Corrupt,
        other => StorageError::Crypto(other),
    }
}

pub(super) const UNREACHABLE_NAME: StorageError =
    StorageError::Crypto(CryptoError::Unreachable("blob name is made of hexadecimal"));
