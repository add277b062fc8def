//! Taking in devices that made their keys themselves.
//!
//! Invariants: only a [`VerifiedReport`] becomes a device of a batch, so each key in the manifest
//! is held by whoever reported it; a device and a key occur once; no secret is seen here.

use std::collections::BTreeSet;

use tegata_crypto::Signer;
use tegata_crypto::provisioning::{VerifiedReport, sign_record};
use tegata_wire::device::DeviceRecord;
use tegata_wire::enrolment::{DeviceEndorsement, FactoryManifest, MAX_FACTORY_DEVICES};
use tegata_wire::ids::Ueid;

use super::{BatchSpec, FactoryError, identity};
use crate::UnixSecs;

/// Whom the devices of a batch are to believe, and where they begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchors {
    /// Keys that may sign TA releases, each an encoded COSE_Key.
    pub release_keys: Vec<Vec<u8>>,
    /// Keys that may sign TEEP messages, each an encoded COSE_Key.
    pub tam_keys: Vec<Vec<u8>>,
    /// The TAM that they contact unless a broker knows better.
    pub tam_uri: Option<String>,
}

/// A batch that was taken in.
#[derive(Debug)]
pub struct AdoptedBatch {
    /// For the servers, to be signed with [`super::sign_manifest`].
    pub manifest: FactoryManifest,
    /// For the devices, in the order of the manifest: each one's record, signed.
    pub records: Vec<(Ueid, Vec<u8>)>,
}

/// Endorses devices that reported themselves, and signs for each who it is and whom it believes.
///
/// # Errors
/// A device or a key that occurs twice, more devices than a manifest holds, what cannot be
/// described, or the key's failure.
pub fn adopt_devices(
    spec: &BatchSpec,
    reports: Vec<VerifiedReport>,
    anchors: &Anchors,
    factory: &dyn Signer,
    now: UnixSecs,
) -> Result<AdoptedBatch, FactoryError> {
    if reports.len() > MAX_FACTORY_DEVICES {
        return Err(FactoryError::TooMany);
    }
    let mut devices = Vec::with_capacity(reports.len());
    let mut records = Vec::with_capacity(reports.len());
    let (mut ueids, mut kids) = (BTreeSet::new(), BTreeSet::new());
    for (number, report) in (spec.first_number..).zip(reports) {
        let ueid = *report.ueid();
        if !ueids.insert(ueid) {
            return Err(FactoryError::RepeatedDevice(ueid));
        }
        let keys = [
            report.attestation_key(),
            report.teep_key(),
            report.delivery_key(),
        ];
        if !keys.into_iter().all(|key| kids.insert(key.thumbprint())) {
            return Err(FactoryError::RepeatedKey);
        }
        let identity = identity(ueid, spec, number)?;
        let record = DeviceRecord {
            identity: identity.clone(),
            release_keys: anchors.release_keys.clone(),
            tam_keys: anchors.tam_keys.clone(),
            tam_uri: anchors.tam_uri.clone(),
            made_at_secs: now.0,
        };
        let record = sign_record(&record, factory)
            .map_err(|source| FactoryError::Record { ueid, source })?;
        records.push((ueid, record));
        let [attestation_key, teep_key, delivery_key] = keys;
        devices.push(DeviceEndorsement {
            identity,
            attestation_key: attestation_key.to_cose_key()?,
            teep_key: teep_key.to_cose_key()?,
            delivery_key: delivery_key.to_cose_key()?,
            security_level: spec.security_level.clone(),
        });
    }
    let manifest = FactoryManifest {
        batch: spec.batch.clone(),
        maker: spec.maker.clone(),
        made_at_secs: now.0,
        devices,
    };
    manifest.encode()?;
    Ok(AdoptedBatch { manifest, records })
}
