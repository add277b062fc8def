//! EAT: claims of an Entity Attestation Token.
//!
//! Spec: RFC 9711; the numbers of claims are those of its appendix D

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{LIMITS, MAX_CLAIMS_LEN, MAX_LIST, MAX_TEXT_LEN, RatsError};
use crate::cbor::{self, CborError, MapBuilder, MapReader, Value};
use crate::ids::Ueid;

mod cnf;
mod content;
mod measured;

pub use cnf::Confirmation;
pub use content::ContentItem;
pub use measured::{MeasuredComponent, Measurement};

/// Numbers of claims.
pub mod label {
    /// Issuer.
    pub const ISS: i64 = 1;
    /// Subject.
    pub const SUB: i64 = 2;
    /// Expiry.
    pub const EXP: i64 = 4;
    /// Start of validity.
    pub const NBF: i64 = 5;
    /// Time of issue.
    pub const IAT: i64 = 6;
    /// Confirmation key.
    pub const CNF: i64 = 8;
    /// Nonce.
    pub const EAT_NONCE: i64 = 10;
    /// Universal Entity ID.
    pub const UEID: i64 = 256;
    /// Manufacturer.
    pub const OEMID: i64 = 258;
    /// Model.
    pub const HWMODEL: i64 = 259;
    /// Version of the hardware.
    pub const HWVERSION: i64 = 260;
    /// Seconds since start.
    pub const UPTIME: i64 = 261;
    /// Whether the manufacturer's boot was verified.
    pub const OEMBOOT: i64 = 262;
    /// State of debugging.
    pub const DBGSTAT: i64 = 263;
    /// Profile.
    pub const EAT_PROFILE: i64 = 265;
    /// Submodules.
    pub const SUBMODS: i64 = 266;
    /// Number of starts.
    pub const BOOTCOUNT: i64 = 267;
    /// Value that changes with every start.
    pub const BOOTSEED: i64 = 268;
    /// Name of the software.
    pub const SWNAME: i64 = 270;
    /// Version of the software.
    pub const SWVERSION: i64 = 271;
    /// Manifests of the software.
    pub const MANIFESTS: i64 = 272;
    /// Measurements of the software.
    pub const MEASUREMENTS: i64 = 273;
    /// What the token is for.
    pub const INTUSE: i64 = 275;
    /// Tegata: what wall stands around the TEE (text).
    pub const TEGATA_SECURITY_LEVEL: i64 = -75001;
    /// Tegata: who can roll storage back unseen (0, 100 or 1000).
    pub const TEGATA_ANTI_ROLLBACK: i64 = -75002;
    /// Tegata: where the root key lies (text).
    pub const TEGATA_STORAGE_ROOT: i64 = -75003;
    /// Tegata: which parts of the sandbox are missing (texts).
    pub const TEGATA_MISSING: i64 = -75004;
}

/// Media type of a CWT that is an EAT, without its profile.
///
/// Spec: RFC 9782 section 3
pub const MEDIA_TYPE: &str = "application/eat+cwt";

/// Profile of Tegata's Evidence: TEEP's claims and the private ones of `docs/spec/evidence.md`.
pub const PROFILE_EVIDENCE: &str = "tag:tegata.dev,2026:evidence#1";

/// Media type of Tegata's Evidence, as TEEP's attestation-payload-format carries it.
pub const MEDIA_TYPE_EVIDENCE: &str =
    "application/eat+cwt; eat_profile=\"tag:tegata.dev,2026:evidence#1\"";

/// Who made the hardware.
///
/// Spec: RFC 9711 section 4.2.3
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OemId {
    /// Private Enterprise Number.
    Pen(u64),
    /// IEEE OUI (MA-L).
    Ieee([u8; 3]),
    /// Drawn at random once.
    Random([u8; 16]),
}

/// A version, and how to compare it.
///
/// Spec: RFC 9711 section 4.2.5
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The version.
    pub version: String,
    /// CoSWID version scheme: 1 multipart numeric, 16384 semver.
    pub scheme: Option<i64>,
}

/// State of debugging.
///
/// Spec: RFC 9711 section 4.2.9
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DebugStatus {
    /// Debugging is possible (0).
    Enabled,
    /// It is off now (1).
    Disabled,
    /// It has been off since the start (2).
    DisabledSinceBoot,
    /// It is off for ever, but for the manufacturer (3).
    DisabledPermanently,
    /// It is off for ever, for all (4).
    DisabledFullyAndPermanently,
}

