//! Requests that get no certificate: one row for each, with what the peer is told; and the state
//! is as before.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use common::rows::count;
use common::*;
use proptest::prelude::*;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::tam::availability::Availability;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _};
use tegata_store::certificate;
use tegata_store::tam::TeepAnswer;
use tegata_wire::cmp::{
    HashAlg, MessageToProtect, Pbmac1Parameter, PkiHeader, ProtectionAlg, RawBody, null_dn,
};
use tegata_wire::enrolment::Identity;
use tegata_wire::ids::TaUuid;
use tegata_wire::x509::{CsrBuilder, ExtensionSet, NameBuilder, SanEntry};

fn ready() -> (World, Vec<Device>) {
    let mut world = World::new();
    let mut devices = world.batch("B1", 2);
    let cut = world.release(MODULE, false, Availability::Everybody);
    deliver(&mut world, &mut devices, cut.ta);
    (world, devices)
}

/// Brings the release to the devices.
fn deliver(world: &mut World, devices: &mut [Device], ta: TaUuid) {
    for device in devices {
        let peers = Direct {
            ca: &world.ca,
            verifier: &world.verifier,
            now: NOW.secs(),
        };
        let (answer, _) = world.tam.teep(b"", &peers, &mut world.rng, NOW).unwrap();
        let TeepAnswer::Message(query) = answer else {
            panic!()
        };
        let response = device.query_response(&query, world.tam.public_key(), &[ta]);
        let (answer, _) = world
            .tam
            .teep(&response, &peers, &mut world.rng, NOW)
            .unwrap();
        let TeepAnswer::Message(update) = answer else {
            panic!()
        };
        device.process(
            &update,
            world.tam.public_key(),
            world.ca.release_public_key(),
        );
    }
}

/// What the peer is told; nothing may be recorded.
fn told(world: &mut World, path: &str, request: &[u8]) -> String {
    let before = count(&world.ca);
    let answer = world.ca.cmp(path, request, &mut world.rng, NOW);
    let told = certificate_of(&answer.body, &world.ca).expect_err("a certificate was issued");
    assert_eq!(count(&world.ca), before, "state changed");
    told
}

fn builder(device: &Device, key: &PrivateKey) -> CsrBuilder {
    let order = &device.installed.as_ref().unwrap().procedure.certificates[0];
    let identity = Identity::from(&device.identity);
    CsrBuilder {
        subject: order.subject(&identity).unwrap(),
        spki_der: key.public_key().to_spki_der().unwrap(),
        san: order.san(&identity).unwrap(),
        extensions: Vec::new(),
    }
}

