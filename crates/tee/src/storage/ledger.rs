//! The ledger: what the hardware counter vouches for, where there is one.
//!
//! One sealed blob that names the epoch and digest of every namespace's table, and the counter
//! value it was made for. It is valid at that value and, after a crash between its write and the
//! increment, one above it; nothing older ever fits again.
//!
//! A change takes one step of the counter, the first after each start or failure two. A crash may
//! have left a ledger for the next value that nobody was told of; the extra step burns that value,
//! so each ledger that is answered for is the only one there will ever be for its value. While the
//! machine runs it knows that it left none ([`MonotonicCounter::settled`]).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use ciborium::Value;
use tegata_crypto::{Provider, Secret};

use super::StorageError;
use super::sealed::{UNREACHABLE_NAME, as_corrupt};
use super::table::{as_u64, decode_value, encode_value};
use crate::platform::{BlobName, MonotonicCounter, Platform};

/// Table state of one namespace: epoch, and SHA-256 of the sealed table.
type State = (u64, [u8; 32]);

/// The ledger of a platform that has a counter.
pub(super) struct Ledger<'a, P: Platform + ?Sized> {
    platform: &'a P,
    provider: &'a dyn Provider,
    counter: &'a dyn MonotonicCounter,
    key: Secret<[u8; 32]>,
}

impl<'a, P: Platform + ?Sized> Ledger<'a, P> {
    /// The ledger, or `None` where the platform has no counter.
    pub fn of(platform: &'a P, provider: &'a dyn Provider) -> Result<Option<Self>, StorageError> {
        let Some(counter) = platform.counter() else {
            return Ok(None);
        };
        let key = platform.derive("tegata storage ledger v1", b"")?;
        Ok(Some(Self {
            platform,
            provider,
            counter,
            key,
        }))
    }

    /// Accepts a table that is what the ledger says or exactly one change ahead of it, and in the
    /// latter case records it before anything else happens.
    ///
    /// # Errors
    /// [`StorageError::RolledBack`] for any other table.
    pub fn check(
        &self,
        tag: &str,
        epoch: u64,
        digest: Option<[u8; 32]>,
    ) -> Result<(), StorageError> {
        let mut states = self.load()?;
        let (known_epoch, known_digest) = match states.get(tag) {
            None => (0, None),
            Some((epoch, digest)) => (*epoch, Some(*digest)),
        };
        if epoch == known_epoch && digest == known_digest {
            return Ok(());
        }
        match digest {
            Some(digest) if known_epoch.checked_add(1) == Some(epoch) => {
                states.insert(String::from(tag), (epoch, digest));
                self.store(&states)
            }
            _ => Err(StorageError::RolledBack {
                expected: known_epoch,
                got: epoch,
            }),
        }
    }

    /// The epoch that stands for this namespace; 0 if it was never written.
    pub fn epoch(&self, tag: &str) -> Result<u64, StorageError> {
        Ok(self.load()?.get(tag).map_or(0, |(epoch, _)| *epoch))
    }

    fn load(&self) -> Result<BTreeMap<String, State>, StorageError> {
        let hardware = self.counter.read()?;
        let Some(sealed) = self.platform.blob_read(&name()?)? else {
            if hardware == 0 {
                return Ok(BTreeMap::new());
            }
            return Err(StorageError::RolledBack {
                expected: hardware,
                got: 0,
            });
        };
        let (value, states) = self.open(&sealed)?;
        if value == hardware {
            return Ok(states);
        }
        if hardware.checked_add(1) == Some(value) {
            // A crash came between the write and the increment: finish it before relying on it.
            self.counter.increment()?;
            return Ok(states);
        }
        Err(StorageError::RolledBack {
            expected: hardware,
            got: value,
        })
    }

    fn store(&self, states: &BTreeMap<String, State>) -> Result<(), StorageError> {
        // 1. Unless it is known that no ledger was made for the next value, burn that value with
        //    what stands already. Not known again until 2 has succeeded.
        if !self.counter.settled().swap(false, Ordering::Relaxed) {
            self.advance(&self.load()?)?;
        }
        // 2. Record the new states.
        self.advance(states)?;
        self.counter.settled().store(true, Ordering::Relaxed);
        Ok(())
    }

    fn advance(&self, states: &BTreeMap<String, State>) -> Result<(), StorageError> {
        let next = self
            .counter
            .read()?
            .checked_add(1)
            .ok_or(StorageError::Quota)?;
        let mut nonce = [0u8; 12];
        self.platform.random(&mut nonce)?;
        let plain = encode(next, states)?;
        let sealed = self
            .provider
            .aes_gcm_seal(self.key.expose_secret(), &nonce, AAD, &plain)
            .map_err(StorageError::Crypto)?;
        self.platform
            .blob_write(&name()?, &[nonce.as_slice(), &sealed].concat())?;
        self.counter.increment()?;
        Ok(())
    }

    fn open(&self, sealed: &[u8]) -> Result<(u64, BTreeMap<String, State>), StorageError> {
        let (nonce, body) = sealed
            .split_first_chunk::<12>()
            .ok_or(StorageError::Corrupt)?;
        let plain = self
            .provider
            .aes_gcm_open(self.key.expose_secret(), nonce, AAD, body)
            .map_err(as_corrupt)?;
        decode(plain.expose_secret()).ok_or(StorageError::Corrupt)
    }
}

fn encode(value: u64, states: &BTreeMap<String, State>) -> Result<Vec<u8>, StorageError> {
    let state = |(tag, (epoch, digest)): (&String, &State)| {
        Value::Array(alloc::vec![
            Value::Text(tag.clone()),
            Value::from(*epoch),
            Value::Bytes(digest.to_vec()),
        ])
    };
    let list = states.iter().map(state).collect();
    encode_value(&Value::Array(alloc::vec![
        Value::from(value),
        Value::Array(list)
    ]))
}

fn decode(plain: &[u8]) -> Option<(u64, BTreeMap<String, State>)> {
    let Value::Array(fields) = decode_value(plain)? else {
        return None;
    };
    let [value, Value::Array(list)] = fields.as_slice() else {
        return None;
    };
    let mut states = BTreeMap::new();
    for item in list {
        let Value::Array(fields) = item else {
            return None;
        };
        let [Value::Text(tag), epoch, Value::Bytes(digest)] = fields.as_slice() else {
            return None;
        };
        let digest: [u8; 32] = digest.as_slice().try_into().ok()?;
        states.insert(tag.clone(), (as_u64(epoch)?, digest));
    }
    Some((as_u64(value)?, states))
}

fn name() -> Result<BlobName, StorageError> {
    BlobName::new("ledger").ok_or(UNREACHABLE_NAME)
}

const AAD: &[u8] = b"tegata storage ledger v1\0";
