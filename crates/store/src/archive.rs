//! The archive: certificates that ended long ago, out of the way of those that serve.
//!
//! A certificate moves in one transaction, so it is in one place or in the other. Nothing that it
//! promised changes: its request still gets the same certificate and no other, OCSP says of it what
//! it said, and nobody can say anything else of it any more. It leaves the lists, which RFC 5280 allows
//! once it was on one after its end: what is archived ended longer ago than any list lives.
//!
//! A clock may be ahead for a while, and all that lives seem to have ended long ago. So a sweep first
//! brings back what has not: it can be revoked again, and what was revoked is in lists again.
//!
//! What a certificate has in common with others is a row of its own, and bytes to be signed are not
//! kept beside the signed ones.

use tegata_authority::UnixSecs;
use tegata_wire::x509::RevocationReason;

use crate::certificate::{self, Certificate, Intent};
use crate::device::{DeviceId, LIST_MAX};
use crate::engine::{self, Row, params};
use crate::role::secs;
use crate::{Store, StoreError, Tx, revocation};

/// What a sweep did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Certificates that moved into the archive.
    pub archived: u64,
    /// Intents that ended without a certificate, forgotten: nobody ever saw one.
    pub forgotten: u64,
    /// Certificates that a clock that was ahead had moved there, brought back.
    pub returned: u64,
}

impl Swept {
    /// How many rows that is.
    #[must_use]
    pub fn rows(self) -> u64 {
        self.archived
            .saturating_add(self.forgotten)
            .saturating_add(self.returned)
    }
}

/// Moves some of what ended more than `keep_secs` ago, and before that brings back some of what did
/// not; nothing when there is nothing left.
///
/// It keeps no state: stopped anywhere, the next call goes on.
///
/// # Errors
/// The store's failure.
pub fn sweep_some(store: &Store, keep_secs: u64, now: UnixSecs) -> Result<Swept, StoreError> {
    let before = secs(UnixSecs(now.0.saturating_sub(keep_secs)));
    store.run_tx("archive", |tx| match return_some(tx, before)? {
        0 => move_some(tx, before, secs(now)),
        returned => Ok(Swept {
            returned,
            ..Swept::default()
        }),
    })
}

/// What [`sweep_some`] would do now, called until nothing is left.
///
/// # Errors
/// The store's failure.
pub fn would_sweep(store: &Store, keep_secs: u64, now: UnixSecs) -> Result<Swept, StoreError> {
    let before = secs(UnixSecs(now.0.saturating_sub(keep_secs)));
    let counted: Option<(i64, i64, i64)> = store.read("count what ended", |tx| {
        tx.query_opt(
            "SELECT count(*), count(u.serial), \
             (SELECT count(*) FROM archive WHERE not_after >= ?1) FROM certificate AS c \
             LEFT JOIN certificate AS u INDEXED BY certificate_unfinished \
             ON u.serial = c.serial AND u.der IS NULL WHERE c.not_after < ?1",
            params![before],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
        )
    })?;
    let (all, unfinished, returned) = counted.unwrap_or_default();
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok(Swept {
        archived: count(all.saturating_sub(unfinished)),
        forgotten: count(unfinished),
        returned: count(returned),
    })
}

/// Brings back certificates that have not ended before that time; what they were to replace was
/// forgotten, which is as if they never were. Returns how many.
fn return_some(tx: &Tx<'_>, before: i64) -> Result<u64, StoreError> {
    let live: Vec<Vec<u8>> = tx.query_all(
        "SELECT serial FROM archive WHERE not_after >= ?1 ORDER BY not_after, serial LIMIT ?2",
        params![before, MOVED_MAX],
        |r| r.get(0),
    )?;
    let mut returned = 0_u64;
    for serial in live {
        tx.execute(
            "INSERT INTO certificate(serial, device_id, csr_digest, profile, release, issuer, tbs, \
             not_after, intended_at, der, issued_at, confirmed_at, rejected_at, shard, status_base, \
             evidence) \
             SELECT a.serial, a.device_id, a.csr_digest, k.profile, k.release, k.issuer, ?2, \
             a.not_after, a.intended_at, a.der, a.issued_at, a.confirmed_at, a.rejected_at, \
             a.shard, nullif(k.status_base, 0), a.evidence \
             FROM archive AS a JOIN archive_kind AS k ON k.id = a.kind WHERE a.serial = ?1",
            params![&serial, &[][..] as &[u8]],
        )?;
        revocation::list_again(tx, &serial)?;
        tx.execute("DELETE FROM archive WHERE serial = ?1", params![&serial])?;
        returned = returned.saturating_add(1);
    }
    Ok(returned)
}

