//! Judging signed statements: readings that a TA signed in a device's TEE.
//!
//! Purpose: [`authenticate`] says whose statement it is, [`judge`] what it is worth now: fresh, in
//! order, and possible after the device's last one. Both are used by the service and by `tegata
//! verify`, on one statement and on millions.
//!
//! Invariants: an [`Authentic`] statement was signed by a key whose certificate leads to an anchor
//! and is for such statements; nothing of a message that is not authentic is believed or recorded.
//! A verdict passes only if it has no finding.
//!
//! Not decided here: whether the radio that the receiver heard was true. A spoofed signal gives an
//! authentic statement of a false place; only plausibility may show it.
//!
//! Spec: docs/spec/statement.md

use std::collections::HashMap;

use const_oid::ObjectIdentifier;
use tegata_crypto::chain::{ChainError, Purpose, TrustAnchor, verify_chain};
use tegata_crypto::cose::{CoseError, unverified_headers, verify_sign1};
use tegata_crypto::{Provider, PublicKey};
use tegata_wire::ids::Ueid;
use tegata_wire::rats::RatsError;
use tegata_wire::rats::statement::{Location, MAX_STATEMENT_LEN, PROFILE_LOCATION, Statement};
use tegata_wire::x509::{CertView, SanEntry};

/// extKeyUsage of keys that sign locations and nothing else. Under the arc for documentation, as
/// the other identifiers a maker replaces by its own.
pub const EKU_LOCATION: &str = "1.3.6.1.4.1.32473.2.1";

/// Mean radius of the earth in metres.
const EARTH_M: f64 = 6_371_008.8;

/// What is asked of a statement.
#[derive(Debug, Clone)]
pub struct StatementPolicy {
    /// extKeyUsage that the certificate must have: the CA gives it to keys of statement TAs alone.
    pub purpose: ObjectIdentifier,
    /// Profiles that are understood.
    pub profiles: Vec<String>,
    /// Fastest that a device moves, in metres a second.
    pub speed_max_m_s: f64,
}

impl StatementPolicy {
    /// The policy for signed locations: the defaults of the configuration.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn location() -> Self {
        Self {
            purpose: ObjectIdentifier::new_unwrap(EKU_LOCATION),
            profiles: vec![PROFILE_LOCATION.to_owned()],
            speed_max_m_s: 350.0,
        }
    }
}

/// Why a message is no authentic statement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotAuthentic {
    /// Longer than any statement.
    #[error("{got} bytes, a statement has at most {MAX_STATEMENT_LEN}")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not a COSE_Sign1 with certificates.
    #[error("no signed statement: {0}")]
    Malformed(CoseError),
    /// No certificate came with it.
    #[error("no certificate in x5chain")]
    NoChain,
    /// The certificates do not lead to an anchor.
    #[error("the certificates do not lead to the CA: {0}")]
    Chain(ChainError),
    /// The certificate is for something else.
    #[error("the certificate is not for statements of this kind")]
    Purpose,
    /// The signature is not of the certificate's key over this message.
    #[error("the signature is wrong: {0}")]
    Signature(CoseError),
    /// What was signed is no statement.
    #[error("the claims are no statement: {0}")]
    Claims(RatsError),
    /// A statement of a kind that the policy does not have.
    #[error("statements of the profile {0:?} are not understood here")]
    Profile(String),
    /// The certificate names another device than the statement.
    #[error("certificate and statement name different devices")]
    Device,
}

impl NotAuthentic {
    /// Stable label.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too-long",
            Self::Malformed(_) => "malformed",
            Self::NoChain => "no-chain",
            Self::Chain(_) => "chain",
            Self::Purpose => "purpose",
            Self::Signature(_) => "signature",
            Self::Claims(_) => "claims",
            Self::Profile(_) => "profile",
            Self::Device => "device-mismatch",
        }
    }
}

/// A statement that is its device's.
#[derive(Debug, Clone)]
#[must_use]
pub struct Authentic {
    statement: Statement,
    leaf: Leaf,
}

/// What a checked chain is remembered by.
#[derive(Debug, Clone)]
struct Leaf {
    key: PublicKey,
    digest: [u8; 32],
    serial: Vec<u8>,
    device: Option<Ueid>,
    not_before_secs: u64,
    not_after_secs: u64,
}

impl Authentic {
    /// What it says.
    #[must_use]
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Serial number of the certificate, big-endian.
    #[must_use]
    pub fn certificate_serial(&self) -> &[u8] {
        &self.leaf.serial
    }

