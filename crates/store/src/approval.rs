//! Requests that await an operator: kept as they came, decided once, answered when the client polls.

use tegata_authority::UnixSecs;
use tegata_wire::ids::Ueid;

use crate::certificate::all_beginning;
use crate::device::{self, DeviceId, LIST_MAX};
use crate::engine::{self, Row, params};
use crate::role::secs;
use crate::{StoreError, Tx};

/// A request that awaits an operator, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Whose.
    pub device: DeviceId,
    /// SHA-256 of the request, as in `certificate`.
    pub digest: [u8; 32],
    /// The profile asked for.
    pub profile: String,
    /// transactionID of the client.
    pub transaction_id: Vec<u8>,
    /// Label of the means that the request was authenticated by.
    pub asker: String,
    /// The body of the request (DER, with its tag): it is decided anew when it is approved.
    pub body: Vec<u8>,
    /// When it came, seconds since 1970.
    pub asked_at: i64,
    /// What the operator said; `None` while it waits.
    pub approved: Option<bool>,
}

impl Approval {
    /// What operators call it: the beginning of the digest.
    #[must_use]
    pub fn id(&self) -> String {
        hex::encode(self.digest.get(..ID_DIGITS / 2).unwrap_or_default())
    }
}

/// Keeps a request that waits. The same again has the client's new transaction.
///
/// Returns `false` if too many of the device wait already. What was decided does not count: an
/// operator had a look at each of them.
pub(crate) fn wait(tx: &Tx<'_>, new: &Approval) -> Result<bool, StoreError> {
    tx.execute(
        "DELETE FROM approval WHERE asked_at < ?1",
        params![new.asked_at.saturating_sub(KEPT_SECS)],
    )?;
    let others: Option<u32> = tx.query_opt(
        "SELECT count(*) FROM approval WHERE device_id = ?1 AND digest <> ?2 \
         AND approved IS NULL",
        params![new.device.0, new.digest],
        |r| r.get(0),
    )?;
    if others.unwrap_or(0) >= WAITING_MAX {
        return Ok(false);
    }
    tx.execute(
        "INSERT INTO approval(device_id, digest, profile, transaction_id, asker, body, asked_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(device_id, digest) DO UPDATE SET \
         transaction_id = excluded.transaction_id, asker = excluded.asker",
        params![
            new.device.0,
            new.digest,
            new.profile,
            new.transaction_id,
            new.asker,
            new.body,
            new.asked_at
        ],
    )?;
    Ok(true)
}

/// What is known of a request.
pub(crate) fn find(
    tx: &Tx<'_>,
    device: DeviceId,
    digest: &[u8; 32],
) -> Result<Option<Approval>, StoreError> {
    let sql = format!("{SELECT} WHERE device_id = ?1 AND digest = ?2");
    tx.query_opt(&sql, params![device.0, digest], row)
}

/// The request of a client's transaction.
pub(crate) fn of_transaction(
    tx: &Tx<'_>,
    device: DeviceId,
    transaction_id: &[u8],
) -> Result<Option<Approval>, StoreError> {
    let sql = format!("{SELECT} WHERE device_id = ?1 AND transaction_id = ?2");
    tx.query_opt(&sql, params![device.0, transaction_id], row)
}

/// Requests that wait, oldest first, at most 1,000.
pub fn waiting(tx: &Tx<'_>) -> Result<Vec<Approval>, StoreError> {
    let sql = format!("{SELECT} WHERE approved IS NULL ORDER BY asked_at, digest LIMIT ?1");
    tx.query_all(&sql, params![LIST_MAX], row)
}

/// Says an operator's word on the one request whose digest begins with these hexadecimal digits, of that
/// device if one is named: two may ask the same, for what a device asks is no secret. Returns it as it stands
/// then: the first word stays, and the same again changes nothing. `None` if there is none, or several.
pub fn say(
    tx: &Tx<'_>,
    digits: &str,
    ueid: Option<&Ueid>,
    approved: bool,
    now: UnixSecs,
) -> Result<Option<Approval>, StoreError> {
    let Some((from, to)) = all_beginning(digits) else {
        return Ok(None);
    };
    let begin = format!("{SELECT} WHERE digest >= ?1 AND digest <= ?2");
    let mut rows = match ueid {
        None => tx.query_all(&format!("{begin} LIMIT 2"), params![from, to], row)?,
        Some(ueid) => {
            let Some(device) = device::find(tx, ueid)? else {
                return Ok(None);
            };
            let sql = format!("{begin} AND device_id = ?3 LIMIT 2");
            tx.query_all(&sql, params![from, to, device.id.0], row)?
        }
    };
    let Some(one) = rows.pop().filter(|_| rows.is_empty()) else {
        return Ok(None);
    };
    decide(tx, &one, approved, now)?;
    find(tx, one.device, &one.digest)
}

/// Decides; the first word stays. Returns whether it was the first.
pub fn decide(
    tx: &Tx<'_>,
    of: &Approval,
    approved: bool,
    now: UnixSecs,
) -> Result<bool, StoreError> {
    let decided = tx.execute(
        "UPDATE approval SET approved = ?3, decided_at = ?4 \
         WHERE device_id = ?1 AND digest = ?2 AND approved IS NULL",
        params![of.device.0, of.digest, approved, secs(now)],
    )?;
    Ok(decided == 1)
}

fn row(r: &Row<'_>) -> engine::Result<Approval> {
    Ok(Approval {
        device: DeviceId(r.get(0)?),
        digest: r.get(1)?,
        profile: r.get(2)?,
        transaction_id: r.get(3)?,
        asker: r.get(4)?,
        body: r.get(5)?,
        asked_at: r.get(6)?,
        approved: r.get(7)?,
    })
}

const SELECT: &str = "SELECT device_id, digest, profile, transaction_id, asker, body, asked_at, \
    approved FROM approval";
/// Length of [`Approval::id`] in hexadecimal digits: long enough that nobody makes another request
/// that begins alike.
pub const ID_DIGITS: usize = 12;
/// Most requests of a device that wait, so that who has a secret cannot fill the store.
pub const WAITING_MAX: u32 = 8;
/// How long a request is kept: 30 days.
const KEPT_SECS: i64 = 30 * 86_400;