fn move_some(tx: &Tx<'_>, before: i64, now_secs: i64) -> Result<Swept, StoreError> {
    let ended: Vec<Vec<u8>> = tx.query_all(
        "SELECT serial FROM certificate WHERE not_after < ?1 ORDER BY not_after, serial LIMIT ?2",
        params![before, MOVED_MAX],
        |r| r.get(0),
    )?;
    let mut swept = Swept::default();
    for serial in ended {
        tx.execute(
            "INSERT INTO archive_kind(profile, release, issuer, status_base) \
             SELECT profile, release, issuer, coalesce(status_base, 0) FROM certificate \
             WHERE serial = ?1 ON CONFLICT DO NOTHING",
            params![&serial],
        )?;
        let archived = tx.execute(
            "INSERT INTO archive(serial, device_id, csr_digest, kind, not_after, intended_at, \
             issued_at, confirmed_at, rejected_at, shard, der, archived_at, evidence) \
             SELECT c.serial, c.device_id, c.csr_digest, k.id, c.not_after, c.intended_at, \
             c.issued_at, c.confirmed_at, c.rejected_at, c.shard, c.der, ?2, c.evidence \
             FROM certificate AS c JOIN archive_kind AS k ON k.profile = c.profile \
             AND k.release = c.release AND k.issuer = c.issuer \
             AND k.status_base = coalesce(c.status_base, 0) \
             WHERE c.serial = ?1 AND c.der IS NOT NULL",
            params![serial, now_secs],
        )?;
        tx.execute(
            "UPDATE revocation SET listed = 0 WHERE serial = ?1",
            params![&serial],
        )?;
        tx.execute(
            "DELETE FROM certificate WHERE serial = ?1",
            params![&serial],
        )?;
        match archived {
            0 => swept.forgotten = swept.forgotten.saturating_add(1),
            _ => swept.archived = swept.archived.saturating_add(1),
        }
    }
    Ok(swept)
}

/// The archived certificate of a serial number.
pub fn find(tx: &Tx<'_>, serial: &[u8]) -> Result<Option<Certificate>, StoreError> {
    tx.query_opt(
        &format!("{SELECT} WHERE a.serial = ?1"),
        params![serial],
        row,
    )
}

/// The archived certificate of a device's request.
pub fn find_by_request(
    tx: &Tx<'_>,
    device: DeviceId,
    csr_digest: &[u8; 32],
) -> Result<Option<Certificate>, StoreError> {
    let sql = format!("{SELECT} WHERE a.device_id = ?1 AND a.csr_digest = ?2");
    tx.query_opt(&sql, params![device.0, csr_digest], row)
}

/// Archived certificates of a device, newest first, at most `limit`.
pub fn of_device(
    tx: &Tx<'_>,
    device: DeviceId,
    limit: u32,
) -> Result<Vec<Certificate>, StoreError> {
    let sql = format!("{SELECT} WHERE a.device_id = ?1 ORDER BY a.serial DESC LIMIT ?2");
    tx.query_all(&sql, params![device.0, limit.min(LIST_MAX)], row)
}

/// Archived certificates whose serial numbers lie in a range, at most two.
pub(crate) fn in_range(
    tx: &Tx<'_>,
    from: &[u8],
    to: &[u8],
) -> Result<Vec<Certificate>, StoreError> {
    let sql = format!("{SELECT} WHERE a.serial >= ?1 AND a.serial <= ?2 LIMIT 2");
    tx.query_all(&sql, params![from, to], row)
}

/// When the last confirmed certificate of that profile that a device had ended, of those archived: at
/// its notAfter, or before if it was taken back.
///
/// # Errors
/// The store's failure.
pub fn last_end(tx: &Tx<'_>, device: DeviceId, profile: &str) -> Result<Option<i64>, StoreError> {
    let end: Option<Option<i64>> = tx.query_opt(
        "SELECT max(CASE WHEN coalesce(r.reason, ?3) = ?3 OR r.at > a.not_after \
         THEN a.not_after ELSE r.at END) \
         FROM archive AS a JOIN archive_kind AS k ON k.id = a.kind \
         LEFT JOIN revocation AS r ON r.serial = a.serial \
         WHERE a.device_id = ?1 AND k.profile = ?2 AND a.confirmed_at IS NOT NULL",
        params![device.0, profile, RevocationReason::RemoveFromCrl.code()],
        |r| r.get(0),
    )?;
    Ok(end.flatten())
}

fn row(r: &Row<'_>) -> engine::Result<Certificate> {
    Ok(Certificate {
        intent: Intent {
            serial: r.get(0)?,
            device: DeviceId(r.get(1)?),
            csr_digest: r.get(2)?,
            profile: r.get(3)?,
            release: certificate::release(r.get(4)?),
            issuer: r.get(5)?,
            // It was signed; what was signed is in the certificate.
            tbs: Vec::new(),
            not_after: r.get(6)?,
            shard: r.get::<i64>(11)?.try_into().unwrap_or(0),
            status_base: r.get(12)?,
            // Ended long ago: what is asked for in its place is asked for in nobody's.
            replaces: None,
            evidence: r.get(15)?,
        },
        intended_at: r.get(7)?,
        der: r.get(8)?,
        confirmed_at: r.get(9)?,
        rejected_at: r.get(10)?,
        standing: revocation::standing(r.get(13)?, r.get(14)?),
    })
}

const SELECT: &str = "SELECT a.serial, a.device_id, a.csr_digest, k.profile, k.release, k.issuer, \
    a.not_after, a.intended_at, a.der, a.confirmed_at, a.rejected_at, a.shard, b.url, r.at, r.reason, \
    a.evidence \
    FROM archive AS a JOIN archive_kind AS k ON k.id = a.kind \
    LEFT JOIN revocation AS r ON r.serial = a.serial \
    LEFT JOIN status_base AS b ON b.id = k.status_base";

/// Certificates that move in one transaction: some hundredths of a second.
const MOVED_MAX: i64 = 250;
