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
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding as _};
use common::tls::{ClientIdentity, pem_cert, talk_tls};
use common::{Installation, Server, fail};

/// An installation whose CA has an EST port with a certificate of its own for localhost.
fn installation(more: &str) -> Installation {
    let installation = Installation::new();
    let path = installation.path("tegata.toml");
    let config = fs::read_to_string(&path).unwrap();
    let est = format!(
        "[ca.est]\nlisten = \"127.0.0.1:0\"\nnames = [\"localhost\", \"127.0.0.1\"]\n{more}\n[tam]"
    );
    fs::write(path, config.replace("[tam]", &est)).unwrap();
    let profiles = tegata_authority::profile::EXAMPLE;
    fs::write(installation.path("profiles.toml"), profiles).unwrap();
    installation
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
        let mut request = format!(
            "{line}\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        talk_tls(self.address, "localhost", &self.root, client, &request).unwrap()
    }
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
    let request = b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let other = pem_cert(&Installation::new().path("ca.pem"));
    assert!(talk_tls(est.address, "localhost", &other, None, request).is_err());
    assert!(talk_tls(est.address, "est.example", &est.root, None, request).is_err());
    // No TLS, and TLS that never comes, by as many as the port has room for.
    let garbage = common::talk(est.address, request);
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
        let request =
            b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        talk_tls(est.address, name, &est.root, None, request).is_ok()
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

/// A P-256 key made for this test with `openssl genpkey`; it is of no certificate.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3teTRRyt+AGR0LQU
GTBei1Vvyq1+biNQJeJL7bBVgl2hRANCAATEKr9p+X0BMWiigzeEBCRUmoRYidGi
nLjkoFf5ftRcSSoSZAAA9+MxHzBpTP51lxmhNeSuiSMM4uxItOeoJgri
-----END PRIVATE KEY-----
";
