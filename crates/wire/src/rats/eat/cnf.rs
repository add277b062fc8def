//! The confirmation claim: which key the presenter of a token has.

use alloc::vec::Vec;

use crate::cbor::{self, MapBuilder, MapReader, Value};
use crate::rats::RatsError;

/// A key, by itself or by its name.
///
/// Spec: RFC 8747 section 3.1
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Confirmation {
    /// The key (1): a COSE_Key, unread ([`crate::cose::CoseKey::from_value`] reads it).
    pub cose_key: Option<Value>,
    /// Its identifier (3).
    pub kid: Option<Vec<u8>>,
    /// Members that are not known, as they came.
    pub other: Vec<(Value, Value)>,
}

impl Confirmation {
    /// A key by its identifier.
    #[must_use]
    pub const fn kid(kid: Vec<u8>) -> Self {
        Self {
            cose_key: None,
            kid: Some(kid),
            other: Vec::new(),
        }
    }

    /// Reads the claim's value from a tree.
    ///
    /// # Errors
    /// `RatsError` if it is no confirmation, or names no key.
    pub fn from_value(value: Value) -> Result<Self, RatsError> {
        let mut map = MapReader::new(value, "cnf")?;
        if map.is_empty() {
            return Err(RatsError::Claim { what: "cnf" });
        }
        let cose_key = map.take(1);
        if cose_key.as_ref().is_some_and(|key| !key.is_map()) {
            return Err(RatsError::Claim {
                what: "COSE_Key in cnf",
            });
        }
        let kid = map
            .take(3)
            .map(|kid| cbor::into_bytes_sized(kid, "kid in cnf", 1, 128));
        Ok(Self {
            cose_key,
            kid: kid.transpose()?,
            other: map.into_rest(),
        })
    }

    /// The claim's value as a tree.
    ///
    /// # Errors
    /// `RatsError::Claim` if it names no key.
    pub fn to_value(&self) -> Result<Value, RatsError> {
        if *self == Self::default() {
            return Err(RatsError::Claim { what: "cnf" });
        }
        Ok(MapBuilder::new()
            .put_opt(1, self.cose_key.clone())
            .put_opt(3, self.kid.clone().map(Value::Bytes))
            .extend(self.other.iter().cloned())
            .finish()?)
    }
}
