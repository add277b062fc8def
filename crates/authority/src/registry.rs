//! The registry's devices, by whose word each is there.
//!
//! A device with our TEE is there by its factory's signed manifest ([`EndorsedDevice`]). A device with a
//! PSA Root of Trust is there by the operator's word: somebody said at the CA's machine that this
//! Initial Attestation Key is that of this model and serial number ([`PsaDevice`]).
//!
//! Invariants: what a device has not, nobody finds in it: a PSA device has no TEEP key and no delivery
//! key, so it takes part in neither.
//!
//! Trusted: who registers a PSA device chooses the key that speaks for a model and serial number.

use serde::{Deserialize, Serialize};
use tegata_crypto::{KeyAlg, Provider, PublicKey};
use tegata_wire::cbor;
use tegata_wire::enrolment::Identity;
use tegata_wire::ids::Ueid;
use tegata_wire::rats::psa;

use crate::factory::{EndorsedDevice, FactoryError};

/// A device of the registry.
#[derive(Debug, Clone)]
pub enum KnownDevice {
    /// With our TEE, by a factory's word.
    Tee(Box<EndorsedDevice>),
    /// With a PSA Root of Trust, by the operator's word.
    Psa(Box<PsaDevice>),
}

/// What the operator says of a device with a PSA Root of Trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPsaDevice {
    /// Public half of its Initial Attestation Key, P-256 or P-384.
    pub iak: PublicKey,
    /// Its instance id, 33 bytes; `None`: 0x01 and SHA-256 of the key, as PSA implementations have it.
    pub instance_id: Option<Vec<u8>>,
    /// The implementation that its tokens name.
    pub implementation_id: [u8; 32],
    /// Hardware model, 1 to 32 bytes.
    pub model: String,
    /// Serial number, 1 to 64 bytes.
    pub serial: String,
    /// Name of the batch that it is counted to, 1 to 128 bytes.
    pub batch: String,
}

/// A device with a PSA Root of Trust, as the operator registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PsaDevice {
    record: Record,
    ueid: Ueid,
    iak: PublicKey,
}

/// Why a device cannot be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A key that signs no tokens.
    #[error("an Initial Attestation Key is of P-256 or P-384")]
    Key,
    /// No instance id.
    #[error("an instance id has 33 bytes, the first of them 01")]
    InstanceId,
    /// A name outside its limits.
    #[error("the {what} has 1 to {max} bytes of text")]
    Name {
        /// Which.
        what: &'static str,
        /// Its limit, bytes.
        max: usize,
    },
    /// The registry's own record was damaged.
    #[error("the record of a device cannot be read")]
    Record,
}

/// The registry's record, CBOR by serde: nobody else reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Of this form: 1.
    psa: u8,
    #[serde(with = "cbor::bytes")]
    instance_id: Vec<u8>,
    #[serde(with = "cbor::bytes")]
    implementation_id: Vec<u8>,
    /// SubjectPublicKeyInfo.
    #[serde(with = "cbor::bytes")]
    iak: Vec<u8>,
    model: String,
    serial: String,
    batch: String,
}

impl PsaDevice {
    /// A device by what the operator says of it.
    ///
    /// # Errors
    /// What of it cannot be.
    ///
    /// Spec: RFC 9783 section 4.2.1; PSA Attestation API 2.0 section 3, table 4 (`InstanceID = H(IAK)`)
    pub fn new(provider: &dyn Provider, new: NewPsaDevice) -> Result<Self, RegistryError> {
        let instance_id = new.instance_id.unwrap_or_else(|| {
            // Of the key as PSA exports it: the uncompressed point.
            let hash = provider.sha256(new.iak.bytes());
            [&[Ueid::TYPE_RAND][..], &hash].concat()
        });
        let record = Record {
            psa: VERSION,
            instance_id,
            implementation_id: new.implementation_id.to_vec(),
            iak: new.iak.to_spki_der().map_err(|_| RegistryError::Key)?,
            model: new.model,
            serial: new.serial,
            batch: new.batch,
        };
        Self::of(record)
    }

    /// From the registry's own record; never from outside bytes.
    ///
    /// # Errors
    /// If the record was damaged.
    pub fn from_own_record(bytes: &[u8]) -> Result<Self, RegistryError> {
        let record: Record = cbor::from_slice(bytes).map_err(|_| RegistryError::Record)?;
        if record.psa != VERSION {
            return Err(RegistryError::Record);
        }
        Self::of(record)
    }

    fn of(record: Record) -> Result<Self, RegistryError> {
        let names = [
            ("model", &record.model, 32),
            ("serial number", &record.serial, 64),
            ("batch", &record.batch, 128),
        ];
        for (what, name, max) in names {
            if name.is_empty() || name.len() > max || name.chars().any(char::is_control) {
                return Err(RegistryError::Name { what, max });
            }
        }
        let iak = PublicKey::from_spki_der(&record.iak).map_err(|_| RegistryError::Key)?;
        if !matches!(iak.alg(), KeyAlg::P256 | KeyAlg::P384) {
            return Err(RegistryError::Key);
        }
        let ueid = psa::instance(&record.instance_id).map_err(|_| RegistryError::InstanceId)?;
        if record.implementation_id.len() != 32 {
            return Err(RegistryError::Record);
        }
        Ok(Self { record, ueid, iak })
    }

