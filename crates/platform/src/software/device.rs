//! Reads `device.cbor` and keeps the root key out of the heap.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tegata_tee::TrustAnchors;
use tegata_tee::platform::{HardwareIdentity, OemId};
use tegata_wire::device::{DeviceFile, DeviceFileError, LEN_BYTES_MAX, Oem};
use zeroize::Zeroizing;

use super::sys::SecretPage;

/// What the factory put in.
pub struct Device {
    /// The root key, 32 bytes.
    pub root_key: SecretPage,
    /// Who the device is.
    pub identity: HardwareIdentity,
    /// Whom it believes.
    pub anchors: TrustAnchors,
    /// The TAM it contacts of its own accord.
    pub tam_uri: Option<String>,
}

/// Why there is no device to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// It cannot be read.
    #[error(
        "cannot read {}: {source}. A factory station makes it (`tegata factory make`); check the \
         path in teed.toml and that this account may read it.", path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// Others can read or change it.
    #[error(
        "{} has mode {mode:03o} and belongs to user {owner}: others could read the root key. Mend \
         it with `chown {me} {p} && chmod 600 {p}`; if others had access, the device's identity \
         is no longer a secret.", path.display(), p = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        owner: u32,
        /// Who we are.
        me: u32,
    },
    /// It is damaged.
    #[error(
        "{} is not a whole device file: {source}. Restore it from the factory's copy; it cannot \
         be rebuilt, and storage sealed under another root key cannot be opened.", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: DeviceFileError,
    },
    /// Its keys are no keys.
    #[error(
        "{}: the trust anchors are not usable: {reason}. Make the device anew at the factory \
         station.", path.display()
    )]
    Anchors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no memory for the key.
    #[error("no page of memory for the root key: {0}. Free memory and start again.")]
    Memory(#[source] std::io::Error),
}

/// Reads and checks the file.
///
/// # Errors
/// [`DeviceError`], each with the way to mend it.
pub fn load(path: &Path) -> Result<Device, DeviceError> {
    let unreadable = |source| DeviceError::Unreadable {
        path: path.into(),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    let me = rustix::process::geteuid().as_raw();
    let mode = meta.mode() & 0o777;
    if mode & 0o077 != 0 || meta.uid() != me {
        return Err(DeviceError::Exposed {
            path: path.into(),
            mode,
            owner: meta.uid(),
            me,
        });
    }
    // One buffer of fixed size: nothing of it stays behind in a reallocation.
    let mut bytes = Zeroizing::new(vec![0; LEN_BYTES_MAX + 1]);
    let mut len = 0;
    while let Some(room) = bytes.get_mut(len..).filter(|room| !room.is_empty()) {
        match file.read(room).map_err(unreadable)? {
            0 => break,
            got => len = len.saturating_add(got),
        }
    }
    let read = DeviceFile::decode(bytes.get(..len).unwrap_or_default()).map_err(|source| {
        DeviceError::Damaged {
            path: path.into(),
            source,
        }
    })?;
    let anchors =
        TrustAnchors::from_cose_keys(&read.release_keys, &read.tam_keys).map_err(|e| {
            DeviceError::Anchors {
                path: path.into(),
                reason: e.to_string(),
            }
        })?;
    let root_key = SecretPage::new(read.tee_key.as_slice()).map_err(DeviceError::Memory)?;
    let id = read.identity;
    let identity = HardwareIdentity {
        ueid: id.ueid,
        serial: id.serial,
        oemid: match id.oemid {
            Oem::Pen(pen) => OemId::Pen(pen),
            Oem::Bytes(bytes) => OemId::Bytes(bytes),
        },
        hwmodel: id.hwmodel,
        hwversion: id.hwversion,
        imei: id.imei,
        mac: id.mac,
        vendor_ids: id.vendor_ids,
        class_ids: id.class_ids,
    };
    Ok(Device {
        root_key,
        identity,
        anchors,
        tam_uri: read.tam_uri,
    })
}