#[test]
fn each_refusal() {
    let (mut world, devices) = ready();
    let (a, b) = (&devices[0], &devices[1]);
    let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let good = a.csr(&key);
    let i = a.installed.clone().unwrap();
    let body = |csr: &[u8]| RawBody::p10cr(csr).unwrap();

    // Not authenticated: unknown release, unknown device, wrong key, altered byte. All look alike.
    let mut kid = i.kid.clone();
    kid[0] ^= 1;
    assert_eq!(
        told(
            &mut world,
            "device",
            &protect(&kid, &i.key, 1, None, &body(&good), false)
        ),
        "BAD_MESSAGE_CHECK"
    );
    let mut kid = i.kid.clone();
    let last = kid.len() - 1;
    kid[last] ^= 1;
    assert_eq!(
        told(
            &mut world,
            "device",
            &protect(&kid, &i.key, 1, None, &body(&good), false)
        ),
        "BAD_MESSAGE_CHECK"
    );
    assert_eq!(
        told(
            &mut world,
            "device",
            &protect(&i.kid, &[0; 32], 1, None, &body(&good), false)
        ),
        "BAD_MESSAGE_CHECK"
    );
    assert_eq!(
        told(
            &mut world,
            "device",
            &protect(b"short", &i.key, 1, None, &body(&good), false)
        ),
        "BAD_MESSAGE_CHECK"
    );
    // The key of the nobody that unknown keys are compared with opens nothing.
    let nobody = tegata_crypto::csr_auth::device_csr_auth_key(
        &RustCrypto,
        &tegata_crypto::Secret::new([0; 32]),
        &[0; 32],
        tegata_wire::ids::Ueid::from_random([0; 16]).as_bytes(),
    )
    .unwrap();
    assert_eq!(
        told(
            &mut world,
            "device",
            &protect(&kid, nobody.expose_secret(), 1, None, &body(&good), false)
        ),
        "BAD_MESSAGE_CHECK"
    );

    // Device A, authenticated as itself, asks for B's names; a CSR of B under A's key.
    let b_names = sign_csr(&builder(b, &key), &key);
    assert_eq!(
        told(&mut world, "device", &a.p10cr(&b_names, 1)),
        "BAD_CERT_TEMPLATE"
    );
    // Another subject, no alternative names, one too many.
    let mut other = builder(a, &key);
    let cn = tegata_wire::x509::AttributeSpec::by_name("CN").unwrap();
    other.subject = NameBuilder::new()
        .push(cn, "admin")
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(
        told(&mut world, "device", &a.p10cr(&sign_csr(&other, &key), 1)),
        "BAD_CERT_TEMPLATE"
    );
    let mut other = builder(a, &key);
    other.san.clear();
    assert_eq!(
        told(&mut world, "device", &a.p10cr(&sign_csr(&other, &key), 1)),
        "BAD_CERT_TEMPLATE"
    );
    let mut other = builder(a, &key);
    other.san.push(SanEntry::Dns("example.com".into()));
    assert_eq!(
        told(&mut world, "device", &a.p10cr(&sign_csr(&other, &key), 1)),
        "BAD_CERT_TEMPLATE"
    );
    // Extensions that the profile does not give: a CA, another usage.
    let mut ca = ExtensionSet::new();
    ca.basic_constraints(true, None).unwrap();
    let mut other = builder(a, &key);
    other.extensions = ca.as_slice().to_vec();
    assert_eq!(
        told(&mut world, "device", &a.p10cr(&sign_csr(&other, &key), 1)),
        "UNACCEPTED_EXTENSION"
    );
    // A request whose own signature is of another key, or altered.
    let stranger = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let forged = sign_csr(&builder(a, &key), &stranger);
    assert_eq!(told(&mut world, "device", &a.p10cr(&forged, 1)), "BAD_POP");
    // The device's own TEEP key as identity key.
    let reuse = sign_csr(&builder(a, &a.teep), &a.teep);
    assert_eq!(
        told(&mut world, "device", &a.p10cr(&reuse, 1)),
        "NOT_AUTHORIZED"
    );
    // Another profile's path; rubbish; an empty body; a confirmation of nothing.
    assert_eq!(told(&mut world, "other", &a.p10cr(&good, 1)), "BAD_REQUEST");
    assert_eq!(told(&mut world, "device", b"rubbish"), "BAD_DATA_FORMAT");
    assert_eq!(told(&mut world, "device", b""), "BAD_DATA_FORMAT");
    let conf = RawBody::cert_conf(-1, &[0; 32], None).unwrap();
    assert_eq!(
        told(
            &mut world,
            "device",
            &protect(&i.kid, &i.key, 9, None, &conf, false)
        ),
        "BAD_REQUEST"
    );
    let rubbish = RawBody::p10cr(&[0x30, 0x00]).unwrap();
    assert_eq!(
        told(
            &mut world,
            "device",
            &protect(&i.kid, &i.key, 1, None, &rubbish, false)
        ),
        "BAD_DATA_FORMAT"
    );
    let answer = RawBody::pki_conf().unwrap();
    assert_eq!(
        told(
            &mut world,
            "device",
            &protect(&i.kid, &i.key, 1, None, &answer, false)
        ),
        "BAD_REQUEST"
    );
    // Headers that lack what replies are told apart by.
    let header = PkiHeader::new(null_dn(), null_dn())
        .with_sender_kid(&i.kid)
        .unwrap();
    let bare = MessageToProtect::new(&header, &body(&good))
        .unwrap()
        .into_der(None, &[])
        .unwrap();
    assert_eq!(told(&mut world, "device", &bare), "BAD_DATA_FORMAT");
    let header = header.with_transaction_id(&[1; 16]).unwrap();
    let bare = MessageToProtect::new(&header, &body(&good))
        .unwrap()
        .into_der(None, &[])
        .unwrap();
    assert_eq!(told(&mut world, "device", &bare), "BAD_SENDER_NONCE");
    let header = header.with_sender_nonce(&[1; 16]).unwrap();
    let bare = MessageToProtect::new(&header, &body(&good))
        .unwrap()
        .into_der(None, &[])
        .unwrap();
    assert_eq!(told(&mut world, "device", &bare), "BAD_MESSAGE_CHECK");
    // After all that the good one is served.
    let answer = world
        .ca
        .cmp("device", &a.p10cr(&good, 1), &mut world.rng, NOW);
    let cert = certificate_of(&answer.body, &world.ca).unwrap();
    // A confirmation with another nonce, of another certificate.
    let wrong = a.cert_conf(&answer.body, &RustCrypto.sha256(b"other"), 1);
    assert_eq!(told(&mut world, "device", &wrong), "BAD_CERT_ID");
    let conf = RawBody::cert_conf(-1, &RustCrypto.sha256(&cert), None).unwrap();
    let wrong = protect(&i.kid, &i.key, 1, Some(&[0; 16]), &conf, false);
    assert_eq!(told(&mut world, "device", &wrong), "BAD_RECIPIENT_NONCE");
    // B cannot confirm A's certificate: the transaction is another's.
    let conf = b.cert_conf(&answer.body, &RustCrypto.sha256(&cert), 1);
    assert_eq!(told(&mut world, "device", &conf), "BAD_REQUEST");
}

