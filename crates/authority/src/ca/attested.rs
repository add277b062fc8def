//! Fresh evidence in place of a certificate that has ended.
//!
//! Purpose: a device that was switched off for longer than its certificate lasts has nothing left
//! to prove itself with but its `CsrAuthKey`. Within the profile's grace it gets a certificate again
//! if the Verifier affirmed its TEE a moment ago.
//!
//! Invariants: the time that counts is when the Verifier appraised, as the Verifier signed it, so a
//! word that is repeated moves nothing; and the TAM signs that it asked, because only the TAM knows
//! that the evidence was for a challenge of its own that was used once. A Verifier that is asked
//! again about old evidence says the same again, with the time of the question.
//!
//! Trusted: the Verifier's key and the TAM's, together. Neither of them alone lets a device return.
//!
//! Spec: docs/spec/profile.md, RFC 9711 (EAR: draft-ietf-rats-ear).

use tegata_crypto::cose::{CoseError, Sign1Headers, sign1, verify_sign1};
use tegata_crypto::{Provider, PublicKey, Signer};
use tegata_wire::ids::Ueid;

use crate::UnixSecs;
use crate::profile::Profile;
use crate::tam::session::{NotAppraised, affirmed, check_current, verified_ear};

/// Longest word of the TAM in bytes: an EAR and a signature.
pub const LEN_BYTES_MAX: usize = 64 * 1024;

/// Keeps a signature of the TAM over this from being one over anything else.
const CONTEXT: &[u8] = b"tegata attested v1";

/// Why the CA takes no note of an attestation result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestedDenied {
    /// Not signed by a TAM that is trusted here.
    #[error("the result was not sent by a TAM that is trusted here: {0}")]
    Untrusted(CoseError),
    /// Not the Verifier's, not current, or not affirming.
    #[error("{0}")]
    NotAppraised(#[source] NotAppraised),
    /// No such device.
    #[error("there is no such device")]
    UnknownDevice,
}

impl AttestedDenied {
    /// Stable label for metrics, logs and problem reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Untrusted(_) => "untrusted",
            Self::NotAppraised(_) => "not-appraised",
            Self::UnknownDevice => "unknown-device",
        }
    }
}

/// The Verifier's result `ear` as the TAM hands it on: COSE_Sign1.
///
/// # Errors
/// The key's failure.
pub fn hand_on(signer: &dyn Signer, ear: &[u8]) -> Result<Vec<u8>, CoseError> {
    sign1(signer, ear, &Sign1Headers::default(), CONTEXT, false)
}

/// Proof that the Verifier affirmed a device at that time, on fresh evidence.
#[derive(Debug)]
#[must_use]
pub struct Attested {
    ueid: Ueid,
    at: UnixSecs,
    runtime: Option<Runtime>,
}

/// The TEE's software around the TAs, as the Verifier found it named in the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// swname.
    pub name: String,
    /// swversion, without its scheme.
    pub version: String,
}

impl Attested {
    /// The device.
    #[must_use]
    pub fn ueid(&self) -> &Ueid {
        &self.ueid
    }

    /// When the Verifier appraised it.
    #[must_use]
    pub fn at(&self) -> UnixSecs {
        self.at
    }

    /// Its runtime, if the Verifier says which.
    #[must_use]
    pub fn runtime(&self) -> Option<&Runtime> {
        self.runtime.as_ref()
    }
}

