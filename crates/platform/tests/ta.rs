//! A TA in a worker, from its delivery to its death, through the real processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::Teed;
use tegata_client::{
    Error, Login, Operation, Origin, Parameter, Payload, Session, TaUuid, TeepOutcome, codes,
};
use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::device_keys::{delivery_ecdh_key, software_derive};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{CryptoError, Secret};
use tegata_tee::testing::release::{Delivery, DeviceInfo, ReleaseSpec, TestCa, TestTam};
use tegata_wire::device::{DeviceFile, DeviceIdentity, Oem};
use tegata_wire::ids::Ueid;
use tegata_wire::teep::{Message, Token, Update};

/// Commands: 1 echo, 2 trap, 3 loop for ever, 4 keep an object, 5 read it.
const MODULE: &str = r#"
(module
  (import "gp_tee_1" "TEE_CreatePersistentObject"
    (func $create (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "gp_tee_1" "TEE_OpenPersistentObject"
    (func $open (param i32 i32 i32 i32 i32) (result i32)))
  (import "gp_tee_1" "TEE_ReadObjectData" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "gp_tee_1" "TEE_CloseObject" (func $close (param i32)))
  (memory (export "memory") 4)
  (data (i32.const 16) "object")
  (func (export "TA_CreateEntryPoint") (result i32) (i32.const 0))
  (func (export "TA_DestroyEntryPoint"))
  (func (export "TA_OpenSessionEntryPoint") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "TA_CloseSessionEntryPoint") (param i32))
  (func (export "gp_alloc") (param i32) (result i32) (i32.const 65536))
  (func (export "gp_free") (param i32))
  (func $echo (param $p i32)
    (local $i i32) (local $n i32)
    (local.set $n (i32.load offset=4 (local.get $p)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (i32.store8
        (i32.add (i32.load offset=8 (local.get $p)) (local.get $i))
        (i32.load8_u (i32.add (i32.load (local.get $p)) (local.get $i))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (i32.store offset=12 (local.get $p) (local.get $n)))
  (func (export "TA_InvokeCommandEntryPoint") (param i32 i32 i32 i32) (result i32)
    (local $code i32)
    (if (i32.eq (local.get 1) (i32.const 1)) (then
      (call $echo (local.get 3)) (return (i32.const 0))))
    (if (i32.eq (local.get 1) (i32.const 2)) (then unreachable))
    (if (i32.eq (local.get 1) (i32.const 3)) (then (loop $for_ever (br $for_ever))))
    (if (i32.eq (local.get 1) (i32.const 4)) (then
      (local.set $code (call $create (i32.const 1) (i32.const 16) (i32.const 6)
        (i32.const 0x407) (i32.const 0)
        (i32.load (local.get 3)) (i32.load offset=4 (local.get 3)) (i32.const 64)))
      (if (local.get $code) (then (return (local.get $code))))
      (call $close (i32.load (i32.const 64)))
      (return (i32.const 0))))
    (if (i32.eq (local.get 1) (i32.const 5)) (then
      (local.set $code (call $open (i32.const 1) (i32.const 16) (i32.const 6)
        (i32.const 1) (i32.const 64)))
      (if (local.get $code) (then (return (local.get $code))))
      (local.set $code (call $read (i32.load (i32.const 64))
        (i32.load offset=8 (local.get 3)) (i32.load offset=12 (local.get 3))
        (i32.add (local.get 3) (i32.const 12))))
      (call $close (i32.load (i32.const 64)))
      (return (local.get $code))))
    (i32.const 0xffff0006))
  (@custom "tegata.ta" "gpd.ta.singleInstance = PROPERTY\ngpd.ta.multiSession = PROPERTY\n")
)"#;

const TEE_KEY: [u8; 32] = [0x24; 32];
const NAME: &str = "test";

struct World {
    dir: tempfile::TempDir,
    ca: TestCa,
    tam: TestTam,
    device: DeviceInfo,
}

impl World {
    fn new() -> Self {
        let (ca, tam) = (TestCa::new(101), TestTam::new(103));
        let ueid = Ueid::from_random([9; 16]);
        let derive = |label: &str, context: &[u8]| -> Result<Secret<[u8; 32]>, CryptoError> {
            software_derive(&RustCrypto, &Secret::new(TEE_KEY), label, context)
        };
        let delivery = delivery_ecdh_key(&RustCrypto, &derive)
            .unwrap()
            .public_key()
            .clone();
        let dir = tempfile::tempdir().unwrap();
        let file = DeviceFile {
            tee_key: TEE_KEY.into(),
            identity: DeviceIdentity {
                ueid,
                serial: "SN-1".into(),
                oemid: Oem::Pen(32473),
                hwmodel: b"gateway".to_vec(),
                hwversion: "1".into(),
                imei: None,
                mac: None,
                vendor_ids: vec![],
                class_ids: vec![],
            },
            release_keys: vec![ca.key.public_key().to_cose_key().unwrap()],
            tam_keys: vec![tam.key.public_key().to_cose_key().unwrap()],
            tam_uri: None,
        };
        let path = dir.path().join("device.cbor");
        std::fs::write(&path, &*file.encode().unwrap()).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        Self {
            dir,
            ca,
            tam,
            device: DeviceInfo { ueid, delivery },
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ta(&self) -> TaUuid {
        self.ca.uuid(NAME)
    }

    /// Brings a release to the device; `uri` leaves its module to be fetched.
    fn install(&self, teed: &Teed, version: u64, single: bool, uri: Option<&str>) {
        let text = MODULE.replace("PROPERTY", if single { "true" } else { "false" });
        let spec = ReleaseSpec {
            name: NAME.into(),
            sequence_number: version,
            module: wat::parse_str(text).unwrap(),
            procedure: b"procedure".to_vec(),
        };
        let release = self.ca.release(&spec);
        let config = self.ca.config(NAME, version, &self.device, b"secret");
        let delivery = uri.map_or(Delivery::Integrated, Delivery::Uri);
        let envelope = self
            .tam
            .dependent(&release, &config, &self.device, delivery);
        let update = Update {
            token: Some(Token::new(b"token-of-16-byte".to_vec()).unwrap()),
            manifest_list: Some(vec![envelope]),
            ..Update::default()
        };
        let payload = Message::from(update).encode().unwrap();
        let message = sign1(
            &self.tam.key,
            &payload,
            &Sign1Headers::default(),
            b"",
            false,
        )
        .unwrap();
        let mut outcome = teed.context().process_teep(&message, &[]).unwrap();
        if let TeepOutcome::NeedPayload { uri, max_bytes } = &outcome {
            assert!(*max_bytes >= release.ciphertext.len() as u64);
            let payload = Payload {
                uri: uri.clone(),
                bytes: release.ciphertext.clone(),
            };
            outcome = teed.context().process_teep(&message, &[payload]).unwrap();
        }
        assert!(matches!(outcome, TeepOutcome::Reply(_)));
        let info = teed.context().info().unwrap();
        assert_eq!(info.trusted_apps.len(), 1, "{}", teed.log());
        assert_eq!(info.trusted_apps[0].sequence_number, version);
    }

    fn running(single: bool) -> (Self, Teed) {
        let world = Self::new();
        let teed = Teed::start(world.path());
        world.install(&teed, 1, single, None);
        (world, teed)
    }

    fn open(&self, teed: &Teed) -> Session {
        let opened = teed
            .context()
            .open_session(&self.ta(), Login::User, &mut Operation::empty());
        opened.unwrap_or_else(|error| panic!("{error}\n{}", teed.log()))
    }
}

fn echo(session: &Session, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let room = u32::try_from(bytes.len()).unwrap();
    let mut operation = Operation::new([
        Parameter::memref_input(bytes),
        Parameter::memref_output(room),
        Parameter::None,
        Parameter::None,
    ]);
    session.invoke(1, &mut operation)?;
    Ok(operation.memref(1).to_vec())
}

fn keep(session: &Session, bytes: &[u8]) -> Result<(), Error> {
    let mut operation = Operation::new([
        Parameter::memref_input(bytes),
        Parameter::None,
        Parameter::None,
        Parameter::None,
    ]);
    session.invoke(4, &mut operation)
}

fn kept(session: &Session) -> Result<Vec<u8>, Error> {
    let mut operation = Operation::new([
        Parameter::None,
        Parameter::memref_output(1000),
        Parameter::None,
        Parameter::None,
    ]);
    session.invoke(5, &mut operation)?;
    Ok(operation.memref(1).to_vec())
}

/// Process numbers of the workers of `teed`.
fn workers(teed: &Teed) -> Vec<i32> {
    let output = Command::new("ps")
        .args(["-eo", "pid=,ppid=,args="])
        .output()
        .unwrap();
    let parent = teed.child.id().to_string();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.contains("__tegata-worker"))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let pid = words.next()?.parse().ok()?;
            (words.next()? == parent).then_some(pid)
        })
        .collect()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_ta_is_delivered_opened_and_called() {
    let (world, teed) = World::running(false);
    let session = world.open(&teed);
    assert_eq!(echo(&session, b"hello").unwrap(), b"hello");
    let big = vec![7; 60_000];
    assert!(echo(&session, &big).unwrap() == big);
    let begun = Instant::now();
    let rounds = 500;
    for _ in 0..rounds {
        echo(&session, b"x").unwrap();
    }
    let stats = teed.context().info().unwrap().stats;
    println!(
        "round trip {:?}; spawn until ready {} us; teed {} KiB, worker {} KiB",
        begun.elapsed() / rounds,
        stats.spawn_ready_us,
        stats.rss_kib,
        stats.worker_rss_kib
    );
    assert_eq!((stats.sessions, stats.workers), (1, 1));
    assert!(stats.worker_rss_kib > 0);
    let error = session.invoke(99, &mut Operation::empty()).unwrap_err();
    assert_eq!(error.code(), codes::TEEC_ERROR_BAD_PARAMETERS);
    assert_eq!(error.origin(), Origin::TrustedApp);
    session.close().unwrap();
    let stats = teed.context().info().unwrap().stats;
    assert_eq!((stats.sessions, stats.workers), (0, 0));
}

#[test]
fn a_module_is_fetched_from_elsewhere() {
    let world = World::new();
    let teed = Teed::start(world.path());
    world.install(&teed, 1, false, Some("http://cdn.example/ta"));
    assert_eq!(echo(&world.open(&teed), b"y").unwrap(), b"y");
}

#[test]
fn a_panic_ends_the_instance_and_a_new_one_is_fresh() {
    let (world, teed) = World::running(false);
    let session = world.open(&teed);
    for _ in 0..2 {
        let error = session.invoke(2, &mut Operation::empty()).unwrap_err();
        assert_eq!(error.code(), codes::TEEC_ERROR_TARGET_DEAD);
        assert_eq!(error.origin(), Origin::Tee);
    }
    assert_eq!(echo(&world.open(&teed), b"z").unwrap(), b"z");
}

#[test]
fn kill_9_of_a_worker_kills_its_sessions_and_nothing_else() {
    let (world, teed) = World::running(true);
    let (first, second) = (world.open(&teed), world.open(&teed));
    keep(&first, b"kept").unwrap();
    let [pid] = workers(&teed)[..] else {
        panic!("{:?}", workers(&teed))
    };
    kill(pid);
    for session in [&first, &second] {
        let error = echo(session, b"x").unwrap_err();
        assert_eq!(error.code(), codes::TEEC_ERROR_TARGET_DEAD, "{error}");
        assert_eq!(error.origin(), Origin::Tee);
    }
    let third = world.open(&teed);
    assert_eq!(kept(&third).unwrap(), b"kept");
}

#[test]
fn kill_9_of_teed_loses_nothing_that_was_answered() {
    let (world, mut teed) = World::running(false);
    let session = world.open(&teed);
    keep(&session, b"answered").unwrap();
    let pids = workers(&teed);
    teed.kill();
    assert!(matches!(echo(&session, b"x"), Err(Error::Closed)));
    // Its workers go with it.
    let begun = Instant::now();
    while pids
        .iter()
        .any(|pid| Path::new(&format!("/proc/{pid}")).exists())
    {
        assert!(begun.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(10));
    }
    let teed = Teed::start(world.path());
    assert_eq!(kept(&world.open(&teed)).unwrap(), b"answered");
}

#[test]
fn an_endless_ta_is_cancelled_with_its_client() {
    let (world, teed) = World::running(false);
    let session = world.open(&teed);
    // A client that is killed in the middle of a call: here, a connection that just ends.
    let context = teed.context();
    let thread = std::thread::spawn(move || {
        let timeouts = tegata_client::Timeouts {
            call: Duration::from_millis(300),
            ..tegata_client::Timeouts::default()
        };
        let context = context.with_timeouts(timeouts);
        let ta = TestCa::new(101).uuid(NAME);
        let session = context
            .open_session(&ta, Login::User, &mut Operation::empty())
            .unwrap();
        let error = session.invoke(3, &mut Operation::empty()).unwrap_err();
        assert!(matches!(error, Error::TimedOut));
    });
    // Meanwhile others are served.
    assert_eq!(echo(&session, b"meanwhile").unwrap(), b"meanwhile");
    thread.join().unwrap();
    let begun = Instant::now();
    while teed.context().info().unwrap().stats.sessions != 1 {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", teed.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    // The endless instance ends at its next slice.
    while workers(&teed).len() != 1 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", teed.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_update_ends_the_old_code_and_reaches_new_sessions() {
    let (world, teed) = World::running(true);
    let old = world.open(&teed);
    keep(&old, b"of version 1").unwrap();
    world.install(&teed, 2, false, None);
    let dead = echo(&old, b"still here").unwrap_err();
    assert_eq!(dead.code(), codes::TEEC_ERROR_TARGET_DEAD);
    let new = world.open(&teed);
    assert_eq!(kept(&new).unwrap(), b"of version 1");
}

#[test]
fn storage_opens_with_its_own_device_only() {
    let (world, mut teed) = World::running(false);
    keep(&world.open(&teed), b"x").unwrap();
    teed.kill();
    let path = world.path().join("device.cbor");
    let mut file = DeviceFile::decode(&std::fs::read(&path).unwrap()).unwrap();
    file.tee_key = [0x25; 32].into();
    std::fs::write(&path, &*file.encode().unwrap()).unwrap();
    let output = Command::new(common::TEED)
        .arg("--dir")
        .arg(world.path())
        .output();
    let output = output.unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("another device.cbor") && said.contains("restore"),
        "{said}"
    );
}
