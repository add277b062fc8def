//! The calls that roles and operator commands make to other roles.
//!
//! Blocking, bounded in time and size, without redirects. Authenticity is that of the messages, not
//! of the connection.

use std::io::Read as _;
use std::time::Duration;

use crate::fault::{Fault, Outcome};

/// Time for one whole call; the peer has half of it by its own limits.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read, bytes: the largest is a TA release package.
const ANSWER_LEN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A connection pool for calls to other roles.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Media type without parameters; empty when the peer sent none.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection, or it broke off, or it took too long.
    #[error("{url} cannot be reached: {cause}")]
    Unreachable {
        /// The URL that was called.
        url: String,
        /// The transport's words.
        cause: String,
    },
    /// The answer is longer than any real one.
    #[error("{url} sent an answer that is too long")]
    TooLong {
        /// The URL that was called.
        url: String,
    },
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A client with our limits.
    #[must_use]
    pub fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(CALL_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .max_idle_connections_per_host(16)
            .user_agent("tegata")
            .proxy(None)
            .build();
        Self {
            agent: config.into(),
        }
    }

    /// Sends `body` and reads the answer.
    ///
    /// # Errors
    /// The peer cannot be reached, or sends too much. An HTTP error status is an answer.
    pub fn post(
        &self,
        url: &str,
        content_type: &str,
        accept: &str,
        body: &[u8],
    ) -> Result<Answer, CallError> {
        let sent = self
            .agent
            .post(url)
            .header("Content-Type", content_type)
            .header("Accept", accept)
            .send(body);
        Self::read(url, sent)
    }

    /// Fetches a resource.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub fn get(&self, url: &str) -> Result<Answer, CallError> {
        Self::read(url, self.agent.get(url).call())
    }

    fn read(
        url: &str,
        sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Answer, CallError> {
        let unreachable = |cause: String| CallError::Unreachable {
            url: url.to_owned(),
            cause,
        };
        let mut response = sent.map_err(|e| unreachable(e.to_string()))?;
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .map(|value| value.split(';').next().unwrap_or("").trim().to_owned())
            .unwrap_or_default();
        let mut body = Vec::new();
        response
            .body_mut()
            .as_reader()
            .take(ANSWER_LEN_BYTES_MAX.saturating_add(1))
            .read_to_end(&mut body)
            .map_err(|e| unreachable(e.to_string()))?;
        if u64::try_from(body.len()).unwrap_or(u64::MAX) > ANSWER_LEN_BYTES_MAX {
            return Err(CallError::TooLong {
                url: url.to_owned(),
            });
        }
        Ok(Answer {
            status: response.status().as_u16(),
            content_type,
            body,
        })
    }
}

impl Answer {
    /// The `detail` of a problem document, or the bare status.
    #[must_use]
    pub fn complaint(&self) -> String {
        let detail = serde_json::from_slice::<serde_json::Value>(&self.body)
            .ok()
            .and_then(|value| {
                let code = value.get("type")?.as_str()?.rsplit(':').next()?.to_owned();
                let detail = value.get("detail")?.as_str()?.to_owned();
                Some(format!("{detail} ({code})"))
            });
        match detail {
            Some(detail) => format!("HTTP {}: {detail}", self.status),
            None => format!("HTTP {}", self.status),
        }
    }
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        Fault::environment(
            "peer-unreachable",
            error.to_string(),
            "Check that the role runs (`GET /healthz`) and that the URL in tegata.toml is right.",
        )
    }
}

/// Refuses an answer that is not a success.
///
/// # Errors
/// A fault with the peer's own words.
pub fn expect_success(what: &str, answer: Answer) -> Outcome<Answer> {
    if (200..300).contains(&answer.status) {
        return Ok(answer);
    }
    Err(Fault::failed(
        "peer-refused",
        format!("{what} was refused: {}", answer.complaint()),
        "The peer's log has a line with the same reason.",
    ))
}
