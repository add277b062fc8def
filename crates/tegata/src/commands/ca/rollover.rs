//! `tegata ca rollover` and `tegata ca generations`: from one issuing CA, or root, to the next.

use serde::Serialize;
use tegata_authority::UnixSecs;
use tegata_authority::ca::authority_cert::Issuer;
use tegata_crypto::OsRng;
use tegata_store::generation::{Generations, Kind, Next, roll_over, would_roll_over};
use tegata_store::role::Role as RoleStore;

use crate::certificate::to_pem;
use crate::cli::{CaRollover, Common, Role, show};
use crate::commands::import::{role_fault, role_store};
use crate::config;
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::stores::now_secs;

/// A CA as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    id: String,
    not_before: u64,
    not_after: u64,
}

impl Shown {
    fn of(ca: &Issuer) -> Self {
        Self {
            name: show::visible(&ca.name.to_display()),
            id: hex::encode(&ca.key_id),
            not_before: ca.not_before_secs,
            not_after: ca.not_after_secs,
        }
    }
}

/// A generation as it is shown.
#[derive(Debug, Serialize)]
struct Line {
    generation: u32,
    root_number: u32,
    issuing: Shown,
    root: Option<Shown>,
}

/// `tegata ca generations`.
///
/// # Errors
/// The configuration, the store, the sealing key.
pub fn list(common: &Common) -> Outcome<()> {
    let config = config::load(&common.config)?;
    let role = role_store(&config, Role::Ca)?;
    let present = load(&role)?;
    let lines: Vec<Line> = present
        .iter()
        .map(|one| Line {
            generation: one.number,
            root_number: one.root,
            issuing: Shown::of(&one.ca),
            root: present.root(one.root).map(|root| Shown::of(&root.ca)),
        })
        .collect();
    if common.json {
        return show::json(&lines);
    }
    let table: Vec<[String; 5]> = lines
        .iter()
        .map(|line| {
            [
                line.generation.to_string(),
                line.issuing.name.clone(),
                line.root_number.to_string(),
                show::date(line.issuing.not_before),
                show::date(line.issuing.not_after),
            ]
        })
        .collect();
    show::table(
        ["GENERATION", "ISSUING CA", "ROOT", "FROM", "UNTIL"],
        &table,
        "There is no CA.",
    );
    Ok(())
}

/// `tegata ca rollover`.
///
/// # Errors
/// The configuration, the store, the sealing key; a number that is not the next; the files.
pub fn run(args: &CaRollover) -> Outcome<()> {
    if !args.dry_run && !args.yes {
        return Err(Fault::usage(
            "not-confirmed",
            "a new generation stays for good; nothing was made",
            "Look at it with --dry-run, then say --yes.",
        ));
    }
    let config = config::load(&args.common.config)?;
    let role = role_store(&config, Role::Ca)?;
    let now = UnixSecs(now_secs());
    let next = Next {
        number: match args.generation {
            Some(number) => number,
            None => load(&role)?.newest().number.saturating_add(1),
        },
        kind: match args.what.root {
            true => Kind::Root,
            false => Kind::Issuing,
        },
        alg: args.ca_key.map(|key| key.alg()),
    };
    let make = match args.dry_run {
        true => would_roll_over,
        false => roll_over,
    };
    let made = make(&role, next, &mut OsRng, now).map_err(|e| role_fault(&e))?;
    // A crash from here on leaves old files: the same command again writes them.
    let mut written = Vec::new();
    if !args.dry_run {
        let beside = config.path.parent().map(ToOwned::to_owned);
        let dir = args.out.clone().or(beside).unwrap_or_default();
        for (name, pem) in ca_files(&load(&role)?, now)? {
            let path = dir.join(name);
            files::replace(&path, pem.as_bytes(), Readers::Everyone)?;
            written.push(path);
        }
    }
    if args.common.json {
        return show::json(&serde_json::json!({
            "dry_run": args.dry_run, "generation": made.number, "again": made.again,
            "issuing": Shown::of(&made.issuing), "root": Shown::of(&made.root), "files": written,
        }));
    }
    let verb = match (made.again, args.dry_run) {
        (true, _) => "was there already",
        (false, true) => "would be made",
        (false, false) => "was made",
    };
    let mut lines = vec![format!("Generation {} {verb}:", made.number)];
    for (what, ca) in [("root", &made.root), ("issuing CA", &made.issuing)] {
        let shown = Shown::of(ca);
        lines.push(format!(
            "    {what}: {}, until {}",
            shown.name,
            show::date(shown.not_after)
        ));
    }
    lines.extend(
        written
            .iter()
            .map(|path| format!("wrote {}", path.display())),
    );
    if args.dry_run && !made.again {
        let kind = if args.what.root { "root" } else { "issuing" };
        lines.push(format!(
            "Next:\n    tegata ca rollover --{kind} --generation {} --yes",
            made.number
        ));
    }
    show::lines(lines);
    Ok(())
}

fn load(role: &RoleStore) -> Outcome<Generations> {
    Generations::load(role).map_err(|e| role_fault(&e))
}

/// The files for relying parties, by name: the roots that have not ended, the issuing CAs, and once there
/// are several roots what links them; the newest first.
///
/// # Errors
/// Only by a fault of this program.
pub fn ca_files(present: &Generations, now: UnixSecs) -> Outcome<Vec<(&'static str, String)>> {
    let pem = |ders: &[Vec<u8>]| {
        ders.iter()
            .map(|der| to_pem(der))
            .collect::<Outcome<String>>()
    };
    let issuing: Vec<_> = present
        .iter()
        .rev()
        .filter(|one| now.0 <= one.ca.not_after_secs)
        .map(|one| one.ca.cert_der.clone())
        .collect();
    let mut found = vec![
        ("ca.pem", pem(&present.anchors(now))?),
        ("issuing.pem", pem(&issuing)?),
    ];
    let links = present.links(now);
    if !links.is_empty() {
        found.push(("cross.pem", pem(&links)?));
    }
    Ok(found)
}
