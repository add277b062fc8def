//! Several processes share one store: none of them, and not the database under them, loses by its death
//! what was answered.
//!
//! On files too: two servers on one file are no way to run a CA, but a command beside a server is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use common::killer::{Killer, alone, as_application, back};
use common::place::{Sql, database, place};
use common::*;
use tegata_authority::ca::cmp::{CmpDenial, MacPolicy};
use tegata_authority::tam::availability::Availability;
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::{KeyAlg, PrivateKey};
use tegata_store::generation::{Kind, roll_over};
use tegata_store::issuer::{CmpOutcome, Issuer};
use tegata_store::role::Role;
use tegata_store::status::StatusSettings;
use tegata_store::{Faults, NoFaults, Store, StoreError, When, certificate, keys};

/// Certificates of a shard: few, so that shards end while nodes meet.
const SHARD: u32 = 7;

/// A CA on a store, as a process of its own would open it. Its signatures differ each time.
fn node(path: &Path, faults: Arc<dyn Faults>) -> Issuer {
    let role = Role {
        provider: Arc::new(AwsLc),
        ..role(path, faults)
    };
    let issuer = Issuer::open(role, profiles(), MacPolicy::default()).unwrap();
    issuer.with_status(StatusSettings {
        shard_size: SHARD,
        ..StatusSettings::default()
    })
}

/// A fleet, and requests of it, each of another key.
fn fleet(devices: usize, each: usize) -> (World, Vec<Vec<u8>>) {
    let mut world = World::new();
    let mut devices = world.batch("B1", devices);
    let cut = world.release(MODULE, false, Availability::Everybody);
    common::fleet::install(&mut world, &mut devices, cut.ta);
    let mut requests = Vec::new();
    for device in &devices {
        for n in 0..each {
            let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
            let n = u8::try_from(n).unwrap();
            requests.push(device.p10cr(&device.csr(&key), n));
        }
    }
    (world, requests)
}

