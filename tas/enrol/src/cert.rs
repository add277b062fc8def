//! Step 14: is this certificate the one that was asked for?
//!
//! It must hold the TA's own public key, the device's own names, exactly the procedure's usages,
//! no CA rights and a lifetime within the procedure's, judged by the time the CA signed.

use alloc::vec::Vec;

use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::{Error, Result};
use tegata_wire::enrolment::{CertificateOrder, Identity};
use tegata_wire::x509::{CertView, encode_san, oid};

use crate::chain::{self, critical_known, is_serial};

/// How far notBefore may lie after the CA's own message time, in seconds.
const SKEW_SECS: u64 = 300;

fn wrong<T>(reason: &str) -> Result<T> {
    tegata_ta_sdk::system::log(reason);
    Err(Error(TEE_ERROR_SECURITY))
}

/// Checks what a certificate says; whose it is, [`issuers`] does.
///
/// # Errors
/// `TEE_ERROR_SECURITY` if anything in it is not as ordered.
pub fn check(
    cert: &CertView<'_>,
    identity: &Identity,
    order: &CertificateOrder,
    own_spki_der: &[u8],
    now_secs: u64,
) -> Result<()> {
    let malformed = |_| Error(TEE_ERROR_BAD_FORMAT);
    let unusable = |_| Error(TEE_ERROR_BAD_STATE);
    if cert.version != 3 || !critical_known(cert) || !is_serial(cert) {
        return wrong("certificate refused: version, serial number or critical extension");
    }
    if cert.spki_der != own_spki_der {
        return wrong("certificate refused: not our key");
    }
    let subject = order.subject(identity).map_err(unusable)?;
    if cert.subject_der != subject.as_der() {
        return wrong("certificate refused: not our subject");
    }
    // The same names in the same order have one DER.
    let names = order.san(identity).map_err(unusable)?;
    let found = cert
        .extension(&oid::SUBJECT_ALT_NAME)
        .map(|extension| extension.value);
    let expected = match names.as_slice() {
        [] => None,
        names => Some(encode_san(names).map_err(|_| Error(TEE_ERROR_BAD_STATE))?),
    };
    if found != expected.as_deref() {
        return wrong("certificate refused: not our names");
    }
    if cert
        .basic_constraints()
        .map_err(malformed)?
        .is_some_and(|found| found.ca)
    {
        return wrong("certificate refused: it is a CA's");
    }
    if cert.key_usage().map_err(malformed)? != Some(order.key_usage) {
        return wrong("certificate refused: keyUsage");
    }
    let purposes = cert.ext_key_usage().map_err(malformed)?;
    let ordered = &order.ext_key_usage;
    if purposes.len() != ordered.len() || !ordered.iter().all(|oid| purposes.contains(oid)) {
        return wrong("certificate refused: extKeyUsage");
    }
    let begun = cert.not_before_secs <= now_secs.saturating_add(SKEW_SECS);
    if !begun || cert.not_after_secs <= now_secs {
        return wrong("certificate refused: not valid now");
    }
    if let Some(longest) = order.validity_secs {
        let lasts = cert.not_after_secs.saturating_sub(cert.not_before_secs);
        if lasts > longest.saturating_add(SKEW_SECS) {
            return wrong("certificate refused: lasts too long");
        }
    }
    Ok(())
}

/// The issuers of a certificate from the nearest on, without the root.
///
/// # Errors
/// `TEE_ERROR_SECURITY` if they do not lead to a trust anchor.
pub fn issuers<'a>(
    cert: &CertView<'_>,
    pool: &[CertView<'a>],
    anchors: &[CertView<'_>],
    now_secs: u64,
) -> Result<Vec<CertView<'a>>> {
    chain::to_anchors(cert, pool, anchors, now_secs)
        .or_else(|_| wrong("certificate refused: not under a trust anchor"))
}
