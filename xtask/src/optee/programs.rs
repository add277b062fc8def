//! What runs in the device: the guest's helpers, the agent, and the two TA images, built for aarch64.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tegata_wire::ids::TaUuid;
use tegata_wire::rpc::{OPTEE_HOST_UUID, OPTEE_TEE_UUID};

use super::debian::Unpacked;
use super::firmware::Built;
use super::host::TARGET;
use super::work::{Inputs, Work};
use crate::toolchain;

/// The programs: where each lies in the device, and the file on the host.
#[derive(Default)]
pub struct Programs {
    /// Name in the device without the leading slash, file here.
    pub files: Vec<(String, PathBuf)>,
}

/// Where OP-TEE's supplicant looks for TA images.
const TA_DIR: &str = "usr/lib/optee_armtz";
/// Where an older image of the host lies, which the suite tries to slip in.
pub const OLDER: &str = "opt/older";
/// The images: binary and UUID.
const IMAGES: [(&str, TaUuid); 2] = [
    ("tegata-optee-tee", OPTEE_TEE_UUID),
    ("tegata-optee-host", OPTEE_HOST_UUID),
];
/// Version of the images that the device has.
const IMAGE_VERSION: &str = "2";
/// Version of the older image.
const OLDER_VERSION: &str = "1";

/// Builds all of them. `factory` is the factory's public key.
///
/// # Errors
/// One does not build.
pub fn build(work: &Work, unpacked: &Unpacked, built: &Built, factory: &Path) -> Result<Programs> {
    let client = client_library(work, unpacked)?;
    let mut programs = Programs::default();
    helpers(work, &client, &mut programs)?;
    agent(work, &client, &mut programs)?;
    images(work, built, factory, &mut programs)?;
    Ok(programs)
}

/// The file that has the UUID's image.
pub fn image_name(uuid: &TaUuid) -> String {
    format!("{uuid}.ta")
}

/// OP-TEE's client library where its Rust binding looks for it.
fn client_library(work: &Work, unpacked: &Unpacked) -> Result<PathBuf> {
    let dir = work.path("debian/client");
    fs::create_dir_all(dir.join("usr/lib"))?;
    let from = unpacked.device.join("usr/lib/aarch64-linux-gnu");
    for name in ["libteec.so.2", "libteec.so"] {
        fs::copy(from.join("libteec.so.2"), dir.join("usr/lib").join(name))?;
    }
    Ok(dir)
}

/// The helpers of the emulated device: control, RPMB and probe.
fn helpers(work: &Work, client: &Path, programs: &mut Programs) -> Result<()> {
    let target = work.path("cargo/guest");
    let mut cargo = cargo(work, &work.root.join("packaging/optee/guest"), &target)?;
    cargo.env("OPTEE_CLIENT_EXPORT", client).arg("--locked");
    work.built("helpers of the device", "helpers", &mut cargo)?;
    let built = target.join(TARGET).join("release");
    programs.add("bin/control", built.join("control"));
    programs.add("bin/probe", built.join("probe"));
    programs.add("usr/lib/libtegata_rpmb.so", built.join("libtegata_rpmb.so"));
    Ok(())
}

/// The agent, which speaks to OP-TEE.
fn agent(work: &Work, client: &Path, programs: &mut Programs) -> Result<()> {
    let target = work.path("cargo/agent");
    let mut cargo = cargo(work, &work.root, &target)?;
    cargo.env("OPTEE_CLIENT_EXPORT", client).args([
        "--locked",
        "--package",
        "tegata-agent",
        "--features",
        "optee",
    ]);
    work.built("agent", "agent", &mut cargo)?;
    let built = target.join(TARGET).join("release/tegata-agent");
    programs.add("usr/bin/tegata-agent", built);
    Ok(())
}

/// The two images, signed; and the host's once more with an older version.
fn images(work: &Work, built: &Built, factory: &Path, programs: &mut Programs) -> Result<()> {
    let target = work.path("cargo/images");
    let mut cargo = cargo(work, &work.root.join("crates/platform/optee"), &target)?;
    cargo
        .arg("--locked")
        .env("TA_DEV_KIT_DIR", &built.dev_kit)
        .env("TEGATA_FACTORY_KEY", factory)
        // The images are linked by OP-TEE's script, which the plain linker reads.
        .env(LINKER, "aarch64-linux-gnu-ld.bfd");
    work.built("TA images", "images", &mut cargo)?;
    for (binary, uuid) in IMAGES {
        let elf = target.join(TARGET).join("release").join(binary);
        let file = work.path(&image_name(&uuid));
        sign(work, built, &elf, &uuid, IMAGE_VERSION, &file)?;
        programs.add(&format!("{TA_DIR}/{}", image_name(&uuid)), file);
        if uuid == OPTEE_HOST_UUID {
            let older = work.path("older.ta");
            sign(work, built, &elf, &uuid, OLDER_VERSION, &older)?;
            programs.add(&format!("{OLDER}/{}", image_name(&uuid)), older);
        }
    }
    Ok(())
}

/// Signs an image with the key that OP-TEE was built with.
fn sign(
    work: &Work,
    built: &Built,
    elf: &Path,
    uuid: &TaUuid,
    version: &str,
    to: &Path,
) -> Result<()> {
    let name = format!("signature of {uuid} version {version}");
    let inputs = Inputs::default().file(elf).file(&built.ta_key);
    work.step(&name, &inputs, &[to.to_path_buf()], || {
        let mut sign = Command::new("/usr/bin/python3");
        sign.arg(built.dev_kit.join("scripts/sign_encrypt.py"))
            .args(["sign-enc", "--uuid", &uuid.to_string()])
            .args(["--ta-version", version, "--in"])
            .arg(elf)
            .arg("--key")
            .arg(&built.ta_key)
            .arg("--out")
            .arg(to);
        work.quiet("sign", &mut sign)
    })
}

impl Programs {
    fn add(&mut self, name: &str, file: PathBuf) {
        self.files.push((name.to_owned(), file));
    }
}

/// Where cargo looks for the linker of the target.
const LINKER: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER";

/// `cargo build --release` for the device, in a target directory of its own.
///
/// # Errors
/// No compiler has the target.
fn cargo(work: &Work, source: &Path, target: &Path) -> Result<Command> {
    let mut cargo = toolchain::cargo(&work.root, TARGET)?;
    cargo
        .args(["build", "--release", "--target", TARGET, "--target-dir"])
        .arg(target)
        .current_dir(source)
        .env(LINKER, "aarch64-linux-gnu-gcc");
    Ok(cargo)
}
