//! Scoped revocation: one word about every certificate that a predicate is true of.
//!
//! A run goes through the certificates in the order of their serial numbers. It reads a stretch of
//! them on a view that blocks nobody and writes what changes in transactions of [`WRITTEN_MAX`], so
//! that issuance goes on between. It keeps no state of its own: a word said again changes nothing, so
//! the same call after a crash passes over what was done and does the rest.
//!
//! Serial numbers begin with the time, so what is issued during a run lies at its end. There it looks
//! again after its last write, from [`BEHIND`] before, until a look finds nothing: a serial number is made
//! before its certificate is durable, and by the clock of whichever process made it. What is issued after
//! that is not its matter, and where issuance never pauses it looks [`LOOKS_MAX`] times: see
//! [`super::stop`].

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tegata_authority::UnixSecs;
use tegata_authority::ca::revocation::{Word, decide};
use tegata_wire::ids::{ReleaseDigest, Ueid};

use super::{Changed, Known, next_changes, put_at, reach, standing};
use crate::attested::DottedVersion;
use crate::engine::{self, Row, params};
use crate::role::secs;
use crate::{Store, StoreError, Tx, device};

/// Releases of a TA by name, in a range of sequence numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleasesOf {
    /// Name of the TA.
    pub ta: String,
    /// The first sequence number that is meant; from the first release on when absent.
    pub from: Option<u64>,
    /// The first one that is no longer meant; up to the newest when absent.
    pub below: Option<u64>,
}

/// Runtimes by name, up to a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimesOf {
    /// The name in their evidence.
    pub name: String,
    /// The first version that is meant; every version when absent, also one that has no numbers.
    pub from: Option<DottedVersion>,
    /// The first version that is no longer meant; every version when absent. One that has no numbers is
    /// below none.
    pub below: Option<DottedVersion>,
}

/// Which certificates: those that have not ended and that everything named here is true of. A hold is
/// lifted from those too that have ended meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Predicate {
    /// Issued to this release of a TA.
    pub release: Option<ReleaseDigest>,
    /// Issued to one of these releases: a range of TA measurements.
    pub releases: Option<ReleasesOf>,
    /// Of devices that had such a runtime when the Verifier last affirmed them.
    pub runtimes: Option<RuntimesOf>,
    /// Of devices of this model.
    pub model: Option<String>,
    /// Of devices of this factory batch.
    pub batch: Option<String>,
    /// Of this profile.
    pub profile: Option<String>,
    /// Issued before this moment.
    pub issued_before: Option<UnixSecs>,
    /// Issued at this moment or later.
    pub issued_after: Option<UnixSecs>,
    /// Of these devices.
    pub devices: Option<BTreeSet<Ueid>>,
}

impl Predicate {
    /// Whether it names nothing, and so every certificate there is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Certificates that the predicate is true of.
    pub matched: u64,
    /// Those whose standing changed, or would.
    pub changed: u64,
}

/// A certificate of the predicate, to be looked at before the word is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its standing now, and after the word.
    pub certificate: Changed,
    /// Its device.
    pub device: Ueid,
    /// Its profile.
    pub profile: String,
    /// When it was issued.
    pub issued: UnixSecs,
}

/// What a word would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Planned {
    /// How many.
    pub progress: Progress,
    /// The first of those that would change, at most [`SAMPLE_MAX`].
    pub sample: Vec<Sample>,
}

/// Why nothing was done, or a run ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScopedError {
    /// The store failed: what was done stays, and the same call does the rest.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Everything is not a predicate.
    #[error("the predicate names nothing")]
    Empty,
    /// A device that is named is not registered.
    #[error("there is no device {0}")]
    NoDevice(Ueid),
    /// A release that is named is not known.
    #[error("the CA has no such release")]
    NoRelease,
    /// No device is of a model or batch of that name, or no certificate of that profile.
    #[error("the CA knows no {0} of that name")]
    NoSuch(&'static str),
    /// No device was affirmed with a runtime of that name.
    #[error("the Verifier never affirmed a device with such a runtime")]
    NoRuntime,
}

/// Says the word of every certificate of the predicate; `told` hears how far it came.
///
/// What was told is durable.
///
/// # Errors
/// [`ScopedError`].
pub fn say_to_all(
    store: &Store,
    predicate: &Predicate,
    word: Word,
    now: UnixSecs,
    mut told: impl FnMut(Progress),
) -> Result<Progress, ScopedError> {
    check(store, predicate)?;
    let begun = Instant::now();
    let mut progress = Progress::default();
    let mut walk = Walk::of(predicate);
    for look in 0..=LOOKS_MAX {
        // Whatever is durable after this and was not when the walk came by has a serial number from here on.
        let newest = newest_from(store, now, begun.elapsed())?;
        let mut found = false;
        while let Some(mut rows) = walk.next(store, predicate, reach(word, now))? {
            let matched = rows.len();
            // What needs no change needs no transaction: a command that is repeated is soon there.
            rows.retain(|row| matches!(decide(row.known.standing, word, now), Ok(Some(_))));
            // What the first look has counted is not counted again.
            let new = if look == 0 { matched } else { rows.len() };
            progress.matched = progress.matched.saturating_add(count(new));
            found |= !rows.is_empty();
            say_some(store, &rows, (word, now), &mut progress, &mut told)?;
            told(progress);
        }
        if look > 0 && !found {
            break;
        }
        walk = Walk::Serials(newest);
    }
    Ok(progress)
}

