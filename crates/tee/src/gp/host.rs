//! What a TA instance needs from the TEE around it: one trait, and the same as messages.
//!
//! Purpose: the Wasm host of an instance ([`crate::wasm`]) runs either in the process of the TEE
//! or in a sandboxed worker. It reaches everything outside itself through [`HostServices`]. In one
//! process the session manager implements the trait over the TEE; between processes a worker holds
//! a [`RemoteServices`] whose [`HostTransport`] carries [`HostRequest`]s, and the parent answers
//! them with [`serve`].
//!
//! Invariants: a services value is bound to one TA (signer and UUID) and one instance when it is
//! made; no request can name another TA's storage, components or keys.
//!
//! Trusted: the implementation. Not trusted: the requester. A worker that was taken over can ask
//! for what its own TA may ask for, and nothing else.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::consts::*;
use super::params::{Params, ParamsOut};
use super::state::printable;
use crate::position::{NoPosition, Position};

/// Longest object identifier in bytes (`TEE_OBJECT_ID_MAX_LEN`).
pub const OBJECT_ID_LEN_MAX: usize = 64;

/// Largest persistent object in bytes, attributes and data stream together.
pub const OBJECT_LEN_BYTES_MAX: usize = 256 * 1024;

/// Longest log line of a TA in bytes; the rest is cut.
pub const LOG_LEN_BYTES_MAX: usize = 256;

/// Names an object that this instance holds open. Chosen by the host, meaningless elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectToken(pub u64);

/// A component of the TA's own release that the TA may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ComponentKind {
    /// The enrolment procedure (public).
    Procedure,
    /// The personalization data (secret; only this TA on this device has it).
    Config,
}

impl ComponentKind {
    /// The number a guest names it by: 1 procedure, 2 config.
    #[must_use]
    pub const fn from_guest(kind: u32) -> Option<Self> {
        match kind {
            1 => Some(Self::Procedure),
            2 => Some(Self::Config),
            _ => None,
        }
    }
}

/// What the running entry point must know between two slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallSignal {
    /// The client asked for cancellation (`TEEC_RequestCancellation`).
    pub cancel: bool,
    /// The deadline passed or the client is gone for good: the instance is stopped as by a panic.
    pub stop: bool,
}

/// A TA's persistent clock: its own time at a moment of the REE's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistentTime {
    /// The TA's time when it set the clock, in milliseconds.
    pub ta_ms: u64,
    /// The REE's time at that moment, in milliseconds since 1970.
    pub ree_ms: u64,
}

/// Facts about this TEE and device for `TEE_GetProperty*`. Public data of the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeeInfo {
    /// `gpd.tee.deviceID`: UUID of the device, network byte order.
    pub device_id: [u8; 16],
    /// UEID, 7 to 33 bytes.
    #[serde(with = "serde_bytes")]
    pub ueid: Vec<u8>,
    /// Serial number of the maker.
    pub serial: String,
    /// Hardware model, as bytes of EAT's hwmodel.
    #[serde(with = "serde_bytes")]
    pub hwmodel: Vec<u8>,
    /// Hardware version.
    pub hwversion: String,
    /// IANA private enterprise number of the maker, if that is how the maker is named.
    pub oem_pen: Option<u64>,
    /// IMEI, 15 digits.
    pub imei: Option<String>,
    /// MAC address.
    pub mac: Option<[u8; 6]>,
    /// Security level of the backend: `"software"`, `"optee"`.
    pub security_level: String,
    /// `gpd.tee.trustedStorage.antiRollback.protectionLevel`: 0, 100 or 1000.
    pub anti_rollback_level: u32,
    /// Version of the TEE implementation.
    pub version: String,
}

