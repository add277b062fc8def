//! Each invariant can fail: something is broken on purpose, and the invariant of that name says so.
//! An invariant that cannot fail protects nothing.

use std::collections::BTreeSet;

use tegata_crypto::{KeyAlg, PrivateKey};
use tegata_store::certificate;
use tegata_tee::platform::{BlobName, Platform as _};
use tegata_wire::ids::Digest;

use crate::device::{App, LABELS, Slot, command};
use crate::invariants;
use crate::network::{Body, Node};
use crate::prng::Prng;
use crate::world::{CMP_PROFILE, Pump, World};

/// A world of enrolled devices with keys of their own, in which all is well.
fn good_world(devices: u32) -> World {
    let mut world = fresh_world(devices);
    world.settle();
    world.observe();
    assert_eq!(invariants::check(&world), Ok(()));
    world
}

fn fresh_world(devices: u32) -> World {
    let mut world = (1000..)
        .map(World::new)
        .find(|world| !world.paper && !world.implicit)
        .unwrap();
    world.calm = true;
    world.make_batch(devices);
    world
}

const NEW: Slot = (App::Main, LABELS[1]);

/// Begins an enrolment and gives the request that would go to the CA.
fn request(world: &mut World, d: usize) -> Vec<u8> {
    world.enrol(d, NEW);
    let packet = world.network.flying.pop().unwrap();
    let Body::Cmp { message, .. } = packet.body else {
        panic!("no request")
    };
    message
}

fn enrolled(world: &mut World, d: usize) {
    world.enrol(d, NEW);
    world.drain();
    world.observe();
    assert!(world.devices[d].held.iter().any(|held| held.slot == NEW));
}

fn to_ca(world: &mut World, d: usize, message: &[u8]) {
    let told = world.at_ca(0, Node::Device(d), CMP_PROFILE, message);
    assert!(told.starts_with("issued"), "{told}");
}

/// Breaks something in a good world.
type Break = fn() -> World;

