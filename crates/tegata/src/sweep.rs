//! What a server does beside its requests: it moves aside what has ended, a little at a time.
//!
//! A sweep keeps no state and changes nothing that a request would be answered, so it may be cut off
//! at any moment, and beside other processes on the same store it does no harm.

use std::sync::Arc;
use std::time::Duration;

use tegata_authority::UnixSecs;
use tegata_store::{Store, StoreError};
use tracing::{info, warn};

use crate::stores::now_secs;

/// Time between two sweeps.
const BETWEEN: Duration = Duration::from_secs(3_600);
/// Time between two transactions of a sweep: requests come first.
const GAP: Duration = Duration::from_millis(20);

/// Sweeps now and each hour, until the runtime ends. `some` does one transaction and says how many
/// rows it moved; none when nothing is left.
pub fn start<F>(role: &'static str, store: Arc<Store>, some: F)
where
    F: Fn(&Store, UnixSecs) -> Result<u64, StoreError> + Send + Sync + 'static,
{
    let some = Arc::new(some);
    tokio::spawn(async move {
        loop {
            let mut moved = 0_u64;
            loop {
                let (store, some) = (Arc::clone(&store), Arc::clone(&some));
                let work = move || some(&store, UnixSecs(now_secs()));
                match tokio::task::spawn_blocking(work).await {
                    Ok(Ok(0)) => break,
                    Ok(Ok(rows)) => moved = moved.saturating_add(rows),
                    Ok(Err(error)) => {
                        let reason = error.code();
                        warn!(role, reason, cause = %error, "the sweep stopped; it goes on later");
                        break;
                    }
                    Err(failed) if failed.is_panic() => {
                        warn!(role, "the sweep failed; it goes on later");
                        break;
                    }
                    // The runtime ends.
                    Err(_) => return,
                }
                tokio::time::sleep(GAP).await;
            }
            if moved > 0 {
                info!(role, moved, "what had ended was moved aside");
            }
            tokio::time::sleep(BETWEEN).await;
        }
    });
}
