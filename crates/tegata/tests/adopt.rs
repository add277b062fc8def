//! Devices with a hardware TEE come to the factory station, and the servers get to know them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Installation, fail, succeed};
use tegata_crypto::cose::verify_sign1;
use tegata_crypto::device_keys::{attestation_key, delivery_ecdh_key, software_derive, teep_key};
use tegata_crypto::provisioning::{sign_report, verify_record};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{PrivateKey, PublicKey, Secret};
use tegata_wire::device::DeviceReport;
use tegata_wire::enrolment::FactoryManifest;
use tegata_wire::ids::Ueid;

/// The report of a device with this root key.
fn report(root: u8, ueid: u8) -> Vec<u8> {
    let root = Secret::new([root; 32]);
    let derive = |label: &str, context: &[u8]| software_derive(&RustCrypto, &root, label, context);
    let cose = |key: &PrivateKey| key.public_key().to_cose_key().unwrap();
    let attestation = attestation_key(&RustCrypto, &derive).unwrap();
    let report = DeviceReport {
        ueid: Ueid::from_random([ueid; 16]),
        attestation_key: cose(&attestation),
        teep_key: cose(&teep_key(&RustCrypto, &derive).unwrap()),
        delivery_key: cose(&delivery_ecdh_key(&RustCrypto, &derive).unwrap()),
        tee_version: "0.1.0".into(),
    };
    sign_report(&report, &attestation).unwrap()
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The command line that takes in `reports`.
fn adopt<'a>(config: &'a str, out: &'a str, reports: &[&'a str]) -> Vec<&'a str> {
    let urls = [
        "--tam-url",
        "http://127.0.0.1:1/tam",
        "--ca-url",
        "http://127.0.0.1:1",
    ];
    let mut args = vec![
        "factory", "adopt", "--config", config, "--out", out, "--json",
    ];
    args.extend(urls);
    args.push("--report");
    args.extend(reports);
    args
}

/// The key that a TEE's image is built with.
fn factory_key(installation: &Installation) -> PublicKey {
    let pem = fs::read(installation.path("trust/factory.pem")).unwrap();
    let (_, der) = der::pem::decode_vec(&pem).unwrap();
    PublicKey::from_spki_der(&der).unwrap()
}

#[test]
fn devices_are_adopted_imported_and_believe_their_own_record() {
    let installation = Installation::new();
    let (config, out) = (installation.config(), installation.path("station"));
    let out = out.to_str().unwrap();
    let dir = installation.dir.path();
    let one = write(dir, "1.report", &report(1, 0x11));
    let two = write(dir, "2.report", &report(2, 0x22));
    let adopted = succeed(&adopt(&config, out, &[&one, &two]));
    let adopted: serde_json::Value = serde_json::from_str(&adopted).unwrap();
    let devices = adopted["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 2);
    let ueids = [0x11, 0x22].map(|byte| Ueid::from_random([byte; 16]));
    assert_eq!(devices[0]["ueid"], ueids[0].to_string());

    let key = factory_key(&installation);
    let record = |index: usize| {
        let dir = PathBuf::from(devices[index]["dir"].as_str().unwrap());
        let agent = fs::read_to_string(dir.join("agent.toml")).unwrap();
        assert!(agent.contains("\ntee = \"optee\"\n"), "{agent}");
        // Nothing here is a secret: the directory has these two files.
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::read(dir.join("device.cose")).unwrap()
    };
    for (index, ueid) in ueids.iter().enumerate() {
        let verified = verify_record(&RustCrypto, &record(index), &key, ueid).unwrap();
        let identity = &verified.record().identity;
        assert_eq!(identity.serial, devices[index]["serial"].as_str().unwrap());
        let keys = (&verified.record().release_keys, &verified.record().tam_keys);
        assert_eq!((keys.0.len(), keys.1.len()), (1, 1));
    }
    verify_record(&RustCrypto, &record(0), &key, &ueids[1]).unwrap_err();

    let manifest = adopted["manifest"].as_str().unwrap();
    let import = [
        "factory",
        "import",
        "--config",
        &config,
        "--manifest",
        manifest,
    ];
    succeed(&import);
    let list = succeed(&["device", "list", "--config", &config, "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
    let signed = fs::read(manifest).unwrap();
    let signed = verify_sign1(&RustCrypto, &signed, &key, b"", None).unwrap();
    let endorsed = FactoryManifest::decode(signed.payload()).unwrap();
    assert!(endorsed.devices.iter().all(|d| d.security_level == "optee"));

    // The same device in a second batch: its registry entry stays the first one's.
    let again = installation.path("again");
    let again = succeed(&adopt(&config, again.to_str().unwrap(), &[&one]));
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    let manifest = again["manifest"].as_str().unwrap();
    let error = fail(
        &[
            "factory",
            "import",
            "--config",
            &config,
            "--manifest",
            manifest,
        ],
        1,
    );
    assert!(error.contains(&ueids[0].to_string()), "{error}");
}

#[test]
fn reports_that_are_not_to_be_believed_are_refused_and_nothing_is_written() {
    let installation = Installation::new();
    let (config, out) = (installation.config(), installation.path("station"));
    let out = out.to_str().unwrap();
    let dir = installation.dir.path();
    let good_bytes = report(1, 0x11);
    let good = write(dir, "good", &good_bytes);
    let mut touched = good_bytes.clone();
    let middle = touched.len() / 2;
    touched[middle] ^= 1;
    let touched = write(dir, "touched", &touched);
    let cut = write(dir, "cut", &good_bytes[..good_bytes.len() - 1]);
    let long = write(dir, "long", &[good_bytes, vec![0; 5000]].concat());
    let empty = write(dir, "empty", b"");
    for bad in [&touched, &cut, &empty] {
        let error = fail(&adopt(&config, out, &[&good, bad]), 1);
        assert!(
            error.contains("bad-report") && error.contains(bad.as_str()),
            "{error}"
        );
        assert!(error.contains("tegata-agent report"), "{error}");
    }
    let error = fail(&adopt(&config, out, &[&good, &long]), 1);
    assert!(error.contains("longer than"), "{error}");
    let error = fail(&adopt(&config, out, &[&good, &good]), 2);
    assert!(error.contains("reported twice"), "{error}");
    // Two boards that say they are one: another key under the same UEID.
    let other = write(dir, "other", &report(2, 0x11));
    let error = fail(&adopt(&config, out, &[&good, &other]), 2);
    assert!(error.contains("reported twice"), "{error}");
    assert!(!Path::new(out).exists());
}
