//! Answers that are held back until they are durable.
//!
//! To wait for the disk on a thread takes a thread from those that could work, and the more of them there are the
//! colder each one's cache. So a request's work is done inside [`Coming::work`]: its last write
//! ([`Store::run_tx_last`]) returns as soon as it stands in the open transaction, the answer is made, and both are
//! [`Held`] until the commit has ended. What is held cannot be looked at: [`Held::then`] and [`Held::wait`] give it out
//! when it is durable, or say why it is not.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;

use crate::engine::{Commit, Engine, Expected};
use crate::{Faults, Store, StoreError};

/// A request that waits for a thread, and may write then: others' held answers wait a little for it, and share its
/// commit.
pub struct Coming {
    store: Arc<Store>,
    expected: Option<Expected>,
}

/// A value that nobody may see before what it follows from is durable.
#[must_use]
pub struct Held<T> {
    value: T,
    /// In the order in which they will end.
    commits: Vec<Commit>,
    said: Vec<Said>,
    faults: Arc<dyn Faults>,
}

/// What is said, to a log, of something that is durable.
type Said = Box<dyn FnOnce() + Send>;

/// What the running work of a thread has to wait for.
struct Scope {
    store: Arc<Store>,
    expected: Option<Expected>,
    commits: Vec<Commit>,
    said: Vec<Said>,
}

thread_local! {
    static SCOPE: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// Ends the scope, however the work ended: the one around it goes on.
struct Ends {
    outer: Option<Scope>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        drop(SCOPE.replace(self.outer.take()));
    }
}

impl Store {
    /// A request has come that may write. A database shares no commits: there nothing is held.
    #[must_use]
    pub fn coming(self: &Arc<Self>) -> Coming {
        Coming {
            store: Arc::clone(self),
            expected: match &self.engine {
                Engine::Sqlite(file) => Some(file.expect()),
                Engine::Postgres(_) => None,
            },
        }
    }
}

impl Coming {
    /// Does the work of the request on this thread.
    pub fn work<T>(self, work: impl FnOnce() -> T) -> Held<T> {
        let Self { store, expected } = self;
        let faults = Arc::clone(&store.faults);
        let scope = Scope {
            store,
            expected,
            commits: Vec::new(),
            said: Vec::new(),
        };
        let ends = Ends {
            outer: SCOPE.replace(Some(scope)),
        };
        let value = work();
        let (commits, said) = SCOPE
            .take()
            .map(|s| (s.commits, s.said))
            .unwrap_or_default();
        drop(ends);
        Held {
            value,
            commits,
            said,
            faults,
        }
    }
}

impl<T> Held<T> {
    /// The value once it is durable: this thread waits.
    ///
    /// # Errors
    /// It is not, and nothing of what it follows from stays.
    pub fn wait(self) -> Result<T, StoreError> {
        let faults = self.faults.as_ref();
        self.commits.iter().try_for_each(|one| one.wait(faults))?;
        self.said.into_iter().for_each(|say| say());
        Ok(self.value)
    }
}

impl<T: Send + 'static> Held<T> {
    /// Gives the value to `next` once it is durable, or why it is not: at once and on this thread if that is known,
    /// or else on that runtime. `next` must not block.
    pub fn then(self, on: &Handle, next: impl FnOnce(Result<T, StoreError>) + Send + 'static) {
        // The others have ended when the last one has: one commit follows another.
        match self.commits.last().map(Commit::ends) {
            None => next(self.wait()),
            Some(ends) => ends.then(on, move || next(self.wait())),
        }
    }
}

/// Says something of what the running work has done, once that is durable; at once if nothing is held. It is not said
/// of what came to nothing.
pub fn say(what: impl FnOnce() + Send + 'static) {
    let what: Said = Box::new(what);
    let now = SCOPE.with_borrow_mut(|scope| match scope {
        Some(scope) => {
            scope.said.push(what);
            None
        }
        None => Some(what),
    });
    if let Some(what) = now {
        what();
    }
}

/// The running work has come to where it writes, and is expected no more; since when it was.
pub(crate) fn arrived() -> Option<Instant> {
    let expected = SCOPE.with_borrow_mut(|scope| scope.as_mut()?.expected.take());
    expected.map(|expected| expected.since())
}

/// Whether what the thread does for that store is held.
pub(crate) fn holds(store: &Store) -> bool {
    SCOPE.with_borrow(|scope| {
        let scope = scope.as_ref();
        scope.is_some_and(|scope| std::ptr::eq(scope.store.as_ref(), store))
    })
}

