//! A device's public keys, certificates and status, for services that verify what devices sign.
//!
//! `GET /v1/devices/{ueid or serial number}` at the CA, because the CA's store is the only one that
//! knows both devices and certificates. Read-only, and without any secret; but serial numbers can be
//! counted, and who asks learns what was made, where it went and what is enrolled. So it is not on
//! the port that devices reach: `[ca.devices]` names a port for the services that may ask, and
//! without that section there is none.
//!
//! Trusted: as the CA's store; whoever reaches the port is let in.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, any};
use serde::{Deserialize, Serialize};
use tegata_authority::UnixSecs;
use tegata_authority::ca::revocation::Standing;
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::{Provider as _, PublicKey};
use tegata_store::certificate::{self, Certificate};
use tegata_store::device;
use tegata_store::generation::Generations;
use tegata_store::issuer::Issuer;
use tegata_store::revocation;
use tegata_store::role::{Registered, RoleError};
use tegata_wire::ids::Ueid;
use tegata_wire::x509::CertView;

use super::{Work, health, role_problem};
use crate::certificate::{serial_text, to_pem};
use crate::http::places::Places;
use crate::http::problem::Problem;
use crate::stores::now_secs;
use crate::trust;

/// Media type of certificates one after another. Spec: RFC 8555 section 9.1
const PEM_CHAIN: &str = "application/pem-certificate-chain";
/// Most certificates of a device that are shown, the newest first.
const CERTIFICATES_MAX: u32 = 64;
/// Longest name asked for, bytes.
const NAME_LEN_BYTES_MAX: usize = 128;

/// What the CA says of a device.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeviceView {
    /// Its name for life.
    pub ueid: String,
    /// Serial number of the maker.
    pub serial: String,
    /// Hardware model.
    pub model: String,
    /// The maker's name of the batch.
    pub batch: String,
    /// `registered`: the factory endorsed it; `revoked` or `held`: it gets no certificates.
    pub status: String,
    /// Its attestation key, PEM.
    pub attestation_key: String,
    /// Its certificates, the newest first.
    pub certificates: Vec<CertificateView>,
}

/// One certificate of a device.
#[derive(Debug, Serialize, Deserialize)]
pub struct CertificateView {
    /// Serial number.
    pub serial: String,
    /// Certificate profile.
    pub profile: String,
    /// Release of the TA that made the key: its digest.
    pub release: String,
    /// `issued` (not yet confirmed), `confirmed` or `rejected` by the device; `revoked` or `held` by
    /// the CA, whatever the device said.
    pub status: String,
    /// Start of validity, seconds since 1970.
    pub not_before: u64,
    /// End of validity, seconds since 1970.
    pub not_after: u64,
    /// SHA-256 of the certificate, hexadecimal.
    pub sha256: String,
    /// The public key, PEM.
    pub public_key: String,
    /// The certificate and its issuers without the root, PEM.
    pub chain: Vec<String>,
}

/// The routes of the port: the resource, and `check` for its health.
pub fn routes(issuer: Arc<Issuer>, check: Work) -> Router {
    Router::new()
        .route("/v1/devices/{name}", resource(issuer))
        .merge(health("devices", check))
}

/// The resource.
fn resource(issuer: Arc<Issuer>) -> MethodRouter {
    any(move |Path(name): Path<String>, request: Request| {
        let issuer = Arc::clone(&issuer);
        async move {
            if request.method() != Method::GET && request.method() != Method::HEAD {
                return Problem::method_not_allowed("GET").into_response();
            }
            let headers = request.headers().clone();
            let work = move || answer(&issuer, &name, &headers);
            let done = match Places::of(&request) {
                Ok(places) => places.reading().work(work).await,
                Err(problem) => Err(problem),
            };
            done.flatten().unwrap_or_else(Problem::into_response)
        }
    })
}

fn unknown() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "device-unknown",
        "No device of this UEID or serial number is registered.",
    )
}

fn answer(issuer: &Issuer, name: &str, headers: &HeaderMap) -> Result<Response<Body>, Problem> {
    let accept = headers
        .get(header::ACCEPT)
        .map(|value| value.to_str().unwrap_or(""));
    let wants = |media: &str| accept.is_some_and(|text| text.contains(media));
    let pem = wants(PEM_CHAIN);
    let any = accept.is_none() || wants("*/*") || wants("application/*");
    if !pem && !any && !wants("application/json") {
        return Err(Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            "not-acceptable",
            format!("This resource answers application/json or {PEM_CHAIN}."),
        ));
    }
    let view = look_up(issuer, name)?;
    let (content_type, body) = if pem {
        let offered = |c: &&CertificateView| matches!(&*c.status, "issued" | "confirmed");
        let chains = view.certificates.iter().filter(offered);
        (PEM_CHAIN, chains.map(|c| c.chain.concat()).collect())
    } else {
        let json = serde_json::to_string(&view).map_err(|_| Problem::internal("bug"))?;
        ("application/json", json)
    };
    respond(content_type, body, headers)
}

