//! Evidence: what this TEE says of itself, signed by its attestation key.
//!
//! Invariants: the security level, the anti-rollback level and what is missing are the platform's
//! own words, never improved; a nonce is always in; the confirmation key is the TEEP key, so that
//! evidence and the message that carries it cannot be of two devices.
//!
//! Deliberately absent: a time of issue (this TEE has no clock it trusts) and a claim about debug
//! state (the software backend cannot know it).
//!
//! Spec: RFC 9711, draft-ietf-teep-protocol section 5 (EAT profile), docs/spec/evidence.md.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_wire::rats::eat::{
    Confirmation, ContentItem, EatClaims, MeasuredComponent, OemId as EatOemId, PROFILE_EVIDENCE,
    Profile, TegataClaims, Version,
};
use tegata_wire::suit::{Reference, SuitDigest};

use crate::platform::{OemId, Platform};
use crate::storage::anti_rollback;
use crate::ta_store::{TaRecord, TaStore};
use crate::tee::{DeviceKeys, TeeError};

/// Makes evidence for a verifier's nonce: an untagged COSE_Sign1 over an EAT claims set.
///
/// # Errors
/// [`TeeError::Nonce`] unless the nonce has 8 to 64 bytes; [`TeeError::TaStore`] if a record of an
/// installed TA was tampered with: evidence is never made without it.
pub fn evidence<P: Platform>(
    platform: &P,
    store: &TaStore<'_, P>,
    keys: &DeviceKeys,
    nonce: &[u8],
) -> Result<Vec<u8>, TeeError> {
    if !(NONCE_MIN_LEN..=NONCE_MAX_LEN).contains(&nonce.len()) {
        return Err(TeeError::Nonce { got: nonce.len() });
    }
    let claims = claims(platform, &store.records()?, keys, nonce)?;
    let claims = claims
        .encode()
        .map_err(|_| TeeError::Encode("claims set"))?;
    // TEEP's EAT profile uses no CBOR tags.
    let headers = Sign1Headers {
        untagged: true,
        ..Sign1Headers::default()
    };
    sign1(&keys.attestation, &claims, &headers, b"", false)
        .map_err(|_| TeeError::Encode("evidence"))
}

fn claims<P: Platform>(
    platform: &P,
    installed: &[TaRecord],
    keys: &DeviceKeys,
    nonce: &[u8],
) -> Result<EatClaims, TeeError> {
    let identity = platform.identity();
    let security = platform.security();
    let mut manifests = Vec::new();
    let mut measurements = Vec::new();
    for record in installed {
        let reference = Reference {
            uri: record.reference_uri.clone(),
            digest: SuitDigest::sha256(tegata_wire::ids::Digest::from(record.release)),
        };
        let item = ContentItem::suit_reference(&reference);
        manifests.push(item.map_err(|_| TeeError::Encode("manifest reference"))?);
        // The TA's UUID names the component, its sequence number is the version.
        let version = Version {
            version: record.sequence_number.to_string(),
            scheme: None,
        };
        let component = MeasuredComponent::sha256(
            &record.id.uuid.to_string(),
            Some(version),
            record.module_digest,
        );
        let item = ContentItem::measured_component(&component);
        measurements.push(item.map_err(|_| TeeError::Encode("measurement"))?);
    }
    let teep_key = tegata_crypto::Signer::public_key(&keys.teep);
    let text = |version: &str| Version {
        version: version.to_string(),
        scheme: None,
    };
    Ok(EatClaims {
        cnf: Some(Confirmation {
            cose_key: Some(teep_key.to_cose_key_value()),
            kid: Some(teep_key.thumbprint().to_vec()),
            other: Vec::new(),
        }),
        eat_nonce: vec![nonce.to_vec()],
        ueid: Some(identity.ueid),
        oemid: Some(oemid(&identity.oemid)?),
        hwmodel: Some(identity.hwmodel.clone()),
        hwversion: Some(text(&identity.hwversion)),
        uptime: Some(platform.system_time_ms() / 1000),
        eat_profile: Some(Profile::Uri(PROFILE_EVIDENCE.to_string())),
        swname: Some(SOFTWARE_NAME.to_string()),
        swversion: Some(text(&security.version)),
        manifests,
        measurements,
        tegata: TegataClaims {
            security_level: Some(security.level.name().to_string()),
            anti_rollback_level: Some(anti_rollback(platform).level()),
            storage_root: Some(security.storage_root.clone()),
            missing: Some(security.missing.clone()),
        },
        ..EatClaims::default()
    })
}

fn oemid(oemid: &OemId) -> Result<EatOemId, TeeError> {
    match oemid {
        OemId::Pen(pen) => Ok(EatOemId::Pen(*pen)),
        OemId::Bytes(bytes) => match (<[u8; 3]>::try_from(bytes.as_slice()), bytes.as_slice()) {
            (Ok(oui), _) => Ok(EatOemId::Ieee(oui)),
            (Err(_), random) => {
                let random = <[u8; 16]>::try_from(random);
                Ok(EatOemId::Random(
                    random.map_err(|_| TeeError::Encode("oemid"))?,
                ))
            }
        },
    }
}

/// Name of the TEE's software in evidence.
pub const SOFTWARE_NAME: &str = "tegata-tee";

/// Shortest nonce in bytes. Spec: RFC 9711 section 4.1.
pub const NONCE_MIN_LEN: usize = 8;

/// Longest nonce in bytes. Spec: RFC 9711 section 4.1.
pub const NONCE_MAX_LEN: usize = 64;
