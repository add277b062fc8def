//! One installation: factory, CA, TAM, Verifier, devices, the network between them, and the ghost
//! that remembers what it saw so that invariants can be judged.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use tegata_authority::factory::{BatchSpec, make_devices, sign_manifest};
use tegata_authority::tam::availability::Availability;
use tegata_authority::tam::session::appraisal_request;
use tegata_authority::tam::update::{
    ReadyRelease, TaPayload, dependent_envelope, payloads_from_delivery,
};
use tegata_crypto::cose::verify_sign1;
use tegata_crypto::csr_auth::device_csr_auth_key;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _, PublicKey, Secret};
use tegata_store::issuer::{CmpOutcome, NewRelease};
use tegata_store::status::StatusSettings;
use tegata_store::tam::{TeepAnswer, TeepOutcome as TamOutcome};
use tegata_store::{release, teep};
use tegata_tee::TrustAnchors;
use tegata_tee::gp::params::Param;
use tegata_tee::teep::{Payloads, TeepOutcome};
use tegata_tee::testing::Crash;
use tegata_wire::device::Oem;
use tegata_wire::enrolment::{Delivery, ReleasePackage};
use tegata_wire::ids::{Digest, ReleaseDigest, SignerId, TaUuid};
use tegata_wire::teep::{Message, Token, Update};
use tegata_wire::x509::CertView;

use crate::asked::Asked;
use crate::clock::{Clock, TrueTime};
use crate::device::{App, Device, Failed, Held, Job, LABELS, Slot, bytes_in, command};
use crate::network::{Body, Network, Node, Packet, Tap, describe, latency_ms};
use crate::ops::{Op, Role, Rule, Whose};
use crate::platform::SimPlatform;
use crate::prng::{Prng, choose};
use crate::secrets::Secrets;
use crate::servers::{self, Ca, CaSettings, Died, Lines, SEALING_KEY, Tam, Verifier};

/// A batch as it left the line.
pub struct Batch {
    pub name: String,
    pub manifest: Vec<u8>,
    pub keks: Vec<u8>,
}

/// A release as the operator has it.
pub struct Release {
    pub digest: ReleaseDigest,
    pub sequence: u64,
    pub module: Digest,
    pub package: Vec<u8>,
    pub envelope: Vec<u8>,
}

/// What was seen, to judge by.
#[derive(Default)]
pub struct Ghost {
    /// Certificates answered by the CA, by device and digest of the CSR.
    pub answered: BTreeMap<(Vec<u8>, [u8; 32]), Vec<u8>>,
    /// Certificates seen anywhere, by serial number.
    pub serials: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The same serial number, another certificate.
    pub serial_conflicts: Vec<String>,
    /// The same CSR of the same device, another certificate.
    pub request_conflicts: Vec<String>,
    /// How often a challenge led to something.
    pub challenges: BTreeMap<Vec<u8>, u32>,
    /// A program used another's key.
    pub thefts: Vec<String>,
    /// A secret was seen outside.
    pub leaks: Vec<String>,
    /// A module used the CsrAuthKey of another release.
    pub mixed_releases: Vec<String>,
    /// Keys that some request asked a certificate for (SubjectPublicKeyInfo, DER).
    pub device_keys: BTreeSet<Vec<u8>>,
    /// A device that should be enrolled by now.
    pub stuck: Vec<String>,
}

/// Parts of the pump that a self-test breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pump {
    #[default]
    Whole,
    /// The caller's identity is taken from the message.
    BelievesCallers,
    /// Confirmations are not carried.
    DropsConfirmations,
}

/// Counters, to see that a run did something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub packets: u32,
    pub installed: u32,
    pub issued: u32,
    pub confirmed: u32,
    pub signed: u32,
    pub refused: u32,
    pub server_deaths: u32,
    pub device_deaths: u32,
    pub settle_rounds: u32,
    pub secrets: usize,
    pub scanned: u64,
}

pub struct World {
    pub seed: u64,
    pub paper: bool,
    /// Whether certificates need no confirmation.
    pub implicit: bool,
    /// What kind of world it is, for people.
    pub kind: String,
    /// Where the stores are, as long as the world exists.
    pub dir: tempfile::TempDir,
    pub time: TrueTime,
    pub ca: RefCell<Ca>,
    pub tam: Tam,
    pub verifier: RefCell<Verifier>,
    pub factory: PrivateKey,
    pub factory_rng: Prng,
    pub batches: Vec<Batch>,
    pub releases: Vec<Release>,
    pub devices: Vec<Device>,
    pub network: Network,
    pub tap: RefCell<Tap>,
    pub rng: RefCell<Prng>,
    pub ta: TaUuid,
    pub ghost: Ghost,
    pub secrets: Secrets,
    pub pump: Pump,
    pub tally: Tally,
    /// Nothing goes wrong any more.
    pub calm: bool,
}

/// The enrolment TA as it is shipped.
pub static MODULE: &[u8] = include_bytes!("../../tas/enrol/enrol.wasm");

