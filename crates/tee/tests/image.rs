//! The two images without OP-TEE under them: who may say what, answers that are kept, the factory's
//! word, TAs in hosts of their own, and bytes of every kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::provisioning::{sign_record, verify_report};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{PrivateKey, PublicKey};
use tegata_tee::gp::consts::*;
use tegata_tee::gp::host::{
    ComponentKind, HostError, HostReply, HostRequest, ObjectToken, SecretBytes,
};
use tegata_tee::gp::params::{Param, ParamOut, Params};
use tegata_tee::image::{
    AttachReply, Failure, HostWorld, Link, TaHost, TeeImage, blob_id, blob_name, counter_at,
};
use tegata_tee::platform::{BlobName, Platform};
use tegata_tee::session::ClientIdentity;
use tegata_tee::testing::release::{Delivery, DeviceInfo, ReleaseSpec, TestCa, TestTam, key};
use tegata_tee::testing::{Crash, TestPlatform};
use tegata_wire::cbor;
use tegata_wire::device::DeviceRecord;
use tegata_wire::ids::{TaUuid, Ueid};
use tegata_wire::rpc::{
    self, Answer, Call, Login, ORIGIN_TEE, ORIGIN_TRUSTED_APP, Processed, RefusalCode, Reply,
    Request,
};
use tegata_wire::teep::{Message, Token, Update};
use zeroize::Zeroizing;

/// A device of the hardware kind with its factory, CA and TAM.
struct Bench {
    platform: TestPlatform,
    image: Arc<Mutex<TeeImage<TestPlatform>>>,
    factory: PrivateKey,
    ca: TestCa,
    tam: TestTam,
    own: Ueid,
    delivery: PublicKey,
    client: Link,
}

fn public() -> Link {
    Link::of(&ClientIdentity::public()).unwrap()
}

/// The TEEP Broker.
fn root() -> Link {
    Link::of(&ClientIdentity::user(0)).unwrap()
}

fn host_link() -> Link {
    let opener = ClientIdentity {
        login: TEE_LOGIN_TRUSTED_APP,
        uuid: rpc::OPTEE_HOST_UUID.0,
    };
    Link::of(&opener).unwrap()
}

impl Bench {
    fn new() -> Self {
        Self::over(TestPlatform::new(1))
    }

    fn over(platform: TestPlatform) -> Self {
        let factory = key(90);
        let keys = vec![factory.public_key().clone()];
        let image = TeeImage::new(platform.clone(), keys, |_| {}).unwrap();
        let mut bench = Self {
            platform: platform.clone(),
            image: Arc::new(Mutex::new(image)),
            factory,
            ca: TestCa::new(101),
            tam: TestTam::new(103),
            own: platform.identity().ueid,
            delivery: key(1).public_key().clone(),
            client: root(),
        };
        let Reply::DeviceReport(report) = bench.ask(Request::DeviceReport) else {
            panic!("no report");
        };
        let report = verify_report(&RustCrypto, &report).unwrap();
        bench.own = *report.ueid();
        bench.delivery = report.delivery_key().clone();
        bench
    }

    fn provisioned() -> Self {
        let mut bench = Self::new();
        let record = bench.record("http://tam");
        assert_eq!(bench.ask(Request::Provision { record }), Reply::Done);
        bench
    }

    fn record(&self, tam_uri: &str) -> Vec<u8> {
        self.record_by(&self.factory, self.own, tam_uri)
    }

    fn record_by(&self, factory: &PrivateKey, ueid: Ueid, tam_uri: &str) -> Vec<u8> {
        self.record_at(factory, ueid, tam_uri, 1000)
    }

    fn record_at(
        &self,
        factory: &PrivateKey,
        ueid: Ueid,
        tam_uri: &str,
        made_at_secs: u64,
    ) -> Vec<u8> {
        let mut identity = self.platform.identity().clone();
        identity.ueid = ueid;
        let record = DeviceRecord {
            identity,
            release_keys: vec![self.ca.key.public_key().to_cose_key().unwrap()],
            tam_keys: vec![self.tam.key.public_key().to_cose_key().unwrap()],
            tam_uri: Some(tam_uri.into()),
            made_at_secs,
        };
        sign_record(&record, factory).unwrap()
    }

    fn command(
        &self,
        link: &mut Link,
        command: u32,
        input: &[u8],
        room: usize,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut image = self.image.lock().unwrap();
        image.command(link, command, limited(input), room)
    }

    fn ask(&mut self, request: Request) -> Reply {
        let mut link = std::mem::replace(&mut self.client, public());
        let reply = self.ask_as(&mut link, request);
        self.client = link;
        reply
    }

    fn ask_as(&self, link: &mut Link, request: Request) -> Reply {
        let call = cbor::to_vec(&Call { id: 7, request }).unwrap();
        let answer = self.command(link, rpc::OPTEE_CMD_RPC, &call, 1 << 20);
        let answer: Answer = rpc::content(&answer.unwrap()).unwrap();
        assert_eq!(answer.id, 7);
        answer.reply
    }

