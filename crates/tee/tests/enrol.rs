//! The enrolment TA against a small CA with real keys: the whole exchange, and attacks on it.
//!
//! The TA is the checked-in module, run in-process; `TEGATA_ENROL_WASM` names a rebuilt one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // Tests.

#[path = "support/mod.rs"]
mod support;

use support::ca::{Ca, Tamper};
use support::{ALICE, BOB, Device};
use tegata_tee::gp::consts::*;
use tegata_tee::session::{Caller, ClientIdentity};
use tegata_tee::testing::Crash;
use tegata_wire::enrolment::{ConfirmMode, KeyKind};
use tegata_wire::x509::CertView;

const BEGIN: u32 = 1;
const FINISH: u32 = 2;
const CONFIRM: u32 = 3;
const GET_CERTIFICATE: u32 = 4;
const SIGN: u32 = 5;
const LIST: u32 = 6;
const DELETE: u32 = 7;
const GET_PUBLIC_KEY: u32 = 8;
const STATUS: u32 = 9;
const AGREE: u32 = 10;

fn enrolled(kind: KeyKind, confirm: ConfirmMode) -> (Ca, Device) {
    let ca = Ca::new(kind, confirm);
    let device = Device::new(1, &ca);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web", b""]).unwrap();
    let cp = ca.answer(&request, &[]).unwrap();
    let confirm_message = session.call(FINISH, &[b"web", &cp]).unwrap();
    if confirm == ConfirmMode::Explicit {
        let conf = ca.confirm(&confirm_message).unwrap();
        session.call(CONFIRM, &[b"web", &conf]).unwrap();
    } else {
        assert!(
            confirm_message.is_empty(),
            "implicit confirmation was granted"
        );
    }
    drop(session);
    (ca, device)
}

#[test]
fn a_certificate_is_enrolled_used_and_renewed_with_every_key_kind() {
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519] {
        for confirm in [ConfirmMode::Explicit, ConfirmMode::Implicit] {
            let (ca, device) = enrolled(kind, confirm);
            let session = device.open(&ALICE).unwrap();
            let leaf = session.call_format(GET_CERTIFICATE, b"web", 1).unwrap();
            let view = CertView::from_der(&leaf).unwrap();
            assert_eq!(leaf, ca.last_issued());
            assert_eq!(
                session.call(GET_PUBLIC_KEY, &[b"web"]).unwrap(),
                view.spki_der
            );
            let pem = session.call_format(GET_CERTIFICATE, b"web", 0).unwrap();
            assert!(pem.starts_with(b"-----BEGIN CERTIFICATE-----"));

            let (message, digest) = support::digest_for(kind, b"to be signed");
            let signature = session.call(SIGN, &[b"web", &digest]).unwrap();
            support::verify(view.spki_der, &message, &signature);

            // The next certificate, with a new key; the old one works until it is confirmed.
            let request = session.call(BEGIN, &[b"web"]).unwrap();
            assert_eq!(
                request,
                session.call(BEGIN, &[b"web"]).unwrap(),
                "retries are the same"
            );
            let cp = ca.answer(&request, &[]).unwrap();
            assert_eq!(
                session.call_format(GET_CERTIFICATE, b"web", 1).unwrap(),
                leaf
            );
            let conf = session.call(FINISH, &[b"web", &cp]).unwrap();
            if confirm == ConfirmMode::Explicit {
                assert_eq!(
                    session.call_format(GET_CERTIFICATE, b"web", 1).unwrap(),
                    leaf
                );
                assert_eq!(conf, session.call(FINISH, &[b"web", &cp]).unwrap());
                let pki_conf = ca.confirm(&conf).unwrap();
                session.call(CONFIRM, &[b"web", &pki_conf]).unwrap();
                // A lost answer costs nothing.
                session.call(CONFIRM, &[b"web", &pki_conf]).unwrap();
            } else {
                assert!(session.call(FINISH, &[b"web", &cp]).unwrap().is_empty());
            }
            assert_ne!(
                session.call_format(GET_CERTIFICATE, b"web", 1).unwrap(),
                leaf
            );
            session.call(DELETE, &[b"web"]).unwrap();
            let gone = session.call(SIGN, &[b"web", &digest]);
            assert_eq!(gone, Err(TEE_ERROR_ITEM_NOT_FOUND));
        }
    }
}

