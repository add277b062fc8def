//! SUIT: envelopes, manifests, commands and reports.
//!
//! Purpose: turns the bytes of a manifest into the commands that a processor runs, and back. The
//! processor itself is in the TEE core; signatures are the crypto crate's.
//!
//! Invariants: what is hashed or signed is hashed as the bytes that came, never as a re-encoding.
//! An [`UnverifiedEnvelope`] gives its manifest only through [`UnverifiedEnvelope::check_digests`],
//! so a manifest that a processor sees is the one whose digest the signatures cover. Nesting,
//! commands, components and sizes are limited while reading.
//!
//! Absent on purpose: version comparison and the other commands of update-management (they are
//! recognised, see [`Condition::is_supported`], and left to be refused); MACs as authentication.
//!
//! Trusted: who changes this module can make a signed manifest do something else.
//!
//! Spec: draft-ietf-suit-manifest-37, draft-ietf-suit-trust-domains, draft-ietf-suit-report,
//! draft-ietf-suit-firmware-encryption

use crate::cbor::{CborError, Limits};

mod builder;
mod command;
mod component;
mod digest;
mod envelope;
mod manifest;
mod parameters;
mod report;

pub use builder::EnvelopeBuilder;
pub use command::{Command, Condition, Directive, IndexArg, RepPolicy, Sequence};
pub use component::ComponentId;
pub use digest::{HashAlg, SuitDigest};
pub use envelope::{AuthBlock, CheckedEnvelope, UnverifiedEnvelope};
pub use manifest::{Common, Dependency, Manifest, Section, Severable};
pub use parameters::{Parameters, VendorIdentifier};
pub use report::{
    CapabilityReport, ComponentCapability, Record, Reference, Report, ReportFailure, ReportReason,
    ReportRecord, ReportResult, SystemProperties,
};

/// CBOR tag of a SUIT envelope.
pub const TAG_ENVELOPE: u64 = 107;
/// CBOR tag of a SUIT manifest.
pub const TAG_MANIFEST: u64 = 1070;

/// Longest manifest in bytes: it stays in memory, with its commands, while it is processed.
pub const MAX_MANIFEST_LEN: usize = 64 * 1024;
/// Longest severed member or command sequence in bytes.
pub const MAX_SEQUENCE_LEN: usize = 64 * 1024;
/// Longest URI or integrated payload name in bytes.
pub const MAX_URI_LEN: usize = 1024;
/// Components that one manifest may name.
pub const MAX_COMPONENTS: usize = 32;
/// Dependencies that one manifest may name.
pub const MAX_DEPENDENCIES: usize = 16;
/// Segments of a component identifier.
pub const MAX_COMPONENT_SEGMENTS: usize = 16;
/// Bytes in one segment of a component identifier.
pub const MAX_SEGMENT_LEN: usize = 255;
/// Commands in one manifest, those in nested sequences included.
pub const MAX_COMMANDS: usize = 512;
/// Nesting of try-each and run-sequence.
pub const MAX_SEQUENCE_DEPTH: usize = 4;
/// Signatures and MACs on one envelope.
pub const MAX_AUTH_BLOCKS: usize = 8;
/// Integrated payloads and dependencies of one envelope.
pub const MAX_INTEGRATED: usize = 16;
/// Entries of a report's list of records.
pub const MAX_RECORDS: usize = 256;

/// For the inside of manifests: what stands inside byte strings is read, and limited, apart.
pub(crate) const CBOR_LIMITS: Limits = Limits {
    depth: 8,
    items: 2048,
};

/// Why bytes are not the SUIT structure that was asked for, or why it may not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuitError {
    /// Not the CBOR of its specification.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// The manifest has another structure version than 1.
    #[error("manifest version {got} is not supported, only 1")]
    Version {
        /// The version that was found.
        got: u64,
    },
    /// A member of a map that a processor must understand is not known.
    #[error("{what} has the unknown member {label}")]
    UnknownMember {
        /// Which map.
        what: &'static str,
        /// The label that was found.
        label: i64,
    },
    /// A digest uses another algorithm than SHA-256.
    #[error("digest algorithm {got} is not supported")]
    DigestAlgorithm {
        /// COSE algorithm number that was found.
        got: i64,
    },
    /// A digest does not fit what it is about.
    #[error("the digest of {what} does not match")]
    DigestMismatch {
        /// What was hashed.
        what: &'static str,
    },
    /// The envelope carries a severed member whose digest the manifest does not have.
    #[error("the envelope has the member {label}, which its manifest did not sever")]
    NotSevered {
        /// Label of the member.
        label: i64,
    },
    /// A limit of this implementation is exceeded.
    #[error("more than {max} {what}")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// How many are allowed.
        max: usize,
    },
    /// A value of ours does not follow its specification and was not encoded.
    #[error("{what} is not valid")]
    Invalid {
        /// Which value.
        what: &'static str,
    },
}
