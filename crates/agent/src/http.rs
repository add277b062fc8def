//! HTTP as a device's agent needs it: two verbs, no redirects, every body limited.

use std::time::Duration;

/// An HTTP client.
#[derive(Clone)]
pub struct Http {
    agent: ureq::Agent,
}

/// A response with its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Media type without parameters, in lower case; empty if there is none.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no usable response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The address cannot be used.
    #[error("{url} is not an address this agent can use: {reason}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No connection, or it broke.
    #[error("{url} cannot be reached: {source}")]
    Transport {
        /// The address.
        url: String,
        /// The client's word.
        source: Box<ureq::Error>,
    },
    /// The body is longer than allowed.
    #[error("the answer of {url} is longer than {max_bytes} bytes")]
    TooLong {
        /// The address.
        url: String,
        /// Limit in bytes.
        max_bytes: u64,
    },
    /// A status that is no success.
    #[error("{url} answered with status {status}{}", when(*retry_after))]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// When to come again, if the server says so.
        retry_after: Option<Duration>,
    },
    /// Another media type than the protocol's.
    #[error("{url} answered with {got:?} instead of {expected}")]
    MediaType {
        /// The address.
        url: String,
        /// What came.
        got: String,
        /// What the protocol asks for.
        expected: &'static str,
    },
}

impl HttpError {
    /// True if it may work later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Status { status, .. } => {
                // Time-outs, overload and trouble on the server's side pass.
                matches!(*status, 408 | 425 | 429 | 500..=599)
            }
            _ => false,
        }
    }

    /// How long a server that is busy asks to be left alone. Spec: RFC 9110 section 10.2.3; dates are not read.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status {
                status: 429 | 503,
                retry_after,
                ..
            } => *retry_after,
            _ => None,
        }
    }
}

impl Http {
    /// A client whose requests take `timeout` at most, all in all.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would let the network choose whom the device speaks to.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // The environment of a daemon must not choose its way either.
            .proxy(None)
            .timeout_connect(Some(timeout.min(Duration::from_secs(10))))
            .timeout_global(Some(timeout))
            .user_agent(concat!("tegata-agent/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.into(),
        }
    }

    /// POSTs `body` and reads an answer of at most `max_bytes`.
    ///
    /// # Errors
    /// [`HttpError`]; a status that is no success is one, too.
    pub fn post(
        &self,
        url: &str,
        content_type: &str,
        body: &[u8],
        max_bytes: u64,
    ) -> Result<Response, HttpError> {
        check(url)?;
        let request = self
            .agent
            .post(url)
            .header("content-type", content_type)
            .header("accept", content_type);
        let sent = if body.is_empty() {
            request.send_empty()
        } else {
            request.send(body)
        };
        finish(url, sent, max_bytes)
    }

    /// GETs a body of at most `max_bytes`.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub fn get(&self, url: &str, max_bytes: u64) -> Result<Response, HttpError> {
        check(url)?;
        finish(url, self.agent.get(url).call(), max_bytes)
    }
}

/// Refuses what cannot work before a name is resolved.
fn check(url: &str) -> Result<(), HttpError> {
    let wrong = |reason| {
        Err(HttpError::Address {
            url: printable(url),
            reason,
        })
    };
    match url.split_once("://") {
        Some(("http", rest)) if !rest.is_empty() => Ok(()),
        Some(("https", _)) => wrong(
            "this build has no TLS. TEEP and CMP messages are protected end to end: use http, or \
             a local proxy that speaks TLS",
        ),
        _ => wrong("it must begin with http://"),
    }
}

fn finish(
    url: &str,
    sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    max_bytes: u64,
) -> Result<Response, HttpError> {
    let url = || printable(url);
    let transport = |source| HttpError::Transport {
        url: url(),
        source: Box::new(source),
    };
    let mut response = sent.map_err(transport)?;
    let status = response.status().as_u16();
    let content_type = response
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase())
        .unwrap_or_default();
    if !(200..300).contains(&status) {
        let retry_after = response.headers().get("retry-after");
        let secs = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        return Err(HttpError::Status {
            url: url(),
            status,
            retry_after: secs.map(Duration::from_secs),
        });
    }
    // One byte more than allowed tells too long from just fitting.
    let read = response
        .body_mut()
        .with_config()
        .limit(max_bytes.saturating_add(1))
        .read_to_vec();
    let too_long = || HttpError::TooLong {
        url: url(),
        max_bytes,
    };
    let body = match read {
        Ok(body) => body,
        Err(ureq::Error::BodyExceedsLimit(_)) => return Err(too_long()),
        Err(error) => return Err(transport(error)),
    };
    if u64::try_from(body.len()).unwrap_or(u64::MAX) > max_bytes {
        return Err(too_long());
    }
    Ok(Response {
        status,
        content_type,
        body,
    })
}

/// When a server says to come again, for people.
fn when(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |after| {
        format!(": busy, not before {} s", after.as_secs())
    })
}

/// An address of a peer for a message: no control characters, not endless.
fn printable(url: &str) -> String {
    url.chars().filter(|c| !c.is_control()).take(200).collect()
}
