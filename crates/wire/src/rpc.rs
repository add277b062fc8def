//! The local protocol between a client of the TEE and the TEE: messages and frames.
//!
//! Purpose: what the GP TEE Client API and the TEEP Broker say to `teed` over its socket. One
//! connection carries the sessions of one client; the TEE closes them when the connection ends.
//! A frame is a length (4 bytes, little-endian) and that many bytes of CBOR.
//!
//! Invariants: a request names no caller. Who calls is what the kernel says about the connection;
//! [`Login`] merely chooses which of the caller's true identities a session is opened with.
//!
//! Absent on purpose: shared memory. All parameters are copied, so a client that changes its
//! buffer during a call changes nothing.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::cbor::{self, CborError};
use crate::ids::TaUuid;

/// Version of this protocol; [`Request::Hello`] refuses another one.
pub const VERSION: u32 = 1;

/// Longest frame of a client, in bytes without the length: four memory references and their room.
pub const FRAME_LEN_BYTES_MAX: usize = 1 << 20;

/// Longest frame of a TEEP Broker: a TA module of 2 MiB with its envelopes.
pub const BROKER_FRAME_LEN_BYTES_MAX: usize = 4 << 20;

/// Most bytes in the memory references of one call, in and out together.
pub const PARAMS_LEN_BYTES_MAX: usize = 512 * 1024;

/// Most payloads handed over with one TEEP message.
pub const PAYLOADS_MAX: usize = 8;

/// Longest URI in bytes.
pub const URI_LEN_MAX: usize = 2048;

/// `TEEC_ORIGIN_API`: the client library itself.
pub const ORIGIN_API: u32 = 1;
/// `TEEC_ORIGIN_COMMS`: the way between client and TEE.
pub const ORIGIN_COMMS: u32 = 2;
/// `TEEC_ORIGIN_TEE`: the TEE.
pub const ORIGIN_TEE: u32 = 3;
/// `TEEC_ORIGIN_TRUSTED_APP`: the TA.
pub const ORIGIN_TRUSTED_APP: u32 = 4;

/// The OP-TEE image that holds the TEE's core: one instance for the whole device. Clients open a
/// session with it for everything but sessions with TAs.
pub const OPTEE_TEE_UUID: TaUuid = TaUuid([
    0x47, 0xd9, 0xbb, 0x57, 0x0a, 0xd4, 0x40, 0x3f, 0x96, 0xa2, 0xca, 0x38, 0x91, 0x5c, 0x92, 0xf8,
]);

/// The OP-TEE image that runs one TA: a new instance for each session.
pub const OPTEE_HOST_UUID: TaUuid = TaUuid([
    0x84, 0xe5, 0x08, 0x91, 0xeb, 0x29, 0x41, 0x85, 0xb0, 0xe7, 0x26, 0x09, 0x15, 0x74, 0xa7, 0xc9,
]);

/// Command of both OP-TEE images: parameter 0 is an encoded [`Call`], parameter 1 the room for the
/// encoded [`Answer`]. Too little room: `TEE_ERROR_SHORT_BUFFER` with the size that is needed, and
/// the answer is kept for [`OPTEE_CMD_FETCH`]; the call is not made again.
pub const OPTEE_CMD_RPC: u32 = 1;

/// Command of both OP-TEE images: parameter 1 is the room for the answer that was kept.
pub const OPTEE_CMD_FETCH: u32 = 2;

/// Command of the core, for hosts alone: binds the session to one TA and one client.
pub const OPTEE_CMD_ATTACH: u32 = 16;

/// Command of the core, for hosts alone: a service for the TA that the session is bound to.
pub const OPTEE_CMD_HOST: u32 = 17;

/// Longest [`Call`] or [`Answer`] that an OP-TEE image takes, in bytes: a TA package of 256 KiB
/// with its envelopes. Whole calls lie in the image's memory, which is scarce.
pub const OPTEE_CALL_LEN_BYTES_MAX: usize = 512 * 1024;

