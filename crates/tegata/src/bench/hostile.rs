//! Peers that wish a server ill with connections alone: one that sends slowly, one that opens and closes, and one that
//! shakes hands and goes.
//!
//! Each runs on a thread of its own, beside whoever is measured.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

use super::figures::{number, per_second};
use super::load::{Target, stream_as};
use super::odd;
use crate::fault::Outcome;

/// Who sends slowly.
const SLOW: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Its connections: as many as one peer may have.
pub const SLOW_CONNECTIONS: usize = 256;
/// Between two bytes of a slow connection: the limits are to hold for the whole, not from byte to byte.
const SLOW_BYTE: Duration = Duration::from_secs(1);
/// Length of the body that a slow connection promises: one that every server would read.
const SLOW_BODY_BYTES: usize = 40_000;
/// Type, version and length of a TLS record that a ClientHello of 511 bytes would be in, and how that begins.
///
/// Spec: RFC 8446 sections 4 and 5.1
const CLIENT_HELLO_BEGUN: [u8; 9] = [22, 3, 1, 2, 3, 1, 0, 1, 255];
/// Before a slow connection that was cut is opened again.
const SLOW_AGAIN: Duration = Duration::from_millis(50);
/// Between two looks at how many are open.
const LOOK: Duration = Duration::from_millis(20);
/// Time until all of them are open.
const SLOW_OPEN: Duration = Duration::from_secs(10);

/// Who opens and closes. In the flood of requests it is one of those who send them, and has no more than all of a peer.
pub const OPENER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);
/// Connections that it opens a second.
const OPENED_PER_SECOND: f64 = 2_000.0;
/// How long it holds each: so many at once would be more than a peer may have.
const HELD: Duration = Duration::from_millis(300);
/// Most that it has or tries to have at once: descriptors of this process.
const OPENER_MAX: usize = 700;
/// Longest that it waits to be let in.
const OPENER_WAIT: Duration = Duration::from_secs(5);

/// Who shakes hands: each costs the server more than a request that is refused.
const SHAKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
/// Its connections: as many as one peer may have. Each begins anew once its hands are shaken.
const SHAKER_CONNECTIONS: usize = 256;

/// What came of the slow connections.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Slowly {
    /// How many the peer wished to have open.
    pub wished: usize,
    /// How many were open, on average.
    pub open_mean: f64,
    /// How many were open at the end.
    pub open_at_end: usize,
    /// How many were opened in all: one that is cut is opened again.
    pub opened: usize,
    /// How many the server cut.
    pub cut: usize,
}

/// What came of the flood of connections.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Opened {
    /// Connections that were opened.
    pub opened: usize,
    /// Those a second.
    pub per_second: f64,
    /// Of them, how many the server ended first: the peer had as many as it may.
    pub cut: usize,
    /// Connections that did not come about.
    pub failed: usize,
}

/// What came of the flood of handshakes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shaken {
    /// Handshakes that came to their end, both sides authenticated.
    pub shaken: usize,
    /// Those a second.
    pub per_second: f64,
    /// Connections that ended before.
    pub failed: usize,
}

#[derive(Debug, Default)]
struct Counts {
    opened: AtomicUsize,
    cut: AtomicUsize,
    failed: AtomicUsize,
    looks: AtomicUsize,
    seen: AtomicUsize,
}

impl Counts {
    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    fn cut(&self) -> usize {
        self.cut.load(Ordering::SeqCst)
    }

    fn open(&self) -> usize {
        let cut = self.cut();
        self.opened().saturating_sub(cut)
    }
}

fn one_more(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::SeqCst);
}

fn runtime() -> Outcome<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(odd)
}

/// Connections that begin a request and never end it.
pub struct Slow {
    runtime: Runtime,
    counts: Arc<Counts>,
}

