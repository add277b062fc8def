//! The roles' stores, opened with sentences instead of error codes.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use tegata_store::{Store, StoreError, keys};

use crate::cli::Role;
use crate::config::Config;
use crate::fault::{Fault, Outcome};
use crate::serve::role_name;

/// Opens the store of a role, which `tegata init` has made.
///
/// # Errors
/// Missing, locked, damaged, not ours, newer, full disk: each with how to mend it.
pub fn open(config: &Config, role: Role) -> Outcome<Store> {
    if !exists(config, role)? {
        let (what, key) = match &config.database {
            None => (format!("store {}", place(config, role).display()), "dir"),
            Some(_) => (
                format!(
                    "schema tegata_{} in the database, or this role may not see it",
                    role_name(role)
                ),
                "database",
            ),
        };
        return Err(Fault::environment(
            "no-store",
            format!("there is no {what}"),
            format!(
                "Correct [store] {key} in the configuration, or restore the store from your backup: a new one has \
                 other keys. A new installation begins with `tegata init --dir DIR`."
            ),
        ));
    }
    Store::open(place(config, role)).map_err(|e| store_fault(&e))
}

/// Whether there is a store of a role that has a key.
///
/// # Errors
/// As [`open`].
pub fn has_keys(config: &Config, role: Role) -> Outcome<bool> {
    if !exists(config, role)? {
        return Ok(false);
    }
    open(config, role)?
        .read("look for keys", keys::any)
        .map_err(|e| store_fault(&e))
}

/// Where the store of a role is: a file, or the address of a database.
#[must_use]
pub fn place(config: &Config, role: Role) -> PathBuf {
    let name = role_name(role);
    match &config.database {
        None => config.store_dir.join(format!("{name}.db")),
        Some(database) => database.place(name),
    }
}

/// Whether there is a store of a role.
///
/// # Errors
/// A database that cannot be asked.
pub fn exists(config: &Config, role: Role) -> Outcome<bool> {
    Store::exists(place(config, role)).map_err(|e| store_fault(&e))
}

/// The store's sentence, split into what happened and how to mend it.
#[must_use]
pub fn store_fault(error: &StoreError) -> Fault {
    let text = error.to_string();
    let (what, mend) = match text.split_once("; ") {
        Some((what, mend)) => (what.to_owned(), sentence(mend)),
        None => (text, "Read the log for what came before.".to_owned()),
    };
    Fault::environment(error.code(), what, mend)
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    format!(
        "{}{}.",
        first.unwrap_or_default(),
        chars.as_str().trim_end_matches('.')
    )
}

/// Seconds since 1970; the one clock of the servers.
#[must_use]
pub fn now_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// Milliseconds since the machine started, the time it slept included. It never goes back, whatever
/// is done to the time of day.
#[must_use]
pub fn since_boot_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let ms = u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0);
    secs.saturating_mul(1_000).saturating_add(ms)
}
