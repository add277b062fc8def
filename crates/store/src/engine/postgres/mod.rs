//! PostgreSQL, and what speaks as it does: one database for any number of processes.
//!
//! Every transaction that may write is SERIALIZABLE: what it read is true until it is committed, whatever
//! the other processes do. One that cannot stand beside another is run again from the beginning, a
//! bounded number of times. Views are REPEATABLE READ and cannot write. Nothing is kept in memory but
//! connections, so there is nothing that another process could make untrue.
//!
//! A connection that breaks before its commit was sent has changed nothing, and the work is run
//! again on another. One that breaks while it commits leaves open whether it did: `Unknown` says so,
//! and whoever asks the same again gets what was done, if it was.

mod address;
mod away;
mod hosts;
mod schema;
mod session;
mod tls;

use std::error::Error as _;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Runtime;
use tokio_postgres::error::SqlState;

use super::pool::{Place, Pool};
use super::{EngineError, On, Tx, params};
use crate::{Faults, NoFaults, StoreError, When};

pub(crate) use address::Address;
pub use address::is_address;
use away::Away;
pub(crate) use session::Running;
use session::{Failure, Session, wait};

/// A database with a store in it.
pub(crate) struct Postgres {
    address: Address,
    sessions: Pool<Session>,
    away: Away,
    /// Drives the connections; absent once it is told to end.
    runtime: Option<Runtime>,
}

/// What is said to begin a transaction.
const TO_WRITE: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE";
const TO_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// How one run of some work ended.
enum Ended {
    /// It stands, or it was not to stand.
    Done,
    /// Nothing of it stands, and it may be run again.
    Again(Failure),
}

impl Postgres {
    /// Connects, makes the schema if there is none, and brings it up.
    pub(crate) fn open(address: &str) -> Result<Self, StoreError> {
        let engine = Self::to(address)?;
        let mut session = engine.connect(0)?;
        schema::check_encoding(&mut session, &engine.address)?;
        schema::bring_up(&mut session, &engine.address)?;
        engine.sessions.take().0.give_back(session);
        Ok(engine)
    }

    /// Whether there is a store in that schema.
    pub(crate) fn exists(address: &str) -> Result<bool, StoreError> {
        let engine = Self::to(address)?;
        let mut session = engine.connect(0)?;
        schema::exists(&mut session, &engine.address)
    }

