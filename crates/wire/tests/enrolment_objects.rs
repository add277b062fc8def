//! Enrolment objects: worked bytes of docs/spec, round trips, limits, contradictions.
// Helpers of tests may fail loudly.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::type_complexity
)]

mod cmp_support;

use cmp_support::annotated;
use der::asn1::ObjectIdentifier;
use proptest::prelude::*;
use tegata_wire::{
    cbor::{self, Value},
    device::{DeviceIdentity, Oem},
    enrolment::{
        CertificateOrder, ConfirmMode, Delivery, DeliveryKeks, DeliveryMode, DeliveryRequest,
        DeviceEndorsement, EnrolmentError, FactoryManifest, Identity, IdentityAttribute, KeyKind,
        MAX_NOTICE_BYTES, PersonalizationData, Procedure, ProtocolProfile, ReleaseNotice,
        ReleasePackage, SanTemplate, SenderKid, TamSecrets, Template, expand, sender_kid,
    },
    ids::{ReleaseDigest, Ueid},
    x509::{
        AllegedCsr, AttributeSpec, CertBuilder, ExtensionSet, NameBuilder, SanEntry, SerialNumber,
        SignatureAlg, Validity, assemble_certificate, usage,
    },
};

fn ueid(byte: u8) -> Ueid {
    Ueid::from_random([byte; 16])
}

fn identity() -> Identity {
    Identity {
        ueid: ueid(0x11),
        serial: Some("SN-0001".into()),
        model: Some("TG-1".into()),
        imei: Some("490154203237518".into()),
        mac: Some([2, 0, 0x5e, 0x10, 0, 1]),
    }
}

/// A certificate as long as a real one, with a signature nobody made.
fn anchor(ca: bool) -> Vec<u8> {
    let name = NameBuilder::new()
        .push(AttributeSpec::by_name("CN").unwrap(), "Tegata Root")
        .and_then(NameBuilder::build)
        .unwrap();
    let csr = AllegedCsr::from_der(&annotated("pkcs10/hardware-names.hex")).unwrap();
    let mut extensions = ExtensionSet::new();
    extensions.basic_constraints(ca, None).unwrap();
    let tbs = CertBuilder {
        serial: SerialNumber::from_random(&[1; 16]),
        signature_alg: SignatureAlg::EcdsaSha256,
        issuer: name.clone(),
        validity: Validity {
            not_before_secs: 0,
            not_after_secs: None,
        },
        subject: name,
        spki_der: csr.spki_der,
        extensions,
    }
    .to_tbs()
    .unwrap();
    assemble_certificate(&tbs, SignatureAlg::EcdsaSha256, &[1; 64]).unwrap()
}

fn attribute(name: &str, template: &str) -> (&'static AttributeSpec, Template) {
    (
        AttributeSpec::by_name(name).unwrap(),
        Template::new(template).unwrap(),
    )
}

fn procedure() -> Procedure {
    let hw = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1");
    let order = CertificateOrder {
        profile: "device".into(),
        key_kind: KeyKind::P256,
        subject: vec![
            attribute("O", "手形"),
            attribute("serialNumber", "{serial}"),
        ],
        san: vec![
            SanTemplate::HardwareModule {
                hw_type: hw,
                serial: Template::new("{ueid}").unwrap(),
            },
            SanTemplate::PermanentIdentifier {
                value: Template::new("{model}-{serial}").unwrap(),
                assigner: Some(hw),
            },
            SanTemplate::Dns(Template::new("{serial}.dev.example").unwrap()),
            SanTemplate::Uri(Template::new("urn:dev:mac:{mac}").unwrap()),
        ],
        required: vec![
            IdentityAttribute::Serial,
            IdentityAttribute::Model,
            IdentityAttribute::Mac,
        ],
        key_usage: usage::DIGITAL_SIGNATURE,
        ext_key_usage: vec![tegata_wire::x509::oid::KP_CLIENT_AUTH],
        validity_secs: Some(31_536_000),
        renewal_window_secs: 2_592_000,
        cmp_path: "/.well-known/cmp/p/device".into(),
        confirm_mode: ConfirmMode::Explicit,
    };
    Procedure {
        release_name: "enrol 1".into(),
        protocol_profile: ProtocolProfile::Default,
        certificates: vec![order],
        trust_anchors: vec![anchor(true)],
    }
}

