//! The network of the demo: a relay between the devices and the servers.
//!
//! It stands where a real network stands, so that the demo can show every byte that crosses and can
//! play an attacker who alters one. It understands nothing of what it carries.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use tokio::sync::watch;

use crate::config::Limits;
use crate::fault::{Fault, Outcome};
use crate::http::client::Client;
use crate::http::frame::{self, Phase};
use crate::http::problem::Problem;

/// Longest message carried, bytes.
const CARRIED_LEN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most exchanges kept for the story.
const KEPT_MAX: usize = 256;

/// One request with its answer, as seen on the wire.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Path of the request.
    pub path: String,
    /// Body of the request, as it was sent on.
    pub request: Vec<u8>,
    /// Whether the relay altered it.
    pub altered: bool,
    /// HTTP status of the answer.
    pub status: u16,
    /// Media type of the answer.
    pub answer_type: String,
    /// Body of the answer.
    pub answer: Vec<u8>,
    /// When the request had come.
    pub started: Instant,
    /// From the whole request to the whole answer.
    pub took: Duration,
}

/// Alters a request body on its way; gets the path and the body.
pub type Alter = Box<dyn Fn(&str, &mut Vec<u8>) -> bool + Send>;

#[derive(Default)]
struct Inner {
    record: bool,
    kept: Vec<Exchange>,
    alter: Option<Alter>,
}

/// A running relay.
pub struct Relay {
    address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    stop: watch::Sender<Phase>,
}

#[derive(Clone)]
struct Carrier {
    inner: Arc<Mutex<Inner>>,
    client: Client,
    routes: Arc<Vec<(String, String)>>,
}

impl Relay {
    /// Starts on a free loopback port. `routes` maps the beginning of a path to a base URL.
    ///
    /// # Errors
    /// No port can be opened.
    pub async fn start(routes: Vec<(String, String)>, limits: Limits) -> Outcome<Self> {
        let no_port = |e: std::io::Error| {
            Fault::environment(
                "no-port",
                format!("cannot open a loopback port: {e}"),
                "Check that this machine has a loopback interface.",
            )
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(no_port)?;
        let address = listener.local_addr().map_err(no_port)?;
        let inner = Arc::new(Mutex::new(Inner::default()));
        let carrier = Carrier {
            inner: Arc::clone(&inner),
            client: Client::new(),
            routes: Arc::new(routes),
        };
        let router = Router::new().fallback(carry).with_state(carrier);
        let (stop, stopped) = watch::channel(Phase::Serving);
        tokio::spawn(frame::run(listener, None, router, limits, stopped));
        Ok(Self {
            address,
            inner,
            stop,
        })
    }

    /// Base URL that devices use.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on exchanges are kept (or not); gives those kept so far.
    pub fn record(&self, on: bool) -> Vec<Exchange> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.record = on;
        std::mem::take(&mut inner.kept)
    }

    /// Puts an attacker on the wire, or takes it away.
    pub fn alter(&self, alter: Option<Alter>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.alter = alter;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.stop.send(Phase::Stopping);
    }
}

fn text(request: &Request, name: header::HeaderName) -> String {
    request
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
        .to_owned()
}

async fn carry(State(carrier): State<Carrier>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let post = request.method() == axum::http::Method::POST;
    let (content_type, accept) = (
        text(&request, header::CONTENT_TYPE),
        text(&request, header::ACCEPT),
    );
    let Some(base) = carrier
        .routes
        .iter()
        .find(|(prefix, _)| path.starts_with(prefix.as_str()))
        .map(|(_, base)| base.clone())
    else {
        return Problem::not_found().into_response();
    };
    let Ok(body) = axum::body::to_bytes(request.into_body(), CARRIED_LEN_BYTES_MAX).await else {
        return Problem::new(
            StatusCode::BAD_REQUEST,
            "body-broken",
            "The body broke off.",
        )
        .into_response();
    };
    let carried = tokio::task::spawn_blocking(move || {
        forward(
            &carrier,
            &base,
            path,
            content_type,
            accept,
            body.to_vec(),
            post,
        )
    });
    match carried.await {
        Ok(Some(exchange)) => answer(exchange),
        _ => Problem::new(
            StatusCode::BAD_GATEWAY,
            "peer-unreachable",
            "The server is away.",
        )
        .into_response(),
    }
}

fn forward(
    carrier: &Carrier,
    base: &str,
    path: String,
    content_type: String,
    accept: String,
    mut body: Vec<u8>,
    post: bool,
) -> Option<Exchange> {
    let altered = {
        let inner = carrier.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner
            .alter
            .as_ref()
            .is_some_and(|alter| alter(&path, &mut body))
    };
    let url = format!("{base}{path}");
    let started = Instant::now();
    let got = if post {
        carrier.client.post(&url, &content_type, &accept, &body)
    } else {
        carrier.client.get(&url)
    };
    let got = got.ok()?;
    let exchange = Exchange {
        path,
        request: body,
        altered,
        status: got.status,
        answer_type: got.content_type,
        answer: got.body,
        started,
        took: started.elapsed(),
    };
    let mut inner = carrier.inner.lock().unwrap_or_else(PoisonError::into_inner);
    if inner.record && inner.kept.len() < KEPT_MAX {
        inner.kept.push(exchange.clone());
    }
    Some(exchange)
}

fn answer(exchange: Exchange) -> Response<Body> {
    let mut response = Response::new(Body::from(exchange.answer));
    *response.status_mut() =
        StatusCode::from_u16(exchange.status).unwrap_or(StatusCode::BAD_GATEWAY);
    if let Ok(value) = HeaderValue::from_str(&exchange.answer_type)
        && !exchange.answer_type.is_empty()
    {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}
