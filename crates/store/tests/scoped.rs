//! Revocation by predicate: exactly what it is true of, beside issuance, and again after a death.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use common::fleet::{Fill, fill, install};
use common::*;
use tegata_authority::ca::revocation::{FinalReason, Word};
use tegata_authority::tam::availability::Availability;
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::{KeyAlg, PrivateKey};
use tegata_store::attested::DottedVersion;
use tegata_store::revocation::scoped::{
    Predicate, ReleasesOf, RuntimesOf, ScopedError, check_names, plan_for_all, say_to_all,
};
use tegata_store::revocation::stop::{self, NoStop};
use tegata_store::revocation::{Target, say};
use tegata_store::{Store, certificate, revocation};
use tegata_wire::ids::{ReleaseDigest, Ueid};
use tegata_wire::x509::CertView;

const COMPROMISED: Word = Word::Revoke(FinalReason::KeyCompromise);
const YEAR: u64 = 365 * 86_400;

/// A CA with a TA on devices, and one certificate of each that a device really asked for.
fn ready(count: usize) -> (World, Vec<Device>, ReleaseDigest) {
    let mut world = World::new();
    let mut devices = world.batch("B1", count);
    let cut = world.release(MODULE, false, Availability::Everybody);
    install(&mut world, &mut devices, cut.ta);
    for (device, n) in devices.iter().zip(0..) {
        ask(&mut world, device, n).unwrap();
    }
    (world, devices, cut.digest)
}

/// A certificate for a new key, or words; its serial number.
fn ask(world: &mut World, device: &Device, n: u8) -> Result<Vec<u8>, String> {
    ask_at(world, device, n, NOW)
}

fn ask_at(world: &mut World, device: &Device, n: u8, now: UnixMs) -> Result<Vec<u8>, String> {
    let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
    let request = device.p10cr(&device.csr(&key), n);
    let answer = world.ca.cmp("device", &request, &mut world.rng, now);
    let der = certificate_of(&answer.body, &world.ca)?;
    Ok(CertView::from_der(&der).unwrap().serial.to_vec())
}

/// 400 devices with two certificates of a year each, the last of 800 issued 0.8 s after the first.
fn filled() -> (World, Vec<Device>, ReleaseDigest, Store) {
    let (world, devices, release) = ready(1);
    let path = world.dir.path().join("ca.db");
    let some = Fill {
        devices: 400,
        each: 2,
        from: SECS.0 - 1_000,
        life: YEAR,
        shard: 65_536,
    };
    fill(&path, some);
    let store = open_store(&path).unwrap();
    (world, devices, release, store)
}

fn matched(store: &Store, predicate: &Predicate) -> u64 {
    let planned = plan_for_all(store, predicate, COMPROMISED, SECS, |_| ()).unwrap();
    planned.progress.matched
}

fn revoked(store: &Store) -> u64 {
    let all = store.read("t", |tx| {
        revocation::changes(tx, (0, u64::MAX), 0, 10_000_000)
    });
    let all = all.unwrap();
    let numbers: std::collections::BTreeSet<u64> = all.iter().map(|c| c.number).collect();
    assert_eq!(
        numbers.len(),
        all.len(),
        "each change has a number of its own"
    );
    all.iter().filter(|c| !c.standing.is_good()).count() as u64
}

