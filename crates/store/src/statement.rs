//! Statements at the verify role: the last that passed of each certificate, and where each device
//! was last.

use tegata_authority::statement::{Before, Counted, Place};
use tegata_wire::ids::Ueid;

use crate::engine::params;
use crate::{StoreError, Tx};

/// Most certificates of a device whose numbers are kept, those seen last: as many as the CA shows.
const CERTIFICATES_MAX: i64 = 64;

/// What is remembered of a device and of one of its certificates, named by its SHA-256.
pub fn before(tx: &Tx<'_>, ueid: &Ueid, certificate: &[u8; 32]) -> Result<Before, StoreError> {
    let counted = tx.query_opt(
        "SELECT number, made_at, seen_at FROM statement_counted \
         WHERE ueid = ?1 AND certificate = ?2",
        params![ueid.as_bytes(), certificate],
        |r| {
            let (number, made_at, seen_at) = (r.get::<i64>(0)?, r.get(1)?, r.get::<i64>(2)?);
            Ok((number, made_at, seen_at))
        },
    )?;
    let place = tx.query_opt(
        "SELECT latitude, longitude, accuracy, made_at, seen_at FROM statement_place \
         WHERE ueid = ?1",
        params![ueid.as_bytes()],
        |r| {
            let place = (r.get(0)?, r.get(1)?, r.get(2)?);
            Ok((place, r.get(3)?, r.get::<i64>(4)?))
        },
    )?;
    Ok(Before {
        counted: counted
            .map(|(number, made_at, seen_at)| {
                Ok::<_, StoreError>(Counted {
                    number: whole(number)?,
                    made_at,
                    seen_at: whole(seen_at)?,
                })
            })
            .transpose()?,
        place: place
            .map(|((latitude, longitude, accuracy), made_at, seen_at)| {
                Ok::<_, StoreError>(Place {
                    latitude,
                    longitude,
                    accuracy,
                    made_at,
                    seen_at: whole(seen_at)?,
                })
            })
            .transpose()?,
    })
}

/// Records what [`Before::after`] gave for a statement that passed. Without a place the last one
/// stays.
///
/// # Errors
/// The store's failure; `Unreadable` for a number above 2^63, which no device reaches by counting.
pub fn put(
    tx: &Tx<'_>,
    ueid: &Ueid,
    certificate: &[u8; 32],
    after: &Before,
) -> Result<(), StoreError> {
    if let Some(last) = after.counted {
        tx.execute(
            "INSERT INTO statement_counted(ueid, certificate, number, made_at, seen_at) \
             VALUES (?1,?2,?3,?4,?5) ON CONFLICT(ueid, certificate) DO UPDATE SET \
             number = ?3, made_at = ?4, seen_at = ?5",
            params![
                ueid.as_bytes(),
                certificate,
                stored(last.number)?,
                last.made_at,
                stored(last.seen_at)?
            ],
        )?;
        tx.execute(
            "DELETE FROM statement_counted WHERE ueid = ?1 AND certificate NOT IN (\
               SELECT certificate FROM statement_counted WHERE ueid = ?1 \
               ORDER BY certificate = ?2 DESC, seen_at DESC LIMIT ?3)",
            params![ueid.as_bytes(), certificate, CERTIFICATES_MAX],
        )?;
    }
    if let Some(place) = after.place {
        tx.execute(
            "INSERT INTO statement_place(ueid, latitude, longitude, accuracy, made_at, seen_at) \
             VALUES (?1,?2,?3,?4,?5,?6) ON CONFLICT(ueid) DO UPDATE SET latitude = ?2, \
             longitude = ?3, accuracy = ?4, made_at = ?5, seen_at = ?6",
            params![
                ueid.as_bytes(),
                place.latitude,
                place.longitude,
                place.accuracy,
                place.made_at,
                stored(place.seen_at)?
            ],
        )?;
    }
    Ok(())
}

/// Forgets where and when a device was last, and with `numbers` how far its keys have counted.
/// Says whether there was anything.
///
/// # Errors
/// The store's failure.
pub fn forget(tx: &Tx<'_>, ueid: &Ueid, numbers: bool) -> Result<bool, StoreError> {
    let place = tx.execute(
        "DELETE FROM statement_place WHERE ueid = ?1",
        params![ueid.as_bytes()],
    )?;
    let counted = if numbers {
        tx.execute(
            "DELETE FROM statement_counted WHERE ueid = ?1",
            params![ueid.as_bytes()],
        )?
    } else {
        // The numbers stay; the times beside them may be what keeps the device out.
        tx.execute(
            "UPDATE statement_counted SET made_at = ?2 WHERE ueid = ?1",
            params![ueid.as_bytes(), i64::MIN],
        )?
    };
    Ok(place > 0 || counted > 0)
}

fn whole(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Unreadable {
        record: "statement",
    })
}

fn stored(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Unreadable {
        record: "statement",
    })
}
