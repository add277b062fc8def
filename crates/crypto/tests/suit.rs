//! SUIT payload encryption and envelopes: what is made opens; anything changed does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{BrokenRng, TestRng, each_bit_flip, each_prefix, key, providers};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::suit::{
    DeliveryKeys, SuitError, dangerous_open_payload_or_ctr, encryption_info_a128kw,
    encryption_info_ecdh_es, generate_cek, open_payload, seal_payload, sign_envelope,
    verify_envelope,
};
use tegata_crypto::{KeyAlg, PublicKey, Secret};
use tegata_wire::cbor::{self, Value};
use tegata_wire::suit::{
    Command, ComponentId, Condition, EnvelopeBuilder, Manifest, Section, UnverifiedEnvelope,
};

const PLAIN: &[u8] = b"\0asm a small program";

#[test]
fn both_ways_of_delivery_open_on_every_provider() {
    let kek = Secret::new([7; 16]);
    let device = key(KeyAlg::P256, 1);
    for (_, seals) in providers() {
        let rng = &mut TestRng::new(1);
        let cek = generate_cek(rng).unwrap();
        let (sealed, iv) = seal_payload(&*seals, rng, &cek, PLAIN).unwrap();
        let symmetric = encryption_info_a128kw(&*seals, &kek, b"kek-1", &cek, &iv).unwrap();
        let asymmetric =
            encryption_info_ecdh_es(&*seals, rng, device.public_key(), &cek, &iv).unwrap();
        let again = encryption_info_ecdh_es(&*seals, rng, device.public_key(), &cek, &iv).unwrap();
        assert_ne!(asymmetric, again, "a new ephemeral key each time");
        let ours = DeliveryKeys {
            kek: Some(&kek),
            ecdh: Some(&device),
        };
        for (_, opens) in providers() {
            for info in [&symmetric, &asymmetric, &again] {
                assert!(
                    open_payload(&*opens, info, &sealed, ours)
                        .unwrap()
                        .ct_eq(PLAIN)
                );
                let also = dangerous_open_payload_or_ctr(&*opens, info, &sealed, ours).unwrap();
                assert!(also.ct_eq(PLAIN));
            }
        }
    }
    assert!(generate_cek(&mut BrokenRng).is_err());
    assert!(seal_payload(&RustCrypto, &mut BrokenRng, &Secret::new([1; 16]), PLAIN).is_err());
    let cek = Secret::new([1; 16]);
    let broken = &mut BrokenRng;
    let info = encryption_info_ecdh_es(&RustCrypto, broken, device.public_key(), &cek, &[0; 12]);
    assert!(info.is_err());
    let p384 = key(KeyAlg::P384, 1);
    let rng = &mut TestRng::new(2);
    let info = encryption_info_ecdh_es(&RustCrypto, rng, p384.public_key(), &cek, &[0; 12]);
    assert!(info.is_err(), "only P-256 recipients");
}

#[test]
fn another_device_cannot_open() {
    let rng = &mut TestRng::new(3);
    let (kek, other_kek) = (Secret::new([7; 16]), Secret::new([8; 16]));
    let (device, other) = (key(KeyAlg::P256, 1), key(KeyAlg::P256, 2));
    let cek = generate_cek(rng).unwrap();
    let (sealed, iv) = seal_payload(&RustCrypto, rng, &cek, PLAIN).unwrap();
    let symmetric = encryption_info_a128kw(&RustCrypto, &kek, b"k", &cek, &iv).unwrap();
    let asymmetric =
        encryption_info_ecdh_es(&RustCrypto, rng, device.public_key(), &cek, &iv).unwrap();
    let open = |info: &[u8], keys| open_payload(&RustCrypto, info, &sealed, keys).err();
    let theirs = DeliveryKeys {
        kek: Some(&other_kek),
        ecdh: Some(&other),
    };
    assert_eq!(open(&symmetric, theirs), Some(SuitError::NotForUs));
    assert_eq!(open(&asymmetric, theirs), Some(SuitError::NotForUs));
    assert_eq!(
        open(&symmetric, DeliveryKeys::default()),
        Some(SuitError::NotForUs)
    );
    let only_ecdh = DeliveryKeys {
        kek: None,
        ecdh: Some(&device),
    };
    let only_kek = DeliveryKeys {
        kek: Some(&kek),
        ecdh: None,
    };
    assert_eq!(open(&symmetric, only_ecdh), Some(SuitError::NotForUs));
    assert_eq!(open(&asymmetric, only_kek), Some(SuitError::NotForUs));
}

