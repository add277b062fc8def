//! Returning after the certificate has ended: by fresh evidence, within the grace, and not else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::cell::RefCell;
use std::sync::Arc;

use common::kur::*;
use common::*;
use tegata_authority::ca::attested::hand_on;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::ca::revocation::{FinalReason, Word};
use tegata_authority::profile::Profiles;
use tegata_authority::tam::availability::Availability;
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _};
use tegata_store::archive::sweep_some;
use tegata_store::issuer::{CmpAnswer, CmpOutcome, Issuer};
use tegata_store::revocation::{Target, say};
use tegata_store::tam::{PeerFailure, Peers, TeepAnswer, TeepOutcome};
use tegata_store::{NoFaults, attested, certificate};
use tegata_wire::enrolment::CHECK_IN_FIRST;

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;
/// The example's profile lasts that long, and a device may return for as long as it says nothing.
const LASTS: u64 = 365;
const GRACE: u64 = 90;

/// So many days and hours after the first certificate.
fn at(days: u64, hours: u64) -> UnixMs {
    UnixMs(NOW.0 + days * DAY_MS + hours * HOUR_MS)
}

/// The TAM's peers; what goes to the CA is written down, and may be kept from it.
struct Watched<'a> {
    direct: Direct<'a>,
    words: RefCell<Vec<Vec<u8>>>,
    cut_off: bool,
}

impl Peers for Watched<'_> {
    fn appraise(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure> {
        self.direct.appraise(request)
    }
    fn deliver(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure> {
        self.direct.deliver(request)
    }
    fn attested(&self, word: &[u8]) -> Result<(), PeerFailure> {
        self.words.borrow_mut().push(word.to_vec());
        if self.cut_off {
            return Err(PeerFailure {
                who: "CA",
                why: "cut off".into(),
            });
        }
        self.direct.attested(word)
    }
}

/// One visit of the TAM; what it was, and the words for the CA.
fn visit(
    world: &mut World,
    device: &mut Device,
    now: UnixMs,
    cut_off: bool,
) -> (Option<TeepOutcome>, Vec<Vec<u8>>) {
    let peers = Watched {
        direct: Direct {
            ca: &world.ca,
            verifier: &world.verifier,
            now: now.secs(),
        },
        words: RefCell::default(),
        cut_off,
    };
    let (answer, _) = world.tam.teep(b"", &peers, &mut world.rng, now).unwrap();
    let TeepAnswer::Message(query) = answer else {
        panic!()
    };
    let wanted: Vec<_> = match device.installed {
        Some(_) => Vec::new(),
        None => vec![world.tam.releases().unwrap()[0].ta],
    };
    let response = device.query_response(&query, world.tam.public_key(), &wanted);
    let outcome = match world.tam.teep(&response, &peers, &mut world.rng, now) {
        Ok((TeepAnswer::Message(update), outcome)) => {
            let tam = world.tam.public_key().clone();
            device.process(&update, &tam, world.ca.release_public_key());
            Some(outcome)
        }
        Ok((TeepAnswer::Nothing, outcome)) => Some(outcome),
        Err(_) => None,
    };
    (outcome, peers.words.into_inner())
}

fn new_key(world: &mut World) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap())
}

/// The certificate in an answer, or why there is none.
fn said(world: &World, answer: &CmpAnswer) -> Result<Vec<u8>, &'static str> {
    match &answer.outcome {
        CmpOutcome::Denied(denied) => Err(denied.code()),
        _ => Ok(certificate_of(&answer.body, &world.ca).unwrap()),
    }
}

/// What the TA asks for with its `CsrAuthKey`; the certificate, or what the CA says.
fn ask(world: &mut World, request: &[u8], now: UnixMs) -> Result<Vec<u8>, &'static str> {
    let answer = send(&world.ca, &mut world.rng, request, now);
    said(world, &answer)
}

/// Asks for a certificate and confirms it.
fn enrol(world: &mut World, device: &Device, now: UnixMs) -> Result<Vec<u8>, &'static str> {
    let key = new_key(world);
    let request = device.p10cr(&device.csr(&key), 1);
    let answer = send(&world.ca, &mut world.rng, &request, now);
    let der = said(world, &answer)?;
    let conf = device.cert_conf(&answer.body, &RustCrypto.sha256(&der), 1);
    let confirmed = send(&world.ca, &mut world.rng, &conf, now);
    assert!(matches!(confirmed.outcome, CmpOutcome::Confirmed { .. }));
    Ok(der)
}

fn ready(count: usize) -> (World, Vec<Device>) {
    let mut world = World::new();
    let mut devices = world.batch("B1", count);
    world.release(MODULE, false, Availability::Everybody);
    for device in &mut devices {
        visit(&mut world, device, NOW, false);
        // A first certificate needs nothing but the TA: the CA need not have heard of it.
        enrol(&mut world, device, NOW).unwrap();
    }
    (world, devices)
}

