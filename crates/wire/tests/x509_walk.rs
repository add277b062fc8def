//! The cursor that devices read certificates with against the full decoder: what the full one
//! refuses is refused, and nothing is read differently.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use der::{Decode, Encode};
use proptest::prelude::*;
use tegata_wire::x509::{
    AttributeSpec, CertBuilder, CertView, DistinguishedName, ExtensionSet, NameBuilder, SanEntry,
    SerialNumber, SignatureAlg, Validity, assemble_certificate, decode_san, encode_san, oid, usage,
};
use x509_cert::{Certificate, ext::pkix::name::GeneralNames, time::Time};

/// Every kind of alternative name.
fn names() -> Vec<SanEntry> {
    vec![
        SanEntry::Dns("device.example".into()),
        SanEntry::Uri("urn:uuid:1".into()),
        SanEntry::Email("a@example".into()),
        SanEntry::Ip(vec![192, 0, 2, 1]),
        SanEntry::Directory(name()),
        SanEntry::RegisteredId(oid::EC_PUBLIC_KEY),
        SanEntry::HardwareModule {
            hw_type: oid::KP_CMC_CA,
            hw_serial: b"S-1".to_vec(),
        },
        SanEntry::PermanentIdentifier {
            value: Some("S-1".into()),
            assigner: Some(oid::AD_OCSP),
        },
        SanEntry::Other {
            type_id: oid::AD_CA_ISSUERS,
            value: vec![0x0c, 0x01, b'x'],
        },
    ]
}

fn name() -> DistinguishedName {
    let spec = |name| AttributeSpec::by_name(name).unwrap();
    NameBuilder::new()
        .push(spec("C"), "JP")
        .and_then(|b| b.push(spec("O"), "長野"))
        .and_then(|b| b.push(spec("CN"), "S-1"))
        .and_then(NameBuilder::build)
        .unwrap()
}

fn certificate() -> Vec<u8> {
    let key = [&[4u8][..], &[7; 64]].concat();
    let spki_der = spki::SubjectPublicKeyInfo {
        algorithm: spki::AlgorithmIdentifier {
            oid: oid::EC_PUBLIC_KEY,
            parameters: Some(oid::SECP256R1),
        },
        subject_public_key: der::asn1::BitString::from_bytes(&key).unwrap(),
    };
    let mut extensions = ExtensionSet::new();
    extensions.basic_constraints(true, Some(1)).unwrap();
    extensions
        .key_usage_bits(usage::KEY_CERT_SIGN | usage::DIGITAL_SIGNATURE)
        .unwrap();
    extensions.ext_key_usage(&[oid::KP_CMC_CA]).unwrap();
    extensions.subject_key_id(&[1; 20]).unwrap();
    extensions.authority_key_id(&[2; 20]).unwrap();
    extensions.subject_alt_name(&names(), false).unwrap();
    let builder = CertBuilder {
        serial: SerialNumber::from_random(&[9; 16]),
        signature_alg: SignatureAlg::EcdsaSha256,
        issuer: name(),
        validity: Validity {
            not_before_secs: 1_700_000_000,
            not_after_secs: None,
        },
        subject: name(),
        spki_der: spki_der.to_der().unwrap(),
        extensions,
    };
    let tbs = builder.to_tbs().unwrap();
    assemble_certificate(&tbs, SignatureAlg::EcdsaSha256, &[3; 64]).unwrap()
}

