//! Who has no TA asks: by an enrolment secret, by evidence, and with an operator's word.

use tegata_authority::ca::est::Operation;
use tegata_store::est::Asker;
use tegata_store::{approval, secret};
use tegata_wire::cmp::{PollReqEntry, RawBody};
use tegata_wire::x509::List;

use super::common::psa::{Rot, request, statement};
use super::common::secrets::Client;
use super::*;

/// What is committed until a certificate is answered that nobody confirms, with the CA's key in the process
/// and elsewhere.
const AT_ONCE: [(bool, &[&str]); 2] = [
    (true, &["issue certificate"]),
    (false, &["intend certificate", "record certificate"]),
];

impl Outside {
    /// A client of the device, with a secret for more than it will ask for.
    fn client(&mut self, profile: &'static str) -> Client {
        let ueid = self.devices[0].identity.ueid;
        Client::new(&self.ca(), &mut self.rng, ueid, profile, 9)
    }

    /// How many certificates a secret gave.
    fn used(&self, client: &Client) -> u32 {
        let store = open_store(self.db()).unwrap();
        let row = store.read("t", |tx| secret::find(tx, &client.id));
        row.unwrap().unwrap().used
    }

    /// A registered device with a PSA Root of Trust.
    pub fn rot(&mut self) -> Rot {
        let rot = Rot::new(&mut self.rng, "S1");
        assert!(!self.ca().add_psa_device(&rot.device, SECS).unwrap());
        rot
    }

    /// What the only request that waits is called.
    fn waiting(&self) -> String {
        let store = open_store(self.db()).unwrap();
        let rows = store.read("t", approval::waiting).unwrap();
        assert_eq!(rows.len(), 1);
        rows[0].id()
    }
}

/// The certificate in an answer to who has a secret; `None` if they are to wait.
fn answered(client: &Client, answer: &[u8]) -> Option<Vec<u8>> {
    match client.verified(answer).body().decode().unwrap() {
        PkiBody::Cp(rep) => {
            let one = &rep.response[0];
            assert!(one.certificate().is_some() || one.status.is_waiting());
            one.certificate().map(<[u8]>::to_vec)
        }
        other => panic!("{other:?}"),
    }
}

/// The confirmation of a certificate that came in an answer.
fn conf(client: &Client, answer: &[u8], der: &[u8], transaction: u8) -> Vec<u8> {
    let body = RawBody::cert_conf(0, &RustCrypto.sha256(der), None).unwrap();
    let answer = client.verified(answer);
    client.message(&body, transaction, answer.header().sender_nonce())
}

#[test]
fn an_enrolment_secret_over_cmp() {
    for (in_process, commits) in COMMITS {
        let mut out = Outside::new(0);
        let client = out.client("open");
        let mut deaths = Deaths::new(out.dir.path(), in_process);
        for round in 1.. {
            let body = Asked::cr(&out.key()).body();
            let mut seen = BTreeSet::new();
            let died = deaths.tell(|server| {
                let n = 1 + u8::from(server.again);
                let answer = server.ask("cmp/open", NOW, &client.message(&body, n, None))?;
                let der = answered(&client, &answer).unwrap();
                let conf = conf(&client, &answer, &der, n);
                seen.insert(der);
                assert_confirmed(&server.ask("cmp/open", NOW, &conf)?);
                Ok(())
            });
            assert_eq!(seen.len(), 1, "{:?}", deaths.at);
            let rows = out.certificates();
            assert_eq!(rows.len(), round);
            assert!(rows.iter().all(|row| row.confirmed_at.is_some()));
            assert_eq!(out.used(&client) as usize, round, "{:?}", deaths.at);
            if !died {
                break;
            }
        }
        deaths.were_at(commits);
    }
}

#[test]
fn an_enrolment_secret_over_est() {
    for (in_process, commits) in AT_ONCE {
        let mut out = Outside::new(0);
        let client = out.client("open");
        let mut deaths = Deaths::new(out.dir.path(), in_process);
        for round in 1.. {
            let csr = nameless(&out.key());
            let asked = joined(&[&csr, client.id.as_bytes(), &client.text]);
            let mut seen = BTreeSet::new();
            let died = deaths.tell(|server| {
                seen.insert(server.ask("est/open", NOW, &asked)?);
                Ok(())
            });
            assert_eq!(seen.len(), 1, "{:?}", deaths.at);
            assert_eq!(out.certificates().len(), round);
            assert_eq!(out.used(&client) as usize, round, "{:?}", deaths.at);
            if !died {
                break;
            }
        }
        deaths.were_at(commits);
    }
}

