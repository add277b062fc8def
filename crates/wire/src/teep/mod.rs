//! TEEP messages: what a TAM and a TEEP Agent say to each other.
//!
//! Purpose: the five messages of the protocol, typed. The COSE_Sign1 around them is the crypto
//! crate's; HTTP is the front ends'.
//!
//! Invariants: lengths and counts that the specification limits are limited here, others by
//! constants below. Options that are not known are kept, and never make a message fail: the
//! specification wants them ignored. Where an option must be there (or must not) depends on the
//! request; that is for the protocol's state machine to judge.
//!
//! Trusted: who changes this module can make TAM and TEE disagree on what was asked.
//!
//! Spec: draft-ietf-teep-protocol-26

use alloc::string::String;
use alloc::vec::Vec;

use crate::cbor::{self, CborError, Limits, Pieces, Value};
use crate::suit::{ComponentId, SuitError, SystemProperties};

mod codec;
mod cose_sets;

pub use cose_sets::{CipherSuite, SuitCoseProfile};

/// Media type of a TEEP message over HTTP.
///
/// Spec: draft-ietf-teep-otrp-over-http section 4
pub const MEDIA_TYPE: &str = "application/teep+cbor";

/// The only version of the protocol.
pub const VERSION: u32 = 0;

/// Longest encoded message in bytes: an Update with an integrated TA and its dependencies.
pub const MAX_MESSAGE_LEN: usize = 8 * 1024 * 1024;
/// Items of any list in a message.
pub const MAX_LIST: usize = 64;
/// Longest attestation payload in bytes.
pub const MAX_ATTESTATION_LEN: usize = 64 * 1024;
/// Longest media type in bytes.
pub const MAX_FORMAT_LEN: usize = 256;
/// Longest encoded SUIT Report in bytes.
pub const MAX_REPORT_LEN: usize = 64 * 1024;

const LIMITS: Limits = Limits {
    depth: 8,
    items: 4096,
};

/// Why bytes are not a TEEP message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TeepError {
    /// Not the CBOR of the specification.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// A SUIT structure in the message is not one.
    #[error(transparent)]
    Suit(#[from] SuitError),
    /// The message has a type that is not known.
    #[error("message type {got} is not known")]
    MessageType {
        /// The type that was found.
        got: u64,
    },
    /// An error code is not allowed.
    #[error("error code {got} is not allowed")]
    ErrorCode {
        /// The code that was found.
        got: u64,
    },
    /// The message is longer than allowed.
    #[error("message has {got} bytes, allowed are {max}")]
    TooLong {
        /// Allowed length in bytes.
        max: usize,
        /// The length that was found.
        got: usize,
    },
    /// A value of ours is against the specification and was not encoded.
    #[error("{what} is not valid")]
    Invalid {
        /// Which value.
        what: &'static str,
    },
}

/// A token that ties an answer to its request (8 to 64 bytes).
///
/// Spec: draft-ietf-teep-protocol-26 section 4.2
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(Vec<u8>);

/// A challenge that makes attestation fresh (8 to 512 bytes).
///
/// Spec: draft-ietf-teep-protocol-26 section 4.2
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Challenge(Vec<u8>);

