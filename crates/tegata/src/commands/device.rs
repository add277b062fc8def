//! `tegata device list`, `show` and `forget`: what the roles of this machine know of devices.

use std::collections::HashMap;

use serde::Serialize;
use tegata_store::device::{self, Device, DeviceId};
use tegata_store::{Store, StoreError, archive, certificate, statement, teep};
use tegata_wire::ids::Ueid;

use crate::cli::{Common, DeviceForget, Role, ShowOne, show};
use crate::commands::ca;
use crate::config::{self, Config};
use crate::fault::{Fault, Outcome};
use crate::stores::{self, store_fault};

/// Rows asked for at once.
const PAGE: u32 = 500;

/// A device in a list.
#[derive(Debug, Serialize)]
struct Listed {
    ueid: String,
    serial: String,
    model: String,
    batch: String,
    root_of_trust: &'static str,
    certificates: usize,
}

/// A TA on a device, as the device reported it.
#[derive(Debug, Serialize)]
struct Installed {
    ta: String,
    release: Option<String>,
    sequence: Option<u64>,
}

/// An Update that the TAM sent.
#[derive(Debug, Serialize)]
struct Update {
    at: u64,
    release: Option<String>,
    sequence: Option<u64>,
    outcome: String,
    detail: Option<String>,
}

/// The stores of this machine, the CA's first.
fn here(config: &Config) -> Outcome<Vec<(Role, Store)>> {
    let mut found = Vec::new();
    for role in [Role::Ca, Role::Tam, Role::Verifier] {
        if stores::exists(config, role)? {
            found.push((role, stores::open(config, role)?));
        }
    }
    if found.is_empty() {
        // The same sentence as for any missing store.
        stores::open(config, Role::Ca)?;
    }
    Ok(found)
}

/// All devices of a store, in the order of their import.
///
/// # Errors
/// The store's.
pub fn all(store: &Store) -> Result<Vec<Device>, StoreError> {
    let mut rows: Vec<Device> = Vec::new();
    loop {
        let after = rows.last().map_or(DeviceId(0), |row| row.id);
        let page = store.read("list devices", |tx| device::list(tx, after, PAGE))?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

/// `tegata device list`.
///
/// # Errors
/// The configuration or the store.
pub fn list(common: &Common) -> Outcome<()> {
    let config = config::load(&common.config)?;
    let stores = here(&config)?;
    let Some((role, store)) = stores.first() else {
        return Ok(());
    };
    let devices = all(store).map_err(|e| store_fault(&e))?;
    let certificates = match role {
        Role::Ca => ca::all(store).map_err(|e| store_fault(&e))?,
        _ => Vec::new(),
    };
    let listed: Vec<Listed> = devices
        .iter()
        .map(|device| Listed {
            ueid: device.ueid.to_string(),
            serial: device.serial.clone(),
            model: device.model.clone(),
            batch: device.batch.clone(),
            root_of_trust: root_of_trust(device),
            certificates: certificates
                .iter()
                .filter(|row| row.intent.device == device.id && row.der.is_some())
                .count(),
        })
        .collect();
    if common.json {
        return show::json(&listed);
    }
    let rows: Vec<[String; 5]> = listed
        .into_iter()
        .map(|row| {
            [
                row.ueid,
                row.serial,
                row.model,
                row.batch,
                row.certificates.to_string(),
            ]
        })
        .collect();
    show::table(
        ["UEID", "SERIAL NUMBER", "MODEL", "BATCH", "CERTIFICATES"],
        &rows,
        "No device is known yet; import a manifest with `tegata factory import`.",
    );
    Ok(())
}

/// `tegata device show`.
///
/// # Errors
/// The configuration or the store; nothing found.
pub fn show_one(args: &ShowOne) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let stores = here(&config)?;
    // What is no beginning of a UEID may be a serial number all the same.
    let wanted = super::beginning("a UEID", &args.id);
    let Some((_, first)) = stores.first() else {
        return Ok(());
    };
    let mut found: Vec<Device> = all(first)
        .map_err(|e| store_fault(&e))?
        .into_iter()
        .filter(|row| {
            let begins = |digits| row.ueid.to_string().starts_with(digits);
            row.serial == args.id || wanted.as_deref().is_ok_and(begins)
        })
        .collect();
    let (Some(device), true) = (found.pop(), found.is_empty()) else {
        return Err(Fault::failed(
            "not-one",
            format!(
                "no single device has a UEID that begins with {}, or that serial",
                args.id
            ),
            "`tegata device list` shows all; give enough of the beginning.",
        ));
    };
    let mut certificates = Vec::new();
    let mut installed = Vec::new();
    let mut updates = Vec::new();
    for (role, store) in &stores {
        match role {
            Role::Ca => {
                certificates = of_ca(store, &device).map_err(|e| store_fault(&e))?;
            }
            Role::Tam => {
                (installed, updates) = of_tam(store, &device).map_err(|e| store_fault(&e))?;
            }
            Role::Verifier | Role::Verify => {}
        }
    }
    if args.common.json {
        return show::json(&serde_json::json!({
            "ueid": device.ueid.to_string(), "serial": device.serial, "model": device.model,
            "batch": device.batch, "root_of_trust": root_of_trust(&device),
            "certificates": certificates, "installed": installed,
            "updates": updates,
        }));
    }
    let mut record = vec![
        ("ueid", device.ueid.to_string()),
        ("serial number", device.serial.clone()),
        ("model", device.model.clone()),
        ("batch", device.batch.clone()),
        (
            "root of trust",
            match device.has_tee {
                true => "TEE, endorsed by its factory".to_owned(),
                false => "PSA, registered by the operator".to_owned(),
            },
        ),
    ];
    for row in &certificates {
        record.push((
            "certificate",
            format!(
                "{}  {}  {}, until {}",
                row.serial,
                row.profile,
                row.state,
                show::date(row.not_after)
            ),
        ));
    }
    for row in &installed {
        let release = row.release.as_deref().unwrap_or("nothing");
        let sequence = row.sequence.map(|n| format!("  #{n}")).unwrap_or_default();
        record.push((
            "installed TA",
            format!("{}  release {release}{sequence}", row.ta),
        ));
    }
    for row in &updates {
        let what = match (&row.release, row.sequence) {
            (Some(release), Some(n)) => format!("release {}… #{n}", short(release)),
            _ => "removal".to_owned(),
        };
        let detail = row
            .detail
            .as_deref()
            .map(|d| format!("  ({d})"))
            .unwrap_or_default();
        record.push((
            "update sent",
            format!("{}  {what}  {}{detail}", show::time(row.at), row.outcome),
        ));
    }
    show::record(&record);
    Ok(())
}

/// `tegata device forget`: what the verify role remembers of a device.
///
/// # Errors
/// The configuration or the store; nothing remembered.
pub fn forget(args: &DeviceForget) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let ueid: Ueid = args.ueid.parse().map_err(|_| {
        Fault::usage(
            "bad-ueid",
            format!("`{}` is not a UEID", args.ueid),
            "Give the whole UEID, as `tegata device list` shows it.",
        )
    })?;
    let store = stores::open(&config, Role::Verify)?;
    let forgotten = store
        .run_tx("forget a device", |tx| {
            statement::forget(tx, &ueid, args.numbers)
        })
        .map_err(|e: StoreError| store_fault(&e))?;
    if !forgotten {
        return Err(Fault::failed(
            "nothing-remembered",
            format!("the verify role remembers nothing of {ueid}"),
            "Check the UEID, and that this is the machine where the verify role runs.",
        ));
    }
    if args.common.json {
        return show::json(&serde_json::json!({
            "ueid": ueid.to_string(), "forgotten": true, "numbers": args.numbers,
        }));
    }
    let what = if args.numbers {
        "place, time and numbers"
    } else {
        "place and time"
    };
    show::lines([format!("forgot {what} of {ueid}")]);
    Ok(())
}

