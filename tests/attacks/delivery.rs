//! Line 1: an older TA, an altered one, another device's, through the messages of steps 1 to 4.
//!
//! The attackers here own the network, or the TAM with its key. A small module stands for the TA:
//! nothing runs it, so every position of every message can be tried.

use tegata_authority::tam::availability::Availability;
use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::suit::{encryption_info_ecdh_es, seal_payload, sign_envelope};
use tegata_crypto::{PrivateKey, Provider as _, Secret};
use tegata_tee::testing::release::{ReleaseSpec, TestCa, signed};
use tegata_wire::cbor::{self, Value};
use tegata_wire::ids::DeviceUuid;
use tegata_wire::suit::{
    CheckedEnvelope, Command, EnvelopeBuilder, Manifest, Parameters, Section, UnverifiedEnvelope,
};
use tegata_wire::teep::{Challenge, Message, Token, Update};

use crate::rig::{Device, World, flipped, open_teep, sampled, sign_teep};
use crate::suite::Tried;

pub const MODULE: &[u8] = b"\0asm\x01\0\0\0 stands for a TA";

/// A message that must be refused and change nothing.
#[track_caller]
fn refused(device: &Device, message: &[u8], what: &str) {
    let before = device.storage();
    if let Ok(reply) = device.teep(message) {
        let answer = open_teep(&device.key(), &reply);
        assert!(matches!(answer, Message::Error(_)), "{what}: {answer:?}");
    }
    assert_eq!(device.storage(), before, "{what}: storage changed");
}

fn the_envelope(world: &World, update: &[u8]) -> (Update, Vec<u8>) {
    let Message::Update(update) = open_teep(world.tam.public_key(), update) else {
        panic!("no Update")
    };
    let envelope = update.manifest_list.as_ref().unwrap()[0].clone();
    (update, envelope)
}

fn update_with(key: &PrivateKey, token: u8, envelope: Vec<u8>) -> Vec<u8> {
    let update = Update {
        token: Some(Token::new(vec![token; 16]).unwrap()),
        manifest_list: Some(vec![envelope]),
        ..Update::default()
    };
    sign_teep(key, update)
}

/// Every bit position and every length of what the TAM says, seen by the TEE.
pub fn network_alters_tam_messages() -> Tried {
    let world = World::new(11);
    let cut = world.release("enrol", MODULE, false);
    let device = world.device();
    let query = world.teep_message(b"");
    let update = device.update_from(&world, &cut.ta);
    let mut tried = 0;
    for (message, what) in [(&query, "QueryRequest"), (&update, "Update")] {
        for at in (0..message.len()).step_by(sampled(5)) {
            refused(&device, &flipped(message, at), what);
            tried += 1;
        }
        for len in (0..message.len()).step_by(sampled(31)) {
            refused(&device, &message[..len], what);
            tried += 1;
        }
        let longer = [message.as_slice(), &[0]].concat();
        refused(&device, &longer, what);
        tried += 1;
    }
    assert_eq!(device.version(&cut.ta), None);
    // After all that the genuine one is served.
    device.teep(&update).unwrap();
    assert_eq!(device.version(&cut.ta), Some(1));
    Tried::Times(tried)
}

/// Every bit position and length of what a device says, seen by the TAM.
pub fn network_alters_device_messages() -> Tried {
    let world = World::new(12);
    let cut = world.release("enrol", MODULE, false);
    let device = world.device();
    device.tee.with(|tee| tee.request_ta(&cut.ta)).unwrap();
    let response = device.teep(&world.teep_message(b"")).unwrap();
    let success = {
        let other = world.device();
        let update = other.update_from(&world, &cut.ta);
        other.teep(&update).unwrap()
    };
    let before = world.fingerprint();
    let mut tried = 0;
    for message in [&response, &success] {
        let altered = (0..message.len()).map(|at| flipped(message, at));
        let cut_off = (1..message.len())
            .step_by(5)
            .map(|len| message[..len].to_vec());
        for bytes in altered.chain(cut_off) {
            assert!(world.teep(&bytes).is_err());
            tried += 1;
        }
    }
    assert_eq!(
        world.fingerprint(),
        before,
        "state changed before a signature was verified"
    );
    assert!(world.teep(&response).is_ok());
    Tried::Times(tried)
}

