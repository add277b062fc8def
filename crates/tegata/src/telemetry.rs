//! The log: one line per event on standard error, with reason codes, for people or for programs.
//!
//! No line carries a secret: messages are logged by size, code and public identifier alone.

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};
use crate::fault::{Fault, Outcome};

/// Starts the log of this process.
///
/// # Errors
/// The filter cannot be understood.
pub fn start(log: &Log) -> Outcome<()> {
    let filter = EnvFilter::try_new(&log.filter).map_err(|e| {
        Fault::usage(
            "bad-config",
            format!("the log filter `{}` cannot be understood: {e}", log.filter),
            "Write for example \"info\" or \"warn,tegata=debug\" as [log] filter.",
        )
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written, on a full disk, is lost: to complain of it on the same file would panic.
        .log_internal_errors(false)
        .with_target(false);
    // A second start in one process happens in tests only; the first log stays.
    let _ = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            use std::io::IsTerminal as _;
            builder
                .with_ansi(
                    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
                )
                .try_init()
        }
    };
    Ok(())
}
