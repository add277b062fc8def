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

use super::bed::Bed;
use super::load::{Driven, Refusals, Target};
use super::requests::{Reader, Spool, Spooler};
use super::served::{Served, copy};
use super::subject::Subject;
use super::{PROGRAM_LIMIT, odd};
use crate::certificate::from_pem;
use crate::cli::bench::BenchPeer;
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::supervise;

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

/// Makes a peer ready; `None` if its programs are not installed or do not work, and then says so in `skipped`.
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
/// One that has none; names the peer.
pub fn check(peer: &dyn Peer, subject: Subject, driven: &Driven) -> Outcome<()> {
    let name = subject.label();
    if driven.answered.is_empty() {
        let said = driven.refusal.as_deref().unwrap_or("nothing");
        return Err(useless(format!(
            "{name}: it refused every request; one was answered {said}"
        )));
    }
    for answer in driven.bodies() {
        let read = serde_json::from_slice(answer);
        let value = read.map_err(|e| useless(format!("{name}: an answer is no JSON: {e}")))?;
        let text = peer.certificate(&value);
        let text = text.ok_or_else(|| useless(format!("{name}: it refused a request: {value}")))?;
        one_certificate(text).map_err(|why| {
            useless(format!(
                "{name}: a certificate that it issued cannot be read: {why}"
            ))
        })?;
    }
    Ok(())
}

/// A peer that cannot be compared.
fn useless(what: String) -> Fault {
    Fault::failed(
        "bench-peer",
        what,
        "Leave it out of --peers, or look at its log and mend it.",
    )
}

/// Whether a text (PEM) is one certificate; else why not.
fn one_certificate(text: &str) -> Result<(), String> {
    match from_pem(text).map_err(|fault| fault.what)?.as_slice() {
        [der] => CertView::from_der(der)
            .map(|_| ())
            .map_err(|e| e.to_string()),
        all => Err(format!("there are {}", all.len())),
    }
}

/// Of subjects those that can be measured: a peer's are started once before any clock runs, and one that does not come
/// up is left out and named, as a missing one is.
pub fn startable(
    bed: &Bed<'_>,
    peers: &[Box<dyn Peer>],
    subjects: Vec<Subject>,
    skipped: &mut Vec<String>,
) -> Vec<Subject> {
    let mut start = |subject: &Subject| {
        let Some(peer) = peers.iter().find(|peer| peer.subjects().contains(subject)) else {
            return true;
        };
        bed.bar.set_message(format!("{} starts", subject.label()));
        match peer.start(*subject, bed.path("run"), bed.cpus.server) {
            Ok(_) => true,
            Err(fault) => {
                let said = fault.excerpt.unwrap_or_default();
                let last = said.lines().next_back().unwrap_or_default();
                let last = last.trim_start_matches([' ', '|']);
                skipped.push(
                    format!("{}: {} {last}", subject.label(), fault.what)
                        .trim()
                        .to_owned(),
                );
                // That it ended is told.
                let _ = supervise::take_lost();
                false
            }
        }
    };
    subjects
        .into_iter()
        .filter(|subject| start(subject))
        .collect()
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

/// What a program writes; else why there is nothing, with `how` to get one that is not installed.
fn answer_of(command: Command, how: &str) -> Result<Vec<u8>, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match supervise::output(command, None, PROGRAM_LIMIT) {
        Ok(output) => output,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!("{name} is not installed ({how})"));
        }
        Err(e) => return Err(format!("{name}: {e}")),
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.trim().lines().next_back().unwrap_or_default();
    Err(format!("{name} failed ({}) {last}", output.status)
        .trim()
        .to_owned())
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
