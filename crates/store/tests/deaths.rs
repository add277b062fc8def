//! The process dies at each of its writes in turn, or the database under it does; then whoever had asked
//! asks again. What was answered holds, and nothing is there twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

#[path = "deaths/asking.rs"]
mod asking;
mod common;
#[path = "deaths/deliveries.rs"]
mod deliveries;
#[path = "deaths/imports.rs"]
mod imports;
#[path = "deaths/keys.rs"]
mod keys;
#[path = "deaths/operators.rs"]
mod operators;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};

use common::deaths::{Deaths, Gone, KEEP, Server, issuer, joined};
use common::fleet::{Fill, fill, install};
use common::killer::alone;
use common::kur::{Asked, Current, rr};
use common::place::database;
use common::ready::day;
use common::requests::nameless;
use common::rolled::taken;
use common::*;
use tegata_authority::UnixMs;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::ca::revocation::{FinalReason, Standing};
use tegata_authority::tam::availability::Availability;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _, PublicKey};
use tegata_store::NoFaults;
use tegata_store::certificate::{self, Certificate};
use tegata_store::generation::Generations;
use tegata_store::issuer::Issuer;
use tegata_store::role::Role;
use tegata_wire::cmp::{PkiBody, UnverifiedPkiMessage};
use tegata_wire::ids::TaUuid;
use tegata_wire::x509::CertView;

/// What a device and an operator have of a world whose servers are elsewhere: here its stores are closed.
struct Outside {
    dir: tempfile::TempDir,
    rng: Seeded,
    roots: Vec<Vec<u8>>,
    tam: PublicKey,
    release: PublicKey,
    ta: TaUuid,
    factory: PrivateKey,
    devices: Vec<Device>,
    current: Vec<Current>,
    _alone: Option<MutexGuard<'static, ()>>,
}

impl Outside {
    /// Of a world with one device that has its TA, and so many certificates of it.
    fn new(certificates: usize) -> Self {
        let alone = database().map(|_| alone());
        let mut world = World::new();
        let mut devices = world.batch("B1", 1);
        let ta = world.release(MODULE, false, Availability::Everybody).ta;
        install(&mut world, &mut devices, ta);
        let enrol = |_| ready::enrol(&mut world, &devices[0]);
        let current = (0..certificates).map(enrol).collect();
        // The key of its nonces is made here, and not by a process that is to die of something else.
        drop(issuer(world.ca.role().clone(), &mut Seeded(3)).unwrap());
        Self {
            rng: Seeded(2),
            roots: vec![world.ca.root_certificate().to_vec()],
            tam: world.tam.public_key().clone(),
            release: world.ca.release_public_key().clone(),
            ta,
            factory: world.factory,
            devices,
            current,
            dir: world.dir,
            _alone: alone,
        }
    }

    fn deaths(&self) -> Deaths {
        Deaths::new(self.dir.path(), true)
    }

    fn key(&mut self) -> Arc<PrivateKey> {
        Arc::new(PrivateKey::generate(KeyAlg::P256, &mut self.rng).unwrap())
    }

    /// A request of the device for a new key.
    fn csr(&mut self) -> Vec<u8> {
        let key = self.key();
        self.devices[0].csr(&key)
    }

    /// The story of a device that asks and confirms what it gets; `seen`: that too, each time it is told.
    fn enrols(
        &self,
        csr: &[u8],
        seen: &mut BTreeSet<Vec<u8>>,
        server: &mut Server,
    ) -> Result<(), Gone> {
        let device = &self.devices[0];
        let n = 1 + u8::from(server.again);
        let answer = server.ask("cmp", NOW, &device.p10cr(csr, n))?;
        let der = taken(&answer, &self.roots, SECS).unwrap();
        let conf = device.cert_conf(&answer, &RustCrypto.sha256(&der), n);
        seen.insert(der);
        assert_confirmed(&server.ask("cmp", NOW, &conf)?);
        Ok(())
    }

    /// The CA's part of the world, for as long as no process has it.
    fn ca(&self) -> Role {
        role(&self.db(), Arc::new(NoFaults))
    }

    /// The CA's store.
    fn db(&self) -> PathBuf {
        self.dir.path().join("ca.db")
    }