/// Why a service was not given. Each maps to one GP return code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// No such object, component or TA.
    #[error("no such item")]
    ItemNotFound,
    /// The object exists, or another handle's share flags forbid this one.
    #[error("access conflict")]
    AccessConflict,
    /// The object was damaged; it has been deleted.
    #[error("object is corrupt")]
    CorruptObject,
    /// The medium is full or the object is too large.
    #[error("no space in trusted storage")]
    StorageNoSpace,
    /// The medium does not answer.
    #[error("trusted storage is not available")]
    StorageNotAvailable,
    /// The caller may not do this.
    #[error("access denied")]
    AccessDenied,
    /// A limit of this TEE is reached.
    #[error("out of resources")]
    OutOfMemory,
    /// The target is busy, or the call would come back to its own caller.
    #[error("target is busy")]
    Busy,
    /// The TA's module is not one that this TEE runs.
    #[error("module refused")]
    BadFormat,
    /// The request makes no sense.
    #[error("bad parameters")]
    BadParameters,
    /// There is nothing to give now.
    #[error("no data")]
    NoData,
    /// This TEE does not offer it.
    #[error("not supported")]
    NotSupported,
    /// The other side of the transport is gone.
    #[error("communication with the TEE failed")]
    Communication,
    /// Anything else; the TEE's own log says what.
    #[error("internal error of the TEE")]
    Generic,
}

impl HostError {
    /// The GP return code.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::ItemNotFound => TEE_ERROR_ITEM_NOT_FOUND,
            Self::AccessConflict => TEE_ERROR_ACCESS_CONFLICT,
            Self::CorruptObject => TEE_ERROR_CORRUPT_OBJECT,
            Self::StorageNoSpace => TEE_ERROR_STORAGE_NO_SPACE,
            Self::StorageNotAvailable => TEE_ERROR_STORAGE_NOT_AVAILABLE,
            Self::AccessDenied => TEE_ERROR_ACCESS_DENIED,
            Self::OutOfMemory => TEE_ERROR_OUT_OF_MEMORY,
            Self::Busy => TEE_ERROR_BUSY,
            Self::BadFormat => TEE_ERROR_BAD_FORMAT,
            Self::BadParameters => TEE_ERROR_BAD_PARAMETERS,
            Self::NoData => TEE_ERROR_NO_DATA,
            Self::NotSupported => TEE_ERROR_NOT_SUPPORTED,
            Self::Communication => TEE_ERROR_COMMUNICATION,
            Self::Generic => TEE_ERROR_GENERIC,
        }
    }
}

impl From<NoPosition> for HostError {
    fn from(reason: NoPosition) -> Self {
        match reason {
            NoPosition::NoSource => Self::NotSupported,
            NoPosition::NoFix => Self::NoData,
        }
    }
}

/// Answer of another TA: return code, where it comes from, and the parameters that went out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaReply {
    /// GP return code.
    pub code: u32,
    /// `TEE_ORIGIN_*`.
    pub origin: u32,
    /// Session opened; 0 for the other calls and for a refused session.
    pub session: u32,
    /// The parameters that went out.
    pub params: ParamsOut,
}

/// The TEE around one TA instance.
pub trait HostServices: Send {
    /// Facts about this TEE and device.
    ///
    /// # Errors
    /// [`HostError::Communication`] if the TEE does not answer.
    fn info(&mut self) -> Result<TeeInfo, HostError>;

    /// Fills `out` with random bytes of the TEE's generator.
    ///
    /// # Errors
    /// [`HostError::Generic`] if the generator fails; never a weak answer.
    fn random(&mut self, out: &mut [u8]) -> Result<(), HostError>;

    /// Milliseconds since some point before this boot; never goes back.
    ///
    /// # Errors
    /// [`HostError::Communication`].
    fn system_time_ms(&mut self) -> Result<u64, HostError>;

    /// Milliseconds since 1970 as the REE says; it may lie.
    ///
    /// # Errors
    /// [`HostError::Communication`].
    fn ree_time_ms(&mut self) -> Result<u64, HostError>;

