//! SUIT: encrypted payloads, and manifests whose signature was verified.

use tegata_wire::cbor::CborError;

use crate::CryptoError;

mod encryption;
mod envelope;

pub use encryption::{
    CEK_LEN_BYTES, DeliveryKeys, dangerous_open_payload_or_ctr, encryption_info_a128kw,
    encryption_info_ecdh_es, generate_cek, open_payload, seal_payload,
};
pub use envelope::{VerifiedEnvelope, sign_envelope, verify_envelope};

/// Why encryption information or a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuitError {
    /// Not what the specification describes.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// Not CBOR that we accept.
    #[error("SUIT structure is not acceptable CBOR")]
    Cbor(#[from] CborError),
    /// A digest differs, or the structure is refused.
    #[error("refused SUIT structure: {0}")]
    Wire(#[from] tegata_wire::suit::SuitError),
    /// Content or recipient algorithm that we do not implement.
    #[error("unsupported {what} algorithm {alg}")]
    Algorithm {
        /// Content, recipient, digest or signature.
        what: &'static str,
        /// COSE algorithm number.
        alg: i64,
    },
    /// No recipient is for the keys that were given.
    #[error("not encrypted for this device")]
    NotForUs,
    /// No authentication block verifies under a trusted key.
    #[error("no trusted signature")]
    Untrusted,
    /// COSE message refused.
    #[error("refused COSE message")]
    Cose(#[from] crate::cose::CoseError),
    /// Primitive failed.
    #[error("refused key, signature or ciphertext")]
    Crypto(#[from] CryptoError),
}
