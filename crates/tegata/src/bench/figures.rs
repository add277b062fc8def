//! Figures of one run and of all rounds.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::cpus::{Cpus, Took};
use super::load::Driven;
use super::subject::Subject;

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
    /// Requests a second that were sent: as many as were due, or the client or the server could not keep up.
    pub sent_per_second: f64,
    /// From the moment each was due.
    pub latency: Latency,
    /// How long after that moment the client sent each; in `latency` too.
    pub late: Latency,
}

/// Memory of a server after so many answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Requests of the closed loop that it had answered.
    pub answered: usize,
    /// What it had then, bytes.
    pub rss_bytes: u64,
}

/// One subject in one round.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// What.
    pub subject: Subject,
    /// How many a second, in a closed loop.
    pub per_second: f64,
    /// Processor time of each, microseconds: of the server process alone, if there is one. A refusal is work too: it
    /// counts as an answer here, to the advantage of who refuses.
    pub cpu_us: f64,
    /// In the closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// The open loop after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<Open>,
    /// Of one client alone, after both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alone: Option<Latency>,
    /// Most memory of the server process when it was warm, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes_warm: Option<u64>,
    /// The same at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes_max: Option<u64>,
    /// The same now and then in the closed loop, where that was long enough.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Held>,
    /// Requests that a peer did not answer with 200; none of ours, or there are no figures.
    pub refused: usize,
}

/// Fewest looks at a server's memory that say whether it grows.
const HELD_MIN: usize = 10;

impl Measured {
    /// Memory after the first tenth of the closed loop, after half of it, and at its end, bytes. `None` where nobody
    /// looked so often.
    #[must_use]
    pub fn held(&self) -> Option<[u64; 3]> {
        let all = self.held.last()?.answered;
        let at = |part: usize| {
            let found = self.held.iter().find(|held| held.answered * part >= all);
            found.map(|held| held.rss_bytes)
        };
        let enough = self.held.len() >= HELD_MIN;
        enough.then_some([at(10)?, at(2)?, at(1)?])
    }

    /// Work without a server.
    #[must_use]
    pub fn alone(subject: Subject, took: Took, count: usize) -> Self {
        Self {
            subject,
            per_second: per_second(count, took.wall),
            cpu_us: each_us(took.cpu, count),
            latency: None,
            open: None,
            alone: None,
            rss_bytes_warm: None,
            rss_bytes_max: None,
            held: Vec::new(),
            refused: 0,
        }
    }

    /// A closed loop at a server.
    #[must_use]
    pub fn closed(subject: Subject, tally: &Tally) -> Self {
        let count = tally.latencies.len();
        Self {
            subject,
            per_second: per_second(count, tally.wall),
            cpu_us: each_us(tally.cpu, count.saturating_add(tally.refused)),
            latency: latency(&tally.latencies),
            open: None,
            alone: None,
            rss_bytes_warm: None,
            rss_bytes_max: None,
            held: tally.held.clone(),
            refused: tally.refused,
        }
    }
}

/// What came of requests that were sent piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Of all pieces; between them the clock stands.
    pub wall: Duration,
    /// What the server used meanwhile.
    pub cpu: Duration,
    /// Of each request that was answered, in their order.
    pub latencies: Vec<Duration>,
    /// Of each of them, how long after it was due it was sent.
    pub late: Vec<Duration>,
    /// Memory of the server after each piece.
    pub held: Vec<Held>,
    /// How many were refused.
    pub refused: usize,
    /// How long after it was due the last one of each piece was sent, all pieces together.
    pub late_at_ends: Duration,
}

impl Tally {
    /// One more piece, for which a server used so much, and has so much memory after it.
    pub fn add(&mut self, driven: &Driven, cpu: Duration, rss_bytes: u64) {
        let last = driven.answered.last();
        self.late_at_ends += last.map_or(Duration::ZERO, |last| last.late);
        self.wall += driven.wall;
        self.cpu += cpu;
        self.latencies
            .extend(driven.answered.iter().map(|a| a.latency));
        self.late.extend(driven.answered.iter().map(|a| a.late));
        self.refused = self.refused.saturating_add(driven.refused.len());
        self.held.push(Held {
            answered: self.latencies.len(),
            rss_bytes,
        });
    }

