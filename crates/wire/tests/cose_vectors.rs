//! Published COSE vectors: the working group's examples and go-cose's.
//!
//! COSE_Sign1 and COSE_Encrypt are the structures that Tegata's formats are made of; signatures are
//! verified and payloads decrypted by the tests of the crypto crate.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod vector_files;

use serde_json::Value as Json;
use tegata_wire::cose::{EncryptionInfo, UnverifiedSign1};

/// What is not read, and why.
const EXPECTED_FAILURES: &[(&str, &str)] = &[
    // Structures that no format of Tegata is made of.
    ("cose-wg+Examples/CWT/A_4.json", MAC),
    ("cose-wg+Examples/CWT/A_5.json", ENCRYPT0),
    ("cose-wg+Examples/CWT/A_6.json", ENCRYPT0),
    ("cose-wg+Examples/CWT/A_7.json", MAC),
    ("cose-wg+Examples/RFC8152/Appendix_C_1_*.json", SIGN),
    ("cose-wg+Examples/RFC8152/Appendix_C_4_*.json", ENCRYPT0),
    ("cose-wg+Examples/RFC8152/Appendix_C_5_*.json", MAC),
    ("cose-wg+Examples/RFC8152/Appendix_C_6_*.json", MAC),
    ("cose-wg+Examples/aes-*-examples/aes-*-enc-*.json", ENCRYPT0),
    ("cose-wg+Examples/aes-wrap-examples/aes-wrap-*-01.json", MAC),
    ("cose-wg+Examples/aes-wrap-examples/aes-wrap-*-02.json", MAC),
    ("cose-wg+Examples/aes-wrap-examples/aes-wrap-*-03.json", MAC),
    ("cose-wg+Examples/cbc-mac-examples/*", MAC),
    (
        "cose-wg+Examples/chacha-poly-examples/chacha-poly-enc-01.json",
        ENCRYPT0,
    ),
    ("cose-wg+Examples/countersign*/Encrypt-*.json", ENCRYPT0),
    ("cose-wg+Examples/countersign*/mac*.json", MAC),
    ("cose-wg+Examples/countersign*/signed-*.json", SIGN),
    ("cose-wg+Examples/ecdh-direct-examples/*-03.json", MAC),
    ("cose-wg+Examples/ecdh-wrap-examples/*-03.json", MAC),
    ("cose-wg+Examples/ecdsa-examples/ecdsa-0*.json", SIGN),
    ("cose-wg+Examples/eddsa-examples/eddsa-0*.json", SIGN),
    ("cose-wg+Examples/encrypted-tests/*", ENCRYPT0),
    ("cose-wg+Examples/hashsig/hashsig-01.json", SIGN),
    ("cose-wg+Examples/hkdf-*/*-03.json", MAC),
    ("cose-wg+Examples/hkdf-*/*-04.json", MAC),
    ("cose-wg+Examples/hmac-examples/*", MAC),
    ("cose-wg+Examples/mac-tests/*", MAC),
    ("cose-wg+Examples/mac0-tests/*", MAC),
    ("cose-wg+Examples/rsa-pss-examples/*", SIGN),
    ("cose-wg+Examples/sign-tests/*", SIGN),
    ("cose-wg+Examples/x509-examples/*", SIGN),
    // Content encryption that is not SUIT's.
    ("cose-wg+Examples/RFC8152/Appendix_C_3_2.json", CONTENT),
    ("cose-wg+Examples/aes-ccm-examples/*", CONTENT),
    ("cose-wg+Examples/aes-gcm-examples/aes-gcm-02.json", CONTENT),
    (
        "cose-wg+Examples/aes-gcm-examples/aes-gcm-05.json",
        "partial IV: SUIT has a whole one",
    ),
    (
        "cose-wg+Examples/aes-wrap-examples/aes-wrap-*-05.json",
        CONTENT,
    ),
    ("cose-wg+Examples/hkdf-*", CONTENT),
    // Made to be refused.
    (
        "cose-wg+Examples/enveloped-tests/env-fail-01.json",
        "has another tag",
    ),
    (
        "cose-wg+Examples/enveloped-tests/env-fail-03.json",
        "has an unknown algorithm",
    ),
    (
        "cose-wg+Examples/enveloped-tests/env-fail-04.json",
        "has an unknown algorithm",
    ),
    (
        "cose-wg+Examples/enveloped-tests/env-fail-06.json",
        "a header was added",
    ),
    (
        "cose-wg+Examples/enveloped-tests/env-fail-07.json",
        "a header was removed",
    ),
    (
        "cose-wg+Examples/sign1-tests/sign-fail-01.json",
        "has another tag",
    ),
    (
        "cose-wg+Examples/sign1-tests/sign-fail-02.json",
        "the payload was altered",
    ),
    (
        "cose-wg+Examples/sign1-tests/sign-fail-03.json",
        "the algorithm was altered",
    ),
    (
        "cose-wg+Examples/sign1-tests/sign-fail-04.json",
        "has an unknown algorithm",
    ),
    (
        "cose-wg+Examples/sign1-tests/sign-fail-06.json",
        "a header was added",
    ),
    (
        "cose-wg+Examples/sign1-tests/sign-fail-07.json",
        "a header was removed",
    ),
    (
        "cose-wg+Examples/sign1-tests/sign-pass-01.json",
        "the algorithm is not protected: who can change it must not choose it",
    ),
    (
        "veraison+go-cose/testdata/sign1-verify-negative-*.json",
        "made to be refused",
    ),
];

