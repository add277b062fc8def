//! Strict CBOR: what every CBOR format of Tegata is read and written with.
//!
//! Purpose: one gate in front of `ciborium`. Before a tree is built, the bytes are walked once with
//! a small fixed stack: nesting, number of items and trailing bytes are judged there, so a hostile
//! message costs no more memory than a small multiple of [`Limits::items`]. Then duplicate map keys
//! are refused, because two readers could each see another value.
//!
//! Invariants: never panics; no allocation grows with a length that the peer merely claims.
//! Absent on purpose: a check for shortest-form encoding on input. Everything that is signed is
//! kept and hashed as the bytes that came; output is always RFC 8949 core deterministic.
//!
//! Trusted: who changes this module can make a signed message read differently.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

pub use ciborium::value::{Integer, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

mod map;
mod pieces;
mod scan;
mod serde_bytes;
#[cfg(test)]
mod tests;

use map::sorted;
pub use map::{MapBuilder, MapReader};
pub use pieces::Pieces;
pub use scan::array_item_offsets;

/// For `#[serde(with = "tegata_wire::cbor::bytes")]`: a `Vec<u8>` as a CBOR byte string.
///
/// Without it, serde writes a `Vec<u8>` as an array with one item for each byte.
pub mod bytes {
    pub use super::serde_bytes::{deserialize, serialize};
}

/// Why bytes are not the CBOR that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// Not well-formed CBOR, or cut short.
    #[error("not well-formed CBOR")]
    Malformed,
    /// Bytes follow the item.
    #[error("bytes follow the CBOR item")]
    Trailing,
    /// Arrays, maps and tags are nested deeper than allowed.
    #[error("CBOR is nested deeper than {max} levels")]
    TooDeep {
        /// Allowed number of levels.
        max: usize,
    },
    /// There are more items than allowed.
    #[error("CBOR has more than {max} items")]
    TooManyItems {
        /// Allowed number of items.
        max: usize,
    },
    /// A map has the same key twice.
    #[error("a CBOR map has a key twice")]
    DuplicateKey,
    /// An item has another type than its place asks for.
    #[error("{what} is not {expected}")]
    Type {
        /// Name of the field in its specification.
        what: &'static str,
        /// The type that was expected.
        expected: &'static str,
    },
    /// A required field is absent.
    #[error("{what} is missing")]
    Missing {
        /// Name of the field in its specification.
        what: &'static str,
    },
    /// A field is shorter or longer than allowed.
    #[error("{what} has length {got}, allowed are {min} to {max}")]
    Length {
        /// Name of the field in its specification.
        what: &'static str,
        /// Smallest allowed length (bytes of a string, items of an array or map).
        min: usize,
        /// Largest allowed length.
        max: usize,
        /// The length that was found.
        got: usize,
    },
    /// A number is outside the range that its field allows.
    #[error("{what} is outside its range")]
    Range {
        /// Name of the field in its specification.
        what: &'static str,
    },
    /// The serde form does not match the Rust type.
    #[error("CBOR does not match the expected structure")]
    Structure,
    /// A value of ours cannot be expressed.
    #[error("value cannot be encoded as CBOR")]
    Encode,
}

/// What a decoder may spend on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Levels of arrays, maps and tags inside each other.
    pub depth: usize,
    /// Data items in all (each costs about 40 bytes of memory).
    pub items: usize,
}

impl Limits {
    /// Enough for every message that one device sends or receives: 16 levels, 8192 items.
    pub const MESSAGE: Self = Self {
        depth: 16,
        items: 8192,
    };
    /// For lists about many devices (factory manifests): 16 levels, a million items.
    pub const BATCH: Self = Self {
        depth: 16,
        items: 1 << 20,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::MESSAGE
    }
}

/// Decodes one item of at most `max_depth` levels and [`Limits::MESSAGE`]'s number of items.
///
/// # Errors
/// `CborError` if the bytes are not exactly one well-formed item within the limits, or if a map in
/// it has a key twice.
pub fn decode(bytes: &[u8], max_depth: usize) -> Result<Value, CborError> {
    decode_limited(
        bytes,
        Limits {
            depth: max_depth,
            ..Limits::MESSAGE
        },
    )
}

