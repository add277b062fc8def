//! A store whose transactions stop where a test wants it, by an error.
#![allow(dead_code)] // Each test uses some.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tegata_store::{Faults, StoreError, When};

/// Stops at the n-th fault point; counts them all.
pub struct StopAt {
    at: usize,
    reached: AtomicUsize,
}

impl StopAt {
    pub fn new(at: usize) -> Arc<Self> {
        Arc::new(Self {
            at,
            reached: AtomicUsize::new(0),
        })
    }

    /// Whether it came there.
    pub fn stopped(&self) -> bool {
        self.reached.load(Ordering::SeqCst) > self.at
    }
}

impl Faults for StopAt {
    fn reach(&self, step: &'static str, when: When) -> Result<(), StoreError> {
        if self.reached.fetch_add(1, Ordering::SeqCst) != self.at {
            return Ok(());
        }
        Err(StoreError::Stopped {
            step,
            when: when.as_str(),
        })
    }
}
