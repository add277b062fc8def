//! The keys of a caller: a typed client of the enrolment TA.
//!
//! Purpose: what PKCS#11 and other programs need of keys that were enrolled: which there are,
//! their certificates and public keys, signatures, key agreement. The private keys stay in the TEE.
//!
//! Invariants: whose keys are seen is decided by the TEE from the identity that the session was
//! opened with; a label of somebody else is answered as one that never was. A secret is never agreed
//! on with another key than the one that was meant; a signature shows whose it is.
//!
//! Commands: docs/spec/enrolment-ta.md.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use der::asn1::AnyRef;
use der::{Reader, SliceReader};
use tegata_wire::cbor::{self, CborError, MapReader};
use tegata_wire::ids::TaUuid;
use tegata_wire::rpc::Login;

use crate::codes;
use crate::error::{Error, Origin};
use crate::operation::{Operation, Parameter};
use crate::session::{Context, Session};

/// How far the key of a label is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// A request is under way; there is no certificate.
    Requested,
    /// A certificate came and is not confirmed yet.
    Received,
    /// Key and certificate are there.
    Installed,
    /// They are, and the next ones are under way.
    Renewing,
}

impl KeyState {
    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Received => "received",
            Self::Installed => "installed",
            Self::Renewing => "renewing",
        }
    }

    /// True if key and certificate can be used.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Installed | Self::Renewing)
    }
}

/// A label of this caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// The name, 1 to 64 bytes.
    pub label: String,
    /// How far its key is.
    pub state: KeyState,
}

/// What a label has, and when it is to be renewed. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// How far its key is.
    pub state: KeyState,
    /// Profile of the certificate.
    pub profile: String,
    /// Of the certificate that serves, if one does.
    pub certificate: Option<CertificateStatus>,
}

/// The certificate that serves under a label. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStatus {
    /// First second of its validity.
    pub not_before_secs: u64,
    /// Last second of its validity.
    pub not_after_secs: u64,
    /// From when on it is to be renewed.
    pub renew_at_secs: u64,
    /// Whether that is now, by the TA's word.
    pub due: bool,
    /// The time that the TA goes by; of an older TA, which does not say, 0.
    pub time_secs: u64,
    /// Serial number, big-endian.
    pub serial: Vec<u8>,
}

impl CertificateStatus {
    /// True if it has ended, by the time that the TA goes by.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.not_after_secs <= self.time_secs
    }
}

/// Why keys cannot be read or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// This caller has no such key. The TEE says the same of keys of other callers.
    #[error("this caller has no key {label:?}")]
    NoKey {
        /// The label.
        label: String,
    },
    /// The TA cannot be told from others.
    #[error("{installed} TAs are installed: say which one keeps the keys")]
    WhichTa {
        /// Number of TAs.
        installed: usize,
    },
    /// The TEE opens no other session now, and none of this caller's own is about to be free.
    #[error("the TEE is at a limit of its sessions or workers: try again when others have ended")]
    NoRoom(#[source] Error),
    /// The TEE or the TA did not do its part.
    #[error(transparent)]
    Tee(#[from] Error),
    /// The TA answered with something that is not what it should be.
    #[error("the TA's answer is not right: {0}")]
    Answer(&'static str),
}

impl KeyError {
    /// True if the TA that keeps the keys is not installed: nobody has keys then.
    #[must_use]
    pub const fn is_without_ta(&self) -> bool {
        matches!(
            self,
            Self::WhichTa { installed: 0 }
                | Self::Tee(Error::Returned {
                    code: codes::TEEC_ERROR_ITEM_NOT_FOUND,
                    origin: Origin::Tee,
                })
        )
    }
}

impl From<CborError> for KeyError {
    fn from(_: CborError) -> Self {
        Self::Answer("not a list of labels")
    }
}

/// The keys of this process's user, group or program in one TEE.
///
/// May be shared by threads: calls that run at the same time have sessions of their own, at most
/// as many as were allowed. Sessions are kept for the next call until [`Keys::release`].
pub struct Keys {
    context: Context,
    ta: Option<TaUuid>,
    login: Login,
    sessions_max: usize,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Session>,
    /// Sessions at work, and those that are being opened.
    at_work: usize,
    /// The TA that was found, where none was named.
    ta: Option<TaUuid>,
}

/// A place among the sessions at work. It is free again however the work ends, by a panic too:
/// otherwise others would wait for it for ever.
struct Seat<'a>(&'a Keys);

impl Seat<'_> {
    /// The session is good for the next call.
    fn keep(self, session: Session) {
        self.0.lock().idle.push(session);
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut pool = self.0.lock();
        pool.at_work = pool.at_work.saturating_sub(1);
        drop(pool);
        self.0.returned.notify_one();
    }
}

