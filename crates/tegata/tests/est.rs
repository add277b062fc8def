//! The EST port of the running program, under a real TLS client.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Tests.

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Encoding as _};
use common::tls::{ClientIdentity, Tls, pem_cert};
use common::{Installation, Server, fail, succeed};
use der::asn1::AnyRef;
use der::{Decode as _, Encode as _, SliceReader};
use tegata_authority::UnixSecs;
use tegata_authority::ca::authority_cert::{CaDraft, make_root};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, OsRng, PrivateKey, Provider as _, Signer as _};
use tegata_wire::x509::{CertView, CsrBuilder, NameBuilder, SignatureAlg, assemble_csr};

/// An installation whose CA has an EST port with a certificate of its own for localhost.
fn installation(more: &str) -> Installation {
    let installation = Installation::new();
    let path = installation.path("tegata.toml");
    let config = fs::read_to_string(&path).unwrap();
    let est = format!(
        "[ca.est]\nlisten = \"127.0.0.1:0\"\nnames = [\"localhost\", \"127.0.0.1\"]\n{more}\n[tam]"
    );
    fs::write(path, config.replace("[tam]", &est)).unwrap();
    // One profile, which takes secrets, and certificates for the renewal.
    let takes = "authentication = [\"secret\", \"certificate\"]\n[profile.device.san]";
    let profiles = tegata_authority::profile::EXAMPLE.replace("[profile.device.san]", takes);
    fs::write(installation.path("profiles.toml"), profiles).unwrap();
    installation
}

/// A certificate under no CA but itself, and its key.
fn self_signed() -> ClientIdentity {
    let key = PrivateKey::generate(KeyAlg::P256, &mut OsRng).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let draft = CaDraft::for_organization("Nobody");
    let cert = make_root(&draft, &key, &mut OsRng, UnixSecs(now.as_secs())).unwrap();
    (cert, pkcs8(&key))
}

fn pkcs8(key: &PrivateKey) -> Vec<u8> {
    key.to_pkcs8_der().unwrap().expose_secret().clone()
}

struct Est {
    address: SocketAddr,
    root: Vec<u8>,
}

impl Est {
    fn of(installation: &Installation, server: &Server) -> Self {
        Self {
            address: server.address("est"),
            root: pem_cert(&installation.path("ca.pem")),
        }
    }

    fn ask(&self, method: &str, path: &str) -> String {
        self.send(
            None,
            &format!("{method} /.well-known/est/{path} HTTP/1.1"),
            "",
            b"",
        )
    }

    fn send(
        &self,
        client: Option<&ClientIdentity>,
        line: &str,
        headers: &str,
        body: &[u8],
    ) -> String {
        let mut connection = self.connect(client).unwrap();
        connection.ask(&request(line, headers, body)).unwrap()
    }

    fn connect(&self, client: Option<&ClientIdentity>) -> std::io::Result<Tls> {
        Tls::connect(self.address, "localhost", &self.root, client)
    }

    /// Whether a client that wants this name under this root gets an answer.
    fn answers(&self, name: &str, root: &[u8]) -> bool {
        let line = "GET /.well-known/est/cacerts HTTP/1.1";
        let asked = Tls::connect(self.address, name, root, None)
            .and_then(|mut connection| connection.ask(&request(line, "", b"")));
        asked.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }
}

