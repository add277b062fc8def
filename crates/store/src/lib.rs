//! Durable state of the server roles, in SQLite or PostgreSQL: one file of code per aggregate.
//!
//! Purpose: keep what the roles promised. [`Store::run_tx`] is the only way to change anything; the
//! services ([`issuer`], [`tam`], [`verifier`]) take the decision functions of `tegata-authority`
//! and do their effects in the numbered order that makes a crash at any point harmless.
//!
//! Invariants: a commit is on the disk when `run_tx` returns (WAL, `synchronous=FULL`), or before what is [`held`] is
//! given out, and callers of one moment share one. The one row that requests share counts certificates, to deal them
//! to shards: certificates are keyed by a time-ordered serial, devices by row id, so writes of one moment fall on
//! the same pages, and no random hash is the key of a hot table. A file of a newer schema is refused,
//! never guessed at.
//!
//! Trusted: who can change the file can hide or replay records; keys in it are sealed, and a
//! certificate cannot be forged by changing rows.
#![warn(missing_docs)]

pub mod approval;
pub mod archive;
pub mod attested;
pub mod certificate;
pub mod device;
mod engine;
pub mod error;
pub mod est;
pub mod evidence;
#[cfg(feature = "fill")]
pub mod fill;
pub mod generation;
pub mod held;
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

use std::path::Path;
use std::sync::Arc;

pub use engine::{EngineError, Tx, is_address};
pub use error::StoreError;

use engine::{Engine, Postgres, Sqlite};

/// Places where a test makes the process stop, to prove that a retry mends everything.
///
/// Production uses [`NoFaults`]. The injected stop is an error that no code recovers from, so what
/// is on the disk is exactly what a crash at that point would leave.
pub trait Faults: Send + Sync {
    /// Called before and after the commit of every transaction that writes, for each caller that shares
    /// it.
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

/// One open store.
pub struct Store {
    engine: Engine,
    faults: Arc<dyn Faults>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the file, makes it if there is none, checks its integrity and brings its schema up.
    ///
    /// The file is made readable by its owner alone (0600). The address of a database
    /// (`postgres://…`) in place of a path opens the store in it: see docs/ops/scale.md.
    ///
    /// # Errors
    /// A sentence for each: not accessible, locked, damaged, not ours, newer than this program.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, Arc::new(NoFaults))
    }

    /// Whether there is a store of that path or address.
    ///
    /// # Errors
    /// A database that cannot be asked.
    pub fn exists(path: impl AsRef<Path>) -> Result<bool, StoreError> {
        let path = path.as_ref();
        match path.to_str().filter(|_| is_address(path)) {
            Some(address) => Postgres::exists(address),
            None => Ok(path.exists()),
        }
    }

