//! The host of one TA as an OP-TEE Trusted Application: entry points and the way to the core.
//!
//! OP-TEE starts an instance of this image for each session and gives it an address space of its
//! own. What it does is `tegata_tee::image::TaHost`, tested without OP-TEE.
//!
//! Trusted: nothing here holds a key of the device. Not trusted: the TA inside; if it takes this
//! instance over, the core answers it as that TA and as no other.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;

use optee_utee::prelude::*;
use optee_utee::{ErrorKind, ParamIndex, Result, TaSession, TaSessionBuilder, TeeParams, Uuid};
use tegata_optee_wall as wall;
use tegata_tee::gp::host::{HostError, HostReply, HostRequest};
use tegata_tee::image::{AttachReply, HostWorld, TaHost};
use tegata_wire::cbor;
use tegata_wire::ids::TaUuid;
use tegata_wire::rpc::{OPTEE_CMD_ATTACH, OPTEE_CMD_FETCH, OPTEE_CMD_HOST, OPTEE_TEE_UUID};
use zeroize::Zeroizing;

/// OP-TEE under this instance, and its session with the core.
struct World {
    core: Option<TaSession>,
}

// SAFETY: the handle is a number of this address space, in which OP-TEE runs one thread and one
// entry point at a time; there is no other thread to send it to.
#[allow(unsafe_code)]
unsafe impl Send for World {}

impl World {
    /// One command to the core. Too little room the first time costs a fetch, not a second run.
    fn exchange(
        &mut self,
        command: u32,
        input: &[u8],
        room: usize,
    ) -> core::result::Result<Zeroizing<Vec<u8>>, HostError> {
        let core = self.core.as_mut().ok_or(HostError::Communication)?;
        let mut command = Some(command);
        let mut room = room;
        while room <= ANSWER_LEN_BYTES_MAX {
            let mut answer = Zeroizing::new(alloc::vec![0; room]);
            let mut params = TeeParams::new().with_memref_out(ParamIndex::Arg1, &mut answer);
            if command.is_some() {
                params.set_memref_in(ParamIndex::Arg0, input);
            }
            let name = command.unwrap_or(OPTEE_CMD_FETCH);
            #[cfg(not(feature = "measure"))]
            let done = core.invoke_command(name, &mut params);
            #[cfg(feature = "measure")]
            let done = CORE_CLOCK.run(|| core.invoke_command(name, &mut params));
            match done {
                Ok(()) => {
                    let written = params[ParamIndex::Arg1].written_slice();
                    let len = written.map_or(0, <[u8]>::len);
                    drop(params);
                    answer.truncate(len);
                    return Ok(answer);
                }
                Err(error) if error.kind() == ErrorKind::ShortBuffer => {
                    command = None;
                    room = room.saturating_mul(8);
                }
                Err(_) => return Err(HostError::Communication),
            }
        }
        Err(HostError::OutOfMemory)
    }
}

impl HostWorld for World {
    fn attach(&mut self, ta: &TaUuid) -> core::result::Result<AttachReply, HostError> {
        let core = TaSessionBuilder::new(Uuid::from_bytes(OPTEE_TEE_UUID.0)).build();
        self.core = Some(core.map_err(|_| HostError::Communication)?);
        let ta = cbor::to_vec(ta).map_err(|_| HostError::Generic)?;
        let reply = self.exchange(OPTEE_CMD_ATTACH, &ta, MODULE_ROOM)?;
        cbor::from_slice(&reply).map_err(|_| HostError::Communication)
    }

    fn ask(&mut self, request: &HostRequest) -> core::result::Result<HostReply, HostError> {
        let bytes = cbor::to_vec(request).map_err(|_| HostError::Generic)?;
        let bytes = Zeroizing::new(bytes);
        let reply = self.exchange(OPTEE_CMD_HOST, &bytes, ANSWER_ROOM)?;
        cbor::from_slice(&reply).map_err(|_| HostError::Communication)
    }

    fn random(&mut self, out: &mut [u8]) -> core::result::Result<(), HostError> {
        wall::random(out);
        Ok(())
    }

    fn system_time_ms(&mut self) -> u64 {
        wall::system_time_ms()
    }

    fn ree_time_ms(&mut self) -> u64 {
        wall::ree_time_ms()
    }

    fn wait(&mut self, ms: u32) {
        wall::wait(ms);
    }

    fn cancelled(&mut self) -> bool {
        wall::cancelled()
    }

    fn log(&mut self, line: &str) {
        wall::log(line);
    }

    fn leave(&mut self) {
        self.core = None;
    }
}

#[cfg(feature = "measure")]
static CORE_CLOCK: wall::measure::Clock = wall::measure::Clock::new("core");

#[ta_create]
fn create() -> Result<()> {
    Ok(())
}

#[ta_open_session]
fn open_session(_params: &mut ParametersNone, session: &mut Option<TaHost<World>>) -> Result<()> {
    *session = Some(TaHost::new(wall::client()?, World { core: None }));
    Ok(())
}

#[ta_invoke_command]
fn invoke(
    session: &mut Option<TaHost<World>>,
    command: u32,
    params: &mut ParametersAny<'_>,
) -> Result<()> {
    wall::listen_for_cancellation();
    let host = session.as_mut().ok_or(ErrorKind::BadState)?;
    #[cfg_attr(feature = "measure", allow(unused_mut))] // Called here, or given away.
    let mut run = || wall::command(params, |read, room| host.command(command, read, room));
    #[cfg(not(feature = "measure"))]
    let done = run();
    #[cfg(feature = "measure")]
    let done = {
        let clocks = &[&CORE_CLOCK];
        wall::measure::command(command, &header::ta_heap, header::STACK, clocks, run)
    };
    done
}

#[ta_close_session]
fn close_session(session: &mut Option<TaHost<World>>) {
    if let Some(mut host) = session.take() {
        host.close();
    }
}

#[ta_destroy]
fn destroy() {}

/// Room for an answer of the core, tried first: most are small.
const ANSWER_ROOM: usize = 4 * 1024;
/// Room for a module, tried first.
const MODULE_ROOM: usize = 256 * 1024;
/// Most room for any answer: what fits into this image's heap beside the TA.
const ANSWER_LEN_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Properties and header of the image, made by build.rs.
mod header {
    #![allow(unsafe_code)] // Symbols that OP-TEE's loader reads.
    include!(concat!(env!("OUT_DIR"), "/user_ta_header.rs"));
    #[cfg(feature = "measure")]
    pub const STACK: usize = TA_STACK_SIZE as usize;
}
