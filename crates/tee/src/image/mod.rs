//! What the two images of a microkernel-like TEE (OP-TEE) do, without that TEE under it.
//!
//! Purpose: [`TeeImage`] is the core of a device as one Trusted Application with many sessions:
//! clients and TEEP Brokers talk the local protocol to it, and each host of a TA is a session that
//! attaches itself to that TA. [`TaHost`] is the other image: one instance of it runs one Wasm TA
//! for one client. Both are told who calls by the system below, take bytes and give bytes, so all
//! of this runs in tests; the images themselves hold only the calls into their system.
//!
//! Invariants: every length is judged before memory is taken for it; a command is carried out
//! once, however often its answer is fetched; a session that attached itself to a TA stays with
//! that TA until it ends; before the factory's word there is no TEE, only a device that can say
//! who it is.
//!
//! Trusted: the system below for identities of sessions, and the factory key. Not trusted: every
//! byte of a client, and a host once it has run its TA.
//!
//! Spec: docs/adr/0006-optee-two-images.md.

mod answers;
mod blob_id;
mod counter;
mod host;
mod provision;

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use tegata_crypto::PublicKey;
use tegata_wire::cbor;
use tegata_wire::ids::{SignerId, TaUuid, Ueid};
use tegata_wire::rpc::{self, Answer, Call, Info, RefusalCode, Reply, Request, Stats};
use zeroize::Zeroizing;

use crate::gp::consts::*;
use crate::gp::host::{
    HostError, HostReply, HostRequest, OBJECT_LEN_BYTES_MAX, SecretBytes, serve,
};
use crate::platform::Platform;
use crate::session::{
    Attached, ClientIdentity, Elsewhere, SessionLimits, SessionManager, SharedTee,
};
use crate::{Tee, TeeError};

pub use answers::{Failure, Kept};
pub use blob_id::{OBJECT_ID_LEN_BYTES_MAX, blob_id, blob_name};
pub use counter::counter_at;
pub use host::{HostWorld, TaHost};
pub use provision::{Provisioned, own_ueid, unprovisioned_identity};

/// One line for the log of the system below.
pub type Log = fn(&str);

/// Longest request of a host in bytes: an object and its frame.
pub const HOST_LEN_BYTES_MAX: usize = OBJECT_LEN_BYTES_MAX + 4096;

/// Longest request to attach in bytes.
pub const ATTACH_LEN_BYTES_MAX: usize = 256;

/// Answer to `OPTEE_CMD_ATTACH`, whose question is an encoded [`TaUuid`].
#[derive(Serialize, Deserialize)]
pub enum AttachReply {
    /// The session now belongs to this TA.
    Attached {
        /// Thumbprint of the key that signs its releases.
        signer: SignerId,
        /// Its module, verified.
        module: SecretBytes,
    },
    /// It does not; nothing changed.
    Refused(HostError),
}

/// A session with the core, as its opener was found to be.
pub struct Link {
    kept: Kept,
    peer: Peer,
}

enum Peer {
    Client { is_broker: bool },
    Host(Option<Attached>),
}

impl Link {
    /// A session opened by `opener`, as the system below says. `None` if it is another TA than the
    /// image that hosts TAs: it has no business here.
    #[must_use]
    pub fn of(opener: &ClientIdentity) -> Option<Self> {
        let peer = match opener.login {
            TEE_LOGIN_TRUSTED_APP if opener.uuid == rpc::OPTEE_HOST_UUID.0 => Peer::Host(None),
            TEE_LOGIN_TRUSTED_APP => return None,
            // The system names a user only where the kernel of the REE does. Nobody else speaks
            // for the device: a contact for the TAM can take a TA and all its keys away.
            _ => Peer::Client {
                is_broker: *opener == ClientIdentity::user(0),
            },
        };
        Some(Self {
            kept: Kept::default(),
            peer,
        })
    }
}

/// The core of a device, as one Trusted Application.
pub struct TeeImage<P: Platform> {
    machine: Arc<P>,
    factory_keys: Vec<PublicKey>,
    own: Ueid,
    ready: Option<Ready<P>>,
    calls: u64,
    log: Log,
}

