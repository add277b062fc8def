//! TEEP at the TAM: used challenges, sent updates and their outcome, what devices have installed,
//! and the CA's cached deliveries.

use tegata_wire::ids::{ReleaseDigest, TaUuid};

use crate::device::DeviceId;
use crate::engine::{self, Row, params};
use crate::release::{to_i64, to_u64};
use crate::{StoreError, Tx, keys};

/// What came of using a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It was not used before.
    Fresh,
    /// It was used before.
    Again,
    /// The clock went back, further than marks are kept apart by: a forgotten mark could be of a
    /// challenge that is valid again. A new epoch began, challenges of the old one are void.
    OldEpoch,
}

/// The epoch of challenges; only challenges of this one may be used.
pub fn challenge_epoch(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let Some(body) = keys::document(tx, EPOCH)? else {
        return Ok(0);
    };
    let bytes = <[u8; 8]>::try_from(body.as_slice());
    bytes
        .map(u64::from_be_bytes)
        .map_err(|_| StoreError::Unreadable { record: "epoch" })
}

/// Marks a challenge of `epoch` as used, and forgets marks of challenges that expired.
///
/// Marks are forgotten by the clock, and a clock can be wrong for a while. When it is seen to have
/// gone back, a new epoch begins: that costs each device one more question, and nothing else.
pub fn use_challenge(
    tx: &Tx<'_>,
    challenge: &[u8],
    epoch: u64,
    device: DeviceId,
    now_secs: i64,
    valid_secs: i64,
) -> Result<Use, StoreError> {
    if challenge_epoch(tx)? != epoch {
        return Ok(Use::OldEpoch);
    }
    // Challenges begin with their time: the last one is among the last that were used.
    let newest: Option<i64> = tx.query_opt(
        "SELECT used_at FROM teep_challenge ORDER BY challenge DESC LIMIT 1",
        params![],
        |r| r.get(0),
    )?;
    if newest.is_some_and(|newest| newest > now_secs.saturating_add(valid_secs)) {
        tx.execute("DELETE FROM teep_challenge", params![])?;
        let next = epoch.saturating_add(1).to_be_bytes();
        keys::put_document(tx, EPOCH, &next, now_secs)?;
        return Ok(Use::OldEpoch);
    }
    // Four times as long as they are valid: a clock that jumped further than that, forgot a mark
    // and went back, is further back than `valid_secs` from the mark it made then.
    let keep_secs = valid_secs.saturating_mul(4);
    // By the time they begin with, which is before their use: the others are not even looked at.
    let kept_from = now_secs.saturating_sub(keep_secs);
    tx.execute(
        "DELETE FROM teep_challenge WHERE challenge < ?1 AND used_at < ?2",
        params![time_prefix(kept_from), kept_from],
    )?;
    let n = tx.execute(
        "INSERT INTO teep_challenge(challenge, device_id, used_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT(challenge) DO NOTHING",
        params![challenge, device.0, now_secs],
    )?;
    Ok(if n == 1 { Use::Fresh } else { Use::Again })
}

/// Name of the document that holds the epoch, 8 bytes.
const EPOCH: &str = "tam challenge epoch";

/// An Update that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentUpdate {
    /// Token in it; the answer carries it back. Time first, then random.
    pub token: Vec<u8>,
    /// To whom.
    pub device: DeviceId,
    /// About which TA.
    pub ta: TaUuid,
    /// The release installed by it; `None` for a removal.
    pub release: Option<(ReleaseDigest, u64)>,
    /// When, seconds since 1970.
    pub sent_at: i64,
    /// `success`, `error`, or nothing yet.
    pub outcome: Option<String>,
    /// What the answer said, for people.
    pub detail: Option<String>,
    /// SUIT reports in the answer, as they came.
    pub reports: Option<Vec<u8>>,
}

/// Records that an Update is about to be sent.
pub fn insert_update(tx: &Tx<'_>, u: &SentUpdate) -> Result<(), StoreError> {
    let (release, sequence) = match &u.release {
        Some((digest, sequence)) => (Some(digest.0), Some(to_i64(*sequence)?)),
        None => (None, None),
    };
    tx.execute(
        "INSERT INTO teep_update(token, device_id, ta, release, sequence, sent_at) \
         VALUES (?1,?2,?3,?4,?5,?6)",
        params![u.token, u.device.0, u.ta.0, release, sequence, u.sent_at],
    )
    .map(drop)
}

/// The Update of that token.
pub fn find_update(tx: &Tx<'_>, token: &[u8]) -> Result<Option<SentUpdate>, StoreError> {
    let sql = format!("{SELECT} WHERE token = ?1");
    tx.query_opt(&sql, params![token], raw)?
        .map(checked)
        .transpose()
}

/// The last Updates of a device, newest first, at most 100.
pub fn updates_of(tx: &Tx<'_>, device: DeviceId) -> Result<Vec<SentUpdate>, StoreError> {
    let sql = format!("{SELECT} WHERE device_id = ?1 ORDER BY sent_at DESC, token DESC LIMIT 100");
    tx.query_all(&sql, params![device.0], raw)?
        .into_iter()
        .map(checked)
        .collect()
}

/// Records the outcome of an Update; the first one stays. `false` if there was one already.
pub fn end_update(
    tx: &Tx<'_>,
    token: &[u8],
    outcome: &str,
    detail: Option<&str>,
    reports: Option<&[u8]>,
    now_secs: i64,
) -> Result<bool, StoreError> {
    let n = tx.execute(
        "UPDATE teep_update SET outcome = ?2, detail = ?3, reports = ?4, ended_at = ?5 \
         WHERE token = ?1 AND outcome IS NULL",
        params![token, outcome, detail, reports, now_secs],
    )?;
    Ok(n == 1)
}