#[test]
fn a_request_is_of_the_kind_that_its_protected_header_says() {
    let mut world = World::new();
    // A release that orders two kinds, which differ in what only the CA looks at: an attacker who
    // moves a request to the other path gets nothing.
    let text = tegata_authority::profile::EXAMPLE;
    let second = text.replace("profile.device", "profile.signing");
    let second = second.replace("clientAuth", "codeSigning");
    let profiles = tegata_authority::profile::Profiles::parse(&format!("{text}\n{second}"));
    let role = world.ca.role().clone();
    let policy = MacPolicy::default();
    world.ca = tegata_store::issuer::Issuer::open(role, profiles.unwrap(), policy).unwrap();
    let mut devices = world.batch("B1", 1);
    let new = tegata_store::issuer::NewRelease {
        ta_name: "enrol",
        module: MODULE,
        profiles: &["device", "signing"],
        paper_exchange_key: None,
        available: &Availability::Everybody,
    };
    let cut = world.ca.release(&new, &mut world.rng, SECS).unwrap();
    let everybody = Availability::Everybody;
    world
        .tam
        .import_release(&cut.package, &everybody, SECS)
        .unwrap();
    world
        .verifier
        .import_reference_value(&cut.ta_envelope, SECS)
        .unwrap();
    deliver(&mut world, &mut devices, cut.ta);
    let i = devices[0].installed.clone().unwrap();
    let kinds: Vec<&str> = i
        .procedure
        .certificates
        .iter()
        .map(|order| order.profile.as_str())
        .collect();
    assert_eq!(kinds, ["device", "signing"]);

    let request = |world: &mut World, said: Option<&str>| {
        let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
        let mut header = PkiHeader::new(null_dn(), null_dn())
            .with_transaction_id(&[1; 16])
            .and_then(|h| h.with_sender_nonce(&[2; 16]))
            .and_then(|h| h.with_sender_kid(&i.kid))
            .and_then(|h| h.with_protection(&ProtectionAlg::HMAC_SHA256))
            .unwrap();
        if let Some(said) = said {
            header = header.with_cert_profile(said).unwrap();
        }
        let body = RawBody::p10cr(&devices[0].csr(&key)).unwrap();
        let message = MessageToProtect::new(&header, &body).unwrap();
        let mac = RustCrypto.hmac_sha256(&i.key, &message.protected_part().unwrap());
        message.into_der(Some(&mac), &[]).unwrap()
    };
    for (said, path) in [
        (Some("device"), "signing"),
        (Some("signing"), "device"),
        (Some("other"), "device"),
        (Some("device"), "other"),
        (None, "device"),
        (None, "signing"),
    ] {
        let moved = request(&mut world, said);
        assert_eq!(
            told(&mut world, path, &moved),
            "BAD_REQUEST",
            "{said:?} {path}"
        );
    }
    for profile in ["device", "signing"] {
        let asked = request(&mut world, Some(profile));
        let answer = world.ca.cmp(profile, &asked, &mut world.rng, NOW);
        let der = certificate_of(&answer.body, &world.ca).unwrap();
        let view = tegata_wire::x509::CertView::from_der(&der).unwrap();
        let purposes = view.ext_key_usage().unwrap();
        let code = tegata_wire::x509::oid::KP_CODE_SIGNING;
        assert_eq!(purposes.contains(&code), profile == "signing");
    }
}

