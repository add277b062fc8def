//! Whom this device believes: the keys that the factory put in.

use alloc::vec::Vec;

use tegata_crypto::{CryptoError, PublicKey};
use tegata_wire::ids::SignerId;

/// Whom this device believes. Provisioned at the factory, never changed by a message.
///
/// Trusted: a release key may install TAs of its own UUIDs; a TAM key may talk TEEP to this
/// device, bring releases to it and remove them, and can make no release of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustAnchors {
    release_keys: Vec<PublicKey>,
    tam_keys: Vec<PublicKey>,
}

impl TrustAnchors {
    /// Anchors from keys.
    ///
    /// # Errors
    /// [`AnchorError::SharedKey`] if a key is in both lists: a TAM must not be able to sign
    /// releases, whoever made the list.
    pub fn new(
        release_keys: Vec<PublicKey>,
        tam_keys: Vec<PublicKey>,
    ) -> Result<Self, AnchorError> {
        if release_keys.iter().any(|key| tam_keys.contains(key)) {
            return Err(AnchorError::SharedKey);
        }
        Ok(Self {
            release_keys,
            tam_keys,
        })
    }

    /// Anchors from encoded COSE_Keys, as `device.cbor` holds them.
    ///
    /// # Errors
    /// [`AnchorError`] if one is no key, or is in both lists.
    pub fn from_cose_keys(
        release_keys: &[Vec<u8>],
        tam_keys: &[Vec<u8>],
    ) -> Result<Self, AnchorError> {
        let keys = |list: &[Vec<u8>]| {
            list.iter()
                .map(|key| PublicKey::from_cose_key(key))
                .collect::<Result<Vec<_>, _>>()
        };
        Self::new(keys(release_keys)?, keys(tam_keys)?)
    }

    /// Keys that may sign TA releases and personalization data.
    #[must_use]
    pub fn release_keys(&self) -> &[PublicKey] {
        &self.release_keys
    }

    /// Keys that may sign TEEP messages and dependent manifests.
    #[must_use]
    pub fn tam_keys(&self) -> &[PublicKey] {
        &self.tam_keys
    }

    /// Whether `signer` is one of the release keys.
    #[must_use]
    pub fn is_release_signer(&self, signer: &SignerId) -> bool {
        self.release_keys
            .iter()
            .any(|key| key.thumbprint() == signer.0)
    }
}

/// Why a list of keys is not a set of anchors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// A key is a release key and a TAM key.
    #[error("a key is listed as release key and as TAM key")]
    SharedKey,
    /// Not a key.
    #[error("trust anchor is not a key")]
    Key(#[from] CryptoError),
}
