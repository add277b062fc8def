//! Claims of a PSA attestation token: what the Root of Trust of a device without our TEE says of it.
//!
//! Only the payload: the COSE_Sign1 around it is the crypto crate's. Two profiles are read, which differ
//! in the numbers of their claims: that of RFC 9783, and PSA_IOT_PROFILE_1 of TF-M before it.
//!
//! Spec: RFC 9783 sections 4 and 5.2

use alloc::string::String;
use alloc::vec::Vec;

use super::cmw::MessageFormat;
use super::{MAX_TEXT_LEN, RatsError};
use crate::cbor::{self, CborError, Limits, MapBuilder, MapReader, Value};
use crate::ids::Ueid;

/// Longest token, bytes. Those of TF-M have 300 to 700.
pub const TOKEN_LEN_BYTES_MAX: usize = 4096;
/// Most software components in one token.
pub const COMPONENTS_MAX: usize = 32;
/// Claims in a list of maps; 32 components of six, and the claims.
const LIMITS: Limits = Limits {
    depth: 4,
    items: 1024,
};
/// Length of an instance id: the type byte and 32 more.
pub const INSTANCE_ID_LEN_BYTES: usize = 33;

/// Which set of claims a token has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PsaProfile {
    /// `tag:psacertified.org,2023:psa#tfm`. Spec: RFC 9783 section 5.2
    Tfm2023,
    /// `PSA_IOT_PROFILE_1`, which RFC 9783 calls legacy.
    Legacy2019,
}

impl PsaProfile {
    /// The profile that the format of a message names, if it is that of a PSA token.
    ///
    /// Spec: RFC 9783 sections 9.2 and 9.3
    #[must_use]
    pub fn of_format(format: &MessageFormat) -> Option<Self> {
        match format {
            MessageFormat::Number(10003) => Some(Self::Tfm2023),
            MessageFormat::Number(10004) => Some(Self::Legacy2019),
            MessageFormat::Number(_) => None,
            MessageFormat::MediaType(text) => {
                let mut text = text.clone();
                // White space around the semicolon means nothing.
                text.retain(|c| c != ' ');
                match text.as_str() {
                    "application/eat+cwt;eat_profile=\"tag:psacertified.org,2023:psa#tfm\"" => {
                        Some(Self::Tfm2023)
                    }
                    "application/eat+cwt;eat_profile=\"tag:psacertified.org,2019:psa#legacy\""
                    | "application/psa-attestation-token" => Some(Self::Legacy2019),
                    _ => None,
                }
            }
        }
    }

    fn labels(self) -> &'static Labels {
        match self {
            Self::Tfm2023 => &TFM_2023,
            Self::Legacy2019 => &LEGACY_2019,
        }
    }
}

/// Numbers of the claims of a profile.
struct Labels {
    profile: i64,
    name: &'static str,
    nonce: i64,
    instance_id: i64,
    implementation_id: i64,
    client_id: i64,
    lifecycle: i64,
    boot_seed: i64,
    certification: i64,
    software: i64,
    verification_service: i64,
}

const TFM_2023: Labels = Labels {
    profile: 265,
    name: "tag:psacertified.org,2023:psa#tfm",
    nonce: 10,
    instance_id: 256,
    implementation_id: 2396,
    client_id: 2394,
    lifecycle: 2395,
    boot_seed: 268,
    certification: 2398,
    software: 2399,
    verification_service: 2400,
};

const LEGACY_2019: Labels = Labels {
    profile: -75000,
    name: "PSA_IOT_PROFILE_1",
    nonce: -75008,
    instance_id: -75009,
    implementation_id: -75003,
    client_id: -75001,
    lifecycle: -75002,
    boot_seed: -75004,
    certification: -75005,
    software: -75006,
    verification_service: -75010,
};

/// Where in its life the Root of Trust says it is.
///
/// Spec: RFC 9783 section 4.3.1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// 0x0000 to 0x00ff.
    Unknown,
    /// 0x1000 to 0x10ff.
    AssemblyAndTest,
    /// 0x2000 to 0x20ff.
    PsaRotProvisioning,
    /// 0x3000 to 0x30ff.
    Secured,
    /// 0x4000 to 0x40ff: what is outside of the Root of Trust may be debugged.
    NonPsaRotDebug,
    /// 0x5000 to 0x50ff: the Root of Trust itself may be debugged.
    RecoverablePsaRotDebug,
    /// 0x6000 to 0x60ff.
    Decommissioned,
}

