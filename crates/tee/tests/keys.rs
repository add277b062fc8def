//! The enrolment TA as the key module: what a key may do, how many there may be, how they rotate,
//! and what it says to parameters that are not what a command takes.
//!
//! The TA is the checked-in module, run in-process; `TEGATA_ENROL_WASM` names a rebuilt one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // Tests.

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::ca::Ca;
use support::{ALICE, BOB, Device, Session};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider, PublicKey, Rng};
use tegata_tee::gp::consts::*;
use tegata_tee::gp::params::{Param, ParamOut, Params};
use tegata_tee::platform::Platform;
use tegata_tee::session::{Caller, ClientIdentity};
use tegata_wire::cbor::{self, Value};
use tegata_wire::enrolment::{ConfirmMode, KeyKind};
use tegata_wire::ids::Digest;
use tegata_wire::x509::{CertView, usage};

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
const PROFILES: u32 = 11;
const COMMANDS: std::ops::RangeInclusive<u32> = BEGIN..=PROFILES;

/// Asks for a certificate of `profile` under `label` and installs it.
fn enrol(ca: &Ca, session: &Session<'_>, label: &[u8], profile: &[u8]) {
    let request = session.call(BEGIN, &[label, profile]).unwrap();
    let cp = ca.answer(&request, &[]).unwrap();
    let conf = session.call(FINISH, &[label, &cp]).unwrap();
    let conf = ca.confirm(&conf).unwrap();
    session.call(CONFIRM, &[label, &conf]).unwrap();
}

fn world(kind: KeyKind) -> (Ca, Device) {
    let ca = Ca::of_several(kind, ConfirmMode::Explicit);
    let device = Device::new(1, &ca);
    (ca, device)
}

fn status(session: &Session<'_>, label: &[u8]) -> Vec<(u64, Value)> {
    let bytes = session.call(STATUS, &[label]).unwrap();
    let Value::Map(entries) = cbor::decode(&bytes, 2).unwrap() else {
        panic!("not a map")
    };
    let entry = |(key, value)| (cbor::uint(&key, "key").unwrap(), value);
    entries.into_iter().map(entry).collect()
}

fn field(status: &[(u64, Value)], key: u64) -> Option<&Value> {
    status.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
}

struct Fixed(u8);

impl Rng for Fixed {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), tegata_crypto::CryptoError> {
        for byte in out.iter_mut() {
            self.0 = self.0.wrapping_mul(29).wrapping_add(7);
            *byte = self.0;
        }
        Ok(())
    }
}

/// The point inside a SubjectPublicKeyInfo.
fn point(spki: &[u8], len: usize) -> &[u8] {
    &spki[spki.len() - 2 * len - 1..]
}

#[test]
fn a_key_does_what_its_certificate_says_and_nothing_else() {
    for (kind, len) in [(KeyKind::P256, 32), (KeyKind::P384, 48)] {
        let (ca, device) = world(kind);
        let session = device.open(&ALICE).unwrap();
        for label in ["device", "agreement", "both"] {
            enrol(&ca, &session, label.as_bytes(), label.as_bytes());
        }
        let public = |label: &[u8]| session.call(GET_PUBLIC_KEY, &[label]).unwrap();
        let (message, digest) = support::digest_for(kind, b"to be signed");
        for (label, signs, agrees) in [
            ("device", true, false),
            ("agreement", false, true),
            ("both", true, true),
        ] {
            let label = label.as_bytes();
            let signature = session.call(SIGN, &[label, &digest]);
            match signature {
                Ok(signature) if signs => support::verify(&public(label), &message, &signature),
                refused => assert_eq!((refused, signs), (Err(TEE_ERROR_ACCESS_DENIED), false)),
            }
            let other = if label == b"both" {
                &b"agreement"[..]
            } else {
                b"both"
            };
            let shared = session.call(AGREE, &[label, &public(other)]);
            assert_eq!(shared.is_ok(), agrees);
            if let Err(code) = shared {
                assert_eq!(code, TEE_ERROR_ACCESS_DENIED);
            }
        }
        // Two keys of the TEE agree, by SubjectPublicKeyInfo or by the point alone.
        let one = session
            .call(AGREE, &[b"both", &public(b"agreement")])
            .unwrap();
        let two = session
            .call(AGREE, &[b"agreement", point(&public(b"both"), len)])
            .unwrap();
        assert_eq!((one.len(), &one), (len, &two));
    }
}

