//! What every bench has in common: rounds that rotate, servers warmed up and driven in two loops.

use std::io::Write as _;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use super::cpus::{Cpus, pin};
use super::figures::{self, Machine, Measured, Round, Spread, Tally};
use super::kept;
use super::load::{Ask, Connected, Driven, Pace, Target};
use super::preload::Preloaded;
use super::report::{self, Beside, Goal, Results};
use super::served::Served;
use super::subject::Subject;
use super::{Place, odd};
use crate::cli::bench::Bench;
use crate::cli::show;
use crate::fault::Outcome;
use crate::files::{self, Readers};

/// Share of the closed loop's throughput at which the open loop runs.
pub const OPEN_SHARE: f64 = 0.8;
/// One in so many requests warms a server up, before the clock starts.
pub const WARM_UP: usize = 10;
/// One in so many requests is for the open loop, beside those of the closed one.
pub const OPEN: usize = 2;
/// One in so many requests is for one client alone.
const ALONE: usize = 10;
/// Most requests in memory at a time, with their answers; while the next ones come the clock stands, and the server's
/// memory is looked at.
const PIECE: usize = 5_000;

/// The bench of one run.
pub struct Bed<'a> {
    /// What was asked for.
    pub args: &'a Bench,
    /// Its directories.
    pub place: &'a Place,
    /// Who runs where.
    pub cpus: Cpus,
    /// For people who wait.
    pub bar: ProgressBar,
    machine: Machine,
}

/// Requests in their order, made or read when they are due.
pub trait Asks {
    /// The next ones, at most so many; fewer where there are no more.
    ///
    /// # Errors
    /// They cannot be made.
    fn take_some(&mut self, at_most: usize) -> Outcome<Vec<Ask>>;
}

impl<I: Iterator<Item = Ask>> Asks for I {
    fn take_some(&mut self, at_most: usize) -> Outcome<Vec<Ask>> {
        Ok(self.take(at_most).collect())
    }
}

/// Looks at answers when their clock has stopped: the number of the first request of a piece, and what
/// came of it.
pub type Check<'a> = &'a mut dyn FnMut(usize, &Driven) -> Outcome<()>;

impl<'a> Bed<'a> {
    /// A bench with nothing on it.
    ///
    /// # Errors
    /// Processors that this process may not use.
    pub fn new(args: &'a Bench, place: &'a Place) -> Outcome<Self> {
        let cpus = Cpus::choose(args)?;
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{msg:40} {wide_bar} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        Ok(Self {
            args,
            place,
            cpus,
            bar,
            machine: machine(cpus),
        })
    }