/// Asks until there is an answer, as devices do; an error that is not of the moment ends the test.
fn ask(ca: &Issuer, request: &[u8], seed: u64) -> Vec<u8> {
    let mut rng = Seeded(seed << 20);
    let begun = Instant::now();
    loop {
        let answer = ca.cmp("device", request, &mut rng, NOW);
        match answer.outcome {
            CmpOutcome::Issued { certificate, .. } => return certificate,
            // What is not of the moment is no way to say "later".
            CmpOutcome::Denied(CmpDenial::Unavailable(code)) => {
                assert!(OF_THE_MOMENT.contains(&code), "{code}");
            }
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no answer");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Requests that threads ask one after the other, each once.
struct Work<'a> {
    requests: &'a [Vec<u8>],
    next: AtomicUsize,
    answered: Mutex<BTreeMap<usize, Vec<u8>>>,
}

impl<'a> Work<'a> {
    fn of(requests: &'a [Vec<u8>]) -> Self {
        Self {
            requests,
            next: AtomicUsize::new(0),
            answered: Mutex::default(),
        }
    }

    /// What one thread does of it, by a node.
    fn share(&self, node: &Issuer, thread: usize) {
        loop {
            let n = self.next.fetch_add(1, Ordering::SeqCst);
            let Some(request) = self.requests.get(n) else {
                return;
            };
            let cert = ask(node, request, (thread * 1_000 + n) as u64);
            self.answered.lock().unwrap().insert(n, cert);
        }
    }
}

/// What may be said while a database dies and comes back.
const OF_THE_MOMENT: [&str; 5] = [
    "store-unreachable",
    "store-unknown",
    "store-contended",
    "store-locked",
    "rollover",
];

/// Each request has one certificate, and it is `answered`; no shard has too many, or two issuers.
fn nothing_is_lost(ca: &Issuer, requests: &[Vec<u8>], answered: &BTreeMap<usize, Vec<u8>>) {
    for (n, request) in requests.iter().enumerate() {
        let now = ask(ca, request, 900 + n as u64);
        if let Some(before) = answered.get(&n) {
            assert_eq!(*before, now, "request {n} has another certificate now");
        }
    }
    let look = |tx: &tegata_store::Tx<'_>| {
        let all = certificate::list(tx, &[], 1000)?;
        Ok::<_, StoreError>((all, certificate::unfinished(tx)?))
    };
    let (all, unfinished) = ca.role().store.read("t", look).unwrap();
    assert_eq!((all.len(), unfinished.len()), (requests.len(), 0));
    let mut shards: BTreeMap<u64, (u32, BTreeSet<String>)> = BTreeMap::new();
    for row in all {
        let (count, issuers) = shards.entry(row.intent.shard).or_default();
        *count += 1;
        issuers.insert(row.intent.issuer);
    }
    for (shard, (count, issuers)) in &shards {
        assert!(*count <= SHARD, "shard {shard} has {count}");
        assert_eq!(issuers.len(), 1, "shard {shard}");
    }
}

/// The child process below, on the requests in `dir`.
fn spawn(dir: &Path, name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_issues", "--ignored", "--nocapture"])
        .env("TEGATA_TEST_DIR", dir)
        .env("TEGATA_TEST_NODE", name)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Hears which requests were answered, until `enough` or the end.
fn hear(child: &mut Child, enough: usize) -> usize {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let told = lines.map_while(Result::ok);
    let told = told.filter(|line| line.starts_with("told "));
    told.take(enough).count()
}

#[test]
fn a_node_that_is_killed_under_load_loses_nothing_that_it_answered() {
    let _alone = alone();
    let (world, requests) = fleet(12, 5);
    let dir = world.dir.path();
    for (n, request) in requests.iter().enumerate() {
        std::fs::write(dir.join(format!("request-{n}")), request).unwrap();
    }
    // Both answer all of it, from both ends; one is killed, started again, and killed again.
    let mut stays = spawn(dir, "up");
    for part in [4, 9] {
        let mut dies = spawn(dir, "down");
        assert_eq!(hear(&mut dies, part), part);
        // SIGKILL, in the middle of whatever it does.
        dies.kill().unwrap();
        dies.wait().unwrap();
    }
    assert_eq!(hear(&mut stays, usize::MAX), requests.len());
    assert!(stays.wait().unwrap().success());
    let mut answered = BTreeMap::new();
    for name in ["up", "down"] {
        for n in 0..requests.len() {
            if let Ok(cert) = std::fs::read(dir.join(format!("answer-{name}-{n}"))) {
                let other = answered.insert(n, cert.clone());
                assert!(other.is_none_or(|other| other == cert), "request {n}");
            }
        }
    }
    assert_eq!(answered.len(), requests.len());
    let third = node(&dir.join("ca.db"), Arc::new(NoFaults));
    nothing_is_lost(&third, &requests, &answered);
}

/// Run by the test above in processes of their own.
#[test]
#[ignore = "a child process of a_node_that_is_killed_under_load_loses_nothing_that_it_answered"]
fn child_that_issues() {
    let dir = PathBuf::from(std::env::var("TEGATA_TEST_DIR").unwrap());
    let name = std::env::var("TEGATA_TEST_NODE").unwrap();
    let ca = node(&dir.join("ca.db"), Arc::new(NoFaults));
    let mut requests = Vec::new();
    while let Ok(request) = std::fs::read(dir.join(format!("request-{}", requests.len()))) {
        requests.push(request);
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (ca, dir, name, requests, next) = (&ca, &dir, &name, &requests, &next);
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= requests.len() {
                        return;
                    }
                    let n = match name.as_str() {
                        "up" => n,
                        _ => requests.len() - 1 - n,
                    };
                    let pid = u64::from(std::process::id());
                    let cert = ask(ca, &requests[n], pid * 1_000 + thread * 100 + n as u64);
                    // It is answered once the peer has it.
                    let file = dir.join(format!("answer-{name}-{n}"));
                    let part = file.with_extension("part");
                    std::fs::write(&part, cert).unwrap();
                    std::fs::rename(&part, &file).unwrap();
                    println!("told {n}");
                }
            });
        }
    });
}

#[test]
fn nodes_that_meet_at_every_row_deal_shards_of_one_issuer_and_size() {
    let _alone = alone();
    let (world, requests) = fleet(10, 6);
    let path = world.dir.path().join("ca.db");
    let nodes: Vec<Issuer> = (0..2).map(|_| node(&path, Arc::new(NoFaults))).collect();
    let work = Work::of(&requests);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (node, work) = (&nodes[thread % 2], &work);
            scope.spawn(move || work.share(node, thread));
        }
        // In the middle of it the CA gets a new issuing key, by a third process.
        while work.next.load(Ordering::SeqCst) < requests.len() / 3 {
            std::thread::yield_now();
        }
        let next = common::rolled::next(2, Kind::Issuing);
        let begun = Instant::now();
        while let Err(e) = roll_over(world.ca.role(), next, &mut Seeded(77), SECS) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{e}");
        }
    });
    nothing_is_lost(&nodes[0], &requests, &work.answered.into_inner().unwrap());
}

