//! What is taken back while a request is on its way, and how much one device may ask for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::kur::*;
use common::ready::*;
use common::rows::standing;
use common::*;
use tegata_authority::UnixMs;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::ca::revocation::{FinalReason, Word};
use tegata_authority::profile::{EXAMPLE, Profiles};
use tegata_store::NoFaults;
use tegata_store::issuer::Issuer;
use tegata_store::revocation::{Target, say};
use tegata_wire::x509::CertView;

const COMPROMISED: Word = Word::Revoke(FinalReason::KeyCompromise);

fn serial(der: &[u8]) -> Vec<u8> {
    CertView::from_der(der).unwrap().serial.to_vec()
}

fn say_of(world: &World, der: &[u8], word: Word, now: UnixMs) {
    let target = Target::Certificate(serial(der));
    say(&world.ca.role().store, &target, word, now.secs()).unwrap();
}

/// A message to the CA: the whole answer, and the certificate in it or what was said instead.
fn ask(world: &mut World, message: &[u8], now: UnixMs) -> (Vec<u8>, Result<Vec<u8>, String>) {
    let answer = send(&world.ca, &mut world.rng, message, now);
    let said = granted(&answer.body, &world.ca);
    (answer.body, said)
}

/// The CA again, with one more line in the profile.
fn reopen(world: &mut World, line: &str) {
    let text = EXAMPLE.replace(
        "[profile.device.san]",
        &format!("{line}\n\n[profile.device.san]"),
    );
    let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
    let profiles = Profiles::parse(&text).unwrap();
    world.ca = Issuer::open(role, profiles, MacPolicy::default()).unwrap();
}

#[test]
fn what_was_taken_back_is_not_confirmed_and_takes_no_place() {
    for (word, then) in [
        (COMPROMISED, "Kup CERT_REVOKED"),
        (Word::Hold, "Error NOT_AUTHORIZED"),
    ] {
        let (mut world, devices, current) = ready(1);
        let (device, old) = (&devices[0], &current[0]);
        let key = new_key(&mut world);
        let kur = old.sign(&Asked::kur(device, old, &key).body(), 2, None);
        let (answer, new) = ask(&mut world, &kur, day(100));
        let new = new.unwrap();
        say_of(&world, &new, word, day(100));
        let conf = old.conf(&answer, &new, 2);
        for _ in 0..2 {
            let (_, said) = ask(&mut world, &conf, day(100));
            assert_eq!(said.unwrap_err(), "Error CERT_REVOKED");
        }
        assert!(standing(&world.ca, &old.der).is_good(), "it serves on");
        // What the TA does next: the kur again, which tells it.
        let (_, said) = ask(&mut world, &kur, day(100));
        assert_eq!(said.unwrap_err(), then);
        if word == Word::Hold {
            say_of(&world, &new, Word::Unhold, day(101));
            let (answer, again) = ask(&mut world, &kur, day(101));
            assert_eq!(again.unwrap(), new);
            let (_, said) = ask(&mut world, &old.conf(&answer, &new, 2), day(101));
            assert_eq!(said.unwrap_err(), "PkiConf");
            assert!(!standing(&world.ca, &old.der).is_good());
        }
    }
}

#[test]
fn what_its_own_confirmation_supersedes_is_not_confirmed() {
    let (mut world, devices, current) = ready(1);
    let (device, old) = (&devices[0], &current[0]);
    // The clock is ahead: the old one is in its window, and stays good.
    let key = new_key(&mut world);
    let kur = old.sign(&Asked::kur(device, old, &key).body(), 2, None);
    let (answer, first) = ask(&mut world, &kur, day(340));
    let first = first.unwrap();
    let (_, said) = ask(&mut world, &old.conf(&answer, &first, 2), day(340));
    assert_eq!(said.unwrap_err(), "PkiConf");
    assert!(standing(&world.ca, &old.der).is_good());
    // It is put right; pkiConf was lost and the owner gave the request up.
    let key = new_key(&mut world);
    let kur = old.sign(&Asked::kur(device, old, &key).body(), 3, None);
    let (answer, second) = ask(&mut world, &kur, day(200));
    let second = second.unwrap();
    let (_, said) = ask(&mut world, &old.conf(&answer, &second, 3), day(200));
    assert_eq!(said.unwrap_err(), "Error CERT_REVOKED");
    assert!(!standing(&world.ca, &second).is_good());
    assert!(standing(&world.ca, &first).is_good());
}