/// Says the word of some certificates, in several transactions.
fn say_some(
    store: &Store,
    rows: &[Found],
    (word, now): (Word, UnixSecs),
    progress: &mut Progress,
    told: &mut impl FnMut(Progress),
) -> Result<(), StoreError> {
    for part in rows.chunks(WRITTEN_MAX) {
        let begun = Instant::now();
        let changed = store.run_tx("revoke by predicate", |tx| say_part(tx, part, word, now))?;
        progress.changed = progress.changed.saturating_add(changed);
        told(*progress);
        // Whoever else writes looks from time to time whether it may: half of the time it may.
        std::thread::sleep(begun.elapsed().clamp(GAP_LEAST, GAP_MOST));
    }
    Ok(())
}

/// Below the serial numbers of what becomes durable from now on; the run began at `begun`. By the clock here,
/// or by that of whoever issued last if that is behind.
fn newest_from(store: &Store, begun: UnixSecs, elapsed: Duration) -> Result<Vec<u8>, StoreError> {
    let at = Duration::from_secs(begun.0)
        .saturating_add(elapsed)
        .saturating_sub(BEHIND);
    let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
    let last: Option<Vec<u8>> = store.read("newest certificate", |tx| {
        let newest = "SELECT serial FROM certificate ORDER BY serial DESC LIMIT 1";
        tx.query_opt(newest, params![], |r| r.get(0))
    })?;
    // Serial numbers begin with six octets of time.
    let time = last.as_deref().and_then(|serial| serial.first_chunk::<6>());
    let last_ms = time.map_or(0, |t| {
        t.iter().fold(0, |ms, octet| ms << 8 | u64::from(*octet))
    });
    let behind_ms = u64::try_from(BEHIND.as_millis()).unwrap_or(u64::MAX);
    let from = at_ms.min(last_ms.saturating_sub(behind_ms));
    Ok(from.to_be_bytes().into_iter().skip(2).collect())
}

/// What [`say_to_all`] would do now.
///
/// # Errors
/// [`ScopedError`].
pub fn plan_for_all(
    store: &Store,
    predicate: &Predicate,
    word: Word,
    now: UnixSecs,
    mut told: impl FnMut(Progress),
) -> Result<Planned, ScopedError> {
    check(store, predicate)?;
    let mut planned = Planned::default();
    let mut walk = Walk::of(predicate);
    while let Some(rows) = walk.next(store, predicate, reach(word, now))? {
        let progress = &mut planned.progress;
        progress.matched = progress.matched.saturating_add(count(rows.len()));
        for row in rows {
            let Some(after) = decide(row.known.standing, word, now).unwrap_or(None) else {
                continue;
            };
            progress.changed = progress.changed.saturating_add(1);
            if planned.sample.len() < SAMPLE_MAX {
                planned.sample.push(Sample {
                    certificate: Changed {
                        serial: row.known.serial,
                        before: row.known.standing,
                        after,
                    },
                    device: Ueid::from_slice(&row.ueid)
                        .map_err(|_| StoreError::Unreadable { record: "device" })?,
                    profile: row.profile,
                    issued: UnixSecs(super::unsigned(row.issued)),
                });
            }
        }
        told(*progress);
    }
    Ok(planned)
}

/// A name that is not there is a mistake in writing, and must not look like an empty result.
fn check(store: &Store, predicate: &Predicate) -> Result<(), ScopedError> {
    if predicate.is_empty() {
        return Err(ScopedError::Empty);
    }
    store.read("check predicate", |tx| {
        let (release, of) = (&predicate.release, &predicate.releases);
        let known: Option<i64> = tx.query_opt(
            "SELECT 1 WHERE (?1 IS NULL OR EXISTS (SELECT 1 FROM release WHERE digest = ?1)) \
             AND (?2 IS NULL OR EXISTS (SELECT 1 FROM release WHERE name = ?2))",
            params![
                release.map(|digest| digest.0),
                of.as_ref().map(|of| of.ta.as_str())
            ],
            |r| r.get(0),
        )?;
        if known.is_none() {
            return Err(ScopedError::NoRelease);
        }
        if let Some(of) = &predicate.runtimes {
            let known: Option<i64> = tx.query_opt(
                "SELECT 1 FROM attested WHERE runtime = ?1 LIMIT 1",
                params![&of.name],
                |r| r.get(0),
            )?;
            known.ok_or(ScopedError::NoRuntime)?;
        }
        for ueid in predicate.devices.iter().flatten() {
            if device::find(tx, ueid)?.is_none() {
                return Err(ScopedError::NoDevice(*ueid));
            }
        }
        Ok(())
    })
}

