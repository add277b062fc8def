//! Revocation: the standing of certificates and devices, and the operator's word that changes it.
//!
//! A row is kept for each certificate that anything was ever said of; each change gives its row a new
//! number, above all before. So what changed since a list is what has a number above that list's, a
//! hold that was lifted included. Rows are never removed; those of archived certificates are no longer
//! listed.

pub mod scoped;
pub mod stop;

use tegata_authority::UnixSecs;
use tegata_authority::ca::revocation::{FinalReason, RevocationDenied, Standing, Word, decide};
use tegata_authority::ca::status::crl::Change;
use tegata_wire::ids::Ueid;
use tegata_wire::x509::RevocationReason;

use crate::device::{self, DeviceId};
use crate::engine::{self, Row, params};
use crate::role::secs;
use crate::{Store, StoreError, Tx, archive};

/// What an operator's word is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// The certificate of this serial number, big-endian.
    Certificate(Vec<u8>),
    /// Every certificate of this device that has not ended, and the device itself: while it is
    /// revoked or on hold it gets no other.
    Device(Ueid),
}

/// A certificate before and after a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Serial number.
    pub serial: Vec<u8>,
    /// What the CA said of it.
    pub before: Standing,
    /// What it says now.
    pub after: Standing,
}

/// What a word did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Certificates whose standing changed.
    pub changed: Vec<Changed>,
    /// Certificates that the word was about and did not change.
    pub unchanged: Vec<Changed>,
    /// The device, where the word was about one.
    pub device: Option<(Standing, Standing)>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No such certificate.
    #[error("the CA has no certificate with this serial number")]
    NoCertificate,
    /// It ended long ago.
    #[error("the certificate has ended and is in the archive: nothing can be said of it any more")]
    Archived,
    /// No such device.
    #[error("there is no device {0}")]
    NoDevice(Ueid),
    /// The word is refused.
    #[error("{0}")]
    Denied(#[from] RevocationDenied),
}

/// Does what the operator says, all of it or nothing. It is durable when this returns.
///
/// # Errors
/// Why nothing was changed.
pub fn say(
    store: &Store,
    target: &Target,
    word: Word,
    now: UnixSecs,
) -> Result<Report, RevokeError> {
    store.run_tx("revoke", |tx| {
        let plan = plan(tx, target, word, now)?;
        for (changed, shard) in &plan.changes {
            put(tx, &changed.serial, *shard, changed.after)?;
        }
        if let Some((id, _, after)) = plan.device {
            put_device(tx, id, after)?;
        }
        Ok(plan.report())
    })
}

