//! Figures: of one run, of all rounds, and as people and programs read them.

use std::time::Duration;

use serde::Serialize;

use super::cpus::{Cpus, Took};
use super::load::Driven;
use crate::cli::show;

/// What was measured, in the order in which it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The cryptography alone.
    CryptoBound,
    /// The server that does nothing.
    Nothing,
    /// The store alone.
    Commit,
    /// The CA with its store in memory.
    Memory,
    /// The CA with its store on the disk.
    Durable,
    /// cfssl, which keeps nothing.
    Cfssl,
    /// cfssl with its SQLite on the disk.
    CfsslSqlite,
}

impl Subject {
    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::CryptoBound => "cryptography alone",
            Self::Nothing => "server that does nothing",
            Self::Commit => "store alone",
            Self::Memory => "Tegata, store in memory",
            Self::Durable => "Tegata, store on the disk",
            Self::Cfssl => "cfssl, keeps nothing",
            Self::CfsslSqlite => "cfssl, SQLite on the disk",
        }
    }

    /// For people: what it is.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::CryptoBound => "verify, HMAC, sign: P-256, one thread",
            Self::Nothing => "the same HTTP; the answer is zeros",
            Self::Commit => "its rows, many in a transaction",
            Self::Memory => "tmpfs: no commit waits for a disk",
            Self::Durable => "WAL, synchronous=FULL",
            Self::Cfssl => "authsign; no durability",
            Self::CfsslSqlite => "authsign; its own defaults",
        }
    }
}

/// Percentiles of latency, microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// The median.
    pub p50_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// The open loop.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Open {
    /// Requests a second that were due.
    pub rate: f64,
    /// Requests a second that were answered.
    pub per_second: f64,
    /// From the moment each was due.
    pub latency: Latency,
}

/// One subject in one round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Measured {
    /// What.
    pub subject: Subject,
    /// How many a second, in a closed loop.
    pub per_second: f64,
    /// Processor time of each, microseconds: of the server process alone, if there is one.
    pub cpu_us: f64,
    /// In the closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// The open loop after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<Open>,
    /// Most memory of the server process, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes_max: Option<u64>,
    /// Requests that a peer did not answer with 200; none of ours, or there are no figures.
    pub refused: usize,
}

impl Measured {
    /// Work without a server.
    #[must_use]
    pub fn alone(subject: Subject, took: Took, count: usize) -> Self {
        Self {
            subject,
            per_second: per_second(count, took.wall),
            cpu_us: each_us(took.cpu, count),
            latency: None,
            open: None,
            rss_bytes_max: None,
            refused: 0,
        }
    }

    /// A closed loop at a server that used so much processor time meanwhile.
    #[must_use]
    pub fn closed(subject: Subject, driven: &Driven, cpu: Duration) -> Self {
        let count = driven.answers.len();
        Self {
            subject,
            per_second: per_second(count, driven.wall),
            cpu_us: each_us(cpu, count),
            latency: latency(&driven.latencies),
            open: None,
            rss_bytes_max: None,
            refused: driven.refused.len(),
        }
    }
}

/// An open loop at that rate.
#[must_use]
pub fn open(rate: f64, driven: &Driven) -> Option<Open> {
    Some(Open {
        rate,
        per_second: per_second(driven.answers.len(), driven.wall),
        latency: latency(&driven.latencies)?,
    })
}

/// One round.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// In the order in which it ran.
    pub measured: Vec<Measured>,
}

impl Round {
    /// The figures of a subject.
    #[must_use]
    pub fn of(&self, subject: Subject) -> Option<&Measured> {
        self.measured.iter().find(|m| m.subject == subject)
    }
}

/// Least, middle and most of the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle one; of an even number, the mean of the two.
    pub median: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of some values; `None` of none.
    #[must_use]
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
        Some(Self {
            min: *sorted.first()?,
            median: (sorted.get(low)? + sorted.get(high)?) / 2.0,
            max: *sorted.last()?,
        })
    }
}

