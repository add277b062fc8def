//! Maps with integer labels, as all our formats use them.

use alloc::vec::Vec;

use super::{CborError, Pieces, Value, encode};

/// Takes a map apart, label by label; what nobody took stays for the caller to keep or refuse.
#[derive(Debug)]
pub struct MapReader {
    entries: Vec<(Value, Value)>,
}

impl MapReader {
    /// Opens the map in `value`; `what` names it in errors.
    ///
    /// # Errors
    /// `CborError::Type` if `value` is no map.
    pub fn new(value: Value, what: &'static str) -> Result<Self, CborError> {
        match value {
            Value::Map(entries) => Ok(Self { entries }),
            _ => Err(CborError::Type {
                what,
                expected: "a map",
            }),
        }
    }

    /// Number of entries that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entries are left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the value with this label, if it is there.
    pub fn take(&mut self, label: i64) -> Option<Value> {
        let wanted = Value::from(label);
        let at = self.entries.iter().position(|(key, _)| *key == wanted)?;
        Some(self.entries.remove(at).1)
    }

    /// Takes the value with this label.
    ///
    /// # Errors
    /// `CborError::Missing` with the name `what` if it is not there.
    pub fn require(&mut self, label: i64, what: &'static str) -> Result<Value, CborError> {
        self.take(label).ok_or(CborError::Missing { what })
    }

    /// What is left, in the order in which it came.
    #[must_use]
    pub fn into_rest(self) -> Vec<(Value, Value)> {
        self.entries
    }
}

/// Puts a map together in RFC 8949 core deterministic order.
///
/// Spec: RFC 8949 section 4.2.1
#[derive(Debug, Clone, Default)]
pub struct MapBuilder {
    entries: Vec<(Value, Value)>,
}

impl MapBuilder {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry.
    #[must_use]
    pub fn put(mut self, key: impl Into<Value>, value: impl Into<Value>) -> Self {
        self.entries.push((key.into(), value.into()));
        self
    }

    /// Adds an entry if there is a value.
    #[must_use]
    pub fn put_opt(self, key: impl Into<Value>, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    /// Adds entries that were kept from a decoded map.
    #[must_use]
    pub fn extend(mut self, entries: impl IntoIterator<Item = (Value, Value)>) -> Self {
        self.entries.extend(entries);
        self
    }

    /// The finished map, sorted by the bytes of its encoded keys.
    ///
    /// # Errors
    /// `CborError::DuplicateKey` if a key was put twice, `CborError::Encode` for an impossible key.
    pub fn finish(self) -> Result<Value, CborError> {
        Ok(Value::Map(
            sorted(self.entries)?
                .into_iter()
                .map(|(_, key, value)| (key, value))
                .collect(),
        ))
    }

    /// The entries in the order in which they were put, their values encoded: for [`Pieces::map`].
    ///
    /// # Errors
    /// `CborError::Encode` for an impossible value.
    pub fn into_pieces(self) -> Result<Vec<(Value, Pieces<'static>)>, CborError> {
        let pieces = |(key, value)| Ok((key, Pieces::value(&value)?));
        self.entries.into_iter().map(pieces).collect()
    }

    /// The finished map, encoded.
    ///
    /// # Errors
    /// As [`MapBuilder::finish`].
    pub fn encode(self) -> Result<Vec<u8>, CborError> {
        encode(&self.finish()?)
    }
}

/// Entries in core deterministic order, each with its encoded key before it.
///
/// # Errors
/// As [`MapBuilder::finish`].
pub(super) fn sorted<T>(entries: Vec<(Value, T)>) -> Result<Vec<(Vec<u8>, Value, T)>, CborError> {
    let mut keyed = entries
        .into_iter()
        .map(|(key, value)| Ok((encode(&key)?, key, value)))
        .collect::<Result<Vec<_>, CborError>>()?;
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    let twice = keyed
        .iter()
        .zip(keyed.iter().skip(1))
        .any(|(a, b)| a.0 == b.0);
    if twice {
        return Err(CborError::DuplicateKey);
    }
    Ok(keyed)
}
