//! The TAM as a service: registries, exchanges with devices, staged availability.
//!
//! Invariants: nothing a device sends is recorded before its signature verifies; a challenge is
//! used once; an Update is recorded before it is sent, so that its outcome finds it. The CA's
//! delivery for a device is kept: asking again gives the same.

mod exchange;
mod held;

use std::sync::Arc;

use tegata_authority::UnixSecs;
use tegata_authority::tam::availability::Availability;
use tegata_authority::tam::package::verify_package;
use tegata_authority::tam::session::TeepDenied;
use tegata_authority::tam::update::UpdateError;
use tegata_crypto::{CryptoError, KeyAlg, PrivateKey, PublicKey, Rng, Secret, Signer};
use tegata_wire::enrolment::DeliveryKeks;
use tegata_wire::ids::{ReleaseDigest, TaUuid, Ueid};
use zeroize::Zeroizing;

use self::held::{Held, Payloads};
use crate::issuer::{availability_of, encoded};
use crate::keys::{self, SealedKey};
use crate::role::{Role, RoleError, Trust, secs};
use crate::{StoreError, Tx, device, release};

/// The roles a TAM asks. Implemented over HTTP by the server, directly by tests.
pub trait Peers {
    /// The Verifier's signed result (EAR) for an encoded `AppraisalRequest`.
    ///
    /// # Errors
    /// The Verifier cannot be reached, or gives no result.
    fn appraise(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure>;

    /// The CA's encoded `Delivery` for a signed `DeliveryRequest`.
    ///
    /// # Errors
    /// The CA cannot be reached, or denies.
    fn deliver(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure>;

    /// Hands the Verifier's result on to the CA, signed.
    ///
    /// # Errors
    /// The CA cannot be reached, or does not believe it.
    fn attested(&self, word: &[u8]) -> Result<(), PeerFailure>;
}

/// A peer did not answer as hoped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {who} did not answer: {why}")]
pub struct PeerFailure {
    /// `CA` or `Verifier`.
    pub who: &'static str,
    /// Its words.
    pub why: String,
}

/// What goes back to the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TeepAnswer {
    /// A TEEP message (200).
    Message(Vec<u8>),
    /// Nothing more to say (204).
    Nothing,
}

/// What an exchange led to, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TeepOutcome {
    /// A device was asked for its state.
    Queried,
    /// The device is as it should be.
    UpToDate {
        /// The device.
        ueid: Ueid,
    },
    /// An installation was sent.
    Installing {
        /// The device.
        ueid: Ueid,
        /// The release.
        release: ReleaseDigest,
        /// Its sequence number.
        sequence: u64,
        /// Length of the message in bytes.
        len_bytes: usize,
    },
    /// A removal was sent.
    Removing {
        /// The device.
        ueid: Ueid,
        /// The TA.
        ta: TaUuid,
    },
    /// The device reported success.
    Succeeded {
        /// The device.
        ueid: Ueid,
        /// The TA.
        ta: TaUuid,
        /// The release it has now; `None` after a removal.
        release: Option<ReleaseDigest>,
    },
    /// The device reported an error.
    Failed {
        /// The device.
        ueid: Ueid,
        /// TEEP error code.
        code: u64,
        /// Its text, shortened.
        detail: String,
    },
}

/// Why an exchange led to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TeepFault {
    /// The device's fault.
    #[error(transparent)]
    Denied(#[from] TeepDenied),
    /// The CA or the Verifier did not answer.
    #[error(transparent)]
    Peer(#[from] PeerFailure),
    /// An Update could not be made.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The TAM's own fault.
    #[error(transparent)]
    Role(#[from] RoleError),
}

impl From<StoreError> for TeepFault {
    fn from(e: StoreError) -> Self {
        Self::Role(e.into())
    }
}

impl From<CryptoError> for TeepFault {
    fn from(e: CryptoError) -> Self {
        Self::Role(e.into())
    }
}

impl TeepFault {
    /// Stable label for metrics, logs and problem reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied(e) => e.code(),
            Self::Peer(_) => "peer-unavailable",
            Self::Update(_) => "update-failed",
            Self::Role(e) => e.code(),
        }
    }
}

