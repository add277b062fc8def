//! Drives one enrolment: TA, CA, TA, CA, TA. Carries bytes, and believes none.
//!
//! Purpose: an application (or `tegata-agent enrol`) wants a certificate under a label. The TA in
//! the TEE makes key and request, the CA answers, the TA checks and installs. This module opens
//! the session, moves the messages and repeats what may be repeated.
//!
//! Why every step may be repeated: the TA answers ENROL_BEGIN with the same request until it is
//! finished; the CA answers the same request with the same certificate; ENROL_FINISH and
//! ENROL_CONFIRM of what is done already succeed. So a lost answer costs a repetition, nothing
//! else, and after a crash the driver begins again from the start.
//!
//! Commands of the enrolment TA (memory references, UTF-8 labels of 1 to 64 bytes):
//!
//! | command | 0 in | 1 | 2 out | 3 out |
//! |---|---|---|---|---|
//! | 1 ENROL_BEGIN | label | in: profile, may be empty | p10cr or kur, DER | CMP path |
//! | 2 ENROL_FINISH | label | in: cp or kup, DER | certConf, DER; empty: done | |
//! | 3 ENROL_CONFIRM | label | in: pkiConf, DER | | |
//! | 4 GET_CERTIFICATE | label | | chain, PEM, leaf first | |

use std::time::{Duration, Instant};

use tegata_client::{Context, Error, Login, Operation, Parameter, Session, TaUuid, codes};
use tegata_wire::cmp::{
    BodyKind, PkiBody, PkiFailureInfo, PkiStatus, PkiStatusInfo, UnverifiedPkiMessage,
};

use crate::carrier::{Carrier, CarryError};
use crate::retry::{Backoff, Patience};

/// Numbers of the enrolment TA's commands.
pub mod command {
    /// Make key and request, or give the request that is under way.
    pub const ENROL_BEGIN: u32 = 1;
    /// Check and install what the CA answered.
    pub const ENROL_FINISH: u32 = 2;
    /// Take the CA's confirmation.
    pub const ENROL_CONFIRM: u32 = 3;
    /// Read certificate and chain.
    pub const GET_CERTIFICATE: u32 = 4;
    /// Sign with the key of a label.
    pub const SIGN: u32 = 5;
    /// List the caller's labels.
    pub const LIST: u32 = 6;
    /// Read the public key of a label.
    pub const GET_PUBLIC_KEY: u32 = 8;
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Request {
    /// The enrolment TA.
    pub ta: TaUuid,
    /// Name of key and certificate, 1 to 64 bytes; together with the caller it is unique.
    pub label: String,
    /// Certificate profile; `None` for the one of the release.
    pub profile: Option<String>,
    /// Which identity of this process owns the key.
    pub login: Login,
    /// Path of the CMP resource, if the TA names none.
    pub cmp_path: Option<String>,
    /// How often a step is tried before giving up.
    pub attempts: u32,
    /// First pause between two attempts; it doubles.
    pub pause: Duration,
    /// For how long a step is tried while the CA is busy and says when to come again; that uses up no attempt.
    pub patience: Duration,
}

impl Request {
    /// A certificate under `label`, owned by the user of this process.
    #[must_use]
    pub fn new(ta: TaUuid, label: &str) -> Self {
        Self {
            ta,
            label: label.into(),
            profile: None,
            login: Login::User,
            cmp_path: None,
            attempts: 5,
            pause: Duration::from_millis(200),
            patience: PATIENCE,
        }
    }
}

/// A label that was typed. The TA takes no other, and says only that a parameter is bad.
///
/// # Errors
/// What is wrong with it.
pub fn label(text: &str) -> Result<String, String> {
    if !(1..=LABEL_LEN_BYTES_MAX).contains(&text.len()) {
        return Err(format!(
            "a label has 1 to {LABEL_LEN_BYTES_MAX} bytes, and this one has {} (a Japanese character has 3)",
            text.len()
        ));
    }
    if text.chars().any(char::is_control) {
        return Err("a label has no control characters".into());
    }
    Ok(text.into())
}

/// One of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Session with the TA.
    Open,
    /// Key and request are made in the TEE.
    Begin,
    /// The request goes to the CA, the certificate comes back.
    Issue,
    /// The TA checks and installs.
    Finish,
    /// The confirmation goes to the CA.
    Confirm,
    /// The TA takes the CA's word for it.
    Complete,
    /// Certificate and chain are read.
    Read,
}

