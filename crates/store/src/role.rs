//! What every role's service shares: keys sealed in its store, trusted keys, the device registry.

use std::sync::Arc;

use tegata_authority::UnixSecs;
use tegata_authority::ca::CaCertError;
use tegata_authority::ca::delivery::DeliveryDenied;
use tegata_authority::ca::release::ReleaseError;
use tegata_authority::factory::{EndorsedDevice, FactoryError, verify_manifest};
use tegata_authority::registry::{KnownDevice, PsaDevice, RegistryError};
use tegata_crypto::seal::{self, SealingKey};
use tegata_crypto::{CryptoError, KeyAlg, PrivateKey, Provider, PublicKey, Rng, Secret, Signer};
use tegata_wire::ids::Ueid;

use crate::device::{self, DeviceId};
use crate::generation::ClockDoubt;
use crate::keys::{self, SealedKey, TrustedKey};
use crate::{Store, StoreError, Tx};

/// The means of a role: its store, its provider, the key its secrets are sealed under.
#[derive(Clone)]
pub struct Role {
    /// The role's own store.
    pub store: Arc<Store>,
    /// Cryptography.
    pub provider: Arc<dyn Provider>,
    /// Seals the role's secrets at rest.
    pub sealing: Arc<SealingKey>,
}

/// What a trusted key is trusted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// To endorse devices.
    Factory,
    /// At the CA: to ask for deliveries.
    Tam,
    /// At the TAM and the Verifier: to sign releases.
    Release,
    /// At the TAM and the CA: to sign attestation results.
    Verifier,
}

impl Trust {
    /// Name in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Factory => "factory",
            Self::Tam => "tam",
            Self::Release => "release",
            Self::Verifier => "verifier",
        }
    }
}