/// One that orders a second kind, for key agreement.
fn procedure_of_two() -> Procedure {
    let mut p = procedure();
    let mut second = p.certificates[0].clone();
    second.profile = "agreement".into();
    second.key_usage = usage::KEY_AGREEMENT;
    second.validity_secs = None;
    second.renewal_window_secs = 0;
    second.cmp_path = "/.well-known/cmp/p/agreement".into();
    p.certificates.push(second);
    p
}

#[test]
fn templates_expand_and_nothing_else() {
    let id = identity();
    for (template, text) in [
        ("plain", "plain"),
        ("{serial}", "SN-0001"),
        ("x{ueid}y", &format!("x01{}y", "11".repeat(16))),
        (
            "{imei}/{mac}/{model}",
            "490154203237518/02:00:5e:10:00:01/TG-1",
        ),
        ("{{{serial}}}", "{SN-0001}"),
        ("}}{{", "}{"),
        ("手形{serial}", "手形SN-0001"),
    ] {
        assert_eq!(expand(template, &id).unwrap(), text);
    }
    for bad in [
        "",
        "{",
        "}",
        "{serial",
        "serial}",
        "{}",
        "{Serial}",
        "{ serial}",
        "{{serial}",
        "{a{b}}",
        "a\0",
    ] {
        assert_eq!(Template::new(bad), Err(EnrolmentError::Template), "{bad:?}");
    }
    assert!(Template::new(&"x".repeat(257)).is_err());
    let bare = Identity::new(ueid(1));
    let missing = Err(EnrolmentError::MissingIdentity(IdentityAttribute::Serial));
    assert_eq!(expand("{serial}", &bare), missing);
    let empty = Identity {
        serial: Some(String::new()),
        ..bare
    };
    assert_eq!(expand("{serial}", &empty), missing);
    // What a device inserts is not expanded again.
    let sly = Identity {
        serial: Some("{ueid}".into()),
        ..identity()
    };
    assert_eq!(expand("{serial}", &sly).unwrap(), "{ueid}");
    let long = Identity {
        serial: Some("x".repeat(600)),
        ..identity()
    };
    assert!(expand("{serial}", &long).is_err());
}

#[test]
fn a_procedure_names_one_device() {
    let p = procedure();
    let again = Procedure::decode(&p.encode().unwrap()).unwrap();
    assert_eq!(again, p);
    let id = identity();
    p.certificates[0].check_identity(&id).unwrap();
    assert_eq!(
        p.certificates[0].subject(&id).unwrap().to_display(),
        "O=手形, serialNumber=SN-0001"
    );
    let hw_type = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1");
    assert_eq!(
        p.certificates[0].san(&id).unwrap(),
        [
            SanEntry::HardwareModule {
                hw_type,
                hw_serial: format!("01{}", "11".repeat(16)).into_bytes()
            },
            SanEntry::PermanentIdentifier {
                value: Some("TG-1-SN-0001".into()),
                assigner: Some(hw_type)
            },
            SanEntry::Dns("SN-0001.dev.example".into()),
            SanEntry::Uri("urn:dev:mac:02:00:5e:10:00:01".into()),
        ]
    );
    let lacking = Identity { mac: None, ..id };
    let expected = Err(EnrolmentError::MissingIdentity(IdentityAttribute::Mac));
    assert_eq!(p.certificates[0].check_identity(&lacking), expected);
}

