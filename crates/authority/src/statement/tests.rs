//! Verdicts over a CA in a few lines; the TA itself is tested where it runs.

use super::*;
use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Rng, Signer as _};
use tegata_wire::x509::{
    AttributeSpec, CertBuilder, DistinguishedName, ExtensionSet, NameBuilder, SerialNumber,
    Validity, assemble_certificate, oid, usage,
};

const NOW: u64 = 1_790_000_000;
const MADE: i64 = 1_790_000_000;
const DEVICE: [u8; 16] = [7; 16];

struct Seeded(u8);

impl Rng for Seeded {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), tegata_crypto::CryptoError> {
        self.0 += 1;
        out.fill(self.0);
        Ok(())
    }
}

fn name(common: &str) -> DistinguishedName {
    let spec = AttributeSpec::by_name("CN").unwrap();
    let name = NameBuilder::new().push(spec, common).unwrap();
    name.build().unwrap()
}

fn certificate(issuer: &PrivateKey, subject: (&str, &PrivateKey), set: ExtensionSet) -> Vec<u8> {
    let alg = issuer.alg().signature_alg();
    let tbs = CertBuilder {
        serial: SerialNumber::from_random(&[9; 16]),
        signature_alg: alg,
        issuer: name("根"),
        validity: Validity {
            not_before_secs: NOW - 1_000,
            not_after_secs: Some(NOW + 1_000),
        },
        subject: name(subject.0),
        spki_der: subject.1.public_key().to_spki_der().unwrap(),
        extensions: set,
    };
    let tbs = tbs.to_tbs().unwrap();
    assemble_certificate(&tbs, alg, &issuer.sign(&tbs).unwrap()).unwrap()
}

/// A CA, and a device whose location TA has a key of it.
struct World {
    anchors: Vec<TrustAnchor>,
    key: PrivateKey,
    leaf: Vec<u8>,
}

impl World {
    fn with(seed: u8, purposes: &[ObjectIdentifier], device: [u8; 16]) -> Self {
        let mut rng = Seeded(seed);
        let root = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
        let key = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
        let mut set = ExtensionSet::new();
        set.basic_constraints(true, None).unwrap();
        set.key_usage_bits(usage::KEY_CERT_SIGN).unwrap();
        let root_der = certificate(&root, ("根", &root), set);
        let mut set = ExtensionSet::new();
        set.key_usage_bits(usage::DIGITAL_SIGNATURE).unwrap();
        set.ext_key_usage(purposes).unwrap();
        let value = Some(Ueid::from_random(device).to_string());
        let san = SanEntry::PermanentIdentifier {
            value,
            assigner: None,
        };
        set.subject_alt_name(&[san], false).unwrap();
        Self {
            anchors: vec![TrustAnchor::from_cert_der(&root_der).unwrap()],
            leaf: certificate(&root, ("位置計-1", &key), set),
            key,
        }
    }

    fn new() -> Self {
        Self::with(1, &[StatementPolicy::location().purpose], DEVICE)
    }

    fn sign(&self, statement: &Statement) -> Vec<u8> {
        let headers = Sign1Headers {
            x5chain: vec![self.leaf.clone()],
            no_kid: true,
            ..Sign1Headers::default()
        };
        sign1(
            &self.key,
            &statement.encode().unwrap(),
            &headers,
            b"",
            false,
        )
        .unwrap()
    }

    fn check(&self, message: &[u8], at: ValidAt) -> Result<Authentic, NotAuthentic> {
        let policy = StatementPolicy::location();
        Authenticator::new(&RustCrypto, &self.anchors, &policy).authenticate(message, at)
    }
}

fn statement() -> Statement {
    Statement {
        profile: PROFILE_LOCATION.into(),
        made_at: MADE,
        nonce: vec![1; 16],
        ueid: Ueid::from_random(DEVICE),
        number: 10,
        location: Some(Location {
            latitude: 35.681_236,
            longitude: 139.767_125,
            altitude: None,
            accuracy: Some(5.0),
            altitude_accuracy: None,
            heading: None,
            speed: None,
            timestamp: Some(MADE),
            age: Some(0),
        }),
        other: Vec::new(),
    }
}

const HERE: ValidAt = ValidAt::Time(NOW);

fn codes(statement: &Statement, freshness: Freshness, last: Option<&Last>) -> Vec<&'static str> {
    let world = World::new();
    let authentic = world.check(&world.sign(statement), HERE).unwrap();
    let policy = StatementPolicy::location();
    let found = judge(&authentic, &policy, freshness, Standing::Good, last);
    found.iter().map(Finding::code).collect()
}

#[test]
fn a_true_statement_is_its_devices() {
    let world = World::new();
    let authentic = world.check(&world.sign(&statement()), HERE).unwrap();
    assert_eq!(authentic.statement(), &statement());
    assert_eq!(
        *authentic.certificate_digest(),
        RustCrypto.sha256(&world.leaf)
    );
}

#[test]
fn every_touched_bit_of_a_message_is_seen() {
    let world = World::new();
    let message = world.sign(&statement());
    for at in 0..message.len() {
        let mut touched = message.clone();
        touched[at] ^= 1 << (at % 8);
        assert!(world.check(&touched, HERE).is_err(), "byte {at}");
        assert!(world.check(&message[..at], HERE).is_err(), "cut at {at}");
    }
}