#[test]
fn what_is_agreed_is_what_the_peer_gets() {
    let (ca, device) = world(KeyKind::P256);
    let session = device.open(&ALICE).unwrap();
    enrol(&ca, &session, b"vpn", b"agreement");
    let own = session.call(GET_PUBLIC_KEY, &[b"vpn"]).unwrap();
    let peer = PrivateKey::generate(KeyAlg::P256, &mut Fixed(3)).unwrap();
    let own = PublicKey::from_spki_der(&own).unwrap();
    let theirs = RustCrypto.ecdh_p256(&peer, &own).unwrap();
    let spki = peer.public_key().to_spki_der().unwrap();
    let ours = session.call(AGREE, &[b"vpn", &spki]).unwrap();
    assert_eq!(ours, theirs.expose_secret());

    // What is no point of this curve is refused, and the TA lives on.
    let good = point(&spki, 32);
    let mut off_curve = good.to_vec();
    off_curve[64] ^= 1;
    let mut compressed = good[..33].to_vec();
    compressed[0] = 2;
    let other_curve = PrivateKey::generate(KeyAlg::P384, &mut Fixed(4)).unwrap();
    let other_curve = other_curve.public_key().to_spki_der().unwrap();
    let edwards = PrivateKey::generate(KeyAlg::Ed25519, &mut Fixed(5)).unwrap();
    let edwards = edwards.public_key().to_spki_der().unwrap();
    let zero = [&[4][..], &[0; 64]].concat();
    for bad in [
        &off_curve[..],
        &compressed,
        &other_curve,
        &edwards,
        &zero,
        &[],
        &good[..64],
        &spki[..90],
        &[0; 65],
        &[0x30; 91],
        &[4; 4096],
    ] {
        let refused = session.call(AGREE, &[b"vpn", bad]);
        assert_eq!(
            refused,
            Err(TEE_ERROR_BAD_PARAMETERS),
            "{} bytes",
            bad.len()
        );
    }
    assert_eq!(session.call(AGREE, &[b"vpn", &spki]).unwrap(), ours);
}

#[test]
fn a_label_is_of_one_profile() {
    let (ca, device) = world(KeyKind::P256);
    let session = device.open(&ALICE).unwrap();
    let profiles = session.call(PROFILES, &[]).unwrap();
    let row = |name: &str, bits: u16| Value::Array(vec![name.into(), (-9).into(), bits.into()]);
    let both = usage::DIGITAL_SIGNATURE | usage::KEY_AGREEMENT;
    let expected = Value::Array(vec![
        row("device", usage::DIGITAL_SIGNATURE),
        row("agreement", usage::KEY_AGREEMENT),
        row("both", both),
    ]);
    assert_eq!(cbor::decode(&profiles, 3).unwrap(), expected);

    let unknown = session.call(BEGIN, &[b"vpn", b"unknown"]);
    assert_eq!(unknown, Err(TEE_ERROR_ITEM_NOT_FOUND));
    let request = session.call(BEGIN, &[b"vpn", b"agreement"]).unwrap();
    // Under way or installed: the label keeps its profile, named or not.
    for _ in 0..2 {
        let other = session.call(BEGIN, &[b"vpn", b"device"]);
        assert_eq!(other, Err(TEE_ERROR_ACCESS_CONFLICT));
        assert_eq!(session.call(BEGIN, &[b"vpn"]).unwrap(), request);
    }
    enrol(&ca, &session, b"vpn", b"");
    let other = session.call(BEGIN, &[b"vpn", b"device"]);
    assert_eq!(other, Err(TEE_ERROR_ACCESS_CONFLICT));
    let now = status(&session, b"vpn");
    assert_eq!(field(&now, 7), Some(&Value::from("agreement")));
    assert_eq!(field(&now, 8), Some(&Value::from(-9)));
    assert_eq!(field(&now, 9), Some(&Value::from(usage::KEY_AGREEMENT)));
    enrol(&ca, &session, b"vpn", b"");
    let leaf = session.call_format(GET_CERTIFICATE, b"vpn", 1).unwrap();
    let leaf = CertView::from_der(&leaf).unwrap();
    assert_eq!(leaf.key_usage().unwrap(), Some(usage::KEY_AGREEMENT));
    // Another label is another key; without a name it is the first profile.
    enrol(&ca, &session, b"web", b"");
    assert_eq!(
        field(&status(&session, b"web"), 7),
        Some(&Value::from("device"))
    );
}

