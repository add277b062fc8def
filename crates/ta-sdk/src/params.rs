//! The four parameters of a call, checked against the types a command expects.
#![allow(unsafe_code)] // Slices over the parameters that the TEE put into our memory.

use core::marker::PhantomData;

use crate::consts::*;
use crate::error::{Error, Result};
use crate::sys;

/// The parameters of one call.
pub struct Parameters {
    types: u32,
    params: *mut sys::TEE_Param,
    not_send: PhantomData<*mut ()>,
}

impl Parameters {
    /// Wraps what the TEE hands over.
    ///
    /// # Safety
    /// `params` points to four parameters that fit `types` and live as long as the entry point.
    pub(crate) const unsafe fn new(types: u32, params: *mut sys::TEE_Param) -> Self {
        Self {
            types,
            params,
            not_send: PhantomData,
        }
    }

    fn at(&self, index: u32, kinds: &[u32]) -> Result<*mut sys::TEE_Param> {
        let kind = (self.types >> (4 * index)) & 0xF;
        if index > 3 || !kinds.contains(&kind) {
            return Err(Error(TEE_ERROR_BAD_PARAMETERS));
        }
        let offset = usize::try_from(index).unwrap_or(0);
        // SAFETY: the index is at most 3 and there are four.
        Ok(unsafe { self.params.add(offset) })
    }

    /// True if the parameter is there.
    #[must_use]
    pub fn has(&self, index: u32) -> bool {
        index <= 3 && (self.types >> (4 * index)) & 0xF != TEE_PARAM_TYPE_NONE
    }

    /// Checks the types of all four: each is one of those that `allowed` lists for it.
    ///
    /// # Errors
    /// `TEE_ERROR_BAD_PARAMETERS`.
    pub fn expect(&self, allowed: &[&[u32]; 4]) -> Result<()> {
        let mut types = self.types;
        for kinds in allowed {
            if !kinds.contains(&(types & 0xF)) {
                return Err(Error(TEE_ERROR_BAD_PARAMETERS));
            }
            types >>= 4;
        }
        // Nothing above the four.
        if types == 0 {
            Ok(())
        } else {
            Err(Error(TEE_ERROR_BAD_PARAMETERS))
        }
    }

    /// Checks that an output has room for `len` bytes before anything is done; sets its size to
    /// that if it has not.
    ///
    /// # Errors
    /// `TEE_ERROR_SHORT_BUFFER`; `TEE_ERROR_BAD_PARAMETERS` if it is of another kind.
    pub fn require_room(&mut self, index: u32, len: usize) -> Result<()> {
        if len <= self.room(index)? {
            return Ok(());
        }
        let kinds = [TEE_PARAM_TYPE_MEMREF_OUTPUT, TEE_PARAM_TYPE_MEMREF_INOUT];
        let param = self.at(index, &kinds)?;
        let len = u32::try_from(len).map_err(|_| Error(TEE_ERROR_BAD_PARAMETERS))?;
        // SAFETY: a parameter is writable.
        unsafe { (*param).b = len };
        Err(Error(TEE_ERROR_SHORT_BUFFER))
    }

    /// The bytes of an input memory reference.
    ///
    /// # Errors
    /// `TEE_ERROR_BAD_PARAMETERS` if the parameter is of another kind.
    pub fn input(&self, index: u32) -> Result<&[u8]> {
        let kinds = [TEE_PARAM_TYPE_MEMREF_INPUT, TEE_PARAM_TYPE_MEMREF_INOUT];
        let param = self.at(index, &kinds)?;
        // SAFETY: the TEE put a buffer of that length there, and nothing else writes to it while
        // `self` is borrowed.
        Ok(unsafe {
            let sys::TEE_Param { a, b } = *param;
            if b == 0 {
                return Ok(&[]);
            }
            core::slice::from_raw_parts(a as *const u8, b as usize)
        })
    }

    /// The values of an input value.
    ///
    /// # Errors
    /// As [`Parameters::input`].
    pub fn value(&self, index: u32) -> Result<(u32, u32)> {
        let param = self.at(
            index,
            &[TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_VALUE_INOUT],
        )?;
        // SAFETY: a parameter is readable.
        let sys::TEE_Param { a, b } = unsafe { *param };
        Ok((a, b))
    }

    /// Sets an output value.
    ///
    /// # Errors
    /// As [`Parameters::input`].
    pub fn set_value(&mut self, index: u32, a: u32, b: u32) -> Result<()> {
        let param = self.at(
            index,
            &[TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_INOUT],
        )?;
        // SAFETY: a parameter is writable.
        unsafe { *param = sys::TEE_Param { a, b } };
        Ok(())
    }

    /// Room of an output memory reference in bytes.
    ///
    /// # Errors
    /// As [`Parameters::input`].
    pub fn room(&self, index: u32) -> Result<usize> {
        let kinds = [TEE_PARAM_TYPE_MEMREF_OUTPUT, TEE_PARAM_TYPE_MEMREF_INOUT];
        let param = self.at(index, &kinds)?;
        // SAFETY: a parameter is readable.
        let size = unsafe { (*param).b };
        usize::try_from(size).map_err(|_| Error(TEE_ERROR_BAD_PARAMETERS))
    }

    /// Fills an output memory reference and sets its size, also if the room is too small.
    ///
    /// # Errors
    /// `TEE_ERROR_SHORT_BUFFER`; `TEE_ERROR_BAD_PARAMETERS` if it is of another kind.
    pub fn set_output(&mut self, index: u32, data: &[u8]) -> Result<()> {
        let room = self.room(index)?;
        let kinds = [TEE_PARAM_TYPE_MEMREF_OUTPUT, TEE_PARAM_TYPE_MEMREF_INOUT];
        let param = self.at(index, &kinds)?;
        // SAFETY: the TEE put a buffer of `room` bytes there; `data` is elsewhere or the same
        // bytes, which `copy` allows.
        unsafe {
            (*param).b = sys::len(data);
            if data.len() > room {
                return Err(Error(TEE_ERROR_SHORT_BUFFER));
            }
            core::ptr::copy(data.as_ptr(), (*param).a as *mut u8, data.len());
        }
        Ok(())
    }
}
