//! What years bring seldom, told so that it happens every time.

use super::fleet::Fleet;
use super::queue::{DAY_MS, HOUR_MS};
use super::self_test::{Broken, good_fleet, revoke, serial};
use super::{invariants, with_stack};

fn all_is_well(fleet: &mut Fleet) {
    fleet.check_overlap(0);
    fleet.audit();
    assert_eq!(invariants::check(fleet), Ok(()));
    assert!(fleet.is_served(0));
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
        fleet.broken = Some(Broken::NoConfirmations);
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
