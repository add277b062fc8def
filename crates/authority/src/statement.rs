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
    /// Least accurate that a place may be, as a radius in metres: whatever lies in it is near.
    pub accuracy_max_m: f64,
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
            accuracy_max_m: 1_000.0,
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
        // As long as every certificate of the path counts, the anchor's included.
        let (mut from, mut to) = chain.anchor().validity_secs();
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

/// How freshness is judged; `now` is this moment, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// By the nonce.
    Nonce {
        /// What is known of it.
        finding: NonceFinding,
        /// This moment.
        now: u64,
        /// How many seconds a nonce lives.
        secs: u64,
    },
    /// By the time of the statement: at most so many seconds before or after `now`.
    Window {
        /// This moment.
        now: u64,
        /// Seconds either way.
        secs: u64,
    },
    /// Not at all: an archive is read.
    Archive {
        /// This moment.
        now: u64,
    },
}

impl Freshness {
    const fn now(self) -> u64 {
        match self {
            Self::Nonce { now, .. } | Self::Window { now, .. } | Self::Archive { now } => now,
        }
    }

    /// How far a statement's time may lie ahead of ours, in seconds. A receiver that counts weeks
    /// wrong is behind, not ahead, so this holds for old receivers too.
    fn ahead_secs_max(self) -> i64 {
        match self {
            Self::Window { secs, .. } => i64::try_from(secs).unwrap_or(i64::MAX),
            Self::Nonce { .. } | Self::Archive { .. } => AHEAD_SECS_MAX,
        }
    }

    /// How long before it was seen here a fresh statement's place can have been true, in seconds;
    /// nothing where statements of any age are read.
    fn delay_secs_max(self) -> Option<u64> {
        match self {
            Self::Nonce { secs, .. } | Self::Window { secs, .. } => {
                Some(secs.saturating_add(FIX_AGE_SECS_MAX))
            }
            Self::Archive { .. } => None,
        }
    }
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
    /// The CA revoked it, or put it on hold.
    Revoked,
    /// The CA was not asked: certificates are checked without it.
    Offline,
}

/// The last statement of one certificate that passed: its TA counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Its number.
    pub number: u64,
    /// When it was made, seconds since 1970: the time of the fix, where there is one.
    pub made_at: i64,
    /// When it passed here, seconds since 1970 by our clock.
    pub seen_at: u64,
}

/// Where a device was last, whichever of its keys said so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Degrees, north positive.
    pub latitude: f64,
    /// Degrees, east positive.
    pub longitude: f64,
    /// Radius in metres.
    pub accuracy: f64,
    /// When it was there, seconds since 1970: the time of the fix.
    pub made_at: i64,
    /// When the statement passed here, seconds since 1970 by our clock.
    pub seen_at: u64,
}

/// What is remembered to compare the next statement with; nothing of what is seen for the first
/// time.
///
/// Numbers belong to a certificate: a TA that is installed anew counts from 1, with a new key. A
/// place belongs to the device.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Before {
    /// The last statement of the same certificate.
    pub counted: Option<Counted>,
    /// Where the device was last.
    pub place: Option<Place>,
}

