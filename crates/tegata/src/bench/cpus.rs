//! Processors and clocks: who runs where, and what it cost.

use std::time::{Duration, Instant};

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use rustix::thread::CpuSet;
use serde::Serialize;

use super::odd;
use crate::cli::bench::Bench;
use crate::fault::{Fault, Outcome};

/// Where servers and client run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cpus {
    /// Processor of the servers, and of all that is measured without one.
    pub server: usize,
    /// Processor of the client.
    pub client: usize,
}

impl Cpus {
    /// As the command line says, else the first and the last that this process may use.
    ///
    /// # Errors
    /// A processor that this process may not use.
    pub fn choose(args: &Bench) -> Outcome<Self> {
        let allowed = rustix::thread::sched_getaffinity(None).map_err(odd)?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let first = usable.next().unwrap_or(0);
        let last = usable.next_back().unwrap_or(first);
        let chosen = Self {
            server: args.server_cpu.unwrap_or(first),
            client: args.client_cpu.unwrap_or(last),
        };
        for cpu in [chosen.server, chosen.client] {
            if cpu >= CpuSet::MAX_CPU || !allowed.is_set(cpu) {
                return Err(Fault::usage(
                    "no-such-cpu",
                    format!("this process may not run on processor {cpu}"),
                    "Choose --server-cpu and --client-cpu from what `taskset -pc $$` shows.",
                ));
            }
        }
        Ok(chosen)
    }

    /// Whether client and servers take each other's time.
    #[must_use]
    pub fn shared(self) -> bool {
        self.server == self.client
    }
}

/// Runs the calling thread, and those that it starts, on one processor.
///
/// # Errors
/// The kernel refuses.
pub fn pin(cpu: usize) -> Outcome<()> {
    let mut one = CpuSet::new();
    one.set(cpu);
    rustix::thread::sched_setaffinity(None, &one).map_err(odd)
}

/// What a piece of work in this process took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// By the clock on the wall.
    pub wall: Duration,
    /// Of processors, all threads of this process together.
    pub cpu: Duration,
}

/// Runs `work` on one processor, with nothing else going on in this process.
///
/// # Errors
/// What `work` says.
pub fn timed<T>(cpu: usize, work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<(T, Took)>
where
    T: Send,
{
    let on_it = || {
        pin(cpu)?;
        let (wall, before) = (Instant::now(), own_cpu());
        let out = work()?;
        let took = Took {
            wall: wall.elapsed(),
            cpu: own_cpu().saturating_sub(before),
        };
        Ok((out, took))
    };
    std::thread::scope(|scope| scope.spawn(on_it).join())
        .map_err(|_| odd("a thread of the bench ended early"))?
}

/// Does what is to be done before any clock runs, by as many threads as there are processors. Gives what came of it in
/// the order of the items.
///
/// # Errors
/// The first that `work` says.
pub fn by_all<T, R>(items: Vec<T>, work: impl Fn(T) -> Outcome<R> + Sync) -> Outcome<Vec<R>>
where
    T: Send,
    R: Send,
{
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let each = items.len().div_ceil(threads).max(1);
    let (mut items, work) = (items.into_iter(), &work);
    std::thread::scope(|scope| {
        let mut parts = Vec::with_capacity(threads);
        for _ in 0..threads {
            let part: Vec<T> = items.by_ref().take(each).collect();
            let done = move || part.into_iter().map(work).collect::<Outcome<Vec<R>>>();
            parts.push(scope.spawn(done));
        }
        let mut all = Vec::new();
        for part in parts {
            let done = part.join();
            all.extend(done.map_err(|_| odd("a thread of the bench ended early"))??);
        }
        Ok(all)
    })
}

/// Processor time of this process so far.
fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// What the kernel says of another process.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Memory that it has now, bytes.
    pub rss_bytes: u64,
    /// Most memory that it ever had, bytes.
    pub rss_bytes_max: u64,
}

impl Usage {
    /// Of the process with that id.
    ///
    /// # Errors
    /// It has ended, or /proc is not there.
    pub fn of(pid: u32) -> Outcome<Self> {
        let path = format!("/proc/{pid}/status");
        let status = std::fs::read_to_string(&path);
        let status = status.map_err(|e| odd(format!("cannot read {path}: {e}")))?;
        let memory = |name| {
            let found = memory_of(&status, name);
            found.ok_or_else(|| odd(format!("{path} says nothing that we understand")))
        };
        Ok(Self {
            cpu: cpu_of(pid)?,
            rss_bytes: memory("VmRSS:")?,
            rss_bytes_max: memory("VmHWM:")?,
        })
    }
}

/// Processor time of all threads of a process, those that ended included. What /proc says of it is in ticks of 10 ms:
/// too coarse for a server that needs microseconds for an answer.
fn cpu_of(pid: u32) -> Outcome<Duration> {
    let id = i32::try_from(pid).map_err(odd)?;
    let clock = clock_getcpuclockid(Pid::from_raw(id)).and_then(clock_gettime);
    clock
        .map(Duration::from)
        .map_err(|e| odd(format!("the processor time of process {pid}: {e}")))
}

/// `VmHWM:   12345 kB`
fn memory_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_proc() {
        let peak = |status| memory_of(status, "VmHWM:");
        assert_eq!(peak("VmPeak:\t 9 kB\nVmHWM:\t    2 kB\n"), Some(2048));
        assert_eq!(peak("VmPeak:\t 9 kB\n"), None);
        let own = Usage::of(std::process::id()).unwrap();
        assert!(own.rss_bytes > 1024 * 1024 && own.rss_bytes_max >= own.rss_bytes);
        assert!(own.cpu > Duration::ZERO && Usage::of(0).is_err());
    }

    #[test]
    fn what_all_do_comes_in_order() {
        let doubled = by_all((0..1_000).collect(), |n: u32| Ok(n * 2)).unwrap();
        assert_eq!(doubled, (0..2_000).step_by(2).collect::<Vec<_>>());
        assert!(by_all(Vec::<u32>::new(), Ok).unwrap().is_empty());
        let wrong = by_all(vec![1, 2, 3], |n| match n {
            2 => Err(odd("two")),
            n => Ok(n),
        });
        assert!(wrong.is_err());
    }
}
