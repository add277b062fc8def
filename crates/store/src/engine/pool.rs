//! Connections that callers share: as many as are used at once, up to a limit.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Connections that nobody uses now, and how many there may be.
pub(super) struct Pool<C> {
    free: Mutex<Free<C>>,
    freed: Condvar,
}

struct Free<C> {
    /// With their places. The one that was used last is used next: it has the most in its memory.
    idle: Vec<(usize, C)>,
    /// Places without a connection, the lowest last.
    places: Vec<usize>,
}

/// The right to use one connection. Where none is given back, its place is free for a new one.
pub(super) struct Place<'a, C> {
    pool: &'a Pool<C>,
    /// Number of the place, from 0.
    pub(super) number: usize,
    back: Option<C>,
}

impl<C> Pool<C> {
    /// A pool of at most so many.
    pub(super) fn new(max: usize) -> Self {
        let free = Free {
            idle: Vec::new(),
            places: (0..max).rev().collect(),
        };
        Self {
            free: Mutex::new(free),
            freed: Condvar::new(),
        }
    }

    /// Waits for a place, and for the connection in it if there is one.
    pub(super) fn take(&self) -> (Place<'_, C>, Option<C>) {
        loop {
            // So long that it ends at the first look.
            if let Some(taken) = self.take_within(Duration::from_secs(3_600)) {
                return taken;
            }
        }
    }

    /// As [`Pool::take`]; `None` where none became free in that time.
    pub(super) fn take_within(&self, wait: Duration) -> Option<(Place<'_, C>, Option<C>)> {
        let until = Instant::now() + wait;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let found = match free.idle.pop() {
                Some((number, connection)) => Some((number, Some(connection))),
                None => free.places.pop().map(|number| (number, None)),
            };
            if let Some((number, connection)) = found {
                let place = Place {
                    pool: self,
                    number,
                    back: None,
                };
                return Some((place, connection));
            }
            let left = until.checked_duration_since(Instant::now())?;
            let waited = self.freed.wait_timeout(free, left);
            free = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<C> Place<'_, C> {
    /// Gives the connection to the next caller.
    pub(super) fn give_back(mut self, connection: C) {
        self.back = Some(connection);
    }
}

impl<C> Drop for Place<'_, C> {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock();
        let free = match &mut free {
            Ok(free) => free,
            Err(poisoned) => poisoned.get_mut(),
        };
        match self.back.take() {
            Some(connection) => free.idle.push((self.number, connection)),
            None => free.places.push(self.number),
        }
        self.pool.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_used_again_and_a_broken_one_leaves_its_place() {
        let pool = Pool::new(2);
        let (first, none) = pool.take();
        assert_eq!((first.number, none), (0, None));
        let (second, none) = pool.take();
        assert_eq!((second.number, none), (1, None));
        first.give_back("a");
        let (again, found) = pool.take();
        assert_eq!((again.number, found), (0, Some("a")));
        // Both are in use: who comes now waits until one is broken.
        assert!(pool.take_within(Duration::from_millis(5)).is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let (place, found) = pool.take();
                (place.number, found)
            });
            drop(second);
            assert_eq!(waiting.join().ok(), Some((1, None)));
        });
        drop(again);
    }
}
