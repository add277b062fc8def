//! The verify role's port: verdicts on what devices sign.
//!
//! `GET /v1/nonce` gives a nonce to ask a device with; `POST /v1/statements` judges what it signed.
//!
//! Invariants: a nonce counts once, and no longer than its life whatever the time of day is set to; a
//! statement is recorded as its device's last only when it passes, in the same transaction that
//! compared it; a CA that does not answer gives 503, never a verdict without it.
//!
//! Trusted: the anchors file, the CA's word over [verify] ca_url, this process's memory; the time of
//! day, for what is asked of dates. Not trusted: who posts.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, any};
use tegata_authority::statement::{
    Authentic, Authenticator, Before, Finding, Freshness, NonceFinding, NotAuthentic, Standing,
    StatementPolicy, ValidAt, judge,
};
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::chain::TrustAnchor;
use tegata_crypto::{OsRng, Provider as _, Rng as _, ct_eq};
use tegata_store::{Store, StoreError, statement};
use tegata_wire::ids::Ueid;
use tegata_wire::rats::statement::MAX_STATEMENT_LEN;
use tracing::info;

use super::devices::DeviceView;
use super::{Reply, Work, fetched, health, run};
use crate::config::{Config, FreshnessRule, Verify};
use crate::fault::{Fault, Outcome};
use crate::http::body::{self, Accepts};
use crate::http::client::Client;
use crate::http::places::Places;
use crate::http::problem::Problem;
use crate::serve::{self, Addresses};
use crate::stores::{self, now_secs, since_boot_ms, store_fault};
use crate::{files, verdict};

/// Media types of a statement. Spec: RFC 9052 section 11.3.1, RFC 9782
const TYPES: [&str; 2] = ["application/eat+cwt", "application/cose"];
/// Most nonces used and not yet expired.
const USED_MAX: usize = 1_000_000;
/// Most certificates that the CA's good word is remembered of.
const GOOD_MAX: usize = 65_536;

/// What the role works with.
struct Verifier {
    store: Store,
    anchors: Vec<TrustAnchor>,
    policy: StatementPolicy,
    settings: Verify,
    nonces: NonceBook,
    ca: Ca,
}

/// Reads root certificates from a PEM file of one or more.
///
/// # Errors
/// The file is missing, or holds no CA certificate.
pub fn anchors(path: &std::path::Path) -> Outcome<Vec<TrustAnchor>> {
    let text = files::read(path, 64 * 1024)?;
    let text = String::from_utf8_lossy(&text);
    let refused = |why: String| {
        Fault::usage(
            "bad-anchor",
            format!("{} holds no certificate of a CA: {why}", path.display()),
            "Take the ca.pem of the CA's machine, which `tegata init` made; after a rollover, the new one.",
        )
    };
    let mut found = Vec::new();
    for block in text.split_inclusive("-----END CERTIFICATE-----") {
        let Some(begin) = block.find("-----BEGIN CERTIFICATE-----") else {
            continue;
        };
        let pem = block.get(begin..).unwrap_or_default();
        let (_, der) = der::pem::decode_vec(pem.as_bytes()).map_err(|e| refused(e.to_string()))?;
        found.push(TrustAnchor::from_cert_der(&der).map_err(|e| refused(e.to_string()))?);
    }
    if found.is_empty() {
        return Err(refused("there is no PEM block in it".to_owned()));
    }
    Ok(found)
}

