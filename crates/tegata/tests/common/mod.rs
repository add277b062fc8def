//! What the tests of the program share: running it, and a server that ends with the test.

#![allow(dead_code)] // Each test file is a program of its own and uses a part of this.

pub mod tls;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program under test.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tegata"));
    command
        .env_remove("TEGATA_CONFIG")
        .env_remove("TEGATA_SEALING_KEY")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

/// Runs it with arguments.
pub fn tegata(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

/// Runs it and insists on success; gives standard output.
pub fn succeed(args: &[&str]) -> String {
    let output = tegata(args);
    assert!(
        output.status.success(),
        "tegata {}: {}\n{}\n{}",
        args.join(" "),
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs it, insists on this exit status, and gives standard error, which must say how to mend.
pub fn fail(args: &[&str], exit: i32) -> String {
    let output = tegata(args);
    let error = text(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(exit),
        "tegata {}\n{error}",
        args.join(" ")
    );
    assert!(!error.contains("panicked"), "{error}");
    error
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory with everything `tegata init` makes, and ports chosen by the system.
pub struct Installation {
    pub dir: tempfile::TempDir,
}

impl Installation {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        succeed(&["init", "--dir", dir.path().to_str().unwrap()]);
        let this = Self { dir };
        this.edit("127.0.0.1:844", "127.0.0.1:0 #");
        this
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> String {
        self.path("tegata.toml").to_str().unwrap().to_owned()
    }

    /// Replaces text in tegata.toml; after `127.0.0.1:0 #` the rest of the line is cut.
    pub fn edit(&self, from: &str, to: &str) {
        let path = self.path("tegata.toml");
        let config = fs::read_to_string(&path).unwrap();
        assert!(config.contains(from), "{from} is not in {config}");
        let mut out = String::new();
        for line in config.lines() {
            match line.find(from) {
                Some(at) if to.ends_with('#') => {
                    out.push_str(&line[..at]);
                    out.push_str(to.trim_end_matches(" #"));
                    out.push('"');
                }
                _ => out.push_str(&line.replace(from, to)),
            }
            out.push('\n');
        }
        fs::write(path, out).unwrap();
    }

    /// Starts roles and waits until they listen.
    pub fn serve(&self, roles: &str) -> Server {
        Server::start(
            roles,
            &self.config(),
            &self.path(&format!("{}.ready", roles.replace(',', "-"))),
        )
    }
}

/// What a log says; one that is `/dev/full` would have no end.
fn read_log(path: &Path) -> String {
    let mut text = Vec::new();
    let file = fs::File::open(path);
    let _ = file.map(|file| file.take(4 << 20).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

/// A running `tegata serve`; ended with the test.
pub struct Server {
    pub child: Child,
    pub addresses: Vec<(String, SocketAddr)>,
    pub log: PathBuf,
}

impl Server {
    pub fn start(roles: &str, config: &str, ready: &Path) -> Self {
        Self::start_by(program(), roles, config, ready)
    }

    /// The same by a command that ends in running the program with what is added to it.
    pub fn start_by(mut program: Command, roles: &str, config: &str, ready: &Path) -> Self {
        let _ = fs::remove_file(ready);
        let log = ready.with_extension("log");
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut child = program
            .args([
                "serve",
                "--roles",
                roles,
                "--config",
                config,
                "--ready-file",
            ])
            .arg(ready)
            .stderr(file)
            .spawn()
            .unwrap();
        let started = Instant::now();
        while !ready.exists() {
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && started.elapsed() < Duration::from_secs(20),
                "the server did not start: {}",
                read_log(&log)
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let addresses = fs::read_to_string(ready)
            .unwrap()
            .lines()
            .map(|line| {
                let (role, url) = line.split_once(" = ").unwrap();
                let (_, address) = url.trim_matches('"').split_once("://").unwrap();
                (role.to_owned(), address.parse().unwrap())
            })
            .collect();
        Self {
            child,
            addresses,
            log,
        }
    }

    pub fn address(&self, role: &str) -> SocketAddr {
        self.addresses
            .iter()
            .find(|(name, _)| name == role)
            .unwrap()
            .1
    }

    pub fn url(&self, role: &str) -> String {
        format!("http://{}", self.address(role))
    }

    pub fn log(&self) -> String {
        read_log(&self.log)
    }

    /// As a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends bytes to a port and reads until the server closes.
pub fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(40)))
        .unwrap();
    // A server that has seen enough may close while we still write.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    text(&answer)
}

impl Server {
    /// The memory that it has, KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    }
}

/// A POST over a connection of its own.
pub fn post(address: SocketAddr, path: &str, content_type: &str, body: &[u8]) -> String {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    talk(address, &request)
}

/// Mode 0600.
pub fn make_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
