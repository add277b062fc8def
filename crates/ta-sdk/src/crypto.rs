//! Cryptographic operations, each as one call.
#![allow(unsafe_code)] // Calls of imports with buffers of our own.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::consts::*;
use crate::error::{Error, Result, check};
use crate::object::Object;
use crate::sys;

/// An operation; freed when dropped.
pub struct Operation(u32);

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: the handle is ours.
        unsafe { sys::TEE_FreeOperation(self.0) };
    }
}

impl Operation {
    /// `TEE_AllocateOperation`.
    ///
    /// # Errors
    /// Algorithm, mode or size not supported.
    pub fn new(algorithm: u32, mode: u32, max_bits: u32) -> Result<Self> {
        let mut handle = 0;
        // SAFETY: the handle's place lives here.
        check(unsafe { sys::TEE_AllocateOperation(&raw mut handle, algorithm, mode, max_bits) })?;
        Ok(Self(handle))
    }

    /// An operation with a key of its size.
    ///
    /// # Errors
    /// As [`Operation::new`]. A key whose type or usage does not fit panics the TA.
    pub fn with_key(algorithm: u32, mode: u32, key: &Object) -> Result<Self> {
        let [_, bits, ..] = key.info()?;
        let operation = Self::new(algorithm, mode, bits)?;
        // SAFETY: numbers only.
        check(unsafe { sys::TEE_SetOperationKey(operation.0, key.handle()) })?;
        Ok(operation)
    }

    /// The raw handle; it stays ours.
    #[must_use]
    pub const fn handle(&self) -> u32 {
        self.0
    }
}

/// The digest of `data`.
///
/// # Errors
/// Algorithm not supported.
pub fn digest(algorithm: u32, data: &[u8]) -> Result<Vec<u8>> {
    let operation = Operation::new(algorithm, TEE_MODE_DIGEST, 0)?;
    let (ptr, len) = (data.as_ptr(), sys::len(data));
    // SAFETY: data and buffer live during the call.
    sys::sized(64, |to, size| unsafe {
        sys::TEE_DigestDoFinal(operation.0, ptr, len, to, size)
    })
}

/// The MAC of `data`.
///
/// # Errors
/// Algorithm not supported.
pub fn mac(algorithm: u32, key: &Object, data: &[u8]) -> Result<Vec<u8>> {
    let operation = Operation::with_key(algorithm, TEE_MODE_MAC, key)?;
    let (ptr, len) = (data.as_ptr(), sys::len(data));
    // SAFETY: data and buffer live during the calls.
    unsafe {
        sys::TEE_MACInit(operation.0, core::ptr::null(), 0);
        sys::sized(64, |to, size| {
            sys::TEE_MACComputeFinal(operation.0, ptr, len, to, size)
        })
    }
}

/// Signs a digest (Ed25519: a message); the signature is raw.
///
/// # Errors
/// Algorithm not supported.
pub fn sign(algorithm: u32, key: &Object, digest: &[u8]) -> Result<Vec<u8>> {
    let operation = Operation::with_key(algorithm, TEE_MODE_SIGN, key)?;
    let (ptr, len, none) = (digest.as_ptr(), sys::len(digest), core::ptr::null());
    // SAFETY: digest and buffer live during the call.
    sys::sized(96, |to, size| unsafe {
        sys::TEE_AsymmetricSignDigest(operation.0, none, 0, ptr, len, to, size)
    })
}

/// Verifies a raw signature over a digest (Ed25519: a message).
///
/// # Errors
/// `TEE_ERROR_SIGNATURE_INVALID`.
pub fn verify(algorithm: u32, key: &Object, digest: &[u8], signature: &[u8]) -> Result<()> {
    let operation = Operation::with_key(algorithm, TEE_MODE_VERIFY, key)?;
    // SAFETY: digest and signature live during the call.
    check(unsafe {
        sys::TEE_AsymmetricVerifyDigest(
            operation.0,
            core::ptr::null(),
            0,
            digest.as_ptr(),
            sys::len(digest),
            signature.as_ptr(),
            sys::len(signature),
        )
    })
}

/// ECDH: the x coordinate that a key pair shares with a peer's point on the same curve.
///
/// # Errors
/// Algorithm not supported. A key that may not derive, or a point that is not on the curve, panics
/// the TA: make an object of the point first, which only refuses it.
pub fn ecdh(key: &Object, x: &[u8], y: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let [_, bits, ..] = key.info()?;
    let shared = Object::transient(TEE_TYPE_GENERIC_SECRET, bits)?;
    let operation = Operation::with_key(TEE_ALG_ECDH_DERIVE_SHARED_SECRET, TEE_MODE_DERIVE, key)?;
    let peer = [
        sys::buffer(TEE_ATTR_ECC_PUBLIC_VALUE_X, x),
        sys::buffer(TEE_ATTR_ECC_PUBLIC_VALUE_Y, y),
    ];
    // SAFETY: the attributes and what they point to live during the call.
    unsafe { sys::TEE_DeriveKey(operation.0, peer.as_ptr(), 2, shared.handle()) };
    shared.attribute(TEE_ATTR_SECRET_VALUE).map(Zeroizing::new)
}

/// `N` random bytes.
///
/// # Errors
/// None in practice: a generator that fails ends the TA.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut out = [0; N];
    let len = u32::try_from(N).map_err(|_| Error(TEE_ERROR_BAD_PARAMETERS))?;
    // SAFETY: the buffer is as long as the length says.
    unsafe { sys::TEE_GenerateRandom(out.as_mut_ptr(), len) };
    Ok(out)
}