/// A registered release, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseSummary {
    /// Its digest.
    pub digest: ReleaseDigest,
    /// The TA.
    pub ta: TaUuid,
    /// Name of the TA.
    pub name: String,
    /// Its sequence number.
    pub sequence: u64,
    /// Who may get it.
    pub availability: Availability,
    /// When it was registered, seconds since 1970.
    pub made_at: i64,
}

/// The TAM.
pub struct TamServer {
    role: Role,
    signer: Box<dyn Signer>,
    exchange_key: PrivateKey,
    challenge_secret: Secret<[u8; 32]>,
    payload_base_url: Option<String>,
    held: Held,
    payloads: Payloads,
}

impl TamServer {
    /// Makes the TAM's signing, exchange and challenge keys, all or nothing.
    ///
    /// # Errors
    /// `HasKey` if there is a TAM in the store already.
    pub fn init(role: &Role, rng: &mut dyn Rng, now: UnixSecs) -> Result<(), RoleError> {
        let signing = role.provider.generate(KeyAlg::P256, rng)?;
        let exchange = role.provider.generate(KeyAlg::P256, rng)?;
        let mut challenge = Zeroizing::new([0; 32]);
        rng.fill(&mut *challenge)?;
        let sealed = [
            (TAM_KEY, role.seal_key(TAM_KEY, &signing, rng)?),
            (EXCHANGE_KEY, role.seal_key(EXCHANGE_KEY, &exchange, rng)?),
            (
                CHALLENGE_KEY,
                SealedKey {
                    public: Vec::new(),
                    sealed: role.seal(CHALLENGE_KEY, challenge.as_slice(), rng)?,
                },
            ),
        ];
        role.store.run_tx("init TAM", |tx| {
            for (name, key) in &sealed {
                if !keys::insert(tx, name, key, secs(now))? {
                    return Err(RoleError::HasKey(name));
                }
            }
            Ok(())
        })
    }

    /// Opens the TAM of the store. With `payload_base_url` devices fetch encrypted TAs from there
    /// (`URL/<release digest>`), without it they come in the message.
    ///
    /// # Errors
    /// `NoKey` if there is none, `Sealed` under a wrong sealing key.
    pub fn open(role: Role, payload_base_url: Option<String>) -> Result<Self, RoleError> {
        let signer = role.open_signer(TAM_KEY)?;
        let exchange_key = role.open_key(EXCHANGE_KEY)?;
        let stored = role
            .store
            .read("open TAM", |tx| keys::find(tx, CHALLENGE_KEY))?;
        let stored = stored.ok_or(RoleError::NoKey(CHALLENGE_KEY))?;
        let bytes = role.unseal(CHALLENGE_KEY, &stored.sealed)?;
        let bytes = <[u8; 32]>::try_from(bytes.expose_secret().as_slice())
            .map_err(|_| RoleError::Sealed(CHALLENGE_KEY))?;
        let challenge_secret = Secret::new(bytes);
        Ok(Self {
            role,
            signer,
            exchange_key,
            challenge_secret,
            payload_base_url,
            held: Held::default(),
            payloads: Payloads::default(),
        })
    }

    /// Store, provider and sealing key; also for imports and trusted keys.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The key that signs TEEP messages and manifests: devices and the CA trust it.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    /// The key that the CA encrypts secrets of the paper's profile to.
    #[must_use]
    pub fn exchange_public_key(&self) -> &PublicKey {
        self.exchange_key.public_key()
    }

    /// Imports the symmetric delivery keys of the paper's profile; returns how many were stored.
    ///
    /// # Errors
    /// `DeliveryKeks` if the file is malformed, `NoDevice` for a device that is not registered.
    pub fn import_keks(&self, file: &[u8], rng: &mut dyn Rng) -> Result<usize, RoleError> {
        let keks = DeliveryKeks::decode(file).map_err(|_| RoleError::DeliveryKeks)?;
        let mut sealed = Vec::with_capacity(keks.len());
        for (ueid, kek) in keks.expose_all() {
            sealed.push((*ueid, self.role.seal(DEVICE_KEK, kek, rng)?));
        }
        self.role.store.run_tx("import delivery keys", |tx| {
            for (ueid, blob) in &sealed {
                if !device::set_kek(tx, ueid, blob)? {
                    return Err(RoleError::NoDevice(*ueid));
                }
            }
            Ok(())
        })?;
        Ok(sealed.len())
    }

