//! PSA attestation tokens: the standard's example, tokens of TF-M, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod vector_files;

use tegata_wire::cbor::{self, MapBuilder, MapReader, Value};
use tegata_wire::cose::UnverifiedSign1;
use tegata_wire::rats::RatsError;
use tegata_wire::rats::cmw::{CmwRecord, MessageFormat};
use tegata_wire::rats::psa::{
    COMPONENTS_MAX, Lifecycle, PsaClaims, PsaProfile, TOKEN_LEN_BYTES_MAX, instance,
};
use tegata_wire::x509::{AttestationBundle, AttestationStatement, oid};

fn payload(name: &str) -> Vec<u8> {
    let token = vector_files::repository(name);
    let token = UnverifiedSign1::decode(&token).unwrap();
    token.into_unverified_payload().unwrap()
}

fn example() -> Vec<u8> {
    payload("psa/rfc9783_sign1.hex")
}

#[test]
fn the_example_of_the_standard() {
    let claims = PsaClaims::decode(&example()).unwrap();
    assert_eq!(claims.profile, PsaProfile::Tfm2023);
    assert_eq!(claims.nonce, [1; 32]);
    assert_eq!(claims.instance_id.as_bytes()[..2], [1, 2]);
    assert_eq!(claims.implementation_id, [0; 32]);
    assert_eq!(claims.client_id, i32::MAX);
    assert_eq!(claims.lifecycle().unwrap(), Lifecycle::Secured);
    assert_eq!(claims.boot_seed, Some(vec![0; 8]));
    let [software] = claims.software.as_slice() else {
        panic!("one component");
    };
    assert_eq!(software.kind.as_deref(), Some("PRoT"));
    assert_eq!(
        (&software.measurement[..], &software.signer[..]),
        (&[3; 32][..], &[4; 32][..])
    );
    let again = claims.encode().unwrap();
    assert_eq!(PsaClaims::decode(&again).unwrap(), claims);
}

#[test]
fn tokens_of_trusted_firmware_by_profile() {
    let legacy = PsaClaims::decode(&payload("psa/tfm_legacy_sign1.hex")).unwrap();
    assert_eq!(legacy.profile, PsaProfile::Legacy2019);
    assert_eq!((legacy.nonce.len(), legacy.client_id), (64, 3002));
    let names: Vec<_> = legacy.software.iter().map(|s| s.kind.as_deref()).collect();
    assert_eq!(names, [Some("SPE"), Some("NSPE")]);
    assert_eq!(legacy.certification.as_deref(), Some("0604565272829-10010"));
    let again = legacy.encode().unwrap();
    assert_eq!(PsaClaims::decode(&again).unwrap(), legacy);
    let between = payload("psa/tfm_draft_sign1.hex");
    assert_eq!(PsaClaims::decode(&between), Err(RatsError::Profile));
}

#[test]
fn cuts_and_flips_are_refused_or_read() {
    let bytes = example();
    vector_files::every_prefix_fails(&bytes, |b| PsaClaims::decode(b).map_err(|e| e.to_string()));
    vector_files::bit_flips_do_not_panic(&bytes, PsaClaims::decode);
}

/// The example's claims with one of them changed or removed.
fn with(label: i64, value: Option<Value>) -> Vec<u8> {
    let mut map = MapReader::new(cbor::decode(&example(), 8).unwrap(), "claims").unwrap();
    map.take(label);
    let map = MapBuilder::new().extend(map.into_rest());
    map.put_opt(label, value).encode().unwrap()
}

#[test]
fn each_claim_is_there_and_in_its_form() {
    for label in [10, 256, 265, 2394, 2395, 2396, 2399] {
        assert!(PsaClaims::decode(&with(label, None)).is_err(), "{label}");
        let wrong = with(label, Some(Value::Bool(true)));
        assert!(PsaClaims::decode(&wrong).is_err(), "{label}");
    }
    assert!(PsaClaims::decode(&with(268, None)).is_ok());
    let bytes = |len: usize| Some(Value::Bytes(vec![1; len]));
    let software = |len: usize| {
        let one = MapBuilder::new()
            .put(2, bytes(32).unwrap())
            .put(5, bytes(48).unwrap());
        Some(Value::Array(vec![one.finish().unwrap(); len]))
    };
    let fine = [
        (10, bytes(48)),
        (10, bytes(64)),
        (268, bytes(32)),
        (2394, Some((-1).into())),
        (2395, Some(0x60ff.into())),
        (2399, software(COMPONENTS_MAX)),
        // What is not known means nothing.
        (9999, bytes(8)),
    ];
    for (label, value) in fine {
        let claims = PsaClaims::decode(&with(label, value));
        assert!(claims.is_ok(), "{label}: {claims:?}");
    }
    let text = |s: &str| Some(Value::from(s));
    let wrong = [
        (10, bytes(33)),
        (10, bytes(65)),
        (10, Some(Value::Array(vec![bytes(32).unwrap()]))),
        (256, bytes(32)),
        (256, bytes(34)),
        (256, Some(Value::Bytes(vec![2; 33]))),
        (268, bytes(7)),
        (268, bytes(33)),
        (2396, bytes(31)),
        (2394, Some(0.into())),
        (2394, Some((1i64 << 31).into())),
        (2395, Some(0x3100.into())),
        (2395, Some(0x7000.into())),
        (2395, Some(0x1_3000.into())),
        (2395, Some((-1).into())),
        (2398, text(&"1".repeat(65))),
        (2399, software(0)),
        (2399, software(COMPONENTS_MAX + 1)),
        (2400, text(&"x".repeat(513))),
        (265, text("tag:psacertified.org,2023:psa#other")),
        (265, text("PSA_IOT_PROFILE_1")),
    ];
    for (label, value) in wrong {
        let shown = format!("{value:?}");
        assert!(
            PsaClaims::decode(&with(label, value)).is_err(),
            "{label}: {shown}"
        );
    }
    let long = with(9999, bytes(TOKEN_LEN_BYTES_MAX));
    assert!(PsaClaims::decode(&long).is_err());
    let mut deep = Value::from(0);
    for _ in 0..5 {
        deep = Value::Array(vec![deep]);
    }
    assert!(PsaClaims::decode(&with(9999, Some(deep))).is_err());
    let many = Value::Array(vec![0.into(); 2000]);
    assert!(PsaClaims::decode(&with(9999, Some(many))).is_err());
    assert!(instance(&[1; 32]).is_err() && instance(&[2; 33]).is_err());
}

