//! The GlobalPlatform TEE Internal Core API (a subset of 1.3.1), as the host offers it to a TA.
//!
//! Purpose: everything a TA can reach. Names, values and semantics are the standard's: sizes are
//! always written back with `TEE_ERROR_SHORT_BUFFER`, protected attributes need
//! `TEE_USAGE_EXTRACTABLE`, usage bits bind operations, and programmer errors panic the TA.
//!
//! Invariants: the TA's memory is touched only through bounds-checked accessors; keys live in the
//! host and are wiped; no call makes the host panic, block without limit or allocate without one.
//!
//! Deliberately absent: RSA, DES, SM2/3/4, the Arithmetical API, sockets and user interface.
//!
//! Not trusted: the TA. It may hurt itself only.

pub mod consts;
pub mod host;
pub mod imports;
pub mod mem;
pub mod params;
pub mod property;
pub mod state;

mod asymmetric;
mod client_api;
mod extension;
pub(crate) mod fail;
mod handles;
mod keys;
mod object;
mod operation;
mod persistent;
mod symmetric;
mod time;

#[cfg(test)]
mod tests;