/// Where devices fetch encrypted TAs from, in worlds that do not put them into messages.
const PAYLOAD_URL: &str = "http://cdn.sim/ta";
/// Path of the CMP resource.
pub const CMP_PROFILE: &str = "device";

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Prng::new(seed, "world");
        let dir = servers::disks();
        let time = TrueTime::new();
        let key_kind = match rng.below(8) {
            0 => "Ed25519",
            1 => "P-384",
            _ => "P-256",
        };
        let issuing_alg = match rng.below(8) {
            0 => KeyAlg::Ed25519,
            1 => KeyAlg::P384,
            _ => KeyAlg::P256,
        };
        let implicit = rng.chance(20);
        let paper = rng.chance(15);
        let payload_url = rng.chance(50).then(|| PAYLOAD_URL.to_owned());
        let kind = format!(
            "device keys {key_kind}, CA key {issuing_alg:?}, paper: {paper}, implicit \
             confirmation: {implicit}, TA fetched: {}",
            payload_url.is_some()
        );
        let settings = CaSettings {
            profiles: profiles(key_kind, implicit),
            status: StatusSettings::default(),
        };
        let ca = servers::new_ca(dir.path(), seed, Clock::new(&time), issuing_alg, settings);
        let tam = servers::new_tam(dir.path(), seed, Clock::new(&time), payload_url);
        let verifier = servers::new_verifier(dir.path(), seed, Clock::new(&time));
        let mut factory_rng = Prng::new(seed, "factory");
        let factory = PrivateKey::generate(KeyAlg::P256, &mut factory_rng).unwrap();
        servers::introduce(&ca, &tam, &verifier, &factory);
        let signer = SignerId(ca.service().release_public_key().thumbprint());
        let ta = TaUuid::derive(&signer, "enrol");
        let mut secrets = Secrets::default();
        secrets.add("factory key", factory.expose_scalar_bytes().expose_secret());
        for (role, names) in [
            (
                ca.role(),
                &["ca root key", "ca issuing key", "ca release key"][..],
            ),
            (tam.role(), &["tam key", "tam exchange key"][..]),
            (verifier.role(), &["verifier key"][..]),
        ] {
            for name in names {
                let key = role.open_key(name).unwrap();
                secrets.add(*name, key.expose_scalar_bytes().expose_secret());
            }
        }
        Self {
            seed,
            paper,
            implicit,
            kind,
            dir,
            time,
            ca: RefCell::new(ca),
            tam,
            verifier: RefCell::new(verifier),
            factory,
            factory_rng,
            batches: Vec::new(),
            releases: Vec::new(),
            devices: Vec::new(),
            network: Network::default(),
            tap: RefCell::default(),
            rng: RefCell::new(rng),
            ta,
            ghost: Ghost::default(),
            secrets,
            pump: Pump::default(),
            tally: Tally::default(),
            calm: false,
        }
    }

    /// Carries out one operation; says what came of it.
    pub fn run(&mut self, op: Op) -> String {
        let pause = self.rng.borrow_mut().below(3_000);
        self.time.advance(pause);
        match op {
            Op::MakeBatch { count } => self.make_batch(count),
            Op::Import { batch, at } => self.import(batch, at),
            Op::CutRelease { variant } => self.cut_release(variant),
            Op::Register { release, at } => self.register(release, at),
            Op::Stage { release, rule, at } => self.stage(release, rule, at),
            Op::Sync { device, want } => self.on(device, |w, d| w.sync(d, want)),
            Op::Enrol { device, slot } => self.on(device, |w, d| w.enrol(d, slot)),
            Op::Sign { device, slot } => self.on(device, |w, d| w.sign(d, slot, slot.0)),
            Op::WrongApp {
                device,
                slot,
                thief,
                command,
            } => self.on(device, |w, d| w.wrong_app(d, slot, thief, command)),
            Op::Delete { device, slot } => self.on(device, |w, d| w.delete(d, slot)),
            Op::CloseSession { device, app } => self.on(device, |w, d| {
                w.devices[d].close_session(app);
                "closed".into()
            }),
            Op::Deliver { pick } => self.deliver(pick),
            Op::Flow { pick, count } => {
                let mut came = Vec::new();
                for n in 0..count {
                    self.time.advance(300);
                    came.push(self.deliver(pick.wrapping_mul(n + 1)));
                }
                came.retain(|came| came != "-");
                came.join(" | ")
            }
            Op::Drop { pick } => {
                let now = self.time.now_ms();
                said(self.network.take(pick, now).as_ref().map(describe))
            }
            Op::Duplicate { pick } => said(self.network.duplicate(pick)),
            Op::Delay { pick, ms } => {
                let until = self.time.now_ms() + i64::from(ms);
                said(self.network.delay(pick, until))
            }
            Op::Corrupt { pick, how } => said(self.network.corrupt(pick, how)),
            Op::Replay { cmp, pick } => self.replay(cmp, pick),
            Op::OfferTeep { device, pick } => self.on(device, |w, d| w.offer_teep(d, pick)),
            Op::OfferCmp {
                device,
                slot,
                pick,
                confirm,
            } => self.on(device, |w, d| w.offer_cmp(d, slot, pick, confirm)),
            Op::InsiderOther { device, other } => self.on(device, |w, d| w.insider_other(d, other)),
            Op::InsiderOlder { device, pick } => self.on(device, |w, d| w.insider_older(d, pick)),
            Op::CrashDevice { device, at, kept } => self.on(device, |w, d| {
                let crash = if kept { Crash::Kept } else { Crash::Lost };
                w.devices[d].platform.medium.crash_at(u64::from(at), crash);
                format!("device {d}")
            }),
            Op::PowerCut { device } => self.on(device, |w, d| {
                w.devices[d].power_off();
                w.tally.device_deaths += 1;
                format!("device {d}")
            }),
            Op::Boot { device } => self.on(device, |w, d| format!("up: {}", w.boot(d))),
            Op::CrashServer { role, at } => {
                match role {
                    Role::Ca => self.ca.get_mut().faults.arm(at),
                    Role::Tam => self.tam.faults.arm(at),
                    Role::Verifier => self.verifier.get_mut().faults.arm(at),
                }
                "armed".into()
            }
            Op::Restart { role } => {
                match role {
                    Role::Ca => self.ca.get_mut().restart(),
                    Role::Tam => self.tam.restart(),
                    Role::Verifier => self.verifier.get_mut().restart(),
                }
                "restarted".into()
            }
            Op::Jump { whose, ms } => {
                let clock = match whose {
                    Whose::Server(Role::Ca) => self.ca.get_mut().clock.clone(),
                    Whose::Server(Role::Tam) => self.tam.clock.clone(),
                    Whose::Server(Role::Verifier) => self.verifier.get_mut().clock.clone(),
                    Whose::Device(pick) => match choose(&self.devices, pick) {
                        Some(device) => device.platform.clock.clone(),
                        None => return "-".into(),
                    },
                };
                clock.jump(ms);
                format!("{} s", ms / 1000)
            }
            Op::Wait { ms } => {
                self.time.advance(u64::from(ms));
                "waited".into()
            }
        }
    }

    fn on(&mut self, pick: u32, work: impl FnOnce(&mut Self, usize) -> String) -> String {
        match self.devices.len() {
            0 => "-".into(),
            len => work(self, pick as usize % len),
        }
    }

    // The factory and the operator.

    pub fn make_batch(&mut self, count: u32) -> String {
        if self.devices.len() + count as usize > DEVICES_MAX {
            return "-".into();
        }
        let number = self.batches.len();
        let name = format!("B{number}");
        let spec = batch_spec(&name);
        let now = Clock::new(&self.time).secs();
        let made = make_devices(
            &RustCrypto,
            &mut self.factory_rng,
            &spec,
            count as usize,
            now,
        );
        let made = made.unwrap();
        let manifest = sign_manifest(&made.manifest, &self.factory).unwrap();
        self.batches.push(Batch {
            name,
            manifest,
            keks: made.keks.encode().unwrap().to_vec(),
        });
        let anchors = TrustAnchors::new(
            vec![self.ca.get_mut().service().release_public_key().clone()],
            vec![self.tam.service().public_key().clone()],
        )
        .unwrap();
        for secret in made.secrets {
            let index = self.devices.len();
            let prng = Prng::new(self.seed, &format!("device {index}"));
            let platform = SimPlatform::new(
                secret.identity,
                &secret.tee_key,
                Clock::new(&self.time),
                prng,
                index % 2 == 1,
            );
            let mut device = Device::new(index, platform, anchors.clone());
            device.boot();
            for (what, bytes) in device.own_secrets() {
                self.secrets
                    .add(format!("{what} of device {index}"), &bytes);
            }
            self.devices.push(device);
        }
        self.learn_release_secrets();
        format!("{count} devices")
    }

    fn import(&mut self, batch: u32, at: Role) -> String {
        let Some(batch) = choose(&self.batches, batch) else {
            return "-".into();
        };
        let (manifest, keks) = (&batch.manifest, &batch.keks);
        self.tap
            .borrow_mut()
            .record(Node::Factory, Node::Operator, "manifest", manifest);
        let paper = self.paper;
        let done = match at {
            Role::Ca => self
                .ca
                .get_mut()
                .run(|ca, _, clock| ca.role().import_devices(manifest, clock.secs()).map(drop)),
            Role::Tam => self.tam.run(|tam, rng, clock| {
                tam.role().import_devices(manifest, clock.secs())?;
                if paper {
                    tam.import_keks(keks, rng)?;
                }
                Ok(())
            }),
            Role::Verifier => self
                .verifier
                .get_mut()
                .run(|v, _, clock| v.role().import_devices(manifest, clock.secs()).map(drop)),
        };
        outcome(done.map(|r| r.map_err(|e| e.code().to_owned())))
    }

    /// Cuts a release. Its bytes differ from the last one's in a section that says nothing.
    pub fn cut_release(&mut self, variant: u32) -> String {
        if self.releases.len() >= RELEASES_MAX {
            return "-".into();
        }
        let module = module(variant % 3);
        let exchange = self.tam.service().exchange_public_key().clone();
        let paper = self.paper.then_some(&exchange);
        let done = self.ca.get_mut().run(|ca, rng, clock| {
            let new = NewRelease {
                ta_name: "enrol",
                module: &module,
                profiles: &[CMP_PROFILE],
                paper_exchange_key: paper,
                available: &Availability::Everybody,
            };
            ca.release(&new, rng, clock.secs())
        });
        self.learn_release_secrets();
        match done {
            Ok(Ok(cut)) => {
                self.releases.push(Release {
                    digest: cut.digest,
                    sequence: cut.sequence,
                    module: Digest(RustCrypto.sha256(&module)),
                    package: cut.package,
                    envelope: cut.ta_envelope,
                });
                format!("sequence {}", cut.sequence)
            }
            Ok(Err(error)) => error.code().into(),
            // The release is in the CA's store or not; its package is in nobody's hands.
            Err(died) => format!("CA died {} {}", died.when, died.step),
        }
    }

    fn register(&mut self, release: u32, at: Role) -> String {
        let Some(release) = choose(&self.releases, release) else {
            return "-".into();
        };
        let done = match at {
            Role::Verifier => {
                self.tap.borrow_mut().record(
                    Node::Operator,
                    Node::Verifier,
                    "reference value",
                    &release.envelope,
                );
                self.verifier.get_mut().run(|v, _, clock| {
                    v.import_reference_value(&release.envelope, clock.secs())
                        .map(drop)
                })
            }
            _ => {
                let mut tap = self.tap.borrow_mut();
                tap.record(Node::Operator, Node::Tam, "package", &release.package);
                let rule = Availability::Everybody;
                self.tam.run(|tam, _, clock| {
                    tam.import_release(&release.package, &rule, clock.secs())
                        .map(drop)
                })
            }
        };
        outcome(done.map(|r| r.map_err(|e| e.code().to_owned())))
    }

    fn stage(&mut self, release: u32, rule: Rule, at: Role) -> String {
        let Some(digest) = choose(&self.releases, release).map(|r| r.digest) else {
            return "-".into();
        };
        let rule = match rule {
            Rule::Nobody => Availability::Nobody,
            Rule::Everybody => Availability::Everybody,
            Rule::Half => Availability::Percent(50),
            Rule::Withdrawn => Availability::Withdrawn,
            Rule::OneBatch(pick) => Availability::Batches(
                choose(&self.batches, pick)
                    .map(|b| b.name.clone())
                    .into_iter()
                    .collect(),
            ),
            Rule::OneDevice(pick) => Availability::Devices(
                choose(&self.devices, pick)
                    .map(|d| d.ueid)
                    .into_iter()
                    .collect(),
            ),
        };
        let done = match at {
            Role::Ca => self
                .ca
                .get_mut()
                .run(|ca, _, _| ca.set_availability(&digest, &rule)),
            _ => self
                .tam
                .run(|tam, _, _| tam.set_availability(&digest, &rule)),
        };
        outcome(done.map(|r| r.map_err(|e| e.code().to_owned())))
    }

    /// Opens the CA's sealed release secrets, to know what must never be seen.
    fn learn_release_secrets(&mut self) {
        let ca = self.ca.get_mut();
        let rows = ca.role().store.read("releases", release::list).unwrap();
        let key = tegata_crypto::seal::SealingKey::new(Secret::new(SEALING_KEY));
        for row in rows {
            let digest = row.digest;
            let full = ca
                .role()
                .store
                .read("release", |tx| release::find(tx, &digest))
                .unwrap()
                .unwrap();
            let sealed = full.sealed.unwrap();
            let plain = tegata_crypto::seal::open(&RustCrypto, &key, "ca release secrets", &sealed);
            let plain = plain.unwrap();
            let (master, cek) = plain.expose_secret().split_first_chunk::<32>().unwrap();
            let sequence = row.sequence;
            self.secrets
                .add(format!("CsrAuthKey master of release {sequence}"), master);
            self.secrets.add(format!("CEK of release {sequence}"), cek);
            let master = Secret::new(*master);
            for device in &self.devices {
                let ueid = device.ueid.as_bytes();
                let key = device_csr_auth_key(&RustCrypto, &master, &digest.0, ueid).unwrap();
                let name = format!("CsrAuthKey of release {sequence}, device {}", device.number);
                self.secrets.add(name, key.expose_secret());
            }
        }
    }

    // Devices.

    fn boot(&mut self, d: usize) -> bool {
        let up = self.devices[d].boot();
        if !up {
            self.tally.device_deaths += 1;
        }
        up
    }

    pub fn sync(&mut self, d: usize, want: bool) -> String {
        if !self.boot(d) {
            return "died at start".into();
        }
        let ta = self.ta;
        match self.devices[d].contact(&ta, want) {
            Ok(true) => {
                // A new visit ends the one before.
                self.devices[d]
                    .jobs
                    .retain(|_, job| !matches!(job, Job::Teep | Job::Fetch { .. }));
                self.send_teep(d, Vec::new());
                "begun".into()
            }
            Ok(false) => "nothing to ask".into(),
            Err(failed) => failed.to_string(),
        }
    }

    fn send(&mut self, conn: u64, from: Node, to: Node, body: Body) {
        self.tap
            .borrow_mut()
            .record(from, to, body.kind(), body.bytes());
        let delay = latency_ms(&mut self.rng.borrow_mut());
        self.network.send(Packet {
            conn,
            from,
            to,
            body,
            due_ms: self.time.now_ms() + delay as i64,
        });
    }

    fn send_teep(&mut self, d: usize, message: Vec<u8>) {
        let conn = self.network.connect();
        self.devices[d].jobs.insert(conn, Job::Teep);
        self.send(conn, Node::Device(d), Node::Tam, Body::Teep(message));
    }

    /// One enrolment, from the start: every step may be repeated.
    pub fn enrol(&mut self, d: usize, slot: Slot) -> String {
        if !self.boot(d) {
            return "died at start".into();
        }
        let ta = self.ta;
        let begun = match self.devices[d].begin(&ta, slot) {
            Ok(begun) => begun,
            Err(failed) => return failed.to_string(),
        };
        let told = self.note_request(d, slot, &begun.message, begun.module);
        self.devices[d]
            .jobs
            .retain(|_, job| !matches!(job, Job::Request(s) | Job::Confirm(s) if *s == slot));
        let conn = self.network.connect();
        self.devices[d].jobs.insert(conn, Job::Request(slot));
        let body = Body::Cmp {
            path: CMP_PROFILE.into(),
            message: begun.message,
        };
        self.send(conn, Node::Device(d), Node::Ca, body);
        told
    }

    /// A request came out of the TA in a device.
    pub fn note_request(
        &mut self,
        d: usize,
        slot: Slot,
        message: &[u8],
        module: Option<Digest>,
    ) -> String {
        let Asked { digest, spki, kid } = Asked::of(message);
        let fresh = self.devices[d].requested.insert(digest);
        // What the CA refused to a certificate the release asks for, with the same new key.
        if self.ghost.device_keys.insert(spki.clone()) {
            // One of the draws is the private key: the one whose public half is in the request.
            let found = self.devices[d].platform.take_scalar(|scalar| {
                KeyAlg::ALL.into_iter().any(|alg| {
                    PrivateKey::from_scalar_bytes(alg, scalar)
                        .is_ok_and(|key| key.public_key().to_spki_der().unwrap() == spki)
                })
            });
            let scalar = found.unwrap_or_else(|| panic!("no draw is the key of device {d}"));
            self.secrets
                .add(format!("device key {slot:?} of device {d}"), &scalar);
        }
        let of = self
            .releases
            .iter()
            .find(|release| kid.is_of(&release.digest));
        if let (Some(ran), Some(of)) = (module, of)
            && ran != of.module
        {
            let sequence = of.sequence;
            self.ghost.mixed_releases.push(format!(
                "device {d}: a session with module {ran} made a request with the CsrAuthKey \
                     of release {sequence}, which is of another module"
            ));
        }
        format!("request, new: {fresh}")
    }

    fn sign(&mut self, d: usize, slot: Slot, by: App) -> String {
        if !self.boot(d) {
            return "died at start".into();
        }
        let ta = self.ta;
        let held = self.devices[d]
            .held
            .iter()
            .find(|held| held.slot == slot)
            .cloned();
        let message = format!("a message for device {d}");
        let key = held.as_ref().map(key_of);
        let digest = match key.as_ref().map(PublicKey::alg) {
            Some(KeyAlg::P384) => RustCrypto.sha384(message.as_bytes()).to_vec(),
            Some(KeyAlg::Ed25519) => message.as_bytes().to_vec(),
            _ => RustCrypto.sha256(message.as_bytes()).to_vec(),
        };
        let done = self.devices[d].call(&ta, by, command::SIGN, slot.1, bytes_in(&digest));
        match (done, key) {
            (Ok(signature), Some(key)) => {
                RustCrypto
                    .verify(&key, message.as_bytes(), &signature)
                    .unwrap();
                self.tally.signed += 1;
                "signed".into()
            }
            (Ok(_), None) => "signed with a key that was not seen before".into(),
            (Err(failed), _) => failed.to_string(),
        }
    }

    /// A program tries to use a key of another's, and to find out whether there is one.
    pub fn wrong_app(&mut self, d: usize, slot: Slot, thief: App, command: u32) -> String {
        if thief == slot.0 || !self.boot(d) {
            return "-".into();
        }
        // The thief may have a key of that name itself: that is its own business.
        let own = self.devices[d]
            .held
            .iter()
            .any(|held| held.slot == (thief, slot.1));
        if own {
            return "-".into();
        }
        let ta = self.ta;
        let caller = match self.pump {
            Pump::BelievesCallers => slot.0,
            _ => thief,
        };
        let input = match command {
            command::GET_CERTIFICATE => Some(Param::ValueInput { a: 1, b: 0 }),
            command::SIGN => bytes_in(&[7; 32]),
            command::ENROL_FINISH | command::ENROL_CONFIRM => bytes_in(&[0x30, 0]),
            _ => None,
        };
        let pending = self.has_pending(d, (thief, slot.1));
        if pending {
            return "-".into();
        }
        let done = self.devices[d].call(&ta, caller, command, slot.1, input);
        match done {
            Ok(_) => {
                let told = format!("device {d}: {thief:?} used command {command} on {slot:?}");
                self.ghost.thefts.push(told.clone());
                told
            }
            Err(failed) => {
                self.tally.refused += 1;
                failed.to_string()
            }
        }
    }

    /// Whether the slot has a request under way, as its owner sees it.
    fn has_pending(&mut self, d: usize, slot: Slot) -> bool {
        let ta = self.ta;
        self.devices[d].public_key(&ta, slot).is_ok()
    }

    fn delete(&mut self, d: usize, slot: Slot) -> String {
        if !self.boot(d) {
            return "died at start".into();
        }
        let ta = self.ta;
        match self.devices[d].call(&ta, slot.0, command::DELETE, slot.1, None) {
            Ok(_) => "deleted".into(),
            Err(failed) => failed.to_string(),
        }
    }

    // The network.

    fn deliver(&mut self, pick: u32) -> String {
        let now = self.time.now_ms();
        match self.network.take(pick, now) {
            Some(packet) => self.arrive(packet),
            None => "-".into(),
        }
    }

    /// A packet arrives where it goes to.
    pub fn arrive(&mut self, packet: Packet) -> String {
        self.tally.packets += 1;
        let told = describe(&packet);
        let Packet {
            conn,
            from,
            to,
            body,
            ..
        } = packet;
        let came = match (to, body) {
            (Node::Tam, Body::Teep(message)) => self.at_tam(conn, from, &message),
            (Node::Tam, Body::Fetch { uri }) => self.at_cdn(conn, from, &uri),
            (Node::Ca, Body::Cmp { path, message }) => self.at_ca(conn, from, &path, &message),
            (Node::Device(d), body) => self.at_device(d, conn, body),
            (to, body) => panic!("{} for {to}", body.kind()),
        };
        format!("{told}: {came}")
    }

    pub fn at_tam(&mut self, conn: u64, from: Node, message: &[u8]) -> String {
        let lines = Lines {
            ca: &self.ca,
            verifier: &self.verifier,
            tap: &self.tap,
            rng: &self.rng,
            trouble_percent: if self.calm { 0 } else { 4 },
            altered: None,
        };
        let done = match servers::teep(&mut self.tam, &lines, message) {
            Ok(done) => done,
            // The connection breaks; whoever waits notices or not.
            Err(died) => return format!("TAM died {} {}", died.when, died.step),
        };
        let (answer, told) = match done {
            Ok((answer, outcome)) => {
                self.note_teep(message, &outcome);
                let bytes = match answer {
                    TeepAnswer::Message(bytes) => bytes,
                    TeepAnswer::Nothing => Vec::new(),
                };
                (Some(bytes), teep_told(&outcome))
            }
            Err(fault) => {
                self.tally.refused += 1;
                (None, fault.code().to_owned())
            }
        };
        self.send(conn, Node::Tam, from, Body::TeepAnswer(answer));
        told
    }

    /// The TAM acted on a message.
    fn note_teep(&mut self, message: &[u8], outcome: &TamOutcome) {
        match outcome {
            TamOutcome::Installing { .. }
            | TamOutcome::UpToDate { .. }
            | TamOutcome::Removing { .. } => {}
            TamOutcome::Succeeded { .. } => {
                self.tally.installed += 1;
                return;
            }
            _ => return,
        }
        let keys: Vec<PublicKey> = self.devices.iter().map(|d| d.teep_key.clone()).collect();
        let Ok(verified) = verify_sign1(&RustCrypto, message, keys.as_slice(), b"", None) else {
            panic!("the TAM acted on a message that no device signed")
        };
        let Message::QueryResponse(response) = Message::decode(verified.payload()).unwrap() else {
            panic!("the TAM acted on something else than a QueryResponse")
        };
        let nonce = appraisal_request(&response).unwrap().nonce;
        *self.ghost.challenges.entry(nonce).or_default() += 1;
    }

    fn at_cdn(&mut self, conn: u64, from: Node, uri: &str) -> String {
        let digest = uri
            .strip_prefix(PAYLOAD_URL)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|hex| hex.parse::<ReleaseDigest>().ok());
        let payload = digest.and_then(|digest| self.tam.service().payload(&digest).unwrap());
        let told = format!("found: {}", payload.is_some());
        self.send(
            conn,
            Node::Tam,
            from,
            Body::Payload(payload.map(|bytes| bytes.to_vec())),
        );
        told
    }

    pub fn at_ca(&mut self, conn: u64, from: Node, path: &str, message: &[u8]) -> String {
        let answer = match servers::cmp(self.ca.get_mut(), path, message) {
            Ok(answer) => answer,
            Err(died) => return format!("CA died {} {}", died.when, died.step),
        };
        let told = match &answer.outcome {
            CmpOutcome::Issued {
                ueid,
                certificate,
                again,
                ..
            } => {
                self.tally.issued += u32::from(!again);
                self.note_issued(message, ueid.as_bytes().to_vec(), certificate.clone());
                format!("issued, again: {again}")
            }
            CmpOutcome::Confirmed { accepted, .. } => {
                self.tally.confirmed += 1;
                format!("confirmed: {accepted}")
            }
            CmpOutcome::Denied(denial) => {
                self.tally.refused += 1;
                denial.code().to_owned()
            }
            _ => "?".into(),
        };
        let body = (!answer.body.is_empty()).then_some(answer.body);
        self.send(conn, Node::Ca, from, Body::CmpAnswer(body));
        told
    }

    /// The CA answered a request with a certificate.
    fn note_issued(&mut self, message: &[u8], ueid: Vec<u8>, certificate: Vec<u8>) {
        let digest = Asked::of(message).digest;
        self.note_certificate(&certificate);
        let ghost = &mut self.ghost;
        match ghost.answered.get(&(ueid.clone(), digest)) {
            Some(before) if *before != certificate => {
                let told = format!(
                    "CSR {} of {} got two certificates",
                    hex::encode(digest),
                    hex::encode(&ueid)
                );
                ghost.request_conflicts.push(told);
            }
            _ => {
                ghost.answered.insert((ueid, digest), certificate);
            }
        }
    }

    /// A certificate was seen somewhere.
    pub fn note_certificate(&mut self, certificate: &[u8]) {
        let view = CertView::from_der(certificate).unwrap();
        let serial = view.serial.to_vec();
        match self.ghost.serials.get(&serial) {
            Some(before) if before != certificate => {
                let told = format!("serial {} is of two certificates", hex::encode(&serial));
                self.ghost.serial_conflicts.push(told);
            }
            _ => {
                self.ghost.serials.insert(serial, certificate.to_vec());
            }
        }
    }

    fn at_device(&mut self, d: usize, conn: u64, body: Body) -> String {
        let Some(job) = self.devices[d].jobs.remove(&conn) else {
            return "nobody waits".into();
        };
        match (job, body) {
            (Job::Teep, Body::TeepAnswer(None)) => {
                self.devices[d].process_error();
                "visit failed".into()
            }
            (Job::Teep, Body::TeepAnswer(Some(message))) if message.is_empty() => "done".into(),
            (Job::Teep, Body::TeepAnswer(Some(message))) => {
                self.feed_teep(d, message, Payloads::new())
            }
            (Job::Fetch { .. }, Body::Payload(None)) => {
                self.devices[d].process_error();
                "no payload".into()
            }
            (
                Job::Fetch {
                    uri,
                    message,
                    mut payloads,
                },
                Body::Payload(Some(payload)),
            ) => {
                payloads.insert(uri, payload);
                self.feed_teep(d, message, payloads)
            }
            (Job::Request(_) | Job::Confirm(_), Body::CmpAnswer(None)) => "no answer".into(),
            (Job::Request(slot), Body::CmpAnswer(Some(cp))) => self.feed_cp(d, slot, &cp),
            (Job::Confirm(slot), Body::CmpAnswer(Some(conf))) => self.feed_conf(d, slot, &conf),
            (job, body) => panic!("{} for {job:?}", body.kind()),
        }
    }

    /// Hands a TEEP message to the TEE and sends what comes out.
    fn feed_teep(&mut self, d: usize, message: Vec<u8>, payloads: Payloads) -> String {
        match self.devices[d].handle_teep(&message, &payloads) {
            Ok(Ok(TeepOutcome::Reply(reply))) => {
                let len = reply.len();
                self.send_teep(d, reply);
                format!("replied, {len} bytes")
            }
            Ok(Ok(TeepOutcome::NeedPayload { uri, .. })) => {
                if payloads.contains_key(&uri) {
                    return "payload asked for twice".into();
                }
                let conn = self.network.connect();
                let job = Job::Fetch {
                    uri: uri.clone(),
                    message,
                    payloads,
                };
                self.devices[d].jobs.insert(conn, job);
                self.send(conn, Node::Device(d), Node::Tam, Body::Fetch { uri });
                "fetches".into()
            }
            Ok(Ok(_)) => "done".into(),
            Ok(Err(error)) => format!("TEE: {error}"),
            Err(failed) => self.died(failed),
        }
    }

    fn died(&mut self, failed: Failed) -> String {
        if failed == Failed::Dead {
            self.tally.device_deaths += 1;
        }
        failed.to_string()
    }

    fn feed_cp(&mut self, d: usize, slot: Slot, cp: &[u8]) -> String {
        let ta = self.ta;
        let done = self.devices[d].call(&ta, slot.0, command::ENROL_FINISH, slot.1, bytes_in(cp));
        match done {
            Ok(confirm) if confirm.is_empty() => "installed".into(),
            Ok(_) if self.pump == Pump::DropsConfirmations => "confirmation not carried".into(),
            Ok(message) => {
                let conn = self.network.connect();
                self.devices[d].jobs.insert(conn, Job::Confirm(slot));
                let path = CMP_PROFILE.into();
                let body = Body::Cmp { path, message };
                self.send(conn, Node::Device(d), Node::Ca, body);
                "accepted".into()
            }
            Err(failed) => self.died(failed),
        }
    }

    fn feed_conf(&mut self, d: usize, slot: Slot, conf: &[u8]) -> String {
        let ta = self.ta;
        let input = bytes_in(conf);
        match self.devices[d].call(&ta, slot.0, command::ENROL_CONFIRM, slot.1, input) {
            Ok(_) => "installed".into(),
            Err(failed) => self.died(failed),
        }
    }

    // Attackers.

    /// A recorded request is sent to its server again.
    fn replay(&mut self, cmp: bool, pick: u32) -> String {
        let kind = if cmp { "CMP" } else { "TEEP" };
        let Some(old) = self.tap.borrow().replay(kind, pick).cloned() else {
            return "-".into();
        };
        let conn = self.network.connect();
        if cmp {
            self.at_ca(conn, old.from, CMP_PROFILE, &old.bytes)
        } else {
            self.at_tam(conn, old.from, &old.bytes)
        }
    }

    fn offer_teep(&mut self, d: usize, pick: u32) -> String {
        let Some(old) = self.tap.borrow().replay("TEEP answer", pick).cloned() else {
            return "-".into();
        };
        if !self.boot(d) {
            return "died at start".into();
        }
        let came = self.feed_teep(d, old.bytes, Payloads::new());
        format!("of {}: {came}", old.to)
    }

    fn offer_cmp(&mut self, d: usize, slot: Slot, pick: u32, confirm: bool) -> String {
        let Some(old) = self.tap.borrow().replay("CMP answer", pick).cloned() else {
            return "-".into();
        };
        if !self.boot(d) {
            return "died at start".into();
        }
        let came = if confirm {
            self.feed_conf(d, slot, &old.bytes)
        } else {
            self.feed_cp(d, slot, &old.bytes)
        };
        format!("of {}: {came}", old.to)
    }

    /// The CA's delivery that the TAM keeps for a device.
    fn kept_delivery(&self, d: usize, digest: &ReleaseDigest) -> Option<Delivery> {
        let role = self.tam.role();
        let row = role.device(&self.devices[d].ueid).unwrap()?.row.id;
        let kept = role
            .store
            .read("delivery", |tx| teep::delivery(tx, row, digest));
        kept.unwrap().map(|kept| Delivery::decode(&kept).unwrap())
    }

    /// An Update of `release` for device `to`, with the CA's delivery for device `of`, signed with
    /// the TAM's own key.
    fn forged_update(&self, release: &Release, of: usize, to: usize) -> Option<Vec<u8>> {
        let delivery = self.kept_delivery(of, &release.digest)?;
        let package = ReleasePackage::decode(&release.package).unwrap();
        let keys = [self.ca.borrow().service().release_public_key().clone()];
        let ready = ReadyRelease::new(&RustCrypto, package, &keys).unwrap();
        let ta = TaPayload::Integrated(&ready.package().ta_ciphertext);
        let payloads = payloads_from_delivery(&RustCrypto, &ready, ta, delivery, &keys).unwrap();
        let signer = self.tam.role().open_signer("tam key").unwrap();
        let envelope = dependent_envelope(
            &RustCrypto,
            signer.as_ref(),
            &self.devices[to].ueid,
            &self.ta,
            release.sequence,
            payloads,
        );
        let update = Update {
            token: Some(Token::new(vec![7; 16]).unwrap()),
            manifest_list: Some(vec![envelope.unwrap().to_vec()]),
            ..Update::default()
        };
        let message = Message::Update(update);
        let signed = tegata_authority::tam::session::sign_message(signer.as_ref(), &message);
        Some(signed.unwrap())
    }

    fn insider_other(&mut self, d: usize, other: u32) -> String {
        let other = other as usize % self.devices.len();
        let forged = self
            .releases
            .iter()
            .rev()
            .find_map(|r| self.forged_update(r, other, d));
        let Some(forged) = forged.filter(|_| other != d) else {
            return "-".into();
        };
        if !self.boot(d) {
            return "died at start".into();
        }
        let came = self.feed_teep(d, forged, Payloads::new());
        format!("device {other}'s for device {d}: {came}")
    }

    fn insider_older(&mut self, d: usize, pick: u32) -> String {
        let Some(release) = choose(&self.releases, pick) else {
            return "-".into();
        };
        let sequence = release.sequence;
        let Some(forged) = self.forged_update(release, d, d) else {
            return "-".into();
        };
        if !self.boot(d) {
            return "died at start".into();
        }
        let came = self.feed_teep(d, forged, Payloads::new());
        format!("sequence {sequence} for device {d}: {came}")
    }

    // Looking.

    /// Looks at whatever may have changed.
    pub fn observe(&mut self) {
        let fresh = std::mem::take(&mut self.tap.borrow_mut().fresh);
        for crossing in fresh {
            self.tally.scanned += crossing.bytes.len() as u64;
            if let Some(name) = self.secrets.find_in(&crossing.bytes) {
                let (from, to, kind) = (crossing.from, crossing.to, crossing.kind);
                let told = format!("{name} in {kind} from {from} to {to}");
                self.ghost.leaks.push(told);
            }
        }
        for d in 0..self.devices.len() {
            if std::mem::take(&mut self.devices[d].dirty) {
                self.observe_device(d);
                self.devices[d].dirty = false;
            }
        }
        self.tally.secrets = self.secrets.len();
    }

    fn observe_device(&mut self, d: usize) {
        let ta = self.ta;
        let blobs = self.devices[d].platform.medium.snapshot();
        let device = &mut self.devices[d];
        for (name, blob) in &blobs {
            if device.seen_blobs.get(name) == Some(blob) {
                continue;
            }
            self.tally.scanned += blob.len() as u64;
            if let Some(secret) = self.secrets.find_in(blob) {
                let told = format!("{secret} in blob {name} of device {d}");
                self.ghost.leaks.push(told);
            }
        }
        let changed = device.seen_blobs != blobs;
        device.seen_blobs = blobs;
        // What is installed and held is on the medium: an unchanged medium needs no second look.
        device.to_look_at |= changed;
        if !device.is_up() || !device.to_look_at {
            return;
        }
        let Ok(record) = device.record(&ta) else {
            return;
        };
        device.sequence = record.as_ref().map(|(sequence, _)| *sequence);
        device.highest = device.highest.max(device.sequence.unwrap_or(0));
        if device.installed_as != record.as_ref().map(|(_, root)| *root) {
            let Ok(installed) = device.personalization(&ta) else {
                return;
            };
            device.personalization = installed;
            device.installed_as = record.map(|(_, root)| root);
        }
        let held = device.look(&ta).unwrap_or_default();
        for held in &held {
            device.confirmed.insert(held.certificate.clone());
        }
        device.held = held.clone();
        device.to_look_at = false;
        for held in held {
            self.note_certificate(&held.certificate);
        }
    }

    // The end.

    /// Faults stop; operators finish what they began; devices try again. Whoever is not enrolled
    /// after that is stuck.
    pub fn settle(&mut self) {
        self.calm = true;
        self.ca.get_mut().faults.disarm();
        self.tam.faults.disarm();
        self.verifier.get_mut().faults.disarm();
        self.ca.get_mut().clock.set_right();
        self.tam.clock.set_right();
        self.verifier.get_mut().clock.set_right();
        for device in &mut self.devices {
            device.platform.clock.set_right();
            if device.platform.medium.is_dead() || !device.is_up() {
                device.power_off();
            }
            // No more crashes are planned.
            device.platform.medium.reboot();
            device.boot();
        }
        self.drain();
        for batch in 0..self.batches.len() as u32 {
            for at in Role::ALL {
                self.import(batch, at);
            }
        }
        if self.releases.is_empty() {
            self.cut_release(0);
        }
        let newest = self.releases.len() as u32 - 1;
        self.register(newest, Role::Tam);
        // Devices may have older ones: the Verifier must know them to believe the devices.
        for release in 0..=newest {
            self.register(release, Role::Verifier);
        }
        for at in [Role::Ca, Role::Tam] {
            self.stage(newest, Rule::Everybody, at);
        }
        for round in 1..=SETTLE_ROUNDS_MAX {
            self.tally.settle_rounds = round;
            let stuck = self.settle_round();
            self.observe();
            if stuck.is_empty() {
                break;
            }
            if round == SETTLE_ROUNDS_MAX {
                self.ghost.stuck = stuck;
            }
        }
        self.observe_disks();
    }

    /// A stolen disk of a server gives away nothing either: secrets lie there sealed.
    fn observe_disks(&mut self) {
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            self.tally.scanned += bytes.len() as u64;
            if let Some(secret) = self.secrets.find_in(&bytes) {
                let told = format!("{secret} in {}", path.display());
                self.ghost.leaks.push(told);
            }
        }
    }

    /// Every device tries once; says who is not enrolled yet.
    fn settle_round(&mut self) -> Vec<String> {
        let mut stuck = Vec::new();
        for d in 0..self.devices.len() {
            let ta = self.ta;
            let mut log = Vec::new();
            // Whoever has the TA asks whether there is a newer one.
            let has = matches!(self.devices[d].record(&ta), Ok(Some(_)));
            log.push(self.sync(d, !has));
            log.extend(self.drain());
            let slot = (App::Main, LABELS[0]);
            log.push(self.enrol(d, slot));
            log.extend(self.drain());
            self.devices[d].close_session(App::Main);
            if !self.is_enrolled(d, slot) {
                stuck.push(format!("device {d} is not enrolled: {}", log.join("; ")));
            }
        }
        stuck
    }

    /// The newest release runs, a certificate is installed, and the CA knows it.
    fn is_enrolled(&mut self, d: usize, slot: Slot) -> bool {
        let ta = self.ta;
        let newest = self.releases.last().map(|release| release.sequence);
        let record = self.devices[d].record(&ta).ok().flatten();
        if record.map(|(sequence, _)| sequence) != newest {
            return false;
        }
        let held = self.devices[d].look(&ta).unwrap_or_default();
        let Some(held) = held.into_iter().find(|held| held.slot == slot) else {
            return false;
        };
        let rows = self.ca_rows();
        let row = rows
            .iter()
            .find(|row| row.der.as_ref() == Some(&held.certificate));
        row.is_some_and(|row| row.confirmed_at.is_some())
    }

    /// All certificates and intents of the CA.
    pub fn ca_rows(&self) -> Vec<tegata_store::certificate::Certificate> {
        let ca = self.ca.borrow();
        let rows = ca.role().store.read("certificates", |tx| {
            tegata_store::certificate::list(tx, &[], 1_000)
        });
        rows.unwrap()
    }

    /// Delivers everything in flight, and what comes of it.
    pub fn drain(&mut self) -> Vec<String> {
        let mut log = Vec::new();
        for _ in 0..DRAIN_MAX {
            if self.network.flying.is_empty() {
                break;
            }
            self.time.advance(1_000);
            let packet = self.network.flying.remove(0);
            log.push(self.arrive(packet));
        }
        log
    }
}

