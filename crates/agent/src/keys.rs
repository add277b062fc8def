//! Keys that were enrolled, used: sign, read the certificate, list.
//!
//! Purpose: what an application does with a key after [`crate::enrol`]; the key stays in the TEE,
//! which sees a digest. Commands of the enrolment TA (docs/spec/enrolment-ta.md).
//!
//! Invariants: whose keys are used is the identity the session was opened with; to any other
//! caller a label does not exist.

use sha2::{Digest, Sha256, Sha384};
use spki::der::Decode;
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};
use tegata_client::{Context, Error, Login, Operation, Parameter, Session, TaUuid, codes};
use tegata_wire::cbor::{self, CborError};
use tegata_wire::x509::ecdsa_to_der;

use crate::enrol::command;

/// A session with the enrolment TA in which keys are used.
pub struct Keys {
    session: Session,
}

/// A signature and what made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `ecdsa-with-SHA256`, `ecdsa-with-SHA384` or `Ed25519`.
    pub algorithm: &'static str,
    /// DER of r and s; of Ed25519 64 bytes.
    pub bytes: Vec<u8>,
}

/// How far the key of a label is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// The CA was or will be asked.
    Requested,
    /// There is a certificate that is not confirmed yet.
    Received,
    /// Key and certificate are there.
    Installed,
    /// They are, and the next ones are under way.
    Renewing,
}

impl KeyState {
    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Received => "received",
            Self::Installed => "installed",
            Self::Renewing => "renewing",
        }
    }

    const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Requested,
            2 => Self::Received,
            3 => Self::Installed,
            4 => Self::Renewing,
            _ => return None,
        })
    }
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
    Tee(#[from] Error),
    /// The TA answered with something that is not what it should be.
    #[error("the TA's answer is not right: {0}")]
    Answer(&'static str),
    /// More than can be signed at once.
    #[error("an Ed25519 key signs at most {max} bytes at once")]
    TooLong {
        /// Limit in bytes.
        max: usize,
    },
}

impl From<CborError> for KeysError {
    fn from(_: CborError) -> Self {
        Self::Answer("not a list of labels")
    }
}

impl Keys {
    /// Opens a session with the enrolment TA as `login`.
    ///
    /// # Errors
    /// [`KeysError::Tee`].
    pub fn open(tee: &Context, ta: &TaUuid, login: Login) -> Result<Self, KeysError> {
        let session = tee.open_session(ta, login, &mut Operation::empty())?;
        Ok(Self { session })
    }

    /// Signs `content` with the key of `label`: its digest goes to the TEE, with an Ed25519 key the
    /// content itself.
    ///
    /// # Errors
    /// [`KeysError`]; `NoKey` if this caller has none of that label.
    pub fn sign(&self, label: &str, content: &[u8]) -> Result<Signature, KeysError> {
        let spki = self.public_key(label)?;
        let spki = SubjectPublicKeyInfoRef::from_der(&spki)
            .map_err(|_| KeysError::Answer("not a public key"))?;
        let algorithm = spki.algorithm;
        if algorithm.oid == ED25519 {
            if content.len() > ED25519_LEN_BYTES_MAX {
                let max = ED25519_LEN_BYTES_MAX;
                return Err(KeysError::TooLong { max });
            }
            let bytes = self.call(label, command::SIGN, content)?;
            return Ok(Signature {
                algorithm: "Ed25519",
                bytes,
            });
        }
        let (name, digest) = match algorithm.parameters_oid() {
            Ok(P256) => ("ecdsa-with-SHA256", Sha256::digest(content).to_vec()),
            Ok(P384) => ("ecdsa-with-SHA384", Sha384::digest(content).to_vec()),
            _ => return Err(KeysError::Answer("a key of an unknown kind")),
        };
        let raw = self.call(label, command::SIGN, &digest)?;
        Ok(Signature {
            algorithm: name,
            bytes: ecdsa_to_der(&raw).map_err(|_| KeysError::Answer("not a signature"))?,
        })
    }

    /// The public key of `label`, a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn public_key(&self, label: &str) -> Result<Vec<u8>, KeysError> {
        self.call(label, command::GET_PUBLIC_KEY, &[])
    }

    /// Certificate and chain of `label` in PEM, leaf first.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn certificate(&self, label: &str) -> Result<String, KeysError> {
        String::from_utf8(self.call(label, command::GET_CERTIFICATE, &[])?)
            .ok()
            .filter(|pem| pem.starts_with("-----BEGIN CERTIFICATE-----"))
            .ok_or(KeysError::Answer("the certificate is not PEM"))
    }

    /// The labels of this caller, each with how far its key is.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn list(&self) -> Result<Vec<(String, KeyState)>, KeysError> {
        let mut operation = Operation::new([
            Parameter::None,
            Parameter::None,
            Parameter::memref_output(ROOM_LEN_BYTES),
            Parameter::None,
        ]);
        self.session.invoke(command::LIST, &mut operation)?;
        let rows = cbor::into_array(
            cbor::decode(operation.memref(2), 4)?,
            "labels",
            0,
            LABELS_MAX,
        )?;
        let row = |row| {
            let mut fields = cbor::into_array(row, "label", 2, 2)?.into_iter();
            let (Some(label), Some(state)) = (fields.next(), fields.next()) else {
                return Err(KeysError::Answer("not a label and its state"));
            };
            let state = KeyState::from_number(cbor::uint(&state, "state")?)
                .ok_or(KeysError::Answer("an unknown state"))?;
            Ok((cbor::into_text(label, "label", 64)?, state))
        };
        rows.into_iter().map(row).collect()
    }

    /// One command about a label: what it puts out.
    fn call(&self, label: &str, command: u32, input: &[u8]) -> Result<Vec<u8>, KeysError> {
        let mut operation = Operation::new([
            Parameter::memref_input(label),
            match input {
                [] => Parameter::None,
                input => Parameter::memref_input(input),
            },
            Parameter::memref_output(ROOM_LEN_BYTES),
            Parameter::None,
        ]);
        match self.session.invoke(command, &mut operation) {
            Ok(()) => Ok(operation.memref(2).to_vec()),
            Err(Error::Returned { code, .. }) if code == codes::TEEC_ERROR_ITEM_NOT_FOUND => {
                Err(KeysError::NoKey {
                    label: label.into(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }
}

const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// Room for a chain or a list of labels, in bytes.
const ROOM_LEN_BYTES: u32 = 64 * 1024;
/// Longest message for an Ed25519 key, in bytes: it goes into the TEE whole.
const ED25519_LEN_BYTES_MAX: usize = 256 * 1024;
/// Most labels of one caller that are read.
const LABELS_MAX: usize = 4096;
