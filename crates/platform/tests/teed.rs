//! `tegata-teed` as a process: its start, its refusals, its clients, its sudden deaths.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{TEED, Teed};
use tegata_client::{Error, Login, Operation, Origin, TaUuid, codes};
use tegata_crypto::{KeyAlg, OsRng, Provider, rustcrypto::RustCrypto};
use tegata_wire::device::{DeviceFile, DeviceIdentity, Oem};
use tegata_wire::ids::Ueid;

const TA: TaUuid = TaUuid([7; 16]);

fn device(dir: &Path) {
    let key = || {
        let key = RustCrypto.generate(KeyAlg::P256, &mut OsRng).unwrap();
        key.public_key().to_cose_key().unwrap()
    };
    let file = DeviceFile {
        tee_key: [0x42; 32].into(),
        identity: DeviceIdentity {
            ueid: Ueid::from_random([9; 16]),
            serial: "SN-1".into(),
            oemid: Oem::Pen(32473),
            hwmodel: b"gateway".to_vec(),
            hwversion: "1".into(),
            imei: None,
            mac: None,
            vendor_ids: vec![],
            class_ids: vec![],
        },
        release_keys: vec![key()],
        tam_keys: vec![key()],
        tam_uri: Some("http://tam.example/".into()),
    };
    let path = dir.join("device.cbor");
    std::fs::write(&path, &*file.encode().unwrap()).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

fn new() -> (tempfile::TempDir, Teed) {
    let dir = tempfile::tempdir().unwrap();
    device(dir.path());
    let teed = Teed::start(dir.path());
    (dir, teed)
}

/// A full disk takes the log, not the TEE.
#[test]
fn a_teed_whose_log_cannot_be_written_serves_on() {
    let dir = tempfile::tempdir().unwrap();
    device(dir.path());
    std::os::unix::fs::symlink("/dev/full", dir.path().join("log")).unwrap();
    let mut teed = Teed::start(dir.path());
    teed.context().info().unwrap();
    assert_eq!(teed.child.try_wait().unwrap(), None);
}

/// Starts one that must not come up; what it says.
fn refused(dir: &Path) -> String {
    let output = Command::new(TEED).arg("--dir").arg(dir).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn it_starts_and_tells_what_it_is() {
    let (dir, teed) = new();
    let info = teed.context().info().unwrap();
    assert_eq!(info.serial, "SN-1");
    assert_eq!(info.security_level, "software");
    assert_eq!(info.storage_root, "file");
    assert!(info.trusted_apps.is_empty());
    assert!(info.stats.rss_kib > 0 && info.stats.spawn_ready_us > 0);
    println!(
        "teed {} KiB, missing {:?}",
        info.stats.rss_kib, info.missing
    );
    let root = rustix::process::geteuid().is_root();
    assert_eq!(
        info.missing.iter().any(|wall| wall == "dedicated-uid"),
        !root
    );
    let stats = Command::new(TEED)
        .args(["--stats", "--dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(String::from_utf8(stats.stdout).unwrap().contains("SN-1"));
}

#[test]
fn it_is_confined_itself() {
    let (_dir, teed) = new();
    let text = std::fs::read_to_string(format!("/proc/{}/status", teed.child.id())).unwrap();
    let line = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line[key.len()..].trim().to_owned()
    };
    assert_eq!(line("NoNewPrivs:"), "1");
    assert_eq!(line("Seccomp:"), "2");
    let capabilities = u64::from_str_radix(&line("CapEff:"), 16).unwrap();
    // Neither CAP_SYS_PTRACE (19) nor CAP_NET_ADMIN (12) nor CAP_SYS_MODULE (16).
    assert_eq!(capabilities & (1 << 19 | 1 << 12 | 1 << 16), 0);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", teed.child.id()));
    if let Ok(limits) = limits {
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
}

#[test]
fn a_ta_that_is_not_there_is_not_found_whatever_the_login() {
    let (_dir, teed) = new();
    let gid = rustix::process::getegid().as_raw();
    for login in [
        Login::Public,
        Login::User,
        Login::Group { gid },
        Login::Application,
        Login::UserApplication,
        Login::GroupApplication { gid },
    ] {
        let error = teed
            .context()
            .open_session(&TA, login, &mut Operation::empty());
        let error = error.err().unwrap();
        assert_eq!(
            error.code(),
            codes::TEEC_ERROR_ITEM_NOT_FOUND,
            "{login:?}: {error}"
        );
        assert_eq!(error.origin(), Origin::Tee);
    }
    let login = Login::Group { gid: 0xdead };
    let error = teed
        .context()
        .open_session(&TA, login, &mut Operation::empty())
        .err()
        .unwrap();
    assert_eq!(error.code(), codes::TEEC_ERROR_ACCESS_DENIED);
}

#[test]
fn the_broker_is_told_whom_to_contact() {
    let (_dir, teed) = new();
    let contact = teed.context().request_ta(&TA).unwrap().unwrap();
    assert_eq!(contact.tam_uri.as_deref(), Some("http://tam.example/"));
    teed.context().process_error().unwrap();
}

#[test]
fn a_second_one_on_the_same_directory_is_refused() {
    let (dir, _teed) = new();
    let said = refused(dir.path());
    assert!(said.contains("another teed runs"), "{said}");
}

#[test]
fn after_kill_9_it_starts_again_on_its_stale_socket() {
    let (dir, mut teed) = new();
    teed.kill();
    assert!(dir.path().join("teed.sock").exists());
    let error = teed.context().info().unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    let teed = Teed::start(dir.path());
    assert!(teed.log().contains("stale socket removed"));
}

#[test]
fn a_device_file_that_is_missing_open_or_damaged_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let said = refused(dir.path());
    assert!(
        said.contains("device.cbor") && said.contains("factory"),
        "{said}"
    );
    device(dir.path());
    let path = dir.path().join("device.cbor");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let said = refused(dir.path());
    assert!(said.contains("644") && said.contains("chmod 600"), "{said}");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let said = refused(dir.path());
    assert!(said.contains("not a whole device file"), "{said}");
    assert!(!dir.path().join("teed.sock").exists());
}

#[test]
fn a_mistake_in_the_configuration_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    device(dir.path());
    std::fs::write(
        dir.path().join("teed.toml"),
        "log = \"info\"\nsockt = \"x\"\n",
    )
    .unwrap();
    let said = refused(dir.path());
    assert!(said.contains("line 2") && said.contains("sockt"), "{said}");
}

#[test]
fn a_storage_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    device(dir.path());
    std::fs::write(dir.path().join("tee"), b"a file").unwrap();
    let said = refused(dir.path());
    assert!(said.contains("storage directory"), "{said}");
    std::fs::remove_file(dir.path().join("tee")).unwrap();
    std::fs::write(dir.path().join("teed.toml"), "storage = \"no/such\"").unwrap();
    let said = refused(dir.path());
    assert!(said.contains("parent directory"), "{said}");
}

#[test]
fn a_file_in_the_place_of_the_socket_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    device(dir.path());
    std::fs::write(dir.path().join("teed.sock"), b"precious").unwrap();
    let said = refused(dir.path());
    assert!(said.contains("no socket"), "{said}");
    assert_eq!(
        std::fs::read(dir.path().join("teed.sock")).unwrap(),
        b"precious"
    );
}

