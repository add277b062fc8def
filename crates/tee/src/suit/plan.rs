//! From a finished machine to changes of the TA store: versions, completeness, ownership.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use tegata_crypto::Secret;
use tegata_wire::ids::{Digest, ReleaseDigest, TaUuid};
use tegata_wire::suit::{Parameters, ReportRecord, SuitDigest, SystemProperties};

use super::Context;
use super::component::{Part, TaComponent};
use super::error::SuitError;
use super::machine::{Machine, Node};
use super::manifest::{AuthenticManifest, Authority};
use crate::platform::Platform;
use crate::storage::TaId;
use crate::ta_store::{Floor, Installation, Manifests, TaChange, TaRecord};

/// What an update comes to.
pub(super) struct Planned {
    pub changes: Vec<TaChange>,
    pub tas: Vec<TaUuid>,
    pub records: Vec<ReportRecord>,
}

/// Makes the changes of everything that was staged.
///
/// # Errors
/// [`SuitError`] if a part was not checked, is missing, or is of another version.
pub(super) fn plan<P: Platform + ?Sized>(
    machine: &mut Machine<'_, '_, P>,
) -> Result<Planned, SuitError> {
    if let Some((component, _)) = machine.staging.iter().find(|(_, staged)| !staged.checked) {
        return Err(SuitError::Unchecked {
            component: *component,
        });
    }
    let uuids: BTreeSet<TaUuid> = machine
        .staging
        .keys()
        .map(|component| component.uuid)
        .collect();
    if uuids.is_empty() {
        return Err(SuitError::Incomplete);
    }
    let mut changes = Vec::new();
    for uuid in &uuids {
        changes.extend(plan_ta(machine, uuid)?);
    }
    let mut records = core::mem::take(&mut machine.records);
    records.extend(properties(machine));
    Ok(Planned {
        changes,
        tas: uuids.into_iter().collect(),
        records,
    })
}

/// The change for one TA; `None` if exactly this is installed already.
fn plan_ta<P: Platform + ?Sized>(
    machine: &mut Machine<'_, '_, P>,
    uuid: &TaUuid,
) -> Result<Option<TaChange>, SuitError> {
    let release = manifest_of(&machine.nodes, uuid, Part::Ta).ok_or(SuitError::Incomplete)?;
    let config = manifest_of(&machine.nodes, uuid, Part::Config);
    let ta = release.owner_of(Part::Ta).ok_or(SuitError::Incomplete)?;
    let root = machine.nodes.first().ok_or(SuitError::Incomplete)?;
    let root = &root.authentic;

    let sequence_number = release.manifest.sequence_number;
    check_release_floor(machine.ctx, release, &ta)?;
    if let Some(config) = config {
        let config = config.manifest.sequence_number;
        if config != sequence_number {
            return Err(SuitError::VersionsDiffer {
                release: sequence_number,
                config,
            });
        }
    }
    let dependent = dependent_number(machine.ctx, root, &ta)?;
    // Every part that a manifest of this update declares must have been brought.
    for manifest in [Some(release), config].into_iter().flatten() {
        let missing = manifest
            .ta_components()
            .any(|component| component.uuid == *uuid && !machine.staging.contains_key(&component));
        if missing {
            return Err(SuitError::Incomplete);
        }
    }
    let config_digest = config.map(|manifest| manifest.digest);
    let release_digest = ReleaseDigest::from(release.digest);
    if let Some(installed) = machine.ctx.store.record(uuid)? {
        let same_release = installed.id == ta && installed.release == release_digest;
        if same_release && installed.config_manifest == config_digest {
            return Ok(None);
        }
        if installed.sequence_number >= sequence_number {
            let (got, floor) = (sequence_number, installed.sequence_number);
            return Err(SuitError::Rollback { ta, got, floor });
        }
    }
    let manifests = Manifests {
        release: release.envelope.clone(),
        config: config
            .filter(|config| config.digest != release.digest)
            .map(|config| config.envelope.clone()),
        dependent: (root.authority == Authority::Tam).then(|| root.envelope.clone()),
    };
    let root_manifest = root.digest;
    let reference_uri = release.manifest.reference_uri.clone().unwrap_or_default();
    let take = |part| {
        machine
            .staging
            .get(&TaComponent { uuid: *uuid, part })
            .map(|s| s.bytes.dangerous_clone())
    };
    let module = take(Part::Ta)
        .ok_or(SuitError::Incomplete)?
        .expose_secret()
        .clone();
    let plain = |bytes: Secret<Vec<u8>>| bytes.expose_secret().clone();
    let procedure = take(Part::Procedure).map(plain);
    let config = take(Part::Config);
    let record = TaRecord {
        id: ta,
        sequence_number,
        release: release_digest,
        config_manifest: config_digest,
        root_manifest,
        module_digest: Digest(machine.ctx.provider.sha256(&module)),
        module_len_bytes: u64::try_from(module.len()).map_err(|_| SuitError::Incomplete)?,
        reference_uri,
    };
    let floor = Floor {
        release: sequence_number,
        release_digest,
        dependent,
    };
    Ok(Some(TaChange::Install(Box::new(Installation {
        record,
        floor,
        module,
        procedure,
        config,
        manifests,
    }))))
}

