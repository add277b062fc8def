//! `cargo xtask tas`: rebuilds the TAs that are checked in, and runs their tests on the result.
//!
//! Paths are remapped, so that the module says nothing about the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The Wasm target of TAs.
const TARGET: &str = "wasm32-unknown-unknown";
/// Largest module in bytes.
const LEN_MAX: u64 = 200 * 1024;
/// Stack of a TA in bytes.
const STACK: u32 = 64 * 1024;

/// A TA of this tree.
struct Ta {
    package: &'static str,
    /// File name of the built module.
    file: &'static str,
    /// Where it is checked in.
    checked_in: &'static str,
    /// Its tests, of tegata-tee, and the variable that names them a rebuilt module.
    tests: &'static [&'static str],
    names_rebuilt: &'static str,
}

/// All TAs.
const TAS: [Ta; 2] = [
    Ta {
        package: "tegata-ta-enrol",
        file: "enrol.wasm",
        checked_in: "tas/enrol/enrol.wasm",
        tests: &["enrol", "keys"],
        names_rebuilt: "TEGATA_ENROL_WASM",
    },
    Ta {
        package: "tegata-ta-location",
        file: "location.wasm",
        checked_in: "tas/location/location.wasm",
        tests: &["location"],
        names_rebuilt: "TEGATA_LOCATION_WASM",
    },
];

/// What to do with the rebuilt modules.
#[derive(clap::Args)]
pub struct Args {
    /// Leave the checked-in modules alone; test the rebuilt ones and say whether they are equal.
    #[arg(long)]
    check: bool,
}

/// Rebuilds all TAs.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    for ta in TAS {
        let (package, checked_in) = (ta.package, ta.checked_in);
        let built = build(root, package, ta.file)?;
        let len = fs::metadata(&built)?.len();
        ensure!(
            len <= LEN_MAX,
            "{package}: {len} bytes, more than {LEN_MAX}"
        );
        let target = root.join(checked_in);
        let same = fs::read(&target).is_ok_and(|old| fs::read(&built).is_ok_and(|new| old == new));
        println!(
            "{package}: {len} bytes, {}",
            if same { "as checked in" } else { "differs" }
        );
        if args.check {
            if !same {
                println!("{package}: another compiler gives other bytes; its tests decide");
            }
            test(root, &ta, &built)?;
        } else {
            fs::copy(&built, &target).with_context(|| format!("writing {checked_in}"))?;
        }
    }
    Ok(())
}

fn build(root: &Path, package: &str, file: &str) -> Result<PathBuf> {
    let tas = root.join("tas");
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))?;
    let flags = [
        format!("-Clink-arg=-zstack-size={STACK}"),
        // The module is measured: it must not depend on where it was built.
        format!("--remap-path-prefix={}=/tegata", root.display()),
        format!("--remap-path-prefix={home}=/cargo"),
    ];
    let status = crate::toolchain::cargo(root, TARGET)?
        .args(["build", "--release", "--locked", "--target", TARGET])
        .args(["--package", package])
        .current_dir(&tas)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .status()
        .context("running cargo for the TA")?;
    ensure!(status.success(), "{package} does not build");
    Ok(tas.join("target").join(TARGET).join("release").join(file))
}

fn test(root: &Path, ta: &Ta, built: &Path) -> Result<()> {
    let status = Command::new("cargo")
        // With the features of the whole workspace: what is built for other tests serves.
        .args(["test", "--workspace"])
        .args(ta.tests.iter().flat_map(|test| ["--test", test]))
        .current_dir(root)
        .env(ta.names_rebuilt, built)
        .status()
        .context("running the TA's tests")?;
    ensure!(status.success(), "the rebuilt module fails its tests");
    Ok(())
}
