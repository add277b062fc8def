//! X.509 path validation from a leaf over issuing CAs to a trust anchor.
//!
//! Invariants: only configured anchors end a path; every certificate on it is of version 3, valid
//! at `now`, signed by the one above with that one's own algorithm, and has no critical extension
//! that is not checked here. The number of certificates and of signatures verified is bounded
//! whatever the peer sends.
//!
//! Deliberately absent: revocation (the caller asks the CA), policies, name constraints (a CA
//! certificate that has them is refused, since they would not be enforced).
//!
//! Spec: RFC 5280 section 6.1.

use alloc::vec::Vec;

use tegata_wire::x509::{CertView, X509Error, oid};

use crate::{CryptoError, Provider, PublicKey};

/// Most intermediate certificates a peer may send: all that a CA of ours tells of, four roots and twelve
/// below them.
pub const INTERMEDIATES_MAX: usize = 16;
/// Longest path, leaf and last intermediate included, anchor excluded: a leaf, its issuing CA, and the
/// links over three roots.
pub const PATH_LEN_MAX: usize = 5;
/// Most signatures verified for one leaf, whatever the peer sends.
pub const SIGNATURES_MAX: u32 = 16;

/// A root that is trusted because it was configured, not because of its signature.
#[derive(Debug, Clone)]
pub struct TrustAnchor {
    der: Vec<u8>,
    subject_der: Vec<u8>,
    public_key: PublicKey,
    path_len: Option<u8>,
    not_before_secs: u64,
    not_after_secs: u64,
}

/// What the leaf must be good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// An end entity that signs: not a CA; digitalSignature, if it states its key usage.
    EndEntity,
    /// An issuing CA: cA, and keyCertSign if it states its key usage.
    Ca,
}

/// A path that was checked, leaf first.
#[derive(Debug)]
#[must_use]
pub struct VerifiedChain {
    path: Vec<Vec<u8>>,
    leaf_key: PublicKey,
    anchor: TrustAnchor,
}

impl TrustAnchor {
    /// Takes a CA certificate in DER as a trust anchor.
    ///
    /// # Errors
    /// [`ChainError`] unless it parses, holds a key we support and may sign certificates.
    pub fn from_cert_der(der: &[u8]) -> Result<Self, ChainError> {
        let view = CertView::from_der(der)?;
        check_extensions(&view)?;
        let path_len = check_ca(&view)?;
        Ok(Self {
            der: der.to_vec(),
            subject_der: view.subject_der.to_vec(),
            public_key: PublicKey::from_spki_der(view.spki_der)?,
            path_len,
            not_before_secs: view.not_before_secs,
            not_after_secs: view.not_after_secs,
        })
    }

    /// The certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its subject name, DER.
    pub fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// The anchor's key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// First and last second of its validity, since 1970.
    pub const fn validity_secs(&self) -> (u64, u64) {
        (self.not_before_secs, self.not_after_secs)
    }
}

impl VerifiedChain {
    /// The leaf, DER.
    pub fn leaf_der(&self) -> &[u8] {
        self.path.first().map_or(&[], Vec::as_slice)
    }

    /// The leaf, read.
    ///
    /// # Errors
    /// Never for a chain that was verified; the caller need not handle it apart.
    pub fn leaf(&self) -> Result<CertView<'_>, ChainError> {
        Ok(CertView::from_der(self.leaf_der())?)
    }

    /// The leaf's key.
    pub fn leaf_key(&self) -> &PublicKey {
        &self.leaf_key
    }

    /// The path in DER, leaf first, anchor excluded.
    pub fn path_der(&self) -> impl Iterator<Item = &[u8]> {
        self.path.iter().map(Vec::as_slice)
    }

    /// The anchor the path ends at.
    pub fn anchor(&self) -> &TrustAnchor {
        &self.anchor
    }
}

