//! The server roles behind their HTTP front ends.
//!
//! A front end checks method, media type and length, then hands the bytes to the role on a thread
//! that may block; the role decides. Nothing of a request is believed here.

pub mod ca;
pub mod devices;
pub mod est;
mod freshness;
pub mod status;
pub mod tam;
pub mod verifier;
pub mod verify;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, any};

use crate::http::body::{self, Accepts};
use crate::http::content::Content;
use crate::http::places::Places;
use crate::http::problem::{Problem, Reason};

/// A role's answer in its own protocol.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// Media type of the body.
    pub content_type: &'static str,
    /// The body; empty with 204.
    pub body: Content,
    /// Reason code for the log; `ok` when all is well.
    pub reason: &'static str,
}

impl Reply {
    /// A success with a body.
    pub fn ok(content_type: &'static str, body: impl Into<Content>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body: body.into(),
            reason: "ok",
        }
    }

    /// There is nothing to say.
    pub fn nothing() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            content_type: "",
            body: Vec::new().into(),
            reason: "ok",
        }
    }
}

/// What a role does with a request: the last part of the path (empty if there is none), the body.
pub type Work = Arc<dyn Fn(&str, &[u8]) -> Result<Reply, Problem> + Send + Sync>;

/// A resource that is used with POST.
pub fn posted(accepts: Accepts, work: Work) -> MethodRouter {
    any(move |last: Option<Path<String>>, request: Request| {
        let work = Arc::clone(&work);
        async move {
            if request.method() != Method::POST {
                return Problem::method_not_allowed("POST").into_response();
            }
            let last = last.map(|Path(last)| last).unwrap_or_default();
            let places = Places::of(&request);
            let (parts, body) = request.into_parts();
            match body::read(&parts.headers, body, accepts).await {
                Ok(bytes) => run(places, move || work(&last, &bytes)).await,
                Err(problem) => problem.into_response(),
            }
        }
    })
}

/// A resource that is fetched with GET.
pub fn fetched(work: Work) -> MethodRouter {
    fetched_at(Places::reading, work)
}

fn fetched_at(kind: fn(Places) -> Places, work: Work) -> MethodRouter {
    any(move |last: Option<Path<String>>, request: Request| {
        let work = Arc::clone(&work);
        async move {
            if request.method() != Method::GET && request.method() != Method::HEAD {
                return Problem::method_not_allowed("GET").into_response();
            }
            let last = last.map(|Path(last)| last).unwrap_or_default();
            let places = Places::of(&request).map(kind);
            run(places, move || work(&last, &[])).await
        }
    })
}

/// Does the work, if there is a place for it.
async fn run(
    places: Result<Places, Problem>,
    work: impl FnOnce() -> Result<Reply, Problem> + Send + 'static,
) -> Response<Body> {
    let done = match places {
        Ok(places) => places.work(work).await,
        Err(problem) => Err(problem),
    };
    match done.flatten() {
        Ok(reply) => respond(reply),
        Err(problem) => problem.into_response(),
    }
}

pub(crate) fn respond(reply: Reply) -> Response<Body> {
    let mut response = match reply.body.into_body() {
        Ok(body) => Response::new(body),
        Err(problem) => return problem.into_response(),
    };
    *response.status_mut() = reply.status;
    if !reply.content_type.is_empty() {
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(reply.content_type),
        );
    }
    if reply.reason != "ok" {
        response.extensions_mut().insert(Reason(reply.reason));
    }
    response
}

/// What an operator should know although all is well: a sentence, if there is any.
pub type Warning = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// `/healthz`: the role answers and can read its store.
pub fn health(role: &'static str, check: Work) -> Router {
    health_with(role, check, Arc::new(|| None))
}

/// As [`health`], with `warning` in the answer where there is one. The status stays: a restart would not
/// mend it.
pub fn health_with(role: &'static str, check: Work, warning: Warning) -> Router {
    Router::new().route(
        "/healthz",
        fetched_at(
            Places::aside,
            Arc::new(move |last, body| {
                check(last, body)?;
                let mut status = serde_json::json!({ "role": role, "status": "ok",
                "version": env!("CARGO_PKG_VERSION") });
                if let (Some(text), Some(status)) = (warning(), status.as_object_mut()) {
                    status.insert("warning".to_owned(), text.into());
                }
                Ok(Reply::ok(
                    "application/json",
                    status.to_string().into_bytes(),
                ))
            }),
        ),
    )
}

/// A role's error as a peer may know it: its code, never its inner text.
pub fn role_problem(error: &tegata_store::role::RoleError) -> Problem {
    use tegata_store::role::RoleError;
    match error {
        RoleError::Store(store) => Problem::of_store(store),
        RoleError::ReleaseRefused(_) | RoleError::Delivery(_) => Problem::new(
            StatusCode::FORBIDDEN,
            error.code(),
            "This was understood and is refused; the log of the server says more.",
        ),
        RoleError::ReleaseTaken => Problem::new(
            StatusCode::CONFLICT,
            error.code(),
            "A release with this digest or sequence number is there already.",
        ),
        _ => Problem::internal(error.code()),
    }
}
