//! Certificate paths as somebody makes them who wants to be believed, in the manner of x509-limbo:
//! each case is the good path with one thing changed, written octet by octet, and is refused by both
//! providers for the same reason. The TEE's verifier: crates/tee/tests/hostile_chains.rs.
//!
//! Spec: RFC 5280 sections 4.1, 4.2 and 6.1.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{hex, key, providers};
use tegata_crypto::chain::{ChainError, Purpose, TrustAnchor, verify_chain};
use tegata_crypto::{KeyAlg, PrivateKey, Signer};

const NOW: u64 = 1_800_000_000;
/// AlgorithmIdentifier of Ed25519, and of ECDSA with SHA-256.
const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
const ECDSA: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// digitalSignature; keyCertSign and cRLSign.
const SIGNS: &[u8] = &[3, 2, 7, 0x80];
const ISSUES: &[u8] = &[3, 2, 1, 0x06];

/// One element of DER.
fn tlv(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match body.len() {
        n @ 0..=127 => out.push(n as u8),
        n @ 128..=255 => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend_from_slice(body);
    out
}

fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

fn name(common: &str) -> Vec<u8> {
    let attribute = seq(&[&[6, 3, 0x55, 4, 3], &tlv(0x0c, common.as_bytes())]);
    seq(&[&tlv(0x31, &attribute)])
}

/// An extension by the last two arcs of its type, 2.5.29.x.
fn extension(arc: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    seq(&[&[6, 3, 0x55, 0x1d, arc], critical, &tlv(4, value)])
}

fn basic(ca: bool, path_len: Option<u8>) -> Vec<u8> {
    let ca: &[u8] = if ca { &[1, 1, 0xff] } else { &[] };
    let len = path_len.map(|n| vec![2, 1, n]).unwrap_or_default();
    extension(19, true, &seq(&[ca, &len]))
}

fn usage(bits: &[u8]) -> Vec<u8> {
    extension(15, true, bits)
}

/// A certificate, every part of which can be anything.
#[derive(Clone)]
struct Raw {
    version: Vec<u8>,
    serial: Vec<u8>,
    inner: Vec<u8>,
    outer: Vec<u8>,
    issuer: Vec<u8>,
    validity: Vec<u8>,
    subject: Vec<u8>,
    /// Seed of its key, an Ed25519 one; unless it is here as it is.
    key: u8,
    spki: Option<Vec<u8>>,
    extensions: Option<Vec<Vec<u8>>>,
    /// Behind the extensions, behind the signature, behind it all.
    more: [Vec<u8>; 3],
    unused_bits: u8,
}

fn times(from: &str, to: &str) -> Vec<u8> {
    seq(&[&tlv(0x17, from.as_bytes()), &tlv(0x17, to.as_bytes())])
}

impl Raw {
    fn new(subject: &str, issuer: &str, seed: u8, extensions: Vec<Vec<u8>>) -> Self {
        Self {
            version: vec![0xa0, 3, 2, 1, 2],
            serial: vec![2, 2, 0x5a, seed],
            inner: ED25519.to_vec(),
            outer: ED25519.to_vec(),
            issuer: name(issuer),
            // 2026 to 2028; now is January 2027.
            validity: times("260101000000Z", "280101000000Z"),
            subject: name(subject),
            key: seed,
            spki: None,
            extensions: Some(extensions),
            more: Default::default(),
            unused_bits: 0,
        }
    }

    fn ca(subject: &str, issuer: &str, seed: u8) -> Self {
        Self::new(
            subject,
            issuer,
            seed,
            vec![basic(true, None), usage(ISSUES)],
        )
    }

    fn leaf() -> Self {
        Self::new("device", "issuing", 3, vec![usage(SIGNS)])
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn push(self, extension: Vec<u8>) -> Self {
        self.with(|raw| raw.extensions.as_mut().unwrap().push(extension))
    }

    fn only(self, extensions: Vec<Vec<u8>>) -> Self {
        self.with(|raw| raw.extensions = Some(extensions))
    }

    fn tbs(&self) -> Vec<u8> {
        let own = || ed(self.key).public_key().to_spki_der().unwrap();
        let spki = self.spki.clone().unwrap_or_else(own);
        let list = self.extensions.as_ref();
        let list = list.map(|all| tlv(0xa3, &tlv(0x30, &all.concat())));
        seq(&[
            &self.version,
            &self.serial,
            &self.inner,
            &self.issuer,
            &self.validity,
            &self.subject,
            &spki,
            &list.unwrap_or_default(),
            &self.more[0],
        ])
    }

    fn signed(&self, by: &PrivateKey) -> Vec<u8> {
        self.with_signature(&by.sign(&self.tbs()).unwrap())
    }

    fn with_signature(&self, signature: &[u8]) -> Vec<u8> {
        let bits = [&[self.unused_bits][..], signature].concat();
        let mut der = seq(&[&self.tbs(), &self.outer, &tlv(3, &bits), &self.more[1]]);
        der.extend_from_slice(&self.more[2]);
        der
    }
}

/// The path of a case: leaf, intermediates, all in one.
struct Path {
    leaf: Vec<u8>,
    others: Vec<Vec<u8>>,
}

fn ed(seed: u8) -> PrivateKey {
    key(KeyAlg::Ed25519, seed.into())
}

fn root() -> PrivateKey {
    ed(1)
}

fn issuing() -> PrivateKey {
    ed(2)
}

fn good_issuing() -> Raw {
    Raw::ca("issuing", "root", 2)
}

/// A leaf under the good issuing CA.
fn leaf(raw: Raw) -> Path {
    Path {
        leaf: raw.signed(&issuing()),
        others: vec![good_issuing().signed(&root())],
    }
}

/// The good leaf under another issuing CA.
fn under(raw: Raw) -> Path {
    Path {
        leaf: Raw::leaf().signed(&issuing()),
        others: vec![raw.signed(&root())],
    }
}

/// The good leaf, and CAs from the lowest up, each signed by the key of the next; the last by the root.
fn tower(cas: Vec<Raw>) -> Path {
    let mut leaf = Raw::leaf();
    leaf.issuer.clone_from(&cas[0].subject);
    let above = cas[1..].iter().map(|ca| ca.key).chain([1]);
    Path {
        leaf: leaf.signed(&ed(cas[0].key)),
        others: cas
            .iter()
            .zip(above)
            .map(|(ca, by)| ca.signed(&ed(by)))
            .collect(),
    }
}

fn verify(path: &Path) -> Result<(), ChainError> {
    let anchor = Raw::ca("root", "root", 1).signed(&root());
    let anchors = [TrustAnchor::from_cert_der(&anchor).unwrap()];
    let others: Vec<&[u8]> = path.others.iter().map(Vec::as_slice).collect();
    let said = providers().into_iter().map(|(name, provider)| {
        let (leaf, purpose) = (&path.leaf, Purpose::EndEntity);
        let said = verify_chain(provider.as_ref(), leaf, &others, &anchors, purpose, NOW);
        (name, said.map(drop))
    });
    let (first, rest) = {
        let mut said: Vec<_> = said.collect();
        (said.remove(0).1, said)
    };
    assert!(!rest.is_empty(), "the servers' provider is another one");
    for (name, said) in rest {
        assert_eq!(said, first, "{name} says something else");
    }
    first
}

/// What is good, and what is good although it looks odd.
#[test]
fn paths_that_hold() {
    // Self-issued: the CA changed its key, twice. It does not count as one more below.
    let changed = vec![
        Raw::ca("issuing", "issuing", 2),
        Raw::ca("issuing", "issuing", 20),
        Raw::ca("issuing", "root", 21).only(vec![basic(true, Some(0)), usage(ISSUES)]),
    ];
    let cases: Vec<(&str, Path)> = vec![
        ("the good path", leaf(Raw::leaf())),
        (
            "an unknown extension that is not critical",
            leaf(Raw::leaf().push(extension(99, false, &[5, 0]))),
        ),
        ("no keyUsage at all", leaf(Raw::leaf().only(vec![]))),
        (
            "basicConstraints that say no CA",
            leaf(Raw::leaf().push(basic(false, None))),
        ),
        (
            "a pathLen that suffices",
            under(good_issuing().only(vec![basic(true, Some(0)), usage(ISSUES)])),
        ),
        ("a CA that changed its key, below pathLen 0", tower(changed)),
        (
            "three CAs",
            tower(vec![
                Raw::ca("a", "b", 21),
                Raw::ca("b", "c", 22),
                Raw::ca("c", "root", 23),
            ]),
        ),
        (
            "GeneralizedTime",
            leaf(Raw::leaf().with(|raw| {
                raw.validity = seq(&[
                    &tlv(0x18, b"20260101000000Z"),
                    &tlv(0x18, b"99991231235959Z"),
                ]);
            })),
        ),
        (
            "critical written out as false: no DER, but some CAs do, and it says the same",
            leaf(Raw::leaf().push(seq(&[
                &[6, 3, 0x55, 0x1d, 99],
                &[1, 1, 0],
                &tlv(4, &[5, 0]),
            ]))),
        ),
    ];
    for (what, path) in cases {
        assert_eq!(verify(&path), Ok(()), "{what}");
    }
}

#[test]
#[allow(clippy::too_many_lines)] // A table.
fn paths_that_are_refused() {
    let more = |n: usize, octets: &[u8]| {
        let octets = octets.to_vec();
        move |raw: &mut Raw| raw.more[n] = octets
    };
    let is_ca = || vec![basic(true, None), usage(ISSUES)];
    let v1 = |raw: Raw| {
        raw.with(|raw| {
            raw.version = vec![];
            raw.extensions = None;
        })
    };
    let deep: Vec<Raw> = (0..5)
        .map(|n| {
            Raw::ca(
                &format!("ca{n}"),
                &if n == 4 {
                    "root".into()
                } else {
                    format!("ca{}", n + 1)
                },
                30 + n,
            )
        })
        .collect();
    let loop_of = |names: [&str; 2]| Path {
        leaf: Raw::leaf()
            .with(|raw| raw.issuer = name(names[0]))
            .signed(&ed(40)),
        others: vec![
            Raw::ca(names[0], names[1], 40).signed(&ed(41)),
            Raw::ca(names[1], names[0], 41).signed(&ed(40)),
        ],
    };
    let cases: Vec<(&str, &str, Path)> = vec![
        // The issuer is none.
        (
            "no basicConstraints",
            "NotACa",
            under(good_issuing().only(vec![usage(ISSUES)])),
        ),
        (
            "cA is false",
            "NotACa",
            under(good_issuing().only(vec![basic(false, None), usage(ISSUES)])),
        ),
        (
            "cA is false with a pathLen",
            "NotACa",
            under(good_issuing().only(vec![basic(false, Some(3)), usage(ISSUES)])),
        ),
        (
            "cA is not a DER boolean",
            "Malformed",
            under(good_issuing().only(vec![
                extension(19, true, &[0x30, 3, 1, 1, 1]),
                usage(ISSUES),
            ])),
        ),
        (
            "a negative pathLen",
            "Malformed",
            under(good_issuing().only(vec![
                extension(19, true, &[0x30, 6, 1, 1, 0xff, 2, 1, 0xff]),
                usage(ISSUES),
            ])),
        ),
        (
            "more behind basicConstraints",
            "Malformed",
            under(good_issuing().only(vec![
                extension(19, true, &[0x30, 3, 1, 1, 0xff, 5, 0]),
                usage(ISSUES),
            ])),
        ),
        (
            "an issuer without keyCertSign",
            "KeyUsage",
            under(good_issuing().only(vec![basic(true, None), usage(SIGNS)])),
        ),
        (
            "an issuer whose keyUsage is empty",
            "KeyUsage",
            under(good_issuing().only(vec![basic(true, None), usage(&[3, 1, 0])])),
        ),
        (
            "an issuer of version 1",
            "Version",
            under(v1(good_issuing())),
        ),
        ("an issuer without a name", "NotACa", {
            let nobody = good_issuing().with(|raw| raw.subject = vec![0x30, 0]);
            Path {
                leaf: Raw::leaf()
                    .with(|raw| raw.issuer = vec![0x30, 0])
                    .signed(&issuing()),
                others: vec![nobody.signed(&root())],
            }
        }),
        (
            "an expired issuer",
            "Expired",
            under(
                good_issuing().with(|raw| raw.validity = times("200101000000Z", "261231235959Z")),
            ),
        ),
        (
            "an issuer of the future",
            "NotYetValid",
            under(
                good_issuing().with(|raw| raw.validity = times("270601000000Z", "280101000000Z")),
            ),
        ),
        (
            "an issuer's end before its beginning",
            "Expired",
            under(
                good_issuing().with(|raw| raw.validity = times("260601000000Z", "260101000000Z")),
            ),
        ),
        (
            "another key under the issuer's name",
            "Crypto",
            under(good_issuing().with(|raw| raw.key = 9)),
        ),
        (
            "an issuer that signed itself",
            "Crypto",
            Path {
                leaf: Raw::leaf().signed(&issuing()),
                others: vec![Raw::ca("issuing", "root", 2).signed(&issuing())],
            },
        ),
        (
            "a root of one's own",
            "UnknownIssuer",
            Path {
                leaf: Raw::leaf().signed(&issuing()),
                others: vec![Raw::ca("issuing", "issuing", 2).signed(&issuing())],
            },
        ),
        (
            "the root's name on another key",
            "Crypto",
            Path {
                leaf: Raw::leaf()
                    .with(|raw| raw.issuer = name("root"))
                    .signed(&issuing()),
                others: vec![Raw::ca("root", "root", 2).signed(&issuing())],
            },
        ),
        (
            "a leaf that issues",
            "NotACa",
            Path {
                leaf: Raw::leaf()
                    .with(|raw| {
                        raw.issuer = name("device");
                        raw.subject = name("child");
                    })
                    .signed(&ed(3)),
                others: vec![
                    Raw::leaf().signed(&issuing()),
                    good_issuing().signed(&root()),
                ],
            },
        ),
        // pathLen.
        (
            "pathLen 0 over a CA",
            "NotACa",
            tower(vec![
                good_issuing().with(|raw| raw.issuer = name("upper")),
                Raw::ca("upper", "root", 21).only(vec![basic(true, Some(0)), usage(ISSUES)]),
            ]),
        ),
        (
            "pathLen 0 two above",
            "NotACa",
            tower(vec![
                Raw::ca("a", "b", 21),
                Raw::ca("b", "c", 22).only(vec![basic(true, Some(1)), usage(ISSUES)]),
                Raw::ca("c", "root", 23).only(vec![basic(true, Some(0)), usage(ISSUES)]),
            ]),
        ),
        (
            "only the names are self-issued: pathLen 0 over another CA",
            "NotACa",
            tower(vec![
                Raw::ca("issuing", "upper", 2),
                Raw::ca("upper", "upper", 21),
                Raw::ca("upper", "root", 22).only(vec![basic(true, Some(0)), usage(ISSUES)]),
            ]),
        ),
        ("more CAs than a path may have", "PathTooLong", tower(deep)),
        // Loops.
        (
            "two CAs that name each other",
            "UnknownIssuer",
            loop_of(["x", "y"]),
        ),
        ("a CA that names itself", "Crypto", loop_of(["x", "x"])),
        // The leaf.
        (
            "a leaf that is a CA",
            "UnexpectedCa",
            leaf(Raw::leaf().only(is_ca())),
        ),
        (
            "a leaf that only agrees on keys",
            "KeyUsage",
            leaf(Raw::leaf().only(vec![usage(&[3, 2, 3, 0x08])])),
        ),
        (
            "an expired leaf",
            "Expired",
            leaf(Raw::leaf().with(|raw| raw.validity = times("200101000000Z", "261231235959Z"))),
        ),
        (
            "a leaf of the future",
            "NotYetValid",
            leaf(Raw::leaf().with(|raw| raw.validity = times("270601000000Z", "280101000000Z"))),
        ),
        ("a leaf of version 1", "Version", leaf(v1(Raw::leaf()))),
        (
            "version 1 with extensions",
            "Malformed",
            leaf(Raw::leaf().with(|raw| raw.version = vec![])),
        ),
        (
            "version 1, written out",
            "Malformed",
            leaf(Raw::leaf().with(|raw| {
                raw.version = vec![0xa0, 3, 2, 1, 0];
                raw.extensions = None;
            })),
        ),
        (
            "version 4",
            "Malformed",
            leaf(Raw::leaf().with(|raw| raw.version = vec![0xa0, 3, 2, 1, 3])),
        ),
        (
            "a version of eight octets",
            "Malformed",
            leaf(
                Raw::leaf().with(|raw| raw.version = vec![0xa0, 10, 2, 8, 1, 0, 0, 0, 0, 0, 0, 2]),
            ),
        ),
        // Extensions.
        (
            "an unknown critical extension",
            "UnknownCriticalExtension",
            leaf(Raw::leaf().push(extension(99, true, &[5, 0]))),
        ),
        (
            "the same at the issuer",
            "UnknownCriticalExtension",
            under(good_issuing().push(extension(99, true, &[5, 0]))),
        ),
        (
            "name constraints",
            "UnknownCriticalExtension",
            under(good_issuing().push(extension(30, true, &[0x30, 0]))),
        ),
        (
            "name constraints that are not critical",
            "UnknownCriticalExtension",
            under(good_issuing().push(extension(30, false, &[0x30, 0]))),
        ),
        (
            "policy constraints",
            "UnknownCriticalExtension",
            under(good_issuing().push(extension(36, true, &[0x30, 3, 0x80, 1, 0]))),
        ),
        (
            "inhibitAnyPolicy",
            "UnknownCriticalExtension",
            under(good_issuing().push(extension(54, true, &[2, 1, 0]))),
        ),
        (
            "an extension twice",
            "Malformed",
            leaf(Raw::leaf().push(usage(SIGNS))),
        ),
        (
            "basicConstraints twice, the first good",
            "UnknownIssuer",
            under(good_issuing().push(basic(false, None))),
        ),
        (
            "an empty list of extensions",
            "Malformed",
            leaf(
                Raw::leaf()
                    .with(|raw| raw.extensions = Some(vec![]))
                    .with(|raw| raw.more[0] = vec![5, 0]),
            ),
        ),
        (
            "keyUsage with a bit that nobody knows",
            "Malformed",
            leaf(Raw::leaf().only(vec![usage(&[3, 3, 0, 0x80, 0x01])])),
        ),
        // Serial numbers: RFC 5280 section 4.1.2.2.
        (
            "a serial number of 0",
            "Serial",
            leaf(Raw::leaf().with(|raw| raw.serial = vec![2, 1, 0])),
        ),
        (
            "a negative serial number",
            "Serial",
            leaf(Raw::leaf().with(|raw| raw.serial = vec![2, 1, 0x80])),
        ),
        (
            "the same at the issuer",
            "Serial",
            under(good_issuing().with(|raw| raw.serial = vec![2, 1, 0xff])),
        ),
        (
            "a serial number of 22 octets",
            "Malformed",
            leaf(Raw::leaf().with(|raw| raw.serial = tlv(2, &[0x11; 22]))),
        ),
        (
            "a serial number with a zero before it",
            "Malformed",
            leaf(Raw::leaf().with(|raw| raw.serial = vec![2, 2, 0, 1])),
        ),
        (
            "a serial number without octets",
            "Malformed",
            leaf(Raw::leaf().with(|raw| raw.serial = vec![2, 0])),
        ),
        // Algorithms.
        (
            "another algorithm inside",
            "Malformed",
            leaf(Raw::leaf().with(|raw| raw.inner = ECDSA.to_vec())),
        ),
        (
            "another algorithm outside",
            "Malformed",
            leaf(Raw::leaf().with(|raw| raw.outer = ECDSA.to_vec())),
        ),
        (
            "another algorithm inside and outside",
            "AlgMismatch",
            leaf(Raw::leaf().with(|raw| {
                raw.inner = ECDSA.to_vec();
                raw.outer = ECDSA.to_vec();
            })),
        ),
        (
            "parameters where there are none",
            "AlgMismatch",
            leaf(Raw::leaf().with(|raw| {
                raw.inner = seq(&[&ED25519[2..], &[5, 0]]);
                raw.outer = raw.inner.clone();
            })),
        ),
        (
            "an algorithm nobody knows",
            "AlgMismatch",
            leaf(Raw::leaf().with(|raw| {
                raw.inner = vec![0x30, 3, 6, 1, 0x2a];
                raw.outer = raw.inner.clone();
            })),
        ),
        (
            "unused bits in the signature",
            "Malformed",
            leaf(Raw::leaf().with(|raw| raw.unused_bits = 1)),
        ),
        // More than there should be.
        (
            "more behind the certificate",
            "Malformed",
            leaf(Raw::leaf().with(more(2, &[0]))),
        ),
        (
            "more behind the signature",
            "Malformed",
            leaf(Raw::leaf().with(more(1, &[5, 0]))),
        ),
        (
            "more behind the extensions",
            "Malformed",
            leaf(Raw::leaf().with(more(0, &[5, 0]))),
        ),
        (
            "the issuer twice in one",
            "UnknownIssuer",
            under(good_issuing().with(more(2, &good_issuing().signed(&root())))),
        ),
        // Times.
        (
            "a time without seconds",
            "Malformed",
            leaf(Raw::leaf().with(|raw| raw.validity = times("2601010000Z", "280101000000Z"))),
        ),
        (
            "a time of another zone",
            "Malformed",
            leaf(
                Raw::leaf().with(|raw| raw.validity = times("260101000000+0900", "280101000000Z")),
            ),
        ),
        (
            "a 13th month",
            "Malformed",
            leaf(Raw::leaf().with(|raw| raw.validity = times("261301000000Z", "280101000000Z"))),
        ),
        (
            "only one time",
            "Malformed",
            leaf(Raw::leaf().with(|raw| raw.validity = seq(&[&tlv(0x17, b"260101000000Z")]))),
        ),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for (what, expected, path) in cases {
        let refused = verify(&path).expect_err(what);
        assert!(
            format!("{refused:?}").starts_with(expected),
            "{what}: {refused:?}"
        );
        seen.insert(expected);
    }
    assert_eq!(seen.len(), 13, "every reason was seen: {seen:?}");
}

#[test]
fn huge_ones_are_refused_before_they_cost_anything() {
    // One certificate above the limit of size, with a name that would be read first.
    let long = leaf(Raw::leaf().push(extension(99, false, &vec![0; 40_000])));
    assert!(matches!(verify(&long), Err(ChainError::Malformed(_))));
    // Hundreds of extensions, and hundreds of certificates.
    let many = (0..200).map(|n| extension(n % 100 + 100, false, &[n]));
    let many = leaf(Raw::leaf().with(|raw| raw.extensions.as_mut().unwrap().extend(many)));
    assert!(matches!(verify(&many), Err(ChainError::Malformed(_))));
    let mut crowd = leaf(Raw::leaf());
    crowd.others = vec![crowd.others[0].clone(); 500];
    assert!(matches!(
        verify(&crowd),
        Err(ChainError::LimitExceeded { .. })
    ));
    // A length that promises 4 GiB.
    let promise = Path {
        leaf: vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30],
        others: vec![],
    };
    assert!(matches!(verify(&promise), Err(ChainError::Malformed(_))));
}

fn p256() -> PrivateKey {
    key(KeyAlg::P256, 50)
}

/// A leaf under an issuing CA with a P-256 key, with a signature made of r and s, 32 bytes each.
fn ecdsa(signature: impl FnOnce(&[u8], &[u8]) -> Vec<u8>) -> Path {
    let spki = p256().public_key().to_spki_der().unwrap();
    let leaf = Raw::leaf().with(|raw| {
        raw.inner = ECDSA.to_vec();
        raw.outer = ECDSA.to_vec();
    });
    let raw = p256().sign(&leaf.tbs()).unwrap();
    let (r, s) = raw.split_at(32);
    Path {
        leaf: leaf.with_signature(&signature(r, s)),
        others: vec![
            good_issuing()
                .with(|raw| raw.spki = Some(spki))
                .signed(&root()),
        ],
    }
}

/// The DER INTEGER of an unsigned number.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let at = bytes.iter().position(|b| *b != 0);
    let short = at.map_or(&[0][..], |at| &bytes[at..]);
    let sign: &[u8] = if short[0] >= 0x80 { &[0] } else { &[] };
    tlv(2, &[sign, short].concat())
}

/// Signatures of ECDSA that are none, whatever they are over. Spec: RFC 3279 section 2.2.3, SEC 1 section 4.1.4.
#[test]
fn ecdsa_signatures_that_are_refused() {
    let good = |r: &[u8], s: &[u8]| seq(&[&integer(r), &integer(s)]);
    assert_eq!(verify(&ecdsa(good)), Ok(()));
    let n = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let more = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632552");
    let zero = vec![0; 32];
    let one = [&zero[..31], &[1]].concat();
    type Make<'a> = Box<dyn Fn(&[u8], &[u8]) -> Vec<u8> + 'a>;
    let ints = |make: Make<'static>| make;
    let with = |r: Option<&Vec<u8>>, s: Option<&Vec<u8>>| -> Make<'static> {
        let (other_r, other_s) = (r.cloned(), s.cloned());
        ints(Box::new(move |r, s| {
            let r = other_r.as_deref().unwrap_or(r);
            seq(&[&integer(r), &integer(other_s.as_deref().unwrap_or(s))])
        }))
    };
    let cases: Vec<(&str, Make<'_>)> = vec![
        ("r is 0", with(Some(&zero), None)),
        ("s is 0", with(None, Some(&zero))),
        ("both are 0", with(Some(&zero), Some(&zero))),
        ("r is n", with(Some(&n), None)),
        ("s is n", with(None, Some(&n))),
        ("both are n", with(Some(&n), Some(&n))),
        ("r is n, s is 0", with(Some(&n), Some(&zero))),
        ("r is above n", with(Some(&more), None)),
        ("s is above n", with(None, Some(&more))),
        ("both are 1", with(Some(&one), Some(&one))),
        ("r of 256 ones", with(Some(&vec![0xff; 32]), None)),
        ("r of 40 bytes", with(Some(&vec![0x7f; 40]), None)),
        ("r of 4,000 bytes", with(Some(&vec![0x7f; 4_000]), None)),
        ("r and s change places", Box::new(|r, s| good(s, r))),
        (
            "r is negative",
            Box::new(|r, s| seq(&[&tlv(2, &[&[0x80], &r[1..]].concat()), &integer(s)])),
        ),
        (
            "a zero before r",
            Box::new(|r, s| seq(&[&tlv(2, &[&[0, 0], r].concat()), &integer(s)])),
        ),
        (
            "r without octets",
            Box::new(|_, s| seq(&[&[2, 0], &integer(s)])),
        ),
        (
            "a length of BER: two octets where one does",
            Box::new(|r, s| {
                let body = [integer(r), integer(s)].concat();
                [&[0x30, 0x81, body.len() as u8][..], &body].concat()
            }),
        ),
        (
            "a length of BER at r",
            Box::new(|r, s| {
                let r = integer(r);
                seq(&[&[2, 0x81], &r[1..], &integer(s)])
            }),
        ),
        (
            "an indefinite length",
            Box::new(|r, s| [&[0x30, 0x80][..], &integer(r), &integer(s), &[0, 0]].concat()),
        ),
        (
            "more behind it",
            Box::new(|r, s| [&good(r, s)[..], &[0]].concat()),
        ),
        (
            "more behind s",
            Box::new(|r, s| seq(&[&integer(r), &integer(s), &integer(s)])),
        ),
        ("no s", Box::new(|r, _| seq(&[&integer(r)]))),
        (
            "one octet less",
            Box::new(|r, s| good(r, s)[..good(r, s).len() - 1].to_vec()),
        ),
        (
            "a SET",
            Box::new(|r, s| tlv(0x31, &[integer(r), integer(s)].concat())),
        ),
        ("r and s as they are", Box::new(|r, s| [r, s].concat())),
        ("nothing", Box::new(|_, _| Vec::new())),
    ];
    for (what, make) in cases {
        let refused = verify(&ecdsa(make)).expect_err(what);
        assert!(
            matches!(refused, ChainError::Crypto(_)),
            "{what}: {refused:?}"
        );
    }
}

