//! TA releases: the CA's with their sealed secrets, the TAM's with ciphertext and availability.

use tegata_wire::ids::{ReleaseDigest, SignerId, TaUuid};

use crate::engine::{self, Row, params};
use crate::{StoreError, Tx};

/// One release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its SUIT digest: its name.
    pub digest: ReleaseDigest,
    /// Who signed it.
    pub signer: SignerId,
    /// The TA.
    pub ta: TaUuid,
    /// Name for people.
    pub name: String,
    /// SUIT sequence number.
    pub sequence: u64,
    /// The role's own record, CBOR.
    pub record: Vec<u8>,
    /// The encrypted TA.
    pub ciphertext: Option<Vec<u8>>,
    /// The role's sealed secrets of it.
    pub sealed: Option<Vec<u8>>,
    /// Which devices may get it, CBOR.
    pub availability: Vec<u8>,
    /// Number of the CA's decision about that; 0 while a TAM was told none.
    pub rule_number: u64,
    /// When it was made or imported, seconds since 1970.
    pub made_at: i64,
}

/// Stores a release. `false` if the digest, its prefix, or (signer, TA, sequence) is taken.
pub fn insert(tx: &Tx<'_>, r: &Release) -> Result<bool, StoreError> {
    let n = tx.execute(
        "INSERT INTO release(digest, prefix, signer, ta, name, sequence, record, ciphertext, \
         sealed, availability, made_at, rule_number) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12) \
         ON CONFLICT DO NOTHING",
        params![
            r.digest.0,
            r.digest.prefix(),
            r.signer.0,
            r.ta.0,
            r.name,
            to_i64(r.sequence)?,
            r.record,
            r.ciphertext,
            r.sealed,
            r.availability,
            r.made_at,
            to_i64(r.rule_number)?
        ],
    )?;
    Ok(n == 1)
}

/// The release of that digest.
pub fn find(tx: &Tx<'_>, digest: &ReleaseDigest) -> Result<Option<Release>, StoreError> {
    let sql = format!("{SELECT} WHERE digest = ?1");
    tx.query_opt(&sql, params![digest.0], raw)?
        .map(checked)
        .transpose()
}

/// The release whose digest begins with those 16 bytes.
pub fn find_by_prefix(tx: &Tx<'_>, prefix: &[u8; 16]) -> Result<Option<Release>, StoreError> {
    let sql = format!("{SELECT} WHERE prefix = ?1");
    tx.query_opt(&sql, params![prefix], raw)?
        .map(checked)
        .transpose()
}

/// The TA and the sequence number of a release: what its row says without a look into what is large.
pub fn known(tx: &Tx<'_>, digest: &ReleaseDigest) -> Result<Option<(TaUuid, u64)>, StoreError> {
    let row: Option<([u8; 16], i64)> = tx.query_opt(
        "SELECT ta, sequence FROM release WHERE digest = ?1",
        params![digest.0],
        |r| Ok((r.get(0)?, r.get(1)?)),
    )?;
    row.map(|(ta, sequence)| Ok((TaUuid(ta), to_u64(sequence)?)))
        .transpose()
}

/// The role's own record of a release.
pub fn record(tx: &Tx<'_>, digest: &ReleaseDigest) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT record FROM release WHERE digest = ?1";
    tx.query_opt(sql, params![digest.0], |r| r.get(0))
}

/// The encrypted TA of a release.
pub fn ciphertext(tx: &Tx<'_>, digest: &ReleaseDigest) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT ciphertext FROM release WHERE digest = ?1";
    let row: Option<Option<Vec<u8>>> = tx.query_opt(sql, params![digest.0], |r| r.get(0))?;
    Ok(row.flatten())
}

/// Whether [`ciphertext`] would find it.
pub fn has_ciphertext(tx: &Tx<'_>, digest: &ReleaseDigest) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM release WHERE digest = ?1 AND ciphertext IS NOT NULL";
    let row: Option<i64> = tx.query_opt(sql, params![digest.0], |r| r.get(0))?;
    Ok(row.is_some())
}

