//! Reference values and appraisals at the Verifier.

use tegata_wire::ids::ReleaseDigest;

use crate::device::DeviceId;
use crate::engine::params;
use crate::{StoreError, Tx};

/// Stores the reference value of a release. `false` if it was there already.
pub fn insert(
    tx: &Tx<'_>,
    release: &ReleaseDigest,
    record: &[u8],
    now_secs: i64,
) -> Result<bool, StoreError> {
    let n = tx.execute(
        "INSERT INTO reference_value(release, record, added_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT(release) DO NOTHING",
        params![release.0, record, now_secs],
    )?;
    Ok(n == 1)
}

/// All reference values' records, at most 10,000.
pub fn list(tx: &Tx<'_>) -> Result<Vec<Vec<u8>>, StoreError> {
    tx.query_all(
        "SELECT record FROM reference_value ORDER BY release LIMIT 10000",
        params![],
        |r| r.get(0),
    )
}

/// Records an appraisal, and forgets those of the device older than `keep_ms`.
pub fn insert_appraisal(
    tx: &Tx<'_>,
    device: DeviceId,
    status: &str,
    ear: &[u8],
    evidence_digest: &[u8; 32],
    now_ms: i64,
    keep_ms: i64,
) -> Result<(), StoreError> {
    tx.execute(
        "DELETE FROM appraisal WHERE device_id = ?1 AND at_ms < ?2",
        params![device.0, now_ms.saturating_sub(keep_ms)],
    )?;
    tx.execute(
        "INSERT INTO appraisal(at_ms, device_id, status, ear, evidence_digest) \
         VALUES (?1,?2,?3,?4,?5) ON CONFLICT DO NOTHING",
        params![now_ms, device.0, status, ear, evidence_digest],
    )
    .map(drop)
}
