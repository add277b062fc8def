//! How much one session may ask for, and one owner keep.
//!
//! A session has a budget that time refills. Who uses keys faster is made to wait, which costs the
//! TEE nothing; who wants new keys faster is told to come later. The budget is the session's and
//! ends with it: how many sessions a client may have, and how often it opens one, is the TEE's
//! affair.

use tegata_ta_sdk::consts::TEE_ERROR_BUSY;
use tegata_ta_sdk::{Error, Result, system};

/// Uses of a private key in one second. A P-256 signature takes the TEE some 0.2 ms, so a session
/// can fill less than half a processor with them; and a client that was taken over for an hour
/// gets no more than this out of the key.
pub const USES_PER_SECOND: u32 = 2000;
/// Keys made at once: a device that is set up asks for a handful.
const NEW_KEYS_MAX: u32 = 16;
/// Time until one more may be made. Each costs writes to flash: at this rate for ten years, with
/// 16 KiB for a write, some 100 GB.
const NEW_KEY_MS: u64 = 10_000;
/// Labels of one owner. A service needs one or two, and the next of each is under its label.
pub const LABELS_PER_OWNER: usize = 16;
/// Labels of all owners: two objects each fit into the 256 that the TEE stores for a TA.
pub const LABELS: usize = 120;
/// Labels of all owners that are programs. One user makes as many programs as it likes, each of
/// them an owner: together they leave the rest to groups and users.
pub const LABELS_OF_PROGRAMS: usize = 60;
/// Labels of all owners that are groups. A user may be in many.
pub const LABELS_OF_GROUPS: usize = 24;
/// Longest message for an Ed25519 key in bytes: it comes into the TEE whole.
pub const MESSAGE_BYTES: usize = 256 * 1024;
/// Longest name of a profile in bytes, as in a procedure.
pub const PROFILE_BYTES: usize = 128;
/// Longest public key of a peer in bytes: SubjectPublicKeyInfo of P-384 has 120.
pub const PEER_KEY_BYTES: usize = 256;

/// So many at once, and one more after each `ms_each / per`.
struct Bucket {
    room: u32,
    left: u32,
    /// Milliseconds for `each` of them.
    refill_ms: u64,
    each: u32,
    since_ms: u64,
}

impl Bucket {
    fn refill(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.since_ms) / self.refill_ms;
        if passed > 0 {
            let more = passed.saturating_mul(u64::from(self.each));
            let left = u64::from(self.left).saturating_add(more);
            self.left = u32::try_from(left).unwrap_or(u32::MAX).min(self.room);
            self.since_ms = self
                .since_ms
                .saturating_add(passed.saturating_mul(self.refill_ms));
        }
    }

    fn take(&mut self, now_ms: u64) -> bool {
        self.refill(now_ms);
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// The budget of a session.
pub struct Budget {
    uses: Bucket,
    keys: Bucket,
}

impl Budget {
    /// A full one.
    #[must_use]
    pub fn full() -> Self {
        let since_ms = system::time_ms();
        let bucket = |room, refill_ms, each| Bucket {
            room,
            left: room,
            refill_ms,
            each,
            since_ms,
        };
        Self {
            uses: bucket(USES_PER_SECOND, 10, USES_PER_SECOND / 100),
            keys: bucket(NEW_KEYS_MAX, NEW_KEY_MS, 1),
        }
    }

    /// Takes one use of a private key, after a wait of some milliseconds if there were too many.
    ///
    /// # Errors
    /// `TEE_ERROR_CANCEL` if the client gave up waiting.
    pub fn use_key(&mut self) -> Result<()> {
        while !self.uses.take(system::time_ms()) {
            system::wait(WAIT_MS)?;
        }
        Ok(())
    }

    /// Takes one new key.
    ///
    /// # Errors
    /// `TEE_ERROR_BUSY` if there were too many: later it works.
    pub fn new_key(&mut self) -> Result<()> {
        if self.keys.take(system::time_ms()) {
            Ok(())
        } else {
            Err(Error(TEE_ERROR_BUSY))
        }
    }
}

const WAIT_MS: u32 = 10;
