//! SUIT Reports: what a processor did with a manifest.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{
    CBOR_LIMITS, ComponentId, MAX_COMPONENT_SEGMENTS, MAX_COMPONENTS, MAX_RECORDS, MAX_SEGMENT_LEN,
    MAX_URI_LEN, Parameters, SuitDigest, SuitError,
};
use crate::cbor::{self, MapBuilder, MapReader, Value};

/// Which manifest a report is about.
///
/// Spec: draft-ietf-suit-report section 4
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The reference URI of the root manifest, empty if it has none.
    pub uri: String,
    /// The digest of the root manifest, as in its envelope.
    pub digest: SuitDigest,
}

/// One command and what was measured with it.
///
/// Spec: draft-ietf-suit-report section 3
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Walk of the tree of dependencies; empty for the root manifest.
    pub manifest_id: Vec<u64>,
    /// Label of the command sequence ([`super::Section::label`]).
    pub section: i64,
    /// Byte offset of the command in it ([`super::Sequence::offset`]).
    pub offset: u64,
    /// The component it was about.
    pub component_index: u64,
    /// Values that the device has, where the manifest wanted others.
    pub properties: Parameters,
}

/// What is known of an installed component.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemProperties {
    /// The component.
    pub component_id: ComponentId,
    /// What was measured or asserted of it, at least one.
    pub properties: Parameters,
}

/// An entry of a report's list.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ReportRecord {
    /// A command.
    Record(Record),
    /// A component.
    SystemProperties(SystemProperties),
}

/// Why processing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportReason {
    /// It did not fail.
    Ok,
    /// Not readable as CBOR.
    CborParse,
    /// A COSE structure or header is not supported.
    CoseUnsupported,
    /// A COSE algorithm is not supported.
    AlgUnsupported,
    /// A signature or MAC is not good.
    Unauthorised,
    /// A command is not supported.
    CommandUnsupported,
    /// A component does not exist.
    ComponentUnsupported,
    /// The signer may not touch the component.
    ComponentUnauthorised,
    /// A parameter is not supported.
    ParameterUnsupported,
    /// Severed members are not supported.
    SeveringUnsupported,
    /// A condition failed.
    ConditionFailed,
    /// A directive failed.
    OperationFailed,
    /// What was installed is about to be started.
    InvokePending,
}

impl ReportReason {
    const ALL: [Self; 13] = [
        Self::Ok,
        Self::CborParse,
        Self::CoseUnsupported,
        Self::AlgUnsupported,
        Self::Unauthorised,
        Self::CommandUnsupported,
        Self::ComponentUnsupported,
        Self::ComponentUnauthorised,
        Self::ParameterUnsupported,
        Self::SeveringUnsupported,
        Self::ConditionFailed,
        Self::OperationFailed,
        Self::InvokePending,
    ];

    /// The reason's number.
    #[must_use]
    pub fn code(self) -> i64 {
        // Invariant: ALL lists the reasons in the order of their numbers, from 0.
        (0i64..)
            .zip(Self::ALL)
            .find(|(_, reason)| *reason == self)
            .map_or(0, |(code, _)| code)
    }

    /// The reason with this number, if there is one.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        usize::try_from(code)
            .ok()
            .and_then(|index| Self::ALL.get(index).copied())
    }
}

/// A failure: where and why.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportFailure {
    /// The implementation's own error number.
    pub code: i64,
    /// The command that failed.
    pub record: Record,
    /// The reason, as others understand it.
    pub reason: ReportReason,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a report")]
pub enum ReportResult {
    /// All went well.
    Success,
    /// It did not.
    Failure(ReportFailure),
}

/// A component, or all below it, that a processor can write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentCapability {
    /// The component, or the prefix of all.
    pub id: ComponentId,
    /// Whether every component with this prefix is meant.
    pub is_prefix: bool,
}

/// What a processor can do.
///
/// Spec: draft-ietf-suit-report section 6
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CapabilityReport {
    /// Components (1).
    pub components: Vec<ComponentCapability>,
    /// Commands (2).
    pub commands: Vec<i64>,
    /// Parameters (3).
    pub parameters: Vec<i64>,
    /// COSE algorithms (4).
    pub algorithms: Vec<i64>,
    /// The other lists (envelope, manifest, common, text, dependency, by path), as they came.
    pub other: Vec<(Value, Value)>,
}

/// A report.
///
/// Spec: draft-ietf-suit-report section 4
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The manifest.
    pub reference: Reference,
    /// The nonce that makes it fresh: TEEP's token.
    pub nonce: Option<Vec<u8>>,
    /// Commands and components.
    pub records: Vec<ReportRecord>,
    /// The outcome.
    pub result: ReportResult,
    /// What the processor can do, if it was asked or if that was the matter.
    pub capabilities: Option<CapabilityReport>,
    /// Members of extensions, as they came.
    pub extensions: Vec<(Value, Value)>,
}

