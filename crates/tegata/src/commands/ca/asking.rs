//! `tegata ca secret`, `waiting`, `approve` and `reject`: devices that ask without a TA.

use serde::Serialize;
use tegata_authority::UnixSecs;
use tegata_authority::config::parse_span_secs;
use tegata_authority::profile::Authentication;
use tegata_crypto::OsRng;
use tegata_store::approval::{self, ID_DIGITS};
use tegata_store::secret::{self, EnrolmentSecret, NewSecret};
use tegata_store::{StoreError, device};
use tegata_wire::ids::Ueid;

use crate::cli::asking::{CaDecide, CaSecret, SecretAdd, SecretRemove};
use crate::cli::{Common, Role, show};
use crate::commands::import::role_fault;
use crate::config;
use crate::fault::{Fault, Outcome};
use crate::roles::ca::issuer;
use crate::stores::{self, now_secs, store_fault};

/// Runs `tegata ca secret`.
///
/// # Errors
/// The configuration, the store, what is not there.
pub fn secret(command: &CaSecret) -> Outcome<()> {
    match command {
        CaSecret::Add(args) => add(args),
        CaSecret::List(common) => list(common),
        CaSecret::Remove(args) => remove(args),
    }
}

fn add(args: &SecretAdd) -> Outcome<()> {
    let ueid = whole_ueid(&args.device)?;
    let span = parse_span_secs(&args.expires).filter(|secs| *secs > 0);
    let span = span.ok_or_else(|| {
        Fault::usage(
            "not-a-span",
            format!("{} is not a span of time", args.expires),
            "Write a number and a unit, for example 12h or 7d.",
        )
    })?;
    let config = config::load(&args.common.config)?;
    let issuer = issuer(&config)?;
    let profile = issuer.profiles().find(&args.profile).ok_or_else(|| {
        Fault::usage(
            "no-profile",
            format!("there is no profile {}", args.profile),
            "The profile file of [ca] has the profiles; `profiles` in the configuration names it.",
        )
    })?;
    if !profile.allows(Authentication::Secret) {
        return Err(Fault::usage(
            "profile-without-secret",
            format!("the profile {} takes no enrolment secrets", profile.name),
            "Add \"secret\" to its `authentication` in the profile file, and restart the server.",
        ));
    }
    let now = UnixSecs(now_secs());
    let new = NewSecret {
        ueid,
        profile: profile.name.clone(),
        uses: args.uses,
        expires: UnixSecs(now.0.saturating_add(span)),
    };
    let made = secret::make(issuer.role(), &new, &mut OsRng, now).map_err(|e| role_fault(&e))?;
    let text = made.text.expose_secret();
    if args.common.json {
        return show::json(&serde_json::json!({
            "id": made.id, "secret": text, "device": ueid.to_string(), "profile": new.profile,
            "uses": new.uses, "expires": new.expires.0,
        }));
    }
    show::record(&[
        ("id", made.id.clone()),
        ("secret", text.clone()),
        ("device", ueid.to_string()),
        ("profile", new.profile.clone()),
        ("uses", new.uses.to_string()),
        ("until", show::time(new.expires.0)),
    ]);
    show::lines([
        String::new(),
        "The secret is not shown again. Bring it to the device by a way that nobody reads along."
            .to_owned(),
    ]);
    Ok(())
}

fn whole_ueid(text: &str) -> Outcome<Ueid> {
    text.to_lowercase().parse().map_err(|_| {
        Fault::usage(
            "not-a-ueid",
            format!("{text} is not a UEID"),
            "`tegata device list` shows the UEID of each device; give it whole.",
        )
    })
}

/// A secret in a list.
#[derive(Serialize)]
struct ListedSecret {
    id: String,
    device: String,
    profile: String,
    uses: u32,
    used: u32,
    state: &'static str,
    made: u64,
    expires: u64,
}

fn list(common: &Common) -> Outcome<()> {
    let config = config::load(&common.config)?;
    let store = stores::open(&config, Role::Ca)?;
    let now = i64::try_from(now_secs()).unwrap_or(i64::MAX);
    let secs = |at: i64| u64::try_from(at).unwrap_or(0);
    let rows = store
        .read("list secrets", |tx| {
            let rows = secret::list(tx)?;
            let listed = rows.into_iter().map(|row: EnrolmentSecret| {
                let device = device::find_by_id(tx, row.device)?;
                Ok(ListedSecret {
                    device: device.map(|d| d.ueid.to_string()).unwrap_or_default(),
                    state: match row.used < row.uses {
                        _ if row.expires_at <= now => "ended",
                        true => "good",
                        false => "used up",
                    },
                    id: row.id,
                    profile: row.profile,
                    uses: row.uses,
                    used: row.used,
                    made: secs(row.made_at),
                    expires: secs(row.expires_at),
                })
            });
            listed.collect::<Result<Vec<_>, StoreError>>()
        })
        .map_err(|e| store_fault(&e))?;
    if common.json {
        return show::json(&rows);
    }
    let table: Vec<[String; 6]> = rows
        .iter()
        .map(|row| {
            [
                row.id.clone(),
                row.device.clone(),
                row.profile.clone(),
                format!("{} of {}", row.used, row.uses),
                row.state.to_owned(),
                show::time(row.expires),
            ]
        })
        .collect();
    show::table(
        ["ID", "DEVICE", "PROFILE", "USED", "STATE", "UNTIL"],
        &table,
        "There is no enrolment secret.",
    );
    Ok(())
}

