//! TEEP over HTTP: one visit to the TAM, from first contact to nothing left to say.
//!
//! Spec: draft-ietf-teep-otrp-over-http section 6; RFC 9397 section 6.2.

use std::time::{Duration, Instant};

use tegata_client::{Context, Payload, TeepContact, TeepOutcome};
use tegata_wire::ids::TaUuid;

use crate::http::{Http, HttpError};

/// Media type of TEEP messages.
pub const TEEP_CBOR: &str = "application/teep+cbor";

/// Longest message of a TAM in bytes: a TA module of 2 MiB and its envelopes.
pub const MESSAGE_LEN_BYTES_MAX: u64 = 3 << 20;

/// Largest payload fetched, in bytes, whatever the manifest allows.
pub const PAYLOAD_LEN_BYTES_MAX: u64 = 3 << 20;

/// Most messages of one visit: a TAM that goes on and on is left.
pub const ROUNDS_MAX: u32 = 16;

/// Most payloads fetched for one message.
pub const FETCHES_MAX: usize = tegata_wire::rpc::PAYLOADS_MAX;

/// What a visit was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Whatever the TAM has.
    Check,
    /// This TA is wanted.
    Want(TaUuid),
    /// This TA is wanted no more.
    Unwant(TaUuid),
}

/// What came of a visit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visit {
    /// True if there was somebody to contact.
    pub contacted: bool,
    /// Messages of the TAM that the TEE handled.
    pub messages: u32,
    /// Payloads that were fetched from elsewhere.
    pub fetched: u32,
}

/// One crossing of a boundary, for those who watch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TeepEvent {
    /// A message went to the TAM.
    ToTam {
        /// Its address.
        url: String,
        /// Length in bytes; 0 is the first contact.
        bytes: usize,
    },
    /// A message came from the TAM.
    FromTam {
        /// Length in bytes; 0 if there is nothing more.
        bytes: usize,
        /// Since the request was sent.
        took: Duration,
    },
    /// A payload was fetched.
    Fetched {
        /// Where from.
        url: String,
        /// Length in bytes.
        bytes: usize,
        /// Since the request was sent.
        took: Duration,
    },
    /// The TEE handled a message.
    Handled {
        /// Length of the message in bytes.
        bytes: usize,
        /// Length of its reply; `None` if there is none.
        reply: Option<usize>,
        /// How long it took.
        took: Duration,
    },
}

/// Why a visit did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TeepError {
    /// The TEE did not do its part.
    #[error(transparent)]
    Tee(#[from] tegata_client::Error),
    /// HTTP failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Neither the device nor the configuration names a TAM.
    #[error("no TAM is known: set `tam_url` in agent.toml")]
    NoTam,
    /// A TAM that does not come to an end.
    #[error("the TAM did not come to an end within {ROUNDS_MAX} messages")]
    Endless,
    /// The TEE asks for a payload again, or for too many.
    #[error("payload {uri:?} cannot be had")]
    Payload {
        /// Where it should be.
        uri: String,
    },
}

impl TeepError {
    /// True if it may work later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Tee(error) => error.is_retryable(),
            Self::Http(error) => error.is_retryable(),
            Self::NoTam | Self::Endless | Self::Payload { .. } => false,
        }
    }

    /// As of [`HttpError::retry_after`].
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Http(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// Visits the TAM once. `tam_url` is used where the device names none.
///
/// # Errors
/// [`TeepError`]; repeating the visit is safe.
pub fn visit(
    tee: &Context,
    http: &Http,
    tam_url: Option<&str>,
    purpose: Purpose,
    watch: &mut dyn FnMut(TeepEvent),
) -> Result<Visit, TeepError> {
    let contact = match purpose {
        Purpose::Check => tee.policy_check()?,
        Purpose::Want(ta) => tee.request_ta(&ta)?,
        Purpose::Unwant(ta) => tee.unrequest_ta(&ta)?,
    };
    let Some(TeepContact { tam_uri, message }) = contact else {
        return Ok(Visit::default());
    };
    // The operator's word comes before the factory's: a TAM may have moved.
    let url = tam_url
        .map(String::from)
        .or(tam_uri)
        .ok_or(TeepError::NoTam)?;
    let mut visit = Visit {
        contacted: true,
        ..Visit::default()
    };
    let mut outgoing = message;
    for _ in 0..ROUNDS_MAX {
        watch(TeepEvent::ToTam {
            url: url.clone(),
            bytes: outgoing.len(),
        });
        let begun = Instant::now();
        let answer = match post(http, &url, &outgoing) {
            Ok(answer) => answer,
            Err(error) => {
                // The agent in the TEE must know that its request came to nothing.
                let _ = tee.process_error();
                return Err(error);
            }
        };
        watch(TeepEvent::FromTam {
            bytes: answer.len(),
            took: begun.elapsed(),
        });
        if answer.is_empty() {
            return Ok(visit);
        }
        visit.messages = visit.messages.saturating_add(1);
        match handle(tee, http, &answer, &mut visit, watch)? {
            Some(reply) => outgoing = reply,
            None => return Ok(visit),
        }
    }
    Err(TeepError::Endless)
}

fn post(http: &Http, url: &str, message: &[u8]) -> Result<Vec<u8>, TeepError> {
    let response = http.post(url, TEEP_CBOR, message, MESSAGE_LEN_BYTES_MAX)?;
    // An empty answer (204) means that there is nothing more.
    if !response.body.is_empty() && response.content_type != TEEP_CBOR {
        let got = response.content_type;
        let url = url.into();
        return Err(HttpError::MediaType {
            url,
            got,
            expected: TEEP_CBOR,
        }
        .into());
    }
    Ok(response.body)
}

fn handle(
    tee: &Context,
    http: &Http,
    message: &[u8],
    visit: &mut Visit,
    watch: &mut dyn FnMut(TeepEvent),
) -> Result<Option<Vec<u8>>, TeepError> {
    let mut payloads: Vec<Payload> = Vec::new();
    loop {
        let begun = Instant::now();
        let outcome = tee.process_teep(message, &payloads)?;
        let took = begun.elapsed();
        let bytes = message.len();
        match outcome {
            TeepOutcome::Reply(reply) => {
                watch(TeepEvent::Handled {
                    bytes,
                    reply: Some(reply.len()),
                    took,
                });
                return Ok(Some(reply));
            }
            TeepOutcome::NeedPayload { uri, max_bytes } => {
                let again = payloads.iter().any(|payload| payload.uri == uri);
                if again || payloads.len() >= FETCHES_MAX {
                    return Err(TeepError::Payload { uri });
                }
                let begun = Instant::now();
                let got = http.get(&uri, max_bytes.min(PAYLOAD_LEN_BYTES_MAX))?;
                let (url, bytes) = (uri.clone(), got.body.len());
                watch(TeepEvent::Fetched {
                    url,
                    bytes,
                    took: begun.elapsed(),
                });
                visit.fetched = visit.fetched.saturating_add(1);
                payloads.push(Payload {
                    uri,
                    bytes: got.body,
                });
            }
            _ => {
                watch(TeepEvent::Handled {
                    bytes,
                    reply: None,
                    took,
                });
                return Ok(None);
            }
        }
    }
}
