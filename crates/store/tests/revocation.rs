//! Revocation and status at the CA: what holds once the operator was answered.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::ocsp::{cert_id, request, tlv};
use common::*;
use tegata_authority::UnixSecs;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::ca::revocation::{FinalReason, RevocationDenied, Standing, Word};
use tegata_authority::tam::availability::Availability;
use tegata_crypto::{KeyAlg, PrivateKey};
use tegata_store::issuer::Issuer;
use tegata_store::revocation::{self, RevokeError, Target, say, would_do};
use tegata_store::status::{NoList, Scope, StatusServer, StatusSettings};
use tegata_store::{NoFaults, Store, certificate, root_list};
use tegata_wire::x509::{CertView, oid};

const COMPROMISED: Word = Word::Revoke(FinalReason::KeyCompromise);
const BASE: &str = "http://ca.example";

/// A CA that says where status is found, with shards of two certificates, and devices that may ask.
fn ready(count: usize) -> (World, Vec<Device>) {
    let mut world = World::new();
    let mut devices = world.batch("B1", count);
    let cut = world.release(MODULE, false, Availability::Everybody);
    fleet::install(&mut world, &mut devices, cut.ta);
    world.ca = open(&world);
    (world, devices)
}

fn open(world: &World) -> Issuer {
    let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
    let ca = Issuer::open(role, profiles(), MacPolicy::default()).unwrap();
    ca.with_status(StatusSettings {
        base_url: Some(BASE.to_owned()),
        shard_size: 2,
        ..StatusSettings::default()
    })
}

fn status(world: &World) -> StatusServer {
    StatusServer::new(Arc::new(open(world)))
}

/// What the CA answers to a request of the device: a certificate, or words.
fn ask(world: &mut World, device: &Device, key: &PrivateKey, n: u8) -> Result<Vec<u8>, String> {
    let request = device.p10cr(&device.csr(key), n);
    let answer = world.ca.cmp("device", &request, &mut world.rng, NOW);
    certificate_of(&answer.body, &world.ca)
}

fn enrol(world: &mut World, device: &Device, n: u8) -> Vec<u8> {
    let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let der = ask(world, device, &key, n).unwrap();
    CertView::from_der(&der).unwrap().serial.to_vec()
}

fn standing(store: &Store, serial: &[u8]) -> Standing {
    let row = store.read("t", |tx| certificate::find(tx, serial)).unwrap();
    row.unwrap().standing
}

fn at(secs: u64) -> UnixSecs {
    UnixSecs(SECS.0 + secs)
}

/// Whether a list has this serial number, with this reason if one is given.
fn lists(der: &[u8], serial: &[u8], reason: Option<u8>) -> bool {
    let entry = tlv(0x02, serial);
    let Some(found) = der.windows(entry.len()).position(|part| part == entry) else {
        return false;
    };
    // The serial number, a UTCTime of 15 octets, then the extension of the entry.
    let rest = &der[found + entry.len() + 15..];
    reason.is_none_or(|reason| {
        let extension = hex::decode("300c300a0603551d1504030a01").unwrap();
        rest.starts_with(&[extension, vec![reason]].concat())
    })
}

/// What the responder says of a certificate.
fn told(
    server: &StatusServer,
    world: &World,
    serial: &[u8],
    sha1: bool,
    now: UnixSecs,
) -> &'static str {
    let id = cert_id(&world.ca, serial, sha1);
    let answer = server.ocsp(&request(&id), &mut Seeded(5), now);
    assert_eq!(answer.reason, "ok");
    let der = &answer.published.der;
    let named = der.windows(id.len()).position(|part| part == id);
    match der[named.unwrap() + id.len()] {
        0x80 => "good",
        0xa1 => "revoked",
        0x82 => "unknown",
        other => panic!("{other:#x}"),
    }
}

