//! The core of a device as an OP-TEE Trusted Application: entry points and nothing else.
//!
//! OP-TEE runs one instance of this image for the whole device and one entry point of it at a
//! time. What the entry points do is `tegata_tee::image::TeeImage`, tested without OP-TEE.
//!
//! Trusted: holds every key and TA of the device. Not trusted: whoever opens a session; clients
//! and hosts of TAs are told apart by what OP-TEE says of them.
#![no_std]
#![no_main]

extern crate alloc;

mod machine;
mod recent;

use alloc::vec::Vec;

use optee_utee::prelude::*;
use optee_utee::{Error, ErrorKind, Result};
use tegata_crypto::PublicKey;
use tegata_optee_wall as wall;
use tegata_tee::image::{Link, TeeImage};

use machine::Machine;

/// The factory whose records this image believes.
const FACTORY_KEY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/factory.key"));

/// The core. OP-TEE lets one entry point in at a time: the lock is never waited for.
static CORE: spin::Mutex<Option<TeeImage<Machine>>> = spin::Mutex::new(None);

fn failed(reason: &str) -> Error {
    wall::log(reason);
    ErrorKind::Generic.into()
}

/// Makes the core.
fn start() -> Result<TeeImage<Machine>> {
    let key = PublicKey::from_cose_key(FACTORY_KEY)
        .map_err(|_| failed("the factory key in this image is no key"))?;
    let machine = Machine::new().map_err(|error| failed(&alloc::format!("no machine: {error}")))?;
    let core = TeeImage::new(machine, Vec::from([key]), wall::log)
        .map_err(|_| failed("the core cannot start"))?;
    machine::command_ended();
    Ok(core)
}

#[ta_create]
fn create() -> Result<()> {
    Ok(())
}

#[ta_open_session]
fn open_session(_params: &mut ParametersNone, session: &mut Option<Link>) -> Result<()> {
    // Here and not at creation: an instance that stays is created once, and what its start needs
    // from the REE may be there only when the next session is opened.
    let mut core = CORE.lock();
    if core.is_none() {
        *core = Some(start()?);
    }
    let link = Link::of(&wall::client()?).ok_or(ErrorKind::AccessDenied)?;
    *session = Some(link);
    Ok(())
}

#[ta_invoke_command]
fn invoke(session: &mut Option<Link>, command: u32, params: &mut ParametersAny<'_>) -> Result<()> {
    let link = session.as_mut().ok_or(ErrorKind::BadState)?;
    let mut core = CORE.lock();
    let core = core.as_mut().ok_or(ErrorKind::BadState)?;
    #[cfg_attr(feature = "measure", allow(unused_mut))] // Called here, or given away.
    let mut run = || wall::command(params, |read, room| core.command(link, command, read, room));
    #[cfg(not(feature = "measure"))]
    let done = run();
    #[cfg(feature = "measure")]
    let done = {
        let clocks = &machine::CLOCKS;
        wall::measure::command(command, &header::ta_heap, header::STACK, clocks, run)
    };
    machine::command_ended();
    done
}

#[ta_close_session]
fn close_session(session: &mut Option<Link>) {
    // What a host held is given back with it.
    *session = None;
}

#[ta_destroy]
fn destroy() {
    *CORE.lock() = None;
}

/// Properties and header of the image, made by build.rs.
mod header {
    #![allow(unsafe_code)] // Symbols that OP-TEE's loader reads.
    include!(concat!(env!("OUT_DIR"), "/user_ta_header.rs"));
    #[cfg(feature = "measure")]
    pub const STACK: usize = TA_STACK_SIZE as usize;
}
