//! Evidence at the CA: a device with a PSA Root of Trust gets a certificate for a good token, once for
//! each nonce, and for nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Tests.

mod common;

use std::sync::Arc;

use common::psa::{self, IMPLEMENTATION, Rot, policy, request, statement};
use common::ready::*;
use common::requests::nameless;
use common::rows::count;
use common::stops::StopAt;
use common::*;
use tegata_authority::UnixMs;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::ca::est::{EstDenial, Operation};
use tegata_authority::ca::revocation::{FinalReason, Word};
use tegata_authority::profile::{EXAMPLE, Profiles};
use tegata_authority::registry::{NewPsaDevice, PsaDevice};
use tegata_authority::tam::availability::Availability;
use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _};
use tegata_store::est::{Asker, Enrolled};
use tegata_store::issuer::Issuer;
use tegata_store::revocation::scoped::{Predicate, say_to_all};
use tegata_store::revocation::{Target, say};
use tegata_store::role::{RoleError, Trust};
use tegata_store::status::StatusServer;
use tegata_store::{Faults, NoFaults, approval, certificate, device};
use tegata_wire::enrolment::DeliveryRequest;
use tegata_wire::rats::cmw::{CmwRecord, MessageFormat};
use tegata_wire::rats::psa::PsaClaims;
use tegata_wire::teep::{Message, QueryResponse};
use tegata_wire::x509::{AttestationStatement, CertView, oid};

fn profiles() -> Profiles {
    Profiles::parse(&[EXAMPLE, &psa::profiles()].concat()).unwrap()
}

fn ca(world: &World, faults: Arc<dyn Faults>) -> Issuer {
    let role = role(&world.dir.path().join("ca.db"), faults);
    let issuer = Issuer::open(role, profiles(), MacPolicy::default()).unwrap();
    let issuer = issuer.with_psa_policy(policy(), &mut Seeded(99), SECS);
    issuer.unwrap()
}

/// A CA that takes evidence, and a registered device.
fn begin() -> (World, Issuer, Rot) {
    let mut world = World::new();
    let ca = ca(&world, Arc::new(NoFaults));
    let rot = Rot::new(&mut world.rng, "S1");
    assert!(!ca.role().add_psa_device(&rot.device, SECS).unwrap());
    (world, ca, rot)
}

fn nonce(world: &mut World, ca: &Issuer, now: UnixMs) -> Vec<u8> {
    nonce_for(world, ca, "psa", now)
}

fn nonce_for(world: &mut World, ca: &Issuer, profile: &str, now: UnixMs) -> Vec<u8> {
    let profile = ca.est_profile(Some(profile)).unwrap();
    let fresh = ca.evidence_nonce(profile, &mut world.rng, now).unwrap();
    let fresh = fresh.unwrap();
    assert_eq!(fresh.expiry_secs, 600);
    fresh.nonce.to_vec()
}

fn ask_in(
    world: &mut World,
    ca: &Issuer,
    profile: &str,
    asker: Asker<'_>,
    csr: &[u8],
    now: UnixMs,
) -> Result<Enrolled, EstDenial> {
    let profile = ca.est_profile(Some(profile))?;
    ca.est_enrol(Operation::Enroll, profile, asker, csr, &mut world.rng, now)
}

fn ask(world: &mut World, ca: &Issuer, csr: &[u8], now: UnixMs) -> Result<Enrolled, EstDenial> {
    ask_in(world, ca, "psa", Asker::Nobody, csr, now)
}

fn code(result: Result<Enrolled, EstDenial>) -> &'static str {
    result.unwrap_err().code()
}

fn later(minutes: u64) -> UnixMs {
    UnixMs(NOW.0 + minutes * 60_000)
}