#[test]
fn a_procedure_that_contradicts_itself_is_neither_written_nor_read() {
    type Change = fn(&mut Procedure);
    let changes: [(&str, Change); 21] = [
        ("no certificate", |p| p.certificates.clear()),
        ("a profile twice", |p| {
            p.certificates.push(p.certificates[0].clone())
        }),
        ("too many certificates", |p| {
            for n in 0..8 {
                let mut order = p.certificates[0].clone();
                order.profile = format!("p{n}");
                p.certificates.push(order);
            }
        }),
        ("no name at all", |p| {
            p.certificates[0].subject.clear();
            p.certificates[0].san.clear();
        }),
        ("no release name", |p| p.release_name.clear()),
        ("no profile", |p| p.certificates[0].profile.clear()),
        ("attribute not required", |p| {
            p.certificates[0].required.clear()
        }),
        ("required twice", |p| {
            p.certificates[0].required.push(IdentityAttribute::Mac)
        }),
        ("usage twice", |p| {
            let order = &mut p.certificates[0];
            order.ext_key_usage.push(order.ext_key_usage[0]);
        }),
        ("no key usage", |p| p.certificates[0].key_usage = 0),
        ("unknown key usage", |p| p.certificates[0].key_usage = 0x200),
        ("no lifetime", |p| p.certificates[0].validity_secs = Some(0)),
        ("endless number", |p| {
            p.certificates[0].validity_secs = Some(u64::MAX)
        }),
        ("renewal before birth", |p| {
            p.certificates[0].renewal_window_secs = 31_536_000
        }),
        ("renewal of the endless", |p| {
            p.certificates[0].validity_secs = None
        }),
        ("no anchor", |p| p.trust_anchors.clear()),
        ("anchor is no CA", |p| p.trust_anchors = vec![anchor(false)]),
        ("anchor is no certificate", |p| {
            p.trust_anchors = vec![vec![0x30, 0x00]]
        }),
        ("relative path", |p| {
            p.certificates[0].cmp_path = "cmp".into()
        }),
        ("path that climbs", |p| {
            p.certificates[0].cmp_path = "/a/../b".into()
        }),
        ("path with a query", |p| {
            p.certificates[0].cmp_path = "/a?b=c".into()
        }),
    ];
    for (what, change) in changes {
        let mut p = procedure();
        change(&mut p);
        assert!(p.encode().is_err(), "{what}");
    }
    let bytes = procedure().encode().unwrap();
    // The same values, put into the bytes by somebody else.
    let edits: [(i64, Value); 14] = [
        (1, Value::from(2)),
        (4, Value::from(2)),
        (5, Value::from(-7)),
        (
            6,
            Value::Array(vec![Value::Array(vec![
                Value::from("colour"),
                Value::from("red"),
            ])]),
        ),
        (
            7,
            Value::Array(vec![Value::Array(vec![Value::from(9), Value::from("x")])]),
        ),
        (
            7,
            Value::Array(vec![Value::Array(vec![Value::from(2), Value::from("x")])]),
        ),
        (8, Value::Array(vec![Value::from(99)])),
        (9, Value::from(0)),
        (10, Value::Array(vec![Value::Bytes(vec![0x80])])),
        (14, Value::from("//x")),
        (15, Value::from(2)),
        (16, Value::from(0)),
        (16, Value::Array(vec![])),
        (17, Value::from(0)),
    ];
    for (label, value) in edits {
        let Value::Map(mut entries) = cbor::decode(&bytes, 4).unwrap() else {
            panic!()
        };
        entries.retain(|(k, _)| *k != Value::from(label));
        entries.push((Value::from(label), value));
        let edited = cbor::encode(&Value::Map(entries)).unwrap();
        assert!(Procedure::decode(&edited).is_err(), "label {label}");
    }
}

#[test]
fn a_procedure_orders_several_kinds_of_certificate() {
    let p = procedure_of_two();
    let bytes = p.encode().unwrap();
    assert_eq!(Procedure::decode(&bytes).unwrap(), p);
    assert_eq!(p.certificate("agreement"), p.certificates.get(1));
    assert_eq!(p.certificate("other"), None);
    // The first stands where the only one stood before there could be several.
    let Value::Map(mut entries) = cbor::decode(&bytes, 6).unwrap() else {
        panic!()
    };
    entries.retain(|(k, _)| *k != Value::from(16));
    let one = cbor::encode(&Value::Map(entries.clone())).unwrap();
    assert_eq!(one, procedure().encode().unwrap());
    // An entry of the whole has no place in one of them, nor an unknown one.
    for label in [1, 2, 4, 13, 16, 77] {
        let mut order = vec![(Value::from(label), Value::from(1))];
        let Value::Map(whole) = cbor::decode(&bytes, 6).unwrap() else {
            panic!()
        };
        let further = whole.iter().find(|(k, _)| *k == Value::from(16)).unwrap();
        let Value::Map(fields) = further.1.as_array().unwrap()[0].clone() else {
            panic!()
        };
        order.extend(fields);
        let mut edited = entries.clone();
        edited.push((
            Value::from(16),
            Value::Array(vec![Value::Map(order.clone())]),
        ));
        let edited = cbor::encode(&Value::Map(edited)).unwrap();
        assert!(Procedure::decode(&edited).is_err(), "label {label}");
    }
}

