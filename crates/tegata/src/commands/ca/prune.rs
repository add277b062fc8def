//! `tegata ca prune`: certificates that ended long ago move into the archive, now.

use std::time::Instant;

use tegata_authority::UnixSecs;
use tegata_store::archive::{sweep_some, would_sweep};

use crate::cli::{CaPrune, Role, show};
use crate::commands::progress::{Doing, EVERY_SECS, Progress};
use crate::config;
use crate::fault::{Fault, Outcome};
use crate::stores::{self, now_secs, store_fault};

/// Counts, and moves unless it is a dry run.
///
/// # Errors
/// The configuration or the store; what was moved stays so.
pub fn run(args: &CaPrune) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let store = stores::open(&config, Role::Ca)?;
    let Some(ca) = &config.ca else {
        return Err(Fault::usage(
            "role-not-configured",
            format!("{} has no section [ca]", config.path.display()),
            "Run this on the CA's machine, with its configuration.",
        ));
    };
    let now = UnixSecs(now_secs());
    let would = would_sweep(&store, ca.keep_secs, now).map_err(|e| store_fault(&e))?;
    let mut done = would;
    if !args.dry_run {
        done = Default::default();
        let moving = Doing {
            step: "archive",
            done: "archived",
        };
        let mut shown = Progress::new(moving, Some(would.rows()), args.common.json, EVERY_SECS);
        loop {
            let begun = Instant::now();
            let part = sweep_some(&store, ca.keep_secs, now).map_err(|e| store_fault(&e))?;
            if part.rows() == 0 {
                break;
            }
            done.archived = done.archived.saturating_add(part.archived);
            done.forgotten = done.forgotten.saturating_add(part.forgotten);
            done.returned = done.returned.saturating_add(part.returned);
            shown.at(done.rows(), done.archived);
            // The server works meanwhile: half of the time is its.
            std::thread::sleep(begun.elapsed());
        }
        shown.finish();
    }
    let days = ca.keep_secs / 86_400;
    if args.common.json {
        return show::json(&serde_json::json!({
            "dry_run": args.dry_run, "keep_days": days,
            "archived": done.archived, "forgotten": done.forgotten, "returned": done.returned,
        }));
    }
    let verb = if args.dry_run { "would be" } else { "were" };
    show::lines([format!(
        "{} certificates that ended more than {days} days ago {verb} archived, {} that were never \
         signed {verb} forgotten, {} that had not ended {verb} brought back",
        done.archived, done.forgotten, done.returned
    )]);
    Ok(())
}
