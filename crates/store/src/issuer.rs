//! The CA as a service: the decision functions, and the store's effects in their order.
//!
//! Invariants: an intent is durable before the key signs, a certificate is durable before anyone
//! sees it. One request of one device has one row, so it can have one certificate only: a crash
//! leaves an intent, the same request finds and finishes it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tegata_authority::ca::authority_cert::{self, CaDraft};
use tegata_authority::ca::cmp::{
    Authenticated, CmpDenial, Credential, MacPolicy, PendingTransaction, Reply, ReplyContext,
    RequestBody, Verdict, authenticate, check_confirmation, decode,
};
use tegata_authority::ca::delivery::{ReleaseView, deliver, verify_request};
use tegata_authority::ca::issue::{self, Draft, IssuanceToken, IssueDenied};
use tegata_authority::ca::release::{
    ReleaseDraft, ReleaseRecord, ReleaseSecrets, cut, procedure_of,
};
use tegata_authority::ca::status::StatusUrls;
use tegata_authority::profile::Profiles;
use tegata_authority::tam::availability::Availability;
use tegata_authority::tam::notice::sign_notice;
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::{KeyAlg, PublicKey, Rng, Signer};
use tegata_wire::cbor;
use tegata_wire::cmp::{NONCE_BYTES, PkiHeader, UnverifiedPkiMessage};
use tegata_wire::enrolment::{CertificateOrder, Procedure, ProtocolProfile};
use tegata_wire::ids::{ReleaseDigest, SignerId, TaUuid, Ueid};

use crate::certificate::{self, Certificate, CmpTransaction, Intent};
use crate::role::{Registered, Role, RoleError, Trust, device_in, secs};
use crate::status::StatusSettings;
use crate::{StoreError, Tx, keys, release, revocation};

/// Algorithms and names of a new CA.
#[derive(Debug, Clone)]
pub struct CaSetup {
    /// Names and lifetimes.
    pub draft: CaDraft,
    /// Algorithm of the root key.
    pub root_alg: KeyAlg,
    /// Algorithm of the issuing key.
    pub issuing_alg: KeyAlg,
}

/// A new release, to be written by name.
#[derive(Debug, Clone, Copy)]
pub struct NewRelease<'a> {
    /// Name of the TA.
    pub ta_name: &'a str,
    /// The Wasm module.
    pub module: &'a [u8],
    /// Names of the certificate profiles, at least one; the first is made when none is named.
    pub profiles: &'a [&'a str],
    /// The TAM's exchange key: makes it a release of the paper profile.
    pub paper_exchange_key: Option<&'a PublicKey>,
}

/// A release that was cut and stored.
#[derive(Debug, Clone)]
pub struct CutRelease {
    /// Its name.
    pub digest: ReleaseDigest,
    /// The TA.
    pub ta: TaUuid,
    /// Its sequence number.
    pub sequence: u64,
    /// The encoded release package for the TAM.
    pub package: Vec<u8>,
    /// The signed TA envelope for the Verifier.
    pub ta_envelope: Vec<u8>,
}

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

/// The CA.
pub struct Issuer {
    pub(crate) role: Role,
    profiles: Profiles,
    mac_policy: MacPolicy,
    pub(crate) status: StatusSettings,
    root_cert: Vec<u8>,
    pub(crate) issuer: authority_cert::Issuer,
    pub(crate) issuing_key: Box<dyn Signer>,
    release_key: Box<dyn Signer>,
    // Releases never change; their secrets are unsealed once.
    opened: Mutex<HashMap<[u8; 16], Arc<OpenRelease>>>,
}

/// A release with its secrets unsealed.
struct OpenRelease {
    digest: ReleaseDigest,
    ta: TaUuid,
    sequence: u64,
    record: ReleaseRecord,
    procedure: Procedure,
    secrets: ReleaseSecrets,
}

