//! Who may return, and whose word counts for it.

use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{CryptoError, KeyAlg, PrivateKey, Rng};
use tegata_wire::rats::ear::{Appraisal, Ear, Tier, VerifierId};
use tegata_wire::rats::eat::{EatClaims, Version};

use super::*;
use crate::profile::Profiles;

const NOW: UnixSecs = UnixSecs(1_800_000_000);
const DAY: u64 = 86_400;

fn profile() -> Profile {
    let text = "[profile.p]\nsubject = [{ CN = \"{ueid}\" }]\nkey_algorithms = [\"P-256\"]\n\
                key_usage = [\"digitalSignature\"]\nvalidity = \"30d\"\nrenewal_window = \"5d\"\n\
                renewal_grace = \"10d\"\nevidence_max_age = \"10m\"\n";
    Profiles::parse(text).unwrap().find("p").unwrap().clone()
}

#[test]
fn a_device_returns_within_the_grace_and_with_fresh_evidence() {
    let profile = profile();
    let ago = |secs: u64| Some(UnixSecs(NOW.0 - secs));
    let told = |end, at| may_return(&profile, end, at, NOW).map_err(|denied| denied.code());
    let (evidence, grace) = (Err("evidence-needed"), Err("grace-over"));
    for (end, at, expected) in [
        // Never had one; has one that serves; it ends this second.
        (None, None, Ok(())),
        (Some(UnixSecs(NOW.0 + 1)), None, Ok(())),
        (ago(0), None, Ok(())),
        (ago(1), None, evidence),
        (ago(1), ago(600), Ok(())),
        (ago(1), ago(601), evidence),
        (ago(10 * DAY), ago(0), Ok(())),
        (ago(10 * DAY), ago(11 * DAY), evidence),
        (ago(10 * DAY + 1), ago(0), grace),
        // A Verifier whose clock is a little, or much, ahead.
        (ago(1), Some(UnixSecs(NOW.0 + 60)), Ok(())),
        (ago(1), Some(UnixSecs(NOW.0 + 61)), evidence),
    ] {
        assert_eq!(told(end, at), expected, "{end:?} {at:?}");
    }
    let strict = Profile {
        renewal_grace_secs: 0,
        ..profile
    };
    assert!(may_return(&strict, ago(1), ago(0), NOW).is_err());
}

struct Counter(u8);

impl Rng for Counter {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        for byte in out {
            self.0 = self.0.wrapping_mul(29).wrapping_add(7);
            *byte = self.0;
        }
        Ok(())
    }
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::generate(KeyAlg::P256, &mut Counter(seed)).unwrap()
}

fn ear(tier: Tier, ueid: Option<Ueid>, iat: u64, exp: u64) -> Vec<u8> {
    let mut appraisal = Appraisal::new(tier);
    appraisal.teep_claims = Some(EatClaims {
        ueid,
        swname: Some("tegata-teed".into()),
        swversion: Some(Version {
            version: "1.4.0".into(),
            scheme: Some(1),
        }),
        ..EatClaims::default()
    });
    let secs = |secs: u64| i64::try_from(secs).unwrap();
    Ear {
        status: Some(tier),
        iat: secs(iat),
        exp: Some(secs(exp)),
        verifier_id: VerifierId {
            developer: "https://example.com".into(),
            build: "test".into(),
        },
        raw_evidence: None,
        submods: vec![(crate::verifier::EVIDENCE_SUBMODULE.into(), appraisal)],
        eat_nonce: Some(vec![7; 32]),
        cnf: None,
        other: Vec::new(),
    }
    .encode()
    .unwrap()
}

#[test]
fn only_the_tams_word_for_the_verifiers_word_counts() {
    let (tam, verifier, other) = (key(1), key(2), key(3));
    let ueid = Ueid::from_random([9; 16]);
    let signed =
        |by: &PrivateKey, ear: &[u8]| sign1(by, ear, &Sign1Headers::default(), b"", false).unwrap();
    let good = ear(Tier::Affirming, Some(ueid), NOW.0 - 5, NOW.0 + 295);
    let (tams, verifiers) = ([tam.public_key().clone()], [verifier.public_key().clone()]);
    let told = |bytes: &[u8], now| {
        check(&RustCrypto, bytes, &tams, &verifiers, now)
            .map(|attested| (*attested.ueid(), attested.at()))
            .map_err(|denied| denied.code())
    };
    let word = hand_on(&tam, &signed(&verifier, &good)).unwrap();
    let attested = check(&RustCrypto, &word, &tams, &verifiers, NOW).unwrap();
    let runtime = attested.runtime().unwrap();
    assert_eq!(
        (runtime.name.as_str(), runtime.version.as_str()),
        ("tegata-teed", "1.4.0")
    );
    assert_eq!(told(&word, NOW), Ok((ueid, UnixSecs(NOW.0 - 5))));
    // Again, later: the same time. After its end: nothing.
    let later = UnixSecs(NOW.0 + 200);
    assert_eq!(told(&word, later), Ok((ueid, UnixSecs(NOW.0 - 5))));
    let untrusted = Err("untrusted");
    let not = Err("not-appraised");
    assert_eq!(told(&word, UnixSecs(NOW.0 + 300)), not);

    for (what, bytes, expected) in [
        ("the Verifier's alone", signed(&verifier, &good), untrusted),
        (
            "signed by the TAM for something else",
            signed(&tam, &signed(&verifier, &good)),
            untrusted,
        ),
        (
            "handed on by another",
            hand_on(&other, &signed(&verifier, &good)).unwrap(),
            untrusted,
        ),
        (
            "by another Verifier",
            hand_on(&tam, &signed(&other, &good)).unwrap(),
            not,
        ),
        (
            "by the TAM itself",
            hand_on(&tam, &signed(&tam, &good)).unwrap(),
            not,
        ),
    ] {
        assert_eq!(told(&bytes, NOW), expected, "{what}");
    }
    for (what, result) in [
        (
            "a warning",
            ear(Tier::Warning, Some(ueid), NOW.0, NOW.0 + 300),
        ),
        (
            "a contraindication",
            ear(Tier::Contraindicated, Some(ueid), NOW.0, NOW.0 + 300),
        ),
        ("of nobody", ear(Tier::Affirming, None, NOW.0, NOW.0 + 300)),
        (
            "of the future",
            ear(Tier::Affirming, Some(ueid), NOW.0 + 61, NOW.0 + 300),
        ),
    ] {
        let word = hand_on(&tam, &signed(&verifier, &result)).unwrap();
        assert_eq!(told(&word, NOW), not, "{what}");
    }
    // A bit changed anywhere, or an end missing.
    for at in 0..word.len() {
        let mut bad = word.clone();
        bad[at] ^= 1 << (at % 8);
        if let Ok(found) = told(&bad, NOW) {
            // The outer header names no content type and its unprotected part is not signed.
            assert_eq!(found, (ueid, UnixSecs(NOW.0 - 5)), "bit {at}");
        }
        assert!(told(&word[..at], NOW).is_err(), "cut {at}");
    }
}
