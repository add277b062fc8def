//! The CA's port: CMP for devices, deliveries for the TAM, status of certificates for everybody. And
//! its other one, for services: see [`super::devices`].

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use tegata_authority::ca::attested;
use tegata_authority::ca::cmp::{MacPolicy, Operation};
use tegata_authority::ca::maker::Maker;
use tegata_authority::profile::Profiles;
use tegata_authority::verifier::PsaPolicy;
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::OsRng;
use tegata_crypto::chain::TrustAnchor;
use tegata_store::archive;
use tegata_store::held::say;
use tegata_store::issuer::{CmpAnswer, CmpOutcome, CmpPath, Issuer};
use tegata_store::role::{RoleError, Trust};
use tegata_store::status::StatusServer;
use tegata_wire::cmp::UnverifiedPkiMessage;
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::{Reply, Work, health_with, posted, role_problem};
use crate::certificate::{read_pem, serial_text};
use crate::cli::Role;
use crate::commands::import::{role_fault, role_store};
use crate::config::{self, Config, MakerFile, diagnostic};
use crate::ends;
use crate::fault::{Fault, Outcome};
use crate::http::body::Accepts;
use crate::http::places::Lane;
use crate::http::problem::Problem;
use crate::http::tls::Tls;
use crate::stores::{now_ms, now_secs};
use crate::sweep;
use crate::trust;

/// Media type of CMP over HTTP. Spec: RFC 9811 section 3.
const PKIXCMP: &str = "application/pkixcmp";
/// Longest CMP request, bytes.
const CMP_LEN_BYTES_MAX: usize = 64 * 1024;
/// Longest delivery request, bytes.
const DELIVERY_LEN_BYTES_MAX: usize = 4 * 1024;

/// The certificate profiles of this machine.
///
/// # Errors
/// The file, with line.
pub fn profiles(ca: &config::Ca) -> Outcome<Profiles> {
    let text = config::read_text(&ca.profiles, "read the certificate profiles")?;
    Profiles::parse(&text).map_err(|e| diagnostic::of_mistakes(&ca.profiles, &text, &e))
}

/// Opens the CA of this machine.
///
/// # Errors
/// Profiles (with line), store, sealing key: as a sentence.
pub fn issuer(config: &Config) -> Outcome<Issuer> {
    let Some(ca) = &config.ca else {
        return Err(Fault::usage(
            "role-not-configured",
            format!("{} has no section [ca]", config.path.display()),
            "Run this on the CA's machine, with its configuration.",
        ));
    };
    let profiles = profiles(ca)?;
    let role = role_store(config, Role::Ca)?;
    let issuer = Issuer::open(role, profiles, MacPolicy::default()).map_err(|e| role_fault(&e))?;
    let makers = ca.makers.iter().map(maker).collect::<Outcome<_>>()?;
    let issuer = issuer
        .with_makers(makers)
        .with_status(ca.status.settings.clone());
    let policy = ca.est.as_ref().and_then(|est| est.evidence_policy.as_ref());
    let Some(path) = policy else {
        return Ok(issuer);
    };
    let text = config::read_text(path, "read the policy for evidence")?;
    let policy = PsaPolicy::parse(&text).map_err(|e| diagnostic::of_mistakes(path, &text, &e))?;
    issuer
        .with_psa_policy(policy, &mut OsRng, UnixSecs(now_secs()))
        .map_err(|e| role_fault(&e))
}

fn maker(file: &MakerFile) -> Outcome<Maker> {
    let certificates = read_pem(&file.anchors)?;
    let anchors = certificates.iter().map(|der| {
        TrustAnchor::from_cert_der(der).map_err(|e| {
            Fault::usage(
                "maker-anchor",
                format!("{}: {e}", file.anchors.display()),
                "Give the roots of the maker's device certificates: CA certificates with P-256, \
                 P-384 or Ed25519 keys.",
            )
        })
    });
    let anchors = anchors.collect::<Outcome<Vec<_>>>()?;
    if anchors.is_empty() {
        return Err(Fault::usage(
            "maker-anchor",
            format!("{} has no certificate", file.anchors.display()),
            "Give the roots of the maker's device certificates, in PEM.",
        ));
    }
    Ok(Maker {
        anchors,
        models: file.models.clone(),
    })
}

/// Routes of the CA's two ports.
pub struct Ports {
    /// What devices and the TAM reach.
    pub ca: Router,
    /// What services reach that verify what devices sign, where `[ca.devices]` names a port.
    pub devices: Router,
    /// What EST clients reach, where `[ca.est]` names a port.
    pub est: Option<(Tls, Router)>,
    /// Where their work is done.
    pub lane: Lane,
}

