//! The SUIT manifest processor: from an envelope to a set of changes for the TA store, or a report
//! of why not.
//!
//! A TAM's dependent manifest brings releases (dependencies) to this device; a release manifest
//! may also come by itself. Signatures come first, then versions, then commands; commands write to
//! a staging area in memory, and only when everything passed are there changes to commit.
//!
//! Invariants: what is installed was compared with a digest its own signer set; nothing older than
//! a floor passes; release and personalization are of one version; no manifest costs more than the
//! budgets below.
//!
//! Deliberately absent: invoke (the TEE starts TAs itself), slots, custom commands and parameters.
//! Each is refused by name.
//!
//! Not trusted: envelopes and payloads. A TAM is trusted to choose and to withhold, not to alter.
//!
//! Spec: draft-ietf-suit-manifest-37, draft-ietf-suit-trust-domains-11,
//! draft-ietf-suit-firmware-encryption, draft-ietf-suit-report.

mod component;
mod error;
mod machine;
mod manifest;
mod operations;
mod params;
mod plan;

use alloc::string::String;
use alloc::vec::Vec;

use tegata_crypto::Provider;
use tegata_crypto::suit::DeliveryKeys;
use tegata_wire::ids::{Digest, TaUuid};
use tegata_wire::suit::{Reference, Report, ReportResult, Section, SuitDigest};

use crate::anchors::TrustAnchors;
use crate::platform::Platform;
use crate::ta_store::{TaChange, TaStore};
use crate::teep::Payloads;

pub use component::{
    Part, TaComponent, config_manifest_id, release_manifest_id, root_manifest_ta, tam_manifest_id,
};
pub use error::{Location, SuitError};

use machine::{Machine, Stop};
use manifest::AuthenticManifest;

/// What the processor works with.
pub struct Context<'p, P: Platform + ?Sized> {
    /// The machine.
    pub platform: &'p P,
    /// The primitives.
    pub provider: &'p dyn Provider,
    /// Whom this device believes.
    pub anchors: &'p TrustAnchors,
    /// What opens this device's payloads.
    pub delivery: DeliveryKeys<'p>,
    /// What is installed.
    pub store: &'p TaStore<'p, P>,
    /// Payloads that the broker fetched.
    pub payloads: &'p Payloads,
}

/// What became of a manifest. Nothing is committed yet.
#[must_use]
pub enum Outcome {
    /// Everything passed: these changes install it. None if it is installed already.
    Passed {
        /// For [`TaStore::apply`].
        changes: Vec<TaChange>,
        /// The TAs that the manifest is about.
        tas: Vec<TaUuid>,
        /// The report of success.
        report: Report,
    },
    /// A payload must be fetched first.
    NeedPayload {
        /// Where it is.
        uri: String,
        /// Most bytes it may have.
        max_bytes: usize,
    },
    /// Something did not pass.
    Failed(Failure),
}

/// Why and where a manifest failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Why.
    pub error: SuitError,
    /// Where.
    pub at: Location,
    /// The report, unless the envelope does not even claim a digest.
    pub report: Option<Report>,
}

/// Processes the update procedure of an envelope.
///
/// Spec: draft-ietf-suit-manifest section 6, draft-ietf-suit-trust-domains section 5.
pub fn process_update<P: Platform + ?Sized>(
    ctx: &Context<'_, P>,
    envelope: &[u8],
    nonce: Option<&[u8]>,
) -> Outcome {
    let root = match authenticate(ctx, envelope) {
        Ok(root) => root,
        Err(error) => {
            let reference = AuthenticManifest::alleged_digest(envelope).map(|digest| Reference {
                uri: String::new(),
                digest,
            });
            return failed(error, Location::default(), reference, nonce);
        }
    };
    let reference = reference(&root);
    let mut machine = Machine::new(ctx, root);
    let result = if machine.root_has(&UPDATE) {
        machine.run(&UPDATE)
    } else {
        Err(Stop::Abort(SuitError::Incomplete))
    };
    let planned = result.and_then(|()| plan::plan(&mut machine).map_err(Stop::Abort));
    match planned {
        Ok(planned) => {
            let mut report = Report::success(reference, nonce.map(<[u8]>::to_vec));
            report.records = planned.records;
            Outcome::Passed {
                changes: planned.changes,
                tas: planned.tas,
                report,
            }
        }
        Err(Stop::NeedPayload { uri, max_bytes }) => Outcome::NeedPayload { uri, max_bytes },
        Err(Stop::Condition(error) | Stop::Abort(error)) => {
            failed(error, machine.at, Some(reference), nonce)
        }
    }
}