    /// Requests of a closed loop.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::try_from(self.args.requests).unwrap_or(usize::MAX)
    }

    /// Requests that one subject of one round needs: to warm up, for the closed loop, for the open one.
    #[must_use]
    pub fn all(&self) -> usize {
        let parts = [1, WARM_UP, OPEN, ALONE];
        parts.iter().map(|part| self.count().div_ceil(*part)).sum()
    }

    /// Registered devices.
    #[must_use]
    pub fn devices(&self) -> usize {
        usize::try_from(self.args.devices).unwrap_or(1)
    }

    /// Connections of the closed loop.
    #[must_use]
    pub fn clients(&self) -> usize {
        usize::try_from(self.args.clients()).unwrap_or(1)
    }

    /// A directory of this run.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    /// Runs every subject once in each round, in an order that rotates, from the client's processor.
    ///
    /// # Errors
    /// What `measure` says.
    pub fn rounds(
        &self,
        subjects: &[Subject],
        mut measure: impl FnMut(Subject) -> Outcome<Vec<Measured>>,
    ) -> Outcome<Vec<Round>> {
        pin(self.cpus.client)?;
        let rounds = usize::try_from(self.args.rounds()).unwrap_or(1);
        self.bar.set_position(0);
        self.bar
            .set_length(u64::try_from(rounds * subjects.len()).unwrap_or(0));
        let mut all = Vec::with_capacity(rounds);
        for number in 0..rounds {
            if self.bar.is_hidden() {
                let _ = writeln!(anstream::stderr(), "round {} of {rounds}", number + 1);
            }
            let mut measured = Vec::new();
            let from = number % subjects.len().max(1);
            for subject in subjects.iter().cycle().skip(from).take(subjects.len()) {
                let message = format!("round {}: {}", number + 1, subject.label());
                self.bar.set_message(message);
                measured.extend(measure(*subject)?);
                self.bar.inc(1);
            }
            all.push(Round { measured });
        }
        self.bar.finish_and_clear();
        Ok(all)
    }

    /// Warms a server up, then measures it in a closed loop and in an open one; what people compare for one
    /// client alone, by one client too.
    ///
    /// # Errors
    /// An answer that is none, or that `check` refuses.
    pub fn loops(
        &self,
        subject: Subject,
        server: &Served,
        target: &Target,
        asks: &mut dyn Asks,
        check: Check<'_>,
    ) -> Outcome<Measured> {
        let count = self.count();
        let closed = Pace::Closed(self.clients());
        let mut from = 0;
        let warm_up = count.div_ceil(WARM_UP);
        self.sent(server, target, asks, (from, warm_up, closed), check)?;
        from += warm_up;
        let warm = server.usage()?.rss_bytes_max;
        let tally = self.sent(server, target, asks, (from, count, closed), check)?;
        from += count;
        let mut measured = Measured::closed(subject, &tally);

        let rate = match self.args.rate {
            Some(rate) => f64::from(rate),
            None => measured.per_second * OPEN_SHARE,
        };
        let open = (from, count.div_ceil(OPEN), Pace::Open(rate));
        let tally = self.sent(server, target, asks, open, check)?;
        measured.open = figures::open(rate, &tally);
        measured.refused = measured.refused.saturating_add(tally.refused);
        if matches!(subject, Subject::Durable | Subject::CfsslSqlite) {
            from += count.div_ceil(OPEN);
            let alone = (from, count.div_ceil(ALONE), Pace::Closed(1));
            let tally = self.sent(server, target, asks, alone, check)?;
            measured.alone = figures::latency(&tally.latencies);
            measured.refused = measured.refused.saturating_add(tally.refused);
        }
        measured.rss_bytes_warm = Some(warm);
        measured.rss_bytes_max = Some(server.usage()?.rss_bytes_max);
        Ok(measured)
    }

    /// Sends so many requests, the first of them that number, in pieces.
    ///
    /// # Errors
    /// As [`Bed::loops`].
    pub fn sent(
        &self,
        server: &Served,
        target: &Target,
        asks: &mut dyn Asks,
        (from, count, pace): (usize, usize, Pace),
        check: Check<'_>,
    ) -> Outcome<Tally> {
        let mut tally = Tally::default();
        let mut done = 0;
        while done < count {
            let some = asks.take_some(PIECE.min(count - done))?;
            let number = some.len();
            if number == 0 {
                return Err(odd("there are fewer requests than are to be sent"));
            }
            let connected = Connected::open(target, some, pace)?;
            let before = server.usage()?;
            let driven = connected.drive()?;
            let after = server.usage()?;
            let used = after.cpu.saturating_sub(before.cpu);
            tally.add(&driven, used, after.rss_bytes);
            check(from + done, &driven)?;
            done += number;
        }
        Ok(tally)
    }

    /// What is kept of a run.
    #[must_use]
    pub fn results(&self, what: &'static str, rounds: Vec<Round>, found: Found) -> Results {
        let (ratio, checked) = (found.ratio_to_crypto_bound, found.verified_with_openssl);
        let mut skipped = found.skipped;
        skipped.extend(self.place.no_memory.clone());
        if checked.is_none() {
            skipped.push(
                "verification with openssl: it is not installed, or does not answer".to_owned(),
            );
        }
        Results {
            version: env!("CARGO_PKG_VERSION"),
            what,
            machine: self.machine.clone(),
            requests: self.args.requests,
            clients: self.args.clients(),
            devices: self.args.devices,
            ratio_to_crypto_bound: ratio,
            subjects: figures::summaries(&rounds),
            beside: found.beside,
            targets: found.targets.into_iter().flatten().collect(),
            verified_with_openssl: checked.unwrap_or(0),
            skipped,
            notes: found.notes,
            preloaded: found.preloaded,
            rounds,
        }
    }

    /// Writes the raw results, and says them.
    ///
    /// # Errors
    /// Files.
    pub fn keep(&self, results: &Results, plot: Option<String>) -> Outcome<()> {
        let mut text = serde_json::to_string_pretty(results).map_err(odd)?;
        text.push('\n');
        let stem = kept::stem(self.args);
        let mut kept = vec![
            (format!("{stem}.json"), text),
            (format!("{stem}.md"), report::markdown(results)),
        ];
        kept.extend(plot.map(|plot| (format!("{stem}.svg"), plot)));
        // What hours have measured is shown even if it cannot be kept.
        let kept = self.write(kept);
        if self.args.json {
            show::json(results)?;
            return kept.map(drop);
        }
        report::table(results);
        show::lines([format!("Kept: {}", kept?)]);
        Ok(())
    }

    /// Writes files, each with its name, where the command line says; gives where they are.
    ///
    /// # Errors
    /// Files.
    pub fn write(&self, kept: Vec<(String, String)>) -> Outcome<String> {
        let out = &self.args.out;
        files::make_dir(out)?;
        let mut names = Vec::new();
        for (name, text) in kept {
            let path = out.join(name);
            files::replace(&path, text.as_bytes(), Readers::Everyone)?;
            names.push(path.display().to_string());
        }
        Ok(names.join(", "))
    }

    /// Where it is measured.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }
}

/// What a bench finds beside its rounds.
#[derive(Debug, Default)]
pub struct Found {
    /// The headline, where there is a bound.
    pub ratio_to_crypto_bound: Option<Spread>,
    /// Subjects beside each other.
    pub beside: Vec<Beside>,
    /// Targets; `None` where the figure was not measured.
    pub targets: Vec<Option<Goal>>,
    /// Answers that openssl was asked about; `None` if it is not installed.
    pub verified_with_openssl: Option<usize>,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
    /// The large store, if there was one.
    pub preloaded: Option<Preloaded>,
}

/// Nothing is looked at: the answers are zeros.
///
/// # Errors
/// None.
pub fn zeros(_: usize, _: &Driven) -> Outcome<()> {
    Ok(())
}

fn machine(cpus: Cpus) -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|l| l.strip_prefix("model name"));
    let model = model.map(|l| l.trim_start_matches([' ', '\t', ':']).to_owned());
    let load = read("/proc/loadavg");
    let uname = rustix::system::uname();
    Machine {
        processor: model.unwrap_or_else(|| "a processor without a name".to_owned()),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        system: format!(
            "{} {}",
            uname.sysname().to_string_lossy(),
            uname.release().to_string_lossy()
        ),
        cpus,
        load_before: load
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0),
    }
}
