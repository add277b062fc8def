//! Certificate paths: the good one, and each way to be none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{each_bit_flip, key, providers};
use tegata_crypto::chain::{
    ChainError, INTERMEDIATES_MAX, Purpose, TrustAnchor, VerifiedChain, verify_chain,
};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Signer, csr};
use tegata_wire::x509::{
    CertBuilder, CsrBuilder, DistinguishedName, Extension, ExtensionSet, SerialNumber, Validity,
    assemble_certificate, assemble_csr, oid,
};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

/// DER of a name with one common name.
fn name(common: &str) -> DistinguishedName {
    let len = u8::try_from(common.len()).unwrap();
    let mut der = vec![
        0x30,
        len + 11,
        0x31,
        len + 9,
        0x30,
        len + 7,
        6,
        3,
        0x55,
        4,
        3,
        0x0c,
        len,
    ];
    der.extend_from_slice(common.as_bytes());
    DistinguishedName::from_der(&der).unwrap()
}

/// What a test certificate says; the defaults are those of an end entity.
struct Spec<'a> {
    subject: &'a str,
    issuer: &'a str,
    ca: Option<Option<u8>>,
    usage: Option<u8>,
    not_before: u64,
    not_after: u64,
    more: Vec<Extension>,
}

impl<'a> Spec<'a> {
    fn leaf(subject: &'a str, issuer: &'a str) -> Self {
        let (not_before, not_after) = (NOW - DAY, NOW + DAY);
        // digitalSignature
        let usage = Some(0x80);
        Self {
            subject,
            issuer,
            ca: None,
            usage,
            not_before,
            not_after,
            more: vec![],
        }
    }

    fn ca(subject: &'a str, issuer: &'a str) -> Self {
        // keyCertSign, cRLSign
        Self {
            ca: Some(None),
            usage: Some(0x06),
            ..Self::leaf(subject, issuer)
        }
    }

    fn signed(&self, key: &PrivateKey, issuer: &PrivateKey) -> Vec<u8> {
        let mut extensions = ExtensionSet::new();
        if let Some(path_len) = self.ca {
            extensions.basic_constraints(true, path_len).unwrap();
        }
        if let Some(bits) = self.usage {
            let unused = u8::try_from(bits.trailing_zeros()).unwrap();
            let value = vec![3, 2, unused, bits];
            extensions
                .push(Extension {
                    oid: oid::KEY_USAGE,
                    critical: true,
                    value,
                })
                .unwrap();
        }
        for extension in &self.more {
            extensions.push(extension.clone()).unwrap();
        }
        let alg = issuer.alg().signature_alg();
        let tbs = CertBuilder {
            serial: SerialNumber::from_random(&[0x5a; 16]),
            signature_alg: alg,
            issuer: name(self.issuer),
            validity: Validity {
                not_before_secs: self.not_before,
                not_after_secs: Some(self.not_after),
            },
            subject: name(self.subject),
            spki_der: key.public_key().to_spki_der().unwrap(),
            extensions,
        }
        .to_tbs()
        .unwrap();
        assemble_certificate(&tbs, alg, &issuer.sign(&tbs).unwrap()).unwrap()
    }
}

/// Root, issuing CA and device, of these algorithms.
struct Pki {
    root: PrivateKey,
    issuing: PrivateKey,
    device: PrivateKey,
    anchor: TrustAnchor,
}

impl Pki {
    fn new(alg: KeyAlg) -> Self {
        let root = key(alg, 1);
        let anchor = TrustAnchor::from_cert_der(&Spec::ca("root", "root").signed(&root, &root));
        let anchor = anchor.unwrap();
        Self {
            root,
            issuing: key(KeyAlg::P256, 2),
            device: key(KeyAlg::P256, 3),
            anchor,
        }
    }

    fn issuing(&self, spec: &Spec<'_>) -> Vec<u8> {
        spec.signed(&self.issuing, &self.root)
    }

    fn device(&self, spec: &Spec<'_>) -> Vec<u8> {
        spec.signed(&self.device, &self.issuing)
    }

    fn verify(&self, leaf: &[u8], others: &[&[u8]]) -> Result<VerifiedChain, ChainError> {
        let anchors = [self.anchor.clone()];
        verify_chain(&RustCrypto, leaf, others, &anchors, Purpose::EndEntity, NOW)
    }
}

fn critical(oid_text: &str) -> Extension {
    let oid = const_oid::ObjectIdentifier::new(oid_text).unwrap();
    Extension {
        oid,
        critical: true,
        value: vec![0x05, 0x00],
    }
}

