//! The Internal Client API: a TA as the client of another.
//!
//! Spec: TEE Internal Core API 1.3.1 section 4.9. The callee sees `TEE_LOGIN_TRUSTED_APP` and the
//! caller's UUID. A call that would come back to a running instance finds it busy: no cycles.

use super::consts::*;
use super::fail::{Fail, Res, code};
use super::host::{HostError, TaReply};
use super::params::ParamsOut;
use super::state::Ctx;

fn cancelled(c: &mut Ctx<'_>) -> bool {
    !c.st.cancellation_masked && c.st.poll().cancel
}

fn finish(
    c: &mut Ctx<'_>,
    types: u32,
    params: u32,
    origin: u32,
    reply: Result<TaReply, HostError>,
) -> Res<TaReply> {
    let reply = reply.unwrap_or_else(|error| TaReply {
        code: error.code(),
        origin: TEE_ORIGIN_TEE,
        session: 0,
        params: ParamsOut::default(),
    });
    if origin != 0 {
        c.mem.put_u32(origin, reply.origin)?;
    }
    if params != 0 {
        c.mem.put_params(types, params, &reply.params)?;
    }
    Ok(reply)
}

/// `TEE_OpenTASession`.
pub fn open_ta_session(
    c: &mut Ctx<'_>,
    destination: u32,
    timeout_ms: u32,
    types: u32,
    params: u32,
    session: u32,
    origin: u32,
) -> Res {
    c.mem.put_u32(session, TEE_HANDLE_NULL)?;
    let uuid = c.mem.uuid(destination)?;
    let given = c.mem.params(types, params)?;
    if cancelled(c) {
        if origin != 0 {
            c.mem.put_u32(origin, TEE_ORIGIN_API)?;
        }
        return code(TEE_ERROR_CANCEL);
    }
    let answer = c.st.services.ta_open(uuid, timeout_ms, given);
    let reply = finish(c, types, params, origin, answer)?;
    if reply.code != TEE_SUCCESS {
        return code(reply.code);
    }
    match c.st.ta_sessions.insert(reply.session) {
        Ok(handle) => c.mem.put_u32(session, handle),
        Err(fail) => {
            c.st.services.ta_close(reply.session);
            Err(fail)
        }
    }
}

/// `TEE_InvokeTACommand`.
pub fn invoke_ta_command(
    c: &mut Ctx<'_>,
    session: u32,
    timeout_ms: u32,
    command: u32,
    types: u32,
    params: u32,
    origin: u32,
) -> Res {
    let number = *c.st.ta_sessions.get(session)?;
    let given = c.mem.params(types, params)?;
    if cancelled(c) {
        if origin != 0 {
            c.mem.put_u32(origin, TEE_ORIGIN_API)?;
        }
        return code(TEE_ERROR_CANCEL);
    }
    let answer = c.st.services.ta_invoke(number, timeout_ms, command, given);
    let reply = finish(c, types, params, origin, answer)?;
    if reply.code == TEE_SUCCESS {
        Ok(())
    } else {
        Err(Fail::Code(reply.code))
    }
}

/// `TEE_CloseTASession`.
pub fn close_ta_session(c: &mut Ctx<'_>, session: u32) -> Res {
    if session == TEE_HANDLE_NULL {
        return Ok(());
    }
    let number = c.st.ta_sessions.remove(session)?;
    c.st.services.ta_close(number);
    Ok(())
}
