//! PKCS#10: proof of possession.

use alloc::vec::Vec;

use der::{Decode, Encode};
use x509_cert::request::CertReq;

use crate::{CryptoError, Provider, PublicKey};

/// Largest request that is looked at, in bytes.
pub const CSR_LEN_BYTES_MAX: usize = 16 * 1024;

/// A certification request whose signature was made with the key it names.
#[derive(Debug)]
#[must_use]
pub struct Csr {
    der: Vec<u8>,
    request: CertReq,
    public_key: PublicKey,
}

impl Csr {
    /// The request as it came, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The request, parsed.
    pub fn request(&self) -> &CertReq {
        &self.request
    }

    /// The key whose possession is proved.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

/// Why a PKCS#10 request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// Not a DER CertificationRequest, or not one of version 1.
    #[error("malformed PKCS#10 request")]
    Malformed,
    /// Larger than [`CSR_LEN_BYTES_MAX`].
    #[error("PKCS#10 request has {got} bytes, above the limit of {CSR_LEN_BYTES_MAX}")]
    TooLarge {
        /// Length found, in bytes.
        got: usize,
    },
    /// The signature algorithm is not the one of the key.
    #[error("signature algorithm does not fit the key")]
    AlgMismatch,
    /// The key or the signature is refused.
    #[error("refused key or signature")]
    Crypto(#[from] CryptoError),
}

/// Checks that a request is signed with the key it names.
///
/// # Errors
/// [`CsrError`].
///
/// Spec: RFC 2986 section 3.
pub fn verify_csr(provider: &dyn Provider, der: &[u8]) -> Result<Csr, CsrError> {
    if der.len() > CSR_LEN_BYTES_MAX {
        return Err(CsrError::TooLarge { got: der.len() });
    }
    let request = CertReq::from_der(der).map_err(|_| CsrError::Malformed)?;
    let spki = request
        .info
        .public_key
        .to_der()
        .map_err(|_| CsrError::Malformed)?;
    let public_key = PublicKey::from_spki_der(&spki)?;
    // The bytes that were signed are those that came, not a re-encoding.
    let info = signed_part(der).ok_or(CsrError::Malformed)?;
    let algorithm = &request.algorithm;
    if algorithm.oid != public_key.alg().signature_oid() || algorithm.parameters.is_some() {
        return Err(CsrError::AlgMismatch);
    }
    let signature = request.signature.as_bytes().ok_or(CsrError::Malformed)?;
    let raw = crate::ecdsa_sig::from_der(public_key.alg(), signature)?;
    provider.verify(&public_key, info, &raw)?;
    Ok(Csr {
        der: der.to_vec(),
        request,
        public_key,
    })
}

/// The first element of the outer SEQUENCE, with its header, as it came.
pub(crate) fn signed_part(der: &[u8]) -> Option<&[u8]> {
    use der::{Header, Reader, SliceReader, Tag};
    let mut outer = SliceReader::new(der).ok()?;
    let header = Header::decode(&mut outer).ok()?;
    if header.tag() != Tag::Sequence {
        return None;
    }
    outer.tlv_bytes().ok()
}