macro_rules! sized_bytes {
    ($name:ident, $what:literal, $min:literal, $max:literal) => {
        impl $name {
            /// Shortest length in bytes.
            pub const MIN_LEN: usize = $min;
            /// Longest length in bytes.
            pub const MAX_LEN: usize = $max;

            /// Takes bytes of an allowed length.
            ///
            /// # Errors
            /// `CborError::Length` for any other length.
            pub fn new(bytes: Vec<u8>) -> Result<Self, CborError> {
                cbor::check_len(bytes.len(), $what, $min, $max)?;
                Ok(Self(bytes))
            }

            /// The bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
    };
}

sized_bytes!(Token, "token", 8, 64);
sized_bytes!(Challenge, "challenge", 8, 512);

/// What a TAM asks for: four bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DataItems(u64);

impl DataItems {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Evidence or an attestation result.
    pub const ATTESTATION: Self = Self(1);
    /// The list of Trusted Components.
    pub const TRUSTED_COMPONENTS: Self = Self(2);
    /// The list of extensions.
    pub const EXTENSIONS: Self = Self(4);
    /// SUIT Reports.
    pub const SUIT_REPORTS: Self = Self(8);

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is asked for.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// From bits; those without a meaning stay, to be ignored.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// How freshness of attestation is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FreshnessMechanism {
    /// A nonce (0).
    Nonce,
    /// A timestamp (1).
    Timestamp,
    /// Another one, by its number.
    Other(u64),
}

impl FreshnessMechanism {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Nonce => 0,
            Self::Timestamp => 1,
            Self::Other(number) => number,
        }
    }

    /// The mechanism with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Nonce,
            1 => Self::Timestamp,
            other => Self::Other(other),
        }
    }
}

/// Error codes.
///
/// Spec: draft-ietf-teep-protocol-26 section 4.6
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrCode {
    /// The message cannot ever be processed (1).
    PermanentError,
    /// An extension is not supported (2).
    UnsupportedExtension,
    /// No freshness mechanism in common (3).
    UnsupportedFreshnessMechanisms,
    /// No version in common (4).
    UnsupportedMsgVersion,
    /// No cipher suite in common (5).
    UnsupportedCipherSuites,
    /// A certificate is not good (6).
    BadCertificate,
    /// Attestation is needed first (7).
    AttestationRequired,
    /// The SUIT Report's protection is not supported (8).
    UnsupportedSuitReport,
    /// A certificate has expired (9).
    CertificateExpired,
    /// It may succeed later (10).
    TemporaryError,
    /// A manifest could not be processed (17).
    ManifestProcessingFailed,
    /// A number that the specification does not give a meaning: an unknown error.
    Other(u64),
}

impl ErrCode {
    const ALL: [(Self, u64); 11] = [
        (Self::PermanentError, 1),
        (Self::UnsupportedExtension, 2),
        (Self::UnsupportedFreshnessMechanisms, 3),
        (Self::UnsupportedMsgVersion, 4),
        (Self::UnsupportedCipherSuites, 5),
        (Self::BadCertificate, 6),
        (Self::AttestationRequired, 7),
        (Self::UnsupportedSuitReport, 8),
        (Self::CertificateExpired, 9),
        (Self::TemporaryError, 10),
        (Self::ManifestProcessingFailed, 17),
    ];

    /// The number.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Other(number) => number,
            // Invariant: ALL lists every other code, so the default is never used.
            code => Self::ALL
                .iter()
                .find(|(c, _)| *c == code)
                .map_or(1, |(_, number)| *number),
        }
    }

    /// The code with this number.
    ///
    /// # Errors
    /// `TeepError::ErrorCode` for 0, which is reserved.
    pub fn from_number(got: u64) -> Result<Self, TeepError> {
        if got == 0 {
            return Err(TeepError::ErrorCode { got });
        }
        let found = Self::ALL.iter().find(|(_, number)| *number == got);
        Ok(found.map_or(Self::Other(got), |(code, _)| *code))
    }
}

/// An option that is not known, as it came: label and value.
pub type UnknownOption = (Value, Value);

/// Attestation Evidence or an attestation result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attestation {
    /// Media type with parameters (13); absent: EAT in CWT form with TEEP's profile.
    pub format: Option<String>,
    /// The bytes (7).
    pub payload: Vec<u8>,
}

