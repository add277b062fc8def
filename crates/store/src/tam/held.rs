//! What of releases the TAM has in memory: packages, decoded, for one is in as many Updates as there are devices;
//! and encrypted TAs while they are sent, for many devices fetch the same one at a time, some of them slowly.
//!
//! Invariants: a package never changes under its digest; who may get it, and whether it is there at all, is
//! never held here, but asked of the store each time. No more than a bound of bytes is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tegata_authority::tam::update::ReadyRelease;
use tegata_wire::ids::ReleaseDigest;

/// So many bytes of packages are kept, the longest unused go first.
pub(super) const HELD_LEN_BYTES_MAX: usize = 32 << 20;

/// Packages, the last used last.
#[derive(Default)]
pub(super) struct Held(Mutex<Vec<Entry>>);

struct Entry {
    digest: ReleaseDigest,
    len_bytes: usize,
    release: Arc<ReadyRelease>,
}

impl Held {
    /// The package of that digest, if it is here.
    pub(super) fn find(&self, digest: &ReleaseDigest) -> Option<Arc<ReadyRelease>> {
        let mut entries = self.0.lock().ok()?;
        let at = entries.iter().position(|entry| entry.digest == *digest)?;
        let entry = entries.remove(at);
        let release = Arc::clone(&entry.release);
        entries.push(entry);
        Some(release)
    }

    /// Keeps a package of that encoded length in place of what was there of its digest.
    pub(super) fn keep(
        &self,
        digest: ReleaseDigest,
        len_bytes: usize,
        release: &Arc<ReadyRelease>,
    ) {
        // Without the lock all works as before, more slowly.
        let Ok(mut entries) = self.0.lock() else {
            return;
        };
        entries.retain(|entry| entry.digest != digest);
        entries.push(Entry {
            digest,
            len_bytes,
            release: Arc::clone(release),
        });
        let mut kept_bytes = 0_usize;
        let mut fits = entries.len();
        for entry in entries.iter().rev() {
            kept_bytes = kept_bytes.saturating_add(entry.len_bytes);
            if kept_bytes > HELD_LEN_BYTES_MAX {
                break;
            }
            fits -= 1;
        }
        entries.drain(..fits);
    }
}

/// Encrypted TAs that somebody has at this moment.
#[derive(Default)]
pub(super) struct Payloads(Mutex<HashMap<ReleaseDigest, Weak<[u8]>>>);

impl Payloads {
    /// The one of that release, if somebody has it.
    pub(super) fn find(&self, digest: &ReleaseDigest) -> Option<Arc<[u8]>> {
        self.0.lock().ok()?.get(digest)?.upgrade()
    }

    /// Lets others have it too, for as long as somebody has it.
    pub(super) fn share(&self, digest: ReleaseDigest, bytes: Vec<u8>) -> Arc<[u8]> {
        let bytes: Arc<[u8]> = bytes.into();
        if let Ok(mut known) = self.0.lock() {
            known.retain(|_, bytes| bytes.strong_count() > 0);
            known.insert(digest, Arc::downgrade(&bytes));
        }
        bytes
    }
}

#[cfg(test)]
mod tests;