/// With an ETag over the bytes; 304 if the asker has them.
fn respond(
    content_type: &'static str,
    body: String,
    headers: &HeaderMap,
) -> Result<Response<Body>, Problem> {
    let digest = AwsLc.sha256(body.as_bytes());
    let tag = format!("\"{}\"", hex::encode(digest.get(..16).unwrap_or_default()));
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| {
            text.split(',')
                .any(|one| one.trim() == tag || one.trim() == "*")
        });
    let mut response = if known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Body::from(body))
    };
    let tag = HeaderValue::from_str(&tag).map_err(|_| Problem::internal("bug"))?;
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    // May be kept, must be asked for again: a status can change at any time.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if !known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    Ok(response)
}

fn look_up(issuer: &Issuer, name: &str) -> Result<DeviceView, Problem> {
    if name.is_empty() || name.len() > NAME_LEN_BYTES_MAX || name.contains(char::is_control) {
        return Err(unknown());
    }
    let role = issuer.role();
    let failed = |e: RoleError| role_problem(&e);
    // What is a UEID is never taken for a serial number: nobody is answered for another device.
    let found = match name.parse::<Ueid>() {
        Ok(ueid) => role.device(&ueid).map_err(failed)?.ok_or_else(unknown)?,
        Err(_) => {
            let named = role.store.read("device by serial", |tx| {
                device::find_by_serial(tx, name).map_err(RoleError::from)
            });
            match named.map_err(failed)?.as_slice() {
                [] => return Err(unknown()),
                [one] => role
                    .device(&one.ueid)
                    .map_err(failed)?
                    .ok_or_else(unknown)?,
                _ => {
                    return Err(Problem::new(
                        StatusCode::CONFLICT,
                        "serial-not-unique",
                        "Several makers use this serial number; ask with the UEID.",
                    ));
                }
            }
        }
    };
    let (standing, rows) = role
        .store
        .read("certificates of a device", |tx| {
            let standing = revocation::device_standing(tx, found.row.id)?;
            let rows = certificate::of_device(tx, found.row.id, CERTIFICATES_MAX)?;
            Ok::<_, RoleError>((standing, rows))
        })
        .map_err(failed)?;
    let present = issuer.generations().map_err(failed)?;
    view(&present, &found, standing, &rows).ok_or_else(|| Problem::internal("unreadable"))
}

fn view(
    present: &Generations,
    found: &Registered,
    standing: Standing,
    rows: &[Certificate],
) -> Option<DeviceView> {
    let certificates = rows
        .iter()
        .map(|row| certificate_view(present, row))
        .collect::<Option<Vec<_>>>()?;
    Some(DeviceView {
        ueid: found.row.ueid.to_string(),
        serial: found.row.serial.clone(),
        model: found.row.model.clone(),
        batch: found.row.batch.clone(),
        status: match standing.is_good() {
            true => "registered".to_owned(),
            false => standing.name().to_owned(),
        },
        attestation_key: trust::to_pem(found.endorsed.attestation_key()).ok()?,
        certificates,
    })
}

fn certificate_view(present: &Generations, row: &Certificate) -> Option<CertificateView> {
    let der = row.der.as_deref()?;
    let cert = CertView::from_der(der).ok()?;
    let mut chain = vec![to_pem(der).ok()?];
    // What leads to its root and to those before. Who trusts a later root alone has `oldWithNew` too.
    if let Some(by) = present.issuer_of(der) {
        for ca in present.path_from(by, UnixSecs(now_secs())) {
            chain.push(to_pem(&ca).ok()?);
        }
    }
    let status = match (row.rejected_at, row.confirmed_at) {
        _ if !row.standing.is_good() => row.standing.name(),
        (Some(_), _) => "rejected",
        (None, Some(_)) => "confirmed",
        (None, None) => "issued",
    };
    Some(CertificateView {
        serial: serial_text(cert.serial),
        profile: row.intent.profile.clone(),
        release: row.intent.release.map(hex::encode).unwrap_or_default(),
        status: status.to_owned(),
        not_before: cert.not_before_secs,
        not_after: cert.not_after_secs,
        sha256: hex::encode(AwsLc.sha256(der)),
        public_key: trust::to_pem(&PublicKey::from_spki_der(cert.spki_der).ok()?).ok()?,
        chain,
    })
}
