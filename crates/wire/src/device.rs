//! `device.cbor`: what the factory writes into a device of the software backend.
//!
//! Purpose: the factory station writes this file and `teed` reads it; neither needs the other's
//! code. It stands for what a real chip holds in fuses: the root key, the identity, and whom the
//! device believes.
//!
//! Layout, a CBOR map with integer keys:
//! `1` format (1), `2` TeeKey (32 bytes), `3` identity (map), `4` release keys (COSE_Key each),
//! `5` TAM keys (COSE_Key each), `6` URI of the TAM (text, optional). The identity map: `1` ueid,
//! `2` serial, `3` oemid (number or bytes), `4` hwmodel (bytes), `5` hwversion, `6` imei
//! (optional), `7` mac (6 bytes, optional), `8` vendor ids (16 bytes each), `9` class ids.
//!
//! Trusted: who can read this file *is* the device; who can write it chooses whom it obeys.
//! The file must have mode 0600 and belong to the TEE alone.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::cbor::{self, CborError, Value};
use crate::ids::Ueid;

mod provisioning;

pub use provisioning::{DeviceRecord, DeviceReport, RECORD_LEN_BYTES_MAX, REPORT_LEN_BYTES_MAX};

/// Longest `device.cbor` in bytes: a dozen keys and an identity take less than a quarter of it.
pub const LEN_BYTES_MAX: usize = 64 * 1024;

/// Most keys of one kind.
pub const ANCHORS_MAX: usize = 16;

/// The whole file.
pub struct DeviceFile {
    /// The device's root key, 32 bytes.
    pub tee_key: Zeroizing<[u8; 32]>,
    /// Who the device is.
    pub identity: DeviceIdentity,
    /// Keys that may sign TA releases, each an encoded COSE_Key.
    pub release_keys: Vec<Vec<u8>>,
    /// Keys that may sign TEEP messages and device manifests, each an encoded COSE_Key.
    pub tam_keys: Vec<Vec<u8>>,
    /// The TAM that the device contacts unless a broker knows better.
    pub tam_uri: Option<String>,
}

/// The root key is not printed.
impl fmt::Debug for DeviceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceFile")
            .field("identity", &self.identity)
            .field("release_keys", &self.release_keys.len())
            .field("tam_keys", &self.tam_keys.len())
            .finish_non_exhaustive()
    }
}

/// Who a device is; written once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// Universal entity id. Spec: RFC 9711 section 4.2.1.
    pub ueid: Ueid,
    /// Serial number of the maker, 1 to 64 characters.
    pub serial: String,
    /// Maker of the hardware. Spec: RFC 9711 section 4.2.3.
    pub oemid: Oem,
    /// Model, 1 to 32 bytes. Spec: RFC 9711 section 4.2.4.
    pub hwmodel: Vec<u8>,
    /// Version of the hardware, up to 32 characters. Spec: RFC 9711 section 4.2.5.
    pub hwversion: String,
    /// IMEI, 15 digits.
    pub imei: Option<String>,
    /// MAC address.
    pub mac: Option<[u8; 6]>,
    /// SUIT vendor ids this device answers to.
    pub vendor_ids: Vec<[u8; 16]>,
    /// SUIT class ids this device answers to.
    pub class_ids: Vec<[u8; 16]>,
}

/// Maker of the hardware. Spec: RFC 9711 section 4.2.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oem {
    /// IANA private enterprise number.
    Pen(u64),
    /// IEEE OUI or MA-L (3 bytes) or a random number (16 bytes).
    Bytes(Vec<u8>),
}

/// Why bytes are not a `device.cbor`, a report or a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceFileError {
    /// Not the CBOR of this format.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// A format of another version.
    #[error("format {got} is not known, expected 1")]
    Format {
        /// The format number found.
        got: u64,
    },
    /// The UEID is not one.
    #[error("the UEID is not well-formed")]
    Ueid,
    /// An IMEI is not 15 digits.
    #[error("the IMEI is not 15 digits")]
    Imei,
}

