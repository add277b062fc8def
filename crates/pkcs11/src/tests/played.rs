//! The module with a TEE that is played here: what threads, renewals and limits do to it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cryptoki_sys as ck;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use tegata_client::{Info, Stats, TaUuid, TrustedApp, codes};
use tegata_wire::cbor::{self, Value};
use tegata_wire::rpc::{
    self, Answer, Call, FRAME_LEN_BYTES_MAX, ORIGIN_TEE, ORIGIN_TRUSTED_APP, Param, ParamOut,
    Reply, Request,
};
use tegata_wire::x509::{
    AttributeSpec, CertBuilder, DistinguishedName, ExtensionSet, NameBuilder, SerialNumber,
    SignatureAlg, Validity, assemble_certificate,
};
use zeroize::Zeroizing;

use super::{mechanism, template};
use crate::module::{Doing, Module, Output, Room};
use crate::operation::Parameter;
use crate::rv::{Rv, rv};

/// A TEE with one P-256 key under the label `web`.
struct Tee {
    /// Seed of the key that the label has now.
    key: Mutex<u8>,
    installed: AtomicBool,
    /// Places for sessions that are left.
    room: AtomicUsize,
    /// Commands that are not answered before the test says so, and whom to tell of them.
    stuck: Mutex<Vec<u32>>,
    began: mpsc::Sender<u32>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

/// What a test holds of it.
struct Played {
    tee: Arc<Tee>,
    module: Module,
    began: Mutex<mpsc::Receiver<u32>>,
    go_on: mpsc::Sender<()>,
    _dir: tempfile::TempDir,
}

impl Played {
    fn new() -> Self {
        let (tell, began) = mpsc::channel();
        let (go_on, waits) = mpsc::channel();
        let tee = Arc::new(Tee {
            key: Mutex::new(7),
            installed: AtomicBool::new(true),
            room: AtomicUsize::new(16),
            stuck: Mutex::default(),
            began: tell,
            go_on: Mutex::new(waits),
        });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("teed.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let served = Arc::clone(&tee);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (tee, stream) = (Arc::clone(&served), stream.unwrap());
                std::thread::spawn(move || tee.serve(stream));
            }
        });
        let module = Module::new(0);
        let socket = path.to_str().unwrap().to_owned();
        let env = |name: &str| (name == "TEGATA_TEE_SOCKET").then(|| socket.clone());
        module.initialize(env, true).unwrap();
        Self {
            tee,
            module,
            began: Mutex::new(began),
            go_on,
            _dir: dir,
        }
    }

    fn session(&self) -> ck::CK_SESSION_HANDLE {
        self.module.open_session(0, ck::CKF_SERIAL_SESSION).unwrap()
    }

    fn find(&self, session: ck::CK_SESSION_HANDLE) -> Result<Vec<ck::CK_OBJECT_HANDLE>, Rv> {
        let class = ck::CKO_PRIVATE_KEY.to_ne_bytes();
        self.module
            .find_begin(session, &template(&[(ck::CKA_CLASS, &class)]))?;
        let found = self.module.find_more(session, 9)?;
        self.module.find_end(session)?;
        Ok(found)
    }

    fn sign(
        &self,
        session: ck::CK_SESSION_HANDLE,
        key: ck::CK_OBJECT_HANDLE,
    ) -> Result<Zeroizing<Vec<u8>>, Rv> {
        let ecdsa = mechanism(ck::CKM_ECDSA, Parameter::None);
        self.module
            .key_begin(Doing::Sign, session, Some(&ecdsa), key)?;
        let room = Room::Bytes(64);
        match self.module.sign_end(session, Some(&[5; 32]), room)? {
            Output::Bytes(bytes) => Ok(bytes),
            _ => panic!("no signature"),
        }
    }

    /// Waits until a call is stuck in the TEE.
    fn stuck(&self) {
        let began = self.began.lock().unwrap();
        began.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    /// Runs `work` in another thread, which must end though this one is in the TEE.
    fn meanwhile<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || tell.send(work()));
            let done = told.recv_timeout(Duration::from_secs(20));
            if done.is_err() {
                // The scope waits for its threads: nobody may stay where it is.
                self.tee.stuck.lock().unwrap().clear();
                let _ = self.go_on.send(());
            }
            done.expect("another thread waits for this one")
        })
    }
}

