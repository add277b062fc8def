//! The factory's word about the devices it made.
//!
//! Spec: docs/spec/factory-manifest.md.

use super::{
    EnrolmentError, MAX_COSE_KEY_BYTES, no_rest,
    personalization::{secret, wipe},
    text, ueid, version,
};
use crate::{
    cbor::{self, CborError, Limits, MapBuilder, MapReader, Value},
    device::{DeviceIdentity, Oem},
    ids::Ueid,
};
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use zeroize::Zeroizing;

/// Most devices in one manifest. A larger batch is split: it must be decodable in memory.
pub const MAX_FACTORY_DEVICES: usize = 20_000;
/// Largest manifest, in bytes: 20,000 devices of 600 bytes, and room.
const MAX_MANIFEST_BYTES: usize = 16 * 1024 * 1024;
/// Version written and read.
const VERSION: u64 = 1;

/// One device as its factory endorses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEndorsement {
    /// Who it is.
    pub identity: DeviceIdentity,
    /// COSE_Key that signs its evidence.
    pub attestation_key: Vec<u8>,
    /// COSE_Key that signs its TEEP messages.
    pub teep_key: Vec<u8>,
    /// COSE_Key (P-256, ECDH) that deliveries are encrypted to.
    pub delivery_key: Vec<u8>,
    /// What kind of wall stands around its TEE, as evidence says it (`software`, `optee`).
    pub security_level: String,
}

/// Payload of the factory's COSE_Sign1: one batch of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactoryManifest {
    /// Name of the batch.
    pub batch: String,
    /// Name of the maker.
    pub maker: String,
    /// When the batch was made, in seconds since 1970.
    pub made_at_secs: u64,
    /// The devices; no UEID occurs twice.
    pub devices: Vec<DeviceEndorsement>,
}

impl DeviceEndorsement {
    /// The map of one device.
    fn to_value(&self) -> Result<Value, EnrolmentError> {
        let id = &self.identity;
        let uuids = |list: &[[u8; 16]]| {
            Value::Array(list.iter().map(|u| Value::Bytes(u.to_vec())).collect())
        };
        let oemid = match &id.oemid {
            Oem::Pen(pen) => Value::from(*pen),
            Oem::Bytes(bytes) => Value::Bytes(bytes.clone()),
        };
        Ok(MapBuilder::new()
            .put(1, Value::Bytes(id.ueid.as_bytes().to_vec()))
            .put(2, id.serial.as_str())
            .put(3, oemid)
            .put(4, Value::Bytes(id.hwmodel.clone()))
            .put(5, id.hwversion.as_str())
            .put_opt(6, id.imei.as_deref())
            .put_opt(7, id.mac.map(|m| Value::Bytes(m.to_vec())))
            .put(8, uuids(&id.vendor_ids))
            .put(9, uuids(&id.class_ids))
            .put(10, Value::Bytes(self.attestation_key.clone()))
            .put(11, Value::Bytes(self.teep_key.clone()))
            .put(12, Value::Bytes(self.delivery_key.clone()))
            .put(13, self.security_level.as_str())
            .finish()?)
    }

    /// One device from its map.
    fn from_value(value: Value) -> Result<Self, EnrolmentError> {
        let mut map = MapReader::new(value, "device")?;
        let key = |value: Value, what| cbor::into_bytes_sized(value, what, 1, MAX_COSE_KEY_BYTES);
        let ueid = ueid(map.require(1, "ueid")?)?;
        let serial = text(map.require(2, "serial")?, "serial", 1, 64)?;
        let oemid = match map.require(3, "oemid")? {
            Value::Bytes(bytes) if matches!(bytes.len(), 3 | 16) => Oem::Bytes(bytes),
            Value::Bytes(_) => return Err(CborError::Range { what: "oemid" }.into()),
            number => Oem::Pen(cbor::uint(&number, "oemid")?),
        };
        let hwmodel = cbor::into_bytes_sized(map.require(4, "hwmodel")?, "hwmodel", 1, 32)?;
        let hwversion = text(map.require(5, "hwversion")?, "hwversion", 0, 32)?;
        let imei = map.take(6).map(|v| text(v, "imei", 15, 15)).transpose()?;
        if imei
            .as_ref()
            .is_some_and(|i| !i.bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(CborError::Range { what: "imei" }.into());
        }
        let mac = map
            .take(7)
            .map(|v| cbor::into_byte_array(v, "mac"))
            .transpose()?;
        let vendor_ids = uuids(map.require(8, "vendor ids")?, "vendor ids")?;
        let class_ids = uuids(map.require(9, "class ids")?, "class ids")?;
        let attestation_key = key(map.require(10, "attestation key")?, "attestation key")?;
        let teep_key = key(map.require(11, "teep key")?, "teep key")?;
        let delivery_key = key(map.require(12, "delivery key")?, "delivery key")?;
        let security_level = text(map.require(13, "security level")?, "security level", 1, 32)?;
        no_rest(&map, "device")?;
        let identity = DeviceIdentity {
            ueid,
            serial,
            oemid,
            hwmodel,
            hwversion,
            imei,
            mac,
            vendor_ids,
            class_ids,
        };
        Ok(Self {
            identity,
            attestation_key,
            teep_key,
            delivery_key,
            security_level,
        })
    }
}

