//! What single conditions and directives do to components.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tegata_crypto::Secret;
use tegata_crypto::suit::dangerous_open_payload_or_ctr;
use tegata_wire::ids::{ClassId, DeviceUuid, Digest, VendorId};
use tegata_wire::suit::{Condition, Directive, Parameters, SuitDigest, VendorIdentifier};

use super::component::{Part, TaComponent};
use super::error::SuitError;
use super::machine::{Machine, Staged, Stop};
use super::manifest::Authority;
use super::params::{LABEL_CONTENT, LABEL_IMAGE_DIGEST, LABEL_SOURCE, LABEL_URI};
use crate::platform::Platform;
use crate::ta_store::MAX_MODULE_BYTES;

impl<P: Platform + ?Sized> Machine<'_, '_, P> {
    /// Judges one condition about one component.
    pub(super) fn check(
        &mut self,
        node: usize,
        index: u64,
        condition: Condition,
    ) -> Result<(), Stop> {
        let wanted = self.seen(node, index)?;
        let identity = self.ctx.platform.identity();
        let failed = |actual: Parameters| {
            Stop::Condition(SuitError::ConditionFailed {
                condition,
                actual: Box::new(actual),
            })
        };
        let none = Parameters::default;
        match condition {
            Condition::VendorIdentifier => {
                let ours = identity
                    .vendor_ids
                    .first()
                    .map(|id| VendorIdentifier::Uuid(VendorId(*id)));
                let same = match wanted.vendor_id {
                    Some(VendorIdentifier::Uuid(id)) => identity.vendor_ids.contains(&id.0),
                    _ => false,
                };
                holds(same, || {
                    failed(Parameters {
                        vendor_id: ours,
                        ..none()
                    })
                })
            }
            Condition::ClassIdentifier => {
                let ours = identity.class_ids.first().map(|id| ClassId(*id));
                let same = wanted
                    .class_id
                    .is_some_and(|id| identity.class_ids.contains(&id.0));
                holds(same, || {
                    failed(Parameters {
                        class_id: ours,
                        ..none()
                    })
                })
            }
            Condition::DeviceIdentifier => {
                let ours = DeviceUuid::derive(&identity.ueid);
                let same = wanted.device_id == Some(ours);
                holds(same, || {
                    failed(Parameters {
                        device_id: Some(ours),
                        ..none()
                    })
                })
            }
            Condition::ComponentSlot => {
                // Every component has the one slot 0: the store replaces, it does not alternate.
                let same = wanted.component_slot == Some(0);
                holds(same, || {
                    failed(Parameters {
                        component_slot: Some(0),
                        ..none()
                    })
                })
            }
            Condition::ImageMatch => self.image_match(node, index, &wanted),
            Condition::CheckContent => {
                let component = self.own_component(node, index)?;
                let content = wanted.content.ok_or(SuitError::ParameterMissing {
                    label: LABEL_CONTENT,
                })?;
                let same = match self.staging.get(&component) {
                    Some(staged) => staged.bytes.ct_eq(&content),
                    None => false,
                };
                holds(same, || failed(none()))?;
                self.mark_checked(&component);
                Ok(())
            }
            Condition::DependencyIntegrity => self.dependency_integrity(node, index),
            Condition::IsDependency => holds(self.is_dependency(node, index)?, || failed(none())),
            Condition::Abort => Err(failed(none())),
            other => Err(SuitError::CommandUnsupported { code: other.code() }.into()),
        }
    }

