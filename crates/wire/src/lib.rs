//! Bytes that cross a trust boundary, and nothing else: pure codecs.
//!
//! Purpose: one place that turns bytes of a peer into typed messages and back. CBOR, COSE, SUIT,
//! TEEP, EAT, EAR, X.509, CMP, EST, OCSP, Tegata's own enrolment objects and the local client protocol.
//!
//! Invariants: `no_std`; no clock, no random numbers, no keys, no cryptography. Every decoder takes
//! any bytes, never panics, and checks its limits before it allocates. A decoded value is
//! *well-formed*; it is not *authentic* until a proof type of the crypto crate says so.
//!
//! Trusted: who changes this crate can make two parts disagree on what a message says.
#![no_std]
#![warn(missing_docs)]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod cbor;
pub mod cmp;
pub mod cose;
pub mod device;
pub mod enrolment;
pub mod est;
pub mod ids;
pub mod ocsp;
pub mod rats;
pub mod rpc;
pub mod suit;
pub mod teep;
pub mod x509;
