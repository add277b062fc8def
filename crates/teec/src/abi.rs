//! The structures and numbers of `tee_client_api.h`, as C sees them.
//!
//! Invariants: sizes and offsets are those that a C compiler finds in the header (tested), and on
//! 64-bit machines those of OP-TEE's library 4.x, so that even a compiled program fits.
//!
//! Not trusted: every value that C writes here.

use std::ffi::c_void;

/// A `TEEC_Result`.
pub type TeecResult = u32;

/// `TEEC_Context`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TeecContext {
    /// Handle, low and high half: 32-bit alignment, as in OP-TEE's.
    pub handle: [u32; 2],
}

/// `TEEC_Session`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TeecSession {
    /// Handle.
    pub handle: u64,
    /// Not used.
    pub reserved: u64,
}

/// `TEEC_UUID`: numbers in the machine's order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TeecUuid {
    /// First four bytes.
    pub time_low: u32,
    /// Two bytes.
    pub time_mid: u16,
    /// Two bytes.
    pub time_hi_and_version: u16,
    /// The rest.
    pub clock_seq_and_node: [u8; 8],
}

impl TeecUuid {
    /// The sixteen bytes as RFC 9562 writes them.
    pub fn bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        let parts = [
            &self.time_low.to_be_bytes()[..],
            &self.time_mid.to_be_bytes(),
            &self.time_hi_and_version.to_be_bytes(),
            &self.clock_seq_and_node,
        ];
        for (to, from) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        out
    }
}

/// `TEEC_SharedMemory`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TeecSharedMemory {
    /// The memory.
    pub buffer: *mut c_void,
    /// Bytes.
    pub size: usize,
    /// [`MEM_INPUT`], [`MEM_OUTPUT`].
    pub flags: u32,
    /// Handle.
    pub handle: u64,
    /// Not used.
    pub reserved: [u64; 3],
}

/// `TEEC_TempMemoryReference`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TempMemoryReference {
    /// The memory, or NULL.
    pub buffer: *mut c_void,
    /// Bytes.
    pub size: usize,
}

/// `TEEC_RegisteredMemoryReference`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RegisteredMemoryReference {
    /// The block.
    pub parent: *mut TeecSharedMemory,
    /// Bytes.
    pub size: usize,
    /// Bytes from the start of the block.
    pub offset: usize,
}

/// `TEEC_Value`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Value {
    /// First number.
    pub a: u32,
    /// Second number.
    pub b: u32,
}

/// `TEEC_Parameter`.
#[repr(C)]
#[derive(Clone, Copy)]
pub union TeecParameter {
    /// For `TEEC_MEMREF_TEMP_*`.
    pub tmpref: TempMemoryReference,
    /// For `TEEC_MEMREF_WHOLE` and `TEEC_MEMREF_PARTIAL_*`.
    pub memref: RegisteredMemoryReference,
    /// For `TEEC_VALUE_*`.
    pub value: Value,
}

/// `TEEC_Operation`.
#[repr(C)]
pub struct TeecOperation {
    /// 0: not begun. [`STARTED`], or [`CANCELLED_BEFORE`].
    pub started: u32,
    /// Four types of four bits.
    pub param_types: u32,
    /// The parameters.
    pub params: [TeecParameter; 4],
    /// Not used.
    pub reserved: u64,
}

/// The operation was begun.
pub const STARTED: u32 = 1;
/// The operation was cancelled before it began. Not a number that memory holds by chance.
pub const CANCELLED_BEFORE: u32 = 0xC4AC_E11D;

/// `TEEC_CONFIG_SHAREDMEM_MAX_SIZE`: bytes that one call carries.
pub const CALL_LEN_BYTES_MAX: usize = 0x80000;

/// `TEEC_MEM_INPUT`.
pub const MEM_INPUT: u32 = 1;
/// `TEEC_MEM_OUTPUT`.
pub const MEM_OUTPUT: u32 = 2;

/// `TEEC_NONE`.
pub const NONE: u32 = 0;
/// `TEEC_VALUE_INPUT`.
pub const VALUE_INPUT: u32 = 1;
/// `TEEC_VALUE_OUTPUT`.
pub const VALUE_OUTPUT: u32 = 2;
/// `TEEC_VALUE_INOUT`.
pub const VALUE_INOUT: u32 = 3;
/// `TEEC_MEMREF_TEMP_INPUT`.
pub const MEMREF_TEMP_INPUT: u32 = 5;
/// `TEEC_MEMREF_TEMP_OUTPUT`.
pub const MEMREF_TEMP_OUTPUT: u32 = 6;
/// `TEEC_MEMREF_TEMP_INOUT`.
pub const MEMREF_TEMP_INOUT: u32 = 7;
/// `TEEC_MEMREF_WHOLE`.
pub const MEMREF_WHOLE: u32 = 0xC;
/// `TEEC_MEMREF_PARTIAL_INPUT`.
pub const MEMREF_PARTIAL_INPUT: u32 = 0xD;
/// `TEEC_MEMREF_PARTIAL_OUTPUT`.
pub const MEMREF_PARTIAL_OUTPUT: u32 = 0xE;
/// `TEEC_MEMREF_PARTIAL_INOUT`.
pub const MEMREF_PARTIAL_INOUT: u32 = 0xF;

/// `TEEC_LOGIN_PUBLIC`.
pub const LOGIN_PUBLIC: u32 = 0;
/// `TEEC_LOGIN_USER`.
pub const LOGIN_USER: u32 = 1;
/// `TEEC_LOGIN_GROUP`.
pub const LOGIN_GROUP: u32 = 2;
/// `TEEC_LOGIN_APPLICATION`.
pub const LOGIN_APPLICATION: u32 = 4;
/// `TEEC_LOGIN_USER_APPLICATION`.
pub const LOGIN_USER_APPLICATION: u32 = 5;
/// `TEEC_LOGIN_GROUP_APPLICATION`.
pub const LOGIN_GROUP_APPLICATION: u32 = 6;

// What OP-TEE's header gives on a 64-bit machine.
#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::{align_of, offset_of, size_of};
    assert!(size_of::<TeecContext>() == 8 && align_of::<TeecContext>() == 4);
    assert!(size_of::<TeecSession>() == 16 && align_of::<TeecSession>() == 8);
    assert!(size_of::<TeecUuid>() == 16 && align_of::<TeecUuid>() == 4);
    assert!(size_of::<TeecSharedMemory>() == 56 && offset_of!(TeecSharedMemory, handle) == 24);
    assert!(size_of::<TeecParameter>() == 24);
    assert!(size_of::<TeecOperation>() == 112 && offset_of!(TeecOperation, params) == 8);
};
