//! A device: a real TEE on a simulated machine, and the REE around it that only carries bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex};

use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{Provider as _, PublicKey};
use tegata_tee::gp::consts::{TEE_ERROR_TARGET_DEAD, TEE_SUCCESS};
use tegata_tee::gp::host::HostServices;
use tegata_tee::gp::params::{Param, ParamOut, Params};
use tegata_tee::session::{
    CallControl, Caller, ClientIdentity, Exclusive, LaunchError, LaunchSpec, Launcher,
    SessionLimits, SessionManager, SharedTee, TaInstance,
};
use tegata_tee::suit::Part;
use tegata_tee::teep::{Payloads, TeepOutcome};
use tegata_tee::wasm::{TaModule, WasmInstance};
use tegata_tee::{DeviceKeys, Tee, TeeError, TrustAnchors};
use tegata_wire::ids::{Digest, ReleaseDigest, TaUuid, Ueid};

use crate::platform::SimPlatform;

/// Commands of the enrolment TA.
pub mod command {
    pub const ENROL_BEGIN: u32 = 1;
    pub const ENROL_FINISH: u32 = 2;
    pub const ENROL_CONFIRM: u32 = 3;
    pub const GET_CERTIFICATE: u32 = 4;
    pub const SIGN: u32 = 5;
    pub const DELETE: u32 = 7;
    pub const GET_PUBLIC_KEY: u32 = 8;
    pub const STATUS: u32 = 9;
}

/// A program of the REE. What it may use is what it asked for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum App {
    /// The device's main application.
    Main,
    /// Another application that has keys of its own.
    Other,
    /// A program that never asked for anything.
    Stranger,
}

impl App {
    pub const OWNERS: [Self; 2] = [Self::Main, Self::Other];

    /// Who it is, as the TEE finds out.
    pub fn identity(self) -> ClientIdentity {
        match self {
            Self::Main => ClientIdentity::user(1000),
            Self::Other => ClientIdentity::user(1001),
            Self::Stranger => ClientIdentity::application(&Digest([7; 32])),
        }
    }

    fn caller(self) -> Caller {
        Caller {
            owner: 1 + self as u64,
            client: self.identity(),
        }
    }

    /// A second connection of the same program, to look without touching its session.
    fn onlooker(self) -> Caller {
        Caller {
            owner: 101 + self as u64,
            client: self.identity(),
        }
    }
}

/// A key and certificate, as its owner calls it.
pub type Slot = (App, &'static str);

/// All that an owner may ask for.
pub const LABELS: [&str; 2] = ["tls", "mqtt"];

/// A lock that has never to wait: everything here is one thread.
pub struct Locked<T>(Mutex<T>);

impl<T: Send> Exclusive<T> for Locked<T> {
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.0.lock().unwrap())
    }
}

/// Runs TAs in this thread, each module compiled once for all devices.
struct SimLauncher;

static COMPILED: LazyLock<Mutex<HashMap<[u8; 32], Arc<TaModule>>>> = LazyLock::new(Mutex::default);

impl Launcher for SimLauncher {
    fn launch(
        &self,
        spec: &LaunchSpec,
        services: Box<dyn HostServices>,
    ) -> Result<Box<dyn TaInstance>, LaunchError> {
        let digest = RustCrypto.sha256(&spec.module);
        let known = COMPILED.lock().unwrap().get(&digest).cloned();
        let module = match known {
            Some(module) => module,
            None => {
                let module = TaModule::new(&spec.module).map_err(|error| LaunchError::Module {
                    reason: error.to_string(),
                })?;
                let module = Arc::new(module);
                COMPILED.lock().unwrap().insert(digest, module.clone());
                module
            }
        };
        Ok(Box::new(WasmInstance::new(&module, spec.ta, services)?))
    }
}

/// Why a call came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The machine is without power.
    Dead,
    /// The TEE or the TA said no: a GP return code.
    Code(u32),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dead => f.write_str("no power"),
            Self::Code(code) => write!(f, "{code:#010x}"),
        }
    }
}

/// An open session of a program, and the module that it talks to.
struct Session {
    number: u32,
    module: Option<Digest>,
}

/// What runs while there is power.
struct Running {
    tee: Arc<Locked<Tee<SimPlatform>>>,
    manager: SessionManager,
    sessions: BTreeMap<App, Session>,
}

