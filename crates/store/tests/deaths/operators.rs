//! What operators say of secrets, stops, releases, devices and roots.

use tegata_store::{release, root_list, secret};
use tegata_wire::enrolment::ReleasePackage;
use tegata_wire::ids::Ueid;

use super::common::deaths::parts;
use super::common::psa;
use super::*;

#[test]
fn a_secret_that_is_made_used_and_taken_back() {
    let mut out = Outside::new(0);
    let ueid = out.devices[0].identity.ueid;
    let mut deaths = out.deaths();
    let mut unseen = 0;
    for round in 1.. {
        let csr = nameless(&out.key());
        let (mut made, mut enrolled) = (None, false);
        let died = deaths.tell(|server| {
            let made = match &made {
                Some(made) => made,
                None => made.insert(server.ask("secret", NOW, ueid.as_bytes())?),
            };
            let [id, text] = parts(made)[..] else {
                panic!("an id and a text")
            };
            if !enrolled {
                server.ask("est/open", NOW, &joined(&[&csr, id, text]))?;
                enrolled = true;
            }
            server.ask_once("remove-secret", NOW, id, "no-secret")
        });
        assert_eq!(out.certificates().len(), round);
        // One whose text nobody was told is in the list, and can be taken back as any other.
        let last = deaths.at.last().map(String::as_str);
        unseen += usize::from(died && last == Some("after make enrolment secret"));
        let store = open_store(out.db()).unwrap();
        let rows = store.read("t", secret::list).unwrap();
        assert_eq!(rows.len(), unseen, "{:?}", deaths.at);
        assert!(rows.iter().all(|row| row.used == 0));
        if !died {
            break;
        }
    }
    deaths.were_at(&[
        "make enrolment secret",
        "issue certificate",
        "remove secret",
    ]);
}

#[test]
fn a_stop_and_its_end() {
    let mut out = Outside::new(0);
    let mut deaths = out.deaths();
    let stops = |out: &Outside| out.number("SELECT count(*) FROM issuance_stop");
    for round in 1.. {
        let csr = out.csr();
        let (mut stop, mut lifted) = (None, false);
        let mut seen = BTreeSet::new();
        let died = deaths.tell(|server| {
            let stop = match &stop {
                Some(stop) => stop,
                None => {
                    let one = server.ask("stop", NOW, b"gateway")?;
                    assert_eq!(server.ask("stop", NOW, b"gateway")?, one);
                    assert_eq!(stops(&out), 1);
                    let refused = server.ask("cmp", NOW, &out.devices[0].p10cr(&csr, 9))?;
                    let refused = UnverifiedPkiMessage::from_der(&refused).unwrap();
                    match refused.body().decode().unwrap() {
                        PkiBody::Cp(rep) => assert!(rep.response[0].certificate().is_none()),
                        other => panic!("{other:?}"),
                    }
                    stop.insert(one)
                }
            };
            if !lifted {
                server.ask_once("lift", NOW, stop, "no-stop")?;
                lifted = true;
            }
            out.enrols(&csr, &mut seen, server)
        });
        assert_eq!(seen.len(), 1, "{:?}", deaths.at);
        assert_eq!(out.certificates().len(), round);
        assert_eq!(stops(&out), 0);
        if !died {
            break;
        }
    }
    deaths.were_at(&[
        "stop issuance",
        "stop issuance",
        "lift stop",
        "issue certificate",
        "confirm certificate",
    ]);
}

