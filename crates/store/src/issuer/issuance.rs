//! Issuance: intend, sign, record, answer.

use tegata_authority::ca::attested::ReturnDenied;
use tegata_authority::ca::cmp::{Authenticated, CmpDenial, RequestBody};
use tegata_authority::ca::issue::{self, Against, Draft, IssuanceToken, IssueDenied};
use tegata_authority::ca::means::{HeldCertificate, Means};
use tegata_authority::ca::revocation::Standing;
use tegata_authority::ca::status::StatusUrls;
use tegata_authority::profile::Profile;
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::Rng;
use tegata_wire::enrolment::CertificateOrder;

use super::Issuer;
use super::cmp::{environment, known};
use super::requester::held_certificate;
use crate::approval::{self, Approval};
use crate::certificate::{self, Certificate, Intent};
use crate::device::DeviceId;
use crate::generation::{self, Generation};
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
        /// Whether it replaces another, once the device confirms it.
        replaces: bool,
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
}

impl Issuer {
    /// The certificate of an authenticated request: the one it has, or a new one. `recorded` is run
    /// in the transaction that records it, with its serial number and whether it replaces another.
    pub(crate) fn obtain(
        &self,
        wanted: Wanted<'_>,
        rng: &mut dyn Rng,
        now: UnixMs,
        recorded: impl Fn(&Tx<'_>, &[u8], bool) -> Result<(), StoreError>,
    ) -> Result<Obtained, CmpDenial> {
        let Wanted { order, device, .. } = wanted;
        let profile = self
            .profiles
            .find(&order.profile)
            .ok_or(CmpDenial::Failed("the release's profile is not configured"))?;
        let asker = wanted.request.means().label();
        let token = self.token(wanted.request, order, profile, device)?;
        let replaces = token.replaces().is_some();
        if profile.approval && !replaces {
            let asking = Approval {
                device: device.row.id,
                digest: *token.request_digest(),
                profile: profile.name.clone(),
                transaction_id: wanted.transaction_id.to_vec(),
                asker,
                body: wanted.body_der.to_vec(),
                asked_at: secs(now.secs()),
                approved: None,
            };
            if !self.is_approved(&asking, token.means(), now.secs())? {
                return Ok(Obtained::Waiting);
            }
        }

        // 1. Fix serial number and bytes durably, or find what this request fixed before.
        //    A crash after this leaves an intent: the same request comes here again and finds it.
        let row = self.intend(&token, device, rng, now)?;
        let again = row.der.is_some();
        let serial = row.intent.serial.clone();
        // 2. Sign the fixed bytes, unless it was done. A crash here leaves the intent as it was;
        //    a signature that was made and lost was seen by nobody.
        let der = match row.der {
            Some(der) => der,
            None => {
                let at = UnixSecs(u64::try_from(row.intended_at).unwrap_or(0));
                let draft = Draft {
                    serial: row.intent.serial,
                    tbs: row.intent.tbs,
                    not_after_secs: u64::try_from(row.intent.not_after).unwrap_or(0),
                };
                // By the issuing CA that it was fixed for, whichever is the newest by now.
                let present = self.generations().map_err(environment)?;
                let by = known(&present, &row.intent.issuer)?;
                let urls = urls(by, row.intent.status_base.as_deref(), row.intent.shard);
                let linted = issue::lint(token, &by.ca, urls.as_ref(), draft, at)
                    .map_err(CmpDenial::Issue)?;
                let provider = self.role.provider.as_ref();
                issue::sign(provider, linted, by.key.as_ref()).map_err(CmpDenial::Issue)?
            }
        };
        // 3. Record the certificate, and what the caller needs with it. The first certificate
        //    recorded stands: two requests at once both answer that one. A crash after this loses
        //    the answer only.
        let der = self
            .role
            .store
            .run_tx("record certificate", |tx| {
                let stands = certificate::record(tx, &serial, &der, secs(now.secs()))?;
                recorded(tx, &serial, replaces)?;
                Ok::<_, StoreError>(stands)
            })
            .map_err(|e| environment(e.into()))?;
        // 4. Answer.
        Ok(Obtained::Certificate {
            serial,
            der,
            again,
            replaces,
        })
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
            may_wait(tx, asking.device, means, now)?;
            if let Means::Evidence(used) = means {
                evidence::spend(tx, used, &asking.digest, now)?.map_err(NotIntended::Denied)?;
            }
            Ok::<_, NotIntended>(approval::wait(tx, asking)?)
        });
        if kept.map_err(NotIntended::denial)? {
            Ok(false)
        } else {
            let max = approval::WAITING_MAX;
            Err(CmpDenial::Issue(IssueDenied::TooManyWaiting(max)))
        }
    }

    /// Permission for a request, from what the store knows of its device and of the certificate
    /// that it is to replace.
    fn token(
        &self,
        request: Authenticated,
        order: &CertificateOrder,
        profile: &Profile,
        device: &Registered,
    ) -> Result<IssuanceToken, CmpDenial> {
        let old: Option<HeldCertificate> = match request.body() {
            RequestBody::Crmf(asked) => match &asked.old {
                Some(id) => self
                    .role
                    .store
                    .read("old certificate", |tx| held_certificate(tx, id.serial()))
                    .map_err(environment)?,
                None => None,
            },
            _ => None,
        };
        let present = self.generations().map_err(environment)?;
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

    /// The row of this request, made if there is none.
    fn intend(
        &self,
        token: &IssuanceToken,
        device: &Registered,
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<Certificate, CmpDenial> {
        let store = &self.role.store;
        let found = store
            .read("find request", |tx| {
                certificate::find_by_request(tx, device.row.id, token.request_digest())
            })
            .map_err(|e: StoreError| environment(e.into()))?;
        if let Some(row) = found {
            return usable(row, token);
        }
        // A rollover between looking and fixing: the next look has it. It is an operator's, so there is
        // one at most.
        for _ in 0..ROLLOVERS_MAX {
            let present = self.generations().map_err(environment)?;
            let by = present.newest();
            let intended = store.run_tx("intend certificate", |tx| {
                self.intend_in(tx, token, by, device, rng, now)
            });
            if !matches!(intended, Err(NotIntended::RolledOver)) {
                return usable(intended.map_err(NotIntended::denial)?, token);
            }
        }
        Err(NotIntended::RolledOver.denial())
    }

    /// Deals the certificate to a shard and fixes it, in one transaction with the question whether
    /// its device may have one: a revocation of the device is before it, or covers it. So is one of
    /// the certificate that it is to replace, which has the request's say. The issuing CA is the newest
    /// there is, or nothing is fixed: a shard has certificates of one.
    fn intend_in(
        &self,
        tx: &Tx<'_>,
        token: &IssuanceToken,
        by: &Generation,
        device: &Registered,
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<Certificate, NotIntended> {
        // Two requests at once: the first one's row stands.
        let digest = token.request_digest();
        if let Some(row) = certificate::find_by_request(tx, device.row.id, digest)? {
            return Ok(row);
        }
        if generation::newest(tx)? != by.number {
            return Err(NotIntended::RolledOver);
        }
        if !revocation::device_standing(tx, device.row.id)?.is_good() {
            return Err(NotIntended::Denied(IssueDenied::DeviceRevoked));
        }
        let release = token.release().map_or(&[][..], |release| &release.0);
        let profile = &token.profile().name;
        if let Some(stop) = revocation::stop::covering(tx, release, device.row.id, profile)? {
            return Err(NotIntended::Denied(IssueDenied::Stopped(stop)));
        }
        if let Some(old) = token.replaces()
            && certificate::find(tx, old)?.is_none_or(|row| !row.standing.is_good())
        {
            let revoked = IssueDenied::OldCertificate("it is revoked or on hold");
            return Err(NotIntended::Denied(revoked));
        }
        // What was read of the signer before may be over.
        if let Means::Certificate(holder) = token.means() {
            let signer = certificate::find(tx, &holder.serial)?;
            let standing = signer.map(|row| row.standing);
            if !standing.is_some_and(Standing::is_good) {
                let superseded = standing.is_some_and(Standing::is_superseded);
                return Err(NotIntended::Denied(if superseded {
                    IssueDenied::SignerEnded
                } else {
                    IssueDenied::SignerRevoked
                }));
            }
        }
        self.check_daily_limit(tx, token, device, now.secs())?;
        // By the `CsrAuthKey` alone a device comes for the first time, or for what it has beside one
        // that serves; once the last has ended, its TEE must have been looked at.
        if let Means::Ta(_) = token.means() {
            attested::returning(tx, device.row.id, token.profile(), now.secs())?
                .map_err(|denied| NotIntended::Denied(IssueDenied::Return(denied)))?;
        }
        // Whatever way a request came, and whatever was said before: nothing is fixed without it.
        if token.profile().approval && token.replaces().is_none() {
            let said = approval::find(tx, device.row.id, digest)?;
            if said.and_then(|said| said.approved) != Some(true) {
                return Err(NotIntended::Denied(IssueDenied::NotApproved));
            }
        }
        if let Means::Evidence(used) = token.means() {
            evidence::spend(tx, used, digest, now.secs())?.map_err(NotIntended::Denied)?;
        }
        if let Means::Secret(used) = token.means()
            && !secret::spend(tx, &used.id, now.secs())?
        {
            let spent = IssueDenied::SecretSpent(used.id.clone());
            return Err(NotIntended::Denied(spent));
        }
        let shard = revocation::next_shard(tx, self.status.shard_size)?;
        if let Some(base) = &self.status.base_url {
            revocation::put_base(tx, base)?;
        }
        let urls = urls(by, self.status.base_url.as_deref(), shard);
        let draft =
            issue::draft(token, &by.ca, urls.as_ref(), rng, now).map_err(NotIntended::Denied)?;
        let intent = Intent {
            serial: draft.serial,
            device: device.row.id,
            csr_digest: *digest,
            profile: token.profile().name.clone(),
            release: token.release().map(|release| release.0),
            issuer: by.id.clone(),
            tbs: draft.tbs,
            not_after: i64::try_from(draft.not_after_secs).unwrap_or(i64::MAX),
            shard,
            status_base: self.status.base_url.clone(),
            replaces: token.replaces().map(<[u8]>::to_vec),
            evidence: token.means().evidence().copied(),
        };
        Ok(certificate::intend(tx, &intent, secs(now.secs()))?)
    }

    /// A device gets so many in a day; renewals that are due do not count as asking for more.
    fn check_daily_limit(
        &self,
        tx: &Tx<'_>,
        token: &IssuanceToken,
        device: &Registered,
        now: UnixSecs,
    ) -> Result<(), NotIntended> {
        let Profile {
            renewal_window_secs,
            daily_limit,
            ref name,
            ..
        } = *token.profile();
        if let Some(old) = token.replaces() {
            let soon = secs(UnixSecs(now.0.saturating_add(renewal_window_secs)));
            let old = certificate::find(tx, old)?;
            if old.is_some_and(|old| old.intent.not_after <= soon) {
                return Ok(());
            }
        }
        let since = secs(UnixSecs(now.0.saturating_sub(DAY_SECS)));
        let made = certificate::count(tx, device.row.id, name, since, secs(now))?;
        if made >= daily_limit {
            return Err(NotIntended::Denied(IssueDenied::DailyLimit(daily_limit)));
        }
        Ok(())
    }
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
    device: DeviceId,
    means: &Means,
    now: UnixSecs,
) -> Result<(), NotIntended> {
    if !revocation::device_standing(tx, device)?.is_good() {
        return Err(NotIntended::Denied(IssueDenied::DeviceRevoked));
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

/// The row, unless the CA has taken its certificate back, or it is of another profile.
fn usable(row: Certificate, token: &IssuanceToken) -> Result<Certificate, CmpDenial> {
    match row.standing {
        standing if standing.is_good() => {}
        // Not for good: the same request serves once the hold is lifted.
        Standing::Held { .. } => {
            return Err(CmpDenial::Issue(IssueDenied::Return(ReturnDenied::Held)));
        }
        _ => return Err(CmpDenial::Issue(IssueDenied::Revoked)),
    }
    if row.intent.profile != token.profile().name {
        let other = IssueDenied::OtherProfile(row.intent.profile);
        return Err(CmpDenial::Issue(other));
    }
    Ok(row)
}

/// How often a request looks for the newest issuing CA again.
const ROLLOVERS_MAX: usize = 3;
const DAY_SECS: u64 = 86_400;