    /// Registers a release package for those whom the CA's notice in it names, or for nobody if
    /// there is none. The same package again changes nothing; a notice of a later decision changes
    /// who may get it.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn register_release(
        &self,
        package: &[u8],
        now: UnixSecs,
    ) -> Result<ReleaseSummary, RoleError> {
        self.import_release(package, &Availability::Nobody, now)
    }

    /// The same by this TAM's own operator: for those whom `availability` names if no CA's notice
    /// came with the package.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn import_release(
        &self,
        package: &[u8],
        availability: &Availability,
        now: UnixSecs,
    ) -> Result<ReleaseSummary, RoleError> {
        let keys = self.role.trusted(Trust::Release)?;
        let verified = verify_package(self.role.provider.as_ref(), package, &keys)?;
        let told = verified.notice();
        let rule = encoded(told.map_or(availability, |notice| notice.available()))?;
        let mut parts = verified.package().clone();
        // The ciphertext has a column of its own; the rest is small.
        let ciphertext = std::mem::take(&mut parts.ta_ciphertext);
        let row = release::Release {
            digest: *verified.digest(),
            signer: *verified.signer(),
            ta: *verified.ta(),
            name: verified.name().to_owned(),
            sequence: verified.sequence(),
            record: package.to_vec(),
            ciphertext: Some(ciphertext),
            sealed: None,
            availability: rule,
            rule_number: told.map_or(0, |notice| notice.number()),
            made_at: secs(now),
        };
        let stands = self.role.store.run_tx("register release", |tx| {
            if release::insert(tx, &row)? {
                return Ok::<_, StoreError>(Some(row.clone()));
            }
            release::follow_availability(tx, &row.digest, &row.availability, row.rule_number)?;
            release::find(tx, &row.digest)
        })?;
        // Another release with that sequence number: the TEE would refuse one of the two.
        let stands = stands.ok_or(RoleError::ReleaseTaken)?;
        summary(&stands).map_err(RoleError::from)
    }

    /// All registered releases.
    ///
    /// # Errors
    /// The store's failure.
    pub fn releases(&self) -> Result<Vec<ReleaseSummary>, RoleError> {
        let rows = self.role.store.read("releases", release::list)?;
        rows.iter()
            .map(|r| summary(r).map_err(RoleError::from))
            .collect()
    }

    /// Changes who may get a release, until the CA decides anew.
    ///
    /// # Errors
    /// `NoRelease`, or the store's failure.
    pub fn set_availability(
        &self,
        digest: &ReleaseDigest,
        rule: &Availability,
    ) -> Result<(), RoleError> {
        let encoded = encoded(rule)?;
        let change = |tx: &Tx<'_>| release::set_availability(tx, digest, &encoded);
        let found = self.role.store.run_tx("availability", change)?;
        found.then_some(()).ok_or(RoleError::NoRelease)
    }

    /// The encrypted TA of a release, to be served to anybody: it is useless without a device.
    ///
    /// # Errors
    /// The store's failure.
    pub fn payload(&self, digest: &ReleaseDigest) -> Result<Option<Arc<[u8]>>, RoleError> {
        let read =
            |tx: &Tx<'_>| match self.payloads.find(digest) {
                Some(known) => Ok(release::has_ciphertext(tx, digest)?.then_some(known)),
                None => Ok(release::ciphertext(tx, digest)?
                    .map(|bytes| self.payloads.share(*digest, bytes))),
            };
        self.role.store.read("payload", read)
    }
}

fn summary(r: &release::Release) -> Result<ReleaseSummary, StoreError> {
    Ok(ReleaseSummary {
        digest: r.digest,
        ta: r.ta,
        name: r.name.clone(),
        sequence: r.sequence,
        availability: availability_of(&r.availability)?,
        made_at: r.made_at,
    })
}

/// Name and sealing purpose of the key that signs TEEP messages and manifests.
const TAM_KEY: &str = "tam key";
/// Name and sealing purpose of the exchange key.
const EXCHANGE_KEY: &str = "tam exchange key";
/// Name and sealing purpose of the challenge key.
const CHALLENGE_KEY: &str = "tam challenge key";
/// Sealing purpose of devices' delivery keys.
const DEVICE_KEK: &str = "tam device delivery key";
