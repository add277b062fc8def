//! The client: connections that stay open, in a closed loop or an open one.
//!
//! In the open loop a request's latency counts from the moment it was due, not from the moment a
//! connection was free for it: a server that falls behind cannot hide it. How late each was sent is
//! kept too, so a client that falls behind cannot hide it either.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{STORE_FULL, odd};
use crate::fault::{Fault, Outcome};

/// Longest answer that is read, bytes.
const ANSWER_LEN_BYTES_MAX: usize = 1024 * 1024;
/// Longest that one answer may take: beyond it a run is worth nothing.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// One request.
#[derive(Debug, Clone)]
pub enum Ask {
    /// A body, posted to the target's path.
    Post(Bytes),
    /// A path of its own, fetched.
    Get(String),
}

/// Where requests go, and what they are.
#[derive(Debug, Clone)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// Path of the resource that is posted to.
    pub path: String,
    /// Media type of what is posted.
    pub content_type: &'static str,
    /// What may be answered beside a success.
    pub refusals: Refusals,
    /// How connections are secured; in clear when absent.
    pub tls: Option<Arc<Clients>>,
}

/// Clients that show a certificate each in the TLS handshake.
#[derive(Debug)]
pub struct Clients {
    /// Each with its key and certificate; connections or requests take them by turns.
    pub configs: Vec<Arc<ClientConfig>>,
    /// By which name the server is known.
    pub server: ServerName<'static>,
    /// Whether each request has a connection of its own, which its latency has in it.
    pub fresh: bool,
}

/// Which answers other than a success are counted, and do not end the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusals {
    /// None.
    Fault,
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
}

/// What came back for one request.
#[derive(Debug)]
pub enum Answer {
    /// A success, with its body.
    Done(Bytes),
    /// 503 with `Retry-After`: when to come again, and what else it says.
    Later(Duration, Bytes),
    /// Anything else.
    Other(StatusCode, Bytes),
}

/// A request that was answered.
#[derive(Debug)]
pub struct Answered {
    /// Which one, counted from 0.
    pub number: usize,
    /// How long it took.
    pub latency: Duration,
    /// How long after it was due it was sent: a connection was not free, or the client not awake.
    pub late: Duration,
    /// The answer's body.
    pub body: Bytes,
}

/// What came of it.
#[derive(Debug)]
pub struct Driven {
    /// From the first request to the last answer.
    pub wall: Duration,
    /// In the order of the requests.
    pub answered: Vec<Answered>,
    /// Of each request that was refused, how long it took.
    pub refused: Vec<Duration>,
    /// What one of those was answered.
    pub refusal: Option<String>,
}

impl Driven {
    /// The answers' bodies, in the order of the requests.
    pub fn bodies(&self) -> impl Iterator<Item = &Bytes> {
        self.answered.iter().map(|answered| &answered.body)
    }

    /// How long each answer took.
    #[must_use]
    pub fn latencies(&self) -> Vec<Duration> {
        self.answered.iter().map(|a| a.latency).collect()
    }
}

/// Sends every request once and takes every answer.
///
/// # Errors
/// The first answer that is no success, or does not come.
pub fn drive(target: &Target, asks: Vec<Ask>, pace: Pace) -> Outcome<Driven> {
    Connected::open(target, asks, pace)?.drive()
}

/// Who sends, connected: what that costs the server is in no figure of the requests.
pub struct Connected {
    runtime: Runtime,
    target: Target,
    asks: Vec<Ask>,
    pace: Pace,
    /// `None` for one that opens a connection for each request.
    open: Vec<Option<SendRequest<Body>>>,
}

impl Connected {
    /// Opens the connections that are kept.
    ///
    /// # Errors
    /// The server does not take them.
    pub fn open(target: &Target, asks: Vec<Ask>, pace: Pace) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(odd)?;
        let connections = match pace {
            Pace::Closed(clients) => clients,
            Pace::Open(_) => OPEN_CONNECTIONS,
        };
        let fresh = target.tls.as_ref().is_some_and(|tls| tls.fresh);
        let open = runtime.block_on(async {
            let mut open = Vec::new();
            for number in 0..connections.min(asks.len()) {
                open.push(match fresh {
                    true => None,
                    false => Some(connect(target, number).await?),
                });
            }
            if target.tls.is_some() && !fresh {
                tokio::time::sleep(SERVER_FINISHES).await;
            }
            Ok::<_, Fault>(open)
        })?;
        Ok(Self {
            runtime,
            target: target.clone(),
            asks,
            pace,
            open,
        })
    }

    /// Sends every request once and takes every answer.
    ///
    /// # Errors
    /// The first answer that is no success, or does not come.
    pub fn drive(self) -> Outcome<Driven> {
        let all = all(self.target, self.asks, self.pace, self.open);
        self.runtime.block_on(all)
    }
}

