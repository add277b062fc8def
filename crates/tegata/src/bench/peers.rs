//! Other CAs in the same run, each as its users run it: their program, their defaults, the same kind of
//! keys, the same requests.
//!
//! cfssl: `authsign`, which its HMAC key authenticates, and so nearest to ours. Alone it keeps nothing: a
//! certificate that it answered is nowhere else. With SQLite it has a row of each, by its own defaults
//! (rollback journal, synced at each commit), on the disk that ours is on. It knows no devices, no names that
//! a request must have, and no repeated request.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use axum::body::Bytes;
use base64ct::{Base64, Encoding as _};
use der::pem::{self, LineEnding};
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::{OsRng, Provider as _, Rng as _};
use tegata_wire::cmp::UnverifiedPkiMessage;

use super::odd;
use super::requests::{Spool, Spooler};
use super::served::Served;
use crate::cli::bench::BenchPeer;
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};

/// cfssl with keys of its own, and the plant's requests as it takes them.
pub struct Cfssl {
    /// Its files; each run has a copy.
    dir: PathBuf,
    /// Whether its database could be made.
    pub sqlite: bool,
    /// The requests, under its HMAC key.
    pub requests: Spool,
}

/// Path of the resource.
pub const CFSSL_PATH: &str = "/api/v1/cfssl/authsign";

/// Makes a peer ready, or says why it is skipped.
///
/// # Errors
/// Files.
pub fn prepare(
    peer: BenchPeer,
    dir: &Path,
    requests: &Spool,
    skipped: &mut Vec<String>,
) -> Outcome<Option<Cfssl>> {
    let BenchPeer::Cfssl = peer;
    files::make_dir(dir)?;
    write(dir, "csr.json", CFSSL_CSR)?;
    let mut genkey = Command::new("cfssl");
    genkey.current_dir(dir);
    genkey.args(["gencert", "-loglevel", "5", "-initca", "csr.json"]);
    let Some(made) = answer_of(&mut genkey)? else {
        skipped.push("cfssl is not installed (Debian: golang-cfssl)".to_owned());
        return Ok(None);
    };
    let made: serde_json::Value = serde_json::from_slice(&made).map_err(odd)?;
    for (name, field) in [("ca.pem", "cert"), ("ca-key.pem", "key")] {
        let text = made.get(field).and_then(serde_json::Value::as_str);
        write(dir, name, text.ok_or_else(|| odd("cfssl made no CA"))?)?;
    }
    let mut key = [0; 32];
    OsRng.fill(&mut key).map_err(odd)?;
    let config = serde_json::json!({
        "signing": { "default": {
            "expiry": "8760h", "auth_key": "bench",
            "usages": ["digital signature", "key agreement", "client auth"],
        } },
        "auth_keys": { "bench": { "type": "standard", "key": hex::encode(key) } },
    });
    write(dir, "config.json", &config.to_string())?;
    let database = serde_json::json!({ "driver": "sqlite3", "data_source": "certs.db" });
    write(dir, "db.json", &database.to_string())?;
    let mut sqlite = Command::new("sqlite3");
    sqlite.current_dir(dir).args(["certs.db", CFSSL_SCHEMA]);
    let sqlite = answer_of(&mut sqlite)?.is_some();
    if !sqlite {
        skipped.push("cfssl with SQLite: the program sqlite3 is not installed".to_owned());
    }
    let (mut ours, mut theirs) = (
        requests.read()?,
        Spooler::new(&dir.with_extension("requests"))?,
    );
    while let Some(message) = ours.next_body()? {
        let message = UnverifiedPkiMessage::from_der(&message).map_err(odd)?;
        let csr = message.body().p10cr_csr().map_err(odd)?;
        let text = pem::encode_string("CERTIFICATE REQUEST", LineEnding::LF, csr);
        let text = text.map_err(odd)?;
        let inner = serde_json::json!({ "certificate_request": text }).to_string();
        let token = AwsLc.hmac_sha256(&key, inner.as_bytes());
        let outer = serde_json::json!({
            "token": Base64::encode_string(&token),
            "request": Base64::encode_string(inner.as_bytes()),
        });
        theirs.put(outer.to_string().as_bytes())?;
    }
    Ok(Some(Cfssl {
        dir: dir.to_path_buf(),
        sqlite,
        requests: theirs.close()?,
    }))
}

impl Cfssl {
    /// Starts it over a copy of its files, with its database or without.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, dir: PathBuf, cpu: usize, database: bool) -> Outcome<Served> {
        super::served::copy(&self.dir, &dir)?;
        let address = free_port()?;
        // It ends when we do, however we do.
        let mut command = Command::new("setpriv");
        command
            .current_dir(&dir)
            .args(["--pdeathsig", "KILL", "cfssl", "serve"])
            .args(["-ca", "ca.pem", "-ca-key", "ca-key.pem"])
            .args(["-config", "config.json", "-address", "127.0.0.1"])
            .args(["-port", &address.port().to_string()]);
        if database {
            command.args(["-db-config", "db.json"]);
        }
        let ready = || TcpStream::connect(address).is_ok();
        Served::program("cfssl", command, &dir, cpu, address, ready)
    }
}

/// Whether each answer has a certificate.
///
/// # Errors
/// One that has none.
pub fn check<'a>(answers: impl Iterator<Item = &'a Bytes>) -> Outcome<()> {
    for answer in answers {
        let value: serde_json::Value = serde_json::from_slice(answer).map_err(odd)?;
        let certificate = value.pointer("/result/certificate");
        if certificate.and_then(serde_json::Value::as_str).is_none() {
            return Err(odd(format!("cfssl refused a request: {value}")));
        }
    }
    Ok(())
}

/// What a program writes; `None` if it is not installed.
fn answer_of(command: &mut Command) -> Outcome<Option<Vec<u8>>> {
    let output = match command.output() {
        Ok(output) => output,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(odd(e)),
    };
    if output.status.success() {
        return Ok(Some(output.stdout));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let name = command.get_program().to_string_lossy().into_owned();
    Err(Fault::failed(
        "bench-failed",
        format!("{name} failed: {}", said.trim()),
        "Leave it out of --peers, or mend it.",
    ))
}

fn free_port() -> Outcome<SocketAddr> {
    let held = TcpListener::bind("127.0.0.1:0").map_err(odd)?;
    held.local_addr().map_err(odd)
}

fn write(dir: &Path, name: &str, text: &str) -> Outcome<()> {
    files::replace(&dir.join(name), text.as_bytes(), Readers::Owner)
}

/// Its CA: a P-256 key, as ours.
const CFSSL_CSR: &str = r#"{ "CN": "cfssl", "key": { "algo": "ecdsa", "size": 256 } }"#;

/// What its database has, by its documentation.
const CFSSL_SCHEMA: &str = "\
CREATE TABLE certificates (serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, \
ca_label blob, status blob NOT NULL, reason int, expiry timestamp, revoked_at timestamp, \
pem blob NOT NULL, PRIMARY KEY(serial_number, authority_key_identifier)); \
CREATE TABLE ocsp_responses (serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, \
body blob NOT NULL, expiry timestamp, PRIMARY KEY(serial_number, authority_key_identifier));";
