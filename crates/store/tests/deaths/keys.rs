//! Keys and certificates that servers make for themselves.

use tegata_authority::ca::est::Operation;
use tegata_store::est::Asker;
use tegata_store::role::Trust;

use super::common::ocsp;
use super::common::psa::{request, statement};
use super::*;

#[test]
fn a_new_installation() {
    let mut out = Outside::new(0);
    let factory = out.factory.public_key().clone();
    let mut deaths = out.deaths();
    for round in 1.. {
        let name = format!("new{round}");
        let asked = joined(&[name.as_bytes(), &factory.to_spki_der().unwrap()]);
        let mut root = None;
        let died = deaths.tell(|server| {
            root = Some(server.ask("init", NOW, &asked)?);
            Ok(())
        });
        // Once more changes nothing.
        let files = ["ca", "tam", "verifier"].map(|role| format!("{name}{role}.db"));
        let files = files.map(|file| out.dir.path().join(file));
        let roles = files.each_ref().map(|file| role(file, Arc::new(NoFaults)));
        let (ca, tam, verifier) = found(roles, &factory, KeyAlg::P256, &mut out.rng).unwrap();
        assert_eq!(root.as_deref(), Some(ca.root_certificate()));
        let (tams, verifiers) = (tam.public_key(), verifier.public_key());
        for (role, purpose, key) in [
            (ca.role(), Trust::Tam, tams),
            (ca.role(), Trust::Verifier, verifiers),
            (tam.role(), Trust::Verifier, verifiers),
            (tam.role(), Trust::Release, ca.release_public_key()),
            (verifier.role(), Trust::Release, ca.release_public_key()),
        ] {
            let trusted = role.trusted(purpose).unwrap();
            assert_eq!(trusted, std::slice::from_ref(key), "{purpose:?}");
        }
        // Root, issuing and release; signing, exchange and challenges; results.
        for (file, keys, trusts) in [(&files[0], 3, 3), (&files[1], 3, 3), (&files[2], 1, 2)] {
            let sql = Sql::open(file);
            let count = |of| sql.number(&format!("SELECT count(*) FROM {of}"));
            let rows = (count("sealed_key"), count("trusted_key"));
            assert_eq!(rows, (keys, trusts), "{file:?} {:?}", deaths.at);
        }
        if !died {
            break;
        }
    }
    deaths.were_at(&[
        "init CA", "init TAM", "make key", "trust", "trust", "trust", "trust", "trust", "trust",
        "trust", "trust",
    ]);
}

/// What a server is asked, how its key and certificate are named, and what is committed.
const OWN: [(&str, &str, &[&str]); 2] = [
    ("ocsp", "ca ocsp", &["make key", "renew responder"]),
    ("est-identity", "ca est", &["make key", "renew EST server"]),
];

#[test]
fn the_responders_and_the_est_servers_certificate() {
    let out = Outside::new(1);
    let issuing = Generations::load(&out.ca()).unwrap();
    let issuing = issuing.newest().ca.cert_der.clone();
    let serial = CertView::from_der(&out.current[0].der).unwrap().serial;
    let status = ocsp::request(&ocsp::cert_id_by(&issuing, serial, false));
    for (what, name, commits) in OWN {
        let body = match what {
            "ocsp" => &status[..],
            _ => b"",
        };
        let mut deaths = out.deaths();
        loop {
            let sql = Sql::open(&out.db());
            sql.run(&format!("DELETE FROM sealed_key WHERE name = '{name} key'"));
            drop(sql);
            let mut seen = BTreeSet::new();
            // Told twice: what was made serves.
            let died = deaths.tell(|server| {
                seen.insert(server.ask(what, NOW, body)?);
                seen.insert(server.ask(what, NOW, body)?);
                Ok(())
            });
            assert_eq!(seen.len(), 1, "{:?}", deaths.at);
            let seen = seen.pop_first().unwrap();
            match what {
                "ocsp" => ocsp::check_response(&seen, &issuing),
                _ => assert_eq!(super::common::deaths::parts(&seen)[1], issuing),
            }
            for (table, what) in [("sealed_key", "key"), ("document", "certificate")] {
                let of = format!("{table} WHERE name LIKE '{name} {what}%'");
                assert_eq!(out.number(&format!("SELECT count(*) FROM {of}")), 1);
            }
            if !died {
                break;
            }
        }
        deaths.were_at(commits);
    }
}

#[test]
fn the_key_of_nonces() {
    let mut out = Outside::new(0);
    let rot = out.rot();
    let mut deaths = out.deaths();
    for round in 1.. {
        let sql = Sql::open(&out.db());
        sql.run("DELETE FROM sealed_key WHERE name = 'ca evidence nonce key'");
        drop(sql);
        let mut nonce = None;
        // The server makes it when it starts: it is then that it dies.
        let died = deaths.tell(|server| {
            nonce = Some(server.ask("nonce/psa", NOW, b"")?);
            Ok(())
        });
        // A nonce of one process is good at another.
        let key = out.key();
        let asked = request(&key, &[statement(&rot.token(&nonce.unwrap(), &key))]);
        let ca = issuer(out.ca(), &mut out.rng).unwrap();
        let profile = ca.est_profile(Some("psa")).unwrap();
        let (by, rng) = (Asker::Nobody, &mut out.rng);
        let enrolled = ca.est_enrol(Operation::Enroll, profile, by, &asked, rng, NOW);
        assert!(enrolled.is_ok(), "{:?}", deaths.at);
        drop(ca);
        assert_eq!(out.certificates().len(), round);
        if !died {
            break;
        }
    }
    deaths.were_at(&["make nonce key"]);
}
