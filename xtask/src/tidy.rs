//! `cargo xtask tidy`: the rules of the tree that a compiler does not check.
//!
//! Checked: the edges between crates, the length of files, module headers, the words a source may
//! not hold, `unsafe` only at its walls, and a reason beside each dependency.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Which crates of the workspace each crate may use. A new edge needs a record in docs/adr.
const EDGES: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("crypto", &["wire"]),
    ("tee", &["wire", "crypto"]),
    ("platform", &["wire", "crypto", "tee"]),
    ("ta-sdk", &[]),
    ("client", &["wire"]),
    ("teec", &["client"]),
    ("pkcs11", &["wire", "client"]),
    ("agent", &["wire", "client"]),
    ("authority", &["wire", "crypto"]),
    ("store", &["wire", "crypto", "authority"]),
    // platform, agent and client only behind the feature `demo` (docs/adr/0003).
    (
        "tegata",
        &[
            "wire",
            "crypto",
            "authority",
            "store",
            "platform",
            "agent",
            "client",
        ],
    ),
];

/// Where `unsafe` may stand: walls to the kernel, to C and to Wasm.
const UNSAFE_WALLS: &[&str] = &[
    "crates/platform/src/",
    "crates/platform/optee/",
    "crates/ta-sdk/src/",
    "crates/client/src/ffi",
    "crates/pkcs11/src/wall/",
    "crates/teec/src/",
    "tas/",
];

/// Lines a source file may have without its tests.
const LINES_MAX: usize = 1000;

/// Runs every check and lists every finding.
///
/// # Errors
/// When anything was found, or a file cannot be read.
pub fn run(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    edges(root, &mut findings)?;
    reasons(root, &mut findings)?;
    for dir in ["crates", "xtask", "tas", "fuzz", "tests"] {
        let dir = root.join(dir);
        if dir.is_dir() {
            sources(root, &dir, &mut findings)?;
        }
    }
    documents(root, &mut findings);
    if findings.is_empty() {
        println!("tidy: nothing to mend");
        return Ok(());
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    bail!("tidy: {} to mend", findings.len())
}

/// Each crate uses only the crates its trust domain allows.
fn edges(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join("crates"))? {
        let path = entry?.path();
        let manifest = path.join("Cargo.toml");
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        let text = fs::read_to_string(&manifest)
            .with_context(|| format!("reading {}", manifest.display()))?;
        let Some((_, allowed)) = EDGES.iter().find(|(krate, _)| *krate == name) else {
            findings.push(format!(
                "crates/{name}: not in the table of edges (xtask/src/tidy.rs)"
            ));
            continue;
        };
        // Tests may use more: only what ships is bound by the edges.
        let shipped = text.split("[dev-dependencies]").next().unwrap_or("");
        for line in shipped.lines() {
            let Some(rest) = line.strip_prefix("tegata-") else {
                continue;
            };
            let used: String = rest
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
                .collect();
            if !allowed.contains(&used.as_str()) {
                findings.push(format!(
                    "crates/{name}/Cargo.toml: must not depend on tegata-{used}"
                ));
            }
        }
    }
    Ok(())
}

/// Each dependency of the workspace says why it is this one, in its line or in the line above.
fn reasons(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root.join("Cargo.toml"))?;
    let mut inside = false;
    let mut above_is_reason = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
            continue;
        }
        if inside && line.contains('=') && !line.starts_with('#') {
            let ours = line.starts_with("tegata-");
            if !ours && !line.contains(" # ") && !above_is_reason {
                findings.push(format!(
                    "Cargo.toml:{}: a dependency without its reason",
                    number + 1
                ));
            }
        }
        above_is_reason = line.starts_with("# ");
    }
    Ok(())
}

/// Length, headers, words and `unsafe` of each source file.
fn sources(root: &Path, dir: &Path, findings: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            if path
                .file_name()
                .is_some_and(|name| name == "target" || name == "corpus")
            {
                continue;
            }
            sources(root, &path, findings)?;
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path)?;
            let name = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
            source(&name, &text, findings);
        }
    }
    Ok(())
}

/// The rules of one source file.
fn source(name: &Path, text: &str, findings: &mut Vec<String>) {
    let shown = name.display();
    let is_test = name.components().any(|part| {
        let part = part.as_os_str();
        part == "tests" || part == "tests.rs" || part == "ui"
    });
    if is_test {
        return;
    }
    if !text.starts_with("//!") && !text.starts_with("#!") {
        findings.push(format!(
            "{shown}: no module header: say purpose, invariants and trust"
        ));
    }
    let body = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    let lines = body.lines().count();
    if lines > LINES_MAX {
        findings.push(format!(
            "{shown}: {lines} lines; split it (at most {LINES_MAX})"
        ));
    }
    let at_wall = UNSAFE_WALLS
        .iter()
        .any(|wall| name.starts_with(wall) || shown.to_string().starts_with(wall));
    let is_self = name.ends_with("tidy.rs");
    for (number, line) in body.lines().enumerate() {
        let number = number + 1;
        let code = line.split("//").next().unwrap_or("");
        if !is_self && (code.contains("unsafe {") || code.contains("unsafe fn")) && !at_wall {
            findings.push(format!("{shown}:{number}: unsafe outside the walls"));
        }
        for word in ["TODO", "FIXME", "XXX"] {
            if !is_self && line.contains(word) {
                findings.push(format!(
                    "{shown}:{number}: `{word}`: do it, or open an issue"
                ));
            }
        }
        if line.chars().count() > 120 && !line.contains("http") && !line.contains('"') {
            findings.push(format!("{shown}:{number}: over 120 characters"));
        }
    }
}

/// The documents every reader expects are there and not empty.
fn documents(root: &Path, findings: &mut Vec<String>) {
    for name in [
        "README.md",
        "README.ja.md",
        "ARCHITECTURE.md",
        "THREAT_MODEL.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "docs/glossary.md",
        "docs/perf.md",
    ] {
        let path: PathBuf = root.join(name);
        if fs::metadata(&path)
            .map(|meta| meta.len() < 100)
            .unwrap_or(true)
        {
            findings.push(format!("{name}: missing or empty"));
        }
    }
}
