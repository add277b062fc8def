//! CMP messages: what the vectors say, what we build, and what hostile bytes do.
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
use der::{Decode, Encode};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tegata_wire::{
    cmp::{
        BodyKind, CERT_REQ_ID, CertId, CertTemplate, CmpError, HashAlg, KeyUpdate, MAX_EXTRA_CERTS,
        MAX_MESSAGE_BYTES, MessageToProtect, P10CR_CERT_REQ_ID, PbmParameter, Pbmac1Parameter,
        PkiBody, PkiFailureInfo, PkiHeader, PkiStatus, ProtectionAlg, RawBody, RegInfo,
        UnverifiedPkiMessage, cert_req_template, null_dn, oid,
    },
    x509::{
        AllegedCsr, CertView, DistinguishedName, Extension, List, RawDer, SanEntry, SignatureAlg,
    },
};

const VECTORS: [&str; 5] = [
    "cmp/p10cr-pbm-null-dn.hex",
    "cmp/cp-pbm.hex",
    "cmp/certconf-pbm.hex",
    "cmp/pkiconf-pbm.hex",
    "cmp/error-null-dn-refused.hex",
];

fn parse(path: &str) -> UnverifiedPkiMessage {
    UnverifiedPkiMessage::from_der(&annotated(path)).unwrap()
}

/// The MAC of PasswordBasedMac, to show that the protected part is the right one.
/// Spec: RFC 9810 section 5.1.3.1.
fn pbm(params: &PbmParameter, secret: &[u8], protected: &[u8]) -> Vec<u8> {
    assert_eq!((params.owf, params.mac), (HashAlg::Sha256, HashAlg::Sha256));
    let mut key = Sha256::digest([secret, &params.salt].concat());
    for _ in 1..params.iterations {
        key = Sha256::digest(key);
    }
    let mut pads = ([0x36u8; 64], [0x5cu8; 64]);
    for (i, k) in key.iter().enumerate() {
        pads.0[i] ^= k;
        pads.1[i] ^= k;
    }
    let inner = Sha256::digest([&pads.0, protected].concat());
    Sha256::digest([&pads.1[..], &inner].concat()).to_vec()
}

#[test]
fn p10cr_of_a_nameless_client_is_found_by_its_key_identifier() {
    let message = parse("cmp/p10cr-pbm-null-dn.hex");
    let header = message.header();
    assert_eq!(header.pvno, 2);
    assert_eq!(header.sender, null_dn());
    assert!(header.sender_name().unwrap().is_empty());
    assert_eq!(header.sender_kid(), Some(&b"kid-SK_CSR-1"[..]));
    assert_eq!(header.transaction_id().map(<[u8]>::len), Some(16));
    assert_eq!(header.sender_nonce().map(<[u8]>::len), Some(16));
    assert_eq!(header.recip_nonce(), None);
    assert_eq!(header.message_time_secs(), Some(1_795_334_482));
    assert!(!header.implicit_confirm());
    assert_eq!(message.kind(), BodyKind::P10cr);
    let csr = AllegedCsr::from_der(message.body().p10cr_csr().unwrap()).unwrap();
    assert_eq!(
        csr.subject.to_display(),
        "O=Vector, serialNumber=SN-0001, CN=device-1"
    );
    assert_eq!(csr.signature_alg(), Some(SignatureAlg::EcdsaSha256));
}

#[test]
fn protection_covers_header_and_body_as_received() {
    let message = parse("cmp/p10cr-pbm-null-dn.hex");
    let Some(ProtectionAlg::PasswordBasedMac(params)) = message.header().protection().unwrap()
    else {
        panic!("not PasswordBasedMac")
    };
    assert_eq!(params.iterations, 500);
    let mac = pbm(
        &params,
        b"0123456789abcdef0123456789abcdef",
        &message.protected_part().unwrap(),
    );
    assert_eq!(Some(&mac[..]), message.protection());
}

