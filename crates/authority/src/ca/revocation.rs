//! Revocation: what an operator's word does to the standing of a certificate, or of a device.
//!
//! Invariants: what is revoked for good stays so, with the reason and the moment that were said
//! first; only a hold can be lifted; the same word twice is the same as once.
//!
//! Spec: RFC 5280 section 5.3.1.

use tegata_wire::x509::RevocationReason;

use crate::UnixSecs;

/// A reason to revoke for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinalReason {
    /// No reason is told.
    Unspecified,
    /// The key is known, or suspected to be known, to others.
    KeyCompromise,
    /// Names in the certificate are no longer right.
    AffiliationChanged,
    /// Another certificate took its place.
    Superseded,
    /// The device is out of service.
    CessationOfOperation,
    /// A privilege that the certificate tells of was withdrawn.
    PrivilegeWithdrawn,
}

impl FinalReason {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

    /// The reason as lists and responses have it.
    #[must_use]
    pub fn reason(self) -> RevocationReason {
        match self {
            Self::Unspecified => RevocationReason::Unspecified,
            Self::KeyCompromise => RevocationReason::KeyCompromise,
            Self::AffiliationChanged => RevocationReason::AffiliationChanged,
            Self::Superseded => RevocationReason::Superseded,
            Self::CessationOfOperation => RevocationReason::CessationOfOperation,
            Self::PrivilegeWithdrawn => RevocationReason::PrivilegeWithdrawn,
        }
    }
}

/// What an operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Word {
    /// Revoke for good.
    Revoke(FinalReason),
    /// Not to be trusted until further notice.
    Hold,
    /// The hold is over.
    Unhold,
}

/// What the CA says of a certificate, or of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// Nothing against it.
    #[default]
    Good,
    /// Nothing against it any more: a hold was lifted then.
    Lifted {
        /// When.
        at: UnixSecs,
    },
    /// On hold.
    Held {
        /// Since when.
        since: UnixSecs,
    },
    /// Revoked for good.
    Revoked {
        /// Since when it is not to be trusted: a hold before counts.
        since: UnixSecs,
        /// Why.
        reason: FinalReason,
    },
}

impl Standing {
    /// Whether it may be relied on.
    #[must_use]
    pub fn is_good(self) -> bool {
        match self {
            Self::Good | Self::Lifted { .. } => true,
            Self::Held { .. } | Self::Revoked { .. } => false,
        }
    }

    /// Whether another certificate took its place.
    #[must_use]
    pub fn is_superseded(self) -> bool {
        matches!(
            self,
            Self::Revoked {
                reason: FinalReason::Superseded,
                ..
            }
        )
    }

    /// `good`, `held` or `revoked`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Good | Self::Lifted { .. } => "good",
            Self::Held { .. } => "held",
            Self::Revoked { .. } => "revoked",
        }
    }

    /// Moment and reason as a list of changes has them; `None` if there never was anything.
    #[must_use]
    pub fn to_entry(self) -> Option<(UnixSecs, RevocationReason)> {
        match self {
            Self::Good => None,
            Self::Lifted { at } => Some((at, RevocationReason::RemoveFromCrl)),
            Self::Held { since } => Some((since, RevocationReason::CertificateHold)),
            Self::Revoked { since, reason } => Some((since, reason.reason())),
        }
    }

    /// The standing that [`Standing::to_entry`] wrote down.
    #[must_use]
    pub fn from_entry(at: UnixSecs, reason: RevocationReason) -> Self {
        let last = |reason| Self::Revoked { since: at, reason };
        match reason {
            RevocationReason::RemoveFromCrl => Self::Lifted { at },
            RevocationReason::CertificateHold => Self::Held { since: at },
            RevocationReason::Unspecified => last(FinalReason::Unspecified),
            RevocationReason::KeyCompromise => last(FinalReason::KeyCompromise),
            RevocationReason::AffiliationChanged => last(FinalReason::AffiliationChanged),
            RevocationReason::Superseded => last(FinalReason::Superseded),
            RevocationReason::CessationOfOperation => last(FinalReason::CessationOfOperation),
            RevocationReason::PrivilegeWithdrawn => last(FinalReason::PrivilegeWithdrawn),
        }
    }
}