    /// The TA's persistent clock as it was set, if it was.
    ///
    /// # Errors
    /// Storage not available, corrupt.
    fn persistent_time(&mut self) -> Result<Option<PersistentTime>, HostError>;

    /// Sets the TA's persistent clock, durably.
    ///
    /// # Errors
    /// No space, storage not available.
    fn set_persistent_time(&mut self, time: PersistentTime) -> Result<(), HostError>;

    /// Asked between two slices of a running entry point and while it waits.
    fn poll(&mut self) -> CallSignal;

    /// Waits for about `ms` milliseconds, or less.
    fn idle(&mut self, ms: u32);

    /// Opens an object of this TA; the content is whole and authentic.
    ///
    /// `flags` are GP's `TEE_DATA_FLAG_*`: the host keeps the share rules between instances.
    ///
    /// # Errors
    /// Not found, access conflict, corrupt (then it was deleted), storage not available.
    fn object_open(&mut self, id: &[u8], flags: u32) -> Result<(ObjectToken, Vec<u8>), HostError>;

    /// Creates an object of this TA with this content, atomically and durably, and opens it.
    ///
    /// # Errors
    /// [`HostError::AccessConflict`] if it exists and `flags` lack `TEE_DATA_FLAG_OVERWRITE`, or
    /// if it is open; no space; storage not available. Nothing changed then.
    fn object_create(
        &mut self,
        id: &[u8],
        flags: u32,
        content: &[u8],
    ) -> Result<ObjectToken, HostError>;

    /// Reads an open object again: another handle may have written it.
    ///
    /// # Errors
    /// As [`HostServices::object_open`].
    fn object_read(&mut self, token: ObjectToken) -> Result<Vec<u8>, HostError>;

    /// Replaces the content of an open object, atomically and durably.
    ///
    /// # Errors
    /// No space, storage not available; the old content stands then.
    fn object_write(&mut self, token: ObjectToken, content: &[u8]) -> Result<(), HostError>;

    /// Gives an open object a new identifier.
    ///
    /// # Errors
    /// [`HostError::AccessConflict`] if the new identifier is taken.
    fn object_rename(&mut self, token: ObjectToken, new_id: &[u8]) -> Result<(), HostError>;

    /// Deletes an open object durably and closes it.
    ///
    /// # Errors
    /// Storage not available.
    fn object_delete(&mut self, token: ObjectToken) -> Result<(), HostError>;

    /// Closes an open object.
    fn object_close(&mut self, token: ObjectToken);

    /// Identifiers of all objects of this TA, sorted.
    ///
    /// # Errors
    /// Storage not available.
    fn object_list(&mut self) -> Result<Vec<Vec<u8>>, HostError>;

    /// A component of this TA's own release, whole and authentic; `None` if it has none.
    ///
    /// # Errors
    /// Corrupt, storage not available.
    fn component(&mut self, kind: ComponentKind) -> Result<Option<Zeroizing<Vec<u8>>>, HostError>;

    /// 32 bytes that only this TA (signer and UUID) on this device gets, for `context`.
    ///
    /// # Errors
    /// [`HostError::Generic`] if the root key cannot be used.
    fn ta_unique_key(&mut self, context: &[u8]) -> Result<Zeroizing<[u8; 32]>, HostError>;

    /// EAT evidence of this TEE over `nonce` (8 to 64 bytes).
    ///
    /// # Errors
    /// [`HostError::BadParameters`] for a nonce of another length.
    fn evidence(&mut self, nonce: &[u8]) -> Result<Vec<u8>, HostError>;

    /// Where the device is, by the TEE's own receiver.
    ///
    /// # Errors
    /// [`HostError::NotSupported`] without a receiver, [`HostError::NoData`] without a fix.
    fn position(&mut self) -> Result<Position, HostError>;

    /// `TEE_OpenTASession`: the callee sees login `TEE_LOGIN_TRUSTED_APP` and this TA's UUID.
    ///
    /// # Errors
    /// [`HostError`] only where no [`TaReply`] can be made.
    fn ta_open(
        &mut self,
        destination: [u8; 16],
        timeout_ms: u32,
        params: Params,
    ) -> Result<TaReply, HostError>;

