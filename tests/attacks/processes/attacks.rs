//! Attacks on the running programs.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tegata_wire::device::DeviceFile;

use super::proxy::{Moment, Seen, Verdict};
use super::{Device, Installation};
use crate::input::{bombs, resident_kib_of};
use crate::secrets::Wanted;
use crate::suite::Tried;

/// The certificate a device ended with is good, and the CA knows it.
fn check(installation: &Installation, device: &Device, pem: &str) {
    let path = device.dir.join("checked.pem");
    std::fs::write(&path, pem).unwrap();
    let root = installation.dir.path().join("ca.pem");
    let verified = Command::new("openssl")
        .args(["verify", "-CAfile"])
        .arg(&root)
        .arg("-untrusted")
        .arg(&path)
        .arg(&path)
        .output();
    if let Ok(verified) = verified {
        assert!(
            verified.status.success(),
            "{}",
            String::from_utf8_lossy(&verified.stderr)
        );
    }
}

/// How many exchanges an enrolment takes.
const EXCHANGES: usize = 8;

/// Every process killed before and after every exchange of steps 3 to 14.
pub fn kill_at_every_step() -> Tried {
    let installation = Arc::new(Installation::new());
    let mut tried = 0;
    let mut ended = Vec::new();
    let cases: Vec<(usize, Moment, &str)> = (0..EXCHANGES)
        .flat_map(|number| {
            [Moment::Before, Moment::After]
                .into_iter()
                .flat_map(move |moment| {
                    ["server", "teed", "agent"]
                        .into_iter()
                        .map(move |who| (number, moment, who))
                })
        })
        .collect();
    // Each exchange and moment with one of the three, in turn; all three when all are wanted.
    let cases: Vec<_> = cases
        .into_iter()
        .enumerate()
        .filter(|(n, _)| crate::rig::sampled(3) == 1 || n % 3 == n / 3 % 3)
        .map(|(_, case)| case)
        .collect();
    let devices = installation.devices(cases.len());
    for (mut device, (number, moment, who)) in devices.into_iter().zip(cases) {
        installation.proxy.attack(None);
        device.start_teed();
        device.start_agent();
        let pids = [
            device.teed.as_ref().unwrap().pid(),
            device.agent.as_ref().unwrap().pid(),
        ];
        let hook = Arc::clone(&installation);
        let killed = Arc::new(Mutex::new(false));
        let done = Arc::clone(&killed);
        installation
            .proxy
            .attack(Some(Box::new(move |seen: Seen<'_>| {
                if seen.number == number && seen.moment == moment && !*done.lock().unwrap() {
                    *done.lock().unwrap() = true;
                    match who {
                        "server" if seen.path.starts_with("/tam") => hook.kill_and_restart(1),
                        "server" if seen.path.starts_with("/verifier") => hook.kill_and_restart(2),
                        "server" => hook.kill_and_restart(0),
                        "teed" => kill_9(pids[0]),
                        _ => kill_9(pids[1]),
                    }
                }
                Verdict::Carry
            })));
        let pem = device.enrol("web");
        installation.proxy.attack(None);
        check(&installation, &device, &pem);
        assert!(
            *killed.lock().unwrap(),
            "{who} was not killed at exchange {number}, {moment:?}"
        );
        ended.push((device.ueid(), number, moment, who));
        tried += 1;
    }
    let all = installation.certificates();
    for (ueid, number, moment, who) in ended {
        let of_device = all
            .iter()
            .filter(|row| row.to_string().contains(&ueid))
            .count();
        assert_eq!(
            of_device, 1,
            "certificates after {who} was killed at {number}, {moment:?}"
        );
    }
    let serials: BTreeSet<String> = all.iter().map(|row| row["serial"].to_string()).collect();
    assert_eq!(
        serials.len(),
        all.len(),
        "two certificates share a serial number"
    );
    installation.check_logs();
    Tried::Times(tried)
}

fn kill_9(pid: u32) {
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
}

