//! `probe alter DIRECTORY RPMB REGION TA LABEL`: a REE that alters what it stores for the TEE.
//!
//! Purpose: flips one byte in each region of REGION bytes of each file below DIRECTORY, one at a
//! time, and asks the TEE for what it stores: what it says of itself, and the certificate of LABEL.
//! Each must be what it was, or an error: never another answer. After each, everything is put
//! back, also what the TEE did to the RPMB's data on seeing it (not its counter, which only rises).
//! Prints a line for each file and ends with one of totals.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tegata_client::{Context, Login, Operation, Parameter, TaUuid};

/// Bytes of data in the emulated RPMB's file, before its key and counter.
const RPMB_DATA: usize = 128 * 1024;

/// What the TEE answered, without figures that change from call to call.
#[derive(PartialEq, Eq, Clone)]
struct Seen(Result<String, String>, Result<Vec<u8>, String>);

/// Runs it.
pub fn run(directory: &Path, rpmb: &Path, region: u64, ta: &TaUuid, label: &str) -> Result<(), String> {
    let context = Context::at(tegata_client::TeeAddress::OpTee);
    let look = || look(&context, ta, label);
    let genuine = look();
    if let Seen(Err(error), _) | Seen(_, Err(error)) = &genuine {
        return Err(format!("before anything was altered: {error}"));
    }
    let pristine = Storage::read(directory, rpmb)?;
    let (mut noticed, mut unaffected) = (0, 0);
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for (path, bytes) in &pristine.files {
        let (mut here, mut all) = (0, 0);
        for at in places(bytes.len() as u64, region) {
            flip(path, at)?;
            let seen = look();
            for (now, error) in [
                (seen.0.as_ref().ok() == genuine.0.as_ref().ok(), seen.0.as_ref().err()),
                (seen.1.as_ref().ok() == genuine.1.as_ref().ok(), seen.1.as_ref().err()),
            ] {
                match error {
                    Some(error) => *kinds.entry(error.clone()).or_default() += 1,
                    None if now => {}
                    None => {
                        return Err(format!(
                            "{} byte {at}: another answer, and no error",
                            path.display()
                        ));
                    }
                }
            }
            all += 1;
            if seen != genuine {
                here += 1;
            }
            pristine.restore(directory, rpmb)?;
        }
        if look() != genuine {
            return Err(format!("{}: not as before after it was put back", path.display()));
        }
        println!("{}: {} bytes, {here} of {all} noticed", path.display(), bytes.len());
        noticed += here;
        unaffected += all - here;
    }
    for (error, times) in kinds {
        println!("{times} times: {error}");
    }
    println!("noticed {noticed} unaffected {unaffected} wrong 0");
    Ok(())
}

/// Asks the TEE for what it stores.
fn look(context: &Context, ta: &TaUuid, label: &str) -> Seen {
    let info = context
        .info()
        .map(|info| format!("{} {} {:?}", info.ueid, info.serial, info.trusted_apps))
        .map_err(|error| error.to_string());
    let certificate = context
        .open_session(ta, Login::User, &mut Operation::empty())
        .and_then(|session| {
            let mut operation = Operation::new([
                Parameter::memref_input(label),
                Parameter::None,
                Parameter::memref_output(8192),
                Parameter::None,
            ]);
            session.invoke(4, &mut operation)?;
            Ok(operation.memref(2).to_vec())
        })
        .map_err(|error| error.to_string());
    Seen(info, certificate)
}

/// One place in each region, not always the same one.
fn places(len: u64, region: u64) -> impl Iterator<Item = u64> {
    (0..len.div_ceil(region)).map(move |n| {
        let first = n * region;
        let room = region.min(len - first);
        first + n.wrapping_mul(0x9e37_79b9) % room
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
