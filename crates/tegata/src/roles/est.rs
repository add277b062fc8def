//! The CA's EST port: RFC 7030 for devices that come with a secret or with a certificate of this CA.
//!
//! TLS and HTTP are here, every decision is the CA's: who asks, whether the profile allows it, which
//! names the certificate has. Errors are plain text, for people who look at what their client got.
//!
//! Not trusted: requests, and a certificate shown in the handshake beyond that its key was there; the
//! CA asks its own store about it at each request.
//!
//! Spec: RFC 7030, RFC 8951, RFC 9908.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::any;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tegata_authority::ca::est::{EstDenial, Operation};
use tegata_authority::ca::issue::IssueDenied;
use tegata_authority::profile::{Authentication, Profile};
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::OsRng;
use tegata_store::est::{Asker, Enrolled};
use tegata_store::held::say;
use tegata_store::issuer::Issuer;
use tegata_wire::est::{self, BasicCredentials, MAX_BODY_BYTES};
use tracing::info;
use zeroize::Zeroizing;

use super::{freshness, role_problem};
use crate::certificate::serial_text;
use crate::commands::import::role_fault;
use crate::config::{Config, Est, ServerIdentity};
use crate::fault::{Fault, Outcome};
use crate::files;
use crate::http::body::{self, Accepts};
use crate::http::places::Places;
use crate::http::problem::{Problem, Reason};
use crate::http::tls::{ClientCertificate, Identity, Source, Tls};
use crate::stores::{now_ms, now_secs};

/// Media type of a certs-only answer. Spec: RFC 7030 section 4.2.3
const PKCS7: &str = "application/pkcs7-mime; smime-type=certs-only";
/// Media type of a request. Spec: RFC 5967
const PKCS10: &str = "application/pkcs10";
/// Media type of nonces and of requests for them. Spec: draft-ietf-lamps-attestation-freshness section 5.1
const FRESHNESS: &str = "application/est-attestation-freshness+json";
/// Media type of attributes. Spec: RFC 7030 section 4.5.2
const CSRATTRS: &str = "application/csrattrs";
/// After how long a client may ask again where an operator has to decide, seconds.
const WAITING_SECS: u32 = 60;
/// The same where only the store was busy.
const BUSY_SECS: u32 = 5;

/// TLS and routes of the EST port.
///
/// # Errors
/// The server's key or certificate cannot be had or used.
pub fn open(est: &Est, config: &Config, issuer: &Arc<Issuer>) -> Outcome<(Tls, Router)> {
    if let Some(Err(denial)) = est
        .profile
        .as_ref()
        .map(|name| issuer.est_profile(Some(name)))
    {
        return Err(Fault::usage(
            "no-profile",
            format!("[ca.est] profile: {denial}"),
            "Name one of the profiles of [ca] profiles.",
        ));
    }
    let takes_evidence = |profile: &&Profile| profile.allows(Authentication::Evidence);
    if est.evidence_policy.is_none()
        && let Some(profile) = issuer.profiles().iter().find(takes_evidence)
    {
        return Err(Fault::usage(
            "no-evidence-policy",
            format!(
                "the profile {} takes evidence, and nothing says which is good",
                profile.name
            ),
            "Name a file with a section [psa] as evidence_policy in [ca.est]: docs/ops/est.md.",
        ));
    }
    let tls = Tls::new(source(est, issuer))?;
    let service = Service {
        issuer: Arc::clone(issuer),
        profile: est.profile.clone(),
        body_timeout: config.limits.body_timeout,
    };
    let route = |service: Service| {
        any(
            move |Path(parts): Path<Vec<(String, String)>>, request: Request| {
                let service = service.clone();
                async move {
                    let mut parts = parts.into_iter().map(|(_, part)| part).rev();
                    let operation = parts.next().unwrap_or_default();
                    answer(service, parts.next(), &operation, request).await
                }
            },
        )
    };
    let router = Router::new()
        .route("/.well-known/est/{operation}", route(service.clone()))
        .route("/.well-known/est/{label}/{operation}", route(service));
    Ok((tls, router))
}

