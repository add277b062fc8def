//! Results: as they are kept, and as people read them.

use serde::Serialize;

use super::figures::{Machine, Measured, Round, Spread, Summary, milliseconds};
use super::preload::Preloaded;
use super::subject::Subject;
use crate::cli::show;

/// One subject beside another. Ratios are taken within each round; above 1 the first is better.
#[derive(Debug, Clone, Serialize)]
pub struct Beside {
    /// Ours.
    pub ours: Subject,
    /// What it is beside.
    pub peer: Subject,
    /// Its processor time for each, divided by ours.
    pub cpu: Spread,
    /// Our throughput, divided by its.
    pub throughput: Spread,
    /// Its median of latency, divided by ours.
    pub p50: Option<Spread>,
}

/// Each pair of which both were measured.
#[must_use]
pub fn beside(rounds: &[Round], pairs: &[(Subject, Subject)]) -> Vec<Beside> {
    let one = |(ours, peer): &(Subject, Subject)| {
        let spread = |value: &dyn Fn(&Measured, &Measured) -> Option<f64>| {
            within(rounds, |round| value(round.of(*ours)?, round.of(*peer)?))
        };
        Some(Beside {
            ours: *ours,
            peer: *peer,
            cpu: spread(&|ours, peer| Some(peer.cpu_us / ours.cpu_us))?,
            throughput: spread(&|ours, peer| Some(ours.per_second / peer.per_second))?,
            p50: spread(&|ours, peer| Some(peer.latency?.p50_us / ours.latency?.p50_us)),
        })
    };
    pairs.iter().filter_map(one).collect()
}

/// A figure of each round that has it.
pub fn within(rounds: &[Round], value: impl Fn(&Round) -> Option<f64>) -> Option<Spread> {
    Spread::of(rounds.iter().filter_map(value))
}

/// What is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// As much or more.
    AtLeast(f64),
    /// As much or less.
    AtMost(f64),
}

/// A target, and how near the run came. Missing one fails no run: it depends on the machine.
#[derive(Debug, Clone, Serialize)]
pub struct Goal {
    /// What is measured, with its unit.
    pub what: &'static str,
    /// What is aimed at.
    #[serde(flatten)]
    pub aim: Aim,
    /// What was found.
    pub found: Spread,
    /// Whether the median is what is aimed at.
    pub met: bool,
}

impl Goal {
    /// A target beside a figure; `None` where that was not measured.
    #[must_use]
    pub fn new(what: &'static str, aim: Aim, found: Option<Spread>) -> Option<Self> {
        let found = found?;
        let met = match aim {
            Aim::AtLeast(limit) => found.median >= limit,
            Aim::AtMost(limit) => found.median <= limit,
        };
        Some(Self {
            what,
            aim,
            found,
            met,
        })
    }

    fn line(&self) -> String {
        let [aim, found] = self.words();
        let (what, verdict) = (self.what, self.verdict());
        format!("Target {verdict}: {what}: {found}, to be {aim}.")
    }

    fn verdict(&self) -> &'static str {
        if self.met { "met" } else { "missed" }
    }

    /// What is aimed at, and what was found.
    fn words(&self) -> [String; 2] {
        let (word, limit) = match self.aim {
            Aim::AtLeast(limit) => ("at least", limit),
            Aim::AtMost(limit) => ("at most", limit),
        };
        let digits = if limit < 100.0 { 2 } else { 0 };
        [format!("{word} {limit}"), spread(self.found, digits)]
    }
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
    /// The headline, where there is a bound: processor time of the cryptography alone divided by that of
    /// the server with its store on the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_to_crypto_bound: Option<Spread>,
    /// Each subject over all rounds.
    pub subjects: Vec<Summary>,
    /// Subjects beside each other.
    pub beside: Vec<Beside>,
    /// Targets.
    pub targets: Vec<Goal>,
    /// Answers that `openssl` was asked about, and found good.
    pub verified_with_openssl: usize,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
    /// The large store, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preloaded: Option<Preloaded>,
    /// Each round as it was.
    pub rounds: Vec<Round>,
}

/// Median, and least to most.
fn spread(of: Spread, digits: usize) -> String {
    let Spread { min, median, max } = of;
    format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
}

/// A subject in a table.
fn cells(of: &Summary, label: String, cpu_us: String) -> [String; 8] {
    let ms = |spread: Option<Spread>| spread.map_or(String::new(), |s| milliseconds(s.median));
    let mib = |bytes: u64| format!("{} MiB", bytes / (1024 * 1024));
    let ratio = of.cpu_ratio_to_crypto_bound;
    [
        label,
        format!("{:.0}", of.per_second.median),
        format!("{cpu_us} µs"),
        ratio.map_or(String::new(), |ratio| spread(ratio, 2)),
        ms(of.p50_us),
        ms(of.p99_us),
        ms(of.open_p99_us),
        of.rss_bytes_max.map_or(String::new(), mib),
    ]
}

