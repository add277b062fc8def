//! Devices with a PSA Root of Trust, and a CA that takes their evidence.
#![allow(dead_code, clippy::unwrap_used)] // Helpers of tests.

use tegata_authority::registry::{NewPsaDevice, PsaDevice};
use tegata_authority::verifier::PsaPolicy;
use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _, PublicKey};
use tegata_wire::rats::cmw::{CmwRecord, MessageFormat};
use tegata_wire::rats::psa::{PsaClaims, PsaProfile, SoftwareComponent};
use tegata_wire::x509::{AttestationBundle, AttestationStatement, oid};

use super::Seeded;
use super::requests::{nameless, with_attribute};

pub const IMPLEMENTATION: [u8; 32] = [5; 32];

/// Profiles that take evidence, one at once and one with an operator's word, and one that takes none.
pub fn profiles() -> String {
    let profile = |name: &str, more: &str| {
        format!(
            "[profile.{name}]\nkey_algorithms = [\"P-256\"]\n\
             subject = [{{ CN = \"{{model}} {{serial}}\" }}]\nkey_usage = [\"digitalSignature\"]\n\
             validity = \"90d\"\nrenewal_window = \"30d\"\n{more}\n"
        )
    };
    [
        profile("psa", "authentication = [\"evidence\", \"certificate\"]"),
        profile(
            "watched",
            "authentication = [\"evidence\"]\napproval = \"operator\"",
        ),
        profile("plain", "authentication = [\"certificate\", \"secret\"]"),
    ]
    .concat()
}

/// What is good: the software of [`Rot`].
pub fn policy() -> PsaPolicy {
    let text = format!(
        "[psa]\nid = \"p\"\n[[psa.software]]\ntype = \"PRoT\"\nmeasurement = \"{}\"\nsigner = \"{}\"\n",
        "03".repeat(32),
        "04".repeat(32)
    );
    PsaPolicy::parse(&text).unwrap()
}

/// A device as an operator registers it.
pub fn device(iak: &PublicKey, serial: &str) -> PsaDevice {
    let new = NewPsaDevice {
        iak: iak.clone(),
        instance_id: None,
        implementation_id: IMPLEMENTATION,
        model: "sensor".into(),
        serial: serial.into(),
        batch: "operator".into(),
    };
    PsaDevice::new(&RustCrypto, new).unwrap()
}

/// A PSA Root of Trust.
pub struct Rot {
    pub iak: PrivateKey,
    pub device: PsaDevice,
    pub claims: PsaClaims,
}

impl Rot {
    pub fn new(rng: &mut Seeded, serial: &str) -> Self {
        let iak = PrivateKey::generate(KeyAlg::P256, rng).unwrap();
        let device = device(iak.public_key(), serial);
        let claims = PsaClaims {
            profile: PsaProfile::Tfm2023,
            nonce: Vec::new(),
            instance_id: *device.ueid(),
            implementation_id: IMPLEMENTATION,
            client_id: -1,
            lifecycle: 0x3000,
            boot_seed: Some(vec![8; 32]),
            certification: None,
            software: vec![SoftwareComponent {
                kind: Some("PRoT".into()),
                measurement: vec![3; 32],
                version: None,
                signer: vec![4; 32],
                description: None,
            }],
            verification_service: None,
        };
        Self {
            iak,
            device,
            claims,
        }
    }

    pub fn token(&self, nonce: &[u8], key: &PrivateKey) -> Vec<u8> {
        self.token_of(nonce, key, |_| {})
    }

    pub fn token_of(
        &self,
        nonce: &[u8],
        key: &PrivateKey,
        change: impl Fn(&mut PsaClaims),
    ) -> Vec<u8> {
        let spki = key.public_key().to_spki_der().unwrap();
        let mut claims = PsaClaims {
            nonce: [nonce, &RustCrypto.sha256(&spki)].concat(),
            ..self.claims.clone()
        };
        change(&mut claims);
        let headers = Sign1Headers {
            no_kid: true,
            ..Sign1Headers::default()
        };
        sign1(&self.iak, &claims.encode().unwrap(), &headers, b"", false).unwrap()
    }
}

pub fn statement(token: &[u8]) -> AttestationStatement {
    let record = CmwRecord {
        format: MessageFormat::Number(10003),
        value: token.to_vec(),
        indicators: None,
    };
    AttestationStatement::of_cmw(&record).unwrap()
}

/// A request of that key with these statements, the names left to the CA.
pub fn request(key: &PrivateKey, statements: &[AttestationStatement]) -> Vec<u8> {
    let bundle = AttestationBundle {
        statements: statements.to_vec(),
        certs: Vec::new(),
    };
    let value = bundle.to_der().unwrap();
    with_attribute(&nameless(key), oid::ATTESTATION, &value, key)
}
