//! One TEEP exchange: what is asked of a device, who answered, and what its answer is worth.
//!
//! Spec: draft-ietf-teep-protocol-26 sections 4 and 6

use tegata_crypto::cose::{
    CoseError, Sign1Headers, sign1_pieces, unverified_headers, verify_sign1,
};
use tegata_crypto::{Provider, PublicKey, Signer};
use tegata_wire::cbor::Pieces;
use tegata_wire::ids::{ReleaseDigest, TaUuid, Ueid};
use tegata_wire::rats::RatsError;
use tegata_wire::rats::ear::Ear;
use tegata_wire::rats::eat::EatClaims;
use tegata_wire::teep::{
    Challenge, CipherSuite, DataItems, FreshnessMechanism, Message, QueryRequest, QueryResponse,
    SuitCoseProfile, TeepError,
};

use crate::UnixSecs;
use crate::factory::EndorsedDevice;
use crate::suit_names::split;
use crate::verifier::{AppraisalRequest, EVIDENCE_SUBMODULE, reasons_of};

/// Why a message of a device leads to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TeepDenied {
    /// Not a COSE_Sign1 with a kid.
    #[error("the message is malformed: {0}")]
    Cose(CoseError),
    /// The signed bytes are no TEEP message.
    #[error("the message is malformed: {0}")]
    Teep(TeepError),
    /// No device has that key, or the signature is wrong.
    #[error("the message is not signed by a registered device")]
    NotAuthenticated,
    /// A message that devices do not send.
    #[error("a device does not send this kind of message")]
    Unexpected,
    /// The evidence is missing or no signed EAT.
    #[error("the answer carries no readable evidence")]
    NoEvidence,
    /// The challenge is foreign or expired.
    #[error("{0}")]
    Challenge(#[from] super::challenge::ChallengeDenied),
    /// The challenge was used before.
    #[error("the challenge was used before")]
    Replayed,
    /// The Verifier's result is not acceptable.
    #[error("the device is not trustworthy: {0}")]
    NotAppraised(#[source] NotAppraised),
    /// An answer to an Update that this device was never sent.
    #[error("there is no such Update for this device")]
    NoSuchUpdate,
}

/// Why an attestation result is not acceptable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotAppraised {
    /// Not signed by the Verifier.
    #[error("the result is not signed by the Verifier: {0}")]
    Signature(CoseError),
    /// It cannot be read.
    #[error("the result is malformed: {0}")]
    Malformed(RatsError),
    /// It is for another nonce.
    #[error("the result is for another nonce")]
    Nonce,
    /// It has expired, or is of the future.
    #[error("the result has expired")]
    Expired,
    /// It is for another device.
    #[error("the result is for another device")]
    OtherDevice,
    /// It names another key than the one that signed the message.
    #[error("the result names another key than the one that signed the message")]
    OtherKey,
    /// It is not affirming.
    #[error("{}", .0.join("; "))]
    NotAffirming(Vec<String>),
}

impl TeepDenied {
    /// Stable label for metrics, logs and problem reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Cose(_) | Self::Teep(_) => "malformed",
            Self::NotAuthenticated => "not-authenticated",
            Self::Unexpected => "unexpected-message",
            Self::NoEvidence => "no-evidence",
            Self::Challenge(_) => "challenge",
            Self::Replayed => "replayed",
            Self::NotAppraised(_) => "not-trustworthy",
            Self::NoSuchUpdate => "no-such-update",
        }
    }
}

/// The QueryRequest that begins an exchange, signed by the TAM.
///
/// # Errors
/// A key's failure.
pub fn query_request(signer: &dyn Signer, challenge: &[u8]) -> Result<Vec<u8>, TeepDenied> {
    let challenge = Challenge::new(challenge.to_vec()).map_err(|e| TeepDenied::Teep(e.into()))?;
    let request = QueryRequest {
        token: None,
        supported_freshness_mechanisms: Some(vec![FreshnessMechanism::Nonce]),
        challenge: Some(challenge),
        versions: None,
        attestation: None,
        suit_reports: None,
        supported_teep_cipher_suites: vec![
            CipherSuite::sign1_esp256(),
            CipherSuite::sign1_ed25519(),
        ],
        supported_suit_cose_profiles: vec![SuitCoseProfile::SHA256_ESP256_ECDH_A128GCM],
        data_item_requested: DataItems::ATTESTATION.with(DataItems::TRUSTED_COMPONENTS),
        unknown: Vec::new(),
    };
    sign_message(signer, &Message::QueryRequest(request))
}

