//! `kill -9` of what serves a store in a database.
#![allow(dead_code)] // Each test uses some.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::place::{Sql, open_store, place};

/// What kills backends has the database to itself.
static ALONE: Mutex<()> = Mutex::new(());

pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `kill -9` of all backends of one application.
pub struct Killer {
    sql: Mutex<Option<Sql>>,
    path: PathBuf,
}

impl Killer {
    pub fn new(path: &Path) -> Self {
        Self {
            sql: Mutex::default(),
            path: path.to_owned(),
        }
    }

    /// Kills one backend of `application`; says whether there was one. The server takes all others down
    /// with it, this one's too, and comes back.
    pub fn kill(&self, application: &str) -> bool {
        let mut sql = self.sql.lock().unwrap();
        let fresh = sql.take().unwrap_or_else(|| Sql::open(&self.path));
        let pid = fresh.number(&format!(
            "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity \
             WHERE application_name = '{application}'"
        ));
        if pid == 0 {
            *sql = Some(fresh);
            return false;
        }
        kill_9(&pid.to_string());
        true
    }
}

pub fn kill_9(pid: &str) {
    let killed = Command::new("kill").args(["-9", pid]).status();
    assert!(killed.unwrap().success());
}

/// The store of that file in the database, its connections under that name.
pub fn as_application(path: &Path, name: &str) -> PathBuf {
    format!("{}&application_name={name}", place(path).display()).into()
}

/// Waits until the server serves again.
pub fn back(path: &Path) {
    let begun = Instant::now();
    while let Err(e) = open_store(path) {
        assert_eq!(e.code(), "store-unreachable", "{e}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{e}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