    #[track_caller]
    fn refused(&mut self, request: Request, expected: RefusalCode) -> String {
        match self.ask(request) {
            Reply::Refused { code, message } => {
                assert_eq!(code, expected, "{message}");
                message
            }
            other => panic!("{other:?}"),
        }
    }

    /// Installs version `version` of a TA, as its TAM does.
    fn install(&mut self, version: u64, name: &str, module: &[u8]) -> TaUuid {
        let device = DeviceInfo {
            ueid: self.own,
            delivery: self.delivery.clone(),
        };
        let spec = ReleaseSpec {
            name: name.into(),
            sequence_number: version,
            module: module.to_vec(),
            procedure: b"procedure".to_vec(),
        };
        let release = self.ca.release(&spec);
        let config = self.ca.config(name, version, &device, b"the secret");
        let envelope = self
            .tam
            .dependent(&release, &config, &device, Delivery::Integrated);
        let update = Message::from(Update {
            token: Some(Token::new(b"token-of-16-byte".to_vec()).unwrap()),
            manifest_list: Some(vec![envelope]),
            ..Update::default()
        });
        let payload = update.encode().unwrap();
        let message = sign1(
            &self.tam.key,
            &payload,
            &Sign1Headers::default(),
            b"",
            false,
        )
        .unwrap();
        let reply = self.ask(Request::Process {
            message,
            payloads: vec![],
        });
        assert!(matches!(reply, Reply::Processed(Processed::Reply(_))));
        let Reply::Info(info) = self.ask(Request::Info) else {
            panic!("no info");
        };
        let uuid = release.uuid;
        let found = info.trusted_apps.iter().find(|ta| ta.ta == uuid).unwrap();
        assert_eq!(found.sequence_number, version);
        uuid
    }

    fn attach(&self, link: &mut Link, ta: &TaUuid) -> Result<Vec<u8>, HostError> {
        let input = cbor::to_vec(ta).unwrap();
        let reply = self
            .command(link, rpc::OPTEE_CMD_ATTACH, &input, 1 << 20)
            .unwrap();
        match cbor::from_slice(&reply).unwrap() {
            AttachReply::Attached { module, .. } => Ok(module.0.to_vec()),
            AttachReply::Refused(error) => Err(error),
        }
    }

    fn service(&self, link: &mut Link, request: &HostRequest) -> HostReply {
        let input = cbor::to_vec(request).unwrap();
        let reply = self
            .command(link, rpc::OPTEE_CMD_HOST, &input, 1 << 20)
            .unwrap();
        cbor::from_slice(&reply).unwrap()
    }

    fn host(&self, client: ClientIdentity) -> Client {
        let world = World {
            image: Arc::clone(&self.image),
            link: host_link(),
            platform: self.platform.clone(),
        };
        Client(TaHost::new(client, world))
    }
}

/// What an image reads with: it must ask for no more than it said.
fn limited(input: &[u8]) -> impl FnOnce(usize) -> Result<Zeroizing<Vec<u8>>, Failure> + '_ {
    move |max| {
        assert!(
            max <= rpc::OPTEE_CALL_LEN_BYTES_MAX,
            "the image limits itself"
        );
        if input.len() > max {
            return Err(Failure::of(TEE_ERROR_BAD_PARAMETERS));
        }
        Ok(Zeroizing::new(input.to_vec()))
    }
}

/// A host's surroundings: the core in the next address space, so to speak.
struct World {
    image: Arc<Mutex<TeeImage<TestPlatform>>>,
    link: Link,
    platform: TestPlatform,
}

impl World {
    /// With too little room at first, so that every answer is fetched.
    fn exchange(&mut self, command: u32, input: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut image = self.image.lock().unwrap();
        let short = image.command(&mut self.link, command, limited(input), 0);
        let needed = short.unwrap_err().needed.unwrap();
        let none = |_| Err(Failure::of(TEE_ERROR_BAD_PARAMETERS));
        image
            .command(&mut self.link, rpc::OPTEE_CMD_FETCH, none, needed)
            .unwrap()
    }
}

impl HostWorld for World {
    fn attach(&mut self, ta: &TaUuid) -> Result<AttachReply, HostError> {
        let reply = self.exchange(rpc::OPTEE_CMD_ATTACH, &cbor::to_vec(ta).unwrap());
        Ok(cbor::from_slice(&reply).unwrap())
    }
    fn ask(&mut self, request: &HostRequest) -> Result<HostReply, HostError> {
        let reply = self.exchange(rpc::OPTEE_CMD_HOST, &cbor::to_vec(request).unwrap());
        Ok(cbor::from_slice(&reply).unwrap())
    }
    fn random(&mut self, out: &mut [u8]) -> Result<(), HostError> {
        self.platform.random(out).map_err(|_| HostError::Generic)
    }
    fn system_time_ms(&mut self) -> u64 {
        // Each look at the clock takes a second: an endless loop ends soon.
        self.platform.advance_ms(1000);
        self.platform.system_time_ms()
    }
    fn ree_time_ms(&mut self) -> u64 {
        self.platform.ree_time_ms()
    }
    fn wait(&mut self, ms: u32) {
        self.platform.advance_ms(ms.into());
    }
    fn cancelled(&mut self) -> bool {
        false
    }
    fn log(&mut self, _: &str) {}
    fn leave(&mut self) {
        self.link = host_link();
    }
}

