//! `tegata ca revoke` and `unhold` by predicate, and `tegata ca stops`.
//!
//! A predicate may be true of a million certificates, so it is counted first, and without a number or
//! a yes from the operator nothing is changed.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use tegata_authority::UnixSecs;
use tegata_authority::ca::revocation::Word;
use tegata_store::Store;
use tegata_store::attested::DottedVersion;
use tegata_store::revocation::scoped::{
    Planned, Predicate, Progress, ReleasesOf, RuntimesOf, Sample, ScopedError, check_names,
    plan_for_all, say_to_all,
};
use tegata_store::revocation::stop::{self, NoStop, Stop};
use tegata_wire::ids::Ueid;
use time::format_description::well_known::Rfc3339;

use crate::certificate::serial_text;
use crate::cli::{CaStops, Common, RevokeHow, RevokeWhat, Role, show};
use crate::commands::progress::{self, Doing};
use crate::commands::ta;
use crate::config::{self, Config};
use crate::fault::{Fault, Outcome};
use crate::files;
use crate::roles;
use crate::stores::{self, now_secs, store_fault};

/// Longest file of UEIDs, bytes: a million of them, and their ends of line.
const DEVICES_LEN_BYTES_MAX: u64 = 40 * 1024 * 1024;

/// One of the certificates, as JSON has it.
#[derive(Debug, Serialize)]
struct Line {
    serial: String,
    device: String,
    profile: String,
    issued_at: u64,
    before: &'static str,
    after: &'static str,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Done {
    dry_run: bool,
    matched: u64,
    changed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<i64>,
    sample: Vec<Line>,
}

/// Whether more than a device or a serial number is named.
pub fn narrowed(what: &RevokeWhat) -> bool {
    let texts = [
        &what.release,
        &what.ta,
        &what.runtime,
        &what.model,
        &what.batch,
        &what.profile,
        &what.issued_before,
        &what.issued_after,
    ];
    what.devices.is_some() || texts.into_iter().any(Option::is_some)
}

/// Counts, asks for the operator's number, and does it.
///
/// # Errors
/// A predicate that cannot be read, too many certificates, the store.
pub fn apply(
    store: &Store,
    config: &Config,
    common: &Common,
    what: &RevokeWhat,
    how: &RevokeHow,
    word: Word,
    stop_issuing: bool,
) -> Outcome<()> {
    let predicate = predicate(store, what)?;
    let now = UnixSecs(now_secs());
    let counting = Doing {
        step: "count",
        done: "would change",
    };
    let show = |doing, of| progress::Progress::new(doing, of, common.json, how.progress_secs);
    let mut shown = show(counting, None);
    let planned = plan_for_all(store, &predicate, word, now, |at| {
        shown.at(at.matched, at.changed);
    });
    shown.finish();
    let planned = planned.map_err(|e| scoped_fault(&e))?;
    let would = planned.progress;
    if would.matched == 0 {
        check_misspelt(store, config, &predicate)?;
    }
    if !how.dry_run {
        agreed(how, would, word)?;
    }
    if how.dry_run {
        return report(common, word, &planned, would, None, true);
    }
    // 1. Nothing more of that kind. A crash here leaves a stop, which `tegata ca stops` shows.
    let stopped = match stop_issuing {
        false => None,
        true => Some(stop::stop(store, &predicate, now).map_err(|e| stop_fault(&e))?),
    };
    // 2. What there is, some at a time. A crash leaves the rest to the same command.
    let changing = Doing {
        step: "change",
        done: "changed",
    };
    let mut shown = show(changing, Some(would.matched));
    let done = say_to_all(store, &predicate, word, now, |at| {
        shown.at(at.matched, at.changed);
    });
    shown.finish();
    let done = done.map_err(|e| {
        let fault = scoped_fault(&e);
        Fault {
            mend: format!(
                "{} What was done stays; the same command does the rest.",
                fault.mend
            ),
            ..fault
        }
    })?;
    report(common, word, &planned, done, stopped, false)
}

