//! Known answers of RFCs and NIST, and negative cases, on every provider; and the providers
//! against each other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{TestRng, each_bit_flip, hex, hex_array, key, providers};
use tegata_crypto::{CryptoError, KeyAlg, PrivateKey, PublicKey, Signer, ecdsa_sig, hmac_verify};

#[test]
fn hashes_of_abc() {
    // FIPS 180-4 example messages.
    for (name, provider) in providers() {
        let sha256 = hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(provider.sha256(b"abc").to_vec(), sha256, "{name}");
        let sha384 = hex(
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed
             8086072ba1e7cc2358baeca134c825a7",
        );
        assert_eq!(provider.sha384(b"abc").to_vec(), sha384, "{name}");
        let sha512 = hex(
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        );
        assert_eq!(provider.sha512(b"abc").to_vec(), sha512, "{name}");
    }
}

#[test]
fn hmac_rfc4231() {
    struct Case {
        key: Vec<u8>,
        data: Vec<u8>,
        sha256: &'static str,
        sha384: &'static str,
    }
    let cases = [
        Case {
            key: vec![0x0b; 20],
            data: b"Hi There".to_vec(),
            sha256: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            sha384: "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c
                     faea9ea9076ede7f4af152e8b2fa9cb6",
        },
        Case {
            key: b"Jefe".to_vec(),
            data: b"what do ya want for nothing?".to_vec(),
            sha256: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            sha384: "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e
                     8e2240ca5e69e2c78b3239ecfab21649",
        },
        Case {
            key: vec![0xaa; 20],
            data: vec![0xdd; 50],
            sha256: "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            sha384: "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b
                     2a5ab39dc13814b94e3ab6e101a34f27",
        },
        Case {
            key: vec![0xaa; 131],
            data: b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
            sha256: "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            sha384: "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6
                     0c2ef6ab4030fe8296248df163f44952",
        },
    ];
    for (name, provider) in providers() {
        for case in &cases {
            let mac = provider.hmac_sha256(&case.key, &case.data);
            assert_eq!(mac.to_vec(), hex(case.sha256), "{name}");
            assert_eq!(
                provider.hmac_sha384(&case.key, &case.data).to_vec(),
                hex(case.sha384),
                "{name}"
            );
            assert_eq!(hmac_verify(&*provider, &case.key, &case.data, &mac), Ok(()));
            each_bit_flip(&mac, |_, bad| {
                let refused = hmac_verify(&*provider, &case.key, &case.data, bad);
                assert_eq!(refused, Err(CryptoError::BadMac));
            });
            // A truncated MAC is no MAC, not even an empty one.
            for len in 0..mac.len() {
                assert!(hmac_verify(&*provider, &case.key, &case.data, &mac[..len]).is_err());
            }
        }
    }
}

