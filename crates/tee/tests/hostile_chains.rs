//! Chains above a certificate as somebody makes them who wants to be believed, in the manner of
//! x509-limbo, at the enrolment TA: the good answer of the CA with one thing changed in the certificates
//! beside it, by who has the keys to sign that. Each is refused, leaves no trace, and does not keep the
//! true answer from counting afterwards. The servers' verifier: crates/crypto/tests/hostile_chains.rs.
//!
//! Spec: RFC 5280 sections 4.1, 4.2 and 6.1.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // Tests.

#[path = "support/mod.rs"]
mod support;

use support::ca::{Ca, NOW, YEAR};
use support::raw::{Raw, common_name, with_certificates, with_more};
use support::{ALICE, Device, Session};
use tegata_crypto::PrivateKey;
use tegata_tee::gp::consts::*;
use tegata_wire::enrolment::{ConfirmMode, KeyKind};

const BEGIN: u32 = 1;
const FINISH: u32 = 2;
const CONFIRM: u32 = 3;
const GET_CERTIFICATE: u32 = 4;

const KINDS: [KeyKind; 3] = [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519];
const DAY: u64 = 86_400;

// Extensions, by the last arc of 2.5.29.
const KEY_USAGE: u8 = 15;
const BASIC_CONSTRAINTS: u8 = 19;
const NAME_CONSTRAINTS: u8 = 30;
const POLICY_CONSTRAINTS: u8 = 36;
const INHIBIT_ANY_POLICY: u8 = 54;
const NOBODYS: u8 = 99;
/// BasicConstraints: a CA; one with nothing below it.
const CA: &[u8] = &[0x30, 3, 1, 1, 0xff];
const CA_PATH_LEN_0: &[u8] = &[0x30, 6, 1, 1, 0xff, 2, 1, 0];

fn leaf(session: &Session<'_>) -> Vec<u8> {
    session.call_format(GET_CERTIFICATE, b"web", 1).unwrap()
}

fn install(ca: &Ca, session: &Session<'_>, answer: &[u8]) {
    let conf = session.call(FINISH, &[b"web", answer]).unwrap();
    let conf = ca.confirm(&conf).unwrap();
    session.call(CONFIRM, &[b"web", &conf]).unwrap();
    assert_eq!(leaf(session), ca.last_issued());
}

fn enrolled(kind: KeyKind) -> (Ca, Device) {
    let ca = Ca::new(kind, ConfirmMode::Explicit);
    let device = Device::new(1, &ca);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    install(&ca, &session, &ca.answer(&request, &[]).unwrap());
    drop(session);
    (ca, device)
}

/// What is wrong, and the certificates beside the answer.
type Case = (String, Vec<Vec<u8>>);

/// Each case is refused; then the true answer installs the next certificate.
fn refused(what: &str, ca: &Ca, device: &Device, cases: &[Case], good: &[Vec<u8>]) {
    let session = device.open(&ALICE).unwrap();
    let old = leaf(&session);
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    let answer = ca.answer(&request, &[]).unwrap();
    let before = device.storage();
    for (case, beside) in cases {
        let hostile = with_certificates(&answer, beside);
        let finished = session.call(FINISH, &[b"web", &hostile]);
        assert_eq!(finished, Err(TEE_ERROR_SECURITY), "{what}: {case}");
        assert_eq!(device.storage(), before, "{what}: {case} left a trace");
    }
    assert_eq!(leaf(&session), old, "{what}");
    assert_eq!(session.call(BEGIN, &[b"web"]).unwrap(), request, "{what}");
    install(ca, &session, &with_certificates(&answer, good));
}

