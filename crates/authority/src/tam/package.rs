//! Registering a release at the TAM: who signed it, and what it is.

use tegata_crypto::cose::CoseError;
use tegata_crypto::suit::{SuitError, VerifiedEnvelope, verify_envelope};
use tegata_crypto::{Provider, PublicKey};
use tegata_wire::enrolment::{DeliveryMode, EnrolmentError, ReleasePackage};
use tegata_wire::ids::{Digest, ReleaseDigest, SignerId, TaUuid};
use tegata_wire::suit::{Command, Manifest, UnverifiedEnvelope};

use super::notice::{VerifiedNotice, verify_notice};
use crate::suit_names::{part, split};

/// A release whose signature and structure were checked.
#[derive(Debug)]
#[must_use]
pub struct VerifiedRelease {
    digest: ReleaseDigest,
    signer: SignerId,
    ta: TaUuid,
    name: String,
    sequence: u64,
    module_digest: Digest,
    package: ReleasePackage,
    notice: Option<VerifiedNotice>,
}

impl VerifiedRelease {
    /// Who may get it, if the signer said so.
    #[must_use]
    pub fn notice(&self) -> Option<&VerifiedNotice> {
        self.notice.as_ref()
    }

    /// Its name.
    #[must_use]
    pub fn digest(&self) -> &ReleaseDigest {
        &self.digest
    }

    /// Who signed it.
    #[must_use]
    pub fn signer(&self) -> &SignerId {
        &self.signer
    }

    /// The TA.
    #[must_use]
    pub fn ta(&self) -> &TaUuid {
        &self.ta
    }

    /// Name of the TA.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its sequence number.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Digest of the module: the measurement in evidence.
    #[must_use]
    pub fn module_digest(&self) -> &Digest {
        &self.module_digest
    }

    /// The package.
    #[must_use]
    pub fn package(&self) -> &ReleasePackage {
        &self.package
    }
}

