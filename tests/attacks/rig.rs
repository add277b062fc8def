//! Everything of one installation in one process: real roles over real stores, and devices that
//! are the real TEE core with the real enrolment TA. Nothing stands between them but the attacker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use tegata_authority::ca::authority_cert::CaDraft;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::factory::{BatchSpec, DeviceSecret, make_devices, sign_manifest};
use tegata_authority::profile::Profiles;
use tegata_authority::tam::availability::Availability;
use tegata_authority::verifier::AppraisalPolicy;
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::cose::{Sign1Headers, sign1, verify_sign1};
use tegata_crypto::device_keys::software_derive;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::seal::SealingKey;
use tegata_crypto::{CryptoError, KeyAlg, PrivateKey, Provider as _, PublicKey, Rng, Secret};
use tegata_store::issuer::{CaSetup, CmpOutcome, CutRelease, Issuer, NewRelease};
use tegata_store::role::{Role, Trust};
use tegata_store::tam::{
    PeerFailure, Peers, TamServer, TeepAnswer, TeepFault, TeepOutcome as TamOutcome,
};
use tegata_store::verifier::VerifierServer;
use tegata_store::{Faults, NoFaults, Store, certificate};
use tegata_tee::gp::consts::TEE_SUCCESS;
use tegata_tee::gp::params::{Param, ParamOut, Params};
use tegata_tee::platform::{
    AntiRollback, BlobName, HardwareIdentity, MonotonicCounter, OemId, Platform, PlatformError,
    SecurityDescription, SecurityLevel,
};
use tegata_tee::session::{
    CallControl, Caller, ClientIdentity, Exclusive, InProcess, SessionLimits, SessionManager,
    SharedTee,
};
use tegata_tee::teep::{Payloads, TeepOutcome};
use tegata_tee::testing::TestPlatform;
use tegata_tee::{Tee, TrustAnchors};
use tegata_wire::ids::TaUuid;
use tegata_wire::teep::Message;

pub const NOW: UnixMs = UnixMs(1_795_000_000_000);
pub const SECS: UnixSecs = UnixSecs(1_795_000_000);

/// Commands of the enrolment TA.
pub mod ta {
    pub const BEGIN: u32 = 1;
    pub const FINISH: u32 = 2;
    pub const CONFIRM: u32 = 3;
    pub const GET_CERTIFICATE: u32 = 4;
    pub const SIGN: u32 = 5;
    pub const LIST: u32 = 6;
    pub const DELETE: u32 = 7;
    pub const GET_PUBLIC_KEY: u32 = 8;
    pub const STATUS: u32 = 9;
    pub const AGREE: u32 = 10;
}

/// The enrolment TA that is checked in.
pub fn enrol_module() -> &'static [u8] {
    static MODULE: OnceLock<Vec<u8>> = OnceLock::new();
    MODULE.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tas/enrol/enrol.wasm");
        std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"))
    })
}

/// A generator that a seed fixes, so that a failure can be repeated.
#[derive(Clone)]
pub struct Seeded(pub u64);

impl Seeded {
    pub fn next(&mut self) -> u64 {
        // SplitMix64: spread well enough for tests, and never used elsewhere.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Rng for Seeded {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        for chunk in out.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        Ok(())
    }
}

/// CA, TAM, Verifier and factory.
pub struct World {
    pub dir: tempfile::TempDir,
    pub ca: Issuer,
    pub tam: TamServer,
    pub verifier: VerifierServer,
    pub factory: PrivateKey,
    pub rng: Mutex<Seeded>,
    /// What devices believe besides the CA's release key: another CA of the same fleet.
    pub other_release_key: PrivateKey,
    serial: Mutex<u64>,
}

fn role(path: &std::path::Path, faults: Arc<dyn Faults>) -> Role {
    Role {
        store: Arc::new(Store::open_with(path, faults).unwrap()),
        provider: Arc::new(AwsLc),
        sealing: Arc::new(SealingKey::new(Secret::new(SEALING_KEY))),
    }
}

