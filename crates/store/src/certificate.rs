//! Certificates: the intent to issue, the certificate, its confirmation.
//!
//! A row without `der` is an intent: the serial and the exact bytes are fixed that a key elsewhere is to sign.
//! It is finished by the same code when its request comes again, and can never become two certificates. With a
//! key in the process row and certificate come together.

use tegata_authority::ca::revocation::Standing;
use tegata_wire::x509::RevocationReason;

use crate::device::{DeviceId, LIST_MAX};
use crate::engine::{self, Row, params};
use crate::role::secs;
use crate::{StoreError, Tx, archive, revocation};

/// What is fixed of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Serial number, big-endian, time first.
    pub serial: Vec<u8>,
    /// For whom.
    pub device: DeviceId,
    /// SHA-256 of the request.
    pub csr_digest: [u8; 32],
    /// Profile name.
    pub profile: String,
    /// Digest of the release whose TA made the request; `None` if no TA did.
    pub release: Option<[u8; 32]>,
    /// Name of the issuing key.
    pub issuer: String,
    /// The bytes to sign, until they are signed.
    pub tbs: Vec<u8>,
    /// End of validity, seconds since 1970.
    pub not_after: i64,
    /// Number of its shard: its status is in the list of that shard.
    pub shard: u64,
    /// Base URL of the status service that it names, if it names ours.
    pub status_base: Option<String>,
    /// Serial number of the certificate that it is to follow, and to supersede once it is confirmed.
    pub replaces: Option<Vec<u8>>,
    /// SHA-256 of the evidence that the request came with; `None` if something else proved who asked.
    pub evidence: Option<[u8; 32]>,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// What was fixed.
    pub intent: Intent,
    /// When it was fixed, seconds since 1970.
    pub intended_at: i64,
    /// The certificate (DER); `None` while it is only an intent.
    pub der: Option<Vec<u8>>,
    /// When the device confirmed it.
    pub confirmed_at: Option<i64>,
    /// When the device refused it.
    pub rejected_at: Option<i64>,
    /// What the CA says of it.
    pub standing: Standing,
}

impl Certificate {
    /// Since when it serves nobody, seconds since 1970: its end, or when the CA took it back or put it on hold.
    #[must_use]
    pub fn end(&self) -> i64 {
        match self.standing {
            Standing::Revoked { since, .. } | Standing::Held { since } => {
                secs(since).min(self.intent.not_after)
            }
            Standing::Good | Standing::Lifted { .. } => self.intent.not_after,
        }
    }
}

/// Fixes an intent, or returns what this request already has.
pub fn intend(tx: &Tx<'_>, intent: &Intent, now_secs: i64) -> Result<Certificate, StoreError> {
    if insert(tx, intent, None, now_secs)? {
        return Ok(Certificate {
            intent: intent.clone(),
            intended_at: now_secs,
            der: None,
            confirmed_at: None,
            rejected_at: None,
            standing: Standing::default(),
        });
    }
    find_by_request(tx, intent.device, &intent.csr_digest)?.ok_or(StoreError::Unreadable {
        record: "certificate",
    })
}

/// Records a certificate in one step with its intent, which has no bytes to sign any more; `confirmed` if
/// it counts at once. `false` if the request has a row already: then nothing was changed.
pub fn issue(
    tx: &Tx<'_>,
    intent: &Intent,
    der: &[u8],
    confirmed: bool,
    now_secs: i64,
) -> Result<bool, StoreError> {
    insert(tx, intent, Some((der, confirmed)), now_secs)
}

fn insert(
    tx: &Tx<'_>,
    intent: &Intent,
    issued: Option<(&[u8], bool)>,
    now_secs: i64,
) -> Result<bool, StoreError> {
    let rows = tx.execute(
        "INSERT INTO certificate(serial, device_id, csr_digest, profile, release, issuer, tbs, \
         not_after, intended_at, shard, status_base, replaces, der, issued_at, confirmed_at, evidence) \
         VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10, (SELECT id FROM status_base WHERE url = ?11), \
         ?12,?13,?14,?15,?16) ON CONFLICT(device_id, csr_digest) DO NOTHING",
        params![
            intent.serial,
            intent.device.0,
            intent.csr_digest,
            intent.profile,
            // Empty, where there is none.
            intent.release.as_ref().map_or(&[][..], |r| r.as_slice()),
            intent.issuer,
            intent.tbs,
            intent.not_after,
            now_secs,
            revocation::signed(intent.shard),
            intent.status_base,
            intent.replaces,
            issued.map(|(der, _)| der),
            issued.map(|_| now_secs),
            issued.filter(|(_, confirmed)| *confirmed).map(|_| now_secs),
            intent.evidence
        ],
    )?;
    Ok(rows == 1)
}