/// The proxy drops, cuts, alters, slows and replays each exchange once; the device enrols.
pub fn proxy_disturbs_everything() -> Tried {
    let installation = Installation::new();
    let kinds = ["drop", "truncate", "alter", "slow", "replay"];
    let cases: Vec<(usize, Moment, &str)> = [Moment::Before, Moment::After]
        .into_iter()
        .flat_map(|moment| {
            kinds
                .into_iter()
                .enumerate()
                .map(move |(n, kind)| (n, moment, kind))
        })
        .collect();
    let devices = installation.devices(cases.len());
    let mut tried = 0;
    for (mut device, (_, moment, kind)) in devices.into_iter().zip(cases) {
        installation.proxy.attack(None);
        device.switch_on();
        let old: Vec<(String, Vec<u8>, Vec<u8>)> = installation.proxy.kept();
        // Each path's first exchange is disturbed, then the second is left alone, and so on.
        let mut count = 0usize;
        let hit = Arc::new(Mutex::new(0usize));
        let hits = Arc::clone(&hit);
        installation
            .proxy
            .attack(Some(Box::new(move |seen: Seen<'_>| {
                if seen.moment != moment {
                    return Verdict::Carry;
                }
                count += 1;
                if count.is_multiple_of(2) {
                    return Verdict::Carry;
                }
                *hits.lock().unwrap() += 1;
                match kind {
                    "drop" => return Verdict::Drop,
                    "truncate" => return Verdict::Truncate,
                    "slow" => return Verdict::Slow,
                    "alter" => {
                        let middle = seen.body.len() / 2;
                        if let Some(byte) = seen.body.get_mut(middle) {
                            *byte ^= 0x10;
                        }
                    }
                    _ => {
                        let earlier = old.iter().find(|(path, ..)| path == seen.path);
                        if let Some((_, request, answer)) = earlier {
                            *seen.body = if moment == Moment::Before {
                                request.clone()
                            } else {
                                answer.clone()
                            };
                        }
                    }
                }
                Verdict::Carry
            })));
        // Disturbed it may fail; what it has in the end is good.
        let _ = device.try_enrol("web");
        tried += *hit.lock().unwrap();
        installation.proxy.attack(None);
        let pem = device.enrol("web");
        check(&installation, &device, &pem);
    }
    installation.check_logs();
    Tried::Times(tried)
}

