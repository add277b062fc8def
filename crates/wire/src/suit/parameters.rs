//! Parameters: what commands work with.

use alloc::string::String;
use alloc::vec::Vec;

use super::{CBOR_LIMITS, MAX_SEQUENCE_LEN, MAX_URI_LEN, SuitDigest, SuitError};
use crate::cbor::{self, MapBuilder, MapReader, Value};
use crate::ids::{ClassId, DeviceUuid, VendorId};

/// Who made the device: a UUID or a Private Enterprise Number.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VendorIdentifier {
    /// UUIDv5 of the vendor's domain.
    Uuid(VendorId),
    /// Relative OID of a Private Enterprise Number (RFC 9090), 1 to 32 bytes.
    Pen(Vec<u8>),
}

const TAG_PEN: u64 = 112;

/// The parameters of one component, or those that one command sets; absent ones are not set.
///
/// Spec: draft-ietf-suit-manifest section 8.4.8
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parameters {
    /// Expected vendor (1).
    pub vendor_id: Option<VendorIdentifier>,
    /// Expected class of device (2).
    pub class_id: Option<ClassId>,
    /// Digest of the plaintext image (3).
    pub image_digest: Option<SuitDigest>,
    /// Slot of the component (5).
    pub component_slot: Option<u64>,
    /// Whether the commands that follow must run in order (12).
    pub strict_order: Option<bool>,
    /// Whether a failed condition only ends the current sequence (13).
    pub soft_failure: Option<bool>,
    /// Size of the plaintext image in bytes (14).
    pub image_size: Option<u64>,
    /// Content to write or to compare with (18); ciphertext where `encryption_info` is set.
    pub content: Option<Vec<u8>>,
    /// Encoded COSE_Encrypt that says how to decrypt the payload (19).
    pub encryption_info: Option<Vec<u8>>,
    /// Where the payload is (21).
    pub uri: Option<String>,
    /// Index of the component to copy from or swap with (22).
    pub source_component: Option<u64>,
    /// Arguments for invoke (23).
    pub invoke_args: Option<Vec<u8>>,
    /// Expected device (24).
    pub device_id: Option<DeviceUuid>,
    /// Arguments for fetch (25).
    pub fetch_args: Option<Vec<u8>>,
    /// Parameters that Tegata has no use for (update-management, custom), by label.
    pub other: Vec<(i64, Value)>,
}

impl Parameters {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Sets whatever `new` sets; the rest stays (suit-directive-override-parameters).
    pub fn override_with(&mut self, new: &Self) {
        self.merge(new, true);
    }

    /// Sets whatever `new` sets and is not yet set (suit-directive-set-parameters).
    pub fn set_if_absent(&mut self, new: &Self) {
        self.merge(new, false);
    }

    fn merge(&mut self, new: &Self, replace: bool) {
        fn one<T: Clone>(old: &mut Option<T>, new: &Option<T>, replace: bool) {
            if new.is_some() && (replace || old.is_none()) {
                old.clone_from(new);
            }
        }
        one(&mut self.vendor_id, &new.vendor_id, replace);
        one(&mut self.class_id, &new.class_id, replace);
        one(&mut self.image_digest, &new.image_digest, replace);
        one(&mut self.component_slot, &new.component_slot, replace);
        one(&mut self.strict_order, &new.strict_order, replace);
        one(&mut self.soft_failure, &new.soft_failure, replace);
        one(&mut self.image_size, &new.image_size, replace);
        one(&mut self.content, &new.content, replace);
        one(&mut self.encryption_info, &new.encryption_info, replace);
        one(&mut self.uri, &new.uri, replace);
        one(&mut self.source_component, &new.source_component, replace);
        one(&mut self.invoke_args, &new.invoke_args, replace);
        one(&mut self.device_id, &new.device_id, replace);
        one(&mut self.fetch_args, &new.fetch_args, replace);
        for (label, value) in &new.other {
            match self.other.iter_mut().find(|(old, _)| old == label) {
                Some(entry) if replace => entry.1 = value.clone(),
                Some(_) => {}
                None => self.other.push((*label, value.clone())),
            }
        }
    }

    /// Reads parameters from a tree.
    ///
    /// # Errors
    /// `SuitError::Cbor` if a known parameter has a wrong type or length.
    pub fn from_value(value: Value) -> Result<Self, SuitError> {
        Self::from_map(MapReader::new(value, "SUIT_Parameters")?)
    }

