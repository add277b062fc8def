use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{CryptoError, Rng, Secret};

use super::challenge::{CHALLENGE_SECS, ChallengeDenied, ChallengeKey};
use crate::{UnixMs, UnixSecs};

struct Fixed(u8);

impl Rng for Fixed {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        out.fill(self.0);
        Ok(())
    }
}

const NOW: UnixMs = UnixMs(1_795_000_000_000);

#[test]
fn a_challenge_is_ours_until_it_expires() {
    let p = &RustCrypto;
    let key = ChallengeKey::new(Secret::new([1; 32]));
    let other = ChallengeKey::new(Secret::new([2; 32]));
    let challenge = key.make(p, &mut Fixed(7), b"one", NOW).unwrap();
    let now = NOW.secs().0;
    assert_eq!(key.check(p, &challenge, b"one", UnixSecs(now)), Ok(()));
    assert_eq!(
        key.check(p, &challenge, b"one", UnixSecs(now + CHALLENGE_SECS)),
        Ok(())
    );
    let expired = Err(ChallengeDenied::Expired);
    assert_eq!(
        key.check(p, &challenge, b"one", UnixSecs(now + CHALLENGE_SECS + 1)),
        expired
    );
    assert_eq!(key.check(p, &challenge, b"one", UnixSecs(now - 30)), Ok(()));
    assert_eq!(
        key.check(p, &challenge, b"one", UnixSecs(now - 31)),
        Err(ChallengeDenied::Ahead)
    );
    let foreign = Err(ChallengeDenied::Foreign);
    assert_eq!(other.check(p, &challenge, b"one", UnixSecs(now)), foreign);
    for another in [&b"two"[..], b"", b"one "] {
        assert_eq!(key.check(p, &challenge, another, UnixSecs(now)), foreign);
    }
    for at in 0..challenge.len() {
        let mut altered = challenge;
        altered[at] ^= 1;
        assert_eq!(
            key.check(p, &altered, b"one", UnixSecs(now)),
            foreign,
            "byte {at}"
        );
        assert_eq!(
            key.check(p, &challenge[..at], b"one", UnixSecs(now)),
            foreign
        );
    }
    let long = [challenge.as_slice(), &[0]].concat();
    assert_eq!(key.check(p, &long, b"one", UnixSecs(now)), foreign);
}
