//! The one writer of a file: whoever writes at one moment shares a commit.
//!
//! To make a commit durable costs the disk's time, whatever is in it. So callers do their work one after
//! another in one open transaction, each in a savepoint, and the last one whom nobody follows commits for
//! all: a caller alone commits at once, and what gathers while the disk works is the next commit. Nobody
//! returns before the commit that has what they did, and what they saw, came to its end.
//!
//! The transaction is open only while somebody works in it, is about to, or is expected. Another process that
//! writes the same file, a command of the operator's, can only look again and again whether the file is
//! free: so when it never was for a while, the writer leaves it alone for as long as such a look takes.
//!
//! Who has nothing more to do but to answer need not wait on a thread: its answer is held back until the commit
//! ([`Writer::write_held`]), and the thread does the next one's work. Requests that still wait for a thread are
//! expected ([`Expected`]): held answers wait a little for what those will write, and share a commit with it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ffi};
use tokio::runtime::Handle;

use super::super::{On, Tx};
use super::outcome::Outcome;
use crate::held::arrived;
use crate::{Faults, StoreError, When};

/// The writer.
pub(super) struct Writer {
    path: PathBuf,
    open: Mutex<Open>,
    /// Callers that are about to do their work in the open transaction.
    coming: AtomicUsize,
    /// Requests that wait for a thread, and may write.
    expected: AtomicUsize,
    /// Whether there is a batch that nobody has committed yet.
    is_open: AtomicBool,
    /// A commit failed in a way after which nobody knows what the disk has.
    broken: AtomicBool,
    /// How long a transaction stays open for others.
    open_max: Duration,
}

/// The connection, and the transaction that is open on it.
struct Open {
    conn: Connection,
    batch: Option<Batch>,
    /// When the last transaction ended.
    ended: Instant,
    /// Since when the file was never free for long enough that another process could see it.
    held: Instant,
    /// When another process last had the file for longer than we wait.
    locked: Option<Instant>,
}

/// An open transaction that has somebody's work in it.
struct Batch {
    outcome: Arc<Outcome>,
    members: usize,
    begun: Instant,
    /// Whether a thread waits for it.
    is_awaited: bool,
}

/// What came of one caller's work.
struct Came {
    /// Whether it is in the batch.
    stays: bool,
    /// The batch that it is in, or that it saw.
    outcome: Option<Arc<Outcome>>,
    /// Why it was taken back, if not by the work itself.
    failed: Option<StoreError>,
    /// The panic that ended it.
    panic: Option<Box<dyn std::any::Any + Send>>,
}

/// A request that waits for a thread, and may write then: counted until this is dropped.
pub(crate) struct Expected {
    writer: Arc<Writer>,
    since: Instant,
}

impl Expected {
    pub(super) fn at(writer: &Arc<Writer>) -> Self {
        writer.expected.fetch_add(1, Ordering::SeqCst);
        Self {
            writer: Arc::clone(writer),
            since: Instant::now(),
        }
    }

    /// Since when.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.writer.expected.fetch_sub(1, Ordering::SeqCst);
        self.writer.close();
    }
}

/// The commit that what was done is in, or that what was seen was in.
pub(crate) struct Commit {
    ends: Ends,
    step: &'static str,
    stays: bool,
}

/// The end of a commit.
#[derive(Clone)]
pub(crate) struct Ends {
    writer: Arc<Writer>,
    outcome: Arc<Outcome>,
}

impl Commit {
    /// How it ended, once it has: this thread sees to it.
    ///
    /// # Errors
    /// Nothing of it is durable; or a fault.
    pub(crate) fn wait(&self, faults: &dyn Faults) -> Result<(), StoreError> {
        let Ends { writer, outcome } = &self.ends;
        if outcome.said().is_none() {
            writer.close_now();
        }
        outcome.wait().map_err(|e| writer.failed(self.step, e))?;
        match self.stays {
            true => faults.reach(self.step, When::After),
            false => Ok(()),
        }
    }

    /// Its end, to wait for without a thread.
    pub(crate) fn ends(&self) -> Ends {
        self.ends.clone()
    }
}

impl Ends {
    #[cfg(test)]
    pub(super) fn is_to_come(&self) -> bool {
        self.outcome.said().is_none()
    }

