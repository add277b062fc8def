//! CMP protection: MACs and signatures made here and their refusals.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{each_bit_flip, key, providers};
use der::Decode as _;
use spki::AlgorithmIdentifierOwned;
use tegata_crypto::cmp::{
    CmpError, MacKind, MacLimits, protect_hmac_sha256, protect_signature, verify_mac,
    verify_signature,
};
use tegata_crypto::{CryptoError, KeyAlg};
use tegata_wire::cmp::{HashAlg, PbmParameter, Pbmac1Parameter, ProtectionAlg};
use tegata_wire::x509::SignatureAlg;

const PART: &[u8] = b"DER of a ProtectedPart";

#[test]
fn direct_hmac() {
    for (name, provider) in providers() {
        let p = &*provider;
        let mac = protect_hmac_sha256(p, b"secret", PART);
        let verify = |alg: &ProtectionAlg, secret: &[u8], part: &[u8], mac: &[u8]| {
            verify_mac(p, alg, secret, part, mac, &MacLimits::default()).map(|proof| proof.kind())
        };
        let alg = ProtectionAlg::HMAC_SHA256;
        assert_eq!(
            verify(&alg, b"secret", PART, &mac),
            Ok(MacKind::Hmac),
            "{name}"
        );
        let bad = Err(CmpError::Crypto(CryptoError::BadMac));
        assert_eq!(verify(&alg, b"other", PART, &mac), bad);
        each_bit_flip(&mac, |_, mac| {
            assert_eq!(verify(&alg, b"secret", PART, mac), bad)
        });
        each_bit_flip(PART, |_, part| {
            assert_eq!(verify(&alg, b"secret", part, &mac), bad)
        });
        for len in 0..mac.len() {
            assert_eq!(verify(&alg, b"secret", PART, &mac[..len]), bad);
        }
        for other in [HashAlg::Sha384, HashAlg::Sha512] {
            assert_eq!(
                verify(&ProtectionAlg::Hmac(other), b"secret", PART, &mac),
                bad
            );
        }
        for alg in [
            ProtectionAlg::Hmac(HashAlg::Sha1),
            ProtectionAlg::Signature(SignatureAlg::EcdsaSha256),
            ProtectionAlg::Other(const_oid::ObjectIdentifier::new_unwrap("1.2.3")),
        ] {
            let refused = verify(&alg, b"secret", PART, &mac);
            assert_eq!(refused, Err(CmpError::UnsupportedAlgorithm), "{alg:?}");
        }
    }
}

/// PBMAC1 as another implementation makes it: the identifier by `openssl asn1parse -genconf`, the key by
/// `openssl kdf PBKDF2`, the MAC by `openssl mac HMAC` (OpenSSL 3.0).
#[test]
fn pbmac1_of_another_implementation_verifies() {
    let identifier = "304506092a864886f70d01050e3038302806092a864886f70d01050c301b040473616c74\
        020201f4020120300c06082a864886f70d02090500300c06082a864886f70d02090500";
    let identifier = hex::decode(identifier).unwrap();
    let identifier = AlgorithmIdentifierOwned::from_der(&identifier).unwrap();
    let alg = ProtectionAlg::from_identifier(&identifier).unwrap();
    let mac =
        hex::decode("47d0ba0d3f9d6b8b1fbb1bef840389db0e5a44f0c52c61e686b302c0ecc09a17").unwrap();
    let limits = MacLimits::default();
    for (name, provider) in providers() {
        let kind = |part: &[u8], secret: &[u8]| {
            verify_mac(&*provider, &alg, secret, part, &mac, &limits).map(|proof| proof.kind())
        };
        assert_eq!(kind(PART, b"secret"), Ok(MacKind::Pbmac1), "{name}");
        assert!(kind(PART, b"secreT").is_err());
        assert!(kind(b"another", b"secret").is_err());
    }
}

