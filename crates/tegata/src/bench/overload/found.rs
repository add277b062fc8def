//! What came of an overload: as it is kept, as people read it, and whether the server did what it must.

use std::time::Duration;

use serde::Serialize;

use crate::bench::figures::{self, Latency, Machine};
use crate::bench::hostile::{Opened, SLOW_CONNECTIONS, Shaken, Slowly};
use crate::bench::polite::Polite;
use crate::cli::bench::BenchServer;
use crate::cli::show;
use crate::fault::{Fault, Outcome};

/// How much more than it can do is sent, or the run proves nothing. Over the whole flood: its end, when only answers
/// come, is in it.
const TIMES: f64 = 4.5;
/// A shorter flood says nothing, seconds: who opens connections has hardly begun.
const FLOOD_SECS_MIN: f64 = 0.05;
/// Most that an accepted request may take: a device waits no longer for a busy server.
const DEADLINE: Duration = Duration::from_secs(10);
/// In which 99 % of refusals come, and of the honest peer's answers without a flood of requests. No race: beyond it a
/// server does not refuse early, it lets wait.
const EARLY: Duration = Duration::from_secs(1);
/// Share of the slow connections that must have been open on average, or the server was not tried.
const SLOW_SHARE: f64 = 0.9;
/// Most memory that the server may have, bytes.
const RSS_BYTES_MAX: u64 = 300 * 1024 * 1024;

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Overload {
    /// Version of this program.
    pub version: &'static str,
    /// What was measured.
    pub what: &'static str,
    /// Where.
    pub machine: Machine,
    /// Which server.
    pub server: BenchServer,
    /// Requests, those that said what it can do and those of the flood.
    pub requests: u32,
    /// Devices they are from.
    pub devices: u32,
    /// What it can do, a second.
    pub capacity: f64,
    /// What was aimed at, a second.
    pub offered: f64,
    /// What was really sent, a second.
    pub sent_per_second: f64,
    /// The same, divided by what it can do.
    pub times: f64,
    /// How long the flood was, seconds.
    pub flood_secs: f64,
    /// Share of one processor that the server used in it.
    pub server_busy: f64,
    /// Requests that got what they asked for, a second.
    pub accepted_per_second: f64,
    /// Requests that got what they asked for.
    pub accepted: usize,
    /// How often a request was told to come back.
    pub refused: usize,
    /// Of each accepted request, from the sending that was accepted.
    pub accepted_latency: Option<Latency>,
    /// Of each refusal, from sending.
    pub refused_latency: Option<Latency>,
    /// The honest peer, alone and beside others.
    pub situations: Vec<Situation>,
    /// Most memory of the server process, bytes.
    pub rss_bytes_max: u64,
    /// Why the run failed; absent where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
}

/// Why a run failed.
#[derive(Debug, Clone, Serialize)]
pub struct Failed {
    /// For programs.
    pub code: &'static str,
    /// What the server did wrong, or that too little was sent to say so.
    pub what: String,
}

/// The honest peer, and beside whom.
#[derive(Debug, Clone, Serialize)]
pub struct Situation {
    /// Its name.
    pub beside: Beside,
    /// The honest peer.
    pub polite: Polite,
    /// The peer that sends slowly, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Slowly>,
    /// The peer that opens and closes connections, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<Opened>,
    /// The peer that shakes hands, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<Shaken>,
}

/// Whom a server has beside an honest peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Beside {
    Nobody,
    Slow,
    Connections,
    Handshakes,
    Everything,
}

impl Beside {
    fn label(self) -> &'static str {
        match self {
            Self::Nobody => "alone",
            Self::Slow => "beside slow senders",
            Self::Connections => "beside a flood of connections",
            Self::Handshakes => "beside a flood of handshakes",
            Self::Everything => "beside both, at five times",
        }
    }

    /// Whether somebody sends slowly.
    #[must_use]
    pub fn slow(self) -> bool {
        matches!(self, Self::Slow | Self::Everything)
    }

    /// Whether somebody opens and closes connections.
    #[must_use]
    pub fn connections(self) -> bool {
        matches!(self, Self::Connections | Self::Everything)
    }
}

/// Whether the server did what it must, and enough was sent to say so.
///
/// # Errors
/// What it must not do under load, by name; too little of a load.
pub fn judge(found: &Overload) -> Outcome<()> {
    if found.flood_secs < FLOOD_SECS_MIN {
        return Err(Fault::failed(
            "bench-too-little",
            format!(
                "{} requests were gone in {:.2} s: that is no overload",
                found.requests, found.flood_secs
            ),
            format!(
                "Give --requests {:.0}, or more.",
                found.offered.max(1_000.0)
            ),
        ));
    }
    if let Some(wrong) = wrong(found) {
        return Err(Fault::failed(
            "bench-overload",
            wrong,
            "docs/ops/limits.md explains the limits that are to prevent this.",
        ));
    }
    if found.times < TIMES {
        return Err(Fault::failed(
            "bench-too-little",
            format!(
                "{:.1} times what the server can do was sent, while it had {:.0} % of a processor: that is no overload of \
                 {TIMES} times and more",
                found.times,
                found.server_busy * 100.0
            ),
            "Server and client need a processor each that nobody else uses: look at --server-cpu and --client-cpu.",
        ));
    }
    Ok(())
}