/// A request with the number that its answer carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the client; unique among its calls that are still running. [`Request::Cancel`]
    /// names it.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// An answer with the number of its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The number of the [`Call`].
    pub id: u64,
    /// What is answered.
    pub reply: Reply,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request {
    /// First on every connection.
    Hello {
        /// [`VERSION`] of the client.
        version: u32,
    },
    /// `TEEC_OpenSession`.
    OpenSession {
        /// The TA.
        ta: TaUuid,
        /// Which identity of the caller the session is opened with.
        login: Login,
        /// Parameters for the TA.
        params: [Param; 4],
    },
    /// `TEEC_InvokeCommand`.
    Invoke {
        /// The session.
        session: u32,
        /// Command of the TA.
        command: u32,
        /// Parameters for the TA.
        params: [Param; 4],
    },
    /// `TEEC_CloseSession`.
    CloseSession {
        /// The session.
        session: u32,
    },
    /// `TEEC_RequestCancellation` of a call of this connection that is still running. There is no
    /// answer to this; the cancelled call is answered in any case.
    Cancel {
        /// [`Call::id`] of the call.
        call: u64,
    },
    /// What this TEE is, and how it is doing.
    Info,
    /// TEEP Broker: a TA is wanted. Spec: RFC 9397 section 6.2.1 (`RequestTA`).
    RequestTa {
        /// The TA.
        ta: TaUuid,
    },
    /// TEEP Broker: a TA is wanted no more. Spec: RFC 9397 section 6.2.1 (`UnrequestTA`).
    UnrequestTa {
        /// The TA.
        ta: TaUuid,
    },
    /// TEEP Broker: look whether the TAM has something. Spec: RFC 9397 section 6.2.1
    /// (`RequestPolicyCheck`).
    PolicyCheck,
    /// TEEP Broker: a message of the TAM. Spec: RFC 9397 section 6.2.1 (`ProcessTeepMessage`).
    Process {
        /// The TEEP message, a COSE object.
        #[serde(with = "cbor::bytes")]
        message: Vec<u8>,
        /// Payloads that were fetched for it; at most [`PAYLOADS_MAX`].
        payloads: Vec<Payload>,
    },
    /// TEEP Broker: the TAM cannot be reached, or answered with an error. Spec: RFC 9397 section
    /// 6.2.1 (`ProcessError`).
    ProcessError,
    /// The factory asks a TEE that makes its own keys who it is.
    DeviceReport,
    /// The factory's word for this device. A TEE that reads `device.cbor` has it already.
    Provision {
        /// A [`crate::device::DeviceRecord`] in the factory's COSE_Sign1; at most
        /// [`crate::device::RECORD_LEN_BYTES_MAX`] bytes.
        #[serde(with = "cbor::bytes")]
        record: Vec<u8>,
    },
}

/// Which identity of the caller a session is opened with. Spec: GP TEE Client API 1.0 4.5.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Login {
    /// `TEEC_LOGIN_PUBLIC` (0): none.
    Public,
    /// `TEEC_LOGIN_USER` (1): the user.
    User,
    /// `TEEC_LOGIN_GROUP` (2): a group that the caller is in.
    Group {
        /// Number of the group.
        gid: u32,
    },
    /// `TEEC_LOGIN_APPLICATION` (4): the program.
    Application,
    /// `TEEC_LOGIN_USER_APPLICATION` (5): the user and the program.
    UserApplication,
    /// `TEEC_LOGIN_GROUP_APPLICATION` (6): a group and the program.
    GroupApplication {
        /// Number of the group.
        gid: u32,
    },
}

impl Login {
    /// GP's number of the login method.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Public => 0,
            Self::User => 1,
            Self::Group { .. } => 2,
            Self::Application => 4,
            Self::UserApplication => 5,
            Self::GroupApplication { .. } => 6,
        }
    }
}

/// One parameter on its way to the TA.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Param {
    /// `TEEC_NONE`.
    #[default]
    None,
    /// `TEEC_VALUE_INPUT`.
    ValueInput {
        /// First number.
        a: u32,
        /// Second number.
        b: u32,
    },
    /// `TEEC_VALUE_OUTPUT`.
    ValueOutput,
    /// `TEEC_VALUE_INOUT`.
    ValueInout {
        /// First number.
        a: u32,
        /// Second number.
        b: u32,
    },
    /// A memory reference that the TA reads.
    MemrefInput {
        /// The bytes.
        #[serde(with = "cbor::bytes")]
        buffer: Vec<u8>,
    },
    /// A memory reference that the TA fills.
    MemrefOutput {
        /// Room in bytes.
        size: u32,
    },
    /// A memory reference that the TA reads and replaces.
    MemrefInout {
        /// The bytes; their number is also the room.
        #[serde(with = "cbor::bytes")]
        buffer: Vec<u8>,
    },
}

