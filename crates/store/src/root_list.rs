//! The root's own revocation list, for relying parties that ask for a list of every CA in a chain.
//!
//! NGINX does. It has no entries: it says that no issuing CA is revoked. It is the one thing that the
//! root key signs after the CA was made, so an operator makes it, by hand and seldom, and the process
//! that serves only hands it out.
//!
//! Trusted: as the CA.

use tegata_authority::UnixSecs;
use tegata_authority::ca::authority_cert::Issuer;
use tegata_authority::ca::status::crl::{ListDraft, list_number, sign_list};

use crate::issuer::{ROOT_CERT, ROOT_KEY};
use crate::role::{Role, RoleError, secs};
use crate::{Store, StoreError, Tx, keys};

/// A root's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootList {
    /// The root as URLs name it: its subjectKeyIdentifier, hexadecimal.
    pub root_id: String,
    /// The list (DER).
    pub der: Vec<u8>,
    /// Its thisUpdate.
    pub made: UnixSecs,
    /// Its nextUpdate.
    pub next_update: UnixSecs,
}

/// Signs a new list of the root, good for `life_secs` but no longer than the root, and stores it.
///
/// # Errors
/// `NoKey` if there is no CA, `Sealed` under a wrong sealing key, the store's failure.
pub fn renew(role: &Role, life_secs: u64, now: UnixSecs) -> Result<RootList, RoleError> {
    let (root, _) = role.store.read("root list", stored)?;
    let end = now.0.saturating_add(life_secs).min(root.not_after_secs);
    let list = ListDraft {
        scope_urls: &[],
        delta_urls: &[],
        changes: &[],
        base: None,
        number: list_number(0, now),
        this_update: now,
        next_update: UnixSecs(end),
    };
    let signer = role.open_signer(ROOT_KEY)?;
    let der = sign_list(role.provider.as_ref(), &root, signer.as_ref(), &list)?;
    let document = [&now.0.to_be_bytes()[..], &end.to_be_bytes(), &der].concat();
    role.store.run_tx("root list", |tx| {
        keys::put_document(tx, ROOT_LIST, &document, secs(now))
    })?;
    Ok(RootList {
        root_id: hex::encode(&root.key_id),
        der,
        made: now,
        next_update: UnixSecs(end),
    })
}

/// The list that was signed last, if there is one.
///
/// # Errors
/// The store's failure.
pub fn last(store: &Store) -> Result<Option<RootList>, RoleError> {
    let (root, list) = store.read("root list", stored)?;
    let Some(list) = list else {
        return Ok(None);
    };
    let made = list.split_first_chunk::<8>();
    let parts = made.and_then(|(made, rest)| Some((made, rest.split_first_chunk::<8>()?)));
    let (made, (end, der)) = parts.ok_or(StoreError::Unreadable {
        record: "root list",
    })?;
    Ok(Some(RootList {
        root_id: hex::encode(&root.key_id),
        der: der.to_vec(),
        made: UnixSecs(u64::from_be_bytes(*made)),
        next_update: UnixSecs(u64::from_be_bytes(*end)),
    }))
}

fn stored(tx: &Tx<'_>) -> Result<(Issuer, Option<Vec<u8>>), RoleError> {
    let cert = keys::document(tx, ROOT_CERT)?.ok_or(RoleError::NoKey(ROOT_CERT))?;
    Ok((Issuer::from_cert(&cert)?, keys::document(tx, ROOT_LIST)?))
}

/// Name of the document: thisUpdate and nextUpdate, 8 bytes each, and the list.
const ROOT_LIST: &str = "ca root list";