/// Signs a TEEP message.
///
/// # Errors
/// The message cannot be encoded, or the key fails.
pub fn sign_message(signer: &dyn Signer, message: &Message) -> Result<Vec<u8>, TeepDenied> {
    let payload = message.encode().map_err(TeepDenied::Teep)?;
    sign_pieces(signer, &Pieces::raw(payload))
}

/// Signs an encoded TEEP message.
///
/// # Errors
/// The key fails.
pub(super) fn sign_pieces(
    signer: &dyn Signer,
    payload: &Pieces<'_>,
) -> Result<Vec<u8>, TeepDenied> {
    sign1_pieces(signer, payload, &Sign1Headers::default(), b"", false).map_err(TeepDenied::Cose)
}

/// The key identifier of a message, to look up the device; nothing is believed by it.
///
/// # Errors
/// `Cose` if it is no COSE_Sign1, `NotAuthenticated` without a kid.
pub fn message_kid(bytes: &[u8]) -> Result<[u8; 32], TeepDenied> {
    let headers = unverified_headers(bytes).map_err(TeepDenied::Cose)?;
    let kid = headers.kid.and_then(|kid| kid.try_into().ok());
    kid.ok_or(TeepDenied::NotAuthenticated)
}

/// Proof that a message was signed by a registered device's TEEP Agent.
#[derive(Debug)]
#[must_use]
pub struct FromDevice {
    ueid: Ueid,
    key: PublicKey,
    message: Message,
}

impl FromDevice {
    /// The device.
    #[must_use]
    pub fn ueid(&self) -> &Ueid {
        &self.ueid
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }
}

/// Verifies a message with the TEEP key of the device that its kid names.
///
/// # Errors
/// `NotAuthenticated` for an unknown key and a wrong signature alike.
pub fn verify_message(
    provider: &dyn Provider,
    bytes: &[u8],
    device: Option<&EndorsedDevice>,
) -> Result<FromDevice, TeepDenied> {
    let device = device.ok_or(TeepDenied::NotAuthenticated)?;
    let verified = verify_sign1(provider, bytes, device.teep_key(), b"", None)
        .map_err(|_| TeepDenied::NotAuthenticated)?;
    let message = Message::decode(verified.payload()).map_err(TeepDenied::Teep)?;
    Ok(FromDevice {
        ueid: *device.ueid(),
        key: verified.key().clone(),
        message,
    })
}

/// What the Verifier is to be asked about a QueryResponse: its evidence, under our challenge.
///
/// The nonce is read from evidence that is not verified yet: that it is a challenge of ours is for
/// [`super::challenge::ChallengeKey::check`], that the evidence is authentic for the Verifier.
///
/// # Errors
/// `NoEvidence`.
pub fn appraisal_request(response: &QueryResponse) -> Result<AppraisalRequest, TeepDenied> {
    let attestation = response
        .attestation
        .as_ref()
        .ok_or(TeepDenied::NoEvidence)?;
    let nonce = unverified_nonce(&attestation.payload).ok_or(TeepDenied::NoEvidence)?;
    Ok(AppraisalRequest {
        evidence: attestation.payload.clone(),
        nonce,
        media_type: attestation.format.clone(),
    })
}

/// The one nonce of an EAT, unverified.
fn unverified_nonce(evidence: &[u8]) -> Option<Vec<u8>> {
    use tegata_wire::cbor::{self, Value};
    let mut value = cbor::decode(evidence, 8).ok()?;
    while let Value::Tag(_, inner) = value {
        value = *inner;
    }
    let payload = value
        .into_array()
        .ok()?
        .into_iter()
        .nth(2)?
        .into_bytes()
        .ok()?;
    let claims = EatClaims::decode(&payload).ok()?;
    match claims.eat_nonce.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    }
}

/// Proof that the Verifier affirmed the device whose key signed the message.
#[derive(Debug)]
#[must_use]
pub struct Appraised {
    ueid: Ueid,
    installed: Vec<ReleaseDigest>,
}

impl Appraised {
    /// The device.
    #[must_use]
    pub fn ueid(&self) -> &Ueid {
        &self.ueid
    }

    /// Digests of the manifests the device runs.
    #[must_use]
    pub fn installed(&self) -> &[ReleaseDigest] {
        &self.installed
    }
}