/// Contents may be secret: only lengths are printed.
impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::ValueInput { .. } => f.write_str("ValueInput"),
            Self::ValueOutput => f.write_str("ValueOutput"),
            Self::ValueInout { .. } => f.write_str("ValueInout"),
            Self::MemrefInput { buffer } => write!(f, "MemrefInput({} bytes)", buffer.len()),
            Self::MemrefOutput { size } => write!(f, "MemrefOutput({size} bytes)"),
            Self::MemrefInout { buffer } => write!(f, "MemrefInout({} bytes)", buffer.len()),
        }
    }
}

impl Param {
    /// Bytes of memory this parameter asks of the TEE.
    #[must_use]
    pub fn room(&self) -> usize {
        match self {
            Self::MemrefInput { buffer } | Self::MemrefInout { buffer } => buffer.len(),
            Self::MemrefOutput { size } => usize::try_from(*size).unwrap_or(usize::MAX),
            _ => 0,
        }
    }
}

/// True if the memory references fit into [`PARAMS_LEN_BYTES_MAX`].
#[must_use]
pub fn within_limits(params: &[Param; 4]) -> bool {
    let total = params
        .iter()
        .fold(0usize, |sum, param| sum.saturating_add(param.room()));
    total <= PARAMS_LEN_BYTES_MAX
}

/// One parameter on its way back.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParamOut {
    /// Nothing comes back.
    #[default]
    None,
    /// The numbers of an output or inout value.
    Value {
        /// First number.
        a: u32,
        /// Second number.
        b: u32,
    },
    /// The bytes of an output or inout memory reference.
    Memref {
        /// The bytes; empty if there was not enough room.
        #[serde(with = "cbor::bytes")]
        buffer: Vec<u8>,
        /// Bytes that the TA wrote, or would have written (`TEEC_ERROR_SHORT_BUFFER`).
        size: u32,
    },
}

/// Contents may be secret: only lengths are printed.
impl fmt::Debug for ParamOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Value { .. } => f.write_str("Value"),
            Self::Memref { size, .. } => write!(f, "Memref({size} bytes)"),
        }
    }
}

/// What the TEE answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello {
        /// [`VERSION`] of the TEE.
        version: u32,
    },
    /// To [`Request::OpenSession`] and [`Request::Invoke`].
    Operation {
        /// `TEEC_*` return code.
        code: u32,
        /// Who says so: [`ORIGIN_TEE`], [`ORIGIN_TRUSTED_APP`], …
        origin: u32,
        /// The session that was opened; 0 otherwise.
        session: u32,
        /// What came back.
        params: [ParamOut; 4],
    },
    /// To [`Request::CloseSession`], [`Request::ProcessError`] and [`Request::Provision`].
    Done,
    /// To [`Request::Info`].
    Info(Info),
    /// To [`Request::RequestTa`], [`Request::UnrequestTa`] and [`Request::PolicyCheck`]: whom to
    /// contact, if anybody.
    Contact(Option<Contact>),
    /// To [`Request::Process`].
    Processed(Processed),
    /// To [`Request::DeviceReport`]: a [`crate::device::DeviceReport`] in a COSE_Sign1 by the
    /// attestation key.
    DeviceReport(#[serde(with = "cbor::bytes")] Vec<u8>),
    /// The request could not be handled at all.
    Refused {
        /// Stable reason.
        code: RefusalCode,
        /// The same as a sentence.
        message: String,
    },
}

/// Why a request was not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RefusalCode {
    /// Not a request of this protocol, or one out of order.
    BadRequest,
    /// Another version of this protocol.
    Version,
    /// The caller may not do this.
    AccessDenied,
    /// A limit of the TEE is reached; later it may work.
    Busy,
    /// Storage or another part of the machine failed; the log of `teed` says what.
    Environment,
    /// A fault of the TEE itself; its log says more.
    Internal,
}

impl RefusalCode {
    /// Stable name for logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Version => "version",
            Self::AccessDenied => "access-denied",
            Self::Busy => "busy",
            Self::Environment => "environment",
            Self::Internal => "internal",
        }
    }
}

/// A TAM to contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The TAM's URI; empty if the TEE leaves the choice to the broker.
    pub tam_uri: String,
    /// What to send first; empty if the TAM begins. Spec: RFC 9397 section 6.2.1.
    #[serde(with = "cbor::bytes")]
    pub message: Vec<u8>,
}

/// A payload fetched for a TEEP message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// Where it came from, as the TEE named it.
    pub uri: String,
    /// The bytes.
    #[serde(with = "cbor::bytes")]
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({}, {} bytes)", self.uri, self.bytes.len())
    }
}

