//! Names of blobs as identifiers of GP objects: 96 characters in 64 bytes, and back.
//!
//! A blob's name has up to 96 characters of an alphabet of 38; an object id has up to 64 bytes. The
//! name is read as a number to the base 39 with digits from 1 (no digit is 0, so no two names are
//! the same number), which is below 39^96 < 2^508. No hash: the names come back from the ids, and
//! two names never meet.

use alloc::string::String;
use alloc::vec::Vec;

use crate::platform::BlobName;

/// Longest object id in bytes (`TEE_OBJECT_ID_MAX_LEN`).
pub const OBJECT_ID_LEN_BYTES_MAX: usize = 64;

const ALPHABET: &[u8; 38] = b"abcdefghijklmnopqrstuvwxyz0123456789-.";
const BASE: u32 = 39;

/// The object id of a blob: 1 to 64 bytes, big-endian without leading zeros.
#[must_use]
pub fn blob_id(name: &BlobName) -> Vec<u8> {
    let mut number = [0u8; OBJECT_ID_LEN_BYTES_MAX];
    for byte in name.as_str().bytes() {
        let digit = ALPHABET.iter().position(|letter| *letter == byte);
        // Every byte of a BlobName is of the alphabet.
        let mut carry = digit.map_or(0, |at| u32::try_from(at).unwrap_or(0).saturating_add(1));
        for place in number.iter_mut().rev() {
            let value = u32::from(*place).saturating_mul(BASE).saturating_add(carry);
            *place = value.to_be_bytes()[3];
            carry = value >> 8;
        }
    }
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default().to_vec()
}

/// The blob that has this object id; `None` if no blob has it.
#[must_use]
pub fn blob_name(id: &[u8]) -> Option<BlobName> {
    if id.is_empty() || id.len() > OBJECT_ID_LEN_BYTES_MAX || id.first() == Some(&0) {
        return None;
    }
    let mut number = id.to_vec();
    let mut letters = Vec::with_capacity(BlobName::MAX_LEN);
    while number.iter().any(|byte| *byte != 0) {
        if letters.len() >= BlobName::MAX_LEN {
            return None;
        }
        let mut rest = 0u32;
        for place in &mut number {
            let value = rest.saturating_mul(256).saturating_add(u32::from(*place));
            // rest < 39, so the quotient is at most (38 * 256 + 255) / 39 = 255.
            *place = u8::try_from(value / BASE).ok()?;
            rest = value % BASE;
        }
        let at = usize::try_from(rest).ok()?.checked_sub(1)?;
        letters.push(*ALPHABET.get(at)?);
    }
    letters.reverse();
    BlobName::new(&String::from_utf8(letters).ok()?)
}
