//! Whether the answers are what was asked for: all of them by our own parser, some by OpenSSL.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use axum::body::Bytes;
use tegata_wire::x509::CertView;

use super::odd;
use super::plant::Plant;
use super::requests::certificate_in;
use crate::certificate::to_pem;
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};

/// Certificates that were looked at: their serial numbers, each there once.
#[derive(Debug, Default)]
pub struct Certificates {
    serials: HashSet<Vec<u8>>,
}

impl Certificates {
    /// The certificates in the answers, each another one than any before.
    ///
    /// # Errors
    /// A refusal, or a serial number that was there before.
    pub fn all<'a>(&mut self, answers: impl Iterator<Item = &'a Bytes>) -> Outcome<Vec<Vec<u8>>> {
        let of = |answer: &Bytes| certificate_in(answer).map_err(refused);
        self.each(answers.map(of))
    }

    /// The same of certificates (DER).
    ///
    /// # Errors
    /// As above.
    pub fn each(
        &mut self,
        certificates: impl Iterator<Item = Outcome<Vec<u8>>>,
    ) -> Outcome<Vec<Vec<u8>>> {
        let one = |der: Outcome<Vec<u8>>| {
            let der = der?;
            let view = CertView::from_der(&der).map_err(odd)?;
            if !self.serials.insert(view.serial.to_vec()) {
                return Err(refused("two requests got the same certificate".to_owned()));
            }
            Ok(der)
        };
        certificates.map(one).collect()
    }
}

/// An answer that is not what was asked for: the run fails.
pub fn refused(why: String) -> Fault {
    Fault::failed(
        "bench-refused",
        why,
        "A run with refusals measures nothing; the server's log says why it refused.",
    )
}

/// Has `openssl verify` look at a sample; gives how many, or `None` if it is not installed.
///
/// # Errors
/// It refuses one.
pub fn with_openssl(plant: &Plant, sample: &[Vec<u8>], dir: &Path) -> Outcome<Option<usize>> {
    files::make_dir(dir)?;
    let write = |name: &str, der: &[u8]| {
        let path = dir.join(name);
        files::replace(&path, to_pem(der)?.as_bytes(), Readers::Everyone)?;
        Ok::<_, Fault>(path)
    };
    let root = write("root.pem", &plant.root)?;
    let issuing = write("issuing.pem", &plant.issuing)?;
    let mut command = Command::new("openssl");
    command.args(["verify", "-x509_strict", "-CAfile"]);
    command.arg(root).arg("-untrusted").arg(issuing);
    for (number, der) in sample.iter().enumerate() {
        command.arg(write(&format!("{number}.pem"), der)?);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(odd(format!("openssl cannot be started: {e}"))),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let good = said.lines().filter(|line| line.ends_with(": OK")).count();
    if output.status.success() && good == sample.len() {
        return Ok(Some(good));
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Fault::failed(
        "bench-refused",
        format!(
            "openssl refuses a certificate that was issued: {}",
            why.trim()
        ),
        "Please report this: it is a fault of the CA.",
    ))
}