#[test]
fn a_predicate_is_all_that_is_named_at_once() {
    let (_world, devices, release, store) = filled();
    let real: Ueid = devices[0].identity.ueid;
    let none = Predicate::default;
    let model = |name: &str| Some(name.to_owned());
    let ta = |below| {
        Some(ReleasesOf {
            ta: "enrol".to_owned(),
            from: None,
            below,
        })
    };
    let ta_from = |from, below| {
        Some(ReleasesOf {
            ta: "enrol".to_owned(),
            from: Some(from),
            below,
        })
    };
    let before = |secs| Some(UnixSecs(SECS.0 - 1_000 + secs));
    for (predicate, expected) in [
        (
            Predicate {
                release: Some(release),
                ..none()
            },
            801,
        ),
        (
            Predicate {
                releases: ta(None),
                ..none()
            },
            801,
        ),
        (
            Predicate {
                releases: ta(Some(2)),
                ..none()
            },
            801,
        ),
        (
            Predicate {
                releases: ta(Some(1)),
                ..none()
            },
            0,
        ),
        (
            Predicate {
                releases: ta_from(1, None),
                ..none()
            },
            801,
        ),
        (
            Predicate {
                releases: ta_from(2, None),
                ..none()
            },
            0,
        ),
        (
            Predicate {
                releases: ta_from(1, Some(2)),
                ..none()
            },
            801,
        ),
        (
            Predicate {
                releases: ta_from(1, Some(1)),
                ..none()
            },
            0,
        ),
        (
            Predicate {
                model: model("even"),
                ..none()
            },
            400,
        ),
        (
            Predicate {
                model: model("even"),
                profile: model("other"),
                ..none()
            },
            200,
        ),
        (
            Predicate {
                batch: model("F0"),
                ..none()
            },
            800,
        ),
        (
            Predicate {
                batch: model("B1"),
                ..none()
            },
            1,
        ),
        (
            Predicate {
                batch: model("F"),
                ..none()
            },
            0,
        ),
        (
            Predicate {
                profile: model("device"),
                ..none()
            },
            401,
        ),
        (
            Predicate {
                issued_before: before(1),
                ..none()
            },
            800,
        ),
        (
            Predicate {
                issued_before: before(0),
                ..none()
            },
            0,
        ),
        (
            Predicate {
                issued_after: before(0),
                ..none()
            },
            801,
        ),
        (
            Predicate {
                issued_after: before(1),
                ..none()
            },
            1,
        ),
        (
            Predicate {
                devices: Some([real].into()),
                ..none()
            },
            1,
        ),
        (
            Predicate {
                devices: Some([real].into()),
                profile: model("other"),
                ..none()
            },
            0,
        ),
    ] {
        assert_eq!(matched(&store, &predicate), expected, "{predicate:?}");
    }
    assert_eq!(revoked(&store), 0, "a plan changes nothing");
    // Everything, and names that are not there, are mistakes and not results.
    let refused = |predicate| {
        let planned = plan_for_all(&store, &predicate, COMPROMISED, SECS, |_| ());
        let said = say_to_all(&store, &predicate, COMPROMISED, SECS, |_| ());
        assert_eq!(
            planned.unwrap_err().to_string(),
            said.as_ref().unwrap_err().to_string()
        );
        said.unwrap_err()
    };
    assert!(matches!(refused(none()), ScopedError::Empty));
    let unknown = Predicate {
        release: Some(ReleaseDigest([7; 32])),
        ..none()
    };
    assert!(matches!(refused(unknown), ScopedError::NoRelease));
    let unknown = Predicate {
        releases: Some(ReleasesOf {
            ta: "enrolled".to_owned(),
            from: None,
            below: None,
        }),
        ..none()
    };
    assert!(matches!(refused(unknown), ScopedError::NoRelease));
    let nobody = Ueid::from_slice(&[1; 17]).unwrap();
    let unknown = Predicate {
        devices: Some([real, nobody].into()),
        ..none()
    };
    assert!(matches!(refused(unknown), ScopedError::NoDevice(ueid) if ueid == nobody));
    let named = |model: Option<&str>, batch: Option<&str>, profile: Option<&str>| {
        let owned = |name: Option<&str>| name.map(str::to_owned);
        let predicate = Predicate {
            model: owned(model),
            batch: owned(batch),
            profile: owned(profile),
            ..none()
        };
        check_names(&store, &predicate)
    };
    named(None, None, None).unwrap();
    named(Some("even"), None, None).unwrap();
    for (unknown, what) in [
        (named(Some("ever"), None, None), "model"),
        (named(Some("even"), Some("ever"), None), "batch"),
        (named(None, None, Some("ever")), "profile"),
    ] {
        assert!(matches!(unknown, Err(ScopedError::NoSuch(name)) if name == what));
    }
    assert_eq!(revoked(&store), 0);
}

