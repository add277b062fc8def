//! A first certificate for who shows one of its maker's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::sync::Arc;

use common::kur::*;
use common::*;
use tegata_authority::ca::authority_cert::{CaDraft, make_root};
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::ca::maker::Maker;
use tegata_authority::ca::revocation::{FinalReason, Word};
use tegata_authority::profile::Profiles;
use tegata_crypto::chain::TrustAnchor;
use tegata_crypto::{KeyAlg, PrivateKey, Signer as _};
use tegata_store::NoFaults;
use tegata_store::issuer::{CmpOutcome, Issuer};
use tegata_store::revocation::{Target, say};
use tegata_wire::cmp::{BodyKind, CertId, oid};
use tegata_wire::x509::{
    AttributeSpec, CertBuilder, CertView, DistinguishedName, ExtensionSet, KeyUsages, NameBuilder,
    SerialNumber, SignatureAlg, Validity, assemble_certificate,
};

const PROFILES: &str = r#"
[profile.first]
key_algorithms = ["P-256"]
subject = [{ O = "Owner" }, { serialNumber = "{serial}" }]
key_usage = ["digitalSignature"]
validity = "365d"
renewal_window = "30d"
authentication = ["maker", "certificate"]

[profile.other]
key_algorithms = ["P-256"]
subject = [{ serialNumber = "{serial}" }]
key_usage = ["digitalSignature"]
validity = "365d"
renewal_window = "30d"
authentication = ["secret"]
"#;

/// A maker's CA.
struct Works {
    key: PrivateKey,
    root: Vec<u8>,
}

/// What is wrong with a device certificate of it.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Expired,
    TwoSerials,
    NotForSignatures,
    ForServers,
}

impl Works {
    fn new(world: &mut World, name: &str) -> Self {
        let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
        let draft = CaDraft {
            country: None,
            organization: name.to_owned(),
            root_common_name: format!("{name} root"),
            issuing_common_name: format!("{name} issuing"),
            root_validity_secs: 20 * 365 * 86_400,
            issuing_validity_secs: 10 * 365 * 86_400,
            root_crl_urls: Vec::new(),
            root_urls: Vec::new(),
        };
        let root = make_root(&draft, &key, &mut world.rng, SECS).unwrap();
        Self { key, root }
    }

    fn speaks_for(&self, model: &str) -> Maker {
        Maker {
            anchors: vec![TrustAnchor::from_cert_der(&self.root).unwrap()],
            models: vec![model.to_owned()],
        }
    }

    /// A device's certificate from its factory, without a well-defined end.
    fn idevid(&self, world: &mut World, serial: &str, fault: Fault) -> Current {
        let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
        let root = CertView::from_der(&self.root).unwrap();
        let serial_number = AttributeSpec::by_name("serialNumber").unwrap();
        let mut name = NameBuilder::new().push(serial_number, serial).unwrap();
        if fault == Fault::TwoSerials {
            name = name.push(serial_number, "another").unwrap();
        }
        let mut extensions = ExtensionSet::new();
        let usage = match fault {
            Fault::NotForSignatures => KeyUsages::KeyAgreement,
            _ => KeyUsages::DigitalSignature,
        };
        extensions.key_usage(usage.into()).unwrap();
        let public = key.public_key();
        if fault == Fault::ForServers {
            let server_auth = "1.3.6.1.5.5.7.3.1".parse().unwrap();
            extensions.ext_key_usage(&[server_auth]).unwrap();
        }
        extensions.subject_key_id(&public.x509_key_id()).unwrap();
        let day = 86_400;
        let validity = Validity {
            not_before_secs: SECS.0 - 9 * day,
            not_after_secs: (fault == Fault::Expired).then_some(SECS.0 - day),
        };
        let mut random = [0; 16];
        tegata_crypto::Rng::fill(&mut world.rng, &mut random).unwrap();
        let builder = CertBuilder {
            serial: SerialNumber::from_random(&random),
            signature_alg: SignatureAlg::EcdsaSha256,
            issuer: DistinguishedName::from_der(root.subject_der).unwrap(),
            validity,
            subject: name.build().unwrap(),
            spki_der: public.to_spki_der().unwrap(),
            extensions,
        };
        let tbs = builder.to_tbs().unwrap();
        let signature = self.key.sign(&tbs).unwrap();
        let der = assemble_certificate(&tbs, SignatureAlg::EcdsaSha256, &signature).unwrap();
        Current {
            key: Arc::new(key),
            der,
        }
    }
}