#[test]
fn sender_kid_names_release_and_device() {
    let release = ReleaseDigest([0xab; 32]);
    let kid = sender_kid(&release, &ueid(0x22));
    assert_eq!(
        hex::encode(&kid),
        format!("{}01{}", "ab".repeat(16), "22".repeat(16))
    );
    let parsed = SenderKid::parse(&kid).unwrap();
    assert_eq!(parsed, SenderKid::new(&release, &ueid(0x22)));
    assert!(parsed.is_of(&release));
    assert!(!parsed.is_of(&ReleaseDigest([0xac; 32])));
    assert_eq!(parsed.to_bytes(), kid);
    for len in [0, 15, 16, 22] {
        assert!(SenderKid::parse(&kid[..len]).is_err(), "{len}");
    }
    assert!(SenderKid::parse(&[0; 50]).is_err());
}

#[test]
fn personalization_data_is_for_one_device_or_for_a_release() {
    let release = ReleaseDigest([0xab; 32]);
    let data = PersonalizationData::for_device(&[0x42; 32], &release, &ueid(0x22));
    let bytes = data.encode().unwrap();
    assert_eq!(bytes[..], annotated("enrolment/personalization.hex")[..]);
    let again = PersonalizationData::decode(&bytes).unwrap();
    assert_eq!(again.expose_csr_auth_key(), &[0x42; 32]);
    assert_eq!(again.ueid(), Some(&ueid(0x22)));
    let kid = again.sender_kid(&ueid(0x22)).unwrap();
    assert_eq!(kid, SenderKid::new(&release, &ueid(0x22)));
    assert!(again.sender_kid(&ueid(0x23)).is_err());

    let shared = PersonalizationData::for_release(&[0x42; 32], &release)
        .encode()
        .unwrap();
    let shared = PersonalizationData::decode(&shared).unwrap();
    assert_eq!(shared.ueid(), None);
    assert_eq!(
        shared.sender_kid(&ueid(9)).unwrap(),
        SenderKid::new(&release, &ueid(9))
    );

    let kid = vec![1; 33];
    for (key, kid) in [
        (31, &kid[..]),
        (33, &kid),
        (32, &kid[..15]),
        (32, &kid[..17]),
        (32, &[0; 50]),
    ] {
        let bad = Value::Map(vec![
            (Value::from(1), Value::Bytes(vec![0; key])),
            (Value::from(2), Value::Bytes(kid.to_vec())),
        ]);
        assert!(PersonalizationData::decode(&cbor::encode(&bad).unwrap()).is_err());
    }
}

fn endorsement(byte: u8) -> DeviceEndorsement {
    DeviceEndorsement {
        identity: DeviceIdentity {
            ueid: ueid(byte),
            serial: format!("SN-{byte}"),
            oemid: Oem::Pen(32_473),
            hwmodel: b"TG-1".to_vec(),
            hwversion: "A".into(),
            imei: Some("490154203237518".into()),
            mac: Some([2, 0, 0, 0, 0, byte]),
            vendor_ids: vec![[1; 16]],
            class_ids: vec![[2; 16], [3; 16]],
        },
        attestation_key: vec![0xa1; 70],
        teep_key: vec![0xa2; 70],
        delivery_key: vec![0xa3; 70],
        security_level: "software".into(),
    }
}

fn manifest() -> FactoryManifest {
    FactoryManifest {
        batch: "2026-11-A".into(),
        maker: "手形工場".into(),
        made_at_secs: 1_795_334_482,
        devices: vec![endorsement(1), endorsement(2)],
    }
}

