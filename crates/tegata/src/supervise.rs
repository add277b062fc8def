//! Child processes that never outlive this one.
//!
//! Every child asks the kernel to end it when its parent ends, so that a crash, a panic or a kill
//! of the demo leaves nothing behind. The kernel ties that promise to the *thread* that started the
//! child; hence one thread, which lives as long as the process, starts them all.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

use crate::fault::{Fault, Outcome};

/// Environment variable with the process id that a child must have as its parent.
const PARENT: &str = "TEGATA_PARENT_PID";
/// Pause between looks at a child that is to end.
const POLL: Duration = Duration::from_millis(5);
/// How often children are looked for that are to end: one may have been started meanwhile.
const CHILD_ROUNDS_MAX: u32 = 100;
/// Time a child gets to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(3);

type Job = (Command, Option<usize>, Sender<std::io::Result<Child>>);

/// A running child process; dropped, it is ended.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    pid: u32,
    child: Mutex<Child>,
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
    // Ctrl-C at the terminal is for this process alone, which ends its children in its own order.
    command.args(&start.args).process_group(0);
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
    Ok(Process {
        name,
        log: log.to_path_buf(),
        pid: child.id(),
        child: Mutex::new(child),
    })
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

fn on_starter_thread(command: Command, cpu: Option<usize>) -> std::io::Result<Child> {
    static STARTER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = channel();
        std::thread::spawn(move || {
            while let Ok((mut command, cpu, reply)) = queue.recv() {
                let _ = reply.send(spawn_on(&mut command, cpu));
            }
        });
        Mutex::new(jobs)
    });
    let gone = || std::io::Error::other("the thread that starts processes is gone");
    let (reply, answer) = channel();
    starter
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, cpu, reply))
        .map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
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

/// Ends all children of this process at once, and waits until they have ended; also those that nobody here started
/// since the process became another program.
pub fn end_children() {
    let own = std::process::id();
    for _ in 0..CHILD_ROUNDS_MAX {
        let found = children(own);
        if found.is_empty() {
            return;
        }
        for pid in found {
            // While nobody waited for it, its id cannot belong to another process.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// Children of a process.
fn children(of: u32) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // A program's name may have brackets in it; what follows the last one has none.
            let (_, fields) = stat.rsplit_once(')')?;
            let parent: u32 = fields.split_whitespace().nth(1)?.parse().ok()?;
            Pid::from_raw(pid).filter(|_| parent == of)
        })
        .collect()
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
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.try_wait().ok().flatten()
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
        self.signal(Signal::TERM);
        let until = Instant::now() + STOP_GRACE;
        while self.ended().is_none() {
            if Instant::now() >= until {
                self.kill();
                return;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }

    fn signal(&self, signal: Signal) {
        // While the child was not waited for, its id cannot belong to another process.
        if self.ended().is_none()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
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
