//! The main job at the servers: release, delivery, attestation, issuance; and what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::sync::Arc;

use common::*;
use tegata_authority::UnixMs;
use tegata_authority::tam::availability::Availability;
use tegata_crypto::chain::{Purpose, TrustAnchor, verify_chain};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _};
use tegata_store::issuer::CmpOutcome;
use tegata_store::tam::{TamServer, TeepAnswer, TeepOutcome};
use tegata_store::{NoFaults, certificate, device};
use tegata_wire::ids::TaUuid;

/// Queries the device and hands its answer to the TAM.
fn sync(world: &mut World, device: &Device, ask: &[TaUuid]) -> (TeepAnswer, TeepOutcome) {
    let response = ask_device(world, device, ask);
    let peers = Direct {
        ca: &world.ca,
        verifier: &world.verifier,
        now: NOW.secs(),
    };
    world
        .tam
        .teep(&response, &peers, &mut world.rng, NOW)
        .unwrap()
}

fn ask_device(world: &mut World, device: &Device, ask: &[TaUuid]) -> Vec<u8> {
    let peers = Direct {
        ca: &world.ca,
        verifier: &world.verifier,
        now: NOW.secs(),
    };
    let (query, outcome) = world.tam.teep(b"", &peers, &mut world.rng, NOW).unwrap();
    assert_eq!(outcome, TeepOutcome::Queried);
    let TeepAnswer::Message(query) = query else {
        panic!("no query")
    };
    device.query_response(&query, world.tam.public_key(), ask)
}

fn refused(world: &mut World, message: &[u8]) -> String {
    let peers = Direct {
        ca: &world.ca,
        verifier: &world.verifier,
        now: NOW.secs(),
    };
    world
        .tam
        .teep(message, &peers, &mut world.rng, NOW)
        .unwrap_err()
        .code()
        .to_owned()
}

/// Installs the release on the device and reports success.
fn install(world: &mut World, device: &mut Device, ta: TaUuid) {
    let (answer, outcome) = sync(world, device, &[ta]);
    assert!(
        matches!(outcome, TeepOutcome::Installing { .. }),
        "{outcome:?}"
    );
    let TeepAnswer::Message(update) = answer else {
        panic!("no Update")
    };
    let token = device.process(
        &update,
        world.tam.public_key(),
        world.ca.release_public_key(),
    );
    let peers = Direct {
        ca: &world.ca,
        verifier: &world.verifier,
        now: NOW.secs(),
    };
    let success = device.success(&token);
    let (answer, outcome) = world
        .tam
        .teep(&success, &peers, &mut world.rng, NOW)
        .unwrap();
    assert_eq!(answer, TeepAnswer::Nothing);
    assert!(
        matches!(outcome, TeepOutcome::Succeeded { .. }),
        "{outcome:?}"
    );
}

fn enrol(world: &mut World, device: &Device, key: &PrivateKey, transaction: u8) -> Vec<u8> {
    let request = device.p10cr(&device.csr(key), transaction);
    let answer = world.ca.cmp("device", &request, &mut world.rng, NOW);
    let cert = certificate_of(&answer.body, &world.ca);
    let cert = cert.unwrap_or_else(|e| panic!("{e}: {:?}", answer.outcome));
    // The device checks what it got, and confirms.
    let anchor = TrustAnchor::from_cert_der(world.ca.root_certificate()).unwrap();
    let issuing = world.ca.issuing_certificate();
    let now = NOW.secs().0;
    let chain = verify_chain(
        &RustCrypto,
        &cert,
        &[issuing],
        &[anchor],
        Purpose::EndEntity,
        now,
    )
    .unwrap();
    assert_eq!(chain.leaf_key(), key.public_key());
    let hash = match tegata_crypto::PublicKey::from_spki_der(
        tegata_wire::x509::CertView::from_der(issuing)
            .unwrap()
            .spki_der,
    )
    .unwrap()
    .alg()
    {
        KeyAlg::P256 => RustCrypto.sha256(&cert).to_vec(),
        KeyAlg::P384 => RustCrypto.sha384(&cert).to_vec(),
        _ => RustCrypto.sha512(&cert).to_vec(),
    };
    let conf = device.cert_conf(&answer.body, &hash, transaction);
    for _ in 0..2 {
        let confirmed = world.ca.cmp("device", &conf, &mut world.rng, NOW);
        assert!(matches!(
            confirmed.outcome,
            CmpOutcome::Confirmed { accepted: true, .. }
        ));
        assert_eq!(
            certificate_of(&confirmed.body, &world.ca),
            Err("PKI_CONF".into())
        );
    }
    cert
}