#[test]
fn a_good_token_gets_a_certificate_and_the_same_request_the_same() {
    let (mut world, first_ca, rot) = begin();
    let key = new_key(&mut world);
    let fresh = nonce(&mut world, &first_ca, NOW);
    let token = rot.token(&fresh, &key);
    let csr = request(&key, &[statement(&token)]);
    // Another process of the CA, and one after a restart, know the nonce.
    drop(first_ca);
    let ca = ca(&world, Arc::new(NoFaults));
    let first = ask(&mut world, &ca, &csr, later(9)).unwrap();
    assert!(!first.again);
    assert_eq!(
        (first.by.name(), first.ueid),
        ("evidence", *rot.device.ueid())
    );
    let view = CertView::from_der(&first.certificate).unwrap();
    assert_eq!(view.spki_der, key.public_key().to_spki_der().unwrap());
    let subject = view.subject_der.to_vec();
    assert!(subject.windows(9).any(|part| part == b"sensor S1"));
    let row = |ca: &Issuer| {
        let row = ca
            .role()
            .store
            .read("t", |tx| certificate::find(tx, &first.serial));
        row.unwrap().unwrap()
    };
    assert_eq!(row(&ca).intent.evidence, Some(RustCrypto.sha256(&token)));
    assert!(row(&ca).confirmed_at.is_some());
    // The answer was lost: soon, and long after the nonce's time.
    for now in [later(9), later(11), day(2)] {
        let again = ask(&mut world, &ca, &csr, now).unwrap();
        assert!(again.again && again.certificate == first.certificate);
    }
    assert_eq!(count(&ca), 1);
    // Renewal by the certificate, and by evidence again.
    let key = new_key(&mut world);
    let profile = ca.est_profile(Some("psa")).unwrap();
    let reenroll = |world: &mut World, asker: Asker<'_>, csr: &[u8]| {
        ca.est_enrol(
            Operation::Reenroll,
            profile,
            asker,
            csr,
            &mut world.rng,
            later(9),
        )
    };
    let shown = Asker::Certificate(&first.certificate);
    let next = reenroll(&mut world, shown, &nameless(&key)).unwrap();
    assert_eq!(next.by.name(), "certificate");
    let fresh = nonce(&mut world, &ca, later(9));
    let key = new_key(&mut world);
    let csr = request(&key, &[statement(&rot.token(&fresh, &key))]);
    let next = reenroll(&mut world, Asker::Nobody, &csr).unwrap();
    assert_eq!(next.by.name(), "evidence");
    // Both together: the certificate is looked at too.
    let fresh = nonce(&mut world, &ca, later(9));
    let key = new_key(&mut world);
    let csr = request(&key, &[statement(&rot.token(&fresh, &key))]);
    assert!(reenroll(&mut world, shown, &csr).is_ok());
    assert_eq!(count(&ca), 4);
}

