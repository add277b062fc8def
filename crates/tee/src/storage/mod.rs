//! Secure storage: objects of one TA, encrypted, authenticated and replaced atomically.
//!
//! A namespace belongs to one (signer, TA UUID) pair and has keys of its own. It is a sealed table
//! and one sealed blob for each object. A change writes new blobs first and then replaces the
//! table: that one atomic write is the commit. What a crash leaves behind is either not in the
//! table (removed by the next change) or no longer in it (likewise).
//!
//! Invariants: the medium sees sizes, counts and times, never names or contents; a blob that was
//! altered, swapped or put back from an earlier time does not open; a failed call changes nothing.
//!
//! Replay of the *whole* medium is seen only where the platform has a monotonic counter
//! ([`Protection`]); elsewhere it is not, and evidence says so.
//!
//! Deliberately absent: handles, positions and sharing flags. They are GP semantics and sit in
//! [`crate::gp`] above whole objects.
//!
//! Not trusted: the blob medium. Trusted: the platform's `derive` and `random`.

mod ledger;
mod sealed;
mod table;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;

use tegata_crypto::{CryptoError, Provider, Secret};
use tegata_wire::ids::{SignerId, TaUuid};
use uuid::Uuid;

use crate::platform::{AntiRollback, Platform, PlatformError};

pub(crate) use sealed::{Change, Limits, Namespace};
pub(crate) use table::{as_u64, decode_value, encode_value};

/// Who a TA is: the key that releases it and its UUID. Storage and version floors hang on both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaId {
    /// Thumbprint of the release key.
    pub signer: SignerId,
    /// UUID of the TA.
    pub uuid: TaUuid,
}

impl TaId {
    /// signer ‖ uuid, 48 bytes: the context of keys and names that belong to this TA.
    #[must_use]
    pub fn context(&self) -> Vec<u8> {
        [
            self.signer.as_bytes().as_slice(),
            self.uuid.as_bytes().as_slice(),
        ]
        .concat()
    }

    /// The namespace of the TA's persistent clock: beside its storage, where no object id of the
    /// TA can reach it.
    pub(crate) fn clock(&self) -> Self {
        let uuid = Uuid::new_v5(&self.uuid.uuid(), b"ta-persistent-time");
        Self {
            signer: self.signer,
            uuid: TaUuid(uuid.into_bytes()),
        }
    }
}

impl fmt::Display for TaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.uuid, self.signer)
    }
}

/// One object as it was stored.
pub struct Object {
    /// The data stream, 0 to [`MAX_OBJECT_BYTES`] bytes.
    pub data: Secret<Vec<u8>>,
    /// What the layer above keeps with it (type, usage, key material), opaque here.
    pub attributes: Secret<Vec<u8>>,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSummary {
    /// Object id, 1 to [`OBJECT_ID_MAX_LEN`] bytes.
    pub id: Vec<u8>,
    /// Length of the data stream in bytes.
    pub data_len: usize,
    /// Length of the attributes in bytes.
    pub attributes_len: usize,
}

/// Whether [`SecureStorage::create`] may replace an object of the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// An object of that id makes the call fail.
    Refuse,
    /// An object of that id is replaced.
    Replace,
}

/// What this storage can notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Every change to single blobs is noticed; replay of the whole medium is not.
    Authenticated,
    /// Replay of the whole medium is noticed too, by a counter in hardware.
    ReplayProtected,
}

/// The objects of one TA.
///
/// Every call reads the table anew, so two of these for one TA never disagree; the caller keeps
/// calls for one namespace from running at the same time.
pub struct SecureStorage<'a, P: Platform + ?Sized> {
    namespace: Namespace<'a, P>,
}

impl<'a, P: Platform + ?Sized> SecureStorage<'a, P> {
    /// Opens the namespace of `ta`; it need not exist yet.
    ///
    /// # Errors
    /// [`StorageError::Platform`] if the root key cannot be used.
    pub fn new(
        platform: &'a P,
        provider: &'a dyn Provider,
        ta: &TaId,
    ) -> Result<Self, StorageError> {
        let namespace =
            Namespace::new(platform, provider, STORAGE_LABEL, &ta.context(), TA_LIMITS)?;
        Ok(Self { namespace })
    }

    /// Reads an object whole.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], or [`StorageError::Corrupt`] if it was tampered with or lost.
    pub fn read(&self, id: &[u8]) -> Result<Object, StorageError> {
        self.namespace.read(id)
    }

    /// Whether an object of that id exists; its content is not looked at.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the namespace was tampered with.
    pub fn contains(&self, id: &[u8]) -> Result<bool, StorageError> {
        check_id(id)?;
        Ok(self.namespace.load()?.entries.contains_key(id))
    }

    /// Creates an object; `existing` says what happens if the id is taken.
    ///
    /// # Errors
    /// [`StorageError::AlreadyExists`] with [`Existing::Refuse`], or a limit.
    pub fn create(
        &self,
        id: &[u8],
        data: &[u8],
        attributes: &[u8],
        existing: Existing,
    ) -> Result<(), StorageError> {
        if existing == Existing::Refuse && self.contains(id)? {
            return Err(StorageError::AlreadyExists);
        }
        self.put(id, data, attributes)
    }

