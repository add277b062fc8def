//! Published EAT, measured-component and EAR vectors.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod vector_files;

use tegata_wire::cose::UnverifiedSign1;
use tegata_wire::rats::ear::{Ear, Tier};
use tegata_wire::rats::eat::{EatClaims, MeasuredComponent};
use vector_files::diag_text;

/// What is not read of the EAT vectors, and why.
const EAT_EXPECTED_FAILURES: &[(&str, &str)] = &[
    (
        "*.json",
        "EAT in JSON form: Tegata speaks the CBOR form only",
    ),
    (
        "*.json_f",
        "EAT in JSON form: Tegata speaks the CBOR form only",
    ),
    (
        "*/eat-ex1-json.diag.in",
        "EAT in JSON form, with a content format that is not registered",
    ),
    ("*/coswid/*", "CoSWID, which an EAT carries unread"),
    (
        "*/Example-Payloads/submods.diag",
        "from an early draft: swname has the number 271, which is swversion in RFC 9711",
    ),
    (
        "*/Example-Tokens/valid_deb.diag",
        "detached EAT bundle: Tegata has no use for one",
    ),
];

/// What is not read of the EAR vectors, and why.
const EAR_EXPECTED_FAILURES: &[(&str, &str)] = &[
    (
        "*-json-*.diag",
        "EAR in JSON form: Tegata speaks the CBOR form only",
    ),
    (
        "veraison+ear/*.json",
        "EAR in JSON form: Tegata speaks the CBOR form only",
    ),
    (
        "veraison+rust-ear/*.json",
        "EAR in JSON form: Tegata speaks the CBOR form only",
    ),
];

#[test]
fn published_eat_vectors() {
    vector_files::run("eat", EAT_EXPECTED_FAILURES, |name, bytes| {
        let file = name.rsplit('/').next().unwrap();
        let bytes = match file.rsplit('.').next() {
            Some("diag") => diag_text(bytes)?,
            // The format that is not yet registered is that for experiments here.
            Some("in") => diag_text(
                String::from_utf8_lossy(bytes)
                    .replace("TBD1", "65001")
                    .as_bytes(),
            )?,
            _ => return Err("not CBOR, in whatever form".into()),
        };
        if name.contains("coswid/") {
            return Err("CoSWID, not EAT".into());
        }
        if ["ex1.diag", "ex2.diag", "ex3.diag"].contains(&file) {
            let component = MeasuredComponent::decode(&bytes).map_err(|e| e.to_string())?;
            assert_eq!(component.encode().unwrap(), bytes);
            return Ok(());
        }
        let bytes = match UnverifiedSign1::decode(&bytes) {
            Ok(token) => token.into_unverified_payload().ok_or("detached")?,
            Err(_) => bytes,
        };
        let claims = EatClaims::decode(&bytes).map_err(|e| e.to_string())?;
        assert_eq!(
            EatClaims::decode(&claims.encode().unwrap()).unwrap(),
            claims
        );
        if file == "eat-ex1.diag.in" {
            let component = claims.measurements[0].as_measured_component().unwrap();
            assert_eq!(component.name, "boot loader X");
            assert!(component.to_sha256().is_some());
        }
        Ok(())
    });
}

#[test]
fn published_ear_vectors() {
    vector_files::run("ear", EAR_EXPECTED_FAILURES, |name, bytes| {
        if !name.ends_with(".diag") {
            return Err("not CBOR, in whatever form".into());
        }
        let bytes = diag_text(bytes)?;
        let ear = Ear::decode(&bytes).map_err(|e| e.to_string())?;
        assert_eq!(Ear::decode(&ear.encode().unwrap()).unwrap(), ear);
        if name.ends_with("ear-cbor-1.diag") {
            let psa = ear.appraisal("PSA").unwrap();
            assert_eq!(psa.status, Tier::Contraindicated);
            assert_eq!(psa.trust_vector.worst(), Tier::Contraindicated);
            assert!(!ear.is_affirming());
        }
        Ok(())
    });
}
