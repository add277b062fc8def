//! Time, components of the TA's release, evidence, log.
#![allow(unsafe_code)] // Calls of imports with buffers of our own.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::error::Result;
use crate::sys;

/// The enrolment procedure of this TA's release.
pub const COMPONENT_PROCEDURE: u32 = 1;
/// The personalization data of this TA's release; secret.
pub const COMPONENT_CONFIG: u32 = 2;

/// A component of this TA's release.
///
/// # Errors
/// `TEE_ERROR_ITEM_NOT_FOUND` if the release has none.
pub fn component(kind: u32) -> Result<Zeroizing<Vec<u8>>> {
    // SAFETY: the buffer is as long as its size says.
    sys::sized(4096, |to, size| unsafe {
        sys::tegata_component(kind, to, size)
    })
    .map(Zeroizing::new)
}

/// EAT evidence of this TEE over `nonce` (8 to 64 bytes).
///
/// # Errors
/// `TEE_ERROR_NOT_SUPPORTED` if this TEE gives none to TAs.
pub fn evidence(nonce: &[u8]) -> Result<Vec<u8>> {
    // SAFETY: nonce and buffer live during the call.
    sys::sized(2048, |to, size| unsafe {
        sys::tegata_evidence(nonce.as_ptr(), sys::len(nonce), to, size)
    })
}

/// Seconds since 1970 as the REE says; it may lie.
#[must_use]
pub fn ree_time_secs() -> u64 {
    let mut time = [0u32; 2];
    // SAFETY: a TEE_Time is two words.
    unsafe { sys::TEE_GetREETime(time.as_mut_ptr()) };
    let [seconds, _] = time;
    u64::from(seconds)
}

/// A line for the TEE's log. No secrets.
pub fn log(line: &str) {
    // SAFETY: the text lives during the call.
    unsafe { sys::tegata_log(line.as_ptr(), sys::len(line.as_bytes())) };
}