const MAX_NONCE_LEN: usize = 512;

impl Report {
    /// A report of success without records.
    #[must_use]
    pub const fn success(reference: Reference, nonce: Option<Vec<u8>>) -> Self {
        Self {
            reference,
            nonce,
            records: Vec::new(),
            result: ReportResult::Success,
            capabilities: None,
            extensions: Vec::new(),
        }
    }

    /// Decodes an unprotected report.
    ///
    /// # Errors
    /// `SuitError` if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, SuitError> {
        Self::from_value(cbor::decode_limited(bytes, CBOR_LIMITS)?)
    }

    /// Reads a report from a tree.
    ///
    /// # Errors
    /// As [`Report::decode`].
    pub fn from_value(value: Value) -> Result<Self, SuitError> {
        let mut map = MapReader::new(value, "SUIT_Report")?;
        let records = map.require(3, "suit-report-records")?;
        Ok(Self {
            reference: Reference::from_value(map.require(99, "suit-reference")?)?,
            nonce: map
                .take(2)
                .map(|v| cbor::into_bytes_sized(v, "suit-report-nonce", 0, MAX_NONCE_LEN))
                .transpose()?,
            records: cbor::into_array(records, "suit-report-records", 0, MAX_RECORDS)?
                .into_iter()
                .map(ReportRecord::from_value)
                .collect::<Result<_, _>>()?,
            result: ReportResult::from_value(map.require(4, "suit-report-result")?)?,
            capabilities: map.take(8).map(CapabilityReport::from_value).transpose()?,
            extensions: map.into_rest(),
        })
    }

    /// Encodes the report.
    ///
    /// # Errors
    /// `SuitError` if a record is against its specification.
    pub fn encode(&self) -> Result<Vec<u8>, SuitError> {
        Ok(cbor::encode(&self.to_value()?)?)
    }

    /// The report as a tree.
    ///
    /// # Errors
    /// As [`Report::encode`].
    pub fn to_value(&self) -> Result<Value, SuitError> {
        let records = self
            .records
            .iter()
            .map(ReportRecord::to_value)
            .collect::<Result<_, _>>()?;
        let result = match &self.result {
            ReportResult::Success => Value::Bool(true),
            ReportResult::Failure(failure) => MapBuilder::new()
                .put(5, failure.code)
                .put(6, failure.record.to_value()?)
                .put(7, failure.reason.code())
                .finish()?,
        };
        let capabilities = self
            .capabilities
            .as_ref()
            .map(CapabilityReport::to_value)
            .transpose()?;
        Ok(MapBuilder::new()
            .put_opt(2, self.nonce.clone().map(Value::Bytes))
            .put(3, Value::Array(records))
            .put(4, result)
            .put_opt(8, capabilities)
            .put(99, self.reference.to_value())
            .extend(self.extensions.iter().cloned())
            .finish()?)
    }
}

impl Reference {
    /// Reads a reference from a tree.
    ///
    /// # Errors
    /// `SuitError` if it is none.
    pub fn from_value(value: Value) -> Result<Self, SuitError> {
        let mut items = cbor::into_array(value, "SUIT_Reference", 2, 2)?.into_iter();
        let (Some(uri), Some(digest)) = (items.next(), items.next()) else {
            return Err(SuitError::Invalid {
                what: "SUIT_Reference",
            });
        };
        Ok(Self {
            uri: cbor::into_text(uri, "suit-report-manifest-uri", MAX_URI_LEN)?,
            digest: SuitDigest::from_value(digest)?,
        })
    }

    /// The reference as a tree.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Array(vec![self.uri.clone().into(), self.digest.to_value()])
    }
}

impl ReportRecord {
    fn from_value(value: Value) -> Result<Self, SuitError> {
        match value {
            Value::Map(_) => Ok(Self::SystemProperties(SystemProperties::from_value(value)?)),
            other => Ok(Self::Record(Record::from_value(other)?)),
        }
    }

    fn to_value(&self) -> Result<Value, SuitError> {
        match self {
            Self::Record(record) => record.to_value(),
            Self::SystemProperties(properties) => properties.to_value(),
        }
    }
}

impl Record {
    fn from_value(value: Value) -> Result<Self, SuitError> {
        let mut items = cbor::into_array(value, "SUIT_Record", 5, 5)?.into_iter();
        let mut next = || {
            items.next().ok_or(SuitError::Invalid {
                what: "SUIT_Record",
            })
        };
        let manifest_id = cbor::into_array(next()?, "suit-record-manifest-id", 0, 16)?
            .iter()
            .map(|v| cbor::uint(v, "suit-record-manifest-id"))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            manifest_id,
            section: cbor::int(&next()?, "suit-record-manifest-section")?,
            offset: cbor::uint(&next()?, "suit-record-section-offset")?,
            component_index: cbor::uint(&next()?, "suit-record-component-index")?,
            properties: Parameters::from_value(next()?)?,
        })
    }

    fn to_value(&self) -> Result<Value, SuitError> {
        let walk = self
            .manifest_id
            .iter()
            .map(|index| (*index).into())
            .collect();
        Ok(Value::Array(vec![
            Value::Array(walk),
            self.section.into(),
            self.offset.into(),
            self.component_index.into(),
            self.properties.to_value()?,
        ]))
    }
}

