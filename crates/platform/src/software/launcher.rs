//! Starts workers, and speaks for the instance in each.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tegata_tee::gp::consts::TEE_ERROR_TARGET_DEAD;
use tegata_tee::gp::host::{HostServices, SecretBytes, serve};
use tegata_tee::session::launch::{
    Entry, LaunchError, LaunchSpec, Launcher, Lifetime, Outcome, Panic, TaInstance,
};

use super::channel::{FRAME_LEN_BYTES_MAX, FromWorker, ToWorker};
use super::frames::{self, FrameIoError};
use super::identity::Helper;
use super::sandbox::probe::{Probe, ProbeOutcome};
use super::sandbox::{Account, NAMESPACES};
use super::{sys, worker};

/// How workers are made.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// First of the accounts that workers change to, one account for each running worker; only
    /// for root.
    pub first_account: Option<u32>,
    /// Most workers at once.
    pub workers_max: u32,
    /// A worker that is silent for this long is ended. It asks for cancellation many times a
    /// second while its TA runs, so silence means that it hangs.
    pub silence_max: Duration,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            first_account: None,
            workers_max: 32,
            silence_max: Duration::from_secs(30),
        }
    }
}

/// Figures about workers.
#[derive(Default)]
pub struct WorkerStats {
    /// Started since the start of `teed`.
    pub started: AtomicU64,
    /// Running now.
    pub running: AtomicU32,
    /// Spawn until ready, of the last one, in microseconds.
    pub spawn_ready_us: AtomicU64,
    /// Process ids of those that run now.
    pub pids: Mutex<BTreeSet<i32>>,
    /// The most resident memory that any of them had when it was looked at, in KiB.
    pub rss_peak_kib: AtomicU64,
    /// Who can look at their memory; nobody in tests.
    pub observer: OnceLock<Arc<Helper>>,
}

impl WorkerStats {
    /// Largest resident memory of the workers that run now, in KiB; remembers the most ever seen.
    pub fn measure(&self) -> u64 {
        let Some(observer) = self.observer.get() else {
            return 0;
        };
        let pids: Vec<i32> = lock(&self.pids).iter().copied().collect();
        let sizes = pids.iter().filter_map(|pid| observer.memory_kib(*pid));
        let (now, most) = sizes.fold((0, 0), |(now, most), (a, b)| (now.max(a), most.max(b)));
        self.rss_peak_kib.fetch_max(most, Ordering::Relaxed);
        now
    }
}

/// Starts one confined process for each instance of a TA.
pub struct ProcessLauncher {
    settings: WorkerSettings,
    slots: Arc<Mutex<BTreeSet<u32>>>,
    stats: Arc<WorkerStats>,
}

/// A worker that has said that it is confined.
pub struct Worker {
    child: sys::Child,
    stream: UnixStream,
    silence_max: Duration,
    /// Walls it could not put up.
    pub missing: Vec<String>,
    slot: u32,
    slots: Arc<Mutex<BTreeSet<u32>>>,
    stats: Arc<WorkerStats>,
}

impl ProcessLauncher {
    /// A launcher; starts nothing yet.
    #[must_use]
    pub fn new(settings: WorkerSettings) -> Self {
        Self {
            settings,
            slots: Arc::default(),
            stats: Arc::default(),
        }
    }

    /// Its figures.
    #[must_use]
    pub fn stats(&self) -> Arc<WorkerStats> {
        Arc::clone(&self.stats)
    }

    /// Starts a worker and waits until it is confined.
    ///
    /// # Errors
    /// [`LaunchError`]; no process is left then.
    pub fn spawn(&self) -> Result<Worker, LaunchError> {
        self.start(true)
    }

    /// Starts a worker whose filter of system calls is left out; it runs no TA.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    #[doc(hidden)]
    pub fn spawn_without_filter(&self) -> Result<Worker, LaunchError> {
        self.start(false)
    }

    fn start(&self, filter: bool) -> Result<Worker, LaunchError> {
        let begun = Instant::now();
        let slot = self.take_slot().ok_or(LaunchError::Resources)?;
        // From here on the slot is given back by dropping the guard or the worker.
        let guard = SlotGuard {
            slot,
            slots: &self.slots,
            armed: true,
        };
        let (ours, theirs) = UnixStream::pair().map_err(|e| start("socket pair", &e))?;
        let account = self.settings.first_account.map(|first| {
            let number = first.saturating_add(slot);
            Account {
                uid: number,
                gid: number,
            }
        });
        let child = spawn_with_fallback(account, filter, &OwnedFd::from(theirs))?;
        let mut guard = guard;
        guard.armed = false;
        self.stats.running.fetch_add(1, Ordering::Relaxed);
        lock(&self.stats.pids).insert(child.pid.as_raw_pid());
        let mut worker = Worker {
            child,
            stream: ours,
            silence_max: self.settings.silence_max,
            missing: Vec::new(),
            slot,
            slots: Arc::clone(&self.slots),
            stats: Arc::clone(&self.stats),
        };
        match worker.receive() {
            Ok(FromWorker::Ready { missing }) => {
                worker.missing = missing.into_iter().take(32).collect();
            }
            Ok(_) => {
                return Err(LaunchError::Start {
                    reason: "worker out of step".into(),
                });
            }
            Err(error) => {
                return Err(LaunchError::Start {
                    reason: format!("worker ended before it was confined: {error}"),
                });
            }
        }
        self.stats.started.fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.stats.spawn_ready_us.store(took, Ordering::Relaxed);
        Ok(worker)
    }