impl Before {
    /// What is to be remembered of a statement that passed at `now` (seconds since 1970). One
    /// without a place leaves the last place as it is.
    #[must_use]
    pub fn after(statement: &Statement, now: u64) -> Self {
        let made_at = moment(statement);
        Self {
            counted: Some(Counted {
                number: statement.number,
                made_at,
                seen_at: now,
            }),
            place: statement.location.as_ref().map(|at| Place {
                latitude: at.latitude,
                longitude: at.longitude,
                accuracy: at.accuracy.unwrap_or(0.0),
                made_at,
                seen_at: now,
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
    /// The place may be anywhere in so wide a circle.
    Vague {
        /// Its radius in metres.
        accuracy: f64,
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
            Self::Vague { .. } => "place-too-vague",
            Self::Standing(Standing::NoDevice) => "device-unknown",
            Self::Standing(Standing::NotIssued) => "certificate-unknown",
            Self::Standing(Standing::Revoked) => "certificate-revoked",
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
            Self::Vague { accuracy } => write!(f, "the place is known to {accuracy:.0} m only"),
            Self::Standing(Standing::NoDevice) => f.write_str("the CA knows no such device"),
            Self::Standing(Standing::NotIssued) => {
                f.write_str("the CA issued no such certificate to this device")
            }
            Self::Standing(Standing::Revoked) => {
                f.write_str("the CA revoked this certificate, or put it on hold")
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
    before: &Before,
) -> Vec<Finding> {
    let statement = authentic.statement();
    let mut findings = Vec::new();
    if !matches!(standing, Standing::Good | Standing::Offline) {
        findings.push(Finding::Standing(standing));
    }
    if let Freshness::Nonce { finding, .. } = freshness
        && finding != NonceFinding::Fresh
    {
        findings.push(Finding::Nonce(finding));
    }
    findings.extend(time(statement, freshness));
    let age = statement.location.as_ref().and_then(|at| at.age);
    if let Some(age_secs) = age.filter(|age| *age > FIX_AGE_SECS_MAX) {
        findings.push(Finding::Stale { age_secs });
    }
    let accuracy = statement.location.as_ref().and_then(|at| at.accuracy);
    if let Some(accuracy) = accuracy.filter(|metres| *metres > policy.accuracy_max_m) {
        findings.push(Finding::Vague { accuracy });
    }
    match before.counted {
        // Out of order: nothing to compare its place with.
        Some(last) if statement.number <= last.number => {
            findings.push(Finding::Number { last: last.number });
        }
        _ => findings.extend(movement(statement, policy, freshness, before)),
    }
    findings
}

/// The moment that a place belongs to. Two statements of one fix are of one moment, however much
/// later the second was made.
fn moment(statement: &Statement) -> i64 {
    let fix = statement.location.as_ref().and_then(|at| at.timestamp);
    fix.unwrap_or(statement.made_at)
}

/// Whether the statement's time can be by our clock. What lies ahead is false whatever freshness
/// is judged by, and as a device's last it would bar the true ones that follow.
fn time(statement: &Statement, freshness: Freshness) -> Option<Finding> {
    let now = i64::try_from(freshness.now()).unwrap_or(i64::MAX);
    let latest = now.saturating_sub(statement.made_at.max(moment(statement)));
    if latest.saturating_neg() > freshness.ahead_secs_max() {
        return Some(Finding::Time { age_secs: latest });
    }
    let age_secs = now.saturating_sub(statement.made_at);
    let Freshness::Window { secs, .. } = freshness else {
        return None;
    };
    (age_secs > i64::try_from(secs).unwrap_or(i64::MAX)).then_some(Finding::Time { age_secs })
}

/// Whether this can come after what is remembered: in time, and in place.
fn movement(
    statement: &Statement,
    policy: &StatementPolicy,
    freshness: Freshness,
    before: &Before,
) -> Option<Finding> {
    // A moment that lies ahead of the clock it was seen by tells nothing; that clock does.
    let credible = |made_at: i64, seen_at: u64| {
        let seen_at = i64::try_from(seen_at).unwrap_or(i64::MAX);
        if made_at.saturating_sub(seen_at) > freshness.ahead_secs_max() {
            seen_at
        } else {
            made_at
        }
    };
    let here = statement.location.as_ref();
    // Only a place has the receiver's clock: what else a device's TAs measure has their own.
    let place = before.place.filter(|_| here.is_some());
    let counted_at = before.counted.map(|it| credible(it.made_at, it.seen_at));
    let place_at = place.map(|it| credible(it.made_at, it.seen_at));
    let back = counted_at.max(place_at)?.saturating_sub(moment(statement));
    if back > 0 {
        return Some(Finding::TimeWentBack { secs: back });
    }
    let (here, place) = here.zip(place)?;
    let told = moment(statement).saturating_sub(place_at?);
    // The receiver says how much time went by; more than went by here it cannot be.
    let secs = match freshness.delay_secs_max() {
        Some(delay) => {
            let since = freshness.now().saturating_sub(place.seen_at);
            told.min(i64::try_from(since.saturating_add(delay)).unwrap_or(i64::MAX))
        }
        None => told,
    };
    let from = (place.latitude, place.longitude);
    let between = distance_m(from, (here.latitude, here.longitude));
    let metres = between - place.accuracy - here.accuracy.unwrap_or(0.0);
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
/// Clocks of servers and of satellites that are right differ by less than this.
const AHEAD_SECS_MAX: i64 = 300;
/// Most chains remembered: as many devices as one file or one service sees in a while.
const KNOWN_MAX: usize = 65_536;

#[cfg(test)]
mod tests;
