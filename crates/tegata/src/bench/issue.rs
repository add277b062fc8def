//! `tegata bench issue`: certificates, beside what a CA cannot do without and beside other CAs.

use super::bed::{Bed, Found, zeros};
use super::check::{Certificates, refused};
use super::figures::{Measured, Round};
use super::load::{Driven, Refusals, Target};
use super::peers::{self, Peer};
use super::plant::{self, Nursery, Plant};
use super::preload::{self, Preload};
use super::report::{Aim, Goal, beside, within};
use super::requests::{self, Reader, Request, Spool, certificate_in, issue_to};
use super::served::{self, Served};
use super::subject::Subject;
use super::{PKIXCMP, bound, check, odd, plot};
use crate::cli::bench::Bench;
use crate::config;
use crate::fault::{Fault, Outcome};
use crate::roles::ca;

/// Length of the answers of the server that does nothing, bytes: that of a real one.
pub const ANSWER_LEN_BYTES: usize = 1_900;

/// Whether `--only` names what a run with these options measures.
///
/// # Errors
/// A name of nothing, or of what another option is needed for.
pub fn check_only(args: &Bench) -> Outcome<()> {
    let mut subjects = OURS.to_vec();
    subjects.extend(args.preload.map(|_| Subject::Preloaded));
    subjects.extend(args.peers.iter().flat_map(|peer| peers::subjects(*peer)));
    let names: Vec<String> = subjects.into_iter().map(Subject::name).collect();
    match args.only.iter().find(|name| !names.contains(name)) {
        None => Ok(()),
        Some(name) => Err(Fault::usage(
            "bench-unknown-subject",
            format!("--only names {name:?}, which these options do not measure"),
            format!(
                "Name some of {}; there are more with --peers and --preload.",
                names.join(", ")
            ),
        )),
    }
}

/// What is measured without other CAs and a large store.
const OURS: [Subject; 6] = [
    Subject::CryptoBound,
    Subject::Nothing,
    Subject::Commit,
    Subject::Called,
    Subject::Memory,
    Subject::Durable,
];

