//! The OCSP responder: a key of its own with a certificate of short life, and what it signs.
//!
//! Spec: RFC 6960, RFC 9654, RFC 5019.

use tegata_crypto::ocsp::name_hash_sha1;
use tegata_crypto::{Provider, PublicKey, Rng, Signer};
use tegata_wire::ocsp::{
    CertId, CertStatus, IdHash, ResponseBuilder, SingleStatus, assemble_response,
};
use tegata_wire::x509::{
    AttributeSpec, CertBuilder, CertView, Extension, ExtensionSet, KeyUsages, NameBuilder,
    Validity, assemble_certificate, oid,
};

use super::StatusError;
use crate::UnixSecs;
use crate::ca::authority_cert::{Issuer, backdated, random_serial};
use crate::ca::revocation::Standing;
use crate::ca::{CaCertError, signature_alg};

/// The issuer as requests name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerHashes {
    sha1: ([u8; 20], [u8; 20]),
    sha256: ([u8; 32], [u8; 32]),
}

impl IssuerHashes {
    /// Of an issuer.
    #[must_use]
    pub fn of(provider: &dyn Provider, issuer: &Issuer) -> Self {
        let (name, key) = (issuer.name.as_der(), issuer.public_key.bytes());
        Self {
            sha1: (name_hash_sha1(name), name_hash_sha1(key)),
            sha256: (provider.sha256(name), provider.sha256(key)),
        }
    }

    /// Whether a request names this issuer.
    #[must_use]
    pub fn is_named_by(&self, id: &CertId) -> bool {
        let (name, key): (&[u8], &[u8]) = match id.hash {
            IdHash::Sha1 => (&self.sha1.0, &self.sha1.1),
            IdHash::Sha256 => (&self.sha256.0, &self.sha256.1),
            IdHash::Other => return false,
        };
        id.issuer_name_hash == name && id.issuer_key_hash == key
    }

    /// A certificate of this issuer as most requests name it: with SHA-1.
    ///
    /// # Errors
    /// The serial number is none.
    pub fn cert_id(&self, serial: &[u8]) -> Result<CertId, StatusError> {
        Ok(CertId::with_sha1(&self.sha1.0, &self.sha1.1, serial)?)
    }
}

/// What is told of a certificate that was issued, by its standing.
#[must_use]
pub fn status_of(standing: Standing) -> CertStatus {
    match standing.to_entry() {
        Some((at, reason)) if !standing.is_good() => CertStatus::Revoked {
            at_secs: at.0,
            reason,
        },
        _ => CertStatus::Good,
    }
}

/// Makes the responder's certificate (DER) under the issuing key. Of an issuer that has ended it is of that
/// issuer's last days, and the last one: what was said of its certificates is still answered, to whoever
/// looks at a time when they were valid.
///
/// # Errors
/// A failing key or generator.
///
/// Spec: RFC 6960 sections 4.2.2.2 and 4.2.2.2.1: who sees id-pkix-ocsp-nocheck does not ask for the
/// status of this certificate, so its life is short.
pub fn make_responder_cert(
    issuer: &Issuer,
    issuing: &dyn Signer,
    responder: &PublicKey,
    rng: &mut dyn Rng,
    now: UnixSecs,
) -> Result<Vec<u8>, CaCertError> {
    let common_name = AttributeSpec::by_name("CN").ok_or(CaCertError::NotACa)?;
    let subject = NameBuilder::new().push(common_name, "OCSP Responder")?;
    let mut extensions = ExtensionSet::new();
    extensions.authority_key_id(&issuer.key_id)?;
    extensions.subject_key_id(&responder.x509_key_id())?;
    extensions.key_usage(KeyUsages::DigitalSignature.into())?;
    extensions.ext_key_usage(&[oid::KP_OCSP_SIGNING])?;
    extensions.push(Extension {
        oid: oid::OCSP_NO_CHECK,
        critical: false,
        value: vec![0x05, 0x00],
    })?;
    let end = now.0.saturating_add(RESPONDER_LIFE_SECS);
    let end = end.min(issuer.not_after_secs);
    let from = backdated(now).min(end.saturating_sub(RESPONDER_LIFE_SECS));
    let builder = CertBuilder {
        serial: random_serial(rng)?,
        signature_alg: signature_alg(issuer.public_key.alg())?,
        issuer: issuer.name.clone(),
        validity: Validity {
            not_before_secs: from.max(issuer.not_before_secs),
            not_after_secs: Some(end),
        },
        subject: subject.build()?,
        spki_der: responder.to_spki_der()?,
        extensions,
    };
    let tbs = builder.to_tbs()?;
    let raw = issuing.sign(&tbs)?;
    Ok(assemble_certificate(&tbs, builder.signature_alg, &raw)?)
}

/// Whether a responder's certificate is of this key and issuer, and good for a while.
#[must_use]
pub fn responder_cert_serves(
    cert: &[u8],
    issuer: &Issuer,
    responder: &PublicKey,
    now: UnixSecs,
) -> bool {
    let (Ok(view), Ok(spki)) = (CertView::from_der(cert), responder.to_spki_der()) else {
        return false;
    };
    let good_until = now.0.saturating_add(RESPONDER_RENEWAL_SECS);
    view.spki_der == spki
        && view.issuer_der == issuer.name.as_der()
        && view.not_before_secs <= now.0
        && view.not_after_secs > good_until.min(issuer.not_after_secs.saturating_sub(1))
}

/// Signs a response.
///
/// # Errors
/// A failing key.
pub fn sign_response(
    responder: &dyn Signer,
    responder_cert: &[u8],
    statuses: &[SingleStatus<'_>],
    nonce: Option<&[u8]>,
    (this_update, next_update): (UnixSecs, UnixSecs),
) -> Result<Vec<u8>, StatusError> {
    let key = responder.public_key();
    let tbs = ResponseBuilder {
        responder_key_hash: &name_hash_sha1(key.bytes()),
        this_update_secs: this_update.0,
        next_update_secs: next_update.0,
        statuses,
        nonce,
    }
    .to_tbs()?;
    let raw = responder.sign(&tbs)?;
    let alg = signature_alg(key.alg())?;
    Ok(assemble_response(&tbs, alg, &raw, responder_cert)?)
}

/// Life of the responder's certificate: a week.
const RESPONDER_LIFE_SECS: u64 = 7 * 86_400;
/// It is renewed when less than this is left: longer than any response is good for.
const RESPONDER_RENEWAL_SECS: u64 = 4 * 86_400;
