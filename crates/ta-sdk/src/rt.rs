//! The runtime of a TA: allocator, panic handler, entry points.
#![allow(unsafe_code)] // Exports with pointers; each block says why it is sound.

use alloc::alloc::{Layout, alloc, dealloc};
use alloc::boxed::Box;

use crate::consts::*;
use crate::params::Parameters;
use crate::sys;
use crate::{Identity, Result};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// A Rust panic is a GP panic.
#[panic_handler]
fn panicked(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the import takes a number and does not return.
    unsafe { sys::TEE_Panic(TEE_ERROR_GENERIC) };
    core::arch::wasm32::unreachable()
}

/// A Trusted Application: one value for each session.
pub trait TrustedApp: Sized {
    /// `TA_CreateEntryPoint`.
    ///
    /// # Errors
    /// Any error keeps the instance from starting.
    fn create() -> Result<()> {
        Ok(())
    }

    /// `TA_OpenSessionEntryPoint`: a client opens a session; the TEE says who it is.
    ///
    /// # Errors
    /// Any error refuses the session.
    fn open_session(client: Identity, params: &mut Parameters) -> Result<Self>;

    /// `TA_InvokeCommandEntryPoint`.
    ///
    /// # Errors
    /// The return code that the client sees.
    fn invoke(&mut self, command: u32, params: &mut Parameters) -> Result<()>;
}

const HEADER: usize = 8;

/// Memory for the host to put parameters in: 8-byte aligned, 0 if there is none.
#[must_use]
pub fn gp_alloc(len: u32) -> *mut u8 {
    let Some(total) = usize::try_from(len)
        .ok()
        .and_then(|len| len.checked_add(HEADER))
    else {
        return core::ptr::null_mut();
    };
    let Ok(layout) = Layout::from_size_align(total, HEADER) else {
        return core::ptr::null_mut();
    };
    // SAFETY: the layout has a size above zero; the header is inside the allocation and aligned.
    unsafe {
        let start = alloc(layout);
        if start.is_null() {
            return start;
        }
        start.cast::<usize>().write(total);
        start.add(HEADER)
    }
}

/// Gives memory of [`gp_alloc`] back.
///
/// # Safety
/// `ptr` came from [`gp_alloc`] and was not given back yet.
pub unsafe fn gp_free(ptr: *mut u8) {
    if ptr.is_null() {
        return;
    }
    // SAFETY: by the contract of this function the header stands before `ptr`, with the size that
    // the allocation was made with.
    unsafe {
        let start = ptr.sub(HEADER);
        let total = start.cast::<usize>().read();
        dealloc(start, Layout::from_size_align_unchecked(total, HEADER));
    }
}

/// A result as a return code.
#[must_use]
pub const fn code(result: &Result<()>) -> u32 {
    match result {
        Ok(()) => TEE_SUCCESS,
        Err(error) => error.0,
    }
}

/// `TA_OpenSessionEntryPoint` for `T`.
///
/// # Safety
/// Called by the TEE: `params` is four parameters of `types`, `context` a place for a pointer.
pub unsafe fn open_session<T: TrustedApp>(
    types: u32,
    params: *mut sys::TEE_Param,
    context: *mut *mut T,
) -> u32 {
    // SAFETY: by the contract of this function.
    let mut params = unsafe { Parameters::new(types, params) };
    let opened =
        crate::property::client_identity().and_then(|client| T::open_session(client, &mut params));
    match opened {
        Ok(session) => {
            // SAFETY: by the contract of this function.
            unsafe { context.write(Box::into_raw(Box::new(session))) };
            TEE_SUCCESS
        }
        Err(error) => error.0,
    }
}

/// `TA_InvokeCommandEntryPoint` for `T`.
///
/// # Safety
/// Called by the TEE: `session` is what [`open_session`] gave out and was not closed; `params` is
/// four parameters of `types`. Entry points of an instance never overlap.
pub unsafe fn invoke<T: TrustedApp>(
    session: *mut T,
    command: u32,
    types: u32,
    params: *mut sys::TEE_Param,
) -> u32 {
    // SAFETY: by the contract of this function.
    let (session, mut params) = unsafe { (&mut *session, Parameters::new(types, params)) };
    code(&session.invoke(command, &mut params))
}

/// `TA_CloseSessionEntryPoint` for `T`.
///
/// # Safety
/// Called by the TEE, once for each session that [`open_session`] gave out.
pub unsafe fn close_session<T: TrustedApp>(session: *mut T) {
    // SAFETY: by the contract of this function.
    drop(unsafe { Box::from_raw(session) });
}

/// Makes a type the TA of this module, with its properties (docs/spec/ta-module.md).
///
/// ```ignore
/// tegata_ta_sdk::trusted_app!(Enrol, "gpd.ta.singleInstance = true\ngpd.ta.version = 1.0.0\n");
/// ```
#[macro_export]
macro_rules! trusted_app {
    ($ta:ty, $properties:expr) => {
        const _: () = {
            const TEXT: &str = $properties;
            #[used]
            #[unsafe(link_section = "tegata.ta")]
            static PROPERTIES: [u8; TEXT.len()] = {
                let mut bytes = [0; TEXT.len()];
                let mut at = 0;
                while at < bytes.len() {
                    bytes[at] = TEXT.as_bytes()[at];
                    at += 1;
                }
                bytes
            };

            #[unsafe(no_mangle)]
            extern "C" fn TA_CreateEntryPoint() -> u32 {
                $crate::rt::code(&<$ta as $crate::rt::TrustedApp>::create())
            }
            #[unsafe(no_mangle)]
            extern "C" fn TA_DestroyEntryPoint() {}
            #[unsafe(no_mangle)]
            unsafe extern "C" fn TA_OpenSessionEntryPoint(
                types: u32,
                params: *mut $crate::sys::TEE_Param,
                context: *mut *mut $ta,
            ) -> u32 {
                unsafe { $crate::rt::open_session::<$ta>(types, params, context) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn TA_CloseSessionEntryPoint(session: *mut $ta) {
                unsafe { $crate::rt::close_session::<$ta>(session) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn TA_InvokeCommandEntryPoint(
                session: *mut $ta,
                command: u32,
                types: u32,
                params: *mut $crate::sys::TEE_Param,
            ) -> u32 {
                unsafe { $crate::rt::invoke::<$ta>(session, command, types, params) }
            }
            #[unsafe(no_mangle)]
            extern "C" fn gp_alloc(len: u32) -> *mut u8 {
                $crate::rt::gp_alloc(len)
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn gp_free(ptr: *mut u8) {
                unsafe { $crate::rt::gp_free(ptr) }
            }
        };
    };
}
