//! Devices that have a confirmed certificate each, by their TAs.
#![allow(dead_code)]

use std::sync::Arc;

use tegata_authority::UnixMs;
use tegata_authority::tam::availability::Availability;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _};
use tegata_store::issuer::CmpOutcome;
use tegata_store::tam::TeepAnswer;
use tegata_wire::x509::{CertView, SignatureAlg};

use super::kur::{Current, send};
use super::{Device, Direct, MODULE, NOW, World, certificate_of};

pub const DAY_MS: u64 = 86_400_000;

/// Days after the first certificates.
pub fn day(days: u64) -> UnixMs {
    UnixMs(NOW.0 + days * DAY_MS)
}

/// A CA, and devices with a confirmed certificate each.
pub fn ready(count: usize) -> (World, Vec<Device>, Vec<Current>) {
    ready_in(World::new(), count)
}

pub fn ready_in(mut world: World, count: usize) -> (World, Vec<Device>, Vec<Current>) {
    let mut devices = world.batch("B1", count);
    let cut = world.release(MODULE, false, Availability::Everybody);
    let mut current = Vec::new();
    for device in &mut devices {
        let peers = Direct {
            ca: &world.ca,
            verifier: &world.verifier,
            now: NOW.secs(),
        };
        let (answer, _) = world.tam.teep(b"", &peers, &mut world.rng, NOW).unwrap();
        let TeepAnswer::Message(query) = answer else {
            panic!()
        };
        let response = device.query_response(&query, world.tam.public_key(), &[cut.ta]);
        let answered = world.tam.teep(&response, &peers, &mut world.rng, NOW);
        let TeepAnswer::Message(update) = answered.unwrap().0 else {
            panic!()
        };
        let tam = world.tam.public_key().clone();
        device.process(&update, &tam, world.ca.release_public_key());
        current.push(enrol(&mut world, device));
    }
    (world, devices, current)
}

pub fn new_key(world: &mut World) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap())
}

pub fn enrol(world: &mut World, device: &Device) -> Current {
    let key = new_key(world);
    let answer = send(
        &world.ca,
        &mut world.rng,
        &device.p10cr(&device.csr(&key), 1),
        NOW,
    );
    let der = certificate_of(&answer.body, &world.ca).unwrap();
    let alg = CertView::from_der(&der).unwrap().signature_alg().unwrap();
    let hash = match alg {
        SignatureAlg::EcdsaSha384 => RustCrypto.sha384(&der).to_vec(),
        _ => RustCrypto.sha256(&der).to_vec(),
    };
    let conf = device.cert_conf(&answer.body, &hash, 1);
    let confirmed = send(&world.ca, &mut world.rng, &conf, NOW);
    assert!(matches!(confirmed.outcome, CmpOutcome::Confirmed { .. }));
    Current { key, der }
}
