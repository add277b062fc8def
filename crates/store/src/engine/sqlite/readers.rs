//! Readers of a file: connections that see what is durable and wait for no commit.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use rusqlite::Connection;

use super::connect;
use crate::StoreError;

/// Connections that cannot write, as many as are used at once.
pub(super) struct Readers {
    path: PathBuf,
    free: Mutex<Free>,
    freed: Condvar,
}

#[derive(Default)]
struct Free {
    /// The one that was used last is used next: it has the most in its memory.
    connections: Vec<Connection>,
    /// How many there are, those in use included.
    opened: usize,
}

/// A connection with a consistent view; the view ends with this.
pub(super) struct Reader<'a> {
    from: &'a Readers,
    /// Absent only while it is given back.
    conn: Option<Connection>,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            free: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    /// Runs `f` on a connection whose view does not change meanwhile.
    pub(super) fn with<T>(
        &self,
        step: &'static str,
        f: impl FnOnce(&Connection) -> T,
    ) -> Result<T, StoreError> {
        let reader = Reader {
            from: self,
            conn: Some(self.take()?),
        };
        let conn = reader.conn.as_ref().ok_or(StoreError::Poisoned)?;
        let begun = conn.prepare_cached("BEGIN").and_then(|mut s| s.execute([]));
        begun.map_err(|e| StoreError::from_sqlite(&self.path, step, e))?;
        Ok(f(conn))
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(conn) = free.connections.pop() {
                return Ok(conn);
            }
            if free.opened < READERS_MAX {
                break;
            }
            let waited = self.freed.wait(free);
            free = waited.unwrap_or_else(PoisonError::into_inner);
        }
        free.opened = free.opened.saturating_add(1);
        drop(free);
        let made = self.open();
        if made.is_err() {
            self.give_back(None);
        }
        made
    }

    fn open(&self) -> Result<Connection, StoreError> {
        let conn = connect(&self.path, false)?;
        conn.execute_batch("PRAGMA query_only=ON; PRAGMA trusted_schema=OFF")
            .map_err(|e| StoreError::from_sqlite(&self.path, "open", e))?;
        Ok(conn)
    }

    /// Takes a connection back, or hears that there is one less.
    fn give_back(&self, conn: Option<Connection>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        match conn {
            Some(conn) => free.connections.push(conn),
            None => free.opened = free.opened.saturating_sub(1),
        }
        drop(free);
        self.freed.notify_one();
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let conn = self.conn.take().filter(|conn| {
            let ended = conn
                .prepare_cached("ROLLBACK")
                .and_then(|mut s| s.execute([]));
            ended.is_ok() || conn.is_autocommit()
        });
        self.from.give_back(conn);
    }
}

/// Most readers at once; who comes then waits for one of them.
const READERS_MAX: usize = 16;
