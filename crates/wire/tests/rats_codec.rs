//! EAT and EAR: the repository's vectors both ways, round trips, hostile bytes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod vector_files;

use proptest::prelude::*;
use tegata_wire::rats::RatsError;
use tegata_wire::rats::ear::{Appraisal, Ear, Tier, TrustVector, VerifierId};
use tegata_wire::rats::eat::{
    Confirmation, DebugStatus, EatClaims, MeasuredComponent, OemId, PROFILE_EVIDENCE, Submodule,
};
use vector_files::{bit_flips_do_not_panic, every_prefix_fails, repository};

#[test]
fn eat_vectors_both_ways_and_hostile() {
    for name in ["teep_evidence", "tegata_evidence"] {
        let bytes = repository(&format!("eat/{name}.hex"));
        let claims = EatClaims::decode(&bytes).unwrap();
        assert_eq!(hex::encode(claims.encode().unwrap()), hex::encode(&bytes));
        assert!(claims.other.is_empty());
        let reference = claims.manifests[0].as_suit_reference().unwrap();
        assert_eq!(reference.uri, "https://example.com/manifest.cbor");
        every_prefix_fails(&bytes, |b| EatClaims::decode(b).map_err(|e| e.to_string()));
        bit_flips_do_not_panic(&bytes, EatClaims::decode);
    }
    let bytes = repository("eat/measured_component.hex");
    let component = MeasuredComponent::decode(&bytes).unwrap();
    assert_eq!(component.encode().unwrap(), bytes);
    assert!(component.to_sha256().is_some());
    every_prefix_fails(&bytes, |b| {
        MeasuredComponent::decode(b).map_err(|e| e.to_string())
    });
    bit_flips_do_not_panic(&bytes, MeasuredComponent::decode);
}

#[test]
fn tegata_evidence_is_read() {
    let claims = EatClaims::decode(&repository("eat/tegata_evidence.hex")).unwrap();
    assert_eq!(
        claims.eat_profile.as_ref().unwrap().as_uri(),
        Some(PROFILE_EVIDENCE)
    );
    assert_eq!(claims.tegata.security_level.as_deref(), Some("software"));
    assert_eq!(claims.tegata.anti_rollback_level, Some(0));
    assert_eq!(claims.tegata.storage_root.as_deref(), Some("file"));
    assert_eq!(claims.tegata.missing, Some(vec!["landlock".to_owned()]));
    assert_eq!(claims.dbgstat, Some(DebugStatus::DisabledPermanently));
    assert_eq!(claims.oemid, Some(OemId::Pen(32473)));
    assert!(claims.has_only_nonce(&(0u8..32).collect::<Vec<_>>()));
    assert!(claims.cnf.unwrap().cose_key.is_some());
    let component = claims.measurements[0].as_measured_component().unwrap();
    assert_eq!(component.name, "teed");
    assert!(component.to_sha256().is_some());
}

#[test]
fn wrong_claims_are_never_taken_for_absent() {
    // nonce of 7 bytes; ueid of 6 bytes; empty cnf; floating-point iat; dbgstat 5; oemid of 4.
    for text in [
        "a10a4700000000000000",
        "a11901004600000000 0000",
        "a108a0",
        "a106f93c00",
        "a119010705",
        "a11901024400000000",
    ] {
        let bytes = hex::decode(text.replace(' ', "")).unwrap();
        assert!(EatClaims::decode(&bytes).is_err(), "{text}");
    }
    let mut deep = hex::decode("a119010aa16161").unwrap();
    for _ in 0..2000 {
        deep.extend(hex::decode("a119010aa16161").unwrap());
    }
    deep.push(0xa0);
    assert!(EatClaims::decode(&deep).is_err());
}