/// Why a role cannot do what its operator asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoleError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The role was never initialised.
    #[error("the key \"{0}\" is not in the store: initialise this role first with `tegata init`")]
    NoKey(&'static str),
    /// The role was initialised before.
    #[error(
        "the key \"{0}\" is in the store already: this role is initialised, nothing was changed"
    )]
    HasKey(&'static str),
    /// The store's keys were sealed under another key.
    #[error(
        "the key \"{0}\" cannot be unsealed: the sealing key is not the one this store was made \
         with; restore the right sealing key"
    )]
    Sealed(&'static str),
    /// A CA certificate.
    #[error(transparent)]
    CaCert(#[from] CaCertError),
    /// A generation that is neither there nor the next one.
    #[error(
        "the CA's newest generation is {newest}: the next one is {}, not {asked}; nothing was changed",
        newest.saturating_add(1)
    )]
    Generation {
        /// The number that was asked for.
        asked: u32,
        /// The newest there is.
        newest: u32,
    },
    /// A generation that is there and was made unlike what is asked.
    #[error(
        "generation {0} is there already and was not made this way: whether it has a new root, the kind \
         of its key, or whether it was made after a leak is different; nothing was changed"
    )]
    OtherGeneration(u32),
    /// The clock may be wrong, and what is to be made stays for good.
    #[error(transparent)]
    Clock(#[from] ClockDoubt),
    /// The root that is to sign has ended.
    #[error("root {root} ended at {at} (seconds since 1970): it signs no issuing CA any more", at = .at.0)]
    RootEnded {
        /// Number of the root.
        root: u32,
        /// Its last second.
        at: UnixSecs,
    },
    /// A root that has not ended, from which no path leads to one more root.
    #[error(
        "who knows root {root} alone, which is valid until {until} (seconds since 1970), would not find \
         the new root: only three roots back are linked; nothing was changed",
        until = .until.0
    )]
    LeavesBehind {
        /// Number of the root.
        root: u32,
        /// Its last second.
        until: UnixSecs,
    },
    /// A factory manifest.
    #[error(transparent)]
    Factory(#[from] FactoryError),
    /// A device that cannot be registered.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A device or key that is registered already, with other data.
    #[error(
        "device {0} is registered already, or one of its keys is: nothing of what was given is registered"
    )]
    DeviceTaken(Ueid),
    /// A model and serial number that a device has already.
    #[error("device {0} has this model and serial number: revoke it first, if its key was wrong")]
    DeviceNamed(Ueid),
    /// A release cannot be cut.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// A release that is there already, or whose sequence number is used.
    #[error("a release with this digest or sequence number is there already")]
    ReleaseTaken,
    /// Not a release that may be registered.
    #[error("the release is refused: {0}")]
    ReleaseRefused(#[from] tegata_authority::tam::package::PackageDenied),
    /// The word on who may get a release cannot be sent.
    #[error(transparent)]
    Notice(#[from] tegata_authority::tam::notice::NoticeError),
    /// A delivery is denied.
    #[error(transparent)]
    Delivery(#[from] DeliveryDenied),
    /// No profile of that name.
    #[error("there is no profile \"{0}\" in the profile file")]
    NoProfile(String),
    /// No release of that digest.
    #[error("there is no such release")]
    NoRelease,
    /// No device of that UEID.
    #[error("there is no device {0}")]
    NoDevice(Ueid),
    /// A delivery key file that cannot be read.
    #[error("the delivery key file is malformed")]
    DeliveryKeks,
    /// An attestation result that the CA takes no note of.
    #[error("the attestation result is refused: {0}")]
    Attested(#[from] tegata_authority::ca::attested::AttestedDenied),
    /// A list or response of status cannot be made.
    #[error(transparent)]
    Status(#[from] tegata_authority::ca::status::StatusError),
    /// A key, a ciphertext or the random generator failed.
    #[error("a key or the random generator failed: {0}")]
    Crypto(#[from] CryptoError),
}

impl RoleError {
    /// Stable label for metrics, logs and problem reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(e) => e.code(),
            Self::NoKey(_) => "not-initialised",
            Self::HasKey(_) => "already-initialised",
            Self::Sealed(_) => "wrong-sealing-key",
            Self::CaCert(_) => "ca-certificate",
            Self::Generation { .. } => "generation",
            Self::OtherGeneration(_) => "other-generation",
            Self::Clock(_) => "clock-doubtful",
            Self::RootEnded { .. } => "root-ended",
            Self::LeavesBehind { .. } => "leaves-behind",
            Self::Factory(_) => "factory-manifest",
            Self::Registry(_) => "device-refused",
            Self::DeviceTaken(_) => "device-taken",
            Self::DeviceNamed(_) => "device-named",
            Self::Release(_) => "release",
            Self::ReleaseTaken => "release-taken",
            Self::ReleaseRefused(e) => e.code(),
            Self::Notice(_) => "release-notice",
            Self::Delivery(e) => e.code(),
            Self::NoProfile(_) => "no-profile",
            Self::NoRelease => "no-release",
            Self::NoDevice(_) => "no-device",
            Self::DeliveryKeks => "delivery-keys",
            Self::Attested(e) => e.code(),
            Self::Status(_) => "status",
            Self::Crypto(_) => "crypto",
        }
    }
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Name of the batch.
    pub batch: String,
    /// Name of the maker.
    pub maker: String,
    /// Devices in it.
    pub devices: usize,
    /// Whether this very manifest had been imported before (then nothing was changed).
    pub again: bool,
}

/// A device of the registry.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Its row.
    pub row: device::Device,
    /// What its factory or the operator said of it.
    pub endorsed: KnownDevice,
}

impl Role {
    /// Makes a key pair and stores it sealed, unless there is one of that name.
    ///
    /// # Errors
    /// `HasKey`, or the store's or generator's failure.
    pub fn make_key(
        &self,
        name: &'static str,
        alg: KeyAlg,
        rng: &mut dyn Rng,
        now: UnixSecs,
    ) -> Result<PublicKey, RoleError> {
        let key = self.provider.generate(alg, rng)?;
        let sealed = self.seal_key(name, &key, rng)?;
        let fresh = self.store.run_tx("make key", |tx| {
            keys::insert(tx, name, &sealed, secs(now)).map_err(RoleError::from)
        })?;
        if fresh {
            Ok(key.public_key().clone())
        } else {
            Err(RoleError::HasKey(name))
        }
    }

    /// The private key of that name, made if there is none.
    ///
    /// # Errors
    /// As [`Role::open_key`], or the generator's failure.
    pub(crate) fn open_or_make_key(
        &self,
        name: &'static str,
        alg: KeyAlg,
        rng: &mut dyn Rng,
        now: UnixSecs,
    ) -> Result<PrivateKey, RoleError> {
        match self.open_key(name) {
            Err(RoleError::NoKey(_)) => {}
            found => return found,
        }
        // Another process may make one in the same moment: there is one, whose ever.
        match self.make_key(name, alg, rng, now) {
            Ok(_) | Err(RoleError::HasKey(_)) => self.open_key(name),
            Err(e) => Err(e),
        }
    }

    /// A private key in sealed form, to be inserted by the caller's transaction.
    pub(crate) fn seal_key(
        &self,
        name: &'static str,
        key: &PrivateKey,
        rng: &mut dyn Rng,
    ) -> Result<SealedKey, RoleError> {
        let pkcs8 = key.to_pkcs8_der()?;
        Ok(SealedKey {
            public: key.public_key().to_spki_der()?,
            sealed: self.seal(name, pkcs8.expose_secret(), rng)?,
        })
    }

    /// The private key of that name.
    ///
    /// # Errors
    /// `NoKey`, `Sealed`, or the store's failure.
    pub fn open_key(&self, name: &'static str) -> Result<PrivateKey, RoleError> {
        self.open_key_of(name, name)
    }

    /// The private key of that row, sealed for that purpose: a purpose may have several.
    pub(crate) fn open_key_of(
        &self,
        purpose: &'static str,
        row: &str,
    ) -> Result<PrivateKey, RoleError> {
        let stored = self.store.read("open key", |tx| keys::find(tx, row))?;
        let stored = stored.ok_or(RoleError::NoKey(purpose))?;
        let pkcs8 = self.unseal(purpose, &stored.sealed)?;
        let key = PrivateKey::from_pkcs8_der(pkcs8.expose_secret())?;
        // The public half is what others trust: a swapped row must not go unseen.
        if key.public_key().to_spki_der()? != stored.public {
            return Err(RoleError::Sealed(purpose));
        }
        Ok(key)
    }

    /// A signer over the key of that name.
    ///
    /// # Errors
    /// As [`Role::open_key`].
    pub fn open_signer(&self, name: &'static str) -> Result<Box<dyn Signer>, RoleError> {
        Ok(self.provider.signer(&self.open_key(name)?)?)
    }

    pub(crate) fn seal(
        &self,
        purpose: &str,
        plain: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<Vec<u8>, CryptoError> {
        seal::seal(self.provider.as_ref(), rng, &self.sealing, purpose, plain)
    }

    pub(crate) fn unseal(
        &self,
        purpose: &'static str,
        blob: &[u8],
    ) -> Result<Secret<Vec<u8>>, RoleError> {
        seal::open(self.provider.as_ref(), &self.sealing, purpose, blob)
            .map_err(|_| RoleError::Sealed(purpose))
    }

    /// Trusts a public key; again changes nothing.
    ///
    /// # Errors
    /// The store's failure.
    pub fn trust(
        &self,
        purpose: Trust,
        key: &PublicKey,
        label: &str,
        now: UnixSecs,
    ) -> Result<(), RoleError> {
        let trusted = TrustedKey {
            kid: key.thumbprint(),
            public: key.to_spki_der()?,
            label: label.to_owned(),
        };
        self.store
            .run_tx("trust", |tx| {
                keys::trust(tx, purpose.name(), &trusted, secs(now))
            })
            .map_err(RoleError::from)
    }

    /// The keys trusted for a purpose.
    ///
    /// # Errors
    /// The store's failure.
    pub fn trusted(&self, purpose: Trust) -> Result<Vec<PublicKey>, RoleError> {
        self.store.read("trusted", |tx| trusted_in(tx, purpose))
    }

    /// Imports a factory's signed manifest; the same manifest again changes nothing.
    ///
    /// # Errors
    /// Why it is refused: then no device of it is registered.
    pub fn import_devices(&self, manifest: &[u8], now: UnixSecs) -> Result<Imported, RoleError> {
        let factories = self.trusted(Trust::Factory)?;
        let endorsed = verify_manifest(self.provider.as_ref(), manifest, &factories)?;
        let rows = endorsed
            .devices()
            .iter()
            .map(new_row)
            .collect::<Result<Vec<_>, _>>()?;
        let batch = device::Batch {
            digest: endorsed.digest,
            batch: endorsed.batch.clone(),
            maker: endorsed.maker.clone(),
            made_at: secs(UnixSecs(endorsed.made_at_secs)),
            factory_kid: Some(endorsed.factory_kid),
        };
        let again = self.store.run_tx("import devices", |tx| {
            let Some(batch_id) = device::insert_batch(tx, &batch, secs(now))? else {
                return Ok(true);
            };
            for row in &rows {
                if !device::insert(tx, batch_id, row)? {
                    return Err(RoleError::DeviceTaken(row.ueid));
                }
            }
            Ok(false)
        })?;
        Ok(Imported {
            batch: batch.batch,
            maker: batch.maker,
            devices: rows.len(),
            again,
        })
    }

    /// Registers a device with a PSA Root of Trust, by the operator's word; the same word again changes
    /// nothing. Returns whether it was said before.
    ///
    /// # Errors
    /// `DeviceTaken` if the instance or the key is registered with anything else, `DeviceNamed` if another
    /// device has that name; the store's failure.
    pub fn add_psa_device(&self, device: &PsaDevice, now: UnixSecs) -> Result<bool, RoleError> {
        let record = device.to_record()?;
        let batch = device::Batch {
            digest: self.provider.sha256(&record),
            batch: device.batch().to_owned(),
            maker: OPERATOR.to_owned(),
            made_at: secs(now),
            factory_kid: None,
        };
        let row = device::NewDevice {
            ueid: *device.ueid(),
            teep_kid: None,
            attestation_kid: device.iak().thumbprint(),
            model: device.model().to_owned(),
            serial: device.serial().to_owned(),
            endorsement: record,
        };
        self.store.run_tx("add device", |tx| {
            // Two keys would speak for one name.
            if let Some(other) = device::named(tx, &row.model, &row.serial, &row.ueid)? {
                return Err(RoleError::DeviceNamed(other));
            }
            let Some(batch_id) = device::insert_batch(tx, &batch, secs(now))? else {
                return Ok(true);
            };
            match device::insert(tx, batch_id, &row)? {
                true => Ok(false),
                false => Err(RoleError::DeviceTaken(row.ueid)),
            }
        })
    }

    /// The registered device of that UEID.
    ///
    /// # Errors
    /// The store's failure.
    pub fn device(&self, ueid: &Ueid) -> Result<Option<Registered>, RoleError> {
        self.store
            .read("device", |tx| registered(device::find(tx, ueid)?))
    }

    /// The registered device of that row id.
    ///
    /// # Errors
    /// The store's failure.
    pub fn device_by_id(&self, id: DeviceId) -> Result<Option<Registered>, RoleError> {
        self.store
            .read("device", |tx| registered(device::find_by_id(tx, id)?))
    }
}

fn new_row(d: &EndorsedDevice) -> Result<device::NewDevice, RoleError> {
    Ok(device::NewDevice {
        ueid: *d.ueid(),
        teep_kid: Some(d.teep_key().thumbprint()),
        attestation_kid: d.attestation_key().thumbprint(),
        model: d.model(),
        serial: d.hardware().serial.clone(),
        endorsement: d.to_record()?,
    })
}

/// The keys that are trusted for a purpose, within a transaction.
pub(crate) fn trusted_in(tx: &Tx<'_>, purpose: Trust) -> Result<Vec<PublicKey>, RoleError> {
    let rows = keys::trusted(tx, purpose.name())?;
    let read = |row: &keys::TrustedKey| PublicKey::from_spki_der(&row.public);
    rows.iter()
        .map(|row| read(row).map_err(RoleError::from))
        .collect()
}

/// A row with its endorsement read.
pub(crate) fn registered(row: Option<device::Device>) -> Result<Option<Registered>, RoleError> {
    row.map(|row| {
        let endorsed = KnownDevice::from_own_record(&row.endorsement, row.has_tee)
            .map_err(|_| StoreError::Unreadable { record: "device" })?;
        Ok(Registered { row, endorsed })
    })
    .transpose()
}

/// The device of a UEID within a transaction.
pub(crate) fn device_in(tx: &Tx<'_>, ueid: &Ueid) -> Result<Option<Registered>, RoleError> {
    registered(device::find(tx, ueid)?)
}

/// The maker of a batch that no factory signed for.
const OPERATOR: &str = "operator";

/// Seconds as the store keeps them.
pub(crate) fn secs(t: UnixSecs) -> i64 {
    i64::try_from(t.0).unwrap_or(i64::MAX)
}
