//! Child processes that never outlive this one.
//!
//! Every child asks the kernel to end it when its parent ends, so that a crash, a panic or a kill
//! of the demo leaves nothing behind. The kernel ties that promise to the *thread* that started the
//! child; hence one thread, which lives as long as the process, starts them all.
//!
//! A child has a process group of its own: Ctrl-C reaches this process alone, which ends the others ([`end_all`]).

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::fault::{Fault, Outcome};

/// Environment variable with the process id that a child must have as its parent.
const PARENT: &str = "TEGATA_PARENT_PID";
/// Pause between looks at a child that is to end.
const POLL: Duration = Duration::from_millis(5);
/// Time a child gets to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(3);

type Shared = Arc<Mutex<Child>>;
type Job = (Command, Option<usize>, Sender<std::io::Result<Shared>>);

/// A running child process; dropped, it is ended.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    pid: u32,
    child: Shared,
    /// Whether somebody here has told it to end.
    told: AtomicBool,
}

/// All children of this process.
#[derive(Debug, Default)]
struct Children {
    /// No more are started.
    stopping: bool,
    running: Vec<Weak<Mutex<Child>>>,
    /// The first that ended although nobody here had told it to.
    lost: Option<Lost>,
}

static CHILDREN: Mutex<Children> = Mutex::new(Children {
    stopping: false,
    running: Vec::new(),
    lost: None,
});

/// A child that ended although nobody here had told it to.
#[derive(Debug)]
pub struct Lost {
    /// Its name for messages.
    pub name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Where it wrote.
    pub log: PathBuf,
    /// The last lines of that.
    pub tail: String,
}

/// What to start.
#[derive(Debug)]
pub struct Start<'a> {
    /// Name for messages.
    pub name: String,
    /// Arguments of this same executable.
    pub args: Vec<OsString>,
    /// File that receives standard output and error.
    pub log: &'a Path,
}

/// Starts this executable again with other arguments.
///
/// # Errors
/// The log cannot be made or the process not be started.
pub fn start(start: Start<'_>) -> Outcome<Process> {
    let mut command = this_program()?;
    command.args(&start.args);
    start_command(start.name, command, start.log, None)
}

/// This executable, to be started again.
///
/// # Errors
/// Its file cannot be found.
pub fn this_program() -> Outcome<Command> {
    let executable = std::env::current_exe().map_err(|e| {
        Fault::environment(
            "no-executable",
            format!("cannot find this program's own file: {e}"),
            "Start tegata by its full path.",
        )
    })?;
    Ok(Command::new(executable))
}

/// Starts a program, on one processor alone if one is given: its threads count processors as they
/// start, and find that one.
///
/// # Errors
/// The log cannot be made or the process not be started.
pub fn start_command(
    name: String,
    mut command: Command,
    log: &Path,
    cpu: Option<usize>,
) -> Outcome<Process> {
    let out = open_log(log)?;
    let err = out
        .try_clone()
        .map_err(|e| Fault::io("write the log", log, &e))?;
    command
        .env(PARENT, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::from(out))
        .stderr(Stdio::from(err));
    let program = PathBuf::from(command.get_program());
    let child = on_starter_thread(command, cpu).map_err(|e| Fault::io("start", &program, &e))?;
    let pid = locked(&child).id();
    Ok(Process {
        name,
        log: log.to_path_buf(),
        pid,
        child,
        told: AtomicBool::new(false),
    })
}

/// Runs a program to its end, and gives what it wrote. What it wrote is in memory, not in a pipe: a program that it
/// left behind would hold that open.
///
/// # Errors
/// It cannot be started; it has not ended within `limit` ([`std::io::ErrorKind::TimedOut`]), and then it is ended.
pub fn output(
    mut command: Command,
    cpu: Option<usize>,
    limit: Duration,
) -> std::io::Result<Output> {
    let memory = || {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        Ok::<_, std::io::Error>(File::from(rustix::fs::memfd_create("output", flags)?))
    };
    let read = |mut file: File| {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let (out, err) = (memory()?, memory()?);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::from(out.try_clone()?))
        .stderr(Stdio::from(err.try_clone()?));
    let child = on_starter_thread(command, cpu)?;
    let until = Instant::now() + limit;
    let status = loop {
        if let Some(status) = locked(&child).try_wait()? {
            break status;
        }
        if Instant::now() >= until {
            end(&child);
            let why = format!("it has not ended within {limit:?}");
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, why));
        }
        std::thread::sleep(POLL);
    };
    Ok(Output {
        status,
        stdout: read(out)?,
        stderr: read(err)?,
    })
}

