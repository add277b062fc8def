//! The TEEP Broker of a device and the driver of its enrolments.
//!
//! Purpose: carries bytes between the TEE, the TAM and the CA, and knows when. TEEP over HTTP
//! (draft-ietf-teep-otrp-over-http), CMP over HTTP (RFC 9811), a local socket for applications
//! that have no network of their own, and [`enrol`], which drives an enrolment to its end.
//!
//! Invariants: no redirect is followed; no body is read beyond its limit; everything is safe to
//! repeat, and is repeated with growing pauses where that can help.
//!
//! Not trusted: this is the REE side. It sees ciphertext, signed and MACed messages and public
//! certificates. Whoever owns it can deny service and nothing else.
#![warn(missing_docs)]

pub mod carrier;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod enrol;
pub mod http;
pub mod keys;
pub mod renew;
pub mod retry;
pub mod socket;
pub mod starting;
pub mod teep;

pub use cli::agent_main;
