//! The key module in the real `tegata-teed` with workers: each caller is who the kernel says, and
//! to every other one a key does not exist, whatever it asks.
//!
//! The second caller is a copy of this very test program, started with other bytes (another program)
//! or as another user or group, which runs one "test" of this file as its client.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../../tee/tests/support/ca.rs"]
#[allow(dead_code)] // This file uses its part.
mod ca;
mod common;

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ca::Ca;
use common::Teed;
use tegata_client::{Context, Error, Login, Operation, Parameter, Payload, Session, TaUuid, codes};
use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::device_keys::{delivery_ecdh_key, software_derive};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{CryptoError, Provider, PublicKey, Secret};
use tegata_tee::testing::release::{Delivery, DeviceInfo, ReleaseSpec, TestCa, TestTam};
use tegata_wire::device::{DeviceFile, DeviceIdentity, Oem};
use tegata_wire::enrolment::{ConfirmMode, KeyKind, PersonalizationData};
use tegata_wire::ids::Ueid;
use tegata_wire::rpc::{self, Answer, Call, Reply, Request};
use tegata_wire::teep::{Message, Token, Update};

const NAME: &str = "enrol";
const TEE_KEY: [u8; 32] = [0x42; 32];
const SEED: u8 = 1;

const BEGIN: u32 = 1;
const FINISH: u32 = 2;
const CONFIRM: u32 = 3;
const SIGN: u32 = 5;
const LIST: u32 = 6;
const DELETE: u32 = 7;
const GET_PUBLIC_KEY: u32 = 8;
const PROFILES: u32 = 11;

struct World {
    dir: tempfile::TempDir,
    ca: Ca,
    teed: Teed,
    ta: TaUuid,
}

impl World {
    fn new() -> Self {
        let ca = Ca::of_several(KeyKind::P256, ConfirmMode::Explicit);
        let (release_ca, tam) = (TestCa::new(101), TestTam::new(103));
        let ueid = Ueid::from_random([SEED; 16]);
        let derive = |label: &str, context: &[u8]| -> Result<Secret<[u8; 32]>, CryptoError> {
            software_derive(&RustCrypto, &Secret::new(TEE_KEY), label, context)
        };
        let delivery = delivery_ecdh_key(&RustCrypto, &derive).unwrap();
        let device = DeviceInfo {
            ueid,
            delivery: delivery.public_key().clone(),
        };
        // Other users must reach the socket.
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let file = DeviceFile {
            tee_key: TEE_KEY.into(),
            identity: DeviceIdentity {
                ueid,
                serial: format!("SN-{SEED:04}"),
                oemid: Oem::Pen(32473),
                hwmodel: b"gateway".to_vec(),
                hwversion: "1".into(),
                imei: None,
                mac: None,
                vendor_ids: vec![],
                class_ids: vec![],
            },
            release_keys: vec![release_ca.key.public_key().to_cose_key().unwrap()],
            tam_keys: vec![tam.key.public_key().to_cose_key().unwrap()],
            tam_uri: None,
        };
        let path = dir.path().join("device.cbor");
        std::fs::write(&path, &*file.encode().unwrap()).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        let config = "socket_mode = \"0666\"\n";
        std::fs::write(dir.path().join("teed.toml"), config).unwrap();
        let teed = Teed::start(dir.path());

        let wasm = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tas/enrol/enrol.wasm");
        let spec = ReleaseSpec {
            name: NAME.into(),
            sequence_number: 1,
            module: std::fs::read(wasm).unwrap(),
            procedure: ca.procedure().encode().unwrap(),
        };
        let release = release_ca.release(&spec);
        let key = ca.csr_auth_key(&ueid);
        let data = PersonalizationData::for_device(&key, &ca::RELEASE, &ueid);
        let config = release_ca.config(NAME, 1, &device, &data.encode().unwrap());
        let uri = Delivery::Uri("http://cdn.example/ta");
        let envelope = tam.dependent(&release, &config, &device, uri);
        let update = Update {
            token: Some(Token::new(b"token-of-16-byte".to_vec()).unwrap()),
            manifest_list: Some(vec![envelope]),
            ..Update::default()
        };
        let message = Message::from(update).encode().unwrap();
        let headers = Sign1Headers::default();
        let message = sign1(&tam.key, &message, &headers, b"", false).unwrap();
        let payload = Payload {
            uri: "http://cdn.example/ta".into(),
            bytes: release.ciphertext.clone(),
        };
        teed.context().process_teep(&message, &[payload]).unwrap();
        let ta = release_ca.uuid(NAME);
        Self { dir, ca, teed, ta }
    }

