//! What a TA author sees: the GlobalPlatform TEE Internal Core API in Rust, for Wasm.
//!
//! Purpose: safe wrappers with GP's names around the imports of a Tegata TEE, an allocator, a
//! panic handler that is `TEE_Panic`, and [`trusted_app!`], which makes the entry points.
//!
//! Invariants: handles are closed when dropped; a Rust panic ends the TA as GP says; `unsafe` is
//! only at the imports and exports ([`sys`], [`rt`]).
//!
//! On other targets than `wasm32` only constants and types exist, so that the workspace builds.
#![no_std]
extern crate alloc;

pub mod consts;
pub mod error;

#[cfg(target_arch = "wasm32")]
pub mod crypto;
#[cfg(target_arch = "wasm32")]
pub mod object;
#[cfg(target_arch = "wasm32")]
pub mod params;
#[cfg(target_arch = "wasm32")]
pub mod property;
#[cfg(target_arch = "wasm32")]
pub mod rt;
#[cfg(target_arch = "wasm32")]
pub mod sys;
#[cfg(target_arch = "wasm32")]
pub mod system;

pub use error::{Error, Result};

/// GP's `TEE_Identity`: who opened the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `TEE_LOGIN_*`.
    pub login: u32,
    /// UUID in network byte order.
    pub uuid: [u8; 16],
}

impl Identity {
    /// login (4 bytes, big-endian) ‖ UUID: a form to store and compare.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 20] {
        let mut out = [0; 20];
        for (to, from) in out
            .iter_mut()
            .zip(self.login.to_be_bytes().iter().chain(&self.uuid))
        {
            *to = *from;
        }
        out
    }
}
