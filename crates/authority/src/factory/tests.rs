use tegata_crypto::PrivateKey;
use tegata_crypto::rustcrypto::RustCrypto;

use super::*;

struct Counting(u8);

impl Rng for Counting {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        for byte in out {
            self.0 = self.0.wrapping_mul(5).wrapping_add(3);
            *byte = self.0;
        }
        self.0 = self.0.wrapping_add(1);
        Ok(())
    }
}

fn spec() -> BatchSpec {
    BatchSpec {
        batch: "2026-11".into(),
        maker: "手形工業".into(),
        vendor_domain: "example.com".into(),
        oemid: Oem::Pen(32473),
        model: "門番".into(),
        hwversion: "1".into(),
        serial_prefix: "TG-".into(),
        first_number: 41,
        imei_type_code: Some(49_015_420),
        with_mac: true,
        security_level: "software".into(),
    }
}

#[test]
fn imei_and_mac_are_well_formed() {
    // The example of 3GPP TS 23.003: 49015420323751 has the check digit 8.
    assert_eq!(imei(49_015_420, 323_751).unwrap(), "490154203237518");
    assert!(imei(1, 1).is_err());
    assert_eq!(mac(0x01_0203), [2, 0, 0, 1, 2, 3]);
}

#[test]
fn a_batch_is_believed_if_a_trusted_factory_signed_it() {
    let (p, mut rng) = (&RustCrypto, Counting(1));
    let factory = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
    let other = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
    let made = make_devices(p, &mut rng, &spec(), 3, UnixSecs(5)).unwrap();
    assert_eq!((made.secrets.len(), made.keks.len()), (3, 3));
    assert_eq!(made.manifest.devices[2].identity.serial, "TG-000043");
    let signed = sign_manifest(&made.manifest, &factory).unwrap();
    let keys = [factory.public_key().clone()];
    let batch = verify_manifest(p, &signed, &keys).unwrap();
    assert_eq!(batch.devices().len(), 3);
    let device = &batch.devices()[0];
    assert_eq!(
        (device.model().as_str(), device.batch()),
        ("門番", "2026-11")
    );
    let again = EndorsedDevice::from_own_record(&device.to_record().unwrap()).unwrap();
    assert_eq!(again.kids(), device.kids());

    assert!(matches!(
        verify_manifest(p, &signed, &[other.public_key().clone()]),
        Err(FactoryError::Untrusted(_))
    ));
    for at in (0..signed.len()).step_by(41) {
        let mut altered = signed.clone();
        altered[at] ^= 1;
        assert!(verify_manifest(p, &altered, &keys).is_err(), "byte {at}");
    }
    // One key for two purposes.
    let mut twice = made.manifest.clone();
    twice.devices[0].teep_key = twice.devices[0].attestation_key.clone();
    let signed = sign_manifest(&twice, &factory).unwrap();
    assert!(matches!(
        verify_manifest(p, &signed, &keys),
        Err(FactoryError::RepeatedKey)
    ));
}

#[test]
fn too_many_devices_are_refused_before_any_is_made() {
    let made = make_devices(
        &RustCrypto,
        &mut Counting(1),
        &spec(),
        MAX_FACTORY_DEVICES + 1,
        UnixSecs(0),
    );
    assert!(matches!(made, Err(FactoryError::TooMany)));
}

#[test]
fn names_that_look_like_others_are_refused() {
    for name in [
        " ",
        "a\tb",
        "\t",
        "gateway ",
        " gateway",
        "a\u{7f}",
        "\u{3000}門番",
    ] {
        let spec = BatchSpec {
            model: name.into(),
            ..spec()
        };
        let made = make_devices(&RustCrypto, &mut Counting(1), &spec, 1, UnixSecs(0));
        assert!(matches!(made, Err(FactoryError::Name("model"))), "{name:?}");
        let spec = BatchSpec {
            model: "門番 2".into(),
            batch: name.into(),
            ..spec
        };
        let made = make_devices(&RustCrypto, &mut Counting(1), &spec, 1, UnixSecs(0));
        assert!(
            matches!(made, Err(FactoryError::Name("name of the batch"))),
            "{name:?}"
        );
    }
}

