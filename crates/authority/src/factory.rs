//! The factory station and the factory's word: making devices, and believing who made them.
//!
//! Invariants: a device's secrets exist here only between [`make_devices`] and the file they are
//! written into; what the servers get is the signed manifest with public halves. A registry holds
//! only [`EndorsedDevice`]s, which [`verify_manifest`] alone makes from outside bytes.
//!
//! Trusted: who holds a factory key can create devices, and only that.

use tegata_crypto::cose::{CoseError, Sign1Headers, sign1, verify_sign1};
use tegata_crypto::device_keys::{
    attestation_key, delivery_ecdh_key, delivery_kek, software_derive, teep_key,
};
use tegata_crypto::provisioning::ProvisioningError;
use tegata_crypto::{CryptoError, KeyAlg, Provider, PublicKey, Rng, Secret, Signer};
use tegata_wire::device::{DeviceIdentity, Oem};
use tegata_wire::enrolment::{
    DeliveryKeks, DeviceEndorsement, EnrolmentError, FactoryManifest, Identity, MAX_FACTORY_DEVICES,
};
use tegata_wire::ids::{ClassId, Ueid, VendorId};

use crate::UnixSecs;

mod adopt;

pub use adopt::{AdoptedBatch, Anchors, adopt_devices};

/// What a batch of devices has in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSpec {
    /// Name of the batch, 1 to 128 bytes. Like all names here it has no control characters, and no space at its ends.
    pub batch: String,
    /// Name of the maker, 1 to 128 bytes.
    pub maker: String,
    /// The maker's Internet domain; the SUIT vendor identifier comes from it.
    pub vendor_domain: String,
    /// The maker's number.
    pub oemid: Oem,
    /// Model, 1 to 32 bytes of UTF-8.
    pub model: String,
    /// Hardware version, up to 32 bytes.
    pub hwversion: String,
    /// What serial numbers begin with; six or more digits follow.
    pub serial_prefix: String,
    /// Number of the first device.
    pub first_number: u64,
    /// Whether devices have a modem: then each gets an IMEI under this 8-digit type code.
    pub imei_type_code: Option<u32>,
    /// Whether devices have a network interface: then each gets a locally administered address.
    pub with_mac: bool,
    /// What kind of wall stands around the TEE, for example `software`.
    pub security_level: String,
}

/// The secret of one device, to be written into it and nowhere else.
pub struct DeviceSecret {
    /// Who it is.
    pub identity: DeviceIdentity,
    /// Its `TeeKey`.
    pub tee_key: Secret<[u8; 32]>,
}

/// A batch as it leaves the line.
pub struct MadeBatch {
    /// For the servers, to be signed with [`sign_manifest`].
    pub manifest: FactoryManifest,
    /// For the devices, in the order of the manifest.
    pub secrets: Vec<DeviceSecret>,
    /// For the TAM of the paper's profile: the symmetric delivery keys.
    pub keks: DeliveryKeks,
}