/// Recorded messages again, late, to others, in the other order.
pub fn network_replays() -> Tried {
    let world = World::new(13);
    let first = world.release("enrol", MODULE, false);
    let (a, b) = (world.device(), world.device());
    let ta = first.ta;
    a.tee.with(|tee| tee.request_ta(&ta)).unwrap();
    let query = world.teep_message(b"");
    let response = a.teep(&query).unwrap();
    let install = world.teep_message(&response);
    let success = a.teep(&install).unwrap();
    world.teep(&success).unwrap();
    // The same answer again: its challenge is used up.
    assert!(world.teep(&response).is_err());
    // B's Update and answers are A's to nobody.
    refused(&b, &install, "A's Update at B");
    assert_eq!(b.version(&ta), None);
    // Success reported again changes nothing.
    let before = world.fingerprint();
    let _ = world.teep(&success);
    assert_eq!(world.fingerprint(), before);
    // The device is on version 2; version 1 comes back.
    let second = world.release("enrol", b"\0asm\x01\0\0\0 version 2", false);
    assert_eq!(second.ta, ta);
    let newer = a.update_from(&world, &ta);
    a.teep(&newer).unwrap();
    assert_eq!(a.version(&ta), Some(2));
    refused(&a, &install, "version 1 after version 2");
    // The TAM removes it: an old installation does not bring it back.
    world
        .tam
        .set_availability(&first.digest, &Availability::Withdrawn)
        .unwrap();
    world
        .tam
        .set_availability(&second.digest, &Availability::Withdrawn)
        .unwrap();
    let removal = world.teep_message(&a.teep(&world.teep_message(b"")).unwrap());
    a.teep(&removal).unwrap();
    assert_eq!(a.version(&ta), None);
    for old in [&install, &newer] {
        refused(&a, old, "an old installation after the removal");
    }
    // It is installed again: the old removal does not remove it, nor after a power cut.
    world
        .tam
        .set_availability(&second.digest, &Availability::Everybody)
        .unwrap();
    a.install(&world, &ta);
    refused(
        &a,
        &removal,
        "an old removal after the TA was installed again",
    );
    let a = a.rebooted();
    refused(&a, &removal, "the same after a power cut");
    refused(&a, &install, "version 1 after a power cut");
    assert_eq!(a.version(&ta), Some(2));
    Tried::Times(11)
}