#[test]
fn the_old_key_serves_until_the_new_one_is_confirmed() {
    let (ca, device) = world(KeyKind::P256);
    let session = device.open(&ALICE).unwrap();
    let key = |which| session.call_format(GET_PUBLIC_KEY, b"web", which);
    let missing = Err(TEE_ERROR_ITEM_NOT_FOUND);
    session.call(BEGIN, &[b"web"]).unwrap();
    assert_eq!(key(1), missing);
    assert_eq!(key(0), key(2));
    enrol(&ca, &session, b"web", b"");
    assert_eq!((key(2), key(0)), (missing.clone(), key(1)));
    let old = key(1).unwrap();
    let (message, digest) = support::digest_for(KeyKind::P256, b"while it rotates");
    let serves = |spki: &[u8]| {
        let signature = session.call(SIGN, &[b"web", &digest]).unwrap();
        support::verify(spki, &message, &signature);
    };

    let request = session.call(BEGIN, &[b"web"]).unwrap();
    let next = key(2).unwrap();
    assert_ne!(next, old);
    assert_eq!(key(1).unwrap(), old);
    serves(&old);
    let now = status(&session, b"web");
    assert_eq!(field(&now, 1), Some(&Value::from(4)));
    assert_eq!(field(&now, 10), Some(&Value::from(1)));
    let cp = ca.answer(&request, &[]).unwrap();
    let conf = session.call(FINISH, &[b"web", &cp]).unwrap();
    assert_eq!(field(&status(&session, b"web"), 10), Some(&Value::from(2)));
    serves(&old);
    session
        .call(CONFIRM, &[b"web", &ca.confirm(&conf).unwrap()])
        .unwrap();
    serves(&next);
    assert_eq!((key(1).unwrap(), key(2)), (next.clone(), missing.clone()));

    // What is under way can be given up, and the key in use stays.
    session.call(BEGIN, &[b"web"]).unwrap();
    session.call_format(DELETE, b"web", 1).unwrap();
    assert_eq!(key(2), missing);
    assert_eq!(session.call_format(DELETE, b"web", 1), missing);
    serves(&next);
    let wrong = session.call_format(DELETE, b"web", 2);
    assert_eq!(wrong, Err(TEE_ERROR_BAD_PARAMETERS));
    session.call(BEGIN, &[b"web"]).unwrap();
    session.call_format(DELETE, b"web", 0).unwrap();
    assert_eq!((key(0), key(2)), (missing.clone(), missing.clone()));
    assert_eq!(session.call(DELETE, &[b"web"]), missing);
}

/// A parameter of each kind there is.
fn kinds() -> [Param; 7] {
    let buffer = b"web".to_vec();
    [
        Param::None,
        Param::ValueInput { a: 0, b: 0 },
        Param::ValueOutput,
        Param::ValueInout { a: 0, b: 0 },
        Param::MemrefInput {
            buffer: buffer.clone(),
        },
        Param::MemrefOutput { size: 4096 },
        Param::MemrefInout { buffer },
    ]
}

/// Which kinds (by their place in [`kinds`]) a command takes in each place.
fn takes(command: u32, place: usize) -> &'static [usize] {
    const NONE: &[usize] = &[0];
    const INPUT: &[usize] = &[4, 6];
    const OUTPUT: &[usize] = &[5, 6];
    match (command, place) {
        (LIST | PROFILES, 0 | 1 | 3) => NONE,
        (_, 0) => INPUT,
        (BEGIN, 1) => &[0, 4, 6],
        (FINISH | CONFIRM | SIGN | AGREE, 1) => INPUT,
        (GET_CERTIFICATE | GET_PUBLIC_KEY | DELETE, 1) => &[0, 1, 3],
        (CONFIRM | DELETE, 2) => NONE,
        (_, 2) => OUTPUT,
        (BEGIN, 3) => &[0, 5, 6],
        _ => NONE,
    }
}

