//! Hostile and broken input to every port of the running program: the protocol's own error, a
//! problem document or a closed connection; a log line with a reason; no change of state; and the
//! server lives on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Tests.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Installation, Server, post, program, succeed, talk};

/// Role, path, media type, longest body.
const RESOURCES: [(&str, &str, &str, usize); 8] = [
    ("ca", "/.well-known/cmp", "application/pkixcmp", 64 * 1024),
    (
        "ca",
        "/.well-known/cmp/p/iot-device",
        "application/pkixcmp",
        64 * 1024,
    ),
    ("ca", "/ca/v1/delivery", "application/cose", 4 * 1024),
    ("ca", "/ocsp", "application/ocsp-request", 4 * 1024),
    ("tam", "/tam", "application/teep+cbor", 256 * 1024),
    (
        "tam",
        "/tam/v1/releases",
        "application/cbor",
        4 * 1024 * 1024,
    ),
    (
        "verifier",
        "/verifier/v1/appraise",
        "application/cbor",
        64 * 1024,
    ),
    (
        "verifier",
        "/verifier/v1/reference-values",
        "application/suit-envelope+cose",
        256 * 1024,
    ),
];

fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("one byte", vec![0]),
        ("text", b"GET me a certificate, please".to_vec()),
        ("deep CBOR arrays", vec![0x81; 4000]),
        ("deep DER", [0x30, 0x80].repeat(2000)),
        (
            "huge CBOR string",
            vec![0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
        ("huge CBOR array", vec![0x9b, 0, 0, 0, 1, 0, 0, 0, 0]),
        (
            "huge DER",
            vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x02, 0x01, 0x02],
        ),
        ("empty map", vec![0xa0]),
        ("tagged nothing", vec![0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40]),
        ("ones", vec![0xff; 3000]),
    ]
}

#[test]
fn garbage_to_every_resource_gets_an_error_and_changes_nothing() {
    let installation = Installation::new();
    let server = installation.serve("ca,tam,verifier");
    for (role, path, media_type, _) in RESOURCES {
        for (what, body) in garbage() {
            let answer = post(server.address(role), path, media_type, &body);
            let status = answer.split(' ').nth(1).unwrap_or("");
            // CMP and OCSP answer in their own words, which may come with 200 (RFC 9811 section 3).
            let own = ["application/pkixcmp", "application/ocsp-response"];
            let ok = status.starts_with('4') || own.iter().any(|own| answer.contains(own));
            assert!(ok, "{path}, {what}: {answer}");
            assert!(!status.starts_with('5'), "{path}, {what}: {answer}");
        }
    }
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.contains("reason"), "{log}");
    for (role, _) in &server.addresses {
        let answer = talk(
            server.address(role),
            b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
        );
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains(role.as_str()),
            "{answer}"
        );
    }
    drop(server);
    let config = installation.config();
    assert!(succeed(&["ca", "list", "--config", &config]).contains("No certificate"));
    assert!(succeed(&["device", "list", "--config", &config]).contains("No device"));
    assert!(succeed(&["ta", "list", "--config", &config]).contains("No release"));
}

