//! Parameters of an operation: from C to a call, and back.
//!
//! Invariants: everything that can be checked is checked before a byte of a buffer is touched, the
//! sum of all sizes included. What comes back is written to outputs only, and never more than their
//! room. Spec: GP TEE Client API 1.0 sections 4.3.6 to 4.3.8.

use std::sync::Arc;

use tegata_client::{Operation, Parameter};

use crate::abi::*;
use crate::memory::{Block, Pointer};
use crate::registry::registry;

/// Why parameters are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// They make no sense: `TEEC_ERROR_BAD_PARAMETERS`.
    Bad,
    /// They are more than a call carries: `TEEC_ERROR_EXCESS_DATA`.
    TooMuch,
}

/// One parameter as C gave it, checked.
enum Given {
    None,
    Value {
        types: u32,
    },
    Memory {
        start: Pointer,
        size: usize,
        input: bool,
        output: bool,
        /// Where the size lies: in a `memref`, else in a `tmpref`.
        registered: bool,
        /// Keeps memory of ours until it was written back.
        _block: Option<Arc<Block>>,
    },
}

/// The parameters of one call.
pub struct Given4([Given; 4]);

impl Given4 {
    /// No operation.
    pub const fn none() -> Self {
        Self([Given::None, Given::None, Given::None, Given::None])
    }

    /// Reads and checks the parameters; touches no buffer.
    ///
    /// # Safety
    /// `operation` must point to a `TEEC_Operation` as the standard has it: the members that
    /// `paramTypes` names are set, and their pointers are good.
    pub unsafe fn read(operation: *const TeecOperation, context: u64) -> Result<Self, Refused> {
        // SAFETY: the caller vouches for the operation. `params` is copied; a union of plain
        // numbers and addresses may hold anything.
        let (types, params) = unsafe {
            (
                (&raw const (*operation).param_types).read(),
                (&raw const (*operation).params).read(),
            )
        };
        if types >> 16 != 0 {
            return Err(Refused::Bad);
        }
        let mut given = Self::none();
        for (index, (given, param)) in given.0.iter_mut().zip(params).enumerate() {
            // SAFETY: as above: the type says which member C has set.
            *given = unsafe { one((types >> (index * 4)) & 0xF, param, context) }?;
        }
        let total = given.0.iter().fold(0usize, |sum, given| match given {
            Given::Memory { size, .. } => sum.saturating_add(*size),
            _ => sum,
        });
        if total > CALL_LEN_BYTES_MAX {
            return Err(Refused::TooMuch);
        }
        Ok(given)
    }

    /// The call, with copies of all inputs.
    ///
    /// # Safety
    /// As for [`Self::read`], of the same operation.
    pub unsafe fn operation(&self, operation: *const TeecOperation) -> Operation {
        let mut params: [Parameter; 4] = Default::default();
        for (index, (param, given)) in params.iter_mut().zip(&self.0).enumerate() {
            *param = match given {
                Given::None => Parameter::None,
                Given::Value {
                    types: VALUE_OUTPUT,
                } => Parameter::ValueOutput,
                Given::Value { types } => {
                    // SAFETY: an operation without parameters has no values; this one is good, and
                    // `index` is below 4.
                    let Value { a, b } = unsafe { param_of(operation, index).read().value };
                    if *types == VALUE_INPUT {
                        Parameter::ValueInput(a, b)
                    } else {
                        Parameter::ValueInout(a, b)
                    }
                }
                Given::Memory {
                    size,
                    input: false,
                    output: true,
                    ..
                } => Parameter::MemrefOutput(u32::try_from(*size).unwrap_or(u32::MAX)),
                Given::Memory {
                    start,
                    size,
                    output,
                    ..
                } => {
                    // SAFETY: C vouches for `size` bytes at `start`, or the block was checked to
                    // have them.
                    let bytes = unsafe { start.read(*size) };
                    if *output {
                        Parameter::MemrefInout(bytes)
                    } else {
                        Parameter::MemrefInput(bytes)
                    }
                }
            };
        }
        Operation::new(params)
    }

