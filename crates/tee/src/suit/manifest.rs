//! Manifests whose signature was verified, and what their signer may touch.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tegata_crypto::Provider;
use tegata_crypto::cose::{CoseError, verify_sign1};
use tegata_wire::cbor::{self, Limits, Value};
use tegata_wire::ids::{Digest, SignerId, TaUuid};
use tegata_wire::suit::{AuthBlock, ComponentId, Manifest, SuitDigest, UnverifiedEnvelope};

use super::component::{Part, TaComponent};
use super::error::SuitError;
use crate::anchors::TrustAnchors;
use crate::storage::TaId;

/// Whose manifest it is, which decides what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authority {
    /// A release key: may install the parts of its own TAs.
    Release(SignerId),
    /// A TAM key: may bring releases, say where they are and how they are encrypted.
    Tam,
}

/// A manifest whose signature was verified under a trust anchor and whose digest fits.
///
/// Only [`AuthenticManifest::verify`] makes one.
#[derive(Debug)]
#[must_use]
pub(super) struct AuthenticManifest {
    pub authority: Authority,
    pub manifest: Manifest,
    pub digest: Digest,
    /// The envelope as it came, without what was integrated.
    pub envelope: Vec<u8>,
    integrated: Vec<(String, Vec<u8>)>,
}

impl AuthenticManifest {
    /// Verifies an envelope: first its signature, then the digest that the signature covers, and
    /// only then is the manifest read.
    ///
    /// # Errors
    /// [`SuitError`] if it is not authentic or names components that its signer may not touch.
    ///
    // Spec: draft-ietf-suit-manifest, "required-checks":
    // > The manifest processor MUST verify the signature of the manifest prior to
    // > parsing/executing any section of the manifest.
    pub fn verify(
        provider: &dyn Provider,
        anchors: &TrustAnchors,
        bytes: &[u8],
    ) -> Result<Self, SuitError> {
        let envelope = UnverifiedEnvelope::decode(bytes)?;
        let authority = authenticate(provider, anchors, &envelope)?;
        let checked = envelope.check_digests(|data| provider.sha256(data))?;
        let (digest, manifest, integrated) = checked.into_parts();
        let manifest = Self {
            authority,
            manifest,
            digest: digest.to_sha256()?,
            envelope: without_payloads(bytes)?,
            integrated,
        };
        manifest.check_components()?;
        Ok(manifest)
    }

    /// The digest an envelope claims, for reports about what could not be verified.
    pub fn alleged_digest(bytes: &[u8]) -> Option<SuitDigest> {
        UnverifiedEnvelope::decode(bytes)
            .ok()
            .map(|envelope| envelope.digest().clone())
    }

    /// What is integrated under this name.
    pub fn integrated(&self, name: &str) -> Option<&[u8]> {
        self.integrated
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, bytes)| bytes.as_slice())
    }

    /// Whether `index` is a dependency.
    pub fn is_dependency(&self, index: u64) -> bool {
        self.manifest.common.dependencies.contains_key(&index)
    }

    /// The component at `index`, if it is one and not a dependency.
    pub fn component(&self, index: u64) -> Option<TaComponent> {
        if self.is_dependency(index) {
            return None;
        }
        let index = usize::try_from(index).ok()?;
        self.manifest
            .common
            .components
            .get(index)
            .and_then(TaComponent::from_id)
    }

    /// Every index there is, components and dependencies, in their order.
    pub fn indices(&self) -> Vec<u64> {
        let components = (0u64..)
            .zip(&self.manifest.common.components)
            .map(|(index, _)| index);
        let mut all: Vec<u64> = components.collect();
        for index in self.manifest.common.dependencies.keys() {
            if !all.contains(index) {
                all.push(*index);
            }
        }
        all
    }

    /// All its components that are parts of TAs.
    pub fn ta_components(&self) -> impl Iterator<Item = TaComponent> + '_ {
        self.indices()
            .into_iter()
            .filter_map(|index| self.component(index))
    }

    /// The TA whose `part` this manifest of a release key is about.
    pub fn owner_of(&self, part: Part) -> Option<TaId> {
        let Authority::Release(signer) = self.authority else {
            return None;
        };
        let component = self
            .ta_components()
            .find(|component| component.part == part)?;
        Some(TaId {
            signer,
            uuid: component.uuid,
        })
    }

    /// Whether its signer may read, write and check `component`.
    pub fn may_touch(&self, component: &TaComponent) -> bool {
        match self.authority {
            Authority::Tam => false,
            Authority::Release(signer) => {
                let uri = self.manifest.reference_uri.as_deref().unwrap_or_default();
                TaUuid::from_reference_uri(&signer, uri) == Some(component.uuid)
            }
        }
    }

    /// Every declared component exists, and belongs to the signer where it is a release key.
    fn check_components(&self) -> Result<(), SuitError> {
        for (index, id) in (0u64..).zip(&self.manifest.common.components) {
            if self.is_dependency(index) {
                continue;
            }
            let component = TaComponent::from_id(id).ok_or_else(|| unsupported(id))?;
            let Authority::Release(signer) = self.authority else {
                continue;
            };
            let uri = self.manifest.reference_uri.as_deref().unwrap_or_default();
            if TaUuid::from_reference_uri(&signer, uri).is_none() {
                return Err(SuitError::NameMissing);
            }
            if !self.may_touch(&component) {
                return Err(SuitError::ComponentUnauthorised { component });
            }
        }
        Ok(())
    }
}

/// The first signature that verifies decides; more signatures by others do no harm.
fn authenticate(
    provider: &dyn Provider,
    anchors: &TrustAnchors,
    envelope: &UnverifiedEnvelope,
) -> Result<Authority, SuitError> {
    let mut refused = SuitError::NoSignature;
    for block in envelope.auth_blocks() {
        let AuthBlock::Sign1(sign1) = block else {
            continue;
        };
        let payload = Some(envelope.signed_payload());
        let releases = verify_sign1(provider, sign1, anchors.release_keys(), b"", payload);
        match releases {
            Ok(verified) => {
                let signer = SignerId(verified.key().thumbprint());
                return Ok(Authority::Release(signer));
            }
            Err(error) => refused = SuitError::Unauthorised(error),
        }
        match verify_sign1(provider, sign1, anchors.tam_keys(), b"", payload) {
            Ok(_) => return Ok(Authority::Tam),
            Err(CoseError::UnknownKey) => {}
            Err(error) => refused = SuitError::Unauthorised(error),
        }
    }
    Err(refused)
}

/// The envelope without its integrated payloads; signatures and manifest stay as they came.
fn without_payloads(bytes: &[u8]) -> Result<Vec<u8>, SuitError> {
    let wire = |error| SuitError::Wire(tegata_wire::suit::SuitError::Cbor(error));
    let limits = Limits {
        depth: 8,
        items: 2048,
    };
    let mut value = cbor::decode_limited(bytes, limits).map_err(wire)?;
    let mut inner = &mut value;
    while let Value::Tag(_, content) = inner {
        inner = content;
    }
    if let Value::Map(entries) = inner {
        entries.retain(|(key, _)| !matches!(key, Value::Text(_)));
    }
    cbor::encode(&value).map_err(wire)
}

fn unsupported(id: &ComponentId) -> SuitError {
    SuitError::ComponentUnsupported {
        component: id.to_string(),
    }
}
