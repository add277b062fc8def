//! The project's own tasks: `cargo xtask <task>`. Trusted: runs on developers' machines and in CI.

mod optee;
mod perf;
mod tas;
mod tidy;
mod toolchain;
mod years;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Tasks of the Tegata repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// What to do.
#[derive(Subcommand)]
enum Task {
    /// Check what the compiler does not: edges between crates, file lengths, headers, documents.
    Tidy,
    /// Run the main job several times and print its figures as a table.
    Perf(perf::Args),
    /// Rebuild the Trusted Applications (Wasm) that are checked in.
    Tas(tas::Args),
    /// Run the TEE as an OP-TEE Trusted Application in emulated TrustZone, and its suite.
    Optee(optee::Args),
    /// Let a fleet live through simulated years, with everything that may go wrong in them.
    Years(years::Args),
}

fn main() -> Result<()> {
    let root = root()?;
    match Cli::parse().task {
        Task::Tidy => tidy::run(&root),
        Task::Perf(args) => perf::run(&root, &args),
        Task::Tas(args) => tas::run(&root, &args),
        Task::Optee(args) => optee::run(&root, &args),
        Task::Years(args) => years::run(&root, &args),
    }
}

/// The repository: the one cargo runs this for, else the one this was built from.
fn root() -> Result<PathBuf> {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    own.as_deref()
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")))
        .parent()
        .map(Path::to_path_buf)
        .context("xtask lies in the repository's root")
}
