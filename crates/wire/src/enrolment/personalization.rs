//! Personalization data: the secret that makes one device's enrolment TA believable to the CA.
//!
//! Spec: docs/spec/personalization.md.

use super::{EnrolmentError, MAX_CONFIG_BYTES, no_rest};
use crate::{
    cbor::{self, CborError, MapBuilder, MapReader, Value},
    ids::{ReleaseDigest, Ueid},
};
use alloc::vec::Vec;
use zeroize::{Zeroize, Zeroizing};

/// Length of the release prefix in a senderKID, in bytes.
const PREFIX_BYTES: usize = 16;

/// The senderKID of a device's CMP messages: which release, which device.
///
/// Bytes: the first 16 of the release digest, then the UEID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenderKid {
    /// First 16 bytes of the release digest.
    pub release_prefix: [u8; 16],
    /// The device.
    pub ueid: Ueid,
}

impl SenderKid {
    /// The senderKID of a device under a release.
    #[must_use]
    pub fn new(release: &ReleaseDigest, ueid: &Ueid) -> Self {
        Self {
            release_prefix: release.prefix(),
            ueid: *ueid,
        }
    }

    /// Reads the bytes of a senderKID.
    ///
    /// # Errors
    /// If there are too few or too many.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        let Some((release_prefix, ueid)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
            let (min, max) = (PREFIX_BYTES + Ueid::MIN_LEN, PREFIX_BYTES + Ueid::MAX_LEN);
            let got = bytes.len();
            return Err(CborError::Length {
                what: "senderKID",
                min,
                max,
                got,
            }
            .into());
        };
        Ok(Self {
            release_prefix: *release_prefix,
            ueid: Ueid::from_slice(ueid)?,
        })
    }

    /// The bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.release_prefix.to_vec();
        out.extend_from_slice(self.ueid.as_bytes());
        out
    }

    /// Whether it names this release.
    #[must_use]
    pub fn is_of(&self, release: &ReleaseDigest) -> bool {
        self.release_prefix == release.prefix()
    }
}

/// The bytes of the senderKID of a device under a release.
#[must_use]
pub fn sender_kid(release: &ReleaseDigest, ueid: &Ueid) -> Vec<u8> {
    SenderKid::new(release, ueid).to_bytes()
}

/// What the config component holds. Secret: wiped when dropped, not printable.
pub struct PersonalizationData {
    /// The device's `CsrAuthKey`.
    csr_auth_key: Zeroizing<[u8; 32]>,
    /// First 16 bytes of the release digest.
    release_prefix: [u8; 16],
    /// The device; absent in the paper profile, where all devices of a release share the data.
    ueid: Option<Ueid>,
}

impl PersonalizationData {
    /// Data for one device.
    #[must_use]
    pub fn for_device(csr_auth_key: &[u8; 32], release: &ReleaseDigest, ueid: &Ueid) -> Self {
        Self {
            csr_auth_key: Zeroizing::new(*csr_auth_key),
            release_prefix: release.prefix(),
            ueid: Some(*ueid),
        }
    }

    /// Data for every device of a release: the paper profile.
    #[must_use]
    pub fn for_release(csr_auth_key: &[u8; 32], release: &ReleaseDigest) -> Self {
        Self {
            csr_auth_key: Zeroizing::new(*csr_auth_key),
            release_prefix: release.prefix(),
            ueid: None,
        }
    }

    /// The `CsrAuthKey`.
    #[must_use]
    pub fn expose_csr_auth_key(&self) -> &[u8; 32] {
        &self.csr_auth_key
    }

    /// The device the data is for, unless it is for all.
    #[must_use]
    pub const fn ueid(&self) -> Option<&Ueid> {
        self.ueid.as_ref()
    }

    /// The senderKID of `device`, which must be the device this data is for.
    ///
    /// # Errors
    /// [`EnrolmentError::Inconsistent`] if the data is for another device.
    pub fn sender_kid(&self, device: &Ueid) -> Result<SenderKid, EnrolmentError> {
        if self.ueid.is_some_and(|u| u != *device) {
            return Err(EnrolmentError::Inconsistent(
                "personalization data of another device",
            ));
        }
        Ok(SenderKid {
            release_prefix: self.release_prefix,
            ueid: *device,
        })
    }

    /// Encodes the data; the result is secret.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, EnrolmentError> {
        let mut kid = self.release_prefix.to_vec();
        if let Some(ueid) = &self.ueid {
            kid.extend_from_slice(ueid.as_bytes());
        }
        let mut value = MapBuilder::new()
            .put(1, Value::Bytes(self.csr_auth_key.to_vec()))
            .put(2, Value::Bytes(kid))
            .finish()?;
        let bytes = cbor::encode(&value).map(Zeroizing::new);
        wipe(&mut value);
        Ok(bytes?)
    }

    /// Decodes the data.
    ///
    /// # Errors
    /// If the bytes are not personalization data.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        cbor::check_len(bytes.len(), "personalization data", 1, MAX_CONFIG_BYTES)?;
        let mut map = MapReader::new(cbor::decode(bytes, 2)?, "personalization data")?;
        let csr_auth_key = secret(map.require(1, "CsrAuthKey")?, "CsrAuthKey")?;
        let kid = cbor::into_bytes(map.require(2, "senderKID")?, "senderKID")?;
        no_rest(&map, "personalization data")?;
        let (release_prefix, ueid) =
            if let Ok(prefix) = <[u8; PREFIX_BYTES]>::try_from(kid.as_slice()) {
                (prefix, None)
            } else {
                let kid = SenderKid::parse(&kid)?;
                (kid.release_prefix, Some(kid.ueid))
            };
        Ok(Self {
            csr_auth_key,
            release_prefix,
            ueid,
        })
    }
}

/// A secret of `N` bytes out of a byte string that is wiped.
pub(super) fn secret<const N: usize>(
    value: Value,
    what: &'static str,
) -> Result<Zeroizing<[u8; N]>, EnrolmentError> {
    let bytes = Zeroizing::new(cbor::into_bytes(value, what)?);
    let mut key = Zeroizing::new([0u8; N]);
    cbor::check_len(bytes.len(), what, N, N)?;
    key.copy_from_slice(&bytes);
    Ok(key)
}

/// Wipes every byte string in a value we built.
pub(super) fn wipe(value: &mut Value) {
    match value {
        Value::Bytes(bytes) => bytes.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, v)| wipe(v)),
        _ => {}
    }
}
