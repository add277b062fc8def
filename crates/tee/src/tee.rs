//! [`Tee`]: one device's secure world, as `teed` and the OP-TEE image own it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{CryptoError, PrivateKey, device_keys};
use tegata_wire::ids::TaUuid;
use tegata_wire::rpc::{Info, Stats, TrustedApp};

use crate::anchors::TrustAnchors;
use crate::attest;
use crate::platform::{Platform, PlatformError};
use crate::storage::{SecureStorage, StorageError, TaId};
use crate::ta_store::{InstalledTa, TaRecord, TaStore, TaStoreError};
use crate::teep::{Contact, Payloads, TeepAgent, TeepEvent, TeepOutcome};

/// One device's secure world.
///
/// Calls that change something take `&mut self`: the owner serialises them.
pub struct Tee<P: Platform> {
    platform: P,
    anchors: TrustAnchors,
    keys: DeviceKeys,
    agent: TeepAgent,
}

/// The device's own keys, derived anew at each start.
pub struct DeviceKeys {
    /// Signs evidence.
    pub attestation: PrivateKey,
    /// Signs TEEP messages.
    pub teep: PrivateKey,
    /// Opens payloads of asymmetric delivery.
    pub delivery_ecdh: PrivateKey,
    /// Opens payloads of symmetric delivery.
    pub delivery_kek: tegata_crypto::Secret<[u8; 16]>,
}

impl DeviceKeys {
    /// Derives all keys from the platform's root key.
    ///
    /// # Errors
    /// [`TeeError`] if the platform cannot derive.
    pub fn derive<P: Platform + ?Sized>(platform: &P) -> Result<Self, TeeError> {
        let derive = |label: &str, context: &[u8]| {
            platform
                .derive(label, context)
                .map_err(|_| CryptoError::InvalidKey("root key not available"))
        };
        Ok(Self {
            attestation: device_keys::attestation_key(&RustCrypto, &derive)?,
            teep: device_keys::teep_key(&RustCrypto, &derive)?,
            delivery_ecdh: device_keys::delivery_ecdh_key(&RustCrypto, &derive)?,
            delivery_kek: device_keys::delivery_kek(&derive)?,
        })
    }
}

impl<P: Platform> Tee<P> {
    /// Starts the secure world: derives its keys and finishes what a crash interrupted.
    ///
    /// `tam_uri` is the TAM that the device contacts of its own accord; without one the broker's
    /// configuration decides.
    ///
    /// # Errors
    /// [`TeeError`] if the platform fails or the TA store was tampered with.
    pub fn new(
        platform: P,
        anchors: TrustAnchors,
        tam_uri: Option<String>,
    ) -> Result<Self, TeeError> {
        let keys = DeviceKeys::derive(&platform)?;
        TaStore::new(&platform, &RustCrypto)?.recover()?;
        Ok(Self {
            platform,
            anchors,
            keys,
            agent: TeepAgent::new(tam_uri),
        })
    }

    /// The machine under it.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Whom this device believes.
    pub fn anchors(&self) -> &TrustAnchors {
        &self.anchors
    }

    /// The device's own keys; callers inside the secure world only.
    pub fn keys(&self) -> &DeviceKeys {
        &self.keys
    }

    /// `RequestTA`: a client wants this TA. `None` if it is installed already.
    ///
    /// # Errors
    /// [`TeeError`] if the TA store cannot be read.
    ///
    /// Spec: RFC 9397 section 6.2.1.
    pub fn request_ta(&mut self, ta: &TaUuid) -> Result<Option<Contact>, TeeError> {
        let installed = self.store()?.record(ta)?.is_some();
        Ok(self.agent.request_ta(ta, installed))
    }

    /// `UnrequestTA`: nobody wants this TA any more. `None` if it is not installed.
    ///
    /// # Errors
    /// [`TeeError`] if the TA store cannot be read.
    ///
    /// Spec: RFC 9397 section 6.2.1.
    pub fn unrequest_ta(&mut self, ta: &TaUuid) -> Result<Option<Contact>, TeeError> {
        let installed = self.store()?.record(ta)?.is_some();
        Ok(self.agent.unrequest_ta(ta, installed))
    }

    /// `RequestPolicyCheck`: whom to ask whether there is something new.
    ///
    /// Spec: RFC 9397 section 6.2.1.
    pub fn policy_check(&mut self) -> Option<Contact> {
        self.agent.policy_check()
    }

    /// `ProcessError`: the TAM could not be reached or answered with an error. What is wanted stays
    /// wanted; the broker decides when to try again.
    ///
    /// Spec: RFC 9397 section 6.2.1.
    pub fn process_error(&mut self) {
        self.agent.process_error();
    }

