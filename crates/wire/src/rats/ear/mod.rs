//! EAR: attestation results.
//!
//! Spec: draft-ietf-rats-ear-03, draft-ietf-rats-ar4si

use alloc::string::String;
use alloc::vec::Vec;

use super::eat::{Confirmation, EatClaims, Profile, label};
use super::{LIMITS, MAX_CLAIMS_LEN, MAX_LIST, MAX_TEXT_LEN, RatsError};
use crate::cbor::{self, CborError, MapBuilder, MapReader, Value};

mod vector;

pub use vector::{Tier, TrustVector};

/// The profile of this version of EAR.
pub const PROFILE: &str = "tag:ietf.org,2026:rats/ear#03";

/// Media type of an EAR in CWT form.
pub const MEDIA_TYPE: &str = "application/eat+cwt; eat_profile=\"tag:ietf.org,2026:rats/ear#03\"";

/// Longest raw evidence in bytes.
const MAX_RAW_EVIDENCE_LEN: usize = 32 * 1024;

const STATUS: i64 = 1000;
const TRUST_VECTOR: i64 = 1001;
const RAW_EVIDENCE: i64 = 1002;
const POLICY_IDS: i64 = 1003;
const VERIFIER_ID: i64 = 1004;
const TEEP_CLAIMS: i64 = 65000;

/// Who appraised.
///
/// Spec: draft-ietf-rats-ar4si section 3.3
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierId {
    /// Who made the Verifier.
    pub developer: String,
    /// Which build it is.
    pub build: String,
}

/// The result for one attester.
///
/// Spec: draft-ietf-rats-ear section 3.2
#[derive(Debug, Clone, PartialEq)]
pub struct Appraisal {
    /// The overall tier.
    pub status: Tier,
    /// The claims behind it.
    pub trust_vector: TrustVector,
    /// The policies that were used, in their order.
    pub policy_ids: Vec<String>,
    /// Profile of extensions in this appraisal.
    pub eat_profile: Option<Profile>,
    /// The nonce of the Evidence, 8 to 64 bytes.
    pub eat_nonce: Option<Vec<u8>>,
    /// The Evidence's claims that a TAM needs (65000): nonce, ueid, oemid, hwmodel, hwversion,
    /// manifests.
    pub teep_claims: Option<EatClaims>,
    /// Extensions that are not known, as they came; to be ignored.
    pub other: Vec<(Value, Value)>,
}

impl Appraisal {
    /// A result with nothing but its tier.
    #[must_use]
    pub fn new(status: Tier) -> Self {
        Self {
            status,
            trust_vector: TrustVector::default(),
            policy_ids: Vec::new(),
            eat_profile: None,
            eat_nonce: None,
            teep_claims: None,
            other: Vec::new(),
        }
    }

    fn from_value(value: Value) -> Result<Self, RatsError> {
        let mut map = MapReader::new(value, "EAR-appraisal")?;
        let status = Tier::from_value(&map.require(STATUS, "ear_status")?)?;
        let trust_vector = map
            .take(TRUST_VECTOR)
            .map(TrustVector::from_value)
            .transpose()?;
        let trust_vector = trust_vector.unwrap_or_default();
        trust_vector.check_status(status)?;
        let policy_ids = map.take(POLICY_IDS).map(|list| {
            cbor::into_array(list, "ear_appraisal_policy_ids", 1, MAX_LIST)?
                .into_iter()
                .map(|id| cbor::into_text(id, "ear_appraisal_policy_ids", MAX_TEXT_LEN))
                .collect::<Result<Vec<_>, CborError>>()
        });
        Ok(Self {
            status,
            trust_vector,
            policy_ids: policy_ids.transpose()?.unwrap_or_default(),
            eat_profile: map
                .take(label::EAT_PROFILE)
                .map(Profile::from_value)
                .transpose()?,
            eat_nonce: nonce(map.take(label::EAT_NONCE))?,
            teep_claims: map
                .take(TEEP_CLAIMS)
                .map(EatClaims::from_value)
                .transpose()?,
            other: map.into_rest(),
        })
    }

