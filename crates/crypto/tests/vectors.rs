//! Signatures, MACs and encryption of other implementations and of the specifications' examples.
//!
//! The files lie outside the repository (`TEGATA_VECTORS`, or `../shared/vectors` beside it); a
//! checkout without them passes with a printed line. Each suite has a list of what is expected to
//! fail and why; a listed case that succeeds fails the test too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{hex, providers};
use serde_json::Value as Json;
use tegata_crypto::cmp::{MacLimits, verify_message_mac, verify_message_signature};
use tegata_crypto::cose::{verify_mac0, verify_sign1};
use tegata_crypto::suit::{DeliveryKeys, dangerous_open_payload_or_ctr, verify_envelope};
use tegata_crypto::{KeyAlg, PrivateKey, Provider, PublicKey, Secret, chain, csr};
use tegata_wire::cmp::UnverifiedPkiMessage;
use tegata_wire::suit::{AuthBlock, UnverifiedEnvelope};

/// The vectors of one specification, or `None` with a printed line.
fn vectors(spec: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TEGATA_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    let dir = root.join(spec);
    if dir.is_dir() {
        Some(dir)
    } else {
        let given = std::env::var_os("TEGATA_VECTORS").is_some();
        assert!(!given, "TEGATA_VECTORS has no {spec}");
        println!("skipped: no vectors in {}", dir.display());
        None
    }
}

/// Every file below `dir`, by its path within `dir`.
fn files(dir: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                found.insert(name, path);
            }
        }
    }
    found
}

/// The outcome of a suite: each case and why it failed, if it did.
#[derive(Default)]
struct Suite(Vec<(String, Result<(), String>)>);

impl Suite {
    fn case(&mut self, name: impl Into<String>, result: Result<(), impl std::fmt::Debug>) {
        self.0
            .push((name.into(), result.map_err(|error| format!("{error:?}"))));
    }

    /// Every case succeeds but those listed, which fail; `count` guards against an empty run.
    fn finish(self, count: usize, expected: &[(&str, &str)]) {
        let mut wrong = vec![];
        for (name, result) in &self.0 {
            let reason = expected
                .iter()
                .find(|(case, _)| case == name)
                .map(|(_, reason)| reason);
            match (result, reason) {
                (Ok(()), None) | (Err(_), Some(_)) => {}
                (Err(error), None) => wrong.push(format!("{name}: {error}")),
                (Ok(()), Some(reason)) => wrong.push(format!("{name}: succeeds, though {reason}")),
            }
        }
        for (case, _) in expected {
            if !self.0.iter().any(|(name, _)| name == case) {
                wrong.push(format!("{case}: listed, and not among the cases"));
            }
        }
        let passed = self.0.iter().filter(|(_, result)| result.is_ok()).count();
        println!("{passed} succeed, {} fail as listed", self.0.len() - passed);
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
        assert_eq!(passed, count, "number of cases that succeed");
    }
}

/// The answer of all providers, which must be one.
fn on_all<T>(run: impl Fn(&dyn Provider) -> Result<T, String>) -> Result<T, String> {
    let mut results: Vec<_> = providers()
        .iter()
        .map(|(_, provider)| run(&**provider))
        .collect();
    let codes: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().err().cloned())
        .collect();
    assert!(codes.windows(2).all(|pair| pair[0] == pair[1]), "{codes:?}");
    results.remove(0)
}

fn debug<T, E: std::fmt::Debug>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{error:?}"))
}

fn base64url(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bits, mut held, mut out) = (0_u32, 0, vec![]);
    for byte in text.bytes() {
        let value = alphabet
            .iter()
            .position(|known| *known == byte)
            .expect("base64url");
        bits = (bits << 6) | u32::try_from(value).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).unwrap());
        }
    }
    out
}

/// Bytes of a key in the examples: base64url, or hex in a member of that name.
fn key_bytes(key: &Json, name: &str) -> Option<Vec<u8>> {
    if let Some(text) = key[format!("{name}_hex")].as_str() {
        return Some(hex(text));
    }
    key[name].as_str().map(base64url)
}

fn jwk(key: &Json) -> Option<PublicKey> {
    let alg = match key["crv"].as_str()? {
        "P-256" => KeyAlg::P256,
        "P-384" => KeyAlg::P384,
        "Ed25519" => KeyAlg::Ed25519,
        _ => return None,
    };
    let x = key_bytes(key, "x")?;
    if alg == KeyAlg::Ed25519 {
        return PublicKey::from_ed25519(&x).ok();
    }
    PublicKey::from_sec1(alg, &[vec![4], x, key_bytes(key, "y")?].concat()).ok()
}

