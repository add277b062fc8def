//! The time this TA goes by: the later one of the REE's and of the last one that the CA signed.
//!
//! A device without a clock knows the time from its CA's messages, and counts on from there by the
//! TEE's own clock while it runs. What is kept is a lower bound: it never goes back, whatever the
//! REE or a later message says. Nothing is believed for being recent by it; it says when a
//! certificate is to be renewed. By what, the CA says: a clock of its own that was ahead once is here
//! for ever.
//!
//! Kept in one object, written when the CA is an hour ahead of it, after each six hours of running
//! (some 15,000 writes in ten years), and once after a start.

use alloc::vec::Vec;

use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::object::Object;
use tegata_ta_sdk::{Error, Result, system};

use crate::record::patiently;

/// Identifier of the object; no record begins like it.
const ID: &[u8] = b"t.signed";
/// How far ahead the CA's time must be to be written, in seconds.
const AHEAD_SECS: u64 = 3_600;
/// After how much time of the TEE's own what it counted is written, in seconds.
const COUNTED_SECS: u64 = 6 * 3_600;

/// A time that the CA signed, and what the TEE's clock said when it came.
struct Signed {
    secs: u64,
    at_ms: u64,
}

impl Signed {
    fn decode(data: &[u8]) -> Option<Self> {
        let (secs, at_ms) = data.split_at_checked(8)?;
        Some(Self {
            secs: u64::from_be_bytes(secs.try_into().ok()?),
            at_ms: u64::from_be_bytes(at_ms.try_into().ok()?),
        })
    }

    fn encode(secs: u64) -> Vec<u8> {
        [secs.to_be_bytes(), system::time_ms().to_be_bytes()].concat()
    }

    /// True if the TEE's clock has begun anew since.
    fn is_of_earlier_start(&self) -> bool {
        system::time_ms() < self.at_ms
    }

    /// The least that it can be now. Of an earlier start nothing is counted.
    fn carried_on(&self) -> u64 {
        let gone_ms = system::time_ms().saturating_sub(self.at_ms);
        self.secs.saturating_add(gone_ms / 1000)
    }
}

/// What is kept; one that is damaged counts as none.
fn kept() -> Option<Signed> {
    let flags = TEE_DATA_FLAG_ACCESS_READ | TEE_DATA_FLAG_SHARE_READ;
    let object = patiently(|| Object::open(ID, flags)).ok()?;
    Signed::decode(&object.read_all().ok()?)
}

/// Keeps a time unless a later one is kept. A failure costs nothing but a later renewal.
fn keep(secs: u64) {
    let write = || -> Result<()> {
        let flags = TEE_DATA_FLAG_ACCESS_READ | TEE_DATA_FLAG_ACCESS_WRITE;
        // One handle that nobody shares from reading to writing: a later time of another session is
        // not replaced by an earlier one.
        let object = match Object::open(ID, flags) {
            Ok(object) => object,
            // Of two sessions that make it at once one is refused here, and tries again.
            Err(Error(TEE_ERROR_ITEM_NOT_FOUND)) => {
                return Object::create(ID, flags, None, &Signed::encode(secs)).map(drop);
            }
            Err(Error(TEE_ERROR_CORRUPT_OBJECT)) => {
                let flags = flags | TEE_DATA_FLAG_OVERWRITE;
                return Object::create(ID, flags, None, &Signed::encode(secs)).map(drop);
            }
            Err(error) => return Err(error),
        };
        let last = Signed::decode(&object.read_all()?);
        if last.is_some_and(|last| last.carried_on() > secs) {
            return Ok(());
        }
        object.write_start(&Signed::encode(secs))
    };
    if patiently(write).is_err() {
        system::log("the signed time could not be kept");
    }
}

/// Takes note of the time in a message whose signature by the CA was checked.
pub fn learn(signed_secs: u64) {
    let known = kept().map(|kept| kept.carried_on());
    if known.is_none_or(|known| signed_secs >= known.saturating_add(AHEAD_SECS)) {
        keep(signed_secs);
    }
}

/// The time to go by, in seconds since 1970.
#[must_use]
pub fn now_secs() -> u64 {
    signed_secs().max(system::ree_time_secs())
}

/// The least that it can be now by what the CA signed, in seconds since 1970; 0 if nothing is kept.
#[must_use]
pub fn signed_secs() -> u64 {
    let Some(kept) = kept() else { return 0 };
    let counted = kept.carried_on();
    // From a new start on it is counted anew; without this, not before the TEE has run for as long
    // as it had when the time came.
    if counted >= kept.secs.saturating_add(COUNTED_SECS) || kept.is_of_earlier_start() {
        keep(counted);
    }
    counted
}
