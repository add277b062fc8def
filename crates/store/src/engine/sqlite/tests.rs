//! What shares a commit, and what does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Tests.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::super::params;
use super::*;
use crate::{NoFaults, When};

struct World {
    dir: tempfile::TempDir,
    writer: Arc<Writer>,
    commits: Arc<AtomicUsize>,
    /// Makes the next commit fail.
    refuse: Arc<AtomicBool>,
}

impl World {
    fn new() -> Self {
        Self::open_for(writer::OPEN_MAX)
    }

    /// Where nobody is hurried, on however slow a machine.
    fn patient() -> Self {
        Self::open_for(Duration::from_secs(3_600))
    }

    fn open_for(open_max: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        let mut conn = connect(&path, true).unwrap();
        configure(&path, &conn).unwrap();
        conn.execute_batch("CREATE TABLE t(n INTEGER PRIMARY KEY) STRICT")
            .unwrap();
        let (commits, refuse) = (Arc::default(), Arc::default());
        let (counted, refused) = (Arc::clone(&commits), Arc::clone(&refuse));
        conn.commit_hook(Some(move || {
            AtomicUsize::fetch_add(&counted, 1, Ordering::SeqCst);
            AtomicBool::swap(&refused, false, Ordering::SeqCst)
        }))
        .unwrap();
        Self {
            writer: Arc::new(Writer::new(&path, conn, open_max)),
            dir,
            commits,
            refuse,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("t.db")
    }

    /// What another process sees.
    fn durable(&self) -> Vec<i64> {
        let conn = Connection::open(self.path()).unwrap();
        let mut rows = conn.prepare("SELECT n FROM t ORDER BY n").unwrap();
        let rows = rows.query_map([], |r| r.get(0)).unwrap();
        rows.map(std::result::Result::unwrap).collect()
    }

    /// Writes a number and waits for nothing.
    fn hold(&self, n: usize) -> Commit {
        let held = self.writer.write_held("t", &NoFaults, &mut |tx| put(tx, n));
        held.unwrap().unwrap()
    }

    /// Writes 0 in a transaction that stays open until `others` are on their way into it, each with
    /// its number from 1 on. Returns what each heard, the first one's first.
    fn together(
        &self,
        others: usize,
        work: impl Fn(&Tx<'_>, usize) -> bool + Sync,
    ) -> Vec<std::result::Result<(), StoreError>> {
        let begun = Barrier::new(others + 1);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=others)
                .map(|n| {
                    let (begun, work) = (&begun, &work);
                    scope.spawn(move || {
                        begun.wait();
                        self.writer.write("t", &NoFaults, &mut |tx| work(tx, n))
                    })
                })
                .collect();
            let first = self.writer.write("t", &NoFaults, &mut |tx| {
                begun.wait();
                while self.writer.coming() < others {
                    std::thread::yield_now();
                }
                put(tx, 0)
            });
            let others = threads.into_iter().map(|t| match t.join() {
                Ok(said) => said,
                Err(_panic) => Err(StoreError::Poisoned),
            });
            [first].into_iter().chain(others).collect()
        })
    }
}

fn put(tx: &Tx<'_>, n: usize) -> bool {
    let n = i64::try_from(n).unwrap();
    tx.execute("INSERT INTO t(n) VALUES (?1)", params![n])
        .unwrap();
    true
}

#[test]
fn callers_of_one_moment_share_a_commit() {
    let world = World::new();
    for said in world.together(16, put) {
        said.unwrap();
    }
    assert_eq!(world.durable(), (0..=16).collect::<Vec<_>>());
    // Nothing keeps seventeen callers from being more than one batch on a slow machine, but the time
    // that a batch is open for.
    let commits = world.commits.load(Ordering::SeqCst);
    assert!(commits < 17, "{commits} commits");
}

