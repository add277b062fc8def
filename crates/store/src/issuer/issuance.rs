//! Issuance: fix, sign, record, answer.
//!
//! With a key of this process all of it is one transaction: what was signed and not committed was seen by
//! nobody. A key elsewhere may have a log of its own: there the intent is durable before it signs.

use std::sync::Arc;

use tegata_authority::ca::attested::ReturnDenied;
use tegata_authority::ca::cmp::{Authenticated, CmpDenial, RequestBody};
use tegata_authority::ca::issue::{self, Against, Draft, Follows, IssuanceToken, IssueDenied};
use tegata_authority::ca::means::{HeldCertificate, Means};
use tegata_authority::ca::revocation::Standing;
use tegata_authority::ca::status::StatusUrls;
use tegata_authority::profile::Profile;
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::Rng;
use tegata_wire::enrolment::CertificateOrder;

use super::Issuer;
use super::cmp::{environment, known};
use super::history::{History, Look};
use super::requester::held_certificate;
use crate::approval::{self, Approval};
use crate::certificate::{self, Certificate, CmpTransaction, Intent};
use crate::device::DeviceId;
use crate::generation::{Generation, Generations};
use crate::role::{Registered, RoleError, secs};
use crate::{StoreError, Tx, attested, evidence, revocation, secret};

/// What an authenticated request came to.
pub(crate) enum Obtained {
    /// Its certificate is recorded.
    Certificate {
        /// Serial number.
        serial: Vec<u8>,
        /// The certificate (DER).
        der: Vec<u8>,
        /// Whether the same request had been answered before.
        again: bool,
        /// Whether its device is to confirm it.
        awaited: bool,
        /// The generations, the newest of which was the newest when it was recorded.
        present: Arc<Generations>,
        /// Name of the issuing CA that it is of.
        issuer: String,
    },
    /// An operator has to decide.
    Waiting,
}

/// A request for a certificate, authenticated.
pub(crate) struct Wanted<'a> {
    pub(crate) request: Authenticated,
    /// What the certificate is to be.
    pub(crate) order: &'a CertificateOrder,
    /// The device that asks.
    pub(crate) device: &'a Registered,
    /// transactionID of the client, or what else it will name the request by when it asks again.
    pub(crate) transaction_id: &'a [u8],
    /// The body of the request with its tag (DER): kept if an operator has to decide.
    pub(crate) body_der: &'a [u8],
    /// When the certificate counts.
    pub(crate) counts: Counts<'a>,
}

/// When a certificate counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counts<'a> {
    /// At once: nobody confirms it.
    AtOnce,
    /// Once its device confirms it, with these nonces of ours and of its own.
    Confirmed {
        server_nonce: &'a [u8],
        device_nonce: &'a [u8],
        /// At once all the same if it follows none: a certificate is not taken back for one that may
        /// never have come.
        unless_new: bool,
    },
}

/// A request that may have a certificate.
struct Allowed<'a> {
    token: IssuanceToken<'a>,
    device: &'a Registered,
    transaction_id: &'a [u8],
    counts: Counts<'a>,
    asker: String,
}

impl Allowed<'_> {
    /// Whether its device is to confirm the certificate.
    fn is_awaited(&self) -> bool {
        match self.counts {
            Counts::AtOnce => false,
            Counts::Confirmed { unless_new, .. } => {
                !unless_new || *self.token.follows() != Follows::None
            }
        }
    }

    /// Records what an answer with the certificate has to leave behind.
    fn answered(&self, tx: &Tx<'_>, serial: &[u8], now: UnixSecs) -> Result<(), StoreError> {
        match self.counts {
            Counts::Confirmed {
                server_nonce,
                device_nonce,
                ..
            } if self.is_awaited() => {
                let transaction = CmpTransaction {
                    device: self.device.row.id,
                    transaction_id: self.transaction_id.to_vec(),
                    serial: serial.to_vec(),
                    server_nonce: server_nonce.to_vec(),
                    device_nonce: device_nonce.to_vec(),
                    asker: self.asker.clone(),
                };
                certificate::put_transaction(tx, &transaction, secs(now))
            }
            _ => certificate::mark(tx, serial, true, secs(now)).map(drop),
        }
    }
}

