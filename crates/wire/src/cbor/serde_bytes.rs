//! Byte strings for serde.

use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::ser::Serializer;

/// Writes bytes as a byte string.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(
    bytes: &(impl AsRef<[u8]> + ?Sized),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes.as_ref())
}

/// Reads a byte string (or an array of small integers, for other serde formats).
///
/// # Errors
/// The deserializer's, if there is something else, or if the target has another length.
pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let bytes = deserializer.deserialize_byte_buf(Bytes)?;
    let len = bytes.len();
    T::try_from(bytes).map_err(|_| D::Error::invalid_length(len, &"the length of the type"))
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<u8>, A::Error> {
        // No reservation from the claimed length: it comes from the peer.
        let mut out = Vec::new();
        while let Some(byte) = items.next_element()? {
            out.push(byte);
        }
        Ok(out)
    }
}
