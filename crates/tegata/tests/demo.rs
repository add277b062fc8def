//! The demo end to end, as a new user runs it; roles apart; and a server killed half-way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Tests.
#![cfg(feature = "demo")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Installation, Server, program, succeed, text};
use serde_json::Value;

/// Runs a demo and gives its events.
fn demo(dir: &Path, args: &[&str]) -> Vec<Value> {
    let output = program()
        .args(["demo", "--json", "--dir"])
        .arg(dir)
        .args(args)
        .output()
        .unwrap();
    let events: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect();
    assert!(
        output.status.success(),
        "{}\n{:#?}\n{}",
        output.status,
        events.last(),
        logs(dir)
    );
    events
}

fn logs(dir: &Path) -> String {
    let mut out = String::new();
    for entry in fs::read_dir(dir.join("logs"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let content = fs::read_to_string(entry.path()).unwrap_or_default();
        let tail: Vec<&str> = content.lines().rev().take(5).collect();
        out.push_str(&format!("{}: {tail:#?}\n", entry.path().display()));
    }
    out
}

fn certificates(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir.join("devices"))
        .unwrap()
        .map(|entry| entry.unwrap().path().join("cert.pem"))
        .collect()
}

/// `openssl verify`, when there is one.
fn openssl_verifies(dir: &Path) {
    for pem in certificates(dir) {
        assert!(pem.exists(), "{}", pem.display());
        let Ok(output) = Command::new("openssl")
            .args(["verify", "-x509_strict", "-CAfile"])
            .arg(dir.join("ca.pem"))
            .arg("-untrusted")
            .arg(&pem)
            .arg(&pem)
            .output()
        else {
            println!("skipped: there is no openssl");
            return;
        };
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

fn tells_all_steps(events: &[Value]) {
    let steps: BTreeSet<u64> = events
        .iter()
        .filter_map(|event| event["step"].as_u64())
        .collect();
    for step in 1..=14 {
        assert!(steps.contains(&step), "step {step} is missing in {steps:?}");
    }
    let attacks: Vec<&Value> = events.iter().filter(|e| e["event"] == "attack").collect();
    assert_eq!(attacks.len(), 2);
    assert!(
        attacks.iter().all(|attack| attack["refused"] == true),
        "{attacks:#?}"
    );
    assert!(
        attacks[0]["reason"]
            .as_str()
            .unwrap()
            .contains("badMessageCheck"),
        "{attacks:#?}"
    );
    let ended = events.last().unwrap();
    assert_eq!(ended["event"], "ended");
    // The promise is 5 s; a test build on a busy machine gets more.
    assert!(
        ended["first_certificate_ms"].as_u64().unwrap() < 30_000,
        "{ended}"
    );
}

#[test]
fn the_demo_runs_both_profiles_in_one_directory_each() {
    for profile in ["default", "paper"] {
        let dir = tempfile::tempdir().unwrap();
        let events = demo(dir.path(), &["--profile", profile]);
        tells_all_steps(&events);
        openssl_verifies(dir.path());
        assert_eq!(certificates(dir.path()).len(), 1);
        let config = dir.path().join("tegata.toml");
        let list = succeed(&["ca", "list", "--json", "--config", config.to_str().unwrap()]);
        let list: Value = serde_json::from_str(&list).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 1);
        assert_eq!(list[0]["state"], "confirmed");
        // Nothing that the demo started is left.
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(
            processes_with(dir.path().to_str().unwrap()),
            Vec::<String>::new()
        );
        if profile == "default" {
            // The same directory again: a new release, a new device, the old ones stay.
            let events = demo(dir.path(), &["--devices", "3"]);
            tells_all_steps(&events);
            openssl_verifies(dir.path());
            assert_eq!(certificates(dir.path()).len(), 4);
        }
    }
}

/// Command lines of running processes that name `what`.
fn processes_with(what: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let line = text(&line).replace('\0', " ");
        if line.contains(what) {
            found.push(line);
        }
    }
    found
}

