//! GlobalPlatform TEE Client API 1.0 for C: the functions of `include/tee_client_api.h`.
//!
//! Purpose: a program written for another library with this API compiles and runs against the TEE
//! of Tegata unchanged. What the functions do is told in the header and in docs/ops/teec.md; this
//! crate turns C's structures into calls of [`tegata_client`] and back.
//!
//! Invariants: C holds handles, so a structure that was never initialized, or whose object has
//! ended, is refused and not followed. A panic ends at the boundary. Only memory that C names is
//! touched, and only within the call.
//!
//! Deliberately absent: sharing of memory; extensions of one implementation, such as memory by file
//! descriptor; TEEs other than those that listen on a socket.
//!
//! Not trusted by anybody: this runs in the client. The TEE believes nothing it says.
#![allow(unsafe_code)] // The wall to C: each use says why it is sound.
#![warn(missing_docs)]
// Other people's programs load this library: a fault of it must not end them.
#[cfg(not(panic = "unwind"))]
compile_error!("tegata-teec catches panics at its boundary: build it with panic = \"unwind\"");

mod abi;
mod memory;
mod params;
mod registry;
#[cfg(test)]
mod tests;

use std::ffi::{CStr, OsStr, c_char, c_void};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use tegata_client::codes::*;
use tegata_client::{Context, Error, Login, Operation, Origin, TaUuid};

pub use abi::*;
use memory::Block;
use params::{Given4, Refused};
use registry::{OpenSession, close, registry};

/// A code, and who says so.
type Failure = (TeecResult, Origin);

const BAD_PARAMETERS: Failure = (TEEC_ERROR_BAD_PARAMETERS, Origin::Api);

/// `TEEC_InitializeContext`. Spec: GP TEE Client API 1.0 section 4.5.2.
///
/// # Safety
/// `name` must be NULL or a string; `context` NULL or room for a `TEEC_Context`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TEEC_InitializeContext(
    name: *const c_char,
    context: *mut TeecContext,
) -> TeecResult {
    result(|| {
        check(context)?;
        // SAFETY: a string of C, by the contract.
        let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) });
        let found = Context::new(socket(name)?);
        // Whether there is a TEE is told here, as programs expect.
        found.info().map_err(|error| match &error {
            Error::Unreachable { source, .. }
                if matches!(
                    source.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory
                ) =>
            {
                (TEEC_ERROR_ITEM_NOT_FOUND, Origin::Comms)
            }
            _ => failure(error),
        })?;
        let handle = registry().add_context(found);
        // SAFETY: room for a context, by the contract.
        unsafe { context.write(context_of(handle)) };
        Ok(())
    })
}

/// `TEEC_FinalizeContext`. Spec: GP TEE Client API 1.0 section 4.5.3.
///
/// # Safety
/// `context` must be NULL or point to a `TEEC_Context`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TEEC_FinalizeContext(context: *mut TeecContext) {
    quiet(|| {
        // SAFETY: by the contract.
        let handle = unsafe { context_handle(context) }?;
        let sessions = registry().remove_context(handle);
        sessions.into_iter().for_each(close);
        // SAFETY: by the contract; it was read above.
        unsafe { context.write(TeecContext::default()) };
        Ok(())
    });
}

/// `TEEC_RegisterSharedMemory`. Spec: GP TEE Client API 1.0 section 4.5.4.
///
/// # Safety
/// Both must be NULL or good, and `buffer` good for `size` bytes until the block is released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TEEC_RegisterSharedMemory(
    context: *mut TeecContext,
    shared: *mut TeecSharedMemory,
) -> TeecResult {
    result(|| {
        // SAFETY: by the contract.
        let (handle, wanted) = unsafe { (context_handle(context)?, wanted_block(shared)?) };
        if wanted.buffer.is_null() {
            return Err(BAD_PARAMETERS);
        }
        let block = Block::registered(handle, wanted.buffer.cast(), wanted.size, wanted.flags);
        let mut registry = registry();
        if !registry.has_context(handle) {
            return Err(BAD_PARAMETERS);
        }
        let handle = registry.add_block(block);
        // SAFETY: by the contract.
        unsafe { (&raw mut (*shared).handle).write(handle) };
        Ok(())
    })
}

