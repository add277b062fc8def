//! SQLite: one file, one writer that groups commits, readers beside it.

mod checkpoint;
mod outcome;
mod readers;
#[cfg(test)]
mod tests;
mod writer;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::value::Kind;
use super::{EngineError, On, Result, Row, Tx, Value};
use crate::{Faults, StoreError, migrations};

use checkpoint::Checkpoints;
use readers::Readers;
use writer::Writer;
pub(crate) use writer::{Commit, Expected};

/// One open database file.
pub(crate) struct Sqlite {
    path: PathBuf,
    // Closed in this order: see `Checkpoints`.
    readers: Readers,
    checkpoints: Checkpoints,
    writer: Arc<Writer>,
}

impl Sqlite {
    pub(crate) fn open(path: &Path) -> std::result::Result<Self, StoreError> {
        let failed = |e| StoreError::from_sqlite(path, "open", e);
        let mut conn = connect(path, true)?;
        check_ours(path, &conn)?;
        check_integrity(path, &conn, CHECKED_WHOLE_MAX)?;
        configure(path, &conn)?;
        migrations::bring_up(path, &mut conn)?;
        let told = checkpoint::take_from(&mut conn).map_err(failed)?;
        let writer = Arc::new(Writer::new(path, conn, writer::OPEN_MAX));
        let beside = connect(path, false)?;
        beside
            .execute_batch("PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF")
            .map_err(failed)?;
        beside
            .busy_timeout(checkpoint::READERS_WAIT)
            .map_err(failed)?;
        let checkpoints = Checkpoints::begin(path, beside, told, Arc::downgrade(&writer))?;
        Ok(Self {
            path: path.to_path_buf(),
            readers: Readers::new(path),
            writer,
            checkpoints,
        })
    }

    /// The database file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` in a transaction; it says whether what it did is to stay.
    pub(crate) fn write(
        &self,
        step: &'static str,
        faults: &dyn Faults,
        work: &mut dyn FnMut(&Tx<'_>) -> bool,
    ) -> std::result::Result<(), StoreError> {
        self.writer.write(step, faults, work)
    }

    /// As [`Sqlite::write`], but durable only once what this returns has ended.
    pub(crate) fn write_held(
        &self,
        step: &'static str,
        faults: &dyn Faults,
        work: &mut dyn FnMut(&Tx<'_>) -> bool,
    ) -> std::result::Result<Option<Commit>, StoreError> {
        self.writer.write_held(step, faults, work)
    }

    /// One request more waits for a thread, and may write then.
    pub(crate) fn expect(&self) -> Expected {
        Expected::at(&self.writer)
    }

    /// Runs `work` on a consistent view.
    pub(crate) fn read(
        &self,
        step: &'static str,
        work: &mut dyn FnMut(&Tx<'_>),
    ) -> std::result::Result<(), StoreError> {
        // Who looks whether all is well is to hear it.
        self.writer.check()?;
        self.readers.with(step, |conn| {
            let on = On::Sqlite {
                conn,
                path: &self.path,
                failed: &Cell::new(None),
            };
            work(&Tx { on, step });
        })
    }

    /// See [`crate::Store::dangerous_limit_pages`].
    pub(crate) fn dangerous_limit_pages(&self, pages: u32) -> std::result::Result<(), StoreError> {
        let sql = format!("PRAGMA max_page_count={pages}");
        self.writer
            .between("limit", |conn| conn.query_row(&sql, [], |_| Ok(())))
    }

    /// See [`crate::Store::dangerous_checkpoint_at`].
    pub(crate) fn dangerous_checkpoint_at(&self, pages: i32) {
        self.checkpoints.dangerous_checkpoint_at(pages);
    }

    /// Copies everything to a new file.
    pub(crate) fn backup(&self, target: &Path) -> std::result::Result<(), StoreError> {
        let mut to = connect(target, true)?;
        let run = self.readers.with("backup", |conn| {
            // The view begins with the first look; with it the copy need not begin anew when others
            // commit.
            conn.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
            let backup = rusqlite::backup::Backup::new(conn, &mut to)?;
            backup.run_to_completion(256, Duration::from_millis(1), None)
        })?;
        run.map_err(|e| StoreError::from_sqlite(target, "backup", e))
    }
}

/// Some failures undo the whole transaction at once: what a caller did then, that goes on as if nothing
/// had been, would be a transaction of its own.
pub(super) fn still_open(
    conn: &Connection,
    failed: &Cell<Option<rusqlite::ffi::Error>>,
) -> Result<()> {
    if !conn.is_autocommit() {
        return Ok(());
    }
    let why = failed.get();
    let why = why.unwrap_or_else(|| rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT));
    Err(rusqlite::Error::SqliteFailure(why, None).into())
}

/// Runs a statement; returns how many rows it changed.
pub(super) fn execute(conn: &Connection, sql: &str, params: &[Value<'_>]) -> Result<usize> {
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.execute(params_from_iter(params))?)
}

/// The first row of a query.
pub(super) fn query_opt<T>(
    conn: &Connection,
    sql: &str,
    params: &[Value<'_>],
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(params))?;
    rows.next()?.map(|row| read(&Row::Sqlite(row))).transpose()
}

/// All rows of a query.
pub(super) fn query_all<T>(
    conn: &Connection,
    sql: &str,
    params: &[Value<'_>],
    mut read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(params))?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read(&Row::Sqlite(row))?);
    }
    Ok(all)
}