/// Takes a certificate back in the caller's transaction; what is revoked stays as it is.
pub(crate) fn take_back(
    tx: &Tx<'_>,
    serial: &[u8],
    reason: FinalReason,
    now: UnixSecs,
) -> Result<(), StoreError> {
    let Some(row) = known(tx, serial)? else {
        return Ok(());
    };
    match decide(row.standing, Word::Revoke(reason), now) {
        Ok(Some(after)) => put(tx, serial, row.shard, after),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// What [`say`] would do now.
///
/// # Errors
/// As [`say`].
pub fn would_do(
    store: &Store,
    target: &Target,
    word: Word,
    now: UnixSecs,
) -> Result<Report, RevokeError> {
    store.read("plan revocation", |tx| {
        Ok(plan(tx, target, word, now)?.report())
    })
}

/// What is to be written.
struct Plan {
    changes: Vec<(Changed, i64)>,
    unchanged: Vec<Changed>,
    device: Option<(DeviceId, Standing, Standing)>,
}

impl Plan {
    fn report(self) -> Report {
        Report {
            changed: self
                .changes
                .into_iter()
                .map(|(changed, _)| changed)
                .collect(),
            unchanged: self.unchanged,
            device: self.device.map(|(_, before, after)| (before, after)),
        }
    }
}

fn plan(tx: &Tx<'_>, target: &Target, word: Word, now: UnixSecs) -> Result<Plan, RevokeError> {
    let mut plan = Plan {
        changes: Vec::new(),
        unchanged: Vec::new(),
        device: None,
    };
    let rows = match target {
        Target::Certificate(serial) => {
            let row = match known(tx, serial)? {
                Some(row) => row,
                None if archive::find(tx, serial)?.is_some() => return Err(RevokeError::Archived),
                None => return Err(RevokeError::NoCertificate),
            };
            // About one certificate the answer is the decision's own.
            decide(row.standing, word, now)?;
            vec![row]
        }
        Target::Device(ueid) => {
            let device = device::find(tx, ueid)?.ok_or(RevokeError::NoDevice(*ueid))?;
            let before = device_standing(tx, device.id)?;
            let after = decide(before, word, now)?.unwrap_or(before);
            plan.device = Some((device.id, before, after));
            of_device(tx, device.id, reach(word, now))?
        }
    };
    for row in rows {
        // Among the certificates of a device a word passes over those that it cannot change.
        let after = decide(row.standing, word, now).unwrap_or(None);
        let changed = Changed {
            serial: row.serial,
            before: row.standing,
            after: after.unwrap_or(row.standing),
        };
        match after {
            Some(_) => plan.changes.push((changed, row.shard)),
            None => plan.unchanged.push(changed),
        }
    }
    Ok(plan)
}

/// A certificate as revocation sees it.
struct Known {
    serial: Vec<u8>,
    shard: i64,
    standing: Standing,
}

const KNOWN: &str = "SELECT c.serial, c.shard, r.at, r.reason FROM certificate AS c \
    LEFT JOIN revocation AS r ON r.serial = c.serial";

fn known_row(r: &Row<'_>) -> engine::Result<Known> {
    Ok(Known {
        serial: r.get(0)?,
        shard: r.get(1)?,
        standing: standing(r.get(2)?, r.get(3)?),
    })
}

fn known(tx: &Tx<'_>, serial: &[u8]) -> Result<Option<Known>, StoreError> {
    let sql = format!("{KNOWN} WHERE c.serial = ?1");
    tx.query_opt(&sql, params![serial], known_row)
}

/// The earliest end of a certificate that a word about several is about. What ended needs no revocation; a
/// hold that nobody lifted would keep its device from another certificate.
fn reach(word: Word, now: UnixSecs) -> UnixSecs {
    match word {
        Word::Unhold => UnixSecs(0),
        _ => now,
    }
}

fn of_device(tx: &Tx<'_>, id: DeviceId, from: UnixSecs) -> Result<Vec<Known>, StoreError> {
    let sql = format!("{KNOWN} WHERE c.device_id = ?1 AND c.not_after >= ?2");
    tx.query_all(&sql, params![id.0, secs(from)], known_row)
}

/// Records a standing under the next number.
fn put(tx: &Tx<'_>, serial: &[u8], shard: i64, standing: Standing) -> Result<(), StoreError> {
    let change = next_changes(tx, 1)?;
    put_at(tx, change, serial, shard, standing)
}

/// Takes the next `n` numbers of changes, and gives the first of them.
fn next_changes(tx: &Tx<'_>, n: usize) -> Result<i64, StoreError> {
    let n = i64::try_from(n).unwrap_or(i64::MAX);
    let last: Option<i64> = tx.query_opt(
        "UPDATE status_counter SET change = change + ?1 WHERE id = 1 RETURNING change",
        params![n],
        |r| r.get(0),
    )?;
    let last = last.ok_or(StoreError::Unreadable {
        record: "status counter",
    })?;
    Ok(last.saturating_sub(n).saturating_add(1))
}

/// Records a standing under a number that [`next_changes`] gave.
fn put_at(
    tx: &Tx<'_>,
    change: i64,
    serial: &[u8],
    shard: i64,
    standing: Standing,
) -> Result<(), StoreError> {
    let Some((at, reason)) = standing.to_entry() else {
        return Ok(());
    };
    tx.execute(
        "INSERT INTO revocation(serial, change, shard, at, reason) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT(serial) DO UPDATE SET change = excluded.change, at = excluded.at, \
         reason = excluded.reason",
        params![serial, change, shard, secs(at), reason.code()],
    )?;
    Ok(())
}

/// Puts what was said of a certificate that came back from the archive into lists again. It has a new
/// number, so that the next list is signed anew and the next delta has it.
pub(crate) fn list_again(tx: &Tx<'_>, serial: &[u8]) -> Result<(), StoreError> {
    let said: Option<i64> = tx.query_opt(
        "SELECT change FROM revocation WHERE serial = ?1",
        params![serial],
        |r| r.get(0),
    )?;
    if said.is_some() {
        let change = next_changes(tx, 1)?;
        tx.execute(
            "UPDATE revocation SET listed = 1, change = ?2 WHERE serial = ?1",
            params![serial, change],
        )?;
    }
    Ok(())
}

fn put_device(tx: &Tx<'_>, id: DeviceId, standing: Standing) -> Result<(), StoreError> {
    let Some((at, reason)) = standing.to_entry() else {
        return Ok(());
    };
    tx.execute(
        "INSERT INTO revoked_device(device_id, at, reason) VALUES (?1, ?2, ?3) \
         ON CONFLICT(device_id) DO UPDATE SET at = excluded.at, reason = excluded.reason",
        params![id.0, secs(at), reason.code()],
    )?;
    Ok(())
}

/// What the CA says of a device.
pub fn device_standing(tx: &Tx<'_>, id: DeviceId) -> Result<Standing, StoreError> {
    let found = tx.query_opt(
        "SELECT at, reason FROM revoked_device WHERE device_id = ?1",
        params![id.0],
        |r| Ok(standing(r.get(0)?, r.get(1)?)),
    )?;
    Ok(found.unwrap_or_default())
}

/// What the CA says of a certificate that it issued under this key; `None` if it issued none.
pub fn of_issued(tx: &Tx<'_>, serial: &[u8], issuer: &str) -> Result<Option<Standing>, StoreError> {
    let sql = format!("{KNOWN} WHERE c.serial = ?1 AND c.issuer = ?2 AND c.der IS NOT NULL");
    if let Some(row) = tx.query_opt(&sql, params![serial, issuer], known_row)? {
        return Ok(Some(row.standing));
    }
    // It ended long ago. What was said of it holds for signatures from before.
    let archived = archive::find(tx, serial)?.filter(|row| row.intent.issuer == issuer);
    Ok(archived.map(|row| row.standing))
}

/// The newest certificates, newest first: serial number, and the issuing CA's name.
pub(crate) fn newest_issued(
    tx: &Tx<'_>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, String)>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    tx.query_all(
        "SELECT serial, issuer FROM certificate WHERE der IS NOT NULL ORDER BY serial DESC LIMIT ?1",
        params![limit],
        |r| Ok((r.get(0)?, r.get(1)?)),
    )
}

/// Number of the last change in these shards, first and last; 0 if there was none.
///
/// It costs two looks into an index for each shard, however many changes there are.
pub fn last_change(tx: &Tx<'_>, (first, last): (u64, u64)) -> Result<u64, StoreError> {
    let change: Option<Option<i64>> = tx.query_opt(
        "WITH RECURSIVE each(shard) AS (\
           SELECT min(shard) FROM revocation WHERE shard >= ?1 UNION ALL \
           SELECT (SELECT min(shard) FROM revocation WHERE shard > each.shard) \
           FROM each WHERE each.shard < ?2) \
         SELECT max((SELECT max(change) FROM revocation WHERE shard = each.shard)) \
         FROM each WHERE each.shard <= ?2",
        params![signed(first), signed(last)],
        |r| r.get(0),
    )?;
    Ok(unsigned(change.flatten().unwrap_or(0)))
}

/// Number of the last change of all; 0 if there was none.
pub fn last_change_anywhere(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let last: Option<Option<i64>> =
        tx.query_opt("SELECT max(change) FROM revocation", params![], |r| {
            r.get(0)
        })?;
    Ok(unsigned(last.flatten().unwrap_or(0)))
}

/// How many certificates of these shards, first and last, are in lists, counted up to `limit`.
pub fn listed(tx: &Tx<'_>, (first, last): (u64, u64), limit: usize) -> Result<usize, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let counted: Option<i64> = tx.query_opt(
        "SELECT count(*) FROM (SELECT 1 FROM revocation INDEXED BY revocation_listed \
         WHERE shard BETWEEN ?1 AND ?2 AND listed = 1 LIMIT ?3) AS counted",
        params![signed(first), signed(last), limit],
        |r| r.get(0),
    )?;
    Ok(usize::try_from(counted.unwrap_or(0)).unwrap_or(usize::MAX))
}