/// A client of a host.
struct Client(TaHost<World>);

impl Client {
    fn ask(&mut self, request: Request) -> Reply {
        let call = cbor::to_vec(&Call { id: 3, request }).unwrap();
        let answer = self.0.command(rpc::OPTEE_CMD_RPC, limited(&call), 1 << 20);
        rpc::content::<Answer>(&answer.unwrap()).unwrap().reply
    }

    /// Code and origin.
    fn open(&mut self, ta: &TaUuid, login: Login) -> (u32, u32) {
        let params = Params::default();
        let reply = self.ask(Request::OpenSession {
            ta: *ta,
            login,
            params,
        });
        match reply {
            Reply::Operation {
                code,
                origin,
                session,
                ..
            } => {
                assert_eq!(session, u32::from(code == TEE_SUCCESS));
                (code, origin)
            }
            other => panic!("{other:?}"),
        }
    }

    fn invoke(&mut self, command: u32) -> (u32, u32, u32) {
        let mut params = Params::default();
        params[0] = Param::ValueOutput;
        let reply = self.ask(Request::Invoke {
            session: 1,
            command,
            params,
        });
        match reply {
            Reply::Operation {
                code,
                origin,
                params,
                ..
            } => match params[0] {
                ParamOut::Value { a, .. } => (code, origin, a),
                _ => (code, origin, 0),
            },
            other => panic!("{other:?}"),
        }
    }
}

/// A TA: command 0 counts, 1 traps, 2 never ends.
fn module(properties: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module
  (@custom "tegata.ta" "{properties}")
  (memory (export "memory") 1)
  (global $top (mut i32) (i32.const 1024))
  (global $count (mut i32) (i32.const 0))
  (func (export "TA_CreateEntryPoint") (result i32) i32.const 0)
  (func (export "TA_DestroyEntryPoint"))
  (func (export "TA_OpenSessionEntryPoint") (param i32 i32 i32) (result i32) i32.const 0)
  (func (export "TA_CloseSessionEntryPoint") (param i32))
  (func (export "gp_alloc") (param i32) (result i32)
    global.get $top global.get $top local.get 0 i32.add global.set $top)
  (func (export "gp_free") (param i32))
  (func (export "TA_InvokeCommandEntryPoint") (param i32 i32 i32 i32) (result i32)
    local.get 1 i32.const 1 i32.eq (if (then unreachable))
    local.get 1 i32.const 2 i32.eq (if (then (loop $l br $l)))
    global.get $count i32.const 1 i32.add global.set $count
    local.get 3 global.get $count i32.store
    i32.const 0))"#
    ))
    .unwrap()
}

#[test]
fn before_the_factorys_word_a_device_only_says_who_it_is() {
    let mut bench = Bench::new();
    let told = bench.refused(Request::Info, RefusalCode::Environment);
    assert!(told.contains("not provisioned") && told.contains(&bench.own.to_string()));
    bench.refused(Request::PolicyCheck, RefusalCode::Environment);
    let ta = TaUuid([1; 16]);
    assert!(bench.attach(&mut host_link(), &ta).is_err());

    // Another factory, another device, not a record at all.
    let record = bench.record_by(&key(91), bench.own, "http://evil");
    bench.refused(Request::Provision { record }, RefusalCode::BadRequest);
    let record = bench.record_by(&bench.factory, Ueid::from_random([9; 16]), "http://tam");
    bench.refused(Request::Provision { record }, RefusalCode::BadRequest);
    let record = vec![0xd2; 40];
    bench.refused(Request::Provision { record }, RefusalCode::BadRequest);
    bench.refused(Request::Info, RefusalCode::Environment);
    assert_eq!(bench.platform.changes(), 0, "nothing was kept");

    let record = bench.record("http://tam");
    let again = record.clone();
    assert_eq!(bench.ask(Request::Provision { record }), Reply::Done);
    let changes = bench.platform.changes();
    assert_eq!(bench.ask(Request::Provision { record: again }), Reply::Done);
    assert_eq!(
        bench.platform.changes(),
        changes,
        "the same word again is no change"
    );
    let Reply::Info(info) = bench.ask(Request::Info) else {
        panic!("no info");
    };
    assert_eq!(info.ueid, bench.own.to_string());
    assert_eq!(info.serial, "SN-0001");
}

