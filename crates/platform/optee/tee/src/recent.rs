//! What one command has read and written, so that it asks OP-TEE once.
//!
//! Purpose: opening an object costs OP-TEE its whole directory, read from the REE and checked
//! against RPMB. The core reads its tables anew at each step; within one command that is the same
//! bytes. They are kept until the command ends, and one object stays open as long, which keeps
//! OP-TEE's directory open.
//!
//! Invariants: nothing outlives a command, so what the REE alters in between is seen by the next
//! one; what was written is what is read. Contents are sealed: nothing here is secret.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use optee_utee::PersistentObject;
use tegata_tee::platform::BlobName;

/// Longest blob that is kept, in bytes: tables and the ledger, not modules.
const LEN_BYTES_MAX: usize = 16 * 1024;
/// Most blobs that are kept.
const BLOBS_MAX: usize = 24;

/// What a command has seen so far.
pub struct Recent {
    blobs: BTreeMap<BlobName, Option<Vec<u8>>>,
    counter: Option<u64>,
    held: Option<Held>,
}

/// An object that stays open.
struct Held {
    name: BlobName,
    _object: PersistentObject,
}

// SAFETY: the handle is a number of this address space, in which OP-TEE runs one thread and one
// entry point at a time; there is no other thread to send it to.
#[allow(unsafe_code)]
unsafe impl Send for Held {}

impl Recent {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            blobs: BTreeMap::new(),
            counter: None,
            held: None,
        }
    }

    /// The blob as this command knows it; the inner `None` says that there is none.
    pub fn blob(&self, name: &BlobName) -> Option<&Option<Vec<u8>>> {
        self.blobs.get(name)
    }

    /// Remembers a blob, if it is small.
    pub fn keep(&mut self, name: &BlobName, content: Option<&[u8]>) {
        let small = content.is_none_or(|content| content.len() <= LEN_BYTES_MAX);
        if small && (self.blobs.len() < BLOBS_MAX || self.blobs.contains_key(name)) {
            self.blobs.insert(name.clone(), content.map(<[u8]>::to_vec));
        } else {
            self.blobs.remove(name);
        }
    }

    /// Nothing is known of the blob, and it is not held open: it is about to change.
    pub fn lose(&mut self, name: &BlobName) {
        self.blobs.remove(name);
        if self.held.as_ref().is_some_and(|held| held.name == *name) {
            self.held = None;
        }
    }

    /// Holds this object open instead of the one before.
    pub fn hold(&mut self, name: &BlobName, object: PersistentObject) {
        self.held = Some(Held {
            name: name.clone(),
            _object: object,
        });
    }

    /// The counter as this command knows it.
    pub const fn counter(&self) -> Option<u64> {
        self.counter
    }

    /// Remembers the counter, or that it is not known.
    pub const fn count(&mut self, value: Option<u64>) {
        self.counter = value;
    }
}
