//! Stops: whom the CA gives no certificate until the operator says otherwise.
//!
//! A revocation by predicate is about what was issued. A stop is about what would be: it is asked in
//! the transaction that fixes a certificate, so a request comes either before it, and the run after it
//! reaches the certificate, or is denied.

use tegata_authority::UnixSecs;
use tegata_wire::ids::{ReleaseDigest, Ueid};

use super::scoped::{Predicate, ReleasesOf};
use super::{signed, unsigned};
use crate::device::{self, DeviceId};
use crate::engine::params;
use crate::role::secs;
use crate::{Store, StoreError, Tx};

/// A stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Its number.
    pub id: i64,
    /// Since when.
    pub at: UnixSecs,
    /// Whom it is about: everything that is named must be true.
    pub what: Predicate,
}

/// Why there is no such stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoStop {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stop is about what comes, and cannot depend on when something was issued; and it is about
    /// one device or all of its kind, since each request is held against every stop.
    #[error(
        "issuance can be stopped by release, TA, model, batch, profile and one device, not by \
         the time of issuance, by runtime or for several devices"
    )]
    NotOfKind,
    /// A device that is named is not registered.
    #[error("there is no device {0}")]
    NoDevice(Ueid),
    /// There are too many.
    #[error("there are {MAX} stops already; lift some of them")]
    TooMany,
}

/// Stops issuance to whom the predicate is true of; again gives the same stop.
///
/// # Errors
/// [`NoStop`].
pub fn stop(store: &Store, what: &Predicate, now: UnixSecs) -> Result<Stop, NoStop> {
    let one = what.devices.as_ref().map(|devices| {
        let mut devices = devices.iter();
        (devices.next().copied(), devices.next())
    });
    let device = match one {
        None => None,
        Some((Some(ueid), None)) => Some(ueid),
        Some(_) => return Err(NoStop::NotOfKind),
    };
    // A runtime is what a device had when it was last seen: the Verifier's policy refuses it.
    let of_then = what.issued_before.is_some() || what.issued_after.is_some();
    if of_then || what.runtimes.is_some() || what.is_empty() {
        return Err(NoStop::NotOfKind);
    }
    store.run_tx("stop issuance", |tx| {
        let all = stops(tx)?;
        if let Some(same) = all.iter().find(|stop| stop.what == *what) {
            return Ok(same.clone());
        }
        if all.len() >= MAX {
            return Err(NoStop::TooMany);
        }
        let device = match device {
            None => None,
            Some(ueid) => {
                let row = device::find(tx, &ueid)?.ok_or(NoStop::NoDevice(ueid))?;
                Some(row.id.0)
            }
        };
        let of = what.releases.as_ref();
        let id = tx.query_opt(
            "INSERT INTO issuance_stop(release, ta, below, model, batch, profile, device_id, at, \
             at_least) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) RETURNING id",
            params![
                what.release.map(|digest| digest.0),
                of.map(|of| of.ta.as_str()),
                of.and_then(|of| of.below).map(signed),
                what.model,
                what.batch,
                what.profile,
                device,
                secs(now),
                of.and_then(|of| of.from).map(signed)
            ],
            |r| r.get(0),
        )?;
        Ok(Stop {
            id: id.ok_or(StoreError::Unreadable { record: "stop" })?,
            at: now,
            what: what.clone(),
        })
    })
}

/// Lifts a stop. `false` if there is none of that number.
///
/// # Errors
/// The store's failure.
pub fn lift(store: &Store, id: i64) -> Result<bool, StoreError> {
    store.run_tx("lift stop", |tx| {
        let n = tx.execute("DELETE FROM issuance_stop WHERE id = ?1", params![id])?;
        Ok(n == 1)
    })
}

/// All stops, oldest first.
pub fn stops(tx: &Tx<'_>) -> Result<Vec<Stop>, StoreError> {
    type Raw = (
        i64,
        i64,
        Option<[u8; 32]>,
        Option<String>,
        Option<i64>,
        Option<String>,
        Option<String>,
        Option<String>,
        Option<Vec<u8>>,
        Option<i64>,
    );
    let rows: Vec<Raw> = tx.query_all(
        "SELECT s.id, s.at, s.release, s.ta, s.below, s.model, s.batch, s.profile, d.ueid, s.at_least \
         FROM issuance_stop AS s LEFT JOIN device AS d ON d.id = s.device_id ORDER BY s.id",
        params![],
        |r| {
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
                r.get(9)?,
            ))
        },
    )?;
    let read = |r: Raw| {
        let ueid = r.8.map(|ueid| Ueid::from_slice(&ueid)).transpose();
        let ueid = ueid.map_err(|_| StoreError::Unreadable { record: "stop" })?;
        let (from, below) = (r.9.map(unsigned), r.4.map(unsigned));
        Ok(Stop {
            id: r.0,
            at: UnixSecs(unsigned(r.1)),
            what: Predicate {
                release: r.2.map(ReleaseDigest),
                releases: r.3.map(|ta| ReleasesOf { ta, from, below }),
                model: r.5,
                batch: r.6,
                profile: r.7,
                devices: ueid.map(|ueid| [ueid].into()),
                ..Predicate::default()
            },
        })
    };
    rows.into_iter().map(read).collect()
}

/// The first stop that is about a certificate of this kind; `release` is empty where no TA asks.
pub(crate) fn covering(
    tx: &Tx<'_>,
    release: &[u8],
    device: DeviceId,
    profile: &str,
) -> Result<Option<i64>, StoreError> {
    tx.query_opt(
        "SELECT s.id FROM issuance_stop AS s WHERE (s.release IS NULL OR s.release = ?1) \
         AND (s.ta IS NULL OR EXISTS (SELECT 1 FROM release AS t WHERE t.digest = ?1 \
           AND t.name = s.ta AND (s.below IS NULL OR t.sequence < s.below) \
           AND (s.at_least IS NULL OR t.sequence >= s.at_least))) \
         AND (s.device_id IS NULL OR s.device_id = ?2) \
         AND (s.profile IS NULL OR s.profile = ?3) \
         AND (s.model IS NULL OR s.model = (SELECT model FROM device WHERE id = ?2)) \
         AND (s.batch IS NULL OR s.batch = (SELECT b.batch FROM device AS d \
           JOIN device_batch AS b ON b.id = d.batch_id WHERE d.id = ?2)) ORDER BY s.id LIMIT 1",
        params![release, device.0, profile],
        |r| r.get(0),
    )
}

/// Most stops: each request is held against every one.
const MAX: usize = 256;
