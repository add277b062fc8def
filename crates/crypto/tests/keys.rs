//! Keys in every form; what is no key is refused; keys of a device against worked values that
//! were computed apart from this code (docs/spec/keys.md).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::providers;
use common::{BrokenRng, StuckRng, TestRng, each_bit_flip, each_prefix, hex, hex_array, key};
use tegata_crypto::{
    CryptoError, KeyAlg, PrivateKey, Provider, PublicKey, Secret, Signer, csr_auth, device_keys,
    rustcrypto::RustCrypto, seal,
};

#[test]
fn thumbprint_rfc9679() {
    // Section 7: the example key and its thumbprint.
    let cose_key = hex(
        "a4010220012158 20 65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d
         2258 20 1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c",
    );
    let key = PublicKey::from_cose_key(&cose_key).unwrap();
    let expected = "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec";
    assert_eq!(hex::encode(key.thumbprint()), expected);
    assert_eq!(key.to_cose_key().unwrap(), cose_key);
}

#[test]
fn public_keys_survive_every_form() {
    for alg in KeyAlg::ALL {
        for seed in 0..20 {
            let key = key(alg, seed).public_key().clone();
            assert_eq!(key.bytes().len(), alg.public_len());
            assert_eq!(PublicKey::from_sec1(alg, key.bytes()).unwrap(), key);
            let spki = key.to_spki_der().unwrap();
            assert_eq!(PublicKey::from_spki_der(&spki).unwrap(), key);
            let cose = key.to_cose_key().unwrap();
            assert_eq!(PublicKey::from_cose_key(&cose).unwrap(), key);
            each_prefix(&spki, |prefix| {
                assert!(PublicKey::from_spki_der(prefix).is_err())
            });
            each_prefix(&cose, |prefix| {
                assert!(PublicKey::from_cose_key(prefix).is_err())
            });
            let more = [spki.as_slice(), &[0]].concat();
            assert!(PublicKey::from_spki_der(&more).is_err());
            let more = [cose.as_slice(), &[0]].concat();
            assert!(PublicKey::from_cose_key(&more).is_err());
            if alg != KeyAlg::Ed25519 {
                let (x, y) = key.bytes()[1..].split_at(alg.scalar_len());
                let odd = y[y.len() - 1] & 1;
                let compressed = [&[2 + odd], x].concat();
                assert_eq!(PublicKey::from_sec1(alg, &compressed).unwrap(), key);
                let other = [&[3 - odd], x].concat();
                assert_ne!(PublicKey::from_sec1(alg, &other).unwrap(), key);
                for tag in [0, 1, 5, 6, 7, 8, 0xff] {
                    let mut changed = key.bytes().to_vec();
                    changed[0] = tag;
                    assert!(PublicKey::from_sec1(alg, &changed).is_err(), "tag {tag}");
                }
            }
        }
    }
}

#[test]
fn changed_points_are_other_keys_or_none() {
    for alg in KeyAlg::ALL {
        let key = key(alg, 3).public_key().clone();
        each_bit_flip(key.bytes(), |_, changed| {
            if let Ok(other) = PublicKey::from_sec1(alg, changed) {
                assert_ne!(other, key);
                assert_ne!(other.thumbprint(), key.thumbprint());
                // An uncompressed point with one bit changed is off the curve.
                assert_eq!(alg, KeyAlg::Ed25519);
            }
        });
    }
}