/// A name that nobody and nothing has is a mistake in writing, and must not look like an empty result. A profile may
/// have no certificate yet: its issuance can be stopped all the same.
fn check_misspelt(store: &Store, config: &Config, predicate: &Predicate) -> Outcome<()> {
    let mut unknown = predicate.clone();
    if let (Some(name), Some(ca)) = (&predicate.profile, &config.ca)
        && roles::ca::profiles(ca)?.find(name).is_some()
    {
        unknown.profile = None;
    }
    check_names(store, &unknown).map_err(|e| scoped_fault(&e))
}

/// The operator's number or yes.
fn agreed(how: &RevokeHow, would: Progress, word: Word) -> Outcome<()> {
    let told = verb(word, true);
    let n = would.changed;
    match how.at_most {
        _ if how.yes || n == 0 => Ok(()),
        Some(most) if n <= most => Ok(()),
        Some(most) => Err(Fault::failed(
            "too-many",
            format!("{n} certificates {told}, and --at-most allows {most}; nothing was changed"),
            "Look at them with --dry-run, then narrow the predicate or give a higher number.",
        )),
        None => Err(Fault::usage(
            "not-agreed",
            format!(
                "{n} certificates {told}, of {} that the predicate is true of; nothing was changed",
                would.matched
            ),
            format!("Look at them with --dry-run, then add --at-most {n}."),
        )),
    }
}

fn report(
    common: &Common,
    word: Word,
    planned: &Planned,
    done: Progress,
    stopped: Option<Stop>,
    dry_run: bool,
) -> Outcome<()> {
    if common.json {
        return show::json(&Done {
            dry_run,
            matched: done.matched,
            changed: done.changed,
            stop: stopped.map(|stop| stop.id),
            sample: planned.sample.iter().map(line).collect(),
        });
    }
    let rows: Vec<[String; 5]> = planned
        .sample
        .iter()
        .map(|sample| {
            [
                serial_text(&sample.certificate.serial),
                sample.device.to_string(),
                sample.profile.clone(),
                show::date(sample.issued.0),
                sample.certificate.before.name().to_owned(),
            ]
        })
        .collect();
    if dry_run && !rows.is_empty() {
        show::table(
            ["SERIAL NUMBER", "DEVICE", "PROFILE", "ISSUED", "BEFORE"],
            &rows,
            "",
        );
    }
    let mut lines = vec![format!(
        "{} certificates {}",
        done.changed,
        verb(word, dry_run)
    )];
    let same = done.matched.saturating_sub(done.changed);
    if same > 0 {
        lines.push(format!("{same} more match and stay as they are"));
    }
    if let Some(stop) = stopped {
        lines.push(format!(
            "nothing of that kind is issued any more: stop {}, lifted by `tegata ca stops --lift {}`",
            stop.id, stop.id
        ));
    }
    if dry_run {
        lines.push("nothing was changed".to_owned());
    }
    show::lines(lines);
    Ok(())
}

fn verb(word: Word, would: bool) -> &'static str {
    match (word, would) {
        (Word::Hold, false) => "put on hold",
        (Word::Hold, true) => "would be put on hold",
        (Word::Unhold, false) => "taken off hold",
        (Word::Unhold, true) => "would be taken off hold",
        (_, false) => "revoked",
        (_, true) => "would be revoked",
    }
}

fn line(sample: &Sample) -> Line {
    Line {
        serial: serial_text(&sample.certificate.serial),
        device: sample.device.to_string(),
        profile: sample.profile.clone(),
        issued_at: sample.issued.0,
        before: sample.certificate.before.name(),
        after: sample.certificate.after.name(),
    }
}

