//! A rollover as the operator types it, beside a server that runs on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Tests.

mod common;

use base64ct::Encoding as _;
use common::tls::{Tls, pem_cert};
use common::{Installation, fail, succeed, talk};
use serde_json::Value;
use std::fs;

fn ca(installation: &Installation, args: &[&str]) -> Value {
    let config = installation.config();
    let all = [&["ca"], args, &["--config", &config, "--json"]].concat();
    serde_json::from_str(&succeed(&all)).unwrap()
}

fn certificates(installation: &Installation, name: &str) -> usize {
    let pem = fs::read_to_string(installation.path(name)).unwrap_or_default();
    pem.matches("BEGIN CERTIFICATE").count()
}

#[test]
fn the_operator_looks_says_yes_and_may_say_it_again() {
    let installation = Installation::new();
    let config = installation.config();
    let refused = |args: &[&str], exit| {
        fail(
            &[&["ca", "rollover"], args, &["--config", &config]].concat(),
            exit,
        )
    };
    let before = fs::read(installation.path("ca.pem")).unwrap();

    let planned = ca(&installation, &["rollover", "--root", "--dry-run"]);
    assert_eq!(
        (&planned["generation"], &planned["again"]),
        (&2.into(), &false.into())
    );
    assert!(
        planned["root"]["name"]
            .as_str()
            .unwrap()
            .contains("Root CA G2")
    );
    // Without a yes, without a number, both kinds, neither; not the next number.
    let said = refused(&["--root", "--generation", "2"], 2);
    assert!(said.contains("--yes"), "{said}");
    refused(&["--root", "--yes"], 2);
    refused(&["--root", "--issuing", "--generation", "2", "--yes"], 2);
    refused(&["--generation", "2", "--yes"], 2);
    let said = refused(&["--root", "--generation", "3", "--yes"], 1);
    assert!(said.contains("the next one is 2"), "{said}");
    assert_eq!(
        ca(&installation, &["generations"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(fs::read(installation.path("ca.pem")).unwrap(), before);

    let roll = [
        "rollover",
        "--root",
        "--generation",
        "2",
        "--ca-key",
        "p384",
        "--yes",
    ];
    let made = ca(&installation, &roll);
    assert_eq!(made["again"], false);
    for (name, count) in [("ca.pem", 2), ("issuing.pem", 2), ("cross.pem", 2)] {
        assert_eq!(certificates(&installation, name), count, "{name}");
    }
    // Killed before it wrote its files: again, and there they are, and no other generation.
    fs::write(installation.path("ca.pem"), &before).unwrap();
    fs::remove_file(installation.path("cross.pem")).unwrap();
    let again = ca(&installation, &roll);
    assert_eq!(
        (&again["again"], &again["issuing"]),
        (&true.into(), &made["issuing"])
    );
    assert_eq!(certificates(&installation, "ca.pem"), 2);
    assert_eq!(certificates(&installation, "cross.pem"), 2);
    let said = refused(&["--issuing", "--generation", "2", "--yes"], 1);
    assert!(said.contains("not made this way"), "{said}");

    ca(
        &installation,
        &["rollover", "--issuing", "--generation", "3", "--yes"],
    );
    let all = ca(&installation, &["generations"]);
    let numbers: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["root_number"])
        .collect();
    assert_eq!(numbers, [1, 2, 2]);
    assert_eq!(certificates(&installation, "issuing.pem"), 3);
    // What `init` finds it leaves.
    succeed(&["init", "--dir", installation.dir.path().to_str().unwrap()]);
    assert_eq!(certificates(&installation, "ca.pem"), 2);
}

#[test]
fn a_running_server_has_the_new_generation_at_its_next_answer() {
    let installation = Installation::new();
    installation.edit(
        "[tam]",
        "[ca.est]\nlisten = \"127.0.0.1:0\"\nnames = [\"ca.example\"]\n\n[tam]",
    );
    let old_root = pem_cert(&installation.path("ca.pem"));
    let server = installation.serve("ca");
    let fetch = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        talk(server.address("ca"), request.as_bytes())
    };
    let first = ca(&installation, &["generations"]);
    let made = ca(
        &installation,
        &["rollover", "--root", "--generation", "2", "--yes"],
    );
    let ids = |of: &Value| (of["issuing"]["id"].clone(), of["root"]["id"].clone());
    let ((old_issuing, old), (issuing, root)) = (ids(&first[0]), ids(&made));
    let text = |id: &Value| id.as_str().unwrap().to_owned();
    let (old, root) = (text(&old), text(&root));
    for name in [
        text(&old_issuing),
        text(&issuing),
        old.clone(),
        root.clone(),
        format!("{root}-{old}"),
        format!("{old}-{root}"),
    ] {
        let answer = fetch(&format!("/ca/{name}.cer"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
    }
    assert!(fetch(&format!("/ca/{old}-{old}.cer")).starts_with("HTTP/1.1 404"));
    for id in [&old_issuing, &issuing] {
        let answer = fetch(&format!("/crl/{}/full.crl", text(id)));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // A client of EST that trusts the old root goes on, and learns of the new one: six certificates.
    let request =
        b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: ca.example\r\nConnection: close\r\n\r\n";
    let mut est = Tls::connect(server.address("est"), "ca.example", &old_root, None).unwrap();
    let answer = est.ask(request).unwrap();
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let base64: String = body.split_whitespace().collect();
    let der = base64ct::Base64::decode_vec(&base64);
    let der = der.unwrap_or_else(|e| panic!("{e}: {answer}"));
    let has = |pem: &std::path::Path| {
        let cert = pem_cert(pem);
        der.windows(cert.len()).any(|part| part == cert)
    };
    for name in ["ca.pem", "issuing.pem", "cross.pem"] {
        assert!(has(&installation.path(name)), "{name}");
    }
}

#[test]
fn nothing_is_made_that_has_no_place_to_go_and_what_leaves_is_named() {
    let installation = Installation::new();
    let config = installation.config();
    let run = |args: &[&str]| succeed(&[&["ca"], args, &["--config", &config]].concat());
    let generations = || {
        let all = ca(&installation, &["generations"]);
        all.as_array().unwrap().len()
    };
    let nowhere = installation.path("nowhere");
    let roll = ["rollover", "--root", "--generation", "2", "--yes"];
    let there = ["--out", nowhere.to_str().unwrap()];
    let all = [&["ca"], &roll[..], &there, &["--config", &config]].concat();
    let said = fail(&all, 3);
    assert!(said.contains("nowhere"), "{said}");
    assert_eq!(generations(), 1);

    // A person sees when it begins and ends, the kinds of keys, and profiles with URLs of their own.
    let profiles = installation.path("profiles.toml");
    let text = fs::read_to_string(&profiles).unwrap();
    let with_url = text.replacen(
        "validity =",
        "crl_urls = [\"http://pki.example/issuing.crl\"]\nvalidity =",
        1,
    );
    fs::write(&profiles, &with_url).unwrap();
    let planned = run(&["rollover", "--root", "--dry-run"]);
    let year = |line: &str| line.split(", 2").count();
    for what in ["    root: ", "    issuing CA: "] {
        let line = planned.lines().find(|line| line.starts_with(what));
        let line = line.unwrap_or_else(|| panic!("{what}: {planned}"));
        assert!(line.contains(" … ") && year(line) == 2, "{line}");
    }
    assert!(
        planned.contains("keys: root p256, issuing CA p256"),
        "{planned}"
    );
    assert!(planned.contains("go into certificates"), "{planned}");
    assert!(!planned.contains("not to be trusted"), "{planned}");
    fs::write(&profiles, &text).unwrap();

    // An operator's own root in ca.pem is not lost without a word.
    let other = Installation::new();
    let own = fs::read_to_string(installation.path("ca.pem")).unwrap();
    let others = fs::read_to_string(other.path("ca.pem")).unwrap();
    fs::write(installation.path("ca.pem"), format!("{own}{others}")).unwrap();
    let made = run(&roll);
    assert!(made.contains("no longer in ca.pem: "), "{made}");
    assert!(!run(&roll).contains("no longer in ca.pem"));
    assert_eq!(certificates(&installation, "cross.pem"), 2);

    // After a leak: what is lost is said before, the links are gone, and lists name what was before.
    let planned = run(&["rollover", "--root", "--leaked", "--dry-run"]);
    assert_eq!(planned.matches("not to be trusted any more").count(), 4);
    assert!(
        planned.contains("--root --leaked --generation 3 --yes"),
        "{planned}"
    );
    let roll = [
        "rollover",
        "--root",
        "--leaked",
        "--generation",
        "3",
        "--yes",
    ];
    let made = run(&roll);
    assert_eq!(made.matches("no longer in ca.pem: ").count(), 2, "{made}");
    assert!(made.contains("removed "), "{made}");
    assert!(!installation.path("cross.pem").exists());
    for name in ["ca.pem", "issuing.pem"] {
        assert_eq!(certificates(&installation, name), 1, "{name}");
    }
    let lists = installation.path("root.crl");
    let listed = run(&["root-list", "--out", lists.to_str().unwrap()]);
    // Of each old root its issuing CA and the link to the other.
    assert_eq!(listed.matches("(keyCompromise)").count(), 4, "{listed}");
    let pem = fs::read_to_string(&lists).unwrap();
    assert_eq!(pem.matches("BEGIN X509 CRL").count(), 3);
    let table = run(&["generations"]);
    assert_eq!(table.matches("leaked").count(), 2, "{table}");
    assert_eq!(table.matches("issues").count(), 1, "{table}");
    assert!(table.contains("ROOT UNTIL"), "{table}");
    assert!(!table.contains("tegata ca rollover"), "{table}");
}

#[test]
fn the_end_of_a_ca_is_in_the_log_in_healthz_and_in_the_list() {
    let installation = Installation::new();
    let profiles = installation.path("profiles.toml");
    let text = fs::read_to_string(&profiles).unwrap();
    let healthz = |server: &common::Server| {
        let request = b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        talk(server.address("ca"), request)
    };
    let server = installation.serve("ca");
    let answer = healthz(&server);
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("warning"));
    drop(server);
    // Certificates that are to last as long as the issuing CA itself: they are cut short at once.
    let longer = text
        .lines()
        .map(|line| match line == "validity = \"365d\"" {
            true => "validity = \"3650d\"",
            false => line,
        });
    let longer: Vec<&str> = longer.collect();
    fs::write(&profiles, longer.join("\n")).unwrap();
    let sentence = "issuing CA 1 ends on ";
    let server = installation.serve("ca");
    let answer = healthz(&server);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(sentence), "{answer}");
    let log = fs::read_to_string(&server.log).unwrap();
    assert!(
        log.contains("ca-ends-soon") && log.contains(sentence),
        "{log}"
    );
    let config = installation.config();
    let table = succeed(&["ca", "generations", "--config", &config]);
    assert!(table.contains("tegata ca rollover --issuing"), "{table}");
}
