//! The daemon: visits the TAM now and then, renews its own labels, and carries for local
//! applications.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tegata_client::Context;
use tegata_wire::rpc::{AgentReply, AgentRequest};

use crate::carrier::{Carrier, HttpCarrier};
use crate::config::Config;
use crate::http::Http;
use crate::retry::{Backoff, jitter};
use crate::socket;
use crate::teep::{self, Purpose, TeepError, Visit};

mod renewals;

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// Its socket cannot be made.
    #[error("the socket {} cannot be made: {reason}", path.display())]
    Socket {
        /// The socket.
        path: std::path::PathBuf,
        /// What is wrong and how to mend it.
        reason: String,
    },
}

/// All that its threads share.
pub struct Daemon {
    config: Config,
    tee: Context,
    http: Http,
    carrier: HttpCarrier,
    /// One visit at a time: two would only disturb each other.
    visiting: Mutex<()>,
    clients: AtomicU32,
}

impl Daemon {
    /// A daemon; does nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Arc<Self> {
        let http = Http::new(config.http_timeout());
        Arc::new(Self {
            tee: Context::at(config.tee_address()),
            carrier: HttpCarrier::new(http.clone(), &config.ca_url),
            http,
            visiting: Mutex::new(()),
            clients: AtomicU32::new(0),
            config,
        })
    }

    /// Runs for ever: answers applications, and visits the TAM.
    ///
    /// # Errors
    /// [`DaemonError`] if the socket cannot be made; later failures are logged and retried.
    pub fn run(self: &Arc<Self>) -> Result<std::convert::Infallible, DaemonError> {
        let listener = self.listen()?;
        let daemon = Arc::clone(self);
        let server = std::thread::Builder::new().name("socket".into());
        server
            .spawn(move || daemon.serve(&listener))
            .map_err(|e| DaemonError::Socket {
                path: self.config.agent_socket.clone(),
                reason: e.to_string(),
            })?;
        if self.config.renew_secs > 0 && !self.config.ca_url.is_empty() {
            let daemon = Arc::clone(self);
            let renewer = std::thread::Builder::new().name("renew".into());
            if let Err(error) = renewer.spawn(move || renewals::run(&daemon)) {
                tracing::error!(%error, "no thread for renewals: nothing will be renewed");
            }
        }
        tracing::info!(socket = %self.config.agent_socket.display(), "agent ready");
        let first = Duration::from_secs(self.config.retry_first_secs);
        let most = Duration::from_secs(self.config.retry_max_secs);
        let mut backoff = Backoff::new(first, most);
        loop {
            let pause = match self.visit(Purpose::Check) {
                Ok(_) => {
                    backoff.reset();
                    jitter(Duration::from_secs(self.config.poll_secs))
                }
                Err(error) => {
                    let pause = backoff.next_pause();
                    tracing::warn!(%error, pause_secs = pause.as_secs(), "visit to the TAM failed");
                    pause
                }
            };
            std::thread::sleep(pause);
        }
    }

    /// Visits the TAM once.
    ///
    /// # Errors
    /// [`TeepError`].
    pub fn visit(&self, purpose: Purpose) -> Result<Visit, TeepError> {
        let _alone = self.visiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut watch = |event| tracing::debug!(?event, "TEEP");
        let visit = teep::visit(
            &self.tee,
            &self.http,
            self.config.tam(),
            purpose,
            &mut watch,
        )?;
        tracing::info!(
            messages = visit.messages,
            fetched = visit.fetched,
            "visited the TAM"
        );
        Ok(visit)
    }

    fn listen(&self) -> Result<UnixListener, DaemonError> {
        let path = &self.config.agent_socket;
        let wrong = |reason: String| DaemonError::Socket {
            path: path.clone(),
            reason,
        };
        let (short, _dir) =
            tegata_client::short_socket_path(path).map_err(|e| wrong(e.to_string()))?;
        if let Ok(meta) = std::fs::symlink_metadata(&short) {
            if !meta.file_type().is_socket() {
                return Err(wrong("there is a file of that name. Move it away".into()));
            }
            if UnixStream::connect(&short).is_ok() {
                return Err(wrong(
                    "another agent answers on it. Stop that one, or set `agent_socket` in \
                     agent.toml"
                        .into(),
                ));
            }
            std::fs::remove_file(&short)
                .map_err(|e| wrong(format!("the stale one cannot be removed: {e}")))?;
        }
        let listener = UnixListener::bind(&short)
            .map_err(|e| wrong(format!("{e}. Set `agent_socket` in agent.toml")))?;
        let mode = PermissionsExt::from_mode(self.config.mode().unwrap_or(0o600));
        std::fs::set_permissions(&short, mode).map_err(|e| wrong(e.to_string()))?;
        Ok(listener)
    }

    fn serve(self: &Arc<Self>, listener: &UnixListener) {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            if self.clients.fetch_add(1, Ordering::Relaxed) >= CLIENTS_MAX {
                self.clients.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!("too many applications at once");
                let reply = failed("the agent is busy", true);
                let _ = socket::send(&stream, &reply, Duration::from_millis(10));
                continue;
            }
            let daemon = Arc::clone(self);
            let thread = std::thread::Builder::new()
                .name("app".into())
                .spawn(move || {
                    daemon.answer(&stream);
                    daemon.clients.fetch_sub(1, Ordering::Relaxed);
                });
            if let Err(error) = thread {
                self.clients.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%error, "no thread for an application");
            }
        }
    }

    fn answer(&self, stream: &UnixStream) {
        let reply = match socket::receive(stream, REQUEST_TIMEOUT) {
            Ok(AgentRequest::Cmp { path, body }) => match self.carrier.cmp(&path, &body) {
                Ok(answer) => AgentReply::Cmp(answer),
                Err(error) => failed(&error.to_string(), error.is_retryable()),
            },
            Ok(AgentRequest::Sync { ta }) => {
                match self.visit(ta.map_or(Purpose::Check, Purpose::Want)) {
                    Ok(visit) => AgentReply::Synced {
                        messages: visit.messages,
                    },
                    Err(error) => failed(&error.to_string(), error.is_retryable()),
                }
            }
            Ok(_) => failed("this agent does not know that request", false),
            Err(error) => {
                tracing::info!(%error, "an application was dropped");
                failed("not a request of this protocol", false)
            }
        };
        let _ = socket::send(stream, &reply, REQUEST_TIMEOUT);
    }
}

fn failed(message: &str, retryable: bool) -> AgentReply {
    AgentReply::Failed {
        message: message.into(),
        retryable,
    }
}

/// Most applications at once.
const CLIENTS_MAX: u32 = 64;
/// A request arrives, and its answer is taken, within this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
