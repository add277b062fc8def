//! Devices: what a factory's signed manifest said about each, or the operator.

use tegata_wire::ids::Ueid;
use tegata_wire::x509::RevocationReason;

use crate::engine::{self, Row, Value, params};
use crate::{StoreError, Tx};

/// Row id of a device. In a file small and in the order of import, so that tables keyed by it stay compact; in a
/// database spread, so that devices that enrol one after the other do not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub i64);

/// A batch of devices as imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// SHA-256 of the signed manifest, or of what the operator said.
    pub digest: [u8; 32],
    /// The maker's name of the batch.
    pub batch: String,
    /// The maker.
    pub maker: String,
    /// When the maker made it, seconds since 1970.
    pub made_at: i64,
    /// Thumbprint of the factory key; `None`: the operator's word, not a factory's.
    pub factory_kid: Option<[u8; 32]>,
}

/// One device to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    /// Its name for life.
    pub ueid: Ueid,
    /// Thumbprint of its TEEP Agent key; `None` for a device without our TEE.
    pub teep_kid: Option<[u8; 32]>,
    /// Thumbprint of its attestation key.
    pub attestation_kid: [u8; 32],
    /// Hardware model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// What its factory or the operator said of it, CBOR.
    pub endorsement: Vec<u8>,
}

/// One registered device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Row id.
    pub id: DeviceId,
    /// Its name for life.
    pub ueid: Ueid,
    /// Hardware model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// The maker's name of the batch it came in.
    pub batch: String,
    /// Whether the registry has a TEEP Agent key of it: what it has our TEE by.
    pub has_tee: bool,
    /// What its factory or the operator said of it, CBOR.
    pub endorsement: Vec<u8>,
    /// The sealed delivery KEK, where the TAM was given one (symmetric delivery).
    pub sealed_kek: Option<Vec<u8>>,
}

/// Registers a batch. `None` if this very manifest was imported before.
pub fn insert_batch(tx: &Tx<'_>, batch: &Batch, now_secs: i64) -> Result<Option<i64>, StoreError> {
    tx.query_opt(
        "INSERT INTO device_batch(digest, batch, maker, made_at, imported_at, factory_kid) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT(digest) DO NOTHING RETURNING id",
        params![
            batch.digest,
            batch.batch,
            batch.maker,
            batch.made_at,
            now_secs,
            batch.factory_kid
        ],
        |r| r.get(0),
    )
}

/// Registers a device. `false` if its UEID or one of its keys is registered already.
pub fn insert(tx: &Tx<'_>, batch_id: i64, device: &NewDevice) -> Result<bool, StoreError> {
    let n = tx.execute(
        "INSERT INTO device(id, ueid, teep_kid, attestation_kid, batch_id, model, serial, endorsement) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        params![
            tx.spread_id(),
            device.ueid.as_bytes(),
            device.teep_kid,
            device.attestation_kid,
            batch_id,
            device.model,
            device.serial,
            device.endorsement
        ],
    )?;
    Ok(n == 1)
}

/// Stores the sealed delivery KEK of a device. `false` if there is no such device.
pub fn set_kek(tx: &Tx<'_>, ueid: &Ueid, sealed: &[u8]) -> Result<bool, StoreError> {
    let n = tx.execute(
        "UPDATE device SET sealed_kek = ?2 WHERE ueid = ?1",
        params![ueid.as_bytes(), sealed],
    )?;
    Ok(n == 1)
}

/// The device of that UEID.
pub fn find(tx: &Tx<'_>, ueid: &Ueid) -> Result<Option<Device>, StoreError> {
    one(tx, "WHERE ueid = ?1", params![ueid.as_bytes()])
}

/// Devices with that serial number, at most two: makers may use the same one.
pub fn find_by_serial(tx: &Tx<'_>, serial: &str) -> Result<Vec<Device>, StoreError> {
    let sql = format!("{SELECT} WHERE serial = ?1 ORDER BY device.id LIMIT 2");
    let rows = tx.query_all(&sql, params![serial], raw)?;
    rows.into_iter().map(checked).collect()
}

/// A device of that model and serial number that is another one and not revoked for good.
pub(crate) fn named(
    tx: &Tx<'_>,
    model: &str,
    serial: &str,
    but: &Ueid,
) -> Result<Option<Ueid>, StoreError> {
    let found: Option<Vec<u8>> = tx.query_opt(
        "SELECT ueid FROM device LEFT JOIN revoked_device AS r ON r.device_id = device.id \
         WHERE serial = ?1 AND model = ?2 AND ueid <> ?3 AND (r.reason IS NULL OR r.reason = ?4) LIMIT 1",
        params![
            serial,
            model,
            but.as_bytes(),
            RevocationReason::CertificateHold.code()
        ],
        |r| r.get(0),
    )?;
    let ueid = found.map(|ueid| Ueid::from_slice(&ueid)).transpose();
    ueid.map_err(|_| StoreError::Unreadable { record: "device" })
}

/// The device whose TEEP Agent key has that thumbprint.
pub fn find_by_teep_kid(tx: &Tx<'_>, kid: &[u8; 32]) -> Result<Option<Device>, StoreError> {
    one(tx, "WHERE teep_kid = ?1", params![kid])
}

/// The device whose attestation key has that thumbprint.
pub fn find_by_attestation_kid(tx: &Tx<'_>, kid: &[u8; 32]) -> Result<Option<Device>, StoreError> {
    one(tx, "WHERE attestation_kid = ?1", params![kid])
}

/// The device of that row id.
pub fn find_by_id(tx: &Tx<'_>, id: DeviceId) -> Result<Option<Device>, StoreError> {
    one(tx, "WHERE device.id = ?1", params![id.0])
}

/// Devices after `after` in the order of their row ids, at most `limit`.
pub fn list(tx: &Tx<'_>, after: DeviceId, limit: u32) -> Result<Vec<Device>, StoreError> {
    let sql = format!("{SELECT} WHERE device.id > ?1 ORDER BY device.id LIMIT ?2");
    let rows = tx.query_all(&sql, params![after.0, limit.min(LIST_MAX)], raw)?;
    rows.into_iter().map(checked).collect()
}

/// How many devices are registered.
pub fn count(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let n: Option<i64> = tx.query_opt("SELECT count(*) FROM device", params![], |r| r.get(0))?;
    Ok(n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
}

fn one(tx: &Tx<'_>, condition: &str, params: &[Value<'_>]) -> Result<Option<Device>, StoreError> {
    tx.query_opt(&format!("{SELECT} {condition}"), params, raw)?
        .map(checked)
        .transpose()
}

type Raw = (
    i64,
    Vec<u8>,
    String,
    String,
    String,
    Vec<u8>,
    Option<Vec<u8>>,
    bool,
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
    ))
}

fn checked(r: Raw) -> Result<Device, StoreError> {
    let ueid = Ueid::from_slice(&r.1).map_err(|_| StoreError::Unreadable { record: "device" })?;
    Ok(Device {
        id: DeviceId(r.0),
        ueid,
        model: r.2,
        serial: r.3,
        batch: r.4,
        endorsement: r.5,
        sealed_kek: r.6,
        has_tee: r.7,
    })
}

const SELECT: &str = "SELECT device.id, ueid, model, serial, device_batch.batch, endorsement, \
    sealed_kek, teep_kid IS NOT NULL FROM device JOIN device_batch ON device_batch.id = batch_id";

/// Most rows one list call returns; more are asked for page by page.
pub(crate) const LIST_MAX: u32 = 1_000;
