//! The library as one process sees it: tokens and sessions, and every function without its
//! pointers.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cryptoki_sys as ck;
use der::Decode;
use der::asn1::OctetStringRef;
use tegata_client::{Info, TeeAddress};
use zeroize::Zeroizing;

use crate::config::{self, ConfigError};
use crate::key::Key;
use crate::object::{Object, Role, Template};
use crate::operation::{Intake, KeyUse, MECHANISMS, Mechanism, Parameter};
use crate::rv::{Result, rv};
use crate::session::{Session, Work};
use crate::token::{Token, fresh_handle};

/// The library in one process. A child after a fork has another one, or none.
pub(crate) struct Module {
    /// The process that made it.
    pub pid: u32,
    state: Mutex<Option<State>>,
}

/// Between `C_Initialize` and `C_Finalize`. Its lock is held for moments, never over a call to the
/// TEE and never while another one is waited for.
struct State {
    tokens: Vec<Arc<Token>>,
    sessions: HashMap<ck::CK_SESSION_HANDLE, Arc<Session>>,
}

/// How much room the caller has for a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// It asks for the length only.
    Query,
    /// So many bytes.
    Bytes(usize),
}

/// A result for a caller with some room.
pub(crate) enum Output {
    /// Asked for: its length, in bytes; exact or more.
    Length(usize),
    /// Too little room: what is needed, in bytes.
    TooSmall(usize),
    /// The result.
    Bytes(Zeroizing<Vec<u8>>),
}

impl Room {
    /// Whether a result of `len` bytes can be given.
    const fn short_of(self, len: usize) -> Option<Output> {
        match self {
            Self::Query => Some(Output::Length(len)),
            Self::Bytes(room) if room < len => Some(Output::TooSmall(len)),
            Self::Bytes(_) => None,
        }
    }
}

/// Signing and verifying take the same way in.
#[derive(Clone, Copy)]
pub(crate) enum Doing {
    Sign,
    Verify,
}

impl Module {
    pub(crate) const fn new(pid: u32) -> Self {
        Self {
            pid,
            state: Mutex::new(None),
        }
    }

    /// `C_Initialize`, after its arguments. `threads`: whether the library may make some.
    pub(crate) fn initialize(
        &self,
        env: impl Fn(&str) -> Option<String>,
        threads: bool,
    ) -> Result<()> {
        let mut state = self.lock();
        if state.is_some() {
            return Err(rv!(CKR_CRYPTOKI_ALREADY_INITIALIZED));
        }
        let configs = config::load(env).map_err(|error: ConfigError| {
            // The caller learns a number only; whoever set it up wants to know what is wrong.
            // Not `eprintln!`, which panics in a program whose standard error is broken.
            let _ = writeln!(std::io::stderr(), "tegata-pkcs11: {error}");
            rv!(CKR_GENERAL_ERROR)
        })?;
        // A call into OP-TEE is watched by a thread, which ends it in time.
        if !threads && configs.iter().any(|token| token.tee == TeeAddress::OpTee) {
            return Err(rv!(CKR_NEED_TO_CREATE_THREADS));
        }
        let tokens = configs
            .into_iter()
            .zip(0..)
            .map(|(config, slot)| Arc::new(Token::new(slot, config)))
            .collect();
        *state = Some(State {
            tokens,
            sessions: HashMap::new(),
        });
        Ok(())
    }

    /// `C_Finalize`: every session, every secret and every connection ends.
    pub(crate) fn finalize(&self) -> Result<()> {
        let state = self.lock().take();
        // Dropped outside of the lock: it speaks to the TEE.
        state.map(drop).ok_or(rv!(CKR_CRYPTOKI_NOT_INITIALIZED))
    }

    /// In the child after a fork: lets go of the parent's connections.
    pub(crate) fn abandon(&self) {
        if let Ok(state) = self.state.try_lock() {
            for token in state.iter().flat_map(|state| &state.tokens) {
                token.keys.abandon();
            }
        }
    }

    /// Fails unless it is initialised.
    pub(crate) fn ready(&self) -> Result<()> {
        self.with(|_| Ok(()))
    }

