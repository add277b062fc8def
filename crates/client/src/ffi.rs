//! The wall to OP-TEE's client library: the only unsafe code of this crate.
//!
//! Why not the safe wrapper of the OP-TEE SDK: it hands no group to `TEEC_OpenSession` and cannot
//! cancel.
//!
//! Invariants: context and session lie at one address for as long as the library knows them; an
//! operation lives until its call has returned and nobody can cancel it any more; the library gets
//! a pointer to our memory only for the time of one call.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::ptr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use optee_teec_sys as sys;
use tegata_wire::ids::TaUuid;
use tegata_wire::rpc::{Login, OPTEE_HOST_UUID, OPTEE_TEE_UUID};

use crate::connection::image::{Image, ImageError, mend_open, mend_reach};
use crate::connection::{FileId, Purpose};
use crate::error::{Error, Origin};
use crate::operation::Canceller;

/// A session with one of our images, and the context it needs.
pub(crate) struct TeecSession {
    /// From `Box::into_raw`: the library keeps its address inside the session.
    context: *mut sys::TEEC_Context,
    /// From `Box::into_raw`: the library keeps its address inside operations.
    session: *mut sys::TEEC_Session,
    /// False once it is not ours to close.
    ours: bool,
    /// Which file the context's descriptor meant when it was made.
    file: Option<FileId>,
}

// SAFETY: the library is not bound to threads: both structures are plain data and a file
// descriptor. `&mut self` of every method keeps two threads from using one session at once, but
// for cancellation, which the library makes safe by its own lock.
unsafe impl Send for TeecSession {}

impl TeecSession {
    /// Opens a session with the image that serves this purpose.
    pub(crate) fn open(purpose: Purpose) -> Result<Self, Error> {
        let (image, login, gid) = match purpose {
            // As who we are: what is for the TEEP Broker alone, the core answers to root alone.
            Purpose::Control => (OPTEE_TEE_UUID, Login::User, None),
            Purpose::Session(login @ (Login::Public | Login::User)) => {
                (OPTEE_HOST_UUID, login, None)
            }
            Purpose::Session(login @ Login::Group { gid }) => (OPTEE_HOST_UUID, login, Some(gid)),
            // Stock Linux knows no such identity: it would fail there with less to say.
            Purpose::Session(other) => {
                return Err(Error::LoginUnsupported {
                    login: other.number(),
                });
            }
        };
        let context = Context::open()?;
        let session = Box::into_raw(Box::new(sys::TEEC_Session {
            imp: sys::TEEC_Session__Imp {
                ctx: ptr::null_mut(),
                session_id: 0,
            },
        }));
        let uuid = uuid(&image);
        let data = gid
            .as_ref()
            .map_or(ptr::null(), |gid| ptr::from_ref(gid).cast());
        let mut origin = 0;
        // SAFETY: context and session are valid and stay where they are; `uuid` and the group's
        // number outlive the call; no operation is handed over.
        let code = unsafe {
            sys::TEEC_OpenSession(
                context.0,
                session,
                &uuid,
                login.number(),
                data,
                ptr::null_mut(),
                &mut origin,
            )
        };
        if code != sys::TEEC_SUCCESS {
            // SAFETY: it comes from `Box::into_raw` above, and the library does not keep the
            // session of an open that failed.
            drop(unsafe { Box::from_raw(session) });
            return Err(Error::OpTee {
                doing: "opening a session with the TEE's image in OP-TEE",
                code,
                origin: Origin::from_number(origin),
                mend: mend_open(code, &image.to_string()),
            });
        }
        let file = context.file();
        Ok(Self {
            context: context.keep(),
            session,
            ours: true,
            file,
        })
    }
}

impl Drop for TeecSession {
    fn drop(&mut self) {
        // SAFETY: the session is open, is closed here and nowhere else, and before its context;
        // both pointers come from `Box::into_raw`. One that is not ours to close is closed by the
        // kernel, when the last process that holds the context's file has let go of it.
        unsafe {
            if self.ours {
                sys::TEEC_CloseSession(self.session);
            }
            drop(Box::from_raw(self.session));
        }
        let context = Context(self.context);
        if self.ours || (self.file.is_some() && context.file() == self.file) {
            drop(context);
        } else {
            // Somebody closed the context's descriptor, as programs do after a fork, and its
            // number means another file now. To finalize the context would close that one.
            // SAFETY: it comes from `Box::into_raw`, and nobody uses it any more.
            drop(unsafe { Box::from_raw(context.keep()) });
        }
    }
}

/// A context that is finalized when it is dropped.
struct Context(*mut sys::TEEC_Context);

impl Context {
    fn open() -> Result<Self, Error> {
        let context = Box::into_raw(Box::new(sys::TEEC_Context {
            imp: sys::TEEC_Context__Imp {
                fd: -1,
                reg_mem: false,
                memref_null: false,
            },
        }));
        // SAFETY: no name means any TEE; the context is valid for writing.
        let code = unsafe { sys::TEEC_InitializeContext(ptr::null(), context) };
        if code == sys::TEEC_SUCCESS {
            return Ok(Self(context));
        }
        // SAFETY: it comes from `Box::into_raw` above, and was not initialized.
        drop(unsafe { Box::from_raw(context) });
        Err(Error::OpTee {
            doing: "reaching OP-TEE",
            code,
            origin: Origin::Api,
            mend: mend_reach(Path::new(DEVICE)),
        })
    }

    /// Which file the library's descriptor means; `None` if it is closed.
    fn file(&self) -> Option<FileId> {
        // SAFETY: the context was initialized; its descriptor is looked at, no more.
        FileId::of(unsafe { BorrowedFd::borrow_raw((*self.0).imp.fd) })
    }

