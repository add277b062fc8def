//! `tegata verify`: statements in a file or on a stream, judged without any server.
//!
//! A CBOR sequence of COSE_Sign1, or NDJSON with base64, is cut into batches; signatures and
//! certificates are checked by all cores, then the batch is judged in its order, so that replay,
//! reordering and leaps of a device show wherever they stand.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding as _};
use const_oid::ObjectIdentifier;
use indicatif::{ProgressBar, ProgressStyle};
use tegata_authority::statement::{
    Authentic, Authenticator, Finding, Freshness, Last, NonceFinding, NotAuthentic, Standing,
    StatementPolicy, ValidAt, judge, place,
};
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::chain::TrustAnchor;
use tegata_wire::ids::Ueid;
use tegata_wire::rats::statement::MAX_STATEMENT_LEN;

use crate::cli::{VerifyArgs, show};
use crate::fault::{Fault, Outcome};
use crate::roles::verify::anchors;
use crate::stores::now_secs;
use crate::verdict;

/// Statements checked together: enough for all cores, little to hold.
const BATCH: usize = 2_048;
/// Longest line of NDJSON in bytes: a statement as base64 and some room.
const LINE_LEN_MAX: u64 = 32 * 1024;
/// Devices whose last statement is held.
const DEVICES_MAX: usize = 4_000_000;

/// How the input is written.
enum Input<R> {
    /// COSE_Sign1 one after another. Spec: RFC 8742
    Sequence(R),
    /// One JSON value a line: a base64 text, or an object with it under `statement`.
    Lines(R),
}

/// One item of the input, or why it is none.
type Item = Result<Vec<u8>, &'static str>;

