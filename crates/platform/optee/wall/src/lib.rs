//! The wall between Tegata's OP-TEE images and OP-TEE: all that both of them say to it.
//!
//! Purpose: who opened a session, the parameters of a command as bytes, time, random numbers,
//! cancellation and the log, over the maintained binding. What an image does with them is in
//! `tegata_tee::image`, where it is tested without OP-TEE.
//!
//! Invariants: input is copied out of shared memory once, after its length was judged, and only
//! the copy is looked at; nothing here panics on what a client sends.
//!
//! Trusted: OP-TEE. Not trusted: lengths and contents of every parameter.
#![no_std]

extern crate alloc;

#[cfg(feature = "measure")]
pub mod measure;

use alloc::string::ToString;
use alloc::vec::Vec;
use core::str::FromStr;

use optee_utee::property::{self, PropertyKey};
use optee_utee::{
    ErrorKind, ParameterAny, ParameterMemref, ParameterMemrefRead, ParameterMemrefWrite,
    ParametersAny, Random, Time, raw, trace_println,
};
use tegata_tee::image::Failure;
use tegata_tee::session::ClientIdentity;
use tegata_wire::ids::TaUuid;
use zeroize::Zeroizing;

/// Who opened the session whose entry point runs now, as OP-TEE and the kernel say.
///
/// # Errors
/// OP-TEE's error if it does not say.
pub fn client() -> optee_utee::Result<ClientIdentity> {
    let identity = property::ClientIdentity.get()?;
    let uuid = TaUuid::from_str(&identity.uuid().to_string()).map_err(|_| ErrorKind::BadFormat)?;
    Ok(ClientIdentity {
        login: identity.login_type().into(),
        uuid: uuid.0,
    })
}

/// Runs one command: parameter 0 is its input (or none), parameter 1 the room for its answer.
///
/// `run` gets a function that copies the input if it is at most so long, and the room in bytes.
///
/// # Errors
/// What `run` reports; then parameter 1 says how much room is needed, if that is the reason.
pub fn command(
    params: &mut ParametersAny<'_>,
    run: impl FnOnce(
        &mut dyn FnMut(usize) -> Result<Zeroizing<Vec<u8>>, Failure>,
        usize,
    ) -> Result<Zeroizing<Vec<u8>>, Failure>,
) -> optee_utee::Result<()> {
    let (input, output, third, fourth) = params;
    third.as_none()?;
    fourth.as_none()?;
    let output = output.as_memref_output()?;
    let input = match input {
        ParameterAny::None => None,
        ParameterAny::MemrefInput(input) => Some(input),
        _ => return Err(ErrorKind::BadParameters.into()),
    };
    let mut read = |max: usize| {
        let input = input
            .as_ref()
            .ok_or(Failure::of(raw::TEE_ERROR_BAD_PARAMETERS))?;
        if input.buffer_len() > max {
            return Err(Failure::of(raw::TEE_ERROR_EXCESS_DATA));
        }
        Ok(Zeroizing::new(input.read_to_vec()))
    };
    match run(&mut read, output.buffer_len()) {
        Ok(answer) => output.set_output(answer.as_slice()),
        Err(failure) => {
            match failure.needed {
                Some(needed) => needs(output, needed),
                None => output.set_updated_size(0)?,
            }
            Err(optee_utee::Error::from_raw_error(failure.code))
        }
    }
}

/// Tells the client how much room its answer needs, which is more than there is.
#[allow(unsafe_code)]
fn needs(output: &mut impl ParameterMemrefWrite, needed: usize) {
    // SAFETY: the size goes to the client alone, with TEE_ERROR_SHORT_BUFFER, as GP wants it;
    // nothing is read or written by it on this side.
    unsafe { output.set_updated_size_unchecked(needed) };
}

/// Fills `out` with random bytes; OP-TEE ends the TA rather than to give weak ones.
pub fn random(out: &mut [u8]) {
    Random::generate(out);
}

/// Milliseconds since some point before this boot; never goes back.
#[must_use]
pub fn system_time_ms() -> u64 {
    let mut time = Time::new();
    time.system_time();
    millis(&time)
}

/// Milliseconds since 1970 as the REE says; it may lie.
#[must_use]
pub fn ree_time_ms() -> u64 {
    let mut time = Time::new();
    time.ree_time();
    millis(&time)
}

fn millis(time: &Time) -> u64 {
    u64::from(time.seconds)
        .saturating_mul(1000)
        .saturating_add(u64::from(time.millis))
}

/// Waits about `ms` milliseconds, or until the client cancels.
pub fn wait(ms: u32) {
    // Cancelled: whoever waits looks for that itself.
    let _ = Time::wait(ms);
}

/// Lets cancellation of the call that runs now be seen.
#[allow(unsafe_code)]
pub fn listen_for_cancellation() {
    // SAFETY: no arguments, no memory; allowed from any entry point.
    let _ = unsafe { raw::TEE_UnmaskCancellation() };
}

/// Whether the client asked for cancellation of the call that runs now.
#[allow(unsafe_code)]
#[must_use]
pub fn cancelled() -> bool {
    // SAFETY: no arguments, no memory; allowed from any entry point.
    unsafe { raw::TEE_GetCancellationFlag() }
}

/// One line for the console of the secure world.
pub fn log(line: &str) {
    trace_println!("tegata: {}", line);
}

/// What the crates below ask Linux about the processor. OP-TEE does not say: no extensions, so the
/// portable code runs, which is right on every core.
#[allow(unsafe_code)]
mod linux {
    // SAFETY: the name and the type are those of Linux's C library, which is not linked here.
    #[unsafe(no_mangle)]
    extern "C" fn getauxval(_: core::ffi::c_ulong) -> core::ffi::c_ulong {
        0
    }
}
