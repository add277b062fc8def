//! The location TA: it enrols as the enrolment TA does, and signs statements and nothing else.
//!
//! The TA is the checked-in module; `TEGATA_LOCATION_WASM` names a rebuilt one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // Tests.

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use support::ca::{Ca, RELEASE};
use support::{ALICE, BOB, Device, Installed, Session};
use tegata_crypto::PublicKey;
use tegata_crypto::cose::{unverified_headers, verify_sign1};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_tee::gp::consts::*;
use tegata_tee::platform::Platform;
use tegata_tee::position::Position;
use tegata_tee::storage::TaId;
use tegata_wire::enrolment::{ConfirmMode, KeyKind, PersonalizationData};
use tegata_wire::ids::{SignerId, TaUuid, Ueid};
use tegata_wire::rats::statement::{PROFILE_LOCATION, Statement};
use tegata_wire::x509::CertView;

const LOCATE: u32 = 32;
const TA: TaUuid = TaUuid([9; 16]);
const NONCE: &[u8] = b"asked just now, only once";

/// Tokyo station, to the 10^-7 degree.
const TOKYO: Position = Position {
    latitude_e7: 356_812_362,
    longitude_e7: 1_397_671_248,
    altitude_mm: Some(40_250),
    accuracy_mm: Some(4_200),
    altitude_accuracy_mm: None,
    heading_mdeg: Some(271_500),
    speed_mm_s: Some(1_390),
    time_ms: 1_790_000_000_900,
    age_ms: 1_100,
};

fn device(ca: &Ca) -> Device {
    let own = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tas/location/location.wasm"
    );
    let path = std::env::var("TEGATA_LOCATION_WASM").unwrap_or_else(|_| own.to_string());
    let ueid = Ueid::from_random([1; 16]);
    let key = ca.csr_auth_key(&ueid);
    let config = PersonalizationData::for_device(&key, &RELEASE, &ueid);
    let device = Device::empty(1);
    device.install(Installed {
        id: TaId {
            signer: SignerId([3; 32]),
            uuid: TA,
        },
        module: Arc::new(std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))),
        procedure: Some(ca.procedure().encode().unwrap()),
        config: Some(config.encode().unwrap().to_vec()),
    });
    device
}

fn enrol(ca: &Ca, session: &Session<'_>) {
    let request = session.call(1, &[b"gnss", b""]).unwrap();
    let cp = ca.answer(&request, &[]).unwrap();
    let confirm = session.call(2, &[b"gnss", &cp]).unwrap();
    let conf = ca.confirm(&confirm).unwrap();
    session.call(3, &[b"gnss", &conf]).unwrap();
}

fn read(message: &[u8]) -> Statement {
    let chain = unverified_headers(message).unwrap().x5chain;
    let leaf = CertView::from_der(&chain[0]).unwrap();
    let key = PublicKey::from_spki_der(leaf.spki_der).unwrap();
    let verified = verify_sign1(&RustCrypto, message, &key, b"", None).unwrap();
    Statement::decode(verified.payload()).unwrap()
}

#[test]
fn a_statement_says_what_the_receiver_said() {
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519] {
        let ca = Ca::new(kind, ConfirmMode::Explicit);
        let device = device(&ca);
        device.platform.set_position(Some(TOKYO));
        let session = device.open_ta(&TA, &ALICE).unwrap();
        enrol(&ca, &session);
        let said = read(&session.call(LOCATE, &[b"gnss", NONCE]).unwrap());
        assert_eq!(said.profile, PROFILE_LOCATION);
        assert_eq!((said.nonce.as_slice(), said.number), (NONCE, 1));
        assert_eq!(said.ueid, Ueid::from_random([1; 16]));
        assert_eq!(said.made_at, 1_790_000_002);
        let at = said.location.unwrap();
        // The same doubles as a compiler makes: nothing is lost on the way through the TA.
        assert_eq!(at.latitude.to_bits(), 35.681_236_2_f64.to_bits());
        assert_eq!(at.longitude.to_bits(), 139.767_124_8_f64.to_bits());
        assert_eq!((at.altitude, at.accuracy), (Some(40.25), Some(4.2)));
        assert_eq!((at.heading, at.speed), (Some(271.5), Some(1.39)));
        assert_eq!((at.timestamp, at.age), (Some(1_790_000_000), Some(1)));
        assert_eq!(at.altitude_accuracy, None);
    }
}

#[test]
fn every_number_comes_through_as_the_nearest_double() {
    let ca = Ca::new(KeyKind::Ed25519, ConfirmMode::Explicit);
    let device = device(&ca);
    let session = device.open_ta(&TA, &ALICE);
    let session = session.unwrap();
    enrol(&ca, &session);
    let mut x: u32 = 0x1234_5678;
    for turn in 0..60i32 {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let latitude_e7 = match turn {
            0 => 0,
            1 => 1,
            2 => -1,
            3 => 900_000_000,
            4 => -900_000_000,
            _ => x.cast_signed() % 900_000_001,
        };
        let position = Position {
            latitude_e7,
            accuracy_mm: Some(x),
            ..TOKYO
        };
        device.platform.set_position(Some(position));
        let said = read(&session.call(LOCATE, &[b"gnss", NONCE]).unwrap());
        let at = said.location.unwrap();
        assert_eq!(
            at.latitude.to_bits(),
            (f64::from(latitude_e7) / 1e7).to_bits()
        );
        assert_eq!(at.accuracy, Some(f64::from(x) / 1e3));
    }
}

