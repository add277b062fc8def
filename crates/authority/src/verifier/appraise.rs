//! Appraising evidence and signing the result.

use tegata_crypto::cose::{
    ContentType, CoseError, Sign1Headers, sign1, unverified_headers, verify_sign1,
};
use tegata_crypto::{Provider, PublicKey, Signer};
use tegata_wire::cbor::Value;
use tegata_wire::device::Oem;
use tegata_wire::ids::{Digest, ReleaseDigest, TaUuid, Ueid};
use tegata_wire::rats::RatsError;
use tegata_wire::rats::ear::{self, Appraisal, Ear, Tier, TrustVector, VerifierId};
use tegata_wire::rats::eat::{Confirmation, EatClaims, OemId};

use super::policy::{AppraisalPolicy, SecurityLevel};
use super::request::AppraisalRequest;
use crate::UnixSecs;
use crate::factory::EndorsedDevice;

/// What a release's module must look like in evidence.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReferenceValue {
    /// The release.
    pub release: ReleaseDigest,
    /// The TA.
    pub ta: TaUuid,
    /// Name of the TA.
    pub name: String,
    /// Sequence number.
    pub sequence: u64,
    /// Digest of the module.
    pub module_digest: Digest,
}

/// Why evidence gets no result at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppraisalDenied {
    /// The evidence is no signed EAT.
    #[error("the evidence is malformed: {0}")]
    Malformed(CoseError),
    /// Its claims cannot be read.
    #[error("the claims are malformed: {0}")]
    Claims(RatsError),
    /// It carries another nonce than the one asked for.
    #[error("the evidence does not carry the nonce that was asked for")]
    Nonce,
    /// The result cannot be made or signed.
    #[error("the result cannot be signed: {0}")]
    Sign(CoseError),
    /// The result cannot be encoded.
    #[error("the result cannot be made: {0}")]
    Result(RatsError),
}

impl AppraisalDenied {
    /// Stable label.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "evidence-malformed",
            Self::Claims(_) => "evidence-claims",
            Self::Nonce => "evidence-nonce",
            Self::Sign(_) | Self::Result(_) => "result-failed",
        }
    }
}

/// The outcome of an appraisal, before it is signed.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The trustworthiness vector.
    pub vector: TrustVector,
    /// The worst of it.
    pub status: Tier,
    /// Why it is not better, for people.
    pub reasons: Vec<String>,
}

/// Proof that evidence was appraised: what [`sign_result`] takes.
#[derive(Debug)]
#[must_use]
pub struct Appraised {
    verdict: Verdict,
    claims: Option<EatClaims>,
    nonce: Vec<u8>,
    cnf: Option<Confirmation>,
}

impl Appraised {
    /// The outcome.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The device, if the evidence is authentic.
    #[must_use]
    pub fn ueid(&self) -> Option<&Ueid> {
        self.claims.as_ref().and_then(|c| c.ueid.as_ref())
    }
}

/// The key identifier of evidence, to look up the device; nothing is believed by it.
///
/// # Errors
/// `Malformed` if it is no COSE_Sign1.
pub fn evidence_kid(evidence: &[u8]) -> Result<Option<[u8; 32]>, AppraisalDenied> {
    let headers = unverified_headers(evidence).map_err(AppraisalDenied::Malformed)?;
    Ok(headers.kid.and_then(|kid| kid.try_into().ok()))
}