/// A subject over all rounds. Ratios are taken within each round.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// What.
    pub subject: Subject,
    /// What that is.
    pub about: &'static str,
    /// How many a second.
    pub per_second: Spread,
    /// Processor time of each, microseconds.
    pub cpu_us: Spread,
    /// Processor time of the cryptography alone, divided by that of the subject: 1 is the bound.
    pub cpu_ratio_to_crypto_bound: Spread,
    /// How many a second, divided by that of the cryptography alone.
    pub throughput_ratio_to_crypto_bound: Spread,
    /// Medians of latency, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<Spread>,
    /// 99 % of latency, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<Spread>,
    /// In the open loop: the rate, a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_rate: Option<Spread>,
    /// In the open loop: medians of latency, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_p50_us: Option<Spread>,
    /// In the open loop: 99 % of latency, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_p99_us: Option<Spread>,
    /// Most memory of the server process, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes_max: Option<u64>,
    /// Requests of all rounds that a peer did not answer with 200.
    pub refused: usize,
}

impl Summary {
    fn of(subject: Subject, rounds: &[Round]) -> Option<Self> {
        let spread = |value: &dyn Fn(&Measured) -> Option<f64>| {
            Spread::of(rounds.iter().filter_map(|r| value(r.of(subject)?)))
        };
        let ratio = |value: &dyn Fn(&Measured, &Measured) -> f64| {
            let bound = |r: &Round| Some(value(r.of(Subject::CryptoBound)?, r.of(subject)?));
            Spread::of(rounds.iter().filter_map(bound))
        };
        Some(Self {
            subject,
            about: subject.about(),
            per_second: spread(&|m| Some(m.per_second))?,
            cpu_us: spread(&|m| Some(m.cpu_us))?,
            cpu_ratio_to_crypto_bound: ratio(&|bound, m| bound.cpu_us / m.cpu_us)?,
            throughput_ratio_to_crypto_bound: ratio(&|bound, m| m.per_second / bound.per_second)?,
            p50_us: spread(&|m| Some(m.latency?.p50_us)),
            p99_us: spread(&|m| Some(m.latency?.p99_us)),
            open_rate: spread(&|m| Some(m.open?.rate)),
            open_p50_us: spread(&|m| Some(m.open?.latency.p50_us)),
            open_p99_us: spread(&|m| Some(m.open?.latency.p99_us)),
            rss_bytes_max: rounds
                .iter()
                .filter_map(|r| r.of(subject)?.rss_bytes_max)
                .max(),
            refused: rounds
                .iter()
                .filter_map(|r| Some(r.of(subject)?.refused))
                .sum(),
        })
    }
}

/// Ours beside a peer that keeps as much. Ratios are taken within each round; above 1 ours is better.
#[derive(Debug, Clone, Serialize)]
pub struct Beside {
    /// Ours.
    pub ours: Subject,
    /// The peer.
    pub peer: Subject,
    /// Its processor time for each, divided by ours.
    pub cpu: Spread,
    /// Our throughput, divided by its.
    pub throughput: Spread,
    /// Its median of latency, divided by ours.
    pub p50: Option<Spread>,
}

/// Ours beside each peer of the run.
#[must_use]
pub fn beside(rounds: &[Round]) -> Vec<Beside> {
    let pairs = [
        (Subject::Memory, Subject::Cfssl),
        (Subject::Durable, Subject::CfsslSqlite),
    ];
    let one = |(ours, peer): (Subject, Subject)| {
        let spread = |ratio: &dyn Fn(&Measured, &Measured) -> Option<f64>| {
            Spread::of(
                rounds
                    .iter()
                    .filter_map(|r| ratio(r.of(ours)?, r.of(peer)?)),
            )
        };
        Some(Beside {
            ours,
            peer,
            cpu: spread(&|ours, peer| Some(peer.cpu_us / ours.cpu_us))?,
            throughput: spread(&|ours, peer| Some(ours.per_second / peer.per_second))?,
            p50: spread(&|ours, peer| Some(peer.latency?.p50_us / ours.latency?.p50_us)),
        })
    };
    pairs.into_iter().filter_map(one).collect()
}

