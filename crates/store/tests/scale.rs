//! Figures of a large CA, for docs/perf.md; nothing here can fail for being slow.
//!
//!     cargo test --release --workspace --test scale -- --ignored --nocapture --test-threads 1
//!
//! `TEGATA_SCALE=100000` makes it smaller than a million certificates; `TMPDIR` says where the store
//! goes (8 GB for a million).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::fleet::{Fill, fill, install};
use common::ocsp::{cert_id, request};
use common::*;
use rusqlite::{Connection, params};
use tegata_authority::UnixSecs;
use tegata_authority::ca::cmp::{CmpDenial, MacPolicy};
use tegata_authority::ca::revocation::{FinalReason, Word};
use tegata_authority::profile::Profiles;
use tegata_authority::tam::availability::Availability;
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::{KeyAlg, PrivateKey};
use tegata_store::archive::sweep_some;
use tegata_store::issuer::{CmpOutcome, Issuer};
use tegata_store::revocation::scoped::{Predicate, plan_for_all, say_to_all};
use tegata_store::revocation::{Target, say};
use tegata_store::role::Role;
use tegata_store::status::{NoList, Scope, StatusServer, StatusSettings};
use tegata_store::{Store, certificate};

const YEAR: u64 = 365 * 86_400;
const DAY: u64 = 86_400;

fn scale() -> usize {
    let given = std::env::var("TEGATA_SCALE").ok();
    given.map_or(1_000_000, |n| n.parse().unwrap())
}

/// A CA as it is in production, and one device with a TA and a certificate.
fn ready() -> (World, Device) {
    let mut world = World::new();
    let mut devices = world.batch("B1", 1);
    let cut = world.release(MODULE, false, Availability::Everybody);
    install(&mut world, &mut devices, cut.ta);
    let device = devices.remove(0);
    world.ca = open(&world.ca, world.ca.role().store.path());
    ask(&world.ca, &device, 1);
    (world, device)
}

fn open(ca: &Issuer, path: &Path) -> Issuer {
    let role = Role {
        store: Arc::new(Store::open(path).unwrap()),
        provider: Arc::new(AwsLc),
        sealing: Arc::clone(&ca.role().sealing),
    };
    let ca = Issuer::open(role, without_limit(), MacPolicy::default()).unwrap();
    ca.with_status(StatusSettings {
        base_url: Some("http://ca.example".to_owned()),
        ..StatusSettings::default()
    })
}

/// How long a certificate takes; `None` if the store has no time. Any other refusal ends the run.
fn ask(ca: &Issuer, device: &Device, n: u8) -> Option<Duration> {
    let mut rng = tegata_crypto::OsRng;
    let key = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
    let message = device.p10cr(&device.csr(&key), n);
    let begun = Instant::now();
    let answer = ca.cmp("device", &message, &mut rng, NOW);
    let took = begun.elapsed();
    match answer.outcome {
        CmpOutcome::Issued { .. } => Some(took),
        CmpOutcome::Denied(CmpDenial::Unavailable(_)) => None,
        other => panic!("{other:?}"),
    }
}

/// The example's profiles, without a limit that one device would meet here.
fn without_limit() -> Profiles {
    let table = "[profile.device]\n";
    let text = tegata_authority::profile::EXAMPLE;
    assert!(text.contains(table));
    Profiles::parse(&text.replace(table, &format!("{table}daily_limit = 1000000\n"))).unwrap()
}

fn told(what: &str, begun: Instant, of: u64) {
    let secs = begun.elapsed().as_secs_f64();
    println!(
        "{what}: {of} in {secs:.2} s, {:.0} a second",
        of as f64 / secs
    );
}

fn quantiles(what: &str, times: impl IntoIterator<Item = Option<Duration>>) {
    let asked: Vec<Option<Duration>> = times.into_iter().collect();
    let mut times: Vec<Duration> = asked.iter().flatten().copied().collect();
    times.sort();
    if times.len() < asked.len() {
        println!("{what}: {} got no answer", asked.len() - times.len());
    }
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let n = times.len();
    if n == 0 {
        println!("{what}: none");
        return;
    }
    println!(
        "{what}: {n}, median {:.2} ms, 99 % {:.2} ms, most {:.2} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn memory(what: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            / 1024
    };
    println!(
        "{what}: memory {} MiB now, {} MiB at most",
        line("VmRSS"),
        line("VmHWM")
    );
}