/// What came of a TEEP message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Processed {
    /// Send this to the TAM.
    Reply(#[serde(with = "cbor::bytes")] Vec<u8>),
    /// Fetch this payload and hand the message in again with it; nothing has changed so far.
    NeedPayload {
        /// Where it is.
        uri: String,
        /// Most bytes it may have; known from the signed manifest.
        max_bytes: u64,
    },
    /// There is nothing to send.
    Done,
}

/// What this TEE is, and how it is doing. Public data of the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// UEID in hex.
    pub ueid: String,
    /// Serial number of the maker.
    pub serial: String,
    /// Model, as text.
    pub hwmodel: String,
    /// Version of the TEE.
    pub version: String,
    /// Security level of the backend: `software`, `optee`, …
    pub security_level: String,
    /// Where the root key lies: `file`, `tpm`, `huk`, …
    pub storage_root: String,
    /// `gpd.tee.trustedStorage.antiRollback.protectionLevel`: 0, 100 or 1000.
    pub anti_rollback_level: u32,
    /// Parts of the sandbox that this start lacks; empty when it is whole.
    pub missing: Vec<String>,
    /// Installed TAs.
    pub trusted_apps: Vec<TrustedApp>,
    /// Figures.
    pub stats: Stats,
}

/// An installed TA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedApp {
    /// Its UUID.
    pub ta: TaUuid,
    /// Release digest in hex.
    pub release: String,
    /// Sequence number of its manifest.
    pub sequence_number: u64,
    /// Length of the module in bytes.
    pub module_len_bytes: u64,
}

/// Figures of a running TEE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Seconds since it started.
    pub uptime_secs: u64,
    /// Resident memory of the parent process, in KiB.
    pub rss_kib: u64,
    /// Resident memory of the largest worker that runs now, in KiB; 0 if there is none.
    pub worker_rss_kib: u64,
    /// Highest resident memory of a worker since the start, in KiB.
    pub worker_rss_peak_kib: u64,
    /// Workers that run now.
    pub workers: u32,
    /// Workers started since the start.
    pub workers_started: u64,
    /// Time from spawning the last worker until it was confined and ready, in microseconds.
    pub spawn_ready_us: u64,
    /// Connections that are open now.
    pub connections: u32,
    /// Sessions that are open now.
    pub sessions: u32,
    /// Calls into TAs since the start.
    pub calls: u64,
}

/// What an application asks of the agent over `agent.sock`. Frames as above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AgentRequest {
    /// Carry a CMP message to the CA and bring its answer. Spec: RFC 9811.
    Cmp {
        /// Path of the CA's CMP resource, as the TA named it.
        path: String,
        /// The message, DER.
        #[serde(with = "cbor::bytes")]
        body: Vec<u8>,
    },
    /// Contact the TAM now; with a TA that is wanted, or for whatever there is.
    Sync {
        /// The TA that is wanted.
        ta: Option<TaUuid>,
    },
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AgentReply {
    /// The CA's answer, DER.
    Cmp(#[serde(with = "cbor::bytes")] Vec<u8>),
    /// The TAM was contacted; this many messages went each way.
    Synced {
        /// Messages of the TAM that the TEE handled.
        messages: u32,
    },
    /// It did not work.
    Failed {
        /// What and why, as a sentence.
        message: String,
        /// True if it may work later.
        retryable: bool,
    },
}

/// Why bytes are not a frame of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than the receiver takes.
    #[error("a frame of {got} bytes is longer than {max} bytes")]
    TooLong {
        /// Allowed length in bytes.
        max: usize,
        /// The length that was found or claimed.
        got: usize,
    },
    /// The content is not what it should be.
    #[error("frame content: {0}")]
    Content(#[from] CborError),
}

/// The length that a frame's first four bytes announce.
///
/// # Errors
/// [`FrameError::TooLong`] above `max` bytes.
pub fn frame_len(prefix: [u8; 4], max: usize) -> Result<usize, FrameError> {
    let got = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
    if got > max {
        Err(FrameError::TooLong { max, got })
    } else {
        Ok(got)
    }
}

/// A whole frame: length and content.
///
/// # Errors
/// [`FrameError::TooLong`] if the content is longer than `max` bytes.
pub fn frame<T: Serialize>(message: &T, max: usize) -> Result<Vec<u8>, FrameError> {
    let content = cbor::to_vec(message)?;
    let too_long = FrameError::TooLong {
        max,
        got: content.len(),
    };
    let len = u32::try_from(content.len()).map_err(|_| too_long.clone())?;
    if content.len() > max {
        return Err(too_long);
    }
    let mut out = Vec::with_capacity(content.len().saturating_add(4));
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&content);
    Ok(out)
}

