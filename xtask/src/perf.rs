//! `cargo xtask perf`: runs the main job several times and prints its figures as a table.
//!
//! Every figure is what the demo itself reports with `--json`, or what `teed --stats` answers while
//! the demo is kept running; nothing is measured here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// How often to run.
#[derive(clap::Args)]
pub struct Args {
    /// Runs of the demo; each is a new CA, a new device, new keys.
    #[arg(long, default_value_t = 5)]
    runs: u32,
}

/// What was seen of one act in all runs: size in bytes and microseconds.
#[derive(Default)]
struct Seen {
    bytes: Vec<u64>,
    micros: Vec<u64>,
}

/// Runs the release build's demo and prints Markdown.
///
/// # Errors
/// When the demo fails, or does not say what is expected.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let status = Command::new("cargo")
        .args(["build", "--release", "--quiet"])
        .current_dir(root)
        .status()?;
    ensure!(status.success(), "the release build failed");
    let mut acts: BTreeMap<(u64, usize, String), Seen> = BTreeMap::new();
    let (mut first_ms, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        let (events, stats) = one(root)?;
        for (order, event) in events.iter().enumerate() {
            match event.get("event").and_then(Value::as_str) {
                Some("act") => {
                    let step = event.get("step").and_then(Value::as_u64).unwrap_or(0);
                    let who = event.get("who").and_then(Value::as_str).unwrap_or("?");
                    let did = event.get("did").and_then(Value::as_str).unwrap_or("?");
                    let to = event
                        .get("to")
                        .and_then(Value::as_str)
                        .map(|to| format!(" ▸ {to}"));
                    // Process and serial numbers differ between runs; the act does not.
                    let did = did.split([',', '(']).next().unwrap_or(did);
                    let did = did.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
                    let name = format!("{who}{} | {}", to.unwrap_or_default(), did.trim());
                    let seen = acts.entry((step, order, name)).or_default();
                    seen.bytes
                        .extend(event.get("len_bytes").and_then(Value::as_u64));
                    seen.micros
                        .extend(event.get("took_us").and_then(Value::as_u64));
                }
                Some("ended") => {
                    first_ms.extend(event.get("first_certificate_ms").and_then(Value::as_u64))
                }
                _ => {}
            }
        }
        memory.push(stats);
    }
    println!("| step | who | what | bytes | ms (min / median / max) |\n|---|---|---|---|---|");
    for ((step, _, name), seen) in &acts {
        if seen.bytes.is_empty() && seen.micros.is_empty() {
            continue;
        }
        let step = if *step == 0 {
            String::new()
        } else {
            step.to_string()
        };
        let bytes = spread(&seen.bytes, |n| n.to_string(), true);
        let times = spread(&seen.micros, millis, false);
        println!("| {step} | {name} | {bytes} | {times} |");
    }
    let first = spread(&first_ms, |n| n.to_string(), false);
    println!("\nFirst certificate after the start of the demo, ms (min / median / max): {first}");
    println!("\nMemory, as `teed --stats` says after the first certificate:\n");
    for line in memory {
        println!("    {line}");
    }
    Ok(())
}

/// Runs one demo; gives its events, and the memory line of its TEE's figures.
fn one(root: &Path) -> Result<(Vec<Value>, String)> {
    let dir = std::env::temp_dir().join(format!("tegata-perf-{}", std::process::id()));
    let binary = root.join("target/release/tegata");
    let child = Command::new(&binary)
        .args(["demo", "--json", "--keep", "--dir"])
        .arg(&dir)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", binary.display()))?;
    let mut demo = Demo(child);
    let out = demo.0.stdout.take().context("its output is a pipe")?;
    let mut events = Vec::new();
    for line in BufReader::new(out).lines() {
        let event: Value = serde_json::from_str(&line?)?;
        let done = event.get("event").is_some_and(|kind| kind == "next");
        events.push(event);
        if done {
            break;
        }
    }
    let path = events
        .iter()
        .find_map(|e| e.get("path").and_then(Value::as_str));
    let device = Path::new(path.context("the demo tells of no certificate")?)
        .parent()
        .context("a certificate lies in its device's directory")?;
    let stats = Command::new(&binary)
        .args(["teed", "--stats", "--dir"])
        .arg(device)
        .output()?;
    let text = String::from_utf8(stats.stdout)?;
    let memory = text
        .lines()
        .find(|line| line.starts_with("memory"))
        .context("the TEE says nothing of its memory")?;
    let memory = memory.split_whitespace().collect::<Vec<_>>().join(" ");
    drop(demo);
    std::fs::remove_dir_all(&dir)?;
    Ok((events, memory))
}

/// A demo that ends with its owner.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        // Its children end with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Microseconds as milliseconds with two decimals.
fn millis(micros: u64) -> String {
    format!("{}.{:02}", micros / 1000, micros % 1000 / 10)
}

/// Least, middle and greatest; one number where they are equal and `fold` is set.
fn spread(values: &[u64], show: impl Fn(u64) -> String, fold: bool) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let (Some(least), Some(greatest)) = (sorted.first(), sorted.last()) else {
        return String::new();
    };
    if fold && least == greatest {
        return show(*least);
    }
    let middle = sorted.get(sorted.len() / 2).unwrap_or(least);
    let mut text = String::new();
    let _ = write!(
        text,
        "{} / {} / {}",
        show(*least),
        show(*middle),
        show(*greatest)
    );
    text
}
