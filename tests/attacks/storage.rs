//! Line 1, the stored bytes: whoever holds the flash, and TAs that look into each other.

use std::collections::BTreeMap;

use tegata_authority::tam::availability::Availability;
use tegata_tee::gp::params::{Param, Params};
use tegata_tee::testing::Crash;

use crate::enrolment::{check_certificate, ready};
use crate::rig::{ALICE, Device, World, flipped, sampled};
use crate::suite::Tried;

const LABEL: &[u8] = b"web";

/// What a device can be after its storage was tampered with: whole, or refusing; never other.
fn whole_or_refusing(device: &Device, genuine: &State, what: &str) {
    let Ok(device) = device.try_reboot() else {
        return;
    };
    if let Ok(Some(found)) = device.tee.with(|tee| tee.installed(&genuine.ta)) {
        assert_eq!(found.module, genuine.module, "{what}: another module");
        let config = found.config.map(|c| c.expose_secret().clone());
        assert_eq!(
            config.as_deref(),
            Some(genuine.config.as_slice()),
            "{what}: other data"
        );
        assert_eq!(
            found.procedure.as_deref(),
            Some(genuine.procedure.as_slice()),
            "{what}"
        );
    }
}

struct State {
    ta: tegata_wire::ids::TaUuid,
    module: Vec<u8>,
    config: Vec<u8>,
    procedure: Vec<u8>,
}

fn state(device: &Device, ta: tegata_wire::ids::TaUuid) -> State {
    let (_, module, procedure, config) = device.installed(&ta).unwrap();
    State {
        ta,
        module,
        config: config.unwrap(),
        procedure: procedure.unwrap(),
    }
}

fn put(device: &Device, blobs: &BTreeMap<String, Vec<u8>>) {
    device.machine.medium.restore(blobs.clone());
}

/// Every blob: bits flipped, cut, swapped, deleted, rolled back alone, taken from another device.
pub fn flash_is_rewritten() -> Tried {
    let world = World::new(41);
    let cut = world.release("enrol", crate::delivery::MODULE, false);
    let devices = world.devices(2, false);
    let [device, other] = devices.as_slice() else {
        panic!()
    };
    device.install(&world, &cut.ta);
    other.install(&world, &cut.ta);
    let old = device.storage();
    world.release("enrol", b"\0asm\x01\0\0\0 version 2", false);
    device.install(&world, &cut.ta);
    let genuine = state(device, cut.ta);
    let now = device.storage();
    let theirs = other.storage();
    let mut tried = 0;
    let mut check = |blobs: BTreeMap<String, Vec<u8>>, what: &str| {
        put(device, &blobs);
        whole_or_refusing(device, &genuine, what);
        tried += 1;
    };
    let names: Vec<&String> = now.keys().collect();
    for name in &names {
        let blob = &now[*name];
        let with = |bytes: Vec<u8>| {
            let mut blobs = now.clone();
            blobs.insert((*name).clone(), bytes);
            blobs
        };
        let step = (blob.len() / 24).max(1);
        for at in (0..blob.len()).step_by(step) {
            check(with(flipped(blob, at)), "a flipped bit");
        }
        for len in [0, 1, 12, 28, blob.len() / 2, blob.len() - 1] {
            check(with(blob[..len.min(blob.len())].to_vec()), "cut off");
        }
        check(with([blob.as_slice(), &[0; 16]].concat()), "made longer");
        let mut gone = now.clone();
        gone.remove(*name);
        check(gone, "deleted");
        for source in [&old, &theirs] {
            if let Some(bytes) = source.get(*name).filter(|bytes| *bytes != blob) {
                check(with(bytes.clone()), "from before, or from another device");
            }
        }
        for other in names.iter().filter(|other| *other != name) {
            check(with(now[*other].clone()), "swapped");
        }
    }
    // Half of an old state.
    for half in 0..names.len() {
        let mut mixed = now.clone();
        for name in names.iter().take(half) {
            if let Some(bytes) = old.get(*name) {
                mixed.insert((*name).clone(), bytes.clone());
            }
        }
        if mixed != old {
            check(mixed, "half of an old state");
        }
    }
    // All of another device.
    put(device, &theirs);
    let stranger = device.try_reboot();
    let found = stranger
        .ok()
        .map(|d| d.tee.with(|tee| tee.installed(&cut.ta)));
    assert!(
        !matches!(found, Some(Ok(Some(_)))),
        "another device's storage opens"
    );
    put(device, &now);
    assert_eq!(device.try_reboot().unwrap().version(&cut.ta), Some(2));
    Tried::Times(tried + 1)
}