fn request(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("{line}\r\nHost: t\r\n{headers}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// The body of an answer, out of its base64.
fn decoded(answer: &str) -> Vec<u8> {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let text: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    Base64::decode_vec(&text).unwrap()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle)
}

#[test]
fn the_ca_gives_its_certificates_and_what_it_wants_to_whoever_asks() {
    let installation = installation("");
    let server = installation.serve("ca");
    let est = Est::of(&installation, &server);
    for label in ["", "device/"] {
        let answer = est.ask("GET", &format!("{label}cacerts"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(
            answer.contains("application/pkcs7-mime; smime-type=certs-only"),
            "{answer}"
        );
        let message = decoded(&answer);
        assert!(contains(&message, &est.root), "no root");
        let issuing = pem_cert(&installation.path("issuing.pem"));
        assert!(contains(&message, &issuing), "no issuing certificate");
        let answer = est.ask("GET", &format!("{label}csrattrs"));
        assert!(
            answer.contains("content-type: application/csrattrs"),
            "{answer}"
        );
        // digitalSignature, critical, as the profile has it.
        let usage = hex::decode("0603551d0f0101ff040403020780").unwrap();
        assert!(contains(&decoded(&answer), &usage), "{answer}");
    }
}

#[test]
fn what_is_not_served_is_said_in_plain_words() {
    let installation = installation("");
    let server = installation.serve("ca");
    let est = Est::of(&installation, &server);
    for (method, path, status, says) in [
        ("POST", "serverkeygen", "501", "makes no keys for devices"),
        (
            "POST",
            "device/serverkeygen",
            "501",
            "makes no keys for devices",
        ),
        ("POST", "fullcmc", "501", "does not speak Full CMC"),
        ("GET", "nothing", "404", "no such EST operation"),
        (
            "GET",
            "modem/cacerts",
            "404",
            "put one of these after /.well-known/est/: device",
        ),
        ("POST", "cacerts", "405", "used with GET"),
    ] {
        let answer = est.ask(method, path);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {answer}"
        );
        assert!(
            answer.contains(says) && answer.contains("text/plain"),
            "{path}: {answer}"
        );
    }
    let answer = est.ask("HEAD", "cacerts");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "HEAD has a body: {answer}");
    // Nothing else of the CA is on this port, and EST is on no other.
    let answer = est.send(None, "GET /ca/v1/delivery HTTP/1.1", "", b"");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let plain = common::talk(
        server.address("ca"),
        b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    );
    assert!(plain.starts_with("HTTP/1.1 404"), "{plain}");
}

#[test]
fn strangers_get_no_handshake_and_hold_nothing() {
    let installation = installation("\n[limits]\nheader_timeout_secs = 1\nconnections = 2\n");
    let server = installation.serve("ca");
    let est = Est::of(&installation, &server);
    // Another root, another name.
    let other = pem_cert(&Installation::new().path("ca.pem"));
    assert!(!est.answers("localhost", &other));
    assert!(!est.answers("est.example", &est.root));
    // A certificate of nobody.
    let stranger = self_signed();
    let cacerts = request("GET /.well-known/est/cacerts HTTP/1.1", "", b"");
    let asked = est
        .connect(Some(&stranger))
        .and_then(|mut tls| tls.ask(&cacerts));
    assert!(asked.is_err(), "a certificate of nobody is taken");
    // No TLS, and TLS that never comes, by as many as the port has room for.
    let garbage = common::talk(est.address, &request("GET / HTTP/1.1", "", b""));
    assert!(!garbage.contains("HTTP/1.1 200"), "{garbage}");
    let started = Instant::now();
    let mut idle: Vec<TcpStream> = (0..2)
        .map(|_| TcpStream::connect(est.address).unwrap())
        .collect();
    for stream in &mut idle {
        stream.write_all(&[0x16, 3, 1]).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert!(est.ask("GET", "cacerts").starts_with("HTTP/1.1 200"));
    let log = server.log();
    assert!(
        log.contains("tls-handshake") && !log.contains("panicked"),
        "{log}"
    );
}

#[test]
fn the_servers_certificate_stays_with_the_store_and_follows_its_names() {
    let installation = installation("");
    let answers = |name: &str, server: &Server| {
        let est = Est::of(&installation, server);
        est.answers(name, &est.root)
    };
    let server = installation.serve("ca");
    assert!(answers("127.0.0.1", &server) && !answers("ca.example", &server));
    server.kill();
    let path = installation.path("tegata.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("\"localhost\", ", "\"ca.example\", ")).unwrap();
    let server = installation.serve("ca");
    assert!(answers("ca.example", &server) && !answers("localhost", &server));
}

#[test]
fn a_wrong_identity_stops_the_server_with_a_sentence() {
    let installation = installation("");
    let path = installation.path("tegata.toml");
    let config = fs::read_to_string(&path).unwrap();
    let files = config.replace(
        "names = [\"localhost\", \"127.0.0.1\"]",
        "certificate = \"issuing.pem\"\nkey = \"est.key\"",
    );
    fs::write(&path, files).unwrap();
    let run = || {
        let config = installation.config();
        fail(&["serve", "--roles", "ca", "--config", &config], 3)
    };
    assert!(run().contains("est.key"));
    fs::write(installation.path("est.key"), "no key").unwrap();
    let error = run();
    assert!(
        error.contains("est.key") && error.contains("chmod 600"),
        "{error}"
    );
    common::make_private(&installation.path("est.key"));
    assert!(run().contains("no private key in PEM"));
    fs::write(installation.path("est.key"), KEY).unwrap();
    let error = run();
    assert!(error.contains("not of the TLS key"), "{error}");
}

/// Registers devices; gives their UEIDs.
fn devices(installation: &Installation, count: &str) -> Vec<String> {
    let (config, out) = (installation.config(), installation.path("made"));
    let out = out.to_str().unwrap();
    let urls = [
        "--tam-url",
        "http://127.0.0.1:1/tam",
        "--ca-url",
        "http://127.0.0.1:1",
    ];
    let mut args = vec![
        "factory", "make", "--config", &config, "--count", count, "--out", out, "--json",
    ];
    args.extend(urls);
    let made: serde_json::Value = serde_json::from_str(&succeed(&args)).unwrap();
    let manifest = made["manifest"].as_str().unwrap();
    succeed(&[
        "factory",
        "import",
        "--config",
        &config,
        "--manifest",
        manifest,
    ]);
    let devices = made["devices"].as_array().unwrap().iter();
    devices
        .map(|device| device["ueid"].as_str().unwrap().to_owned())
        .collect()
}

/// The `Authorization` header of a new secret of a device.
fn secret(installation: &Installation, ueid: &str) -> String {
    let config = installation.config();
    let made = succeed(&[
        "ca",
        "secret",
        "add",
        "--config",
        &config,
        "--device",
        ueid,
        "--profile",
        "device",
        "--json",
    ]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    basic(&text("id"), &text("secret"))
}

fn basic(id: &str, text: &str) -> String {
    let token = Base64::encode_string(format!("{id}:{text}").as_bytes());
    format!("Authorization: Basic {token}\r\n")
}

/// A request for a new key that leaves the names to the CA, as a body.
fn request_of(key: &PrivateKey) -> Vec<u8> {
    let builder = CsrBuilder {
        subject: NameBuilder::new().build().unwrap(),
        spki_der: key.public_key().to_spki_der().unwrap(),
        san: Vec::new(),
        extensions: Vec::new(),
    };
    let tbs = builder.to_tbs().unwrap();
    let signature = key.sign(&tbs).unwrap();
    let csr = assemble_csr(&tbs, SignatureAlg::EcdsaSha256, &signature).unwrap();
    Base64::encode_string(&csr).into_bytes()
}

/// The one certificate of a certs-only answer.
fn certificate(answer: &str) -> Vec<u8> {
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let message = decoded(answer);
    let info = AnyRef::from_der(&message).unwrap();
    let mut info = SliceReader::new(info.value()).unwrap();
    let _signed_data = AnyRef::decode(&mut info).unwrap();
    let data = AnyRef::decode(&mut info).unwrap();
    let data = AnyRef::from_der(data.value()).unwrap();
    let mut data = SliceReader::new(data.value()).unwrap();
    // version, digestAlgorithms, encapContentInfo, certificates.
    let certs = (0..4).map(|_| AnyRef::decode(&mut data).unwrap()).last();
    AnyRef::from_der(certs.unwrap().value())
        .unwrap()
        .to_der()
        .unwrap()
}

const PKCS10: &str = "Content-Type: application/pkcs10\r\n";
const ENROLL: &str = "POST /.well-known/est/simpleenroll HTTP/1.1";
const REENROLL: &str = "POST /.well-known/est/simplereenroll HTTP/1.1";

#[test]
fn a_device_enrols_with_its_secret_and_renews_with_its_certificate() {
    let installation = installation("");
    let devices = devices(&installation, "2");
    let mut server = installation.serve("ca");
    let mut est = Est::of(&installation, &server);
    let key = PrivateKey::generate(KeyAlg::P256, &mut OsRng).unwrap();
    let body = request_of(&key);
    let authorization = secret(&installation, &devices[0]);
    let headers = format!("{PKCS10}{authorization}");
    let first = certificate(&est.send(None, ENROLL, &headers, &body));
    let spki = key.public_key().to_spki_der().unwrap();
    assert_eq!(CertView::from_der(&first).unwrap().spki_der, spki);
    // A power cut, and the answer was lost: the same request gets the same certificate.
    server.kill();
    server = installation.serve("ca");
    est = Est::of(&installation, &server);
    assert_eq!(certificate(&est.send(None, ENROLL, &headers, &body)), first);
    // Its one use is used.
    let other = PrivateKey::generate(KeyAlg::P256, &mut OsRng).unwrap();
    let answer = est.send(None, ENROLL, &headers, &request_of(&other));
    assert!(answer.starts_with("HTTP/1.1 40"), "{answer}");

    // The certificate is enough for the next one, on a connection that stays open
    let client = (first.clone(), pkcs8(&key));
    let mut tls = est.connect(Some(&client)).unwrap();
    // (the used secret, left over in the client's configuration, takes nothing from it) …
    let renewal = request(REENROLL, &headers, &request_of(&other));
    let next = certificate(&tls.ask(&renewal).unwrap());
    assert_eq!(certificate(&tls.ask(&renewal).unwrap()), next);
    // … until the CA says otherwise: the connection is as it was, the answer is another.
    let serial = hex::encode(CertView::from_der(&first).unwrap().serial);
    let config = installation.config();
    let revoke = ["ca", "revoke", "--config", &config, "--serial", &serial];
    succeed(&[&revoke[..], &["--reason", "key-compromise"]].concat());
    let answer = tls.ask(&renewal).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("revoked"),
        "{answer}"
    );
    let log = server.log();
    assert!(
        log.contains("certificate issued") && !log.contains("panicked"),
        "{log}"
    );
    let text = authorization.trim().rsplit(' ').next().unwrap();
    let text = String::from_utf8(Base64::decode_vec(text).unwrap()).unwrap();
    assert!(
        !log.contains(text.rsplit(':').next().unwrap()),
        "the secret is in the log"
    );
}

#[test]
fn an_operator_approves_by_the_whole_id_and_once() {
    let installation = installation("");
    let path = installation.path("profiles.toml");
    let profiles = fs::read_to_string(&path).unwrap();
    let (section, approval) = ("[profile.device.san]", "approval = \"operator\"\n");
    fs::write(
        &path,
        profiles.replace(section, &format!("{approval}{section}")),
    )
    .unwrap();
    let devices = devices(&installation, "1");
    let server = installation.serve("ca");
    let est = Est::of(&installation, &server);
    let key = PrivateKey::generate(KeyAlg::P256, &mut OsRng).unwrap();
    let body = request_of(&key);
    let headers = format!("{PKCS10}{}", secret(&installation, &devices[0]));
    let answer = est.send(None, ENROLL, &headers, &body);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");

    // It is called by the digest of the request, which the device can show as well.
    let csr = Base64::decode_vec(std::str::from_utf8(&body).unwrap()).unwrap();
    let digest = hex::encode(RustCrypto.sha256(&csr));
    let config = installation.config();
    let decide = |word, request| ["ca", word, request, "--config", &config].map(str::to_owned);
    let refused = |word, request, exit| {
        let args = decide(word, request);
        fail(&args.each_ref().map(String::as_str), exit)
    };
    for short in ["", &digest[..1], &digest[..11]] {
        let said = refused("approve", short, 2);
        assert!(said.contains("Give all of its digits"), "{said}");
    }
    let beside = format!("{}0", &digest[1..13]);
    for other in ["%%%%%%%%%%%%", "000000000000", &beside] {
        assert!(refused("reject", other, 1).contains("no single request"));
    }
    let answer = est.send(None, ENROLL, &headers, &body);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let upper = digest[..12].to_uppercase();
    let said = succeed(&decide("approve", &upper).each_ref().map(String::as_str));
    assert!(said.contains(&digest[..12]), "{said}");
    // The first word stays, and another one is told so. Whoever did not hear of it says it again.
    assert!(refused("reject", &digest[..12], 1).contains("was approved before"));
    assert_eq!(
        succeed(&decide("approve", &upper).each_ref().map(String::as_str)),
        said
    );
    certificate(&est.send(None, ENROLL, &headers, &body));
}

#[test]
fn who_has_no_right_secret_learns_nothing_and_gets_nothing() {
    let installation = installation("");
    let devices = devices(&installation, "2");
    let server = installation.serve("ca");
    let est = Est::of(&installation, &server);
    let key = PrivateKey::generate(KeyAlg::P256, &mut OsRng).unwrap();
    let body = request_of(&key);
    let good = secret(&installation, &devices[0]);
    let token = good.trim().rsplit(' ').next().unwrap();
    let pair = String::from_utf8(Base64::decode_vec(token).unwrap()).unwrap();
    let (id, text) = pair.split_once(':').unwrap();
    let mut answers = Vec::new();
    for wrong in [
        String::new(),
        basic(id, "wrong"),
        basic(id, ""),
        basic("nobody", text),
        basic(id, &format!("{text}x")),
        basic(id, text.get(1..).unwrap()),
        "Authorization: Bearer x\r\n".to_owned(),
    ] {
        let answer = est.send(None, ENROLL, &format!("{PKCS10}{wrong}"), &body);
        assert!(answer.starts_with("HTTP/1.1 401"), "{wrong}: {answer}");
        assert!(
            answer.contains("www-authenticate: Basic realm="),
            "{answer}"
        );
        answers.push(answer.split_once("\r\n\r\n").unwrap().1.to_owned());
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    // A secret is no certificate: it renews nothing, and none is asked for.
    let answer = est.send(None, REENROLL, PKCS10, &body);
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let answer = est.send(None, REENROLL, &format!("{PKCS10}{good}"), &body);
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("TLS handshake"),
        "{answer}"
    );
    // Bodies that are no requests.
    for (what, body) in [
        ("empty", Vec::new()),
        ("DER", vec![0x30, 0]),
        ("text", b"a request, please".to_vec()),
        ("base64 of nothing", b"AAAA".to_vec()),
        (
            "PEM",
            b"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n".to_vec(),
        ),
        (
            "deep DER",
            Base64::encode_string(&[0x30, 0x80].repeat(2000)).into_bytes(),
        ),
    ] {
        let answer = est.send(None, ENROLL, &format!("{PKCS10}{good}"), &body);
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
    }
    let answer = est.send(None, ENROLL, &good, &body);
    assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");
    let long = format!("{PKCS10}{good}Expect: 100-continue\r\n");
    let answer = est.send(None, ENROLL, &long, &vec![b'A'; 49 * 1024]);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // All that cost the secret nothing.
    certificate(&est.send(None, ENROLL, &format!("{PKCS10}{good}"), &body));
    let log = server.log();
    assert!(!log.contains("panicked") && !log.contains(text), "{log}");
}

/// A P-256 key made for this test with `openssl genpkey`; it is of no certificate.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3teTRRyt+AGR0LQU
GTBei1Vvyq1+biNQJeJL7bBVgl2hRANCAATEKr9p+X0BMWiigzeEBCRUmoRYidGi
nLjkoFf5ftRcSSoSZAAA9+MxHzBpTP51lxmhNeSuiSMM4uxItOeoJgri
-----END PRIVATE KEY-----
";