impl DeviceFile {
    /// The file's bytes. They hold the root key.
    ///
    /// # Errors
    /// [`DeviceFileError`] if a field is outside its limits: nothing that [`Self::decode`] would
    /// refuse is ever written.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, DeviceFileError> {
        let mut file = alloc::vec![
            entry(1, Value::from(1u64)),
            entry(2, Value::Bytes(self.tee_key.to_vec())),
            entry(3, identity_value(&self.identity)),
            entry(4, blob_list(&self.release_keys)),
            entry(5, blob_list(&self.tam_keys)),
        ];
        if let Some(uri) = &self.tam_uri {
            file.push(entry(6, Value::Text(uri.clone())));
        }
        let mut tree = Value::Map(file);
        let bytes = cbor::encode(&tree).map(Zeroizing::new);
        wipe(&mut tree);
        let bytes = bytes?;
        Self::decode(&bytes)?;
        Ok(bytes)
    }

    /// Reads the file's bytes.
    ///
    /// # Errors
    /// [`DeviceFileError`] if they are not a whole and well-formed `device.cbor`.
    pub fn decode(bytes: &[u8]) -> Result<Self, DeviceFileError> {
        cbor::check_len(bytes.len(), "device.cbor", 1, LEN_BYTES_MAX)?;
        let mut fields = Fields::new(cbor::decode(bytes, 8)?, "device.cbor")?;
        let format = cbor::uint(&fields.need(1, "format")?, "format")?;
        if format != 1 {
            return Err(DeviceFileError::Format { got: format });
        }
        let mut key = fields.need(2, "TeeKey")?;
        let tee_key = key_bytes(&key);
        wipe(&mut key);
        let tee_key = tee_key?;
        let identity = identity(fields.need(3, "identity")?)?;
        let release_keys = blobs(fields.need(4, "release keys")?, "release keys")?;
        let tam_keys = blobs(fields.need(5, "TAM keys")?, "TAM keys")?;
        let tam_uri = fields
            .take(6)
            .map(|uri| cbor::into_text(uri, "TAM URI", crate::rpc::URI_LEN_MAX))
            .transpose()?;
        fields.end()?;
        Ok(Self {
            tee_key,
            identity,
            release_keys,
            tam_keys,
            tam_uri,
        })
    }
}

/// The identity map.
fn identity_value(id: &DeviceIdentity) -> Value {
    let ids =
        |list: &[[u8; 16]]| Value::Array(list.iter().map(|k| Value::Bytes(k.to_vec())).collect());
    let mut identity = alloc::vec![
        entry(1, Value::Bytes(id.ueid.as_bytes().to_vec())),
        entry(2, Value::Text(id.serial.clone())),
        entry(
            3,
            match &id.oemid {
                Oem::Pen(pen) => Value::from(*pen),
                Oem::Bytes(bytes) => Value::Bytes(bytes.clone()),
            },
        ),
        entry(4, Value::Bytes(id.hwmodel.clone())),
        entry(5, Value::Text(id.hwversion.clone())),
    ];
    if let Some(imei) = &id.imei {
        identity.push(entry(6, Value::Text(imei.clone())));
    }
    if let Some(mac) = &id.mac {
        identity.push(entry(7, Value::Bytes(mac.to_vec())));
    }
    identity.push(entry(8, ids(&id.vendor_ids)));
    identity.push(entry(9, ids(&id.class_ids)));
    Value::Map(identity)
}

fn blob_list(list: &[Vec<u8>]) -> Value {
    Value::Array(list.iter().map(|k| Value::Bytes(k.clone())).collect())
}

fn ueid(value: Value) -> Result<Ueid, DeviceFileError> {
    let bytes = cbor::into_bytes_sized(value, "ueid", Ueid::MIN_LEN, Ueid::MAX_LEN)?;
    Ueid::from_slice(&bytes).map_err(|_| DeviceFileError::Ueid)
}

fn identity(value: Value) -> Result<DeviceIdentity, DeviceFileError> {
    let mut fields = Fields::new(value, "identity")?;
    let ueid = ueid(fields.need(1, "ueid")?)?;
    let serial = text(fields.need(2, "serial")?, "serial", 1, 64)?;
    let oemid = match fields.need(3, "oemid")? {
        Value::Bytes(bytes) => {
            cbor::check_len(bytes.len(), "oemid", 3, 16)?;
            Oem::Bytes(bytes)
        }
        number => Oem::Pen(cbor::uint(&number, "oemid")?),
    };
    let hwmodel = cbor::into_bytes_sized(fields.need(4, "hwmodel")?, "hwmodel", 1, 32)?;
    let hwversion = text(fields.need(5, "hwversion")?, "hwversion", 0, 32)?;
    let imei = fields
        .take(6)
        .map(|v| text(v, "imei", 15, 15))
        .transpose()?;
    if imei
        .as_ref()
        .is_some_and(|imei| !imei.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(DeviceFileError::Imei);
    }
    let mac = fields
        .take(7)
        .map(|v| cbor::into_byte_array(v, "mac"))
        .transpose()?;
    let vendor_ids = uuids(fields.need(8, "vendor ids")?, "vendor ids")?;
    let class_ids = uuids(fields.need(9, "class ids")?, "class ids")?;
    fields.end()?;
    Ok(DeviceIdentity {
        ueid,
        serial,
        oemid,
        hwmodel,
        hwversion,
        imei,
        mac,
        vendor_ids,
        class_ids,
    })
}

fn entry(key: u64, value: Value) -> (Value, Value) {
    (Value::from(key), value)
}

fn text(value: Value, what: &'static str, min: usize, max: usize) -> Result<String, CborError> {
    let text = cbor::into_text(value, what, max)?;
    cbor::check_len(text.len(), what, min, max)?;
    Ok(text)
}