    /// SHA-256 of the certificate.
    #[must_use]
    pub const fn certificate_digest(&self) -> &[u8; 32] {
        &self.leaf.digest
    }
}

/// The moment at which certificates must be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidAt {
    /// This moment, in seconds since 1970.
    Time(u64),
    /// When the statement says it was made: for archives, where certificates have ended since.
    Made,
}

/// Checks messages, and remembers chains it has checked: a device sends the same one each time.
pub struct Authenticator<'a> {
    provider: &'a dyn Provider,
    anchors: &'a [TrustAnchor],
    policy: &'a StatementPolicy,
    known: HashMap<[u8; 32], Leaf>,
}

impl<'a> Authenticator<'a> {
    /// With nothing remembered.
    #[must_use]
    pub fn new(
        provider: &'a dyn Provider,
        anchors: &'a [TrustAnchor],
        policy: &'a StatementPolicy,
    ) -> Self {
        Self {
            provider,
            anchors,
            policy,
            known: HashMap::new(),
        }
    }

    /// Whose statement this is.
    ///
    /// # Errors
    /// [`NotAuthentic`]: nothing in it is to be believed.
    pub fn authenticate(&mut self, message: &[u8], at: ValidAt) -> Result<Authentic, NotAuthentic> {
        if message.len() > MAX_STATEMENT_LEN {
            return Err(NotAuthentic::TooLong { got: message.len() });
        }
        let chain = unverified_headers(message)
            .map_err(NotAuthentic::Malformed)?
            .x5chain;
        let (leaf_der, rest) = chain.split_first().ok_or(NotAuthentic::NoChain)?;
        let digest = self.provider.sha256(&chain.concat());
        // The chain decides on the key; when it must be valid stands under that key's signature.
        let alleged = match self.known.get(&digest) {
            Some(leaf) => leaf.key.clone(),
            None => CertView::from_der(leaf_der)
                .map_err(|e| NotAuthentic::Chain(e.into()))
                .and_then(|view| {
                    PublicKey::from_spki_der(view.spki_der)
                        .map_err(|e| NotAuthentic::Chain(e.into()))
                })?,
        };
        let verified = verify_sign1(self.provider, message, &alleged, b"", None)
            .map_err(NotAuthentic::Signature)?;
        let statement = Statement::decode(verified.payload()).map_err(NotAuthentic::Claims)?;
        let at = match at {
            ValidAt::Time(now) => now,
            ValidAt::Made => u64::try_from(statement.made_at).unwrap_or(0),
        };
        let leaf = match self.known.get(&digest) {
            Some(leaf) if (leaf.not_before_secs..=leaf.not_after_secs).contains(&at) => {
                leaf.clone()
            }
            _ => {
                let leaf = self.check_chain(leaf_der, rest, at)?;
                if self.known.len() >= KNOWN_MAX {
                    self.known.clear();
                }
                self.known.insert(digest, leaf.clone());
                leaf
            }
        };
        if !self.policy.profiles.contains(&statement.profile) {
            return Err(NotAuthentic::Profile(statement.profile));
        }
        if leaf.device.is_some_and(|device| device != statement.ueid) {
            return Err(NotAuthentic::Device);
        }
        Ok(Authentic { statement, leaf })
    }

    fn check_chain(&self, leaf: &[u8], rest: &[Vec<u8>], at: u64) -> Result<Leaf, NotAuthentic> {
        let rest: Vec<&[u8]> = rest.iter().map(Vec::as_slice).collect();
        let purpose = Purpose::EndEntity;
        let chain = verify_chain(self.provider, leaf, &rest, self.anchors, purpose, at)
            .map_err(NotAuthentic::Chain)?;
        let malformed = |e: tegata_wire::x509::X509Error| NotAuthentic::Chain(e.into());
        let view = chain.leaf().map_err(NotAuthentic::Chain)?;
        let purposes = view.ext_key_usage().map_err(malformed)?;
        // One purpose alone: a key that also does something else could be made to sign this.
        if purposes != [self.policy.purpose] {
            return Err(NotAuthentic::Purpose);
        }
        let device = view.san().map_err(malformed)?.into_iter().find_map(named);
        let (mut from, mut to) = (0, u64::MAX);
        for der in chain.path_der() {
            let view = CertView::from_der(der).map_err(malformed)?;
            from = from.max(view.not_before_secs);
            to = to.min(view.not_after_secs);
        }
        Ok(Leaf {
            key: chain.leaf_key().clone(),
            digest: self.provider.sha256(leaf),
            serial: view.serial.to_vec(),
            device,
            not_before_secs: from,
            not_after_secs: to,
        })
    }
}