/// What the REE waits for on a connection. It is lost with the power.
#[derive(Clone, Debug)]
pub enum Job {
    /// An answer of the TAM.
    Teep,
    /// A payload of that message; those fetched before.
    Fetch {
        uri: String,
        message: Vec<u8>,
        payloads: Payloads,
    },
    /// The CA's answer to a request.
    Request(Slot),
    /// The CA's answer to a confirmation.
    Confirm(Slot),
}

/// A certificate that a device has installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub slot: Slot,
    pub certificate: Vec<u8>,
    pub spki: Vec<u8>,
}

/// What an ENROL_BEGIN gave.
pub struct Begun {
    pub message: Vec<u8>,
    /// Digest of the module that ran.
    pub module: Option<Digest>,
}

pub struct Device {
    pub number: usize,
    pub ueid: Ueid,
    pub platform: SimPlatform,
    /// The key of its TEEP messages.
    pub teep_key: PublicKey,
    anchors: TrustAnchors,
    running: Option<Running>,
    /// Connections that somebody waits on.
    pub jobs: BTreeMap<u64, Job>,

    // From here on: what the simulation remembers to judge by.
    /// SHA-256 of every CSR that the TA in this device made.
    pub requested: BTreeSet<[u8; 32]>,
    /// Every certificate that was ever installed here, by its bytes.
    pub confirmed: BTreeSet<Vec<u8>>,
    /// Highest sequence number ever seen installed.
    pub highest: u64,
    /// What is installed, when it was looked at last.
    pub sequence: Option<u64>,
    /// Release and personalization data in the clear, when it was looked at last.
    pub personalization: Option<(ReleaseDigest, Vec<u8>)>,
    /// What is held, when it was looked at last.
    pub held: Vec<Held>,
    /// Something happened since.
    pub dirty: bool,
    /// The medium when it was looked at last.
    pub seen_blobs: BTreeMap<String, Vec<u8>>,
    /// The medium changed since certificates were looked at.
    pub to_look_at: bool,
    /// Root manifest whose personalization data was looked at.
    pub installed_as: Option<Digest>,
}

impl Device {
    pub fn new(number: usize, platform: SimPlatform, anchors: TrustAnchors) -> Self {
        let keys = DeviceKeys::derive(&platform).unwrap();
        let teep_key = keys.teep.public_key().clone();
        Self {
            number,
            ueid: platform.identity.ueid,
            platform,
            teep_key,
            anchors,
            running: None,
            jobs: BTreeMap::new(),
            requested: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            highest: 0,
            sequence: None,
            personalization: None,
            held: Vec::new(),
            dirty: true,
            seen_blobs: BTreeMap::new(),
            to_look_at: true,
            installed_as: None,
        }
    }

    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Power on. False if the machine dies again while it starts.
    pub fn boot(&mut self) -> bool {
        if self.running.is_some() {
            return true;
        }
        let tee = match Tee::new(
            self.platform.clone(),
            self.anchors.clone(),
            Some("tam".into()),
        ) {
            Ok(tee) => tee,
            Err(error) if self.platform.medium.is_dead() => {
                let _ = error;
                self.power_off();
                return false;
            }
            Err(error) => panic!("device {} does not start: {error}", self.number),
        };
        let tee = Arc::new(Locked(Mutex::new(tee)));
        let shared = SharedTee::new(Arc::clone(&tee), |_| {}, |_, _| {});
        self.running = Some(Running {
            tee,
            manager: SessionManager::new(shared, SimLauncher, SessionLimits::default()),
            sessions: BTreeMap::new(),
        });
        self.dirty = true;
        true
    }

    /// Power off: whatever was in memory is gone. A planned crash is over.
    pub fn power_off(&mut self) {
        self.running = None;
        self.jobs.clear();
        self.platform.medium.reboot();
        self.dirty = true;
    }

    /// The machine died in the last call: what ran is gone.
    fn mind_death(&mut self) -> bool {
        let dead = self.platform.medium.is_dead();
        if dead {
            self.power_off();
        }
        dead
    }

    fn tee<T>(&mut self, work: impl FnOnce(&mut Tee<SimPlatform>) -> T) -> Result<T, Failed> {
        self.dirty = true;
        let Some(running) = &self.running else {
            return Err(Failed::Dead);
        };
        let done = running.tee.with(work);
        if self.mind_death() {
            return Err(Failed::Dead);
        }
        Ok(done)
    }