/// What came of one item.
enum Judged {
    Said(Box<Authentic>, Vec<Finding>),
    Stranger(NotAuthentic),
    Unreadable(&'static str),
}

/// Counts for the end.
#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// `tegata verify`; the exit code is 1 when any statement fails.
///
/// # Errors
/// Anchors, input, output.
pub fn run(args: &VerifyArgs) -> Outcome<ExitCode> {
    let roots = anchors(&args.ca)?;
    let purpose = match &args.purpose {
        None => StatementPolicy::location().purpose,
        Some(text) => ObjectIdentifier::new(text).map_err(|_| {
            let what = format!("`{text}` is not an object identifier");
            Fault::usage("bad-purpose", what, "Write it in dotted form.")
        })?,
    };
    let mut policy = StatementPolicy {
        purpose,
        speed_max_m_s: f64::from(args.max_speed),
        ..StatementPolicy::location()
    };
    policy.profiles.extend(args.profile.iter().cloned());
    let nonce = args.nonce.as_deref().map(hex::decode).transpose();
    let nonce = nonce.map_err(|_| {
        let what = "the nonce is not hexadecimal".to_owned();
        Fault::usage("bad-nonce", what, "Give it as the verifier gave it out.")
    })?;
    let (reader, len) = open(&args.file)?;
    let mut input = Input::detect(reader).map_err(|e| broken(&args.file, &e))?;
    let bar = progress(len, args.json);
    let mut session = Session {
        args,
        roots: &roots,
        policy: &policy,
        nonce,
        last: HashMap::new(),
        nonce_used: false,
        counts: Counts::default(),
        at: 0,
        rows: Vec::new(),
    };
    let begun = Instant::now();
    loop {
        let (batch, read, end) = input.batch().map_err(|e| broken(&args.file, &e))?;
        bar.inc(read);
        session.batch(batch)?;
        let done = session.counts.passed.saturating_add(session.counts.failed);
        bar.set_message(format!("{done} statements, {} fail", session.counts.failed));
        if end {
            break;
        }
    }
    bar.finish_and_clear();
    session.summary(begun.elapsed())
}

fn open(path: &Path) -> Outcome<(Box<dyn BufRead>, Option<u64>)> {
    if path.as_os_str() == "-" {
        return Ok((
            Box::new(BufReader::with_capacity(1 << 16, io::stdin())),
            None,
        ));
    }
    let file = File::open(path).map_err(|e| Fault::io("read the statements", path, &e))?;
    let len = file
        .metadata()
        .ok()
        .map(|meta| meta.len())
        .filter(|len| *len > 0);
    Ok((Box::new(BufReader::with_capacity(1 << 16, file)), len))
}

fn broken(path: &Path, error: &io::Error) -> Fault {
    Fault::io("read the statements", path, error)
}

fn progress(len: Option<u64>, json: bool) -> ProgressBar {
    if json || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match len {
        Some(len) => (
            ProgressBar::new(len),
            "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}  {msg}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {bytes} {bytes_per_sec}  {msg}",
        ),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

impl<R: BufRead> Input<R> {
    /// By its first byte that is no white space: JSON begins with `"` or `{`.
    fn detect(mut reader: R) -> io::Result<Self> {
        loop {
            let buffer = reader.fill_buf()?;
            match buffer.first() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => reader.consume(1),
                Some(b'"' | b'{') => return Ok(Self::Lines(reader)),
                _ => return Ok(Self::Sequence(reader)),
            }
        }
    }

    /// Up to [`BATCH`] items, the bytes they took, and whether the input has ended.
    fn batch(&mut self) -> io::Result<(Vec<Item>, u64, bool)> {
        let (mut items, mut read) = (Vec::new(), 0u64);
        while items.len() < BATCH {
            let next = match self {
                Self::Sequence(reader) => next_item(reader)?,
                Self::Lines(reader) => next_line(reader)?,
            };
            let Some((item, len)) = next else {
                return Ok((items, read, true));
            };
            read = read.saturating_add(len);
            // After what is no CBOR, nothing says where the next item begins.
            let lost = matches!((&*self, &item), (Self::Sequence(_), Err(_)));
            items.push(item);
            if lost {
                return Ok((items, read, true));
            }
        }
        Ok((items, read, false))
    }
}

/// One line of NDJSON; empty lines are passed over.
fn next_line<R: BufRead>(reader: &mut R) -> io::Result<Option<(Item, u64)>> {
    loop {
        let mut line = Vec::new();
        let got = reader
            .by_ref()
            .take(LINE_LEN_MAX)
            .read_until(b'\n', &mut line)?;
        let mut len = u64::try_from(got).unwrap_or(u64::MAX);
        if got == 0 {
            return Ok(None);
        }
        if len >= LINE_LEN_MAX && !line.ends_with(b"\n") {
            len = len.saturating_add(skip_line(reader)?);
            return Ok(Some((Err("the line is too long"), len)));
        }
        let text = line.trim_ascii();
        if !text.is_empty() {
            return Ok(Some((from_json(text), len)));
        }
    }
}

fn skip_line<R: BufRead>(reader: &mut R) -> io::Result<u64> {
    let mut skipped = 0u64;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(skipped);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let len = end.map_or(buffer.len(), |at| at.saturating_add(1));
        reader.consume(len);
        skipped = skipped.saturating_add(u64::try_from(len).unwrap_or(0));
        if end.is_some() {
            return Ok(skipped);
        }
    }
}

fn from_json(text: &[u8]) -> Item {
    let value: serde_json::Value =
        serde_json::from_slice(text).map_err(|_| "the line is not JSON")?;
    let text = value
        .as_str()
        .or_else(|| value.get("statement")?.as_str())
        .ok_or("the line has no statement")?;
    let text: String = text
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    let padded = format!("{}{}", text.trim_end_matches('='), "=".repeat(pad(&text)));
    Base64::decode_vec(&padded).map_err(|_| "the statement is not base64")
}

/// How many `=` the text needs.
fn pad(text: &str) -> usize {
    (4 - text.trim_end_matches('=').len() % 4) % 4
}

/// One item of a CBOR sequence, cut out by its own lengths.
fn next_item<R: BufRead>(reader: &mut R) -> io::Result<Option<(Item, u64)>> {
    let mut item = Vec::new();
    let mut open = vec![1u64];
    while let Some(left) = open.last_mut() {
        let Some(rest) = left.checked_sub(1) else {
            open.pop();
            continue;
        };
        *left = rest;
        if open.len() > 16 {
            return Ok(Some((Err("CBOR nested too deep"), 0)));
        }
        let Some((major, argument)) = head(reader, &mut item)? else {
            let whole = item.is_empty() && open.len() == 1;
            return Ok((!whole).then_some((Err("the last item is cut off, or not CBOR"), 0)));
        };
        let longer = u64::try_from(item.len())
            .unwrap_or(u64::MAX)
            .saturating_add(argument);
        let limit = u64::try_from(MAX_STATEMENT_LEN).unwrap_or(0);
        match major {
            2 | 3 => {
                if longer > limit {
                    return Ok(Some((Err("longer than a statement"), 0)));
                }
                let got = reader.by_ref().take(argument).read_to_end(&mut item)?;
                if u64::try_from(got).unwrap_or(0) != argument {
                    return Ok(Some((Err("the last item is cut off"), 0)));
                }
            }
            4 => open.push(argument),
            5 => open.push(argument.saturating_mul(2)),
            6 => open.push(1),
            _ => {}
        }
    }
    let len = u64::try_from(item.len()).unwrap_or(0);
    Ok(Some((Ok(item), len)))
}

/// The head of an item: major type and argument; `None` at the end, or if it is not definite.
fn head<R: BufRead>(reader: &mut R, item: &mut Vec<u8>) -> io::Result<Option<(u8, u64)>> {
    let mut first = [0u8; 1];
    if reader.read(&mut first)? == 0 {
        return Ok(None);
    }
    let [byte] = first;
    item.push(byte);
    let more = match byte & 0x1f {
        direct @ 0..=23 => return Ok(Some((byte >> 5, direct.into()))),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return Ok(None),
    };
    let mut argument = [0u8; 8];
    let (_, low) = argument.split_at_mut(8 - more);
    if reader.read_exact(low).is_err() {
        return Ok(None);
    }
    item.extend_from_slice(low);
    Ok(Some((byte >> 5, u64::from_be_bytes(argument))))
}

/// What is remembered from batch to batch.
struct Session<'a> {
    args: &'a VerifyArgs,
    roots: &'a [TrustAnchor],
    policy: &'a StatementPolicy,
    nonce: Option<Vec<u8>>,
    nonce_used: bool,
    last: HashMap<Ueid, Last>,
    counts: Counts,
    at: u64,
    rows: Vec<[String; 6]>,
}

