//! Properties of this TA, its client and the TEE.
#![allow(unsafe_code)] // Calls of imports with buffers of our own.

use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;

use crate::consts::*;
use crate::error::{Error, Result, check};
use crate::{Identity, sys};

fn c_name(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| Error(TEE_ERROR_BAD_PARAMETERS))
}

/// A property of `set` as text.
///
/// # Errors
/// `TEE_ERROR_ITEM_NOT_FOUND` if there is none of that name.
pub fn string(set: u32, name: &str) -> Result<String> {
    let name = c_name(name)?;
    // SAFETY: the name is terminated, the buffer is as long as its size says.
    let mut bytes = sys::sized(64, |to, size| unsafe {
        sys::TEE_GetPropertyAsString(set, name.as_ptr().cast(), to, size)
    })?;
    bytes.pop(); // the terminator
    String::from_utf8(bytes).map_err(|_| Error(TEE_ERROR_BAD_FORMAT))
}

/// A binary property of `set`.
///
/// # Errors
/// As [`string`]; `TEE_ERROR_BAD_FORMAT` if it is of another kind.
pub fn binary(set: u32, name: &str) -> Result<Vec<u8>> {
    let name = c_name(name)?;
    // SAFETY: as in `string`.
    sys::sized(64, |to, size| unsafe {
        sys::TEE_GetPropertyAsBinaryBlock(set, name.as_ptr().cast(), to, size)
    })
}

/// A number property of `set`.
///
/// # Errors
/// As [`binary`].
pub fn u32(set: u32, name: &str) -> Result<u32> {
    let name = c_name(name)?;
    let mut value = 0;
    // SAFETY: the name is terminated and the value lives here.
    check(unsafe { sys::TEE_GetPropertyAsU32(set, name.as_ptr().cast(), &raw mut value) })?;
    Ok(value)
}

/// Who opened the session whose entry point runs now.
///
/// # Errors
/// `TEE_ERROR_ITEM_NOT_FOUND` outside of a session.
pub fn client_identity() -> Result<Identity> {
    let mut raw = [0u8; 20];
    let name = c_name("gpd.client.identity")?;
    // SAFETY: the name is terminated and a TEE_Identity has 20 bytes.
    check(unsafe {
        sys::TEE_GetPropertyAsIdentity(
            TEE_PROPSET_CURRENT_CLIENT,
            name.as_ptr().cast(),
            raw.as_mut_ptr(),
        )
    })?;
    let [a, b, c, d, uuid @ ..] = raw;
    let [p, q, r, s, t, u, v, w, rest @ ..] = uuid;
    let mut network = [s, r, q, p, u, t, w, v, 0, 0, 0, 0, 0, 0, 0, 0];
    for (to, from) in network.iter_mut().skip(8).zip(rest) {
        *to = from;
    }
    Ok(Identity {
        login: u32::from_le_bytes([a, b, c, d]),
        uuid: network,
    })
}
