//! Cancellation and deadlines of a call, shared between who makes it and who runs it.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::gp::consts::TEE_TIMEOUT_INFINITE;
use crate::gp::host::CallSignal;

/// Handle on one call. Clones are the same call.
#[derive(Clone, Default)]
pub struct CallControl {
    own: Arc<Flags>,
    /// The call that made this one, TA to TA, with the one that made that: their end is this one's.
    outer: Option<Arc<CallControl>>,
}

struct Flags {
    cancel: AtomicBool,
    stop: AtomicBool,
    /// System time at which cancellation is asked for of itself.
    cancel_at_ms: AtomicU64,
    /// System time at which the instance is stopped.
    deadline_ms: AtomicU64,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            cancel: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            cancel_at_ms: AtomicU64::new(u64::MAX),
            deadline_ms: AtomicU64::new(u64::MAX),
        }
    }
}

impl Flags {
    fn signal(&self, now_ms: u64) -> CallSignal {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let past = |time: &AtomicU64| now_ms >= time.load(Ordering::Relaxed);
        let stop = is(&self.stop) || past(&self.deadline_ms);
        CallSignal {
            cancel: stop || is(&self.cancel) || past(&self.cancel_at_ms),
            stop,
        }
    }
}

impl CallControl {
    /// A call that is stopped at `deadline_ms` of the TEE's system time.
    #[must_use]
    pub fn until(deadline_ms: u64) -> Self {
        Self::default().limited(deadline_ms)
    }

    /// The same call with an end at `deadline_ms` at the latest.
    #[must_use]
    pub(super) fn limited(&self, deadline_ms: u64) -> Self {
        self.own
            .deadline_ms
            .fetch_min(deadline_ms, Ordering::Relaxed);
        self.clone()
    }

    /// A call made while this one runs; cancellation is asked for after `timeout_ms`.
    #[must_use]
    pub(super) fn nested(&self, now_ms: u64, timeout_ms: u32) -> Self {
        let own = Flags::default();
        if timeout_ms != TEE_TIMEOUT_INFINITE {
            let at = now_ms.saturating_add(u64::from(timeout_ms));
            own.cancel_at_ms.store(at, Ordering::Relaxed);
        }
        Self {
            own: Arc::new(own),
            outer: Some(Arc::new(self.clone())),
        }
    }

    /// `TEEC_RequestCancellation`: the TA is told, if it listens.
    pub fn cancel(&self) {
        self.own.cancel.store(true, Ordering::Relaxed);
    }

    /// Nobody waits for the answer any more: the instance is stopped.
    pub fn stop(&self) {
        self.own.stop.store(true, Ordering::Relaxed);
    }

    /// What the running entry point must know at `now_ms`.
    #[must_use]
    pub fn signal(&self, now_ms: u64) -> CallSignal {
        let own = self.own.signal(now_ms);
        let outer = self
            .outer
            .as_ref()
            .map(|outer| outer.signal(now_ms))
            .unwrap_or_default();
        CallSignal {
            cancel: own.cancel || outer.cancel,
            stop: own.stop || outer.stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_with_every_call_that_led_to_it() {
        let chain = || {
            let first = CallControl::default();
            let second = first.nested(0, TEE_TIMEOUT_INFINITE);
            let third = second.nested(0, TEE_TIMEOUT_INFINITE);
            (first, second, third)
        };
        let quiet = CallSignal::default();
        let (first, second, third) = chain();
        assert_eq!((second.signal(5), third.signal(5)), (quiet, quiet));
        first.cancel();
        assert!(third.signal(5).cancel && !third.signal(5).stop);
        let (first, _, third) = chain();
        first.stop();
        assert!(third.signal(5).stop);
        // A limit that is set after the calls were made counts too.
        let (first, _, third) = chain();
        let _ = first.limited(10);
        assert!(!third.signal(9).stop && third.signal(10).stop);
        // An inner call's own end says nothing about the outer ones.
        let (first, second, third) = chain();
        third.stop();
        assert_eq!((first.signal(5), second.signal(5)), (quiet, quiet));
        let timed = first.nested(0, 10).nested(0, TEE_TIMEOUT_INFINITE);
        assert!(!timed.signal(9).cancel && timed.signal(10).cancel);
    }
}