/// What is broken for each invariant.
const BROKEN: [(&str, Break); 12] = [
    ("device_certificates_come_from_the_ca", || {
        // Two CAs with the same keys: one of them knows nothing of what the other issued.
        let mut world = good_world(1);
        let copy = world.ca.borrow().copy_disk(".copy");
        enrolled(&mut world, 0);
        world.ca.get_mut().restore_disk(&copy);
        world
    }),
    ("confirmed_certificates_are_in_the_ca_store", || {
        // A disk that forgets what it said was durable; the device deleted its copy meanwhile.
        let mut world = good_world(1);
        let copy = world.ca.borrow().copy_disk(".copy");
        enrolled(&mut world, 0);
        let ta = world.ta;
        let deleted = world.devices[0].call(&ta, NEW.0, command::DELETE, NEW.1, None);
        deleted.unwrap();
        world.ca.get_mut().restore_disk(&copy);
        world
    }),
    ("serials_are_unique", || {
        // A generator that repeats itself after a restart.
        let mut world = good_world(2);
        let copy = world.ca.borrow().copy_disk(".copy");
        let messages = [0, 1].map(|d| request(&mut world, d));
        let rng = world.ca.borrow().rng.clone();
        to_ca(&mut world, 0, &messages[0]);
        world.ca.get_mut().restore_disk(&copy);
        world.ca.get_mut().rng = rng;
        to_ca(&mut world, 1, &messages[1]);
        world
    }),
    ("one_certificate_per_request", || {
        // What was recorded was not durable before the certificate was answered.
        let mut world = good_world(1);
        let copy = world.ca.borrow().copy_disk(".copy");
        let message = request(&mut world, 0);
        to_ca(&mut world, 0, &message);
        world.ca.get_mut().restore_disk(&copy);
        to_ca(&mut world, 0, &message);
        world
    }),
    ("nothing_issued_without_authenticated_csr", || {
        // A CA that takes what comes: it fixes an intent for a CSR from nowhere.
        let world = good_world(1);
        let mut intent = world.ca_rows().remove(0).intent;
        intent.csr_digest = [7; 32];
        intent.serial.push(7);
        let stored = world
            .ca
            .borrow()
            .role()
            .store
            .run_tx("test", |tx| certificate::intend(tx, &intent, 0));
        stored.unwrap();
        world
    }),
    ("sequence_never_decreases", || {
        // The flash of a device without a counter is put back as it was.
        let mut world = good_world(1);
        let old = world.devices[0].platform.medium.snapshot();
        world.cut_release(1);
        world.settle();
        world.devices[0].power_off();
        world.devices[0].platform.medium.restore(old);
        world.devices[0].boot();
        world
    }),
    ("personalization_is_the_devices_own", || {
        // A device cloned whole: fuses and flash.
        let mut world = good_world(2);
        let original = world.devices[0].platform.clone();
        world.devices[1].power_off();
        world.devices[1].platform = original;
        world.devices[1].installed_as = None;
        world.devices[1].boot();
        world
    }),
    ("a_module_uses_its_own_releases_key", || {
        // A module is given the personalization data of another release.
        let mut world = good_world(1);
        let message = request(&mut world, 0);
        world.note_request(0, NEW, &message, Some(Digest([7; 32])));
        world
    }),
    ("other_apps_never_use_a_key", || {
        // The caller's identity is taken from the message.
        let mut world = good_world(1);
        world.pump = Pump::BelievesCallers;
        world.wrong_app(0, (App::Main, LABELS[0]), App::Stranger, command::SIGN);
        world
    }),
    ("challenges_are_used_once", || {
        // The TAM's disk forgets that a challenge was used.
        let mut world = good_world(1);
        world.sync(0, false);
        // Contact, QueryRequest; then the QueryResponse is in flight.
        for _ in 0..2 {
            let packet = world.network.flying.remove(0);
            world.arrive(packet);
        }
        let packet = world.network.flying.remove(0);
        let Body::Teep(response) = packet.body else {
            panic!("no QueryResponse")
        };
        let copy = world.tam.copy_disk(".copy");
        world.at_tam(0, Node::Device(0), &response);
        world.tam.restore_disk(&copy);
        world.at_tam(0, Node::Device(0), &response);
        world
    }),
    ("willing_devices_end_enrolled", || {
        let mut world = fresh_world(1);
        world.pump = Pump::DropsConfirmations;
        world.settle();
        world
    }),
    ("no_secret_is_ever_outside", || {
        // The TEE writes its personalization data as it is.
        let mut world = good_world(1);
        let (_, config) = world.devices[0].personalization.clone().unwrap();
        let name = BlobName::new("dump").unwrap();
        let platform = world.devices[0].platform.clone();
        platform.blob_write(&name, &config).unwrap();
        world.devices[0].dirty = true;
        world
    }),
];

/// In a thread with room for the interpreter.
fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(32 << 20);
        builder.spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

#[test]
fn every_invariant_can_fail() {
    let broken: BTreeSet<&str> = BROKEN.iter().map(|(name, _)| *name).collect();
    let all: BTreeSet<&str> = invariants::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(broken, all, "one self-test for each invariant");
    for (name, make) in BROKEN {
        let (_, check) = invariants::ALL.iter().find(|(n, _)| *n == name).unwrap();
        let found = with_stack(|| {
            let mut world = make();
            world.observe();
            check(&world)
        });
        let why = found.expect_err(name);
        println!("invariant_{name}: {why}");
    }
}

#[test]
fn secrets_are_found_wherever_they_are() {
    let mut rng = Prng::new(1, "secrets");
    let key = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
    let scalar = key.expose_scalar_bytes();
    let scalar = scalar.expose_secret();
    let mut secrets = crate::secrets::Secrets::default();
    assert!(secrets.add("key", scalar));
    assert!(!secrets.add("key", scalar));
    assert_eq!(secrets.len(), 1);
    for at in [0, 1, 7, 100] {
        let mut bytes = vec![scalar[0]; at];
        bytes.extend_from_slice(scalar);
        assert_eq!(secrets.find_in(&bytes), Some("key"));
        bytes.push(0);
        assert_eq!(secrets.find_in(&bytes), Some("key"));
        bytes.truncate(at + scalar.len() - 1);
        assert_eq!(secrets.find_in(&bytes), None);
    }
    assert_eq!(secrets.find_in(key.public_key().bytes()), None);
}