/// `TEEC_AllocateSharedMemory`. Spec: GP TEE Client API 1.0 section 4.5.4.
///
/// # Safety
/// Both must be NULL or good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TEEC_AllocateSharedMemory(
    context: *mut TeecContext,
    shared: *mut TeecSharedMemory,
) -> TeecResult {
    result(|| {
        // SAFETY: by the contract.
        let (handle, wanted) = unsafe { (context_handle(context)?, wanted_block(shared)?) };
        if !registry().has_context(handle) {
            return Err(BAD_PARAMETERS);
        }
        let block = Block::allocated(handle, wanted.size, wanted.flags)
            .ok_or((TEEC_ERROR_OUT_OF_MEMORY, Origin::Api))?;
        let start = block.start.0.cast::<c_void>();
        let handle = registry().add_block(block);
        // SAFETY: by the contract.
        unsafe {
            (&raw mut (*shared).buffer).write(start);
            (&raw mut (*shared).handle).write(handle);
        }
        Ok(())
    })
}

/// `TEEC_ReleaseSharedMemory`. Spec: GP TEE Client API 1.0 section 4.5.4.
///
/// # Safety
/// `shared` must be NULL or point to a `TEEC_SharedMemory`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TEEC_ReleaseSharedMemory(shared: *mut TeecSharedMemory) {
    quiet(|| {
        check(shared)?;
        // SAFETY: by the contract.
        let handle = unsafe { (&raw const (*shared).handle).read() };
        let block = registry().remove_block(handle).ok_or(BAD_PARAMETERS)?;
        // SAFETY: by the contract.
        unsafe {
            (&raw mut (*shared).handle).write(0);
            if block.is_ours() {
                (&raw mut (*shared).buffer).write(std::ptr::null_mut());
                (&raw mut (*shared).size).write(0);
            }
        }
        Ok(())
    });
}

/// `TEEC_OpenSession`. Spec: GP TEE Client API 1.0 section 4.5.5.
///
/// # Safety
/// Every pointer must be NULL or good; `connection_data` as the login has it; the operation as the
/// standard has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TEEC_OpenSession(
    context: *mut TeecContext,
    session: *mut TeecSession,
    destination: *const TeecUuid,
    connection_method: u32,
    connection_data: *const c_void,
    operation: *mut TeecOperation,
    return_origin: *mut u32,
) -> TeecResult {
    let open = || {
        check(session)?;
        // A session that could not be opened is none, whatever was here before.
        // SAFETY: room for a session, by the contract.
        unsafe { session.write(TeecSession::default()) };
        check(destination)?;
        // SAFETY: by the contract.
        let (handle, ta) = unsafe { (context_handle(context)?, destination.read()) };
        let found = registry().context(handle).ok_or(BAD_PARAMETERS)?;
        // SAFETY: by the contract.
        let login = unsafe { login(connection_method, connection_data) }?;
        let opened = |call: &mut Operation| found.open_session(&TaUuid(ta.bytes()), login, call);
        // SAFETY: by the contract.
        let opened = unsafe { run(operation, handle, opened) }?;
        let opened = OpenSession {
            session: opened,
            context: handle,
            process: std::process::id(),
        };
        let added = registry().add_session(opened);
        let handle = added.map_err(|_closed_here| BAD_PARAMETERS)?;
        // SAFETY: room for a session, by the contract.
        unsafe {
            session.write(TeecSession {
                handle,
                reserved: 0,
            })
        };
        Ok(())
    };
    // SAFETY: by the contract.
    unsafe { result_with_origin(return_origin, open) }
}

/// `TEEC_CloseSession`. Spec: GP TEE Client API 1.0 section 4.5.6.
///
/// # Safety
/// `session` must be NULL or point to a `TEEC_Session`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TEEC_CloseSession(session: *mut TeecSession) {
    quiet(|| {
        // SAFETY: by the contract.
        let handle = unsafe { session_handle(session) }?;
        let removed = registry().remove_session(handle);
        close(removed.ok_or(BAD_PARAMETERS)?);
        // SAFETY: by the contract; it was read above.
        unsafe { session.write(TeecSession::default()) };
        Ok(())
    });
}

