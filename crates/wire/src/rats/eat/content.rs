//! Lists of typed contents: the claims manifests and measurements.

use alloc::vec;
use alloc::vec::Vec;

use super::MeasuredComponent;
use crate::cbor::{self, CborError, Value};
use crate::rats::{LIMITS, MAX_LIST, RatsError};
use crate::suit;

/// A content with its CoAP content format.
///
/// Spec: RFC 9711 sections 4.2.15 and 4.2.16
#[derive(Debug, Clone, PartialEq)]
pub struct ContentItem {
    /// CoAP content format of the content.
    pub content_format: u16,
    /// The content: a byte string by RFC 9711; others are kept as they came.
    pub content: Value,
}

impl ContentItem {
    /// application/cbor: what the TEEP specification puts a SUIT_Reference under until one is
    /// registered for it.
    pub const CBOR: u16 = 60;
    /// application/measured-component+cbor, from the range for experiments until one is registered.
    ///
    /// Spec: `docs/spec/evidence.md`
    pub const MEASURED_COMPONENT_CBOR: u16 = 65_001;

    /// A byte string.
    #[must_use]
    pub const fn bytes(content_format: u16, content: Vec<u8>) -> Self {
        Self {
            content_format,
            content: Value::Bytes(content),
        }
    }

    /// A manifest by its URI and digest.
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn suit_reference(reference: &suit::Reference) -> Result<Self, RatsError> {
        Ok(Self::bytes(
            Self::CBOR,
            cbor::encode(&reference.to_value())?,
        ))
    }

    /// The manifest that this item refers to.
    ///
    /// # Errors
    /// `RatsError` if the item is something else.
    pub fn as_suit_reference(&self) -> Result<suit::Reference, RatsError> {
        let value = cbor::decode_limited(self.body(Self::CBOR)?, LIMITS)?;
        suit::Reference::from_value(value).map_err(|error| match error {
            suit::SuitError::Cbor(error) => RatsError::Cbor(error),
            _ => RatsError::Claim {
                what: "SUIT_Reference",
            },
        })
    }

    /// A measurement.
    ///
    /// # Errors
    /// `RatsError` if the component is against its specification.
    pub fn measured_component(component: &MeasuredComponent) -> Result<Self, RatsError> {
        Ok(Self::bytes(
            Self::MEASURED_COMPONENT_CBOR,
            component.encode()?,
        ))
    }

    /// The measurement in this item.
    ///
    /// # Errors
    /// `RatsError` if the item is something else.
    pub fn as_measured_component(&self) -> Result<MeasuredComponent, RatsError> {
        MeasuredComponent::decode(self.body(Self::MEASURED_COMPONENT_CBOR)?)
    }

    fn body(&self, content_format: u16) -> Result<&[u8], RatsError> {
        match self.content.as_bytes() {
            Some(bytes) if self.content_format == content_format => Ok(bytes),
            _ => Err(RatsError::Claim {
                what: "content format",
            }),
        }
    }
}

pub(super) fn list(
    value: Option<Value>,
    what: &'static str,
) -> Result<Vec<ContentItem>, RatsError> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    cbor::into_array(value, what, 1, MAX_LIST)?
        .into_iter()
        .map(|item| {
            let mut parts = cbor::into_array(item, what, 2, 2)?.into_iter();
            let (Some(format), Some(content)) = (parts.next(), parts.next()) else {
                return Err(RatsError::Claim { what });
            };
            let content_format =
                u16::try_from(cbor::uint(&format, what)?).map_err(|_| CborError::Range { what })?;
            Ok(ContentItem {
                content_format,
                content,
            })
        })
        .collect()
}

pub(super) fn value(items: &[ContentItem]) -> Option<Value> {
    if items.is_empty() {
        return None;
    }
    let item = |i: &ContentItem| Value::Array(vec![i.content_format.into(), i.content.clone()]);
    Some(Value::Array(items.iter().map(item).collect()))
}