#[test]
fn words_reach_what_they_can_change_and_pass_over_the_rest() {
    let (_world, _devices, _release, store) = filled();
    let even = Predicate {
        model: Some("even".to_owned()),
        ..Predicate::default()
    };
    let planned = plan_for_all(&store, &even, Word::Hold, SECS, |_| ()).unwrap();
    assert_eq!((planned.progress.changed, planned.sample.len()), (400, 10));
    let one = planned.sample[0].certificate.serial.clone();
    say(&store, &Target::Certificate(one.clone()), COMPROMISED, SECS).unwrap();

    let mut told = Vec::new();
    let held = say_to_all(&store, &even, Word::Hold, SECS, |at| told.push(at)).unwrap();
    assert_eq!((held.matched, held.changed), (400, 399));
    assert_eq!(told.last(), Some(&held));
    assert_eq!(revoked(&store), 400);
    // Again is the same as once.
    let again = say_to_all(&store, &even, Word::Hold, SECS, |_| ()).unwrap();
    assert_eq!((again.matched, again.changed), (400, 0));
    // One purpose of a model: the other one lives.
    let other = Predicate {
        profile: Some("other".to_owned()),
        ..even.clone()
    };
    let lifted = say_to_all(&store, &other, Word::Unhold, SECS, |_| ()).unwrap();
    assert_eq!((lifted.matched, lifted.changed), (200, 200));
    assert_eq!(revoked(&store), 200);
    let rest = say_to_all(&store, &even, Word::Unhold, SECS, |_| ()).unwrap();
    assert_eq!(rest.changed, 199, "what is revoked for good stays");
    let row = store.read("t", |tx| certificate::find(tx, &one)).unwrap();
    assert!(!row.unwrap().standing.is_good());
    // What has ended is nobody's matter any more.
    let later = UnixSecs(SECS.0 + 2 * YEAR);
    let none = say_to_all(&store, &even, COMPROMISED, later, |_| ()).unwrap();
    assert_eq!(none.matched, 0);
}

#[test]
fn a_recall_by_runtime_reaches_who_the_verifier_last_saw_with_an_old_one() {
    let mut world = World::new();
    let mut devices = world.batch("B1", 3);
    let cut = world.release(MODULE, false, Availability::Everybody);
    for (device, version) in devices.iter_mut().zip(["1.3.9", "1.4.0-rc1", "1.10.0"]) {
        device.swversion = version.to_owned();
    }
    install(&mut world, &mut devices, cut.ta);
    let mut serials = Vec::new();
    for (device, n) in devices.iter().zip(0..) {
        serials.push(ask(&mut world, device, n).unwrap());
    }
    let store = open_store(world.dir.path().join("ca.db")).unwrap();
    let version = |text: &str| DottedVersion::parse(text).unwrap();
    let range = |name: &str, from: Option<&str>, below: Option<&str>| Predicate {
        runtimes: Some(RuntimesOf {
            name: name.to_owned(),
            from: from.map(version),
            below: below.map(version),
        }),
        ..Predicate::default()
    };
    let of = |name, below| range(name, None, below);
    for (from, below, expected) in [
        (None, None, 3),
        (None, Some("1.3"), 0),
        (None, Some("1.3.9"), 0),
        (None, Some("1.4"), 1),
        (None, Some("1.9"), 2),
        (None, Some("2"), 3),
        (Some("1.3.9"), Some("1.4"), 1),
        (Some("1.4"), Some("1.9"), 1),
        (Some("1.4.0.1"), None, 1),
        (Some("1.10.0.1"), None, 0),
    ] {
        let found = matched(&store, &range("tegata-teed", from, below));
        assert_eq!(found, expected, "{from:?} {below:?}");
    }
    // Another name is a mistake, as a release that is not there.
    let none = plan_for_all(&store, &of("tegata-tee", None), COMPROMISED, SECS, |_| ());
    assert!(matches!(none, Err(ScopedError::NoRuntime)));
    let said = say_to_all(
        &store,
        &of("tegata-teed", Some("1.4")),
        COMPROMISED,
        SECS,
        |_| (),
    );
    assert_eq!(said.unwrap().changed, 1);
    let good = |serial| {
        let row = store.read("t", |tx| certificate::find(tx, serial)).unwrap();
        row.unwrap().standing.is_good()
    };
    let stand: Vec<bool> = serials.iter().map(|serial| good(serial)).collect();
    assert_eq!(stand, [false, true, true]);
}