/// Records the signed certificate; the first one recorded stays. Returns what stands. What was signed is in
/// it, and is not kept beside it.
pub fn record(
    tx: &Tx<'_>,
    serial: &[u8],
    der: &[u8],
    now_secs: i64,
) -> Result<Vec<u8>, StoreError> {
    tx.execute(
        "UPDATE certificate SET der = ?2, issued_at = ?3, tbs = ?4 \
         WHERE serial = ?1 AND der IS NULL",
        params![serial, der, now_secs, &[][..] as &[u8]],
    )?;
    let stands: Option<Option<Vec<u8>>> = tx.query_opt(
        "SELECT der FROM certificate WHERE serial = ?1",
        params![serial],
        |r| r.get(0),
    )?;
    let stands = match stands {
        Some(stands) => stands,
        // A request from long ago, of a certificate that ended since.
        None => archive::find(tx, serial)?.and_then(|row| row.der),
    };
    stands.ok_or(StoreError::Unreadable {
        record: "certificate",
    })
}

/// Marks a certificate as confirmed or refused by its device; the first mark stays. Returns whether
/// this was the first.
pub fn mark(tx: &Tx<'_>, serial: &[u8], accepted: bool, now_secs: i64) -> Result<bool, StoreError> {
    let sql = if accepted {
        "UPDATE certificate SET confirmed_at = ?2 WHERE serial = ?1 AND confirmed_at IS NULL \
         AND rejected_at IS NULL"
    } else {
        "UPDATE certificate SET rejected_at = ?2 WHERE serial = ?1 AND confirmed_at IS NULL \
         AND rejected_at IS NULL"
    };
    Ok(tx.execute(sql, params![serial, now_secs])? == 1)
}

/// The other certificates that were to replace the same one, with whether they are confirmed; in
/// the order they were asked for, at most 1,000.
pub fn siblings(tx: &Tx<'_>, of: &Intent) -> Result<Vec<(Vec<u8>, bool)>, StoreError> {
    tx.query_all(
        "SELECT serial, confirmed_at IS NOT NULL FROM certificate \
         WHERE device_id = ?1 AND replaces = ?2 AND serial <> ?3 ORDER BY serial LIMIT 1000",
        params![of.device.0, of.replaces, of.serial],
        |r| Ok((r.get(0)?, r.get(1)?)),
    )
}

/// What a device has in the place of a certificate: of those that were to follow each other the last one that
/// it confirmed, or one after that which is on hold. `None` if there is no such row.
///
/// The one that is named may be one that the device accepted, and the CA never heard of that: then what
/// counts is the one that it was to follow. What is archived has forgotten what it followed.
pub fn in_place_of(
    tx: &Tx<'_>,
    device: DeviceId,
    serial: &[u8],
) -> Result<Option<Certificate>, StoreError> {
    let Some(mut at) = find(tx, serial)? else {
        return Ok(None);
    };
    let counts = |row: &Certificate| {
        row.confirmed_at.is_some() || matches!(row.standing, Standing::Held { .. })
    };
    for _ in 0..FOLLOWED_MAX {
        let Some(before) = at.intent.replaces.as_ref().filter(|_| !counts(&at)) else {
            break;
        };
        let Some(before) = find(tx, before)? else {
            break;
        };
        at = before;
    }
    for _ in 0..FOLLOWED_MAX {
        let next: Option<Vec<u8>> = tx.query_opt(
            "SELECT c.serial FROM certificate AS c LEFT JOIN revocation AS r ON r.serial = c.serial \
             WHERE c.device_id = ?1 AND c.replaces = ?2 \
             AND (c.confirmed_at IS NOT NULL OR r.reason = ?3) ORDER BY c.serial DESC LIMIT 1",
            params![
                device.0,
                at.intent.serial,
                RevocationReason::CertificateHold.code()
            ],
            |r| r.get(0),
        )?;
        let next = next.map(|next| find(tx, &next)).transpose()?.flatten();
        let Some(next) = next else { break };
        at = next;
    }
    Ok(Some(at))
}

/// Whether a certificate that its device has not confirmed is to take the place of one on hold: until that is
/// lifted it does not, and nobody is told to use it.
pub fn awaits_a_hold(tx: &Tx<'_>, row: &Certificate) -> Result<bool, StoreError> {
    let (None, Some(old)) = (row.confirmed_at, &row.intent.replaces) else {
        return Ok(false);
    };
    let old = in_place_of(tx, row.intent.device, old)?;
    Ok(old.is_some_and(|old| matches!(old.standing, Standing::Held { .. })))
}