/// Why a word is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationDenied {
    /// There is no hold to lift.
    #[error("it is not on hold")]
    NotHeld,
    /// Revoked for good.
    #[error("it is revoked for good ({}); only a hold can be lifted", .0.reason().name())]
    Final(FinalReason),
}

impl RevocationDenied {
    /// Stable label for metrics, logs and scripts.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotHeld => "not-held",
            Self::Final(_) => "revoked-for-good",
        }
    }
}

/// The standing after a word; `None` if it changes nothing.
///
/// # Errors
/// A hold is to be lifted where there is none.
pub fn decide(
    before: Standing,
    word: Word,
    now: UnixSecs,
) -> Result<Option<Standing>, RevocationDenied> {
    match (before, word) {
        (Standing::Good | Standing::Lifted { .. }, Word::Revoke(reason)) => {
            Ok(Some(Standing::Revoked { since: now, reason }))
        }
        (Standing::Good | Standing::Lifted { .. }, Word::Hold) => {
            Ok(Some(Standing::Held { since: now }))
        }
        (Standing::Held { since }, Word::Revoke(reason)) => {
            Ok(Some(Standing::Revoked { since, reason }))
        }
        (Standing::Held { .. }, Word::Unhold) => Ok(Some(Standing::Lifted { at: now })),
        (Standing::Held { .. }, Word::Hold)
        | (Standing::Revoked { .. }, Word::Revoke(_) | Word::Hold)
        | (Standing::Lifted { .. }, Word::Unhold) => Ok(None),
        (Standing::Good, Word::Unhold) => Err(RevocationDenied::NotHeld),
        (Standing::Revoked { reason, .. }, Word::Unhold) => Err(RevocationDenied::Final(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: UnixSecs = UnixSecs(1_000);
    const NOW: UnixSecs = UnixSecs(2_000);
    const COMPROMISED: Word = Word::Revoke(FinalReason::KeyCompromise);

    #[test]
    fn what_each_word_does() {
        let held = Standing::Held { since: THEN };
        let lifted = Standing::Lifted { at: THEN };
        let revoked = Standing::Revoked {
            since: THEN,
            reason: FinalReason::Superseded,
        };
        let now = |reason| Standing::Revoked { since: NOW, reason };
        let key = FinalReason::KeyCompromise;
        for (before, word, after) in [
            (Standing::Good, COMPROMISED, Ok(Some(now(key)))),
            (lifted, COMPROMISED, Ok(Some(now(key)))),
            (
                Standing::Good,
                Word::Hold,
                Ok(Some(Standing::Held { since: NOW })),
            ),
            (lifted, Word::Hold, Ok(Some(Standing::Held { since: NOW }))),
            // The moment of the hold stays.
            (
                held,
                COMPROMISED,
                Ok(Some(Standing::Revoked {
                    since: THEN,
                    reason: key,
                })),
            ),
            (held, Word::Hold, Ok(None)),
            (held, Word::Unhold, Ok(Some(Standing::Lifted { at: NOW }))),
            // Again is the same as once; what is for good is not weakened.
            (revoked, COMPROMISED, Ok(None)),
            (revoked, Word::Hold, Ok(None)),
            (lifted, Word::Unhold, Ok(None)),
            (
                revoked,
                Word::Unhold,
                Err(RevocationDenied::Final(FinalReason::Superseded)),
            ),
            (Standing::Good, Word::Unhold, Err(RevocationDenied::NotHeld)),
        ] {
            assert_eq!(decide(before, word, NOW), after, "{before:?} {word:?}");
        }
    }

    #[test]
    fn a_standing_is_what_was_written_down() {
        let mut all = vec![
            Standing::Lifted { at: THEN },
            Standing::Held { since: THEN },
        ];
        all.extend(FinalReason::ALL.map(|reason| Standing::Revoked {
            since: THEN,
            reason,
        }));
        for standing in all {
            let (at, reason) = standing.to_entry().unwrap();
            assert_eq!(Standing::from_entry(at, reason), standing);
        }
        assert_eq!(Standing::Good.to_entry(), None);
    }
}
