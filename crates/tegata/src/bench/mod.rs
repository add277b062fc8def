//! `tegata bench`: this machine's CA, measured beside what it cannot do without.
//!
//! Everything that is compared runs in the same round, on the same processor, one after the other in
//! an order that rotates: ratios within a round are worth more than times, which the machine's other
//! work changes. The client has a processor of its own, if there are two. Every answer is looked at
//! after the clock has stopped: an answer that is no certificate ends the run.

mod bound;
mod check;
mod cpus;
mod figures;
mod load;
pub mod nothing;
mod overload;
mod peers;
mod plant;
mod plot;
mod served;

use std::fmt::Display;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::bench::{Bench, BenchWhat};
use crate::cli::show;
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use cpus::{Cpus, pin};
use figures::{Machine, Measured, Results, Round, Subject};
use load::{Pace, Refusals, Target, drive};
use peers::Cfssl;
use plant::Plant;
use served::Served;

/// Share of the closed loop's throughput at which the open loop runs.
const OPEN_SHARE: f64 = 0.8;
/// One in so many requests warms a server up, before the clock starts.
const WARM_UP: usize = 10;
/// One in so many requests is for the open loop, beside those of the closed one.
const OPEN: usize = 2;
/// Length of the answers of the server that does nothing, bytes: that of a real one.
const ANSWER_LEN_BYTES: usize = 1_900;

/// Media type of our requests. Spec: RFC 9811 section 3.
const PKIXCMP: &str = "application/pkixcmp";

/// Something that has no business going wrong did.
fn odd(why: impl Display) -> Fault {
    Fault::failed(
        "bench-failed",
        format!("the bench cannot go on: {why}"),
        "Run it again; if it happens again, please report it.",
    )
}

/// `tegata bench`.
///
/// # Errors
/// An answer that is not what it must be; files, processes, processors.
pub fn run(args: &Bench) -> Outcome<()> {
    let mut place = Place::open(args)?;
    let done = match args.what {
        BenchWhat::Issue => issue(args, &place),
        BenchWhat::Overload => overload::run(args, &place),
    };
    done.map_err(|fault| {
        place.kept = true;
        let (dir, mend) = (place.dir.display(), fault.mend);
        let mend = format!("{mend} What there was, logs too, is left in {dir}.");
        Fault { mend, ..fault }
    })
}

/// `tegata bench issue`.
fn issue(args: &Bench, place: &Place) -> Outcome<()> {
    let results = in_place(args, place)?;
    keep(&args.out, &results)?;
    if args.json {
        return show::json(&results);
    }
    figures::table(&results);
    let out = args.out.display();
    show::lines([format!("Kept: {out}/issue.json (raw), {out}/issue.svg")]);
    Ok(())
}