    /// The pointer, which the caller now has to finalize.
    fn keep(self) -> *mut sys::TEEC_Context {
        let context = self.0;
        std::mem::forget(self);
        context
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was initialized, comes from `Box::into_raw`, and has no sessions any more.
        unsafe {
            sys::TEEC_FinalizeContext(self.0);
            drop(Box::from_raw(self.0));
        }
    }
}

/// An operation that the library may be working on.
#[derive(Clone, Copy)]
struct Running(*mut sys::TEEC_Operation);

// SAFETY: only `cancel` uses it in another thread, which is what the library allows.
unsafe impl Send for Running {}
// SAFETY: as above.
unsafe impl Sync for Running {}

impl Running {
    /// `TEEC_RequestCancellation`.
    fn cancel(&self) {
        // SAFETY: the operation lives: whoever holds this is waited for (`Canceller::finish`, the
        // end of the scope) before it is freed. The library reads it under its own lock.
        unsafe { sys::TEEC_RequestCancellation(self.0) }
    }
}

impl Image for TeecSession {
    fn let_go(&mut self) {
        self.ours = false;
    }

    fn invoke(
        &mut self,
        command: u32,
        input: Option<&[u8]>,
        room: &mut [u8],
        timeout: Duration,
        canceller: &Canceller,
    ) -> Result<usize, ImageError> {
        let none = sys::TEEC_Parameter {
            value: sys::TEEC_Value { a: 0, b: 0 },
        };
        let memory = |buffer: *mut u8, size| sys::TEEC_Parameter {
            tmpref: sys::TEEC_TempMemoryReference {
                buffer: buffer.cast(),
                size,
            },
        };
        let kind = input.map_or(sys::TEEC_NONE, |_| sys::TEEC_MEMREF_TEMP_INPUT);
        let operation = Box::into_raw(Box::new(sys::TEEC_Operation {
            started: 0,
            paramTypes: sys::TEEC_PARAM_TYPES(
                kind,
                sys::TEEC_MEMREF_TEMP_OUTPUT,
                sys::TEEC_NONE,
                sys::TEEC_NONE,
            ),
            params: [
                // The library only reads what is typed as input.
                input.map_or(none, |bytes| memory(bytes.as_ptr().cast_mut(), bytes.len())),
                memory(room.as_mut_ptr(), room.len()),
                none,
                none,
            ],
            imp: sys::TEEC_Operation__Imp {
                session: ptr::null_mut(),
            },
        }));
        let running = Running(operation);
        let begun = canceller.start(|| Ok(((), Box::new(move || running.cancel()))));
        let result = match begun {
            Err(_) => Err(ImageError::Cancelled),
            Ok(()) => {
                let session = self.session;
                let (returned, expired) = watched(running, timeout, || {
                    let mut origin = 0;
                    // SAFETY: session and operation are valid; the memory that the operation
                    // refers to is borrowed by this function for the time of the call.
                    let code = unsafe {
                        sys::TEEC_InvokeCommand(session, command, operation, &mut origin)
                    };
                    (code, origin)
                });
                canceller.finish();
                Ok((returned, expired))
            }
        };
        // SAFETY: it comes from `Box::into_raw` above; the call has returned, and the canceller
        // and the watch have let go of it.
        let operation = unsafe { Box::from_raw(operation) };
        let ((code, origin), expired) = result?;
        let [_, output, _, _] = &operation.params;
        // SAFETY: parameter 1 was made as a temporary memory reference, and the library keeps it.
        let size = unsafe { output.tmpref.size };
        match code {
            sys::TEEC_SUCCESS => Ok(size),
            sys::TEEC_ERROR_SHORT_BUFFER => Err(ImageError::Short { needed: size }),
            sys::TEEC_ERROR_CANCEL if expired => Err(ImageError::TimedOut),
            code => Err(ImageError::Failed {
                code,
                origin: Origin::from_number(origin),
            }),
        }
    }
}

/// Runs `call`; after `timeout`, and then now and again, asks the TEE to cancel it. Tells whether
/// it did.
fn watched<T>(running: Running, timeout: Duration, call: impl FnOnce() -> T) -> (T, bool) {
    let (ended, ending) = (Mutex::new(false), Condvar::new());
    let watch = || {
        let mut pause = timeout;
        let mut expired = false;
        let mut guard = ended.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let waited = ending.wait_timeout_while(guard, pause, |ended| !*ended);
            let (now, out) = waited.unwrap_or_else(PoisonError::into_inner);
            guard = now;
            if !out.timed_out() {
                return expired;
            }
            running.cancel();
            expired = true;
            pause = CANCEL_AGAIN;
        }
    };
    std::thread::scope(|scope| {
        // Without a thread the call is not watched: it still ends when the TEE ends it.
        let watch = std::thread::Builder::new()
            .name("watch".into())
            .spawn_scoped(scope, watch);
        let result = call();
        *ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        ending.notify_all();
        let expired = watch
            .ok()
            .and_then(|thread| thread.join().ok())
            .unwrap_or(false);
        (result, expired)
    })
}

fn uuid(ta: &TaUuid) -> sys::TEEC_UUID {
    let uuid = ta.uuid();
    let (time_low, time_mid, time_hi, rest) = uuid.as_fields();
    sys::TEEC_UUID {
        timeLow: time_low,
        timeMid: time_mid,
        timeHiAndVersion: time_hi,
        clockSeqAndNode: *rest,
    }
}

/// The kernel's first TEE; the library looks at all of them.
const DEVICE: &str = "/dev/tee0";
/// Pause between two requests to cancel one call.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);