/// A TAM key signs anything, but its owner has no release key.
pub fn insider_forges_releases() -> Tried {
    let world = World::new(14);
    let cut = world.release("enrol", MODULE, false);
    let device = world.device();
    let tam = world.tam_key();
    let genuine = device.update_from(&world, &cut.ta);
    let (_, envelope) = the_envelope(&world, &genuine);
    let root = taken_apart(&envelope);
    let dep_ta = root.integrated("#dep-ta").unwrap().to_vec();
    let dep_config = root.integrated("#dep-config").unwrap().to_vec();
    let mut tried = 0;
    let mut try_with = |dep_ta: Vec<u8>, dep_config: Vec<u8>, what: &str| {
        let forged = redeliver(&envelope, &tam, |parts| {
            parts.dep_ta = dep_ta;
            parts.dep_config = dep_config;
        });
        refused(&device, &update_with(&tam, 1, forged), what);
        tried += 1;
    };
    // The release manifest with another module, signed by whoever is at hand.
    let manifest = manifest_of(&dep_ta);
    let evil = with_image(&manifest, b"\0asm\x01\0\0\0 evil");
    let stranger = tegata_tee::testing::release::key(99);
    for (key, who) in [
        (&tam, "the TAM key"),
        (&stranger, "a stranger"),
        (&world.other_release_key, "another CA"),
    ] {
        try_with(resigned(&evil, key), dep_config.clone(), who);
        try_with(resigned(&manifest, key), dep_config.clone(), who);
        let config = manifest_of(&dep_config);
        try_with(dep_ta.clone(), resigned(&config, key), who);
    }
    // The genuine signature beside the altered manifest.
    try_with(
        with_signature_of(&evil, &dep_ta),
        dep_config.clone(),
        "a borrowed signature",
    );
    // A foreign CA may release TAs of its own, but not over this UUID.
    let foreign = TestCa {
        key: world.other_release_key.dangerous_clone(),
    };
    let spec = ReleaseSpec {
        name: "enrol".into(),
        sequence_number: 7,
        module: MODULE.to_vec(),
        procedure: b"procedure".to_vec(),
    };
    let mut foreign_manifest = foreign.release_manifest(&spec);
    foreign_manifest.common.components = manifest.common.components.clone();
    try_with(
        resigned(&foreign_manifest, &foreign.key),
        dep_config,
        "another CA over our UUID",
    );
    assert_eq!(device.version(&cut.ta), None);
    Tried::Times(tried)
}

/// The insider flips bits inside what the CA signed or encrypted, and signs the rest anew.
pub fn insider_alters_parts() -> Tried {
    let world = World::new(15);
    let cut = world.release("enrol", MODULE, false);
    let device = world.device();
    let tam = world.tam_key();
    let genuine = device.update_from(&world, &cut.ta);
    let (_, envelope) = the_envelope(&world, &genuine);
    let empty = device.storage();
    device.teep(&genuine).unwrap();
    let installed = device.installed(&cut.ta);
    device.machine.medium.restore(empty.clone());
    let mut tried = 0;
    let mut unnoticed = 0;
    for part in 0..6 {
        let len = part_of(&mut Parts::of(&envelope), part).len();
        // The procedure with its certificates is long, and one digest covers all of it.
        let step = sampled(if len > 1000 { 13 } else { 3 });
        for at in (0..len).step_by(step) {
            let altered = redeliver(&envelope, &tam, |parts| {
                let bytes = part_of(parts, part);
                *bytes = flipped(bytes, at);
            });
            let message = update_with(&tam, 2, altered);
            let reply = device.reply(&message);
            tried += 1;
            if matches!(reply, Message::Success(_)) {
                // A hint that nothing depends on was altered: then it is the genuine TA, all of it.
                assert_eq!(
                    device.installed(&cut.ta),
                    installed,
                    "part {part}, byte {at}"
                );
                device.machine.medium.restore(empty.clone());
                unnoticed += 1;
            } else {
                assert_eq!(device.storage(), empty, "part {part}, byte {at}");
            }
        }
    }
    assert!(
        unnoticed < tried / 10,
        "{unnoticed} of {tried} alterations made no difference"
    );
    Tried::Times(tried)
}