/// The one manifest of a release key that declares `part` of `uuid`.
fn manifest_of<'m>(nodes: &'m [Node], uuid: &TaUuid, part: Part) -> Option<&'m AuthenticManifest> {
    let wanted = TaComponent { uuid: *uuid, part };
    nodes
        .iter()
        .map(|node| &*node.authentic)
        .filter(|manifest| matches!(manifest.authority, Authority::Release(_)))
        .find(|manifest| {
            manifest
                .ta_components()
                .any(|component| component == wanted)
        })
}

/// Checks the version of a manifest before any command of it runs.
// Spec: draft-ietf-suit-manifest, "manifest-seqnr":
// > Each Recipient MUST reject any manifest that has a sequence number lower than its current
// > sequence number.
pub(super) fn check_floor<P: Platform + ?Sized>(
    ctx: &Context<'_, P>,
    manifest: &AuthenticManifest,
) -> Result<(), SuitError> {
    match manifest.authority {
        Authority::Release(_) => {
            for part in Part::ALL {
                let Some(ta) = manifest.owner_of(part) else {
                    continue;
                };
                let got = manifest.manifest.sequence_number;
                match ctx.store.floor(&ta)? {
                    Some(Floor { release: floor, .. }) if got < floor => {
                        return Err(SuitError::Rollback { ta, got, floor });
                    }
                    _ => {}
                }
            }
            Ok(())
        }
        Authority::Tam => {
            for component in manifest.ta_components() {
                // Whose TA it will be is known once its release was verified; an installed one
                // is known now.
                if let Some(record) = ctx.store.record(&component.uuid)? {
                    dependent_number(ctx, manifest, &record.id)?;
                }
            }
            Ok(())
        }
    }
}

/// A release must be above the floor, or be the very release that set it.
fn check_release_floor<P: Platform + ?Sized>(
    ctx: &Context<'_, P>,
    release: &AuthenticManifest,
    ta: &TaId,
) -> Result<(), SuitError> {
    let got = release.manifest.sequence_number;
    let Some(floor) = ctx.store.floor(ta)? else {
        return Ok(());
    };
    let same = got == floor.release && ReleaseDigest::from(release.digest) == floor.release_digest;
    if got > floor.release || same {
        Ok(())
    } else {
        Err(SuitError::Rollback {
            ta: *ta,
            got,
            floor: floor.release,
        })
    }
}

/// The floor under a TAM's manifests from now on; a release that came alone leaves it as it was.
fn dependent_number<P: Platform + ?Sized>(
    ctx: &Context<'_, P>,
    root: &AuthenticManifest,
    ta: &TaId,
) -> Result<u64, SuitError> {
    let floor = ctx.store.floor(ta)?.map_or(0, |floor| floor.dependent);
    if root.authority != Authority::Tam {
        return Ok(floor);
    }
    let got = root.manifest.sequence_number;
    if got < floor {
        Err(SuitError::Rollback {
            ta: *ta,
            got,
            floor,
        })
    } else {
        Ok(got)
    }
}

/// What was installed, for the report.
fn properties<P: Platform + ?Sized>(machine: &Machine<'_, '_, P>) -> Vec<ReportRecord> {
    let claims = |(component, staged): (&TaComponent, &super::machine::Staged)| {
        let bytes = staged.bytes.expose_secret();
        let digest = Digest(machine.ctx.provider.sha256(bytes));
        ReportRecord::SystemProperties(SystemProperties {
            component_id: component.to_id(),
            properties: Parameters {
                image_digest: Some(SuitDigest::sha256(digest)),
                image_size: u64::try_from(bytes.len()).ok(),
                ..Parameters::default()
            },
        })
    };
    machine.staging.iter().map(claims).collect()
}
