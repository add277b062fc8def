//! Certification requests, certificates and names.
// Helpers of tests may fail loudly.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::type_complexity
)]

mod cmp_support;

use cmp_support::{annotated, files_below, judge, outside_vectors, pem_blocks};
use der::{Decode, Encode, asn1::ObjectIdentifier};
use proptest::prelude::*;
use tegata_wire::cmp::CertId;
use tegata_wire::x509::{
    AllegedCsr, AttestationBundle, AttributeSpec, CertBuilder, CertView, CsrBuilder,
    DistinguishedName, Extension, ExtensionSet, KeyUsages, MAX_CERT_BYTES, MAX_EXTENSIONS,
    MAX_RDNS, NameBuilder, SanEntry, SerialNumber, SignatureAlg, Validity, X509Error,
    assemble_certificate, assemble_csr, decode_san, ecdsa_from_der, ecdsa_to_der, encode_san, oid,
    usage,
};

const CSR: &str = "pkcs10/hardware-names.hex";

fn name(pairs: &[(&str, &str)]) -> DistinguishedName {
    let mut builder = NameBuilder::new();
    for (attribute, text) in pairs {
        builder = builder
            .push(AttributeSpec::by_name(attribute).unwrap(), text)
            .unwrap();
    }
    builder.build().unwrap()
}

fn push(attribute: &str, text: &str) -> Result<NameBuilder, X509Error> {
    NameBuilder::new().push(AttributeSpec::by_name(attribute).unwrap(), text)
}

