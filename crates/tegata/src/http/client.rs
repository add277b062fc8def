//! The calls that roles and operator commands make to other roles.
//!
//! Blocking, bounded in time and size, without redirects. Authenticity is that of the messages, not
//! of the connection.

use std::io::{ErrorKind, Read as _};
use std::time::{Duration, Instant};

use crate::fault::{Fault, Outcome};

/// Time for one whole call; the peer has half of it by its own limits.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a server gets to open its port, from when a command first asks it.
const START_LIMIT: Duration = Duration::from_secs(5);
/// Pause between two tries.
const START_POLL: Duration = Duration::from_millis(50);
/// Waits that are longer are told.
const TOLD_AFTER: Duration = Duration::from_secs(1);
/// Longest answer that is read, bytes: the largest is a TA release package.
const ANSWER_LEN_BYTES_MAX: u64 = 4 * 1024 * 1024;

type Called = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

/// A connection pool for calls to other roles.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    /// How long a port that refuses is tried again.
    patience: Duration,
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
            patience: Duration::ZERO,
        }
    }

    /// One for a command: it waits a moment for a server that was started together with it and has not opened its port
    /// yet.
    #[must_use]
    pub fn for_command() -> Self {
        Self {
            patience: START_LIMIT,
            ..Self::new()
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
        self.ask(url, || {
            self.agent
                .post(url)
                .header("Content-Type", content_type)
                .header("Accept", accept)
                .send(body)
        })
    }

    /// Fetches a resource.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub fn get(&self, url: &str) -> Result<Answer, CallError> {
        self.ask(url, || self.agent.get(url).call())
    }

    fn ask(&self, url: &str, call: impl Fn() -> Called) -> Result<Answer, CallError> {
        let begun = Instant::now();
        let mut told = false;
        loop {
            let called = call();
            let refused = matches!(&called, Err(ureq::Error::Io(e)) if e.kind() == ErrorKind::ConnectionRefused);
            if !refused || begun.elapsed() >= self.patience {
                return Self::read(url, called);
            }
            if !told && begun.elapsed() >= TOLD_AFTER {
                told = true;
                anstream::eprintln!("waiting for a server to start: {url} refuses connections");
            }
            std::thread::sleep(START_POLL);
        }
    }

    fn read(url: &str, sent: Called) -> Result<Answer, CallError> {
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    /// A port that nobody listens at for now.
    fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    }

    #[test]
    fn a_command_waits_for_a_server_that_is_starting_and_others_do_not() {
        let at = closed();
        let url = format!("http://{at}/healthz");
        let refused = Client::new().get(&url).unwrap_err();
        assert!(refused.to_string().contains("refused"), "{refused}");
        let server = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            let listener = TcpListener::bind(at).unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                .unwrap();
            // Read to its end: what is closed with bytes unread is reset.
            let _ = peer.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut peer, &mut std::io::sink());
        });
        let answer = Client::for_command().get(&url).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
        server.join().unwrap();
    }
}
