//! Growing pauses with chance in them, so that a fleet does not knock in step.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

/// Pauses between attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempt: u32,
}

impl Backoff {
    /// Pauses from `first` on, doubling up to `most`.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            attempt: 0,
        }
    }

    /// Attempts that have failed so far.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.attempt
    }

    /// The next pause: a random time between half and all of the present step.
    pub fn next_pause(&mut self) -> Duration {
        let step = self
            .first
            .saturating_mul(1u32.checked_shl(self.attempt).unwrap_or(u32::MAX));
        self.attempt = self.attempt.saturating_add(1);
        jitter(step.min(self.most))
    }

    /// After a success the next failure begins anew.
    pub const fn reset(&mut self) {
        self.attempt = 0;
    }
}

/// Patience with servers that are busy and say when to come again.
#[derive(Clone, Debug)]
pub struct Patience {
    begun: Instant,
    limit: Duration,
}

impl Patience {
    /// For so long from now on; zero: with nobody.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            begun: Instant::now(),
            limit,
        }
    }

    /// The pause that a server asked for, and up to half of it more; `None` if that would be too late.
    #[must_use]
    pub fn pause(&self, asked: Duration) -> Option<Duration> {
        let asked = asked.max(ASKED_MIN);
        let pause = (asked / 2).saturating_add(jitter(asked));
        let at = self.begun.elapsed().saturating_add(pause);
        (at <= self.limit).then_some(pause)
    }
}

/// What a server that asks for no pause gets.
const ASKED_MIN: Duration = Duration::from_millis(500);

/// A random time between half and all of `step`. No secret hangs on it.
#[must_use]
pub fn jitter(step: Duration) -> Duration {
    // Each state is keyed at random by the standard library.
    let random = RandomState::new().build_hasher().finish();
    let part = u32::try_from(random & 0xffff).unwrap_or(0);
    step / 2 + (step / 2).mul_f64(f64::from(part) / 65536.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(first, most);
        let pauses: Vec<_> = (0..80).map(|_| backoff.next_pause()).collect();
        assert!(pauses[0] >= first / 2 && pauses[0] <= first);
        assert!(pauses.iter().all(|pause| *pause <= most));
        assert!(pauses[79] >= most / 2);
        backoff.reset();
        assert!(backoff.next_pause() <= first);
    }

    #[test]
    fn a_busy_server_is_asked_no_sooner_than_it_said_and_not_for_ever() {
        let patience = Patience::new(Duration::from_secs(60));
        for secs in [0, 1, 5, 30] {
            let asked = Duration::from_secs(secs);
            let pause = patience.pause(asked).unwrap();
            assert!(pause >= asked.max(ASKED_MIN) && pause <= asked.max(ASKED_MIN) * 3 / 2);
        }
        for secs in [61, u64::MAX] {
            assert_eq!(patience.pause(Duration::from_secs(secs)), None);
        }
        let none = Patience::new(Duration::ZERO);
        assert_eq!(none.pause(Duration::ZERO), None);
    }
}