/// Opens the role and gives its routes. Its store is made when it is missing: it holds no key.
///
/// # Errors
/// Anchors, store, the CA's address: as a sentence.
pub fn open(config: &Config, addresses: &Addresses) -> Outcome<Router> {
    let Some(settings) = config.verify.clone() else {
        return Ok(Router::new());
    };
    let base = settings
        .ca_url
        .clone()
        .or_else(|| addresses.devices.map(|devices| format!("http://{devices}")))
        .or_else(|| serve::devices_listen(config))
        .ok_or_else(|| {
            Fault::usage(
                "no-url",
                "the address where the CA tells of devices is not known".to_owned(),
                format!(
                    "Write `[verify] ca_url` into {}, or `[ca.devices] listen` where the CA runs.",
                    config.path.display()
                ),
            )
        })?;
    files::make_dir(&config.store_dir)?;
    let place = stores::place(config, crate::cli::Role::Verify);
    let store = Store::open(place).map_err(|e| store_fault(&e))?;
    let policy = StatementPolicy {
        purpose: settings.purpose,
        speed_max_m_s: f64::from(settings.speed_max_m_s),
        accuracy_max_m: f64::from(settings.accuracy_max_m),
        ..StatementPolicy::location()
    };
    let verifier = Arc::new(Verifier {
        store,
        anchors: anchors(&settings.anchors)?,
        policy,
        nonces: NonceBook::new(settings.nonce_secs)?,
        ca: Ca {
            client: Client::new(),
            base,
            good: Mutex::new(GoodWord::default()),
            keep: Duration::from_secs(settings.status_secs),
        },
        settings,
    });
    let (for_nonce, for_check) = (Arc::clone(&verifier), Arc::clone(&verifier));
    let nonce: Work = Arc::new(move |_, _| for_nonce.give_nonce());
    let check: Work = Arc::new(move |_, _| {
        let nobody = Ueid::from_random([0; 16]);
        for_check
            .store
            .read("health", |tx| statement::before(tx, &nobody, &[0; 32]))
            .map(|_| Reply::nothing())
            .map_err(|e| Problem::of_store(&e))
    });
    Ok(Router::new()
        .route("/v1/nonce", fetched(nonce))
        .route(
            "/v1/statements",
            statements(verifier, config.limits.body_timeout),
        )
        .merge(health("verify", check)))
}

/// The resource that takes statements of either media type.
fn statements(verifier: Arc<Verifier>, timeout: Duration) -> MethodRouter {
    any(move |request: Request| {
        let verifier = Arc::clone(&verifier);
        async move {
            if request.method() != Method::POST {
                return Problem::method_not_allowed("POST").into_response();
            }
            let places = Places::of(&request);
            let (parts, body) = request.into_parts();
            let accepts = Accepts {
                content_type: media_type(&parts.headers),
                answer_type: "application/json",
                len_bytes_max: MAX_STATEMENT_LEN,
                timeout,
            };
            match body::read(&parts.headers, body, accepts).await {
                Ok(bytes) => run(places, move || verifier.verdict(&bytes)).await,
                Err(problem) => problem.into_response(),
            }
        }
    })
}

/// The one of ours that the sender names; the first, to be refused by, if it names another.
fn media_type(headers: &HeaderMap) -> &'static str {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    let [first, _] = TYPES;
    TYPES
        .into_iter()
        .find(|known| essence.eq_ignore_ascii_case(known))
        .unwrap_or(first)
}

impl Verifier {
    fn give_nonce(&self) -> Result<Reply, Problem> {
        let nonce = self.nonces.give(since_boot_ms())?;
        let json = serde_json::json!({
            "nonce": hex::encode(nonce), "expires_in": self.settings.nonce_secs,
        });
        Ok(Reply::ok("application/json", json.to_string().into_bytes()))
    }

    fn verdict(&self, message: &[u8]) -> Result<Reply, Problem> {
        let now = now_secs();
        let mut authenticator = Authenticator::new(&AwsLc, &self.anchors, &self.policy);
        let authentic = match authenticator.authenticate(message, ValidAt::Time(now)) {
            Ok(authentic) => authentic,
            Err(reason) => return refused(&reason),
        };
        let ueid = authentic.statement().ueid;
        // 1. What the CA says; without its answer there is no verdict, and the nonce stays good.
        let standing = self.ca.standing(&ueid, authentic.certificate_digest())?;
        // 2. The nonce is used up by the first authentic statement that carries it.
        let freshness = match self.settings.freshness {
            FreshnessRule::Nonce => Freshness::Nonce {
                finding: self
                    .nonces
                    .take(&authentic.statement().nonce, since_boot_ms())?,
                now,
                secs: self.settings.nonce_secs,
            },
            FreshnessRule::Window => Freshness::Window {
                now,
                secs: self.settings.window_secs,
            },
        };
        // 3. Compared and recorded in one transaction: of two alike at once, one passes.
        let judged = self.judge_and_record(&authentic, freshness, standing, now);
        let findings = judged.map_err(|e| {
            // There is no verdict, so the statement can be sent again: its nonce is good as before.
            if let Freshness::Nonce {
                finding: NonceFinding::Fresh,
                ..
            } = freshness
            {
                self.nonces.give_back(&authentic.statement().nonce);
            }
            Problem::of_store(&e)
        })?;
        Ok(reply(&authentic, &findings))
    }