impl Keys {
    /// The keys that the enrolment TA `ta` keeps for this caller as `login`. Without `ta`, the only
    /// one that is installed. Nothing is contacted yet.
    #[must_use]
    pub fn new(context: Context, ta: Option<TaUuid>, login: Login, sessions_max: usize) -> Self {
        Self {
            context,
            ta,
            login,
            sessions_max: sessions_max.max(1),
            pool: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// The TEE.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The labels of this caller.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn list(&self) -> Result<Vec<KeyEntry>, KeyError> {
        let out = self.call("", |session| {
            let mut operation = Operation::new([
                Parameter::None,
                Parameter::None,
                Parameter::memref_output(ROOM_LEN_BYTES),
                Parameter::None,
            ]);
            session.invoke(command::LIST, &mut operation)?;
            Ok(operation.memref(2).to_vec())
        })?;
        let rows = cbor::into_array(cbor::decode(&out, 6)?, "labels", 0, LABELS_MAX)?;
        rows.into_iter().map(entry).collect()
    }

    /// What `label` has, and when it is to be renewed.
    ///
    /// # Errors
    /// [`KeyError`]; `NoKey` if this caller has nothing under that label.
    pub fn status(&self, label: &str) -> Result<KeyStatus, KeyError> {
        let out = self.call(label, |session| {
            let mut operation = Operation::new([
                Parameter::memref_input(label),
                Parameter::None,
                Parameter::memref_output(STATUS_ROOM_LEN_BYTES),
                Parameter::None,
            ]);
            session.invoke(command::STATUS, &mut operation)?;
            Ok(operation.memref(2).to_vec())
        })?;
        status(cbor::decode(&out, 4)?)
    }

    /// Gives up the request that is under way for `label`; its certificate stays.
    ///
    /// # Errors
    /// [`KeyError`]; `NoKey` if there is none.
    pub fn give_up_next(&self, label: &str) -> Result<(), KeyError> {
        self.call(label, |session| {
            let mut operation = Operation::new([
                Parameter::memref_input(label),
                Parameter::ValueInput(DELETE_NEXT, 0),
                Parameter::None,
                Parameter::None,
            ]);
            session.invoke(command::DELETE, &mut operation)
        })
    }

    /// Certificate and issuers of `label` without the root, DER, leaf first.
    ///
    /// # Errors
    /// [`KeyError`]; `NoKey` if this caller has no certificate of that label.
    pub fn certificates(&self, label: &str) -> Result<Vec<Vec<u8>>, KeyError> {
        let format = Parameter::ValueInput(FORMAT_DER_OF_ALL, 0);
        let out = self.call(label, |session| {
            invoke(session, command::GET_CERTIFICATE, label, format.clone())
        })?;
        split(&out)
    }

    /// The public key of `label`, a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`KeyError`]; `NoKey` if this caller has none of that label.
    pub fn public_key(&self, label: &str) -> Result<Vec<u8>, KeyError> {
        self.call(label, |session| {
            invoke(session, command::GET_PUBLIC_KEY, label, Parameter::None)
        })
    }

    /// Signs with the key that `label` has now: a digest of 32 (P-256) or 48 bytes (P-384), with
    /// Ed25519 the message itself. The signature is raw: r and s, or 64 bytes. Who means a certain
    /// key checks the signature with its public key: the label may have been renewed.
    ///
    /// # Errors
    /// [`KeyError`]; `NoKey` if this caller has no key of that label.
    pub fn sign(&self, label: &str, input: &[u8]) -> Result<Vec<u8>, KeyError> {
        let input = Parameter::memref_input(input);
        self.call(label, |session| {
            invoke(session, command::SIGN, label, input.clone())
        })
    }

    /// Key agreement of the key of `label` whose SubjectPublicKeyInfo is `spki_der` with `peer`, an
    /// uncompressed SEC1 point: the shared x coordinate, a secret.
    ///
    /// # Errors
    /// [`KeyError`]; `NoKey` if this caller has no such key of that label, or has it no longer;
    /// `TEEC_ERROR_ACCESS_DENIED` if the key may not do this, `TEEC_ERROR_BAD_PARAMETERS` if the
    /// peer's point is not on its curve.
    pub fn ecdh(&self, label: &str, spki_der: &[u8], peer: &[u8]) -> Result<Vec<u8>, KeyError> {
        let peer = Parameter::memref_input(peer);
        self.call(label, |session| {
            let serves = || {
                let which = Parameter::ValueInput(CURRENT_KEY, 0);
                if invoke(session, command::GET_PUBLIC_KEY, label, which)? == spki_der {
                    Ok(())
                } else {
                    Err(Error::Returned {
                        code: codes::TEEC_ERROR_ITEM_NOT_FOUND,
                        origin: Origin::Api,
                    })
                }
            };
            // Keys of a label follow each other and never come back: one that served before and
            // after served in between. Before alone it may have gone, after alone have come.
            serves()?;
            let secret = invoke(session, command::AGREE, label, peer.clone())?;
            serves()?;
            Ok(secret)
        })
    }

    /// Closes the sessions that nobody uses now.
    pub fn release(&self) {
        let idle = std::mem::take(&mut self.lock().idle);
        // Without the lock: it speaks to the TEE.
        drop(idle);
        self.returned.notify_all();
    }

    /// For the child after a fork: forgets the sessions, which are the parent's, without a word to
    /// the TEE. Does nothing if another thread of the parent was in here at that moment.
    pub fn abandon(&self) {
        let pool = match self.pool.try_lock() {
            Ok(pool) => Some(pool),
            Err(std::sync::TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        };
        for session in pool.into_iter().flat_map(|mut pool| {
            pool.at_work = 0;
            std::mem::take(&mut pool.idle)
        }) {
            session.abandon();
        }
    }

    /// Runs `work` in a session that is free, or in a new one.
    fn call<T>(
        &self,
        label: &str,
        work: impl Fn(&Session) -> Result<T, Error>,
    ) -> Result<T, KeyError> {
        loop {
            let (seat, session, was_idle) = self.take()?;
            let error = match work(&session) {
                Ok(done) => {
                    seat.keep(session);
                    return Ok(done);
                }
                Err(error) => error,
            };
            // The answer of a TA that lives; anything else ends the session.
            let answered = matches!(&error, Error::Returned { code, .. }
                if *code != codes::TEEC_ERROR_TARGET_DEAD);
            if answered {
                seat.keep(session);
            } else {
                session.abandon();
                drop(seat);
                if was_idle && was_gone(&error) {
                    continue;
                }
            }
            return Err(match error.code() {
                codes::TEEC_ERROR_ITEM_NOT_FOUND => KeyError::NoKey {
                    label: label.into(),
                },
                _ => KeyError::Tee(error),
            });
        }
    }

    /// A session, and whether it was used before. Waits while as many as are allowed, or as the
    /// TEE has room for, are at work.
    fn take(&self) -> Result<(Seat<'_>, Session, bool), KeyError> {
        let mut pool = self.lock();
        loop {
            if let Some(session) = pool.idle.pop() {
                pool.at_work += 1;
                return Ok((Seat(self), session, true));
            }
            if pool.at_work < self.sessions_max {
                pool.at_work += 1;
                let found = pool.ta;
                drop(pool);
                let seat = Seat(self);
                let error = match self.open(found) {
                    Ok(session) => return Ok((seat, session, false)),
                    Err(error) => error,
                };
                pool = self.lock();
                let others = pool.at_work > 1 || !pool.idle.is_empty();
                if matches!(error, KeyError::NoRoom(_)) && others {
                    // Nothing became free: nobody is woken, who would only try the same.
                    std::mem::forget(seat);
                    pool.at_work = pool.at_work.saturating_sub(1);
                } else {
                    // The TA that was found may have been removed, and another one installed.
                    let again = error.is_without_ta() && found.is_some();
                    if again && pool.ta == found {
                        pool.ta = None;
                    }
                    drop(pool);
                    drop(seat);
                    if !again {
                        return Err(error);
                    }
                    pool = self.lock();
                    continue;
                }
                if !pool.idle.is_empty() {
                    continue;
                }
            }
            pool = self
                .returned
                .wait(pool)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A new session with the TA that was named, or `found` before, or is the only one.
    fn open(&self, found: Option<TaUuid>) -> Result<Session, KeyError> {
        let opened = self.ta.or(found).map_or_else(
            || match self.context.info()?.trusted_apps.as_slice() {
                [only] => Ok(only.ta),
                several => {
                    let installed = several.len();
                    Err(KeyError::WhichTa { installed })
                }
            },
            Ok,
        );
        let opened = opened.and_then(|ta| {
            let no_params = &mut Operation::empty();
            let session = self.context.open_session(&ta, self.login, no_params)?;
            if self.ta.is_none() {
                self.lock().ta = Some(ta);
            }
            Ok(session)
        });
        opened.map_err(|error| match error {
            KeyError::Tee(error) if is_limit(&error) => KeyError::NoRoom(error),
            other => other,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True if a session that was idle turned out to be gone: the TEE was started anew, or its TA,
/// since it was last used. A call that timed out is not one of these: it was heard, and may be
/// running.
fn was_gone(error: &Error) -> bool {
    match error {
        Error::Closed | Error::Socket(_) => true,
        Error::Returned { code, .. } | Error::OpTee { code, .. } => {
            *code == codes::TEEC_ERROR_TARGET_DEAD
        }
        _ => false,
    }
}

/// True if the TEE has no room for a session now.
const fn is_limit(error: &Error) -> bool {
    matches!(
        error.code(),
        codes::TEEC_ERROR_BUSY | codes::TEEC_ERROR_OUT_OF_MEMORY
    )
}

/// One command about a label; what it puts out.
fn invoke(
    session: &Session,
    command: u32,
    label: &str,
    input: Parameter,
) -> Result<Vec<u8>, Error> {
    let room = match command {
        command::GET_CERTIFICATE => ROOM_LEN_BYTES,
        _ => KEY_ROOM_LEN_BYTES,
    };
    let mut operation = Operation::new([
        Parameter::memref_input(label),
        input,
        Parameter::memref_output(room),
        Parameter::None,
    ]);
    session.invoke(command, &mut operation)?;
    Ok(operation.memref(2).to_vec())
}

/// One row of LIST. What a newer TA adds behind label and state is passed over.
fn entry(row: cbor::Value) -> Result<KeyEntry, KeyError> {
    let mut fields = cbor::into_array(row, "label", 2, 16)?.into_iter();
    let (Some(label), Some(state)) = (fields.next(), fields.next()) else {
        return Err(KeyError::Answer("not a label and its state"));
    };
    let state = state_of(&state)?;
    let label = cbor::into_text(label, "label", 64)?;
    Ok(KeyEntry { label, state })
}

fn state_of(value: &cbor::Value) -> Result<KeyState, KeyError> {
    Ok(match cbor::uint(value, "state")? {
        1 => KeyState::Requested,
        2 => KeyState::Received,
        3 => KeyState::Installed,
        4 => KeyState::Renewing,
        _ => return Err(KeyError::Answer("an unknown state")),
    })
}

/// The map of STATUS. What a newer TA adds is passed over.
fn status(map: cbor::Value) -> Result<KeyStatus, KeyError> {
    let mut map = MapReader::new(map, "status")?;
    let state = state_of(&map.require(1, "state")?)?;
    let profile = cbor::into_text(map.require(7, "profile")?, "profile", 128)?;
    let certificate = if state.is_usable() {
        let mut number = |label: i64, what| cbor::uint(&map.require(label, what)?, what);
        let (not_before_secs, not_after_secs) = (number(2, "notBefore")?, number(3, "notAfter")?);
        let renew_at_secs = number(4, "renew at")?;
        let serial =
            cbor::into_bytes_sized(map.require(5, "serial")?, "serial", 1, SERIAL_LEN_MAX)?;
        let due = map.require(6, "due")?;
        let due = due.as_bool().ok_or(KeyError::Answer("due is no bool"))?;
        let time = map.take(11).map(|time| cbor::uint(&time, "time"));
        Some(CertificateStatus {
            not_before_secs,
            not_after_secs,
            renew_at_secs,
            due,
            time_secs: time.transpose()?.unwrap_or(0),
            serial,
        })
    } else {
        None
    };
    Ok(KeyStatus {
        state,
        profile,
        certificate,
    })
}

/// DER values one after another.
fn split(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, KeyError> {
    let wrong = |_| KeyError::Answer("not certificates in DER");
    let mut out = Vec::new();
    while !bytes.is_empty() && out.len() < CHAIN_MAX {
        let mut reader = SliceReader::new(bytes).map_err(wrong)?;
        let one = reader.tlv_bytes().map_err(wrong)?;
        AnyRef::try_from(one).map_err(wrong)?;
        out.push(one.to_vec());
        bytes = bytes.get(one.len()..).unwrap_or_default();
    }
    if out.is_empty() || !bytes.is_empty() {
        return Err(KeyError::Answer("no certificate, or too many"));
    }
    Ok(out)
}

/// Numbers of the TA's commands.
mod command {
    pub const GET_CERTIFICATE: u32 = 4;
    pub const SIGN: u32 = 5;
    pub const LIST: u32 = 6;
    pub const DELETE: u32 = 7;
    pub const GET_PUBLIC_KEY: u32 = 8;
    pub const STATUS: u32 = 9;
    pub const AGREE: u32 = 10;
}

/// `GET_CERTIFICATE`: DER of leaf and issuers, one after another.
const FORMAT_DER_OF_ALL: u32 = 2;
/// `GET_PUBLIC_KEY`: of the key that serves now.
const CURRENT_KEY: u32 = 1;
/// `DELETE`: only what is under way.
const DELETE_NEXT: u32 = 1;
/// Longest serial number in bytes, with some room.
const SERIAL_LEN_MAX: usize = 64;
/// Room for the status of a label, in bytes.
const STATUS_ROOM_LEN_BYTES: u32 = 1024;
/// Room for a chain or a list of labels, in bytes.
const ROOM_LEN_BYTES: u32 = 64 * 1024;
/// Room for a public key, a signature or a secret, in bytes.
const KEY_ROOM_LEN_BYTES: u32 = 256;
/// Most labels of one caller that are read.
const LABELS_MAX: usize = 4096;
/// Most certificates of one label.
const CHAIN_MAX: usize = 16;

#[cfg(test)]
mod tests;