/// An installation that several attacks share, with one device that is switched on and enrolled.
fn shared() -> std::sync::MutexGuard<'static, (Installation, Device, String)> {
    static SHARED: OnceLock<Mutex<(Installation, Device, String)>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let installation = Installation::new();
        let mut device = installation.devices(1).remove(0);
        let pem = device.enrol("web");
        Mutex::new((installation, device, pem))
    });
    shared
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Sends bytes and reads until the server closes. A connection that is half closed may be dropped
/// without an answer, so it stays open unless the bytes are no request anyway.
fn talk(address: SocketAddr, bytes: &[u8], half_close: bool) -> Vec<u8> {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return Vec::new();
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let _ = stream.write_all(bytes);
    if half_close {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Whether a role says that it is well.
fn is_well(address: SocketAddr) -> bool {
    let request = b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    talk(address, request, false).starts_with(b"HTTP/1.1 200")
}

fn post(address: SocketAddr, path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    talk(address, &request, false)
}

/// Garbage to every port, path and socket; then all still stands and answers.
pub fn garbage_to_every_port() -> Tried {
    let mut shared = shared();
    let (installation, device, _) = &mut *shared;
    let before = installation.certificates().len();
    let stored = tree(&device.dir.join("tee"));
    let resources = [
        (0, "/.well-known/cmp", "application/pkixcmp"),
        (0, "/.well-known/cmp/p/iot-device", "application/pkixcmp"),
        (0, "/ca/v1/delivery", "application/cose"),
        (1, "/tam", "application/teep+cbor"),
        (1, "/tam/v1/releases", "application/cbor"),
        (2, "/verifier/v1/appraise", "application/cbor"),
        (
            2,
            "/verifier/v1/reference-values",
            "application/suit-envelope+cose",
        ),
    ];
    let mut tried = 0;
    let bombs = bombs();
    for (role, path, kind) in resources {
        for bomb in bombs.iter().filter(|bomb| !bomb.is_empty()) {
            let answer = post(installation.addresses[role], path, kind, bomb);
            let answer = String::from_utf8_lossy(&answer);
            // CMP answers in its own words, which may come with 200 (RFC 9811 section 3). A body
            // that is too long may be cut off before the answer is read.
            let refused = answer.starts_with("HTTP/1.1 4")
                || (path.contains("/cmp") && answer.contains("application/pkixcmp"))
                || (answer.is_empty() && bomb.len() > 2000);
            assert!(refused, "{path}, {} bytes: {answer}", bomb.len());
            tried += 1;
        }
    }
    for address in &installation.addresses {
        for raw in [
            &b"\x16\x03\x01\x02\x00\x01\x00"[..],
            b"GET / HTTP/9.9\r\n\r\n",
            &[0; 4096],
            b"POST",
            b"\r\n\r\n",
        ] {
            talk(*address, raw, true);
            tried += 1;
        }
    }
    // Sockets of teed and the agent: frames too long, halves, other kinds, and then nothing.
    let mut frames: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0, 0, 0, 0],
        vec![0xff, 0xff, 0xff, 0xff],
        vec![0xff, 0xff, 0xff, 0x7f, 1, 2, 3],
        vec![10, 0, 0, 0, 1, 2, 3],
        [&[0x00, 0x00, 0x10, 0x00][..], &vec![0x81; 1 << 20]].concat(),
    ];
    for bomb in &bombs {
        let len = u32::try_from(bomb.len()).unwrap().to_le_bytes();
        frames.push([&len[..], bomb].concat());
    }
    for socket in ["teed.sock", "agent.sock"] {
        for frame in &frames {
            let Ok(mut stream) = UnixStream::connect(device.dir.join(socket)) else {
                panic!("{socket} is gone")
            };
            let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
            let _ = stream.set_write_timeout(Some(Duration::from_secs(2)));
            let _ = stream.write_all(frame);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read(&mut [0; 1024]);
            tried += 1;
        }
    }
    assert!(device.teed.as_mut().unwrap().runs() && device.agent.as_mut().unwrap().runs());
    assert_eq!(
        tree(&device.dir.join("tee")),
        stored,
        "the TEE's storage changed"
    );
    assert_eq!(installation.certificates().len(), before);
    for address in &installation.addresses {
        assert!(is_well(*address));
    }
    device.enrol("after-garbage");
    installation.check_logs();
    Tried::Times(tried)
}

