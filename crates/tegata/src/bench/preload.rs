//! A CA's store as it is after years, for `tegata bench issue --preload`.
//!
//! Rows are written straight into the store: devices, two certificates of each, issued over the last three years and
//! valid for three, one device in a hundred recalled and its certificates revoked by the product's own predicate.
//! Then each round issues from it as from an empty store, and at the end its look-ups and counts are timed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use serde::Serialize;
use tegata_authority::UnixSecs;
use tegata_authority::ca::revocation::{FinalReason, Word};
use tegata_crypto::OsRng;
use tegata_store::Store;
use tegata_store::fill::{Fill, Filled, fill};
use tegata_store::revocation::scoped::{Predicate, say_to_all};

use super::bed::Bed;
use super::check::refused;
use super::cpus::pin;
use super::figures::{self, Latency, Spread};
use super::issue::target;
use super::load::{Ask, Driven, Pace, Refusals, Target, drive};
use super::ocsp::{self, OCSP_REQUEST};
use super::odd;
use super::plant::{PROFILE, Plant};
use super::report::{Aim, Goal};
use super::requests::{Reader, Spool};
use super::served::{Served, copy};
use crate::fault::{Fault, Outcome};
use crate::roles::devices::DeviceView;
use crate::stores::{now_secs, store_fault};
use crate::supervise;

/// Certificates of each device.
const EACH: usize = 2;
/// Certificates of a shard: the CA's default.
const SHARD: usize = 65_536;
/// Over how long the certificates were issued, seconds.
const SPAN_SECS: u64 = 3 * 365 * 86_400;
/// How long each is valid, seconds: none ends while the bench runs.
const LIFE_SECS: u64 = SPAN_SECS + 30 * 86_400;
/// One device in so many is of the model that was recalled.
const RECALLED: usize = 100;
/// Name of that model.
const RECALLED_MODEL: &str = "recalled";
/// Name of the others'.
const SERVING_MODEL: &str = "serving";
/// Devices of one factory batch of the generator.
const BATCH: usize = 10_000;
/// Look-ups of each kind.
const LOOK_UPS: usize = 2_000;
/// Longest that a count of nearly all may take.
const COUNT_LIMIT: Duration = Duration::from_secs(3_600);
/// Connections that look up at a time.
const LOOK_UP_CLIENTS: usize = 4;
/// What stands in the configuration beside the rest: the port for services.
pub const CONFIG: &str = "\n[ca.devices]\nlisten = \"127.0.0.1:0\"\n";

/// A store with many rows, and what is asked of it.
pub struct Preload {
    dir: PathBuf,
    requests: Reader,
    sample: Vec<Filled>,
    starts: Vec<Duration>,
    found: Preloaded,
}

/// What was found of it.
#[derive(Debug, Clone, Serialize)]
pub struct Preloaded {
    /// Devices that were written.
    pub devices: usize,
    /// Certificates that were written.
    pub certificates: usize,
    /// How many of them are revoked.
    pub revoked: u64,
    /// How long writing took, seconds.
    pub written_secs: f64,
    /// How long revoking took, seconds.
    pub revoked_secs: f64,
    /// Length of the store, bytes.
    pub store_bytes: u64,
    /// Of each certificate, with its share of its device's row and of all indexes.
    pub bytes_per_certificate: f64,
    /// From the start of the process until it answers, milliseconds.
    pub start_ms: Option<Spread>,
    /// Look-ups of a device by its UEID at the port for services.
    pub by_ueid: Option<Latency>,
    /// The same by its maker's serial number.
    pub by_serial: Option<Latency>,
    /// Look-ups of a certificate by its serial number: OCSP, signed for each.
    pub ocsp: Option<Latency>,
    /// `ca revoke --batch … --dry-run`: a count of ten thousand devices, seconds.
    pub count_batch_secs: f64,
    /// `ca revoke --model … --dry-run`: a count of nearly all, seconds.
    pub count_model_secs: f64,
}

