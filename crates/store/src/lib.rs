//! Durable state of the server roles: SQLite today, one file of code per aggregate.
//!
//! Purpose: keep what the roles promised. [`Store::run_tx`] is the only way to change anything; the
//! services ([`issuer`], [`tam`], [`verifier`]) take the decision functions of `tegata-authority`
//! and do their effects in the numbered order that makes a crash at any point harmless.
//!
//! Invariants: a commit is on the disk when `run_tx` returns (WAL, `synchronous=FULL`). The one
//! row that requests share counts certificates, to deal them to shards: certificates are keyed by a
//! time-ordered serial, devices by row id, so writes of one moment fall on the same pages, and no
//! random hash is the key of a hot table. A file of a newer schema is refused, never guessed at.
//!
//! Trusted: who can change the file can hide or replay records; keys in it are sealed, and a
//! certificate cannot be forged by changing rows.
#![warn(missing_docs)]

pub mod approval;
pub mod archive;
pub mod attested;
pub mod certificate;
pub mod device;
pub mod error;
pub mod est;
pub mod generation;
pub mod issuer;
pub mod keys;
mod migrations;
pub mod reference;
pub mod release;
pub mod revocation;
pub mod role;
pub mod root_list;
pub mod secret;
pub mod statement;
pub mod status;
pub mod tam;
pub mod teep;
pub mod verifier;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

pub use error::StoreError;

/// Places where a test makes the process stop, to prove that a retry mends everything.
///
/// Production uses [`NoFaults`]. The injected stop is an error that no code recovers from, so what
/// is on the disk is exactly what a crash at that point would leave.
pub trait Faults: Send + Sync {
    /// Called before and after the commit of every transaction that writes.
    ///
    /// # Errors
    /// `StoreError::Stopped` to stop here.
    fn reach(&self, step: &'static str, when: When) -> Result<(), StoreError>;
}

/// Side of the commit on which a fault point lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The work is done, nothing is durable: a crash here loses it.
    Before,
    /// The commit is durable, nobody was told.
    After,
}

impl When {
    /// `before` or `after`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// Never stops anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFaults;

impl Faults for NoFaults {
    fn reach(&self, _step: &'static str, _when: When) -> Result<(), StoreError> {
        Ok(())
    }
}

/// One open database file.
pub struct Store {
    path: PathBuf,
    // One writer: SQLite allows no more, and a queue here is fairer than busy retries.
    writer: Mutex<Connection>,
    // A reader of its own, so that reads never wait for a commit to reach the disk.
    reader: Mutex<Connection>,
    faults: Arc<dyn Faults>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A running transaction: what the aggregates' functions take.
pub struct Tx<'a> {
    pub(crate) sql: &'a Transaction<'a>,
    path: &'a Path,
    step: &'static str,
}

impl Tx<'_> {
    /// Turns an error of the engine into a sentence.
    pub(crate) fn err(&self, e: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(self.path, self.step, e)
    }

    /// Runs a statement that changes rows; returns how many.
    pub(crate) fn execute(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
    ) -> Result<usize, StoreError> {
        self.sql
            .prepare_cached(sql)
            .and_then(|mut s| s.execute(params))
            .map_err(|e| self.err(e))
    }

    /// The first row of a query, if there is one.
    pub(crate) fn query_opt<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        use rusqlite::OptionalExtension as _;
        self.sql
            .prepare_cached(sql)
            .and_then(|mut s| s.query_row(params, read).optional())
            .map_err(|e| self.err(e))
    }

    /// All rows of a query; the statement itself carries the LIMIT.
    pub(crate) fn query_all<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        self.sql
            .prepare_cached(sql)
            .and_then(|mut s| s.query_map(params, read)?.collect())
            .map_err(|e| self.err(e))
    }
}

