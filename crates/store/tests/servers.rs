//! Two `tegata serve` of one role on one database, CAs and TAMs, as clients meet them behind a load balancer: one
//! killed under load, both restarted one after the other, and the database under them too. CAs also behind NGINX.
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
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use common::place::{database, schema};
use common::serve::{Server, client, ports, start, start_nginx};
use common::*;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::tam::availability::Availability;
use tegata_crypto::{KeyAlg, PrivateKey, PublicKey};
use tegata_store::issuer::Issuer;
use tegata_store::{NoFaults, StoreError, certificate};
use tegata_wire::ids::TaUuid;

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

/// Two servers of a role, as a load balancer sees them.
struct Balancer {
    urls: RwLock<[String; 2]>,
    /// What `/healthz` of each said last.
    well: [AtomicBool; 2],
    /// Requests that a node was sent and did not answer.
    dropped: AtomicUsize,
}

impl Balancer {
    fn new(nodes: &[Server; 2]) -> Self {
        Self {
            urls: RwLock::new([nodes[0].url.clone(), nodes[1].url.clone()]),
            well: [AtomicBool::new(true), AtomicBool::new(true)],
            dropped: AtomicUsize::new(0),
        }
    }

    /// Looks at both, every 250 ms: what does not leave before it goes is sent requests that it drops.
    fn watch(&self, done: &AtomicBool) {
        let agent = client();
        while !done.load(Ordering::SeqCst) {
            for (node, well) in self.well.iter().enumerate() {
                let url = self.urls.read().unwrap()[node].clone();
                let answer = agent.get(&format!("{url}/healthz")).call();
                well.store(answer.is_ok(), Ordering::SeqCst);
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Sends the n-th request, to each in turn or to the one that is well: no session sticks to one.
    fn send<T>(&self, n: usize, ask: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let well = |node: &usize| self.well[node % 2].load(Ordering::SeqCst);
        let node = [n, n + 1].into_iter().find(well).unwrap_or(n);
        let url = self.urls.read().unwrap()[node % 2].clone();
        let answer = ask(&url);
        if answer.is_none() {
            self.dropped.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
        }
        answer
    }

    /// Ends one of them, and starts it again.
    fn anew(&self, node: usize, server: &mut Server, signal: &str, start: impl FnOnce() -> Server) {
        server.end(signal);
        *server = start();
        self.urls.write().unwrap()[node] = server.url.clone();
    }

    /// Replaces both, one after the other, as an upgrade does: they leave first, and nobody is sent away.
    fn roll(
        &self,
        nodes: &mut [Server; 2],
        start: impl Fn(&'static str) -> Server,
        wait: impl Fn(usize),
    ) {
        let before = self.dropped.load(Ordering::SeqCst);
        for (node, name) in ["a", "b"].into_iter().enumerate() {
            self.anew(node, &mut nodes[node], "-TERM", || start(name));
            wait(node);
        }
        let dropped = self.dropped.load(Ordering::SeqCst) - before;
        assert_eq!(dropped, 0, "requests that a rolling restart dropped");
    }
}

/// Ends what runs beside a test, also if that fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The database and the program, where `.ci/postgres` runs this.
fn serves() -> Option<(String, PathBuf)> {
    let program = std::env::var("TEGATA_TEST_SERVE").ok()?;
    Some((database()?, PathBuf::from(program)))
}

/// The servers' schemas have fixed names, and the database is restarted: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the store that was made in the test to the servers of a role.
fn hand_over(dir: &Path, role: &str) {
    let made = dir.join(format!("{role}.db"));
    let sql = Sql::open(&made);
    let made = schema(&made);
    sql.run(&format!("DROP SCHEMA IF EXISTS tegata_{role} CASCADE"));
    sql.run(&format!("ALTER SCHEMA \"{made}\" RENAME TO tegata_{role}"));
}

/// A CA and its fleet, whose store the servers take over: requests, each of another key, and the same CA in
/// this process.
fn handed_over_ca(world: &mut World, database: &str) -> (Vec<Vec<u8>>, Issuer) {
    let mut devices = world.batch("B1", 16);
    let cut = world.release(MODULE, false, Availability::Everybody);
    common::fleet::install(world, &mut devices, cut.ta);
    let mut requests = Vec::new();
    for device in &devices {
        for n in 0..8 {
            let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
            requests.push(device.p10cr(&device.csr(&key), n));
        }
    }
    let dir = world.dir.path();
    hand_over(dir, "ca");
    let profiles_toml = dir.join("profiles.toml");
    std::fs::write(profiles_toml, tegata_authority::profile::EXAMPLE).unwrap();
    let third = PathBuf::from(format!("{database}?schema=tegata_ca"));
    let third = role(&third, Arc::new(NoFaults));
    let third = Issuer::open(third, profiles(), MacPolicy::default()).unwrap();
    (requests, third)
}

/// What a CA is started with from now on.
fn configure_ca(dir: &Path, database: &str, port: u16) {
    let text = format!(
        "[store]\ndatabase = \"{database}\"\n[ca]\nlisten = \"127.0.0.1:{port}\"\n\
         [limits]\nleave_secs = 1\n"
    );
    std::fs::write(dir.join("tegata.toml"), text).unwrap();
}

/// How many certificates the CA has, and how many it has only begun.
fn certificates(ca: &Issuer) -> (usize, usize) {
    let look = ca.role().store.read("t", |tx| {
        let all = certificate::list(tx, &[], 1000)?;
        Ok::<_, StoreError>((all.len(), certificate::unfinished(tx)?.len()))
    });
    look.unwrap()
}

fn restart_database() {
    let pg_ctl = std::env::var("TEGATA_TEST_PG_CTL").unwrap();
    let restarted = Command::new("sh")
        .args(["-c", &format!("cd / && {pg_ctl} restart -m fast")])
        .status();
    assert!(restarted.unwrap().success());
}

#[test]
fn servers_that_die_and_restart_behind_a_load_balancer_lose_and_drop_nothing() {
    let Some((database, program)) = serves() else {
        return;
    };
    let _alone = alone();
    let mut world = World::new();
    let (requests, third) = handed_over_ca(&mut world, &database);
    let dir = world.dir.path();
    configure_ca(dir, &database, 0);
    let start = |name| start(&program, dir, "ca", name);
    let mut nodes = ["a", "b"].map(start);
    let balancer = Balancer::new(&nodes);
    let done = AtomicBool::new(false);
    let (next, longest) = (AtomicUsize::new(0), Mutex::new(Duration::ZERO));
    let answered = Mutex::new(BTreeMap::new());
    let total = requests.len();
    let at = |part: usize| {
        while answered.lock().unwrap().len() < total * part / 8 {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let sent = |agent: &ureq::Agent, node: usize, n: usize| {
        balancer.send(node, |url| once(agent, url, &requests[n], &third))
    };
    std::thread::scope(|scope| {
        let _over = Over(&done);
        // Load that does not end: what was answered once is asked for again.
        scope.spawn(|| {
            let agent = client();
            for node in 0.. {
                if done.load(Ordering::SeqCst) {
                    return;
                }
                let first = answered.lock().unwrap().first_key_value().map(|(n, _)| *n);
                let Some(n) = first else { continue };
                let cert: Option<Vec<u8>> = sent(&agent, node, n);
                let before = answered.lock().unwrap().get(&n).cloned();
                assert!(cert.is_none() || cert == before, "another certificate");
            }
        });
        scope.spawn(|| balancer.watch(&done));
        for _ in 0..6 {
            scope.spawn(|| {
                let agent = client();
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= total {
                        return;
                    }
                    let begun = Instant::now();
                    let cert = (n..).find_map(|node| {
                        assert!(begun.elapsed() < Duration::from_secs(60), "no answer");
                        sent(&agent, node, n)
                    });
                    answered.lock().unwrap().insert(n, cert.unwrap());
                    let mut longest = longest.lock().unwrap();
                    *longest = (*longest).max(begun.elapsed());
                }
            });
        }
        // One is killed in the middle of its work, and comes back.
        at(1);
        balancer.anew(0, &mut nodes[0], "-KILL", || {
            at(2);
            start("a")
        });
        at(3);
        balancer.roll(&mut nodes, start, |node| at(4 + node));
        // The database is restarted under both.
        at(6);
        restart_database();
        at(8);
        done.store(true, Ordering::SeqCst);
        // What one answered, the other has.
        let agent = client();
        for (n, cert) in answered.lock().unwrap().iter() {
            for Server { url, .. } in &nodes {
                let again = once(&agent, url, &requests[*n], &third);
                assert_eq!(again.as_ref(), Some(cert), "request {n} at {url}");
            }
        }
        for node in &mut nodes {
            node.end("-TERM");
        }
    });
    assert_eq!(certificates(&third), (total, 0));
    let longest = longest.into_inner().unwrap();
    println!("{total} requests, none dropped; the longest wait was {longest:?}");
}

#[test]
fn behind_nginx_as_documented_every_request_is_answered_the_first_time() {
    let (Some((database, program)), Ok(nginx)) = (serves(), std::env::var("TEGATA_TEST_NGINX"))
    else {
        return;
    };
    let _alone = alone();
    let mut world = World::new();
    let (requests, third) = handed_over_ca(&mut world, &database);
    let dir = world.dir.path();
    let [a, b, port] = ports();
    let start = |name| {
        configure_ca(dir, &database, if name == "a" { a } else { b });
        start(&program, dir, "ca", name)
    };
    let mut nodes = ["a", "b"].map(start);
    let mut nginx = start_nginx(&nginx, dir, [a, b], port);
    let (done, asked, answers) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        Mutex::new(BTreeMap::new()),
    );
    let more = |more: usize| {
        let (from, begun) = (asked.load(Ordering::SeqCst), Instant::now());
        while asked.load(Ordering::SeqCst) < from + more {
            assert!(begun.elapsed() < Duration::from_secs(60), "no answers");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    std::thread::scope(|scope| {
        let _over = Over(&done);
        for _ in 0..6 {
            scope.spawn(|| {
                let agent = client();
                while !done.load(Ordering::SeqCst) {
                    // Each once; what was answered is asked for again by another.
                    let n = asked.fetch_add(1, Ordering::SeqCst) % requests.len();
                    let cert = once(&agent, &nginx.url, &requests[n], &third);
                    let cert = cert.expect("a request without its answer");
                    let mut answers = answers.lock().unwrap();
                    let before = answers.entry(n).or_insert_with(|| cert.clone());
                    assert_eq!(*before, cert, "another certificate");
                }
            });
        }
        more(30);
        nodes[0].end("-KILL");
        more(60);
        nodes[0] = start("a");
        more(30);
        for (node, name) in nodes.iter_mut().zip(["a", "b"]) {
            node.end("-TERM");
            more(30);
            *node = start(name);
            more(30);
        }
        more(requests.len());
    });
    assert_eq!(answers.into_inner().unwrap().len(), requests.len());
    assert_eq!(certificates(&third), (requests.len(), 0));
    let log = std::fs::read_to_string(dir.join("nginx.log")).unwrap();
    let again = log.matches("while connecting to upstream").count();
    assert!(again > 0, "no request met a node that was gone: {log}");
    let asked = asked.into_inner();
    println!(
        "{asked} requests by NGINX, all answered the first time; {again} met a node that was gone"
    );
    for server in nodes.iter_mut().chain([&mut nginx]) {
        server.end("-TERM");
    }
}

/// One TEEP message to one TAM; nothing if it does not answer, or cannot now.
fn say(agent: &ureq::Agent, url: &str, message: &[u8]) -> Option<Vec<u8>> {
    let sent = agent
        .post(&format!("{url}/tam"))
        .header("accept", "application/teep+cbor")
        .content_type("application/teep+cbor");
    match sent.send(message) {
        Ok(mut answer) => answer.body_mut().read_to_vec().ok(),
        Err(ureq::Error::StatusCode(503)) => None,
        Err(ureq::Error::StatusCode(status)) => panic!("{url} says {status}"),
        Err(_no_answer) => None,
    }
}

/// A device's visit, each message to another node; whether it came to its end. Anything that is not
/// answered ends it, as it does for an agent: the next visit begins anew.
fn visit(
    device: &mut Device,
    (tam, ca): (&PublicKey, &PublicKey),
    ta: TaUuid,
    mut say: impl FnMut(&[u8]) -> Option<Vec<u8>>,
) -> bool {
    let mut visit = || {
        let query = say(b"")?;
        let want = [ta];
        let want = if device.installed.is_none() {
            &want[..]
        } else {
            &[]
        };
        let update = say(&device.query_response(&query, tam, want))?;
        if update.is_empty() {
            return Some(device.installed.is_some());
        }
        let token = device.process(&update, tam, ca);
        say(&device.success(&token))?;
        Some(true)
    };
    visit().unwrap_or(false)
}

#[test]
fn tams_that_die_and_restart_behind_a_load_balancer_bring_every_device_its_ta() {
    let Some((database, program)) = serves() else {
        return;
    };
    let _alone = alone();
    let mut world = World::new();
    let devices = world.batch("B1", 64);
    let cut = world.release(MODULE, false, Availability::Everybody);
    let keys = (
        world.tam.public_key().clone(),
        world.ca.release_public_key().clone(),
    );
    let dir = world.dir.path().to_owned();
    for role in ["ca", "tam", "verifier"] {
        hand_over(&dir, role);
    }
    let store = format!("[store]\ndatabase = \"{database}\"\n");
    let text = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    text("profiles.toml", tegata_authority::profile::EXAMPLE);
    text("verifier.toml", tegata_authority::verifier::EXAMPLE);
    let listen = "listen = \"127.0.0.1:0\"\n";
    let peers = format!("{store}[ca]\n{listen}[verifier]\n{listen}policy = \"verifier.toml\"\n");
    text("tegata.toml", &peers);
    let mut ca = start(&program, &dir, "ca", "ca");
    let mut verifier = start(&program, &dir, "verifier", "verifier");
    let (ca_url, verifier_url) = (&ca.url, &verifier.url);
    text(
        "tegata.toml",
        &format!(
            "{store}[tam]\n{listen}public_url = \"http://tam.example/tam\"\n\
             ca_url = \"{ca_url}\"\nverifier_url = \"{verifier_url}\"\n\
             [limits]\nleave_secs = 1\n"
        ),
    );
    let tam = |name| start(&program, &dir, "tam", name);
    let mut nodes = ["a", "b"].map(tam);
    let balancer = Balancer::new(&nodes);
    let done = AtomicBool::new(false);
    let (next, messages) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (served, visits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let total = devices.len();
    let devices: Vec<Mutex<Device>> = devices.into_iter().map(Mutex::new).collect();
    let at = |part: usize| {
        while served.load(Ordering::SeqCst) < total * part / 8 {
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let served_by = |device: &mut Device, agent: &ureq::Agent| {
        visit(device, (&keys.0, &keys.1), cut.ta, |message| {
            let n = messages.fetch_add(1, Ordering::SeqCst);
            balancer.send(n, |url| say(agent, url, message))
        })
    };
    std::thread::scope(|scope| {
        let _over = Over(&done);
        // Load that does not end: who has its TA asks whether there is more.
        scope.spawn(|| {
            let agent = client();
            for device in devices.iter().cycle() {
                if done.load(Ordering::SeqCst) {
                    return;
                }
                match device.try_lock() {
                    Ok(mut device) if device.installed.is_some() => {
                        served_by(&mut device, &agent);
                    }
                    _ => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        scope.spawn(|| balancer.watch(&done));
        for _ in 0..6 {
            scope.spawn(|| {
                let agent = client();
                while let Some(device) = devices.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let mut device = device.lock().unwrap();
                    let begun = Instant::now();
                    while !served_by(&mut device, &agent) {
                        visits.fetch_add(1, Ordering::SeqCst);
                        assert!(begun.elapsed() < Duration::from_secs(60), "not served");
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        at(1);
        balancer.anew(0, &mut nodes[0], "-KILL", || {
            at(2);
            tam("a")
        });
        at(3);
        balancer.roll(&mut nodes, tam, |node| at(4 + node));
        at(6);
        restart_database();
        at(8);
        done.store(true, Ordering::SeqCst);
        // Each has it, and both TAMs know: there is nothing more to bring.
        let agent = client();
        for device in &devices {
            let mut device = device.lock().unwrap();
            let installed = device.installed.as_ref().unwrap();
            assert_eq!((installed.ta, &installed.module[..]), (cut.ta, MODULE));
            for Server { url, .. } in &nodes {
                let mut answers = Vec::new();
                assert!(visit(&mut device, (&keys.0, &keys.1), cut.ta, |message| {
                    let answer = say(&agent, url, message)?;
                    answers.push(answer.len());
                    Some(answer)
                }));
                assert_eq!(answers[1..], [0], "{url} brings something again");
            }
        }
        for server in nodes.iter_mut().chain([&mut ca, &mut verifier]) {
            server.end("-TERM");
        }
    });
    let again = visits.into_inner();
    println!(
        "{total} devices served, none dropped by a rolling restart; {again} visits were begun again"
    );
}