#[test]
fn a_factory_manifest_lists_each_device_once() {
    let m = manifest();
    assert_eq!(FactoryManifest::decode(&m.encode().unwrap()).unwrap(), m);
    let mut other = endorsement(3);
    other.identity.oemid = Oem::Bytes(vec![1, 2, 3]);
    other.identity.imei = None;
    other.identity.mac = None;
    let m = FactoryManifest {
        devices: vec![other],
        ..m
    };
    assert_eq!(FactoryManifest::decode(&m.encode().unwrap()).unwrap(), m);
    assert_eq!(
        Identity::from(&m.devices[0].identity).model.as_deref(),
        Some("TG-1")
    );

    type Change = fn(&mut FactoryManifest);
    let changes: [(&str, Change); 9] = [
        ("a device twice", |m| m.devices[1] = m.devices[0].clone()),
        ("no serial", |m| m.devices[0].identity.serial.clear()),
        ("imei of letters", |m| {
            m.devices[0].identity.imei = Some("a".repeat(15))
        }),
        ("oemid of 4 bytes", |m| {
            m.devices[0].identity.oemid = Oem::Bytes(vec![0; 4])
        }),
        ("no model", |m| m.devices[0].identity.hwmodel.clear()),
        ("no key", |m| m.devices[0].teep_key.clear()),
        ("a huge key", |m| m.devices[0].delivery_key = vec![0; 4097]),
        ("no level", |m| m.devices[0].security_level.clear()),
        ("no batch", |m| m.batch.clear()),
    ];
    for (what, change) in changes {
        let mut m = manifest();
        change(&mut m);
        assert!(m.encode().is_err(), "{what}");
    }
}

#[test]
fn a_large_batch_fits_its_limits() {
    let mut devices = Vec::new();
    for n in 0..2000u16 {
        let mut device = endorsement(0);
        let mut random = [0; 16];
        random[..2].copy_from_slice(&n.to_be_bytes());
        device.identity.ueid = Ueid::from_random(random);
        devices.push(device);
    }
    let m = FactoryManifest {
        devices,
        ..manifest()
    };
    let bytes = m.encode().unwrap();
    assert!(
        bytes.len() / 2000 < 600,
        "{} bytes for each device",
        bytes.len() / 2000
    );
    assert_eq!(FactoryManifest::decode(&bytes).unwrap().devices.len(), 2000);
}

#[test]
fn delivery_keys_are_found_by_device() {
    let mut keks = DeliveryKeks::new();
    for byte in [3, 1, 2] {
        keks.insert(ueid(byte), &[byte; 16]);
    }
    let again = DeliveryKeks::decode(&keks.encode().unwrap()).unwrap();
    assert_eq!(again.len(), 3);
    assert_eq!(again.expose(&ueid(2)), Some(&[2; 16]));
    assert_eq!(again.expose(&ueid(4)), None);
    let all: Vec<u8> = again.expose_all().map(|(_, k)| k[0]).collect();
    assert_eq!(all, [1, 2, 3]);
    assert!(
        DeliveryKeks::decode(&DeliveryKeks::new().encode().unwrap())
            .unwrap()
            .is_empty()
    );
}

fn delivery() -> Delivery {
    Delivery {
        ta_encryption_info: vec![1; 120],
        config_envelope: vec![2; 400],
        config_encryption_info: vec![3; 120],
        config_ciphertext: vec![4; 100],
    }
}

fn package() -> ReleasePackage {
    ReleasePackage {
        ta_envelope: vec![1; 500],
        ta_ciphertext: vec![2; 30_000],
        ta_iv: [3; 12],
        mode: DeliveryMode::Asymmetric,
        config_envelope: None,
        tam_secrets: None,
        notice: None,
    }
}

fn notice() -> ReleaseNotice {
    ReleaseNotice {
        release: ReleaseDigest([0xab; 32]),
        number: 2,
        available: "batch:試作,2026-11".into(),
    }
}