impl Lifecycle {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::AssemblyAndTest,
        Self::PsaRotProvisioning,
        Self::Secured,
        Self::NonPsaRotDebug,
        Self::RecoverablePsaRotDebug,
        Self::Decommissioned,
    ];

    /// The name in the specification, with hyphens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::AssemblyAndTest => "assembly-and-test",
            Self::PsaRotProvisioning => "psa-rot-provisioning",
            Self::Secured => "secured",
            Self::NonPsaRotDebug => "non-psa-rot-debug",
            Self::RecoverablePsaRotDebug => "recoverable-psa-rot-debug",
            Self::Decommissioned => "decommissioned",
        }
    }

    /// What a number means; the low byte is the implementation's own.
    fn of(number: u64) -> Result<Self, RatsError> {
        let range = Err(CborError::Range { what: LIFECYCLE });
        let state = usize::try_from(number >> 12).unwrap_or(usize::MAX);
        match Self::ALL.get(state) {
            Some(found) if number & 0x0f00 == 0 => Ok(*found),
            _ => Ok(range?),
        }
    }
}

/// A piece of software, as the boot measured it.
///
/// Spec: RFC 9783 section 4.4.1
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoftwareComponent {
    /// Its role, for example `PRoT`.
    pub kind: Option<String>,
    /// Hash of the code: 32, 48 or 64 bytes.
    pub measurement: Vec<u8>,
    /// Its version.
    pub version: Option<String>,
    /// Hash of the key that signed it: 32, 48 or 64 bytes.
    pub signer: Vec<u8>,
    /// How it was measured, for example `SHA256`.
    pub description: Option<String>,
}

/// The claims. What is mandatory is there and in its form; nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PsaClaims {
    /// The profile.
    pub profile: PsaProfile,
    /// What the caller gave: 32, 48 or 64 bytes.
    pub nonce: Vec<u8>,
    /// Name of the Initial Attestation Key: 33 bytes of type RAND.
    pub instance_id: Ueid,
    /// Name of the implementation of the Root of Trust.
    pub implementation_id: [u8; 32],
    /// Who asked for the token: negative for the normal world, positive for a secure partition; never 0.
    pub client_id: i32,
    /// State of the life cycle, as it came.
    pub lifecycle: u16,
    /// A value that each boot changes, 8 to 32 bytes.
    pub boot_seed: Option<Vec<u8>>,
    /// The certificate that the implementation has.
    pub certification: Option<String>,
    /// The software; at least one.
    pub software: Vec<SoftwareComponent>,
    /// Where a verifier may be found.
    pub verification_service: Option<String>,
}

impl PsaClaims {
    /// Decodes the payload of a token. Claims that are not known are passed over.
    ///
    /// # Errors
    /// `RatsError` if a mandatory claim is missing, a known one is not in its form, or a limit is exceeded.
    pub fn decode(bytes: &[u8]) -> Result<Self, RatsError> {
        cbor::check_len(bytes.len(), "PSA token", 1, TOKEN_LEN_BYTES_MAX)?;
        let mut map = MapReader::new(cbor::decode_limited(bytes, LIMITS)?, "PSA claims")?;
        let profile = profile(&mut map)?;
        let l = profile.labels();
        let text = |value: Option<Value>, what, max| {
            value.map(|v| cbor::into_text(v, what, max)).transpose()
        };
        let nonce = hash(map.require(l.nonce, "nonce")?, "nonce")?;
        let instance_id: [u8; INSTANCE_ID_LEN_BYTES] =
            cbor::into_byte_array(map.require(l.instance_id, INSTANCE_ID)?, INSTANCE_ID)?;
        let instance_id = instance(&instance_id)?;
        let implementation_id = map.require(l.implementation_id, IMPLEMENTATION_ID)?;
        let implementation_id = cbor::into_byte_array(implementation_id, IMPLEMENTATION_ID)?;
        let client_id = cbor::int(&map.require(l.client_id, CLIENT_ID)?, CLIENT_ID)?;
        let client_id = i32::try_from(client_id).ok().filter(|id| *id != 0);
        let lifecycle = cbor::uint(&map.require(l.lifecycle, LIFECYCLE)?, LIFECYCLE)?;
        Lifecycle::of(lifecycle)?;
        let boot_seed = map.take(l.boot_seed);
        let software = map.require(l.software, SOFTWARE)?;
        Ok(Self {
            profile,
            nonce,
            instance_id,
            implementation_id,
            client_id: client_id.ok_or(CborError::Range { what: CLIENT_ID })?,
            lifecycle: u16::try_from(lifecycle)
                .map_err(|_| CborError::Range { what: LIFECYCLE })?,
            boot_seed: boot_seed
                .map(|v| cbor::into_bytes_sized(v, "boot seed", 8, 32))
                .transpose()?,
            certification: text(map.take(l.certification), "certification reference", 64)?,
            software: cbor::into_array(software, SOFTWARE, 1, COMPONENTS_MAX)?
                .into_iter()
                .map(SoftwareComponent::from_value)
                .collect::<Result<_, _>>()?,
            verification_service: text(
                map.take(l.verification_service),
                "verification service",
                MAX_TEXT_LEN,
            )?,
        })
    }