#[test]
fn a_stop_holds_back_what_it_names_and_nothing_else() {
    let (mut world, devices, release) = ready(2);
    let store = open_store(world.dir.path().join("ca.db")).unwrap();
    let none = Predicate::default;
    let batch = |name: &str| Predicate {
        batch: Some(name.to_owned()),
        ..none()
    };
    let mine = Predicate {
        devices: Some([devices[0].identity.ueid].into()),
        profile: Some("device".to_owned()),
        ..none()
    };
    let range = |from, below| Predicate {
        releases: Some(ReleasesOf {
            ta: "enrol".to_owned(),
            from,
            below,
        }),
        ..none()
    };
    let of = |below| range(None, below);
    let mut n = 10;
    for (what, first, second) in [
        (batch("B1"), false, false),
        (batch("B2"), true, true),
        (
            Predicate {
                release: Some(release),
                ..none()
            },
            false,
            false,
        ),
        (
            Predicate {
                release: Some(ReleaseDigest([7; 32])),
                ..none()
            },
            true,
            true,
        ),
        (of(None), false, false),
        (of(Some(2)), false, false),
        (of(Some(1)), true, true),
        (range(Some(1), None), false, false),
        (range(Some(1), Some(2)), false, false),
        (range(Some(2), None), true, true),
        (range(Some(2), Some(9)), true, true),
        (
            Predicate {
                model: Some("gateway".to_owned()),
                ..none()
            },
            false,
            false,
        ),
        (
            Predicate {
                profile: Some("other".to_owned()),
                ..none()
            },
            true,
            true,
        ),
        (mine, false, true),
    ] {
        let stop = stop::stop(&store, &what, SECS).unwrap();
        assert_eq!(stop::stop(&store, &what, SECS).unwrap(), stop, "again");
        assert_eq!(
            store.read("t", stop::stops).unwrap(),
            std::slice::from_ref(&stop)
        );
        for (device, allowed) in devices.iter().zip([first, second]) {
            n += 1;
            let answer = ask(&mut world, device, n);
            match answer {
                Ok(_) => assert!(allowed, "{what:?}"),
                Err(said) => assert_eq!((allowed, said.as_str()), (false, "NOT_AUTHORIZED")),
            }
        }
        assert!(stop::lift(&store, stop.id).unwrap());
        assert!(!stop::lift(&store, stop.id).unwrap());
    }
    ask(&mut world, &devices[0], 99).unwrap();
    // Each request is held against it, so it cannot be about times or lists of devices.
    let both = devices.iter().map(|device| device.identity.ueid).collect();
    for wrong in [
        none(),
        Predicate {
            issued_before: Some(SECS),
            ..batch("B1")
        },
        Predicate {
            devices: Some(both),
            ..none()
        },
        Predicate {
            runtimes: Some(RuntimesOf {
                name: "tegata-teed".to_owned(),
                from: None,
                below: None,
            }),
            ..batch("B1")
        },
    ] {
        assert!(matches!(
            stop::stop(&store, &wrong, SECS),
            Err(NoStop::NotOfKind)
        ));
    }
}

#[test]
fn what_is_issued_meanwhile_is_revoked_or_refused() {
    let (mut world, devices, _release, store) = filled();
    let all = Predicate {
        profile: Some("device".to_owned()),
        ..Predicate::default()
    };
    let mut issued = Vec::new();
    stop::stop(&store, &all, SECS).unwrap();
    assert_eq!(
        ask(&mut world, &devices[0], 7).unwrap_err(),
        "NOT_AUTHORIZED"
    );
    let (stopped, _) = (store.read("t", stop::stops).unwrap(), ());
    stop::lift(&store, stopped[0].id).unwrap();
    // Another thread issues as long as the run lasts; both go on.
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let one_by_one = |_| std::thread::sleep(std::time::Duration::from_millis(50));
            let at = say_to_all(&store, &all, COMPROMISED, SECS, one_by_one).unwrap();
            done.store(true, std::sync::atomic::Ordering::SeqCst);
            at
        });
        let mut n = 20;
        loop {
            issued.push(ask(&mut world, &devices[0], n).unwrap());
            n += 1;
            std::thread::sleep(std::time::Duration::from_millis(20));
            if done.load(std::sync::atomic::Ordering::SeqCst) && issued.len() > 2 {
                break;
            }
        }
        assert!(run.join().unwrap().changed >= 401);
    });
    // With the stop first, nothing is left after the run.
    stop::stop(&store, &all, SECS).unwrap();
    say_to_all(&store, &all, COMPROMISED, SECS, |_| ()).unwrap();
    for serial in &issued {
        let row = store.read("t", |tx| certificate::find(tx, serial)).unwrap();
        assert!(!row.unwrap().standing.is_good());
    }
    assert_eq!(
        ask(&mut world, &devices[0], 200).unwrap_err(),
        "NOT_AUTHORIZED"
    );
}

