//! The TAM's port: TEEP for devices, encrypted TAs for anybody, releases from the CA.

use std::str::FromStr as _;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::{OsRng, PublicKey};
use tegata_store::held::say;
use tegata_store::role::{Role as RoleStore, RoleError};
use tegata_store::tam::{PeerFailure, Peers, TamServer, TeepAnswer, TeepFault, TeepOutcome};
use tegata_store::teep;
use tegata_wire::ids::ReleaseDigest;
use tegata_wire::teep::MEDIA_TYPE as TEEP;
use tracing::{info, warn};

use super::{Reply, Work, fetched, health, posted, role_problem};
use crate::cli::Role;
use crate::commands::import::{role_fault, role_store};
use crate::config::Config;
use crate::fault::{Fault, Outcome};
use crate::http::body::Accepts;
use crate::http::client::Client;
use crate::http::content::Content;
use crate::http::places::Lane;
use crate::http::problem::Problem;
use crate::roles::verifier::{APPRAISAL_REQUEST, EAR};
use crate::serve::Addresses;
use crate::stores::{now_ms, now_secs};
use crate::sweep;

/// Longest TEEP message of a device, bytes.
const TEEP_LEN_BYTES_MAX: usize = 256 * 1024;
/// Longest release package, bytes.
const PACKAGE_LEN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The TAM's public keys.
#[derive(Debug)]
pub struct TamKeys {
    /// Signs TEEP messages and device manifests.
    pub signing: PublicKey,
    /// The CA encrypts the paper profile's secrets to it.
    pub exchange: PublicKey,
}

/// Makes the TAM of a store unless there is one; gives its public keys.
///
/// # Errors
/// Store or sealing key.
pub fn init(role: &RoleStore, now: UnixSecs) -> Result<TamKeys, RoleError> {
    match TamServer::init(role, &mut OsRng, now) {
        Ok(()) | Err(RoleError::HasKey(_)) => {}
        Err(error) => return Err(error),
    }
    let tam = TamServer::open(role.clone(), None)?;
    Ok(TamKeys {
        signing: tam.public_key().clone(),
        exchange: tam.exchange_public_key().clone(),
    })
}

/// Imports symmetric delivery keys; gives how many.
///
/// # Errors
/// The file is malformed or names a device that is not registered.
pub fn import_keks(role: RoleStore, keks: &[u8]) -> Result<usize, RoleError> {
    TamServer::open(role, None)?.import_keks(keks, &mut OsRng)
}

/// CA and Verifier over HTTP.
struct HttpPeers {
    client: Client,
    ca: String,
    verifier: String,
}

impl HttpPeers {
    fn ask(
        &self,
        who: &'static str,
        url: &str,
        types: (&str, &str),
        body: &[u8],
    ) -> Result<Vec<u8>, PeerFailure> {
        let failure = |why: String| PeerFailure { who, why };
        let answer = self
            .client
            .post(url, types.0, types.1, body)
            .map_err(|e| failure(e.to_string()))?;
        if answer.status == 200 {
            Ok(answer.body)
        } else {
            Err(failure(answer.complaint()))
        }
    }
}