    /// `TEE_InvokeTACommand` on a session this instance opened.
    ///
    /// # Errors
    /// [`HostError`] only where no [`TaReply`] can be made.
    fn ta_invoke(
        &mut self,
        session: u32,
        timeout_ms: u32,
        command: u32,
        params: Params,
    ) -> Result<TaReply, HostError>;

    /// `TEE_CloseTASession`.
    fn ta_close(&mut self, session: u32);

    /// One line of the TA for the TEE's log; at most [`LOG_LEN_BYTES_MAX`] bytes, printable.
    fn log(&mut self, line: &str);
}

/// [`HostServices`] as a message from worker to parent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs)] // Each variant is the method of the same name.
pub enum HostRequest {
    Info,
    Random {
        len: u32,
    },
    SystemTime,
    ReeTime,
    PersistentTime,
    SetPersistentTime {
        time: PersistentTime,
    },
    Poll,
    Idle {
        ms: u32,
    },
    ObjectOpen {
        #[serde(with = "serde_bytes")]
        id: Vec<u8>,
        flags: u32,
    },
    ObjectCreate {
        #[serde(with = "serde_bytes")]
        id: Vec<u8>,
        flags: u32,
        content: SecretBytes,
    },
    ObjectRead {
        token: ObjectToken,
    },
    ObjectWrite {
        token: ObjectToken,
        content: SecretBytes,
    },
    ObjectRename {
        token: ObjectToken,
        #[serde(with = "serde_bytes")]
        new_id: Vec<u8>,
    },
    ObjectDelete {
        token: ObjectToken,
    },
    ObjectClose {
        token: ObjectToken,
    },
    ObjectList,
    Component {
        kind: ComponentKind,
    },
    TaUniqueKey {
        #[serde(with = "serde_bytes")]
        context: Vec<u8>,
    },
    Evidence {
        #[serde(with = "serde_bytes")]
        nonce: Vec<u8>,
    },
    Position,
    TaOpen {
        destination: [u8; 16],
        timeout_ms: u32,
        params: Params,
    },
    TaInvoke {
        session: u32,
        timeout_ms: u32,
        command: u32,
        params: Params,
    },
    TaClose {
        session: u32,
    },
    Log {
        line: String,
    },
}

/// Answer to a [`HostRequest`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs)] // Each variant is the result of the method of the same name.
pub enum HostReply {
    Done,
    Info(TeeInfo),
    Secret(SecretBytes),
    NoComponent,
    Millis(u64),
    Signal(CallSignal),
    Clock(Option<PersistentTime>),
    Object {
        token: ObjectToken,
        content: SecretBytes,
    },
    Token(ObjectToken),
    List(Vec<SecretBytes>),
    Position(Position),
    Ta(TaReply),
    Failed(HostError),
}

/// Bytes that may be secret: zeroized when dropped, never printed, a byte string on the wire.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretBytes(pub Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl core::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_bytes::ByteBuf::deserialize(deserializer).map(|b| Self::new(b.into_vec()))
    }
}

/// Carries one request to the parent and brings its answer: a socket pair, or a test's function.
pub trait HostTransport: Send {
    /// Sends `request` and waits for the answer.
    ///
    /// # Errors
    /// [`HostError::Communication`] if the parent is gone.
    fn exchange(&mut self, request: HostRequest) -> Result<HostReply, HostError>;
}

/// The worker's side: [`HostServices`] over a [`HostTransport`].
pub struct RemoteServices<T>(pub T);

impl<T: HostTransport> RemoteServices<T> {
    fn ask(&mut self, request: HostRequest) -> Result<HostReply, HostError> {
        match self.0.exchange(request)? {
            HostReply::Failed(error) => Err(error),
            reply => Ok(reply),
        }
    }