/// Appraises evidence of `device` (`None`: no endorsed device has that key).
///
/// # Errors
/// Why there is no result; a bad device gets a result that says so.
pub fn appraise(
    provider: &dyn Provider,
    request: &AppraisalRequest,
    device: Option<&EndorsedDevice>,
    references: &[ReferenceValue],
    policy: &AppraisalPolicy,
    now: UnixSecs,
) -> Result<Appraised, AppraisalDenied> {
    let nonce = request.nonce.clone();
    let refused = |claim: i8, reason: &str| {
        let vector = TrustVector {
            instance_identity: Some(claim),
            ..TrustVector::default()
        };
        let verdict = Verdict {
            vector,
            status: Tier::Contraindicated,
            reasons: vec![reason.to_owned()],
        };
        Appraised {
            verdict,
            claims: None,
            nonce: nonce.clone(),
            cnf: None,
        }
    };
    evidence_kid(&request.evidence)?;
    let Some(device) = device else {
        return Ok(refused(
            UNRECOGNIZED,
            "no factory endorses the key of this evidence",
        ));
    };
    let key: &PublicKey = device.attestation_key();
    let Ok(verified) = verify_sign1(provider, &request.evidence, key, b"", None) else {
        return Ok(refused(
            CRYPTO_FAILED,
            "the signature of the evidence does not verify",
        ));
    };
    let claims = EatClaims::decode(verified.payload()).map_err(AppraisalDenied::Claims)?;
    if !claims.has_only_nonce(&request.nonce) {
        return Err(AppraisalDenied::Nonce);
    }
    let mut found = Findings::default();
    found.identity(&claims, device);
    found.freshness(&claims, policy, now);
    found.configuration(&claims, policy);
    found.runtime(&claims, policy);
    found.applications(&claims, references, policy);
    found.wall(&claims, device, policy);
    let verdict = found.verdict();
    let cnf = device.teep_key();
    let cnf = Confirmation {
        cose_key: Some(cnf.to_cose_key_value()),
        kid: Some(cnf.thumbprint().to_vec()),
        other: Vec::new(),
    };
    Ok(Appraised {
        verdict,
        claims: Some(claims),
        nonce,
        cnf: Some(cnf),
    })
}

/// Claims of the vector that were looked at, with the reasons for each that is not good.
#[derive(Default)]
struct Findings {
    vector: TrustVector,
    reasons: Vec<String>,
}

