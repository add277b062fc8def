//! Keys that were enrolled, used: what `sign` and `certificate` do with [`tegata_client::keys`].
//!
//! The key stays in the TEE, which sees a digest; signature and certificate come out in the form
//! that files have.

use sha2::{Digest, Sha256, Sha384};
use spki::der::pem::{self, LineEnding};
use spki::der::{self, Decode};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};
use tegata_client::keys::{KeyError, Keys};
use tegata_wire::x509::ecdsa_to_der;

/// A signature and what made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `ecdsa-with-SHA256`, `ecdsa-with-SHA384` or `Ed25519`.
    pub algorithm: &'static str,
    /// DER of r and s; of Ed25519 64 bytes.
    pub bytes: Vec<u8>,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// This caller has no such key. The TEE says the same of keys of other callers.
    #[error(
        "this caller has no key {label:?}: `tegata-agent list` shows those it has, `tegata-agent \
         enrol --label {label}` gets one. Keys of another user, group or program cannot be seen"
    )]
    NoKey {
        /// The label.
        label: String,
    },
    /// The TEE or the TA did not do its part.
    #[error(transparent)]
    Key(KeyError),
    /// More than can be signed at once.
    #[error("an Ed25519 key signs at most {max} bytes at once")]
    TooLong {
        /// Limit in bytes.
        max: usize,
    },
}

impl From<KeyError> for KeysError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::NoKey { label } => Self::NoKey { label },
            other => Self::Key(other),
        }
    }
}

/// Signs `content` with the key of `label`: its digest goes to the TEE, with an Ed25519 key the
/// content itself.
///
/// # Errors
/// [`KeysError`]; `NoKey` if this caller has none of that label.
pub fn sign(keys: &Keys, label: &str, content: &[u8]) -> Result<Signature, KeysError> {
    let wrong = |what| KeysError::Key(KeyError::Answer(what));
    let spki = keys.public_key(label)?;
    let spki = SubjectPublicKeyInfoRef::from_der(&spki).map_err(|_| wrong("not a public key"))?;
    let algorithm = spki.algorithm;
    if algorithm.oid == ED25519 {
        if content.len() > ED25519_LEN_BYTES_MAX {
            let max = ED25519_LEN_BYTES_MAX;
            return Err(KeysError::TooLong { max });
        }
        let bytes = keys.sign(label, content)?;
        return Ok(Signature {
            algorithm: "Ed25519",
            bytes,
        });
    }
    let (name, digest) = match algorithm.parameters_oid() {
        Ok(P256) => ("ecdsa-with-SHA256", Sha256::digest(content).to_vec()),
        Ok(P384) => ("ecdsa-with-SHA384", Sha384::digest(content).to_vec()),
        _ => return Err(wrong("a key of an unknown kind")),
    };
    let raw = keys.sign(label, &digest)?;
    Ok(Signature {
        algorithm: name,
        bytes: ecdsa_to_der(&raw).map_err(|_| wrong("not a signature"))?,
    })
}

/// Certificate and chain of `label` in PEM, leaf first, without the root.
///
/// # Errors
/// As [`sign`].
pub fn certificate(keys: &Keys, label: &str) -> Result<String, KeysError> {
    let chain = keys.certificates(label)?;
    let all: der::Result<String> = chain
        .iter()
        .map(|der| Ok(pem::encode_string("CERTIFICATE", LineEnding::LF, der)?))
        .collect();
    all.map_err(|_| KeysError::Key(KeyError::Answer("the certificate does not become PEM")))
}

const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// Longest message for an Ed25519 key, in bytes: it goes into the TEE whole.
const ED25519_LEN_BYTES_MAX: usize = 256 * 1024;
