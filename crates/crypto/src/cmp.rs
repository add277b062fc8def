//! Protection of CMP messages: made and verified over the DER of `ProtectedPart`.
//!
//! Invariants: the bytes that are checked are those that came; a MAC is compared in constant time
//! and in full length; a peer that is not authenticated buys at most a bounded number of hashes.
//!
//! Spec: RFC 9810 section 5.1.3, RFC 9481 section 6.

use alloc::vec::Vec;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tegata_wire::cmp::{
    HashAlg, PbmParameter, Pbmac1Parameter, ProtectionAlg, UnverifiedPkiMessage,
};
use zeroize::Zeroize as _;

use crate::{CryptoError, Provider, PublicKey, Secret, Signer, ct_eq};

/// Bounds on the work a peer may ask for before it is authenticated; what the decoder allows
/// (salts of 64 bytes, 100,000 iterations) is the outer bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacLimits {
    /// Most PBKDF2 or PasswordBasedMac iterations.
    pub iterations_max: u32,
}

impl Default for MacLimits {
    fn default() -> Self {
        // 100,000 rounds take below 0.1 s on a server; OpenSSL asks for 500 by default.
        Self {
            iterations_max: 100_000,
        }
    }
}

/// Which MAC a message was protected with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MacKind {
    /// HMAC directly under the shared key. Spec: RFC 9481 section 6.2.
    Hmac,
    /// PBMAC1 with PBKDF2. Spec: RFC 9481 section 6.1.2.
    Pbmac1,
    /// PasswordBasedMac. Spec: RFC 9481 section 6.1.1.
    PasswordBasedMac,
}