/// Decodes one item within `limits`.
///
/// # Errors
/// As [`decode`].
pub fn decode_limited(bytes: &[u8], limits: Limits) -> Result<Value, CborError> {
    scan::check(bytes, limits)?;
    let value: Value = parse(bytes, limits)?;
    refuse_duplicate_keys(&value)?;
    Ok(value)
}

/// Encodes a tree as it stands: shortest forms and definite lengths, map order as given.
///
/// Maps of our own come from [`MapBuilder`], which sorts them.
///
/// # Errors
/// `CborError::Encode` if the tree holds something that CBOR cannot express.
pub fn encode(value: &Value) -> Result<Vec<u8>, CborError> {
    let mut out = Vec::with_capacity(SMALL_BYTES);
    ciborium::ser::into_writer(value, &mut out).map_err(|_| CborError::Encode)?;
    Ok(out)
}

/// Encodes a Rust value through serde (local protocols; formats of other parties are typed here).
///
/// # Errors
/// `CborError::Encode` if the value's `Serialize` fails.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CborError> {
    let mut out = Vec::new();
    ciborium::ser::into_writer(value, &mut out).map_err(|_| CborError::Encode)?;
    Ok(out)
}

/// Decodes a Rust value through serde, within [`Limits::MESSAGE`].
///
/// # Errors
/// As [`decode`], and `CborError::Structure` if the item does not fit the type.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CborError> {
    from_slice_limited(bytes, Limits::MESSAGE)
}

/// Decodes a Rust value through serde, within `limits`.
///
/// # Errors
/// As [`from_slice`].
pub fn from_slice_limited<T: DeserializeOwned>(
    bytes: &[u8],
    limits: Limits,
) -> Result<T, CborError> {
    decode_limited(bytes, limits)?;
    parse(bytes, limits)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], limits: Limits) -> Result<T, CborError> {
    let mut rest = bytes;
    // The scan has judged the depth; `ciborium` counts some levels (tags, enums) more than once.
    let levels = limits.depth.saturating_mul(4).saturating_add(4);
    let value =
        ciborium::de::from_reader_with_recursion_limit(&mut rest, levels).map_err(|error| {
            match error {
                ciborium::de::Error::Semantic(..) => CborError::Structure,
                ciborium::de::Error::RecursionLimitExceeded => {
                    CborError::TooDeep { max: limits.depth }
                }
                _ => CborError::Malformed,
            }
        })?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(CborError::Trailing)
    }
}

/// Recursion is bounded: the scan has limited the depth before.
fn refuse_duplicate_keys(value: &Value) -> Result<(), CborError> {
    match value {
        Value::Array(items) => items.iter().try_for_each(refuse_duplicate_keys),
        Value::Tag(_, inner) => refuse_duplicate_keys(inner),
        Value::Map(entries) => {
            let plain = |k: &Value| k.is_integer() || k.is_text() || k.is_bytes();
            // A few plain keys are told apart as they are; others by their encoding: a NaN is not equal to itself.
            if entries.len() <= KEYS_COMPARED_MAX && entries.iter().all(|(k, _)| plain(k)) {
                let before = |at| entries.iter().take(at).map(|(key, _)| key);
                let mut keys = entries.iter().map(|(key, _)| key).enumerate();
                if keys.any(|(at, key)| before(at).any(|other| other == key)) {
                    return Err(CborError::DuplicateKey);
                }
            } else {
                let mut seen = BTreeSet::new();
                for (key, _) in entries {
                    if !seen.insert(encode(key)?) {
                        return Err(CborError::DuplicateKey);
                    }
                }
            }
            entries.iter().try_for_each(|(key, inner)| {
                refuse_duplicate_keys(key)?;
                refuse_duplicate_keys(inner)
            })
        }
        _ => Ok(()),
    }
}

/// Room for a key or another small item, so that it is not grown into.
const SMALL_BYTES: usize = 96;
/// Most keys of a map that are compared each with each.
const KEYS_COMPARED_MAX: usize = 24;

/// The byte string in `value`.
///
/// # Errors
/// `CborError::Type` if it is something else.
pub fn into_bytes(value: Value, what: &'static str) -> Result<Vec<u8>, CborError> {
    value.into_bytes().map_err(|_| CborError::Type {
        what,
        expected: "a byte string",
    })
}

