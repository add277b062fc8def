//! The secure world: OP-TEE OS and Trusted Firmware-A, built from Debian's sources, and a flash
//! image for each device.
//!
//! The images of all devices are the same but for the hardware unique key (HUK): it stands as a
//! placeholder in a device tree inside OP-TEE and is replaced in each device's image. On a chip it
//! would be fuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::debian::Unpacked;
use super::work::{Inputs, Work, output};

/// The devices of the suite and their HUKs.
pub const DEVICES: [(&str, [u8; 16]); 2] = [
    ("A", *b"\x5a\x01tegata-deviceA"),
    ("B", *b"\xa5\x02tegata-deviceB"),
];

/// What OP-TEE is built with. docs/ops/optee.md says which of these a product sets otherwise.
const OPTEE_OPTIONS: &[&str] = &[
    "PLATFORM=vexpress-qemu_armv8a",
    "CROSS_COMPILE=aarch64-linux-gnu-",
    "PYTHON3=/usr/bin/python3",
    "CFG_ARM64_core=y",
    "CFG_ARM_GICV3=y",
    "CFG_USER_TA_TARGETS=ta_arm64",
    "CFG_CRYPTO_WITH_CE=y",
    // Without it the version would be that of the repository this lies in.
    "TEE_IMPL_VERSION=4.10.0",
    // The agent, a client in each of several instances, and the calls among the two images.
    "CFG_NUM_THREADS=4",
    "CFG_CORE_HEAP_SIZE=262144",
    // As in a product: no assertions, no test code, no TAs of others.
    "CFG_TEE_CORE_DEBUG=n",
    "CFG_TEE_CORE_LOG_LEVEL=2",
    "CFG_TEE_TA_LOG_LEVEL=2",
    "CFG_ENABLE_EMBEDDED_TESTS=n",
    "CFG_BUILD_IN_TREE_TA=n",
    // Rollback of the storage in the REE is noticed by its hash in the RPMB.
    "CFG_RPMB_FS=y",
    // Its table is read once for each start and not for each access.
    "CFG_RPMB_FS_CACHE_ENTRIES=16",
    // The emulated RPMB sits behind the supplicant, not in the kernel.
    "CFG_RPMB_ANNOUNCE_PROBE_CAP=n",
    // Only here: a product's RPMB key is written in the factory.
    "CFG_RPMB_WRITE_KEY=y",
    // Only here: the HUK from a device tree inside OP-TEE.
    "CFG_WIDEVINE_HUK=y",
    "CFG_DT_DRIVER_EMBEDDED_TEST=n",
    "CFG_EMBED_DTB_SOURCE_FILE=tegata_huk.dts",
];
/// What stands in the place of the HUK.
const PLACEHOLDER: &[u8; 16] = b"PLACEHOLDER-HUK!";

/// What Trusted Firmware-A is built with. It starts Linux itself: no other boot loader is needed.
const FIRMWARE_OPTIONS: &[&str] = &[
    "PLAT=qemu",
    "CROSS_COMPILE=aarch64-linux-gnu-",
    "DEBUG=0",
    "LOG_LEVEL=10",
    "SPD=opteed",
    "QEMU_USE_GIC_DRIVER=QEMU_GICV3",
    "BL32_RAM_LOCATION=tdram",
    "ARM_LINUX_KERNEL_AS_BL33=1",
    "PRELOADED_BL33_BASE=0x60000000",
];
/// Where the flash holds the package of images behind the first boot loader.
const PACKAGE_AT: usize = 256 * 1024;

/// What was built.
pub struct Built {
    /// OP-TEE's dev kit for TAs.
    pub dev_kit: PathBuf,
    /// The key that signs TAs.
    pub ta_key: PathBuf,
}

impl Built {
    /// A device's flash image.
    pub fn flash(work: &Work, device: &str) -> PathBuf {
        work.path(&format!("flash-{device}.bin"))
    }
}

/// Builds all of it.
///
/// # Errors
/// A key, a build or an image fails.
pub fn build(work: &Work, unpacked: &Unpacked) -> Result<Built> {
    let ta_key = work.path("ta-root.pem");
    let public = work.path("ta-root.pub.pem");
    work.step(
        "key that signs TAs",
        &Inputs::default(),
        &[ta_key.clone(), public.clone()],
        || {
            let mut generate = Command::new("openssl");
            generate.arg("genrsa").arg("-out").arg(&ta_key).arg("3072");
            work.quiet("ta-key", &mut generate)?;
            let mut publish = Command::new("openssl");
            publish.args(["rsa", "-pubout", "-in"]).arg(&ta_key);
            work.quiet("ta-key-public", publish.arg("-out").arg(&public))
        },
    )?;
    let jobs = format!("-j{}", std::thread::available_parallelism()?);
    optee(work, &unpacked.optee, &public, &ta_key, &jobs)?;
    trusted_firmware(work, &unpacked.firmware, &jobs)?;
    for (name, huk) in DEVICES {
        flash(work, name, &huk)?;
    }
    Ok(Built {
        dev_kit: work.path("optee/export-ta_arm64"),
        ta_key,
    })
}

