//! What operators and factories bring: devices and releases.

use std::path::Path;

use tegata_authority::factory::sign_manifest;
use tegata_store::release;

use super::common::deaths::{CUT_FOR, parts};
use super::*;

#[test]
fn a_factorys_devices() {
    const COUNT: usize = 3;
    let mut out = Outside::new(0);
    let mut deaths = out.deaths();
    for round in 1.. {
        let made = batch(&mut out.rng, &format!("F{round}"), COUNT);
        let manifest = sign_manifest(&made.manifest, &out.factory).unwrap();
        let keys = made.keks.encode().unwrap();
        let died = deaths.tell(|server| {
            let all = COUNT.to_be_bytes();
            for role in ["import/ca", "import/tam", "import/verifier"] {
                assert_eq!(server.ask(role, NOW, &manifest)?, all);
            }
            assert_eq!(server.ask("import-keys", NOW, &keys)?, all);
            Ok(())
        });
        for name in ["ca.db", "tam.db", "verifier.db"] {
            let role = role(&out.dir.path().join(name), Arc::new(NoFaults));
            let found = made.secrets.iter().map(|d| role.device(&d.identity.ueid));
            assert!(found.map(Result::unwrap).all(|d| d.is_some()), "{name}");
            drop(role);
            let sql = Sql::open(&out.dir.path().join(name));
            // Beside the first device, of a batch of its own.
            let count = |of: &str| sql.number(&format!("SELECT count(*) FROM {of}"));
            let rows = (count("device"), count("device_batch"));
            let expected = i64::try_from(COUNT).unwrap() * round + 1;
            assert_eq!(rows, (expected, round + 1), "{name} {:?}", deaths.at);
            if name == "tam.db" {
                assert_eq!(count("device WHERE sealed_kek IS NOT NULL"), expected);
            }
        }
        if !died {
            break;
        }
    }
    deaths.were_at(&[
        "import devices",
        "import devices",
        "import devices",
        "import delivery keys",
    ]);
}

#[test]
fn a_release_and_its_way_to_the_others() {
    let out = Outside::new(0);
    let mut deaths = out.deaths();
    let releases = |path: &Path| open_store(path).unwrap().read("t", release::list).unwrap();
    let sequences = |path: &Path| {
        let rows = releases(path);
        rows.iter().map(|row| row.sequence).collect::<Vec<_>>()
    };
    let cut_for = tegata_wire::cbor::to_vec(&CUT_FOR).unwrap();
    let tam = out.dir.path().join("tam.db");
    let mut known = vec![1];
    loop {
        let mut cut = None;
        let died = deaths.tell(|server| {
            // Who did not hear of a release cuts another one.
            let cut = match &cut {
                Some(cut) => cut,
                None => cut.insert(server.ask("cut", NOW, MODULE)?),
            };
            let [package, envelope] = parts(cut)[..] else {
                panic!("a package and an envelope")
            };
            server.ask("register/verifier", NOW, envelope)?;
            server.ask("register/tam", NOW, package)?;
            Ok(())
        });
        let all = sequences(&out.db());
        let next = *all.last().unwrap();
        assert_eq!(all, (1..=next).collect::<Vec<_>>(), "{:?}", deaths.at);
        // It was for nobody else at any time.
        let mut cut = releases(&out.db()).into_iter().skip(1);
        assert!(cut.all(|row| row.availability == cut_for));
        // One that nobody heard of is at the CA alone.
        let lost = deaths.at.last().map(String::as_str) == Some("after store release");
        assert_eq!(next, known.last().unwrap() + 1 + u64::from(died && lost));
        known.push(next);
        assert_eq!(sequences(&tam), known, "{:?}", deaths.at);
        let verifier = Sql::open(&out.dir.path().join("verifier.db"));
        let values = verifier.number("SELECT count(*) FROM reference_value");
        assert_eq!(usize::try_from(values), Ok(known.len()), "{:?}", deaths.at);
        if !died {
            break;
        }
    }
    deaths.were_at(&["store release", "reference value", "register release"]);
}