/// Ends every child, and starts none any more: this process is about to end.
pub fn end_all() {
    let running: Vec<Shared> = {
        let mut children = locked(&CHILDREN);
        children.stopping = true;
        children.running.iter().filter_map(Weak::upgrade).collect()
    };
    for child in &running {
        signal(child, Signal::TERM);
    }
    let until = Instant::now() + STOP_GRACE;
    while running.iter().any(|child| ended(child).is_none()) && Instant::now() < until {
        std::thread::sleep(POLL);
    }
    running.iter().for_each(end);
}

/// The first child that ended although nobody here had told it to. Children are looked at when they are stopped.
pub fn take_lost() -> Option<Lost> {
    locked(&CHILDREN).lost.take()
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The exit status of a child, if it has ended.
fn ended(child: &Shared) -> Option<ExitStatus> {
    locked(child).try_wait().ok().flatten()
}

/// Sends a signal to a child and those that it started.
fn signal(child: &Shared, signal: Signal) {
    let mut child = locked(child);
    // While the child was not waited for, its id cannot belong to another process.
    if let Ok(None) = child.try_wait()
        && let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
    {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// Ends a child and those that it started, at once.
fn end(child: &Shared) {
    signal(child, Signal::KILL);
    let _ = locked(child).wait();
}

fn open_log(path: &Path) -> Outcome<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| Fault::io("make", parent, &e))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| Fault::io("write the log", path, &e))
}

fn on_starter_thread(command: Command, cpu: Option<usize>) -> std::io::Result<Shared> {
    static STARTER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = channel();
        std::thread::spawn(move || {
            while let Ok((mut command, cpu, reply)) = queue.recv() {
                let _ = reply.send(start_one(&mut command, cpu));
            }
        });
        Mutex::new(jobs)
    });
    let gone = || std::io::Error::other("the thread that starts processes is gone");
    let (reply, answer) = channel();
    locked(starter)
        .send((command, cpu, reply))
        .map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// Starts a child and keeps it in mind, or neither: one that [`end_all`] does not know would be left behind.
fn start_one(command: &mut Command, cpu: Option<usize>) -> std::io::Result<Shared> {
    let mut children = locked(&CHILDREN);
    if children.stopping {
        return Err(std::io::Error::other("this process is about to end"));
    }
    children.running.retain(|child| child.strong_count() > 0);
    let child = Arc::new(Mutex::new(spawn_on(command.process_group(0), cpu)?));
    children.running.push(Arc::downgrade(&child));
    Ok(child)
}

/// A child has the processors of the thread that starts it.
fn spawn_on(command: &mut Command, cpu: Option<usize>) -> std::io::Result<Child> {
    let Some(cpu) = cpu else {
        return command.spawn();
    };
    let before = rustix::thread::sched_getaffinity(None)?;
    let mut one = rustix::thread::CpuSet::new();
    one.set(cpu);
    rustix::thread::sched_setaffinity(None, &one)?;
    let child = command.spawn();
    rustix::thread::sched_setaffinity(None, &before)?;
    child
}

/// In a child: asks the kernel for the end of this process when its parent ends.
///
/// A process that was not started by [`start`] is left alone.
///
/// # Errors
/// The parent is gone already, or the kernel refuses.
pub fn end_with_parent() -> Outcome<()> {
    let Some(expected) = std::env::var(PARENT)
        .ok()
        .and_then(|v| v.parse::<i32>().ok())
    else {
        return Ok(());
    };
    let refused = |what: String| {
        Fault::environment(
            "no-parent",
            what,
            "Start the command again from the beginning.",
        )
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| refused(format!("cannot tie this process to its parent: {e}")))?;
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if parent == Some(expected) {
        Ok(())
    } else {
        Err(refused(
            "the process that started this one has ended".into(),
        ))
    }
}

