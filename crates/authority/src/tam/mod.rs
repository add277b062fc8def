//! The TAM's decisions: what is registered, who is trusted, who gets what.
//!
//! Invariants: nothing is sent but to a device that was just appraised as trustworthy ([`session::
//! Appraised`], consumed by the message it allows); nothing a device says is recorded before its
//! signature verifies.
//!
//! Trusted: who changes this module can withhold TAs or send releases to devices they are not meant
//! for; in asymmetric delivery they learn no secret, and they can forge no release.

pub mod availability;
pub mod challenge;
pub mod notice;
pub mod package;
pub mod plan;
pub mod session;
#[cfg(test)]
mod tests;
pub mod update;