impl Preload {
    /// Writes the rows into a copy of the installation, which has a certificate already.
    ///
    /// # Errors
    /// Files or the store.
    pub fn make(bed: &Bed<'_>, plant: &Plant, requests: &Spool, many: usize) -> Outcome<Self> {
        let dir = bed.path("preloaded");
        copy(&plant.dir, &dir)?;
        let path = dir.join("store").join("ca.db");
        let devices = many.div_ceil(EACH).max(1);
        let store = Store::open(&path).map_err(|e| store_fault(&e))?;
        let mut models = [SERVING_MODEL; RECALLED];
        if let Some(first) = models.first_mut() {
            *first = RECALLED_MODEL;
        }
        let certificates = devices * EACH;
        let span_ms = SPAN_SECS * 1_000;
        let rows = Fill {
            devices,
            each: EACH,
            from_secs: now_secs().saturating_sub(SPAN_SECS),
            step_ms: span_ms / u64::try_from(certificates).unwrap_or(u64::MAX),
            life_secs: LIFE_SECS,
            shard: SHARD,
            models: &models,
            profiles: &[PROFILE],
            sample: LOOK_UPS,
        };
        bed.bar.set_message(format!("{certificates} certificates"));
        bed.bar
            .set_length(u64::try_from(devices + certificates).unwrap_or(0));
        let begun = Instant::now();
        let told = |rows| bed.bar.set_position(u64::try_from(rows).unwrap_or(0));
        let sample = fill(&store, rows, &mut OsRng, told).map_err(odd)?;
        let written_secs = begun.elapsed().as_secs_f64();

        bed.bar.set_message("revocations");
        let begun = Instant::now();
        let recalled = Predicate {
            model: Some(RECALLED_MODEL.to_owned()),
            ..Predicate::default()
        };
        let word = Word::Revoke(FinalReason::CessationOfOperation);
        let now = UnixSecs(now_secs());
        let done = say_to_all(&store, &recalled, word, now, |_| ()).map_err(odd)?;
        let revoked_secs = begun.elapsed().as_secs_f64();
        // Closed, its log is in the file.
        drop(store);
        let len = std::fs::metadata(&path).map_err(|e| Fault::io("read", &path, &e))?;
        Ok(Self {
            found: Preloaded {
                devices,
                certificates,
                revoked: done.changed,
                written_secs,
                revoked_secs,
                store_bytes: len.len(),
                bytes_per_certificate: ratio(len.len(), certificates),
                start_ms: None,
                by_ueid: None,
                by_serial: None,
                ocsp: None,
                count_batch_secs: 0.0,
                count_model_secs: 0.0,
            },
            requests: requests.read()?,
            sample,
            starts: Vec::new(),
            dir,
        })
    }

    /// Starts the CA over it, and notes how long that took; gives the requests that nobody sent yet.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&mut self, cpu: usize) -> Outcome<(Served, &mut Reader)> {
        let begun = Instant::now();
        let server = Served::here("ca", self.dir.clone(), cpu)?;
        let target = target(&server, "", OCSP_REQUEST, Refusals::Fault);
        let health = vec![Ask::Get("/healthz".to_owned())];
        drive(&target, health, Pace::Closed(1))?;
        self.starts.push(begun.elapsed());
        server.settle()?;
        Ok((server, &mut self.requests))
    }

    /// Times look-ups and counts, and gives all that was found.
    ///
    /// # Errors
    /// An answer that is wrong.
    pub fn ask(mut self, bed: &Bed<'_>, issuing: &[u8]) -> Outcome<Preloaded> {
        pin(bed.cpus.client)?;
        let (server, _) = self.start(bed.cpus.server)?;
        let services = Target {
            address: server.address_of("devices")?,
            ..target(&server, "", OCSP_REQUEST, Refusals::Fault)
        };
        let name = |name: String| Ask::Get(format!("/v1/devices/{name}"));
        let by_ueid = self.sample.iter().map(|one| name(one.ueid.to_string()));
        self.found.by_ueid = self.look_up(&services, by_ueid.collect())?;
        let by_serial = self.sample.iter().map(|one| name(one.serial.clone()));
        self.found.by_serial = self.look_up(&services, by_serial.collect())?;

        let asks = self.sample.iter().map(|one| {
            let body = ocsp::plain_request(issuing, &one.certificate)?;
            Ok(Ask::Post(Bytes::from(body)))
        });
        let target = target(&server, "/ocsp", OCSP_REQUEST, Refusals::Fault);
        let driven = drive(&target, asks.collect::<Outcome<_>>()?, looking())?;
        for (number, (one, answer)) in self.sample.iter().zip(driven.bodies()).enumerate() {
            let revoked = (number * self.every()).is_multiple_of(RECALLED);
            ocsp::judge(answer, &one.certificate, revoked)?;
        }
        self.found.ocsp = figures::latency(&driven.latencies());

        let of_batch = BATCH.min(self.found.devices) * EACH;
        self.found.count_batch_secs = self.count(bed, &["--batch", "F0"], of_batch)?;
        let rest = self.found.devices - self.found.devices.div_ceil(RECALLED);
        let model = ["--model", SERVING_MODEL];
        self.found.count_model_secs = self.count(bed, &model, rest * EACH)?;
        let starts = self.starts.iter().map(|took| took.as_secs_f64() * 1e3);
        self.found.start_ms = Spread::of(starts);
        Ok(self.found)
    }

    /// How far apart the devices of the sample are.
    fn every(&self) -> usize {
        self.found.devices.div_ceil(LOOK_UPS).max(1)
    }

    /// Devices at the port for services; each answer must be of the device that was asked for.
    fn look_up(&self, services: &Target, asks: Vec<Ask>) -> Outcome<Option<Latency>> {
        let driven: Driven = drive(services, asks, looking())?;
        for (one, answer) in self.sample.iter().zip(driven.bodies()) {
            let view: DeviceView = serde_json::from_slice(answer).map_err(odd)?;
            let right = view.ueid == one.ueid.to_string() && view.serial == one.serial;
            if !right || view.certificates.len() != EACH {
                return Err(refused(format!(
                    "a device's answer is another one's: {view:?}"
                )));
            }
        }
        Ok(figures::latency(&driven.latencies()))
    }

    /// A dry run of `ca revoke` in a process of its own; it must find so many certificates.
    fn count(&self, bed: &Bed<'_>, what: &[&str], expected: usize) -> Outcome<f64> {
        let mut command = supervise::this_program()?;
        command.args(["ca", "revoke", "--dry-run", "--json"]);
        command.args(what).arg("--config");
        command.arg(self.dir.join("tegata.toml"));
        let begun = Instant::now();
        let output = supervise::output(command, Some(bed.cpus.client), COUNT_LIMIT);
        let output = output.map_err(|e| odd(format!("`ca revoke --dry-run`: {e}")))?;
        let secs = begun.elapsed().as_secs_f64();
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|e| {
            let why = String::from_utf8_lossy(&output.stderr);
            odd(format!("`ca revoke --dry-run` failed: {e}: {}", why.trim()))
        })?;
        let matched = found.get("matched").and_then(serde_json::Value::as_u64);
        if matched != u64::try_from(expected).ok() {
            return Err(refused(format!(
                "`ca revoke {}` counts {matched:?} certificates, and {expected} were written",
                what.join(" ")
            )));
        }
        Ok(secs)
    }
}

