//! `report` and `provision`: what a device with a hardware TEE needs once, at its factory.

use std::path::PathBuf;

use anstream::println;
use clap::Args;
use serde_json::json;
use tegata_client::Context;
use tegata_wire::device::RECORD_LEN_BYTES_MAX;

use super::{Cli, CliError, print_json, read_in, write_out};

#[derive(Debug, Args)]
pub(super) struct Report {
    /// Where the report goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Provision {
    /// The device record (`device.cose`) that the factory station wrote for this device.
    #[arg(long, value_name = "FILE")]
    record: PathBuf,
}

pub(super) fn report(cli: &Cli, tee: &Context, args: &Report) -> Result<(), CliError> {
    let report = tee.device_report()?;
    write_out(&args.out, &report)?;
    if cli.json {
        print_json(&json!({ "event": "reported", "path": args.out, "bytes": report.len() }));
    } else {
        println!("report: {} ({} bytes)", args.out.display(), report.len());
        println!(
            "next: tegata factory adopt --report {} --out DIR",
            args.out.display()
        );
    }
    Ok(())
}

pub(super) fn provision(cli: &Cli, tee: &Context, args: &Provision) -> Result<(), CliError> {
    let max = u64::try_from(RECORD_LEN_BYTES_MAX).unwrap_or(u64::MAX);
    let record = read_in(&args.record, max)?;
    tee.provision(&record)?;
    let info = tee.info()?;
    if cli.json {
        print_json(&json!({
            "event": "provisioned", "ueid": info.ueid, "serial": info.serial,
            "model": info.hwmodel,
        }));
    } else {
        println!(
            "this is device {} (serial {}, {})",
            info.ueid, info.serial, info.hwmodel
        );
    }
    Ok(())
}
