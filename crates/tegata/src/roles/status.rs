//! The status of certificates, for everybody: lists, the OCSP responder, the CA's own certificates.
//!
//! On the port that devices reach, without authentication: what is here is signed and public. Caches
//! may keep an answer for `max_age_secs`, which bounds how long one may still say good behind them;
//! this process itself never says it once a revocation was answered.
//!
//! Not trusted: requests. Spec: RFC 5280 section 4.2.1.13, RFC 6960 appendix A, RFC 5019 section 7.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, any};
use base64ct::{Base64, Encoding as _};
use tegata_authority::UnixSecs;
use tegata_crypto::OsRng;
use tegata_crypto::aws_lc::AwsLc;
use tegata_store::status::{NoList, Published, Scope, StatusServer};
use tegata_wire::ocsp::MAX_REQUEST_BYTES;
use tracing::{debug, info, warn};

use super::role_problem;
use crate::config::Limits;
use crate::http::body::{self, Accepts};
use crate::http::content::Content;
use crate::http::places::Places;
use crate::http::problem::{Problem, Reason};
use crate::stores::now_secs;

/// Media type of a CRL. Spec: RFC 2585 section 4.2
const PKIX_CRL: &str = "application/pkix-crl";
/// Media type of a certificate. Spec: RFC 2585 section 4.1
const PKIX_CERT: &str = "application/pkix-cert";
/// Media types of OCSP. Spec: RFC 6960 appendix C
const OCSP_REQUEST: &str = "application/ocsp-request";
const OCSP_RESPONSE: &str = "application/ocsp-response";
/// Longest request in a path, bytes of base64. Spec: RFC 5019 section 5 sends at most 255.
const GET_LEN_BYTES_MAX: usize = 2 * 1024;
/// Longest time that a cache may keep the issuer's certificate, seconds: it does not change.
const CERT_MAX_AGE_SECS: u64 = 86_400;

/// What the answers need.
#[derive(Clone)]
struct Service {
    server: Arc<StatusServer>,
    max_age_secs: u64,
}

/// The routes of the status service.
pub fn routes(server: Arc<StatusServer>, max_age_secs: u64, limits: &Limits) -> Router {
    let service = Service {
        server,
        max_age_secs,
    };
    let accepts = Accepts {
        content_type: OCSP_REQUEST,
        answer_type: OCSP_RESPONSE,
        len_bytes_max: MAX_REQUEST_BYTES,
        timeout: limits.body_timeout,
    };
    Router::new()
        .route("/crl/{issuer}/{file}", fetched(&service, list))
        .route("/ca/{file}", fetched(&service, ca_certificate))
        .route("/ocsp", posted(&service, accepts))
        .route("/ocsp/{*request}", fetched(&service, ocsp_get))
}

/// Signs OCSP responses ahead, now and from time to time, until the runtime ends.
pub fn sign_ahead(server: Arc<StatusServer>) {
    tokio::spawn(async move {
        // Dropped with this task: then the thread that signs does not hold the end of the program up.
        let ends = Ends::default();
        loop {
            let pause = server.ahead_pause();
            let one = Arc::clone(&server);
            let over = Arc::clone(&ends.0);
            let work = move || one.sign_ahead(&mut OsRng, &over, UnixSecs(now_secs()));
            match tokio::task::spawn_blocking(work).await {
                Ok(Ok(signed)) => debug!(role = "ca", signed, "OCSP responses signed ahead"),
                // Requests sign for themselves meanwhile.
                Ok(Err(error)) => {
                    let reason = error.code();
                    warn!(role = "ca", reason, cause = %error, "not all responses are signed ahead");
                }
                Err(failed) if failed.is_panic() => {
                    warn!(role = "ca", "signing ahead failed; it goes on later");
                }
                // The runtime ends.
                Err(_) => return,
            }
            tokio::time::sleep(pause).await;
        }
    });
}

