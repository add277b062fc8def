//! When the Verifier last affirmed each device, as the CA was told; and who may return by that.

use tegata_authority::UnixSecs;
use tegata_authority::ca::attested::{
    AttestedDenied, CLOCK_SLACK_SECS, ReturnDenied, check, may_return,
};
use tegata_authority::ca::revocation::Standing;
use tegata_authority::profile::Profile;
use tegata_wire::ids::Ueid;
use tegata_wire::x509::RevocationReason;

use crate::device::{self, DeviceId};
use crate::engine::params;
use crate::issuer::{History, Issuer};
use crate::role::{RoleError, Trust, secs};
use crate::{StoreError, Tx, archive, revocation};

impl Issuer {
    /// Takes note of a Verifier's result that a TAM handed on. The same again, or an earlier one,
    /// changes nothing.
    ///
    /// # Errors
    /// Why it is not believed; the state is as before.
    pub fn note_attested(&self, body: &[u8], now: UnixSecs) -> Result<Ueid, RoleError> {
        let role = self.role();
        let (tams, verifiers) = (role.trusted(Trust::Tam)?, role.trusted(Trust::Verifier)?);
        let attested = check(role.provider.as_ref(), body, &tams, &verifiers, now)?;
        role.store.run_tx("note attestation", |tx| {
            let device = device::find(tx, attested.ueid())?;
            let device = device.ok_or(AttestedDenied::UnknownDevice)?;
            note(tx, device.id, attested.at(), now).map_err(RoleError::from)
        })?;
        Ok(*attested.ueid())
    }
}

/// Keeps a time unless a later one is kept. A kept one of the future is of a clock that was ahead: it
/// would keep every true one away until then.
fn note(tx: &Tx<'_>, device: DeviceId, at: UnixSecs, now: UnixSecs) -> Result<(), StoreError> {
    let future = now.0.saturating_add(CLOCK_SLACK_SECS);
    tx.execute(
        "INSERT INTO attested(device_id, at) VALUES (?1, ?2) ON CONFLICT(device_id) DO UPDATE \
         SET at = excluded.at WHERE excluded.at > attested.at OR attested.at > ?3",
        params![device.0, secs(at), secs(UnixSecs(future))],
    )
    .map(drop)
}

/// When the Verifier last affirmed a device, seconds since 1970.
pub fn last(tx: &Tx<'_>, device: DeviceId) -> Result<Option<i64>, StoreError> {
    tx.query_opt(
        "SELECT at FROM attested WHERE device_id = ?1",
        params![device.0],
        |r| r.get(0),
    )
}

/// The end of the last certificate of a profile that a device confirmed, archived ones included,
/// seconds since 1970. One that was revoked, superseded or put on hold ended then.
pub fn last_end(tx: &Tx<'_>, device: DeviceId, profile: &str) -> Result<Option<i64>, StoreError> {
    let end: Option<Option<i64>> = tx.query_opt(
        "SELECT max(CASE WHEN coalesce(r.reason, ?3) = ?3 OR r.at > c.not_after \
         THEN c.not_after ELSE r.at END) \
         FROM certificate AS c LEFT JOIN revocation AS r ON r.serial = c.serial \
         WHERE c.device_id = ?1 AND c.profile = ?2 AND c.confirmed_at IS NOT NULL",
        params![device.0, profile, RevocationReason::RemoveFromCrl.code()],
        |r| r.get(0),
    )?;
    Ok(end.flatten().max(archive::last_end(tx, device, profile)?))
}

/// Whether the newest certificate of a profile that a device confirmed is on hold, or one after it.
pub(crate) fn newest_is_held(
    tx: &Tx<'_>,
    device: DeviceId,
    profile: &str,
) -> Result<bool, StoreError> {
    let standing = tx.query_opt(
        "SELECT r.at, r.reason FROM certificate AS c \
         LEFT JOIN revocation AS r ON r.serial = c.serial \
         WHERE c.device_id = ?1 AND c.profile = ?2 \
         AND (c.confirmed_at IS NOT NULL OR r.reason = ?3) \
         ORDER BY c.intended_at DESC, c.serial DESC LIMIT 1",
        params![device.0, profile, RevocationReason::CertificateHold.code()],
        |r| Ok(revocation::standing(r.get(0)?, r.get(1)?)),
    )?;
    Ok(matches!(standing, Some(Standing::Held { .. })))
}

/// Whether a device may have a certificate that only its TA asks for, the Verifier having affirmed it last
/// at that time; in the transaction that would fix it.
pub(crate) fn returning(
    tx: &Tx<'_>,
    history: &History<'_>,
    attested_at: Option<i64>,
    profile: &Profile,
    now: UnixSecs,
) -> Result<Result<(), ReturnDenied>, StoreError> {
    if history.newest_is_held(tx)? {
        return Ok(Err(ReturnDenied::Held));
    }
    let time = |at: i64| UnixSecs(u64::try_from(at).unwrap_or(0));
    let end = history.last_end(tx)?.map(time);
    Ok(may_return(profile, end, attested_at.map(time), now))
}
