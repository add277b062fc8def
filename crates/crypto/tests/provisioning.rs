//! Reports and records: what is signed is believed, anything odd is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{each_bit_flip, each_prefix, key, providers};
use tegata_crypto::cose::{CoseError, Sign1Headers, sign1};
use tegata_crypto::provisioning::{
    ProvisioningError, RECORD_AAD, REPORT_AAD, sign_record, sign_report, verify_record,
    verify_report,
};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey};
use tegata_wire::device::{
    DeviceIdentity, DeviceRecord, DeviceReport, Oem, RECORD_LEN_BYTES_MAX, REPORT_LEN_BYTES_MAX,
};
use tegata_wire::ids::Ueid;

fn p256(seed: u64) -> PrivateKey {
    key(KeyAlg::P256, seed)
}

fn cose(key: &PrivateKey) -> Vec<u8> {
    key.public_key().to_cose_key().unwrap()
}

const OWN: [u8; 16] = [0x11; 16];

fn report() -> DeviceReport {
    DeviceReport {
        ueid: Ueid::from_random(OWN),
        attestation_key: cose(&p256(1)),
        teep_key: cose(&p256(2)),
        delivery_key: cose(&p256(3)),
        tee_version: "0.1.0".into(),
    }
}

fn record() -> DeviceRecord {
    DeviceRecord {
        identity: DeviceIdentity {
            ueid: Ueid::from_random(OWN),
            serial: "A1".into(),
            oemid: Oem::Pen(1),
            hwmodel: b"M".to_vec(),
            hwversion: "1".into(),
            imei: None,
            mac: None,
            vendor_ids: vec![],
            class_ids: vec![],
        },
        release_keys: vec![cose(&p256(5))],
        tam_keys: vec![cose(&p256(6))],
        tam_uri: Some("http://tam".into()),
        made_at_secs: 1_760_000_000,
    }
}

/// Signed as a report by any key, with nothing checked.
fn forged(report: &DeviceReport, signer: &PrivateKey) -> Vec<u8> {
    let payload = report.encode().unwrap();
    sign1(
        signer,
        &payload,
        &Sign1Headers::default(),
        REPORT_AAD,
        false,
    )
    .unwrap()
}

#[test]
fn a_report_is_believed_by_every_provider() {
    let bytes = sign_report(&report(), &p256(1)).unwrap();
    assert!(bytes.len() < REPORT_LEN_BYTES_MAX / 2);
    for (name, provider) in providers() {
        let verified = verify_report(&*provider, &bytes).unwrap();
        assert_eq!(*verified.ueid(), Ueid::from_random(OWN), "{name}");
        assert_eq!(verified.attestation_key(), p256(1).public_key());
        assert_eq!(verified.teep_key(), p256(2).public_key());
        assert_eq!(verified.delivery_key(), p256(3).public_key());
        assert_eq!(verified.tee_version(), "0.1.0");
        assert_eq!(*verified.digest(), provider.sha256(&bytes));
    }
}

#[test]
fn a_report_by_another_key_than_its_own_is_refused() {
    let error = sign_report(&report(), &p256(9)).unwrap_err();
    assert!(matches!(error, ProvisioningError::Signature(_)), "{error}");
    // The kid names the signer, or nobody: neither helps.
    for no_kid in [false, true] {
        let headers = Sign1Headers {
            no_kid,
            ..Sign1Headers::default()
        };
        let payload = report().encode().unwrap();
        let bytes = sign1(&p256(9), &payload, &headers, REPORT_AAD, false).unwrap();
        let error = verify_report(&RustCrypto, &bytes).unwrap_err();
        assert!(matches!(error, ProvisioningError::Signature(_)), "{error}");
    }
}

#[test]
fn one_key_for_two_purposes_is_refused() {
    let same = [
        DeviceReport {
            teep_key: cose(&p256(1)),
            ..report()
        },
        DeviceReport {
            delivery_key: cose(&p256(1)),
            ..report()
        },
        DeviceReport {
            delivery_key: cose(&p256(2)),
            ..report()
        },
    ];
    for report in same {
        let error = verify_report(&RustCrypto, &forged(&report, &p256(1))).unwrap_err();
        assert_eq!(error, ProvisioningError::RepeatedKey);
    }
}