/// The whole flash of an earlier moment, where the device has a counter in hardware.
pub fn flash_is_rolled_back() -> Tried {
    let world = World::new(42);
    let cut = world.release("enrol", crate::delivery::MODULE, false);
    let device = world.devices(1, true).remove(0);
    device.install(&world, &cut.ta);
    let old = device.storage();
    world.release("enrol", b"\0asm\x01\0\0\0 version 2", false);
    device.install(&world, &cut.ta);
    let now = device.storage();
    put(&device, &old);
    let rolled = device.try_reboot();
    let version = rolled.ok().map(|d| {
        let found = d.tee.with(|tee| tee.installed(&cut.ta));
        found.ok().flatten().map(|ta| ta.record.sequence_number)
    });
    assert_ne!(version.flatten(), Some(1), "version 1 is back");
    put(&device, &BTreeMap::new());
    let wiped = device.try_reboot();
    // Everything deleted is not a new device either: version 1 is not let in again.
    if let Ok(wiped) = wiped {
        world
            .tam
            .set_availability(&cut.digest, &Availability::Everybody)
            .unwrap();
        assert_eq!(
            wiped
                .tee
                .with(|tee| tee.installed(&cut.ta).ok().flatten())
                .map(|t| t.record.sequence_number),
            None
        );
    }
    put(&device, &now);
    assert_eq!(device.try_reboot().unwrap().version(&cut.ta), Some(2));
    Tried::Times(2)
}

/// A TA that tries to read what another keeps.
pub fn other_ta_reads() -> Tried {
    let (world, ta, device) = ready(43);
    let der = device.enrol(&world, &ta, ALICE, LABEL).unwrap();
    assert!(!der.is_empty());
    let spy = world.release("spy", &wat::parse_str(SPY).unwrap(), false);
    device.install(&world, &spy.ta);
    // The true object ids of the enrolment TA, as if the spy had been told them.
    let id = tegata_tee::storage::TaId {
        signer: tegata_wire::ids::SignerId(
            tegata_crypto::Signer::public_key(&KeyOf(&world)).thumbprint(),
        ),
        uuid: ta,
    };
    let ids: Vec<Vec<u8>> = device.tee.with(|tee| {
        let storage = tee.storage(&id).unwrap();
        storage.list().unwrap().into_iter().map(|o| o.id).collect()
    });
    assert!(!ids.is_empty(), "the enrolment TA keeps objects");
    let session = device.open(&spy.ta, ALICE);
    let mut tried = 0;
    for object in &ids {
        for command in [5, 6] {
            let mut params = Params::default();
            params[0] = Param::MemrefInput {
                buffer: object.clone(),
            };
            params[2] = Param::MemrefOutput { size: 4096 };
            let got = session.invoke(command, params);
            assert!(got.is_err(), "the spy opened {}", hex::encode(object));
            tried += 1;
        }
    }
    // It keeps one of the same name of its own; the enrolment TA does not see it.
    let mut params = Params::default();
    params[0] = Param::MemrefInput {
        buffer: ids[0].clone(),
    };
    session.invoke(4, params).unwrap();
    let enrol = device.open(&ta, ALICE);
    assert_eq!(enrol.certificate(LABEL).unwrap(), der);
    // The spy is removed and installed again under another signer: nothing of it is left, and
    // nothing of the enrolment TA is gone.
    drop((session, enrol));
    check_certificate(&world, &device.open(&ta, ALICE), LABEL);
    Tried::Times(tried + 1)
}