#[test]
fn hkdf_rfc5869() {
    let long = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
    let cases = [
        (
            vec![0x0b; 22],
            long(0x00, 0x0c),
            long(0xf0, 0xf9),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            long(0x00, 0x4f),
            long(0x60, 0xaf),
            long(0xb0, 0xff),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c
             59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71
             cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            vec![0x0b; 22],
            vec![],
            vec![],
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ];
    for (name, provider) in providers() {
        for (ikm, salt, info, okm) in &cases {
            let okm = hex(okm);
            let mut out = vec![0; okm.len()];
            provider.hkdf_sha256(ikm, salt, info, &mut out).unwrap();
            assert_eq!(out, okm, "{name}");
        }
        provider.hkdf_sha256(b"k", b"", b"", &mut []).unwrap();
        provider
            .hkdf_sha256(b"k", b"", b"", &mut vec![0; 255 * 32])
            .unwrap();
        let too_long = provider.hkdf_sha256(b"k", b"", b"", &mut vec![0; 255 * 32 + 1]);
        assert!(
            matches!(too_long, Err(CryptoError::LimitExceeded { .. })),
            "{name}"
        );
    }
}

#[test]
fn pbkdf2_rfc7914() {
    let cases: [(&[u8], &[u8], u32, &str); 2] = [
        (
            b"passwd",
            b"salt",
            1,
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc
             49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783",
        ),
        (
            b"Password",
            b"NaCl",
            80_000,
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56
             a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d",
        ),
    ];
    for (name, provider) in providers() {
        for (password, salt, iterations, expected) in cases {
            let expected = hex(expected);
            let mut out = vec![0; expected.len()];
            provider
                .pbkdf2_hmac_sha256(password, salt, iterations, &mut out)
                .unwrap();
            assert_eq!(out, expected, "{name}");
        }
        assert!(
            provider
                .pbkdf2_hmac_sha256(b"p", b"s", 0, &mut [0; 16])
                .is_err(),
            "{name}"
        );
    }
}

#[test]
fn aes_gcm_known_answers() {
    // The GCM specification (McGrew and Viega), test cases 2, 4 and 16.
    let plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
                 1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
    let aad = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
    let cases = [
        (
            "00000000000000000000000000000000",
            "000000000000000000000000",
            "",
            "00000000000000000000000000000000",
            "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf",
        ),
        (
            "feffe9928665731c6d6a8f9467308308",
            "cafebabefacedbaddecaf888",
            aad,
            plain,
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
             21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091
             5bc94fbc3221a5db94fae95ae7121a47",
        ),
        (
            "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
            "cafebabefacedbaddecaf888",
            aad,
            plain,
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662
             76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ];
    for (name, provider) in providers() {
        for (key, nonce, aad, plain, sealed) in cases {
            let (key, nonce, aad) = (hex(key), hex_array::<12>(nonce), hex(aad));
            let (plain, sealed) = (hex(plain), hex(sealed));
            let got = provider.aes_gcm_seal(&key, &nonce, &aad, &plain).unwrap();
            assert_eq!(got, sealed, "{name}");
            let opened = provider.aes_gcm_open(&key, &nonce, &aad, &sealed).unwrap();
            assert_eq!(*opened.expose_secret(), plain, "{name}");
            let open = |nonce: &[u8], aad: &[u8], sealed: &[u8]| {
                provider
                    .aes_gcm_open(&key, nonce.try_into().unwrap(), aad, sealed)
                    .err()
            };
            each_bit_flip(&sealed, |_, bad| {
                assert_eq!(open(&nonce, &aad, bad), Some(CryptoError::BadCiphertext));
            });
            each_bit_flip(&nonce, |_, bad| assert!(open(bad, &aad, &sealed).is_some()));
            each_bit_flip(&aad, |_, bad| assert!(open(&nonce, bad, &sealed).is_some()));
            for len in 0..sealed.len() {
                let refused = open(&nonce, &aad, &sealed[..len]);
                assert_eq!(refused, Some(CryptoError::BadCiphertext), "{name} {len}");
            }
        }
        for len in [0, 15, 17, 24, 31, 33] {
            let key = vec![0; len];
            let sealed = provider.aes_gcm_seal(&key, &[0; 12], b"", b"");
            assert!(
                matches!(sealed, Err(CryptoError::WrongLength { .. })),
                "{name} {len}"
            );
            assert!(
                provider
                    .aes_gcm_open(&key, &[0; 12], b"", &[0; 16])
                    .is_err()
            );
        }
    }
}

#[test]
fn aes_key_wrap_rfc3394() {
    let kek = hex_array::<16>("000102030405060708090a0b0c0d0e0f");
    let key = hex("00112233445566778899aabbccddeeff");
    let wrapped = hex("1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5");
    for (name, provider) in providers() {
        assert_eq!(provider.aes_kw_wrap(&kek, &key).unwrap(), wrapped, "{name}");
        let unwrapped = provider.aes_kw_unwrap(&kek, &wrapped).unwrap();
        assert!(unwrapped.ct_eq(&key), "{name}");
        each_bit_flip(&wrapped, |_, bad| {
            let refused = provider.aes_kw_unwrap(&kek, bad).err();
            assert_eq!(refused, Some(CryptoError::BadCiphertext), "{name}");
        });
        each_bit_flip(&kek, |_, bad| {
            assert!(
                provider
                    .aes_kw_unwrap(bad.try_into().unwrap(), &wrapped)
                    .is_err()
            );
        });
        for len in (0..=80).filter(|len| *len != 24) {
            let refused = provider.aes_kw_unwrap(&kek, &vec![7; len]).err();
            assert_eq!(refused, Some(CryptoError::BadCiphertext), "{name} {len}");
        }
        for len in 0..=80 {
            let good = (16..=64).contains(&len) && len % 8 == 0;
            let sealed = provider.aes_kw_wrap(&kek, &vec![7; len]);
            assert_eq!(sealed.is_ok(), good, "{name} {len}");
            if let Ok(sealed) = sealed {
                assert!(
                    provider
                        .aes_kw_unwrap(&kek, &sealed)
                        .unwrap()
                        .ct_eq(&vec![7; len])
                );
            }
        }
    }
}

#[test]
fn ecdsa_rfc6979() {
    // Appendix A.2.5 with SHA-256 and A.2.6 with SHA-384.
    let p256 = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";
    let p384 = "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d8
                96d5724e4c70a825f872c9ea60d2edf5";
    let cases = [
        (
            KeyAlg::P256,
            p256,
            "sample",
            "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716
             f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
        ),
        (
            KeyAlg::P256,
            p256,
            "test",
            "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367
             019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
        ),
        (
            KeyAlg::P384,
            p384,
            "sample",
            "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c
             81a648152e44acf96e36dd1e80fabe46
             99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94f
             a329c145786e679e7b82c71a38628ac8",
        ),
        (
            KeyAlg::P384,
            p384,
            "test",
            "8203b63d3c853e8d77227fb377bcf7b7b772e97892a80f36ab775d509d7a5feb
             0542a7f0812998da8f1dd3ca3cf023db
             ddd0760448d42d8a43af45af836fce4de8be06b485e9b61b827c2f13173923e0
             6a739f040649a667bf3b828246baa5a5",
        ),
    ];
    for (alg, scalar, message, signature) in cases {
        let key = PrivateKey::from_scalar_bytes(alg, &hex(scalar)).unwrap();
        assert_eq!(key.sign(message.as_bytes()).unwrap(), hex(signature));
        for (name, provider) in providers() {
            let verified = provider.verify(key.public_key(), message.as_bytes(), &hex(signature));
            assert_eq!(verified, Ok(()), "{name}");
        }
    }
}

#[test]
fn ed25519_rfc8032() {
    // Section 7.1, tests 1 to 3: seed, public key, message, signature.
    let cases = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155
             5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac
             18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (seed, public, message, signature) in cases {
        let key = PrivateKey::from_scalar_bytes(KeyAlg::Ed25519, &hex(seed)).unwrap();
        assert_eq!(key.public_key().bytes(), hex(public));
        assert_eq!(key.sign(&hex(message)).unwrap(), hex(signature));
        for (name, provider) in providers() {
            let signer = provider.signer(&key).unwrap();
            assert_eq!(
                signer.sign(&hex(message)).unwrap(),
                hex(signature),
                "{name}"
            );
            let verified = provider.verify(key.public_key(), &hex(message), &hex(signature));
            assert_eq!(verified, Ok(()), "{name}");
        }
    }
}

#[test]
fn ecdh_p256_nist() {
    // NIST CAVS 14.1, ECC CDH primitive, P-256, count 0.
    let private = hex("7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534");
    let peer = hex(
        "04700c48f77f56584c5cc632ca65640db91b6bacce3a4df6b42ce7cc838833d287
           db71e509e3fd9b060ddb20ba5c51dcc5948d46fbf640dfe0441782cab85fa4ac",
    );
    let shared = hex("46fc62106420ff012e54a434fbdd2d25ccc5852060561e68040dd7778997bd7b");
    let private = PrivateKey::from_scalar_bytes(KeyAlg::P256, &private).unwrap();
    let peer = PublicKey::from_sec1(KeyAlg::P256, &peer).unwrap();
    for (name, provider) in providers() {
        assert!(
            provider.ecdh_p256(&private, &peer).unwrap().ct_eq(&shared),
            "{name}"
        );
        let (ours, theirs) = (key(KeyAlg::P256, 1), key(KeyAlg::P256, 2));
        let one = provider.ecdh_p256(&ours, theirs.public_key()).unwrap();
        let other = provider.ecdh_p256(&theirs, ours.public_key()).unwrap();
        assert!(one.ct_eq(other.expose_secret()), "{name}");
        for alg in [KeyAlg::P384, KeyAlg::Ed25519] {
            let stranger = key(alg, 1);
            let wrong = CryptoError::WrongKeyAlg {
                expected: KeyAlg::P256,
                got: alg,
            };
            let refused = provider.ecdh_p256(&ours, stranger.public_key()).err();
            assert_eq!(refused, Some(wrong.clone()));
            let refused = provider.ecdh_p256(&stranger, ours.public_key()).err();
            assert_eq!(refused, Some(wrong));
        }
    }
    let (ours, theirs) = (key(KeyAlg::P384, 1), key(KeyAlg::P384, 2));
    let one = ours.ecdh(theirs.public_key()).unwrap();
    assert!(one.ct_eq(theirs.ecdh(ours.public_key()).unwrap().expose_secret()));
    assert!(ours.ecdh(peer_of(&private)).is_err());
    let signing = key(KeyAlg::Ed25519, 1);
    assert!(signing.ecdh(key(KeyAlg::Ed25519, 2).public_key()).is_err());
}

fn peer_of(key: &PrivateKey) -> &PublicKey {
    key.public_key()
}

#[test]
fn each_provider_verifies_what_the_others_sign() {
    for alg in KeyAlg::ALL {
        let key = key(alg, 7);
        for (signs, signing) in providers() {
            let signer = signing.signer(&key).unwrap();
            assert_eq!(signer.public_key(), key.public_key());
            for len in [0, 1, 63, 64, 65, 1000] {
                let message = vec![0xa5; len];
                let (one, rest) = message.split_at(len / 3);
                let in_pieces = signer.sign_pieces(&[one, &[], rest]).unwrap();
                for signature in [signer.sign(&message).unwrap(), in_pieces] {
                    assert_eq!(signature.len(), alg.signature_len());
                    for (verifies, verifying) in providers() {
                        let verified = verifying.verify(key.public_key(), &message, &signature);
                        assert_eq!(verified, Ok(()), "{alg}: {signs} to {verifies}");
                        let der = ecdsa_sig::to_der(alg, &signature).unwrap();
                        assert_eq!(ecdsa_sig::from_der(alg, &der).unwrap(), signature);
                    }
                }
            }
        }
    }
}

#[test]
fn every_bit_of_message_and_signature_counts() {
    for alg in KeyAlg::ALL {
        let key = key(alg, 8);
        let stranger = self::key(alg, 9);
        let message = b"what is signed";
        let signature = key.sign(message).unwrap();
        for (name, provider) in providers() {
            let bad = Err(CryptoError::BadSignature);
            each_bit_flip(&signature, |bit, changed| {
                let refused = provider.verify(key.public_key(), message, changed);
                assert_eq!(refused, bad, "{alg} {name} bit {bit}");
            });
            each_bit_flip(message, |_, changed| {
                assert_eq!(provider.verify(key.public_key(), changed, &signature), bad);
            });
            assert_eq!(
                provider.verify(stranger.public_key(), message, &signature),
                bad
            );
            for other in KeyAlg::ALL.into_iter().filter(|other| *other != alg) {
                let other = self::key(other, 8);
                assert_eq!(
                    provider.verify(other.public_key(), message, &signature),
                    bad
                );
            }
            for len in (0..=130).filter(|len| *len != signature.len()) {
                let mut changed = signature.clone();
                changed.resize(len, 0);
                let refused = provider.verify(key.public_key(), message, &changed);
                assert_eq!(refused, bad, "{alg} {name} length {len}");
            }
        }
    }
}

/// Orders of the curves, big-endian.
fn order(alg: KeyAlg) -> Vec<u8> {
    hex(match alg {
        KeyAlg::P384 => {
            "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf
             581a0db248b0a77aecec196accc52973"
        }
        _ => "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
    })
}

#[test]
fn signatures_out_of_range_are_refused() {
    for alg in [KeyAlg::P256, KeyAlg::P384] {
        let key = key(alg, 10);
        let signature = key.sign(b"m").unwrap();
        let half = alg.scalar_len();
        let (r, s) = signature.split_at(half);
        let zero = vec![0; half];
        let order = order(alg);
        let mut above = order.clone();
        above[half - 1] += 1;
        let ones = vec![0xff; half];
        let mut cases = vec![];
        for odd in [&zero, &order, &above, &ones] {
            cases.push([odd.as_slice(), s].concat());
            cases.push([r, odd.as_slice()].concat());
            cases.push([odd.as_slice(), odd.as_slice()].concat());
        }
        for case in &cases {
            assert!(ecdsa_sig::to_der(alg, case).is_err());
            for (name, provider) in providers() {
                let refused = provider.verify(key.public_key(), b"m", case);
                assert_eq!(refused, Err(CryptoError::BadSignature), "{alg} {name}");
            }
        }
    }
}

#[test]
fn only_strict_der_signatures_are_read() {
    let raw = hex(
        "00000000000000000000000000000000000000000000000000000000000000ff
         000000000000000000000000000000000000000000000000000000000000007f",
    );
    let der = hex("30070202 00ff 02017f");
    assert_eq!(ecdsa_sig::to_der(KeyAlg::P256, &raw).unwrap(), der);
    assert_eq!(ecdsa_sig::from_der(KeyAlg::P256, &der).unwrap(), raw);
    let refused = [
        "",
        "3000",
        "30070202 00ff 02017f 00",      // trailing byte
        "3008 0202 00ff 02017f",        // length too long
        "308107 0202 00ff 02017f",      // long form of a short length
        "3080 0202 00ff 02017f 0000",   // indefinite length
        "3006 0201 ff 02017f",          // negative r
        "3008 0203 0000ff 02017f",      // r with a needless zero
        "3008 0202 00ff 0202007f",      // s with a needless zero
        "3007 0202 00ff 020100",        // s is zero
        "3006 020100 02017f",           // r is zero
        "3007 0302 00ff 02017f",        // BIT STRING
        "3107 0202 00ff 02017f",        // SET
        "300a 0202 00ff 02017f 020101", // three integers
        "3004 0202 00ff",               // one integer
        "302602210100000000000000000000000000000000000000000000000000000000000000000201 01",
    ];
    for case in refused {
        let result = ecdsa_sig::from_der(KeyAlg::P256, &hex(case));
        assert_eq!(result, Err(CryptoError::BadSignature), "{case}");
    }
    for len in [0, 63, 65, 96] {
        assert!(ecdsa_sig::to_der(KeyAlg::P256, &vec![1; len]).is_err());
        assert!(ecdsa_sig::from_der(KeyAlg::Ed25519, &vec![1; len]).is_err());
        assert!(ecdsa_sig::to_der(KeyAlg::Ed25519, &vec![1; len]).is_err());
    }
}

#[test]
fn ed25519_signature_with_s_above_the_order_is_refused() {
    let key = key(KeyAlg::Ed25519, 11);
    let mut signature = key.sign(b"m").unwrap();
    // s + L is the classic malleable twin.
    let order = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0_u16;
    for (byte, add) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = (sum & 0xff).try_into().unwrap();
        carry = sum >> 8;
    }
    for (name, provider) in providers() {
        let refused = provider.verify(key.public_key(), b"m", &signature);
        assert_eq!(refused, Err(CryptoError::BadSignature), "{name}");
    }
}

#[test]
fn random_input_gives_the_same_answers_on_all_providers() {
    let mut rng = TestRng::new(12);
    let mut draw = |len: usize| {
        let mut bytes = vec![0; len];
        tegata_crypto::Rng::fill(&mut rng, &mut bytes).unwrap();
        bytes
    };
    for len in (0..300).step_by(13) {
        let (key, data, salt) = (draw(len), draw(2 * len), draw(len / 2));
        let (gcm_key, nonce) = (draw(if len % 2 == 0 { 16 } else { 32 }), draw(12));
        let kek: [u8; 16] = draw(16).try_into().unwrap();
        let wrap = draw(32);
        let answers: Vec<_> = providers()
            .into_iter()
            .map(|(_, p)| {
                let mut okm = vec![0; len + 1];
                p.hkdf_sha256(&key, &salt, &data, &mut okm).unwrap();
                let nonce: &[u8; 12] = nonce.as_slice().try_into().unwrap();
                (
                    (p.sha256(&data), p.sha384(&data), p.sha512(&data)),
                    (p.hmac_sha256(&key, &data), p.hmac_sha384(&key, &data)),
                    okm,
                    p.aes_gcm_seal(&gcm_key, nonce, &salt, &data).unwrap(),
                    p.aes_kw_wrap(&kek, &wrap).unwrap(),
                )
            })
            .collect();
        assert!(
            answers.windows(2).all(|pair| pair[0] == pair[1]),
            "length {len}"
        );
    }
}
