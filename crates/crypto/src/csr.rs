//! PKCS#10: proof of possession.

use tegata_wire::x509::{AllegedCsr, X509Error};

use crate::{CryptoError, Provider, PublicKey};

/// A certification request whose signature was made with the key it names.
#[derive(Debug)]
#[must_use]
pub struct Csr {
    alleged: AllegedCsr,
    public_key: PublicKey,
}

impl Csr {
    /// The request as it came, DER.
    pub fn der(&self) -> &[u8] {
        self.alleged.as_der()
    }

    /// What it asks for. That the requester may have it is another question.
    pub fn request(&self) -> &AllegedCsr {
        &self.alleged
    }

    /// The key whose possession is proved.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Request and key.
    pub fn into_parts(self) -> (AllegedCsr, PublicKey) {
        (self.alleged, self.public_key)
    }
}

/// Why a PKCS#10 request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// Not a PKCS#10 request that we read.
    #[error("malformed PKCS#10 request")]
    Malformed(#[from] X509Error),
    /// The signature algorithm is not the one of the key.
    #[error("signature algorithm does not fit the key")]
    AlgMismatch,
    /// The key or the signature is refused.
    #[error("refused key or signature")]
    Crypto(#[from] CryptoError),
}

/// Checks that a request in DER is signed with the key it names.
///
/// # Errors
/// [`CsrError`].
///
/// Spec: RFC 2986 section 4.2.
pub fn verify_csr(provider: &dyn Provider, der: &[u8]) -> Result<Csr, CsrError> {
    verify_alleged_csr(provider, AllegedCsr::from_der(der)?)
}

/// As [`verify_csr`], for a request that was read already.
///
/// # Errors
/// [`CsrError`].
pub fn verify_alleged_csr(provider: &dyn Provider, alleged: AllegedCsr) -> Result<Csr, CsrError> {
    let public_key = PublicKey::from_spki_der(&alleged.spki_der)?;
    if alleged.signature_alg() != Some(public_key.alg().signature_alg()) {
        return Err(CsrError::AlgMismatch);
    }
    let raw = crate::ecdsa_sig::from_der(public_key.alg(), &alleged.signature)?;
    provider.verify(&public_key, &alleged.tbs_der, &raw)?;
    Ok(Csr {
        alleged,
        public_key,
    })
}
