//! `tegata serve` and NGINX as processes of a test.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server, where it listens, and what it is started with.
pub struct Server {
    process: Child,
    pub url: String,
}

pub fn start(program: &Path, dir: &Path, role: &str, name: &str) -> Server {
    let ready = dir.join(format!("{name}.ready"));
    let _ = std::fs::remove_file(&ready);
    let log = std::fs::File::options()
        .append(true)
        .create(true)
        .open(dir.join(format!("{name}.log")));
    let mut process = Command::new(program)
        .args(["serve", "--roles", role, "--config"])
        .arg(dir.join("tegata.toml"))
        .arg("--ready-file")
        .arg(&ready)
        .env("TEGATA_SEALING_KEY", hex::encode([9; 32]))
        .stdout(Stdio::null())
        .stderr(log.unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(&ready).unwrap_or_default();
        let line = text.lines().find_map(|line| line.split_once(" = "));
        if let Some((_, url)) = line.filter(|(named, _)| *named == role) {
            let url = url.trim_matches('"').to_owned();
            return Server { process, url };
        }
        if begun.elapsed() > Duration::from_secs(30) || process.try_wait().unwrap().is_some() {
            let log = std::fs::read_to_string(dir.join(format!("{name}.log"))).unwrap();
            panic!("{name} is not ready: {log}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Server {
    pub fn end(&mut self, signal: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
        self.process.wait().unwrap();
    }
}

/// None outlives a test that fails.
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ports that no connection goes out from, so that who listened at one finds it free again.
pub fn ports<const N: usize>() -> [u16; N] {
    let from = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let mut free = (from..).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    std::array::from_fn(|_| free.next().unwrap())
}

/// NGINX with what the documentation gives, at these ports.
pub fn start_nginx(program: &str, dir: &Path, nodes: [u16; 2], port: u16) -> Server {
    let page = include_str!("../../../../docs/ops/scale.md");
    let documented = page.split("```nginx\n").nth(1).unwrap();
    let mut documented = documented.split("```").next().unwrap().to_owned();
    for (there, here) in [
        ("10.0.0.5:8440", nodes[0]),
        ("10.0.0.6:8440", nodes[1]),
        ("80", port),
    ] {
        let (is, becomes) = (format!(" {there}"), format!(" 127.0.0.1:{here}"));
        assert_eq!(
            documented.matches(&is).count(),
            1,
            "{there} in {documented}"
        );
        documented = documented.replace(&is, &becomes);
    }
    let config = dir.join("nginx.conf");
    let own = "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log nginx.log info;\n\
        events {}\nhttp {\naccess_log off;\nclient_body_temp_path t;\nproxy_temp_path t;\n\
        fastcgi_temp_path t;\nuwsgi_temp_path t;\nscgi_temp_path t;\n";
    std::fs::write(&config, format!("{own}{documented}}}\n")).unwrap();
    let mut process = Command::new(program)
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(&config)
        .spawn()
        .unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let (agent, begun) = (client(), Instant::now());
    while agent.get(&format!("{url}/healthz")).call().is_err() {
        let log = || std::fs::read_to_string(dir.join("nginx.log")).unwrap_or_default();
        let ended = process.try_wait().unwrap().is_some();
        assert!(
            !ended && begun.elapsed() < Duration::from_secs(30),
            "{}",
            log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Server { process, url }
}

pub fn client() -> ureq::Agent {
    let config = ureq::Agent::config_builder();
    let config = config.timeout_global(Some(Duration::from_secs(20)));
    config.build().into()
}
