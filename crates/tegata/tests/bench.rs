//! A bench that cannot go on or is told to stop: what it says, and what it leaves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Tests.
#![cfg(feature = "bench")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{program, text};
use serde_json::Value;

/// Time in which a step of a run must have come, on a machine that has other work.
const PATIENCE: Duration = Duration::from_secs(120);

/// Directories of a run.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = program();
        command.arg("bench").args(line.split(' '));
        command.arg("--dir").arg(self.path("work"));
        command.arg("--out").arg(self.path("out"));
        command
    }

    /// Runs it, insists on this exit status; gives standard error.
    fn fails(&self, line: &str, exit: i32) -> String {
        let output = self.command(line).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{line}\n{said}");
        said
    }

    /// Directories that a run made, or left; those in memory too.
    fn left(&self) -> Vec<PathBuf> {
        let there: Vec<PathBuf> = fs::read_dir(self.path("work"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        let memory = |dir: &PathBuf| Path::new("/dev/shm").join(dir.file_name().unwrap());
        let memory: Vec<PathBuf> = there
            .iter()
            .map(memory)
            .filter(|dir| dir.exists())
            .collect();
        there.into_iter().chain(memory).collect()
    }
}

/// Waits until something is there.
fn wait<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Process whose command line has all of these words.
fn process(words: &[&str]) -> Option<u32> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = text(&line).replace('\0', " ");
        words.iter().all(|word| line.contains(word)).then_some(pid)
    })
}

fn kill(signal: &str, pid: u32) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// A directory with a program of that name, to be found before all others.
fn in_path(command: &mut Command, dir: &Path, name: &str, script: &str) {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let others = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{others}", dir.display()));
}

const LONG: &str = "--requests 2000 --devices 5 --rounds 100 --clients 2";

#[test]
fn a_bench_that_is_told_to_stop_leaves_nothing() {
    for (signal, name, exit, what) in [
        ("-INT", "SIGINT", 130, "issue"),
        ("-TERM", "SIGTERM", 143, "issue --only nothing,durable"),
        ("-INT", "SIGINT", 130, "deliver"),
    ] {
        let bench = Bench::new();
        let work = bench.path("work");
        let child = start(bench.command(&format!("{what} {LONG}")));
        // Once while requests are made, else while servers run.
        let made = wait("directory", || bench.left().first().cloned());
        if what != "issue" {
            wait("server", || process(&["serve", work.to_str().unwrap()]));
        }
        let memory = Path::new("/dev/shm").join(made.file_name().unwrap());
        kill(signal, child.id());
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{said}");
        let last = said.lines().last().unwrap();
        assert!(last.contains(&format!("interrupted by {name}")), "{said}");
        assert!(!said.contains("error"), "{said}");
        assert_eq!(bench.left(), Vec::<PathBuf>::new());
        assert!(!memory.exists(), "{}", memory.display());
        assert_eq!(process(&[work.to_str().unwrap()]), None);
        assert!(!bench.path("out").join("issue.json").exists());
    }
}

#[test]
fn a_helper_that_hangs_ends_with_the_bench() {
    let bench = Bench::new();
    let seconds = format!("1{}", std::process::id());
    let mut command = bench.command("issue --requests 10 --devices 1 --rounds 1 --peers cfssl");
    in_path(
        &mut command,
        bench.dir.path(),
        "cfssl",
        &format!("sleep {seconds}; true"),
    );
    let child = start(command);
    wait("helper", || process(&["sleep", &seconds]));
    kill("-TERM", child.id());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", text(&output.stderr));
    wait("end of what the helper started", || {
        process(&["sleep", &seconds]).is_none().then_some(())
    });
    assert_eq!(bench.left(), Vec::<PathBuf>::new());
}

#[test]
fn a_server_that_is_killed_is_named() {
    let bench = Bench::new();
    let child = start(bench.command(&format!("issue --json --only durable {LONG}")));
    let work = bench.path("work");
    let ready = || {
        let dir = bench.left().first()?.join("run/ready");
        dir.exists()
            .then(|| process(&["serve", "roles ca", work.to_str().unwrap()]))?
    };
    kill("-KILL", wait("server", ready));
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(said["error"]["code"], "process-ended", "{said:#}");
    let what = said["error"]["what"].as_str().unwrap();
    assert!(
        what.contains("the CA ended") && what.contains("SIGKILL"),
        "{what}"
    );
    assert!(
        said["error"]["excerpt"]
            .as_str()
            .unwrap()
            .contains("listening"),
        "{said:#}"
    );
    // The log that is named is there.
    assert!(bench.left()[0].join("run/log").exists());
}