/// Opens the role and gives its routes; `few` has threads for work that keeps a processor busy.
///
/// # Errors
/// As [`issuer`].
pub fn open(config: &Config, few: &Handle) -> Outcome<Ports> {
    let issuer = Arc::new(issuer(config)?);
    let lane = match issuer.signs_in_process() {
        true => Lane::narrow(few, &issuer.role().store),
        false => Lane::wide(),
    };
    believe_verifier(config, &issuer)?;
    let cmp = Accepts {
        content_type: PKIXCMP,
        answer_type: PKIXCMP,
        len_bytes_max: CMP_LEN_BYTES_MAX,
        timeout: config.limits.body_timeout,
    };
    let delivery = Accepts {
        content_type: "application/cose",
        answer_type: "application/cbor",
        len_bytes_max: DELIVERY_LEN_BYTES_MAX,
        timeout: config.limits.body_timeout,
    };
    let appraisal = Accepts {
        content_type: "application/cose",
        answer_type: "application/json",
        len_bytes_max: attested::LEN_BYTES_MAX,
        timeout: config.limits.body_timeout,
    };
    let keep_secs = config.ca.as_ref().map_or(u64::MAX, |ca| ca.keep_secs);
    sweep::start("ca", Arc::clone(&issuer.role().store), move |store, now| {
        archive::sweep_some(store, keep_secs, now).map(archive::Swept::rows)
    });
    let est = config.ca.as_ref().and_then(|ca| ca.est.as_ref());
    let est = est
        .map(|est| super::est::open(est, config, &issuer))
        .transpose()?;
    let (for_cmp, for_delivery) = (Arc::clone(&issuer), Arc::clone(&issuer));
    let for_appraisal = Arc::clone(&issuer);
    let for_devices = Arc::clone(&issuer);
    let status = Arc::new(StatusServer::new(Arc::clone(&issuer)));
    super::status::sign_ahead(Arc::clone(&status));
    let max_age = config.ca.as_ref().map_or(0, |ca| ca.status.max_age_secs);
    let lists = Arc::clone(&status);
    // A profile in the path, or none; what the path is for, or nothing of it.
    let answer_cmp = move |operation: Option<Operation>| -> Work {
        let (issuer, lists) = (Arc::clone(&for_cmp), Arc::clone(&lists));
        Arc::new(move |profile, body| Ok(answer_cmp(&issuer, &lists, profile, operation, body)))
    };
    let mut cmp_routes = Router::new()
        .route("/.well-known/cmp", posted(cmp, answer_cmp(None)))
        .route(
            "/.well-known/cmp/p/{profile}",
            posted(cmp, answer_cmp(None)),
        );
    for operation in Operation::ALL {
        let label = operation.label();
        let work = answer_cmp(Some(operation));
        let bare = posted(cmp, Arc::clone(&work));
        cmp_routes = cmp_routes
            .route(&format!("/.well-known/cmp/{label}"), bare)
            .route(
                &format!("/.well-known/cmp/p/{{profile}}/{label}"),
                posted(cmp, work),
            );
    }
    let answer_delivery: Work = Arc::new(move |_, body| answer_delivery(&for_delivery, body));
    let answer_appraisal: Work = Arc::new(move |_, body| answer_appraisal(&for_appraisal, body));
    let check: Work = Arc::new(move |_, _| {
        issuer
            .role()
            .trusted(Trust::Tam)
            .map(|_| Reply::nothing())
            .map_err(|e| role_problem(&e))
    });
    ends::watch(Arc::clone(&for_devices));
    let of = Arc::clone(&for_devices);
    let warning = Arc::new(move || ends::of(&of));
    let ca = Router::new()
        .merge(cmp_routes)
        .route("/ca/v1/delivery", posted(delivery, answer_delivery))
        .route("/ca/v1/appraisal", posted(appraisal, answer_appraisal))
        .merge(super::status::routes(status, max_age, &config.limits))
        .merge(health_with("ca", Arc::clone(&check), warning));
    let devices = super::devices::routes(for_devices, check);
    Ok(Ports {
        ca,
        devices,
        est,
        lane,
    })
}

/// Trusts the Verifier whose key is in the trust directory: a store that was made before the CA
/// asked for evidence does not. Without the file no device returns by evidence.
fn believe_verifier(config: &Config, issuer: &Issuer) -> Outcome<()> {
    let path = trust::path(config, "verifier");
    if !path.exists() {
        let path = path.display();
        warn!(role = "ca", %path, "no key of a Verifier: devices cannot return by evidence");
        return Ok(());
    }
    let (key, now) = (trust::read(&path)?, UnixSecs(now_secs()));
    let role = issuer.role();
    role.trust(Trust::Verifier, &key, "Verifier", now)
        .map_err(|e| role_fault(&e))
}

