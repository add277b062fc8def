//! The second rig: the real programs as processes of their own, in a directory of their own, on
//! ports that the system chose, with the attacker's proxy between devices and servers.

pub mod attacks;
pub mod proxy;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use proxy::Proxy;

/// The programs under test, built if need be.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let dir = BUILT.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let dir = own.parent().unwrap().parent().unwrap().to_path_buf();
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args([
            "build",
            "-q",
            "-p",
            "tegata",
            "-p",
            "tegata-platform",
            "-p",
            "tegata-agent",
            "--bins",
        ]);
        if dir.ends_with("release") {
            build.arg("--release");
        }
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let done = build.current_dir(root).status();
        let there = ["tegata", "tegata-teed", "tegata-agent"]
            .iter()
            .all(|name| dir.join(name).exists());
        assert!(
            done.is_ok_and(|status| status.success()) && there,
            "the programs do not build"
        );
        dir
    });
    dir.join(name)
}

fn command(name: &str) -> Command {
    // As a service manager may start it: core dumps are allowed unless the program forbids them.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited 2>/dev/null; exec \"$0\" \"$@\""]);
    command.arg(program(name));
    for variable in ["TEGATA_CONFIG", "TEGATA_SEALING_KEY", "RUST_LOG"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// A process of a test; it ends with this value, and with the test program: what attacks share is never dropped.
pub struct Process {
    child: Child,
    /// Waits until its standard input ends, which is held here, and ends the process.
    guard: Child,
    pub log: PathBuf,
}

impl Process {
    fn start(mut command: Command, log: &Path) -> Self {
        let open = || File::options().create(true).append(true).open(log).unwrap();
        let child = command.stdout(open()).stderr(open()).spawn().unwrap();
        let guard = Command::new("sh")
            .args(["-c", "read nothing; kill -9 \"$0\" 2>/dev/null"])
            .arg(child.id().to_string())
            .stdin(Stdio::piped())
            .spawn();
        Self {
            child,
            guard: guard.unwrap(),
            log: log.into(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As a power cut would.
    pub fn kill(&mut self) {
        // First: later the number may be another process's.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn runs(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait_until(&mut self, what: &str, ready: impl Fn() -> bool) {
        let begun = Instant::now();
        while !ready() {
            assert!(
                self.runs() && begun.elapsed() < Duration::from_secs(30),
                "{what} does not start: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server roles, one process each.
pub const ROLES: [&str; 3] = ["ca", "tam", "verifier"];

/// One installation: three servers, and the proxy all traffic goes through.
pub struct Installation {
    pub dir: tempfile::TempDir,
    pub proxy: Proxy,
    pub servers: Mutex<Vec<Option<Process>>>,
    pub addresses: Vec<SocketAddr>,
    pub ta: String,
}

impl Installation {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        run(&["init", "--dir", dir.path().to_str().unwrap()]);
        // Ports that are free now; each role keeps its own over restarts.
        let held: Vec<_> = (0..3)
            .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let addresses: Vec<SocketAddr> = held.iter().map(|l| l.local_addr().unwrap()).collect();
        drop(held);
        let proxy = Proxy::start(addresses.clone());
        let mut config = fs::read_to_string(at("tegata.toml")).unwrap();
        for (port, address) in ["8440", "8441", "8442"].iter().zip(&addresses) {
            config = config.replacen(&format!("127.0.0.1:{port}"), &address.to_string(), 1);
        }
        // No attack is on it; any port does.
        config = config.replacen("127.0.0.1:8444", "127.0.0.1:0", 1);
        let url = proxy.url();
        config = config.replacen(
            "[tam]\n",
            &format!(
                "[tam]\npublic_url = \"{url}/tam\"\nca_url = \"{url}\"\nverifier_url = \"{url}\"\n"
            ),
            1,
        );
        config = config.replacen("# [limits] has", "[limits]\nheader_timeout_secs = 2\nbody_timeout_secs = 2\nconnections = 128\n# [limits] has", 1);
        fs::write(at("tegata.toml"), config).unwrap();
        let mut this = Self {
            dir,
            proxy,
            servers: Mutex::new(vec![None, None, None]),
            addresses,
            ta: String::new(),
        };
        for role in 0..ROLES.len() {
            this.start(role);
        }
        let config = this.config();
        let released = run(&[
            "ta",
            "release",
            "--config",
            &config,
            "--name",
            "enrol",
            "--profile",
            "iot-device",
            "--json",
        ]);
        let released: serde_json::Value = serde_json::from_str(&released).unwrap();
        this.ta = released["ta"].as_str().unwrap().to_owned();
        this
    }

    pub fn config(&self) -> String {
        self.dir
            .path()
            .join("tegata.toml")
            .to_str()
            .unwrap()
            .to_owned()
    }

    /// Starts a role and waits until it listens.
    pub fn start(&self, role: usize) {
        let name = ROLES[role];
        let ready = self.dir.path().join(format!("{name}.ready"));
        let _ = fs::remove_file(&ready);
        let mut serve = command("tegata");
        serve
            .args([
                "serve",
                "--roles",
                name,
                "--config",
                &self.config(),
                "--ready-file",
            ])
            .arg(&ready);
        let mut process = Process::start(serve, &self.dir.path().join(format!("{name}.log")));
        process.wait_until(name, || ready.exists());
        self.servers.lock().unwrap()[role] = Some(process);
    }

    /// Kills a role in the middle of what it does, and starts it again.
    pub fn kill_and_restart(&self, role: usize) {
        let process = self.servers.lock().unwrap()[role].take();
        drop(process);
        self.start(role);
    }

    /// Devices out of the factory.
    pub fn devices(&self, count: usize) -> Vec<Device> {
        static BATCH: Mutex<u32> = Mutex::new(0);
        let number = {
            let mut batch = BATCH.lock().unwrap();
            *batch += 1;
            *batch
        };
        let out = self.dir.path().join(format!("station-{number}"));
        let out_text = out.to_str().unwrap();
        let (config, url, count) = (self.config(), self.proxy.url(), count.to_string());
        let batch = format!("batch-{number}-{}", std::process::id());
        run(&[
            "factory",
            "make",
            "--config",
            &config,
            "--count",
            &count,
            "--out",
            out_text,
            "--batch",
            &batch,
            "--tam-url",
            &format!("{url}/tam"),
            "--ca-url",
            &url,
        ]);
        let manifest = out.join("manifest.cose");
        run(&[
            "factory",
            "import",
            "--config",
            &config,
            "--manifest",
            manifest.to_str().unwrap(),
        ]);
        let mut devices: Vec<Device> = fs::read_dir(out.join("devices"))
            .unwrap()
            .map(|entry| Device {
                dir: entry.unwrap().path(),
                teed: None,
                agent: None,
            })
            .collect();
        devices.sort_by(|a, b| a.dir.cmp(&b.dir));
        devices
    }

    /// Certificates that the CA knows.
    pub fn certificates(&self) -> Vec<serde_json::Value> {
        let list = run(&["ca", "list", "--config", &self.config(), "--json"]);
        serde_json::from_str::<serde_json::Value>(&list)
            .unwrap()
            .as_array()
            .unwrap()
            .clone()
    }

    /// No server panicked.
    pub fn check_logs(&self) {
        for role in ROLES {
            let log =
                fs::read_to_string(self.dir.path().join(format!("{role}.log"))).unwrap_or_default();
            assert!(!log.contains("panicked"), "{role}: {log}");
        }
    }
}

/// A device directory, and its processes.
pub struct Device {
    pub dir: PathBuf,
    pub teed: Option<Process>,
    pub agent: Option<Process>,
}

impl Device {
    pub fn start_teed(&mut self) {
        drop(self.teed.take());
        let mut teed = command("tegata-teed");
        teed.arg("--dir").arg(&self.dir);
        let mut process = Process::start(teed, &self.dir.join("teed.log"));
        let context = tegata_client::Context::new(self.dir.join("teed.sock"));
        process.wait_until("teed", || context.info().is_ok());
        self.teed = Some(process);
    }

    pub fn start_agent(&mut self) {
        drop(self.agent.take());
        let mut agent = command("tegata-agent");
        agent
            .args(["run", "--config"])
            .arg(self.dir.join("agent.toml"));
        let mut process = Process::start(agent, &self.dir.join("agent.log"));
        let socket = self.dir.join("agent.sock");
        process.wait_until("the agent", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        self.agent = Some(process);
    }

    /// Whatever does not run is started.
    pub fn switch_on(&mut self) {
        if !self.teed.as_mut().is_some_and(Process::runs) {
            self.start_teed();
        }
        if !self.agent.as_mut().is_some_and(Process::runs) {
            self.start_agent();
        }
    }

    /// `tegata device enrol`, once.
    pub fn try_enrol(&self, label: &str) -> Output {
        let mut enrol = command("tegata");
        enrol
            .args(["device", "enrol", "--label", label, "--json", "--device"])
            .arg(&self.dir);
        enrol.output().unwrap()
    }

    /// Enrols, again and again if need be; the certificate chain in PEM.
    pub fn enrol(&mut self, label: &str) -> String {
        let begun = Instant::now();
        loop {
            self.switch_on();
            let output = self.try_enrol(label);
            if output.status.success() {
                let done: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                return done["pem"].as_str().unwrap().to_owned();
            }
            assert!(
                begun.elapsed() < Duration::from_secs(40),
                "{}\nteed: {}\nagent: {}",
                String::from_utf8_lossy(&output.stderr),
                fs::read_to_string(self.dir.join("teed.log")).unwrap_or_default(),
                fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default(),
            );
        }
    }

    pub fn ueid(&self) -> String {
        self.dir.file_name().unwrap().to_str().unwrap().to_owned()
    }
}

/// Runs `tegata` and insists on success.
pub fn run(args: &[&str]) -> String {
    let output = command("tegata").args(args).output().unwrap();
    assert!(
        output.status.success(),
        "tegata {}: {}{}",
        args.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
