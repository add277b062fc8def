//! COSE: numbers, keys, thumbprints, signatures' inputs and SUIT's encryption structures.
//!
//! Purpose: what several formats need of COSE beyond `coset`, as bytes: the input of a key's
//! thumbprint, the bytes that are signed, the additional data of an encryption, the context of a
//! key derivation. The cryptography on those bytes is the crypto crate's.
//!
//! Invariants: protected headers are kept as the bytes that came. A critical header that is not
//! understood is an error, never ignored. The algorithm of a signature is read from the protected
//! header only.
//!
//! Trusted: who changes this module can make a signature cover something else.
//!
//! Spec: RFC 9052, RFC 9053, RFC 9679, RFC 9864, draft-ietf-suit-firmware-encryption

use crate::cbor::{CborError, Limits};

mod encrypt;
mod key;
mod sign1;

pub use encrypt::{EncryptionInfo, Recipient, RecipientKind, kdf_context_a128kw};
pub use key::CoseKey;
pub use sign1::{Sign1Builder, UnverifiedSign1};

/// ECDSA on P-256 with SHA-256, curve given by the algorithm: what Tegata emits.
pub const ALG_ESP256: i64 = -9;
/// ECDSA on P-384 with SHA-384, curve given by the algorithm.
pub const ALG_ESP384: i64 = -51;
/// EdDSA on Ed25519, curve given by the algorithm.
pub const ALG_ED25519: i64 = -19;
/// ECDSA with SHA-256: the old number, accepted for P-256.
pub const ALG_ES256: i64 = -7;
/// ECDSA with SHA-384: the old number, accepted for P-384.
pub const ALG_ES384: i64 = -35;
/// EdDSA: the old number, accepted for Ed25519.
pub const ALG_EDDSA: i64 = -8;
/// SHA-256.
pub const ALG_SHA_256: i64 = -16;
/// HMAC with SHA-256.
pub const ALG_HMAC_256: i64 = 5;
/// AES key wrap with a 128-bit key.
pub const ALG_A128KW: i64 = -3;
/// Ephemeral-static ECDH, HKDF-SHA256, then AES-128 key wrap.
pub const ALG_ECDH_ES_A128KW: i64 = -29;
/// AES-128 in GCM mode, 128-bit tag.
pub const ALG_A128GCM: i64 = 1;
/// AES-256 in GCM mode, 128-bit tag.
pub const ALG_A256GCM: i64 = 3;
/// AES-128 in counter mode: no integrity of its own (RFC 9459).
pub const ALG_A128CTR: i64 = -65534;
/// ChaCha20-Poly1305.
pub const ALG_CHACHA20_POLY1305: i64 = 24;

/// CBOR tag (and CoAP content format) of COSE_Sign1.
pub const COSE_SIGN1: i64 = 18;
/// CBOR tag of COSE_Sign1.
pub const TAG_SIGN1: u64 = 18;
/// CBOR tag of COSE_Encrypt.
pub const TAG_ENCRYPT: u64 = 96;
/// CBOR tag of a CWT.
pub const TAG_CWT: u64 = 61;

/// Header: algorithm.
pub const HEADER_ALG: i64 = 1;
/// Header: critical headers.
pub const HEADER_CRIT: i64 = 2;
/// Header: content type.
pub const HEADER_CONTENT_TYPE: i64 = 3;
/// Header: key identifier.
pub const HEADER_KID: i64 = 4;
/// Header: initialization vector.
pub const HEADER_IV: i64 = 5;
/// Header: X.509 certificate chain.
pub const HEADER_X5CHAIN: i64 = 33;
/// Header of ECDH recipients: ephemeral key.
pub const HEADER_EPHEMERAL_KEY: i64 = -1;
/// Header of key derivations: salt.
pub const HEADER_SALT: i64 = -20;

/// Longest structure in bytes, its payload not counted.
pub const MAX_HEADER_LEN: usize = 16 * 1024;
/// Longest key identifier in bytes.
pub const MAX_KID_LEN: usize = 128;
/// Certificates in a chain.
pub const MAX_CHAIN: usize = 8;
/// Recipients of an encrypted payload.
pub const MAX_RECIPIENTS: usize = 16;

const LIMITS: Limits = Limits {
    depth: 10,
    items: 2048,
};

/// The modern number for an old, curve-less one; any other number stays.
///
/// Spec: RFC 9864 section 2
#[must_use]
pub const fn modern_alg(alg: i64) -> i64 {
    match alg {
        ALG_ES256 => ALG_ESP256,
        ALG_ES384 => ALG_ESP384,
        ALG_EDDSA => ALG_ED25519,
        other => other,
    }
}

/// Why bytes are not the COSE structure that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoseError {
    /// Not the CBOR of the specification.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// A header is critical and not understood.
    #[error("critical header is not understood")]
    Critical,
    /// A header stands in both the protected and the unprotected map.
    #[error("header {label} is there twice")]
    HeaderTwice {
        /// Label of the header.
        label: i64,
    },
    /// The payload is detached and was not given, or given and not detached.
    #[error("payload is {0}")]
    Payload(&'static str),
    /// A key has a type or curve that is not supported.
    #[error("key type or curve is not supported")]
    Key,
    /// An algorithm is not supported here.
    #[error("algorithm {got} is not supported")]
    Algorithm {
        /// COSE algorithm number.
        got: i64,
    },
    /// A header that the structure needs is missing.
    #[error("{what} is missing")]
    Missing {
        /// Name of the header.
        what: &'static str,
    },
}
