//! Error answers as problem details.
//!
//! A peer gets a stable code and a sentence, never an inner error text.
//!
//! Spec: RFC 9457 section 3.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use tegata_store::StoreError;

/// Base of the `type` URIs; `docs/ops/limits.md` lists the codes.
const TYPE_BASE: &str = "urn:tegata:problem:";

/// An answer that is not the protocol's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable reason, such as `body-too-large`; also the last part of the `type` URI.
    pub code: &'static str,
    /// What a person reads.
    pub detail: String,
    /// Seconds after which the same request may succeed.
    pub retry_after_secs: Option<u32>,
    /// The method to use instead, for 405.
    pub allow: Option<&'static str>,
}

impl Problem {
    /// A problem with a stable code and a sentence.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after_secs: None,
            allow: None,
        }
    }

    /// The server has no room now.
    pub fn busy(code: &'static str, retry_after_secs: u32) -> Self {
        Self {
            retry_after_secs: Some(retry_after_secs),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                code,
                "The server has no room for this request now; try again later.",
            )
        }
    }

    /// The server failed; the log has the reason.
    pub fn internal(code: &'static str) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            code,
            "The server could not finish this request; it is safe to send it again.",
        )
    }

    /// The store failed.
    pub fn of_store(error: &StoreError) -> Self {
        match error.is_retryable() {
            true => Self {
                detail: "The server's store cannot be used now; try again later.".to_owned(),
                ..Self::busy(error.code(), 5)
            },
            false => Self::internal(error.code()),
        }
    }

    /// The method is not one of this resource.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                format!("This resource is used with {allow}."),
            )
        }
    }

    /// There is no such resource.
    pub fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "There is nothing at this address.",
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let body = serde_json::json!({
            "type": format!("{TYPE_BASE}{}", self.code),
            "title": self.code.replace('-', " "),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(secs) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response.extensions_mut().insert(Reason(self.code));
        response
    }
}

/// The reason code of an answer, for the log line of the request.
#[derive(Debug, Clone, Copy)]
pub struct Reason(pub &'static str);