#[test]
fn who_fails_undoes_its_own_work_alone() {
    let world = World::new();
    let said = world.together(8, |tx, n| put(tx, n) && n % 2 == 0);
    assert!(said.iter().all(std::result::Result::is_ok));
    assert_eq!(world.durable(), vec![0, 2, 4, 6, 8]);
}

#[test]
fn who_panics_undoes_its_own_work_alone_and_the_next_one_is_served() {
    let world = World::new();
    std::thread::scope(|scope| {
        let panics = scope.spawn(|| {
            world.writer.write("t", &NoFaults, &mut |tx| {
                put(tx, 7);
                panic!("a bug")
            })
        });
        assert!(panics.join().is_err());
    });
    world
        .writer
        .write("t", &NoFaults, &mut |tx| put(tx, 8))
        .unwrap();
    let said = world.together(4, |tx, n| put(tx, n) && (n != 3 || panic!("a bug")));
    let failed: Vec<_> = said.iter().map(std::result::Result::is_err).collect();
    assert_eq!(failed, vec![false, false, false, true, false]);
    assert_eq!(world.durable(), vec![0, 1, 2, 4, 8]);
}

#[test]
fn a_commit_that_fails_is_told_to_everyone_in_it_and_nothing_of_it_stays() {
    let world = World::new();
    world.refuse.store(true, Ordering::SeqCst);
    let said = world.together(4, put);
    let heard: Vec<i64> = (0_i64..)
        .zip(&said)
        .filter(|(_, said)| said.is_ok())
        .map(|(n, _)| n)
        .collect();
    assert!(said.first().unwrap().is_err(), "the first one is in it");
    assert_eq!(world.durable(), heard, "who heard nothing bad is there");
    world
        .writer
        .write("t", &NoFaults, &mut |tx| put(tx, 9))
        .unwrap();
    assert!(world.durable().contains(&9));
}

#[test]
fn who_only_looked_hears_of_the_failure_too() {
    let world = World::new();
    world.refuse.store(true, Ordering::SeqCst);
    // Refused by what the first one wrote, which never was.
    let said = world.together(1, |_, _| false);
    assert!(said.iter().all(std::result::Result::is_err), "{said:?}");
    assert!(world.durable().is_empty());
}

#[test]
fn a_full_disk_in_a_batch_is_told_to_everyone_whom_it_undid() {
    let world = World::new();
    world
        .writer
        .between("t", |conn| {
            conn.execute_batch("CREATE TABLE big(b BLOB) STRICT; PRAGMA max_page_count=20")
        })
        .unwrap();
    let said = world.together(6, |tx, n| match n {
        3 => tx
            .execute("INSERT INTO big VALUES (?1)", params![vec![7_u8; 1 << 20]])
            .is_ok(),
        n => put(tx, n),
    });
    let heard: Vec<i64> = (0_i64..)
        .zip(&said)
        .filter(|(n, said)| *n != 3 && said.is_ok())
        .map(|(n, _)| n)
        .collect();
    assert_eq!(world.durable(), heard);
    for e in said.into_iter().filter_map(std::result::Result::err) {
        assert_eq!(e.code(), "store-full", "{e}");
    }
}

#[test]
fn a_stop_before_the_commit_leaves_nothing_and_one_after_it_everything() {
    struct Stop(When);
    impl Faults for Stop {
        fn reach(&self, step: &'static str, when: When) -> std::result::Result<(), StoreError> {
            match when == self.0 {
                true => Err(StoreError::Stopped {
                    step,
                    when: when.as_str(),
                }),
                false => Ok(()),
            }
        }
    }
    let world = World::new();
    for (n, when) in [(1, When::Before), (2, When::After)] {
        let said = world.writer.write("t", &Stop(when), &mut |tx| put(tx, n));
        assert_eq!(said.unwrap_err().code(), "store-stopped");
    }
    assert_eq!(world.durable(), vec![2]);
}

/// What is told of held commits, and a runtime to tell it on.
struct Told {
    runtime: tokio::runtime::Runtime,
    tell: std::sync::mpsc::Sender<usize>,
    told: std::sync::mpsc::Receiver<usize>,
}

