use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{CryptoError, KeyAlg, PrivateKey, Rng};
use tegata_wire::rats::psa::PsaProfile;

use super::*;
use crate::registry::NewPsaDevice;
use crate::verifier::policy::Callers;

struct Fixed(u8);
impl Rng for Fixed {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        out.fill(self.0);
        Ok(())
    }
}

const P: &RustCrypto = &RustCrypto;
const SPKI: &[u8] = b"the key of the request";
const POLICY: &str = "[psa]\nid = \"p\"\n[[psa.software]]\ntype = \"PRoT\"\n\
    measurement = \"0303030303030303030303030303030303030303030303030303030303030303\"\n\
    signer = \"0404040404040404040404040404040404040404040404040404040404040404\"\n";

fn policy() -> PsaPolicy {
    PsaPolicy::parse(POLICY).unwrap()
}

fn key(alg: KeyAlg, seed: u8) -> PrivateKey {
    PrivateKey::generate(alg, &mut Fixed(seed)).unwrap()
}

fn device(iak: &PublicKey, implementation_id: [u8; 32]) -> PsaDevice {
    let new = NewPsaDevice {
        iak: iak.clone(),
        instance_id: None,
        implementation_id,
        model: "M".into(),
        serial: "1".into(),
        batch: "b".into(),
    };
    PsaDevice::new(P, new).unwrap()
}

/// An annotated vector of the repository.
fn vector(text: &str) -> Vec<u8> {
    let digits = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap().chars());
    hex::decode(digits.filter(|c| !c.is_whitespace()).collect::<String>()).unwrap()
}

/// Claims of a good token.
fn claims(device: &PsaDevice) -> PsaClaims {
    PsaClaims {
        profile: PsaProfile::Tfm2023,
        nonce: [[9; 32], P.sha256(SPKI)].concat(),
        instance_id: *device.ueid(),
        implementation_id: [2; 32],
        client_id: -1,
        lifecycle: 0x3042,
        boot_seed: None,
        certification: None,
        software: vec![SoftwareComponent {
            kind: Some("PRoT".into()),
            measurement: vec![3; 32],
            version: Some("1".into()),
            signer: vec![4; 32],
            description: None,
        }],
        verification_service: None,
    }
}

fn signed(claims: &PsaClaims, by: &PrivateKey) -> Vec<u8> {
    let headers = Sign1Headers {
        no_kid: true,
        ..Sign1Headers::default()
    };
    sign1(by, &claims.encode().unwrap(), &headers, b"", false).unwrap()
}

fn appraised(
    token: &[u8],
    device: &PsaDevice,
    policy: &PsaPolicy,
) -> Result<PsaAppraised, PsaDenied> {
    let evidence = PsaEvidence {
        token,
        profile: PsaProfile::Tfm2023,
        spki_der: SPKI,
    };
    assert_eq!(evidence.alleged_instance()?, *device.ueid());
    evidence.appraise(P, Some(device), policy)
}

#[test]
fn a_good_token_says_whose_it_is_and_for_which_nonce() {
    for alg in [KeyAlg::P256, KeyAlg::P384] {
        let iak = key(alg, 1);
        let device = device(iak.public_key(), [2; 32]);
        let token = signed(&claims(&device), &iak);
        let good = appraised(&token, &device, &policy()).unwrap();
        assert_eq!((good.ueid(), good.nonce()), (device.ueid(), &[9; 32]));
        assert_eq!(*good.token_digest(), P.sha256(&token));
        for cut in 0..token.len() {
            let evidence = PsaEvidence {
                token: &token[..cut],
                profile: PsaProfile::Tfm2023,
                spki_der: SPKI,
            };
            let denied = evidence.appraise(P, Some(&device), &policy()).unwrap_err();
            assert!(denied.is_malformed(), "{cut}: {denied}");
        }
    }
}