#[test]
fn points_that_are_no_keys_are_refused() {
    for alg in [KeyAlg::P256, KeyAlg::P384] {
        let len = alg.scalar_len();
        let refused = [
            vec![],
            vec![0], // the identity
            vec![4; 1],
            [vec![4], vec![0; 2 * len]].concat(), // (0, 0) is off the curve
            [vec![4], vec![0xff; 2 * len]].concat(), // coordinates above p
            vec![2; len],                         // too short
            vec![2; len + 2],                     // too long
        ];
        for bytes in refused {
            assert!(
                PublicKey::from_sec1(alg, &bytes).is_err(),
                "{alg} {bytes:?}"
            );
        }
    }
    // Points of small order, canonical or not: any message would have a valid signature.
    let small = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ];
    for bytes in small {
        assert!(PublicKey::from_ed25519(&hex(bytes)).is_err(), "{bytes}");
    }
    // y = 2^255 - 1 is a non-canonical form of 18, which is not of small order.
    assert!(PublicKey::from_ed25519(&[0xff; 32]).is_err());
    let mut not_canonical = [0xff; 32];
    not_canonical[31] = 0x7f;
    assert!(PublicKey::from_ed25519(&not_canonical).is_err());
    for len in [0, 31, 33, 64] {
        assert!(PublicKey::from_ed25519(&vec![9; len]).is_err());
    }
}

#[test]
fn odd_cose_keys_are_refused() {
    let x = "65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d";
    let y = "1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c";
    let good = format!("01022001215820{x}225820{y}");
    let cose =
        |items: u8, body: &str| PublicKey::from_cose_key(&hex(&format!("{items:02x}{body}")));
    let key = cose(0xa4, &good).unwrap();
    // Parameters without meaning here: kid, key_ops; an alg that fits; ECDH-ES+A128KW.
    assert_eq!(cose(0xa6, &format!("{good}02413104810 2")).unwrap(), key);
    assert_eq!(cose(0xa5, &format!("{good}0326")).unwrap(), key, "ES256");
    assert_eq!(cose(0xa5, &format!("{good}0328")).unwrap(), key, "ESP256");
    assert_eq!(
        cose(0xa5, &format!("{good}03381c")).unwrap(),
        key,
        "ECDH-ES+A128KW"
    );
    // y as a sign.
    let sign = |y: &str| cose(0xa4, &format!("01022001215820{x}22{y}"));
    assert_eq!(sign("f4").unwrap(), key);
    assert_ne!(sign("f5").unwrap(), key);
    let refused = [
        (0xa5, format!("{good}235820{x}"), "d: a private key"),
        (0xa5, format!("{good}0327"), "alg EdDSA"),
        (0xa5, format!("{good}033822"), "alg ES384"),
        (0xa5, format!("{good}0101"), "kty twice"),
        (0xa5, format!("{good}2001"), "crv twice"),
        (0xa4, format!("01012001215820{x}225820{y}"), "kty OKP"),
        (0xa4, format!("01022002215820{x}225820{y}"), "crv P-384"),
        (0xa4, format!("01022006215820{x}225820{y}"), "crv Ed25519"),
        (0xa4, format!("01022008215820{x}225820{y}"), "crv secp256k1"),
        (
            0xa4,
            format!("010220012158 1f {}225820{y}", &x[2..]),
            "x of 31 bytes",
        ),
        (
            0xa4,
            format!("0102200121582100{x}225820{y}"),
            "x of 33 bytes",
        ),
        (0xa3, format!("0102200122 5820{y}"), "no x"),
        (0xa3, format!("01022001215820{x}"), "no y"),
        (0xa4, format!("01022001215820{x}22f6"), "y null"),
        (0xa4, format!("01022001215820{x}225820{x}"), "off the curve"),
        (
            0xa4,
            format!("0161 32 2001215820{x}225820{y}"),
            "kty as text",
        ),
        (0x84, good.clone(), "an array"),
    ];
    for (items, body, what) in refused {
        assert!(
            cose(items, &body).is_err() || what == "indefinite length",
            "{what}"
        );
    }
    let long = format!("{good}025904b0{}", "00".repeat(1200));
    assert!(matches!(
        cose(0xa5, &long),
        Err(CryptoError::LimitExceeded { .. })
    ));
}