impl Process {
    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where it writes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The exit status, if it has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        ended(&self.child)
    }

    /// Waits until `ready` holds.
    ///
    /// # Errors
    /// The process ended before, or took longer than `limit`; names its log.
    pub fn wait_until(&self, limit: Duration, ready: impl Fn() -> bool) -> Outcome<()> {
        let until = Instant::now() + limit;
        loop {
            if ready() {
                return Ok(());
            }
            let why = match self.ended() {
                Some(status) => format!("{} ended early ({status})", self.name),
                None if Instant::now() >= until => {
                    format!("{} was not ready within {} s", self.name, limit.as_secs())
                }
                None => {
                    std::thread::sleep(POLL);
                    continue;
                }
            };
            let mut fault = Fault::failed(
                "process-not-ready",
                why,
                format!("Its log is {}.", self.log.display()),
            );
            let tail = log_tail(&self.log);
            if !tail.is_empty() {
                fault = fault.with_excerpt(tail);
            }
            return Err(fault);
        }
    }

    /// Asks it to end, waits a little, then makes it.
    pub fn stop(&self) {
        let ended = self.ended();
        let first = !self.told.swap(true, Ordering::SeqCst);
        signal(&self.child, Signal::TERM);
        let until = Instant::now() + STOP_GRACE;
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            if Instant::now() >= until {
                return end(&self.child);
            }
            std::thread::sleep(POLL);
        };
        // One that was killed a moment ago may not have ended before it was told to.
        let term = Signal::TERM.as_raw();
        let killed = status.signal().is_some_and(|signal| signal != term);
        if first && (ended.is_some() || killed) {
            self.note(status);
        }
    }

    fn note(&self, status: ExitStatus) {
        let lost = || Lost {
            name: self.name.clone(),
            status,
            log: self.log.clone(),
            tail: log_tail(&self.log),
        };
        locked(&CHILDREN).lost.get_or_insert_with(lost);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The last lines of a log, for a message.
fn log_tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(6);
    lines
        .iter()
        .skip(from)
        .map(|line| format!("  | {}", line.chars().take(300).collect::<String>()))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_what_it_started() {
        let written = output(
            shell("echo one; echo two >&2; exit 3"),
            None,
            Duration::from_secs(60),
        );
        let written = written.unwrap();
        assert_eq!(
            (&written.stdout[..], &written.stderr[..]),
            (&b"one\n"[..], &b"two\n"[..])
        );
        assert_eq!(written.status.code(), Some(3));
        // What is left behind keeps nobody waiting.
        let left = output(shell("sleep 5 & echo one"), None, Duration::from_secs(60));
        assert_eq!(left.unwrap().stdout, b"one\n");

        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let mut hangs = shell("sleep 1000 & echo $! >pid; wait");
        hangs.current_dir(dir.path());
        // Long enough for it to start what it starts; nothing is to be done within it.
        let late = output(hangs, None, Duration::from_secs(2)).unwrap_err();
        assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
        let pid = std::fs::read_to_string(pid).unwrap();
        let sleeps = || std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim()));
        while sleeps().is_ok_and(|line| line.starts_with("sleep")) {
            std::thread::sleep(POLL);
        }
    }

    #[test]
    fn one_that_was_told_to_end_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let start = |script| start_command("it".to_owned(), shell(script), &log, None).unwrap();
        start("exec sleep 1000").stop();
        assert!(take_lost().is_none());
        let ended = start("echo why; exit 7");
        while ended.ended().is_none() {
            std::thread::sleep(POLL);
        }
        drop(ended);
        let lost = take_lost().unwrap();
        assert_eq!((lost.name.as_str(), lost.status.code()), ("it", Some(7)));
        assert!(lost.tail.contains("why"), "{}", lost.tail);
        let killed = start("exec sleep 1000");
        let pid = i32::try_from(killed.pid()).ok().and_then(Pid::from_raw);
        rustix::process::kill_process(pid.unwrap(), Signal::KILL).unwrap();
        drop(killed);
        assert_eq!(take_lost().unwrap().status.signal(), Some(9));
    }
}