    /// Does `next` once it has come: on that runtime, or here if it has.
    pub(crate) fn then(self, on: &Handle, next: impl FnOnce() + Send + 'static) {
        if !self.outcome.then(on, Box::new(next)) {
            return;
        }
        // Who was expected may take long, or not write at all: nobody's answer waits longer for that.
        let open_max = self.writer.open_max;
        let (writer, outcome) = (Arc::downgrade(&self.writer), self.outcome);
        on.spawn(async move {
            tokio::time::sleep(open_max).await;
            if let (None, Some(writer)) = (outcome.said(), writer.upgrade()) {
                drop(tokio::task::spawn_blocking(move || writer.close_now()).await);
            }
        });
    }
}

impl Writer {
    pub(super) fn new(path: &Path, conn: Connection, open_max: Duration) -> Self {
        Self {
            open_max,
            path: path.to_path_buf(),
            open: Mutex::new(Open {
                conn,
                batch: None,
                ended: Instant::now(),
                held: Instant::now(),
                locked: None,
            }),
            broken: AtomicBool::new(false),
            coming: AtomicUsize::new(0),
            expected: AtomicUsize::new(0),
            is_open: AtomicBool::new(false),
        }
    }

    /// Runs `work`; it says whether what it did is to stay. Then it is durable when this returns.
    pub(super) fn write(
        &self,
        step: &'static str,
        faults: &dyn Faults,
        work: &mut dyn FnMut(&Tx<'_>) -> bool,
    ) -> Result<(), StoreError> {
        let came = self.turn(step, faults, work, false)?;
        if let Some(Err(e)) = came.outcome.as_ref().map(|outcome| outcome.wait()) {
            return Err(self.failed(step, e));
        }
        if let Some(e) = came.failed {
            return Err(e);
        }
        match came.stays {
            true => faults.reach(step, When::After),
            false => Ok(()),
        }
    }

    /// As [`Writer::write`], but what it did is durable only once the commit has ended that this returns: a
    /// commit that others share who are still expected. Nothing is to wait for if there is none.
    pub(super) fn write_held(
        self: &Arc<Self>,
        step: &'static str,
        faults: &dyn Faults,
        work: &mut dyn FnMut(&Tx<'_>) -> bool,
    ) -> Result<Option<Commit>, StoreError> {
        let came = self.turn(step, faults, work, true)?;
        if let Some(e) = came.failed {
            if let Some(Err(e)) = came.outcome.map(|outcome| outcome.wait()) {
                return Err(self.failed(step, e));
            }
            return Err(e);
        }
        let commit = |outcome| Commit {
            ends: Ends {
                writer: Arc::clone(self),
                outcome,
            },
            step,
            stays: came.stays,
        };
        Ok(came.outcome.map(commit))
    }

    /// One caller's turn in the open transaction. The last one commits; while all in it are `held`, the last of
    /// those that are expected.
    fn turn(
        &self,
        step: &'static str,
        faults: &dyn Faults,
        work: &mut dyn FnMut(&Tx<'_>) -> bool,
        held: bool,
    ) -> Result<Came, StoreError> {
        let (mut open, arrived) = self.enter();
        self.check()?;
        let came = open.run(&self.path, step, arrived, faults, work);
        self.is_open.store(open.batch.is_some(), Ordering::SeqCst);
        // Who saw others' work and left none waits for their commit as they do.
        let waits = !held || came.failed.is_some();
        let is_awaited = open.batch.as_mut().is_some_and(|batch| {
            batch.is_awaited |= waits;
            batch.is_awaited
        });
        let somebody_follows = match is_awaited {
            true => self.somebody_comes(),
            false => self.somebody_comes() || self.somebody_is_expected(),
        };
        if open.is_due(self.open_max) || !somebody_follows {
            self.commit(&mut open);
        }
        drop(open);
        if held {
            // Who was expected when this looked may have gone without a word meanwhile.
            self.close();
        }
        if let Some(panic) = came.panic {
            resume_unwind(panic);
        }
        Ok(came)
    }

    fn somebody_comes(&self) -> bool {
        self.coming.load(Ordering::SeqCst) > 0
    }

    fn somebody_is_expected(&self) -> bool {
        self.expected.load(Ordering::SeqCst) > 0
    }

    /// Commits what is open, whoever is on the way. If that fails, everyone in it is told.
    fn close_now(&self) {
        let (mut open, _) = self.enter();
        self.commit(&mut open);
    }

    /// Commits what is open, if nobody is on the way who would.
    fn close(&self) {
        let is_open = self.is_open.load(Ordering::SeqCst);
        if !is_open || self.somebody_comes() || self.somebody_is_expected() {
            return;
        }
        let mut open = match self.open.try_lock() {
            Ok(open) => open,
            Err(TryLockError::Poisoned(open)) => open.into_inner(),
            // Who has it looks after that.
            Err(TryLockError::WouldBlock) => return,
        };
        self.commit(&mut open);
    }

    /// Runs `f` on the connection while no transaction is open on it.
    pub(super) fn between<T>(
        &self,
        step: &'static str,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let (mut open, _) = self.enter();
        self.commit(&mut open);
        let done = f(&open.conn);
        done.map_err(|e| StoreError::from_sqlite(&self.path, step, e))
    }

    /// # Errors
    /// `Poisoned` once a commit failed so that the process has to begin anew.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.broken.load(Ordering::SeqCst) {
            true => Err(StoreError::Poisoned),
            false => Ok(()),
        }
    }

    fn commit(&self, open: &mut Open) {
        if let Err(why) = open.commit()
            && is_unknown(why)
        {
            self.broken.store(true, Ordering::SeqCst);
        }
        self.is_open.store(false, Ordering::SeqCst);
    }

    /// How many are on their way.
    #[cfg(test)]
    pub(super) fn coming(&self) -> usize {
        self.coming.load(Ordering::SeqCst)
    }

    /// The connection, and since when the caller waits for it: a request, since it has come.
    fn enter(&self) -> (MutexGuard<'_, Open>, Instant) {
        self.coming.fetch_add(1, Ordering::SeqCst);
        let since = arrived().unwrap_or_else(Instant::now);
        // A panic while the lock was held left a batch that the next caller ends.
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.coming.fetch_sub(1, Ordering::SeqCst);
        (open, since)
    }

    fn failed(&self, step: &'static str, e: ffi::Error) -> StoreError {
        let said = rusqlite::Error::SqliteFailure(e, None);
        if is_unknown(e) {
            return StoreError::Unknown {
                path: self.path.clone(),
                step,
                cause: said.to_string(),
            };
        }
        StoreError::from_sqlite(&self.path, step, said)
    }
}

impl Open {
    /// Runs one caller's work; what does not stay is undone.
    fn run(
        &mut self,
        path: &Path,
        step: &'static str,
        arrived: Instant,
        faults: &dyn Faults,
        work: &mut dyn FnMut(&Tx<'_>) -> bool,
    ) -> Came {
        let mut came = Came {
            stays: false,
            outcome: self.batch.as_ref().map(|batch| Arc::clone(&batch.outcome)),
            failed: None,
            panic: None,
        };
        // The first one needs no savepoint: to undo its work is to undo all of it.
        let begun = match self.batch {
            None => self.begin(arrived),
            Some(_) => self.run_sql("SAVEPOINT turn"),
        };
        if let Err(e) = begun {
            came.failed = Some(StoreError::from_sqlite(path, step, e));
            return came;
        }
        let failed = Cell::new(None);
        let tx = Tx {
            on: On::Sqlite {
                conn: &self.conn,
                path,
                failed: &failed,
            },
            step,
        };
        match catch_unwind(AssertUnwindSafe(|| work(&tx))) {
            Ok(stays) => came.stays = stays,
            Err(panic) => came.panic = Some(panic),
        }
        if came.stays
            && let Err(e) = faults.reach(step, When::Before)
        {
            came.stays = false;
            came.failed = Some(e);
        }
        let last_failure = failed.get();
        if let Err(e) = self.end(&mut came, last_failure) {
            came.stays = false;
            came.failed = Some(StoreError::from_sqlite(path, step, e));
        }
        came
    }

    /// Takes one caller's work into the batch, or undoes it.
    fn end(&mut self, came: &mut Came, failed: Option<ffi::Error>) -> rusqlite::Result<()> {
        // A full disk or a failure of it: SQLite has undone the whole transaction.
        if self.conn.is_autocommit() {
            let why = failed.unwrap_or_else(|| ffi::Error::new(ffi::SQLITE_ABORT));
            self.lose(why);
            return match came.stays {
                true => Err(rusqlite::Error::SqliteFailure(why, None)),
                false => Ok(()),
            };
        }
        let ended = match (&mut self.batch, came.stays) {
            (None, true) => {
                let batch = Batch {
                    outcome: Arc::default(),
                    members: 1,
                    begun: Instant::now(),
                    is_awaited: false,
                };
                came.outcome = Some(Arc::clone(&batch.outcome));
                self.batch = Some(batch);
                Ok(())
            }
            (None, false) => {
                self.ended = Instant::now();
                self.run_sql("ROLLBACK")
            }
            (Some(batch), true) => {
                batch.members = batch.members.saturating_add(1);
                self.run_sql("RELEASE turn")
            }
            (Some(_), false) => self
                .run_sql("ROLLBACK TO turn")
                .and_then(|()| self.run_sql("RELEASE turn")),
        };
        if let Err(e) = &ended {
            // What of it is left nobody knows: none of it stays.
            self.lose(code(e));
        }
        ended
    }

    fn begin(&mut self, arrived: Instant) -> rusqlite::Result<()> {
        if !self.conn.is_autocommit() {
            self.run_sql("ROLLBACK")?;
        }
        // Who has waited here while another waited in vain for the file does not wait as long again.
        if self.locked.is_some_and(|at| at > arrived) {
            let busy = ffi::Error::new(ffi::SQLITE_BUSY);
            return Err(rusqlite::Error::SqliteFailure(busy, None));
        }
        if self.ended.elapsed() >= FREE_SEEN {
            self.held = Instant::now();
        } else if self.held.elapsed() >= HELD_MAX {
            std::thread::sleep(FREE_SEEN);
            self.held = Instant::now();
        }
        let begun = self.run_sql("BEGIN IMMEDIATE");
        if let Err(e) = &begun
            && e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
        {
            self.locked = Some(Instant::now());
        }
        begun
    }

    /// Whether the batch has been open for long enough, whoever is to come.
    fn is_due(&self, open_max: Duration) -> bool {
        let due = |batch: &Batch| batch.members >= MEMBERS_MAX || batch.begun.elapsed() >= open_max;
        self.batch.as_ref().is_some_and(due)
    }

    /// Makes the batch durable and tells everyone in it.
    fn commit(&mut self) -> Result<(), ffi::Error> {
        if self.batch.is_none() {
            return Ok(());
        }
        let done = self.run_sql("COMMIT").map_err(|e| code(&e));
        match done {
            Ok(()) => self.tell(Ok(())),
            Err(why) => self.lose(why),
        }
        done
    }

    /// Undoes everything that is not durable and tells everyone in the batch.
    fn lose(&mut self, why: ffi::Error) {
        if !self.conn.is_autocommit() {
            // If this fails too, the next one to begin tries it again.
            let _ = self.run_sql("ROLLBACK");
        }
        self.tell(Err(why));
    }

    fn tell(&mut self, outcome: Result<(), ffi::Error>) {
        self.ended = Instant::now();
        if let Some(batch) = self.batch.take() {
            // Once: the batch is out of reach now.
            batch.outcome.tell(outcome);
        }
    }

    fn run_sql(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }
}

/// Whether the disk may have what it said it could not keep: the log has all of the commit, and the
/// next to open the file may find it there. Nor does the system tell a second time what it lost.
fn is_unknown(e: ffi::Error) -> bool {
    e.extended_code == ffi::SQLITE_IOERR_FSYNC
}

/// SQLite's own code of a failure.
fn code(e: &rusqlite::Error) -> ffi::Error {
    let found = e.sqlite_error().copied();
    found.unwrap_or_else(|| ffi::Error::new(ffi::SQLITE_INTERNAL))
}

/// Most callers that share a commit, so that the first of them does not wait for ever more.
const MEMBERS_MAX: usize = 256;
/// How long the file may be held without a gap.
const HELD_MAX: Duration = Duration::from_millis(100);
/// How long a gap is: more than the pause between two looks of another process (`LOOK_AGAIN`).
const FREE_SEEN: Duration = Duration::from_micros(1_500);
/// How long a transaction stays open for others.
pub(super) const OPEN_MAX: Duration = Duration::from_millis(5);
