//! A device with TAs installed, for tests: the real session manager, Wasm host and storage over a
//! platform in memory. Only the installation is short-cut.
#![allow(dead_code)] // Each test file uses its part.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // A test's helpers.

pub mod ca;
pub mod raw;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{Provider, PublicKey};
use tegata_tee::gp::consts::*;
use tegata_tee::gp::host::{ComponentKind, HostError, PersistentTime, TaReply, TeeInfo};
use tegata_tee::gp::params::{Param, ParamOut, Params};
use tegata_tee::platform::Platform as _;
use tegata_tee::position::Position;
use tegata_tee::session::{
    CallControl, Caller, ClientIdentity, InProcess, Launcher, LoadedTa, SessionLimits,
    SessionManager, SharedTee, TeeAccess,
};
use tegata_tee::storage::TaId;
use tegata_tee::testing::TestPlatform;
use tegata_tee::{Tee, TrustAnchors};
use tegata_wire::enrolment::{KeyKind, PersonalizationData};
use tegata_wire::ids::{Digest, ReleaseDigest, SignerId, TaUuid, Ueid};
use zeroize::Zeroizing;

/// A user.
pub const ALICE: fn() -> Caller = || Caller {
    owner: 1,
    client: ClientIdentity::user(1000),
};
/// Another user.
pub const BOB: fn() -> Caller = || Caller {
    owner: 2,
    client: ClientIdentity::user(1001),
};

/// Something that says who calls.
pub trait Who {
    fn caller(&self) -> Caller;
}
impl Who for Caller {
    fn caller(&self) -> Caller {
        *self
    }
}
impl<F: Fn() -> Caller> Who for F {
    fn caller(&self) -> Caller {
        self()
    }
}

type Lock = spin_lock::Lock;

mod spin_lock {
    use tegata_tee::Tee;
    use tegata_tee::session::Exclusive;
    use tegata_tee::testing::TestPlatform;

    /// The TEE behind the standard library's lock, as a backend would keep it.
    pub struct Lock(pub std::sync::Mutex<Tee<TestPlatform>>);

    impl Exclusive<Tee<TestPlatform>> for Lock {
        fn with<R>(&self, work: impl FnOnce(&mut Tee<TestPlatform>) -> R) -> R {
            work(&mut self.0.lock().unwrap())
        }
    }
}

/// A TA as if it were installed.
#[derive(Clone)]
pub struct Installed {
    pub id: TaId,
    pub module: Arc<Vec<u8>>,
    pub procedure: Option<Vec<u8>>,
    pub config: Option<Vec<u8>>,
}

/// Something that happens once, at a place that a test chose.
pub type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// What a test lets happen inside the TEE while a TA's call is under way.
#[derive(Default)]
pub struct Hooks {
    /// Before the next object is written; the handle on it is taken already.
    pub before_write: Hook,
    /// Before the next object is read; likewise.
    pub before_read: Hook,
    /// Times that a TA paused.
    pub pauses: AtomicU64,
    /// Pauses take real time too, for tests with threads.
    pub slow: AtomicBool,
}

impl Hooks {
    fn run(hook: &Hook) {
        let hook = hook.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
    }