/// `TEEC_InvokeCommand`. Spec: GP TEE Client API 1.0 section 4.5.7.
///
/// # Safety
/// Every pointer must be NULL or good; the operation as the standard has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TEEC_InvokeCommand(
    session: *mut TeecSession,
    command: u32,
    operation: *mut TeecOperation,
    return_origin: *mut u32,
) -> TeecResult {
    let invoke = || {
        // SAFETY: by the contract.
        let handle = unsafe { session_handle(session) }?;
        let found = registry().session(handle).ok_or(BAD_PARAMETERS)?;
        if found.process != std::process::id() {
            close(found);
            return Err((TEEC_ERROR_BAD_STATE, Origin::Api));
        }
        let invoke = |call: &mut Operation| found.session.invoke(command, call);
        // SAFETY: by the contract.
        unsafe { run(operation, found.context, invoke) }
    };
    // SAFETY: by the contract.
    unsafe { result_with_origin(return_origin, invoke) }
}

/// `TEEC_RequestCancellation`. Spec: GP TEE Client API 1.0 section 4.5.8.
///
/// # Safety
/// `operation` must be NULL or point to a `TEEC_Operation` whose `started` was set to 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TEEC_RequestCancellation(operation: *mut TeecOperation) {
    quiet(|| {
        check(operation)?;
        let registry = registry();
        let running = registry.cancellers(operation.addr());
        if running.is_empty() {
            // SAFETY: by the contract. The lock keeps it from beginning meanwhile.
            let _ = unsafe { started(operation) }.compare_exchange(
                0,
                CANCELLED_BEFORE,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
        }
        drop(registry);
        for canceller in running {
            canceller.cancel();
        }
        Ok(())
    });
}

/// Makes a call with C's operation, and brings back what came of it.
///
/// # Safety
/// `operation` must be NULL or as the standard has it.
unsafe fn run<T>(
    operation: *mut TeecOperation,
    context: u64,
    call: impl FnOnce(&mut Operation) -> Result<T, Error>,
) -> Result<T, Failure> {
    if operation.is_null() {
        return call(&mut Operation::empty()).map_err(failure);
    }
    check(operation)?;
    // SAFETY: by the contract.
    let given = unsafe { Given4::read(operation, context) }.map_err(|refused| match refused {
        Refused::Bad => BAD_PARAMETERS,
        Refused::TooMuch => (TEEC_ERROR_EXCESS_DATA, Origin::Api),
    })?;
    // SAFETY: by the contract.
    let mut to_make = unsafe { given.operation(operation) };
    let running = {
        let mut registry = registry();
        // SAFETY: by the contract.
        let before = unsafe { started(operation) }.swap(STARTED, Ordering::AcqRel);
        if before == CANCELLED_BEFORE {
            return Err((TEEC_ERROR_CANCEL, Origin::Api));
        }
        Begun(registry.begin(operation.addr(), to_make.canceller()))
    };
    let made = call(&mut to_make);
    drop(running);
    // SAFETY: by the contract.
    unsafe { given.write_back(operation, &to_make) };
    made.map_err(failure)
}

/// A call that runs; it has ended when this is dropped, even by a panic.
struct Begun(u64);

impl Drop for Begun {
    fn drop(&mut self) {
        registry().end(self.0);
    }
}

/// The `started` member of an operation, which two threads may use at once.
///
/// # Safety
/// `operation` must be good, and stay so while the result is used.
unsafe fn started<'a>(operation: *mut TeecOperation) -> &'a AtomicU32 {
    // SAFETY: aligned as the operation is; C itself does not touch it meanwhile.
    unsafe { AtomicU32::from_ptr(&raw mut (*operation).started) }
}

/// Where the TEE listens.
fn socket(name: Option<&CStr>) -> Result<PathBuf, Failure> {
    if let Some(name) = name {
        let path = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
        // Names of TEEs that are not ours have no slash.
        return if name.to_bytes().contains(&b'/') {
            Ok(path)
        } else {
            Err((TEEC_ERROR_ITEM_NOT_FOUND, Origin::Api))
        };
    }
    // SAFETY: asks the kernel's table for a number.
    let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    let named = std::env::var_os(SOCKET_VARIABLE).filter(|path| !secure && !path.is_empty());
    Ok(named.map_or_else(|| SOCKET_DEFAULT.into(), PathBuf::from))
}