#[test]
fn each_refusal_leaves_the_store_as_it_was() {
    let (mut world, ca, rot) = begin();
    let key = new_key(&mut world);
    let fresh = nonce(&mut world, &ca, NOW);
    let good = rot.token(&fresh, &key);
    let csr = |token: &[u8]| request(&key, &[statement(token)]);
    let refused = |world: &mut World, csr: &[u8], expected: &str| {
        assert_eq!(code(ask(world, &ca, csr, NOW)), expected);
        assert_eq!(count(&ca), 0, "{expected}");
    };
    // The nonce: another one's, of an earlier time, of another CA.
    refused(
        &mut world,
        &csr(&rot.token(&[1; 32], &key)),
        "nonce-foreign",
    );
    let old = rot.token(&fresh, &key);
    assert_eq!(
        code(ask(&mut world, &ca, &csr(&old), later(11))),
        "nonce-old"
    );
    // Not yet made, by a clock that is behind.
    let early = UnixMs(NOW.0 - 60_000);
    assert_eq!(code(ask(&mut world, &ca, &csr(&old), early)), "nonce-old");
    // The key: a token bound to another one.
    let other = new_key(&mut world);
    refused(
        &mut world,
        &csr(&rot.token(&fresh, &other)),
        "evidence-other-key",
    );
    refused(
        &mut world,
        &request(&other, &[statement(&good)]),
        "evidence-other-key",
    );
    // The device: unknown, another's signature, another implementation.
    let stranger = Rot::new(&mut world.rng, "S2");
    refused(
        &mut world,
        &csr(&stranger.token(&fresh, &key)),
        "evidence-unknown-instance",
    );
    let thief = Rot {
        iak: stranger.iak,
        device: rot.device.clone(),
        claims: rot.claims.clone(),
    };
    refused(
        &mut world,
        &csr(&thief.token(&fresh, &key)),
        "evidence-signature",
    );
    let of = |change: fn(&mut PsaClaims)| rot.token_of(&fresh, &key, change);
    let token = of(|c| c.implementation_id = [6; 32]);
    refused(&mut world, &csr(&token), "evidence-implementation");
    // Its state and software.
    refused(
        &mut world,
        &csr(&of(|c| c.lifecycle = 0x5000)),
        "evidence-lifecycle",
    );
    let token = of(|c| c.software[0].measurement = vec![9; 32]);
    refused(&mut world, &csr(&token), "evidence-software");
    // Forms: two tokens, another kind beside a good one, no token, no wrapper.
    let good_one = statement(&good);
    let two = request(&key, &[good_one.clone(), good_one.clone()]);
    refused(&mut world, &two, "attestations");
    let tpm = AttestationStatement {
        kind: "2.23.133.20.1".parse().unwrap(),
        statement: vec![5, 0],
    };
    refused(
        &mut world,
        &request(&key, &[good_one.clone(), tpm.clone()]),
        "attestation",
    );
    refused(&mut world, &request(&key, &[tpm]), "attestation");
    let eat = CmwRecord {
        format: MessageFormat::MediaType("application/eat+cwt".into()),
        value: good.clone(),
        indicators: None,
    };
    let eat = AttestationStatement::of_cmw(&eat).unwrap();
    let denied = ask(&mut world, &ca, &request(&key, &[eat]), NOW).unwrap_err();
    assert_eq!(denied.code(), "attestation");
    assert!(denied.peer_text().contains("application/eat+cwt"));
    refused(&mut world, &csr(&good[..50]), "evidence-malformed");
    let bare = AttestationStatement {
        kind: oid::CMW,
        statement: vec![5, 0],
    };
    refused(&mut world, &request(&key, &[bare]), "attestation-malformed");
    // The profile takes none; an enrolment secret beside it; the Root of Trust's own key.
    let plain = ask_in(&mut world, &ca, "plain", Asker::Nobody, &csr(&good), NOW);
    assert_eq!(code(plain), "evidence-not-taken");
    let secret = Asker::Secret {
        id: "x",
        secret: "y",
    };
    let both = ask_in(&mut world, &ca, "psa", secret, &csr(&good), NOW);
    assert_eq!(code(both), "two-proofs");
    let own = rot.token(&fresh, &rot.iak);
    refused(
        &mut world,
        &request(&rot.iak, &[statement(&own)]),
        "key-reuse",
    );
    // A request that its key did not sign.
    let mut unsigned = csr(&good);
    *unsigned.last_mut().unwrap() ^= 1;
    refused(&mut world, &unsigned, "csr");
    // Revoked: nothing more.
    let store = Arc::clone(&ca.role().store);
    let target = Target::Device(*rot.device.ueid());
    say(&store, &target, Word::Hold, SECS).unwrap();
    refused(&mut world, &csr(&good), "device-revoked");
    say(&store, &target, Word::Unhold, SECS).unwrap();
    // And after all that the same token is good: no refusal used the nonce.
    ask(&mut world, &ca, &csr(&good), NOW).unwrap();
}

#[test]
fn a_nonce_is_for_one_request_whichever_process_saw_it() {
    let (mut world, ca_one, rot) = begin();
    let ca_two = ca(&world, Arc::new(NoFaults));
    let fresh = nonce(&mut world, &ca_one, NOW);
    let (key, other) = (new_key(&mut world), new_key(&mut world));
    let csr = request(&key, &[statement(&rot.token(&fresh, &key))]);
    let second = request(&other, &[statement(&rot.token(&fresh, &other))]);
    let first = ask(&mut world, &ca_two, &csr, NOW).unwrap();
    assert_eq!(code(ask(&mut world, &ca_one, &second, NOW)), "nonce-used");
    assert_eq!(
        code(ask(&mut world, &ca_one, &second, day(40))),
        "nonce-old"
    );
    // Another device has no more of it.
    let neighbour = Rot::new(&mut world.rng, "S2");
    ca_one
        .role()
        .add_psa_device(&neighbour.device, SECS)
        .unwrap();
    let third = request(&other, &[statement(&neighbour.token(&fresh, &other))]);
    assert_eq!(code(ask(&mut world, &ca_one, &third, NOW)), "nonce-used");
    let again = ask(&mut world, &ca_one, &csr, NOW).unwrap();
    assert_eq!(again.certificate, first.certificate);
    assert_eq!(count(&ca_one), 1);
    // A certificate of another device beside the token is no help.
    let fresh = nonce(&mut world, &ca_one, NOW);
    let key = new_key(&mut world);
    let theirs = request(&key, &[statement(&neighbour.token(&fresh, &key))]);
    let shown = Asker::Certificate(&first.certificate);
    let both = ask_in(&mut world, &ca_one, "psa", shown, &theirs, NOW);
    assert_eq!(code(both), "two-proofs");
}

