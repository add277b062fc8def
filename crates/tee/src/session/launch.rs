//! How an instance of a TA comes to life and is spoken to, whatever process it lives in.
//!
//! Purpose: the session manager knows instances only through [`TaInstance`], made by a
//! [`Launcher`]. [`InProcess`](super::InProcess) runs them where it stands; a TEE with worker
//! processes sends [`Entry`] and receives [`Outcome`] over its socket, and answers the worker's
//! [`HostRequest`](crate::gp::host::HostRequest)s meanwhile.
//!
//! Trusted: a launcher sees the TA's code and everything that goes in and out of it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::gp::host::HostServices;
use crate::gp::params::{Params, ParamsOut};
use crate::gp::property::TaProperties;
use crate::storage::TaId;

/// GP's `TEE_Identity`: who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientIdentity {
    /// `TEE_LOGIN_*`.
    pub login: u32,
    /// UUID of the caller in network byte order; nil for `TEE_LOGIN_PUBLIC`.
    pub uuid: [u8; 16],
}

/// All that is needed to start an instance.
#[derive(Clone)]
pub struct LaunchSpec {
    /// Which TA.
    pub ta: TaId,
    /// Its Wasm module, already verified against its release.
    pub module: Arc<Vec<u8>>,
}

/// One call into an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// `TA_CreateEntryPoint`.
    Create,
    /// `TA_DestroyEntryPoint`.
    Destroy,
    /// `TA_OpenSessionEntryPoint`.
    OpenSession {
        /// Number of the session, never 0.
        session: u32,
        /// Who calls, as the TEE found out.
        client: ClientIdentity,
        /// Parameters.
        params: Params,
    },
    /// `TA_CloseSessionEntryPoint`.
    CloseSession {
        /// The session.
        session: u32,
    },
    /// `TA_InvokeCommandEntryPoint`.
    InvokeCommand {
        /// The session.
        session: u32,
        /// Command identifier.
        command: u32,
        /// Parameters.
        params: Params,
    },
}

/// What came of an [`Entry`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The entry point returned.
    Returned {
        /// Its return code (`TEE_SUCCESS` for entry points without one).
        code: u32,
        /// The parameters that went out.
        params: ParamsOut,
    },
    /// The TA panicked, trapped, ran out of fuel or was stopped: the instance is dead.
    Panicked(Panic),
}

/// Why an instance died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("TA panicked in {function} with {code:#010x}")]
pub struct Panic {
    /// GP panic code: the TA's own for `TEE_Panic`, else a `TEE_ERROR_*`.
    pub code: u32,
    /// The API function or the trap that ended it.
    pub function: String,
}

/// How long an instance of a TA lives and whom it serves, as its module declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// `gpd.ta.singleInstance`.
    pub single_instance: bool,
    /// `gpd.ta.multiSession`; has a meaning only with a single instance.
    pub multi_session: bool,
    /// `gpd.ta.instanceKeepAlive`; has a meaning only with a single instance.
    pub keep_alive: bool,
}

impl Lifetime {
    /// What `properties` say.
    #[must_use]
    pub const fn of(properties: &TaProperties) -> Self {
        Self {
            single_instance: properties.single_instance,
            multi_session: properties.single_instance && properties.multi_session,
            keep_alive: properties.single_instance && properties.instance_keep_alive,
        }
    }
}

/// An instance, wherever it runs. Entry points never run concurrently in one instance.
pub trait TaInstance: Send {
    /// What its module declares.
    fn lifetime(&self) -> Lifetime;

    /// Runs one entry point to its end. After [`Outcome::Panicked`] the instance is only dropped.
    fn call(&mut self, entry: Entry) -> Outcome;
}

/// Why an instance could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The module is not a TA this TEE can run.
    #[error("module refused: {reason}")]
    Module {
        /// What is wrong with it; public.
        reason: String,
    },
    /// No memory or process left.
    #[error("no resources to start an instance")]
    Resources,
    /// The launcher's own machinery failed.
    #[error("instance could not be started: {reason}")]
    Start {
        /// What failed.
        reason: String,
    },
}

/// Starts instances.
pub trait Launcher: Send + Sync {
    /// Starts an instance of `spec`; it reaches the TEE through `services` alone.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing runs then.
    fn launch(
        &self,
        spec: &LaunchSpec,
        services: Box<dyn HostServices>,
    ) -> Result<Box<dyn TaInstance>, LaunchError>;
}