    fn judge_and_record(
        &self,
        authentic: &Authentic,
        freshness: Freshness,
        standing: Standing,
        now: u64,
    ) -> Result<Vec<Finding>, StoreError> {
        let (said, certificate) = (authentic.statement(), authentic.certificate_digest());
        self.store.run_tx("judge statement", |tx| {
            let before = statement::before(tx, &said.ueid, certificate)?;
            let findings = judge(authentic, &self.policy, freshness, standing, &before);
            if findings.is_empty() {
                statement::put(tx, &said.ueid, certificate, &Before::after(said, now))?;
            }
            Ok(findings)
        })
    }
}

/// What is no statement gets a problem; what is one, and nobody's, a verdict.
fn refused(reason: &NotAuthentic) -> Result<Reply, Problem> {
    info!(role = "verify", reason = reason.code(), cause = %reason, "statement not authentic");
    match reason {
        NotAuthentic::TooLong { .. }
        | NotAuthentic::Malformed(_)
        | NotAuthentic::NoChain
        | NotAuthentic::Claims(_) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            reason.code(),
            "This is not a signed statement with its certificates.",
        )),
        _ => {
            let json = verdict::of_stranger(reason).to_string().into_bytes();
            Ok(Reply {
                reason: reason.code(),
                ..Reply::ok("application/json", json)
            })
        }
    }
}

fn reply(authentic: &Authentic, findings: &[Finding]) -> Reply {
    let reason = findings.first().map_or("ok", Finding::code);
    let said = authentic.statement();
    info!(
        role = "verify", ueid = %said.ueid, number = said.number, reason, "statement judged"
    );
    let json = verdict::of(authentic, findings).to_string().into_bytes();
    Reply {
        reason,
        ..Reply::ok("application/json", json)
    }
}

/// Nonces: moment of issue, random bytes and a tag under a key of this process. None is stored until
/// it is used, so that asking costs nothing; a restart voids those that are out.
///
/// Moments are milliseconds of a clock that never goes back; every method takes this moment.
struct NonceBook {
    key: [u8; 32],
    secs: u64,
    used: Mutex<Used>,
}

/// Nonces that were used and would not have expired, and the latest moment that was seen.
#[derive(Default)]
struct Used {
    nonces: BTreeSet<[u8; 32]>,
    latest_ms: u64,
}

impl NonceBook {
    fn new(secs: u64) -> Outcome<Self> {
        let mut key = [0; 32];
        OsRng
            .fill(&mut key)
            .map_err(|e| Fault::environment("no-random", e.to_string(), "Check /dev/urandom."))?;
        Ok(Self {
            key,
            secs,
            used: Mutex::new(Used::default()),
        })
    }

    fn tag(&self, head: &[u8]) -> [u8; 32] {
        AwsLc.hmac_sha256(&self.key, head)
    }

    fn give(&self, now_ms: u64) -> Result<[u8; 32], Problem> {
        let mut nonce = [0; 32];
        let (head, tag) = nonce.split_at_mut(16);
        let (time, random) = head.split_at_mut(8);
        time.copy_from_slice(&now_ms.to_be_bytes());
        OsRng
            .fill(random)
            .map_err(|_| Problem::internal("no-random"))?;
        let made = self.tag(head);
        tag.copy_from_slice(made.get(..16).unwrap_or(&[0; 16]));
        Ok(nonce)
    }

