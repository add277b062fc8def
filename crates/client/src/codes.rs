//! Return codes of the TEE Client API and of the Internal Core API that a client may see.
//!
//! Spec: GP TEE Client API 1.0 section 4.4.2, TEE Internal Core API 1.3.1 section 3.3.1.

/// Everything went well.
pub const TEEC_SUCCESS: u32 = 0;
/// An error of no other kind.
pub const TEEC_ERROR_GENERIC: u32 = 0xFFFF_0000;
/// The caller may not do this.
pub const TEEC_ERROR_ACCESS_DENIED: u32 = 0xFFFF_0001;
/// The operation was cancelled.
pub const TEEC_ERROR_CANCEL: u32 = 0xFFFF_0002;
/// Concurrent accesses conflict.
pub const TEEC_ERROR_ACCESS_CONFLICT: u32 = 0xFFFF_0003;
/// Too much data for the operation.
pub const TEEC_ERROR_EXCESS_DATA: u32 = 0xFFFF_0004;
/// Input of the wrong format.
pub const TEEC_ERROR_BAD_FORMAT: u32 = 0xFFFF_0005;
/// Parameters that make no sense.
pub const TEEC_ERROR_BAD_PARAMETERS: u32 = 0xFFFF_0006;
/// Not possible in the present state.
pub const TEEC_ERROR_BAD_STATE: u32 = 0xFFFF_0007;
/// There is no such item.
pub const TEEC_ERROR_ITEM_NOT_FOUND: u32 = 0xFFFF_0008;
/// Not implemented.
pub const TEEC_ERROR_NOT_IMPLEMENTED: u32 = 0xFFFF_0009;
/// Valid, but not supported here.
pub const TEEC_ERROR_NOT_SUPPORTED: u32 = 0xFFFF_000A;
/// Data was expected and none came.
pub const TEEC_ERROR_NO_DATA: u32 = 0xFFFF_000B;
/// Out of memory or another resource.
pub const TEEC_ERROR_OUT_OF_MEMORY: u32 = 0xFFFF_000C;
/// The TEE is busy; try again.
pub const TEEC_ERROR_BUSY: u32 = 0xFFFF_000D;
/// The way to the TEE failed.
pub const TEEC_ERROR_COMMUNICATION: u32 = 0xFFFF_000E;
/// A security check failed.
pub const TEEC_ERROR_SECURITY: u32 = 0xFFFF_000F;
/// A buffer is too short; its needed size was written.
pub const TEEC_ERROR_SHORT_BUFFER: u32 = 0xFFFF_0010;
/// The operation was cancelled from outside.
pub const TEEC_ERROR_EXTERNAL_CANCEL: u32 = 0xFFFF_0011;
/// The instance of the TA died.
pub const TEEC_ERROR_TARGET_DEAD: u32 = 0xFFFF_3024;
/// Storage is full.
pub const TEEC_ERROR_STORAGE_NO_SPACE: u32 = 0xFFFF_3041;
/// A MAC is not right.
pub const TEE_ERROR_MAC_INVALID: u32 = 0xFFFF_3071;
/// A signature is not right.
pub const TEE_ERROR_SIGNATURE_INVALID: u32 = 0xFFFF_3072;
/// An object was damaged.
pub const TEE_ERROR_CORRUPT_OBJECT: u32 = 0xF010_0001;
/// Storage does not answer.
pub const TEE_ERROR_STORAGE_NOT_AVAILABLE: u32 = 0xF010_0003;

/// The name of a return code, if it is a known one.
#[must_use]
pub const fn name(code: u32) -> Option<&'static str> {
    Some(match code {
        TEEC_SUCCESS => "TEEC_SUCCESS",
        TEEC_ERROR_GENERIC => "TEEC_ERROR_GENERIC",
        TEEC_ERROR_ACCESS_DENIED => "TEEC_ERROR_ACCESS_DENIED",
        TEEC_ERROR_CANCEL => "TEEC_ERROR_CANCEL",
        TEEC_ERROR_ACCESS_CONFLICT => "TEEC_ERROR_ACCESS_CONFLICT",
        TEEC_ERROR_EXCESS_DATA => "TEEC_ERROR_EXCESS_DATA",
        TEEC_ERROR_BAD_FORMAT => "TEEC_ERROR_BAD_FORMAT",
        TEEC_ERROR_BAD_PARAMETERS => "TEEC_ERROR_BAD_PARAMETERS",
        TEEC_ERROR_BAD_STATE => "TEEC_ERROR_BAD_STATE",
        TEEC_ERROR_ITEM_NOT_FOUND => "TEEC_ERROR_ITEM_NOT_FOUND",
        TEEC_ERROR_NOT_IMPLEMENTED => "TEEC_ERROR_NOT_IMPLEMENTED",
        TEEC_ERROR_NOT_SUPPORTED => "TEEC_ERROR_NOT_SUPPORTED",
        TEEC_ERROR_NO_DATA => "TEEC_ERROR_NO_DATA",
        TEEC_ERROR_OUT_OF_MEMORY => "TEEC_ERROR_OUT_OF_MEMORY",
        TEEC_ERROR_BUSY => "TEEC_ERROR_BUSY",
        TEEC_ERROR_COMMUNICATION => "TEEC_ERROR_COMMUNICATION",
        TEEC_ERROR_SECURITY => "TEEC_ERROR_SECURITY",
        TEEC_ERROR_SHORT_BUFFER => "TEEC_ERROR_SHORT_BUFFER",
        TEEC_ERROR_EXTERNAL_CANCEL => "TEEC_ERROR_EXTERNAL_CANCEL",
        TEEC_ERROR_TARGET_DEAD => "TEEC_ERROR_TARGET_DEAD",
        TEEC_ERROR_STORAGE_NO_SPACE => "TEEC_ERROR_STORAGE_NO_SPACE",
        TEE_ERROR_MAC_INVALID => "TEE_ERROR_MAC_INVALID",
        TEE_ERROR_SIGNATURE_INVALID => "TEE_ERROR_SIGNATURE_INVALID",
        TEE_ERROR_CORRUPT_OBJECT => "TEE_ERROR_CORRUPT_OBJECT",
        TEE_ERROR_STORAGE_NOT_AVAILABLE => "TEE_ERROR_STORAGE_NOT_AVAILABLE",
        _ => return None,
    })
}
