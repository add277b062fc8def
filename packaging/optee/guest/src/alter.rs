//! `probe alter DIRECTORY RPMB TA LABEL UID`: a REE that alters what it stores for the TEE.
//!
//! Purpose: two questions are asked of the TEE: what it says of itself, and the certificate that
//! user UID has under LABEL. In each file below DIRECTORY that a question reads, one byte is
//! altered in each region, one at a time, and the questions are asked again. Each answer must be
//! what it was, or an error: never another answer. After each, everything is put back, also what
//! the TEE did to the RPMB's data on seeing it (not its counter, which only rises).
//! Prints a line for each file and ends with one of totals.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tegata_client::{Context, Login, Operation, Parameter, TaUuid, TeeAddress};

/// Bytes of data in the emulated RPMB's file, before its key and counter.
const RPMB_DATA: usize = 128 * 1024;
/// Bytes of a region: what OP-TEE encrypts and authenticates at once.
const REGION: u64 = 4096;
/// Most regions of one file, spread over it.
const REGIONS_MAX: u64 = 8;

/// Tries until the TEE must answer as before, once everything is.
const TRIES: u32 = 4;

/// Who is asked, and about what.
pub struct Asked {
    /// The TA that has the certificate.
    pub ta: TaUuid,
    /// Its label.
    pub label: String,
    /// Whose it is.
    pub uid: u32,
}

/// An answer, without figures that change from call to call.
type Answer = Result<Vec<u8>, String>;

/// Runs it.
pub fn run(directory: &Path, rpmb: &Path, asked: &Asked) -> Result<(), String> {
    let genuine = [asked.info(), asked.certificate()];
    if let [Err(error), _] | [_, Err(error)] = &genuine {
        return Err(format!("before anything was altered: {error}"));
    }
    let pristine = Storage::read(directory, rpmb)?;
    let read = [
        pristine.read_by(|| asked.info())?,
        pristine.read_by(|| asked.certificate())?,
    ];
    // What OP-TEE still had open may be about files that are no more: it says so, and reads anew.
    let settle = |question: usize| {
        let mut last = String::new();
        for _ in 0..TRIES {
            pristine.restore(directory, rpmb)?;
            match asked.answer(question) {
                same if same == genuine[question] => return Ok(()),
                Err(error) => last = error,
                Ok(_) => return Err("another answer after all was put back".to_owned()),
            }
        }
        Err(format!("not as before after all was put back: {last}"))
    };
    let (mut noticed, mut unaffected, mut unread) = (0, 0, 0);
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for (path, bytes) in &pristine.files {
        // One question for each file: the cheaper of those that read it.
        let Some(question) = read.iter().position(|files| files.contains(path)) else {
            unread += 1;
            continue;
        };
        let (mut here, mut all) = (0, 0);
        for at in places(bytes.len() as u64) {
            flip(path, at)?;
            all += 1;
            match asked.answer(question) {
                Err(error) => {
                    *kinds.entry(error).or_default() += 1;
                    here += 1;
                    settle(question)?;
                }
                same if same == genuine[question] => pristine.restore(directory, rpmb)?,
                _ => {
                    let name = path.display();
                    return Err(format!("{name} byte {at}: another answer, and no error"));
                }
            }
        }
        let (name, len) = (path.display(), bytes.len());
        println!("{name}: {len} bytes, {here} of {all} noticed");
        noticed += here;
        unaffected += all - here;
    }
    for (error, times) in kinds {
        println!("{times} times: {error}");
    }
    println!(
        "noticed {noticed} unaffected {unaffected} wrong 0; files of which nothing was asked: {unread}"
    );
    Ok(())
}

impl Asked {
    /// The answer to a question, by its number.
    fn answer(&self, question: usize) -> Answer {
        match question {
            0 => self.info(),
            _ => self.certificate(),
        }
    }

    /// What the TEE says of itself: its records and the list of its TAs.
    fn info(&self) -> Answer {
        let info = Context::at(TeeAddress::OpTee).info();
        info.map(|info| {
            format!("{} {} {:?}", info.ueid, info.serial, info.trusted_apps).into_bytes()
        })
        .map_err(|error| error.to_string())
    }

