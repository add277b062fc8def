//! Rollovers as operators and devices see them: the command, and what is made of answers.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

use std::sync::Arc;

use tegata_authority::UnixSecs;
use tegata_crypto::chain::{Purpose, TrustAnchor, verify_chain};
use tegata_crypto::cmp::verify_message_signature;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_store::generation::{Generations, Kind, Made, Next, Sure, roll_over};
use tegata_store::issuer::CmpOutcome;
use tegata_store::role::RoleError;
use tegata_store::status::StatusServer;
use tegata_store::{Faults, NoFaults};
use tegata_wire::cmp::{PkiBody, UnverifiedPkiMessage};
use tegata_wire::x509::CertView;

use super::kur::{Asked, Current, send};
use super::ocsp::{cert_id_by, check_response, request};
use super::ready::{day, new_key};
use super::{Device, Seeded, World, role};

/// What the operator's command does, in a process of its own.
pub fn roll(world: &World, number: u32, kind: Kind, now: UnixSecs) -> Result<Made, RoleError> {
    roll_with(world, number, kind, now, Arc::new(NoFaults))
}

pub fn roll_with(
    world: &World,
    number: u32,
    kind: Kind,
    now: UnixSecs,
    faults: Arc<dyn Faults>,
) -> Result<Made, RoleError> {
    let role = role(&world.dir.path().join("ca.db"), faults);
    roll_over(
        &role,
        next(number, kind),
        &mut Seeded(u64::from(number) << 32),
        now,
    )
}

/// A generation as most are wanted.
pub fn next(number: u32, kind: Kind) -> Next {
    Next {
        number,
        kind,
        alg: None,
        leaked: false,
        sure: Sure::default(),
    }
}

/// As [`roll`], wanted in another way.
pub fn roll_next(world: &World, next: Next, now: UnixSecs) -> Result<Made, RoleError> {
    let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
    roll_over(&role, next, &mut Seeded(u64::from(next.number) << 32), now)
}

pub fn generations(world: &World) -> Generations {
    let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
    Generations::load(&role).unwrap()
}

pub fn verify(
    leaf: &[u8],
    with: &[Vec<u8>],
    anchors: &[Vec<u8>],
    now: UnixSecs,
) -> Result<(), String> {
    let with: Vec<&[u8]> = with.iter().map(Vec::as_slice).collect();
    let anchors = anchors.iter().map(|der| TrustAnchor::from_cert_der(der));
    let anchors: Vec<_> = anchors.map(Result::unwrap).collect();
    verify_chain(
        &RustCrypto,
        leaf,
        &with,
        &anchors,
        Purpose::EndEntity,
        now.0,
    )
    .map(drop)
    .map_err(|e| e.to_string())
}

/// What a device that trusts these roots makes of an answer, with nothing but what is in it: the
/// certificate, or nothing from a pkiConf.
pub fn taken(answer: &[u8], anchors: &[Vec<u8>], now: UnixSecs) -> Result<Vec<u8>, String> {
    let message = UnverifiedPkiMessage::from_der(answer).unwrap();
    let extra = message.extra_certs().iter();
    let extra: Vec<Vec<u8>> = extra.map(|cert| cert.as_bytes().to_vec()).collect();
    let views: Vec<&[u8]> = extra.iter().map(Vec::as_slice).collect();
    let roots: Vec<_> = anchors
        .iter()
        .map(|der| TrustAnchor::from_cert_der(der).unwrap())
        .collect();
    let signer = verify_chain(
        &RustCrypto,
        views[0],
        &views[1..],
        &roots,
        Purpose::Ca,
        now.0,
    );
    let signer = signer.map_err(|e| format!("signer: {e}"))?;
    let _proof = verify_message_signature(&RustCrypto, &message, signer.leaf_key()).unwrap();
    match message.body().decode().unwrap() {
        PkiBody::Ip(rep) | PkiBody::Cp(rep) | PkiBody::Kup(rep) => {
            let der = rep.response[0].certificate().unwrap().to_vec();
            verify(&der, &extra, anchors, now)?;
            Ok(der)
        }
        PkiBody::PkiConf => Ok(Vec::new()),
        other => Err(format!("{other:?}")),
    }
}

pub fn issuer_of(der: &[u8]) -> Vec<u8> {
    CertView::from_der(der).unwrap().issuer_der.to_vec()
}

/// A device renews: request, answer, confirmation, each checked as the device does.
pub fn renewed(
    world: &mut World,
    device: &Device,
    old: &Current,
    anchors: &[Vec<u8>],
    days: u64,
) -> Current {
    let n = u8::try_from(days % 200).unwrap();
    let (key, now) = (new_key(world), day(days));
    let kur = old.sign(&Asked::kur(device, old, &key).body(), n, None);
    let answer = send(&world.ca, &mut world.rng, &kur, now);
    let der = taken(&answer.body, anchors, now.secs()).unwrap();
    let conf = old.conf(&answer.body, &der, n);
    let confirmed = send(&world.ca, &mut world.rng, &conf, now);
    assert!(matches!(
        confirmed.outcome,
        CmpOutcome::Confirmed { accepted: true, .. }
    ));
    // A pkiConf may have no certificates: then the device has kept those of the answer before.
    let message = UnverifiedPkiMessage::from_der(&confirmed.body).unwrap();
    if message.extra_certs().is_empty() {
        let before = UnverifiedPkiMessage::from_der(&answer.body).unwrap();
        let signer = CertView::from_der(before.extra_certs()[0].as_bytes()).unwrap();
        let key = tegata_crypto::PublicKey::from_spki_der(signer.spki_der).unwrap();
        let _proof = verify_message_signature(&RustCrypto, &message, &key).unwrap();
    } else {
        assert_eq!(taken(&confirmed.body, anchors, now.secs()).unwrap(), b"");
    }
    Current { key, der }
}

/// What the responder says of a serial number under an issuing CA, by a certificate of that CA's key.
pub fn told(server: &StatusServer, issuing: &[u8], serial: &[u8], now: UnixSecs) -> &'static str {
    let id = cert_id_by(issuing, serial, true);
    let answer = server.ocsp(&request(&id), &mut Seeded(5), now);
    assert_eq!(answer.reason, "ok");
    let der = &answer.published.der;
    check_response(der, issuing);
    let named = der.windows(id.len()).position(|part| part == id);
    match der[named.unwrap() + id.len()] {
        0x80 => "good",
        0xa1 => "revoked",
        0x82 => "unknown",
        other => panic!("{other:#x}"),
    }
}
