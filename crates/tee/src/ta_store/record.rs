//! What is kept about an installed TA, and the floors under its versions.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use ciborium::Value;
use tegata_wire::ids::{Digest, ReleaseDigest, SignerId, TaUuid};

use super::Measurement;
use crate::storage::{StorageError, TaId, as_u64, decode_value, encode_value};

/// What is known about an installed TA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaRecord {
    /// Whose TA it is.
    pub id: TaId,
    /// Sequence number of its release.
    pub sequence_number: u64,
    /// SUIT digest of its release manifest.
    pub release: ReleaseDigest,
    /// SUIT digest of its personalization manifest, if it has one.
    pub config_manifest: Option<Digest>,
    /// SUIT digest of the root manifest that installed it.
    pub root_manifest: Digest,
    /// SHA-256 of its Wasm module: the measurement in evidence.
    pub module_digest: Digest,
    /// Length of its Wasm module in bytes.
    pub module_len_bytes: u64,
    /// Reference URI of its release manifest: it ends with the TA's name.
    pub reference_uri: String,
}

impl TaRecord {
    /// What evidence says about it.
    #[must_use]
    pub fn measurement(&self) -> Measurement {
        Measurement {
            uuid: self.id.uuid,
            release: self.release,
            module: self.module_digest,
            sequence_number: self.sequence_number,
        }
    }

    /// CBOR array of all fields in their order.
    pub(super) fn encode(&self) -> Result<Vec<u8>, StorageError> {
        let config = match &self.config_manifest {
            Some(digest) => Value::Bytes(digest.0.to_vec()),
            None => Value::Null,
        };
        encode_value(&Value::Array(alloc::vec![
            Value::Bytes(self.id.context()),
            Value::from(self.sequence_number),
            Value::Bytes(self.release.0.to_vec()),
            config,
            Value::Bytes(self.root_manifest.0.to_vec()),
            Value::Bytes(self.module_digest.0.to_vec()),
            Value::from(self.module_len_bytes),
            Value::Text(self.reference_uri.clone()),
        ]))
    }

    /// Reads what [`TaRecord::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let Value::Array(fields) = decode_value(bytes)? else {
            return None;
        };
        let [id, sequence_number, release, config, root, module, len, uri] = fields.as_slice()
        else {
            return None;
        };
        let config_manifest = match config {
            Value::Null => None,
            digest => Some(as_digest(digest)?),
        };
        Some(Self {
            id: id_from_context(id.as_bytes()?)?,
            sequence_number: as_u64(sequence_number)?,
            release: as_digest(release)?.into(),
            config_manifest,
            root_manifest: as_digest(root)?,
            module_digest: as_digest(module)?,
            module_len_bytes: as_u64(len)?,
            reference_uri: uri.as_text()?.to_string(),
        })
    }
}

/// The lowest versions that may still be installed; they only rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Sequence number of the highest release ever installed.
    pub release: u64,
    /// SUIT digest of that release: at its own number, no other release may stand.
    pub release_digest: ReleaseDigest,
    /// Sequence number of the highest root manifest of a TAM ever applied.
    pub dependent: u64,
}

impl Floor {
    pub(super) fn encode(&self) -> Result<Vec<u8>, StorageError> {
        encode_value(&Value::Array(alloc::vec![
            Value::from(self.release),
            Value::Bytes(self.release_digest.0.to_vec()),
            Value::from(self.dependent),
        ]))
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let Value::Array(fields) = decode_value(bytes)? else {
            return None;
        };
        let [release, digest, dependent] = fields.as_slice() else {
            return None;
        };
        Some(Self {
            release: as_u64(release)?,
            release_digest: as_digest(digest)?.into(),
            dependent: as_u64(dependent)?,
        })
    }
}

/// Reads [`TaId::context`] back.
pub(super) fn id_from_context(bytes: &[u8]) -> Option<TaId> {
    let (signer, uuid) = bytes.split_at_checked(SignerId::LEN)?;
    Some(TaId {
        signer: SignerId::from_slice(signer).ok()?,
        uuid: TaUuid::from_slice(uuid).ok()?,
    })
}

fn as_digest(value: &Value) -> Option<Digest> {
    Digest::from_slice(value.as_bytes()?).ok()
}
