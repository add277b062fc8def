//! A token: one TEE as one identity of the caller, and the objects that were last read from it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cryptoki_sys as ck;
use tegata_client::keys::{KeyError, Keys};
use tegata_client::{Context, Info, Timeouts, codes};
use tegata_wire::x509::{AttributeSpec, CertView};

use crate::config::TokenConfig;
use crate::key::Key;
use crate::object::{Object, Role, Template};
use crate::rv::{Result, Rv, rv};

/// A token.
pub(crate) struct Token {
    /// Number of its slot.
    pub slot: ck::CK_SLOT_ID,
    pub config: TokenConfig,
    pub keys: Keys,
    /// `C_Login` was called. It changes nothing but what `C_GetSessionInfo` says.
    pub logged_in: AtomicBool,
    /// Held while the objects are read, so that threads that search at once read once. Whoever
    /// only uses a handle does not wait for it.
    reading: Mutex<()>,
    /// Held for moments.
    objects: Mutex<Objects>,
}

/// Objects by handle.
#[derive(Default)]
struct Objects {
    by_handle: HashMap<ck::CK_OBJECT_HANDLE, Arc<Object>>,
    /// Handles of what was there at the last reading, in order.
    present: Vec<ck::CK_OBJECT_HANDLE>,
    /// What was there once: the same object gets the same handle again.
    handles: HashMap<[u8; 32], ck::CK_OBJECT_HANDLE>,
    /// When they were read; `None` if they are to be read again.
    read: Option<Instant>,
    /// How often that was said: a reading that began before does not count.
    outdated: u64,
}

/// Handles are never used twice in a process.
static NEXT_HANDLE: AtomicU64 = AtomicU64::new(1);

/// A number that no session and no object of this process has.
pub(crate) fn fresh_handle() -> ck::CK_ULONG {
    crate::rv::ulong(NEXT_HANDLE.fetch_add(1, Ordering::Relaxed))
}

impl Token {
    pub(crate) fn new(slot: ck::CK_SLOT_ID, config: TokenConfig) -> Self {
        let context = Context::at(config.tee.clone()).with_timeouts(Timeouts {
            control: CONTROL_TIMEOUT,
            ..Timeouts::default()
        });
        Self {
            slot,
            keys: Keys::new(context, config.ta, config.login, config.sessions),
            config,
            logged_in: AtomicBool::new(false),
            reading: Mutex::default(),
            objects: Mutex::default(),
        }
    }

    /// What the TEE says of itself.
    ///
    /// # Errors
    /// `CKR_TOKEN_NOT_PRESENT` if it does not answer.
    pub(crate) fn info(&self) -> Result<Info> {
        self.keys
            .context()
            .info()
            .map_err(|_| rv!(CKR_TOKEN_NOT_PRESENT))
    }

    /// Handles of the objects that match, read from the TEE now.
    pub(crate) fn find(
        &self,
        session: ck::CK_SESSION_HANDLE,
        template: &Template,
    ) -> Result<Vec<ck::CK_OBJECT_HANDLE>> {
        // Only one's own secrets are asked for: the TEE has none of them.
        let secrets_only = template.iter().any(|(kind, value)| {
            *kind == ck::CKA_CLASS && value.as_slice() == ck::CKO_SECRET_KEY.to_ne_bytes()
        });
        if !secrets_only {
            self.refresh()?;
        }
        let objects = self.lock();
        let mine = objects.by_handle.iter().filter_map(|(handle, object)| {
            matches!(object.role, Role::Secret { session: owner } if owner == session)
                .then_some(handle)
        });
        let mut found: Vec<_> = objects.present.iter().chain(mine).copied().collect();
        found.retain(|handle| {
            let object = objects.by_handle.get(handle);
            object.is_some_and(|object| object.matches(template))
        });
        Ok(found)
    }

    /// The object of a handle.
    ///
    /// # Errors
    /// `CKR_OBJECT_HANDLE_INVALID`.
    pub(crate) fn object(&self, handle: ck::CK_OBJECT_HANDLE) -> Result<Arc<Object>> {
        let objects = self.lock();
        let found = objects.by_handle.get(&handle).cloned();
        found.ok_or(rv!(CKR_OBJECT_HANDLE_INVALID))
    }

    /// Takes up a secret of a session.
    pub(crate) fn adopt(&self, object: Object) -> Result<ck::CK_OBJECT_HANDLE> {
        let mut objects = self.lock();
        let secrets = objects
            .by_handle
            .values()
            .filter(|object| matches!(object.role, Role::Secret { .. }))
            .count();
        if secrets >= SECRETS_MAX {
            return Err(rv!(CKR_DEVICE_MEMORY));
        }
        let handle = fresh_handle();
        objects.by_handle.insert(handle, Arc::new(object));
        Ok(handle)
    }

    /// Destroys a secret of this session, or of any.
    pub(crate) fn destroy(&self, handle: ck::CK_OBJECT_HANDLE) -> Result<()> {
        let mut objects = self.lock();
        match objects.by_handle.get(&handle).map(|object| &object.role) {
            Some(Role::Secret { .. }) => {
                objects.by_handle.remove(&handle);
                Ok(())
            }
            Some(_) => Err(rv!(CKR_ACTION_PROHIBITED)),
            None => Err(rv!(CKR_OBJECT_HANDLE_INVALID)),
        }
    }