fn pem_key(path: &Path) -> PrivateKey {
    let text = fs::read_to_string(path).unwrap();
    // Parameters may stand before the key; some files lack the last line's end.
    let found = ["-----BEGIN PRIVATE KEY", "-----BEGIN EC PRIVATE KEY"];
    let start = found
        .iter()
        .find_map(|begin| text.find(begin))
        .expect("PEM private key");
    let text = format!("{}\n", text[start..].trim_end());
    let (label, document) = der::SecretDocument::from_pem(&text).expect("PEM");
    if label == "PRIVATE KEY" {
        return PrivateKey::from_pkcs8_der(document.as_bytes()).expect("PKCS#8");
    }
    let key = p256::SecretKey::from_sec1_der(document.as_bytes()).expect("SEC 1 key");
    PrivateKey::from_scalar_bytes(KeyAlg::P256, &key.to_bytes()).unwrap()
}

fn pem_der(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path).unwrap();
    let start = text.find("-----BEGIN").expect("PEM");
    der::Document::from_pem(&text[start..])
        .unwrap()
        .1
        .as_bytes()
        .to_vec()
}

#[test]
fn cose_working_group_examples() {
    let Some(dir) = vectors("cose/cose-wg+Examples") else {
        return;
    };
    let mut suite = Suite::default();
    for (name, path) in files(&dir) {
        if !name.ends_with(".json") {
            continue;
        }
        let json: Json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let input = &json["input"];
        let Some(bytes) = json["output"]["cbor"].as_str().map(hex) else {
            continue;
        };
        let should_fail = json["fail"].as_bool() == Some(true);
        let result = if input["sign0"].is_object() {
            let sign = &input["sign0"];
            let aad = sign["external"].as_str().map(hex).unwrap_or_default();
            let Some(key) = jwk(&sign["key"]) else {
                suite.case(&name, Err::<(), _>("key of another algorithm"));
                continue;
            };
            // These keys are named by short kids of their own.
            let keys = |_: Option<&[u8]>| Some(key.clone());
            on_all(|provider| debug(verify_sign1(provider, &bytes, &keys, &aad, None)).map(drop))
        } else if input["mac0"].is_object() {
            let mac = &input["mac0"];
            let aad = mac["external"].as_str().map(hex).unwrap_or_default();
            let key = key_bytes(&mac["recipients"][0]["key"], "k");
            let key = key
                .or_else(|| key_bytes(&mac["key"], "k"))
                .expect("symmetric key");
            on_all(|provider| debug(verify_mac0(provider, &bytes, &key, &aad, None)).map(drop))
        } else {
            continue;
        };
        match (should_fail, result) {
            (true, Ok(())) => suite.case(&name, Err::<(), _>("accepted what must fail")),
            (true, Err(_)) => suite.case(&name, Ok::<(), ()>(())),
            (false, result) => suite.case(&name, result),
        }
    }
    let hash = "a hash or key type outside the algorithm table";
    let short = "a truncated or CBC MAC; only HMAC 256/256 is read";
    let unprotected = "the algorithm is not in the protected header, where alone it counts";
    suite.finish(
        28,
        &[
            ("CWT/A_4.json", short),
            ("CWT/A_7.json", short),
            ("RFC8152/Appendix_C_6_1.json", short),
            ("cbc-mac-examples/cbc-mac-enc-01.json", short),
            ("cbc-mac-examples/cbc-mac-enc-02.json", short),
            ("cbc-mac-examples/cbc-mac-enc-03.json", short),
            ("cbc-mac-examples/cbc-mac-enc-04.json", short),
            ("ecdsa-examples/ecdsa-sig-03.json", hash),
            ("ecdsa-examples/ecdsa-sig-04.json", hash),
            ("eddsa-examples/eddsa-sig-02.json", hash),
            ("hashsig/hsssig-sig-01.json", hash),
            ("hmac-examples/HMac-enc-02.json", hash),
            ("hmac-examples/HMac-enc-03.json", hash),
            ("hmac-examples/HMac-enc-05.json", short),
            ("mac0-tests/mac-pass-01.json", unprotected),
            ("mac0-tests/mac-pass-02.json", unprotected),
            ("mac0-tests/mac-pass-03.json", unprotected),
            ("sign1-tests/sign-pass-01.json", unprotected),
        ],
    );
}

