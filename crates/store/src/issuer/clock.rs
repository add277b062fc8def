//! A clock that is far ahead: nothing is issued by it.
//!
//! A certificate begins at the moment that the CA's clock says. By one that is ahead for an hour a fleet would
//! get certificates that nobody takes for years, each in the place of a good one. What the store has of the
//! time is the last record; a CA with devices makes one within a year. After a true silence an operator says
//! so with the next generation, which is a record too.

use std::sync::atomic::{AtomicU64, Ordering};

use tegata_authority::UnixSecs;
use tegata_authority::ca::cmp::CmpDenial;

use super::Issuer;
use super::cmp::environment;
use crate::generation::{self, ClockDoubt};
use crate::role::RoleError;

/// The latest record that this process has seen, seconds since 1970: the store is asked only where that is
/// too old.
#[derive(Debug, Default)]
pub(super) struct LastRecord(AtomicU64);

impl Issuer {
    /// Why nothing is issued by this clock, if it is so.
    ///
    /// # Errors
    /// The store's failure.
    pub fn clock_doubt(&self, now: UnixSecs) -> Result<Option<ClockDoubt>, RoleError> {
        let last = &self.last_record.0;
        let doubt = |at| ClockDoubt::of_silence(now, UnixSecs(at));
        if doubt(last.load(Ordering::Relaxed)).is_none() {
            return Ok(None);
        }
        let store = &self.role.store;
        let recorded = store.read("last record", generation::last_recorded)?.0;
        last.fetch_max(recorded, Ordering::Relaxed);
        Ok(doubt(recorded))
    }

    /// Checks that the clock is not far beyond the last record.
    ///
    /// # Errors
    /// `Unavailable`: the same request is answered once the clock is right.
    pub(super) fn check_clock(&self, now: UnixSecs) -> Result<(), CmpDenial> {
        match self.clock_doubt(now).map_err(environment)? {
            None => Ok(()),
            Some(_) => Err(CmpDenial::Unavailable("clock-doubt")),
        }
    }
}