    fn to_value(&self) -> Result<Value, RatsError> {
        self.trust_vector.check_status(self.status)?;
        let policy_ids = match self.policy_ids.len() {
            0 => None,
            _ => Some(Value::Array(
                self.policy_ids.iter().cloned().map(Value::Text).collect(),
            )),
        };
        Ok(MapBuilder::new()
            .put_opt(label::EAT_NONCE, nonce_value(self.eat_nonce.as_deref())?)
            .put_opt(
                label::EAT_PROFILE,
                self.eat_profile.as_ref().map(Profile::to_value),
            )
            .put(STATUS, self.status.number())
            .put_opt(TRUST_VECTOR, self.trust_vector.to_value()?)
            .put_opt(POLICY_IDS, policy_ids)
            .put_opt(
                TEEP_CLAIMS,
                self.teep_claims
                    .as_ref()
                    .map(EatClaims::to_value)
                    .transpose()?,
            )
            .extend(self.other.iter().cloned())
            .finish()?)
    }
}

/// An attestation result.
///
/// Spec: draft-ietf-rats-ear section 3.1
#[derive(Debug, Clone, PartialEq)]
pub struct Ear {
    /// The overall tier of all attesters together.
    pub status: Option<Tier>,
    /// Time of issue, seconds since 1970.
    pub iat: i64,
    /// Expiry, seconds since 1970.
    pub exp: Option<i64>,
    /// Who appraised.
    pub verifier_id: VerifierId,
    /// The Evidence as it was submitted.
    pub raw_evidence: Option<Vec<u8>>,
    /// One appraisal for each attester, by name; at least one.
    pub submods: Vec<(String, Appraisal)>,
    /// The relying party's nonce, 8 to 64 bytes.
    pub eat_nonce: Option<Vec<u8>>,
    /// The key that the Evidence confirmed: an extension, the CWT claim as it was in the Evidence.
    pub cnf: Option<Confirmation>,
    /// Extensions that are not known, as they came; to be ignored.
    pub other: Vec<(Value, Value)>,
}

impl Ear {
    /// Decodes the claims set (the payload of its COSE_Sign1).
    ///
    /// # Errors
    /// `RatsError` if the bytes are none, if the profile is another, or if a status is better than
    /// its trustworthiness vector.
    pub fn decode(bytes: &[u8]) -> Result<Self, RatsError> {
        cbor::check_len(bytes.len(), "claims set", 0, MAX_CLAIMS_LEN)?;
        Self::from_value(cbor::decode_limited(bytes, LIMITS)?)
    }

    /// Reads the claims set from a tree.
    ///
    /// # Errors
    /// As [`Ear::decode`].
    pub fn from_value(value: Value) -> Result<Self, RatsError> {
        let mut map = MapReader::new(value, "EAR")?;
        let profile = map.require(label::EAT_PROFILE, "eat_profile")?;
        if profile.as_text() != Some(PROFILE) {
            return Err(RatsError::Profile);
        }
        let iat = map.require(label::IAT, "iat")?;
        let exp = map.take(label::EXP);
        let raw = map.take(RAW_EVIDENCE);
        let submods = MapReader::new(map.require(label::SUBMODS, "submods")?, "submods")?;
        cbor::check_len(submods.len(), "submods", 1, MAX_LIST)?;
        let submods = submods.into_rest().into_iter().map(|(name, appraisal)| {
            let name = cbor::into_text(name, "name of a submodule", MAX_TEXT_LEN)?;
            Ok::<_, RatsError>((name, Appraisal::from_value(appraisal)?))
        });
        Ok(Self {
            status: map.take(STATUS).map(|v| Tier::from_value(&v)).transpose()?,
            iat: cbor::int(&iat, "iat")?,
            exp: exp.map(|v| cbor::int(&v, "exp")).transpose()?,
            verifier_id: VerifierId::from_value(map.require(VERIFIER_ID, "ear_verifier_id")?)?,
            raw_evidence: raw
                .map(|v| cbor::into_bytes_sized(v, "ear_raw_evidence", 0, MAX_RAW_EVIDENCE_LEN))
                .transpose()?,
            submods: submods.collect::<Result<_, _>>()?,
            eat_nonce: nonce(map.take(label::EAT_NONCE))?,
            cnf: map
                .take(label::CNF)
                .map(Confirmation::from_value)
                .transpose()?,
            other: map.into_rest(),
        })
    }

