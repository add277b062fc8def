//! When the Verifier last affirmed each device, and with which runtime, as the CA was told; and who may
//! return by that.

use tegata_authority::UnixSecs;
use tegata_authority::ca::attested::{
    AttestedDenied, CLOCK_SLACK_SECS, ReturnDenied, Runtime, check, may_return,
};
use tegata_authority::ca::revocation::Standing;
use tegata_authority::profile::Profile;
use tegata_wire::ids::Ueid;
use tegata_wire::x509::RevocationReason;

use crate::device::{self, DeviceId};
use crate::engine::params;
use crate::issuer::Issuer;
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
        role.store.run_tx_last("note attestation", |tx| {
            let device = device::find(tx, attested.ueid())?;
            let device = device.ok_or(AttestedDenied::UnknownDevice)?;
            let word = (attested.at(), attested.runtime());
            note(tx, device.id, word, now).map_err(RoleError::from)
        })?;
        Ok(*attested.ueid())
    }
}

/// A version as it is compared: numbers with dots between them, at most four; what is missing is 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DottedVersion([u32; VERSION_PARTS_MAX]);

impl DottedVersion {
    /// Reads it; nothing but numbers and dots.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = [0; VERSION_PARTS_MAX];
        let mut parts = text.split('.');
        for number in &mut numbers {
            match parts.next() {
                Some(part) if part.bytes().all(|b| b.is_ascii_digit()) => {
                    *number = part.parse().ok()?
                }
                Some(_) => return None,
                None => break,
            }
        }
        parts.next().is_none().then_some(Self(numbers))
    }

    /// Of what a TEE says its version is: what follows the numbers (`-rc1`, `+build`) is left out.
    fn of(version: &str) -> Option<Self> {
        let end = version.find(|c: char| !c.is_ascii_digit() && c != '.');
        let numbers = version.get(..end.unwrap_or(version.len()))?;
        Self::parse(numbers.trim_end_matches('.'))
    }

    /// Bytes in the order of versions.
    pub(crate) fn order(&self) -> Vec<u8> {
        self.0.iter().flat_map(|n| n.to_be_bytes()).collect()
    }
}

impl std::fmt::Display for DottedVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [first, second, third, fourth] = self.0;
        write!(f, "{first}.{second}.{third}.{fourth}")
    }
}

/// Numbers in a version.
const VERSION_PARTS_MAX: usize = 4;

/// Keeps a time unless a later one is kept. A kept one of the future is of a clock that was ahead: it
/// would keep every true one away until then.
fn note(
    tx: &Tx<'_>,
    device: DeviceId,
    (at, runtime): (UnixSecs, Option<&Runtime>),
    now: UnixSecs,
) -> Result<(), StoreError> {
    let future = now.0.saturating_add(CLOCK_SLACK_SECS);
    let order = runtime.and_then(|runtime| DottedVersion::of(&runtime.version));
    tx.execute(
        "INSERT INTO attested(device_id, at, runtime, runtime_version, runtime_order) \
         VALUES (?1, ?2, ?4, ?5, ?6) ON CONFLICT(device_id) DO UPDATE SET at = excluded.at, \
         runtime = excluded.runtime, runtime_version = excluded.runtime_version, \
         runtime_order = excluded.runtime_order WHERE excluded.at > attested.at OR attested.at > ?3",
        params![
            device.0,
            secs(at),
            secs(UnixSecs(future)),
            runtime.map(|runtime| runtime.name.as_str()),
            runtime.map(|runtime| runtime.version.as_str()),
            order.map(|order| order.order())
        ],
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

/// Whether a device may have a certificate that only its TA asks for: the one that it had ended then, and
/// the Verifier affirmed it last at that time.
pub(crate) fn returning(
    profile: &Profile,
    ended: Option<i64>,
    attested_at: Option<i64>,
    now: UnixSecs,
) -> Result<(), ReturnDenied> {
    let time = |at: i64| UnixSecs(u64::try_from(at).unwrap_or(0));
    may_return(profile, ended.map(time), attested_at.map(time), now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests.

    use super::DottedVersion;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let order = |text| DottedVersion::of(text).map(|version| version.order());
        let sorted = [
            "0",
            "0.9.9",
            "1",
            "1.0.0.1",
            "1.4",
            "1.4.1-rc2",
            "1.9",
            "1.10.0+5",
            "2.0",
            "4294967295",
        ];
        for pair in sorted.windows(2) {
            assert!(
                order(pair[0]).unwrap() < order(pair[1]).unwrap(),
                "{pair:?}"
            );
        }
        assert_eq!(order("1.4-rc1"), order("1.4.0.0"));
        assert_eq!(order("1.4."), order("1.4"));
        for none in ["", "v1", ".1", "1..2", "1.2.3.4.5", "4294967296", "rolling"] {
            assert_eq!(order(none), None, "{none}");
        }
        // What is typed is numbers and dots, and nothing is left out of it.
        assert!(DottedVersion::parse("1.4").is_some());
        for none in ["", "1.4-rc1", "1.4.", "+1", "1.-2", "1 4", "1.4.0.0.0"] {
            assert_eq!(DottedVersion::parse(none), None, "{none}");
        }
        assert_eq!(DottedVersion::parse("1.4").unwrap().to_string(), "1.4.0.0");
    }
}