    /// Numbers of the slots; with `present`, of those whose TEE answers.
    pub(crate) fn slots(&self, present: bool) -> Result<Vec<ck::CK_SLOT_ID>> {
        let tokens = self.with(|state| Ok(state.tokens.clone()))?;
        Ok(tokens
            .iter()
            .filter(|token| !present || token.info().is_ok())
            .map(|token| token.slot)
            .collect())
    }

    pub(crate) fn token(&self, slot: ck::CK_SLOT_ID) -> Result<Arc<Token>> {
        self.with(|state| {
            let found = state.tokens.iter().find(|token| token.slot == slot);
            found.cloned().ok_or(rv!(CKR_SLOT_ID_INVALID))
        })
    }

    /// The TEE of a slot, if it answers; and how many sessions there are, and with `CKF_RW_SESSION`.
    pub(crate) fn token_info(
        &self,
        slot: ck::CK_SLOT_ID,
    ) -> Result<(Arc<Token>, Info, [usize; 2])> {
        let token = self.token(slot)?;
        let info = token.info()?;
        let sessions = self.with(|state| Ok(state.of_slot(slot)))?;
        let writers = sessions.iter().filter(|(_, session)| session.read_write);
        let counts = [sessions.len(), writers.count()];
        Ok((token, info, counts))
    }

    /// `C_OpenSession`.
    pub(crate) fn open_session(
        &self,
        slot: ck::CK_SLOT_ID,
        flags: ck::CK_FLAGS,
    ) -> Result<ck::CK_SESSION_HANDLE> {
        let token = self.token(slot)?;
        if flags & ck::CKF_SERIAL_SESSION == 0 {
            return Err(rv!(CKR_SESSION_PARALLEL_NOT_SUPPORTED));
        }
        token.info()?;
        self.with(|state| {
            if state.sessions.len() >= SESSIONS_MAX {
                return Err(rv!(CKR_SESSION_COUNT));
            }
            let handle = fresh_handle();
            let session = Session::new(token, flags & ck::CKF_RW_SESSION != 0);
            state.sessions.insert(handle, Arc::new(session));
            Ok(handle)
        })
    }

    /// `C_CloseSession`.
    pub(crate) fn close_session(&self, handle: ck::CK_SESSION_HANDLE) -> Result<()> {
        let (token, last) = self.with(|state| {
            let session = state.sessions.remove(&handle);
            let session = session.ok_or(rv!(CKR_SESSION_HANDLE_INVALID))?;
            let token = Arc::clone(&session.token);
            let last = state.of_slot(token.slot).is_empty();
            if last {
                // Before another thread can open a session and log in.
                token.logged_in.store(false, Ordering::Relaxed);
            }
            Ok((token, last))
        })?;
        token.session_closed(handle);
        if last {
            token.idle();
        }
        Ok(())
    }

    /// `C_CloseAllSessions`.
    pub(crate) fn close_all(&self, slot: ck::CK_SLOT_ID) -> Result<()> {
        let token = self.token(slot)?;
        let closed = self.with(|state| {
            let handles = state.of_slot(slot).into_iter().map(|(handle, _)| handle);
            let handles: Vec<_> = handles.collect();
            for handle in &handles {
                state.sessions.remove(handle);
            }
            token.logged_in.store(false, Ordering::Relaxed);
            Ok(handles)
        })?;
        for handle in closed {
            token.session_closed(handle);
        }
        token.idle();
        Ok(())
    }

    /// The session of a handle.
    pub(crate) fn session(&self, handle: ck::CK_SESSION_HANDLE) -> Result<Arc<Session>> {
        self.with(|state| state.session(handle).cloned())
    }

    /// The token of a session.
    pub(crate) fn token_of(&self, handle: ck::CK_SESSION_HANDLE) -> Result<Arc<Token>> {
        Ok(Arc::clone(&self.session(handle)?.token))
    }

    /// An object, as a session sees it.
    pub(crate) fn object(
        &self,
        session: ck::CK_SESSION_HANDLE,
        handle: ck::CK_OBJECT_HANDLE,
    ) -> Result<Arc<Object>> {
        self.token_of(session)?.object(handle)
    }

