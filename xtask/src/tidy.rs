//! `cargo xtask tidy`: the rules of the tree that a compiler does not check.
//!
//! Checked: the edges between crates, the length of files, module headers, the words a source may
//! not hold, `unsafe` only at its walls, a reason beside each dependency, and for each commit of a store a
//! story in which a server dies at it.

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

/// Commits without a story: of tools that fill stores for figures, and make a new store if they die.
const NO_STORY: &[&str] = &[
    "bench",
    "fill certificates",
    "fill counters",
    "fill devices",
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
            read_each(root, &dir, &mut |name, text| {
                source(name, text, &mut findings)
            })?;
        }
    }
    commits(root, &mut findings)?;
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

/// At each commit of a store, by its name, servers die in a story. A story fails unless it had its deaths at
/// the commits that it lists (crates/store/tests/deaths.rs).
fn commits(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let mut listed = String::new();
    read_each(root, &root.join("crates/store/tests"), &mut |name, text| {
        if name.starts_with("crates/store/tests/deaths") || name.ends_with("tests/deaths.rs") {
            let lists = text.split("were_at(").skip(1).map(|list| (list, ");"));
            let consts = text.split("\nconst ").skip(1).map(|list| (list, "];"));
            let lists = lists.chain(consts);
            listed.extend(lists.filter_map(|(list, end)| list.split(end).next()));
        }
    })?;
    let mut exempt = NO_STORY.to_vec();
    read_each(root, &root.join("crates"), &mut |name, text| {
        if is_test(name) || name.starts_with("crates/store/src/lib.rs") {
            return;
        }
        for call in shipped(text).split(".run_tx").skip(1) {
            let step = call.strip_prefix("_last").unwrap_or(call);
            let step = step.trim_start_matches('(').trim_start();
            let step = step.strip_prefix('"').and_then(|s| s.split('"').next());
            let shown = name.display();
            match step {
                None => findings.push(format!("{shown}: a commit whose name is not in its place")),
                Some(step) if listed.contains(&format!("\"{step}\"")) => {}
                Some(step) if NO_STORY.contains(&step) => exempt.retain(|one| *one != step),
                Some(step) => findings.push(format!(
                    "{shown}: no server dies at “{step}” (crates/store/tests/deaths.rs)"
                )),
            }
        }
    })?;
    let needless = exempt
        .iter()
        .map(|step| format!("xtask/src/tidy.rs: “{step}” needs no exemption"));
    findings.extend(needless);
    Ok(())
}

/// Gives name and text of each source file to `each`.
fn read_each(root: &Path, dir: &Path, each: &mut dyn FnMut(&Path, &str)) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            if path
                .file_name()
                .is_some_and(|name| name == "target" || name == "corpus")
            {
                continue;
            }
            read_each(root, &path, each)?;
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path)?;
            each(path.strip_prefix(root).unwrap_or(&path), &text);
        }
    }
    Ok(())
}

fn is_test(name: &Path) -> bool {
    name.components().any(|part| {
        let part = part.as_os_str();
        part == "tests" || part == "tests.rs" || part == "ui"
    })
}

/// A source without the tests at its end.
fn shipped(text: &str) -> &str {
    let starts = ["mod ", "#[allow("].map(|next| format!("\n#[cfg(test)]\n{next}"));
    let ends = starts.iter().filter_map(|start| text.find(start)).min();
    ends.and_then(|at| text.get(..at)).unwrap_or(text)
}

/// The rules of one source file: length, header, words and `unsafe`.
fn source(name: &Path, text: &str, findings: &mut Vec<String>) {
    let shown = name.display();
    if is_test(name) {
        return;
    }
    if !text.starts_with("//!") && !text.starts_with("#!") {
        findings.push(format!(
            "{shown}: no module header: say purpose, invariants and trust"
        ));
    }
    let body = shipped(text);
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