    fn open(&self, login: Login) -> Session {
        open(&self.teed.context(), &self.ta, login)
            .unwrap_or_else(|error| panic!("{login:?}: {error}\n{}", self.teed.log()))
    }

    fn enrol(&self, session: &Session, label: &str, profile: &str) {
        let label = label.as_bytes();
        let request = call(session, BEGIN, &[label, profile.as_bytes()]).unwrap();
        let cp = self.ca.answer(&request, &[]).unwrap();
        let conf = call(session, FINISH, &[label, &cp]).unwrap();
        let conf = self.ca.confirm(&conf).unwrap();
        call(session, CONFIRM, &[label, &conf]).unwrap();
    }

    /// What another caller is told, see [`as_another_caller`].
    fn ask(&self, program: &Path, who: Who, login: Login, label: &str) -> String {
        let mut command = Command::new(program);
        command
            .args([
                "--exact",
                "as_another_caller",
                "--nocapture",
                "--include-ignored",
            ])
            .env("KEYS_SOCKET", self.teed.socket())
            .env("KEYS_TA", self.ta.to_string())
            .env("KEYS_LOGIN", format!("{login:?}"))
            .env("KEYS_LABEL", label)
            .current_dir("/");
        match who {
            Who::Me => {}
            Who::User(uid) => {
                // Of root's child this also drops the supplementary groups.
                command.uid(uid).gid(uid);
            }
            Who::Group(gid) => {
                command.gid(gid);
            }
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}\n{}", self.teed.log());
        let lines: Vec<&str> = text.lines().filter(|l| l.contains("command ")).collect();
        assert_eq!(lines.len(), 11, "{text}");
        lines.join("\n")
    }

