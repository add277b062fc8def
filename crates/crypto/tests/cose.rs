//! COSE_Sign1 that is made is verified; anything odd is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{each_bit_flip, each_prefix, key, providers};
use tegata_crypto::cose::{
    CANDIDATES_MAX, COSE_LEN_BYTES_MAX, ContentType, CoseError, Sign1Headers, sign1,
    unverified_headers, verify_mac0, verify_sign1,
};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{CryptoError, KeyAlg, PrivateKey, Provider, PublicKey, Signer};
use tegata_wire::cbor::{self, Value};

const PAYLOAD: &[u8] = b"the payload";

fn made(key: &PrivateKey, headers: &Sign1Headers) -> Vec<u8> {
    sign1(key, PAYLOAD, headers, b"aad", false).unwrap()
}

#[test]
fn what_is_signed_is_verified() {
    for alg in KeyAlg::ALL {
        let key = key(alg, 1);
        let headers = Sign1Headers {
            content_type: Some(ContentType::Text("application/teep+cbor".into())),
            ..Sign1Headers::default()
        };
        let bytes = made(&key, &headers);
        assert_eq!(bytes[0], 0xd2, "tag 18");
        let keys = [
            self::key(alg, 2).public_key().clone(),
            key.public_key().clone(),
        ];
        for (_, provider) in providers() {
            let verified = verify_sign1(&*provider, &bytes, &keys, b"aad", None).unwrap();
            assert_eq!(verified.payload(), PAYLOAD);
            assert_eq!(
                verified.kid(),
                Some(key.public_key().thumbprint().as_slice())
            );
            assert_eq!(verified.alg(), alg.cose_alg());
            assert_eq!(verified.key(), key.public_key());
            assert_eq!(verified.content_type(), headers.content_type.as_ref());
            assert_eq!(verified.into_payload(), PAYLOAD);
        }
        let seen = unverified_headers(&bytes).unwrap();
        assert_eq!(
            seen.kid.as_deref(),
            Some(key.public_key().thumbprint().as_slice())
        );
        assert_eq!((seen.alg, seen.x5chain.len()), (alg.cose_alg(), 0));
    }
}

#[test]
fn every_bit_and_every_byte_counts() {
    for alg in KeyAlg::ALL {
        let key = key(alg, 3);
        let bytes = made(&key, &Sign1Headers::default());
        let verify =
            |bytes: &[u8]| verify_sign1(&RustCrypto, bytes, key.public_key(), b"aad", None);
        assert!(verify(&bytes).is_ok());
        each_bit_flip(&bytes, |bit, changed| {
            assert!(verify(changed).is_err(), "{alg} bit {bit}")
        });
        each_prefix(&bytes, |prefix| assert!(verify(prefix).is_err()));
        assert!(verify(&[bytes.as_slice(), &[0]].concat()).is_err());
        let other_aad = verify_sign1(&RustCrypto, &bytes, key.public_key(), b"other", None);
        assert_eq!(other_aad.err(), Some(CryptoError::BadSignature.into()));
    }
}

#[test]
fn detached_payloads() {
    let key = key(KeyAlg::P256, 4);
    let headers = Sign1Headers::default();
    let detached = sign1(&key, PAYLOAD, &headers, b"", true).unwrap();
    let attached = sign1(&key, PAYLOAD, &headers, b"", false).unwrap();
    let verify = |bytes: &[u8], payload: Option<&[u8]>| {
        verify_sign1(&RustCrypto, bytes, key.public_key(), b"", payload).map(|v| v.into_payload())
    };
    assert_eq!(verify(&detached, Some(PAYLOAD)), Ok(PAYLOAD.to_vec()));
    assert_eq!(verify(&attached, None), Ok(PAYLOAD.to_vec()));
    assert_eq!(verify(&detached, None), Err(CoseError::Detached));
    assert_eq!(verify(&attached, Some(PAYLOAD)), Err(CoseError::Detached));
    assert_eq!(
        verify(&detached, Some(b"x")),
        Err(CryptoError::BadSignature.into())
    );
}

#[test]
fn framing() {
    let key = key(KeyAlg::Ed25519, 5);
    let untagged = Sign1Headers {
        untagged: true,
        ..Sign1Headers::default()
    };
    let bytes = made(&key, &untagged);
    let verify = |bytes: &[u8]| verify_sign1(&RustCrypto, bytes, key.public_key(), b"aad", None);
    assert!(verify(&bytes).is_ok());
    let tagged = |tags: &[u8]| [tags, &bytes].concat();
    assert!(verify(&tagged(&[0xd2])).is_ok(), "18");
    assert!(verify(&tagged(&[0xd8, 0x3d, 0xd2])).is_ok(), "61(18)");
    let refused: [&[u8]; 6] = [
        &[0xd8, 0x3d],             // 61 without 18
        &[0xd2, 0xd2],             // 18(18)
        &[0xd2, 0xd8, 0x3d],       // 18(61)
        &[0xd1],                   // 17
        &[0xd8, 0x62],             // 98
        &[0xd9, 0xd9, 0xf7, 0xd2], // self-described CBOR
    ];
    for tags in refused {
        assert!(verify(&tagged(tags)).is_err(), "{tags:?}");
    }
    assert!(matches!(
        verify(&vec![0; COSE_LEN_BYTES_MAX + 1]).err(),
        Some(CoseError::TooLarge { .. })
    ));
}