    /// As [`Store::open`], with places to stop at.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(path: impl AsRef<Path>, faults: Arc<dyn Faults>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let engine = match path.to_str().filter(|_| is_address(path)) {
            Some(address) => Engine::Postgres(Box::new(Postgres::open(address)?)),
            None => Engine::Sqlite(Sqlite::open(path)?),
        };
        Ok(Self { engine, faults })
    }

    /// The database file; of a database its address, without what is secret.
    #[must_use]
    pub fn path(&self) -> &Path {
        match &self.engine {
            Engine::Sqlite(file) => file.path(),
            Engine::Postgres(database) => database.place(),
        }
    }

    /// Runs `f` in one transaction that may write; commits if it returns `Ok`.
    ///
    /// When this returns `Ok` the change is on the disk, and so is everything that `f` saw. Nothing of a
    /// failed `f` stays. An engine may run `f` again from the beginning, if what it did could not stand
    /// beside what others did meanwhile: whatever it leaves outside the store must bear that.
    ///
    /// # Errors
    /// Whatever `f` returns, or the store's own failure.
    pub fn run_tx<T, E: From<StoreError>>(
        &self,
        name: &'static str,
        mut f: impl FnMut(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut out = None;
        let faults = self.faults.as_ref();
        match &self.engine {
            Engine::Sqlite(file) => file.write(name, faults, &mut keeping(&mut out, &mut f)),
            Engine::Postgres(base) => base.write(name, faults, &mut keeping(&mut out, &mut f)),
        }?;
        out.unwrap_or(Err(StoreError::Poisoned.into()))
    }

    /// As [`Store::run_tx`], for a transaction after which nothing is left but to answer: where the answer is held
    /// ([`held::Coming::work`]), this does not wait for the disk. So nothing that follows may reach anybody but by that
    /// answer.
    ///
    /// # Errors
    /// As [`Store::run_tx`]; of a commit that fails later the answer's [`held::Held`] tells.
    pub fn run_tx_last<T, E: From<StoreError>>(
        &self,
        name: &'static str,
        mut f: impl FnMut(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let file = match &self.engine {
            Engine::Sqlite(file) if held::holds(self) => file,
            _ => return self.run_tx(name, f),
        };
        let mut out = None;
        let faults = self.faults.as_ref();
        let commit = file.write_held(name, faults, &mut keeping(&mut out, &mut f))?;
        commit.into_iter().for_each(held::hold);
        out.unwrap_or(Err(StoreError::Poisoned.into()))
    }

    /// Whether callers of one moment share a commit, and answers can be held until it ends.
    #[must_use]
    pub fn shares_commits(&self) -> bool {
        matches!(self.engine, Engine::Sqlite(_))
    }

    /// Runs `f` on a consistent view that it cannot change.
    ///
    /// # Errors
    /// Whatever `f` returns, or the store's own failure.
    pub fn read<T, E: From<StoreError>>(
        &self,
        name: &'static str,
        mut f: impl FnMut(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut out = None;
        let mut work = |tx: &Tx<'_>| out = Some(f(tx));
        match &self.engine {
            Engine::Sqlite(file) => file.read(name, &mut work),
            Engine::Postgres(database) => database.read(name, &mut work),
        }?;
        out.unwrap_or(Err(StoreError::Poisoned.into()))
    }

    /// Makes the disk look full beyond that many pages of 4 KiB; for tests of that case, of a file.
    ///
    /// # Errors
    /// The store's failure.
    #[doc(hidden)]
    pub fn dangerous_limit_pages(&self, pages: u32) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(file) => file.dangerous_limit_pages(pages),
            Engine::Postgres(_) => Err(self.not_of_a_database()),
        }
    }

    /// Moves the log into the file from that many pages of 4 KiB on; for tests that stop in the middle of it,
    /// of a file.
    ///
    /// # Errors
    /// `NotAccessible` of a database.
    #[doc(hidden)]
    pub fn dangerous_checkpoint_at(&self, pages: i32) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(file) => {
                file.dangerous_checkpoint_at(pages);
                Ok(())
            }
            Engine::Postgres(_) => Err(self.not_of_a_database()),
        }
    }

    /// Copies the whole store, consistent and while it is in use, to `target`. A database has its own
    /// means for that.
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
        match &self.engine {
            Engine::Sqlite(file) => file.backup(target),
            Engine::Postgres(_) => Err(self.not_of_a_database()),
        }
    }

    fn not_of_a_database(&self) -> StoreError {
        StoreError::NotAccessible {
            path: self.path().to_path_buf(),
            cause: "it is no file: use the database's own tools".into(),
        }
    }
}

/// `f` as an engine runs it: what it came to is kept in `out`, and stays in the store if it is good.
fn keeping<'a, T, E>(
    out: &'a mut Option<Result<T, E>>,
    f: &'a mut impl FnMut(&Tx<'_>) -> Result<T, E>,
) -> impl FnMut(&Tx<'_>) -> bool + 'a {
    move |tx| {
        let came = f(tx);
        let stays = came.is_ok();
        *out = Some(came);
        stays
    }
}
