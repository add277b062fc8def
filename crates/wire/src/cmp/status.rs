//! PKIStatusInfo: how a request fared.
//!
//! Spec: RFC 9810 section 5.2.3.

use super::FreeText;
use alloc::{string::String, vec::Vec};
use core::ops::BitOr;
use der::{
    DecodeValue, EncodeValue, Enumerated, FixedTag, Header, Length, Reader, Sequence, Tag, Writer,
    asn1::BitStringRef,
};

/// PKIStatus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enumerated)]
#[asn1(type = "INTEGER")]
#[repr(u8)]
pub enum PkiStatus {
    /// What was asked for.
    Accepted = 0,
    /// Something like what was asked for.
    GrantedWithMods = 1,
    /// Nothing; see the failure information.
    Rejection = 2,
    /// Not processed yet; poll.
    Waiting = 3,
    /// A revocation is imminent.
    RevocationWarning = 4,
    /// A revocation took place.
    RevocationNotification = 5,
    /// The key was updated already.
    KeyUpdateWarning = 6,
}

/// PKIFailureInfo as a set of named bits; bit 0 is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PkiFailureInfo(u32);

/// Defines the named bits.
macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl PkiFailureInfo {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            /// Every bit with its name in the standard's spelling of capitals.
            const NAMES: &'static [(Self, &'static str)] =
                &[$((Self::$name, stringify!($name))),*];
        }
    };
}

failures! {
    /// Unrecognized or unsupported algorithm identifier.
    BAD_ALG = 0;
    /// Integrity check failed.
    BAD_MESSAGE_CHECK = 1;
    /// Transaction not permitted or supported.
    BAD_REQUEST = 2;
    /// messageTime too far from the system's time.
    BAD_TIME = 3;
    /// No certificate matches the criteria.
    BAD_CERT_ID = 4;
    /// The data has the wrong format.
    BAD_DATA_FORMAT = 5;
    /// The authority in the request is another one.
    WRONG_AUTHORITY = 6;
    /// The request's data is incorrect.
    INCORRECT_DATA = 7;
    /// The time stamp is missing.
    MISSING_TIME_STAMP = 8;
    /// Proof of possession failed.
    BAD_POP = 9;
    /// The certificate is revoked already.
    CERT_REVOKED = 10;
    /// The certificate was confirmed already.
    CERT_CONFIRMED = 11;
    /// Wrong integrity protection: password for signature or the reverse.
    WRONG_INTEGRITY = 12;
    /// The recipient nonce is missing or wrong.
    BAD_RECIPIENT_NONCE = 13;
    /// The time source is not available.
    TIME_NOT_AVAILABLE = 14;
    /// The policy is not supported.
    UNACCEPTED_POLICY = 15;
    /// The extension is not supported.
    UNACCEPTED_EXTENSION = 16;
    /// The additional information could not be understood.
    ADD_INFO_NOT_AVAILABLE = 17;
    /// The sender nonce is missing or too short.
    BAD_SENDER_NONCE = 18;
    /// The certificate template is missing or wrong.
    BAD_CERT_TEMPLATE = 19;
    /// The signer is unknown or not trusted.
    SIGNER_NOT_TRUSTED = 20;
    /// The transaction identifier is in use.
    TRANSACTION_ID_IN_USE = 21;
    /// The version is not supported.
    UNSUPPORTED_VERSION = 22;
    /// The sender is not authorized.
    NOT_AUTHORIZED = 23;
    /// The system cannot handle the request now.
    SYSTEM_UNAVAIL = 24;
    /// The system failed.
    SYSTEM_FAILURE = 25;
    /// The certificate exists already.
    DUPLICATE_CERT_REQ = 26;
}

impl PkiFailureInfo {
    /// The bits; bit 0 of the standard is bit 0 of the number.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the bits set, for people.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .iter()
            .filter(move |(bit, _)| self.contains(*bit))
            .map(|(_, name)| *name)
    }

    /// The octets of the BIT STRING without trailing zero octets, and the unused bits in the last.
    fn octets(self) -> (Vec<u8>, u8) {
        let mut octets = self.0.reverse_bits().to_be_bytes().to_vec();
        while octets.last() == Some(&0) {
            octets.pop();
        }
        // trailing_zeros of a non-zero octet is at most 7.
        let unused = octets.last().map_or(0, |o| o.trailing_zeros());
        (octets, u8::try_from(unused).unwrap_or(0))
    }
}

impl BitOr for PkiFailureInfo {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FixedTag for PkiFailureInfo {
    const TAG: Tag = Tag::BitString;
}

impl<'a> DecodeValue<'a> for PkiFailureInfo {
    type Error = der::Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        let string = BitStringRef::decode_value(reader, header)?;
        let mut bits = 0u32;
        for (position, bit) in string.bits().enumerate() {
            // Bits of later versions are dropped, those we can hold are kept.
            if bit && position < 32 {
                bits |= 1 << position;
            }
        }
        Ok(Self(bits))
    }
}

impl EncodeValue for PkiFailureInfo {
    fn value_len(&self) -> der::Result<Length> {
        let (octets, unused) = self.octets();
        BitStringRef::new(unused, &octets)?.value_len()
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        let (octets, unused) = self.octets();
        BitStringRef::new(unused, &octets)?.encode_value(writer)
    }
}

/// PKIStatusInfo.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct PkiStatusInfo {
    /// Outcome.
    pub status: PkiStatus,
    /// Texts for people.
    pub status_string: Option<FreeText>,
    /// Reasons for a rejection.
    pub fail_info: Option<PkiFailureInfo>,
}

impl PkiStatusInfo {
    /// Accepted, without text.
    pub const fn accepted() -> Self {
        Self {
            status: PkiStatus::Accepted,
            status_string: None,
            fail_info: None,
        }
    }

    /// A rejection with its reason and a text for people; an empty text is left out.
    pub fn rejection(failure: PkiFailureInfo, text: &str) -> Self {
        Self {
            status: PkiStatus::Rejection,
            status_string: free_text(text),
            fail_info: Some(failure),
        }
    }

    /// Whether a certificate was granted.
    pub fn is_granted(&self) -> bool {
        matches!(
            self.status,
            PkiStatus::Accepted | PkiStatus::GrantedWithMods
        )
    }

    /// The first text, if any.
    pub fn text(&self) -> Option<&str> {
        self.status_string
            .as_ref()
            .and_then(|t| t.first())
            .map(String::as_str)
    }
}

/// One text, or nothing if it is empty.
pub(super) fn free_text(text: &str) -> Option<FreeText> {
    if text.is_empty() {
        None
    } else {
        Some(FreeText::one(String::from(text)))
    }
}