/// The first thing that must not be.
fn wrong(found: &Overload) -> Option<String> {
    let late = EARLY.as_secs_f64() * 1e6;
    for situation in &found.situations {
        let (polite, label) = (&situation.polite, situation.beside.label());
        let alone = situation.beside != Beside::Everything;
        let p99 = polite.answer_latency.map_or(0.0, |l| l.p99_us);
        let wrong = if polite.no_connection > 0 {
            "found no room for a connection"
        } else if alone && polite.told_to_come_back > 0 {
            "was refused"
        } else if alone && p99 > late {
            "waited more than a second for one answer in a hundred"
        } else if polite.got == 0 {
            "got nothing"
        } else {
            ""
        };
        if !wrong.is_empty() {
            return Some(format!("an honest peer, {label}, {wrong}"));
        }
        let few = figures::number(SLOW_CONNECTIONS) * SLOW_SHARE;
        if situation.slow.is_some_and(|slow| slow.open_mean < few) {
            return Some(format!(
                "{label}: too few of the slow connections were open"
            ));
        }
        // In the flood they are not always held for so long.
        let endured = |slow: Slowly| slow.cut == 0 || slow.opened <= slow.wished;
        if situation.beside == Beside::Slow && situation.slow.is_none_or(endured) {
            return Some(format!(
                "{label}: no slow connection was cut and opened again"
            ));
        }
        if situation.handshakes.is_some_and(|h| h.shaken < polite.got) {
            return Some(format!("{label}: too few hands were shaken"));
        }
        if situation.connections.is_some_and(|c| c.cut == 0) {
            return Some(format!(
                "{label}: one peer had more connections than it may"
            ));
        }
    }
    let slowest = found.accepted_latency.map_or(0.0, |l| l.max_us);
    let refusals = found.refused_latency.map_or(0.0, |l| l.p99_us);
    let wrong = if found.accepted == 0 {
        "nothing was accepted at five times its load"
    } else if found.refused == 0 {
        "nothing was refused at five times its load: a queue grew"
    } else if refusals > late {
        "it did not refuse early: one refusal in a hundred took more than a second"
    } else if slowest > DEADLINE.as_secs_f64() * 1e6 {
        "what was accepted took longer than a device waits"
    } else if found.rss_bytes_max > RSS_BYTES_MAX {
        "the server's memory grew beyond 300 MiB"
    } else {
        return None;
    };
    Some(wrong.to_owned())
}

/// What it gives to those whom it serves, for people.
fn gives(server: BenchServer) -> &'static str {
    match server {
        BenchServer::Ca | BenchServer::Est => "certificates",
        BenchServer::Tam => "Updates",
        BenchServer::Verifier => "results",
    }
}