/// The results as a page of Markdown has them: its tables are these.
#[must_use]
pub fn markdown(results: &Results) -> String {
    let Machine {
        processor,
        processors,
        system,
        load_before,
        ..
    } = &results.machine;
    let (what, requests, devices) = (results.what, results.requests, results.devices);
    let (rounds, clients) = (results.rounds.len(), results.clients);
    let mut lines = vec![
        format!(
            "`tegata bench {what}`, {processor}, {processors} processors, {system}, load {load_before:.1} before. \
             Medians of {rounds} rounds of {requests} requests of {devices} devices, {clients} connections; with least and most."
        ),
        String::new(),
        "|  | a second | CPU each | bound ÷ CPU | p50 | p99 | p99 at a fixed rate | memory | that rate: due / answered |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(results.subjects.iter().map(|s| {
        let label = format!("{}: {}", s.subject.label(), s.subject.about());
        let cells = cells(s, label, spread(s.cpu_us, 0));
        let rates = s
            .open_rates()
            .map_or(String::new(), |rates| rates.join(" / "));
        format!("| {} | {rates} |", cells.join(" | "))
    }));
    let behind = results.subjects.iter().filter_map(Summary::fell_behind);
    lines.extend(behind.flat_map(|line| [String::new(), line]));
    if !results.targets.is_empty() {
        let head = ["", "| target | to be | found | |", "|---|---|---|---|"];
        lines.extend(head.map(str::to_owned));
    }
    lines.extend(results.targets.iter().map(|goal| {
        let [aim, found] = goal.words();
        format!("| {} | {aim} | {found} | {} |", goal.what, goal.verdict())
    }));
    lines.push(String::new());
    lines.join("\n")
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
    let rows: Vec<[String; 8]> = results
        .subjects
        .iter()
        .map(|s| {
            let label = s.subject.label().to_owned();
            cells(s, label, format!("{:.0}", s.cpu_us.median))
        })
        .collect();
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
    let rates = results.subjects.iter().filter_map(Summary::open_rates);
    let rates: Vec<String> = rates.map(|rates| rates.join(" / ")).collect();
    show::lines([
        String::new(),
        format!(
            "P50 and P99: {} connections, each with one request at a time. P99 OPEN: requests sent when \
             they are due{}.",
            results.clients,
            match rates.as_slice() {
                [] => String::new(),
                rates => format!(
                    "; due / answered a second, in this order: {}",
                    rates.join(", ")
                ),
            }
        ),
        match results.verified_with_openssl {
            0 => "Medians of the rounds.".to_owned(),
            good => format!("Medians of the rounds; {good} answers verified with openssl."),
        },
    ]);
    show::lines(results.subjects.iter().filter_map(Summary::fell_behind));
    show::lines(results.beside.iter().map(|b| {
        let (cpu, times) = (spread(b.cpu, 2), spread(b.throughput, 2));
        let (ours, peer) = (b.ours.label(), b.peer.label());
        format!("{ours} beside {peer}, times: {cpu} by processor time, {times} by throughput.")
    }));
    let refusing = results.subjects.iter().filter(|s| s.refused > 0);
    show::lines(refusing.map(|s| {
        let (label, refused) = (s.subject.label(), s.refused);
        format!("{label}: {refused} requests were not answered 200; of its figures only processor time counts them, as answers.")
    }));
    show::lines(results.targets.iter().map(Goal::line));
    show::lines(results.notes.iter().cloned());
    show::lines(results.skipped.iter().map(|why| format!("Skipped: {why}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_by_the_median() {
        let found = Spread::of([1.0, 2.0, 9.0].into_iter());
        let met = |aim| Goal::new("x", aim, found).unwrap().met;
        assert!(met(Aim::AtLeast(2.0)) && !met(Aim::AtLeast(2.1)));
        assert!(met(Aim::AtMost(2.0)) && !met(Aim::AtMost(1.9)));
        assert!(Goal::new("x", Aim::AtMost(1.0), None).is_none());
        let goal = Goal::new("x", Aim::AtLeast(0.5), found).unwrap();
        let json = serde_json::to_value(&goal).unwrap();
        assert_eq!(json.get("at_least"), Some(&serde_json::json!(0.5)));
    }
}