/// Everything that is measured, in the directories of this run.
fn in_place(args: &Bench, place: &Place) -> Outcome<Results> {
    let cpus = Cpus::choose(args)?;
    let machine = machine(cpus);
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:40} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    let count = usize::try_from(args.requests).unwrap_or(usize::MAX);
    let all = count + count.div_ceil(WARM_UP) + count.div_ceil(OPEN);
    let devices = usize::try_from(args.devices).unwrap_or(usize::MAX);
    let plant = plant::make(&place.path("plant"), devices, all, &bar)?;
    pin(cpus.client)?;

    let mut skipped = Vec::new();
    let cfssl = match args.peers.first() {
        Some(peer) => peers::prepare(*peer, &place.path("cfssl"), &plant.requests, &mut skipped)?,
        None => None,
    };
    let mut run = Run {
        args,
        cpus,
        plant,
        cfssl,
        place,
        sample: Vec::new(),
    };
    let mut subjects = vec![Subject::CryptoBound, Subject::Nothing, Subject::Commit];
    if run.place.memory.is_some() {
        subjects.push(Subject::Memory);
    } else {
        skipped.push("the store in memory: /dev/shm is no tmpfs here".to_owned());
    }
    subjects.push(Subject::Durable);
    if let Some(cfssl) = &run.cfssl {
        subjects.push(Subject::Cfssl);
        subjects.extend(cfssl.sqlite.then_some(Subject::CfsslSqlite));
    }
    let rounds = usize::try_from(args.rounds).unwrap_or(1);
    bar.set_position(0);
    bar.set_length(u64::try_from(rounds * subjects.len()).unwrap_or(0));
    let mut results = Vec::new();
    for number in 0..rounds {
        if bar.is_hidden() {
            let _ = writeln!(anstream::stderr(), "round {} of {rounds}", number + 1);
        }
        let mut measured = Vec::new();
        let from = number % subjects.len();
        for subject in subjects.iter().cycle().skip(from).take(subjects.len()) {
            bar.set_message(format!("round {}: {}", number + 1, subject.label()));
            measured.push(run.measure(*subject)?);
            bar.inc(1);
        }
        results.push(Round { measured });
    }
    bar.finish_and_clear();

    let checked = check::with_openssl(&run.plant, &run.sample, &run.place.path("sample"))?;
    if checked.is_none() {
        skipped.push("verification with openssl: it is not installed".to_owned());
    }
    let subjects = figures::summaries(&results);
    let durable = subjects.iter().find(|s| s.subject == Subject::Durable);
    Ok(Results {
        version: env!("CARGO_PKG_VERSION"),
        what: "issue",
        machine,
        requests: args.requests,
        clients: args.clients,
        devices: args.devices,
        ratio_to_crypto_bound: durable
            .map(|s| s.cpu_ratio_to_crypto_bound)
            .ok_or_else(|| odd("nothing was measured"))?,
        subjects,
        beside: figures::beside(&results),
        verified_with_openssl: checked.unwrap_or(0),
        skipped,
        rounds: results,
    })
}

/// Writes the raw results.
fn keep(out: &Path, results: &Results) -> Outcome<()> {
    files::make_dir(out)?;
    let mut text = serde_json::to_string_pretty(results).map_err(odd)?;
    text.push('\n');
    let kept = [("issue.json", text), ("issue.svg", plot::svg(results))];
    for (name, text) in kept {
        files::replace(&out.join(name), text.as_bytes(), Readers::Everyone)?;
    }
    Ok(())
}

/// What one run needs.
struct Run<'a> {
    args: &'a Bench,
    cpus: Cpus,
    plant: Plant,
    cfssl: Option<Cfssl>,
    place: &'a Place,
    /// A few certificates of each server, for another implementation to verify.
    sample: Vec<Vec<u8>>,
}

