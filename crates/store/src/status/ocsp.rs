//! OCSP responses: each is kept with the status that it tells, and told only while that is so.
//!
//! Spec: RFC 6960, RFC 5019, RFC 9654.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tegata_authority::UnixSecs;
use tegata_authority::ca::status::ocsp::{
    make_responder_cert, responder_cert_serves, sign_response, status_of,
};
use tegata_crypto::{KeyAlg, Rng, Signer};
use tegata_wire::ocsp::{
    CertId, CertStatus, OcspFailure, OcspRequest, SingleStatus, failure_response,
};

use super::{Published, StatusServer};
use crate::generation::Generation;
use crate::role::{RoleError, secs};
use crate::{StoreError, keys, revocation};

/// An answer to an OCSP request.
#[derive(Debug, Clone)]
pub struct OcspAnswer {
    /// The response (DER).
    pub published: Published,
    /// Whether it is signed, and nobody's nonce is in it: it may be kept by caches.
    pub cacheable: bool,
    /// `ok`, or why there is no status in it.
    pub reason: &'static str,
}

/// The responder's key, and its certificate of one issuing CA.
pub(super) struct Responder {
    signer: Box<dyn Signer>,
    cert: Vec<u8>,
}

/// A responder that was made; none yet.
pub(super) type KeptResponder = Arc<Mutex<Option<Arc<Responder>>>>;

/// Responses by CertID, each with the status that it tells.
pub(super) type Responses = HashMap<Vec<u8>, (CertStatus, Arc<Published>)>;

impl StatusServer {
    /// Answers an OCSP request with the status that was durable before this was called.
    pub fn ocsp(&self, request: &[u8], rng: &mut dyn Rng, now: UnixSecs) -> OcspAnswer {
        let answered = OcspRequest::from_der(request)
            .map_err(|_| (OcspFailure::MalformedRequest, "malformed"))
            .and_then(|request| self.answer(&request, rng, now));
        match answered {
            Ok((published, cacheable)) => OcspAnswer {
                published: published.as_ref().clone(),
                cacheable,
                reason: "ok",
            },
            Err((failure, reason)) => OcspAnswer {
                published: Published {
                    der: failure_response(failure).unwrap_or_default(),
                    made: now,
                    renewed: now,
                    next_update: now,
                },
                cacheable: false,
                reason,
            },
        }
    }

    fn answer(
        &self,
        request: &OcspRequest,
        rng: &mut dyn Rng,
        now: UnixSecs,
    ) -> Result<(Arc<Published>, bool), (OcspFailure, &'static str)> {
        let present = self.issuer.generations().map_err(|e| failure(&e))?;
        // A response is of one issuer: that of the first certificate that is of any.
        let mut asked = request.certificates.iter();
        let by = asked.find_map(|id| present.iter().rev().find(|one| one.hashes.is_named_by(id)));
        let by = by.ok_or((OcspFailure::Unauthorized, "unauthorized"))?;
        let ours = |id: &CertId| by.hashes.is_named_by(id);
        let store = &self.issuer.role.store;
        let statuses = store.read("status", |tx| {
            let each = request.certificates.iter().map(|cert| {
                let found = if ours(cert) {
                    revocation::of_issued(tx, &cert.serial, &by.id)?
                } else {
                    None
                };
                let status = found.map_or(CertStatus::Unknown, status_of);
                Ok::<_, StoreError>(SingleStatus { cert, status })
            });
            each.collect::<Result<Vec<_>, _>>()
        });
        let statuses = statuses.map_err(|e| failure(&e.into()))?;
        // One certificate that was issued, asked for without a nonce: what most clients ask.
        let key = match (request.certificates.as_slice(), statuses.as_slice()) {
            ([cert], [one]) if request.nonce.is_none() && one.status != CertStatus::Unknown => {
                let id = cert.der.as_bytes();
                (id.len() <= KEPT_ID_LEN_BYTES_MAX).then(|| (id.to_vec(), one.status))
            }
            _ => None,
        };
        let poisoned = |_| failure(&StoreError::Poisoned.into());
        if let Some((id, status)) = &key
            && let Some((kept, published)) = self.responses.lock().map_err(poisoned)?.get(id)
            && kept == status
            && published.serves(now)
        {
            return Ok((Arc::clone(published), true));
        }
        let responder = self.responder(by, rng, now).map_err(|e| failure(&e))?;
        let life = self.issuer.status.ocsp_life_secs;
        let next_update = UnixSecs(now.0.saturating_add(life));
        let der = sign_response(
            responder.signer.as_ref(),
            &responder.cert,
            &statuses,
            request.nonce.as_deref(),
            (now, next_update),
        )
        .map_err(|e| failure(&e.into()))?;
        let published = Arc::new(Published {
            der,
            made: now,
            renewed: UnixSecs(now.0.saturating_add(life / 2)),
            next_update,
        });
        if let Some((id, status)) = key {
            let mut kept = self.responses.lock().map_err(poisoned)?;
            if kept.len() >= KEPT_RESPONSES_MAX {
                kept.clear();
            }
            kept.insert(id, (status, Arc::clone(&published)));
        }
        Ok((published, request.nonce.is_none()))
    }