    /// Returns once a TA has paused some times, or after a second without.
    pub fn await_pauses(&self) {
        for _ in 0..1000 {
            if self.pauses.load(Ordering::Relaxed) > 3 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// The TEE of the device, with installations from a map.
pub struct Access {
    inner: SharedTee<TestPlatform, Lock>,
    hooks: Arc<Hooks>,
    tas: Arc<Mutex<BTreeMap<TaUuid, Installed>>>,
}

impl TeeAccess for Access {
    fn load(&self, uuid: &TaUuid) -> Result<Option<LoadedTa>, HostError> {
        let found = self.tas.lock().unwrap().get(uuid).cloned();
        Ok(found.map(|ta| LoadedTa {
            id: ta.id,
            measurement: Digest(RustCrypto.sha256(&ta.module)),
            module: ta.module,
        }))
    }
    fn installed(&self, uuid: &TaUuid) -> Result<Option<(TaId, Digest)>, HostError> {
        Ok(self.load(uuid)?.map(|ta| (ta.id, ta.measurement)))
    }
    fn component(
        &self,
        ta: &TaId,
        kind: ComponentKind,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, HostError> {
        let tas = self.tas.lock().unwrap();
        let found = tas.get(&ta.uuid).ok_or(HostError::ItemNotFound)?;
        Ok(match kind {
            ComponentKind::Procedure => found.procedure.clone(),
            _ => found.config.clone(),
        }
        .map(Zeroizing::new))
    }
    fn info(&self) -> Result<TeeInfo, HostError> {
        self.inner.info()
    }
    fn random(&self, out: &mut [u8]) -> Result<(), HostError> {
        self.inner.random(out)
    }
    fn system_time_ms(&self) -> u64 {
        self.inner.system_time_ms()
    }
    fn ree_time_ms(&self) -> u64 {
        self.inner.ree_time_ms()
    }
    fn position(&self) -> Result<Position, HostError> {
        self.inner.position()
    }
    fn idle(&self, ms: u32) {
        self.inner.idle(ms);
    }
    fn object_read(&self, ta: &TaId, id: &[u8]) -> Result<Zeroizing<Vec<u8>>, HostError> {
        Hooks::run(&self.hooks.before_read);
        self.inner.object_read(ta, id)
    }
    fn object_create(&self, ta: &TaId, id: &[u8], c: &[u8], r: bool) -> Result<(), HostError> {
        Hooks::run(&self.hooks.before_write);
        self.inner.object_create(ta, id, c, r)
    }
    fn object_write(&self, ta: &TaId, id: &[u8], content: &[u8]) -> Result<(), HostError> {
        Hooks::run(&self.hooks.before_write);
        self.inner.object_write(ta, id, content)
    }
    fn object_rename(&self, ta: &TaId, from: &[u8], to: &[u8]) -> Result<(), HostError> {
        self.inner.object_rename(ta, from, to)
    }
    fn object_delete(&self, ta: &TaId, id: &[u8]) -> Result<(), HostError> {
        self.inner.object_delete(ta, id)
    }
    fn object_list(&self, ta: &TaId) -> Result<Vec<Vec<u8>>, HostError> {
        self.inner.object_list(ta)
    }
    fn clock(&self, ta: &TaId) -> Result<Option<PersistentTime>, HostError> {
        self.inner.clock(ta)
    }
    fn set_clock(&self, ta: &TaId, time: PersistentTime) -> Result<(), HostError> {
        self.inner.set_clock(ta, time)
    }
    fn ta_unique_key(&self, ta: &TaId, context: &[u8]) -> Result<Zeroizing<[u8; 32]>, HostError> {
        self.inner.ta_unique_key(ta, context)
    }
    fn evidence(&self, nonce: &[u8]) -> Result<Vec<u8>, HostError> {
        self.inner.evidence(nonce)
    }
    fn log(&self, ta: &TaId, line: &str) {
        self.inner.log(ta, line);
    }
}

/// A device.
pub struct Device {
    pub platform: TestPlatform,
    pub manager: SessionManager,
    pub log: Arc<Mutex<Vec<String>>>,
    pub hooks: Arc<Hooks>,
    tas: Arc<Mutex<BTreeMap<TaUuid, Installed>>>,
    uuid: TaUuid,
}

/// The enrolment TA: a rebuilt one if the environment names it, else the one in the tree.
pub fn enrol_module() -> Vec<u8> {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tas/enrol/enrol.wasm");
    let path = std::env::var("TEGATA_ENROL_WASM").unwrap_or_else(|_| own.to_string());
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl Device {
    /// Device number `seed` with the enrolment TA of `ca`.
    pub fn new(seed: u8, ca: &ca::Ca) -> Self {
        Self::with_config_of(seed, seed, ca)
    }

    /// Device `seed` that was given the personalization data of device `other`.
    pub fn with_config_of(seed: u8, other: u8, ca: &ca::Ca) -> Self {
        let ueid = Ueid::from_random([other; 16]);
        let key = ca.csr_auth_key(&ueid);
        let config = PersonalizationData::for_device(&key, &ca::RELEASE, &ueid)
            .encode()
            .unwrap();
        let device = Self::empty(seed);
        let uuid = TaUuid([7; 16]);
        device.install(Installed {
            id: TaId {
                signer: SignerId([3; 32]),
                uuid,
            },
            module: Arc::new(enrol_module()),
            procedure: Some(ca.procedure().encode().unwrap()),
            config: Some(config.to_vec()),
        });
        Self { uuid, ..device }
    }

    /// Device `seed` without TAs.
    pub fn empty(seed: u8) -> Self {
        Self::empty_with(seed, InProcess)
    }

    /// Device `seed` without TAs, whose instances another launcher starts.
    pub fn empty_with(seed: u8, launcher: impl Launcher + 'static) -> Self {
        let platform = TestPlatform::new(seed);
        Self::start(platform, Arc::default(), TaUuid([0; 16]), launcher)
    }

    fn start(
        platform: TestPlatform,
        tas: Arc<Mutex<BTreeMap<TaUuid, Installed>>>,
        uuid: TaUuid,
        launcher: impl Launcher + 'static,
    ) -> Self {
        let anchors = TrustAnchors::new(Vec::new(), Vec::new()).unwrap();
        let tee = Tee::new(platform.clone(), anchors, None).unwrap();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let (lines, clock) = (Arc::clone(&log), platform.clone());
        let hooks: Arc<Hooks> = Arc::default();
        let paused = Arc::clone(&hooks);
        let inner = SharedTee::new(
            Arc::new(spin_lock::Lock(Mutex::new(tee))),
            move |ms| {
                paused.pauses.fetch_add(1, Ordering::Relaxed);
                if paused.slow.load(Ordering::Relaxed) {
                    std::thread::sleep(std::time::Duration::from_millis(u64::from(ms)));
                }
                clock.advance_ms(u64::from(ms));
            },
            move |_, line| lines.lock().unwrap().push(line.to_string()),
        );
        let access = Access {
            inner,
            hooks: Arc::clone(&hooks),
            tas: Arc::clone(&tas),
        };
        let manager = SessionManager::new(access, launcher, SessionLimits::default());
        Self {
            platform,
            manager,
            log,
            hooks,
            tas,
            uuid,
        }
    }

    /// The same device after a power cut.
    pub fn rebooted(self) -> Self {
        self.platform.reboot();
        Self::start(self.platform, self.tas, self.uuid, InProcess)
    }

    /// The same device with the TA of another release, which has another `CsrAuthKey`.
    pub fn with_release_of(self, ca: &ca::Ca, csr_auth_key: [u8; 32]) -> Self {
        let release = ReleaseDigest(csr_auth_key);
        let ueid = self.platform.identity().ueid;
        let config = PersonalizationData::for_device(&csr_auth_key, &release, &ueid);
        let found = self.tas.lock().unwrap().get(&self.uuid).cloned().unwrap();
        self.install(Installed {
            procedure: Some(ca.procedure().encode().unwrap()),
            config: Some(config.encode().unwrap().to_vec()),
            ..found
        });
        self
    }

    pub fn install(&self, ta: Installed) {
        self.tas.lock().unwrap().insert(ta.id.uuid, ta);
    }

    /// Installs a module under UUID `number`.
    pub fn install_module(&self, number: u8, module: &[u8]) -> TaUuid {
        let uuid = TaUuid([number; 16]);
        let id = TaId {
            signer: SignerId([3; 32]),
            uuid,
        };
        let module = Arc::new(module.to_vec());
        self.install(Installed {
            id,
            module,
            procedure: None,
            config: None,
        });
        uuid
    }

    /// Opens a session with the enrolment TA.
    pub fn open(&self, who: &impl Who) -> Result<Session<'_>, u32> {
        self.open_ta(&self.uuid, who)
    }

    pub fn open_ta(&self, uuid: &TaUuid, who: &impl Who) -> Result<Session<'_>, u32> {
        let caller = who.caller();
        let control = CallControl::default();
        let reply = self
            .manager
            .open_session(&caller, uuid, Params::default(), &control);
        if reply.code != TEE_SUCCESS {
            return Err(reply.code);
        }
        Ok(Session {
            device: self,
            caller,
            number: reply.session,
        })
    }

    /// Everything in trusted storage, to see whether it changed.
    pub fn storage(&self) -> BTreeMap<String, Vec<u8>> {
        self.platform.snapshot()
    }
}

/// An open session; closed when dropped.
pub struct Session<'a> {
    pub device: &'a Device,
    pub caller: Caller,
    pub number: u32,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.device.manager.close_session(&self.caller, self.number);
    }
}

impl Session<'_> {
    pub fn invoke(&self, command: u32, params: Params) -> TaReply {
        let control = CallControl::default();
        self.device
            .manager
            .invoke(&self.caller, self.number, command, params, &control)
    }

