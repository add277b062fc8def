//! The Verifier as a service: endorsements, reference values, appraisal.

use tegata_authority::UnixSecs;
use tegata_authority::tam::package::verify_ta_envelope;
use tegata_authority::verifier::{
    AppraisalDenied, AppraisalPolicy, AppraisalRequest, ReferenceValue, Verdict, appraise,
    evidence_kid, sign_result,
};
use tegata_crypto::{KeyAlg, PublicKey, Rng, Signer};
use tegata_wire::cbor;
use tegata_wire::ids::Ueid;

use crate::role::{Role, RoleError, Trust, registered, secs};
use crate::{StoreError, device, reference};

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierFault {
    /// The request is none.
    #[error("the request is malformed: {0}")]
    Malformed(tegata_wire::cbor::CborError),
    /// The evidence gets no result.
    #[error(transparent)]
    Denied(#[from] AppraisalDenied),
    /// The Verifier's own fault.
    #[error(transparent)]
    Role(#[from] RoleError),
}

impl VerifierFault {
    /// Stable label for metrics, logs and problem reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Denied(e) => e.code(),
            Self::Role(e) => e.code(),
        }
    }
}

/// A signed result, and what it says, for the log.
#[derive(Debug, Clone, PartialEq)]
pub struct AppraisalAnswer {
    /// The EAR (COSE_Sign1 of a CWT claims set).
    pub ear: Vec<u8>,
    /// The device, if the evidence is authentic.
    pub ueid: Option<Ueid>,
    /// Vector, status and reasons.
    pub verdict: Verdict,
}

/// The Verifier.
pub struct VerifierServer {
    role: Role,
    signer: Box<dyn Signer>,
    policy: AppraisalPolicy,
}

impl VerifierServer {
    /// Makes the key that signs results.
    ///
    /// # Errors
    /// `HasKey` if there is a Verifier in the store already.
    pub fn init(role: &Role, rng: &mut dyn Rng, now: UnixSecs) -> Result<(), RoleError> {
        role.make_key(EAR_KEY, KeyAlg::P256, rng, now).map(drop)
    }

    /// Opens the Verifier of the store.
    ///
    /// # Errors
    /// `NoKey` if there is none, `Sealed` under a wrong sealing key.
    pub fn open(role: Role, policy: AppraisalPolicy) -> Result<Self, RoleError> {
        let signer = role.open_signer(EAR_KEY)?;
        Ok(Self {
            role,
            signer,
            policy,
        })
    }

    /// Store, provider and sealing key; also for imports and trusted keys.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The key that signs results: the TAM trusts it.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    /// Registers the reference value of a release from its signed TA envelope; again changes
    /// nothing.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn import_reference_value(
        &self,
        ta_envelope: &[u8],
        now: UnixSecs,
    ) -> Result<ReferenceValue, RoleError> {
        let keys = self.role.trusted(Trust::Release)?;
        let verified = verify_ta_envelope(self.role.provider.as_ref(), ta_envelope, &keys)?;
        let value = ReferenceValue {
            release: verified.digest,
            ta: verified.ta,
            name: verified.name,
            sequence: verified.sequence,
            module_digest: verified.module_digest,
        };
        let unreadable = |_| StoreError::Unreadable {
            record: "reference value",
        };
        let record = cbor::to_vec(&value).map_err(unreadable)?;
        self.role.store.run_tx("reference value", |tx| {
            reference::insert(tx, &value.release, &record, secs(now))
        })?;
        Ok(value)
    }

    /// All reference values.
    ///
    /// # Errors
    /// The store's failure.
    pub fn reference_values(&self) -> Result<Vec<ReferenceValue>, RoleError> {
        let rows = self.role.store.read("reference values", reference::list)?;
        let unreadable = |_| StoreError::Unreadable {
            record: "reference value",
        };
        rows.iter()
            .map(|r| {
                cbor::from_slice(r)
                    .map_err(unreadable)
                    .map_err(RoleError::from)
            })
            .collect()
    }

    /// Appraises evidence (an encoded `AppraisalRequest`) and answers with a signed result.
    ///
    /// Only what an endorsed device signed is recorded.
    ///
    /// # Errors
    /// Why there is no result at all; a bad device gets a result that says so.
    pub fn appraise(&self, body: &[u8], now: UnixSecs) -> Result<AppraisalAnswer, VerifierFault> {
        let provider = self.role.provider.as_ref();
        let request = AppraisalRequest::decode(body).map_err(VerifierFault::Malformed)?;
        let kid = evidence_kid(&request.evidence)?;
        let device = match kid {
            None => None,
            Some(kid) => self.role.store.read("device by key", |tx| {
                registered(device::find_by_attestation_kid(tx, &kid)?)
            })?,
        };
        let references = self.reference_values()?;
        let endorsed = device.as_ref().and_then(|d| d.endorsed.tee());
        let appraised = appraise(provider, &request, endorsed, &references, &self.policy, now)?;
        let (verdict, ueid) = (appraised.verdict().clone(), appraised.ueid().copied());
        let ear = sign_result(appraised, &self.policy, self.signer.as_ref(), now)?;
        if let (Some(device), Some(_)) = (&device, ueid) {
            let status = format!("{:?}", verdict.status).to_lowercase();
            let digest = provider.sha256(&request.evidence);
            let at_ms = secs(now).saturating_mul(1_000);
            let id = device.row.id;
            self.role
                .store
                .run_tx_last("record appraisal", |tx| {
                    reference::insert_appraisal(tx, id, &status, &ear, &digest, at_ms, KEEP_MS)
                })
                .map_err(|e: StoreError| VerifierFault::Role(e.into()))?;
        }
        Ok(AppraisalAnswer { ear, ueid, verdict })
    }
}

/// Name and sealing purpose of the key that signs results.
const EAR_KEY: &str = "verifier key";
/// How long appraisals of a device are kept: thirty days.
const KEEP_MS: i64 = 30 * 86_400_000;