/// Bytes of the pages of each table and index.
fn sizes(path: &Path, names: &[&str], of: u64) {
    let sql = Connection::open(path).unwrap();
    sql.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    let mut all = 0;
    for name in names {
        let bytes: i64 = sql
            .query_row(
                "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name = ?1 AND aggregate = TRUE",
                [name],
                |r| r.get(0),
            )
            .unwrap();
        all += bytes;
        println!(
            "  {name}: {bytes} bytes, {:.1} each",
            bytes as f64 / of as f64
        );
    }
    println!(
        "  together {:.2} GB a million",
        all as f64 / of as f64 / 1e3
    );
}

#[test]
#[ignore = "figures: minutes"]
fn a_million_certificates_revoked_and_archived() {
    let n = scale();
    let (world, device) = ready();
    let path = world.ca.role().store.path().to_owned();
    let begun = Instant::now();
    let many = Fill {
        devices: n,
        each: 1,
        from: SECS.0 - 2_000,
        life: YEAR,
        shard: 65_536,
    };
    fill(&path, many);
    told("rows made", begun, n as u64);
    let hot = [
        "certificate",
        "certificate_by_request",
        "certificate_scope",
        "certificate_by_end",
    ];
    sizes(&path, &hot, n as u64);
    let store = Store::open(&path).unwrap();
    quantiles(
        "issuance, alone",
        (0..200).map(|n| ask(&world.ca, &device, n)),
    );

    let all = Predicate {
        issued_before: Some(SECS),
        ..Predicate::default()
    };
    let batch = Predicate {
        batch: Some("F3".to_owned()),
        ..Predicate::default()
    };
    let word = Word::Revoke(FinalReason::KeyCompromise);
    let begun = Instant::now();
    let planned = plan_for_all(&store, &batch, word, SECS, |_| ()).unwrap();
    println!(
        "dry run of a batch: {} of {n} in {:.2} s",
        planned.progress.changed,
        begun.elapsed().as_secs_f64()
    );
    let begun = Instant::now();
    let planned = plan_for_all(&store, &all, word, SECS, |_| ()).unwrap();
    told("dry run of all", begun, planned.progress.changed);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let begun = Instant::now();
            let at = say_to_all(&store, &all, word, SECS, |_| ()).unwrap();
            told("revoked", begun, at.changed);
            done.store(true, Ordering::SeqCst);
        });
        let mut times = Vec::new();
        while !done.load(Ordering::SeqCst) {
            times.push(ask(&world.ca, &device, 3));
            std::thread::sleep(Duration::from_millis(20));
        }
        run.join().unwrap();
        quantiles("issuance, meanwhile", times);
    });
    let begun = Instant::now();
    let again = say_to_all(&store, &all, word, SECS, |_| ()).unwrap();
    assert_eq!(again.changed, 0);
    told("the same command again", begun, again.matched);
    sizes(&path, &["revocation", "revocation_by_shard"], n as u64);
    memory("revocation");

    let later = UnixSecs(SECS.0 + YEAR + 91 * DAY);
    let begun = Instant::now();
    let mut moved = 0;
    loop {
        let part = sweep_some(&store, 90 * DAY, later).unwrap().rows();
        moved += part;
        if part == 0 {
            break;
        }
    }
    told("archived", begun, moved);
    let cold = [
        "archive",
        "sqlite_autoindex_archive_1",
        "archive_by_device",
        "archive_kind",
    ];
    sizes(&path, &cold, moved);
}