    /// Encodes the claims set.
    ///
    /// # Errors
    /// `RatsError` if a claim is against its specification.
    pub fn encode(&self) -> Result<Vec<u8>, RatsError> {
        cbor::check_len(self.submods.len(), "submods", 1, MAX_LIST)?;
        let mut submods = MapBuilder::new();
        for (name, appraisal) in &self.submods {
            submods = submods.put(name.as_str(), appraisal.to_value()?);
        }
        let bytes = MapBuilder::new()
            .put_opt(label::EXP, self.exp)
            .put(label::IAT, self.iat)
            .put_opt(
                label::CNF,
                self.cnf.as_ref().map(Confirmation::to_value).transpose()?,
            )
            .put_opt(label::EAT_NONCE, nonce_value(self.eat_nonce.as_deref())?)
            .put(label::EAT_PROFILE, PROFILE)
            .put(label::SUBMODS, submods.finish()?)
            .put_opt(STATUS, self.status.map(Tier::number))
            .put_opt(RAW_EVIDENCE, self.raw_evidence.clone().map(Value::Bytes))
            .put(VERIFIER_ID, self.verifier_id.to_value()?)
            .extend(self.other.iter().cloned())
            .encode()?;
        cbor::check_len(bytes.len(), "claims set", 0, MAX_CLAIMS_LEN)?;
        Ok(bytes)
    }

    /// The appraisal of the attester with this name.
    #[must_use]
    pub fn appraisal(&self, name: &str) -> Option<&Appraisal> {
        self.submods
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, appraisal)| appraisal)
    }

    /// Whether every attester, and the whole if that is said, is affirming.
    #[must_use]
    pub fn is_affirming(&self) -> bool {
        let whole = self.status.is_none_or(|status| status == Tier::Affirming);
        let each = self
            .submods
            .iter()
            .all(|(_, a)| a.status == Tier::Affirming);
        whole && each && !self.submods.is_empty()
    }
}

impl VerifierId {
    fn from_value(value: Value) -> Result<Self, RatsError> {
        let mut map = MapReader::new(value, "ear_verifier_id")?;
        let mut text = |label, what| {
            Ok::<_, RatsError>(cbor::into_text(
                map.require(label, what)?,
                what,
                MAX_TEXT_LEN,
            )?)
        };
        Ok(Self {
            developer: text(0, "developer")?,
            build: text(1, "build")?,
        })
    }

    fn to_value(&self) -> Result<Value, RatsError> {
        let map = MapBuilder::new()
            .put(0, self.developer.as_str())
            .put(1, self.build.as_str());
        Ok(map.finish()?)
    }
}

fn nonce(value: Option<Value>) -> Result<Option<Vec<u8>>, RatsError> {
    Ok(value
        .map(|v| cbor::into_bytes_sized(v, "eat_nonce", 8, 64))
        .transpose()?)
}

fn nonce_value(nonce: Option<&[u8]>) -> Result<Option<Value>, RatsError> {
    if let Some(nonce) = nonce {
        cbor::check_len(nonce.len(), "eat_nonce", 8, 64)?;
    }
    Ok(nonce.map(|nonce| Value::Bytes(nonce.to_vec())))
}