/// Another device's manifests, personalization and keys, from a TAM that wants them swapped.
pub fn insider_swaps_devices() -> Tried {
    let world = World::new(16);
    let cut = world.release("enrol", MODULE, false);
    let second = world.release("enrol", b"\0asm\x01\0\0\0 2", false);
    let other_ta = world.release("other", b"\0asm\x01\0\0\0 other", false);
    let tam = world.tam_key();
    let (a, b) = (world.device(), world.device());
    for_version(&world, &second, Availability::Nobody);
    let of_a = the_envelope(&world, &a.update_from(&world, &cut.ta)).1;
    let of_b = the_envelope(&world, &b.update_from(&world, &cut.ta)).1;
    for_version(&world, &second, Availability::Everybody);
    let newer_a = the_envelope(&world, &a.update_from(&world, &cut.ta)).1;
    let other_a = {
        a.tee.with(|tee| tee.unrequest_ta(&cut.ta)).unwrap();
        the_envelope(&world, &world.device().update_from(&world, &other_ta.ta)).1
    };
    let (pa, pb) = (Parts::of(&of_a), Parts::of(&of_b));
    let (p2, po) = (Parts::of(&newer_a), Parts::of(&other_a));
    let mut tried = 0;
    let mut check = |envelope: Vec<u8>, what: &str| {
        refused(&a, &update_with(&tam, 3, envelope), what);
        tried += 1;
    };
    check(of_b.clone(), "B's delivery at A");
    check(
        redeliver(&of_b, &tam, |p| p.device = a_uuid(&a)),
        "B's delivery readdressed to A",
    );
    check(
        redeliver(&of_b, &tam, |p| p.conditions = false),
        "B's delivery to everybody",
    );
    check(
        redeliver(&of_a, &tam, |p| {
            p.dep_config = pb.dep_config.clone();
            p.config = pb.config.clone();
            p.config_info = pb.config_info.clone();
        }),
        "B's personalization in A's delivery",
    );
    check(
        redeliver(&of_a, &tam, |p| p.dep_config = pb.dep_config.clone()),
        "B's manifest over A's data",
    );
    check(
        redeliver(&of_a, &tam, |p| {
            p.config = pb.config.clone();
            p.config_info = pb.config_info.clone();
        }),
        "B's data under A's manifest",
    );
    check(
        redeliver(&of_a, &tam, |p| p.ta_info = pb.ta_info.clone()),
        "the content key wrapped for B",
    );
    check(
        redeliver(&of_a, &tam, |p| {
            p.dep_config = p2.dep_config.clone();
            p.config = p2.config.clone();
            p.config_info = p2.config_info.clone();
        }),
        "personalization of version 2 with version 1",
    );
    check(
        redeliver(&of_a, &tam, |p| {
            p.dep_ta = p2.dep_ta.clone();
            p.ta = p2.ta.clone();
            p.ta_info = p2.ta_info.clone();
        }),
        "version 2 with personalization of version 1",
    );
    check(
        redeliver(&of_a, &tam, |p| p.dep_ta = po.dep_ta.clone()),
        "another TA's release",
    );
    check(
        redeliver(&of_a, &tam, |p| p.ta = po.ta.clone()),
        "another TA's module",
    );
    // A payload that the insider encrypted itself: it knows the delivery key's public half.
    let delivery = a
        .tee
        .with(|tee| tee.keys().delivery_ecdh.public_key().clone());
    let mut rng = world.rng();
    let cek = Secret::new([7; 16]);
    let (evil, iv) = seal_payload(&RustCrypto, &mut rng, &cek, b"\0asm\x01\0\0\0 evil").unwrap();
    let info = encryption_info_ecdh_es(&RustCrypto, &mut rng, &delivery, &cek, &iv).unwrap();
    check(
        redeliver(&of_a, &tam, |p| {
            p.ta = evil.clone();
            p.ta_info = info.clone();
        }),
        "a module of the insider's own",
    );
    check(
        redeliver(&of_a, &tam, |p| {
            p.config = evil.clone();
            p.config_info = info.clone();
        }),
        "personalization of the insider's own",
    );
    // Parameters that are the CA's to set: digest and content, said again by the TAM.
    let image = tegata_tee::testing::release::image(b"\0asm\x01\0\0\0 evil");
    check(
        redeliver(&of_a, &tam, |p| {
            p.ta = evil.clone();
            p.ta_info = info.clone();
            p.overrides = Some(image.clone());
        }),
        "the digest overridden by the TAM",
    );
    assert_eq!(a.version(&cut.ta), None);
    drop(pa);
    Tried::Times(tried)
}