#[test]
fn a_killed_demo_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = program()
        .args(["demo", "--json", "--keep", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while processes_with(dir.path().to_str().unwrap()).len() < 4 {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{}",
            logs(dir.path())
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let started = Instant::now();
    loop {
        let left = processes_with(dir.path().to_str().unwrap());
        if left.is_empty() {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{left:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_stopped_demo_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let told = tempfile::tempdir().unwrap();
    let story = told.path().join("story");
    for at_ms in (10..).step_by(15).take(24) {
        let mut child = program()
            .args(["demo", "--json"])
            .env("TMPDIR", dir.path())
            .stdout(fs::File::create(&story).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(at_ms));
        let pid = i32::try_from(child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        // One that was faster and has ended is a zombie until it is waited for, and takes the signal too.
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let status = child.wait().unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
        let story = fs::read_to_string(&story).unwrap();
        assert!(left.is_empty(), "{at_ms} ms, {status}: {left:?}\n{story}");
    }
}

#[test]
fn the_demo_never_touches_an_installation() {
    let installation = Installation::new();
    let output = program()
        .args(["demo", "--dir"])
        .arg(installation.dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stdout).contains("not written by a demo"),
        "{}",
        text(&output.stdout)
    );
}

/// Processes of one device; ended with the test.
struct DeviceProcesses(Vec<Child>);

impl DeviceProcesses {
    fn start(dir: &Path) -> Self {
        let log = fs::File::create(dir.join("log")).unwrap();
        let run = |args: &[&str], file: &str| {
            program()
                .args(args)
                .arg("--config")
                .arg(dir.join(file))
                .stdout(Stdio::null())
                .stderr(log.try_clone().unwrap())
                .spawn()
                .unwrap()
        };
        let teed = run(&["teed"], "teed.toml");
        wait_for(&dir.join("teed.sock"));
        let agent = run(&["agent", "run"], "agent.toml");
        wait_for(&dir.join("agent.sock"));
        Self(vec![agent, teed])
    }
}

impl Drop for DeviceProcesses {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn wait_for(path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{}",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Copies what the documentation says a role's machine needs.
fn machine(from: &Installation, role: &str, config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let to = dir.path().join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from.path(name), to).unwrap();
    };
    copy(&format!("store/{role}.db"));
    copy(&format!("keys/{role}.sealing"));
    for file in fs::read_dir(from.path("trust")).unwrap() {
        copy(&format!(
            "trust/{}",
            file.unwrap().file_name().to_str().unwrap()
        ));
    }
    for file in ["profiles.toml", "verifier.toml"] {
        copy(file);
    }
    fs::write(dir.path().join("tegata.toml"), config).unwrap();
    dir
}

#[test]
fn roles_apart_serve_a_device_and_survive_a_kill() {
    let installation = Installation::new();
    let (ca, tam, verifier) = (free_port(), free_port(), free_port());
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let peers = format!(
        "[tam]\nlisten = \"127.0.0.1:{tam}\"\nca_url = \"{}\"\nverifier_url = \"{}\"\n",
        url(ca),
        url(verifier)
    );
    let ca_dir = machine(
        &installation,
        "ca",
        &format!("[ca]\nlisten = \"127.0.0.1:{ca}\"\n{peers}"),
    );
    let tam_dir = machine(&installation, "tam", &peers);
    let verifier_dir = machine(
        &installation,
        "verifier",
        &format!("[verifier]\nlisten = \"127.0.0.1:{verifier}\"\n"),
    );
    let config =
        |dir: &tempfile::TempDir| dir.path().join("tegata.toml").to_str().unwrap().to_owned();
    let start = |role: &str, dir: &tempfile::TempDir| {
        Server::start(role, &config(dir), &dir.path().join("ready"))
    };
    let ca_server = start("ca", &ca_dir);
    let _tam_server = start("tam", &tam_dir);
    let _verifier_server = start("verifier", &verifier_dir);

    // The release is cut on the CA's machine and reaches the others by HTTP.
    let released = succeed(&[
        "ta",
        "release",
        "--json",
        "--config",
        &config(&ca_dir),
        "--name",
        "enrol",
        "--profile",
        "iot-device",
    ]);
    let released: Value = serde_json::from_str(&released).unwrap();
    assert_eq!(released["published"], true);
    assert_eq!(released["sequence"], 1);

    // The factory station; its manifest goes to every machine.
    let station = installation.path("station");
    let made = succeed(&[
        "factory",
        "make",
        "--json",
        "--config",
        &installation.config(),
        "--count",
        "1",
        "--out",
        station.to_str().unwrap(),
        "--tam-url",
        &format!("{}/tam", url(tam)),
        "--ca-url",
        &url(ca),
    ]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let manifest = made["manifest"].as_str().unwrap();
    for (role, dir) in [
        ("ca", &ca_dir),
        ("tam", &tam_dir),
        ("verifier", &verifier_dir),
    ] {
        succeed(&[
            "factory",
            "import",
            "--config",
            &config(dir),
            "--manifest",
            manifest,
            "--roles",
            role,
        ]);
    }
    let device = PathBuf::from(made["devices"][0]["dir"].as_str().unwrap());
    let _processes = DeviceProcesses::start(&device);
    let device_text = device.to_str().unwrap();
    let enrol = |label: &str| {
        program()
            .args([
                "device",
                "enrol",
                "--json",
                "--device",
                device_text,
                "--label",
                label,
            ])
            .output()
            .unwrap()
    };
    let first = enrol("default");
    assert!(first.status.success(), "{}", text(&first.stderr));

    // The CA is killed; a request fails; it comes back; the same request is granted once.
    ca_server.kill();
    let failed = enrol("second");
    assert!(!failed.status.success());
    assert!(
        text(&failed.stderr).contains("mend"),
        "{}",
        text(&failed.stderr)
    );
    let _ca_server = start("ca", &ca_dir);
    let second = enrol("second");
    assert!(second.status.success(), "{}", text(&second.stderr));
    let again = enrol("second");
    assert!(again.status.success(), "{}", text(&again.stderr));

    let list = succeed(&["ca", "list", "--json", "--config", &config(&ca_dir)]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let states: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["state"].as_str().unwrap())
        .collect();
    assert!(
        states.len() >= 2 && states.iter().all(|s| *s == "confirmed"),
        "{states:?}"
    );
    let shown = succeed(&[
        "device",
        "show",
        "--config",
        &config(&tam_dir),
        made["devices"][0]["ueid"].as_str().unwrap(),
    ]);
    assert!(shown.contains("installed TA"), "{shown}");
    renews_by_key_update(device_text, &config(&ca_dir));
}

/// The agent renews a label of its caller: the new certificate is another, and the CA takes the old
/// one back.
fn renews_by_key_update(device: &str, ca_config: &str) {
    let agent = |args: &[&str]| {
        let mut command = program();
        command
            .args(["agent", "--dir", device, "--json"])
            .args(args);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", text(&done.stderr));
        let last = text(&done.stdout).lines().last().unwrap().to_owned();
        serde_json::from_str::<Value>(&last).unwrap()
    };
    let before = agent(&["certificate", "--label", "second"]);
    let waiting = agent(&["renew", "second"]);
    assert_eq!(waiting["event"], "not-due");
    let renewed = agent(&["renew", "second", "--now"]);
    assert_eq!(renewed["event"], "renewed");
    assert_ne!(renewed["certificate"], before["certificate"]);
    let after = agent(&["certificate", "--label", "second"]);
    assert_eq!(after["certificate"], renewed["certificate"]);
    let list = succeed(&["ca", "list", "--json", "--config", ca_config]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let rows = list.as_array().unwrap().iter();
    let states: Vec<&str> = rows.map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states.iter().filter(|s| **s == "confirmed").count(), 2);
    assert_eq!(states.iter().filter(|s| **s == "revoked").count(), 1);
}

#[test]
fn a_staged_or_withdrawn_release_reaches_nobody_else() {
    let installation = Installation::new();
    let (ca, tam, verifier) = (free_port(), free_port(), free_port());
    fs::write(
        installation.path("tegata.toml"),
        format!(
            "[ca]\nlisten = \"127.0.0.1:{ca}\"\n[tam]\nlisten = \"127.0.0.1:{tam}\"\n[verifier]\nlisten = \"127.0.0.1:{verifier}\"\n"
        ),
    )
    .unwrap();
    let config = installation.config();
    let _server = installation.serve("ca,tam,verifier");
    let released = succeed(&[
        "ta",
        "release",
        "--json",
        "--config",
        &config,
        "--name",
        "enrol",
        "--profile",
        "iot-device",
        "--available",
        "batch:first",
    ]);
    let released: Value = serde_json::from_str(&released).unwrap();
    let digest = released["digest"].as_str().unwrap();
    let mut outcome = Vec::new();
    for batch in ["first", "second"] {
        let out = installation.path(batch);
        let made = succeed(&[
            "factory",
            "make",
            "--json",
            "--config",
            &config,
            "--count",
            "1",
            "--batch",
            batch,
            "--out",
            out.to_str().unwrap(),
        ]);
        let made: Value = serde_json::from_str(&made).unwrap();
        succeed(&[
            "device",
            "import",
            "--config",
            &config,
            "--manifest",
            made["manifest"].as_str().unwrap(),
        ]);
        let device = PathBuf::from(made["devices"][0]["dir"].as_str().unwrap());
        let _processes = DeviceProcesses::start(&device);
        let output = program()
            .args(["device", "enrol", "--device", device.to_str().unwrap()])
            .output()
            .unwrap();
        outcome.push((output.status.success(), text(&output.stderr)));
    }
    assert!(outcome[0].0, "{}", outcome[0].1);
    assert!(!outcome[1].0, "the second batch must not get it");
    let withdrawn = succeed(&[
        "ta",
        "withdraw",
        "--config",
        &config,
        "--release",
        &digest[..16],
    ]);
    assert!(withdrawn.contains("withdrawn"), "{withdrawn}");
    let list = succeed(&["ta", "list", "--config", &config]);
    assert!(list.contains("nobody"), "{list}");
}
