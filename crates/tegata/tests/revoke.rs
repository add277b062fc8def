//! Revocation as the operator types it and as services see it, of a certificate that a device has.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Tests.
#![cfg(feature = "demo")]

mod common;

use common::{Server, fail, succeed, talk, tegata, text};
use serde_json::Value;

/// What a demo left: its directory, its configuration, the UEID of its one device.
struct Left {
    dir: tempfile::TempDir,
    config: String,
    ueid: String,
}

fn demo() -> Left {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("demo");
    succeed(&["demo", "--json", "--dir", path.to_str().unwrap()]);
    let config = path.join("tegata.toml").to_str().unwrap().to_owned();
    let text = std::fs::read_to_string(&config).unwrap();
    if !text.contains("[ca.devices]") {
        let text = text.replacen("[ca]", "[ca.devices]\nlisten = \"127.0.0.1:0\"\n\n[ca]", 1);
        std::fs::write(&config, text).unwrap();
    }
    let devices = std::fs::read_dir(path.join("devices")).unwrap();
    let names: Vec<_> = devices.map(|entry| entry.unwrap().file_name()).collect();
    let ueid = names[0].to_str().unwrap().to_owned();
    Left { dir, config, ueid }
}

impl Left {
    fn ca(&self, args: &[&str]) -> Value {
        let all = [&["ca"], args, &["--config", &self.config, "--json"]].concat();
        serde_json::from_str(&succeed(&all)).unwrap()
    }

    /// What the CA has of the device.
    fn device(&self) -> Value {
        let args = [
            "device",
            "show",
            &self.ueid,
            "--config",
            &self.config,
            "--json",
        ];
        serde_json::from_str(&succeed(&args)).unwrap()
    }

    fn refused(&self, args: &[&str], exit: i32) -> String {
        fail(&[&["ca"], args, &["--config", &self.config]].concat(), exit)
    }
}

