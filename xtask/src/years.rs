//! `cargo xtask years`: simulated years of a large fleet, told as it goes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Let a fleet live through simulated years (tests/sim/years).
#[derive(clap::Args)]
pub struct Args {
    /// How many devices.
    #[arg(long, default_value_t = 1_000)]
    devices: u32,
    /// How many years.
    #[arg(long, default_value_t = 5)]
    years: u32,
    /// The same seed makes the same years.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Builds the simulation with optimisation and runs it.
///
/// # Errors
/// An invariant failed: what was printed says which, and how to repeat it.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let status = Command::new("cargo")
        .current_dir(root)
        .args(["test", "--release", "--workspace", "--test", "sim", "--"])
        .args([
            "--exact",
            "--nocapture",
            "years::devices_live_through_years",
        ])
        .env("TEGATA_YEARS_DEVICES", args.devices.to_string())
        .env("TEGATA_YEARS", args.years.to_string())
        .env("TEGATA_YEARS_SEED", args.seed.to_string())
        .status()
        .context("cargo")?;
    ensure!(status.success(), "the years came to no good end");
    Ok(())
}