#[test]
fn each_thing_that_is_not_good_is_refused_by_its_name() {
    let iak = key(KeyAlg::P256, 1);
    let device = device(iak.public_key(), [2; 32]);
    type Change = fn(&mut PsaClaims);
    let cases: [(Change, &str); 12] = [
        (|c| c.implementation_id = [3; 32], "evidence-implementation"),
        (|c| c.nonce.truncate(32), "evidence-nonce"),
        (|c| c.nonce.truncate(48), "evidence-nonce"),
        (|c| c.nonce[63] ^= 1, "evidence-other-key"),
        (|c| c.nonce[32] ^= 1, "evidence-other-key"),
        (|c| c.lifecycle = 0x2000, "evidence-lifecycle"),
        (|c| c.lifecycle = 0x4000, "evidence-lifecycle"),
        (|c| c.lifecycle = 0, "evidence-lifecycle"),
        (|c| c.software[0].measurement[0] ^= 1, "evidence-software"),
        (|c| c.software[0].signer[0] ^= 1, "evidence-software"),
        (|c| c.software[0].kind = None, "evidence-software"),
        // One that is known does not vouch for the next.
        (
            |c| {
                let mut other = c.software[0].clone();
                other.measurement = vec![7; 32];
                c.software.push(other);
            },
            "evidence-software",
        ),
    ];
    for (change, code) in cases {
        let mut claims = claims(&device);
        change(&mut claims);
        let denied = appraised(&signed(&claims, &iak), &device, &policy()).unwrap_err();
        assert_eq!(denied.code(), code);
        assert!(denied.peer_text().ends_with('.'));
    }
    // Another's signature, a byte of it, a claim behind it.
    let claims = claims(&device);
    let other = appraised(&signed(&claims, &key(KeyAlg::P256, 5)), &device, &policy());
    assert_eq!(other.unwrap_err().code(), "evidence-signature");
    let mut token = signed(&claims, &iak);
    *token.last_mut().unwrap() ^= 1;
    let denied = appraised(&token, &device, &policy()).unwrap_err();
    assert_eq!(denied.code(), "evidence-signature");
    let mut token = signed(&claims, &iak);
    let at = token.windows(4).position(|w| w == b"PRoT").unwrap();
    token[at] ^= 1;
    let denied = appraised(&token, &device, &policy()).unwrap_err();
    assert_eq!(denied.code(), "evidence-signature");
}

#[test]
fn the_wrapper_the_device_and_the_size_are_looked_at() {
    let iak = key(KeyAlg::P256, 1);
    let device = device(iak.public_key(), [2; 32]);
    let token = signed(&claims(&device), &iak);
    let evidence = PsaEvidence {
        token: &token,
        profile: PsaProfile::Legacy2019,
        spki_der: SPKI,
    };
    let denied = evidence.appraise(P, Some(&device), &policy()).unwrap_err();
    assert_eq!(denied.code(), "evidence-profile");
    let denied = evidence.appraise(P, None, &policy()).unwrap_err();
    assert_eq!(denied.code(), "evidence-unknown-instance");
    // The registered instance id is another one, the key the same.
    let new = NewPsaDevice {
        iak: iak.public_key().clone(),
        instance_id: Some(vec![1; 33]),
        implementation_id: [2; 32],
        model: "M".into(),
        serial: "1".into(),
        batch: "b".into(),
    };
    let other = PsaDevice::new(P, new).unwrap();
    let evidence = PsaEvidence {
        profile: PsaProfile::Tfm2023,
        ..evidence
    };
    let denied = evidence.appraise(P, Some(&other), &policy()).unwrap_err();
    assert_eq!(denied.code(), "evidence-instance");
    let long = [&token[..], &[0; TOKEN_LEN_BYTES_MAX]].concat();
    let evidence = PsaEvidence {
        token: &long,
        ..evidence
    };
    let denied = evidence.appraise(P, Some(&device), &policy()).unwrap_err();
    assert!(matches!(denied, PsaDenied::TooLong { .. }));
}

#[test]
fn the_policy_says_what_is_looked_at() {
    let iak = key(KeyAlg::P256, 1);
    let device = device(iak.public_key(), [2; 32]);
    let mut debug = claims(&device);
    debug.lifecycle = 0x40ff;
    let debug = signed(&debug, &iak);
    let lifecycles = POLICY.replace(
        "id = \"p\"",
        "id = \"p\"\nlifecycles = [\"secured\", \"non-psa-rot-debug\"]\ncallers = \"non-secure\"",
    );
    let policy = PsaPolicy::parse(&lifecycles).unwrap();
    assert!(appraised(&debug, &device, &policy).is_ok());
    let secure = PsaPolicy {
        callers: Callers::Secure,
        ..policy.clone()
    };
    let denied = appraised(&debug, &device, &secure).unwrap_err();
    assert_eq!(denied.code(), "evidence-client");
    for (also, fine) in [
        ("version = \"1\"", true),
        ("version = \"2\"", false),
        (
            &format!("implementation_id = \"{}\"", "02".repeat(32)),
            true,
        ),
        (
            &format!("implementation_id = \"{}\"", "01".repeat(32)),
            false,
        ),
    ] {
        let policy = PsaPolicy::parse(&format!("{lifecycles}{also}\n")).unwrap();
        assert_eq!(appraised(&debug, &device, &policy).is_ok(), fine, "{also}");
    }
    // A token may not be silent about a type that its implementation has a reference of.
    let hash = "09".repeat(32);
    let second = |type_, id: &str| {
        let only = format!("implementation_id = \"{}\"", id.repeat(32));
        let values = format!("measurement = \"{hash}\"\nsigner = \"{hash}\"");
        let text = format!("{lifecycles}[[psa.software]]\n{type_}{values}\n{only}\n");
        let policy = PsaPolicy::parse(&text).unwrap();
        appraised(&debug, &device, &policy).map(|_| ())
    };
    let denied = second("type = \"BL\"\n", "02").unwrap_err();
    assert_eq!(denied.code(), "evidence-software");
    assert!(denied.to_string().contains("BL"), "{denied}");
    assert!(second("type = \"BL\"\n", "01").is_ok());
    assert!(second("", "02").is_ok());
}