#[test]
fn odd_spki_are_refused() {
    let p256 = key(KeyAlg::P256, 1).public_key().to_spki_der().unwrap();
    let ed25519 = key(KeyAlg::Ed25519, 1).public_key().to_spki_der().unwrap();
    let unused_bits = {
        let mut der = p256.clone();
        let at = der.len() - 66;
        assert_eq!(der[at], 0);
        der[at] = 1;
        der
    };
    let with_null = {
        let mut der = hex("302c300706032b65700500032100");
        der.extend_from_slice(&ed25519[ed25519.len() - 32..]);
        der
    };
    let secp256k1 = {
        // 1.3.132.0.10
        let mut der = hex("3056301006072a8648ce3d020106052b8104000a034200");
        der.extend_from_slice(&p256[p256.len() - 65..]);
        der
    };
    let no_curve = {
        let mut der = hex("304d300706072a8648ce3d0201034200");
        der.extend_from_slice(&p256[p256.len() - 65..]);
        der
    };
    let p384_curve = {
        let mut der = hex("3056301006072a8648ce3d020106052b81040022034200");
        der.extend_from_slice(&p256[p256.len() - 65..]);
        der
    };
    for der in [unused_bits, with_null, secp256k1, no_curve, p384_curve] {
        assert!(matches!(
            PublicKey::from_spki_der(&der),
            Err(CryptoError::InvalidKey(_))
        ));
    }
}

#[test]
fn private_keys_survive_storage() {
    for alg in KeyAlg::ALL {
        for seed in 0..10 {
            let key = key(alg, seed);
            let der = key.to_pkcs8_der().unwrap();
            let again = PrivateKey::from_pkcs8_der(der.expose_secret()).unwrap();
            assert_eq!(again.public_key(), key.public_key());
            assert!(
                again
                    .expose_scalar_bytes()
                    .ct_eq(key.expose_scalar_bytes().expose_secret())
            );
            let scalar = key.expose_scalar_bytes();
            assert_eq!(scalar.expose_secret().len(), alg.scalar_len());
            let again = PrivateKey::from_scalar_bytes(alg, scalar.expose_secret()).unwrap();
            assert_eq!(again.public_key(), key.public_key());
            let copy = key.dangerous_clone();
            assert_eq!(copy.sign(b"m").unwrap(), key.sign(b"m").unwrap());
            if seed == 0 {
                each_prefix(der.expose_secret(), |prefix| {
                    assert!(PrivateKey::from_pkcs8_der(prefix).is_err());
                });
            }
        }
    }
    assert!(PrivateKey::from_pkcs8_der(&[0x30; 2000]).is_err());
}

#[test]
fn a_public_half_of_another_key_is_refused() {
    // PKCS#8 carries both halves; a wrong public one must not be believed.
    for alg in KeyAlg::ALL {
        let (one, other) = (key(alg, 1), key(alg, 2));
        let der = one.to_pkcs8_der().unwrap();
        let public = one.public_key().bytes();
        let found = der
            .expose_secret()
            .windows(public.len())
            .position(|w| w == public);
        let at = found.expect("the public half is in PKCS#8");
        let mut mixed = der.expose_secret().clone();
        mixed[at..at + public.len()].copy_from_slice(other.public_key().bytes());
        assert!(PrivateKey::from_pkcs8_der(&mixed).is_err(), "{alg}");
    }
}

#[test]
fn scalars_out_of_range_are_refused() {
    let p256 = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let p384 = "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf
                581a0db248b0a77aecec196accc52973";
    for (alg, order) in [(KeyAlg::P256, hex(p256)), (KeyAlg::P384, hex(p384))] {
        let mut largest = order.clone();
        largest[order.len() - 1] -= 1;
        assert!(PrivateKey::from_scalar_bytes(alg, &largest).is_ok());
        for bad in [vec![0; order.len()], order.clone(), vec![0xff; order.len()]] {
            assert!(PrivateKey::from_scalar_bytes(alg, &bad).is_err(), "{alg}");
        }
    }
    for alg in KeyAlg::ALL {
        for len in (0..=66).filter(|len| *len != alg.scalar_len()) {
            let refused = PrivateKey::from_scalar_bytes(alg, &vec![1; len]).err();
            assert!(
                matches!(refused, Some(CryptoError::WrongLength { .. })),
                "{alg} {len}"
            );
        }
    }
}