#[test]
fn every_bit_of_a_delivery_counts() {
    let rng = &mut TestRng::new(4);
    let kek = Secret::new([7; 16]);
    let device = key(KeyAlg::P256, 1);
    let cek = generate_cek(rng).unwrap();
    let (sealed, iv) = seal_payload(&RustCrypto, rng, &cek, PLAIN).unwrap();
    let symmetric = encryption_info_a128kw(&RustCrypto, &kek, b"", &cek, &iv).unwrap();
    let asymmetric =
        encryption_info_ecdh_es(&RustCrypto, rng, device.public_key(), &cek, &iv).unwrap();
    let keys = DeliveryKeys {
        kek: Some(&kek),
        ecdh: Some(&device),
    };
    let open = |info: &[u8], sealed: &[u8]| open_payload(&RustCrypto, info, sealed, keys);
    // The recipient's kid is a hint that nothing authenticates: its label and value alone may
    // change. In both forms it is found by what stands there.
    let at = |info: &[u8], what: &[u8]| info.windows(what.len()).position(|w| w == what).unwrap();
    let thumbprint = device.public_key().thumbprint();
    let kw = at(&symmetric, &[0x01, 0x22, 0x04, 0x40]) + 2;
    let es = at(
        &asymmetric,
        &[&[0x04, 0x58, 0x20], thumbprint.as_slice()].concat(),
    );
    for (info, free) in [(&symmetric, kw..kw + 2), (&asymmetric, es..es + 35)] {
        assert!(open(info, &sealed).unwrap().ct_eq(PLAIN));
        each_bit_flip(info, |bit, changed| {
            let opened = open(changed, &sealed);
            assert!(opened.is_err() || free.contains(&(bit / 8)), "bit {bit}");
        });
        each_prefix(info, |prefix| assert!(open(prefix, &sealed).is_err()));
        each_bit_flip(&sealed, |_, changed| assert!(open(info, changed).is_err()));
        each_prefix(&sealed, |prefix| assert!(open(info, prefix).is_err()));
    }
}

/// COSE_Encrypt of these parts.
fn info(protected: Value, unprotected: Value, payload: Value, recipients: Vec<Value>) -> Vec<u8> {
    let items = vec![protected, unprotected, payload, Value::Array(recipients)];
    cbor::encode(&cbor::tagged(96, Value::Array(items))).unwrap()
}

fn map(entries: Vec<(i64, Value)>) -> Value {
    Value::Map(
        entries
            .into_iter()
            .map(|(label, value)| (label.into(), value))
            .collect(),
    )
}

fn wrapped_map(entries: Vec<(i64, Value)>) -> Value {
    Value::Bytes(cbor::encode(&map(entries)).unwrap())
}

#[test]
fn odd_encryption_information_is_refused() {
    use tegata_crypto::Provider;
    let kek = Secret::new([7; 16]);
    let keys = DeliveryKeys {
        kek: Some(&kek),
        ecdh: None,
    };
    let cek = Secret::new([9; 16]);
    let (sealed, iv) = seal_payload(&RustCrypto, &mut TestRng::new(5), &cek, PLAIN).unwrap();
    let wrap = |key: &[u8]| Value::Bytes(RustCrypto.aes_kw_wrap(&[7; 16], key).unwrap());
    let empty = || Value::Bytes(vec![]);
    let kw = |protected: Value, key: &[u8]| {
        Value::Array(vec![protected, map(vec![(1, (-3).into())]), wrap(key)])
    };
    let gcm = || wrapped_map(vec![(1, 1.into())]);
    let ivs = |iv: &[u8]| map(vec![(5, Value::Bytes(iv.to_vec()))]);
    let open = |bytes: Vec<u8>| open_payload(&RustCrypto, &bytes, &sealed, keys).map(drop);
    let good = || vec![kw(empty(), &[9; 16])];
    assert_eq!(open(info(gcm(), ivs(&iv), Value::Null, good())), Ok(()));
    // An empty map counts as empty; a stranger's recipient before ours is passed over.
    let after = vec![kw(empty(), &[9; 16])];
    let stranger = Value::Array(vec![
        empty(),
        map(vec![(1, (-3).into())]),
        Value::Bytes(RustCrypto.aes_kw_wrap(&[1; 16], &[9; 16]).unwrap()),
    ]);
    let two = [vec![stranger.clone()], after].concat();
    assert_eq!(open(info(gcm(), ivs(&iv), Value::Null, two)), Ok(()));

    let refused = [
        (
            "attached payload",
            info(gcm(), ivs(&iv), Value::Bytes(vec![]), good()),
        ),
        ("no recipient", info(gcm(), ivs(&iv), Value::Null, vec![])),
        (
            "too many",
            info(gcm(), ivs(&iv), Value::Null, vec![stranger.clone(); 5]),
        ),
        (
            "not ours",
            info(gcm(), ivs(&iv), Value::Null, vec![stranger]),
        ),
        ("long iv", info(gcm(), ivs(&[0; 13]), Value::Null, good())),
        ("short iv", info(gcm(), ivs(&iv[..11]), Value::Null, good())),
        ("no iv", info(gcm(), map(vec![]), Value::Null, good())),
        (
            "A256GCM",
            info(
                wrapped_map(vec![(1, 3.into())]),
                ivs(&iv),
                Value::Null,
                good(),
            ),
        ),
        ("no alg", info(empty(), ivs(&iv), Value::Null, good())),
        (
            "alg of an AEAD unprotected",
            info(
                empty(),
                map(vec![(1, 1.into()), (5, iv.to_vec().into())]),
                Value::Null,
                good(),
            ),
        ),
        (
            "another protected header",
            info(
                wrapped_map(vec![(1, 1.into()), (9, 9.into())]),
                ivs(&iv),
                Value::Null,
                good(),
            ),
        ),
        (
            "critical header",
            info(
                wrapped_map(vec![
                    (1, 1.into()),
                    (2, Value::Array(vec![9.into()])),
                    (9, 9.into()),
                ]),
                ivs(&iv),
                Value::Null,
                good(),
            ),
        ),
        (
            "content key of 32 bytes",
            info(gcm(), ivs(&iv), Value::Null, vec![kw(empty(), &[9; 32])]),
        ),
        (
            "key wrap with a protected header",
            info(
                gcm(),
                ivs(&iv),
                Value::Null,
                vec![kw(wrapped_map(vec![(9, 9.into())]), &[9; 16])],
            ),
        ),
        (
            "direct encryption",
            info(
                gcm(),
                ivs(&iv),
                Value::Null,
                vec![Value::Array(vec![
                    empty(),
                    map(vec![(1, (-6).into())]),
                    empty(),
                ])],
            ),
        ),
    ];
    for (what, bytes) in refused {
        assert!(open(bytes).is_err(), "{what}");
    }
    assert!(open(vec![0; 5000]).is_err());
    // CTR is opened only where that was asked for.
    let ctr = info(
        empty(),
        map(vec![(1, (-65534).into()), (5, Value::Bytes(vec![0; 16]))]),
        Value::Null,
        good(),
    );
    assert_eq!(
        open(ctr.clone()),
        Err(SuitError::Algorithm {
            what: "content",
            alg: -65534
        })
    );
    assert!(dangerous_open_payload_or_ctr(&RustCrypto, &ctr, b"x", keys).is_ok());
}

