//! `[verify]` of `tegata.toml`: the service that judges signed statements.

use std::net::SocketAddr;
use std::path::PathBuf;

use const_oid::ObjectIdentifier;
use serde::Deserialize;
use tegata_authority::statement::EKU_LOCATION;
use toml::Spanned;

use super::Check;
use crate::fault::{Fault, Outcome};

/// The verify role.
#[derive(Debug, Clone)]
pub struct Verify {
    /// Address it listens on.
    pub listen: SocketAddr,
    /// Certificates of the root CAs, PEM.
    pub anchors: PathBuf,
    /// Base URL of the CA; the CA of the same configuration when absent.
    pub ca_url: Option<String>,
    /// extKeyUsage that certificates of statement keys have.
    pub purpose: ObjectIdentifier,
    /// How freshness is judged.
    pub freshness: FreshnessRule,
    /// How long a nonce is good for, seconds.
    pub nonce_secs: u64,
    /// How far a statement's time may lie from now, seconds, with `freshness = "window"`.
    pub window_secs: u64,
    /// Fastest that a device moves, metres a second.
    pub speed_max_m_s: u32,
    /// Least accurate that a place may be: a radius in metres.
    pub accuracy_max_m: u32,
    /// How long the CA's word on a device is believed without asking again, seconds.
    pub status_secs: u64,
}

/// How freshness is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FreshnessRule {
    /// By a nonce that this service gave out.
    Nonce,
    /// By the time in the statement, and its number.
    Window,
}

/// The section as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVerify {
    listen: Spanned<String>,
    anchors: Option<PathBuf>,
    ca_url: Option<Spanned<String>>,
    purpose: Option<Spanned<String>>,
    freshness: Option<FreshnessRule>,
    nonce_secs: Option<Spanned<u64>>,
    window_secs: Option<Spanned<u64>>,
    speed_max_m_s: Option<Spanned<u64>>,
    accuracy_max_m: Option<Spanned<u64>>,
    status_secs: Option<Spanned<u64>>,
}

impl RawVerify {
    /// The section, checked; paths stand as they were written.
    pub(super) fn checked(self, check: &Check<'_>) -> Outcome<Verify> {
        let purpose = match &self.purpose {
            None => ObjectIdentifier::new_unwrap(EKU_LOCATION),
            Some(text) => ObjectIdentifier::new(text.get_ref()).map_err(|_| {
                check.fault(
                    text.span(),
                    &format!("`{}` is not an object identifier", text.get_ref()),
                    "Write it in dotted form, as in extended_key_usage of the profile.",
                )
            })?,
        };
        // Their limits fit.
        let metres = |found, default, range| {
            let number = check.number(found, default, range)?;
            Ok::<_, Fault>(u32::try_from(number).unwrap_or(u32::MAX))
        };
        Ok(Verify {
            listen: check.address(&self.listen)?,
            anchors: self.anchors.unwrap_or_else(|| PathBuf::from("ca.pem")),
            ca_url: check.url(self.ca_url.as_ref())?,
            purpose,
            freshness: self.freshness.unwrap_or(FreshnessRule::Nonce),
            nonce_secs: check.number(self.nonce_secs.as_ref(), 120, 5..=3_600)?,
            window_secs: check.number(self.window_secs.as_ref(), 60, 1..=86_400)?,
            speed_max_m_s: metres(self.speed_max_m_s.as_ref(), 350, 1..=10_000)?,
            accuracy_max_m: metres(self.accuracy_max_m.as_ref(), 1_000, 1..=100_000)?,
            status_secs: check.number(self.status_secs.as_ref(), 30, 0..=3_600)?,
        })
    }
}