#[test]
fn a_revocation_is_durable_and_the_same_word_twice_is_the_same_as_once() {
    let (mut world, devices) = ready(1);
    let serial = enrol(&mut world, &devices[0], 1);
    let store = open_store(world.dir.path().join("ca.db")).unwrap();
    let target = Target::Certificate(serial.clone());

    let planned = would_do(&store, &target, COMPROMISED, at(1)).unwrap();
    assert_eq!(planned.changed.len(), 1);
    assert_eq!(standing(&store, &serial), Standing::Good);

    say(&store, &target, Word::Hold, at(2)).unwrap();
    assert_eq!(standing(&store, &serial), Standing::Held { since: at(2) });
    // Final over hold; the moment of the hold stays, and then nothing moves it.
    say(&store, &target, COMPROMISED, at(3)).unwrap();
    let last = Standing::Revoked {
        since: at(2),
        reason: FinalReason::KeyCompromise,
    };
    drop(store);
    let store = open_store(world.dir.path().join("ca.db")).unwrap();
    for word in [
        COMPROMISED,
        Word::Revoke(FinalReason::Superseded),
        Word::Hold,
    ] {
        let again = say(&store, &target, word, at(4)).unwrap();
        assert_eq!((again.changed.len(), again.unchanged.len()), (0, 1));
        assert_eq!(standing(&store, &serial), last);
    }
    let lifted = say(&store, &target, Word::Unhold, at(5));
    let refused = RevocationDenied::Final(FinalReason::KeyCompromise);
    assert!(matches!(lifted, Err(RevokeError::Denied(denied)) if denied == refused));
    let none = say(&store, &Target::Certificate(vec![1]), COMPROMISED, at(6));
    assert!(matches!(none, Err(RevokeError::NoCertificate)));
    assert_eq!(standing(&store, &serial), last);
}

#[test]
fn a_revoked_device_gets_no_certificate_and_loses_those_it_has() {
    let (mut world, devices) = ready(2);
    let first = enrol(&mut world, &devices[0], 1);
    let second = enrol(&mut world, &devices[0], 2);
    let other = enrol(&mut world, &devices[1], 3);
    let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    ask(&mut world, &devices[0], &key, 4).unwrap();
    let store = open_store(world.dir.path().join("ca.db")).unwrap();
    let target = Target::Device(devices[0].identity.ueid);

    let report = say(&store, &target, Word::Hold, at(1)).unwrap();
    assert_eq!(report.changed.len(), 3);
    for serial in [&first, &second] {
        assert!(!standing(&store, serial).is_good());
    }
    assert!(standing(&store, &other).is_good());
    // Neither a new request nor one that had been answered gets a certificate; others do.
    let new = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let refused = |told: Result<Vec<u8>, String>| told.unwrap_err();
    assert_eq!(
        refused(ask(&mut world, &devices[0], &new, 5)),
        "NOT_AUTHORIZED"
    );
    // On hold, not for good: the same request serves again once the hold is lifted.
    assert_eq!(
        refused(ask(&mut world, &devices[0], &key, 6)),
        "NOT_AUTHORIZED"
    );
    ask(&mut world, &devices[1], &new, 7).unwrap();

    // One is revoked for good meanwhile: lifting the device's hold leaves it.
    say(
        &store,
        &Target::Certificate(first.clone()),
        COMPROMISED,
        at(2),
    )
    .unwrap();
    let report = say(&store, &target, Word::Unhold, at(3)).unwrap();
    assert_eq!((report.changed.len(), report.unchanged.len()), (2, 1));
    assert!(!standing(&store, &first).is_good());
    assert!(standing(&store, &second).is_good());
    ask(&mut world, &devices[0], &new, 8).unwrap();
}

#[test]
fn no_shard_outgrows_its_size_and_certificates_name_theirs() {
    let (mut world, devices) = ready(1);
    let mut shards = Vec::new();
    for n in 0..5 {
        let serial = enrol(&mut world, &devices[0], n);
        let store = &world.ca.role().store;
        let row = store
            .read("t", |tx| certificate::find(tx, &serial))
            .unwrap();
        let row = row.unwrap();
        let der = row.der.unwrap();
        let view = CertView::from_der(&der).unwrap();
        let points = view.extension(&oid::CRL_DISTRIBUTION_POINTS).unwrap().value;
        let url = format!("/{}.crl", row.intent.shard);
        assert!(String::from_utf8_lossy(points).ends_with(&url), "{url}");
        assert!(view.extension(&oid::AUTHORITY_INFO_ACCESS).is_some());
        shards.push(row.intent.shard);
    }
    assert_eq!(shards, [0, 0, 1, 1, 2]);
    let server = status(&world);
    assert!(server.list(Scope::Shard(2), false, SECS).is_ok());
    let none = server.list(Scope::Shard(3), false, SECS);
    assert!(matches!(none, Err(NoList::Unknown)));
}

