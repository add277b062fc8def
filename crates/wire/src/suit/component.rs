//! Component identifiers: the names of places that a manifest writes to.

use alloc::vec::Vec;
use core::fmt;

use super::{MAX_COMPONENT_SEGMENTS, MAX_SEGMENT_LEN, SuitError};
use crate::cbor::{self, Value};

/// Name of a component (or of a manifest): a path of byte strings.
///
/// Spec: draft-ietf-suit-manifest section 8.4.5.1
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ComponentId(pub Vec<Vec<u8>>);

impl ComponentId {
    /// A path of these segments.
    #[must_use]
    pub fn new<S: AsRef<[u8]>>(segments: &[S]) -> Self {
        Self(segments.iter().map(|s| s.as_ref().to_vec()).collect())
    }

    /// The segments.
    #[must_use]
    pub fn segments(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// Whether this path begins with all of `prefix`.
    #[must_use]
    pub fn starts_with(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// Encodes the path as a CBOR array.
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn encode(&self) -> Result<Vec<u8>, SuitError> {
        Ok(cbor::encode(&self.to_value())?)
    }

    /// Decodes a path from a CBOR array.
    ///
    /// # Errors
    /// `SuitError::Cbor` if the bytes are no array of byte strings, or are too long.
    pub fn decode(bytes: &[u8]) -> Result<Self, SuitError> {
        Self::from_value(cbor::decode(bytes, 1)?)
    }

    /// The path as a tree.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Array(self.0.iter().map(|s| Value::Bytes(s.clone())).collect())
    }

    /// Reads a path from a tree.
    ///
    /// # Errors
    /// As [`ComponentId::decode`].
    pub fn from_value(value: Value) -> Result<Self, SuitError> {
        let segments = cbor::into_array(value, "component identifier", 0, MAX_COMPONENT_SEGMENTS)?;
        let segments = segments
            .into_iter()
            .map(|s| cbor::into_bytes_sized(s, "component segment", 0, MAX_SEGMENT_LEN))
            .collect::<Result<_, _>>()?;
        Ok(Self(segments))
    }
}

impl fmt::Display for ComponentId {
    /// Segments with slashes between them; a segment that is not printable is in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("/")?;
            }
            match core::str::from_utf8(segment) {
                Ok(text) if text.bytes().all(|b| b.is_ascii_graphic() && b != b'/') => {
                    f.write_str(text)?;
                }
                _ => {
                    f.write_str("0x")?;
                    segment
                        .iter()
                        .try_for_each(|byte| write!(f, "{byte:02x}"))?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ComponentId({self})")
    }
}
