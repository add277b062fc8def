//! Reading and writing element by element, with one copy of the code for all types.
//!
//! Derived codecs are compiled once for every field type. What a device handles uses this instead,
//! which halves its share of the enrolment TA. Tags, lengths and values are still `der`'s.

use alloc::vec::Vec;
use der::{
    Decode, Encode, Header, Length, Tag, TagNumber, Tagged,
    asn1::{AnyRef, BitStringRef, ObjectIdentifier},
};

/// The bytes are not the DER that was expected.
///
/// Without details on purpose: a `der::Error` is 50 bytes that every `?` copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flaw;

impl From<der::Error> for Flaw {
    #[inline]
    fn from(_: der::Error) -> Self {
        Self
    }
}

impl From<Flaw> for der::Error {
    #[inline(never)]
    fn from(_: Flaw) -> Self {
        Tag::Sequence.value_error().into()
    }
}

/// One element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    /// Its tag.
    pub(crate) tag: Tag,
    /// Its contents.
    pub(crate) value: &'a [u8],
    /// Tag, length and contents.
    pub(crate) der: &'a [u8],
}

impl<'a> Element<'a> {
    /// The one element that `bytes` are.
    #[inline(never)]
    pub(crate) fn only(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let mut walk = Walk::new(bytes);
        let element = walk.next()?;
        walk.finish()?;
        Ok(element)
    }

    /// The contents, if the tag is this one.
    #[inline(never)]
    pub(crate) fn expect(&self, tag: Tag) -> Result<&'a [u8], Flaw> {
        if self.tag == tag {
            Ok(self.value)
        } else {
            Err(Flaw)
        }
    }

    /// A cursor over the contents, if this is a SEQUENCE.
    #[inline(never)]
    pub(crate) fn sequence(&self) -> Result<Walk<'a>, Flaw> {
        self.expect(Tag::Sequence).map(Walk::new)
    }

    /// The object identifier that this is.
    #[inline(never)]
    pub(crate) fn oid(&self) -> Result<ObjectIdentifier, Flaw> {
        let bytes = self.expect(Tag::ObjectIdentifier)?;
        ObjectIdentifier::from_bytes(bytes).map_err(|_| Flaw)
    }

    /// The octets of the BIT STRING that this is, if their number is whole.
    #[inline(never)]
    pub(crate) fn bit_octets(&self) -> Result<Option<&'a [u8]>, Flaw> {
        self.expect(Tag::BitString)?;
        Ok(BitStringRef::from_der(self.der)?.as_bytes())
    }
}

/// A cursor over the contents of a constructed element.
#[derive(Debug, Clone)]
pub(crate) struct Walk<'a> {
    /// What is left.
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    /// A cursor over contents.
    pub(crate) fn new(contents: &'a [u8]) -> Self {
        Self { rest: contents }
    }

    /// Whether nothing is left.
    pub(crate) fn is_finished(&self) -> bool {
        self.rest.is_empty()
    }

    /// Fails if something is left.
    pub(crate) fn finish(self) -> Result<(), Flaw> {
        if self.is_finished() {
            Ok(())
        } else {
            Err(Flaw)
        }
    }

    /// The next element.
    #[inline(never)]
    pub(crate) fn next(&mut self) -> Result<Element<'a>, Flaw> {
        let (any, rest) = AnyRef::from_der_partial(self.rest)?;
        let len = self.rest.len().saturating_sub(rest.len());
        let der = self.rest.get(..len).ok_or(Flaw)?;
        self.rest = rest;
        Ok(Element {
            tag: any.tag(),
            value: any.value(),
            der,
        })
    }

    /// The next element, if it has this tag.
    #[inline(never)]
    pub(crate) fn optional(&mut self, tag: Tag) -> Result<Option<Element<'a>>, Flaw> {
        let mut ahead = self.clone();
        if self.is_finished() {
            return Ok(None);
        }
        let element = ahead.next()?;
        if element.tag != tag {
            return Ok(None);
        }
        *self = ahead;
        Ok(Some(element))
    }

    /// The one element inside the explicit tag `number`, if that is what comes next.
    #[inline(never)]
    pub(crate) fn explicit(&mut self, number: u32) -> Result<Option<Element<'a>>, Flaw> {
        match self.optional(context(number))? {
            Some(outer) => Element::only(outer.value).map(Some),
            None => Ok(None),
        }
    }
}

/// The constructed context-specific tag `number`.
pub(crate) fn context(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    }
}

/// The primitive context-specific tag `number`.
pub(crate) fn primitive(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: false,
        number: TagNumber(number),
    }
}

/// Appends one element.
#[inline(never)]
pub(crate) fn put(out: &mut Vec<u8>, tag: Tag, contents: &[u8]) -> Result<(), Flaw> {
    let length = Length::try_from(contents.len()).map_err(|_| Flaw)?;
    Header::new(tag, length).encode_to_vec(out)?;
    out.extend_from_slice(contents);
    Ok(())
}

/// Appends an object identifier.
#[inline(never)]
pub(crate) fn put_oid(out: &mut Vec<u8>, oid: &ObjectIdentifier) -> Result<(), Flaw> {
    put(out, Tag::ObjectIdentifier, oid.as_bytes())
}

/// Appends an AlgorithmIdentifier.
#[inline(never)]
pub(crate) fn put_algorithm(
    out: &mut Vec<u8>,
    id: &spki::AlgorithmIdentifierOwned,
) -> Result<(), Flaw> {
    let mut contents = Vec::new();
    put_oid(&mut contents, &id.oid)?;
    if let Some(parameters) = &id.parameters {
        put(&mut contents, parameters.tag(), parameters.value())?;
    }
    put_sequence(out, &contents)
}

/// Appends a BIT STRING of whole octets.
#[inline(never)]
pub(crate) fn put_bits(out: &mut Vec<u8>, octets: &[u8]) -> Result<(), Flaw> {
    put(out, Tag::BitString, &[&[0], octets].concat())
}

/// Appends a SEQUENCE.
#[inline(never)]
pub(crate) fn put_sequence(out: &mut Vec<u8>, contents: &[u8]) -> Result<(), Flaw> {
    put(out, Tag::Sequence, contents)
}

/// Puts contents into one element.
#[inline(never)]
pub(crate) fn wrap(tag: Tag, contents: &[u8]) -> Result<Vec<u8>, Flaw> {
    let mut out = Vec::new();
    put(&mut out, tag, contents)?;
    Ok(out)
}