const MAC: &str = "COSE_Mac, COSE_Mac0";
const SIGN: &str = "COSE_Sign";
const ENCRYPT0: &str = "COSE_Encrypt0";
const CONTENT: &str = "a content encryption that SUIT does not have";

fn hex_at<'a>(json: &'a Json, path: &[&str]) -> Option<&'a str> {
    path.iter()
        .try_fold(json, |json, key| json.get(key))
        .and_then(Json::as_str)
}

fn bytes_at(json: &Json, path: &[&str]) -> Option<Vec<u8>> {
    hex_at(json, path).map(|text| hex::decode(text).unwrap())
}

fn check_sign1(
    bytes: &[u8],
    external: &[u8],
    detached: Option<&[u8]>,
    to_be_signed: Option<Vec<u8>>,
) -> Result<(), String> {
    let sign1 = UnverifiedSign1::decode(bytes).map_err(|e| e.to_string())?;
    let ours = sign1
        .to_be_signed(external, detached)
        .map_err(|e| e.to_string())?;
    match to_be_signed {
        Some(theirs) if theirs != ours => Err("other bytes are signed".into()),
        _ => Ok(()),
    }
}

fn check_encrypt(json: &Json, bytes: &[u8]) -> Result<(), String> {
    let info = EncryptionInfo::decode(bytes).map_err(|e| e.to_string())?;
    let external = bytes_at(json, &["input", "enveloped", "external"]).unwrap_or_default();
    let ours = info.aad(&external).map_err(|e| e.to_string())?;
    match bytes_at(json, &["intermediates", "AAD_hex"]) {
        Some(theirs) if theirs != ours => Err("other additional data".into()),
        _ => Ok(()),
    }
}

#[test]
fn published_vectors() {
    vector_files::run("cose", EXPECTED_FAILURES, |name, bytes| {
        let json: Json = serde_json::from_slice(bytes).map_err(|_| "not JSON".to_owned())?;
        if let Some(sign) = json.get("sign1::sign") {
            let external = bytes_at(sign, &["external"]).unwrap_or_default();
            let output = bytes_at(sign, &["expectedOutput", "cborHex"]).unwrap();
            return check_sign1(
                &output,
                &external,
                None,
                bytes_at(sign, &["tbsHex", "cborHex"]),
            );
        }
        if let Some(verify) = json.get("sign1::verify") {
            let external = bytes_at(verify, &["external"]).unwrap_or_default();
            let input = bytes_at(verify, &["taggedCOSESign1", "cborHex"]).unwrap();
            return check_sign1(
                &input,
                &external,
                None,
                bytes_at(verify, &["tbsHex", "cborHex"]),
            );
        }
        let output = bytes_at(&json, &["output", "cbor"]).ok_or("no COSE structure")?;
        let external = bytes_at(&json, &["input", "sign0", "external"]).unwrap_or_default();
        let to_be_signed = bytes_at(&json, &["intermediates", "ToBeSign_hex"]);
        match output.as_slice() {
            [0xd2, ..] => check_sign1(&output, &external, None, to_be_signed),
            [0xd8, 0x60, ..] => check_encrypt(&json, &output),
            _ if name.contains("sign1-tests") => {
                check_sign1(&output, &external, None, to_be_signed)
            }
            _ if name.contains("enveloped-tests") => check_encrypt(&json, &output),
            _ => Err("neither COSE_Sign1 nor COSE_Encrypt".into()),
        }
    });
}