#[test]
fn evidence_over_est() {
    for (in_process, commits) in AT_ONCE {
        let mut out = Outside::new(0);
        let rot = out.rot();
        let mut deaths = Deaths::new(out.dir.path(), in_process);
        for round in 1.. {
            let (key, other) = (out.key(), out.key());
            let of = |nonce: &[u8], key| request(key, &[statement(&rot.token(nonce, key))]);
            let mut nonce = None;
            let mut seen = BTreeSet::new();
            let died = deaths.tell(|server| {
                let nonce = match &nonce {
                    Some(had) => had,
                    None => nonce.insert(server.ask("nonce/psa", NOW, b"")?),
                };
                let asked = joined(&[&of(nonce, &key)]);
                seen.insert(server.ask("est/psa", NOW, &asked)?);
                Ok(())
            });
            assert_eq!(seen.len(), 1, "{:?}", deaths.at);
            assert_eq!(out.certificates().len(), round);
            // The nonce is that request's, and no other's.
            let ca = issuer(out.ca(), &mut out.rng).unwrap();
            let profile = ca.est_profile(Some("psa")).unwrap();
            let (of_another, rng) = (of(&nonce.unwrap(), &other), &mut out.rng);
            let denied = ca.est_enrol(
                Operation::Enroll,
                profile,
                Asker::Nobody,
                &of_another,
                rng,
                NOW,
            );
            assert_eq!(denied.unwrap_err().code(), "nonce-used");
            let spent = out.number("SELECT count(*) FROM evidence_nonce");
            assert_eq!(usize::try_from(spent), Ok(round), "{:?}", deaths.at);
            if !died {
                break;
            }
        }
        deaths.were_at(commits);
    }
}

#[test]
fn a_request_that_awaits_an_operator() {
    let mut out = Outside::new(0);
    let client = out.client("guarded");
    let mut deaths = out.deaths();
    for round in 1.. {
        let body = Asked::cr(&out.key()).body();
        let entry = PollReqEntry { cert_req_id: 0 };
        let poll = PkiBody::PollReq(List::one(entry)).to_raw().unwrap();
        let n = u8::try_from(round).unwrap();
        let (mut waits, mut approved) = (None, false);
        let mut seen = BTreeSet::new();
        // Each says again what was not answered, and nothing else.
        let died = deaths.tell(|server| {
            let id = match &waits {
                Some(id) => id,
                None => {
                    let asked = client.message(&body, n, None);
                    let answer = server.ask("cmp/guarded", NOW, &asked)?;
                    assert_eq!(answered(&client, &answer), None);
                    waits.insert(out.waiting())
                }
            };
            if !approved {
                server.ask("approve", NOW, id.as_bytes())?;
                approved = true;
            }
            let polled = client.message(&poll, n, None);
            let answer = server.ask("cmp/guarded", NOW, &polled)?;
            let der = answered(&client, &answer).unwrap();
            let conf = conf(&client, &answer, &der, n);
            seen.insert(der);
            assert_confirmed(&server.ask("cmp/guarded", NOW, &conf)?);
            Ok(())
        });
        assert_eq!(seen.len(), 1, "{:?}", deaths.at);
        assert_eq!(out.certificates().len(), round);
        assert_eq!(out.used(&client) as usize, round, "{:?}", deaths.at);
        let kept = out.number("SELECT count(*) FROM approval");
        assert_eq!(usize::try_from(kept), Ok(round), "{:?}", deaths.at);
        if !died {
            break;
        }
    }
    deaths.were_at(&[
        "await approval",
        "decide",
        "issue certificate",
        "confirm certificate",
    ]);
}

#[test]
fn evidence_that_awaits_an_operator() {
    let mut out = Outside::new(0);
    let rot = out.rot();
    let mut deaths = out.deaths();
    for round in 1.. {
        let key = out.key();
        let (mut asked, mut waits, mut approved) = (None, None, false);
        let mut seen = BTreeSet::new();
        let died = deaths.tell(|server| {
            let asked = match &asked {
                Some(asked) => asked,
                None => {
                    let nonce = server.ask("nonce/watched", NOW, b"")?;
                    let csr = request(&key, &[statement(&rot.token(&nonce, &key))]);
                    asked.insert(joined(&[&csr]))
                }
            };
            let id = match &waits {
                Some(id) => id,
                None => {
                    assert_eq!(server.ask("est/watched", NOW, asked)?, b"");
                    waits.insert(out.waiting())
                }
            };
            if !approved {
                server.ask("approve", NOW, id.as_bytes())?;
                approved = true;
            }
            // By now its nonce is old.
            seen.insert(server.ask("est/watched", day(2), asked)?);
            Ok(())
        });
        assert_eq!(seen.len(), 1, "{:?}", deaths.at);
        assert_eq!(out.certificates().len(), round);
        for table in ["evidence_nonce", "approval"] {
            let rows = out.number(&format!("SELECT count(*) FROM {table}"));
            assert_eq!(usize::try_from(rows), Ok(round), "{table} {:?}", deaths.at);
        }
        if !died {
            break;
        }
    }
    deaths.were_at(&["await approval", "decide", "issue certificate"]);
}
