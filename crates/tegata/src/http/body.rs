//! Reading what a peer sends: media types first, then a bounded and timed body.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
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
pub async fn read(headers: &HeaderMap, mut body: Body, accepts: Accepts) -> Result<Bytes, Problem> {
    let taken = take(headers, &mut body, accepts).await;
    let declared = declared(headers);
    if let Err(problem) = &taken
        && problem.status == StatusCode::PAYLOAD_TOO_LARGE
        && declared.is_none_or(|declared| declared <= UNWANTED_LEN_BYTES_MAX)
        // Who asks first has not sent anything.
        && !headers.contains_key(header::EXPECT)
    {
        let dropping = drop_rest(&mut body);
        let _ = tokio::time::timeout(UNWANTED_LIMIT, dropping).await;
    }
    taken
}

/// Reads what is not wanted, and throws it away: an answer to somebody who is still sending is lost where the
/// connection closes with bytes unread, and with it what was wrong.
async fn drop_rest(body: &mut Body) {
    let mut len_bytes = 0;
    while len_bytes < UNWANTED_LEN_BYTES_MAX {
        let next = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        let Ok(Some(Ok(frame))) = tokio::time::timeout(UNWANTED_PAUSE, next).await else {
            return;
        };
        let piece = frame.data_ref().map_or(0, Bytes::len);
        len_bytes += u64::try_from(piece).unwrap_or(u64::MAX);
    }
}

/// Its declared length, bytes.
fn declared(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

async fn take(headers: &HeaderMap, body: &mut Body, accepts: Accepts) -> Result<Bytes, Problem> {
    if !accepted(headers, accepts.answer_type) {
        return Err(Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            "not-acceptable",
            format!("This resource answers {}.", accepts.answer_type),
        ));
    }
    let declared = declared(headers);
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
    // Whom there is no room for now is told before it sends.
    LONG_BODIES.look_for(declared.unwrap_or(0))?;
    let reading = gather(body, accepts.len_bytes_max);
    let timed = tokio::time::timeout(accepts.timeout, reading).await;
    timed.unwrap_or_else(|_| {
        Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-timeout",
            "The request body did not arrive in time.",
        ))
    })
}

/// Reads a body into one piece of memory. What it came in is let go at once: a byte by itself holds as much as a
/// whole read from the network, so pieces that are kept cost thousands of times what was sent.
async fn gather(body: &mut Body, len_bytes_max: usize) -> Result<Bytes, Problem> {
    let mut gathered = Gathered::default();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let frame = frame.map_err(|_| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "body-broken",
                "The request body broke off.",
            )
        })?;
        // Trailers say nothing that is asked for here.
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        gathered.add(&piece, len_bytes_max)?;
    }
    Ok(gathered.bytes.into())
}

/// What has come of a body, and the room that it takes.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    room: Option<SemaphorePermit<'static>>,
}