#[test]
fn cp_answers_p10cr_with_minus_one_and_certconf_confirms_it() {
    let cp = parse("cmp/cp-pbm.hex");
    let rep = cp.body().cert_rep().unwrap();
    let response = &rep.response[0];
    assert_eq!(response.cert_req_id, P10CR_CERT_REQ_ID);
    assert!(response.status.is_granted());
    let der = response.certificate().unwrap();
    let cert = CertView::from_der(der).unwrap();
    assert_eq!(cert.signature_alg(), Some(SignatureAlg::EcdsaSha256));
    assert_eq!(cert.raw_signature().unwrap().1.len(), 64);

    let conf = parse("cmp/certconf-pbm.hex");
    let content = conf.body().cert_conf_content().unwrap();
    assert_eq!(content.len(), 1);
    assert_eq!(content[0].cert_req_id, P10CR_CERT_REQ_ID);
    assert_eq!(content[0].cert_hash.as_bytes(), &Sha256::digest(der)[..]);
    assert!(content[0].is_accepted());
    assert!(content[0].hash_alg.is_none());
    assert_eq!(conf.header().recip_nonce(), cp.header().sender_nonce());

    let done = parse("cmp/pkiconf-pbm.hex");
    done.body().expect_pki_conf().unwrap();
    assert_eq!(done.header().transaction_id(), cp.header().transaction_id());
}

#[test]
fn error_names_its_reason() {
    let message = parse("cmp/error-null-dn-refused.hex");
    let content = message.body().error_content().unwrap();
    assert_eq!(content.status.status, PkiStatus::Rejection);
    assert_eq!(
        content.status.fail_info,
        Some(PkiFailureInfo::BAD_MESSAGE_CHECK)
    );
    assert!(
        content
            .status
            .text()
            .unwrap()
            .contains("senderKID is: device-1")
    );
    assert_eq!(content.error_code, Some(1));
    assert_eq!(message.header().recipient.directory_name(), None);
    assert!(
        message
            .header()
            .recipient
            .as_der()
            .ends_with(b"testr@example.com")
    );
    assert_eq!(
        message.header().sender_name().unwrap().to_display(),
        "CN=Mock CA"
    );
}

#[test]
fn repository_vectors_encode_to_the_same_bytes() {
    for path in VECTORS {
        assert_eq!(parse(path).reencode().unwrap(), annotated(path), "{path}");
    }
}