/// Checks what a TAM handed on.
///
/// # Errors
/// The first check that fails; nothing is believed then.
pub fn check(
    provider: &dyn Provider,
    bytes: &[u8],
    tam_keys: &[PublicKey],
    verifier_keys: &[PublicKey],
    now: UnixSecs,
) -> Result<Attested, AttestedDenied> {
    let handed = verify_sign1(provider, bytes, tam_keys, CONTEXT, None)
        .map_err(AttestedDenied::Untrusted)?;
    let not = AttestedDenied::NotAppraised;
    let ear = verified_ear(provider, handed.payload(), verifier_keys).map_err(not)?;
    check_current(&ear, now).map_err(not)?;
    let claims = affirmed(&ear).map_err(not)?;
    let ueid = claims.ueid.ok_or(not(NotAppraised::OtherDevice))?;
    let at = u64::try_from(ear.iat).map_err(|_| not(NotAppraised::Expired))?;
    let runtime = claims.swname.as_ref().zip(claims.swversion.as_ref());
    Ok(Attested {
        ueid,
        at: UnixSecs(at),
        runtime: runtime.map(|(name, version)| Runtime {
            name: name.clone(),
            version: version.version.clone(),
        }),
    })
}

/// Why a device whose certificate has ended gets none again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReturnDenied {
    /// No evidence, or none that is fresh.
    #[error(
        "the last certificate ended {ended_secs_ago} s ago, and the Verifier has not affirmed the \
         device within the last {max_age_secs} s"
    )]
    Evidence {
        /// Since when it is without, in seconds.
        ended_secs_ago: u64,
        /// How old evidence may be, in seconds.
        max_age_secs: u64,
    },
    /// It stayed away for too long.
    #[error(
        "the last certificate ended {ended_secs_ago} s ago, and the profile's renewal_grace is \
         {grace_secs} s; with a longer one the device may return"
    )]
    Grace {
        /// Since when it is without, in seconds.
        ended_secs_ago: u64,
        /// The profile's grace, in seconds.
        grace_secs: u64,
    },
    /// An operator put the certificate that serves on hold: another one would undo that.
    #[error("the device's newest certificate of the profile is on hold")]
    Held,
}

impl ReturnDenied {
    /// The text for the peer: fixed words.
    #[must_use]
    pub fn peer_text(&self) -> &'static str {
        match self {
            Self::Evidence { .. } => tegata_wire::enrolment::CHECK_IN_FIRST,
            Self::Grace { .. } => "the last certificate ended too long ago",
            Self::Held => "the certificate of this device is on hold",
        }
    }

    /// Stable label for metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Evidence { .. } => "evidence-needed",
            Self::Grace { .. } => "grace-over",
            Self::Held => "certificate-held",
        }
    }
}

/// Whether a device may have a certificate that its TA asks for without the key of one that serves.
///
/// `last_end` is the end of the last certificate of this profile that the device confirmed, if it
/// ever did; `attested_at` when the Verifier last affirmed it.
///
/// # Errors
/// [`ReturnDenied`], once the last one has ended.
pub fn may_return(
    profile: &Profile,
    last_end: Option<UnixSecs>,
    attested_at: Option<UnixSecs>,
    now: UnixSecs,
) -> Result<(), ReturnDenied> {
    // A first certificate, or one beside another that serves.
    let Some(end) = last_end.filter(|end| end.0 < now.0) else {
        return Ok(());
    };
    let ended_secs_ago = now.0.saturating_sub(end.0);
    let grace_secs = profile.renewal_grace_secs;
    if ended_secs_ago > grace_secs {
        return Err(ReturnDenied::Grace {
            ended_secs_ago,
            grace_secs,
        });
    }
    let max_age_secs = profile.evidence_max_age_secs;
    let fresh = attested_at.is_some_and(|at| {
        // One of the future is of a clock that was wrong: it would be fresh for too long.
        let begun = at.0 <= now.0.saturating_add(CLOCK_SLACK_SECS);
        begun && now.0.saturating_sub(at.0) <= max_age_secs
    });
    if fresh {
        Ok(())
    } else {
        Err(ReturnDenied::Evidence {
            ended_secs_ago,
            max_age_secs,
        })
    }
}

/// How far the clocks of Verifier and CA may differ.
pub const CLOCK_SLACK_SECS: u64 = 60;

#[cfg(test)]
mod tests;