    /// `C_Login`: there is nothing to prove. The kernel has told the TEE already who this is.
    pub(crate) fn login(
        &self,
        handle: ck::CK_SESSION_HANDLE,
        user: ck::CK_USER_TYPE,
    ) -> Result<()> {
        self.with(|state| {
            let token = &state.session(handle)?.token;
            match user {
                ck::CKU_USER => {}
                ck::CKU_CONTEXT_SPECIFIC => return Err(rv!(CKR_OPERATION_NOT_INITIALIZED)),
                _ => return Err(rv!(CKR_USER_TYPE_INVALID)),
            }
            if token.logged_in.swap(true, Ordering::Relaxed) {
                return Err(rv!(CKR_USER_ALREADY_LOGGED_IN));
            }
            Ok(())
        })
    }

    /// `C_Logout`.
    pub(crate) fn logout(&self, handle: ck::CK_SESSION_HANDLE) -> Result<()> {
        self.with(|state| {
            let token = &state.session(handle)?.token;
            if token.logged_in.swap(false, Ordering::Relaxed) {
                Ok(())
            } else {
                Err(rv!(CKR_USER_NOT_LOGGED_IN))
            }
        })
    }

    /// `C_FindObjectsInit`.
    pub(crate) fn find_begin(
        &self,
        handle: ck::CK_SESSION_HANDLE,
        template: &Template,
    ) -> Result<()> {
        let session = self.session(handle)?;
        let mut work = session.work();
        if work.found.is_some() {
            return Err(rv!(CKR_OPERATION_ACTIVE));
        }
        work.found = Some(session.token.find(handle, template)?.into());
        Ok(())
    }

    /// `C_FindObjects`: at most `max` handles.
    pub(crate) fn find_more(
        &self,
        handle: ck::CK_SESSION_HANDLE,
        max: usize,
    ) -> Result<Vec<ck::CK_OBJECT_HANDLE>> {
        let session = self.session(handle)?;
        let mut work = session.work();
        let found = work.found.as_mut();
        let found = found.ok_or(rv!(CKR_OPERATION_NOT_INITIALIZED))?;
        let count = found.len().min(max);
        Ok(found.drain(..count).collect())
    }

    /// `C_FindObjectsFinal`.
    pub(crate) fn find_end(&self, handle: ck::CK_SESSION_HANDLE) -> Result<()> {
        let found = self.session(handle)?.work().found.take();
        found.map(drop).ok_or(rv!(CKR_OPERATION_NOT_INITIALIZED))
    }

    /// `C_DigestInit`; without a mechanism what is under way ends.
    pub(crate) fn digest_begin(
        &self,
        handle: ck::CK_SESSION_HANDLE,
        mechanism: Option<&Mechanism>,
    ) -> Result<()> {
        let session = self.session(handle)?;
        let mut work = session.work();
        let Some(mechanism) = mechanism else {
            work.digest = None;
            return Ok(());
        };
        if work.digest.is_some() {
            return Err(rv!(CKR_OPERATION_ACTIVE));
        }
        work.digest = Some((Intake::digest(mechanism)?, false));
        Ok(())
    }

    /// `C_DigestUpdate`.
    pub(crate) fn digest_update(&self, handle: ck::CK_SESSION_HANDLE, data: &[u8]) -> Result<()> {
        let session = self.session(handle)?;
        let mut work = session.work();
        let digest = work.digest.as_mut();
        let (intake, in_parts) = digest.ok_or(rv!(CKR_OPERATION_NOT_INITIALIZED))?;
        *in_parts = true;
        intake.update(data)
    }

    /// `C_Digest` with data, `C_DigestFinal` without.
    pub(crate) fn digest_end(
        &self,
        handle: ck::CK_SESSION_HANDLE,
        data: Option<&[u8]>,
        room: Room,
    ) -> Result<Output> {
        let session = self.session(handle)?;
        let mut work = session.work();
        let digest = work.digest.take();
        let (mut intake, in_parts) = digest.ok_or(rv!(CKR_OPERATION_NOT_INITIALIZED))?;
        if data.is_some() && in_parts {
            return Err(rv!(CKR_FUNCTION_FAILED));
        }
        if let Some(short) = room.short_of(intake.len()) {
            work.digest = Some((intake, in_parts));
            return Ok(short);
        }
        intake.update(data.unwrap_or_default())?;
        Ok(Output::Bytes(intake.finish()))
    }

