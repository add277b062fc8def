//! A TA release as the CA hands it to the TAM.
//!
//! Spec: docs/spec/release-package.md.

use super::{
    EnrolmentError, MAX_CONFIG_BYTES, MAX_ENCRYPTION_INFO_BYTES, MAX_ENVELOPE_BYTES,
    MAX_NOTICE_BYTES, MAX_TA_BYTES, no_rest,
    personalization::{secret, wipe},
    version,
};
use crate::cbor::{self, CborError, MapBuilder, MapReader, Value};
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// Version written and read.
const VERSION: u64 = 1;

/// How devices get the key of the TA's ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DeliveryMode {
    /// The CA encrypts to each device; the TAM learns nothing (default profile).
    Asymmetric = 0,
    /// The TAM wraps with each device's symmetric key (paper profile).
    Symmetric = 1,
}

/// A release. Its authenticity is the signature inside `ta_envelope`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleasePackage {
    /// Signed SUIT envelope of the TA manifest.
    pub ta_envelope: Vec<u8>,
    /// The TA, encrypted once for all devices: A128GCM ciphertext and tag.
    pub ta_ciphertext: Vec<u8>,
    /// Nonce of that encryption.
    pub ta_iv: [u8; 12],
    /// How its key reaches devices.
    pub mode: DeliveryMode,
    /// Symmetric only: signed SUIT envelope of the release's one personalization manifest.
    pub config_envelope: Option<Vec<u8>>,
    /// Symmetric only: [`TamSecrets`] as COSE_Encrypt to the TAM's exchange key.
    pub tam_secrets: Option<Vec<u8>>,
    /// Who may get it: [`super::ReleaseNotice`] as COSE_Sign1 of the release key. A TAM that was
    /// told nothing delivers the release to nobody.
    pub notice: Option<Vec<u8>>,
}

impl ReleasePackage {
    /// Encodes the release.
    ///
    /// # Errors
    /// If a part exceeds its limit, or parts and mode contradict each other.
    pub fn encode(&self) -> Result<Vec<u8>, EnrolmentError> {
        let bytes = MapBuilder::new()
            .put(1, VERSION)
            .put(2, Value::Bytes(self.ta_envelope.clone()))
            .put(3, Value::Bytes(self.ta_ciphertext.clone()))
            .put(4, Value::Bytes(self.ta_iv.to_vec()))
            .put(5, self.mode as u8)
            .put_opt(6, self.config_envelope.clone().map(Value::Bytes))
            .put_opt(7, self.tam_secrets.clone().map(Value::Bytes))
            .put_opt(8, self.notice.clone().map(Value::Bytes))
            .encode()?;
        Self::decode(&bytes)?;
        Ok(bytes)
    }

    /// Decodes a release.
    ///
    /// # Errors
    /// If the bytes are not a release of this version, or parts and mode contradict each other.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        let max_secrets = MAX_CONFIG_BYTES + MAX_ENCRYPTION_INFO_BYTES;
        let max = MAX_TA_BYTES + 2 * MAX_ENVELOPE_BYTES + max_secrets + MAX_NOTICE_BYTES + 128;
        cbor::check_len(bytes.len(), "release package", 1, max)?;
        let mut map = MapReader::new(cbor::decode(bytes, 2)?, "release package")?;
        version(&mut map, "release package", VERSION)?;
        let sized = cbor::into_bytes_sized;
        let ta_envelope = sized(
            map.require(2, "TA envelope")?,
            "TA envelope",
            1,
            MAX_ENVELOPE_BYTES,
        )?;
        let ta_ciphertext = sized(
            map.require(3, "TA ciphertext")?,
            "TA ciphertext",
            17,
            MAX_TA_BYTES,
        )?;
        let ta_iv = cbor::into_byte_array(map.require(4, "TA nonce")?, "TA nonce")?;
        let mode = match cbor::uint(&map.require(5, "mode")?, "mode")? {
            0 => DeliveryMode::Asymmetric,
            1 => DeliveryMode::Symmetric,
            _ => return Err(CborError::Range { what: "mode" }.into()),
        };
        let config_envelope = map
            .take(6)
            .map(|v| sized(v, "config envelope", 1, MAX_ENVELOPE_BYTES))
            .transpose()?;
        let tam_secrets = map
            .take(7)
            .map(|v| sized(v, "TAM secrets", 1, max_secrets))
            .transpose()?;
        let notice = map
            .take(8)
            .map(|v| sized(v, "notice", 1, MAX_NOTICE_BYTES))
            .transpose()?;
        no_rest(&map, "release package")?;
        let symmetric = mode == DeliveryMode::Symmetric;
        if config_envelope.is_some() != symmetric || tam_secrets.is_some() != symmetric {
            return Err(EnrolmentError::Inconsistent(
                "config envelope and TAM secrets belong to symmetric delivery, and only to it",
            ));
        }
        Ok(Self {
            ta_envelope,
            ta_ciphertext,
            ta_iv,
            mode,
            config_envelope,
            tam_secrets,
            notice,
        })
    }
}

/// What the CA tells the TAM in symmetric mode, encrypted to the TAM's exchange key.
///
/// Secret: wiped when dropped, not printable.
pub struct TamSecrets {
    /// Key of the TA's ciphertext: A128GCM.
    cek: Zeroizing<[u8; 16]>,
    /// The personalization data of the release, encoded and in clear.
    config: Zeroizing<Vec<u8>>,
}

impl TamSecrets {
    /// Puts the secrets together. `config` is an encoded [`super::PersonalizationData`].
    #[must_use]
    pub fn new(cek: &[u8; 16], config: &[u8]) -> Self {
        Self {
            cek: Zeroizing::new(*cek),
            config: Zeroizing::new(config.to_vec()),
        }
    }

    /// Key of the TA's ciphertext.
    #[must_use]
    pub fn expose_cek(&self) -> &[u8; 16] {
        &self.cek
    }

    /// The personalization data of the release, encoded.
    #[must_use]
    pub fn expose_config(&self) -> &[u8] {
        &self.config
    }

    /// Encodes the secrets; the result is secret.
    ///
    /// # Errors
    /// If the personalization data exceeds its limit.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, EnrolmentError> {
        cbor::check_len(self.config.len(), "config", 1, MAX_CONFIG_BYTES)?;
        let mut value = MapBuilder::new()
            .put(1, VERSION)
            .put(2, Value::Bytes(self.cek.to_vec()))
            .put(3, Value::Bytes(self.config.to_vec()))
            .finish()?;
        let bytes = cbor::encode(&value).map(Zeroizing::new);
        wipe(&mut value);
        Ok(bytes?)
    }

    /// Decodes the secrets.
    ///
    /// # Errors
    /// If the bytes are not this object.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        cbor::check_len(bytes.len(), "TAM secrets", 1, MAX_CONFIG_BYTES + 64)?;
        let mut map = MapReader::new(cbor::decode(bytes, 2)?, "TAM secrets")?;
        version(&mut map, "TAM secrets", VERSION)?;
        let cek = secret(map.require(2, "cek")?, "cek")?;
        let config =
            cbor::into_bytes_sized(map.require(3, "config")?, "config", 1, MAX_CONFIG_BYTES)
                .map(Zeroizing::new)?;
        no_rest(&map, "TAM secrets")?;
        Ok(Self { cek, config })
    }
}
