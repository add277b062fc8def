//! What years bring seldom, told so that it happens every time.

use tegata_authority::ca::issue::IssueDenied;
use tegata_crypto::Provider as _;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_store::revocation::scoped::{Predicate, ReleasesOf};
use tegata_store::revocation::stop;
use tegata_wire::cmp::{
    BodyKind, MessageToProtect, PkiBody, PkiHeader, ProtectionAlg, RawBody, UnverifiedPkiMessage,
    null_dn,
};
use tegata_wire::enrolment::{PersonalizationData, SenderKid};
use tegata_wire::ids::ReleaseDigest;

use super::agent::{SLOT, status_of};
use super::fleet::Fleet;
use super::queue::{DAY_MS, HOUR_MS};
use super::self_test::{Broken, good_fleet, revoke, serial};
use super::{invariants, with_stack};
use crate::asked::Asked;
use crate::device::{bytes_in, command};

fn all_is_well(fleet: &mut Fleet) {
    for d in 0..fleet.devices.len() {
        fleet.check_overlap(d);
        assert!(fleet.is_served(d));
    }
    fleet.audit();
    assert_eq!(invariants::check(fleet), Ok(()));
}

/// The device's clock, which the REE sets, is far past its certificate's end.
#[test]
fn a_clock_that_runs_ahead_leaves_one_certificate() {
    with_stack(|| {
        let mut fleet = good_fleet(1);
        fleet.devices[0].platform.clock.jump(400 * DAY_MS);
        fleet.visit(0);
        fleet.devices[0].platform.clock.set_right();
        all_is_well(&mut fleet);
    });
}

/// Off for longer than the certificate lasts, and without a clock.
#[test]
fn a_device_without_a_clock_returns() {
    with_stack(|| {
        let mut fleet = good_fleet(1);
        let clock = fleet.devices[0].platform.clock.clone();
        clock.jump(-fleet.time.now_ms());
        fleet.devices[0].power_off();
        fleet.time.advance(390 * DAY_MS as u64);
        clock.jump(-390 * DAY_MS);
        clock.switched_on();
        fleet.contact(0);
        assert!(!fleet.is_served(0));
        fleet.visit(0);
        assert_eq!(fleet.tally.returned, 1);
        all_is_well(&mut fleet);
    });
}

/// A word of the operator hits a certificate that was answered and never arrived. Its request is
/// refused from then on: the TA gives it up and makes another.
#[test]
fn a_request_whose_certificate_was_revoked_is_given_up() {
    with_stack(|| {
        let mut fleet = good_fleet(1);
        revoke(&mut fleet, 0);
        fleet.cares[0].refused = true;
        // The CA refuses the kur; the p10cr that follows is answered, and not confirmed.
        fleet.broken = Some(Broken::Confirmations);
        fleet.visit(0);
        fleet.broken = None;
        let last = fleet.ledger.certificates.keys().next_back().cloned();
        assert_ne!(last.as_ref(), Some(&serial(&fleet, 0)));
        fleet.revoke_serial(last.unwrap());
        for _ in 0..2 {
            fleet.time.advance(HOUR_MS as u64);
            fleet.visit(0);
        }
        all_is_well(&mut fleet);
    });
}

/// On hold when its certificate ended; the operator lifts the hold afterwards.
#[test]
fn a_hold_is_lifted_from_what_has_ended() {
    with_stack(|| {
        let mut fleet = good_fleet(1);
        fleet.time.advance(360 * DAY_MS as u64);
        fleet.hold_batch(0);
        fleet.time.advance(30 * DAY_MS as u64);
        fleet.visit(0);
        assert!(!fleet.is_served(0));
        fleet.unhold(0);
        fleet.visit(0);
        all_is_well(&mut fleet);
    });
}

/// A delivery that somebody between CA and TAM altered is not kept: wherever it was, the next visit of the
/// TAM brings another one.
#[test]
fn an_altered_delivery_is_asked_for_again() {
    with_stack(|| {
        let (mut tam, mut device) = (0, 0);
        for back in (1..900).step_by(60) {
            let mut fleet = Fleet::new(1, 1);
            fleet.calm = true;
            fleet.altered = Some(back);
            let log = fleet.visit(0).join("; ");
            tam += usize::from(log.contains("TAM: "));
            device += usize::from(!log.contains("TAM: ") && !fleet.is_served(0));
            fleet.altered = None;
            fleet.visit(0);
            assert!(fleet.is_served(0), "octet {back} from the end: {log}");
        }
        assert!(
            tam > 0 && device > 0,
            "noticed by TAM {tam}, by the device {device}"
        );
    });
}