/// Changes after a number in these shards, first and last, shard by shard in their order, at most
/// `limit`; without those of archived certificates.
pub fn changes(
    tx: &Tx<'_>,
    (first, last): (u64, u64),
    after: u64,
    limit: usize,
) -> Result<Vec<Change>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // What is no longer listed is not in the index either: it would be passed over again and again.
    match first {
        shard if shard == last => tx.query_all(
            "SELECT serial, change, at, reason FROM revocation INDEXED BY revocation_listed \
             WHERE shard = ?1 AND change > ?2 AND listed = 1 ORDER BY change LIMIT ?3",
            params![signed(shard), signed(after), limit],
            change_row,
        ),
        _ => tx.query_all(
            "SELECT serial, change, at, reason FROM revocation INDEXED BY revocation_listed \
             WHERE shard BETWEEN ?1 AND ?2 AND change > ?3 AND listed = 1 \
             ORDER BY shard, change LIMIT ?4",
            params![signed(first), signed(last), signed(after), limit],
            change_row,
        ),
    }
}

fn change_row(r: &Row<'_>) -> engine::Result<Change> {
    Ok(Change {
        serial: r.get(0)?,
        number: unsigned(r.get(1)?),
        standing: standing(r.get(2)?, r.get(3)?),
    })
}