    /// What a nonce is worth; a fresh one is used up by asking.
    fn take(&self, nonce: &[u8], now_ms: u64) -> Result<NonceFinding, Problem> {
        let Ok(nonce) = <[u8; 32]>::try_from(nonce) else {
            return Ok(NonceFinding::Unknown);
        };
        let (head, tag) = nonce.split_at(16);
        if !self
            .tag(head)
            .get(..16)
            .is_some_and(|ours| ct_eq(ours, tag))
        {
            return Ok(NonceFinding::Unknown);
        }
        let given_ms = head
            .first_chunk()
            .map_or(0, |time| u64::from_be_bytes(*time));
        let life_ms = self.secs.saturating_mul(1_000);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have looked at the clock later and forgotten what expired since; it is
        // no earlier for this one.
        let now_ms = now_ms.max(used.latest_ms);
        used.latest_ms = now_ms;
        // One from the future is not one that this clock gave.
        if now_ms.checked_sub(given_ms).is_none_or(|age| age > life_ms) {
            return Ok(NonceFinding::Expired);
        }
        // They are in the order of time: what has expired stands at the front.
        let mut oldest = [0; 32];
        let (time, _) = oldest.split_at_mut(8);
        time.copy_from_slice(&now_ms.saturating_sub(life_ms).to_be_bytes());
        used.nonces = used.nonces.split_off(&oldest);
        if used.nonces.len() >= USED_MAX {
            return Err(Problem::busy("too-many-nonces", 5));
        }
        Ok(if used.nonces.insert(nonce) {
            NonceFinding::Fresh
        } else {
            NonceFinding::Used
        })
    }

    /// Takes a use back: there was no verdict.
    fn give_back(&self, nonce: &[u8]) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(nonce) = <[u8; 32]>::try_from(nonce) {
            used.nonces.remove(&nonce);
        }
    }
}

/// A device and a certificate of it, by its SHA-256.
type Pair = (Ueid, [u8; 32]);

/// Certificates that the CA said are good, and when it was asked. Nothing else of what it says is
/// kept: a certificate that was not may be by now.
#[derive(Default)]
struct GoodWord {
    asked: HashMap<Pair, Duration>,
    /// In the order in which they were heard, so that the oldest are forgotten.
    order: VecDeque<(Duration, Pair)>,
}

impl GoodWord {
    fn is_good(&self, pair: &Pair, now: Duration, keep: Duration) -> bool {
        let asked = self.asked.get(pair);
        asked.is_some_and(|asked| now.saturating_sub(*asked) < keep)
    }

    fn heard(&mut self, pair: Pair, asked: Duration, keep: Duration, most: usize) {
        self.asked.insert(pair, asked);
        self.order.push_back((asked, pair));
        while let Some((then, pair)) = self.order.front().copied() {
            if asked.saturating_sub(then) < keep && self.order.len() <= most {
                return;
            }
            self.order.pop_front();
            // Asked again since: that one stands further back.
            if self.asked.get(&pair) == Some(&then) {
                self.asked.remove(&pair);
            }
        }
    }
}

/// The CA, asked for devices.
struct Ca {
    client: Client,
    base: String,
    good: Mutex<GoodWord>,
    keep: Duration,
}

impl Ca {
    fn standing(&self, ueid: &Ueid, certificate: &[u8; 32]) -> Result<Standing, Problem> {
        let pair = (*ueid, *certificate);
        // Before asking: what the CA says is of no later moment.
        let now = Duration::from_millis(since_boot_ms());
        let good = || self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good().is_good(&pair, now, self.keep) {
            return Ok(Standing::Good);
        }
        let view = self.ask(ueid)?;
        let standing = standing_in(view.as_ref(), certificate);
        if standing == Standing::Good {
            good().heard(pair, now, self.keep, GOOD_MAX);
        }
        Ok(standing)
    }

    fn ask(&self, ueid: &Ueid) -> Result<Option<DeviceView>, Problem> {
        let url = format!("{}/v1/devices/{ueid}", self.base);
        let failed = |cause: String| {
            info!(
                role = "verify",
                reason = "ca-unreachable",
                cause,
                "no word of the CA"
            );
            Problem::busy("ca-unreachable", 5)
        };
        let answer = self.client.get(&url).map_err(|e| failed(e.to_string()))?;
        match answer.status {
            200 => {
                let view: DeviceView =
                    serde_json::from_slice(&answer.body).map_err(|e| failed(e.to_string()))?;
                if view.ueid != ueid.to_string() {
                    return Err(failed(format!("it told of {}", view.ueid)));
                }
                Ok(Some(view))
            }
            // Not the 404 of another port, or of a proxy before it.
            404 if answer.complaint().ends_with("(device-unknown)") => Ok(None),
            _ => Err(failed(answer.complaint())),
        }
    }
}