fn optee(work: &Work, source: &Path, public: &Path, key: &Path, jobs: &str) -> Result<()> {
    let out = work.path("optee");
    let inputs = Inputs::default()
        .text(&OPTEE_OPTIONS.join(" "))
        .text(&huk_tree())
        .file(&source.join("debian/changelog"))
        .file(public);
    let outputs = [
        out.join("core/tee-pager_v2.bin"),
        out.join("core/tee-header_v2.bin"),
        out.join("export-ta_arm64/scripts/sign_encrypt.py"),
    ];
    work.step("OP-TEE OS", &inputs, &outputs, || {
        let driver = source.join("core/drivers/widevine_huk.c");
        let text = fs::read_to_string(&driver)?;
        if !text.contains("<kernel/dt.h>") {
            // Without them this driver does not compile in this release.
            fs::write(
                &driver,
                format!("#include <initcall.h>\n#include <kernel/dt.h>\n{text}"),
            )?;
        }
        fs::write(source.join("core/arch/arm/dts/tegata_huk.dts"), huk_tree())?;
        let mut make = Command::new("make");
        make.args(["-s", jobs])
            .arg("-C")
            .arg(source)
            .arg(format!("O={}", out.display()))
            .args(OPTEE_OPTIONS)
            .arg(format!("TA_PUBLIC_KEY={}", public.display()))
            .arg(format!("TA_SIGN_KEY={}", key.display()));
        work.quiet("optee", &mut make)
    })
}

/// The device tree inside OP-TEE, with the placeholder.
fn huk_tree() -> String {
    let bytes: Vec<String> = PLACEHOLDER.iter().map(|b| format!("{b:02x}")).collect();
    format!(
        "/dts-v1/;\n/ {{ options {{ op-tee {{ widevine {{\n\
         op-tee,hardware-unique-key = [{}];\n}}; }}; }}; }};\n",
        bytes.join(" ")
    )
}

fn trusted_firmware(work: &Work, source: &Path, jobs: &str) -> Result<()> {
    let images = work.path("firmware/qemu/release");
    let inputs = Inputs::default()
        .text(&FIRMWARE_OPTIONS.join(" "))
        .file(&source.join("debian/changelog"));
    let outputs = [
        images.join("bl1.bin"),
        images.join("bl2.bin"),
        images.join("bl31.bin"),
        source.join("tools/fiptool/fiptool"),
    ];
    work.step("Trusted Firmware-A", &inputs, &outputs, || {
        let mut make = Command::new("make");
        make.args(["-s", jobs, "-C"])
            .arg(source)
            .arg(format!("BUILD_BASE={}", work.path("firmware").display()))
            .args(FIRMWARE_OPTIONS)
            .args(["bl1", "bl2", "bl31", "fiptool"]);
        work.quiet("firmware", &mut make)
    })
}

/// The flash of one device: first boot loader, then the package of the others with its HUK.
fn flash(work: &Work, device: &str, huk: &[u8; 16]) -> Result<()> {
    let images = work.path("firmware/qemu/release");
    let (header, pager) = (
        work.path("optee/core/tee-header_v2.bin"),
        work.path("optee/core/tee-pager_v2.bin"),
    );
    let flash = Built::flash(work, device);
    let inputs = Inputs::default()
        .file(&images.join("bl1.bin"))
        .file(&images.join("bl2.bin"))
        .file(&images.join("bl31.bin"))
        .file(&header)
        .file(&pager)
        .text(&format!("{huk:?}"));
    let outputs = [flash.clone()];
    work.step(
        &format!("flash of device {device}"),
        &inputs,
        &outputs,
        || {
            let mut image = fs::read(&pager)?;
            let places: Vec<usize> = image
                .windows(PLACEHOLDER.len())
                .enumerate()
                .filter(|(_, bytes)| bytes == PLACEHOLDER)
                .map(|(at, _)| at)
                .collect();
            ensure!(
                places.len() == 1,
                "the HUK's placeholder is there {} times",
                places.len()
            );
            for at in places {
                let place = image
                    .get_mut(at..at + huk.len())
                    .context("the placeholder")?;
                place.copy_from_slice(huk);
            }
            let own = work.path(&format!("pager-{device}.bin"));
            fs::write(&own, &image)?;
            let package = work.path(&format!("package-{device}.bin"));
            let tool = work.path("debian/firmware/tools/fiptool/fiptool");
            let mut create = Command::new(tool);
            create.arg("create");
            for (option, file) in [
                ("--tb-fw", &images.join("bl2.bin")),
                ("--soc-fw", &images.join("bl31.bin")),
                ("--tos-fw", &header),
                ("--tos-fw-extra1", &own),
            ] {
                create.arg(option).arg(file);
            }
            output(create.arg(&package))?;
            let mut bytes = fs::read(images.join("bl1.bin"))?;
            ensure!(
                bytes.len() <= PACKAGE_AT,
                "the first boot loader is too large"
            );
            bytes.resize(PACKAGE_AT, 0);
            bytes.extend(fs::read(&package)?);
            fs::write(&flash, bytes)?;
            Ok(())
        },
    )
}