impl Step {
    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Begin => "begin",
            Self::Issue => "issue",
            Self::Finish => "finish",
            Self::Confirm => "confirm",
            Self::Complete => "complete",
            Self::Read => "read",
        }
    }
}

/// A boundary that bytes cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Boundary {
    /// Between application and TEE.
    Tee,
    /// Between device and CA.
    Ca,
}

/// One crossing there and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Which step.
    pub step: Step,
    /// Which boundary.
    pub boundary: Boundary,
    /// Bytes that went across.
    pub sent_bytes: usize,
    /// Bytes that came back.
    pub received_bytes: usize,
    /// How long it took.
    pub took: Duration,
}

/// Watches an enrolment. All methods do nothing unless they are written.
pub trait Watch {
    /// Bytes crossed a boundary.
    fn crossed(&mut self, crossing: &Crossing) {
        let _ = crossing;
    }

    /// A step failed and will be repeated after a pause.
    fn retrying(&mut self, step: Step, error: &EnrolError, pause: Duration) {
        let _ = (step, error, pause);
    }
}

/// Watches nothing.
pub struct Unwatched;

impl Watch for Unwatched {}

/// What was enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Certificate and chain in PEM, leaf first.
    pub chain_pem: String,
    /// True if the CA's confirmation was exchanged; false if it was implicit.
    pub confirmed: bool,
}

/// Why an enrolment did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// The TEE or the TA did not do its part.
    #[error("{} failed: {source}", step.name())]
    Tee {
        /// In which step.
        step: Step,
        /// The TEE's word.
        source: Error,
    },
    /// The CA cannot be reached, or does not speak CMP.
    #[error("{} failed: {source}", step.name())]
    Carry {
        /// In which step.
        step: Step,
        /// What failed.
        source: CarryError,
    },
    /// The CA refuses: the TA has checked that it is the CA that says so.
    #[error("the CA refuses: {said}")]
    Refused {
        /// In which step.
        step: Step,
        /// The CA's words.
        said: String,
        /// Whether the certificate that serves asked (kur), and not the release (p10cr).
        by_certificate: bool,
        /// Whether it has not decided, or cannot answer now: the same request may be answered later.
        later: bool,
    },
    /// The TA answered with something that is not what it should be.
    #[error("{}: {reason}", step.name())]
    Answer {
        /// In which step.
        step: Step,
        /// What is wrong.
        reason: &'static str,
    },
}

impl EnrolError {
    /// True if the same step may succeed when it is repeated.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Tee { source, .. } => source.is_retryable(),
            Self::Carry { source, .. } => source.is_retryable(),
            Self::Answer { .. } | Self::Refused { .. } => false,
        }
    }

    /// As of [`crate::http::HttpError::retry_after`].
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Carry { source, .. } => source.retry_after(),
            _ => None,
        }
    }

    /// In which step it failed.
    #[must_use]
    pub const fn step(&self) -> Step {
        match self {
            Self::Tee { step, .. }
            | Self::Carry { step, .. }
            | Self::Refused { step, .. }
            | Self::Answer { step, .. } => *step,
        }
    }
}

/// Enrols: after success the certificate is installed in the TEE and confirmed.
///
/// # Errors
/// [`EnrolError`] after the attempts are used up. Calling again is safe at any time and goes on
/// where the TA and the CA stand.
pub fn enrol(
    tee: &Context,
    carrier: &dyn Carrier,
    request: &Request,
    watch: &mut dyn Watch,
) -> Result<Enrolled, EnrolError> {
    let mut driver = Driver {
        tee,
        carrier,
        request,
        watch,
        session: None,
    };
    let label = request.label.as_bytes();

    let profile = request.profile.clone().unwrap_or_default();
    let [csr, path] = driver.call(Step::Begin, command::ENROL_BEGIN, || {
        [
            Parameter::memref_input(label),
            Parameter::memref_input(profile.as_bytes()),
            Parameter::memref_output(MESSAGE_ROOM),
            Parameter::memref_output(PATH_ROOM),
        ]
    })?;
    let path = cmp_path(request, path)?;
    let answer = driver.carry(Step::Issue, &path, &csr)?;
    let refused = |error: EnrolError, answer: &[u8]| match error {
        EnrolError::Tee { step, source } if source.code() == codes::TEEC_ERROR_ACCESS_DENIED => {
            let status = status_of(answer);
            EnrolError::Refused {
                step,
                said: words_of(status.as_ref()),
                by_certificate: is_key_update(&csr),
                later: status.is_some_and(|status| is_for_now(&status)),
            }
        }
        other => other,
    };

    let finished = driver.call(Step::Finish, command::ENROL_FINISH, || {
        [
            Parameter::memref_input(label),
            Parameter::memref_input(&answer),
            Parameter::memref_output(MESSAGE_ROOM),
            Parameter::None,
        ]
    });
    let [confirm, _] = finished.map_err(|error| refused(error, &answer))?;
    let confirmed = !confirm.is_empty();
    if confirmed {
        let answer = driver.carry(Step::Confirm, &path, &confirm)?;
        let completed = driver.call(Step::Complete, command::ENROL_CONFIRM, || {
            [
                Parameter::memref_input(label),
                Parameter::memref_input(&answer),
                Parameter::None,
                Parameter::None,
            ]
        });
        completed.map_err(|error| refused(error, &answer))?;
    }
    let chain_pem = driver.certificate()?;
    Ok(Enrolled {
        chain_pem,
        confirmed,
    })
}