/// Seals the servers' keys at rest; one of the secrets that must not be seen.
pub const SEALING_KEY: [u8; 32] = *b"\x91sealing key of the attack rig\xfe\x01";

impl World {
    pub fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = Seeded(seed);
        let none: Arc<dyn Faults> = Arc::new(NoFaults);
        let ca_role = role(&dir.path().join("ca.db"), none.clone());
        let setup = CaSetup {
            draft: CaDraft::for_organization("Tegata 手形"),
            root_alg: KeyAlg::P256,
            issuing_alg: KeyAlg::P256,
        };
        Issuer::init(&ca_role, &setup, &mut rng, SECS).unwrap();
        let tam_role = role(&dir.path().join("tam.db"), none.clone());
        TamServer::init(&tam_role, &mut rng, SECS).unwrap();
        let verifier_role = role(&dir.path().join("verifier.db"), none);
        VerifierServer::init(&verifier_role, &mut rng, SECS).unwrap();
        let profiles = Profiles::parse(tegata_authority::profile::EXAMPLE).unwrap();
        let ca = Issuer::open(ca_role, profiles, MacPolicy::default()).unwrap();
        let tam = TamServer::open(tam_role, None).unwrap();
        let policy = AppraisalPolicy::parse(tegata_authority::verifier::EXAMPLE).unwrap();
        let verifier = VerifierServer::open(verifier_role, policy).unwrap();
        let factory = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
        let other_release_key = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
        for r in [ca.role(), tam.role(), verifier.role()] {
            r.trust(Trust::Factory, factory.public_key(), "factory", SECS)
                .unwrap();
            r.trust(Trust::Release, ca.release_public_key(), "CA", SECS)
                .unwrap();
        }
        ca.role()
            .trust(Trust::Tam, tam.public_key(), "TAM", SECS)
            .unwrap();
        ca.role()
            .trust(Trust::Verifier, verifier.public_key(), "Verifier", SECS)
            .unwrap();
        tam.role()
            .trust(Trust::Verifier, verifier.public_key(), "Verifier", SECS)
            .unwrap();
        Self {
            dir,
            ca,
            tam,
            verifier,
            factory,
            rng: Mutex::new(rng),
            other_release_key,
            serial: Mutex::new(1),
        }
    }

    pub fn rng(&self) -> Seeded {
        Seeded(self.rng.lock().unwrap().next())
    }

    /// A device out of the factory, known to all roles.
    pub fn device(&self) -> Device {
        self.devices(1, false).remove(0)
    }

    pub fn devices(&self, count: usize, with_counter: bool) -> Vec<Device> {
        let first_number = {
            let mut serial = self.serial.lock().unwrap();
            *serial += count as u64;
            *serial
        };
        let spec = BatchSpec {
            batch: format!("B{first_number}"),
            maker: "Example Works".into(),
            vendor_domain: "example.com".into(),
            oemid: OemId::Pen(32473),
            model: "gateway".into(),
            hwversion: "1.0".into(),
            serial_prefix: "S-".into(),
            first_number,
            imei_type_code: Some(35_175_605),
            with_mac: true,
            security_level: "software".into(),
        };
        let made = make_devices(&AwsLc, &mut self.rng(), &spec, count, SECS).unwrap();
        let signed = sign_manifest(&made.manifest, &self.factory).unwrap();
        for r in [self.ca.role(), self.tam.role(), self.verifier.role()] {
            r.import_devices(&signed, SECS).unwrap();
        }
        let keks = made.keks.encode().unwrap();
        self.tam.import_keks(&keks, &mut self.rng()).unwrap();
        let secrets = made.secrets.into_iter();
        secrets
            .map(|secret| Device::new(self, secret, with_counter))
            .collect()
    }

    pub fn release(&self, name: &str, module: &[u8], paper: bool) -> CutRelease {
        let exchange = self.tam.exchange_public_key().clone();
        let new = NewRelease {
            ta_name: name,
            module,
            profiles: &["device"],
            paper_exchange_key: paper.then_some(&exchange),
            available: &Availability::Everybody,
        };
        let cut = self.ca.release(&new, &mut self.rng(), SECS).unwrap();
        self.tam
            .import_release(&cut.package, &Availability::Everybody, SECS)
            .unwrap();
        self.verifier
            .import_reference_value(&cut.ta_envelope, SECS)
            .unwrap();
        cut
    }

    /// One message to the TAM.
    pub fn teep(&self, body: &[u8]) -> Result<(TeepAnswer, TamOutcome), TeepFault> {
        self.tam.teep(body, &Direct(self), &mut self.rng(), NOW)
    }

    /// One message to the TAM that is answered with one.
    pub fn teep_message(&self, body: &[u8]) -> Vec<u8> {
        match self.teep(body) {
            Ok((TeepAnswer::Message(message), _)) => message,
            other => panic!("the TAM has nothing to say: {other:?}"),
        }
    }

    /// One message to the CA.
    pub fn cmp(&self, body: &[u8]) -> (Vec<u8>, CmpOutcome) {
        let answer = self.ca.cmp("device", body, &mut self.rng(), NOW);
        (answer.body, answer.outcome)
    }

    /// The TAM's key, as an insider has it.
    pub fn tam_key(&self) -> PrivateKey {
        self.tam.role().open_key("tam key").unwrap()
    }

    /// Certificates there are, and intents of ones.
    pub fn certificates(&self) -> Vec<certificate::Certificate> {
        self.ca
            .role()
            .store
            .read("t", |tx| certificate::list(tx, &[], 1000))
            .unwrap()
    }

    /// All rows of all stores, hashed: whether anything at all changed.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut all = Vec::new();
        for name in ["ca.db", "tam.db", "verifier.db"] {
            dump(&self.dir.path().join(name), &mut all);
        }
        AwsLc.sha256(&all)
    }
}