    /// Replaces an object that exists.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] if it does not exist, or a limit.
    pub fn write(&self, id: &[u8], data: &[u8], attributes: &[u8]) -> Result<(), StorageError> {
        if !self.contains(id)? {
            return Err(StorageError::NotFound);
        }
        self.put(id, data, attributes)
    }

    /// Gives an object another id; the new id must be free.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::AlreadyExists`], or [`StorageError::Corrupt`].
    pub fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), StorageError> {
        check_id(to)?;
        let object = self.read(from)?;
        if self.contains(to)? {
            return Err(StorageError::AlreadyExists);
        }
        self.namespace.commit(&[
            Change::remove(from),
            Change::put(
                to,
                object.data.expose_secret(),
                object.attributes.expose_secret(),
            ),
        ])
    }

    /// Deletes an object, also one that no longer opens.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] if it does not exist.
    pub fn delete(&self, id: &[u8]) -> Result<(), StorageError> {
        if !self.contains(id)? {
            return Err(StorageError::NotFound);
        }
        self.namespace.commit(&[Change::remove(id)])
    }

    /// All objects, ordered by id.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the namespace was tampered with.
    pub fn list(&self) -> Result<Vec<ObjectSummary>, StorageError> {
        let table = self.namespace.load()?;
        let summary = |(id, entry): (&Vec<u8>, &table::Entry)| ObjectSummary {
            id: id.clone(),
            data_len: entry.data_len,
            attributes_len: entry.attributes_len,
        };
        Ok(table.entries.iter().map(summary).collect())
    }

    /// Removes everything this TA ever stored.
    ///
    /// # Errors
    /// [`StorageError::Platform`] if the medium fails; then some objects may still be there.
    pub fn wipe(&self) -> Result<(), StorageError> {
        self.namespace.wipe()
    }

    /// What this storage can notice.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.namespace.protection()
    }

    fn put(&self, id: &[u8], data: &[u8], attributes: &[u8]) -> Result<(), StorageError> {
        self.namespace.commit(&[Change::put(id, data, attributes)])
    }
}

/// The anti-rollback level that is true: what the platform claims, unless there is no counter.
#[must_use]
pub fn anti_rollback<P: Platform + ?Sized>(platform: &P) -> AntiRollback {
    if platform.counter().is_some() {
        platform.security().anti_rollback
    } else {
        AntiRollback::None
    }
}

/// Why storage did not do it. Nothing changed unless the variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// No object of that id.
    #[error("no such object")]
    NotFound,
    /// The id is taken.
    #[error("object exists already")]
    AlreadyExists,
    /// A blob is missing, altered, swapped or old.
    #[error("stored object is corrupt")]
    Corrupt,
    /// The medium was put back to an earlier time.
    #[error("storage was rolled back: counter says {expected}, medium says {got}")]
    RolledBack {
        /// Value of the hardware counter.
        expected: u64,
        /// Value found on the medium.
        got: u64,
    },
    /// An object id is empty or too long.
    #[error("object id of {got} bytes, at most {max}")]
    IdLength {
        /// Length of the id in bytes.
        got: usize,
        /// Limit in bytes.
        max: usize,
    },
    /// An object is too large.
    #[error("object of {got_bytes} bytes, at most {max_bytes}")]
    TooLarge {
        /// Length of the object in bytes.
        got_bytes: usize,
        /// Limit in bytes.
        max_bytes: usize,
    },
    /// The TA has used up what it may store.
    #[error("storage quota used up")]
    Quota,
    /// The platform could not do it.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A primitive failed in a way that is not tampering.
    #[error(transparent)]
    Crypto(CryptoError),
}

pub(crate) fn check_id(id: &[u8]) -> Result<(), StorageError> {
    if id.is_empty() || id.len() > OBJECT_ID_MAX_LEN {
        return Err(StorageError::IdLength {
            got: id.len(),
            max: OBJECT_ID_MAX_LEN,
        });
    }
    Ok(())
}

/// Longest object id in bytes (`TEE_OBJECT_ID_MAX_LEN`).
pub const OBJECT_ID_MAX_LEN: usize = 64;

/// Largest object in bytes, data and attributes together: a TA keeps keys and certificates.
pub const MAX_OBJECT_BYTES: usize = 256 * 1024;

/// Most objects of one TA: the table is rewritten with each change and must stay small.
pub const MAX_OBJECTS: usize = 256;

/// Most bytes of one TA over all its objects.
pub const MAX_TA_BYTES: usize = 4 * 1024 * 1024;

const STORAGE_LABEL: &str = "tegata storage v1";

const TA_LIMITS: Limits = Limits {
    max_object_bytes: MAX_OBJECT_BYTES,
    max_objects: MAX_OBJECTS,
    max_total_bytes: MAX_TA_BYTES,
};
