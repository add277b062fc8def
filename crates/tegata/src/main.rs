//! `tegata`: the server roles, the operator's commands and the demo.
//!
//! Trusted: this process holds the keys of the roles it runs. Everything that arrives over HTTP, in
//! a file from a factory or from a device is not trusted.

#[cfg(feature = "bench")]
mod bench;
mod certificate;
mod cli;
mod commands;
mod config;
#[cfg(feature = "demo")]
mod demo;
mod ends;
mod fault;
mod files;
// Server packages build without the demo, which alone uses some of these.
#[cfg_attr(not(all(feature = "demo", feature = "bench")), allow(dead_code))]
mod http;
#[cfg(any(feature = "demo", feature = "bench"))]
mod interrupt;
mod roles;
#[cfg_attr(not(all(feature = "demo", feature = "bench")), allow(dead_code))]
mod serve;
mod stores;
#[cfg_attr(
    not(all(feature = "demo", feature = "bench")),
    allow(dead_code, unused_imports)
)]
mod story;
#[cfg_attr(not(all(feature = "demo", feature = "bench")), allow(dead_code))]
mod supervise;
mod sweep;
mod telemetry;
mod trust;
mod vault;
mod verdict;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command, Device, FactoryCommand, Ta};
use fault::{Fault, Outcome};

fn main() -> ExitCode {
    end_at_panic();
    // A sandboxed worker of the TEE process is this same file started again: it must do nothing
    // else, not even parse the command line.
    #[cfg(feature = "demo")]
    if let Some(code) = tegata_platform::software::reexec() {
        return code;
    }
    vault::no_core_dumps();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error),
    };
    let json = cli.command.json();
    let done = run(cli.command).and_then(|code| cli::show::written().map(|()| code));
    #[cfg(any(feature = "demo", feature = "bench"))]
    interrupt::end_if_told();
    match done {
        Ok(code) => code,
        Err(fault) => {
            fault::report(&fault, json);
            ExitCode::from(fault.exit)
        }
    }
}

/// A wrong command line, told in the form that it asks for; or the help that it asks for.
fn misunderstood(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|arg| arg == "--json");
    if !json || !error.use_stderr() {
        error.exit();
    }
    let text = error.to_string();
    let (what, usage) = text.split_once("\n\n").unwrap_or((&text, ""));
    let words: Vec<&str> = what
        .trim_start_matches("error: ")
        .split_whitespace()
        .collect();
    let fault = Fault::usage(
        "usage",
        words.join(" "),
        "Ask for the command's `--help`; it ends in examples.",
    )
    .with_excerpt(usage.trim_end().to_owned());
    fault::report(&fault, true);
    ExitCode::from(fault.exit)
}

/// A panic is a fault of this program, and ends it: what the thread held is in nobody's hands, and
/// no other thread may go on with it. Whoever supervises the process starts it anew.
fn end_at_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        std::process::abort();
    }));
}

fn run(command: Command) -> Outcome<ExitCode> {
    match command {
        Command::Init(args) => commands::init::run(&args)?,
        Command::Serve(args) => serve::run(&args)?,
        Command::Ta(Ta::Release(args)) => commands::ta::release(&args)?,
        Command::Ta(Ta::List(common)) => commands::ta::list(&common)?,
        Command::Ta(Ta::Publish(args)) => commands::ta::publish(&args)?,
        Command::Ta(Ta::Withdraw(args)) => commands::ta::withdraw(&args)?,
        Command::Factory(FactoryCommand::Make(args)) => commands::factory::run(&args)?,
        Command::Factory(FactoryCommand::Adopt(args)) => commands::factory::adopt::run(&args)?,
        Command::Factory(FactoryCommand::Import(args)) | Command::Device(Device::Import(args)) => {
            commands::import::run(&args)?;
        }
        #[cfg(feature = "demo")]
        Command::Device(Device::Enrol(args)) => commands::enrol::run(&args)?,
        Command::Device(Device::List(common)) => commands::device::list(&common)?,
        Command::Device(Device::Show(args)) => commands::device::show_one(&args)?,
        Command::Device(Device::Forget(args)) => commands::device::forget(&args)?,
        Command::Device(Device::Add(args)) => commands::device_add::run(&args)?,
        Command::Ca(command) => commands::ca::run(&command)?,
        Command::Verify(args) => return commands::verify::run(&args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => return Ok(demo::run(&args)),
        #[cfg(feature = "bench")]
        Command::Bench(args) => bench::run(&args)?,
        #[cfg(feature = "bench")]
        Command::BenchNothing(args) => bench::nothing::run(&args)?,
        #[cfg(feature = "demo")]
        Command::Teed(passed) => return demo::device::teed(passed.args),
        #[cfg(feature = "demo")]
        Command::Agent(passed) => return demo::device::agent(passed.args),
    }
    Ok(ExitCode::SUCCESS)
}
