//! Whether a machine has a counter that storage can hang on.

use crate::platform::{AntiRollback, MonotonicCounter, PlatformError};

/// The counter of a machine whose system says that its storage is protected at `level`
/// (`gpd.tee.trustedStorage.antiRollback.protectionLevel`): `None` only if it says less than
/// hardware.
///
/// # Errors
/// [`PlatformError::Counter`] if the system does not say, or says hardware and the counter does not
/// answer. The machine must not run then: without the counter it would take storage that was put
/// back, and what it wrote would be ahead of the counter when that answers again.
pub fn counter_at<C: MonotonicCounter, E>(
    level: Result<u32, E>,
    counter: C,
) -> Result<Option<C>, PlatformError> {
    if level.map_err(|_| PlatformError::Counter)? < AntiRollback::Hardware.level() {
        return Ok(None);
    }
    counter.read()?;
    Ok(Some(counter))
}
