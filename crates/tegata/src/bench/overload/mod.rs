//! `tegata bench overload`: five times what a server can do, beside peers that do all the harm that connections can.
//!
//! First a closed loop says what it can do. Then an honest peer is measured alone, beside one that sends slowly,
//! beside one that opens and closes connections, where there is TLS beside one that shakes hands and goes, and beside
//! the first two while requests come at five times that rate. Each answer must be what was asked for, or 503 with
//! `Retry-After`; nothing else. Without the flood of requests the honest peer must not notice the others; in it, it
//! must get what it asks for by coming back as it is told.
//!
//! Which server it is, how it is asked and what it must answer stands in [`servers`]; nothing else differs.

mod found;
mod servers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Bytes;

use super::bed::Bed;
use super::cpus::pin;
use super::figures;
use super::flood::{Flood, Flooded};
use super::hostile::{Opener, Shaker, Slow};
use super::kept;
use super::load::{Ask, Pace, drive};
use super::odd;
use super::polite;
use crate::cli::bench::BenchServer;
use crate::cli::show;
use crate::fault::{Fault, Outcome};
use found::{Beside, Failed, Overload, Situation};
use servers::Tried;

/// How much more than it can do is aimed at.
const TIMES_AIMED: f64 = 5.5;
/// Connections that say what it can do, the better of both: some, as the other benches have, and nearly as many as it
/// works on requests at once, for then more of them share a commit.
const CLIENTS: [usize; 2] = [16, 100];
/// One in so many requests is for each of them; the flood has the others.
const CALM: usize = 10;
/// One in so many, besides, warms the server up.
const WARM_UP: usize = 20;
/// What the honest peer asks for in each situation; beside the flood, at most.
const POLITE: usize = 300;
/// How long it asks beside slow connections: longer than a server waits for a header (10 s), or no limit on time would
/// come to bear.
const PACED: Duration = Duration::from_millis(11_500);
/// The same beside those that open and close, each of which is gone within a second.
const PACED_BRIEFLY: Duration = Duration::from_secs(3);

/// Runs it, keeps what was found, and fails where the server did.
///
/// # Errors
/// What the server must not do under load, by name.
pub fn run(bed: &Bed<'_>) -> Outcome<()> {
    let server = bed.args.server();
    let mut found = measure(bed, server)?;
    let judged = found::judge(&found);
    found.failed = judged.as_ref().err().map(|fault| Failed {
        code: fault.code,
        what: fault.what.clone(),
    });
    let mut text = serde_json::to_string_pretty(&found).map_err(odd)?;
    text.push('\n');
    let kept = bed.write(vec![(format!("{}.json", kept::stem(bed.args)), text)])?;
    if bed.args.json {
        show::json(&found)?;
    } else {
        found::tell(&found);
        show::lines([format!("Kept: {kept}")]);
    }
    judged
}

fn measure(bed: &Bed<'_>, server: BenchServer) -> Outcome<Overload> {
    let count = bed.count();
    let calm = count.div_ceil(CALM);
    let warm_up = count.div_ceil(WARM_UP);
    let all = CLIENTS.len() * (warm_up + calm) + count + 5 * POLITE;
    let mut trial = Trial {
        tried: servers::start(server, bed, all)?,
        made: 0,
    };
    bed.bar.finish_and_clear();
    pin(bed.cpus.client)?;
    let mut capacity: f64 = 0.0;
    for clients in CLIENTS {
        trial.closed(warm_up, clients)?;
        capacity = trial.closed(calm, clients)?.max(capacity);
    }
    let mut situations = Vec::new();
    for beside in [Beside::Nobody, Beside::Slow, Beside::Connections] {
        situations.push(trial.situation(beside, None)?.0);
    }
    if trial.tried.target().tls.is_some() {
        situations.push(trial.situation(Beside::Handshakes, None)?.0);
    }
    let offered = capacity * TIMES_AIMED;
    let rest = count.saturating_sub(CLIENTS.len() * calm);
    let (everything, flooded) = trial.situation(Beside::Everything, Some((rest, offered)))?;
    situations.push(everything);
    let (flooded, used) = flooded.ok_or_else(|| odd("there was no flood"))?;
    let sent_per_second = figures::per_second(flooded.sent(), flooded.wall);
    Ok(Overload {
        version: env!("CARGO_PKG_VERSION"),
        what: "overload",
        server,
        machine: bed.machine().clone(),
        requests: bed.args.requests,
        devices: bed.args.devices,
        capacity,
        offered,
        sent_per_second,
        times: sent_per_second / capacity.max(f64::EPSILON),
        flood_secs: flooded.wall.as_secs_f64(),
        server_busy: used.as_secs_f64() / flooded.wall.as_secs_f64().max(f64::EPSILON),
        accepted_per_second: figures::per_second(flooded.accepted.len(), flooded.wall),
        accepted: flooded.accepted.len(),
        refused: flooded.refused.len(),
        accepted_latency: figures::latency(&flooded.accepted),
        refused_latency: figures::latency(&flooded.refused),
        situations,
        rss_bytes_max: trial.tried.server().usage()?.rss_bytes_max,
        failed: None,
    })
}

