//! The archive: what it takes, what still holds of it, and a stop at every write.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::sync::Arc;

use common::fleet::{Fill, fill, install};
use common::stops::StopAt;
use common::*;
use tegata_authority::UnixSecs;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::ca::revocation::{FinalReason, Standing, Word};
use tegata_authority::tam::availability::Availability;
use tegata_crypto::{KeyAlg, PrivateKey};
use tegata_store::archive::{self, Swept, sweep_some, would_sweep};
use tegata_store::issuer::{CmpOutcome, Issuer};
use tegata_store::revocation::{self, RevokeError, Target, say};
use tegata_store::status::{Scope, StatusServer, StatusSettings};
use tegata_store::{NoFaults, Store, StoreError, certificate, teep};
use tegata_wire::x509::CertView;

const COMPROMISED: Word = Word::Revoke(FinalReason::KeyCompromise);
const DAY: u64 = 86_400;
const KEEP: u64 = 90 * DAY;
/// Longer than any certificate of the profile lives, and is kept.
const LATER: UnixSecs = UnixSecs(SECS.0 + 4_000 * DAY);

fn ready() -> (World, Device) {
    let mut world = World::new();
    let mut devices = world.batch("B1", 1);
    let cut = world.release(MODULE, false, Availability::Everybody);
    install(&mut world, &mut devices, cut.ta);
    let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
    let ca = Issuer::open(role, profiles(), MacPolicy::default()).unwrap();
    world.ca = ca.with_status(StatusSettings {
        base_url: Some("http://ca.example".to_owned()),
        ..StatusSettings::default()
    });
    (world, devices.remove(0))
}

/// A request for a new key, and the certificate that it got and confirmed.
fn enrol(world: &mut World, device: &Device, n: u8) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let csr = device.csr(&key);
    let answer = world
        .ca
        .cmp("device", &device.p10cr(&csr, n), &mut world.rng, NOW);
    let der = certificate_of(&answer.body, &world.ca).unwrap();
    let hash = tegata_crypto::Provider::sha256(&tegata_crypto::rustcrypto::RustCrypto, &der);
    let confirm = device.cert_conf(&answer.body, &hash, n);
    let answer = world.ca.cmp("device", &confirm, &mut world.rng, NOW);
    assert!(matches!(
        answer.outcome,
        CmpOutcome::Confirmed { accepted: true, .. }
    ));
    let serial = CertView::from_der(&der).unwrap().serial.to_vec();
    (csr, der, serial)
}

fn sweep(store: &Store, now: UnixSecs) -> Swept {
    let mut all = Swept::default();
    loop {
        let part = sweep_some(store, KEEP, now).unwrap();
        if part.rows() == 0 {
            return all;
        }
        all.archived += part.archived;
        all.forgotten += part.forgotten;
        all.returned += part.returned;
    }
}