#[test]
fn a_good_path_verifies_on_every_provider() {
    for alg in KeyAlg::ALL {
        let pki = Pki::new(alg);
        let issuing = pki.issuing(&Spec::ca("issuing", "root"));
        let device = pki.device(&Spec::leaf("device", "issuing"));
        let noise = [0x30, 0x00];
        for (_, provider) in providers() {
            let anchors = [pki.anchor.clone()];
            let others: [&[u8]; 3] = [&noise, &device, &issuing];
            let chain = verify_chain(
                &*provider,
                &device,
                &others,
                &anchors,
                Purpose::EndEntity,
                NOW,
            );
            let chain = chain.unwrap();
            assert_eq!(chain.leaf_der(), device);
            assert_eq!(chain.leaf().unwrap().der, device);
            assert_eq!(chain.leaf_key(), pki.device.public_key());
            assert_eq!(
                chain.path_der().collect::<Vec<_>>(),
                [&device[..], &issuing]
            );
            assert_eq!(chain.anchor().public_key(), pki.root.public_key());
            // The issuing CA itself, for the signature of its answers.
            let ca = verify_chain(&*provider, &issuing, &[], &anchors, Purpose::Ca, NOW).unwrap();
            assert_eq!(ca.leaf_key(), pki.issuing.public_key());
        }
    }
}

#[test]
fn every_bit_of_a_leaf_counts() {
    let pki = Pki::new(KeyAlg::P256);
    let issuing = pki.issuing(&Spec::ca("issuing", "root"));
    let device = pki.device(&Spec::leaf("device", "issuing"));
    each_bit_flip(&device, |bit, changed| {
        assert!(pki.verify(changed, &[&issuing]).is_err(), "bit {bit}");
    });
    for len in 0..device.len() {
        assert!(pki.verify(&device[..len], &[&issuing]).is_err());
    }
}

#[test]
fn paths_that_are_none() {
    let pki = Pki::new(KeyAlg::P256);
    let good_issuing = pki.issuing(&Spec::ca("issuing", "root"));
    let device = pki.device(&Spec::leaf("device", "issuing"));
    let refuse = |leaf: &[u8], issuing: &[u8]| pki.verify(leaf, &[issuing]).unwrap_err();

    assert_eq!(
        pki.verify(&device, &[]).unwrap_err(),
        ChainError::UnknownIssuer
    );
    let no_anchor = verify_chain(
        &RustCrypto,
        &device,
        &[&good_issuing],
        &[],
        Purpose::EndEntity,
        NOW,
    );
    assert_eq!(no_anchor.unwrap_err(), ChainError::UnknownIssuer);

    // Validity, of each certificate on the path.
    let expired = Spec {
        not_after: NOW - 1,
        ..Spec::leaf("device", "issuing")
    };
    assert!(matches!(
        refuse(&pki.device(&expired), &good_issuing),
        ChainError::Expired { .. }
    ));
    let future = Spec {
        not_before: NOW + 1,
        ..Spec::leaf("device", "issuing")
    };
    assert!(matches!(
        refuse(&pki.device(&future), &good_issuing),
        ChainError::NotYetValid { .. }
    ));
    let expired = Spec {
        not_after: NOW - 1,
        ..Spec::ca("issuing", "root")
    };
    assert!(matches!(
        refuse(&device, &pki.issuing(&expired)),
        ChainError::Expired { .. }
    ));

    // The issuer is no CA: no basicConstraints, or no keyCertSign.
    let no_ca = Spec {
        ca: None,
        ..Spec::ca("issuing", "root")
    };
    assert_eq!(refuse(&device, &pki.issuing(&no_ca)), ChainError::NotACa);
    let usage = Spec {
        usage: Some(0x80),
        ..Spec::ca("issuing", "root")
    };
    assert_eq!(refuse(&device, &pki.issuing(&usage)), ChainError::KeyUsage);

    // The leaf: a CA, a usage that does not sign, a critical extension nobody knows.
    let ca = pki.device(&Spec {
        usage: None,
        ..Spec::ca("device", "issuing")
    });
    assert_eq!(refuse(&ca, &good_issuing), ChainError::UnexpectedCa);
    let agree = Spec {
        usage: Some(0x08),
        ..Spec::leaf("device", "issuing")
    };
    assert_eq!(
        refuse(&pki.device(&agree), &good_issuing),
        ChainError::KeyUsage
    );
    let odd = || vec![critical("1.2.3.4")];
    let unknown = Spec {
        more: odd(),
        ..Spec::leaf("device", "issuing")
    };
    let refused = refuse(&pki.device(&unknown), &good_issuing);
    assert!(matches!(
        refused,
        ChainError::UnknownCriticalExtension { .. }
    ));
    let unknown = Spec {
        more: odd(),
        ..Spec::ca("issuing", "root")
    };
    let refused = refuse(&device, &pki.issuing(&unknown));
    assert!(matches!(
        refused,
        ChainError::UnknownCriticalExtension { .. }
    ));
    // Name constraints would not be enforced, so not even uncritical ones are accepted.
    let names = Extension {
        critical: false,
        ..critical("2.5.29.30")
    };
    let constrained = Spec {
        more: vec![names],
        ..Spec::ca("issuing", "root")
    };
    let refused = refuse(&device, &pki.issuing(&constrained));
    assert!(matches!(
        refused,
        ChainError::UnknownCriticalExtension { .. }
    ));

    // The right name and another key.
    let impostor = Spec::ca("issuing", "root").signed(&key(KeyAlg::P256, 9), &pki.root);
    assert!(matches!(refuse(&device, &impostor), ChainError::Crypto(_)));
    let self_made = Spec::ca("issuing", "root").signed(&pki.issuing, &pki.issuing);
    assert!(matches!(refuse(&device, &self_made), ChainError::Crypto(_)));
    let other_alg = Spec::leaf("device", "issuing").signed(&pki.device, &key(KeyAlg::Ed25519, 9));
    assert_eq!(refuse(&other_alg, &good_issuing), ChainError::AlgMismatch);
    // A device certificate does not issue.
    let child = Spec::leaf("child", "device").signed(&key(KeyAlg::P256, 8), &pki.device);
    let others: [&[u8]; 2] = [&device, &good_issuing];
    assert_eq!(pki.verify(&child, &others).unwrap_err(), ChainError::NotACa);
    // An end entity is no issuing CA.
    let anchors = [pki.anchor.clone()];
    let ca = verify_chain(
        &RustCrypto,
        &device,
        &[&good_issuing],
        &anchors,
        Purpose::Ca,
        NOW,
    );
    assert_eq!(ca.unwrap_err(), ChainError::NotACa);
}

