//! Encoded items in pieces: a long byte string goes into what is around it without a copy.

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use ciborium_ll::{Encoder, Header};

use super::{CborError, Value, encode, sorted};

/// One encoded item, or what is put into a byte string, in pieces that others may own.
///
/// Each step around it adds a few bytes; [`Pieces::to_vec`] is the only copy of what is long.
#[derive(Debug, Clone, Default)]
pub struct Pieces<'a>(Vec<Cow<'a, [u8]>>);

impl<'a> Pieces<'a> {
    /// Bytes as they stand: an item that is encoded already, or the content of a byte string.
    #[must_use]
    pub fn raw(bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self(vec![bytes.into()])
    }

    /// A tree, as [`encode`] writes it.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn value(value: &Value) -> Result<Self, CborError> {
        Ok(Self::raw(encode(value)?))
    }

    /// A byte string.
    ///
    /// # Errors
    /// None in practice.
    pub fn bytes(content: impl Into<Cow<'a, [u8]>>) -> Result<Self, CborError> {
        Self::raw(content).into_bytes()
    }

    /// A byte string with these pieces inside.
    ///
    /// # Errors
    /// None in practice.
    pub fn into_bytes(self) -> Result<Self, CborError> {
        let len = self.len();
        Self::headed(Header::Bytes(Some(len)), [self])
    }

    /// An array.
    ///
    /// # Errors
    /// None in practice.
    pub fn array(items: Vec<Self>) -> Result<Self, CborError> {
        Self::headed(Header::Array(Some(items.len())), items)
    }

    /// A map in core deterministic order, as [`super::MapBuilder`] writes it.
    ///
    /// # Errors
    /// `CborError::DuplicateKey` if a key is there twice, `CborError::Encode` for an impossible key.
    pub fn map(entries: Vec<(Value, Self)>) -> Result<Self, CborError> {
        let entries = sorted(entries)?;
        let header = Header::Map(Some(entries.len()));
        let items = entries
            .into_iter()
            .flat_map(|(key, _, value)| [Self::raw(key), value]);
        Self::headed(header, items)
    }

    /// The item with `tag` in front.
    ///
    /// # Errors
    /// None in practice.
    pub fn tagged(self, tag: u64) -> Result<Self, CborError> {
        Self::headed(Header::Tag(tag), [self])
    }

    /// Length of all pieces in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.len()).sum()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// All pieces in one.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.0.concat()
    }

    fn headed(header: Header, items: impl IntoIterator<Item = Self>) -> Result<Self, CborError> {
        let mut head = Vec::new();
        Encoder::from(&mut head)
            .push(header)
            .map_err(|_| CborError::Encode)?;
        let mut pieces = vec![Cow::Owned(head)];
        pieces.extend(items.into_iter().flat_map(|item| item.0));
        Ok(Self(pieces))
    }
}
