//! The status service of the CA: lists and responses, signed ahead and looked up again each time.
//!
//! Invariants: before anything is answered the store is asked what changed last, so that an answer
//! of this process is never older than the last word that was durable when its request came. What is
//! kept in memory is signatures alone, each with what it was signed over. A list is of one shard and
//! cannot outgrow it. Each issuing CA answers for what it issued, with its own key, and for nothing else.
//!
//! Trusted: as the CA. Not trusted: requests; they cost one parse and a look at keys of the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tegata_authority::UnixSecs;
use tegata_authority::ca::status::crl::{ListDraft, list_number, sign_list};
use tegata_authority::ca::status::ocsp::{
    make_responder_cert, responder_cert_serves, sign_response, status_of,
};
use tegata_authority::ca::status::{StatusError, crl_url};
use tegata_crypto::{KeyAlg, Rng, Signer};
use tegata_wire::ocsp::{
    CertId, CertStatus, OcspFailure, OcspRequest, SingleStatus, failure_response,
};
use tegata_wire::x509::MAX_CRL_ENTRIES;

use crate::generation::{self, Generation};
use crate::issuer::Issuer;
use crate::role::{RoleError, secs};
use crate::root_list::{self, RootList};
use crate::{StoreError, keys, revocation};

/// How the status of certificates is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSettings {
    /// Base URL that new certificates name; none when absent.
    pub base_url: Option<String>,
    /// Most certificates of a shard.
    pub shard_size: u32,
    /// How long a complete list is good for, seconds.
    pub crl_life_secs: u64,
    /// How long a delta list is good for, seconds.
    pub delta_life_secs: u64,
    /// How long an OCSP response is good for, seconds.
    pub ocsp_life_secs: u64,
}

impl Default for StatusSettings {
    fn default() -> Self {
        Self {
            base_url: None,
            shard_size: 65_536,
            crl_life_secs: 86_400,
            delta_life_secs: 3_600,
            ocsp_life_secs: 3_600,
        }
    }
}

/// Which certificates a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those of one shard.
    Shard(u64),
    /// All of the issuer.
    Full,
}

impl Scope {
    fn shard(self) -> Option<u64> {
        match self {
            Self::Shard(shard) => Some(shard),
            Self::Full => None,
        }
    }

    /// The scope that the name of a complete list in URLs says.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "full" => Some(Self::Full),
            number => number.parse().ok().map(Self::Shard),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Shard(shard) => shard.to_string(),
            Self::Full => "full".to_owned(),
        }
    }
}

/// Something signed that may be kept for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The list or response (DER).
    pub der: Vec<u8>,
    /// Its thisUpdate.
    pub made: UnixSecs,
    /// Half of its life: then a new one is signed.
    pub renewed: UnixSecs,
    /// Its nextUpdate.
    pub next_update: UnixSecs,
}

impl Published {
    fn serves(&self, now: UnixSecs) -> bool {
        self.made <= now && now < self.renewed
    }
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoList {
    /// No certificate is of that shard, or lists have no place of their own.
    #[error("there is no such list")]
    Unknown,
    /// More than a list may have: the shards' lists together have them.
    #[error("more certificates are revoked than one list may have")]
    TooMany,
    /// The store or the key failed.
    #[error(transparent)]
    Role(#[from] RoleError),
}

impl From<StoreError> for NoList {
    fn from(e: StoreError) -> Self {
        Self::Role(e.into())
    }
}

impl From<StatusError> for NoList {
    fn from(e: StatusError) -> Self {
        Self::Role(e.into())
    }
}

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

/// A list and the last change in it.
#[derive(Clone)]
struct Listed {
    published: Arc<Published>,
    change: u64,
    number: u128,
}

/// What is kept of one scope.
#[derive(Default)]
struct Lists {
    complete: Option<Listed>,
    /// The complete list that deltas are to be read with: the oldest that is still good.
    base: Option<Listed>,
    /// A delta, and the number of its base.
    delta: Option<(Listed, u128)>,
}

/// What a list is to be of.
struct ToSign<'a> {
    by: &'a Generation,
    scope: Scope,
    /// Where it may be.
    bases: &'a [String],
}

/// The responder's key, and its certificate of one issuing CA.
struct Responder {
    signer: Box<dyn Signer>,
    cert: Vec<u8>,
}

/// A responder that was made; none yet.
type KeptResponder = Arc<Mutex<Option<Arc<Responder>>>>;

/// Responses by CertID, each with the status that it tells.
type Responses = HashMap<Vec<u8>, (CertStatus, Arc<Published>)>;

/// Lists by number of their issuing CA, and by scope.
type AllLists = HashMap<(u32, Scope), Arc<Mutex<Lists>>>;

/// The status service.
pub struct StatusServer {
    issuer: Arc<Issuer>,
    lists: Mutex<AllLists>,
    responses: Mutex<Responses>,
    /// By number of the issuing CA; who asks for one waits for no other.
    responders: Mutex<HashMap<u32, KeptResponder>>,
}

impl StatusServer {
    /// The status service of a CA.
    #[must_use]
    pub fn new(issuer: Arc<Issuer>) -> Self {
        Self {
            issuer,
            lists: Mutex::default(),
            responses: Mutex::default(),
            responders: Mutex::default(),
        }
    }

