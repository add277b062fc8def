//! `tegata verify`: statements in a file or on a stream, judged without any server.
//!
//! A CBOR sequence of COSE_Sign1, or NDJSON with base64, is cut into batches; signatures and
//! certificates are checked by all cores, then the batch is judged in its order, so that replay,
//! reordering and leaps of a device show wherever they stand. What comes from a pipe is judged as of
//! the moment it came, and at once: a batch does not wait for what is not there yet.
//!
//! Not trusted: the input. Each item is bounded before it is held.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding as _};
use const_oid::ObjectIdentifier;
use indicatif::{ProgressBar, ProgressStyle};
use tegata_authority::statement::{
    Authentic, Authenticator, Before, Counted, Finding, Freshness, NonceFinding, NotAuthentic,
    Place, Standing, StatementPolicy, ValidAt, judge, place,
};
use tegata_crypto::aws_lc::AwsLc;
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
/// Devices, and certificates, of which the last statement is held.
const DEVICES_MAX: usize = 4_000_000;
/// Longest life that the service gives a nonce, seconds.
const NONCE_SECS_MAX: u64 = 3_600;

/// How the input is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// COSE_Sign1 one after another. Spec: RFC 8742
    Sequence,
    /// One JSON value a line: a base64 text, or an object with it under `statement`.
    Lines,
}

/// What is read.
struct Input<R> {
    reader: BufReader<R>,
    form: Form,
    /// Whether reading may wait for a writer, as it does on a pipe.
    waits: bool,
}

/// One item of the input, or why it is none.
type Item = Result<Vec<u8>, &'static str>;

