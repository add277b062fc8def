//! The image that hosts TAs: one of its instances, one Wasm TA, one session of one client.
//!
//! Invariants: the client is who the system below says it is, from the first byte to the last; one
//! session is opened, once; after a trap, or when a newer release is installed, nothing of the TA
//! runs again, and every answer says `TEE_ERROR_TARGET_DEAD` from the TEE. Time, random bytes,
//! waiting and cancellation come from the system below at first hand; everything that belongs to
//! the TA is asked of the core.
//!
//! Not trusted: the module that runs here. If it breaks out of the interpreter it has this
//! instance, and the core still answers it as that one TA.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use tegata_wire::ids::TaUuid;
use tegata_wire::rpc::{
    self, Login, ORIGIN_TEE, ORIGIN_TRUSTED_APP, Param, ParamOut, RefusalCode, Reply, Request,
};
use zeroize::Zeroizing;

use super::{AttachReply, Failure, Kept, answer, refused};
use crate::gp::consts::*;
use crate::gp::host::{
    CallSignal, HostError, HostReply, HostRequest, HostTransport, RemoteServices, SecretBytes,
};
use crate::gp::params::within_limits;
use crate::session::launch::{ClientIdentity, Entry, LaunchError, Outcome, TaInstance};
use crate::storage::TaId;
use crate::wasm::{TaModule, WasmInstance};

/// The number of the one session.
const SESSION: u32 = 1;

/// Longest time of an entry point in milliseconds.
const ENTRY_MS_MAX: u64 = 60_000;

/// What a host has around it: the core, and the system below.
#[allow(clippy::missing_errors_doc)] // Each returns the HostError that the TA or client will see.
pub trait HostWorld: Send + 'static {
    /// `OPTEE_CMD_ATTACH` on a session with the core.
    fn attach(&mut self, ta: &TaUuid) -> Result<AttachReply, HostError>;
    /// `OPTEE_CMD_HOST` on the same session.
    fn ask(&mut self, request: &HostRequest) -> Result<HostReply, HostError>;
    /// Random bytes of the system.
    fn random(&mut self, out: &mut [u8]) -> Result<(), HostError>;
    /// Milliseconds since some point before this boot; never goes back.
    fn system_time_ms(&mut self) -> u64;
    /// Milliseconds since 1970 as the REE says.
    fn ree_time_ms(&mut self) -> u64;
    /// Waits about `ms` milliseconds, or less.
    fn wait(&mut self, ms: u32);
    /// Whether the client asked for cancellation of the call that runs now.
    fn cancelled(&mut self) -> bool;
    /// One line for the log of the system.
    fn log(&mut self, line: &str);
    /// Closes the session with the core: what the TA held there is given back.
    fn leave(&mut self);

    /// What the core says of this host: it stops when its release is replaced, or the core is gone.
    fn signal(&mut self) -> CallSignal {
        match self.ask(&HostRequest::Poll) {
            Ok(HostReply::Signal(signal)) => signal,
            _ => CallSignal {
                cancel: true,
                stop: true,
            },
        }
    }
}

/// A host of one TA.
pub struct TaHost<W> {
    client: ClientIdentity,
    world: Arc<spin::Mutex<W>>,
    state: State,
    deadline_ms: Arc<AtomicU64>,
    kept: Kept,
}

enum State {
    /// Nothing was opened yet.
    New,
    Open(Box<WasmInstance>),
    /// The TA trapped or panicked.
    Dead,
    /// Closed, or never opened successfully.
    Over,
}

impl<W: HostWorld> TaHost<W> {
    /// A host for `client`, as the system below says who that is.
    #[must_use]
    pub fn new(client: ClientIdentity, world: W) -> Self {
        Self {
            client,
            world: Arc::new(spin::Mutex::new(world)),
            state: State::New,
            deadline_ms: Arc::new(AtomicU64::new(UNSET)),
            kept: Kept::default(),
        }
    }