/// An array of UUIDs.
fn uuids(value: Value, what: &'static str) -> Result<Vec<[u8; 16]>, EnrolmentError> {
    let items = cbor::into_array(value, what, 0, crate::device::ANCHORS_MAX)?;
    Ok(items
        .into_iter()
        .map(|v| cbor::into_byte_array(v, what))
        .collect::<Result<_, _>>()?)
}

impl FactoryManifest {
    /// Encodes the manifest: the payload to sign.
    ///
    /// # Errors
    /// If a field is outside its limits or a UEID occurs twice: nothing that [`Self::decode`]
    /// would refuse is ever written.
    pub fn encode(&self) -> Result<Vec<u8>, EnrolmentError> {
        cbor::check_len(self.devices.len(), "devices", 0, MAX_FACTORY_DEVICES)?;
        let devices = self
            .devices
            .iter()
            .map(DeviceEndorsement::to_value)
            .collect::<Result<Vec<_>, _>>()?;
        let bytes = MapBuilder::new()
            .put(1, VERSION)
            .put(2, self.batch.as_str())
            .put(3, self.maker.as_str())
            .put(4, self.made_at_secs)
            .put(5, Value::Array(devices))
            .encode()?;
        Self::decode(&bytes)?;
        Ok(bytes)
    }

    /// Decodes a manifest whose signature the caller verified.
    ///
    /// # Errors
    /// If the bytes are not a manifest of this version, or a UEID occurs twice.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        cbor::check_len(bytes.len(), "factory manifest", 1, MAX_MANIFEST_BYTES)?;
        let tree = cbor::decode_limited(
            bytes,
            Limits {
                depth: 5,
                ..Limits::BATCH
            },
        )?;
        let mut map = MapReader::new(tree, "factory manifest")?;
        version(&mut map, "factory manifest", VERSION)?;
        let batch = text(map.require(2, "batch")?, "batch", 1, 128)?;
        let maker = text(map.require(3, "maker")?, "maker", 1, 128)?;
        let made_at_secs = cbor::uint(&map.require(4, "made at")?, "made at")?;
        let items = cbor::into_array(
            map.require(5, "devices")?,
            "devices",
            0,
            MAX_FACTORY_DEVICES,
        )?;
        no_rest(&map, "factory manifest")?;
        let devices = items
            .into_iter()
            .map(DeviceEndorsement::from_value)
            .collect::<Result<Vec<_>, _>>()?;
        let mut seen: Vec<&Ueid> = devices.iter().map(|d| &d.identity.ueid).collect();
        seen.sort_unstable();
        if seen.iter().zip(seen.iter().skip(1)).any(|(a, b)| a == b) {
            return Err(EnrolmentError::Inconsistent("a device occurs twice"));
        }
        Ok(Self {
            batch,
            maker,
            made_at_secs,
            devices,
        })
    }
}

/// The delivery key-encryption keys of the paper profile, by device. Secret file of the TAM.
///
/// Wiped when dropped, not printable.
#[derive(Default)]
pub struct DeliveryKeks {
    /// Key-encryption keys of 16 bytes for A128KW.
    keks: BTreeMap<Ueid, Zeroizing<[u8; 16]>>,
}

impl DeliveryKeks {
    /// No key.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces the key of a device.
    pub fn insert(&mut self, ueid: Ueid, kek: &[u8; 16]) {
        self.keks.insert(ueid, Zeroizing::new(*kek));
    }

    /// The key of a device.
    #[must_use]
    pub fn expose(&self, ueid: &Ueid) -> Option<&[u8; 16]> {
        self.keks.get(ueid).map(|k| &**k)
    }

    /// Every device with its key, in the order of the UEIDs.
    pub fn expose_all(&self) -> impl Iterator<Item = (&Ueid, &[u8; 16])> {
        self.keks.iter().map(|(u, k)| (u, &**k))
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keks.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keks.is_empty()
    }

    /// Encodes the keys; the result is secret.
    ///
    /// # Errors
    /// If there are over [`MAX_FACTORY_DEVICES`].
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, EnrolmentError> {
        cbor::check_len(self.keks.len(), "keys", 0, MAX_FACTORY_DEVICES)?;
        let mut keks = MapBuilder::new();
        for (ueid, kek) in &self.keks {
            keks = keks.put(
                Value::Bytes(ueid.as_bytes().to_vec()),
                Value::Bytes(kek.to_vec()),
            );
        }
        let mut value = MapBuilder::new()
            .put(1, VERSION)
            .put(2, keks.finish()?)
            .finish()?;
        let bytes = cbor::encode(&value).map(Zeroizing::new);
        wipe(&mut value);
        Ok(bytes?)
    }

    /// Decodes the keys.
    ///
    /// # Errors
    /// If the bytes are not this object.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        cbor::check_len(bytes.len(), "delivery keys", 1, MAX_MANIFEST_BYTES)?;
        let tree = cbor::decode_limited(
            bytes,
            Limits {
                depth: 3,
                ..Limits::BATCH
            },
        )?;
        let mut map = MapReader::new(tree, "delivery keys")?;
        version(&mut map, "delivery keys", VERSION)?;
        let entries = MapReader::new(map.require(2, "keys")?, "keys")?.into_rest();
        no_rest(&map, "delivery keys")?;
        cbor::check_len(entries.len(), "keys", 0, MAX_FACTORY_DEVICES)?;
        let mut keks = BTreeMap::new();
        for (key, value) in entries {
            keks.insert(ueid(key)?, secret(value, "delivery key")?);
        }
        Ok(Self { keks })
    }
}