/// How many certificates that follow each other are looked at: a TA is a few behind at most, and each costs
/// a look at all of its device.
pub const FOLLOWED_MAX: usize = 16;

/// How many certificates of a profile were fixed for a device between two moments.
pub fn count(
    tx: &Tx<'_>,
    device: DeviceId,
    profile: &str,
    from_secs: i64,
    to_secs: i64,
) -> Result<u32, StoreError> {
    let n: Option<i64> = tx.query_opt(
        "SELECT count(*) FROM certificate \
         WHERE device_id = ?1 AND intended_at > ?2 AND intended_at <= ?3 AND profile = ?4",
        params![device.0, from_secs, to_secs, profile],
        |r| r.get(0),
    )?;
    Ok(u32::try_from(n.unwrap_or(0)).unwrap_or(u32::MAX))
}

/// The row of a device's request; also if it is archived, so that an old request that somebody
/// repeats never becomes a new certificate.
pub fn find_by_request(
    tx: &Tx<'_>,
    device: DeviceId,
    csr_digest: &[u8; 32],
) -> Result<Option<Certificate>, StoreError> {
    let sql = format!("{SELECT} WHERE c.device_id = ?1 AND c.csr_digest = ?2");
    match tx.query_opt(&sql, params![device.0, csr_digest], row)? {
        Some(row) => Ok(Some(row)),
        None => archive::find_by_request(tx, device, csr_digest),
    }
}

/// The row of a serial number, also if it is archived.
pub fn find(tx: &Tx<'_>, serial: &[u8]) -> Result<Option<Certificate>, StoreError> {
    let sql = format!("{SELECT} WHERE c.serial = ?1");
    match tx.query_opt(&sql, params![serial], row)? {
        Some(row) => Ok(Some(row)),
        None => archive::find(tx, serial),
    }
}

/// Certificates whose serial number begins with these hexadecimal digits, archived ones included, at
/// most two: whoever wants one sees that there are more. None for what is no beginning.
pub fn beginning_with(tx: &Tx<'_>, digits: &str) -> Result<Vec<Certificate>, StoreError> {
    let Some((from, to)) = all_beginning(digits) else {
        return Ok(Vec::new());
    };
    let sql = format!("{SELECT} WHERE c.serial >= ?1 AND c.serial <= ?2 ORDER BY c.serial LIMIT 2");
    let mut found = tx.query_all(&sql, params![from, to], row)?;
    found.extend(archive::in_range(tx, &from, &to)?);
    Ok(found)
}

/// The least bytes that begin with these hexadecimal digits, and more than the most: serial numbers have
/// at most 20 bytes, digests 32.
pub(crate) fn all_beginning(digits: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let least = if digits.len().is_multiple_of(2) {
        ""
    } else {
        "0"
    };
    let (from, to) = (format!("{digits}{least}"), format!("{digits:f<66}"));
    Some((hex::decode(from).ok()?, hex::decode(to).ok()?))
}

/// Certificates of a device, newest first, at most `limit`.
pub fn of_device(
    tx: &Tx<'_>,
    device: DeviceId,
    limit: u32,
) -> Result<Vec<Certificate>, StoreError> {
    let sql = format!(
        "{SELECT} WHERE c.device_id = ?1 AND c.der IS NOT NULL \
         ORDER BY c.intended_at DESC, c.serial DESC LIMIT ?2"
    );
    tx.query_all(&sql, params![device.0, limit.min(LIST_MAX)], row)
}

/// Rows after a serial, oldest first, at most `limit` (up to 1,000).
pub fn list(tx: &Tx<'_>, after: &[u8], limit: u32) -> Result<Vec<Certificate>, StoreError> {
    let sql = format!("{SELECT} WHERE c.serial > ?1 ORDER BY c.serial LIMIT ?2");
    tx.query_all(&sql, params![after, limit.min(LIST_MAX)], row)
}

/// Intents that no certificate followed, oldest first, at most 1,000.
pub fn unfinished(tx: &Tx<'_>) -> Result<Vec<Certificate>, StoreError> {
    tx.query_all(
        &format!("{SELECT} WHERE c.der IS NULL ORDER BY c.serial LIMIT 1000"),
        params![],
        row,
    )
}

/// What a CMP transaction needs to remember until it is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CmpTransaction {
    /// The device.
    pub device: DeviceId,
    /// Its transactionID.
    pub transaction_id: Vec<u8>,
    /// The certificate it is about.
    pub serial: Vec<u8>,
    /// The nonce we sent last; the certConf must carry it back.
    pub server_nonce: Vec<u8>,
    /// The nonce the device sent.
    pub device_nonce: Vec<u8>,
    /// Label of the means that the request was authenticated by.
    pub asker: String,
}