/// Why a release is not registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageDenied {
    /// The bytes are not a release package.
    #[error("it is not a release package: {0}")]
    Malformed(#[from] EnrolmentError),
    /// Not signed by a trusted release key, or altered.
    #[error("its manifest is not signed by a release key that is trusted here: {0}")]
    Untrusted(#[from] SuitError),
    /// The manifest is not one of a TA release of this signer.
    #[error("its manifest is not that of a TA release: {0}")]
    Manifest(&'static str),
    /// The personalization manifest belongs to something else.
    #[error("its personalization manifest is not of the same signer, TA and sequence number")]
    Personalization,
    /// Who may get the release is not said by its signer, or of another release.
    #[error("its notice of who may get it is not the signer's word about this release: {0}")]
    Notice(CoseError),
    /// The notice is signed, and about something else.
    #[error("its notice of who may get it cannot be followed: {0}")]
    NoticeContent(&'static str),
}

impl PackageDenied {
    /// Stable label.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "release-malformed",
            Self::Untrusted(_) => "release-untrusted",
            Self::Manifest(_) => "release-manifest",
            Self::Personalization => "release-personalization",
            Self::Notice(_) | Self::NoticeContent(_) => "release-notice",
        }
    }
}

impl From<tegata_wire::suit::SuitError> for PackageDenied {
    fn from(e: tegata_wire::suit::SuitError) -> Self {
        Self::Untrusted(e.into())
    }
}

/// Verifies a release package.
///
/// # Errors
/// Why it is not registered.
pub fn verify_package(
    provider: &dyn Provider,
    bytes: &[u8],
    release_keys: &[PublicKey],
) -> Result<VerifiedRelease, PackageDenied> {
    let package = ReleasePackage::decode(bytes)?;
    let manifest = verify_ta_envelope(provider, &package.ta_envelope, release_keys)?;
    if package.mode == DeliveryMode::Symmetric {
        let envelope = package.config_envelope.as_deref().unwrap_or_default();
        let config = verify(provider, envelope, release_keys)?;
        let same = config.signer() == manifest.signer
            && config.manifest().sequence_number == manifest.sequence
            && config.manifest().component_id == Some(part(&manifest.ta, "config.suit"));
        if !same {
            return Err(PackageDenied::Personalization);
        }
    }
    let notice = package
        .notice
        .as_deref()
        .map(|bytes| verify_notice(provider, bytes, &manifest, release_keys))
        .transpose()?;
    Ok(VerifiedRelease {
        notice,
        digest: manifest.digest,
        signer: manifest.signer,
        ta: manifest.ta,
        name: manifest.name,
        sequence: manifest.sequence,
        module_digest: manifest.module_digest,
        package,
    })
}

/// A TA manifest that a trusted release key signed.
#[derive(Debug)]
#[must_use]
pub struct VerifiedTaManifest {
    /// The release's name.
    pub digest: ReleaseDigest,
    /// Who signed it.
    pub signer: SignerId,
    /// The TA.
    pub ta: TaUuid,
    /// Name of the TA.
    pub name: String,
    /// Sequence number.
    pub sequence: u64,
    /// Digest of the module.
    pub module_digest: Digest,
}

/// Verifies the TA envelope of a release (the Verifier gets only this part).
///
/// # Errors
/// Why it is no release.
pub fn verify_ta_envelope(
    provider: &dyn Provider,
    bytes: &[u8],
    release_keys: &[PublicKey],
) -> Result<VerifiedTaManifest, PackageDenied> {
    let envelope = verify(provider, bytes, release_keys)?;
    let (manifest, signer) = (envelope.manifest(), envelope.signer());
    let named = |what| PackageDenied::Manifest(what);
    let uri = manifest
        .reference_uri
        .as_deref()
        .ok_or(named("it names no TA"))?;
    let ta = TaUuid::from_reference_uri(&signer, uri).ok_or(named("it names no TA"))?;
    let name = uri
        .strip_prefix(tegata_wire::ids::TA_URI_PREFIX)
        .unwrap_or_default();
    if manifest.component_id != Some(part(&ta, "suit")) {
        return Err(named("its identifier is not that of its TA"));
    }
    let components = &manifest.common.components;
    if components
        .iter()
        .any(|c| split(c).is_none_or(|(owner, _)| owner != ta))
    {
        return Err(named("it has a component of another TA"));
    }
    let index = components.iter().position(|c| *c == part(&ta, "ta"));
    let index = index.ok_or(named("it has no TA component"))?;
    let module_digest = module_digest(manifest, index).ok_or(named("it fixes no module"))?;
    Ok(VerifiedTaManifest {
        digest: ReleaseDigest::from(envelope.digest().to_sha256()?),
        signer,
        ta,
        name: name.to_owned(),
        sequence: manifest.sequence_number,
        module_digest,
    })
}

fn verify(
    provider: &dyn Provider,
    bytes: &[u8],
    keys: &[PublicKey],
) -> Result<VerifiedEnvelope, PackageDenied> {
    Ok(verify_envelope(
        provider,
        UnverifiedEnvelope::decode(bytes)?,
        keys,
    )?)
}

/// The image digest that the shared sequence sets for the component.
fn module_digest(manifest: &Manifest, component: usize) -> Option<Digest> {
    use tegata_wire::suit::IndexArg;
    let mut here = component == 0;
    let mut digest = None;
    for command in manifest.common.shared.as_ref()?.commands() {
        match command {
            Command::SetComponentIndex(IndexArg::One(i)) => {
                here = usize::try_from(*i).is_ok_and(|i| i == component);
            }
            Command::SetComponentIndex(_) => here = false,
            Command::OverrideParameters(p) | Command::SetParameters(p) if here => {
                digest = p
                    .image_digest
                    .as_ref()
                    .and_then(|d| d.to_sha256().ok())
                    .or(digest);
            }
            _ => {}
        }
    }
    digest
}
