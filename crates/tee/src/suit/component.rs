//! Names of the components that this TEE has.

use core::fmt;

use tegata_wire::ids::TaUuid;
use tegata_wire::suit::ComponentId;

/// The parts of an installed TA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Part {
    /// The Wasm module: `ta`.
    Ta,
    /// The CA's procedure: `procedure`.
    Procedure,
    /// Personalization data: `config`.
    Config,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Ta, Self::Procedure, Self::Config];

    /// Last segment of the component identifier.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ta => "ta",
            Self::Procedure => "procedure",
            Self::Config => "config",
        }
    }
}

/// A part of a TA: `["TEEP-Device", "SecureFS", uuid, part]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaComponent {
    /// The TA.
    pub uuid: TaUuid,
    /// Which part of it.
    pub part: Part,
}

impl TaComponent {
    /// The component that `id` names, if this TEE has it.
    #[must_use]
    pub fn from_id(id: &ComponentId) -> Option<Self> {
        let (uuid, leaf) = split(id)?;
        let part = Part::ALL
            .into_iter()
            .find(|part| part.name().as_bytes() == leaf)?;
        Some(Self { uuid, part })
    }

    /// Its component identifier.
    #[must_use]
    pub fn to_id(self) -> ComponentId {
        path(&self.uuid, self.part.name())
    }
}

impl fmt::Display for TaComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of TA {}", self.part.name(), self.uuid)
    }
}

/// Identifier of a release manifest: `[…, uuid, "suit"]`.
#[must_use]
pub fn release_manifest_id(uuid: &TaUuid) -> ComponentId {
    path(uuid, "suit")
}

/// Identifier of a personalization manifest: `[…, uuid, "config.suit"]`.
#[must_use]
pub fn config_manifest_id(uuid: &TaUuid) -> ComponentId {
    path(uuid, "config.suit")
}

/// Identifier of a TAM's manifest for a TA: `[…, uuid, "tam.suit"]`.
#[must_use]
pub fn tam_manifest_id(uuid: &TaUuid) -> ComponentId {
    path(uuid, "tam.suit")
}

/// The TA whose release or TAM manifest `id` names: the manifests that can be given up.
#[must_use]
pub fn root_manifest_ta(id: &ComponentId) -> Option<TaUuid> {
    let (uuid, leaf) = split(id)?;
    matches!(leaf, b"suit" | b"tam.suit").then_some(uuid)
}

fn path(uuid: &TaUuid, leaf: &str) -> ComponentId {
    ComponentId::new(&[
        TEE.as_bytes(),
        STORE.as_bytes(),
        uuid.as_bytes(),
        leaf.as_bytes(),
    ])
}

fn split(id: &ComponentId) -> Option<(TaUuid, &[u8])> {
    let [tee, store, uuid, leaf] = id.segments() else {
        return None;
    };
    if tee != TEE.as_bytes() || store != STORE.as_bytes() {
        return None;
    }
    Some((TaUuid::from_slice(uuid).ok()?, leaf))
}

const TEE: &str = "TEEP-Device";
const STORE: &str = "SecureFS";