#[test]
fn statements_are_numbered_over_power_cuts_and_owners() {
    let ca = Ca::new(KeyKind::P256, ConfirmMode::Explicit);
    let device = device(&ca);
    device.platform.set_position(Some(TOKYO));
    let session = device.open_ta(&TA, &ALICE).unwrap();
    enrol(&ca, &session);
    let number =
        |session: &Session<'_>| read(&session.call(LOCATE, &[b"gnss", NONCE]).unwrap()).number;
    assert_eq!((number(&session), number(&session)), (1, 2));
    // Neither a refusal nor a short buffer uses a number up.
    assert_eq!(
        session.call(LOCATE, &[b"gnss", b"short"]),
        Err(TEE_ERROR_BAD_PARAMETERS)
    );
    device.platform.set_position(None);
    assert_eq!(
        session.call(LOCATE, &[b"gnss", NONCE]),
        Err(TEE_ERROR_NO_DATA)
    );
    drop(session);
    let device = device.rebooted();
    device.platform.set_position(Some(TOKYO));
    let session = device.open_ta(&TA, &ALICE).unwrap();
    assert_eq!(number(&session), 3);
    // Another owner has a key of its own, and the one counter of the device.
    let other = device.open_ta(&TA, &BOB).unwrap();
    assert_eq!(
        other.call(LOCATE, &[b"gnss", NONCE]),
        Err(TEE_ERROR_ITEM_NOT_FOUND)
    );
    enrol(&ca, &other);
    assert_eq!((number(&other), number(&session)), (4, 5));
}

#[test]
fn the_key_signs_nothing_that_a_client_brings() {
    let ca = Ca::new(KeyKind::P256, ConfirmMode::Explicit);
    let device = device(&ca);
    device.platform.set_position(Some(TOKYO));
    let session = device.open_ta(&TA, &ALICE).unwrap();
    enrol(&ca, &session);
    for command in (0..64).filter(|c| ![1, 2, 3, 4, 6, 7, 8, 9, 11, LOCATE].contains(c)) {
        let refused = session.call(command, &[b"gnss", &[0; 32]]);
        assert_eq!(refused, Err(TEE_ERROR_NOT_SUPPORTED), "command {command}");
    }
}

#[test]
fn a_device_without_a_receiver_says_so() {
    let ca = Ca::new(KeyKind::P256, ConfirmMode::Explicit);
    let device = device(&ca);
    let session = device.open_ta(&TA, &ALICE).unwrap();
    enrol(&ca, &session);
    assert_eq!(
        session.call(LOCATE, &[b"gnss", NONCE]),
        Err(TEE_ERROR_NOT_SUPPORTED)
    );
}

#[test]
fn two_sessions_never_make_the_same_number() {
    let ca = Ca::new(KeyKind::P256, ConfirmMode::Explicit);
    let device = device(&ca);
    device.platform.set_position(Some(TOKYO));
    let (one, two) = (
        device.open_ta(&TA, &ALICE).unwrap(),
        device.open_ta(&TA, &ALICE).unwrap(),
    );
    enrol(&ca, &one);
    let first = read(&one.call(LOCATE, &[b"gnss", NONCE]).unwrap());
    // The other session asks between reading the number and writing the next. Here it waits in
    // vain: time goes on only while it waits.
    let locate = two.later(LOCATE, &[b"gnss", NONCE]);
    let (sender, receiver) = std::sync::mpsc::channel();
    *device.hooks.before_write.lock().unwrap() = Some(Box::new(move || {
        sender.send(locate()).unwrap();
    }));
    let second = read(&one.call(LOCATE, &[b"gnss", NONCE]).unwrap());
    assert_eq!((first.number, second.number), (1, 2));
    assert_eq!(receiver.recv().unwrap(), Err(TEE_ERROR_ACCESS_CONFLICT));
    let third = read(&two.call(LOCATE, &[b"gnss", NONCE]).unwrap());
    assert_eq!(third.number, 3);
}

#[test]
fn sessions_that_ask_at_once_get_numbers_of_their_own() {
    let ca = Ca::new(KeyKind::P256, ConfirmMode::Explicit);
    let device = device(&ca);
    device.platform.set_position(Some(TOKYO));
    device.hooks.slow.store(true, Ordering::Relaxed);
    let session = device.open_ta(&TA, &ALICE).unwrap();
    enrol(&ca, &session);
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let ask = || {
            let session = device.open_ta(&TA, &ALICE).unwrap();
            let locate = || session.call(LOCATE, &[b"gnss", NONCE]).unwrap();
            (0..20).map(|_| read(&locate()).number).collect::<Vec<_>>()
        };
        let askers: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        let answers = askers.into_iter().map(|asker| asker.join().unwrap());
        answers.flatten().collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=80).collect::<Vec<_>>());
}

#[test]
fn statements_count_among_the_uses_of_a_key() {
    let ca = Ca::new(KeyKind::Ed25519, ConfirmMode::Explicit);
    let device = device(&ca);
    device.platform.set_position(Some(TOKYO));
    let session = device.open_ta(&TA, &ALICE).unwrap();
    enrol(&ca, &session);
    let begun = device.platform.system_time_ms();
    for _ in 0..2040 {
        session.call(LOCATE, &[b"gnss", NONCE]).unwrap();
    }
    let waited = device.platform.system_time_ms() - begun;
    assert!((20..=40).contains(&waited), "{waited} ms");
}