impl Issuer {
    /// Makes root, issuing and release keys and the two CA certificates, all or nothing.
    ///
    /// # Errors
    /// `HasKey` if there is a CA in the store already.
    pub fn init(
        role: &Role,
        setup: &CaSetup,
        rng: &mut dyn Rng,
        now: UnixSecs,
    ) -> Result<(), RoleError> {
        let provider = role.provider.as_ref();
        let root = provider.generate(setup.root_alg, rng)?;
        let issuing = provider.generate(setup.issuing_alg, rng)?;
        let release = provider.generate(KeyAlg::P256, rng)?;
        let root_cert = authority_cert::make_root(&setup.draft, &root, rng, now)?;
        let issuing_cert = authority_cert::make_issuing(
            &setup.draft,
            &root,
            &root_cert,
            issuing.public_key(),
            rng,
            now,
        )?;
        let mut sealed = Vec::new();
        for (name, key) in [
            (ROOT_KEY, &root),
            (ISSUING_KEY, &issuing),
            (RELEASE_KEY, &release),
        ] {
            sealed.push((name, role.seal_key(name, key, rng)?));
        }
        role.store.run_tx("init CA", |tx| {
            for (name, key) in &sealed {
                if !keys::insert(tx, name, key, secs(now))? {
                    return Err(RoleError::HasKey(name));
                }
            }
            keys::put_document(tx, ROOT_CERT, &root_cert, secs(now))?;
            keys::put_document(tx, ISSUING_CERT, &issuing_cert, secs(now))?;
            Ok(())
        })
    }

