//! Reads the published test vectors, and keeps an honest list of those that are out of scope.
//!
//! The vectors are not part of the repository; where they are missing, the tests say so and pass.
#![allow(dead_code)]

pub mod diag;

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Grammars, descriptions and keys: they stand beside the vectors and are none.
const NO_DATA: &[&str] = &[
    ".md", ".cddl", ".cddlc", ".pem", ".der", ".jwk", ".crt", ".key", ".ta", "key.json",
];

/// SHA-256, for the checks of digests.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Where the vectors of `set` are, if they are there.
pub fn root(set: &str) -> Option<PathBuf> {
    let base = std::env::var_os("TEGATA_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    let dir = base.join(set);
    if dir.is_dir() {
        Some(dir)
    } else {
        let given = std::env::var_os("TEGATA_VECTORS").is_some();
        assert!(!given, "TEGATA_VECTORS has no {set}");
        println!(
            "skipped: no vectors at {} (set TEGATA_VECTORS)",
            dir.display()
        );
        None
    }
}

/// All files below `dir`, sorted, by their path from it.
pub fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    fn walk(base: &Path, dir: &Path, out: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(base, &path, out);
            } else {
                let name = path
                    .strip_prefix(base)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .replace('\\', "/");
                out.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    let mut out = Vec::new();
    walk(dir, dir, &mut out);
    out.sort();
    out
}

/// Runs `check` over all files of `set`.
///
/// `expected_failures` are (pattern, reason); in a pattern `*` stands for anything. Fails if a file fails that is not listed, if a listed one succeeds, or if a pattern fits
/// nothing. Prints what was done.
pub fn run(
    set: &str,
    expected_failures: &[(&str, &str)],
    check: impl Fn(&str, &[u8]) -> Result<(), String>,
) {
    let Some(dir) = root(set) else { return };
    let mut used = vec![false; expected_failures.len()];
    let mut wrong = Vec::new();
    let mut good = 0;
    let mut expected = 0;
    for (name, bytes) in files(&dir) {
        let listed = expected_failures
            .iter()
            .position(|(pattern, _)| fits(pattern, &name));
        // A file that is no data at all needs no reason of its own.
        if NO_DATA.iter().any(|end| name.ends_with(end)) {
            assert!(check(&name, &bytes).is_err(), "{name} was read");
            continue;
        }
        match (check(&name, &bytes), listed) {
            (Ok(()), None) => good += 1,
            (Err(_), Some(at)) => {
                used[at] = true;
                expected += 1;
            }
            (Ok(()), Some(at)) => {
                used[at] = true;
                wrong.push(format!("{name}: succeeds, but is listed as a failure"));
            }
            (Err(error), None) => wrong.push(format!("{name}: {error}")),
        }
    }
    for ((pattern, _), used) in expected_failures.iter().zip(used) {
        if !used {
            wrong.push(format!("{pattern}: is listed, but fits no file"));
        }
    }
    println!("{set}: {good} files good, {expected} failed as expected");
    assert!(
        wrong.is_empty(),
        "{} of {set}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(good > 0, "no file of {set} was read");
}

/// Whether `name` fits `pattern`, in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).any(|at| tail.get(at..).is_some_and(|tail| fits(rest, tail)))
        }),
    }
}

/// The bytes of a text in hexadecimal; `#` begins a comment, blanks do not matter.
pub fn hex_text(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not a text".to_owned())?;
    let digits: String = text
        .lines()
        .map(|line| line.split('#').next().unwrap())
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    hex::decode(digits).map_err(|error| format!("hexadecimal: {error}"))
}

/// The CBOR of a text in diagnostic notation.
pub fn diag_text(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not a text".to_owned())?;
    diag::parse(text)
}

/// Asserts that `decode` refuses every proper prefix of `bytes`, and never panics.
pub fn every_prefix_fails<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, String>) {
    for len in 0..bytes.len() {
        assert!(
            decode(&bytes[..len]).is_err(),
            "prefix of {len} bytes was accepted"
        );
    }
}

/// Calls `decode` with every single-bit change of `bytes`: it may accept, it must not panic.
pub fn bit_flips_do_not_panic<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> T) {
    let mut changed = bytes.to_vec();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            changed[at] ^= 1 << bit;
            decode(&changed);
            changed[at] ^= 1 << bit;
        }
    }
}

/// The bytes of an annotated vector of the repository, by its path below `vectors/`.
pub fn repository(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../vectors")
        .join(name);
    hex_text(&fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}