/// Roll-back with the TAM's own key: old numbers, equal numbers, removal first.
pub fn insider_rolls_back() -> Tried {
    let world = World::new(17);
    let first = world.release("enrol", MODULE, false);
    let device = world.device();
    let tam = world.tam_key();
    let ta = first.ta;
    let v1 = the_envelope(&world, &device.update_from(&world, &ta)).1;
    device.install(&world, &ta);
    world.release("enrol", b"\0asm\x01\0\0\0 2", false);
    device.install(&world, &ta);
    assert_eq!(device.version(&ta), Some(2));
    let mut tried = 0;
    let mut device = device;
    for removed in [false, true] {
        if removed {
            let removal = Update {
                token: Some(Token::new(vec![9; 16]).unwrap()),
                unneeded_manifest_list: Some(vec![tegata_tee::suit::tam_manifest_id(&ta)]),
                ..Update::default()
            };
            device.teep(&sign_teep(&tam, removal)).unwrap();
            assert_eq!(device.version(&ta), None);
        }
        for sequence in [0, 1, 2, 3, 1000, u64::MAX] {
            let forged = redeliver(&v1, &tam, |p| p.sequence = sequence);
            refused(&device, &update_with(&tam, 4, forged), "version 1 again");
            tried += 1;
        }
        device = device.rebooted();
        refused(
            &device,
            &update_with(&tam, 5, v1.clone()),
            "version 1 after a power cut",
        );
        tried += 1;
    }
    Tried::Times(tried)
}

/// The insider asks the CA for what it should not get, and forges attestation results.
pub fn insider_lies_to_the_ca() -> Tried {
    use tegata_wire::enrolment::{Delivery, DeliveryRequest};
    let world = World::new(18);
    let cut = world.release("enrol", MODULE, false);
    let device = world.device();
    let tam = world.tam_key();
    let ask = |request: &DeliveryRequest| {
        let bytes = sign1(
            &tam,
            &request.encode().unwrap(),
            &Sign1Headers::default(),
            b"",
            false,
        );
        world
            .ca
            .deliver(&bytes.unwrap(), &mut world.rng(), crate::rig::SECS)
    };
    let good = DeliveryRequest {
        release_digest: cut.digest,
        ueid: device.machine.identity.ueid,
        issued_at_secs: crate::rig::SECS.0,
    };
    let body = ask(&good).unwrap();
    // What the TAM gets does not contain what it is about: it is encrypted to the device.
    let delivery = Delivery::decode(&body).unwrap();
    device.install(&world, &cut.ta);
    let config = device.config(&cut.ta);
    for part in [&body, &delivery.config_ciphertext, &cut.package] {
        assert!(
            !contains(part, &config) && !contains(part, &config[4..36]) && !contains(part, MODULE)
        );
    }
    // Every alteration of a signed request is refused, and a device nobody made gets nothing.
    let signed = sign1(
        &tam,
        &good.encode().unwrap(),
        &Sign1Headers::default(),
        b"",
        false,
    )
    .unwrap();
    let before = world.fingerprint();
    for at in 0..signed.len() {
        let altered = flipped(&signed, at);
        assert!(
            world
                .ca
                .deliver(&altered, &mut world.rng(), crate::rig::SECS)
                .is_err()
        );
    }
    let nobody = DeliveryRequest {
        ueid: tegata_wire::ids::Ueid::from_random([3; 16]),
        ..good
    };
    assert!(ask(&nobody).is_err());
    // A package with the insider's own module is no release.
    for at in (0..cut.package.len()).step_by(2) {
        let altered = flipped(&cut.package, at);
        let taken = world
            .tam
            .import_release(&altered, &Availability::Everybody, crate::rig::SECS);
        if let Ok(taken) = taken {
            // The ciphertext is not the CA's signature's business: the device's digest decides.
            assert_eq!(taken.digest, cut.digest);
        }
    }
    assert_eq!(world.fingerprint(), before);
    Tried::Times(signed.len() + cut.package.len() / 2 + 4)
}

