//! cfssl: `authsign`, which its HMAC key authenticates, and so nearest to ours. Alone it keeps nothing: a
//! certificate that it answered is nowhere else. With SQLite it has a row of each, by its own defaults
//! (rollback journal, synced at each commit), on the disk that ours is on.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64ct::{Base64, Encoding as _};
use serde_json::json;
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::{OsRng, Provider as _, Rng as _};

use super::{Peer, answer_of, started, target, translated, write};
use crate::bench::load::Target;
use crate::bench::odd;
use crate::bench::requests::{Reader, Spool};
use crate::bench::served::Served;
use crate::bench::subject::Subject;
use crate::fault::Outcome;

/// cfssl with keys of its own.
pub struct Cfssl {
    dir: PathBuf,
    /// Whether its database could be made.
    sqlite: bool,
    requests: Spool,
}

/// Its files and requests.
pub fn prepare(dir: &Path, requests: &Spool, skipped: &mut Vec<String>) -> Outcome<Option<Cfssl>> {
    write(dir, "csr.json", CSR)?;
    let mut genkey = Command::new("cfssl");
    genkey.current_dir(dir);
    genkey.args(["gencert", "-loglevel", "5", "-initca", "csr.json"]);
    let made = match answer_of(genkey, "Debian: golang-cfssl") {
        Ok(made) => made,
        Err(why) => {
            skipped.push(why);
            return Ok(None);
        }
    };
    let made: serde_json::Value = serde_json::from_slice(&made).unwrap_or_default();
    for (name, field) in [("ca.pem", "cert"), ("ca-key.pem", "key")] {
        let Some(text) = made.get(field).and_then(serde_json::Value::as_str) else {
            skipped
                .push("cfssl made no CA: what `cfssl gencert -initca` writes has none".to_owned());
            return Ok(None);
        };
        write(dir, name, text)?;
    }
    let mut key = [0; 32];
    OsRng.fill(&mut key).map_err(odd)?;
    let config = json!({
        "signing": { "default": {
            "expiry": "8760h", "auth_key": "bench",
            "usages": ["digital signature", "key agreement", "client auth"],
        } },
        "auth_keys": { "bench": { "type": "standard", "key": hex::encode(key) } },
    });
    write(dir, "config.json", &config.to_string())?;
    let database = json!({ "driver": "sqlite3", "data_source": "certs.db" });
    write(dir, "db.json", &database.to_string())?;
    let mut sqlite = Command::new("sqlite3");
    sqlite.current_dir(dir).args(["certs.db", SCHEMA]);
    let made = answer_of(sqlite, "Debian: sqlite3");
    let sqlite = made.is_ok();
    skipped.extend(made.err().map(|why| format!("cfssl with SQLite: {why}")));
    let requests = translated(dir, requests, |csr| {
        let inner = json!({ "certificate_request": csr }).to_string();
        let token = AwsLc.hmac_sha256(&key, inner.as_bytes());
        Ok(json!({
            "token": Base64::encode_string(&token),
            "request": Base64::encode_string(inner.as_bytes()),
        }))
    })?;
    Ok(Some(Cfssl {
        dir: dir.to_path_buf(),
        sqlite,
        requests,
    }))
}

impl Peer for Cfssl {
    fn subjects(&self) -> Vec<Subject> {
        let sqlite = self.sqlite.then_some(Subject::CfsslSqlite);
        [Subject::Cfssl].into_iter().chain(sqlite).collect()
    }

    fn requests(&self) -> Outcome<Reader> {
        self.requests.read()
    }

    fn start(&self, subject: Subject, dir: PathBuf, cpu: usize) -> Outcome<(Served, Target)> {
        let server = started("cfssl", (&self.dir, dir), cpu, |_, address| {
            let port = address.port().to_string();
            let mut args = vec!["serve", "-ca", "ca.pem", "-ca-key", "ca-key.pem"];
            args.extend(["-config", "config.json", "-address", "127.0.0.1"]);
            args.extend(["-port", &port]);
            if subject == Subject::CfsslSqlite {
                args.extend(["-db-config", "db.json"]);
            }
            Ok(args.into_iter().map(str::to_owned).collect())
        })?;
        let target = target(&server, "/api/v1/cfssl/authsign");
        Ok((server, target))
    }

    fn certificate<'a>(&self, answer: &'a serde_json::Value) -> Option<&'a str> {
        answer.pointer("/result/certificate")?.as_str()
    }
}

/// Its CA: a P-256 key, as ours.
const CSR: &str = r#"{ "CN": "cfssl", "key": { "algo": "ecdsa", "size": 256 } }"#;

/// What its database has, by its documentation.
const SCHEMA: &str = "\
CREATE TABLE certificates (serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, \
ca_label blob, status blob NOT NULL, reason int, expiry timestamp, revoked_at timestamp, \
pem blob NOT NULL, PRIMARY KEY(serial_number, authority_key_identifier)); \
CREATE TABLE ocsp_responses (serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, \
body blob NOT NULL, expiry timestamp, PRIMARY KEY(serial_number, authority_key_identifier));";
