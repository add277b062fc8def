//! The HTTP server frame: every port of every role runs inside it.
//!
//! Limits stand before the work: connections in all and of a peer, header time and size, requests worked on,
//! time for the answer, life of a connection. A peer that breaks one gets a problem document or a closed
//! connection, and a log line with a reason code. The bodies' limits stand at each endpoint.
//! Not trusted: every byte that arrives here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Response, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

use super::often::Often;
use super::peers::Peers;
use super::places::{Lane, Places};
use super::problem::{Problem, Reason};
use super::tls::{ClientCertificate, Tls};
use crate::config::Limits;

/// What a server is about, until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It serves and says that it will go: `/healthz` answers 503, and every answer closes its connection, so that
    /// a load balancer has none left to it when it goes.
    Leaving,
    /// It takes nothing new.
    Stopping,
}

/// Longest request header, bytes. Ours have some 300.
const HEADER_LEN_BYTES_MAX: usize = 16 * 1024;
/// Most header fields of a request.
const HEADER_FIELDS_MAX: usize = 64;
/// Connections beyond the limit that still get a 503 instead of a closed socket.
pub(super) const REFUSALS_AT_ONCE_MAX: usize = 32;

/// How much of an answer is with the kernel at once, bytes. It takes twice as much for it.
const SENDING_LEN_BYTES: usize = 128 * 1024;

/// How long a server that stops waits for the first request of a connection.
const FIRST_REQUEST_WAIT: Duration = Duration::from_millis(250);

/// What the reasons of refusals for want of room begin with.
const REFUSAL: &str = "too-many-";

/// Wraps the routes of a port with the limits that every request shares; its work is done in that lane.
pub fn guard(router: Router, role: &'static str, limits: &Limits, lane: Lane) -> Router {
    let places = Places::new(limits.in_flight, limits.in_flight_per_peer, lane);
    let answer_timeout = limits.answer();
    let refusals = Arc::new(Often::default());
    router
        .fallback(|| async { Problem::not_found() })
        .layer(middleware::from_fn(
            move |mut request: Request, next: Next| {
                request.extensions_mut().insert(places.clone());
                let refusals = Arc::clone(&refusals);
                async move {
                    let started = Instant::now();
                    let method: String = request.method().as_str().chars().take(16).collect();
                    let path = request.uri().path().to_owned();
                    let peer = request.extensions().get::<SocketAddr>().copied();
                    let answering = async {
                        match is_text(&path) {
                            true => next.run(request).await,
                            false => Problem::not_found().into_response(),
                        }
                    };
                    let answering = tokio::time::timeout(answer_timeout, answering);
                    let mut response = match answering.await {
                        Ok(response) => response,
                        Err(_) => Problem::busy("answer-timeout", 5).into_response(),
                    };
                    add_common_headers(&mut response);
                    let status = response.status().as_u16();
                    let reason = response
                        .extensions()
                        .get::<Reason>()
                        .map_or("ok", |reason| reason.0);
                    let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                    let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
                    let path: String = path.chars().take(128).collect();
                    if reason.starts_with(REFUSAL) {
                        if let Some(unsaid) = refusals.one() {
                            warn!(
                                role,
                                method, path, status, reason, took_us, peer, unsaid, "request"
                            );
                        }
                        return response;
                    }
                    if let Some(unsaid) = refusals.rest() {
                        warn!(role, unsaid, "requests that were refused");
                    }
                    if status >= 500 {
                        warn!(role, method, path, status, reason, took_us, peer, "request");
                    } else if reason == "ok" && path == "/healthz" {
                        debug!(role, method, path, status, reason, took_us, peer, "request");
                    } else {
                        info!(role, method, path, status, reason, took_us, peer, "request");
                    }
                    response
                }
            },
        ))
}