#[test]
fn services_see_a_hold_and_its_end_at_once() {
    let left = demo();
    let ready = left.dir.path().join("ready");
    let server = Server::start("ca", &left.config, &ready);
    let seen = |state: &str| {
        let request = format!(
            "GET /v1/devices/{} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
            left.ueid
        );
        let answer = talk(server.address("devices"), request.as_bytes());
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let body = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
        let body: Value = serde_json::from_str(body).unwrap();
        let states: Vec<&str> = body["certificates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|certificate| certificate["status"].as_str().unwrap())
            .collect();
        assert_eq!(states, [state], "{body}");
    };
    let batch = left.ca(&["list"])[0]["profile"]
        .as_str()
        .unwrap()
        .to_owned();
    seen("confirmed");
    left.ca(&["revoke", "--profile", &batch, "--hold", "--at-most", "1"]);
    seen("held");
    left.ca(&[
        "unhold",
        "--device",
        &left.ueid,
        "--profile",
        &batch,
        "--yes",
    ]);
    seen("confirmed");
    left.ca(&[
        "revoke",
        "--device",
        &left.ueid,
        "--reason",
        "key-compromise",
    ]);
    seen("revoked");
}

#[test]
fn pruning_and_the_roots_list_by_hand() {
    let left = demo();
    for args in [&["prune", "--dry-run"][..], &["prune"]] {
        let said = left.ca(args);
        assert_eq!(
            (&said["archived"], &said["forgotten"]),
            (&0.into(), &0.into())
        );
        assert_eq!(said["keep_days"], 90);
    }
    let text = std::fs::read_to_string(&left.config).unwrap();
    // A list from after its end must have had it: lists live a day here.
    for (days, good) in [("0", false), ("1", false), ("2", true)] {
        let kept = format!("{text}\n[ca.retention]\nkeep_days = {days}\n");
        std::fs::write(&left.config, kept).unwrap();
        match good {
            true => assert_eq!(left.ca(&["prune"])["keep_days"], 2),
            false => assert!(left.refused(&["prune"], 2).contains("keep_days"), "{days}"),
        }
    }
    let shown = left.ca(&["list"])[0]["serial"].as_str().unwrap().to_owned();
    assert_eq!(left.ca(&["show", &shown[..20]])["archived"], false);
    left.refused(&["show", "ffff"], 1);

    let out = left.dir.path().join("root.crl");
    let path = out.to_str().unwrap();
    let said = left.ca(&["root-list", "--out", path, "--days", "3"]);
    assert!(
        said["path"].as_str().unwrap().ends_with("/full.crl"),
        "{said}"
    );
    let pem = std::fs::read_to_string(&out).unwrap();
    assert!(pem.starts_with("-----BEGIN X509 CRL-----"), "{pem}");
    left.refused(&["root-list", "--out", path, "--days", "0"], 2);
}

#[test]
fn a_predicate_is_counted_agreed_to_and_done() {
    let left = demo();
    let all: &[&str] = &["revoke", "--issued-after", "2020-01-01"];
    let with = |more: &[&'static str]| [all, more].concat();

    let planned = left.ca(&with(&["--dry-run"]));
    assert_eq!(
        (&planned["matched"], &planned["changed"]),
        (&1.into(), &1.into())
    );
    assert_eq!(planned["sample"][0]["device"], left.ueid);
    assert_eq!(planned["sample"][0]["before"], "good");
    let said = left.refused(&with(&[]), 2);
    assert!(said.contains("--at-most 1"), "{said}");
    let said = left.refused(&with(&["--at-most", "0"]), 1);
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(left.ca(&["list"])[0]["state"], "confirmed");

    let model = left.refused(
        &["revoke", "--model", "m", "--issued-before", "then", "--yes"],
        2,
    );
    assert!(model.contains("not a time"), "{model}");
    left.refused(&["revoke", "--dry-run"], 2);
    left.refused(&["revoke", "--release-below", "3", "--yes"], 2);
    left.refused(&["revoke", "--release-from", "3", "--yes"], 2);
    let range = ["revoke", "--ta", "enrol", "--release-from", "2"];
    let said = left.refused(
        &[&range[..], &["--release-below", "2", "--yes"]].concat(),
        2,
    );
    assert!(said.contains("no sequence number"), "{said}");
    assert_eq!(
        left.ca(&[&range[..], &["--dry-run"]].concat())["matched"],
        0
    );
    // By the runtime that the Verifier saw: the real TEE's.
    let runtime = |below: &'static str| {
        let mut args = vec!["revoke", "--runtime", "tegata-tee", "--dry-run"];
        args.extend(["--runtime-below", below]);
        args
    };
    assert_eq!(left.ca(&runtime("0.0.1"))["matched"], 0);
    assert_eq!(left.ca(&runtime("1000"))["matched"], 1);
    assert!(left.refused(&runtime("new"), 2).contains("not a version"));
    left.refused(&["revoke", "--runtime-below", "2", "--yes"], 2);
    let from = [&runtime("1000")[..], &["--runtime-from", "999"]].concat();
    assert_eq!(left.ca(&from)["matched"], 0);
    let none = [&runtime("2")[..], &["--runtime-from", "2"]].concat();
    assert!(left.refused(&none, 2).contains("no version"));
    // By what the factory recorded, and by time; together they narrow.
    let device = &left.device();
    let (model, batch) = (device["model"].as_str(), device["batch"].as_str());
    let (model, batch) = (model.unwrap(), batch.unwrap());
    for (args, expected) in [
        (&["--model", model][..], 1),
        (&["--batch", batch], 1),
        (&["--issued-before", "2020-01-01"], 0),
        (
            &[
                "--issued-before",
                "2999-01-01T00:00:00Z",
                "--model",
                model,
                "--batch",
                batch,
            ],
            1,
        ),
        (
            &[
                "--issued-before",
                "2020-01-01T00:00:00Z",
                "--model",
                model,
                "--batch",
                batch,
            ],
            0,
        ),
    ] {
        let args = [&["revoke", "--dry-run"], args].concat();
        assert_eq!(left.ca(&args)["matched"], expected, "{args:?}");
    }
    left.refused(
        &[&runtime("2")[..3], &["--stop-issuing", "--yes"]].concat(),
        2,
    );
    let said = left.refused(&["revoke", "--runtime", "none", "--yes"], 1);
    assert!(said.contains("never affirmed"), "{said}");
    left.refused(&with(&["--stop-issuing", "--yes"]), 2);
    let said = left.refused(&["revoke", "--device", &left.ueid, "--stop-issuing"], 2);
    assert!(said.contains("anyway"), "{said}");
    assert!(
        left.refused(&["revoke", "--ta", "nobody", "--yes"], 1)
            .contains("no such release")
    );

    // A name that nothing has, and the empty variable of a script, must not look like an empty result.
    for (option, name, told) in [
        ("--profile", "iot-devcie", "no profile of that name"),
        ("--model", "nosuch", "no model of that name"),
        ("--batch", "nosuch", "no batch of that name"),
    ] {
        for more in [&["--dry-run"][..], &["--stop-issuing", "--yes"]] {
            let said = left.refused(&[&["revoke", option, name][..], more].concat(), 1);
            assert!(said.contains(told), "{said}");
        }
    }
    let said = left.refused(&["revoke", "--release", "", "--yes"], 2);
    assert!(said.contains("beginning"), "{said}");
    let said = left.refused(&["revoke", "--devices", "/dev/null", "--yes"], 2);
    assert!(said.contains("names no device"), "{said}");
    assert_eq!(left.ca(&["stops"]), Value::Array(Vec::new()));
    // A profile without a certificate is one all the same.
    let unused = ["revoke", "--profile", "iot-signing", "--dry-run"];
    assert_eq!(left.ca(&unused)["matched"], 0);

    // By TA, with a stop; then nothing else of that TA is issued until the stop is lifted.
    let ta = [
        "revoke",
        "--ta",
        "enrol",
        "--release-from",
        "1",
        "--release-below",
        "2",
        "--hold",
        "--stop-issuing",
    ];
    let done = left.ca(&[&ta[..], &["--at-most", "1"]].concat());
    assert_eq!((&done["changed"], &done["stop"]), (&1.into(), &1.into()));
    assert_eq!(left.ca(&["list"])[0]["state"], "held");
    assert_eq!(left.ca(&["stops"])[0]["what"], "TA enrol from 1 below 2");
    assert_eq!(
        left.ca(&[&ta[..], &["--yes"]].concat())["changed"],
        0,
        "again"
    );
    left.ca(&["unhold", "--ta", "enrol", "--yes"]);
    assert_eq!(left.ca(&["list"])[0]["state"], "confirmed");
    assert_eq!(left.ca(&["stops", "--lift", "1"]), Value::Array(Vec::new()));
    assert!(
        left.refused(&["stops", "--lift", "1"], 1)
            .contains("no stop 1")
    );

    // By a file of devices.
    let file = left.dir.path().join("recalled");
    std::fs::write(&file, format!("# recalled\n{}\n", left.ueid)).unwrap();
    let file = file.to_str().unwrap();
    left.ca(&[
        "revoke",
        "--devices",
        file,
        "--reason",
        "privilege-withdrawn",
        "--yes",
    ]);
    let row = &left.ca(&["list"])[0];
    assert_eq!(
        (&row["state"], &row["reason"]),
        (&"revoked".into(), &"privilegeWithdrawn".into())
    );
    std::fs::write(file, "0107070707070707070707070707070707\n").unwrap();
    let said = left.refused(&["revoke", "--devices", file, "--yes"], 1);
    assert!(said.contains("there is no device"), "{said}");
}

#[test]
fn without_a_terminal_a_long_run_says_how_far_it_came() {
    let left = demo();
    let run = |args: &[&str]| {
        let all = [&["ca"], args, &["--config", &left.config]].concat();
        let output = tegata(&all);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let said = run(&[
        "revoke",
        "--ta",
        "enrol",
        "--hold",
        "--yes",
        "--progress-secs",
        "0",
        "--json",
    ]);
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |step: &str| lines.iter().rfind(|line| line["step"] == step);
    let counted = of("count").unwrap();
    assert_eq!(counted["would_change"], 1, "{said}");
    assert_eq!(
        (&counted["looked_at"], &counted["of"]),
        (&1.into(), &Value::Null)
    );
    let changed = of("change").unwrap();
    assert_eq!(changed["changed"], 1, "{said}");
    assert_eq!(
        (&changed["looked_at"], &changed["of"]),
        (&1.into(), &1.into())
    );
    assert!(lines.iter().all(|line| line["event"] == "progress"));

    let said = run(&["unhold", "--ta", "enrol", "--yes", "--progress-secs", "0"]);
    assert!(said.contains("1, 1 would change\n"), "{said}");
    assert!(said.ends_with("1 of 1, 1 changed\n"), "{said}");
    // Ten seconds are not over.
    assert_eq!(run(&["revoke", "--ta", "enrol", "--yes"]), "");
}
