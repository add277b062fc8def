//! Each invariant can fail: something is broken on purpose, and the invariant of that name says so.

use std::collections::BTreeSet;

use tegata_authority::ca::revocation::{FinalReason, Word};
use tegata_store::certificate;
use tegata_store::revocation::{Target, say};
use tegata_wire::x509::CertView;

use super::fleet::Fleet;
use super::invariants;
use super::ledger::Stopped;
use super::queue::{DAY_MS, HOUR_MS};
use super::with_stack;

/// A part of the fleet that a self-test breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Agents do not carry confirmations.
    Confirmations,
    /// The CA's answers to confirmations are lost.
    PkiConf,
    /// Relying parties are granted no time at all.
    Patience,
}

/// A fleet in which each device has a certificate, and nothing goes wrong.
pub fn good_fleet(devices: usize) -> Fleet {
    let mut fleet = Fleet::new(1, devices);
    fleet.calm = true;
    for d in 0..devices {
        fleet.visit(d);
        assert!(fleet.is_served(d));
    }
    fleet.audit();
    assert_eq!(invariants::check(&fleet), Ok(()));
    fleet
}

pub fn serial(fleet: &Fleet, d: usize) -> Vec<u8> {
    let leaf = fleet.cares[d].leaf.as_ref().unwrap();
    CertView::from_der(leaf).unwrap().serial.to_vec()
}

fn renew(fleet: &mut Fleet, d: usize) {
    fleet.cares[d].refused = true;
    fleet.visit(d);
}

pub fn revoke(fleet: &mut Fleet, d: usize) {
    let serial = serial(fleet, d);
    fleet.revoke_serial(serial);
}

impl Fleet {
    /// The operator revokes one certificate for good.
    pub fn revoke_serial(&mut self, serial: Vec<u8>) {
        let word = Word::Revoke(FinalReason::KeyCompromise);
        let ca = self.ca.get_mut();
        let target = Target::Certificate(serial);
        say(&ca.role().store, &target, word, ca.clock.secs()).unwrap();
    }
}

type Break = fn() -> Fleet;

/// What is broken for each invariant.
const BROKEN: [(&str, Break); 8] = [
    ("no_device_is_locked_out", || {
        let mut fleet = good_fleet(1);
        fleet.broken = Some(Broken::Confirmations);
        fleet.time.advance(400 * DAY_MS as u64);
        for _ in 0..4 {
            fleet.time.advance(HOUR_MS as u64);
            fleet.wake(0);
        }
        fleet
    }),
    ("nothing_revoked_reads_good_after_the_bound", || {
        // The bound is taken away: what a party rightly kept is too old.
        let mut fleet = good_fleet(1);
        let leaf = fleet.cares[0].leaf.clone().unwrap();
        fleet.believes(0, &leaf);
        fleet.time.advance(5_000);
        revoke(&mut fleet, 0);
        fleet.time.advance(5_000);
        fleet.broken = Some(Broken::Patience);
        fleet.believes(0, &leaf);
        fleet
    }),
    ("what_is_shown_leads_to_every_root", || {
        let mut fleet = good_fleet(1);
        fleet.cares[0].way.clear();
        fleet.contact(0);
        fleet
    }),
    ("slots_overlap_by_the_window_at_most", || {
        // A CA that forgets whom a certificate replaces: its disk forgets the revocation.
        let mut fleet = good_fleet(1);
        let sql = "DELETE FROM revocation";
        renew(&mut fleet, 0);
        let path = fleet.dir.path().join("ca.db");
        let db = rusqlite::Connection::open(path).unwrap();
        db.execute(sql, []).unwrap();
        fleet.check_overlap(0);
        fleet
    }),
    ("nothing_is_issued_without_authentication", || {
        // A CA that takes what comes: an intent for a request from nowhere.
        let mut fleet = good_fleet(1);
        let mut intent = fleet.rows(0).remove(0).intent;
        intent.csr_digest = [7; 32];
        intent.serial.push(7);
        let store = &fleet.ca.get_mut().role().store;
        store
            .run_tx("test", |tx| certificate::intend(tx, &intent, 0))
            .unwrap();
        fleet.audit();
        fleet
    }),
    ("nothing_is_issued_against_the_operators_word", || {
        // The CA never heard of the stop that the operator believes in.
        let mut fleet = good_fleet(1);
        let batch = fleet.batches[0].clone();
        fleet.ledger.stops.push(Stopped { id: 7, batch });
        renew(&mut fleet, 0);
        fleet
    }),
    ("one_certificate_per_request", || {
        // A disk that forgets what it said was durable.
        let mut fleet = good_fleet(1);
        let copy = fleet.ca.get_mut().copy_disk(".copy");
        fleet.broken = Some(Broken::Confirmations);
        renew(&mut fleet, 0);
        fleet.ca.get_mut().restore_disk(&copy);
        renew(&mut fleet, 0);
        fleet
    }),
    ("what_was_answered_stays", || {
        let mut fleet = good_fleet(1);
        let copy = fleet.ca.get_mut().copy_disk(".copy");
        renew(&mut fleet, 0);
        fleet.ca.get_mut().restore_disk(&copy);
        fleet.audit();
        fleet
    }),
];

/// What was never confirmed counts too.
#[test]
fn requests_that_are_given_up_after_their_answer_are_counted() {
    with_stack(|| {
        let mut fleet = good_fleet(1);
        fleet.broken = Some(Broken::Confirmations);
        for given_up in 1..=4 {
            renew(&mut fleet, 0);
            fleet.give_up(0);
            assert_eq!(fleet.tally.unconfirmed_max, given_up);
            let held = invariants::invariant_slots_overlap_by_the_window_at_most(&fleet);
            assert_eq!(held.is_ok(), given_up < 4, "{held:?}");
        }
    });
}

#[test]
fn every_invariant_of_the_years_can_fail() {
    let broken: BTreeSet<&str> = BROKEN.iter().map(|(name, _)| *name).collect();
    let all: BTreeSet<&str> = invariants::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(broken, all, "one self-test for each invariant");
    for (name, make) in BROKEN {
        let (_, check) = invariants::ALL.iter().find(|(n, _)| *n == name).unwrap();
        let found = with_stack(|| check(&make()));
        println!("invariant_{name}: {}", found.expect_err(name));
    }
}