/// Checks the Verifier's result for the message it was asked about.
///
/// # Errors
/// `NotAppraised` with the reason.
pub fn check_result(
    provider: &dyn Provider,
    result: &[u8],
    verifier_keys: &[PublicKey],
    nonce: &[u8],
    from: &FromDevice,
    now: UnixSecs,
) -> Result<Appraised, TeepDenied> {
    check_ear(provider, result, verifier_keys, nonce, from, now).map_err(TeepDenied::NotAppraised)
}

fn check_ear(
    provider: &dyn Provider,
    result: &[u8],
    verifier_keys: &[PublicKey],
    nonce: &[u8],
    from: &FromDevice,
    now: UnixSecs,
) -> Result<Appraised, NotAppraised> {
    let ear = verified_ear(provider, result, verifier_keys)?;
    if ear.eat_nonce.as_deref() != Some(nonce) {
        return Err(NotAppraised::Nonce);
    }
    check_current(&ear, now)?;
    let claims = affirmed(&ear)?;
    if claims.ueid.as_ref() != Some(&from.ueid) {
        return Err(NotAppraised::OtherDevice);
    }
    let kid = ear.cnf.as_ref().and_then(|cnf| cnf.kid.as_deref());
    if kid != Some(from.key.thumbprint().as_slice()) {
        return Err(NotAppraised::OtherKey);
    }
    let installed = claims
        .manifests
        .iter()
        .filter_map(|m| m.as_suit_reference().ok())
        .filter_map(|r| r.digest.to_sha256().ok())
        .map(ReleaseDigest::from)
        .collect();
    Ok(Appraised {
        ueid: from.ueid,
        installed,
    })
}

/// The result inside a COSE_Sign1 of a trusted Verifier.
pub(crate) fn verified_ear(
    provider: &dyn Provider,
    result: &[u8],
    verifier_keys: &[PublicKey],
) -> Result<Ear, NotAppraised> {
    let verified = verify_sign1(provider, result, verifier_keys, b"", None)
        .map_err(NotAppraised::Signature)?;
    Ear::decode(verified.payload()).map_err(NotAppraised::Malformed)
}

/// Refuses a result that has expired, or is of the future.
pub(crate) fn check_current(ear: &Ear, now: UnixSecs) -> Result<(), NotAppraised> {
    let now = i64::try_from(now.0).unwrap_or(i64::MAX);
    let future = ear.iat > now.saturating_add(CLOCK_SLACK_SECS);
    if future || ear.exp.is_none_or(|exp| exp < now) {
        return Err(NotAppraised::Expired);
    }
    Ok(())
}

/// What a result affirms of the device.
pub(crate) fn affirmed(ear: &Ear) -> Result<&EatClaims, NotAppraised> {
    let appraisal = ear.appraisal(EVIDENCE_SUBMODULE);
    if !ear.is_affirming() {
        let mut reasons = appraisal.map(reasons_of).unwrap_or_default();
        if reasons.is_empty() {
            reasons.push("the result is not affirming".to_owned());
        }
        return Err(NotAppraised::NotAffirming(reasons));
    }
    let claims = appraisal.and_then(|a| a.teep_claims.as_ref());
    claims.ok_or(NotAppraised::OtherDevice)
}

/// The TAs that a device asks for.
#[must_use]
pub fn requested_tas(response: &QueryResponse) -> Vec<TaUuid> {
    let list = response.requested_tc_list.as_deref().unwrap_or_default();
    unique(
        list.iter()
            .filter_map(|r| split(&r.component_id))
            .map(|(ta, _)| ta),
    )
}

/// The TAs that a device has.
#[must_use]
pub fn present_tas(response: &QueryResponse) -> Vec<TaUuid> {
    let list = response.tc_list.as_deref().unwrap_or_default();
    unique(
        list.iter()
            .filter_map(|p| split(&p.component_id))
            .map(|(ta, _)| ta),
    )
}

/// The TAs that a device needs no more.
#[must_use]
pub fn unneeded_tas(response: &QueryResponse) -> Vec<TaUuid> {
    let list = response
        .unneeded_manifest_list
        .as_deref()
        .unwrap_or_default();
    unique(list.iter().filter_map(split).map(|(ta, _)| ta))
}

fn unique(tas: impl Iterator<Item = TaUuid>) -> Vec<TaUuid> {
    let mut out: Vec<TaUuid> = Vec::new();
    for ta in tas {
        if !out.contains(&ta) {
            out.push(ta);
        }
    }
    out
}

/// How far the clocks of Verifier and TAM may differ.
const CLOCK_SLACK_SECS: i64 = 60;
