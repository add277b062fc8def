//! Objects: transient keys, persistent keys and data. A handle is closed when dropped.
#![allow(unsafe_code)] // Calls of imports with buffers of our own.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::consts::*;
use crate::error::{Result, check};
use crate::sys::{self, TEE_Attribute};

/// A handle on an object.
pub struct Object(u32);

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and open.
        unsafe { sys::TEE_CloseObject(self.0) };
    }
}

impl Object {
    /// The raw handle; it stays ours.
    #[must_use]
    pub const fn handle(&self) -> u32 {
        self.0
    }

    /// `TEE_AllocateTransientObject`.
    ///
    /// # Errors
    /// Type or size not supported.
    pub fn transient(object_type: u32, max_bits: u32) -> Result<Self> {
        let mut handle = 0;
        // SAFETY: the handle's place lives here.
        check(unsafe { sys::TEE_AllocateTransientObject(object_type, max_bits, &raw mut handle) })?;
        Ok(Self(handle))
    }

    /// A transient object of one secret, as for AES, HMAC and HKDF keys.
    ///
    /// # Errors
    /// Type or length not supported.
    pub fn secret(object_type: u32, secret: &[u8]) -> Result<Self> {
        let object = Self::transient(object_type, sys::len(secret).saturating_mul(8))?;
        object.populate(&[sys::buffer(TEE_ATTR_SECRET_VALUE, secret)])?;
        Ok(object)
    }

    /// `TEE_PopulateTransientObject`.
    ///
    /// # Errors
    /// Values that do not fit together.
    pub fn populate(&self, attributes: &[TEE_Attribute]) -> Result<()> {
        let count = u32::try_from(attributes.len()).unwrap_or(u32::MAX);
        // SAFETY: the attributes and what they point to live during the call.
        check(unsafe { sys::TEE_PopulateTransientObject(self.0, attributes.as_ptr(), count) })
    }

    /// `TEE_GenerateKey`.
    ///
    /// # Errors
    /// Parameters that do not fit together.
    pub fn generate(&self, bits: u32, params: &[TEE_Attribute]) -> Result<()> {
        let count = u32::try_from(params.len()).unwrap_or(u32::MAX);
        // SAFETY: as in `populate`.
        check(unsafe { sys::TEE_GenerateKey(self.0, bits, params.as_ptr(), count) })
    }

    /// `TEE_CopyObjectAttributes1` into a new transient object: a copy of the key without the
    /// handle on its storage, and with no more usage rights.
    ///
    /// # Errors
    /// The object holds no key.
    pub fn transient_copy(&self) -> Result<Self> {
        let [object_type, _, max_bits, ..] = self.info()?;
        let copy = Self::transient(object_type, max_bits)?;
        // SAFETY: numbers only.
        check(unsafe { sys::TEE_CopyObjectAttributes1(copy.0, self.0) })?;
        Ok(copy)
    }

    /// `TEE_RestrictObjectUsage1`.
    ///
    /// # Errors
    /// Of storage, for a persistent object.
    pub fn restrict_usage(&self, usage: u32) -> Result<()> {
        // SAFETY: numbers only.
        check(unsafe { sys::TEE_RestrictObjectUsage1(self.0, usage) })
    }

    /// `TEE_GetObjectBufferAttribute`.
    ///
    /// # Errors
    /// Not found, or protected.
    pub fn attribute(&self, id: u32) -> Result<Vec<u8>> {
        // SAFETY: the buffer is as long as its size says.
        sys::sized(64, |to, size| unsafe {
            sys::TEE_GetObjectBufferAttribute(self.0, id, to, size)
        })
    }

    /// `TEE_GetObjectInfo1`: type, size, maximum, usage, data length, position, flags.
    ///
    /// # Errors
    /// A corrupt object.
    pub fn info(&self) -> Result<[u32; 7]> {
        let mut words = [0; 7];
        // SAFETY: a TEE_ObjectInfo is seven words.
        check(unsafe { sys::TEE_GetObjectInfo1(self.0, words.as_mut_ptr()) })?;
        Ok(words)
    }

