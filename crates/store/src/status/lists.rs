//! Lists of revoked certificates: complete and delta lists of a shard, or of everything of an issuer.
//!
//! A shard's list is bounded by its shard. A list of everything may be long or too long, and anybody may
//! ask for it: that it is too long is remembered, one at a time is made, and few wait for it.
//!
//! Spec: RFC 5280 section 5.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tegata_authority::UnixSecs;
use tegata_authority::ca::status::crl::{ListDraft, list_number, sign_list};
use tegata_authority::ca::status::{StatusError, crl_url};

use super::{Published, Scope, StatusServer};
use crate::generation::{self, Generation};
use crate::role::RoleError;
use crate::{StoreError, revocation};

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
    /// It is being made, and enough wait for it already.
    #[error("the list is being made; ask again in a moment")]
    Busy,
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

/// A list and the last change in it.
#[derive(Clone)]
pub(super) struct Listed {
    pub(super) published: Arc<Published>,
    pub(super) change: u64,
    number: u128,
}

impl Listed {
    /// Whether it may be told now to who must hear of this change.
    fn has(&self, change: u64, now: UnixSecs) -> bool {
        self.change >= change && self.published.serves(now)
    }
}

/// What is kept of one scope.
#[derive(Default)]
struct Kept {
    complete: Option<Listed>,
    /// The complete list that deltas are to be read with: the oldest that is still good.
    base: Option<Listed>,
    /// A delta, and the number of its base.
    delta: Option<(Listed, u128)>,
    /// When it was found to be too long.
    too_many: Option<UnixSecs>,
}

impl Kept {
    /// The list that has this change, if it is here.
    fn find(&self, delta: bool, change: u64, now: UnixSecs) -> Option<Arc<Published>> {
        let complete = self
            .complete
            .as_ref()
            .filter(|list| list.has(change, now))?;
        if !delta {
            return Some(Arc::clone(&complete.published));
        }
        let base = self.base(now)?;
        let (kept, of) = self.delta.as_ref()?;
        (*of == base.number && kept.has(change, now)).then(|| Arc::clone(&kept.published))
    }

    fn base(&self, now: UnixSecs) -> Option<&Listed> {
        let good = |list: &&Listed| list.published.made <= now && list.published.next_update > now;
        self.base.as_ref().filter(good)
    }

    /// Whether it was too long a moment ago. It says nothing of any certificate, so it may be late.
    fn is_too_many(&self, now: UnixSecs) -> bool {
        self.too_many
            .is_some_and(|at| at <= now && now.0.saturating_sub(at.0) < TOO_MANY_SECS)
    }
}

/// The lists of one scope, and whose turn it is to make them.
#[derive(Default)]
pub(super) struct Lists {
    kept: Mutex<Kept>,
    /// Held while a list is read and signed. Who finds what it needs in `kept` needs no turn.
    pub(super) turn: Mutex<()>,
    /// How many wait for a turn, or have it.
    pub(super) waiting: AtomicUsize,
}

impl Lists {
    fn kept(&self) -> Result<MutexGuard<'_, Kept>, StoreError> {
        self.kept.lock().map_err(|_| StoreError::Poisoned)
    }

    /// The turn to make a list. For one that may be long only few wait: each has a place of work that
    /// enrolment needs too.
    fn turn(&self, scope: Scope) -> Result<MutexGuard<'_, ()>, NoList> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let turn = if scope == Scope::Full && before >= WAITING_MAX {
            Err(NoList::Busy)
        } else {
            self.turn.lock().map_err(|_| StoreError::Poisoned.into())
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        turn
    }
}

/// Lists by number of their issuing CA, and by scope.
pub(super) type AllLists = HashMap<(u32, Scope), Arc<Lists>>;

/// What a list is to be of.
pub(super) struct ToSign<'a> {
    pub(super) by: &'a Generation,
    pub(super) scope: Scope,
    /// Where it may be.
    pub(super) bases: &'a [String],
}

impl StatusServer {
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
        // What was too long a moment ago costs nothing to refuse again.
        let known = self.lists_of(by, scope, false)?;
        if let Some(lists) = known
            && lists.kept()?.is_too_many(now)
        {
            return Err(NoList::TooMany);
        }
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
        let lists = self.lists_of(by, scope, true)?.ok_or(NoList::Unknown)?;
        if let Some(found) = lists.kept()?.find(delta, last, now) {
            return Ok(found);
        }
        let _turn = lists.turn(scope)?;
        let draft = ToSign {
            by,
            scope,
            bases: &bases,
        };
        self.make(&lists, &draft, delta, last, now)
    }

    /// The lists of a scope. A place is made for them only of a scope that there is.
    pub(super) fn lists_of(
        &self,
        by: &Generation,
        scope: Scope,
        make: bool,
    ) -> Result<Option<Arc<Lists>>, StoreError> {
        let mut all = self.lists.lock().map_err(|_| StoreError::Poisoned)?;
        let key = (by.number, scope);
        Ok(match make {
            true => Some(Arc::clone(all.entry(key).or_default())),
            false => all.get(&key).cloned(),
        })
    }

    /// Makes what is missing of the lists of a scope; the caller has the turn. Who had it before may
    /// have made it while the caller waited.
    fn make(
        &self,
        lists: &Lists,
        draft: &ToSign<'_>,
        delta: bool,
        last: u64,
        now: UnixSecs,
    ) -> Result<Arc<Published>, NoList> {
        let (found, complete) = {
            let kept = lists.kept()?;
            if kept.is_too_many(now) {
                return Err(NoList::TooMany);
            }
            let complete = kept.complete.clone().filter(|list| list.has(last, now));
            (kept.find(delta, last, now), complete)
        };
        if let Some(found) = found {
            return Ok(found);
        }
        let complete = match complete {
            Some(complete) => complete,
            None => {
                let made = self.sign(draft, None, now);
                let mut kept = lists.kept()?;
                kept.too_many = matches!(made, Err(NoList::TooMany)).then_some(now);
                let made = made?;
                kept.complete = Some(made.clone());
                made
            }
        };
        if !delta {
            return Ok(complete.published);
        }
        let base = {
            let mut kept = lists.kept()?;
            let base = kept.base(now).cloned().unwrap_or(complete);
            kept.base = Some(base.clone());
            base
        };
        let made = self.sign(draft, Some(&base), now)?;
        let published = Arc::clone(&made.published);
        lists.kept()?.delta = Some((made, base.number));
        Ok(published)
    }

    pub(super) fn sign(
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
            // Counted in an index before anything is read into memory. What is in a delta was in no
            // more rows than the complete list before it.
            let most = self.entries_max.saturating_add(1);
            if of.scope == Scope::Full && revocation::listed(tx, shards, most)? > self.entries_max {
                return Err(NoList::TooMany);
            }
            // Of all changes, also of those that are no longer listed: numbers never go back.
            let change = revocation::last_change(tx, shards)?.max(after);
            let counted = match of.scope {
                Scope::Shard(_) => change,
                Scope::Full => revocation::last_change_anywhere(tx)?,
            };
            let changes = revocation::changes(tx, shards, after, most)?;
            Ok((change, counted, changes))
        })?;
        if changes.len() > self.entries_max {
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
        let renewed = UnixSecs(now.0.saturating_add(life / 2));
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
            published: Arc::new(Published::new(provider, der, (now, renewed, next_update))),
            change,
            number,
        })
    }
}

/// How long it is believed that a list of everything is too long.
const TOO_MANY_SECS: u64 = 60;
/// How many wait at once for one list of everything, or make it.
pub(super) const WAITING_MAX: usize = 4;
