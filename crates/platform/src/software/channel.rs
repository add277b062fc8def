//! What `teed` and a worker say to each other over their socket pair.
//!
//! Trusted: the parent. Not trusted: a worker may have been taken over by its TA. All it can send
//! is a [`FromWorker`]; what it asks for is judged by services bound to its own TA.

use serde::{Deserialize, Serialize};
use tegata_tee::gp::host::{HostReply, HostRequest, SecretBytes};
use tegata_tee::session::launch::{Entry, LaunchError, Lifetime, Outcome};
use tegata_wire::ids::{SignerId, TaUuid};

use super::sandbox::probe::{Probe, ProbeOutcome};

/// Longest frame of this channel in bytes: a module of 2 MiB on the way in.
pub const FRAME_LEN_BYTES_MAX: usize = 4 << 20;

/// To a worker.
#[derive(Clone, Serialize, Deserialize)]
pub enum ToWorker {
    /// First: the TA to run.
    Launch {
        /// Thumbprint of the key that signs its releases.
        signer: SignerId,
        /// Its UUID.
        uuid: TaUuid,
        /// Its module, verified.
        module: SecretBytes,
    },
    /// Instead of it: one attempt to break out, for the sandbox's tests.
    Probe(Probe),
    /// Run an entry point.
    Enter(Entry),
    /// Answer to [`FromWorker::Ask`].
    Answer(HostReply),
}

/// From a worker.
#[derive(Clone, Serialize, Deserialize)]
pub enum FromWorker {
    /// It is confined; these walls could not be put up.
    Ready {
        /// Names of the missing walls.
        missing: Vec<String>,
    },
    /// The module was loaded; what it declares of its lifetime.
    Launched(Lifetime),
    /// The module was not loaded.
    NotLaunched(Refusal),
    /// It needs something of the TEE.
    Ask(HostRequest),
    /// The entry point ended.
    Finished {
        /// How.
        outcome: Outcome,
    },
    /// What came of a probe.
    Probed(ProbeOutcome),
}

/// A [`LaunchError`] on the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// [`LaunchError::Module`].
    Module(String),
    /// [`LaunchError::Resources`].
    Resources,
    /// [`LaunchError::Start`].
    Start(String),
}

impl From<LaunchError> for Refusal {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::Module { reason } => Self::Module(reason),
            LaunchError::Resources => Self::Resources,
            LaunchError::Start { reason } => Self::Start(reason),
            other => Self::Start(other.to_string()),
        }
    }
}

impl From<Refusal> for LaunchError {
    fn from(refusal: Refusal) -> Self {
        // A worker's text goes into a log: it is cut and made printable here.
        let clean = |text: String| -> String {
            text.chars().filter(|c| !c.is_control()).take(200).collect()
        };
        match refusal {
            Refusal::Module(reason) => Self::Module {
                reason: clean(reason),
            },
            Refusal::Resources => Self::Resources,
            Refusal::Start(reason) => Self::Start {
                reason: clean(reason),
            },
        }
    }
}