#[test]
fn what_was_promised_of_a_certificate_holds_in_the_archive() {
    let (mut world, device) = ready();
    let (csr, der, serial) = enrol(&mut world, &device, 1);
    let (_, _, revoked) = enrol(&mut world, &device, 2);
    let store = open_store(world.dir.path().join("ca.db")).unwrap();
    say(
        &store,
        &Target::Certificate(revoked.clone()),
        COMPROMISED,
        SECS,
    )
    .unwrap();
    let before = store
        .read("t", |tx| certificate::find(tx, &serial))
        .unwrap()
        .unwrap();
    let end = UnixSecs(u64::try_from(before.intent.not_after).unwrap());
    let server = StatusServer::new(Arc::new(std::mem::replace(&mut world.ca, {
        let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
        Issuer::open(role, profiles(), MacPolicy::default()).unwrap()
    })));
    let list = |now| server.list(Scope::Shard(0), false, now).unwrap();
    let has = |der: &[u8], serial: &[u8]| der.windows(serial.len()).any(|part| part == serial);
    assert!(has(&list(end).der, &revoked));

    // Not while it lasts, and not before its time is over.
    assert_eq!(would_sweep(&store, KEEP, SECS).unwrap(), Swept::default());
    let almost = UnixSecs(end.0 + KEEP);
    assert_eq!(sweep(&store, almost), Swept::default());
    let over = UnixSecs(end.0 + KEEP + 1);
    let expected = Swept {
        archived: 2,
        forgotten: 0,
        returned: 0,
    };
    assert_eq!(would_sweep(&store, KEEP, over).unwrap(), expected);
    assert_eq!(sweep(&store, over), expected);
    assert_eq!(sweep(&store, over), Swept::default());

    // It is found as it was, but for the bytes that were to be signed.
    let (found, hot, of_device, end_of_last) = store
        .read("t", |tx| {
            let found = certificate::find(tx, &serial)?.unwrap();
            let hot = certificate::list(tx, &[], 10)?;
            let of_device = archive::of_device(tx, found.intent.device, 10)?;
            let last = archive::last_end(tx, found.intent.device, "device")?;
            Ok::<_, StoreError>((found, hot, of_device, last))
        })
        .unwrap();
    assert!(hot.is_empty());
    assert_eq!(of_device.len(), 2);
    assert_eq!(end_of_last, Some(before.intent.not_after));
    assert!(found.intent.tbs.is_empty());
    let mut same = before.clone();
    same.intent.tbs = Vec::new();
    assert_eq!(found, same);
    let text = hex::encode(&serial);
    let beginning = |digits: &str| {
        let found = store.read("t", |tx| certificate::beginning_with(tx, digits));
        found.unwrap().len()
    };
    assert_eq!(beginning(&text), 1);
    assert_eq!(beginning(&text[..25]), 1);
    assert_eq!(beginning(&text[..11]), 2, "of the same time");
    for nothing in ["zz", &format!("{text}00"), "ffff"] {
        assert_eq!(beginning(nothing), 0, "{nothing}");
    }

    // Its request gets it again, and no other: nobody makes a new one of what was recorded then.
    let answer = world
        .ca
        .cmp("device", &device.p10cr(&csr, 3), &mut world.rng, NOW);
    let CmpOutcome::Issued {
        certificate, again, ..
    } = &answer.outcome
    else {
        panic!("{:?}", answer.outcome)
    };
    assert!(*again && *certificate == der);
    // What was said of it stays, and nothing else can be said.
    let told = store.read("t", |tx| {
        let issuer = &before.intent.issuer;
        let good = revocation::of_issued(tx, &serial, issuer)?;
        let bad = revocation::of_issued(tx, &revoked, issuer)?;
        assert_eq!(revocation::of_issued(tx, &serial, "another")?, None);
        Ok::<_, StoreError>((good, bad))
    });
    let (good, bad) = told.unwrap();
    assert_eq!(good, Some(Standing::Good));
    assert!(!bad.unwrap().is_good());
    let late = say(&store, &Target::Certificate(serial), COMPROMISED, over);
    assert!(matches!(late, Err(RevokeError::Archived)));
    // It left the list; the numbers of lists go on, and the list is kept while nothing changes.
    let after = list(over);
    assert!(!has(&after.der, &revoked));
    assert!(Arc::ptr_eq(&after, &list(UnixSecs(over.0 + 1))));
}

#[test]
fn stopped_at_any_write_each_certificate_is_in_one_place() {
    let (mut world, device) = ready();
    enrol(&mut world, &device, 1);
    let path = world.dir.path().join("ca.db");
    let many = Fill {
        devices: 700,
        each: 1,
        from: SECS.0,
        life: 30 * DAY,
        shard: 65_536,
    };
    fill(&path, many);
    // One that was never signed.
    let sql = Sql::open(&path);
    sql.run(
        "UPDATE certificate SET der = NULL WHERE serial = (SELECT serial FROM certificate \
         WHERE profile = 'device' ORDER BY serial DESC LIMIT 1)",
    );
    assert_eq!(
        sql.number("SELECT count(*) FROM certificate WHERE der IS NULL"),
        1
    );
    let count = |table: &str| sql.number(&format!("SELECT count(*) FROM {table}"));
    let mut last = 0;
    for at in 0..6 {
        let store = open_store_with(&path, StopAt::new(at)).unwrap();
        let mut stopped = false;
        while let Ok(part) = sweep_some(&store, KEEP, LATER).map_err(|_| stopped = true) {
            if part.rows() == 0 {
                break;
            }
        }
        let (hot, archived) = (count("certificate"), count("archive"));
        assert!(archived >= last, "{at}");
        assert!(
            [701, 700].contains(&(hot + archived)),
            "{at}: {hot} {archived}"
        );
        let both = "certificate JOIN archive USING (serial)";
        assert_eq!(count(both), 0, "{at}");
        last = archived;
        assert!(stopped || hot == 0);
    }
    assert_eq!((count("certificate"), count("archive")), (0, 700));
}