#[test]
fn mistakes_in_the_policy_have_their_place() {
    let cases = [
        ("id = \"p\"", "id = \"\"", "id is empty"),
        (
            "id = \"p\"",
            "id = \"p\"\nlifecycles = []",
            "no state of life",
        ),
        (
            "id = \"p\"",
            "id = \"p\"\nlifecycles = [\"unknown\"]",
            "no token is accepted",
        ),
        (
            "id = \"p\"",
            "id = \"p\"\ncallers = \"secur\"",
            "did you mean \"secure\"",
        ),
        (
            "id = \"p\"",
            "id = \"p\"\nmax_age = \"5m\"",
            "no setting called",
        ),
        ("\"0303", "\"03", "hexadecimal digits"),
        (
            "[[psa.software]]\n",
            "software = []\n[psa.other]\n",
            "no setting called",
        ),
    ];
    for (from, to, word) in cases {
        let text = POLICY.replacen(from, to, 1);
        assert_ne!(text, POLICY);
        let error = PsaPolicy::parse(&text).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
    let none = "[psa]\nid = \"p\"\nsoftware = []\n";
    assert!(
        PsaPolicy::parse(none)
            .unwrap_err()
            .to_string()
            .contains("no software")
    );
    // The parts of a file are for two roles, and each says what it misses.
    let both = format!("{}\n{POLICY}", crate::verifier::EXAMPLE);
    assert_eq!(PsaPolicy::parse(&both).unwrap(), policy());
    assert!(crate::verifier::AppraisalPolicy::parse(&both).is_ok());
    let error = PsaPolicy::parse(crate::verifier::EXAMPLE).unwrap_err();
    assert!(error.to_string().contains("[psa]"));
    let error = crate::verifier::AppraisalPolicy::parse(POLICY).unwrap_err();
    assert!(error.to_string().contains("[policy]"));
}

/// TF-M's development key.
const TFM_IAK: &str = "0479eba90e8bf450a6751576ad4599b07adf938da3bb0bd17d0036ed49a2d0fc3fbfcdfa8956b568bfdb8673e648\
    d8b58d929955b14a26c3080f34117d971d6864";

#[test]
fn a_token_of_trusted_firmware_verifies_up_to_what_it_was_not_made_for() {
    let point = hex::decode(TFM_IAK.replace(' ', "")).unwrap();
    let iak = PublicKey::from_sec1(KeyAlg::P256, &point).unwrap();
    let implementation_id = [[0xaa; 8], [0xbb; 8], [0xcc; 8], [0xdd; 8]].concat();
    // TF-M makes its instance id from the same key in the same way.
    let device = device(&iak, implementation_id.try_into().unwrap());
    let token = vector(include_str!(
        "../../../../../vectors/psa/tfm_legacy_sign1.hex"
    ));
    let evidence = PsaEvidence {
        token: &token,
        profile: PsaProfile::Legacy2019,
        spki_der: SPKI,
    };
    assert_eq!(evidence.alleged_instance().unwrap(), *device.ueid());
    // Its signature is right and it is of that device; its challenge was 64 zeros, not a key's hash.
    let denied = evidence.appraise(P, Some(&device), &policy()).unwrap_err();
    assert!(matches!(denied, PsaDenied::OtherKey), "{denied}");
    let mut changed = token.clone();
    *changed.last_mut().unwrap() ^= 1;
    let evidence = PsaEvidence {
        token: &changed,
        ..evidence
    };
    let denied = evidence.appraise(P, Some(&device), &policy()).unwrap_err();
    assert!(matches!(denied, PsaDenied::Signature(_)), "{denied}");
}

#[test]
fn the_example_of_the_standard_verifies_up_to_its_nonce() {
    // RFC 9783 appendix A: x and y of the key.
    let x = "4e5e22099e3bceb45b446d1355fd1dc3b545947b6fd7c1c89d886798c3726e8f";
    let y = "80d70b840b256aac34a62ede1043364f044095f003474b91e0182092afb13f2e";
    let point = hex::decode(format!("04{x}{y}")).unwrap();
    let iak = PublicKey::from_sec1(KeyAlg::P256, &point).unwrap();
    let new = NewPsaDevice {
        iak,
        instance_id: Some([&[1][..], &[2; 32]].concat()),
        implementation_id: [0; 32],
        model: "M".into(),
        serial: "1".into(),
        batch: "b".into(),
    };
    let device = PsaDevice::new(P, new).unwrap();
    let token = vector(include_str!("../../../../../vectors/psa/rfc9783_sign1.hex"));
    let denied = appraised(&token, &device, &policy()).unwrap_err();
    assert!(
        matches!(denied, PsaDenied::NonceLength { got: 32 }),
        "{denied}"
    );
}
