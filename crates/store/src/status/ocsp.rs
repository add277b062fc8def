//! OCSP responses: signed ahead, and told only while the store still says what they say.
//!
//! A response without a nonce is the same for everybody. It is kept with the status that it tells; each
//! request looks the status up, so a response of before a revocation is never told. Those of the newest
//! certificates are signed before anybody asks, and what is kept is signed again before it gets old.
//!
//! Spec: RFC 6960, RFC 5019, RFC 9654.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tegata_authority::UnixSecs;
use tegata_authority::ca::status::ocsp::{
    make_responder_cert, responder_cert_serves, sign_response, status_of,
};
use tegata_crypto::{KeyAlg, Rng, Signer};
use tegata_wire::ocsp::{
    CertId, CertStatus, OcspFailure, OcspRequest, SingleStatus, failure_response,
};

use super::{Published, StatusServer};
use crate::generation::{Generation, Generations};
use crate::role::{RoleError, secs};
use crate::{StoreError, keys, revocation};

/// An answer to an OCSP request.
#[derive(Debug, Clone)]
pub struct OcspAnswer {
    /// The response (DER).
    pub published: Arc<Published>,
    /// Whether it is signed, and nobody's nonce is in it: it may be kept by caches.
    pub cacheable: bool,
    /// `ok`, or why there is no status in it.
    pub reason: &'static str,
}

/// The responder's key, and its certificate of one issuing CA.
pub(super) struct Responder {
    pub(super) signer: Box<dyn Signer>,
    pub(super) cert: Vec<u8>,
}

/// A responder that was made; none yet.
pub(super) type KeptResponder = Arc<Mutex<Option<Arc<Responder>>>>;

impl StatusServer {
    /// Answers an OCSP request with the status that was durable before this was called.
    pub fn ocsp(&self, request: &[u8], rng: &mut dyn Rng, now: UnixSecs) -> OcspAnswer {
        let answered = OcspRequest::from_der(request)
            .map_err(|_| (OcspFailure::MalformedRequest, "malformed"))
            .and_then(|request| self.answer(&request, rng, now));
        match answered {
            Ok((published, cacheable)) => OcspAnswer {
                published,
                cacheable,
                reason: "ok",
            },
            Err((failure, reason)) => {
                let der = failure_response(failure).unwrap_or_default();
                let provider = self.issuer.role.provider.as_ref();
                OcspAnswer {
                    published: Arc::new(Published::new(provider, der, (now, now, now))),
                    cacheable: false,
                    reason,
                }
            }
        }
    }

    pub(super) fn answer(
        &self,
        request: &OcspRequest,
        rng: &mut dyn Rng,
        now: UnixSecs,
    ) -> Result<(Arc<Published>, bool), (OcspFailure, &'static str)> {
        let present = self.issuer.generations().map_err(|e| failure(&e))?;
        // A response is of one issuer: that of the first certificate that is of any.
        let mut asked = request.certificates.iter();
        let by = asked.find_map(|id| issuer_of(&present, id));
        let by = by.ok_or((OcspFailure::Unauthorized, "unauthorized"))?;
        let asked = request.certificates.iter();
        let statuses = self.statuses(asked.map(|cert| (by, cert)));
        let statuses = statuses.map_err(|e| failure(&e.into()))?;
        // One certificate that was issued, asked for without a nonce: what most clients ask.
        let kept_as = match statuses.as_slice() {
            [one] if request.nonce.is_none() && one.status != CertStatus::Unknown => {
                one.cert.plain.then_some(one)
            }
            _ => None,
        };
        let poisoned = |_| failure(&StoreError::Poisoned.into());
        if let Some(one) = kept_as {
            let mut kept = self.responses.lock().map_err(poisoned)?;
            if let Some(published) = kept.find(one.cert, one.status, now) {
                return Ok((published, true));
            }
        }
        let nonce = request.nonce.as_deref();
        let published = self.respond(by, &statuses, nonce, rng, now);
        let published = published.map_err(|e| failure(&e))?;
        if let Some(one) = kept_as {
            let mut kept = self.responses.lock().map_err(poisoned)?;
            kept.put(one.cert, one.status, Arc::clone(&published));
        }
        Ok((published, request.nonce.is_none()))
    }