/// The shard of the next certificate: the one that this lane fills while it has room, else a new one.
///
/// Every process of a CA deals certificates. Each fills the shards of its lanes, so that it seldom meets
/// another; a lane stays where it is when its process ends, and whoever takes it next goes on. The size
/// may change at any time; no shard ever gets more than the size that was set then.
pub fn next_shard(tx: &Tx<'_>, size: u32) -> Result<u64, StoreError> {
    let shard: Option<i64> = tx.query_opt(
        "UPDATE shard_lane SET in_shard = in_shard + 1 WHERE lane = ?1 AND in_shard < ?2 \
         RETURNING shard",
        params![tx.lane(), size.max(1)],
        |r| r.get(0),
    )?;
    if let Some(shard) = shard {
        return Ok(unsigned(shard));
    }
    let shard = new_shard(tx)?;
    fill_lane(tx, shard, 1)?;
    Ok(unsigned(shard))
}

/// Begins a new shard for a new issuer, and gives its number: no certificate of another is in it, nor
/// in one after it.
pub(crate) fn begin_shard(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let shard = new_shard(tx)?;
    // Whoever deals in another lane meanwhile read which issuer is the newest: one of the two
    // transactions does not stand.
    tx.execute("DELETE FROM shard_lane", params![])?;
    fill_lane(tx, shard, 0)?;
    Ok(unsigned(shard))
}

fn new_shard(tx: &Tx<'_>) -> Result<i64, StoreError> {
    let shard = tx.query_opt(
        "UPDATE status_counter SET shard = shard + 1 WHERE id = 1 RETURNING shard",
        params![],
        |r| r.get(0),
    )?;
    shard.ok_or(StoreError::Unreadable {
        record: "status counter",
    })
}

fn fill_lane(tx: &Tx<'_>, shard: i64, in_shard: i64) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO shard_lane(lane, shard, in_shard) VALUES (?1, ?2, ?3) \
         ON CONFLICT(lane) DO UPDATE SET shard = excluded.shard, in_shard = excluded.in_shard",
        params![tx.lane(), shard, in_shard],
    )
    .map(drop)
}

/// The last shard that has certificates.
pub fn last_shard(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let shard = tx.query_opt(
        "SELECT shard FROM status_counter WHERE id = 1",
        params![],
        |r| r.get(0),
    )?;
    Ok(unsigned(shard.unwrap_or(0)))
}

/// Remembers a base URL that certificates name; again changes nothing.
pub fn put_base(tx: &Tx<'_>, url: &str) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO status_base(url) SELECT ?1 WHERE NOT EXISTS \
         (SELECT 1 FROM status_base WHERE url = ?1)",
        params![url],
    )?;
    Ok(())
}

/// The base URLs that certificates name, oldest first, at most 16.
pub fn bases(tx: &Tx<'_>) -> Result<Vec<String>, StoreError> {
    tx.query_all(
        "SELECT url FROM status_base ORDER BY id LIMIT 16",
        params![],
        |r| r.get(0),
    )
}

/// The standing in a row; the columns are null where nothing was ever said.
///
/// A reason that this program does not know is one for good: it fails safe.
pub(crate) fn standing(at: Option<i64>, reason: Option<u8>) -> Standing {
    match (at, reason) {
        (Some(at), Some(reason)) => {
            let reason = RevocationReason::from_code(reason);
            let reason = reason.unwrap_or(RevocationReason::Unspecified);
            Standing::from_entry(UnixSecs(unsigned(at)), reason)
        }
        _ => Standing::Good,
    }
}

/// A number as the store keeps it.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