/// Reads certificate and chain of a label, PEM, leaf first.
///
/// # Errors
/// [`EnrolError`]; `TEEC_ERROR_ITEM_NOT_FOUND` if this caller has none under that label.
pub fn certificate(tee: &Context, request: &Request) -> Result<String, EnrolError> {
    // No message goes to a CA here.
    struct Nowhere;
    impl Carrier for Nowhere {
        fn cmp(&self, path: &str, _: &[u8]) -> Result<Vec<u8>, CarryError> {
            Err(CarryError::Path { path: path.into() })
        }
        fn destination(&self) -> String {
            String::new()
        }
    }
    let mut watch = Unwatched;
    let carrier = &Nowhere;
    Driver {
        tee,
        carrier,
        request,
        watch: &mut watch,
        session: None,
    }
    .certificate()
}

/// What the CA says in an answer that the TA found authentic.
fn status_of(answer: &[u8]) -> Option<PkiStatusInfo> {
    let message = UnverifiedPkiMessage::from_der(answer).ok()?;
    match message.body().decode() {
        Ok(PkiBody::Error(content)) => Some(content.status),
        Ok(PkiBody::Ip(rep) | PkiBody::Cp(rep) | PkiBody::Kup(rep)) => {
            rep.response.iter().next().map(|one| one.status.clone())
        }
        _ => None,
    }
}

/// Whether it says nothing for good: what it failed at (systemFailure) may fail for ever.
fn is_for_now(status: &PkiStatusInfo) -> bool {
    let busy = |info: PkiFailureInfo| info.contains(PkiFailureInfo::SYSTEM_UNAVAIL);
    status.status != PkiStatus::Rejection || status.fail_info.is_some_and(busy)
}

/// Its words, as far as they can be shown.
fn words_of(status: Option<&PkiStatusInfo>) -> String {
    let texts = status.and_then(|status| status.status_string.as_ref());
    let texts: Vec<&str> = texts
        .into_iter()
        .flat_map(|t| t.iter())
        .map(String::as_str)
        .collect();
    let plain = |c: &char| !c.is_control();
    let shown = texts
        .join("; ")
        .chars()
        .filter(plain)
        .take(WORDS_MAX)
        .collect::<String>();
    if shown.is_empty() {
        "it gives no reason".into()
    } else {
        shown
    }
}

/// Whether a request of the TA is signed by the certificate that serves.
fn is_key_update(request: &[u8]) -> bool {
    UnverifiedPkiMessage::from_der(request).is_ok_and(|message| message.kind() == BodyKind::Kur)
}

fn cmp_path(request: &Request, named: Vec<u8>) -> Result<String, EnrolError> {
    let answer = |reason| EnrolError::Answer {
        step: Step::Begin,
        reason,
    };
    let named = String::from_utf8(named).map_err(|_| answer("the CMP path is no text"))?;
    if !named.is_empty() {
        return Ok(named);
    }
    request
        .cmp_path
        .clone()
        .ok_or_else(|| answer("the TA names no CMP path, set cmp_path"))
}

struct Driver<'a> {
    tee: &'a Context,
    carrier: &'a dyn Carrier,
    request: &'a Request,
    watch: &'a mut dyn Watch,
    session: Option<Session>,
}