/// Says when it is dropped.
#[derive(Default)]
struct Ends(Arc<AtomicBool>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Answers a GET by the parts of its path.
type Fetch = fn(&Service, &[String], &HeaderMap) -> Result<Response<Body>, Problem>;

fn fetched(service: &Service, fetch: Fetch) -> MethodRouter {
    let service = service.clone();
    any(
        move |Path(parts): Path<Vec<(String, String)>>, request: Request| {
            let service = service.clone();
            async move {
                if request.method() != Method::GET && request.method() != Method::HEAD {
                    return Problem::method_not_allowed("GET").into_response();
                }
                let headers = request.headers().clone();
                let parts: Vec<String> = parts.into_iter().map(|(_, part)| part).collect();
                let places = Places::of(&request);
                run(places, move || fetch(&service, &parts, &headers)).await
            }
        },
    )
}

fn posted(service: &Service, accepts: Accepts) -> MethodRouter {
    let service = service.clone();
    any(move |request: Request| {
        let service = service.clone();
        async move {
            if request.method() != Method::POST {
                return Problem::method_not_allowed("POST").into_response();
            }
            let places = Places::of(&request);
            let (parts, body) = request.into_parts();
            match body::read(&parts.headers, body, accepts).await {
                // RFC 9111 section 3: a POST is answered anew each time.
                Ok(bytes) => run(places, move || ocsp(&service, &bytes, None)).await,
                Err(problem) => problem.into_response(),
            }
        }
    })
}

async fn run(
    places: Result<Places, Problem>,
    work: impl FnOnce() -> Result<Response<Body>, Problem> + Send + 'static,
) -> Response<Body> {
    let done = match places {
        Ok(places) => places.reading().work(work).await,
        Err(problem) => Err(problem),
    };
    done.flatten().unwrap_or_else(Problem::into_response)
}

/// `/crl/{issuer}/{shard or full}[.delta].crl`
fn list(
    service: &Service,
    parts: &[String],
    headers: &HeaderMap,
) -> Result<Response<Body>, Problem> {
    let [issuer, file] = parts else {
        return Err(Problem::not_found());
    };
    let name = file.strip_suffix(".crl").ok_or_else(Problem::not_found)?;
    let (name, delta) = match name.strip_suffix(".delta") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let scope = match name {
        "full" => Scope::Full,
        // One spelling for each shard: caches must not keep the same list twice.
        _ => name
            .parse::<u64>()
            .ok()
            .filter(|shard| shard.to_string() == name)
            .map(Scope::Shard)
            .ok_or_else(Problem::not_found)?,
    };
    let now = now_secs();
    match service.server.list_of(issuer, scope, delta, UnixSecs(now)) {
        Ok(list) => cached(
            PKIX_CRL,
            max_age(&list, now, service.max_age_secs),
            list,
            headers,
        ),
        Err(NoList::Unknown) if scope == Scope::Full && !delta => {
            root_list(service, issuer, now, headers)
        }
        Err(NoList::Unknown) => Err(Problem::not_found()),
        Err(NoList::TooMany) => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "list-too-long",
            "More certificates are revoked than one list may have; fetch the lists of the shards.",
        )),
        Err(NoList::Busy) => Err(Problem::busy("list-being-made", 1)),
        Err(NoList::Role(error)) => {
            info!(role = "ca", reason = error.code(), cause = %error, "no list");
            Err(role_problem(&error))
        }
        Err(_) => Err(Problem::internal("bug")),
    }
}

/// The list that the operator signed with the root key.
fn root_list(
    service: &Service,
    root: &str,
    now: u64,
    headers: &HeaderMap,
) -> Result<Response<Body>, Problem> {
    let list = service
        .server
        .root_list(root)
        .map_err(|e| role_problem(&e))?;
    let list = list.ok_or_else(Problem::not_found)?;
    let times = (list.made, list.next_update, list.next_update);
    let published = Arc::new(Published::new(&AwsLc, list.der, times));
    let age = max_age(&published, now, service.max_age_secs);
    cached(PKIX_CRL, age, published, headers)
}

/// `/ca/{name}.cer`: an issuing CA, a root, or what links two roots.
fn ca_certificate(
    service: &Service,
    parts: &[String],
    headers: &HeaderMap,
) -> Result<Response<Body>, Problem> {
    let name = parts.first().and_then(|file| file.strip_suffix(".cer"));
    let found = name.map(|name| service.server.ca_certificate(name));
    let found = found.transpose().map_err(|e| role_problem(&e))?;
    let der = found.flatten().ok_or_else(Problem::not_found)?;
    let now = UnixSecs(now_secs());
    let cert = Arc::new(Published::new(&AwsLc, der, (UnixSecs(0), now, now)));
    cached(PKIX_CERT, CERT_MAX_AGE_SECS, cert, headers)
}

/// `/ocsp/{base64 of the request}`; its slashes may or may not be escaped.
fn ocsp_get(
    service: &Service,
    parts: &[String],
    headers: &HeaderMap,
) -> Result<Response<Body>, Problem> {
    let text = parts.first().map(String::as_str).unwrap_or_default();
    // What is no base64 is no request: the responder says so in its own words.
    let request = if text.len() <= GET_LEN_BYTES_MAX {
        let padded = format!("{text:=<width$}", width = text.len().next_multiple_of(4));
        Base64::decode_vec(&padded).unwrap_or_default()
    } else {
        Vec::new()
    };
    ocsp(service, &request, Some(headers))
}

