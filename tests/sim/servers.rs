//! CA, TAM and Verifier as processes that can die between any two effects and start again on the
//! same store. The decisions and the order of effects are those of `tegata-store`; what stands
//! here is what `tegata serve` does around them without HTTP.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::provider::Repeatable;
use tegata_authority::ca::authority_cert::CaDraft;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::profile::Profiles;
use tegata_authority::verifier::AppraisalPolicy;
use tegata_crypto::seal::SealingKey;
use tegata_crypto::{KeyAlg, PrivateKey, Secret};
use tegata_store::issuer::{CaSetup, CmpAnswer, Issuer};
use tegata_store::role::{Role, Trust};
use tegata_store::status::{StatusServer, StatusSettings};
use tegata_store::tam::{PeerFailure, Peers, TamServer, TeepAnswer, TeepFault, TeepOutcome};
use tegata_store::verifier::VerifierServer;
use tegata_store::{Faults, Store, StoreError, When};

use crate::clock::Clock;
use crate::network::{Node, Tap};
use crate::prng::Prng;

/// Stops a server at the n-th side of a commit from now.
#[derive(Default)]
pub struct SimFaults(Mutex<FaultState>);

#[derive(Default)]
struct FaultState {
    armed: Option<u32>,
    fired: Option<(&'static str, When)>,
}

impl SimFaults {
    pub fn arm(&self, at: u32) {
        self.0.lock().unwrap().armed = Some(at);
    }

    pub fn disarm(&self) {
        self.0.lock().unwrap().armed = None;
    }