    /// Writes back what the TA wrote, and the sizes it reported. What did not come back stays.
    ///
    /// # Safety
    /// As for [`Self::read`], of the same operation.
    pub unsafe fn write_back(&self, operation: *mut TeecOperation, done: &Operation) {
        for (index, given) in self.0.iter().enumerate() {
            match given {
                Given::None => {}
                Given::Value { .. } => {
                    if let Some((a, b)) = done.value(index) {
                        // SAFETY: the operation is good, `index` is below 4.
                        unsafe {
                            (&raw mut (*param_of(operation, index).cast_mut()).value)
                                .write(Value { a, b })
                        };
                    }
                }
                Given::Memory {
                    start,
                    size,
                    output,
                    registered,
                    ..
                } => {
                    let Some(reported) = done.size(index).filter(|_| *output) else {
                        continue;
                    };
                    let bytes = done.memref(index);
                    if bytes.len() <= *size {
                        // SAFETY: there is room for `size` bytes at `start`, as above.
                        unsafe { start.write(bytes) };
                    }
                    let reported = usize::try_from(reported).unwrap_or(usize::MAX);
                    let param = param_of(operation, index).cast_mut();
                    // SAFETY: the operation is good, `index` is below 4.
                    unsafe {
                        if *registered {
                            (&raw mut (*param).memref.size).write(reported);
                        } else {
                            (&raw mut (*param).tmpref.size).write(reported);
                        }
                    }
                }
            }
        }
    }
}

/// Where parameter `index` of an operation lies.
fn param_of(operation: *const TeecOperation, index: usize) -> *const TeecParameter {
    let offset = std::mem::offset_of!(TeecOperation, params)
        .wrapping_add(index.wrapping_mul(size_of::<TeecParameter>()));
    operation.wrapping_byte_add(offset).cast()
}

/// Checks one parameter.
///
/// # Safety
/// The member that `types` names must be set, and a `parent` be NULL or good.
unsafe fn one(types: u32, param: TeecParameter, context: u64) -> Result<Given, Refused> {
    match types {
        NONE => Ok(Given::None),
        VALUE_INPUT | VALUE_OUTPUT | VALUE_INOUT => Ok(Given::Value { types }),
        MEMREF_TEMP_INPUT | MEMREF_TEMP_OUTPUT | MEMREF_TEMP_INOUT => {
            // SAFETY: the type says that this member is set.
            temporary(types, unsafe { param.tmpref })
        }
        MEMREF_WHOLE | MEMREF_PARTIAL_INPUT | MEMREF_PARTIAL_OUTPUT | MEMREF_PARTIAL_INOUT => {
            // SAFETY: as above; its parent is good if it is not NULL.
            unsafe { registered(types, param.memref, context) }
        }
        _ => Err(Refused::Bad),
    }
}

/// A reference to C's memory for this call. NULL has no room and, to read, no bytes.
fn temporary(types: u32, reference: TempMemoryReference) -> Result<Given, Refused> {
    let (input, output) = directions(types);
    let mut size = reference.size;
    if reference.buffer.is_null() {
        if input && size > 0 {
            return Err(Refused::Bad);
        }
        size = 0;
    }
    Ok(Given::Memory {
        start: Pointer(reference.buffer.cast()),
        size,
        input,
        output,
        registered: false,
        _block: None,
    })
}

/// A reference to a block.
///
/// # Safety
/// `parent` must be NULL or point to a `TEEC_SharedMemory`.
unsafe fn registered(
    types: u32,
    reference: RegisteredMemoryReference,
    context: u64,
) -> Result<Given, Refused> {
    let parent = reference.parent;
    if parent.is_null() || !parent.is_aligned() {
        return Err(Refused::Bad);
    }
    // SAFETY: the caller vouches for a parent that is not NULL.
    let handle = unsafe { (&raw const (*parent).handle).read() };
    let block = registry().block(handle).ok_or(Refused::Bad)?;
    if block.context != context {
        return Err(Refused::Bad);
    }
    let (offset, size, flags) = if types == MEMREF_WHOLE {
        (0, block.size, block.flags)
    } else {
        let end = reference.offset.checked_add(reference.size);
        let (input, output) = directions(types);
        let flags = u32::from(input) * MEM_INPUT + u32::from(output) * MEM_OUTPUT;
        if end.is_none_or(|end| end > block.size) || flags & !block.flags != 0 {
            return Err(Refused::Bad);
        }
        (reference.offset, reference.size, flags)
    };
    Ok(Given::Memory {
        start: block.start.add(offset),
        size,
        input: flags & MEM_INPUT != 0,
        output: flags & MEM_OUTPUT != 0,
        registered: true,
        _block: Some(block),
    })
}

/// Input and output of a type of memory reference: its two lowest bits.
const fn directions(types: u32) -> (bool, bool) {
    (types & 1 != 0, types & 2 != 0)
}