#[test]
fn go_cose() {
    let Some(dir) = vectors("cose/veraison+go-cose/testdata") else {
        return;
    };
    let mut suite = Suite::default();
    for (name, path) in files(&dir) {
        let json: Json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let Some(key) = jwk(&json["key"]) else {
            suite.case(&name, Err::<(), _>("key of another algorithm"));
            continue;
        };
        let (case, bytes) = if json["sign1::sign"].is_object() {
            let case = &json["sign1::sign"];
            (case, &case["expectedOutput"]["cborHex"])
        } else {
            let case = &json["sign1::verify"];
            (case, &case["taggedCOSESign1"]["cborHex"])
        };
        let bytes = hex(bytes.as_str().unwrap());
        let aad = case["external"].as_str().map(hex).unwrap_or_default();
        let keys = |_: Option<&[u8]>| Some(key.clone());
        let result =
            on_all(|provider| debug(verify_sign1(provider, &bytes, &keys, &aad, None)).map(drop));
        if case["shouldVerify"].as_bool() == Some(false) {
            suite.case(
                &name,
                if result.is_err() {
                    Ok(())
                } else {
                    Err("accepted")
                },
            );
        } else {
            suite.case(&name, result);
        }
    }
    let other = "P-521 and RSA are outside the algorithm table";
    suite.finish(
        9,
        &[
            (
                "sign1-sign-0000.json",
                "its output is signed with the key of sign1-verify-0000",
            ),
            ("sign1-sign-0003.json", other),
            ("sign1-sign-0004.json", other),
            ("sign1-sign-0005.json", other),
            ("sign1-sign-0006.json", other),
            ("sign1-verify-0003.json", other),
            ("sign1-verify-0004.json", other),
            ("sign1-verify-0005.json", other),
            ("sign1-verify-0006.json", other),
        ],
    );
}

/// The key pair of the SUIT examples, which sign with ES256.
const SUIT_KEY: &str = "suit-wg+manifest-spec/examples/private_key.pem";

/// Hex of a file of examples: fenced blocks, or the whole file.
fn hex_blocks(text: &str) -> Vec<Vec<u8>> {
    text.split("~~~")
        .filter_map(|block| {
            let digits: String = block.chars().filter(|c| !c.is_whitespace()).collect();
            hex::decode(digits).ok().filter(|bytes| bytes.len() > 40)
        })
        .collect()
}

/// Signature by one of `keys`, or a MAC with `mac_key`, and all digests.
fn check_envelope(bytes: &[u8], keys: &[PublicKey], mac_key: &[u8]) -> Result<(), String> {
    let envelope = debug(UnverifiedEnvelope::decode(bytes))?;
    if let [
        AuthBlock::Other {
            tag: 17,
            bytes: mac,
        },
    ] = envelope.auth_blocks()
    {
        let payload = Some(envelope.signed_payload());
        on_all(|p| debug(verify_mac0(p, mac, mac_key, b"", payload)).map(drop))?;
        return on_all(|p| debug(envelope.clone().check_digests(|b| p.sha256(b))).map(drop));
    }
    // The examples' kids, where there are any, are not thumbprints.
    let all = |_: Option<&[u8]>| keys.first().cloned();
    on_all(|p| {
        let by_kid = verify_envelope(p, envelope.clone(), keys).map(drop);
        debug(by_kid.or_else(|_| verify_envelope(p, envelope.clone(), &all).map(drop)))
    })
}

