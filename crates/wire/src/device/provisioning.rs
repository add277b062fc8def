//! What a device with a hardware TEE and its factory tell each other: no secret in either way.
//!
//! Purpose: such a device makes its keys itself, from a root key that nobody reads. It reports the
//! public halves ([`DeviceReport`]); the factory answers with the device's identity and whom it is
//! to believe ([`DeviceRecord`]). [`super::DeviceFile`] is the same for a TEE without fuses.
//!
//! Not trusted: neither says who wrote it. Each comes in a COSE_Sign1; the crypto crate's
//! `provisioning` verifies it.
//!
//! Spec: docs/spec/device-record.md.

use alloc::string::String;
use alloc::vec::Vec;

use super::{
    DeviceFileError, DeviceIdentity, Fields, blob_list, blobs, entry, identity, identity_value,
    text,
};
use crate::cbor::{self, Value};
use crate::ids::Ueid;

/// Longest signed [`DeviceReport`] in bytes: three keys and a few names take less than half.
pub const REPORT_LEN_BYTES_MAX: usize = 4096;

/// Longest signed [`DeviceRecord`] in bytes: a dozen keys and an identity take less than a half.
/// Kept small because a TEE holds it in its own memory.
pub const RECORD_LEN_BYTES_MAX: usize = 16 * 1024;

/// Longest COSE_Key in a report, in bytes.
const KEY_LEN_BYTES_MAX: usize = 512;

/// What a device says of itself at the factory.
///
/// A CBOR map: `1` ueid, `2` attestation key, `3` TEEP key, `4` delivery key (a COSE_Key in a byte
/// string each), `5` version of the TEE (text).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    /// The device, by the id that its TEE derives from its root key.
    pub ueid: Ueid,
    /// COSE_Key that signs its evidence, and this report.
    pub attestation_key: Vec<u8>,
    /// COSE_Key that signs its TEEP messages.
    pub teep_key: Vec<u8>,
    /// COSE_Key (P-256, ECDH) that deliveries are encrypted to.
    pub delivery_key: Vec<u8>,
    /// Version of the TEE, 1 to 64 characters.
    pub tee_version: String,
}

/// What the factory tells a device: who it is, and whom to believe.
///
/// A CBOR map with the labels of `device.cbor`, without the root key: `1` format (1), `3`
/// identity, `4` release keys, `5` TAM keys, `6` URI of the TAM (optional); and `7` the time at
/// which it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Who the device is.
    pub identity: DeviceIdentity,
    /// Keys that may sign TA releases, each an encoded COSE_Key.
    pub release_keys: Vec<Vec<u8>>,
    /// Keys that may sign TEEP messages and device manifests, each an encoded COSE_Key.
    pub tam_keys: Vec<Vec<u8>>,
    /// The TAM that the device contacts unless a broker knows better.
    pub tam_uri: Option<String>,
    /// When the factory made it, in seconds since 1970: a device takes none that is older than one
    /// it has taken.
    pub made_at_secs: u64,
}

impl DeviceReport {
    /// The report's bytes: what is signed.
    ///
    /// # Errors
    /// [`DeviceFileError`] if a field is outside its limits: nothing that [`Self::decode`] would
    /// refuse is ever written.
    pub fn encode(&self) -> Result<Vec<u8>, DeviceFileError> {
        let bytes = cbor::encode(&Value::Map(alloc::vec![
            entry(1, Value::Bytes(self.ueid.as_bytes().to_vec())),
            entry(2, Value::Bytes(self.attestation_key.clone())),
            entry(3, Value::Bytes(self.teep_key.clone())),
            entry(4, Value::Bytes(self.delivery_key.clone())),
            entry(5, Value::Text(self.tee_version.clone())),
        ]))?;
        Self::decode(&bytes)?;
        Ok(bytes)
    }

    /// Reads a report's bytes.
    ///
    /// # Errors
    /// [`DeviceFileError`] if they are not a whole and well-formed report.
    pub fn decode(bytes: &[u8]) -> Result<Self, DeviceFileError> {
        cbor::check_len(bytes.len(), "device report", 1, REPORT_LEN_BYTES_MAX)?;
        let mut fields = Fields::new(cbor::decode(bytes, 4)?, "device report")?;
        let ueid = super::ueid(fields.need(1, "ueid")?)?;
        let mut key = |label, what| {
            let value = fields.need(label, what)?;
            cbor::into_bytes_sized(value, what, 1, KEY_LEN_BYTES_MAX)
        };
        let attestation_key = key(2, "attestation key")?;
        let teep_key = key(3, "TEEP key")?;
        let delivery_key = key(4, "delivery key")?;
        let tee_version = text(fields.need(5, "TEE version")?, "TEE version", 1, 64)?;
        fields.end()?;
        Ok(Self {
            ueid,
            attestation_key,
            teep_key,
            delivery_key,
            tee_version,
        })
    }
}

impl DeviceRecord {
    /// The record's bytes: what is signed.
    ///
    /// # Errors
    /// [`DeviceFileError`] if a field is outside its limits: nothing that [`Self::decode`] would
    /// refuse is ever written.
    pub fn encode(&self) -> Result<Vec<u8>, DeviceFileError> {
        let mut record = alloc::vec![
            entry(1, Value::from(1u64)),
            entry(3, identity_value(&self.identity)),
            entry(4, blob_list(&self.release_keys)),
            entry(5, blob_list(&self.tam_keys)),
        ];
        if let Some(uri) = &self.tam_uri {
            record.push(entry(6, Value::Text(uri.clone())));
        }
        record.push(entry(7, Value::from(self.made_at_secs)));
        let bytes = cbor::encode(&Value::Map(record))?;
        Self::decode(&bytes)?;
        Ok(bytes)
    }

    /// Reads a record's bytes.
    ///
    /// # Errors
    /// [`DeviceFileError`] if they are not a whole and well-formed record.
    pub fn decode(bytes: &[u8]) -> Result<Self, DeviceFileError> {
        cbor::check_len(bytes.len(), "device record", 1, RECORD_LEN_BYTES_MAX)?;
        let mut fields = Fields::new(cbor::decode(bytes, 8)?, "device record")?;
        let format = cbor::uint(&fields.need(1, "format")?, "format")?;
        if format != 1 {
            return Err(DeviceFileError::Format { got: format });
        }
        let identity = identity(fields.need(3, "identity")?)?;
        let release_keys = blobs(fields.need(4, "release keys")?, "release keys")?;
        let tam_keys = blobs(fields.need(5, "TAM keys")?, "TAM keys")?;
        let tam_uri = fields
            .take(6)
            .map(|uri| cbor::into_text(uri, "TAM URI", crate::rpc::URI_LEN_MAX))
            .transpose()?;
        let made_at_secs = cbor::uint(&fields.need(7, "time")?, "time")?;
        fields.end()?;
        Ok(Self {
            identity,
            release_keys,
            tam_keys,
            tam_uri,
            made_at_secs,
        })
    }
}