/// A batch of gateways.
pub fn batch_spec(name: &str) -> BatchSpec {
    BatchSpec {
        batch: name.into(),
        maker: "Example Works".into(),
        vendor_domain: "example.com".into(),
        oemid: Oem::Pen(32473),
        model: "gateway".into(),
        hwversion: "1.0".into(),
        serial_prefix: format!("{name}-"),
        first_number: 1,
        imei_type_code: Some(35_175_605),
        with_mac: true,
        security_level: "software".into(),
    }
}

/// The public key of a certificate that is held.
pub fn key_of(held: &Held) -> PublicKey {
    let view = CertView::from_der(&held.certificate).unwrap();
    PublicKey::from_spki_der(view.spki_der).unwrap()
}

fn teep_told(outcome: &TamOutcome) -> String {
    match outcome {
        TamOutcome::Installing { sequence, .. } => format!("installing {sequence}"),
        other => {
            let told = format!("{other:?}");
            told.chars().take(40).collect()
        }
    }
}

fn said(told: Option<String>) -> String {
    told.unwrap_or_else(|| "-".into())
}

fn outcome(done: Result<Result<(), String>, Died>) -> String {
    match done {
        Ok(Ok(())) => "ok".into(),
        Ok(Err(code)) => code,
        Err(died) => format!("died {} {}", died.when, died.step),
    }
}

