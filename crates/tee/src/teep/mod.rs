//! The TEEP Agent: what it wants of a TAM, and what it does with a TAM's messages.
//!
//! Invariants: nothing of a message is looked at before its signature was verified under a TAM key
//! of the trust anchors, and nothing takes effect before every manifest of it passed; then all of
//! it is one commit. The same message again is answered again and changes nothing.
//!
//! The protocol ties an Update to no challenge of the device: a REE can deliver an old one again.
//! It gains no version by that (floors), and nothing that was carried out before is carried out
//! again after the opposite was (tokens of past messages, see [`crate::ta_store::Applied`]). A
//! message that a REE withheld and never delivered still works once.
//!
//! Not trusted: the broker that carries the messages and fetches payloads.
//!
//! Spec: draft-ietf-teep-protocol-26 section 7.2, RFC 9397 section 6.2.

mod answer;
mod query;
mod update;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use tegata_crypto::Provider;
use tegata_crypto::cose::verify_sign1;
use tegata_wire::ids::TaUuid;
use tegata_wire::teep::{ErrCode, MAX_MESSAGE_LEN, Message};

use crate::anchors::TrustAnchors;
use crate::platform::Platform;
use crate::ta_store::TaStore;
use crate::tee::{DeviceKeys, TeeError};

use answer::{Refusal, reply};

/// Payloads that the broker fetched, by URI.
pub type Payloads = BTreeMap<String, Vec<u8>>;

/// A TAM to contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Its URI; `None` leaves the choice to the broker.
    pub tam_uri: Option<String>,
    /// What to send first; `None` if the TAM begins.
    pub message: Option<Vec<u8>>,
}

/// What came of a TEEP message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TeepOutcome {
    /// Send this to the TAM.
    Reply(Vec<u8>),
    /// Fetch this and hand the same message in again with it; nothing has changed so far.
    NeedPayload {
        /// Where it is.
        uri: String,
        /// Most bytes it may have.
        max_bytes: usize,
    },
    /// There is nothing to send.
    Done,
}

/// What a message did, for the log of the process around the TEE.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TeepEvent {
    /// A QueryRequest was answered.
    Queried,
    /// An Update was carried out; the TAs it was about.
    Updated(Vec<TaUuid>),
    /// A message was refused, and nothing changed: stable code and sentence.
    Refused {
        /// Stable code.
        code: &'static str,
        /// The same for people; without anything a peer chose.
        message: String,
    },
    /// The broker could not reach the TAM.
    Unreachable,
    /// The TAM said that it could not do something.
    TamError {
        /// TEEP error code.
        code: u64,
    },
}

/// State of the agent. It is lost with the machine: brokers ask again.
pub struct TeepAgent {
    tam_uri: Option<String>,
    requested: BTreeSet<TaUuid>,
    unneeded: BTreeSet<TaUuid>,
    last_event: Option<TeepEvent>,
}

/// What one message is processed with.
struct Work<'a, P: Platform> {
    platform: &'a P,
    provider: &'a dyn Provider,
    anchors: &'a TrustAnchors,
    keys: &'a DeviceKeys,
    store: &'a TaStore<'a, P>,
    payloads: &'a Payloads,
}

impl TeepAgent {
    pub(crate) fn new(tam_uri: Option<String>) -> Self {
        Self {
            tam_uri,
            requested: BTreeSet::new(),
            unneeded: BTreeSet::new(),
            last_event: None,
        }
    }

    pub(crate) fn request_ta(&mut self, ta: &TaUuid, installed: bool) -> Option<Contact> {
        self.unneeded.remove(ta);
        if installed {
            self.requested.remove(ta);
            return None;
        }
        if self.requested.len() < MAX_REQUESTS {
            self.requested.insert(*ta);
        }
        self.policy_check()
    }