/// Where it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Its processors, as they call themselves.
    pub processor: String,
    /// How many.
    pub processors: usize,
    /// Kernel.
    pub system: String,
    /// Who ran where.
    pub cpus: Cpus,
    /// Runnable processes before the run, averaged over a minute: others who wanted the processors.
    pub load_before: f64,
}

/// Everything, as it is kept.
#[derive(Debug, Clone, Serialize)]
pub struct Results {
    /// Version of this program.
    pub version: &'static str,
    /// What was measured.
    pub what: &'static str,
    /// Where.
    pub machine: Machine,
    /// Requests of each round.
    pub requests: u32,
    /// Connections of the closed loop.
    pub clients: u32,
    /// Devices they are from.
    pub devices: u32,
    /// The headline: processor time of the cryptography alone divided by that of the server with its
    /// store on the disk.
    pub ratio_to_crypto_bound: Spread,
    /// Each subject over all rounds.
    pub subjects: Vec<Summary>,
    /// Ours beside each peer of the run.
    pub beside: Vec<Beside>,
    /// Certificates that `openssl verify` was asked about, and found good.
    pub verified_with_openssl: usize,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
    /// Each round as it was.
    pub rounds: Vec<Round>,
}

/// Each subject over all rounds.
#[must_use]
pub fn summaries(rounds: &[Round]) -> Vec<Summary> {
    let all = [
        Subject::CryptoBound,
        Subject::Nothing,
        Subject::Commit,
        Subject::Memory,
        Subject::Durable,
        Subject::Cfssl,
        Subject::CfsslSqlite,
    ];
    all.into_iter()
        .filter_map(|subject| Summary::of(subject, rounds))
        .collect()
}

/// Prints the results for people.
pub fn table(results: &Results) {
    let Machine {
        processor,
        processors,
        system,
        cpus,
        load_before,
    } = &results.machine;
    let shared = if cpus.shared() {
        " (the same: they take each other's time)"
    } else {
        ""
    };
    show::lines([
        format!("{processor}, {processors} processors, {system}, load {load_before:.1} before"),
        format!(
            "{} rounds of {} requests of {} devices; servers on processor {}, client on {}{shared}",
            results.rounds.len(),
            results.requests,
            results.devices,
            cpus.server,
            cpus.client
        ),
        String::new(),
    ]);
    let ms = |spread: Option<Spread>| spread.map_or(String::new(), |s| milliseconds(s.median));
    let rows: Vec<[String; 8]> = results
        .subjects
        .iter()
        .map(|s| {
            let ratio = s.cpu_ratio_to_crypto_bound;
            [
                s.subject.label().to_owned(),
                format!("{:.0}", s.per_second.median),
                format!("{:.0} µs", s.cpu_us.median),
                format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max),
                ms(s.p50_us),
                ms(s.p99_us),
                ms(s.open_p99_us),
                s.rss_bytes_max
                    .map_or(String::new(), |b| format!("{} MiB", b / (1024 * 1024))),
            ]
        })
        .collect();
    let open = results
        .subjects
        .iter()
        .find(|s| s.subject == Subject::Durable);
    let headings = [
        "",
        "PER SECOND",
        "CPU EACH",
        "BOUND ÷ CPU",
        "P50",
        "P99",
        "P99 OPEN",
        "MEMORY",
    ];
    show::table(headings, &rows, "");
    let rate = open.and_then(|s| s.open_rate).map(|rate| rate.median);
    show::lines([
        String::new(),
        format!(
            "P50 and P99: {} connections, each with one request at a time. P99 OPEN: requests sent when \
             they are due{}.",
            results.clients,
            rate.map_or(String::new(), |rate| format!(
                ", {rate:.0} a second with the store on the disk"
            ))
        ),
        format!(
            "Medians of the rounds; {} certificates verified with openssl.",
            results.verified_with_openssl
        ),
    ]);
    show::lines(results.beside.iter().map(|b| {
        let (cpu, times) = (b.cpu, b.throughput);
        format!(
            "{} beside {}: {:.2}× ({:.2}–{:.2}) by processor time, {:.2}× ({:.2}–{:.2}) by throughput.",
            b.ours.label(),
            b.peer.label(),
            cpu.median,
            cpu.min,
            cpu.max,
            times.median,
            times.min,
            times.max
        )
    }));
    let refusing = results.subjects.iter().filter(|s| s.refused > 0);
    show::lines(refusing.map(|s| {
        let (label, refused) = (s.subject.label(), s.refused);
        format!("{label}: {refused} requests were not answered 200, and are not in its figures.")
    }));
    show::lines(results.skipped.iter().map(|why| format!("Skipped: {why}")));
}