#[test]
fn keys_and_certificates_outlive_the_instance_and_the_machine() {
    let (_, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let leaf = device
        .open(&ALICE)
        .unwrap()
        .call_format(GET_CERTIFICATE, b"web", 1)
        .unwrap();
    let device = device.rebooted();
    let session = device.open(&ALICE).unwrap();
    assert_eq!(
        session.call_format(GET_CERTIFICATE, b"web", 1).unwrap(),
        leaf
    );
    let (message, digest) = support::digest_for(KeyKind::P256, b"after reboot");
    let signature = session.call(SIGN, &[b"web", &digest]).unwrap();
    support::verify(
        CertView::from_der(&leaf).unwrap().spki_der,
        &message,
        &signature,
    );
    assert!(!session.call(STATUS, &[b"web"]).unwrap().is_empty());
    assert!(!session.call(LIST, &[]).unwrap().is_empty());
}

#[test]
fn another_caller_finds_nothing() {
    let (_, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let other = device.open(&BOB).unwrap();
    for command in [
        SIGN,
        AGREE,
        GET_CERTIFICATE,
        GET_PUBLIC_KEY,
        STATUS,
        DELETE,
        FINISH,
        CONFIRM,
    ] {
        let parts: &[&[u8]] = match command {
            SIGN | AGREE | FINISH | CONFIRM => &[b"web", &[0; 32]],
            _ => &[b"web"],
        };
        let foreign = other.call(command, parts);
        let none: &[&[u8]] = &[b"nothing", &[0; 32]];
        let missing = other.call(command, &none[..parts.len()]);
        assert_eq!(foreign, Err(TEE_ERROR_ITEM_NOT_FOUND), "command {command}");
        assert_eq!(foreign, missing, "a foreign key looks like a missing one");
    }
    assert_eq!(other.call(LIST, &[]).unwrap(), [0x80], "an empty list");
    // The same user by another login is another owner.
    let group = Caller {
        owner: 9,
        client: ClientIdentity::group(1000),
    };
    let session = device.open(&group).unwrap();
    assert_eq!(
        session.call(SIGN, &[b"web", &[0; 32]]),
        Err(TEE_ERROR_ITEM_NOT_FOUND)
    );
    // And nobody in particular owns nothing.
    let public = Caller {
        owner: 10,
        client: ClientIdentity::public(),
    };
    let session = device.open(&public).unwrap();
    assert_eq!(session.call(BEGIN, &[b"web"]), Err(TEE_ERROR_ACCESS_DENIED));
}

#[test]
fn what_is_not_the_cas_answer_changes_nothing() {
    let ca = Ca::new(KeyKind::P256, ConfirmMode::Explicit);
    let device = Device::new(1, &ca);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    // The first message that is the CA's tells the time, whatever it says.
    let refusal = ca.answer(&request, &[Tamper::Rejected]).unwrap();
    let refused = session.call(FINISH, &[b"web", &refusal]);
    assert_eq!(refused, Err(TEE_ERROR_ACCESS_DENIED));
    // What the CA says for good is something else: it ends the request.
    let ends = |t: &Tamper| Tamper::WRONG_CERTIFICATE.contains(t) || *t == Tamper::Revoked;
    for tamper in Tamper::ALL.into_iter().filter(|t| !ends(t)) {
        let cp = ca.answer(&request, &[tamper]).unwrap();
        let before = device.storage();
        let refused = session.call(FINISH, &[b"web", &cp]);
        let expected = match tamper {
            Tamper::Rejected | Tamper::Unavailable | Tamper::ErrorMessage => {
                TEE_ERROR_ACCESS_DENIED
            }
            _ => TEE_ERROR_SECURITY,
        };
        assert_eq!(refused, Err(expected), "{tamper:?}");
        assert_eq!(device.storage(), before, "{tamper:?} left a trace");
        let none = session.call_format(GET_CERTIFICATE, b"web", 1);
        assert_eq!(
            none,
            Err(TEE_ERROR_ITEM_NOT_FOUND),
            "{tamper:?} installed something"
        );
    }
    // After all that the true answer is still taken.
    let cp = ca.answer(&request, &[]).unwrap();
    let conf = session.call(FINISH, &[b"web", &cp]).unwrap();
    let pki_conf = ca.confirm(&conf).unwrap();
    session.call(CONFIRM, &[b"web", &pki_conf]).unwrap();
}

#[test]
fn a_bit_flipped_anywhere_in_a_response_is_refused() {
    let ca = Ca::new(KeyKind::P256, ConfirmMode::Explicit);
    let device = Device::new(1, &ca);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    let cp = ca.answer(&request, &[]).unwrap();
    let before = device.storage();
    // Every byte of the signed part and the signature; extraCerts at the end are only hints.
    let signed = cp.len() - ca.issuing_der().len();
    for at in (0..signed).step_by(7) {
        let mut bad = cp.clone();
        bad[at] ^= 1 << (at % 8);
        let refused = session.call(FINISH, &[b"web", &bad]);
        assert!(refused.is_err(), "bit at {at} of {signed}");
    }
    for len in (0..cp.len()).step_by(41) {
        assert!(
            session.call(FINISH, &[b"web", &cp[..len]]).is_err(),
            "cut at {len}"
        );
    }
    assert!(
        session
            .call(FINISH, &[b"web", &vec![0x30; 70_000]])
            .is_err()
    );
    assert_eq!(device.storage(), before);
    assert!(session.call(FINISH, &[b"web", &cp]).is_ok());
}

#[test]
fn an_old_response_is_not_an_answer_to_a_new_request() {
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let old = ca.last_cp();
    let session = device.open(&ALICE).unwrap();
    session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(
        session.call(FINISH, &[b"web", &old]),
        Err(TEE_ERROR_SECURITY)
    );
    // Nor for another label.
    session.call(BEGIN, &[b"mqtt"]).unwrap();
    assert_eq!(
        session.call(FINISH, &[b"mqtt", &old]),
        Err(TEE_ERROR_SECURITY)
    );
}

#[test]
fn a_false_confirmation_does_not_install() {
    let ca = Ca::new(KeyKind::P256, ConfirmMode::Explicit);
    let evil = Ca::new(KeyKind::P256, ConfirmMode::Explicit);
    let device = Device::new(1, &ca);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(
        session.call(CONFIRM, &[b"web", b""]),
        Err(TEE_ERROR_BAD_STATE)
    );
    let conf = session
        .call(FINISH, &[b"web", &ca.answer(&request, &[]).unwrap()])
        .unwrap();
    let forged = evil.confirm(&conf).unwrap();
    assert_eq!(
        session.call(CONFIRM, &[b"web", &forged]),
        Err(TEE_ERROR_SECURITY)
    );
    let cp = ca.last_cp();
    assert_eq!(
        session.call(CONFIRM, &[b"web", &cp]),
        Err(TEE_ERROR_SECURITY)
    );
    let none = session.call_format(GET_CERTIFICATE, b"web", 1);
    assert_eq!(none, Err(TEE_ERROR_ITEM_NOT_FOUND));
    session
        .call(CONFIRM, &[b"web", &ca.confirm(&conf).unwrap()])
        .unwrap();
}

#[test]
fn another_devices_personalization_is_refused() {
    let ca = Ca::new(KeyKind::P256, ConfirmMode::Explicit);
    let device = Device::with_config_of(1, 2, &ca);
    let session = device.open(&ALICE).unwrap();
    assert_eq!(session.call(BEGIN, &[b"web"]), Err(TEE_ERROR_BAD_STATE));
}

#[test]
fn another_profile_or_label_is_refused() {
    let ca = Ca::new(KeyKind::P256, ConfirmMode::Explicit);
    let device = Device::new(1, &ca);
    let session = device.open(&ALICE).unwrap();
    let other = session.call(BEGIN, &[b"web", b"another profile"]);
    assert_eq!(other, Err(TEE_ERROR_ITEM_NOT_FOUND));
    assert_eq!(session.call(BEGIN, &[b""]), Err(TEE_ERROR_BAD_PARAMETERS));
    assert_eq!(
        session.call(BEGIN, &[&[b'x'; 65]]),
        Err(TEE_ERROR_BAD_PARAMETERS)
    );
    assert_eq!(
        session.call(BEGIN, &[b"a\nb"]),
        Err(TEE_ERROR_BAD_PARAMETERS)
    );
    assert_eq!(session.call(99, &[b"web"]), Err(TEE_ERROR_NOT_SUPPORTED));
    assert_eq!(session.call(0, &[b"web"]), Err(TEE_ERROR_NOT_SUPPORTED));
}

#[test]
fn a_certificate_that_will_never_do_does_not_block_the_label() {
    for tamper in Tamper::WRONG_CERTIFICATE {
        never_does(tamper);
    }
    // A predicate of the operator's hit it before it was there.
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"new"]).unwrap();
    let revoked = ca.answer(&request, &[Tamper::Revoked]).unwrap();
    let refused = session.call(FINISH, &[b"new", &revoked]);
    assert_eq!(refused, Err(TEE_ERROR_ACCESS_DENIED));
    assert_ne!(session.call(BEGIN, &[b"new"]).unwrap(), request);
}

