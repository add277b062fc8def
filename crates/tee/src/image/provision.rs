//! Before and after the factory's word: who the device says it is, and whom it is told to believe.
//!
//! Invariants: the device's id and keys come from its root key alone and exist before any record;
//! a record counts only with a factory's signature and for this very device, each time it is read;
//! none counts that was made before one that counted, as far as storage is protected from being put
//! back; a record in storage that is lost leaves the device unprovisioned, never differently
//! provisioned.
//!
//! Not trusted: the storage the record lies in, and whoever brings one.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tegata_crypto::provisioning::{ProvisioningError, sign_report, verify_record};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{PublicKey, Secret};
use tegata_wire::device::{DeviceReport, RECORD_LEN_BYTES_MAX};
use tegata_wire::ids::Ueid;

use crate::anchors::AnchorError;
use crate::platform::{
    BlobName, HardwareIdentity, MonotonicCounter, NoPosition, OemId, Platform, PlatformError,
    Position, SecurityDescription,
};
use crate::storage::{Change, Limits, Namespace, StorageError};
use crate::{DeviceKeys, TeeError, TrustAnchors};

const UEID_LABEL: &str = "tegata ueid v1";
const RECORD_NAME: &str = "factory.record";
const FLOOR_LABEL: &str = "tegata device record v1";
const FLOOR_ID: &[u8] = b"newest";
const FLOOR_LIMITS: Limits = Limits {
    max_object_bytes: 8,
    max_objects: 1,
    max_total_bytes: 8,
};

/// The device's id: type RAND over 16 bytes that its root key gives.
///
/// # Errors
/// [`TeeError`] if the root key cannot be used.
pub fn own_ueid<P: Platform + ?Sized>(machine: &P) -> Result<Ueid, TeeError> {
    let derived = machine.derive(UEID_LABEL, b"")?;
    let (id, _) = derived.expose_secret().split_at(16);
    let id = <[u8; 16]>::try_from(id).map_err(|_| TeeError::Encode("ueid"))?;
    Ok(Ueid::from_random(id))
}

/// Identity of a machine that was told nothing: its id and no more.
#[must_use]
pub fn unprovisioned_identity(ueid: Ueid) -> HardwareIdentity {
    HardwareIdentity {
        ueid,
        serial: String::new(),
        oemid: OemId::Bytes(Vec::new()),
        hwmodel: Vec::new(),
        hwversion: String::new(),
        imei: None,
        mac: None,
        vendor_ids: Vec::new(),
        class_ids: Vec::new(),
    }
}

/// The signed report of a device about itself.
pub(super) fn report<P: Platform + ?Sized>(machine: &P, own: &Ueid) -> Result<Vec<u8>, TeeError> {
    let keys = DeviceKeys::derive(machine)?;
    let report = DeviceReport {
        ueid: *own,
        attestation_key: keys.attestation.public_key().to_cose_key()?,
        teep_key: keys.teep.public_key().to_cose_key()?,
        delivery_key: keys.delivery_ecdh.public_key().to_cose_key()?,
        tee_version: machine.security().version,
    };
    sign_report(&report, &keys.attestation).map_err(|_| TeeError::Encode("device report"))
}

/// What a genuine record says.
pub(super) struct Word {
    pub(super) identity: HardwareIdentity,
    pub(super) anchors: TrustAnchors,
    pub(super) tam_uri: Option<String>,
    made_at_secs: u64,
}

