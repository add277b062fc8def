//! `tegata ca rollover` and `tegata ca generations`: from one issuing CA, or root, to the next.

use serde::Serialize;
use tegata_authority::UnixSecs;
use tegata_authority::ca::authority_cert::Issuer;
use tegata_authority::profile::Profiles;
use tegata_crypto::OsRng;
use tegata_store::generation::{
    Generation, Generations, Kind, Made, Next, Root, Sure, roll_over, would_roll_over,
};
use tegata_store::role::Role as RoleStore;

use super::ca_files::{Written, check_dir, write};
use crate::cli::{CaRollover, Common, Role, show};
use crate::commands::import::{role_fault, role_store};
use crate::config::{self, Config, diagnostic};
use crate::ends;
use crate::fault::{Fault, Outcome};
use crate::stores::now_secs;

/// A CA as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    id: String,
    not_before: u64,
    not_after: u64,
    /// Since when it is not to be trusted any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    distrusted: Option<u64>,
}

impl Shown {
    fn of(ca: &Issuer) -> Self {
        Self {
            name: show::visible(&ca.name.to_display()),
            id: hex::encode(&ca.key_id),
            not_before: ca.not_before_secs,
            not_after: ca.not_after_secs,
            distrusted: None,
        }
    }

    fn of_issuing(one: &Generation) -> Self {
        Self {
            distrusted: one.distrusted.map(|at| at.0),
            ..Self::of(&one.ca)
        }
    }

    fn of_root(root: &Root) -> Self {
        Self {
            distrusted: root.distrusted.map(|at| at.0),
            ..Self::of(&root.ca)
        }
    }

    fn state(&self, now: UnixSecs, newest: bool) -> &'static str {
        match self {
            Self {
                distrusted: Some(_),
                ..
            } => "leaked",
            ca if ca.not_after < now.0 => "ended",
            _ if newest => "issues",
            _ => "answers",
        }
    }

    fn line(&self, what: &str) -> String {
        let (from, until) = (show::date(self.not_before), show::date(self.not_after));
        format!("    {what}: {}, {from} … {until}", self.name)
    }
}

/// A generation as it is shown.
#[derive(Debug, Serialize)]
struct Line {
    generation: u32,
    root_number: u32,
    state: &'static str,
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
    let (now, newest) = (UnixSecs(now_secs()), present.newest().number);
    let lines: Vec<Line> = present
        .iter()
        .map(|one| {
            let issuing = Shown::of_issuing(one);
            Line {
                generation: one.number,
                root_number: one.root,
                state: issuing.state(now, one.number == newest),
                issuing,
                root: present.root(one.root).map(Shown::of_root),
            }
        })
        .collect();
    if common.json {
        return show::json(&lines);
    }
    let table: Vec<[String; 7]> = lines
        .iter()
        .map(|line| {
            let end = |ca: &Shown| show::date(ca.not_after);
            [
                line.generation.to_string(),
                line.issuing.name.clone(),
                show::date(line.issuing.not_before),
                end(&line.issuing),
                line.state.to_owned(),
                line.root_number.to_string(),
                line.root.as_ref().map(end).unwrap_or_default(),
            ]
        })
        .collect();
    let head = [
        "GENERATION",
        "ISSUING CA",
        "FROM",
        "UNTIL",
        "STATE",
        "ROOT",
        "ROOT UNTIL",
    ];
    show::table(head, &table, "There is no CA.");
    let longest = profiles(&config).map_or(0, |profiles| profiles.longest_secs());
    let soon = present.ends_soon(now, longest);
    show::lines(soon.map(|soon| ends::sentence(&soon, now)));
    Ok(())
}

/// `tegata ca rollover`.
///
/// # Errors
/// The configuration, the store, the sealing key; a number that is not the next; a clock that is not to
/// be believed; the files.
pub fn run(args: &CaRollover) -> Outcome<()> {
    if !args.dry_run && !args.yes {
        return Err(Fault::usage(
            "not-confirmed",
            "a new generation stays for good; nothing was made",
            "Look at it with --dry-run, then say --yes.",
        ));
    }
    let config = config::load(&args.common.config)?;
    let beside = config.path.parent().map(ToOwned::to_owned);
    let dir = args.out.clone().or(beside).unwrap_or_default();
    // Before anything is made that stays: where its files go, and what its profiles say.
    if !args.dry_run {
        check_dir(&dir)?;
    }
    let fixed = with_fixed_urls(&profiles(&config)?);
    let role = role_store(&config, Role::Ca)?;
    let now = UnixSecs(now_secs());
    let before = load(&role)?;
    let next = Next {
        number: match args.generation {
            Some(number) => number,
            None => before.newest().number.saturating_add(1),
        },
        kind: match args.what.root {
            true => Kind::Root,
            false => Kind::Issuing,
        },
        alg: args.ca_key.map(|key| key.alg()),
        leaked: args.leaked,
        sure: Sure {
            clock: args.clock_is_right,
            leave_behind: args.leave_behind,
        },
    };
    let make = match args.dry_run {
        true => would_roll_over,
        false => roll_over,
    };
    let made = make(&role, next, &mut OsRng, now).map_err(|e| role_fault(&e))?;
    // A crash from here on leaves old files: the same command again writes them.
    let written = match args.dry_run {
        true => Written::default(),
        false => load(&role)
            .and_then(|present| write(&dir, &present, now))
            .map_err(|e| made_without_files(made.number, e))?,
    };
    let lost = match next.leaked {
        true => distrusted_by(&before, &made, next.kind),
        false => Vec::new(),
    };
    if args.common.json {
        return show::json(&serde_json::json!({
            "dry_run": args.dry_run, "generation": made.number, "again": made.again,
            "issuing": Shown::of(&made.issuing), "root": Shown::of(&made.root),
            "distrusted": lost, "profiles_with_urls": fixed, "files": written.files,
            "removed": written.removed, "left_ca_pem": written.left,
        }));
    }
    show::lines(told(args, &made, &lost, &fixed, &written));
    Ok(())
}