/// QueryRequest (1): a TAM asks a TEEP Agent for its state.
///
/// Spec: draft-ietf-teep-protocol-26 section 4.2
#[derive(Debug, Clone, PartialEq)]
pub struct QueryRequest {
    /// Ties the answer to this request (20).
    pub token: Option<Token>,
    /// Freshness mechanisms that the TAM supports (21); absent: nonce only.
    pub supported_freshness_mechanisms: Option<Vec<FreshnessMechanism>>,
    /// Nonce for attestation (2).
    pub challenge: Option<Challenge>,
    /// Versions that the TAM supports (3); absent: 0 only.
    pub versions: Option<Vec<u32>>,
    /// The TAM's own attestation (13, 7).
    pub attestation: Option<Attestation>,
    /// Encoded SUIT Reports (19).
    pub suit_reports: Option<Vec<Vec<u8>>>,
    /// Cipher suites for TEEP messages, at least one.
    pub supported_teep_cipher_suites: Vec<CipherSuite>,
    /// Algorithm profiles for SUIT, at least one.
    pub supported_suit_cose_profiles: Vec<SuitCoseProfile>,
    /// What is asked for.
    pub data_item_requested: DataItems,
    /// Options that are not known.
    pub unknown: Vec<UnknownOption>,
}

/// A Trusted Component that a device asks for.
///
/// Spec: draft-ietf-teep-protocol-26 section 4.3
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedTc {
    /// The component (16).
    pub component_id: ComponentId,
    /// Smallest sequence number of its manifest that will do (17).
    pub tc_manifest_sequence_number: Option<u64>,
    /// Whether the device has the binary already (18).
    pub have_binary: Option<bool>,
}

/// QueryResponse (2): a TEEP Agent tells its state.
///
/// Spec: draft-ietf-teep-protocol-26 section 4.3
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryResponse {
    /// The request's token (20).
    pub token: Option<Token>,
    /// Version that the agent chose (6); absent: 0.
    pub selected_version: Option<u32>,
    /// Evidence or attestation result (13, 7).
    pub attestation: Option<Attestation>,
    /// Encoded SUIT Reports (19).
    pub suit_reports: Option<Vec<Vec<u8>>>,
    /// Trusted Components that are installed (8).
    ///
    /// `Some` of an empty list is encoded as an empty array: the specification's CDDL wants at
    /// least one, its text wants the option whenever it was asked for.
    pub tc_list: Option<Vec<SystemProperties>>,
    /// Trusted Components that are wanted (14).
    pub requested_tc_list: Option<Vec<RequestedTc>>,
    /// Manifests that nobody needs any more (15).
    pub unneeded_manifest_list: Option<Vec<ComponentId>>,
    /// Extensions that the agent supports (9).
    pub ext_list: Option<Vec<u32>>,
    /// Options that are not known.
    pub unknown: Vec<UnknownOption>,
}

/// Update (3): a TAM installs and removes.
///
/// Spec: draft-ietf-teep-protocol-26 section 4.4
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Update {
    /// Ties the answer to this request (20).
    pub token: Option<Token>,
    /// Manifests to unlink (15).
    pub unneeded_manifest_list: Option<Vec<ComponentId>>,
    /// Encoded SUIT envelopes to process (10).
    pub manifest_list: Option<Vec<Vec<u8>>>,
    /// Attestation result for the agent to pass on (13, 7).
    pub attestation: Option<Attestation>,
    /// Why the TAM could not process the QueryResponse (23).
    pub err_code: Option<ErrCode>,
    /// The same for people (12), 1 to 128 bytes.
    pub err_msg: Option<String>,
    /// Language of `err_msg` (22), 1 to 35 bytes.
    pub err_lang: Option<String>,
    /// Options that are not known.
    pub unknown: Vec<UnknownOption>,
}

impl Update {
    /// Encodes it with one manifest more, which stays where it is: it may have a whole TA in it.
    ///
    /// # Errors
    /// As [`Message::encode`].
    pub fn encode_with<'a>(&'a self, envelope: Pieces<'a>) -> Result<Pieces<'a>, TeepError> {
        codec::update(self, Some(envelope))
    }
}

