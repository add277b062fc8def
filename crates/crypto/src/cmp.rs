//! Protection of CMP messages: made and verified over the DER of `ProtectedPart`.

use alloc::vec::Vec;

use spki::AlgorithmIdentifierOwned;

use crate::{CryptoError, Provider, PublicKey, Signer};

/// Bounds on the work a peer may ask for before it is authenticated.
#[derive(Debug, Clone, Copy)]
pub struct MacLimits {
    /// Most PBKDF2 or PasswordBasedMac iterations.
    pub iterations_max: u32,
    /// Longest salt, in bytes.
    pub salt_len_bytes_max: usize,
}

impl Default for MacLimits {
    fn default() -> Self {
        // 100,000 rounds take below 0.1 s on a server; OpenSSL's default for PBM is 500.
        Self {
            iterations_max: 100_000,
            salt_len_bytes_max: 128,
        }
    }
}

/// Which MAC a message was protected with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MacKind {
    /// HMAC-SHA256 directly under the shared key. Spec: RFC 9481 section 6.2.2.
    HmacSha256,
    /// PBMAC1 with PBKDF2. Spec: RFC 9481 section 6.1.2.
    Pbmac1,
    /// PasswordBasedMac. Spec: RFC 9481 section 6.1.1.
    PasswordBasedMac,
}

/// Proof that a message was protected with the shared secret.
#[derive(Debug)]
#[must_use]
pub struct MacVerified {
    pub(crate) kind: MacKind,
}

impl MacVerified {
    /// Which MAC it was.
    pub fn kind(&self) -> MacKind {
        self.kind
    }
}

/// Proof that a message was signed with this key.
#[derive(Debug)]
#[must_use]
pub struct SignatureVerified {
    pub(crate) key: PublicKey,
}

impl SignatureVerified {
    /// The key that verified.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// Why the protection of a message is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmpError {
    /// `protectionAlg` names nothing we accept (CMP: badAlg).
    #[error("unsupported protection algorithm")]
    UnsupportedAlgorithm,
    /// Its parameters do not parse or are out of bounds (CMP: badAlg).
    #[error("unacceptable protection parameters")]
    BadParameters,
    /// MAC, signature or key refused (CMP: badMessageCheck).
    #[error("refused protection")]
    Crypto(#[from] CryptoError),
}

/// HMAC-SHA256 over the protected part; `protectionAlg` is hmacWithSHA256.
///
/// Spec: RFC 9481 section 6.2.2.
pub fn protect_hmac_sha256(provider: &dyn Provider, key: &[u8], protected_part: &[u8]) -> [u8; 32] {
    provider.hmac_sha256(key, protected_part)
}

/// Verifies MAC protection: direct HMAC-SHA256, PBMAC1 or PasswordBasedMac.
///
/// # Errors
/// [`CmpError`]; nothing tells a wrong secret from an altered message.
pub fn verify_mac(
    _provider: &dyn Provider,
    _algorithm: &AlgorithmIdentifierOwned,
    _secret: &[u8],
    _protected_part: &[u8],
    _mac: &[u8],
    _limits: &MacLimits,
) -> Result<MacVerified, CmpError> {
    Err(CmpError::Crypto(CryptoError::Unreachable(
        "to be filled in",
    )))
}

/// Signs the protected part; returns what goes into the `protection` BIT STRING.
///
/// # Errors
/// What the signer reports.
pub fn protect_signature(signer: &dyn Signer, protected_part: &[u8]) -> Result<Vec<u8>, CmpError> {
    let raw = signer.sign(protected_part)?;
    Ok(crate::ecdsa_sig::to_der(signer.public_key().alg(), &raw)?)
}

/// The `AlgorithmIdentifier` of signatures made with a key of this algorithm.
pub fn signature_algorithm(alg: crate::KeyAlg) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid: alg.signature_oid(),
        parameters: None,
    }
}

/// Verifies signature protection with `key`.
///
/// # Errors
/// [`CmpError`].
pub fn verify_signature(
    provider: &dyn Provider,
    algorithm: &AlgorithmIdentifierOwned,
    key: &PublicKey,
    protected_part: &[u8],
    signature: &[u8],
) -> Result<SignatureVerified, CmpError> {
    if algorithm.oid != key.alg().signature_oid() {
        return Err(CmpError::UnsupportedAlgorithm);
    }
    if algorithm.parameters.is_some() {
        return Err(CmpError::BadParameters);
    }
    let raw = crate::ecdsa_sig::from_der(key.alg(), signature)?;
    provider.verify(key, protected_part, &raw)?;
    Ok(SignatureVerified { key: key.clone() })
}
