//! Certificates against the procedure's trust anchors.
//!
//! Spec: RFC 5280 section 6, for the chains an enrolment CA makes: names, signatures, validity at
//! a signed time, basicConstraints, keyUsage; an unknown critical extension refuses, and so do name
//! constraints in any case, since they would not be enforced. As the servers' own check
//! (crates/crypto/src/chain.rs). Work over a peer's certificates has a budget.

use alloc::vec::Vec;

use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::{Error, Result};
use tegata_wire::x509::{CertView, oid, usage};

use crate::keys;

/// Most CA certificates between leaf and anchor.
const DEPTH_MAX: usize = 4;
/// Most signature checks for one message.
const CHECKS_MAX: usize = 16;

/// What a certificate must be able to do in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Issues the certificate below it; so many CA certificates that are not self-issued stand between it
    /// and the leaf. Spec: RFC 5280 section 4.2.1.9.
    Issuer(usize),
    /// Signs CMP messages.
    Signer,
}

fn distrust<T>() -> Result<T> {
    Err(Error(TEE_ERROR_SECURITY))
}

/// Checks a CA certificate for its role at `now_secs`.
fn check_ca(cert: &CertView<'_>, role: Role, now_secs: u64) -> Result<()> {
    let bad = |_| Error(TEE_ERROR_SECURITY);
    let valid = cert.not_before_secs <= now_secs && now_secs <= cert.not_after_secs;
    let constraints = cert.basic_constraints().map_err(bad)?;
    let Some(constraints) = constraints.filter(|found| found.ca && valid && cert.version == 3)
    else {
        return distrust();
    };
    let named = cert.subject_der != EMPTY_NAME;
    let constrained = cert.extension(&oid::NAME_CONSTRAINTS).is_some();
    let usages = cert.key_usage().map_err(bad)?.unwrap_or(usage::ALL);
    let able = match role {
        Role::Issuer(below) => {
            let room = constraints
                .path_len
                .is_none_or(|len| usize::from(len) >= below);
            usages & usage::KEY_CERT_SIGN != 0 && room
        }
        // An issuing CA answers with its own key.
        Role::Signer => usages & (usage::DIGITAL_SIGNATURE | usage::KEY_CERT_SIGN) != 0,
    };
    if able && named && !constrained && critical_known(cert) {
        Ok(())
    } else {
        distrust()
    }
}

/// True if the serial number is positive. Not asked of anchors: some old roots have 0.
///
/// Spec: RFC 5280 section 4.1.2.2.
pub fn is_serial(cert: &CertView<'_>) -> bool {
    !matches!(cert.serial, [] | [0] | [0x80..=0xff, ..])
}

/// How many CA certificates of a path count for pathLenConstraint.
fn counted(path: &[CertView<'_>]) -> usize {
    path.iter().filter(|ca| !ca.is_self_issued()).count()
}

/// True if every critical extension is one that is looked at.
pub fn critical_known(cert: &CertView<'_>) -> bool {
    cert.extensions.iter().filter(|e| e.critical).all(|e| {
        e.oid == oid::BASIC_CONSTRAINTS
            || e.oid == oid::KEY_USAGE
            || e.oid == oid::EXT_KEY_USAGE
            || e.oid == oid::SUBJECT_ALT_NAME
    })
}

/// Finds the issuers of `cert` up to an anchor, among `pool`, and on to the roots before that one.
///
/// Returns the CA certificates from the nearest on, without the anchor: who knows the anchor needs the
/// first of them, who knows an older root alone needs them all.
///
/// # Errors
/// `TEE_ERROR_SECURITY` if there is no such chain, or its search exceeds the budget.
pub fn to_anchors<'a>(
    cert: &CertView<'_>,
    pool: &[CertView<'a>],
    anchors: &[CertView<'_>],
    now_secs: u64,
) -> Result<Vec<CertView<'a>>> {
    let mut budget = CHECKS_MAX;
    let mut path = Vec::new();
    let found = climb(cert, pool, anchors, now_secs, &mut budget, &mut path)?;
    let Some(mut root) = found else {
        return distrust();
    };
    'older: while path.len() < DEPTH_MAX {
        let role = Role::Issuer(counted(&path));
        // newWithOld: the root's own name and key, under one that is older. Spec: RFC 9810 section 4.4.
        let links = pool
            .iter()
            .filter(|link| link.subject_der == root.subject_der && link.spki_der == root.spki_der);
        let links = links.filter(|link| is_serial(link) && check_ca(link, role, now_secs).is_ok());
        for link in links {
            for older in anchors {
                let before = older.not_before_secs < root.not_before_secs;
                // A link is of another name than what issued it.
                let role = Role::Issuer(counted(&path).saturating_add(1));
                if before && issued(older, link, role, now_secs, &mut budget).unwrap_or(false) {
                    path.push(link.clone());
                    root = older;
                    continue 'older;
                }
            }
        }
        break;
    }
    Ok(path)
}

fn climb<'a, 'b>(
    cert: &CertView<'_>,
    pool: &[CertView<'a>],
    anchors: &'b [CertView<'b>],
    now_secs: u64,
    budget: &mut usize,
    path: &mut Vec<CertView<'a>>,
) -> Result<Option<&'b CertView<'b>>> {
    let role = Role::Issuer(counted(path));
    for anchor in anchors {
        if issued(anchor, cert, role, now_secs, budget)? {
            return Ok(Some(anchor));
        }
    }
    if path.len() >= DEPTH_MAX {
        return Ok(None);
    }
    for ca in pool {
        let again = ca.der == cert.der || path.iter().any(|seen| seen.der == ca.der);
        if again || !is_serial(ca) || !issued(ca, cert, role, now_secs, budget)? {
            continue;
        }
        path.push(ca.clone());
        if let Some(anchor) = climb(ca, pool, anchors, now_secs, budget, path)? {
            return Ok(Some(anchor));
        }
        path.pop();
    }
    Ok(None)
}

/// True if `ca` issued `cert`.
fn issued(
    ca: &CertView<'_>,
    cert: &CertView<'_>,
    role: Role,
    now_secs: u64,
    budget: &mut usize,
) -> Result<bool> {
    if ca.subject_der != cert.issuer_der || check_ca(ca, role, now_secs).is_err() {
        return Ok(false);
    }
    let Some(left) = budget.checked_sub(1) else {
        return distrust();
    };
    *budget = left;
    let Some(alg) = cert.signature_alg() else {
        return Ok(false);
    };
    Ok(keys::verify(ca.spki_der, alg, cert.tbs_der, cert.signature).is_ok())
}

/// Checks that `signer` may sign CMP messages and stands under an anchor.
///
/// # Errors
/// `TEE_ERROR_SECURITY` otherwise.
pub fn check_signer(
    signer: &CertView<'_>,
    pool: &[CertView<'_>],
    anchors: &[CertView<'_>],
    now_secs: u64,
) -> Result<()> {
    check_ca(signer, Role::Signer, now_secs)?;
    if anchors.iter().any(|anchor| anchor.der == signer.der) {
        return Ok(());
    }
    if !is_serial(signer) {
        return distrust();
    }
    let mut budget = CHECKS_MAX;
    match climb(
        signer,
        pool,
        anchors,
        now_secs,
        &mut budget,
        &mut Vec::new(),
    )? {
        Some(_) => Ok(()),
        None => distrust(),
    }
}

/// DER of a name without any attribute.
const EMPTY_NAME: &[u8] = &[0x30, 0x00];
