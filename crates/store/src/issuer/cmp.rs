//! CMP: a message comes, an answer goes.

use tegata_authority::ca::cmp::{
    Authenticated, CmpDenial, PendingTransaction, Reply, ReplyContext, Request, RequestBody,
    Verdict, authenticate, check_confirmation, decode,
};
use tegata_authority::ca::means::Means;
use tegata_authority::ca::revocation::FinalReason;
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::Rng;
use tegata_wire::cmp::{BodyKind, NONCE_BYTES, PkiHeader};
use tegata_wire::enrolment::CertificateOrder;
use tegata_wire::ids::Ueid;

use super::Issuer;
use super::requester::Requester;
use crate::generation::{Generation, Generations};
use crate::role::{Registered, RoleError, secs};
use crate::{StoreError, Tx, certificate, revocation};

/// An answer to a CMP request, and what happened, for the log.
#[derive(Debug)]
pub struct CmpAnswer {
    /// The answer (DER); empty only if it could not even be signed.
    pub body: Vec<u8>,
    /// What happened.
    pub outcome: CmpOutcome,
}

/// What a CMP request led to.
#[derive(Debug)]
#[non_exhaustive]
pub enum CmpOutcome {
    /// A certificate was answered.
    Issued {
        /// For whom.
        ueid: Ueid,
        /// Its serial number.
        serial: Vec<u8>,
        /// The certificate (DER).
        certificate: Vec<u8>,
        /// Whether the same request had been answered before.
        again: bool,
    },
    /// The device confirmed or refused a certificate.
    Confirmed {
        /// Who.
        ueid: Ueid,
        /// Serial number of the certificate.
        serial: Vec<u8>,
        /// Whether it accepted it.
        accepted: bool,
    },
    /// Nothing; the state is as before.
    Denied(CmpDenial),
}

/// A request while it is answered.
pub(super) struct Asking<'a> {
    /// Its header.
    pub(super) header: PkiHeader,
    /// Profile of the path that it came to.
    pub(super) profile: &'a str,
    /// The nonce of the answer.
    pub(super) nonce: [u8; NONCE_BYTES],
    /// The time.
    pub(super) now: UnixMs,
}

impl Asking<'_> {
    /// Its transactionID.
    pub(super) fn transaction_id(&self) -> &[u8] {
        self.header.transaction_id().unwrap_or_default()
    }
}

impl Issuer {
    /// Answers a CMP message that came to the path of `profile`.
    pub fn cmp(&self, profile: &str, body: &[u8], rng: &mut dyn Rng, now: UnixMs) -> CmpAnswer {
        let mut nonce = [0; NONCE_BYTES];
        if rng.fill(&mut nonce).is_err() {
            let outcome = CmpOutcome::Denied(CmpDenial::Failed("random generator"));
            return CmpAnswer {
                body: Vec::new(),
                outcome,
            };
        }
        let (outcome, implicit) = match self.handle(profile, body, nonce, rng, now) {
            Ok(done) => done,
            Err(denial) => (CmpOutcome::Denied(denial), false),
        };
        // Signed by the newest generation there is now, after what was done.
        let present = self.generations().unwrap_or_else(|_| self.last_seen());
        let newest = present.newest();
        let mut chain = match &outcome {
            // The device has what it needs, unless the signer is another than that of its certificate.
            CmpOutcome::Confirmed { .. } if present.iter().count() == 1 => Vec::new(),
            _ => present.path_from(newest, now.secs()),
        };
        if let CmpOutcome::Issued { certificate, .. } = &outcome
            && let Some(issuer) = present.issuer_of(certificate)
            && issuer.number != newest.number
        {
            chain.push(issuer.ca.cert_der.clone());
        }
        let context = ReplyContext {
            issuer: &newest.ca,
            signer: newest.key.as_ref(),
            chain: &chain,
            now: now.secs(),
            nonce,
        };
        let reply = match &outcome {
            CmpOutcome::Issued { certificate, .. } => Reply::Granted {
                certificate,
                implicit_confirm: implicit,
            },
            CmpOutcome::Confirmed { .. } => Reply::Confirmed,
            CmpOutcome::Denied(denial) => Reply::Denied(denial),
        };
        match context.build(Request::read(body).as_ref(), &reply) {
            Ok(body) => CmpAnswer { body, outcome },
            Err(failed) => CmpAnswer {
                body: Vec::new(),
                outcome: CmpOutcome::Denied(failed),
            },
        }
    }

