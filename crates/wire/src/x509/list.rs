//! SEQUENCE OF with an upper limit, so that a list cannot outgrow the message it came in.

use alloc::vec::Vec;
use core::ops::Deref;
use der::{
    Decode, DecodeValue, Encode, EncodeValue, FixedTag, Header, Length, Reader, Tag, Writer,
};

/// A SEQUENCE OF `T` with at most `MAX` elements; decoding refuses one more before storing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> List<T, MAX> {
    /// Takes a list.
    ///
    /// # Errors
    /// If it has more than `MAX` elements.
    pub fn new(items: Vec<T>) -> der::Result<Self> {
        if items.len() > MAX {
            Err(Tag::Sequence.length_error().into())
        } else {
            Ok(Self(items))
        }
    }

    /// The list with one element. `MAX` is never 0.
    pub fn one(item: T) -> Self {
        Self(alloc::vec![item])
    }

    /// The elements.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const MAX: usize> FixedTag for List<T, MAX> {
    const TAG: Tag = Tag::Sequence;
}

impl<'a, T, const MAX: usize> DecodeValue<'a> for List<T, MAX>
where
    T: Decode<'a, Error = der::Error>,
{
    type Error = der::Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, _header: Header) -> der::Result<Self> {
        let mut items = Vec::new();
        while !reader.is_finished() {
            if items.len() == MAX {
                return Err(reader.error(Tag::Sequence.length_error()));
            }
            items.push(T::decode(reader)?);
        }
        Ok(Self(items))
    }
}

impl<T: Encode, const MAX: usize> EncodeValue for List<T, MAX> {
    fn value_len(&self) -> der::Result<Length> {
        self.0.value_len()
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        self.0.encode_value(writer)
    }
}
