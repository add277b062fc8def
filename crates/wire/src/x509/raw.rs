//! One whole DER element, kept byte for byte.

use alloc::vec::Vec;
use der::{Choice, Decode, DecodeValue, EncodeValue, Header, Length, Reader, Tag, Tagged, Writer};

/// One DER element (tag, length, contents) that is carried but not interpreted.
///
/// Certificates and requests inside protocol messages are kept in this form, so that a digest or
/// signature over them is a digest or signature over what the peer sent.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawDer {
    /// The whole element.
    bytes: Vec<u8>,
    /// Tag and length octets at the front of `bytes`.
    header_len: usize,
    /// The tag in those octets.
    tag: Tag,
}

impl RawDer {
    /// Takes exactly one element from `bytes`.
    ///
    /// # Errors
    /// If `bytes` is not one whole element in DER, or something follows it.
    pub fn from_bytes(bytes: &[u8]) -> der::Result<Self> {
        Self::from_der(bytes)
    }

    /// The empty name inside the tag of a directory name.
    pub(crate) fn null_dn() -> Self {
        let tag = super::walk::context(4);
        Self {
            bytes: alloc::vec![0xa4, 0x02, 0x30, 0x00],
            header_len: 2,
            tag,
        }
    }

    /// The whole element: tag, length, contents.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole element, taken out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The contents without tag and length.
    pub fn contents(&self) -> &[u8] {
        self.bytes.get(self.header_len..).unwrap_or_default()
    }

    /// Decodes the element as a `T`.
    ///
    /// # Errors
    /// If the element is not a `T`.
    pub fn decode_as<'a, T>(&'a self) -> Result<T, T::Error>
    where
        T: Decode<'a>,
    {
        T::from_der(&self.bytes)
    }
}

impl core::fmt::Debug for RawDer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "RawDer({} bytes)", self.bytes.len())
    }
}

impl<'a> Decode<'a> for RawDer {
    type Error = der::Error;

    fn decode<R: Reader<'a>>(reader: &mut R) -> der::Result<Self> {
        let header = Header::peek(reader)?;
        let header_len = usize::try_from(der::Encode::encoded_len(&header)?)?;
        // `tlv_bytes` borrows from the input: a length that is not there fails before any copy.
        let bytes = reader.tlv_bytes()?.to_vec();
        Ok(Self {
            bytes,
            header_len,
            tag: header.tag(),
        })
    }
}

impl<'a> DecodeValue<'a> for RawDer {
    type Error = der::Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        let contents = reader.read_slice(header.length())?;
        let mut bytes = Vec::new();
        let header_len = usize::try_from(der::Encode::encode_to_vec(&header, &mut bytes)?)?;
        bytes.extend_from_slice(contents);
        Ok(Self {
            bytes,
            header_len,
            tag: header.tag(),
        })
    }
}

impl Choice<'_> for RawDer {
    fn can_decode(_: Tag) -> bool {
        true
    }
}

impl Tagged for RawDer {
    fn tag(&self) -> Tag {
        self.tag
    }
}

impl EncodeValue for RawDer {
    fn value_len(&self) -> der::Result<Length> {
        Length::try_from(self.contents().len())
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        writer.write(self.contents())
    }
}
