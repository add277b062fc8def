//! A well-behaved peer beside others that are not.
//!
//! For each request it opens a connection, asks, and closes it, as a device does that comes once a year; over TLS each
//! time as another device. Told to come back, it waits as long as it is told and asks again.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use serde::Serialize;

use super::figures::{self, Latency};
use super::load::{ANSWER_TIMEOUT, Answer, Ask, Target, connect_as, exchange, not_done};
use super::odd;
use crate::fault::{Fault, Outcome};

/// Who it is.
const PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// Longest that it asks for one thing. By chance it is one of those accepted much sooner.
const PATIENCE: Duration = Duration::from_secs(120);
/// What it waits where it found no room for its connection: nobody told it anything.
const NO_ROOM: Duration = Duration::from_secs(1);
/// What a server says to a connection that it has no room for, before any request.
const NO_ROOM_CODES: [&str; 2] = [
    "urn:tegata:problem:too-many-connections",
    "urn:tegata:problem:too-many-of-peer",
];

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Polite {
    /// What it got: all that it asked for.
    pub got: usize,
    /// How often it was told to come back.
    pub told_to_come_back: usize,
    /// How often it found no room for a connection, or was cut off.
    pub no_connection: usize,
    /// Most often that it had to ask for one thing.
    pub asked_most: usize,
    /// From the first time that it asked for something until it had it, what it waited as told included.
    pub latency: Option<Latency>,
    /// Of each answer, a refusal too: from before the connection.
    pub answer_latency: Option<Latency>,
}

/// Asks one request after the other, each so long after the one before at the earliest, until there is none or `stop`
/// is true; what it has begun it ends.
///
/// # Errors
/// An answer that is none, or none at all for two minutes.
pub fn ask(
    target: &Target,
    asks: Vec<Ask>,
    every: Duration,
    stop: &AtomicBool,
) -> Outcome<(Polite, Vec<Bytes>)> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(odd)?
        .block_on(all(target, asks, every, stop))
}

async fn all(
    target: &Target,
    asks: Vec<Ask>,
    every: Duration,
    stop: &AtomicBool,
) -> Outcome<(Polite, Vec<Bytes>)> {
    let mut peer = Peer::default();
    for (number, request) in asks.into_iter().enumerate() {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let next = Instant::now() + every;
        peer.one(target, number, &request).await?;
        tokio::time::sleep_until(next.into()).await;
    }
    let found = Polite {
        got: peer.bodies.len(),
        told_to_come_back: peer.told,
        no_connection: peer.no_connection,
        asked_most: peer.asked_most,
        latency: figures::latency(&peer.whole),
        answer_latency: figures::latency(&peer.answers),
    };
    Ok((found, peer.bodies))
}

#[derive(Default)]
struct Peer {
    bodies: Vec<Bytes>,
    whole: Vec<Duration>,
    answers: Vec<Duration>,
    told: usize,
    no_connection: usize,
    asked_most: usize,
}

impl Peer {
    async fn one(&mut self, target: &Target, number: usize, request: &Ask) -> Outcome<()> {
        let begun = Instant::now();
        let mut asked: usize = 0;
        while begun.elapsed() < PATIENCE {
            asked = asked.saturating_add(1);
            let sent = Instant::now();
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, once(target, number, request)).await;
            let answer = answer.map_err(|_| odd("an honest peer had no answer for a minute"))?;
            let (wait, no_connection) = match answer {
                Ok(Answer::Done(body)) => {
                    self.answers.push(sent.elapsed());
                    self.whole.push(begun.elapsed());
                    self.bodies.push(body);
                    self.asked_most = self.asked_most.max(asked);
                    return Ok(());
                }
                Ok(Answer::Later(after, body)) => {
                    self.answers.push(sent.elapsed());
                    (after, no_room(&body))
                }
                Ok(Answer::Other(status, body)) => return Err(not_done(status, &body)),
                Err(_) => (NO_ROOM, true),
            };
            let count = match no_connection {
                true => &mut self.no_connection,
                false => &mut self.told,
            };
            *count = count.saturating_add(1);
            tokio::time::sleep(wait).await;
        }
        Err(Fault::failed(
            "bench-overload",
            format!("an honest peer asked {asked} times for the same and got nothing"),
            "docs/ops/limits.md explains the limits that are to prevent this.",
        ))
    }
}

async fn once(target: &Target, number: usize, request: &Ask) -> Outcome<Answer> {
    let mut connection = connect_as(target, PEER, number).await?;
    exchange(&mut connection, target, request.clone()).await
}

/// Whether it is the connection that was refused.
fn no_room(body: &[u8]) -> bool {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let code = problem.as_ref().and_then(|p| p.get("type")?.as_str());
    code.is_some_and(|code| NO_ROOM_CODES.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_without_room_is_no_refused_request() {
        let said = |code: &str| format!(r#"{{"type":"urn:tegata:problem:{code}","status":503}}"#);
        assert!(no_room(said("too-many-of-peer").as_bytes()));
        assert!(no_room(said("too-many-connections").as_bytes()));
        assert!(!no_room(said("too-many-requests").as_bytes()));
        assert!(!no_room(b""));
    }
}