/// Ten thousand connections to a server and to teed: bounded, and afterwards both serve.
pub fn ten_thousand_connections() -> Tried {
    let mut shared = shared();
    let (installation, device, _) = &mut *shared;
    let server = installation.servers.lock().unwrap()[0]
        .as_ref()
        .unwrap()
        .pid()
        .to_string();
    let teed = device.teed.as_ref().unwrap().pid().to_string();
    let before = [resident_kib_of(&server), resident_kib_of(&teed)];
    let fds = |pid: &str| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let mut most = [0, 0];
    let mut tried = 0;
    for round in 0..10 {
        let mut held_tcp = Vec::new();
        let mut held_unix = Vec::new();
        for n in 0..500 {
            if let Ok(stream) =
                TcpStream::connect_timeout(&installation.addresses[0], Duration::from_millis(200))
            {
                if n % 2 == round % 2 {
                    let _ = (&stream).write_all(b"POST /.well-known/cmp HTTP/1.1\r\n");
                }
                held_tcp.push(stream);
            }
            if let Ok(stream) = UnixStream::connect(device.dir.join("teed.sock")) {
                let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
                let _ = (&stream).write_all(&[9, 0, 0]);
                held_unix.push(stream);
            }
            tried += 2;
        }
        most[0] = most[0].max(fds(&server));
        most[1] = most[1].max(fds(&teed));
    }
    assert!(most[0] < 400, "{} descriptors for 128 connections", most[0]);
    assert!(
        most[1] < 400,
        "teed: {} descriptors for 128 connections",
        most[1]
    );
    let after = [resident_kib_of(&server), resident_kib_of(&teed)];
    for (before, after) in before.iter().zip(after) {
        assert!(
            after < before + 64 * 1024,
            "{before} KiB before, {after} KiB after"
        );
    }
    let begun = Instant::now();
    while !is_well(installation.addresses[0]) {
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "the CA serves nobody any more"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    device.enrol("after-the-flood");
    installation.check_logs();
    Tried::Times(tried)
}

/// Another user of the same machine, through the socket that everybody may connect to.
pub fn other_user_of_the_device() -> Tried {
    use std::os::unix::process::CommandExt as _;
    if !is_root() {
        return Tried::NotHere("needs root to become another user".into());
    }
    let mut shared = shared();
    let (installation, device, _) = &mut *shared;
    // The attacker is this program again, as nobody, without the right to read the directory.
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o711))
            .unwrap();
    };
    // As made, the directory keeps others out altogether.
    let mode = std::fs::metadata(&device.dir).unwrap().permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o007,
        0,
        "{}",
        device.dir.display()
    );
    // Opened, as an operator may who wants applications of other users to reach the TEE.
    open(dir.path());
    for path in device
        .dir
        .ancestors()
        .take_while(|path| path.starts_with(installation.dir.path()))
    {
        open(path);
    }
    let own = dir.path().join("attacker");
    std::fs::copy(std::env::current_exe().unwrap(), &own).unwrap();
    let output = Command::new(own)
        .arg("--as-another-user")
        .arg(device.dir.join("teed.sock"))
        .arg(&installation.ta)
        .uid(65_534)
        .gid(65_534)
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tried = said
        .lines()
        .filter(|line| line.starts_with("refused"))
        .count();
    // Files of the device: none that holds a secret can be read by others.
    for name in ["device.cbor", "tee"] {
        let meta = std::fs::metadata(device.dir.join(name)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions());
        assert_eq!(mode & 0o077, 0, "{name} is open to others: {mode:o}");
    }
    Tried::Times(tried + 2)
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// What the other user does; runs in a process of its own.
pub fn as_another_user(socket: &str, ta: &str) {
    use tegata_client::{Context, Login, Operation, Parameter};
    let context = Context::new(socket);
    let ta = ta.parse().unwrap();
    for login in [Login::User, Login::Public, Login::Application] {
        let session = context
            .open_session(&ta, login, &mut Operation::empty())
            .unwrap();
        for command in [2, 3, 4, 5, 7, 8, 9] {
            // As its owner would call it: anything else would be refused for its form.
            let mut operation = Operation::new([
                Parameter::memref_input(b"web"),
                match command {
                    2 | 3 | 5 => Parameter::memref_input([7; 32]),
                    _ => Parameter::None,
                },
                match command {
                    3 | 7 => Parameter::None,
                    _ => Parameter::memref_output(8192),
                },
                Parameter::None,
            ]);
            let error = session.invoke(command, &mut operation).unwrap_err();
            assert_eq!(error.code(), 0xffff_0008, "command {command}: {error}");
            println!("refused {command}");
        }
    }
    // Not a broker either: TEEP is for the agent's account.
    assert!(context.process_teep(b"rubbish", &[]).is_err());
    println!("refused teep");
}

