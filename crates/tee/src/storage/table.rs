//! The table of a namespace: which objects exist, in which version, under which nonce.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use ciborium::Value;
use tegata_crypto::CryptoError;

use super::StorageError;

/// One object in the table.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Epoch of the change that wrote it; part of its name and of what authenticates it.
    pub version: u64,
    /// Nonce it was sealed under. It stands here and not in the blob, so that a blob of another
    /// attempt at the same change does not open.
    pub nonce: [u8; 12],
    /// Length of the data in bytes.
    pub data_len: usize,
    /// Length of the attributes in bytes.
    pub attributes_len: usize,
}

impl Entry {
    /// Bytes of the object.
    pub fn len(&self) -> usize {
        self.data_len.saturating_add(self.attributes_len)
    }
}

/// All objects of a namespace at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// Number of changes so far.
    pub epoch: u64,
    /// Objects by id.
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

impl Table {
    /// CBOR: [epoch, [[id, version, nonce, data_len, attributes_len], …]].
    pub fn encode(&self) -> Result<Vec<u8>, StorageError> {
        let mut list = Vec::with_capacity(self.entries.len());
        for (id, entry) in &self.entries {
            list.push(Value::Array(alloc::vec![
                Value::Bytes(id.clone()),
                Value::from(entry.version),
                Value::Bytes(entry.nonce.to_vec()),
                Value::from(as_number(entry.data_len)?),
                Value::from(as_number(entry.attributes_len)?),
            ]));
        }
        encode_value(&Value::Array(alloc::vec![
            Value::from(self.epoch),
            Value::Array(list)
        ]))
    }

    /// Reads what [`Table::encode`] wrote; `None` for anything else.
    pub fn decode(plain: &[u8]) -> Option<Self> {
        let Value::Array(fields) = decode_value(plain)? else {
            return None;
        };
        let [epoch, Value::Array(list)] = fields.as_slice() else {
            return None;
        };
        let mut entries = BTreeMap::new();
        for item in list {
            let Value::Array(fields) = item else {
                return None;
            };
            let [
                Value::Bytes(id),
                version,
                Value::Bytes(nonce),
                data_len,
                attributes_len,
            ] = fields.as_slice()
            else {
                return None;
            };
            let entry = Entry {
                version: as_u64(version)?,
                nonce: nonce.as_slice().try_into().ok()?,
                data_len: usize::try_from(as_u64(data_len)?).ok()?,
                attributes_len: usize::try_from(as_u64(attributes_len)?).ok()?,
            };
            entries.insert(id.clone(), entry);
        }
        Some(Self {
            epoch: as_u64(epoch)?,
            entries,
        })
    }
}

/// A CBOR unsigned integer.
pub(crate) fn as_u64(value: &Value) -> Option<u64> {
    value
        .as_integer()
        .and_then(|number| u64::try_from(number).ok())
}

/// CBOR of one value. The input is ours, so it always encodes.
pub(crate) fn encode_value(value: &Value) -> Result<Vec<u8>, StorageError> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).map_err(|_| UNREACHABLE)?;
    Ok(out)
}

/// One CBOR value that fills `bytes`; only ever called on bytes that were authenticated.
pub(crate) fn decode_value(mut bytes: &[u8]) -> Option<Value> {
    let value = ciborium::from_reader(&mut bytes).ok()?;
    bytes.is_empty().then_some(value)
}

fn as_number(len: usize) -> Result<u64, StorageError> {
    u64::try_from(len).map_err(|_| UNREACHABLE)
}

const UNREACHABLE: StorageError =
    StorageError::Crypto(CryptoError::Unreachable("table always encodes"));
