//! What is kept about an installed TA, and the floors under its versions.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use ciborium::Value;
use tegata_wire::ids::{Digest, ReleaseDigest, SignerId, TaUuid};

use super::{MAX_APPLIED_TOKENS, Measurement};
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

/// Tokens of the messages a TA was installed and removed by: a message again is a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Of installations, oldest first; at most [`MAX_APPLIED_TOKENS`].
    installations: Vec<Vec<u8>>,
    /// Of removals, oldest first; at most [`MAX_APPLIED_TOKENS`].
    removals: Vec<Vec<u8>>,
}

impl Applied {
    /// Whether the message with that token installed the TA before.
    #[must_use]
    pub fn installed_by(&self, token: &[u8]) -> bool {
        self.installations.iter().any(|known| known == token)
    }

    /// Whether the message with that token removed the TA before.
    #[must_use]
    pub fn removed_by(&self, token: &[u8]) -> bool {
        self.removals.iter().any(|known| known == token)
    }

    pub(super) fn add_installation(&mut self, token: &[u8]) {
        remember(&mut self.installations, token);
    }

    pub(super) fn add_removal(&mut self, token: &[u8]) {
        remember(&mut self.removals, token);
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, StorageError> {
        let list =
            |tokens: &[Vec<u8>]| Value::Array(tokens.iter().cloned().map(Value::Bytes).collect());
        encode_value(&Value::Array(alloc::vec![
            list(&self.installations),
            list(&self.removals),
        ]))
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let Value::Array(lists) = decode_value(bytes)? else {
            return None;
        };
        let [installations, removals] = lists.as_slice() else {
            return None;
        };
        let read = |list: &Value| -> Option<Vec<Vec<u8>>> {
            let tokens = list.as_array()?.iter();
            tokens.map(|token| token.as_bytes().cloned()).collect()
        };
        Some(Self {
            installations: read(installations)?,
            removals: read(removals)?,
        })
    }
}

/// A token that is there already keeps its place.
fn remember(tokens: &mut Vec<Vec<u8>>, token: &[u8]) {
    if tokens.iter().any(|known| known == token) {
        return;
    }
    tokens.push(token.to_vec());
    let surplus = tokens.len().saturating_sub(MAX_APPLIED_TOKENS);
    tokens.drain(..surplus);
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
