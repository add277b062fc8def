//! `tegata bench`: this machine's CA, measured beside what it cannot do without.
//!
//! Everything that is compared runs in the same round, on the same processor, one after the other in
//! an order that rotates: ratios within a round are worth more than times, which the machine's other
//! work changes. The client has a processor of its own, if there are two. Every answer is looked at
//! after the clock has stopped: an answer that is no certificate ends the run.

mod appraise;
mod attester;
mod bed;
mod bound;
mod check;
mod cpus;
mod database;
mod deliver;
mod figures;
mod flood;
mod hostile;
mod issue;
mod kept;
mod load;
pub mod nothing;
mod ocsp;
mod overload;
mod peers;
mod plant;
mod plot;
mod polite;
mod preload;
mod renew;
mod report;
mod requests;
mod served;
mod subject;
mod tls;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::bench::{Bench, BenchWhat};
use crate::fault::{EXIT_USAGE, Fault, Outcome};
use crate::http::descriptors;
use crate::{interrupt, supervise};
use bed::Bed;

/// Longest that a program may take that makes keys for a peer, or verifies what was issued.
const PROGRAM_LIMIT: Duration = Duration::from_secs(60);
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
/// An option that is of no use here; an answer that is not what it must be; files, processes, processors.
pub fn run(args: &Bench) -> Outcome<()> {
    if let Some((option, subjects)) = args.misplaced() {
        return Err(Fault::usage(
            "option-without-use",
            format!("{option} changes nothing about what is to be measured"),
            format!("Leave {option} away; it belongs to: {subjects}."),
        ));
    }
    if let Some(most) = args.too_many_devices() {
        return Err(Fault::usage(
            "too-many-devices",
            format!("this has at most {most} devices: their keys are in memory"),
            format!("Give --devices {most} or less."),
        ));
    }
    issue::check_only(args)?;
    check_files(args)?;
    kept::check(args)?;
    let mut place = Place::open(args)?;
    let bed = |place| Bed::new(args, place);
    let done = match args.what {
        BenchWhat::Issue => bed(&place).and_then(|bed| match &args.database {
            Some(address) => database::run(&bed, address),
            None if args.tls => tls::run(&bed),
            None => issue::run(&bed),
        }),
        BenchWhat::Renew => bed(&place).and_then(|bed| renew::run(&bed)),
        BenchWhat::Appraise => bed(&place).and_then(|bed| appraise::run(&bed)),
        BenchWhat::Deliver => bed(&place).and_then(|bed| deliver::run(&bed)),
        BenchWhat::Ocsp => bed(&place).and_then(|bed| ocsp::run(&bed)),
        BenchWhat::Overload => bed(&place).and_then(|bed| overload::run(&bed)),
    };
    done.map_err(|fault| {
        if fault.exit == EXIT_USAGE {
            return fault;
        }
        let fault = caused(fault, &place);
        let mend = format!("{} {}", fault.mend, place.keep());
        Fault { mend, ..fault }
    })
}

/// A fault as its cause has it: that a server has ended or a disk is full shows first in what a client hears.
fn caused(fault: Fault, place: &Place) -> Fault {
    if let Some(lost) = supervise::take_lost() {
        let because = Fault::failed(
            "process-ended",
            format!(
                "{} ended before it was told to ({})",
                lost.name, lost.status
            ),
            format!(
                "Its log is {}. Signal 9 that nobody sent is the kernel's, for want of memory.",
                lost.log.display()
            ),
        );
        return match lost.tail.is_empty() {
            true => because,
            false => because.with_excerpt(lost.tail),
        };
    }
    full(fault, place)
}

/// A fault as it is told where a file system is full.
fn full(fault: Fault, place: &Place) -> Fault {
    let told = [STORE_FULL, DISK_FULL].contains(&fault.code);
    let Some((dir, free)) = place.least_room() else {
        return fault;
    };
    if !told && free >= FULL_LEN_BYTES {
        return fault;
    }
    Fault::environment(
        DISK_FULL,
        format!(
            "the file system of {} is full, {} KiB are free: {}",
            dir.display(),
            free / 1024,
            fault.what
        ),
        "Free some space there, lower --requests or --preload, or give a --dir on another disk.",
    )
}

/// Whether client and servers may have as many files open as they have connections: else it shows in whatever cannot be
/// opened next.
fn check_files(args: &Bench) -> Outcome<()> {
    let connections = match args.what {
        BenchWhat::Overload => OVERLOAD_CONNECTIONS,
        _ => load::OPEN_CONNECTIONS.max(usize::try_from(args.clients()).unwrap_or(usize::MAX)),
    };
    let needed = u64::try_from(descriptors::needed(PORTS, connections)).unwrap_or(u64::MAX);
    match descriptors::raise(needed) {
        Some(limit) if limit < needed => Err(Fault::environment(
            "few-descriptors",
            format!(
                "this process may have {limit} files open (`ulimit -n`), and {needed} are needed"
            ),
            format!(
                "Raise the limit: `ulimit -n {needed}`, as root if it says that it may not (`ulimit -Hn`)."
            ),
        )),
        _ => Ok(()),
    }
}