    fn to(address: &str) -> Result<Self, StoreError> {
        let address = Address::parse(address)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store connections")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|e| StoreError::NotAccessible {
            path: address.place.clone(),
            cause: format!("no thread for its connections: {e}"),
        })?;
        Ok(Self {
            sessions: Pool::new(address.connections),
            away: Away::default(),
            address,
            runtime: Some(runtime),
        })
    }

    /// What the store is called: its address without what is secret.
    pub(crate) fn place(&self) -> &Path {
        &self.address.place
    }

    /// Runs `work` in a transaction; it says whether what it did is to stay.
    pub(crate) fn write(
        &self,
        step: &'static str,
        faults: &dyn Faults,
        work: &mut dyn FnMut(&Tx<'_>) -> bool,
    ) -> Result<(), StoreError> {
        self.run(TO_WRITE, step, faults, work)
    }

    /// Runs `work` on a consistent view.
    pub(crate) fn read(
        &self,
        step: &'static str,
        work: &mut dyn FnMut(&Tx<'_>),
    ) -> Result<(), StoreError> {
        self.run(TO_READ, step, &NoFaults, &mut |tx| {
            work(tx);
            false
        })
    }

    fn run(
        &self,
        how: &str,
        step: &'static str,
        faults: &dyn Faults,
        work: &mut dyn FnMut(&Tx<'_>) -> bool,
    ) -> Result<(), StoreError> {
        let begun = Instant::now();
        let mut last = None;
        for tried in 0..TRIES_MAX {
            if tried > 0 {
                std::thread::sleep(pause(tried));
            }
            last = match self.attempt(how, step, faults, work, last)? {
                Ended::Done => return Ok(()),
                Ended::Again(why) => Some(why),
            };
            if begun.elapsed() > TRIES_FOR {
                break;
            }
        }
        Err(match last {
            Some(Failure::Lost) => self.address.unreachable("its connections break".to_owned()),
            _ => StoreError::Contended { step },
        })
    }

    /// Runs it once; `last` is what came in between the last time.
    fn attempt(
        &self,
        how: &str,
        step: &'static str,
        faults: &dyn Faults,
        work: &mut dyn FnMut(&Tx<'_>) -> bool,
        last: Option<Failure>,
    ) -> Result<Ended, StoreError> {
        let (place, session) = self.begin(how, step)?;
        let running = Running::new(session);
        let stays = work(&Tx {
            on: On::Postgres {
                running: &running,
                address: &self.address,
            },
            step,
        });
        let (mut session, failure) = running.end();
        // The server has undone it, whatever the work made of that.
        match failure {
            None => {}
            Some(Failure::Lost) => return Ok(Ended::Again(Failure::Lost)),
            // Twice in a row: nobody was faster, it is there.
            Some(Failure::Other | Failure::Taken)
                if failure == Some(Failure::Other) || last == failure =>
            {
                Self::undo(place, session);
                return match stays {
                    true => Err(StoreError::Undone { step }),
                    false => Ok(Ended::Done),
                };
            }
            Some(why) => {
                session.lane = any_lane();
                Self::undo(place, session);
                return Ok(Ended::Again(why));
            }
        }
        if !stays {
            Self::undo(place, session);
            return Ok(Ended::Done);
        }
        if let Err(e) = faults.reach(step, When::Before) {
            Self::undo(place, session);
            return Err(e);
        }
        match session.run("COMMIT") {
            Ok(()) => {
                place.give_back(session);
                faults.reach(step, When::After)?;
                Ok(Ended::Done)
            }
            Err(e) => match session.failure(&e) {
                why @ (Failure::Conflict | Failure::Taken) => {
                    session.lane = any_lane();
                    Self::undo(place, session);
                    Ok(Ended::Again(why))
                }
                Failure::Other => {
                    Self::undo(place, session);
                    Err(self.address.failed(step, e))
                }
                Failure::Lost => Err(StoreError::Unknown {
                    path: self.address.place.clone(),
                    step,
                    cause: words(&e),
                }),
            },
        }
    }

    /// A connection with a transaction begun; one that has broken since it was used is replaced.
    fn begin(
        &self,
        how: &str,
        step: &'static str,
    ) -> Result<(Place<'_, Session>, Session), StoreError> {
        loop {
            let taken = self.sessions.take_within(PLACE_WAIT);
            let (place, kept) = taken.ok_or_else(|| {
                let waited = PLACE_WAIT.as_secs();
                let busy =
                    format!("all its connections are busy, and none was free within {waited} s");
                self.address.unreachable(busy)
            })?;
            let (session, is_new) = match kept {
                Some(session) => (session, false),
                None => (self.reconnect(place.number)?, true),
            };
            match session.run(how) {
                Ok(()) => return Ok((place, session)),
                // The others would say nothing either.
                Err(e @ EngineError::Silent(_)) => return Err(self.address.failed(step, e)),
                Err(e) if is_new || session.failure(&e) != Failure::Lost => {
                    return Err(self.address.failed(step, e));
                }
                // Dropped with its place. The next one may be as old; in the end there is none left.
                Err(_) => {}
            }
        }
    }

    /// Ends a transaction of which nothing is to stay.
    fn undo(place: Place<'_, Session>, session: Session) {
        if session.run("ROLLBACK").is_ok() {
            place.give_back(session);
        }
    }

    /// Connects a store that was open before: whatever keeps it out now may pass, so it is told to come again.
    fn reconnect(&self, number: usize) -> Result<Session, StoreError> {
        match self.connect(number) {
            Ok(session) => {
                self.away.is_over(&self.address.place);
                Ok(session)
            }
            Err(e) => {
                let e = match e {
                    StoreError::Refused { path, cause } => StoreError::Unreachable { path, cause },
                    e => e,
                };
                self.away.say(&e);
                Err(e)
            }
        }
    }

    fn connect(&self, number: usize) -> Result<Session, StoreError> {
        let unreachable = |e: String| self.address.unreachable(e);
        let runtime = self.runtime.as_ref();
        let runtime = runtime.ok_or_else(|| unreachable("it is closed".to_owned()))?;
        let hosts = self.address.hosts.clone();
        let most = hosts.longest() + SLACK;
        let password = self.address.password()?;
        let connected = runtime.spawn(async move { hosts.connect(password).await });
        let given_up = connected.abort_handle();
        let Some(connected) = wait(connected, most) else {
            given_up.abort();
            return Err(self.address.failed("connect", EngineError::Silent(most)));
        };
        let connected = connected.map_err(|e| unreachable(e.to_string()))?;
        let client = connected.map_err(|e| self.address.failed("connect", e))?;
        let lane = i64::try_from(number).unwrap_or(0).rem_euclid(LANES);
        let hosts = self.address.hosts.clone();
        let runtime = runtime.handle().clone();
        let cancel = move |token| {
            let hosts = Arc::clone(&hosts);
            drop(runtime.spawn(async move { hosts.cancel(token).await }));
        };
        let mut session = Session::new(client, lane, Box::new(cancel));
        let set = session.run(SESSION);
        set.map_err(|e| self.address.failed("connect", e))?;
        // Before anything is looked for, or made, in another schema.
        let schema = &self.address.schema;
        let path = session.number(IN_SCHEMA, params![schema]);
        if path.map_err(|e| self.address.failed("connect", e))? != 1 {
            return Err(self.address.refused(
                "it does not keep the search_path that a connection begins with: a pooler stands between, \
                 connect to the server itself"
                    .to_owned(),
            ));
        }
        if number == 0 {
            self.check_clock(&mut session)?;
        }
        Ok(session)
    }
}

impl Postgres {
    /// Says so if this machine's time is not that of the database: all who share one are to go by the same.
    fn check_clock(&self, session: &mut Session) -> Result<(), StoreError> {
        let theirs = session.number(
            "SELECT CAST(extract(epoch FROM clock_timestamp()) AS BIGINT)",
            params![],
        );
        let theirs = theirs.map_err(|e| self.address.failed("connect", e))?;
        let ours = SystemTime::now().duration_since(UNIX_EPOCH);
        let ours = ours.map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
        let apart_secs = ours.saturating_sub(theirs);
        if apart_secs.unsigned_abs() > CLOCKS_APART_SECS {
            let database = self.address.place.display();
            tracing::warn!(
                %database,
                apart_secs,
                "the clock of this machine is not that of the database: keep all of them by NTP, see docs/ops/scale.md"
            );
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // This may be dropped where nothing may be waited for.
            runtime.shutdown_background();
        }
    }
}

impl Address {
    /// Turns an error of the engine into a sentence.
    pub(super) fn failed(&self, step: &'static str, e: EngineError) -> StoreError {
        let path = self.place.clone();
        let cause = words(&e);
        let e = match e {
            EngineError::Postgres(e) => e,
            EngineError::Silent(_) => return StoreError::Unreachable { path, cause },
            // Of a name's look-up.
            EngineError::Said(_) if step == "connect" => {
                return StoreError::Unreachable { path, cause };
            }
            source => return StoreError::Engine { step, source },
        };
        let Some(code) = e.code() else {
            if cause.contains("password missing") {
                let cause = "it wants a password, and there is no password_file and no PGPASSWORD"
                    .to_owned();
                return StoreError::Refused { path, cause };
            }
            let wire = e.is_closed() || e.source().is_some_and(|s| s.is::<std::io::Error>());
            return match wire || step == "connect" {
                true => StoreError::Unreachable { path, cause },
                false => StoreError::Engine {
                    step,
                    source: EngineError::Said(cause),
                },
            };
        };
        match *code {
            SqlState::DISK_FULL => StoreError::Full { path },
            SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::OUT_OF_MEMORY
            | SqlState::LOCK_NOT_AVAILABLE => StoreError::Contended { step },
            SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            | SqlState::TOO_MANY_CONNECTIONS
            | SqlState::READ_ONLY_SQL_TRANSACTION
            | SqlState::QUERY_CANCELED => StoreError::Unreachable { path, cause },
            // What says no at the door: a role, a database, a rule, a pooler.
            SqlState::INSUFFICIENT_PRIVILEGE => StoreError::Refused { path, cause },
            _ if step == "connect" => StoreError::Refused { path, cause },
            SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => StoreError::Damaged {
                path,
                finding: cause,
            },
            _ => StoreError::Engine {
                step,
                source: EngineError::Said(format!("{cause} ({})", code.code())),
            },
        }
    }

    pub(super) fn refused(&self, cause: String) -> StoreError {
        let path = self.place.clone();
        StoreError::Refused { path, cause }
    }

    fn unreachable(&self, cause: String) -> StoreError {
        let path = self.place.clone();
        StoreError::Unreachable { path, cause }
    }

    /// As [`Address::failed`], of an error while a transaction runs.
    pub(super) fn noted(
        &self,
        running: &Running,
        step: &'static str,
        e: EngineError,
    ) -> StoreError {
        running.note(&e);
        self.failed(step, e)
    }
}

/// The server's words, or the library's and what is behind them. Neither has values of ours in it. A semicolon in
/// them would end the part of a sentence that says what happened.
fn words(e: &EngineError) -> String {
    let EngineError::Postgres(e) = e else {
        return e.to_string();
    };
    let words = match (e.as_db_error(), e.source()) {
        (Some(said), _) => said.message().to_owned(),
        (None, Some(source)) => format!("{e}: {source}"),
        (None, None) => e.to_string(),
    };
    words.replace(';', ",")
}

/// How long to wait before a transaction is run again: longer each time, and not as long as others do.
fn pause(tried: u32) -> Duration {
    let most = PAUSE_MOST.min(PAUSE_FIRST.saturating_mul(1_u32 << tried.min(10)));
    most.mul_f64((any() % 1_000) as f64 / 1_000.0)
}

/// Which lane a connection goes on with that met somebody in its own.
fn any_lane() -> i64 {
    i64::try_from(any() % u64::try_from(LANES).unwrap_or(1)).unwrap_or(0)
}

/// A number that nothing depends on but how seldom two are the same.
fn any() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A number for a row that is looked for by it alone: not beside those that are made before and after it, for devices
/// that come off the line one after the other enrol so too, and SERIALIZABLE takes what is on one page of an index
/// for the same. Bits: 8 of a counter; 51 of the time, microseconds since 2020, so that each of the 256 places grows at
/// its end; 4 of chance, for what two processes do in one microsecond.
pub(super) fn spread_id() -> i64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.saturating_sub(YEAR_2020).as_micros());
    let now = u64::try_from(now).unwrap_or(0);
    // Each later than the last, whatever the clock does.
    let later = |last: u64| now.max(last.wrapping_add(1));
    let (Ok(last) | Err(last)) = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        Some(later(last))
    });
    let time = later(last);
    // Its bits reversed: two that follow each other are half of all places apart, while a page has many.
    let [count, ..] = COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
    let id = (u64::from(count.reverse_bits()) << 55) | ((time % (1 << 51)) << 4) | (any() % 16);
    i64::try_from(id).unwrap_or(i64::MAX)
}

