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

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::any;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tegata_authority::UnixSecs;
use tegata_authority::ca::est::EstDenial;
use tegata_crypto::OsRng;
use tegata_store::issuer::Issuer;
use tegata_wire::est;
use tracing::info;
use zeroize::Zeroizing;

use crate::commands::import::role_fault;
use crate::config::{Est, ServerIdentity};
use crate::fault::{Fault, Outcome};
use crate::files;
use crate::http::problem::{Problem, Reason};
use crate::http::tls::{Identity, Source, Tls};
use crate::stores::now_secs;

/// Media type of a certs-only answer. Spec: RFC 7030 section 4.2.3
const PKCS7: &str = "application/pkcs7-mime; smime-type=certs-only";
/// Media type of attributes. Spec: RFC 7030 section 4.5.2
const CSRATTRS: &str = "application/csrattrs";
/// After how long a client may ask again where only the store was busy, seconds.
const BUSY_SECS: u32 = 5;

/// TLS and routes of the EST port.
///
/// # Errors
/// The server's key or certificate cannot be had or used.
pub fn open(est: &Est, issuer: &Arc<Issuer>) -> Outcome<(Tls, Router)> {
    let tls = Tls::new(source(est, issuer), &issuer.ca_certificates())?;
    let service = Service {
        issuer: Arc::clone(issuer),
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
fn source(est: &Est, issuer: &Arc<Issuer>) -> Source {
    match est.identity.clone() {
        ServerIdentity::Issued(names) => {
            let issuer = Arc::clone(issuer);
            Arc::new(move || {
                let now = UnixSecs(now_secs());
                let own = issuer.est_identity(&names, &mut OsRng, now);
                let own = own.map_err(|e| role_fault(&e))?;
                let pkcs8 = own.key.to_pkcs8_der();
                let pkcs8 = pkcs8.map_err(|e| crate::vault::crypto_fault("use the TLS key", &e))?;
                let key = PrivatePkcs8KeyDer::from(pkcs8.expose_secret().clone());
                Ok(Identity {
                    key: Zeroizing::new(PrivateKeyDer::Pkcs8(key)),
                    chain: own.chain.into_iter().map(CertificateDer::from).collect(),
                })
            })
        }
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
}

async fn answer(
    service: Service,
    label: Option<String>,
    operation: &str,
    request: Request,
) -> Response<Body> {
    let method = match operation {
        "cacerts" | "csrattrs" => Method::GET,
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
    if request.method() != method {
        let allow = if method == Method::GET { "GET" } else { "POST" };
        return as_text(Problem::method_not_allowed(allow));
    }
    let csrattrs = operation == "csrattrs";
    let work = move || {
        let label = label.as_deref();
        match csrattrs {
            true => attributes(&service.issuer, label),
            false => cacerts(&service.issuer, label),
        }
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(response) => response,
        // The thread ended without an answer; the panic hook has logged why.
        Err(_) => as_text(Problem::internal("internal")),
    }
}

fn cacerts(issuer: &Issuer, label: Option<&str>) -> Response<Body> {
    if let Err(denial) = issuer.est_profile(label) {
        return denied(&denial);
    }
    match est::certs_only(&issuer.ca_certificates()) {
        Ok(der) => ok(PKCS7, &der),
        Err(_) => as_text(Problem::internal("bug")),
    }
}

fn attributes(issuer: &Issuer, label: Option<&str>) -> Response<Body> {
    match issuer.est_attributes(label) {
        Ok(der) => ok(CSRATTRS, &der),
        Err(denial) => denied(&denial),
    }
}

/// A refusal as the client gets it, and as the log has it.
fn denied(denial: &EstDenial) -> Response<Body> {
    let reason = denial.code();
    info!(role = "ca", reason, cause = %denial, "EST request denied");
    let status = match denial {
        EstDenial::Profile { .. } => StatusCode::NOT_FOUND,
        EstDenial::Unavailable(_) => StatusCode::ACCEPTED,
        EstDenial::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::FORBIDDEN,
    };
    let mut response = plain(status, reason, &denial.peer_text());
    // Spec: RFC 7030 section 4.2.3.
    if let EstDenial::Unavailable(_) = denial {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, BUSY_SECS.into());
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