/// The CA's clock is ahead for an hour, by more than a certificate lasts or by enough to end this one, and
/// the device asks for something in it. Its TA keeps that time for ever, and takes its certificate for
/// one that is due, or has ended. Each that comes supersedes the one before.
#[test]
fn a_ca_whose_clock_was_ahead_for_an_hour_leaves_one_certificate() {
    with_stack(|| {
        for (age, ahead, all) in [
            (0, 400, false),
            (310, 60, false),
            (310, 400, false),
            // The other servers are on the same machine: the evidence is fresh by that clock, too.
            (0, 402, true),
            (310, 60, true),
        ] {
            let mut fleet = good_fleet(1);
            fleet.time.advance(age * DAY_MS as u64);
            fleet.ca.get_mut().clock.jump(ahead * DAY_MS);
            if all {
                fleet.tam.clock.jump(ahead * DAY_MS);
                fleet.verifier.get_mut().clock.jump(ahead * DAY_MS);
            }
            // By that clock the certificate of day 310 has ended and is followed: that one and it live on
            // beside each other until the next is asked for, by the right clock.
            let both = all && age > 0;
            fleet.ledger.ca_error_ms = if both { (ahead * DAY_MS) as u64 } else { 0 };
            fleet.cares[0].refused = true;
            for _ in 0..3 {
                fleet.visit(0);
                fleet.time.advance(HOUR_MS as u64 / 3);
            }
            fleet.set_servers_right();
            for _ in 0..30 {
                fleet.time.advance(DAY_MS as u64);
                fleet.visit(0);
                fleet.ledger.ca_error_ms = 0;
            }
            let mut rows = fleet.rows(0);
            rows.retain(|row| row.standing.is_good());
            assert_eq!(rows.len(), 1, "{age} {ahead} {all}");
            assert!(fleet.tally.renewed + fleet.tally.replaced > 0);
            all_is_well(&mut fleet);
        }
    });
}

/// A stop, or what else refuses for a while, does not make a second certificate out of a renewal: what
/// the release asks for then is in place of the certificate that could not.
#[test]
fn a_stop_that_is_lifted_leaves_one_certificate() {
    with_stack(|| {
        let mut fleet = good_fleet(1);
        let batch = Some(fleet.cares[0].batch.clone());
        let what = Predicate {
            batch,
            ..Predicate::default()
        };
        let ca = fleet.ca.get_mut();
        let stopped = stop::stop(&ca.role().store, &what, ca.clock.secs()).unwrap();
        let log = fleet.renew_now(0).join("; ");
        assert!(log.contains("until further notice"), "{log}");
        fleet.lift(stopped.id);
        fleet.renew_now(0);
        assert_eq!((fleet.tally.renewed, fleet.tally.replaced), (0, 1));
        let made = fleet.ledger.certificates.len();
        assert_eq!(made, 2, "the first, superseded, and the one in its place");
        all_is_well(&mut fleet);
    });
}

/// The CA has heard the confirmation, and the device not that it has; before it asks again an update of its
/// TA throws the request away. What the new release asks for takes the place of what the CA confirmed, which
/// nobody has: also when it was the first.
#[test]
fn a_confirmation_that_is_not_answered_before_an_update_leaves_one_certificate() {
    with_stack(|| {
        for first in [true, false] {
            let mut fleet = match first {
                true => Fleet::new(1, 1),
                false => good_fleet(1),
            };
            fleet.calm = true;
            if !first {
                // It is refused as the asker, for a while, and the release asks in its place.
                fleet.stop_batch(&fleet.cares[0].batch.clone());
                fleet.renew_now(0);
                let stop = fleet.ledger.stops[0].id;
                fleet.lift(stop);
            }
            fleet.broken = Some(Broken::PkiConf);
            match first {
                true => drop(fleet.visit(0)),
                false => drop(fleet.renew_now(0)),
            }
            fleet.broken = None;
            fleet.devices[0].power_off();
            fleet.cut_release();
            fleet.cares[0].refused = true;
            fleet.visit(0);
            assert_eq!(fleet.cares[0].sequence, fleet.newest.0);
            let made = fleet.ledger.certificates.len();
            assert_eq!(made, if first { 2 } else { 3 });
            let live = fleet
                .rows(0)
                .into_iter()
                .filter(|row| row.standing.is_good());
            assert_eq!(live.count(), 1, "first: {first}");
            all_is_well(&mut fleet);
        }
    });
}

/// What a broken TEE knows: its release, and the `CsrAuthKey` that it has by that.
fn secrets(fleet: &mut Fleet, d: usize) -> (ReleaseDigest, [u8; 32]) {
    let ta = fleet.ta;
    let (release, data) = fleet.devices[d].personalization(&ta).unwrap().unwrap();
    let data = PersonalizationData::decode(&data).unwrap();
    (release, *data.expose_csr_auth_key())
}