/// Why a batch cannot be made or believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FactoryError {
    /// More devices than one manifest holds.
    #[error("a batch has at most {MAX_FACTORY_DEVICES} devices; make several batches")]
    TooMany,
    /// A name that people could not tell from another.
    #[error("the {0} begins or ends with a space, or has a tab or another control character in it")]
    Name(&'static str),
    /// An IMEI type code that is not of eight digits.
    #[error("an IMEI type code has eight digits, for example 35175605")]
    TypeCode,
    /// Two reports are of one device.
    #[error("device {0} is reported twice: give each report once")]
    RepeatedDevice(Ueid),
    /// Two devices of the batch share a key, or a key is used for two purposes.
    #[error("two keys of the batch are the same")]
    RepeatedKey,
    /// A key that is not what it is for.
    #[error("the {0} of a device cannot be used")]
    Key(&'static str),
    /// A name or number outside its limits.
    #[error("the batch cannot be described: {0}")]
    Enrolment(#[from] EnrolmentError),
    /// A device's record cannot be written.
    #[error("the record of device {ueid} cannot be made: {source}")]
    Record {
        /// The device.
        ueid: Ueid,
        /// Why.
        source: ProvisioningError,
    },
    /// Not signed by a trusted factory key.
    #[error("the manifest is not signed by a factory key that is trusted here: {0}")]
    Untrusted(CoseError),
    /// The manifest cannot be signed.
    #[error("the manifest cannot be signed: {0}")]
    Sign(CoseError),
    /// A key or the random generator failed.
    #[error("a key or the random generator failed: {0}")]
    Crypto(#[from] CryptoError),
}

/// Makes `count` devices: identities, keys, and the manifest that endorses them.
///
/// # Errors
/// What cannot be described, or a failing generator.
pub fn make_devices(
    provider: &dyn Provider,
    rng: &mut dyn Rng,
    spec: &BatchSpec,
    count: usize,
    now: UnixSecs,
) -> Result<MadeBatch, FactoryError> {
    if count > MAX_FACTORY_DEVICES {
        return Err(FactoryError::TooMany);
    }
    let mut devices = Vec::with_capacity(count);
    let mut secrets = Vec::with_capacity(count);
    let mut keks = DeliveryKeks::new();
    for number in (spec.first_number..).take(count) {
        let mut random = [0; 16];
        rng.fill(&mut random)?;
        let identity = identity(Ueid::from_random(random), spec, number)?;
        let mut tee_key = Secret::new([0; 32]);
        rng.fill(tee_key.expose_secret_mut())?;
        let derive =
            |label: &str, context: &[u8]| software_derive(provider, &tee_key, label, context);
        keks.insert(identity.ueid, delivery_kek(&derive)?.expose_secret());
        devices.push(DeviceEndorsement {
            identity: identity.clone(),
            attestation_key: attestation_key(provider, &derive)?
                .public_key()
                .to_cose_key()?,
            teep_key: teep_key(provider, &derive)?.public_key().to_cose_key()?,
            delivery_key: delivery_ecdh_key(provider, &derive)?
                .public_key()
                .to_cose_key()?,
            security_level: spec.security_level.clone(),
        });
        secrets.push(DeviceSecret { identity, tee_key });
    }
    let manifest = FactoryManifest {
        batch: spec.batch.clone(),
        maker: spec.maker.clone(),
        made_at_secs: now.0,
        devices,
    };
    manifest.encode()?;
    Ok(MadeBatch {
        manifest,
        secrets,
        keks,
    })
}

/// Signs a manifest with the factory key (COSE_Sign1).
///
/// # Errors
/// The key's failure.
pub fn sign_manifest(
    manifest: &FactoryManifest,
    factory: &dyn Signer,
) -> Result<Vec<u8>, FactoryError> {
    sign1(
        factory,
        &manifest.encode()?,
        &Sign1Headers::default(),
        b"",
        false,
    )
    .map_err(FactoryError::Sign)
}

/// Who device `number` of a batch is.
fn identity(ueid: Ueid, spec: &BatchSpec, number: u64) -> Result<DeviceIdentity, FactoryError> {
    for (what, name) in [
        ("name of the batch", &spec.batch),
        ("name of the maker", &spec.maker),
        ("model", &spec.model),
        ("hardware version", &spec.hwversion),
    ] {
        if name.trim() != name || name.chars().any(char::is_control) {
            return Err(FactoryError::Name(what));
        }
    }
    let vendor = VendorId::derive(&spec.vendor_domain);
    Ok(DeviceIdentity {
        ueid,
        serial: format!("{}{number:06}", spec.serial_prefix),
        oemid: spec.oemid.clone(),
        hwmodel: spec.model.as_bytes().to_vec(),
        hwversion: spec.hwversion.clone(),
        imei: spec
            .imei_type_code
            .map(|code| imei(code, number))
            .transpose()?,
        mac: spec.with_mac.then(|| mac(number)),
        vendor_ids: vec![vendor.0],
        class_ids: vec![ClassId::derive(&vendor, &spec.model).0],
    })
}

/// Type code, six digits of the number, and the check digit of Luhn's formula.
///
/// Spec: 3GPP TS 23.003 section 6.2.1 and annex B
fn imei(type_code: u32, number: u64) -> Result<String, FactoryError> {
    if !(10_000_000..100_000_000).contains(&type_code) {
        return Err(FactoryError::TypeCode);
    }
    let body = format!("{type_code}{:06}", number % 1_000_000);
    let sum: u32 = body
        .chars()
        .filter_map(|c| c.to_digit(10))
        .enumerate()
        .map(|(i, d)| {
            if i % 2 == 0 {
                d
            } else {
                d * 2 / 10 + d * 2 % 10
            }
        })
        .sum();
    Ok(format!("{body}{}", (10 - sum % 10) % 10))
}

/// A locally administered unicast address with the device's number.
fn mac(number: u64) -> [u8; 6] {
    let [_, _, _, b3, b4, b5, b6, b7] = number.to_be_bytes();
    [0x02, b3, b4, b5, b6, b7]
}

/// A device that a trusted factory key endorses.
///
/// Made from a manifest by [`verify_manifest`], or from the registry's own record.
#[derive(Debug, Clone)]
pub struct EndorsedDevice {
    endorsement: DeviceEndorsement,
    batch: String,
    maker: String,
    made_at_secs: u64,
    attestation_key: PublicKey,
    teep_key: PublicKey,
    delivery_key: PublicKey,
}

/// A batch that a trusted factory key endorses.
#[derive(Debug)]
#[must_use]
pub struct EndorsedBatch {
    /// SHA-256 of the signed manifest.
    pub digest: [u8; 32],
    /// Name of the batch.
    pub batch: String,
    /// Name of the maker.
    pub maker: String,
    /// When it was made, seconds since 1970.
    pub made_at_secs: u64,
    /// Thumbprint of the factory key.
    pub factory_kid: [u8; 32],
    devices: Vec<EndorsedDevice>,
}

impl EndorsedBatch {
    /// The devices.
    #[must_use]
    pub fn devices(&self) -> &[EndorsedDevice] {
        &self.devices
    }
}

/// Verifies a factory's manifest and every key in it.
///
/// # Errors
/// `Untrusted` unless one of `factory_keys` signed it; else what is wrong in it.
pub fn verify_manifest(
    provider: &dyn Provider,
    bytes: &[u8],
    factory_keys: &[PublicKey],
) -> Result<EndorsedBatch, FactoryError> {
    let verified =
        verify_sign1(provider, bytes, factory_keys, b"", None).map_err(FactoryError::Untrusted)?;
    let factory_kid = verified.key().thumbprint();
    let manifest = FactoryManifest::decode(verified.payload())?;
    let digest = provider.sha256(bytes);
    let (batch, maker, made_at_secs) = (
        manifest.batch.clone(),
        manifest.maker.clone(),
        manifest.made_at_secs,
    );
    let devices = manifest
        .devices
        .into_iter()
        .map(|d| EndorsedDevice::new(d, &batch, &maker, made_at_secs))
        .collect::<Result<Vec<_>, _>>()?;
    let mut kids: Vec<[u8; 32]> = devices.iter().flat_map(|d| d.kids()).collect();
    kids.sort_unstable();
    if kids.windows(2).any(|w| matches!(w, [a, b] if a == b)) {
        return Err(FactoryError::RepeatedKey);
    }
    Ok(EndorsedBatch {
        digest,
        batch,
        maker,
        made_at_secs,
        factory_kid,
        devices,
    })
}

impl EndorsedDevice {
    fn new(
        endorsement: DeviceEndorsement,
        batch: &str,
        maker: &str,
        made_at_secs: u64,
    ) -> Result<Self, FactoryError> {
        let key = |bytes: &[u8], what| {
            PublicKey::from_cose_key(bytes).map_err(|_| FactoryError::Key(what))
        };
        let attestation_key = key(&endorsement.attestation_key, "attestation key")?;
        let teep_key = key(&endorsement.teep_key, "TEEP key")?;
        let delivery_key = key(&endorsement.delivery_key, "delivery key")?;
        if delivery_key.alg() != KeyAlg::P256 {
            return Err(FactoryError::Key("delivery key"));
        }
        Ok(Self {
            endorsement,
            batch: batch.to_owned(),
            maker: maker.to_owned(),
            made_at_secs,
            attestation_key,
            teep_key,
            delivery_key,
        })
    }

    /// The registry's record of this device.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_record(&self) -> Result<Vec<u8>, FactoryError> {
        let one = FactoryManifest {
            batch: self.batch.clone(),
            maker: self.maker.clone(),
            made_at_secs: self.made_at_secs,
            devices: vec![self.endorsement.clone()],
        };
        Ok(one.encode()?)
    }

    /// From the registry's own record; never from outside bytes.
    ///
    /// # Errors
    /// If the record was damaged.
    pub fn from_own_record(bytes: &[u8]) -> Result<Self, FactoryError> {
        let mut one = FactoryManifest::decode(bytes)?;
        let device = one.devices.pop().ok_or(FactoryError::Key("record"))?;
        Self::new(device, &one.batch, &one.maker, one.made_at_secs)
    }

    /// Its name for life.
    #[must_use]
    pub fn ueid(&self) -> &Ueid {
        &self.endorsement.identity.ueid
    }

    /// Who it is, as the factory fixed it.
    #[must_use]
    pub fn hardware(&self) -> &DeviceIdentity {
        &self.endorsement.identity
    }

    /// Who it is, in the form certificates use.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::from(&self.endorsement.identity)
    }

    /// Model as text; bytes that are no text are in hexadecimal.
    #[must_use]
    pub fn model(&self) -> String {
        let bytes = &self.endorsement.identity.hwmodel;
        String::from_utf8(bytes.clone()).unwrap_or_else(|_| hex::encode(bytes))
    }

    /// Name of its batch.
    #[must_use]
    pub fn batch(&self) -> &str {
        &self.batch
    }

    /// Key of its evidence.
    #[must_use]
    pub fn attestation_key(&self) -> &PublicKey {
        &self.attestation_key
    }

    /// Key of its TEEP messages.
    #[must_use]
    pub fn teep_key(&self) -> &PublicKey {
        &self.teep_key
    }

    /// Key that deliveries are encrypted to.
    #[must_use]
    pub fn delivery_key(&self) -> &PublicKey {
        &self.delivery_key
    }

    /// What kind of wall the factory says stands around its TEE.
    #[must_use]
    pub fn security_level(&self) -> &str {
        &self.endorsement.security_level
    }

    /// Thumbprints of its three keys: none of them may become a certificate's key.
    #[must_use]
    pub fn kids(&self) -> [[u8; 32]; 3] {
        [
            self.attestation_key.thumbprint(),
            self.teep_key.thumbprint(),
            self.delivery_key.thumbprint(),
        ]
    }
}

#[cfg(test)]
mod tests;
