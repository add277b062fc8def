//! The wall: the functions that programs call, with their pointers.
//!
//! All `unsafe` is below this module. What a pointer may be is the contract of PKCS#11 with its
//! caller: null, or valid for what the function says is there. Null is answered; the rest cannot
//! be checked by anybody.
//!
//! The state is one pointer to a [`Module`] that is never freed: a thread may still be in a function
//! while another one finalizes. After a fork the child finds the parent's and does not touch its
//! locks: it answers `CKR_CRYPTOKI_NOT_INITIALIZED` until `C_Initialize` makes another.
#![allow(unsafe_code)] // The wall to C.

mod functions;
mod lists;
mod memory;
mod unsupported;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, Ordering};

use cryptoki_sys as ck;

use crate::module::Module;
use crate::rv::{Result, rv};

pub use lists::{C_GetFunctionList, C_GetInterface, C_GetInterfaceList};

static CURRENT: AtomicPtr<Module> = AtomicPtr::new(std::ptr::null_mut());

/// Whatever process made it.
fn current() -> Option<&'static Module> {
    // SAFETY: the pointer is null or comes from `Box::leak` in `module_to_initialize`.
    unsafe { CURRENT.load(Ordering::Acquire).as_ref() }
}

/// This process's module.
fn module() -> Result<&'static Module> {
    current()
        .filter(|module| module.pid == std::process::id())
        .ok_or(rv!(CKR_CRYPTOKI_NOT_INITIALIZED))
}

/// This process's module, made if there is none. The parent's is left alone but for its
/// connections, which would be held open by this process otherwise.
fn module_to_initialize() -> &'static Module {
    let before = CURRENT.load(Ordering::Acquire);
    if let Ok(module) = module() {
        return module;
    }
    if let Some(parents) = current() {
        parents.abandon();
    }
    let made = Box::into_raw(Box::new(Module::new(std::process::id())));
    match CURRENT.compare_exchange(before, made, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: `made` was made above and is never freed once it is current.
        Ok(_) => unsafe { &*made },
        Err(theirs) => {
            // SAFETY: nobody else has seen `made`; what another thread stored is never freed.
            unsafe {
                drop(Box::from_raw(made));
                &*theirs
            }
        }
    }
}

/// Runs a function of the library: no panic leaves it.
///
/// A fault here is answered and not the end of the program that loaded this library: see the
/// condition at the top of the crate.
fn enter(work: impl FnOnce() -> Result<()>) -> ck::CK_RV {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => ck::CKR_OK,
        Ok(Err(rv)) => rv.0,
        Err(_) => ck::CKR_GENERAL_ERROR,
    }
}

/// A variable of the environment, unless the program has more rights than its caller.
fn environment(name: &str) -> Option<String> {
    // SAFETY: reads a word that the kernel left for the process.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return None;
    }
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
#[allow(clippy::panic)] // Tests.
mod tests {
    use super::*;

    #[test]
    fn no_panic_gets_out() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let rv = enter(|| panic!("a fault of ours"));
        std::panic::set_hook(hook);
        assert_eq!(rv, ck::CKR_GENERAL_ERROR);
    }
}