/// Writes the certificates to `TEGATA_CERT_DIR`, if it is set, for other tools to look at.
fn keep_certificates(world: &World, issuing: KeyAlg) {
    let Some(dir) = std::env::var_os("TEGATA_CERT_DIR").map(std::path::PathBuf::from) else {
        return;
    };
    let rows = world
        .ca
        .role()
        .store
        .read("t", |tx| certificate::list(tx, &[], 10))
        .unwrap();
    let ca = [
        ("root", world.ca.root_certificate()),
        ("issuing", world.ca.issuing_certificate()),
    ];
    for (name, der) in ca {
        std::fs::write(dir.join(format!("{issuing}-{name}.der")), der).unwrap();
    }
    for (i, row) in rows.iter().enumerate() {
        let der = row.der.as_ref().unwrap();
        std::fs::write(dir.join(format!("{issuing}-leaf-{i}.der")), der).unwrap();
    }
}

#[test]
fn the_main_job_with_each_issuing_algorithm_and_device_key() {
    for issuing in KeyAlg::ALL {
        let mut world = World::with(issuing);
        let mut devices = world.batch("B1", 2);
        let cut = world.release(MODULE, false, Availability::Everybody);
        for device in &mut devices {
            install(&mut world, device, cut.ta);
            assert_eq!(device.installed.as_ref().unwrap().module, MODULE);
            let (answer, outcome) = sync(&mut world, device, &[cut.ta]);
            assert_eq!(answer, TeepAnswer::Nothing);
            assert!(matches!(outcome, TeepOutcome::UpToDate { .. }));
        }
        for (i, alg) in KeyAlg::ALL.into_iter().enumerate() {
            let key = PrivateKey::generate(alg, &mut world.rng).unwrap();
            let transaction = u8::try_from(i).unwrap();
            let first = enrol(&mut world, &devices[0], &key, transaction);
            let again = enrol(&mut world, &devices[0], &key, transaction + 100);
            assert_eq!(first, again, "the same request gets the same certificate");
        }
        keep_certificates(&world, issuing);
        let rows = world
            .ca
            .role()
            .store
            .read("t", |tx| certificate::list(tx, &[], 10))
            .unwrap();
        assert_eq!(rows.len(), 3);
        assert!(
            rows.iter()
                .all(|r| r.confirmed_at.is_some() && r.der.is_some())
        );
        assert_ne!(
            devices[0].installed.as_ref().unwrap().key,
            devices[1].installed.as_ref().unwrap().key
        );
    }
}

#[test]
fn the_paper_profile_shares_one_key_and_wraps_with_the_device_kek() {
    let mut world = World::new();
    let mut devices = world.batch("B1", 2);
    let cut = world.release(MODULE, true, Availability::Everybody);
    for device in &mut devices {
        install(&mut world, device, cut.ta);
    }
    let keys: Vec<_> = devices
        .iter()
        .map(|d| d.installed.as_ref().unwrap().key)
        .collect();
    assert_eq!(
        keys[0], keys[1],
        "the paper's one key for all devices of a release"
    );
    let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    enrol(&mut world, &devices[1], &key, 1);
    // The CA delivers nothing for a release of the paper profile.
    assert!(cut.package.len() > MODULE.len());
}

