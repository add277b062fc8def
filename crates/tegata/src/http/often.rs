//! What is said once a second at most: who has ten thousand requests refused in a second does not write ten
//! thousand lines into the log with them, and a refusal costs less.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Lines of one kind.
#[derive(Debug)]
pub struct Often {
    begun: Instant,
    /// The second in which the last one was said, counted from one.
    said: AtomicU64,
    unsaid: AtomicU64,
}

impl Default for Often {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            said: AtomicU64::new(0),
            unsaid: AtomicU64::new(0),
        }
    }
}

impl Often {
    /// Whether this one is to be said; then how many were not since the last that was.
    pub fn one(&self) -> Option<u64> {
        self.one_in(self.second())
    }

    /// How many were not said, once their second is over.
    pub fn rest(&self) -> Option<u64> {
        self.rest_in(self.second())
    }

    fn second(&self) -> u64 {
        self.begun.elapsed().as_secs().saturating_add(1)
    }

    fn one_in(&self, second: u64) -> Option<u64> {
        if self.said.swap(second, Ordering::Relaxed) != second {
            return Some(self.unsaid.swap(0, Ordering::Relaxed));
        }
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn rest_in(&self, second: u64) -> Option<u64> {
        let is_over = || self.said.load(Ordering::Relaxed) != second;
        if self.unsaid.load(Ordering::Relaxed) == 0 || !is_over() {
            return None;
        }
        Some(self.unsaid.swap(0, Ordering::Relaxed)).filter(|unsaid| *unsaid > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_second_is_said_and_the_others_are_counted() {
        let often = Often::default();
        assert_eq!(often.one_in(1), Some(0));
        assert_eq!(often.one_in(1), None);
        assert_eq!(often.one_in(1), None);
        assert_eq!(often.rest_in(1), None);
        assert_eq!(often.one_in(2), Some(2));
        assert_eq!(often.one_in(2), None);
        assert_eq!(often.rest_in(3), Some(1));
        assert_eq!(often.rest_in(3), None);
        assert_eq!(often.one_in(4), Some(0));
    }
}