impl DebugStatus {
    const ALL: [Self; 5] = [
        Self::Enabled,
        Self::Disabled,
        Self::DisabledSinceBoot,
        Self::DisabledPermanently,
        Self::DisabledFullyAndPermanently,
    ];
}

/// A profile: what the claims set is to be read as.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// A URI.
    Uri(String),
    /// An object identifier, BER content.
    Oid(Vec<u8>),
}

/// A part of the device with claims of its own.
///
/// Spec: RFC 9711 section 4.2.18
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "a submodule is nearly always a claims set"
)]
pub enum Submodule {
    /// A claims set.
    Claims(EatClaims),
    /// A whole token, in CBOR or JSON form.
    Token(Value),
    /// The digest of a claims set that is elsewhere.
    Digest {
        /// COSE number or name of the hash algorithm.
        alg: Value,
        /// The digest.
        digest: Vec<u8>,
    },
}

/// What Tegata's TEE says of itself.
///
/// Spec: `docs/spec/evidence.md`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TegataClaims {
    /// What wall stands around the TEE: `software` or `optee`.
    pub security_level: Option<String>,
    /// Who can roll storage back unseen: 0, 100 or 1000, as GlobalPlatform's property.
    pub anti_rollback_level: Option<u32>,
    /// Where the root key lies.
    pub storage_root: Option<String>,
    /// Which parts of the sandbox this start lacks; `Some` of an empty list: none.
    pub missing: Option<Vec<String>>,
}

/// A claims set. What is absent is not claimed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EatClaims {
    /// Issuer.
    pub iss: Option<String>,
    /// Subject.
    pub sub: Option<String>,
    /// Expiry, seconds since 1970.
    pub exp: Option<i64>,
    /// Start of validity, seconds since 1970.
    pub nbf: Option<i64>,
    /// Time of issue, seconds since 1970.
    pub iat: Option<i64>,
    /// The key that the presenter has.
    pub cnf: Option<Confirmation>,
    /// Nonces, 8 to 64 bytes each.
    pub eat_nonce: Vec<Vec<u8>>,
    /// Name of the device.
    pub ueid: Option<Ueid>,
    /// Manufacturer.
    pub oemid: Option<OemId>,
    /// Model, 1 to 32 bytes.
    pub hwmodel: Option<Vec<u8>>,
    /// Version of the hardware.
    pub hwversion: Option<Version>,
    /// Seconds since start.
    pub uptime: Option<u64>,
    /// Whether the manufacturer's boot was verified.
    pub oemboot: Option<bool>,
    /// State of debugging.
    pub dbgstat: Option<DebugStatus>,
    /// Profile.
    pub eat_profile: Option<Profile>,
    /// Number of starts.
    pub bootcount: Option<u64>,
    /// Value that changes with every start.
    pub bootseed: Option<Vec<u8>>,
    /// Name of the software.
    pub swname: Option<String>,
    /// Version of the software.
    pub swversion: Option<Version>,
    /// Manifests.
    pub manifests: Vec<ContentItem>,
    /// Measurements.
    pub measurements: Vec<ContentItem>,
    /// What the token is for.
    pub intuse: Option<i64>,
    /// Submodules by name.
    pub submods: Vec<(String, Submodule)>,
    /// What Tegata's TEE says of itself.
    pub tegata: TegataClaims,
    /// Claims that are not known, as they came.
    pub other: Vec<(Value, Value)>,
}

impl EatClaims {
    /// Decodes a claims set (the payload of its COSE_Sign1).
    ///
    /// # Errors
    /// `RatsError` if the bytes are none, or a known claim is not valid.
    pub fn decode(bytes: &[u8]) -> Result<Self, RatsError> {
        cbor::check_len(bytes.len(), "claims set", 0, MAX_CLAIMS_LEN)?;
        Self::from_value(cbor::decode_limited(bytes, LIMITS)?)
    }

    /// Encodes the claims set.
    ///
    /// # Errors
    /// `RatsError` if a claim is against its specification.
    pub fn encode(&self) -> Result<Vec<u8>, RatsError> {
        Ok(cbor::encode(&self.to_value()?)?)
    }

    /// Whether `nonce` is the one nonce of this claims set.
    #[must_use]
    pub fn has_only_nonce(&self, nonce: &[u8]) -> bool {
        matches!(self.eat_nonce.as_slice(), [only] if only == nonce)
    }

