//! Tries to break out of a worker, from inside a real one.
//!
//! Every wall is tried twice: behind the filter of system calls, and with that filter left out, so
//! that the walls behind it are seen to stand by themselves. What this machine or account cannot
//! try is printed as skipped, with the reason. As root the whole is run a second time as an
//! ordinary user.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use tegata_platform::software::launcher::{ProcessLauncher, Worker, WorkerSettings};
use tegata_platform::software::reexec;
use tegata_platform::software::sandbox::probe::{Probe, ProbeOutcome};

fn main() -> ExitCode {
    if let Some(code) = reexec() {
        return code;
    }
    let filter: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    if std::env::args().any(|a| a == "--list") {
        for (name, _) in TESTS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let root = is_root();
    println!(
        "\nsandbox as {}",
        if root { "root" } else { "an ordinary user" }
    );
    let mut failed = 0;
    for (name, test) in TESTS {
        if !filter.is_empty() && !filter.iter().any(|f| name.contains(f.as_str())) {
            continue;
        }
        match std::panic::catch_unwind(test) {
            Ok(None) => println!("test {name} ... ok"),
            Ok(Some(why)) => println!("test {name} ... skipped: {why}"),
            Err(_) => {
                println!("test {name} ... FAILED");
                failed += 1;
            }
        }
    }
    if root && !as_ordinary_user(&filter) {
        failed += 1;
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

type Test = fn() -> Option<&'static str>;

const TESTS: &[(&str, Test)] = &[
    ("nothing_is_missing_on_this_machine", nothing_is_missing),
    ("an_account_of_its_own", account),
    ("files_cannot_be_opened", files),
    ("storage_of_another_ta_cannot_be_read", storage),
    ("no_network", network),
    ("no_unix_sockets", unix_sockets),
    ("no_new_process_or_thread", processes),
    ("no_other_program", execve),
    ("no_look_into_other_processes", other_processes),
    ("no_signal_to_anybody", signals),
    ("no_executable_memory", executable_memory),
    ("no_boundless_memory", memory),
    ("no_core_dump", core_dump),
    ("unusual_system_calls_are_refused", unusual_calls),
    ("no_descriptor_but_its_own", descriptors),
    (
        "the_same_account_cannot_look_into_a_worker",
        look_into_worker,
    ),
    ("a_worker_that_hangs_is_ended", hang),
    ("a_worker_that_was_killed_is_collected", killed),
    ("slots_are_given_back", slots),
];

const EPERM: i32 = 1;
const EACCES: i32 = 13;
const ENETUNREACH: i32 = 101;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn launcher() -> ProcessLauncher {
    let settings = WorkerSettings {
        first_account: is_root().then_some(60_900),
        ..WorkerSettings::default()
    };
    ProcessLauncher::new(settings)
}

fn worker() -> Worker {
    launcher().spawn().unwrap()
}

/// A worker behind all walls but the filter.
fn bare() -> Worker {
    launcher().spawn_without_filter().unwrap()
}

fn has(worker: &Worker, wall: &str) -> bool {
    !worker.missing.iter().any(|m| m == wall)
}

/// Tries it behind the filter, where the filter answers `EPERM`.
fn filtered(probe: Probe) {
    let worker = worker();
    if has(&worker, "seccomp") {
        let got = worker.probe(probe.clone()).unwrap();
        assert_eq!(got, ProbeOutcome::Refused { errno: EPERM }, "{probe:?}");
    }
}

/// Tries it behind the filter, where it ends the worker.
fn fatal(probe: Probe) {
    let worker = worker();
    if has(&worker, "seccomp") {
        assert!(worker.probe(probe.clone()).is_err(), "{probe:?}");
        assert_eq!(worker.fate(), "signal 31", "{probe:?}");
    }
}

/// Tries it without the filter; one of `errnos` must come.
fn behind(probe: Probe, errnos: &[i32]) {
    let got = bare().probe(probe.clone()).unwrap();
    let refused = matches!(&got, ProbeOutcome::Refused { errno } if errnos.contains(errno));
    assert!(refused, "{probe:?}: {got:?}");
}

fn status(worker: &Worker, fact: &str) -> u64 {
    let Ok(ProbeOutcome::Status(facts)) = worker.probe(Probe::Status) else {
        panic!("no status");
    };
    facts.into_iter().find(|(name, _)| name == fact).unwrap().1
}

fn nothing_is_missing() -> Option<&'static str> {
    let worker = worker();
    let missing: Vec<_> = worker
        .missing
        .iter()
        .filter(|wall| is_root() || *wall != "dedicated-uid")
        .collect();
    println!("  missing here: {:?}", worker.missing);
    if !landlock_here() {
        return Some("this kernel has no Landlock of ABI 6 or newer");
    }
    if missing.iter().any(|wall| wall.starts_with("namespace")) {
        return Some("this machine grants no namespaces to this account");
    }
    assert!(missing.is_empty(), "{missing:?}");
    None
}

fn landlock_here() -> bool {
    has(&worker(), "landlock") && has(&worker(), "landlock-scope")
}

fn account() -> Option<&'static str> {
    let worker = worker();
    if has(&worker, "namespace-pid") {
        assert_eq!(status(&worker, "pid"), 1);
    }
    if !is_root() {
        return Some("only root can give a worker another account");
    }
    assert_eq!(status(&worker, "uid"), 60_900);
    assert_eq!(status(&worker, "euid"), 60_900);
    // What the kernel says, not what the worker says.
    let text = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    for (key, value) in [
        ("Uid:", "60900\t60900\t60900\t60900"),
        ("Groups:", ""),
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
        ("CapEff:", "0000000000000000"),
        ("CapPrm:", "0000000000000000"),
        ("CapInh:", "0000000000000000"),
    ] {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        assert_eq!(line[key.len()..].trim(), value, "{key}");
    }
    None
}

fn files() -> Option<&'static str> {
    let path = || "/etc/passwd".to_owned();
    filtered(Probe::ReadFile { path: path() });
    filtered(Probe::WriteFile {
        path: "/tmp/tegata-probe".into(),
    });
    filtered(Probe::ListDirectory { path: "/".into() });
    if !landlock_here() {
        return Some("without Landlock, files are kept closed by the filter alone");
    }
    behind(Probe::ReadFile { path: path() }, &[EACCES]);
    behind(
        Probe::WriteFile {
            path: "/tmp/tegata-probe".into(),
        },
        &[EACCES],
    );
    behind(Probe::ListDirectory { path: "/".into() }, &[EACCES]);
    behind(
        Probe::ReadFile {
            path: "/proc/self/mem".into(),
        },
        &[EACCES],
    );
    None
}

