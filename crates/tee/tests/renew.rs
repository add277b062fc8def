//! Renewal by the enrolment TA: the key that serves asks for the next one, and whatever happens on
//! the way the device has one good certificate.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // Tests.

#[path = "support/mod.rs"]
mod support;

use support::ca::{Ca, NOW, Tamper, YEAR};
use support::{ALICE, BOB, Device, Session};
use tegata_tee::gp::consts::*;
use tegata_tee::testing::Crash;
use tegata_wire::cbor::{self, Value};
use tegata_wire::cmp::{BodyKind, UnverifiedPkiMessage};
use tegata_wire::enrolment::{ConfirmMode, KeyKind};
use tegata_wire::x509::CertView;

const BEGIN: u32 = 1;
const FINISH: u32 = 2;
const CONFIRM: u32 = 3;
const GET_CERTIFICATE: u32 = 4;
const SIGN: u32 = 5;
const DELETE: u32 = 7;
const STATUS: u32 = 9;

const DAY: u64 = 86_400;
const WINDOW: u64 = 30 * DAY;

fn kind(request: &[u8]) -> BodyKind {
    UnverifiedPkiMessage::from_der(request).unwrap().kind()
}

/// From a request on to the end.
fn complete(ca: &Ca, session: &Session<'_>, label: &[u8], request: &[u8]) {
    let answer = ca.answer(request, &[]).unwrap();
    let conf = session.call(FINISH, &[label, &answer]).unwrap();
    if !conf.is_empty() {
        let conf = ca.confirm(&conf).unwrap();
        session.call(CONFIRM, &[label, &conf]).unwrap();
    }
    assert_eq!(leaf(session, label), ca.last_issued());
}

fn enrolled(kind: KeyKind, confirm: ConfirmMode) -> (Ca, Device) {
    let ca = Ca::new(kind, confirm);
    let device = Device::new(1, &ca);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    complete(&ca, &session, b"web", &request);
    drop(session);
    (ca, device)
}

fn leaf(session: &Session<'_>, label: &[u8]) -> Vec<u8> {
    session.call_format(GET_CERTIFICATE, label, 1).unwrap()
}

fn status(session: &Session<'_>, label: &[u8], key: u64) -> Value {
    let bytes = session.call(STATUS, &[label]).unwrap();
    let Value::Map(entries) = cbor::decode(&bytes, 2).unwrap() else {
        panic!("not a map")
    };
    let mut entries = entries.into_iter();
    let found = entries.find(|(k, _)| cbor::uint(k, "key").unwrap() == key);
    found.unwrap().1
}

fn number(session: &Session<'_>, key: u64) -> u64 {
    cbor::uint(&status(session, b"web", key), "number").unwrap()
}

const RENEW_AT: u64 = 4;
const DUE: u64 = 6;
const TIME: u64 = 11;

fn due(session: &Session<'_>) -> bool {
    status(session, b"web", DUE) == Value::Bool(true)
}

#[test]
fn the_key_that_serves_asks_for_the_next_one() {
    for key_kind in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519] {
        for confirm in [ConfirmMode::Explicit, ConfirmMode::Implicit] {
            let (ca, device) = enrolled(key_kind, confirm);
            let session = device.open(&ALICE).unwrap();
            // Again and again: each certificate asks for the one that follows it.
            for _ in 0..3 {
                let old = leaf(&session, b"web");
                let request = session.call(BEGIN, &[b"web"]).unwrap();
                assert_eq!(kind(&request), BodyKind::Kur);
                let message = UnverifiedPkiMessage::from_der(&request).unwrap();
                assert_eq!(message.extra_certs()[0].as_bytes(), old);
                complete(&ca, &session, b"web", &request);
                assert_ne!(leaf(&session, b"web"), old);
            }
        }
    }
}

