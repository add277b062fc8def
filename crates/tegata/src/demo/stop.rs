//! Ctrl-C: the demo ends at once, and its temporary directory, with keys in it, does not stay.
//!
//! The demo and its children write from many threads, and none of them can be asked to stop at a given moment. So the
//! process becomes another program, which ends all its threads; that one ends the children, and then removes the
//! directory, in which nobody writes any more.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::fault::{Fault, Outcome};
use crate::{files, serve, supervise};

/// What the names of temporary directories begin with.
pub const PREFIX: &str = "tegata-demo-";
/// Exit status of a process that was stopped, as shells have it.
const STOPPED: u8 = 130;
/// How often removal is tried, and the pause in between.
const REMOVALS_MAX: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(20);

/// The temporary directory, once there is one.
#[derive(Debug, Clone, Default)]
pub struct Temporary(Arc<Mutex<Option<PathBuf>>>);

impl Temporary {
    /// Makes the directory; a stop meanwhile comes before it or finds it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(&self, dir: &Path) -> Outcome<()> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *made = Some(dir.to_path_buf());
        files::make_dir(dir)
    }
}

/// From now on SIGINT or SIGTERM end the process and all its children, and the temporary directory is removed.
///
/// # Errors
/// Signals cannot be watched.
pub fn watch(runtime: &Runtime) -> Outcome<Temporary> {
    let _inside = runtime.enter();
    let stop = serve::stop_signal()?;
    let temporary = Temporary::default();
    let found = temporary.clone();
    runtime.spawn(async move {
        stop.await;
        // Held to the end: from now on no directory is made.
        let made = found.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = &*made {
            if let Ok(mut program) = supervise::this_program() {
                // Comes back only if it fails.
                let _ = program.arg("demo-clear").arg(dir).exec();
            }
            remove(dir);
        }
        std::process::exit(STOPPED.into());
    });
    Ok(temporary)
}

/// `tegata demo-clear DIR`: what the demo became. Its children are this process's.
///
/// # Errors
/// The directory is no demo's.
pub fn clear(dir: &Path) -> Outcome<ExitCode> {
    let name = dir.file_name().unwrap_or_default();
    if !name.to_string_lossy().starts_with(PREFIX) {
        return Err(Fault::usage(
            "no-demo",
            format!("{} is not the directory of a demo", dir.display()),
            "Remove it by hand if nothing needs it.",
        ));
    }
    // Who presses Ctrl-C twice must not keep the directory: once watched, a signal ends this process no more.
    if let Ok(runtime) = Builder::new_current_thread().enable_all().build() {
        let _inside = runtime.enter();
        let _ = serve::stop_signal();
    }
    supervise::end_children();
    remove(dir);
    Ok(ExitCode::from(STOPPED))
}

/// Removes a directory until it is gone: a worker of a TEE that ends may leave a file a moment later.
fn remove(dir: &Path) {
    for _ in 0..REMOVALS_MAX {
        let _ = std::fs::remove_dir_all(dir);
        if !dir.exists() {
            return;
        }
        std::thread::sleep(REMOVAL_PAUSE);
    }
}