    /// A session ended: its secrets end with it.
    pub(crate) fn session_closed(&self, session: ck::CK_SESSION_HANDLE) {
        self.lock().by_handle.retain(
            |_, object| !matches!(object.role, Role::Secret { session: owner } if owner == session),
        );
    }

    /// Nobody has a session: neither connection nor process is held in the TEE.
    pub(crate) fn idle(&self) {
        self.keys.release();
        self.look_again();
    }

    /// The TEE did not use a key that a program has a handle of. It may have gone or been renewed:
    /// who looks for the new one finds it at once.
    pub(crate) fn refused(&self, error: KeyError) -> Rv {
        self.look_again();
        error.into()
    }

    /// The next search reads from the TEE, however short ago that was done.
    pub(crate) fn look_again(&self) {
        let mut objects = self.lock();
        objects.read = None;
        objects.outdated = objects.outdated.wrapping_add(1);
    }

    /// Reads the objects again, unless that was done a moment ago: programs look for many things
    /// in a row.
    fn refresh(&self) -> Result<()> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let outdated = {
            let objects = self.lock();
            if objects.read.is_some_and(|read| read.elapsed() < FRESH) {
                return Ok(());
            }
            objects.outdated
        };
        let now = Instant::now();
        let read = read(&self.keys)?;
        let mut objects = self.lock();
        let mut present = Vec::with_capacity(read.len());
        for object in read {
            let known = objects.handles.get(&object.identity).copied();
            let handle = known.unwrap_or_else(fresh_handle);
            objects.handles.insert(object.identity, handle);
            objects
                .by_handle
                .entry(handle)
                .or_insert_with(|| Arc::new(object));
            if !present.contains(&handle) {
                present.push(handle);
            }
        }
        objects.present = present;
        objects.read = (objects.outdated == outdated).then_some(now);
        objects.forget();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Objects {
    /// What is not there any more keeps its handle, for programs that use it: they see the old
    /// certificate as it was, and the TEE decides about its key. When there are too many, the
    /// oldest go.
    fn forget(&mut self) {
        let mut gone: Vec<_> = self
            .by_handle
            .iter()
            .filter(|(handle, object)| {
                !matches!(object.role, Role::Secret { .. }) && !self.present.contains(handle)
            })
            .map(|(handle, object)| (*handle, object.identity))
            .collect();
        let surplus = gone.len().saturating_sub(GONE_MAX);
        gone.sort_unstable();
        for (handle, identity) in gone.into_iter().take(surplus) {
            self.by_handle.remove(&handle);
            self.handles.remove(&identity);
        }
    }
}

/// Everything that this caller has: for each label certificate, public and private key, then the
/// certificates of the issuers, each once.
fn read(keys: &Keys) -> Result<Vec<Object>> {
    let labels = match keys.list() {
        Ok(labels) => labels,
        // A device whose enrolment TA is not installed yet has no keys.
        Err(error) if error.is_without_ta() => return Ok(Vec::new()),
        Err(error) => return Err(absent(error)),
    };
    let mut objects = Vec::new();
    let mut issuers: Vec<Vec<u8>> = Vec::new();
    for entry in labels.iter().filter(|entry| entry.state.is_usable()) {
        let chain = match keys.certificates(&entry.label) {
            Ok(chain) => chain,
            // Deleted since it was listed, alone or with its TA.
            Err(KeyError::NoKey { .. }) => continue,
            Err(error) if error.is_without_ta() => continue,
            Err(error) => return Err(absent(error)),
        };
        let Some((leaf, rest)) = chain.split_first() else {
            continue;
        };
        // What this library does not understand is passed over; the rest stays usable.
        let Ok(cert) = CertView::from_der(leaf) else {
            continue;
        };
        objects.push(Object::certificate(&entry.label, &cert, true)?);
        if let Some(key) = Key::of(&entry.label, &cert).map(Arc::new) {
            objects.push(Object::public(&key, cert.subject_der)?);
            objects.push(Object::private(&key, cert.subject_der)?);
        }
        for issuer in rest {
            if !issuers.contains(issuer) {
                issuers.push(issuer.clone());
            }
        }
    }
    for issuer in &issuers {
        if let Ok(cert) = CertView::from_der(issuer) {
            objects.push(Object::certificate(&issuer_label(&cert), &cert, false)?);
        }
    }
    Ok(objects)
}

/// The common name of a CA.
fn issuer_label(cert: &CertView<'_>) -> String {
    let subject = cert.subject().ok();
    let common = AttributeSpec::by_name("CN");
    subject
        .and_then(|name| common.and_then(|spec| name.text(&spec.oid)))
        .unwrap_or_else(|| "CA".into())
}

/// The TEE does not answer: the token was taken out.
fn absent(error: KeyError) -> Rv {
    match &error {
        KeyError::Tee(tee) if tee.code() == codes::TEEC_ERROR_COMMUNICATION => {
            rv!(CKR_DEVICE_REMOVED)
        }
        _ => error.into(),
    }
}

/// How long what was read is taken for fresh. A renewal is seen after at most this time.
const FRESH: Duration = Duration::from_millis(100);
/// Time for the TEE to answer whether it is there.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);
/// Most secrets of a process that were derived and not destroyed.
const SECRETS_MAX: usize = 1024;
/// Most objects that are kept for their handles after they went.
const GONE_MAX: usize = 256;
