//! Why an update was refused, and where.

use alloc::string::String;

use tegata_crypto::cose::CoseError;
use tegata_crypto::suit::SuitError as PayloadError;
use tegata_wire::suit::{
    Condition, Directive, Parameters, Record, ReportFailure, ReportReason, Section,
    SuitError as WireError,
};

use super::component::TaComponent;
use crate::storage::{StorageError, TaId};
use crate::ta_store::TaStoreError;

/// Why an update was refused. Nothing of it took effect.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SuitError {
    /// Not a manifest that can be read.
    #[error("manifest refused: {0}")]
    Wire(#[from] WireError),
    /// No trusted key signed it.
    #[error("no trusted signature on the manifest: {0}")]
    Unauthorised(CoseError),
    /// No authentication block of a kind this TEE accepts.
    #[error("manifest has no COSE_Sign1")]
    NoSignature,
    /// A TAM's manifest stands where a release must.
    #[error("a TAM cannot sign a dependency")]
    TamDependency,
    /// This TEE has no such component.
    #[error("no such component: {component}")]
    ComponentUnsupported {
        /// The component, readable.
        component: String,
    },
    /// The signer does not own the component.
    #[error("the signer may not touch {component}")]
    ComponentUnauthorised {
        /// The component.
        component: TaComponent,
    },
    /// A release manifest does not say which TA it is about.
    #[error("release manifest has no reference URI tegata:ta:<name> that its UUID derives from")]
    NameMissing,
    /// A TAM set a parameter that only the signer of a TA may set.
    #[error("a TAM may not set parameter {label} of {component}")]
    ParameterUnauthorised {
        /// Label of the parameter.
        label: i64,
        /// The component.
        component: TaComponent,
    },
    /// The version is older than one this device had, or another one of the same number.
    #[error("sequence number {got} is not above {floor}, TA {}", ta.uuid)]
    Rollback {
        /// The TA.
        ta: TaId,
        /// Sequence number of the manifest.
        got: u64,
        /// The stored number.
        floor: u64,
    },
    /// Release and personalization are not of the same version.
    #[error("release {release} with personalization {config}")]
    VersionsDiffer {
        /// Sequence number of the release.
        release: u64,
        /// Sequence number of the personalization manifest.
        config: u64,
    },
    /// A condition does not hold.
    #[error("condition {} failed", condition.code())]
    ConditionFailed {
        /// The condition.
        condition: Condition,
        /// What the device has instead.
        actual: alloc::boxed::Box<Parameters>,
    },
    /// Every sequence of a try-each failed.
    #[error("no sequence of the try-each succeeded")]
    NoneSucceeded,
    /// A command that this TEE does not do, or not here.
    #[error("command {code} is not supported here")]
    CommandUnsupported {
        /// Command number.
        code: i64,
    },
    /// A parameter that this TEE has no use for.
    #[error("parameter {label} is not supported")]
    ParameterUnsupported {
        /// Label of the parameter.
        label: i64,
    },
    /// A command needs a parameter that was not set.
    #[error("parameter {label} is not set")]
    ParameterMissing {
        /// Label of the parameter.
        label: i64,
    },
    /// No component was chosen, or one that there is not.
    #[error("no component with index {index:?}")]
    BadIndex {
        /// The index; `None` if none was chosen.
        index: Option<u64>,
    },
    /// A directive failed for want of what it works on.
    #[error("directive {} has nothing to work on", directive.code())]
    NothingThere {
        /// The directive.
        directive: Directive,
    },
    /// A payload is neither integrated nor reachable.
    #[error("payload {uri} is not in the envelope")]
    PayloadMissing {
        /// Its URI.
        uri: String,
    },
    /// A payload does not decrypt.
    #[error("payload does not decrypt: {0}")]
    Payload(PayloadError),
    /// A payload is larger than its component may be.
    #[error("{got_bytes} bytes, more than {max_bytes}")]
    TooLarge {
        /// Its length in bytes.
        got_bytes: usize,
        /// Limit in bytes.
        max_bytes: usize,
    },
    /// The update asks for more work than a TEE does for one message.
    #[error("more than {max} {what}")]
    Budget {
        /// What is limited.
        what: &'static str,
        /// How much is allowed.
        max: usize,
    },
    /// A dependency is processed before its integrity was checked.
    #[error("dependency {index} was not checked")]
    DependencyUnchecked {
        /// Its index.
        index: u64,
    },
    /// A declared dependency was never processed, or a section of it was left out.
    #[error("section {} of dependency {index} was not processed", section.label())]
    DependencySkipped {
        /// Its index.
        index: u64,
        /// The section.
        section: Section,
    },
    /// A severed section is not in the envelope.
    #[error("section {} was severed and is not in the envelope", section.label())]
    Severed {
        /// The section.
        section: Section,
    },
    /// A component was written and never compared with a digest of its signer.
    #[error("{component} was written but not checked")]
    Unchecked {
        /// The component.
        component: TaComponent,
    },
    /// The update installs parts of a TA without its module, or nothing at all.
    #[error("the update does not install a whole TA")]
    Incomplete,
    /// Two manifests of one message are about the same TA.
    #[error("TA {0} occurs twice in one message")]
    Twice(tegata_wire::ids::TaUuid),
    /// The store refused, or the machine failed.
    #[error(transparent)]
    Store(#[from] TaStoreError),
}

impl SuitError {
    /// Stable name for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.numbered().1
    }

    /// The TEE's own error number in SUIT Reports.
    #[must_use]
    pub const fn number(&self) -> i64 {
        self.numbered().0
    }

    /// Whether the same update may succeed later without being changed.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Store(TaStoreError::Storage(StorageError::Platform(_)))
        )
    }

    const fn numbered(&self) -> (i64, &'static str) {
        match self {
            Self::Wire(_) => (1, "malformed"),
            Self::Unauthorised(_) => (2, "unauthorised"),
            Self::NoSignature => (3, "no-signature"),
            Self::TamDependency => (4, "tam-dependency"),
            Self::ComponentUnsupported { .. } => (5, "component-unsupported"),
            Self::ComponentUnauthorised { .. } => (6, "component-unauthorised"),
            Self::NameMissing => (7, "name-missing"),
            Self::ParameterUnauthorised { .. } => (8, "parameter-unauthorised"),
            Self::Rollback { .. } => (9, "rollback"),
            Self::VersionsDiffer { .. } => (10, "versions-differ"),
            Self::ConditionFailed { .. } => (11, "condition-failed"),
            Self::NoneSucceeded => (12, "none-succeeded"),
            Self::CommandUnsupported { .. } => (13, "command-unsupported"),
            Self::ParameterUnsupported { .. } => (14, "parameter-unsupported"),
            Self::ParameterMissing { .. } => (15, "parameter-missing"),
            Self::BadIndex { .. } => (16, "bad-index"),
            Self::NothingThere { .. } => (17, "nothing-there"),
            Self::PayloadMissing { .. } => (18, "payload-missing"),
            Self::Payload(_) => (19, "payload"),
            Self::TooLarge { .. } => (20, "too-large"),
            Self::Budget { .. } => (21, "budget"),
            Self::DependencyUnchecked { .. } => (22, "dependency-unchecked"),
            Self::DependencySkipped { .. } => (23, "dependency-skipped"),
            Self::Severed { .. } => (24, "severed"),
            Self::Unchecked { .. } => (25, "unchecked"),
            Self::Incomplete => (26, "incomplete"),
            Self::Twice(_) => (27, "twice"),
            Self::Store(_) => (28, "store"),
        }
    }

    /// The reason as SUIT Reports name it.
    #[must_use]
    pub fn reason(&self) -> ReportReason {
        match self {
            Self::Wire(WireError::DigestAlgorithm { .. }) => ReportReason::AlgUnsupported,
            Self::Wire(WireError::DigestMismatch { .. }) => ReportReason::Unauthorised,
            Self::Wire(_) => ReportReason::CborParse,
            Self::Unauthorised(CoseError::Algorithm { .. })
            | Self::Payload(PayloadError::Algorithm { .. }) => ReportReason::AlgUnsupported,
            Self::Unauthorised(CoseError::Critical) | Self::NoSignature => {
                ReportReason::CoseUnsupported
            }
            Self::Unauthorised(_) | Self::TamDependency | Self::NameMissing => {
                ReportReason::Unauthorised
            }
            Self::ComponentUnsupported { .. } | Self::BadIndex { .. } => {
                ReportReason::ComponentUnsupported
            }
            Self::ComponentUnauthorised { .. } | Self::ParameterUnauthorised { .. } => {
                ReportReason::ComponentUnauthorised
            }
            Self::CommandUnsupported { .. } => ReportReason::CommandUnsupported,
            Self::ParameterUnsupported { .. } => ReportReason::ParameterUnsupported,
            Self::Severed { .. } => ReportReason::SeveringUnsupported,
            Self::ConditionFailed { .. } | Self::NoneSucceeded => ReportReason::ConditionFailed,
            Self::Rollback { .. }
            | Self::VersionsDiffer { .. }
            | Self::ParameterMissing { .. }
            | Self::NothingThere { .. }
            | Self::PayloadMissing { .. }
            | Self::Payload(_)
            | Self::TooLarge { .. }
            | Self::Budget { .. }
            | Self::DependencyUnchecked { .. }
            | Self::DependencySkipped { .. }
            | Self::Unchecked { .. }
            | Self::Incomplete
            | Self::Twice(_)
            | Self::Store(_) => ReportReason::OperationFailed,
        }
    }
}

impl From<StorageError> for SuitError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// Where in the tree of manifests something happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Indices of dependencies from the root manifest down; empty for the root itself.
    pub manifest: alloc::vec::Vec<u64>,
    /// Label of the section; 0 before any section runs.
    pub section: i64,
    /// Byte offset of the command in its sequence.
    pub offset: u64,
    /// Component index at that command.
    pub component: u64,
}

impl Location {
    /// The SUIT Record of this place with these measured values.
    #[must_use]
    pub fn record(&self, properties: Parameters) -> Record {
        Record {
            manifest_id: self.manifest.clone(),
            section: self.section,
            offset: self.offset,
            component_index: self.component,
            properties,
        }
    }
}

/// The failure part of a SUIT Report.
#[must_use]
pub fn report_failure(error: &SuitError, at: &Location) -> ReportFailure {
    let actual = match error {
        SuitError::ConditionFailed { actual, .. } => (**actual).clone(),
        _ => Parameters::default(),
    };
    ReportFailure {
        code: error.number(),
        record: at.record(actual),
        reason: error.reason(),
    }
}
