//! The flood: many times what a server can do, by clients that do not do as they are told.
//!
//! A client that is refused asks again at once, whatever `Retry-After` says. So requests are sent at the rate that was
//! asked for as long as there are some that were not accepted, and no accepted one is sent twice. Times count from the
//! moment of sending: that the server does not hold the senders up instead is seen by how many were sent a second.
//! Answers are looked at as they come: an Update is long, so all of them together would take the client's memory.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use hyper::client::conn::http1::SendRequest;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::hostile::OPENER;
use super::load::{ANSWER_TIMEOUT, Answer, Ask, Target, connect_as, exchange, interval, not_done};
use super::odd;
use crate::fault::{Fault, Outcome};

/// Who sends: each address is another peer.
const PEERS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(127, 0, 0, 3),
    Ipv4Addr::new(127, 0, 0, 4),
    OPENER,
];
/// Connections of each: as many as a server takes of a peer, less a few. With those of the other peers of this bench
/// that is less than it takes in all, 1,024, or an honest one could find no room for its connection. Whoever has five
/// addresses can bring that about; it is not what is measured here.
const CONNECTIONS: usize = 250;

/// Answers that wait to be looked at.
const WAITING_MAX: usize = 64;

/// Looks at an answer to the request of that number, counted from 0.
pub type Judge<'a> = &'a mut dyn FnMut(usize, &Ask, &Bytes) -> Outcome<()>;

/// What came of it.
#[derive(Debug)]
pub struct Flooded {
    /// From the first request to the last answer.
    pub wall: Duration,
    /// How long each took that was accepted, from the sending that was.
    pub accepted: Vec<Duration>,
    /// How long each refusal took, from sending.
    pub refused: Vec<Duration>,
}

impl Flooded {
    /// Requests that were sent, each time counted.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.accepted.len().saturating_add(self.refused.len())
    }
}

/// Those who send, connected.
pub struct Flood {
    runtime: Runtime,
    target: Target,
    open: Vec<(Ipv4Addr, SendRequest<Body>)>,
}

impl Flood {
    /// Opens their connections.
    ///
    /// # Errors
    /// The server does not take them.
    pub fn open(target: &Target) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(odd)?;
        let open = runtime.block_on(async {
            let mut open = Vec::new();
            for peer in PEERS {
                for _ in 0..CONNECTIONS {
                    let connection = connect_as(target, peer, open.len()).await?;
                    open.push((peer, connection));
                }
            }
            Ok::<_, Fault>(open)
        })?;
        Ok(Self {
            runtime,
            target: target.clone(),
            open,
        })
    }

    /// Sends so many a second until each was accepted, or is in the hands of somebody who was refused when no other was
    /// left.
    ///
    /// # Errors
    /// An answer that is neither a success nor 503 with `Retry-After`, or that `judge` refuses.
    pub fn run(self, asks: Vec<Ask>, rate: f64, judge: Judge<'_>) -> Outcome<Flooded> {
        self.runtime
            .block_on(all(self.target, self.open, asks, rate, judge))
    }
}

struct Shared {
    target: Target,
    asks: Vec<Ask>,
    next: AtomicUsize,
    /// Sendings so far: each has its moment.
    sendings: AtomicUsize,
    interval: Duration,
    started: Instant,
}

/// What came of one sending.
struct Took {
    /// Which request, counted from 0.
    number: usize,
    /// How long it took.
    latency: Duration,
    /// The answer; `None` for a refusal.
    body: Option<Bytes>,
}

async fn all(
    target: Target,
    open: Vec<(Ipv4Addr, SendRequest<Body>)>,
    asks: Vec<Ask>,
    rate: f64,
    judge: Judge<'_>,
) -> Outcome<Flooded> {
    let shared = Arc::new(Shared {
        target,
        asks,
        next: AtomicUsize::new(0),
        sendings: AtomicUsize::new(0),
        interval: interval(rate),
        started: Instant::now(),
    });
    let (told, mut took) = mpsc::channel(WAITING_MAX);
    let mut running = JoinSet::new();
    for (client, (peer, connection)) in open.into_iter().enumerate() {
        let flooder = Flooder {
            shared: Arc::clone(&shared),
            told: told.clone(),
            peer,
            client,
        };
        running.spawn(flooder.send(connection));
    }
    drop(told);
    let mut flooded = Flooded {
        wall: Duration::ZERO,
        accepted: Vec::new(),
        refused: Vec::new(),
    };
    let mut accepted_at = shared.started;
    // Until the last of those who send has ended.
    while let Some(Took {
        number,
        latency,
        body,
    }) = took.recv().await
    {
        flooded.wall = shared.started.elapsed();
        match (body, shared.asks.get(number)) {
            (Some(body), Some(request)) => {
                accepted_at = Instant::now();
                flooded.accepted.push(latency);
                judge(number, request, &body)?;
            }
            _ if accepted_at.elapsed() > ANSWER_TIMEOUT => return Err(refused_all()),
            _ => flooded.refused.push(latency),
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(odd)??;
    }
    Ok(flooded)
}

/// A server whose disk is full, say, refuses for ever.
fn refused_all() -> Fault {
    Fault::failed(
        "bench-refused",
        "the server has refused every request for a minute",
        "The file `run/log` says why.",
    )
}

/// One who sends.
struct Flooder {
    shared: Arc<Shared>,
    told: mpsc::Sender<Took>,
    /// Its address.
    peer: Ipv4Addr,
    /// As which client, over TLS.
    client: usize,
}

impl Flooder {
    async fn send(self, mut connection: SendRequest<Body>) -> Outcome<()> {
        let (shared, target) = (&self.shared, &self.shared.target);
        let mut held = None;
        loop {
            let number = held.unwrap_or_else(|| shared.next.fetch_add(1, Ordering::Relaxed));
            let Some(request) = shared.asks.get(number) else {
                return Ok(());
            };
            let sending = shared.sendings.fetch_add(1, Ordering::Relaxed);
            let sending = u32::try_from(sending).unwrap_or(u32::MAX);
            let due = shared.started + shared.interval.saturating_mul(sending);
            tokio::time::sleep_until(due.into()).await;
            // The server lets a connection live for some minutes.
            if connection.is_closed() {
                connection = connect_as(target, self.peer, self.client).await?;
            }
            let sent = Instant::now();
            let answer = exchange(&mut connection, target, request.clone());
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
            let answer = answer.map_err(|_| odd("a request had no answer within a minute"))??;
            let latency = sent.elapsed();
            let body = match answer {
                Answer::Done(body) => Some(body),
                Answer::Later(..) => None,
                Answer::Other(status, body) => return Err(not_done(status, &body)),
            };
            held = body.is_none().then_some(number);
            let took = Took {
                number,
                latency,
                body,
            };
            // Nobody listens after an answer that was wrong.
            if self.told.send(took).await.is_err() {
                return Ok(());
            }
            if held.is_some() && shared.next.load(Ordering::Relaxed) >= shared.asks.len() {
                return Ok(());
            }
        }
    }
}
