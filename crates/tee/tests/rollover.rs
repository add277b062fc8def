//! A new issuing CA, or a new root, while devices are out: by the enrolment TA as it is released.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // Tests.

#[path = "support/mod.rs"]
mod support;

use support::ca::{Ca, Tamper};
use support::{ALICE, Device, Session};
use tegata_tee::gp::consts::*;
use tegata_wire::cmp::{BodyKind, UnverifiedPkiMessage};
use tegata_wire::enrolment::{ConfirmMode, KeyKind};
use tegata_wire::x509::CertView;

const BEGIN: u32 = 1;
const FINISH: u32 = 2;
const CONFIRM: u32 = 3;
const GET_CERTIFICATE: u32 = 4;

/// From a request on to the end; gives the chain, leaf first.
fn complete(ca: &Ca, session: &Session<'_>, request: &[u8]) -> Vec<Vec<u8>> {
    let answer = ca.answer(request, &[]).unwrap();
    let conf = session.call(FINISH, &[b"web", &answer]).unwrap();
    if !conf.is_empty() {
        let conf = ca.confirm(&conf).unwrap();
        session.call(CONFIRM, &[b"web", &conf]).unwrap();
    }
    let chain = chain(session);
    assert_eq!(chain[0], ca.last_issued());
    chain
}

/// Leaf and issuers, one after another.
fn chain(session: &Session<'_>) -> Vec<Vec<u8>> {
    let mut rest = &session.call_format(GET_CERTIFICATE, b"web", 2).unwrap()[..];
    let mut found = Vec::new();
    while let [0x30, 0x82, high, low, ..] = *rest {
        let (one, more) = rest.split_at(4 + usize::from(u16::from_be_bytes([high, low])));
        found.push(one.to_vec());
        rest = more;
    }
    assert!(rest.is_empty());
    found
}

fn enrolled(kind: KeyKind, confirm: ConfirmMode) -> (Ca, Device) {
    let ca = Ca::new(kind, confirm);
    let device = Device::new(1, &ca);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    complete(&ca, &session, &request);
    drop(session);
    (ca, device)
}

#[test]
fn a_device_that_knows_the_first_root_alone_renews_across_every_rollover() {
    for key_kind in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519] {
        for confirm in [ConfirmMode::Explicit, ConfirmMode::Implicit] {
            let (mut ca, device) = enrolled(key_kind, confirm);
            let session = device.open(&ALICE).unwrap();
            // An issuing CA, a root, an issuing CA, another root: the device is never touched.
            for new_root in [false, true, false, true] {
                ca = ca.rolled_over(new_root);
                let old = chain(&session)[0].clone();
                let request = session.call(BEGIN, &[b"web"]).unwrap();
                let asked = UnverifiedPkiMessage::from_der(&request).unwrap();
                assert_eq!(asked.kind(), BodyKind::Kur);
                assert_eq!(asked.extra_certs()[0].as_bytes(), old);
                let chain = complete(&ca, &session, &request);
                // What it shows to others leads to the root that it was released with.
                let issuers = [vec![ca.issuing_der().to_vec()], ca.links()].concat();
                assert_eq!(chain[1..], issuers);
            }
        }
    }
}

#[test]
fn a_device_released_after_a_rollover_knows_both_roots() {
    let (ca, old_device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let ca = ca.rolled_over(true);
    assert_eq!(ca.procedure().trust_anchors.len(), 2);
    let device = Device::new(2, &ca);
    let session = device.open(&ALICE).unwrap();
    for _ in 0..2 {
        let request = session.call(BEGIN, &[b"web"]).unwrap();
        let chain = complete(&ca, &session, &request);
        assert_eq!(chain[1..], [ca.issuing_der().to_vec()], "no link is needed");
    }
    // And the old one beside it.
    let session = old_device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(complete(&ca, &session, &request).len(), 3);
}

#[test]
fn a_new_root_that_the_old_one_does_not_vouch_for_is_nobody() {
    let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
    let ca = ca.rolled_over(true);
    let session = device.open(&ALICE).unwrap();
    let old = chain(&session);
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    let before = device.storage();
    for lies in [
        &[Tamper::NoLink][..],
        &[Tamper::NoIssuer],
        &[Tamper::NoIssuer, Tamper::NoLink],
    ] {
        let answer = ca.answer(&request, lies).unwrap();
        let refused = session.call(FINISH, &[b"web", &answer]);
        assert_eq!(refused, Err(TEE_ERROR_SECURITY), "{lies:?}");
    }
    // Another CA of the same names, whose links are its own.
    let other = Ca::new(KeyKind::P256, ConfirmMode::Explicit).rolled_over(true);
    let names = |ca: &Ca| {
        CertView::from_der(ca.issuing_der())
            .unwrap()
            .subject_der
            .to_vec()
    };
    assert_eq!(names(&other), names(&ca));
    other.knows_what(&ca);
    let answer = other.answer(&request, &[]).unwrap();
    let refused = session.call(FINISH, &[b"web", &answer]);
    assert_eq!(refused, Err(TEE_ERROR_SECURITY));
    assert_eq!(device.storage(), before, "a refusal left a trace");
    assert_eq!(chain(&session), old);
    complete(&ca, &session, &request);
}

#[test]
fn a_rollover_between_answer_and_confirmation() {
    for new_root in [false, true] {
        let (ca, device) = enrolled(KeyKind::P256, ConfirmMode::Explicit);
        let session = device.open(&ALICE).unwrap();
        let request = session.call(BEGIN, &[b"web"]).unwrap();
        let answer = ca.answer(&request, &[]).unwrap();
        let conf = session.call(FINISH, &[b"web", &answer]).unwrap();
        let (first, issued) = (ca.issuing_der().to_vec(), ca.last_issued());
        let ca = ca.rolled_over(new_root);
        let confirmed = ca.confirm(&conf).unwrap();
        session.call(CONFIRM, &[b"web", &confirmed]).unwrap();
        assert_eq!(chain(&session), [issued, first]);
    }
}