#[test]
#[ignore = "figures: minutes"]
fn status_of_a_million_revoked_of_a_hundred_million() {
    let n = scale() as i64;
    let shards = n * 100 / 65_536;
    let (world, _) = ready();
    let path = world.ca.role().store.path().to_owned();
    // Of those that OCSP is asked for the certificates are there; of the rest what lists need.
    let asked = 16_000.min(n as usize);
    fill(
        &path,
        Fill {
            devices: asked,
            each: 1,
            from: SECS.0 - 2_000,
            life: YEAR,
            shard: 65_536,
        },
    );
    let mut sql = Connection::open(&path).unwrap();
    let tx = sql.transaction().unwrap();
    let mut rng = Seeded(7);
    for change in 1..=n {
        let mut serial = [0; 16];
        tegata_crypto::Rng::fill(&mut rng, &mut serial).unwrap();
        let at_ms = (SECS.0 - YEAR) * 1_000 + change as u64 * 31;
        serial[..6].copy_from_slice(&at_ms.to_be_bytes()[2..]);
        tx.prepare_cached(
            "INSERT INTO revocation(serial, change, shard, at, reason) VALUES (?1, ?2, ?3, ?4, 1)",
        )
        .unwrap()
        .execute(params![
            serial,
            change,
            change * shards / (n + 1),
            SECS.0 as i64
        ])
        .unwrap();
    }
    tx.execute(
        "UPDATE status_counter SET shard = ?1, change = ?2",
        [shards, n],
    )
    .unwrap();
    tx.commit().unwrap();
    drop(sql);
    println!("{n} revoked of {} in {shards} shards", n * 100);
    memory("before");
    let server = StatusServer::new(Arc::new(open(&world.ca, &path)));

    let mut signed = Vec::new();
    let mut kept = Vec::new();
    let mut bytes = 0;
    let begun = Instant::now();
    for shard in 0..shards as u64 {
        let begun = Instant::now();
        let list = server.list(Scope::Shard(shard), false, SECS).unwrap();
        signed.push(Some(begun.elapsed()));
        bytes += list.der.len();
        let begun = Instant::now();
        server.list(Scope::Shard(shard), false, SECS).unwrap();
        kept.push(Some(begun.elapsed()));
    }
    println!(
        "lists of all shards: {:.1} s, {} bytes each",
        begun.elapsed().as_secs_f64(),
        bytes / shards as usize
    );
    quantiles("a shard's list, signed", signed);
    quantiles("a shard's list, kept", kept);
    memory("with every shard's list");
    for look in ["one list of all", "the same again"] {
        let begun = Instant::now();
        let refused = matches!(server.list(Scope::Full, false, SECS), Err(NoList::TooMany));
        println!(
            "{look}: {} in {:.3} ms",
            if refused { "refused" } else { "made" },
            begun.elapsed().as_secs_f64() * 1_000.0
        );
    }

    // OCSP: one request each, without a nonce, then again.
    let store = Store::open(&path).unwrap();
    let rows = store.read("t", |tx| {
        let mut rows = Vec::new();
        let mut after = Vec::new();
        loop {
            let page = certificate::list(tx, &after, 1_000)?;
            let Some(last) = page.last() else { break };
            after = last.intent.serial.clone();
            rows.extend(page.into_iter().map(|row| row.intent.serial));
        }
        Ok::<_, tegata_store::StoreError>(rows)
    });
    let rows = rows.unwrap();
    // A hundredth of them is revoked, and then the delta of their shard has them.
    let shard = Scope::Shard(0);
    server.list(shard, true, SECS).unwrap();
    for serial in rows.iter().skip(1).step_by(100) {
        say(
            &store,
            &Target::Certificate(serial.clone()),
            Word::Hold,
            SECS,
        )
        .unwrap();
    }
    let begun = Instant::now();
    let delta = server.list(shard, true, SECS).unwrap();
    println!(
        "a delta of {} changes, with the list beside it: {} bytes, {:.1} ms",
        asked / 100,
        delta.der.len(),
        begun.elapsed().as_secs_f64() * 1e3
    );
    let requests: Vec<_> = rows
        .iter()
        .map(|serial| request(&cert_id(&world.ca, serial, true)))
        .collect();
    let mut rng = tegata_crypto::OsRng;
    for what in ["OCSP, each signed", "OCSP, each kept"] {
        let begun = Instant::now();
        for request in &requests {
            let answer = server.ocsp(request, &mut rng, SECS);
            assert!(answer.reason == "ok" && answer.cacheable);
        }
        told(what, begun, requests.len() as u64);
    }
    memory("with every response");
    sizes(
        &path,
        &[
            "revocation",
            "revocation_by_shard",
            "sqlite_autoindex_revocation_2",
        ],
        n as u64,
    );
}