    /// The responder's key with a certificate of this issuing CA that is good for a while; both are
    /// made when missing.
    fn responder(
        &self,
        by: &Generation,
        rng: &mut dyn Rng,
        now: UnixSecs,
    ) -> Result<Arc<Responder>, RoleError> {
        let issuer = &by.ca;
        let slot = {
            let mut all = self.responders.lock().map_err(|_| StoreError::Poisoned)?;
            Arc::clone(all.entry(by.number).or_default())
        };
        let mut kept = slot.lock().map_err(|_| StoreError::Poisoned)?;
        if let Some(responder) = kept.as_ref() {
            let key = responder.signer.public_key();
            if responder_cert_serves(&responder.cert, issuer, key, now) {
                return Ok(Arc::clone(responder));
            }
        }
        let role = &self.issuer.role;
        // 1. The key, sealed. A crash after this leaves a key without a certificate.
        let key = role.open_or_make_key(RESPONDER_KEY, KeyAlg::P256, rng, now)?;
        let signer = role.provider.signer(&key)?;
        // 2. Its certificate: another process may have renewed it.
        let name = format!("{RESPONDER_CERT} {}", by.id);
        let stored = role
            .store
            .read("responder", |tx| keys::document(tx, &name))?;
        let key = signer.public_key();
        let cert = match stored {
            Some(cert) if responder_cert_serves(&cert, issuer, key, now) => cert,
            _ => {
                let issuing = by.key.as_ref();
                let cert = make_responder_cert(issuer, issuing, key, rng, now)?;
                role.store.run_tx("renew responder", |tx| {
                    keys::put_document(tx, &name, &cert, secs(now))
                })?;
                cert
            }
        };
        let responder = Arc::new(Responder { signer, cert });
        *kept = Some(Arc::clone(&responder));
        Ok(responder)
    }
}

/// A failure of ours as the peer may know it.
fn failure(e: &RoleError) -> (OcspFailure, &'static str) {
    match e {
        RoleError::Store(store) if store.is_retryable() => (OcspFailure::TryLater, e.code()),
        _ => (OcspFailure::InternalError, e.code()),
    }
}

/// Name and sealing purpose of the responder's key.
const RESPONDER_KEY: &str = "ca ocsp key";
/// Name of the responder's certificates; the issuing CA's name follows.
const RESPONDER_CERT: &str = "ca ocsp certificate";
/// Most responses that are kept; some 15 MB.
const KEPT_RESPONSES_MAX: usize = 16_384;
/// Longest CertID that a response is kept for, bytes; with SHA-256 it has 105.
const KEPT_ID_LEN_BYTES_MAX: usize = 128;