    /// What the store says now of certificates of these issuing CAs, in one view.
    fn statuses<'a>(
        &self,
        asked: impl Iterator<Item = (&'a Generation, &'a CertId)> + Clone,
    ) -> Result<Vec<SingleStatus<'a>>, StoreError> {
        self.issuer.role.store.read("status", |tx| {
            let each = asked.clone().map(|(by, cert)| {
                let found = if by.hashes.is_named_by(cert) {
                    revocation::of_issued(tx, &cert.serial, &by.id)?
                } else {
                    None
                };
                let status = found.map_or(CertStatus::Unknown, status_of);
                Ok::<_, StoreError>(SingleStatus { cert, status })
            });
            each.collect()
        })
    }

    /// Signs a response of an issuing CA.
    fn respond(
        &self,
        by: &Generation,
        statuses: &[SingleStatus<'_>],
        nonce: Option<&[u8]>,
        rng: &mut dyn Rng,
        now: UnixSecs,
    ) -> Result<Arc<Published>, RoleError> {
        let responder = self.responder(by, rng, now)?;
        let life = self.issuer.status.ocsp_life_secs;
        let next_update = UnixSecs(now.0.saturating_add(life));
        let renewed = UnixSecs(now.0.saturating_add(life / 2));
        let der = sign_response(
            responder.signer.as_ref(),
            &responder.cert,
            statuses,
            nonce,
            (now, next_update),
        )?;
        let provider = self.issuer.role.provider.as_ref();
        let times = (now, renewed, next_update);
        Ok(Arc::new(Published::new(provider, der, times)))
    }

    /// Signs ahead, so that requests seldom wait for a signature: again what is kept and soon too old to be
    /// told, and what is not kept of the newest certificates, as many as the settings say. Returns how many
    /// responses that were.
    ///
    /// To be called again after [`StatusServer::ahead_pause`]. Ends early once `over` is true.
    ///
    /// # Errors
    /// The store or a key failed; what could be signed all the same is kept.
    pub fn sign_ahead(
        &self,
        rng: &mut dyn Rng,
        over: &AtomicBool,
        now: UnixSecs,
    ) -> Result<usize, RoleError> {
        let present = self.issuer.generations()?;
        let newest = usize::try_from(self.issuer.status.presign).unwrap_or(usize::MAX);
        let newest = newest.min(KEPT_RESPONSES_MAX);
        let issued = self.issuer.role.store.read("newest certificates", |tx| {
            revocation::newest_issued(tx, newest)
        })?;
        let wanted = {
            let kept = self.responses.lock().map_err(|_| StoreError::Poisoned)?;
            let mut wanted = kept.ageing(now);
            // The newest comes last, and so it stays the longest.
            for (serial, issuer) in issued.iter().rev() {
                let by = present.of(issuer);
                let id = by.and_then(|by| by.hashes.cert_id(serial).ok());
                wanted.extend(id.filter(|id| !kept.has(id)));
            }
            wanted
        };
        // Whose key failed is not asked again in this round; others' are.
        let (mut signed, mut failed) = (0_usize, HashMap::new());
        for part in wanted.chunks(AHEAD_AT_ONCE) {
            let asked = part
                .iter()
                .filter_map(|id| Some((issuer_of(&present, id)?, id)));
            let statuses = self.statuses(asked.clone())?;
            for ((by, cert), one) in asked.zip(&statuses) {
                if over.load(Ordering::Relaxed) {
                    return Ok(signed);
                }
                if failed.contains_key(&by.number) {
                    continue;
                }
                // What becomes durable after the look is seen by the request that asks for it.
                if one.status == CertStatus::Unknown {
                    let mut kept = self.responses.lock().map_err(|_| StoreError::Poisoned)?;
                    kept.forget(cert);
                    continue;
                }
                let made = match self.respond(by, std::slice::from_ref(one), None, rng, now) {
                    Ok(made) => made,
                    Err(error) => {
                        failed.insert(by.number, error);
                        continue;
                    }
                };
                signed = signed.saturating_add(1);
                let mut kept = self.responses.lock().map_err(|_| StoreError::Poisoned)?;
                kept.put(cert, one.status, made);
            }
        }
        failed.into_values().next().map_or(Ok(signed), Err)
    }

    /// How long whoever signs ahead may rest between two rounds.
    #[must_use]
    pub fn ahead_pause(&self) -> Duration {
        // Several rounds within the quarter of its time in which a response is signed again.
        let told_secs = self.issuer.status.ocsp_life_secs / 2;
        Duration::from_secs((told_secs / 16).clamp(1, 60))
    }

    /// The responder's key with a certificate of this issuing CA that is good for a while; both are
    /// made when missing.
    pub(super) fn responder(
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

/// The issuing CA that a request names.
fn issuer_of<'a>(present: &'a Generations, id: &CertId) -> Option<&'a Generation> {
    present.iter().rev().find(|one| one.hashes.is_named_by(id))
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
/// Most responses that are kept; some 20 MB.
pub const KEPT_RESPONSES_MAX: usize = 16_384;
/// Statuses that are looked up in one view when responses are signed ahead.
const AHEAD_AT_ONCE: usize = 256;