/// A server that is tried.
struct Trial<'a> {
    tried: Box<dyn Tried + 'a>,
    /// Requests that were made so far.
    made: usize,
}

/// Requests, and the number of the first of them.
type Batch = (usize, Vec<Ask>);

impl Trial<'_> {
    fn asks(&mut self, count: usize) -> Outcome<Batch> {
        let asks = self.tried.asks(self.made, count)?;
        if asks.len() < count {
            return Err(odd("there are fewer requests than are to be sent"));
        }
        let first = self.made;
        self.made += count;
        Ok((first, asks))
    }

    /// So many requests by so many connections, each its next when its last was answered: how many a second.
    fn closed(&mut self, count: usize, clients: usize) -> Outcome<f64> {
        let (first, asks) = self.asks(count)?;
        let driven = drive(self.tried.target(), asks.clone(), Pace::Closed(clients))?;
        for answered in &driven.answered {
            let number = answered.number;
            if let Some(request) = asks.get(number) {
                self.tried.judge(first + number, request, &answered.body)?;
            }
        }
        Ok(figures::per_second(driven.answered.len(), driven.wall))
    }

    /// The honest peer beside those, and beside a flood of so many requests at such a rate if there is one; then until
    /// that ends. With what came of the flood, the processor time that the server used in it.
    fn situation(
        &mut self,
        beside: Beside,
        flooding: Option<(usize, f64)>,
    ) -> Outcome<(Situation, Option<(Flooded, Duration)>)> {
        let (first, asks) = self.asks(POLITE)?;
        let flooding = match flooding {
            Some((count, rate)) => Some((self.asks(count)?, rate)),
            None => None,
        };
        // Connections of the situation before are gone when it has nothing to do.
        self.tried.server().settle()?;
        let target = self.tried.target().clone();
        // Before the one who opens and closes takes all that the peer may have.
        let flood = match flooding {
            Some((asks, rate)) => Some((Flood::open(&target)?, asks, rate)),
            None => None,
        };
        let slow = beside.slow().then(|| Slow::open(&target)).transpose()?;
        let opener = beside.connections().then(|| Opener::begin(target.address));
        let opener = opener.transpose()?;
        let shaker = (beside == Beside::Handshakes).then(|| Shaker::begin(&target));
        let shaker = shaker.transpose()?;
        let tried = &mut self.tried;
        let stop = AtomicBool::new(false);
        let (polite, flooded) = std::thread::scope(|scope| {
            let asks = asks.clone();
            let polite = scope.spawn(|| polite::ask(&target, asks, every(beside), &stop));
            let flooded = flood.map(|(flood, (first, asks), rate)| {
                let before = tried.server().usage()?.cpu;
                let mut judge = |number: usize, request: &Ask, answer: &Bytes| {
                    tried.judge(first + number, request, answer)
                };
                let flooded = flood.run(asks, rate, &mut judge)?;
                let used = tried.server().usage()?.cpu.saturating_sub(before);
                Ok::<_, Fault>((flooded, used))
            });
            stop.store(flooded.is_some(), Ordering::SeqCst);
            (polite.join(), flooded)
        });
        let flooded = flooded.transpose()?;
        let polite = polite.map_err(|_| odd("a thread of the bench ended early"))?;
        let (polite, bodies) = polite?;
        for (number, (request, body)) in (first..).zip(asks.iter().zip(&bodies)) {
            self.tried.judge(number, request, body)?;
        }
        let situation = Situation {
            beside,
            polite,
            slow: slow.map(Slow::close),
            connections: opener.map(Opener::end),
            handshakes: shaker.map(Shaker::end),
        };
        Ok((situation, flooded))
    }
}

/// Between two things that the honest peer asks for.
fn every(beside: Beside) -> Duration {
    let paced = match beside {
        Beside::Slow => PACED,
        Beside::Connections | Beside::Handshakes => PACED_BRIEFLY,
        Beside::Nobody | Beside::Everything => return Duration::ZERO,
    };
    paced.div_f64(figures::number(POLITE))
}
