//! What runs in the device: the guest's helpers, the agent, and the two TA images, built for aarch64.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::host::TARGET;
use super::work::{Inputs, Work};

/// The programs: where each lies in the device, and the file on the host.
#[derive(Default)]
pub struct Programs {
    /// Name in the device without the leading slash, file here.
    pub files: Vec<(String, PathBuf)>,
}

/// Builds the helpers of the emulated device: control and RPMB.
///
/// # Errors
/// They do not build.
pub fn helpers(work: &Work, programs: &mut Programs) -> Result<()> {
    let source = work.root.join("packaging/optee/guest");
    let target = work.path("cargo/guest");
    let built = target.join(TARGET).join("release");
    let files = [
        ("bin/control", built.join("control")),
        ("usr/lib/libtegata_rpmb.so", built.join("libtegata_rpmb.so")),
    ];
    let outputs = files.clone().map(|(_, file)| file);
    let inputs = Inputs::default().tree(&source);
    work.step("helpers of the emulated device", &inputs, &outputs, || {
        let mut cargo = cargo(&source, &target);
        work.quiet("helpers", cargo.arg("--locked"))
    })?;
    programs
        .files
        .extend(files.map(|(name, file)| (name.to_owned(), file)));
    Ok(())
}

/// `cargo build --release` for the device, in a target directory of its own.
fn cargo(source: &Path, target: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--target", TARGET, "--target-dir"])
        .arg(target)
        .current_dir(source)
        .env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
            "aarch64-linux-gnu-gcc",
        )
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET");
    cargo
}