/// Measures and keeps.
///
/// # Errors
/// An answer that is no certificate; files, processes, processors.
pub fn run(bed: &Bed<'_>) -> Outcome<()> {
    let many = bed.args.preload.map(usize::try_from);
    let many = many.transpose().map_err(odd)?;
    let more = many.map_or("", |_| preload::CONFIG);
    let nursery = Nursery::open(&bed.path("plant"), more)?;
    let devices = nursery.devices(bed.devices(), &bed.bar)?;
    let make = |name: &str, count| {
        requests::make(&bed.path(name), &devices, &nursery.order, count, &bed.bar)
    };
    let (spool, some) = make("requests", bed.all())?;
    let later = match (many, devices.first()) {
        (Some(_), Some(device)) => {
            // The rows of a large store are as long as this one's.
            issue_to(&nursery, device)?;
            let rounds = usize::try_from(bed.args.rounds()).map_err(odd)?;
            Some(make("requests-later", bed.all() * rounds)?.0)
        }
        _ => None,
    };
    let plant = nursery.close(devices.iter().map(|device| &device.identity));
    drop(devices);
    let preload = match (many, &later) {
        (Some(many), Some(later)) => Some(Preload::make(bed, &plant, later, many)?),
        _ => None,
    };

    let mut skipped = Vec::new();
    let mut others = Vec::new();
    for (number, peer) in bed.args.peers.iter().enumerate() {
        let dir = bed.path(&format!("peer-{number}"));
        others.extend(peers::prepare(*peer, &dir, &spool, &mut skipped)?);
    }
    let mut subjects = OURS.to_vec();
    if bed.place.memory.is_none() {
        subjects.retain(|subject| ![Subject::Called, Subject::Memory].contains(subject));
    }
    subjects.extend(preload.is_some().then_some(Subject::Preloaded));
    subjects.extend(others.iter().flat_map(|peer| peer.subjects()));
    if !bed.args.only.is_empty() {
        subjects.retain(|subject| bed.args.only.contains(&subject.name()));
    }
    let subjects = peers::startable(bed, &others, subjects, &mut skipped);
    if subjects.is_empty() {
        return Err(nothing_left(&skipped));
    }
    let mut issue = Issue {
        bed,
        plant,
        spool,
        some,
        others,
        preload,
        sample: Vec::new(),
    };
    let rounds = bed.rounds(&subjects, |subject| Ok(vec![issue.measure(subject)?]))?;

    let dir = bed.path("sample");
    let preloaded = issue.preload.take();
    let preloaded = preloaded.map(|preload| preload.ask(bed, &issue.plant.issuing));
    let preloaded = preloaded.transpose()?;
    let pairs = [
        (Subject::Preloaded, Subject::Durable),
        (Subject::Memory, Subject::Cfssl),
        (Subject::Durable, Subject::CfsslSqlite),
        (Subject::Durable, Subject::StepCa),
    ];
    let ratio = |subject| {
        within(&rounds, |round| {
            Some(round.of(Subject::CryptoBound)?.cpu_us / round.of(subject)?.cpu_us)
        })
    };
    // By processor time: throughput has the client's and the disk's in it.
    let times = |ours, peer| {
        within(&rounds, |round| {
            Some(round.of(peer)?.cpu_us / round.of(ours)?.cpu_us)
        })
    };
    let alone = within(&rounds, |round| {
        let (ours, peer) = (round.of(Subject::Durable)?, round.of(Subject::CfsslSqlite)?);
        Some(ours.alone?.p50_us / peer.alone?.p50_us)
    });
    let mut found = Found {
        ratio_to_crypto_bound: ratio(Subject::Durable),
        beside: beside(&rounds, &pairs),
        targets: vec![
            Goal::new(
                "processor time of cfssl ÷ ours, neither keeps anything on a disk",
                Aim::AtLeast(3.0),
                times(Subject::Memory, Subject::Cfssl),
            ),
            Goal::new(
                "processor time of cfssl with SQLite ÷ ours, durable",
                Aim::AtLeast(6.0),
                times(Subject::Durable, Subject::CfsslSqlite),
            ),
            Goal::new(
                "processor time of step-ca ÷ ours, durable",
                Aim::AtLeast(12.0),
                times(Subject::Durable, Subject::StepCa),
            ),
            Goal::new(
                "one client, durable: our median ÷ that of cfssl with SQLite",
                Aim::AtMost(0.6),
                alone,
            ),
            Goal::new(
                "bound ÷ CPU, store in memory",
                Aim::AtLeast(0.65),
                ratio(Subject::Memory),
            ),
            Goal::new(
                "bound ÷ CPU, store on the disk",
                Aim::AtLeast(0.55),
                ratio(Subject::Durable),
            ),
            Goal::new(
                "99 % at a fixed rate, store on the disk, ms",
                Aim::AtMost(10.0),
                within(&rounds, |round| {
                    let open = round.of(Subject::Durable)?.open?;
                    Some(open.latency.p99_us / 1_000.0)
                }),
            ),
            Goal::new(
                "most memory of the server, MiB",
                Aim::AtMost(300.0),
                within(&rounds, |round| {
                    mebibytes(round.of(Subject::Durable)?.rss_bytes_max?)
                }),
            ),
            Goal::new(
                "memory at the end of the closed loop ÷ at half of it",
                Aim::AtMost(1.15),
                within(&rounds, |round| {
                    let [_, half, end] = round.of(Subject::Durable)?.held()?;
                    Some(mebibytes(end)? / mebibytes(half)?)
                }),
            ),
        ],
        verified_with_openssl: check::with_openssl(&issue.plant, &issue.sample, &dir)?,
        skipped,
        notes: rounds.iter().filter_map(memory_note).collect(),
        preloaded: None,
    };
    if let Some(preloaded) = preloaded {
        let of_empty = |round: &Round| {
            Some(round.of(Subject::Durable)?.cpu_us / round.of(Subject::Preloaded)?.cpu_us)
        };
        let what = "CPU with an empty store ÷ CPU with the large one";
        let goal = Goal::new(what, Aim::AtLeast(0.9), within(&rounds, of_empty));
        found.targets.push(goal);
        found.targets.extend(preloaded.goals());
        found.notes.push(preloaded.note());
        found.preloaded = Some(preloaded);
    }
    let results = bed.results("issue", rounds, found);
    let plot = plot::svg(&results);
    bed.keep(&results, Some(plot))
}

/// What was to be measured is not to be had here.
fn nothing_left(skipped: &[String]) -> Fault {
    let why = skipped.join("; ");
    Fault::environment(
        "bench-nothing-left",
        format!("nothing that --only names can be measured here: {why}"),
        "Provide what is missing, or name others.",
    )
}

fn mebibytes(bytes: u64) -> Option<f64> {
    let kibibytes = u32::try_from(bytes / 1024).ok()?;
    Some(f64::from(kibibytes) / 1024.0)
}

/// The CA's memory over a long round.
fn memory_note(round: &Round) -> Option<String> {
    let durable = round.of(Subject::Durable)?;
    let [tenth, half, end] = durable.held()?.map(mebibytes);
    let most = mebibytes(durable.rss_bytes_max?)?;
    Some(format!(
        "Memory, store on the disk: {:.0} MiB after the first tenth of the closed loop, {:.0} after half, {:.0} at its \
         end; {most:.0} at most, the open loop too.",
        tenth?, half?, end?
    ))
}