/// Remembers a transaction, or renews the one of that device and id, and forgets old ones.
pub fn put_transaction(tx: &Tx<'_>, t: &CmpTransaction, now_secs: i64) -> Result<(), StoreError> {
    tx.execute(
        "DELETE FROM cmp_transaction WHERE started_at < ?1",
        params![now_secs.saturating_sub(TRANSACTION_SECS)],
    )?;
    tx.execute(
        "INSERT INTO cmp_transaction(started_at, transaction_id, device_id, serial, server_nonce, \
         device_nonce, asker) VALUES (?1,?2,?3,?4,?5,?6,?7) \
         ON CONFLICT(device_id, transaction_id) DO UPDATE \
         SET started_at = excluded.started_at, serial = excluded.serial, \
         server_nonce = excluded.server_nonce, device_nonce = excluded.device_nonce, \
         asker = excluded.asker",
        params![
            now_secs,
            t.transaction_id,
            t.device.0,
            t.serial,
            t.server_nonce,
            t.device_nonce,
            t.asker
        ],
    )?;
    // Who has the device's key can wrap one request into any number of transactions.
    tx.execute(
        "DELETE FROM cmp_transaction WHERE device_id = ?1 AND transaction_id IN (\
           SELECT transaction_id FROM cmp_transaction \
           WHERE device_id = ?1 AND serial = ?2 AND transaction_id <> ?3 \
           ORDER BY started_at DESC LIMIT ?5 OFFSET ?4)",
        params![
            t.device.0,
            t.serial,
            t.transaction_id,
            TRANSACTIONS - 1,
            i64::MAX
        ],
    )?;
    Ok(())
}

/// The transaction of a device, unless its time is over.
pub fn transaction(
    tx: &Tx<'_>,
    device: DeviceId,
    transaction_id: &[u8],
    now_secs: i64,
) -> Result<Option<CmpTransaction>, StoreError> {
    tx.query_opt(
        "SELECT serial, server_nonce, device_nonce, asker FROM cmp_transaction \
         WHERE device_id = ?1 AND transaction_id = ?2 AND started_at >= ?3",
        params![
            device.0,
            transaction_id,
            now_secs.saturating_sub(TRANSACTION_SECS)
        ],
        |r| {
            Ok(CmpTransaction {
                device,
                transaction_id: transaction_id.to_vec(),
                serial: r.get(0)?,
                server_nonce: r.get(1)?,
                device_nonce: r.get(2)?,
                asker: r.get(3)?,
            })
        },
    )
}

fn row(r: &Row<'_>) -> engine::Result<Certificate> {
    Ok(Certificate {
        intent: Intent {
            serial: r.get(0)?,
            device: DeviceId(r.get(1)?),
            csr_digest: r.get(2)?,
            profile: r.get(3)?,
            release: release(r.get(4)?),
            issuer: r.get(5)?,
            tbs: r.get(6)?,
            not_after: r.get(7)?,
            shard: r.get::<i64>(12)?.try_into().unwrap_or(0),
            status_base: r.get(13)?,
            replaces: r.get(16)?,
            evidence: r.get(17)?,
        },
        intended_at: r.get(8)?,
        der: r.get(9)?,
        confirmed_at: r.get(10)?,
        rejected_at: r.get(11)?,
        standing: revocation::standing(r.get(14)?, r.get(15)?),
    })
}

/// The release in a row: empty where no TA asked.
pub(crate) fn release(bytes: Vec<u8>) -> Option<[u8; 32]> {
    bytes.try_into().ok()
}

const SELECT: &str = "SELECT c.serial, c.device_id, c.csr_digest, c.profile, c.release, c.issuer, \
    c.tbs, c.not_after, c.intended_at, c.der, c.confirmed_at, c.rejected_at, c.shard, b.url, r.at, \
    r.reason, c.replaces, c.evidence FROM certificate AS c LEFT JOIN revocation AS r ON r.serial = c.serial \
    LEFT JOIN status_base AS b ON b.id = c.status_base";

/// How long an unconfirmed transaction is remembered: a device that lost power for a day may still
/// confirm; its certificate is the same either way.
pub const TRANSACTION_SECS: i64 = 86_400;

/// Transactions of one certificate that are remembered, the newest: a device has one under way, and
/// sends it anew when an answer was lost.
const TRANSACTIONS: i64 = 16;