/// Where the server's identity comes from.
pub fn source(est: &Est, issuer: &Arc<Issuer>) -> Source {
    let issuer = Arc::clone(issuer);
    let clients = move |issuer: &Issuer| {
        let anchors = issuer.client_anchors(UnixSecs(now_secs()));
        anchors.map_err(|e| role_fault(&e))
    };
    match est.identity.clone() {
        ServerIdentity::Issued(names) => Arc::new(move || {
            let now = UnixSecs(now_secs());
            let own = issuer.est_identity(&names, &mut OsRng, now);
            let own = own.map_err(|e| role_fault(&e))?;
            let pkcs8 = own.key.to_pkcs8_der();
            let pkcs8 = pkcs8.map_err(|e| crate::vault::crypto_fault("use the TLS key", &e))?;
            let key = PrivatePkcs8KeyDer::from(pkcs8.expose_secret().clone());
            Ok(Identity {
                key: Zeroizing::new(PrivateKeyDer::Pkcs8(key)),
                chain: own.chain.into_iter().map(CertificateDer::from).collect(),
                clients: clients(&issuer)?,
            })
        }),
        ServerIdentity::Files { certificate, key } => Arc::new(move || {
            files::check_private(&key)?;
            let pem = Zeroizing::new(files::read(&key, FILE_LEN_BYTES_MAX)?);
            let bad = |path: &std::path::Path, what: &str| {
                Fault::environment(
                    "tls-identity",
                    format!("{} holds no {what} in PEM", path.display()),
                    "Check [ca.est] certificate and key.",
                )
            };
            let secret = PrivateKeyDer::from_pem_slice(&pem);
            let secret = secret.map_err(|_| bad(&key, "private key"))?;
            let pem = files::read(&certificate, FILE_LEN_BYTES_MAX)?;
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            let chain = chain.ok().filter(|chain| !chain.is_empty());
            Ok(Identity {
                key: Zeroizing::new(secret),
                chain: chain.ok_or_else(|| bad(&certificate, "certificate"))?,
                clients: clients(&issuer)?,
            })
        }),
    }
}

/// Longest PEM file of the server's identity, bytes.
const FILE_LEN_BYTES_MAX: u64 = 256 * 1024;

/// What the answers need.
#[derive(Clone)]
struct Service {
    issuer: Arc<Issuer>,
    /// Profile of paths without a label.
    profile: Option<String>,
    body_timeout: Duration,
}

/// What is asked of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    CaCerts,
    CsrAttrs,
    Nonce,
    Certificate(Operation),
}