/// The device that a name of a certificate names, if it is a UEID.
fn named(entry: SanEntry) -> Option<Ueid> {
    match entry {
        SanEntry::PermanentIdentifier { value, .. } => value?.parse().ok(),
        _ => None,
    }
}

/// What is known of a statement's nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonceFinding {
    /// It is the one that was asked with, and this is its first use.
    Fresh,
    /// It was given out here, too long ago.
    Expired,
    /// It was used before.
    Used,
    /// It is not one that was asked with.
    Unknown,
}

/// How freshness is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// By the nonce.
    Nonce(NonceFinding),
    /// By the time of the statement: at most so many seconds before or after `now`.
    Window {
        /// This moment, seconds since 1970.
        now: u64,
        /// Seconds either way.
        secs: u64,
    },
    /// Not at all: an archive is read.
    Archive,
}

/// What the CA says of the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It issued it to this device, and the device took it.
    Good,
    /// It knows no such device.
    NoDevice,
    /// It issued no such certificate to this device.
    NotIssued,
    /// The device refused it.
    Rejected,
    /// The CA was not asked: certificates are checked without it.
    Offline,
}

/// The statement before this one of the same device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Last {
    /// Its number.
    pub number: u64,
    /// When it was where it was, seconds since 1970: the time of the fix, where there is one.
    pub made_at: i64,
    /// Where it was: latitude, longitude, accuracy in metres.
    pub place: Option<(f64, f64, f64)>,
}

impl Last {
    /// What is remembered of a statement.
    #[must_use]
    pub fn of(statement: &Statement) -> Self {
        Self {
            number: statement.number,
            made_at: moment(statement),
            place: statement.location.as_ref().map(|at| {
                let accuracy = at.accuracy.unwrap_or(0.0);
                (at.latitude, at.longitude, accuracy)
            }),
        }
    }
}

/// A reason not to rely on a statement.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Finding {
    /// The nonce.
    Nonce(NonceFinding),
    /// Older or newer than allowed, by so many seconds.
    Time {
        /// Seconds between the statement and now; negative: from the future.
        age_secs: i64,
    },
    /// The number is not above the last: replayed, or out of order.
    Number {
        /// The last one.
        last: u64,
    },
    /// A later number with an earlier time.
    TimeWentBack {
        /// By so many seconds.
        secs: i64,
    },
    /// Further from the last place than the device can move.
    Speed {
        /// Metres between the places, accuracies taken off.
        metres: f64,
        /// Seconds between them.
        secs: i64,
    },
    /// The position was older than the statement allows.
    Stale {
        /// Age of the fix in seconds.
        age_secs: u64,
    },
    /// What the CA says.
    Standing(Standing),
}

impl Finding {
    /// Stable label.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Nonce(NonceFinding::Expired) => "nonce-expired",
            Self::Nonce(NonceFinding::Used) => "nonce-used",
            Self::Nonce(_) => "nonce-unknown",
            Self::Time { age_secs } if *age_secs < 0 => "from-the-future",
            Self::Time { .. } => "too-old",
            Self::Number { .. } => "number-not-above-last",
            Self::TimeWentBack { .. } => "time-went-back",
            Self::Speed { .. } => "too-fast",
            Self::Stale { .. } => "fix-too-old",
            Self::Standing(Standing::NoDevice) => "device-unknown",
            Self::Standing(Standing::NotIssued) => "certificate-unknown",
            Self::Standing(_) => "certificate-rejected",
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nonce(NonceFinding::Expired) => {
                f.write_str("the nonce was given out too long ago")
            }
            Self::Nonce(NonceFinding::Used) => f.write_str("the nonce was used before: a replay"),
            Self::Nonce(_) => f.write_str("the nonce is not one that was asked with"),
            Self::Time { age_secs } if *age_secs < 0 => {
                write!(f, "made {} s in the future", age_secs.unsigned_abs())
            }
            Self::Time { age_secs } => write!(f, "made {age_secs} s ago"),
            Self::Number { last } => {
                write!(
                    f,
                    "the number is not above the device's last, {last}: a replay or late"
                )
            }
            Self::TimeWentBack { secs } => {
                write!(
                    f,
                    "{secs} s before the device's last statement, with a higher number"
                )
            }
            Self::Speed { metres, secs } => {
                let km = metres / 1000.0;
                write!(f, "{km:.1} km from the device's last place {secs} s before")
            }
            Self::Stale { age_secs } => write!(f, "the fix was {age_secs} s old"),
            Self::Standing(Standing::NoDevice) => f.write_str("the CA knows no such device"),
            Self::Standing(Standing::NotIssued) => {
                f.write_str("the CA issued no such certificate to this device")
            }
            Self::Standing(_) => f.write_str("the device refused this certificate"),
        }
    }
}

