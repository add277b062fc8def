//! Measured components: what software was found, by its digest.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::Version;
use crate::cbor::{self, MapBuilder, MapReader, Value};
use crate::ids::Digest;
use crate::rats::{LIMITS, MAX_LIST, MAX_TEXT_LEN, RatsError};

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Measurement {
    /// A digest.
    Digest {
        /// COSE number (or, from others, a name of the IANA Named Information registry).
        alg: Value,
        /// The digest.
        digest: Vec<u8>,
    },
    /// The thing itself.
    Raw(Vec<u8>),
}

/// A component and its measurement.
///
/// Spec: draft-ietf-rats-eat-measured-component section 4
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredComponent {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Option<Version>,
    /// Its measurement.
    pub measurement: Measurement,
    /// Identifiers of those who vouch for it.
    pub authorities: Vec<Vec<u8>>,
    /// Flags of the profile.
    pub flags: Option<[u8; 8]>,
}

impl MeasuredComponent {
    /// A component by its SHA-256 digest.
    #[must_use]
    pub fn sha256(name: &str, version: Option<Version>, digest: Digest) -> Self {
        let alg = crate::cose::ALG_SHA_256.into();
        Self {
            name: name.into(),
            version,
            measurement: Measurement::Digest {
                alg,
                digest: digest.0.to_vec(),
            },
            authorities: Vec::new(),
            flags: None,
        }
    }

    /// The digest, if it is SHA-256, by whatever name.
    #[must_use]
    pub fn to_sha256(&self) -> Option<Digest> {
        match &self.measurement {
            Measurement::Digest { alg, digest } => {
                let named = alg.as_text() == Some("sha-256");
                let numbered = *alg == Value::from(crate::cose::ALG_SHA_256);
                if named || numbered {
                    Digest::from_slice(digest).ok()
                } else {
                    None
                }
            }
            Measurement::Raw(_) => None,
        }
    }

    /// Decodes a measured component.
    ///
    /// # Errors
    /// `RatsError` if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, RatsError> {
        const WHAT: &str = "measured-component";
        let mut map = MapReader::new(cbor::decode_limited(bytes, LIMITS)?, WHAT)?;
        let id = map.require(1, "component-id")?;
        let mut id = cbor::into_array(id, "component-id", 1, 2)?.into_iter();
        let name = id.next().ok_or(RatsError::Claim {
            what: "component-id",
        })?;
        let measurement = match (map.take(2), map.take(5)) {
            (Some(digest), None) => {
                let mut parts = cbor::into_array(digest, "digest", 2, 2)?.into_iter();
                let (Some(alg), Some(digest)) = (parts.next(), parts.next()) else {
                    return Err(RatsError::Claim { what: "digest" });
                };
                if !(alg.is_integer() || alg.is_text()) {
                    return Err(RatsError::Claim {
                        what: "digest algorithm",
                    });
                }
                Measurement::Digest {
                    alg,
                    digest: cbor::into_bytes_sized(digest, "digest", 1, 64)?,
                }
            }
            (None, Some(raw)) => {
                Measurement::Raw(cbor::into_bytes_sized(raw, "raw measurement", 0, 4096)?)
            }
            _ => {
                return Err(RatsError::Claim {
                    what: "measurement",
                });
            }
        };
        let authorities = map.take(3).map(|list| {
            cbor::into_array(list, "authorities", 1, MAX_LIST)?
                .into_iter()
                .map(|item| cbor::into_bytes_sized(item, "authorities", 1, MAX_TEXT_LEN))
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(Self {
            name: cbor::into_text(name, "component name", MAX_TEXT_LEN)?,
            version: id.next().map(Version::from_value).transpose()?,
            measurement,
            authorities: authorities.transpose()?.unwrap_or_default(),
            flags: map
                .take(4)
                .map(|v| cbor::into_byte_array(v, "flags"))
                .transpose()?,
        })
    }

    /// Encodes the measured component.
    ///
    /// # Errors
    /// `RatsError` if a member is too long.
    pub fn encode(&self) -> Result<Vec<u8>, RatsError> {
        cbor::check_len(self.name.len(), "component name", 0, MAX_TEXT_LEN)?;
        let mut id = vec![Value::Text(self.name.clone())];
        id.extend(self.version.as_ref().map(Version::to_value));
        let map = MapBuilder::new().put(1, Value::Array(id));
        let map = match &self.measurement {
            Measurement::Digest { alg, digest } => map.put(
                2,
                Value::Array(vec![alg.clone(), Value::Bytes(digest.clone())]),
            ),
            Measurement::Raw(raw) => map.put(5, Value::Bytes(raw.clone())),
        };
        let authorities = match self.authorities.len() {
            0 => None,
            _ => Some(Value::Array(
                self.authorities.iter().cloned().map(Value::Bytes).collect(),
            )),
        };
        Ok(map
            .put_opt(3, authorities)
            .put_opt(4, self.flags.map(|flags| Value::Bytes(flags.to_vec())))
            .encode()?)
    }
}
