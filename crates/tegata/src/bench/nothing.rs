//! The server that does nothing: the same frame, the same limits, the same log, the same way to a
//! thread that may block, and the EST port's TLS if that is asked for; the answer is zeros.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::odd;
use crate::cli::bench::BenchNothing;
use crate::config;
use crate::fault::Outcome;
use crate::files::{self, Readers};
use crate::http::body::Accepts;
use crate::http::frame::{self, Phase};
use crate::http::places::Lane;
use crate::http::tls::Tls;
use crate::roles::{self, Reply, posted};
use crate::{serve, supervise, telemetry};

/// Runs until its parent ends or stops it.
///
/// # Errors
/// Configuration, port or threads.
pub fn run(args: &BenchNothing) -> Outcome<()> {
    let config = config::load(&args.config)?;
    telemetry::start(&config.log)?;
    supervise::end_with_parent()?;
    let tls = match (args.tls, config.ca.as_ref().and_then(|ca| ca.est.as_ref())) {
        (true, Some(est)) => {
            let issuer = Arc::new(roles::ca::issuer(&config)?);
            Some(Tls::new(roles::est::source(est, &issuer))?)
        }
        (true, None) => return Err(odd("there is no [ca.est] whose TLS it could speak")),
        (false, _) => None,
    };
    let answer = vec![0; usize::try_from(args.answer_bytes).unwrap_or(0)];
    let accepts = Accepts {
        content_type: match tls {
            Some(_) => "application/pkcs10",
            None => "application/pkixcmp",
        },
        answer_type: "application/pkixcmp",
        len_bytes_max: 64 * 1024,
        timeout: Duration::from_secs(10),
    };
    let work = move |_: &str, _: &[u8]| Ok(Reply::ok("application/pkixcmp", answer.clone()));
    let router = Router::new().route("/", posted(accepts, Arc::new(work)));
    let few = serve::few_threads()?;
    let lane = Lane::storeless(few.handle());
    let router = frame::guard(router, "nothing", &config.limits, lane);
    serve::runtime(1, config.limits.in_flight)?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(odd)?;
        let address = listener.local_addr().map_err(odd)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let line = format!("nothing = \"{scheme}://{address}\"\n");
        files::replace(&args.ready_file, line.as_bytes(), Readers::Everyone)?;
        let (_running, stopped) = watch::channel(Phase::Serving);
        let serving = frame::run(listener, tls, router, config.limits.clone(), stopped);
        tokio::select! {
            () = serving => {}
            _ = serve::stop_signal()? => {}
        }
        Ok(())
    })
}
