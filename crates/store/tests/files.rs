//! Stores in files: what is told about one that cannot be used, what stays untouched, and what is left of
//! one whose process was killed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use common::Seeded;
use tegata_crypto::Rng as _;
use tegata_store::{Store, StoreError, Tx, keys};

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

/// Threads that write at once, and the pages in the log from which on it is moved: two commits of theirs.
const WRITERS: u8 = 4;
const LOG_PAGES: i32 = 8;

/// What the n-th commit of a thread is: two documents that no other has, and one that it changes.
fn documents(of: &str, n: u64) -> [(String, Vec<u8>); 3] {
    let body = format!("{of} {n} ").repeat(400).into_bytes();
    [
        (format!("{of} {n} a"), body.clone()),
        (format!("{of} {n} b"), body),
        (format!("{of} last"), n.to_string().into_bytes()),
    ]
}

#[test]
fn a_process_that_is_killed_at_any_moment_loses_nothing_that_it_told_of() {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = u64::try_from(since.unwrap().as_nanos() & u128::from(u64::MAX)).unwrap();
    println!("seed {seed}");
    let mut rng = Seeded(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.db");
    drop(Store::open(&path).unwrap());
    let length = || std::fs::metadata(&path).unwrap().len();
    let (mut told, mut moved) = (Vec::new(), 0);
    for round in 0..12 {
        let before = length();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes", "--ignored", "--nocapture"])
            .env("TEGATA_TEST_DB", &path)
            .env("TEGATA_TEST_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines
            .map(Result::unwrap)
            .filter(|line| line.starts_with("told "));
        told.push(lines.next().unwrap());
        let mut random = [0; 4];
        rng.fill(&mut random).unwrap();
        std::thread::sleep(Duration::from_micros(
            u64::from(u32::from_be_bytes(random)) % 100_000,
        ));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        // What it had said until then.
        told.extend(lines);
        moved += usize::from(length() > before);
        // The next process is the program's own, which mends what there is to mend.
        let store = Store::open(&path).unwrap();
        let find = |name: &str| store.read("t", |tx| keys::document(tx, name)).unwrap();
        for line in &told {
            let words: Vec<&str> = line.split(' ').collect();
            let (of, n) = (words[1], words[2].parse().unwrap());
            let [a, b, last] = documents(of, n);
            for (name, body) in [a, b] {
                assert!(find(&name) == Some(body), "{name} is lost");
            }
            let found = String::from_utf8(find(&last.0).unwrap()).unwrap();
            let found: u64 = found.parse().unwrap();
            // One that nobody heard of may be there too, and then all of it.
            assert!(found >= n, "{line}: {found}");
            let [a, b, _] = documents(of, found);
            assert!(find(&a.0) == Some(a.1) && find(&b.0) == Some(b.1));
            assert!(find(&format!("{of} {} a", found + 1)).is_none());
            assert!(find(&format!("{of} {} b", found + 1)).is_none());
        }
        drop(store);
        let conn = rusqlite::Connection::open(&path).unwrap();
        let said = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0));
        assert_eq!(said, Ok("ok".to_owned()));
    }
    assert!(moved > 0, "no log was moved before its process was killed");
    println!(
        "{} commits told of, logs moved in {moved} lives",
        told.len()
    );
}

/// Run by the test above in a process of its own, which never ends.
#[test]
#[ignore = "a child process of a_process_that_is_killed_at_any_moment_loses_nothing_that_it_told_of"]
fn child_that_writes() {
    let var = |name: &str| std::env::var(name).unwrap();
    let store = Store::open(var("TEGATA_TEST_DB")).unwrap();
    store.dangerous_checkpoint_at(LOG_PAGES).unwrap();
    let round = var("TEGATA_TEST_ROUND");
    // The harness has begun a line.
    println!();
    std::thread::scope(|scope| {
        for thread in 0..WRITERS {
            let (store, of) = (&store, format!("{round}-{thread}"));
            scope.spawn(move || {
                for n in 0.. {
                    let put = |tx: &Tx<'_>| {
                        let all = documents(&of, n);
                        let mut all = all.iter();
                        all.try_for_each(|(name, body)| keys::put_document(tx, name, body, 1))
                    };
                    store.run_tx("t", put).unwrap();
                    println!("told {of} {n}");
                }
            });
        }
    });
}