    /// Compares a component, or a dependency's manifest, with the digest its signer gave.
    fn image_match(&mut self, node: usize, index: u64, wanted: &Parameters) -> Result<(), Stop> {
        let condition = Condition::ImageMatch;
        let digest = wanted.image_digest.as_ref();
        let digest = digest.ok_or(SuitError::ParameterMissing {
            label: LABEL_IMAGE_DIGEST,
        })?;
        let digest = digest.to_sha256().map_err(SuitError::Wire)?;
        if self.is_dependency(node, index)? {
            let actual = self.dependency_digest(node, index)?;
            return compare(condition, digest, actual, None, None);
        }
        let component = self.own_component(node, index)?;
        if !self.staging.contains_key(&component) {
            self.stage_installed(node, &component, digest)?;
        }
        let directive = Directive::Fetch;
        let staged = self
            .staging
            .get(&component)
            .ok_or(Stop::Condition(SuitError::NothingThere { directive }))?;
        let bytes = staged.bytes.expose_secret();
        let actual = Digest(self.ctx.provider.sha256(bytes));
        let size = u64::try_from(bytes.len()).ok();
        compare(condition, digest, actual, wanted.image_size, size)?;
        self.mark_checked(&component);
        Ok(())
    }

    fn mark_checked(&mut self, component: &TaComponent) {
        if let Some(staged) = self.staging.get_mut(component) {
            staged.checked = true;
        }
    }

    /// Fetches the envelope of a dependency.
    pub(super) fn fetch_dependency(&mut self, node: usize, index: u64) -> Result<Vec<u8>, Stop> {
        let parameters = self.seen(node, index)?;
        let uri = parameters
            .uri
            .ok_or(SuitError::ParameterMissing { label: LABEL_URI })?;
        let bytes = self.payload(node, &uri, MAX_DEPENDENCY_BYTES)?;
        match &parameters.encryption_info {
            Some(info) => Ok(self.decrypt(info, &bytes)?.expose_secret().clone()),
            None => Ok(bytes),
        }
    }

    /// Fetches a component, and decrypts it if the parameters say how.
    pub(super) fn fetch(&mut self, node: usize, index: u64) -> Result<(), Stop> {
        let component = self.own_component(node, index)?;
        let parameters = self.seen(node, index)?;
        // What is installed already need not be fetched again.
        if let Some(digest) = &parameters.image_digest {
            let digest = digest.to_sha256().map_err(SuitError::Wire)?;
            if self.stage_installed(node, &component, digest)? {
                return Ok(());
            }
        }
        let uri = parameters
            .uri
            .ok_or(SuitError::ParameterMissing { label: LABEL_URI })?;
        let max = max_bytes(component.part);
        let claimed = parameters
            .image_size
            .and_then(|size| usize::try_from(size).ok());
        let max = claimed
            .map_or(max, |size| size.min(max))
            .saturating_add(SEAL_OVERHEAD);
        let bytes = self.payload(node, &uri, max)?;
        let plain = match &parameters.encryption_info {
            Some(info) => self.decrypt(info, &bytes)?,
            None => Secret::new(bytes),
        };
        Ok(self.stage(component, plain)?)
    }

    /// Writes the content parameter to a component.
    pub(super) fn write(&mut self, node: usize, index: u64) -> Result<(), SuitError> {
        let component = self.own_component(node, index)?;
        let parameters = self.seen(node, index)?;
        let content = parameters.content.ok_or(SuitError::ParameterMissing {
            label: LABEL_CONTENT,
        })?;
        self.spend_bytes(content.len())?;
        let plain = match &parameters.encryption_info {
            Some(info) => self.decrypt(info, &content)?,
            None => Secret::new(content),
        };
        self.stage(component, plain)
    }

    /// Copies another component of this update, decrypting it if the parameters say how.
    pub(super) fn copy(&mut self, node: usize, index: u64) -> Result<(), SuitError> {
        let component = self.own_component(node, index)?;
        let parameters = self.seen(node, index)?;
        let from = self.source(node, &parameters)?;
        let directive = Directive::Copy;
        let source = self
            .staging
            .get(&from)
            .ok_or(SuitError::NothingThere { directive })?;
        let bytes = source.bytes.dangerous_clone();
        self.spend_bytes(bytes.expose_secret().len())?;
        let plain = match &parameters.encryption_info {
            Some(info) => self.decrypt(info, bytes.expose_secret())?,
            None => bytes,
        };
        self.stage(component, plain)
    }