/// A good CA certificate with one thing changed, signed by who is above it.
fn one_thing_changed(good: &Raw, by: &PrivateKey, another: &PrivateKey) -> Vec<Case> {
    let alg = match good.alg.len() {
        // Ed25519 in the place of ECDSA, ECDSA with SHA-256 in the place of Ed25519.
        8.. => vec![0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
        _ => vec![0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
    };
    let set = |arc, critical, value: &[u8]| good.clone().set(arc, critical, value);
    let with = |change: &dyn Fn(&mut Raw)| good.clone().with(|raw| change(raw));
    let changed = [
        ("expired", good.clone().valid(NOW - 2 * YEAR, NOW - 1)),
        ("not yet valid", good.clone().valid(NOW + 1, NOW + YEAR)),
        (
            "ends before it begins",
            good.clone().valid(NOW + DAY, NOW - DAY),
        ),
        (
            "no basicConstraints",
            good.clone().without(BASIC_CONSTRAINTS),
        ),
        ("no CA", set(BASIC_CONSTRAINTS, true, &[0x30, 0])),
        (
            "a CA that is not a DER boolean",
            set(BASIC_CONSTRAINTS, true, &[0x30, 3, 1, 1, 1]),
        ),
        (
            "a negative pathLen",
            set(BASIC_CONSTRAINTS, true, &[0x30, 6, 1, 1, 0xff, 2, 1, 0xff]),
        ),
        // digitalSignature; cRLSign; nothing.
        (
            "signs messages alone",
            set(KEY_USAGE, true, &[3, 2, 7, 0x80]),
        ),
        ("signs lists alone", set(KEY_USAGE, true, &[3, 2, 1, 0x02])),
        ("may do nothing", set(KEY_USAGE, true, &[3, 1, 0])),
        ("an unknown critical extension", set(NOBODYS, true, &[5, 0])),
        ("name constraints", set(NAME_CONSTRAINTS, true, &[0x30, 0])),
        (
            "name constraints that are not critical",
            set(NAME_CONSTRAINTS, false, &[0x30, 0]),
        ),
        (
            "policy constraints",
            set(POLICY_CONSTRAINTS, true, &[0x30, 3, 0x80, 1, 0]),
        ),
        (
            "inhibitAnyPolicy",
            set(INHIBIT_ANY_POLICY, true, &[2, 1, 0]),
        ),
        (
            "an extension twice",
            with(&|raw| {
                let extensions = raw.extensions.as_mut().unwrap();
                extensions.push(extensions[0].clone());
            }),
        ),
        (
            "version 1",
            with(&|raw| {
                raw.version.clear();
                raw.extensions = None;
            }),
        ),
        (
            "version 1 with extensions",
            with(&|raw| raw.version.clear()),
        ),
        ("version 2", with(&|raw| raw.version[4] = 1)),
        ("version 4", with(&|raw| raw.version[4] = 3)),
        ("serial number 0", with(&|raw| raw.serial = vec![2, 1, 0])),
        (
            "a negative serial number",
            with(&|raw| raw.serial = vec![2, 1, 0x80]),
        ),
        (
            "a serial number without octets",
            with(&|raw| raw.serial = vec![2, 0]),
        ),
        (
            "another signature algorithm",
            with(&|raw| raw.alg.clone_from(&alg)),
        ),
        (
            "an algorithm that nobody knows",
            with(&|raw| raw.alg = vec![0x30, 3, 6, 1, 0x2a]),
        ),
        (
            "another issuer's name",
            good.clone().under(&common_name("Another Root")),
        ),
        ("another key", good.clone().named(&good.subject, another)),
        (
            "a key that is none",
            with(&|raw| *raw.spki.last_mut().unwrap() ^= 1),
        ),
    ];
    let mut cases: Vec<Case> = changed
        .into_iter()
        .map(|(what, raw)| (what.to_owned(), vec![raw.signed(by)]))
        .collect();
    let mut altered = good.signed(by);
    *altered.last_mut().unwrap() ^= 1;
    let good_bytes = good.signed(by);
    cases.extend([
        ("an altered signature".to_owned(), vec![altered]),
        ("signed by a stranger".into(), vec![good.signed(another)]),
        (
            "a root of its own".into(),
            vec![good.clone().under(&good.subject).signed(another)],
        ),
        (
            "more behind its signature".into(),
            vec![with_more(&good_bytes, &[5, 0])],
        ),
        ("nothing".into(), vec![]),
    ]);
    cases
}

#[test]
fn an_issuing_ca_with_one_thing_changed() {
    for kind in KINDS {
        let (ca, device) = enrolled(kind);
        let good = Raw::of(ca.issuing_der());
        let cases = one_thing_changed(&good, ca.root_key(), &ca.another_key());
        let again = [good.signed(ca.root_key())];
        refused("issuing CA", &ca, &device, &cases, &again);
    }
}

/// The CA that answers is good; the one that issued the certificate is not.
#[test]
fn an_issuing_ca_beside_the_one_that_answers() {
    for kind in KINDS {
        let (ca, device) = enrolled(kind);
        let (key, another) = (ca.another_key(), ca.another_key());
        let good = Raw::of(ca.issuing_der()).named(&common_name("Second CA"), &key);
        let ca = ca.with_leaves_by(key, "Second CA");
        let answers = ca.issuing_der().to_vec();
        let mut cases = one_thing_changed(&good, ca.root_key(), &another);
        for (_, beside) in &mut cases {
            beside.insert(0, answers.clone());
        }
        let good = [answers, good.signed(ca.root_key())];
        refused("second CA", &ca, &device, &cases, &good);
    }
}

/// The root before vouches for the new one, in a link with one thing changed.
#[test]
fn a_link_with_one_thing_changed() {
    for kind in KINDS {
        let (ca, device) = enrolled(kind);
        let ca = ca.rolled_over(true);
        let good = Raw::of(&ca.links()[0]);
        let mut cases = one_thing_changed(&good, ca.older_key(), &ca.another_key());
        // The issuing CA is below it.
        let short = good.clone().set(BASIC_CONSTRAINTS, true, CA_PATH_LEN_0);
        cases.push(("pathLen 0".into(), vec![short.signed(ca.older_key())]));
        for (_, beside) in &mut cases {
            beside.insert(0, ca.issuing_der().to_vec());
        }
        let good = [ca.issuing_der().to_vec(), good.signed(ca.older_key())];
        refused("link", &ca, &device, &cases, &good);
    }
}

/// CAs from the lowest up, each signed by the key of the next; the last by the root.
fn tower(ca: &Ca, lowest: &Raw, above: &[(&str, &PrivateKey, &[u8])]) -> Vec<Vec<u8>> {
    let root = lowest.issuer.clone();
    let mut out = Vec::new();
    let mut current = lowest.clone();
    for (name, key, constraints) in above {
        let name = match *name {
            "" => vec![0x30, 0],
            name => common_name(name),
        };
        out.push(current.under(&name).signed(key));
        let raw = lowest.clone().named(&name, key);
        current = raw.set(BASIC_CONSTRAINTS, true, constraints);
    }
    out.push(current.under(&root).signed(ca.root_key()));
    out
}

#[test]
fn paths_that_are_too_long_or_lead_nowhere() {
    let (ca, device) = enrolled(KeyKind::P256);
    let low = Raw::of(ca.issuing_der());
    let own = "Test Issuing CA";
    assert_eq!(low.subject, common_name(own));
    let keys: Vec<PrivateKey> = (0..8).map(|_| ca.another_key()).collect();
    let k = |n: usize| &keys[n];
    let path = |above: &[(&str, &PrivateKey, &[u8])]| tower(&ca, &low, above);
    let case = |what: &str, beside: Vec<Vec<u8>>| (what.to_owned(), beside);

    let long = ["A", "B", "C", "D"].into_iter().zip(&keys);
    let long: Vec<_> = long.map(|(name, key)| (name, key, CA)).collect();
    // Two CAs that name each other, and the lowest under one of them.
    let x = low.clone().named(&common_name("X"), k(0));
    let y = low.clone().named(&common_name("Y"), k(1));
    let round = vec![
        low.clone().under(&x.subject).signed(k(0)),
        x.clone().under(&y.subject).signed(k(1)),
        y.clone().under(&x.subject).signed(k(0)),
    ];
    // Fifteen certificates of one name and key, of which each issued each: a search without an end.
    let mut crowd = vec![low.clone().under(&x.subject).signed(k(0))];
    for n in 0..15 {
        let one = x.clone().under(&x.subject);
        crowd.push(one.with(|raw| raw.serial = vec![2, 1, n + 1]).signed(k(0)));
    }
    let device_as_ca = leaf(&device.open(&ALICE).unwrap());
    let device_as_ca_name = Raw::of(&device_as_ca).subject;
    let cases = vec![
        case(
            "pathLen 0 over a CA",
            path(&[("Upper", k(0), CA_PATH_LEN_0)]),
        ),
        case(
            "pathLen 0 two above",
            path(&[("A", k(0), CA), ("B", k(1), CA), ("C", k(2), CA_PATH_LEN_0)]),
        ),
        case(
            "pathLen 0 over a CA, with one between that is self-issued",
            path(&[("U", k(0), CA), ("U", k(1), CA_PATH_LEN_0)]),
        ),
        case("a CA without a name", path(&[("", k(0), CA)])),
        case("five CAs", path(&long)),
        case("two that name each other", round),
        case("a crowd", crowd),
        case(
            "a device's certificate above it",
            vec![
                low.clone().under(&device_as_ca_name).signed(k(0)),
                device_as_ca,
            ],
        ),
        case(
            "the root itself, and nothing between",
            ca.procedure().trust_anchors,
        ),
    ];
    // Good, though it looks odd: the CA changed its key below pathLen 0, twice. RFC 5280 section 4.2.1.9.
    let changed = path(&[(own, k(0), CA), (own, k(1), CA_PATH_LEN_0)]);
    refused("paths", &ca, &device, &cases, &changed);
    // And as many CAs as may be.
    refused("paths", &ca, &device, &[], &path(&long[..3]));
}

#[test]
fn five_hundred_certificates_are_not_looked_at() {
    let (ca, device) = enrolled(KeyKind::P256);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    let answer = ca.answer(&request, &[]).unwrap();
    let before = device.storage();
    for count in [17, 100, 500] {
        let crowd = with_certificates(&answer, &vec![vec![0x30, 0]; count]);
        let finished = session.call(FINISH, &[b"web", &crowd]);
        assert_eq!(finished, Err(TEE_ERROR_BAD_FORMAT), "{count}");
    }
    assert_eq!(device.storage(), before);
    install(&ca, &session, &answer);
}

/// The root's time is over: what is below it counts no more, whatever that says of itself.
#[test]
fn an_expired_root() {
    let (ca, device) = enrolled(KeyKind::P256);
    let session = device.open(&ALICE).unwrap();
    let request = session.call(BEGIN, &[b"web"]).unwrap();
    let end = NOW + 10 * YEAR;
    let long = Raw::of(ca.issuing_der()).valid(NOW - YEAR, end + 10 * YEAR);
    let long = [long.signed(ca.root_key())];
    let before = device.storage();
    ca.now.set(end + 1);
    let answer = with_certificates(&ca.answer(&request, &[]).unwrap(), &long);
    let finished = session.call(FINISH, &[b"web", &answer]);
    assert_eq!(finished, Err(TEE_ERROR_SECURITY));
    assert_eq!(device.storage(), before, "nor is its time believed");
    ca.now.set(end - DAY);
    let answer = ca.answer(&request, &[]).unwrap();
    install(&ca, &session, &with_certificates(&answer, &long));
}
