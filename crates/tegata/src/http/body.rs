//! Reading what a peer sends: media types first, then a bounded and timed body.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::Problem;

/// What an endpoint accepts.
#[derive(Debug, Clone, Copy)]
pub struct Accepts {
    /// Media type of the request body.
    pub content_type: &'static str,
    /// Media type of the answer; checked against `Accept` when that header is present.
    pub answer_type: &'static str,
    /// Longest body, bytes.
    pub len_bytes_max: usize,
    /// Time for the whole body.
    pub timeout: Duration,
}

/// The media type without parameters, lower case.
fn essence(value: &str) -> String {
    value
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase()
}

/// Whether an `Accept` header admits `media_type`; an absent header admits everything.
fn accepted(headers: &HeaderMap, media_type: &str) -> bool {
    let mut any = false;
    let kind = media_type.split('/').next().unwrap_or("");
    for value in headers.get_all(header::ACCEPT) {
        any = true;
        let Ok(text) = value.to_str() else { continue };
        for item in text.split(',') {
            let item = essence(item);
            let wild = item
                .strip_suffix("/*")
                .is_some_and(|prefix| prefix == "*" || prefix == kind);
            if item == media_type || wild {
                return true;
            }
        }
    }
    !any
}

/// Checks the headers, then reads the body.
///
/// # Errors
/// 406, 415, 413, 408 or 400 as a problem; nothing was allocated beyond the limit.
pub async fn read(headers: &HeaderMap, body: Body, accepts: Accepts) -> Result<Bytes, Problem> {
    if !accepted(headers, accepts.answer_type) {
        return Err(Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            "not-acceptable",
            format!("This resource answers {}.", accepts.answer_type),
        ));
    }
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    let len_max = u64::try_from(accepts.len_bytes_max).unwrap_or(u64::MAX);
    if declared.is_some_and(|declared| declared > len_max) {
        return Err(too_large(accepts.len_bytes_max));
    }
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(essence);
    let empty = declared == Some(0)
        || (declared.is_none() && !headers.contains_key(header::TRANSFER_ENCODING));
    // An empty body has no type of its own; a body without a type is refused.
    let type_ok = match given {
        Some(given) => given == accepts.content_type,
        None => empty,
    };
    if !type_ok {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            format!(
                "This resource takes Content-Type: {}.",
                accepts.content_type
            ),
        ));
    }
    // Small bodies are bounded by the connections; long ones share what memory there is for them.
    let may_come = declared.unwrap_or(len_max).min(len_max);
    let _room = LONG_BODIES.take(may_come, "too-many-long-bodies")?;
    let reading = axum::body::to_bytes(body, accepts.len_bytes_max);
    match tokio::time::timeout(accepts.timeout, reading).await {
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-timeout",
            "The request body did not arrive in time.",
        )),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let limit = std::error::Error::source(&error)
                .is_some_and(|source| source.to_string().contains("length limit"));
            if limit || error.to_string().contains("length limit") {
                Err(too_large(accepts.len_bytes_max))
            } else {
                Err(Problem::new(
                    StatusCode::BAD_REQUEST,
                    "body-broken",
                    "The request body broke off.",
                ))
            }
        }
    }
}

/// Room that long bodies, or long answers, of all ports of this process share.
pub(super) struct Room(Semaphore);

impl Room {
    pub(super) const fn new() -> Self {
        Self(Semaphore::const_new(ROOM_KIB))
    }

    /// Room for so many bytes until it is dropped; none is needed for what is small.
    ///
    /// # Errors
    /// 503 with that code where there is none.
    pub(super) fn take(
        &'static self,
        len_bytes: u64,
        code: &'static str,
    ) -> Result<Option<SemaphorePermit<'static>>, Problem> {
        if len_bytes <= SMALL_LEN_BYTES_MAX {
            return Ok(None);
        }
        let kib = u32::try_from(len_bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = self.0.try_acquire_many(kib);
        room.map(Some).map_err(|_| Problem::busy(code, 5))
    }
}

/// Longest body that needs no room, bytes.
const SMALL_LEN_BYTES_MAX: u64 = 64 * 1024;
/// Room for longer ones: 32 of the longest.
const ROOM_KIB: usize = 128 * 1024;
/// For bodies while they arrive.
static LONG_BODIES: Room = Room::new();

fn too_large(len_bytes_max: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body-too-large",
        format!("This resource takes at most {len_bytes_max} bytes."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn accept(text: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(text));
        headers
    }

    #[test]
    fn accept_header() {
        let teep = "application/teep+cbor";
        assert!(accepted(&HeaderMap::new(), teep));
        assert!(accepted(&accept("application/teep+cbor"), teep));
        assert!(accepted(
            &accept("text/html, Application/TEEP+cbor;q=0.5"),
            teep
        ));
        assert!(accepted(&accept("application/*"), teep));
        assert!(accepted(&accept("*/*"), teep));
        assert!(!accepted(&accept("text/*"), teep));
        assert!(!accepted(&accept("application/json"), teep));
    }
}