#[test]
fn lists_and_responses_follow_the_word_of_another_process_at_once() {
    let (mut world, devices) = ready(1);
    let serials: Vec<_> = (0..3).map(|n| enrol(&mut world, &devices[0], n)).collect();
    let server = status(&world);
    let other = open_store(world.dir.path().join("ca.db")).unwrap();
    let target = Target::Certificate(serials[0].clone());
    let list = |now| server.list(Scope::Shard(0), false, now).unwrap();

    let before = list(at(0));
    assert!(Arc::ptr_eq(&before, &list(at(1))), "signed ahead");
    assert!(!lists(&before.der, &serials[0], None));
    for sha1 in [true, false] {
        assert_eq!(told(&server, &world, &serials[0], sha1, at(1)), "good");
    }
    assert_eq!(told(&server, &world, &[0x12, 0x34], true, at(1)), "unknown");

    say(&other, &target, Word::Hold, at(2)).unwrap();
    assert_eq!(told(&server, &world, &serials[0], true, at(2)), "revoked");
    assert_eq!(told(&server, &world, &serials[0], false, at(2)), "revoked");
    assert_eq!(told(&server, &world, &serials[1], true, at(2)), "good");
    assert!(lists(&list(at(2)).der, &serials[0], Some(6)));
    // The other shard's list has nothing to do with it.
    let far = server.list(Scope::Shard(1), false, at(2)).unwrap();
    assert!(!lists(&far.der, &serials[0], Some(6)));
    let full = server.list(Scope::Full, false, at(2)).unwrap();
    assert!(lists(&full.der, &serials[0], Some(6)));

    say(&other, &target, Word::Unhold, at(3)).unwrap();
    assert_eq!(told(&server, &world, &serials[0], true, at(3)), "good");
    assert!(!lists(&list(at(3)).der, &serials[0], Some(6)));
    say(&other, &target, COMPROMISED, at(4)).unwrap();
    assert_eq!(told(&server, &world, &serials[0], true, at(4)), "revoked");
    assert!(lists(&list(at(4)).der, &serials[0], Some(1)));
}

#[test]
fn a_delta_has_what_changed_since_its_base_a_lifted_hold_included() {
    let (mut world, devices) = ready(1);
    let held = enrol(&mut world, &devices[0], 1);
    let revoked = enrol(&mut world, &devices[0], 2);
    let store = open_store(world.dir.path().join("ca.db")).unwrap();
    say(
        &store,
        &Target::Certificate(held.clone()),
        Word::Hold,
        at(0),
    )
    .unwrap();
    let server = status(&world);
    let delta = |now| server.list(Scope::Shard(0), true, now).unwrap();

    let none = delta(at(1));
    assert!(!lists(&none.der, &held, Some(6)), "it is in the base");
    say(
        &store,
        &Target::Certificate(held.clone()),
        Word::Unhold,
        at(2),
    )
    .unwrap();
    say(
        &store,
        &Target::Certificate(revoked.clone()),
        COMPROMISED,
        at(2),
    )
    .unwrap();
    let both = delta(at(3));
    assert!(lists(&both.der, &held, Some(8)), "removeFromCRL");
    assert!(lists(&both.der, &revoked, Some(1)));
    // When the base has ended, a newer one takes its place.
    let later = delta(at(86_402));
    assert!(!lists(&later.der, &revoked, Some(1)));
}

#[test]
fn a_list_is_signed_anew_at_half_its_life_and_numbers_grow() {
    let (mut world, devices) = ready(1);
    enrol(&mut world, &devices[0], 1);
    let server = status(&world);
    let list = |secs| server.list(Scope::Shard(0), false, at(secs)).unwrap();
    let first = list(0);
    assert!(Arc::ptr_eq(&first, &list(43_199)));
    let second = list(43_200);
    assert!(second.made > first.made && second.next_update > first.next_update);
    // A clock that went back gets what is of its own time.
    assert_eq!(list(10).made, at(10));
}