/// A core that has the factory's word.
struct Ready<P: Platform> {
    /// The record it is told by, as it was read.
    record: Vec<u8>,
    tee: Arc<spin::Mutex<Tee<Provisioned<P>>>>,
    sessions: SessionManager,
}

/// Why there is no core now.
enum NotReady {
    Unprovisioned,
    Failed(String),
}

impl<P: Platform + Send + Sync + 'static> TeeImage<P> {
    /// The core on `machine`, which believes records signed by one of `factory_keys`.
    ///
    /// # Errors
    /// [`TeeError`] if the root key cannot be used: then there is no device to be.
    pub fn new(machine: P, factory_keys: Vec<PublicKey>, log: Log) -> Result<Self, TeeError> {
        let own = own_ueid(&machine)?;
        Ok(Self {
            machine: Arc::new(machine),
            factory_keys,
            own,
            ready: None,
            calls: 0,
            log,
        })
    }

    /// One command on a session. `read` copies the input if it has at most so many bytes as it is
    /// told; `room` is what the answer may take.
    ///
    /// # Errors
    /// [`Failure`], a GP return code; with `TEE_ERROR_SHORT_BUFFER` comes the room that is needed,
    /// and the answer is kept for `OPTEE_CMD_FETCH`.
    pub fn command(
        &mut self,
        link: &mut Link,
        command: u32,
        read: impl FnOnce(usize) -> Result<Zeroizing<Vec<u8>>, Failure>,
        room: usize,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match (command, &mut link.peer) {
            (rpc::OPTEE_CMD_RPC, Peer::Client { is_broker }) => {
                let call = read(rpc::OPTEE_CALL_LEN_BYTES_MAX)?;
                self.calls = self.calls.saturating_add(1);
                let is_broker = *is_broker;
                link.kept
                    .put(answer(&call, |request| self.reply(request, is_broker)));
            }
            (rpc::OPTEE_CMD_ATTACH, Peer::Host(attached)) => {
                let ta = read(ATTACH_LEN_BYTES_MAX)?;
                link.kept.put(encoded(&self.attach(attached, &ta))?);
            }
            (rpc::OPTEE_CMD_HOST, Peer::Host(attached)) => {
                let request = read(HOST_LEN_BYTES_MAX)?;
                link.kept.put(encoded(&service(attached, &request))?);
            }
            (rpc::OPTEE_CMD_FETCH, _) => {}
            _ => return Err(Failure::of(TEE_ERROR_NOT_SUPPORTED)),
        }
        link.kept.take(room)
    }

    fn reply(&mut self, request: Request, is_broker: bool) -> Reply {
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
            Request::DeviceReport => match provision::report(&*self.machine, &self.own) {
                Ok(report) => Reply::DeviceReport(report),
                Err(error) => self.environment(&error),
            },
            Request::OpenSession { .. }
            | Request::Invoke { .. }
            | Request::CloseSession { .. }
            | Request::Cancel { .. } => refused(
                RefusalCode::BadRequest,
                "sessions with TAs are opened with the image that hosts them".to_owned(),
            ),
            Request::RequestTa { .. }
            | Request::UnrequestTa { .. }
            | Request::PolicyCheck
            | Request::Process { .. }
            | Request::ProcessError
            | Request::Provision { .. }
                if !is_broker =>
            {
                refused(
                    RefusalCode::AccessDenied,
                    "only root carries TEEP messages and device records to this TEE".to_owned(),
                )
            }
            Request::Provision { record } => self.provision(&record),
            request => {
                if let Err(why) = self.wake() {
                    return self.not_ready(why);
                }
                match self.broker(request) {
                    Ok(reply) => reply,
                    Err(error) => self.environment(&error),
                }
            }
        }
    }

    /// Starts the core if it has the factory's word and does not run yet.
    ///
    /// The word is read at each call: the storage of a device that has just booted may come later
    /// than the first client, and a record that is gone or altered counts no more from then on.
    fn wake(&mut self) -> Result<(), NotReady> {
        let failed = |error: &dyn fmt::Display| NotReady::Failed(error.to_string());
        let stored = provision::stored(&*self.machine).map_err(|error| failed(&error))?;
        if let Some(ready) = &self.ready {
            if stored.as_ref() == Some(&ready.record) {
                return Ok(());
            }
            if ready.sessions.counts().1 > 0 {
                return Err(failed(&"the device record changed while TAs run"));
            }
        }
        self.ready = None;
        let Some(record) = stored else {
            return Err(NotReady::Unprovisioned);
        };
        // One that does not verify is of another image's factory, or was tampered with.
        let word = provision::judge(&record, &self.factory_keys, &self.own)
            .map_err(|error| failed(&error))?;
        let newest = provision::newest(&*self.machine).map_err(|error| failed(&error))?;
        word.not_before(newest).map_err(|error| failed(&error))?;
        word.count(&*self.machine).map_err(|error| failed(&error))?;
        let platform = Provisioned::new(Arc::clone(&self.machine), word.identity);
        let tee = Tee::new(platform, word.anchors, word.tam_uri).map_err(|error| failed(&error))?;
        let tee = Arc::new(spin::Mutex::new(tee));
        let log = self.log;
        let shared = SharedTee::new(
            Arc::clone(&tee),
            |_| {},
            move |ta, line| log(&alloc::format!("TA {}: {line}", ta.uuid)),
        );
        let sessions = SessionManager::new(shared, Elsewhere, SessionLimits::default());
        self.ready = Some(Ready {
            record,
            tee,
            sessions,
        });
        Ok(())
    }

    fn provision(&mut self, record: &[u8]) -> Reply {
        // 1. Judge it whole: nothing of a record that cannot be used is kept.
        let word = match provision::judge(record, &self.factory_keys, &self.own) {
            Ok(word) => word,
            Err(error) => return refused(RefusalCode::BadRequest, error.to_string()),
        };
        match provision::newest(&*self.machine).map(|newest| word.not_before(newest)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return refused(RefusalCode::BadRequest, error.to_string()),
            Err(error) => return self.environment(&error),
        }
        match provision::stored(&*self.machine) {
            Ok(Some(stored)) if stored.as_slice() == record => return Reply::Done,
            Ok(_) => {}
            Err(error) => return self.environment(&error),
        }
        let running = self.ready.as_ref();
        if running.is_some_and(|ready| ready.sessions.counts().1 > 0) {
            let text = "TAs are running under the present record; end them first";
            return refused(RefusalCode::Busy, text.to_owned());
        }
        // 2. Keep it. A crash here leaves the device with the old record or the new one, and the
        //    time of the old one: 3 catches up with it.
        if let Err(error) = provision::store(&*self.machine, record) {
            return self.environment(&error);
        }
        // 3. Believe it from now on, and nothing older.
        match self.wake() {
            Ok(()) => Reply::Done,
            Err(why) => self.not_ready(why),
        }
    }

    fn broker(&mut self, request: Request) -> Result<Reply, TeeError> {
        let Some(ready) = &self.ready else {
            return Ok(refused(RefusalCode::Internal, "no core".to_owned()));
        };
        let contact = |contact: Option<crate::teep::Contact>| {
            Reply::Contact(contact.map(|contact| rpc::Contact {
                tam_uri: contact.tam_uri.unwrap_or_default(),
                message: contact.message.unwrap_or_default(),
            }))
        };
        Ok(match request {
            Request::Info => Reply::Info(self.info(ready)?),
            Request::RequestTa { ta } => contact(ready.tee.lock().request_ta(&ta)?),
            Request::UnrequestTa { ta } => contact(ready.tee.lock().unrequest_ta(&ta)?),
            Request::PolicyCheck => contact(ready.tee.lock().policy_check()),
            Request::Process { message, payloads } if payloads.len() <= rpc::PAYLOADS_MAX => {
                let log = self.log;
                let changed = |ta: &TaUuid, change| log(&alloc::format!("TA {ta}: {change}"));
                let sessions = &ready.sessions;
                Reply::Processed(sessions.process_teep(&*ready.tee, &message, payloads, changed)?)
            }
            Request::ProcessError => {
                ready.tee.lock().process_error();
                Reply::Done
            }
            _ => refused(
                RefusalCode::BadRequest,
                "not a request that has a place here".to_owned(),
            ),
        })
    }

    fn info(&self, ready: &Ready<P>) -> Result<Info, TeeError> {
        let tee = ready.tee.lock();
        let hosts = u32::try_from(ready.sessions.counts().1).unwrap_or(u32::MAX);
        tee.info(Stats {
            uptime_secs: tee.platform().system_time_ms() / 1000,
            workers: hosts,
            sessions: hosts,
            calls: self.calls,
            ..Stats::default()
        })
    }

    fn attach(&mut self, attached: &mut Option<Attached>, ta: &[u8]) -> AttachReply {
        let Ok(ta) = cbor::from_slice::<TaUuid>(ta) else {
            return AttachReply::Refused(HostError::BadParameters);
        };
        // Bound once and for ever.
        if attached.is_some() {
            return AttachReply::Refused(HostError::BadParameters);
        }
        if let Err(why) = self.wake() {
            let _ = self.not_ready(why);
            return AttachReply::Refused(HostError::StorageNotAvailable);
        }
        let Some(ready) = &self.ready else {
            return AttachReply::Refused(HostError::Generic);
        };
        match ready.sessions.attach(&ta) {
            Ok((new, module)) => {
                let signer = new.ta().signer;
                *attached = Some(new);
                let module = Arc::try_unwrap(module).unwrap_or_else(|shared| shared.to_vec());
                AttachReply::Attached {
                    signer,
                    module: SecretBytes::new(module),
                }
            }
            Err(error) => AttachReply::Refused(error),
        }
    }

    fn not_ready(&self, why: NotReady) -> Reply {
        match why {
            NotReady::Unprovisioned => {
                let text = alloc::format!(
                    "device {} is not provisioned: tegata-agent provision --record FILE",
                    self.own
                );
                (self.log)(&text);
                refused(RefusalCode::Environment, text)
            }
            NotReady::Failed(error) => self.environment(&error),
        }
    }

    /// The machine failed: the log has the reason, the client only that.
    fn environment(&self, error: &dyn fmt::Display) -> Reply {
        (self.log)(&alloc::format!("the machine failed: {error}"));
        refused(
            RefusalCode::Environment,
            "the TEE's machine failed; the log of the secure world says how".to_owned(),
        )
    }
}