    fn number(&self, query: &str) -> i64 {
        Sql::open(&self.db()).number(query)
    }

    /// All certificates; each is finished, and none has another's serial number.
    fn certificates(&self) -> Vec<Certificate> {
        let store = open_store(self.db()).unwrap();
        let unfinished = store.read("t", certificate::unfinished).unwrap();
        assert!(unfinished.is_empty());
        let rows = store.read("t", |tx| certificate::list(tx, &[], 1000));
        let rows = rows.unwrap();
        let serials: BTreeSet<_> = rows.iter().map(|row| &row.intent.serial).collect();
        assert_eq!(serials.len(), rows.len());
        rows
    }

    fn standing(&self, der: &[u8]) -> Standing {
        let serial = CertView::from_der(der).unwrap().serial;
        let mut rows = self.certificates();
        rows.retain(|row| row.intent.serial == serial);
        rows[0].standing
    }
}

/// Seconds after the first certificates.
fn at(secs: usize) -> UnixMs {
    UnixMs(NOW.0 + 1_000 * secs as u64)
}

/// Whether a confirmation was taken.
fn assert_confirmed(answer: &[u8]) {
    let message = UnverifiedPkiMessage::from_der(answer).unwrap();
    let body = message.body().decode().unwrap();
    assert!(matches!(body, PkiBody::PkiConf), "{body:?}");
}

/// What is committed until a certificate is confirmed, with the CA's key in the process and elsewhere.
const COMMITS: [(bool, &[&str]); 2] = [
    (true, &["issue certificate", "confirm certificate"]),
    (
        false,
        &[
            "intend certificate",
            "record certificate",
            "confirm certificate",
        ],
    ),
];

#[test]
fn issuance_and_confirmation() {
    for (in_process, commits) in COMMITS {
        let mut out = Outside::new(0);
        let mut deaths = Deaths::new(out.dir.path(), in_process);
        for round in 1.. {
            let csr = out.csr();
            let mut seen = BTreeSet::new();
            let died = deaths.tell(|server| out.enrols(&csr, &mut seen, server));
            assert_eq!(seen.len(), 1, "{:?}", deaths.at);
            let rows = out.certificates();
            assert_eq!(rows.len(), round);
            assert!(rows.iter().all(|row| row.confirmed_at.is_some()));
            if !died {
                break;
            }
        }
        deaths.were_at(commits);
    }
}

#[test]
fn renewal_and_its_confirmation() {
    for (in_process, commits) in COMMITS {
        let mut out = Outside::new(1);
        let mut deaths = Deaths::new(out.dir.path(), in_process);
        for round in 1.. {
            let now = day(10 + round);
            let (key, old) = (out.key(), out.current.remove(0));
            let body = Asked::kur(&out.devices[0], &old, &key).body();
            let mut seen = BTreeSet::new();
            let died = deaths.tell(|server| {
                let n = 1 + u8::from(server.again);
                let answer = server.ask("cmp", now, &old.sign(&body, n, None))?;
                let new = taken(&answer, &out.roots, now.secs()).unwrap();
                let conf = old.conf(&answer, &new, n);
                seen.insert(new);
                assert_confirmed(&server.ask("cmp", now, &conf)?);
                Ok(())
            });
            assert_eq!(seen.len(), 1, "{:?}", deaths.at);
            let new = seen.pop_first().unwrap();
            assert_eq!(out.certificates().len() as u64, round + 1);
            let superseded = matches!(
                out.standing(&old.der),
                Standing::Revoked {
                    reason: FinalReason::Superseded,
                    ..
                }
            );
            assert!(superseded, "{:?}", deaths.at);
            assert!(out.standing(&new).is_good());
            out.current.push(Current { key, der: new });
            if !died {
                break;
            }
        }
        deaths.were_at(commits);
    }
}

