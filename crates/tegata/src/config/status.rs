//! `[ca] status_url` and `[ca.status]`: how the status of certificates is published.

use serde::Deserialize;
use tegata_store::status::{KEPT_RESPONSES_MAX, StatusSettings};
use toml::Spanned;

use super::Check;
use crate::fault::Outcome;

/// How the status of certificates is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What the CA signs, and for how long it is good.
    pub settings: StatusSettings,
    /// Longest time that HTTP caches may keep an answer, seconds.
    pub max_age_secs: u64,
}

/// `[ca.status]` as written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStatus {
    shard_size: Option<Spanned<u64>>,
    crl_life_secs: Option<Spanned<u64>>,
    delta_life_secs: Option<Spanned<u64>>,
    ocsp_life_secs: Option<Spanned<u64>>,
    max_age_secs: Option<Spanned<u64>>,
    presign: Option<Spanned<u64>>,
}

impl RawStatus {
    pub(super) fn checked(
        &self,
        check: &Check<'_>,
        status_url: Option<&Spanned<String>>,
    ) -> Outcome<Status> {
        let default = StatusSettings::default();
        let shard_size = check.number(self.shard_size.as_ref(), 65_536, 1..=262_144)?;
        let kept = u64::try_from(KEPT_RESPONSES_MAX).unwrap_or(u64::MAX);
        let presign = check.number(self.presign.as_ref(), default.presign.into(), 0..=kept)?;
        let life = |given: &Option<Spanned<u64>>, default, most| {
            check.number(given.as_ref(), default, 60..=most)
        };
        Ok(Status {
            settings: StatusSettings {
                base_url: check.url(status_url)?,
                shard_size: u32::try_from(shard_size).unwrap_or(default.shard_size),
                crl_life_secs: life(&self.crl_life_secs, default.crl_life_secs, 31_536_000)?,
                delta_life_secs: life(&self.delta_life_secs, default.delta_life_secs, 2_592_000)?,
                // Below what is left of the responder's certificate when it is renewed.
                ocsp_life_secs: life(&self.ocsp_life_secs, default.ocsp_life_secs, 259_200)?,
                presign: u32::try_from(presign).unwrap_or(default.presign),
            },
            max_age_secs: check.number(self.max_age_secs.as_ref(), 300, 0..=86_400)?,
        })
    }
}