/// A device that loses power at every write of an enrolment.
pub fn power_is_cut() -> Tried {
    let (world, ta, mut device) = ready(44);
    let mut tried = 0;
    for crash in [Crash::Lost, Crash::Kept] {
        let first = if crash == Crash::Lost {
            0
        } else {
            sampled(2) - 1
        };
        for at in (first..).step_by(sampled(2)) {
            let label = format!("{at}-{crash:?}");
            let certificates = world.certificates().len();
            device.machine.medium.crash_at(at as u64, crash);
            let first = device.enrol(&world, &ta, ALICE, label.as_bytes());
            let crashed = device.machine.medium.is_dead();
            device = device.rebooted();
            if !crashed {
                first.unwrap();
                break;
            }
            // What was answered before the cut is still the answer after it.
            let again = device
                .enrol(&world, &ta, ALICE, label.as_bytes())
                .unwrap_or_else(|code| {
                    panic!("{crash:?} at {at}, first {first:x?}, then {code:#x}")
                });
            if let Ok(first) = first {
                assert!(first == again || world.certificates().len() > certificates);
            }
            check_certificate(&world, &device.open(&ta, ALICE), label.as_bytes());
            let made = world.certificates().len() - certificates;
            assert!((1..=2).contains(&made), "{made} certificates for one label");
            tried += 1;
        }
    }
    let serials: std::collections::BTreeSet<_> = world
        .certificates()
        .into_iter()
        .map(|row| row.intent.serial)
        .collect();
    assert_eq!(serials.len(), world.certificates().len());
    Tried::Times(tried)
}

struct KeyOf<'a>(&'a World);

impl tegata_crypto::Signer for KeyOf<'_> {
    fn public_key(&self) -> &tegata_crypto::PublicKey {
        self.0.ca.release_public_key()
    }
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, tegata_crypto::CryptoError> {
        Err(tegata_crypto::CryptoError::Rng)
    }
}

/// Command 4 keeps an object under the id given, 5 opens one for reading, 6 to be deleted.
const SPY: &str = r#"
(module
  (import "gp_tee_1" "TEE_CreatePersistentObject"
    (func $create (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "gp_tee_1" "TEE_OpenPersistentObject"
    (func $open (param i32 i32 i32 i32 i32) (result i32)))
  (import "gp_tee_1" "TEE_CloseObject" (func $close (param i32)))
  (memory (export "memory") 4)
  (data (i32.const 16) "object")
  (func (export "TA_CreateEntryPoint") (result i32) (i32.const 0))
  (func (export "TA_DestroyEntryPoint"))
  (func (export "TA_OpenSessionEntryPoint") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "TA_CloseSessionEntryPoint") (param i32))
  (func (export "gp_alloc") (param i32) (result i32) (i32.const 65536))
  (func (export "gp_free") (param i32))
  (func (export "TA_InvokeCommandEntryPoint") (param i32 i32 i32 i32) (result i32)
    (local $code i32)
    (if (i32.eq (local.get 1) (i32.const 4)) (then
      (local.set $code (call $create (i32.const 1)
        (i32.load (local.get 3)) (i32.load offset=4 (local.get 3))
        (i32.const 0x407) (i32.const 0) (i32.const 16) (i32.const 6) (i32.const 64)))
      (if (local.get $code) (then (return (local.get $code))))
      (call $close (i32.load (i32.const 64)))
      (return (i32.const 0))))
    (if (i32.eq (local.get 1) (i32.const 5)) (then
      (return (call $open (i32.const 1)
        (i32.load (local.get 3)) (i32.load offset=4 (local.get 3))
        (i32.const 1) (i32.const 64)))))
    (if (i32.eq (local.get 1) (i32.const 6)) (then
      (return (call $open (i32.const 1)
        (i32.load (local.get 3)) (i32.load offset=4 (local.get 3))
        (i32.const 4) (i32.const 64)))))
    (i32.const 0xffff0006))
  (@custom "tegata.ta" "gpd.ta.singleInstance = false\ngpd.ta.multiSession = false\n")
)"#;