#[test]
fn renewal_by_est() {
    let mut out = Outside::new(1);
    let old = out.current[0].der.clone();
    let mut deaths = out.deaths();
    for round in 2.. {
        let key = out.key();
        let request = joined(&[&nameless(&key), &old]);
        let mut seen = BTreeSet::new();
        // Told twice even if nobody dies: a client that lost the answer asks again, days later.
        let died = deaths.tell(|server| {
            seen.insert(server.ask("est", day(1), &request)?);
            seen.insert(server.ask("est", day(2), &request)?);
            Ok(())
        });
        assert_eq!(seen.len(), 1, "{:?}", deaths.at);
        assert_eq!(out.certificates().len(), round);
        if !died {
            break;
        }
    }
    deaths.were_at(&["issue certificate"; 2]);
}

#[test]
fn a_devices_own_word() {
    let mut out = Outside::new(5);
    let mut deaths = out.deaths();
    loop {
        let one = out.current.remove(0);
        let request = one.sign(&rr(&one.der, Some(4)), 1, None);
        let mut told = 0;
        // Told twice, the second time by what is revoked already.
        let died = deaths.tell(|server| {
            while told < 2 {
                let answer = server.ask("cmp", at(told), &request)?;
                let message = UnverifiedPkiMessage::from_der(&answer).unwrap();
                let body = message.body().decode().unwrap();
                let PkiBody::Rp(rep) = body else {
                    panic!("{body:?}")
                };
                assert!(rep.status[0].is_granted());
                told += 1;
            }
            Ok(())
        });
        let since = match out.standing(&one.der) {
            Standing::Revoked {
                since,
                reason: FinalReason::Superseded,
            } => since,
            other => panic!("{other:?}"),
        };
        assert_eq!(since, at(0).secs(), "{:?}", deaths.at);
        if !died {
            break;
        }
    }
    deaths.were_at(&["revoke by request"; 2]);
}

#[test]
fn an_operators_words() {
    const WORDS: [&str; 4] = ["hold", "unhold", "hold", "revoke"];
    let stands = |said: usize| match said {
        0 => Standing::Good,
        2 => Standing::Lifted { at: at(2).secs() },
        4 => Standing::Revoked {
            since: at(3).secs(),
            reason: FinalReason::KeyCompromise,
        },
        _ => Standing::Held {
            since: at(said).secs(),
        },
    };
    let mut out = Outside::new(2 * WORDS.len() + 1);
    let mut deaths = out.deaths();
    loop {
        let der = out.current.remove(0).der;
        let serial = CertView::from_der(&der).unwrap().serial;
        let mut answered = 0;
        let mut lost = None;
        let died = deaths.tell(|server| {
            if server.again && lost.is_none() {
                // What was answered holds. Of what was not, the operator does not know.
                let now = out.standing(&der);
                lost = Some(now == stands(answered));
                assert!(lost == Some(true) || now == stands(answered + 1), "{now:?}");
            }
            // The word that was not answered is said again.
            while let Some(word) = WORDS.get(answered) {
                server.ask(word, at(answered + 1), serial)?;
                answered += 1;
            }
            Ok(())
        });
        assert_eq!(out.standing(&der), stands(WORDS.len()));
        if !died {
            break;
        }
        let death = deaths.at.last().unwrap();
        assert_eq!(lost, Some(death.starts_with("before")), "{death}");
    }
    assert!(out.current.is_empty());
    deaths.were_at(&["revoke"; WORDS.len()]);
}

#[test]
fn a_word_about_a_whole_model() {
    const DEVICES: usize = 1_200;
    let out = Outside::new(1);
    let many = Fill {
        devices: DEVICES,
        each: 1,
        from: SECS.0 - 1_000,
        life: 365 * 86_400,
        shard: 65_536,
    };
    fill(&out.db(), many);
    let held = || out.number("SELECT count(*) FROM revocation WHERE reason = 6");
    let mut deaths = out.deaths();
    for round in 0.. {
        // By turns all of them are held, and none.
        let (word, all) = match round % 2 {
            0 => ("hold-all", DEVICES as i64 / 2),
            _ => ("unhold-all", 0),
        };
        let died = deaths.tell(|server| {
            server.ask(word, day(1), b"even")?;
            Ok(())
        });
        assert_eq!(held(), all, "{:?}", deaths.at);
        if !died {
            break;
        }
    }
    deaths.were_at(&["revoke by predicate"; 2]);
}