    /// Reads a claims set from a tree. Depth was limited when the tree was made.
    ///
    /// # Errors
    /// As [`EatClaims::decode`].
    pub fn from_value(value: Value) -> Result<Self, RatsError> {
        let mut map = MapReader::new(value, "claims set")?;
        let text = |value: Option<Value>, what| {
            value
                .map(|v| cbor::into_text(v, what, MAX_TEXT_LEN))
                .transpose()
        };
        // RFC 9711 section 7.2.2: whole seconds; a floating-point time is an error.
        let time = |value: Option<Value>, what| value.map(|v| cbor::int(&v, what)).transpose();
        let uint = |value: Option<Value>, what| value.map(|v| cbor::uint(&v, what)).transpose();
        Ok(Self {
            iss: text(map.take(label::ISS), "iss")?,
            sub: text(map.take(label::SUB), "sub")?,
            exp: time(map.take(label::EXP), "exp")?,
            nbf: time(map.take(label::NBF), "nbf")?,
            iat: time(map.take(label::IAT), "iat")?,
            cnf: map
                .take(label::CNF)
                .map(Confirmation::from_value)
                .transpose()?,
            eat_nonce: map
                .take(label::EAT_NONCE)
                .map(nonces)
                .transpose()?
                .unwrap_or_default(),
            ueid: map.take(label::UEID).map(ueid).transpose()?,
            oemid: map.take(label::OEMID).map(oemid).transpose()?,
            hwmodel: map
                .take(label::HWMODEL)
                .map(|v| cbor::into_bytes_sized(v, "hwmodel", 1, 32))
                .transpose()?,
            hwversion: map
                .take(label::HWVERSION)
                .map(Version::from_value)
                .transpose()?,
            uptime: uint(map.take(label::UPTIME), "uptime")?,
            oemboot: map
                .take(label::OEMBOOT)
                .map(|v| cbor::boolean(&v, "oemboot"))
                .transpose()?,
            dbgstat: map.take(label::DBGSTAT).map(dbgstat).transpose()?,
            eat_profile: map
                .take(label::EAT_PROFILE)
                .map(Profile::from_value)
                .transpose()?,
            bootcount: uint(map.take(label::BOOTCOUNT), "bootcount")?,
            bootseed: map
                .take(label::BOOTSEED)
                .map(|v| cbor::into_bytes_sized(v, "bootseed", 0, MAX_TEXT_LEN))
                .transpose()?,
            swname: text(map.take(label::SWNAME), "swname")?,
            swversion: map
                .take(label::SWVERSION)
                .map(Version::from_value)
                .transpose()?,
            manifests: content::list(map.take(label::MANIFESTS), "manifests")?,
            measurements: content::list(map.take(label::MEASUREMENTS), "measurements")?,
            intuse: map
                .take(label::INTUSE)
                .map(|v| cbor::int(&v, "intuse"))
                .transpose()?,
            submods: map
                .take(label::SUBMODS)
                .map(submods)
                .transpose()?
                .unwrap_or_default(),
            tegata: TegataClaims::take_from(&mut map)?,
            other: map.into_rest(),
        })
    }