#[test]
fn who_may_get_a_release() {
    let out = Outside::new(0);
    let mut deaths = out.deaths();
    let row = |name: &str| {
        let store = open_store(out.dir.path().join(name)).unwrap();
        let mut rows = store.read("t", release::list).unwrap();
        assert_eq!(rows.len(), 1);
        rows.remove(0)
    };
    let release = row("tam.db");
    let mut package = ReleasePackage::decode(&release.record).unwrap();
    for rules in [["withdrawn", "50%"], ["everybody", "nobody"]]
        .iter()
        .cycle()
    {
        let [rule, of_tam] = rules.map(|rule| joined(&[&release.digest.0, rule.as_bytes()]));
        let before = row("ca.db").rule_number;
        let died = deaths.tell(|server| {
            package.notice = Some(server.ask("available", NOW, &rule)?);
            server.ask("register/tam", NOW, &package.encode().unwrap())?;
            assert_eq!(row("tam.db").availability, row("ca.db").availability);
            // What the TAM's own operator says stands until the CA decides anew.
            server.ask("available/tam", NOW, &of_tam).map(drop)
        });
        let stands = |row: &release::Release| {
            let rule = tegata_wire::cbor::from_slice::<Availability>(&row.availability);
            rule.unwrap().to_string()
        };
        let (ca, tam) = (row("ca.db"), row("tam.db"));
        assert_eq!([stands(&ca), stands(&tam)], *rules, "{:?}", deaths.at);
        assert_eq!(ca.rule_number, tam.rule_number);
        assert!(ca.rule_number > before);
        if !died {
            break;
        }
    }
    deaths.were_at(&["availability", "register release", "availability"]);
}

#[test]
fn a_device_by_an_operators_word() {
    let mut out = Outside::new(0);
    let mut deaths = out.deaths();
    for round in 2.. {
        let key = out.key();
        let iak = key.public_key();
        let serial = format!("S{round}");
        let body = joined(&[&iak.to_spki_der().unwrap(), serial.as_bytes()]);
        let mut again = Vec::new();
        // Told twice, the second time of one that is registered already.
        let died = deaths.tell(|server| {
            while again.len() < 2 {
                again.push(server.ask("add", NOW, &body)? == [1]);
            }
            Ok(())
        });
        let lost = deaths.at.last().map(String::as_str) == Some("after add device");
        assert_eq!(again, [lost && deaths.at.len() == 2, true]);
        let device = psa::device(iak, &serial);
        assert!(out.ca().device(device.ueid()).unwrap().is_some());
        for table in ["device", "device_batch"] {
            let rows = out.number(&format!("SELECT count(*) FROM {table}"));
            assert_eq!(rows, round, "{table} {:?}", deaths.at);
        }
        if !died {
            break;
        }
    }
    deaths.were_at(&["add device"; 2]);
}

#[test]
fn a_roots_own_list() {
    let out = Outside::new(0);
    let mut deaths = out.deaths();
    for round in 1.. {
        let mut made = None;
        let died = deaths.tell(|server| {
            made = Some(server.ask("root-list", day(round), b"")?);
            Ok(())
        });
        let ca = out.ca();
        let there = Generations::load(&ca).unwrap();
        let root = there.roots().next().unwrap();
        let last = root_list::last(&ca.store, &root.id).unwrap().unwrap();
        assert_eq!((Some(last.der), last.made), (made, day(round).secs()));
        if !died {
            break;
        }
    }
    deaths.were_at(&["root list"]);
}

#[test]
fn a_device_whose_statements_are_counted_and_forgotten() {
    let out = Outside::new(0);
    let mut deaths = out.deaths();
    let ueid: &Ueid = &out.devices[0].identity.ueid;
    let said = |number: u64| [ueid.as_bytes(), &number.to_be_bytes()[..]].concat();
    loop {
        let (mut judged, mut forgotten) = (0, false);
        let died = deaths.tell(|server| {
            // Who lost a verdict sends the same statement again, and hears that it was counted; it makes another.
            while judged < 2 {
                server.ask_once("judge", NOW, &said(judged + 1), "counted")?;
                judged += 1;
            }
            if !forgotten {
                server.ask_once("forget-device", NOW, ueid.as_bytes(), "nothing")?;
                forgotten = true;
            }
            Ok(())
        });
        let verify = Sql::open(&out.dir.path().join("verify.db"));
        assert_eq!(verify.number("SELECT count(*) FROM statement_counted"), 0);
        if !died {
            break;
        }
    }
    deaths.were_at(&["judge statement", "judge statement", "forget a device"]);
}
