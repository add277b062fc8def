//! `tegata`: the server roles, the operator's commands and the demo.
//!
//! Trusted: this process holds the keys of the roles it runs. Everything that arrives over HTTP, in
//! a file from a factory or from a device is not trusted.

mod certificate;
mod cli;
mod config;
mod fault;
mod files;
mod http;
mod roles;
mod story;
mod supervise;
mod telemetry;
mod vault;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let _ = cli.command.json();
    ExitCode::SUCCESS
}