/// The byte string in `value`, of `min` to `max` bytes.
///
/// # Errors
/// `CborError::Type` if it is something else, `CborError::Length` outside the range.
pub fn into_bytes_sized(
    value: Value,
    what: &'static str,
    min: usize,
    max: usize,
) -> Result<Vec<u8>, CborError> {
    let bytes = into_bytes(value, what)?;
    check_len(bytes.len(), what, min, max)?;
    Ok(bytes)
}

/// The byte string of exactly `N` bytes in `value`.
///
/// # Errors
/// `CborError::Type` if it is something else, `CborError::Length` for another length.
pub fn into_byte_array<const N: usize>(
    value: Value,
    what: &'static str,
) -> Result<[u8; N], CborError> {
    let bytes = into_bytes(value, what)?;
    let got = bytes.len();
    bytes.try_into().map_err(|_| CborError::Length {
        what,
        min: N,
        max: N,
        got,
    })
}

/// The text string in `value`, of at most `max` bytes.
///
/// # Errors
/// `CborError::Type` if it is something else, `CborError::Length` if it is longer.
pub fn into_text(value: Value, what: &'static str, max: usize) -> Result<String, CborError> {
    let text = value.into_text().map_err(|_| CborError::Type {
        what,
        expected: "a text string",
    })?;
    check_len(text.len(), what, 0, max)?;
    Ok(text)
}

/// The array in `value`, of `min` to `max` items.
///
/// # Errors
/// `CborError::Type` if it is something else, `CborError::Length` outside the range.
pub fn into_array(
    value: Value,
    what: &'static str,
    min: usize,
    max: usize,
) -> Result<Vec<Value>, CborError> {
    let items = value.into_array().map_err(|_| CborError::Type {
        what,
        expected: "an array",
    })?;
    check_len(items.len(), what, min, max)?;
    Ok(items)
}

/// The content of `value`, which must carry `tag`.
///
/// # Errors
/// `CborError::Type` if there is no tag or another one.
pub fn into_tagged(value: Value, tag: u64, what: &'static str) -> Result<Value, CborError> {
    match value {
        Value::Tag(found, inner) if found == tag => Ok(*inner),
        _ => Err(CborError::Type {
            what,
            expected: "the tag of its format",
        }),
    }
}

/// The content of `value`, whether it carries `tag` or not; another tag stays for the next check.
#[must_use]
pub fn strip_tag(value: Value, tag: u64) -> Value {
    match value {
        Value::Tag(found, inner) if found == tag => *inner,
        other => other,
    }
}

/// `value` with `tag` in front.
#[must_use]
pub fn tagged(tag: u64, value: Value) -> Value {
    Value::Tag(tag, Box::new(value))
}

/// The integer in `value`.
///
/// # Errors
/// `CborError::Type` if it is something else, `CborError::Range` if it does not fit 64 bits signed.
pub fn int(value: &Value, what: &'static str) -> Result<i64, CborError> {
    let integer = value.as_integer().ok_or(CborError::Type {
        what,
        expected: "an integer",
    })?;
    i64::try_from(integer).map_err(|_| CborError::Range { what })
}

/// The unsigned integer in `value`.
///
/// # Errors
/// `CborError::Type` if it is something else, `CborError::Range` if it is negative or too large.
pub fn uint(value: &Value, what: &'static str) -> Result<u64, CborError> {
    let integer = value.as_integer().ok_or(CborError::Type {
        what,
        expected: "an unsigned integer",
    })?;
    u64::try_from(integer).map_err(|_| CborError::Range { what })
}

/// The truth value in `value`.
///
/// # Errors
/// `CborError::Type` if it is something else.
pub fn boolean(value: &Value, what: &'static str) -> Result<bool, CborError> {
    value.as_bool().ok_or(CborError::Type {
        what,
        expected: "true or false",
    })
}

/// Checks a length (bytes of a string, items of an array or map).
///
/// # Errors
/// `CborError::Length` outside `min` to `max`.
pub fn check_len(got: usize, what: &'static str, min: usize, max: usize) -> Result<(), CborError> {
    if (min..=max).contains(&got) {
        Ok(())
    } else {
        Err(CborError::Length {
            what,
            min,
            max,
            got,
        })
    }
}
