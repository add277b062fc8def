//! The two messages between a device with a hardware TEE and its factory, signed and verified.
//!
//! Invariants: a [`VerifiedReport`] was signed by the attestation key that it names, so whoever
//! sent it holds that key, and its three keys are usable and distinct. A [`VerifiedRecord`] was
//! signed by a trusted factory key for exactly the device that asked. Each message is signed over a
//! context of its own ([`REPORT_AAD`], [`RECORD_AAD`]): neither can pass as the other, as evidence,
//! or as a factory manifest.
//!
//! Not claimed: a report proves no hardware. That it comes from a device and not from an emulator
//! is what the factory sees with its own eyes.
//!
//! Spec: docs/spec/device-record.md.

use alloc::vec::Vec;

use tegata_wire::cose::UnverifiedSign1;
use tegata_wire::device::{
    DeviceFileError, DeviceRecord, DeviceReport, RECORD_LEN_BYTES_MAX, REPORT_LEN_BYTES_MAX,
};
use tegata_wire::ids::Ueid;

use crate::cose::{CoseError, Keys, Sign1Headers, sign1, verify_sign1};
use crate::{CryptoError, KeyAlg, Provider, PublicKey, Signer};

/// External AAD of a report's signature.
pub const REPORT_AAD: &[u8] = b"tegata device report v1";
/// External AAD of a record's signature.
pub const RECORD_AAD: &[u8] = b"tegata device record v1";