impl Findings {
    fn note(&mut self, reason: impl Into<String>) {
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(reason.into());
        }
    }

    /// The claims are those of the endorsed device, and the presenter's key is its TEEP key.
    fn identity(&mut self, claims: &EatClaims, device: &EndorsedDevice) {
        let hw = device.hardware();
        let version = claims.hwversion.as_ref().map(|v| v.version.as_str());
        let checks = [
            (
                claims.ueid.as_ref() == Some(&hw.ueid),
                "ueid is not that of the endorsed device",
            ),
            (
                same_oem(claims.oemid.as_ref(), &hw.oemid),
                "oemid is not that of the device",
            ),
            (
                claims.hwmodel.as_ref() == Some(&hw.hwmodel),
                "hwmodel is not that of the device",
            ),
            (
                version.unwrap_or_default() == hw.hwversion,
                "hwversion is not that of the device",
            ),
            (
                confirms(claims, device.teep_key()),
                "cnf is not the device's TEEP key",
            ),
        ];
        let mut claim = RECOGNIZED;
        for (_, reason) in checks.iter().filter(|(fine, _)| !fine) {
            claim = NOT_TRUSTWORTHY;
            self.note(*reason);
        }
        self.vector.instance_identity = Some(claim);
    }

    /// Evidence with a time of its own must not be old.
    fn freshness(&mut self, claims: &EatClaims, policy: &AppraisalPolicy, now: UnixSecs) {
        let now = i64::try_from(now.0).unwrap_or(i64::MAX);
        let max = policy.max_age_secs;
        let old = claims.iat.is_some_and(|iat| now.abs_diff(iat) > max);
        let expired = claims.exp.is_some_and(|exp| exp < now);
        if old || expired {
            self.vector.instance_identity = Some(NOT_TRUSTWORTHY);
            self.note("the evidence is old by its own clock");
        }
    }

    /// Debugging is off as far as asked, and the sandbox is as complete as asked.
    fn configuration(&mut self, claims: &EatClaims, policy: &AppraisalPolicy) {
        let mut claim = APPROVED;
        use tegata_wire::rats::eat::DebugStatus;
        let status = claims.dbgstat.unwrap_or(DebugStatus::Enabled);
        if status < policy.min_debug_status {
            claim = UNSAFE;
            self.note("debugging is less disabled than the policy asks");
        }
        let missing = claims.tegata.missing.as_deref().unwrap_or_default();
        if !missing.is_empty() && !policy.accept_incomplete_sandbox {
            claim = UNSAFE;
            self.note(format!("the sandbox lacks {}", missing.join(", ")));
        }
        self.vector.configuration = Some(claim);
    }

    /// The runtime is one of those accepted.
    fn runtime(&mut self, claims: &EatClaims, policy: &AppraisalPolicy) {
        let name = claims.swname.as_deref().unwrap_or_default();
        let version = claims
            .swversion
            .as_ref()
            .map(|v| v.version.as_str())
            .unwrap_or_default();
        let accepted = policy.runtimes.iter().any(|(n, versions)| {
            n == name
                && versions
                    .as_ref()
                    .is_none_or(|list| list.iter().any(|v| v == version))
        });
        self.vector.executables = Some(if accepted {
            APPROVED
        } else {
            UNRECOGNIZED_SOFTWARE
        });
        if !accepted {
            self.note(format!(
                "the runtime \"{name}\" version \"{version}\" is not accepted"
            ));
        }
    }

    /// Every TA is one of a release registered here, and its module is that release's.
    fn applications(
        &mut self,
        claims: &EatClaims,
        references: &[ReferenceValue],
        policy: &AppraisalPolicy,
    ) {
        for item in &claims.measurements {
            let Ok(component) = item.as_measured_component() else {
                self.unknown(policy, "a measurement cannot be read".into());
                continue;
            };
            // TAs are named by their UUID; the runtime's own parts have other names.
            let Ok(ta) = component.name.parse::<TaUuid>() else {
                continue;
            };
            let mut of_ta = references.iter().filter(|r| r.ta == ta).peekable();
            if of_ta.peek().is_none() {
                self.unknown(
                    policy,
                    format!("no release registered here is of the TA {ta}"),
                );
            } else if !of_ta.any(|r| Some(r.module_digest) == component.to_sha256()) {
                // Known by name, but not as it was released: never accepted.
                self.vector.executables = Some(CONTRAINDICATED_SOFTWARE);
                self.note(format!("the module of TA {ta} is not that of any release"));
            }
        }
    }

    fn unknown(&mut self, policy: &AppraisalPolicy, reason: String) {
        if policy.accept_unknown_tas {
            return;
        }
        if self.vector.executables == Some(APPROVED) {
            self.vector.executables = Some(UNRECOGNIZED_SOFTWARE);
        }
        self.note(reason);
    }

    /// The wall is the endorsed one, and strong enough. Only a hardware wall gets claims of it.
    fn wall(&mut self, claims: &EatClaims, device: &EndorsedDevice, policy: &AppraisalPolicy) {
        let claimed = claims.tegata.security_level.as_deref().unwrap_or_default();
        let level = SecurityLevel::from_name(claimed);
        if claimed != device.security_level() {
            self.vector.hardware = Some(NOT_GENUINE);
            self.note(format!(
                "the evidence says \"{claimed}\", the factory said \"{}\"",
                device.security_level()
            ));
        } else if level.is_none_or(|l| l < policy.min_security_level) {
            self.vector.hardware = Some(UNSAFE);
            self.note(format!(
                "the wall \"{claimed}\" is weaker than the policy asks"
            ));
        } else if level == Some(SecurityLevel::Hardware) {
            // The factory's word: it saw the device, and endorsed the key as one of that hardware.
            self.vector.hardware = Some(APPROVED);
            // Secrets at rest are encrypted under a key that only the hardware knows.
            if claims.tegata.storage_root.as_deref() == Some(HARDWARE_KEY) {
                self.vector.storage_opaque = Some(APPROVED);
            }
            // Nothing is said of memory: a secure world hides it from the open one, but whether it
            // is encrypted, as the value 2 means, no evidence tells.
        }
    }

    fn verdict(self) -> Verdict {
        Verdict {
            status: self.vector.worst(),
            vector: self.vector,
            reasons: self.reasons,
        }
    }
}

fn same_oem(claimed: Option<&OemId>, endorsed: &Oem) -> bool {
    match (claimed, endorsed) {
        (Some(OemId::Pen(a)), Oem::Pen(b)) => a == b,
        (Some(OemId::Ieee(a)), Oem::Bytes(b)) => a.as_slice() == b,
        (Some(OemId::Random(a)), Oem::Bytes(b)) => a.as_slice() == b,
        _ => false,
    }
}

/// Whether the cnf claim names this key, by kid or whole, and nothing contradicts it.
fn confirms(claims: &EatClaims, key: &PublicKey) -> bool {
    let Some(cnf) = &claims.cnf else { return false };
    let kid = cnf
        .kid
        .as_ref()
        .map(|kid| kid.as_slice() == key.thumbprint());
    let whole = cnf
        .cose_key
        .as_ref()
        .map(|v| PublicKey::from_cose_key_value(v).is_ok_and(|k| k == *key));
    matches!(
        (kid, whole),
        (Some(true), None | Some(true)) | (None, Some(true))
    )
}

