//! One connection to a database, with the statements that it has ready.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Statement};

use super::super::value::Kind;
use super::super::{Result, Row, Value};

/// A connection.
pub(super) struct Session {
    client: Client,
    /// By their text as it is in this crate.
    ready: HashMap<String, Statement>,
    /// The lane that it deals certificates in.
    pub(super) lane: i64,
}

/// What a failure means for the transaction that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It could not stand beside another: nothing of it stays, and it may be run again.
    Conflict,
    /// The connection is gone.
    Lost,
    /// Anything else; the server has undone the transaction.
    Other,
}

/// A connection with a transaction open on it.
pub(crate) struct Running {
    session: RefCell<Session>,
    /// The first failure: after it the server takes no statement.
    failure: Cell<Option<Failure>>,
}

impl Session {
    pub(super) fn new(client: Client, lane: i64) -> Self {
        Self {
            client,
            ready: HashMap::new(),
            lane,
        }
    }

    /// Runs statements that have neither parameters nor rows.
    pub(super) fn run(&self, sql: &str) -> std::result::Result<(), tokio_postgres::Error> {
        wait(self.client.batch_execute(sql))
    }

    /// What a failure of this connection means.
    pub(super) fn failure(&self, e: &tokio_postgres::Error) -> Failure {
        if self.client.is_closed() || e.is_closed() {
            return Failure::Lost;
        }
        let Some(code) = e.code() else {
            return Failure::Lost;
        };
        match *code {
            SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::LOCK_NOT_AVAILABLE
            // Where somebody else was faster between our look and our insert: the next look sees it.
            | SqlState::UNIQUE_VIOLATION => Failure::Conflict,
            SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
                Failure::Lost
            }
            _ => Failure::Other,
        }
    }

    fn statement(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Statement> {
        if let Some(ready) = self.ready.get(sql) {
            return Ok(ready.clone());
        }
        let types: Vec<Type> = params.iter().map(|value| type_of(value.kind())).collect();
        let made = wait(self.client.prepare_typed(&translated(sql), &types))?;
        self.ready.insert(sql.to_owned(), made.clone());
        Ok(made)
    }

    pub(super) fn execute(&mut self, sql: &str, params: &[Value<'_>]) -> Result<usize> {
        let statement = self.statement(sql, params)?;
        let rows = wait(self.client.execute(&statement, &dynamic(params)))?;
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    fn query(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<tokio_postgres::Row>> {
        let statement = self.statement(sql, params)?;
        Ok(wait(self.client.query(&statement, &dynamic(params)))?)
    }
}

impl Session {
    /// The number that a query gives; 0 if it gives none.
    pub(super) fn number(&mut self, sql: &str, params: &[Value<'_>]) -> Result<i64> {
        let rows = self.query(sql, params)?;
        let first = rows.first().map(|row| Row::Postgres(row).get(0));
        first.unwrap_or(Ok(0))
    }
}

impl Running {
    pub(super) fn new(session: Session) -> Self {
        Self {
            session: RefCell::new(session),
            failure: Cell::new(None),
        }
    }

    /// The connection, and the first failure.
    pub(super) fn end(self) -> (Session, Option<Failure>) {
        (self.session.into_inner(), self.failure.get())
    }

    pub(crate) fn lane(&self) -> i64 {
        self.session.borrow().lane
    }

    /// Takes note of a failure.
    pub(super) fn note(&self, e: &tokio_postgres::Error) {
        if self.failure.get().is_none() {
            self.failure.set(Some(self.session.borrow().failure(e)));
        }
    }

    pub(crate) fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<usize> {
        self.session.borrow_mut().execute(sql, params)
    }

    pub(crate) fn query_opt<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let rows = self.session.borrow_mut().query(sql, params)?;
        let first = rows.first();
        first.map(|row| read(&Row::Postgres(row))).transpose()
    }

    pub(crate) fn query_all<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let rows = self.session.borrow_mut().query(sql, params)?;
        rows.iter().map(|row| read(&Row::Postgres(row))).collect()
    }
}

/// The statement as the server is to have it: `$1` for `?1`, without what is said to SQLite alone about
/// which index to use. No text of this crate has a question mark of its own.
fn translated(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut words = sql.split(" INDEXED BY ");
    out.push_str(words.next().unwrap_or_default());
    for rest in words {
        let end = rest.find(' ').unwrap_or(rest.len());
        out.push_str(rest.get(end..).unwrap_or_default());
    }
    out.replace('?', "$")
}

fn type_of(kind: Kind) -> Type {
    match kind {
        Kind::Int => Type::INT8,
        Kind::Real => Type::FLOAT8,
        Kind::Text => Type::TEXT,
        Kind::Blob => Type::BYTEA,
    }
}

fn dynamic<'a>(params: &'a [Value<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|value| value as _).collect()
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null(_) => Ok(IsNull::Yes),
            Self::Int(n) => n.to_sql(ty, out),
            Self::Real(n) => n.to_sql(ty, out),
            Self::Text(text) => text.to_sql(ty, out),
            Self::Blob(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::FLOAT8 | Type::TEXT | Type::BYTEA)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value<'a> {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *ty {
            Type::BOOL => Self::Int(i64::from(bool::from_sql(ty, raw)?)),
            Type::INT4 => Self::Int(i64::from(i32::from_sql(ty, raw)?)),
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::FLOAT8 => Self::Real(f64::from_sql(ty, raw)?),
            Type::TEXT => Self::Text(<&str>::from_sql(ty, raw)?),
            _ => Self::Blob(<&[u8]>::from_sql(ty, raw)?),
        })
    }

    fn from_sql_null(ty: &Type) -> std::result::Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null(match *ty {
            Type::FLOAT8 => Kind::Real,
            Type::TEXT => Kind::Text,
            Type::BYTEA => Kind::Blob,
            _ => Kind::Int,
        }))
    }

    fn accepts(ty: &Type) -> bool {
        let whole = matches!(*ty, Type::BOOL | Type::INT4 | Type::INT8);
        whole || matches!(*ty, Type::FLOAT8 | Type::TEXT | Type::BYTEA)
    }
}

/// Waits for the server on the caller's own thread, whatever runs on it: the connection itself is
/// driven by another.
pub(super) fn wait<F: Future>(work: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut work = pin!(work);
    loop {
        match work.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_translated_without_what_only_sqlite_is_told() {
        let sql = "SELECT a FROM t INDEXED BY t_a WHERE a > ?1 AND b = ?12 ORDER BY a";
        let is = "SELECT a FROM t WHERE a > $1 AND b = $12 ORDER BY a";
        assert_eq!(translated(sql), is);
        assert_eq!(
            translated("SELECT 1 FROM t INDEXED BY t_a"),
            "SELECT 1 FROM t"
        );
    }
}