/// Why a record is not obeyed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("device record refused: {0}")]
    Record(#[from] ProvisioningError),
    #[error("device record refused: {0}")]
    Anchors(#[from] AnchorError),
    #[error("device record refused: made at {got}, and one made at {newest} was taken before")]
    Older { newest: u64, got: u64 },
}

/// Verifies a record for the device `own`.
pub(super) fn judge(
    record: &[u8],
    factory_keys: &[PublicKey],
    own: &Ueid,
) -> Result<Word, RecordError> {
    let record = verify_record(&RustCrypto, record, factory_keys, own)?.into_record();
    Ok(Word {
        anchors: TrustAnchors::from_cose_keys(&record.release_keys, &record.tam_keys)?,
        identity: record.identity,
        tam_uri: record.tam_uri,
        made_at_secs: record.made_at_secs,
    })
}

/// When the newest record that ever counted was made, in seconds since 1970; 0 if none did.
pub(super) fn newest<P: Platform + ?Sized>(machine: &P) -> Result<u64, TeeError> {
    match floor(machine)?.read(FLOOR_ID) {
        Ok(object) => {
            let bytes = <[u8; 8]>::try_from(object.data.expose_secret().as_slice());
            Ok(u64::from_be_bytes(
                bytes.map_err(|_| StorageError::Corrupt)?,
            ))
        }
        Err(StorageError::NotFound) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

impl Word {
    /// Refuses a word that is older than `newest`.
    pub(super) fn not_before(&self, newest: u64) -> Result<(), RecordError> {
        let got = self.made_at_secs;
        if got < newest {
            return Err(RecordError::Older { newest, got });
        }
        Ok(())
    }

    /// From now on nothing older than this word counts. No change if that is so already.
    pub(super) fn count<P: Platform + ?Sized>(&self, machine: &P) -> Result<(), TeeError> {
        if self.made_at_secs <= newest(machine)? {
            return Ok(());
        }
        let bytes = self.made_at_secs.to_be_bytes();
        Ok(floor(machine)?.commit(&[Change::put(FLOOR_ID, &bytes, b"")])?)
    }
}

/// Where the time of the newest record is kept, beside the record: what deletes the record, or puts
/// an older one in its place, does not bring this back to an older time.
fn floor<P: Platform + ?Sized>(machine: &P) -> Result<Namespace<'_, P>, StorageError> {
    Namespace::new(machine, &RustCrypto, FLOOR_LABEL, b"", FLOOR_LIMITS)
}

/// The record that was kept, not judged yet.
pub(super) fn stored<P: Platform + ?Sized>(machine: &P) -> Result<Option<Vec<u8>>, TeeError> {
    let found = machine.blob_read(&name()?)?;
    // None that is longer was ever written.
    Ok(found.filter(|record| record.len() <= RECORD_LEN_BYTES_MAX))
}

/// Keeps a record.
pub(super) fn store<P: Platform + ?Sized>(machine: &P, record: &[u8]) -> Result<(), TeeError> {
    Ok(machine.blob_write(&name()?, record)?)
}

fn name() -> Result<BlobName, TeeError> {
    BlobName::new(RECORD_NAME).ok_or(TeeError::Encode("name of the record"))
}

/// A machine that was told who it is.
pub struct Provisioned<P> {
    machine: Arc<P>,
    identity: HardwareIdentity,
}

impl<P> Provisioned<P> {
    /// `machine` as `identity`, from a record that was judged.
    #[must_use]
    pub const fn new(machine: Arc<P>, identity: HardwareIdentity) -> Self {
        Self { machine, identity }
    }
}

impl<P: Platform> Platform for Provisioned<P> {
    fn identity(&self) -> &HardwareIdentity {
        &self.identity
    }

    fn security(&self) -> SecurityDescription {
        self.machine.security()
    }

    fn derive(&self, label: &str, context: &[u8]) -> Result<Secret<[u8; 32]>, PlatformError> {
        self.machine.derive(label, context)
    }

    fn random(&self, out: &mut [u8]) -> Result<(), PlatformError> {
        self.machine.random(out)
    }

    fn system_time_ms(&self) -> u64 {
        self.machine.system_time_ms()
    }

    fn ree_time_ms(&self) -> u64 {
        self.machine.ree_time_ms()
    }

    fn blob_read(&self, name: &BlobName) -> Result<Option<Vec<u8>>, PlatformError> {
        self.machine.blob_read(name)
    }

    fn blob_write(&self, name: &BlobName, data: &[u8]) -> Result<(), PlatformError> {
        self.machine.blob_write(name, data)
    }

    fn blob_remove(&self, name: &BlobName) -> Result<(), PlatformError> {
        self.machine.blob_remove(name)
    }

    fn blob_list(&self, prefix: &str) -> Result<Vec<BlobName>, PlatformError> {
        self.machine.blob_list(prefix)
    }

    fn counter(&self) -> Option<&dyn MonotonicCounter> {
        self.machine.counter()
    }

    fn position(&self) -> Result<Position, NoPosition> {
        self.machine.position()
    }
}
