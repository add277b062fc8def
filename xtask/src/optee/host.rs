//! What the host needs: packages and the Rust target. As root they are installed; otherwise the
//! command that does it is said.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::work::{Work, output};

/// Programs and files, and the Debian packages that bring them.
const NEEDED: &[(&str, &str)] = &[
    ("/usr/bin/qemu-system-aarch64", "qemu-system-arm"),
    ("/usr/bin/aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    (
        "/usr/aarch64-linux-gnu/include/stdio.h",
        "libc6-dev-arm64-cross",
    ),
    ("/usr/bin/gcc", "gcc"),
    ("/usr/bin/make", "make"),
    ("/usr/bin/dtc", "device-tree-compiler"),
    ("/usr/include/openssl/ssl.h", "libssl-dev"),
    ("/usr/bin/openssl", "openssl"),
    ("/usr/bin/dpkg-source", "dpkg-dev"),
    ("/usr/bin/xz", "xz-utils"),
    ("/usr/bin/setpriv", "util-linux"),
    ("/usr/sbin/mke2fs", "e2fsprogs"),
    (
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
    ),
    (
        "/usr/lib/python3/dist-packages/cryptography",
        "python3-cryptography",
    ),
    (
        "/usr/lib/python3/dist-packages/elftools",
        "python3-pyelftools",
    ),
];

/// The target of programs and of TA images.
pub const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Checks all of it, and mends what it may.
///
/// # Errors
/// Something is missing and cannot be installed from here.
pub fn prepare(work: &Work) -> Result<()> {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(file, _)| !Path::new(file).exists())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        packages(work, &missing)?;
    }
    Ok(())
}

/// Installs packages, or says how.
fn packages(work: &Work, missing: &[&str]) -> Result<()> {
    let command = format!(
        "apt-get install --no-install-recommends {}",
        missing.join(" ")
    );
    let me = output(Command::new("id").arg("-u"))?;
    if me.trim() != "0" {
        bail!("this machine lacks packages; as root: {command}");
    }
    work.say(&format!("this machine lacks packages: {command}"));
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(["-q", "-y"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    work.quiet("apt-update", &mut apt(&["update"]))?;
    let mut install = apt(&["install", "--no-install-recommends"]);
    work.quiet("apt-install", install.args(missing))
}
