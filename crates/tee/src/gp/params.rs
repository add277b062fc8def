//! The four parameters of a GP call, as values: what goes into an entry point and what comes out.
//!
//! Invariants: exactly four; the sum of all memory references is limited before anything is
//! copied; nothing here points anywhere. A client's shared memory is copied in and out once, so a
//! client that changes it meanwhile changes nothing.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::consts::*;

/// Most bytes in the memory references of one call, in and out together.
pub const PARAMS_LEN_BYTES_MAX: usize = 512 * 1024;

/// One parameter on the way in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // The fields are GP's `a`, `b`, `buffer` and `size`.
pub enum Param {
    /// `TEE_PARAM_TYPE_NONE`.
    #[default]
    None,
    /// `TEE_PARAM_TYPE_VALUE_INPUT`.
    ValueInput { a: u32, b: u32 },
    /// `TEE_PARAM_TYPE_VALUE_OUTPUT`.
    ValueOutput,
    /// `TEE_PARAM_TYPE_VALUE_INOUT`.
    ValueInout { a: u32, b: u32 },
    /// `TEE_PARAM_TYPE_MEMREF_INPUT`.
    MemrefInput {
        #[serde(with = "serde_bytes")]
        buffer: Vec<u8>,
    },
    /// `TEE_PARAM_TYPE_MEMREF_OUTPUT`: `size` bytes of room.
    MemrefOutput { size: u32 },
    /// `TEE_PARAM_TYPE_MEMREF_INOUT`: the buffer is also the room.
    MemrefInout {
        #[serde(with = "serde_bytes")]
        buffer: Vec<u8>,
    },
}

/// One parameter on the way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // The fields are GP's `a`, `b`, `buffer` and `size`.
pub enum ParamOut {
    /// Nothing comes back.
    #[default]
    None,
    /// The values of an output or inout value.
    Value { a: u32, b: u32 },
    /// The bytes of an output or inout memory reference; `size` may be more than was room for
    /// (then the code is `TEE_ERROR_SHORT_BUFFER` and the buffer is empty).
    Memref {
        #[serde(with = "serde_bytes")]
        buffer: Vec<u8>,
        size: u32,
    },
}

/// Four parameters in.
pub type Params = [Param; 4];
/// Four parameters out.
pub type ParamsOut = [ParamOut; 4];

impl Param {
    /// The parameter's `TEE_PARAM_TYPE_*`.
    #[must_use]
    pub const fn kind(&self) -> u32 {
        match self {
            Self::None => TEE_PARAM_TYPE_NONE,
            Self::ValueInput { .. } => TEE_PARAM_TYPE_VALUE_INPUT,
            Self::ValueOutput => TEE_PARAM_TYPE_VALUE_OUTPUT,
            Self::ValueInout { .. } => TEE_PARAM_TYPE_VALUE_INOUT,
            Self::MemrefInput { .. } => TEE_PARAM_TYPE_MEMREF_INPUT,
            Self::MemrefOutput { .. } => TEE_PARAM_TYPE_MEMREF_OUTPUT,
            Self::MemrefInout { .. } => TEE_PARAM_TYPE_MEMREF_INOUT,
        }
    }

    /// Bytes of guest memory this parameter asks for.
    #[must_use]
    pub fn room(&self) -> usize {
        match self {
            Self::MemrefInput { buffer } | Self::MemrefInout { buffer } => buffer.len(),
            // On a 32-bit host `usize` holds every u32; saturate rather than wrap elsewhere.
            Self::MemrefOutput { size } => usize::try_from(*size).unwrap_or(usize::MAX),
            _ => 0,
        }
    }

    /// Wipes what the client sent.
    pub fn wipe(&mut self) {
        if let Self::MemrefInput { buffer } | Self::MemrefInout { buffer } = self {
            buffer.zeroize();
        }
    }
}

/// GP's `paramTypes` word of four parameters.
#[must_use]
pub fn param_types(params: &Params) -> u32 {
    params
        .iter()
        .rev()
        .fold(0, |word, param| (word << 4) | param.kind())
}

/// True if the memory references fit into the limit of one call.
#[must_use]
pub fn within_limits(params: &Params) -> bool {
    let total = params
        .iter()
        .fold(0usize, |sum, param| sum.saturating_add(param.room()));
    total <= PARAMS_LEN_BYTES_MAX
}
