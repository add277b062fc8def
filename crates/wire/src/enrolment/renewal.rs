//! The renewal token: what tells a renewal that the TA made from one that its key was lent to.
//!
//! A `DeviceKey` signs what its application asks for, so a signature by it does not prove that the
//! new key was made in the TEE. The TA adds a MAC under its `CsrAuthKey`, which no application has.
//! It stands in the control regToken of the request (RFC 4211 section 6.1).
//!
//! Text: lower-case hexadecimal of the senderKID, a full stop, and that of HMAC-SHA256 under the
//! `CsrAuthKey` over [`token_input`].

use super::{EnrolmentError, SenderKid};
use alloc::{string::String, vec::Vec};

/// Length of the MAC, in bytes.
const MAC_BYTES: usize = 32;
/// What the MAC's input begins with.
const CONTEXT: &[u8] = b"tegata renewal v1";

/// A renewal token as a peer sent it: well-formed, its MAC not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalToken {
    /// Whose key made the MAC.
    pub kid: SenderKid,
    /// The MAC.
    pub mac: [u8; MAC_BYTES],
}

impl RenewalToken {
    /// Reads the text of a regToken.
    ///
    /// # Errors
    /// If it is not of the form above.
    pub fn parse(text: &str) -> Result<Self, EnrolmentError> {
        let malformed = EnrolmentError::RenewalToken;
        let (kid, mac) = text.split_once('.').ok_or(malformed.clone())?;
        let kid = read_hex(kid).ok_or(malformed.clone())?;
        let mac = read_hex(mac).and_then(|m| m.try_into().ok());
        Ok(Self {
            kid: SenderKid::parse(&kid)?,
            mac: mac.ok_or(malformed)?,
        })
    }

    /// The text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        write_hex(&mut out, &self.kid.to_bytes());
        out.push('.');
        write_hex(&mut out, &self.mac);
        out
    }
}

/// What the MAC is over: the context, SHA-256 of the new SubjectPublicKeyInfo (DER), SHA-256 of the
/// certificate that is renewed (DER).
#[must_use]
pub fn token_input(spki_sha256: &[u8; 32], certificate_sha256: &[u8; 32]) -> Vec<u8> {
    [CONTEXT, spki_sha256.as_slice(), certificate_sha256].concat()
}

fn write_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.extend(char::from_digit(u32::from(nibble), 16));
        }
    }
}

/// Lower-case hexadecimal of at most 64 bytes.
fn read_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 128 {
        return None;
    }
    let value = |digit: &u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(value(high)? << 4 | value(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ReleaseDigest, Ueid};

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let ueid = Ueid::from_random([7; 16]);
        let token = RenewalToken {
            kid: SenderKid::new(&ReleaseDigest([0xab; 32]), &ueid),
            mac: [0x5f; 32],
        };
        let text = token.to_text();
        assert_eq!(RenewalToken::parse(&text), Ok(token));
        for end in 0..text.len() {
            assert!(RenewalToken::parse(&text[..end]).is_err(), "{end}");
        }
        for bad in [
            text.to_uppercase(),
            alloc::format!("{text}00"),
            alloc::format!("0{text}"),
            text.replace('.', ":"),
            "é.é".into(),
        ] {
            assert!(RenewalToken::parse(&bad).is_err(), "{bad}");
        }
        assert_eq!(token_input(&[1; 32], &[2; 32]).len(), 17 + 64);
    }
}
