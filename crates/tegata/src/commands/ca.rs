//! `tegata ca`: the certificates that were issued, and taking them back.

mod asking;
pub mod ca_files;
mod prune;
mod revoke;
pub mod rollover;
mod root_list;
mod scoped;

use std::collections::HashMap;

use serde::Serialize;
use tegata_store::archive;
use tegata_store::certificate::{self, Certificate};
use tegata_store::device::{self, DeviceId};
use tegata_store::{Store, StoreError};

use crate::certificate::{fields, serial_text, to_pem};
use crate::cli::{CaCommand, Common, Role, ShowOne, show};
use crate::config;
use crate::fault::{Fault, Outcome};
use crate::stores::{self, store_fault};

/// Rows asked for at once.
const PAGE: u32 = 500;

/// A certificate in a list.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Serial number, `01:8f:…`.
    pub serial: String,
    /// Device, hexadecimal.
    pub ueid: String,
    /// Serial number of the device.
    pub device_serial: String,
    /// Profile.
    pub profile: String,
    /// `revoked`, `held`, `intended`, `issued`, `confirmed` or `rejected`.
    pub state: &'static str,
    /// Issued (or intended) at, seconds since 1970.
    pub at: u64,
    /// End of validity, seconds since 1970.
    pub not_after: u64,
    /// Number of its shard.
    pub shard: u64,
    /// SHA-256 of the evidence that it was issued for, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// Why it is revoked, as in RFC 5280.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Since when it is revoked or on hold, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<u64>,
}

/// Runs the command.
///
/// # Errors
/// The configuration or the store; nothing found.
pub fn run(command: &CaCommand) -> Outcome<()> {
    match command {
        CaCommand::List(common) => list(common),
        CaCommand::Show(args) => show_one(args),
        CaCommand::Revoke(args) => revoke::revoke(args),
        CaCommand::Unhold(args) => revoke::unhold(args),
        CaCommand::Secret(command) => asking::secret(command),
        CaCommand::Waiting(common) => asking::waiting(common),
        CaCommand::Approve(args) => asking::decide(args, true),
        CaCommand::Reject(args) => asking::decide(args, false),
        CaCommand::Prune(args) => prune::run(args),
        CaCommand::RootList(args) => root_list::run(args),
        CaCommand::Stops(args) => scoped::stops(args),
        CaCommand::Rollover(args) => rollover::run(args),
        CaCommand::Generations(common) => rollover::list(common),
    }
}

/// What became of a certificate.
#[must_use]
pub fn state(row: &Certificate) -> &'static str {
    match row {
        row if !row.standing.is_good() => row.standing.name(),
        Certificate {
            rejected_at: Some(_),
            ..
        } => "rejected",
        Certificate {
            confirmed_at: Some(_),
            ..
        } => "confirmed",
        Certificate { der: Some(_), .. } => "issued",
        _ => "intended",
    }
}

