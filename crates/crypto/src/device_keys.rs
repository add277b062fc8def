//! The keys of a device, each derived from its 32-byte `TeeKey` under a label of its own.
//!
//! The TEE hands in a `derive` closure (on OP-TEE the derivation happens below it), the factory
//! uses [`software_derive`] with the `TeeKey` it has just drawn; both get the same keys, so the
//! factory can export the public halves. See docs/spec/keys.md.

use alloc::vec::Vec;

use crate::{CryptoError, PrivateKey, Provider, Secret};

/// Label of the key that signs EAT evidence.
pub const ATTESTATION: &str = "tegata attestation v1";
/// Label of the key that signs TEEP messages.
pub const TEEP_AGENT: &str = "tegata teep-agent v1";
/// Label of the P-256 key to which content keys are encrypted (asymmetric delivery).
pub const DELIVERY_ECDH: &str = "tegata delivery-ecdh v1";
/// Label of the AES key-encryption key shared with the TAM (symmetric delivery).
pub const DELIVERY_KEK: &str = "tegata delivery-kek v1";
/// Label of the root of the device's secure storage.
pub const STORAGE: &str = "tegata storage v1";

/// Derivation from the `TeeKey`: (label, context) to 32 bytes.
pub type Derive<'a> = dyn Fn(&str, &[u8]) -> Result<Secret<[u8; 32]>, CryptoError> + 'a;

/// HKDF-SHA256(ikm = `tee_key`, salt = empty, info = label ‖ 00 ‖ context).
///
/// # Errors
/// [`CryptoError::Unreachable`] only.
pub fn software_derive(
    provider: &dyn Provider,
    tee_key: &Secret<[u8; 32]>,
    label: &str,
    context: &[u8],
) -> Result<Secret<[u8; 32]>, CryptoError> {
    // No label contains a zero byte, so label and context cannot run into each other.
    let mut info = Vec::with_capacity(label.len() + 1 + context.len());
    info.extend_from_slice(label.as_bytes());
    info.push(0);
    info.extend_from_slice(context);
    let mut out = Secret::new([0; 32]);
    provider.hkdf_sha256(tee_key.expose_secret(), b"", &info, out.expose_secret_mut())?;
    Ok(out)
}

/// The P-256 key that signs EAT evidence.
///
/// # Errors
/// What `derive` reports.
pub fn attestation_key(
    provider: &dyn Provider,
    derive: &Derive<'_>,
) -> Result<PrivateKey, CryptoError> {
    p256_key(provider, derive, ATTESTATION)
}

/// The P-256 key that signs TEEP messages.
///
/// # Errors
/// What `derive` reports.
pub fn teep_key(provider: &dyn Provider, derive: &Derive<'_>) -> Result<PrivateKey, CryptoError> {
    p256_key(provider, derive, TEEP_AGENT)
}

/// The P-256 key for ECDH-ES delivery.
///
/// # Errors
/// What `derive` reports.
pub fn delivery_ecdh_key(
    provider: &dyn Provider,
    derive: &Derive<'_>,
) -> Result<PrivateKey, CryptoError> {
    p256_key(provider, derive, DELIVERY_ECDH)
}

/// The AES-128 key-encryption key for symmetric delivery: the first 16 bytes of its derivation.
///
/// # Errors
/// What `derive` reports.
pub fn delivery_kek(derive: &Derive<'_>) -> Result<Secret<[u8; 16]>, CryptoError> {
    let full = derive(DELIVERY_KEK, b"")?;
    let mut kek = Secret::new([0; 16]);
    let bytes = kek.expose_secret_mut().iter_mut();
    bytes
        .zip(full.expose_secret())
        .for_each(|(out, byte)| *out = *byte);
    Ok(kek)
}

/// The root key of secure storage for one use, named by `context`.
///
/// # Errors
/// What `derive` reports.
pub fn storage_key(derive: &Derive<'_>, context: &[u8]) -> Result<Secret<[u8; 32]>, CryptoError> {
    derive(STORAGE, context)
}

/// A P-256 key: the derived 32 bytes, stretched by HKDF to 48 and reduced modulo the order.
fn p256_key(
    provider: &dyn Provider,
    derive: &Derive<'_>,
    label: &str,
) -> Result<PrivateKey, CryptoError> {
    let seed = derive(label, b"")?;
    let mut wide = Secret::new([0; 48]);
    provider.hkdf_sha256(
        seed.expose_secret(),
        b"",
        b"tegata p256 scalar v1",
        wide.expose_secret_mut(),
    )?;
    PrivateKey::p256_from_wide_bytes(wide.expose_secret())
}