impl Driver<'_> {
    /// One command of the TA, repeated where that can help; the outputs 2 and 3.
    fn call(
        &mut self,
        step: Step,
        command: u32,
        params: impl Fn() -> [Parameter; 4],
    ) -> Result<[Vec<u8>; 2], EnrolError> {
        self.repeat(step, |driver| {
            let operation = driver.invoke(step, command, params())?;
            Ok([operation.memref(2).to_vec(), operation.memref(3).to_vec()])
        })
    }

    fn certificate(&mut self) -> Result<String, EnrolError> {
        let label = self.request.label.clone();
        let pem = self.repeat(Step::Read, |driver| {
            let params = [
                Parameter::memref_input(label.as_bytes()),
                Parameter::None,
                Parameter::memref_output(MESSAGE_ROOM),
                Parameter::None,
            ];
            let operation = driver.invoke(Step::Read, command::GET_CERTIFICATE, params)?;
            Ok(operation.memref(2).to_vec())
        })?;
        let reason = "the certificate is not PEM";
        String::from_utf8(pem)
            .ok()
            .filter(|pem| pem.starts_with("-----BEGIN CERTIFICATE-----"))
            .ok_or(EnrolError::Answer {
                step: Step::Read,
                reason,
            })
    }

    fn invoke(
        &mut self,
        step: Step,
        command: u32,
        params: [Parameter; 4],
    ) -> Result<Operation, EnrolError> {
        let sent_bytes = params
            .iter()
            .map(|param| match param {
                Parameter::MemrefInput(bytes) => bytes.len(),
                _ => 0,
            })
            .sum();
        let session = match self.session.take() {
            Some(session) => session,
            None => self
                .tee
                .open_session(
                    &self.request.ta,
                    self.request.login,
                    &mut Operation::empty(),
                )
                .map_err(|source| EnrolError::Tee {
                    step: Step::Open,
                    source,
                })?,
        };
        let mut operation = Operation::new(params);
        let begun = Instant::now();
        let result = session.invoke(command, &mut operation);
        let took = begun.elapsed();
        match result {
            Ok(()) => {
                self.session = Some(session);
                let received_bytes = (0..4).map(|index| operation.memref(index).len()).sum();
                let boundary = Boundary::Tee;
                let crossing = Crossing {
                    step,
                    boundary,
                    sent_bytes,
                    received_bytes,
                    took,
                };
                self.watch.crossed(&crossing);
                Ok(operation)
            }
            // The session may be dead: the next attempt opens another one.
            Err(source) => Err(EnrolError::Tee { step, source }),
        }
    }

    /// One message to the CA, repeated where that can help.
    fn carry(&mut self, step: Step, path: &str, body: &[u8]) -> Result<Vec<u8>, EnrolError> {
        self.repeat(step, |driver| {
            let begun = Instant::now();
            let answer = driver
                .carrier
                .cmp(path, body)
                .map_err(|source| EnrolError::Carry { step, source })?;
            let crossing = Crossing {
                step,
                boundary: Boundary::Ca,
                sent_bytes: body.len(),
                received_bytes: answer.len(),
                took: begun.elapsed(),
            };
            driver.watch.crossed(&crossing);
            Ok(answer)
        })
    }

    fn repeat<T>(
        &mut self,
        step: Step,
        mut attempt: impl FnMut(&mut Self) -> Result<T, EnrolError>,
    ) -> Result<T, EnrolError> {
        let mut backoff = Backoff::new(self.request.pause, Duration::from_secs(30));
        let patience = Patience::new(self.request.patience);
        loop {
            let error = match attempt(self) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let used_up = backoff.failures().saturating_add(1) >= self.request.attempts;
            let pause = match error.retry_after() {
                Some(asked) => patience.pause(asked),
                None if used_up || !error.is_retryable() => None,
                None => Some(backoff.next_pause()),
            };
            let Some(pause) = pause else {
                return Err(error);
            };
            self.watch.retrying(step, &error, pause);
            std::thread::sleep(pause);
        }
    }
}

/// True if the error says that the TA is not installed.
#[must_use]
pub fn ta_is_missing(error: &EnrolError) -> bool {
    matches!(
        error,
        EnrolError::Tee { step: Step::Open, source: Error::Returned { code, .. } }
            if *code == codes::TEEC_ERROR_ITEM_NOT_FOUND
    )
}

/// For how long somebody at a terminal waits for a server that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Longest label in bytes.
const LABEL_LEN_BYTES_MAX: usize = 64;
/// Most characters of the CA's words that are shown.
const WORDS_MAX: usize = 300;
/// Room for a message of the TA, in bytes.
const MESSAGE_ROOM: u32 = 64 * 1024;
/// Room for the CMP path, in bytes.
const PATH_ROOM: u32 = 1024;