    /// `C_SignInit`, `C_VerifyInit`; without a mechanism what is under way ends.
    pub(crate) fn key_begin(
        &self,
        doing: Doing,
        handle: ck::CK_SESSION_HANDLE,
        mechanism: Option<&Mechanism>,
        key: ck::CK_OBJECT_HANDLE,
    ) -> Result<()> {
        let session = self.session(handle)?;
        let mut work = session.work();
        let Some(mechanism) = mechanism else {
            *work.under_way(doing) = None;
            return Ok(());
        };
        if work.under_way(doing).is_some() {
            return Err(rv!(CKR_OPERATION_ACTIVE));
        }
        let flag = match doing {
            Doing::Sign => ck::CKF_SIGN,
            Doing::Verify => ck::CKF_VERIFY,
        };
        mechanism.can(flag)?;
        let object = session.token.object(key);
        let object = object.map_err(|_| rv!(CKR_KEY_HANDLE_INVALID))?;
        let key = match (doing, &object.role) {
            (Doing::Sign, Role::Private(key)) | (Doing::Verify, Role::Public(key)) => key,
            // The other half cannot do this; a secret is of another type.
            (_, Role::Private(_) | Role::Public(_)) => {
                return Err(rv!(CKR_KEY_FUNCTION_NOT_PERMITTED));
            }
            (_, Role::Secret { .. }) => return Err(rv!(CKR_KEY_TYPE_INCONSISTENT)),
            (_, Role::Certificate) => return Err(rv!(CKR_KEY_HANDLE_INVALID)),
        };
        *work.under_way(doing) = Some(KeyUse::begin(key, mechanism)?);
        Ok(())
    }

    /// `C_SignUpdate`, `C_VerifyUpdate`.
    pub(crate) fn key_update(
        &self,
        doing: Doing,
        handle: ck::CK_SESSION_HANDLE,
        data: &[u8],
    ) -> Result<()> {
        let session = self.session(handle)?;
        let mut work = session.work();
        let slot = work.under_way(doing);
        let under_way = slot.as_mut().ok_or(rv!(CKR_OPERATION_NOT_INITIALIZED))?;
        under_way.in_parts = true;
        // An error ends the operation.
        under_way.update(data).inspect_err(|_| *slot = None)
    }

    /// `C_Sign` with data, `C_SignFinal` without.
    pub(crate) fn sign_end(
        &self,
        handle: ck::CK_SESSION_HANDLE,
        data: Option<&[u8]>,
        room: Room,
    ) -> Result<Output> {
        let session = self.session(handle)?;
        let mut work = session.work();
        let mut under_way = work.take(Doing::Sign, data.is_some())?;
        if let Some(short) = room.short_of(under_way.key.kind.signature_len()) {
            work.sign = Some(under_way);
            return Ok(short);
        }
        under_way.update(data.unwrap_or_default())?;
        let (key, input) = under_way.finish()?;
        let token = &session.token;
        let signature = token.keys.sign(&key.label, &input);
        let signature = signature.map_err(|error| token.refused(error))?;
        // The label may have been renewed: its new key does not sign in the old one's place. To
        // check here costs less than to ask the TEE, and finds a faulty signature too.
        if key.verify(&input, &signature).is_err() {
            token.look_again();
            return Err(rv!(CKR_FUNCTION_REJECTED));
        }
        Ok(Output::Bytes(Zeroizing::new(signature)))
    }

    /// `C_Verify` with data, `C_VerifyFinal` without.
    pub(crate) fn verify_end(
        &self,
        handle: ck::CK_SESSION_HANDLE,
        data: Option<&[u8]>,
        signature: &[u8],
    ) -> Result<()> {
        let session = self.session(handle)?;
        let mut under_way = session.work().take(Doing::Verify, data.is_some())?;
        under_way.update(data.unwrap_or_default())?;
        let (key, input) = under_way.finish()?;
        key.verify(&input, signature)
    }