/// Kills the backend at the n-th point.
struct KillAt {
    at: usize,
    reached: AtomicUsize,
    killer: Killer,
}

impl Faults for KillAt {
    fn reach(&self, step: &'static str, when: When) -> Result<(), StoreError> {
        if self.reached.fetch_add(1, Ordering::SeqCst) != self.at {
            return Ok(());
        }
        assert!(self.killer.kill("victim"), "there is no backend");
        match when {
            // The commit that comes now finds nobody.
            When::Before => Ok(()),
            When::After => Err(StoreError::Stopped {
                step,
                when: when.as_str(),
            }),
        }
    }
}

#[test]
fn a_backend_that_is_killed_at_any_commit_loses_nothing() {
    let _alone = alone();
    if database().is_none() {
        return;
    }
    let (world, requests) = fleet(1, 3);
    let path = world.dir.path().join("ca.db");
    let mut answered = BTreeMap::new();
    for (at, request) in requests.iter().enumerate() {
        let faults = Arc::new(KillAt {
            at,
            reached: AtomicUsize::new(0),
            killer: Killer::new(&path),
        });
        let ca = node(&as_application(&path, "victim"), faults.clone());
        let answer = ca.cmp("device", request, &mut Seeded(at as u64), NOW);
        // Before and after the commit.
        assert_eq!(faults.reached.load(Ordering::SeqCst) > at, at < 2);
        match answer.outcome {
            CmpOutcome::Issued { certificate, .. } => {
                assert_eq!(at, 2);
                answered.insert(at, certificate);
            }
            CmpOutcome::Denied(CmpDenial::Unavailable(code)) => {
                let said = ["store-unknown", "store-stopped"];
                assert_eq!(code, said[at % 2]);
            }
            other => panic!("{other:?}"),
        }
        // The same process goes on, and the next answer is the certificate.
        answered.insert(at, ask(&ca, request, 50 + at as u64));
        back(&path);
    }
    let other = node(&path, Arc::new(NoFaults));
    nothing_is_lost(&other, &requests, &answered);
}

#[test]
fn backends_that_are_killed_under_load_lose_nothing() {
    let _alone = alone();
    if database().is_none() {
        return;
    }
    let (world, requests) = fleet(10, 8);
    let path = world.dir.path().join("ca.db");
    let nodes: Vec<Issuer> = (0..2)
        .map(|_| node(&as_application(&path, "victim"), Arc::new(NoFaults)))
        .collect();
    let (work, over) = (Work::of(&requests), AtomicBool::new(false));
    let kills = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|thread| {
                let (node, work) = (&nodes[thread % 2], &work);
                scope.spawn(move || work.share(node, thread))
            })
            .collect();
        let killing = scope.spawn(|| {
            let mut kills = 0;
            // In the middle of transactions, wherever they are.
            while !over.load(Ordering::SeqCst) && kills < 8 {
                back(&path);
                std::thread::sleep(Duration::from_millis(60));
                kills += usize::from(Killer::new(&path).kill("victim"));
            }
            kills
        });
        for thread in threads {
            thread.join().unwrap();
        }
        over.store(true, Ordering::SeqCst);
        killing.join().unwrap()
    });
    back(&path);
    assert!(kills > 0, "nothing was killed");
    println!("{kills} backends killed under {} requests", requests.len());
    let other = node(&path, Arc::new(NoFaults));
    nothing_is_lost(&other, &requests, &work.answered.into_inner().unwrap());
}

#[test]
fn a_database_that_takes_no_writes_is_not_believed() {
    let _alone = alone();
    if database().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.db");
    drop(open_store(&path).unwrap());
    // As a standby is.
    let standby = format!(
        "{}&options=-c%20default_transaction_read_only%3Don",
        place(&path).display()
    );
    let said = Store::open(std::path::Path::new(&standby)).map(drop);
    assert_eq!(said.unwrap_err().code(), "store-unreachable");
}