#[test]
fn suit_envelopes() {
    let Some(dir) = vectors("suit") else { return };
    let key = pem_key(&dir.join(SUIT_KEY));
    let keys = [key.public_key().clone()];
    let mac_key = [b'a'; 32];
    let mut suite = Suite::default();
    for (name, path) in files(&dir) {
        if name.ends_with(".suit") {
            suite.case(
                &name,
                check_envelope(&fs::read(path).unwrap(), &keys, &mac_key),
            );
        } else if name.contains("/examples/suit-manifest-") && name.ends_with(".hex.signed")
            || name.contains("multiple-trust-domains/examples") && name.ends_with(".hex")
        {
            let text = fs::read_to_string(path).unwrap();
            suite.case(&name, check_envelope(&hex(&text), &keys, &mac_key));
        } else if name.contains("manifest-spec/examples") && name.ends_with(".txt") {
            let text = fs::read_to_string(path).unwrap();
            for (at, block) in hex_blocks(&text).iter().enumerate() {
                suite.case(
                    format!("{name}#{at}"),
                    check_envelope(block, &keys, &mac_key),
                );
            }
        }
    }
    let unsigned = "the first form of each example has no signature";
    suite.finish(
        36,
        &[
            ("suit-wg+manifest-spec/examples/example0.txt#0", unsigned),
            ("suit-wg+manifest-spec/examples/example1.txt#0", unsigned),
            ("suit-wg+manifest-spec/examples/example2.txt#0", unsigned),
            ("suit-wg+manifest-spec/examples/example3.txt#0", unsigned),
            ("suit-wg+manifest-spec/examples/example4.txt#0", unsigned),
            ("suit-wg+manifest-spec/examples/example5.txt#0", unsigned),
            (
                "suit-wg+suit-firmware-encryption/examples/\
                 suit-manifest-es-ecdh-dependency.hex.signed",
                "its signature is not valid under the published key, checked apart too",
            ),
        ],
    );
}

#[test]
fn suit_encrypted_payloads() {
    let Some(dir) = vectors("suit") else { return };
    let kek = Secret::new([b'a'; 16]);
    let d = hex("60fe6dd6d85d5740a5349b6f91267eeac5ba81b8cb53ee249e4b4eb102c476b3");
    let ecdh = PrivateKey::from_scalar_bytes(KeyAlg::P256, &d).unwrap();
    let mut suite = Suite::default();
    let mut open = |name: &str, info: Vec<u8>, payload: Vec<u8>, plain: &[u8]| {
        let keys = DeliveryKeys {
            kek: Some(&kek),
            ecdh: Some(&ecdh),
        };
        let result = on_all(|provider| {
            let opened = debug(dangerous_open_payload_or_ctr(
                provider, &info, &payload, keys,
            ))?;
            if opened.ct_eq(plain) {
                Ok(())
            } else {
                Err("another plaintext".into())
            }
        });
        suite.case(name, result);
    };
    let draft = dir.join("suit-wg+suit-firmware-encryption/examples");
    let read = |name: String| hex(&fs::read_to_string(draft.join(name)).unwrap());
    for case in [
        "aes-kw-aes-gcm",
        "aes-kw-aes-ctr",
        "es-ecdh-aes-gcm",
        "es-ecdh-aes-ctr",
    ] {
        let info = read(format!("suit-encryption-info-{case}.hex"));
        let payload = read(format!("encrypted-payload-{case}.hex"));
        open(case, info, payload, b"This is a real firmware image.");
    }
    let libcsuit = dir.join("kentakayama+libcsuit/testfiles");
    let read = |name: &str| fs::read(libcsuit.join(name)).unwrap();
    for (info, payload, plain) in [
        (
            "encryption_info_aes.cose",
            "encrypted_image_aes.bin",
            "raw_image.bin",
        ),
        (
            "encryption_info_esdh.cose",
            "encrypted_image_esdh.bin",
            "raw_image.bin",
        ),
        (
            "encryption_info_config_aes.cose",
            "encrypted_config_aes.bin",
            "config.json",
        ),
        (
            "encryption_info_config_esdh.cose",
            "encrypted_config_esdh.bin",
            "config.json",
        ),
    ] {
        open(info, read(info), read(payload), &read(plain));
    }
    suite.finish(8, &[]);
}