#[test]
fn deliveries_and_requests_round_trip() {
    let request = DeliveryRequest {
        release_digest: ReleaseDigest([0xab; 32]),
        ueid: ueid(0x22),
        issued_at_secs: 1_795_334_482,
    };
    let bytes = request.encode().unwrap();
    assert_eq!(bytes, annotated("enrolment/delivery-request.hex"));
    assert_eq!(DeliveryRequest::decode(&bytes).unwrap(), request);
    let d = delivery();
    assert_eq!(Delivery::decode(&d.encode().unwrap()).unwrap(), d);
    assert!(
        Delivery {
            config_ciphertext: vec![],
            ..delivery()
        }
        .encode()
        .is_err()
    );
    assert!(
        Delivery {
            config_ciphertext: vec![0; 4097],
            ..delivery()
        }
        .encode()
        .is_err()
    );
    assert!(
        Delivery {
            config_envelope: vec![0; 65_537],
            ..delivery()
        }
        .encode()
        .is_err()
    );
}

#[test]
fn packages_match_their_mode() {
    let p = package();
    assert_eq!(ReleasePackage::decode(&p.encode().unwrap()).unwrap(), p);
    let symmetric = ReleasePackage {
        mode: DeliveryMode::Symmetric,
        config_envelope: Some(vec![5; 300]),
        tam_secrets: Some(vec![6; 300]),
        ..package()
    };
    assert_eq!(
        ReleasePackage::decode(&symmetric.encode().unwrap()).unwrap(),
        symmetric
    );
    for bad in [
        ReleasePackage {
            mode: DeliveryMode::Symmetric,
            ..package()
        },
        ReleasePackage {
            mode: DeliveryMode::Asymmetric,
            ..symmetric.clone()
        },
        ReleasePackage {
            tam_secrets: None,
            ..symmetric.clone()
        },
        ReleasePackage {
            config_envelope: None,
            ..symmetric
        },
        ReleasePackage {
            notice: Some(vec![]),
            ..package()
        },
        ReleasePackage {
            notice: Some(vec![0; MAX_NOTICE_BYTES + 1]),
            ..package()
        },
        ReleasePackage {
            ta_ciphertext: vec![0; 16],
            ..package()
        },
        ReleasePackage {
            ta_ciphertext: vec![0; 4 * 1024 * 1024 + 1],
            ..package()
        },
    ] {
        assert!(bad.encode().is_err());
    }
    let noticed = ReleasePackage {
        notice: Some(notice().encode().unwrap()),
        ..package()
    };
    let bytes = noticed.encode().unwrap();
    assert_eq!(ReleasePackage::decode(&bytes).unwrap(), noticed);
    for (available, fits) in [
        (0, false),
        (1, true),
        (48 * 1024, true),
        (48 * 1024 + 1, false),
    ] {
        let notice = ReleaseNotice {
            available: "x".repeat(available),
            ..notice()
        };
        assert_eq!(notice.encode().is_ok(), fits, "{available}");
    }
    let secrets = TamSecrets::new(&[7; 16], &[8; 99]).encode().unwrap();
    let secrets = TamSecrets::decode(&secrets).unwrap();
    assert_eq!(secrets.expose_cek(), &[7; 16]);
    assert_eq!(secrets.expose_config(), [8; 99]);
    assert!(TamSecrets::new(&[7; 16], &[]).encode().is_err());
}

/// Every object's bytes, and whether bytes are that object.
fn objects() -> Vec<(&'static str, Vec<u8>, fn(&[u8]) -> bool)> {
    let release = ReleaseDigest([0xab; 32]);
    let data = PersonalizationData::for_device(&[0x42; 32], &release, &ueid(0x22));
    let mut keks = DeliveryKeks::new();
    keks.insert(ueid(1), &[1; 16]);
    let request = DeliveryRequest {
        release_digest: release,
        ueid: ueid(1),
        issued_at_secs: 5,
    };
    let secrets = TamSecrets::new(&[7; 16], &[8; 99]);
    let package = ReleasePackage {
        ta_ciphertext: vec![1; 40],
        ..package()
    };
    vec![
        ("procedure", procedure().encode().unwrap(), |b| {
            Procedure::decode(b).is_ok()
        }),
        (
            "procedure of two",
            procedure_of_two().encode().unwrap(),
            |b| Procedure::decode(b).is_ok(),
        ),
        ("personalization", data.encode().unwrap().to_vec(), |b| {
            PersonalizationData::decode(b).is_ok()
        }),
        ("manifest", manifest().encode().unwrap(), |b| {
            FactoryManifest::decode(b).is_ok()
        }),
        ("keks", keks.encode().unwrap().to_vec(), |b| {
            DeliveryKeks::decode(b).is_ok()
        }),
        ("request", request.encode().unwrap(), |b| {
            DeliveryRequest::decode(b).is_ok()
        }),
        ("delivery", delivery().encode().unwrap(), |b| {
            Delivery::decode(b).is_ok()
        }),
        ("notice", notice().encode().unwrap(), |b| {
            ReleaseNotice::decode(b).is_ok()
        }),
        ("package", package.encode().unwrap(), |b| {
            ReleasePackage::decode(b).is_ok()
        }),
        ("secrets", secrets.encode().unwrap().to_vec(), |b| {
            TamSecrets::decode(b).is_ok()
        }),
    ]
}

