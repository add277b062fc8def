//! `tegata device add`: a device with a PSA Root of Trust enters the CA's registry, by the operator's word.

use tegata_authority::UnixSecs;
use tegata_authority::registry::{NewPsaDevice, PsaDevice};
use tegata_store::role::RoleError;

use crate::cli::{DeviceAdd, Role, show};
use crate::commands::import::{role_fault, role_store};
use crate::config;
use crate::fault::{Fault, Outcome};
use crate::stores::now_secs;
use crate::trust;

/// Runs the command.
///
/// # Errors
/// What of the device cannot be, the configuration or the store.
pub fn run(args: &DeviceAdd) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    if !args.psa_iak.exists() {
        return Err(Fault::usage(
            "file-missing",
            format!("there is no file {}", args.psa_iak.display()),
            "Give the public half of the Initial Attestation Key as PEM.",
        ));
    }
    let instance_id = args.instance_id.as_deref();
    let instance_id = instance_id
        .map(|text| hexadecimal::<33>(text, "--instance-id"))
        .transpose()?;
    let new = NewPsaDevice {
        iak: trust::read(&args.psa_iak)?,
        instance_id: instance_id.map(Vec::from),
        implementation_id: hexadecimal(&args.implementation_id, "--implementation-id")?,
        model: args.model.clone(),
        serial: args.serial.clone(),
        batch: args.batch.clone(),
    };
    let role = role_store(&config, Role::Ca)?;
    let refused = |e: RoleError| match e {
        RoleError::Registry(_) => Fault::usage(
            e.code(),
            format!("the device cannot be registered: {e}"),
            "Correct it; nothing was changed.",
        ),
        e => role_fault(&e),
    };
    let device = PsaDevice::new(role.provider.as_ref(), new).map_err(|e| refused(e.into()))?;
    let again = role
        .add_psa_device(&device, UnixSecs(now_secs()))
        .map_err(refused)?;
    if args.common.json {
        return show::json(&serde_json::json!({
            "ueid": device.ueid().to_string(), "model": device.model(), "serial": device.serial(),
            "batch": device.batch(), "implementation_id": hex::encode(device.implementation_id()),
            "again": again,
        }));
    }
    let again = if again { ", as before" } else { "" };
    show::lines([format!(
        "registered {} {} as {}{again}",
        show::visible(device.model()),
        show::visible(device.serial()),
        device.ueid()
    )]);
    Ok(())
}

/// So many bytes in hexadecimal.
fn hexadecimal<const N: usize>(text: &str, what: &str) -> Outcome<[u8; N]> {
    let bytes = hex::decode(text).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            Fault::usage(
                "bad-hex",
                format!("{what} is not {} hexadecimal digits", 2 * N),
                "Take it from the device's maker, or from a token of the device.",
            )
        })
}