#[test]
fn the_factory_may_change_its_word_and_storage_may_not() {
    let mut bench = Bench::provisioned();
    let ta = TaUuid([1; 16]);
    let tam = |bench: &mut Bench| match bench.ask(Request::RequestTa { ta }) {
        Reply::Contact(Some(contact)) => contact.tam_uri,
        other => panic!("{other:?}"),
    };
    assert_eq!(tam(&mut bench), "http://tam");
    let record = bench.record("http://other");
    assert_eq!(bench.ask(Request::Provision { record }), Reply::Done);
    assert_eq!(tam(&mut bench), "http://other");

    // A new start of the image finds it again.
    let mut again = Bench::over(bench.platform.clone());
    assert_eq!(tam(&mut again), "http://other");

    // Altered in storage: no word at all. Put back: as before. Gone: unprovisioned.
    let good = bench.platform.snapshot();
    for at in [0, 40, 200] {
        let mut bad = good.clone();
        bad.get_mut("factory.record").unwrap()[at] ^= 1;
        bench.platform.restore(bad);
        bench.refused(Request::Info, RefusalCode::Environment);
        bench.platform.restore(good.clone());
        assert!(matches!(bench.ask(Request::Info), Reply::Info(_)));
    }
    let mut gone = good.clone();
    gone.remove("factory.record");
    bench.platform.restore(gone);
    let told = bench.refused(Request::Info, RefusalCode::Environment);
    assert!(told.contains("not provisioned"));
}

#[test]
fn only_root_speaks_for_the_device() {
    let mut bench = Bench::provisioned();
    let ta = bench.install(1, "ta", &module(""));
    let newer = bench.record("http://other");
    let denied = [
        Request::RequestTa { ta },
        Request::UnrequestTa { ta },
        Request::PolicyCheck,
        Request::Process {
            message: vec![0xd2],
            payloads: vec![],
        },
        Request::ProcessError,
        Request::Provision { record: newer },
    ];
    // The same number in another role, another user, and nobody in particular.
    let group = ClientIdentity::group(0);
    let pretender = ClientIdentity {
        login: TEE_LOGIN_GROUP,
        uuid: ClientIdentity::user(0).uuid,
    };
    let program = ClientIdentity {
        login: TEE_LOGIN_APPLICATION_USER,
        uuid: ClientIdentity::user(0).uuid,
    };
    let public = ClientIdentity::public();
    let changes = bench.platform.changes();
    for opener in [
        public,
        ClientIdentity::user(1000),
        group,
        pretender,
        program,
    ] {
        let mut link = Link::of(&opener).unwrap();
        for request in &denied {
            let reply = bench.ask_as(&mut link, request.clone());
            let code = RefusalCode::AccessDenied;
            assert!(
                matches!(&reply, Reply::Refused { code: got, .. } if *got == code),
                "{reply:?}"
            );
        }
        // What the device is, it tells anybody.
        let info = bench.ask_as(&mut link, Request::Info);
        assert!(matches!(info, Reply::Info(info) if info.trusted_apps.len() == 1));
        let report = bench.ask_as(&mut link, Request::DeviceReport);
        assert!(matches!(report, Reply::DeviceReport(_)));
    }
    assert_eq!(bench.platform.changes(), changes, "nothing was changed");
    for request in denied {
        let reply = bench.ask(request);
        let code = RefusalCode::AccessDenied;
        assert!(!matches!(&reply, Reply::Refused { code: got, .. } if *got == code));
    }
}

#[test]
fn a_word_older_than_one_that_counted_counts_no_more() {
    let mut bench = Bench::over(TestPlatform::new(1).with_counter());
    let record = |bench: &Bench, made_at| {
        bench.record_at(
            &bench.factory,
            bench.own,
            &format!("http://{made_at}"),
            made_at,
        )
    };
    let [old, new] = [1000, 1001].map(|made_at| record(&bench, made_at));
    let provision = |record: &Vec<u8>| Request::Provision {
        record: record.clone(),
    };
    assert_eq!(bench.ask(provision(&old)), Reply::Done);
    let before = bench.platform.snapshot();
    assert_eq!(bench.ask(provision(&new)), Reply::Done);
    let told = bench.refused(provision(&old), RefusalCode::BadRequest);
    assert!(told.contains("1000") && told.contains("1001"), "{told}");
    assert_eq!(bench.ask(provision(&new)), Reply::Done);

    // Nor after the REE deleted the newer one, with or without a new start.
    let mut gone = bench.platform.snapshot();
    gone.remove("factory.record");
    for restart in [false, true] {
        bench.platform.restore(gone.clone());
        if restart {
            bench = Bench::over(bench.platform.clone());
        }
        bench.refused(Request::Info, RefusalCode::Environment);
        bench.refused(provision(&old), RefusalCode::BadRequest);
        assert_eq!(bench.ask(provision(&new)), Reply::Done);
        assert!(matches!(bench.ask(Request::Info), Reply::Info(_)));
    }

    // Nor from storage itself: the record alone, or everything as it was.
    let now = bench.platform.snapshot();
    let mut swapped = now.clone();
    swapped.insert("factory.record".into(), before["factory.record"].clone());
    for storage in [swapped, before] {
        bench.platform.restore(storage);
        bench = Bench::over(bench.platform.clone());
        bench.refused(Request::Info, RefusalCode::Environment);
        bench.platform.restore(now.clone());
        assert!(matches!(bench.ask(Request::Info), Reply::Info(_)));
    }
}