/// A CMP message gets a CMP answer, whatever it is.
fn answer_cmp(
    issuer: &Issuer,
    lists: &StatusServer,
    profile: &str,
    operation: Option<Operation>,
    body: &[u8],
) -> Reply {
    let named = if profile.is_empty() {
        profile_of(issuer, body)
    } else {
        profile.to_owned()
    };
    let path = CmpPath {
        profile: &named,
        operation,
    };
    let list = |issuer: Option<&str>, scope, now| match issuer {
        Some(id) => lists.list_of(id, scope, false, now),
        None => lists.list(scope, false, now),
    };
    let answer = issuer.cmp_at(path, body, &mut OsRng, UnixMs(now_ms()), &list);
    let CmpAnswer { body, outcome } = answer;
    let mut reason = "ok";
    match outcome {
        CmpOutcome::Issued {
            ueid,
            serial,
            again,
            ..
        } => {
            let serial = serial_text(&serial);
            say(move || {
                info!(role = "ca", %ueid, serial, profile = named, again, "certificate issued");
            });
        }
        CmpOutcome::Confirmed {
            ueid,
            serial,
            accepted,
        } => {
            let serial = serial_text(&serial);
            say(move || info!(role = "ca", %ueid, serial, accepted, "certificate confirmed"));
        }
        CmpOutcome::Revoked { ueid, serial, .. } => {
            let serial = serial_text(&serial);
            say(move || info!(role = "ca", %ueid, serial, "certificate revoked by its device"));
        }
        CmpOutcome::Waiting { ueid, polled } => {
            let polled = polled.is_some();
            info!(role = "ca", %ueid, profile = named, polled, "a request awaits `tegata ca approve`");
        }
        CmpOutcome::ClientFailed { ueid, text } => {
            info!(role = "ca", %ueid, text, "a CMP client says that it failed");
        }
        CmpOutcome::Denied(denial) => {
            reason = denial.code();
            say(move || info!(role = "ca", reason, cause = %denial, "CMP request denied"));
        }
        _ => {}
    }
    if body.is_empty() {
        warn!(role = "ca", reason, "a CMP answer could not be signed");
        return Reply {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            content_type: "",
            body: Vec::new().into(),
            reason,
        };
    }
    Reply {
        status: StatusCode::OK,
        content_type: PKIXCMP,
        body: body.into(),
        reason,
    }
}

/// Without a profile in the path: the one in the message's header, or the only one there is.
///
/// Spec: RFC 9810 section 5.1.1.4
fn profile_of(issuer: &Issuer, body: &[u8]) -> String {
    let in_header = UnverifiedPkiMessage::from_der(body)
        .ok()
        .and_then(|message| message.header().cert_profile().ok().flatten());
    let mut all = issuer.profiles().iter();
    match (in_header, all.next(), all.next()) {
        (Some(name), _, _) => name,
        (None, Some(only), None) => only.name.clone(),
        _ => String::new(),
    }
}

fn answer_delivery(issuer: &Issuer, body: &[u8]) -> Result<Reply, Problem> {
    match issuer.deliver(body, &mut OsRng, UnixSecs(now_secs())) {
        Ok(delivery) => Ok(Reply::ok("application/cbor", delivery)),
        Err(error) => {
            info!(role = "ca", reason = error.code(), cause = %error, "delivery denied");
            Err(delivery_problem(&error))
        }
    }
}

/// The TAM's word that the Verifier affirmed a device.
fn answer_appraisal(issuer: &Issuer, body: &[u8]) -> Result<Reply, Problem> {
    match issuer.note_attested(body, UnixSecs(now_secs())) {
        Ok(ueid) => {
            say(move || info!(role = "ca", %ueid, "device attested"));
            Ok(Reply::nothing())
        }
        Err(error) => {
            let (reason, cause) = (error.code(), error.to_string());
            say(move || info!(role = "ca", reason, cause, "attestation refused"));
            Err(match &error {
                RoleError::Attested(denied) => Problem::new(
                    StatusCode::FORBIDDEN,
                    denied.code(),
                    "The CA takes no note of this.",
                ),
                other => role_problem(other),
            })
        }
    }
}

/// A denial as the TAM may know it.
fn delivery_problem(error: &RoleError) -> Problem {
    match error {
        RoleError::Delivery(denied) => Problem::new(
            StatusCode::FORBIDDEN,
            denied.code(),
            "The CA does not deliver this.",
        ),
        other => role_problem(other),
    }
}