    /// Where the server died, if it did since the last call.
    fn take_fired(&self) -> Option<(&'static str, When)> {
        self.0.lock().unwrap().fired.take()
    }
}

impl Faults for SimFaults {
    fn reach(&self, step: &'static str, when: When) -> Result<(), StoreError> {
        let mut state = self.0.lock().unwrap();
        match state.armed {
            Some(0) => {
                state.armed = None;
                state.fired = Some((step, when));
                Err(StoreError::Stopped {
                    step,
                    when: when.as_str(),
                })
            }
            Some(n) => {
                state.armed = Some(n - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// The process died while it worked on a request: there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Died {
    pub step: &'static str,
    pub when: &'static str,
}

/// How a role's process starts on its store.
pub trait Service: Sized {
    type Settings: Clone;
    fn start(role: Role, settings: &Self::Settings) -> Self;
    fn role(&self) -> &Role;
}

/// What the operator of a CA sets.
#[derive(Clone)]
pub struct CaSettings {
    /// The profiles' file.
    pub profiles: String,
    /// How status is published.
    pub status: StatusSettings,
}

/// The CA's process: what issues, and what tells of it.
pub struct CaService {
    issuer: Arc<Issuer>,
    pub status: StatusServer,
}

impl std::ops::Deref for CaService {
    type Target = Issuer;
    fn deref(&self) -> &Issuer {
        &self.issuer
    }
}

impl Service for CaService {
    type Settings = CaSettings;
    fn start(role: Role, settings: &CaSettings) -> Self {
        let profiles = Profiles::parse(&settings.profiles).unwrap();
        let issuer = Issuer::open(role, profiles, MacPolicy::default()).unwrap();
        let issuer = Arc::new(issuer.with_status(settings.status.clone()));
        let status = StatusServer::new(Arc::clone(&issuer));
        Self { issuer, status }
    }
    fn role(&self) -> &Role {
        self.issuer.role()
    }
}

impl Service for TamServer {
    type Settings = Option<String>;
    fn start(role: Role, payload_url: &Option<String>) -> Self {
        Self::open(role, payload_url.clone()).unwrap()
    }
    fn role(&self) -> &Role {
        TamServer::role(self)
    }
}

impl Service for VerifierServer {
    type Settings = ();
    fn start(role: Role, (): &()) -> Self {
        let policy = AppraisalPolicy::parse(tegata_authority::verifier::EXAMPLE).unwrap();
        Self::open(role, policy).unwrap()
    }
    fn role(&self) -> &Role {
        VerifierServer::role(self)
    }
}

/// A role's machine: disk, clock, randomness, and the process when it runs.
pub struct Machine<S: Service> {
    path: PathBuf,
    settings: S::Settings,
    pub faults: Arc<SimFaults>,
    pub clock: Clock,
    pub rng: Prng,
    process: Option<S>,
    pub deaths: u32,
}

pub type Ca = Machine<CaService>;
pub type Tam = Machine<TamServer>;
pub type Verifier = Machine<VerifierServer>;

#[allow(private_bounds)]
impl<S: Service> Machine<S> {
    fn new(
        dir: &Path,
        name: &str,
        seed: u64,
        clock: Clock,
        settings: S::Settings,
        init: impl FnOnce(&Role, &mut Prng, &Clock),
    ) -> Self {
        let path = dir.join(format!("{name}.db"));
        let faults = Arc::new(SimFaults::default());
        let mut rng = Prng::new(seed, name);
        init(&open_role(&path, &faults), &mut rng, &clock);
        let mut machine = Self {
            path,
            settings,
            faults,
            clock,
            rng,
            process: None,
            deaths: 0,
        };
        machine.restart();
        machine
    }

    /// The process ends without warning and starts again: only its store is left.
    pub fn restart(&mut self) {
        // Dropped first: a dead process holds no file.
        self.process = None;
        let role = open_role(&self.path, &self.faults);
        self.process = Some(S::start(role, &self.settings));
    }

    /// The operator sets it otherwise, and starts it again.
    pub fn set(&mut self, settings: S::Settings) {
        self.settings = settings;
        self.restart();
    }

    /// The running service.
    pub fn service(&self) -> &S {
        self.process.as_ref().unwrap()
    }

    pub fn role(&self) -> &Role {
        self.service().role()
    }

    /// Starts again if the last request was the process's end.
    fn mind_death(&mut self) -> Result<(), Died> {
        match self.faults.take_fired() {
            None => Ok(()),
            Some((step, when)) => {
                self.restart();
                self.deaths += 1;
                let when = when.as_str();
                Err(Died { step, when })
            }
        }
    }

    /// Runs one request; its answer is lost if the process dies over it.
    pub fn run<T>(&mut self, request: impl FnOnce(&S, &mut Prng, &Clock) -> T) -> Result<T, Died> {
        let process = self.process.as_ref().unwrap();
        let done = request(process, &mut self.rng, &self.clock);
        self.mind_death()?;
        Ok(done)
    }

    /// Takes the disk back to an earlier copy: what a lost or shared disk does. For self-tests.
    pub fn restore_disk(&mut self, copy: &Path) {
        self.process = None;
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(with_suffix(&self.path, suffix));
        }
        std::fs::copy(copy, &self.path).unwrap();
        self.restart();
    }

    /// A copy of the disk as it is now.
    pub fn copy_disk(&self, name: &str) -> PathBuf {
        let target = with_suffix(&self.path, name);
        self.role().store.backup(&target).unwrap();
        target
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn open_role(path: &Path, faults: &Arc<SimFaults>) -> Role {
    let faults: Arc<dyn Faults> = faults.clone();
    Role {
        store: Arc::new(Store::open_with(path, faults).unwrap()),
        provider: Arc::new(Repeatable),
        sealing: Arc::new(SealingKey::new(Secret::new(SEALING_KEY))),
    }
}

/// What the roles' secrets are sealed under.
pub const SEALING_KEY: [u8; 32] = *b"the simulation's own sealing key";

pub fn new_ca(
    dir: &Path,
    seed: u64,
    clock: Clock,
    issuing_alg: KeyAlg,
    settings: CaSettings,
) -> Ca {
    Machine::new(dir, "ca", seed, clock, settings, |role, rng, clock| {
        let setup = CaSetup {
            draft: CaDraft::for_organization("Tegata 手形"),
            root_alg: KeyAlg::P256,
            issuing_alg,
        };
        Issuer::init(role, &setup, rng, clock.secs()).unwrap();
    })
}

pub fn new_tam(dir: &Path, seed: u64, clock: Clock, payload_url: Option<String>) -> Tam {
    Machine::new(dir, "tam", seed, clock, payload_url, |role, rng, clock| {
        TamServer::init(role, rng, clock.secs()).unwrap();
    })
}

pub fn new_verifier(dir: &Path, seed: u64, clock: Clock) -> Verifier {
    Machine::new(dir, "verifier", seed, clock, (), |role, rng, clock| {
        VerifierServer::init(role, rng, clock.secs()).unwrap();
    })
}

/// Tells the roles of an installation whom to trust.
pub fn introduce(ca: &Ca, tam: &Tam, verifier: &Verifier, factory: &PrivateKey) {
    let now = verifier.clock.secs();
    let release = ca.service().release_public_key();
    for role in [ca.role(), tam.role(), verifier.role()] {
        let factory = factory.public_key();
        role.trust(Trust::Factory, factory, "factory", now).unwrap();
        role.trust(Trust::Release, release, "CA", now).unwrap();
    }
    let (tam_key, ear_key) = (tam.service().public_key(), verifier.service().public_key());
    ca.role().trust(Trust::Tam, tam_key, "TAM", now).unwrap();
    for role in [ca.role(), tam.role()] {
        role.trust(Trust::Verifier, ear_key, "Verifier", now)
            .unwrap();
    }
}

/// A directory for stores. Syncs cost nothing in memory; a process that dies leaves memory files as
/// it leaves disks.
pub fn disks() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() {
        tempfile::tempdir_in(shm)
    } else {
        tempfile::tempdir()
    };
    dir.unwrap()
}

/// What the TAM asks of CA and Verifier, over lines that fail like all others. The same glue is in
/// `tegata`'s `HttpPeers`; there is nothing to decide in it.
pub struct Lines<'a> {
    pub ca: &'a std::cell::RefCell<Ca>,
    pub verifier: &'a std::cell::RefCell<Verifier>,
    pub tap: &'a std::cell::RefCell<Tap>,
    pub rng: &'a std::cell::RefCell<Prng>,
    /// Percent of crossings at which something goes wrong.
    pub trouble_percent: u64,
}

impl Lines<'_> {
    /// Carries a message one way; `None` if it is lost.
    fn carry(&self, from: Node, to: Node, bytes: &[u8]) -> Option<Vec<u8>> {
        self.tap.borrow_mut().record(from, to, "peer", bytes);
        let mut rng = self.rng.borrow_mut();
        if !rng.chance(self.trouble_percent) {
            return Some(bytes.to_vec());
        }
        if rng.chance(50) {
            return None;
        }
        Some(crate::network::damage(bytes, rng.pick()))
    }

    fn ask(
        &self,
        who: &'static str,
        node: Node,
        request: &[u8],
        serve: impl Fn(&[u8]) -> Result<Vec<u8>, String>,
    ) -> Result<Vec<u8>, PeerFailure> {
        let failure = |why: String| PeerFailure { who, why };
        let lost = || failure("no answer".into());
        let arrived = self.carry(Node::Tam, node, request).ok_or_else(lost)?;
        let mut answer = serve(&arrived);
        if self.rng.borrow_mut().chance(self.trouble_percent) {
            // A proxy that repeats a request: the second answer is the one that arrives.
            answer = serve(&arrived);
        }
        let answer = answer.map_err(failure)?;
        self.carry(node, Node::Tam, &answer).ok_or_else(lost)
    }
}

impl Peers for Lines<'_> {
    fn appraise(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure> {
        self.ask("Verifier", Node::Verifier, request, |body| {
            let mut verifier = self.verifier.borrow_mut();
            let done = verifier.run(|v, _, clock| v.appraise(body, clock.secs()));
            match done {
                Ok(Ok(answer)) => Ok(answer.ear),
                Ok(Err(fault)) => Err(fault.code().to_owned()),
                Err(died) => Err(format!("died {} {}", died.when, died.step)),
            }
        })
    }

    fn deliver(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure> {
        self.ask("CA", Node::Ca, request, |body| {
            let mut ca = self.ca.borrow_mut();
            let done = ca.run(|ca, rng, clock| ca.deliver(body, rng, clock.secs()));
            match done {
                Ok(Ok(delivery)) => Ok(delivery),
                Ok(Err(fault)) => Err(fault.code().to_owned()),
                Err(died) => Err(format!("died {} {}", died.when, died.step)),
            }
        })
    }

    fn attested(&self, word: &[u8]) -> Result<(), PeerFailure> {
        let noted = self.ask("CA", Node::Ca, word, |body| {
            let mut ca = self.ca.borrow_mut();
            let done = ca.run(|ca, _, clock| ca.note_attested(body, clock.secs()));
            match done {
                Ok(Ok(_)) => Ok(Vec::new()),
                Ok(Err(fault)) => Err(fault.code().to_owned()),
                Err(died) => Err(format!("died {} {}", died.when, died.step)),
            }
        });
        noted.map(drop)
    }
}

/// One CMP message at the CA's port.
pub fn cmp(ca: &mut Ca, path: &str, body: &[u8]) -> Result<CmpAnswer, Died> {
    ca.run(|ca, rng, clock| ca.cmp(path, body, rng, clock.now()))
}

/// One TEEP message at the TAM's port.
pub fn teep(
    tam: &mut Tam,
    lines: &Lines<'_>,
    body: &[u8],
) -> Result<Result<(TeepAnswer, TeepOutcome), TeepFault>, Died> {
    tam.run(|tam, rng, clock| tam.teep(body, lines, rng, clock.now()))
}
