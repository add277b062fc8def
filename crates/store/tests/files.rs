//! What is told about a store that cannot be used, and what stays untouched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

use std::path::Path;

use tegata_store::{Store, StoreError, keys};

fn open_error(path: &Path) -> (StoreError, String) {
    let e = Store::open(path).expect_err("the store was opened");
    let text = e.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(
        text.contains("; "),
        "says what happened and how to mend it: {text}"
    );
    (e, text)
}

#[test]
fn a_new_store_is_made_for_its_owner_alone_and_opens_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.db");
    let store = Store::open(&path).unwrap();
    let write = |tx: &tegata_store::Tx<'_>| keys::put_document(tx, "手形", b"body", 1);
    store.run_tx("t", write).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    drop(store);
    let store = Store::open(&path).unwrap();
    let found = store.read("t", |tx| keys::document(tx, "手形")).unwrap();
    assert_eq!(found.as_deref(), Some(b"body".as_slice()));
    let copy = dir.path().join("copy.db");
    store.backup(&copy).unwrap();
    assert!(
        store.backup(&copy).is_err(),
        "a backup is never overwritten"
    );
    let copied = Store::open(&copy).unwrap();
    assert!(
        copied
            .read("t", |tx| keys::document(tx, "手形"))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_failed_transaction_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("ca.db")).unwrap();
    let failed: Result<(), StoreError> = store.run_tx("t", |tx| {
        keys::put_document(tx, "half", b"x", 1)?;
        Err(StoreError::Unreadable { record: "test" })
    });
    assert!(failed.is_err());
    assert!(
        store
            .read("t", |tx| keys::document(tx, "half"))
            .unwrap()
            .is_none()
    );
    // A reader cannot write.
    let e = store.read("t", |tx| keys::put_document(tx, "r", b"x", 1));
    drop(e);
    assert!(
        store
            .read("t", |tx| keys::document(tx, "r"))
            .unwrap()
            .is_none()
    );
}

#[test]
fn missing_directory_foreign_file_and_directory_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (e, _) = open_error(&dir.path().join("no/such/ca.db"));
    assert_eq!(e.code(), "store-not-accessible");
    let text = dir.path().join("notes.txt");
    std::fs::write(
        &text,
        "not a database, but long enough to be looked at ".repeat(40),
    )
    .unwrap();
    assert_eq!(open_error(&text).0.code(), "store-not-ours");
    assert!(
        std::fs::read_to_string(&text)
            .unwrap()
            .starts_with("not a database")
    );
    // Somebody else's database.
    let foreign = dir.path().join("foreign.db");
    let conn = rusqlite::Connection::open(&foreign).unwrap();
    conn.execute_batch("CREATE TABLE theirs(x)").unwrap();
    drop(conn);
    assert_eq!(open_error(&foreign).0.code(), "store-not-ours");
}

#[test]
fn a_newer_schema_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.db");
    drop(Store::open(&path).unwrap());
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute("INSERT INTO migration VALUES (99, 'from the future')", [])
        .unwrap();
    drop(conn);
    let (e, text) = open_error(&path);
    assert_eq!(e.code(), "store-newer");
    assert!(text.contains("schema 99"), "{text}");
}

#[test]
fn damage_is_found_at_opening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.db");
    let store = Store::open(&path).unwrap();
    for i in 0..200 {
        let body = vec![7u8; 3000];
        store
            .run_tx("t", |tx| keys::put_document(tx, &format!("d{i}"), &body, 1))
            .unwrap();
    }
    drop(store);
    // Fold the log into the file, then write over pages in the middle.
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    drop(conn);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle - 8192..middle + 8192].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    let (e, text) = open_error(&path);
    assert_eq!(e.code(), "store-damaged", "{text}");
    assert!(text.contains("backup"));
}

#[test]
fn a_store_held_by_another_process_is_told_and_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.db");
    let store = Store::open(&path).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let e = store
        .run_tx("t", |tx| keys::put_document(tx, "x", b"x", 1))
        .unwrap_err();
    assert_eq!(e.code(), "store-locked");
    assert!(e.is_retryable());
    other.execute_batch("ROLLBACK").unwrap();
    store
        .run_tx("t", |tx| keys::put_document(tx, "x", b"x", 1))
        .unwrap();
}

#[test]
fn a_full_disk_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.db");
    let store = Store::open(&path).unwrap();
    store
        .run_tx("t", |tx| keys::put_document(tx, "before", b"x", 1))
        .unwrap();
    store.dangerous_limit_pages(60).unwrap();
    let big = vec![1u8; 1 << 20];
    let e = store
        .run_tx("t", |tx| keys::put_document(tx, "big", &big, 1))
        .unwrap_err();
    assert_eq!(e.code(), "store-full", "{e}");
    let found = |name: &'static str| store.read("t", |tx| keys::document(tx, name)).unwrap();
    assert!(found("before").is_some() && found("big").is_none());
}
