//! Keys that are used, and a device that is brought up, with a TEE that is played here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use tegata_agent::enrol::{self, EnrolError, Step, command};
use tegata_agent::keys::{KeysError, certificate, sign};
use tegata_client::keys::{KeyEntry, KeyError, KeyState, Keys};
use tegata_client::{Context, Error, Login, Origin, TaUuid, codes};
use tegata_wire::cbor::{self, Value};
use tegata_wire::rpc::{
    self, Answer, Call, FRAME_LEN_BYTES_MAX, Info, ORIGIN_TRUSTED_APP, Param, ParamOut,
    RefusalCode, Reply, Request, Stats,
};

const TA: TaUuid = TaUuid([5; 16]);

/// A TEE on a socket in `dir` that answers each request with what `play` makes of it.
fn tee(dir: &Path, play: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Context {
    let path = dir.join("teed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let play = Arc::new(play);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, play) = (stream.unwrap(), Arc::clone(&play));
            std::thread::spawn(move || {
                while let Some(call) = read_call(&mut stream) {
                    let reply = match &call.request {
                        Request::Hello { version } => Reply::Hello { version: *version },
                        Request::OpenSession { .. } => operation(0, None),
                        Request::CloseSession { .. } => Reply::Done,
                        request => play(request),
                    };
                    let answer = Answer { id: call.id, reply };
                    let frame = rpc::frame(&answer, FRAME_LEN_BYTES_MAX).unwrap();
                    if stream.write_all(&frame).is_err() {
                        break;
                    }
                }
            });
        }
    });
    Context::new(path)
}

fn read_call(stream: &mut UnixStream) -> Option<Call> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).ok()?;
    let mut content = vec![0; rpc::frame_len(prefix, 4 << 20).ok()?];
    stream.read_exact(&mut content).ok()?;
    rpc::content(&content).ok()
}

fn operation(code: u32, output: Option<Vec<u8>>) -> Reply {
    let mut params: [ParamOut; 4] = Default::default();
    if let Some(buffer) = output {
        let size = u32::try_from(buffer.len()).unwrap();
        params[2] = ParamOut::Memref { buffer, size };
    }
    Reply::Operation {
        code,
        origin: ORIGIN_TRUSTED_APP,
        session: 1,
        params,
    }
}

fn input(params: &[Param; 4], index: usize) -> &[u8] {
    match &params[index] {
        Param::MemrefInput { buffer } => buffer,
        _ => &[],
    }
}

/// SubjectPublicKeyInfo of P-256: the kind matters here, not the point.
fn p256_spki() -> Vec<u8> {
    let mut der = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
    der.push(4);
    der.extend([7; 64]);
    der
}

/// A TA with one P-256 key under the label `web`.
fn ta(request: &Request) -> Reply {
    let Request::Invoke {
        command, params, ..
    } = request
    else {
        panic!()
    };
    if *command == command::LIST {
        let row = |label: &str, state: u64| Value::Array(vec![label.into(), state.into()]);
        let rows = Value::Array(vec![row("web", 3), row("次", 1)]);
        return operation(0, Some(cbor::encode(&rows).unwrap()));
    }
    if input(params, 0) != b"web" {
        return operation(codes::TEEC_ERROR_ITEM_NOT_FOUND, None);
    }
    match *command {
        command::GET_PUBLIC_KEY => operation(0, Some(p256_spki())),
        command::SIGN => {
            // SHA-256 of "hello".
            let digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
            assert_eq!(hex::encode(input(params, 1)), digest);
            let mut raw = vec![0x80; 32];
            raw.extend([0x01; 32]);
            operation(0, Some(raw))
        }
        // Two values in DER: leaf and issuer.
        command::GET_CERTIFICATE => operation(0, Some(b"\x30\x01a\x30\x01b".to_vec())),
        other => panic!("command {other}"),
    }
}

#[test]
fn a_key_signs_lists_and_shows_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let tee = tee(dir.path(), ta);
    let keys = Keys::new(tee, Some(TA), Login::User, 1);
    let signature = sign(&keys, "web", b"hello").unwrap();
    assert_eq!(signature.algorithm, "ecdsa-with-SHA256");
    // SEQUENCE of two INTEGERs; the first needs a zero in front.
    let mut der = vec![0x30, 0x45, 0x02, 0x21, 0x00];
    der.extend([0x80; 32]);
    der.extend([0x02, 0x20]);
    der.extend([0x01; 32]);
    assert_eq!(signature.bytes, der);
    let listed = keys.list().unwrap();
    let expected =
        [("web", KeyState::Installed), ("次", KeyState::Requested)].map(|(label, state)| {
            let label = label.to_owned();
            KeyEntry { label, state }
        });
    assert_eq!(listed, expected);
    let pem = certificate(&keys, "web").unwrap();
    assert_eq!(pem.matches("-----BEGIN CERTIFICATE-----\n").count(), 2);
    let error = sign(&keys, "other", b"hello").unwrap_err();
    assert!(matches!(error, KeysError::NoKey { .. }), "{error}");
    assert!(error.to_string().contains("another user"));
}