    /// A certificate of the CA itself (DER) by its name in URLs: a root's or an issuing CA's
    /// subjectKeyIdentifier in hexadecimal; a link between two roots by `SUBJECT-ISSUER`.
    ///
    /// # Errors
    /// The store's failure.
    pub fn ca_certificate(&self, name: &str) -> Result<Option<Vec<u8>>, RoleError> {
        let present = self.issuer.generations()?;
        if let Some(issuing) = present.of(name) {
            return Ok(Some(issuing.ca.cert_der.clone()));
        }
        let mut before: Option<&str> = None;
        for root in present.roots() {
            if root.id == name {
                return Ok(Some(root.ca.cert_der.clone()));
            }
            if let Some(old) = before {
                if name == format!("{}-{old}", root.id) {
                    return Ok(root.links.new_with_old.clone());
                }
                if name == format!("{old}-{}", root.id) {
                    return Ok(root.links.old_with_new.clone());
                }
            }
            before = Some(&root.id);
        }
        Ok(None)
    }

    /// A root's own list, if the operator made one.
    ///
    /// # Errors
    /// The store's failure.
    pub fn root_list(&self, root_id: &str) -> Result<Option<RootList>, RoleError> {
        root_list::last(&self.issuer.role.store, root_id)
    }

    /// The list of a shard, or the full one of the newest issuing CA: see [`StatusServer::list_of`].
    ///
    /// # Errors
    /// [`NoList`].
    pub fn list(&self, scope: Scope, delta: bool, now: UnixSecs) -> Result<Arc<Published>, NoList> {
        let present = self.issuer.generations()?;
        let by = match scope {
            Scope::Shard(shard) => present.of_shard(shard),
            Scope::Full => present.newest(),
        };
        self.list_by(by, scope, delta, now)
    }

    /// The list of a scope of an issuing CA (its subjectKeyIdentifier, hexadecimal), with everything
    /// that was durable before this was called.
    ///
    /// # Errors
    /// [`NoList`].
    pub fn list_of(
        &self,
        issuer_id: &str,
        scope: Scope,
        delta: bool,
        now: UnixSecs,
    ) -> Result<Arc<Published>, NoList> {
        let present = self.issuer.generations()?;
        let by = present.of(issuer_id).ok_or(NoList::Unknown)?;
        self.list_by(by, scope, delta, now)
    }