#[test]
fn every_combination_of_parameter_kinds_is_taken_or_refused_as_the_table_says() {
    let (_, device) = world(KeyKind::P256);
    let session = device.open(&ALICE).unwrap();
    let kinds = kinds();
    let mut tried = 0;
    for command in COMMANDS {
        for at in 0..7usize.pow(4) {
            let places: [usize; 4] = core::array::from_fn(|i| at / 7usize.pow(i as u32) % 7);
            let fits = |i: usize| takes(command, i).contains(&places[i]);
            // Of those that fit one is enough, and of those that do not, those nearest to it.
            let misfits = (0..4).filter(|i| !fits(*i)).count();
            if misfits > 1 {
                continue;
            }
            let params = places.map(|kind| kinds[kind].clone());
            let code = session.invoke(command, params).code;
            let refused = code == TEE_ERROR_BAD_PARAMETERS;
            tried += 1;
            if misfits == 1 {
                assert!(refused, "command {command}, {places:?}: {code:#x}");
            } else if !matches!(command, BEGIN | LIST | PROFILES) {
                // No key of that label: the label of other kinds is not even looked for.
                let expected = [TEE_ERROR_ITEM_NOT_FOUND, TEE_SUCCESS];
                let begun = expected.contains(&code) || code == TEE_ERROR_BAD_FORMAT;
                assert!(
                    begun || code == TEE_ERROR_BAD_STATE,
                    "{command} {places:?} {code:#x}"
                );
            }
            if command == BEGIN {
                let _ = session.call(DELETE, &[b"web"]);
            }
        }
    }
    println!("{tried} combinations");
}

#[test]
fn sizes_are_limited_and_short_buffers_say_what_is_needed() {
    let (ca, device) = world(KeyKind::P256);
    let session = device.open(&ALICE).unwrap();
    enrol(&ca, &session, b"both", b"both");
    let peer = session.call(GET_PUBLIC_KEY, &[b"both"]).unwrap();
    let input = |bytes: &[u8]| Param::MemrefInput {
        buffer: bytes.to_vec(),
    };
    for (command, second, needed) in [
        (SIGN, input(&[7; 32]), 64),
        (AGREE, input(&peer), 32),
        (GET_PUBLIC_KEY, Param::None, 91),
    ] {
        for room in [0, 1, needed - 1, needed, needed + 1] {
            let mut params = Params::default();
            params[0] = input(b"both");
            params[1] = second.clone();
            params[2] = Param::MemrefOutput { size: room };
            let reply = session.invoke(command, params);
            let ParamOut::Memref { size, ref buffer } = reply.params[2] else {
                panic!("no output")
            };
            assert_eq!(size, needed, "command {command} with room for {room}");
            if room < needed {
                assert_eq!(reply.code, TEE_ERROR_SHORT_BUFFER);
                assert!(buffer.is_empty());
            } else {
                assert_eq!((reply.code, buffer.len()), (0, needed as usize));
            }
        }
    }
    // A digest is one of three lengths. The longer ones are cut as FIPS 186-5 says.
    for len in 0..70 {
        let made = session.call(SIGN, &[b"both", &vec![1; len]]);
        assert_eq!(made.is_ok(), [32, 48, 64].contains(&len), "{len}");
    }
    let long = [[9u8; 32], [8; 32]].concat();
    let made = session.call(SIGN, &[b"both", &long]).unwrap();
    assert!(made.len() == 64);
    for len in [0, 65, 1000, 100_000] {
        let refused = session.call(SIGN, &[&vec![b'x'; len], &[0; 32]]);
        assert_eq!(refused, Err(TEE_ERROR_BAD_PARAMETERS), "label of {len}");
    }
    let refused = session.call(BEGIN, &[b"x", &[b'p'; 129]]);
    assert_eq!(refused, Err(TEE_ERROR_BAD_PARAMETERS));
    let refused = session.call(BEGIN, &[b"x", b"\xff"]);
    assert_eq!(refused, Err(TEE_ERROR_BAD_PARAMETERS));
    session.call(BEGIN, &[b"both"]).unwrap();
    let refused = session.call(FINISH, &[b"both", &vec![0x30; 300_000]]);
    assert_eq!(refused, Err(TEE_ERROR_BAD_FORMAT));
    // A number has no second half.
    let mut params = Params::default();
    params[0] = input(b"both");
    params[1] = Param::ValueInput { a: 0, b: 1 };
    params[2] = Param::MemrefOutput { size: 4096 };
    assert_eq!(
        session.invoke(GET_CERTIFICATE, params).code,
        TEE_ERROR_BAD_PARAMETERS
    );
}