/// Directories of a run; removed at its end if all was well.
struct Place {
    dir: PathBuf,
    /// A directory in memory, where there is one and the run has a use for it.
    memory: Option<PathBuf>,
    /// Why there is none although the run has a use for it.
    no_memory: Option<String>,
    /// After a fault.
    kept: bool,
}

impl Place {
    fn open(args: &Bench) -> Outcome<Self> {
        let mut tag = [0; 4];
        getrandom::fill(&mut tag).map_err(odd)?;
        let name = format!("tegata-bench-{}", hex::encode(tag));
        let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
        // It decides what is measured: one that is made here lies on whatever disk there is.
        if !parent.is_dir() {
            return Err(Fault::usage(
                "no-such-directory",
                format!("there is no directory {}", parent.display()),
                "Make it first, on the disk that is to be measured, or give another --dir.",
            ));
        }
        let dir = parent.join(&name);
        let shm = Path::new("/dev/shm");
        let (memory, no_memory) = match in_memory(args, shm) {
            Ok(wanted) => (wanted.then(|| shm.join(&name)), None),
            Err(why) => (None, Some(format!("the store in memory: {why}"))),
        };
        let place = Self {
            dir,
            memory,
            no_memory,
            kept: false,
        };
        let both = std::iter::once(&place.dir).chain(&place.memory);
        let both: Vec<PathBuf> = both.cloned().collect();
        interrupt::make_for_a_while(&both, args.json)?;
        Ok(place)
    }

    /// Leaves what there is, after a fault; says where.
    fn keep(&mut self) -> String {
        self.kept = true;
        // What a subject left in memory is named, for it takes memory until somebody removes it.
        let memory = self
            .memory
            .take_if(|memory| std::fs::remove_dir(memory).is_err());
        let memory = memory.map_or(String::new(), |memory| {
            format!(", and in {}, which takes memory", memory.display())
        });
        let dir = self.dir.display();
        format!("What there was, logs too, is left in {dir}{memory}.")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Of its directories the one whose file system has the least room, and how much that is, bytes.
    fn least_room(&self) -> Option<(&Path, u64)> {
        let both = std::iter::once(&self.dir).chain(&self.memory);
        let room = |dir: &PathBuf| {
            let fs = rustix::fs::statvfs(dir).ok()?;
            Some(fs.f_bavail.saturating_mul(fs.f_frsize))
        };
        let rooms = both.filter_map(|dir| Some((dir.as_path(), room(dir)?)));
        rooms.min_by_key(|(_, room)| *room)
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

/// Whether the run needs a directory in memory.
///
/// # Errors
/// Why it cannot have one.
fn in_memory(args: &Bench, shm: &Path) -> Result<bool, String> {
    let wanted = match args.what {
        BenchWhat::Issue => !args.tls && args.database.is_none(),
        BenchWhat::Appraise => true,
        _ => false,
    };
    if !wanted {
        return Ok(false);
    }
    let shown = shm.display();
    let fs = rustix::fs::statfs(shm).ok();
    let fs = fs.filter(|fs| fs.f_type == TMPFS_MAGIC);
    let fs = fs.ok_or_else(|| format!("{shown} is no tmpfs here"))?;
    let block = u64::try_from(fs.f_bsize).unwrap_or(0);
    let free = fs.f_bavail.saturating_mul(block);
    let needed = u64::from(args.requests)
        .saturating_mul(MEMORY_LEN_BYTES_EACH)
        .saturating_add(MEMORY_LEN_BYTES_MIN);
    if free < needed {
        let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
        return Err(format!(
            "{shown} has {} MiB free, and {} are needed",
            mib(free),
            mib(needed)
        ));
    }
    Ok(true)
}

/// A file system with less than that takes no answer more.
const FULL_LEN_BYTES: u64 = 256 * 1024;
/// What a server answers, and what a file says, where that is so.
const STORE_FULL: &str = "store-full";
const DISK_FULL: &str = "disk-full";
/// Ports of a server that is measured: one, and another for EST or for services.
const PORTS: usize = 2;
/// Connections that a server under overload has, by its configuration's default; the client's are fewer.
const OVERLOAD_CONNECTIONS: usize = 1_024;
/// Memory that a store of one round takes: for each request, and before the first.
const MEMORY_LEN_BYTES_EACH: u64 = 2_500;
const MEMORY_LEN_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// What statfs says of a tmpfs.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    #[test]
    fn a_full_store_names_its_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place {
            dir: dir.path().join("run"),
            memory: None,
            no_memory: None,
            kept: true,
        };
        files::make_dir(&place.dir).unwrap();
        let body = br#"{"title":"store full","type":"urn:tegata:problem:store-full"}"#;
        let answer = load::not_done(axum::http::StatusCode::SERVICE_UNAVAILABLE, body);
        let fault = full(answer, &place);
        assert_eq!(fault.code, DISK_FULL);
        assert!(
            fault.what.contains(place.dir.to_str().unwrap()),
            "{fault:?}"
        );
        assert!(!fault.mend.contains("--clients"), "{fault:?}");
    }
}