#[test]
fn every_prefix_and_every_suffix_is_refused() {
    for path in VECTORS {
        let bytes = annotated(path);
        for len in 0..bytes.len() {
            assert!(
                UnverifiedPkiMessage::from_der(&bytes[..len]).is_err(),
                "{path} cut at {len}"
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(
            UnverifiedPkiMessage::from_der(&longer).is_err(),
            "{path} with a byte more"
        );
    }
}

#[test]
fn flipped_bytes_never_panic_and_never_hide() {
    for path in VECTORS {
        let bytes = annotated(path);
        for at in 0..bytes.len() {
            for mask in [0x01, 0x20, 0x80, 0xff] {
                let mut altered = bytes.clone();
                altered[at] ^= mask;
                let Ok(message) = UnverifiedPkiMessage::from_der(&altered) else {
                    continue;
                };
                let _ = message.body().decode();
                let _ = message.header().protection();
                // What was read is in the bytes that the protection covers, or is the protection,
                // or is certificates outside of it.
                let original = UnverifiedPkiMessage::from_der(&bytes).unwrap();
                if message.protected_part() == original.protected_part() {
                    let same = message.protection() == original.protection()
                        && message.extra_certs() == original.extra_certs();
                    assert!(!same, "{path}: change at {at} is invisible");
                }
            }
        }
    }
}

#[test]
fn hostile_lengths_are_refused_before_anything_is_stored() {
    let too_long = vec![0x30; MAX_MESSAGE_BYTES + 1];
    assert_eq!(
        UnverifiedPkiMessage::from_der(&too_long),
        Err(CmpError::TooLarge {
            what: "PKIMessage",
            got: MAX_MESSAGE_BYTES + 1,
            max: MAX_MESSAGE_BYTES
        })
    );
    for length in [
        "840fffffff",
        "84ffffffff",
        "88ffffffffffffffff",
        "80",
        "ff",
        "8203",
    ] {
        let bytes = hex::decode(format!("30{length}")).unwrap();
        assert!(UnverifiedPkiMessage::from_der(&bytes).is_err(), "{length}");
        assert!(RawDer::from_bytes(&bytes).is_err(), "{length}");
    }
    // A thousand nested sequences where a header should be.
    let mut nested = vec![0x05, 0x00];
    for _ in 0..1000 {
        nested = RawDer::from_bytes(
            &der::Any::new(der::Tag::Sequence, nested)
                .unwrap()
                .to_der()
                .unwrap(),
        )
        .unwrap()
        .into_bytes();
    }
    assert!(UnverifiedPkiMessage::from_der(&nested).is_err());
    assert!(PkiHeader::from_der(&nested).is_err());
}

/// A header as a device writes it.
fn device_header() -> PkiHeader {
    PkiHeader::new(null_dn(), null_dn())
        .with_sender_kid(&[7; 33])
        .and_then(|h| h.with_transaction_id(&[1; 16]))
        .and_then(|h| h.with_sender_nonce(&[2; 16]))
        .and_then(|h| h.with_protection(&ProtectionAlg::HMAC_SHA256))
        .unwrap()
}

#[test]
fn a_device_asks_and_the_ca_answers() {
    let request = annotated("cmp/p10cr-pbm-null-dn.hex");
    let csr = UnverifiedPkiMessage::from_der(&request)
        .unwrap()
        .body()
        .content
        .clone();
    let header = device_header()
        .with_implicit_confirm()
        .and_then(|h| h.with_cert_profile("device"))
        .and_then(|h| h.with_message_time(1_795_334_482))
        .unwrap();
    let built = MessageToProtect::new(&header, &RawBody::p10cr(csr.as_bytes()).unwrap()).unwrap();
    let protected = built.protected_part().unwrap();
    let bytes = built.into_der(Some(&[9; 32]), &[]).unwrap();
    let asked = UnverifiedPkiMessage::from_der(&bytes).unwrap();
    assert_eq!(asked.protected_part().unwrap(), protected);
    assert_eq!(asked.protection(), Some(&[9u8; 32][..]));
    assert_eq!(
        asked.header().protection().unwrap(),
        Some(ProtectionAlg::HMAC_SHA256)
    );
    assert_eq!(
        asked.header().cert_profile().unwrap().as_deref(),
        Some("device")
    );
    assert!(asked.header().implicit_confirm());
    assert_eq!(asked.body().p10cr_csr().unwrap(), csr.as_bytes());

    let cert = parse("cmp/cp-pbm.hex").body().cert_rep().unwrap();
    let cert = cert.response[0].certificate().unwrap().to_vec();
    let answer = PkiHeader::reply_to(asked.header(), null_dn())
        .with_protection(&ProtectionAlg::Signature(SignatureAlg::EcdsaSha256))
        .and_then(|h| h.with_sender_nonce(&[3; 16]))
        .and_then(|h| h.with_confirm_wait_time(1_795_334_999))
        .unwrap();
    let body = RawBody::cp_granted(P10CR_CERT_REQ_ID, &cert).unwrap();
    let chain = [RawDer::from_bytes(&cert).unwrap()];
    let bits = SignatureAlg::EcdsaSha256
        .signature_to_bits(&[0x81; 64])
        .unwrap();
    let bytes = MessageToProtect::new(&answer, &body)
        .unwrap()
        .into_der(Some(&bits), &chain);
    let got = UnverifiedPkiMessage::from_der(&bytes.unwrap()).unwrap();
    assert_eq!(got.header().recip_nonce(), Some(&[2u8; 16][..]));
    assert_eq!(got.header().transaction_id(), Some(&[1u8; 16][..]));
    assert_eq!(
        got.header().confirm_wait_time().unwrap(),
        Some(1_795_334_999)
    );
    assert_eq!(got.extra_certs()[0].as_bytes(), cert);
    assert_eq!(
        got.body().cert_rep().unwrap().response[0].certificate(),
        Some(&cert[..])
    );
    assert_eq!(
        SignatureAlg::EcdsaSha256
            .signature_from_bits(got.protection().unwrap())
            .unwrap(),
        [0x81; 64]
    );
}

#[test]
fn a_key_update_is_read_as_it_was_written() {
    let cp = parse("cmp/cp-pbm.hex");
    let old = cp.body().cert_rep().unwrap();
    let old = old.response.iter().next().unwrap().certificate().unwrap();
    let old = CertView::from_der(old).unwrap();
    for san in [vec![SanEntry::Dns("d.example".into())], Vec::new()] {
        let update = KeyUpdate {
            subject: DistinguishedName::from_der(old.subject_der).unwrap(),
            san: san.clone(),
            spki_der: old.spki_der,
            reg_token: "00.ff",
            old: &old,
        };
        let asked = update.to_request().unwrap();
        let alg = SignatureAlg::EcdsaSha256;
        let bits = alg.signature_to_bits(&[1; 64]).unwrap();
        let body = RawBody::kur(&asked, alg, &bits).unwrap();
        // Decoded by the types of a CA, and encoded by those: the same bytes.
        let PkiBody::Kur(messages) = body.decode().unwrap() else {
            panic!("a kur")
        };
        assert_eq!(PkiBody::Kur(messages.clone()).to_raw().unwrap(), body);
        let [message] = &messages.into_vec()[..] else {
            panic!("one request")
        };
        assert_eq!(message.cert_req.as_bytes(), asked, "what the new key signs");
        let request = message.request().unwrap();
        assert_eq!(request.to_der().unwrap(), asked);
        assert_eq!(request.cert_req_id, CERT_REQ_ID);
        let template = &request.cert_template;
        let key = template.public_key.as_ref().unwrap().to_der().unwrap();
        assert_eq!(key, old.spki_der);
        let subject = template.subject.as_ref().unwrap();
        assert_eq!(subject.to_der().unwrap(), old.subject_der);
        assert_eq!(template.extensions.is_some(), !san.is_empty());
        assert_eq!(request.reg_token().unwrap().unwrap(), "00.ff");
        let id: CertId = request.old_cert_id().unwrap().unwrap();
        assert_eq!(id.serial(), old.serial);
        assert_eq!(id.issuer_der().unwrap(), old.issuer_der);
    }
}

#[test]
fn each_answer_decodes_to_what_was_built() {
    let bodies = [
        RawBody::cp_rejected(-1, PkiFailureInfo::BAD_POP | PkiFailureInfo::BAD_ALG, "no").unwrap(),
        RawBody::cert_conf(-1, &[5; 32], Some(HashAlg::Sha256)).unwrap(),
        RawBody::cert_conf_rejected(-1, &[5; 32], None, PkiFailureInfo::BAD_CERT_ID, "").unwrap(),
        RawBody::pki_conf().unwrap(),
        RawBody::error(PkiFailureInfo::SYSTEM_UNAVAIL, "後でもう一度").unwrap(),
        RawBody::poll_rep(-1, 30, "wait").unwrap(),
    ];
    for body in bodies {
        let bytes = body.to_der().unwrap();
        let again = RawBody::from_der(&bytes).unwrap();
        assert_eq!(again, body);
        assert_eq!(again.decode().unwrap().to_raw().unwrap(), body);
    }
    let conf = RawBody::cert_conf(0, &[5; 32], Some(HashAlg::Sha512)).unwrap();
    let status = &conf.cert_conf_content().unwrap()[0];
    let named = status
        .hash_alg
        .as_ref()
        .and_then(HashAlg::from_hash_identifier);
    assert_eq!(named, Some(HashAlg::Sha512));
    assert!(matches!(
        conf.error_content(),
        Err(CmpError::BodyKind { .. })
    ));
}

#[test]
fn protection_and_its_algorithm_come_together() {
    let body = RawBody::pki_conf().unwrap();
    let with = MessageToProtect::new(&device_header(), &body).unwrap();
    assert_eq!(with.into_der(None, &[]), Err(CmpError::ProtectionMismatch));
    let bare = PkiHeader::new(null_dn(), null_dn());
    let without = MessageToProtect::new(&bare, &body).unwrap();
    assert_eq!(
        without.clone().into_der(Some(&[0; 32]), &[]),
        Err(CmpError::ProtectionMismatch)
    );
    let bytes = without.into_der(None, &[]).unwrap();
    assert_eq!(
        UnverifiedPkiMessage::from_der(&bytes).unwrap().protection(),
        None
    );
    // Drop the protection of a protected message: its last element.
    let request = annotated("cmp/p10cr-pbm-null-dn.hex");
    let cut = &request[4..request.len() - 37];
    let cut = der::Any::new(der::Tag::Sequence, cut)
        .unwrap()
        .to_der()
        .unwrap();
    assert_eq!(
        UnverifiedPkiMessage::from_der(&cut),
        Err(CmpError::ProtectionMismatch)
    );
}

#[test]
fn versions_and_unknown_bodies_are_named() {
    for pvno in [0, 1, 4, 255] {
        let mut header = PkiHeader::new(null_dn(), null_dn());
        header.pvno = pvno;
        let body = RawBody::pki_conf().unwrap();
        let error = MessageToProtect::new(&header, &body).map(|_| ());
        assert_eq!(error, Err(CmpError::Version { got: pvno }));
    }
    let header = PkiHeader::new(null_dn(), null_dn()).to_der().unwrap();
    let message = [&header[..], &[0xbb, 0x02, 0x05, 0x00]].concat();
    let message = der::Any::new(der::Tag::Sequence, message)
        .unwrap()
        .to_der()
        .unwrap();
    assert_eq!(
        UnverifiedPkiMessage::from_der(&message),
        Err(CmpError::UnknownBody { tag: 27 })
    );
}

#[test]
fn counts_are_limited() {
    let body = RawBody::pki_conf().unwrap();
    let header = PkiHeader::new(null_dn(), null_dn());
    let certs = vec![RawDer::from_bytes(&[5, 0]).unwrap(); MAX_EXTRA_CERTS + 1];
    let built = MessageToProtect::new(&header, &body).unwrap();
    assert!(built.clone().into_der(None, &certs).is_err());
    let bytes = built.into_der(None, &certs[1..]).unwrap();
    assert_eq!(
        UnverifiedPkiMessage::from_der(&bytes)
            .unwrap()
            .extra_certs()
            .len(),
        16
    );
    // The same with one more, written by somebody else.
    let list = der::Any::new(der::Tag::Sequence, [5u8, 0].repeat(17))
        .unwrap()
        .to_der()
        .unwrap();
    let mut message = header.to_der().unwrap();
    message.extend_from_slice(&body.to_der().unwrap());
    message.push(0xa1);
    message.push(u8::try_from(list.len()).unwrap());
    message.extend_from_slice(&list);
    let message = der::Any::new(der::Tag::Sequence, message)
        .unwrap()
        .to_der()
        .unwrap();
    assert!(UnverifiedPkiMessage::from_der(&message).is_err());

    assert!(header.clone().with_transaction_id(&[0; 65]).is_err());
    assert!(header.clone().with_sender_kid(&[0; 129]).is_err());
    assert!(header.with_sender_nonce(&[0; 65]).is_err());
}

#[test]
fn mac_parameters_outside_the_range_are_refused() {
    let pbm = PbmParameter {
        salt: vec![1; 16],
        owf: HashAlg::Sha256,
        iterations: 500,
        mac: HashAlg::Sha256,
    };
    let pbmac1 = Pbmac1Parameter {
        salt: vec![2; 16],
        iterations: 2048,
        key_len: 32,
        prf: HashAlg::Sha256,
        mac: HashAlg::Sha256,
    };
    let read = |alg: &ProtectionAlg| ProtectionAlg::from_identifier(&alg.to_identifier().unwrap());
    for prf in [HashAlg::Sha1, HashAlg::Sha384, HashAlg::Sha512] {
        let alg = ProtectionAlg::Pbmac1(Pbmac1Parameter {
            prf,
            ..pbmac1.clone()
        });
        assert_eq!(read(&alg).unwrap(), alg);
    }
    for alg in [
        ProtectionAlg::PasswordBasedMac(pbm.clone()),
        ProtectionAlg::Pbmac1(pbmac1.clone()),
    ] {
        assert_eq!(read(&alg).unwrap(), alg);
        assert!(alg.is_mac());
    }
    for (salt, iterations) in [(16, 99), (16, 100_001), (16, u32::MAX), (65, 500)] {
        let salt = vec![0; salt];
        let bad = PbmParameter {
            salt: salt.clone(),
            iterations,
            ..pbm.clone()
        };
        assert_eq!(
            read(&ProtectionAlg::PasswordBasedMac(bad)),
            Err(CmpError::ProtectionParameters)
        );
    }
    for (key_len, iterations) in [(15, 2048), (65, 2048), (32, 0), (32, 100_001)] {
        let bad = Pbmac1Parameter {
            key_len,
            iterations,
            ..pbmac1.clone()
        };
        assert_eq!(
            read(&ProtectionAlg::Pbmac1(bad)),
            Err(CmpError::ProtectionParameters)
        );
    }
    let bare = spki::AlgorithmIdentifierOwned {
        oid: tegata_wire::cmp::oid::PASSWORD_BASED_MAC,
        parameters: None,
    };
    assert_eq!(
        ProtectionAlg::from_identifier(&bare),
        Err(CmpError::ProtectionParameters)
    );
    let mut null = ProtectionAlg::HMAC_SHA256.to_identifier().unwrap();
    assert!(null.parameters.is_some());
    null.parameters = None;
    assert_eq!(
        ProtectionAlg::from_identifier(&null),
        Ok(ProtectionAlg::HMAC_SHA256)
    );
}

#[test]
fn failure_bits_have_the_standard_positions() {
    // Bit 0 is the most significant of the first octet.
    for (bit, hex) in [
        (PkiFailureInfo::BAD_ALG, "03020780"),
        (PkiFailureInfo::BAD_MESSAGE_CHECK, "03020640"),
        (PkiFailureInfo::WRONG_AUTHORITY, "03020102"),
        (PkiFailureInfo::INCORRECT_DATA, "03020001"),
        (PkiFailureInfo::MISSING_TIME_STAMP, "0303070080"),
        (PkiFailureInfo::DUPLICATE_CERT_REQ, "03050500000020"),
    ] {
        assert_eq!(hex::encode(bit.to_der().unwrap()), hex);
        assert_eq!(
            PkiFailureInfo::from_der(&hex::decode(hex).unwrap()).unwrap(),
            bit
        );
    }
    assert_eq!(
        hex::encode(PkiFailureInfo::default().to_der().unwrap()),
        "030100"
    );
    let both = PkiFailureInfo::BAD_TIME | PkiFailureInfo::NOT_AUTHORIZED;
    assert_eq!(
        both.names().collect::<Vec<_>>(),
        ["BAD_TIME", "NOT_AUTHORIZED"]
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = UnverifiedPkiMessage::from_der(&bytes);
        let _ = PkiHeader::from_der(&bytes);
        let _ = RawBody::from_der(&bytes).map(|b| b.decode());
        let _ = RawDer::from_bytes(&bytes);
    }

    #[test]
    fn every_content_in_every_kind_never_panics(
        tag in 0u8..27, content in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let inner = der::Any::new(der::Tag::Sequence, content).unwrap().to_der().unwrap();
        let mut bytes = vec![0xa0 | tag, u8::try_from(inner.len()).unwrap()];
        bytes.extend_from_slice(&inner);
        let body = RawBody::from_der(&bytes).unwrap();
        prop_assert_eq!(body.kind.tag(), tag);
        if let Ok(decoded) = body.decode() {
            prop_assert_eq!(decoded.to_raw().unwrap().to_der().unwrap(), bytes);
        }
    }

    #[test]
    fn headers_round_trip(
        kid in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..129)),
        id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..65)),
        nonces in any::<Option<([u8; 16], [u8; 16])>>(),
        time in proptest::option::of(0u64..253_402_300_800),
        text in "[a-z手形]{0,20}",
        profile in proptest::option::of("[a-z手形]{1,20}"),
        implicit in any::<bool>(),
        version in 2u8..4,
    ) {
        let mut header = PkiHeader::new(null_dn(), null_dn()).with_free_text(&text);
        header.pvno = version;
        if let Some(kid) = &kid { header = header.with_sender_kid(kid).unwrap(); }
        if let Some(id) = &id { header = header.with_transaction_id(id).unwrap(); }
        if let Some((mine, yours)) = &nonces {
            header = header.with_sender_nonce(mine).unwrap().with_recip_nonce(yours).unwrap();
        }
        if let Some(time) = time { header = header.with_message_time(time).unwrap(); }
        if let Some(profile) = &profile { header = header.with_cert_profile(profile).unwrap(); }
        if implicit { header = header.with_implicit_confirm().unwrap(); }
        let body = RawBody::pki_conf().unwrap();
        let bytes = MessageToProtect::new(&header, &body).unwrap().into_der(None, &[]).unwrap();
        let got = UnverifiedPkiMessage::from_der(&bytes).unwrap();
        prop_assert_eq!(got.header(), &header);
        prop_assert_eq!(got.header().message_time_secs(), time);
        prop_assert_eq!(got.header().cert_profile().unwrap(), profile);
        prop_assert_eq!(got.header().implicit_confirm(), implicit);
        prop_assert_eq!(got.reencode().unwrap(), bytes);
        prop_assert!(matches!(got.body().decode().unwrap(), PkiBody::PkiConf));
    }

    #[test]
    fn failure_sets_round_trip(bits in 0u32..(1 << 27)) {
        let mut set = PkiFailureInfo::default();
        let all = [PkiFailureInfo::BAD_ALG, PkiFailureInfo::BAD_TIME, PkiFailureInfo::BAD_POP,
            PkiFailureInfo::UNACCEPTED_EXTENSION, PkiFailureInfo::DUPLICATE_CERT_REQ];
        for one in all {
            if one.bits() & bits != 0 { set = set | one; }
        }
        prop_assert_eq!(PkiFailureInfo::from_der(&set.to_der().unwrap()).unwrap(), set);
    }
}