/// Proof that a message was protected with the shared secret.
#[derive(Debug)]
#[must_use]
pub struct MacVerified {
    kind: MacKind,
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
    key: PublicKey,
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
    /// The message has no protection (CMP: badMessageCheck).
    #[error("message without protection")]
    Unprotected,
    /// `protectionAlg` names nothing we accept here (CMP: badAlg).
    #[error("unsupported protection algorithm")]
    UnsupportedAlgorithm,
    /// Its parameters do not parse or are out of bounds (CMP: badAlg).
    #[error("unacceptable protection parameters")]
    BadParameters,
    /// MAC, signature or key refused (CMP: badMessageCheck).
    #[error("refused protection")]
    Crypto(#[from] CryptoError),
}

/// HMAC-SHA256 over the protected part; `protectionAlg` is [`ProtectionAlg::HMAC_SHA256`].
///
/// Spec: RFC 9481 section 6.2.
pub fn protect_hmac_sha256(provider: &dyn Provider, key: &[u8], protected_part: &[u8]) -> [u8; 32] {
    provider.hmac_sha256(key, protected_part)
}

/// Verifies MAC protection: direct HMAC, PBMAC1 or PasswordBasedMac.
///
/// # Errors
/// [`CmpError`]; nothing tells a wrong secret from an altered message.
pub fn verify_mac(
    provider: &dyn Provider,
    algorithm: &ProtectionAlg,
    secret: &[u8],
    protected_part: &[u8],
    mac: &[u8],
    limits: &MacLimits,
) -> Result<MacVerified, CmpError> {
    let (kind, expected) = mac_of(provider, algorithm, secret, protected_part, limits)?;
    if ct_eq(&expected, mac) {
        Ok(MacVerified { kind })
    } else {
        Err(CryptoError::BadMac.into())
    }
}

/// The MAC of a protected part under a shared secret, by the algorithm that the header will name.
///
/// # Errors
/// `UnsupportedAlgorithm` for what [`verify_mac`] does not take either.
pub fn protect_mac(
    provider: &dyn Provider,
    algorithm: &ProtectionAlg,
    secret: &[u8],
    protected_part: &[u8],
) -> Result<Vec<u8>, CmpError> {
    let limits = MacLimits::default();
    mac_of(provider, algorithm, secret, protected_part, &limits).map(|(_, mac)| mac)
}

fn mac_of(
    provider: &dyn Provider,
    algorithm: &ProtectionAlg,
    secret: &[u8],
    protected_part: &[u8],
    limits: &MacLimits,
) -> Result<(MacKind, Vec<u8>), CmpError> {
    Ok(match algorithm {
        ProtectionAlg::Hmac(HashAlg::Sha1) => return Err(CmpError::UnsupportedAlgorithm),
        ProtectionAlg::Hmac(hash) => (
            MacKind::Hmac,
            hmac(provider, *hash, secret, protected_part)?,
        ),
        ProtectionAlg::Pbmac1(params) => {
            check_iterations(params.iterations, limits)?;
            let key = pbmac1_key(provider, params, secret)?;
            let mac = hmac(provider, params.mac, key.expose_secret(), protected_part)?;
            (MacKind::Pbmac1, mac)
        }
        ProtectionAlg::PasswordBasedMac(params) => {
            check_iterations(params.iterations, limits)?;
            let key = password_based_key(params, secret);
            let mac = hmac(provider, params.mac, key.expose_secret(), protected_part)?;
            (MacKind::PasswordBasedMac, mac)
        }
        _ => return Err(CmpError::UnsupportedAlgorithm),
    })
}

/// Verifies the MAC protection of a whole message.
///
/// # Errors
/// As [`verify_mac`].
pub fn verify_message_mac(
    provider: &dyn Provider,
    message: &UnverifiedPkiMessage,
    secret: &[u8],
    limits: &MacLimits,
) -> Result<MacVerified, CmpError> {
    let (algorithm, mac, part) = protected(message)?;
    verify_mac(provider, &algorithm, secret, &part, mac, limits)
}

/// Signs the protected part; returns the octets of the `protection` BIT STRING. `protectionAlg`
/// is `ProtectionAlg::Signature` of the key's [`crate::KeyAlg::signature_alg`].
///
/// # Errors
/// What the signer reports.
pub fn protect_signature(signer: &dyn Signer, protected_part: &[u8]) -> Result<Vec<u8>, CmpError> {
    let raw = signer.sign(protected_part)?;
    Ok(crate::ecdsa_sig::to_der(signer.public_key().alg(), &raw)?)
}

/// Verifies signature protection with `key`. Whether `key` may sign this message is the caller's
/// question ([`crate::chain`]).
///
/// # Errors
/// [`CmpError`].
pub fn verify_signature(
    provider: &dyn Provider,
    algorithm: &ProtectionAlg,
    key: &PublicKey,
    protected_part: &[u8],
    signature: &[u8],
) -> Result<SignatureVerified, CmpError> {
    let ProtectionAlg::Signature(alg) = algorithm else {
        return Err(CmpError::UnsupportedAlgorithm);
    };
    if *alg != key.alg().signature_alg() {
        return Err(CmpError::UnsupportedAlgorithm);
    }
    let raw = crate::ecdsa_sig::from_der(key.alg(), signature)?;
    provider.verify(key, protected_part, &raw)?;
    Ok(SignatureVerified { key: key.clone() })
}

/// Verifies the signature protection of a whole message.
///
/// # Errors
/// As [`verify_signature`].
pub fn verify_message_signature(
    provider: &dyn Provider,
    message: &UnverifiedPkiMessage,
    key: &PublicKey,
) -> Result<SignatureVerified, CmpError> {
    let (algorithm, signature, part) = protected(message)?;
    verify_signature(provider, &algorithm, key, &part, signature)
}

/// Algorithm, protection and protected bytes of a message.
fn protected(message: &UnverifiedPkiMessage) -> Result<(ProtectionAlg, &[u8], Vec<u8>), CmpError> {
    let value = message.protection().ok_or(CmpError::Unprotected)?;
    let algorithm = message
        .header()
        .protection()
        .map_err(|_| CmpError::BadParameters)?
        .ok_or(CmpError::Unprotected)?;
    let part = message
        .protected_part()
        .map_err(|_| CryptoError::Unreachable("protected part of a decoded message"))?;
    Ok((algorithm, value, part))
}

fn check_iterations(iterations: u32, limits: &MacLimits) -> Result<(), CmpError> {
    if iterations > limits.iterations_max {
        Err(CmpError::BadParameters)
    } else {
        Ok(())
    }
}

fn hmac(
    provider: &dyn Provider,
    hash: HashAlg,
    key: &[u8],
    data: &[u8],
) -> Result<Vec<u8>, CmpError> {
    macro_rules! with {
        ($hash:ty) => {{
            let mut mac = Hmac::<$hash>::new_from_slice(key)
                .map_err(|_| CryptoError::Unreachable("HMAC takes any key"))?;
            mac.update(data);
            mac.finalize().into_bytes().to_vec()
        }};
    }
    Ok(match hash {
        HashAlg::Sha256 => provider.hmac_sha256(key, data).to_vec(),
        HashAlg::Sha384 => provider.hmac_sha384(key, data).to_vec(),
        HashAlg::Sha512 => with!(Sha512),
        HashAlg::Sha1 => with!(Sha1),
        _ => return Err(CmpError::UnsupportedAlgorithm),
    })
}

/// Spec: RFC 8018 section 7.1.
fn pbmac1_key(
    provider: &dyn Provider,
    params: &Pbmac1Parameter,
    secret: &[u8],
) -> Result<Secret<Vec<u8>>, CmpError> {
    let (salt, iterations) = (params.salt.as_slice(), params.iterations);
    let mut key = Secret::new(alloc::vec![0; params.key_len]);
    let out = key.expose_secret_mut();
    match params.prf {
        HashAlg::Sha256 => provider.pbkdf2_hmac_sha256(secret, salt, iterations, out)?,
        HashAlg::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(secret, salt, iterations, out),
        HashAlg::Sha384 => pbkdf2::pbkdf2_hmac::<Sha384>(secret, salt, iterations, out),
        HashAlg::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(secret, salt, iterations, out),
        _ => return Err(CmpError::UnsupportedAlgorithm),
    }
    Ok(key)
}

/// The hash applied `iterations` times to secret ‖ salt. Spec: RFC 9810 section 5.1.3.1.
fn password_based_key(params: &PbmParameter, secret: &[u8]) -> Secret<Vec<u8>> {
    macro_rules! with {
        ($hash:ty) => {{
            let mut hash = <$hash>::new();
            hash.update(secret);
            hash.update(&params.salt);
            let mut key = hash.finalize();
            for _ in 1..params.iterations {
                key = <$hash>::digest(&key);
            }
            let out = Secret::new(key.to_vec());
            key.as_mut_slice().zeroize();
            out
        }};
    }
    match params.owf {
        HashAlg::Sha1 => with!(Sha1),
        HashAlg::Sha384 => with!(Sha384),
        HashAlg::Sha512 => with!(Sha512),
        _ => with!(Sha256),
    }
}