#[test]
fn who_may_not_say_it_is_refused() {
    let world = World::new();
    let refused = |other: &World| world.check(&other.sign(&statement()), HERE);
    let stranger = World::with(50, &[StatementPolicy::location().purpose], DEVICE);
    assert_eq!(refused(&stranger).unwrap_err().code(), "chain");
    // The same CA's certificates for other things, and for this and another thing.
    let both = [StatementPolicy::location().purpose, oid::KP_CLIENT_AUTH];
    for purposes in [&[oid::KP_CLIENT_AUTH][..], &both] {
        let other = World::with(1, purposes, DEVICE);
        assert_eq!(refused(&other).unwrap_err().code(), "purpose");
    }
    let twin = World::with(1, &[StatementPolicy::location().purpose], [8; 16]);
    assert_eq!(refused(&twin).unwrap_err().code(), "device-mismatch");
    // A certificate put beside another key's signature.
    let mut swapped = World::with(50, &[StatementPolicy::location().purpose], DEVICE);
    swapped.leaf = world.leaf.clone();
    assert_eq!(refused(&swapped).unwrap_err().code(), "signature");
    let mut other = statement();
    other.profile = "tag:example.com,2026:temperature".into();
    let unknown = world.check(&world.sign(&other), HERE).unwrap_err();
    assert_eq!(unknown.code(), "profile");
    assert_eq!(
        world.check(&[0; 20_000], HERE).unwrap_err().code(),
        "too-long"
    );
}

#[test]
fn certificates_count_in_their_time_remembered_or_not() {
    let world = World::new();
    let policy = StatementPolicy::location();
    let mut all = Authenticator::new(&RustCrypto, &world.anchors, &policy);
    let mut old = statement();
    old.made_at = MADE - 5_000;
    let (now, then) = (world.sign(&statement()), world.sign(&old));
    assert!(all.authenticate(&now, HERE).is_ok());
    assert!(all.authenticate(&now, ValidAt::Time(NOW + 2_000)).is_err());
    assert!(all.authenticate(&now, HERE).is_ok());
    assert!(all.authenticate(&now, ValidAt::Made).is_ok());
    assert!(all.authenticate(&then, ValidAt::Made).is_err());
}

#[test]
fn freshness_order_and_movement() {
    let fresh = Freshness::Nonce(NonceFinding::Fresh);
    let said = statement();
    assert!(codes(&said, fresh, None).is_empty());
    for (finding, code) in [
        (NonceFinding::Used, "nonce-used"),
        (NonceFinding::Expired, "nonce-expired"),
        (NonceFinding::Unknown, "nonce-unknown"),
    ] {
        assert_eq!(codes(&said, Freshness::Nonce(finding), None), [code]);
    }
    let window = |now| Freshness::Window { now, secs: 60 };
    assert!(codes(&said, window(NOW + 60), None).is_empty());
    assert_eq!(codes(&said, window(NOW + 61), None), ["too-old"]);
    assert_eq!(codes(&said, window(NOW - 61), None), ["from-the-future"]);

    let mut last = Last::of(&said);
    assert_eq!(codes(&said, fresh, Some(&last)), ["number-not-above-last"]);
    last.number = 9;
    assert!(codes(&said, fresh, Some(&last)).is_empty());
    // A minute ago in Osaka, 400 km away.
    last.place = Some((34.702_485, 135.495_951, 5.0));
    last.made_at = MADE - 60;
    assert_eq!(codes(&said, fresh, Some(&last)), ["too-fast"]);
    // Half an hour by air.
    last.made_at = MADE - 1_800;
    assert!(codes(&said, fresh, Some(&last)).is_empty());
    last.made_at = MADE + 1;
    assert_eq!(codes(&said, fresh, Some(&last)), ["time-went-back"]);
    let mut stale = said.clone();
    stale.location.as_mut().unwrap().age = Some(31);
    assert_eq!(codes(&stale, fresh, None), ["fix-too-old"]);
}

#[test]
fn what_the_ca_says_counts() {
    let world = World::new();
    let authentic = world.check(&world.sign(&statement()), HERE).unwrap();
    let policy = StatementPolicy::location();
    let fresh = Freshness::Nonce(NonceFinding::Fresh);
    for (standing, code) in [
        (Standing::NoDevice, "device-unknown"),
        (Standing::NotIssued, "certificate-unknown"),
        (Standing::Rejected, "certificate-rejected"),
    ] {
        let found = judge(&authentic, &policy, fresh, standing, None);
        assert_eq!(found.first().map(Finding::code), Some(code));
    }
}

#[test]
fn distances() {
    let tokyo_osaka = distance_m((35.681_236, 139.767_125), (34.702_485, 135.495_951));
    assert!((tokyo_osaka / 1_000.0 - 403.0).abs() < 2.0, "{tokyo_osaka}");
    let over_the_date_line = distance_m((0.0, 179.999_5), (0.0, -179.999_5));
    assert!((over_the_date_line - 111.2).abs() < 1.0);
    assert!(distance_m((90.0, 0.0), (-90.0, 77.0)) > 20_000_000.0);
}