#[test]
fn derived_keys_agree_and_their_cost_is_bounded() {
    for (_, provider) in providers() {
        let p = &*provider;
        let pbmac1 = |iterations| {
            ProtectionAlg::Pbmac1(Pbmac1Parameter {
                salt: b"salt".to_vec(),
                iterations,
                key_len: 32,
                prf: HashAlg::Sha256,
                mac: HashAlg::Sha256,
            })
        };
        // The MAC of PBMAC1, from the primitives it is made of.
        let mut key = [0; 32];
        p.pbkdf2_hmac_sha256(b"secret", b"salt", 500, &mut key)
            .unwrap();
        let mac = p.hmac_sha256(&key, PART);
        let limits = MacLimits {
            iterations_max: 500,
        };
        let verify = |alg: &ProtectionAlg, secret: &[u8], limits: &MacLimits| {
            verify_mac(p, alg, secret, PART, &mac, limits).map(|proof| proof.kind())
        };
        assert_eq!(
            verify(&pbmac1(500), b"secret", &limits),
            Ok(MacKind::Pbmac1)
        );
        let bad = Err(CmpError::Crypto(CryptoError::BadMac));
        assert_eq!(verify(&pbmac1(499), b"secret", &limits), bad);
        assert_eq!(verify(&pbmac1(500), b"Secret", &limits), bad);
        assert_eq!(
            verify(&pbmac1(501), b"secret", &limits),
            Err(CmpError::BadParameters)
        );

        // A key of two blocks of the hash is twice the work.
        let ProtectionAlg::Pbmac1(mut two) = pbmac1(251) else {
            unreachable!()
        };
        two.key_len = 33;
        assert!(!limits.allow(&ProtectionAlg::Pbmac1(two.clone())));
        two.iterations = 250;
        assert!(limits.allow(&ProtectionAlg::Pbmac1(two)));

        let pbm = |iterations| {
            ProtectionAlg::PasswordBasedMac(PbmParameter {
                salt: b"salt".to_vec(),
                owf: HashAlg::Sha256,
                iterations,
                mac: HashAlg::Sha256,
            })
        };
        let mut key = p.sha256(b"secretsalt");
        for _ in 1..100 {
            key = p.sha256(&key);
        }
        let mac = p.hmac_sha256(&key, PART);
        let verify = |alg: &ProtectionAlg, limits: &MacLimits| {
            verify_mac(p, alg, b"secret", PART, &mac, limits).map(|proof| proof.kind())
        };
        assert_eq!(verify(&pbm(100), &limits), Ok(MacKind::PasswordBasedMac));
        assert_eq!(verify(&pbm(101), &limits), bad);
        assert_eq!(verify(&pbm(501), &limits), Err(CmpError::BadParameters));
    }
}

#[test]
fn signatures() {
    for alg in KeyAlg::ALL {
        let key = key(alg, 1);
        let signature = protect_signature(&key, PART).unwrap();
        let named = ProtectionAlg::Signature(alg.signature_alg());
        for (name, provider) in providers() {
            let verify = |alg: &ProtectionAlg, part: &[u8], signature: &[u8]| {
                verify_signature(&*provider, alg, key.public_key(), part, signature)
                    .map(|proof| proof.key().clone())
            };
            let proved = verify(&named, PART, &signature);
            assert_eq!(proved.as_ref(), Ok(key.public_key()), "{name}");
            each_bit_flip(&signature, |bit, changed| {
                assert!(
                    verify(&named, PART, changed).is_err(),
                    "{alg} {name} bit {bit}"
                );
            });
            assert!(verify(&named, b"another part", &signature).is_err());
            let unsupported = Err(CmpError::UnsupportedAlgorithm);
            assert_eq!(
                verify(&ProtectionAlg::HMAC_SHA256, PART, &signature),
                unsupported
            );
            for other in KeyAlg::ALL.into_iter().filter(|other| *other != alg) {
                let other = ProtectionAlg::Signature(other.signature_alg());
                assert_eq!(verify(&other, PART, &signature), unsupported);
            }
        }
    }
}