/// Records what a device has installed of a TA; `None` for nothing.
pub fn set_installed(
    tx: &Tx<'_>,
    device: DeviceId,
    ta: &TaUuid,
    release: Option<&ReleaseDigest>,
    sequence: Option<u64>,
    now_secs: i64,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO installed(device_id, ta, release, sequence, reported_at) \
         VALUES (?1,?2,?3,?4,?5) ON CONFLICT(device_id, ta) DO UPDATE SET \
         release = excluded.release, sequence = excluded.sequence, \
         reported_at = excluded.reported_at",
        params![
            device.0,
            ta.0,
            release.map(|r| r.0),
            sequence.map(to_i64).transpose()?,
            now_secs
        ],
    )
    .map(drop)
}

/// A TA on a device, and the release of it with its sequence number, if there is one.
pub type InstalledTa = (TaUuid, Option<ReleaseDigest>, Option<u64>);

/// What a device has installed, by TA.
pub fn installed(tx: &Tx<'_>, device: DeviceId) -> Result<Vec<InstalledTa>, StoreError> {
    type Row = ([u8; 16], Option<[u8; 32]>, Option<i64>);
    let rows: Vec<Row> = tx.query_all(
        "SELECT ta, release, sequence FROM installed WHERE device_id = ?1 LIMIT 256",
        params![device.0],
        |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
    )?;
    rows.into_iter()
        .map(|(ta, release, seq)| {
            Ok((
                TaUuid(ta),
                release.map(ReleaseDigest),
                seq.map(to_u64).transpose()?,
            ))
        })
        .collect()
}

/// Keeps the CA's delivery for a device; the first one stays. Returns what stands.
pub fn keep_delivery(
    tx: &Tx<'_>,
    device: DeviceId,
    release: &ReleaseDigest,
    body: &[u8],
    now_secs: i64,
) -> Result<Vec<u8>, StoreError> {
    tx.execute(
        "INSERT INTO delivery(device_id, release, body, made_at) VALUES (?1,?2,?3,?4) \
         ON CONFLICT(device_id, release) DO NOTHING",
        params![device.0, release.0, body, now_secs],
    )?;
    delivery(tx, device, release)?.ok_or(StoreError::Unreadable { record: "delivery" })
}

/// The kept delivery of a device.
pub fn delivery(
    tx: &Tx<'_>,
    device: DeviceId,
    release: &ReleaseDigest,
) -> Result<Option<Vec<u8>>, StoreError> {
    tx.query_opt(
        "SELECT body FROM delivery WHERE device_id = ?1 AND release = ?2",
        params![device.0, release.0],
        |r| r.get(0),
    )
}

/// Forgets Updates and deliveries from before a moment, some of each; how many there were.
///
/// A device that answers an Update that was forgotten is told that there is none, and what it has
/// installed is in its next evidence. A delivery that is wanted again is asked for again.
pub fn forget_some(tx: &Tx<'_>, before_secs: i64) -> Result<usize, StoreError> {
    let updates = tx.execute(
        "DELETE FROM teep_update WHERE token IN \
         (SELECT token FROM teep_update WHERE token < ?1 ORDER BY token LIMIT ?2)",
        params![time_prefix(before_secs), FORGOTTEN_MAX],
    )?;
    let deliveries = tx.execute(
        "DELETE FROM delivery WHERE (device_id, release) IN \
         (SELECT device_id, release FROM delivery WHERE made_at < ?1 ORDER BY made_at LIMIT ?2)",
        params![before_secs, FORGOTTEN_MAX],
    )?;
    Ok(updates.saturating_add(deliveries))
}

/// What challenges and tokens of that moment begin with: six bytes of milliseconds.
fn time_prefix(at_secs: i64) -> [u8; 6] {
    let ms = u64::try_from(at_secs).unwrap_or(0).saturating_mul(1_000);
    let [_, _, time @ ..] = ms.to_be_bytes();
    time
}

/// Rows of each kind that are forgotten in one transaction.
const FORGOTTEN_MAX: i64 = 500;

type Raw = (
    Vec<u8>,
    i64,
    [u8; 16],
    Option<[u8; 32]>,
    Option<i64>,
    i64,
    Option<String>,
    Option<String>,
    Option<Vec<u8>>,
);

fn raw(r: &Row<'_>) -> engine::Result<Raw> {
    Ok((
        r.get(0)?,
        r.get(1)?,
        r.get(2)?,
        r.get(3)?,
        r.get(4)?,
        r.get(5)?,
        r.get(6)?,
        r.get(7)?,
        r.get(8)?,
    ))
}

fn checked(r: Raw) -> Result<SentUpdate, StoreError> {
    let release = match (r.3, r.4) {
        (Some(digest), Some(sequence)) => Some((ReleaseDigest(digest), to_u64(sequence)?)),
        _ => None,
    };
    Ok(SentUpdate {
        token: r.0,
        device: DeviceId(r.1),
        ta: TaUuid(r.2),
        release,
        sent_at: r.5,
        outcome: r.6,
        detail: r.7,
        reports: r.8,
    })
}

const SELECT: &str = "SELECT token, device_id, ta, release, sequence, sent_at, outcome, detail, \
    reports FROM teep_update";
