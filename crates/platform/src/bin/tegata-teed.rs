//! The software TEE of a Tegata device; see `tegata_platform::software`.

use std::process::ExitCode;

use tegata_platform::software;

fn main() -> ExitCode {
    software::reexec().unwrap_or_else(|| software::teed_main(std::env::args_os()))
}