#[test]
fn the_tam_forgets_what_nobody_waits_for() {
    let (mut world, mut device) = ready();
    let store = Arc::clone(&world.tam.role().store);
    let count = || {
        let sql = Sql::open(&world.dir.path().join("tam.db"));
        let count = |table: &str| sql.number(&format!("SELECT count(*) FROM {table}"));
        (count("teep_update"), count("delivery"))
    };
    assert_eq!(count(), (1, 1));
    let forget = |at: u64| {
        let at = i64::try_from(at).unwrap();
        store.run_tx("t", |tx| teep::forget_some(tx, at)).unwrap()
    };
    assert_eq!(forget(SECS.0), 0, "not what was sent then");
    assert_eq!(forget(SECS.0 + 1), 2);
    assert_eq!((count(), forget(SECS.0 + 1)), ((0, 0), 0));
    // The same device gets the same release again when it asks again.
    let ta = device.installed.take().unwrap().ta;
    let mut devices = [device];
    install(&mut world, &mut devices, ta);
    assert!(devices[0].installed.is_some());
}

#[test]
fn what_a_clock_that_was_ahead_archived_comes_back() {
    let (mut world, device) = ready();
    let (csr, der, serial) = enrol(&mut world, &device, 1);
    let (_, _, revoked) = enrol(&mut world, &device, 2);
    let path = world.dir.path().join("ca.db");
    let store = open_store(&path).unwrap();
    let word = Target::Certificate(revoked.clone());
    say(&store, &word, COMPROMISED, SECS).unwrap();
    let row = |serial: &[u8]| {
        let row = store.read("t", |tx| certificate::find(tx, serial));
        row.unwrap().unwrap()
    };
    let (before, before_revoked) = (row(&serial), row(&revoked));
    let server = StatusServer::new(Arc::new(
        Issuer::open(
            role(&path, Arc::new(NoFaults)),
            profiles(),
            MacPolicy::default(),
        )
        .unwrap()
        .with_status(StatusSettings {
            base_url: Some("http://ca.example".to_owned()),
            ..StatusSettings::default()
        }),
    ));
    let list = || server.list(Scope::Shard(0), false, SECS).unwrap();
    let has = |der: &[u8]| der.windows(revoked.len()).any(|part| part == revoked);

    // The clock is ten years ahead, and is put right.
    let moved = sweep(&store, LATER);
    assert_eq!((moved.archived, moved.returned), (2, 0));
    assert!(!has(&list().der), "gone while the clock is wrong");
    let expected = Swept {
        returned: 2,
        ..Swept::default()
    };
    assert_eq!(would_sweep(&store, KEEP, SECS).unwrap(), expected);
    assert_eq!(sweep(&store, SECS), expected);
    assert_eq!(sweep(&store, SECS), Swept::default());

    // All is as before, but for what is needed only until it is signed.
    for (mut was, serial) in [(before, &serial), (before_revoked, &revoked)] {
        was.intent.tbs = Vec::new();
        assert_eq!(row(serial), was);
    }
    assert!(has(&list().der));
    let answer = world
        .ca
        .cmp("device", &device.p10cr(&csr, 3), &mut world.rng, NOW);
    assert_eq!(certificate_of(&answer.body, &world.ca).unwrap(), der);
    // And an operator's word reaches it.
    let all = Target::Device(device.identity.ueid);
    let report = say(&store, &all, COMPROMISED, SECS).unwrap();
    assert_eq!(report.changed.len(), 1);
    assert!(!row(&serial).standing.is_good());
}
