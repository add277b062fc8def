//! Where a TEE answers.

use std::fmt;
use std::path::PathBuf;

/// Where a TEE answers. What is asked of it, and how it answers, is the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TeeAddress {
    /// The software backend: the socket of `tegata-teed`.
    Socket(PathBuf),
    /// OP-TEE, through its own client library and the kernel's `/dev/tee*`. Needs the cargo
    /// feature `optee`; without it every call says so.
    OpTee,
}

impl fmt::Display for TeeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::OpTee => f.write_str("optee"),
        }
    }
}
