//! Manifests.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::command::Budget;
use super::{
    CBOR_LIMITS, Command, ComponentId, MAX_COMPONENTS, MAX_DEPENDENCIES, MAX_MANIFEST_LEN,
    MAX_SEQUENCE_LEN, MAX_URI_LEN, Sequence, SuitDigest, SuitError, TAG_MANIFEST,
};
use crate::cbor::{self, MapBuilder, MapReader, Value};

/// The command sequences of a manifest.
///
/// Spec: draft-ietf-suit-manifest section 8.4.6, draft-ietf-suit-trust-domains section 7
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Section {
    /// Checks what is installed.
    Validate,
    /// Prepares to start it.
    Load,
    /// Starts it.
    Invoke,
    /// Gets the dependencies.
    DependencyResolution,
    /// Gets the payloads.
    PayloadFetch,
    /// Checks what was fetched before it is installed.
    CandidateVerification,
    /// Installs.
    Install,
    /// Removes.
    Uninstall,
}

impl Section {
    /// All sections, in the order of their labels.
    pub const ALL: [Self; 8] = [
        Self::Validate,
        Self::Load,
        Self::Invoke,
        Self::DependencyResolution,
        Self::PayloadFetch,
        Self::CandidateVerification,
        Self::Install,
        Self::Uninstall,
    ];

    /// Label in manifest, envelope and report.
    #[must_use]
    pub const fn label(self) -> i64 {
        match self {
            Self::Validate => 7,
            Self::Load => 8,
            Self::Invoke => 9,
            Self::DependencyResolution => 15,
            Self::PayloadFetch => 16,
            Self::CandidateVerification => 18,
            Self::Install => 20,
            Self::Uninstall => 24,
        }
    }

    /// Whether it may be moved out of the manifest into the envelope.
    #[must_use]
    pub const fn is_severable(self) -> bool {
        match self {
            Self::DependencyResolution
            | Self::PayloadFetch
            | Self::CandidateVerification
            | Self::Install => true,
            Self::Validate | Self::Load | Self::Invoke | Self::Uninstall => false,
        }
    }
}

/// A member that stands in the manifest or, severed, in the envelope.
#[derive(Debug, Clone, PartialEq)]
pub enum Severable<T> {
    /// The member itself.
    Here(T),
    /// Its digest: it was severed, and (after the digests were checked) is not at hand.
    Severed(SuitDigest),
}

impl<T> Severable<T> {
    /// The member, unless it is elsewhere.
    pub const fn here(&self) -> Option<&T> {
        match self {
            Self::Here(member) => Some(member),
            Self::Severed(_) => None,
        }
    }
}

/// What is known of a dependency besides its index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dependency {
    /// The part of the component tree that the dependency works in.
    pub prefix: Option<ComponentId>,
}

/// What all sequences of a manifest share.
///
/// Spec: draft-ietf-suit-manifest section 8.4.5
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Common {
    /// Dependencies by component index.
    pub dependencies: BTreeMap<u64, Dependency>,
    /// Components; the index is the place in this list.
    pub components: Vec<ComponentId>,
    /// Commands that run before those of each section.
    pub shared: Option<Sequence>,
}

/// A manifest.
///
/// Spec: draft-ietf-suit-manifest section 8.4
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Grows with every release; a processor refuses an older one.
    pub sequence_number: u64,
    /// Components, dependencies and the shared sequence.
    pub common: Common,
    /// Where the complete manifest can be had.
    pub reference_uri: Option<String>,
    /// Under which name a processor keeps this manifest (5).
    pub component_id: Option<ComponentId>,
    /// The command sequences that there are.
    pub sections: BTreeMap<Section, Severable<Sequence>>,
    /// Encoded text map for people (23), never read by a processor.
    pub text: Option<Severable<Vec<u8>>>,
    /// Encoded CoSWID (14), never read by a processor.
    pub coswid: Option<Severable<Vec<u8>>>,
    /// Encoded version of update-management's set-version (6), not supported.
    pub set_version: Option<Vec<u8>>,
}

impl Manifest {
    /// A manifest without any commands.
    #[must_use]
    pub const fn new(sequence_number: u64, components: Vec<ComponentId>) -> Self {
        Self {
            sequence_number,
            common: Common {
                dependencies: BTreeMap::new(),
                components,
                shared: None,
            },
            reference_uri: None,
            component_id: None,
            sections: BTreeMap::new(),
            text: None,
            coswid: None,
            set_version: None,
        }
    }

    /// The same with the name under which it is kept.
    #[must_use]
    pub fn with_component_id(mut self, id: ComponentId) -> Self {
        self.component_id = Some(id);
        self
    }

