//! Enrolment secrets: what an operator gives to one device that has no TA, for one profile.
//!
//! The CA needs the text itself to check a MAC, so it is kept, sealed, with its id inside: a row whose
//! parts were exchanged does not open. It is shown once, when it is made.

use tegata_authority::UnixSecs;
use tegata_authority::ca::cmp::SECRET_ID_CHARS;
use tegata_crypto::{Rng, Secret};
use tegata_wire::ids::Ueid;

use crate::device::{self, DeviceId, LIST_MAX};
use crate::engine::{self, Row, params};
use crate::role::{Role, RoleError, secs};
use crate::{StoreError, Tx};

/// What an operator decides about a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// For which device.
    pub ueid: Ueid,
    /// For which profile.
    pub profile: String,
    /// How many certificates it gives.
    pub uses: u32,
    /// Its end.
    pub expires: UnixSecs,
}

/// A secret that was made.
#[derive(Debug)]
pub struct MadeSecret {
    /// Its id: the reference value of CMP, the user name of EST.
    pub id: String,
    /// The text: 128 random bits in 32 hexadecimal digits.
    pub text: Secret<String>,
}

/// One row. The text is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentSecret {
    /// Its id.
    pub id: String,
    /// Whose.
    pub device: DeviceId,
    /// For which profile.
    pub profile: String,
    /// How many certificates it gives.
    pub uses: u32,
    /// How many it gave.
    pub used: u32,
    /// When it was made, seconds since 1970.
    pub made_at: i64,
    /// Its end, seconds since 1970.
    pub expires_at: i64,
    sealed: Vec<u8>,
}

/// Makes a secret.
///
/// # Errors
/// `NoDevice`, or the store's or generator's failure.
pub fn make(
    role: &Role,
    new: &NewSecret,
    rng: &mut dyn Rng,
    now: UnixSecs,
) -> Result<MadeSecret, RoleError> {
    let mut id = [0; SECRET_ID_CHARS / 2];
    rng.fill(&mut id)?;
    let id = hex::encode(id);
    let mut random = Secret::new([0; 16]);
    rng.fill(random.expose_secret_mut())?;
    let text = Secret::new(hex::encode(random.expose_secret()));
    let plain = Secret::new([id.as_bytes(), text.expose_secret().as_bytes()].concat());
    let sealed = role.seal(PURPOSE, plain.expose_secret(), rng)?;
    role.store.run_tx("make enrolment secret", |tx| {
        let device = device::find(tx, &new.ueid)?.ok_or(RoleError::NoDevice(new.ueid))?;
        tx.execute(
            "INSERT INTO enrolment_secret(id, device_id, profile, uses, used, made_at, expires_at, \
             sealed) VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7)",
            params![
                id,
                device.id.0,
                new.profile,
                new.uses,
                secs(now),
                secs(new.expires),
                sealed
            ],
        )?;
        Ok::<_, RoleError>(())
    })?;
    Ok(MadeSecret { id, text })
}

/// The text of a secret.
///
/// # Errors
/// `Sealed` if the row is not one that this CA made.
pub fn open(role: &Role, secret: &EnrolmentSecret) -> Result<Secret<Vec<u8>>, RoleError> {
    let plain = role.unseal(PURPOSE, &secret.sealed)?;
    let text = plain.expose_secret().strip_prefix(secret.id.as_bytes());
    let text = text.ok_or(RoleError::Sealed(PURPOSE))?;
    Ok(Secret::new(text.to_vec()))
}

/// The secret of that id.
pub fn find(tx: &Tx<'_>, id: &str) -> Result<Option<EnrolmentSecret>, StoreError> {
    tx.query_opt(&format!("{SELECT} WHERE id = ?1"), params![id], row)
}

/// Secrets, oldest first, at most 1,000.
pub fn list(tx: &Tx<'_>) -> Result<Vec<EnrolmentSecret>, StoreError> {
    let sql = format!("{SELECT} ORDER BY made_at, id LIMIT ?1");
    tx.query_all(&sql, params![LIST_MAX], row)
}

/// Forgets a secret; what it gave stays. Returns whether there was one.
pub fn remove(tx: &Tx<'_>, id: &str) -> Result<bool, StoreError> {
    Ok(tx.execute("DELETE FROM enrolment_secret WHERE id = ?1", params![id])? == 1)
}

/// Takes one use of a secret, in the transaction that fixes a certificate. Returns whether it had
/// one, and its time is not over.
pub(crate) fn spend(tx: &Tx<'_>, id: &str, now: UnixSecs) -> Result<bool, StoreError> {
    let spent = tx.execute(
        "UPDATE enrolment_secret SET used = used + 1 \
         WHERE id = ?1 AND used < uses AND expires_at > ?2",
        params![id, secs(now)],
    )?;
    Ok(spent == 1)
}

/// Whether a secret has a use and time left.
pub(crate) fn serves(tx: &Tx<'_>, id: &str, now: UnixSecs) -> Result<bool, StoreError> {
    let found = find(tx, id)?;
    Ok(found.is_some_and(|row| row.used < row.uses && row.expires_at > secs(now)))
}

fn row(r: &Row<'_>) -> engine::Result<EnrolmentSecret> {
    Ok(EnrolmentSecret {
        id: r.get(0)?,
        device: DeviceId(r.get(1)?),
        profile: r.get(2)?,
        uses: r.get(3)?,
        used: r.get(4)?,
        made_at: r.get(5)?,
        expires_at: r.get(6)?,
        sealed: r.get(7)?,
    })
}

const SELECT: &str = "SELECT id, device_id, profile, uses, used, made_at, expires_at, sealed \
    FROM enrolment_secret";
/// Sealing purpose.
const PURPOSE: &str = "ca enrolment secret";