    /// One command of the client; see [`super::TeeImage::command`].
    ///
    /// # Errors
    /// [`Failure`], a GP return code.
    pub fn command(
        &mut self,
        command: u32,
        read: impl FnOnce(usize) -> Result<Zeroizing<Vec<u8>>, Failure>,
        room: usize,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match command {
            rpc::OPTEE_CMD_RPC => {
                let call = read(rpc::OPTEE_CALL_LEN_BYTES_MAX)?;
                // The first look at the clock in this call sets its end.
                self.deadline_ms.store(UNSET, Ordering::Relaxed);
                let answer = answer(&call, |request| self.reply(request));
                self.kept.put(answer);
            }
            rpc::OPTEE_CMD_FETCH => {}
            _ => return Err(Failure::of(TEE_ERROR_NOT_SUPPORTED)),
        }
        self.kept.take(room)
    }

    /// The client closed its session, or is gone.
    pub fn close(&mut self) {
        self.deadline_ms.store(UNSET, Ordering::Relaxed);
        if let State::Open(mut instance) = core::mem::replace(&mut self.state, State::Over) {
            let closed = instance.call(Entry::CloseSession { session: SESSION });
            if matches!(closed, Outcome::Returned { .. }) {
                let _ = instance.call(Entry::Destroy);
            }
            drop(instance);
            self.world.lock().leave();
        }
    }

    /// Nothing of the TA runs after this.
    fn end(&mut self, state: State) {
        self.state = state;
        self.world.lock().leave();
    }

    fn reply(&mut self, request: Request) -> Reply {
        match request {
            Request::Hello {
                version: rpc::VERSION,
            } => Reply::Hello {
                version: rpc::VERSION,
            },
            Request::Hello { .. } => refused(
                RefusalCode::Version,
                alloc::format!("this TEE speaks version {} of the protocol", rpc::VERSION),
            ),
            Request::OpenSession { ta, login, params } => self.open(&ta, login, params),
            Request::Invoke {
                session: SESSION,
                command,
                params,
            } => self.invoke(command, params),
            Request::Invoke { .. } => tee(TEE_ERROR_ITEM_NOT_FOUND),
            Request::CloseSession { session } => {
                if session == SESSION {
                    self.close();
                }
                Reply::Done
            }
            _ => refused(
                RefusalCode::BadRequest,
                "this image runs TAs; ask the core".to_owned(),
            ),
        }
    }

    fn open(&mut self, ta: &TaUuid, login: Login, params: [Param; 4]) -> Reply {
        if !matches!(self.state, State::New) {
            return tee(TEE_ERROR_BUSY);
        }
        // The identity is the system's; that the client expects another one is its mistake.
        let as_asked = match login {
            Login::Group { gid } => self.client == ClientIdentity::group(gid),
            login => login.number() == self.client.login,
        };
        if !as_asked {
            return tee(TEE_ERROR_ACCESS_DENIED);
        }
        if !within_limits(&params) {
            return tee(TEE_ERROR_OUT_OF_MEMORY);
        }
        // Whatever comes of it, this host opens nothing again.
        self.state = State::Over;
        let mut instance = match self.load(ta) {
            Ok(instance) => instance,
            Err(code) => {
                self.end(State::Over);
                return tee(code);
            }
        };
        match instance.call(Entry::Create) {
            Outcome::Returned {
                code: TEE_SUCCESS, ..
            } => {}
            Outcome::Returned { code, .. } => {
                drop(instance);
                self.end(State::Over);
                return operation(code, ORIGIN_TRUSTED_APP);
            }
            Outcome::Panicked(_) => {
                self.end(State::Dead);
                return tee(TEE_ERROR_TARGET_DEAD);
            }
        }
        let entry = Entry::OpenSession {
            session: SESSION,
            client: self.client,
            params,
        };
        let outcome = instance.call(entry);
        match outcome {
            Outcome::Returned { code, params } => {
                let opened = code == TEE_SUCCESS;
                if opened {
                    self.state = State::Open(instance);
                } else {
                    // A refused session is closed without CloseSession.
                    let _ = instance.call(Entry::Destroy);
                    drop(instance);
                    self.end(State::Over);
                }
                Reply::Operation {
                    code,
                    origin: ORIGIN_TRUSTED_APP,
                    session: if opened { SESSION } else { 0 },
                    params,
                }
            }
            Outcome::Panicked(_) => {
                self.end(State::Dead);
                tee(TEE_ERROR_TARGET_DEAD)
            }
        }
    }