    /// Inputs in the first parameters, output in the third.
    pub fn call(&self, command: u32, inputs: &[&[u8]]) -> Result<Vec<u8>, u32> {
        output(self.invoke(command, parameters(command, inputs)))
    }

    /// The same call for another thread, or for a [`Hook`].
    pub fn later(
        &self,
        command: u32,
        inputs: &[&[u8]],
    ) -> impl FnOnce() -> Result<Vec<u8>, u32> + Send + 'static {
        let params = parameters(command, inputs);
        let (manager, caller, number) = (self.device.manager.clone(), self.caller, self.number);
        move || {
            let control = CallControl::default();
            output(manager.invoke(&caller, number, command, params, &control))
        }
    }

    /// As `call` with a label, and a number as second parameter.
    pub fn call_format(&self, command: u32, label: &[u8], format: u32) -> Result<Vec<u8>, u32> {
        let mut params = Params::default();
        params[0] = Param::MemrefInput {
            buffer: label.to_vec(),
        };
        params[1] = Param::ValueInput { a: format, b: 0 };
        if !matches!(command, 3 | 7) {
            params[2] = Param::MemrefOutput { size: 16 * 1024 };
        }
        output(self.invoke(command, params))
    }
}

fn parameters(command: u32, inputs: &[&[u8]]) -> Params {
    let mut params = Params::default();
    for (param, input) in params.iter_mut().zip(inputs) {
        *param = Param::MemrefInput {
            buffer: input.to_vec(),
        };
    }
    // ENROL_CONFIRM and DELETE put nothing out, and the TA is strict.
    if !matches!(command, 3 | 7) {
        params[2] = Param::MemrefOutput { size: 16 * 1024 };
    }
    params
}

fn output(reply: TaReply) -> Result<Vec<u8>, u32> {
    if reply.code != TEE_SUCCESS {
        return Err(reply.code);
    }
    match reply.params.into_iter().nth(2) {
        Some(ParamOut::Memref { buffer, .. }) => Ok(buffer),
        _ => Ok(Vec::new()),
    }
}

/// A message and what a client hands over to have it signed.
pub fn digest_for(kind: KeyKind, message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let digest = match kind {
        KeyKind::P256 => RustCrypto.sha256(message).to_vec(),
        KeyKind::P384 => RustCrypto.sha384(message).to_vec(),
        _ => message.to_vec(),
    };
    (message.to_vec(), digest)
}

/// Verifies a raw signature with the key of a certificate.
pub fn verify(spki_der: &[u8], message: &[u8], signature: &[u8]) {
    let key = PublicKey::from_spki_der(spki_der).unwrap();
    RustCrypto.verify(&key, message, signature).unwrap();
}
