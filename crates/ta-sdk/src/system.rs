//! Time, components of the TA's release, evidence, log.
#![allow(unsafe_code)] // Calls of imports with buffers of our own.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::error::{Result, check};
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

/// A position by the TEE's own receiver, on WGS 84, in whole numbers: a TA has no floating point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Latitude in 10^-7 degrees, north positive.
    pub latitude_e7: i32,
    /// Longitude in 10^-7 degrees, east positive.
    pub longitude_e7: i32,
    /// Height above the ellipsoid in millimetres.
    pub altitude_mm: Option<i32>,
    /// Radius in millimetres that holds the receiver with 95 % confidence, as it reckons.
    pub accuracy_mm: Option<u32>,
    /// The same for the height.
    pub altitude_accuracy_mm: Option<u32>,
    /// Course over ground in 10^-3 degrees from true north.
    pub heading_mdeg: Option<u32>,
    /// Speed over ground in millimetres a second.
    pub speed_mm_s: Option<u32>,
    /// Time of the fix by the satellites, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// How long ago the fix came, in milliseconds of the TEE's own clock.
    pub age_ms: u32,
}

/// Where the device is, by a receiver that belongs to the TEE.
///
/// # Errors
/// `TEE_ERROR_NOT_SUPPORTED` if it has none, `TEE_ERROR_NO_DATA` without a fix.
pub fn position() -> Result<Position> {
    let mut words = [0u32; 11];
    // SAFETY: the record is eleven words.
    crate::error::check(unsafe { sys::tegata_position(words.as_mut_ptr()) })?;
    let [
        set,
        latitude,
        longitude,
        altitude,
        accuracy,
        altitude_accuracy,
        heading,
        speed,
        low,
        high,
        age_ms,
    ] = words;
    let optional = |bit: u32, value: u32| (set & (1 << bit) != 0).then_some(value);
    Ok(Position {
        latitude_e7: latitude.cast_signed(),
        longitude_e7: longitude.cast_signed(),
        altitude_mm: optional(0, altitude).map(u32::cast_signed),
        accuracy_mm: optional(1, accuracy),
        altitude_accuracy_mm: optional(2, altitude_accuracy),
        heading_mdeg: optional(3, heading),
        speed_mm_s: optional(4, speed),
        time_ms: u64::from(low) | u64::from(high) << 32,
        age_ms,
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

/// Milliseconds on the TEE's own clock, from an arbitrary moment.
#[must_use]
pub fn time_ms() -> u64 {
    let mut time = [0u32; 2];
    // SAFETY: a TEE_Time is two words.
    unsafe { sys::TEE_GetSystemTime(time.as_mut_ptr()) };
    let [seconds, millis] = time;
    u64::from(seconds) * 1000 + u64::from(millis)
}

/// Waits. A client that cancels its call ends the wait.
///
/// # Errors
/// `TEE_ERROR_CANCEL`.
pub fn wait(ms: u32) -> Result<()> {
    // SAFETY: numbers only.
    unsafe {
        let masked = sys::TEE_UnmaskCancellation();
        let waited = check(sys::TEE_Wait(ms));
        if masked != 0 {
            sys::TEE_MaskCancellation();
        }
        waited
    }
}

/// A line for the TEE's log. No secrets.
pub fn log(line: &str) {
    // SAFETY: the text lives during the call.
    unsafe { sys::tegata_log(line.as_ptr(), sys::len(line.as_bytes())) };
}
