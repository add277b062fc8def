//! What can go wrong with the durable state, said so that an operator knows what to do.
//!
//! Every sentence names the file, what happened and how to mend it. None holds a secret: rows are
//! never printed.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::engine::EngineError;

/// A failure of the store. All of them are the environment's fault or a bug, never a peer's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds the file.
    #[error(
        "the store {path} is locked by another process; stop the other server (or wait for a \
         running backup to end) and try again",
        path = .path.display()
    )]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// The file's content fails its integrity check.
    #[error(
        "the store {path} is damaged ({finding}); stop the server, keep a copy of the file, and \
         restore the last backup, or recover what is left with `sqlite3 {path} .recover`",
        path = .path.display()
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What the check reported first.
        finding: String,
    },
    /// No room is left on the disk.
    #[error(
        "no room is left on the disk of {path}; nothing was changed; free some space and repeat \
         the request",
        path = .path.display()
    )]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// The file or its directory cannot be opened or written.
    #[error(
        "the store {path} cannot be opened or written ({cause}); check that the directory exists \
         and that this user may write to it",
        path = .path.display()
    )]
    NotAccessible {
        /// The database file.
        path: PathBuf,
        /// The system's words.
        cause: String,
    },
    /// A file of another program, or no database at all.
    #[error(
        "{path} is not a Tegata store; point the configuration at another file, this one is left \
         untouched",
        path = .path.display()
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer version of this program.
    #[error(
        "the store {path} was written by a newer Tegata (schema {found}, this one knows \
         {known}); run that version, or restore a backup made before the upgrade",
        path = .path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Schema version in the file.
        found: i64,
        /// Newest schema this build knows.
        known: i64,
    },
    /// The address of a database is none.
    #[error(
        "the address of the database is not usable ({what}); write it as \
         postgres://USER@HOST:PORT/DATABASE, see docs/ops/scale.md"
    )]
    Address {
        /// What is wrong with it; never the address itself.
        what: Cow<'static, str>,
    },
    /// The database does not answer.
    #[error(
        "the database {path} cannot be reached ({cause}); check that it runs and can be reached from \
         here, the next request connects again",
        path = .path.display()
    )]
    Unreachable {
        /// The database, without the password.
        path: PathBuf,
        /// The server's or the system's words.
        cause: String,
    },
    /// The database answers, and does not let us in, or is none that a store can be in.
    #[error(
        "the database {path} cannot be used ({cause}); check role, password, rights and what stands \
         between, see docs/ops/scale.md",
        path = .path.display()
    )]
    Refused {
        /// The database, without the password.
        path: PathBuf,
        /// The server's words, or ours.
        cause: String,
    },
    /// Others were in the way each time.
    #[error(
        "the step {step} met others at the same rows too often; nothing was changed, repeat the \
         request"
    )]
    Contended {
        /// Name of the transaction.
        step: &'static str,
    },
    /// The connection broke during a commit.
    #[error(
        "the connection to {path} broke while the step {step} was committed ({cause}); whether it was \
         done is not known: repeat the request, what was done is found",
        path = .path.display()
    )]
    Unknown {
        /// The database, without the password.
        path: PathBuf,
        /// Name of the transaction.
        step: &'static str,
        /// What happened to the connection.
        cause: String,
    },
    /// A statement failed and the step went on as if it had not.
    #[error("the step {step} was undone by the database: this is a bug, please report it")]
    Undone {
        /// Name of the transaction.
        step: &'static str,
    },
    /// A row that cannot be decoded any more.
    #[error(
        "a {record} record in the store cannot be read; the file was changed by something else: \
         restore the last backup"
    )]
    Unreadable {
        /// The aggregate, for example `device`.
        record: &'static str,
    },
    /// A test's injected failure: the process would have died here.
    #[error("the process was stopped {when} the step {step}")]
    Stopped {
        /// Name of the transaction.
        step: &'static str,
        /// `before` or `after`.
        when: &'static str,
    },
    /// The engine refused a statement: a bug in this crate.
    #[error("the store refused the step {step} ({source}): this is a bug; please report it")]
    Engine {
        /// Name of the transaction.
        step: &'static str,
        /// The engine's error.
        #[source]
        source: EngineError,
    },
    /// A thread died while it held the writer.
    #[error("the store's writer stopped after a failure; restart the server")]
    Poisoned,
}

impl StoreError {
    /// Stable label for metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "store-locked",
            Self::Damaged { .. } => "store-damaged",
            Self::Full { .. } => "store-full",
            Self::NotAccessible { .. } => "store-not-accessible",
            Self::NotOurs { .. } => "store-not-ours",
            Self::Newer { .. } => "store-newer",
            Self::Address { .. } => "store-address",
            Self::Unreachable { .. } => "store-unreachable",
            Self::Refused { .. } => "store-refused",
            Self::Contended { .. } => "store-contended",
            Self::Unknown { .. } => "store-unknown",
            Self::Undone { .. } => "store-undone",
            Self::Unreadable { .. } => "store-unreadable",
            Self::Stopped { .. } => "store-stopped",
            Self::Engine { .. } => "store-engine",
            Self::Poisoned => "store-poisoned",
        }
    }

    /// Whether the same request may succeed later without anyone changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Locked { .. }
            | Self::Full { .. }
            | Self::Unreachable { .. }
            | Self::Contended { .. }
            | Self::Unknown { .. }
            | Self::Stopped { .. } => true,
            Self::Damaged { .. }
            | Self::NotAccessible { .. }
            | Self::Refused { .. }
            | Self::NotOurs { .. }
            | Self::Newer { .. }
            | Self::Address { .. }
            | Self::Undone { .. }
            | Self::Unreadable { .. }
            | Self::Engine { .. }
            | Self::Poisoned => false,
        }
    }

    /// Turns the engine's error into a sentence about the file.
    pub(crate) fn from_sqlite(
        path: &std::path::Path,
        step: &'static str,
        e: rusqlite::Error,
    ) -> Self {
        use rusqlite::ErrorCode as C;
        let path = path.to_path_buf();
        match e.sqlite_error_code() {
            Some(C::DatabaseBusy | C::DatabaseLocked) => Self::Locked { path },
            Some(C::DatabaseCorrupt) => Self::Damaged {
                path,
                finding: e.to_string(),
            },
            Some(C::NotADatabase) => Self::NotOurs { path },
            Some(C::DiskFull) => Self::Full { path },
            Some(C::CannotOpen | C::ReadOnly | C::PermissionDenied | C::SystemIoFailure) => {
                Self::NotAccessible {
                    path,
                    cause: e.to_string(),
                }
            }
            _ => Self::Engine {
                step,
                source: e.into(),
            },
        }
    }
}