#[test]
fn the_registry_is_asked_for_who_has_proved_a_key_alone() {
    let (mut world, devices) = ready();
    let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let i = devices[0].installed.clone().unwrap();
    let body = RawBody::p10cr(&devices[0].csr(&key)).unwrap();
    let [forged, right] =
        [&[0; 32], &i.key[..]].map(|key| protect(&i.kid, key, 1, None, &body, false));
    // Whoever reads the device's row sees that it is damaged.
    let sql = Sql::open(&world.dir.path().join("ca.db"));
    sql.run("UPDATE device SET endorsement = teep_kid");
    assert_eq!(told(&mut world, "device", &forged), "BAD_MESSAGE_CHECK");
    assert_eq!(told(&mut world, "device", &right), "SYSTEM_FAILURE");
    // The release's key makes one for every device, also for those that are not: nobody learns which are.
    sql.run("UPDATE device SET ueid = attestation_kid");
    for request in [&forged, &right] {
        assert_eq!(told(&mut world, "device", request), "BAD_MESSAGE_CHECK");
    }
}

#[test]
fn implicit_confirm_only_where_the_profile_allows_it() {
    let (mut world, devices) = ready();
    let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let i = devices[0].installed.clone().unwrap();
    let body = RawBody::p10cr(&devices[0].csr(&key)).unwrap();
    let request = protect(&i.kid, &i.key, 1, None, &body, true);
    for allowed in [false, true] {
        if allowed {
            let text = tegata_authority::profile::EXAMPLE
                .replace("implicit_confirm = false", "implicit_confirm = true");
            let profiles = tegata_authority::profile::Profiles::parse(&text).unwrap();
            let role = world.ca.role().clone();
            world.ca =
                tegata_store::issuer::Issuer::open(role, profiles, MacPolicy::default()).unwrap();
        }
        let answer = world.ca.cmp("device", &request, &mut world.rng, NOW);
        certificate_of(&answer.body, &world.ca).unwrap();
        let header = tegata_wire::cmp::UnverifiedPkiMessage::from_der(&answer.body).unwrap();
        assert_eq!(header.header().implicit_confirm(), allowed);
    }
    let rows = world
        .ca
        .role()
        .store
        .read("t", |tx| certificate::list(tx, &[], 10))
        .unwrap();
    assert!(rows.len() == 1 && rows[0].confirmed_at.is_some());
}

#[test]
fn pbmac1_only_where_it_is_configured() {
    let (mut world, devices) = ready();
    let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let i = devices[0].installed.clone().unwrap();
    let parameter = Pbmac1Parameter {
        salt: b"salt".to_vec(),
        iterations: 100,
        key_len: 32,
        prf: HashAlg::Sha256,
        mac: HashAlg::Sha256,
    };
    let header = PkiHeader::new(null_dn(), null_dn())
        .with_transaction_id(&[1; 16])
        .and_then(|h| h.with_sender_nonce(&[2; 16]))
        .and_then(|h| h.with_sender_kid(&i.kid))
        .and_then(|h| h.with_protection(&ProtectionAlg::Pbmac1(parameter)))
        .unwrap();
    let body = RawBody::p10cr(&devices[0].csr(&key)).unwrap();
    let message = MessageToProtect::new(&header, &body).unwrap();
    let part = message.protected_part().unwrap();
    let mut derived = [0; 32];
    RustCrypto
        .pbkdf2_hmac_sha256(&i.key, b"salt", 100, &mut derived)
        .unwrap();
    let mac = RustCrypto.hmac_sha256(&derived, &part);
    let request = message.into_der(Some(&mac), &[]).unwrap();
    assert_eq!(told(&mut world, "device", &request), "BAD_ALG");
    let policy = MacPolicy {
        accept_password_based: true,
    };
    let role = world.ca.role().clone();
    world.ca = tegata_store::issuer::Issuer::open(role, profiles(), policy).unwrap();
    let answer = world.ca.cmp("device", &request, &mut world.rng, NOW);
    certificate_of(&answer.body, &world.ca).unwrap();
}