impl Slow {
    /// Opens them, and keeps them open.
    ///
    /// # Errors
    /// No thread.
    pub fn open(target: &Target) -> Outcome<Self> {
        let (runtime, counts) = (runtime()?, Arc::new(Counts::default()));
        for number in 0..SLOW_CONNECTIONS {
            runtime.spawn(slowly(target.clone(), number, Arc::clone(&counts)));
        }
        // Whether all of them are open shows in their mean.
        let begun = Instant::now();
        while counts.open() < SLOW_CONNECTIONS && begun.elapsed() < SLOW_OPEN {
            std::thread::sleep(LOOK);
        }
        let seen = Arc::clone(&counts);
        runtime.spawn(async move {
            loop {
                seen.seen.fetch_add(seen.open(), Ordering::SeqCst);
                one_more(&seen.looks);
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(Self { runtime, counts })
    }

    /// Ends them.
    #[must_use]
    pub fn close(self) -> Slowly {
        let counts = &self.counts;
        let cut = counts.cut();
        let opened = counts.opened().max(cut);
        let looks = counts.looks.load(Ordering::SeqCst).max(1);
        let found = Slowly {
            wished: SLOW_CONNECTIONS,
            open_mean: number(counts.seen.load(Ordering::SeqCst)) / number(looks),
            open_at_end: opened.saturating_sub(cut),
            opened,
            cut,
        };
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        found
    }
}

/// One place of the slow peer.
async fn slowly(target: Target, number: usize, counts: Arc<Counts>) {
    loop {
        if let Ok(stream) = stream_as(target.address, SLOW).await {
            one_more(&counts.opened);
            slow_at(&target, number, stream).await;
            one_more(&counts.cut);
        }
        tokio::time::sleep(SLOW_AGAIN).await;
    }
}

/// Half of them stop within the header, or where there is TLS within the handshake, and half within the body.
async fn slow_at(target: &Target, number: usize, stream: TcpStream) {
    let (path, content_type) = (&target.path, target.content_type);
    let header = format!("POST {path} HTTP/1.1\r\nHost: s");
    let body = format!(
        "{header}low\r\nContent-Type: {content_type}\r\nContent-Length: {SLOW_BODY_BYTES}\r\n\r\n0"
    );
    match (&target.tls, number % 2) {
        (None, 0) => until_cut(stream, header.as_bytes()).await,
        (None, _) => until_cut(stream, body.as_bytes()).await,
        (Some(_), 0) => until_cut(stream, &CLIENT_HELLO_BEGUN).await,
        (Some(tls), _) => {
            if let Ok(stream) = tls.shake(number, stream).await {
                until_cut(stream, body.as_bytes()).await;
            }
        }
    }
}

/// A byte now and then. Whatever the server says ends it: it has nothing to say to half a request but that it is tired
/// of it.
async fn until_cut(stream: impl AsyncRead + AsyncWrite, begun: &[u8]) {
    let (mut from, mut to) = tokio::io::split(stream);
    let sent = async {
        to.write_all(begun).await?;
        to.flush().await
    };
    if sent.await.is_err() {
        return;
    }
    let mut said = [0; 64];
    loop {
        tokio::select! {
            _ = from.read(&mut said) => return,
            () = tokio::time::sleep(SLOW_BYTE) => {
                if to.write_all(b"0").await.is_err() || to.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A peer that opens connections, holds each for a moment and closes it.
pub struct Opener {
    runtime: Runtime,
    counts: Arc<Counts>,
    begun: Instant,
}

impl Opener {
    /// Begins.
    ///
    /// # Errors
    /// No thread.
    pub fn begin(server: SocketAddr) -> Outcome<Self> {
        let (runtime, counts) = (runtime()?, Arc::new(Counts::default()));
        let places = Arc::new(Semaphore::new(OPENER_MAX));
        let all = Arc::clone(&counts);
        runtime.spawn(async move {
            let mut tick = tokio::time::interval(super::load::interval(OPENED_PER_SECOND));
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            loop {
                tick.tick().await;
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    continue;
                };
                let counts = Arc::clone(&all);
                tokio::spawn(async move {
                    open_and_close(server, &counts).await;
                    drop(place);
                });
            }
        });
        Ok(Self {
            runtime,
            counts,
            begun: Instant::now(),
        })
    }

    /// Ends.
    #[must_use]
    pub fn end(self) -> Opened {
        let opened = self.counts.opened();
        let found = Opened {
            opened,
            per_second: per_second(opened, self.begun.elapsed()),
            cut: self.counts.cut(),
            failed: self.counts.failed.load(Ordering::SeqCst),
        };
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        found
    }
}

async fn open_and_close(server: SocketAddr, counts: &Counts) {
    let opening = tokio::time::timeout(OPENER_WAIT, stream_as(server, OPENER)).await;
    let Ok(Ok(mut stream)) = opening else {
        return one_more(&counts.failed);
    };
    one_more(&counts.opened);
    // Closed by a reset: thousands of ports that wait for late packets would end the flood, not the server.
    let _ = stream.set_zero_linger();
    let mut said = [0; 64];
    tokio::select! {
        _ = stream.read(&mut said) => one_more(&counts.cut),
        () = tokio::time::sleep(HELD) => {}
    }
}

/// A peer that shakes hands with TLS, as fast as it is let, and goes.
pub struct Shaker {
    runtime: Runtime,
    counts: Arc<Counts>,
    begun: Instant,
}

impl Shaker {
    /// Begins.
    ///
    /// # Errors
    /// No thread.
    pub fn begin(target: &Target) -> Outcome<Self> {
        let (runtime, counts) = (runtime()?, Arc::new(Counts::default()));
        for number in 0..SHAKER_CONNECTIONS {
            let (target, counts) = (target.clone(), Arc::clone(&counts));
            runtime.spawn(async move {
                loop {
                    match shake(&target, number).await {
                        Ok(()) => one_more(&counts.opened),
                        Err(_) => {
                            one_more(&counts.failed);
                            tokio::time::sleep(SLOW_AGAIN).await;
                        }
                    }
                }
            });
        }
        Ok(Self {
            runtime,
            counts,
            begun: Instant::now(),
        })
    }

    /// Ends.
    #[must_use]
    pub fn end(self) -> Shaken {
        let shaken = self.counts.opened();
        let found = Shaken {
            shaken,
            per_second: per_second(shaken, self.begun.elapsed()),
            failed: self.counts.failed.load(Ordering::SeqCst),
        };
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        found
    }
}

async fn shake(target: &Target, number: usize) -> Outcome<()> {
    let stream = stream_as(target.address, SHAKER).await.map_err(odd)?;
    // As whoever opens and closes.
    stream.set_zero_linger().map_err(odd)?;
    let tls = target.tls.as_ref();
    let tls = tls.ok_or_else(|| odd("this port does not speak TLS"))?;
    tls.shake(number, stream).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::Refusals;
    use std::net::TcpListener;

    /// Cuts so many connections at once.
    fn cuts(listener: &TcpListener, count: usize) {
        for _ in 0..count {
            drop(listener.accept().unwrap());
        }
    }

    #[test]
    fn what_a_server_cut_is_not_open_and_comes_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            cuts(&listener, SLOW_CONNECTIONS);
            let kept = (0..SLOW_CONNECTIONS).map(|_| listener.accept().unwrap());
            kept.collect::<Vec<_>>()
        });
        let target = Target {
            address,
            path: "/".to_owned(),
            content_type: "x/y",
            refusals: Refusals::Fault,
            tls: None,
        };
        let slow = Slow::open(&target).unwrap();
        // As many are open now, so all that were cut came again.
        let kept = server.join().unwrap();
        let found = slow.close();
        assert_eq!(found.cut, SLOW_CONNECTIONS, "{found:?}");
        assert_eq!(found.open_at_end, found.opened - found.cut);
        drop(kept);
    }

    #[test]
    fn connections_that_are_cut_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let opener = Opener::begin(listener.local_addr().unwrap()).unwrap();
        cuts(&listener, 100);
        while opener.counts.cut() < 90 {
            std::thread::yield_now();
        }
        let found = opener.end();
        assert!(found.opened >= found.cut && found.cut >= 90, "{found:?}");
    }
}