#[test]
fn ear_vectors_both_ways_and_hostile() {
    for name in ["contraindicated", "teep_claims"] {
        let bytes = repository(&format!("ear/{name}.hex"));
        let ear = Ear::decode(&bytes).unwrap();
        assert_eq!(hex::encode(ear.encode().unwrap()), hex::encode(&bytes));
        assert!(!ear.is_affirming());
        every_prefix_fails(&bytes, |b| Ear::decode(b).map_err(|e| e.to_string()));
        bit_flips_do_not_panic(&bytes, Ear::decode);
    }
    let ear = Ear::decode(&repository("ear/teep_claims.hex")).unwrap();
    let teep = ear.appraisal("PSA").unwrap().teep_claims.as_ref().unwrap();
    assert_eq!(teep.oemid, Some(OemId::Pen(64242)));
}

fn result(status: Tier, trust_vector: TrustVector) -> Ear {
    Ear {
        status: None,
        iat: 1_790_000_000,
        exp: Some(1_790_000_600),
        verifier_id: VerifierId {
            developer: "tegata".into(),
            build: "0.1.0".into(),
        },
        raw_evidence: None,
        submods: vec![(
            "tee".into(),
            Appraisal {
                trust_vector,
                ..Appraisal::new(status)
            },
        )],
        eat_nonce: Some(vec![1; 32]),
        cnf: Some(Confirmation::kid(vec![2; 32])),
        other: Vec::new(),
    }
}

#[test]
fn a_status_never_says_more_than_its_vector() {
    let warned = TrustVector {
        hardware: Some(32),
        executables: Some(2),
        ..TrustVector::default()
    };
    assert_eq!(warned.worst(), Tier::Warning);
    assert_eq!(
        result(Tier::Affirming, warned).encode(),
        Err(RatsError::Status)
    );
    assert!(result(Tier::Warning, warned).encode().is_ok());
    assert!(result(Tier::Contraindicated, warned).encode().is_ok());
    // The same, when another made it: the status byte is altered from 32 to affirming.
    let bytes = result(Tier::Warning, warned).encode().unwrap();
    let status = hex::encode(&bytes).replace("1903e81820", "1903e802");
    assert_eq!(
        Ear::decode(&hex::decode(status).unwrap()),
        Err(RatsError::Status)
    );
    assert!(result(Tier::Affirming, TrustVector::default()).is_affirming());
    let other = hex::encode(&bytes).replace(&hex::encode("#03"), &hex::encode("#04"));
    assert_eq!(
        Ear::decode(&hex::decode(other).unwrap()),
        Err(RatsError::Profile)
    );
}

proptest! {
    #[test]
    fn ear_round_trip(claims in any::<[Option<i8>; 4]>(), key in any::<[u8; 32]>()) {
        let [hardware, executables, configuration, instance_identity] = claims;
        let vector = TrustVector {
            hardware, executables, configuration, instance_identity, ..TrustVector::default()
        };
        let mut ear = result(vector.worst(), vector);
        ear.cnf = Some(Confirmation::kid(key.to_vec()));
        prop_assert_eq!(Ear::decode(&ear.encode().unwrap()).unwrap(), ear);
    }

    #[test]
    fn eat_round_trip(
        nonces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 8..=64), 0..4),
        iat in proptest::option::of(any::<i64>()),
        model in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..=32)),
        name in "[ -~]{0,20}",
        level in any::<u32>(),
    ) {
        let inner = EatClaims { swname: Some(name.clone()), ..EatClaims::default() };
        let mut claims = EatClaims {
            eat_nonce: nonces,
            iat,
            hwmodel: model,
            submods: vec![(name, Submodule::Claims(inner))],
            ..EatClaims::default()
        };
        claims.tegata.anti_rollback_level = Some(level);
        prop_assert_eq!(EatClaims::decode(&claims.encode().unwrap()).unwrap(), claims);
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = EatClaims::decode(&bytes);
        let _ = Ear::decode(&bytes);
        let _ = MeasuredComponent::decode(&bytes);
    }
}