/// What the transaction came to that fixes a certificate.
enum Fixed {
    /// It is recorded.
    Certificate {
        serial: Vec<u8>,
        der: Vec<u8>,
        issuer: String,
        again: bool,
    },
    /// It is to be signed.
    Intent(Box<Certificate>),
}

impl Issuer {
    /// The certificate of an authenticated request: the one it has, or a new one.
    pub(crate) fn obtain(
        &self,
        wanted: Wanted<'_>,
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<Obtained, CmpDenial> {
        self.check_clock(now.secs())?;
        let Wanted { order, device, .. } = wanted;
        let profile = self
            .profiles
            .find(&order.profile)
            .ok_or(CmpDenial::Failed("the release's profile is not configured"))?;
        let asker = wanted.request.means().label();
        let token = self.token(wanted.request, order, profile, device)?;
        if profile.approval && token.updates().is_none() {
            let asking = Approval {
                device: device.row.id,
                digest: *token.request_digest(),
                profile: profile.name.clone(),
                transaction_id: wanted.transaction_id.to_vec(),
                asker: asker.clone(),
                body: wanted.body_der.to_vec(),
                asked_at: secs(now.secs()),
                approved: None,
            };
            if !self.is_approved(&asking, token.means(), now.secs())? {
                return Ok(Obtained::Waiting);
            }
        }
        let allowed = Allowed {
            token,
            device,
            transaction_id: wanted.transaction_id,
            counts: wanted.counts,
            asker,
        };

        // 1. Fix serial number and bytes, or find what this request fixed before; with a key of this
        //    process sign and record them too. A crash before the commit leaves nothing, and what was
        //    signed was seen by nobody; one after it loses the answer only.
        let (fixed, present) = self.fix(&allowed, rng, now)?;
        let awaited = allowed.is_awaited();
        let row = match fixed {
            Fixed::Certificate {
                serial,
                der,
                issuer,
                again,
            } => {
                return Ok(Obtained::Certificate {
                    serial,
                    der,
                    again,
                    awaited,
                    present,
                    issuer,
                });
            }
            // A crash from here on leaves the intent: the same request comes here again and finds it.
            Fixed::Intent(row) => *row,
        };
        // 2. Sign the fixed bytes, by the issuing CA that they were fixed for, whichever is the newest
        //    by now. A crash here leaves the intent as it was; a signature that was made and lost was
        //    seen by nobody but who keeps the key.
        let (serial, issuer) = (row.intent.serial.clone(), row.intent.issuer.clone());
        let by = known(&present, &issuer)?;
        if by.distrusted.is_some() {
            // Its key leaked meanwhile and signs nothing any more: who asked begins another request.
            return Err(CmpDenial::Issue(IssueDenied::Revoked));
        }
        let der = self.sign(&allowed.token, by, row)?;
        // 3. Record the certificate, and what the answer needs with it. The first certificate recorded
        //    stands: two requests at once both answer that one. A crash after this loses the answer
        //    only.
        let der = self
            .role
            .store
            .run_tx_last("record certificate", |tx| {
                let stands = certificate::record(tx, &serial, &der, secs(now.secs()))?;
                allowed.answered(tx, &serial, now.secs())?;
                Ok::<_, StoreError>(stands)
            })
            .map_err(|e| environment(e.into()))?;
        // 4. Answer, by the newest generation there is now.
        Ok(Obtained::Certificate {
            serial,
            der,
            again: false,
            awaited,
            present: self.generations().map_err(environment)?,
            issuer,
        })
    }

    /// Looks at the bytes of an intent with fresh eyes, and has them signed.
    fn sign(
        &self,
        token: &IssuanceToken<'_>,
        by: &Generation,
        row: Certificate,
    ) -> Result<Vec<u8>, CmpDenial> {
        let at = UnixSecs(u64::try_from(row.intended_at).unwrap_or(0));
        let urls = urls(by, row.intent.status_base.as_deref(), row.intent.shard);
        let draft = Draft {
            serial: row.intent.serial,
            tbs: row.intent.tbs,
            not_after_secs: u64::try_from(row.intent.not_after).unwrap_or(0),
        };
        self.signed(token, by, urls.as_ref(), draft, at)
            .map_err(CmpDenial::Issue)
    }

    /// The certificate of a draft: linted, signed, and its signature verified.
    fn signed(
        &self,
        token: &IssuanceToken<'_>,
        by: &Generation,
        urls: Option<&StatusUrls>,
        draft: Draft,
        at: UnixSecs,
    ) -> Result<Vec<u8>, IssueDenied> {
        let linted = issue::lint(token, &by.ca, urls, draft, at)?;
        issue::sign(self.role.provider.as_ref(), linted, by.key.as_ref())
    }

    /// Whether the operator approved a request; one that is new is kept until they decide.
    fn is_approved(
        &self,
        asking: &Approval,
        means: &Means,
        now: UnixSecs,
    ) -> Result<bool, CmpDenial> {
        let store = &self.role.store;
        let (device, digest) = (asking.device, &asking.digest);
        let known = store
            .read("find approval", |tx| {
                // What has a certificate was approved; the approval itself is forgotten some day.
                let row = certificate::find_by_request(tx, device, digest)?;
                Ok::<_, StoreError>((approval::find(tx, device, digest)?, row.is_some()))
            })
            .map_err(|e| environment(e.into()))?;
        if let Some(other) = known.0.as_ref().filter(|k| k.profile != asking.profile) {
            let other = IssueDenied::OtherProfile(other.profile.clone());
            return Err(CmpDenial::Issue(other));
        }
        let decided = known.0.and_then(|known| known.approved);
        match decided {
            _ if known.1 => return Ok(true),
            Some(true) => return Ok(true),
            Some(false) => return Err(CmpDenial::Issue(IssueDenied::Rejected)),
            None => {}
        }
        let kept = store.run_tx("await approval", |tx| {
            may_wait(tx, asking, means, now)?;
            if !approval::wait(tx, asking)? {
                let max = approval::WAITING_MAX;
                return Err(NotIntended::Denied(IssueDenied::TooManyWaiting(max)));
            }
            // Last: what is refused has used no nonce.
            if let Means::Evidence(used) = means {
                evidence::spend(tx, used, &asking.digest, now)?.map_err(NotIntended::Denied)?;
            }
            Ok::<_, NotIntended>(())
        });
        kept.map(|()| false).map_err(NotIntended::denial)
    }

    /// Permission for a request, from what the store knows of its device and of the certificate
    /// that it is to replace.
    fn token<'p>(
        &self,
        request: Authenticated,
        order: &CertificateOrder,
        profile: &'p Profile,
        device: &Registered,
    ) -> Result<IssuanceToken<'p>, CmpDenial> {
        let old: Option<HeldCertificate> = match request.body().old() {
            Some(id) => self
                .role
                .store
                .read("old certificate", |tx| held_certificate(tx, id.serial()))
                .map_err(environment)?,
            None => None,
        };
        // What a p10cr says names no issuer. A template may name one that this process has not seen yet.
        let present = match request.body() {
            RequestBody::P10cr(_) => self.last_seen(),
            _ => self.generations().map_err(environment)?,
        };
        let against = Against {
            identity: &device.endorsed.identity(),
            order,
            profile,
            issuers: present.names(),
            other_keys: &device.endorsed.kids(),
            old: old.as_ref(),
        };
        let provider = self.role.provider.as_ref();
        issue::authorize(provider, request, &against).map_err(CmpDenial::Issue)
    }

    /// The row of this request, made if there is none, and the generations that it was made in.
    fn fix(
        &self,
        allowed: &Allowed<'_>,
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<(Fixed, Arc<Generations>), CmpDenial> {
        let mut present = self.last_seen();
        // A rollover that this process has not seen, or one between looking and fixing: the next look has
        // it. It is an operator's, so there is one at most.
        for _ in 0..ROLLOVERS_MAX {
            let by = present.newest();
            let store = &self.role.store;
            let fix = |tx: &Tx<'_>| self.fix_in(tx, allowed, by, rng, now);
            let fixed = match by.key.is_in_process() {
                true => store.run_tx_last("issue certificate", fix),
                // Durable before another signs it.
                false => store.run_tx("intend certificate", fix),
            };
            if !matches!(fixed, Err(NotIntended::RolledOver)) {
                let fixed = fixed.map_err(NotIntended::denial)?;
                return Ok((fixed, present));
            }
            present = self.generations().map_err(environment)?;
        }
        Err(NotIntended::RolledOver.denial())
    }

    /// Deals the certificate to a shard and fixes it, in one transaction with the question whether
    /// its device may have one: a revocation of the device is before it, or covers it. So is one of
    /// the certificate that it is to replace, which has the request's say. The issuing CA is the newest
    /// there is, or nothing is fixed or answered: a shard has certificates of one, and a key that leaked
    /// signs no answer.
    ///
    /// An engine may run this again: then what was signed before is dropped, and has another serial number.
    fn fix_in(
        &self,
        tx: &Tx<'_>,
        allowed: &Allowed<'_>,
        by: &Generation,
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<Fixed, NotIntended> {
        let (token, device) = (&allowed.token, allowed.device);
        let look = Look::at(tx, device.row.id, self.status.base_url.as_deref())?;
        if look.newest != by.number {
            return Err(NotIntended::RolledOver);
        }
        // Two requests at once: the first one's row stands.
        let digest = token.request_digest();
        let history = History::of(tx, &look, &token.profile().name)?;
        if let Some(row) = history.request(tx, digest)? {
            return found(tx, row, allowed, now.secs());
        }
        if !look.standing.is_good() {
            return Err(NotIntended::Denied(IssueDenied::DeviceRevoked));
        }
        let release = token.release().map_or(&[][..], |release| &release.0);
        let profile = &token.profile().name;
        if look.has_stops
            && let Some(stop) = revocation::stop::covering(tx, release, device.row.id, profile)?
        {
            return Err(NotIntended::Denied(IssueDenied::Stopped(stop)));
        }
        // What was read of the signer before may be over.
        if let Means::Certificate(holder) = token.means() {
            let signer = certificate::find(tx, &holder.serial)?;
            let standing = signer.map(|row| row.standing);
            if let Some(Standing::Held { .. }) = standing {
                return Err(on_hold());
            }
            if !standing.is_some_and(Standing::is_good) {
                let superseded = standing.is_some_and(Standing::is_superseded);
                return Err(NotIntended::Denied(if superseded {
                    IssueDenied::SignerEnded
                } else {
                    IssueDenied::SignerRevoked
                }));
            }
        }
        check_daily_limit(tx, token, &history, now.secs())?;
        let old = followed(tx, device.row.id, token.follows())?;
        // Nobody gets another one in place of what is on hold. Who shows a certificate shows which, and who
        // names one that serves says which.
        let says_which = matches!(token.means(), Means::Certificate(_))
            || old
                .as_ref()
                .is_some_and(|old| old.standing.is_good() && old.end() >= secs(now.secs()));
        if !says_which && history.newest_is_held(tx)? {
            return Err(on_hold());
        }
        // By the `CsrAuthKey` alone a device comes for the first time, or for what it has beside one
        // that serves; once the one that it names has ended, or the last, its TEE must have been looked at.
        if let Means::Ta(_) = token.means() {
            let ended = match &old {
                Some(old) => Some(old.end()),
                None => history.last_end(tx)?,
            };
            attested::returning(token.profile(), ended, look.attested_at, now.secs())
                .map_err(|denied| NotIntended::Denied(IssueDenied::Return(denied)))?;
        }
        // Whatever way a request came, and whatever was said before: nothing is fixed without it.
        if token.profile().approval && token.updates().is_none() {
            let said = approval::find(tx, device.row.id, digest)?;
            if said.and_then(|said| said.approved) != Some(true) {
                return Err(NotIntended::Denied(IssueDenied::NotApproved));
            }
        }
        if let Means::Evidence(used) = token.means() {
            // What waited for an operator was fresh when it came; all else must be now.
            if used.stale && !token.profile().approval {
                return Err(NotIntended::Denied(IssueDenied::NonceOld));
            }
            evidence::spend(tx, used, digest, now.secs())?.map_err(NotIntended::Denied)?;
        }
        if let Means::Secret(used) = token.means()
            && !secret::spend(tx, &used.id, now.secs())?
        {
            let spent = IssueDenied::SecretSpent(used.id.clone());
            return Err(NotIntended::Denied(spent));
        }
        let shard = revocation::next_shard(tx, self.status.shard_size)?;
        let base = self.status.base_url.as_deref();
        if let Some(base) = base.filter(|_| !look.has_base) {
            revocation::put_base(tx, base)?;
        }
        let urls = urls(by, base, shard);
        let draft =
            issue::draft(token, &by.ca, urls.as_ref(), rng, now).map_err(NotIntended::Denied)?;
        let in_process = by.key.is_in_process();
        let mut intent = Intent {
            serial: draft.serial.clone(),
            device: device.row.id,
            csr_digest: *digest,
            profile: token.profile().name.clone(),
            release: token.release().map(|release| release.0),
            issuer: by.id.clone(),
            tbs: Vec::new(),
            not_after: i64::try_from(draft.not_after_secs).unwrap_or(i64::MAX),
            shard,
            status_base: self.status.base_url.clone(),
            replaces: old.map(|old| old.intent.serial),
            evidence: token.means().evidence().copied(),
        };
        let at = secs(now.secs());
        if !in_process {
            intent.tbs = draft.tbs;
            let row = certificate::intend(tx, &intent, at)?;
            return Ok(Fixed::Intent(Box::new(row)));
        }
        let der = self
            .signed(token, by, urls.as_ref(), draft, now.secs())
            .map_err(NotIntended::Denied)?;
        let awaited = allowed.is_awaited();
        if !certificate::issue(tx, &intent, &der, !awaited, at)? {
            // Looked for above, in this transaction.
            return Err(StoreError::Unreadable {
                record: "certificate",
            }
            .into());
        }
        if awaited {
            allowed.answered(tx, &intent.serial, now.secs())?;
        }
        Ok(Fixed::Certificate {
            serial: intent.serial,
            der,
            issuer: intent.issuer,
            again: false,
        })
    }
}

/// A request that has a row already: its certificate is answered again, unless the CA has taken it back.
fn found(
    tx: &Tx<'_>,
    row: Certificate,
    allowed: &Allowed<'_>,
    now: UnixSecs,
) -> Result<Fixed, NotIntended> {
    let mut row = usable(row, &allowed.token).map_err(NotIntended::Denied)?;
    if certificate::awaits_a_hold(tx, &row)? {
        return Err(on_hold());
    }
    let Some(der) = row.der.take() else {
        return Ok(Fixed::Intent(Box::new(row)));
    };
    allowed.answered(tx, &row.intent.serial, now)?;
    Ok(Fixed::Certificate {
        serial: row.intent.serial,
        der,
        issuer: row.intent.issuer,
        again: true,
    })
}

/// The certificate that the new one takes the place of.
fn followed(
    tx: &Tx<'_>,
    device: DeviceId,
    follows: &Follows,
) -> Result<Option<Certificate>, NotIntended> {
    let serial = match follows {
        Follows::None => return Ok(None),
        Follows::Update(serial) | Follows::InPlace(serial) => serial,
    };
    // Its TA may not have heard of what came of an earlier request.
    let last = certificate::in_place_of(tx, device, serial)?;
    if let Some(Standing::Held { .. }) = last.as_ref().map(|last| last.standing) {
        return Err(on_hold());
    }
    let Follows::Update(serial) = follows else {
        return Ok(last);
    };
    match certificate::find(tx, serial)? {
        Some(old) if old.standing.is_good() => Ok(Some(old)),
        Some(old) if matches!(old.standing, Standing::Held { .. }) => Err(on_hold()),
        _ => {
            let revoked = IssueDenied::OldCertificate("it is revoked");
            Err(NotIntended::Denied(revoked))
        }
    }
}

/// A device gets so many in a day; renewals that are due do not count as asking for more.
fn check_daily_limit(
    tx: &Tx<'_>,
    token: &IssuanceToken<'_>,
    history: &History<'_>,
    now: UnixSecs,
) -> Result<(), NotIntended> {
    let Profile {
        renewal_window_secs,
        daily_limit,
        ..
    } = *token.profile();
    if let Some(old) = token.updates() {
        let soon = secs(UnixSecs(now.0.saturating_add(renewal_window_secs)));
        let old = certificate::find(tx, old)?;
        if old.is_some_and(|old| old.intent.not_after <= soon) {
            return Ok(());
        }
    }
    let since = secs(UnixSecs(now.0.saturating_sub(DAY_SECS)));
    if history.made(tx, since, secs(now))? >= daily_limit {
        return Err(NotIntended::Denied(IssueDenied::DailyLimit(daily_limit)));
    }
    Ok(())
}

/// Where the status of a certificate of that issuer and shard is found.
fn urls(by: &Generation, base: Option<&str>, shard: u64) -> Option<StatusUrls> {
    base.map(|base| StatusUrls::of(base, &by.ca.key_id, shard))
}

/// Why nothing was intended.
enum NotIntended {
    Failed(RoleError),
    Denied(IssueDenied),
    /// The issuing CA is no longer the newest.
    RolledOver,
}

impl From<RoleError> for NotIntended {
    fn from(e: RoleError) -> Self {
        Self::Failed(e)
    }
}

impl From<StoreError> for NotIntended {
    fn from(e: StoreError) -> Self {
        Self::Failed(e.into())
    }
}

impl NotIntended {
    fn denial(self) -> CmpDenial {
        match self {
            Self::Failed(e) => environment(e),
            Self::Denied(denied) => CmpDenial::Issue(denied),
            Self::RolledOver => CmpDenial::Unavailable("rollover"),
        }
    }
}

/// Who could not have the certificate now takes no place among those that wait, and no operator's
/// time. It is all asked again when the certificate is fixed.
fn may_wait(
    tx: &Tx<'_>,
    asking: &Approval,
    means: &Means,
    now: UnixSecs,
) -> Result<(), NotIntended> {
    let device = asking.device;
    if !revocation::device_standing(tx, device)?.is_good() {
        return Err(NotIntended::Denied(IssueDenied::DeviceRevoked));
    }
    let is_certificate = matches!(means, Means::Certificate(_));
    if !is_certificate && attested::newest_is_held(tx, device, &asking.profile)? {
        return Err(on_hold());
    }
    if means.has_ended() {
        return Err(NotIntended::Denied(IssueDenied::SignerEnded));
    }
    match means {
        Means::Secret(used) if !secret::serves(tx, &used.id, now)? => Err(NotIntended::Denied(
            IssueDenied::SecretSpent(used.id.clone()),
        )),
        _ => Ok(()),
    }
}

fn on_hold() -> NotIntended {
    NotIntended::Denied(IssueDenied::Return(ReturnDenied::Held))
}

/// The row, unless the CA has taken its certificate back, or it is of another profile.
fn usable(row: Certificate, token: &IssuanceToken<'_>) -> Result<Certificate, IssueDenied> {
    match row.standing {
        standing if standing.is_good() => {}
        // Not for good: the same request serves once the hold is lifted.
        Standing::Held { .. } => return Err(IssueDenied::Return(ReturnDenied::Held)),
        _ => return Err(IssueDenied::Revoked),
    }
    if row.intent.profile != token.profile().name {
        return Err(IssueDenied::OtherProfile(row.intent.profile));
    }
    Ok(row)
}

/// How often a request looks for the newest issuing CA again.
const ROLLOVERS_MAX: usize = 3;
const DAY_SECS: u64 = 86_400;
