//! Device reports and records: worked bytes of docs/spec, round trips, limits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tegata_wire::cbor::{self, Value};
use tegata_wire::device::{
    DeviceFileError, DeviceIdentity, DeviceRecord, DeviceReport, Oem, RECORD_LEN_BYTES_MAX,
    REPORT_LEN_BYTES_MAX,
};
use tegata_wire::ids::Ueid;

/// The bytes in a page of docs/spec from `from` on: hexadecimal before `#`, until a blank line.
fn worked(from: &str) -> Vec<u8> {
    let page = include_str!("../../../docs/spec/device-record.md");
    let start = page.find(from).unwrap();
    let lines = page[start..].lines().skip_while(|l| !l.starts_with("    "));
    let text: String = lines
        .take_while(|l| l.starts_with("    "))
        .map(|l| l.split('#').next().unwrap())
        .collect();
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

fn report() -> DeviceReport {
    DeviceReport {
        ueid: Ueid::from_random([0x11; 16]),
        attestation_key: vec![0xa1],
        teep_key: vec![0xa2],
        delivery_key: vec![0xa3],
        tee_version: "0.1.0".into(),
    }
}

fn record() -> DeviceRecord {
    DeviceRecord {
        identity: DeviceIdentity {
            ueid: Ueid::from_random([0x11; 16]),
            serial: "A1".into(),
            oemid: Oem::Pen(1),
            hwmodel: b"M".to_vec(),
            hwversion: "1".into(),
            imei: None,
            mac: None,
            vendor_ids: vec![],
            class_ids: vec![],
        },
        release_keys: vec![vec![0xa1]],
        tam_keys: vec![vec![0xa2]],
        tam_uri: None,
        made_at_secs: 1_760_000_000,
    }
}

#[test]
fn the_worked_bytes_are_these() {
    assert_eq!(worked("Worked bytes, a report"), report().encode().unwrap());
    assert_eq!(worked("Worked bytes, a record"), record().encode().unwrap());
}

#[test]
fn every_cut_and_every_extra_is_refused() {
    let (report, record) = (report().encode().unwrap(), record().encode().unwrap());
    for cut in 0..report.len() {
        DeviceReport::decode(&report[..cut]).unwrap_err();
    }
    for cut in 0..record.len() {
        DeviceRecord::decode(&record[..cut]).unwrap_err();
    }
    for (bytes, is_report) in [(report, true), (record, false)] {
        let decodes = |bytes: &[u8]| {
            if is_report {
                DeviceReport::decode(bytes).is_ok()
            } else {
                DeviceRecord::decode(bytes).is_ok()
            }
        };
        assert!(decodes(&bytes));
        let mut trailing = bytes.clone();
        trailing.push(0);
        assert!(!decodes(&trailing));
        let Value::Map(entries) = cbor::decode(&bytes, 8).unwrap() else {
            panic!()
        };
        let mut more = entries.clone();
        more.push((Value::from(77u64), Value::Null));
        assert!(!decodes(&cbor::encode(&Value::Map(more)).unwrap()));
        for left_out in 0..entries.len() {
            let mut fewer = entries.clone();
            fewer.remove(left_out);
            assert!(!decodes(&cbor::encode(&Value::Map(fewer)).unwrap()));
        }
    }
}

#[test]
fn another_format_of_the_record_is_refused() {
    let bytes = record().encode().unwrap();
    let Value::Map(mut entries) = cbor::decode(&bytes, 8).unwrap() else {
        panic!()
    };
    entries[0].1 = Value::from(2u64);
    let other = cbor::encode(&Value::Map(entries)).unwrap();
    let error = DeviceRecord::decode(&other).unwrap_err();
    assert_eq!(error, DeviceFileError::Format { got: 2 });
}

#[test]
fn what_is_too_long_is_neither_read_nor_written() {
    DeviceReport::decode(&vec![0xa0; REPORT_LEN_BYTES_MAX + 1]).unwrap_err();
    DeviceRecord::decode(&vec![0xa0; RECORD_LEN_BYTES_MAX + 1]).unwrap_err();
    let key = DeviceReport {
        teep_key: vec![0; 513],
        ..report()
    };
    key.encode().unwrap_err();
    let version = DeviceReport {
        tee_version: String::new(),
        ..report()
    };
    version.encode().unwrap_err();
    let many = DeviceRecord {
        tam_keys: vec![vec![1]; 17],
        ..record()
    };
    many.encode().unwrap_err();
    let large = DeviceRecord {
        tam_keys: vec![vec![1; 4096]; 5],
        ..record()
    };
    large.encode().unwrap_err();
}

fn ueid() -> impl Strategy<Value = Ueid> {
    any::<[u8; 16]>().prop_map(Ueid::from_random)
}

fn identity() -> impl Strategy<Value = DeviceIdentity> {
    let oemid = prop_oneof![
        any::<u64>().prop_map(Oem::Pen),
        vec(any::<u8>(), 3).prop_map(Oem::Bytes),
        vec(any::<u8>(), 16).prop_map(Oem::Bytes),
    ];
    let names = ("[a-zA-Z0-9-]{1,64}", "[ -~]{0,32}", option::of("[0-9]{15}"));
    let ids = || vec(any::<[u8; 16]>(), 0..4);
    let rest = (option::of(any::<[u8; 6]>()), ids(), ids());
    (ueid(), oemid, vec(any::<u8>(), 1..32), names, rest).prop_map(
        |(ueid, oemid, hwmodel, (serial, hwversion, imei), (mac, vendor_ids, class_ids))| {
            DeviceIdentity {
                ueid,
                serial,
                oemid,
                hwmodel,
                hwversion,
                imei,
                mac,
                vendor_ids,
                class_ids,
            }
        },
    )
}

fn keys() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), 1..100), 0..16)
}

proptest! {
    #[test]
    fn reports_survive(
        ueid in ueid(),
        keys in vec(vec(any::<u8>(), 1..512), 3),
        tee_version in "[ -~]{1,64}",
    ) {
        let [attestation_key, teep_key, delivery_key] = keys.try_into().unwrap();
        let report = DeviceReport { ueid, attestation_key, teep_key, delivery_key, tee_version };
        let bytes = report.encode().unwrap();
        prop_assert_eq!(DeviceReport::decode(&bytes).unwrap(), report);
    }

    #[test]
    fn records_survive(
        identity in identity(),
        release_keys in keys(),
        tam_keys in keys(),
        tam_uri in option::of("[ -~]{0,200}"),
        made_at_secs: u64,
    ) {
        let record = DeviceRecord { identity, release_keys, tam_keys, tam_uri, made_at_secs };
        let bytes = record.encode().unwrap();
        prop_assert_eq!(DeviceRecord::decode(&bytes).unwrap(), record);
    }

    #[test]
    fn any_bytes_are_judged_and_survived(bytes in vec(any::<u8>(), 0..400)) {
        let _ = DeviceReport::decode(&bytes);
        let _ = DeviceRecord::decode(&bytes);
    }

    #[test]
    fn a_changed_record_is_another_or_none(at in any::<prop::sample::Index>(), by in 1..=255u8) {
        let mut bytes = record().encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        if let Ok(read) = DeviceRecord::decode(&bytes) {
            prop_assert!(read != record());
        }
    }
}
