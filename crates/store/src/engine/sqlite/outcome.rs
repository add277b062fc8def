//! How a commit ended, for everyone who is in it: who waits for it on a thread, and what waits without one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock, PoisonError};

use rusqlite::ffi;
use tokio::runtime::Handle;

/// What is done once a commit has ended.
type Next = Box<dyn FnOnce() + Send>;

/// The outcome of a commit, perhaps of one that is still to come.
#[derive(Default)]
pub(super) struct Outcome {
    said: OnceLock<Result<(), ffi::Error>>,
    next: Mutex<Vec<(Handle, Next)>>,
}

impl Outcome {
    /// How it ended, if it has.
    pub(super) fn said(&self) -> Option<Result<(), ffi::Error>> {
        self.said.get().copied()
    }

    /// How it ended, once it has.
    pub(super) fn wait(&self) -> Result<(), ffi::Error> {
        *self.said.wait()
    }

    /// Does `next` on that runtime once it has ended, or here if it has. `true` for the first who is to wait.
    pub(super) fn then(&self, on: &Handle, next: Next) -> bool {
        let mut waiting = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock: who tells takes the list after it has said.
        if self.said.get().is_some() {
            drop(waiting);
            next();
            return false;
        }
        waiting.push((on.clone(), next));
        waiting.len() == 1
    }

    /// Tells everyone. Said once: the first word stands.
    pub(super) fn tell(&self, outcome: Result<(), ffi::Error>) {
        let _ = self.said.set(outcome);
        let mut waiting = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = std::mem::take(&mut *waiting);
        // All of them in one task: a thread of the network is woken once, not once for each answer.
        if let Some((on, _)) = waiting.first() {
            on.clone().spawn(async move {
                for (_, next) in waiting {
                    // Nobody's bug keeps the others from being told; the panic hook has logged it.
                    drop(catch_unwind(AssertUnwindSafe(next)));
                }
            });
        }
    }
}
