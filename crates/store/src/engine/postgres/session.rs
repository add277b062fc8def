//! One connection to a database, with the statements that it has ready.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{CancelToken, Client, Statement};

use super::super::value::Kind;
use super::super::{EngineError, Result, Row, Value};

/// A connection.
pub(super) struct Session {
    client: Client,
    /// By their text as it is in this crate.
    ready: HashMap<String, Statement>,
    /// The lane that it deals certificates in.
    pub(super) lane: i64,
    /// Whether the server owes an answer that is not waited for any more.
    is_silent: Cell<bool>,
    cancel: Cancel,
}

/// Has the server give up what a connection is at, without waiting for it.
pub(super) type Cancel = Box<dyn Fn(CancelToken) + Send>;

impl Drop for Session {
    fn drop(&mut self) {
        // A server that waits, for a standby, does not see that its client has gone: its connection would count
        // among those that it has room for, beside the one that takes its place.
        if self.is_silent.get() {
            (self.cancel)(self.client.cancel_token());
        }
    }
}

/// What a failure means for the transaction that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It could not stand beside another: nothing of it stays, and it may be run again.
    Conflict,
    /// Somebody else has what is unique. If they were faster between our look and our insert, the next
    /// look sees it.
    Taken,
    /// The connection is of no more use: it is gone, or who is at its end is not who can do this.
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
    pub(super) fn new(client: Client, lane: i64, cancel: Cancel) -> Self {
        Self {
            client,
            ready: HashMap::new(),
            lane,
            is_silent: Cell::new(false),
            cancel,
        }
    }

    /// What the server answers; a little later than it gives up by itself, it is not waited for any more.
    fn answer<T>(
        &self,
        work: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let Some(done) = wait(work, ANSWER_WAIT) else {
            self.is_silent.set(true);
            return Err(EngineError::Silent(ANSWER_WAIT));
        };
        Ok(done?)
    }

    /// Runs statements that have neither parameters nor rows.
    pub(super) fn run(&self, sql: &str) -> Result<()> {
        self.answer(self.client.batch_execute(sql))
    }

    /// As [`Session::run`], of what takes as long as there are rows.
    pub(super) fn run_long(&self, sql: &str) -> Result<()> {
        let done = wait(self.client.batch_execute(sql), LONG_WAIT);
        Ok(done.ok_or(EngineError::Silent(LONG_WAIT))??)
    }

    /// What a failure of this connection means.
    pub(super) fn failure(&self, e: &EngineError) -> Failure {
        let e = match e {
            EngineError::Postgres(e) => e,
            EngineError::Silent(_) => return Failure::Lost,
            _ => return Failure::Other,
        };
        if self.client.is_closed() || e.is_closed() {
            return Failure::Lost;
        }
        let Some(said) = e.as_db_error() else {
            // Without the server's word: the wire, or a value that one of us cannot read.
            let wire = e
                .source()
                .is_some_and(|source| source.is::<std::io::Error>());
            return if wire { Failure::Lost } else { Failure::Other };
        };
        let ends = |severity| matches!(severity, Severity::Fatal | Severity::Panic);
        if said.parsed_severity().is_some_and(ends) {
            return Failure::Lost;
        }
        match *said.code() {
            SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::LOCK_NOT_AVAILABLE
            // No room for one more lock, or for what it reads: there is when others have ended.
            | SqlState::OUT_OF_MEMORY => Failure::Conflict,
            SqlState::UNIQUE_VIOLATION => Failure::Taken,
            SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            // It may be done or not, says the server itself.
            | SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
            // A standby, which was the primary before; or statements made ready before the schema changed.
            | SqlState::READ_ONLY_SQL_TRANSACTION
            | SqlState::FEATURE_NOT_SUPPORTED
            | SqlState::INVALID_SQL_STATEMENT_NAME => Failure::Lost,
            _ => Failure::Other,
        }
    }

    fn statement(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Statement> {
        if let Some(ready) = self.ready.get(sql) {
            return Ok(ready.clone());
        }
        let types: Vec<Type> = params.iter().map(|value| type_of(value.kind())).collect();
        let made = self.answer(self.client.prepare_typed(&translated(sql), &types))?;
        self.ready.insert(sql.to_owned(), made.clone());
        Ok(made)
    }

    pub(super) fn execute(&mut self, sql: &str, params: &[Value<'_>]) -> Result<usize> {
        let statement = self.statement(sql, params)?;
        let rows = self.answer(self.client.execute(&statement, &dynamic(params)))?;
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    fn query(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<tokio_postgres::Row>> {
        let statement = self.statement(sql, params)?;
        self.answer(self.client.query(&statement, &dynamic(params)))
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
    pub(super) fn note(&self, e: &EngineError) {
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

/// Waits on the caller's own thread, whatever runs on it: the connection itself is driven by another.
/// `None` where it takes longer than that.
pub(super) fn wait<F: Future>(work: F, most: Duration) -> Option<F::Output> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut work = pin!(work);
    let until = Instant::now() + most;
    loop {
        match work.as_mut().poll(&mut context) {
            Poll::Ready(done) => return Some(done),
            Poll::Pending => {
                std::thread::park_timeout(until.checked_duration_since(Instant::now())?);
            }
        }
    }
}

/// More than `statement_timeout`, which does not count for commits.
const ANSWER_WAIT: Duration = Duration::from_secs(35);
/// For a step that brings the schema up.
const LONG_WAIT: Duration = Duration::from_secs(24 * 3_600);

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
