//! The verify role's port: verdicts on what devices sign.
//!
//! `GET /v1/nonce` gives a nonce to ask a device with; `POST /v1/statements` judges what it signed.
//!
//! Invariants: a nonce counts once; a statement is recorded as its device's last only when it
//! passes, in the same transaction that compared it; a CA that does not answer gives 503, never a
//! verdict without it.
//!
//! Trusted: the anchors file, the CA's word over [verify] ca_url, this process's memory. Not
//! trusted: who posts.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, any};
use tegata_authority::statement::{
    Authentic, Authenticator, Finding, Freshness, Last, NonceFinding, NotAuthentic, Standing,
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
use super::{Reply, Work, fetched, health, respond};
use crate::config::{Config, FreshnessRule, Verify};
use crate::fault::{Fault, Outcome};
use crate::http::body::{self, Accepts};
use crate::http::client::Client;
use crate::http::problem::Problem;
use crate::serve::{self, Addresses};
use crate::stores::{now_ms, now_secs, store_fault};
use crate::{files, verdict};

/// Media types of a statement. Spec: RFC 9052 section 11.3.1, RFC 9782
const TYPES: [&str; 2] = ["application/eat+cwt", "application/cose"];
/// Most nonces used and not yet expired.
const USED_MAX: usize = 1_000_000;
/// Most devices whose status is remembered.
const DEVICES_MAX: usize = 65_536;

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
            "Take the ca.pem that `tegata init` made on the CA's machine.",
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
        .or_else(|| addresses.ca.map(|ca| format!("http://{ca}")))
        .or_else(|| serve::ca_listen(config))
        .ok_or_else(|| {
            Fault::usage(
                "no-url",
                "the address of the CA is not known".to_owned(),
                format!("Write `[verify] ca_url` into {}.", config.path.display()),
            )
        })?;
    files::make_dir(&config.store_dir)?;
    let store = Store::open(config.store_dir.join("verify.db")).map_err(|e| store_fault(&e))?;
    let policy = StatementPolicy {
        purpose: settings.purpose,
        // Speeds are at most 10,000: exact in any floating-point number.
        speed_max_m_s: u32::try_from(settings.speed_max_m_s).map_or(f64::MAX, f64::from),
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
            known: Mutex::new(HashMap::new()),
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
            .read("health", |tx| statement::last(tx, &nobody))
            .map(|_| Reply::nothing())
            .map_err(|e| store_problem(&e))
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
            let (parts, body) = request.into_parts();
            let accepts = Accepts {
                content_type: media_type(&parts.headers),
                answer_type: "application/json",
                len_bytes_max: MAX_STATEMENT_LEN,
                timeout,
            };
            match body::read(&parts.headers, body, accepts).await {
                Ok(bytes) => judge_in_background(verifier, bytes.to_vec()).await,
                Err(problem) => problem.into_response(),
            }
        }
    })
}

async fn judge_in_background(verifier: Arc<Verifier>, message: Vec<u8>) -> Response<Body> {
    match tokio::task::spawn_blocking(move || verifier.verdict(&message)).await {
        Ok(Ok(reply)) => respond(reply),
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => Problem::internal("internal").into_response(),
    }
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

fn store_problem(error: &StoreError) -> Problem {
    if error.is_retryable() {
        Problem::busy(error.code(), 5)
    } else {
        Problem::internal(error.code())
    }
}

impl Verifier {
    fn give_nonce(&self) -> Result<Reply, Problem> {
        let nonce = self.nonces.give(now_ms())?;
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
            FreshnessRule::Nonce => {
                Freshness::Nonce(self.nonces.take(&authentic.statement().nonce, now_ms())?)
            }
            FreshnessRule::Window => Freshness::Window {
                now,
                secs: self.settings.window_secs,
            },
        };
        // 3. Compared and recorded in one transaction: of two alike at once, one passes.
        let findings = self
            .store
            .run_tx("judge statement", |tx| {
                let last = statement::last(tx, &ueid)?;
                let findings = judge(&authentic, &self.policy, freshness, standing, last.as_ref());
                if findings.is_empty() {
                    let at = i64::try_from(now).unwrap_or(i64::MAX);
                    statement::put(tx, &ueid, &Last::of(authentic.statement()), at)?;
                }
                Ok::<_, StoreError>(findings)
            })
            .map_err(|e| store_problem(&e))?;
        Ok(reply(&authentic, &findings))
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

/// Nonces: time of issue, random bytes and a tag under a key of this process. None is stored until
/// it is used, so that asking costs nothing; a restart voids those that are out.
struct NonceBook {
    key: [u8; 32],
    secs: u64,
    used: Mutex<BTreeSet<[u8; 32]>>,
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
            used: Mutex::new(BTreeSet::new()),
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
        if now_ms.saturating_sub(given_ms) > life_ms {
            return Ok(NonceFinding::Expired);
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // They are in the order of time: what has expired stands at the front.
        let mut oldest = [0; 32];
        let (time, _) = oldest.split_at_mut(8);
        time.copy_from_slice(&now_ms.saturating_sub(life_ms).to_be_bytes());
        *used = used.split_off(&oldest);
        if used.len() >= USED_MAX {
            return Err(Problem::busy("too-many-nonces", 5));
        }
        Ok(if used.insert(nonce) {
            NonceFinding::Fresh
        } else {
            NonceFinding::Used
        })
    }
}

/// What the CA said of a device, and when; nothing if it knows none.
type Heard = (Instant, Arc<Option<DeviceView>>);

/// The CA, asked for devices.
struct Ca {
    client: Client,
    base: String,
    known: Mutex<HashMap<Ueid, Heard>>,
    keep: Duration,
}

impl Ca {
    fn standing(&self, ueid: &Ueid, certificate: &[u8; 32]) -> Result<Standing, Problem> {
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known
                .get(ueid)
                .filter(|(asked, _)| asked.elapsed() < self.keep)
                .map(|(_, view)| Arc::clone(view))
        };
        if let Some(view) = known {
            let standing = standing_in(view.as_ref().as_ref(), certificate);
            // A certificate may be newer than what is remembered: only good news are kept.
            if standing == Standing::Good {
                return Ok(standing);
            }
        }
        let view = Arc::new(self.ask(ueid)?);
        let standing = standing_in(view.as_ref().as_ref(), certificate);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= DEVICES_MAX {
            known.clear();
        }
        known.insert(*ueid, (Instant::now(), view));
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
            200 => serde_json::from_slice(&answer.body)
                .map(Some)
                .map_err(|e| failed(e.to_string())),
            404 => Ok(None),
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
        Some(found) if found.status == "rejected" => Standing::Rejected,
        Some(_) => Standing::Good,
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(book.used.lock().unwrap().len(), 1);
    }
}