impl Preloaded {
    /// The targets of a large store.
    #[must_use]
    pub fn goals(&self) -> Vec<Option<Goal>> {
        let p99 = |latency: Option<Latency>| {
            Spread::of(latency.map(|latency| latency.p99_us / 1e3).into_iter())
        };
        let goal = |what, limit, found| Goal::new(what, Aim::AtMost(limit), found);
        vec![
            goal("start of the large store, ms", 3_000.0, self.start_ms),
            goal(
                "look-up of a device by UEID, 99 %, ms",
                5.0,
                p99(self.by_ueid),
            ),
            goal(
                "look-up by serial number, 99 %, ms",
                5.0,
                p99(self.by_serial),
            ),
            goal(
                "OCSP by certificate serial number, 99 %, ms",
                5.0,
                p99(self.ocsp),
            ),
        ]
    }

    /// For people.
    #[must_use]
    pub fn note(&self) -> String {
        let time = |latency: Option<Latency>| {
            let ms = figures::milliseconds;
            latency.map_or("-".to_owned(), |l| {
                format!("{} / {}", ms(l.p50_us), ms(l.p99_us))
            })
        };
        format!(
            "Large store: {} certificates of {} devices, {} revoked; written in {:.0} s, revoked in {:.0} s; \
             {:.1} GB, {:.0} bytes a certificate with its share of its device; median / 99 % of a look-up by UEID {}, \
             by serial number {}, by OCSP {}; a count of a batch {:.1} s, of nearly all {:.1} s.",
            self.certificates,
            self.devices,
            self.revoked,
            self.written_secs,
            self.revoked_secs,
            ratio(self.store_bytes, 1_000_000_000),
            self.bytes_per_certificate,
            time(self.by_ueid),
            time(self.by_serial),
            time(self.ocsp),
            self.count_batch_secs,
            self.count_model_secs,
        )
    }
}

fn looking() -> Pace {
    Pace::Closed(LOOK_UP_CLIENTS)
}

/// Bytes by a number.
fn ratio(bytes: u64, by: usize) -> f64 {
    let kib = u32::try_from(bytes / 1024).map_or(f64::MAX, f64::from);
    kib * 1024.0 / figures::number(by.max(1))
}