/// What vouches for a device.
fn root_of_trust(device: &Device) -> &'static str {
    match device.has_tee {
        true => "tee",
        false => "psa",
    }
}

/// The beginning of a digest, for people.
#[must_use]
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Certificates of a device that are shown, of each place.
const SHOWN_MAX: u32 = 1_000;

fn of_ca(store: &Store, device: &Device) -> Result<Vec<ca::Listed>, StoreError> {
    let mut rows = store.read("certificates of a device", |tx| {
        let mut rows = certificate::of_device(tx, device.id, SHOWN_MAX)?;
        rows.extend(archive::of_device(tx, device.id, SHOWN_MAX)?);
        Ok::<_, StoreError>(rows)
    })?;
    rows.reverse();
    let name = (device.ueid.to_string(), device.serial.clone());
    Ok(ca::listed(&rows, &HashMap::from([(device.id.0, name)])))
}

fn of_tam(store: &Store, device: &Device) -> Result<(Vec<Installed>, Vec<Update>), StoreError> {
    store.read("show a device", |tx| {
        let Some(known) = device::find(tx, &device.ueid)? else {
            return Ok((Vec::new(), Vec::new()));
        };
        let installed = teep::installed(tx, known.id)?
            .into_iter()
            .map(|(ta, release, sequence)| Installed {
                ta: ta.to_string(),
                release: release.map(|digest| digest.to_string()),
                sequence,
            })
            .collect();
        let updates = teep::updates_of(tx, known.id)?
            .into_iter()
            .map(|sent| Update {
                at: u64::try_from(sent.sent_at).unwrap_or(0),
                release: sent.release.map(|(digest, _)| digest.to_string()),
                sequence: sent.release.map(|(_, sequence)| sequence),
                outcome: sent.outcome.unwrap_or_else(|| "no answer yet".to_owned()),
                detail: sent.detail,
            })
            .collect();
        Ok((installed, updates))
    })
}
