//! `tegata factory adopt`: devices with a hardware TEE come to the station and report who they are.
//!
//! The station verifies that each holds the keys it reports, gives it serial number and identity,
//! and signs both for the servers (the manifest) and for the device (its record). It sees no
//! secret of any device. Trusted: whoever brings the reports, to bring those of real devices.

use std::path::Path;

use tegata_authority::UnixSecs;
use tegata_authority::factory::{Anchors as Believed, adopt_devices, sign_manifest};
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::provisioning::{VerifiedReport, verify_report};
use tegata_wire::device::REPORT_LEN_BYTES_MAX;

use super::{Anchors, Batch, Made, bad, batch_spec, new_manifest, open_factory_key, tell, urls};
use crate::cli::FactoryAdopt;
use crate::config;
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::stores::now_secs;

/// What the evidence of the OP-TEE backend says about its wall.
const SECURITY_LEVEL: &str = "optee";

/// `tegata factory adopt`.
///
/// # Errors
/// Configuration, keys or files; a report that is not to be believed: then nothing is written.
pub fn run(args: &FactoryAdopt) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let (ca_url, tam_url) = urls(&config, args.ca_url.as_ref(), args.tam_url.as_ref())?;
    let manifest_path = new_manifest(&args.out)?;
    let factory_key = open_factory_key(&config)?;
    let anchors = Anchors::read(&config)?;
    let reports = args
        .reports
        .iter()
        .map(|path| read(path))
        .collect::<Outcome<Vec<_>>>()?;
    let now = now_secs();
    let model = args.model.as_deref().unwrap_or(&config.factory.model);
    let spec = batch_spec(&config, model, args.batch.as_deref(), SECURITY_LEVEL, now)?;
    let believed = Believed {
        release_keys: vec![anchors.release.clone()],
        tam_keys: vec![anchors.tam.clone()],
        tam_uri: Some(tam_url.clone()),
    };
    let adopted = adopt_devices(&spec, reports, &believed, &factory_key, UnixSecs(now))
        .map_err(|e| bad(&e))?;
    let signed = sign_manifest(&adopted.manifest, &factory_key).map_err(|e| bad(&e))?;
    let agent = anchors.agent_toml("tee = \"optee\"\n", &tam_url, &ca_url);
    let mut devices = Vec::with_capacity(adopted.records.len());
    for ((ueid, record), device) in adopted.records.iter().zip(&adopted.manifest.devices) {
        let dir = args.out.join("devices").join(ueid.to_string());
        files::make_dir(&dir)?;
        // A batch that broke off left other records there: the ones of the manifest replace them.
        files::replace(&dir.join("device.cose"), record, Readers::Everyone)?;
        files::replace(&dir.join("agent.toml"), agent.as_bytes(), Readers::Everyone)?;
        devices.push(Made {
            ueid: ueid.to_string(),
            serial: device.identity.serial.clone(),
            dir,
        });
    }
    files::write_new(&manifest_path, &signed, Readers::Everyone)?;
    let batch = Batch {
        batch: spec.batch,
        manifest: manifest_path,
        keks: None,
        devices,
    };
    tell(&batch, &args.common)
}

fn read(path: &Path) -> Outcome<VerifiedReport> {
    let max = u64::try_from(REPORT_LEN_BYTES_MAX).unwrap_or(u64::MAX);
    let bytes = files::read(path, max)?;
    verify_report(&AwsLc, &bytes).map_err(|e| {
        Fault::failed(
            "bad-report",
            format!("{} is not a report to believe: {e}", path.display()),
            "Take it on the device again: `tegata-agent report --out FILE`.",
        )
    })
}