    fn take_slot(&self) -> Option<u32> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (0..self.settings.workers_max).find(|slot| !slots.contains(slot))?;
        slots.insert(free);
        Some(free)
    }
}

/// Asks for all namespaces, and for none where the kernel grants no such thing.
fn spawn_with_fallback(
    account: Option<Account>,
    filter: bool,
    channel: &OwnedFd,
) -> Result<sys::Child, LaunchError> {
    // Without root a new user namespace comes along: in it, the others can be had.
    let user = if account.is_some() {
        0
    } else {
        libc::CLONE_NEWUSER
    };
    let mut last = None;
    for namespaces in [NAMESPACES | user, 0] {
        let numbers = account.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |account| (account.uid.to_string(), account.gid.to_string()),
        );
        let namespaces_text = namespaces.to_string();
        let mut args = vec![
            "tegata-ta",
            worker::MARKER,
            &namespaces_text,
            &numbers.0,
            &numbers.1,
        ];
        if !filter {
            args.push(worker::WITHOUT_FILTER);
        }
        let args: Result<Vec<CString>, _> = args.into_iter().map(CString::new).collect();
        let args = args.map_err(|_| LaunchError::Start {
            reason: "arguments".into(),
        })?;
        let args: Vec<_> = args.iter().map(CString::as_c_str).collect();
        match sys::spawn_self(&args, namespaces, channel) {
            Ok(child) => return Ok(child),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) if error.raw_os_error() == Some(libc::EAGAIN) => Err(LaunchError::Resources),
        Some(error) => Err(start("new process", &error)),
        None => Err(LaunchError::Resources),
    }
}

fn start(what: &str, error: &std::io::Error) -> LaunchError {
    LaunchError::Start {
        reason: format!("{what}: {error}"),
    }
}

struct SlotGuard<'a> {
    slot: u32,
    slots: &'a Mutex<BTreeSet<u32>>,
    armed: bool,
}

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.slots
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&self.slot);
        }
    }
}

impl Worker {
    /// Its process id as the parent sees it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.pid.as_raw_pid()
    }

    /// Makes the worker try one thing; only before a TA was launched in it.
    ///
    /// # Errors
    /// [`FrameIoError::Closed`] if the attempt ended the worker.
    #[doc(hidden)]
    pub fn probe(&self, probe: Probe) -> Result<ProbeOutcome, FrameIoError> {
        self.send(&ToWorker::Probe(probe))?;
        match self.receive()? {
            FromWorker::Probed(outcome) => Ok(outcome),
            _ => Err(FrameIoError::Closed),
        }
    }

    /// Waits for the end of the worker and tells how it ended: `exit N` or `signal N`.
    #[doc(hidden)]
    #[must_use]
    pub fn fate(&self) -> String {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        use std::os::fd::AsFd;
        // NOWAIT leaves it to be collected by `drop`.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        match waitid(WaitId::PidFd(self.child.pidfd.as_fd()), options) {
            Ok(Some(status)) if status.dumped() => "core dump".into(),
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit {code}"),
                (_, Some(signal)) => format!("signal {signal}"),
                _ => "unknown".into(),
            },
            _ => "unknown".into(),
        }
    }

    fn send(&self, message: &ToWorker) -> Result<(), FrameIoError> {
        frames::send(&self.stream, message, FRAME_LEN_BYTES_MAX, self.silence_max)
    }

    fn receive(&self) -> Result<FromWorker, FrameIoError> {
        let silence = self.silence_max;
        frames::receive(&self.stream, FRAME_LEN_BYTES_MAX, Some(silence), silence)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
        use std::os::fd::AsFd;
        self.stats.measure();
        // By descriptor: it can never hit another process of the same number.
        let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
        let _ = waitid(
            WaitId::PidFd(self.child.pidfd.as_fd()),
            WaitIdOptions::EXITED,
        );
        self.slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.slot);
        lock(&self.stats.pids).remove(&self.child.pid.as_raw_pid());
        self.stats.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Launcher for ProcessLauncher {
    fn launch(
        &self,
        spec: &LaunchSpec,
        mut services: Box<dyn HostServices>,
    ) -> Result<Box<dyn TaInstance>, LaunchError> {
        let worker = self.spawn()?;
        let module = SecretBytes::new(spec.module.to_vec());
        let sent = worker.send(&ToWorker::Launch {
            signer: spec.ta.signer,
            uuid: spec.ta.uuid,
            module,
        });
        sent.map_err(|e| LaunchError::Start {
            reason: e.to_string(),
        })?;
        let lifetime = loop {
            match worker.receive() {
                Ok(FromWorker::Launched(lifetime)) => break lifetime,
                Ok(FromWorker::NotLaunched(refusal)) => return Err(refusal.into()),
                Ok(FromWorker::Ask(request)) => {
                    let answer = ToWorker::Answer(serve(services.as_mut(), request));
                    let sent = worker.send(&answer);
                    sent.map_err(|e| LaunchError::Start {
                        reason: e.to_string(),
                    })?;
                }
                Ok(_) => {
                    return Err(LaunchError::Start {
                        reason: "worker out of step".into(),
                    });
                }
                Err(error) => {
                    let reason = format!("worker ended while it loaded the module: {error}");
                    return Err(LaunchError::Start { reason });
                }
            }
        };
        tracing::debug!(ta = %spec.ta.uuid, pid = worker.pid(), "worker started");
        Ok(Box::new(RemoteInstance {
            worker: Some(worker),
            lifetime,
            services,
        }))
    }
}

