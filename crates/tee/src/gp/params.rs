//! The four parameters of a GP call, as values: what goes into an entry point and what comes out.
//!
//! The types are those of the local protocol ([`tegata_wire::rpc`]), for a client's parameters and
//! a TA's are the same thing. Invariants: exactly four; the sum of all memory references is limited
//! before anything is copied; nothing here points anywhere. A client's memory is copied in and out
//! once, so a client that changes it meanwhile changes nothing.

use zeroize::Zeroize;

use super::consts::*;

pub use tegata_wire::rpc::{PARAMS_LEN_BYTES_MAX, Param, ParamOut, within_limits};

/// Four parameters in.
pub type Params = [Param; 4];
/// Four parameters out.
pub type ParamsOut = [ParamOut; 4];

/// The parameter's `TEE_PARAM_TYPE_*`.
#[must_use]
pub const fn kind(param: &Param) -> u32 {
    match param {
        Param::ValueInput { .. } => TEE_PARAM_TYPE_VALUE_INPUT,
        Param::ValueOutput => TEE_PARAM_TYPE_VALUE_OUTPUT,
        Param::ValueInout { .. } => TEE_PARAM_TYPE_VALUE_INOUT,
        Param::MemrefInput { .. } => TEE_PARAM_TYPE_MEMREF_INPUT,
        Param::MemrefOutput { .. } => TEE_PARAM_TYPE_MEMREF_OUTPUT,
        Param::MemrefInout { .. } => TEE_PARAM_TYPE_MEMREF_INOUT,
        // GP knows no other kinds.
        _ => TEE_PARAM_TYPE_NONE,
    }
}

/// Wipes what the client sent.
pub fn wipe(param: &mut Param) {
    if let Param::MemrefInput { buffer } | Param::MemrefInout { buffer } = param {
        buffer.zeroize();
    }
}

/// GP's `paramTypes` word of four parameters.
#[must_use]
pub fn param_types(params: &Params) -> u32 {
    params
        .iter()
        .rev()
        .fold(0, |word, param| (word << 4) | kind(param))
}