/// Success (5): a TEEP Agent has done what an Update asked.
///
/// Spec: draft-ietf-teep-protocol-26 section 4.5
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Success {
    /// The Update's token (20).
    pub token: Option<Token>,
    /// Something for people (11), 1 to 128 bytes.
    pub msg: Option<String>,
    /// Encoded SUIT Reports (19).
    pub suit_reports: Option<Vec<Vec<u8>>>,
    /// Options that are not known.
    pub unknown: Vec<UnknownOption>,
}

/// Error (6): a TEEP Agent could not do what it was asked.
///
/// Spec: draft-ietf-teep-protocol-26 section 4.6
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    /// The request's token (20).
    pub token: Option<Token>,
    /// Why.
    pub err_code: ErrCode,
    /// The same for people (12), 1 to 128 bytes.
    pub err_msg: Option<String>,
    /// Language of `err_msg` (22), 1 to 35 bytes.
    pub err_lang: Option<String>,
    /// Cipher suites that the agent supports (1).
    pub supported_teep_cipher_suites: Option<Vec<CipherSuite>>,
    /// Freshness mechanisms that the agent supports (21).
    pub supported_freshness_mechanisms: Option<Vec<FreshnessMechanism>>,
    /// Algorithm profiles for SUIT that the agent supports (4).
    pub supported_suit_cose_profiles: Option<Vec<SuitCoseProfile>>,
    /// Nonce for the TAM's attestation (2).
    pub challenge: Option<Challenge>,
    /// Versions that the agent supports (3).
    pub versions: Option<Vec<u32>>,
    /// Encoded SUIT Reports (19).
    pub suit_reports: Option<Vec<Vec<u8>>>,
    /// Options that are not known.
    pub unknown: Vec<UnknownOption>,
}

impl Error {
    /// An error with nothing but its code.
    #[must_use]
    pub const fn new(err_code: ErrCode) -> Self {
        Self {
            token: None,
            err_code,
            err_msg: None,
            err_lang: None,
            supported_teep_cipher_suites: None,
            supported_freshness_mechanisms: None,
            supported_suit_cose_profiles: None,
            challenge: None,
            versions: None,
            suit_reports: None,
            unknown: Vec::new(),
        }
    }
}

/// A TEEP message.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Message {
    /// TAM to agent.
    QueryRequest(QueryRequest),
    /// Agent to TAM.
    QueryResponse(QueryResponse),
    /// TAM to agent.
    Update(Update),
    /// Agent to TAM.
    Success(Success),
    /// Agent to TAM.
    Error(Error),
}

impl Message {
    /// The message's type number.
    #[must_use]
    pub const fn type_number(&self) -> u64 {
        match self {
            Self::QueryRequest(_) => 1,
            Self::QueryResponse(_) => 2,
            Self::Update(_) => 3,
            Self::Success(_) => 5,
            Self::Error(_) => 6,
        }
    }

    /// The token, if the message has one.
    #[must_use]
    pub const fn token(&self) -> Option<&Token> {
        match self {
            Self::QueryRequest(QueryRequest { token, .. })
            | Self::QueryResponse(QueryResponse { token, .. })
            | Self::Update(Update { token, .. })
            | Self::Success(Success { token, .. })
            | Self::Error(Error { token, .. }) => token.as_ref(),
        }
    }

    /// Decodes a message (the payload of its COSE_Sign1).
    ///
    /// # Errors
    /// `TeepError` if the bytes are none, or exceed a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, TeepError> {
        codec::decode(bytes)
    }

    /// Encodes a message (the payload of its COSE_Sign1).
    ///
    /// # Errors
    /// `TeepError` if a value is against the specification.
    pub fn encode(&self) -> Result<Vec<u8>, TeepError> {
        codec::encode(self)
    }
}

macro_rules! message_from {
    ($($name:ident),*) => {
        $(impl From<$name> for Message {
            fn from(message: $name) -> Self {
                Self::$name(message)
            }
        })*
    };
}

message_from!(QueryRequest, QueryResponse, Update, Success, Error);
