//! The software TEE: `teed`, its workers and its identity helper, all of one program.
//!
//! Processes: `teed` owns the socket, the root key, the storage and the TEEP Agent; a worker
//! (`software::worker`) runs one instance of one TA; the identity helper hashes the programs of
//! clients; the position process reads the receiver. All are this same program started anew; every program that embeds
//! [`teed_main`] must call [`reexec`] first in its `main`.

pub mod blobs;
pub mod channel;
pub mod config;
pub mod device;
pub mod frames;
pub mod gnss;
pub mod identity;
pub mod launcher;
pub mod machine;
pub mod sandbox;
pub mod server;
mod start;
mod sys;
mod worker;

pub use start::teed_main;

use std::ffi::OsString;
use std::process::ExitCode;

/// Becomes a worker or the helper if this process was started as one; call it first in `main`.
///
/// `Some` is what `main` returns at once.
#[must_use]
pub fn reexec() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let marker = args.next()?;
    let rest: Vec<OsString> = args.collect();
    match marker.to_str()? {
        worker::MARKER => Some(worker::main(&rest)),
        identity::MARKER => Some(identity::main(&rest)),
        gnss::MARKER => Some(gnss::main(&rest)),
        _ => None,
    }
}
