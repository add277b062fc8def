//! How a CMP message gets to the CA: by this process, or by the agent's daemon.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use tegata_wire::ids::TaUuid;
use tegata_wire::rpc::{AgentReply, AgentRequest, URI_LEN_MAX};

use crate::http::{Http, HttpError};
use crate::socket;

/// Media type of CMP messages. Spec: RFC 9811 section 3.4.
pub const PKIXCMP: &str = "application/pkixcmp";

/// Longest CMP answer in bytes: a chain of certificates with room to spare.
pub const CMP_LEN_BYTES_MAX: u64 = 256 * 1024;

/// Carries CMP messages.
pub trait Carrier {
    /// Sends `body` to the CMP resource at `path` of the CA and brings the answer.
    ///
    /// # Errors
    /// [`CarryError`], which says whether it may work later.
    fn cmp(&self, path: &str, body: &[u8]) -> Result<Vec<u8>, CarryError>;

    /// Where messages go, for people.
    fn destination(&self) -> String;
}

/// Why a message did not get through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CarryError {
    /// HTTP failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The path cannot be one of the CA's.
    #[error("{path:?} is no path of a CMP resource")]
    Path {
        /// The path.
        path: String,
    },
    /// The agent's daemon cannot be reached.
    #[error("the agent cannot be reached at {}: {reason}. Is `tegata-agent run` running?", path.display())]
    Agent {
        /// Its socket.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
    /// The agent's daemon tried and failed.
    #[error("{message}")]
    Failed {
        /// Its sentence.
        message: String,
        /// True if it may work later.
        retryable: bool,
    },
}

impl CarryError {
    /// True if it may work later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            Self::Path { .. } => false,
            Self::Agent { .. } => true,
            Self::Failed { retryable, .. } => *retryable,
        }
    }

    /// As of [`HttpError::retry_after`].
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Http(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// Carries messages itself.
pub struct HttpCarrier {
    http: Http,
    ca_url: String,
}

impl HttpCarrier {
    /// To the CA at `ca_url` (scheme, host and port).
    #[must_use]
    pub fn new(http: Http, ca_url: &str) -> Self {
        Self {
            http,
            ca_url: ca_url.trim_end_matches('/').into(),
        }
    }
}

impl Carrier for HttpCarrier {
    fn cmp(&self, path: &str, body: &[u8]) -> Result<Vec<u8>, CarryError> {
        // The path comes from the TA and may come from a local application: it must not turn the
        // address into another host's.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%".contains(&b);
        if !path.starts_with('/')
            || path.starts_with("//")
            || path.len() > URI_LEN_MAX
            || !path.bytes().all(plain)
            || path.split('/').any(|part| part == "..")
        {
            return Err(CarryError::Path {
                path: path.chars().take(100).collect(),
            });
        }
        let url = format!("{}{path}", self.ca_url);
        let response = self.http.post(&url, PKIXCMP, body, CMP_LEN_BYTES_MAX)?;
        if response.content_type != PKIXCMP {
            let got = response.content_type;
            return Err(HttpError::MediaType {
                url,
                got,
                expected: PKIXCMP,
            }
            .into());
        }
        Ok(response.body)
    }

    fn destination(&self) -> String {
        self.ca_url.clone()
    }
}

/// Carries messages through the agent's daemon: for applications without network.
pub struct AgentCarrier {
    socket: PathBuf,
    timeout: Duration,
}

impl AgentCarrier {
    /// Through the daemon that listens on `socket`.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>, timeout: Duration) -> Self {
        Self {
            socket: socket.into(),
            timeout,
        }
    }

    /// Asks the daemon to contact the TAM now. Returns the number of messages handled.
    ///
    /// # Errors
    /// [`CarryError`].
    pub fn sync(&self, ta: Option<TaUuid>) -> Result<u32, CarryError> {
        match self.ask(&AgentRequest::Sync { ta })? {
            AgentReply::Synced { messages } => Ok(messages),
            other => Err(self.unexpected(other)),
        }
    }

    fn ask(&self, request: &AgentRequest) -> Result<AgentReply, CarryError> {
        let wrong = |reason: String| CarryError::Agent {
            path: self.socket.clone(),
            reason,
        };
        let (short, _dir) =
            tegata_client::short_socket_path(&self.socket).map_err(|e| wrong(e.to_string()))?;
        let stream = UnixStream::connect(short).map_err(|e| wrong(e.to_string()))?;
        socket::send(&stream, request, self.timeout).map_err(|e| wrong(e.to_string()))?;
        socket::receive(&stream, self.timeout).map_err(|e| wrong(e.to_string()))
    }

    fn unexpected(&self, reply: AgentReply) -> CarryError {
        match reply {
            AgentReply::Failed { message, retryable } => CarryError::Failed { message, retryable },
            _ => CarryError::Agent {
                path: self.socket.clone(),
                reason: "an answer of another kind".into(),
            },
        }
    }
}

impl Carrier for AgentCarrier {
    fn cmp(&self, path: &str, body: &[u8]) -> Result<Vec<u8>, CarryError> {
        let request = AgentRequest::Cmp {
            path: path.into(),
            body: body.to_vec(),
        };
        match self.ask(&request)? {
            AgentReply::Cmp(body) => Ok(body),
            other => Err(self.unexpected(other)),
        }
    }

    fn destination(&self) -> String {
        format!("agent at {}", self.socket.display())
    }
}