/// Answers a host for the TA that it is bound to.
fn service(attached: &mut Option<Attached>, request: &[u8]) -> HostReply {
    let Some(attached) = attached else {
        return HostReply::Failed(HostError::AccessDenied);
    };
    match cbor::from_slice::<HostRequest>(request) {
        Ok(request) => serve(attached.services(), request),
        Err(_) => HostReply::Failed(HostError::BadParameters),
    }
}

/// Decodes a call, has it answered and encodes the answer.
fn answer(call: &[u8], reply: impl FnOnce(Request) -> Reply) -> Zeroizing<Vec<u8>> {
    let answer = match rpc::content::<Call>(call) {
        Ok(call) => Answer {
            id: call.id,
            reply: reply(call.request),
        },
        Err(error) => Answer {
            id: 0,
            reply: refused(RefusalCode::BadRequest, error.to_string()),
        },
    };
    let bytes = cbor::to_vec(&answer).unwrap_or_default();
    if !bytes.is_empty() && bytes.len() <= rpc::OPTEE_CALL_LEN_BYTES_MAX {
        return Zeroizing::new(bytes);
    }
    let reply = refused(RefusalCode::Internal, "the answer is too long".to_owned());
    let short = Answer {
        id: answer.id,
        reply,
    };
    Zeroizing::new(cbor::to_vec(&short).unwrap_or_default())
}

fn encoded<T: Serialize>(message: &T) -> Result<Zeroizing<Vec<u8>>, Failure> {
    cbor::to_vec(message)
        .map(Zeroizing::new)
        .map_err(|_| Failure::of(TEE_ERROR_GENERIC))
}

fn refused(code: RefusalCode, message: String) -> Reply {
    Reply::Refused { code, message }
}