impl Tee {
    fn serve(&self, mut stream: UnixStream) {
        while let Some(call) = read(&mut stream) {
            let reply = self.answer(&call.request);
            let frame = rpc::frame(&Answer { id: call.id, reply }, FRAME_LEN_BYTES_MAX).unwrap();
            if stream.write_all(&frame).is_err() {
                break;
            }
        }
    }

    fn answer(&self, request: &Request) -> Reply {
        let refused = |code| operation(code, ORIGIN_TEE, None);
        match request {
            Request::Hello { version } => Reply::Hello { version: *version },
            Request::Info => Reply::Info(info(self.installed.load(Ordering::SeqCst))),
            Request::OpenSession { .. } if !self.installed.load(Ordering::SeqCst) => {
                refused(codes::TEEC_ERROR_ITEM_NOT_FOUND)
            }
            Request::OpenSession { .. } => {
                let less = |room: usize| room.checked_sub(1);
                let room = &self.room;
                match room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
                    Ok(_) => operation(0, ORIGIN_TRUSTED_APP, None),
                    Err(_) => refused(codes::TEEC_ERROR_OUT_OF_MEMORY),
                }
            }
            Request::Invoke {
                command, params, ..
            } => self.invoke(*command, params),
            _ => Reply::Done,
        }
    }

    fn invoke(&self, command: u32, params: &[Param; 4]) -> Reply {
        if self.stuck.lock().unwrap().contains(&command) {
            self.began.send(command).unwrap();
            let _ = self.go_on.lock().unwrap().recv();
        }
        let seed = *self.key.lock().unwrap();
        let out = match command {
            LIST => {
                let row = Value::Array(vec!["web".into(), 3.into()]);
                cbor::encode(&Value::Array(vec![row])).unwrap()
            }
            GET_CERTIFICATE => certificate(seed),
            GET_PUBLIC_KEY => spki(seed),
            SIGN => {
                let Param::MemrefInput { buffer } = &params[1] else {
                    panic!("nothing to sign");
                };
                let signature: p256::ecdsa::Signature = key(seed).sign_prehash(buffer).unwrap();
                signature.to_bytes().to_vec()
            }
            AGREE => vec![9; 32],
            other => panic!("command {other}"),
        };
        operation(0, ORIGIN_TRUSTED_APP, Some(out))
    }
}

fn read(stream: &mut UnixStream) -> Option<Call> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).ok()?;
    let mut content = vec![0; rpc::frame_len(prefix, FRAME_LEN_BYTES_MAX).ok()?];
    stream.read_exact(&mut content).ok()?;
    rpc::content(&content).ok()
}

fn operation(code: u32, origin: u32, output: Option<Vec<u8>>) -> Reply {
    let mut params: [ParamOut; 4] = Default::default();
    if let Some(buffer) = output {
        let size = u32::try_from(buffer.len()).unwrap();
        params[2] = ParamOut::Memref { buffer, size };
    }
    Reply::Operation {
        code,
        origin,
        session: 1,
        params,
    }
}

fn info(installed: bool) -> Info {
    let ta = TrustedApp {
        ta: TaUuid([5; 16]),
        release: String::new(),
        sequence_number: 1,
        module_len_bytes: 1,
    };
    Info {
        ueid: "01aa".into(),
        serial: "SN-1".into(),
        hwmodel: "m".into(),
        version: "0.1.0".into(),
        security_level: "software".into(),
        storage_root: "file".into(),
        anti_rollback_level: 0,
        missing: vec![],
        trusted_apps: installed.then_some(ta).into_iter().collect(),
        stats: Stats::default(),
    }
}