#[test]
fn hosts_that_say_nothing_do_not_keep_a_store_from_the_one_that_serves() {
    let _alone = alone();
    if database().is_none() {
        return;
    }
    // One takes each connection and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute_at = mute.local_addr().unwrap();
    // Of one whose queue is full what comes is dropped, as by a machine without power.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    let _runs = runtime.enter();
    let off = tokio::net::TcpSocket::new_v4().unwrap();
    off.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let off = off.listen(0).unwrap();
    let off_at = off.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(one) = TcpStream::connect_timeout(&off_at, Duration::from_millis(100)) {
        queued.push(one);
        assert!(queued.len() < 8, "its queue does not fill");
    }

    let dir = tempfile::tempdir().unwrap();
    let serves = place(dir.path().join("ca.db"));
    let serves = serves.to_str().unwrap();
    let all = serves.replacen('@', &format!("@{mute_at},{off_at},"), 1);
    let store = Store::open(Path::new(&format!("{all}&connect_timeout=3"))).unwrap();
    // Connections after the first begin where that was answered.
    let together = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let look = |_: &tegata_store::Tx<'_>| {
                    together.wait();
                    Ok::<_, StoreError>(())
                };
                store.read("t", look).unwrap();
            });
        }
    });
    mute.set_nonblocking(true).unwrap();
    assert_eq!(std::iter::from_fn(|| mute.accept().ok()).count(), 1);
    // Where none serves, each had its time, and it is said.
    let none = format!("postgres://u@{mute_at},{off_at}/d?connect_timeout=1");
    let said = Store::open(Path::new(&none)).map(drop).unwrap_err();
    assert_eq!(said.code(), "store-unreachable", "{said}");
}

#[test]
fn a_schema_that_stopped_between_the_parts_of_a_step_is_brought_up() {
    let _alone = alone();
    if database().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.db");
    drop(open_store(&path).unwrap());
    let sql = Sql::open(&path);
    let is_whole = || {
        let index = "SELECT count(*) FROM pg_indexes WHERE schemaname = current_schema() \
            AND indexname = 'attested_by_runtime'";
        let marks = "SELECT count(*) FROM migration WHERE version > 17";
        let columns = "SELECT count(*) FROM information_schema.columns \
            WHERE table_schema = current_schema() AND (column_name LIKE 'runtime%' \
            OR (table_name, column_name) = ('issuance_stop', 'at_least'))";
        [index, marks, columns].map(|query| sql.number(query))
    };
    let whole = is_whole();
    assert_eq!((whole[0], whole[2]), (1, 4));
    // As it was before the step, after its first part, and as it is.
    for undone in [
        "DELETE FROM migration WHERE version > 17; \
         ALTER TABLE issuance_stop DROP COLUMN at_least; \
         ALTER TABLE attested DROP COLUMN runtime, DROP COLUMN runtime_version, \
         DROP COLUMN runtime_order",
        "DELETE FROM migration WHERE version > 17; DROP INDEX attested_by_runtime",
        "SELECT",
    ] {
        sql.run(undone);
        drop(open_store(&path).unwrap());
        assert_eq!(is_whole(), whole, "{undone}");
    }
}

#[test]
fn a_database_that_restarts_is_told_of_and_found_again() {
    let _alone = alone();
    let Ok(pg_ctl) = std::env::var("TEGATA_TEST_PG_CTL") else {
        return;
    };
    let pg_ctl = |what: &str| {
        let done = Command::new("sh")
            .args(["-c", &format!("cd / && {pg_ctl} {what}")])
            .status();
        assert!(done.unwrap().success(), "{what}");
    };
    let dir = tempfile::tempdir().unwrap();
    let store: Store = open_store(dir.path().join("ca.db")).unwrap();
    let put = |name: &str| store.run_tx("t", |tx| keys::put_document(tx, name, b"x", 1));
    let there = |name: &str| store.read("t", |tx| keys::document(tx, name));
    put("before").unwrap();
    // Restarted between two requests: nobody hears of it.
    pg_ctl("restart -m fast");
    put("after").unwrap();
    // Away: each request says so, and says what to look at.
    pg_ctl("stop -m immediate");
    for e in [put("lost").unwrap_err(), there("before").unwrap_err()] {
        assert_eq!(e.code(), "store-unreachable", "{e}");
        assert!(e.is_retryable());
        assert!(e.to_string().contains("check that it runs"), "{e}");
    }
    pg_ctl("start");
    let begun = Instant::now();
    while let Err(e) = put("again") {
        assert!(begun.elapsed() < Duration::from_secs(30), "{e}");
    }
    assert!(there("before").unwrap().is_some() && there("after").unwrap().is_some());
    assert!(there("lost").unwrap().is_none());
}