    /// `ProcessTeepMessage`: handles one message of a TAM, with the payloads fetched for it.
    ///
    /// Everything the TAM did wrong is answered inside the outcome; nothing of a message takes
    /// effect before its signature, and no installation in part.
    ///
    /// # Errors
    /// [`TeeError`] only for what no answer can be made for: the machine itself fails.
    ///
    /// Spec: draft-ietf-teep-protocol section 7.2.
    pub fn handle_teep(
        &mut self,
        message: &[u8],
        payloads: &Payloads,
    ) -> Result<TeepOutcome, TeeError> {
        let Self {
            platform,
            anchors,
            keys,
            agent,
        } = self;
        agent.process(&*platform, &RustCrypto, anchors, keys, message, payloads)
    }

    /// What the last TEEP message did, for the log of the process around the TEE.
    pub fn last_teep_event(&self) -> Option<&TeepEvent> {
        self.agent.last_event()
    }

    /// Evidence of this TEE for a nonce of 8 to 64 bytes: COSE_Sign1 over an EAT.
    ///
    /// # Errors
    /// [`TeeError::Nonce`], or [`TeeError`] if what is installed was tampered with.
    pub fn evidence(&self, nonce: &[u8]) -> Result<Vec<u8>, TeeError> {
        attest::evidence(&self.platform, &self.store()?, &self.keys, nonce)
    }

    /// The installed TA of that UUID with all its components.
    ///
    /// # Errors
    /// [`TeeError`] if a component was tampered with.
    pub fn installed(&self, ta: &TaUuid) -> Result<Option<InstalledTa>, TeeError> {
        Ok(self.store()?.load(ta)?)
    }

    /// What is known about each installed TA.
    ///
    /// # Errors
    /// [`TeeError`] if a record was tampered with.
    pub fn installed_list(&self) -> Result<Vec<TaRecord>, TeeError> {
        Ok(self.store()?.records()?)
    }

    /// What this TEE is, with the figures of the process around it.
    ///
    /// # Errors
    /// [`TeeError`] if a record was tampered with.
    pub fn info(&self, stats: Stats) -> Result<Info, TeeError> {
        let trusted_apps = self.installed_list()?.into_iter().map(|record| TrustedApp {
            ta: record.id.uuid,
            release: record.release.to_string(),
            sequence_number: record.sequence_number,
            module_len_bytes: record.module_len_bytes,
        });
        let (identity, security) = (self.platform.identity(), self.platform.security());
        Ok(Info {
            ueid: identity.ueid.to_string(),
            serial: identity.serial.clone(),
            hwmodel: String::from_utf8_lossy(&identity.hwmodel).into_owned(),
            version: security.version,
            security_level: security.level.name().into(),
            storage_root: security.storage_root,
            anti_rollback_level: security.anti_rollback.level(),
            missing: security.missing,
            trusted_apps: trusted_apps.collect(),
            stats,
        })
    }

    /// The secure storage of a TA. The caller has established that it is that TA.
    ///
    /// # Errors
    /// [`TeeError`] if the root key cannot be used.
    pub fn storage(&self, ta: &TaId) -> Result<SecureStorage<'_, P>, TeeError> {
        Ok(SecureStorage::new(&self.platform, &RustCrypto, ta)?)
    }

    /// 32 bytes that only this TA on this device can derive, for its `context`.
    ///
    /// # Errors
    /// [`TeeError`] if the root key cannot be used.
    pub fn ta_unique_key(
        &self,
        ta: &TaId,
        context: &[u8],
    ) -> Result<tegata_crypto::Secret<[u8; 32]>, TeeError> {
        let bound = [ta.context().as_slice(), context].concat();
        Ok(self.platform.derive("tegata ta-unique-key v1", &bound)?)
    }

    /// The store of installed TAs.
    ///
    /// # Errors
    /// [`TeeError`] if the root key cannot be used.
    pub fn store(&self) -> Result<TaStore<'_, P>, TeeError> {
        Ok(TaStore::new(&self.platform, &RustCrypto)?)
    }
}

/// Why the machine itself could not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TeeError {
    /// The platform failed.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// Secure storage failed or was tampered with.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The TA store failed or was tampered with.
    #[error(transparent)]
    TaStore(#[from] TaStoreError),
    /// A primitive failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// A nonce is too short or too long for evidence.
    #[error("nonce of {got} bytes, wanted 8 to 64")]
    Nonce {
        /// Its length in bytes.
        got: usize,
    },
    /// A message of our own could not be encoded.
    #[error("own message could not be made: {0}")]
    Encode(&'static str),
}
