//! Other CAs in the same run, each as its users run it: their program, their defaults, the same kind of
//! keys, the same CSRs. They know no devices, no names that a request must have, and no repeated request.

mod cfssl;
mod step;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use der::pem::{self, LineEnding};
use serde_json::Value;
use tegata_wire::cmp::UnverifiedPkiMessage;
use tegata_wire::x509::CertView;

use super::load::{Driven, Refusals, Target};
use super::odd;
use super::requests::{Reader, Spool, Spooler};
use super::served::{Served, copy};
use super::subject::Subject;
use crate::certificate::from_pem;
use crate::cli::bench::BenchPeer;
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};

/// Another CA that is made ready: its files, and the plant's CSRs in requests as it takes them.
pub trait Peer {
    /// What is measured of it.
    fn subjects(&self) -> Vec<Subject>;
    /// The requests.
    fn requests(&self) -> Outcome<Reader>;
    /// Starts it over a copy of its files in `dir`, and says where requests go.
    fn start(&self, subject: Subject, dir: PathBuf, cpu: usize) -> Outcome<(Served, Target)>;
    /// The certificate (PEM) in an answer.
    fn certificate<'a>(&self, answer: &'a Value) -> Option<&'a str>;
}

/// What is measured of a peer where all of it is installed.
pub fn subjects(peer: BenchPeer) -> &'static [Subject] {
    match peer {
        BenchPeer::Cfssl => &[Subject::Cfssl, Subject::CfsslSqlite],
        BenchPeer::StepCa => &[Subject::StepCa],
    }
}

/// Makes a peer ready; `None` if it is not installed, and then says so in `skipped`.
///
/// # Errors
/// Files.
pub fn prepare(
    peer: BenchPeer,
    dir: &Path,
    requests: &Spool,
    skipped: &mut Vec<String>,
) -> Outcome<Option<Box<dyn Peer>>> {
    files::make_dir(dir)?;
    match peer {
        BenchPeer::Cfssl => {
            let ready = cfssl::prepare(dir, requests, skipped)?;
            Ok(ready.map(|ready| Box::new(ready) as Box<dyn Peer>))
        }
        BenchPeer::StepCa => {
            let ready = step::prepare(dir, requests, skipped)?;
            Ok(ready.map(|ready| Box::new(ready) as Box<dyn Peer>))
        }
    }
}

/// Whether each answer has a certificate that can be read.
///
/// # Errors
/// One that has none.
pub fn check(peer: &dyn Peer, driven: &Driven) -> Outcome<()> {
    if driven.answered.is_empty() {
        return Err(odd("another CA refused every request"));
    }
    for answer in driven.bodies() {
        let value = serde_json::from_slice(answer).map_err(odd)?;
        let text = peer.certificate(&value);
        let text = text.ok_or_else(|| odd(format!("another CA refused a request: {value}")))?;
        one_certificate(text)?;
    }
    Ok(())
}

/// Whether a text (PEM) is one certificate.
fn one_certificate(text: &str) -> Outcome<()> {
    let none = |why: String| odd(format!("another CA's certificate cannot be read: {why}"));
    match from_pem(text)?.as_slice() {
        [der] => CertView::from_der(der)
            .map(|_| ())
            .map_err(|e| none(e.to_string())),
        all => Err(none(format!("there are {}", all.len()))),
    }
}

/// The plant's requests with the CSR of each (PEM) in what a peer takes.
fn translated(
    dir: &Path,
    requests: &Spool,
    translate: impl Fn(&str) -> Outcome<Value>,
) -> Outcome<Spool> {
    let mut ours = requests.read()?;
    let mut theirs = Spooler::new(&dir.with_extension("requests"))?;
    while let Some(message) = ours.next_body()? {
        let message = UnverifiedPkiMessage::from_der(&message).map_err(odd)?;
        let csr = message.body().p10cr_csr().map_err(odd)?;
        let text = pem::encode_string("CERTIFICATE REQUEST", LineEnding::LF, csr);
        let body = translate(&text.map_err(odd)?)?;
        theirs.put(body.to_string().as_bytes())?;
    }
    theirs.close()
}

/// Starts a program that ends when we do, however we do, in a copy of a peer's files.
fn started(
    name: &str,
    (from, dir): (&Path, PathBuf),
    cpu: usize,
    args: impl FnOnce(&Path, SocketAddr) -> Outcome<Vec<String>>,
) -> Outcome<Served> {
    copy(from, &dir)?;
    let held = TcpListener::bind("127.0.0.1:0").map_err(odd)?;
    let address = held.local_addr().map_err(odd)?;
    drop(held);
    let mut command = Command::new("setpriv");
    command
        .current_dir(&dir)
        .args(["--pdeathsig", "KILL", name])
        .args(args(&dir, address)?);
    let ready = || TcpStream::connect(address).is_ok();
    Served::program(name, command, &dir, cpu, address, ready)
}

/// Where requests go.
fn target(server: &Served, path: &str) -> Target {
    Target {
        address: server.address,
        path: path.to_owned(),
        content_type: "application/json",
        refusals: Refusals::Any,
        tls: None,
    }
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

fn write(dir: &Path, name: &str, text: &str) -> Outcome<()> {
    files::replace(&dir.join(name), text.as_bytes(), Readers::Owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::to_pem;

    #[test]
    fn what_is_no_certificate_is_found() {
        assert!(one_certificate("").is_err());
        assert!(one_certificate("a certificate").is_err());
        // PEM of something else.
        assert!(one_certificate(&to_pem(&[0x30, 0]).unwrap()).is_err());
    }
}