#[test]
fn what_another_process_changes_counts_at_once_for_a_release_in_memory() {
    let mut world = World::new();
    let mut devices = world.batch("B1", 2);
    let cut = world.release(MODULE, false, Availability::Everybody);
    install(&mut world, &mut devices[0], cut.ta);
    let path = world.dir.path().join("tam.db");
    let beside = TamServer::open(role(&path, Arc::new(NoFaults)), None).unwrap();
    for rule in [Availability::Nobody, Availability::Everybody] {
        beside.set_availability(&cut.digest, &rule).unwrap();
        let (answer, _) = sync(&mut world, &devices[1], &[cut.ta]);
        let due = matches!(answer, TeepAnswer::Message(_));
        assert_eq!(due, rule == Availability::Everybody, "{rule}");
    }
    let payload = world.tam.payload(&cut.digest).unwrap();
    assert!(payload.is_some());
    let sql = Sql::open(&path);
    // The key that signed it is trusted no more: what was verified with it counts for nothing.
    sql.run("UPDATE trusted_key SET purpose = 'none' WHERE purpose = 'release'");
    let message = ask_device(&mut world, &devices[1], &[cut.ta]);
    assert_eq!(refused(&mut world, &message), "update-failed");
    sql.run("UPDATE trusted_key SET purpose = 'release' WHERE purpose = 'none'");
    let (answer, _) = sync(&mut world, &devices[1], &[cut.ta]);
    assert!(matches!(answer, TeepAnswer::Message(_)));
    sql.run("DELETE FROM release");
    assert_eq!(
        sync(&mut world, &devices[1], &[cut.ta]).0,
        TeepAnswer::Nothing
    );
    // Also while somebody still has it.
    assert!(world.tam.payload(&cut.digest).unwrap().is_none());
    drop(payload);
}

#[test]
fn staged_availability_update_and_removal() {
    let mut world = World::new();
    let mut devices = world.batch("B1", 1);
    let mut others = world.batch("B2", 1);
    let first = world.release(MODULE, false, "batch:B1".parse().unwrap());
    install(&mut world, &mut devices[0], first.ta);
    let (answer, _) = sync(&mut world, &others[0], &[first.ta]);
    assert_eq!(
        answer,
        TeepAnswer::Nothing,
        "not available to the other batch"
    );
    world
        .tam
        .set_availability(&first.digest, &Availability::Everybody)
        .unwrap();
    install(&mut world, &mut others[0], first.ta);
    // A new version is offered to one device, without it being asked for.
    let newer = [MODULE, b"2"].concat();
    let second = world.release(
        &newer,
        false,
        Availability::Devices(vec![devices[0].identity.ueid]),
    );
    assert_eq!((second.ta, second.sequence), (first.ta, 2));
    let (answer, outcome) = sync(&mut world, &devices[0], &[]);
    assert!(matches!(
        outcome,
        TeepOutcome::Installing { sequence: 2, .. }
    ));
    let TeepAnswer::Message(update) = answer else {
        panic!()
    };
    devices[0].process(
        &update,
        world.tam.public_key(),
        world.ca.release_public_key(),
    );
    assert_eq!(devices[0].installed.as_ref().unwrap().module, newer);
    assert_eq!(sync(&mut world, &others[0], &[]).0, TeepAnswer::Nothing);
    // Withdrawn everywhere: the device is told to remove it.
    world
        .tam
        .set_availability(&first.digest, &Availability::Withdrawn)
        .unwrap();
    let (answer, outcome) = sync(&mut world, &others[0], &[first.ta]);
    assert!(matches!(outcome, TeepOutcome::Removing { .. }));
    let TeepAnswer::Message(update) = answer else {
        panic!()
    };
    others[0].process(
        &update,
        world.tam.public_key(),
        world.ca.release_public_key(),
    );
    assert!(others[0].installed.is_none());
}