fn storage() -> Option<&'static str> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ta-other");
    std::fs::write(&path, b"secret").unwrap();
    // Even if the file system would let it.
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(dir.path(), open(0o777)).unwrap();
    std::fs::set_permissions(&path, open(0o666)).unwrap();
    let path = path.to_str().unwrap().to_owned();
    filtered(Probe::ReadFile { path: path.clone() });
    if !landlock_here() {
        return Some("without Landlock, files are kept closed by the filter alone");
    }
    behind(Probe::ReadFile { path: path.clone() }, &[EACCES]);
    behind(Probe::WriteFile { path }, &[EACCES]);
    None
}

fn network() -> Option<&'static str> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    filtered(Probe::TcpConnect { port });
    filtered(Probe::UdpSend);
    let worker = bare();
    if !has(&worker, "namespace-net") {
        return Some("no network namespace: the filter alone keeps the network away");
    }
    behind(Probe::TcpConnect { port }, &[EACCES, ENETUNREACH]);
    behind(Probe::UdpSend, &[ENETUNREACH]);
    None
}

fn unix_sockets() -> Option<&'static str> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    filtered(Probe::UnixConnect {
        path: path.to_str().unwrap().into(),
    });
    None
}

fn processes() -> Option<&'static str> {
    filtered(Probe::Fork);
    filtered(Probe::Thread);
    if is_root() {
        // Its account has no process to give; for others the limit may already be passed.
        behind(Probe::Fork, &[libc::EAGAIN]);
    }
    None
}

fn execve() -> Option<&'static str> {
    fatal(Probe::Execve);
    if !landlock_here() {
        return Some("without Landlock, programs are kept away by the filter alone");
    }
    behind(Probe::Execve, &[EACCES]);
    None
}

fn other_processes() -> Option<&'static str> {
    let me = i32::try_from(std::process::id()).unwrap();
    let sibling = worker();
    for pid in [me, sibling.pid()] {
        fatal(Probe::Ptrace { pid });
        fatal(Probe::ProcessVmRead { pid });
    }
    let prober = bare();
    if !has(&prober, "namespace-pid") {
        return Some("no process namespace: numbers of other processes are known inside");
    }
    for pid in [me, sibling.pid()] {
        // Not even the numbers exist in there.
        behind(Probe::Ptrace { pid }, &[libc::ESRCH, EPERM]);
        behind(Probe::ProcessVmRead { pid }, &[libc::ESRCH, EPERM]);
    }
    None
}