/// The message in a frame's content.
///
/// # Errors
/// [`FrameError::Content`] if it is not one.
pub fn content<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    Ok(cbor::from_slice(bytes)?)
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    fn calls() -> Vec<Call> {
        let params = [
            Param::ValueInout { a: 1, b: u32::MAX },
            Param::MemrefInput {
                buffer: vec![0, 255, 7],
            },
            Param::MemrefOutput { size: 4096 },
            Param::None,
        ];
        let ta = TaUuid([7; 16]);
        let requests = vec![
            Request::Hello { version: VERSION },
            Request::OpenSession {
                ta,
                login: Login::Group { gid: 100 },
                params: params.clone(),
            },
            Request::Invoke {
                session: 3,
                command: 9,
                params,
            },
            Request::CloseSession { session: 3 },
            Request::Cancel { call: u64::MAX },
            Request::Info,
            Request::RequestTa { ta },
            Request::Process {
                message: vec![0xd2; 40],
                payloads: vec![Payload {
                    uri: "#ta".into(),
                    bytes: vec![1; 10],
                }],
            },
            Request::ProcessError,
            Request::DeviceReport,
            Request::Provision {
                record: vec![0xd2; 300],
            },
        ];
        (0u64..)
            .zip(requests)
            .map(|(id, request)| Call { id, request })
            .collect()
    }

    #[test]
    fn requests_survive_the_wire_and_prefixes_do_not() {
        for call in calls() {
            let bytes = frame(&call, FRAME_LEN_BYTES_MAX).unwrap();
            let (prefix, body) = bytes.split_at(4);
            let len = frame_len(prefix.try_into().unwrap(), FRAME_LEN_BYTES_MAX).unwrap();
            assert_eq!(len, body.len());
            assert_eq!(content::<Call>(body).unwrap(), call);
            for cut in 0..body.len() {
                assert!(content::<Call>(&body[..cut]).is_err());
            }
        }
    }

    #[test]
    fn replies_survive_the_wire() {
        let replies = vec![
            Reply::Hello { version: 1 },
            Reply::Operation {
                code: 0,
                origin: ORIGIN_TRUSTED_APP,
                session: 4,
                params: [
                    ParamOut::None,
                    ParamOut::Value { a: 1, b: 2 },
                    ParamOut::Memref {
                        buffer: vec![9; 5],
                        size: 5,
                    },
                    ParamOut::Memref {
                        buffer: vec![],
                        size: 500,
                    },
                ],
            },
            Reply::Done,
            Reply::Contact(Some(Contact {
                tam_uri: "http://tam".into(),
                message: vec![],
            })),
            Reply::Contact(None),
            Reply::DeviceReport(vec![0xd2, 0x84]),
            Reply::Processed(Processed::Reply(vec![1, 2])),
            Reply::Processed(Processed::NeedPayload {
                uri: "http://cdn/x".into(),
                max_bytes: 9,
            }),
            Reply::Processed(Processed::Done),
            Reply::Refused {
                code: RefusalCode::Busy,
                message: "later".into(),
            },
        ];
        for reply in replies {
            let answer = Answer { id: 1, reply };
            let bytes = frame(&answer, FRAME_LEN_BYTES_MAX).unwrap();
            assert_eq!(content::<Answer>(&bytes[4..]).unwrap(), answer);
        }
    }

    #[test]
    fn byte_strings_cost_one_byte_each() {
        let call = Call {
            id: 0,
            request: Request::Process {
                message: vec![0xff; 1000],
                payloads: vec![],
            },
        };
        assert!(frame(&call, FRAME_LEN_BYTES_MAX).unwrap().len() < 1100);
    }

    #[test]
    fn a_claimed_length_is_judged_before_anything_is_read() {
        let got = frame_len(u32::MAX.to_le_bytes(), FRAME_LEN_BYTES_MAX);
        assert!(matches!(got, Err(FrameError::TooLong { .. })));
        let big = Call {
            id: 0,
            request: Request::Process {
                message: vec![0; 2000],
                payloads: vec![],
            },
        };
        assert!(matches!(frame(&big, 1000), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn nothing_a_client_sends_is_printed() {
        let call = Param::MemrefInput {
            buffer: b"secret".to_vec(),
        };
        assert_eq!(std::format!("{call:?}"), "MemrefInput(6 bytes)");
    }
}