    /// The TEE's `RequestTA` or, with `want` false, `RequestPolicyCheck`; true if a TAM is to be
    /// contacted.
    pub fn contact(&mut self, ta: &TaUuid, want: bool) -> Result<bool, Failed> {
        self.tee(|tee| {
            if want {
                tee.request_ta(ta).map(|contact| contact.is_some())
            } else {
                Ok(tee.policy_check().is_some())
            }
        })?
        .map_err(|_| Failed::Code(0))
    }

    /// The TAM could not be reached.
    pub fn process_error(&mut self) {
        let _ = self.tee(Tee::process_error);
    }

    /// Hands a TEEP message to the TEE, as `teed` does: instances of a TA that is no longer the
    /// installed one take no new sessions.
    pub fn handle_teep(
        &mut self,
        message: &[u8],
        payloads: &Payloads,
    ) -> Result<Result<TeepOutcome, TeeError>, Failed> {
        let measure = |tee: &mut Tee<SimPlatform>| -> BTreeMap<TaUuid, Digest> {
            let list = tee.installed_list().unwrap_or_default();
            list.into_iter()
                .map(|record| (record.id.uuid, record.module_digest))
                .collect()
        };
        let before = self.tee(measure)?;
        let outcome = self.tee(|tee| tee.handle_teep(message, payloads))?;
        let after = self.tee(measure)?;
        if let Some(running) = &self.running {
            for (ta, digest) in &before {
                if after.get(ta) != Some(digest) {
                    running.manager.retire(ta);
                }
            }
        }
        Ok(outcome)
    }

    /// The program closes its session; the next call opens another.
    pub fn close_session(&mut self, app: App) {
        if let Some(running) = &mut self.running
            && let Some(session) = running.sessions.remove(&app)
        {
            running.manager.close_session(&app.caller(), session.number);
        }
    }

    fn invoke(
        running: &Running,
        caller: &Caller,
        session: u32,
        command: u32,
        params: Params,
    ) -> Result<Vec<u8>, u32> {
        let control = CallControl::default();
        let reply = running
            .manager
            .invoke(caller, session, command, params, &control);
        if reply.code != TEE_SUCCESS {
            return Err(reply.code);
        }
        Ok(match reply.params.into_iter().nth(2) {
            Some(ParamOut::Memref { buffer, .. }) => buffer,
            _ => Vec::new(),
        })
    }

    fn open(running: &Running, caller: &Caller, ta: &TaUuid) -> Result<u32, u32> {
        let control = CallControl::default();
        let reply = running
            .manager
            .open_session(caller, ta, no_params(), &control);
        if reply.code == TEE_SUCCESS {
            Ok(reply.session)
        } else {
            Err(reply.code)
        }
    }

    /// One command of the enrolment TA from a program, in its open session or a new one.
    pub fn call(
        &mut self,
        ta: &TaUuid,
        app: App,
        command: u32,
        label: &str,
        input: Option<Param>,
    ) -> Result<Vec<u8>, Failed> {
        self.dirty = true;
        let module = self.module(ta)?;
        let Some(running) = &mut self.running else {
            return Err(Failed::Dead);
        };
        let caller = app.caller();
        let number = match running.sessions.get(&app) {
            Some(session) => Ok(session.number),
            None => Self::open(running, &caller, ta).inspect(|number| {
                let number = *number;
                running.sessions.insert(app, Session { number, module });
            }),
        };
        let done = match number {
            Ok(number) => Self::invoke(
                running,
                &caller,
                number,
                command,
                params(command, label, input),
            )
            .inspect_err(|code| {
                if *code == TEE_ERROR_TARGET_DEAD {
                    running.manager.close_session(&caller, number);
                    running.sessions.remove(&app);
                }
            }),
            Err(code) => Err(code),
        };
        if self.mind_death() {
            return Err(Failed::Dead);
        }
        done.map_err(Failed::Code)
    }

    /// ENROL_BEGIN; also says which module answered.
    pub fn begin(&mut self, ta: &TaUuid, slot: Slot) -> Result<Begun, Failed> {
        let message = self.call(ta, slot.0, command::ENROL_BEGIN, slot.1, None)?;
        let running = self.running.as_ref().ok_or(Failed::Dead)?;
        let module = running.sessions.get(&slot.0).and_then(|s| s.module);
        Ok(Begun { message, module })
    }