    /// Opens the CA of the store. The root key stays sealed.
    ///
    /// # Errors
    /// `NoKey` if there is none, `Sealed` under a wrong sealing key.
    pub fn open(role: Role, profiles: Profiles, mac_policy: MacPolicy) -> Result<Self, RoleError> {
        let document = |name: &'static str| {
            let found = role.store.read("open CA", |tx| keys::document(tx, name))?;
            found.ok_or(RoleError::NoKey(name))
        };
        let root_cert = document(ROOT_CERT)?;
        let issuer = authority_cert::Issuer::from_cert(&document(ISSUING_CERT)?)?;
        let issuing_key = role.open_signer(ISSUING_KEY)?;
        let release_key = role.open_signer(RELEASE_KEY)?;
        if *issuing_key.public_key() != issuer.public_key {
            return Err(RoleError::Sealed(ISSUING_KEY));
        }
        Ok(Self {
            role,
            profiles,
            mac_policy,
            status: StatusSettings::default(),
            root_cert,
            issuer,
            issuing_key,
            release_key,
            opened: Mutex::new(HashMap::new()),
        })
    }

    /// The same CA, with this for the status of its certificates.
    #[must_use]
    pub fn with_status(self, status: StatusSettings) -> Self {
        Self { status, ..self }
    }

    /// Store, provider and sealing key; also for imports and trusted keys.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The root certificate (DER).
    #[must_use]
    pub fn root_certificate(&self) -> &[u8] {
        &self.root_cert
    }

    /// The issuing CA's certificate (DER).
    #[must_use]
    pub fn issuing_certificate(&self) -> &[u8] {
        &self.issuer.cert_der
    }

    /// The key that signs releases: devices, TAM and Verifier trust it.
    #[must_use]
    pub fn release_public_key(&self) -> &PublicKey {
        self.release_key.public_key()
    }

    /// The profiles.
    #[must_use]
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// Cuts a release with the next sequence number and stores it.
    ///
    /// # Errors
    /// `NoProfile`, what cannot be released, or the store's failure.
    pub fn release(
        &self,
        new: &NewRelease<'_>,
        rng: &mut dyn Rng,
        now: UnixSecs,
    ) -> Result<CutRelease, RoleError> {
        let find = |name: &&str| {
            let profile = self.profiles.find(name);
            profile.ok_or_else(|| RoleError::NoProfile((*name).to_owned()))
        };
        let profiles = new
            .profiles
            .iter()
            .map(find)
            .collect::<Result<Vec<_>, _>>()?;
        let signer = SignerId(self.release_key.public_key().thumbprint());
        let ta = TaUuid::derive(&signer, new.ta_name);
        let last = self.role.store.read("last sequence", |tx| {
            release::last_sequence(tx, &signer, &ta)
        })?;
        let anchors = [self.root_cert.clone()];
        let draft = ReleaseDraft {
            ta_name: new.ta_name,
            module: new.module,
            profiles: &profiles,
            protocol_profile: match new.paper_exchange_key {
                Some(_) => ProtocolProfile::Paper,
                None => ProtocolProfile::Default,
            },
            sequence: last.unwrap_or(0).saturating_add(1),
            trust_anchors: &anchors,
            tam_exchange_key: new.paper_exchange_key,
        };
        let provider = self.role.provider.as_ref();
        let cut = cut(provider, rng, draft, self.release_key.as_ref())?;
        let unreadable = |_| StoreError::Unreadable { record: "release" };
        let row = release::Release {
            digest: cut.digest,
            signer: cut.signer,
            ta: cut.ta,
            name: new.ta_name.to_owned(),
            sequence: cut.sequence,
            record: cut.record.encode().map_err(unreadable)?,
            ciphertext: Some(cut.package.ta_ciphertext.clone()),
            sealed: Some(
                self.role
                    .seal(RELEASE_SECRETS, &cut.secrets.expose_bytes(), rng)?,
            ),
            availability: cbor::to_vec(&Availability::Everybody).map_err(unreadable)?,
            rule_number: 1,
            made_at: secs(now),
        };
        let fresh = self.role.store.run_tx("store release", |tx| {
            release::insert(tx, &row).map_err(RoleError::from)
        })?;
        if !fresh {
            // Another process took the sequence number: nothing of ours is known to anyone.
            return Err(RoleError::ReleaseTaken);
        }
        Ok(CutRelease {
            digest: cut.digest,
            ta: cut.ta,
            sequence: cut.sequence,
            package: cut
                .package
                .encode()
                .map_err(|_| StoreError::Unreadable { record: "package" })?,
            ta_envelope: cut.record.ta_envelope,
        })
    }

    /// Answers a TAM's signed delivery request with an encoded `Delivery`.
    ///
    /// # Errors
    /// Why nothing is delivered; the state does not change either way.
    pub fn deliver(
        &self,
        body: &[u8],
        rng: &mut dyn Rng,
        now: UnixSecs,
    ) -> Result<Vec<u8>, RoleError> {
        let provider = self.role.provider.as_ref();
        let asked = verify_request(provider, body, &self.role.trusted(Trust::Tam)?, now)?;
        let row = self
            .role
            .store
            .read("release", |tx| release::find(tx, asked.release()))?;
        let device = self.role.device(asked.ueid())?;
        let opened = row.as_ref().map(|r| self.opened(r)).transpose()?;
        let availability = row
            .as_ref()
            .map(|r| availability_of(&r.availability))
            .transpose()?;
        let view = opened
            .as_ref()
            .zip(availability.as_ref())
            .map(|(r, availability)| ReleaseView {
                digest: &r.digest,
                ta: &r.ta,
                sequence: r.sequence,
                record: &r.record,
                secrets: &r.secrets,
                availability,
            });
        let endorsed = device.as_ref().map(|d| &d.endorsed);
        let delivery = deliver(
            provider,
            rng,
            asked,
            view,
            endorsed,
            self.release_key.as_ref(),
        )?;
        delivery
            .encode()
            .map_err(|_| StoreError::Unreadable { record: "delivery" }.into())
    }

    /// Changes who may get a release at all (`Nobody` withdraws it). TAMs follow once they hear
    /// the [`Issuer::notice`].
    ///
    /// # Errors
    /// `NoRelease`, or the store's failure.
    pub fn set_availability(
        &self,
        digest: &ReleaseDigest,
        rule: &Availability,
    ) -> Result<(), RoleError> {
        let encoded = encoded(rule)?;
        let change = |tx: &Tx<'_>| release::decide_availability(tx, digest, &encoded);
        let found = self.role.store.run_tx("availability", change)?;
        found.then_some(()).ok_or(RoleError::NoRelease)
    }

    /// The CA's signed word on who may get a release, for TAMs.
    ///
    /// # Errors
    /// `NoRelease`, a rule too long to send, or the store's failure.
    pub fn notice(&self, digest: &ReleaseDigest) -> Result<(Availability, Vec<u8>), RoleError> {
        let row = self
            .role
            .store
            .read("release", |tx| release::find(tx, digest))?
            .ok_or(RoleError::NoRelease)?;
        let rule = availability_of(&row.availability)?;
        let key = self.release_key.as_ref();
        let notice = sign_notice(digest, row.rule_number, &rule, key)?;
        Ok((rule, notice))
    }

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
        let context = ReplyContext {
            issuer: &self.issuer,
            signer: self.issuing_key.as_ref(),
            now: now.secs(),
            nonce,
        };
        let header = UnverifiedPkiMessage::from_der(body)
            .ok()
            .map(|m| m.header().clone());
        let (outcome, implicit) = match self.handle(profile, body, &nonce, rng, now) {
            Ok(done) => done,
            Err(denial) => (CmpOutcome::Denied(denial), false),
        };
        let reply = match &outcome {
            CmpOutcome::Issued { certificate, .. } => Reply::Granted {
                certificate,
                implicit_confirm: implicit,
            },
            CmpOutcome::Confirmed { .. } => Reply::Confirmed,
            CmpOutcome::Denied(denial) => Reply::Denied(denial),
        };
        match context.build(header.as_ref(), &reply) {
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
        nonce: &[u8; NONCE_BYTES],
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<(CmpOutcome, bool), CmpDenial> {
        let alleged = decode(body)?;
        let header = alleged.header().clone();
        let found = match alleged.lookup() {
            Some(kid) => self
                .look_up(&kid.release_prefix, &kid.ueid)
                .map_err(environment)?,
            None => None,
        };
        let credential = found.as_ref().map(|(release, _)| Credential {
            release: release.digest,
            master: &release.secrets.master,
            shared_by_release: release.record.paper,
        });
        let provider = self.role.provider.as_ref();
        let request = authenticate(provider, alleged, credential, self.mac_policy)?;
        // Authenticated from here on: what follows may change state.
        let (release, device) = found.ok_or(CmpDenial::Failed("credential without a device"))?;
        let order = ordered(&release.procedure, profile, &request, &header)?;
        match request.body() {
            RequestBody::P10cr(_) => self.issue(request, &header, order, &device, nonce, rng, now),
            RequestBody::CertConf(_) => self
                .confirm(request, &header, &device, now)
                .map(|outcome| (outcome, false)),
        }
    }

    /// Release and device of a senderKID; `None` if either is unknown.
    fn look_up(
        &self,
        prefix: &[u8; 16],
        ueid: &Ueid,
    ) -> Result<Option<(Arc<OpenRelease>, Registered)>, RoleError> {
        let cached = self
            .opened
            .lock()
            .map_err(|_| StoreError::Poisoned)?
            .get(prefix)
            .cloned();
        let (row, device) = self.role.store.read("look up", |tx| {
            let row = match cached {
                Some(_) => None,
                None => release::find_by_prefix(tx, prefix)?,
            };
            Ok::<_, RoleError>((row, device_in(tx, ueid)?))
        })?;
        let release = match (cached, row) {
            (Some(release), _) => Some(release),
            (None, Some(row)) => Some(self.opened(&row)?),
            (None, None) => None,
        };
        Ok(release.zip(device))
    }

    /// A release with its secrets, unsealed at most once.
    fn opened(&self, row: &release::Release) -> Result<Arc<OpenRelease>, RoleError> {
        let mut opened = self.opened.lock().map_err(|_| StoreError::Poisoned)?;
        if let Some(release) = opened.get(&row.digest.prefix()) {
            return Ok(Arc::clone(release));
        }
        let unreadable = StoreError::Unreadable { record: "release" };
        let (Ok(record), Some(sealed)) = (ReleaseRecord::decode(&row.record), &row.sealed) else {
            return Err(unreadable.into());
        };
        let secrets = self.role.unseal(RELEASE_SECRETS, sealed)?;
        let release = Arc::new(OpenRelease {
            digest: row.digest,
            ta: row.ta,
            sequence: row.sequence,
            procedure: procedure_of(&record).map_err(|_| unreadable)?,
            record,
            secrets: ReleaseSecrets::from_bytes(secrets.expose_secret())?,
        });
        opened.insert(row.digest.prefix(), Arc::clone(&release));
        Ok(release)
    }

    #[allow(clippy::too_many_arguments)] // One call site; each is another thing.
    fn issue(
        &self,
        request: Authenticated,
        header: &PkiHeader,
        order: &CertificateOrder,
        device: &Registered,
        nonce: &[u8; NONCE_BYTES],
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<(CmpOutcome, bool), CmpDenial> {
        let provider = self.role.provider.as_ref();
        let profile = self
            .profiles
            .find(&order.profile)
            .ok_or(CmpDenial::Failed("the release's profile is not configured"))?;
        let token = issue::authorize(
            provider,
            request,
            &device.endorsed.identity(),
            order,
            profile,
            &device.endorsed.kids(),
        )
        .map_err(CmpDenial::Issue)?;
        let ueid = *token.ueid();
        let implicit = header.implicit_confirm() && profile.implicit_confirm;

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
                let recorded = UnixSecs(u64::try_from(row.intended_at).unwrap_or(0));
                let draft = Draft {
                    serial: row.intent.serial,
                    tbs: row.intent.tbs,
                    not_after_secs: u64::try_from(row.intent.not_after).unwrap_or(0),
                };
                let urls = self.urls(row.intent.status_base.as_deref(), row.intent.shard);
                let linted = issue::lint(token, &self.issuer, urls.as_ref(), draft, recorded)
                    .map_err(CmpDenial::Issue)?;
                issue::sign(provider, linted, self.issuing_key.as_ref())
                    .map_err(CmpDenial::Issue)?
            }
        };
        // 3. Record the certificate and the transaction. The first certificate recorded stands:
        //    two requests at once both answer that one. A crash after this loses the answer only.
        let transaction = CmpTransaction {
            device: device.row.id,
            transaction_id: octets(&header.transaction_id),
            serial: serial.clone(),
            server_nonce: nonce.to_vec(),
            device_nonce: octets(&header.sender_nonce),
        };
        let now_secs = secs(now.secs());
        let stands = self
            .role
            .store
            .run_tx("record certificate", |tx| {
                let stands = certificate::record(tx, &serial, &der, now_secs)?;
                if implicit {
                    certificate::mark(tx, &serial, true, now_secs)?;
                } else {
                    certificate::put_transaction(tx, &transaction, now_secs)?;
                }
                Ok::<_, StoreError>(stands)
            })
            .map_err(|e| environment(e.into()))?;
        // 4. Answer.
        Ok((
            CmpOutcome::Issued {
                ueid,
                serial,
                certificate: stands,
                again,
            },
            implicit,
        ))
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
                certificate::find_by_request(tx, device.row.id, token.csr_digest())
            })
            .map_err(|e: StoreError| environment(e.into()))?;
        if let Some(row) = found {
            return unrevoked(row);
        }
        let intended = store.run_tx("intend certificate", |tx| {
            self.intend_in(tx, token, device, rng, now)
        });
        let row = intended.map_err(|e| match e {
            NotIntended::Store(e) => environment(e.into()),
            NotIntended::Denied(denied) => CmpDenial::Issue(denied),
        })?;
        unrevoked(row)
    }

    /// Deals the certificate to a shard and fixes it, in one transaction with the question whether
    /// its device may have one: a revocation of the device is before it, or covers it.
    fn intend_in(
        &self,
        tx: &Tx<'_>,
        token: &IssuanceToken,
        device: &Registered,
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<Certificate, NotIntended> {
        // Two requests at once: the first one's row stands.
        if let Some(row) = certificate::find_by_request(tx, device.row.id, token.csr_digest())? {
            return Ok(row);
        }
        if !revocation::device_standing(tx, device.row.id)?.is_good() {
            return Err(NotIntended::Denied(IssueDenied::DeviceRevoked));
        }
        let (release, profile) = (&token.release().0, &token.profile().name);
        if let Some(stop) = revocation::stop::covering(tx, release, device.row.id, profile)? {
            return Err(NotIntended::Denied(IssueDenied::Stopped(stop)));
        }
        let shard = revocation::next_shard(tx, self.status.shard_size)?;
        if let Some(base) = &self.status.base_url {
            revocation::put_base(tx, base)?;
        }
        let urls = self.urls(self.status.base_url.as_deref(), shard);
        let draft = issue::draft(token, &self.issuer, urls.as_ref(), rng, now)
            .map_err(NotIntended::Denied)?;
        let intent = Intent {
            serial: draft.serial,
            device: device.row.id,
            csr_digest: *token.csr_digest(),
            profile: token.profile().name.clone(),
            release: token.release().0,
            issuer: hex::encode(&self.issuer.key_id),
            tbs: draft.tbs,
            not_after: i64::try_from(draft.not_after_secs).unwrap_or(i64::MAX),
            shard,
            status_base: self.status.base_url.clone(),
        };
        Ok(certificate::intend(tx, &intent, secs(now.secs()))?)
    }

    /// Where the status of a certificate of that shard is found.
    fn urls(&self, base: Option<&str>, shard: u64) -> Option<StatusUrls> {
        base.map(|base| StatusUrls::of(base, &self.issuer.key_id, shard))
    }

    fn confirm(
        &self,
        request: Authenticated,
        header: &PkiHeader,
        device: &Registered,
        now: UnixMs,
    ) -> Result<CmpOutcome, CmpDenial> {
        let ueid = *request.ueid();
        let id = octets(&header.transaction_id);
        let found = self
            .role
            .store
            .read("find transaction", |tx| {
                let Some(t) = certificate::transaction(tx, device.row.id, &id)? else {
                    return Ok(None);
                };
                let row = certificate::find(tx, &t.serial)?;
                Ok::<_, StoreError>(row.and_then(|r| r.der).map(|der| (t, der)))
            })
            .map_err(|e| environment(e.into()))?;
        let pending = found.as_ref().map(|(t, der)| PendingTransaction {
            server_nonce: t.server_nonce.clone(),
            certificate: der.clone(),
            issuer_alg: self.issuer.public_key.alg(),
        });
        let provider = self.role.provider.as_ref();
        let confirmation = check_confirmation(provider, header, request, pending.as_ref())?;
        let accepted = confirmation.verdict() == Verdict::Accepted;
        let serial = found.map(|(t, _)| t.serial).unwrap_or_default();
        // The first verdict stays; the same confirmation again is answered again.
        self.role
            .store
            .run_tx("confirm certificate", |tx| {
                certificate::mark(tx, &serial, accepted, secs(now.secs()))
            })
            .map_err(|e: StoreError| environment(e.into()))?;
        Ok(CmpOutcome::Confirmed {
            ueid,
            serial,
            accepted,
        })
    }
}