fn remove(args: &SecretRemove) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let store = stores::open(&config, Role::Ca)?;
    let found = store
        .run_tx("remove secret", |tx| secret::remove(tx, &args.id))
        .map_err(|e: StoreError| store_fault(&e))?;
    if !found {
        return Err(Fault::failed(
            "no-secret",
            format!("there is no enrolment secret {}", args.id),
            "`tegata ca secret list` shows all.",
        ));
    }
    if args.common.json {
        return show::json(&serde_json::json!({ "removed": args.id }));
    }
    show::lines([format!("{} is removed; what it gave stays.", args.id)]);
    Ok(())
}

/// A request in the list of those that wait.
#[derive(Serialize)]
struct Waiting {
    request: String,
    device: String,
    device_serial: String,
    profile: String,
    by: String,
    since: u64,
}

/// Runs `tegata ca waiting`.
///
/// # Errors
/// The configuration or the store.
pub fn waiting(common: &Common) -> Outcome<()> {
    let config = config::load(&common.config)?;
    let store = stores::open(&config, Role::Ca)?;
    let rows = store
        .read("list waiting", |tx| {
            let rows = approval::waiting(tx)?;
            let listed = rows.into_iter().map(|row| {
                let device = device::find_by_id(tx, row.device)?;
                let names = device.map(|d| (d.ueid.to_string(), d.serial));
                let (device, device_serial) = names.unwrap_or_default();
                Ok(Waiting {
                    request: row.id(),
                    device,
                    device_serial,
                    profile: row.profile,
                    by: row.asker,
                    since: u64::try_from(row.asked_at).unwrap_or(0),
                })
            });
            listed.collect::<Result<Vec<_>, StoreError>>()
        })
        .map_err(|e| store_fault(&e))?;
    if common.json {
        return show::json(&rows);
    }
    let table: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            [
                row.request.clone(),
                row.device_serial.clone(),
                row.profile.clone(),
                row.by.clone(),
                show::time(row.since),
            ]
        })
        .collect();
    show::table(
        ["REQUEST", "DEVICE", "PROFILE", "ASKED BY", "SINCE"],
        &table,
        "No request waits.",
    );
    Ok(())
}

/// Runs `tegata ca approve` and `tegata ca reject`.
///
/// # Errors
/// The configuration, the store; no such request, or several.
pub fn decide(args: &CaDecide, approve: bool) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let store = stores::open(&config, Role::Ca)?;
    // A shorter beginning could be another request's by the time it is read.
    if args.request.len() < ID_DIGITS {
        return Err(Fault::usage(
            "not-a-request",
            format!("{:?} is not the id of a request", args.request),
            "Give all of its digits, as `tegata ca waiting` shows them.",
        ));
    }
    let now = UnixSecs(now_secs());
    let ueid = args.device.as_deref().map(whole_ueid).transpose()?;
    let said = store.run_tx("decide", |tx| {
        approval::say(tx, &args.request, ueid.as_ref(), approve, now)
    });
    let said = said.map_err(|e: StoreError| store_fault(&e))?;
    let row = said.ok_or_else(|| {
        Fault::failed(
            "not-one",
            format!("no single request begins with {}", args.request),
            "`tegata ca waiting` shows all that wait. Where two devices ask the same, name one: --device UEID.",
        )
    })?;
    if row.approved != Some(approve) {
        let stands = if approve { "rejected" } else { "approved" };
        return Err(Fault::failed(
            "decided",
            format!("{} was {stands} before", row.id()),
            "The first word stays: the client asks with another key.",
        ));
    }
    let word = if approve { "approved" } else { "rejected" };
    if args.common.json {
        return show::json(&serde_json::json!({ "request": row.id(), "decision": word }));
    }
    show::lines([format!(
        "{} is {word}; the client hears it when it next asks.",
        row.id()
    )]);
    Ok(())
}
