//! The TEE runtime: TEEP Agent, SUIT processor, TA store, secure storage, Wasm host, attestation.
//!
//! One core for every backend: `no_std` and `alloc`, no clock, no socket, no disk. All of that is
//! behind [`platform::Platform`]. Whoever holds a [`Tee`] holds one device's secure world.
//!
//! Trusted: who changes this crate can read every TA and key of the device it runs on, and of no
//! other device. Not trusted: everything that arrives as bytes (TEEP messages, manifests,
//! payloads, stored blobs) until the check named at each step has passed.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "testing"))]
extern crate std;

pub mod anchors;
pub mod attest;
pub mod gp;
pub mod image;
pub mod platform;
pub mod position;
pub mod session;
pub mod storage;
pub mod suit;
pub mod ta_store;
mod tee;
pub mod teep;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wasm;

pub use anchors::TrustAnchors;
pub use tee::{DeviceKeys, Tee, TeeError};
