//! One small generator: the same seed makes the same run, on every machine.

use tegata_crypto::{CryptoError, Rng};

/// SplitMix64. Spread well enough for choices; the "random" bytes of simulated machines come from
/// it too, so a run can be repeated to the bit.
#[derive(Clone, Debug)]
pub struct Prng(u64);

impl Prng {
    /// A stream for `seed` and a purpose, independent of the streams of other purposes.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut prng = Self(seed);
        for byte in purpose.bytes() {
            prng.0 ^= u64::from(byte).wrapping_mul(0x0000_0100_0000_01b3);
            prng.next();
        }
        prng
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// 32 bits, to be reduced by whoever knows how many things there are to choose from.
    pub fn pick(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

impl Rng for Prng {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        for chunk in out.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        Ok(())
    }
}

/// Element number `pick` of a list that is as long as it happens to be.
pub fn choose<T>(list: &[T], pick: u32) -> Option<&T> {
    match list.len() {
        0 => None,
        len => list.get(pick as usize % len),
    }
}