/// All certificates, oldest first.
///
/// # Errors
/// The store's.
pub fn all(store: &Store) -> Result<Vec<Certificate>, StoreError> {
    let mut rows: Vec<Certificate> = Vec::new();
    loop {
        let after = rows
            .last()
            .map(|row| row.intent.serial.clone())
            .unwrap_or_default();
        let page = store.read("list certificates", |tx| {
            certificate::list(tx, &after, PAGE)
        })?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

/// The names of the devices of these certificates.
fn devices_of(
    store: &Store,
    rows: &[Certificate],
) -> Result<HashMap<i64, (String, String)>, StoreError> {
    store.read("name devices", |tx| {
        let mut names = HashMap::new();
        for row in rows {
            let DeviceId(id) = row.intent.device;
            if let std::collections::hash_map::Entry::Vacant(slot) = names.entry(id)
                && let Some(device) = device::find_by_id(tx, row.intent.device)?
            {
                slot.insert((device.ueid.to_string(), device.serial));
            }
        }
        Ok(names)
    })
}

/// The certificates as lists show them.
#[must_use]
pub fn listed(rows: &[Certificate], names: &HashMap<i64, (String, String)>) -> Vec<Listed> {
    let seconds = |secs: i64| u64::try_from(secs).unwrap_or(0);
    rows.iter()
        .map(|row| {
            let (ueid, device_serial) =
                names.get(&row.intent.device.0).cloned().unwrap_or_default();
            let revoked = row.standing.to_entry().filter(|_| !row.standing.is_good());
            Listed {
                serial: serial_text(&row.intent.serial),
                ueid,
                device_serial,
                profile: row.intent.profile.clone(),
                state: state(row),
                at: seconds(row.intended_at),
                not_after: seconds(row.intent.not_after),
                shard: row.intent.shard,
                evidence: row.intent.evidence.map(hex::encode),
                reason: revoked.map(|(_, reason)| reason.name()),
                revoked_at: revoked.map(|(at, _)| at.0),
            }
        })
        .collect()
}

fn list(common: &Common) -> Outcome<()> {
    let config = config::load(&common.config)?;
    let store = stores::open(&config, Role::Ca)?;
    let rows = all(&store).map_err(|e| store_fault(&e))?;
    let names = devices_of(&store, &rows).map_err(|e| store_fault(&e))?;
    let listed = listed(&rows, &names);
    if common.json {
        return show::json(&listed);
    }
    let table: Vec<[String; 6]> = listed
        .iter()
        .map(|row| {
            [
                row.serial.clone(),
                row.device_serial.clone(),
                row.profile.clone(),
                row.state.to_owned(),
                show::date(row.at),
                show::date(row.not_after),
            ]
        })
        .collect();
    show::table(
        [
            "SERIAL NUMBER",
            "DEVICE",
            "PROFILE",
            "STATE",
            "ISSUED",
            "UNTIL",
        ],
        &table,
        "No certificate was issued yet.",
    );
    Ok(())
}

fn show_one(args: &ShowOne) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let wanted = super::beginning("the serial number of a certificate", &args.id)?;
    let store = stores::open(&config, Role::Ca)?;
    let found = store.read("show certificate", |tx| {
        let found = certificate::beginning_with(tx, &wanted)?;
        let row = found.first().filter(|_| found.len() == 1);
        let archived = row.map(|row| archive::find(tx, &row.intent.serial));
        Ok((found, archived.transpose()?.flatten().is_some()))
    });
    let (mut found, archived) = found.map_err(|e: StoreError| store_fault(&e))?;
    let (Some(row), true) = (found.pop(), found.is_empty()) else {
        return Err(Fault::failed(
            "not-one",
            format!(
                "no single certificate has a serial number that begins with {}",
                args.id
            ),
            "`tegata ca list` shows all; give enough of the beginning.",
        ));
    };
    let names = devices_of(&store, std::slice::from_ref(&row)).map_err(|e| store_fault(&e))?;
    let summary = listed(std::slice::from_ref(&row), &names);
    let der = row.der.clone().unwrap_or_default();
    let fields = fields(&der).unwrap_or_default();
    let pem = if der.is_empty() {
        String::new()
    } else {
        to_pem(&der)?
    };
    if args.common.json {
        return show::json(&serde_json::json!({
            "certificate": summary.first(), "archived": archived, "fields": fields, "pem": pem,
        }));
    }
    let mut record: Vec<(&str, String)> = Vec::new();
    if let Some(row) = summary.first() {
        record.push(("device", format!("{}  ({})", row.device_serial, row.ueid)));
        record.push(("profile", row.profile.clone()));
        let since = row.revoked_at.zip(row.reason);
        let since = since.map(|(at, why)| format!(" since {} ({why})", show::time(at)));
        record.push((
            "state",
            format!(
                "{}{}{}",
                row.state,
                since.unwrap_or_default(),
                if archived { ", archived" } else { "" }
            ),
        ));
        record.push(("shard", row.shard.to_string()));
        if let Some(digest) = &row.evidence {
            record.push(("by evidence", format!("PSA token, SHA-256 {digest}")));
        }
    }
    record.extend(
        fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone())),
    );
    show::record(&record);
    show::lines([String::new(), pem.trim_end().to_owned()]);
    Ok(())
}