/// The CA says `tamper` of the certificate of a label, and would say it for ever.
fn never_does(tamper: Tamper) {
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let session = device.open(&ALICE).unwrap();
    let leaf = session.call_format(GET_CERTIFICATE, b"web", 1).unwrap();
    for label in [&b"web"[..], b"new"] {
        let request = session.call(BEGIN, &[label]).unwrap();
        // Not of this device, or not from the CA, or without its issuer: that changes nothing.
        for lies in [
            [tamper, Tamper::OtherKey],
            [tamper, Tamper::ForeignProtection],
            [tamper, Tamper::NoIssuer],
        ] {
            let cp = ca.answer(&request, &lies).unwrap();
            let refused = session.call(FINISH, &[label, &cp]);
            assert_eq!(refused, Err(TEE_ERROR_SECURITY));
            assert_eq!(session.call(BEGIN, &[label]).unwrap(), request);
        }
        let wrong = ca.answer(&request, &[tamper]).unwrap();
        let refused = session.call(FINISH, &[label, &wrong]);
        assert_eq!(refused, Err(TEE_ERROR_SECURITY), "{tamper:?}");
        let anew = session.call(BEGIN, &[label]).unwrap();
        assert_ne!(anew, request, "{tamper:?}");
        if label == b"web" {
            let now = session.call_format(GET_CERTIFICATE, label, 1).unwrap();
            assert_eq!(now, leaf, "what is in use stays");
        }
        let conf = session
            .call(FINISH, &[label, &ca.answer(&anew, &[]).unwrap()])
            .unwrap();
        let conf = ca.confirm(&conf).unwrap();
        session.call(CONFIRM, &[label, &conf]).unwrap();
    }
}