#[test]
fn the_responder_renews_its_certificate_and_keeps_its_key() {
    let (mut world, devices) = ready(1);
    let serial = enrol(&mut world, &devices[0], 1);
    let server = status(&world);
    let asked = request(&cert_id(&world.ca, &serial, true));
    let certificate = |secs| {
        let answer = server.ocsp(&asked, &mut Seeded(secs), at(secs));
        let der = &answer.published.der;
        // The certificate is the last thing in the response.
        let start = der.windows(2).rposition(|w| w == [0xa0, 0x82]).unwrap();
        der[start..].to_vec()
    };
    let (first, same, renewed) = (certificate(0), certificate(86_400), certificate(5 * 86_400));
    assert_eq!(first, same);
    assert_ne!(first, renewed);
    // Another process takes what is in the store.
    let other = status(&world);
    let answer = other.ocsp(&asked, &mut Seeded(9), at(5 * 86_400 + 1));
    assert!(answer.published.der.ends_with(&renewed));
}

#[test]
fn what_the_responder_cannot_answer_it_says_so() {
    let (mut world, devices) = ready(1);
    let serial = enrol(&mut world, &devices[0], 1);
    let server = status(&world);
    let said = |request: &[u8]| {
        let answer = server.ocsp(request, &mut Seeded(5), at(1));
        assert!(!answer.cacheable);
        hex::encode(&answer.published.der)
    };
    assert_eq!(said(b"not a request"), "30030a0101");
    let good = request(&cert_id(&world.ca, &serial, true));
    assert_eq!(said(&good[..good.len() - 1]), "30030a0101");
    // Another issuer's certificate.
    let mut foreign = good.clone();
    let key_hash = foreign.len() - serial.len() - 3;
    foreign[key_hash] ^= 1;
    assert_eq!(said(&foreign), "30030a0106");
    let again = server.ocsp(&good, &mut Seeded(5), at(1));
    assert!(again.cacheable);
}

#[test]
fn what_is_signed_ahead_is_what_clients_ask_for() {
    let (mut world, devices) = ready(1);
    let serials: Vec<_> = (0..3).map(|n| enrol(&mut world, &devices[0], n)).collect();
    let server = status(&world);
    let ahead = |over| {
        let over = AtomicBool::new(over);
        server.sign_ahead(&mut Seeded(5), &over, at(0)).unwrap()
    };
    assert_eq!(ahead(true), 0, "told to end, it ends");
    assert_eq!(ahead(false), 3);
    for serial in &serials {
        let made = |sha1, secs| {
            let asked = request(&cert_id(&world.ca, serial, sha1));
            server.ocsp(&asked, &mut Seeded(5), at(secs)).published.made
        };
        assert_eq!(made(true, 9), at(0));
        // Named otherwise it is signed when it is asked for.
        assert_eq!((made(false, 9), made(false, 10)), (at(9), at(9)));
    }
}

#[test]
fn a_name_with_made_up_parameters_is_answered_and_not_kept() {
    let (mut world, devices) = ready(1);
    let serial = enrol(&mut world, &devices[0], 1);
    let server = status(&world);
    let plain = cert_id(&world.ca, &serial, true);
    // hashAlgorithm: SHA-1, and NULL for parameters; in its place nothing, and an OCTET STRING.
    let (null, rest) = plain[2..].split_at(11);
    assert_eq!(hex::encode(null), "300906052b0e03021a0500");
    let with = |alg: &str| tlv(0x30, &[&hex::decode(alg).unwrap(), rest].concat());
    for (id, kept) in [
        (plain.clone(), true),
        (with("300706052b0e03021a"), true),
        (with("300b06052b0e03021a04020102"), false),
    ] {
        let made = |secs| {
            let answer = server.ocsp(&request(&id), &mut Seeded(5), at(secs));
            assert_eq!(answer.reason, "ok");
            answer.published.made
        };
        assert_eq!(made(1), at(1));
        assert_eq!(made(2), if kept { at(1) } else { at(2) });
    }
}

#[test]
fn a_responder_that_cannot_look_says_when_to_ask_again() {
    if !on_files("the lock of a file") {
        return;
    }
    let (mut world, devices) = ready(1);
    let serial = enrol(&mut world, &devices[0], 1);
    let asked = request(&cert_id(&world.ca, &serial, true));
    let path = world.dir.path().join("ca.db");
    let sql = rusqlite::Connection::open(&path).unwrap();
    let said = |server: &StatusServer| {
        let answer = server.ocsp(&asked, &mut Seeded(5), at(1));
        assert!(!answer.cacheable);
        (hex::encode(&answer.published.der), answer.reason)
    };
    // Another process writes, and the responder has no certificate yet.
    let server = status(&world);
    sql.execute_batch("BEGIN IMMEDIATE").unwrap();
    let locked = said(&server);
    assert_eq!(locked, ("30030a0103".to_owned(), "store-locked"));
    sql.execute_batch("COMMIT").unwrap();
    assert_eq!(server.ocsp(&asked, &mut Seeded(5), at(1)).reason, "ok");
    // Who has one only reads, and that does not wait for who writes.
    sql.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(server.ocsp(&asked, &mut Seeded(5), at(1)).reason, "ok");
    sql.execute_batch("COMMIT").unwrap();
    // The responder's key is another one than was sealed.
    sql.execute_batch("UPDATE sealed_key SET public = X'00' WHERE name = 'ca ocsp key'")
        .unwrap();
    let broken = said(&status(&world));
    assert_eq!(broken, ("30030a0102".to_owned(), "wrong-sealing-key"));
}