/// Why a report or a record is refused or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisioningError {
    /// Longer than one can be.
    #[error("{got} bytes; a {what} has at most {max}")]
    TooLong {
        /// Which message.
        what: &'static str,
        /// Allowed length in bytes.
        max: usize,
        /// Length found, in bytes.
        got: usize,
    },
    /// Not a COSE_Sign1 with its payload inside.
    #[error("not a signed {0}")]
    Form(&'static str),
    /// The signature is not that of the key it must be of.
    #[error("the signature is not right: {0}")]
    Signature(CoseError),
    /// The signed content is not what it should be.
    #[error("the signed content is not usable: {0}")]
    Content(#[from] DeviceFileError),
    /// A key inside cannot be used.
    #[error("its {what} cannot be used: {source}")]
    Key {
        /// Which key.
        what: &'static str,
        /// Why.
        source: CryptoError,
    },
    /// One key has two purposes.
    #[error("one key serves two purposes")]
    RepeatedKey,
    /// The record is for another device.
    #[error("the record is for device {named}; this is device {own}")]
    OtherDevice {
        /// The device that the record names.
        named: Ueid,
        /// The device that asks.
        own: Ueid,
    },
    /// The signing key failed.
    #[error("cannot be signed: {0}")]
    Sign(CoseError),
}

/// What a device said of itself, signed by the attestation key inside.
#[derive(Debug)]
#[must_use]
pub struct VerifiedReport {
    report: DeviceReport,
    attestation_key: PublicKey,
    teep_key: PublicKey,
    delivery_key: PublicKey,
    digest: [u8; 32],
}

impl VerifiedReport {
    /// The device.
    pub fn ueid(&self) -> &Ueid {
        &self.report.ueid
    }

    /// Key of its evidence; signed the report.
    pub fn attestation_key(&self) -> &PublicKey {
        &self.attestation_key
    }

    /// Key of its TEEP messages.
    pub fn teep_key(&self) -> &PublicKey {
        &self.teep_key
    }

    /// Key that deliveries are encrypted to; always P-256.
    pub fn delivery_key(&self) -> &PublicKey {
        &self.delivery_key
    }

    /// Version of its TEE.
    pub fn tee_version(&self) -> &str {
        &self.report.tee_version
    }

    /// SHA-256 of the signed report, for the station's log.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

/// The factory's word for the device that asked.
#[derive(Debug)]
#[must_use]
pub struct VerifiedRecord {
    record: DeviceRecord,
}

impl VerifiedRecord {
    /// Who the device is, and whom it believes.
    pub fn record(&self) -> &DeviceRecord {
        &self.record
    }

    /// The same, by value.
    pub fn into_record(self) -> DeviceRecord {
        self.record
    }
}

/// Signs a report; `attestation` must be the key that it names.
///
/// # Errors
/// [`ProvisioningError`]: a field outside its limits, another key, or the key's failure.
pub fn sign_report(
    report: &DeviceReport,
    attestation: &dyn Signer,
) -> Result<Vec<u8>, ProvisioningError> {
    let named = key(&report.attestation_key, "attestation key")?;
    if named != *attestation.public_key() {
        return Err(ProvisioningError::Signature(CoseError::UnknownKey));
    }
    let payload = report.encode()?;
    let headers = Sign1Headers::default();
    sign1(attestation, &payload, &headers, REPORT_AAD, false).map_err(ProvisioningError::Sign)
}

/// Verifies a report with the key that it names.
///
/// # Errors
/// [`ProvisioningError`] unless that key signed it and its three keys are usable and distinct.
pub fn verify_report(
    provider: &dyn Provider,
    bytes: &[u8],
) -> Result<VerifiedReport, ProvisioningError> {
    let what = "device report";
    check_len(bytes, what, REPORT_LEN_BYTES_MAX)?;
    // The key is read from what is not authentic yet: a signature by it is the very proof.
    let alleged = UnverifiedSign1::decode(bytes).map_err(|_| ProvisioningError::Form(what))?;
    let payload = alleged
        .unverified_payload()
        .ok_or(ProvisioningError::Form(what))?;
    let alleged = DeviceReport::decode(payload)?;
    let attestation_key = key(&alleged.attestation_key, "attestation key")?;
    let verified = verify_sign1(provider, bytes, &attestation_key, REPORT_AAD, None)
        .map_err(ProvisioningError::Signature)?;
    let report = DeviceReport::decode(verified.payload())?;
    let attestation_key = key(&report.attestation_key, "attestation key")?;
    if attestation_key != *verified.key() {
        return Err(ProvisioningError::Signature(CoseError::UnknownKey));
    }
    let teep_key = key(&report.teep_key, "TEEP key")?;
    let delivery_key = key(&report.delivery_key, "delivery key")?;
    if delivery_key.alg() != KeyAlg::P256 {
        return Err(ProvisioningError::Key {
            what: "delivery key",
            source: CryptoError::InvalidKey("not a P-256 key"),
        });
    }
    if attestation_key == teep_key || attestation_key == delivery_key || teep_key == delivery_key {
        return Err(ProvisioningError::RepeatedKey);
    }
    Ok(VerifiedReport {
        report,
        attestation_key,
        teep_key,
        delivery_key,
        digest: provider.sha256(bytes),
    })
}

/// Signs a record with the factory key.
///
/// # Errors
/// [`ProvisioningError`]: a field outside its limits, more bytes than a device takes, or the key's
/// failure.
pub fn sign_record(
    record: &DeviceRecord,
    factory: &dyn Signer,
) -> Result<Vec<u8>, ProvisioningError> {
    let payload = record.encode()?;
    let headers = Sign1Headers::default();
    let bytes =
        sign1(factory, &payload, &headers, RECORD_AAD, false).map_err(ProvisioningError::Sign)?;
    check_len(&bytes, "device record", RECORD_LEN_BYTES_MAX)?;
    Ok(bytes)
}

/// Verifies a record with a trusted factory key, for the device `own`.
///
/// # Errors
/// [`ProvisioningError`] unless one of `factory_keys` signed it for `own`.
pub fn verify_record(
    provider: &dyn Provider,
    bytes: &[u8],
    factory_keys: &(impl Keys + ?Sized),
    own: &Ueid,
) -> Result<VerifiedRecord, ProvisioningError> {
    check_len(bytes, "device record", RECORD_LEN_BYTES_MAX)?;
    let verified = verify_sign1(provider, bytes, factory_keys, RECORD_AAD, None)
        .map_err(ProvisioningError::Signature)?;
    let record = DeviceRecord::decode(verified.payload())?;
    if record.identity.ueid != *own {
        return Err(ProvisioningError::OtherDevice {
            named: record.identity.ueid,
            own: *own,
        });
    }
    Ok(VerifiedRecord { record })
}

fn check_len(bytes: &[u8], what: &'static str, max: usize) -> Result<(), ProvisioningError> {
    if bytes.len() > max {
        let got = bytes.len();
        return Err(ProvisioningError::TooLong { what, max, got });
    }
    Ok(())
}

fn key(bytes: &[u8], what: &'static str) -> Result<PublicKey, ProvisioningError> {
    PublicKey::from_cose_key(bytes).map_err(|source| ProvisioningError::Key { what, source })
}