#[test]
fn path_length_constraints_hold() {
    let (root, upper, lower, device) = (
        key(KeyAlg::P256, 1),
        key(KeyAlg::P256, 2),
        key(KeyAlg::P256, 3),
        key(KeyAlg::P256, 4),
    );
    let lower_der = Spec::ca("lower", "upper").signed(&lower, &upper);
    let device_der = Spec::leaf("device", "lower").signed(&device, &lower);
    for (root_len, upper_len, good) in [
        (None, None, true),
        (Some(2), Some(1), true),
        (Some(1), None, false),
        (None, Some(0), false),
    ] {
        let spec = Spec {
            ca: Some(root_len),
            ..Spec::ca("root", "root")
        };
        let anchors = [TrustAnchor::from_cert_der(&spec.signed(&root, &root)).unwrap()];
        let spec = Spec {
            ca: Some(upper_len),
            ..Spec::ca("upper", "root")
        };
        let upper_der = spec.signed(&upper, &root);
        let others: [&[u8]; 2] = [&lower_der, &upper_der];
        let verified = verify_chain(
            &RustCrypto,
            &device_der,
            &others,
            &anchors,
            Purpose::EndEntity,
            NOW,
        );
        assert_eq!(verified.is_ok(), good, "{root_len:?} {upper_len:?}");
    }
}

#[test]
fn work_for_a_stranger_is_bounded() {
    let pki = Pki::new(KeyAlg::P256);
    let device = pki.device(&Spec::leaf("device", "loop"));
    // CAs that name each other, each the issuer of the one before: every pair would be tried without a
    // budget.
    let more: Vec<_> = (100..116).map(|seed| key(KeyAlg::P256, seed)).collect();
    let keys: Vec<_> = [&pki.issuing].into_iter().chain(&more).collect();
    let others: Vec<_> = keys
        .windows(2)
        .map(|pair| Spec::ca("loop", "loop").signed(pair[0], pair[1]))
        .collect();
    let others: Vec<_> = others.iter().map(Vec::as_slice).collect();
    assert_eq!(others.len(), INTERMEDIATES_MAX);
    let refused = pki.verify(&device, &others).unwrap_err();
    assert_eq!(
        refused,
        ChainError::LimitExceeded {
            what: "signatures",
            limit: 16
        }
    );
    // The same name and key in many certificates is one way, tried once.
    let same: Vec<_> = (0..16)
        .map(|more| {
            let spec = Spec {
                not_after: NOW + DAY + more,
                ..Spec::ca("loop", "loop")
            };
            spec.signed(&pki.issuing, &pki.issuing)
        })
        .collect();
    let same: Vec<_> = same.iter().map(Vec::as_slice).collect();
    assert_eq!(
        pki.verify(&device, &same).unwrap_err(),
        ChainError::UnknownIssuer
    );
    let many = vec![others[0]; INTERMEDIATES_MAX + 1];
    let refused = pki.verify(&device, &many).unwrap_err();
    assert!(matches!(refused, ChainError::LimitExceeded { .. }));
}