/// Points that are no public key, in the certificate of an issuing CA. Spec: RFC 5480 section 2.2.
#[test]
fn points_that_are_refused() {
    let good = p256().public_key().to_spki_der().unwrap();
    let head = good[..good.len() - 66].to_vec();
    let point = &good[good.len() - 64..];
    let (x, y) = point.split_at(32);
    // The two octets before the point: no unused bits, and its form.
    let spki = |bits: &[u8]| {
        let algorithm = &head[2..head.len() - 2];
        seq(&[algorithm, &tlv(3, &[&[0], bits].concat())])
    };
    let with_key = |spki: Vec<u8>| {
        let mut path = ecdsa(|r, s| seq(&[&integer(r), &integer(s)]));
        let issuing = good_issuing().with(|raw| raw.spki = Some(spki));
        path.others = vec![issuing.signed(&root())];
        path
    };
    let uncompressed = [&[4], point].concat();
    assert_eq!(spki(&uncompressed), good);
    assert_eq!(verify(&with_key(spki(&uncompressed))), Ok(()));
    // RFC 5480 lets a CA write its key so.
    let sign = 2 + (y[31] & 1);
    let compressed = [&[sign], x].concat();
    assert_eq!(verify(&with_key(spki(&compressed))), Ok(()));
    let mut off = uncompressed.clone();
    off[64] ^= 1;
    let p = hex("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff");
    for (what, bits) in [
        ("not on the curve", off),
        ("infinity", vec![0]),
        ("infinity in 65 octets", [&[0], point].concat()),
        ("0, 0", [&[4][..], &[0; 64]].concat()),
        ("x is p", [&[4], &p[..], y].concat()),
        (
            "compressed, and an octet more",
            [&compressed[..], &[0]].concat(),
        ),
        ("hybrid", [&[sign + 4], point].concat()),
        ("another form", [&[5], point].concat()),
        ("an octet less", uncompressed[..64].to_vec()),
        ("an octet more", [&uncompressed[..], &[0]].concat()),
        ("nothing", vec![]),
    ] {
        let refused = verify(&with_key(spki(&bits))).expect_err(what);
        assert!(
            matches!(refused, ChainError::Crypto(_)),
            "{what}: {refused:?}"
        );
    }
}