    /// The same with a dependency at `index`.
    #[must_use]
    pub fn with_dependency(mut self, index: u64, prefix: Option<ComponentId>) -> Self {
        self.common
            .dependencies
            .insert(index, Dependency { prefix });
        self
    }

    /// The same with these shared commands.
    #[must_use]
    pub fn with_shared(mut self, commands: Vec<Command>) -> Self {
        self.common.shared = Some(commands.into());
        self
    }

    /// The same with these commands in `section`.
    #[must_use]
    pub fn with_section(mut self, section: Section, commands: Vec<Command>) -> Self {
        self.sections
            .insert(section, Severable::Here(commands.into()));
        self
    }

    /// The commands of `section`, if there are any and they are at hand.
    #[must_use]
    pub fn sequence(&self, section: Section) -> Option<&Sequence> {
        self.sections.get(&section).and_then(Severable::here)
    }

    /// Decodes a manifest (the content of its byte string).
    ///
    /// # Errors
    /// `SuitError` if the bytes are none, exceed a limit, or have a member that is not known.
    pub fn decode(bytes: &[u8]) -> Result<Self, SuitError> {
        cbor::check_len(bytes.len(), "suit-manifest", 0, MAX_MANIFEST_LEN)?;
        let value = cbor::strip_tag(cbor::decode_limited(bytes, CBOR_LIMITS)?, TAG_MANIFEST);
        let mut map = MapReader::new(value, "SUIT_Manifest")?;
        let version = map.require(1, "suit-manifest-version")?;
        let got = cbor::uint(&version, "suit-manifest-version")?;
        if got != 1 {
            return Err(SuitError::Version { got });
        }
        let number = map.require(2, "suit-manifest-sequence-number")?;
        let mut budget = Budget::new();
        let common = cbor::into_bytes(map.require(3, "suit-common")?, "suit-common")?;
        let common = Common::decode(&common, &mut budget)?;
        let mut sections = BTreeMap::new();
        for section in Section::ALL {
            if let Some(value) = map.take(section.label()) {
                sections.insert(section, section_from_value(section, value, &mut budget)?);
            }
        }
        let manifest = Self {
            sequence_number: cbor::uint(&number, "suit-manifest-sequence-number")?,
            common,
            reference_uri: map
                .take(4)
                .map(|v| cbor::into_text(v, "suit-reference-uri", MAX_URI_LEN))
                .transpose()?,
            component_id: map.take(5).map(ComponentId::from_value).transpose()?,
            sections,
            text: map
                .take(23)
                .map(|v| raw_from_value(v, "suit-text"))
                .transpose()?,
            coswid: map
                .take(14)
                .map(|v| raw_from_value(v, "suit-coswid"))
                .transpose()?,
            set_version: map
                .take(6)
                .map(|v| cbor::into_bytes(v, "suit-set-version"))
                .transpose()?,
        };
        refuse_rest(map, "SUIT_Manifest")?;
        Ok(manifest)
    }

    /// Encodes the manifest (the content of its byte string).
    ///
    /// # Errors
    /// `SuitError` if a member is against its specification.
    pub fn encode(&self) -> Result<Vec<u8>, SuitError> {
        let mut map = MapBuilder::new()
            .put(1, 1)
            .put(2, self.sequence_number)
            .put(3, Value::Bytes(self.common.encode()?))
            .put_opt(4, self.reference_uri.clone())
            .put_opt(5, self.component_id.as_ref().map(ComponentId::to_value))
            .put_opt(6, self.set_version.clone().map(Value::Bytes))
            .put_opt(14, self.coswid.as_ref().map(raw_to_value))
            .put_opt(23, self.text.as_ref().map(raw_to_value));
        for (section, member) in &self.sections {
            let value = match member {
                Severable::Here(sequence) => Value::Bytes(sequence.encode()?),
                Severable::Severed(digest) => digest.to_value(),
            };
            map = map.put(section.label(), value);
        }
        let bytes = map.encode()?;
        cbor::check_len(bytes.len(), "suit-manifest", 0, MAX_MANIFEST_LEN)?;
        Ok(bytes)
    }
}

impl Common {
    fn decode(bytes: &[u8], budget: &mut Budget) -> Result<Self, SuitError> {
        let mut map = MapReader::new(cbor::decode_limited(bytes, CBOR_LIMITS)?, "SUIT_Common")?;
        let dependencies = map.take(1).map(dependencies_from_value).transpose()?;
        let components = map.take(2).map(components_from_value).transpose()?;
        let shared = map.take(4).map(|value| {
            let bytes = cbor::into_bytes(value, "suit-shared-sequence")?;
            let sequence = Sequence::decode_within(&bytes, budget)?;
            check_shared(&sequence)?;
            Ok::<_, SuitError>(sequence)
        });
        let common = Self {
            dependencies: dependencies.unwrap_or_default(),
            components: components.unwrap_or_default(),
            shared: shared.transpose()?,
        };
        refuse_rest(map, "SUIT_Common")?;
        Ok(common)
    }

