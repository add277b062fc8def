//! The flood: many times what a server can do, by clients that do not do as they are told.
//!
//! A client that is refused asks again at once, whatever `Retry-After` says. So requests are sent at the rate that was
//! asked for as long as there are some that were not accepted, and no accepted one is sent twice. Times count from the
//! moment of sending: that the server does not hold the senders up instead is seen by how many were sent a second.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use hyper::client::conn::http1::SendRequest;
use tokio::runtime::Runtime;
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

/// What came of it.
#[derive(Debug)]
pub struct Flooded {
    /// From the first request to the last answer.
    pub wall: Duration,
    /// The answers to those that were accepted.
    pub bodies: Vec<Bytes>,
    /// How long each of them took, from sending.
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
                    open.push((peer, connect_as(target.address, peer).await?));
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
    /// An answer that is neither a success nor 503 with `Retry-After`.
    pub fn run(self, asks: Vec<Ask>, rate: f64) -> Outcome<Flooded> {
        self.runtime
            .block_on(all(self.target, self.open, asks, rate))
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

/// An answer, and how long it took; `None` for a refusal.
type Took = (Duration, Option<Bytes>);

async fn all(
    target: Target,
    open: Vec<(Ipv4Addr, SendRequest<Body>)>,
    asks: Vec<Ask>,
    rate: f64,
) -> Outcome<Flooded> {
    let shared = Arc::new(Shared {
        target,
        asks,
        next: AtomicUsize::new(0),
        sendings: AtomicUsize::new(0),
        interval: interval(rate),
        started: Instant::now(),
    });
    let mut running = JoinSet::new();
    for (peer, connection) in open {
        running.spawn(one(Arc::clone(&shared), peer, connection));
    }
    let mut flooded = Flooded {
        wall: Duration::ZERO,
        bodies: Vec::new(),
        accepted: Vec::new(),
        refused: Vec::new(),
    };
    while let Some(ended) = running.join_next().await {
        for (took, body) in ended.map_err(odd)?? {
            match body {
                Some(body) => {
                    flooded.accepted.push(took);
                    flooded.bodies.push(body);
                }
                None => flooded.refused.push(took),
            }
        }
    }
    flooded.wall = shared.started.elapsed();
    Ok(flooded)
}

async fn one(
    shared: Arc<Shared>,
    peer: Ipv4Addr,
    mut connection: SendRequest<Body>,
) -> Outcome<Vec<Took>> {
    let mut done = Vec::new();
    let mut held = None;
    loop {
        let number = held.unwrap_or_else(|| shared.next.fetch_add(1, Ordering::Relaxed));
        let Some(request) = shared.asks.get(number) else {
            return Ok(done);
        };
        let sending = shared.sendings.fetch_add(1, Ordering::Relaxed);
        let sending = u32::try_from(sending).unwrap_or(u32::MAX);
        let due = shared.started + shared.interval.saturating_mul(sending);
        tokio::time::sleep_until(due.into()).await;
        // The server lets a connection live for some minutes.
        if connection.is_closed() {
            connection = connect_as(shared.target.address, peer).await?;
        }
        let sent = Instant::now();
        let answer = exchange(&mut connection, &shared.target, request.clone());
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
        match answer.map_err(|_| odd("a request had no answer within a minute"))?? {
            Answer::Done(body) => {
                done.push((sent.elapsed(), Some(body)));
                held = None;
            }
            Answer::Later(..) => {
                done.push((sent.elapsed(), None));
                held = Some(number);
                if shared.next.load(Ordering::Relaxed) >= shared.asks.len() {
                    return Ok(done);
                }
            }
            Answer::Other(status, body) => return Err(not_done(status, &body)),
        }
    }
}
