//! `tegata ca revoke` and `tegata ca unhold`: the operator takes certificates back.
//!
//! It writes the CA's store and needs no key; the process that serves looks there before each answer.

use serde::Serialize;
use tegata_authority::UnixSecs;
use tegata_authority::ca::revocation::{FinalReason, Standing, Word};
use tegata_store::revocation::{Changed, Report, RevokeError, Target, say, would_do};

use super::scoped;
use crate::certificate::serial_text;
use crate::cli::{CaRevoke, CaUnhold, Common, RevokeHow, RevokeReason, RevokeWhat, Role, show};
use crate::config;
use crate::fault::{Fault, Outcome};
use crate::stores::{self, now_secs, store_fault};

/// Most certificates that are shown one by one to people; JSON has them all.
const SHOWN_MAX: usize = 20;

/// One certificate that the word was about.
#[derive(Debug, Serialize)]
struct Line {
    serial: String,
    before: &'static str,
    after: &'static str,
    changed: bool,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Done {
    dry_run: bool,
    changed: usize,
    unchanged: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'static str>,
    certificates: Vec<Line>,
}

/// `tegata ca revoke`.
///
/// # Errors
/// The configuration, the store, nothing found.
pub fn revoke(args: &CaRevoke) -> Outcome<()> {
    let word = if args.hold {
        Word::Hold
    } else {
        Word::Revoke(reason(args.reason))
    };
    apply(&args.common, &args.what, &args.how, word, args.stop_issuing)
}

/// `tegata ca unhold`.
///
/// # Errors
/// As [`revoke`]; nothing to lift.
pub fn unhold(args: &CaUnhold) -> Outcome<()> {
    apply(&args.common, &args.what, &args.how, Word::Unhold, false)
}

fn reason(given: RevokeReason) -> FinalReason {
    match given {
        RevokeReason::Unspecified => FinalReason::Unspecified,
        RevokeReason::KeyCompromise => FinalReason::KeyCompromise,
        RevokeReason::AffiliationChanged => FinalReason::AffiliationChanged,
        RevokeReason::Superseded => FinalReason::Superseded,
        RevokeReason::CessationOfOperation => FinalReason::CessationOfOperation,
        RevokeReason::PrivilegeWithdrawn => FinalReason::PrivilegeWithdrawn,
    }
}

fn apply(
    common: &Common,
    what: &RevokeWhat,
    how: &RevokeHow,
    word: Word,
    stop: bool,
) -> Outcome<()> {
    let config = config::load(&common.config)?;
    let store = stores::open(&config, Role::Ca)?;
    let Some(target) = target(what)? else {
        return scoped::apply(&store, &config, common, what, how, word, stop);
    };
    if stop {
        return Err(Fault::usage(
            "nothing-to-stop",
            "a device that is revoked or on hold gets no certificates anyway",
            "Leave --stop-issuing out.",
        ));
    }
    let now = UnixSecs(now_secs());
    let report = if how.dry_run {
        would_do(&store, &target, word, now)
    } else {
        say(&store, &target, word, now)
    };
    let report = report.map_err(|e| revoke_fault(&e))?;
    if common.json {
        return show::json(&done(&report, how.dry_run));
    }
    show::lines(told(&report, word, how.dry_run));
    Ok(())
}

/// The certificate that is named, or the device if nothing else is; `None` for a predicate.
fn target(what: &RevokeWhat) -> Outcome<Option<Target>> {
    if let Some(text) = &what.serial {
        let digits = text.to_lowercase().replace([':', ' '], "");
        let serial = hex::decode(digits).ok().filter(|bytes| !bytes.is_empty());
        return serial.map(Target::Certificate).map(Some).ok_or_else(|| {
            Fault::usage(
                "bad-name",
                format!("{text} is not a serial number"),
                "`tegata ca list` shows them; give the whole of it.",
            )
        });
    }
    let device = what.device.as_deref().filter(|_| !scoped::narrowed(what));
    device
        .map(|text| scoped::ueid(text).map(Target::Device))
        .transpose()
}

fn revoke_fault(error: &RevokeError) -> Fault {
    let failed = |code, mend: &str| Fault::failed(code, error.to_string(), mend);
    match error {
        RevokeError::Store(error) => store_fault(error),
        RevokeError::NoCertificate => failed("not-one", "`tegata ca list` shows all."),
        RevokeError::Archived => failed("archived", "`tegata ca show` shows it."),
        RevokeError::NoDevice(_) => failed("no-device", "`tegata device list` shows all."),
        RevokeError::Denied(denied) => failed(
            denied.code(),
            "Nothing was changed; `tegata ca show` tells what it is.",
        ),
        _ => failed("failed", "Nothing was changed."),
    }
}

fn line(changed: &Changed) -> Line {
    Line {
        serial: serial_text(&changed.serial),
        before: changed.before.name(),
        after: changed.after.name(),
        changed: changed.before != changed.after,
    }
}

fn done(report: &Report, dry_run: bool) -> Done {
    Done {
        dry_run,
        changed: report.changed.len(),
        unchanged: report.unchanged.len(),
        device: report.device.map(|(_, after)| after.name()),
        certificates: report
            .changed
            .iter()
            .chain(&report.unchanged)
            .map(line)
            .collect(),
    }
}

fn told(report: &Report, word: Word, dry_run: bool) -> Vec<String> {
    let did = match (word, dry_run) {
        (Word::Hold, false) => "put on hold",
        (Word::Hold, true) => "would be put on hold",
        (Word::Unhold, false) => "taken off hold",
        (Word::Unhold, true) => "would be taken off hold",
        (_, false) => "revoked",
        (_, true) => "would be revoked",
    };
    let mut lines: Vec<String> = report
        .changed
        .iter()
        .take(SHOWN_MAX)
        .map(|changed| format!("{}  {did}", serial_text(&changed.serial)))
        .collect();
    let more = report.changed.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    for same in report.unchanged.iter().take(SHOWN_MAX) {
        let serial = serial_text(&same.serial);
        lines.push(format!("{serial}  is {} as before", same.after.name()));
    }
    if let Some((_, after)) = report.device {
        let device = match after {
            Standing::Good | Standing::Lifted { .. } => "may have certificates",
            Standing::Held { .. } => "gets no certificates while it is on hold",
            Standing::Revoked { .. } => "gets no certificates any more",
        };
        lines.push(format!(
            "the device {device}{}",
            if dry_run {
                " (nothing was changed)"
            } else {
                ""
            }
        ));
    } else if dry_run {
        lines.push("nothing was changed".to_owned());
    }
    lines
}
