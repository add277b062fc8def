//! Time that nobody waits for: one true clock, and what each machine believes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tegata_authority::{UnixMs, UnixSecs};

/// When every run begins: 2026-11-18, in milliseconds since 1970.
pub const START_MS: i64 = 1_795_000_000_000;

/// The true time of a world. Clones are the same clock.
#[derive(Clone)]
pub struct TrueTime(Arc<AtomicI64>);

impl TrueTime {
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START_MS)))
    }

    pub fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms as i64, Ordering::Relaxed);
    }

    /// Goes on to that moment, if it is not over.
    pub fn advance_to(&self, ms: i64) {
        self.0.fetch_max(ms, Ordering::Relaxed);
    }
}

/// The clock of one machine: the true time and an error. Clones are the same clock.
#[derive(Clone)]
pub struct Clock {
    time: TrueTime,
    offset_ms: Arc<AtomicI64>,
    /// When the machine was switched on.
    since_ms: Arc<AtomicI64>,
}

impl Clock {
    pub fn new(time: &TrueTime) -> Self {
        Self {
            time: time.clone(),
            offset_ms: Arc::new(AtomicI64::new(0)),
            since_ms: Arc::new(AtomicI64::new(START_MS)),
        }
    }

    /// What this machine takes for the time.
    pub fn now(&self) -> UnixMs {
        let ms = self.time.now_ms() + self.offset_ms.load(Ordering::Relaxed);
        UnixMs(ms.max(0) as u64)
    }

    pub fn secs(&self) -> UnixSecs {
        self.now().secs()
    }

    /// Time since the machine was switched on, whatever it believes; since the world began if
    /// nobody switched it off.
    pub fn uptime_ms(&self) -> u64 {
        (self.time.now_ms() - self.since_ms.load(Ordering::Relaxed)).max(0) as u64
    }

    /// The machine was off and is on again: its own clock begins at 0.
    pub fn switched_on(&self) {
        let now_ms = self.time.now_ms();
        self.since_ms.store(now_ms, Ordering::Relaxed);
    }

    /// How far it is from the true time, either way.
    pub fn error_ms(&self) -> u64 {
        self.offset_ms.load(Ordering::Relaxed).unsigned_abs()
    }

    pub fn jump(&self, ms: i64) {
        self.offset_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// The machine learns the true time.
    pub fn set_right(&self) {
        self.offset_ms.store(0, Ordering::Relaxed);
    }
}