#[test]
fn certificates_travel_unprotected() {
    let key = key(KeyAlg::P256, 6);
    for chain in [vec![vec![1]], vec![vec![1], vec![2, 3]]] {
        let headers = Sign1Headers {
            x5chain: chain.clone(),
            ..Sign1Headers::default()
        };
        let bytes = made(&key, &headers);
        assert_eq!(unverified_headers(&bytes).unwrap().x5chain, chain);
        assert!(verify_sign1(&RustCrypto, &bytes, key.public_key(), b"aad", None).is_ok());
    }
}

#[test]
fn keys_are_found_by_kid_or_tried_in_turn() {
    let signer = key(KeyAlg::P256, 7);
    let strangers = |n: u64| -> Vec<PublicKey> {
        (100..100 + n)
            .map(|seed| key(KeyAlg::P256, seed).public_key().clone())
            .collect()
    };
    let with_kid = made(&signer, &Sign1Headers::default());
    let no_kid = made(
        &signer,
        &Sign1Headers {
            no_kid: true,
            ..Sign1Headers::default()
        },
    );
    let verify = |bytes: &[u8], keys: &[PublicKey]| {
        verify_sign1(&RustCrypto, bytes, keys, b"aad", None).map(drop)
    };
    let mut keys = strangers(20);
    assert_eq!(verify(&with_kid, &keys), Err(CoseError::UnknownKey));
    keys.push(signer.public_key().clone());
    assert_eq!(verify(&with_kid, &keys), Ok(()));
    assert!(
        verify(&no_kid, &keys).is_err(),
        "beyond the number of keys that are tried"
    );
    let mut keys = strangers(u64::try_from(CANDIDATES_MAX).unwrap() - 1);
    keys.push(signer.public_key().clone());
    assert_eq!(verify(&no_kid, &keys), Ok(()));
    assert_eq!(verify(&no_kid, &[]), Err(CoseError::UnknownKey));
    let by_closure = |kid: Option<&[u8]>| {
        (kid == Some(&signer.public_key().thumbprint())).then(|| signer.public_key().clone())
    };
    assert!(verify_sign1(&RustCrypto, &with_kid, &by_closure, b"aad", None).is_ok());
    assert!(verify_sign1(&RustCrypto, &no_kid, &by_closure, b"aad", None).is_err());
}

/// A COSE_Sign1 with these headers, whatever they are, correctly signed.
fn forged(
    key: &PrivateKey,
    protected: Vec<(Value, Value)>,
    unprotected: Vec<(Value, Value)>,
) -> Vec<u8> {
    let protected = cbor::encode(&Value::Map(protected)).unwrap();
    signed_raw(key, protected, Value::Map(unprotected))
}

fn signed_raw(key: &PrivateKey, protected: Vec<u8>, unprotected: Value) -> Vec<u8> {
    let signed = cbor::encode(&Value::Array(vec![
        "Signature1".into(),
        Value::Bytes(protected.clone()),
        Value::Bytes(vec![]),
        Value::Bytes(PAYLOAD.to_vec()),
    ]));
    let signature = key.sign(&signed.unwrap()).unwrap();
    cbor::encode(&Value::Array(vec![
        Value::Bytes(protected),
        unprotected,
        Value::Bytes(PAYLOAD.to_vec()),
        Value::Bytes(signature),
    ]))
    .unwrap()
}

