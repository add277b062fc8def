//! Evidence at the CA: nonces that are used once, and the device that a token is of.
//!
//! A nonce needs no memory until it is used: it is time ‖ random ‖ MAC under a key that lies sealed in
//! the store, so every process of the CA knows each other's, also after a restart. It is used in the
//! transaction that fixes a certificate or lets a request wait, and from then on belongs to that request:
//! the same request again finds its answer, another one nothing.

use tegata_authority::ca::est::{AllegedToken, Appraising, EstDenial, by_evidence};
use tegata_authority::ca::issue::IssueDenied;
use tegata_authority::ca::means::{Authenticated, EvidenceUse};
use tegata_authority::profile::{Authentication, Profile};
use tegata_authority::tam::challenge::{CHALLENGE_LEN_BYTES, CHALLENGE_SECS, ChallengeKey};
use tegata_authority::verifier::PsaPolicy;
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::{Rng, Secret};
use tegata_wire::x509::AllegedCsr;
use zeroize::Zeroizing;

use crate::engine::params;
use crate::issuer::Issuer;
use crate::keys::{self, SealedKey};
use crate::role::{Registered, Role, RoleError, device_in, secs};
use crate::{StoreError, Tx};

/// What the CA has for evidence; without it no evidence is good.
pub(crate) struct Evidence {
    /// What is good.
    policy: PsaPolicy,
    /// The key of the nonces.
    nonces: ChallengeKey,
}

/// A nonce for evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreshNonce {
    /// The nonce.
    pub nonce: [u8; CHALLENGE_LEN_BYTES],
    /// How long it is good for, seconds.
    pub expiry_secs: u64,
}

impl Issuer {
    /// The same CA, with this to say which PSA tokens are good. The key of its nonces is made if there is
    /// none: no request makes one.
    ///
    /// # Errors
    /// The store's or the generator's failure.
    pub fn with_psa_policy(
        mut self,
        policy: PsaPolicy,
        rng: &mut dyn Rng,
        now: UnixSecs,
    ) -> Result<Self, RoleError> {
        let nonces = nonce_key(&self.role, rng, now)?;
        self.evidence = Some(Evidence { policy, nonces });
        Ok(self)
    }

    /// A nonce for evidence of a request for that profile; `None` if it takes none here.
    ///
    /// # Errors
    /// The generator's failure.
    ///
    /// Spec: draft-ietf-lamps-attestation-freshness section 5.1
    pub fn evidence_nonce(
        &self,
        profile: &Profile,
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<Option<FreshNonce>, RoleError> {
        let evidence = self.evidence.as_ref();
        let Some(evidence) = evidence.filter(|_| profile.allows(Authentication::Evidence)) else {
            return Ok(None);
        };
        let provider = self.role.provider.as_ref();
        let nonce = evidence
            .nonces
            .make(provider, rng, profile.name.as_bytes(), now)?;
        Ok(Some(FreshNonce {
            nonce,
            expiry_secs: CHALLENGE_SECS,
        }))
    }

    /// Who asks by the token in a request, and what the registry has of that device.
    pub(crate) fn evidence_asker(
        &self,
        token: &AllegedToken,
        profile: &Profile,
        csr: &AllegedCsr,
        now: UnixSecs,
    ) -> Result<(Authenticated, Option<Registered>), EstDenial> {
        if !profile.allows(Authentication::Evidence) {
            return Err(EstDenial::EvidenceNotTaken(profile.name.clone()));
        }
        let evidence = self.evidence.as_ref();
        let evidence = evidence.ok_or(EstDenial::Failed("no policy for PSA tokens"))?;
        let instance = token.with(csr).alleged_instance()?;
        let found = self
            .role
            .store
            .read("device of a token", |tx| device_in(tx, &instance))
            .map_err(crate::est::environment)?;
        let appraising = Appraising {
            provider: self.role.provider.as_ref(),
            nonces: &evidence.nonces,
            policy: &evidence.policy,
        };
        let device = found.as_ref().and_then(|found| found.endorsed.psa());
        let request = by_evidence(token, device, appraising, profile, csr, now)?;
        Ok((request, found))
    }
}

/// The key of the nonces, made when there is none: all processes of this CA have the same.
fn nonce_key(role: &Role, rng: &mut dyn Rng, now: UnixSecs) -> Result<ChallengeKey, RoleError> {
    let stored = match role
        .store
        .read("nonce key", |tx| keys::find(tx, NONCE_KEY))?
    {
        Some(stored) => stored,
        None => {
            let mut secret = Zeroizing::new([0; 32]);
            rng.fill(&mut *secret)?;
            let made = SealedKey {
                public: Vec::new(),
                sealed: role.seal(NONCE_KEY, secret.as_slice(), rng)?,
            };
            // Another process may make one in the same moment: the first stands.
            role.store.run_tx("make nonce key", |tx| {
                keys::insert(tx, NONCE_KEY, &made, secs(now))?;
                keys::find(tx, NONCE_KEY)?.ok_or(RoleError::NoKey(NONCE_KEY))
            })?
        }
    };
    let bytes = role.unseal(NONCE_KEY, &stored.sealed)?;
    let bytes: [u8; 32] = bytes
        .expose_secret()
        .as_slice()
        .try_into()
        .map_err(|_| RoleError::Sealed(NONCE_KEY))?;
    Ok(ChallengeKey::new(Secret::new(bytes)))
}

/// Uses a nonce for a request, in the transaction that changes something because of it. The request that
/// used it may come again, also when the nonce's time is over.
pub(crate) fn spend(
    tx: &Tx<'_>,
    used: &EvidenceUse,
    request: &[u8; 32],
    now: UnixSecs,
) -> Result<Result<(), IssueDenied>, StoreError> {
    let by: Option<Vec<u8>> = tx.query_opt(
        "SELECT request FROM evidence_nonce WHERE nonce = ?1",
        params![used.nonce],
        |r| r.get(0),
    )?;
    match by {
        Some(by) if by == request => return Ok(Ok(())),
        Some(_) => return Ok(Err(IssueDenied::NonceUsed)),
        None if used.stale => return Ok(Err(IssueDenied::NonceOld)),
        None => {}
    }
    // One request in 256, by its nonce, forgets what is old for the others: those of one moment would all take
    // the same rows, and what a mass enrolment left is too much for one.
    if used.nonce.last() == Some(&0) {
        tx.execute(
            "DELETE FROM evidence_nonce WHERE nonce IN \
             (SELECT nonce FROM evidence_nonce WHERE used_at < ?1 ORDER BY used_at LIMIT 1000)",
            params![secs(now).saturating_sub(KEPT_SECS)],
        )?;
    }
    let first = tx.execute(
        "INSERT INTO evidence_nonce(nonce, request, used_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT(nonce) DO NOTHING",
        params![used.nonce, request, secs(now)],
    )?;
    // Another process may have been quicker.
    Ok(match first {
        1 => Ok(()),
        _ => Err(IssueDenied::NonceUsed),
    })
}

/// Name and sealing purpose of the key of nonces.
const NONCE_KEY: &str = "ca evidence nonce key";
/// How long a used nonce is remembered: as long as a request may wait for an operator, 30 days. A nonce that
/// was forgotten is older than any may be; after a clock that was a month ahead, or a restored backup, one of the
/// last ten minutes may serve again, to the same device and for the same key.
const KEPT_SECS: i64 = 30 * 86_400;
