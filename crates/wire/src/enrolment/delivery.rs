//! What the TAM asks the CA for one device, and what the CA answers (default profile).
//!
//! Spec: docs/spec/delivery.md.

use super::{
    EnrolmentError, MAX_CONFIG_BYTES, MAX_ENCRYPTION_INFO_BYTES, MAX_ENVELOPE_BYTES, no_rest, ueid,
    version,
};
use crate::{
    cbor::{self, MapBuilder, MapReader, Value},
    ids::{ReleaseDigest, Ueid},
};
use alloc::vec::Vec;

/// Version written and read.
const VERSION: u64 = 1;

/// Payload of the TAM's COSE_Sign1: which release for which device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryRequest {
    /// The release.
    pub release_digest: ReleaseDigest,
    /// The device.
    pub ueid: Ueid,
    /// When the TAM asked, in seconds since 1970.
    pub issued_at_secs: u64,
}

impl DeliveryRequest {
    /// Encodes the request: the payload to sign.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>, EnrolmentError> {
        Ok(MapBuilder::new()
            .put(1, VERSION)
            .put(2, Value::Bytes(self.release_digest.as_bytes().to_vec()))
            .put(3, Value::Bytes(self.ueid.as_bytes().to_vec()))
            .put(4, self.issued_at_secs)
            .encode()?)
    }

    /// Decodes a request whose signature the caller verified.
    ///
    /// # Errors
    /// If the bytes are not a request of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        cbor::check_len(bytes.len(), "delivery request", 1, 256)?;
        let mut map = MapReader::new(cbor::decode(bytes, 2)?, "delivery request")?;
        version(&mut map, "delivery request", VERSION)?;
        let digest = cbor::into_byte_array(map.require(2, "release digest")?, "release digest")?;
        let ueid = ueid(map.require(3, "ueid")?)?;
        let issued_at_secs = cbor::uint(&map.require(4, "issued at")?, "issued at")?;
        no_rest(&map, "delivery request")?;
        Ok(Self {
            release_digest: ReleaseDigest(digest),
            ueid,
            issued_at_secs,
        })
    }
}

/// The CA's answer: everything in it is signed by the CA or encrypted to the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// COSE_Encrypt that gives the device the key of the TA's ciphertext.
    pub ta_encryption_info: Vec<u8>,
    /// Signed SUIT envelope of the personalization manifest.
    pub config_envelope: Vec<u8>,
    /// COSE_Encrypt that gives the device the key of the personalization data.
    pub config_encryption_info: Vec<u8>,
    /// The personalization data, encrypted.
    pub config_ciphertext: Vec<u8>,
}

impl Delivery {
    /// Encodes the answer.
    ///
    /// # Errors
    /// If a part exceeds its limit.
    pub fn encode(&self) -> Result<Vec<u8>, EnrolmentError> {
        let bytes = MapBuilder::new()
            .put(1, VERSION)
            .put(2, Value::Bytes(self.ta_encryption_info.clone()))
            .put(3, Value::Bytes(self.config_envelope.clone()))
            .put(4, Value::Bytes(self.config_encryption_info.clone()))
            .put(5, Value::Bytes(self.config_ciphertext.clone()))
            .encode()?;
        Self::decode(&bytes)?;
        Ok(bytes)
    }

    /// Decodes an answer.
    ///
    /// # Errors
    /// If the bytes are not an answer of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        let max = 2 * MAX_ENCRYPTION_INFO_BYTES + MAX_ENVELOPE_BYTES + MAX_CONFIG_BYTES + 64;
        cbor::check_len(bytes.len(), "delivery", 1, max)?;
        let mut map = MapReader::new(cbor::decode(bytes, 2)?, "delivery")?;
        version(&mut map, "delivery", VERSION)?;
        let mut part = |label, what, max| -> Result<Vec<u8>, EnrolmentError> {
            Ok(cbor::into_bytes_sized(
                map.require(label, what)?,
                what,
                1,
                max,
            )?)
        };
        let delivery = Self {
            ta_encryption_info: part(2, "TA encryption info", MAX_ENCRYPTION_INFO_BYTES)?,
            config_envelope: part(3, "config envelope", MAX_ENVELOPE_BYTES)?,
            config_encryption_info: part(4, "config encryption info", MAX_ENCRYPTION_INFO_BYTES)?,
            config_ciphertext: part(5, "config ciphertext", MAX_CONFIG_BYTES)?,
        };
        no_rest(&map, "delivery")?;
        Ok(delivery)
    }
}
