//! CRMF: proof of possession by signature.

use der::Encode as _;
use tegata_wire::cmp::{CertReqMsg, CertRequest, ProofOfPossession};
use tegata_wire::x509::SignatureAlg;

use crate::{CryptoError, Provider, PublicKey};

/// A certificate request whose proof of possession was made with the key it names.
#[derive(Debug)]
#[must_use]
pub struct CrmfRequest {
    request: CertRequest,
    public_key: PublicKey,
}

impl CrmfRequest {
    /// What it asks for. That the requester may have it is another question.
    pub fn request(&self) -> &CertRequest {
        &self.request
    }

    /// The key whose possession is proved.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

/// Why a certificate request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrmfError {
    /// Not a CertRequest.
    #[error("malformed certificate request: {0}")]
    Malformed(der::Error),
    /// No public key in the template.
    #[error("the template has no public key")]
    NoKey,
    /// No signature of the key over the request itself: none at all, somebody's word for it
    /// (raVerified), another method, or a signature over something else (poposkInput).
    #[error("the proof of possession is not a signature over the request")]
    NotASignature,
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
/// [`CrmfError`].
///
/// Spec: RFC 4211 section 4.1, RFC 9483 section 4.1.1.
pub fn verify_crmf(
    provider: &dyn Provider,
    message: &CertReqMsg,
) -> Result<CrmfRequest, CrmfError> {
    let request = message.request().map_err(CrmfError::Malformed)?;
    let spki = request.cert_template.public_key.as_ref();
    let spki = spki.ok_or(CrmfError::NoKey)?.to_der();
    let public_key = PublicKey::from_spki_der(&spki.map_err(CrmfError::Malformed)?)?;
    let Some(ProofOfPossession::Signature(popo)) = &message.popo else {
        return Err(CrmfError::NotASignature);
    };
    if popo.popo_sk_input.is_some() {
        return Err(CrmfError::NotASignature);
    }
    if SignatureAlg::from_identifier(&popo.alg) != Some(public_key.alg().signature_alg()) {
        return Err(CrmfError::AlgMismatch);
    }
    let bits = popo.signature.as_bytes().ok_or(CrmfError::NotASignature)?;
    let raw = crate::ecdsa_sig::from_der(public_key.alg(), bits)?;
    provider.verify(&public_key, message.cert_req.as_bytes(), &raw)?;
    Ok(CrmfRequest {
        request,
        public_key,
    })
}
