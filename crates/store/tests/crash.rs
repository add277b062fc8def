//! A stop at every write, before and after its commit: then the device repeats itself, and there
//! is exactly one certificate for its request, the one it was answered if it was answered. (See `deaths` for
//! processes that die there.)
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::elsewhere::Watched;
use common::stops::StopAt;
use common::*;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::profile::Profiles;
use tegata_authority::tam::availability::Availability;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _};
use tegata_store::issuer::{CmpOutcome, Issuer};
use tegata_store::role::Role;
use tegata_store::tam::{TeepAnswer, TeepOutcome};
use tegata_store::{NoFaults, certificate};

/// A device with its TA, ready to enrol.
fn ready() -> (World, Device) {
    let mut world = World::new();
    let mut device = world.batch("B1", 1).remove(0);
    let cut = world.release(MODULE, false, Availability::Everybody);
    let peers = Direct {
        ca: &world.ca,
        verifier: &world.verifier,
        now: NOW.secs(),
    };
    let (answer, _) = world.tam.teep(b"", &peers, &mut world.rng, NOW).unwrap();
    let TeepAnswer::Message(query) = answer else {
        panic!()
    };
    let response = device.query_response(&query, world.tam.public_key(), &[cut.ta]);
    let (answer, _) = world
        .tam
        .teep(&response, &peers, &mut world.rng, NOW)
        .unwrap();
    let TeepAnswer::Message(update) = answer else {
        panic!()
    };
    device.process(
        &update,
        world.tam.public_key(),
        world.ca.release_public_key(),
    );
    (world, device)
}

fn serials_are_unique(world: &World, expected: usize) {
    let rows = world
        .ca
        .role()
        .store
        .read("t", |tx| certificate::list(tx, &[], 1000))
        .unwrap();
    assert_eq!(rows.len(), expected);
    let serials: BTreeSet<_> = rows.iter().map(|r| r.intent.serial.clone()).collect();
    assert_eq!(serials.len(), expected);
    let unfinished = world
        .ca
        .role()
        .store
        .read("t", certificate::unfinished)
        .unwrap();
    assert!(unfinished.is_empty());
}

/// Serial numbers of certificates and intents.
fn serials(world: &World) -> Vec<Vec<u8>> {
    let store = &world.ca.role().store;
    let rows = store.read("t", |tx| certificate::list(tx, &[], 1000));
    rows.unwrap().into_iter().map(|r| r.intent.serial).collect()
}

#[test]
fn issuance_survives_a_stop_at_every_step() {
    for (in_process, expected) in [
        // All of it is one commit, which is lost or there.
        (true, 3),
        // Intend and record, each before and after: fewer would mean that a write went unseen.
        (false, 5),
    ] {
        let (mut world, device) = ready();
        let mut points = 0;
        for at in 0.. {
            let keys = Watched {
                in_process,
                ..Watched::default()
            };
            let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
            let request = device.p10cr(&device.csr(&key), 1);
            let before = serials(&world);
            let faults = StopAt::new(at);
            keys.reopen(&mut world, faults.clone());
            let answer = world.ca.cmp("device", &request, &mut world.rng, NOW);
            let stopped = faults.stopped();
            let answered = certificate_of(&answer.body, &world.ca).ok();
            assert_eq!(
                answered.is_none(),
                stopped,
                "step {at}: {:?}",
                answer.outcome
            );
            // Where the key may have a log of its own, each signature in it has a row.
            let mut fixed = serials(&world);
            fixed.retain(|serial| !before.contains(serial));
            let rows = fixed.iter().filter(|serial| keys.has_signed(serial));
            if in_process {
                assert_eq!(fixed.len(), usize::from(at > 0), "step {at}");
            } else {
                assert_eq!(rows.count(), keys.certificates(), "step {at}");
            }
            // The process dies; another takes over, which may have its keys elsewhere; the device
            // repeats its request, twice.
            let mut seen: BTreeSet<Vec<u8>> = answered.into_iter().collect();
            for (transaction, in_process) in [(2, in_process), (3, !in_process)] {
                let keys = Watched {
                    in_process,
                    ..Watched::default()
                };
                keys.reopen(&mut world, Arc::new(NoFaults));
                let request = device.p10cr(&device.csr(&key), transaction);
                let answer = world.ca.cmp("device", &request, &mut world.rng, NOW);
                let cert = certificate_of(&answer.body, &world.ca).unwrap();
                let conf = device.cert_conf(&answer.body, &RustCrypto.sha256(&cert), transaction);
                let confirmed = world.ca.cmp("device", &conf, &mut world.rng, NOW);
                assert!(matches!(confirmed.outcome, CmpOutcome::Confirmed { .. }));
                seen.insert(cert);
            }
            assert_eq!(seen.len(), 1, "step {at}");
            // An intent that is there is finished, not left beside another.
            let now = serials(&world);
            assert!(fixed.iter().all(|serial| now.contains(serial)));
            points = at + 1;
            serials_are_unique(&world, points);
            if !stopped {
                break;
            }
        }
        assert_eq!(points, expected);
    }
}