async fn answer(
    service: Service,
    label: Option<String>,
    operation: &str,
    request: Request,
) -> Response<Body> {
    let what = match operation {
        "cacerts" => Asked::CaCerts,
        "csrattrs" => Asked::CsrAttrs,
        "nonce" => Asked::Nonce,
        "simpleenroll" => Asked::Certificate(Operation::Enroll),
        "simplereenroll" => Asked::Certificate(Operation::Reenroll),
        // Spec: RFC 7030 section 4.4: optional. The key of a device is made in it and stays there.
        "serverkeygen" => {
            return plain(
                StatusCode::NOT_IMPLEMENTED,
                "server-keygen",
                "This CA makes no keys for devices: make the key on the device and use simpleenroll.",
            );
        }
        // Spec: RFC 7030 section 4.3.1.
        "fullcmc" => {
            return plain(
                StatusCode::NOT_IMPLEMENTED,
                "full-cmc",
                "This CA does not speak Full CMC: use simpleenroll and simplereenroll.",
            );
        }
        _ => {
            return plain(
                StatusCode::NOT_FOUND,
                "not-found",
                "There is no such EST operation here.",
            );
        }
    };
    let allow = match what {
        Asked::CaCerts | Asked::CsrAttrs => "GET",
        Asked::Certificate(_) => "POST",
        Asked::Nonce => "GET, POST",
    };
    // Spec: RFC 9110 section 9.3.2: HEAD is GET without the body, which the server leaves out.
    let method = match request.method() {
        &Method::HEAD => &Method::GET,
        method => method,
    };
    if !allow.split(", ").any(|allowed| method == allowed) {
        return as_text(Problem::method_not_allowed(allow));
    }
    let posted = method == Method::POST;
    let client = request.extensions().get::<ClientCertificate>().cloned();
    let places = match Places::of(&request) {
        Ok(places) => places,
        Err(problem) => return as_text(problem),
    };
    let (parts, body) = request.into_parts();
    let body = if posted {
        let (content_type, answer_type, len_bytes_max) = match what {
            Asked::Nonce => (FRESHNESS, FRESHNESS, freshness::LEN_BYTES_MAX),
            _ => (PKCS10, "application/pkcs7-mime", MAX_BODY_BYTES),
        };
        let accepts = Accepts {
            content_type,
            answer_type,
            len_bytes_max,
            timeout: service.body_timeout,
        };
        match body::read(&parts.headers, body, accepts).await {
            Ok(body) => body,
            Err(problem) => return as_text(problem),
        }
    } else {
        Default::default()
    };
    let work = move || {
        let basic = basic(&parts.headers);
        let asker = match (&basic, &client) {
            // A secret left over in a client's configuration does not hide the certificate: only
            // where a secret enrols does it come first.
            (basic, Some(client))
                if basic.is_none() || what != Asked::Certificate(Operation::Enroll) =>
            {
                Asker::Certificate(&client.0)
            }
            (Some(basic), _) => Asker::Secret {
                id: &basic.user,
                secret: &basic.password,
            },
            (None, Some(client)) => Asker::Certificate(&client.0),
            (None, None) => Asker::Nobody,
        };
        let issuer = service.issuer.as_ref();
        // The CA's certificates are the same for every profile.
        if what == Asked::CaCerts && label.is_none() {
            return cacerts(issuer);
        }
        let profile = match issuer.est_profile(label.as_deref().or(service.profile.as_deref())) {
            Ok(profile) => profile,
            Err(denial) => return denied(&denial),
        };
        match what {
            Asked::Certificate(operation) => enrol(issuer, operation, profile, asker, &body),
            Asked::CsrAttrs => attributes(issuer, profile, asker),
            Asked::CaCerts => cacerts(issuer),
            Asked::Nonce => nonce(issuer, profile, posted.then_some(&body)),
        }
    };
    let places = match what {
        Asked::Certificate(_) => places,
        Asked::CaCerts | Asked::CsrAttrs | Asked::Nonce => places.reading(),
    };
    places.work(work).await.unwrap_or_else(as_text)
}

/// A nonce for evidence. Whoever asks gets one: it costs no memory.
fn nonce(issuer: &Issuer, profile: &Profile, asked: Option<&Bytes>) -> Response<Body> {
    // Spec: draft-ietf-lamps-attestation-freshness section 5.1 gives both statuses.
    match asked.map_or(Ok(()), |body| freshness::check(body)) {
        Ok(()) => {}
        Err(freshness::Refused::Malformed(why)) => {
            return plain(StatusCode::BAD_REQUEST, "bad-nonce-request", why);
        }
        Err(freshness::Refused::Unable(why)) => {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "no-such-nonce", why);
        }
    }
    match issuer.evidence_nonce(profile, &mut OsRng, UnixMs(now_ms())) {
        Ok(Some(fresh)) => {
            let mut response = Response::new(Body::from(freshness::answer(&fresh)));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(FRESHNESS));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Ok(None) => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "evidence-not-taken",
            &format!("The profile {} takes no evidence.", profile.name),
        ),
        Err(e) => as_text(role_problem(&e)),
    }
}

/// Name and secret, where the client gave some.
fn basic(headers: &HeaderMap) -> Option<BasicCredentials> {
    BasicCredentials::from_header(headers.get(header::AUTHORIZATION)?.as_bytes())
}

fn cacerts(issuer: &Issuer) -> Response<Body> {
    let certificates = match issuer.ca_certificates(UnixSecs(now_secs())) {
        Ok(certificates) => certificates,
        Err(e) => return as_text(role_problem(&e)),
    };
    let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
    match est::certs_only(&certificates) {
        Ok(der) => ok(PKCS7, &der),
        Err(_) => as_text(Problem::internal("bug")),
    }
}

