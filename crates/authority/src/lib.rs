//! Decisions of the CA, the TAM and the Verifier: pure functions over values.
//!
//! Purpose: everything the servers promise is decided here and nowhere else. A decision takes what
//! is known (a view of the state), what was asked, and `now`; it gives a proof, an event to record,
//! or a denial with its reason.
//!
//! Invariants: no clock, no disk, no socket, no random numbers but those handed in. A check that
//! matters returns a proof type with private fields that the next step consumes. Unauthenticated
//! input changes no state.
//!
//! Trusted: who changes this crate decides what is issued, delivered and believed.
#![warn(missing_docs)]

pub mod ca;
pub mod config;
pub mod factory;
pub mod profile;
mod proofs;
pub mod registry;
pub mod statement;
mod suit_names;
pub mod tam;
mod time;
pub mod verifier;

pub use time::{UnixMs, UnixSecs};
