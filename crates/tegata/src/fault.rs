//! What a person at the terminal is told when a command cannot go on.
//!
//! A fault is one sentence that says what happened, one that says how to mend it, a stable code for
//! scripts and logs, and an exit status. Faults never carry secrets: they are built from paths,
//! addresses and public identifiers. Deliberately absent: a fault without a way to mend it.

use std::fmt;
use std::io;
use std::path::Path;

/// Exit status of a command that was understood and failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit status of a wrong command line or a wrong configuration file.
pub const EXIT_USAGE: u8 = 2;
/// Exit status when the environment is at fault: disk, port, permission, store.
pub const EXIT_ENVIRONMENT: u8 = 3;

/// A reason to stop, told to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Stable name of the reason, such as `port-in-use`.
    pub code: &'static str,
    /// What happened, one sentence.
    pub what: String,
    /// How to mend it, one sentence.
    pub mend: String,
    /// Further lines printed as they are, such as an excerpt of a configuration file.
    pub excerpt: Option<String>,
    /// Exit status of the process.
    pub exit: u8,
}

/// Result of everything a command does.
pub type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// A command that was understood and failed.
    pub fn failed(code: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            mend: mend.into(),
            excerpt: None,
            exit: EXIT_FAILED,
        }
    }

    /// A wrong argument or configuration.
    pub fn usage(code: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            exit: EXIT_USAGE,
            ..Self::failed(code, what, mend)
        }
    }

    /// The environment does not allow it.
    pub fn environment(
        code: &'static str,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            exit: EXIT_ENVIRONMENT,
            ..Self::failed(code, what, mend)
        }
    }

    /// Adds lines that are printed below the sentence.
    #[must_use]
    pub fn with_excerpt(mut self, excerpt: String) -> Self {
        self.excerpt = Some(excerpt);
        self
    }

    /// A file or directory that could not be read, written or made.
    pub fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        let path_text = path.display();
        let makes = doing.starts_with("write") || doing.starts_with("make");
        let (code, why, mend) = match error.kind() {
            io::ErrorKind::NotFound if makes => (
                "file-missing",
                "its directory does not exist".to_owned(),
                format!(
                    "Check the path, or make the directory first: {}",
                    path.parent().unwrap_or(path).display()
                ),
            ),
            io::ErrorKind::IsADirectory => (
                "is-a-directory",
                "it is a directory".to_owned(),
                "Give the path of a file.".to_owned(),
            ),
            io::ErrorKind::NotADirectory => (
                "not-a-directory",
                "something on its path is no directory".to_owned(),
                format!("Check the path: {path_text}"),
            ),
            io::ErrorKind::InvalidFilename => (
                "bad-file-name",
                "no file can have that name".to_owned(),
                "Choose a shorter name; most file systems take 255 bytes.".to_owned(),
            ),
            io::ErrorKind::NotFound => (
                "file-missing",
                "it does not exist".to_owned(),
                format!("Check the path, or make the file first: {path_text}"),
            ),
            io::ErrorKind::PermissionDenied => (
                "permission-denied",
                "this user is not allowed to".to_owned(),
                format!("Run as the owner of {path_text}, or give this user access to it."),
            ),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
                "disk-full",
                "the disk is full".to_owned(),
                "Free some space and run the command again; nothing was lost.".to_owned(),
            ),
            io::ErrorKind::ReadOnlyFilesystem => (
                "read-only",
                "the file system is mounted read-only".to_owned(),
                "Choose a directory on a writable file system.".to_owned(),
            ),
            io::ErrorKind::AlreadyExists => (
                "already-exists",
                "it exists already".to_owned(),
                format!("Choose another path, or move {path_text} away; nothing is overwritten."),
            ),
            _ => (
                "input-output",
                error.to_string(),
                format!("Check the file system that holds {path_text}."),
            ),
        };
        Self::environment(code, format!("cannot {doing} {path_text}: {why}"), mend)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if let Some(excerpt) = &self.excerpt {
            write!(f, "\n{excerpt}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// Prints a fault on standard error: for people, or as one JSON object when `json` is set.
pub fn report(fault: &Fault, json: bool) {
    use std::io::Write as _;
    let mut err = anstream::stderr().lock();
    // Nothing can be told to anyone when standard error itself is gone, hence the ignored results.
    if json {
        let value = serde_json::json!({
            "error": { "code": fault.code, "what": fault.what, "mend": fault.mend,
                       "excerpt": fault.excerpt, "exit": fault.exit }
        });
        let _ = writeln!(err, "{value}");
        return;
    }
    let _ = writeln!(err, "\x1b[1;31merror\x1b[0m: {}", fault.what);
    if let Some(excerpt) = &fault.excerpt {
        let _ = writeln!(err, "{excerpt}");
    }
    let _ = writeln!(err, "\x1b[1m mend\x1b[0m: {}", fault.mend);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_not_called_missing() {
        let io =
            |doing, kind: io::ErrorKind| Fault::io(doing, Path::new("/nowhere/r"), &kind.into());
        let written = io("write", io::ErrorKind::NotFound);
        assert!(written.what.contains("its directory"), "{written}");
        assert!(written.mend.ends_with(": /nowhere"), "{}", written.mend);
        let read = io("read", io::ErrorKind::NotFound);
        assert!(read.mend.ends_with("/nowhere/r"), "{}", read.mend);
        let directory = io("write", io::ErrorKind::IsADirectory);
        assert!(directory.mend.contains("a file"), "{}", directory.mend);
    }
}