impl Told {
    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let (tell, told) = std::sync::mpsc::channel();
        Self {
            runtime: builder.worker_threads(1).enable_all().build().unwrap(),
            tell,
            told,
        }
    }

    /// Tells that number once the commit has ended.
    fn of(&self, commit: &Commit, n: usize) {
        let tell = self.tell.clone();
        let next = move || tell.send(n).unwrap();
        commit.ends().then(self.runtime.handle(), next);
    }

    fn next(&self) -> usize {
        self.told.recv_timeout(Duration::from_secs(20)).unwrap()
    }
}

#[test]
fn what_is_held_shares_a_commit_with_all_who_are_expected() {
    let (world, told) = (World::patient(), Told::new());
    let [first, second] = [(); 2].map(|()| Expected::at(&world.writer));
    for n in 0..3 {
        let commit = world.hold(n);
        assert!(commit.ends().is_to_come());
        told.of(&commit, n);
    }
    drop(first);
    assert_eq!(world.durable(), Vec::<i64>::new(), "one is expected still");
    drop(second);
    assert_eq!(world.durable(), vec![0, 1, 2]);
    assert_eq!(world.commits.load(Ordering::SeqCst), 1);
    assert_eq!([told.next(), told.next(), told.next()], [0, 1, 2]);
    // Nobody is expected: at once.
    world.hold(3);
    assert_eq!(world.durable(), vec![0, 1, 2, 3]);
}

#[test]
fn who_is_expected_and_does_not_come_is_not_waited_for() {
    let (world, told) = (World::new(), Told::new());
    let stuck = Expected::at(&world.writer);
    told.of(&world.hold(1), 1);
    assert_eq!(told.next(), 1);
    assert_eq!(world.durable(), vec![1]);
    // Nor is it by who waits on a thread, beside others' held work or for their own.
    let held = world.hold(2);
    let wrote = world.writer.write("t", &NoFaults, &mut |tx| put(tx, 3));
    wrote.unwrap();
    assert_eq!(world.durable(), vec![1, 2, 3]);
    held.wait(&NoFaults).unwrap();
    world.hold(4).wait(&NoFaults).unwrap();
    assert_eq!(world.durable(), vec![1, 2, 3, 4]);
    drop(stuck);
}

#[test]
fn a_commit_that_fails_is_told_to_all_that_is_held() {
    let (world, told) = (World::patient(), Told::new());
    let coming = Expected::at(&world.writer);
    let held = [1, 2].map(|n| {
        let commit = world.hold(n);
        told.of(&commit, n);
        commit
    });
    // Who is refused because of what they wrote has to hear it, too.
    let looked = world.writer.write_held("t", &NoFaults, &mut |_| false);
    world.refuse.store(true, Ordering::SeqCst);
    drop(coming);
    assert_eq!([told.next(), told.next()], [1, 2]);
    for commit in held.iter().chain(&looked.unwrap()) {
        assert!(commit.wait(&NoFaults).is_err());
    }
    assert!(world.durable().is_empty());
}

#[test]
fn held_work_that_fails_or_panics_undoes_itself_alone() {
    let world = World::patient();
    let coming = Expected::at(&world.writer);
    let first = world.hold(1);
    let panics = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let work = &mut |tx: &Tx<'_>| put(tx, 2) && panic!("a bug");
        world.writer.write_held("t", &NoFaults, work).map(drop)
    }));
    assert!(panics.is_err());
    let undone = world.writer.write_held("t", &NoFaults, &mut |tx| {
        put(tx, 3);
        false
    });
    drop(coming);
    first.wait(&NoFaults).unwrap();
    undone.unwrap().unwrap().wait(&NoFaults).unwrap();
    assert_eq!(world.durable(), vec![1]);
}