    fn handle(
        &self,
        profile: &str,
        body: &[u8],
        nonce: [u8; NONCE_BYTES],
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<(CmpOutcome, bool), CmpDenial> {
        let alleged = decode(body)?;
        let asking = Asking {
            header: alleged.header().clone(),
            profile,
            nonce,
            now,
        };
        let found = self.requester(&alleged).map_err(environment)?;
        let credential = found.as_ref().map(Requester::credential);
        let provider = self.role.provider.as_ref();
        let request = authenticate(provider, alleged, credential, self.mac_policy, now.secs())?;
        // Authenticated from here on: what follows may change state.
        let found = found.ok_or(CmpDenial::Failed("credential without a device"))?;
        let order = self.order(&found, &request, &asking)?;
        match request.body() {
            RequestBody::CertConf(_) => self
                .confirm(request, &asking, found.device())
                .map(|outcome| (outcome, false)),
            RequestBody::P10cr(_) | RequestBody::Crmf(_) => {
                self.issue(request, &asking, &order, found.device(), rng)
            }
        }
    }

    /// What a certificate of the profile that the URL names is to be, if the asker may have it.
    ///
    /// Who carries a message can put it into another URL. So a request that may be for several
    /// profiles says in its protected header which it is for, and what it says holds for every one.
    fn order(
        &self,
        found: &Requester,
        request: &Authenticated,
        asking: &Asking<'_>,
    ) -> Result<CertificateOrder, CmpDenial> {
        let profile = asking.profile;
        let said = asking.header.cert_profile().map_err(CmpDenial::Malformed)?;
        let release = found.release().map(|release| &release.procedure);
        let only = match (request.means(), request.body()) {
            (_, RequestBody::CertConf(_)) => true,
            // A key update is for the profile of the certificate that it updates.
            (Means::Certificate(holder), _) => holder.profile == profile,
            (_, RequestBody::Crmf(asked)) if asked.kind == BodyKind::Kur => true,
            _ => release.is_some_and(|procedure| procedure.certificates.len() == 1),
        };
        let fits = said.map_or(only, |said| said == profile);
        let order = match release {
            Some(procedure) => procedure.certificate(profile).cloned(),
            None => self.profiles.find(profile).map(|p| p.to_order()),
        };
        order.filter(|_| fits).ok_or_else(|| {
            let known: Vec<&str> = match release {
                Some(procedure) => {
                    let orders = procedure.certificates.iter();
                    orders.map(|order| order.profile.as_str()).collect()
                }
                None => self.profiles.iter().map(|p| p.name.as_str()).collect(),
            };
            CmpDenial::Profile {
                asked: profile.chars().take(64).collect(),
                expected: known.join(", "),
            }
        })
    }

    fn confirm(
        &self,
        request: Authenticated,
        asking: &Asking<'_>,
        device: &Registered,
    ) -> Result<CmpOutcome, CmpDenial> {
        let ueid = *request.ueid();
        let found = self
            .role
            .store
            .read("find transaction", |tx| {
                let id = asking.transaction_id();
                let Some(t) = certificate::transaction(tx, device.row.id, id)? else {
                    return Ok(None);
                };
                let row = certificate::find(tx, &t.serial)?;
                Ok::<_, StoreError>(row.and_then(|r| Some((t, r.der?, r.intent.issuer))))
            })
            .map_err(|e| environment(e.into()))?;
        let present = self.generations().map_err(environment)?;
        let pending = match &found {
            Some((t, der, issuer)) => Some(PendingTransaction {
                server_nonce: t.server_nonce.clone(),
                certificate: der.clone(),
                issuer_alg: known(&present, issuer)?.ca.public_key.alg(),
                asker: t.asker.clone(),
            }),
            None => None,
        };
        let provider = self.role.provider.as_ref();
        let confirmation = check_confirmation(provider, &asking.header, request, pending.as_ref())?;
        let accepted = confirmation.verdict() == Verdict::Accepted;
        let serial = found.map(|(t, ..)| t.serial).unwrap_or_default();
        // The first verdict stays; the same confirmation again is answered again. What follows from
        // it is in one transaction with it.
        let now = asking.now.secs();
        self.role
            .store
            .run_tx("confirm certificate", |tx| {
                if certificate::mark(tx, &serial, accepted, secs(now))? {
                    self.settle(tx, &serial, accepted, now)?;
                }
                Ok(())
            })
            .map_err(|e: StoreError| environment(e.into()))?;
        Ok(CmpOutcome::Confirmed {
            ueid,
            serial,
            accepted,
        })
    }

    /// What the device's first word on a certificate does to others, and to this one.
    ///
    /// A certificate that was refused is taken back: nobody answers for its key. One that was
    /// accepted takes the place of the one that it replaces, unless that one ends within its
    /// profile's renewal window anyway, and of what was asked for before it in that same place. The
    /// network may deliver confirmations late: the last certificate that was asked for stays.
    fn settle(
        &self,
        tx: &Tx<'_>,
        serial: &[u8],
        accepted: bool,
        now: UnixSecs,
    ) -> Result<(), StoreError> {
        if !accepted {
            return revocation::take_back(tx, serial, FinalReason::Unspecified, now);
        }
        let supersede =
            |serial: &[u8]| revocation::take_back(tx, serial, FinalReason::Superseded, now);
        let Some(row) = certificate::find(tx, serial)? else {
            return Ok(());
        };
        let Some(old) = &row.intent.replaces else {
            return Ok(());
        };
        let (before, after): (Vec<_>, Vec<_>) = certificate::siblings(tx, &row.intent)?
            .into_iter()
            .partition(|(sibling, _)| sibling.as_slice() < serial);
        if after.iter().any(|(_, confirmed)| *confirmed) {
            return supersede(serial);
        }
        for (sibling, _) in before {
            supersede(&sibling)?;
        }
        let window = self.profiles.find(&row.intent.profile);
        let window = window.map_or(0, |profile| profile.renewal_window_secs);
        let soon = secs(UnixSecs(now.0.saturating_add(window)));
        match certificate::find(tx, old)? {
            Some(old) if old.intent.not_after > soon => supersede(&old.intent.serial),
            _ => Ok(()),
        }
    }
}

/// The issuing CA that a row names.
pub(super) fn known<'a>(present: &'a Generations, id: &str) -> Result<&'a Generation, CmpDenial> {
    let found = present.of(id);
    found.ok_or(CmpDenial::Failed("a certificate of no issuer of ours"))
}

/// A failure of ours as the peer may know it.
pub(super) fn environment(e: RoleError) -> CmpDenial {
    match e {
        RoleError::Store(e) if e.is_retryable() => CmpDenial::Unavailable(e.code()),
        e => CmpDenial::Failed(e.code()),
    }
}