/// The login that C names.
///
/// # Safety
/// `data` must be NULL or, for logins by group, point to a `uint32_t`.
unsafe fn login(method: u32, data: *const c_void) -> Result<Login, Failure> {
    let group = || {
        if data.is_null() {
            return Err(BAD_PARAMETERS);
        }
        // SAFETY: by the contract.
        Ok(unsafe { data.cast::<u32>().read_unaligned() })
    };
    let login = match method {
        LOGIN_GROUP => return Ok(Login::Group { gid: group()? }),
        LOGIN_GROUP_APPLICATION => return Ok(Login::GroupApplication { gid: group()? }),
        LOGIN_PUBLIC => Login::Public,
        LOGIN_USER => Login::User,
        LOGIN_APPLICATION => Login::Application,
        LOGIN_USER_APPLICATION => Login::UserApplication,
        _ => return Err(BAD_PARAMETERS),
    };
    if data.is_null() {
        Ok(login)
    } else {
        Err(BAD_PARAMETERS)
    }
}

/// A structure that can be there at all.
fn check<T>(pointer: *const T) -> Result<(), Failure> {
    if pointer.is_null() || !pointer.is_aligned() {
        Err(BAD_PARAMETERS)
    } else {
        Ok(())
    }
}

/// # Safety
/// `context` must be NULL or good.
unsafe fn context_handle(context: *const TeecContext) -> Result<u64, Failure> {
    check(context)?;
    // SAFETY: by the contract.
    let [low, high] = unsafe { context.read() }.handle;
    Ok(u64::from(high) << 32 | u64::from(low))
}

fn context_of(handle: u64) -> TeecContext {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
    TeecContext {
        handle: [half(handle), half(handle >> 32)],
    }
}

/// # Safety
/// `session` must be NULL or good.
unsafe fn session_handle(session: *const TeecSession) -> Result<u64, Failure> {
    check(session)?;
    // SAFETY: by the contract.
    Ok(unsafe { session.read() }.handle)
}

/// What C sets of a block before it becomes one.
struct Wanted {
    buffer: *mut c_void,
    size: usize,
    flags: u32,
}

/// # Safety
/// `shared` must be NULL or good.
unsafe fn wanted_block(shared: *const TeecSharedMemory) -> Result<Wanted, Failure> {
    check(shared)?;
    // SAFETY: by the contract. The other members may be uninitialized and are not read.
    let wanted = unsafe {
        Wanted {
            buffer: (&raw const (*shared).buffer).read(),
            size: (&raw const (*shared).size).read(),
            flags: (&raw const (*shared).flags).read(),
        }
    };
    if wanted.flags == 0 || wanted.flags & !(MEM_INPUT | MEM_OUTPUT) != 0 {
        return Err(BAD_PARAMETERS);
    }
    Ok(wanted)
}

fn failure(error: Error) -> Failure {
    (error.code(), error.origin())
}

/// Runs a function of C; no panic gets out.
fn walled<T>(function: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(function)).unwrap_or(Err((TEEC_ERROR_GENERIC, Origin::Api)))
}

fn result(function: impl FnOnce() -> Result<(), Failure>) -> TeecResult {
    walled(function).map_or_else(|(code, _)| code, |()| TEEC_SUCCESS)
}

/// For functions that return nothing: what cannot be done is not done.
fn quiet(function: impl FnOnce() -> Result<(), Failure>) {
    let _ = walled(function);
}

/// # Safety
/// `origin` must be NULL or room for a number.
unsafe fn result_with_origin(
    origin: *mut u32,
    function: impl FnOnce() -> Result<(), Failure>,
) -> TeecResult {
    let (code, who) = match walled(function) {
        Ok(()) => (TEEC_SUCCESS, Origin::TrustedApp),
        Err(failure) => failure,
    };
    if !origin.is_null() {
        // SAFETY: by the contract.
        unsafe { origin.write_unaligned(who.number()) };
    }
    code
}

/// Names the TEE of this machine.
const SOCKET_VARIABLE: &str = "TEGATA_TEED_SOCKET";
const SOCKET_DEFAULT: &str = "/run/tegata/teed.sock";