#[test]
fn a_crash_while_the_word_changes_leaves_one_of_them_and_never_an_older_one() {
    let made = |bench: &Bench, made_at| {
        let uri = format!("http://{made_at}");
        bench.record_at(&bench.factory, bench.own, &uri, made_at)
    };
    for crash in [Crash::Lost, Crash::Kept] {
        for at in 0.. {
            let mut bench = Bench::over(TestPlatform::new(1).with_counter());
            let [old, new] = [1000, 1001].map(|made_at| made(&bench, made_at));
            let record = old.clone();
            assert_eq!(bench.ask(Request::Provision { record }), Reply::Done);
            bench.platform.crash_at(at, crash);
            let record = new.clone();
            let answered = bench.ask(Request::Provision { record }) == Reply::Done;
            let died = bench.platform.is_dead();
            assert!(died || answered);
            bench.platform.reboot();
            bench = Bench::over(bench.platform.clone());
            let ta = TaUuid([1; 16]);
            let Reply::Contact(Some(contact)) = bench.ask(Request::RequestTa { ta }) else {
                panic!("no word after a crash at {at}");
            };
            // Whom it obeyed once, it obeys on.
            let is_new = contact.tam_uri == "http://1001";
            assert!(is_new || (contact.tam_uri == "http://1000" && !answered));
            if is_new {
                let record = old;
                bench.refused(Request::Provision { record }, RefusalCode::BadRequest);
            }
            let record = new;
            assert_eq!(bench.ask(Request::Provision { record }), Reply::Done);
            if !died {
                break;
            }
        }
    }
}

#[test]
fn a_counter_that_must_be_there_is_not_done_without() {
    use tegata_tee::platform::PlatformError;
    let failed = |got: Result<Option<TestPlatform>, PlatformError>| {
        matches!(got, Err(PlatformError::Counter))
    };
    let counter = || TestPlatform::new(1).with_counter();
    let silent = || {
        let platform = counter();
        platform.crash_at(0, Crash::Lost);
        platform
            .blob_remove(&BlobName::new("x").unwrap())
            .unwrap_err();
        platform
    };
    for level in [0, 100, 999] {
        assert!(counter_at(Ok::<_, ()>(level), counter()).unwrap().is_none());
        assert!(counter_at(Ok::<_, ()>(level), silent()).unwrap().is_none());
    }
    assert!(counter_at(Ok::<_, ()>(1000), counter()).unwrap().is_some());
    assert!(failed(counter_at(Ok::<_, ()>(1000), silent())));
    assert!(failed(counter_at(Err(()), counter())));
}

#[test]
fn an_answer_waits_for_room_and_nothing_runs_twice() {
    let mut bench = Bench::provisioned();
    bench.install(1, "ta", &module(""));
    let mut link = public();
    let request = Request::Info;
    let call = cbor::to_vec(&Call { id: 1, request }).unwrap();
    let short = bench
        .command(&mut link, rpc::OPTEE_CMD_RPC, &call, 10)
        .unwrap_err();
    assert_eq!(short.code, TEE_ERROR_SHORT_BUFFER);
    let needed = short.needed.unwrap();
    let reads = bench.platform.reads();
    let fetch = |link: &mut Link, room| {
        let never = |_| panic!("there is no input to fetch with");
        let mut image = bench.image.lock().unwrap();
        image.command(link, rpc::OPTEE_CMD_FETCH, never, room)
    };
    assert_eq!(fetch(&mut link, needed - 1).unwrap_err(), short);
    let answer = fetch(&mut link, needed).unwrap();
    assert_eq!(bench.platform.reads(), reads, "fetching does nothing again");
    let answer: Answer = rpc::content(&answer).unwrap();
    let Reply::Info(info) = answer.reply else {
        panic!("not the answer");
    };
    assert_eq!(
        info.stats.calls, 5,
        "report, provision, process, info, info"
    );
    // Once.
    let gone = fetch(&mut link, needed).unwrap_err();
    assert_eq!(gone, Failure::of(TEE_ERROR_BAD_STATE));
    // Another session has nothing to fetch.
    assert!(fetch(&mut public(), 1 << 20).is_err());
}

