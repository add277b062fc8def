//! CMP: a message comes, an answer goes.

use std::collections::HashMap;
use std::sync::Arc;

use tegata_authority::ca::attested::ReturnDenied;
use tegata_authority::ca::cmp::{
    Authenticated, CmpDenial, InfoAsked, MacAnswer, NotAuthenticated, Operation,
    PendingTransaction, Reply, ReplyContext, Request, RequestBody, Verdict, authenticate, ca_certs,
    check_confirmation, check_revocation, crls, current_crl, decode, named_serial, no_new_root,
    root_update, template,
};
use tegata_authority::ca::issue::IssueDenied;
use tegata_authority::ca::means::Means;
use tegata_authority::ca::revocation::FinalReason;
use tegata_authority::profile::Authentication;
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::Rng;
use tegata_wire::cmp::{BodyKind, CertId, CrlStatus, InfoTypeAndValue, NONCE_BYTES, PkiHeader};
use tegata_wire::enrolment::CertificateOrder;
use tegata_wire::ids::Ueid;

use super::Issuer;
use super::issuance::{Counts, Obtained, Wanted};
use super::requester::{Alleged, Requester, held_certificate};
use crate::certificate::{self, Certificate};
use crate::generation::{Generation, Generations};
use crate::role::{Registered, RoleError, secs};
use crate::status::{NoList, Published, Scope};
use crate::{StoreError, Tx, approval, revocation};

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
        /// Whether no confirmation is awaited.
        implicit_confirm: bool,
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
    /// A device had one of its certificates revoked.
    Revoked {
        /// Which device.
        ueid: Ueid,
        /// Serial number of the certificate.
        serial: Vec<u8>,
        /// DER of the name of its issuer.
        issuer: Vec<u8>,
    },
    /// Questions about the CA were answered.
    Told(Vec<InfoTypeAndValue>),
    /// An operator has to decide; the client polls.
    Waiting {
        /// For whom.
        ueid: Ueid,
        /// certReqId, if it polled.
        polled: Option<i64>,
    },
    /// The client failed, and said so.
    ClientFailed {
        /// Which device.
        ueid: Ueid,
        /// Its words.
        text: String,
    },
    /// Nothing; the state is as before.
    Denied(CmpDenial),
}

/// Where a message came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CmpPath<'a> {
    /// The profile that the path names.
    pub profile: &'a str,
    /// What the path is for, if it says so.
    pub operation: Option<Operation>,
}

/// Revocation lists, for who asks for them by CMP: that of an issuing CA (its subjectKeyIdentifier,
/// hexadecimal), or of the newest.
pub type Lists<'a> = &'a dyn Fn(Option<&str>, Scope, UnixSecs) -> Result<Arc<Published>, NoList>;

/// A request while it is answered.
struct Asking<'a> {
    /// Its header.
    header: Arc<PkiHeader>,
    /// Its body, with its tag (DER).
    body_der: Vec<u8>,
    /// Profile of the path that it came to.
    profile: &'a str,
    /// The nonce of the answer.
    nonce: [u8; NONCE_BYTES],
    /// The time.
    now: UnixMs,
}

impl Asking<'_> {
    /// Its transactionID.
    fn transaction_id(&self) -> &[u8] {
        self.header.transaction_id().unwrap_or_default()
    }
}

/// How an answer is to be formed: known only while it is found.
#[derive(Default)]
struct Form {
    /// As an answer to a request of this kind, if it is not that of the message.
    kind: Option<BodyKind>,
    /// By MAC.
    mac: Option<MacAnswer>,
    /// To this request.
    request: Option<Request>,
    /// With a certificate: the generations when it was recorded, and its issuing CA's name.
    issued: Option<(Arc<Generations>, String)>,
}

impl Issuer {
    /// Answers a CMP message that came to the path of `profile`. Lists are not had this way.
    pub fn cmp(&self, profile: &str, body: &[u8], rng: &mut dyn Rng, now: UnixMs) -> CmpAnswer {
        let path = CmpPath {
            profile,
            operation: None,
        };
        self.cmp_at(path, body, rng, now, &|_, _, _| Err(NoList::Unknown))
    }

