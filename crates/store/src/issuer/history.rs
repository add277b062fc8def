//! What the store knows of a device when its next certificate is fixed: two statements, where each question
//! by itself would be one.

use tegata_authority::ca::revocation::Standing;
use tegata_wire::x509::RevocationReason;

use crate::certificate::{self, Certificate};
use crate::device::DeviceId;
use crate::engine::{self, Row, params};
use crate::generation::ISSUING_KEY;
use crate::role::RoleError;
use crate::{StoreError, Tx, archive, attested, revocation};

/// The CA and a device, at this moment.
pub(super) struct Look {
    device: DeviceId,
    /// Number of the newest generation.
    pub(super) newest: u32,
    /// What the CA says of the device.
    pub(super) standing: Standing,
    /// When the Verifier last affirmed it, seconds since 1970.
    pub(super) attested_at: Option<i64>,
    /// Whether certificates of it are archived.
    has_archived: bool,
    /// Whether issuance is stopped to anybody.
    pub(super) has_stops: bool,
    /// Whether the base URL of the status service has a row.
    pub(super) has_base: bool,
}

impl Look {
    /// `base`: the base URL of the status service.
    ///
    /// # Errors
    /// `NoKey` if there is no CA; the store's failure.
    pub(super) fn at(tx: &Tx<'_>, device: DeviceId, base: Option<&str>) -> Result<Self, RoleError> {
        let look = tx.query_opt(
            "SELECT (SELECT max(number) FROM ca_issuing), \
             (SELECT at FROM revoked_device WHERE device_id = ?1), \
             (SELECT reason FROM revoked_device WHERE device_id = ?1), \
             (SELECT at FROM attested WHERE device_id = ?1), \
             EXISTS (SELECT 1 FROM archive WHERE device_id = ?1), \
             EXISTS (SELECT 1 FROM issuance_stop), \
             EXISTS (SELECT 1 FROM status_base WHERE url = ?2)",
            params![device.0, base],
            |r| {
                let newest: Option<u32> = r.get(0)?;
                let look = Self {
                    device,
                    newest: newest.unwrap_or_default(),
                    standing: revocation::standing(r.get(1)?, r.get(2)?),
                    attested_at: r.get(3)?,
                    has_archived: r.get(4)?,
                    has_stops: r.get(5)?,
                    has_base: r.get(6)?,
                };
                Ok(newest.map(|_| look))
            },
        )?;
        look.flatten().ok_or(RoleError::NoKey(ISSUING_KEY))
    }
}

/// What a device had of a profile, and the requests that it made for any.
pub(crate) struct History<'a> {
    device: DeviceId,
    profile: &'a str,
    has_archived: bool,
    /// In no order; `None` of a device that has more: then the store is asked each question by itself.
    rows: Option<Vec<Past>>,
}

/// A certificate, or an intent.
struct Past {
    csr_digest: [u8; 32],
    serial: Vec<u8>,
    of_profile: bool,
    intended_at: i64,
    not_after: i64,
    confirmed: bool,
    /// When something was said of it, and what.
    said_at: Option<i64>,
    reason: Option<u8>,
}

impl<'a> History<'a> {
    pub(super) fn of(tx: &Tx<'_>, look: &Look, profile: &'a str) -> Result<Self, StoreError> {
        Self::up_to(tx, look, profile, ROWS_MAX)
    }

    fn up_to(tx: &Tx<'_>, look: &Look, profile: &'a str, max: usize) -> Result<Self, StoreError> {
        let limit = i64::try_from(max).unwrap_or(i64::MAX).saturating_add(1);
        let rows = tx.query_all(
            "SELECT c.csr_digest, c.serial, c.profile = ?2, c.intended_at, c.not_after, \
             c.confirmed_at IS NOT NULL, r.at, r.reason FROM certificate AS c \
             LEFT JOIN revocation AS r ON r.serial = c.serial WHERE c.device_id = ?1 LIMIT ?3",
            params![look.device.0, profile, limit],
            Past::read,
        )?;
        Ok(Self {
            device: look.device,
            profile,
            has_archived: look.has_archived,
            rows: Some(rows).filter(|rows| rows.len() <= max),
        })
    }

    /// The row of a request, also if it is archived.
    pub(super) fn request(
        &self,
        tx: &Tx<'_>,
        csr_digest: &[u8; 32],
    ) -> Result<Option<Certificate>, StoreError> {
        let among = |rows: &Vec<Past>| rows.iter().any(|row| row.csr_digest == *csr_digest);
        match !self.has_archived && self.rows.as_ref().is_some_and(|rows| !among(rows)) {
            true => Ok(None),
            false => certificate::find_by_request(tx, self.device, csr_digest),
        }
    }

    /// How many of the profile were fixed between two moments.
    pub(super) fn made(&self, tx: &Tx<'_>, from: i64, to: i64) -> Result<u32, StoreError> {
        let Some(rows) = self.of_profile() else {
            return certificate::count(tx, self.device, self.profile, from, to);
        };
        let made = rows.filter(|row| row.intended_at > from && row.intended_at <= to);
        Ok(u32::try_from(made.count()).unwrap_or(u32::MAX))
    }

    /// Whether the newest of the profile that the device confirmed is on hold, or one after it.
    pub(crate) fn newest_is_held(&self, tx: &Tx<'_>) -> Result<bool, StoreError> {
        let Some(rows) = self.of_profile() else {
            return attested::newest_is_held(tx, self.device, self.profile);
        };
        let hold = Some(RevocationReason::CertificateHold.code());
        let newest = rows
            .filter(|row| row.confirmed || row.reason == hold)
            .max_by_key(|row| (row.intended_at, &row.serial));
        Ok(newest.is_some_and(|row| {
            matches!(
                revocation::standing(row.said_at, row.reason),
                Standing::Held { .. }
            )
        }))
    }

    /// The end of the last of the profile that the device confirmed, archived ones included, seconds since
    /// 1970. One that was revoked, superseded or put on hold ended then.
    pub(crate) fn last_end(&self, tx: &Tx<'_>) -> Result<Option<i64>, StoreError> {
        let Some(rows) = self.of_profile() else {
            return attested::last_end(tx, self.device, self.profile);
        };
        let last = rows.filter(|row| row.confirmed).map(Past::end).max();
        Ok(match self.has_archived {
            true => last.max(archive::last_end(tx, self.device, self.profile)?),
            false => last,
        })
    }

    fn of_profile(&self) -> Option<impl Iterator<Item = &Past>> {
        let rows = self.rows.as_ref()?;
        Some(rows.iter().filter(|row| row.of_profile))
    }
}

impl Past {
    fn read(r: &Row<'_>) -> engine::Result<Self> {
        Ok(Self {
            csr_digest: r.get(0)?,
            serial: r.get(1)?,
            of_profile: r.get(2)?,
            intended_at: r.get(3)?,
            not_after: r.get(4)?,
            confirmed: r.get(5)?,
            said_at: r.get(6)?,
            reason: r.get(7)?,
        })
    }

    fn end(&self) -> i64 {
        match (self.said_at, self.reason) {
            (Some(at), Some(reason)) if reason != RevocationReason::RemoveFromCrl.code() => {
                at.min(self.not_after)
            }
            _ => self.not_after,
        }
    }
}

/// Certificates of a device that are read to answer every question at once: most devices have a few.
const ROWS_MAX: usize = 64;

#[cfg(test)]
mod tests;
