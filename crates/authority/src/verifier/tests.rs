use tegata_wire::rats::eat::DebugStatus;

use super::*;

#[test]
fn the_example_policy_is_good() {
    let policy = AppraisalPolicy::parse(EXAMPLE).unwrap();
    assert_eq!(policy.min_security_level, SecurityLevel::Software);
    assert_eq!(policy.min_debug_status, DebugStatus::Enabled);
    assert_eq!((policy.max_age_secs, policy.result_secs), (300, 300));
    assert!(
        policy
            .runtimes
            .iter()
            .any(|(name, versions)| name == "tegata-teed" && versions.is_none())
    );
}

#[test]
fn policy_mistakes_have_their_place() {
    let cases = [
        (
            "min_security_level = \"software\"",
            "min_security_level = \"softwear\"",
            "did you mean \"software\"",
        ),
        (
            "min_debug_status = \"enabled\"",
            "min_debug_status = \"off\"",
            "One of",
        ),
        ("max_age = \"5m\"", "max_age = \"soon\"", "span of time"),
        (
            "accept_unknown_tas = false",
            "accept_unknown_ta = false",
            "did you mean \"accept_unknown_tas\"",
        ),
        ("id = \"tegata-default-1\"", "id = \"\"", "id is empty"),
    ];
    for (from, to, word) in cases {
        let text = EXAMPLE.replacen(from, to, 1);
        assert_ne!(text, EXAMPLE);
        let e = AppraisalPolicy::parse(&text).unwrap_err();
        let line = 1 + text.lines().position(|l| l == to).unwrap();
        assert_eq!(e.mistakes[0].line, line, "{e}");
        assert!(e.to_string().contains(word), "{e}");
    }
    let line = EXAMPLE.lines().find(|l| l.starts_with("runtimes")).unwrap();
    let none = EXAMPLE.replace(line, "runtimes = []");
    assert!(
        AppraisalPolicy::parse(&none)
            .unwrap_err()
            .to_string()
            .contains("no runtime")
    );
}

#[test]
fn levels_are_ordered_and_unknown_ones_are_none() {
    let level = |name| SecurityLevel::from_name(name);
    assert!(level("software") < level("software-tpm"));
    assert!(level("software-se") < level("optee"));
    assert_eq!(level("magic"), None);
}

#[test]
fn requests_survive_and_every_cut_is_refused() {
    let request = AppraisalRequest {
        evidence: b"evidence".to_vec(),
        nonce: vec![1; 32],
        media_type: Some("application/eat+cwt".into()),
    };
    let bytes = request.encode().unwrap();
    assert_eq!(AppraisalRequest::decode(&bytes).unwrap(), request);
    for cut in 0..bytes.len() {
        assert!(AppraisalRequest::decode(&bytes[..cut]).is_err());
    }
    let short = AppraisalRequest {
        nonce: vec![1; 7],
        ..request
    };
    assert!(AppraisalRequest::decode(&short.encode().unwrap()).is_err());
}

/// A device whose factory says `endorsed`, and evidence of it that says `claimed`.
struct Played {
    device: crate::factory::EndorsedDevice,
    evidence: Vec<u8>,
}

const NONCE: [u8; 32] = [7; 32];
const NOW: crate::UnixSecs = crate::UnixSecs(1_000_000);

