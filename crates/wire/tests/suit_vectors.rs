//! Published SUIT vectors: the drafts' examples, libcsuit, suit-rs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod vector_files;

use tegata_wire::cbor;
use tegata_wire::cose::{EncryptionInfo, RecipientKind, UnverifiedSign1, kdf_context_a128kw};
use tegata_wire::suit::{AuthBlock, Manifest, UnverifiedEnvelope};
use vector_files::{diag_text, hex_text, sha256};

/// What is not read, and why.
const EXPECTED_FAILURES: &[(&str, &str)] = &[
    ("*/testfiles/config.json", "a payload"),
    ("*/testfiles/*.bin", "a payload, or its ciphertext"),
    (
        "*/encrypted-payload-*.hex",
        "ciphertext: the tests of the crypto crate decrypt it",
    ),
    ("*.json", "input of a program that makes manifests"),
    (
        "leduclean+suit-rs/cose_minicbor/tests/hmac*",
        "COSE_Mac: not accepted as authentication",
    ),
    (
        "leduclean+suit-rs/cose_minicbor/tests/sign/*",
        "COSE_Sign: not accepted as authentication",
    ),
];

/// The last code block of a page of the SUIT drafts: the envelope in hexadecimal.
fn last_block(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let block = text.rsplit("~~~").nth(1).ok_or("no code block")?;
    hex_text(block.as_bytes())
}

fn cbor_of(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let name = name.trim_end_matches(".signed");
    match name.rsplit('.').next() {
        Some("hex") => hex_text(bytes),
        Some("diag" | "edn") => diag_text(bytes),
        Some("suit" | "cose") => Ok(bytes.to_vec()),
        Some("txt") => last_block(bytes),
        _ => Err("not CBOR, in whatever form".into()),
    }
}

fn check_envelope(bytes: &[u8]) -> Result<(), String> {
    let envelope = UnverifiedEnvelope::decode(bytes).map_err(|e| e.to_string())?;
    let payload = envelope.signed_payload().to_vec();
    for block in envelope.auth_blocks() {
        if let AuthBlock::Sign1(sign1) = block {
            let sign1 = UnverifiedSign1::decode(sign1).map_err(|e| e.to_string())?;
            sign1
                .to_be_signed(&[], Some(&payload))
                .map_err(|e| e.to_string())?;
        }
    }
    let original = envelope.digest_input().unwrap();
    let unchanged = envelope
        .dangerous_unverified_manifest()
        .map_err(|e| e.to_string())?;
    let checked = envelope.check_digests(sha256).map_err(|e| e.to_string())?;
    // The examples are deterministic: what was read is written to the same bytes.
    let again = unchanged.encode().map_err(|e| e.to_string())?;
    assert_eq!(Manifest::decode(&again).unwrap(), unchanged);
    let again = cbor::encode(&cbor::Value::Bytes(again)).unwrap();
    assert_eq!(
        hex::encode(again),
        hex::encode(original),
        "the manifest is written otherwise"
    );
    // Dependencies travel as integrated envelopes.
    let names: Vec<String> = checked.integrated_names().map(str::to_owned).collect();
    for name in names {
        let inner = checked.integrated(&name).unwrap();
        if let Ok(inner) = UnverifiedEnvelope::decode(inner) {
            let _ = inner
                .check_digests(sha256)
                .map_err(|e| format!("{name}: {e}"))?;
        }
    }
    Ok(())
}

/// libcsuit's texts are envelopes that are not yet signed: only the manifest can be compared.
fn check_libcsuit_diag(bytes: &[u8]) -> Result<(), String> {
    let value = cbor::strip_tag(cbor::decode(bytes, 8).map_err(|e| e.to_string())?, 107);
    let mut map = cbor::MapReader::new(value, "envelope").map_err(|e| e.to_string())?;
    let manifest = map
        .require(3, "manifest")
        .map_err(|e| e.to_string())?
        .into_bytes()
        .unwrap();
    let decoded = Manifest::decode(&manifest).map_err(|e| e.to_string())?;
    assert_eq!(
        hex::encode(decoded.encode().unwrap()),
        hex::encode(manifest)
    );
    Ok(())
}

fn check_encryption_info(name: &str, bytes: &[u8]) -> Result<(), String> {
    let info = EncryptionInfo::decode(bytes).map_err(|e| e.to_string())?;
    let again = info.encode().unwrap();
    assert_eq!(EncryptionInfo::decode(&again).unwrap(), info);
    // libcsuit does not sort the labels 4 and -1.
    assert!(
        again == bytes || name.contains("libcsuit"),
        "{name} is written otherwise"
    );
    info.aad(&[]).unwrap();
    for recipient in info.recipients() {
        assert_eq!(recipient.wrapped_key.len(), 24);
        match &recipient.kind {
            RecipientKind::A128Kw => assert!(recipient.protected.is_empty()),
            RecipientKind::EcdhEsA128Kw { .. } => {
                kdf_context_a128kw(&recipient.protected).unwrap();
            }
            other => return Err(format!("{other:?}")),
        }
    }
    Ok(())
}

#[test]
fn published_vectors() {
    vector_files::run("suit", EXPECTED_FAILURES, |name, bytes| {
        let bytes = cbor_of(name, bytes)?;
        let file = name.rsplit('/').next().unwrap();
        if file.contains("encryption_info") || file.contains("encryption-info") {
            check_encryption_info(name, &bytes)
        } else if file == "a128kw_kdf_context.diag" {
            let protected = hex::decode("a101381c").unwrap();
            assert_eq!(kdf_context_a128kw(&protected).unwrap(), bytes);
            Ok(())
        } else if file.starts_with("sign1_") {
            let sign1 = UnverifiedSign1::decode(&bytes).map_err(|e| e.to_string())?;
            let detached = sign1
                .unverified_payload()
                .is_none()
                .then_some(&b"payload"[..]);
            sign1
                .to_be_signed(&[], detached)
                .map_err(|e| e.to_string())
                .map(drop)
        } else if name.contains("libcsuit") && file.ends_with(".diag") {
            check_libcsuit_diag(&bytes)
        } else if file.contains("manifest") || file.starts_with("example") {
            check_envelope(&bytes)
        } else {
            Err("not a format of SUIT".into())
        }
    });
}
