//! Lifetimes, owners and limits of sessions, and TAs that call TAs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // Tests.

#[path = "support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex};

use support::{ALICE, BOB, Device};
use tegata_tee::gp::consts::*;
use tegata_tee::gp::host::{HostError, HostReply, HostRequest, HostServices, serve};
use tegata_tee::gp::params::{Param, ParamOut, Params, ParamsOut};
use tegata_tee::session::{
    CallControl, Caller, ClientIdentity, Entry, LaunchError, LaunchSpec, Launcher, Lifetime,
    Outcome, Panic, TaInstance,
};
use tegata_wire::ids::TaUuid;

/// A TA that counts its calls, and calls the TA of the UUID `[9; 16]` on command 1.
fn counter(properties: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
  (import "gp_tee_1" "TEE_OpenTASession" (func $open (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "gp_tee_1" "TEE_InvokeTACommand"
    (func $call (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "gp_tee_1" "TEE_CloseTASession" (func $close (param i32)))
  (@custom "tegata.ta" "{properties}")
  (memory (export "memory") 1)
  (data (i32.const 64) "\09\09\09\09\09\09\09\09\09\09\09\09\09\09\09\09")
  (global $top (mut i32) (i32.const 1024))
  (global $count (mut i32) (i32.const 0))
  (func (export "TA_CreateEntryPoint") (result i32) i32.const 0)
  (func (export "TA_DestroyEntryPoint"))
  (func (export "TA_OpenSessionEntryPoint") (param i32 i32 i32) (result i32)
    local.get 0 i32.const 1 i32.eq
    (if (result i32) (then i32.const 0xffff0001) (else i32.const 0)))
  (func (export "TA_CloseSessionEntryPoint") (param i32))
  (func (export "gp_alloc") (param i32) (result i32)
    global.get $top global.get $top local.get 0 i32.add global.set $top)
  (func (export "gp_free") (param i32))
  (func (export "TA_InvokeCommandEntryPoint") (param i32 i32 i32 i32) (result i32) (local i32)
    global.get $count i32.const 1 i32.add global.set $count
    local.get 1 i32.eqz
    (if (then local.get 3 global.get $count i32.store  i32.const 0 return))
    (call $open (i32.const 64) (i32.const -1) (i32.const 0) (i32.const 0) (i32.const 96) (i32.const 100))
    local.tee 4
    (if (then local.get 4 return))
    (call $call (i32.load (i32.const 96)) (i32.const -1) (i32.const 1) (i32.const 0) (local.get 3) (i32.const 100))
    (call $close (i32.load (i32.const 96)))))"#
    );
    wat::parse_str(text).unwrap()
}

fn count(session: &support::Session<'_>) -> u32 {
    let mut params = Params::default();
    params[0] = Param::ValueOutput;
    match session.invoke(0, params).params[0] {
        ParamOut::Value { a, .. } => a,
        _ => 0,
    }
}

#[test]
fn instances_follow_their_properties() {
    let device = Device::empty(1);
    // One instance for each session.
    let uuid = device.install_module(1, &counter(""));
    let (a, b) = (
        device.open_ta(&uuid, &ALICE).unwrap(),
        device.open_ta(&uuid, &BOB).unwrap(),
    );
    assert_eq!((count(&a), count(&b), count(&a)), (1, 1, 2));
    assert_eq!(device.manager.counts(), (2, 2));
    drop((a, b));
    assert_eq!(device.manager.counts(), (0, 0));
    // One instance, one session.
    let uuid = device.install_module(2, &counter("gpd.ta.singleInstance = true"));
    let a = device.open_ta(&uuid, &ALICE).unwrap();
    assert_eq!(device.open_ta(&uuid, &BOB).err(), Some(TEE_ERROR_BUSY));
    drop(a);
    drop(device.open_ta(&uuid, &BOB).unwrap());
    // One instance that many share and that stays.
    let all =
        "gpd.ta.singleInstance=true\\0agpd.ta.multiSession=true\\0agpd.ta.instanceKeepAlive=true";
    let uuid = device.install_module(3, &counter(all));
    let (a, b) = (
        device.open_ta(&uuid, &ALICE).unwrap(),
        device.open_ta(&uuid, &BOB).unwrap(),
    );
    assert_eq!((count(&a), count(&b)), (1, 2));
    drop((a, b));
    assert_eq!(device.manager.counts(), (0, 1));
    assert_eq!(count(&device.open_ta(&uuid, &ALICE).unwrap()), 3);
    device.manager.retire(&uuid);
    assert_eq!(device.manager.counts(), (0, 0));
}

/// The code that was replaced does not run again, whoever holds a session with it.
#[test]
fn an_update_ends_the_instances_of_the_release_it_replaces() {
    let device = Device::empty(1);
    let uuid = device.install_module(1, &counter(""));
    let (a, b) = (
        device.open_ta(&uuid, &ALICE).unwrap(),
        device.open_ta(&uuid, &BOB).unwrap(),
    );
    assert_eq!(count(&a), 1);
    device.manager.retire(&uuid);
    assert_eq!(device.manager.counts().1, 0);
    let control = CallControl::default();
    for session in [&a, &b] {
        let reply = device.manager.invoke(
            &session.caller,
            session.number,
            0,
            Params::default(),
            &control,
        );
        assert_eq!(
            (reply.code, reply.origin),
            (TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE)
        );
    }
    drop((a, b));
    assert_eq!(device.manager.counts(), (0, 0));
    assert_eq!(count(&device.open_ta(&uuid, &ALICE).unwrap()), 1);
}

#[test]
fn sessions_belong_to_their_owner() {
    let device = Device::empty(1);
    let uuid = device.install_module(1, &counter(""));
    let session = device.open_ta(&uuid, &ALICE).unwrap();
    let control = CallControl::default();
    let params = Params::default;
    let foreign = device
        .manager
        .invoke(&BOB(), session.number, 0, params(), &control);
    let missing = device.manager.invoke(&BOB(), 4711, 0, params(), &control);
    assert_eq!(foreign, missing);
    assert_eq!(foreign.code, TEE_ERROR_ITEM_NOT_FOUND);
    device.manager.close_session(&BOB(), session.number);
    assert_eq!(count(&session), 1, "not closed by another");
    device.manager.owner_gone(session.caller.owner);
    assert_eq!(device.manager.counts(), (0, 0));
}

#[test]
fn limits_and_refusals_leave_nothing_behind() {
    let device = Device::empty(1);
    let uuid = device.install_module(1, &counter(""));
    let nobody = device.open_ta(&TaUuid([0x44; 16]), &ALICE).err();
    assert_eq!(nobody, Some(TEE_ERROR_ITEM_NOT_FOUND));
    let open: Vec<_> = (0..16)
        .map(|_| device.open_ta(&uuid, &ALICE).unwrap())
        .collect();
    assert_eq!(
        device.open_ta(&uuid, &ALICE).err(),
        Some(TEE_ERROR_OUT_OF_MEMORY)
    );
    assert!(
        device.open_ta(&uuid, &BOB).is_ok(),
        "another owner has room"
    );
    drop(open);
    // The TA refuses a session that comes with a value.
    let mut params = Params::default();
    params[0] = Param::ValueInput { a: 0, b: 0 };
    let control = CallControl::default();
    let reply = device
        .manager
        .open_session(&ALICE(), &uuid, params, &control);
    assert_eq!(
        (reply.code, reply.origin),
        (TEE_ERROR_ACCESS_DENIED, TEE_ORIGIN_TRUSTED_APP)
    );
    assert_eq!(device.manager.counts(), (0, 0));
    control.cancel();
    let reply = device
        .manager
        .open_session(&ALICE(), &uuid, Params::default(), &control);
    assert_eq!(reply.code, TEE_ERROR_CANCEL);
    assert_eq!(device.manager.counts(), (0, 0));
}

#[test]
fn tas_call_each_other_but_not_in_circles() {
    let device = Device::empty(1);
    let caller = device.install_module(1, &counter(""));
    let session = device.open_ta(&caller, &ALICE).unwrap();
    assert_eq!(
        session.invoke(1, Params::default()).code,
        TEE_ERROR_ITEM_NOT_FOUND
    );
    // [9; 16] calls itself: a new instance each time would never end, a single one is busy.
    device.install_module(
        9,
        &counter("gpd.ta.singleInstance=true\\0agpd.ta.multiSession=true"),
    );
    let reply = session.invoke(1, Params::default());
    assert_eq!(
        (reply.code, reply.origin),
        (TEE_ERROR_BUSY, TEE_ORIGIN_TRUSTED_APP)
    );
    drop(session);
    assert_eq!(device.manager.counts(), (0, 0));
    // A chain of fresh instances ends at the limit of sessions or instances, not in the stack.
    device.install_module(9, &counter(""));
    let session = device.open_ta(&caller, &ALICE).unwrap();
    let reply = session.invoke(1, Params::default());
    assert_eq!(reply.code, TEE_ERROR_OUT_OF_MEMORY);
    drop(session);
    assert_eq!(device.manager.counts(), (0, 0));
}

#[test]
fn logins_are_what_the_backend_says() {
    let group = Caller {
        owner: 3,
        client: ClientIdentity::group(7),
    };
    assert_ne!(group.client, ClientIdentity::user(7));
    assert_eq!(ClientIdentity::public().login, TEE_LOGIN_PUBLIC);
}

/// What the instances of [`Acted`] did, and what a test lets them do.
#[derive(Default)]
struct Script {
    entries: Mutex<Vec<Entry>>,
    /// At the next entry point, while it runs: what it does and how it ends.
    next: Mutex<Option<Act>>,
    /// The services of every instance that was dropped: a worker may go on asking.
    orphans: Mutex<Vec<Box<dyn HostServices>>>,
}

type Act = Box<dyn FnOnce(&mut dyn HostServices) -> Outcome + Send>;

/// Starts instances that many clients share and that do what a test wants.
#[derive(Clone, Default)]
struct Acted(Arc<Script>);

struct Actor {
    script: Arc<Script>,
    services: Option<Box<dyn HostServices>>,
}

impl Launcher for Acted {
    fn launch(
        &self,
        _: &LaunchSpec,
        services: Box<dyn HostServices>,
    ) -> Result<Box<dyn TaInstance>, LaunchError> {
        Ok(Box::new(Actor {
            script: Arc::clone(&self.0),
            services: Some(services),
        }))
    }
}

impl TaInstance for Actor {
    fn lifetime(&self) -> Lifetime {
        Lifetime {
            single_instance: true,
            multi_session: true,
            keep_alive: false,
        }
    }

    fn call(&mut self, entry: Entry) -> Outcome {
        self.script.entries.lock().unwrap().push(entry);
        let act = self.script.next.lock().unwrap().take();
        match (act, &mut self.services) {
            (Some(act), Some(services)) => act(services.as_mut()),
            _ => fine(),
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.script
            .orphans
            .lock()
            .unwrap()
            .extend(self.services.take());
    }
}

fn fine() -> Outcome {
    Outcome::Returned {
        code: TEE_SUCCESS,
        params: ParamsOut::default(),
    }
}

impl Script {
    fn next(&self, act: impl FnOnce(&mut dyn HostServices) -> Outcome + Send + 'static) {
        *self.next.lock().unwrap() = Some(Box::new(act));
    }

    fn closed(&self, session: u32) -> usize {
        let entries = self.entries.lock().unwrap();
        let closing = Entry::CloseSession { session };
        entries.iter().filter(|entry| **entry == closing).count()
    }
}

fn shared_instance() -> (Arc<Script>, Device, TaUuid) {
    let launcher = Acted::default();
    let device = Device::empty_with(1, launcher.clone());
    let uuid = device.install_module(1, b"acted");
    (launcher.0, device, uuid)
}

/// A shared instance counts a session down once, whoever comes first: its opening or its owner.
#[test]
fn a_client_that_leaves_while_it_opens_does_not_end_the_instance_of_others() {
    let (script, device, uuid) = shared_instance();
    let bob = device.open_ta(&uuid, &BOB).unwrap();
    let manager = device.manager.clone();
    script.next(move |_| {
        manager.owner_gone(ALICE().owner);
        fine()
    });
    assert_eq!(device.open_ta(&uuid, &ALICE).err(), Some(TEE_ERROR_CANCEL));
    assert_eq!(device.manager.counts(), (1, 1));
    assert_eq!(script.closed(2), 1, "the TA opened it, so the TA closes it");
    assert_eq!(bob.invoke(0, Params::default()).code, TEE_SUCCESS);
    // One that the TA refuses meanwhile is not closed in it.
    let manager = device.manager.clone();
    script.next(move |_| {
        manager.owner_gone(ALICE().owner);
        Outcome::Returned {
            code: TEE_ERROR_ACCESS_DENIED,
            params: ParamsOut::default(),
        }
    });
    assert_eq!(
        device.open_ta(&uuid, &ALICE).err(),
        Some(TEE_ERROR_ACCESS_DENIED)
    );
    assert_eq!(script.closed(3), 0);
    assert_eq!(bob.invoke(0, Params::default()).code, TEE_SUCCESS);
    drop(bob);
    assert_eq!(device.manager.counts(), (0, 0));
}

#[test]
fn a_session_closed_while_a_shared_instance_is_busy_is_closed_later() {
    let (script, device, uuid) = shared_instance();
    let alice = device.open_ta(&uuid, &ALICE).unwrap();
    let bob = device.open_ta(&uuid, &BOB).unwrap();
    // It waits as long as a client may wait, and the call still runs.
    let (manager, number) = (device.manager.clone(), alice.number);
    script.next(move |_| {
        manager.close_session(&ALICE(), number);
        fine()
    });
    assert_eq!(bob.invoke(0, Params::default()).code, TEE_SUCCESS);
    assert_eq!(script.closed(number), 1);
    assert_eq!(device.manager.counts(), (1, 1));
    assert_eq!(bob.invoke(0, Params::default()).code, TEE_SUCCESS);
    drop(alice);
    assert_eq!(
        (script.closed(number), device.manager.counts()),
        (1, (1, 1))
    );
    // Nobody else needs the instance: it is ended, with the call in it.
    let (manager, number) = (device.manager.clone(), bob.number);
    script.next(move |_| {
        manager.close_session(&BOB(), number);
        fine()
    });
    let _ = bob.invoke(0, Params::default());
    assert_eq!(device.manager.counts(), (0, 0));
}

/// What the services answer when an instance asks that may be a worker in other hands.
fn asks(services: &mut dyn HostServices) -> Vec<HostReply> {
    let requests = [
        HostRequest::ObjectList,
        HostRequest::Random { len: 8 },
        HostRequest::SystemTime,
        HostRequest::ObjectCreate {
            id: b"key".to_vec(),
            flags: TEE_DATA_FLAG_ACCESS_READ | TEE_DATA_FLAG_OVERWRITE,
            content: tegata_tee::gp::host::SecretBytes::new(b"x".to_vec()),
        },
        HostRequest::TaUniqueKey {
            context: Vec::new(),
        },
        HostRequest::TaOpen {
            destination: [1; 16],
            timeout_ms: TEE_TIMEOUT_INFINITE,
            params: Params::default(),
        },
    ];
    let mut replies = Vec::new();
    for request in requests {
        replies.push(serve(services, request));
    }
    replies
}

#[test]
fn an_instance_that_was_ended_gets_nothing_any_more() {
    let (script, device, uuid) = shared_instance();
    let alice = device.open_ta(&uuid, &ALICE).unwrap();
    script.next(|services| {
        for reply in asks(services) {
            assert!(!matches!(reply, HostReply::Failed(_)), "it lives");
        }
        Outcome::Panicked(Panic {
            code: 1,
            function: format!("TEE_\n{}", "x".repeat(100_000)),
        })
    });
    assert_eq!(
        alice.invoke(0, Params::default()).code,
        TEE_ERROR_TARGET_DEAD
    );
    let mut orphan = script.orphans.lock().unwrap().pop().unwrap();
    let before = device.storage();
    for reply in asks(orphan.as_mut()) {
        assert!(matches!(reply, HostReply::Failed(HostError::Communication)));
    }
    assert!(orphan.poll().stop);
    assert_eq!(device.storage(), before);
    drop(alice);
    assert_eq!(device.manager.counts(), (0, 0));
}

#[test]
fn what_an_instance_says_reaches_the_log_cut_and_printable() {
    let (script, device, uuid) = shared_instance();
    let alice = device.open_ta(&uuid, &ALICE).unwrap();
    script.next(|services| {
        for _ in 0..100 {
            let line = format!("two\nlines\x1b[2J{}", "x".repeat(100_000));
            let _ = serve(services, HostRequest::Log { line });
        }
        Outcome::Panicked(Panic {
            code: 1,
            function: format!("TEE_\n{}", "x".repeat(100_000)),
        })
    });
    let _ = alice.invoke(0, Params::default());
    let log = device.log.lock().unwrap();
    assert!((1..=65).contains(&log.len()), "{} lines", log.len());
    for line in log.iter() {
        assert!(
            line.len() <= 256 && !line.contains(|c: char| c.is_control()),
            "{line:?}"
        );
    }
}