#[test]
fn every_flipped_bit_and_every_truncation_is_refused() {
    let (mut world, devices) = ready();
    let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let request = devices[0].p10cr(&devices[0].csr(&key), 1);
    for at in 0..request.len() {
        let mut altered = request.clone();
        altered[at] ^= 1 << (at % 8);
        told(&mut world, "device", &altered);
    }
    for len in (0..request.len()).step_by(7) {
        told(&mut world, "device", &request[..len]);
    }
    assert_eq!(count(&world.ca), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever a device puts into its request, it gets a certificate with exactly its own names
    /// and key, or none.
    #[test]
    fn a_certificate_says_what_the_registry_says(
        alg in 0usize..3,
        common_name in "[a-zA-Z0-9 ]{1,20}",
        change_subject in any::<bool>(),
        drop_san in any::<bool>(),
        extra_uri in proptest::option::of("urn:[a-z]{1,10}"),
        swap_names in any::<bool>(),
    ) {
        thread_local! {
            static WORLD: std::cell::RefCell<Option<(World, Vec<Device>)>> =
                const { std::cell::RefCell::new(None) };
        }
        WORLD.with(|cell| {
            let mut cell = cell.borrow_mut();
            let (world, devices) = cell.get_or_insert_with(ready);
            let device = &devices[0];
            let key = PrivateKey::generate(KeyAlg::ALL[alg], &mut world.rng).unwrap();
            let named = if swap_names { &devices[1] } else { device };
            let mut b = builder(named, &key);
            if change_subject {
                let cn = tegata_wire::x509::AttributeSpec::by_name("CN").unwrap();
                b.subject = NameBuilder::new().push(cn, &common_name).unwrap().build().unwrap();
            }
            if drop_san {
                b.san.pop();
            }
            b.san.extend(extra_uri.clone().map(SanEntry::Uri));
            let honest = !change_subject && !drop_san && extra_uri.is_none() && !swap_names;
            let answer = world.ca.cmp("device", &device.p10cr(&sign_csr(&b, &key), 3), &mut world.rng, NOW);
            match certificate_of(&answer.body, &world.ca) {
                Ok(der) => {
                    let view = tegata_wire::x509::CertView::from_der(&der).unwrap();
                    let expected = builder(device, &key);
                    assert!(honest);
                    assert_eq!(view.subject_der, expected.subject.as_der());
                    assert_eq!(view.spki_der, expected.spki_der);
                    let san = view.extension(&tegata_wire::x509::oid::SUBJECT_ALT_NAME).unwrap();
                    assert_eq!(san.value, tegata_wire::x509::encode_san(&expected.san).unwrap());
                }
                Err(told) => assert!(!honest, "{told}"),
            }
        });
    }
}

#[test]
fn deliveries_that_are_denied() {
    use tegata_crypto::cose::{Sign1Headers, sign1};
    use tegata_wire::enrolment::{Delivery, DeliveryRequest};

    let mut world = World::new();
    let device = world.batch("B1", 1).remove(0);
    let cut = world.release(MODULE, false, Availability::Everybody);
    let paper = world.release(&[MODULE, b"p"].concat(), true, Availability::Everybody);
    let stranger = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let friend = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let trusted = tegata_store::role::Trust::Tam;
    world
        .ca
        .role()
        .trust(trusted, friend.public_key(), "second TAM", SECS)
        .unwrap();
    let good = DeliveryRequest {
        release_digest: cut.digest,
        ueid: device.identity.ueid,
        issued_at_secs: SECS.0,
    };
    let sign = |request: &DeliveryRequest, key: &PrivateKey| {
        sign1(
            key,
            &request.encode().unwrap(),
            &Sign1Headers::default(),
            b"",
            false,
        )
        .unwrap()
    };
    let mut ask = |bytes: &[u8]| world.ca.deliver(bytes, &mut world.rng, SECS);
    let delivery = Delivery::decode(&ask(&sign(&good, &friend)).unwrap()).unwrap();
    // Asked again it is the same manifest, freshly encrypted.
    let again = Delivery::decode(&ask(&sign(&good, &friend)).unwrap()).unwrap();
    assert_eq!(delivery.config_envelope, again.config_envelope);
    assert_ne!(delivery.config_ciphertext, again.config_ciphertext);

    let mut denied = |bytes: &[u8]| ask(bytes).unwrap_err().code();
    assert_eq!(denied(&sign(&good, &stranger)), "untrusted");
    assert_eq!(denied(b""), "untrusted");
    let mut altered = sign(&good, &friend);
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    assert_eq!(denied(&altered), "untrusted");
    for at in [SECS.0 - 301, SECS.0 + 301] {
        let stale = DeliveryRequest {
            issued_at_secs: at,
            ..good
        };
        assert_eq!(denied(&sign(&stale, &friend)), "stale");
    }
    let release_digest = tegata_wire::ids::ReleaseDigest([9; 32]);
    let unknown = DeliveryRequest {
        release_digest,
        ..good
    };
    assert_eq!(denied(&sign(&unknown, &friend)), "unknown-release");
    let ueid = tegata_wire::ids::Ueid::from_random([9; 16]);
    let unknown = DeliveryRequest { ueid, ..good };
    assert_eq!(denied(&sign(&unknown, &friend)), "unknown-device");
    let of_paper = DeliveryRequest {
        release_digest: paper.digest,
        ..good
    };
    assert_eq!(denied(&sign(&of_paper, &friend)), "paper-profile");
    let rubbish = sign1(&friend, b"x", &Sign1Headers::default(), b"", false).unwrap();
    assert_eq!(denied(&rubbish), "malformed");
    world
        .ca
        .set_availability(&cut.digest, &Availability::Nobody)
        .unwrap();
    let e = world
        .ca
        .deliver(&sign(&good, &friend), &mut world.rng, SECS)
        .unwrap_err();
    assert_eq!(e.code(), "not-available");
}

/// The package as it travels to a TAM on another machine.
fn with_notice(package: &[u8], notice: Option<Vec<u8>>) -> Vec<u8> {
    use tegata_wire::enrolment::ReleasePackage;
    let package = ReleasePackage::decode(package).unwrap();
    ReleasePackage { notice, ..package }.encode().unwrap()
}

#[test]
fn a_tam_elsewhere_gives_a_release_to_those_the_ca_names_and_to_nobody_else() {
    use tegata_authority::tam::notice::sign_notice;

    let mut world = World::new();
    world.batch("B1", 1);
    let batch = Availability::Batches(vec!["試作".into()]);
    let new = tegata_store::issuer::NewRelease {
        ta_name: "enrol",
        module: MODULE,
        profiles: &["device"],
        paper_exchange_key: None,
        available: &batch,
    };
    let cut = world.ca.release(&new, &mut world.rng, SECS).unwrap();
    let staged = with_notice(&cut.package, Some(world.ca.notice(&cut.digest).unwrap().1));
    let registered = |package: &[u8]| {
        let summary = world.tam.register_release(package, SECS);
        summary.map(|s| s.availability).map_err(|e| e.code())
    };
    // Who strips the notice keeps the release from everybody; who brings it gives it to the batch.
    assert_eq!(registered(&cut.package), Ok(Availability::Nobody));
    assert_eq!(registered(&staged), Ok(batch.clone()));
    assert_eq!(registered(&cut.package), Ok(batch.clone()));
    // This TAM's operator narrows it, and is not overruled by what was said before.
    world
        .tam
        .set_availability(&cut.digest, &Availability::Nobody)
        .unwrap();
    assert_eq!(registered(&staged), Ok(Availability::Nobody));
    // A later decision stands, and an earlier one replayed after it does not.
    let everybody = Availability::Everybody;
    world.ca.set_availability(&cut.digest, &everybody).unwrap();
    let wide = with_notice(&cut.package, Some(world.ca.notice(&cut.digest).unwrap().1));
    assert_eq!(registered(&wide), Ok(everybody.clone()));
    world
        .ca
        .set_availability(&cut.digest, &Availability::Nobody)
        .unwrap();
    let withdrawn = with_notice(&cut.package, Some(world.ca.notice(&cut.digest).unwrap().1));
    assert_eq!(registered(&withdrawn), Ok(Availability::Nobody));
    for old in [&wide, &staged] {
        assert_eq!(registered(old), Ok(Availability::Nobody));
    }

    // Nobody else's word, no word about another release, no altered word.
    let stranger = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let strange = sign_notice(&cut.digest, 99, &everybody, &stranger).unwrap();
    let newer = world
        .ca
        .release(
            &tegata_store::issuer::NewRelease {
                module: &[MODULE, b"n"].concat(),
                ..new
            },
            &mut world.rng,
            SECS,
        )
        .unwrap();
    let other = world.ca.notice(&newer.digest).unwrap().1;
    let mut altered = world.ca.notice(&cut.digest).unwrap().1;
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    for notice in [strange, other, altered, b"x".to_vec()] {
        let package = with_notice(&cut.package, Some(notice));
        let refused = world.tam.register_release(&package, SECS);
        assert_eq!(refused.unwrap_err().code(), "release-notice");
    }
    assert_eq!(registered(&cut.package), Ok(Availability::Nobody));
}