    /// Answers a CMP message.
    pub fn cmp_at(
        &self,
        path: CmpPath<'_>,
        body: &[u8],
        rng: &mut dyn Rng,
        now: UnixMs,
        lists: Lists<'_>,
    ) -> CmpAnswer {
        let mut nonce = [0; NONCE_BYTES];
        if rng.fill(&mut nonce).is_err() {
            let outcome = CmpOutcome::Denied(CmpDenial::Failed("random generator"));
            return CmpAnswer {
                body: Vec::new(),
                outcome,
            };
        }
        let mut form = Form::default();
        let outcome = self
            .handle(path, body, nonce, rng, now, lists, &mut form)
            .unwrap_or_else(CmpOutcome::Denied);
        let wait = u64::try_from(certificate::TRANSACTION_SECS).unwrap_or(0);
        // Signed by the newest generation there is now, after what was done; with a certificate that is
        // the one that was the newest in its transaction.
        let (present, issuer) = match form.issued.take() {
            Some((present, issuer)) => (present, Some(issuer)),
            None => (
                self.generations().unwrap_or_else(|_| self.last_seen()),
                None,
            ),
        };
        let newest = present.newest();
        let issuer = issuer
            .and_then(|issuer| present.of(&issuer))
            .unwrap_or(newest);
        let mut chain = match &outcome {
            // The device has what it needs, unless the signer is another than that of its certificate.
            CmpOutcome::Confirmed { .. } if present.iter().count() == 1 => Vec::new(),
            _ => present.path_from(newest, now.secs()),
        };
        if issuer.number != newest.number {
            chain.push(issuer.ca.cert_der.clone());
        }
        let root = present.root(issuer.root);
        let context = ReplyContext {
            issuer: &newest.ca,
            root: &root.unwrap_or(present.newest_root()).ca.cert_der,
            signer: newest.key.as_ref(),
            chain: &chain,
            provider: self.role.provider.as_ref(),
            now: now.secs(),
            nonce,
            confirm_until: UnixSecs(now.secs().0.saturating_add(wait)),
            mac: form.mac.as_ref(),
        };
        // What was decoded, or what of it can be read all the same.
        let request = form.request.take().or_else(|| Request::read(body));
        let request = request.map(|request| request.answered_as(form.kind));
        let answer = reply(&outcome).and_then(|reply| context.build(request.as_ref(), &reply));
        match answer {
            Ok(body) => CmpAnswer { body, outcome },
            // What cannot be said is still answered, unless no answer can be signed at all.
            Err(failed) => CmpAnswer {
                body: context
                    .build(request.as_ref(), &Reply::Denied(&failed))
                    .unwrap_or_default(),
                outcome: CmpOutcome::Denied(failed),
            },
        }
    }

    #[allow(clippy::too_many_arguments)] // One call site; each is another thing.
    fn handle(
        &self,
        path: CmpPath<'_>,
        body: &[u8],
        nonce: [u8; NONCE_BYTES],
        rng: &mut dyn Rng,
        now: UnixMs,
        lists: Lists<'_>,
        form: &mut Form,
    ) -> Result<CmpOutcome, CmpDenial> {
        let alleged = decode(body)?;
        let request = Request::of(&alleged);
        let header = Arc::clone(request.header());
        form.request = Some(request);
        if let Some(operation) = path.operation {
            operation.check(alleged.body())?;
        }
        let asking = Asking {
            header,
            body_der: alleged.body_der().to_vec(),
            profile: path.profile,
            nonce,
            now,
        };
        if alleged.asks_in_the_open() {
            return self.tell(alleged.body(), &asking, None, lists);
        }
        let found = self.alleged(&alleged).map_err(environment)?;
        let credential = found.as_ref().map(Alleged::credential);
        let provider = self.role.provider.as_ref();
        let request = authenticate(provider, alleged, credential, self.mac_policy, now.secs())?;
        // Authenticated from here on: what follows may change state.
        let found = found.ok_or(CmpDenial::Failed("credential without a device"))?;
        let found = self.requester(found, &request).map_err(environment)?;
        let nobody = CmpDenial::NotAuthenticated(NotAuthenticated::UnknownKey);
        let found = found.ok_or(nobody)?;
        if let Requester::Secret(holder) = &found {
            let mut salt = [0; 16];
            rng.fill(&mut salt)
                .map_err(|_| CmpDenial::Failed("random generator"))?;
            let text = holder.text.dangerous_clone();
            form.mac = MacAnswer::to(&asking.header, text, salt);
        }
        match request.body() {
            RequestBody::CertConf(_) => self.confirm(request, &asking, found.device()),
            RequestBody::P10cr(_) | RequestBody::Crmf(_) => {
                self.issue(request, &asking, &found, rng, form)
            }
            RequestBody::PollReq(_) => self.poll(request, asking, &found, rng, form),
            RequestBody::Rr(_) => self.revoke(request, now.secs()),
            RequestBody::Genm(_) => {
                let device = Some(found.device());
                self.tell(request.body(), &asking, device, lists)
            }
            RequestBody::Error { text } => Ok(CmpOutcome::ClientFailed {
                ueid: *request.ueid(),
                text: text.chars().take(200).collect(),
            }),
        }
    }

