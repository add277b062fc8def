//! Servers while they are measured: a fresh copy of the installation, a process on its processor,
//! and what the kernel says that it used.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::cpus::Usage;
use super::odd;
use crate::fault::{Fault, Outcome};
use crate::files;
use crate::supervise::{self, Process};

/// Time that a server gets until it listens.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Between two looks at a server that is to have nothing to do, and how many there are.
const SETTLE_PAUSE: Duration = Duration::from_millis(500);
const SETTLE_LOOKS: u32 = 240;

/// A running server.
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it said of its addresses.
    ready: String,
    process: Process,
}

impl Served {
    /// Starts `tegata serve --roles ca` over a copy of the installation.
    ///
    /// # Errors
    /// Files, or a server that does not start; the fault has its log.
    pub fn ca(plant: &Path, dir: PathBuf, cpu: usize) -> Outcome<Self> {
        Self::role("ca", plant, dir, cpu)
    }

    /// Starts one role over a copy of the installation, and waits until it has nothing to do.
    ///
    /// # Errors
    /// As [`Served::ca`].
    pub fn role(role: &str, plant: &Path, dir: PathBuf, cpu: usize) -> Outcome<Self> {
        copy(plant, &dir)?;
        let server = Self::here(role, dir, cpu)?;
        server.settle()?;
        Ok(server)
    }

    /// Starts one role over the installation in `dir` itself.
    ///
    /// # Errors
    /// As [`Served::ca`].
    pub fn here(role: &str, dir: PathBuf, cpu: usize) -> Outcome<Self> {
        // Of an earlier run, if there was one.
        let _ = std::fs::remove_file(dir.join("ready"));
        let mut command = supervise::this_program()?;
        command
            .args(["serve", "--roles", role, "--end-with-parent", "--config"])
            .arg(dir.join("tegata.toml"))
            .arg("--ready-file")
            .arg(dir.join("ready"));
        let name = match role {
            "ca" => "the CA",
            "tam" => "the TAM",
            _ => "the Verifier",
        };
        Self::start(name, role, command, dir, cpu)
    }

    /// Starts the server that does nothing.
    ///
    /// # Errors
    /// As [`Served::ca`].
    pub fn nothing(plant: &Path, dir: PathBuf, cpu: usize, answer_bytes: usize) -> Outcome<Self> {
        Self::nothing_of(
            plant,
            dir,
            cpu,
            &["--answer-bytes", &answer_bytes.to_string()],
        )
    }

    /// The same behind the TLS of the EST port.
    ///
    /// # Errors
    /// As [`Served::ca`].
    pub fn nothing_tls(
        plant: &Path,
        dir: PathBuf,
        cpu: usize,
        answer_bytes: usize,
    ) -> Outcome<Self> {
        let args = ["--tls", "--answer-bytes", &answer_bytes.to_string()];
        Self::nothing_of(plant, dir, cpu, &args)
    }

    fn nothing_of(plant: &Path, dir: PathBuf, cpu: usize, args: &[&str]) -> Outcome<Self> {
        let _ = std::fs::remove_dir_all(&dir);
        files::make_dir(&dir)?;
        let mut command = supervise::this_program()?;
        command
            .arg("bench-nothing")
            .args(args)
            .arg("--config")
            .arg(plant.join("tegata.toml"))
            .arg("--ready-file")
            .arg(dir.join("ready"));
        Self::start("the server that does nothing", "nothing", command, dir, cpu)
    }

    fn start(name: &str, key: &str, command: Command, dir: PathBuf, cpu: usize) -> Outcome<Self> {
        let ready = dir.join("ready");
        let log = dir.join("log");
        let process = supervise::start_command(name.to_owned(), command, &log, Some(cpu))?;
        process.wait_until(READY_LIMIT, || ready.exists())?;
        let text = std::fs::read_to_string(&ready).map_err(|e| Fault::io("read", &ready, &e))?;
        let address = said(&text, key);
        Ok(Self {
            address: address.ok_or_else(|| odd(format!("{name} does not say where it listens")))?,
            ready: text,
            process,
        })
    }

    /// Where another port of it is.
    ///
    /// # Errors
    /// It has none of that name.
    pub fn address_of(&self, name: &str) -> Outcome<SocketAddr> {
        said(&self.ready, name).ok_or_else(|| odd(format!("there is no port {name}")))
    }

    /// Starts another program.
    ///
    /// # Errors
    /// It is not there, or does not listen; the fault has its log.
    pub fn program(
        name: &str,
        command: Command,
        dir: &Path,
        cpu: usize,
        address: SocketAddr,
        ready: impl Fn() -> bool,
    ) -> Outcome<Self> {
        let log = dir.join("log");
        let process = supervise::start_command(name.to_owned(), command, &log, Some(cpu))?;
        process.wait_until(READY_LIMIT, ready)?;
        Ok(Self {
            address,
            ready: String::new(),
            process,
        })
    }

    /// Waits until it has nothing to do: a CA that starts signs OCSP responses of its newest certificates ahead.
    ///
    /// # Errors
    /// It has ended, or is still busy after two minutes.
    pub fn settle(&self) -> Outcome<()> {
        for _ in 0..SETTLE_LOOKS {
            let before = self.usage()?.cpu;
            std::thread::sleep(SETTLE_PAUSE);
            if self.usage()?.cpu.saturating_sub(before) <= SETTLE_PAUSE / 20 {
                return Ok(());
            }
        }
        Err(odd("a server that nobody asks is busy for two minutes"))
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn usage(&self) -> Outcome<Usage> {
        Usage::of(self.process.pid())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.stop();
    }
}

/// The address of that name among those that a server says.
fn said(text: &str, name: &str) -> Option<SocketAddr> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.trim_start().strip_prefix('=')?;
        let (_, address) = value.trim().trim_matches('"').split_once("://")?;
        address.parse().ok()
    })
}

/// Copies a directory of files and directories.
pub fn copy(from: &Path, to: &Path) -> Outcome<()> {
    let failed = |path: &Path, e: std::io::Error| Fault::io("copy", path, &e);
    let _ = std::fs::remove_dir_all(to);
    files::make_dir(to)?;
    for entry in std::fs::read_dir(from).map_err(|e| failed(from, e))? {
        let entry = entry.map_err(|e| failed(from, e))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            std::fs::copy(&path, &target).map_err(|e| failed(&path, e))?;
        }
    }
    Ok(())
}