    fn list_by(
        &self,
        by: &Generation,
        scope: Scope,
        delta: bool,
        now: UnixSecs,
    ) -> Result<Arc<Published>, NoList> {
        let store = &self.issuer.role.store;
        let (last, known, mut bases) = store.read("last change", |tx| {
            let (first, end) = (by.first_shard, generation::last_shard(tx, by)?);
            let known = scope
                .shard()
                .is_none_or(|shard| (first..=end).contains(&shard));
            let last = match scope {
                _ if !known => 0,
                Scope::Shard(shard) => revocation::last_change(tx, (shard, shard))?,
                Scope::Full => revocation::last_change(tx, (first, end))?,
            };
            Ok::<_, NoList>((last, known, revocation::bases(tx)?))
        })?;
        if let Some(base) = &self.issuer.status.base_url
            && !bases.contains(base)
        {
            bases.push(base.clone());
        }
        // A list of some certificates must say of which, and that is its place.
        if !known || (bases.is_empty() && scope != Scope::Full) {
            return Err(NoList::Unknown);
        }
        let lists = {
            let mut all = self.lists.lock().map_err(|_| StoreError::Poisoned)?;
            Arc::clone(all.entry((by.number, scope)).or_default())
        };
        let mut lists = lists.lock().map_err(|_| StoreError::Poisoned)?;
        let draft = ToSign {
            by,
            scope,
            bases: &bases,
        };
        let complete = match &lists.complete {
            Some(kept) if kept.change == last && kept.published.serves(now) => kept.clone(),
            _ => {
                let made = self.sign(&draft, None, now)?;
                lists.complete = Some(made.clone());
                made
            }
        };
        if !delta {
            return Ok(complete.published);
        }
        let base = match &lists.base {
            Some(base) if base.published.next_update > now && base.published.made <= now => {
                base.clone()
            }
            _ => complete,
        };
        lists.base = Some(base.clone());
        if let Some((kept, of)) = &lists.delta
            && *of == base.number
            && kept.change == last
            && kept.published.serves(now)
        {
            return Ok(Arc::clone(&kept.published));
        }
        let made = self.sign(&draft, Some(&base), now)?;
        lists.delta = Some((made.clone(), base.number));
        Ok(made.published)
    }

    fn sign(
        &self,
        of: &ToSign<'_>,
        base: Option<&Listed>,
        now: UnixSecs,
    ) -> Result<Listed, NoList> {
        let after = base.map_or(0, |base| base.change);
        let store = &self.issuer.role.store;
        // One view of what changed and of where: a shard that began since the caller looked is in it.
        let (change, counted, changes) = store.read("list changes", |tx| {
            let shards = match of.scope {
                Scope::Shard(shard) => (shard, shard),
                Scope::Full => (of.by.first_shard, generation::last_shard(tx, of.by)?),
            };
            // Of all changes, also of those that are no longer listed: numbers never go back.
            let change = revocation::last_change(tx, shards)?.max(after);
            let counted = match of.scope {
                Scope::Shard(_) => change,
                Scope::Full => revocation::last_change_anywhere(tx)?,
            };
            let most = MAX_CRL_ENTRIES.saturating_add(1);
            let changes = revocation::changes(tx, shards, after, most)?;
            Ok::<_, StoreError>((change, counted, changes))
        })?;
        if changes.len() > MAX_CRL_ENTRIES {
            return Err(NoList::TooMany);
        }
        let place = |suffix: &str| {
            let name = format!("{}{suffix}", of.scope.name());
            let urls = of.bases.iter().map(|b| crl_url(b, &of.by.id, &name));
            urls.collect::<Vec<_>>()
        };
        let life = match base {
            None => self.issuer.status.crl_life_secs,
            Some(_) => self.issuer.status.delta_life_secs,
        };
        let number = list_number(counted, now);
        let next_update = UnixSecs(now.0.saturating_add(life));
        let draft = ListDraft {
            // The whole of the issuer's needs no place: it is what a list is when it says nothing.
            scope_urls: &of.scope.shard().map(|_| place("")).unwrap_or_default(),
            delta_urls: &place(".delta"),
            changes: &changes,
            base: base.map(|base| base.number),
            number,
            this_update: now,
            next_update,
        };
        let provider = self.issuer.role.provider.as_ref();
        let der = sign_list(provider, &of.by.ca, of.by.key.as_ref(), &draft)?;
        Ok(Listed {
            published: Arc::new(Published {
                der,
                made: now,
                renewed: UnixSecs(now.0.saturating_add(life / 2)),
                next_update,
            }),
            change,
            number,
        })
    }

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

#[cfg(test)]
mod tests;
