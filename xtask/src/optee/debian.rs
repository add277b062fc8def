//! Packages of Debian for arm64, and source packages, without installing anything.
//!
//! Each release has an apt of its own below the work directory: its index is signed and checked
//! with Debian's keyring, packages are checked against the index. The host's apt is not touched.
//! An index that has expired is taken all the same: a mirror may stand still, its signature stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::work::{Inputs, Work, output};

/// The release the emulated device runs.
const DEVICE_RELEASE: &str = "trixie";
/// The release with OP-TEE's source.
const OPTEE_RELEASE: &str = "sid";
/// What the device's programs need, besides the kernel.
const DEVICE_PACKAGES: &[&str] = &[
    "busybox-static",
    "libc6",
    "libgcc-s1",
    "libteec2",
    "optee-client-dev",
    "tee-supplicant",
];
/// The kernel for virtual machines; depends on the one with a version.
const KERNEL: &str = "linux-image-cloud-arm64";
/// Where packages come from unless `TEGATA_DEBIAN_MIRROR` says otherwise.
const MIRROR: &str = "http://deb.debian.org/debian";

/// Where the unpacked things lie.
pub struct Unpacked {
    /// Root of the device's programs and libraries.
    pub device: PathBuf,
    /// Root of the kernel's package.
    pub kernel: PathBuf,
    /// OP-TEE OS, source.
    pub optee: PathBuf,
    /// Trusted Firmware-A, source.
    pub firmware: PathBuf,
}

/// Downloads and unpacks everything once.
///
/// # Errors
/// A package cannot be had or unpacked.
pub fn fetch(work: &Work) -> Result<Unpacked> {
    let unpacked = Unpacked {
        device: work.path("debian/device"),
        kernel: work.path("debian/kernel"),
        optee: work.path("debian/optee-os"),
        firmware: work.path("debian/firmware"),
    };
    let inputs = Inputs::default()
        .text(DEVICE_RELEASE)
        .text(KERNEL)
        .text(&DEVICE_PACKAGES.join(" "));
    let outputs = [unpacked.device.clone(), unpacked.kernel.clone()];
    work.step("packages for the device", &inputs, &outputs, || {
        let apt = Apt::open(work, DEVICE_RELEASE)?;
        let depends = output(apt.command("apt-cache").args(["depends", KERNEL]))?;
        let kernel = depends
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .context("the kernel's package names no version")?;
        let debs = fresh(&work.path("debian/packages"))?;
        let mut get = apt.command("apt-get");
        get.args(["-q", "download", kernel]).args(DEVICE_PACKAGES);
        work.quiet("download-device", get.current_dir(&debs))?;
        fresh(&unpacked.device)?;
        fresh(&unpacked.kernel)?;
        for entry in fs::read_dir(&debs)? {
            let deb = entry?.path();
            let name = deb.file_name().unwrap_or_default().to_string_lossy();
            let to = if name.starts_with("linux-image") {
                &unpacked.kernel
            } else {
                &unpacked.device
            };
            output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(to))?;
        }
        Ok(())
    })?;
    source(work, OPTEE_RELEASE, "optee-os", &unpacked.optee)?;
    source(
        work,
        DEVICE_RELEASE,
        "arm-trusted-firmware",
        &unpacked.firmware,
    )?;
    Ok(unpacked)
}

/// Downloads and unpacks a source package.
fn source(work: &Work, release: &str, name: &str, to: &Path) -> Result<()> {
    let inputs = Inputs::default().text(release).text(name);
    work.step(
        &format!("source of {name}"),
        &inputs,
        &[to.to_path_buf()],
        || {
            let apt = Apt::open(work, release)?;
            let sources = fresh(&work.path(&format!("debian/source-{name}")))?;
            let mut get = apt.command("apt-get");
            get.args(["-q", "source", "--download-only", name]);
            work.quiet(&format!("download-{name}"), get.current_dir(&sources))?;
            let description = fs::read_dir(&sources)?
                .flatten()
                .map(|entry| entry.path())
                .find(|path| path.extension().is_some_and(|kind| kind == "dsc"))
                .context("the source package has no description")?;
            if to.exists() {
                fs::remove_dir_all(to)?;
            }
            // apt has checked the files against the signed index.
            let mut unpack = Command::new("dpkg-source");
            unpack.args(["--no-check", "-x"]).arg(description).arg(to);
            work.quiet(&format!("unpack-{name}"), &mut unpack)
        },
    )
}

/// An apt of its own for one release.
struct Apt {
    config: PathBuf,
}

impl Apt {
    fn open(work: &Work, release: &str) -> Result<Self> {
        let dir = work.path(&format!("debian/apt-{release}"));
        for part in [
            "etc/apt.conf.d",
            "etc/preferences.d",
            "etc/sources.list.d",
            "state/lists/partial",
            "cache/archives/partial",
            "log",
        ] {
            fs::create_dir_all(dir.join(part))?;
        }
        fs::write(dir.join("state/status"), "")?;
        let mirror = std::env::var("TEGATA_DEBIAN_MIRROR").unwrap_or_else(|_| MIRROR.to_owned());
        let signed = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg";
        fs::write(
            dir.join("etc/sources.list"),
            format!(
                "deb [arch=arm64 {signed}] {mirror} {release} main\n\
                 deb-src [{signed}] {mirror} {release} main\n"
            ),
        )?;
        let at = dir.display();
        let config = dir.join("apt.conf");
        fs::write(
            &config,
            format!(
                "Dir::Etc \"{at}/etc\"; Dir::State \"{at}/state\"; Dir::Cache \"{at}/cache\";\n\
                 Dir::State::status \"{at}/state/status\"; Dir::Log \"{at}/log\";\n\
                 APT::Architecture \"arm64\"; APT::Architectures {{ \"arm64\"; }};\n\
                 Acquire::Languages \"none\"; APT::Sandbox::User \"root\";\n\
                 Acquire::Check-Valid-Until \"false\"; Acquire::GzipIndexes \"true\";\n\
                 Dir::Cache::pkgcache \"\"; Dir::Cache::srcpkgcache \"\";\n"
            ),
        )?;
        let apt = Self { config };
        work.quiet(
            &format!("index-{release}"),
            apt.command("apt-get").args(["-q", "update"]),
        )?;
        let lists = fs::read_dir(dir.join("state/lists"))?.flatten();
        ensure!(
            lists
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .any(|name| name.contains("Sources")),
            "the index of {release} at {mirror} cannot be had"
        );
        Ok(apt)
    }

    /// A program of apt's that uses this configuration and no other.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.config);
        command
    }
}

/// An empty directory.
///
/// # Errors
/// It cannot be emptied or made.
pub fn fresh(dir: &Path) -> Result<PathBuf> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    Ok(dir.to_path_buf())
}