    /// A request for a certificate.
    fn issue(
        &self,
        request: Authenticated,
        asking: &Asking<'_>,
        found: &Requester,
        rng: &mut dyn Rng,
        form: &mut Form,
    ) -> Result<CmpOutcome, CmpDenial> {
        let order = self.order(found, &request, asking)?;
        let ueid = *request.ueid();
        let profile = self.profiles.find(asking.profile);
        let asks = asking.header.implicit_confirm();
        let wanted = Wanted {
            request,
            order: &order,
            device: found.device(),
            transaction_id: asking.transaction_id(),
            body_der: &asking.body_der,
            counts: Counts::Confirmed {
                server_nonce: &asking.nonce,
                device_nonce: asking.header.sender_nonce().unwrap_or_default(),
                unless_new: asks && profile.is_some_and(|profile| profile.implicit_confirm),
            },
        };
        Ok(match self.obtain(wanted, rng, asking.now)? {
            Obtained::Certificate {
                serial,
                der,
                again,
                awaited,
                present,
                issuer,
            } => {
                form.issued = Some((present, issuer));
                CmpOutcome::Issued {
                    ueid,
                    serial,
                    certificate: der,
                    again,
                    implicit_confirm: !awaited,
                }
            }
            Obtained::Waiting => CmpOutcome::Waiting { ueid, polled: None },
        })
    }

    /// Whether a request was decided: then it is answered as if it came now.
    ///
    /// Spec: RFC 9483 section 4.4.
    fn poll(
        &self,
        request: Authenticated,
        mut asking: Asking<'_>,
        found: &Requester,
        rng: &mut dyn Rng,
        form: &mut Form,
    ) -> Result<CmpOutcome, CmpDenial> {
        let RequestBody::PollReq(cert_req_id) = *request.body() else {
            return Err(CmpDenial::Failed("pollReq"));
        };
        let store = &self.role.store;
        let device = found.device().row.id;
        let waiting = store
            .read("find approval", |tx| {
                approval::of_transaction(tx, device, asking.transaction_id())
            })
            .map_err(|e: StoreError| environment(e.into()))?;
        // Whether it is decided is told to who asked for it alone.
        let waiting = waiting.filter(|w| w.asker == request.means().label());
        let waiting = waiting.ok_or(CmpDenial::NothingWaiting)?;
        let ueid = *request.ueid();
        if waiting.approved.is_none() {
            return Ok(CmpOutcome::Waiting {
                ueid,
                polled: Some(cert_req_id),
            });
        }
        let request = request.polled(&waiting.asker, &waiting.body)?;
        form.kind = Some(match request.body() {
            RequestBody::Crmf(asked) => asked.kind,
            _ => BodyKind::P10cr,
        });
        asking.body_der = waiting.body;
        self.issue(request, &asking, found, rng, form)
    }

    /// A device takes back a certificate of its own; again is the same as once.
    fn revoke(&self, request: Authenticated, now: UnixSecs) -> Result<CmpOutcome, CmpDenial> {
        let ueid = *request.ueid();
        let serial = match request.body() {
            RequestBody::Rr(details) => named_serial(details).unwrap_or_default().to_vec(),
            _ => Vec::new(),
        };
        let store = &self.role.store;
        let named = store
            .read("find certificate", |tx| held_certificate(tx, &serial))
            .map_err(environment)?;
        let asked = check_revocation(request, named.as_ref(), &self.profiles)?;
        store
            .run_tx_last("revoke by request", |tx| {
                revocation::take_back(tx, asked.serial(), asked.reason(), now)
            })
            .map_err(|e: StoreError| environment(e.into()))?;
        let issuer = named.as_ref().and_then(|named| named.view().ok());
        Ok(CmpOutcome::Revoked {
            ueid,
            serial: asked.serial().to_vec(),
            issuer: issuer.map_or(Vec::new(), |view| view.issuer_der.to_vec()),
        })
    }