/// A CA that takes the word of one maker for its gateways, and a registered gateway's serial number.
fn ready() -> (World, Works, Device) {
    let mut world = World::new();
    let device = world.batch("B1", 1).remove(0);
    let works = Works::new(&mut world, "Works");
    open(&mut world, vec![works.speaks_for("gateway")]);
    (world, works, device)
}

fn open(world: &mut World, makers: Vec<Maker>) {
    let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
    let profiles = Profiles::parse(PROFILES).unwrap();
    let ca = Issuer::open(role, profiles, MacPolicy::default()).unwrap();
    world.ca = ca.with_makers(makers);
}

fn ir(world: &mut World) -> Asked {
    let key = Arc::new(PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap());
    let mut asked = Asked::cr(&key);
    asked.kind = BodyKind::Ir;
    asked
}

fn ask(world: &mut World, profile: &str, message: &[u8]) -> Result<Vec<u8>, String> {
    let mut rng = Seeded(4_711);
    let answer = world.ca.cmp(profile, message, &mut rng, NOW);
    match answer.outcome {
        CmpOutcome::Issued { certificate, .. } => Ok(certificate),
        CmpOutcome::Denied(denied) => Err(denied.to_string()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn a_makers_certificate_gets_its_device_a_first_certificate_of_ours() {
    let (mut world, works, device) = ready();
    let serial = device.identity.serial.clone();
    let shown = works.idevid(&mut world, &serial, Fault::None);
    let asked = ir(&mut world);
    let message = shown.sign(&asked.body(), 1, None);
    let mut rng = Seeded(5);
    let answer = world.ca.cmp("first", &message, &mut rng, NOW);
    let CmpOutcome::Issued { certificate, .. } = answer.outcome else {
        panic!("{:?}", answer.outcome);
    };
    // The names are ours, for the device that was registered.
    let view = CertView::from_der(&certificate).unwrap();
    let subject = DistinguishedName::from_der(view.subject_der).unwrap();
    assert_eq!(
        subject.to_display(),
        format!("O=Owner, serialNumber={serial}")
    );
    // Confirmed by the same key; and the same request gets the same certificate.
    let conf = shown.conf(&answer.body, &certificate, 1);
    let confirmed = world.ca.cmp("first", &conf, &mut rng, NOW).outcome;
    assert!(matches!(
        confirmed,
        CmpOutcome::Confirmed { accepted: true, .. }
    ));
    assert_eq!(ask(&mut world, "first", &message).unwrap(), certificate);
    // From here on it renews itself.
    let first = Current {
        key: asked.popo_key,
        der: certificate,
    };
    let mut update = ir(&mut world);
    update.kind = BodyKind::Kur;
    let view = CertView::from_der(&first.der).unwrap();
    let old = CertId::new(view.issuer_der, view.serial).unwrap();
    update.control(oid::REG_CTRL_OLD_CERT_ID, &old);
    let update = first.sign(&update.body(), 2, None);
    ask(&mut world, "first", &update).unwrap();
}

#[test]
fn what_no_maker_vouches_for_gets_nothing() {
    let (mut world, works, device) = ready();
    let serial = device.identity.serial.clone();
    let stranger = Works::new(&mut world, "Stranger");
    let asked = ir(&mut world).body();
    let cases = [
        (&stranger, serial.as_str(), Fault::None, "no maker vouches"),
        (&works, &serial, Fault::Expired, "no maker vouches"),
        (&works, &serial, Fault::NotForSignatures, "no maker vouches"),
        (&works, &serial, Fault::ForServers, "without clientAuth"),
        (&works, &serial, Fault::TwoSerials, "not one of this CA"),
        (&works, "S-unknown", Fault::None, "not one of this CA"),
    ];
    for (n, (by, serial, fault, why)) in cases.into_iter().enumerate() {
        let shown = by.idevid(&mut world, serial, fault);
        let message = shown.sign(&asked, n as u8, None);
        let said = ask(&mut world, "first", &message).unwrap_err();
        assert!(said.contains(why), "{n}: {said}");
    }
    // Another key than the certificate's.
    let mut shown = works.idevid(&mut world, &serial, Fault::None);
    let good = shown.clone();
    shown.key = stranger.idevid(&mut world, &serial, Fault::None).key;
    let said = ask(&mut world, "first", &shown.sign(&asked, 20, None)).unwrap_err();
    assert!(said.contains("signature does not verify"), "{said}");
    // The factory's key itself is not certified.
    let own = Asked {
        kind: BodyKind::Ir,
        ..Asked::cr(&good.key)
    };
    let said = ask(&mut world, "first", &good.sign(&own.body(), 22, None)).unwrap_err();
    assert!(said.contains("already used for another purpose"), "{said}");
    // A profile that takes no maker's word, a maker of another model, and no makers at all.
    let message = good.sign(&asked, 21, None);
    assert!(ask(&mut world, "other", &message).is_err());
    for makers in [vec![works.speaks_for("sensor")], Vec::new()] {
        open(&mut world, makers);
        let said = ask(&mut world, "first", &message).unwrap_err();
        assert!(said.contains("not one of this CA"), "{said}");
    }
    // The same message, once the maker may speak.
    open(&mut world, vec![works.speaks_for("gateway")]);
    ask(&mut world, "first", &message).unwrap();
}

#[test]
fn a_makers_certificate_updates_and_revokes_nothing_and_speaks_for_no_revoked_device() {
    let (mut world, works, device) = ready();
    let serial = device.identity.serial.clone();
    let shown = works.idevid(&mut world, &serial, Fault::None);
    let message = shown.sign(&ir(&mut world).body(), 1, None);
    let certificate = ask(&mut world, "first", &message).unwrap();
    let view = CertView::from_der(&certificate).unwrap();
    let mut update = ir(&mut world);
    update.kind = BodyKind::Kur;
    let old = CertId::new(view.issuer_der, view.serial).unwrap();
    update.control(oid::REG_CTRL_OLD_CERT_ID, &old);
    let said = ask(&mut world, "first", &shown.sign(&update.body(), 2, None)).unwrap_err();
    assert!(said.contains("updates none"), "{said}");
    let word = Word::Revoke(FinalReason::Unspecified);
    let store = &world.ca.role().store;
    say(store, &Target::Device(device.identity.ueid), word, SECS).unwrap();
    let message = shown.sign(&ir(&mut world).body(), 3, None);
    assert!(ask(&mut world, "first", &message).is_err());
}

#[test]
fn a_makers_certificate_gets_nothing_in_place_of_one_that_is_on_hold() {
    let (mut world, works, device) = ready();
    let shown = works.idevid(&mut world, &device.identity.serial.clone(), Fault::None);
    let message = shown.sign(&ir(&mut world).body(), 1, None);
    let mut rng = Seeded(6);
    let answer = world.ca.cmp("first", &message, &mut rng, NOW);
    let CmpOutcome::Issued { certificate, .. } = answer.outcome else {
        panic!("{:?}", answer.outcome);
    };
    let conf = shown.conf(&answer.body, &certificate, 1);
    world.ca.cmp("first", &conf, &mut rng, NOW);
    let serial = CertView::from_der(&certificate).unwrap().serial.to_vec();
    let store = Arc::clone(&world.ca.role().store);
    let hold = |word| say(&store, &Target::Certificate(serial.clone()), word, SECS).unwrap();
    hold(Word::Hold);
    let message = shown.sign(&ir(&mut world).body(), 2, None);
    let said = ask(&mut world, "first", &message).unwrap_err();
    assert!(said.contains("on hold"), "{said}");
    hold(Word::Unhold);
    ask(&mut world, "first", &message).unwrap();
}
