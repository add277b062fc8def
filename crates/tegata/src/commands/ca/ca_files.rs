//! The CA's certificates as files for relying parties.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tegata_authority::UnixSecs;
use tegata_store::generation::Generations;
use tegata_wire::x509::{CertView, DistinguishedName};

use crate::certificate::to_pem;
use crate::cli::show;
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};

/// What became of the files.
#[derive(Debug, Default)]
pub struct Written {
    /// Those that were written.
    pub files: Vec<PathBuf>,
    /// Those that were taken away: there is nothing left that belongs in them.
    pub removed: Vec<PathBuf>,
    /// Names of what was in `ca.pem` and is no longer.
    pub left: Vec<String>,
}

/// Refuses a directory that files cannot be written in, before anything is made that stays.
///
/// # Errors
/// It is none, or this user cannot write there.
pub fn check_dir(dir: &Path) -> Outcome<()> {
    let probe = dir.join(format!(".tegata.{}", std::process::id()));
    files::replace(&probe, b"", Readers::Owner)?;
    std::fs::remove_file(&probe).map_err(|e| Fault::io("remove", &probe, &e))
}

/// The files by name, the newest certificate first in each: what relying parties trust, the issuing CAs,
/// what links the roots, and for what was signed before all roots that were trusted. Where there is
/// nothing for a file it has no text.
///
/// # Errors
/// Only by a fault of this program.
pub fn ca_files(present: &Generations, now: UnixSecs) -> Outcome<[(&'static str, String); 4]> {
    let pem = |ders: &[Vec<u8>]| {
        ders.iter()
            .map(|der| to_pem(der))
            .collect::<Outcome<String>>()
    };
    let (roots, archive) = (present.anchors(now), present.archive_roots());
    let archive = match archive.len() > roots.len() {
        true => pem(&archive)?,
        false => String::new(),
    };
    Ok([
        (CA_PEM, pem(&roots)?),
        ("issuing.pem", pem(&present.issuing(now))?),
        ("cross.pem", pem(&present.links(now))?),
        ("archive-roots.pem", archive),
    ])
}

/// Writes the files in place of those that are there, and takes away those that are to be empty. A
/// `ca.pem` without a root is refused: who reads it would trust nobody.
///
/// # Errors
/// No root is valid now; a file that cannot be written.
pub fn write(dir: &Path, present: &Generations, now: UnixSecs) -> Outcome<Written> {
    let mut written = Written::default();
    for (name, pem) in ca_files(present, now)? {
        let path = dir.join(name);
        if name == CA_PEM {
            if pem.is_empty() {
                return Err(Fault::failed(
                    "no-valid-root",
                    format!("no root is valid at {}", show::time(now.0)),
                    "Check the clock; if it is right, make a new root with `tegata ca rollover --root`.",
                ));
            }
            written.left = names_left(&path, &pem);
        }
        if !pem.is_empty() {
            files::replace(&path, pem.as_bytes(), Readers::Everyone)?;
            written.files.push(path);
        } else if path.exists() {
            std::fs::remove_file(&path).map_err(|e| Fault::io("remove", &path, &e))?;
            written.removed.push(path);
        }
    }
    Ok(written)
}

/// Names of the certificates that a file has and its new text has not. What cannot be read is nobody's.
fn names_left(path: &Path, new: &str) -> Vec<String> {
    let Ok(old) = files::read(path, LEN_BYTES_MAX) else {
        return Vec::new();
    };
    let read = |pem: &[u8]| -> Vec<Vec<u8>> {
        let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
        certificates.map(|der| der.to_vec()).collect()
    };
    let new = read(new.as_bytes());
    let gone = read(&old).into_iter().filter(|der| !new.contains(der));
    let name = |der: Vec<u8>| {
        let view = CertView::from_der(&der).ok()?;
        let name = DistinguishedName::from_der(view.subject_der).ok()?;
        let until = show::date(view.not_after_secs);
        Some(format!(
            "{}, until {until}",
            show::visible(&name.to_display())
        ))
    };
    gone.filter_map(name).collect()
}

/// What relying parties trust.
pub const CA_PEM: &str = "ca.pem";
/// Longest old file that is read, bytes.
const LEN_BYTES_MAX: u64 = 1024 * 1024;