    fn encode(&self) -> Result<Vec<u8>, SuitError> {
        let mut dependencies = MapBuilder::new();
        for (index, dependency) in &self.dependencies {
            let prefix = dependency.prefix.as_ref().map(ComponentId::to_value);
            dependencies = dependencies.put(*index, MapBuilder::new().put_opt(1, prefix).finish()?);
        }
        let dependencies = match self.dependencies.is_empty() {
            true => None,
            false => Some(dependencies.finish()?),
        };
        let components = self
            .components
            .iter()
            .map(ComponentId::to_value)
            .collect::<Vec<_>>();
        let components = if components.is_empty() {
            None
        } else {
            Some(Value::Array(components))
        };
        let shared = self.shared.as_ref().map(|shared| {
            check_shared(shared)?;
            shared.encode()
        });
        Ok(MapBuilder::new()
            .put_opt(1, dependencies)
            .put_opt(2, components)
            .put_opt(4, shared.transpose()?.map(Value::Bytes))
            .encode()?)
    }
}

/// A shared sequence only compares and sets parameters: it must not act.
fn check_shared(sequence: &Sequence) -> Result<(), SuitError> {
    sequence
        .commands()
        .iter()
        .try_for_each(|command| match command {
            Command::Directive(..) => Err(SuitError::Invalid {
                what: "directive in a shared sequence",
            }),
            Command::Unsupported { code, .. } if *code < 0 => Err(SuitError::Invalid {
                what: "custom command in a shared sequence",
            }),
            Command::RunSequence(inner) => check_shared(inner),
            Command::TryEach { sequences, .. } => sequences.iter().try_for_each(check_shared),
            Command::Condition(..)
            | Command::SetComponentIndex(_)
            | Command::SetParameters(_)
            | Command::OverrideParameters(_)
            | Command::Unsupported { .. } => Ok(()),
        })
}

fn dependencies_from_value(value: Value) -> Result<BTreeMap<u64, Dependency>, SuitError> {
    let map = MapReader::new(value, "suit-dependencies")?;
    cbor::check_len(map.len(), "suit-dependencies", 1, MAX_DEPENDENCIES)?;
    map.into_rest()
        .into_iter()
        .map(|(index, metadata)| {
            let index = cbor::uint(&index, "dependency index")?;
            let mut metadata = MapReader::new(metadata, "SUIT_Dependency_Metadata")?;
            let prefix = metadata.take(1).map(ComponentId::from_value).transpose()?;
            refuse_rest(metadata, "SUIT_Dependency_Metadata")?;
            Ok((index, Dependency { prefix }))
        })
        .collect()
}

fn components_from_value(value: Value) -> Result<Vec<ComponentId>, SuitError> {
    cbor::into_array(value, "suit-components", 1, MAX_COMPONENTS)?
        .into_iter()
        .map(ComponentId::from_value)
        .collect()
}

fn section_from_value(
    section: Section,
    value: Value,
    budget: &mut Budget,
) -> Result<Severable<Sequence>, SuitError> {
    match value {
        Value::Array(_) if section.is_severable() => {
            Ok(Severable::Severed(SuitDigest::from_value(value)?))
        }
        other => {
            let bytes = cbor::into_bytes(other, "command sequence")?;
            Ok(Severable::Here(Sequence::decode_within(&bytes, budget)?))
        }
    }
}

fn raw_from_value(value: Value, what: &'static str) -> Result<Severable<Vec<u8>>, SuitError> {
    match value {
        Value::Array(_) => Ok(Severable::Severed(SuitDigest::from_value(value)?)),
        other => Ok(Severable::Here(cbor::into_bytes_sized(
            other,
            what,
            0,
            MAX_SEQUENCE_LEN,
        )?)),
    }
}

fn raw_to_value(member: &Severable<Vec<u8>>) -> Value {
    match member {
        Severable::Here(bytes) => Value::Bytes(bytes.clone()),
        Severable::Severed(digest) => digest.to_value(),
    }
}

/// A processor must not run a manifest with a part that it does not understand.
pub(super) fn refuse_rest(map: MapReader, what: &'static str) -> Result<(), SuitError> {
    match map.into_rest().first() {
        None => Ok(()),
        Some((key, _)) => Err(SuitError::UnknownMember {
            what,
            label: cbor::int(key, "label of a member")?,
        }),
    }
}
