//! Places of work: how many requests of a port keep a thread busy at once.
//!
//! A place is taken when a request has arrived whole and its work begins, and given back when the work
//! ends, whether or not somebody still waits for the answer. So a peer that sends slowly holds a
//! connection and never a place, and work that outlives its time limit is still counted.

use std::cell::Cell;
use std::sync::Arc;

use axum::extract::Request;
use tokio::sync::Semaphore;

use super::problem::Problem;

/// The places of a port. In the extensions of every request that came through its frame.
#[derive(Debug, Clone)]
pub struct Places(Arc<Semaphore>);

impl Places {
    /// So many.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// Those of the port that a request came to.
    ///
    /// # Errors
    /// It came through no frame: a fault of this program, answered with 500 and not without a limit.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        let places = request.extensions().get::<Self>().cloned();
        places.ok_or_else(|| Problem::internal("bug"))
    }

    /// Does the work on a thread that may block, if there is a place.
    ///
    /// # Errors
    /// 503 with `Retry-After` at once if there is none: no queue grows.
    pub async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let place = self.0.try_acquire_owned();
        let place = place.map_err(|_| Problem::busy("too-many-requests", 1))?;
        let done = tokio::task::spawn_blocking(move || {
            yield_to_the_network();
            let done = work();
            drop(place);
            done
        });
        // The thread ended without an answer; the panic hook has logged why.
        done.await.map_err(|_| Problem::internal("internal"))
    }
}

thread_local! {
    /// Whether this thread has given way already: once is for ever.
    static YIELDS: Cell<bool> = const { Cell::new(false) };
}

/// Lets the threads that read and answer go before this one, which works. Else they have one share of a processor among
/// as many as there are places, and under load a refusal waits as long as the work that there was no room for.
/// Where the kernel refuses, that is how it is.
fn yield_to_the_network() {
    if !YIELDS.replace(true) {
        // Of the calling thread alone: on Linux every thread has its own.
        let _ = rustix::process::setpriority_process(None, WORK_NICE);
    }
}

/// Niceness of threads that work: a third of the weight of those that answer.
const WORK_NICE: i32 = 5;