fn play(endorsed: &str, claimed: &str, storage_root: &str) -> Played {
    use crate::factory::EndorsedDevice;
    use tegata_crypto::cose::{Sign1Headers, sign1};
    use tegata_crypto::{KeyAlg, PrivateKey};
    use tegata_wire::device::{DeviceIdentity, Oem};
    use tegata_wire::enrolment::{DeviceEndorsement, FactoryManifest};
    use tegata_wire::ids::Ueid;
    use tegata_wire::rats::eat::{Confirmation, EatClaims, OemId, TegataClaims, Version};

    struct Fixed(u8);
    impl tegata_crypto::Rng for Fixed {
        fn fill(&mut self, out: &mut [u8]) -> Result<(), tegata_crypto::CryptoError> {
            out.fill(self.0);
            Ok(())
        }
    }
    let key = |seed| PrivateKey::generate(KeyAlg::P256, &mut Fixed(seed)).unwrap();
    let cose = |key: &PrivateKey| key.public_key().to_cose_key().unwrap();
    let (attestation, teep, delivery) = (key(1), key(2), key(3));
    let ueid = Ueid::from_random([9; 16]);
    let one = FactoryManifest {
        batch: "b".into(),
        maker: "m".into(),
        made_at_secs: 1,
        devices: vec![DeviceEndorsement {
            identity: DeviceIdentity {
                ueid,
                serial: "1".into(),
                oemid: Oem::Pen(1),
                hwmodel: b"M".to_vec(),
                hwversion: "1".into(),
                imei: None,
                mac: None,
                vendor_ids: vec![],
                class_ids: vec![],
            },
            attestation_key: cose(&attestation),
            teep_key: cose(&teep),
            delivery_key: cose(&delivery),
            security_level: endorsed.into(),
        }],
    };
    let device = EndorsedDevice::from_own_record(&one.encode().unwrap()).unwrap();
    let claims = EatClaims {
        eat_nonce: vec![NONCE.to_vec()],
        ueid: Some(ueid),
        oemid: Some(OemId::Pen(1)),
        hwmodel: Some(b"M".to_vec()),
        hwversion: Some(Version {
            version: "1".into(),
            scheme: None,
        }),
        swname: Some("tegata-tee".into()),
        swversion: Some(Version {
            version: "0.1.0".into(),
            scheme: None,
        }),
        cnf: Some(Confirmation {
            cose_key: Some(teep.public_key().to_cose_key_value()),
            kid: Some(teep.public_key().thumbprint().to_vec()),
            other: vec![],
        }),
        tegata: TegataClaims {
            security_level: Some(claimed.into()),
            storage_root: Some(storage_root.into()),
            anti_rollback_level: Some(0),
            missing: Some(vec![]),
        },
        ..EatClaims::default()
    };
    let payload = claims.encode().unwrap();
    let headers = Sign1Headers::default();
    let evidence = sign1(&attestation, &payload, &headers, b"", false).unwrap();
    Played { device, evidence }
}

fn judged(played: &Played, min_security_level: &str) -> Verdict {
    let text = EXAMPLE.replacen(
        "min_security_level = \"software\"",
        &format!("min_security_level = \"{min_security_level}\""),
        1,
    );
    let policy = AppraisalPolicy::parse(&text).unwrap();
    let request = AppraisalRequest {
        evidence: played.evidence.clone(),
        nonce: NONCE.to_vec(),
        media_type: None,
    };
    let provider = &tegata_crypto::rustcrypto::RustCrypto;
    appraise(provider, &request, Some(&played.device), &[], &policy, NOW)
        .unwrap()
        .verdict()
        .clone()
}

#[test]
fn a_policy_that_asks_for_hardware_accepts_optee_and_refuses_software() {
    use tegata_wire::rats::ear::Tier;
    let optee = play("optee", "optee", "huk");
    let software = play("software", "software", "file");
    let verdict = judged(&optee, "optee");
    assert_eq!(verdict.status, Tier::Affirming, "{:?}", verdict.reasons);
    assert_eq!(verdict.vector.hardware, Some(2));
    assert_eq!(verdict.vector.storage_opaque, Some(2));
    assert_eq!(verdict.vector.runtime_opaque, None);
    let verdict = judged(&software, "optee");
    assert_eq!(verdict.status, Tier::Warning);
    assert_eq!(verdict.vector.hardware, Some(32));
    assert!(
        verdict.reasons[0].contains("weaker"),
        "{:?}",
        verdict.reasons
    );
    // A policy that asks for less takes both, and says no more of software than it did.
    assert_eq!(judged(&optee, "software").status, Tier::Affirming);
    let verdict = judged(&software, "software");
    assert_eq!(verdict.status, Tier::Affirming);
    assert_eq!(
        (verdict.vector.hardware, verdict.vector.storage_opaque),
        (None, None)
    );
}

#[test]
fn evidence_does_not_outdo_what_the_factory_endorsed() {
    use tegata_wire::rats::ear::Tier;
    for (endorsed, claimed) in [
        ("software", "optee"),
        ("optee", "software"),
        ("optee", "hardware"),
    ] {
        let verdict = judged(&play(endorsed, claimed, "huk"), "software");
        assert_eq!(
            verdict.status,
            Tier::Contraindicated,
            "{endorsed} {claimed}"
        );
        assert_eq!(verdict.vector.hardware, Some(97));
    }
    // A word that nobody defined is below every level.
    let verdict = judged(&play("magic", "magic", "huk"), "software");
    assert_eq!(verdict.vector.hardware, Some(32));
}

#[test]
fn storage_is_called_opaque_only_under_the_hardware_key() {
    let verdict = judged(&play("optee", "optee", "file"), "optee");
    assert_eq!(verdict.vector.hardware, Some(2));
    assert_eq!(verdict.vector.storage_opaque, None);
}
