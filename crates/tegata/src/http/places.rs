//! Places of work: how many requests of a port are worked on at once, on which threads, and what answers wait for.
//!
//! A place is taken when a request has arrived whole and its work begins, and given back when the answer may
//! go, whether or not somebody still waits for it. So a peer that sends slowly holds a
//! connection and never a place, and work that outlives its time limit is still counted.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::Request;
use tegata_store::Store;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tracing::warn;

use super::peers::Peers;
use super::problem::Problem;

/// Where the work of a port is done, and what its answers wait for.
#[derive(Debug, Clone, Default)]
pub struct Lane {
    threads: Option<Handle>,
    store: Option<Arc<Store>>,
}

impl Lane {
    /// A thread for each request that is worked on: for work that waits for others, or for a database.
    #[must_use]
    pub fn wide() -> Self {
        Self::default()
    }

    /// A thread for each request, and answers are held until what was written to that store is durable.
    #[must_use]
    pub fn holding(store: Arc<Store>) -> Self {
        Self {
            threads: None,
            store: Some(store),
        }
    }

    /// The threads of a runtime that has few: for work that keeps a processor busy. None of them waits for a commit of
    /// its own: answers are held until what was written to that store is durable. A store whose commits nobody shares
    /// makes threads wait, so with it the lane is wide.
    #[must_use]
    pub fn narrow(threads: &Handle, store: &Arc<Store>) -> Self {
        match store.shares_commits() {
            true => Self {
                store: Some(Arc::clone(store)),
                ..Self::storeless(threads)
            },
            false => Self::wide(),
        }
    }

    /// The same threads, for work that writes nothing.
    #[must_use]
    pub fn storeless(threads: &Handle) -> Self {
        Self {
            threads: Some(threads.clone()),
            store: None,
        }
    }
}

/// The places of a port. In the extensions of every request that came through its frame.
#[derive(Debug, Clone)]
pub struct Places {
    free: Arc<Semaphore>,
    lane: Lane,
    peers: Peers,
    /// Whose request it is.
    peer: Option<IpAddr>,
    /// For questions after the port's health: else whoever takes all places makes it look dead.
    aside: Arc<Semaphore>,
}

impl Places {
    /// So many, of which one peer has so many at most.
    #[must_use]
    pub fn new(count: usize, of_peer_max: usize, lane: Lane) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
            lane,
            peers: Peers::new(of_peer_max),
            peer: None,
            aside: Arc::new(Semaphore::new(ASIDE)),
        }
    }

    /// Those of the port that a request came to.
    ///
    /// # Errors
    /// It came through no frame: a fault of this program, answered with 500 and not without a limit.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        let extensions = request.extensions();
        let places = extensions.get::<Self>().cloned();
        let places = places.ok_or_else(|| Problem::internal("bug"))?;
        Ok(Self {
            peer: extensions.get::<SocketAddr>().map(SocketAddr::ip),
            ..places
        })
    }

    /// Some of their own, for questions after the port's health.
    pub fn aside(self) -> Self {
        Self {
            free: Arc::clone(&self.aside),
            lane: Lane::wide(),
            peer: None,
            ..self
        }
    }

    /// The same places, for what only reads: it has a thread of its own, waits for nobody who writes, and keeps no
    /// thread from those who do.
    #[must_use]
    pub fn reading(self) -> Self {
        Self {
            lane: Lane::wide(),
            ..self
        }
    }

    /// Does the work on a thread that may block, if there is a place; what it comes to is durable.
    ///
    /// # Errors
    /// 503 with `Retry-After` at once if there is none: no queue grows. The store's, if it could not keep what was
    /// done.
    pub async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let of_peer = match self.peer.map(|peer| self.peers.enter(peer)) {
            Some(None) => return Err(Problem::busy("too-many-requests-of-peer", 1)),
            entered => entered.flatten(),
        };
        let place = self.free.try_acquire_owned();
        let place = place.map_err(|_| Problem::busy("too-many-requests", 1))?;
        let place = (place, of_peer);
        let (tell, told) = oneshot::channel();
        let here = Handle::current();
        let threads = self.lane.threads.as_ref().unwrap_or(&here).clone();
        let coming = self.lane.store.as_ref().map(Store::coming);
        // Not waited for: whether it has ended is not whether its answer may go.
        drop(threads.spawn_blocking(move || {
            yield_to_the_network();
            let answer = move |done| {
                drop(place);
                // Nobody may wait for it any more.
                let _ = tell.send(done);
            };
            match coming {
                Some(coming) => coming.work(work).then(&here, answer),
                None => answer(Ok(work())),
            }
        }));
        // The thread ended without an answer; the panic hook has logged why.
        let done = told.await.map_err(|_| Problem::internal("internal"))?;
        done.map_err(|failed| {
            warn!(reason = failed.code(), error = %failed, "what was done could not be kept");
            Problem::of_store(&failed)
        })
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

/// Questions after a port's health that are worked on at once.
pub const ASIDE: usize = 8;
/// Niceness of threads that work: a third of the weight of those that answer.
const WORK_NICE: i32 = 5;