    /// The registry's record of this device.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_record(&self) -> Result<Vec<u8>, RegistryError> {
        cbor::to_vec(&self.record).map_err(|_| RegistryError::Record)
    }

    /// Its name for life: the instance id.
    #[must_use]
    pub fn ueid(&self) -> &Ueid {
        &self.ueid
    }

    /// Its Initial Attestation Key.
    #[must_use]
    pub fn iak(&self) -> &PublicKey {
        &self.iak
    }

    /// The implementation that its tokens name, 32 bytes.
    #[must_use]
    pub fn implementation_id(&self) -> &[u8] {
        &self.record.implementation_id
    }

    /// Hardware model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.record.model
    }

    /// Serial number.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.record.serial
    }

    /// Name of its batch.
    #[must_use]
    pub fn batch(&self) -> &str {
        &self.record.batch
    }
}

impl KnownDevice {
    /// From the registry's own record. `tee`: whether the registry has a TEEP key of the device.
    ///
    /// # Errors
    /// If the record was damaged.
    pub fn from_own_record(bytes: &[u8], tee: bool) -> Result<Self, FactoryError> {
        if tee {
            return EndorsedDevice::from_own_record(bytes).map(|device| Self::Tee(device.into()));
        }
        let device = PsaDevice::from_own_record(bytes);
        device
            .map(|device| Self::Psa(device.into()))
            .map_err(|_| FactoryError::Key("record"))
    }

    /// The device, if it has our TEE.
    #[must_use]
    pub fn tee(&self) -> Option<&EndorsedDevice> {
        match self {
            Self::Tee(device) => Some(device),
            Self::Psa(_) => None,
        }
    }

    /// The device, if it has a PSA Root of Trust.
    #[must_use]
    pub fn psa(&self) -> Option<&PsaDevice> {
        match self {
            Self::Tee(_) => None,
            Self::Psa(device) => Some(device),
        }
    }

    /// Its name for life.
    #[must_use]
    pub fn ueid(&self) -> &Ueid {
        match self {
            Self::Tee(device) => device.ueid(),
            Self::Psa(device) => device.ueid(),
        }
    }

    /// Who it is, in the form certificates use.
    #[must_use]
    pub fn identity(&self) -> Identity {
        match self {
            Self::Tee(device) => device.identity(),
            Self::Psa(device) => Identity {
                serial: Some(device.serial().to_owned()),
                model: Some(device.model().to_owned()),
                ..Identity::new(*device.ueid())
            },
        }
    }

    /// Key of its evidence.
    #[must_use]
    pub fn attestation_key(&self) -> &PublicKey {
        match self {
            Self::Tee(device) => device.attestation_key(),
            Self::Psa(device) => device.iak(),
        }
    }

    /// Thumbprints of the keys that it has for other purposes: none of them may become a certificate's.
    #[must_use]
    pub fn kids(&self) -> Vec<[u8; 32]> {
        match self {
            Self::Tee(device) => device.kids().to_vec(),
            Self::Psa(device) => vec![device.iak().thumbprint()],
        }
    }
}

/// The form of [`Record`].
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use tegata_crypto::PrivateKey;
    use tegata_crypto::rustcrypto::RustCrypto;

    struct Fixed(u8);
    impl tegata_crypto::Rng for Fixed {
        fn fill(&mut self, out: &mut [u8]) -> Result<(), tegata_crypto::CryptoError> {
            out.fill(self.0);
            Ok(())
        }
    }

    fn new(alg: KeyAlg) -> NewPsaDevice {
        let key = PrivateKey::generate(alg, &mut Fixed(7)).unwrap();
        NewPsaDevice {
            iak: key.public_key().clone(),
            instance_id: None,
            implementation_id: [3; 32],
            model: "M".into(),
            serial: "1".into(),
            batch: "b".into(),
        }
    }

    #[test]
    fn records_survive_and_the_instance_id_comes_from_the_key() {
        let device = PsaDevice::new(&RustCrypto, new(KeyAlg::P256)).unwrap();
        let record = device.to_record().unwrap();
        let known = KnownDevice::from_own_record(&record, false).unwrap();
        assert_eq!(known.psa(), Some(&device));
        assert_eq!(known.kids(), [device.iak().thumbprint()]);
        assert!(known.tee().is_none());
        let point = device.iak().bytes();
        assert_eq!((point.len(), point[0]), (65, 4));
        assert_eq!(device.ueid().as_bytes()[1..], RustCrypto.sha256(point));
        // A record of the one kind is none of the other.
        assert!(KnownDevice::from_own_record(&record, true).is_err());
        for cut in 0..record.len() {
            assert!(PsaDevice::from_own_record(&record[..cut]).is_err());
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |new| PsaDevice::new(&RustCrypto, new).unwrap_err();
        assert_eq!(refused(new(KeyAlg::Ed25519)), RegistryError::Key);
        for bytes in [vec![1; 32], vec![2; 33], vec![1; 34]] {
            let one = NewPsaDevice {
                instance_id: Some(bytes),
                ..new(KeyAlg::P384)
            };
            assert_eq!(refused(one), RegistryError::InstanceId);
        }
        let one = NewPsaDevice {
            model: "x".repeat(33),
            ..new(KeyAlg::P256)
        };
        assert!(matches!(
            refused(one),
            RegistryError::Name { what: "model", .. }
        ));
        let one = NewPsaDevice {
            serial: String::new(),
            ..new(KeyAlg::P256)
        };
        assert!(matches!(refused(one), RegistryError::Name { .. }));
        let one = NewPsaDevice {
            batch: "a\nb".into(),
            ..new(KeyAlg::P256)
        };
        assert!(matches!(refused(one), RegistryError::Name { .. }));
    }
}