async fn all(
    target: Target,
    asks: Vec<Ask>,
    pace: Pace,
    open: Vec<Option<SendRequest<Body>>>,
) -> Outcome<Driven> {
    let shared = Arc::new(Shared {
        target,
        asks,
        next: AtomicUsize::new(0),
        interval: match pace {
            Pace::Closed(_) => None,
            Pace::Open(rate) => Some(interval(rate)),
        },
        started: Instant::now(),
    });
    let mut running = JoinSet::new();
    for connection in open {
        running.spawn(one(Arc::clone(&shared), connection));
    }
    let mut driven = Driven {
        wall: Duration::ZERO,
        answered: Vec::with_capacity(shared.asks.len()),
        refused: Vec::new(),
        refusal: None,
    };
    while let Some(ended) = running.join_next().await {
        for took in ended.map_err(odd)?? {
            match took {
                Took::Answered(answered) => driven.answered.push(answered),
                Took::Refused(latency, status, body) => {
                    driven.refused.push(latency);
                    driven
                        .refusal
                        .get_or_insert_with(|| answered(status, &body));
                }
            }
        }
    }
    driven.wall = shared.started.elapsed();
    driven.answered.sort_unstable_by_key(|a| a.number);
    Ok(driven)
}

struct Shared {
    target: Target,
    asks: Vec<Ask>,
    next: AtomicUsize,
    interval: Option<Duration>,
    started: Instant,
}

/// A connection, as the client of that number.
async fn connect(target: &Target, number: usize) -> Outcome<SendRequest<Body>> {
    let stream = TcpStream::connect(target.address).await.map_err(odd)?;
    stream.set_nodelay(true).map_err(odd)?;
    speak_to(target, stream, number).await
}

/// Over TLS, as the client of that number.
async fn speak_to(target: &Target, stream: TcpStream, number: usize) -> Outcome<SendRequest<Body>> {
    match &target.tls {
        Some(tls) => speak(tls.shake(number, stream).await?).await,
        None => speak(stream).await,
    }
}

impl Clients {
    /// A TLS handshake as the client of that number.
    ///
    /// # Errors
    /// The server does not take it.
    pub async fn shake(&self, number: usize, stream: TcpStream) -> Outcome<TlsStream<TcpStream>> {
        let config = self.configs.get(number % self.configs.len().max(1));
        let config = config.ok_or_else(|| odd("nobody has a certificate"))?;
        let connector = TlsConnector::from(Arc::clone(config));
        let shaken = connector.connect(self.server.clone(), stream).await;
        shaken.map_err(|e| odd(format!("no TLS: {e}")))
    }
}