/// Why nothing was intended.
enum NotIntended {
    Store(StoreError),
    Denied(IssueDenied),
}

impl From<StoreError> for NotIntended {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

/// The row, unless the CA has taken its certificate back.
fn unrevoked(row: Certificate) -> Result<Certificate, CmpDenial> {
    if row.standing.is_good() {
        Ok(row)
    } else {
        Err(CmpDenial::Issue(IssueDenied::Revoked))
    }
}

/// The availability rule as it stands in a row.
pub(crate) fn encoded(rule: &Availability) -> Result<Vec<u8>, StoreError> {
    cbor::to_vec(rule).map_err(|_| StoreError::Unreadable { record: "release" })
}

/// The availability rule in a row.
pub(crate) fn availability_of(bytes: &[u8]) -> Result<Availability, StoreError> {
    cbor::from_slice(bytes).map_err(|_| StoreError::Unreadable { record: "release" })
}

/// What the release orders of the profile that the URL names.
///
/// Who carries a message can put it into another URL. So a request of a release that orders several
/// kinds says in its protected header which it is of, and what it says holds for every request.
fn ordered<'a>(
    procedure: &'a Procedure,
    profile: &str,
    request: &Authenticated,
    header: &PkiHeader,
) -> Result<&'a CertificateOrder, CmpDenial> {
    let said = header.cert_profile().map_err(CmpDenial::Malformed)?;
    let fits = match (request.body(), said) {
        (_, Some(said)) => said == profile,
        (RequestBody::P10cr(_), None) => procedure.certificates.len() == 1,
        (RequestBody::CertConf(_), None) => true,
    };
    let order = procedure.certificate(profile).filter(|_| fits);
    order.ok_or_else(|| {
        let ordered = procedure.certificates.iter();
        let ordered: Vec<&str> = ordered.map(|order| order.profile.as_str()).collect();
        CmpDenial::Profile {
            asked: profile.chars().take(64).collect(),
            expected: ordered.join(", "),
        }
    })
}

/// A failure of ours as the peer may know it.
fn environment(e: RoleError) -> CmpDenial {
    match e {
        RoleError::Store(e) if e.is_retryable() => CmpDenial::Unavailable(e.code()),
        e => CmpDenial::Failed(e.code()),
    }
}

fn octets(o: &Option<der::asn1::OctetString>) -> Vec<u8> {
    o.as_ref()
        .map(|o| o.as_bytes().to_vec())
        .unwrap_or_default()
}

/// Name and sealing purpose of the root key.
pub(crate) const ROOT_KEY: &str = "ca root key";
/// Name and sealing purpose of the issuing key.
const ISSUING_KEY: &str = "ca issuing key";
/// Name and sealing purpose of the release key.
const RELEASE_KEY: &str = "ca release key";
/// Sealing purpose of release secrets.
const RELEASE_SECRETS: &str = "ca release secrets";
/// Name of the root certificate.
pub(crate) const ROOT_CERT: &str = "ca root certificate";
/// Name of the issuing certificate.
const ISSUING_CERT: &str = "ca issuing certificate";
