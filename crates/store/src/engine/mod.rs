//! The engine under a store: what runs statements, and what makes them durable.
//!
//! All SQL of the aggregates is written once, against [`Tx`]: in the part of the language that every
//! engine has, with parameters `?1`, `?2` … of the four kinds in [`value`]. An engine says how a
//! transaction begins, how it becomes durable, and what its failures mean.

mod pool;
mod postgres;
mod sqlite;
mod value;

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

pub(crate) use postgres::Postgres;
pub use postgres::is_address;
pub(crate) use sqlite::{Commit, Expected, Sqlite};
pub(crate) use value::{Row, ToValue, Value, params};

use crate::StoreError;

/// An engine's own words on a failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// SQLite's.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL's, or of the connection to it.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// What is left of PostgreSQL's where it is shown: its details quote rows.
    #[error("{0}")]
    Said(String),
    /// The server takes a statement, and says nothing.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// A column has a value of another kind than the program reads, or out of its range.
    #[error("column {0} of the row has a value of another kind, or out of range")]
    Column(usize),
}

impl EngineError {
    /// Whether it is a database's own word, and not that there is none.
    pub(crate) fn is_of_server(&self) -> bool {
        matches!(self, Self::Postgres(e) if e.as_db_error().is_some())
    }
}

/// What comes of a statement or a row.
pub(crate) type Result<T> = std::result::Result<T, EngineError>;

/// The engine of an open store.
pub(crate) enum Engine {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

/// A running transaction: what the aggregates' functions take.
pub struct Tx<'a> {
    on: On<'a>,
    step: &'static str,
}

/// The engine that a transaction runs on.
enum On<'a> {
    Sqlite {
        conn: &'a rusqlite::Connection,
        path: &'a Path,
        /// What failed last: some failures undo the whole transaction.
        failed: &'a Cell<Option<rusqlite::ffi::Error>>,
    },
    Postgres {
        running: &'a postgres::Running,
        address: &'a postgres::Address,
    },
}

impl Tx<'_> {
    /// Turns an error of the engine into a sentence.
    fn err(&self, e: EngineError) -> StoreError {
        match (&self.on, e) {
            (On::Sqlite { path, failed, .. }, EngineError::Sqlite(e)) => {
                failed.set(e.sqlite_error().copied());
                StoreError::from_sqlite(path, self.step, e)
            }
            (On::Postgres { running, address }, e) => address.noted(running, self.step, e),
            (On::Sqlite { .. }, source) => StoreError::Engine {
                step: self.step,
                source,
            },
        }
    }

    /// Which lane certificates are dealt in: what runs at once in several processes has several.
    pub(crate) fn lane(&self) -> i64 {
        match &self.on {
            On::Sqlite { .. } => 0,
            On::Postgres { running, .. } => running.lane(),
        }
    }

    /// The row id of a new device, where the engine is not to deal the next one itself: rows that lie side by side
    /// are in each other's way where transactions run at once.
    pub(crate) fn spread_id(&self) -> Option<i64> {
        match &self.on {
            On::Sqlite { .. } => None,
            On::Postgres { .. } => Some(postgres::spread_id()),
        }
    }

    /// Runs a statement that changes rows; returns how many.
    pub(crate) fn execute(
        &self,
        sql: &str,
        params: &[Value<'_>],
    ) -> std::result::Result<usize, StoreError> {
        let done = match &self.on {
            On::Sqlite { conn, failed, .. } => {
                sqlite::still_open(conn, failed).and_then(|()| sqlite::execute(conn, sql, params))
            }
            On::Postgres { running, .. } => running.execute(sql, params),
        };
        done.map_err(|e| self.err(e))
    }

    /// The first row of a query, if there is one.
    pub(crate) fn query_opt<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> std::result::Result<Option<T>, StoreError> {
        let found = match &self.on {
            On::Sqlite { conn, failed, .. } => sqlite::still_open(conn, failed)
                .and_then(|()| sqlite::query_opt(conn, sql, params, read)),
            On::Postgres { running, .. } => running.query_opt(sql, params, read),
        };
        found.map_err(|e| self.err(e))
    }

    /// All rows of a query; the statement itself carries the LIMIT.
    pub(crate) fn query_all<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> std::result::Result<Vec<T>, StoreError> {
        let found = match &self.on {
            On::Sqlite { conn, failed, .. } => sqlite::still_open(conn, failed)
                .and_then(|()| sqlite::query_all(conn, sql, params, read)),
            On::Postgres { running, .. } => running.query_all(sql, params, read),
        };
        found.map_err(|e| self.err(e))
    }
}