#[test]
fn check_tells_that_everything_is_in_order() {
    let (dir, mut teed) = new();
    teed.kill();
    let check = Command::new(TEED)
        .args(["--check", "--dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stderr)
    );
    assert!(
        String::from_utf8(check.stdout)
            .unwrap()
            .contains("everything is in order")
    );
}

#[test]
fn walls_that_are_required_and_missing_keep_it_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    device(dir.path());
    // Account 0 means that workers get none of their own.
    let config = "worker_account = 0\nrequire = [\"dedicated-uid\"]\n";
    std::fs::write(dir.path().join("teed.toml"), config).unwrap();
    let said = refused(dir.path());
    assert!(said.contains("dedicated-uid"), "{said}");
}

#[test]
fn silent_and_babbling_clients_hurt_nobody() {
    let (_dir, teed) = new();
    let socket = teed.socket();
    let silent: Vec<UnixStream> = (0..20)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    for stream in &silent {
        (&*stream).write_all(&[200, 0]).unwrap();
    }
    let mut babbler = UnixStream::connect(&socket).unwrap();
    let _ = babbler.write_all(&[0xff; 4096]);
    let mut liar = UnixStream::connect(&socket).unwrap();
    let _ = liar.write_all(&u32::MAX.to_le_bytes());
    let begun = Instant::now();
    teed.context().info().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn too_many_connections_are_told_so() {
    let dir = tempfile::tempdir().unwrap();
    device(dir.path());
    std::fs::write(dir.path().join("teed.toml"), "connections_max = 4\n").unwrap();
    let teed = Teed::start(dir.path());
    let socket = teed.socket();
    let held: Vec<UnixStream> = (0..4)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    let begun = Instant::now();
    let error = loop {
        match teed.context().info() {
            Err(error) => break error,
            Ok(_) => assert!(begun.elapsed() < Duration::from_secs(5)),
        }
    };
    assert_eq!(error.code(), codes::TEEC_ERROR_BUSY, "{error}");
    assert!(error.is_retryable());
    drop(held);
    let begun = Instant::now();
    while teed.context().info().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_long_path_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(130));
    std::fs::create_dir(&deep).unwrap();
    device(&deep);
    Teed::start(&deep);
}