fn key(seed: u8) -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn spki(seed: u8) -> Vec<u8> {
    // SubjectPublicKeyInfo of a P-256 key, before its point.
    let mut der = vec![
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let point = key(seed).verifying_key().to_sec1_point(false);
    der.extend_from_slice(point.as_bytes());
    der
}

fn certificate(seed: u8) -> Vec<u8> {
    let name = |text: &str| -> DistinguishedName {
        let spec = AttributeSpec::by_name("CN").unwrap();
        let name = NameBuilder::new().push(spec, text).unwrap();
        name.build().unwrap()
    };
    let alg = SignatureAlg::EcdsaSha256;
    let cert = CertBuilder {
        serial: SerialNumber::from_random(&[seed; 16]),
        signature_alg: alg,
        issuer: name("CA"),
        validity: Validity {
            not_before_secs: 1_700_000_000,
            not_after_secs: None,
        },
        subject: name("sensor-1"),
        spki_der: spki(seed),
        extensions: ExtensionSet::new(),
    };
    // Nobody here looks at its signature.
    assemble_certificate(&cert.to_tbs().unwrap(), alg, &[1; 64]).unwrap()
}

const GET_CERTIFICATE: u32 = 4;
const SIGN: u32 = 5;
const LIST: u32 = 6;
const GET_PUBLIC_KEY: u32 = 8;
const AGREE: u32 = 10;

#[test]
fn a_slow_signature_holds_up_nobody_else() {
    let played = Played::new();
    let session = played.session();
    let found = played.find(session).unwrap();
    played.tee.stuck.lock().unwrap().push(SIGN);
    std::thread::scope(|scope| {
        let signing = scope.spawn(|| played.sign(session, found[0]));
        played.stuck();
        played.meanwhile(|| {
            let module = &played.module;
            let other = played.session();
            let (_, _, counts) = module.token_info(0).unwrap();
            assert_eq!(counts, [2, 0]);
            assert_eq!(played.find(other).unwrap(), found);
            module.login(session, ck::CKU_USER).unwrap();
            module.close_session(other).unwrap();
        });
        played.go_on.send(()).unwrap();
        assert!(signing.join().unwrap().is_ok());
    });
}

#[test]
fn a_slow_reading_holds_up_nobody_who_has_a_handle() {
    let played = Played::new();
    let session = played.session();
    let found = played.find(session).unwrap();
    let searching = played.session();
    played.module.token(0).unwrap().look_again();
    played.tee.stuck.lock().unwrap().push(LIST);
    std::thread::scope(|scope| {
        let search = scope.spawn(|| played.find(searching));
        played.stuck();
        played.meanwhile(|| played.sign(session, found[0]).unwrap());
        played.go_on.send(()).unwrap();
        assert_eq!(search.join().unwrap(), Ok(found.clone()));
    });
}

#[test]
fn after_a_refusal_the_next_search_finds_the_new_key() {
    let played = Played::new();
    let session = played.session();
    let old = played.find(session).unwrap();
    assert!(played.sign(session, old[0]).is_ok());
    *played.tee.key.lock().unwrap() = 8;
    let rejected = rv!(CKR_FUNCTION_REJECTED);
    assert_eq!(played.sign(session, old[0]).unwrap_err(), rejected);
    let new = played.find(session).unwrap();
    assert_ne!(new, old);
    assert!(played.sign(session, new[0]).is_ok());

    // The same for key agreement.
    *played.tee.key.lock().unwrap() = 9;
    let public = spki(7).split_off(26);
    let parameter = Parameter::Ecdh {
        kdf: ck::CKD_NULL,
        shared_data: false,
        public,
    };
    let ecdh = mechanism(ck::CKM_ECDH1_DERIVE, parameter);
    let derived = played.module.derive(session, &ecdh, new[0], &template(&[]));
    assert_eq!(derived.unwrap_err(), rejected);
    assert_ne!(played.find(session).unwrap(), new);
}

#[test]
fn a_reading_that_began_before_a_refusal_does_not_count() {
    let played = Played::new();
    let session = played.session();
    let old = played.find(session).unwrap();
    let searching = played.session();
    let token = played.module.token(0).unwrap();
    token.look_again();
    played.tee.stuck.lock().unwrap().push(LIST);
    std::thread::scope(|scope| {
        let search = scope.spawn(|| played.find(searching));
        played.stuck();
        token.look_again();
        played.tee.stuck.lock().unwrap().clear();
        played.go_on.send(()).unwrap();
        assert_eq!(search.join().unwrap(), Ok(old.clone()));
    });
    *played.tee.key.lock().unwrap() = 8;
    assert_ne!(played.find(session).unwrap(), old);
}

#[test]
fn a_tee_without_the_ta_is_an_empty_token() {
    let played = Played::new();
    played.tee.installed.store(false, Ordering::SeqCst);
    let session = played.session();
    assert_eq!(played.find(session), Ok(vec![]));
    // It is there as soon as the TA is.
    played.tee.installed.store(true, Ordering::SeqCst);
    played.module.token(0).unwrap().look_again();
    let found = played.find(session).unwrap();
    assert_eq!(found.len(), 1);
    // And gone with it. Its session ended, as sessions of a TA that is removed do.
    played.tee.installed.store(false, Ordering::SeqCst);
    played.module.token(0).unwrap().keys.release();
    let rejected = rv!(CKR_FUNCTION_REJECTED);
    assert_eq!(played.sign(session, found[0]).unwrap_err(), rejected);
    assert_eq!(played.find(session), Ok(vec![]));
}

#[test]
fn limits_of_the_tee_are_waited_for_or_named() {
    let played = Played::new();
    let session = played.session();
    played.tee.room.store(0, Ordering::SeqCst);
    let full = rv!(CKR_TOKEN_RESOURCE_EXCEEDED);
    assert_eq!(played.find(session), Err(full));
    // Room for one: two threads take turns.
    played.tee.room.store(1, Ordering::SeqCst);
    let key = played.find(session).unwrap()[0];
    std::thread::scope(|scope| {
        let sign = |session| {
            let played = &played;
            move || (0..20).all(|_| played.sign(session, key).is_ok())
        };
        let others = [played.session(), played.session()];
        let signing = others.map(|other| scope.spawn(sign(other)));
        assert!(signing.into_iter().all(|thread| thread.join().unwrap()));
    });
}

#[test]
fn the_last_session_takes_the_login_with_it() {
    let played = Played::new();
    let session = played.session();
    played.module.login(session, ck::CKU_USER).unwrap();
    played.module.close_session(session).unwrap();
    let session = played.session();
    let not = Err(rv!(CKR_USER_NOT_LOGGED_IN));
    assert_eq!(played.module.logout(session), not);
    played.module.login(session, ck::CKU_USER).unwrap();
    played.module.close_all(0).unwrap();
    assert_eq!(played.module.logout(played.session()), not);
}

#[test]
fn op_tee_needs_a_thread_for_each_call() {
    let op_tee = |name: &str| (name == "TEGATA_TEE").then(|| "optee".to_owned());
    let refused = Err(rv!(CKR_NEED_TO_CREATE_THREADS));
    assert_eq!(Module::new(0).initialize(op_tee, false), refused);
    assert_eq!(Module::new(0).initialize(op_tee, true), Ok(()));
    // A socket needs none.
    let socket = |name: &str| (name == "TEGATA_TEE_SOCKET").then(|| "/x".to_owned());
    assert_eq!(Module::new(0).initialize(socket, false), Ok(()));
}
