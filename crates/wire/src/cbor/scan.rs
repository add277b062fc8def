//! The walk over the bytes before a tree is built.

use alloc::vec::Vec;

use ciborium_ll::{Decoder, Header, simple, tag};

use super::{CborError, Limits};

/// Checks that `bytes` are exactly one item within `limits`.
///
/// Memory: one word for each level of nesting. Time: linear in the number of items.
///
/// # Errors
/// `Malformed`, `Trailing`, `TooDeep` or `TooManyItems`.
pub(super) fn check(bytes: &[u8], limits: Limits) -> Result<(), CborError> {
    let mut rest = bytes;
    let mut items = limits.items;
    item(&mut rest, limits, &mut items)?;
    if rest.is_empty() {
        Ok(())
    } else {
        Err(CborError::Trailing)
    }
}

/// The byte offset, from the start of `bytes`, of every item of the array that `bytes` hold.
///
/// # Errors
/// As [`super::decode`], and `CborError::Type` if `bytes` are no array.
pub fn array_item_offsets(bytes: &[u8], limits: Limits) -> Result<Vec<usize>, CborError> {
    check(bytes, limits)?;
    let mut rest = bytes;
    let len = match pull(&mut rest)? {
        Header::Array(len) => len,
        _ => {
            return Err(CborError::Type {
                what: "sequence",
                expected: "an array",
            });
        }
    };
    let mut offsets = Vec::new();
    let mut items = limits.items;
    while len.is_none_or(|len| offsets.len() < len) {
        let here = bytes.len().saturating_sub(rest.len());
        let mut ahead = rest;
        if len.is_none() && pull(&mut ahead)? == Header::Break {
            break;
        }
        offsets.push(here);
        item(&mut rest, limits, &mut items)?;
    }
    Ok(offsets)
}

/// An array, map or tag that is not yet complete.
enum Open {
    /// So many items are still to come.
    Counted(u64),
    /// Until the break; true while a map waits for the value of a key.
    UntilBreak { is_map: bool, odd: bool },
}

/// Steps over one item with all that is inside it.
fn item(rest: &mut &[u8], limits: Limits, items: &mut usize) -> Result<(), CborError> {
    let mut open: Vec<Open> = Vec::new();
    loop {
        let header = pull(rest)?;
        if header == Header::Break {
            match open.pop() {
                Some(Open::UntilBreak { odd: false, .. }) => {}
                _ => return Err(CborError::Malformed),
            }
        } else {
            *items = items
                .checked_sub(1)
                .ok_or(CborError::TooManyItems { max: limits.items })?;
            if let Some(inner) = enter(header, rest)? {
                if open.len() >= limits.depth {
                    return Err(CborError::TooDeep { max: limits.depth });
                }
                open.push(inner);
                if !matches!(open.last(), Some(Open::Counted(0))) {
                    continue;
                }
                open.pop();
            }
        }
        // An item is complete: so may be those around it.
        loop {
            match open.last_mut() {
                None => return Ok(()),
                Some(Open::Counted(left)) => {
                    *left = left.saturating_sub(1);
                    if *left > 0 {
                        break;
                    }
                    open.pop();
                }
                Some(Open::UntilBreak { is_map, odd }) => {
                    *odd = *is_map && !*odd;
                    break;
                }
            }
        }
    }
}

/// Steps over a string's body, or tells what a container waits for.
fn enter(header: Header, rest: &mut &[u8]) -> Result<Option<Open>, CborError> {
    match header {
        Header::Bytes(Some(len)) | Header::Text(Some(len)) => skip(rest, len)?,
        Header::Bytes(None) => segments(rest, |h| match h {
            Header::Bytes(len) => len,
            _ => None,
        })?,
        Header::Text(None) => segments(rest, |h| match h {
            Header::Text(len) => len,
            _ => None,
        })?,
        Header::Array(Some(len)) => return Ok(Some(Open::Counted(wide(len)?))),
        Header::Map(Some(len)) => {
            let twice = wide(len)?.checked_mul(2).ok_or(CborError::Malformed)?;
            return Ok(Some(Open::Counted(twice)));
        }
        Header::Array(None) => {
            return Ok(Some(Open::UntilBreak {
                is_map: false,
                odd: false,
            }));
        }
        Header::Map(None) => {
            return Ok(Some(Open::UntilBreak {
                is_map: true,
                odd: false,
            }));
        }
        // A bignum would be read as the integer of its value, so that two messages, or two keys of
        // one map, would mean the same. Nothing this product speaks has integers beyond 64 bits.
        Header::Tag(tag::BIGPOS | tag::BIGNEG) => return Err(CborError::Malformed),
        Header::Tag(_) => return Ok(Some(Open::Counted(1))),
        // Undefined would be read as null, so that two messages would mean the same.
        Header::Simple(simple::FALSE | simple::TRUE | simple::NULL)
        | Header::Positive(_)
        | Header::Negative(_)
        | Header::Float(_) => {}
        Header::Simple(_) | Header::Break => return Err(CborError::Malformed),
    }
    Ok(None)
}

fn segments(
    rest: &mut &[u8],
    segment_len: impl Fn(Header) -> Option<usize>,
) -> Result<(), CborError> {
    loop {
        match pull(rest)? {
            Header::Break => return Ok(()),
            header => skip(rest, segment_len(header).ok_or(CborError::Malformed)?)?,
        }
    }
}

fn skip(rest: &mut &[u8], len: usize) -> Result<(), CborError> {
    *rest = rest.get(len..).ok_or(CborError::Malformed)?;
    Ok(())
}

fn wide(len: usize) -> Result<u64, CborError> {
    u64::try_from(len).map_err(|_| CborError::Malformed)
}

fn pull(rest: &mut &[u8]) -> Result<Header, CborError> {
    Decoder::from(rest).pull().map_err(|_| CborError::Malformed)
}