/// A value of a row.
pub(super) fn column<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Result<Value<'a>> {
    Ok(match row.get_ref(column)? {
        // SQLite's nulls have no kind; nobody asks a row for it.
        ValueRef::Null => Value::Null(Kind::Int),
        ValueRef::Integer(n) => Value::Int(n),
        ValueRef::Real(n) => Value::Real(n),
        ValueRef::Text(text) => {
            Value::Text(std::str::from_utf8(text).map_err(|_| EngineError::Column(column))?)
        }
        ValueRef::Blob(bytes) => Value::Blob(bytes),
    })
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Null(_) => ValueRef::Null,
            Self::Int(n) => ValueRef::Integer(n),
            Self::Real(n) => ValueRef::Real(n),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn connect(path: &Path, create: bool) -> std::result::Result<Connection, StoreError> {
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
    let mut conn = Connection::open_with_flags(path, flags)
        .map_err(|e| StoreError::from_sqlite(path, "open", e))?;
    conn.busy_handler(Some(look_again))
        .map_err(|e| StoreError::from_sqlite(path, "open", e))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Without it SQLite plans a statement anew whenever a parameter changes that a plan could depend on.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(|e| StoreError::from_sqlite(path, "open", e))?;
    Ok(conn)
}

fn configure(path: &Path, conn: &Connection) -> std::result::Result<(), StoreError> {
    // The log is as long as it once was until it is cut.
    let cut = format!("PRAGMA journal_size_limit={}", 64 << 20);
    conn.query_row(&cut, [], |_| Ok(()))
        .map_err(|e| StoreError::from_sqlite(path, "configure", e))?;
    // FULL in WAL mode syncs the log at every commit: an answer is never ahead of the disk.
    conn.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; \
         PRAGMA secure_delete=ON; PRAGMA trusted_schema=OFF;",
    )
    .map_err(|e| StoreError::from_sqlite(path, "configure", e))
}

/// Waits for another process's transaction. SQLite's own way looks ever more seldom, ten times a second
/// in the end, and so never sees the short moments in which a busy server leaves the file free.
fn look_again(looked: i32) -> bool {
    std::thread::sleep(LOOK_AGAIN);
    u32::try_from(looked).is_ok_and(|looked| LOOK_AGAIN.saturating_mul(looked) < BUSY_WAIT)
}

/// Refuses a database that some other program made.
fn check_ours(path: &Path, conn: &Connection) -> std::result::Result<(), StoreError> {
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

/// Looks for damage before anything is read from it: the whole file, or of a large one every table that is
/// soon read. What is in the others shows when it is read.
fn check_integrity(
    path: &Path,
    conn: &Connection,
    whole_max: u64,
) -> std::result::Result<(), StoreError> {
    let failed = |e| StoreError::from_sqlite(path, "integrity check", e);
    let check = |sql: &str| {
        let finding: String = conn.query_row(sql, [], |r| r.get(0)).map_err(failed)?;
        match finding.as_str() {
            "ok" => Ok(()),
            _ => Err(StoreError::Damaged {
                path: path.to_path_buf(),
                finding,
            }),
        }
    };
    let len = std::fs::metadata(path).map_or(0, |m| m.len());
    if len <= whole_max {
        return check("PRAGMA quick_check(1)");
    }
    let mut tables = conn
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")
        .map_err(failed)?;
    let tables = tables.query_map([], |r| r.get(0)).map_err(failed)?;
    let tables: rusqlite::Result<Vec<String>> = tables.collect();
    for table in tables.map_err(failed)? {
        // Names of this crate's own schema.
        let some =
            format!("SELECT count(*) FROM (SELECT 1 FROM \"{table}\" LIMIT {SOON_READ_ROWS})");
        let rows: i64 = conn.query_row(&some, [], |r| r.get(0)).map_err(failed)?;
        if rows < SOON_READ_ROWS {
            check(&format!("PRAGMA quick_check(\"{table}\")"))?;
        }
    }
    Ok(())
}

/// `Tgat`: marks the file as ours.
const APPLICATION_ID: i64 = 0x5467_6174;
/// How long a writer waits for another process's commit before it says `Locked`.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Statements that a connection keeps ready: more than there are in this crate.
const STATEMENTS_MAX: usize = 256;
/// Size up to which a file is checked as a whole when it is opened, bytes: some tenth of a second.
const CHECKED_WHOLE_MAX: u64 = 64 << 20;
/// Rows from which on a table is not checked then.
const SOON_READ_ROWS: i64 = 10_000;
