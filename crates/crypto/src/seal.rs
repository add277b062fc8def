//! Sealed-at-rest blobs: AES-256-GCM under a sealing key, with the purpose authenticated.
//!
//! A blob sealed for one purpose does not open for another, so that a CA key file cannot be put
//! where a TAM key is expected. See docs/spec/keys.md.

use alloc::vec::Vec;

use crate::{CryptoError, Provider, Rng, Secret};

/// First bytes of every blob: format and version.
const MAGIC: &[u8; 4] = b"TGS1";
const SALT_LEN_BYTES: usize = 32;
const TAG_LEN_BYTES: usize = 16;
const HEADER_LEN_BYTES: usize = MAGIC.len() + SALT_LEN_BYTES;

/// Largest plaintext, in bytes: keys and small secrets, not files.
pub const SEALED_LEN_BYTES_MAX: usize = 1 << 20;

/// The key that seals others. Whoever holds it and the blobs holds the secrets.
#[derive(Debug)]
pub struct SealingKey(Secret<[u8; 32]>);

impl SealingKey {
    /// Takes 32 uniformly random bytes.
    pub fn new(key: Secret<[u8; 32]>) -> Self {
        Self(key)
    }

    /// Draws a new one.
    ///
    /// # Errors
    /// [`CryptoError::Rng`] if the generator fails.
    pub fn generate(rng: &mut dyn Rng) -> Result<Self, CryptoError> {
        let mut key = Secret::new([0; 32]);
        rng.fill(key.expose_secret_mut())?;
        Ok(Self(key))
    }

    /// The bytes, to store them where the sealed blobs are not.
    pub fn expose_bytes(&self) -> &Secret<[u8; 32]> {
        &self.0
    }
}

/// Seals `plain` for `purpose` (a fixed string of the program, such as "ca issuing key").
///
/// Each blob has a key of its own, derived with a random 32-byte salt, so the number of blobs
/// under one sealing key is not limited by the nonce.
///
/// # Errors
/// [`CryptoError::LimitExceeded`] above [`SEALED_LEN_BYTES_MAX`]; [`CryptoError::Rng`].
pub fn seal(
    provider: &dyn Provider,
    rng: &mut dyn Rng,
    key: &SealingKey,
    purpose: &str,
    plain: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    check_len(plain.len())?;
    let mut salt = [0; SALT_LEN_BYTES];
    rng.fill(&mut salt)?;
    let blob_key = blob_key(provider, key, &salt)?;
    let (key, nonce) = parts(&blob_key)?;
    let sealed = provider.aes_gcm_seal(key, nonce, &aad(purpose), plain)?;
    let mut blob = Vec::with_capacity(HEADER_LEN_BYTES + sealed.len());
    blob.extend_from_slice(MAGIC);
    blob.extend_from_slice(&salt);
    blob.extend_from_slice(&sealed);
    Ok(blob)
}

/// Opens a blob that was sealed under `key` for `purpose`.
///
/// # Errors
/// [`CryptoError::Malformed`] if it is no blob of this format; [`CryptoError::BadCiphertext`] for
/// another key, another purpose or any altered byte.
pub fn open(
    provider: &dyn Provider,
    key: &SealingKey,
    purpose: &str,
    blob: &[u8],
) -> Result<Secret<Vec<u8>>, CryptoError> {
    check_len(blob.len().saturating_sub(HEADER_LEN_BYTES + TAG_LEN_BYTES))?;
    let (salt, sealed) = blob
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_first_chunk::<SALT_LEN_BYTES>())
        .ok_or(CryptoError::Malformed("sealed blob"))?;
    let blob_key = blob_key(provider, key, salt)?;
    let (key, nonce) = parts(&blob_key)?;
    provider.aes_gcm_open(key, nonce, &aad(purpose), sealed)
}

fn check_len(len: usize) -> Result<(), CryptoError> {
    if len > SEALED_LEN_BYTES_MAX {
        return Err(CryptoError::LimitExceeded {
            what: "sealed data",
            limit: SEALED_LEN_BYTES_MAX.try_into().unwrap_or(u64::MAX),
            got: len.try_into().unwrap_or(u64::MAX),
        });
    }
    Ok(())
}

/// AES-256 key and nonce of one blob, 44 bytes.
fn blob_key(
    provider: &dyn Provider,
    key: &SealingKey,
    salt: &[u8; SALT_LEN_BYTES],
) -> Result<Secret<[u8; 44]>, CryptoError> {
    let mut out = Secret::new([0; 44]);
    provider.hkdf_sha256(
        key.0.expose_secret(),
        salt,
        b"tegata seal v1",
        out.expose_secret_mut(),
    )?;
    Ok(out)
}

fn parts(blob_key: &Secret<[u8; 44]>) -> Result<(&[u8; 32], &[u8; 12]), CryptoError> {
    let unreachable = CryptoError::Unreachable("blob key length");
    let (key, rest) = blob_key
        .expose_secret()
        .split_first_chunk()
        .ok_or(unreachable.clone())?;
    Ok((key, rest.first_chunk().ok_or(unreachable)?))
}

fn aad(purpose: &str) -> Vec<u8> {
    [MAGIC.as_slice(), purpose.as_bytes()].concat()
}
