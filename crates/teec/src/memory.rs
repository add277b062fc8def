//! Blocks of memory, and the copies between C's memory and ours.
//!
//! Invariants: no reference to C's memory is ever made, since another thread of C may write to it
//! at any time; bytes are copied. What C says about a block is believed when it is registered and
//! not again.

use std::alloc::{Layout, alloc_zeroed, dealloc};

/// A block that C registered, or that we allocated.
pub struct Block {
    /// The context it belongs to.
    pub context: u64,
    /// Its start.
    pub start: Pointer,
    /// Bytes.
    pub size: usize,
    /// Directions, `TEEC_MEM_*`.
    pub flags: u32,
    /// How to free it, if it is ours.
    layout: Option<Layout>,
}

/// An address in C's memory.
#[derive(Clone, Copy)]
pub struct Pointer(pub *mut u8);

// SAFETY: an address may be known to any thread. Bytes are copied at it only within a call that
// was given it; the standard has C keep the memory until then.
unsafe impl Send for Pointer {}
// SAFETY: as above.
unsafe impl Sync for Pointer {}

impl Block {
    /// C's own memory.
    pub fn registered(context: u64, start: *mut u8, size: usize, flags: u32) -> Self {
        Self {
            context,
            start: Pointer(start),
            size,
            flags,
            layout: None,
        }
    }

    /// New memory, zeroed, aligned for anything; `None` if there is not so much. For nothing at
    /// all there is an address too.
    pub fn allocated(context: u64, size: usize, flags: u32) -> Option<Self> {
        let layout = Layout::from_size_align(size.max(1), ALIGN).ok()?;
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        (!start.is_null()).then_some(Self {
            context,
            start: Pointer(start),
            size,
            flags,
            layout: Some(layout),
        })
    }

    /// True if the memory is ours.
    pub const fn is_ours(&self) -> bool {
        self.layout.is_some()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(layout) = self.layout {
            // SAFETY: `start` came from `alloc_zeroed` with this layout and is freed here only.
            unsafe { dealloc(self.start.0, layout) };
        }
    }
}

impl Pointer {
    /// The address `offset` bytes further.
    pub fn add(self, offset: usize) -> Self {
        Self(self.0.wrapping_add(offset))
    }

    /// Copies bytes of C.
    ///
    /// # Safety
    /// C must have `len` readable bytes here.
    pub unsafe fn read(self, len: usize) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::with_capacity(len);
        if len > 0 {
            // SAFETY: the caller vouches for the source; the vector has room for `len` bytes, which
            // are all written before its length says so.
            unsafe {
                std::ptr::copy_nonoverlapping(self.0, out.as_mut_ptr(), len);
                out.set_len(len);
            }
        }
        out
    }

    /// Copies bytes to C.
    ///
    /// # Safety
    /// C must have room for them here.
    pub unsafe fn write(self, bytes: &[u8]) {
        if !bytes.is_empty() {
            // SAFETY: the caller vouches for the target; ours cannot overlap it.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0, bytes.len()) };
        }
    }
}

/// What C's `malloc` gives on every machine of ours.
const ALIGN: usize = 16;