#[test]
fn a_lie_in_the_answer_leaves_the_old_key_serving() {
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let session = device.open(&ALICE).unwrap();
    let old = leaf(&session, b"web");
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    // Some end the request: the CA's own refusal of a kur, and a certificate that will never do.
    let refusals = [Tamper::Rejected, Tamper::Revoked];
    let ends = |t: &Tamper| refusals.contains(t) || Tamper::WRONG_CERTIFICATE.contains(t);
    for tamper in Tamper::ALL.into_iter().filter(|t| !ends(t)) {
        let answer = ca.answer(&request, &[tamper]).unwrap();
        let before = device.storage();
        let expected = match tamper {
            Tamper::Unavailable | Tamper::ErrorMessage => TEE_ERROR_ACCESS_DENIED,
            _ => TEE_ERROR_SECURITY,
        };
        let refused = session.call(FINISH, &[b"web", &answer]);
        assert_eq!(refused, Err(expected), "{tamper:?}");
        assert_eq!(device.storage(), before, "{tamper:?} left a trace");
        assert_eq!(leaf(&session, b"web"), old);
    }
    assert_eq!(session.call(BEGIN, &[b"web"]).unwrap(), request);
    complete(&ca, &session, b"web", &request);
}

#[test]
fn a_bit_flipped_anywhere_in_a_kup_is_refused() {
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    let kup = ca.answer(&request, &[]).unwrap();
    let before = device.storage();
    let signed = kup.len() - ca.issuing_der().len();
    for at in (0..signed).step_by(7) {
        let mut bad = kup.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(session.call(FINISH, &[b"web", &bad]).is_err(), "bit {at}");
    }
    for len in (0..kup.len()).step_by(41) {
        assert!(session.call(FINISH, &[b"web", &kup[..len]]).is_err());
    }
    assert_eq!(device.storage(), before);
    assert!(session.call(FINISH, &[b"web", &kup]).is_ok());
}

#[test]
fn an_answer_to_an_earlier_renewal_or_another_label_is_none() {
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let session = device.open(&ALICE).unwrap();
    let first = session.call(BEGIN, &[b"web"]).unwrap();
    complete(&ca, &session, b"web", &first);
    let old = ca.last_cp();
    let next = session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(
        session.call(FINISH, &[b"web", &old]),
        Err(TEE_ERROR_SECURITY)
    );
    complete(&ca, &session, b"web", &next);
    // Of another label, and of another owner's label of that name.
    let bob = device.open(&BOB).unwrap();
    let request = bob.call(BEGIN, &[b"web"]).unwrap();
    complete(&ca, &bob, b"web", &request);
    let request = bob.call(BEGIN, &[b"web"]).unwrap();
    let his = ca.answer(&request, &[]).unwrap();
    session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(
        session.call(FINISH, &[b"web", &his]),
        Err(TEE_ERROR_SECURITY)
    );
}

#[test]
fn a_key_that_only_agrees_renews_by_the_release() {
    let ca = Ca::of_several(KeyKind::P256, ConfirmMode::Explicit);
    let device = Device::new(1, &ca);
    let session = device.open(&ALICE).unwrap();
    for (profile, renews_by) in [
        ("device", BodyKind::Kur),
        ("both", BodyKind::Kur),
        ("agreement", BodyKind::P10cr),
    ] {
        let label = profile.as_bytes();
        let request = session.call(BEGIN, &[label, label]).unwrap();
        assert_eq!(kind(&request), BodyKind::P10cr);
        complete(&ca, &session, label, &request);
        let request = session.call(BEGIN, &[label]).unwrap();
        assert_eq!(kind(&request), renews_by, "{profile}");
        complete(&ca, &session, label, &request);
    }
}