#[test]
fn who_is_no_host_gets_no_services_and_a_host_nothing_else() {
    let mut bench = Bench::provisioned();
    let ta = bench.install(1, "ta", &module(""));
    let stranger = ClientIdentity {
        login: TEE_LOGIN_TRUSTED_APP,
        uuid: [5; 16],
    };
    assert!(Link::of(&stranger).is_none(), "another TA of this TEE");
    // The host's UUID proves nothing when it is not OP-TEE that says so.
    let pretender = ClientIdentity {
        login: TEE_LOGIN_USER,
        uuid: rpc::OPTEE_HOST_UUID.0,
    };
    let input = cbor::to_vec(&ta).unwrap();
    for opener in [pretender, ClientIdentity::public(), ClientIdentity::user(0)] {
        let mut link = Link::of(&opener).unwrap();
        for command in [rpc::OPTEE_CMD_ATTACH, rpc::OPTEE_CMD_HOST, 0, 3, u32::MAX] {
            let refused = bench.command(&mut link, command, &input, 1 << 20);
            assert_eq!(refused.unwrap_err(), Failure::of(TEE_ERROR_NOT_SUPPORTED));
        }
    }
    let mut host = host_link();
    let refused = bench.command(&mut host, rpc::OPTEE_CMD_RPC, &input, 1 << 20);
    assert_eq!(refused.unwrap_err(), Failure::of(TEE_ERROR_NOT_SUPPORTED));
    // Before it is bound it has no TA to be served as.
    let denied = bench.service(&mut host, &HostRequest::ObjectList);
    assert!(denied == HostReply::Failed(HostError::AccessDenied));
    // Sessions with TAs are not this image's.
    let request = Request::CloseSession { session: 1 };
    bench.refused(request, RefusalCode::BadRequest);
}

#[test]
fn a_host_is_bound_to_one_ta_for_ever() {
    let mut bench = Bench::provisioned();
    let a = bench.install(1, "a", &module(""));
    let b = bench.install(1, "b", &module(""));
    let mut host = host_link();
    let unknown = bench.attach(&mut host, &TaUuid([1; 16]));
    assert_eq!(unknown, Err(HostError::ItemNotFound));
    assert_eq!(bench.attach(&mut host, &a).unwrap(), module(""));
    assert_eq!(bench.attach(&mut host, &b), Err(HostError::BadParameters));
    // It has its components, and no way to another TA.
    let component = HostRequest::Component {
        kind: ComponentKind::Config,
    };
    let config = HostReply::Secret(SecretBytes::new(b"the secret".to_vec()));
    assert!(bench.service(&mut host, &component) == config);
    for request in [
        HostRequest::TaOpen {
            destination: b.0,
            timeout_ms: 0,
            params: Params::default(),
        },
        HostRequest::TaInvoke {
            session: 1,
            timeout_ms: 0,
            command: 0,
            params: Params::default(),
        },
    ] {
        let refused = bench.service(&mut host, &request);
        assert!(refused == HostReply::Failed(HostError::NotSupported));
    }
    // Two TAs see two storages; a token of one names nothing for the other.
    let create = HostRequest::ObjectCreate {
        id: b"key".to_vec(),
        flags: TEE_DATA_FLAG_ACCESS_WRITE_META,
        content: SecretBytes::new(vec![1, 2, 3]),
    };
    let HostReply::Token(token) = bench.service(&mut host, &create) else {
        panic!("not created");
    };
    let mut other = host_link();
    bench.attach(&mut other, &b).unwrap();
    assert!(bench.service(&mut other, &HostRequest::ObjectList) == HostReply::List(vec![]));
    let stolen = bench.service(&mut other, &HostRequest::ObjectRead { token });
    assert!(stolen == HostReply::Failed(HostError::BadParameters));

    // Share rules hold between instances of one TA, and a lock ends with its holder.
    let mut second = host_link();
    bench.attach(&mut second, &a).unwrap();
    let open = HostRequest::ObjectOpen {
        id: b"key".to_vec(),
        flags: TEE_DATA_FLAG_ACCESS_READ | TEE_DATA_FLAG_SHARE_READ,
    };
    let locked = bench.service(&mut second, &open);
    assert!(locked == HostReply::Failed(HostError::AccessConflict));
    drop(host);
    let HostReply::Object { content, .. } = bench.service(&mut second, &open) else {
        panic!("still locked");
    };
    assert_eq!(*content.0, [1, 2, 3]);

    // An update takes the components from who runs the old release, and from nobody else.
    bench.install(2, "a", &module("gpd.ta.version = 2"));
    let lost = bench.service(&mut second, &component);
    assert!(lost == HostReply::Failed(HostError::ItemNotFound));
    assert!(bench.service(&mut other, &component) == config);
    let list = bench.service(&mut second, &HostRequest::ObjectList);
    assert!(matches!(list, HostReply::List(ids) if ids.len() == 1));

    // The factory's word is not changed under running TAs.
    let record = bench.record("http://other");
    bench.refused(Request::Provision { record }, RefusalCode::Busy);
    drop((second, other));
    let record = bench.record("http://other");
    assert_eq!(bench.ask(Request::Provision { record }), Reply::Done);
}