    /// `TEE_OpenPersistentObject` in private storage.
    ///
    /// # Errors
    /// Not found, access conflict, corrupt.
    pub fn open(id: &[u8], flags: u32) -> Result<Self> {
        let mut handle = 0;
        let (ptr, len) = (id.as_ptr(), sys::len(id));
        // SAFETY: the identifier and the handle's place live here.
        check(unsafe {
            sys::TEE_OpenPersistentObject(TEE_STORAGE_PRIVATE, ptr, len, flags, &raw mut handle)
        })?;
        Ok(Self(handle))
    }

    /// `TEE_CreatePersistentObject` in private storage: attributes of `key`, if given, and data.
    ///
    /// # Errors
    /// Access conflict, no space.
    pub fn create(id: &[u8], flags: u32, key: Option<&Self>, data: &[u8]) -> Result<Self> {
        let mut handle = 0;
        // SAFETY: identifier, data and the handle's place live during the call.
        check(unsafe {
            sys::TEE_CreatePersistentObject(
                TEE_STORAGE_PRIVATE,
                id.as_ptr(),
                sys::len(id),
                flags,
                key.map_or(TEE_HANDLE_NULL, |key| key.0),
                data.as_ptr(),
                sys::len(data),
                &raw mut handle,
            )
        })?;
        Ok(Self(handle))
    }

    /// `TEE_CloseAndDeletePersistentObject1`.
    ///
    /// # Errors
    /// Storage not available.
    pub fn delete(self) -> Result<()> {
        let handle = self.0;
        core::mem::forget(self);
        // SAFETY: the handle is ours, and dead after this.
        check(unsafe { sys::TEE_CloseAndDeletePersistentObject1(handle) })
    }

    /// The whole data stream, from its beginning.
    ///
    /// # Errors
    /// A corrupt object.
    pub fn read_all(&self) -> Result<Zeroizing<Vec<u8>>> {
        let [.., len, _, _] = self.info()?;
        let mut out = Zeroizing::new(alloc::vec![0; usize::try_from(len).unwrap_or(0)]);
        let mut count = 0;
        // SAFETY: the buffer is as long as the size says.
        unsafe {
            check(sys::TEE_SeekObjectData(self.0, 0, TEE_DATA_SEEK_SET))?;
            check(sys::TEE_ReadObjectData(
                self.0,
                out.as_mut_ptr(),
                len,
                &raw mut count,
            ))?;
        }
        out.truncate(usize::try_from(count).unwrap_or(0));
        Ok(out)
    }

    /// Overwrites the data stream from its beginning, in one atomic write.
    ///
    /// # Errors
    /// Storage not available.
    pub fn write_start(&self, data: &[u8]) -> Result<()> {
        // SAFETY: the buffer is as long as the size says.
        unsafe {
            check(sys::TEE_SeekObjectData(self.0, 0, TEE_DATA_SEEK_SET))?;
            check(sys::TEE_WriteObjectData(
                self.0,
                data.as_ptr(),
                sys::len(data),
            ))
        }
    }
}

/// Identifiers of all persistent objects of this TA.
///
/// # Errors
/// Storage not available.
pub fn list() -> Result<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    let mut handle = 0;
    // SAFETY: numbers, and buffers of the sizes GP asks for.
    unsafe {
        check(sys::TEE_AllocatePersistentObjectEnumerator(&raw mut handle))?;
        let mut code = sys::TEE_StartPersistentObjectEnumerator(handle, TEE_STORAGE_PRIVATE);
        while code == TEE_SUCCESS {
            let mut id = [0u8; 64];
            let mut len = 64;
            let no_info = core::ptr::null_mut();
            code = sys::TEE_GetNextPersistentObject(handle, no_info, id.as_mut_ptr(), &raw mut len);
            if code == TEE_SUCCESS {
                let len = usize::try_from(len).unwrap_or(0);
                out.push(id.get(..len).unwrap_or(&[]).to_vec());
            }
        }
        sys::TEE_FreePersistentObjectEnumerator(handle);
        if code == TEE_ERROR_ITEM_NOT_FOUND {
            Ok(out)
        } else {
            check(code).map(|()| out)
        }
    }
}