    /// The claims set as a tree.
    ///
    /// # Errors
    /// As [`EatClaims::encode`].
    pub fn to_value(&self) -> Result<Value, RatsError> {
        for nonce in &self.eat_nonce {
            cbor::check_len(nonce.len(), "eat_nonce", 8, 64)?;
        }
        let mut nonces: Vec<Value> = self.eat_nonce.iter().cloned().map(Value::Bytes).collect();
        let nonces = match nonces.len() {
            0 => None,
            1 => nonces.pop(),
            _ => Some(Value::Array(nonces)),
        };
        if let Some(hwmodel) = &self.hwmodel {
            cbor::check_len(hwmodel.len(), "hwmodel", 1, 32)?;
        }
        let mut submods = MapBuilder::new();
        for (name, submodule) in &self.submods {
            submods = submods.put(name.as_str(), submodule.to_value()?);
        }
        let submods = if self.submods.is_empty() {
            None
        } else {
            Some(submods.finish()?)
        };
        let status = self.dbgstat.and_then(|status| {
            (0u64..)
                .zip(DebugStatus::ALL)
                .find(|(_, s)| *s == status)
                .map(|(number, _)| number)
        });
        let map = MapBuilder::new()
            .put_opt(label::ISS, self.iss.clone())
            .put_opt(label::SUB, self.sub.clone())
            .put_opt(label::EXP, self.exp)
            .put_opt(label::NBF, self.nbf)
            .put_opt(label::IAT, self.iat)
            .put_opt(
                label::CNF,
                self.cnf.as_ref().map(Confirmation::to_value).transpose()?,
            )
            .put_opt(label::EAT_NONCE, nonces)
            .put_opt(
                label::UEID,
                self.ueid.map(|ueid| Value::Bytes(ueid.as_bytes().to_vec())),
            )
            .put_opt(label::OEMID, self.oemid.map(oemid_value))
            .put_opt(label::HWMODEL, self.hwmodel.clone().map(Value::Bytes))
            .put_opt(
                label::HWVERSION,
                self.hwversion.as_ref().map(Version::to_value),
            )
            .put_opt(label::UPTIME, self.uptime)
            .put_opt(label::OEMBOOT, self.oemboot)
            .put_opt(label::DBGSTAT, status)
            .put_opt(
                label::EAT_PROFILE,
                self.eat_profile.as_ref().map(Profile::to_value),
            )
            .put_opt(label::SUBMODS, submods)
            .put_opt(label::BOOTCOUNT, self.bootcount)
            .put_opt(label::BOOTSEED, self.bootseed.clone().map(Value::Bytes))
            .put_opt(label::SWNAME, self.swname.clone())
            .put_opt(
                label::SWVERSION,
                self.swversion.as_ref().map(Version::to_value),
            )
            .put_opt(label::MANIFESTS, content::value(&self.manifests))
            .put_opt(label::MEASUREMENTS, content::value(&self.measurements))
            .put_opt(label::INTUSE, self.intuse);
        Ok(self
            .tegata
            .put_into(map)
            .extend(self.other.iter().cloned())
            .finish()?)
    }
}

impl TegataClaims {
    fn take_from(map: &mut MapReader) -> Result<Self, RatsError> {
        let text = |value: Option<Value>, what| {
            value
                .map(|v| cbor::into_text(v, what, MAX_TEXT_LEN))
                .transpose()
        };
        let anti_rollback_level = map.take(label::TEGATA_ANTI_ROLLBACK).map(|v| {
            let what = "anti-rollback level";
            u32::try_from(cbor::uint(&v, what)?).map_err(|_| CborError::Range { what })
        });
        let missing = map.take(label::TEGATA_MISSING).map(|v| {
            let what = "missing sandbox items";
            cbor::into_array(v, what, 0, MAX_LIST)?
                .into_iter()
                .map(|item| cbor::into_text(item, what, MAX_TEXT_LEN))
                .collect::<Result<Vec<_>, CborError>>()
        });
        Ok(Self {
            security_level: text(map.take(label::TEGATA_SECURITY_LEVEL), "security level")?,
            anti_rollback_level: anti_rollback_level.transpose()?,
            storage_root: text(map.take(label::TEGATA_STORAGE_ROOT), "storage root")?,
            missing: missing.transpose()?,
        })
    }

    fn put_into(&self, map: MapBuilder) -> MapBuilder {
        let missing = self
            .missing
            .as_ref()
            .map(|items| Value::Array(items.iter().cloned().map(Value::Text).collect()));
        map.put_opt(label::TEGATA_SECURITY_LEVEL, self.security_level.clone())
            .put_opt(label::TEGATA_ANTI_ROLLBACK, self.anti_rollback_level)
            .put_opt(label::TEGATA_STORAGE_ROOT, self.storage_root.clone())
            .put_opt(label::TEGATA_MISSING, missing)
    }
}

impl Version {
    pub(super) fn from_value(value: Value) -> Result<Self, RatsError> {
        let mut items = cbor::into_array(value, "version", 1, 2)?.into_iter();
        let version = items.next().ok_or(RatsError::Claim { what: "version" })?;
        Ok(Self {
            version: cbor::into_text(version, "version", MAX_TEXT_LEN)?,
            scheme: items
                .next()
                .map(|v| cbor::int(&v, "version scheme"))
                .transpose()?,
        })
    }

    pub(super) fn to_value(&self) -> Value {
        let mut items = vec![Value::Text(self.version.clone())];
        items.extend(self.scheme.map(Value::from));
        Value::Array(items)
    }
}