/// A device with a hardware TEE: its keys and its report.
fn reported(seed: u8) -> (Vec<u8>, Ueid) {
    use tegata_crypto::provisioning::sign_report;
    use tegata_wire::device::DeviceReport;
    let root = Secret::new([seed; 32]);
    let derive = |label: &str, context: &[u8]| software_derive(&RustCrypto, &root, label, context);
    let attestation = attestation_key(&RustCrypto, &derive).unwrap();
    let cose = |key: PrivateKey| key.public_key().to_cose_key().unwrap();
    let ueid = Ueid::from_random([seed; 16]);
    let report = DeviceReport {
        ueid,
        attestation_key: attestation.public_key().to_cose_key().unwrap(),
        teep_key: cose(teep_key(&RustCrypto, &derive).unwrap()),
        delivery_key: cose(delivery_ecdh_key(&RustCrypto, &derive).unwrap()),
        tee_version: "0.1.0".into(),
    };
    (sign_report(&report, &attestation).unwrap(), ueid)
}

#[test]
fn devices_that_report_themselves_are_adopted() {
    use tegata_crypto::provisioning::{verify_record, verify_report};
    let p = &RustCrypto;
    let factory = PrivateKey::generate(KeyAlg::P256, &mut Counting(1)).unwrap();
    let keys = [factory.public_key().clone()];
    let optee = BatchSpec {
        security_level: "optee".into(),
        ..spec()
    };
    let anchors = Anchors {
        release_keys: vec![keys[0].to_cose_key().unwrap()],
        tam_keys: vec![keys[0].to_cose_key().unwrap()],
        tam_uri: Some("http://tam/tam".into()),
    };
    let adopt = |reports: &[&[u8]]| {
        let reports = reports.iter().map(|r| verify_report(p, r).unwrap());
        adopt_devices(&optee, reports.collect(), &anchors, &factory, UnixSecs(5))
    };
    let ((first, first_ueid), (second, second_ueid)) = (reported(1), reported(2));
    let batch = adopt(&[&first, &second]).unwrap();
    let signed = sign_manifest(&batch.manifest, &factory).unwrap();
    let endorsed = verify_manifest(p, &signed, &keys).unwrap();
    let device = &endorsed.devices()[1];
    assert_eq!(*device.ueid(), second_ueid);
    assert_eq!(device.security_level(), "optee");
    assert_eq!(device.hardware().serial, "TG-000042");
    assert_eq!(
        device.attestation_key(),
        verify_report(p, &second).unwrap().attestation_key()
    );
    // Each device believes its own record, and no other.
    let (ueid, record) = &batch.records[0];
    assert_eq!(*ueid, first_ueid);
    let own = verify_record(p, record, &keys, &first_ueid).unwrap();
    assert_eq!(own.record().identity, *endorsed.devices()[0].hardware());
    assert_eq!(own.record().tam_uri.as_deref(), Some("http://tam/tam"));
    verify_record(p, record, &keys, &second_ueid).unwrap_err();

    let twice = adopt(&[&first, &second, &first]);
    assert!(matches!(twice, Err(FactoryError::RepeatedDevice(ueid)) if ueid == first_ueid));
    let nobody = adopt(&[]).unwrap();
    assert!(nobody.records.is_empty());
}

#[test]
fn two_devices_with_one_key_are_one_device() {
    use tegata_crypto::provisioning::{sign_report, verify_report};
    use tegata_wire::device::DeviceReport;
    let p = &RustCrypto;
    let key = |seed| PrivateKey::generate(KeyAlg::P256, &mut Counting(seed)).unwrap();
    let (attestation, teep, delivery, other) = (key(1), key(2), key(3), key(4));
    let report = |seed: u8, attestation: &PrivateKey, teep: &PrivateKey| {
        let cose = |key: &PrivateKey| key.public_key().to_cose_key().unwrap();
        let report = DeviceReport {
            ueid: Ueid::from_random([seed; 16]),
            attestation_key: cose(attestation),
            teep_key: cose(teep),
            delivery_key: cose(&delivery),
            tee_version: "1".into(),
        };
        verify_report(p, &sign_report(&report, attestation).unwrap()).unwrap()
    };
    let reports = vec![report(1, &attestation, &teep), report(2, &other, &key(5))];
    let anchors = Anchors {
        release_keys: vec![],
        tam_keys: vec![],
        tam_uri: None,
    };
    let adopted = adopt_devices(&spec(), reports, &anchors, &key(9), UnixSecs(5));
    assert!(matches!(adopted, Err(FactoryError::RepeatedKey)));
}