#[test]
fn a_power_cut_anywhere_leaves_one_good_certificate() {
    for confirm in [ConfirmMode::Explicit, ConfirmMode::Implicit] {
        for crash in [Crash::Lost, Crash::Kept] {
            let mut cuts = 0;
            for at in 0.. {
                let (ca, device) = enrolled(KeyKind::P256, confirm);
                let session = device.open(&ALICE).unwrap();
                let old = leaf(&session, b"web");
                device.platform.crash_at(at, crash);
                // As far as it gets; the CA answers whatever arrives there.
                let renew = || -> Result<(), u32> {
                    let request = session.call(BEGIN, &[b"web"])?;
                    let answer = ca.answer(&request, &[]).unwrap();
                    let conf = session.call(FINISH, &[b"web", &answer])?;
                    if !conf.is_empty() {
                        let conf = ca.confirm(&conf).unwrap();
                        session.call(CONFIRM, &[b"web", &conf])?;
                    }
                    Ok(())
                };
                let renewed = renew();
                let died = device.platform.is_dead();
                drop(session);
                let device = device.rebooted();
                let session = device.open(&ALICE).unwrap();
                let now = leaf(&session, b"web");
                let (message, digest) = support::digest_for(KeyKind::P256, b"it serves");
                let signature = session.call(SIGN, &[b"web", &digest]).unwrap();
                let spki = CertView::from_der(&now).unwrap().spki_der;
                support::verify(spki, &message, &signature);
                if now == old {
                    // It goes on, with the request that was made or with a new one.
                    let request = session.call(BEGIN, &[b"web"]).unwrap();
                    assert_eq!(kind(&request), BodyKind::Kur);
                    complete(&ca, &session, b"web", &request);
                } else {
                    assert_eq!(now, ca.last_issued());
                }
                assert_ne!(leaf(&session, b"web"), old);
                if !died {
                    renewed.unwrap();
                    break;
                }
                cuts += 1;
            }
            assert!(cuts > 5, "a renewal has several writes");
        }
    }
}

#[test]
fn another_csr_auth_key_does_not_disturb_a_renewal() {
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    drop(session);
    let device = device.with_release_of(&ca, [0x77; 32]);
    let session = device.open(&ALICE).unwrap();
    assert_eq!(session.call(BEGIN, &[b"web"]).unwrap(), request);
    complete(&ca, &session, b"web", &request);
    // What the old release asked for with its own secret is begun anew.
    let first = session.call(BEGIN, &[b"new"]).unwrap();
    drop(session);
    let device = device.with_release_of(&ca, [0x78; 32]);
    let session = device.open(&ALICE).unwrap();
    assert_ne!(session.call(BEGIN, &[b"new"]).unwrap(), first);
}

#[test]
fn what_the_ca_refuses_to_the_certificate_the_release_asks_for() {
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let session = device.open(&ALICE).unwrap();
    let old = leaf(&session, b"web");
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    let key = ca.requested_key(&request);
    let refusal = ca.answer(&request, &[Tamper::Rejected]).unwrap();
    let denied = Err(TEE_ERROR_ACCESS_DENIED);
    assert_eq!(session.call(FINISH, &[b"web", &refusal]), denied);
    let anew = session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(kind(&anew), BodyKind::P10cr);
    assert_eq!(ca.requested_key(&anew), key, "for the same new key");
    // The refusal again, and one of the p10cr, change nothing more.
    let again = session.call(FINISH, &[b"web", &refusal]);
    assert_eq!(again, Err(TEE_ERROR_SECURITY));
    let refusal = ca.answer(&anew, &[Tamper::Rejected]).unwrap();
    assert_eq!(session.call(FINISH, &[b"web", &refusal]), denied);
    assert_eq!(session.call(BEGIN, &[b"web"]).unwrap(), anew);
    assert_eq!(leaf(&session, b"web"), old, "the old one serves");
    complete(&ca, &session, b"web", &anew);
    let next = session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(kind(&next), BodyKind::Kur);
}