impl Profile {
    /// Reads a profile from a tree.
    ///
    /// # Errors
    /// `RatsError` if it is neither text nor bytes.
    pub fn from_value(value: Value) -> Result<Self, RatsError> {
        match value {
            Value::Bytes(oid) => {
                cbor::check_len(oid.len(), "eat_profile", 1, MAX_TEXT_LEN)?;
                Ok(Self::Oid(oid))
            }
            other => Ok(Self::Uri(cbor::into_text(
                other,
                "eat_profile",
                MAX_TEXT_LEN,
            )?)),
        }
    }

    /// The profile as a tree.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Uri(uri) => Value::Text(uri.clone()),
            Self::Oid(oid) => Value::Bytes(oid.clone()),
        }
    }

    /// The profile, if it is a URI.
    #[must_use]
    pub fn as_uri(&self) -> Option<&str> {
        match self {
            Self::Uri(uri) => Some(uri),
            Self::Oid(_) => None,
        }
    }
}

impl Submodule {
    fn from_value(value: Value) -> Result<Self, RatsError> {
        match value {
            Value::Map(_) => Ok(Self::Claims(EatClaims::from_value(value)?)),
            Value::Bytes(_) | Value::Text(_) => Ok(Self::Token(value)),
            other => {
                let what = "detached submodule digest";
                let mut items = cbor::into_array(other, what, 2, 2)?.into_iter();
                let (Some(alg), Some(digest)) = (items.next(), items.next()) else {
                    return Err(RatsError::Claim { what });
                };
                if !(alg.is_integer() || alg.is_text()) {
                    return Err(RatsError::Claim { what });
                }
                Ok(Self::Digest {
                    alg,
                    digest: cbor::into_bytes_sized(digest, what, 1, 64)?,
                })
            }
        }
    }

    fn to_value(&self) -> Result<Value, RatsError> {
        match self {
            Self::Claims(claims) => claims.to_value(),
            Self::Token(token) => Ok(token.clone()),
            Self::Digest { alg, digest } => Ok(Value::Array(vec![
                alg.clone(),
                Value::Bytes(digest.clone()),
            ])),
        }
    }
}

pub(super) fn nonces(value: Value) -> Result<Vec<Vec<u8>>, RatsError> {
    let items = match value {
        Value::Array(items) => {
            cbor::check_len(items.len(), "eat_nonce", 2, MAX_LIST)?;
            items
        }
        single => vec![single],
    };
    let nonce = |item| cbor::into_bytes_sized(item, "eat_nonce", 8, 64);
    Ok(items.into_iter().map(nonce).collect::<Result<_, _>>()?)
}

fn ueid(value: Value) -> Result<Ueid, RatsError> {
    let bytes = cbor::into_bytes(value, "ueid")?;
    Ueid::from_slice(&bytes).map_err(|_| RatsError::Claim { what: "ueid" })
}

fn oemid(value: Value) -> Result<OemId, RatsError> {
    let invalid = RatsError::Claim { what: "oemid" };
    match value {
        Value::Integer(_) => Ok(OemId::Pen(cbor::uint(&value, "oemid")?)),
        other => {
            let bytes = cbor::into_bytes(other, "oemid")?;
            match bytes.len() {
                3 => bytes.try_into().map(OemId::Ieee).map_err(|_| invalid),
                _ => bytes.try_into().map(OemId::Random).map_err(|_| invalid),
            }
        }
    }
}

fn oemid_value(oemid: OemId) -> Value {
    match oemid {
        OemId::Pen(pen) => pen.into(),
        OemId::Ieee(bytes) => Value::Bytes(bytes.to_vec()),
        OemId::Random(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

fn dbgstat(value: Value) -> Result<DebugStatus, RatsError> {
    let index = usize::try_from(cbor::uint(&value, "dbgstat")?).ok();
    let status = index.and_then(|index| DebugStatus::ALL.get(index).copied());
    status.ok_or(RatsError::Claim { what: "dbgstat" })
}

fn submods(value: Value) -> Result<Vec<(String, Submodule)>, RatsError> {
    let map = MapReader::new(value, "submods")?;
    cbor::check_len(map.len(), "submods", 1, MAX_LIST)?;
    map.into_rest()
        .into_iter()
        .map(|(name, submodule)| {
            let name = cbor::into_text(name, "name of a submodule", MAX_TEXT_LEN)?;
            Ok((name, Submodule::from_value(submodule)?))
        })
        .collect()
}