#[test]
fn keys_that_are_none_are_refused() {
    let ed25519 = cose(&key(KeyAlg::Ed25519, 3));
    for (what, bad) in [
        (
            "delivery key",
            DeviceReport {
                delivery_key: ed25519,
                ..report()
            },
        ),
        (
            "delivery key",
            DeviceReport {
                delivery_key: vec![0xa0],
                ..report()
            },
        ),
        (
            "TEEP key",
            DeviceReport {
                teep_key: vec![1, 2, 3],
                ..report()
            },
        ),
        (
            "attestation key",
            DeviceReport {
                attestation_key: vec![0xff; 80],
                ..report()
            },
        ),
    ] {
        let error = verify_report(&RustCrypto, &forged(&bad, &p256(1))).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn reports_that_were_touched_are_refused() {
    let bytes = sign_report(&report(), &p256(1)).unwrap();
    each_prefix(&bytes, |cut| {
        verify_report(&RustCrypto, cut).unwrap_err();
    });
    // A bit in each byte: every bit would take a minute.
    each_bit_flip(&bytes, |bit, changed| {
        // The high bit of the tag, and what stands in no signature, may read the same.
        if bit % 8 == bit / 8 % 8 {
            assert!(verify_report(&RustCrypto, changed).is_err(), "bit {bit}");
        }
    });
    let long = [bytes, vec![0; REPORT_LEN_BYTES_MAX]].concat();
    let error = verify_report(&RustCrypto, &long).unwrap_err();
    assert!(matches!(error, ProvisioningError::TooLong { .. }));
}

#[test]
fn a_record_is_believed_by_its_device_alone() {
    let (factory, other) = (p256(7), p256(8));
    let bytes = sign_record(&record(), &factory).unwrap();
    let own = Ueid::from_random(OWN);
    for (_, provider) in providers() {
        let keys = [other.public_key().clone(), factory.public_key().clone()];
        let verified = verify_record(&*provider, &bytes, &keys, &own).unwrap();
        assert_eq!(*verified.record(), record());
        assert_eq!(verified.into_record(), record());
    }
    let stranger = Ueid::from_random([0x12; 16]);
    let error = verify_record(&RustCrypto, &bytes, factory.public_key(), &stranger).unwrap_err();
    let expected = ProvisioningError::OtherDevice {
        named: own,
        own: stranger,
    };
    assert_eq!(error, expected);
    let error = verify_record(&RustCrypto, &bytes, other.public_key(), &own).unwrap_err();
    let expected = ProvisioningError::Signature(CoseError::UnknownKey);
    assert_eq!(error, expected);
}

#[test]
fn records_that_were_touched_are_refused() {
    let factory = p256(7);
    let own = Ueid::from_random(OWN);
    let bytes = sign_record(&record(), &factory).unwrap();
    let verify = |bytes: &[u8]| verify_record(&RustCrypto, bytes, factory.public_key(), &own);
    each_prefix(&bytes, |cut| {
        verify(cut).unwrap_err();
    });
    each_bit_flip(&bytes, |bit, changed| {
        if bit % 8 == bit / 8 % 8 {
            assert!(verify(changed).is_err(), "bit {bit}");
        }
    });
    let long = [bytes, vec![0; RECORD_LEN_BYTES_MAX]].concat();
    assert!(matches!(
        verify(&long),
        Err(ProvisioningError::TooLong { .. })
    ));
    // What a device could not take is not signed.
    let large = DeviceRecord {
        tam_keys: vec![vec![1; 4040]; 4],
        ..record()
    };
    let signed = sign_record(&large, &factory);
    assert!(matches!(signed, Err(ProvisioningError::TooLong { .. })));
}

#[test]
fn neither_passes_as_the_other_nor_as_anything_else() {
    // One key for both, which no real factory has: the context alone keeps them apart.
    let key = p256(1);
    let own = Ueid::from_random(OWN);
    let headers = Sign1Headers::default();
    let record = record().encode().unwrap();
    for aad in [b"".as_slice(), REPORT_AAD, b"tegata device record v2"] {
        let bytes = sign1(&key, &record, &headers, aad, false).unwrap();
        verify_record(&RustCrypto, &bytes, key.public_key(), &own).unwrap_err();
    }
    let report = report().encode().unwrap();
    for aad in [b"".as_slice(), RECORD_AAD] {
        let bytes = sign1(&key, &report, &headers, aad, false).unwrap();
        verify_report(&RustCrypto, &bytes).unwrap_err();
    }
}