impl Session<'_> {
    /// Signatures by all cores, then order.
    fn batch(&mut self, items: Vec<Item>) -> Outcome<()> {
        let checked = self.authenticate(items);
        let mut out = Vec::new();
        for result in checked {
            let judged = match result {
                Ok(Ok(authentic)) => {
                    let findings = self.judge(&authentic);
                    Judged::Said(Box::new(authentic), findings)
                }
                Ok(Err(reason)) => Judged::Stranger(reason),
                Err(reason) => Judged::Unreadable(reason),
            };
            self.at = self.at.saturating_add(1);
            self.count(&judged, &mut out);
        }
        io::stdout().write_all(&out).map_err(|e| {
            Fault::environment(
                "output",
                e.to_string(),
                "The reader of the output went away.",
            )
        })
    }

    fn authenticate(
        &self,
        items: Vec<Item>,
    ) -> Vec<Result<Result<Authentic, NotAuthentic>, &'static str>> {
        let at = if self.args.any_age {
            ValidAt::Made
        } else {
            ValidAt::Time(now_secs())
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = items.len().div_ceil(cores).max(1);
        let (roots, policy) = (self.roots, self.policy);
        std::thread::scope(|scope| {
            let parts: Vec<_> = items
                .chunks(share)
                .map(|part| {
                    scope.spawn(move || {
                        let mut authenticator = Authenticator::new(&AwsLc, roots, policy);
                        part.iter()
                            .map(|item| match item {
                                Ok(message) => Ok(authenticator.authenticate(message, at)),
                                Err(reason) => Err(*reason),
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            parts
                .into_iter()
                .flat_map(|part| part.join().unwrap_or_default())
                .collect()
        })
    }

    fn judge(&mut self, authentic: &Authentic) -> Vec<Finding> {
        let said = authentic.statement();
        let freshness = match (&self.nonce, self.args.max_age) {
            (Some(nonce), _) if *nonce != said.nonce => Freshness::Nonce(NonceFinding::Unknown),
            (Some(_), _) if self.nonce_used => Freshness::Nonce(NonceFinding::Used),
            (Some(_), _) => {
                self.nonce_used = true;
                Freshness::Nonce(NonceFinding::Fresh)
            }
            (None, Some(secs)) => Freshness::Window {
                now: now_secs(),
                secs,
            },
            (None, None) => Freshness::Archive,
        };
        let last = self.last.get(&said.ueid);
        let findings = judge(authentic, self.policy, freshness, Standing::Offline, last);
        if findings.is_empty() {
            if self.last.len() >= DEVICES_MAX {
                self.last.clear();
            }
            self.last.insert(said.ueid, Last::of(said));
        }
        findings
    }

    fn count(&mut self, judged: &Judged, out: &mut Vec<u8>) {
        let passed = matches!(judged, Judged::Said(_, findings) if findings.is_empty());
        let count = if passed {
            &mut self.counts.passed
        } else {
            &mut self.counts.failed
        };
        *count = count.saturating_add(1);
        if self.args.quiet {
            return;
        }
        if self.args.json {
            let mut value = match judged {
                Judged::Said(authentic, findings) => verdict::of(authentic, findings),
                Judged::Stranger(reason) => verdict::of_stranger(reason),
                Judged::Unreadable(reason) => serde_json::json!({
                    "verdict": "fail", "authentic": false,
                    "reasons": [{ "code": "unreadable", "detail": reason }],
                }),
            };
            if let Some(map) = value.as_object_mut() {
                map.insert("item".to_owned(), self.at.into());
            }
            out.extend(value.to_string().into_bytes());
            out.push(b'\n');
        } else if self.rows.len() < ROWS_MAX {
            let row = self.row(judged);
            self.rows.push(row);
        }
    }

    fn row(&self, judged: &Judged) -> [String; 6] {
        let item = self.at.to_string();
        let fail = |why: String| {
            let none = String::new;
            ["fail".to_owned(), item.clone(), none(), none(), none(), why]
        };
        match judged {
            Judged::Unreadable(reason) => fail((*reason).to_owned()),
            Judged::Stranger(reason) => fail(reason.to_string()),
            Judged::Said(authentic, findings) => {
                let said = authentic.statement();
                let reasons: Vec<String> = findings.iter().map(ToString::to_string).collect();
                [
                    if findings.is_empty() { "pass" } else { "fail" }.to_owned(),
                    item,
                    said.ueid.to_string(),
                    show::time(u64::try_from(said.made_at).unwrap_or(0)),
                    said.location.as_ref().map(place).unwrap_or_default(),
                    reasons.join("; "),
                ]
            }
        }
    }

    fn summary(self, took: Duration) -> Outcome<ExitCode> {
        let all = self.counts.passed.saturating_add(self.counts.failed);
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = all.saturating_mul(1_000) / ms;
        if self.args.json {
            show_line(&serde_json::json!({
                "summary": { "statements": all, "passed": self.counts.passed,
                    "failed": self.counts.failed, "ms": ms, "per_second": rate },
            }));
        } else {
            if !self.args.quiet {
                show::table(
                    ["", "#", "DEVICE", "MADE", "PLACE", "WHY NOT"],
                    &self.rows,
                    "There is no statement in the input.",
                );
            }
            let more = u64::try_from(self.rows.len()).unwrap_or(0) < all && !self.args.quiet;
            let more = if more {
                " (the first are shown; --json gives all)"
            } else {
                ""
            };
            let failed = self.counts.failed;
            show::lines([format!(
                "{all} statements, {failed} fail, {rate} a second{more}"
            )]);
        }
        // Nothing to verify is nothing verified.
        Ok(ExitCode::from(u8::from(self.counts.failed > 0 || all == 0)))
    }
}

fn show_line(value: &serde_json::Value) {
    show::lines([value.to_string()]);
}

/// Rows of the table; `--json` has no limit.
const ROWS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn items(bytes: &[u8]) -> Vec<Item> {
        let mut input = Input::detect(bytes).unwrap();
        input.batch().unwrap().0
    }

    #[test]
    fn a_sequence_is_cut_into_its_items() {
        let one = [0xd2, 0x84, 0x43, 1, 2, 3, 0xa0, 0x41, 9, 0x41, 8];
        let two = [one.as_slice(), one.as_slice()].concat();
        assert_eq!(items(&two), [Ok(one.to_vec()), Ok(one.to_vec())]);
        for len in 1..one.len() {
            let cut = items(&two[..one.len() + len]);
            assert!(cut.len() == 2 && cut[1].is_err(), "cut at {len}: {cut:?}");
        }
        assert!(items(&[]).is_empty());
        assert!(items(&[0x9f, 0x01, 0xff])[0].is_err(), "no end said");
        assert!(items(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])[0].is_err());
        assert!(items(&[0x81; 40])[0].is_err(), "nested");
    }

    #[test]
    fn lines_are_json_with_base64_of_either_alphabet() {
        let text = "\n\"+/8=\"\n{\"statement\":\"-_8\",\"場所\":\"東京\"}\n{}\nnot json\n\"%\"\n";
        let found = items(text.as_bytes());
        assert_eq!(found[0], Ok(vec![0xfb, 0xff]));
        assert_eq!(found[1], found[0]);
        assert!(found[2..].iter().all(Result::is_err) && found.len() == 5);
        let long = format!("\"{}\"\n\"AAAA\"\n", "A".repeat(100_000));
        let found = items(long.as_bytes());
        assert!(
            found[0].is_err() && found[1].is_ok(),
            "the next line is read"
        );
    }
}