/// Every file, log, environment and core setting of a run, searched for the known keys.
pub fn search_after_a_run() -> Tried {
    let mut shared = shared();
    let (installation, device, pem) = &mut *shared;
    let file = std::fs::read(device.dir.join("device.cbor")).unwrap();
    let decoded = DeviceFile::decode(&file).unwrap();
    let root = tegata_crypto::Secret::new(*decoded.tee_key);
    let derive = |label: &str, context: &[u8]| {
        tegata_crypto::device_keys::software_derive(
            &tegata_crypto::rustcrypto::RustCrypto,
            &root,
            label,
            context,
        )
    };
    let provider = &tegata_crypto::rustcrypto::RustCrypto;
    let mut wanted = Wanted::default();
    wanted.add("TeeKey", root.expose_secret());
    wanted.add(
        "delivery KEK",
        tegata_crypto::device_keys::delivery_kek(&derive)
            .unwrap()
            .expose_secret(),
    );
    for (name, key) in [
        (
            "TEEP key",
            tegata_crypto::device_keys::teep_key(provider, &derive).unwrap(),
        ),
        (
            "attestation key",
            tegata_crypto::device_keys::attestation_key(provider, &derive).unwrap(),
        ),
        (
            "delivery key",
            tegata_crypto::device_keys::delivery_ecdh_key(provider, &derive).unwrap(),
        ),
    ] {
        wanted.add(name, key.expose_scalar_bytes().expose_secret());
    }
    // The sealing keys of the roles, as they lie in their own files of mode 0600.
    let mut own_files: BTreeSet<std::path::PathBuf> =
        BTreeSet::from([device.dir.join("device.cbor")]);
    for entry in std::fs::read_dir(installation.dir.path().join("keys"))
        .unwrap()
        .flatten()
    {
        let path = entry.path();
        let bytes = std::fs::read(&path).unwrap();
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&entry.metadata().unwrap().permissions());
        if mode & 0o077 == 0 && bytes.len() >= 32 {
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(key) = hex::decode(text.trim()) {
                wanted.add(&format!("{}", path.display()), &key);
            } else if bytes.len() == 32 {
                wanted.add(&format!("{}", path.display()), &bytes);
            }
            own_files.insert(path);
        }
    }
    assert!(
        own_files.len() >= 5,
        "the sealing keys of CA, TAM, Verifier and factory"
    );
    let mut searched = 0;
    for path in files(installation.dir.path()) {
        if own_files.contains(&path) {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        wanted.absent(&bytes, &path.display().to_string());
        searched += 1;
    }
    // Messages on the wire.
    installation.proxy.attack(None);
    device.enrol("searched");
    for (path, request, answer) in installation.proxy.kept() {
        wanted.absent(&request, &path);
        wanted.absent(&answer, &path);
        searched += 2;
    }
    assert!(!pem.is_empty());
    // Environment, command line and core dumps of each process; workers included.
    let mut pids: Vec<u32> = installation
        .servers
        .lock()
        .unwrap()
        .iter()
        .flatten()
        .map(super::Process::pid)
        .collect();
    let teed = device.teed.as_ref().unwrap().pid();
    pids.extend([teed, device.agent.as_ref().unwrap().pid()]);
    let context = tegata_client::Context::new(device.dir.join("teed.sock"));
    let may_not_lock = context
        .info()
        .unwrap()
        .missing
        .iter()
        .any(|wall| wall.contains("mlock"));
    for pid in pids {
        for name in ["environ", "cmdline"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            wanted.absent(&bytes, &format!("/proc/{pid}/{name}"));
            searched += 1;
        }
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap_or_default();
        let words: Vec<&str> = core.split_whitespace().collect();
        let no_core = words.get(4) == Some(&"0");
        let agent = Some(pid) == device.agent.as_ref().map(super::Process::pid);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let locked = status
            .lines()
            .any(|line| line.starts_with("VmLck:") && !line.ends_with(" 0 kB"));
        assert!(
            locked || may_not_lock || pid != teed,
            "teed's root key is not locked: {status}"
        );
        // The agent holds no secret.
        assert!(no_core || agent, "process {pid} may dump core: {core}");
    }
    Tried::Times(searched * wanted.len())
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            out.extend(files(&entry.path()));
        } else if kind.is_file() {
            out.push(entry.path());
        }
    }
    out
}

/// Contents of a directory.
fn tree(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = files(dir)
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap_or_default();
            (path, bytes)
        })
        .collect();
    all.sort();
    all
}

/// What the TAM said to another device, handed to this one's TEE by a malicious agent.
pub fn messages_of_another_device() -> Tried {
    let installation = Installation::new();
    let mut device = installation.devices(1).remove(0);
    let first = device.enrol("web");
    installation.proxy.attack(None);
    // Recorded: the Update of another device, delivered to this one.
    let mut second = installation.devices(1).remove(0);
    second.enrol("web");
    let recorded: Vec<Vec<u8>> = installation
        .proxy
        .kept()
        .into_iter()
        .map(|(_, _, answer)| answer)
        .collect();
    assert!(
        recorded.iter().any(|answer| answer.len() > 100_000),
        "the Update is among them"
    );
    let mut tried = 0;
    let context = tegata_client::Context::new(device.dir.join("teed.sock"));
    let before = tree(&device.dir.join("tee"));
    for answer in &recorded {
        let _ = context.process_teep(answer, &[]);
        tried += 1;
    }
    assert_eq!(
        tree(&device.dir.join("tee")),
        before,
        "another device's messages changed this one"
    );
    assert!(first.contains("BEGIN CERTIFICATE"));
    installation.check_logs();
    Tried::Times(tried)
}