    /// The certificate, in the user's name: starts the TA and reads what it stores.
    fn certificate(&self) -> Answer {
        become_user(self.uid)?;
        let got = Context::at(TeeAddress::OpTee)
            .open_session(&self.ta, Login::User, &mut Operation::empty())
            .and_then(|session| {
                let mut operation = Operation::new([
                    Parameter::memref_input(&self.label),
                    Parameter::None,
                    Parameter::memref_output(8192),
                    Parameter::None,
                ]);
                session.invoke(4, &mut operation)?;
                Ok(operation.memref(2).to_vec())
            });
        become_user(0)?;
        got.map_err(|error| error.to_string())
    }
}

/// Takes on a user's identity, or root's again: the kernel tells it the TEE.
fn become_user(uid: u32) -> Result<(), String> {
    // SAFETY: changes nothing but this process's identity.
    match unsafe { libc::seteuid(uid) } {
        0 => Ok(()),
        _ => Err(format!("this must run as root to be user {uid}")),
    }
}

/// One place in each region, not always the same one.
fn places(len: u64) -> impl Iterator<Item = u64> {
    let regions = len.div_ceil(REGION);
    let step = regions.div_ceil(REGIONS_MAX).max(1);
    (0..regions)
        .step_by(usize::try_from(step).unwrap_or(1))
        .map(move |n| {
            let first = n * REGION;
            let room = REGION.min(len - first);
            // Near the beginning, where a short file has its data, and not always at one byte.
            first + n.wrapping_mul(37).wrapping_add(61) % 251 % room
        })
}

/// Alters one byte.
fn flip(path: &Path, at: u64) -> Result<(), String> {
    let say = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(say)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).map_err(say)?;
    byte[0] ^= 1 << (at % 8);
    file.write_all_at(&byte, at).map_err(say)
}

/// Everything the REE keeps, and the RPMB's data.
struct Storage {
    files: BTreeMap<PathBuf, Vec<u8>>,
    rpmb: Vec<u8>,
}

impl Storage {
    fn read(directory: &Path, rpmb: &Path) -> Result<Self, String> {
        let say = |error: std::io::Error| format!("reading the storage: {error}");
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(directory).map_err(say)? {
            let path = entry.map_err(say)?.path();
            if path.is_file() {
                let bytes = fs::read(&path).map_err(say)?;
                files.insert(path, bytes);
            }
        }
        let mut rpmb = fs::read(rpmb).map_err(say)?;
        rpmb.truncate(RPMB_DATA);
        Ok(Self { files, rpmb })
    }

    /// The files that a question makes the TEE read, by their times of access.
    fn read_by(&self, question: impl Fn() -> Answer) -> Result<Vec<PathBuf>, String> {
        let say = |error: std::io::Error| format!("times of the storage: {error}");
        for path in self.files.keys() {
            let never = FileTimes::new().set_accessed(UNIX_EPOCH);
            File::open(path)
                .and_then(|file| file.set_times(never))
                .map_err(say)?;
        }
        question()?;
        let mut read = Vec::new();
        for path in self.files.keys() {
            let accessed = fs::metadata(path).and_then(|file| file.accessed());
            if accessed.map_err(say)? != UNIX_EPOCH {
                read.push(path.clone());
            }
        }
        Ok(read)
    }

    /// Makes everything as it was.
    fn restore(&self, directory: &Path, rpmb: &Path) -> Result<(), String> {
        let say = |error: std::io::Error| format!("putting the storage back: {error}");
        let now = Self::read(directory, rpmb)?;
        for path in now.files.keys() {
            if !self.files.contains_key(path) {
                fs::remove_file(path).map_err(say)?;
            }
        }
        for (path, bytes) in &self.files {
            if now.files.get(path) != Some(bytes) {
                fs::write(path, bytes).map_err(say)?;
            }
        }
        if now.rpmb != self.rpmb {
            let file = fs::OpenOptions::new().write(true).open(rpmb).map_err(say)?;
            file.write_all_at(&self.rpmb, 0).map_err(say)?;
        }
        Ok(())
    }
}