#[test]
fn a_failing_generator_makes_no_key() {
    for (name, provider) in providers() {
        for alg in KeyAlg::ALL {
            let failed = provider.generate(alg, &mut BrokenRng).err();
            assert_eq!(failed, Some(CryptoError::Rng), "{name}");
            let zeros = provider.generate(alg, &mut StuckRng(0)).err();
            assert_eq!(zeros, Some(CryptoError::Rng), "{name}");
            let key = provider.generate(alg, &mut TestRng::new(5)).unwrap();
            assert_eq!(key.alg(), alg);
        }
        // All ones is above the order of both curves.
        let ones = provider.generate(KeyAlg::P256, &mut StuckRng(0xff)).err();
        assert_eq!(ones, Some(CryptoError::Rng), "{name}");
    }
}

#[cfg(feature = "std")]
#[test]
fn the_operating_system_gives_different_keys() {
    let make = || PrivateKey::generate(KeyAlg::P256, &mut tegata_crypto::OsRng).unwrap();
    assert_ne!(make().public_key(), make().public_key());
}

#[test]
fn wide_bytes_are_reduced() {
    let cases = [
        (
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
             ffffffffffffffffffffffffffffffff",
            "431905529c0166ce652e96b7ccca0a99679b73e19ad16947f01cf013fc632550",
        ),
        (
            "00000000000000000000000000000000
             ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632552",
            "0000000000000000000000000000000000000000000000000000000000000001",
        ),
        (
            "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550
             ffffffffffffffffffffffffffffffff",
            "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550",
        ),
    ];
    for (wide, scalar) in cases {
        let key = PrivateKey::p256_from_wide_bytes(&hex_array(wide)).unwrap();
        assert!(key.expose_scalar_bytes().ct_eq(&hex(scalar)));
    }
    let zeros = [
        "00".repeat(48),
        "00000000000000000000000000000000
         ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"
            .into(),
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551
         00000000000000000000000000000000"
            .into(),
    ];
    for wide in zeros {
        assert!(PrivateKey::p256_from_wide_bytes(&hex_array(&wide)).is_err());
    }
}

#[test]
fn device_keys_have_their_worked_values() {
    let tee_key = Secret::new(core::array::from_fn(|i| u8::try_from(i).unwrap()));
    for (name, provider) in providers() {
        let p = &*provider;
        let derive =
            |label: &str, context: &[u8]| device_keys::software_derive(p, &tee_key, label, context);
        let cases = [
            (
                device_keys::attestation_key(p, &derive).unwrap(),
                "8c73f3c45aa70f57b31f640bc1cd19f44c1cfd1142c0bdee1fd17d16e20c2db6",
                "4974f7254aefd5aa7cc017d707ff028cc802c25aa6220748fd456fa1e607d6fa",
            ),
            (
                device_keys::teep_key(p, &derive).unwrap(),
                "35cebac5aa170eabc964d628d54347ccffcd21e3a6edb9fd900aea88c15cc7f9",
                "1fa72a9b09cfe8c4fd0743a08975b7f7446c71e20d296d23d7eef12671d6c909",
            ),
            (
                device_keys::delivery_ecdh_key(p, &derive).unwrap(),
                "ff19f630127980d3d75c5303c971c519b34a2c33535a0c0b3a81be64f103ce96",
                "4fd577cbedf7c37d7e3cc81399963b6387f192acb964195481e525b43a427f83",
            ),
        ];
        for (key, scalar, thumbprint) in cases {
            assert!(key.expose_scalar_bytes().ct_eq(&hex(scalar)), "{name}");
            assert_eq!(
                hex::encode(key.public_key().thumbprint()),
                thumbprint,
                "{name}"
            );
        }
        let kek = device_keys::delivery_kek(&derive).unwrap();
        assert!(
            kek.ct_eq(&hex("f5cba4d744e582a3325339ff33ce0055")),
            "{name}"
        );
        let storage = device_keys::storage_key(&derive, b"ta").unwrap();
        let expected = "0dfb2b3733fca0cce99cfbda5398c9c63423a47804ae0a00202ea85d4d9141f3";
        assert!(storage.ct_eq(&hex(expected)), "{name}");
    }
    let failing = |_: &str, _: &[u8]| Err(CryptoError::Rng);
    assert!(device_keys::attestation_key(&RustCrypto, &failing).is_err());
    assert!(device_keys::delivery_kek(&failing).is_err());
}

