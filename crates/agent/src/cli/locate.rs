//! `locate`: a statement of where the device is, signed in the TEE.

use std::path::PathBuf;

use anstream::println;
use clap::Args;
use serde_json::json;
use tegata_client::{Context, Login, Operation, Parameter};

use super::{Cli, CliError, named, print_json, write_out};
use crate::config::{Config, login};
use crate::enrol;

/// The location TA's command. docs/spec/statement.md
const LOCATE: u32 = 32;
/// Room for a statement, bytes: the longest there is.
const ROOM_LEN_BYTES: u32 = 16 * 1024;

#[derive(Debug, Args)]
pub(super) struct Locate {
    /// The location TA: a UUID, or a name from agent.toml.
    #[arg(long, value_name = "TA", default_value = "location")]
    ta: String,
    /// Name of the key, as it was enrolled with the location TA.
    #[arg(long, value_parser = enrol::label)]
    label: String,
    /// The verifier's nonce, hexadecimal, 8 to 64 bytes.
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    nonce: Nonce,
    /// Where the statement goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Whose key it is; default: `login` of agent.toml.
    #[arg(long, value_parser = login)]
    login: Option<Login>,
}

/// Bytes of the asker.
#[derive(Clone, Debug)]
struct Nonce(Vec<u8>);

fn nonce(text: &str) -> Result<Nonce, String> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.ok_or("not hexadecimal")?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() || !(8..=64).contains(&pairs.len()) {
        return Err("a nonce has 8 to 64 bytes, 16 to 128 digits".into());
    }
    Ok(Nonce(
        pairs.iter().map(|[high, low]| high << 4 | low).collect(),
    ))
}

pub(super) fn run(
    cli: &Cli,
    config: &Config,
    tee: &Context,
    args: &Locate,
) -> Result<(), CliError> {
    let ta = named(config, &args.ta)?;
    let login = args.login.unwrap_or(config.login);
    let session = tee.open_session(&ta, login, &mut Operation::empty())?;
    let mut operation = Operation::new([
        Parameter::memref_input(args.label.as_bytes()),
        Parameter::memref_input(&args.nonce.0),
        Parameter::memref_output(ROOM_LEN_BYTES),
        Parameter::None,
    ]);
    session.invoke(LOCATE, &mut operation)?;
    let statement = operation.memref(2);
    write_out(&args.out, statement)?;
    if cli.json {
        print_json(&json!({
            "event": "located", "label": args.label, "path": args.out, "bytes": statement.len(),
        }));
    } else {
        println!(
            "statement: {}, {} bytes",
            args.out.display(),
            statement.len()
        );
    }
    Ok(())
}