/// What the command says.
fn told(
    args: &CaRollover,
    made: &Made,
    lost: &[Shown],
    fixed: &[String],
    written: &Written,
) -> Vec<String> {
    let verb = match (made.again, args.dry_run) {
        (true, _) => "was there already",
        (false, true) => "would be made",
        (false, false) => "was made",
    };
    let mut lines = vec![
        format!("Generation {} {verb}:", made.number),
        Shown::of(&made.root).line("root"),
        Shown::of(&made.issuing).line("issuing CA"),
        format!(
            "    keys: root {}, issuing CA {}",
            made.root.public_key.alg(),
            made.issuing.public_key.alg()
        ),
    ];
    lines.extend(lost.iter().map(|ca| ca.line("not to be trusted any more")));
    if !fixed.is_empty() {
        lines.push(format!(
            "These profiles name URLs of their own, which go into certificates of the new issuing CA too: {}. \
             Look whether they are of the old one.",
            fixed.join(", ")
        ));
    }
    let shown =
        |what: &'static str| move |path: &std::path::PathBuf| format!("{what} {}", path.display());
    lines.extend(written.files.iter().map(shown("wrote")));
    lines.extend(written.removed.iter().map(shown("removed")));
    lines.extend(
        written
            .left
            .iter()
            .map(|name| format!("no longer in ca.pem: {name}")),
    );
    let kind = if args.what.root { "root" } else { "issuing" };
    if args.dry_run && !made.again {
        let leaked = if args.leaked { " --leaked" } else { "" };
        lines.push(format!(
            "Next:\n    tegata ca rollover --{kind}{leaked} --generation {} --yes",
            made.number
        ));
    } else if args.leaked {
        lines.push(
            "Next: back up the store, `tegata ca root-list`, `tegata ca revoke --issued-before`, and \
             docs/ops/rollover.md, \"A key that leaked\"."
                .to_owned(),
        );
    }
    lines
}

/// The CAs that are not to be trusted any more by a generation that is made after a leak.
fn distrusted_by(before: &Generations, made: &Made, kind: Kind) -> Vec<Shown> {
    let roots = before
        .roots()
        .filter(|root| kind == Kind::Root && root.ca.cert_der != made.root.cert_der);
    let issuing = before.iter().filter(|one| one.number < made.number);
    roots
        .map(Shown::of_root)
        .chain(issuing.map(Shown::of_issuing))
        .collect()
}

/// Names of the profiles that put URLs of their own into certificates.
fn with_fixed_urls(profiles: &Profiles) -> Vec<String> {
    let fixed = profiles.iter().filter(|profile| {
        let urls = [
            &profile.crl_urls,
            &profile.ocsp_urls,
            &profile.ca_issuers_urls,
        ];
        urls.iter().any(|urls| !urls.is_empty())
    });
    fixed.map(|profile| profile.name.clone()).collect()
}

fn profiles(config: &Config) -> Outcome<Profiles> {
    let Some(ca) = &config.ca else {
        return Err(Fault::usage(
            "role-not-configured",
            format!("{} has no section [ca]", config.path.display()),
            "Run this on the CA's machine, with its configuration.",
        ));
    };
    let text = config::read_text(&ca.profiles, "read the certificate profiles")?;
    Profiles::parse(&text).map_err(|e| diagnostic::of_mistakes(&ca.profiles, &text, &e))
}

/// What went wrong after the one step that stays.
fn made_without_files(generation: u32, fault: Fault) -> Fault {
    Fault {
        what: format!(
            "generation {generation} was made and issues; its files were not written: {}",
            fault.what
        ),
        mend: format!(
            "{} Then run the same command again: it makes no other.",
            fault.mend
        ),
        ..fault
    }
}

fn load(role: &RoleStore) -> Outcome<Generations> {
    Generations::load(role).map_err(|e| role_fault(&e))
}