    /// The state of the life cycle.
    ///
    /// # Errors
    /// Not for what was decoded.
    pub fn lifecycle(&self) -> Result<Lifecycle, RatsError> {
        Lifecycle::of(u64::from(self.lifecycle))
    }

    /// Encodes the claims, as a Root of Trust does.
    ///
    /// # Errors
    /// If [`Self::decode`] would refuse them.
    pub fn encode(&self) -> Result<Vec<u8>, RatsError> {
        let l = self.profile.labels();
        let software = self.software.iter().map(SoftwareComponent::to_value);
        let bytes = MapBuilder::new()
            .put(l.profile, l.name)
            .put(l.nonce, Value::Bytes(self.nonce.clone()))
            .put(
                l.instance_id,
                Value::Bytes(self.instance_id.as_bytes().to_vec()),
            )
            .put(
                l.implementation_id,
                Value::Bytes(self.implementation_id.to_vec()),
            )
            .put(l.client_id, self.client_id)
            .put(l.lifecycle, self.lifecycle)
            .put_opt(l.boot_seed, self.boot_seed.clone().map(Value::Bytes))
            .put_opt(l.certification, self.certification.clone())
            .put(
                l.software,
                Value::Array(software.collect::<Result<_, _>>()?),
            )
            .put_opt(l.verification_service, self.verification_service.clone())
            .encode()?;
        Self::decode(&bytes)?;
        Ok(bytes)
    }
}

impl SoftwareComponent {
    fn from_value(value: Value) -> Result<Self, RatsError> {
        let mut map = MapReader::new(value, "software component")?;
        let mut text = |label, what| {
            let value = map.take(label);
            value
                .map(|v| cbor::into_text(v, what, MAX_TEXT_LEN))
                .transpose()
        };
        let (kind, version) = (text(1, "measurement type")?, text(4, "version")?);
        let description = text(6, "measurement description")?;
        Ok(Self {
            kind,
            version,
            description,
            measurement: hash(map.require(2, MEASUREMENT)?, MEASUREMENT)?,
            signer: hash(map.require(5, SIGNER)?, SIGNER)?,
        })
    }

    fn to_value(&self) -> Result<Value, RatsError> {
        Ok(MapBuilder::new()
            .put_opt(1, self.kind.clone())
            .put(2, Value::Bytes(self.measurement.clone()))
            .put_opt(4, self.version.clone())
            .put(5, Value::Bytes(self.signer.clone()))
            .put_opt(6, self.description.clone())
            .finish()?)
    }
}

/// An instance id: 33 bytes of type RAND.
///
/// # Errors
/// If it has another length or type.
///
/// Spec: RFC 9783 section 4.2.1
pub fn instance(bytes: &[u8]) -> Result<Ueid, RatsError> {
    let range = CborError::Range { what: INSTANCE_ID };
    if bytes.len() != INSTANCE_ID_LEN_BYTES || bytes.first() != Some(&Ueid::TYPE_RAND) {
        return Err(range.into());
    }
    Ok(Ueid::from_slice(bytes).map_err(|_| range)?)
}

/// Which profile it is, by the claim that each has for it.
fn profile(map: &mut MapReader) -> Result<PsaProfile, RatsError> {
    for profile in [PsaProfile::Tfm2023, PsaProfile::Legacy2019] {
        let labels = profile.labels();
        if let Some(value) = map.take(labels.profile) {
            return match value {
                Value::Text(name) if name == labels.name => Ok(profile),
                _ => Err(RatsError::Profile),
            };
        }
    }
    Err(RatsError::Profile)
}

/// `psa-hash-type`.
fn hash(value: Value, what: &'static str) -> Result<Vec<u8>, RatsError> {
    let bytes = cbor::into_bytes_sized(value, what, 32, 64)?;
    match bytes.len() {
        32 | 48 | 64 => Ok(bytes),
        got => Err(CborError::Length {
            what,
            min: 32,
            max: 64,
            got,
        }
        .into()),
    }
}

const INSTANCE_ID: &str = "instance id";
const IMPLEMENTATION_ID: &str = "implementation id";
const CLIENT_ID: &str = "client id";
const LIFECYCLE: &str = "security lifecycle";
const SOFTWARE: &str = "software components";
const MEASUREMENT: &str = "measurement value";
const SIGNER: &str = "signer id";