/// Why no acceptable path was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A certificate does not parse.
    #[error("malformed certificate")]
    Malformed(#[from] X509Error),
    /// A certificate is not of version 3.
    #[error("certificate of version {got}, expected 3")]
    Version {
        /// Version found.
        got: u8,
    },
    /// A serial number that is not positive. Spec: RFC 5280 section 4.1.2.2.
    #[error("serial number is not positive")]
    Serial,
    /// More certificates or signatures than the budget allows.
    #[error("{what} above the limit of {limit}")]
    LimitExceeded {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// No trust anchor, or none that issued this path.
    #[error("no trusted issuer")]
    UnknownIssuer,
    /// There are more certificates that may lead to an anchor, and the path is full.
    #[error("no trusted issuer within {limit} certificates: nothing longer is followed")]
    PathTooLong {
        /// How long a path may be, leaf included and anchor excluded.
        limit: usize,
    },
    /// A certificate is not yet valid.
    #[error("certificate is not yet valid: not before {not_before}, now {now}")]
    NotYetValid {
        /// Start of validity, seconds since 1970.
        not_before: u64,
        /// The time given, seconds since 1970.
        now: u64,
    },
    /// A certificate has expired.
    #[error("certificate has expired: not after {not_after}, now {now}")]
    Expired {
        /// End of validity, seconds since 1970.
        not_after: u64,
        /// The time given, seconds since 1970.
        now: u64,
    },
    /// An issuer is no CA, or its path length constraint is exceeded.
    #[error("an issuer is not a CA for this path")]
    NotACa,
    /// The leaf is a CA where an end entity is wanted.
    #[error("a CA certificate where an end entity's belongs")]
    UnexpectedCa,
    /// The key usage does not allow what the certificate is used for.
    #[error("key usage does not allow this use")]
    KeyUsage,
    /// An extension that would have to be enforced, and is not known here.
    #[error("extension {oid} would have to be enforced and is not known")]
    UnknownCriticalExtension {
        /// Its type.
        oid: const_oid::ObjectIdentifier,
    },
    /// Signature algorithm of the issuer's key and of the certificate differ.
    #[error("signature algorithm does not fit the issuer's key")]
    AlgMismatch,
    /// A key or a signature is refused.
    #[error("refused key or signature")]
    Crypto(#[from] CryptoError),
}

/// Finds and checks a path from `leaf` (DER) over `intermediates` (DER, any order, untrusted) to
/// one of `anchors`, at `now` (seconds since 1970).
///
/// # Errors
/// [`ChainError`]: of the leaf, or the reason the last path that was tried is none.
///
/// Spec: RFC 5280 section 6.1.
pub fn verify_chain(
    provider: &dyn Provider,
    leaf: &[u8],
    intermediates: &[&[u8]],
    anchors: &[TrustAnchor],
    purpose: Purpose,
    now: u64,
) -> Result<VerifiedChain, ChainError> {
    if intermediates.len() > INTERMEDIATES_MAX {
        let limit = INTERMEDIATES_MAX;
        return Err(ChainError::LimitExceeded {
            what: "intermediate certificates",
            limit,
        });
    }
    let leaf = CertView::from_der(leaf)?;
    check_serial(&leaf)?;
    check_extensions(&leaf)?;
    check_validity(leaf.not_before_secs, leaf.not_after_secs, now)?;
    match purpose {
        Purpose::EndEntity => check_end_entity(&leaf)?,
        Purpose::Ca => {
            check_ca(&leaf)?;
        }
    }
    let leaf_key = PublicKey::from_spki_der(leaf.spki_der)?;
    // A certificate in the message that does not parse is passed over: it may be for others.
    let views = intermediates
        .iter()
        .filter_map(|der| CertView::from_der(der).ok())
        .collect();
    let mut search = Search {
        provider,
        intermediates: views,
        anchors,
        now,
        signatures_left: SIGNATURES_MAX,
    };
    let mut path = alloc::vec![leaf];
    let anchor = search.extend(&mut path)?;
    let path = path.into_iter().map(|view| view.der.to_vec()).collect();
    Ok(VerifiedChain {
        path,
        leaf_key,
        anchor: anchor.clone(),
    })
}

/// A depth-first search for a path, with its budget.
struct Search<'a> {
    provider: &'a dyn Provider,
    intermediates: Vec<CertView<'a>>,
    anchors: &'a [TrustAnchor],
    now: u64,
    signatures_left: u32,
}

impl<'a> Search<'a> {
    /// Extends `path` to an anchor, or says why it cannot.
    fn extend(&mut self, path: &mut Vec<CertView<'a>>) -> Result<&'a TrustAnchor, ChainError> {
        let Some(last) = path.last().cloned() else {
            return Err(CryptoError::Unreachable("path without a leaf").into());
        };
        // CA certificates below the issuer that is looked for; the leaf does not count.
        let below = path
            .iter()
            .skip(1)
            .filter(|view| !view.is_self_issued())
            .count();
        let mut refused = ChainError::UnknownIssuer;
        for anchor in self.anchors {
            if anchor.subject_der != last.issuer_der {
                continue;
            }
            match self.check_anchor(anchor, &last, below) {
                Ok(()) => return Ok(anchor),
                Err(error @ ChainError::LimitExceeded { .. }) => return Err(error),
                Err(error) => refused = error,
            }
        }
        for issuer in self.intermediates.clone() {
            // The same name and key again leads nowhere that the first one does not: RFC 4158 section 5.2.
            // So a root that came along does not cost a search of its own.
            let used = path.iter().any(|view| {
                view.subject_der == issuer.subject_der && view.spki_der == issuer.spki_der
            });
            if used || issuer.subject_der != last.issuer_der {
                continue;
            }
            if path.len() == PATH_LEN_MAX {
                return Err(match refused {
                    ChainError::UnknownIssuer => ChainError::PathTooLong {
                        limit: PATH_LEN_MAX,
                    },
                    refused => refused,
                });
            }
            let tried = self.check_issuer(&issuer, &last, below).and_then(|()| {
                path.push(issuer);
                let found = self.extend(path);
                if found.is_err() {
                    path.pop();
                }
                found
            });
            match tried {
                Ok(anchor) => return Ok(anchor),
                Err(error @ ChainError::LimitExceeded { .. }) => return Err(error),
                // What would be mended by a shorter path says most.
                Err(_) if matches!(refused, ChainError::PathTooLong { .. }) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn check_anchor(
        &mut self,
        anchor: &TrustAnchor,
        subject: &CertView<'_>,
        below: usize,
    ) -> Result<(), ChainError> {
        check_validity(anchor.not_before_secs, anchor.not_after_secs, self.now)?;
        check_path_len(anchor.path_len, below)?;
        self.check_signature(&anchor.public_key, subject)
    }

    fn check_issuer(
        &mut self,
        issuer: &CertView<'_>,
        subject: &CertView<'_>,
        below: usize,
    ) -> Result<(), ChainError> {
        check_serial(issuer)?;
        check_extensions(issuer)?;
        check_validity(issuer.not_before_secs, issuer.not_after_secs, self.now)?;
        check_path_len(check_ca(issuer)?, below)?;
        self.check_signature(&PublicKey::from_spki_der(issuer.spki_der)?, subject)
    }

    fn check_signature(
        &mut self,
        key: &PublicKey,
        subject: &CertView<'_>,
    ) -> Result<(), ChainError> {
        if subject.signature_alg() != Some(key.alg().signature_alg()) {
            return Err(ChainError::AlgMismatch);
        }
        let Some(left) = self.signatures_left.checked_sub(1) else {
            return Err(ChainError::LimitExceeded {
                what: "signatures",
                limit: 16,
            });
        };
        self.signatures_left = left;
        let raw = crate::ecdsa_sig::from_der(key.alg(), subject.signature)?;
        Ok(self.provider.verify(key, subject.tbs_der, &raw)?)
    }
}

fn check_validity(not_before: u64, not_after: u64, now: u64) -> Result<(), ChainError> {
    if now < not_before {
        return Err(ChainError::NotYetValid { not_before, now });
    }
    if now > not_after {
        return Err(ChainError::Expired { not_after, now });
    }
    Ok(())
}

/// Refuses serial numbers that are negative or 0. Not of anchors: some old roots have 0.
fn check_serial(view: &CertView<'_>) -> Result<(), ChainError> {
    match view.serial {
        [] | [0] | [0x80..=0xff, ..] => Err(ChainError::Serial),
        _ => Ok(()),
    }
}

/// Refuses what would have to be enforced and is not: unknown critical extensions, and name
/// constraints in any case.
fn check_extensions(view: &CertView<'_>) -> Result<(), ChainError> {
    if view.version != 3 {
        return Err(ChainError::Version { got: view.version });
    }
    // extKeyUsage and subjectAltName are for the caller, who knows what the leaf is used for.
    const KNOWN: [const_oid::ObjectIdentifier; 4] = [
        oid::BASIC_CONSTRAINTS,
        oid::KEY_USAGE,
        oid::EXT_KEY_USAGE,
        oid::SUBJECT_ALT_NAME,
    ];
    for extension in &view.extensions {
        let unknown = extension.critical && !KNOWN.contains(&extension.oid);
        if unknown || extension.oid == oid::NAME_CONSTRAINTS {
            return Err(ChainError::UnknownCriticalExtension { oid: extension.oid });
        }
    }
    Ok(())
}

/// Checks that this certificate may sign certificates; returns its path length constraint.
fn check_ca(view: &CertView<'_>) -> Result<Option<u8>, ChainError> {
    let constraints = view.basic_constraints()?.ok_or(ChainError::NotACa)?;
    if !constraints.ca || view.subject_der == EMPTY_NAME {
        return Err(ChainError::NotACa);
    }
    check_usage(view, KEY_CERT_SIGN)?;
    Ok(constraints.path_len)
}

fn check_end_entity(view: &CertView<'_>) -> Result<(), ChainError> {
    if view
        .basic_constraints()?
        .is_some_and(|constraints| constraints.ca)
    {
        return Err(ChainError::UnexpectedCa);
    }
    check_usage(view, DIGITAL_SIGNATURE)
}

fn check_usage(view: &CertView<'_>, wanted: u16) -> Result<(), ChainError> {
    match view.key_usage()? {
        Some(usage) if usage & wanted == 0 => Err(ChainError::KeyUsage),
        _ => Ok(()),
    }
}

fn check_path_len(path_len: Option<u8>, below: usize) -> Result<(), ChainError> {
    match path_len {
        Some(max) if below > usize::from(max) => Err(ChainError::NotACa),
        _ => Ok(()),
    }
}

/// keyUsage bits as [`CertView::key_usage`] gives them. Spec: RFC 5280 section 4.2.1.3.
const DIGITAL_SIGNATURE: u16 = 1 << 0;
const KEY_CERT_SIGN: u16 = 1 << 5;
/// DER of a name without any attribute.
const EMPTY_NAME: &[u8] = &[0x30, 0x00];
