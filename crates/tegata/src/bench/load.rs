//! The client: connections that stay open, in a closed loop or an open one.
//!
//! In the open loop a request's latency counts from the moment it was due, not from the moment a
//! connection was free for it: a server that falls behind cannot hide it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode, header};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::odd;
use crate::fault::{Fault, Outcome};

/// Longest answer that is read, bytes.
const ANSWER_LEN_BYTES_MAX: usize = 1024 * 1024;
/// Longest that one answer may take: beyond it a run is worth nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where requests go, and what they are.
#[derive(Debug, Clone)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// Path of the resource.
    pub path: String,
    /// Media type of the requests.
    pub content_type: &'static str,
    /// What may be answered beside 200.
    pub refusals: Refusals,
}

/// Which answers other than 200 are counted, and do not end the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusals {
    /// None.
    Fault,
    /// 503 with `Retry-After`.
    Busy,
    /// Any: a peer's own affair, said beside its figures.
    Any,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// By so many connections, each its next when its last was answered.
    Closed(usize),
    /// So many a second, each when it is due, by fewer connections than a server works on at once.
    Open(f64),
    /// As `Open`, by more of them.
    Flood(f64),
}

/// What came of it.
#[derive(Debug)]
pub struct Driven {
    /// From the first request to the last answer.
    pub wall: Duration,
    /// Of each request that was answered 200.
    pub latencies: Vec<Duration>,
    /// Of each request that was refused.
    pub refused: Vec<Duration>,
    /// The answers' bodies, in no order.
    pub answers: Vec<Bytes>,
}

/// Sends every body once and takes every answer.
///
/// # Errors
/// The first answer that is not 200, or does not come.
pub fn drive(target: &Target, bodies: &[Bytes], pace: Pace) -> Outcome<Driven> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(odd)?
        .block_on(all(target, bodies, pace))
}

async fn all(target: &Target, bodies: &[Bytes], pace: Pace) -> Outcome<Driven> {
    let connections = match pace {
        Pace::Closed(clients) => clients,
        Pace::Open(_) => OPEN_CONNECTIONS,
        Pace::Flood(_) => FLOOD_CONNECTIONS,
    };
    let mut open = Vec::new();
    for _ in 0..connections.min(bodies.len()) {
        open.push(connect(target.address).await?);
    }
    let shared = Arc::new(Shared {
        target: target.clone(),
        bodies: bodies.to_vec(),
        next: AtomicUsize::new(0),
        interval: match pace {
            Pace::Closed(_) => None,
            Pace::Open(rate) | Pace::Flood(rate) => {
                Some(Duration::from_secs_f64(1.0 / rate.max(0.001)))
            }
        },
        started: Instant::now(),
    });
    let mut running = JoinSet::new();
    for connection in open {
        running.spawn(one(Arc::clone(&shared), connection));
    }
    let mut driven = Driven {
        wall: Duration::ZERO,
        latencies: Vec::with_capacity(bodies.len()),
        refused: Vec::new(),
        answers: Vec::with_capacity(bodies.len()),
    };
    while let Some(ended) = running.join_next().await {
        for (latency, answer) in ended.map_err(odd)?? {
            match answer {
                Some(answer) => {
                    driven.latencies.push(latency);
                    driven.answers.push(answer);
                }
                None => driven.refused.push(latency),
            }
        }
    }
    driven.wall = shared.started.elapsed();
    Ok(driven)
}

struct Shared {
    target: Target,
    bodies: Vec<Bytes>,
    next: AtomicUsize,
    interval: Option<Duration>,
    started: Instant,
}

async fn connect(address: SocketAddr) -> Outcome<SendRequest<Body>> {
    let stream = TcpStream::connect(address).await.map_err(odd)?;
    stream.set_nodelay(true).map_err(odd)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(odd)?;
    // Its end shows in the next request.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// One connection: takes the next request until there is none.
async fn one(
    shared: Arc<Shared>,
    mut connection: SendRequest<Body>,
) -> Outcome<Vec<(Duration, Option<Bytes>)>> {
    let mut done = Vec::new();
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(body) = shared.bodies.get(number) else {
            return Ok(done);
        };
        let due = match shared.interval {
            None => Instant::now(),
            Some(interval) => {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                let due = shared.started + interval.saturating_mul(number);
                tokio::time::sleep_until(due.into()).await;
                due
            }
        };
        let asking = ask(&mut connection, &shared.target, body.clone());
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, asking).await;
        let answer = answer.map_err(|_| odd("a request had no answer within a minute"))??;
        done.push((due.elapsed(), answer));
    }
}

async fn ask(
    connection: &mut SendRequest<Body>,
    target: &Target,
    body: Bytes,
) -> Outcome<Option<Bytes>> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(&target.path)
        .header(header::HOST, target.address.to_string())
        .header(header::CONTENT_TYPE, target.content_type)
        .body(Body::from(body))
        .map_err(odd)?;
    connection.ready().await.map_err(odd)?;
    let answer = connection.send_request(request).await.map_err(odd)?;
    let (head, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(Body::new(body), ANSWER_LEN_BYTES_MAX);
    let bytes = bytes.await.map_err(odd)?;
    if head.status == StatusCode::OK {
        return Ok(Some(bytes));
    }
    let busy = head.status == StatusCode::SERVICE_UNAVAILABLE
        && head.headers.contains_key(header::RETRY_AFTER);
    if target.refusals == Refusals::Any || (target.refusals == Refusals::Busy && busy) {
        return Ok(None);
    }
    let text: String = String::from_utf8_lossy(&bytes).chars().take(300).collect();
    Err(Fault::failed(
        "bench-refused",
        format!("a request was answered {}: {text}", head.status),
        "A run with refusals measures nothing: lower --clients or --rate, or read the server's log.",
    ))
}

/// Connections of a flood: of one peer, as many as a server takes, less a few.
const FLOOD_CONNECTIONS: usize = 250;
/// Connections of the open loop: below what a server works on at once, or it would refuse what it is to be
/// measured at. A request that is due and finds none free waits, and its latency has the wait in it.
const OPEN_CONNECTIONS: usize = 100;