#[test]
fn teep_messages() {
    let Some(dir) = vectors("teep") else { return };
    let mut keys = vec![];
    for (name, path) in files(&dir) {
        if name.ends_with(".pem") && !name.ends_with("_pub.pem") {
            keys.push(pem_key(&path).public_key().clone());
        } else if name.ends_with("_pub.pem") {
            keys.push(PublicKey::from_spki_der(&pem_der(&path)).unwrap());
        }
    }
    keys.sort();
    keys.dedup();
    let mut suite = Suite::default();
    for (name, path) in files(&dir) {
        if name.ends_with("_cose.cbor") || name.ends_with(".cose") || name.contains("_es") {
            let bytes = fs::read(path).unwrap();
            let by_any_key = |provider: &dyn Provider| {
                let tries = keys.iter().map(|key| {
                    let keys = |_: Option<&[u8]>| Some(key.clone());
                    debug(verify_sign1(provider, &bytes, &keys, b"", None)).map(drop)
                });
                tries.reduce(|best, next| best.or(next)).unwrap()
            };
            suite.case(&name, on_all(by_any_key));
        } else if name.ends_with("suit_uri.hex.txt")
            || name.ends_with("suit_integrated.hex.txt")
            || name.ends_with("suit_personalization.hex.txt")
            || name.ends_with(".envelope.cbor")
        {
            let bytes = fs::read(path).unwrap();
            let text = String::from_utf8(bytes.clone()).ok();
            let bytes = text.map_or(bytes, |text| hex(&text));
            suite.case(&name, check_envelope(&bytes, &keys, &[]));
        }
    }
    let key = "no key published with the files verifies it";
    suite.finish(
        13,
        &[
            (
                "kentakayama+libteep/testfiles/query_request_err1_cose.cbor",
                key,
            ),
            (
                "kentakayama+libteep/testfiles/query_request_err2_cose.cbor",
                key,
            ),
            (
                "kentakayama+libteep/testfiles/query_request_err3_cose.cbor",
                key,
            ),
            (
                "kentakayama+libteep/testfiles/query_request_es256.cbor",
                key,
            ),
            (
                "kentakayama+libteep/testfiles/query_request_es384.cbor",
                key,
            ),
        ],
    );
}

/// A moment within the validity of the captured certificates: 2026-12-01.
const CAPTURED: u64 = 1_796_083_200;

#[test]
fn cmp_messages_of_openssl() {
    let Some(dir) = vectors("cmp/openssl-captures") else {
        return;
    };
    let anchor = chain::TrustAnchor::from_cert_der(&pem_der(&dir.join("ca.crt"))).unwrap();
    let mut suite = Suite::default();
    for (name, path) in files(&dir) {
        if !name.ends_with(".der") || name == "dev.csr.der" {
            continue;
        }
        let message = UnverifiedPkiMessage::from_der(&fs::read(path).unwrap()).unwrap();
        let result = on_all(|provider| {
            let algorithm = debug(message.header().protection())?.ok_or("unprotected")?;
            if algorithm.is_mac() {
                // The suite that answered here has a secret of its own.
                let siemens = name.contains("siemens");
                let secret: &[u8] = if siemens {
                    b"SiemensIT"
                } else {
                    b"0123456789abcdef0123456789abcdef"
                };
                let limits = MacLimits::default();
                return debug(verify_message_mac(provider, &message, secret, &limits)).map(drop);
            }
            let certs: Vec<_> = message
                .extra_certs()
                .iter()
                .map(|cert| cert.as_bytes())
                .collect();
            let (leaf, rest) = certs.split_first().ok_or("no certificate")?;
            let anchors = [anchor.clone()];
            let purpose = chain::Purpose::EndEntity;
            let chain = chain::verify_chain(provider, leaf, rest, &anchors, purpose, CAPTURED);
            let chain = debug(chain)?;
            debug(verify_message_signature(
                provider,
                &message,
                chain.leaf_key(),
            ))
            .map(drop)
        });
        suite.case(&name, result);
    }
    suite.finish(38, &[]);
}

#[test]
fn certificates_and_requests_of_openssl() {
    let Some(dir) = vectors("cmp/openssl-captures") else {
        return;
    };
    let anchor = chain::TrustAnchor::from_cert_der(&pem_der(&dir.join("ca.crt"))).unwrap();
    for (_, provider) in providers() {
        for name in ["cmpsrv.crt", "dev.crt"] {
            let leaf = pem_der(&dir.join(name));
            let verify = |now| {
                let anchors = [anchor.clone()];
                chain::verify_chain(
                    &*provider,
                    &leaf,
                    &[],
                    &anchors,
                    chain::Purpose::EndEntity,
                    now,
                )
            };
            assert_eq!(verify(CAPTURED).unwrap().leaf_der(), leaf);
            assert!(matches!(
                verify(0),
                Err(chain::ChainError::NotYetValid { .. })
            ));
            assert!(matches!(
                verify(u64::MAX),
                Err(chain::ChainError::Expired { .. })
            ));
        }
        let der = fs::read(dir.join("dev.csr.der")).unwrap();
        let csr = csr::verify_csr(&*provider, &der).unwrap();
        let key = pem_key(&dir.join("dev.key"));
        assert_eq!(csr.public_key(), key.public_key());
    }
}