    /// Answers questions about the CA. Nothing of it is secret.
    fn tell(
        &self,
        body: &RequestBody,
        asking: &Asking<'_>,
        device: Option<&Registered>,
        lists: Lists<'_>,
    ) -> Result<CmpOutcome, CmpDenial> {
        let RequestBody::Genm(items) = body else {
            return Err(CmpDenial::Failed("genm"));
        };
        let now = asking.now.secs();
        let list = |issuer: Option<&str>, scope| match lists(issuer, scope, now) {
            Ok(list) => Ok(Some(list)),
            Err(NoList::Unknown) => Ok(None),
            Err(NoList::TooMany) => Err(CmpDenial::Info("a question whose answer is too long")),
            Err(NoList::Busy) => Err(CmpDenial::Unavailable("list-being-made")),
            Err(NoList::Role(e)) => Err(environment(e)),
        };
        let told = match InfoAsked::read(items)? {
            InfoAsked::Nothing => Vec::new(),
            InfoAsked::CaCerts => {
                let present = self.generations().map_err(environment)?;
                let certs = present.intermediates(now);
                ca_certs(&certs.iter().map(Vec::as_slice).collect::<Vec<_>>())?
            }
            InfoAsked::RootUpdate(known) => {
                let present = self.generations().map_err(environment)?;
                match present.root_after(known.as_deref()) {
                    Some((root, links)) => {
                        let (old, new) = (&links.old_with_new, &links.new_with_old);
                        root_update(&root.ca.cert_der, new.as_deref(), old.as_deref())?
                    }
                    None => no_new_root(),
                }
            }
            InfoAsked::Template => {
                let said = asking.header.cert_profile().map_err(CmpDenial::Malformed)?;
                let name = said.as_deref().unwrap_or(asking.profile);
                let profile = self.profiles.find(name).ok_or(CmpDenial::Profile {
                    asked: name.chars().take(64).collect(),
                    expected: "a profile of this CA".into(),
                })?;
                let identity = device.map(|device| device.endorsed.identity());
                template(profile, &profile.to_order(), identity.as_ref())?
            }
            InfoAsked::CurrentCrl => {
                let list = list(None, Scope::Full)?;
                let list = list.ok_or(CmpDenial::Info("a question for a list that is not"))?;
                current_crl(&list.der)?
            }
            InfoAsked::Crls(wanted) => {
                let present = self.generations().map_err(environment)?;
                // A list that is asked for several times is sent once.
                let mut newer = HashMap::new();
                for wanted in wanted {
                    let Some((by, scope)) = list_of(&wanted, &present) else {
                        continue;
                    };
                    let had = wanted.this_update_secs.unwrap_or(0);
                    let list = list(Some(&by.id), scope)?;
                    if let Some(list) = list.filter(|list| list.made.0 > had) {
                        newer.insert((by.number, scope), list);
                    }
                }
                let newer: Vec<&[u8]> = newer.values().map(|list| list.der.as_slice()).collect();
                crls(&newer)?
            }
            _ => return Err(CmpDenial::Info("a question that is not known")),
        };
        Ok(CmpOutcome::Told(told))
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
            // A key update is for the profile of the certificate that it updates.
            (Means::Certificate(holder), _) => holder.profile == profile,
            (Means::Secret(secret), _) => secret.profile == profile,
            (Means::Maker(_), _) => {
                let mut all = self
                    .profiles
                    .iter()
                    .filter(|p| p.allows(Authentication::Maker));
                all.next().is_some_and(|one| one.name == profile) && all.next().is_none()
            }
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
        // A TA says here, too, which profile it is about, and the path is not protected.
        let said = asking.header.cert_profile().map_err(CmpDenial::Malformed)?;
        if said.is_some_and(|said| said != asking.profile) {
            return Err(CmpDenial::Profile {
                asked: asking.profile.chars().take(64).collect(),
                expected: "the profile that the confirmation says".into(),
            });
        }
        let ueid = *request.ueid();
        let found = self
            .role
            .store
            .read("find transaction", |tx| {
                let (id, now) = (asking.transaction_id(), secs(asking.now.secs()));
                let Some(t) = certificate::transaction(tx, device.row.id, id, now)? else {
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
        // it is in one transaction with it. A certificate that was taken back meanwhile, or is by
        // this, is confirmed to nobody: the device would put it in the place of a good one.
        let now = asking.now.secs();
        let refused = |tx: &Tx<'_>| {
            let row = certificate::find(tx, &serial)?;
            let good = |row: &Certificate| row.standing.is_good() && row.rejected_at.is_none();
            Ok::<_, StoreError>(match row.filter(good) {
                None => Some(IssueDenied::Revoked),
                Some(row) if certificate::awaits_a_hold(tx, &row)? => {
                    Some(IssueDenied::Return(ReturnDenied::Held))
                }
                Some(_) => None,
            })
        };
        let denied = self
            .role
            .store
            .run_tx_last("confirm certificate", |tx| {
                if accepted && let Some(denied) = refused(tx)? {
                    return Ok(Some(denied));
                }
                if certificate::mark(tx, &serial, accepted, secs(now))? {
                    self.settle(tx, &serial, accepted, now)?;
                }
                if accepted { refused(tx) } else { Ok(None) }
            })
            .map_err(|e: StoreError| environment(e.into()))?;
        if let Some(denied) = denied {
            return Err(CmpDenial::Issue(denied));
        }
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
        // What it follows, and what that followed, if a clock that was ahead took it for one that ends soon.
        let mut old = Some(old.clone());
        for _ in 0..certificate::FOLLOWED_MAX {
            let row = old.map(|old| certificate::find(tx, &old)).transpose()?;
            let Some(row) = row.flatten() else { break };
            if row.standing.is_good() && row.intent.not_after > soon {
                supersede(&row.intent.serial)?;
            }
            old = row.intent.replaces;
        }
        Ok(())
    }
}

/// The issuing CA that a row names.
pub(super) fn known<'a>(present: &'a Generations, id: &str) -> Result<&'a Generation, CmpDenial> {
    let found = present.of(id);
    found.ok_or(CmpDenial::Failed("a certificate of no issuer of ours"))
}

