//! Releases of TAs: cut, delivered, made available to some or to nobody.

use std::sync::Arc;

use tegata_authority::UnixSecs;
use tegata_authority::ca::cmp::TaKey;
use tegata_authority::ca::delivery::{DeliveryDenied, ReleaseView, deliver, verify_request};
use tegata_authority::ca::release::{
    ReleaseDraft, ReleaseRecord, ReleaseSecrets, cut, procedure_of,
};
use tegata_authority::tam::availability::Availability;
use tegata_authority::tam::notice::sign_notice;
use tegata_crypto::{PublicKey, Rng};
use tegata_wire::cbor;
use tegata_wire::enrolment::{Procedure, ProtocolProfile};
use tegata_wire::ids::{ReleaseDigest, SignerId, TaUuid};

use super::Issuer;
use crate::role::{RoleError, Trust, secs};
use crate::{StoreError, Tx, release};

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
    /// Who may get it, from its first moment on.
    pub available: &'a Availability,
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

/// A release with its secrets unsealed.
pub(super) struct OpenRelease {
    pub(super) digest: ReleaseDigest,
    ta: TaUuid,
    sequence: u64,
    record: ReleaseRecord,
    pub(super) procedure: Procedure,
    secrets: ReleaseSecrets,
}

impl OpenRelease {
    /// Its key, for the `CsrAuthKey` of its devices.
    pub(super) fn key(&self) -> TaKey<'_> {
        TaKey {
            release: self.digest,
            master: &self.secrets.master,
            shared_by_release: self.record.paper,
        }
    }
}

impl Issuer {
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
        // Every root that has not ended: a device may meet certificates of each.
        let anchors = self.generations()?.anchors(now);
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
            availability: encoded(new.available)?,
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
        let endorsed = device.as_ref().and_then(|d| d.endorsed.tee());
        if device.is_some() && endorsed.is_none() {
            return Err(DeliveryDenied::NoTee.into());
        }
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

    /// A release with its secrets, unsealed at most once.
    pub(super) fn opened(&self, row: &release::Release) -> Result<Arc<OpenRelease>, RoleError> {
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
}

/// The availability rule as it stands in a row.
pub(crate) fn encoded(rule: &Availability) -> Result<Vec<u8>, StoreError> {
    cbor::to_vec(rule).map_err(|_| StoreError::Unreadable { record: "release" })
}

/// The availability rule in a row.
pub(crate) fn availability_of(bytes: &[u8]) -> Result<Availability, StoreError> {
    cbor::from_slice(bytes).map_err(|_| StoreError::Unreadable { record: "release" })
}

/// Sealing purpose of release secrets.
const RELEASE_SECRETS: &str = "ca release secrets";