#[test]
fn of_two_requests_at_once_with_one_nonce_one_is_answered() {
    let (mut world, ca_one, rot) = begin();
    let ca_two = ca(&world, Arc::new(NoFaults));
    for round in 0..8 {
        let fresh = nonce(&mut world, &ca_one, NOW);
        let asked = [&ca_one, &ca_two].map(|ca| {
            let key = new_key(&mut world);
            (ca, request(&key, &[statement(&rot.token(&fresh, &key))]))
        });
        let answered: Vec<_> = std::thread::scope(|scope| {
            let threads = asked.iter().zip(1..).map(|((ca, csr), n)| {
                scope.spawn(move || {
                    let profile = ca.est_profile(Some("psa"))?;
                    let rng = &mut Seeded(1_000 * round + n);
                    ca.est_enrol(Operation::Enroll, profile, Asker::Nobody, csr, rng, NOW)
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let refused: Vec<_> = answered.iter().filter_map(|a| a.as_ref().err()).collect();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].code(), "nonce-used");
        assert_eq!(count(&ca_one), usize::try_from(round).unwrap() + 1);
    }
}

#[test]
fn an_operator_may_take_longer_than_the_nonce() {
    let (mut world, ca, rot) = begin();
    let fresh = nonce_for(&mut world, &ca, "watched", NOW);
    let (key, other) = (new_key(&mut world), new_key(&mut world));
    let csr = request(&key, &[statement(&rot.token(&fresh, &key))]);
    let wait =
        |world: &mut World, csr: &[u8], now| ask_in(world, &ca, "watched", Asker::Nobody, csr, now);
    assert_eq!(code(wait(&mut world, &csr, NOW)), "waiting");
    // It waits with this request, and is no other's.
    let second = request(&other, &[statement(&rot.token(&fresh, &other))]);
    assert_eq!(code(wait(&mut world, &second, NOW)), "nonce-used");
    assert_eq!(code(wait(&mut world, &csr, day(1))), "waiting");
    // What waits is fresh for that profile alone: of another one it never was.
    assert_eq!(code(ask(&mut world, &ca, &csr, NOW)), "nonce-foreign");
    assert_eq!(code(ask(&mut world, &ca, &csr, day(1))), "nonce-foreign");
    let store = &ca.role().store;
    let waiting = store.read("t", approval::waiting).unwrap();
    assert_eq!((waiting.len(), waiting[0].asker.as_str()), (1, "evidence"));
    store
        .run_tx("t", |tx| {
            approval::decide(tx, &waiting[0], true, day(1).secs())
        })
        .unwrap();
    wait(&mut world, &csr, day(2)).unwrap();
    assert_eq!(count(&ca), 1);
}

#[test]
fn words_reach_it_as_they_reach_others_and_teep_and_deliveries_do_not() {
    let (mut world, ca, rot) = begin();
    let neighbour = world.batch("B1", 1).remove(0);
    let fresh = nonce(&mut world, &ca, NOW);
    let key = new_key(&mut world);
    let csr = request(&key, &[statement(&rot.token(&fresh, &key))]);
    let enrolled = ask(&mut world, &ca, &csr, NOW).unwrap();
    // Of its batch: the certificate is revoked, and OCSP says so.
    let store = Arc::clone(&ca.role().store);
    let server = StatusServer::new(Arc::new(ca));
    let says = |tag: u8| {
        let id = ocsp::cert_id(&world.ca, &enrolled.serial, true);
        let answer = server.ocsp(&ocsp::request(&id), &mut Seeded(5), SECS);
        let der = &answer.published.der;
        let named = der.windows(id.len()).position(|part| part == id).unwrap();
        assert_eq!(der[named + id.len()], tag);
    };
    says(0x80);
    let batch = |name: &str| Predicate {
        batch: Some(name.into()),
        ..Predicate::default()
    };
    let word = Word::Revoke(FinalReason::KeyCompromise);
    let others = say_to_all(&store, &batch("B1"), word, SECS, |_| ()).unwrap();
    assert_eq!(others.matched, 0);
    let said = say_to_all(&store, &batch("operator"), word, SECS, |_| ()).unwrap();
    assert_eq!((said.matched, said.changed), (1, 1));
    says(0xa1);
    // A delivery for it cannot be made, even if a TAM that is trusted asks.
    let cut = world.release(MODULE, false, Availability::Everybody);
    let tam = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let role = world.ca.role();
    role.trust(Trust::Tam, tam.public_key(), "TAM", SECS)
        .unwrap();
    let mut deliver = |ueid| {
        let request = DeliveryRequest {
            release_digest: cut.digest,
            ueid,
            issued_at_secs: SECS.0,
        };
        let bytes = request.encode().unwrap();
        let signed = sign1(&tam, &bytes, &Sign1Headers::default(), b"", false).unwrap();
        world.ca.deliver(&signed, &mut world.rng, SECS)
    };
    assert!(deliver(neighbour.identity.ueid).is_ok());
    assert_eq!(deliver(*rot.device.ueid()).unwrap_err().code(), "no-tee");
    // Its key signs no TEEP message that anybody knows.
    let payload = Message::QueryResponse(QueryResponse::default())
        .encode()
        .unwrap();
    let message = sign1(&rot.iak, &payload, &Sign1Headers::default(), b"", false).unwrap();
    let peers = Direct {
        ca: &world.ca,
        verifier: &world.verifier,
        now: SECS,
    };
    let fault = world
        .tam
        .teep(&message, &peers, &mut world.rng, NOW)
        .unwrap_err();
    assert_eq!(fault.code(), "not-authenticated");
}

#[test]
fn one_request_is_one_certificate_wherever_the_ca_stops() {
    let (mut world, steady, rot) = begin();
    let mut stopped = 0;
    for at in 0..5 {
        let fresh = nonce(&mut world, &steady, NOW);
        let key = new_key(&mut world);
        let csr = request(&key, &[statement(&rot.token(&fresh, &key))]);
        let faults = StopAt::new(at);
        let before = count(&steady);
        let stopping = ca(&world, faults.clone());
        let answered = ask(&mut world, &stopping, &csr, NOW);
        stopped += usize::from(faults.stopped());
        let new = ask(&mut world, &steady, &csr, NOW).unwrap();
        if let Ok(answered) = answered {
            assert_eq!(answered.certificate, new.certificate);
        }
        assert_eq!(count(&steady), before + 1, "stopped at {at}");
        // The nonce is that request's, and no other's.
        let other = new_key(&mut world);
        let second = request(&other, &[statement(&rot.token(&fresh, &other))]);
        assert_eq!(code(ask(&mut world, &steady, &second, NOW)), "nonce-used");
    }
    assert_eq!(stopped, 2, "before and after the one commit");
}

#[test]
fn the_registry_takes_a_device_once_and_has_no_key_that_it_has_not() {
    let (mut world, ca, rot) = begin();
    let role = ca.role();
    assert!(role.add_psa_device(&rot.device, SECS).unwrap());
    let again = |serial: &str, instance_id: Option<Vec<u8>>| {
        let new = NewPsaDevice {
            iak: rot.iak.public_key().clone(),
            instance_id,
            implementation_id: IMPLEMENTATION,
            model: "sensor".into(),
            serial: serial.into(),
            batch: "operator".into(),
        };
        role.add_psa_device(&PsaDevice::new(&RustCrypto, new).unwrap(), SECS)
    };
    // The same instance of another serial number, the same key of another instance; another instance of the
    // same name, as long as that is not revoked.
    for taken in [again("S9", None), again("S9", Some(vec![1; 33]))] {
        assert!(matches!(taken, Err(RoleError::DeviceTaken(_))), "{taken:?}");
    }
    let named = again("S1", Some(vec![1; 33]));
    assert!(matches!(named, Err(RoleError::DeviceNamed(_))), "{named:?}");
    let found = role.device(rot.device.ueid()).unwrap().unwrap();
    assert!(!found.row.has_tee && found.endorsed.tee().is_none());
    assert_eq!(found.endorsed.psa(), Some(&rot.device));
    assert_eq!(
        (found.row.serial.as_str(), found.row.batch.as_str()),
        ("S1", "operator")
    );
    // Beside devices with our TEE, and another one without.
    let tee = world.batch("B1", 1);
    let second = Rot::new(&mut world.rng, "S2");
    assert!(!role.add_psa_device(&second.device, SECS).unwrap());
    let listed = role
        .store
        .read("t", |tx| device::list(tx, device::DeviceId(0), 10));
    let mut tees: Vec<bool> = listed.unwrap().iter().map(|row| row.has_tee).collect();
    tees.sort_unstable();
    assert_eq!(tees, [false, false, true]);
    let found = role.device(&tee[0].identity.ueid).unwrap().unwrap();
    assert!(found.row.has_tee && found.endorsed.psa().is_none());
    // A profile that takes no evidence gives no nonce.
    let plain = ca.est_profile(Some("plain")).unwrap();
    assert_eq!(ca.evidence_nonce(plain, &mut world.rng, NOW).unwrap(), None);
}
