//! A run that makes things for a while (the demo, a bench), told to stop: what it started is ended, what it made for
//! itself is removed.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::fault::{self, Fault, Outcome};
use crate::{files, serve, supervise};

/// Whether this process was told to stop.
static TOLD: AtomicBool = AtomicBool::new(false);
/// Held while directories are made, and by a stop to its end.
static MAKING: Mutex<()> = Mutex::new(());
/// How often a directory is removed: whoever writes into it does not know yet that the run has ended.
const TRIES: u32 = 100;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(10);

/// Makes these directories for as long as the run lasts: from here on SIGINT and SIGTERM end every child, remove the
/// directories, and end this process with 128 and the signal's number, as a shell does.
///
/// # Errors
/// The kernel gives no signal handler or no thread; a directory cannot be made.
pub fn make_for_a_while(dirs: &[PathBuf], json: bool) -> Outcome<()> {
    let no_thread = |e: std::io::Error| {
        Fault::environment(
            "no-threads",
            format!("cannot start threads: {e}"),
            "Raise the limit on processes of this user (`ulimit -u`).",
        )
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(no_thread)?;
    let inside = runtime.enter();
    let stop = serve::stop_signal()?;
    drop(inside);
    let made = dirs.to_vec();
    let wait = move || {
        let signal = runtime.block_on(stop);
        // To the end: from now on none is made.
        let _making = MAKING.lock();
        TOLD.store(true, Ordering::SeqCst);
        supervise::end_all();
        let left: Vec<String> = made.iter().filter_map(remove).collect();
        tell(signal, !made.is_empty(), &left, json);
        end_removing(&made, 128 + signal.as_raw());
    };
    let _making = MAKING.lock();
    let thread = std::thread::Builder::new().name("interrupt".to_owned());
    thread.spawn(wait).map_err(no_thread)?;
    dirs.iter().try_for_each(|dir| files::make_dir(dir))
}

/// Where a run has ended, one way or the other. One that was told to stop waits here for its end: that servers went
/// away below it is no fault, and not to be told.
pub fn end_if_told() {
    while TOLD.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// Ends this process. Its other threads go on to the last, and one may have made a directory anew, to write into it:
/// so it becomes a shell, which has no such threads.
fn end_removing(made: &[PathBuf], status: i32) -> ! {
    let script = "trap '' INT TERM; status=$1; shift; rm -rf -- \"$@\"; exit \"$status\"";
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script, "sh", &status.to_string()]);
    // Comes back only if there is none.
    let _ = shell.args(made).exec();
    std::process::exit(status)
}

/// Removes a directory; gives its name if that cannot be done.
fn remove(dir: &PathBuf) -> Option<String> {
    for _ in 0..TRIES {
        let _ = std::fs::remove_dir_all(dir);
        if !dir.exists() {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
    Some(dir.display().to_string())
}

fn tell(signal: Signal, removed: bool, left: &[String], json: bool) {
    let name = if signal == Signal::INT {
        "SIGINT"
    } else {
        "SIGTERM"
    };
    let what = match left {
        [] if removed => {
            format!("interrupted by {name}: what it started is ended, what it made is removed")
        }
        [] => format!("interrupted by {name}: what it started is ended"),
        left => format!(
            "interrupted by {name}: what it started is ended; {} could not be removed",
            left.join(", ")
        ),
    };
    if json {
        let fault = Fault {
            exit: u8::try_from(128 + signal.as_raw()).unwrap_or(fault::EXIT_FAILED),
            ..Fault::failed("interrupted", what, "Run it again.")
        };
        return fault::report(&fault, true);
    }
    let mut err = anstream::stderr().lock();
    // Over a bar that may stand there.
    let line = if std::io::stderr().is_terminal() {
        "\r\x1b[2K"
    } else {
        ""
    };
    let _ = writeln!(err, "{line}{what}.");
}