    /// The same of more requests.
    pub fn append(&mut self, more: &Self) {
        self.late_at_ends += more.late_at_ends;
        self.wall += more.wall;
        self.cpu += more.cpu;
        self.latencies.extend(&more.latencies);
        self.late.extend(&more.late);
        self.refused = self.refused.saturating_add(more.refused);
    }

    /// This and another request for each: what one exchange of two requests took.
    /// `None` unless both have as many.
    #[must_use]
    pub fn then(&self, second: &Self) -> Option<Self> {
        let sums = |first: &[Duration], second: &[Duration]| {
            first.iter().zip(second).map(|(a, b)| *a + *b).collect()
        };
        (self.latencies.len() == second.latencies.len()).then(|| Self {
            wall: self.wall + second.wall,
            cpu: self.cpu + second.cpu,
            latencies: sums(&self.latencies, &second.latencies),
            late: sums(&self.late, &second.late),
            held: Vec::new(),
            refused: self.refused.saturating_add(second.refused),
            late_at_ends: self.late_at_ends + second.late_at_ends,
        })
    }
}

/// An open loop at that rate.
#[must_use]
pub fn open(rate: f64, tally: &Tally) -> Option<Open> {
    // The wait for the last answer is no time of sending.
    let count = number(tally.latencies.len());
    let sending_secs = count / rate + tally.late_at_ends.as_secs_f64();
    Some(Open {
        rate,
        per_second: per_second(tally.latencies.len(), tally.wall),
        sent_per_second: count / sending_secs,
        latency: latency(&tally.latencies)?,
        late: latency(&tally.late)?,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ratio_to_crypto_bound: Option<Spread>,
    /// How many a second, divided by that of the cryptography alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput_ratio_to_crypto_bound: Option<Spread>,
    /// Medians of latency, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<Spread>,
    /// 99 % of latency, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<Spread>,
    /// In the open loop: the rate, a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_rate: Option<Spread>,
    /// In the open loop: how many a second were answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_per_second: Option<Spread>,
    /// In the open loop: how many a second were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_sent_per_second: Option<Spread>,
    /// In the open loop: medians of latency, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_p50_us: Option<Spread>,
    /// In the open loop: 99 % of latency, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_p99_us: Option<Spread>,
    /// Of one client alone: medians of latency, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alone_p50_us: Option<Spread>,
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
            cpu_ratio_to_crypto_bound: ratio(&|bound, m| bound.cpu_us / m.cpu_us),
            throughput_ratio_to_crypto_bound: ratio(&|bound, m| m.per_second / bound.per_second),
            p50_us: spread(&|m| Some(m.latency?.p50_us)),
            p99_us: spread(&|m| Some(m.latency?.p99_us)),
            open_rate: spread(&|m| Some(m.open?.rate)),
            open_per_second: spread(&|m| Some(m.open?.per_second)),
            open_sent_per_second: spread(&|m| Some(m.open?.sent_per_second)),
            open_p50_us: spread(&|m| Some(m.open?.latency.p50_us)),
            open_p99_us: spread(&|m| Some(m.open?.latency.p99_us)),
            alone_p50_us: spread(&|m| Some(m.alone?.p50_us)),
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

/// Share of what was due that must have been sent in the open loop, or its times are those of a queue.
const SENT_SHARE: f64 = 0.9;

impl Summary {
    /// In the open loop: how many a second were due, and how many were answered, for people.
    #[must_use]
    pub fn open_rates(&self) -> Option<[String; 2]> {
        let rates = [self.open_rate?, self.open_per_second?];
        Some(rates.map(|rate| format!("{:.0}", rate.median)))
    }

    /// What is to be known of an open loop that was none: much less was sent than was due.
    #[must_use]
    pub fn fell_behind(&self) -> Option<String> {
        let (due, sent) = (self.open_rate?.median, self.open_sent_per_second?.median);
        let label = self.subject.label();
        (sent < due * SENT_SHARE).then(|| {
            format!(
                "{label}: {sent:.0} a second were sent where {due:.0} were due; client or server fell behind, and times at the \
                 fixed rate are a queue's."
            )
        })
    }
}

/// Each subject of the rounds, over all of them.
#[must_use]
pub fn summaries(rounds: &[Round]) -> Vec<Summary> {
    let all = rounds.iter().flat_map(|round| &round.measured);
    let all: BTreeSet<Subject> = all.map(|measured| measured.subject).collect();
    all.into_iter()
        .filter_map(|subject| Summary::of(subject, rounds))
        .collect()
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

/// A count as a number to reckon with.
#[must_use]
pub fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::Answered;
    use axum::body::Bytes;

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
    fn what_two_requests_took_is_their_sum() {
        let ms = |all: &[u64]| all.iter().map(|ms| Duration::from_millis(*ms)).collect();
        let tally = |latencies: &[u64], late: &[u64]| Tally {
            latencies: ms(latencies),
            late: ms(late),
            ..Tally::default()
        };
        let both = tally(&[1, 2], &[0, 1]).then(&tally(&[3, 4], &[5, 0]));
        let found = open(10.0, &both.unwrap()).unwrap();
        assert!((found.latency.max_us - 6_000.0).abs() < 0.01, "{found:?}");
        assert!((found.late.max_us - 5_000.0).abs() < 0.01, "{found:?}");
        assert!(tally(&[1], &[0]).then(&tally(&[], &[])).is_none());
    }

    #[test]
    fn an_open_loop_that_falls_behind_is_found() {
        // Due at 1,000 a second and sent at so many; the last answer of each piece takes a second.
        let summary = |pieces: usize, sent: f64| {
            let late = |n: usize| Duration::from_secs_f64(number(n) * (1.0 / sent - 1e-3).max(0.0));
            let answered = |number: usize| Answered {
                number,
                latency: Duration::from_secs(1),
                late: late(number),
                body: Bytes::new(),
            };
            let mut tally = Tally::default();
            for _ in 0..pieces {
                let driven = Driven {
                    wall: Duration::from_secs(2),
                    answered: (0..500).map(answered).collect(),
                    refused: Vec::new(),
                    refusal: None,
                };
                tally.add(&driven, Duration::ZERO, 0);
            }
            let mut measured = Measured::closed(Subject::Durable, &tally);
            measured.open = open(1e3, &tally);
            let measured = vec![measured];
            Summary::of(Subject::Durable, &[Round { measured }]).unwrap()
        };
        for pieces in [1, 4] {
            let behind = summary(pieces, 300.0);
            let sent = behind.open_sent_per_second.unwrap().median;
            assert!((sent - 300.0).abs() < 5.0, "{sent}");
            let said = behind.fell_behind().unwrap();
            assert!(said.contains("where 1000 were due"), "{said}");
            assert_eq!(behind.open_rates().unwrap(), ["1000", "250"]);
            assert_eq!(summary(pieces, 1e3).fell_behind(), None);
            assert_eq!(summary(pieces, 950.0).fell_behind(), None);
        }
    }

    #[test]
    fn memory_at_a_tenth_at_half_and_at_the_end() {
        let mut measured = Measured::closed(Subject::Durable, &Tally::default());
        assert_eq!(measured.held(), None);
        let held = |tenth: u64| Held {
            answered: usize::try_from(tenth).unwrap() * 5_000,
            rss_bytes: 100 + tenth,
        };
        measured.held = (1..=9).map(held).collect();
        assert_eq!(measured.held(), None, "too few to say anything");
        measured.held = (1..=20).map(held).collect();
        assert_eq!(measured.held(), Some([102, 110, 120]));
    }

    #[test]
    fn a_refusal_is_work_too() {
        let tally = Tally {
            wall: Duration::from_secs(1),
            cpu: Duration::from_millis(4),
            latencies: vec![Duration::from_millis(1); 3],
            refused: 1,
            ..Tally::default()
        };
        let found = Measured::closed(Subject::Cfssl, &tally);
        assert!((found.cpu_us - 1000.0).abs() < 0.01, "{found:?}");
        assert!((found.per_second - 3.0).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let measured = |subject, cpu_us| Measured {
            subject,
            per_second: 1e6 / cpu_us,
            cpu_us,
            latency: None,
            open: None,
            alone: None,
            rss_bytes_warm: None,
            rss_bytes_max: None,
            held: Vec::new(),
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
        let ratio = durable.cpu_ratio_to_crypto_bound.unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (0.4, 0.5, 0.5));
        assert_eq!(all.len(), 2);
    }
}