impl Peers for HttpPeers {
    fn appraise(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure> {
        let url = format!("{}/verifier/v1/appraise", self.verifier);
        self.ask("Verifier", &url, (APPRAISAL_REQUEST, EAR), request)
    }

    fn deliver(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure> {
        let url = format!("{}/ca/v1/delivery", self.ca);
        self.ask(
            "CA",
            &url,
            ("application/cose", "application/cbor"),
            request,
        )
    }

    fn attested(&self, word: &[u8]) -> Result<(), PeerFailure> {
        let url = format!("{}/ca/v1/appraisal", self.ca);
        let told = match self.client.post(&url, "application/cose", "*/*", word) {
            Ok(answer) if answer.status == 204 => return Ok(()),
            Ok(answer) => answer.complaint(),
            Err(error) => error.to_string(),
        };
        warn!(
            role = "tam",
            cause = told,
            "the CA did not take note of an attestation"
        );
        Err(PeerFailure {
            who: "CA",
            why: told,
        })
    }
}

/// Opens the role and gives its routes.
///
/// # Errors
/// Configuration, store, sealing key: as a sentence.
pub fn open(config: &Config, addresses: &Addresses) -> Outcome<(Router, Lane)> {
    let Some(settings) = &config.tam else {
        return Ok((Router::new(), Lane::wide()));
    };
    let missing = |what: &str, key: &str| {
        Fault::usage(
            "no-url",
            format!("the TAM does not know where the {what} is"),
            format!(
                "Write {key} below [tam] in {}, or run the {what} in the same process.",
                config.path.display()
            ),
        )
    };
    let here = |address: Option<std::net::SocketAddr>| address.map(|a| format!("http://{a}"));
    let peers = Arc::new(HttpPeers {
        client: Client::new(),
        ca: settings
            .ca_url
            .clone()
            .or_else(|| here(addresses.ca))
            .ok_or_else(|| missing("CA", "ca_url"))?,
        verifier: settings
            .verifier_url
            .clone()
            .or_else(|| here(addresses.verifier))
            .ok_or_else(|| missing("Verifier", "verifier_url"))?,
    });
    let role = role_store(config, Role::Tam)?;
    let (store, keep_secs) = (Arc::clone(&role.store), settings.keep_secs);
    let lane = Lane::holding(Arc::clone(&store));
    let tam = TamServer::open(role, settings.payload_url.clone()).map_err(|e| role_fault(&e))?;
    sweep::start("tam", store, move |store, now| {
        let before = i64::try_from(now.0.saturating_sub(keep_secs)).unwrap_or(0);
        let rows = store.run_tx("forget", |tx| teep::forget_some(tx, before));
        rows.map(|rows| u64::try_from(rows).unwrap_or(u64::MAX))
    });
    let tam = Arc::new(tam);
    let timeout = config.limits.body_timeout;
    let teep = Accepts {
        content_type: TEEP,
        answer_type: TEEP,
        len_bytes_max: TEEP_LEN_BYTES_MAX,
        timeout,
    };
    let releases = Accepts {
        content_type: "application/cbor",
        answer_type: "application/json",
        len_bytes_max: PACKAGE_LEN_BYTES_MAX,
        timeout,
    };
    let server = Arc::clone(&tam);
    let answer_teep: Work = Arc::new(move |_, body| answer_teep(&server, peers.as_ref(), body));
    let server = Arc::clone(&tam);
    let answer_release: Work = Arc::new(move |_, body| answer_release(&server, body));
    let server = Arc::clone(&tam);
    let answer_payload: Work = Arc::new(move |digest, _| answer_payload(&server, digest));
    let check: Work = Arc::new(move |_, _| {
        tam.releases()
            .map(|_| Reply::nothing())
            .map_err(|e| role_problem(&e))
    });
    let router = Router::new()
        .route("/tam", posted(teep, answer_teep))
        .route("/tam/tc/{digest}", fetched(answer_payload))
        .route("/tam/v1/releases", posted(releases, answer_release))
        .merge(health("tam", check));
    Ok((router, lane))
}

/// One TEEP message.
///
/// Spec: draft-ietf-teep-otrp-over-http section 5
fn answer_teep(tam: &TamServer, peers: &dyn Peers, body: &[u8]) -> Result<Reply, Problem> {
    let (answer, outcome) = tam
        .teep(body, peers, &mut OsRng, UnixMs(now_ms()))
        .map_err(|fault| {
            info!(role = "tam", reason = fault.code(), cause = %fault, "TEEP message denied");
            teep_problem(&fault)
        })?;
    let failed = matches!(outcome, TeepOutcome::Failed { .. });
    say(move || tell(&outcome));
    let mut reply = match answer {
        TeepAnswer::Message(message) => Reply::ok(TEEP, message),
        TeepAnswer::Nothing => Reply::nothing(),
    };
    if failed {
        reply.reason = DEVICE_ERROR;
    }
    Ok(reply)
}

/// Reason code where a device says that it failed.
const DEVICE_ERROR: &str = "device-error";

/// Tells the log what came of a message.
fn tell(outcome: &TeepOutcome) {
    match outcome {
        TeepOutcome::Queried => info!(role = "tam", "device queried"),
        TeepOutcome::UpToDate { ueid } => info!(role = "tam", %ueid, "device up to date"),
        TeepOutcome::Installing {
            ueid,
            release,
            sequence,
            len_bytes,
        } => {
            info!(role = "tam", %ueid, %release, sequence, len_bytes, "release sent");
        }
        TeepOutcome::Removing { ueid, ta } => info!(role = "tam", %ueid, %ta, "removal sent"),
        TeepOutcome::Succeeded { ueid, ta, release } => {
            let release = release.map(|digest| digest.to_string()).unwrap_or_default();
            info!(role = "tam", %ueid, %ta, release, "device reports success");
        }
        TeepOutcome::Failed { ueid, code, detail } => {
            let (reason, detail) = (DEVICE_ERROR, crate::cli::show::visible(detail));
            info!(role = "tam", reason, %ueid, code, detail, "device reports an error");
        }
        _ => {}
    }
}

/// TEEP has no message for a message that was not understood: HTTP says it.
fn teep_problem(fault: &TeepFault) -> Problem {
    match fault {
        TeepFault::Denied(denied) => Problem::new(
            StatusCode::FORBIDDEN,
            denied.code(),
            "The TAM does not act on this message; begin again with an empty body.",
        ),
        TeepFault::Peer(_) => Problem::busy("peer-unavailable", 5),
        TeepFault::Update(_) => Problem::internal("update-failed"),
        TeepFault::Role(error) => role_problem(error),
        _ => Problem::internal(fault.code()),
    }
}

fn answer_release(tam: &TamServer, body: &[u8]) -> Result<Reply, Problem> {
    let registered = tam.register_release(body, UnixSecs(now_secs()));
    match registered {
        Ok(summary) => {
            let (digest, name) = (summary.digest, summary.name);
            info!(role = "tam", release = %digest, name, sequence = summary.sequence, available = %summary.availability, "release registered");
            let json = serde_json::json!({
                "release": digest.to_string(), "ta": summary.ta.to_string(),
                "name": name, "sequence": summary.sequence,
                "available": summary.availability.to_string(),
            });
            Ok(Reply::ok("application/json", json.to_string().into_bytes()))
        }
        Err(error) => {
            info!(role = "tam", reason = error.code(), cause = %error, "release refused");
            Err(role_problem(&error))
        }
    }
}

/// The encrypted TA, to anybody: it is useless without a device it was wrapped for.
fn answer_payload(tam: &TamServer, digest: &str) -> Result<Reply, Problem> {
    let digest = ReleaseDigest::from_str(digest).map_err(|_| Problem::not_found())?;
    match tam.payload(&digest) {
        Ok(Some(bytes)) => Ok(Reply::ok(
            "application/octet-stream",
            Content::shared(bytes),
        )),
        Ok(None) => Err(Problem::not_found()),
        Err(error) => Err(role_problem(&error)),
    }
}