#[test]
fn csr_auth_key_has_its_worked_value() {
    let master = Secret::new(core::array::from_fn(|i| 0x40 + u8::try_from(i).unwrap()));
    let digest = RustCrypto.sha256(b"release");
    let ueid = hex("01101112131415161718191a1b1c1d1e1f");
    let expected = hex("a6c32f7505a3636e29c4b588a2853397283f2867afbd408561b87d32705d7392");
    for (_, provider) in providers() {
        let derive = |digest: &[u8; 32], ueid: &[u8]| {
            csr_auth::device_csr_auth_key(&*provider, &master, digest, ueid)
        };
        assert!(derive(&digest, &ueid).unwrap().ct_eq(&expected));
        each_bit_flip(&ueid, |_, other| {
            assert!(!derive(&digest, other).unwrap().ct_eq(&expected));
        });
        each_bit_flip(&digest, |_, other| {
            assert!(
                !derive(other.try_into().unwrap(), &ueid)
                    .unwrap()
                    .ct_eq(&expected)
            );
        });
        for len in [0, 6, 34] {
            assert!(derive(&digest, &vec![1; len]).is_err());
        }
        assert!(derive(&digest, &[1; 7]).is_ok() && derive(&digest, &[1; 33]).is_ok());
    }
}

#[test]
fn a_sealed_blob_opens_only_whole_and_for_its_purpose() {
    let key = seal::SealingKey::generate(&mut TestRng::new(1)).unwrap();
    let other = seal::SealingKey::generate(&mut TestRng::new(2)).unwrap();
    for (_, provider) in providers() {
        let p = &*provider;
        let sealed = seal::seal(p, &mut TestRng::new(3), &key, "ca key", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert!(
            seal::open(p, &key, "ca key", &sealed)
                .unwrap()
                .ct_eq(b"secret")
        );
        let bad = Some(CryptoError::BadCiphertext);
        assert_eq!(seal::open(p, &key, "tam key", &sealed).err(), bad);
        assert_eq!(seal::open(p, &key, "", &sealed).err(), bad);
        assert_eq!(seal::open(p, &other, "ca key", &sealed).err(), bad);
        each_bit_flip(&sealed, |_, changed| {
            assert!(seal::open(p, &key, "ca key", changed).is_err())
        });
        each_prefix(&sealed, |prefix| {
            assert!(seal::open(p, &key, "ca key", prefix).is_err())
        });
        let longer = [sealed.as_slice(), &[0]].concat();
        assert_eq!(seal::open(p, &key, "ca key", &longer).err(), bad);
        let twice = seal::seal(p, &mut TestRng::new(4), &key, "ca key", b"secret").unwrap();
        assert_ne!(sealed, twice);
        assert!(seal::seal(p, &mut BrokenRng, &key, "ca key", b"secret").is_err());
        let empty = seal::seal(p, &mut TestRng::new(5), &key, "", b"").unwrap();
        assert!(seal::open(p, &key, "", &empty).unwrap().ct_eq(b""));
        let large = vec![0; seal::SEALED_LEN_BYTES_MAX + 1];
        assert!(seal::seal(p, &mut TestRng::new(6), &key, "", &large).is_err());
    }
}

#[test]
fn a_sealed_blob_has_its_worked_value() {
    let key = seal::SealingKey::new(Secret::new(core::array::from_fn(|i| {
        0x60 + u8::try_from(i).unwrap()
    })));
    let salt: Vec<u8> = (0x80..0xa0).collect();
    // Key and nonce of the blob, computed apart: HKDF-SHA256(key, salt, "tegata seal v1", 44).
    let blob_key = hex("03214f949eda5ddf999b14e9033efd76a449a3918e527e1f8eb70b6881b50022");
    let nonce = hex_array("57733fac7c636c366102603b");
    for (_, provider) in providers() {
        let sealed = provider
            .aes_gcm_seal(&blob_key, &nonce, b"TGS1demo", b"worked example")
            .unwrap();
        let blob = [b"TGS1".as_slice(), &salt, &sealed].concat();
        assert!(
            seal::open(&*provider, &key, "demo", &blob)
                .unwrap()
                .ct_eq(b"worked example")
        );
    }
}

#[test]
fn signing_a_digest_is_signing_its_message() {
    let message = b"a message";
    for (alg, digest) in [
        (KeyAlg::P256, RustCrypto.sha256(message).to_vec()),
        (KeyAlg::P384, RustCrypto.sha384(message).to_vec()),
    ] {
        let key = key(alg, 4);
        assert_eq!(
            key.sign_digest(&digest).unwrap(),
            key.sign(message).unwrap()
        );
        for len in [0, 20, 31, 33, 65] {
            assert!(key.sign_digest(&vec![1; len]).is_err());
        }
    }
    assert!(key(KeyAlg::Ed25519, 4).sign_digest(&[1; 32]).is_err());
}

#[test]
fn algorithms_and_their_numbers() {
    for alg in KeyAlg::ALL {
        assert_eq!(KeyAlg::from_cose_alg(alg.cose_alg()), Some(alg));
        assert_eq!(KeyAlg::from_cose_alg(alg.cose_alg_old()), Some(alg));
        assert!(alg.cose_alg_matches(alg.cose_alg()) && alg.cose_alg_matches(alg.cose_alg_old()));
        assert_eq!(KeyAlg::from_signature_oid(&alg.signature_oid()), Some(alg));
        assert_eq!(alg.signature_alg().oid(), alg.signature_oid());
        assert_eq!(alg.signature_alg().raw_len(), alg.signature_len());
        assert_eq!(KeyAlg::from_name(alg.name()), Some(alg));
        for other in KeyAlg::ALL.into_iter().filter(|other| *other != alg) {
            assert!(!alg.cose_alg_matches(other.cose_alg()));
            assert!(!alg.cose_alg_matches(other.cose_alg_old()));
        }
    }
    for unknown in [0, 1, -36, -37, -47, -48, i64::MIN, i64::MAX] {
        assert_eq!(KeyAlg::from_cose_alg(unknown), None);
    }
}

#[test]
fn debug_shows_no_secret() {
    let key = key(KeyAlg::P256, 6);
    let scalar = key.expose_scalar_bytes();
    let sealing = seal::SealingKey::new(Secret::new([0x5a; 32]));
    let secret = Secret::new(vec![0x5a_u8; 32]);
    let keys = tegata_crypto::suit::DeliveryKeys {
        kek: None,
        ecdh: Some(&key),
    };
    let shown = [
        format!("{key:?}"),
        format!("{scalar:?}"),
        format!("{sealing:?}"),
        format!("{secret:?}"),
        format!("{:#?}", Secret::new([0x5a_u8; 32])),
        format!("{keys:#?}"),
    ];
    let bytes = scalar.expose_secret();
    let list = bytes
        .iter()
        .map(u8::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    for text in shown {
        let lower = text.to_lowercase();
        for secret in [hex::encode(bytes), hex::encode(&bytes[..4]), list.clone()] {
            assert!(!lower.contains(&secret), "{text}");
        }
        assert!(
            !lower.contains("5a5a") && !lower.contains("90, 90"),
            "{text}"
        );
    }
}

#[test]
fn secrets_compare_by_content() {
    let secret = Secret::new(vec![1_u8, 2, 3]);
    assert!(secret.ct_eq(&[1, 2, 3]));
    for other in [&[][..], &[1, 2], &[1, 2, 4], &[1, 2, 3, 0]] {
        assert!(!secret.ct_eq(other));
    }
    assert!(secret.dangerous_clone().ct_eq(&[1, 2, 3]));
}
