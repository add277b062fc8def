//! What the verify role remembers, and that an older store is brought up to it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Helpers of tests.

#[path = "common/place.rs"]
#[allow(dead_code)]
mod at;
#[path = "common/undo.rs"]
mod undo;

use at::{on_files, open_store};
use tegata_authority::statement::{Before, Counted, Place};
use tegata_store::{Store, StoreError, statement};
use tegata_wire::ids::Ueid;

const A: [u8; 32] = [0xa; 32];
const B: [u8; 32] = [0xb; 32];

fn counted(number: u64, seen_at: u64) -> Option<Counted> {
    let made_at = 1_000;
    Some(Counted {
        number,
        made_at,
        seen_at,
    })
}

fn place(seen_at: u64) -> Option<Place> {
    Some(Place {
        latitude: 35.5,
        longitude: 139.25,
        accuracy: 4.0,
        made_at: 1_000,
        seen_at,
    })
}

fn read(store: &Store, ueid: &Ueid, certificate: &[u8; 32]) -> Before {
    let found = store.read("t", |tx| statement::before(tx, ueid, certificate));
    found.unwrap()
}

#[test]
fn numbers_are_kept_by_certificate_and_places_by_device() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path().join("verify.db")).unwrap();
    let (one, other) = (Ueid::from_random([1; 16]), Ueid::from_random([2; 16]));
    assert_eq!(read(&store, &one, &A), Before::default());
    let put = |certificate: &[u8; 32], counted, place| {
        let after = Before { counted, place };
        let done = store.run_tx("t", |tx| statement::put(tx, &one, certificate, &after));
        done.unwrap();
    };
    put(&A, counted(9, 5), place(5));
    put(&B, counted(1, 6), None);
    let of_a = read(&store, &one, &A);
    assert_eq!((of_a.counted, of_a.place), (counted(9, 5), place(5)));
    let of_b = read(&store, &one, &B);
    assert_eq!((of_b.counted, of_b.place), (counted(1, 6), place(5)));
    put(&A, counted(10, 7), place(7));
    assert_eq!(read(&store, &one, &B).place, place(7));
    assert_eq!(read(&store, &other, &A), Before::default());
    // As many as the CA shows, the last ones.
    for n in 100..=170u8 {
        put(&[n; 32], counted(1, n.into()), None);
    }
    assert_eq!(read(&store, &one, &A).counted, None);
    assert_eq!(read(&store, &one, &[106; 32]).counted, None);
    assert!(read(&store, &one, &[107; 32]).counted.is_some());
    // A clock that was set back makes nothing of what was just seen the oldest.
    put(&A, counted(11, 0), None);
    assert_eq!(read(&store, &one, &A).counted, counted(11, 0));
}

#[test]
fn an_operator_can_have_a_device_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path().join("verify.db")).unwrap();
    let ueid = Ueid::from_random([1; 16]);
    let forget = |numbers| {
        let done = store.run_tx("t", |tx| statement::forget(tx, &ueid, numbers));
        done.unwrap()
    };
    assert!(!forget(true));
    let after = Before {
        counted: counted(9, 5),
        place: place(5),
    };
    store
        .run_tx("t", |tx| statement::put(tx, &ueid, &A, &after))
        .unwrap();
    assert!(forget(false));
    let left = read(&store, &ueid, &A);
    assert_eq!(left.place, None);
    let number = left.counted.unwrap();
    assert_eq!((number.number, number.made_at), (9, i64::MIN));
    assert!(forget(true));
    assert_eq!(read(&store, &ueid, &A), Before::default());
}

#[test]
fn places_of_an_older_store_stay() {
    if !on_files("no older version had a database") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("verify.db");
    drop(open_store(&path).unwrap());
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.execute_batch(undo::FROM_STEP_5).unwrap();
    sql.execute_batch(
        "DROP TABLE statement_counted; DROP TABLE statement_place; \
         DELETE FROM migration WHERE version >= 4; \
         CREATE TABLE statement_last(\
           ueid BLOB PRIMARY KEY, number INTEGER NOT NULL, made_at INTEGER NOT NULL, \
           latitude REAL, longitude REAL, accuracy REAL, seen_at INTEGER NOT NULL\
         ) STRICT, WITHOUT ROWID;",
    )
    .unwrap();
    let (there, nowhere) = (Ueid::from_random([1; 16]), Ueid::from_random([2; 16]));
    sql.execute(
        "INSERT INTO statement_last VALUES (?1, 7, 999, 35.5, 139.25, 4.0, 5), \
         (?2, 8, 999, NULL, NULL, NULL, 5)",
        rusqlite::params![there.as_bytes(), nowhere.as_bytes()],
    )
    .unwrap();
    drop(sql);
    let store = open_store(&path).unwrap();
    let found = read(&store, &there, &A);
    // A second on: the statement itself does not pass again, whose number has no certificate.
    assert_eq!((found.counted, found.place), (None, place(5)));
    assert_eq!(read(&store, &nowhere, &A), Before::default());
    drop(store);
    let again: Result<Store, StoreError> = open_store(&path);
    assert!(again.is_ok(), "brought up once");
}