/// Both decoders over the same bytes. A part that the view keeps as bytes may be malformed inside.
fn compare(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(view) = CertView::from_der(bytes) else {
        return Ok(());
    };
    // Names are judged when somebody asks for them.
    if view.issuer().is_err() || view.subject().is_err() {
        return Ok(());
    }
    let Ok(full) = Certificate::from_der(bytes) else {
        return Err(TestCaseError::fail("only the view reads this"));
    };
    let tbs = full.tbs_certificate();
    let secs = |time: &Time| time.to_unix_duration().as_secs();
    // Not the whole: an explicit FALSE is read by both, and written by neither.
    prop_assert_eq!(view.version, tbs.version() as u8 + 1);
    prop_assert_eq!(view.serial, tbs.serial_number().as_bytes());
    prop_assert_eq!(view.issuer_der, tbs.issuer().to_der().unwrap());
    prop_assert_eq!(view.subject_der, tbs.subject().to_der().unwrap());
    prop_assert_eq!(view.not_before_secs, secs(&tbs.validity().not_before));
    prop_assert_eq!(view.not_after_secs, secs(&tbs.validity().not_after));
    prop_assert_eq!(
        view.spki_der,
        tbs.subject_public_key_info().to_der().unwrap()
    );
    prop_assert_eq!(Some(view.signature), full.signature().as_bytes());
    let extensions = tbs.extensions().cloned().unwrap_or_default();
    prop_assert_eq!(view.extensions.len(), extensions.len());
    for (a, b) in view.extensions.iter().zip(&extensions) {
        prop_assert_eq!(a.oid, b.extn_id);
        prop_assert_eq!(a.critical, b.critical);
        prop_assert_eq!(a.value, b.extn_value.as_bytes());
    }
    Ok(())
}

fn compare_names(bytes: &[u8]) -> Result<(), TestCaseError> {
    match (decode_san(bytes), GeneralNames::from_der(bytes)) {
        (Ok(ours), Ok(full)) => {
            prop_assert_eq!(ours.len(), full.len());
            // Entries that cannot be written are text of other characters; they are read all the same.
            if let Ok(again) = encode_san(&ours) {
                prop_assert_eq!(&again, &full.to_der().unwrap());
                prop_assert_eq!(again, bytes);
            }
            Ok(())
        }
        (Ok(ours), Err(error)) => Err(TestCaseError::fail(format!("{ours:?}: {error}"))),
        (Err(_), _) => Ok(()),
    }
}

#[test]
fn what_was_built_is_read_alike() {
    let cert = certificate();
    assert!(Certificate::from_der(&cert).is_ok());
    compare(&cert).unwrap();
    let view = CertView::from_der(&cert).unwrap();
    assert_eq!(view.san().unwrap(), names());
    let constraints = view.basic_constraints().unwrap().unwrap();
    assert_eq!((constraints.ca, constraints.path_len), (true, Some(1)));
    assert_eq!(view.ext_key_usage().unwrap(), [oid::KP_CMC_CA]);
    let san = encode_san(&names()).unwrap();
    assert_eq!(GeneralNames::from_der(&san).unwrap().to_der().unwrap(), san);
}

#[test]
fn every_bit_changed_is_read_alike_or_refused() {
    let cert = certificate();
    let san = encode_san(&names()).unwrap();
    // Each bit, and all of a byte.
    for mask in (0..8).map(|bit| 1u8 << bit).chain([0xff]) {
        for at in 0..cert.len() {
            let mut bad = cert.clone();
            bad[at] ^= mask;
            compare(&bad).unwrap_or_else(|e| panic!("certificate byte {at} ^ {mask}: {e}"));
        }
        for at in 0..san.len() {
            let mut bad = san.clone();
            bad[at] ^= mask;
            compare_names(&bad).unwrap_or_else(|e| panic!("name byte {at} ^ {mask}: {e}"));
        }
    }
}

proptest! {
    #[test]
    fn names_with_pieces_moved_are_read_alike_or_refused(
        from in 0usize..200, len in 1usize..40, to in 0usize..200,
    ) {
        let san = encode_san(&names()).unwrap();
        let from = from % san.len();
        let piece = san[from..(from + len).min(san.len())].to_vec();
        let at = to % san.len();
        let mut bad = san;
        bad.splice(at..(at + piece.len()).min(bad.len()), piece);
        compare_names(&bad)?;
    }
}
