//! A root's own revocation list, for relying parties that ask for a list of every CA in a chain.
//!
//! NGINX does. It names what the root signed and is not to be trusted any more: issuing CAs whose keys leaked,
//! and links to roots that led there. But for rollovers it is the one thing that a root key signs after the CA
//! was made, so an operator makes it, by hand and seldom, and the process that serves only hands it out.
//!
//! Trusted: as the CA.

use tegata_authority::UnixSecs;
use tegata_authority::ca::CaCertError;
use tegata_authority::ca::authority_cert::Issuer;
use tegata_authority::ca::revocation::Standing;
use tegata_authority::ca::status::crl::{Change, ListDraft, list_number, sign_list};
use tegata_crypto::Signer;
use tegata_wire::x509::{CertView, RevocationReason};

use crate::engine::params;
use crate::generation::{self, IssuingRow, ROOT_KEY, Root};
use crate::role::{Role, RoleError};
use crate::{Store, StoreError, Tx};

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

/// A certificate that a root takes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its subject.
    pub name: String,
    /// Its serial number, big-endian.
    pub serial: Vec<u8>,
    /// Since when.
    pub at: UnixSecs,
}

/// A list that was signed, and what it names. The reason is keyCompromise for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// The list.
    pub list: RootList,
    /// Its entries.
    pub revoked: Vec<Revoked>,
}

/// Signs a new list of each root that has not ended, good for `life_secs` but no longer than the root,
/// and stores them; the newest root's first.
///
/// # Errors
/// `NoKey` if there is no CA, `Sealed` under a wrong sealing key, the store's failure.
pub fn renew(role: &Role, life_secs: u64, now: UnixSecs) -> Result<Vec<Renewed>, RoleError> {
    let roots = role.store.read("root list", generation::roots)?;
    if roots.is_empty() {
        return Err(RoleError::NoKey(ROOT_KEY));
    }
    let live = roots.iter().rev();
    let live = live.filter(|root| now.0 <= root.ca.not_after_secs);
    let signers = live.map(|root| Ok((root, generation::root_signer(role, root)?)));
    let signers = signers.collect::<Result<Vec<_>, RoleError>>()?;
    // Signed where it is stored: two commands at once must not put the older state over the newer.
    role.store.run_tx("root list", |tx| {
        let (roots, issuing) = (generation::roots(tx)?, generation::issuing(tx)?);
        let renewed = signers.iter().map(|(root, signer)| {
            // Of two at once the later one has the later number; a clock that was ahead does not last.
            let before = stored(tx, root)?.map(|before| before.made);
            let before = before.filter(|before| before.0 <= now.0.saturating_add(AT_ONCE_SECS));
            let made = before.map_or(now, |before| before.max(now));
            let revoked = revoked(root, &roots, &issuing)?;
            let list = sign(role, root, signer.as_ref(), &revoked, life_secs, made)?;
            let (made, end) = (list.made.0, list.next_update.0);
            let row = [&made.to_be_bytes()[..], &end.to_be_bytes(), &list.der].concat();
            tx.execute(
                "UPDATE ca_root SET list = ?2 WHERE number = ?1",
                params![root.number, row],
            )?;
            Ok(Renewed { list, revoked })
        });
        renewed.collect()
    })
}

/// What a root signed and is not to be trusted any more: issuing CAs, and links whose subject is a root
/// that is not.
fn revoked(root: &Root, roots: &[Root], issuing: &[IssuingRow]) -> Result<Vec<Revoked>, RoleError> {
    let numbered = |number| roots.iter().find(|other| other.number == number);
    let mut found: Vec<(&[u8], UnixSecs)> = issuing
        .iter()
        .filter(|one| one.root == root.number)
        .filter_map(|one| Some((one.certificate.as_slice(), one.distrusted?)))
        .collect();
    if let Some(next) = numbered(root.number.saturating_add(1))
        && let (Some(link), Some(at)) = (&next.links.new_with_old, next.distrusted)
    {
        found.push((link, at));
    }
    if let Some(before) = numbered(root.number.saturating_sub(1))
        && let (Some(link), Some(at)) = (&root.links.old_with_new, before.distrusted)
    {
        found.push((link, at));
    }
    let entry = |(der, at): (&[u8], UnixSecs)| {
        let serial = CertView::from_der(der).map_err(CaCertError::from)?.serial;
        Ok(Revoked {
            name: Issuer::from_cert(der)?.name.to_display(),
            serial: serial.to_vec(),
            at,
        })
    };
    found.into_iter().map(entry).collect()
}

fn sign(
    role: &Role,
    root: &Root,
    signer: &dyn Signer,
    revoked: &[Revoked],
    life_secs: u64,
    now: UnixSecs,
) -> Result<RootList, RoleError> {
    let end = now.0.saturating_add(life_secs).min(root.ca.not_after_secs);
    // Entries are never taken away, so how many there are numbers the changes.
    let changes: Vec<Change> = (1..)
        .zip(revoked)
        .map(|(number, one)| Change {
            serial: one.serial.clone(),
            number,
            standing: Standing::from_entry(one.at, RevocationReason::KeyCompromise),
        })
        .collect();
    let last = changes.last().map_or(0, |change| change.number);
    let list = ListDraft {
        scope_urls: &[],
        delta_urls: &[],
        changes: &changes,
        base: None,
        number: list_number(last, now),
        this_update: now,
        next_update: UnixSecs(end),
    };
    Ok(RootList {
        root_id: root.id.clone(),
        der: sign_list(role.provider.as_ref(), &root.ca, signer, &list)?,
        made: now,
        next_update: UnixSecs(end),
    })
}

/// The list of a root that was signed last, if there is one.
///
/// # Errors
/// The store's failure.
pub fn last(store: &Store, root_id: &str) -> Result<Option<RootList>, RoleError> {
    store.read("root list", |tx| {
        let roots = generation::roots(tx)?;
        match roots.iter().find(|root| root.id == root_id) {
            Some(root) => stored(tx, root),
            None => Ok(None),
        }
    })
}

fn stored(tx: &Tx<'_>, root: &Root) -> Result<Option<RootList>, RoleError> {
    let list: Option<Option<Vec<u8>>> = tx.query_opt(
        "SELECT list FROM ca_root WHERE number = ?1",
        params![root.number],
        |r| r.get(0),
    )?;
    let Some(list) = list.flatten() else {
        return Ok(None);
    };
    let made = list.split_first_chunk::<8>();
    let parts = made.and_then(|(made, rest)| Some((made, rest.split_first_chunk::<8>()?)));
    let (made, (end, der)) = parts.ok_or(StoreError::Unreadable {
        record: "root list",
    })?;
    Ok(Some(RootList {
        root_id: root.id.clone(),
        der: der.to_vec(),
        made: UnixSecs(u64::from_be_bytes(*made)),
        next_update: UnixSecs(u64::from_be_bytes(*end)),
    }))
}

/// How far apart the clocks of two operators may be.
const AT_ONCE_SECS: u64 = 60;
