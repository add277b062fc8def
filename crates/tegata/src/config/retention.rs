//! `[ca.retention]` and `[tam.retention]`: how long what has ended stays among what serves.

use serde::Deserialize;
use toml::Spanned;

use super::Check;
use crate::fault::Outcome;

/// A day, seconds.
const DAY_SECS: u64 = 86_400;
/// A hundred years.
const DAYS_MAX: u64 = 36_500;

/// `[ca.retention]` or `[tam.retention]` as written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRetention {
    keep_days: Option<Spanned<u64>>,
}

impl RawRetention {
    /// Time that something is kept after its end, seconds: 90 days where nothing is said, and always
    /// more than `least_secs`.
    pub(super) fn checked(&self, check: &Check<'_>, least_secs: u64) -> Outcome<u64> {
        let least = least_secs / DAY_SECS + 1;
        let days = check.number(self.keep_days.as_ref(), least.max(90), least..=DAYS_MAX)?;
        Ok(days.saturating_mul(DAY_SECS))
    }
}