#[test]
fn a_single_instance_ta_has_one_host() {
    let mut bench = Bench::provisioned();
    let ta = bench.install(1, "one", &module("gpd.ta.singleInstance = true"));
    let mut first = host_link();
    bench.attach(&mut first, &ta).unwrap();
    assert_eq!(bench.attach(&mut host_link(), &ta), Err(HostError::Busy));
    drop(first);
    assert!(bench.attach(&mut host_link(), &ta).is_ok());
    // A module whose properties are wrong is no TA.
    let bad = bench.install(1, "bad", &module("gpd.ta.singleInstance = perhaps"));
    assert_eq!(
        bench.attach(&mut host_link(), &bad),
        Err(HostError::BadFormat)
    );
    let bytes = bench.install(1, "bytes", b"no module at all");
    assert_eq!(
        bench.attach(&mut host_link(), &bytes),
        Err(HostError::BadFormat)
    );
}

#[test]
fn a_trap_ends_one_instance_and_no_other() {
    let mut bench = Bench::provisioned();
    let ta = bench.install(1, "ta", &module(""));
    let mut one = bench.host(ClientIdentity::user(1000));
    let mut two = bench.host(ClientIdentity::user(1001));
    assert_eq!(one.invoke(0).0, TEE_ERROR_ITEM_NOT_FOUND, "nothing is open");
    assert_eq!(
        one.open(&ta, Login::User),
        (TEE_SUCCESS, ORIGIN_TRUSTED_APP)
    );
    assert_eq!(
        two.open(&ta, Login::User),
        (TEE_SUCCESS, ORIGIN_TRUSTED_APP)
    );
    assert_eq!(one.open(&ta, Login::User), (TEE_ERROR_BUSY, ORIGIN_TEE));
    assert_eq!(one.invoke(0), (TEE_SUCCESS, ORIGIN_TRUSTED_APP, 1));
    assert_eq!(one.invoke(0).2, 2);
    assert_eq!(one.invoke(1), (TEE_ERROR_TARGET_DEAD, ORIGIN_TEE, 0));
    assert_eq!(one.invoke(0), (TEE_ERROR_TARGET_DEAD, ORIGIN_TEE, 0));
    assert_eq!(two.invoke(0), (TEE_SUCCESS, ORIGIN_TRUSTED_APP, 1));
    let Reply::Info(info) = bench.ask(Request::Info) else {
        panic!("no info");
    };
    assert_eq!(
        info.stats.sessions, 1,
        "what the dead one held is given back"
    );
    // An endless loop has an end, and it is a trap.
    assert_eq!(two.invoke(2), (TEE_ERROR_TARGET_DEAD, ORIGIN_TEE, 0));
    // Closing what is dead, or closing twice, is fine; a closed host opens nothing again.
    assert_eq!(one.ask(Request::CloseSession { session: 1 }), Reply::Done);
    one.0.close();
    assert_eq!(one.open(&ta, Login::User).1, ORIGIN_TEE);
}

#[test]
fn a_host_serves_the_identity_that_the_system_names() {
    let mut bench = Bench::provisioned();
    let ta = bench.install(1, "ta", &module(""));
    let denied = (TEE_ERROR_ACCESS_DENIED, ORIGIN_TEE);
    let mut alice = bench.host(ClientIdentity::user(1000));
    assert_eq!(alice.open(&ta, Login::Public), denied);
    assert_eq!(alice.open(&ta, Login::Application), denied);
    let gid = 100;
    assert_eq!(alice.open(&ta, Login::Group { gid }), denied);
    assert_eq!(alice.open(&ta, Login::User).0, TEE_SUCCESS);
    let mut group = bench.host(ClientIdentity::group(gid));
    assert_eq!(group.open(&ta, Login::Group { gid: 101 }), denied);
    assert_eq!(group.open(&ta, Login::Group { gid }).0, TEE_SUCCESS);
    // Nothing of the core is answered here.
    assert!(matches!(group.ask(Request::Info), Reply::Refused { .. }));
    assert!(matches!(
        group.ask(Request::DeviceReport),
        Reply::Refused { .. }
    ));
    let mut nobody = bench.host(ClientIdentity::public());
    let missing = nobody.open(&TaUuid([1; 16]), Login::Public);
    assert_eq!(missing, (TEE_ERROR_ITEM_NOT_FOUND, ORIGIN_TEE));
}

