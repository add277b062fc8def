//! `tegata`: the server roles, the operator's commands and the demo.
//!
//! Trusted: this process holds the keys of the roles it runs. Everything that arrives over HTTP, in
//! a file from a factory or from a device is not trusted.

mod cli;
mod config;
mod fault;
mod http;
mod story;
mod supervise;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let _ = cli.command.json();
    ExitCode::SUCCESS
}
