//! `probe alter DIRECTORY RPMB TA LABEL UID KEPT`: a REE that alters what it stores for the TEE.
//!
//! Purpose: two questions are asked of the TEE: what it says of itself, and the certificate that
//! user UID has under LABEL. In each file below DIRECTORY that a question reads, one byte is
//! altered in each region, one at a time, and the questions are asked again. Each answer must be
//! what it was, or an error: never another answer. After each, everything is put back, also what
//! the TEE did to the RPMB's data on seeing it (not its counter, which only rises), and the answers
//! must be what they were. While OP-TEE has its directory open it goes by what it remembers of it:
//! then a restart comes between. It is asked for by the exit code, and the same call goes on from
//! there, by what lies in KEPT.
//! Prints a line for each place where something was noticed, and ends with one of totals.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use tegata_client::{Context, Login, Operation, Parameter, TaUuid, TeeAddress};

/// Bytes of data in the emulated RPMB's file, before its key and counter.
const RPMB_DATA: usize = 128 * 1024;
/// Bytes of a region: what OP-TEE encrypts and authenticates at once.
const REGION: u64 = 4096;
/// Most regions of one file, spread over it.
const REGIONS_MAX: u64 = 8;

/// Tries until the TEE answers as before, once everything is; then it is started anew.
const TRIES: u32 = 3;

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

/// How a run ended.
pub enum Ended {
    /// Everything was altered once.
    Whole,
    /// The device has to be started anew, then the same call goes on.
    Restart,
}

/// Runs it.
pub fn run(directory: &Path, rpmb: &Path, asked: &Asked, kept: &Path) -> Result<Ended, String> {
    let answers = [asked.info(), asked.certificate()];
    if let [Err(error), _] | [_, Err(error)] = &answers {
        return Err(format!("as it was before: {error}"));
    }
    let mut run = if kept.exists() {
        Run::load(kept)?
    } else {
        Run::begin(kept, Storage::read(directory, rpmb)?, &answers)?
    };
    for (answer, genuine) in answers.iter().zip(&run.genuine) {
        if answer != genuine {
            return Err("another answer after all was put back".to_owned());
        }
    }
    let read = [
        run.pristine.read_by(directory, || asked.info())?,
        run.pristine.read_by(directory, || asked.certificate())?,
    ];
    let all: Vec<(String, u64)> = run
        .pristine
        .files
        .iter()
        .flat_map(|(name, bytes)| places(bytes.len() as u64).map(|at| (name.clone(), at)))
        .collect();
    for (name, at) in all.into_iter().skip(run.done) {
        run.done += 1;
        // One question for each file: the cheaper of those that read it.
        let Some(question) = read.iter().position(|files| files.contains(&name)) else {
            run.unread += 1;
            continue;
        };
        flip(&directory.join(&name), at)?;
        let answer = asked.answer(question);
        run.pristine.restore(directory, rpmb)?;
        match answer {
            Err(error) => {
                println!("{name} byte {at}: {error}");
                run.noticed += 1;
                if !run.settles(directory, rpmb, asked, question)? {
                    run.save(kept)?;
                    return Ok(Ended::Restart);
                }
            }
            same if same == run.genuine[question] => run.unaffected += 1,
            _ => return Err(format!("{name} byte {at}: another answer, and no error")),
        }
    }
    println!(
        "noticed {} unaffected {} wrong 0; regions of which nothing was asked: {}",
        run.noticed, run.unaffected, run.unread
    );
    Ok(Ended::Whole)
}

/// What a run has to know after a restart.
struct Run {
    /// The answers before anything was altered.
    genuine: [Answer; 2],
    /// The storage then.
    pristine: Storage,
    /// Places that were altered, or that no question reads.
    done: usize,
    noticed: u32,
    unaffected: u32,
    unread: u32,
}

impl Run {
    fn begin(kept: &Path, pristine: Storage, genuine: &[Answer; 2]) -> Result<Self, String> {
        let say = |error: std::io::Error| format!("{}: {error}", kept.display());
        fs::create_dir_all(kept.join("files")).map_err(say)?;
        for (n, answer) in genuine.iter().enumerate() {
            let answer = answer.as_ref().map_err(Clone::clone)?;
            fs::write(kept.join(n.to_string()), answer).map_err(say)?;
        }
        for (name, bytes) in &pristine.files {
            fs::write(kept.join("files").join(name), bytes).map_err(say)?;
        }
        fs::write(kept.join("rpmb"), &pristine.rpmb).map_err(say)?;
        Ok(Self {
            genuine: genuine.clone(),
            pristine,
            done: 0,
            noticed: 0,
            unaffected: 0,
            unread: 0,
        })
    }