/// As `check`, for names that are looked for among all devices and certificates. Where certificates were found they
/// are known: it is for a predicate that nothing matched.
///
/// # Errors
/// `NoSuch`, or the store's failure.
pub fn check_names(store: &Store, predicate: &Predicate) -> Result<(), ScopedError> {
    let names = [
        (
            "model",
            &predicate.model,
            "SELECT 1 FROM device WHERE model = ?1 LIMIT 1",
        ),
        (
            "batch",
            &predicate.batch,
            "SELECT 1 FROM device_batch WHERE batch = ?1 LIMIT 1",
        ),
        (
            "profile",
            &predicate.profile,
            "SELECT 1 FROM certificate WHERE profile = ?1 LIMIT 1",
        ),
    ];
    store.read("check names", |tx| {
        for (what, name, sql) in names {
            let Some(name) = name else { continue };
            let known: Option<i64> = tx.query_opt(sql, params![name], |r| r.get(0))?;
            known.ok_or(ScopedError::NoSuch(what))?;
        }
        Ok(())
    })
}

/// Says the word of some certificates by what is known of them now.
fn say_part(tx: &Tx<'_>, part: &[Found], word: Word, now: UnixSecs) -> Result<u64, StoreError> {
    let mut changes = Vec::new();
    for row in part.iter().map(|found| &found.known) {
        // Read again: another word may have come in since.
        let before = tx.query_opt(
            "SELECT at, reason FROM revocation WHERE serial = ?1",
            params![&row.serial],
            |r| Ok(standing(r.get(0)?, r.get(1)?)),
        )?;
        if let Some(after) = decide(before.unwrap_or_default(), word, now).unwrap_or(None) {
            changes.push((row, after));
        }
    }
    let first = next_changes(tx, changes.len())?;
    for (number, (row, after)) in (first..).zip(&changes) {
        put_at(tx, number, &row.serial, row.shard, *after)?;
    }
    Ok(count(changes.len()))
}

/// A certificate of the predicate.
struct Found {
    known: Known,
    ueid: Vec<u8>,
    profile: String,
    issued: i64,
}

/// Where a run stands.
enum Walk {
    /// In the order of serial numbers; the last one that was looked at.
    Serials(Vec<u8>),
    /// Device by device; those that are left.
    Devices(Vec<Ueid>),
    /// At its end.
    Ended,
}

impl Walk {
    fn of(predicate: &Predicate) -> Self {
        match &predicate.devices {
            Some(devices) => Self::Devices(devices.iter().rev().copied().collect()),
            None => Self::Serials(Vec::new()),
        }
    }

    /// The next stretch; the certificates in it that the predicate is true of may be none.
    fn next(
        &mut self,
        store: &Store,
        predicate: &Predicate,
        now: UnixSecs,
    ) -> Result<Option<Vec<Found>>, StoreError> {
        match self {
            Self::Ended => Ok(None),
            Self::Serials(after) => {
                let (rows, last) = store.read("find by predicate", |tx| {
                    let last: Option<Vec<u8>> = tx.query_opt(
                        "SELECT serial FROM certificate INDEXED BY certificate_scope \
                         WHERE serial > ?1 ORDER BY serial LIMIT 1 OFFSET ?2",
                        params![&*after, READ_MAX],
                        |r| r.get(0),
                    )?;
                    let to = last.as_deref().unwrap_or(ABOVE_ALL);
                    let mut rows = find(tx, BY_SERIAL, (after, to), predicate, now)?;
                    if let Some(devices) = &predicate.devices {
                        let named = |row: &Found| {
                            Ueid::from_slice(&row.ueid).is_ok_and(|ueid| devices.contains(&ueid))
                        };
                        rows.retain(named);
                    }
                    Ok::<_, StoreError>((rows, last))
                })?;
                *self = last.map_or(Self::Ended, Self::Serials);
                Ok(Some(rows))
            }
            Self::Devices(left) => {
                let some: Vec<Ueid> = left.split_off(left.len().saturating_sub(DEVICES_MAX));
                if some.is_empty() {
                    return Ok(None);
                }
                let rows = store.read("find by devices", |tx| {
                    let mut rows = Vec::new();
                    for ueid in some.iter().rev() {
                        let part = find(tx, BY_DEVICE, (ueid.as_bytes(), b""), predicate, now)?;
                        rows.extend(part);
                    }
                    Ok::<_, StoreError>(rows)
                })?;
                Ok(Some(rows))
            }
        }
    }
}

