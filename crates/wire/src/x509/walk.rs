//! Reading and writing element by element, with one copy of the code for all types.
//!
//! Derived codecs are compiled once for every field type. The messages a device handles use this
//! instead, which halves their share of the enrolment TA.

use alloc::vec::Vec;
use der::{
    Decode, Encode, Header, Length, Reader, SliceReader, Tag, TagNumber, Tagged, asn1::AnyRef,
};

/// A cursor over the contents of a constructed element.
pub(crate) struct Walk<'a> {
    /// What is left.
    reader: SliceReader<'a>,
}

impl<'a> Walk<'a> {
    /// A cursor over contents.
    #[inline(never)]
    pub(crate) fn new(contents: &'a [u8]) -> der::Result<Self> {
        Ok(Self {
            reader: SliceReader::new(contents)?,
        })
    }

    /// Whether nothing is left.
    pub(crate) fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    /// Fails if something is left.
    #[inline(never)]
    pub(crate) fn finish(self) -> der::Result<()> {
        self.reader.finish()
    }

    /// The next element.
    #[inline(never)]
    pub(crate) fn any(&mut self) -> der::Result<AnyRef<'a>> {
        AnyRef::decode(&mut self.reader)
    }

    /// The next element with its tag and length.
    #[inline(never)]
    pub(crate) fn tlv(&mut self) -> der::Result<&'a [u8]> {
        self.reader.tlv_bytes()
    }

    /// The one element inside the explicit tag `number`, if that is what comes next.
    #[inline(never)]
    pub(crate) fn explicit(&mut self, number: u32) -> der::Result<Option<&'a [u8]>> {
        if self.is_finished() || Tag::peek(&self.reader)? != context(number) {
            return Ok(None);
        }
        let outer = self.any()?;
        let mut inner = SliceReader::new(outer.value())?;
        let element = inner.tlv_bytes()?;
        inner.finish()?;
        Ok(Some(element))
    }
}

/// The constructed context-specific tag `number`.
pub(crate) fn context(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    }
}

/// The contents of the one element in `bytes`, which must have the tag.
#[inline(never)]
pub(crate) fn contents(bytes: &[u8], tag: Tag) -> der::Result<&[u8]> {
    let any = AnyRef::from_der(bytes)?;
    any.tag().assert_eq(tag)?;
    Ok(any.value())
}

/// Appends one element.
#[inline(never)]
pub(crate) fn put(out: &mut Vec<u8>, tag: Tag, contents: &[u8]) -> der::Result<()> {
    Header::new(tag, Length::try_from(contents.len())?).encode_to_vec(out)?;
    out.extend_from_slice(contents);
    Ok(())
}