#[test]
fn odd_headers_are_refused() {
    let key = key(KeyAlg::P256, 8);
    let kid = || {
        (
            Value::from(4),
            Value::Bytes(key.public_key().thumbprint().to_vec()),
        )
    };
    let alg = |alg: i64| (Value::from(1), Value::from(alg));
    let crit = |labels: Vec<Value>| (Value::from(2), Value::Array(labels));
    let verify = |protected, unprotected| {
        let bytes = forged(&key, protected, unprotected);
        verify_sign1(&RustCrypto, &bytes, key.public_key(), b"", None).map(drop)
    };
    assert_eq!(verify(vec![alg(-9), kid()], vec![]), Ok(()));
    assert_eq!(
        verify(vec![alg(-7)], vec![kid()]),
        Ok(()),
        "ES256, kid unprotected"
    );
    // A header that is not understood and not critical is passed over.
    assert_eq!(
        verify(vec![alg(-9), (Value::from(1000), Value::Null)], vec![]),
        Ok(())
    );
    assert_eq!(verify(vec![alg(-9), crit(vec![1.into()])], vec![]), Ok(()));

    let refuse = |protected, unprotected| verify(protected, unprotected).unwrap_err();
    assert_eq!(refuse(vec![], vec![alg(-9)]), CoseError::NoAlgorithm);
    assert_eq!(refuse(vec![kid()], vec![]), CoseError::NoAlgorithm);
    for other in [-8, -19, -35, -51, -36, -47, 0, 5] {
        let refused = refuse(vec![alg(other)], vec![]);
        assert_eq!(refused, CoseError::Algorithm { alg: other });
    }
    assert_eq!(
        refuse(vec![(1.into(), "ES256".into())], vec![]),
        CoseError::Malformed
    );
    // The same label twice, in one map or across both.
    assert!(matches!(
        refuse(vec![alg(-9), alg(-9)], vec![]),
        CoseError::Cbor(_)
    ));
    assert_eq!(refuse(vec![alg(-9)], vec![alg(-9)]), CoseError::Malformed);
    assert_eq!(
        refuse(vec![alg(-9), kid()], vec![kid()]),
        CoseError::Malformed
    );
    assert_eq!(
        refuse(vec![alg(-9), (Value::Bytes(vec![1]), 1.into())], vec![]),
        CoseError::Malformed
    );
    assert_eq!(
        refuse(vec![alg(-9), (4.into(), "kid".into())], vec![]),
        CoseError::Malformed
    );
    let long = (Value::from(4), Value::Bytes(vec![0; 300]));
    assert_eq!(refuse(vec![alg(-9), long], vec![]), CoseError::Malformed);
    // Critical headers.
    for labels in [
        vec![],
        vec![Value::from(1000)],
        vec![Value::from("text")],
        vec![Value::from(4)], // understood, and not there
        vec![Value::from(1), Value::from(1000)],
    ] {
        let protected = vec![alg(-9), crit(labels), (Value::from(1000), Value::Null)];
        assert_eq!(refuse(protected, vec![]), CoseError::Critical);
    }
    assert_eq!(
        refuse(vec![alg(-9), (2.into(), 1.into())], vec![]),
        CoseError::Critical
    );
    assert_eq!(
        refuse(vec![alg(-9)], vec![crit(vec![1.into()])]),
        CoseError::Critical
    );
}

#[test]
fn odd_structures_are_refused() {
    let key = key(KeyAlg::P256, 9);
    let good = forged(&key, vec![(1.into(), (-9).into())], vec![]);
    let value = cbor::decode(&good, 8).unwrap().into_array().unwrap();
    let verify = |items: Vec<Value>| {
        let bytes = cbor::encode(&Value::Array(items)).unwrap();
        verify_sign1(&RustCrypto, &bytes, key.public_key(), b"", None).map(drop)
    };
    assert_eq!(verify(value.clone()), Ok(()));
    for at in 0..4 {
        for odd in [
            Value::from(0),
            Value::Null,
            "text".into(),
            Value::Array(vec![]),
        ] {
            let mut items = value.clone();
            items[at] = odd;
            assert!(verify(items).is_err(), "element {at}");
        }
        let mut items = value.clone();
        items.remove(at);
        assert!(verify(items).is_err());
    }
    let mut items = value.clone();
    items.push(Value::Null);
    assert!(verify(items).is_err());
    // A protected header that is no map, or has bytes after its map.
    for protected in [vec![0x80], vec![0x01], vec![0xa0, 0x00], vec![0xa1, 0x01]] {
        let bytes = signed_raw(&key, protected, Value::Map(vec![]));
        assert!(verify_sign1(&RustCrypto, &bytes, key.public_key(), b"", None).is_err());
    }
}

#[test]
fn mac0_needs_its_key_and_every_bit() {
    let protected = vec![0xa1, 0x01, 0x05];
    let structure = Value::Array(vec![
        "MAC0".into(),
        Value::Bytes(protected.clone()),
        Value::Bytes(b"aad".to_vec()),
        Value::Bytes(PAYLOAD.to_vec()),
    ]);
    let tag = RustCrypto.hmac_sha256(b"key", &cbor::encode(&structure).unwrap());
    let message = Value::Array(vec![
        Value::Bytes(protected),
        Value::Map(vec![]),
        Value::Bytes(PAYLOAD.to_vec()),
        Value::Bytes(tag.to_vec()),
    ]);
    let bytes = cbor::encode(&cbor::tagged(17, message)).unwrap();
    for (_, provider) in providers() {
        let verify = |bytes: &[u8], key: &[u8]| verify_mac0(&*provider, bytes, key, b"aad", None);
        assert_eq!(verify(&bytes, b"key"), Ok(PAYLOAD.to_vec()));
        assert_eq!(verify(&bytes, b"other"), Err(CryptoError::BadMac.into()));
        each_bit_flip(&bytes, |_, changed| {
            assert!(verify(changed, b"key").is_err())
        });
    }
    // A MAC is no signature.
    let key = key(KeyAlg::P256, 1);
    assert!(verify_sign1(&RustCrypto, &bytes, key.public_key(), b"aad", None).is_err());
}
