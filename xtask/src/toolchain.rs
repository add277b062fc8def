//! A compiler for a target that is not this machine: stable Rust with rustup's library of the target,
//! or, where rustup cannot reach its server, Debian's `rustc-web` with Debian's library of the target
//! (Linux) or one compiled from its source (Wasm), unpacked beside the user's caches, without root, and
//! linked as a toolchain of rustup.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Toolchain made from Debian's packages.
const FALLBACK: &str = "tegata-web";

/// `rustup run TOOLCHAIN cargo`, with a toolchain whose compiler has the target.
///
/// # Errors
/// There is none, and none can be had.
pub fn cargo(root: &Path, target: &str) -> Result<Command> {
    let toolchain = toolchain(root, target)?;
    let mut cargo = Command::new("rustup");
    cargo
        .args(["run", &toolchain, "cargo"])
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET");
    Ok(cargo)
}

fn toolchain(root: &Path, target: &str) -> Result<String> {
    if has_target(root, "stable", target) {
        return Ok("stable".into());
    }
    let added = Command::new("rustup")
        .args(["target", "add", target, "--toolchain", "stable"])
        .current_dir(root)
        .status();
    if added.is_ok_and(|status| status.success()) && has_target(root, "stable", target) {
        return Ok("stable".into());
    }
    if !has_target(root, FALLBACK, target) {
        println!("rustup has no {target}: trying Debian's rustc-web");
        let status = Command::new("bash")
            .arg(root.join("xtask/rust-target.sh"))
            .args([FALLBACK, target])
            .status()
            .context("running the fallback script")?;
        if !status.success() || !has_target(root, FALLBACK, target) {
            bail!(
                "no compiler for {target}: run `rustup target add {target}`, or on Debian \
                 `apt-get update` and try again"
            );
        }
    }
    Ok(FALLBACK.to_owned())
}

fn has_target(root: &Path, toolchain: &str, target: &str) -> bool {
    let printed = Command::new("rustup")
        .args(["run", toolchain, "rustc", "--print", "target-libdir"])
        .args(["--target", target])
        .current_dir(root)
        .env_remove("RUSTUP_TOOLCHAIN")
        .output();
    let Ok(printed) = printed else { return false };
    let dir = PathBuf::from(String::from_utf8_lossy(&printed.stdout).trim());
    let Ok(entries) = fs::read_dir(dir) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}
