//! What people see when something is wrong: a sentence, how to mend it, and the right exit status.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Tests.

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use common::{Installation, fail, program, succeed, tegata, text};

#[test]
fn help_teaches_with_examples() {
    for args in [
        &["--help"][..],
        &["init", "--help"],
        &["serve", "--help"],
        &["ta", "release", "--help"],
        &["factory", "make", "--help"],
        &["device", "enrol", "--help"],
        &["ca", "show", "--help"],
        &["demo", "--help"],
    ] {
        let help = succeed(args);
        assert!(help.contains("    tegata "), "{args:?}: {help}");
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{args:?}"
        );
        assert!(!help.contains('\x1b'), "colour in a pipe");
    }
}

#[test]
fn wrong_commands_exit_with_2() {
    for args in [
        &[][..],
        &["frobnicate"],
        &["serve"],
        &["serve", "--roles", "king"],
        &["init"],
    ] {
        assert_eq!(tegata(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_missing_or_wrong_configuration_is_told_with_its_line() {
    let error = fail(
        &["serve", "--roles", "ca", "--config", "/nowhere/tegata.toml"],
        2,
    );
    assert!(
        error.contains("no configuration file") && error.contains("tegata init"),
        "{error}"
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tegata.toml");
    for (content, place, says) in [
        ("[ca]\nlisten = \"here\"\n", ":2:10:", "not an address"),
        (
            "[ca]\nlisten = \"127.0.0.1:1\"\nlisten = 1\n",
            ":3:1:",
            "duplicate",
        ),
        ("[limits]\nin_flight = -1\n", ":2:13:", "-1"),
        ("[limit]\n", ":1:2:", "limit"),
        ("\u{3042}\u{3044} =", ":1:", ""),
    ] {
        fs::write(&path, content).unwrap();
        let error = fail(
            &["serve", "--roles", "ca", "--config", path.to_str().unwrap()],
            2,
        );
        assert!(
            error.contains(&format!("tegata.toml{place}")),
            "{content:?}: {error}"
        );
        assert!(
            error.contains(says) && error.contains("mend:"),
            "{content:?}: {error}"
        );
        assert!(
            error.contains(content.lines().last().unwrap()),
            "{content:?}: {error}"
        );
    }
    fs::write(&path, [0xff, 0xfe]).unwrap();
    let error = fail(&["ca", "list", "--config", path.to_str().unwrap()], 2);
    assert!(error.contains("UTF-8"), "{error}");
    fs::write(&path, "[ca]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let error = fail(
        &[
            "serve",
            "--roles",
            "tam",
            "--config",
            path.to_str().unwrap(),
        ],
        2,
    );
    assert!(error.contains("has no section [tam]"), "{error}");
}

#[test]
fn faults_are_json_when_asked_for() {
    let output = tegata(&["ca", "list", "--json", "--config", "/nowhere/tegata.toml"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(value["error"]["code"], "no-config");
    assert!(
        value["error"]["mend"]
            .as_str()
            .unwrap()
            .contains("tegata init")
    );
}

#[test]
fn a_wrong_command_line_is_json_when_asked_for() {
    for args in [
        &["ca", "list", "--json", "--frobnicate"][..],
        &["factory", "make", "--json"],
        &["demo", "--json", "--devices", "many"],
    ] {
        let output = tegata(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let value: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(value["error"]["code"], "usage", "{args:?}");
        assert_eq!(value["error"]["exit"], 2, "{args:?}");
    }
    assert!(succeed(&["ca", "list", "--json", "--help"]).contains("Example"));
}

#[test]
fn a_label_that_no_ta_takes_is_refused_with_its_limit() {
    for label in ["", &"x".repeat(65), &"計".repeat(22), "a\tb"] {
        let output = tegata(&["device", "enrol", "--device", "/nowhere", "--label", label]);
        assert_eq!(output.status.code(), Some(2), "{label:?}");
        assert!(text(&output.stderr).contains("a label has "), "{label:?}");
    }
    let longest = "計".repeat(21);
    let error = fail(
        &[
            "device", "enrol", "--device", "/nowhere", "--label", &longest,
        ],
        2,
    );
    assert!(error.contains("agent.toml"), "{error}");
}

#[test]
fn a_batch_with_addresses_that_are_none_is_not_made() {
    let installation = Installation::new();
    let (config, out) = (installation.config(), installation.path("station"));
    let report = installation.path("none.report");
    for (flag, other) in [("--tam-url", "--ca-url"), ("--ca-url", "--tam-url")] {
        for url in [
            "",
            "not a url",
            "http://",
            "HTTP://x:99999/tam",
            "ftp://x/",
            "http://x\"\n[x]",
        ] {
            let devices = [
                &["factory", "make", "--count", "1"][..],
                &["factory", "adopt", "--report", report.to_str().unwrap()],
            ];
            for command in devices {
                let given = [
                    "--config",
                    &config,
                    "--out",
                    out.to_str().unwrap(),
                    flag,
                    url,
                    other,
                    "http://x:1",
                ];
                let error = fail(&[command, &given].concat(), 2);
                assert!(error.contains(flag) && error.contains("http://"), "{error}");
            }
        }
    }
    assert!(!out.exists());
}

#[test]
fn init_makes_everything_once_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    succeed(&["init", "--dir", at, "--name", "手形"]);
    let snapshot = || {
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for entry in ["", "keys", "trust"] {
            for file in fs::read_dir(dir.path().join(entry)).unwrap() {
                let file = file.unwrap();
                if file.file_type().unwrap().is_file() {
                    let path = file.path();
                    files.push((path.display().to_string(), fs::read(path).unwrap()));
                }
            }
        }
        files.sort();
        files
    };
    let before = snapshot();
    succeed(&["init", "--dir", at, "--name", "Another"]);
    assert_eq!(before, snapshot());
    for (path, _) in &before {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        if path.contains("/keys/") {
            assert_eq!(mode, 0o600, "{path}");
        }
    }
    // What is missing is made again, and only that.
    fs::remove_file(dir.path().join("profiles.toml")).unwrap();
    succeed(&["init", "--dir", at]);
    assert_eq!(before, snapshot());
}

#[test]
fn init_with_a_name_that_no_certificate_can_have_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    for name in ["", "a\nb", &"x".repeat(47)] {
        let init = program()
            .args(["init", "--name", name, "--dir"])
            .arg(&pki)
            .output()
            .unwrap();
        assert_eq!(init.status.code(), Some(2), "{name:?}");
        assert!(!pki.exists(), "{name:?}");
    }
}

#[test]
fn init_puts_no_new_keys_in_the_place_of_lost_ones() {
    let installation = Installation::new();
    let dir = installation.dir.path();
    let at = dir.to_str().unwrap();
    for lost in [
        "store/ca.db",
        "store/tam.db",
        "store/verifier.db",
        "keys/factory.key",
    ] {
        let (here, away) = (dir.join(lost), dir.join("away"));
        fs::rename(&here, &away).unwrap();
        let error = fail(&["init", "--dir", at], 3);
        assert!(
            error.contains("keys-lost") || error.contains("backup"),
            "{error}"
        );
        assert!(!here.exists(), "{lost} was made anew");
        if lost.starts_with("store") {
            // What a full disk or a mistake left of it.
            fs::write(&here, b"").unwrap();
            let error = fail(&["init", "--dir", at], 3);
            assert!(error.contains("no keys"), "{error}");
        }
        fs::rename(&away, &here).unwrap();
    }
    succeed(&["init", "--dir", at]);
}

#[test]
fn init_makes_each_kind_of_ca() {
    for kind in ["p256", "p384", "ed25519"] {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_str().unwrap();
        succeed(&["init", "--dir", at, "--ca-key", kind]);
        let Ok(output) = Command::new("openssl")
            .args(["verify", "-x509_strict", "-CAfile"])
            .arg(dir.path().join("ca.pem"))
            .arg(dir.path().join("issuing.pem"))
            .output()
        else {
            println!("skipped: there is no openssl");
            return;
        };
        assert!(output.status.success(), "{kind}: {}", text(&output.stderr));
    }
}

#[test]
fn a_port_in_use_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let installation = Installation::new();
    let port = taken.local_addr().unwrap().port();
    installation.edit("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let error = fail(
        &["serve", "--roles", "ca", "--config", &installation.config()],
        3,
    );
    assert!(error.contains("another process uses the port"), "{error}");
    assert!(error.contains(&format!("sport = :{port}")), "{error}");
}

#[test]
fn keys_and_stores_that_are_wrong_are_told() {
    let installation = Installation::new();
    let config = installation.config();
    let serve = |exit| fail(&["serve", "--roles", "ca", "--config", &config], exit);

    let sealing = installation.path("keys/ca.sealing");
    fs::set_permissions(&sealing, fs::Permissions::from_mode(0o644)).unwrap();
    let error = serve(3);
    assert!(
        error.contains("can be read by other users") && error.contains("chmod 600"),
        "{error}"
    );
    fs::set_permissions(&sealing, fs::Permissions::from_mode(0o600)).unwrap();

    let right = fs::read(&sealing).unwrap();
    fs::write(&sealing, "not hexadecimal").unwrap();
    assert!(serve(3).contains("is not a sealing key"));
    fs::write(&sealing, "00".repeat(32)).unwrap();
    let error = serve(3);
    assert!(error.contains("sealing key"), "{error}");
    fs::remove_file(&sealing).unwrap();
    assert!(serve(3).contains("the sealing key of the ca is missing"));
    fs::write(&sealing, right).unwrap();
    fs::set_permissions(&sealing, fs::Permissions::from_mode(0o600)).unwrap();

    let store = installation.path("store/ca.db");
    let right = fs::read(&store).unwrap();
    fs::write(
        &store,
        "this is no database, it is a letter to my aunt".repeat(40),
    )
    .unwrap();
    let error = serve(3);
    assert!(error.contains("is not a Tegata store"), "{error}");
    let mut damaged = right.clone();
    for byte in damaged.iter_mut().skip(4096).step_by(3) {
        *byte = 0xa5;
    }
    fs::write(&store, &damaged).unwrap();
    let error = serve(3);
    assert!(error.contains("store"), "{error}");
    assert!(error.contains("mend:"), "{error}");
    fs::remove_file(&store).unwrap();
    let error = serve(3);
    assert!(
        error.contains("there is no store") && error.contains("tegata init"),
        "{error}"
    );
}

#[test]
fn profiles_and_policy_are_checked_before_the_server_listens() {
    let installation = Installation::new();
    let config = installation.config();
    let profiles = installation.path("profiles.toml");
    let right = fs::read_to_string(&profiles).unwrap();
    fs::write(
        &profiles,
        right.replace("digitalSignature", "digitalSignatur"),
    )
    .unwrap();
    let error = fail(&["serve", "--roles", "ca", "--config", &config], 2);
    assert!(
        error.contains("profiles.toml:") && error.contains("did you mean"),
        "{error}"
    );
    let policy = installation.path("verifier.toml");
    fs::write(&policy, "nonsense = 1\n").unwrap();
    let error = fail(&["serve", "--roles", "verifier", "--config", &config], 2);
    assert!(error.contains("verifier.toml:1:1:"), "{error}");
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left_half_made() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=200k none {0} && {1} init --dir {0}/pki",
        dir.path().display(),
        env!("CARGO_BIN_EXE_tegata")
    );
    let Ok(output) = Command::new("unshare")
        .args(["-Urm", "sh", "-c", &script])
        .output()
    else {
        println!("skipped: there is no unshare");
        return;
    };
    let error = text(&output.stderr);
    if error.contains("unshare:") || error.contains("mount:") {
        println!("skipped: no user namespaces here");
        return;
    }
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(
        error.contains("full") || error.contains("no room"),
        "{error}"
    );
}

#[test]
fn devices_with_japanese_names_are_made_imported_and_listed() {
    let installation = Installation::new();
    let config = installation.config();
    let out = installation.path("station");
    let made = succeed(&[
        "factory",
        "make",
        "--config",
        &config,
        "--count",
        "3",
        "--model",
        "温度計-1",
        "--batch",
        "春の試作",
        "--out",
        out.to_str().unwrap(),
        "--tam-url",
        "http://127.0.0.1:1/tam",
        "--ca-url",
        "http://127.0.0.1:1",
        "--json",
    ]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["devices"].as_array().unwrap().len(), 3);
    let manifest = made["manifest"].as_str().unwrap();
    for _ in 0..2 {
        succeed(&[
            "factory",
            "import",
            "--config",
            &config,
            "--manifest",
            manifest,
        ]);
    }
    let list = succeed(&["device", "list", "--config", &config]);
    assert!(
        list.contains("温度計-1") && list.contains("春の試作"),
        "{list}"
    );
    assert_eq!(list.lines().count(), 4, "{list}");
    let ueid = made["devices"][0]["ueid"].as_str().unwrap();
    let shown = succeed(&["device", "show", "--config", &config, &ueid[..10]]);
    assert!(shown.contains(ueid), "{shown}");
    assert!(fail(&["device", "show", "--config", &config, "ffff"], 1).contains("no single device"));
    // The same directory twice, and a manifest that was touched.
    let error = fail(
        &[
            "factory",
            "make",
            "--config",
            &config,
            "--count",
            "1",
            "--out",
            out.to_str().unwrap(),
            "--tam-url",
            "http://127.0.0.1:1/tam",
            "--ca-url",
            "http://127.0.0.1:1",
        ],
        2,
    );
    assert!(error.contains("nothing is overwritten"), "{error}");
    let mut bytes = fs::read(manifest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let touched = installation.path("touched.cose");
    fs::write(&touched, &bytes).unwrap();
    let error = fail(
        &[
            "factory",
            "import",
            "--config",
            &config,
            "--manifest",
            touched.to_str().unwrap(),
        ],
        1,
    );
    assert!(error.contains("manifest"), "{error}");
}

#[test]
fn colours_stay_out_of_pipes() {
    let output = program()
        .args(["ca", "list", "--config", "/nowhere"])
        .output()
        .unwrap();
    assert!(!text(&output.stderr).contains('\x1b'));
}
