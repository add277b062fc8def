//! Exchanges with devices: a TEEP message comes, an answer goes.

use std::sync::Arc;

use tegata_authority::UnixMs;
use tegata_authority::ca::attested::hand_on;
use tegata_authority::factory::EndorsedDevice;
use tegata_authority::tam::availability::Candidate;
use tegata_authority::tam::challenge::{CHALLENGE_SECS, ChallengeDenied, ChallengeKey};
use tegata_authority::tam::plan::{Known, Step, Wishes, next_step};
use tegata_authority::tam::session::{
    Appraised, FromDevice, TeepDenied, appraisal_request, check_result, message_kid, present_tas,
    query_request, requested_tas, unneeded_tas, verify_message,
};
use tegata_authority::tam::update::{
    ReadyRelease, TaPayload, dependent_envelope, install_message, payloads_from_delivery,
    payloads_with_kek, removal_message,
};
use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::{CryptoError, PublicKey, Rng, Secret};
use tegata_wire::cbor;
use tegata_wire::enrolment::{Delivery, DeliveryMode, DeliveryRequest, ReleasePackage};
use tegata_wire::ids::{ReleaseDigest, TaUuid};
use tegata_wire::teep::{Error as TeepError, Message, QueryResponse, Success};

use super::{DEVICE_KEK, PeerFailure, Peers, TamServer, TeepAnswer, TeepFault, TeepOutcome};
use crate::issuer::availability_of;
use crate::role::{Registered, RoleError, Trust, registered, secs, trusted_in};
use crate::teep::{self, SentUpdate, Use};
use crate::{StoreError, Tx, device, release};