/// What one run needs.
struct Issue<'a> {
    bed: &'a Bed<'a>,
    plant: Plant,
    spool: Spool,
    /// The first requests in parts, for the bound.
    some: Vec<Request>,
    others: Vec<Box<dyn Peer>>,
    preload: Option<Preload>,
    /// A few certificates of each server, for another implementation to verify.
    sample: Vec<Vec<u8>>,
}

impl Issue<'_> {
    /// Runs a subject once.
    fn measure(&mut self, subject: Subject) -> Outcome<Measured> {
        let (bed, count) = (self.bed, self.bed.count());
        let cpu = bed.cpus.server;
        let dir = bed.path("run");
        match subject {
            Subject::CryptoBound => {
                let requests = self.some.get(..count).unwrap_or(&self.some);
                let took = bound::crypto(cpu, requests)?;
                Ok(Measured::alone(subject, took, requests.len()))
            }
            Subject::Commit => {
                served::copy(&self.plant.dir.join("store"), &dir)?;
                let path = dir.join("ca.db");
                // Made before the clock runs, so no more than fit.
                let count = count.min(requests::BOUND_MAX);
                let took = bound::commit(cpu, &self.plant, &path, count, bed.clients())?;
                Ok(Measured::alone(subject, took, count))
            }
            Subject::Nothing => {
                let server = Served::nothing(&self.plant.dir, dir, cpu, ANSWER_LEN_BYTES)?;
                let target = target(&server, "/", PKIXCMP, Refusals::Fault);
                bed.loops(
                    subject,
                    &server,
                    &target,
                    &mut self.spool.read()?,
                    &mut zeros,
                )
            }
            Subject::Called => {
                let memory = bed.place.memory.as_ref().map(|memory| memory.join("run"));
                let dir = memory.ok_or_else(|| odd("there is no file system in memory"))?;
                served::copy(&self.plant.dir, &dir)?;
                let issuer = ca::issuer(&config::load(&dir.join("tegata.toml"))?)?;
                // Read before the clock runs, so no more than fit.
                let count = count.min(requests::BOUND_MAX);
                let took = bound::called(cpu, &issuer, &mut self.spool.read()?, count)?;
                Ok(Measured::alone(subject, took, count))
            }
            Subject::Memory | Subject::Durable => {
                let dir = match (subject, &bed.place.memory) {
                    (Subject::Memory, Some(memory)) => memory.join("run"),
                    _ => dir,
                };
                let server = Served::ca(&self.plant.dir, dir, cpu)?;
                let asks = &mut self.spool.read()?;
                certificates(bed, subject, &server, asks, &mut self.sample)
            }
            Subject::Preloaded => {
                let preload = self.preload.as_mut();
                let preload = preload.ok_or_else(|| odd("there is no large store"))?;
                let (server, asks) = preload.start(cpu)?;
                certificates(bed, subject, &server, asks, &mut self.sample)
            }
            _ => {
                let peer = self
                    .others
                    .iter()
                    .find(|peer| peer.subjects().contains(&subject));
                let peer = peer.ok_or_else(|| odd("the other CA is gone"))?.as_ref();
                let (server, target) = peer.start(subject, dir, cpu)?;
                let mut check = |_: usize, driven: &Driven| peers::check(peer, subject, driven);
                bed.loops(subject, &server, &target, &mut peer.requests()?, &mut check)
            }
        }
    }
}

/// Certificates from a running CA; each answer must have another one, of its request's key; a few go into the
/// sample.
///
/// # Errors
/// An answer that has none.
pub fn certificates(
    bed: &Bed<'_>,
    subject: Subject,
    server: &Served,
    asks: &mut Reader,
    sample: &mut Vec<Vec<u8>>,
) -> Outcome<Measured> {
    let path = format!("/.well-known/cmp/p/{}", plant::PROFILE);
    let target = target(server, &path, PKIXCMP, Refusals::Fault);
    let mut seen = Certificates::default();
    let mut keys = asks.keys(requests::key_in)?;
    let every = bed.all().div_ceil(4);
    let mut check = |from: usize, driven: &Driven| {
        let bodies = driven.bodies();
        let all = bodies.map(|body| certificate_in(body).map_err(refused));
        for (number, der) in (from..).zip(seen.each(all, &mut keys)?) {
            if number.is_multiple_of(every) {
                sample.push(der);
            }
        }
        Ok(())
    };
    bed.loops(subject, server, &target, asks, &mut check)
}

/// Where requests go.
pub fn target(
    server: &Served,
    path: &str,
    content_type: &'static str,
    refusals: Refusals,
) -> Target {
    Target {
        address: server.address,
        path: path.to_owned(),
        content_type,
        refusals,
        tls: None,
    }
}
