//! C programs against the library, and the library against a real TEE with a real TA in it.
//!
//! This program starts itself anew as the TEE, and as its workers. `TEGATA_OPTEE_INCLUDE` names a
//! directory with OP-TEE's own `tee_client_api.h`: then the same sources are also compiled with
//! that, and what comes out runs with this library, as a program would that was never rebuilt.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::{BufRead, BufReader, Write};
use std::mem::{offset_of, size_of};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tegata_client::{Context, TaUuid, TeepOutcome};
use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::device_keys::{delivery_ecdh_key, software_derive};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{CryptoError, Secret};
use tegata_platform::software::{reexec, teed_main};
use tegata_tee::testing::release::{Delivery, DeviceInfo, ReleaseSpec, TestCa, TestTam};
use tegata_teec as teec;
use tegata_wire::device::{DeviceFile, DeviceIdentity, Oem};
use tegata_wire::ids::Ueid;
use tegata_wire::rpc::{self, Call, Request};
use tegata_wire::teep::{Message, Token, Update};

/// Commands as in c/conformance.c.
const MODULE: &str = r#"
(module
  (import "gp_tee_1" "TEE_Wait" (func $wait (param i32) (result i32)))
  (import "gp_tee_1" "TEE_UnmaskCancellation" (func $unmask (result i32)))
  (memory (export "memory") 12)
  (func (export "TA_CreateEntryPoint") (result i32) (i32.const 0))
  (func (export "TA_DestroyEntryPoint"))
  (func (export "TA_OpenSessionEntryPoint") (param $types i32) (param $p i32) (param i32) (result i32)
    (if (i32.eq (local.get $types) (i32.const 3)) (then
      (i32.store offset=4 (local.get $p)
        (i32.add (i32.load (local.get $p)) (i32.const 1)))))
    (if (i32.eq (local.get $types) (i32.const 1)) (then
      (if (i32.eq (i32.load (local.get $p)) (i32.const 0xdead)) (then
        (return (i32.const 0xffff0001))))))
    (i32.const 0))
  (func (export "TA_CloseSessionEntryPoint") (param i32))
  (func (export "gp_alloc") (param i32) (result i32) (i32.const 65536))
  (func (export "gp_free") (param i32))
  (func $echo (param $p i32) (result i32)
    (local $i i32) (local $n i32)
    (local.set $n (i32.load offset=4 (local.get $p)))
    (if (i32.gt_u (local.get $n) (i32.load offset=12 (local.get $p))) (then
      (i32.store offset=12 (local.get $p) (local.get $n))
      (return (i32.const 0xffff0010))))
    (memory.copy (i32.load offset=8 (local.get $p)) (i32.load (local.get $p)) (local.get $n))
    (i32.store offset=12 (local.get $p) (local.get $n))
    (i32.const 0))
  (func $values (param $p i32) (param $types i32)
    (local $a i32)
    (local.set $a (i32.load (local.get $p)))
    (i32.store (local.get $p) (i32.load offset=4 (local.get $p)))
    (i32.store offset=4 (local.get $p) (local.get $a))
    (i32.store offset=8 (local.get $p)
      (i32.add (i32.load offset=16 (local.get $p)) (i32.load offset=20 (local.get $p))))
    (i32.store offset=12 (local.get $p) (local.get $types)))
  (func $invert (param $p i32)
    (local $i i32) (local $n i32) (local $at i32)
    (local.set $n (i32.load offset=4 (local.get $p)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (local.set $at (i32.add (i32.load (local.get $p)) (local.get $i)))
      (i32.store8 (local.get $at)
        (i32.xor (i32.load8_u (local.get $at)) (i32.const 0xff)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (i32.store offset=4 (local.get $p) (i32.sub (local.get $n) (i32.const 1))))
  (func (export "TA_InvokeCommandEntryPoint")
    (param $s i32) (param $c i32) (param $types i32) (param $p i32) (result i32)
    (if (i32.eq (local.get $c) (i32.const 1)) (then (return (call $echo (local.get $p)))))
    (if (i32.eq (local.get $c) (i32.const 2)) (then unreachable))
    (if (i32.eq (local.get $c) (i32.const 3)) (then
      (drop (call $unmask))
      (return (call $wait (i32.load (local.get $p))))))
    (if (i32.eq (local.get $c) (i32.const 4)) (then
      (call $values (local.get $p) (local.get $types)) (return (i32.const 0))))
    (if (i32.eq (local.get $c) (i32.const 5)) (then
      (if (i32.eq (i32.shr_u (local.get $types) (i32.const 12)) (i32.const 2)) (then
        (i32.store offset=24 (local.get $p) (local.get $types))))
      (return (i32.const 0))))
    (if (i32.eq (local.get $c) (i32.const 6)) (then (loop $for_ever (br $for_ever))))
    (if (i32.eq (local.get $c) (i32.const 7)) (then
      (call $invert (local.get $p)) (return (i32.const 0))))
    (if (i32.eq (local.get $c) (i32.const 8)) (then (return (i32.load (local.get $p)))))
    (if (i32.eq (local.get $c) (i32.const 9)) (then
      (return (call $wait (i32.load (local.get $p))))))
    (i32.const 0xffff0006))
)"#;

const TESTS: &[(&str, fn())] = &[
    ("every_check_of_the_c_program", every_check),
    ("the_same_linked_statically", linked_statically),
    ("the_same_compiled_for_op_tee", compiled_for_optee),
    ("layout_is_the_same_in_c_and_rust", layout),
    ("clients_killed_in_a_call_leave_nothing", killed_clients),
    ("a_client_that_never_reads_disturbs_nobody", never_reads),
    ("a_client_outlives_its_tee", outlives),
];

fn main() -> ExitCode {
    if let Some(code) = reexec() {
        return code;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == TEED) {
        return teed_main(args);
    }
    if args.iter().any(|arg| arg == "--list") {
        for (name, _) in TESTS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filter: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let mut failed = 0;
    for (name, test) in TESTS {
        if !filter.is_empty() && !filter.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let begun = Instant::now();
        let word = match std::panic::catch_unwind(test) {
            Ok(()) => "ok",
            Err(_) => {
                failed += 1;
                "FAILED"
            }
        };
        println!(
            "test {name} ... {word} ({} ms)",
            begun.elapsed().as_millis()
        );
    }
    if let Some(tee) = TEE.get() {
        let pid = tee.child.id().to_string();
        let _ = Command::new("kill").arg(pid).status();
    }
    ExitCode::from(u8::from(failed > 0))
}

/// The argument with which this program is the TEE.
const TEED: &str = "tegata-teed";

/// A TEE with the TA in it; it ends with this value.
struct Tee {
    dir: tempfile::TempDir,
    child: Child,
    ta: TaUuid,
}

impl Tee {
    fn start() -> Self {
        let (ca, tam) = (TestCa::new(101), TestTam::new(103));
        let dir = tempfile::tempdir().unwrap();
        let device = device(dir.path(), &ca, &tam);
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args([TEED, "--dir"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut tee = Self {
            child,
            ta: ca.uuid("c"),
            dir,
        };
        let begun = Instant::now();
        while tee.context().info().is_err() {
            let ended = tee.child.try_wait().unwrap();
            let waited = begun.elapsed() < Duration::from_secs(20);
            assert!(ended.is_none() && waited, "{}", tee.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        tee.install(&ca, &tam, &device);
        tee
    }

    fn install(&self, ca: &TestCa, tam: &TestTam, device: &DeviceInfo) {
        let release = ca.release(&ReleaseSpec {
            name: "c".into(),
            sequence_number: 1,
            module: wat::parse_str(MODULE).unwrap(),
            procedure: b"procedure".to_vec(),
        });
        let config = ca.config("c", 1, device, b"secret");
        let envelope = tam.dependent(&release, &config, device, Delivery::Integrated);
        let update = Update {
            token: Some(Token::new(b"token-of-16-byte".to_vec()).unwrap()),
            manifest_list: Some(vec![envelope]),
            ..Update::default()
        };
        let payload = Message::from(update).encode().unwrap();
        let headers = Sign1Headers::default();
        let message = sign1(&tam.key, &payload, &headers, b"", false).unwrap();
        let outcome = self.context().process_teep(&message, &[]).unwrap();
        assert!(matches!(outcome, TeepOutcome::Reply(_)));
        assert_eq!(
            self.context().info().unwrap().trusted_apps.len(),
            1,
            "{}",
            self.log()
        );
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("teed.sock")
    }

    fn context(&self) -> Context {
        Context::new(self.socket())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// A role of the C program.
    fn program(&self, program: &Path, role: &str) -> Command {
        let mut command = Command::new(program);
        command
            .arg(role)
            .arg(self.ta.to_string())
            .env("TEGATA_TEED_SOCKET", self.socket())
            .env("LD_LIBRARY_PATH", library());
        command
    }

    fn run(&self, program: &Path, role: &str) {
        let output = self.program(program, role).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        print!(
            "    {}",
            said.lines()
                .last()
                .map_or_else(String::new, |l| format!("{l}\n"))
        );
        assert!(
            output.status.success(),
            "{}: {said}\n{}",
            output.status,
            self.log()
        );
    }

    /// Waits until nobody is connected and no TA runs.
    fn until_idle(&self) {
        let begun = Instant::now();
        loop {
            let stats = self.context().info().unwrap().stats;
            if stats.sessions == 0 && stats.workers == 0 {
                return;
            }
            let waited = begun.elapsed() < Duration::from_secs(20);
            assert!(
                waited,
                "{} sessions, {} workers",
                stats.sessions, stats.workers
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn device(dir: &Path, ca: &TestCa, tam: &TestTam) -> DeviceInfo {
    let tee_key = [0x24; 32];
    let ueid = Ueid::from_random([9; 16]);
    let derive = |label: &str, context: &[u8]| -> Result<Secret<[u8; 32]>, CryptoError> {
        software_derive(&RustCrypto, &Secret::new(tee_key), label, context)
    };
    let delivery = delivery_ecdh_key(&RustCrypto, &derive).unwrap();
    let file = DeviceFile {
        tee_key: tee_key.into(),
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
    let path = dir.join("device.cbor");
    std::fs::write(&path, &*file.encode().unwrap()).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    DeviceInfo {
        ueid,
        delivery: delivery.public_key().clone(),
    }
}

// ---- compiling -------------------------------------------------------------------------------

/// A directory with the library under all its names, kept until this program ends.
fn library() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let built = std::env::current_exe().unwrap();
        let built = built.parent().unwrap();
        let shared = built.join("libtegata_teec.so");
        for name in [
            "libtegata_teec.so",
            "libtegata_teec.so.1", // its SONAME
            "libteec.so",          // for programs that were linked with another library
        ] {
            std::os::unix::fs::symlink(&shared, dir.path().join(name)).unwrap();
        }
        let archive = built.join("libtegata_teec.a");
        std::os::unix::fs::symlink(archive, dir.path().join("libtegata_teec.a")).unwrap();
        dir
    })
    .path()
}

/// Compiles the C program with the header of `include`.
fn compile(name: &str, include: &Path, link: &[&str]) -> PathBuf {
    let program = library().join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/conformance.c");
    let output = Command::new("gcc")
        .args([
            "-std=gnu11",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pthread",
        ])
        .arg("-I")
        .arg(include)
        .arg(source)
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(library())
        .args(link)
        .output()
        .expect("gcc is there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    program
}

fn our_header() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

fn conformance() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile("conformance", &our_header(), &["-ltegata_teec"]))
}

fn tee() -> &'static Tee {
    TEE.get_or_init(Tee::start)
}

/// The TEE of most tests; ended by `main`.
static TEE: OnceLock<Tee> = OnceLock::new();

// ---- tests -----------------------------------------------------------------------------------

fn every_check() {
    tee().run(conformance(), "all");
    tee().until_idle();
}

fn linked_statically() {
    let link = [
        "-l:libtegata_teec.a",
        "-lgcc_s",
        "-lutil",
        "-lrt",
        "-lpthread",
        "-lm",
        "-ldl",
    ];
    let program = compile("static", &our_header(), &link);
    tee().run(&program, "all");
}

fn compiled_for_optee() {
    let Some(include) = std::env::var_os("TEGATA_OPTEE_INCLUDE") else {
        println!("    skipped: TEGATA_OPTEE_INCLUDE does not name OP-TEE's header");
        return;
    };
    let program = compile("for-optee", Path::new(&include), &["-lteec"]);
    tee().run(&program, "all");
}

fn layout() {
    let output = Command::new(conformance())
        .arg("layout")
        .env("LD_LIBRARY_PATH", library())
        .output()
        .unwrap();
    let of = |name: &str, number: usize| format!("{name} {number}\n");
    let expected = [
        of("TEEC_Context", size_of::<teec::TeecContext>()),
        of("TEEC_Session", size_of::<teec::TeecSession>()),
        of("TEEC_UUID", size_of::<teec::TeecUuid>()),
        of("TEEC_SharedMemory", size_of::<teec::TeecSharedMemory>()),
        of(
            "TEEC_TempMemoryReference",
            size_of::<teec::TempMemoryReference>(),
        ),
        of(
            "TEEC_RegisteredMemoryReference",
            size_of::<teec::RegisteredMemoryReference>(),
        ),
        of("TEEC_Value", size_of::<teec::Value>()),
        of("TEEC_Parameter", size_of::<teec::TeecParameter>()),
        of("TEEC_Operation", size_of::<teec::TeecOperation>()),
        of("TEEC_UUID.timeMid", offset_of!(teec::TeecUuid, time_mid)),
        of(
            "TEEC_UUID.timeHiAndVersion",
            offset_of!(teec::TeecUuid, time_hi_and_version),
        ),
        of(
            "TEEC_UUID.clockSeqAndNode",
            offset_of!(teec::TeecUuid, clock_seq_and_node),
        ),
        of(
            "TEEC_SharedMemory.size",
            offset_of!(teec::TeecSharedMemory, size),
        ),
        of(
            "TEEC_SharedMemory.flags",
            offset_of!(teec::TeecSharedMemory, flags),
        ),
        of(
            "TEEC_SharedMemory.imp",
            offset_of!(teec::TeecSharedMemory, handle),
        ),
        of(
            "TEEC_TempMemoryReference.size",
            offset_of!(teec::TempMemoryReference, size),
        ),
        of(
            "TEEC_RegisteredMemoryReference.size",
            offset_of!(teec::RegisteredMemoryReference, size),
        ),
        of(
            "TEEC_RegisteredMemoryReference.offset",
            offset_of!(teec::RegisteredMemoryReference, offset),
        ),
        of("TEEC_Value.b", offset_of!(teec::Value, b)),
        of(
            "TEEC_Operation.paramTypes",
            offset_of!(teec::TeecOperation, param_types),
        ),
        of(
            "TEEC_Operation.params",
            offset_of!(teec::TeecOperation, params),
        ),
        of(
            "TEEC_Operation.imp",
            offset_of!(teec::TeecOperation, reserved),
        ),
    ];
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected.concat());
    assert_eq!(teec::CALL_LEN_BYTES_MAX, rpc::PARAMS_LEN_BYTES_MAX);
}

/// Clients in the middle of a call die; their instances do too, and others are served meanwhile.
fn killed_clients() {
    let tee = tee();
    let mut clients: Vec<Child> = (0..3)
        .map(|_| {
            tee.program(conformance(), "wait")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for client in &mut clients {
        let mut line = String::new();
        let mut said = BufReader::new(client.stdout.as_mut().unwrap());
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "waiting\n");
    }
    assert_eq!(tee.context().info().unwrap().stats.sessions, 3);
    std::thread::sleep(Duration::from_millis(100));
    for client in &mut clients {
        client.kill().unwrap();
    }
    tee.run(conformance(), "all");
    tee.until_idle();
    for client in &mut clients {
        client.wait().unwrap();
    }
}

/// A client asks and asks and takes no answer: its own connection fills up, others are served.
fn never_reads() {
    let tee = tee();
    let mut deaf = UnixStream::connect(tee.socket()).unwrap();
    deaf.set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let hello = Request::Hello {
        version: rpc::VERSION,
    };
    let ask = |id, request| rpc::frame(&Call { id, request }, rpc::FRAME_LEN_BYTES_MAX).unwrap();
    deaf.write_all(&ask(1, hello)).unwrap();
    let mut asked = 0u64;
    while asked < 200_000 && deaf.write_all(&ask(asked + 2, Request::Info)).is_ok() {
        asked += 1;
    }
    println!("    {asked} questions");
    let begun = Instant::now();
    tee.run(conformance(), "all");
    assert!(begun.elapsed() < Duration::from_secs(20));
    drop(deaf);
    tee.until_idle();
}

/// The TEE dies under a client: codes, no signal, no hang.
fn outlives() {
    let mut tee = Tee::start();
    let mut client = tee
        .program(conformance(), "bereaved")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(client.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    tee.child.kill().unwrap();
    tee.child.wait().unwrap();
    client.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut said, &mut rest).unwrap();
    let status = client.wait().unwrap();
    assert!(status.success(), "{status}: {rest}");
}
