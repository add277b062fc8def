//! The end of a CA, said before it comes: in the log each day, by `/healthz`, by `tegata ca generations`. And a
//! clock that nothing is issued by.

use std::sync::Arc;
use std::time::Duration;

use tegata_authority::UnixSecs;
use tegata_store::generation::{EndsSoon, Kind};
use tegata_store::issuer::Issuer;
use tracing::warn;

use crate::cli::show;
use crate::stores::now_secs;

/// Time between two looks.
const BETWEEN: Duration = Duration::from_secs(86_400);

/// What ends, when, and what to do.
#[must_use]
pub fn sentence(soon: &EndsSoon, now: UnixSecs) -> String {
    let (what, option) = match soon.kind {
        Kind::Root => ("root", "--root"),
        Kind::Issuing => ("issuing CA", "--issuing"),
    };
    let verb = if soon.at < now { "ended" } else { "ends" };
    let (number, date) = (soon.number, show::date(soon.at.0));
    format!(
        "{what} {number} {verb} on {date}: go over to the next with `tegata ca rollover {option}` \
         (docs/ops/rollover.md)"
    )
}

/// What there is to say of a CA now; nothing also where its store cannot be asked.
#[must_use]
pub fn of(issuer: &Issuer) -> Option<String> {
    let now = UnixSecs(now_secs());
    if let Ok(Some(doubt)) = issuer.clock_doubt(now) {
        return Some(format!(
            "nothing is issued: {doubt}. Set the clock; if it is right, make the next issuing CA with \
             `tegata ca rollover --issuing --clock-is-right` (docs/ops/rollover.md)"
        ));
    }
    let soon = issuer.ends_soon(now).ok().flatten()?;
    Some(sentence(&soon, now))
}

/// Warns now and each day, until the runtime ends.
pub fn watch(issuer: Arc<Issuer>) {
    tokio::spawn(async move {
        loop {
            let issuer = Arc::clone(&issuer);
            match tokio::task::spawn_blocking(move || of(&issuer)).await {
                Ok(Some(what)) => warn!(role = "ca", reason = "ca-ends-soon", "{what}"),
                Ok(None) => {}
                Err(failed) if failed.is_panic() => {
                    warn!(role = "ca", "the look at the CA's end failed")
                }
                // The runtime ends.
                Err(_) => return,
            }
            tokio::time::sleep(BETWEEN).await;
        }
    });
}