/// The shipped module with a section that only makes it another one.
pub fn module(variant: u32) -> Vec<u8> {
    let mut out = MODULE.to_vec();
    let name = b"sim";
    out.extend_from_slice(&[0, 1 + name.len() as u8 + 1, name.len() as u8]);
    out.extend_from_slice(name);
    out.push(variant as u8);
    out
}

fn profiles(key_kind: &str, implicit: bool) -> String {
    format!(
        "[profile.{CMP_PROFILE}]\n\
         description = \"Simulated devices\"\n\
         key_algorithms = [\"{key_kind}\"]\n\
         subject = [{{ O = \"Example Works\" }}, {{ CN = \"{{model}} {{serial}}\" }}, \
                    {{ serialNumber = \"{{serial}}\" }}]\n\
         key_usage = [\"digitalSignature\"]\n\
         extended_key_usage = [\"clientAuth\"]\n\
         validity = \"365d\"\n\
         renewal_window = \"30d\"\n\
         implicit_confirm = {implicit}\n\
         [profile.{CMP_PROFILE}.san]\n\
         hardware_module_type = \"1.3.6.1.4.1.32473.1\"\n\
         permanent_identifier = \"{{ueid}}\"\n"
    )
}

const DEVICES_MAX: usize = 3;
const RELEASES_MAX: usize = 5;
/// Tries after the last fault.
const SETTLE_ROUNDS_MAX: u32 = 4;
/// Packets of one visit; more would be a loop.
const DRAIN_MAX: usize = 200;