    /// `C_DeriveKey`.
    pub(crate) fn derive(
        &self,
        handle: ck::CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        base: ck::CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<ck::CK_OBJECT_HANDLE> {
        let token = self.token_of(handle)?;
        mechanism.can(ck::CKF_DERIVE)?;
        let object = token.object(base);
        let object = object.map_err(|_| rv!(CKR_KEY_HANDLE_INVALID))?;
        let Role::Private(key) = &object.role else {
            return Err(rv!(CKR_KEY_TYPE_INCONSISTENT));
        };
        let Parameter::Ecdh {
            kdf: ck::CKD_NULL,
            shared_data: false,
            public,
        } = &mechanism.parameter
        else {
            return Err(rv!(CKR_MECHANISM_PARAM_INVALID));
        };
        if !key.derives {
            return Err(rv!(CKR_KEY_FUNCTION_NOT_PERMITTED));
        }
        let peer = peer_point(key, public).ok_or(rv!(CKR_MECHANISM_PARAM_INVALID))?;
        // What is wrong with the template is said before the key is used.
        let field = Zeroizing::new(vec![0; key.kind.field_len()]);
        Object::secret(handle, field, template, &[])?;
        let shared = token.keys.ecdh(&key.label, &key.spki_der, peer);
        let shared = shared.map_err(|error| match token.refused(error) {
            rv!(CKR_DATA_INVALID) => rv!(CKR_MECHANISM_PARAM_INVALID),
            other => other,
        })?;
        let shared = Zeroizing::new(shared);
        if shared.len() != key.kind.field_len() {
            return Err(rv!(CKR_DEVICE_ERROR));
        }
        let unique = fresh_handle().to_ne_bytes();
        token.adopt(Object::secret(handle, shared, template, &unique)?)
    }

    /// `C_SessionCancel`. Spec: PKCS #11 3.1 section 5.6.10.
    pub(crate) fn cancel(&self, handle: ck::CK_SESSION_HANDLE, flags: ck::CK_FLAGS) -> Result<()> {
        let session = self.session(handle)?;
        let mut work = session.work();
        if flags & ck::CKF_FIND_OBJECTS != 0 {
            work.found = None;
        }
        if flags & ck::CKF_DIGEST != 0 {
            work.digest = None;
        }
        if flags & ck::CKF_SIGN != 0 {
            work.sign = None;
        }
        if flags & ck::CKF_VERIFY != 0 {
            work.verify = None;
        }
        Ok(())
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.lock();
        work(state.as_mut().ok_or(rv!(CKR_CRYPTOKI_NOT_INITIALIZED))?)
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn session(&self, handle: ck::CK_SESSION_HANDLE) -> Result<&Arc<Session>> {
        let found = self.sessions.get(&handle);
        found.ok_or(rv!(CKR_SESSION_HANDLE_INVALID))
    }

    fn of_slot(&self, slot: ck::CK_SLOT_ID) -> Vec<(ck::CK_SESSION_HANDLE, Arc<Session>)> {
        self.sessions
            .iter()
            .filter(|(_, session)| session.token.slot == slot)
            .map(|(handle, session)| (*handle, Arc::clone(session)))
            .collect()
    }
}

impl Work {
    fn under_way(&mut self, doing: Doing) -> &mut Option<KeyUse> {
        match doing {
            Doing::Sign => &mut self.sign,
            Doing::Verify => &mut self.verify,
        }
    }

    /// Takes the operation to end it; `at_once` if all of the data comes now.
    fn take(&mut self, doing: Doing, at_once: bool) -> Result<KeyUse> {
        let taken = self.under_way(doing).take();
        let taken = taken.ok_or(rv!(CKR_OPERATION_NOT_INITIALIZED))?;
        if at_once && taken.in_parts {
            return Err(rv!(CKR_FUNCTION_FAILED));
        }
        Ok(taken)
    }
}

impl Mechanism {
    /// Fails if the mechanism cannot be used for this.
    fn can(&self, flag: ck::CK_FLAGS) -> Result<()> {
        MECHANISMS
            .iter()
            .any(|(kind, info)| *kind == self.kind && info.flags & flag != 0)
            .then_some(())
            .ok_or(rv!(CKR_MECHANISM_INVALID))
    }
}

/// The peer's point, plain or in an OCTET STRING: both are allowed. Spec: PKCS #11 3.1 6.3.17.
fn peer_point<'a>(key: &Key, public: &'a [u8]) -> Option<&'a [u8]> {
    if key.kind.is_point(public) {
        return Some(public);
    }
    let inner = <&OctetStringRef>::from_der(public).ok()?.as_bytes();
    key.kind.is_point(inner).then_some(inner)
}

/// Most sessions of one process.
pub(crate) const SESSIONS_MAX: usize = 1024;