fn attributes(issuer: &Issuer, profile: &Profile, asker: Asker<'_>) -> Response<Body> {
    match issuer.est_attributes(profile, asker, UnixSecs(now_secs())) {
        Ok(der) => ok(CSRATTRS, &der),
        Err(denial) => denied(&denial),
    }
}

fn enrol(
    issuer: &Issuer,
    operation: Operation,
    profile: &Profile,
    asker: Asker<'_>,
    body: &[u8],
) -> Response<Body> {
    let csr = match est::from_body(body) {
        Ok(csr) => csr,
        Err(error) => return plain(StatusCode::BAD_REQUEST, "bad-body", &sentence(&error)),
    };
    let now = UnixMs(now_ms());
    match issuer.est_enrol(operation, profile, asker, &csr, &mut OsRng, now) {
        Ok(Enrolled {
            ueid,
            serial,
            certificate,
            again,
            by,
        }) => {
            let (serial, profile) = (serial_text(&serial), profile.name.clone());
            say(move || {
                let proof = by.name();
                info!(role = "ca", %ueid, serial, profile, again, by = "est", proof, "certificate issued");
            });
            match est::certs_only(&[&certificate]) {
                Ok(der) => ok(PKCS7, &der),
                Err(_) => as_text(Problem::internal("bug")),
            }
        }
        Err(denial) => denied(&denial),
    }
}

/// A refusal as the client gets it, and as the log has it.
fn denied(denial: &EstDenial) -> Response<Body> {
    let reason = denial.code();
    let cause = denial.to_string();
    say(move || info!(role = "ca", reason, cause, "EST request denied"));
    let status = match denial {
        // A 401 says what would do; where only the handshake can show it, there is nothing to say.
        EstDenial::NotAuthenticated { secret: true, .. } => StatusCode::UNAUTHORIZED,
        EstDenial::Profile { .. } => StatusCode::NOT_FOUND,
        EstDenial::Malformed(_) | EstDenial::Wrapper(_) => StatusCode::BAD_REQUEST,
        EstDenial::Evidence(denied) if denied.is_malformed() => StatusCode::BAD_REQUEST,
        EstDenial::Issue(IssueDenied::Csr(_)) => StatusCode::BAD_REQUEST,
        EstDenial::Waiting | EstDenial::Unavailable(_) => StatusCode::ACCEPTED,
        EstDenial::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::FORBIDDEN,
    };
    let mut response = plain(status, reason, &denial.peer_text());
    let headers = response.headers_mut();
    match denial {
        // Spec: RFC 7617 section 2.
        EstDenial::NotAuthenticated { secret: true, .. } => {
            let value = HeaderValue::from_static("Basic realm=\"enrolment\", charset=\"UTF-8\"");
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        // Spec: RFC 7030 section 4.2.3: clients ask again by themselves after a 202.
        EstDenial::Waiting => drop(headers.insert(header::RETRY_AFTER, WAITING_SECS.into())),
        EstDenial::Unavailable(_) => drop(headers.insert(header::RETRY_AFTER, BUSY_SECS.into())),
        _ => {}
    }
    response
}

fn ok(content_type: &'static str, der: &[u8]) -> Response<Body> {
    let mut response = Response::new(Body::from(est::to_body(der)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // No header of HTTP (RFC 8951 section 3), but clients of RFC 7030 look for it.
    headers.insert(
        "content-transfer-encoding",
        HeaderValue::from_static("base64"),
    );
    response
}

fn plain(status: StatusCode, reason: &'static str, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response.extensions_mut().insert(Reason(reason));
    response
}

/// A problem of HTTP as plain text, with its headers.
fn as_text(problem: Problem) -> Response<Body> {
    let text = problem.detail.clone();
    let mut response = problem.into_response();
    *response.body_mut() = Body::from(format!("{text}\n"));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// An error as a sentence.
fn sentence(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), chars.as_str())
}