/// After a power cut at any write of an installation the label can go on: either with the request
/// that is not installed yet, or with a new one, but never again with one that was installed.
#[test]
fn a_power_cut_while_it_installs_leaves_a_label_that_can_go_on() {
    for crash in [Crash::Lost, Crash::Kept] {
        let mut cuts = 0;
        for at in 0.. {
            let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
            let session = device.open(&ALICE).unwrap();
            let request = session.call(BEGIN, &[b"web"]).unwrap();
            let cp = ca.answer(&request, &[]).unwrap();
            let conf = session.call(FINISH, &[b"web", &cp]).unwrap();
            let conf = ca.confirm(&conf).unwrap();
            device.platform.crash_at(at, crash);
            let confirmed = session.call(CONFIRM, &[b"web", &conf]);
            let died = device.platform.is_dead();
            drop(session);
            let device = device.rebooted();
            let session = device.open(&ALICE).unwrap();
            let leaf = session.call_format(GET_CERTIFICATE, b"web", 1).unwrap();
            let next = session.call(BEGIN, &[b"web"]).unwrap();
            if leaf == ca.last_issued() {
                assert_ne!(
                    next, request,
                    "{crash:?} at {at}: installed, and asked for again"
                );
            } else {
                assert_eq!(next, request, "{crash:?} at {at}");
                session.call(CONFIRM, &[b"web", &conf]).unwrap();
            }
            if !died {
                confirmed.unwrap();
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 3, "an installation has several writes");
    }
}

#[test]
fn what_was_accepted_is_not_given_up_for_what_comes_later() {
    let ca = Ca::new(KeyKind::P256, ConfirmMode::Explicit);
    let device = Device::new(1, &ca);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    let cp = ca.answer(&request, &[]).unwrap();
    let conf = session.call(FINISH, &[b"web", &cp]).unwrap();
    let longer = ca.answer(&request, &[Tamper::TooLong]).unwrap();
    let refused = session.call(FINISH, &[b"web", &longer]);
    assert_eq!(refused, Err(TEE_ERROR_SECURITY));
    let pki_conf = ca.confirm(&conf).unwrap();
    session.call(CONFIRM, &[b"web", &pki_conf]).unwrap();
}
