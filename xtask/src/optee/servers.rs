//! CA, TAM and Verifier on the host: the real binary, each role a process of its own, as on three
//! machines. Devices reach them at 10.0.2.2, which is QEMU's name for the host's loopback.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::relay::Relay;
use super::work::{Inputs, Work, output};

/// The host as devices see it.
const HOST: &str = "10.0.2.2";
/// Time the servers get until they listen.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// The release build of `tegata`.
///
/// # Errors
/// It does not build.
pub fn binary(work: &Work) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--package", "tegata"])
        .current_dir(&work.root)
        .env_remove("CARGO_TARGET_DIR");
    work.quiet("tegata", &mut cargo)?;
    Ok(work.root.join("target/release/tegata"))
}

/// The keys of the maker: made once, because the factory's key is compiled into the TEE's image.
///
/// # Errors
/// They cannot be made.
pub fn keys(work: &Work, tegata: &Path) -> Result<PathBuf> {
    let dir = work.path("pki");
    let outputs = [dir.join("trust/factory.pem")];
    work.step(
        "keys of CA, TAM, Verifier and factory",
        &Inputs::default(),
        &outputs,
        || {
            let mut init = Command::new(tegata);
            work.quiet("init", init.args(["init", "--dir"]).arg(&dir))
        },
    )?;
    Ok(dir)
}

/// The servers of one run.
pub struct Servers {
    tegata: PathBuf,
    dir: PathBuf,
    /// Stands between devices and TAM, sees and alters.
    pub tam_relay: Relay,
    ca_port: u16,
    processes: Vec<Child>,
}

impl Servers {
    /// Starts them in `dir`, with the keys of `pki` and empty stores.
    ///
    /// # Errors
    /// They do not listen in time.
    pub fn start(tegata: &Path, pki: &Path, dir: &Path) -> Result<Self> {
        copy(pki, dir)?;
        // Held open together, so that they differ.
        let held = [listener()?, listener()?, listener()?];
        let [ca, tam, verifier] = held
            .each_ref()
            .map(|one| one.local_addr().map(|a| a.port()));
        let (ca, tam, verifier) = (ca?, tam?, verifier?);
        drop(held);
        fs::write(
            dir.join("tegata.toml"),
            format!(
                "[ca]\nlisten = \"127.0.0.1:{ca}\"\n\
                 [tam]\nlisten = \"127.0.0.1:{tam}\"\npublic_url = \"http://127.0.0.1:{tam}/tam\"\n\
                 ca_url = \"http://127.0.0.1:{ca}\"\nverifier_url = \"http://127.0.0.1:{verifier}\"\n\
                 [verifier]\nlisten = \"127.0.0.1:{verifier}\"\n\
                 [factory]\nmodel = \"emulated-1\"\n"
            ),
        )?;
        let policy = dir.join("verifier.toml");
        let text = fs::read_to_string(&policy)?;
        let strict = text.replace(
            "min_security_level = \"software\"",
            "min_security_level = \"optee\"",
        );
        ensure!(
            text != strict,
            "the Verifier's policy names no security level"
        );
        fs::write(&policy, strict)?;
        let mut servers = Self {
            tegata: tegata.to_path_buf(),
            dir: dir.to_path_buf(),
            tam_relay: Relay::start(tam)?,
            ca_port: ca,
            processes: Vec::new(),
        };
        for role in ["ca", "tam", "verifier"] {
            servers.serve(role)?;
        }
        let started = Instant::now();
        for role in ["ca", "tam", "verifier"] {
            while !dir.join(format!("{role}.ready")).exists() {
                if started.elapsed() > READY_LIMIT {
                    bail!(
                        "the {role} does not listen; see {}",
                        servers.log(role).display()
                    );
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(servers)
    }

    fn serve(&mut self, role: &str) -> Result<()> {
        let log = fs::File::create(self.log(role))?;
        let mut serve = Command::new("setpriv");
        serve
            .args(["--pdeathsig", "KILL"])
            .arg(&self.tegata)
            .args(["serve", "--roles", role, "--config"])
            .arg(self.dir.join("tegata.toml"))
            .arg("--ready-file")
            .arg(self.dir.join(format!("{role}.ready")))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.processes.push(
            serve
                .spawn()
                .with_context(|| format!("starting the {role}"))?,
        );
        Ok(())
    }

    /// Where a role's log lies.
    pub fn log(&self, role: &str) -> PathBuf {
        self.dir.join(format!("{role}.log"))
    }

    /// A file of this installation.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// An operator's command; its answer as JSON.
    ///
    /// # Errors
    /// It fails.
    pub fn tegata(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = Command::new(&self.tegata);
        command
            .args(arguments)
            .arg("--json")
            .env("TEGATA_CONFIG", self.dir.join("tegata.toml"));
        let said = output(&mut command)?;
        serde_json::from_str(&said).with_context(|| format!("no JSON: {said}"))
    }

    /// The program itself, for the software TEE beside it.
    pub fn program(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.tegata);
        command
    }

    /// The TAM as emulated devices reach it, over the relay.
    pub fn tam_url(&self) -> String {
        format!("http://{HOST}:{}/tam", self.tam_relay.port())
    }

    /// The CA as emulated devices reach it.
    pub fn ca_url(&self) -> String {
        format!("http://{HOST}:{}", self.ca_port)
    }

    /// The TAM and the CA as programs on the host reach them.
    pub fn local_urls(&self) -> (String, String) {
        (
            format!("http://127.0.0.1:{}/tam", self.tam_relay.port()),
            format!("http://127.0.0.1:{}", self.ca_port),
        )
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn listener() -> Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").context("opening a port on loopback")
}

/// Copies a directory with the modes of its files.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