/// What to answer, by what happened.
fn reply(outcome: &CmpOutcome) -> Result<Reply<'_>, CmpDenial> {
    Ok(match outcome {
        CmpOutcome::Issued {
            certificate,
            implicit_confirm,
            ..
        } => Reply::Granted {
            certificate,
            implicit_confirm: *implicit_confirm,
        },
        CmpOutcome::Confirmed { .. } | CmpOutcome::ClientFailed { .. } => Reply::Confirmed,
        CmpOutcome::Revoked { serial, issuer, .. } => {
            let id = CertId::new(issuer, serial).map_err(|_| CmpDenial::Failed("CertId"))?;
            Reply::Revoked(id)
        }
        CmpOutcome::Told(items) => Reply::Told(items),
        CmpOutcome::Waiting { polled: None, .. } => Reply::Waiting,
        CmpOutcome::Waiting {
            polled: Some(cert_req_id),
            ..
        } => Reply::StillWaiting {
            cert_req_id: *cert_req_id,
        },
        CmpOutcome::Denied(denial) => Reply::Denied(denial),
    })
}

/// The list that somebody has, whose and of what: by the end of its URL, `…/ISSUER/SCOPE.crl`, or by the name
/// of its issuer alone. Nothing where it is none of ours: another list would not tell of what it does.
fn list_of<'a>(wanted: &CrlStatus, present: &'a Generations) -> Option<(&'a Generation, Scope)> {
    let published = |url: &String| {
        let mut parts = url.rsplit('/');
        let name = parts.next()?.strip_suffix(".crl")?;
        let by = present.of(parts.next()?)?;
        Some((by, Scope::from_name(name)?))
    };
    let signed = |name: &Vec<u8>| {
        let by = present.iter().find(|one| one.ca.name.as_der() == name);
        Some((by?, Scope::Full))
    };
    let found = wanted.urls.iter().find_map(published);
    found.or_else(|| wanted.issuer.as_ref().and_then(signed))
}

/// A failure of ours as the peer may know it.
pub(super) fn environment(e: RoleError) -> CmpDenial {
    match e {
        RoleError::Store(e) if e.is_retryable() => CmpDenial::Unavailable(e.code()),
        e => CmpDenial::Failed(e.code()),
    }
}