/// Microseconds, for people.
#[must_use]
pub fn milliseconds(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 10_000.0 => format!("{:.1} ms", us / 1_000.0),
        us => format!("{:.0} ms", us / 1_000.0),
    }
}

/// How many a second.
#[must_use]
pub fn per_second(count: usize, wall: Duration) -> f64 {
    number(count) / wall.as_secs_f64().max(f64::EPSILON)
}

fn each_us(cpu: Duration, count: usize) -> f64 {
    cpu.as_secs_f64() * 1e6 / number(count.max(1))
}

/// Percentiles; `None` of nothing.
#[must_use]
pub fn latency(all: &[Duration]) -> Option<Latency> {
    let mut sorted: Vec<Duration> = all.to_vec();
    sorted.sort_unstable();
    let at = |percent: usize| {
        let place = sorted.len().saturating_mul(percent).div_ceil(100);
        let found = sorted.get(place.saturating_sub(1))?;
        Some(found.as_secs_f64() * 1e6)
    };
    Some(Latency {
        p50_us: at(50)?,
        p99_us: at(99)?,
        max_us: at(100)?,
    })
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        assert_eq!(Spread::of(std::iter::empty()), None);
        let odd = Spread::of([3.0, 1.0, 2.0].into_iter()).unwrap();
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
        let even = Spread::of([4.0, 1.0, 2.0, 8.0].into_iter()).unwrap();
        assert_eq!((even.min, even.median, even.max), (1.0, 3.0, 8.0));
    }

    #[test]
    fn percentiles() {
        let all: Vec<Duration> = (1..=200).rev().map(Duration::from_micros).collect();
        let found = latency(&all).unwrap();
        assert!((found.p50_us - 100.0).abs() < 0.01, "{found:?}");
        assert!((found.p99_us - 198.0).abs() < 0.01, "{found:?}");
        assert!((found.max_us - 200.0).abs() < 0.01, "{found:?}");
        assert!(latency(&[]).is_none());
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let measured = |subject, cpu_us| Measured {
            subject,
            per_second: 1e6 / cpu_us,
            cpu_us,
            latency: None,
            open: None,
            rss_bytes_max: None,
            refused: 0,
        };
        let round = |bound, durable| Round {
            measured: vec![
                measured(Subject::Durable, durable),
                measured(Subject::CryptoBound, bound),
            ],
        };
        // The second round was twice as slow, for both.
        let rounds = [
            round(100.0, 200.0),
            round(200.0, 400.0),
            round(100.0, 250.0),
        ];
        let all = summaries(&rounds);
        let durable = all.iter().find(|s| s.subject == Subject::Durable).unwrap();
        let ratio = durable.cpu_ratio_to_crypto_bound;
        assert_eq!((ratio.min, ratio.median, ratio.max), (0.4, 0.5, 0.5));
        assert_eq!(all.len(), 2);
    }
}
