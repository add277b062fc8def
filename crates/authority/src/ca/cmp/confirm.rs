//! certConf: the device accepts or refuses the certificate it was sent.
//!
//! Spec: RFC 9810 section 5.3.18, RFC 9483 section 4.1.1.

use tegata_crypto::{KeyAlg, Provider, ct_eq};
use tegata_wire::cmp::{CertStatus, HashAlg, P10CR_CERT_REQ_ID, PkiHeader};

use super::denial::CmpDenial;
use super::request::RequestBody;
use crate::ca::means::Authenticated;

/// What the CA remembers of a transaction that awaits its certConf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingTransaction {
    /// The nonce of our response.
    pub server_nonce: Vec<u8>,
    /// The certificate that was sent (DER).
    pub certificate: Vec<u8>,
    /// Algorithm of the key that signed it: it names the hash of certConf.
    pub issuer_alg: KeyAlg,
    /// Label of the means that the request was authenticated by.
    pub asker: String,
}

/// What the device decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It installed the certificate.
    Accepted,
    /// It refused it.
    Refused,
}

/// Proof that the device decided about this very certificate.
#[derive(Debug)]
#[must_use]
pub struct Confirmation {
    verdict: Verdict,
}

impl Confirmation {
    /// What it decided.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }
}

/// Checks a confirmation against what was sent.
///
/// # Errors
/// `NothingPending`, `RecipientNonce` or `WrongCertificate`; `Body` if it is no confirmation.
pub fn check_confirmation(
    provider: &dyn Provider,
    header: &PkiHeader,
    request: Authenticated,
    pending: Option<&PendingTransaction>,
) -> Result<Confirmation, CmpDenial> {
    let (_, means, body) = request.into_parts();
    let RequestBody::CertConf(statuses) = body else {
        return Err(CmpDenial::Body {
            got: tegata_wire::cmp::BodyKind::P10cr,
        });
    };
    // Another key of the same device has no say in this. Spec: RFC 9483 section 3.5.
    let pending = pending.filter(|pending| pending.asker == means.label());
    let pending = pending.ok_or(CmpDenial::NothingPending)?;
    let nonce = header
        .recip_nonce
        .as_ref()
        .map_or(&[][..], |n| n.as_bytes());
    if !ct_eq(nonce, &pending.server_nonce) {
        return Err(CmpDenial::RecipientNonce);
    }
    // An empty list refuses every certificate. Spec: RFC 9810 section 5.3.18.
    let [status] = statuses.as_slice() else {
        return if statuses.is_empty() {
            Ok(Confirmation {
                verdict: Verdict::Refused,
            })
        } else {
            Err(CmpDenial::WrongCertificate)
        };
    };
    // RFC 9483 wants -1 in answer to p10cr; some clients count from 0.
    if !matches!(status.cert_req_id, P10CR_CERT_REQ_ID | 0) {
        return Err(CmpDenial::WrongCertificate);
    }
    let hash = certificate_hash(provider, status, pending)?;
    if !ct_eq(status.cert_hash.as_bytes(), &hash) {
        return Err(CmpDenial::WrongCertificate);
    }
    let verdict = if status.is_accepted() {
        Verdict::Accepted
    } else {
        Verdict::Refused
    };
    Ok(Confirmation { verdict })
}

/// The hash of the certificate by the algorithm named, or by that of its signature.
///
/// Spec: RFC 9481 section 3.3: Ed25519 goes with SHA-512.
fn certificate_hash(
    provider: &dyn Provider,
    status: &CertStatus,
    pending: &PendingTransaction,
) -> Result<Vec<u8>, CmpDenial> {
    let alg = match (&status.hash_alg, pending.issuer_alg) {
        (Some(id), _) => HashAlg::from_hash_identifier(id).ok_or(CmpDenial::WrongCertificate)?,
        (None, KeyAlg::P256) => HashAlg::Sha256,
        (None, KeyAlg::P384) => HashAlg::Sha384,
        (None, _) => HashAlg::Sha512,
    };
    let der = pending.certificate.as_slice();
    match alg {
        HashAlg::Sha256 => Ok(provider.sha256(der).to_vec()),
        HashAlg::Sha384 => Ok(provider.sha384(der).to_vec()),
        HashAlg::Sha512 => Ok(provider.sha512(der).to_vec()),
        _ => Err(CmpDenial::WrongCertificate),
    }
}