/// Prints it for people.
pub fn tell(found: &Overload) {
    let time = |l: Option<Latency>| {
        l.map_or("none".to_owned(), |l| {
            let ms = figures::milliseconds;
            format!("{} / {} / {}", ms(l.p50_us), ms(l.p99_us), ms(l.max_us))
        })
    };
    show::record(&[
        ("can do", format!("{:.0} a second", found.capacity)),
        (
            "was sent",
            format!(
                "{:.0} a second, {:.1} times that, for {:.0} s",
                found.sent_per_second, found.times, found.flood_secs
            ),
        ),
        (
            gives(found.server),
            format!(
                "{} ({:.0} a second)",
                found.accepted, found.accepted_per_second
            ),
        ),
        ("  median / 99 % / most", time(found.accepted_latency)),
        ("503 with Retry-After", found.refused.to_string()),
        ("  median / 99 % / most", time(found.refused_latency)),
        (
            "memory",
            format!("{} MiB", found.rss_bytes_max / (1024 * 1024)),
        ),
    ]);
    let rows: Vec<[String; 5]> = found
        .situations
        .iter()
        .map(|s| {
            [
                s.beside.label().to_owned(),
                s.polite.got.to_string(),
                s.polite.told_to_come_back.to_string(),
                time(s.polite.answer_latency),
                time(s.polite.latency),
            ]
        })
        .collect();
    show::lines([String::new()]);
    let headings = [
        "HONEST PEER",
        "GOT",
        "TOLD TO COME BACK",
        "AN ANSWER (MEDIAN / 99 % / MOST)",
        "UNTIL IT GOT ONE (THE SAME)",
    ];
    show::table(headings, &rows, "");
    for situation in &found.situations {
        let label = situation.beside.label();
        show::lines(situation.slow.map(|s| {
            format!(
                "{label}: of {} slow connections {:.0} open on average, {} at the end; {} opened, {} cut.",
                s.wished, s.open_mean, s.open_at_end, s.opened, s.cut
            )
        }));
        show::lines(situation.connections.map(|c| {
            format!(
                "{label}: {} connections opened, {:.0} a second; {} ended by the server, {} failed.",
                c.opened, c.per_second, c.cut, c.failed
            )
        }));
        show::lines(situation.handshakes.map(|h| {
            format!(
                "{label}: hands shaken {} times, {:.0} a second; {} times in vain.",
                h.shaken, h.per_second, h.failed
            )
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cpus::Cpus;
    use crate::fault::EXIT_FAILED;

    fn latency(us: f64) -> Option<Latency> {
        Some(Latency {
            p50_us: us,
            p99_us: us,
            max_us: us,
        })
    }

    fn good() -> Overload {
        let situation = |beside: Beside| Situation {
            beside,
            polite: Polite {
                got: 3,
                told_to_come_back: 0,
                no_connection: 0,
                asked_most: 1,
                latency: latency(1e4),
                answer_latency: latency(1e4),
            },
            slow: beside.slow().then_some(Slowly {
                wished: 256,
                open_mean: 255.0,
                open_at_end: 256,
                opened: 300,
                cut: 44,
            }),
            connections: beside.connections().then_some(Opened {
                opened: 9,
                per_second: 9.0,
                cut: 1,
                failed: 0,
            }),
            handshakes: (beside == Beside::Handshakes).then_some(Shaken {
                shaken: 9,
                per_second: 9.0,
                failed: 0,
            }),
        };
        Overload {
            version: "",
            what: "overload",
            server: BenchServer::Ca,
            machine: Machine {
                processor: String::new(),
                processors: 2,
                system: String::new(),
                cpus: Cpus {
                    server: 0,
                    client: 1,
                },
                load_before: 0.0,
            },
            requests: 9,
            devices: 1,
            capacity: 10.0,
            offered: 55.0,
            sent_per_second: 51.0,
            times: 5.1,
            flood_secs: 1.0,
            server_busy: 1.0,
            accepted_per_second: 10.0,
            accepted: 10,
            refused: 41,
            accepted_latency: latency(1e6),
            refused_latency: latency(1e5),
            situations: [
                Beside::Nobody,
                Beside::Slow,
                Beside::Connections,
                Beside::Handshakes,
                Beside::Everything,
            ]
            .map(situation)
            .to_vec(),
            rss_bytes_max: 1,
            failed: None,
        }
    }

    fn bad(change: impl Fn(&mut Overload)) -> String {
        let mut found = good();
        change(&mut found);
        wrong(&found).unwrap_or_default()
    }

    #[test]
    fn each_failure_has_its_name() {
        assert_eq!(wrong(&good()), None);
        // What the server does to the honest peer.
        let refused = |at: usize| bad(|f| f.situations[at].polite.told_to_come_back = 1);
        assert!(refused(0).contains("alone, was refused"));
        assert!(refused(1).contains("slow senders, was refused"));
        assert!(refused(2).contains("connections, was refused"));
        assert!(refused(3).contains("handshakes, was refused"));
        assert_eq!(refused(4), "", "to be told to come back is no harm there");
        for at in 0..5 {
            assert!(bad(|f| f.situations[at].polite.no_connection = 1).contains("no room"));
            assert!(bad(|f| f.situations[at].polite.got = 0).contains("got nothing"));
        }
        let slow = |at: usize| bad(|f| f.situations[at].polite.answer_latency = latency(2e6));
        for at in 0..4 {
            assert!(slow(at).contains("more than a second"));
        }
        assert!(slow(4).is_empty());
        // Whether it was tried at all.
        let cut = bad(|f| f.situations[1].slow.as_mut().unwrap().open_mean = 200.0);
        assert!(cut.contains("too few"));
        let endured = |at: usize| bad(|f| f.situations[at].slow.as_mut().unwrap().cut = 0);
        assert!(endured(1).contains("no slow connection was cut"));
        assert_eq!(endured(4), "", "a flood may be shorter than a timeout");
        let gone = bad(|f| f.situations[1].slow.as_mut().unwrap().opened = 256);
        assert!(gone.contains("opened again"));
        let all = bad(|f| f.situations[4].connections.as_mut().unwrap().cut = 0);
        assert!(all.contains("more connections than it may"));
        let shaken = bad(|f| f.situations[3].handshakes.as_mut().unwrap().shaken = 2);
        assert!(shaken.contains("too few hands"));
        let mut little = good();
        little.times = 4.4;
        let fault = judge(&little).unwrap_err();
        assert_eq!((fault.code, fault.exit), ("bench-too-little", EXIT_FAILED));
        // A server that lets all wait is not excused by how little could be sent.
        little.refused = 0;
        assert_eq!(judge(&little).unwrap_err().code, "bench-overload");
        // But nothing is to be said of one whom hardly anything was sent.
        little.flood_secs = 0.02;
        let fault = judge(&little).unwrap_err();
        assert!(fault.mend.contains("--requests"), "{fault:?}");
        // What it does under the flood.
        assert!(bad(|f| f.accepted = 0).contains("nothing was accepted"));
        assert!(bad(|f| f.refused = 0).contains("a queue grew"));
        assert!(bad(|f| f.refused_latency = latency(2e6)).contains("refuse early"));
        assert!(bad(|f| f.accepted_latency = latency(2e7)).contains("than a device waits"));
        assert!(bad(|f| f.rss_bytes_max = u64::MAX).contains("memory"));
    }
}