    fn done(&mut self, request: HostRequest) -> Result<(), HostError> {
        match self.ask(request)? {
            HostReply::Done => Ok(()),
            _ => Err(HostError::Communication),
        }
    }

    fn secret(&mut self, request: HostRequest) -> Result<Zeroizing<Vec<u8>>, HostError> {
        match self.ask(request)? {
            HostReply::Secret(bytes) => Ok(bytes.0),
            _ => Err(HostError::Communication),
        }
    }

    fn millis(&mut self, request: HostRequest) -> Result<u64, HostError> {
        match self.ask(request)? {
            HostReply::Millis(ms) => Ok(ms),
            _ => Err(HostError::Communication),
        }
    }

    fn ta(&mut self, request: HostRequest) -> Result<TaReply, HostError> {
        match self.ask(request)? {
            HostReply::Ta(reply) => Ok(reply),
            _ => Err(HostError::Communication),
        }
    }
}

impl<T: HostTransport> HostServices for RemoteServices<T> {
    fn info(&mut self) -> Result<TeeInfo, HostError> {
        match self.ask(HostRequest::Info)? {
            HostReply::Info(info) => Ok(info),
            _ => Err(HostError::Communication),
        }
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), HostError> {
        for part in out.chunks_mut(RANDOM_LEN_MAX) {
            let len = u32::try_from(part.len()).map_err(|_| HostError::BadParameters)?;
            let bytes = self.secret(HostRequest::Random { len })?;
            if bytes.len() != part.len() {
                return Err(HostError::Communication);
            }
            part.copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn system_time_ms(&mut self) -> Result<u64, HostError> {
        self.millis(HostRequest::SystemTime)
    }

    fn ree_time_ms(&mut self) -> Result<u64, HostError> {
        self.millis(HostRequest::ReeTime)
    }

    fn persistent_time(&mut self) -> Result<Option<PersistentTime>, HostError> {
        match self.ask(HostRequest::PersistentTime)? {
            HostReply::Clock(time) => Ok(time),
            _ => Err(HostError::Communication),
        }
    }

    fn set_persistent_time(&mut self, time: PersistentTime) -> Result<(), HostError> {
        self.done(HostRequest::SetPersistentTime { time })
    }

    fn poll(&mut self) -> CallSignal {
        match self.ask(HostRequest::Poll) {
            Ok(HostReply::Signal(signal)) => signal,
            // Nobody is left to work for.
            _ => CallSignal {
                cancel: true,
                stop: true,
            },
        }
    }

    fn idle(&mut self, ms: u32) {
        // A lost parent shows at the next poll.
        let _ = self.ask(HostRequest::Idle { ms });
    }

    fn object_open(&mut self, id: &[u8], flags: u32) -> Result<(ObjectToken, Vec<u8>), HostError> {
        match self.ask(HostRequest::ObjectOpen {
            id: id.to_vec(),
            flags,
        })? {
            HostReply::Object { token, mut content } => {
                Ok((token, core::mem::take(&mut *content.0)))
            }
            _ => Err(HostError::Communication),
        }
    }

    fn object_create(
        &mut self,
        id: &[u8],
        flags: u32,
        content: &[u8],
    ) -> Result<ObjectToken, HostError> {
        let content = SecretBytes::new(content.to_vec());
        match self.ask(HostRequest::ObjectCreate {
            id: id.to_vec(),
            flags,
            content,
        })? {
            HostReply::Token(token) => Ok(token),
            _ => Err(HostError::Communication),
        }
    }

    fn object_read(&mut self, token: ObjectToken) -> Result<Vec<u8>, HostError> {
        self.secret(HostRequest::ObjectRead { token })
            .map(|mut bytes| core::mem::take(&mut *bytes))
    }

    fn object_write(&mut self, token: ObjectToken, content: &[u8]) -> Result<(), HostError> {
        let content = SecretBytes::new(content.to_vec());
        self.done(HostRequest::ObjectWrite { token, content })
    }

    fn object_rename(&mut self, token: ObjectToken, new_id: &[u8]) -> Result<(), HostError> {
        self.done(HostRequest::ObjectRename {
            token,
            new_id: new_id.to_vec(),
        })
    }

    fn object_delete(&mut self, token: ObjectToken) -> Result<(), HostError> {
        self.done(HostRequest::ObjectDelete { token })
    }

    fn object_close(&mut self, token: ObjectToken) {
        let _ = self.ask(HostRequest::ObjectClose { token });
    }

    fn object_list(&mut self) -> Result<Vec<Vec<u8>>, HostError> {
        match self.ask(HostRequest::ObjectList)? {
            HostReply::List(ids) => Ok(ids.into_iter().map(|id| id.0.to_vec()).collect()),
            _ => Err(HostError::Communication),
        }
    }

    fn component(&mut self, kind: ComponentKind) -> Result<Option<Zeroizing<Vec<u8>>>, HostError> {
        match self.ask(HostRequest::Component { kind })? {
            HostReply::Secret(bytes) => Ok(Some(bytes.0)),
            HostReply::NoComponent => Ok(None),
            _ => Err(HostError::Communication),
        }
    }

    fn ta_unique_key(&mut self, context: &[u8]) -> Result<Zeroizing<[u8; 32]>, HostError> {
        let bytes = self.secret(HostRequest::TaUniqueKey {
            context: context.to_vec(),
        })?;
        <[u8; 32]>::try_from(bytes.as_slice())
            .map(Zeroizing::new)
            .map_err(|_| HostError::Communication)
    }

    fn evidence(&mut self, nonce: &[u8]) -> Result<Vec<u8>, HostError> {
        self.secret(HostRequest::Evidence {
            nonce: nonce.to_vec(),
        })
        .map(|bytes| bytes.to_vec())
    }

    fn position(&mut self) -> Result<Position, HostError> {
        match self.ask(HostRequest::Position)? {
            HostReply::Position(position) => Ok(position),
            _ => Err(HostError::Communication),
        }
    }

    fn ta_open(
        &mut self,
        destination: [u8; 16],
        timeout_ms: u32,
        params: Params,
    ) -> Result<TaReply, HostError> {
        self.ta(HostRequest::TaOpen {
            destination,
            timeout_ms,
            params,
        })
    }

    fn ta_invoke(
        &mut self,
        session: u32,
        timeout_ms: u32,
        command: u32,
        params: Params,
    ) -> Result<TaReply, HostError> {
        self.ta(HostRequest::TaInvoke {
            session,
            timeout_ms,
            command,
            params,
        })
    }

    fn ta_close(&mut self, session: u32) {
        let _ = self.ask(HostRequest::TaClose { session });
    }

    fn log(&mut self, line: &str) {
        let _ = self.ask(HostRequest::Log {
            line: String::from(line),
        });
    }
}

/// The parent's side: answers one request of a worker with `services`, which are bound to its TA.
///
/// Limits on lengths are checked here, before anything is done: the worker is not trusted.
#[must_use]
pub fn serve(services: &mut dyn HostServices, request: HostRequest) -> HostReply {
    answer(services, request).unwrap_or_else(HostReply::Failed)
}

fn answer(services: &mut dyn HostServices, request: HostRequest) -> Result<HostReply, HostError> {
    Ok(match request {
        HostRequest::Info => HostReply::Info(services.info()?),
        HostRequest::Random { len } => {
            let len = usize::try_from(len).map_err(|_| HostError::BadParameters)?;
            if len > RANDOM_LEN_MAX {
                return Err(HostError::BadParameters);
            }
            let mut bytes = alloc::vec![0; len];
            services.random(&mut bytes)?;
            HostReply::Secret(SecretBytes::new(bytes))
        }
        HostRequest::SystemTime => HostReply::Millis(services.system_time_ms()?),
        HostRequest::ReeTime => HostReply::Millis(services.ree_time_ms()?),
        HostRequest::PersistentTime => HostReply::Clock(services.persistent_time()?),
        HostRequest::SetPersistentTime { time } => {
            services.set_persistent_time(time)?;
            HostReply::Done
        }
        HostRequest::Poll => HostReply::Signal(services.poll()),
        HostRequest::Idle { ms } => {
            services.idle(ms.min(IDLE_MS_MAX));
            HostReply::Done
        }
        HostRequest::ObjectOpen { id, flags } => {
            let (token, content) = services.object_open(object_id(&id)?, flags)?;
            HostReply::Object {
                token,
                content: SecretBytes::new(content),
            }
        }
        HostRequest::ObjectCreate { id, flags, content } => HostReply::Token(
            services.object_create(object_id(&id)?, flags, object_content(&content)?)?,
        ),
        HostRequest::ObjectRead { token } => {
            HostReply::Secret(SecretBytes::new(services.object_read(token)?))
        }
        HostRequest::ObjectWrite { token, content } => {
            services.object_write(token, object_content(&content)?)?;
            HostReply::Done
        }
        HostRequest::ObjectRename { token, new_id } => {
            services.object_rename(token, object_id(&new_id)?)?;
            HostReply::Done
        }
        HostRequest::ObjectDelete { token } => {
            services.object_delete(token)?;
            HostReply::Done
        }
        HostRequest::ObjectClose { token } => {
            services.object_close(token);
            HostReply::Done
        }
        HostRequest::ObjectList => HostReply::List(
            services
                .object_list()?
                .into_iter()
                .map(SecretBytes::new)
                .collect(),
        ),
        HostRequest::Component { kind } => match services.component(kind)? {
            Some(bytes) => HostReply::Secret(SecretBytes(bytes)),
            None => HostReply::NoComponent,
        },
        HostRequest::TaUniqueKey { context } => {
            if context.len() > UNIQUE_KEY_CONTEXT_LEN_MAX {
                return Err(HostError::BadParameters);
            }
            let key = services.ta_unique_key(&context)?;
            HostReply::Secret(SecretBytes::new(key.to_vec()))
        }
        HostRequest::Evidence { nonce } => {
            HostReply::Secret(SecretBytes::new(services.evidence(&nonce)?))
        }
        HostRequest::Position => HostReply::Position(services.position()?),
        HostRequest::TaOpen {
            destination,
            timeout_ms,
            params,
        } => HostReply::Ta(services.ta_open(destination, timeout_ms, params)?),
        HostRequest::TaInvoke {
            session,
            timeout_ms,
            command,
            params,
        } => HostReply::Ta(services.ta_invoke(session, timeout_ms, command, params)?),
        HostRequest::TaClose { session } => {
            services.ta_close(session);
            HostReply::Done
        }
        HostRequest::Log { line } => {
            // A worker's word goes into a log: cut and made printable here, whatever it did.
            services.log(&printable(line.as_bytes(), LOG_LEN_BYTES_MAX));
            HostReply::Done
        }
    })
}

fn object_id(id: &[u8]) -> Result<&[u8], HostError> {
    if id.len() > OBJECT_ID_LEN_MAX {
        return Err(HostError::BadParameters);
    }
    Ok(id)
}

fn object_content(content: &SecretBytes) -> Result<&[u8], HostError> {
    if content.0.len() > OBJECT_LEN_BYTES_MAX {
        return Err(HostError::StorageNoSpace);
    }
    Ok(&content.0)
}

/// Most random bytes in one message.
const RANDOM_LEN_MAX: usize = 4096;
/// Longest wait in one message, so that a cancellation is seen soon.
const IDLE_MS_MAX: u32 = 50;
/// Longest context of a TA unique key in bytes.
pub const UNIQUE_KEY_CONTEXT_LEN_MAX: usize = 256;
