//! `cargo xtask optee`: the TEE in real TrustZone, emulated. Builds OP-TEE, the firmware and a small
//! Linux from Debian's packages, boots two devices in QEMU, and runs the suite on them.
//!
//! Everything is below one work directory (`target/optee`); nothing is installed on the host but
//! the packages that `host` lists. docs/ops/optee.md is the guide for a real board.

mod cpio;
mod debian;
mod firmware;
mod host;
mod image;
mod machine;
mod programs;
mod relay;
mod servers;
mod suite;
mod work;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

use image::Image;
use machine::Machine;
use work::{Work, seconds};

/// How to run it.
#[derive(clap::Args)]
pub struct Args {
    /// Where everything is built and kept; default: target/optee.
    #[arg(long)]
    work: Option<PathBuf>,
    /// Only the tests whose names contain this, or one of these with commas between.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Use this `tegata` instead of building the release.
    #[arg(long, value_name = "FILE")]
    tegata: Option<PathBuf>,
    /// Do not run cargo: take the programs as they were built last.
    #[arg(long)]
    as_built: bool,
    /// Keep the devices' directories and logs of this run.
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

/// What to do; default: run.
#[derive(clap::Subcommand, Clone, Copy)]
enum Action {
    /// Check or install what the host needs, download packages and sources.
    Setup,
    /// And build firmware, images and programs.
    Build,
    /// And boot the devices and run the suite.
    Run,
    /// Boot device A and run each line of the standard input in it, as root.
    Shell,
    /// Remove the work directory.
    Clean,
}

/// Does it.
///
/// # Errors
/// Something is missing or fails; the error says what and where its log is.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let dir = match &args.work {
        Some(dir) => dir.clone(),
        None => root.join("target/optee"),
    };
    let action = args.action.unwrap_or(Action::Run);
    if matches!(action, Action::Clean) {
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        return Ok(());
    }
    let work = Work::open(root, &dir, args.as_built)?;
    host::prepare(&work)?;
    let unpacked = debian::fetch(&work)?;
    if matches!(action, Action::Setup) {
        work.say("set up");
        return Ok(());
    }
    let built = firmware::build(&work, &unpacked)?;
    let tegata = match &args.tegata {
        Some(program) => program.canonicalize()?,
        None => servers::binary(&work)?,
    };
    let pki = servers::keys(&work, &tegata)?;
    let programs = programs::build(&work, &unpacked, &built, &pki.join("trust/factory.pem"))?;
    let image = image::build(&work, &unpacked, &programs)?;
    match action {
        Action::Shell => shell(&work, &image),
        Action::Run => suite::run(
            &suite::Bench {
                work: &work,
                image: &image,
                tegata,
                pki,
            },
            &args.only,
            args.keep,
        ),
        _ => {
            work.say("built");
            Ok(())
        }
    }
}

/// Runs the lines of the standard input in device A.
fn shell(work: &Work, image: &Image) -> Result<()> {
    let mut machine = Machine::new(work, image, "A", &work.path("shell"))?;
    machine.boot()?;
    work.say(&format!(
        "device A is up after {}; consoles in {}; each line runs as root",
        seconds(machine.boot_took),
        machine.dir().display()
    ));
    let input = std::io::stdin();
    for line in input.lock().lines() {
        let ran = machine.run(0, &line?)?;
        std::io::stdout().write_all(&ran.out)?;
        std::io::stderr().write_all(&ran.err)?;
        if ran.code != 0 {
            eprintln!("exit code {}", ran.code);
        }
    }
    Ok(())
}
