//! The normal world's file system: Debian's kernel modules, busybox, tee-supplicant, and ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::cpio::Archive;
use super::debian::Unpacked;
use super::programs::Programs;
use super::work::{Inputs, Work};

/// Modules of the kernel, in the order they load.
const MODULES: &[&str] = &[
    "drivers/tee/tee",
    "drivers/tee/optee/optee",
    "drivers/block/virtio_blk",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
];
/// Libraries of Debian's that the programs use.
const LIBRARIES: &[&str] = &[
    "ld-linux-aarch64.so.1",
    "libc.so.6",
    "libgcc_s.so.1",
    "libm.so.6",
    "libteec.so.2",
];
/// Where they lie.
const LIBRARY_DIR: &str = "usr/lib/aarch64-linux-gnu";
/// Users of the device, besides root.
pub const USERS: [(&str, u32); 2] = [("alice", 1001), ("bob", 1002)];

/// What QEMU starts.
pub struct Image {
    /// Linux.
    pub kernel: PathBuf,
    /// The file system in memory.
    pub initrd: PathBuf,
}

/// Makes it.
///
/// # Errors
/// A part is missing.
pub fn build(work: &Work, unpacked: &Unpacked, programs: &Programs) -> Result<Image> {
    let init = work.root.join("packaging/optee/guest/init");
    let mut inputs = Inputs::default()
        .text(include_str!("image.rs"))
        .file(&work.path("stamps/packages-for-the-device"))
        .file(&init);
    for (_, file) in &programs.files {
        inputs = inputs.file(file);
    }
    let initrd = work.path("initrd.cpio");
    let outputs = [initrd.clone()];
    work.step("file system", &inputs, &outputs, || {
        let archive = assemble(unpacked, programs, &init)?;
        fs::write(&initrd, archive.finish()?)?;
        Ok(())
    })?;
    let kernel = only(&unpacked.kernel.join("boot"), "vmlinuz-")?;
    Ok(Image { kernel, initrd })
}

fn assemble(unpacked: &Unpacked, programs: &Programs, init: &Path) -> Result<Archive> {
    let mut archive = Archive::default();
    for dir in [
        "bin",
        "dev",
        "etc",
        "modules",
        "opt",
        "opt/older",
        "proc",
        "sys",
        "tmp",
        "usr",
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib/aarch64-linux-gnu",
        "usr/lib/optee_armtz",
        "usr/lib/tee-supplicant",
        "usr/lib/tee-supplicant/plugins",
        "var",
        "var/lib",
    ] {
        archive.dir(dir)?;
    }
    archive.link("lib", "usr/lib")?;
    let loader = "aarch64-linux-gnu/ld-linux-aarch64.so.1";
    archive.link("usr/lib/ld-linux-aarch64.so.1", loader)?;
    let mut passwd = "root:x:0:0::/:/bin/sh\n".to_owned();
    for (name, uid) in USERS {
        passwd.push_str(&format!("{name}:x:{uid}:{uid}::/tmp:/bin/sh\n"));
    }
    archive.bytes("etc/passwd", false, passwd.as_bytes())?;
    archive.file("init", true, init)?;
    archive.file(
        "bin/busybox",
        true,
        &unpacked.device.join("usr/bin/busybox"),
    )?;
    for applet in include_str!("applets.txt").split_whitespace() {
        archive.link(&format!("bin/{applet}"), "busybox")?;
    }
    for library in LIBRARIES {
        let name = format!("{LIBRARY_DIR}/{library}");
        archive.file(&name, true, &unpacked.device.join(&name))?;
    }
    let supplicant = "usr/sbin/tee-supplicant";
    archive.file(supplicant, true, &unpacked.device.join(supplicant))?;
    let modules = only(&unpacked.kernel.join("usr/lib/modules"), "")?.join("kernel");
    for module in MODULES {
        let packed = modules.join(format!("{module}.ko.xz"));
        let unpack = Command::new("xz").arg("-dc").arg(&packed).output()?;
        ensure!(unpack.status.success(), "unpacking {}", packed.display());
        let name = module.rsplit('/').next().unwrap_or(module);
        archive.bytes(&format!("modules/{name}.ko"), false, &unpack.stdout)?;
    }
    for (name, file) in &programs.files {
        archive.file(name, true, file)?;
    }
    Ok(archive)
}

/// The one entry of a directory whose name begins so.
fn only(dir: &Path, begins: &str) -> Result<PathBuf> {
    fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(begins))
        })
        .with_context(|| format!("{} has no {begins}…", dir.display()))
}