#[test]
fn answers_that_are_not_right_are_refused() {
    for answer in [
        vec![],
        vec![0xff],
        b"\x81\x01".to_vec(),
        b"\x81\x82aa\x09".to_vec(),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let tee = tee(dir.path(), move |_| operation(0, Some(answer.clone())));
        let keys = Keys::new(tee, Some(TA), Login::User, 1);
        assert!(matches!(keys.list(), Err(KeyError::Answer(_))));
        let answer = |error| matches!(error, KeysError::Key(KeyError::Answer(_)));
        assert!(answer(sign(&keys, "web", b"x").unwrap_err()));
        assert!(answer(certificate(&keys, "web").unwrap_err()));
    }
}

/// Runs the program in `dir`.
fn agent(dir: &Path, args: &[&str]) -> bool {
    std::fs::write(dir.join("agent.toml"), format!("enrol_ta = \"{TA}\"\n")).unwrap();
    let dir = dir.to_str().unwrap();
    let all = ["tegata-agent", "--dir", dir]
        .into_iter()
        .chain(args.iter().copied());
    let code = tegata_agent::agent_main(all.map(str::to_owned));
    format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS)
}

#[test]
fn the_program_signs_files() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _tee = tee(dir, ta);
    let (file, out) = (dir.join("f"), dir.join("f.sig"));
    std::fs::write(&file, "hello").unwrap();
    let sign = |label: &str| {
        let (file, out) = (file.to_str().unwrap(), out.to_str().unwrap());
        agent(dir, &["sign", "--label", label, "--in", file, "--out", out])
    };
    assert!(!sign("other") && !out.exists());
    assert!(sign("web"));
    assert_eq!(std::fs::read(&out).unwrap().len(), 71);
    let pem = dir.join("c.pem");
    let args = [
        "certificate",
        "--label",
        "web",
        "--out",
        pem.to_str().unwrap(),
    ];
    assert!(agent(dir, &args) && pem.exists());
    assert!(agent(dir, &["list", "--json"]));
}

#[test]
fn a_device_reports_and_is_provisioned() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&taken);
    let _tee = tee(dir, move |request| match request {
        Request::DeviceReport => Reply::DeviceReport(b"the report".to_vec()),
        Request::Provision { record } if record == b"right" => {
            seen.lock().unwrap().push(record.clone());
            Reply::Done
        }
        Request::Provision { .. } => Reply::Refused {
            code: RefusalCode::BadRequest,
            message: "the record is for another device".into(),
        },
        Request::Info => Reply::Info(Info {
            ueid: "01aa".into(),
            serial: "SN-1".into(),
            hwmodel: "m".into(),
            version: "0.1.0".into(),
            security_level: "optee".into(),
            storage_root: "huk".into(),
            anti_rollback_level: 0,
            missing: vec![],
            trusted_apps: vec![],
            stats: Stats::default(),
        }),
        _ => panic!(),
    });
    let out = dir.join("device.report");
    assert!(agent(dir, &["report", "--out", out.to_str().unwrap()]));
    assert_eq!(std::fs::read(&out).unwrap(), b"the report");
    let record = dir.join("device.cose");
    let provision = || agent(dir, &["provision", "--record", record.to_str().unwrap()]);
    assert!(!provision(), "no file");
    std::fs::write(&record, "wrong").unwrap();
    assert!(!provision());
    std::fs::write(&record, vec![0; 17 * 1024]).unwrap();
    assert!(!provision(), "longer than a record can be");
    assert!(taken.lock().unwrap().is_empty());
    std::fs::write(&record, "right").unwrap();
    assert!(provision() && provision(), "asking again is safe");
    assert_eq!(taken.lock().unwrap().len(), 2);
}

#[test]
fn a_missing_image_is_not_a_missing_ta() {
    let tee = |source| EnrolError::Tee {
        step: Step::Open,
        source,
    };
    let code = codes::TEEC_ERROR_ITEM_NOT_FOUND;
    let origin = Origin::Tee;
    assert!(enrol::ta_is_missing(&tee(Error::Returned { code, origin })));
    let image = Error::OpTee {
        doing: "opening",
        code,
        origin,
        mend: "install it".into(),
    };
    assert!(!enrol::ta_is_missing(&tee(image)));
}