#[test]
fn whether_the_certificate_has_ended_the_ca_says() {
    // By the REE's clock alone it has not: it is to be replaced.
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let session = device.open(&ALICE).unwrap();
    device.platform.set_ree_ms((NOW + 2 * YEAR) * 1000);
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(kind(&request), BodyKind::Kur);
    complete(&ca, &session, b"web", &request);

    // Nor by what the CA once signed.
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    device.platform.set_ree_ms(0);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(kind(&request), BodyKind::Kur);
    ca.now.set(NOW + 2 * YEAR);
    let refusal = ca.answer(&request, &[Tamper::ErrorMessage]).unwrap();
    let refused = session.call(FINISH, &[b"web", &refusal]);
    assert_eq!(refused, Err(TEE_ERROR_ACCESS_DENIED));
    // Anybody on the way can provoke an error; only the owner gives the request up. Then the release
    // asks, for the same key.
    assert_eq!(session.call(BEGIN, &[b"web"]).unwrap(), request);
    session.call_format(DELETE, b"web", 1).unwrap();
    let anew = session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(kind(&anew), BodyKind::P10cr);
    assert_eq!(ca.requested_key(&anew), ca.requested_key(&request));
    // That given up, too, the certificate asks again.
    session.call_format(DELETE, b"web", 1).unwrap();
    let again = session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(kind(&again), BodyKind::Kur);
    assert_ne!(ca.requested_key(&again), ca.requested_key(&request));
    session.call_format(DELETE, b"web", 1).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(kind(&request), BodyKind::P10cr);
    complete(&ca, &session, b"web", &request);
    // What has not ended is given up without a trace.
    let first = session.call(BEGIN, &[b"web"]).unwrap();
    session.call_format(DELETE, b"web", 1).unwrap();
    let none = session.call_format(DELETE, b"web", 1);
    assert_eq!(none, Err(TEE_ERROR_ITEM_NOT_FOUND));
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(
        (kind(&first), kind(&request)),
        (BodyKind::Kur, BodyKind::Kur)
    );
}

/// For an hour the CA's clock is ahead by more than a certificate lasts. The TA never forgets that time;
/// still each certificate asks for the one that takes its place, so that one at a time lives.
#[test]
fn a_ca_whose_clock_was_ahead_once_leaves_one_certificate() {
    let ahead = NOW + 400 * DAY;
    for lie in [Tamper::ErrorMessage, Tamper::Unavailable, Tamper::Rejected] {
        let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
        device.platform.set_ree_ms(0);
        let session = device.open(&ALICE).unwrap();
        let request = session.call(BEGIN, &[b"web"]).unwrap();
        ca.now.set(ahead);
        let told = ca.answer(&request, &[lie]).unwrap();
        let told = session.call(FINISH, &[b"web", &told]);
        assert_eq!(told, Err(TEE_ERROR_ACCESS_DENIED), "{lie:?}");
        assert_eq!(number(&session, TIME), ahead);
        if lie == Tamper::Rejected {
            // By the CA's clock it had ended; what the release asked for then had no success either.
            let anew = session.call(BEGIN, &[b"web"]).unwrap();
            assert_eq!(kind(&anew), BodyKind::P10cr);
            let refusal = ca.answer(&anew, &[lie]).unwrap();
            let refused = session.call(FINISH, &[b"web", &refusal]);
            assert_eq!(refused, Err(TEE_ERROR_ACCESS_DENIED));
            session.call_format(DELETE, b"web", 1).unwrap();
        }
        for days in 1..4 {
            ca.now.set(NOW + days * DAY);
            assert!(due(&session), "by what the CA signed it ended long ago");
            let old = leaf(&session, b"web");
            let request = session.call(BEGIN, &[b"web"]).unwrap();
            assert_eq!(kind(&request), BodyKind::Kur, "{lie:?}");
            let message = UnverifiedPkiMessage::from_der(&request).unwrap();
            assert_eq!(message.extra_certs()[0].as_bytes(), old);
            complete(&ca, &session, b"web", &request);
        }
        assert_eq!(number(&session, TIME), ahead);
    }
}

