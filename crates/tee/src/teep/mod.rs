//! The TEEP Agent: what it wants of a TAM, and what it does with a TAM's messages.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use tegata_crypto::Provider;
use tegata_wire::ids::TaUuid;

use crate::anchors::TrustAnchors;
use crate::platform::Platform;
use crate::tee::{DeviceKeys, TeeError};

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

/// State of the agent. It is lost with the machine: brokers ask again.
pub struct TeepAgent {
    tam_uri: Option<String>,
    requested: BTreeSet<TaUuid>,
    unneeded: BTreeSet<TaUuid>,
}

impl TeepAgent {
    pub(crate) fn new(tam_uri: Option<String>) -> Self {
        Self {
            tam_uri,
            requested: BTreeSet::new(),
            unneeded: BTreeSet::new(),
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

    pub(crate) fn policy_check(&mut self) -> Option<Contact> {
        Some(Contact {
            tam_uri: self.tam_uri.clone(),
            message: None,
        })
    }

    pub(crate) fn process_error(&mut self) {}

    pub(crate) fn process<P: Platform>(
        &mut self,
        _platform: &P,
        _provider: &dyn Provider,
        _anchors: &TrustAnchors,
        _keys: &DeviceKeys,
        _message: &[u8],
        _payloads: &Payloads,
    ) -> Result<TeepOutcome, TeeError> {
        Err(TeeError::Encode("TEEP messages are being written"))
    }
}

/// Most TAs that can be wanted at once: what a client asks for must not grow without bound.
pub const MAX_REQUESTS: usize = 32;