/// What speaks against an authentic statement; empty if nothing does.
#[must_use]
pub fn judge(
    authentic: &Authentic,
    policy: &StatementPolicy,
    freshness: Freshness,
    standing: Standing,
    last: Option<&Last>,
) -> Vec<Finding> {
    let statement = authentic.statement();
    let mut findings = Vec::new();
    if !matches!(standing, Standing::Good | Standing::Offline) {
        findings.push(Finding::Standing(standing));
    }
    match freshness {
        Freshness::Nonce(NonceFinding::Fresh) | Freshness::Archive => {}
        Freshness::Nonce(finding) => findings.push(Finding::Nonce(finding)),
        Freshness::Window { now, secs } => {
            let now = i64::try_from(now).unwrap_or(i64::MAX);
            let age_secs = now.saturating_sub(statement.made_at);
            if age_secs.unsigned_abs() > secs {
                findings.push(Finding::Time { age_secs });
            }
        }
    }
    let age = statement.location.as_ref().and_then(|at| at.age);
    if let Some(age_secs) = age.filter(|age| *age > FIX_AGE_SECS_MAX) {
        findings.push(Finding::Stale { age_secs });
    }
    if let Some(last) = last {
        if statement.number <= last.number {
            // Out of order: nothing to compare its place with.
            findings.push(Finding::Number { last: last.number });
        } else {
            findings.extend(movement(statement, policy, last));
        }
    }
    findings
}

/// The moment that a place belongs to. Two statements of one fix are of one moment, however much
/// later the second was made.
fn moment(statement: &Statement) -> i64 {
    let fix = statement.location.as_ref().and_then(|at| at.timestamp);
    fix.unwrap_or(statement.made_at)
}

/// Whether the device can have come here from its last place.
fn movement(statement: &Statement, policy: &StatementPolicy, last: &Last) -> Option<Finding> {
    let secs = moment(statement).saturating_sub(last.made_at);
    if secs < 0 {
        return Some(Finding::TimeWentBack {
            secs: secs.saturating_neg(),
        });
    }
    let (latitude, longitude, accuracy) = last.place?;
    let here = statement.location.as_ref()?;
    let between = distance_m((latitude, longitude), (here.latitude, here.longitude));
    let metres = between - accuracy - here.accuracy.unwrap_or(0.0);
    // Times are whole seconds: the true difference may be up to one more.
    let secs_at_most = i32::try_from(secs.saturating_add(1)).map_or(f64::MAX, f64::from);
    (metres > policy.speed_max_m_s * secs_at_most).then_some(Finding::Speed { metres, secs })
}

/// Great-circle distance in metres between two places in degrees (haversine; within 0.6 %).
#[must_use]
pub fn distance_m(from: (f64, f64), to: (f64, f64)) -> f64 {
    let (lat1, lat2) = (from.0.to_radians(), to.0.to_radians());
    let half_lat = (lat2 - lat1) / 2.0;
    let half_lon = (to.1 - from.1).to_radians() / 2.0;
    let h = half_lat.sin().powi(2) + lat1.cos() * lat2.cos() * half_lon.sin().powi(2);
    2.0 * EARTH_M * h.clamp(0.0, 1.0).sqrt().asin()
}

/// Where a statement is, in the words of a table.
#[must_use]
pub fn place(location: &Location) -> String {
    let accuracy = location.accuracy.map(|m| format!(" ±{m:.0} m"));
    format!(
        "{:.6} {:.6}{}",
        location.latitude,
        location.longitude,
        accuracy.unwrap_or_default()
    )
}

/// A TA signs the fix it has; one older than this says nothing of now.
const FIX_AGE_SECS_MAX: u64 = 30;
/// Most chains remembered: as many devices as one file or one service sees in a while.
const KNOWN_MAX: usize = 65_536;

#[cfg(test)]
mod tests;