#[test]
fn wrong_methods_types_and_sizes_are_refused() {
    let installation = Installation::new();
    let server = installation.serve("ca,tam,verifier");
    for (role, path, media_type, len_max) in RESOURCES {
        let address = server.address(role);
        let get = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        let answer = talk(address, get.as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 405") && answer.contains("allow: POST"),
            "{path}: {answer}"
        );
        let answer = post(address, path, "text/html", b"x");
        assert!(answer.starts_with("HTTP/1.1 415"), "{path}: {answer}");
        let wrong_accept = format!(
            "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAccept: text/html\r\nContent-Type: {media_type}\r\nContent-Length: 1\r\n\r\nx"
        );
        let answer = talk(address, wrong_accept.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 406"), "{path}: {answer}");
        let announced = format!(
            "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            len_max + 1
        );
        let answer = talk(address, announced.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
        assert!(
            answer.contains("application/problem+json"),
            "{path}: {answer}"
        );
        assert!(
            answer.contains("urn:tegata:problem:body-too-large"),
            "{path}: {answer}"
        );
        // The same without announcing it.
        let mut chunked = format!(
            "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            len_max + 1
        )
        .into_bytes();
        chunked.resize(chunked.len() + len_max + 1, 0);
        chunked.extend_from_slice(b"\r\n0\r\n\r\n");
        let answer = talk(address, &chunked);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 413"),
            "{path}: {answer}"
        );
    }
    for role in ["ca", "tam", "verifier"] {
        let answer = talk(
            server.address(role),
            b"GET /../../etc/passwd HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
        );
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        let answer = talk(server.address(role), b"\x16\x03\x01\x00\x05hello\r\n\r\n");
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
            "{answer}"
        );
    }
    let answer = talk(
        server.address("tam"),
        b"GET /tam/tc/zz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[test]
fn slow_clients_are_cut() {
    let installation = Installation::new();
    installation.edit(
        "# [limits] has",
        "[limits]\nheader_timeout_secs = 1\nbody_timeout_secs = 1\n# [limits] has",
    );
    let server = installation.serve("ca,tam,verifier");
    for (role, path, media_type, _) in RESOURCES {
        let started = Instant::now();
        let mut stream = TcpStream::connect(server.address(role)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: {media_type}\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(started.elapsed() < Duration::from_secs(8), "{path}: header");
        let answer = talk(
            server.address(role),
            format!("POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: 100\r\n\r\nabc").as_bytes(),
        );
        assert!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
    }
    assert!(server.log().contains("body-timeout"), "{}", server.log());
}

/// A genm that asks for a certReqTemplate, without protection. RFC 9483 section 4.3.3.
const GENM: &str = "30453033020102a4023000a4023000a41204108744f7275afb727ba7cf9ed390083eae\
    a512041018610eaba076bd8d5003dd9371e6aaf7b50e300c300a06082b06010505070413";

/// Kept as they come, pieces of a body would hold a whole read of the network each: some 800 MiB here.
#[test]
fn a_body_in_tiny_pieces_takes_what_was_sent_and_no_more() {
    let installation = Installation::new();
    let server = installation.serve("ca");
    let head = "POST /.well-known/cmp HTTP/1.1\r\nHost: t\r\nContent-Type: application/pkixcmp\r\n";
    let before = server.memory_kib();
    let mut peers = leave_open(server.address("ca"), 50);
    for peer in &mut peers {
        peer.set_nodelay(true).unwrap();
        write!(peer, "{head}Transfer-Encoding: chunked\r\n\r\n").unwrap();
    }
    for _ in 0..2000 {
        for peer in &mut peers {
            peer.write_all(b"1\r\nx\r\n").unwrap();
        }
    }
    let grown_kib = server.memory_kib().saturating_sub(before);
    assert!(grown_kib < 32 * 1024, "{grown_kib} KiB more");
}

#[test]
fn a_profile_that_a_path_names_writes_no_line_of_its_own_into_the_log() {
    let installation = Installation::new();
    let server = installation.serve("ca");
    // genm, certReqTemplate: asked in the open.
    let genm = hex::decode(GENM).unwrap();
    let path = "/.well-known/cmp/p/x%0aINFO%20forged%20%1b%5b31m%e2%80%ae";
    post(server.address("ca"), path, "application/pkixcmp", &genm);
    let log = server.log();
    let line = log
        .lines()
        .find(|line| line.contains("CMP request denied"))
        .unwrap();
    assert!(line.contains("forged"), "{line}");
    assert!(
        !log.contains('\u{1b}') && !log.contains('\u{202e}'),
        "{log}"
    );
    assert!(
        !log.lines().any(|line| line.starts_with("INFO forged")),
        "{log}"
    );
}

#[test]
fn a_server_stops_in_good_order() {
    let installation = Installation::new();
    let mut server = installation.serve("ca,tam,verifier");
    let pid = server.child.id().to_string();
    std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .unwrap();
    let started = Instant::now();
    let status = server.child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(server.log().contains("stopped"), "{}", server.log());
}

#[test]
fn logs_can_be_json() {
    let installation = Installation::new();
    installation.edit("format = \"text\"", "format = \"json\"");
    let server = installation.serve("ca");
    post(server.address("ca"), "/.well-known/cmp", "text/plain", b"x");
    std::thread::sleep(Duration::from_millis(100));
    let log = server.log();
    let line = log
        .lines()
        .find(|line| line.contains("unsupported-media-type"))
        .expect("a line");
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(value["role"], "ca");
    assert_eq!(value["status"], 415);
}

/// A full disk takes the log, not the server: its certificates may be on another one.
#[test]
fn a_server_whose_log_cannot_be_written_serves_on() {
    let installation = Installation::new();
    std::os::unix::fs::symlink("/dev/full", installation.path("ca.log")).unwrap();
    let mut server = installation.serve("ca");
    for _ in 0..3 {
        let answer = post(server.address("ca"), "/", "text/plain", b"x");
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer:?}");
    }
    assert_eq!(server.child.try_wait().unwrap(), None);
}

/// A server under these limits on open files.
fn serve_with_descriptors(installation: &Installation, soft: u32, hard: u32) -> Server {
    let mut program = program();
    let path = program.get_program().to_owned();
    program = Command::new("sh");
    let limits = format!("ulimit -Sn {soft}; ulimit -Hn {hard}; exec \"$0\" \"$@\"");
    program.args(["-c", &limits]).arg(path);
    Server::start_by(
        program,
        "ca",
        &installation.config(),
        &installation.path(&format!("{hard}.ready")),
    )
}

/// Opens so many connections and leaves them.
fn leave_open(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect()
}

#[test]
fn a_server_has_descriptors_for_its_store_whatever_is_connected() {
    let installation = Installation::new();
    let asks = b"x";
    // Few are allowed: its two ports take fewer connections than they are told to, and it says so.
    let server = serve_with_descriptors(&installation, 64, 400);
    let address = server.address("ca");
    let open = leave_open(address, 38);
    let answer = post(address, "/.well-known/cmp", "application/pkixcmp", asks);
    assert!(
        answer.contains("application/pkixcmp"),
        "{answer} {}",
        server.log()
    );
    let more = leave_open(address, 10);
    let answer = talk(address, b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 503"),
        "{answer} {}",
        server.log()
    );
    drop((open, more));
    let log = server.log();
    assert!(log.contains("connections=40"), "{log}");
    assert!(!log.contains("accept-failed"), "{log}");
    drop(server);
    // More are allowed than it was started with: it takes them.
    let server = serve_with_descriptors(&installation, 64, 4_096);
    let address = server.address("ca");
    let _open = leave_open(address, 200);
    let answer = post(address, "/.well-known/cmp", "application/pkixcmp", asks);
    assert!(answer.contains("application/pkixcmp"), "{answer}");
    assert!(
        !server.log().contains("few-descriptors"),
        "{}",
        server.log()
    );
}