/// Answers an OCSP request; `headers` are those of a GET, whose answer caches may keep.
fn ocsp(
    service: &Service,
    request: &[u8],
    headers: Option<&HeaderMap>,
) -> Result<Response<Body>, Problem> {
    let now = now_secs();
    let answer = service.server.ocsp(request, &mut OsRng, UnixSecs(now));
    let mut response = match headers.filter(|_| answer.cacheable) {
        Some(headers) => {
            let age = max_age(&answer.published, now, service.max_age_secs);
            cached(OCSP_RESPONSE, age, answer.published, headers)?
        }
        None => sent(OCSP_RESPONSE, answer.published)?,
    };
    if answer.reason != "ok" {
        response.extensions_mut().insert(Reason(answer.reason));
    }
    Ok(response)
}

/// What is sent: one copy for all who read it.
struct Der(Arc<Published>);

impl AsRef<[u8]> for Der {
    fn as_ref(&self) -> &[u8] {
        &self.0.der
    }
}

/// How long caches may keep it: never beyond the moment at which a new one is signed.
fn max_age(published: &Published, now: u64, max_age_secs: u64) -> u64 {
    published.renewed.0.saturating_sub(now).min(max_age_secs)
}

/// With the headers that let caches keep it; 304 if the asker has it.
///
/// Spec: RFC 5019 section 7.2, RFC 9110 sections 8.8 and 13.1
fn cached(
    content_type: &'static str,
    max_age_secs: u64,
    published: Arc<Published>,
    headers: &HeaderMap,
) -> Result<Response<Body>, Problem> {
    let digest = published.digest().get(..16).unwrap_or_default();
    let tag = format!("\"{}\"", hex::encode(digest));
    let made = http_date(published.made.0);
    let given = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let known = match given(header::IF_NONE_MATCH) {
        Some(tags) => tags
            .split(',')
            .map(|one| one.trim().trim_start_matches("W/"))
            .any(|one| one == tag || one == "*"),
        // Who has it sends back what we sent.
        None => made.is_some() && given(header::IF_MODIFIED_SINCE) == made.as_deref(),
    };
    let mut response = if known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        sent(content_type, published)?
    };
    let control = format!("max-age={max_age_secs}, public, no-transform, must-revalidate");
    let expires = http_date(now_secs().saturating_add(max_age_secs));
    let mut put = |name, text: Option<String>| {
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            response.headers_mut().insert(name, value);
        }
    };
    put(header::ETAG, Some(tag));
    put(header::LAST_MODIFIED, made);
    put(header::CACHE_CONTROL, Some(control));
    put(header::EXPIRES, expires);
    Ok(response)
}

/// The whole of it.
fn sent(content_type: &'static str, published: Arc<Published>) -> Result<Response<Body>, Problem> {
    let mut response = Response::new(Content::shared(Der(published)).into_body()?);
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// A moment as HTTP writes it. Spec: RFC 9110 section 5.6.7
fn http_date(secs: u64) -> Option<String> {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let at = time::OffsetDateTime::from_unix_timestamp(i64::try_from(secs).ok()?).ok()?;
    at.format(format).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        let date = http_date(784_111_777).unwrap();
        assert_eq!(date, "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    fn published(der: Vec<u8>, made: u64) -> Arc<Published> {
        let times = [0, 100, 200].map(|later| UnixSecs(made + later));
        Arc::new(Published::new(&AwsLc, der, times.into()))
    }

    #[test]
    fn caches_never_keep_what_is_signed_anew() {
        let published = published(vec![1], 1_000);
        assert_eq!(max_age(&published, 1_000, 300), 100);
        assert_eq!(max_age(&published, 1_090, 300), 10);
        assert_eq!(max_age(&published, 1_000, 30), 30);
        assert_eq!(max_age(&published, 1_150, 300), 0);
    }

    #[test]
    fn who_has_it_is_not_sent_it_again() {
        let one = published(vec![1], 784_111_777);
        let mut headers = HeaderMap::new();
        let first = cached(PKIX_CRL, 5, Arc::clone(&one), &headers).unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers().get(header::ETAG).unwrap().clone();
        headers.insert(header::IF_NONE_MATCH, tag);
        let again = cached(PKIX_CRL, 5, one, &headers).unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        let other = published(vec![2], 784_111_777);
        let new = cached(PKIX_CRL, 5, other, &headers).unwrap();
        assert_eq!(new.status(), StatusCode::OK);
    }
}