#[test]
fn formats_of_tokens_have_names_and_numbers() {
    let named = |text: &str| PsaProfile::of_format(&MessageFormat::MediaType(text.into()));
    let numbered = |number| PsaProfile::of_format(&MessageFormat::Number(number));
    let tfm = "application/eat+cwt; eat_profile=\"tag:psacertified.org,2023:psa#tfm\"";
    assert_eq!(named(tfm), Some(PsaProfile::Tfm2023));
    assert_eq!(named(&tfm.replace("; ", ";")), Some(PsaProfile::Tfm2023));
    let legacy = tfm.replace("2023:psa#tfm", "2019:psa#legacy");
    assert_eq!(named(&legacy), Some(PsaProfile::Legacy2019));
    assert_eq!(numbered(10003), Some(PsaProfile::Tfm2023));
    assert_eq!(numbered(10004), Some(PsaProfile::Legacy2019));
    assert_eq!((named("application/eat+cwt"), numbered(263)), (None, None));
}

#[test]
fn a_statement_is_a_record_or_of_another_kind() {
    let record = CmwRecord {
        format: MessageFormat::Number(10003),
        value: vec![1, 2],
        indicators: None,
    };
    let statement = AttestationStatement::of_cmw(&record).unwrap();
    assert_eq!(
        hex::encode(&statement.statement),
        "0407 82192713 420102".replace(' ', "")
    );
    let bundle = AttestationBundle {
        statements: vec![statement.clone()],
        certs: Vec::new(),
    };
    let read = AttestationBundle::from_der(&bundle.to_der().unwrap()).unwrap();
    assert_eq!(read.statements[0].cmw().unwrap(), Some(record));
    let other = |kind, statement: &[u8]| AttestationStatement {
        kind,
        statement: statement.to_vec(),
    };
    // JSON is another form; a sequence is none.
    assert_eq!(other(oid::CMW, &[0x0c, 2, b'[', b']']).cmw(), Ok(None));
    assert!(other(oid::CMW, &[0x30, 0]).cmw().is_err());
    assert!(other(oid::CMW, &[0x04, 0]).cmw().is_err());
    assert_eq!(other(oid::SHA256, &statement.statement).cmw(), Ok(None));
}

/// What is not read of the published claims, and why.
const EXPECTED_FAILURES: &[(&str, &str)] = &[
    ("*.json", "claims in JSON form: no Root of Trust makes them"),
    ("*.yaml", "claims in YAML, which a tool made the tokens of"),
    ("*.hex", "a token as text; its binary stands beside it"),
    (
        "*mac0*",
        "symmetric keys: nobody can be told them who only verifies",
    ),
    (
        "*/P1ClaimsMandatoryOnly.diag",
        "without a profile: which it is must be said",
    ),
    ("*.bin", "tokens, which are read above; a key"),
    ("*.cbor", "tokens and their claims, read above"),
    ("*/psa-sign1.diag", "a token; its claims stand beside it"),
    ("*FAIL_*", "made to be refused"),
    ("*Missing*", "made to be refused"),
    ("*Invalid*", "made to be refused"),
    (
        "*NoSwMeasurements*",
        "without measurements: nothing could be compared",
    ),
    ("*/P2*", "a profile between the two that are read"),
    ("*psa-2_0_0_claims.diag", "the same"),
    ("*Makefile", "how they were made"),
    ("*.sh", "how they were made"),
    ("veraison+evcli/*", "claims of its own tool"),
];

#[test]
fn published_claims() {
    vector_files::run("psa-token", EXPECTED_FAILURES, |name, bytes| {
        if !name.ends_with(".diag") || name.contains("mac0") {
            return Err("not claims".into());
        }
        let bytes = vector_files::diag_text(bytes)?;
        let claims = PsaClaims::decode(&bytes).map_err(|e| e.to_string())?;
        let again = claims.encode().map_err(|e| e.to_string())?;
        assert_eq!(PsaClaims::decode(&again).unwrap(), claims, "{name}");
        Ok(())
    });
}