#[test]
fn an_ed25519_key_signs_messages_up_to_a_limit() {
    let ca = Ca::new(KeyKind::Ed25519, ConfirmMode::Explicit);
    let device = Device::new(1, &ca);
    let session = device.open(&ALICE).unwrap();
    enrol(&ca, &session, b"log", b"");
    let spki = session.call(GET_PUBLIC_KEY, &[b"log"]).unwrap();
    for len in [0, 1, 32, 64, 256 * 1024] {
        let message = vec![5; len];
        let signature = session.call(SIGN, &[b"log", &message]).unwrap();
        support::verify(&spki, &message, &signature);
    }
    let refused = session.call(SIGN, &[b"log", &vec![5; 256 * 1024 + 1]]);
    assert_eq!(refused, Err(TEE_ERROR_EXCESS_DATA));
    let refused = session.call(AGREE, &[b"log", &spki]);
    assert_eq!(refused, Err(TEE_ERROR_ACCESS_DENIED));
}

#[test]
fn an_owner_has_so_many_labels_and_a_session_makes_so_many_keys() {
    let (_, device) = world(KeyKind::P256);
    let session = device.open(&ALICE).unwrap();
    for n in 0..16 {
        session
            .call(BEGIN, &[format!("label {n}").as_bytes()])
            .unwrap();
    }
    let refused = session.call(BEGIN, &[b"one more"]);
    assert_eq!(refused, Err(TEE_ERROR_STORAGE_NO_SPACE));
    // Of those there are, each still answers; and another owner has its own.
    session.call(BEGIN, &[b"label 3"]).unwrap();
    let other = device.open(&BOB).unwrap();
    other.call(BEGIN, &[b"one more"]).unwrap();
    session.call(DELETE, &[b"label 3"]).unwrap();
    // Sixteen keys were made in no time.
    let refused = session.call(BEGIN, &[b"one more"]);
    assert_eq!(refused, Err(TEE_ERROR_BUSY));
    device.platform.advance_ms(10_000);
    session.call(BEGIN, &[b"one more"]).unwrap();
    session.call(DELETE, &[b"one more"]).unwrap();
    let refused = session.call(BEGIN, &[b"one more"]);
    assert_eq!(refused, Err(TEE_ERROR_BUSY));
}

#[test]
fn all_owners_together_fit_into_the_store() {
    let (_, device) = world(KeyKind::P256);
    let mut made = 0;
    for uid in 0..9 {
        let who = tegata_tee::session::Caller {
            owner: 100 + uid,
            client: tegata_tee::session::ClientIdentity::user(5000 + uid as u32),
        };
        let session = device.open(&who).unwrap();
        for n in 0..16 {
            match session.call(BEGIN, &[format!("{n}").as_bytes()]) {
                Ok(_) => made += 1,
                Err(code) => assert_eq!(code, TEE_ERROR_STORAGE_NO_SPACE),
            }
        }
    }
    assert_eq!(made, 120);
}

#[test]
fn a_session_that_signs_without_end_is_slowed_down() {
    let (ca, device) = world(KeyKind::P256);
    let session = device.open(&ALICE).unwrap();
    enrol(&ca, &session, b"web", b"");
    let begun = device.platform.system_time_ms();
    // Time stands still but for the TA's own waiting.
    for _ in 0..2100 {
        session.call(SIGN, &[b"web", &[1; 32]]).unwrap();
    }
    let waited = device.platform.system_time_ms() - begun;
    assert!((50..=100).contains(&waited), "{waited} ms");
}

/// One user's programs and groups, each with some labels, as far as they get.
fn fill(device: &Device, identities: impl Iterator<Item = ClientIdentity>) -> usize {
    let mut made = 0;
    for client in identities {
        let session = device.open(&Caller { owner: 50, client }).unwrap();
        for n in 0..15 {
            match session.call(BEGIN, &[format!("{n}").as_bytes()]) {
                Ok(_) => made += 1,
                Err(code) => assert_eq!(code, TEE_ERROR_STORAGE_NO_SPACE),
            }
        }
    }
    made
}