#[test]
fn a_device_without_a_clock_knows_when_to_renew() {
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    device.platform.set_ree_ms(0);
    let session = device.open(&ALICE).unwrap();
    assert_eq!(number(&session, TIME), NOW);
    assert!(!due(&session));
    // The TEE's own clock carries it on, over restarts too.
    for _ in 0..4 {
        device.platform.advance_ms(80 * DAY * 1000);
        session.call(STATUS, &[b"web"]).unwrap();
        device.platform.restart_clock();
        assert_eq!(number(&session, TIME) % DAY, NOW % DAY);
    }
    assert_eq!(number(&session, TIME), NOW + 320 * DAY);
    assert!(!due(&session));
    device.platform.advance_ms(31 * DAY * 1000);
    assert!(due(&session));
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    ca.now.set(NOW + 352 * DAY);
    complete(&ca, &session, b"web", &request);
    assert!(!due(&session));
    drop(session);
    let device = device.rebooted();
    let session = device.open(&ALICE).unwrap();
    assert_eq!(number(&session, TIME), NOW + 352 * DAY);
}

#[test]
fn a_ca_whose_clock_goes_back_does_no_harm() {
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    device.platform.set_ree_ms(0);
    let session = device.open(&ALICE).unwrap();
    for now in [NOW + 100 * DAY, NOW + 50 * DAY, NOW - 300 * DAY] {
        ca.now.set(now);
        let request = session.call(BEGIN, &[b"web"]).unwrap();
        complete(&ca, &session, b"web", &request);
        assert_eq!(number(&session, TIME), NOW + 100 * DAY, "never backwards");
    }
    // What is not authentic does not move it forward either.
    ca.now.set(NOW + 300 * DAY);
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    for lie in [
        Tamper::ForeignProtection,
        Tamper::NotSigned,
        Tamper::OtherNonce,
    ] {
        let answer = ca.answer(&request, &[lie]).unwrap();
        assert!(session.call(FINISH, &[b"web", &answer]).is_err());
        assert_eq!(number(&session, TIME), NOW + 100 * DAY);
    }
}

#[test]
fn the_signed_time_is_written_seldom() {
    let (_, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    device.platform.set_ree_ms(0);
    let session = device.open(&ALICE).unwrap();
    let mut written = 0;
    // A look each hour for ten days.
    for _ in 0..240 {
        device.platform.advance_ms(3_600_000);
        let before = device.storage();
        session.call(STATUS, &[b"web"]).unwrap();
        written += u32::from(device.storage() != before);
    }
    assert_eq!(written, 40, "after each six hours");
    assert_eq!(number(&session, TIME), NOW + 10 * DAY);
}

#[test]
fn each_device_and_certificate_has_its_own_moment() {
    let ca = Ca::new(KeyKind::P256, ConfirmMode::Explicit);
    let mut moments = std::collections::BTreeSet::new();
    for seed in 1..=4 {
        let device = Device::new(seed, &ca);
        let session = device.open(&ALICE).unwrap();
        for _ in 0..3 {
            let request = session.call(BEGIN, &[b"web"]).unwrap();
            complete(&ca, &session, b"web", &request);
            let at = number(&session, RENEW_AT);
            let ends = NOW + YEAR;
            assert!((ends - WINDOW..ends - WINDOW / 2).contains(&at), "{at}");
            assert_eq!(number(&session, RENEW_AT), at, "the same each time");
            moments.insert(at);
        }
    }
    assert_eq!(moments.len(), 12);
}

#[test]
fn without_its_certificate_a_request_of_it_is_given_up() {
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    let answer = ca.answer(&request, &[]).unwrap();
    // DELETE takes the certificate first: power is lost between its two steps.
    device.platform.crash_at(1, Crash::Lost);
    assert!(session.call(DELETE, &[b"web"]).is_err());
    drop(session);
    let device = device.rebooted();
    let session = device.open(&ALICE).unwrap();
    let none = session.call_format(GET_CERTIFICATE, b"web", 1);
    assert_eq!(none, Err(TEE_ERROR_ITEM_NOT_FOUND));
    let finished = session.call(FINISH, &[b"web", &answer]);
    assert_eq!(finished, Err(TEE_ERROR_BAD_STATE));
    let anew = session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(kind(&anew), BodyKind::P10cr);
    complete(&ca, &session, b"web", &anew);
}
