//! The agent of a Tegata device; see `tegata_agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tegata_agent::agent_main(std::env::args_os())
}
