//! A device of the demo: its TEE and its agent, each a process of its own.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tegata_client::{Context, short_socket_path};

use crate::commands::factory::Made;
use crate::fault::Outcome;
use crate::supervise::{self, Process, Start};

/// Time a process of a device gets until it answers.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// A device that is switched on; dropped, it is switched off.
#[derive(Debug)]
pub struct Device {
    /// What the factory made.
    pub made: Made,
    /// The TEE process.
    pub teed: Process,
    /// The agent process.
    pub agent: Option<Process>,
}

impl Device {
    /// Starts the TEE process alone and waits until it answers.
    ///
    /// # Errors
    /// It does not start; the fault names its log.
    pub fn start_tee(made: &Made, logs: &Path) -> Outcome<Self> {
        let log = logs.join(format!("teed-{}.log", made.ueid));
        let teed = supervise::start(Start {
            name: format!("teed of {}", made.serial),
            args: vec![
                "teed".into(),
                "--config".into(),
                made.dir.join("teed.toml").into_os_string(),
            ],
            log: &log,
        })?;
        let device = Self {
            made: made.clone(),
            teed,
            agent: None,
        };
        let context = device.context();
        device
            .teed
            .wait_until(READY_LIMIT, || context.info().is_ok())?;
        Ok(device)
    }

    /// Starts the agent too and waits until it listens.
    ///
    /// # Errors
    /// It does not start; the fault names its log.
    pub fn start_agent(&mut self, logs: &Path) -> Outcome<()> {
        let log = logs.join(format!("agent-{}.log", self.made.ueid));
        let agent = supervise::start(Start {
            name: format!("agent of {}", self.made.serial),
            args: vec![
                "agent".into(),
                "run".into(),
                "--config".into(),
                self.made.dir.join("agent.toml").into_os_string(),
            ],
            log: &log,
        })?;
        // The file is there a moment before anybody listens on it.
        let socket = self.made.dir.join("agent.sock");
        agent.wait_until(READY_LIMIT, || {
            short_socket_path(&socket).is_ok_and(|(path, _dir)| UnixStream::connect(path).is_ok())
        })?;
        self.agent = Some(agent);
        Ok(())
    }

    /// The client side of the TEE.
    #[must_use]
    pub fn context(&self) -> Context {
        Context::new(self.tee_socket())
    }

    fn tee_socket(&self) -> PathBuf {
        self.made.dir.join("teed.sock")
    }

    /// Switches it off.
    pub fn stop(self) {
        drop(self.agent);
        drop(self.teed);
    }
}

/// `tegata teed …`: becomes the TEE process.
///
/// # Errors
/// The process that started this one is gone.
pub fn teed(args: Vec<OsString>) -> Outcome<ExitCode> {
    supervise::end_with_parent()?;
    Ok(tegata_platform::software::teed_main(named(
        "tegata-teed",
        args,
    )))
}

/// `tegata agent …`: becomes the agent.
///
/// # Errors
/// The process that started this one is gone.
pub fn agent(args: Vec<OsString>) -> Outcome<ExitCode> {
    supervise::end_with_parent()?;
    Ok(tegata_agent::agent_main(named("tegata-agent", args)))
}

/// The arguments with the name that the other parser expects first.
fn named(name: &str, args: Vec<OsString>) -> Vec<OsString> {
    std::iter::once(OsString::from(name)).chain(args).collect()
}