/// The predicate that was typed.
fn predicate(store: &Store, what: &RevokeWhat) -> Outcome<Predicate> {
    let release = what.release.as_deref().map(|text| ta::find(store, text));
    let releases = what.ta.clone().map(|ta| ReleasesOf {
        ta,
        from: what.release_from,
        below: what.release_below,
    });
    if let Some(of) = &releases
        && of.below.is_some_and(|below| of.from.unwrap_or(0) >= below)
    {
        return Err(Fault::usage(
            "empty-range",
            "no sequence number is at least --release-from and below --release-below",
            "The first one is meant, the second one no longer is.",
        ));
    }
    let runtimes = match &what.runtime {
        None => None,
        Some(name) => Some(RuntimesOf {
            name: name.clone(),
            from: what.runtime_from.as_deref().map(version).transpose()?,
            below: what.runtime_below.as_deref().map(version).transpose()?,
        }),
    };
    if let Some(of) = &runtimes
        && of.below.is_some()
        && of.from >= of.below
    {
        return Err(Fault::usage(
            "empty-range",
            "no version is at least --runtime-from and below --runtime-below",
            "The first one is meant, the second one no longer is.",
        ));
    }
    let devices = match (&what.device, &what.devices) {
        (Some(text), _) => Some([ueid(text)?].into()),
        (None, Some(path)) => Some(ueids(path, &files::read(path, DEVICES_LEN_BYTES_MAX)?)?),
        (None, None) => None,
    };
    Ok(Predicate {
        release: release.transpose()?,
        releases,
        runtimes,
        model: what.model.clone(),
        batch: what.batch.clone(),
        profile: what.profile.clone(),
        issued_before: what.issued_before.as_deref().map(moment).transpose()?,
        issued_after: what.issued_after.as_deref().map(moment).transpose()?,
        devices,
    })
}

/// A version as it is compared.
fn version(text: &str) -> Outcome<DottedVersion> {
    DottedVersion::parse(text).ok_or_else(|| {
        Fault::usage(
            "bad-version",
            format!(
                "{} is not a version that can be compared",
                show::visible(text)
            ),
            "Write up to four numbers with dots between them: 1.4 or 1.4.0.2.",
        )
    })
}

/// A whole UEID.
pub fn ueid(text: &str) -> Outcome<Ueid> {
    text.trim().parse().map_err(|_| {
        Fault::usage(
            "bad-name",
            format!("{} is not a UEID", show::visible(text)),
            "`tegata device list` shows them; give the whole of it.",
        )
    })
}

/// UEIDs, one a line; empty lines and what follows `#` are left out.
fn ueids(path: &Path, bytes: &[u8]) -> Outcome<BTreeSet<Ueid>> {
    let bad = |what: String| {
        Fault::usage(
            "bad-devices",
            format!("{}{what}", path.display()),
            "Give one UEID a line; `tegata device list --json | jq -r '.[].ueid'` makes such a file.",
        )
    };
    let text = std::str::from_utf8(bytes).map_err(|_| bad(" is not text".to_owned()))?;
    let mut all = BTreeSet::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let name = line.split('#').next().unwrap_or_default().trim();
        if name.is_empty() {
            continue;
        }
        let ueid = name.parse();
        all.insert(
            ueid.map_err(|_| bad(format!(":{number}: {} is not a UEID", show::visible(name))))?,
        );
    }
    if all.is_empty() {
        return Err(bad(" names no device".to_owned()));
    }
    Ok(all)
}

/// A day or a moment, in UTC where it says nothing else.
fn moment(text: &str) -> Outcome<UnixSecs> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    let at = time::OffsetDateTime::parse(&whole, &Rfc3339).ok();
    at.and_then(|at| u64::try_from(at.unix_timestamp()).ok())
        .map(UnixSecs)
        .ok_or_else(|| {
            Fault::usage(
                "bad-time",
                format!("{} is not a time", show::visible(text)),
                "Write 2026-11-20 (from 00:00 UTC) or 2026-11-20T08:30:00Z.",
            )
        })
}

fn scoped_fault(error: &ScopedError) -> Fault {
    let failed = |code, mend: &str| Fault::failed(code, error.to_string(), mend);
    match error {
        ScopedError::Store(error) => store_fault(error),
        ScopedError::NoDevice(_) => failed(
            "no-device",
            "`tegata device list` shows all; nothing was changed.",
        ),
        ScopedError::NoSuch(_) => failed(
            "no-such-name",
            "`tegata device list` and `tegata ca list` show models, batches and profiles; nothing was changed.",
        ),
        ScopedError::NoRelease => failed("no-release", "`tegata ta list` shows all."),
        ScopedError::NoRuntime => failed(
            "no-runtime",
            "The name is swname in the evidence, such as tegata-tee; nothing was changed.",
        ),
        _ => failed("no-predicate", "Name what the certificates have in common."),
    }
}

