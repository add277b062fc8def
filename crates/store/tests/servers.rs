//! Two `tegata serve --roles ca` on one database, as clients meet them behind a load balancer: one killed
//! under load, both restarted one after the other, and the database under them too.
//!
//! Run by `.ci/postgres`, which says where the program is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use common::place::{database, schema};
use common::*;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::tam::availability::Availability;
use tegata_crypto::{KeyAlg, PrivateKey};
use tegata_store::issuer::Issuer;
use tegata_store::{NoFaults, StoreError, certificate};

/// A server, where it listens, and what it is started with.
struct Server {
    process: Child,
    url: String,
}

fn start(program: &Path, dir: &Path, name: &str) -> Server {
    let ready = dir.join(format!("{name}.ready"));
    let _ = std::fs::remove_file(&ready);
    let log = std::fs::File::options()
        .append(true)
        .create(true)
        .open(dir.join(format!("{name}.log")));
    let mut process = Command::new(program)
        .args(["serve", "--roles", "ca", "--config"])
        .arg(dir.join("tegata.toml"))
        .arg("--ready-file")
        .arg(&ready)
        .env("TEGATA_SEALING_KEY", hex::encode([9; 32]))
        .stdout(Stdio::null())
        .stderr(log.unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(&ready).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("ca = "));
        if let Some(url) = line {
            let url = url.trim_matches('"').to_owned();
            return Server { process, url };
        }
        if begun.elapsed() > Duration::from_secs(30) || process.try_wait().unwrap().is_some() {
            let log = std::fs::read_to_string(dir.join(format!("{name}.log"))).unwrap();
            panic!("{name} is not ready: {log}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Server {
    fn end(mut self, signal: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
        self.process.wait().unwrap();
    }
}

/// One request to one server; nothing if it does not answer, or says that it cannot now. What else it
/// says is an error.
fn once(agent: &ureq::Agent, url: &str, request: &[u8], ca: &Issuer) -> Option<Vec<u8>> {
    let url = format!("{url}/.well-known/cmp/p/device");
    let sent = agent.post(&url).content_type("application/pkixcmp");
    let mut answer = match sent.send(request) {
        Ok(answer) => answer,
        Err(ureq::Error::StatusCode(503)) => return None,
        Err(ureq::Error::StatusCode(status)) => panic!("{url} says {status}"),
        Err(_no_answer) => return None,
    };
    let body = answer.body_mut().read_to_vec().ok()?;
    match certificate_of(&body, ca) {
        Ok(certificate) => Some(certificate),
        Err(said) if said == "SYSTEM_UNAVAIL" => None,
        Err(said) => panic!("{url} says {said}"),
    }
}

#[test]
fn servers_that_die_and_restart_behind_a_load_balancer_lose_and_drop_nothing() {
    let (Some(database), Ok(program)) = (database(), std::env::var("TEGATA_TEST_SERVE")) else {
        return;
    };
    let (program, pg_ctl) = (
        PathBuf::from(program),
        std::env::var("TEGATA_TEST_PG_CTL").unwrap(),
    );
    // A CA and its fleet; then the servers take its store over.
    let mut world = World::new();
    let mut devices = world.batch("B1", 16);
    let cut = world.release(MODULE, false, Availability::Everybody);
    common::fleet::install(&mut world, &mut devices, cut.ta);
    let mut requests = Vec::new();
    for device in &devices {
        for n in 0..8 {
            let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
            requests.push(device.p10cr(&device.csr(&key), n));
        }
    }
    let dir = world.dir.path();
    let sql = Sql::open(&dir.join("ca.db"));
    sql.run("DROP SCHEMA IF EXISTS tegata_ca CASCADE");
    let made = schema(&dir.join("ca.db"));
    sql.run(&format!("ALTER SCHEMA \"{made}\" RENAME TO tegata_ca"));
    std::fs::write(
        dir.join("tegata.toml"),
        format!("[store]\ndatabase = \"{database}\"\n[ca]\nlisten = \"127.0.0.1:0\"\n"),
    )
    .unwrap();
    std::fs::write(
        dir.join("profiles.toml"),
        tegata_authority::profile::EXAMPLE,
    )
    .unwrap();
    let third = PathBuf::from(format!("{database}?schema=tegata_ca"));
    let third = role(&third, Arc::new(NoFaults));
    let third = Issuer::open(third, profiles(), MacPolicy::default()).unwrap();

    let a = start(&program, dir, "a");
    let b = start(&program, dir, "b");
    let urls = RwLock::new([a.url.clone(), b.url.clone()]);
    let (next, longest) = (AtomicUsize::new(0), Mutex::new(Duration::ZERO));
    let answered = Mutex::new(BTreeMap::new());
    let total = requests.len();
    let at = |part: usize| {
        while answered.lock().unwrap().len() < total * part / 8 {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let config = ureq::Agent::config_builder();
                let config = config.timeout_global(Some(Duration::from_secs(20)));
                let agent: ureq::Agent = config.build().into();
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= total {
                        return;
                    }
                    // Another node each time: no session sticks to one.
                    let begun = Instant::now();
                    let cert = (n..).find_map(|node| {
                        assert!(begun.elapsed() < Duration::from_secs(60), "no answer");
                        let url = urls.read().unwrap()[node % 2].clone();
                        let cert = once(&agent, &url, &requests[n], &third);
                        if cert.is_none() {
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        cert
                    });
                    answered.lock().unwrap().insert(n, cert.unwrap());
                    let mut longest = longest.lock().unwrap();
                    *longest = (*longest).max(begun.elapsed());
                }
            });
        }
        // One is killed in the middle of its work, and comes back.
        at(1);
        a.end("-KILL");
        at(2);
        let a = start(&program, dir, "a");
        urls.write().unwrap()[0] = a.url.clone();
        // Both are replaced, one after the other, as an upgrade does.
        at(3);
        a.end("-TERM");
        let a = start(&program, dir, "a");
        urls.write().unwrap()[0] = a.url.clone();
        at(4);
        b.end("-TERM");
        let b = start(&program, dir, "b");
        urls.write().unwrap()[1] = b.url.clone();
        // The database is restarted under both.
        at(6);
        let restarted = Command::new("sh")
            .args(["-c", &format!("cd / && {pg_ctl} restart -m fast")])
            .status();
        assert!(restarted.unwrap().success());
        at(8);
        // What one answered, the other has.
        let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
        for (n, cert) in answered.lock().unwrap().iter() {
            for url in urls.read().unwrap().iter() {
                let again = once(&agent, url, &requests[*n], &third);
                assert_eq!(again.as_ref(), Some(cert), "request {n} at {url}");
            }
        }
        a.end("-TERM");
        b.end("-TERM");
    });
    let look = third.role().store.read("t", |tx| {
        let all = certificate::list(tx, &[], 1000)?;
        Ok::<_, StoreError>((all.len(), certificate::unfinished(tx)?.len()))
    });
    assert_eq!(look.unwrap(), (total, 0));
    let longest = longest.into_inner().unwrap();
    println!("{total} requests, none dropped; the longest wait was {longest:?}");
}