/// An instance in a worker.
struct RemoteInstance {
    /// `None` once it is dead.
    worker: Option<Worker>,
    lifetime: Lifetime,
    services: Box<dyn HostServices>,
}

impl TaInstance for RemoteInstance {
    fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    fn call(&mut self, entry: Entry) -> Outcome {
        let outcome = self.run(entry);
        if matches!(outcome, Outcome::Panicked(_)) {
            // Ends the process now, whoever still holds this value.
            self.worker = None;
        }
        outcome
    }
}

impl RemoteInstance {
    fn run(&mut self, entry: Entry) -> Outcome {
        let Some(worker) = &self.worker else {
            return dead("instance is dead");
        };
        if let Err(error) = worker.send(&ToWorker::Enter(entry)) {
            return lost(worker, &error);
        }
        let mut stopping = Stopping::default();
        loop {
            match worker.receive() {
                Ok(FromWorker::Ask(request)) => {
                    // A host of Wasm ends at its next look at the signal; one that was taken over
                    // goes on asking.
                    if stopping.is_due(Instant::now(), || self.services.poll().stop) {
                        tracing::warn!(pid = worker.pid(), "a worker was told to stop and did not");
                        return dead("stopped");
                    }
                    let answer = serve(self.services.as_mut(), request);
                    if let Err(error) = worker.send(&ToWorker::Answer(answer)) {
                        return lost(worker, &error);
                    }
                }
                Ok(FromWorker::Finished { outcome }) => return outcome,
                Ok(_) => return dead("worker out of step"),
                Err(error) => return lost(worker, &error),
            }
        }
    }
}

/// How long the order to stop has stood while a worker went on asking.
#[derive(Default)]
struct Stopping {
    looked_at: Option<Instant>,
    since: Option<Instant>,
}

impl Stopping {
    /// True once `stop` has been true for [`STOP_GRACE`]. It is asked now and then only.
    fn is_due(&mut self, now: Instant, stop: impl FnOnce() -> bool) -> bool {
        let recent = |at: Instant| now.saturating_duration_since(at) < STOP_LOOK;
        if self.looked_at.is_some_and(recent) {
            return false;
        }
        self.looked_at = Some(now);
        if !stop() {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now.saturating_duration_since(since) >= STOP_GRACE
    }
}

/// Time between two looks at whether a worker should have stopped.
const STOP_LOOK: Duration = Duration::from_millis(500);
/// Time in which a worker that is told to stop must do so: its host looks many times a second.
const STOP_GRACE: Duration = Duration::from_secs(5);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost(worker: &Worker, error: &FrameIoError) -> Outcome {
    tracing::warn!(pid = worker.pid(), %error, "a worker is lost; its sessions are dead");
    dead("worker")
}

fn dead(function: &str) -> Outcome {
    Outcome::Panicked(Panic {
        code: TEE_ERROR_TARGET_DEAD,
        function: function.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_does_not_stop_has_so_much_time() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut stopping = Stopping::default();
        assert!(!stopping.is_due(at(0), || false));
        // Between two looks the signal is not asked for.
        assert!(!stopping.is_due(at(100), || unreachable!()));
        for ms in [1_000, 3_000, 5_900] {
            assert!(!stopping.is_due(at(ms), || true), "after {ms} ms");
        }
        assert!(stopping.is_due(at(6_500), || true));
        // The order was taken back: the time begins anew.
        assert!(!stopping.is_due(at(7_500), || false));
        assert!(!stopping.is_due(at(8_500), || true));
        assert!(!stopping.is_due(at(13_000), || true));
        assert!(stopping.is_due(at(13_600), || true));
    }
}