fn standing_in(view: Option<&DeviceView>, certificate: &[u8; 32]) -> Standing {
    let Some(view) = view else {
        return Standing::NoDevice;
    };
    let wanted = hex::encode(certificate);
    match view.certificates.iter().find(|c| c.sha256 == wanted) {
        None => Standing::NotIssued,
        Some(found) => match found.status.as_str() {
            "issued" | "confirmed" => Standing::Good,
            "revoked" | "held" => Standing::Revoked,
            // A word that this program does not know is no good word.
            _ => Standing::Rejected,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::devices;
    use super::*;

    #[test]
    fn a_nonce_counts_once_and_not_for_ever() {
        let book = NonceBook::new(10).unwrap();
        let nonce = book.give(1_000_000).unwrap();
        assert_eq!(book.take(&nonce, 1_001_000).unwrap(), NonceFinding::Fresh);
        assert_eq!(book.take(&nonce, 1_002_000).unwrap(), NonceFinding::Used);
        assert_eq!(book.take(&nonce, 1_011_000).unwrap(), NonceFinding::Expired);
        let other = NonceBook::new(10).unwrap();
        assert_eq!(
            other.take(&nonce, 1_001_000).unwrap(),
            NonceFinding::Unknown
        );
        let mut forged = book.give(1_000_000).unwrap();
        forged[0] ^= 1;
        assert_eq!(
            book.take(&forged, 1_001_000).unwrap(),
            NonceFinding::Unknown
        );
        assert_eq!(book.take(b"short", 0).unwrap(), NonceFinding::Unknown);
        // What has expired is forgotten.
        let later = book.give(2_000_000).unwrap();
        assert_eq!(book.take(&later, 2_000_000).unwrap(), NonceFinding::Fresh);
        assert_eq!(book.used.lock().unwrap().nonces.len(), 1);
    }

    #[test]
    fn a_nonce_does_not_live_on_when_time_goes_back() {
        let book = NonceBook::new(10).unwrap();
        let nonce = book.give(1_000_000).unwrap();
        assert_eq!(book.take(&nonce, 999_999).unwrap(), NonceFinding::Expired);
        assert_eq!(book.take(&nonce, 1_000_000).unwrap(), NonceFinding::Fresh);
        // A thread that looked at the clock before another, which has forgotten the nonce.
        let other = book.give(1_011_000).unwrap();
        assert_eq!(book.take(&other, 1_011_000).unwrap(), NonceFinding::Fresh);
        assert_eq!(book.take(&nonce, 1_009_000).unwrap(), NonceFinding::Expired);
        // Nor do those given out follow the time of day.
        let before = since_boot_ms();
        std::thread::sleep(Duration::from_millis(2));
        assert!(since_boot_ms() > before);
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let secs: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let ours = Duration::from_millis(since_boot_ms()).as_secs_f64();
        assert!((ours - secs).abs() < 10.0, "{ours} {secs}");
    }

    #[test]
    fn without_a_verdict_a_nonce_stays_good() {
        let book = NonceBook::new(10).unwrap();
        let nonce = book.give(1_000).unwrap();
        assert_eq!(book.take(&nonce, 2_000).unwrap(), NonceFinding::Fresh);
        book.give_back(&nonce);
        assert_eq!(book.take(&nonce, 3_000).unwrap(), NonceFinding::Fresh);
        assert_eq!(book.take(&nonce, 4_000).unwrap(), NonceFinding::Used);
    }

    #[test]
    fn the_cas_good_word_is_kept_for_a_while_and_for_few() {
        let pair = |n: u8| (Ueid::from_random([n; 16]), [n; 32]);
        let at = Duration::from_secs;
        let keep = at(30);
        let mut good = GoodWord::default();
        good.heard(pair(1), at(100), keep, 3);
        assert!(good.is_good(&pair(1), at(129), keep));
        assert!(!good.is_good(&pair(1), at(130), keep));
        assert!(!good.is_good(&(pair(1).0, [2; 32]), at(101), keep));
        // Asked again: the earlier word's end is not its end.
        good.heard(pair(1), at(120), keep, 3);
        good.heard(pair(2), at(131), keep, 3);
        assert!(good.is_good(&pair(1), at(131), keep));
        // What is too old goes when something comes, and what is too many.
        good.heard(pair(3), at(162), keep, 3);
        assert_eq!((good.asked.len(), good.order.len()), (1, 1));
        for n in 4..9 {
            good.heard(pair(n), at(163), keep, 3);
        }
        assert_eq!((good.asked.len(), good.order.len()), (3, 3));
        // Nothing is kept if nothing is to be.
        let mut none = GoodWord::default();
        none.heard(pair(1), at(100), at(0), 3);
        assert!(none.asked.is_empty() && none.order.is_empty());
    }

    /// A CA that gives these answers, one to each connection.
    fn ca(answers: Vec<String>) -> Ca {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in answers {
                let (mut socket, _) = listener.accept().unwrap();
                let _ = socket.read(&mut [0; 4096]).unwrap();
                socket.write_all(answer.as_bytes()).unwrap();
            }
        });
        Ca {
            client: Client::new(),
            base,
            good: Mutex::default(),
            keep: Duration::from_secs(3_600),
        }
    }

    fn http(status: &str, body: &str) -> String {
        let len = body.len();
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}")
    }

    #[test]
    fn the_ca_is_believed_for_the_device_that_was_asked_for() {
        let ueid = Ueid::from_random([7; 16]);
        let of = |ueid: Ueid| {
            let view = DeviceView {
                ueid: ueid.to_string(),
                ..view()
            };
            http("200 OK", &serde_json::to_string(&view).unwrap())
        };
        let problem = |code: &str| {
            let body = format!("{{\"type\":\"urn:tegata:problem:{code}\",\"detail\":\"no\"}}");
            http("404 Not Found", &body)
        };
        let ca = ca(vec![
            of(Ueid::from_random([8; 16])),
            problem("not-found"),
            problem("device-unknown"),
            of(ueid),
            of(ueid),
        ]);
        assert!(ca.standing(&ueid, &[1; 32]).is_err(), "another device's");
        assert!(ca.standing(&ueid, &[1; 32]).is_err(), "another port's 404");
        let unknown = ca.standing(&ueid, &[1; 32]).unwrap();
        assert_eq!(unknown, Standing::NoDevice);
        assert_eq!(ca.standing(&ueid, &[2; 32]).unwrap(), Standing::Rejected);
        assert_eq!(ca.standing(&ueid, &[1; 32]).unwrap(), Standing::Good);
        // From memory: the CA is gone.
        assert_eq!(ca.standing(&ueid, &[1; 32]).unwrap(), Standing::Good);
        assert!(ca.standing(&ueid, &[2; 32]).is_err());
    }

    /// A device with a certificate that it took, and one that it refused.
    fn view() -> DeviceView {
        let certificate = |status: &str, n: u8| devices::CertificateView {
            serial: String::new(),
            profile: String::new(),
            release: String::new(),
            status: status.to_owned(),
            not_before: 0,
            not_after: 0,
            sha256: hex::encode([n; 32]),
            public_key: String::new(),
            chain: Vec::new(),
        };
        DeviceView {
            ueid: String::new(),
            serial: String::new(),
            model: String::new(),
            batch: String::new(),
            status: String::new(),
            attestation_key: String::new(),
            certificates: vec![certificate("confirmed", 1), certificate("rejected", 2)],
        }
    }

    #[test]
    fn what_the_ca_says_of_a_certificate() {
        let known = view();
        assert_eq!(standing_in(None, &[1; 32]), Standing::NoDevice);
        assert_eq!(standing_in(Some(&known), &[1; 32]), Standing::Good);
        assert_eq!(standing_in(Some(&known), &[2; 32]), Standing::Rejected);
        assert_eq!(standing_in(Some(&known), &[3; 32]), Standing::NotIssued);
        for status in ["revoked", "held"] {
            let mut view = view();
            view.certificates[0].status = status.to_owned();
            assert_eq!(standing_in(Some(&view), &[1; 32]), Standing::Revoked);
        }
    }
}