/// What the TA asks for once its certificate is refused: a p10cr.
fn p10cr(fleet: &mut Fleet, d: usize) -> Vec<u8> {
    let ta = fleet.ta;
    let kur = fleet.devices[d].begin(&ta, SLOT).unwrap().message;
    let answer = fleet.at_ca(d, &kur).unwrap();
    let finish = command::ENROL_FINISH;
    let refused = fleet.devices[d].call(&ta, SLOT.0, finish, SLOT.1, bytes_in(&answer));
    assert!(refused.is_err());
    let asked = fleet.devices[d].begin(&ta, SLOT).unwrap().message;
    let message = UnverifiedPkiMessage::from_der(&asked).unwrap();
    assert_eq!(message.kind(), BodyKind::P10cr);
    asked
}

/// The same request by another release's key.
fn by_key_of(p10cr: &[u8], kid: SenderKid, key: &[u8; 32]) -> Vec<u8> {
    let message = UnverifiedPkiMessage::from_der(p10cr).unwrap();
    let PkiBody::P10cr(csr) = message.body().decode().unwrap() else {
        panic!("no p10cr")
    };
    let body = RawBody::p10cr(csr.as_bytes()).unwrap();
    let header = PkiHeader::new(null_dn(), null_dn())
        .with_protection(&ProtectionAlg::HMAC_SHA256)
        .and_then(|h| h.with_sender_kid(&kid.to_bytes()))
        .and_then(|h| h.with_transaction_id(&[7; 16]))
        .and_then(|h| h.with_sender_nonce(&[8; 16]));
    let header = header.unwrap();
    let message = MessageToProtect::new(&header, &body).unwrap();
    let mac = RustCrypto.hmac_sha256(key, &message.protected_part().unwrap());
    message.into_der(Some(&mac), &[]).unwrap()
}

/// The TA is updated through the TAM: from then on the new release asks, with a `CsrAuthKey` of its own,
/// and the CA knows which one it was. The old key opens nothing once the operator stops the old release.
#[test]
fn after_an_update_the_new_release_asks_and_the_old_key_gets_nothing() {
    with_stack(|| {
        let mut fleet = good_fleet(2);
        let (old, old_key) = secrets(&mut fleet, 0);
        fleet.cut_release();
        let newest = fleet.newest.0;
        // A session that is open goes on with the release that it was opened to; agents open their own.
        for device in &mut fleet.devices {
            device.power_off();
        }
        // Device 0 is updated in the visit in which its certificate asks for the next one.
        fleet.cares[0].refused = true;
        fleet.visit(0);
        assert_eq!(fleet.cares[0].sequence, newest);
        let (new, new_key) = secrets(&mut fleet, 0);
        assert_ne!((old, old_key), (new, new_key));
        let row = fleet.row(&serial(&fleet, 0)).unwrap();
        assert_eq!(row.intent.release, Some(new.0));
        // And so when the release asks.
        revoke(&mut fleet, 0);
        let asked = p10cr(&mut fleet, 0);
        let ueid = fleet.devices[0].ueid;
        let kid = |release: &ReleaseDigest| SenderKid {
            release_prefix: release.prefix(),
            ueid,
        };
        assert_eq!(Asked::of(&asked).kid, kid(&new));

        // ca stop --ta enrol --release-below NEWEST
        let what = Predicate {
            releases: Some(ReleasesOf {
                from: None,
                ta: "enrol".into(),
                below: Some(newest),
            }),
            ..Predicate::default()
        };
        let ca = fleet.ca.get_mut();
        stop::stop(&ca.role().store, &what, ca.clock.secs()).unwrap();
        let stopped = IssueDenied::Stopped(0).peer_text();
        // Somebody has the key that device 0 had before the update.
        let stolen = by_key_of(&asked, kid(&old), &old_key);
        let told = fleet.at_ca(0, &stolen).unwrap();
        assert_eq!(status_of(&told).unwrap().text(), Some(stopped));
        // Device 1 still runs the old release: its certificate gets no next one, nor does its TA.
        let log = fleet.renew_now(1);
        assert_eq!(log.iter().filter(|told| told.contains(stopped)).count(), 2);
        assert_eq!(log.len(), 2, "{log:?}");
        assert_eq!(fleet.tally.replaced, 0);

        // The update helps both.
        for d in 0..2 {
            fleet.devices[d].power_off();
            fleet.cares[d].refused = true;
            fleet.visit(d);
            let (release, _) = secrets(&mut fleet, d);
            let row = fleet.row(&serial(&fleet, d)).unwrap();
            assert_eq!(row.intent.release, Some(release.0));
            assert_eq!(release, new);
        }
        all_is_well(&mut fleet);
    });
}