    pub(super) fn from_map(mut map: MapReader) -> Result<Self, SuitError> {
        let bytes = |value: Option<Value>, what| {
            value
                .map(|v| cbor::into_bytes_sized(v, what, 0, MAX_SEQUENCE_LEN))
                .transpose()
        };
        let uint = |value: Option<Value>, what| value.map(|v| cbor::uint(&v, what)).transpose();
        let boolean =
            |value: Option<Value>, what| value.map(|v| cbor::boolean(&v, what)).transpose();
        Ok(Self {
            vendor_id: map.take(1).map(vendor_from_value).transpose()?,
            class_id: map
                .take(2)
                .map(|v| cbor::into_byte_array(v, "suit-parameter-class-identifier").map(ClassId))
                .transpose()?,
            image_digest: map.take(3).map(digest_from_value).transpose()?,
            component_slot: uint(map.take(5), "suit-parameter-component-slot")?,
            strict_order: boolean(map.take(12), "suit-parameter-strict-order")?,
            soft_failure: boolean(map.take(13), "suit-parameter-soft-failure")?,
            image_size: uint(map.take(14), "suit-parameter-image-size")?,
            content: bytes(map.take(18), "suit-parameter-content")?,
            encryption_info: bytes(map.take(19), "suit-parameter-encryption-info")?,
            uri: map
                .take(21)
                .map(|v| cbor::into_text(v, "suit-parameter-uri", MAX_URI_LEN))
                .transpose()?,
            source_component: uint(map.take(22), "suit-parameter-source-component")?,
            invoke_args: bytes(map.take(23), "suit-parameter-invoke-args")?,
            device_id: map
                .take(24)
                .map(|v| {
                    cbor::into_byte_array(v, "suit-parameter-device-identifier").map(DeviceUuid)
                })
                .transpose()?,
            fetch_args: bytes(map.take(25), "suit-parameter-fetch-arguments")?,
            other: map
                .into_rest()
                .into_iter()
                .map(|(label, value)| Ok((cbor::int(&label, "parameter label")?, value)))
                .collect::<Result<_, SuitError>>()?,
        })
    }

    /// The parameters as a tree.
    ///
    /// # Errors
    /// `SuitError` if `other` repeats a label.
    pub fn to_value(&self) -> Result<Value, SuitError> {
        Ok(self.to_map()?.finish()?)
    }

    pub(super) fn to_map(&self) -> Result<MapBuilder, SuitError> {
        let bytes = |b: &Option<Vec<u8>>| b.clone().map(Value::Bytes);
        let digest = self
            .image_digest
            .as_ref()
            .map(SuitDigest::encode)
            .transpose()?;
        let map = MapBuilder::new()
            .put_opt(1, self.vendor_id.as_ref().map(vendor_to_value))
            .put_opt(2, self.class_id.map(|id| Value::Bytes(id.0.to_vec())))
            .put_opt(3, digest.map(Value::Bytes))
            .put_opt(5, self.component_slot)
            .put_opt(12, self.strict_order)
            .put_opt(13, self.soft_failure)
            .put_opt(14, self.image_size)
            .put_opt(18, bytes(&self.content))
            .put_opt(19, bytes(&self.encryption_info))
            .put_opt(21, self.uri.clone())
            .put_opt(22, self.source_component)
            .put_opt(23, bytes(&self.invoke_args))
            .put_opt(24, self.device_id.map(|id| Value::Bytes(id.0.to_vec())))
            .put_opt(25, bytes(&self.fetch_args))
            .extend(
                self.other
                    .iter()
                    .map(|(label, value)| ((*label).into(), value.clone())),
            );
        Ok(map)
    }
}

fn digest_from_value(value: Value) -> Result<SuitDigest, SuitError> {
    let bytes = cbor::into_bytes_sized(value, "suit-parameter-image-digest", 0, 128)?;
    SuitDigest::from_value(cbor::decode_limited(&bytes, CBOR_LIMITS)?)
}

fn vendor_from_value(value: Value) -> Result<VendorIdentifier, SuitError> {
    const WHAT: &str = "suit-parameter-vendor-identifier";
    match value {
        Value::Tag(TAG_PEN, inner) => Ok(VendorIdentifier::Pen(cbor::into_bytes_sized(
            *inner, WHAT, 1, 32,
        )?)),
        other => Ok(VendorIdentifier::Uuid(VendorId(cbor::into_byte_array(
            other, WHAT,
        )?))),
    }
}

fn vendor_to_value(vendor: &VendorIdentifier) -> Value {
    match vendor {
        VendorIdentifier::Uuid(id) => Value::Bytes(id.0.to_vec()),
        VendorIdentifier::Pen(pen) => cbor::tagged(TAG_PEN, Value::Bytes(pen.clone())),
    }
}