#[test]
fn a_path_has_a_longest_length_and_says_so() {
    let pki = Pki::new(KeyAlg::P256);
    // A leaf, its issuing CA, and more above it one by one, the last under the root.
    let names = ["issuing", "one", "two", "three", "four"];
    let more: Vec<_> = (100..105).map(|seed| key(KeyAlg::P256, seed)).collect();
    let keys: Vec<_> = [&pki.issuing].into_iter().chain(&more).collect();
    let device = pki.device(&Spec::leaf("device", "issuing"));
    for above in 0..5 {
        let chain: Vec<_> = (0..=above)
            .map(|at| match at == above {
                true => Spec::ca(names[at], "root").signed(keys[at], &pki.root),
                false => Spec::ca(names[at], names[at + 1]).signed(keys[at], keys[at + 1]),
            })
            .collect();
        let chain: Vec<_> = chain.iter().map(Vec::as_slice).collect();
        match pki.verify(&device, &chain) {
            Ok(verified) => assert_eq!(verified.path_der().count(), above + 2),
            Err(refused) => {
                assert_eq!((above, refused), (4, ChainError::PathTooLong { limit: 5 }));
            }
        }
    }
}

#[test]
fn anchors_are_cas() {
    let root = key(KeyAlg::P256, 1);
    let leaf = Spec::leaf("root", "root").signed(&root, &root);
    assert_eq!(
        TrustAnchor::from_cert_der(&leaf).unwrap_err(),
        ChainError::NotACa
    );
    assert!(TrustAnchor::from_cert_der(b"").is_err());
    // An expired anchor ends no path.
    let pki = Pki::new(KeyAlg::P256);
    let issuing = Spec {
        not_after: NOW + 9 * DAY,
        ..Spec::ca("issuing", "root")
    };
    let issuing = pki.issuing(&issuing);
    let device = Spec {
        not_after: NOW + 9 * DAY,
        ..Spec::leaf("device", "issuing")
    };
    let device = pki.device(&device);
    let anchors = [pki.anchor.clone()];
    let later = NOW + 2 * DAY;
    let late = verify_chain(
        &RustCrypto,
        &device,
        &[&issuing],
        &anchors,
        Purpose::EndEntity,
        later,
    );
    assert!(matches!(late.unwrap_err(), ChainError::Expired { .. }));
}

#[test]
fn a_request_proves_possession_of_its_key() {
    for alg in KeyAlg::ALL {
        let device = key(alg, 1);
        let request = |spki: Vec<u8>, signer: &PrivateKey| {
            let builder = CsrBuilder {
                subject: name("device"),
                spki_der: spki,
                san: vec![],
                extensions: vec![],
            };
            let tbs = builder.to_tbs().unwrap();
            let signature = signer.sign(&tbs).unwrap();
            assemble_csr(&tbs, signer.alg().signature_alg(), &signature).unwrap()
        };
        let spki = device.public_key().to_spki_der().unwrap();
        let good = request(spki.clone(), &device);
        for (_, provider) in providers() {
            let csr = csr::verify_csr(&*provider, &good).unwrap();
            assert_eq!(csr.public_key(), device.public_key());
            assert_eq!(csr.der(), good);
            assert_eq!(csr.request().spki_der, spki);
        }
        each_bit_flip(&good, |bit, changed| {
            assert!(
                csr::verify_csr(&RustCrypto, changed).is_err(),
                "{alg} bit {bit}"
            );
        });
        assert!(csr::verify_csr(&RustCrypto, &request(spki.clone(), &key(alg, 2))).is_err());
        for other in KeyAlg::ALL.into_iter().filter(|other| *other != alg) {
            let stolen = request(spki.clone(), &key(other, 1));
            let refused = csr::verify_csr(&RustCrypto, &stolen).unwrap_err();
            assert_eq!(refused, csr::CsrError::AlgMismatch);
        }
    }
}
