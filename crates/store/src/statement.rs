//! Statements at the verify role: the last one of each device that passed.

use rusqlite::params;
use tegata_authority::statement::Last;
use tegata_wire::ids::Ueid;

use crate::{StoreError, Tx};

/// The last statement of a device that passed.
pub fn last(tx: &Tx<'_>, ueid: &Ueid) -> Result<Option<Last>, StoreError> {
    let row = tx.query_opt(
        "SELECT number, made_at, latitude, longitude, accuracy FROM statement_last WHERE ueid = ?1",
        params![ueid.as_bytes()],
        |r| {
            let place: (Option<f64>, Option<f64>, Option<f64>) = (r.get(2)?, r.get(3)?, r.get(4)?);
            Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, place))
        },
    )?;
    row.map(|(number, made_at, place)| {
        let number = u64::try_from(number).map_err(|_| StoreError::Unreadable {
            record: "statement",
        })?;
        let place = match place {
            (Some(latitude), Some(longitude), Some(accuracy)) => {
                Some((latitude, longitude, accuracy))
            }
            _ => None,
        };
        Ok(Last {
            number,
            made_at,
            place,
        })
    })
    .transpose()
}

/// Records the statement of a device that passed as its last.
///
/// # Errors
/// The store's failure; `Unreadable` for a number above 2^63, which no device reaches by counting.
pub fn put(tx: &Tx<'_>, ueid: &Ueid, last: &Last, now_secs: i64) -> Result<(), StoreError> {
    let number = i64::try_from(last.number).map_err(|_| StoreError::Unreadable {
        record: "statement",
    })?;
    let (latitude, longitude, accuracy) = match last.place {
        Some((latitude, longitude, accuracy)) => (Some(latitude), Some(longitude), Some(accuracy)),
        None => (None, None, None),
    };
    tx.execute(
        "INSERT INTO statement_last(ueid, number, made_at, latitude, longitude, accuracy, seen_at) \
         VALUES (?1,?2,?3,?4,?5,?6,?7) ON CONFLICT(ueid) DO UPDATE SET number = ?2, made_at = ?3, \
         latitude = ?4, longitude = ?5, accuracy = ?6, seen_at = ?7",
        params![
            ueid.as_bytes(),
            number,
            last.made_at,
            latitude,
            longitude,
            accuracy,
            now_secs
        ],
    )
    .map(drop)
}
