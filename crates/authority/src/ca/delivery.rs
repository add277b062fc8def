//! What the CA gives the TAM for one device: all of it signed, or encrypted to that device.
//!
//! Spec: docs/spec/delivery.md

use tegata_crypto::cose::{CoseError, verify_sign1};
use tegata_crypto::csr_auth::device_csr_auth_key;
use tegata_crypto::suit::{SuitError, encryption_info_ecdh_es, generate_cek, seal_payload};
use tegata_crypto::{CryptoError, Provider, PublicKey, Rng, Signer};
use tegata_wire::enrolment::{Delivery, DeliveryRequest, EnrolmentError, PersonalizationData};
use tegata_wire::ids::{DeviceUuid, ReleaseDigest, Ueid};

use super::release::{ReleaseError, ReleaseRecord, ReleaseSecrets, config_envelope};
use crate::UnixSecs;
use crate::factory::EndorsedDevice;
use crate::suit_names::TaNames;
use crate::tam::availability::{Availability, Candidate};
use tegata_wire::ids::TaUuid;

/// A request that a trusted TAM signed a moment ago.
#[derive(Debug)]
#[must_use]
pub struct DeliveryAsked {
    request: DeliveryRequest,
}

impl DeliveryAsked {
    /// The release asked for.
    #[must_use]
    pub fn release(&self) -> &ReleaseDigest {
        &self.request.release_digest
    }

    /// The device it is for.
    #[must_use]
    pub fn ueid(&self) -> &Ueid {
        &self.request.ueid
    }
}

/// The release at the CA.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseView<'a> {
    /// Its digest.
    pub digest: &'a ReleaseDigest,
    /// The TA.
    pub ta: &'a TaUuid,
    /// Its sequence number.
    pub sequence: u64,
    /// Its record.
    pub record: &'a ReleaseRecord,
    /// Its secrets.
    pub secrets: &'a ReleaseSecrets,
    /// Who may get it at all.
    pub availability: &'a Availability,
}

/// Why nothing is delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryDenied {
    /// Not signed by a TAM that is trusted here.
    #[error("the request is not signed by a TAM that is trusted here: {0}")]
    Untrusted(CoseError),
    /// The signed bytes are not a request.
    #[error("the request is malformed: {0}")]
    Malformed(EnrolmentError),
    /// Signed too long ago, or in the future.
    #[error("the request was signed at {signed_at}, now it is {now}: too far apart")]
    Stale {
        /// When it was signed, seconds since 1970.
        signed_at: u64,
        /// Now, seconds since 1970.
        now: u64,
    },
    /// No such release.
    #[error("there is no such release")]
    UnknownRelease,
    /// No such device.
    #[error("there is no such device")]
    UnknownDevice,
    /// The device has no TEE of ours, and so no key that could be encrypted to.
    #[error("the device has no TEE of ours: it has a PSA Root of Trust, and takes no deliveries")]
    NoTee,
    /// A release of the paper profile: the TAM delivers it itself.
    #[error("the release is of the paper profile, which the TAM delivers itself")]
    Paper,
    /// The release is not for this device.
    #[error("the release is not available to this device")]
    NotAvailable,
    /// It cannot be made.
    #[error("the delivery cannot be made: {0}")]
    Release(#[from] ReleaseError),
    /// It cannot be encrypted.
    #[error("the delivery cannot be encrypted: {0}")]
    Suit(#[from] SuitError),
    /// A key or the random generator failed.
    #[error("a key or the random generator failed: {0}")]
    Crypto(#[from] CryptoError),
}

impl DeliveryDenied {
    /// Stable label for metrics, logs and problem reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Untrusted(_) => "untrusted",
            Self::Malformed(_) => "malformed",
            Self::Stale { .. } => "stale",
            Self::UnknownRelease => "unknown-release",
            Self::UnknownDevice => "unknown-device",
            Self::NoTee => "no-tee",
            Self::Paper => "paper-profile",
            Self::NotAvailable => "not-available",
            Self::Release(_) | Self::Suit(_) | Self::Crypto(_) => "failed",
        }
    }
}

/// Verifies a TAM's request.
///
/// # Errors
/// `Untrusted`, `Malformed` or `Stale`.
pub fn verify_request(
    provider: &dyn Provider,
    bytes: &[u8],
    tam_keys: &[PublicKey],
    now: UnixSecs,
) -> Result<DeliveryAsked, DeliveryDenied> {
    let verified =
        verify_sign1(provider, bytes, tam_keys, b"", None).map_err(DeliveryDenied::Untrusted)?;
    let request = DeliveryRequest::decode(verified.payload()).map_err(DeliveryDenied::Malformed)?;
    let signed_at = request.issued_at_secs;
    if now.0.abs_diff(signed_at) > REQUEST_AGE_SECS_MAX {
        return Err(DeliveryDenied::Stale {
            signed_at,
            now: now.0,
        });
    }
    Ok(DeliveryAsked { request })
}

/// Makes the delivery for the registered device, and for its factory-endorsed key alone.
///
/// # Errors
/// Why this device gets nothing.
pub fn deliver(
    provider: &dyn Provider,
    rng: &mut dyn Rng,
    asked: DeliveryAsked,
    release: Option<ReleaseView<'_>>,
    device: Option<&EndorsedDevice>,
    release_key: &dyn Signer,
) -> Result<Delivery, DeliveryDenied> {
    let release = release
        .filter(|r| r.digest == asked.release())
        .ok_or(DeliveryDenied::UnknownRelease)?;
    let device = device
        .filter(|d| d.ueid() == asked.ueid())
        .ok_or(DeliveryDenied::UnknownDevice)?;
    if release.record.paper {
        return Err(DeliveryDenied::Paper);
    }
    let model = device.model();
    let candidate = Candidate {
        ueid: device.ueid(),
        batch: device.batch(),
        model: &model,
    };
    if !release
        .availability
        .allows(provider, release.digest, &candidate)
    {
        return Err(DeliveryDenied::NotAvailable);
    }
    let ueid = device.ueid();
    let csr_auth_key = device_csr_auth_key(
        provider,
        &release.secrets.master,
        release.digest.as_bytes(),
        ueid.as_bytes(),
    )?;
    let config =
        PersonalizationData::for_device(csr_auth_key.expose_secret(), release.digest, ueid)
            .encode()
            .map_err(ReleaseError::from)?;
    let names = TaNames {
        name: &release.record.ta_name,
        ta: *release.ta,
        sequence: release.sequence,
    };
    let uuid = DeviceUuid::derive(ueid);
    let config_envelope = config_envelope(provider, &names, Some(&uuid), &config, release_key)?;
    // The configuration has a content key of its own: the TA's is the same for all devices.
    let config_cek = generate_cek(rng)?;
    let (config_ciphertext, config_iv) = seal_payload(provider, rng, &config_cek, &config)?;
    let ta_iv = <[u8; 12]>::try_from(release.record.ta_iv.as_slice())
        .map_err(|_| CryptoError::Unreachable("length of a recorded nonce"))?;
    let key = device.delivery_key();
    Ok(Delivery {
        ta_encryption_info: encryption_info_ecdh_es(
            provider,
            rng,
            key,
            &release.secrets.cek,
            &ta_iv,
        )?,
        config_envelope,
        config_encryption_info: encryption_info_ecdh_es(
            provider,
            rng,
            key,
            &config_cek,
            &config_iv,
        )?,
        config_ciphertext,
    })
}

/// How far the clocks of TAM and CA may differ, and how long a captured request is good for: what
/// it could get is encrypted to the device anyway.
const REQUEST_AGE_SECS_MAX: u64 = 300;