/// Every request and its prefixes, with every byte turned, to every command: an answer or a code.
#[test]
fn bytes_of_every_kind_get_an_answer() {
    let mut bench = Bench::provisioned();
    let ta = bench.install(1, "ta", &module(""));
    let call = |request| cbor::to_vec(&Call { id: 1, request }).unwrap();
    let rpc_calls = [
        call(Request::Hello { version: 1 }),
        call(Request::Info),
        call(Request::RequestTa { ta }),
        call(Request::Provision {
            record: bench.record("http://tam")[..80].to_vec(),
        }),
        call(Request::Process {
            message: vec![0xd2; 30],
            payloads: vec![],
        }),
        call(Request::OpenSession {
            ta,
            login: Login::User,
            params: Params::default(),
        }),
    ];
    let host_calls = [
        cbor::to_vec(&HostRequest::ObjectOpen {
            id: vec![1],
            flags: 1,
        })
        .unwrap(),
        cbor::to_vec(&HostRequest::Random { len: u32::MAX }).unwrap(),
        cbor::to_vec(&HostRequest::ObjectRead {
            token: ObjectToken(u64::MAX),
        })
        .unwrap(),
        cbor::to_vec(&HostRequest::Evidence { nonce: vec![0; 4] }).unwrap(),
    ];
    let attach = [cbor::to_vec(&ta).unwrap()];
    let groups: [(u32, &[Vec<u8>]); 3] = [
        (rpc::OPTEE_CMD_RPC, &rpc_calls),
        (rpc::OPTEE_CMD_HOST, &host_calls),
        (rpc::OPTEE_CMD_ATTACH, &attach),
    ];
    for (command, inputs) in groups {
        for input in inputs {
            let mut mutants: Vec<Vec<u8>> =
                (0..input.len()).map(|at| input[..at].to_vec()).collect();
            for at in 0..input.len() {
                for bit in [1, 0x20, 0x80] {
                    let mut mutant = input.clone();
                    mutant[at] ^= bit;
                    mutants.push(mutant);
                }
            }
            for mutant in mutants {
                let mut link = match command {
                    rpc::OPTEE_CMD_RPC => root(),
                    _ => host_link(),
                };
                if command == rpc::OPTEE_CMD_HOST {
                    bench.attach(&mut link, &ta).unwrap();
                }
                let answered = bench.command(&mut link, command, &mutant, 1 << 20).unwrap();
                assert!(!answered.is_empty());
                if command == rpc::OPTEE_CMD_RPC {
                    let mut host = bench.host(ClientIdentity::user(1));
                    let input = limited(&mutant);
                    assert!(host.0.command(command, input, 1 << 20).is_ok());
                }
            }
        }
    }
    // The device is as it was.
    assert!(matches!(bench.ask(Request::Info), Reply::Info(info) if info.trusted_apps.len() == 1));
}

#[test]
fn lengths_are_judged_before_memory_is_taken() {
    let bench = Bench::provisioned();
    let asked = Cell::new(0);
    let refuse = |link: &mut Link, command| {
        let read = |max| {
            asked.set(max);
            Err(Failure::of(TEE_ERROR_EXCESS_DATA))
        };
        let mut image = bench.image.lock().unwrap();
        let refused = image.command(link, command, read, 1 << 20).unwrap_err();
        assert_eq!(refused.code, TEE_ERROR_EXCESS_DATA);
        asked.get()
    };
    assert_eq!(
        refuse(&mut public(), rpc::OPTEE_CMD_RPC),
        rpc::OPTEE_CALL_LEN_BYTES_MAX
    );
    assert_eq!(refuse(&mut host_link(), rpc::OPTEE_CMD_ATTACH), 256);
    assert_eq!(refuse(&mut host_link(), rpc::OPTEE_CMD_HOST), 260 * 1024);
}

#[test]
fn the_longest_names_fit_and_every_id_is_canonical() {
    for letter in ["a", "z", "0", "9", "-"] {
        for len in [1, 2, 48, 95, 96] {
            let name = BlobName::new(&letter.repeat(len)).unwrap();
            let id = blob_id(&name);
            assert!((1..=64).contains(&id.len()), "{} bytes", id.len());
            assert_eq!(blob_name(&id), Some(name));
        }
    }
    assert_eq!(blob_name(&[]), None);
    assert_eq!(
        blob_name(&[0, 1]),
        None,
        "a leading zero is another spelling"
    );
    assert_eq!(blob_name(&[39]), None, "a digit of 0");
    assert_eq!(blob_name(&[0xff; 64]), None, "too long a name");
    assert_eq!(blob_name(&[1; 65]), None);
    let all: BTreeSet<_> = ["a", "aa", "b", "ab", "ba", "t-1", "t.1"]
        .map(|name| blob_id(&BlobName::new(name).unwrap()))
        .into();
    assert_eq!(all.len(), 7);
}

proptest! {
    #[test]
    fn names_and_ids_are_one_to_one(name in "[a-z0-9-][a-z0-9.-]{0,95}") {
        let name = BlobName::new(&name).unwrap();
        prop_assert_eq!(blob_name(&blob_id(&name)), Some(name));
    }

    #[test]
    fn foreign_ids_name_nothing_twice(id in proptest::collection::vec(any::<u8>(), 0..70)) {
        if let Some(name) = blob_name(&id) {
            prop_assert_eq!(blob_id(&name), id);
        }
    }
}