fn noted(world: &World, device: &Device) -> Option<i64> {
    let found = world.ca.role().device(&device.identity.ueid).unwrap();
    let id = found.unwrap().row.id;
    let store = &world.ca.role().store;
    store.read("t", |tx| attested::last(tx, id)).unwrap()
}

fn secs(at: UnixMs) -> i64 {
    i64::try_from(at.secs().0).unwrap()
}

#[test]
fn a_device_that_was_off_returns_with_fresh_evidence() {
    let (mut world, mut devices) = ready(1);
    let device = &mut devices[0];
    let now = at(LASTS + 10, 0);
    let key = new_key(&mut world);
    let request = device.p10cr(&device.csr(&key), 2);
    let answer = send(&world.ca, &mut world.rng, &request, now);
    assert_eq!(said(&world, &answer), Err("evidence-needed"));
    // The words by which the device knows what to do.
    let message = reread(&answer.body);
    let status = message.body().cert_rep().unwrap().response[0]
        .status
        .clone();
    let words = status.status_string.unwrap().into_vec();
    assert_eq!(words, [CHECK_IN_FIRST]);
    // It checks in, and the very same request gets its certificate.
    let (outcome, words) = visit(&mut world, device, now, false);
    assert!(matches!(outcome, Some(TeepOutcome::UpToDate { .. })));
    assert_eq!(words.len(), 1);
    assert_eq!(noted(&world, device), Some(secs(now)));
    let der = ask(&mut world, &request, now).unwrap();
    // The answer was lost, and the evidence has grown old meanwhile: the same again.
    assert_eq!(ask(&mut world, &request, at(LASTS + 11, 0)), Ok(der));
}

#[test]
fn what_serves_needs_no_evidence_and_stale_evidence_does_not_do() {
    let (mut world, mut devices) = ready(1);
    let device = &mut devices[0];
    // A second certificate beside one that serves, by the TA alone.
    enrol(&mut world, device, at(LASTS, 0)).unwrap();
    let ended = |days, hours| at(2 * LASTS + days, hours);
    visit(&mut world, device, ended(5, 0), false);
    let refused = enrol(&mut world, device, ended(5, 2));
    assert_eq!(refused, Err("evidence-needed"));
    visit(&mut world, device, ended(5, 3), false);
    enrol(&mut world, device, ended(5, 4)).unwrap();
}

#[test]
fn beyond_the_grace_no_evidence_does() {
    let (mut world, mut devices) = ready(3);
    // A CA that did nothing for longer than a year would doubt its clock.
    enrol(&mut world, &devices[2], at(LASTS, 0)).unwrap();
    for (n, days, expected) in [(0, GRACE - 1, Ok(())), (1, GRACE + 1, Err("grace-over"))] {
        let now = at(LASTS + days, 0);
        visit(&mut world, &mut devices[n], now, false);
        let answer = enrol(&mut world, &devices[n], now).map(drop);
        assert_eq!(answer, expected);
    }
}

#[test]
fn another_devices_evidence_and_a_bad_one_do_not_count() {
    let (mut world, mut devices) = ready(2);
    let now = at(LASTS + 1, 0);
    visit(&mut world, &mut devices[1], now, false);
    let refused = enrol(&mut world, &devices[0], now);
    assert_eq!(refused, Err("evidence-needed"));
    enrol(&mut world, &devices[1], now).unwrap();
    // One whose runtime the Verifier does not know is not even handed on.
    devices[0].swname = "another".into();
    let before = noted(&world, &devices[0]);
    let (outcome, words) = visit(&mut world, &mut devices[0], now, false);
    assert_eq!((outcome, words.len()), (None, 0));
    assert_eq!(noted(&world, &devices[0]), before);
    assert!(enrol(&mut world, &devices[0], now).is_err());
}

#[test]
fn a_word_that_is_forged_or_repeated_moves_nothing() {
    let (mut world, mut devices) = ready(1);
    let device = &mut devices[0];
    let first = at(1, 0);
    let (_, words) = visit(&mut world, device, first, false);
    assert_eq!(noted(&world, device), Some(secs(first)));
    // The CA does not hear of a later one, and somebody repeats the earlier one.
    let now = at(LASTS + 1, 0);
    let a_little_before = UnixMs(now.0 - 100_000);
    let (_, earlier) = visit(&mut world, device, a_little_before, true);
    let (_, unheard) = visit(&mut world, device, now, true);
    let note = |word: &[u8], now: UnixSecs| world.ca.note_attested(word, now);
    assert!(note(&words[0], now.secs()).is_err(), "it has expired");
    note(&words[0], first.secs()).unwrap();
    assert_eq!(noted(&world, device), Some(secs(first)));
    // What only one of the two signed.
    let ear = tegata_crypto::cose::verify_sign1(
        &RustCrypto,
        &unheard[0],
        world.tam.public_key(),
        b"tegata attested v1",
        None,
    );
    let ear = ear.unwrap().payload().to_vec();
    let mut rng = Seeded(55);
    let thief = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
    assert!(note(&ear, now.secs()).is_err());
    assert!(note(&hand_on(&thief, &ear).unwrap(), now.secs()).is_err());
    for at in (0..unheard[0].len()).step_by(11) {
        let mut bad = unheard[0].clone();
        bad[at] ^= 4;
        let _ = note(&bad, now.secs());
    }
    // The unprotected part aside, of which no such bit is one.
    assert_eq!(noted(&world, device), Some(secs(first)));
    note(&unheard[0], now.secs()).unwrap();
    // The earlier one does not take it back.
    note(&earlier[0], now.secs()).unwrap();
    assert_eq!(noted(&world, device), Some(secs(now)));
    enrol(&mut world, device, now).unwrap();
}

