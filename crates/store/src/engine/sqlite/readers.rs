//! Readers of a file: connections that see what is durable and wait for no commit.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::super::pool::Pool;
use super::connect;
use crate::StoreError;

/// Connections that cannot write.
pub(super) struct Readers {
    path: PathBuf,
    pool: Pool<Connection>,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            pool: Pool::new(READERS_MAX),
        }
    }

    /// Runs `f` on a connection whose view does not change meanwhile.
    pub(super) fn with<T>(
        &self,
        step: &'static str,
        f: impl FnOnce(&Connection) -> T,
    ) -> Result<T, StoreError> {
        let failed = |e| StoreError::from_sqlite(&self.path, step, e);
        let (place, found) = self.pool.take();
        let conn = match found {
            Some(conn) => conn,
            None => self.open()?,
        };
        run(&conn, "BEGIN").map_err(failed)?;
        // After a panic the connection is closed, and another takes its place.
        let done = f(&conn);
        run(&conn, "ROLLBACK").map_err(failed)?;
        place.give_back(conn);
        Ok(done)
    }

    fn open(&self) -> Result<Connection, StoreError> {
        let conn = connect(&self.path, false)?;
        conn.execute_batch("PRAGMA query_only=ON; PRAGMA trusted_schema=OFF")
            .map_err(|e| StoreError::from_sqlite(&self.path, "open", e))?;
        Ok(conn)
    }
}

fn run(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(drop)
}

/// Most readers at once; who comes then waits for one of them.
const READERS_MAX: usize = 16;