/// Every row of every table.
pub fn dump(path: &std::path::Path, out: &mut Vec<u8>) {
    use rusqlite::types::ValueRef;
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = rusqlite::Connection::open_with_flags(path, flags).unwrap();
    let mut tables = db
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        .unwrap();
    let names = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    for name in names {
        let name = name.unwrap();
        out.extend_from_slice(name.as_bytes());
        let mut rows = db.prepare(&format!("SELECT * FROM \"{name}\"")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                match row.get_ref(column).unwrap() {
                    ValueRef::Null => out.push(0),
                    ValueRef::Integer(n) => out.extend_from_slice(&n.to_be_bytes()),
                    ValueRef::Real(n) => out.extend_from_slice(&n.to_be_bytes()),
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => out.extend_from_slice(bytes),
                }
                out.push(0xfe);
            }
        }
    }
}

/// The TAM's peers, called directly.
pub struct Direct<'a>(pub &'a World);

impl Peers for Direct<'_> {
    fn appraise(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure> {
        let answer = self.0.verifier.appraise(request, SECS);
        answer.map(|a| a.ear).map_err(|e| PeerFailure {
            who: "Verifier",
            why: e.to_string(),
        })
    }

    fn deliver(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure> {
        let answer = self.0.ca.deliver(request, &mut self.0.rng(), SECS);
        answer.map_err(|e| PeerFailure {
            who: "CA",
            why: e.to_string(),
        })
    }

    fn attested(&self, word: &[u8]) -> Result<(), PeerFailure> {
        let noted = self.0.ca.note_attested(word, SECS);
        noted.map(drop).map_err(|e| PeerFailure {
            who: "CA",
            why: e.to_string(),
        })
    }
}

/// The machine under a TEE: the factory's identity and key, a medium in memory, and a note of
/// every random value that is long enough for a key.
#[derive(Clone)]
pub struct Machine {
    pub medium: TestPlatform,
    pub identity: HardwareIdentity,
    pub tee_key: Arc<Secret<[u8; 32]>>,
    random: Arc<Mutex<(Seeded, Vec<Vec<u8>>)>>,
}

impl Machine {
    /// What was drawn in the length of a private key.
    pub fn key_sized_draws(&self) -> Vec<Vec<u8>> {
        self.random.lock().unwrap().1.clone()
    }
}

impl Platform for Machine {
    fn identity(&self) -> &HardwareIdentity {
        &self.identity
    }

    fn security(&self) -> SecurityDescription {
        SecurityDescription {
            level: SecurityLevel::Software,
            anti_rollback: if self.medium.counter().is_some() {
                AntiRollback::Hardware
            } else {
                AntiRollback::None
            },
            storage_root: "memory".into(),
            missing: Vec::new(),
            version: "0.1.0".into(),
        }
    }

    fn derive(&self, label: &str, context: &[u8]) -> Result<Secret<[u8; 32]>, PlatformError> {
        software_derive(&RustCrypto, &self.tee_key, label, context)
            .map_err(|_| PlatformError::RootKey)
    }

    fn random(&self, out: &mut [u8]) -> Result<(), PlatformError> {
        let mut random = self.random.lock().unwrap();
        random.0.fill(out).map_err(|_| PlatformError::Random)?;
        if matches!(out.len(), 32 | 48) {
            random.1.push(out.to_vec());
        }
        Ok(())
    }

    fn system_time_ms(&self) -> u64 {
        self.medium.system_time_ms()
    }

    fn ree_time_ms(&self) -> u64 {
        NOW.0
    }

    fn blob_read(&self, name: &BlobName) -> Result<Option<Vec<u8>>, PlatformError> {
        self.medium.blob_read(name)
    }

    fn blob_write(&self, name: &BlobName, data: &[u8]) -> Result<(), PlatformError> {
        self.medium.blob_write(name, data)
    }

    fn blob_remove(&self, name: &BlobName) -> Result<(), PlatformError> {
        self.medium.blob_remove(name)
    }

    fn blob_list(&self, prefix: &str) -> Result<Vec<BlobName>, PlatformError> {
        self.medium.blob_list(prefix)
    }

    fn counter(&self) -> Option<&dyn MonotonicCounter> {
        self.medium.counter()
    }
}

/// The TEE behind a lock.
pub struct Lock(pub Mutex<Tee<Machine>>);

impl Lock {
    /// The TEE, alone.
    pub fn with<R>(&self, work: impl FnOnce(&mut Tee<Machine>) -> R) -> R {
        Exclusive::with(self, work)
    }
}

impl Exclusive<Tee<Machine>> for Lock {
    fn with<R>(&self, work: impl FnOnce(&mut Tee<Machine>) -> R) -> R {
        work(
            &mut self
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

/// A device: its machine, its TEE, and the sessions of its applications.
pub struct Device {
    pub machine: Machine,
    pub tee: Arc<Lock>,
    pub sessions: SessionManager,
    /// What its TEE and TAs wrote into their log.
    pub log: Arc<Mutex<Vec<String>>>,
    anchors: TrustAnchors,
}

/// Version, module, procedure and personalization data of an installed TA.
pub type Whole = (u64, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

/// A user of the device.
pub const ALICE: u32 = 1000;
/// Another user.
pub const BOB: u32 = 1001;

impl Device {
    fn new(world: &World, secret: DeviceSecret, with_counter: bool) -> Self {
        let release_keys = vec![
            world.ca.release_public_key().clone(),
            world.other_release_key.public_key().clone(),
        ];
        let anchors = TrustAnchors::new(release_keys, vec![world.tam.public_key().clone()]);
        let medium = TestPlatform::new(0);
        let machine = Machine {
            medium: if with_counter {
                medium.with_counter()
            } else {
                medium
            },
            identity: secret.identity,
            tee_key: Arc::new(secret.tee_key),
            random: Arc::new(Mutex::new((world.rng(), Vec::new()))),
        };
        Self::start(machine, anchors.unwrap()).unwrap()
    }

    fn start(machine: Machine, anchors: TrustAnchors) -> Result<Self, String> {
        let tee = Tee::new(machine.clone(), anchors.clone(), None).map_err(|e| e.to_string())?;
        let tee = Arc::new(Lock(Mutex::new(tee)));
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let (lines, clock) = (Arc::clone(&log), machine.medium.clone());
        let shared = SharedTee::<Machine, Lock>::new(
            Arc::clone(&tee),
            move |ms| clock.advance_ms(u64::from(ms)),
            move |_, line| lines.lock().unwrap().push(line.to_owned()),
        );
        let sessions = SessionManager::new(shared, InProcess, SessionLimits::default());
        Ok(Self {
            machine,
            tee,
            sessions,
            log,
            anchors,
        })
    }

    /// The same device after a power cut.
    pub fn rebooted(self) -> Self {
        self.try_reboot().unwrap()
    }

    /// The same, when the medium may have been tampered with.
    pub fn try_reboot(&self) -> Result<Self, String> {
        self.machine.medium.reboot();
        Self::start(self.machine.clone(), self.anchors.clone())
    }

    /// Everything in its trusted storage, as an attacker sees it.
    pub fn storage(&self) -> BTreeMap<String, Vec<u8>> {
        self.machine.medium.snapshot()
    }

    pub fn key(&self) -> PublicKey {
        self.tee.with(|tee| tee.keys().teep.public_key().clone())
    }

    /// Hands a TEEP message to the TEE.
    pub fn teep(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let outcome = self
            .tee
            .with(|tee| tee.handle_teep(message, &Payloads::new()));
        match outcome {
            Ok(TeepOutcome::Reply(reply)) => Ok(reply),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The reply of the TEE, whose signature is verified.
    pub fn reply(&self, message: &[u8]) -> Message {
        let reply = self.teep(message).unwrap();
        let verified = verify_sign1(&RustCrypto, &reply, &self.key(), b"", None).unwrap();
        Message::decode(verified.payload()).unwrap()
    }

    /// Sequence number of an installed TA.
    pub fn version(&self, ta: &TaUuid) -> Option<u64> {
        let found = self.tee.with(|tee| tee.installed(ta)).unwrap();
        found.map(|ta| ta.record.sequence_number)
    }

    /// The whole installed TA, to be compared.
    pub fn installed(&self, ta: &TaUuid) -> Option<Whole> {
        let found = self.tee.with(|tee| tee.installed(ta)).unwrap()?;
        let config = found.config.map(|c| c.expose_secret().clone());
        Some((
            found.record.sequence_number,
            found.module,
            found.procedure,
            config,
        ))
    }

    /// The device's personalization data.
    pub fn config(&self, ta: &TaUuid) -> Vec<u8> {
        self.installed(ta).unwrap().3.unwrap()
    }

    /// Steps 3 and 4 up to the Update, which is returned and not delivered.
    pub fn update_from(&self, world: &World, ta: &TaUuid) -> Vec<u8> {
        self.tee.with(|tee| tee.request_ta(ta)).unwrap();
        let query = world.teep_message(b"");
        world.teep_message(&self.teep(&query).unwrap())
    }

    /// Steps 3 and 4.
    pub fn install(&self, world: &World, ta: &TaUuid) {
        let update = self.update_from(world, ta);
        let success = self.teep(&update).unwrap();
        let (_, outcome) = world.teep(&success).unwrap();
        assert!(
            matches!(outcome, TamOutcome::Succeeded { .. }),
            "{outcome:?}"
        );
    }

    /// Opens a session as that user over a connection of its own.
    pub fn open(&self, ta: &TaUuid, user: u32) -> Session<'_> {
        self.try_open(ta, user)
            .unwrap_or_else(|code| panic!("{code:#x}"))
    }

    pub fn try_open(&self, ta: &TaUuid, user: u32) -> Result<Session<'_>, u32> {
        let caller = Caller {
            owner: u64::from(user),
            client: ClientIdentity::user(user),
        };
        self.open_as(ta, caller)
    }

    pub fn open_as(&self, ta: &TaUuid, caller: Caller) -> Result<Session<'_>, u32> {
        let control = CallControl::default();
        let reply = self
            .sessions
            .open_session(&caller, ta, Params::default(), &control);
        if reply.code != TEE_SUCCESS {
            return Err(reply.code);
        }
        Ok(Session {
            device: self,
            caller,
            number: reply.session,
        })
    }

    /// Steps 5 to 14; the certificate.
    pub fn enrol(
        &self,
        world: &World,
        ta: &TaUuid,
        user: u32,
        label: &[u8],
    ) -> Result<Vec<u8>, u32> {
        let session = self.try_open(ta, user)?;
        let request = session.call(ta::BEGIN, &[label])?;
        let (cp, _) = world.cmp(&request);
        let conf = session.call(ta::FINISH, &[label, &cp])?;
        if !conf.is_empty() {
            let (pki_conf, _) = world.cmp(&conf);
            session.call(ta::CONFIRM, &[label, &pki_conf])?;
        }
        session.certificate(label)
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
        self.device
            .sessions
            .close_session(&self.caller, self.number);
    }
}

impl Session<'_> {
    /// Inputs in the first parameters, output in the third.
    pub fn call(&self, command: u32, inputs: &[&[u8]]) -> Result<Vec<u8>, u32> {
        let mut params = Params::default();
        for (param, input) in params.iter_mut().zip(inputs) {
            *param = Param::MemrefInput {
                buffer: input.to_vec(),
            };
        }
        if !matches!(command, ta::CONFIRM | ta::DELETE) {
            params[2] = Param::MemrefOutput { size: 16 * 1024 };
        }
        self.invoke(command, params)
    }

    /// The certificate of a label, DER.
    pub fn certificate(&self, label: &[u8]) -> Result<Vec<u8>, u32> {
        let mut params = Params::default();
        params[0] = Param::MemrefInput {
            buffer: label.to_vec(),
        };
        params[1] = Param::ValueInput { a: 1, b: 0 };
        params[2] = Param::MemrefOutput { size: 16 * 1024 };
        self.invoke(ta::GET_CERTIFICATE, params)
    }

    pub fn invoke(&self, command: u32, params: Params) -> Result<Vec<u8>, u32> {
        let control = CallControl::default();
        let sessions = &self.device.sessions;
        let reply = sessions.invoke(&self.caller, self.number, command, params, &control);
        if reply.code != TEE_SUCCESS {
            return Err(reply.code);
        }
        match reply.params.into_iter().nth(2) {
            Some(ParamOut::Memref { buffer, .. }) => Ok(buffer),
            _ => Ok(Vec::new()),
        }
    }
}

/// Signs a TEEP message as whoever has that key.
pub fn sign_teep(key: &PrivateKey, message: impl Into<Message>) -> Vec<u8> {
    let payload = message.into().encode().unwrap();
    sign1(key, &payload, &Sign1Headers::default(), b"", false).unwrap()
}

/// The TEEP message under a signature, whoever signed.
pub fn open_teep(key: &PublicKey, bytes: &[u8]) -> Message {
    let verified = verify_sign1(&RustCrypto, bytes, key, b"", None).unwrap();
    Message::decode(verified.payload()).unwrap()
}

/// `bytes` with one bit of byte `at` flipped; which one goes round with the position.
pub fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out[at] ^= 1 << (at % 8);
    out
}

/// The stride over positions: as given, or 1 when `TEGATA_ATTACKS=all` asks for every one.
pub fn sampled(stride: usize) -> usize {
    let all = std::env::var("TEGATA_ATTACKS").is_ok_and(|what| what == "all");
    if all { 1 } else { stride }
}