    pub(crate) fn unrequest_ta(&mut self, ta: &TaUuid, installed: bool) -> Option<Contact> {
        self.requested.remove(ta);
        if !installed {
            return None;
        }
        if self.unneeded.len() < MAX_REQUESTS {
            self.unneeded.insert(*ta);
        }
        self.policy_check()
    }

    /// The TAM always begins: its QueryRequest carries the challenge that evidence needs.
    pub(crate) fn policy_check(&mut self) -> Option<Contact> {
        Some(Contact {
            tam_uri: self.tam_uri.clone(),
            message: None,
        })
    }

    /// This agent sends nothing unsolicited, so there is nothing to take back.
    pub(crate) fn process_error(&mut self) {
        self.last_event = Some(TeepEvent::Unreachable);
    }

    /// What the last message did.
    pub(crate) fn last_event(&self) -> Option<&TeepEvent> {
        self.last_event.as_ref()
    }

    pub(crate) fn process<P: Platform>(
        &mut self,
        platform: &P,
        provider: &dyn Provider,
        anchors: &TrustAnchors,
        keys: &DeviceKeys,
        message: &[u8],
        payloads: &Payloads,
    ) -> Result<TeepOutcome, TeeError> {
        let store = TaStore::new(platform, provider)?;
        let work = Work {
            platform,
            provider,
            anchors,
            keys,
            store: &store,
            payloads,
        };
        let message = match open(&work, message) {
            Ok(message) => message,
            Err(refusal) => return self.refuse(keys, refusal, None),
        };
        let token = message.token().cloned();
        let answered = match message {
            Message::QueryRequest(request) => self.query(&work, request),
            Message::Update(update) => self.update(&work, update),
            Message::Error(error) => {
                self.last_event = Some(TeepEvent::TamError {
                    code: error.err_code.number(),
                });
                return Ok(TeepOutcome::Done);
            }
            // Messages of an agent; a TAM has no reason to send them.
            _ => Err(Refusal::new(
                ErrCode::PermanentError,
                "message-type",
                "not a TAM's message",
            )
            .into()),
        };
        match answered {
            Ok(outcome) => Ok(outcome),
            Err(Stopped::Refused(refusal)) => self.refuse(keys, *refusal, token),
            Err(Stopped::Failed(error)) => Err(error),
        }
    }

    fn refuse(
        &mut self,
        keys: &DeviceKeys,
        refusal: Refusal,
        token: Option<tegata_wire::teep::Token>,
    ) -> Result<TeepOutcome, TeeError> {
        self.last_event = Some(TeepEvent::Refused {
            code: refusal.code,
            message: refusal.message.clone(),
        });
        reply(keys, refusal.into_error(token).into())
    }
}

/// Why a message got no answer of its own kind.
enum Stopped {
    /// An Error message answers it.
    Refused(alloc::boxed::Box<Refusal>),
    /// The machine failed.
    Failed(TeeError),
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(alloc::boxed::Box::new(refusal))
    }
}

impl From<TeeError> for Stopped {
    fn from(error: TeeError) -> Self {
        Self::Failed(error)
    }
}

/// Verifies the TAM's signature, and only then reads the message.
// Spec: draft-ietf-teep-protocol, "validation":
// > Verify that the message contains a COSE_Sign1 or COSE_Sign structure.
fn open<P: Platform>(work: &Work<'_, P>, message: &[u8]) -> Result<Message, Refusal> {
    if message.len() > MAX_MESSAGE_LEN {
        return Err(Refusal::new(
            ErrCode::PermanentError,
            "too-long",
            "message is too long",
        ));
    }
    let keys = work.anchors.tam_keys();
    let verified = verify_sign1(work.provider, message, keys, b"", None)
        .map_err(|_| Refusal::new(ErrCode::PermanentError, "signature", "no trusted signature"))?;
    Message::decode(verified.payload())
        .map_err(|_| Refusal::new(ErrCode::PermanentError, "malformed", "message is malformed"))
}

/// Most TAs that can be wanted at once: what a client asks for must not grow without bound.
pub const MAX_REQUESTS: usize = 32;