/// An item, and when it was there: seconds since 1970.
type Arrived = (Item, u64);

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
        accuracy_max_m: f64::from(args.max_accuracy),
        ..StatementPolicy::location()
    };
    policy.profiles.extend(args.profile.iter().cloned());
    let nonce = args.nonce.as_deref().map(hex::decode).transpose();
    let nonce = nonce.map_err(|_| {
        let what = "the nonce is not hexadecimal".to_owned();
        Fault::usage("bad-nonce", what, "Give it as the verifier gave it out.")
    })?;
    let (file, len) = open(&args.file)?;
    let waits = len.is_none();
    let mut input = Input::detect(file, waits).map_err(|e| broken(&args.file, &e))?;
    let bar = progress(len, args.json);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut session = Session {
        args,
        policy: &policy,
        authenticators: (0..cores)
            .map(|_| Authenticator::new(&AwsLc, &roots, &policy))
            .collect(),
        nonce,
        memory: Memory::new(DEVICES_MAX),
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

/// The input, and its length if it is a file that lies there whole.
fn open(path: &Path) -> Outcome<(File, Option<u64>)> {
    let file = if path.as_os_str() == "-" {
        let own = io::stdin().as_fd().try_clone_to_owned();
        File::from(own.map_err(|e| broken(path, &e))?)
    } else {
        File::open(path).map_err(|e| Fault::io("read the statements", path, &e))?
    };
    let meta = file.metadata().ok();
    let len = meta.filter(std::fs::Metadata::is_file);
    Ok((file, len.map(|meta| meta.len())))
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

impl<R: Read> Input<R> {
    /// By its first byte that is no white space: JSON begins with `"` or `{`.
    fn detect(file: R, waits: bool) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let form = loop {
            match reader.fill_buf()?.first() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => reader.consume(1),
                Some(b'"' | b'{') => break Form::Lines,
                _ => break Form::Sequence,
            }
        };
        Ok(Self {
            reader,
            form,
            waits,
        })
    }

    /// Up to [`BATCH`] items, the bytes they took, and whether the input has ended. With an item in
    /// hand it does not wait for another.
    fn batch(&mut self) -> io::Result<(Vec<Arrived>, u64, bool)> {
        let (mut items, mut read) = (Vec::new(), 0u64);
        while items.len() < BATCH && (items.is_empty() || self.has_next()) {
            let next = match self.form {
                Form::Sequence => next_item(&mut self.reader)?,
                Form::Lines => next_line(&mut self.reader)?,
            };
            let Some((item, len)) = next else {
                return Ok((items, read, true));
            };
            read = read.saturating_add(len);
            // After what is no CBOR, nothing says where the next item begins.
            let lost = self.form == Form::Sequence && item.is_err();
            items.push((item, now_secs()));
            if lost {
                return Ok((items, read, true));
            }
        }
        Ok((items, read, false))
    }

    /// Whether the next item can be had without waiting for its writer.
    fn has_next(&self) -> bool {
        let mut here = self.reader.buffer();
        !self.waits
            || match self.form {
                Form::Sequence => matches!(next_item(&mut here), Ok(Some((Ok(_), _)))),
                Form::Lines => here.contains(&b'\n'),
            }
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
        // Heads add up too: an array may announce any number of items.
        let body = if matches!(major, 2 | 3) { argument } else { 0 };
        let longer = u64::try_from(item.len())
            .unwrap_or(u64::MAX)
            .saturating_add(body);
        if longer > u64::try_from(MAX_STATEMENT_LEN).unwrap_or(0) {
            return Ok(Some((Err("longer than a statement"), 0)));
        }
        match major {
            2 | 3 => {
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

/// The last statements that passed: of each certificate its number, of each device its place.
struct Memory {
    counted: HashMap<(Ueid, [u8; 32]), Counted>,
    places: HashMap<Ueid, Place>,
    most: usize,
}

impl Memory {
    fn new(most: usize) -> Self {
        Self {
            counted: HashMap::new(),
            places: HashMap::new(),
            most,
        }
    }

    fn before(&self, ueid: Ueid, certificate: &[u8; 32]) -> Before {
        Before {
            counted: self.counted.get(&(ueid, *certificate)).copied(),
            place: self.places.get(&ueid).copied(),
        }
    }

    /// # Errors
    /// No room. Nothing is forgotten instead: what was forgotten could be replayed and pass.
    fn keep(&mut self, ueid: Ueid, certificate: &[u8; 32], after: &Before) -> Outcome<()> {
        let key = (ueid, *certificate);
        if !self.counted.contains_key(&key) && self.counted.len() >= self.most {
            return Err(Fault::failed(
                "too-many-devices",
                format!("there are statements of more than {} keys", self.most),
                "Split the input by device: those of one device belong together.",
            ));
        }
        if let Some(counted) = after.counted {
            self.counted.insert(key, counted);
        }
        if let Some(place) = after.place {
            self.places.insert(ueid, place);
        }
        Ok(())
    }
}

/// What is remembered from batch to batch.
struct Session<'a> {
    args: &'a VerifyArgs,
    policy: &'a StatementPolicy,
    /// One for each core; each remembers the chains it has checked.
    authenticators: Vec<Authenticator<'a>>,
    nonce: Option<Vec<u8>>,
    nonce_used: bool,
    memory: Memory,
    counts: Counts,
    at: u64,
    rows: Vec<[String; 6]>,
}

impl Session<'_> {
    /// Signatures by all cores, then order.
    fn batch(&mut self, items: Vec<Arrived>) -> Outcome<()> {
        let checked = self.authenticate(&items);
        let (mut out, mut done) = (Vec::new(), Ok(()));
        for (result, (_, arrived)) in checked.into_iter().zip(items) {
            let judged = match result {
                Ok(Ok(authentic)) => match self.judge(&authentic, arrived) {
                    Ok(findings) => Judged::Said(Box::new(authentic), findings),
                    Err(fault) => {
                        done = Err(fault);
                        break;
                    }
                },
                Ok(Err(reason)) => Judged::Stranger(reason),
                Err(reason) => Judged::Unreadable(reason),
            };
            self.at = self.at.saturating_add(1);
            self.count(&judged, &mut out);
        }
        // What was judged before there was no more room is told all the same.
        io::stdout().write_all(&out).map_err(|e| {
            Fault::environment(
                "output",
                e.to_string(),
                "The reader of the output went away.",
            )
        })?;
        done
    }

    fn authenticate(
        &mut self,
        items: &[Arrived],
    ) -> Vec<Result<Result<Authentic, NotAuthentic>, &'static str>> {
        let any_age = self.args.any_age;
        let at = move |arrived: u64| {
            if any_age {
                ValidAt::Made
            } else {
                ValidAt::Time(arrived)
            }
        };
        let share = items.len().div_ceil(self.authenticators.len()).max(1);
        std::thread::scope(|scope| {
            let parts: Vec<_> = items
                .chunks(share)
                .zip(&mut self.authenticators)
                .map(|(part, authenticator)| {
                    scope.spawn(move || {
                        part.iter()
                            .map(|(item, arrived)| match item {
                                Ok(message) => {
                                    Ok(authenticator.authenticate(message, at(*arrived)))
                                }
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

    /// # Errors
    /// No room to remember another device.
    fn judge(&mut self, authentic: &Authentic, now: u64) -> Outcome<Vec<Finding>> {
        let said = authentic.statement();
        let by_nonce = |finding| Freshness::Nonce {
            finding,
            now,
            secs: NONCE_SECS_MAX,
        };
        let freshness = match (&self.nonce, self.args.max_age) {
            (Some(nonce), _) if *nonce != said.nonce => by_nonce(NonceFinding::Unknown),
            (Some(_), _) if self.nonce_used => by_nonce(NonceFinding::Used),
            (Some(_), _) => {
                self.nonce_used = true;
                by_nonce(NonceFinding::Fresh)
            }
            (None, Some(secs)) => Freshness::Window { now, secs },
            (None, None) => Freshness::Archive { now },
        };
        let certificate = authentic.certificate_digest();
        let before = self.memory.before(said.ueid, certificate);
        let standing = Standing::Offline;
        let findings = judge(authentic, self.policy, freshness, standing, &before);
        if findings.is_empty() {
            let after = Before::after(said, now);
            self.memory.keep(said.ueid, certificate, &after)?;
        }
        Ok(findings)
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
        let mut input = Input::detect(bytes, false).unwrap();
        let items = input.batch().unwrap().0;
        items.into_iter().map(|(item, _)| item).collect()
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
    fn an_item_without_end_is_not_held() {
        for head in [0x9b, 0xbb] {
            let announced = [head, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
            for filler in [0x00, 0x40, 0x60, 0x80, 0xa0, 0xf6] {
                let endless = announced.as_slice().chain(io::repeat(filler));
                let mut input = Input::detect(endless, true).unwrap();
                let (items, _, end) = input.batch().unwrap();
                assert!(items.len() == 1 && items[0].0.is_err() && end, "{filler:x}");
            }
        }
    }

    #[test]
    fn what_is_there_is_not_kept_waiting_for_what_is_not() {
        let one = [0x82, 0x41, 9, 0x41, 8];
        for (whole, begun) in [
            (one.as_slice(), one.get(..3).unwrap()),
            (b"\"AAAA\"\n", b"\"AA"),
        ] {
            let (mut writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
            let limit = Some(Duration::from_secs(20));
            reader.set_read_timeout(limit).unwrap();
            writer.write_all(&[whole, whole, begun].concat()).unwrap();
            let mut input = Input::detect(reader, true).unwrap();
            let (items, _, end) = input.batch().unwrap();
            assert!(items.len() == 2 && !end, "{}", items.len());
            assert!(items.iter().all(|(item, _)| item.is_ok()));
            writer.write_all(whole.get(begun.len()..).unwrap()).unwrap();
            assert_eq!(input.batch().unwrap().0.len(), 1);
            drop(writer);
            let (items, _, end) = input.batch().unwrap();
            assert!(items.is_empty() && end);
        }
        // A file is read in large batches.
        assert_eq!(items(&one.repeat(20_000)).len(), BATCH);
    }

    #[test]
    fn nothing_is_forgotten_when_there_is_no_room() {
        let device = |n: u8| Ueid::from_random([n; 16]);
        let made_at = 1_000;
        let seen_at = 1_000;
        let after = |number| Before {
            counted: Some(Counted {
                number,
                made_at,
                seen_at,
            }),
            place: Some(Place {
                latitude: 35.0,
                longitude: 139.0,
                accuracy: 5.0,
                made_at,
                seen_at,
            }),
        };
        let mut memory = Memory::new(2);
        memory.keep(device(1), &[1; 32], &after(1)).unwrap();
        // Another key of the same device has numbers of its own.
        memory.keep(device(1), &[2; 32], &after(7)).unwrap();
        memory.keep(device(1), &[1; 32], &after(2)).unwrap();
        let full = memory.keep(device(2), &[3; 32], &after(1)).unwrap_err();
        assert_eq!(full.code, "too-many-devices");
        assert_eq!(memory.before(device(1), &[1; 32]), after(2));
        assert_eq!(memory.before(device(1), &[2; 32]).counted, after(7).counted);
        assert_eq!(memory.before(device(1), &[3; 32]).counted, None);
        assert_eq!(memory.before(device(2), &[3; 32]), Before::default());
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