/// The running work is held until that has ended, too.
pub(crate) fn hold(commit: Commit) {
    SCOPE.with_borrow_mut(|scope| {
        if let Some(scope) = scope {
            scope.commits.push(commit);
        }
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)] // Tests.
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;
    use crate::{When, keys};

    /// Stops after the commit of that step.
    struct StopAfter(&'static str);

    impl Faults for StopAfter {
        fn reach(&self, step: &'static str, when: When) -> Result<(), StoreError> {
            match (step == self.0, when) {
                (true, When::After) => Err(StoreError::Stopped {
                    step,
                    when: when.as_str(),
                }),
                _ => Ok(()),
            }
        }
    }

    fn open(faults: Arc<dyn Faults>) -> (tempfile::TempDir, Arc<Store>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_with(dir.path().join("t.db"), faults).unwrap();
        (dir, Arc::new(store))
    }

    fn put(store: &Store, name: &'static str) -> Result<&'static str, StoreError> {
        store.run_tx_last(name, |tx| keys::put_document(tx, name, &[1], 1))?;
        Ok(name)
    }

    /// Whether others see it.
    fn is_durable(store: &Store, name: &str) -> bool {
        let found = store.read("t", |tx| keys::document(tx, name));
        found
            .unwrap_or_else(|e: StoreError| unreachable!("{e}"))
            .is_some()
    }

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    }

    fn told<T: Send + 'static>(held: Held<T>, on: &Handle) -> Receiver<Result<T, StoreError>> {
        let (tell, told) = channel();
        held.then(on, move |came| tell.send(came).unwrap());
        told
    }

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn an_answer_is_given_out_and_told_of_once_it_is_durable() {
        let (_dir, store) = open(Arc::new(crate::NoFaults));
        let (said, heard) = channel();
        let (other, coming) = (store.coming(), store.coming());
        let held = coming.work(|| {
            say(move || said.send(()).unwrap());
            put(&store, "a").map(|name| (name, is_durable(&store, name)))
        });
        assert!(heard.try_recv().is_err(), "it is said when it is given out");
        let runtime = runtime();
        let (tell, told) = channel();
        let seen = Arc::clone(&store);
        held.then(runtime.handle(), move |came| {
            tell.send((came, is_durable(&seen, "a"))).unwrap();
        });
        drop(other);
        let (answer, durable) = told.recv_timeout(SOON).unwrap();
        let (name, waited) = answer.unwrap().unwrap();
        assert_eq!((name, waited, durable), ("a", false, true));
        heard.try_recv().unwrap();
    }

    #[test]
    fn what_is_not_held_waits_as_ever() {
        let (_dir, store) = open(Arc::new(crate::NoFaults));
        let _other = store.coming();
        put(&store, "a").unwrap();
        assert!(is_durable(&store, "a"));
        // Nor is what is done for another store than that of the work.
        let (_dir, second) = open(Arc::new(crate::NoFaults));
        let held = store.coming().work(|| {
            put(&second, "b").unwrap();
            is_durable(&second, "b")
        });
        assert!(held.wait().unwrap());
        let (said, heard) = channel();
        say(move || said.send(()).unwrap());
        heard.try_recv().unwrap();
    }

    #[test]
    fn what_could_not_be_kept_is_not_given_out_and_nothing_is_said_of_it() {
        let (_dir, store) = open(Arc::new(StopAfter("b")));
        let runtime = runtime();
        let work = |last: &'static str| {
            let store = Arc::clone(&store);
            move || {
                put(&store, "a").unwrap();
                say(|| unreachable!("said"));
                put(&store, last)
            }
        };
        let waits = store.coming().work(work("b")).wait();
        assert_eq!(waits.map(drop).unwrap_err().code(), "store-stopped");
        let told = told(store.coming().work(work("b")), runtime.handle());
        let came = told.recv_timeout(SOON).unwrap();
        assert_eq!(came.map(drop).unwrap_err().code(), "store-stopped");
    }

    #[test]
    fn work_that_panics_leaves_its_thread_as_it_was() {
        let (_dir, store) = open(Arc::new(crate::NoFaults));
        let panics = || {
            store
                .coming()
                .work(|| put(&store, "a").map(|_| unreachable!("a bug")))
        };
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(panics())));
        assert!(panics.is_err());
        // It is held no more, and expected no more.
        put(&store, "b").unwrap();
        assert!(is_durable(&store, "a") && is_durable(&store, "b"));
        let inner = || store.coming().work(|| put(&store, "c").unwrap()).wait();
        let outer = store.coming().work(inner);
        assert_eq!(outer.wait().unwrap().unwrap(), "c");
        assert!(is_durable(&store, "c"));
    }
}