fn blobs(value: Value, what: &'static str) -> Result<Vec<Vec<u8>>, CborError> {
    cbor::into_array(value, what, 0, ANCHORS_MAX)?
        .into_iter()
        .map(|key| cbor::into_bytes_sized(key, what, 1, 4096))
        .collect()
}

fn uuids(value: Value, what: &'static str) -> Result<Vec<[u8; 16]>, CborError> {
    cbor::into_array(value, what, 0, ANCHORS_MAX)?
        .into_iter()
        .map(|id| cbor::into_byte_array(id, what))
        .collect()
}

fn key_bytes(value: &Value) -> Result<Zeroizing<[u8; 32]>, CborError> {
    let wrong = CborError::Type {
        what: "TeeKey",
        expected: "a byte string of 32 bytes",
    };
    let Value::Bytes(bytes) = value else {
        return Err(wrong);
    };
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return Err(wrong);
    }
    key.copy_from_slice(bytes);
    Ok(key)
}

/// Wipes every byte string of a tree.
fn wipe(value: &mut Value) {
    match value {
        Value::Bytes(bytes) => bytes.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, inner)| wipe(inner)),
        _ => {}
    }
}

/// The entries of a map, taken one by one; what is left over is refused.
struct Fields {
    entries: Vec<(Value, Value)>,
    what: &'static str,
}

impl Fields {
    fn new(value: Value, what: &'static str) -> Result<Self, CborError> {
        let wrong = CborError::Type {
            what,
            expected: "a map",
        };
        value
            .into_map()
            .map(|entries| Self { entries, what })
            .map_err(|_| wrong)
    }

    fn take(&mut self, key: u64) -> Option<Value> {
        let at = self
            .entries
            .iter()
            .position(|(k, _)| *k == Value::from(key))?;
        Some(self.entries.swap_remove(at).1)
    }

    fn need(&mut self, key: u64, what: &'static str) -> Result<Value, CborError> {
        self.take(key).ok_or(CborError::Missing { what })
    }

    fn end(self) -> Result<(), CborError> {
        if self.entries.is_empty() {
            return Ok(());
        }
        Err(CborError::Type {
            what: self.what,
            expected: "a map of known keys",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    fn file() -> DeviceFile {
        DeviceFile {
            tee_key: Zeroizing::new([0x5a; 32]),
            identity: DeviceIdentity {
                ueid: Ueid::from_random([3; 16]),
                serial: "SN-0001".into(),
                oemid: Oem::Pen(32473),
                hwmodel: b"gateway".to_vec(),
                hwversion: "1.0".into(),
                imei: Some("490154203237518".into()),
                mac: Some([2, 0, 0, 0, 0, 1]),
                vendor_ids: vec![[1; 16]],
                class_ids: vec![[2; 16], [3; 16]],
            },
            release_keys: vec![vec![0xa1, 1, 2]],
            tam_keys: vec![vec![0xa1, 1, 2], vec![0xa0]],
            tam_uri: Some("http://127.0.0.1:1/tam".into()),
        }
    }

    #[test]
    fn a_file_survives_and_every_cut_is_refused() {
        let bytes = file().encode().unwrap();
        let read = DeviceFile::decode(&bytes).unwrap();
        assert_eq!(read.identity, file().identity);
        assert_eq!(read.tee_key.as_slice(), &[0x5a; 32]);
        assert_eq!(read.tam_keys, file().tam_keys);
        assert_eq!(read.tam_uri, file().tam_uri);
        for cut in 0..bytes.len() {
            assert!(DeviceFile::decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn what_could_not_be_read_is_not_written() {
        let mut bad = file();
        bad.identity.imei = Some("12".into());
        assert!(bad.encode().is_err());
        let mut bad = file();
        bad.identity.serial = String::new();
        assert!(bad.encode().is_err());
        let mut bad = file();
        bad.identity.imei = Some("49015420323751x".into());
        assert_eq!(bad.encode().unwrap_err(), DeviceFileError::Imei);
    }

    #[test]
    fn unknown_keys_and_formats_are_refused() {
        let bytes = file().encode().unwrap();
        let Value::Map(mut entries) = cbor::decode(&bytes, 8).unwrap() else {
            panic!()
        };
        entries.push((Value::from(77u64), Value::Null));
        let more = cbor::encode(&Value::Map(entries.clone())).unwrap();
        assert!(DeviceFile::decode(&more).is_err());
        entries.pop();
        entries[0].1 = Value::from(2u64);
        let other = cbor::encode(&Value::Map(entries)).unwrap();
        assert_eq!(
            DeviceFile::decode(&other).unwrap_err(),
            DeviceFileError::Format { got: 2 }
        );
    }

    #[test]
    fn the_root_key_is_not_printed() {
        let text = std::format!("{:?}", file());
        assert!(!text.contains("90, 90") && !text.contains("5a5a"));
    }
}