#[test]
fn a_revoked_device_does_not_return() {
    let (mut world, mut devices) = ready(1);
    let device = &mut devices[0];
    let now = at(LASTS + 1, 0);
    let target = Target::Device(device.identity.ueid);
    say(&world.ca.role().store, &target, Word::Hold, now.secs()).unwrap();
    visit(&mut world, device, now, false);
    assert_eq!(enrol(&mut world, device, now), Err("device-revoked"));
    let store = &world.ca.role().store;
    say(store, &target, Word::Unhold, now.secs()).unwrap();
    enrol(&mut world, device, now).unwrap();
}

/// The certificate that a device asked for last.
fn newest(world: &World, device: &Device) -> Target {
    let found = world.ca.role().device(&device.identity.ueid).unwrap();
    let id = found.unwrap().row.id;
    let store = &world.ca.role().store;
    let rows = store.read("t", |tx| certificate::of_device(tx, id, 1));
    Target::Certificate(rows.unwrap().remove(0).intent.serial)
}

#[test]
fn a_certificate_that_was_revoked_has_ended() {
    let (mut world, mut devices) = ready(1);
    let device = &mut devices[0];
    let revoked = at(1, 0);
    let word = Word::Revoke(FinalReason::KeyCompromise);
    let target = newest(&world, device);
    say(&world.ca.role().store, &target, word, revoked.secs()).unwrap();
    assert_eq!(enrol(&mut world, device, at(1, 1)), Err("evidence-needed"));
    assert_eq!(
        enrol(&mut world, device, at(2 + GRACE, 0)),
        Err("grace-over")
    );
    visit(&mut world, device, at(2, 0), false);
    enrol(&mut world, device, at(2, 0)).unwrap();
}

#[test]
fn nothing_new_while_the_newest_certificate_is_on_hold() {
    let (mut world, mut devices) = ready(1);
    let device = &mut devices[0];
    let target = newest(&world, device);
    let store = Arc::clone(&world.ca.role().store);
    say(&store, &target, Word::Hold, at(1, 0).secs()).unwrap();
    visit(&mut world, device, at(1, 1), false);
    assert_eq!(enrol(&mut world, device, at(1, 1)), Err("certificate-held"));
    say(&store, &target, Word::Unhold, at(1, 2).secs()).unwrap();
    // It serves again, to its own end.
    enrol(&mut world, device, at(LASTS, 0)).unwrap();
}

#[test]
fn what_was_superseded_does_not_count_to_its_end() {
    let (mut world, devices) = ready(1);
    let device = &devices[0];
    let long = newest(&world, device);
    let text = tegata_authority::profile::EXAMPLE;
    let text = text.replace("validity = \"365d\"", "validity = \"40d\"");
    assert_ne!(text, tegata_authority::profile::EXAMPLE);
    let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
    let profiles = Profiles::parse(&text).unwrap();
    world.ca = Issuer::open(role, profiles, MacPolicy::default()).unwrap();
    enrol(&mut world, device, at(1, 0)).unwrap();
    let word = Word::Revoke(FinalReason::Superseded);
    say(&world.ca.role().store, &long, word, at(1, 0).secs()).unwrap();
    enrol(&mut world, device, at(40, 0)).unwrap();
    assert_eq!(enrol(&mut world, device, at(85, 0)), Err("evidence-needed"));
    // The same of those in the archive.
    let store = &world.ca.role().store;
    while sweep_some(store, 0, at(84, 0).secs()).unwrap().rows() > 0 {}
    assert_eq!(enrol(&mut world, device, at(85, 0)), Err("evidence-needed"));
}

#[test]
fn evidence_of_a_clock_that_was_ahead_keeps_no_true_one_away() {
    let (mut world, mut devices) = ready(1);
    let device = &mut devices[0];
    let ahead = at(LASTS + 400, 0);
    visit(&mut world, device, ahead, false);
    assert_eq!(noted(&world, device), Some(secs(ahead)));
    let now = at(LASTS + 1, 0);
    // The TAM sees that its clock went back, and asks once more.
    visit(&mut world, device, now, false);
    visit(&mut world, device, now, false);
    assert_eq!(noted(&world, device), Some(secs(now)));
    enrol(&mut world, device, now).unwrap();
}