#[test]
fn the_archive_takes_and_gives_back() {
    let out = Outside::new(1);
    let many = Fill {
        devices: 300,
        each: 1,
        from: SECS.0,
        life: 30 * 86_400,
        shard: 65_536,
    };
    fill(&out.db(), many);
    let mut deaths = out.deaths();
    let later = UnixMs(NOW.0 + 4_000 * 86_400_000);
    assert!(later.secs().0 - SECS.0 > KEEP);
    let places = || {
        let both = "SELECT count(*) FROM certificate JOIN archive USING (serial)";
        assert_eq!(out.number(both), 0);
        let count = |table: &str| out.number(&format!("SELECT count(*) FROM {table}"));
        (count("certificate"), count("archive"))
    };
    loop {
        let died = deaths.tell(|server| {
            let (hot, archived) = places();
            assert_eq!(hot + archived, 301);
            server.ask("sweep", later, b"")?;
            assert_eq!(places(), (0, 301));
            // The clock was ahead, and is put right.
            server.ask("sweep", NOW, b"")?;
            Ok(())
        });
        assert_eq!(places(), (301, 0));
        if !died {
            break;
        }
    }
    // Two parts each way, and a look that finds nothing.
    deaths.were_at(&["archive"; 6]);
}

#[test]
fn a_rollover() {
    for (what, new_roots) in [("roll-issuing", 0), ("roll-root", 1)] {
        let mut out = Outside::new(0);
        let mut deaths = out.deaths();
        for number in 2_u8.. {
            let mut made = BTreeSet::new();
            let died = deaths.tell(|server| {
                made.insert(server.ask(what, NOW, &[number])?);
                Ok(())
            });
            assert_eq!(made.len(), 1, "{:?}", deaths.at);
            let (made, number) = (made.pop_first().unwrap(), usize::from(number));
            let key = out.key();
            let ca = out.ca();
            let there = Generations::load(&ca).unwrap();
            assert_eq!(there.iter().count(), number);
            assert_eq!(there.newest().ca.cert_der, made);
            assert_eq!(there.roots().count(), 1 + (number - 1) * new_roots);
            // It issues.
            let ca = Issuer::open(ca, profiles(), MacPolicy::default()).unwrap();
            let device = &out.devices[0];
            let request = device.p10cr(&device.csr(&key), 1);
            let answer = ca.cmp("device", &request, &mut out.rng, NOW);
            let der = taken(&answer.body, &out.roots, SECS).unwrap();
            let subject = CertView::from_der(&made).unwrap().subject_der;
            assert_eq!(CertView::from_der(&der).unwrap().issuer_der, subject);
            if !died {
                break;
            }
        }
        deaths.were_at(&["roll over"]);
    }
}

/// The calls by which SQLite changes files, as strace names them, and how many there are at least: fewer would
/// mean that some went unseen.
const CALLS: [(&str, usize); 5] = [
    ("pwrite64", 30),
    ("fdatasync", 4),
    ("fsync", 0),
    ("ftruncate", 2),
    ("unlink", 3),
];

/// From its start to its end, with all that it writes when it opens files and closes them: a commit has many
/// writes, and a log that is half written is what the next process finds.
#[test]
#[ignore = "needs strace: .ci/writes"]
fn every_write_of_a_file() {
    assert!(on_files("writes of SQLite"));
    for in_process in [true, false] {
        let mut out = Outside::new(0);
        let deaths = Deaths::new(out.dir.path(), in_process);
        let mut issued = 0;
        for (call, least) in CALLS {
            let mut killed = true;
            let mut nth = 0;
            while killed {
                nth += 1;
                let csr = out.csr();
                let mut seen = BTreeSet::new();
                killed = deaths.killed_at(call, nth, |server| out.enrols(&csr, &mut seen, server));
                assert_eq!(seen.len(), 1, "{call} {nth}");
            }
            println!("{call}: killed {} times", nth - 1);
            assert!(nth > least, "{call}");
            issued += nth;
        }
        let rows = out.certificates();
        assert_eq!(rows.len(), issued);
        assert!(rows.iter().all(|row| row.confirmed_at.is_some()));
    }
}

/// Run by the tests above in processes of their own.
#[test]
#[ignore = "a child process of the other tests here"]
fn child_that_dies() {
    common::deaths::serve();
}
