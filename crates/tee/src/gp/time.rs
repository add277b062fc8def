//! Time and random numbers.
//!
//! Spec: TEE Internal Core API 1.3.1 sections 6.9 and 7. All clocks here have protection level
//! 100: the REE can influence them. A persistent clock whose REE clock ran backwards, or whose
//! record was damaged or rolled back, says `TEE_ERROR_TIME_NEEDS_RESET` rather than a wrong time.

use zeroize::Zeroizing;

use super::consts::*;
use super::fail::{Fail, Res, code, panic_with};
use super::host::{HostError, PersistentTime};
use super::state::Ctx;

fn put(c: &mut Ctx<'_>, out: u32, ms: u64) -> Res {
    let Ok(seconds) = u32::try_from(ms / 1000) else {
        return code(TEE_ERROR_OVERFLOW);
    };
    let millis = u32::try_from(ms % 1000).unwrap_or(0);
    c.mem.put_words(out, &[seconds, millis])
}

/// `TEE_GetSystemTime`.
pub fn system_time(c: &mut Ctx<'_>, out: u32) -> Res {
    let ms = c.st.services.system_time_ms()?;
    put(c, out, ms)
}

/// `TEE_GetREETime`.
pub fn ree_time(c: &mut Ctx<'_>, out: u32) -> Res {
    let ms = c.st.services.ree_time_ms()?;
    put(c, out, ms)
}

/// `TEE_GetTAPersistentTime`.
pub fn persistent_time(c: &mut Ctx<'_>, out: u32) -> Res {
    let set = match c.st.services.persistent_time() {
        Ok(Some(set)) => set,
        Ok(None) => return code(TEE_ERROR_TIME_NOT_SET),
        // Damaged or rolled back: there was a time, and which one it was is not known.
        Err(HostError::CorruptObject) => return code(TEE_ERROR_TIME_NEEDS_RESET),
        Err(error) => return Err(error.into()),
    };
    let now = c.st.services.ree_time_ms()?;
    let Some(gone) = now.checked_sub(set.ree_ms) else {
        return code(TEE_ERROR_TIME_NEEDS_RESET);
    };
    let ms = set.ta_ms.saturating_add(gone);
    if ms / 1000 > u64::from(u32::MAX) {
        // GP: the low bits are still written.
        let low = u32::try_from((ms / 1000) & u64::from(u32::MAX)).unwrap_or(0);
        c.mem
            .put_words(out, &[low, u32::try_from(ms % 1000).unwrap_or(0)])?;
        return code(TEE_ERROR_OVERFLOW);
    }
    put(c, out, ms)
}

/// `TEE_SetTAPersistentTime`.
pub fn set_persistent_time(c: &mut Ctx<'_>, time: u32) -> Res {
    let (seconds, millis) = (c.mem.u32(time)?, c.mem.u32(time.saturating_add(4))?);
    if millis >= 1000 {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    let ta_ms = u64::from(seconds) * 1000 + u64::from(millis);
    let ree_ms = c.st.services.ree_time_ms()?;
    c.st.services
        .set_persistent_time(PersistentTime { ta_ms, ree_ms })?;
    Ok(())
}

/// `TEE_Wait`: in slices, so that a cancellation ends it.
pub fn wait(c: &mut Ctx<'_>, timeout_ms: u32) -> Res {
    let start = c.st.services.system_time_ms()?;
    loop {
        let signal = c.st.poll();
        if signal.stop {
            return Err(Fail::Panic(TEE_ERROR_TARGET_DEAD));
        }
        if signal.cancel && !c.st.cancellation_masked {
            return code(TEE_ERROR_CANCEL);
        }
        let gone = c.st.services.system_time_ms()?.saturating_sub(start);
        let left = u64::from(timeout_ms).saturating_sub(gone);
        if left == 0 && timeout_ms != TEE_TIMEOUT_INFINITE {
            return Ok(());
        }
        c.st.services
            .idle(u32::try_from(left.min(WAIT_SLICE_MS)).unwrap_or(1).max(1));
    }
}

/// `TEE_GenerateRandom`.
pub fn generate_random(c: &mut Ctx<'_>, to: u32, len: u32) -> Res {
    let len_is = c.mem.bytes(to, len)?.len();
    c.st.charge_bytes(len);
    let mut bytes = Zeroizing::new(alloc::vec![0; len_is]);
    c.st.random(&mut bytes)?;
    c.mem.write(to, &bytes)
}

/// Longest sleep without a look at the cancellation flag.
const WAIT_SLICE_MS: u64 = 10;