#[test]
fn what_is_issued_while_a_run_writes_is_reached_by_the_same_run() {
    let (mut world, devices, _release, store) = filled();
    let device = &devices[0];
    let one = Predicate {
        profile: Some("device".to_owned()),
        ..Predicate::default()
    };
    let same_by_device = Predicate {
        devices: Some([device.identity.ueid].into()),
        ..Predicate::default()
    };
    let mut n = 20;
    for (predicate, before, all) in [(one, 401, 401), (same_by_device, 0, 4)] {
        let mut issued = Vec::new();
        // Everything that was there is read and written by now. One is issued now, and one whose request
        // waited for four minutes, so that it lies behind; one more when those two are written.
        let done = say_to_all(&store, &predicate, COMPROMISED, SECS, |at| {
            let ages = match (issued.len(), at.changed) {
                (0, _) => vec![0, 240],
                (2, changed) if changed == before + 2 => vec![0],
                _ => vec![],
            };
            for age in ages {
                n += 1;
                let at = UnixMs(NOW.0 - age * 1_000);
                issued.push(ask_at(&mut world, device, n, at).unwrap());
            }
        });
        let done = done.unwrap();
        assert_eq!((done.matched, done.changed), (all + 3, before + 3));
        assert_eq!(issued.len(), 3);
        for serial in &issued {
            let row = store.read("t", |tx| certificate::find(tx, serial)).unwrap();
            assert!(!row.unwrap().standing.is_good());
        }
    }
    // Who issues without a pause does not keep a run from its end.
    let all = Predicate {
        profile: Some("device".to_owned()),
        ..Predicate::default()
    };
    let mut issued = 0;
    let done = say_to_all(&store, &all, COMPROMISED, SECS, |_| {
        issued += 1;
        ask(&mut world, device, 50 + issued).unwrap();
    });
    assert!((16..=100).contains(&done.unwrap().changed), "{issued}");
}

#[test]
fn killed_at_any_moment_the_same_command_does_the_rest() {
    let (world, _devices, _release) = ready(1);
    let path = world.dir.path().join("ca.db");
    let many = Fill {
        devices: 20_000,
        each: 1,
        from: SECS.0 - 1_000,
        life: YEAR,
        shard: 65_536,
    };
    fill(&path, many);
    let mut last = 0;
    for parts in [1, 3, 6] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env("TEGATA_TEST_DB", &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told: Vec<u64> = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("told ")?.parse().ok())
            .take(parts)
            .collect();
        // SIGKILL, in the middle of whatever it does.
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(told.len(), parts);
        let store = open_store(&path).unwrap();
        let now = revoked(&store);
        assert!(
            now >= last + told.last().unwrap(),
            "what was told is durable"
        );
        assert!(now < 20_000, "it was killed on the way");
        last = now;
    }
    let store = open_store(&path).unwrap();
    let predicate = Predicate {
        batch: Some("F0".to_owned()),
        ..Predicate::default()
    };
    let other = Predicate {
        batch: Some("F1".to_owned()),
        ..Predicate::default()
    };
    let rest = say_to_all(&store, &predicate, COMPROMISED, SECS, |_| ()).unwrap();
    let more = say_to_all(&store, &other, COMPROMISED, SECS, |_| ()).unwrap();
    assert_eq!(rest.matched + more.matched, 20_000);
    assert_eq!(last + rest.changed + more.changed, 20_000);
    assert_eq!(revoked(&store), 20_000);
}

/// Run by the test above in a process of its own, which is killed.
#[test]
#[ignore = "a child process of killed_at_any_moment_the_same_command_does_the_rest"]
fn child_that_is_killed() {
    let store = open_store(std::env::var("TEGATA_TEST_DB").unwrap()).unwrap();
    let predicate = Predicate {
        model: Some("even".to_owned()),
        ..Predicate::default()
    };
    let told = |at: tegata_store::revocation::scoped::Progress| println!("told {}", at.changed);
    say_to_all(&store, &predicate, COMPROMISED, SECS, told).unwrap();
    let rest = Predicate {
        model: Some("odd".to_owned()),
        ..Predicate::default()
    };
    say_to_all(&store, &rest, COMPROMISED, SECS, |_| ()).unwrap();
    // Alive until it is killed.
    std::thread::sleep(std::time::Duration::from_secs(60));
}