#[test]
fn held_and_waiting_callers_of_many_threads_lose_nothing_and_nobody_waits_for_ever() {
    let (world, told) = (World::patient(), Told::new());
    const EACH: usize = 200;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (world, tell) = (&world, told.tell.clone());
            let on = told.runtime.handle();
            scope.spawn(move || {
                for n in (0..EACH).map(|n| thread * EACH + n) {
                    let mut coming = Some(Expected::at(&world.writer));
                    if n % 7 == 0 {
                        // It comes, and does not write.
                        coming = None;
                    }
                    let done = match n % 5 {
                        0 => {
                            let put = &mut |tx: &Tx<'_>| put(tx, n);
                            world.writer.write("t", &NoFaults, put).unwrap();
                            tell.send(n).unwrap();
                            continue;
                        }
                        _ => world.hold(n),
                    };
                    drop(coming);
                    let tell = tell.clone();
                    done.ends().then(on, move || tell.send(n).unwrap());
                }
            });
        }
    });
    let mut all: Vec<_> = (0..4 * EACH).map(|_| told.next()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..4 * EACH).collect::<Vec<_>>());
    assert_eq!(world.durable().len(), 4 * EACH);
}

#[test]
fn nobody_is_kept_out_while_nobody_writes() {
    let world = World::new();
    world
        .writer
        .write("t", &NoFaults, &mut |tx| put(tx, 1))
        .unwrap();
    let other = Connection::open(world.path()).unwrap();
    other.busy_timeout(Duration::ZERO).unwrap();
    other
        .execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2); COMMIT")
        .unwrap();
    world
        .writer
        .write("t", &NoFaults, &mut |tx| put(tx, 3))
        .unwrap();
    assert_eq!(world.durable(), vec![1, 2, 3]);
}

#[test]
fn another_process_gets_its_turn_while_commits_never_stop() {
    let world = World::new();
    let (over, next) = (AtomicBool::new(false), AtomicUsize::new(100));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    let put = &mut |tx: &Tx<'_>| put(tx, n);
                    world.writer.write("t", &NoFaults, put).unwrap();
                }
            });
        }
        let other = connect(&world.path(), false).unwrap();
        let said: Vec<_> = (0..10)
            .map(|n| {
                std::thread::sleep(Duration::from_millis(20));
                let sql = format!("BEGIN IMMEDIATE; INSERT INTO t VALUES ({n}); COMMIT");
                other.execute_batch(&sql)
            })
            .collect();
        over.store(true, Ordering::SeqCst);
        assert!(said.iter().all(std::result::Result::is_ok), "{said:?}");
    });
    assert_eq!(world.durable()[..10], (0..10).collect::<Vec<_>>());
}

#[test]
fn what_waited_while_another_process_held_the_file_does_not_wait_one_after_the_other() {
    let world = World::new();
    let other = Connection::open(world.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let world = &world;
            scope.spawn(move || {
                let put = &mut |tx: &Tx<'_>| put(tx, n);
                let said = world.writer.write("t", &NoFaults, put);
                assert_eq!(said.unwrap_err().code(), "store-locked");
            });
        }
    });
    // One wait, not eight.
    assert!(begun.elapsed() < BUSY_WAIT * 4, "{:?}", begun.elapsed());
}

#[test]
fn what_goes_on_after_a_failure_that_undid_it_changes_nothing() {
    let world = World::new();
    let said = world.writer.write("t", &NoFaults, &mut |tx| {
        put(tx, 1);
        let On::Sqlite { conn, .. } = &tx.on else {
            return false;
        };
        // As a full disk does.
        conn.execute_batch("ROLLBACK").unwrap();
        tx.execute("INSERT INTO t(n) VALUES (2)", params![]).is_ok()
    });
    said.unwrap();
    assert_eq!(world.durable(), Vec::<i64>::new());
}