#[test]
fn a_peer_that_does_not_come_up_is_skipped_and_named() {
    let bench = Bench::new();
    let line = "issue --requests 10 --devices 1 --rounds 1 --clients 1 --json --only crypto-bound,cfssl --peers cfssl";
    let mut command = bench.command(line);
    in_path(
        &mut command,
        bench.dir.path(),
        "cfssl",
        "echo broken >&2; exit 3",
    );
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let skipped = results["skipped"].to_string();
    assert!(
        skipped.contains("cfssl failed") && skipped.contains("broken"),
        "{skipped}"
    );

    // One whose keys can be made, and that does not start.
    let bench = Bench::new();
    let mut command = bench.command(line);
    let script = r#"if [ "$1" = gencert ]; then echo '{"cert":"a","key":"b"}'; else echo no port >&2; exit 4; fi"#;
    in_path(&mut command, bench.dir.path(), "cfssl", script);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let skipped = results["skipped"].to_string();
    assert!(
        skipped.contains("cfssl, keeps nothing") && skipped.contains("no port"),
        "{skipped}"
    );
    assert!(
        results["targets"]
            .as_array()
            .unwrap()
            .iter()
            .all(|t| !t["what"].as_str().unwrap().ends_with(':'))
    );
}

#[test]
fn a_rate_that_cannot_be_is_not_said_to_be() {
    let bench = Bench::new();
    let line =
        "issue --requests 200 --devices 1 --rounds 1 --clients 1 --only durable --rate 1000000";
    let output = bench.command(line).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let kept = |name: &str| fs::read_to_string(bench.path("out").join(name)).unwrap();
    for shown in [text(&output.stdout), kept("issue.md"), kept("issue.svg")] {
        assert!(
            shown.contains("a second were sent where 1000000 were due"),
            "{shown}"
        );
    }
    let results: Value = serde_json::from_str(&kept("issue.json")).unwrap();
    let subject = &results["subjects"][0];
    let answered = format!(
        "{:.0}",
        subject["open_per_second"]["median"].as_f64().unwrap()
    );
    for (shown, rates) in [
        (text(&output.stdout), format!("1000000 / {answered}")),
        (kept("issue.md"), format!("1000000 / {answered}")),
        (
            kept("issue.svg"),
            format!("1000000 due, {answered} answered"),
        ),
    ] {
        assert!(shown.contains(&rates), "{rates}: {shown}");
    }
    // What was kept is what is looked for before the next run.
    let said = bench.fails(line, 2);
    for name in ["issue.json", "issue.md", "issue.svg"] {
        assert!(said.contains(name), "{said}");
    }
    assert_eq!(fs::read_dir(bench.path("out")).unwrap().count(), 3);
}

#[test]
fn what_cannot_be_is_said_before_it_begins() {
    let bench = Bench::new();
    let out = bench.path("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("ocsp.md"), "of an earlier run").unwrap();
    let said = bench.fails("ocsp --requests 10", 2);
    assert!(
        said.contains(out.join("ocsp.md").to_str().unwrap()),
        "{said}"
    );
    assert!(said.contains("another --out"), "{said}");
    assert_eq!(fs::read(out.join("ocsp.md")).unwrap(), b"of an earlier run");

    let nowhere = bench.path("nowhere");
    let output = program()
        .args(["bench", "renew", "--dir"])
        .arg(nowhere.join("x"))
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("there is no directory"),
        "{output:?}"
    );
    assert!(!nowhere.exists());

    for (limit, line, needed) in [(256, "renew", 520), (600, "overload", 2_368)] {
        let mut limited = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_tegata");
        let script = format!(
            "ulimit -n {limit} && exec {program} bench {line} --out {}",
            out.display()
        );
        let output = limited.args(["-c", &script]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        for word in [
            limit.to_string(),
            needed.to_string(),
            "ulimit -n".to_owned(),
        ] {
            assert!(said.contains(&word), "{said}");
        }
    }
    assert_eq!(bench.left(), Vec::<PathBuf>::new());
}
