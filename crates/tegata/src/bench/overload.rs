//! `tegata bench overload`: five times what the CA can do, beside peers that send slowly.
//!
//! First a closed loop says what it can do. Then requests come at five times that rate, and at the same
//! time as many slow connections as one peer may have are held open: half of them stop within the header,
//! half within the body. Each answer must be a certificate, or 503 with `Retry-After`; nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::bed::Asks as _;
use super::cpus::pin;
use super::figures::{self, Latency};
use super::load::{Pace, Refusals, Target, drive};
use super::plant::{self, Nursery};
use super::served::Served;
use super::{PKIXCMP, Place, check, odd, requests};
use crate::cli::bench::Bench;
use crate::cli::show;
use crate::fault::{Fault, Outcome};

/// How much more than it can do.
const TIMES: f64 = 5.0;
/// Connections that send slowly: as many as one peer may have.
const SLOW: usize = 256;
/// Most that an accepted request may take: a device waits no longer for a busy CA.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most memory that the server may have, bytes.
const RSS_BYTES_MAX: u64 = 300 * 1024 * 1024;

/// What came of it.
#[derive(Debug, Serialize)]
struct Overload {
    /// What it can do, a second.
    capacity: f64,
    /// What it was asked, a second.
    offered: f64,
    /// Requests that got a certificate, a second.
    accepted_per_second: f64,
    /// Requests that got a certificate.
    accepted: usize,
    /// Requests that were told to come back.
    refused: usize,
    /// From the moment that each accepted request was due: its wait for a connection is in it.
    accepted_latency: Option<Latency>,
    /// As above, of those refused.
    refused_latency: Option<Latency>,
    /// Connections of the peer that sends slowly.
    slow: usize,
    /// Most memory of the server process, bytes.
    rss_bytes_max: u64,
}

/// Runs it, and fails where the server did.
///
/// # Errors
/// What the server must not do under load, by name.
pub fn run(args: &Bench, place: &Place) -> Outcome<()> {
    let found = measure(args, place)?;
    if args.json {
        show::json(&found)?;
    } else {
        tell(&found);
    }
    judge(&found)
}

fn measure(args: &Bench, place: &Place) -> Outcome<Overload> {
    let cpus = super::cpus::Cpus::choose(args)?;
    let count = usize::try_from(args.requests).unwrap_or(usize::MAX);
    let devices = usize::try_from(args.devices).unwrap_or(1);
    // A tenth to find out what it can do; the rest for the flood.
    let bar = indicatif::ProgressBar::new(0);
    let nursery = Nursery::open(&place.path("plant"), "")?;
    let made = nursery.devices(devices, &bar)?;
    let path = place.path("requests");
    let (requests, _) = requests::make(&path, &made, &nursery.order, count, &bar)?;
    let plant = nursery.close(made.iter().map(|device| &device.identity));
    bar.finish_and_clear();
    pin(cpus.client)?;
    let server = Served::ca(&plant.dir, place.path("run"), cpus.server)?;
    let target = Target {
        address: server.address,
        path: format!("/.well-known/cmp/p/{}", plant::PROFILE),
        content_type: PKIXCMP,
        refusals: Refusals::Busy,
        tls: None,
    };
    let mut asks = requests.read()?;
    let first = asks.take_some(count.div_ceil(10))?;
    let calm = drive(&target, first, Pace::Closed(16))?;
    let mut check = check::Certificates::default();
    check.all(calm.bodies())?;
    let capacity = figures::per_second(calm.answered.len(), calm.wall);

    let slow = Slow::open(server.address)?;
    let offered = capacity * TIMES;
    let flood = drive(&target, asks.take_some(count)?, Pace::Flood(offered))?;
    let still_open = slow.close();
    check.all(flood.bodies())?;
    Ok(Overload {
        capacity,
        offered,
        accepted_per_second: figures::per_second(flood.answered.len(), flood.wall),
        accepted: flood.answered.len(),
        refused: flood.refused.len(),
        accepted_latency: figures::latency(&flood.latencies()),
        refused_latency: figures::latency(&flood.refused),
        slow: still_open,
        rss_bytes_max: server.usage()?.rss_bytes_max,
    })
}

fn judge(found: &Overload) -> Outcome<()> {
    let slowest = found.accepted_latency.map_or(0.0, |l| l.max_us);
    let wrong = if found.accepted == 0 {
        "nothing was accepted"
    } else if found.refused == 0 {
        "nothing was refused: the flood was none, or a queue grew"
    } else if slowest > DEADLINE.as_secs_f64() * 1e6 {
        "what was accepted took longer than a device waits"
    } else if found.rss_bytes_max > RSS_BYTES_MAX {
        "the server's memory grew beyond 300 MiB"
    } else {
        return Ok(());
    };
    Err(Fault::failed(
        "bench-overload",
        format!("under five times its load, {wrong}: {found:?}"),
        "docs/ops/limits.md explains the limits that are to prevent this.",
    ))
}

/// Prints it for people.
fn tell(found: &Overload) {
    let time = |l: Option<Latency>| {
        l.map_or("none".to_owned(), |l| {
            let ms = figures::milliseconds;
            format!("{} / {} / {}", ms(l.p50_us), ms(l.p99_us), ms(l.max_us))
        })
    };
    show::record(&[
        ("can do", format!("{:.0} a second", found.capacity)),
        ("was asked", format!("{:.0} a second", found.offered)),
        (
            "certificates",
            format!(
                "{} ({:.0} a second)",
                found.accepted, found.accepted_per_second
            ),
        ),
        ("  median / 99 % / most", time(found.accepted_latency)),
        ("503 with Retry-After", found.refused.to_string()),
        ("  median / 99 % / most", time(found.refused_latency)),
        ("slow connections beside it", found.slow.to_string()),
        (
            "memory",
            format!("{} MiB", found.rss_bytes_max / (1024 * 1024)),
        ),
    ]);
}

/// Connections of another peer that begin a request and never end it.
struct Slow {
    runtime: tokio::runtime::Runtime,
    open: Vec<TcpStream>,
}

impl Slow {
    fn open(server: SocketAddr) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(odd)?;
        let open = runtime.block_on(async {
            let mut open = Vec::new();
            for number in 0..SLOW {
                // Linux has all of 127.0.0.0/8 on its loopback interface: another peer than the client.
                let socket = TcpSocket::new_v4().map_err(odd)?;
                socket.bind(([127, 0, 0, 2], 0).into()).map_err(odd)?;
                let mut stream = socket.connect(server).await.map_err(odd)?;
                let begun = match number % 2 {
                    0 => "POST /.well-known/cmp HTTP/1.1\r\nHost: s",
                    _ => {
                        "POST /.well-known/cmp HTTP/1.1\r\nHost: slow\r\n\
                         Content-Type: application/pkixcmp\r\nContent-Length: 60000\r\n\r\n0"
                    }
                };
                stream.write_all(begun.as_bytes()).await.map_err(odd)?;
                open.push(stream);
            }
            Ok::<_, Fault>(open)
        })?;
        Ok(Self { runtime, open })
    }

    /// How many there were.
    fn close(self) -> usize {
        let count = self.open.len();
        drop(self.open);
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        count
    }
}