impl SystemProperties {
    /// Reads system-property-claims from a tree.
    ///
    /// # Errors
    /// `SuitError` if they are none.
    pub fn from_value(value: Value) -> Result<Self, SuitError> {
        let mut map = MapReader::new(value, "system-property-claims")?;
        let component_id = ComponentId::from_value(map.require(0, "system-component-id")?)?;
        let properties = Parameters::from_map(map)?;
        if properties.is_empty() {
            return Err(SuitError::Invalid {
                what: "system-property-claims",
            });
        }
        Ok(Self {
            component_id,
            properties,
        })
    }

    /// The claims as a tree.
    ///
    /// # Errors
    /// `SuitError::Invalid` without any property.
    pub fn to_value(&self) -> Result<Value, SuitError> {
        if self.properties.is_empty() {
            return Err(SuitError::Invalid {
                what: "system-property-claims",
            });
        }
        Ok(self
            .properties
            .to_map()?
            .put(0, self.component_id.to_value())
            .finish()?)
    }
}

impl ReportResult {
    fn from_value(value: Value) -> Result<Self, SuitError> {
        if value == Value::Bool(true) {
            return Ok(Self::Success);
        }
        let mut map = MapReader::new(value, "suit-report-result")?;
        let code = map.require(5, "suit-report-result-code")?;
        let reason = map.require(7, "suit-report-result-reason")?;
        let reason = cbor::int(&reason, "suit-report-result-reason")?;
        Ok(Self::Failure(ReportFailure {
            code: cbor::int(&code, "suit-report-result-code")?,
            record: Record::from_value(map.require(6, "suit-report-result-record")?)?,
            reason: ReportReason::from_code(reason).ok_or(SuitError::Invalid {
                what: "suit-report-result-reason",
            })?,
        }))
    }
}

impl CapabilityReport {
    fn from_value(value: Value) -> Result<Self, SuitError> {
        fn list(
            map: &mut MapReader,
            label: i64,
            what: &'static str,
        ) -> Result<Vec<i64>, SuitError> {
            Ok(
                cbor::into_array(map.require(label, what)?, what, 1, MAX_RECORDS)?
                    .iter()
                    .map(|v| cbor::int(v, what))
                    .collect::<Result<_, _>>()?,
            )
        }
        let mut map = MapReader::new(value, "SUIT_Capability_Report")?;
        let components = map.require(1, "suit-component-capabilities")?;
        Ok(Self {
            components: cbor::into_array(
                components,
                "suit-component-capabilities",
                1,
                MAX_COMPONENTS,
            )?
            .into_iter()
            .map(ComponentCapability::from_value)
            .collect::<Result<_, _>>()?,
            commands: list(&mut map, 2, "suit-command-capabilities")?,
            parameters: list(&mut map, 3, "suit-parameters-capabilities")?,
            algorithms: list(&mut map, 4, "suit-crypt-algo-capabilities")?,
            other: map.into_rest(),
        })
    }

    fn to_value(&self) -> Result<Value, SuitError> {
        let list =
            |numbers: &[i64]| Value::Array(numbers.iter().map(|number| (*number).into()).collect());
        let components = self
            .components
            .iter()
            .map(ComponentCapability::to_value)
            .collect();
        Ok(MapBuilder::new()
            .put(1, Value::Array(components))
            .put(2, list(&self.commands))
            .put(3, list(&self.parameters))
            .put(4, list(&self.algorithms))
            .extend(self.other.iter().cloned())
            .finish()?)
    }
}

impl ComponentCapability {
    fn from_value(value: Value) -> Result<Self, SuitError> {
        const WHAT: &str = "SUIT_Component_Capability";
        let mut items = cbor::into_array(value, WHAT, 0, MAX_COMPONENT_SEGMENTS + 1)?;
        let is_prefix = items.last() == Some(&Value::Bool(true));
        if is_prefix {
            items.pop();
        }
        let segments = items
            .into_iter()
            .map(|item| cbor::into_bytes_sized(item, WHAT, 0, MAX_SEGMENT_LEN))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            id: ComponentId(segments),
            is_prefix,
        })
    }

    fn to_value(&self) -> Value {
        let mut items: Vec<Value> = self.id.0.iter().map(|s| Value::Bytes(s.clone())).collect();
        if self.is_prefix {
            items.push(Value::Bool(true));
        }
        Value::Array(items)
    }
}
