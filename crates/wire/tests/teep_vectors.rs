//! Published TEEP vectors: the draft's examples, libteep, AttesTAM, taws.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod vector_files;

use tegata_wire::cose::{UnverifiedSign1, modern_alg};
use tegata_wire::rats::eat::EatClaims;
use tegata_wire::suit::UnverifiedEnvelope;
use tegata_wire::teep::Message;
use vector_files::{diag_text, hex_text, sha256};

/// What is not read, and why.
const EXPECTED_FAILURES: &[(&str, &str)] = &[
    (
        "kentakayama+AttesTAM/doc/examples/example-*.diag",
        "AttesTAM's own interface for operators",
    ),
    (
        "kentakayama+AttesTAM/doc/examples/tam_priv.*",
        "a private key, not a message",
    ),
    (
        "kentakayama+AttesTAM/doc/examples/text.1.envelope.diag",
        "its digest is that of the .cbor beside it, whose component id ends in another number",
    ),
    (
        "kentakayama+libteep/testfiles/attestation_results*.cbor",
        "hwversion is a byte string; RFC 9711 section 4.2.5 wants text",
    ),
    (
        "kentakayama+libteep/testfiles/evidence*.cbor",
        "hwversion is a byte string; RFC 9711 section 4.2.5 wants text",
    ),
    (
        "kentakayama+libteep/testfiles/query_request_err*.cbor",
        "made to be refused: cipher suites missing, token too short",
    ),
    (
        "kentakayama+libteep/testfiles/query_request_es*.cbor",
        "of an early draft: cipher suites are an option of QueryRequest",
    ),
    (
        "kentakayama+libteep/testfiles/ta_update*.cbor",
        "of an early draft: options have other numbers",
    ),
];

fn cbor_of(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    if name.ends_with(".hex.txt") {
        hex_text(bytes)
    } else if name.ends_with(".diag.txt") || name.ends_with(".diag") {
        diag_text(bytes)
    } else if name.ends_with(".cbor") || name.ends_with(".cose") {
        Ok(bytes.to_vec())
    } else {
        Err("not CBOR, in whatever form".into())
    }
}

/// A message by itself or in its COSE_Sign1; re-encodes to the same bytes.
fn check_teep(bytes: &[u8]) -> Result<(), String> {
    let payload = match UnverifiedSign1::decode(bytes) {
        Ok(sign1) => {
            assert!(matches!(modern_alg(sign1.alg()), -9 | -51 | -19));
            sign1.to_be_signed(&[], None).map_err(|e| e.to_string())?;
            sign1.into_unverified_payload().ok_or("detached")?
        }
        Err(_) => bytes.to_vec(),
    };
    let message = Message::decode(&payload).map_err(|e| e.to_string())?;
    let again = message.encode().map_err(|e| e.to_string())?;
    assert_eq!(Message::decode(&again).unwrap(), message);
    if let Message::Update(update) = &message {
        for envelope in update.manifest_list.iter().flatten() {
            check_suit(envelope)?;
        }
    }
    Ok(())
}

fn check_suit(bytes: &[u8]) -> Result<(), String> {
    let envelope = UnverifiedEnvelope::decode(bytes).map_err(|e| e.to_string())?;
    let checked = envelope.check_digests(sha256).map_err(|e| e.to_string())?;
    let again = checked.manifest().encode().map_err(|e| e.to_string())?;
    assert_eq!(
        tegata_wire::suit::Manifest::decode(&again).unwrap(),
        *checked.manifest()
    );
    Ok(())
}

fn check_eat(bytes: &[u8]) -> Result<(), String> {
    let payload = match UnverifiedSign1::decode(bytes) {
        Ok(sign1) => sign1.into_unverified_payload().ok_or("detached")?,
        Err(_) => bytes.to_vec(),
    };
    let claims = EatClaims::decode(&payload).map_err(|e| e.to_string())?;
    let again = claims.encode().map_err(|e| e.to_string())?;
    assert_eq!(EatClaims::decode(&again).unwrap(), claims);
    Ok(())
}

#[test]
fn published_vectors() {
    vector_files::run("teep", EXPECTED_FAILURES, |name, bytes| {
        let text = String::from_utf8_lossy(bytes);
        let bytes = if name.ends_with("eat_diagnostic.txt") {
            // A slash inside a comment ends it: the file is mended before it is read.
            diag_text(
                text.replace("application/cbor", "application-cbor")
                    .as_bytes(),
            )?
        } else {
            cbor_of(name, bytes)?
        };
        let file = name.rsplit('/').next().unwrap();
        if file.starts_with("suit_") || file.contains("envelope") {
            check_suit(&bytes)
        } else if file.starts_with("eat_")
            || file.starts_with("evidence")
            || file.starts_with("att")
        {
            check_eat(&bytes)
        } else if ["query_", "update", "ta_update", "teep_"]
            .iter()
            .any(|start| file.starts_with(start))
        {
            check_teep(&bytes)
        } else {
            Err("not a format of TEEP".into())
        }
    });
}
