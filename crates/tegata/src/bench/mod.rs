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
mod issue;
mod load;
pub mod nothing;
mod ocsp;
mod overload;
mod peers;
mod plant;
mod plot;
mod preload;
mod renew;
mod report;
mod requests;
mod served;
mod subject;
mod tls;

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::cli::bench::{Bench, BenchWhat};
use crate::fault::{Fault, Outcome};
use crate::files;
use bed::Bed;

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
        BenchWhat::Overload => overload::run(args, &place),
    };
    done.map_err(|fault| {
        place.kept = true;
        let (dir, mend) = (place.dir.display(), fault.mend);
        let mend = format!("{mend} What there was, logs too, is left in {dir}.");
        Fault { mend, ..fault }
    })
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