    /// Binds this host to the TA and makes its instance.
    fn load(&mut self, ta: &TaUuid) -> Result<Box<WasmInstance>, u32> {
        let attached = self.world.lock().attach(ta);
        let (signer, module) = match attached {
            Ok(AttachReply::Attached { signer, module }) => (signer, module),
            Ok(AttachReply::Refused(error)) | Err(error) => return Err(error.code()),
        };
        let compiled = TaModule::new(&module.0);
        drop(module);
        let compiled = match compiled {
            Ok(compiled) => compiled,
            Err(error) => {
                self.world.lock().log(&error.to_string());
                return Err(TEE_ERROR_BAD_FORMAT);
            }
        };
        let transport = Transport {
            world: Arc::clone(&self.world),
            deadline_ms: Arc::clone(&self.deadline_ms),
        };
        let id = TaId { signer, uuid: *ta };
        let services = Box::new(RemoteServices(transport));
        match WasmInstance::new(&compiled, id, services) {
            Ok(instance) => Ok(Box::new(instance)),
            Err(LaunchError::Module { .. }) => Err(TEE_ERROR_BAD_FORMAT),
            Err(LaunchError::Resources) => Err(TEE_ERROR_OUT_OF_MEMORY),
            Err(LaunchError::Start { .. }) => Err(TEE_ERROR_GENERIC),
        }
    }

    fn invoke(&mut self, command: u32, params: [Param; 4]) -> Reply {
        if !within_limits(&params) {
            return tee(TEE_ERROR_OUT_OF_MEMORY);
        }
        if matches!(self.state, State::Open(_)) && self.world.lock().signal().stop {
            // A newer release is installed: the old code does not run again.
            self.end(State::Dead);
        }
        let outcome = match &mut self.state {
            State::Open(instance) => instance.call(Entry::InvokeCommand {
                session: SESSION,
                command,
                params,
            }),
            State::Dead => return tee(TEE_ERROR_TARGET_DEAD),
            State::New | State::Over => return tee(TEE_ERROR_ITEM_NOT_FOUND),
        };
        match outcome {
            Outcome::Returned { code, params } => Reply::Operation {
                code,
                origin: ORIGIN_TRUSTED_APP,
                session: 0,
                params,
            },
            Outcome::Panicked(_) => {
                self.end(State::Dead);
                tee(TEE_ERROR_TARGET_DEAD)
            }
        }
    }
}

/// No end of the running call was set yet.
const UNSET: u64 = 0;

/// A TA's way out of its instance.
struct Transport<W> {
    world: Arc<spin::Mutex<W>>,
    deadline_ms: Arc<AtomicU64>,
}

impl<W: HostWorld> HostTransport for Transport<W> {
    fn exchange(&mut self, request: HostRequest) -> Result<HostReply, HostError> {
        let mut world = self.world.lock();
        Ok(match request {
            HostRequest::Random { len } => {
                let len = usize::try_from(len).map_err(|_| HostError::BadParameters)?;
                let mut bytes = Zeroizing::new(alloc::vec![0; len]);
                world.random(&mut bytes)?;
                HostReply::Secret(SecretBytes(bytes))
            }
            HostRequest::SystemTime => HostReply::Millis(world.system_time_ms()),
            HostRequest::ReeTime => HostReply::Millis(world.ree_time_ms()),
            HostRequest::Idle { ms } => {
                world.wait(ms);
                HostReply::Done
            }
            HostRequest::Log { line } => {
                world.log(&line);
                HostReply::Done
            }
            HostRequest::Poll => {
                let now = world.system_time_ms();
                let end = now.saturating_add(ENTRY_MS_MAX);
                let set = self.deadline_ms.compare_exchange(
                    UNSET,
                    end,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                let late = set.is_err_and(|deadline| now >= deadline);
                let core = world.signal();
                HostReply::Signal(CallSignal {
                    cancel: late || core.cancel || world.cancelled(),
                    stop: late || core.stop,
                })
            }
            request => world.ask(&request)?,
        })
    }
}

fn operation(code: u32, origin: u32) -> Reply {
    Reply::Operation {
        code,
        origin,
        session: 0,
        params: <[ParamOut; 4]>::default(),
    }
}

fn tee(code: u32) -> Reply {
    operation(code, ORIGIN_TEE)
}
