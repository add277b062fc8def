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

/// A running server.
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
}

impl Served {
    /// Starts `tegata serve --roles ca` over a copy of the installation.
    ///
    /// # Errors
    /// Files, or a server that does not start; the fault has its log.
    pub fn ca(plant: &Path, dir: PathBuf, cpu: usize) -> Outcome<Self> {
        copy(plant, &dir)?;
        let mut command = supervise::this_program()?;
        command
            .args(["serve", "--roles", "ca", "--end-with-parent", "--config"])
            .arg(dir.join("tegata.toml"))
            .arg("--ready-file")
            .arg(dir.join("ready"));
        Self::start("the CA", "ca", command, dir, cpu)
    }

    /// Starts the server that does nothing.
    ///
    /// # Errors
    /// As [`Served::ca`].
    pub fn nothing(plant: &Path, dir: PathBuf, cpu: usize, answer_bytes: usize) -> Outcome<Self> {
        let _ = std::fs::remove_dir_all(&dir);
        files::make_dir(&dir)?;
        let mut command = supervise::this_program()?;
        command
            .arg("bench-nothing")
            .arg("--config")
            .arg(plant.join("tegata.toml"))
            .args(["--answer-bytes", &answer_bytes.to_string()])
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
        let address = text.lines().find_map(|line| {
            let value = line.strip_prefix(key)?.trim_start().strip_prefix('=')?;
            let url = value.trim().trim_matches('"');
            url.strip_prefix("http://")?.parse().ok()
        });
        Ok(Self {
            address: address.ok_or_else(|| odd(format!("{name} does not say where it listens")))?,
            process,
        })
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
        Ok(Self { address, process })
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
