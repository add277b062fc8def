//! The two forms of a signature: raw r ‖ s (COSE, our traits) and DER (X.509, CMP, PKCS#10).
//! Ed25519 has one form only; it passes through unchanged.

use alloc::vec::Vec;

use crate::{CryptoError, KeyAlg};

/// Raw form to the form X.509 carries: DER `Ecdsa-Sig-Value`, or the 64 bytes of Ed25519.
///
/// # Errors
/// [`CryptoError::BadSignature`] for another length, or r or s zero or not below the order.
///
/// Spec: RFC 5480 appendix A.
pub fn to_der(alg: KeyAlg, raw: &[u8]) -> Result<Vec<u8>, CryptoError> {
    match alg {
        KeyAlg::P256 => {
            let signature =
                p256::ecdsa::Signature::from_slice(raw).map_err(|_| CryptoError::BadSignature)?;
            Ok(signature.to_der().as_bytes().to_vec())
        }
        KeyAlg::P384 => {
            let signature =
                p384::ecdsa::Signature::from_slice(raw).map_err(|_| CryptoError::BadSignature)?;
            Ok(signature.to_der().as_bytes().to_vec())
        }
        KeyAlg::Ed25519 => ed25519(raw),
    }
}

/// The form X.509 carries to the raw form. Only strict DER is accepted.
///
/// # Errors
/// [`CryptoError::BadSignature`] for anything else.
pub fn from_der(alg: KeyAlg, der: &[u8]) -> Result<Vec<u8>, CryptoError> {
    match alg {
        KeyAlg::P256 => Ok(p256::ecdsa::Signature::from_der(der)
            .map_err(|_| CryptoError::BadSignature)?
            .to_vec()),
        KeyAlg::P384 => Ok(p384::ecdsa::Signature::from_der(der)
            .map_err(|_| CryptoError::BadSignature)?
            .to_vec()),
        KeyAlg::Ed25519 => ed25519(der),
    }
}

fn ed25519(signature: &[u8]) -> Result<Vec<u8>, CryptoError> {
    if signature.len() == KeyAlg::Ed25519.signature_len() {
        Ok(signature.to_vec())
    } else {
        Err(CryptoError::BadSignature)
    }
}
