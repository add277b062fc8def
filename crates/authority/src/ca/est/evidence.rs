//! Requests that bring evidence: a PSA attestation token, in the attribute id-aa-attestation.
//!
//! Spec: draft-ietf-lamps-csr-attestation, RFC 9999, RFC 9783, draft-ietf-lamps-attestation-freshness

use tegata_crypto::Provider;
use tegata_wire::rats::cmw::MessageFormat;
use tegata_wire::rats::psa::PsaProfile;
use tegata_wire::x509::{AllegedCsr, AttestationBundle, AttestationStatement};

use super::EstDenial;
use crate::UnixSecs;
use crate::ca::cmp::RequestBody;
use crate::ca::means::{Authenticated, EvidenceUse, Means};
use crate::profile::{Authentication, Profile};
use crate::registry::PsaDevice;
use crate::tam::challenge::{ChallengeDenied, ChallengeKey};
use crate::verifier::PsaPolicy;
use crate::verifier::psa::PsaEvidence;

/// A PSA attestation token as a request brings it: nothing of it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllegedToken {
    /// COSE_Sign1.
    token: Vec<u8>,
    profile: PsaProfile,
}

impl AllegedToken {
    /// The token with the key that it is to vouch for: that of the request which brought it.
    #[must_use]
    pub fn with<'a>(&'a self, csr: &'a AllegedCsr) -> PsaEvidence<'a> {
        PsaEvidence {
            token: &self.token,
            profile: self.profile,
            spki_der: &csr.spki_der,
        }
    }
}

/// Reads a request, as far as its form goes, with the evidence that it brings.
///
/// # Errors
/// `Malformed`; `Attestation` if it brings any of a kind that nobody appraises: that must not look as if it
/// counted. `Attestations` if it brings more than one.
pub fn read_request(der: &[u8]) -> Result<(AllegedCsr, Option<AllegedToken>), EstDenial> {
    let csr = AllegedCsr::from_der(der).map_err(EstDenial::Malformed)?;
    let Some(bundle) = AttestationBundle::of_request(&csr).map_err(EstDenial::Malformed)? else {
        return Ok((csr, None));
    };
    let (mut tokens, mut others) = (Vec::new(), Vec::new());
    for statement in &bundle.statements {
        match token_of(statement)? {
            Ok(token) => tokens.push(token),
            Err(kind) if others.contains(&kind) => {}
            Err(kind) => others.push(kind),
        }
    }
    if !others.is_empty() {
        return Err(EstDenial::Attestation(others));
    }
    match (tokens.pop(), tokens.len()) {
        (token, 0) => Ok((csr, token)),
        (_, more) => Err(EstDenial::Attestations(more.saturating_add(1))),
    }
}

/// The PSA token that a statement is, or what else it is.
fn token_of(statement: &AttestationStatement) -> Result<Result<AllegedToken, String>, EstDenial> {
    let kind = statement.kind.to_string();
    let Some(record) = statement.cmw().map_err(EstDenial::Wrapper)? else {
        return Ok(Err(kind));
    };
    match PsaProfile::of_format(&record.format) {
        Some(profile) if record.may_be_evidence() => Ok(Ok(AllegedToken {
            token: record.value,
            profile,
        })),
        _ => Ok(Err(match record.format {
            MessageFormat::Number(number) => format!("{kind} of the format {number}"),
            MessageFormat::MediaType(text) => {
                let plain = |c: &char| c.is_ascii_graphic();
                let text: String = text.chars().filter(plain).take(100).collect();
                format!("{kind} of the type {text}")
            }
        })),
    }
}

/// What the CA needs to know of evidence: whose nonces, and what is good.
#[derive(Clone, Copy)]
pub struct Appraising<'a> {
    /// Cryptography.
    pub provider: &'a dyn Provider,
    /// The key of the CA's nonces.
    pub nonces: &'a ChallengeKey,
    /// What is good.
    pub policy: &'a PsaPolicy,
}

/// The device whose Root of Trust signed the token in the request. `device` is what the registry has of the
/// instance that the token says to be of. Whether the nonce was used is seen where it is spent.
///
/// # Errors
/// `EvidenceNotTaken`; `Evidence`: the first thing of the token that is not good; `Nonce`.
pub fn by_evidence(
    token: &AllegedToken,
    device: Option<&PsaDevice>,
    appraising: Appraising<'_>,
    profile: &Profile,
    csr: &AllegedCsr,
    now: UnixSecs,
) -> Result<Authenticated, EstDenial> {
    if !profile.allows(Authentication::Evidence) {
        return Err(EstDenial::EvidenceNotTaken(profile.name.clone()));
    }
    let Appraising {
        provider,
        nonces,
        policy,
    } = appraising;
    let appraised = token.with(csr).appraise(provider, device, policy)?;
    let stale = match nonces.check(provider, appraised.nonce(), profile.name.as_bytes(), now) {
        Ok(()) => false,
        Err(ChallengeDenied::Expired | ChallengeDenied::Ahead) => true,
        Err(foreign) => return Err(EstDenial::Nonce(foreign)),
    };
    let means = Means::Evidence(EvidenceUse {
        nonce: *appraised.nonce(),
        stale,
        digest: *appraised.token_digest(),
    });
    let body = RequestBody::P10cr(Box::new(csr.clone()));
    Ok(Authenticated::proven(*appraised.ueid(), means, body))
}
