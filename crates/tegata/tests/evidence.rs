//! Evidence in requests at the running program: its policy, the nonces of the EST port, and the devices
//! that an operator registers. What a token gets: crates/store/tests/evidence.rs and .ci/est.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Tests.

mod common;

use std::fs;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use common::tls::{Tls, pem_cert};
use common::{Installation, Server, fail, succeed};
use der::pem::LineEnding;
use tegata_crypto::{KeyAlg, OsRng, PrivateKey};

const POLICY: &str = "[psa]\nid = \"p\"\n[[psa.software]]\n\
    measurement = \"0303030303030303030303030303030303030303030303030303030303030303\"\n\
    signer = \"0404040404040404040404040404040404040404040404040404040404040404\"\n";

/// An installation whose one profile takes evidence, and `more` in `[ca.est]`.
fn installation(more: &str) -> Installation {
    let installation = Installation::new();
    let path = installation.path("tegata.toml");
    let config = fs::read_to_string(&path).unwrap();
    let est = format!("[ca.est]\nlisten = \"127.0.0.1:0\"\nnames = [\"localhost\"]\n{more}\n[tam]");
    fs::write(path, config.replace("[tam]", &est)).unwrap();
    let takes = "authentication = [\"evidence\"]\n[profile.device.san]";
    let profiles = tegata_authority::profile::EXAMPLE.replace("[profile.device.san]", takes);
    fs::write(installation.path("profiles.toml"), profiles).unwrap();
    fs::write(installation.path("evidence.toml"), POLICY).unwrap();
    installation
}

fn ask(
    installation: &Installation,
    server: &Server,
    line: &str,
    headers: &str,
    body: &str,
) -> String {
    let root = pem_cert(&installation.path("ca.pem"));
    let mut connection = Tls::connect(server.address("est"), "localhost", &root, None).unwrap();
    let length = body.len();
    let request =
        format!("{line} HTTP/1.1\r\nHost: t\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    connection.ask(request.as_bytes()).unwrap()
}

#[test]
fn a_profile_that_takes_evidence_needs_a_policy_without_mistakes() {
    let bare = installation("");
    let run = |installation: &Installation, exit| {
        let config = installation.config();
        fail(&["serve", "--roles", "ca", "--config", &config], exit)
    };
    let error = run(&bare, 2);
    assert!(
        error.contains("the profile device takes evidence") && error.contains("evidence_policy"),
        "{error}"
    );
    let named = installation("evidence_policy = \"evidence.toml\"");
    let wrong = POLICY.replace("signer", "signre");
    fs::write(named.path("evidence.toml"), wrong).unwrap();
    let error = run(&named, 2);
    assert!(
        error.contains("evidence.toml") && error.contains("signer"),
        "{error}"
    );
    // The Verifier's own policy says nothing of PSA tokens.
    fs::copy(named.path("verifier.toml"), named.path("evidence.toml")).unwrap();
    assert!(run(&named, 2).contains("[psa]"));
}

#[test]
fn nonces_are_given_to_whoever_asks_and_each_is_another() {
    let installation = installation("evidence_policy = \"evidence.toml\"");
    let server = installation.serve("ca");
    let get = |path: &str| {
        let line = format!("GET /.well-known/est/{path}");
        ask(&installation, &server, &line, "", "")
    };
    let mut seen = Vec::new();
    for path in ["nonce", "device/nonce", "nonce"] {
        let answer = get(path);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let head = head.to_lowercase();
        assert!(head.contains("content-type: application/est-attestation-freshness+json"));
        assert!(head.contains("cache-control: no-store"), "{head}");
        let said: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(said["expiry"], 600);
        let nonce = Base64UrlUnpadded::decode_vec(said["nonce"].as_str().unwrap()).unwrap();
        assert_eq!(nonce.len(), 32);
        assert!(!seen.contains(&nonce));
        seen.push(nonce);
    }
    let kind = "Content-Type: application/est-attestation-freshness+json\r\n";
    let post = |headers: &str, body: &str| {
        ask(
            &installation,
            &server,
            "POST /.well-known/est/nonce",
            headers,
            body,
        )
    };
    let long = format!("{{\"hint\": \"{}\"}}", "x".repeat(5_000));
    for (headers, body, status) in [
        (kind, "{\"len\": 32}", "200"),
        (kind, "{\"len\": 64}", "503"),
        (kind, "{\"type\": \"1.2.3\"}", "503"),
        (kind, "{\"len\": 4}", "400"),
        (kind, "[]", "400"),
        (kind, &long, "413"),
        ("Content-Type: text/plain\r\n", "{}", "415"),
    ] {
        let answer = post(headers, body);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{body}: {answer}"
        );
    }
    let answer = ask(&installation, &server, "PUT /.well-known/est/nonce", "", "");
    assert!(
        answer.starts_with("HTTP/1.1 405") && answer.contains("GET, POST"),
        "{answer}"
    );
}

#[test]
fn a_device_is_registered_once_by_the_operators_word() {
    let installation = installation("evidence_policy = \"evidence.toml\"");
    let config = installation.config();
    let key = PrivateKey::generate(KeyAlg::P256, &mut OsRng).unwrap();
    let spki = key.public_key().to_spki_der().unwrap();
    let pem = der::pem::encode_string("PUBLIC KEY", LineEnding::LF, &spki).unwrap();
    let path = installation.path("iak.pem");
    fs::write(&path, pem).unwrap();
    let (iak, id) = (path.to_str().unwrap(), "05".repeat(32));
    let args = |iak: &str, id: &str, serial: &str| {
        let words = [
            "device",
            "add",
            "--config",
            &config,
            "--psa-iak",
            iak,
            "--implementation-id",
            id,
            "--model",
            "sensor",
            "--serial",
            serial,
            "--json",
        ];
        words.map(str::to_owned).to_vec()
    };
    let run = |words: Vec<String>| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        serde_json::from_str::<serde_json::Value>(&succeed(&words)).unwrap()
    };
    let refused = |words: Vec<String>, exit| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        fail(&words, exit)
    };
    let added = run(args(iak, &id, "S1"));
    assert_eq!(
        (&added["again"], &added["serial"]),
        (&false.into(), &"S1".into())
    );
    let ueid = added["ueid"].as_str().unwrap();
    assert!(ueid.len() == 66 && ueid.starts_with("01"), "{ueid}");
    assert_eq!(run(args(iak, &id, "S1"))["again"], true);
    assert!(refused(args(iak, &id, "S2"), 1).contains("registered already"));
    assert!(refused(args("nothing.pem", &id, "S3"), 2).contains("nothing.pem"));
    assert!(refused(args(iak, "0505", "S3"), 2).contains("64 hexadecimal digits"));
    assert!(refused(args(iak, &id, ""), 2).contains("serial number"));
    let listed = succeed(&["device", "list", "--config", &config, "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(
        (&listed[0]["ueid"], &listed[0]["root_of_trust"]),
        (&ueid.into(), &"psa".into())
    );
    let shown = succeed(&["device", "show", "--config", &config, "S1"]);
    assert!(shown.contains("registered by the operator"), "{shown}");
}