    fn copy(&self, name: &str, more: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        file.write_all(more).unwrap();
        drop(file);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Me,
    User(u32),
    Group(u32),
}

fn open(context: &Context, ta: &TaUuid, login: Login) -> Result<Session, Error> {
    context.open_session(ta, login, &mut Operation::empty())
}

/// Inputs in the first places; the output in the third where a command has one.
fn call(session: &Session, command: u32, inputs: &[&[u8]]) -> Result<Vec<u8>, Error> {
    let input = |n: usize| {
        inputs
            .get(n)
            .map_or(Parameter::None, Parameter::memref_input)
    };
    let output = match command {
        CONFIRM | DELETE => Parameter::None,
        _ => Parameter::memref_output(16 * 1024),
    };
    let mut operation = Operation::new([input(0), input(1), output, Parameter::None]);
    session.invoke(command, &mut operation)?;
    Ok(operation.memref(2).to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The client in another process: every command about a label, and what comes of it.
#[test]
#[ignore = "a part of the tests below, run by them in another process"]
fn as_another_caller() {
    let Ok(socket) = std::env::var("KEYS_SOCKET") else {
        return;
    };
    let ta: TaUuid = std::env::var("KEYS_TA").unwrap().parse().unwrap();
    let label = std::env::var("KEYS_LABEL").unwrap();
    let gid = rustix::process::getegid().as_raw();
    let login = match std::env::var("KEYS_LOGIN").unwrap().as_str() {
        "Public" => Login::Public,
        "User" => Login::User,
        "Application" => Login::Application,
        "UserApplication" => Login::UserApplication,
        other if other.starts_with("GroupApplication") => Login::GroupApplication { gid },
        _ => Login::Group { gid },
    };
    let session = open(&Context::new(socket), &ta, login).unwrap();
    let label = label.as_bytes();
    for command in BEGIN..=PROFILES {
        let told = match command {
            // Would make a key of its own, as for any label: only what it may not do.
            BEGIN => call(&session, command, &[label, b"no such profile"]),
            LIST | PROFILES => call(&session, command, &[]),
            FINISH | CONFIRM | SIGN | 10 => call(&session, command, &[label, &[7; 32]]),
            _ => call(&session, command, &[label]),
        };
        match told {
            Ok(bytes) => println!("command {command} gives {}", hex(&bytes)),
            Err(Error::Returned { code, origin }) => {
                println!("command {command} returns {code:#x} of {origin:?}");
            }
            Err(error) => panic!("command {command}: {error}"),
        }
    }
}

#[test]
fn to_every_other_caller_a_key_does_not_exist() {
    let world = World::new();
    let (own_program, own_gid) = (std::env::current_exe().unwrap(), rustix::process::getegid());
    let gid = own_gid.as_raw();
    let logins = [
        Login::User,
        Login::Group { gid },
        Login::Application,
        Login::UserApplication,
        Login::GroupApplication { gid },
    ];
    for login in logins {
        let session = world.open(login);
        world.enrol(&session, "web", "both");
        // Under way too, so that FINISH and CONFIRM have something to find.
        call(&session, BEGIN, &[b"web"]).unwrap();
    }
    let other_program = world.copy("other", b"\0another program");
    let same_program = world.copy("same", b"");
    let mut refused = 0;
    for login in logins {
        let (by_group, by_program, by_user) = match login {
            Login::User => (false, false, true),
            Login::Group { .. } => (true, false, false),
            Login::Application => (false, true, false),
            Login::UserApplication => (false, true, true),
            _ => (true, true, false),
        };
        // (who, with which program, whether that is the owner)
        let mut callers = vec![
            (Who::Me, &own_program, true),
            (Who::Me, &same_program, true),
            (Who::Me, &other_program, !by_program),
        ];
        if is_root() {
            callers.push((Who::User(12345), &same_program, !by_user && !by_group));
            callers.push((Who::Group(12345), &same_program, !by_group));
            callers.push((Who::Group(12345), &other_program, !by_group && !by_program));
        }
        for (who, program, owner) in callers {
            if owner {
                continue;
            }
            let foreign = world.ask(program, who, login, "web");
            let missing = world.ask(program, who, login, "never was");
            assert_eq!(foreign, missing, "{login:?} {who:?} {program:?}");
            assert!(
                foreign.contains("command 5 returns 0xffff0008"),
                "{foreign}"
            );
            assert!(foreign.contains("command 6 gives 80"), "{foreign}");
            refused += 1;
        }
    }
    // One login's keys are not another's, of the same process.
    for login in logins {
        for other in logins {
            let session = world.open(other);
            let made = call(&session, LIST, &[]).unwrap();
            assert_ne!(made, [0x80], "{login:?} {other:?}");
        }
    }
    let public = world.open(Login::Public);
    let error = call(&public, SIGN, &[b"web", &[7; 32]]).unwrap_err();
    assert_eq!(error.code(), codes::TEEC_ERROR_ITEM_NOT_FOUND);
    let error = call(&public, BEGIN, &[b"web"]).unwrap_err();
    assert_eq!(error.code(), codes::TEEC_ERROR_ACCESS_DENIED);
    // Nobody did anything to the owners' keys.
    for login in logins {
        let session = world.open(login);
        let spki = call(&session, GET_PUBLIC_KEY, &[b"web"]).unwrap();
        let digest = RustCrypto.sha256(b"still mine");
        let signature = call(&session, SIGN, &[b"web", &digest]).unwrap();
        let key = PublicKey::from_spki_der(&spki).unwrap();
        RustCrypto.verify(&key, b"still mine", &signature).unwrap();
    }
    println!("{refused} callers were told nothing");
}

#[test]
fn a_client_that_is_killed_in_a_call_leaves_nothing_behind() {
    let world = World::new();
    let session = world.open(Login::User);
    world.enrol(&session, "web", "device");
    let stats = || world.teed.context().info().unwrap().stats;
    assert_eq!((stats().sessions, stats().workers), (1, 1));
    let program = std::env::current_exe().unwrap();
    for round in 0..3 {
        let mut children: Vec<_> = (0..4)
            .map(|_| {
                Command::new(&program)
                    .args([
                        "--exact",
                        "signs_for_ever",
                        "--nocapture",
                        "--include-ignored",
                    ])
                    .env("KEYS_SOCKET", world.teed.socket())
                    .env("KEYS_TA", world.ta.to_string())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let begun = Instant::now();
        while stats().sessions < 5 {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{}",
                world.teed.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(17 * round));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        // Others are served meanwhile.
        call(&session, SIGN, &[b"web", &[1; 32]]).unwrap();
        let begun = Instant::now();
        while (stats().sessions, stats().workers) != (1, 1) {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{:?}\n{}",
                stats(),
                world.teed.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    // Their key is whole, and there is one label, with nothing under way.
    let list = call(&session, LIST, &[]).unwrap();
    assert_eq!(hex(&list), "81826377656203");
}

/// The client that is killed: signs, asks for the next key and gives it up, without end.
#[test]
#[ignore = "a part of the test above, run by it in another process"]
fn signs_for_ever() {
    let Ok(socket) = std::env::var("KEYS_SOCKET") else {
        return;
    };
    let ta: TaUuid = std::env::var("KEYS_TA").unwrap().parse().unwrap();
    let session = open(&Context::new(socket), &ta, Login::User).unwrap();
    loop {
        call(&session, SIGN, &[b"web", &[1; 32]]).unwrap();
    }
}

#[test]
fn a_closed_session_and_too_many_sessions_are_told() {
    let world = World::new();
    let session = world.open(Login::User);
    world.enrol(&session, "web", "device");
    session.close().unwrap();
    // One instance for each session, and so many instances.
    let mut open_sessions = Vec::new();
    let error = loop {
        match open(&world.teed.context(), &world.ta, Login::User) {
            Ok(session) => open_sessions.push(session),
            Err(error) => break error,
        }
        assert!(open_sessions.len() < 200);
    };
    assert_eq!(error.code(), codes::TEEC_ERROR_OUT_OF_MEMORY, "{error}");
    assert_eq!(open_sessions.len(), 24);
    // Nobody else is disturbed: there are workers left.
    if is_root() {
        let program = world.copy("other", b"");
        world.ask(&program, Who::User(12345), Login::User, "web");
    }
    for session in &open_sessions {
        call(session, SIGN, &[b"web", &[1; 32]]).unwrap();
    }
    drop(open_sessions);
    let session = world.open(Login::User);
    call(&session, SIGN, &[b"web", &[1; 32]]).unwrap();
}

/// One request on a connection, as the protocol says it.
fn say(mut stream: &UnixStream, id: u64, request: Request) -> Option<Reply> {
    let call = Call { id, request };
    let bytes = rpc::frame(&call, rpc::FRAME_LEN_BYTES_MAX).unwrap();
    stream.write_all(&bytes).ok()?;
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).ok()?;
    let len = rpc::frame_len(prefix, rpc::FRAME_LEN_BYTES_MAX).unwrap();
    let mut content = vec![0; len];
    stream.read_exact(&mut content).ok()?;
    let answer: Answer = rpc::content(&content).unwrap();
    Some(answer.reply)
}

fn opening(ta: TaUuid, login: Login) -> Request {
    let params = Default::default();
    Request::OpenSession { ta, login, params }
}

fn code_of(reply: Option<Reply>) -> Option<u32> {
    match reply {
        Some(Reply::Operation { code, .. }) => Some(code),
        Some(other) => panic!("{other:?}"),
        None => None,
    }
}

/// The process that a connection was handed to.
#[test]
#[ignore = "a part of the test below, run by it in another process"]
fn asks_on_its_standard_input() {
    let Ok(ta) = std::env::var("KEYS_TA") else {
        return;
    };
    let stream = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let stream = UnixStream::from(stream);
    let ta = ta.parse().unwrap();
    let login = match std::env::var("KEYS_LOGIN").unwrap().as_str() {
        "User" => Login::User,
        _ => Login::Application,
    };
    println!("told {:x?}", code_of(say(&stream, 7, opening(ta, login))));
}

#[test]
fn a_programs_identity_cannot_be_handed_on() {
    let world = World::new();
    let connect = || {
        let stream = UnixStream::connect(world.teed.socket()).unwrap();
        let version = rpc::VERSION;
        assert!(say(&stream, 1, Request::Hello { version }).is_some());
        stream
    };
    let child = |stream: &UnixStream, login: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "asks_on_its_standard_input", "--nocapture"])
            .arg("--include-ignored")
            .env("KEYS_TA", world.ta.to_string())
            .env("KEYS_LOGIN", login)
            .stdin(Stdio::from(OwnedFd::from(stream.try_clone().unwrap())))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let told = text.lines().find(|line| line.contains("told ")).unwrap();
        told[told.find("told ").unwrap()..].to_owned()
    };
    // The same program even: what counts is that it is another process than the one that connected.
    let stream = connect();
    assert_eq!(child(&stream, "Application"), "told Some(ffff0001)");
    assert_eq!(
        code_of(say(&stream, 2, opening(world.ta, Login::Application))),
        Some(0)
    );
    // And a session that is a program's ends when another process speaks in it.
    assert_eq!(child(&stream, "User"), "told None");
    assert_eq!(
        code_of(say(&stream, 3, opening(world.ta, Login::User))),
        None
    );
    // A user's may be handed on, as any descriptor of that user.
    let stream = connect();
    assert_eq!(child(&stream, "User"), "told Some(0)");
    // What was written before the identity was looked for may be another program's.
    let mut stream = connect();
    let mut both = Vec::new();
    for id in [2, 3] {
        let request = opening(world.ta, Login::Application);
        both.extend(rpc::frame(&Call { id, request }, rpc::FRAME_LEN_BYTES_MAX).unwrap());
    }
    stream.write_all(&both).unwrap();
    let mut told = Vec::new();
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let _ = stream.read_to_end(&mut told);
    let first = rpc::frame_len(told[..4].try_into().unwrap(), 1 << 20).unwrap();
    let answer: Answer = rpc::content(&told[4..4 + first]).unwrap();
    assert_eq!(
        code_of(Some(answer.reply)),
        Some(codes::TEEC_ERROR_ACCESS_DENIED)
    );
}
