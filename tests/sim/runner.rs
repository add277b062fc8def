//! Plays operations, checks after each, and makes failures small.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::invariants;
use crate::ops::{self, Op};
use crate::prng::Prng;
use crate::world::{Tally, World};

/// One run: a seed for the world, and what happens in it. Operations keep their numbers when others
/// are left out.
pub struct Run {
    pub seed: u64,
    pub ops: Vec<(u32, Op)>,
}

/// A run that came to its end.
pub struct Done {
    pub log: Vec<String>,
    pub tally: Tally,
}

/// A run in which an invariant failed.
pub struct Failure {
    pub seed: u64,
    pub ops: Vec<(u32, Op)>,
    /// How many operations had happened.
    pub at: usize,
    pub invariant: String,
    pub why: String,
    pub log: Vec<String>,
    /// Operations of the run before it was made smaller.
    pub len: usize,
}

impl Run {
    pub fn new(seed: u64, ops: Vec<(u32, Op)>) -> Self {
        Self { seed, ops }
    }

    /// Plays it to its end or to the first failure.
    pub fn play(&self) -> Result<Done, Failure> {
        let mut log = Vec::new();
        let mut at = 0;
        let played = catch_unwind(AssertUnwindSafe(|| self.steps(&mut log, &mut at)));
        let (invariant, why) = match played {
            Ok(Ok(tally)) => return Ok(Done { log, tally }),
            Ok(Err((name, why))) => (name.to_owned(), why),
            Err(panic) => ("nothing_panics".to_owned(), panic_text(&*panic)),
        };
        Err(Failure {
            seed: self.seed,
            ops: self.ops.clone(),
            at,
            invariant,
            why,
            log,
            len: self.ops.len(),
        })
    }

    fn steps(
        &self,
        log: &mut Vec<String>,
        at: &mut usize,
    ) -> Result<Tally, (&'static str, String)> {
        let mut world = World::new(self.seed);
        log.push(format!("     {}", world.kind));
        for (n, (number, op)) in self.ops.iter().enumerate() {
            *at = n + 1;
            log.push(format!("{number:4} {op:?}"));
            // Chance within an operation does not depend on those before it, so that leaving some
            // out changes little.
            *world.rng.get_mut() = Prng::new(self.seed, &format!("operation {number}"));
            let came = world.run(*op);
            if let Some(line) = log.last_mut() {
                line.push_str(" => ");
                line.push_str(&came);
            }
            world.observe();
            invariants::check(&world)?;
        }
        log.push("     faults stop".into());
        world.settle();
        world.tally.server_deaths =
            world.ca.get_mut().deaths + world.tam.deaths + world.verifier.get_mut().deaths;
        log.push(format!("     {:?}", world.tally));
        invariants::check(&world)?;
        Ok(world.tally)
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "?".into())
}

/// Plays all runs, each in one thread, as many at once as there are processors.
pub fn all(runs: &[(u64, usize)]) -> Vec<Failure> {
    let next = Mutex::new(runs.iter());
    let failures = Mutex::new(Vec::new());
    let total = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let work = || {
                loop {
                    let Some((seed, len)) = next.lock().unwrap().next() else {
                        break;
                    };
                    match Run::new(*seed, ops::generate(*seed, *len)).play() {
                        Ok(done) => add(&mut total.lock().unwrap(), &done.tally),
                        Err(failure) => failures.lock().unwrap().push(failure),
                    }
                }
            };
            // The interpreter wants more stack than a test's thread has, without optimisation.
            let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
            builder.spawn_scoped(scope, work).unwrap();
        }
    });
    println!("{:?}", total.into_inner().unwrap());
    let mut failures = failures.into_inner().unwrap();
    failures.sort_by_key(|failure| failure.seed);
    failures
}

fn add(total: &mut Tally, one: &Tally) {
    total.packets += one.packets;
    total.installed += one.installed;
    total.issued += one.issued;
    total.confirmed += one.confirmed;
    total.signed += one.signed;
    total.refused += one.refused;
    total.server_deaths += one.server_deaths;
    total.device_deaths += one.device_deaths;
    total.settle_rounds = total.settle_rounds.max(one.settle_rounds);
    total.secrets += one.secrets;
    total.scanned += one.scanned;
}

/// Looks for fewer operations that show the same failure: first the shortest beginning, then
/// without ever smaller parts of it.
pub fn minimise(failure: Failure, budget: Duration) -> Failure {
    let until = Instant::now() + budget;
    let mut best = failure;
    best.ops.truncate(best.at);
    // A failure at the end may need less of a beginning.
    let (mut low, mut high) = (0, best.ops.len());
    while low < high && Instant::now() < until {
        let middle = (low + high) / 2;
        match again(&best, best.ops[..middle].to_vec()) {
            Some(smaller) => {
                best = smaller;
                high = best.ops.len().min(middle);
            }
            None => low = middle + 1,
        }
    }
    let mut part = best.ops.len() / 2;
    while part > 0 && Instant::now() < until {
        let mut from = 0;
        while from < best.ops.len() && Instant::now() < until {
            let mut fewer = best.ops.clone();
            fewer.drain(from..(from + part).min(best.ops.len()));
            match again(&best, fewer) {
                Some(smaller) => best = smaller,
                None => from += part,
            }
        }
        part /= 2;
    }
    best
}

/// The failure of these operations, if it is the same invariant.
fn again(failure: &Failure, ops: Vec<(u32, Op)>) -> Option<Failure> {
    let run = Run::new(failure.seed, ops);
    let played = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, || run.play()).unwrap();
        thread.join().unwrap()
    });
    let mut found = played.err()?;
    found.ops.truncate(found.at);
    found.len = failure.len;
    (found.invariant == failure.invariant).then_some(found)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "invariant_{} fails: {}", self.invariant, self.why)?;
        let (fewest, len, seed) = (self.ops.len(), self.len, self.seed);
        writeln!(
            f,
            "seed {seed}; {fewest} of its first {len} operations show it:"
        )?;
        for line in &self.log {
            writeln!(f, "  {line}")?;
        }
        write!(
            f,
            "again: TEGATA_SIM_SEED={seed} TEGATA_SIM_OPS={len} cargo test -p tegata-tests --test sim"
        )
    }
}

const STACK_BYTES: usize = 32 << 20;