#[test]
fn a_user_with_many_programs_and_groups_leaves_room_to_others() {
    let (_, device) = world(KeyKind::P256);
    let program = |n: u8| Digest([n; 32]);
    let programs = (0..9).map(|n| match n % 3 {
        0 => ClientIdentity::application(&program(n)),
        1 => ClientIdentity::application_user(&program(n), 1000),
        _ => ClientIdentity::application_group(&program(n), 1000),
    });
    assert_eq!(fill(&device, programs), 60);
    assert_eq!(fill(&device, (0..3).map(ClientIdentity::group)), 24);
    // The rest is of users as such.
    assert_eq!(fill(&device, (0..4).map(ClientIdentity::user)), 36);
    // A label that is given up makes room for one of its kind, and for no other.
    let group = Caller {
        owner: 51,
        client: ClientIdentity::group(0),
    };
    let session = device.open(&group).unwrap();
    session.call(DELETE, &[b"0"]).unwrap();
    let other = ClientIdentity::application(&program(100));
    assert_eq!(fill(&device, core::iter::once(other)), 0);
    session.call(BEGIN, &[b"again"]).unwrap();
}

#[test]
fn two_sessions_that_count_at_the_same_moment_do_not_pass_the_limit() {
    let (_, device) = world(KeyKind::P256);
    let user = |uid: u32| Caller {
        owner: u64::from(uid),
        client: ClientIdentity::user(uid),
    };
    for uid in 0..8 {
        let session = device.open(&user(5000 + uid)).unwrap();
        for n in 0..if uid < 7 { 16 } else { 7 } {
            session.call(BEGIN, &[format!("{n}").as_bytes()]).unwrap();
        }
    }
    let (one, two) = (device.open(&ALICE).unwrap(), device.open(&BOB).unwrap());
    let begin = two.later(BEGIN, &[b"last"]);
    let begun = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&begun);
    let hook = Box::new(move || done.store(begin().is_ok(), Ordering::Relaxed));
    *device.hooks.before_write.lock().unwrap() = Some(hook);
    let refused = one.call(BEGIN, &[b"one too many"]);
    assert!(
        begun.load(Ordering::Relaxed),
        "the other one has counted and stored"
    );
    assert_eq!(refused, Err(TEE_ERROR_STORAGE_NO_SPACE));
    assert_eq!(one.call(LIST, &[]).unwrap(), [0x80], "nothing stays behind");
    two.call(BEGIN, &[b"last"]).unwrap();
    two.call(DELETE, &[b"last"]).unwrap();
    one.call(BEGIN, &[b"one too many"]).unwrap();
}

#[test]
fn sessions_of_one_owner_wait_for_each_other() {
    let (ca, device) = world(KeyKind::P256);
    let (one, two) = (device.open(&ALICE).unwrap(), device.open(&ALICE).unwrap());
    enrol(&ca, &one, b"web", b"");
    device.hooks.slow.store(true, Ordering::Relaxed);
    // Starts `other` in a thread of its own while this session holds its handle.
    let meanwhile = |hook: &support::Hook, other: Call| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let hooks = Arc::clone(&device.hooks);
        hooks.pauses.store(0, Ordering::Relaxed);
        *hook.lock().unwrap() = Some(Box::new(move || {
            std::thread::spawn(move || sender.send(other()));
            hooks.await_pauses();
        }));
        receiver
    };
    // The next request is written, and the other session asks for it.
    let other = Box::new(two.later(STATUS, &[b"web"]));
    let answer = meanwhile(&device.hooks.before_write, other);
    let request = one.call(BEGIN, &[b"web"]).unwrap();
    answer.recv().unwrap().unwrap();
    // It is written again, and the other session lists it.
    let cp = ca.answer(&request, &[]).unwrap();
    let other = Box::new(two.later(LIST, &[]));
    let answer = meanwhile(&device.hooks.before_write, other);
    let conf = one.call(FINISH, &[b"web", &cp]).unwrap();
    let found = answer.recv().unwrap().unwrap();
    let row = Value::Array(vec!["web".into(), 4.into()]);
    assert_eq!(cbor::decode(&found, 3).unwrap(), Value::Array(vec![row]));
    // A signature is made: what the CA confirmed is installed all the same.
    let conf = ca.confirm(&conf).unwrap();
    let confirm = Box::new(two.later(CONFIRM, &[b"web", &conf]));
    let answer = meanwhile(&device.hooks.before_read, confirm);
    one.call(SIGN, &[b"web", &[1; 32]]).unwrap();
    answer.recv().unwrap().unwrap();
    let leaf = one.call_format(GET_CERTIFICATE, b"web", 1).unwrap();
    assert_eq!(leaf, ca.last_issued());
}

type Call = Box<dyn FnOnce() -> Result<Vec<u8>, u32> + Send>;