#[test]
fn a_signer_that_is_revoked_meanwhile_gets_nothing() {
    if !on_files("who writes waits for who began first") {
        return;
    }
    let (mut world, _, current) = ready(1);
    let old = &current[0];
    reopen(&mut world, "authentication = [\"certificate\"]");
    let key = new_key(&mut world);
    let cr = old.sign(&Asked::cr(&key).body(), 2, None);
    // The operator's transaction begins first and ends when the CA has read and waits to write.
    let sql = rusqlite::Connection::open(world.dir.path().join("ca.db")).unwrap();
    sql.execute_batch("BEGIN IMMEDIATE").unwrap();
    sql.execute(
        "INSERT INTO revocation(serial, change, shard, at, reason) VALUES (?1, 1, 0, 1, 1)",
        [serial(&old.der)],
    )
    .unwrap();
    let (ca, mut rng) = (&world.ca, Seeded(7));
    let said = std::thread::scope(|scope| {
        let asking = scope.spawn(|| send(ca, &mut rng, &cr, day(1)));
        std::thread::sleep(Duration::from_millis(700));
        sql.execute_batch("COMMIT").unwrap();
        granted(&asking.join().unwrap().body, ca)
    });
    assert_eq!(said.unwrap_err(), "Cp CERT_REVOKED");
}

#[test]
fn a_device_gets_so_many_in_a_day_and_what_is_due_besides() {
    let (mut world, devices, current) = ready(1);
    let (device, old) = (&devices[0], &current[0]);
    reopen(&mut world, "daily_limit = 3");
    // One ends within the renewal window.
    for now in [day(2), day(340)] {
        let mut last = Vec::new();
        for n in 0..4 {
            let key = new_key(&mut world);
            last = device.p10cr(&device.csr(&key), 10 + n);
            let (_, said) = ask(&mut world, &last, now);
            match n {
                3 => assert_eq!(said.unwrap_err(), "Cp SYSTEM_UNAVAIL"),
                _ => drop(said.unwrap()),
            }
        }
        let key = new_key(&mut world);
        let kur = old.sign(&Asked::kur(device, old, &key).body(), 20, None);
        let (_, said) = ask(&mut world, &kur, now);
        assert_eq!(said.is_ok(), now == day(340), "due or not");
        // The same request, a day later.
        let (_, said) = ask(&mut world, &last, UnixMs(now.0 + DAY_MS));
        said.unwrap();
    }
}

#[test]
fn one_request_in_many_transactions_fills_nothing() {
    let (mut world, devices, current) = ready(1);
    let (device, old) = (&devices[0], &current[0]);
    let key = new_key(&mut world);
    let body = Asked::kur(device, old, &key).body();
    let mut last = Vec::new();
    let mut new = Vec::new();
    for n in 2..60 {
        let (answer, said) = ask(&mut world, &old.sign(&body, n, None), day(100));
        (last, new) = (answer, said.unwrap());
    }
    let sql = Sql::open(&world.dir.path().join("ca.db"));
    let of = sql.bytes(&serial(&new));
    let kept = sql.number(&format!(
        "SELECT count(*) FROM cmp_transaction WHERE serial = {of}"
    ));
    assert_eq!(kept, 16);
    // The newest is among them.
    let (_, said) = ask(&mut world, &old.conf(&last, &new, 59), day(100));
    assert_eq!(said.unwrap_err(), "PkiConf");
}