/// A connection of the peer at that address. Linux has all of 127.0.0.0/8 on its loopback interface, so there are as
/// many peers as one likes.
///
/// # Errors
/// The server does not take it.
pub async fn stream_as(server: SocketAddr, peer: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((peer, 0).into())?;
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The same, ready for requests; over TLS, as the client of that number.
///
/// # Errors
/// As [`stream_as`] and [`Clients::shake`].
pub async fn connect_as(
    target: &Target,
    peer: Ipv4Addr,
    number: usize,
) -> Outcome<SendRequest<Body>> {
    let stream = stream_as(target.address, peer).await.map_err(odd)?;
    speak_to(target, stream, number).await
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Outcome<SendRequest<Body>> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(odd)?;
    // Its end shows in the next request.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// What came of one request.
enum Took {
    Answered(Answered),
    Refused(Duration, StatusCode, Bytes),
}

/// Waits for a moment, sharper than a timer: those go off up to two milliseconds late.
async fn until(due: Instant) {
    let early = due.checked_sub(TIMER).unwrap_or(due);
    tokio::time::sleep_until(early.into()).await;
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

/// One connection, or one after the other: takes the next request until there is none.
async fn one(shared: Arc<Shared>, mut connection: Option<SendRequest<Body>>) -> Outcome<Vec<Took>> {
    let mut done = Vec::new();
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = shared.asks.get(number) else {
            return Ok(done);
        };
        let due = match shared.interval {
            None => Instant::now(),
            Some(interval) => {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                let due = shared.started + interval.saturating_mul(number);
                until(due).await;
                due
            }
        };
        let late = due.elapsed();
        let asking = async {
            let (target, request) = (&shared.target, request.clone());
            match &mut connection {
                Some(connection) => ask(connection, target, request).await,
                None => ask(&mut connect(target, number).await?, target, request).await,
            }
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, asking).await;
        let answer = answer.map_err(|_| odd("a request had no answer within a minute"))??;
        let latency = due.elapsed();
        done.push(match answer {
            Ok(body) => Took::Answered(Answered {
                number,
                latency,
                late,
                body,
            }),
            Err((status, body)) => Took::Refused(latency, status, body),
        });
    }
}

async fn ask(
    connection: &mut SendRequest<Body>,
    target: &Target,
    request: Ask,
) -> Outcome<Result<Bytes, (StatusCode, Bytes)>> {
    let (status, bytes) = match exchange(connection, target, request).await? {
        Answer::Done(bytes) => return Ok(Ok(bytes)),
        Answer::Later(_, bytes) => (StatusCode::SERVICE_UNAVAILABLE, bytes),
        Answer::Other(status, bytes) => (status, bytes),
    };
    match target.refusals {
        Refusals::Any => Ok(Err((status, bytes))),
        Refusals::Fault => Err(not_done(status, &bytes)),
    }
}

/// A refusal, for people.
fn answered(status: StatusCode, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(300).collect();
    format!("{status}: {}", text.trim())
}

/// An answer that ends the run.
pub fn not_done(status: StatusCode, body: &[u8]) -> Fault {
    let said = answered(status, body);
    let code = match said.contains(STORE_FULL) {
        true => STORE_FULL,
        false => "bench-refused",
    };
    Fault::failed(
        code,
        format!("a request was answered {said}"),
        "A run with refusals measures nothing: lower --clients or --rate, or read the server's log.",
    )
}

/// Sends one request and takes its answer.
///
/// # Errors
/// The connection breaks.
pub async fn exchange(
    connection: &mut SendRequest<Body>,
    target: &Target,
    request: Ask,
) -> Outcome<Answer> {
    let builder = Request::builder().header(header::HOST, target.address.to_string());
    let request = match request {
        Ask::Post(body) => builder
            .method(Method::POST)
            .uri(&target.path)
            .header(header::CONTENT_TYPE, target.content_type)
            .body(Body::from(body)),
        Ask::Get(path) => builder.method(Method::GET).uri(path).body(Body::empty()),
    };
    let request = request.map_err(odd)?;
    connection.ready().await.map_err(odd)?;
    let answer = connection.send_request(request).await.map_err(odd)?;
    let (head, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(Body::new(body), ANSWER_LEN_BYTES_MAX);
    let bytes = bytes.await.map_err(odd)?;
    Ok(match (head.status, retry_after(&head.headers)) {
        (status, _) if status.is_success() => Answer::Done(bytes),
        (StatusCode::SERVICE_UNAVAILABLE, Some(after)) => Answer::Later(after, bytes),
        (status, _) => Answer::Other(status, bytes),
    })
}

/// Seconds; the other form, a date, is none of ours.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_secs)
}

/// Between two requests at that rate a second.
#[must_use]
pub fn interval(rate: f64) -> Duration {
    Duration::from_secs_f64(1.0 / rate.max(0.001))
}

/// How much later than asked for a timer goes off: its steps and those of the kernel's wait are a millisecond each.
const TIMER: Duration = Duration::from_millis(2);
/// Until a server has verified the last client's certificate: the client's part of a handshake (TLS 1.3) ends before.
const SERVER_FINISHES: Duration = Duration::from_millis(50);
/// Connections of the open loop: below what a server works on at once, or it would refuse what it is to be
/// measured at. A request that is due and finds none free waits, and its latency has the wait in it.
pub const OPEN_CONNECTIONS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_sent_before_it_is_due() {
        for early_us in [0, 300, 1_000, 2_500, 4_000] {
            let due = Instant::now() + Duration::from_micros(early_us);
            until(due).await;
            assert!(Instant::now() >= due);
        }
    }
}