impl Run<'_> {
    /// Runs a subject once.
    fn measure(&mut self, subject: Subject) -> Outcome<Measured> {
        let count = usize::try_from(self.args.requests).unwrap_or(usize::MAX);
        let clients = usize::try_from(self.args.clients).unwrap_or(1);
        let cpu = self.cpus.server;
        let dir = self.place.path("run");
        match subject {
            Subject::CryptoBound => {
                let requests = self.plant.requests.get(..count).unwrap_or_default();
                let took = bound::crypto(cpu, requests)?;
                Ok(Measured::alone(subject, took, count))
            }
            Subject::Commit => {
                served::copy(&self.plant.dir.join("store"), &dir)?;
                let path = dir.join("ca.db");
                let took = bound::commit(cpu, &self.plant, &path, count, clients)?;
                Ok(Measured::alone(subject, took, count))
            }
            Subject::Nothing => {
                let server = Served::nothing(&self.plant.dir, dir, cpu, ANSWER_LEN_BYTES)?;
                let bodies = self.plant.bodies();
                let (measured, _) = self.at(subject, &server, ("/", PKIXCMP), &bodies)?;
                Ok(measured)
            }
            Subject::Memory | Subject::Durable => {
                let dir = match (subject, &self.place.memory) {
                    (Subject::Memory, Some(memory)) => memory.join("run"),
                    _ => dir,
                };
                let server = Served::ca(&self.plant.dir, dir, cpu)?;
                let path = format!("/.well-known/cmp/p/{}", plant::PROFILE);
                let bodies = self.plant.bodies();
                let to = (&*path, PKIXCMP);
                let (measured, answers) = self.at(subject, &server, to, &bodies)?;
                let certificates = check::all(&answers)?;
                let some = certificates.into_iter().step_by(answers.len().div_ceil(4));
                self.sample.extend(some);
                Ok(measured)
            }
            Subject::Cfssl | Subject::CfsslSqlite => {
                let cfssl = self.cfssl.as_ref().ok_or_else(|| odd("cfssl is gone"))?;
                let server = cfssl.start(dir, cpu, subject == Subject::CfsslSqlite)?;
                let to = (peers::CFSSL_PATH, "application/json");
                let (measured, answers) = self.at(subject, &server, to, &cfssl.requests)?;
                peers::check(&answers)?;
                Ok(measured)
            }
        }
    }

    /// Warms a server up, then measures it in a closed loop and in an open one.
    fn at(
        &self,
        subject: Subject,
        server: &Served,
        (path, content_type): (&str, &'static str),
        bodies: &[Bytes],
    ) -> Outcome<(Measured, Vec<Bytes>)> {
        let count = usize::try_from(self.args.requests).unwrap_or(usize::MAX);
        let (warm_up, rest) = bodies.split_at(count.div_ceil(WARM_UP).min(bodies.len()));
        let (closed, open) = rest.split_at(count.min(rest.len()));
        let target = Target {
            address: server.address,
            path: path.to_owned(),
            content_type,
            refusals: match subject {
                Subject::Cfssl | Subject::CfsslSqlite => Refusals::Any,
                _ => Refusals::Fault,
            },
        };
        let clients = usize::try_from(self.args.clients).unwrap_or(1);
        let mut answers = drive(&target, warm_up, Pace::Closed(clients))?.answers;

        let before = server.usage()?;
        let driven = drive(&target, closed, Pace::Closed(clients))?;
        let used = server.usage()?.cpu.saturating_sub(before.cpu);
        let mut measured = Measured::closed(subject, &driven, used);
        answers.extend(driven.answers);

        let rate = match self.args.rate {
            Some(rate) => f64::from(rate),
            None => measured.per_second * OPEN_SHARE,
        };
        let driven = drive(&target, open, Pace::Open(rate))?;
        measured.open = figures::open(rate, &driven);
        measured.refused = measured.refused.saturating_add(driven.refused.len());
        answers.extend(driven.answers);
        measured.rss_bytes_max = Some(server.usage()?.rss_bytes_max);
        Ok((measured, answers))
    }
}

/// Directories of a run; removed at its end if all was well.
struct Place {
    dir: PathBuf,
    /// A directory in memory, where there is one.
    memory: Option<PathBuf>,
    /// After a fault.
    kept: bool,
}

impl Place {
    fn open(args: &Bench) -> Outcome<Self> {
        let mut tag = [0; 4];
        getrandom::fill(&mut tag).map_err(odd)?;
        let name = format!("tegata-bench-{}", hex::encode(tag));
        let dir = args
            .dir
            .clone()
            .unwrap_or_else(std::env::temp_dir)
            .join(&name);
        files::make_dir(&dir)?;
        let shm = Path::new("/dev/shm");
        let in_memory = rustix::fs::statfs(shm).is_ok_and(|fs| fs.f_type == TMPFS_MAGIC);
        let memory = in_memory.then(|| shm.join(&name));
        let place = Self {
            dir,
            memory,
            kept: false,
        };
        if let Some(memory) = &place.memory {
            files::make_dir(memory)?;
        }
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        if let Some(memory) = &self.memory {
            let _ = std::fs::remove_dir_all(memory);
        }
    }
}

/// What statfs says of a tmpfs.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

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
