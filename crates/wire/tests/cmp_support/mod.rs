//! Shared by the tests of CMP, PKCS#10 and certificates: where vectors are, and how to read them.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

/// The folder of outside vectors called `name`, if this checkout has one beside it.
pub fn outside_vectors(name: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("TEGATA_VECTORS") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
    };
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    let given = std::env::var_os("TEGATA_VECTORS").is_some();
    assert!(!given, "TEGATA_VECTORS has no {name}");
    println!("skipped: no vectors at {}", folder.display());
    None
}

/// Every file below a folder, sorted, as path relative to it.
pub fn files_below(folder: &Path) -> Vec<String> {
    fn walk(base: &Path, at: &Path, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(base, &path, out);
            } else {
                out.push(
                    path.strip_prefix(base)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    let mut out = Vec::new();
    walk(folder, folder, &mut out);
    out.sort();
    out
}

/// Every PEM block of a text: label and bytes.
pub fn pem_blocks(text: &str) -> Vec<(String, Vec<u8>)> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("-----BEGIN ") {
        let from = &rest[start..];
        let label = from["-----BEGIN ".len()..]
            .split("-----")
            .next()
            .unwrap()
            .to_owned();
        let end_line = format!("-----END {label}-----");
        let end = from.find(&end_line).expect("PEM block has an end");
        let body = &from[from.find('\n').unwrap()..end];
        blocks.push((label, base64(body)));
        rest = &from[end + end_line.len()..];
    }
    blocks
}

/// Bytes of a base64 text; white space is ignored.
pub fn base64(text: &str) -> Vec<u8> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let lines: Vec<&str> = compact
        .as_bytes()
        .chunks(64)
        .map(|c| std::str::from_utf8(c).unwrap())
        .collect();
    let pem = format!("-----BEGIN X-----\n{}\n-----END X-----\n", lines.join("\n"));
    der::pem::decode_vec(pem.as_bytes()).expect("base64").1
}

/// Every string value of the given key in a JSON text that has no escapes in such values.
pub fn json_strings<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let marker = format!("\"{key}\": \"");
    text.match_indices(&marker)
        .map(|(at, m)| {
            let from = &text[at + m.len()..];
            &from[..from.find('"').unwrap()]
        })
        .collect()
}

/// An annotated hexadecimal file of this repository: `#` starts a comment.
pub fn annotated(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../vectors")
        .join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let digits: String = text
        .lines()
        .map(|line| line.split('#').next().unwrap())
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    hex::decode(digits).unwrap()
}

/// What is expected to fail, and why.
pub type Expected<'a> = &'a [(&'a str, &'a str)];

/// Holds results against the list of expected failures; an unexpected success fails too.
pub fn judge(results: &[(String, Result<(), String>)], expected: Expected<'_>) {
    let mut wrong = Vec::new();
    for (name, result) in results {
        let listed = expected.iter().find(|(suffix, _)| name.ends_with(suffix));
        match (result, listed) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some((_, why))) => wrong.push(format!("{name}: succeeds, but listed: {why}")),
            (Err(e), None) => wrong.push(format!("{name}: {e}")),
        }
    }
    for (suffix, why) in expected {
        if !results.iter().any(|(name, _)| name.ends_with(suffix)) {
            wrong.push(format!(
                "{suffix}: listed ({why}), but there is no such vector"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        results.len(),
        wrong.join("\n")
    );
    println!(
        "{} vectors, {} expected failures",
        results.len(),
        expected.len()
    );
}