    fn load(kept: &Path) -> Result<Self, String> {
        let say = |error: std::io::Error| format!("{}: {error}", kept.display());
        let answer = |n: &str| fs::read(kept.join(n)).map_err(say);
        let text = fs::read_to_string(kept.join("counts")).map_err(say)?;
        let counts: Vec<u32> = text.split_whitespace().flat_map(str::parse).collect();
        let [done, noticed, unaffected, unread] = counts[..] else {
            return Err(format!("counts of the run: {text}"));
        };
        Ok(Self {
            genuine: [Ok(answer("0")?), Ok(answer("1")?)],
            pristine: Storage::read(&kept.join("files"), &kept.join("rpmb"))?,
            done: done as usize,
            noticed,
            unaffected,
            unread,
        })
    }

    /// Durable: the power is cut next.
    fn save(&self, kept: &Path) -> Result<(), String> {
        let say = |error: std::io::Error| format!("{}: {error}", kept.display());
        let (done, noticed) = (self.done, self.noticed);
        let counts = format!("{done} {noticed} {} {}", self.unaffected, self.unread);
        fs::write(kept.join("counts"), counts).map_err(say)?;
        // SAFETY: takes nothing and cannot fail.
        unsafe { libc::sync() };
        Ok(())
    }

    /// Whether the TEE answers as before; everything is as it was at the end.
    fn settles(
        &self,
        directory: &Path,
        rpmb: &Path,
        asked: &Asked,
        question: usize,
    ) -> Result<bool, String> {
        for _ in 0..TRIES {
            let answer = asked.answer(question);
            // What it saw wrong it may have removed.
            self.pristine.restore(directory, rpmb)?;
            match answer {
                same if same == self.genuine[question] => return Ok(true),
                Err(_) => {}
                Ok(_) => return Err("another answer after all was put back".to_owned()),
            }
        }
        Ok(false)
    }
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
    /// By their names in the directory.
    files: BTreeMap<String, Vec<u8>>,
    rpmb: Vec<u8>,
}

impl Storage {
    fn read(directory: &Path, rpmb: &Path) -> Result<Self, String> {
        let say = |error: std::io::Error| format!("reading the storage: {error}");
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(directory).map_err(say)? {
            let entry = entry.map_err(say)?;
            if entry.path().is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                files.insert(name, fs::read(entry.path()).map_err(say)?);
            }
        }
        let mut rpmb = fs::read(rpmb).map_err(say)?;
        rpmb.truncate(RPMB_DATA);
        Ok(Self { files, rpmb })
    }

    /// The files that a question makes the TEE read, by their times of access.
    fn read_by(
        &self,
        directory: &Path,
        question: impl Fn() -> Answer,
    ) -> Result<Vec<String>, String> {
        let say = |error: std::io::Error| format!("times of the storage: {error}");
        for name in self.files.keys() {
            let never = FileTimes::new().set_accessed(UNIX_EPOCH);
            File::open(directory.join(name))
                .and_then(|file| file.set_times(never))
                .map_err(say)?;
        }
        question()?;
        let mut read = Vec::new();
        for name in self.files.keys() {
            let accessed = fs::metadata(directory.join(name)).and_then(|file| file.accessed());
            if accessed.map_err(say)? != UNIX_EPOCH {
                read.push(name.clone());
            }
        }
        Ok(read)
    }

    /// Makes everything as it was.
    fn restore(&self, directory: &Path, rpmb: &Path) -> Result<(), String> {
        let say = |error: std::io::Error| format!("putting the storage back: {error}");
        let now = Self::read(directory, rpmb)?;
        for name in now.files.keys() {
            if !self.files.contains_key(name) {
                fs::remove_file(directory.join(name)).map_err(say)?;
            }
        }
        for (name, bytes) in &self.files {
            if now.files.get(name) != Some(bytes) {
                fs::write(directory.join(name), bytes).map_err(say)?;
            }
        }
        if now.rpmb != self.rpmb {
            let file = fs::OpenOptions::new().write(true).open(rpmb).map_err(say)?;
            file.write_all_at(&self.rpmb, 0).map_err(say)?;
        }
        Ok(())
    }
}
