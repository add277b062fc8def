//! Plays the PSA Root of Trust of a device: signs an attestation token over the nonce that it is given, as
//! `psa_initial_attest_get_token` does. For `.ci/est`; no part of any product.
//!
//! usage: psa-rot --iak KEY --nonce HEX --implementation-id HEX --measurement HEX --signer HEX
//!                [--instance-id HEX] [--lifecycle N] [--client N]
//!
//! KEY is PKCS#8 in DER. The token goes to standard output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A tool of tests.

use std::collections::HashMap;
use std::io::Write as _;

use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{PrivateKey, Provider as _};
use tegata_wire::rats::psa::{PsaClaims, PsaProfile, SoftwareComponent, instance};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let given: HashMap<&str, &str> = words
        .chunks_exact(2)
        .map(|pair| (pair[0].as_str(), pair[1].as_str()))
        .collect();
    let need = |name: &str| *given.get(name).expect(name);
    let bytes = |name: &str| hex::decode(need(name)).expect(name);
    let number = |name: &str, default: i32| {
        given
            .get(name)
            .map_or(default, |text| text.parse().expect(name))
    };
    let iak = PrivateKey::from_pkcs8_der(&std::fs::read(need("--iak")).unwrap()).unwrap();
    let instance_id = match given.get("--instance-id") {
        Some(text) => hex::decode(text).unwrap(),
        None => [&[1][..], &RustCrypto.sha256(iak.public_key().bytes())].concat(),
    };
    let claims = PsaClaims {
        profile: PsaProfile::Tfm2023,
        nonce: bytes("--nonce"),
        instance_id: instance(&instance_id).unwrap(),
        implementation_id: bytes("--implementation-id").try_into().unwrap(),
        client_id: number("--client", -1),
        lifecycle: number("--lifecycle", 0x3000).try_into().unwrap(),
        boot_seed: None,
        certification: None,
        software: vec![SoftwareComponent {
            kind: Some("PRoT".into()),
            measurement: bytes("--measurement"),
            version: Some("1.0.0".into()),
            signer: bytes("--signer"),
            description: None,
        }],
        verification_service: None,
    };
    let headers = Sign1Headers {
        no_kid: true,
        ..Sign1Headers::default()
    };
    let token = sign1(&iak, &claims.encode().unwrap(), &headers, b"", false).unwrap();
    std::io::stdout().write_all(&token).unwrap();
}