fn builder() -> EnvelopeBuilder<'static> {
    let manifest = Manifest::new(1, vec![ComponentId::new(&["app"])]).with_section(
        Section::Validate,
        vec![Command::check(Condition::ImageMatch)],
    );
    use tegata_crypto::Provider;
    EnvelopeBuilder::new(&manifest, |bytes| RustCrypto.sha256(bytes)).unwrap()
}

#[test]
fn an_envelope_counts_with_a_trusted_signature_only() {
    let release = key(KeyAlg::P256, 1);
    let stranger = key(KeyAlg::P256, 2);
    let trusted = [release.public_key().clone()];
    let envelope = |signers: &[&dyn tegata_crypto::Signer]| {
        let mut builder = builder();
        for signer in signers {
            sign_envelope(*signer, &mut builder).unwrap();
        }
        builder.integrate("#app", b"payload".to_vec()).unwrap();
        builder.finish().unwrap()
    };
    for (_, provider) in providers() {
        let verify = |bytes: &[u8], keys: &[PublicKey]| {
            let envelope = UnverifiedEnvelope::decode(bytes).map_err(SuitError::from)?;
            verify_envelope(&*provider, envelope, keys)
        };
        let one = verify(&envelope(&[&release]), &trusted).unwrap();
        assert_eq!(one.signer().0, release.public_key().thumbprint());
        assert_eq!(one.key(), release.public_key());
        assert_eq!(one.integrated("#app"), Some(b"payload".as_slice()));
        assert_eq!(one.digest(), builder().digest());
        assert!(verify(&envelope(&[&stranger, &release]), &trusted).is_ok());
        for (signers, keys) in [
            (vec![], trusted.as_slice()),
            (vec![&stranger as &dyn tegata_crypto::Signer], &trusted),
            (vec![&release], &[]),
        ] {
            let refused = verify(&envelope(&signers), keys).err();
            assert_eq!(refused, Some(SuitError::Untrusted));
        }
    }
}

#[test]
fn every_bit_of_an_envelope_counts() {
    let release = key(KeyAlg::Ed25519, 1);
    let mut builder = builder();
    sign_envelope(&release, &mut builder).unwrap();
    let bytes = builder.finish().unwrap();
    let verify = |bytes: &[u8]| {
        let envelope = UnverifiedEnvelope::decode(bytes).map_err(SuitError::from)?;
        verify_envelope(&RustCrypto, envelope, release.public_key()).map(drop)
    };
    assert_eq!(verify(&bytes), Ok(()));
    each_bit_flip(&bytes, |bit, changed| {
        assert!(verify(changed).is_err(), "bit {bit}")
    });
    each_prefix(&bytes, |prefix| assert!(verify(prefix).is_err()));
}
