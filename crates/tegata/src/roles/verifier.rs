//! The Verifier's port: appraisals for the TAM, reference values from the CA.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use tegata_authority::UnixSecs;
use tegata_authority::verifier::AppraisalPolicy;
use tegata_crypto::{OsRng, PublicKey};
use tegata_store::held::say;
use tegata_store::role::{Role as RoleStore, RoleError};
use tegata_store::verifier::{VerifierFault, VerifierServer};
use tokio::runtime::Handle;
use tracing::info;

use super::{Reply, Work, health, posted, role_problem};
use crate::cli::Role;
use crate::commands::import::{role_fault, role_store};
use crate::config::{self, Config, diagnostic};
use crate::fault::Outcome;
use crate::http::body::Accepts;
use crate::http::places::Lane;
use crate::http::problem::Problem;
use crate::stores::now_secs;

/// Media type of an appraisal request.
pub const APPRAISAL_REQUEST: &str = "application/cbor";
/// Media type of a result: an EAR in CWT form. Spec: RFC 9782.
pub const EAR: &str = "application/eat+cwt";
/// Media type of a SUIT envelope. Spec: draft-ietf-suit-manifest section 12.
pub const SUIT_ENVELOPE: &str = "application/suit-envelope+cose";
/// Longest appraisal request, bytes.
const APPRAISAL_LEN_BYTES_MAX: usize = 64 * 1024;
/// Longest envelope, bytes.
const ENVELOPE_LEN_BYTES_MAX: usize = 256 * 1024;

/// Makes the Verifier of a store unless there is one; gives the key that signs its results.
///
/// # Errors
/// Store or sealing key.
pub fn init(role: &RoleStore, now: UnixSecs) -> Result<PublicKey, RoleError> {
    match VerifierServer::init(role, &mut OsRng, now) {
        Ok(()) | Err(RoleError::HasKey(_)) => {}
        Err(error) => return Err(error),
    }
    let policy = AppraisalPolicy::parse(tegata_authority::verifier::EXAMPLE)
        .map_err(|_| RoleError::NoKey("policy"))?;
    Ok(VerifierServer::open(role.clone(), policy)?
        .public_key()
        .clone())
}

/// Opens the role and gives its routes, and where their work is done; `few` has threads for work that keeps a
/// processor busy.
///
/// # Errors
/// Policy (with line), store, sealing key: as a sentence.
pub fn open(config: &Config, few: &Handle) -> Outcome<(Router, Lane)> {
    let Some(settings) = &config.verifier else {
        return Ok((Router::new(), Lane::wide()));
    };
    let text = config::read_text(&settings.policy, "read the appraisal policy")?;
    let policy = AppraisalPolicy::parse(&text)
        .map_err(|e| diagnostic::of_mistakes(&settings.policy, &text, &e))?;
    let role = role_store(config, Role::Verifier)?;
    let verifier = Arc::new(VerifierServer::open(role, policy).map_err(|e| role_fault(&e))?);
    let lane = Lane::narrow(few, &verifier.role().store);
    let timeout = config.limits.body_timeout;
    let appraise = Accepts {
        content_type: APPRAISAL_REQUEST,
        answer_type: EAR,
        len_bytes_max: APPRAISAL_LEN_BYTES_MAX,
        timeout,
    };
    let references = Accepts {
        content_type: SUIT_ENVELOPE,
        answer_type: "application/json",
        len_bytes_max: ENVELOPE_LEN_BYTES_MAX,
        timeout,
    };
    let server = Arc::clone(&verifier);
    let answer_appraise: Work = Arc::new(move |_, body| answer_appraise(&server, body));
    let server = Arc::clone(&verifier);
    let answer_reference: Work = Arc::new(move |_, body| answer_reference(&server, body));
    let check: Work = Arc::new(move |_, _| {
        verifier
            .reference_values()
            .map(|_| Reply::nothing())
            .map_err(|e| role_problem(&e))
    });
    let router = Router::new()
        .route("/verifier/v1/appraise", posted(appraise, answer_appraise))
        .route(
            "/verifier/v1/reference-values",
            posted(references, answer_reference),
        )
        .merge(health("verifier", check));
    Ok((router, lane))
}

fn answer_appraise(verifier: &VerifierServer, body: &[u8]) -> Result<Reply, Problem> {
    match verifier.appraise(body, UnixSecs(now_secs())) {
        Ok(answer) => {
            let status = format!("{:?}", answer.verdict.status).to_lowercase();
            let ueid = answer.ueid.map(|ueid| ueid.to_string()).unwrap_or_default();
            let reasons = answer.verdict.reasons.join("; ");
            say(move || {
                info!(
                    role = "verifier",
                    ueid, status, reasons, "evidence appraised"
                )
            });
            Ok(Reply::ok(EAR, answer.ear))
        }
        Err(fault) => {
            info!(role = "verifier", reason = fault.code(), cause = %fault, "no appraisal");
            Err(match &fault {
                VerifierFault::Malformed(_) => Problem::new(
                    StatusCode::BAD_REQUEST,
                    "malformed",
                    "This is not an appraisal request.",
                ),
                VerifierFault::Denied(denied) => Problem::new(
                    StatusCode::FORBIDDEN,
                    denied.code(),
                    "There is no result for this evidence.",
                ),
                VerifierFault::Role(error) => role_problem(error),
                _ => Problem::internal(fault.code()),
            })
        }
    }
}

fn answer_reference(verifier: &VerifierServer, body: &[u8]) -> Result<Reply, Problem> {
    match verifier.import_reference_value(body, UnixSecs(now_secs())) {
        Ok(value) => {
            let (release, name) = (value.release, value.name);
            info!(role = "verifier", %release, name, sequence = value.sequence, "reference value registered");
            let json = serde_json::json!({
                "release": release.to_string(), "name": name, "sequence": value.sequence,
            });
            Ok(Reply::ok("application/json", json.to_string().into_bytes()))
        }
        Err(error) => {
            info!(role = "verifier", reason = error.code(), cause = %error, "reference value refused");
            Err(role_problem(&error))
        }
    }
}