/// Spec: RFC 9483 appendix A.
#[test]
fn the_rfcs_template_of_a_request_is_read_and_written() {
    let der = annotated("cmp/cert-req-template.hex");
    let parts: List<RawDer, 2> = List::from_der(&der).unwrap();
    let [template, keys] = <[RawDer; 2]>::try_from(parts.into_vec()).unwrap();
    let template: CertTemplate = template.decode_as().unwrap();
    // Empty is what the client fills in, absent is what it leaves out.
    assert!(template.issuer.as_ref().unwrap().is_empty());
    let subject = template.subject.as_ref().unwrap().to_der().unwrap();
    let subject = DistinguishedName::from_der(&subject).unwrap();
    assert_eq!(subject.to_display(), "CN=, OU=myDept, OU=myGroup");
    assert_eq!(template.public_key, None);
    let extensions = template.extensions.as_ref().unwrap();
    let extensions: Vec<_> = extensions
        .iter()
        .map(|e| {
            (
                e.extn_id.to_string(),
                e.critical,
                e.extn_value.as_bytes().len(),
            )
        })
        .collect();
    let of = |oid: &str, critical, len| (oid.to_owned(), critical, len);
    assert_eq!(
        extensions,
        [
            of("2.5.29.17", false, 22),
            of("2.5.29.15", true, 4),
            of("2.5.29.37", false, 2),
        ]
    );
    let keys: List<RegInfo, 4> = keys.decode_as().unwrap();
    let controls: Vec<_> = keys.iter().map(|control| control.oid).collect();
    assert_eq!(controls[0], oid::REG_CTRL_ALG_ID);
    assert_eq!(controls[1].to_string(), "1.3.6.1.5.5.7.5.1.12");
    // And it is written as it was read.
    let parts = [template.to_der().unwrap(), keys.to_der().unwrap()].concat();
    assert_eq!(der[3..], parts);
    // What we write ourselves has the same form: subject, extensions, one algId for a kind of key.
    let usage = template.extensions.unwrap().into_vec().remove(1);
    let usage = Extension {
        oid: usage.extn_id,
        critical: usage.critical,
        value: usage.extn_value.as_bytes().to_vec(),
    };
    let p256 = keys.into_vec().remove(0);
    let ours = cert_req_template(&subject, &[usage], &[p256.value.as_bytes().to_vec()]).unwrap();
    let ours = ours.as_bytes();
    let [subject_of, usage_of, key_of] = [&der[9..59], &der[92..108], &der[121..155]];
    for part in [subject_of, usage_of, key_of] {
        assert!(ours.windows(part.len()).any(|window| window == part));
    }
}
