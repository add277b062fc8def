//! What can go wrong, and who says so.

use std::fmt;
use std::path::PathBuf;

use tegata_wire::rpc::{
    FrameError, ORIGIN_API, ORIGIN_COMMS, ORIGIN_TEE, ORIGIN_TRUSTED_APP, RefusalCode,
};

use crate::codes;

/// Who returned a code. Spec: GP TEE Client API 1.0 section 4.4.2, table 4-3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// This library.
    Api,
    /// The way between client and TEE.
    Comms,
    /// The TEE.
    Tee,
    /// The trusted application.
    TrustedApp,
    /// A number that GP does not define.
    Other(u32),
}

impl Origin {
    /// Origin from GP's number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            ORIGIN_API => Self::Api,
            ORIGIN_COMMS => Self::Comms,
            ORIGIN_TEE => Self::Tee,
            ORIGIN_TRUSTED_APP => Self::TrustedApp,
            other => Self::Other(other),
        }
    }

    /// GP's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Api => ORIGIN_API,
            Self::Comms => ORIGIN_COMMS,
            Self::Tee => ORIGIN_TEE,
            Self::TrustedApp => ORIGIN_TRUSTED_APP,
            Self::Other(other) => other,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api => f.write_str("the client library"),
            Self::Comms => f.write_str("the way to the TEE"),
            Self::Tee => f.write_str("the TEE"),
            Self::TrustedApp => f.write_str("the trusted application"),
            Self::Other(other) => write!(f, "origin {other}"),
        }
    }
}

/// Why a call did not succeed. [`Error::code`] and [`Error::origin`] are GP's view of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The TEE or the TA answered with a code.
    #[error("{} ({code:#010x}) from {origin}", codes::name(*code).unwrap_or("code"))]
    Returned {
        /// `TEEC_ERROR_*` or a code of the TA's own.
        code: u32,
        /// Who says so.
        origin: Origin,
    },
    /// The TEE cannot be reached.
    #[error(
        "cannot reach the TEE at {}: {source}. Is tegata-teed running, and is this its socket?",
        path.display()
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// OP-TEE, or the way to it, returned a code.
    #[error(
        "{doing}: {} ({code:#010x}) from {origin}. {mend}", codes::name(*code).unwrap_or("code")
    )]
    OpTee {
        /// What was being done.
        doing: &'static str,
        /// `TEEC_ERROR_*`.
        code: u32,
        /// Who says so.
        origin: Origin,
        /// What to do about it, a sentence.
        mend: String,
    },
    /// The program was built without OP-TEE.
    #[error(
        "this program was built without OP-TEE: build it with `--features optee`, or set \
         `tee = \"socket\"` in agent.toml"
    )]
    NoOpTee,
    /// The kernel has no such login for OP-TEE.
    #[error(
        "OP-TEE cannot be told which program calls (login {login}): Linux tells it the user and \
         the group of a caller only. Use `user` or `group:GID`, and a user of its own for each \
         application that must not use another's keys"
    )]
    LoginUnsupported {
        /// GP's number of the login method.
        login: u32,
    },
    /// The connection ended: the TEE was stopped, or this session with it.
    #[error("the TEE closed the connection")]
    Closed,
    /// No answer in time.
    #[error("the TEE did not answer in time")]
    TimedOut,
    /// The socket failed.
    #[error("socket of the TEE: {0}")]
    Socket(#[source] std::io::Error),
    /// What came is not an answer to what was asked.
    #[error("unexpected answer of the TEE: {0}")]
    Protocol(&'static str),
    /// A message cannot be sent or read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The TEE refused the request as such.
    #[error("the TEE refused ({}): {message}", code.name())]
    Refused {
        /// Stable reason.
        code: RefusalCode,
        /// The same as a sentence of the TEE.
        message: String,
    },
    /// The parameters are larger than a call may carry.
    #[error("the parameters are larger than the {max_bytes} bytes of one call")]
    TooLarge {
        /// Limit in bytes.
        max_bytes: usize,
    },
    /// Cancelled before it was sent.
    #[error("the operation was cancelled before it began")]
    Cancelled,
}

impl Error {
    /// `TEEC_Result` of this error.
    #[must_use]
    pub const fn code(&self) -> u32 {
        match self {
            Self::Returned { code, .. } | Self::OpTee { code, .. } => *code,
            Self::Unreachable { .. }
            | Self::Closed
            | Self::TimedOut
            | Self::Socket(_)
            | Self::Protocol(_)
            | Self::Frame(_) => codes::TEEC_ERROR_COMMUNICATION,
            Self::Refused { code, .. } => match code {
                RefusalCode::AccessDenied => codes::TEEC_ERROR_ACCESS_DENIED,
                RefusalCode::Busy => codes::TEEC_ERROR_BUSY,
                RefusalCode::BadRequest => codes::TEEC_ERROR_BAD_PARAMETERS,
                RefusalCode::Version => codes::TEEC_ERROR_NOT_SUPPORTED,
                _ => codes::TEEC_ERROR_GENERIC,
            },
            Self::NoOpTee | Self::LoginUnsupported { .. } => codes::TEEC_ERROR_NOT_SUPPORTED,
            Self::TooLarge { .. } => codes::TEEC_ERROR_EXCESS_DATA,
            Self::Cancelled => codes::TEEC_ERROR_CANCEL,
        }
    }

    /// Who returned it.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        match self {
            Self::Returned { origin, .. } | Self::OpTee { origin, .. } => *origin,
            Self::Refused { .. } => Origin::Tee,
            Self::TooLarge { .. }
            | Self::Cancelled
            | Self::NoOpTee
            | Self::LoginUnsupported { .. } => Origin::Api,
            _ => Origin::Comms,
        }
    }

    /// True if the same call may succeed when it is made again later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Closed | Self::TimedOut | Self::Socket(_) => true,
            Self::Refused { code, .. } => {
                matches!(code, RefusalCode::Busy | RefusalCode::Environment)
            }
            Self::Returned { code, .. } | Self::OpTee { code, .. } => matches!(
                *code,
                codes::TEEC_ERROR_BUSY
                    | codes::TEEC_ERROR_TARGET_DEAD
                    | codes::TEEC_ERROR_COMMUNICATION
                    | codes::TEEC_ERROR_OUT_OF_MEMORY
                    | codes::TEE_ERROR_STORAGE_NOT_AVAILABLE
            ),
            _ => false,
        }
    }
}