/// The certificates of a stretch that the predicate is true of.
fn find(
    tx: &Tx<'_>,
    from: &str,
    (after, to): (&[u8], &[u8]),
    predicate: &Predicate,
    now: UnixSecs,
) -> Result<Vec<Found>, StoreError> {
    let of = predicate.releases.as_ref();
    let below = of.map(|of| of.below.map_or(i64::MAX, super::signed));
    let at_least = of.map(|of| of.from.map_or(0, super::signed));
    let runtimes = predicate.runtimes.as_ref();
    let runtime_below = runtimes.and_then(|of| of.below.as_ref());
    let runtime_from = runtimes.and_then(|of| of.from.as_ref());
    let sql = format!("{COLUMNS} {from} {CONDITION}");
    tx.query_all(
        &sql,
        params![
            after,
            to,
            secs(now),
            predicate.release.map(|digest| digest.0),
            of.map(|of| of.ta.as_str()),
            below,
            predicate.model,
            predicate.batch,
            predicate.profile,
            predicate.issued_before.map(secs),
            predicate.issued_after.map(secs),
            at_least,
            runtimes.map(|of| of.name.as_str()),
            runtime_below.map(DottedVersion::order),
            runtime_from.map(DottedVersion::order),
        ],
        found_row,
    )
}

fn found_row(r: &Row<'_>) -> engine::Result<Found> {
    Ok(Found {
        known: Known {
            serial: r.get(0)?,
            shard: r.get(1)?,
            standing: standing(r.get(2)?, r.get(3)?),
        },
        ueid: r.get(4)?,
        profile: r.get(5)?,
        issued: r.get(6)?,
    })
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

const COLUMNS: &str = "SELECT c.serial, c.shard, r.at, r.reason, d.ueid, c.profile, c.intended_at";

// CROSS JOIN keeps the order of the tables: a stretch is what bounds the work. The index has all
// that is asked for, without the certificates.
const BY_SERIAL: &str = "FROM certificate AS c INDEXED BY certificate_scope \
    CROSS JOIN device AS d CROSS JOIN device_batch AS b \
    LEFT JOIN revocation AS r ON r.serial = c.serial WHERE c.serial > ?1 AND c.serial <= ?2 \
    AND d.id = c.device_id AND b.id = d.batch_id";

const BY_DEVICE: &str = "FROM device AS d CROSS JOIN certificate AS c CROSS JOIN device_batch AS b \
    LEFT JOIN revocation AS r ON r.serial = c.serial WHERE d.ueid = ?1 AND ?2 IS NOT NULL \
    AND c.device_id = d.id AND b.id = d.batch_id";

const CONDITION: &str = "AND c.not_after >= ?3 AND (?4 IS NULL OR c.release = ?4) \
    AND (?5 IS NULL OR c.release IN (SELECT digest FROM release WHERE name = ?5 AND sequence < ?6 \
      AND sequence >= ?12)) \
    AND (?13 IS NULL OR EXISTS (SELECT 1 FROM attested AS w WHERE w.device_id = d.id \
      AND w.runtime = ?13 AND (?14 IS NULL OR w.runtime_order < ?14) \
      AND (?15 IS NULL OR w.runtime_order >= ?15))) \
    AND (?7 IS NULL OR d.model = ?7) AND (?8 IS NULL OR b.batch = ?8) \
    AND (?9 IS NULL OR c.profile = ?9) AND (?10 IS NULL OR c.intended_at < ?10) \
    AND (?11 IS NULL OR c.intended_at >= ?11) ORDER BY c.serial";

/// Certificates that are looked at in one reading: some 2 MB of the index.
const READ_MAX: i64 = 20_000;
/// Devices that are looked up in one reading.
const DEVICES_MAX: usize = 500;
/// Certificates that are written in one transaction: some hundredths of a second.
const WRITTEN_MAX: usize = 500;
/// How far the serial number of a certificate may lie behind the moment at which it is durable: clocks
/// of several processes, and a request that waited.
const BEHIND: Duration = Duration::from_secs(300);
/// Looks at what is newest, at most: somebody may issue without a pause.
const LOOKS_MAX: usize = 16;
/// Least and longest time between two transactions.
const GAP_LEAST: Duration = Duration::from_millis(5);
const GAP_MOST: Duration = Duration::from_millis(500);
/// Certificates that are shown.
pub const SAMPLE_MAX: usize = 10;
/// Above every serial number: they are positive and have at most 20 bytes.
const ABOVE_ALL: &[u8] = &[0xff; 21];
