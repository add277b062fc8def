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
    certificate_for(1_000, issuer, subject, set)
}

/// Good from so many seconds before [`NOW`] to as many after.
fn certificate_for(
    secs: u64,
    issuer: &PrivateKey,
    subject: (&str, &PrivateKey),
    set: ExtensionSet,
) -> Vec<u8> {
    let alg = issuer.alg().signature_alg();
    let tbs = CertBuilder {
        serial: SerialNumber::from_random(&[9; 16]),
        signature_alg: alg,
        issuer: name("根"),
        validity: Validity {
            not_before_secs: NOW - secs,
            not_after_secs: Some(NOW + secs),
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
        Self::rooted(1_000, seed, purposes, device)
    }

    /// With a root that is good for so many seconds either way.
    fn rooted(secs: u64, seed: u8, purposes: &[ObjectIdentifier], device: [u8; 16]) -> Self {
        let mut rng = Seeded(seed);
        let root = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
        let key = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
        let mut set = ExtensionSet::new();
        set.basic_constraints(true, None).unwrap();
        set.key_usage_bits(usage::KEY_CERT_SIGN).unwrap();
        let root_der = certificate_for(secs, &root, ("根", &root), set);
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

const NOTHING: Before = Before {
    counted: None,
    place: None,
};

fn codes(statement: &Statement, freshness: Freshness, before: &Before) -> Vec<&'static str> {
    let world = World::new();
    let authentic = world.check(&world.sign(statement), HERE).unwrap();
    let policy = StatementPolicy::location();
    let found = judge(&authentic, &policy, freshness, Standing::Good, before);
    found.iter().map(Finding::code).collect()
}

fn nonce(finding: NonceFinding, now: u64) -> Freshness {
    let secs = 120;
    Freshness::Nonce { finding, now, secs }
}

/// What was seen of a device a while ago, at a place in Osaka, 400 km from [`statement`]'s: as the
/// receiver told the time, and as it was here.
fn in_osaka(made_ago: i64, seen_ago: u64) -> Before {
    let (made_at, seen_at) = (MADE - made_ago, NOW - seen_ago);
    Before {
        counted: Some(Counted {
            number: 9,
            made_at,
            seen_at,
        }),
        place: Some(Place {
            latitude: 34.702_485,
            longitude: 135.495_951,
            accuracy: 5.0,
            made_at,
            seen_at,
        }),
    }
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
fn a_remembered_chain_ends_with_its_anchor() {
    let purposes = [StatementPolicy::location().purpose];
    let world = World::rooted(10, 1, &purposes, DEVICE);
    let policy = StatementPolicy::location();
    let mut all = Authenticator::new(&RustCrypto, &world.anchors, &policy);
    let message = world.sign(&statement());
    assert!(all.authenticate(&message, HERE).is_ok());
    // The leaf goes on for a while; the root does not.
    let later = all.authenticate(&message, ValidAt::Time(NOW + 500));
    assert_eq!(later.unwrap_err().code(), "chain");
}

#[test]
fn freshness_order_and_movement() {
    let fresh = nonce(NonceFinding::Fresh, NOW);
    let said = statement();
    assert!(codes(&said, fresh, &NOTHING).is_empty());
    for (finding, code) in [
        (NonceFinding::Used, "nonce-used"),
        (NonceFinding::Expired, "nonce-expired"),
        (NonceFinding::Unknown, "nonce-unknown"),
    ] {
        assert_eq!(codes(&said, nonce(finding, NOW), &NOTHING), [code]);
    }
    let window = |now| Freshness::Window { now, secs: 60 };
    assert!(codes(&said, window(NOW + 60), &NOTHING).is_empty());
    assert_eq!(codes(&said, window(NOW + 61), &NOTHING), ["too-old"]);
    assert_eq!(
        codes(&said, window(NOW - 61), &NOTHING),
        ["from-the-future"]
    );

    let mut before = Before::after(&said, NOW);
    let again = codes(&said, fresh, &before);
    assert_eq!(again, ["number-not-above-last"]);
    before.counted.as_mut().unwrap().number = 9;
    assert!(codes(&said, fresh, &before).is_empty());
    // A minute ago in Osaka; half an hour by air.
    assert_eq!(codes(&said, fresh, &in_osaka(60, 60)), ["too-fast"]);
    assert!(codes(&said, fresh, &in_osaka(1_800, 1_800)).is_empty());
    assert_eq!(codes(&said, fresh, &in_osaka(-1, 0)), ["time-went-back"]);
    let mut stale = said.clone();
    stale.location.as_mut().unwrap().age = Some(31);
    assert_eq!(codes(&stale, fresh, &NOTHING), ["fix-too-old"]);
    // A circle so wide that Osaka lies in it: it is near everything, and says nothing.
    let mut vague = said.clone();
    vague.location.as_mut().unwrap().accuracy = Some(1_000.0);
    assert!(codes(&vague, fresh, &NOTHING).is_empty());
    vague.location.as_mut().unwrap().accuracy = Some(500_000.0);
    assert_eq!(codes(&vague, fresh, &in_osaka(60, 60)), ["place-too-vague"]);
}

#[test]
fn the_receiver_does_not_say_alone_how_much_time_went_by() {
    let said = statement();
    // It says half an hour; here it was a minute, and at most a nonce's life more.
    let fresh = nonce(NonceFinding::Fresh, NOW);
    assert_eq!(codes(&said, fresh, &in_osaka(1_800, 60)), ["too-fast"]);
    let window = Freshness::Window { now: NOW, secs: 60 };
    assert_eq!(codes(&said, window, &in_osaka(1_800, 60)), ["too-fast"]);
    // Of an archive nothing says when it was seen.
    let archive = Freshness::Archive { now: NOW };
    assert!(codes(&said, archive, &in_osaka(1_800, 60)).is_empty());
    // Nor does our clock: the receiver says less went by.
    assert_eq!(codes(&said, fresh, &in_osaka(60, 300)), ["too-fast"]);
}

#[test]
fn a_date_that_lies_ahead_neither_passes_nor_bars_those_that_follow() {
    let ahead = |secs: i64| {
        let mut said = statement();
        said.made_at += secs;
        said.location.as_mut().unwrap().timestamp = Some(MADE + secs);
        said
    };
    let fresh = nonce(NonceFinding::Fresh, NOW);
    let archive = Freshness::Archive { now: NOW };
    for freshness in [fresh, archive] {
        assert!(codes(&ahead(300), freshness, &NOTHING).is_empty());
        assert_eq!(
            codes(&ahead(86_400), freshness, &NOTHING),
            ["from-the-future"]
        );
    }
    // The fix alone.
    let mut said = ahead(86_400);
    said.made_at = MADE;
    assert_eq!(codes(&said, fresh, &NOTHING), ["from-the-future"]);
    // A receiver that counts weeks wrong is 1024 of them behind: it may.
    assert!(codes(&ahead(-619_315_200), fresh, &NOTHING).is_empty());

    // One of 2099 was taken once, an hour ago: the true ones pass, and not from anywhere.
    let mut before = in_osaka(-2_300_000_000, 3_600);
    assert!(codes(&statement(), fresh, &before).is_empty());
    before = in_osaka(-2_300_000_000, 60);
    assert_eq!(codes(&statement(), fresh, &before), ["too-fast"]);
}

#[test]
fn numbers_are_of_a_certificate_places_of_a_device() {
    let fresh = nonce(NonceFinding::Fresh, NOW);
    // Another key of the device, or its TA installed anew: counted from 1, and where it was counts.
    let mut said = statement();
    said.number = 1;
    let mut before = in_osaka(1_800, 1_800);
    before.counted = None;
    assert!(codes(&said, fresh, &before).is_empty());
    before = in_osaka(60, 60);
    before.counted = None;
    assert_eq!(codes(&said, fresh, &before), ["too-fast"]);

    // Another sensor's statement has no place: it leaves the last one, and its clock is its own.
    let mut warm = statement();
    warm.location = None;
    warm.profile = "tag:example.com,2026:temperature".into();
    assert!(Before::after(&warm, NOW).place.is_none());
    let policy = StatementPolicy::location();
    before = in_osaka(-60, 0);
    before.counted = None;
    assert_eq!(movement(&warm, &policy, fresh, &before), None);
}

#[test]
fn what_the_ca_says_counts() {
    let world = World::new();
    let authentic = world.check(&world.sign(&statement()), HERE).unwrap();
    let policy = StatementPolicy::location();
    let fresh = nonce(NonceFinding::Fresh, NOW);
    for (standing, code) in [
        (Standing::NoDevice, "device-unknown"),
        (Standing::NotIssued, "certificate-unknown"),
        (Standing::Rejected, "certificate-rejected"),
        (Standing::Revoked, "certificate-revoked"),
    ] {
        let found = judge(&authentic, &policy, fresh, standing, &NOTHING);
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