/// Evidence: made up, borrowed from another device, for another challenge.
pub fn impostor_attests() -> Tried {
    let world = World::new(19);
    let cut = world.release("enrol", MODULE, false);
    let (a, b) = (world.device(), world.device());
    let before_devices = world.fingerprint();
    a.tee.with(|tee| tee.request_ta(&cut.ta)).unwrap();
    b.tee.with(|tee| tee.request_ta(&cut.ta)).unwrap();
    let mut tried = 0;
    let mut refuse = |message: &[u8], what: &str| {
        assert!(world.teep(message).is_err(), "{what}");
        tried += 1;
    };
    let response_of = |device: &Device| {
        let reply = device.teep(&world.teep_message(b"")).unwrap();
        match open_teep(&device.key(), &reply) {
            Message::QueryResponse(response) => response,
            other => panic!("{other:?}"),
        }
    };
    let key_of = |device: &Device| {
        let secret = Secret::new(*device.machine.tee_key.expose_secret());
        let derive = |label: &str, context: &[u8]| {
            tegata_crypto::device_keys::software_derive(&RustCrypto, &secret, label, context)
        };
        (
            tegata_crypto::device_keys::teep_key(&RustCrypto, &derive).unwrap(),
            tegata_crypto::device_keys::attestation_key(&RustCrypto, &derive).unwrap(),
        )
    };
    let ((a_teep, a_attest), (b_teep, _)) = (key_of(&a), key_of(&b));
    // A broken device A presents B's evidence, and its own under B's name.
    let of_b = response_of(&b);
    refuse(
        &sign_teep(&a_teep, of_b.clone()),
        "B's evidence under A's signature",
    );
    refuse(
        &sign_teep(&b_teep, response_of(&a)),
        "A's evidence under B's signature",
    );
    // No evidence, evidence of an old challenge, evidence signed by the wrong key of the device.
    let mut bare = of_b.clone();
    bare.attestation = None;
    refuse(&sign_teep(&b_teep, bare), "no evidence");
    let evidence = a.tee.with(|tee| tee.evidence(&[7; 32])).unwrap();
    let mut made_up = of_b.clone();
    if let Some(attestation) = made_up.attestation.as_mut() {
        attestation.payload = evidence;
    }
    refuse(
        &sign_teep(&a_teep, made_up.clone()),
        "a challenge that the TAM never gave",
    );
    let fresh = match open_teep(world.tam.public_key(), &world.teep_message(b"")) {
        Message::QueryRequest(request) => request.challenge.unwrap(),
        other => panic!("{other:?}"),
    };
    let claims = a.tee.with(|tee| tee.evidence(fresh.as_bytes())).unwrap();
    let verified =
        tegata_crypto::cose::verify_sign1(&RustCrypto, &claims, a_attest.public_key(), b"", None)
            .unwrap();
    let payload = verified.payload().to_vec();
    let resigned = sign1(&a_teep, &payload, &Sign1Headers::default(), b"", false).unwrap();
    if let Some(attestation) = made_up.attestation.as_mut() {
        attestation.payload = resigned;
    }
    refuse(
        &sign_teep(&a_teep, made_up.clone()),
        "evidence under the wrong key",
    );
    // Claims of the evidence altered under the right key: another ueid, a stronger wall.
    let b_ueid = b.machine.identity.ueid;
    for what in ["ueid", "level", "cnf", "oemid"] {
        let mut claims = tegata_wire::rats::eat::EatClaims::decode(&payload).unwrap();
        match what {
            "ueid" => claims.ueid = Some(b_ueid),
            "level" => claims.tegata.security_level = Some("optee".into()),
            "cnf" => {
                claims.cnf = Some(tegata_wire::rats::eat::Confirmation::kid(
                    b.key().thumbprint().to_vec(),
                ))
            }
            _ => claims.oemid = Some(tegata_wire::rats::eat::OemId::Pen(1)),
        }
        let signed = sign1(
            &a_attest,
            &claims.encode().unwrap(),
            &Sign1Headers::default(),
            b"",
            false,
        );
        if let Some(attestation) = made_up.attestation.as_mut() {
            attestation.payload = signed.unwrap();
        }
        let message = sign_teep(&a_teep, made_up.clone());
        refuse(&message, what);
        // A refused answer has used its challenge up.
        let again = Challenge::new(fresh.as_bytes().to_vec()).unwrap();
        assert_eq!(again.as_bytes().len(), 32);
    }
    let _ = before_devices;
    Tried::Times(tried)
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

fn for_version(world: &World, cut: &tegata_store::issuer::CutRelease, rule: Availability) {
    world.tam.set_availability(&cut.digest, &rule).unwrap();
}

fn a_uuid(device: &Device) -> DeviceUuid {
    DeviceUuid::derive(&device.machine.identity.ueid)
}

// -- envelopes taken apart and put together again ------------------------------------------------

/// What a TAM puts into the manifest and envelope of one delivery.
struct Parts {
    ta: Vec<u8>,
    config: Vec<u8>,
    dep_ta: Vec<u8>,
    dep_config: Vec<u8>,
    ta_info: Vec<u8>,
    config_info: Vec<u8>,
    sequence: u64,
    device: DeviceUuid,
    conditions: bool,
    overrides: Option<Parameters>,
    manifest: Manifest,
}

impl Parts {
    fn of(envelope: &[u8]) -> Self {
        let root = taken_apart(envelope);
        let part = |name: &str| root.integrated(name).unwrap().to_vec();
        let manifest = manifest_of(envelope);
        let mut infos = Vec::new();
        for command in manifest.sequence(Section::Install).unwrap().commands() {
            if let Command::OverrideParameters(p) = command {
                infos.extend(p.encryption_info.clone());
            }
        }
        let mut device = None;
        for command in manifest.common.shared.as_ref().unwrap().commands() {
            if let Command::OverrideParameters(p) = command {
                device = p.device_id.or(device);
            }
        }
        let [ta_info, config_info] = infos.try_into().unwrap();
        Self {
            ta: part("#ta"),
            config: part("#config"),
            dep_ta: part("#dep-ta"),
            dep_config: part("#dep-config"),
            ta_info,
            config_info,
            sequence: manifest.sequence_number,
            device: device.unwrap(),
            conditions: true,
            overrides: None,
            manifest,
        }
    }

    /// Signed as a TAM signs it, with every digest made to fit.
    fn envelope(self, tam: &PrivateKey) -> Vec<u8> {
        let old = &self.manifest;
        let digest = |bytes: &[u8]| {
            let decoded = UnverifiedEnvelope::decode(bytes);
            decoded.ok().map(|envelope| envelope.digest().clone())
        };
        let mut infos = [self.ta_info.clone(), self.config_info.clone()].into_iter();
        let mut digests = [digest(&self.dep_ta), digest(&self.dep_config)].into_iter();
        let mut install = Vec::new();
        for command in old.sequence(Section::Install).unwrap().commands() {
            install.push(match command {
                Command::OverrideParameters(p) => {
                    let mut p = p.clone();
                    if p.encryption_info.is_some() {
                        p.encryption_info = infos.next();
                        if let Some(more) = self
                            .overrides
                            .as_ref()
                            .filter(|_| p.uri.as_deref() == Some("#ta"))
                        {
                            p.image_digest = more.image_digest.clone();
                            p.image_size = more.image_size;
                        }
                    } else if let Some(Some(digest)) = digests.next() {
                        p.image_digest = Some(digest);
                    }
                    Command::OverrideParameters(p)
                }
                other => other.clone(),
            });
        }
        let mut shared = Vec::new();
        for command in old.common.shared.as_ref().unwrap().commands() {
            match command {
                Command::OverrideParameters(p) => {
                    let mut p = p.clone();
                    p.device_id = Some(self.device);
                    shared.push(Command::OverrideParameters(p));
                }
                Command::Condition(..) if !self.conditions => {}
                other => shared.push(other.clone()),
            }
        }
        let mut manifest = old.clone();
        manifest.sequence_number = self.sequence;
        let manifest = manifest
            .with_shared(shared)
            .with_section(Section::Install, install);
        let parts = [
            ("#dep-ta", self.dep_ta),
            ("#dep-config", self.dep_config),
            ("#config", self.config),
            ("#ta", self.ta),
        ];
        signed(&manifest, tam, &parts).0
    }
}

fn part_of(parts: &mut Parts, part: usize) -> &mut Vec<u8> {
    match part {
        0 => &mut parts.ta,
        1 => &mut parts.config,
        2 => &mut parts.dep_ta,
        3 => &mut parts.dep_config,
        4 => &mut parts.ta_info,
        _ => &mut parts.config_info,
    }
}

/// The delivery with some parts replaced, signed anew with the TAM's key.
fn redeliver(envelope: &[u8], tam: &PrivateKey, change: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let mut parts = Parts::of(envelope);
    change(&mut parts);
    parts.envelope(tam)
}

/// The manifest of an envelope, believed by nobody.
fn manifest_of(envelope: &[u8]) -> Manifest {
    taken_apart(envelope).into_parts().1
}

fn taken_apart(envelope: &[u8]) -> CheckedEnvelope {
    let decoded = UnverifiedEnvelope::decode(envelope).unwrap();
    decoded
        .check_digests(|bytes| RustCrypto.sha256(bytes))
        .unwrap()
}

/// A byte string member of an envelope.
fn bstr_member(envelope: &[u8], key: i64) -> Vec<u8> {
    let mut value = cbor::decode(envelope, 16).unwrap();
    while let Value::Tag(_, inner) = value {
        value = *inner;
    }
    let map = value.into_map().unwrap();
    let found = map.into_iter().find(|(k, _)| *k == Value::from(key));
    found.unwrap().1.into_bytes().unwrap()
}

/// The manifest in an envelope of its own, signed with that key.
fn resigned(manifest: &Manifest, key: &PrivateKey) -> Vec<u8> {
    let mut builder = EnvelopeBuilder::new(manifest, |bytes| RustCrypto.sha256(bytes)).unwrap();
    sign_envelope(key, &mut builder).unwrap();
    builder.finish().unwrap()
}

/// The altered manifest with its true digest, and the signature of the genuine one.
fn with_signature_of(manifest: &Manifest, genuine: &[u8]) -> Vec<u8> {
    let auth = cbor::decode(&bstr_member(genuine, 2), 16).unwrap();
    let signature = auth.into_array().unwrap().into_iter().nth(1).unwrap();
    let mut builder = EnvelopeBuilder::new(manifest, |bytes| RustCrypto.sha256(bytes)).unwrap();
    builder.add_sign1(signature.into_bytes().unwrap()).unwrap();
    builder.finish().unwrap()
}

/// The release manifest with another module's digest.
fn with_image(manifest: &Manifest, module: &[u8]) -> Manifest {
    let mut first = true;
    let shared = manifest
        .common
        .shared
        .as_ref()
        .unwrap()
        .commands()
        .iter()
        .map(|command| match command {
            Command::OverrideParameters(p) if first => {
                first = false;
                let image = tegata_tee::testing::release::image(module);
                let p = Parameters {
                    image_digest: image.image_digest,
                    image_size: image.image_size,
                    ..p.clone()
                };
                Command::OverrideParameters(p)
            }
            other => other.clone(),
        });
    let shared = shared.collect();
    manifest.clone().with_shared(shared)
}

/// Encryption infos and ciphertexts of an Update, as its sender has them.
pub fn payloads_of(world: &World, update: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let parts = Parts::of(&the_envelope(world, update).1);
    vec![(parts.ta_info, parts.ta), (parts.config_info, parts.config)]
}