    /// Exchanges two components of this update; both must be checked again.
    pub(super) fn swap(&mut self, node: usize, index: u64) -> Result<(), SuitError> {
        let component = self.own_component(node, index)?;
        let parameters = self.seen(node, index)?;
        let other = self.source(node, &parameters)?;
        let directive = Directive::Swap;
        let mut take = |component: &TaComponent| {
            self.staging
                .remove(component)
                .ok_or(SuitError::NothingThere { directive })
        };
        let (one, two) = (take(&component)?, take(&other)?);
        self.stage(component, two.bytes)?;
        self.stage(other, one.bytes)
    }

    fn source(&self, node: usize, parameters: &Parameters) -> Result<TaComponent, SuitError> {
        let index = parameters.source_component;
        let index = index.ok_or(SuitError::ParameterMissing {
            label: LABEL_SOURCE,
        })?;
        self.own_component(node, index)
    }

    fn stage(&mut self, component: TaComponent, bytes: Secret<Vec<u8>>) -> Result<(), SuitError> {
        let (got_bytes, max_bytes) = (bytes.expose_secret().len(), max_bytes(component.part));
        if got_bytes > max_bytes {
            return Err(SuitError::TooLarge {
                got_bytes,
                max_bytes,
            });
        }
        self.staging.insert(
            component,
            Staged {
                bytes,
                checked: false,
            },
        );
        Ok(())
    }

    /// Stages what is installed, if it has this digest and belongs to the same signer.
    fn stage_installed(
        &mut self,
        node: usize,
        component: &TaComponent,
        digest: Digest,
    ) -> Result<bool, SuitError> {
        let Some(record) = self.ctx.store.record(&component.uuid)? else {
            return Ok(false);
        };
        let authority = self.nodes.get(node).map(|node| node.authentic.authority);
        if authority != Some(Authority::Release(record.id.signer)) {
            return Ok(false);
        }
        let Some(bytes) = self.ctx.store.component(&component.uuid, component.part)? else {
            return Ok(false);
        };
        if self.ctx.provider.sha256(bytes.expose_secret()) != digest.0 {
            return Ok(false);
        }
        self.spend_bytes(bytes.expose_secret().len())?;
        self.stage(*component, bytes)?;
        Ok(true)
    }

    fn decrypt(&self, info: &[u8], sealed: &[u8]) -> Result<Secret<Vec<u8>>, SuitError> {
        // AES-CTR authenticates nothing, but no plaintext leaves staging before its signer's digest
        // fits (`plan` refuses what was not checked), and a dependency is verified as a manifest.
        dangerous_open_payload_or_ctr(self.ctx.provider, info, sealed, self.ctx.delivery)
            .map_err(SuitError::Payload)
    }
}

fn holds(same: bool, failed: impl FnOnce() -> Stop) -> Result<(), Stop> {
    if same { Ok(()) } else { Err(failed()) }
}

/// Digest and, where the signer gave one, size.
fn compare(
    condition: Condition,
    wanted: Digest,
    actual: Digest,
    wanted_size: Option<u64>,
    actual_size: Option<u64>,
) -> Result<(), Stop> {
    if wanted == actual && wanted_size.is_none_or(|size| Some(size) == actual_size) {
        return Ok(());
    }
    let actual = Parameters {
        image_digest: Some(SuitDigest::sha256(actual)),
        image_size: actual_size,
        ..Parameters::default()
    };
    Err(Stop::Condition(SuitError::ConditionFailed {
        condition,
        actual: Box::new(actual),
    }))
}

/// Largest plaintext of a part, in bytes.
const fn max_bytes(part: Part) -> usize {
    match part {
        Part::Ta => MAX_MODULE_BYTES,
        Part::Procedure | Part::Config => 64 * 1024,
    }
}

/// What encryption adds to a payload, in bytes: the tag of AES-GCM.
const SEAL_OVERHEAD: usize = 16;

/// Largest envelope of a dependency, in bytes: a manifest and its signatures.
const MAX_DEPENDENCY_BYTES: usize = 192 * 1024;