impl Store {
    /// Opens the file, makes it if there is none, checks its integrity and brings its schema up.
    ///
    /// The file is made readable by its owner alone (0600).
    ///
    /// # Errors
    /// A sentence for each: not accessible, locked, damaged, not ours, newer than this program.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, Arc::new(NoFaults))
    }

    /// As [`Store::open`], with places to stop at.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(path: impl AsRef<Path>, faults: Arc<dyn Faults>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_path_buf();
        let mut writer = connect(&path, true)?;
        check_ours(&path, &writer)?;
        check_integrity(&path, &writer)?;
        configure(&path, &writer)?;
        migrations::bring_up(&path, &mut writer)?;
        let reader = connect(&path, false)?;
        reader
            .execute_batch("PRAGMA query_only=ON; PRAGMA trusted_schema=OFF")
            .map_err(|e| StoreError::from_sqlite(&path, "open", e))?;
        Ok(Self {
            path,
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            faults,
        })
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `f` in one transaction that may write; commits if it returns `Ok`.
    ///
    /// When this returns `Ok` the change is on the disk. Nothing of a failed `f` stays.
    ///
    /// # Errors
    /// Whatever `f` returns, or the store's own failure.
    pub fn run_tx<T, E: From<StoreError>>(
        &self,
        name: &'static str,
        f: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut conn = lock(&self.writer)?;
        let tx = conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| StoreError::from_sqlite(&self.path, name, e))?;
        let out = f(&Tx {
            sql: &tx,
            path: &self.path,
            step: name,
        })?;
        self.faults.reach(name, When::Before)?;
        tx.commit()
            .map_err(|e| StoreError::from_sqlite(&self.path, name, e))?;
        self.faults.reach(name, When::After)?;
        Ok(out)
    }

    /// Runs `f` on a consistent view that it cannot change.
    ///
    /// # Errors
    /// Whatever `f` returns, or the store's own failure.
    pub fn read<T, E: From<StoreError>>(
        &self,
        name: &'static str,
        f: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut conn = lock(&self.reader)?;
        let tx = conn
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(|e| StoreError::from_sqlite(&self.path, name, e))?;
        f(&Tx {
            sql: &tx,
            path: &self.path,
            step: name,
        })
    }

    /// Makes the disk look full beyond that many pages of 4 KiB; for tests of that case.
    ///
    /// # Errors
    /// The store's failure.
    #[doc(hidden)]
    pub fn dangerous_limit_pages(&self, pages: u32) -> Result<(), StoreError> {
        let conn = lock(&self.writer)?;
        conn.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(()))
            .map_err(|e| StoreError::from_sqlite(&self.path, "limit", e))
    }

    /// Copies the whole store, consistent and while it is in use, to `target`.
    ///
    /// # Errors
    /// The store's failure; an existing `target` is refused.
    pub fn backup(&self, target: &Path) -> Result<(), StoreError> {
        if target.exists() {
            return Err(StoreError::NotAccessible {
                path: target.to_path_buf(),
                cause: "a file of that name exists already".into(),
            });
        }
        let conn = lock(&self.reader)?;
        let mut to = connect(target, true)?;
        let run = rusqlite::backup::Backup::new(&conn, &mut to)
            .and_then(|b| b.run_to_completion(256, Duration::from_millis(1), None));
        run.map_err(|e| StoreError::from_sqlite(target, "backup", e))
    }
}

fn lock(conn: &Mutex<Connection>) -> Result<MutexGuard<'_, Connection>, StoreError> {
    conn.lock().map_err(|_| StoreError::Poisoned)
}

fn connect(path: &Path, create: bool) -> Result<Connection, StoreError> {
    let not_accessible = |e: std::io::Error| StoreError::NotAccessible {
        path: path.to_path_buf(),
        cause: e.to_string(),
    };
    if create && !path.exists() {
        use std::os::unix::fs::OpenOptionsExt as _;
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(not_accessible)?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)
        .map_err(|e| StoreError::from_sqlite(path, "open", e))?;
    conn.busy_timeout(BUSY_WAIT)
        .map_err(|e| StoreError::from_sqlite(path, "open", e))?;
    conn.set_prepared_statement_cache_capacity(64);
    // Without it SQLite plans a statement anew whenever a parameter changes that a plan could depend on.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(|e| StoreError::from_sqlite(path, "open", e))?;
    Ok(conn)
}

fn configure(path: &Path, conn: &Connection) -> Result<(), StoreError> {
    // FULL in WAL mode syncs the log at every commit: an answer is never ahead of the disk.
    conn.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; \
         PRAGMA secure_delete=ON; PRAGMA trusted_schema=OFF;",
    )
    .map_err(|e| StoreError::from_sqlite(path, "configure", e))
}

/// Refuses a database that some other program made.
fn check_ours(path: &Path, conn: &Connection) -> Result<(), StoreError> {
    let sql = |e| StoreError::from_sqlite(path, "open", e);
    let id: i64 = conn
        .query_row("PRAGMA application_id", [], |r| r.get(0))
        .map_err(sql)?;
    if id == APPLICATION_ID {
        return Ok(());
    }
    let tables: i64 = conn
        .query_row("SELECT count(*) FROM sqlite_master", [], |r| r.get(0))
        .map_err(sql)?;
    if id != 0 || tables != 0 {
        return Err(StoreError::NotOurs {
            path: path.to_path_buf(),
        });
    }
    conn.execute_batch(&format!("PRAGMA application_id={APPLICATION_ID}"))
        .map_err(sql)
}

fn check_integrity(path: &Path, conn: &Connection) -> Result<(), StoreError> {
    let finding: String = conn
        .query_row("PRAGMA quick_check(1)", [], |r| r.get(0))
        .map_err(|e| StoreError::from_sqlite(path, "integrity check", e))?;
    if finding == "ok" {
        return Ok(());
    }
    Err(StoreError::Damaged {
        path: path.to_path_buf(),
        finding,
    })
}

/// `Tgat`: marks the file as ours.
const APPLICATION_ID: i64 = 0x5467_6174;
/// How long a writer waits for another process's commit before it says `Locked`.
const BUSY_WAIT: Duration = Duration::from_secs(5);