/// Processes the uninstall section of an installed TA's manifests; its removal is then one change.
///
/// # Errors
/// [`SuitError`] if its manifest forbids the removal by a failing condition.
///
/// Spec: draft-ietf-suit-trust-domains section 6.
pub fn process_uninstall<P: Platform + ?Sized>(
    ctx: &Context<'_, P>,
    uuid: &TaUuid,
) -> Result<Vec<TaChange>, SuitError> {
    let Some(manifests) = ctx.store.manifests(uuid)? else {
        return Ok(Vec::new());
    };
    let envelopes = [Some(manifests.release), manifests.config];
    for envelope in envelopes.into_iter().flatten() {
        let root = match AuthenticManifest::verify(ctx.provider, ctx.anchors, &envelope) {
            Ok(root) => root,
            // Its key is no longer an anchor. The removal of what is not believed is not refused.
            Err(SuitError::Unauthorised(_) | SuitError::NoSignature) => continue,
            Err(error) => return Err(error),
        };
        let mut machine = Machine::new(ctx, root);
        match machine.run(&[Section::Uninstall]) {
            Ok(()) => {}
            Err(Stop::Condition(error) | Stop::Abort(error)) => return Err(error),
            Err(Stop::NeedPayload { uri, .. }) => return Err(SuitError::PayloadMissing { uri }),
        }
    }
    Ok(alloc::vec![TaChange::Uninstall(*uuid)])
}

fn authenticate<P: Platform + ?Sized>(
    ctx: &Context<'_, P>,
    envelope: &[u8],
) -> Result<AuthenticManifest, SuitError> {
    if envelope.len() > MAX_ENVELOPE_BYTES {
        let (got_bytes, max_bytes) = (envelope.len(), MAX_ENVELOPE_BYTES);
        return Err(SuitError::TooLarge {
            got_bytes,
            max_bytes,
        });
    }
    let root = AuthenticManifest::verify(ctx.provider, ctx.anchors, envelope)?;
    plan::check_floor(ctx, &root)?;
    Ok(root)
}

fn reference(root: &AuthenticManifest) -> Reference {
    Reference {
        uri: root.manifest.reference_uri.clone().unwrap_or_default(),
        digest: SuitDigest::sha256(root.digest),
    }
}

fn failed(
    error: SuitError,
    at: Location,
    reference: Option<Reference>,
    nonce: Option<&[u8]>,
) -> Outcome {
    let report = reference.map(|reference| {
        let mut report = Report::success(reference, nonce.map(<[u8]>::to_vec));
        report.result = ReportResult::Failure(error::report_failure(&error, &at));
        report
    });
    Outcome::Failed(Failure { error, at, report })
}

/// SUIT digest of the manifest in an envelope, without any check: for logs.
#[must_use]
pub fn alleged_digest(envelope: &[u8]) -> Option<Digest> {
    AuthenticManifest::alleged_digest(envelope)?
        .to_sha256()
        .ok()
}

/// The update procedure: staging, then installation, then validation.
const UPDATE: [Section; 5] = [
    Section::DependencyResolution,
    Section::PayloadFetch,
    Section::CandidateVerification,
    Section::Install,
    Section::Validate,
];

/// Largest envelope in bytes: a TA module with everything beside it.
pub const MAX_ENVELOPE_BYTES: usize = 3 * 1024 * 1024;

/// Most commands in one update, those repeated for several components counted each time.
pub const MAX_STEPS: usize = 4096;

/// Most bytes fetched, copied, decrypted and verified in one update.
pub const MAX_WORK_BYTES: usize = 16 * 1024 * 1024;

/// Most manifests in one update; each costs a signature to verify.
pub const MAX_TREE: usize = 8;

/// Most levels of dependencies.
pub const MAX_DEPTH: usize = 3;