#[test]
fn the_log_stays_bounded_while_commits_and_views_never_stop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let engine = Sqlite::open(&path).unwrap();
    let body = vec![7_u8; 1 << 20];
    let (longest, left) = (AtomicUsize::new(0), AtomicUsize::new(2));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            // One of them sees something at every moment.
            scope.spawn(|| {
                while left.load(Ordering::SeqCst) > 0 {
                    let look = |tx: &Tx<'_>| {
                        crate::keys::document(tx, "0 1").unwrap();
                        std::thread::sleep(Duration::from_millis(4));
                    };
                    engine.read("t", &mut { look }).unwrap();
                }
            });
        }
        for thread in 0..2 {
            let (engine, body, longest, path) = (&engine, &body, &longest, &path);
            let left = &left;
            scope.spawn(move || {
                for n in 0..150 {
                    let name = format!("{thread} {}", n % 8);
                    let write = |tx: &Tx<'_>| crate::keys::put_document(tx, &name, body, 1).is_ok();
                    engine.write("t", &NoFaults, &mut { write }).unwrap();
                    let log = std::fs::metadata(path.with_extension("db-wal")).unwrap();
                    let len = usize::try_from(log.len()).unwrap();
                    longest.fetch_max(len, Ordering::SeqCst);
                }
                left.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    let longest = longest.load(Ordering::SeqCst);
    // 300 MB were written.
    assert!(longest < 200 << 20, "the log grew to {longest} bytes");
}

/// Whoever copies the file of a role that was stopped has all of it.
#[test]
fn a_file_that_was_closed_has_everything_in_it() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..40 {
        let path = dir.path().join(format!("{n}.db"));
        let engine = Sqlite::open(&path).unwrap();
        let write = |tx: &Tx<'_>| crate::keys::put_document(tx, "d", b"x", 1).is_ok();
        engine.write("t", &NoFaults, &mut { write }).unwrap();
        let look = |tx: &Tx<'_>| drop(crate::keys::document(tx, "d").unwrap());
        engine.read("t", &mut { look }).unwrap();
        drop(engine);
        assert!(
            !path.with_extension("db-wal").exists(),
            "the log of {n} is left"
        );
    }
}

#[test]
fn damage_is_found_before_a_large_file_is_served_from_where_it_is_soon_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(
        "CREATE TABLE small(n INTEGER PRIMARY KEY, body); CREATE TABLE large(n INTEGER PRIMARY KEY, body);
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 12000)
           INSERT INTO large SELECT n, randomblob(40) FROM i;
         INSERT INTO small SELECT n, body FROM large WHERE n < 500;",
    )
    .unwrap();
    let root = |table: &str| {
        let sql =
            format!("SELECT max(pageno) FROM dbstat WHERE name = '{table}' AND pagetype = 'leaf'");
        let page: i64 = conn.query_row(&sql, [], |r| r.get(0)).unwrap();
        u64::try_from(page).unwrap()
    };
    let (small, large) = (root("small"), root("large"));
    drop(conn);
    let check = |whole_max| {
        let conn = Connection::open(&path).unwrap();
        check_integrity(&path, &conn, whole_max).map_err(|e| e.code())
    };
    let damage = |page: u64| {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[0xff; 64], (page - 1) * 4096).unwrap();
    };
    assert_eq!((check(u64::MAX), check(0)), (Ok(()), Ok(())));
    damage(large);
    assert_eq!((check(u64::MAX), check(0)), (Err("store-damaged"), Ok(())));
    damage(small);
    assert_eq!(check(0), Err("store-damaged"));
}

/// How many callers a second are served, by how many there are: `cargo test -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn measure() {
    for threads in [1_usize, 4, 16, 64] {
        let world = World::new();
        let (begun, done) = (Instant::now(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while begun.elapsed() < Duration::from_secs(2) {
                        let n = done.fetch_add(1, Ordering::SeqCst);
                        world
                            .writer
                            .write("t", &NoFaults, &mut |tx| put(tx, n))
                            .unwrap();
                    }
                });
            }
        });
        let (done, commits) = (done.into_inner(), world.commits.load(Ordering::SeqCst));
        println!(
            "{threads} callers: {} a second, {commits} commits",
            done / 2
        );
    }
}