#[test]
fn the_root_says_that_no_issuer_is_revoked() {
    let (world, _) = ready(1);
    let root = CertView::from_der(world.ca.root_certificate()).unwrap();
    let root_id = hex::encode(root.subject_key_id().unwrap().unwrap());
    let last = || root_list::last(&world.ca.role().store, &root_id).unwrap();
    assert_eq!(last(), None);
    let made = root_list::renew(world.ca.role(), 86_400, at(1)).unwrap();
    let [made] = <[_; 1]>::try_from(made).unwrap();
    assert_eq!(made.revoked, []);
    let made = made.list;
    assert_eq!(made.root_id, root_id);
    assert_eq!((made.made, made.next_update), (at(1), at(86_401)));
    let server = status(&world);
    assert_eq!(server.root_list(&root_id).unwrap().as_ref(), Some(&made));
    assert_eq!(server.root_list("00").unwrap(), None);
    assert!(
        made.der
            .windows(root.subject_der.len())
            .any(|part| part == root.subject_der)
    );
    // No longer than the root itself.
    let long = root_list::renew(world.ca.role(), u64::MAX, at(2)).unwrap();
    let long = long.into_iter().next().map(|one| one.list);
    assert_eq!(
        long.as_ref().map(|one| one.next_update),
        Some(UnixSecs(root.not_after_secs))
    );
    assert_eq!(last(), long);
}

#[test]
fn an_intent_keeps_the_places_that_it_was_fixed_with() {
    let (mut world, devices) = ready(1);
    let serial = enrol(&mut world, &devices[0], 1);
    let store = &world.ca.role().store;
    let row = store
        .read("t", |tx| certificate::find(tx, &serial))
        .unwrap();
    assert_eq!(row.unwrap().intent.status_base.as_deref(), Some(BASE));
    // The base URL moves: lists of a shard still say the place that old certificates name.
    let moved = open(&world).with_status(StatusSettings {
        base_url: Some("http://new.example".to_owned()),
        ..StatusSettings::default()
    });
    let server = StatusServer::new(Arc::new(moved));
    let list = server.list(Scope::Shard(0), false, at(1)).unwrap();
    let text = String::from_utf8_lossy(&list.der).into_owned();
    assert!(text.contains(BASE) && text.contains("http://new.example"));
    let bases = store.read("t", revocation::bases).unwrap();
    assert_eq!(bases, [BASE]);
}

#[test]
fn certificates_of_an_older_store_are_dealt_to_shards() {
    if !on_files("no older version had a database") {
        return;
    }
    let (mut world, devices) = ready(1);
    let serials: Vec<_> = (0..3).map(|n| enrol(&mut world, &devices[0], n)).collect();
    let path = world.dir.path().join("old.db");
    world.ca.role().store.backup(&path).unwrap();
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.execute_batch(undo::FROM_STEP_5).unwrap();
    drop(sql);
    let store = open_store(&path).unwrap();
    for serial in &serials {
        let row = store.read("t", |tx| certificate::find(tx, serial)).unwrap();
        let row = row.unwrap();
        assert_eq!((row.intent.shard, row.intent.status_base), (0, None));
        assert_eq!(row.standing, Standing::Good);
    }
    // They count: with room for three, the next is in a shard of its own.
    let next = || {
        store
            .run_tx("t", |tx| revocation::next_shard(tx, 3))
            .unwrap()
    };
    assert_eq!([next(), next()], [1, 1]);
    say(
        &store,
        &Target::Certificate(serials[0].clone()),
        COMPROMISED,
        at(1),
    )
    .unwrap();
    assert!(!standing(&store, &serials[0]).is_good());
}