fn stop_fault(error: &NoStop) -> Fault {
    match error {
        NoStop::Store(error) => store_fault(error),
        error => Fault::failed("no-stop", error.to_string(), "Nothing was changed."),
    }
}

/// A stop, as JSON has it.
#[derive(Debug, Serialize)]
struct StopLine {
    id: i64,
    at: u64,
    what: String,
}

/// `tegata ca stops`.
///
/// # Errors
/// The configuration or the store; no such stop.
pub fn stops(args: &CaStops) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let store = stores::open(&config, Role::Ca)?;
    if let Some(id) = args.lift {
        if !stop::lift(&store, id).map_err(|e| store_fault(&e))? {
            return Err(Fault::failed(
                "no-stop",
                format!("there is no stop {id}"),
                "`tegata ca stops` shows all.",
            ));
        }
        if !args.common.json {
            show::lines([format!("stop {id} is lifted")]);
            return Ok(());
        }
    }
    let stops = store.read("list stops", stop::stops);
    let stops: Vec<StopLine> = stops
        .map_err(|e| store_fault(&e))?
        .iter()
        .map(|stop| StopLine {
            id: stop.id,
            at: stop.at.0,
            what: sentence(&stop.what),
        })
        .collect();
    if args.common.json {
        return show::json(&stops);
    }
    let rows: Vec<[String; 3]> = stops
        .iter()
        .map(|stop| [stop.id.to_string(), show::time(stop.at), stop.what.clone()])
        .collect();
    show::table(
        ["STOP", "SINCE", "NO CERTIFICATE TO"],
        &rows,
        "Issuance is not stopped for anybody.",
    );
    Ok(())
}

/// What a stop is about, as it was typed.
fn sentence(what: &Predicate) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(what.release.map(|digest| format!("release {digest}")));
    if let Some(of) = &what.releases {
        let from = of.from.map(|n| format!(" from {n}")).unwrap_or_default();
        let below = of.below.map(|n| format!(" below {n}"));
        parts.push(format!("TA {}{from}{}", of.ta, below.unwrap_or_default()));
    }
    parts.extend(what.model.as_ref().map(|name| format!("model {name}")));
    parts.extend(what.batch.as_ref().map(|name| format!("batch {name}")));
    parts.extend(what.profile.as_ref().map(|name| format!("profile {name}")));
    let devices = what.devices.iter().flatten();
    parts.extend(devices.map(|ueid| format!("device {ueid}")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_moments() {
        let day = moment("2026-11-20").unwrap();
        assert_eq!(day, UnixSecs(1_795_132_800));
        assert_eq!(moment("2026-11-20T09:00:00+09:00").unwrap(), day);
        for wrong in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-11-20 08:00",
            "1969-12-31",
        ] {
            assert_eq!(moment(wrong).unwrap_err().code, "bad-time", "{wrong}");
        }
    }

    #[test]
    fn a_file_of_devices() {
        let one = "0107070707070707070707070707070707";
        let text = format!("# recalled\n{one}\r\n\n  {one}  # twice\n");
        let ueids = |bytes: &[u8]| ueids(Path::new("recalled.txt"), bytes);
        assert_eq!(ueids(text.as_bytes()).unwrap().len(), 1);
        let marked = format!("\u{feff}{one}\n");
        assert_eq!(ueids(marked.as_bytes()).unwrap().len(), 1);
        let said = |bytes| ueids(bytes).unwrap_err().what;
        assert_eq!(
            said(b"# recalled\n0107\n"),
            "recalled.txt:2: 0107 is not a UEID"
        );
        assert_eq!(said(&[0xff]), "recalled.txt is not text");
        assert_eq!(said(b"# none\n\n"), "recalled.txt names no device");
    }
}