    /// Digest of the installed module.
    pub fn module(&mut self, ta: &TaUuid) -> Result<Option<Digest>, Failed> {
        let list = self.tee(|tee| tee.installed_list().unwrap_or_default())?;
        let found = list.iter().find(|record| record.id.uuid == *ta);
        Ok(found.map(|record| record.module_digest))
    }

    /// What is installed: sequence number and digest of the root manifest.
    pub fn record(&mut self, ta: &TaUuid) -> Result<Option<(u64, Digest)>, Failed> {
        let list = self.tee(|tee| tee.installed_list())?;
        let list = list.unwrap_or_else(|e| panic!("device {}: {e}", self.number));
        let found = list.iter().find(|record| record.id.uuid == *ta);
        Ok(found.map(|record| (record.sequence_number, record.root_manifest)))
    }

    /// Release and personalization data in the clear.
    pub fn personalization(
        &mut self,
        ta: &TaUuid,
    ) -> Result<Option<(ReleaseDigest, Vec<u8>)>, Failed> {
        let found = self.tee(|tee| -> Result<_, TeeError> {
            let store = tee.store()?;
            let Some(record) = store.record(ta)? else {
                return Ok(None);
            };
            let config = store.component(ta, Part::Config)?;
            let config = config.map(|config| config.expose_secret().clone());
            Ok(Some((record.release, config.unwrap_or_default())))
        })?;
        Ok(found.unwrap_or_else(|e| panic!("device {}: {e}", self.number)))
    }

    /// Looks at every certificate and key of every owner, through connections of its own.
    pub fn look(&mut self, ta: &TaUuid) -> Result<Vec<Held>, Failed> {
        let mut held = Vec::new();
        let Some(running) = &self.running else {
            return Err(Failed::Dead);
        };
        for app in App::OWNERS {
            let caller = app.onlooker();
            let Ok(session) = Self::open(running, &caller, ta) else {
                continue;
            };
            for label in LABELS {
                let leaf = Some(Param::ValueInput { a: 1, b: 0 });
                let leaf = params(command::GET_CERTIFICATE, label, leaf);
                let certificate =
                    Self::invoke(running, &caller, session, command::GET_CERTIFICATE, leaf);
                let Ok(certificate) = certificate else {
                    continue;
                };
                let key = params(command::GET_PUBLIC_KEY, label, None);
                let spki = Self::invoke(running, &caller, session, command::GET_PUBLIC_KEY, key);
                held.push(Held {
                    slot: (app, label),
                    certificate,
                    spki: spki.unwrap_or_default(),
                });
            }
            running.manager.close_session(&caller, session);
        }
        Ok(held)
    }

    /// The public key of a slot's pending or installed key.
    pub fn public_key(&mut self, ta: &TaUuid, slot: Slot) -> Result<Vec<u8>, Failed> {
        self.call(ta, slot.0, command::GET_PUBLIC_KEY, slot.1, None)
    }

    /// Secrets that this device derives for itself.
    pub fn own_secrets(&mut self) -> Vec<(&'static str, Vec<u8>)> {
        let mut out = vec![(
            "TeeKey",
            self.platform.expose_tee_key().expose_secret().to_vec(),
        )];
        let keys = self.tee(|tee| {
            let keys = tee.keys();
            [
                ("attestation key", &keys.attestation),
                ("TEEP key", &keys.teep),
                ("delivery key", &keys.delivery_ecdh),
            ]
            .map(|(name, key)| (name, key.expose_scalar_bytes().expose_secret().clone()))
            .into_iter()
            .chain([("delivery KEK", keys.delivery_kek.expose_secret().to_vec())])
            .collect::<Vec<_>>()
        });
        out.extend(keys.unwrap_or_default());
        out
    }
}

fn no_params() -> Params {
    Default::default()
}

fn params(command: u32, label: &str, input: Option<Param>) -> Params {
    let output = match command {
        command::ENROL_CONFIRM | command::DELETE => Param::None,
        _ => Param::MemrefOutput { size: 32 * 1024 },
    };
    [
        Param::MemrefInput {
            buffer: label.as_bytes().to_vec(),
        },
        input.unwrap_or_default(),
        output,
        Param::None,
    ]
}

/// An input buffer.
pub fn bytes_in(bytes: &[u8]) -> Option<Param> {
    Some(Param::MemrefInput {
        buffer: bytes.to_vec(),
    })
}
