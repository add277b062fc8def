//! Challenges that need no memory until they are used.
//!
//! A challenge is time ‖ random ‖ MAC under a key of the server, the TAM or the CA: asking for one changes no state, so
//! nobody can fill the store by asking. That it is used once is recorded when it is used, by a
//! device that has authenticated itself.

use tegata_crypto::{CryptoError, Provider, Rng, Secret, ct_eq};

use crate::{UnixMs, UnixSecs};

/// Length of a challenge in bytes.
pub const CHALLENGE_LEN_BYTES: usize = 32;
/// How long a challenge may be used, in seconds: a device on a slow line needs a minute.
pub const CHALLENGE_SECS: u64 = 600;

/// The server's key for its challenges.
#[derive(Debug)]
pub struct ChallengeKey(Secret<[u8; 32]>);

/// Why a challenge is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChallengeDenied {
    /// Not made by this server, or for another use.
    #[error("the challenge is not one of this server for this use")]
    Foreign,
    /// Too old.
    #[error("the challenge has expired")]
    Expired,
    /// Of the future: another server with this key made it.
    #[error(
        "the challenge is of the future: the clocks of the servers that share their work differ"
    )]
    Ahead,
}

impl ChallengeKey {
    /// Takes 32 random bytes.
    #[must_use]
    pub fn new(key: Secret<[u8; 32]>) -> Self {
        Self(key)
    }

    /// Makes a challenge for one use: no other takes it. A server that has one use says nothing.
    ///
    /// # Errors
    /// A failing generator.
    pub fn make(
        &self,
        provider: &dyn Provider,
        rng: &mut dyn Rng,
        for_use: &[u8],
        now: UnixMs,
    ) -> Result<[u8; CHALLENGE_LEN_BYTES], CryptoError> {
        let mut out = [0; CHALLENGE_LEN_BYTES];
        let (head, mac) = out.split_at_mut(HEAD_LEN_BYTES);
        let (time, random) = head.split_at_mut(TIME_LEN_BYTES);
        for (to, from) in time.iter_mut().zip(now.0.to_be_bytes().iter().skip(2)) {
            *to = *from;
        }
        rng.fill(random)?;
        let full = self.mac(provider, head, for_use);
        for (to, from) in mac.iter_mut().zip(full) {
            *to = from;
        }
        Ok(out)
    }

    /// `head` has one length, so nothing of it can be taken for the use.
    fn mac(&self, provider: &dyn Provider, head: &[u8], for_use: &[u8]) -> [u8; 32] {
        provider.hmac_sha256(self.0.expose_secret(), &[head, for_use].concat())
    }

    /// Checks that a challenge is ours, for that use, and not expired. Whether it was used is for the store.
    ///
    /// # Errors
    /// `Foreign`, `Expired` or `Ahead`.
    pub fn check(
        &self,
        provider: &dyn Provider,
        challenge: &[u8],
        for_use: &[u8],
        now: UnixSecs,
    ) -> Result<(), ChallengeDenied> {
        let Some((head, mac)) = challenge.split_at_checked(HEAD_LEN_BYTES) else {
            return Err(ChallengeDenied::Foreign);
        };
        let full = self.mac(provider, head, for_use);
        let expected = full
            .get(..CHALLENGE_LEN_BYTES - HEAD_LEN_BYTES)
            .unwrap_or_default();
        if !ct_eq(expected, mac) {
            return Err(ChallengeDenied::Foreign);
        }
        let time = head
            .iter()
            .take(TIME_LEN_BYTES)
            .fold(0u64, |n, b| (n << 8) | u64::from(*b));
        let made = UnixMs(time).secs().0;
        if made > now.0.saturating_add(CLOCK_SLACK_SECS) {
            return Err(ChallengeDenied::Ahead);
        }
        if now.0 > made.saturating_add(CHALLENGE_SECS) {
            return Err(ChallengeDenied::Expired);
        }
        Ok(())
    }
}

/// Time in milliseconds, then 10 random bytes.
const HEAD_LEN_BYTES: usize = 16;
const TIME_LEN_BYTES: usize = 6;
/// Several servers may share the key; their clocks differ.
const CLOCK_SLACK_SECS: u64 = 30;
