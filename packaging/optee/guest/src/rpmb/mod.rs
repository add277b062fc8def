//! `libtegata_rpmb.so`, preloaded into tee-supplicant: an emulated RPMB that survives a power cycle.
//!
//! Purpose: Debian's tee-supplicant emulates an RPMB in its own memory, which a power cycle empties;
//! then nothing about rollback could be shown. This stands between the supplicant and the kernel,
//! answers the requests for the RPMB from a file (`TEGATA_RPMB`) and passes everything else on.
//! Absent: other devices than number 0. Trust: as `device`: it shows that the TEE uses an RPMB
//! rightly, not that a REE could not cheat this one.
//!
//! Spec: Linux include/uapi/linux/tee.h; OP-TEE core/include/optee_rpc_cmd.h (OPTEE_RPC_CMD_RPMB).

mod device;

use std::collections::HashMap;
use std::ffi::{c_int, c_ulong, c_void};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use device::{Device, FRAME};

/// Requests of the kernel's TEE interface.
const SHM_ALLOC: c_ulong = 0xc010_a401;
const SUPPL_RECV: c_ulong = 0x8010_a406;
const SUPPL_SEND: c_ulong = 0x8010_a407;
const SHM_REGISTER: c_ulong = 0xc018_a409;

/// The RPC that asks for the RPMB.
const FUNC_RPMB: u32 = 1;
/// Attributes of a parameter: its kind, and whether it is about the message itself.
const KIND: u64 = 0xff;
const META: u64 = 0x100;
/// Kinds that name memory.
const MEMREF_IN: u64 = 5;
const MEMREF_INOUT: u64 = 7;
/// Commands in the head of a request.
const DATA_REQUEST: u16 = 0;
const DEVICE_INFO: u16 = 1;
/// Bytes of that head: command, device, number of frames in the answer.
const HEAD: usize = 6;
/// What the TEE is told.
const SUCCESS: u32 = 0;
const BAD_PARAMETERS: u32 = 0xffff_0006;
const SHORT_BUFFER: u32 = 0xffff_0010;
const GENERIC: u32 = 0xffff_0000;

/// `struct tee_ioctl_buf_data`.
#[repr(C)]
struct Buffer {
    at: u64,
    len: u64,
}

/// `struct tee_iocl_supp_recv_arg`, and `..._send_arg`, whose first word is the result.
#[repr(C)]
struct Message {
    word: u32,
    params: u32,
}

/// `struct tee_ioctl_param`; for memory: offset, size, identifier.
#[repr(C)]
#[derive(Clone, Copy)]
struct Param {
    attr: u64,
    a: u64,
    b: u64,
    c: u64,
}

/// Memory shared with the TEE, by identifier: address and length here.
static SHARED: Mutex<Option<HashMap<u64, (usize, usize)>>> = Mutex::new(None);
/// The emulated partition, opened at its first use.
static DEVICE: Mutex<Option<Device>> = Mutex::new(None);

/// In place of the C library's `ioctl`, for this program.
///
/// # Safety
/// As `ioctl`: `arg` is what `request` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int {
    // The C library widens requests above 2^31 with their sign.
    let request = request & 0xffff_ffff;
    // What the supplicant can take stands in the very buffer that a request overwrites.
    // SAFETY: `arg` is what this request says.
    let asked = (request == SUPPL_RECV).then(|| unsafe { copy(arg) });
    loop {
        if let Some((at, bytes)) = &asked {
            // SAFETY: the buffer that was copied, which is still the caller's to fill.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), *at, bytes.len()) };
        }
        // SAFETY: passed on as it came.
        let result = unsafe { libc::syscall(libc::SYS_ioctl, fd, request, arg) };
        let result = c_int::try_from(result).unwrap_or(-1);
        if result < 0 {
            return result;
        }
        match request {
            // SAFETY: the kernel accepted `arg` as the structure of this request.
            SHM_ALLOC => unsafe { allocated(result, arg) },
            // SAFETY: the same.
            SHM_REGISTER => unsafe { registered(arg) },
            // Answered here: the supplicant waits on for what is its own.
            // SAFETY: the same; the kernel has filled it.
            SUPPL_RECV if unsafe { received(fd, arg) } => continue,
            _ => {}
        }
        return result;
    }
}

/// The buffer of a request as the caller gave it.
unsafe fn copy(arg: *mut c_void) -> (*mut u8, Vec<u8>) {
    // SAFETY: struct tee_ioctl_buf_data, whose buffer is the caller's.
    unsafe {
        let buffer = &*arg.cast::<Buffer>();
        let at = buffer.at as *mut u8;
        let bytes = std::slice::from_raw_parts(at, buffer.len as usize);
        (at, bytes.to_vec())
    }
}

