//! The TA's linear memory, seen from the host: every access is bounds-checked, or the TA panics.
//!
//! Layouts are those of the wasm32 C ABI, little endian: `size_t` and pointers are four bytes,
//! `TEE_UUID` 16, `TEE_Identity` 20, `TEE_Time` 8, `TEE_Param` 8, `TEE_Attribute` 12,
//! `TEE_ObjectInfo` 28, `TEE_OperationInfo` 32 bytes. Inputs are copied or borrowed for the length
//! of one call only; no other thread can change them, for Wasm here has none.

use alloc::string::String;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use super::consts::*;
use super::fail::{Fail, Res, code, panic_with};
use super::params::{PARAMS_LEN_BYTES_MAX, Param, ParamOut, Params, ParamsOut};

/// The memory of the running instance.
pub struct Mem<'a>(pub &'a mut [u8]);

/// A `TEE_Attribute`, copied out of guest memory.
pub enum GuestAttribute {
    /// Buffer attribute.
    Buffer(u32, Zeroizing<Vec<u8>>),
    /// Value attribute.
    Value(u32, u32, u32),
}

impl Mem<'_> {
    fn range(&self, ptr: u32, len: u32) -> Res<core::ops::Range<usize>> {
        let (Ok(start), Ok(len)) = (usize::try_from(ptr), usize::try_from(len)) else {
            return panic_with(TEE_ERROR_ACCESS_DENIED);
        };
        match start.checked_add(len) {
            // A null pointer is never valid memory of the TA, although Wasm has an address 0.
            Some(end) if end <= self.0.len() && (ptr != 0 || len == 0) => Ok(start..end),
            _ => panic_with(TEE_ERROR_ACCESS_DENIED),
        }
    }

    /// Borrows `len` bytes at `ptr`.
    ///
    /// # Errors
    /// The TA panics if they are not its memory.
    pub fn bytes(&self, ptr: u32, len: u32) -> Res<&[u8]> {
        let range = self.range(ptr, len)?;
        self.0
            .get(range)
            .ok_or(Fail::Panic(TEE_ERROR_ACCESS_DENIED))
    }

    /// Copies `len` bytes at `ptr` out; wiped after use.
    ///
    /// # Errors
    /// The TA panics if they are not its memory.
    pub fn copy(&self, ptr: u32, len: u32) -> Res<Zeroizing<Vec<u8>>> {
        self.bytes(ptr, len)
            .map(|bytes| Zeroizing::new(bytes.to_vec()))
    }

    /// Writes `data` at `ptr`.
    ///
    /// # Errors
    /// The TA panics if that is not its memory.
    pub fn write(&mut self, ptr: u32, data: &[u8]) -> Res {
        let len = u32::try_from(data.len()).map_err(|_| Fail::Panic(TEE_ERROR_ACCESS_DENIED))?;
        let range = self.range(ptr, len)?;
        match self.0.get_mut(range) {
            Some(to) => {
                to.copy_from_slice(data);
                Ok(())
            }
            None => panic_with(TEE_ERROR_ACCESS_DENIED),
        }
    }

    /// Overwrites `len` bytes at `ptr`.
    ///
    /// # Errors
    /// The TA panics if they are not its memory.
    pub fn fill(&mut self, ptr: u32, len: u32, byte: u8) -> Res {
        let range = self.range(ptr, len)?;
        match self.0.get_mut(range) {
            Some(to) => {
                to.fill(byte);
                Ok(())
            }
            None => panic_with(TEE_ERROR_ACCESS_DENIED),
        }
    }

    /// Reads a `uint32_t`.
    ///
    /// # Errors
    /// The TA panics if that is not its memory.
    pub fn u32(&self, ptr: u32) -> Res<u32> {
        self.array::<4>(ptr).map(u32::from_le_bytes)
    }

    /// Writes a `uint32_t`.
    ///
    /// # Errors
    /// The TA panics if that is not its memory.
    pub fn put_u32(&mut self, ptr: u32, value: u32) -> Res {
        self.write(ptr, &value.to_le_bytes())
    }

    /// Reads `N` bytes.
    ///
    /// # Errors
    /// The TA panics if that is not its memory.
    pub fn array<const N: usize>(&self, ptr: u32) -> Res<[u8; N]> {
        let len = u32::try_from(N).map_err(|_| Fail::Panic(TEE_ERROR_ACCESS_DENIED))?;
        <[u8; N]>::try_from(self.bytes(ptr, len)?).map_err(|_| Fail::Panic(TEE_ERROR_ACCESS_DENIED))
    }

    /// Writes several `uint32_t` one after another: a C struct of them.
    ///
    /// # Errors
    /// The TA panics if that is not its memory.
    pub fn put_words(&mut self, ptr: u32, words: &[u32]) -> Res {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(ptr, &bytes)
    }

    /// Reads a NUL-terminated string of at most `max` bytes.
    ///
    /// # Errors
    /// The TA panics if it is not its memory, not terminated or not UTF-8.
    pub fn c_string(&self, ptr: u32, max: u32) -> Res<String> {
        let start = self.range(ptr, 1)?.start;
        let max = usize::try_from(max).map_err(|_| Fail::Panic(TEE_ERROR_BAD_PARAMETERS))?;
        let bytes: Vec<u8> = self
            .0
            .iter()
            .skip(start)
            .take(max)
            .copied()
            .take_while(|b| *b != 0)
            .collect();
        let terminated = self.0.get(start.saturating_add(bytes.len())) == Some(&0);
        match String::from_utf8(bytes) {
            Ok(text) if terminated => Ok(text),
            _ => panic_with(TEE_ERROR_BAD_PARAMETERS),
        }
    }

    /// GP's output buffer: writes `data` to `ptr` if the room at `*size_ptr` suffices, and in any
    /// case the needed size to `*size_ptr`.
    ///
    /// # Errors
    /// `TEE_ERROR_SHORT_BUFFER` if the room is too small.
    pub fn out_buffer(&mut self, ptr: u32, size_ptr: u32, data: &[u8]) -> Res {
        let room = self.out_room(ptr, size_ptr)?;
        let len = u32::try_from(data.len()).map_err(|_| Fail::Panic(TEE_ERROR_OVERFLOW))?;
        self.put_u32(size_ptr, len)?;
        if room < len {
            return code(TEE_ERROR_SHORT_BUFFER);
        }
        self.write(ptr, data)
    }

    /// Room of an output buffer in bytes; checked to be the TA's memory.
    ///
    /// # Errors
    /// The TA panics if it is not.
    pub fn out_room(&self, ptr: u32, size_ptr: u32) -> Res<u32> {
        let room = self.u32(size_ptr)?;
        if ptr == 0 {
            return Ok(0);
        }
        self.range(ptr, room)?;
        Ok(room)
    }

    /// Reads a `TEE_UUID` as 16 bytes in network order.
    ///
    /// # Errors
    /// The TA panics if that is not its memory.
    pub fn uuid(&self, ptr: u32) -> Res<[u8; 16]> {
        self.array::<16>(ptr).map(swap_uuid)
    }

    /// Reads `count` `TEE_Attribute`s.
    ///
    /// # Errors
    /// The TA panics if they are not its memory or too many.
    pub fn attributes(&self, ptr: u32, count: u32) -> Res<Vec<GuestAttribute>> {
        if count > ATTRIBUTES_MAX {
            return panic_with(TEE_ERROR_BAD_PARAMETERS);
        }
        let mut out = Vec::new();
        for index in 0..count {
            let at = ptr
                .checked_add(index.saturating_mul(12))
                .ok_or(Fail::Panic(TEE_ERROR_ACCESS_DENIED))?;
            let id = self.u32(at)?;
            let a = self.u32(at.saturating_add(4))?;
            let b = self.u32(at.saturating_add(8))?;
            out.push(if id & TEE_ATTR_FLAG_VALUE != 0 {
                GuestAttribute::Value(id, a, b)
            } else if b > ATTRIBUTE_LEN_MAX {
                return panic_with(TEE_ERROR_BAD_PARAMETERS);
            } else {
                GuestAttribute::Buffer(id, self.copy(a, b)?)
            });
        }
        Ok(out)
    }

    /// Reads the four `TEE_Param` of an outgoing call to another TA.
    ///
    /// # Errors
    /// The TA panics if they are not its memory, of no known type, or too large.
    pub fn params(&self, types: u32, ptr: u32) -> Res<Params> {
        if types >> 16 != 0 {
            return panic_with(TEE_ERROR_BAD_PARAMETERS);
        }
        let mut params = Params::default();
        let mut total = 0usize;
        for (index, slot) in (0u32..).zip(params.iter_mut()) {
            let kind = (types >> (4 * index)) & 0xF;
            if kind == TEE_PARAM_TYPE_NONE {
                continue;
            }
            let at = ptr.saturating_add(8 * index);
            let (a, b) = (self.u32(at)?, self.u32(at.saturating_add(4))?);
            *slot = match kind {
                TEE_PARAM_TYPE_VALUE_INPUT => Param::ValueInput { a, b },
                TEE_PARAM_TYPE_VALUE_OUTPUT => Param::ValueOutput,
                TEE_PARAM_TYPE_VALUE_INOUT => Param::ValueInout { a, b },
                TEE_PARAM_TYPE_MEMREF_INPUT
                | TEE_PARAM_TYPE_MEMREF_OUTPUT
                | TEE_PARAM_TYPE_MEMREF_INOUT => {
                    let buffer = self.bytes(a, b)?;
                    total = total.saturating_add(buffer.len());
                    if total > PARAMS_LEN_BYTES_MAX {
                        return panic_with(TEE_ERROR_OUT_OF_MEMORY);
                    }
                    match kind {
                        TEE_PARAM_TYPE_MEMREF_INPUT => Param::MemrefInput {
                            buffer: buffer.to_vec(),
                        },
                        TEE_PARAM_TYPE_MEMREF_OUTPUT => Param::MemrefOutput { size: b },
                        _ => Param::MemrefInout {
                            buffer: buffer.to_vec(),
                        },
                    }
                }
                _ => return panic_with(TEE_ERROR_BAD_PARAMETERS),
            };
        }
        Ok(params)
    }

    /// Writes what another TA answered back over the four `TEE_Param`.
    ///
    /// # Errors
    /// The TA panics if they are not its memory.
    pub fn put_params(&mut self, types: u32, ptr: u32, out: &ParamsOut) -> Res {
        for (index, param) in (0u32..).zip(out) {
            let kind = (types >> (4 * index)) & 0xF;
            let at = ptr.saturating_add(8 * index);
            match param {
                ParamOut::Value { a, b }
                    if matches!(
                        kind,
                        TEE_PARAM_TYPE_VALUE_OUTPUT | TEE_PARAM_TYPE_VALUE_INOUT
                    ) =>
                {
                    self.put_words(at, &[*a, *b])?;
                }
                ParamOut::Memref { buffer, size }
                    if matches!(
                        kind,
                        TEE_PARAM_TYPE_MEMREF_OUTPUT | TEE_PARAM_TYPE_MEMREF_INOUT
                    ) =>
                {
                    let (to, room) = (self.u32(at)?, self.u32(at.saturating_add(4))?);
                    if u32::try_from(buffer.len()).is_ok_and(|len| len <= room && len > 0) {
                        self.write(to, buffer)?;
                    }
                    self.put_u32(at.saturating_add(4), *size)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A UUID between network order and `TEE_UUID` in little-endian memory, either way.
#[must_use]
pub const fn swap_uuid(u: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = u;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

/// Most attributes in one call; no object type has more.
const ATTRIBUTES_MAX: u32 = 16;
/// Longest buffer attribute in bytes.
const ATTRIBUTE_LEN_MAX: u32 = 4096;