fn hardware_names() -> Vec<SanEntry> {
    vec![
        SanEntry::HardwareModule {
            hw_type: ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1"),
            hw_serial: b"SN-0001".to_vec(),
        },
        SanEntry::PermanentIdentifier {
            value: Some("SN-0001".into()),
            assigner: Some(ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.2")),
        },
        SanEntry::Dns("sn-0001.example".into()),
        SanEntry::Uri("urn:uuid:0c508dfd-abe0-5921-8602-f2f0791e49f5".into()),
        SanEntry::Ip(vec![192, 0, 2, 7]),
    ]
}

fn key_usage_request() -> Extension {
    let mut set = ExtensionSet::new();
    set.key_usage(KeyUsages::DigitalSignature.into()).unwrap();
    set.as_slice()[0].clone()
}

#[test]
fn a_request_of_another_implementation_is_read_and_built_alike() {
    let bytes = annotated(CSR);
    let csr = AllegedCsr::from_der(&bytes).unwrap();
    assert_eq!(
        csr.subject.to_display(),
        "C=JP, O=手形株式会社, serialNumber=SN-0001"
    );
    assert_eq!(csr.san().unwrap(), hardware_names());
    assert_eq!(csr.signature_alg(), Some(SignatureAlg::EcdsaSha256));
    assert_eq!(
        csr.extensions.find(&oid::KEY_USAGE),
        Some(&key_usage_request())
    );
    assert_eq!(csr.to_der().unwrap(), bytes);
    assert_eq!(csr.as_der(), bytes);

    let built = CsrBuilder {
        subject: name(&[
            ("C", "JP"),
            ("O", "手形株式会社"),
            ("serialNumber", "SN-0001"),
        ]),
        spki_der: csr.spki_der.clone(),
        san: hardware_names(),
        extensions: vec![key_usage_request()],
    };
    let tbs = built.to_tbs().unwrap();
    assert_eq!(tbs, csr.tbs_der);
    let raw = SignatureAlg::EcdsaSha256
        .signature_from_bits(&csr.signature)
        .unwrap();
    assert_eq!(
        assemble_csr(&tbs, SignatureAlg::EcdsaSha256, &raw).unwrap(),
        bytes
    );
}

#[test]
fn a_request_names_what_it_is_in_place_of() {
    let builder = |san| CsrBuilder {
        subject: name(&[("CN", "device")]),
        spki_der: AllegedCsr::from_der(&annotated(CSR)).unwrap().spki_der,
        san,
        extensions: vec![],
    };
    // 30 len a4 len Name, INTEGER, by hand.
    let issuer = name(&[("CN", "CA")]);
    let inner = [
        &[0xa4, issuer.as_der().len() as u8][..],
        issuer.as_der(),
        &[2, 2, 1, 0x7f],
    ]
    .concat();
    let id = [&[0x30, inner.len() as u8][..], &inner].concat();
    for san in [vec![], hardware_names()] {
        let tbs = builder(san).to_tbs_in_place_of(Some(&id)).unwrap();
        let der = assemble_csr(&tbs, SignatureAlg::EcdsaSha256, &[1; 64]).unwrap();
        let read = AllegedCsr::from_der(&der).unwrap();
        let old = CertId::of_request(&read).unwrap().unwrap();
        assert_eq!(
            (old.serial(), old.issuer_der().as_deref()),
            (&[1, 0x7f][..], Some(issuer.as_der()))
        );
        assert_eq!(read.to_der().unwrap(), der, "a SET OF in its order");
        // Two values, none, and something else.
        for values in [[&id[..], &id].concat(), vec![], vec![5, 0]] {
            let mut other = read.clone();
            let at = other
                .attributes
                .iter_mut()
                .find(|a| a.oid == oid::REG_CTRL_OLD_CERT_ID);
            at.unwrap().values = [&[0x31, values.len() as u8][..], &values].concat();
            assert!(CertId::of_request(&other).is_err(), "{values:?}");
        }
    }
    assert!(
        builder(vec![])
            .to_tbs_in_place_of(Some(&[0x30, 5, 0]))
            .is_err()
    );
    let plain = AllegedCsr::from_der(&annotated(CSR)).unwrap();
    assert_eq!(CertId::of_request(&plain).unwrap(), None);
}

#[test]
fn outside_requests_round_trip() {
    let Some(folder) = outside_vectors("pkcs10") else {
        return;
    };
    let mut results = Vec::new();
    for file in files_below(&folder) {
        let bytes = std::fs::read(folder.join(&file)).unwrap();
        let bytes = match file.rsplit('.').next() {
            Some("der") => bytes,
            Some("pem") => pem_blocks(std::str::from_utf8(&bytes).unwrap()).remove(0).1,
            _ => continue,
        };
        let result = AllegedCsr::from_der(&bytes)
            .and_then(|c| c.to_der())
            .map_err(|e| e.to_string())
            .and_then(|b| {
                if b == bytes {
                    Ok(())
                } else {
                    Err("bytes differ".into())
                }
            });
        results.push((file, result));
    }
    assert!(!results.is_empty());
    judge(&results, &[]);
}

#[test]
fn outside_requests_with_attestations() {
    let Some(folder) = outside_vectors("csr-attestation") else {
        return;
    };
    let mut read = 0;
    for file in files_below(&folder) {
        if !file.ends_with(".pem") {
            continue;
        }
        let text = std::fs::read_to_string(folder.join(&file)).unwrap();
        let csr = AllegedCsr::from_der(&pem_blocks(&text).remove(0).1).unwrap();
        let bundle = AttestationBundle::of_request(&csr).unwrap().unwrap();
        // tcg-attest-tpm-certify, with the chain of the attestation key.
        let kinds: Vec<_> = bundle
            .statements
            .iter()
            .map(|s| s.kind.to_string())
            .collect();
        assert_eq!(kinds, ["2.23.133.20.1"], "{file}");
        assert!(!bundle.certs.is_empty(), "{file}");
        let again = AttestationBundle::from_der(&bundle.to_der().unwrap()).unwrap();
        assert_eq!(again, bundle, "{file}");
        read += 1;
    }
    assert!(read > 0, "there is no request");
}

#[test]
fn cut_lengthened_and_flipped_requests() {
    let bytes = annotated(CSR);
    for len in 0..bytes.len() {
        assert!(AllegedCsr::from_der(&bytes[..len]).is_err(), "cut at {len}");
    }
    assert!(AllegedCsr::from_der(&[&bytes[..], &[0]].concat()).is_err());
    let original = AllegedCsr::from_der(&bytes).unwrap();
    for at in 0..bytes.len() {
        for mask in [0x01, 0x20, 0x80, 0xff] {
            let mut altered = bytes.clone();
            altered[at] ^= mask;
            let Ok(csr) = AllegedCsr::from_der(&altered) else {
                continue;
            };
            let _ = csr.san();
            let seen = csr.tbs_der != original.tbs_der
                || csr.signature != original.signature
                || csr.signature_algorithm != original.signature_algorithm;
            assert!(seen, "change at {at} is invisible");
        }
    }
}

/// A request with the given attributes, DER of each.
fn with_attributes(attributes: &[Vec<u8>]) -> Vec<u8> {
    let csr = AllegedCsr::from_der(&annotated(CSR)).unwrap();
    let mut info = vec![2, 1, 0];
    info.extend_from_slice(csr.subject.as_der());
    info.extend_from_slice(&csr.spki_der);
    let tag = der::Tag::ContextSpecific {
        constructed: true,
        number: der::TagNumber(0),
    };
    info.extend(
        der::Any::new(tag, attributes.concat())
            .unwrap()
            .to_der()
            .unwrap(),
    );
    let info = der::Any::new(der::Tag::Sequence, info)
        .unwrap()
        .to_der()
        .unwrap();
    assemble_csr(&info, SignatureAlg::Ed25519, &[1; 64]).unwrap()
}

#[test]
fn nothing_occurs_twice_in_a_request() {
    let csr = AllegedCsr::from_der(&annotated(CSR)).unwrap();
    let attribute = |values: &[u8]| {
        let oid = csr.attributes[0].oid.to_der().unwrap();
        der::Any::new(der::Tag::Sequence, [&oid[..], values].concat())
            .unwrap()
            .to_der()
            .unwrap()
    };
    let values = csr.attributes[0].values.clone();
    let once = with_attributes(&[attribute(&values)]);
    assert_eq!(
        AllegedCsr::from_der(&once).unwrap().extensions,
        csr.extensions
    );
    let twice = with_attributes(&[attribute(&values), attribute(&values)]);
    let expected = X509Error::Duplicate {
        oid: oid::EXTENSION_REQUEST,
    };
    assert_eq!(AllegedCsr::from_der(&twice), Err(expected));
    // One attribute with two values, then one with an extension twice.
    let inner = der::Any::from_der(&values).unwrap();
    let doubled = [inner.value(), inner.value()].concat();
    let doubled = der::Any::new(der::Tag::Set, doubled)
        .unwrap()
        .to_der()
        .unwrap();
    assert!(AllegedCsr::from_der(&with_attributes(&[attribute(&doubled)])).is_err());
    let list = der::Any::from_der(inner.value()).unwrap();
    let list = [list.value(), list.value()].concat();
    let list = der::Any::new(der::Tag::Sequence, list)
        .unwrap()
        .to_der()
        .unwrap();
    let set = der::Any::new(der::Tag::Set, list)
        .unwrap()
        .to_der()
        .unwrap();
    let expected = X509Error::Duplicate {
        oid: oid::SUBJECT_ALT_NAME,
    };
    assert_eq!(
        AllegedCsr::from_der(&with_attributes(&[attribute(&set)])),
        Err(expected)
    );
    // No attribute at all is a request too.
    let none = AllegedCsr::from_der(&with_attributes(&[])).unwrap();
    assert!(none.san().unwrap().is_empty() && none.attributes.is_empty());
    assert!(AllegedCsr::from_der(&vec![0x30; MAX_CERT_BYTES + 1]).is_err());
}

#[test]
fn names_take_the_narrowest_string_that_holds_them() {
    let der = |attribute, text| hex::encode(name(&[(attribute, text)]).as_der());
    assert_eq!(der("CN", "a"), "300c310a30080603550403130161");
    assert_eq!(der("CN", "a_b"), "300e310c300a06035504030c03615f62");
    assert_eq!(der("commonName", "手"), "300e310c300a06035504030c03e6898b");
    assert_eq!(
        der("DC", "a"),
        "30133111300f060a0992268993f22c64011916".to_owned() + "0161"
    );
    for (attribute, text) in [
        ("C", "手形"),
        ("C", "JPN"),
        ("C", "J"),
        ("serialNumber", "番号"),
        ("dnQualifier", "a_b"),
        ("DC", "手"),
        ("CN", ""),
        ("CN", "a\nb"),
        ("CN", &"x".repeat(65)),
    ] {
        assert!(push(attribute, text).is_err(), "{attribute}={text}");
    }
    assert!(push("CN", &"手".repeat(64)).is_ok());
    assert!(AttributeSpec::by_name("favouriteColour").is_none());
    let mut many = NameBuilder::new();
    for _ in 0..MAX_RDNS {
        many = many
            .push(AttributeSpec::by_name("OU").unwrap(), "x")
            .unwrap();
    }
    assert!(
        many.push(AttributeSpec::by_name("OU").unwrap(), "x")
            .is_err()
    );
    assert!(DistinguishedName::empty().is_empty());
    assert_eq!(name(&[]), DistinguishedName::empty());
    for bad in ["30023100", "3000ff", "3100", "30043102 3000", ""] {
        let bytes = hex::decode(bad.replace(' ', "")).unwrap();
        assert!(DistinguishedName::from_der(&bytes).is_err(), "{bad}");
    }
    let shown = name(&[("O", "a=b,c"), ("CN", "x")]).to_display();
    assert_eq!(shown, "O=a\\3db\\2cc, CN=x");
}

#[test]
fn alternative_names_refuse_what_does_not_fit() {
    for bad in [
        SanEntry::Dns("手形.example".into()),
        SanEntry::Dns(String::new()),
        SanEntry::Uri("a b".into()),
        SanEntry::Ip(vec![1, 2, 3]),
        SanEntry::HardwareModule {
            hw_type: oid::ED25519,
            hw_serial: vec![],
        },
    ] {
        assert!(encode_san(std::slice::from_ref(&bad)).is_err(), "{bad:?}");
    }
    assert!(encode_san(&[]).is_err());
    assert!(encode_san(&vec![SanEntry::Ip(vec![0; 4]); 33]).is_err());
    assert!(decode_san(&[0x30, 0x00]).is_err());
    // An otherName of a known type whose value is something else.
    let lie = SanEntry::Other {
        type_id: oid::ON_HARDWARE_MODULE_NAME,
        value: vec![5, 0],
    };
    assert!(decode_san(&encode_san(&[lie]).unwrap()).is_err());
    let all = [
        hardware_names(),
        vec![
            SanEntry::Email("a@b.example".into()),
            SanEntry::Ip(vec![1; 16]),
            SanEntry::Directory(name(&[("CN", "x")])),
            SanEntry::RegisteredId(oid::ED25519),
            SanEntry::PermanentIdentifier {
                value: None,
                assigner: None,
            },
            SanEntry::Other {
                type_id: oid::ED25519,
                value: vec![5, 0],
            },
        ],
    ]
    .concat();
    assert_eq!(decode_san(&encode_san(&all).unwrap()).unwrap(), all);
}

fn builder() -> CertBuilder {
    let csr = AllegedCsr::from_der(&annotated(CSR)).unwrap();
    let mut extensions = ExtensionSet::new();
    extensions.basic_constraints(true, Some(0)).unwrap();
    extensions
        .key_usage(KeyUsages::KeyCertSign | KeyUsages::CRLSign)
        .unwrap();
    extensions.ext_key_usage(&[oid::KP_CLIENT_AUTH]).unwrap();
    extensions.subject_key_id(&[1; 20]).unwrap();
    extensions.authority_key_id(&[2; 20]).unwrap();
    extensions
        .subject_alt_name(&hardware_names(), false)
        .unwrap();
    extensions
        .certificate_policies(&[ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.9")])
        .unwrap();
    extensions
        .crl_distribution_points(&["http://ca.example/crl".into()])
        .unwrap();
    extensions
        .authority_info_access(
            &["http://ca.example/ocsp".into()],
            &["http://ca.example/c".into()],
        )
        .unwrap();
    CertBuilder {
        serial: SerialNumber::from_random(&[0xff; 16]),
        signature_alg: SignatureAlg::EcdsaSha384,
        issuer: name(&[("C", "JP"), ("CN", "手形ルート")]),
        validity: Validity {
            not_before_secs: 1_795_334_482,
            not_after_secs: None,
        },
        subject: name(&[("CN", "device")]),
        spki_der: csr.spki_der,
        extensions,
    }
}

#[test]
fn what_is_built_is_what_is_read() {
    let b = builder();
    let tbs = b.to_tbs().unwrap();
    let der = assemble_certificate(&tbs, SignatureAlg::EcdsaSha384, &[0x80; 96]).unwrap();
    let view = CertView::from_der(&der).unwrap();
    assert_eq!(view.tbs_der, tbs);
    assert_eq!(view.version, 3);
    assert_eq!(hex::encode(view.serial), format!("01{}", "ff".repeat(16)));
    assert_eq!(view.issuer().unwrap(), b.issuer);
    assert_eq!(view.subject().unwrap(), b.subject);
    assert!(!view.is_self_issued());
    assert_eq!(view.spki_der, b.spki_der);
    assert_eq!(view.not_before_secs, 1_795_334_482);
    assert_eq!(view.not_after_secs, 253_402_300_799);
    assert_eq!(
        view.raw_signature().unwrap(),
        (SignatureAlg::EcdsaSha384, vec![0x80; 96])
    );
    let constraints = view.basic_constraints().unwrap().unwrap();
    assert!(constraints.ca && constraints.path_len == Some(0));
    let usages = usage::KEY_CERT_SIGN | usage::CRL_SIGN;
    assert_eq!(view.key_usage().unwrap(), Some(usages));
    let mut same = ExtensionSet::new();
    same.key_usage_bits(usages).unwrap();
    assert_eq!(
        same.find(&oid::KEY_USAGE),
        b.extensions.find(&oid::KEY_USAGE)
    );
    assert!(ExtensionSet::new().key_usage_bits(0).is_err());
    assert!(ExtensionSet::new().key_usage_bits(0x200).is_err());
    assert_eq!(view.ext_key_usage().unwrap(), [oid::KP_CLIENT_AUTH]);
    assert_eq!(view.subject_key_id().unwrap(), Some(&[1u8; 20][..]));
    assert_eq!(view.authority_key_id().unwrap(), Some(&[2u8; 20][..]));
    assert_eq!(view.san().unwrap(), hardware_names());
    let critical: Vec<_> = view
        .extensions
        .iter()
        .filter(|e| e.critical)
        .map(|e| e.oid)
        .collect();
    assert_eq!(critical, [oid::BASIC_CONSTRAINTS, oid::KEY_USAGE]);
    let written: Vec<_> = b
        .extensions
        .as_slice()
        .iter()
        .map(|e| (e.oid, &e.value[..]))
        .collect();
    let read: Vec<_> = view.extensions.iter().map(|e| (e.oid, e.value)).collect();
    assert_eq!(written, read);
    for len in 0..der.len() {
        assert!(CertView::from_der(&der[..len]).is_err(), "cut at {len}");
    }
    // The same bytes by the decoder of the ecosystem.
    let other = x509_cert::Certificate::from_der(&der).unwrap();
    assert_eq!(other.to_der().unwrap(), der);
}

#[test]
fn validity_changes_its_form_in_2050() {
    let at = |not_before_secs, not_after_secs| {
        let mut b = builder();
        b.validity = Validity {
            not_before_secs,
            not_after_secs,
        };
        b.to_tbs().map(|tbs| hex::encode(&tbs))
    };
    let text = |tag: &str, t: &str| format!("{tag}{:02x}{}", t.len(), hex::encode(t));
    let tbs = at(0, Some(2_524_607_999)).unwrap();
    assert!(tbs.contains(&text("17", "700101000000Z")));
    assert!(tbs.contains(&text("17", "491231235959Z")));
    let tbs = at(2_524_607_999, Some(2_524_608_000)).unwrap();
    assert!(tbs.contains(&text("18", "20500101000000Z")));
    assert!(
        at(0, None)
            .unwrap()
            .contains(&text("18", "99991231235959Z"))
    );
    assert_eq!(at(5, Some(5)), Err(X509Error::Validity));
    assert_eq!(at(5, Some(4)), Err(X509Error::Validity));
    assert_eq!(at(5, Some(253_402_300_800)), Err(X509Error::Validity));
    assert_eq!(at(u64::MAX, None), Err(X509Error::Validity));
}

#[test]
fn serial_numbers_are_positive_and_short() {
    assert!(SerialNumber::from_bytes(&[]).is_err());
    assert!(SerialNumber::from_bytes(&[0, 0]).is_err());
    assert_eq!(
        SerialNumber::from_bytes(&[0, 0, 7]).unwrap().as_bytes(),
        [7]
    );
    assert!(SerialNumber::from_bytes(&[0x7f; 20]).is_ok());
    assert!(SerialNumber::from_bytes(&[0x80; 20]).is_err());
    assert!(SerialNumber::from_bytes(&[0x80; 19]).is_ok());
    assert!(SerialNumber::from_bytes(&[1; 21]).is_err());
    let serial = SerialNumber::from_random(&[0; 16]);
    assert_eq!(serial.to_string(), format!("01{}", "00".repeat(16)));
}

#[test]
fn certificates_that_break_the_profile_are_not_built() {
    let mut b = builder();
    b.issuer = DistinguishedName::empty();
    assert_eq!(b.to_tbs(), Err(X509Error::Empty { what: "issuer" }));
    let mut b = builder();
    b.subject = DistinguishedName::empty();
    // The subjectAltName of the builder is not critical.
    assert_eq!(b.to_tbs(), Err(X509Error::Empty { what: "subject" }));
    b.extensions = ExtensionSet::new();
    b.extensions
        .subject_alt_name(&hardware_names(), true)
        .unwrap();
    let tbs = b.to_tbs().unwrap();
    let der = assemble_certificate(&tbs, b.signature_alg, &[1; 96]).unwrap();
    let view = CertView::from_der(&der).unwrap();
    assert!(view.extension(&oid::SUBJECT_ALT_NAME).unwrap().critical);
    let mut set = ExtensionSet::new();
    set.basic_constraints(false, Some(3)).unwrap();
    assert_eq!(set.as_slice()[0].value, [0x30, 0x00]);
    let again = set.basic_constraints(false, None);
    assert_eq!(
        again,
        Err(X509Error::Duplicate {
            oid: oid::BASIC_CONSTRAINTS
        })
    );
    let mut set = ExtensionSet::new();
    for i in 0..MAX_EXTENSIONS {
        let arc = u32::try_from(i).unwrap();
        let oid = oid::ED25519.push_arc(arc).unwrap();
        set.push(Extension {
            oid,
            critical: false,
            value: vec![5, 0],
        })
        .unwrap();
    }
    assert!(set.key_usage(KeyUsages::CRLSign.into()).is_err());
    for raw in [&[1u8; 95][..], &[1; 97], &[]] {
        assert!(assemble_certificate(&tbs, SignatureAlg::EcdsaSha384, raw).is_err());
        assert!(assemble_csr(&tbs, SignatureAlg::Ed25519, raw).is_err());
    }
}

#[test]
fn inner_and_outer_algorithm_must_agree() {
    let tbs = builder().to_tbs().unwrap();
    let der = assemble_certificate(&tbs, SignatureAlg::EcdsaSha256, &[1; 64]).unwrap();
    assert_eq!(
        CertView::from_der(&der).map(|_| ()),
        Err(X509Error::AlgorithmMismatch)
    );
}

#[test]
fn ecdsa_signatures_change_form_without_loss() {
    let small = [&[0; 31][..], &[1], &[0; 32]].concat();
    assert_eq!(
        hex::encode(ecdsa_to_der(&small).unwrap()),
        "3006020101020100"
    );
    assert_eq!(
        ecdsa_from_der(&hex::decode("3006020101020100").unwrap(), 32).unwrap(),
        small
    );
    let high = [0xffu8; 64];
    assert!(hex::encode(ecdsa_to_der(&high).unwrap()).starts_with("3046022100ff"));
    for bad in [
        "",
        "3000",
        "3003020101",
        "30060201ff020101",
        "300602010102010100",
        "3007020200010201 01",
    ] {
        let bytes = hex::decode(bad.replace(' ', "")).unwrap();
        assert!(ecdsa_from_der(&bytes, 32).is_err(), "{bad}");
    }
    assert!(ecdsa_from_der(&ecdsa_to_der(&[1; 96]).unwrap(), 32).is_err());
    assert!(ecdsa_to_der(&[1; 63]).is_err());
}

proptest! {
    #[test]
    fn signatures_round_trip(raw in proptest::collection::vec(any::<u8>(), 96)) {
        for len in [64, 96] {
            let der = ecdsa_to_der(&raw[..len]).unwrap();
            prop_assert_eq!(&ecdsa_from_der(&der, len / 2).unwrap()[..], &raw[..len]);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = AllegedCsr::from_der(&bytes);
        let _ = CertView::from_der(&bytes);
        let _ = DistinguishedName::from_der(&bytes).map(|n| n.to_display());
        let _ = decode_san(&bytes);
        let _ = ecdsa_from_der(&bytes, 32);
    }

    #[test]
    fn requests_round_trip(
        cn in "[a-zA-Z0-9 _手形é]{1,40}", serial in "[A-Za-z0-9-]{1,40}",
        hw in proptest::collection::vec(any::<u8>(), 1..64), value in "[ -~]{1,40}",
        host in "[a-z0-9.-]{1,60}", raw in proptest::collection::vec(any::<u8>(), 64),
    ) {
        let spki_der = AllegedCsr::from_der(&annotated(CSR)).unwrap().spki_der;
        let san = vec![
            SanEntry::HardwareModule { hw_type: oid::ED25519, hw_serial: hw },
            SanEntry::PermanentIdentifier { value: Some(value), assigner: None },
            SanEntry::Dns(host),
        ];
        let subject = name(&[("CN", &cn), ("serialNumber", &serial)]);
        let b = CsrBuilder { subject, spki_der, san, extensions: vec![] };
        let tbs = b.to_tbs().unwrap();
        let der = assemble_csr(&tbs, SignatureAlg::EcdsaSha256, &raw).unwrap();
        let csr = AllegedCsr::from_der(&der).unwrap();
        prop_assert_eq!(&csr.subject, &b.subject);
        prop_assert_eq!(csr.subject.text(&AttributeSpec::by_name("CN").unwrap().oid), Some(cn));
        prop_assert_eq!(csr.san().unwrap(), b.san);
        prop_assert_eq!(&csr.tbs_der, &tbs);
        prop_assert_eq!(csr.to_der().unwrap(), der);
        prop_assert_eq!(SignatureAlg::EcdsaSha256.signature_from_bits(&csr.signature).unwrap(), raw);
    }

    #[test]
    fn altered_certificates_never_panic(at in 0usize..900, value in any::<u8>()) {
        let tbs = builder().to_tbs().unwrap();
        let mut der = assemble_certificate(&tbs, SignatureAlg::EcdsaSha384, &[1; 96]).unwrap();
        let at = at % der.len();
        der[at] = value;
        if let Ok(view) = CertView::from_der(&der) {
            let _ = (view.san(), view.key_usage(), view.basic_constraints(), view.ext_key_usage());
            let _ = (view.subject_key_id(), view.authority_key_id(), view.raw_signature());
            let _ = (view.subject(), view.issuer());
        }
    }
}
