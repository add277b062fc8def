//! The verify role and the CA's port for services, as they are configured and reached.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Tests.

mod common;

use std::net::SocketAddr;

use common::{Installation, fail, succeed, talk};

const UEID: &str = "0107070707070707070707070707070707";

fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    talk(address, request.as_bytes())
}

#[test]
fn the_port_of_devices_tells_nothing_of_them() {
    let installation = Installation::new();
    let server = installation.serve("ca,verify");
    for name in [UEID, "SN-1"] {
        let path = format!("/v1/devices/{name}");
        let answer = get(server.address("ca"), &path);
        assert!(
            answer.starts_with("HTTP/1.1 404") && answer.contains(":not-found"),
            "{answer}"
        );
        let answer = get(server.address("devices"), &path);
        assert!(
            answer.starts_with("HTTP/1.1 404") && answer.contains(":device-unknown"),
            "{answer}"
        );
    }
    let answer = get(server.address("devices"), "/.well-known/cmp");
    assert!(answer.contains(":not-found"), "{answer}");
    let answer = get(server.address("verify"), "/v1/nonce");
    assert!(answer.contains("\"expires_in\":120"), "{answer}");
}

#[test]
fn without_its_section_there_is_no_port_for_services() {
    let installation = Installation::new();
    let config = std::fs::read_to_string(installation.config()).unwrap();
    let (before, after) = config.split_once("[ca.devices]").unwrap();
    let after = &after[after.find("\n[").unwrap()..];
    std::fs::write(installation.config(), format!("{before}{after}")).unwrap();
    let server = installation.serve("ca");
    assert_eq!(server.addresses.len(), 1, "{:?}", server.addresses);
    drop(server);
    let config = installation.config();
    let said = fail(&["serve", "--roles", "ca,verify", "--config", &config], 2);
    assert!(said.contains("[ca.devices] listen"), "{said}");
}

#[test]
fn init_says_how_to_run_every_role() {
    let dir = tempfile::tempdir().unwrap();
    let said = succeed(&["init", "--dir", dir.path().to_str().unwrap()]);
    assert!(said.contains("--roles ca,tam,verifier,verify "), "{said}");
}

#[test]
fn forgetting_a_device_needs_one_that_is_remembered() {
    let installation = Installation::new();
    drop(installation.serve("ca,verify"));
    let config = installation.config();
    let forget = |ueid: &str, exit| fail(&["device", "forget", "--config", &config, ueid], exit);
    assert!(forget(UEID, 1).contains("remembers nothing"));
    assert!(forget("0107", 2).contains("not a UEID"));
}

#[test]
fn a_stream_that_never_ends_an_item_is_refused() {
    use std::io::Write as _;
    let installation = Installation::new();
    let mut child = common::program()
        .args(["verify", "--any-age", "--json", "-", "--ca"])
        .arg(installation.path("ca.pem"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let head = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    // It goes away long before it has read so much.
    let _ = input.write_all(&head);
    let mut broken = false;
    for _ in 0..256 {
        broken |= input.write_all(&[0; 65_536]).is_err();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(broken, "all of it was read");
    assert_eq!(output.status.code(), Some(1));
    let said = common::text(&output.stdout);
    assert!(said.contains("longer than a statement"), "{said}");
}
