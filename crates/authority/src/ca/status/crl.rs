//! Certificate revocation lists: complete and delta lists of one scope.
//!
//! Spec: RFC 5280 section 5.

use tegata_crypto::{Provider, Signer};
use tegata_wire::x509::{CrlBuilder, CrlEntry, CrlKind, SerialNumber, assemble_crl};

use super::StatusError;
use crate::UnixSecs;
use crate::ca::authority_cert::Issuer;
use crate::ca::revocation::Standing;
use crate::ca::signature_alg;

/// A certificate whose standing changed, and the number of that change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Serial number.
    pub serial: Vec<u8>,
    /// Number of the change: each is above all before.
    pub number: u64,
    /// The standing after it.
    pub standing: Standing,
}

/// The number of a list that has every change up to `change` and was made then.
///
/// It grows with every change and every second, and no counter has to be kept for it: the changes
/// are in the store, and a list of the same changes and second is the same list.
#[must_use]
pub fn list_number(change: u64, made: UnixSecs) -> u128 {
    const SECS_BITS: u32 = 40;
    let secs = made.0 & ((1 << SECS_BITS) - 1);
    (u128::from(change) << SECS_BITS) | u128::from(secs)
}

/// What a list is of, and when.
#[derive(Debug, Clone, Copy)]
pub struct ListDraft<'a> {
    /// Where lists of this scope are found; empty for all certificates of the issuer.
    pub scope_urls: &'a [String],
    /// Where its delta lists are found.
    pub delta_urls: &'a [String],
    /// All that ever changed in this scope, or for a delta all since its base.
    pub changes: &'a [Change],
    /// Number of the complete list that a delta is to be read with.
    pub base: Option<u128>,
    /// Number of this list.
    pub number: u128,
    /// The moment it is made.
    pub this_update: UnixSecs,
    /// When the next one will be there at the latest.
    pub next_update: UnixSecs,
}

/// Signs a list of what is revoked, or, with a base, of what changed since.
///
/// # Errors
/// Too many entries, a URL that is not ASCII, a failing key.
pub fn sign_list(
    provider: &dyn Provider,
    issuer: &Issuer,
    signer: &dyn Signer,
    draft: &ListDraft<'_>,
) -> Result<Vec<u8>, StatusError> {
    let mut entries = Vec::new();
    for change in draft.changes {
        // A complete list tells of what is revoked, a delta also of what no longer is.
        let told = draft.base.is_some() || !change.standing.is_good();
        if let (true, Some((at, reason))) = (told, change.standing.to_entry()) {
            entries.push(CrlEntry {
                serial: SerialNumber::from_bytes(&change.serial)?,
                at_secs: at.0,
                reason,
            });
        }
    }
    let alg = signature_alg(issuer.public_key.alg())?;
    let tbs = CrlBuilder {
        signature_alg: alg,
        issuer: &issuer.name,
        issuer_key_id: &issuer.key_id,
        this_update_secs: draft.this_update.0,
        next_update_secs: draft.next_update.0,
        number: draft.number,
        scope_urls: draft.scope_urls,
        kind: match draft.base {
            None => CrlKind::Complete {
                freshest_urls: draft.delta_urls,
            },
            Some(base) => CrlKind::Delta { base },
        },
        entries: &entries,
    }
    .to_tbs()?;
    let raw = signer.sign(&tbs)?;
    provider.verify(&issuer.public_key, &tbs, &raw)?;
    Ok(assemble_crl(&tbs, alg, &raw)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_with_changes_and_with_time() {
        let n = |change, secs| list_number(change, UnixSecs(secs));
        assert!(n(1, 100) < n(1, 101));
        assert!(n(1, u64::from(u32::MAX)) < n(2, 0));
        assert!(n(u64::MAX, 0) < u128::MAX);
    }
}