fn signals() -> Option<&'static str> {
    let me = i32::try_from(std::process::id()).unwrap();
    let sibling = worker();
    for pid in [me, sibling.pid()] {
        filtered(Probe::Signal { pid });
        let prober = bare();
        if has(&prober, "namespace-pid") || has(&prober, "landlock-scope") {
            behind(Probe::Signal { pid }, &[libc::ESRCH, EPERM]);
        }
    }
    assert_eq!(
        sibling.probe(Probe::Nothing).unwrap(),
        ProbeOutcome::Succeeded
    );
    None
}

fn executable_memory() -> Option<&'static str> {
    filtered(Probe::MapExecutable);
    filtered(Probe::ProtectExecutable);
    None
}

fn memory() -> Option<&'static str> {
    let got = worker().probe(Probe::Memory).unwrap();
    assert_eq!(
        got,
        ProbeOutcome::Refused {
            errno: libc::ENOMEM
        }
    );
    None
}

fn core_dump() -> Option<&'static str> {
    let worker = worker();
    assert!(worker.probe(Probe::Abort).is_err());
    // `abort` cannot even send itself its signal; what it does then is a fault. Both would dump.
    let fate = worker.fate();
    assert!(fate == "signal 6" || fate == "signal 11", "{fate}");
    None
}

fn unusual_calls() -> Option<&'static str> {
    for number in [
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_memfd_create,
        libc::SYS_keyctl,
        libc::SYS_prctl,
        libc::SYS_setuid,
        libc::SYS_socketpair,
        libc::SYS_sendmsg,
        libc::SYS_pidfd_open,
        libc::SYS_kexec_load,
        libc::SYS_seccomp,
        libc::SYS_rseq,
    ] {
        filtered(Probe::Call { number });
    }
    // The same by the numbers of the 32-bit-pointer interface of x86-64.
    #[cfg(target_arch = "x86_64")]
    filtered(Probe::Call {
        number: libc::SYS_mount | 0x4000_0000,
    });
    None
}

fn descriptors() -> Option<&'static str> {
    // A descriptor that is not closed on exec, such as a shell leaves behind.
    let leak = std::fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    // 0 to 2, the channel's duplicate and its own size.
    assert!(status(&worker(), "files-open") <= 5);
    None
}

fn look_into_worker() -> Option<&'static str> {
    let worker = worker();
    let path = format!("/proc/{}/mem", worker.pid());
    let mut cat = Command::new("cat");
    cat.arg(&path);
    if is_root() {
        // Root itself is beyond any wall of this backend; the worker's own account is not.
        cat.uid(60_900).gid(60_900);
    }
    let output = cat.output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("Permission denied"), "{text}");
    None
}

fn hang() -> Option<&'static str> {
    let settings = WorkerSettings {
        first_account: is_root().then_some(60_900),
        silence_max: Duration::from_millis(500),
        ..WorkerSettings::default()
    };
    let worker = ProcessLauncher::new(settings).spawn().unwrap();
    let pid = worker.pid();
    let begun = Instant::now();
    assert!(worker.probe(Probe::Hang).is_err());
    drop(worker);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    None
}

fn killed() -> Option<&'static str> {
    let worker = worker();
    let pid = rustix::process::Pid::from_raw(worker.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert!(worker.probe(Probe::Nothing).is_err());
    assert_eq!(worker.fate(), "signal 9");
    None
}

fn slots() -> Option<&'static str> {
    let settings = WorkerSettings {
        first_account: is_root().then_some(60_900),
        workers_max: 2,
        ..WorkerSettings::default()
    };
    let launcher = ProcessLauncher::new(settings);
    let first = launcher.spawn().unwrap();
    let second = launcher.spawn().unwrap();
    assert!(launcher.spawn().is_err());
    if is_root() {
        assert_ne!(status(&first, "uid"), status(&second, "uid"));
    }
    drop(first);
    launcher.spawn().unwrap();
    let stats = launcher.stats();
    let took = stats
        .spawn_ready_us
        .load(std::sync::atomic::Ordering::Relaxed);
    println!("  spawn until ready: {took} us");
    None
}

/// Runs this program again as an ordinary user; true if all went well.
fn as_ordinary_user(filter: &[String]) -> bool {
    // A copy where everybody can reach it: the build directory may be root's alone.
    let dir = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(dir.path(), open(0o755)).unwrap();
    let copy = dir.path().join("sandbox");
    std::fs::copy("/proc/self/exe", &copy).unwrap();
    std::fs::set_permissions(&copy, open(0o755)).unwrap();
    Command::new(&copy)
        .args(filter)
        .uid(65_534)
        .gid(65_534)
        .current_dir("/")
        .status()
        .is_ok_and(|status| status.success())
}