const YEAR_2020: Duration = Duration::from_secs(1_577_836_800);

/// Lanes that shards are filled in: some more than there are connections that deal at once.
const LANES: i64 = 64;
/// How often a transaction is run, and for how long it is begun again.
const TRIES_MAX: u32 = 24;
const TRIES_FOR: Duration = Duration::from_secs(8);
/// How long a caller waits for one of the connections.
const PLACE_WAIT: Duration = Duration::from_secs(8);
/// How much longer than its hosts' times a connection is waited for.
const SLACK: Duration = Duration::from_secs(1);
const PAUSE_FIRST: Duration = Duration::from_millis(1);
const PAUSE_MOST: Duration = Duration::from_millis(100);
/// How far clocks may be apart unsaid: at 30 s a TAM refuses another one's challenges.
const CLOCKS_APART_SECS: u64 = 10;
/// Whether statements without a schema are about that one, and no other.
const IN_SCHEMA: &str =
    "SELECT count(*) FROM (SELECT current_setting('search_path') AS path) AS now WHERE path = ?1";
/// What a connection begins with. Without scans of whole tables a transaction is in the way of those
/// alone who change what it read; with them forbidden a plan's cost looks high, and PostgreSQL would compile
/// statements that read a row. An answer is never ahead of the disk, whatever the server's default.
const SESSION: &str = "SET enable_seqscan = off; SET lock_timeout = '5s'; \
    SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'; \
    SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') = 'off'; \
    SELECT set_config('jit', 'off', false) WHERE current_setting('jit', true) = 'on'";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // Tests.

    use super::*;

    #[test]
    fn a_server_that_takes_a_connection_and_says_nothing_is_not_waited_for() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let address = format!("postgres://u@127.0.0.1:{port}/d?connect_timeout=1");
        let said = Postgres::open(&address).map(drop).unwrap_err();
        assert_eq!(said.code(), "store-unreachable");
        assert!(said.to_string().contains("no answer within 1 s"), "{said}");
    }

    #[test]
    fn rows_that_are_made_together_lie_apart() {
        let ids: Vec<i64> = (0..1_000).map(|_| spread_id()).collect();
        let places: Vec<i64> = ids.iter().map(|id| id >> 55).collect();
        assert!(places.windows(256).all(|some| {
            let some: std::collections::BTreeSet<_> = some.iter().collect();
            // Another test may take some.
            some.len() > 250
        }));
        let mut all = ids.clone();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), ids.len());
        assert!(all.iter().all(|id| *id > 0));
        // Within a place, in the order of time.
        let of = |place: i64| ids.iter().filter(move |id| **id >> 55 == place);
        assert!(of(7).zip(of(7).skip(1)).all(|(a, b)| a < b));
    }

    #[test]
    fn what_never_answers_is_given_up() {
        let never = std::future::pending::<()>();
        assert_eq!(wait(never, Duration::from_millis(5)), None);
    }
}
