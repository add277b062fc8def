//! `sign`, `certificate` and `list`: what an application does with the keys that it enrolled.

use std::path::PathBuf;

use anstream::{print, println};
use clap::Args;
use serde_json::json;
use tegata_client::keys::{KeyEntry, Keys};
use tegata_client::{Context, Login};

use super::{Cli, CliError, print_json, read_in, which_ta, write_out};
use crate::config::{Config, login};
use crate::enrol;
use crate::keys::{self, KeysError};

/// Whose keys, and in which TA.
#[derive(Debug, Args)]
pub(super) struct Caller {
    /// The enrolment TA: a UUID, or a name from agent.toml. Default: `enrol_ta`, or the only TA.
    #[arg(long, value_name = "TA")]
    ta: Option<String>,
    /// Whose key it is: `user`, `group`, `group:GID`, `application`, `user-application`,
    /// `group-application` or `public`. Default: `login` of agent.toml.
    #[arg(long, value_parser = login)]
    login: Option<Login>,
}

#[derive(Debug, Args)]
pub(super) struct Sign {
    /// Name of the key, as it was enrolled.
    #[arg(long, value_parser = enrol::label)]
    label: String,
    /// The file to sign, at most 256 MiB; with an Ed25519 key at most 256 KiB.
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// Where the signature goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    caller: Caller,
}

#[derive(Debug, Args)]
pub(super) struct Certificate {
    /// Name of key and certificate, as they were enrolled.
    #[arg(long, value_parser = enrol::label)]
    label: String,
    /// Write certificate and chain (PEM) there instead of to the standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    caller: Caller,
}

fn open(config: &Config, tee: &Context, caller: &Caller) -> Result<Keys, CliError> {
    let ta = which_ta(config, tee, caller.ta.as_ref())?;
    let login = caller.login.unwrap_or(config.login);
    Ok(Keys::new(tee.clone(), Some(ta), login, 1))
}

pub(super) fn sign(cli: &Cli, config: &Config, tee: &Context, args: &Sign) -> Result<(), CliError> {
    let content = read_in(&args.input, INPUT_LEN_BYTES_MAX)?;
    let caller = open(config, tee, &args.caller)?;
    let signature = keys::sign(&caller, &args.label, &content)?;
    write_out(&args.out, &signature.bytes)?;
    if cli.json {
        print_json(&json!({
            "event": "signed", "label": args.label, "algorithm": signature.algorithm,
            "path": args.out, "bytes": signature.bytes.len(),
        }));
    } else {
        println!("{}: {}", signature.algorithm, args.out.display());
    }
    Ok(())
}

pub(super) fn certificate(
    cli: &Cli,
    config: &Config,
    tee: &Context,
    args: &Certificate,
) -> Result<(), CliError> {
    let caller = open(config, tee, &args.caller)?;
    let pem = keys::certificate(&caller, &args.label)?;
    if let Some(path) = &args.out {
        write_out(path, pem.as_bytes())?;
    }
    if cli.json {
        print_json(&json!({ "event": "certificate", "label": args.label, "certificate": pem }));
    } else if let Some(path) = &args.out {
        println!("certificate and chain: {}", path.display());
    } else {
        print!("{pem}");
    }
    Ok(())
}

pub(super) fn list(
    cli: &Cli,
    config: &Config,
    tee: &Context,
    args: &Caller,
) -> Result<(), CliError> {
    let entries = open(config, tee, args)?.list();
    let entries = entries.map_err(KeysError::from)?;
    for KeyEntry { label, state } in &entries {
        if cli.json {
            print_json(&json!({ "event": "key", "label": label, "state": state.name() }));
        } else {
            println!("{label:<24} {}", state.name());
        }
    }
    if entries.is_empty() && !cli.json {
        println!("this caller has no keys");
    }
    Ok(())
}

/// Longest file to sign, in bytes: it is read into memory.
const INPUT_LEN_BYTES_MAX: u64 = 256 << 20;