/// Whether a path is text once its escapes are undone: no resource of ours is at another.
fn is_text(path: &str) -> bool {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let escaped = after.get(..2).and_then(|two| hex::decode(two).ok());
        let Some(escaped) = escaped else { return false };
        bytes.extend(escaped);
        rest = after.get(2..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    std::str::from_utf8(&bytes).is_ok()
}

/// Headers that keep answers from being taken for active content or being cached.
///
/// Spec: draft-ietf-teep-otrp-over-http section 4.
fn add_common_headers(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// Accepts connections until `phase` is `Stopping`, then lets requests in progress finish; what the kernel had
/// accepted by then is one. With `tls` nothing but TLS is spoken, and a shaken hand counts as a request's header: it
/// has as long.
pub async fn run(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    mut phase: watch::Receiver<Phase>,
) {
    let port = Port {
        connections: Arc::new(Semaphore::new(limits.connections)),
        peers: Peers::new(limits.connections_per_peer),
        refusals: Arc::new(Semaphore::new(REFUSALS_AT_ONCE_MAX)),
        refused: Often::default(),
        tls,
        router,
        limits,
        phase: phase.clone(),
    };
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase == Phase::Stopping) => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => port.take(accepted, &mut open),
            Err(error) => {
                // Out of descriptors or memory: wait for connections to end instead of spinning.
                warn!(reason = "accept-failed", error = %error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // Who was connected before the port closes is answered.
    for _ in 0..port.limits.connections {
        match tokio::time::timeout(Duration::ZERO, listener.accept()).await {
            Ok(Ok(accepted)) => port.take(accepted, &mut open),
            _ => break,
        }
    }
    drop(listener);
    let waiting = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(port.limits.stop_grace, waiting)
        .await
        .is_err()
    {
        warn!(reason = "stop-grace-over", "some connections were cut");
    }
}

/// What every connection of a port needs.
struct Port {
    connections: Arc<Semaphore>,
    peers: Peers,
    refusals: Arc<Semaphore>,
    /// For the log.
    refused: Often,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    phase: watch::Receiver<Phase>,
}

impl Port {
    /// Serves a connection, or refuses it if there is no room.
    fn take(&self, (stream, peer): (TcpStream, SocketAddr), open: &mut JoinSet<()>) {
        let room = self.peers.enter(peer.ip()).ok_or("too-many-of-peer");
        let room = room.and_then(|entered| {
            let permit = Arc::clone(&self.connections).try_acquire_owned();
            Ok((entered, permit.map_err(|_| "too-many-connections")?))
        });
        match room {
            Ok(room) => {
                let work = connection(
                    (stream, peer),
                    self.tls.clone(),
                    self.router.clone(),
                    self.limits.clone(),
                    self.phase.clone(),
                );
                open.spawn(async move {
                    work.await;
                    drop(room);
                });
            }
            Err(reason) => {
                if let Some(unsaid) = self.refused.one() {
                    info!(reason, peer = %peer, unsaid, "connection refused");
                }
                // Under TLS a refusal would cost a handshake: the socket is closed.
                if self.tls.is_none()
                    && let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned()
                {
                    open.spawn(refuse(stream, reason, self.limits.clone(), permit));
                }
            }
        }
    }
}

fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEADER_LEN_BYTES_MAX)
        .max_headers(HEADER_FIELDS_MAX)
        .half_close(false);
    builder
}

async fn connection(
    (stream, peer): (TcpStream, SocketAddr),
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    phase: watch::Receiver<Phase>,
) {
    let _ = stream.set_nodelay(true);
    bound(&stream, limits.body_timeout);
    let mut stream = TimeoutStream::new(stream);
    // A peer that takes nothing of its answer for so long holds its memory no longer.
    stream.set_write_timeout(Some(limits.body_timeout));
    let stream = Box::pin(stream);
    let Some(tls) = tls else {
        return served(stream, peer, None, router, limits, phase).await;
    };
    match tls.accept(stream, limits.header_timeout).await {
        Ok((stream, client)) => served(stream, peer, client, router, limits, phase).await,
        Err(error) => {
            info!(reason = "tls-handshake", peer = %peer, cause = %error, "connection closed");
        }
    }
}

/// Bounds what the kernel keeps for a peer that does not read: what is on its way to it, and for how long once the
/// connection is closed. A slow reader is seen to read, too: of a large buffer no part counts as taken for long.
fn bound(stream: &TcpStream, not_read: Duration) {
    use rustix::net::sockopt::{set_socket_send_buffer_size, set_tcp_user_timeout};
    let ms = u32::try_from(not_read.as_millis()).unwrap_or(u32::MAX);
    // Where the kernel refuses, its own bounds hold.
    let _ = set_socket_send_buffer_size(stream, SENDING_LEN_BYTES);
    let _ = set_tcp_user_timeout(stream, ms);
}

async fn served(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    client: Option<ClientCertificate>,
    router: Router,
    limits: Limits,
    mut phase: watch::Receiver<Phase>,
) {
    let now = phase.clone();
    let asked = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&asked);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        asks.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(peer);
        if let Some(client) = &client {
            request.extensions_mut().insert(client.clone());
        }
        let (router, now) = (router.clone(), now.clone());
        async move {
            let leaves = || *now.borrow() != Phase::Serving;
            let mut response = match leaves() && request.uri().path() == "/healthz" {
                true => Problem::busy("leaving", 1).into_response(),
                false => router.oneshot(request.map(Body::new)).await?,
            };
            if leaves() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let serving = builder(&limits).serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let mut ended = tokio::select! {
        result = serving.as_mut() => Some(result),
        () = tokio::time::sleep(limits.connection_life) => None,
        _ = phase.wait_for(|phase| *phase == Phase::Stopping) => None,
    };
    if ended.is_none() && *phase.borrow() != Phase::Stopping {
        // Its life is over, the server goes on: the request in progress has all the time it would have had.
        serving.as_mut().graceful_shutdown();
        ended = tokio::select! {
            result = serving.as_mut() => Some(result),
            () = tokio::time::sleep(limits.request()) => None,
            _ = phase.wait_for(|phase| *phase == Phase::Stopping) => None,
        };
    }
    if ended.is_none() && !asked.load(Ordering::Relaxed) {
        // A connection as old as the stop has its first request on the way; it ends with the answer.
        let first = tokio::time::timeout(FIRST_REQUEST_WAIT, serving.as_mut());
        ended = first.await.ok();
    }
    if ended.is_none() {
        serving.as_mut().graceful_shutdown();
        ended = tokio::time::timeout(limits.stop_grace, serving.as_mut())
            .await
            .ok();
    }
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            let reason = if is_not_read(&error) {
                "not-read"
            } else if error.is_timeout() {
                "header-timeout"
            } else if error.is_parse_too_large() {
                "header-too-large"
            } else if error.is_parse() {
                "not-http"
            } else if error.is_incomplete_message() {
                "broke-off"
            } else {
                "connection-error"
            };
            info!(reason, peer = %peer, "connection closed");
        }
        None => info!(reason = "connection-life-over", peer = %peer, "connection cut"),
    }
}

/// Whether the peer took nothing of an answer for too long.
fn is_not_read(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error);
    let io = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut)
}

/// Answers one request with 503, whatever it asks, and closes.
async fn refuse(
    stream: TcpStream,
    reason: &'static str,
    limits: Limits,
    _permit: OwnedSemaphorePermit,
) {
    let service = service_fn(move |_request: hyper::Request<Incoming>| async move {
        Ok::<_, Infallible>(Problem::busy(reason, 2).into_response())
    });
    let mut builder = builder(&limits);
    let serving = builder
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(limits.header_timeout, serving).await;
}