/// All releases, newest last, at most 1,000, without ciphertext, secrets and large records.
pub fn list(tx: &Tx<'_>) -> Result<Vec<Release>, StoreError> {
    let sql = "SELECT digest, signer, ta, name, sequence, \
         CASE WHEN length(record) <= 65536 THEN record ELSE ?1 END, NULL, NULL, availability, \
         made_at, rule_number \
         FROM release ORDER BY ta, sequence LIMIT 1000";
    tx.query_all(sql, params![&[][..] as &[u8]], raw)?
        .into_iter()
        .map(checked)
        .collect()
}

/// Highest sequence number of a signer's TA.
pub fn last_sequence(
    tx: &Tx<'_>,
    signer: &SignerId,
    ta: &TaUuid,
) -> Result<Option<u64>, StoreError> {
    let max: Option<Option<i64>> = tx.query_opt(
        "SELECT max(sequence) FROM release WHERE signer = ?1 AND ta = ?2",
        params![signer.0, ta.0],
        |r| r.get(0),
    )?;
    max.flatten().map(to_u64).transpose()
}

/// The CA decides which devices may get a release: the decision gets the next number. `false` if
/// there is no such release.
pub fn decide_availability(
    tx: &Tx<'_>,
    digest: &ReleaseDigest,
    availability: &[u8],
) -> Result<bool, StoreError> {
    let n = tx.execute(
        "UPDATE release SET availability = ?2, rule_number = rule_number + 1 WHERE digest = ?1",
        params![digest.0, availability],
    )?;
    Ok(n == 1)
}

/// A TAM hears the CA's decision of that number. `false` if it knows a later one, or no such
/// release.
pub fn follow_availability(
    tx: &Tx<'_>,
    digest: &ReleaseDigest,
    availability: &[u8],
    number: u64,
) -> Result<bool, StoreError> {
    let n = tx.execute(
        "UPDATE release SET availability = ?2, rule_number = ?3 WHERE digest = ?1 AND rule_number < ?3",
        params![digest.0, availability, to_i64(number)?],
    )?;
    Ok(n == 1)
}

/// A TAM's own change, until the CA decides anew. `false` if there is no such release.
pub fn set_availability(
    tx: &Tx<'_>,
    digest: &ReleaseDigest,
    availability: &[u8],
) -> Result<bool, StoreError> {
    let n = tx.execute(
        "UPDATE release SET availability = ?2 WHERE digest = ?1",
        params![digest.0, availability],
    )?;
    Ok(n == 1)
}

type Raw = (
    [u8; 32],
    [u8; 32],
    [u8; 16],
    String,
    i64,
    Vec<u8>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<u8>,
    i64,
    i64,
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
        r.get(9)?,
        r.get(10)?,
    ))
}

fn checked(r: Raw) -> Result<Release, StoreError> {
    Ok(Release {
        digest: ReleaseDigest(r.0),
        signer: SignerId(r.1),
        ta: TaUuid(r.2),
        name: r.3,
        sequence: to_u64(r.4)?,
        record: r.5,
        ciphertext: r.6,
        sealed: r.7,
        availability: r.8,
        made_at: r.9,
        rule_number: to_u64(r.10)?,
    })
}

pub(crate) fn to_i64(n: u64) -> Result<i64, StoreError> {
    i64::try_from(n).map_err(|_| StoreError::Unreadable { record: "number" })
}

pub(crate) fn to_u64(n: i64) -> Result<u64, StoreError> {
    u64::try_from(n).map_err(|_| StoreError::Unreadable { record: "number" })
}

const SELECT: &str = "SELECT digest, signer, ta, name, sequence, record, ciphertext, sealed, \
    availability, made_at, rule_number FROM release";