impl Gathered {
    fn add(&mut self, piece: &[u8], len_bytes_max: usize) -> Result<(), Problem> {
        let len = self.bytes.len().saturating_add(piece.len());
        if len > len_bytes_max {
            return Err(too_large(len_bytes_max));
        }
        if len > self.bytes.capacity() {
            let twice = self.bytes.capacity().saturating_mul(2);
            let capacity = len.max(twice).max(FIRST_LEN_BYTES).min(len_bytes_max);
            // For what has come, not for what was announced: who announces much and sends nothing takes nothing.
            LONG_BODIES.grow(&mut self.room, capacity)?;
            self.bytes
                .reserve_exact(capacity.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
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

impl Room {
    /// Whether there is room for so many bytes now.
    ///
    /// # Errors
    /// 503 if there is not.
    fn look_for(&self, len_bytes: u64) -> Result<(), Problem> {
        let kib = usize::try_from(len_bytes.div_ceil(1024)).unwrap_or(usize::MAX);
        match len_bytes <= SMALL_LEN_BYTES_MAX || kib <= self.0.available_permits() {
            true => Ok(()),
            false => Err(Problem::busy(NO_ROOM, 5)),
        }
    }

    /// Room for so many bytes in all, with what is held already.
    ///
    /// # Errors
    /// 503 if there is none.
    fn grow(
        &'static self,
        held: &mut Option<SemaphorePermit<'static>>,
        len_bytes: usize,
    ) -> Result<(), Problem> {
        let has = held.as_ref().map_or(0, SemaphorePermit::num_permits);
        let has = u64::try_from(has).unwrap_or(u64::MAX).saturating_mul(1024);
        let all = u64::try_from(len_bytes).unwrap_or(u64::MAX);
        if all <= SMALL_LEN_BYTES_MAX || all <= has {
            return Ok(());
        }
        let kib = u32::try_from((all - has).div_ceil(1024)).unwrap_or(u32::MAX);
        let more = self.0.try_acquire_many(kib);
        let more = more.map_err(|_| Problem::busy(NO_ROOM, 5))?;
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }
}

/// Reason of a body for which there is no room.
const NO_ROOM: &str = "too-many-long-bodies";
/// How much of a body that is too long is read all the same, and for how long; who sends nothing is not waited for.
const UNWANTED_LEN_BYTES_MAX: u64 = 8 * 1024 * 1024;
const UNWANTED_LIMIT: Duration = Duration::from_secs(2);
const UNWANTED_PAUSE: Duration = Duration::from_millis(250);
/// What a body begins with room for, bytes: most of ours have less.
const FIRST_LEN_BYTES: usize = 1024;
/// Longest body that needs no room, bytes: of 1,024 connections of each of six ports 96 MiB.
const SMALL_LEN_BYTES_MAX: u64 = 16 * 1024;
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
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    use super::*;
    use axum::http::HeaderValue;
    use hyper::body::Frame;

    fn accept(text: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(text));
        headers
    }

    /// A body of pieces, each of which is a small part of something large, as what is read from a network is.
    fn in_pieces(pieces: usize, kept: Arc<AtomicUsize>) -> Body {
        struct Read(Vec<u8>, Arc<AtomicUsize>);
        impl AsRef<[u8]> for Read {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        impl Drop for Read {
            fn drop(&mut self) {
                self.1.fetch_sub(1, Ordering::SeqCst);
            }
        }
        struct Pieces(usize, Arc<AtomicUsize>);
        impl axum::body::HttpBody for Pieces {
            type Data = Bytes;
            type Error = Infallible;
            fn poll_frame(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                if self.0 == 0 {
                    return Poll::Ready(None);
                }
                self.0 -= 1;
                let kept = self.1.fetch_add(1, Ordering::SeqCst);
                assert!(kept < 2, "what a piece came in is kept");
                let read = Read(vec![7; 8192], Arc::clone(&self.1));
                let piece = Bytes::from_owner(read).slice(..1);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
        Body::new(Pieces(pieces, kept))
    }

    #[tokio::test]
    async fn of_a_body_in_pieces_only_what_was_sent_is_kept() {
        let kept = Arc::new(AtomicUsize::new(0));
        let all = gather(&mut in_pieces(5000, Arc::clone(&kept)), 5000).await;
        assert_eq!(all.unwrap(), vec![7; 5000]);
        assert_eq!(kept.load(Ordering::SeqCst), 0);
        let over = gather(&mut in_pieces(5001, kept), 5000).await.unwrap_err();
        assert_eq!(over.code, "body-too-large");
    }

    #[test]
    fn room_is_taken_for_what_has_come() {
        static ROOM: Room = Room::new();
        let free = || ROOM.0.available_permits();
        let mut held = None;
        ROOM.grow(&mut held, 16 * 1024).unwrap();
        assert!(held.is_none(), "small ones need none");
        ROOM.grow(&mut held, 16 * 1024 + 1).unwrap();
        assert_eq!(free(), ROOM_KIB - 17);
        ROOM.grow(&mut held, 100 * 1024).unwrap();
        ROOM.grow(&mut held, 90 * 1024).unwrap();
        assert_eq!(free(), ROOM_KIB - 100);
        let rest = u64::try_from(free()).unwrap() * 1024;
        ROOM.look_for(rest).unwrap();
        assert_eq!(ROOM.look_for(rest + 1).unwrap_err().code, NO_ROOM);
        let all = usize::try_from(rest).unwrap() + 100 * 1024;
        assert_eq!(ROOM.grow(&mut held, all + 1).unwrap_err().code, NO_ROOM);
        ROOM.grow(&mut held, all).unwrap();
        assert_eq!(free(), 0);
        drop(held);
        assert_eq!(free(), ROOM_KIB);
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