#[test]
fn a_signature_whose_commit_failed_is_nowhere() {
    if !on_files("a full disk") {
        return;
    }
    let (mut world, device) = ready();
    let keys = Watched {
        in_process: true,
        ..Watched::default()
    };
    // The rows of one certificate fit, until the pages are full.
    let mut refused = None;
    for n in 0..200 {
        let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
        let request = device.p10cr(&device.csr(&key), 1);
        keys.reopen(&mut world, Arc::new(NoFaults));
        world.ca.role().store.dangerous_limit_pages(1).unwrap();
        let before = serials(&world).len();
        let answer = world.ca.cmp("device", &request, &mut world.rng, NOW);
        if matches!(answer.outcome, CmpOutcome::Denied(_)) {
            assert!(certificate_of(&answer.body, &world.ca).is_err());
            assert_eq!(serials(&world).len(), before);
            refused = Some((n, request));
            break;
        }
    }
    let (issued, request) = refused.expect("the file never was full");
    assert!(keys.certificates() > issued, "it was signed all the same");
    keys.reopen(&mut world, Arc::new(NoFaults));
    // Room again: the same request has a certificate, of a serial number that nobody saw.
    let answer = world.ca.cmp("device", &request, &mut world.rng, NOW);
    certificate_of(&answer.body, &world.ca).unwrap();
    serials_are_unique(&world, issued + 1);
}

#[test]
fn a_request_that_is_repeated_writes_nothing() {
    if !on_files("the length of the log") {
        return;
    }
    let (mut world, device) = ready();
    let text = tegata_authority::profile::EXAMPLE
        .replace("implicit_confirm = false", "implicit_confirm = true");
    let profiles = Profiles::parse(&text).unwrap();
    let role = world.ca.role().clone();
    world.ca = Issuer::open(role, profiles, MacPolicy::default()).unwrap();
    let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let i = device.installed.clone().unwrap();
    let body = tegata_wire::cmp::RawBody::p10cr(&device.csr(&key)).unwrap();
    let request = protect(&i.kid, &i.key, 1, None, &body, true);
    let first = world.ca.cmp("device", &request, &mut world.rng, NOW);
    let first = certificate_of(&first.body, &world.ca).unwrap();
    let log = || std::fs::read(world.dir.path().join("ca.db-wal")).unwrap();
    let before = log();
    for n in 0..1000 {
        let answer = world.ca.cmp("device", &request, &mut Seeded(n), NOW);
        assert!(matches!(
            answer.outcome,
            CmpOutcome::Issued { again: true, .. }
        ));
    }
    assert!(before == log(), "the log changed");
    let again = world.ca.cmp("device", &request, &mut world.rng, NOW);
    assert_eq!(certificate_of(&again.body, &world.ca).unwrap(), first);
}

#[test]
fn confirmation_survives_a_stop_at_every_step() {
    let (mut world, device) = ready();
    let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let answer = world.ca.cmp(
        "device",
        &device.p10cr(&device.csr(&key), 1),
        &mut world.rng,
        NOW,
    );
    let cert = certificate_of(&answer.body, &world.ca).unwrap();
    let conf = device.cert_conf(&answer.body, &RustCrypto.sha256(&cert), 1);
    for at in 0..3 {
        world.reopen_ca(StopAt::new(at));
        let _ = world.ca.cmp("device", &conf, &mut world.rng, NOW);
        world.reopen_ca(Arc::new(NoFaults));
        let again = world.ca.cmp("device", &conf, &mut world.rng, NOW);
        assert!(matches!(
            again.outcome,
            CmpOutcome::Confirmed { accepted: true, .. }
        ));
    }
    serials_are_unique(&world, 1);
}

#[test]
fn the_tam_survives_a_stop_at_every_step() {
    let (mut world, mut device) = ready();
    device.installed = None;
    let newer = [MODULE, b"2"].concat();
    let cut = world.release(&newer, false, Availability::Everybody);
    for at in 0..12 {
        world.reopen_tam(StopAt::new(at));
        let first = exchange(&mut world, &mut device, cut.ta);
        world.reopen_tam(Arc::new(NoFaults));
        let second = exchange(&mut world, &mut device, cut.ta);
        assert!(
            first.is_none() || first == second || second.is_none(),
            "step {at}"
        );
        assert_eq!(device.installed.as_ref().unwrap().module, newer);
        device.installed = None;
    }
}

/// One exchange with whatever comes out of it; `None` if the TAM stopped.
fn exchange(world: &mut World, device: &mut Device, ta: tegata_wire::ids::TaUuid) -> Option<u64> {
    let peers = Direct {
        ca: &world.ca,
        verifier: &world.verifier,
        now: NOW.secs(),
    };
    let (answer, _) = world.tam.teep(b"", &peers, &mut world.rng, NOW).ok()?;
    let TeepAnswer::Message(query) = answer else {
        panic!()
    };
    let response = device.query_response(&query, world.tam.public_key(), &[ta]);
    let (answer, outcome) = world
        .tam
        .teep(&response, &peers, &mut world.rng, NOW)
        .ok()?;
    let TeepOutcome::Installing { sequence, .. } = outcome else {
        return None;
    };
    let TeepAnswer::Message(update) = answer else {
        panic!()
    };
    let token = device.process(
        &update,
        world.tam.public_key(),
        world.ca.release_public_key(),
    );
    let success = device.success(&token);
    world.tam.teep(&success, &peers, &mut world.rng, NOW).ok()?;
    Some(sequence)
}

#[test]
fn requests_at_once_get_one_certificate() {
    use tegata_crypto::aws_lc::AwsLc;

    let (mut world, device) = ready();
    // A provider whose signatures differ each time, so that two signatures cannot pass for one.
    let old = world.ca.role();
    let role = Role {
        provider: Arc::new(AwsLc),
        ..old.clone()
    };
    world.ca = Issuer::open(role, profiles(), MacPolicy::default()).unwrap();
    let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let csr = device.csr(&key);
    let ca = &world.ca;
    let certs: BTreeSet<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8u8)
            .map(|n| {
                let request = device.p10cr(&csr, n);
                scope.spawn(move || {
                    let mut rng = Seeded(u64::from(n) + 500);
                    let answer = ca.cmp("device", &request, &mut rng, NOW);
                    certificate_of(&answer.body, ca).unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(certs.len(), 1);
    serials_are_unique(&world, 1);
}