#[test]
fn the_tam_refuses() {
    let mut world = World::new();
    let mut devices = world.batch("B1", 2);
    let stranger = Device::new(batch(&mut world.rng, "X", 1).secrets.remove(0));
    let cut = world.release(MODULE, false, Availability::Everybody);
    // A challenge twice.
    let response = ask_device(&mut world, &devices[0], &[cut.ta]);
    let peers = Direct {
        ca: &world.ca,
        verifier: &world.verifier,
        now: NOW.secs(),
    };
    world
        .tam
        .teep(&response, &peers, &mut world.rng, NOW)
        .unwrap();
    assert_eq!(refused(&mut world, &response), "replayed");
    // A challenge that is not ours, and one that is old.
    let foreign = devices[0].answer(&[1; 32], &[cut.ta]);
    assert_eq!(refused(&mut world, &foreign), "challenge");
    let response = ask_device(&mut world, &devices[0], &[cut.ta]);
    let late = UnixMs(NOW.0 + 601_000);
    let peers = Direct {
        ca: &world.ca,
        verifier: &world.verifier,
        now: late.secs(),
    };
    let e = world
        .tam
        .teep(&response, &peers, &mut world.rng, late)
        .unwrap_err();
    assert_eq!(e.code(), "challenge");
    // A device the factory never made; a message altered on the way; no message at all.
    let response = ask_device(&mut world, &stranger, &[cut.ta]);
    assert_eq!(refused(&mut world, &response), "not-authenticated");
    let mut response = ask_device(&mut world, &devices[0], &[cut.ta]);
    let last = response.len() - 1;
    response[last] ^= 1;
    assert_eq!(refused(&mut world, &response), "not-authenticated");
    assert_eq!(refused(&mut world, b"\xff"), "malformed");
    // Evidence of one device in the message of another: the Verifier names the other key.
    let query = ask_device(&mut world, &devices[1], &[cut.ta]);
    let verified = tegata_crypto::cose::verify_sign1(
        &RustCrypto,
        &query,
        tegata_crypto::Signer::public_key(&devices[1].teep),
        b"",
        None,
    )
    .unwrap();
    let message = tegata_wire::teep::Message::decode(verified.payload()).unwrap();
    let borrowed = devices[0].sign(&message);
    assert_eq!(refused(&mut world, &borrowed), "not-trustworthy");
    // Unknown runtime, a stronger wall than the factory gave.
    devices[0].swname = "something-else".into();
    let response = ask_device(&mut world, &devices[0], &[cut.ta]);
    assert_eq!(refused(&mut world, &response), "not-trustworthy");
    devices[0].swname = "tegata-teed".into();
    devices[0].security_level = "optee".into();
    let response = ask_device(&mut world, &devices[0], &[cut.ta]);
    assert_eq!(refused(&mut world, &response), "not-trustworthy");
    devices[0].security_level = "software".into();
    // A module that no release has.
    install(&mut world, &mut devices[0], cut.ta);
    devices[0].installed.as_mut().unwrap().module = b"altered".to_vec();
    let response = ask_device(&mut world, &devices[0], &[]);
    assert_eq!(refused(&mut world, &response), "not-trustworthy");
    // The answer of another device to an Update.
    let success = devices[1].success(&[7; 16]);
    assert_eq!(refused(&mut world, &success), "no-such-update");
}

#[test]
fn imports_and_releases_that_are_refused() {
    let mut world = World::new();
    let mut devices = world.batch("B1", 1);
    let other = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let made = batch(&mut world.rng, "Y", 1);
    let forged = tegata_authority::factory::sign_manifest(&made.manifest, &other).unwrap();
    assert_eq!(
        world
            .ca
            .role()
            .import_devices(&forged, SECS)
            .unwrap_err()
            .code(),
        "factory-manifest"
    );
    // A manifest that names a registered device again registers nothing.
    let mut again = batch(&mut world.rng, "Z", 1);
    again.manifest.devices[0].identity.ueid = devices[0].identity.ueid;
    let signed = tegata_authority::factory::sign_manifest(&again.manifest, &world.factory).unwrap();
    assert_eq!(
        world
            .ca
            .role()
            .import_devices(&signed, SECS)
            .unwrap_err()
            .code(),
        "device-taken"
    );
    let count = world.ca.role().store.read("t", device::count).unwrap();
    assert_eq!(count, 1);
    // A release altered on the way, or signed by somebody else.
    let cut = world.release(MODULE, false, Availability::Everybody);
    let at = cut
        .package
        .windows(9)
        .position(|w| w == b"procedure")
        .unwrap();
    let mut altered = cut.package.clone();
    altered[at] ^= 1;
    let e = world
        .tam
        .import_release(&altered, &Availability::Everybody, SECS)
        .unwrap_err();
    assert_eq!(e.code(), "release-untrusted");
    // A second CA cannot be made over the first.
    let setup = tegata_store::issuer::CaSetup {
        draft: tegata_authority::ca::authority_cert::CaDraft::for_organization("X"),
        root_alg: KeyAlg::P256,
        issuing_alg: KeyAlg::P256,
    };
    let e = tegata_store::issuer::Issuer::init(world.ca.role(), &setup, &mut world.rng, SECS);
    assert_eq!(e.unwrap_err().code(), "already-initialised");
    install(&mut world, &mut devices[0], cut.ta);
}