#[test]
fn prefixes_suffixes_unknown_labels_and_floods_are_refused() {
    for (what, bytes, accepts) in objects() {
        assert!(accepts(&bytes), "{what}");
        for len in 0..bytes.len() {
            assert!(!accepts(&bytes[..len]), "{what} cut at {len}");
        }
        assert!(
            !accepts(&[&bytes[..], &[0]].concat()),
            "{what} with a byte more"
        );
        let Value::Map(mut entries) = cbor::decode(&bytes, 6).unwrap() else {
            panic!("{what}")
        };
        entries.push((Value::from(77), Value::from(1)));
        assert!(
            !accepts(&cbor::encode(&Value::Map(entries.clone())).unwrap()),
            "{what}"
        );
        entries.pop();
        for drop in 0..entries.len() {
            let mut fewer = entries.clone();
            let (label, _) = fewer.remove(drop);
            // Further kinds of certificate may be absent.
            if what == "procedure of two" && label == Value::from(16) {
                continue;
            }
            // The validity of a procedure is the one entry that may be absent alone; without it a
            // renewal window makes no sense.
            assert!(
                !accepts(&cbor::encode(&Value::Map(fewer)).unwrap()),
                "{what} lacks {label:?}"
            );
        }
        for flood in [
            "9bffffffffffffffff",
            "bbffffffffffffffff",
            "5bffffffffffffffff",
            "a15affffffff",
        ] {
            assert!(!accepts(&hex::decode(flood).unwrap()), "{what}");
        }
        assert!(!accepts(&[0x81; 100_000]), "{what}");
    }
}

proptest! {
    #[test]
    fn arbitrary_and_altered_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        for (_, mut object, accepts) in objects() {
            accepts(&bytes);
            let at = at.index(object.len());
            object[at] = value;
            accepts(&object);
        }
    }

    #[test]
    fn procedures_round_trip(
        name in "[ -~手形]{1,30}", alg in 0usize..3, usage in 1u16..0x200, paper in any::<bool>(),
        validity in proptest::option::of(60u64..1_000_000), implicit in any::<bool>(),
        text in "[a-z手形]{1,20}", path in "(/[a-z0-9._~-]{0,5}[a-z]){1,8}",
    ) {
        let mut p = procedure();
        p.release_name = name;
        p.certificates[0].key_kind = [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519][alg];
        p.certificates[0].key_usage = usage;
        p.protocol_profile =
            if paper { ProtocolProfile::Paper } else { ProtocolProfile::Default };
        p.certificates[0].validity_secs = validity;
        p.certificates[0].renewal_window_secs = validity.map_or(0, |v| v / 3);
        p.certificates[0].confirm_mode = if implicit { ConfirmMode::Implicit } else { ConfirmMode::Explicit };
        p.certificates[0].subject.push(attribute("CN", &format!("{text} {{serial}}")));
        p.certificates[0].cmp_path = path;
        prop_assert_eq!(Procedure::decode(&p.encode().unwrap()).unwrap(), p);
    }

    #[test]
    fn expansion_inserts_the_serial_verbatim(serial in "[ -~手形]{1,40}") {
        let id = Identity { serial: Some(serial.clone()), ..identity() };
        prop_assert_eq!(expand("<{serial}>", &id).unwrap(), format!("<{serial}>"));
    }
}