/// Remembers memory that the kernel made: mapped here a second time, for as long as we run.
unsafe fn allocated(memory: c_int, arg: *mut c_void) {
    // SAFETY: struct tee_ioctl_shm_alloc_data begins with its size and has the identifier behind
    // the flags.
    let (len, id) = unsafe {
        let data = arg.cast::<u64>();
        (*data, *arg.cast::<i32>().add(3))
    };
    let Ok(len) = usize::try_from(len) else {
        return;
    };
    // SAFETY: a new mapping of memory the kernel just gave out.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            memory,
            0,
        )
    };
    if at != libc::MAP_FAILED {
        remember(id, at as usize, len);
    }
}

/// Remembers memory of the supplicant that it shared.
unsafe fn registered(arg: *mut c_void) {
    // SAFETY: struct tee_ioctl_shm_register_data: address, length, flags, identifier.
    let (at, len, id) = unsafe {
        let data = arg.cast::<u64>();
        (*data, *data.add(1), *arg.cast::<i32>().add(5))
    };
    if let (Ok(at), Ok(len)) = (usize::try_from(at), usize::try_from(len)) {
        remember(id, at, len);
    }
}

fn remember(id: i32, at: usize, len: usize) {
    if let Ok(id) = u64::try_from(id) {
        held(&SHARED)
            .get_or_insert_with(HashMap::new)
            .insert(id, (at, len));
    }
}

/// Answers a request for the RPMB; whether it was one.
unsafe fn received(fd: c_int, arg: *mut c_void) -> bool {
    // SAFETY: struct tee_ioctl_buf_data, which points at a message with its parameters.
    let (message, params) = unsafe {
        let buffer = &*arg.cast::<Buffer>();
        let message = buffer.at as *mut Message;
        let count = (*message).params as usize;
        if buffer.len < (size_of::<Message>() + count * size_of::<Param>()) as u64 {
            return false;
        }
        let first = message.add(1).cast::<Param>();
        (message, std::slice::from_raw_parts_mut(first, count))
    };
    // SAFETY: as above.
    if unsafe { (*message).word } != FUNC_RPMB {
        return false;
    }
    let mut memory = params
        .iter_mut()
        .filter(|p| p.attr & META == 0 && (MEMREF_IN..=MEMREF_INOUT).contains(&(p.attr & KIND)));
    let word = match (memory.next(), memory.next()) {
        (Some(request), Some(answer)) => execute(request, answer),
        _ => BAD_PARAMETERS,
    };
    // SAFETY: the message goes back with its result in the place of the function.
    unsafe {
        (*message).word = word;
        libc::syscall(libc::SYS_ioctl, fd, SUPPL_SEND, arg);
    }
    true
}

/// Does what the request says and fills the answer.
fn execute(request: &Param, answer: &mut Param) -> u32 {
    let (Some(from), Some(to)) = (place(request), place(answer)) else {
        return BAD_PARAMETERS;
    };
    // SAFETY: `place` checked both against memory that is mapped as long as we run; the TEE waits.
    let (from, to) = unsafe {
        (
            std::slice::from_raw_parts(from.0 as *const u8, from.1),
            std::slice::from_raw_parts_mut(to.0 as *mut u8, to.1),
        )
    };
    let Some((head, frames)) = from.split_at_checked(HEAD) else {
        return BAD_PARAMETERS;
    };
    let word = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let made = match word(0) {
        DATA_REQUEST => {
            let mut device = held(&DEVICE);
            if device.is_none() {
                let path = std::env::var_os("TEGATA_RPMB").unwrap_or("/var/lib/tee/rpmb".into());
                *device = Device::open(Path::new(&path)).ok();
            }
            let answers = usize::from(word(4)).max(1).min(to.len() / FRAME);
            let made = device.as_mut().map(|d| d.process(frames, answers));
            match made {
                Some(Ok(made)) => made,
                Some(Err(error)) => {
                    eprintln!("rpmb: {error}");
                    return GENERIC;
                }
                None => return GENERIC,
            }
        }
        DEVICE_INFO => Device::info().to_vec(),
        _ => return BAD_PARAMETERS,
    };
    let Some(to) = to.get_mut(..made.len()) else {
        return SHORT_BUFFER;
    };
    to.copy_from_slice(&made);
    SUCCESS
}

/// Address and length of what a parameter names, if it lies in memory that was shared.
fn place(param: &Param) -> Option<(usize, usize)> {
    let (at, len) = *held(&SHARED).as_ref()?.get(&param.c)?;
    let (offset, size) = (
        usize::try_from(param.a).ok()?,
        usize::try_from(param.b).ok()?,
    );
    let end = offset.checked_add(size)?;
    (end <= len).then_some((at + offset, size))
}

/// The lock, whoever held it before.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
