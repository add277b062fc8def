//! A word to the operator when a database cannot be used, and when it can again.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::StoreError;

/// Since when the database cannot be used, if it is so, and when that was last said.
#[derive(Default)]
pub(super) struct Away(Mutex<Option<(Instant, Instant)>>);

impl Away {
    /// It cannot be used, for that reason: said at once, and now and then while it lasts. Each request that is
    /// refused for it has a line of its own.
    pub(super) fn say(&self, why: &StoreError) {
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match *state {
            Some((_, said)) if now.duration_since(said) < AGAIN => return,
            Some((since, _)) => since,
            None => now,
        };
        *state = Some((since, now));
        drop(state);
        let secs = now.duration_since(since).as_secs();
        tracing::warn!(reason = why.code(), cause = %why, secs, "the database cannot be used");
    }

    /// It can be used.
    pub(super) fn is_over(&self, place: &Path) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((since, _)) = state.take() else {
            return;
        };
        drop(state);
        let secs = since.elapsed().as_secs();
        tracing::warn!(database = %place.display(), secs, "the database can be used again");
    }
}

/// How often it is said that the database still cannot be used.
const AGAIN: Duration = Duration::from_secs(30);