impl TamServer {
    /// Answers one TEEP message over HTTP; an empty body begins an exchange.
    ///
    /// # Errors
    /// Why there is no answer; unless the fault says otherwise, the state is as before.
    pub fn teep(
        &self,
        body: &[u8],
        peers: &dyn Peers,
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<(TeepAnswer, TeepOutcome), TeepFault> {
        let provider = self.role.provider.as_ref();
        if body.is_empty() {
            let (_, key) = self.challenge_key()?;
            let challenge = key.make(provider, rng, b"", now)?;
            let message = query_request(self.signer.as_ref(), &challenge)?;
            return Ok((TeepAnswer::Message(message), TeepOutcome::Queried));
        }
        let kid = message_kid(body)?;
        let device = self.role.store.read("device by key", |tx| {
            registered(device::find_by_teep_kid(tx, &kid)?)
        })?;
        let endorsed = device.as_ref().and_then(|d| d.endorsed.tee());
        let from = verify_message(provider, body, endorsed)?;
        let device = device.ok_or(TeepDenied::NotAuthenticated)?;
        match from.message() {
            Message::QueryResponse(response) => {
                self.respond(&from, response, &device, peers, rng, now)
            }
            Message::Success(success) => self.succeeded(success, &device, now),
            Message::Error(error) => self.failed(error, &device, now),
            // QueryRequest, Update, and kinds that wire may learn later.
            _ => Err(TeepDenied::Unexpected.into()),
        }
    }

    /// The epoch of challenges, and its key.
    fn challenge_key(&self) -> Result<(u64, ChallengeKey), TeepFault> {
        let epoch = self
            .role
            .store
            .read("challenge epoch", teep::challenge_epoch)?;
        let secret = self.challenge_secret.expose_secret();
        let key = self.role.provider.hmac_sha256(secret, &epoch.to_be_bytes());
        Ok((epoch, ChallengeKey::new(Secret::new(key))))
    }

    fn respond(
        &self,
        from: &FromDevice,
        response: &QueryResponse,
        device: &Registered,
        peers: &dyn Peers,
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<(TeepAnswer, TeepOutcome), TeepFault> {
        let provider = self.role.provider.as_ref();
        let ask = appraisal_request(response)?;
        let (epoch, key) = self.challenge_key()?;
        key.check(provider, &ask.nonce, b"", now.secs())
            .map_err(TeepDenied::from)?;
        // 1. The challenge is used up before anything is done with it. A crash after this costs
        //    the device one more question.
        let valid_secs = i64::try_from(CHALLENGE_SECS).unwrap_or(i64::MAX);
        let used = self.role.store.run_tx("use challenge", |tx| {
            let at = secs(now.secs());
            teep::use_challenge(tx, &ask.nonce, epoch, device.row.id, at, valid_secs)
        })?;
        match used {
            Use::Fresh => {}
            Use::Again => return Err(TeepDenied::Replayed.into()),
            Use::OldEpoch => return Err(TeepDenied::from(ChallengeDenied::Expired).into()),
        }
        // 2. The Verifier appraises.
        let request = ask
            .encode()
            .map_err(|_| StoreError::Unreadable { record: "request" })?;
        let result = peers.appraise(&request)?;
        let verifiers = self.role.trusted(Trust::Verifier)?;
        let appraised = check_result(provider, &result, &verifiers, &ask.nonce, from, now.secs())?;
        // 3. The CA hears of it, before the device has its answer: a device whose certificate has
        //    ended asks the CA next. One that is not heard there is told to check in again.
        if let Ok(word) = hand_on(self.signer.as_ref(), &result) {
            let _ = peers.attested(&word);
        }
        // 4. What the device has is recorded, then the next step is decided.
        let wishes = Wishes {
            requested: requested_tas(response),
            present: present_tas(response),
            unneeded: unneeded_tas(response),
        };
        let endorsed = device.endorsed.tee();
        let endorsed = endorsed.ok_or(TeepDenied::NotAuthenticated)?;
        let (known, step) = self.plan(&appraised, endorsed, &wishes)?;
        self.record_installed(&appraised, device, &known, now)?;
        match step {
            None => {
                let ueid = *from.ueid();
                Ok((TeepAnswer::Nothing, TeepOutcome::UpToDate { ueid }))
            }
            Some(Step::Install(digest)) => {
                self.install(appraised, device, &digest, peers, rng, now)
            }
            Some(Step::Remove(ta)) => self.remove(appraised, device, ta, rng, now),
        }
    }

    fn plan(
        &self,
        appraised: &Appraised,
        device: &EndorsedDevice,
        wishes: &Wishes,
    ) -> Result<(Vec<Known>, Option<Step>), TeepFault> {
        let rows = self.role.store.read("releases", release::list)?;
        let known = rows
            .iter()
            .map(|r| {
                Ok(Known {
                    digest: r.digest,
                    ta: r.ta,
                    sequence: r.sequence,
                    availability: availability_of(&r.availability)?,
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let model = device.model();
        let candidate = Candidate {
            ueid: device.ueid(),
            batch: device.batch(),
            model: &model,
        };
        let provider = self.role.provider.as_ref();
        let step = next_step(provider, appraised, &candidate, wishes, &known);
        Ok((known, step))
    }

    fn record_installed(
        &self,
        appraised: &Appraised,
        device: &Registered,
        known: &[Known],
        now: UnixMs,
    ) -> Result<(), TeepFault> {
        let id = device.row.id;
        let reported: Vec<&Known> = known
            .iter()
            .filter(|r| appraised.installed().contains(&r.digest))
            .collect();
        let before = self
            .role
            .store
            .read("installed", |tx| teep::installed(tx, id))?;
        let same = |r: &&Known| before.contains(&(r.ta, Some(r.digest), Some(r.sequence)));
        if reported.iter().all(same) {
            return Ok(());
        }
        self.role.store.run_tx("record installed", |tx| {
            for r in &reported {
                let at = secs(now.secs());
                teep::set_installed(tx, id, &r.ta, Some(&r.digest), Some(r.sequence), at)?;
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(())
    }

    fn install(
        &self,
        appraised: Appraised,
        device: &Registered,
        digest: &ReleaseDigest,
        peers: &dyn Peers,
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<(TeepAnswer, TeepOutcome), TeepFault> {
        let provider = self.role.provider.as_ref();
        let id = device.row.id;
        let (known, keys, kept) = self.role.store.read("release", |tx| {
            let known = release::known(tx, digest)?;
            let keys = trusted_in(tx, Trust::Release)?;
            Ok::<_, RoleError>((known, keys, teep::delivery(tx, id, digest)?))
        })?;
        let (ta_uuid, sequence) = known.ok_or(RoleError::NoRelease)?;
        let release = self.ready(digest, &keys)?;
        let package = release.package();
        let ta = match &self.payload_base_url {
            Some(base) => TaPayload::At(format!("{}/{digest}", base.trim_end_matches('/'))),
            None => TaPayload::Integrated(&package.ta_ciphertext),
        };
        let payloads = match package.mode {
            DeliveryMode::Asymmetric => {
                let delivery = self.delivery(device, digest, kept, peers, now)?;
                match payloads_from_delivery(provider, &release, ta, delivery, &keys) {
                    Ok(payloads) => payloads,
                    Err(error) => {
                        // Damaged on its way from the CA: kept, it would fail for ever.
                        self.role.store.run_tx("forget delivery", |tx| {
                            teep::forget_delivery(tx, device.row.id, digest)
                        })?;
                        return Err(error.into());
                    }
                }
            }
            DeliveryMode::Symmetric => {
                let ueid = *device.endorsed.ueid();
                let sealed = device
                    .row
                    .sealed_kek
                    .as_ref()
                    .ok_or(RoleError::NoDevice(ueid))?;
                let kek = self.role.unseal(DEVICE_KEK, sealed)?;
                let kek = <[u8; 16]>::try_from(kek.expose_secret().as_slice())
                    .map_err(|_| RoleError::DeliveryKeks)?;
                payloads_with_kek(
                    provider,
                    rng,
                    package,
                    ta,
                    &self.exchange_key,
                    &Secret::new(kek),
                    ueid.as_bytes(),
                )?
            }
        };
        let ueid = *device.endorsed.ueid();
        let signer = self.signer.as_ref();
        let envelope = dependent_envelope(provider, signer, &ueid, &ta_uuid, sequence, payloads)?;
        let token = new_token(rng, now)?;
        let message = install_message(signer, appraised, &token, envelope)?;
        self.record_update(token, device, ta_uuid, Some((*digest, sequence)), now)?;
        let outcome = TeepOutcome::Installing {
            ueid,
            release: *digest,
            sequence,
            len_bytes: message.len(),
        };
        Ok((TeepAnswer::Message(message), outcome))
    }

    /// A release's package: from memory, or as the store has it. That the release is there, and which keys are
    /// trusted, is for the caller to have asked the store.
    fn ready(
        &self,
        digest: &ReleaseDigest,
        keys: &[PublicKey],
    ) -> Result<Arc<ReadyRelease>, TeepFault> {
        // Another key than the one that is trusted no more may have signed it too.
        if let Some(release) = self.held.find(digest).filter(|r| r.stands(keys)) {
            return Ok(release);
        }
        let read = |tx: &Tx<'_>| release::record(tx, digest);
        let record = self.role.store.read("release", read)?;
        let record = record.ok_or(RoleError::NoRelease)?;
        let package = ReleasePackage::decode(&record)
            .map_err(|_| StoreError::Unreadable { record: "release" })?;
        let release = ReadyRelease::new(self.role.provider.as_ref(), package, keys)?;
        let release = Arc::new(release);
        self.held.keep(*digest, record.len(), &release);
        Ok(release)
    }

    /// The CA's delivery: kept from before, or asked for now.
    fn delivery(
        &self,
        device: &Registered,
        digest: &ReleaseDigest,
        kept: Option<Vec<u8>>,
        peers: &dyn Peers,
        now: UnixMs,
    ) -> Result<Delivery, TeepFault> {
        let id = device.row.id;
        let unreadable = StoreError::Unreadable { record: "delivery" };
        if let Some(kept) = kept {
            return Ok(Delivery::decode(&kept).map_err(|_| unreadable)?);
        }
        let request = DeliveryRequest {
            release_digest: *digest,
            ueid: *device.endorsed.ueid(),
            issued_at_secs: now.secs().0,
        };
        let payload = request
            .encode()
            .map_err(|_| StoreError::Unreadable { record: "request" })?;
        let signer = self.signer.as_ref();
        let signed = sign1(signer, &payload, &Sign1Headers::default(), b"", false)
            .map_err(TeepDenied::Cose)?;
        let body = peers.deliver(&signed)?;
        Delivery::decode(&body).map_err(|e| PeerFailure {
            who: "CA",
            why: format!("its answer is malformed: {e}"),
        })?;
        let stands = self.role.store.run_tx("keep delivery", |tx| {
            teep::keep_delivery(tx, id, digest, &body, secs(now.secs()))
        })?;
        Ok(Delivery::decode(&stands).map_err(|_| unreadable)?)
    }

    fn remove(
        &self,
        appraised: Appraised,
        device: &Registered,
        ta: TaUuid,
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<(TeepAnswer, TeepOutcome), TeepFault> {
        let token = new_token(rng, now)?;
        let message = removal_message(self.signer.as_ref(), appraised, &token, &ta)?;
        self.record_update(token, device, ta, None, now)?;
        let ueid = *device.endorsed.ueid();
        Ok((
            TeepAnswer::Message(message),
            TeepOutcome::Removing { ueid, ta },
        ))
    }

    fn record_update(
        &self,
        token: Vec<u8>,
        device: &Registered,
        ta: TaUuid,
        release: Option<(ReleaseDigest, u64)>,
        now: UnixMs,
    ) -> Result<(), TeepFault> {
        let sent = SentUpdate {
            token,
            device: device.row.id,
            ta,
            release,
            sent_at: secs(now.secs()),
            outcome: None,
            detail: None,
            reports: None,
        };
        self.role
            .store
            .run_tx_last("record update", |tx| teep::insert_update(tx, &sent))?;
        Ok(())
    }

    fn succeeded(
        &self,
        success: &Success,
        device: &Registered,
        now: UnixMs,
    ) -> Result<(TeepAnswer, TeepOutcome), TeepFault> {
        let token = success.token.as_ref().ok_or(TeepDenied::NoSuchUpdate)?;
        let sent = self.sent_to(token.as_bytes(), device)?;
        let reports = reports(success.suit_reports.as_deref());
        let at = secs(now.secs());
        let detail = success.msg.as_deref().map(plain);
        self.role.store.run_tx_last("update succeeded", |tx| {
            let first = teep::end_update(
                tx,
                &sent.token,
                "success",
                detail.as_deref(),
                reports.as_deref(),
                at,
            )?;
            if first {
                let (digest, sequence) = sent.release.unzip();
                let id = device.row.id;
                teep::set_installed(tx, id, &sent.ta, digest.as_ref(), sequence, at)?;
            }
            Ok::<_, StoreError>(())
        })?;
        let ueid = *device.endorsed.ueid();
        let release = sent.release.map(|(digest, _)| digest);
        let outcome = TeepOutcome::Succeeded {
            ueid,
            ta: sent.ta,
            release,
        };
        Ok((TeepAnswer::Nothing, outcome))
    }

    fn failed(
        &self,
        error: &TeepError,
        device: &Registered,
        now: UnixMs,
    ) -> Result<(TeepAnswer, TeepOutcome), TeepFault> {
        let ueid = *device.endorsed.ueid();
        let code = error.err_code.number();
        let text = error.err_msg.as_deref().unwrap_or_default();
        let detail = plain(text);
        // An error about a QueryRequest has no token: there is nothing to end.
        if let Some(token) = &error.token {
            let sent = self.sent_to(token.as_bytes(), device)?;
            let reports = reports(error.suit_reports.as_deref());
            let what = format!("error {code}: {detail}");
            self.role.store.run_tx_last("update failed", |tx| {
                let at = secs(now.secs());
                let first = teep::end_update(
                    tx,
                    &sent.token,
                    "error",
                    Some(&what),
                    reports.as_deref(),
                    at,
                )?;
                // What a device cannot use may have been damaged on its way from the CA, where this server
                // cannot see it: the next Update has another one, of which a copy of this Error says nothing.
                if let Some((release, _)) = sent.release.as_ref().filter(|_| first) {
                    teep::forget_delivery(tx, device.row.id, release)?;
                }
                Ok::<_, StoreError>(())
            })?;
        }
        Ok((
            TeepAnswer::Nothing,
            TeepOutcome::Failed { ueid, code, detail },
        ))
    }

    /// The Update of a token, if it was sent to this device.
    fn sent_to(&self, token: &[u8], device: &Registered) -> Result<SentUpdate, TeepFault> {
        let sent = self
            .role
            .store
            .read("find update", |tx| teep::find_update(tx, token))?;
        let sent = sent.filter(|u| u.device == device.row.id);
        Ok(sent.ok_or(TeepDenied::NoSuchUpdate)?)
    }
}

/// A token: time, then random, so that those of one moment are neighbours in the store.
fn new_token(rng: &mut dyn Rng, now: UnixMs) -> Result<Vec<u8>, CryptoError> {
    let mut token = vec![0; 16];
    let (time, random) = token.split_at_mut(6);
    rng.fill(random)?;
    for (to, from) in time.iter_mut().zip(now.0.to_be_bytes().iter().skip(2)) {
        *to = *from;
    }
    Ok(token)
}

/// SUIT reports as one CBOR array, as they came.
fn reports(list: Option<&[Vec<u8>]>) -> Option<Vec<u8>> {
    let items = list?.iter().cloned().map(cbor::Value::Bytes).collect();
    cbor::encode(&cbor::Value::Array(items)).ok()
}

/// What a device says in words, fit for logs, terminals and every engine.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}