/// Makes the signed result (EAR as CWT).
///
/// # Errors
/// `Result` or `Sign`.
pub fn sign_result(
    appraised: Appraised,
    policy: &AppraisalPolicy,
    key: &dyn Signer,
    now: UnixSecs,
) -> Result<Vec<u8>, AppraisalDenied> {
    let Appraised {
        verdict,
        claims,
        nonce,
        cnf,
    } = appraised;
    let mut appraisal = Appraisal::new(verdict.status);
    appraisal.trust_vector = verdict.vector;
    appraisal.policy_ids = vec![policy.id.clone()];
    appraisal.eat_nonce = Some(nonce.clone());
    // The claims a TAM decides by, and the runtime, by which the CA finds devices. Spec:
    // draft-ietf-teep-protocol section 4.3.1.
    appraisal.teep_claims = claims.map(|c| EatClaims {
        ueid: c.ueid,
        oemid: c.oemid,
        hwmodel: c.hwmodel,
        hwversion: c.hwversion,
        swname: c.swname,
        swversion: c.swversion,
        manifests: c.manifests,
        ..EatClaims::default()
    });
    if !verdict.reasons.is_empty() {
        let list = verdict
            .reasons
            .into_iter()
            .map(|r| Value::Text(shorten(r)))
            .collect();
        appraisal
            .other
            .push((Value::from(REASONS), Value::Array(list)));
    }
    let iat = i64::try_from(now.0).unwrap_or(i64::MAX);
    let lifetime = i64::try_from(policy.result_secs).unwrap_or(300);
    let result = Ear {
        status: Some(verdict.status),
        iat,
        exp: Some(iat.saturating_add(lifetime)),
        verifier_id: VerifierId {
            developer: "https://tegata.dev".to_owned(),
            build: concat!("tegata ", env!("CARGO_PKG_VERSION")).to_owned(),
        },
        raw_evidence: None,
        submods: vec![(EVIDENCE_SUBMODULE.to_owned(), appraisal)],
        eat_nonce: Some(nonce),
        cnf,
        other: Vec::new(),
    };
    let payload = result.encode().map_err(AppraisalDenied::Result)?;
    let headers = Sign1Headers {
        content_type: Some(ContentType::Text(ear::MEDIA_TYPE.into())),
        ..Sign1Headers::default()
    };
    sign1(key, &payload, &headers, b"", false).map_err(AppraisalDenied::Sign)
}

/// The reasons in a result, for people.
#[must_use]
pub fn reasons_of(appraisal: &Appraisal) -> Vec<String> {
    let list = appraisal
        .other
        .iter()
        .find(|(label, _)| *label == Value::from(REASONS));
    let list = list
        .and_then(|(_, v)| v.as_array())
        .map(Vec::as_slice)
        .unwrap_or_default();
    list.iter()
        .filter_map(|v| v.as_text().map(str::to_owned))
        .collect()
}

fn shorten(text: String) -> String {
    text.chars().take(160).collect()
}

/// Name of the submodule with the appraisal of a device.
pub const EVIDENCE_SUBMODULE: &str = "tegata-device";
/// Private claim: texts that say why the status is not better.
const REASONS: i64 = -75_010;
/// The storage root that no software reads: the hardware unique key.
const HARDWARE_KEY: &str = "huk";
/// Most reasons in one result.
const REASONS_MAX: usize = 16;

// Values of claims. Spec: draft-ietf-rats-ar4si section 2.3.4.
/// The instance is recognized and not known to be compromised.
const RECOGNIZED: i8 = 2;
/// The instance is recognized and not trustworthy.
const NOT_TRUSTWORTHY: i8 = 96;
/// The instance is not recognized.
const UNRECOGNIZED: i8 = 97;
/// Cryptographic validation failed.
const CRYPTO_FAILED: i8 = 99;
/// Configuration, executables, hardware, memory or storage as approved.
const APPROVED: i8 = 2;
/// Known to be unsafe.
const UNSAFE: i8 = 32;
/// Software that is not recognized.
const UNRECOGNIZED_SOFTWARE: i8 = 33;
/// Software that must not run.
const CONTRAINDICATED_SOFTWARE: i8 = 96;
/// Hardware that is not what it says.
const NOT_GENUINE: i8 = 97;
