//! The installation: servers, devices, whoever looks after each, and the passing of years.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tegata_authority::factory::{make_devices, sign_manifest};
use tegata_authority::tam::availability::Availability;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey};
use tegata_store::certificate::{self, Certificate};
use tegata_store::device::DeviceId;
use tegata_store::issuer::NewRelease;
use tegata_store::status::StatusSettings;
use tegata_tee::TrustAnchors;
use tegata_wire::ids::{SignerId, TaUuid, Ueid};

use super::ledger::Ledger;
use super::queue::{DAY_MS, Event, HOUR_MS, Queue};
use super::relying::Party;
use crate::clock::{Clock, START_MS, TrueTime};
use crate::device::Device;
use crate::network::Tap;
use crate::platform::SimPlatform;
use crate::prng::Prng;
use crate::servers::{self, Ca, CaSettings, Tam, Verifier};
use crate::world::{CMP_PROFILE, batch_spec, module};

/// What is known of a device by the program that looks after its certificate, and by its owner.
#[derive(Default)]
pub struct Care {
    pub batch: String,
    /// Its row at the CA.
    pub row: Option<DeviceId>,
    /// The certificate that is installed.
    pub leaf: Option<Vec<u8>>,
    /// The CA certificates that it shows with it.
    pub way: Vec<Vec<u8>>,
    /// An answer was damaged in this visit, or in the one that installed the certificate: what lies beside
    /// a message is not signed, so a certificate that leads further may be missing.
    pub cut: (bool, bool),
    /// When there is something to do, true time.
    pub due_ms: i64,
    /// A relying party refused the certificate.
    pub refused: bool,
    /// It has had no power since the last wake.
    pub was_off: bool,
    /// It has no clock at all.
    pub clockless: bool,
    /// Newest release that it runs.
    pub sequence: u64,
    /// Tries in a row without trouble that did not help.
    pub tries: u32,
    /// The last try did not help, and somebody kept the device from it who may.
    pub obstructed: bool,
    /// Tries in a row that did not help.
    pub failures: u32,
}

/// Counters, to see that a run did something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub wakes: u64,
    pub visits: u64,
    pub check_ins: u64,
    pub installs: u64,
    pub issued: u64,
    pub first: u64,
    pub renewed: u64,
    pub returned: u64,
    pub replaced: u64,
    pub refused: u64,
    pub words: u64,
    pub revoked: u64,
    pub held: u64,
    pub lifted: u64,
    pub stops: u64,
    pub devices_revoked: u64,
    pub releases: u64,
    pub rollovers: u64,
    pub archived: u64,
    pub looks: u64,
    pub audits: u64,
    pub helps: u64,
    pub lost: u64,
    pub damaged: u64,
    pub doubled: u64,
    pub late: u64,
    pub forgeries: u64,
    pub server_deaths: u64,
    pub device_deaths: u64,
    pub power_offs: u64,
    pub longest_off_days: i64,
    pub device_clocks: u64,
    pub server_clocks: u64,
    /// Most certificates of a slot that lived on and were never confirmed.
    pub unconfirmed_max: usize,
}

impl Tally {
    /// Everything that went wrong.
    pub fn faults(&self) -> u64 {
        self.lost
            + self.damaged
            + self.doubled
            + self.late
            + self.forgeries
            + self.server_deaths
            + self.device_deaths
            + self.power_offs
            + self.device_clocks
            + self.server_clocks
    }
}

pub struct Fleet {
    pub dir: tempfile::TempDir,
    pub time: TrueTime,
    pub ca: RefCell<Ca>,
    pub tam: Tam,
    pub verifier: RefCell<Verifier>,
    pub ta: TaUuid,
    pub batches: Vec<String>,
    /// Sequence number of the newest release, and when it was cut.
    pub newest: (u64, i64),
    pub devices: Vec<Device>,
    pub cares: Vec<Care>,
    pub by_ueid: BTreeMap<Ueid, usize>,
    pub parties: Vec<Party>,
    pub queue: Queue,
    pub rng: RefCell<Prng>,
    pub tap: RefCell<Tap>,
    pub ledger: Ledger,
    pub tally: Tally,
    /// Nothing goes wrong any more.
    pub calm: bool,
    /// Something went wrong in this visit.
    pub troubled: bool,
    /// The operator lets devices return that stayed away for longer than the grace.
    pub helping: bool,
    pub help_asked: bool,
    /// Predicates that are on hold.
    pub holds: Vec<super::operator::Hold>,
    /// Requests that somebody recorded.
    pub heard: Vec<Vec<u8>>,
    /// See `Lines`.
    pub altered: Option<usize>,
    /// The part of the fleet that a self-test breaks.
    pub broken: Option<super::self_test::Broken>,
}

impl Fleet {
    pub fn new(seed: u64, devices: usize) -> Self {
        let dir = servers::disks();
        let time = TrueTime::new();
        let clock = || Clock::new(&time);
        let ca = servers::new_ca(dir.path(), seed, clock(), KeyAlg::P256, settings(false));
        let tam = servers::new_tam(dir.path(), seed, clock(), None);
        let verifier = servers::new_verifier(dir.path(), seed, clock());
        let mut factory_rng = Prng::new(seed, "years: factory");
        let factory = PrivateKey::generate(KeyAlg::P256, &mut factory_rng).unwrap();
        servers::introduce(&ca, &tam, &verifier, &factory);
        let signer = SignerId(ca.service().release_public_key().thumbprint());
        let mut fleet = Self {
            dir,
            ta: TaUuid::derive(&signer, "enrol"),
            ca: RefCell::new(ca),
            tam,
            verifier: RefCell::new(verifier),
            time,
            batches: Vec::new(),
            newest: (0, 0),
            devices: Vec::new(),
            cares: Vec::new(),
            by_ueid: BTreeMap::new(),
            parties: Vec::new(),
            queue: Queue::default(),
            rng: RefCell::new(Prng::new(seed, "years")),
            tap: RefCell::default(),
            ledger: Ledger::default(),
            tally: Tally::default(),
            calm: false,
            troubled: false,
            helping: false,
            help_asked: false,
            holds: Vec::new(),
            heard: Vec::new(),
            altered: None,
            broken: None,
        };
        let first_root = fleet.ca.get_mut().service().root_certificate().to_vec();
        fleet.parties = (0..PARTIES).map(|n| Party::new(n, &first_root)).collect();
        let per_batch = (devices / BATCHES).clamp(2, 500);
        while fleet.devices.len() < devices {
            let count = per_batch.min(devices - fleet.devices.len());
            fleet.make_batch(seed, count, &factory, &mut factory_rng);
        }
        fleet.cut_release();
        fleet
    }

    fn make_batch(&mut self, seed: u64, count: usize, factory: &PrivateKey, rng: &mut Prng) {
        let name = format!("B{}", self.batches.len());
        let now = Clock::new(&self.time).secs();
        let made = make_devices(&RustCrypto, rng, &batch_spec(&name), count, now).unwrap();
        let manifest = sign_manifest(&made.manifest, factory).unwrap();
        for role in [
            self.ca.get_mut().role(),
            self.tam.role(),
            self.verifier.get_mut().role(),
        ] {
            role.import_devices(&manifest, now).unwrap();
        }
        let anchors = TrustAnchors::new(
            vec![self.ca.get_mut().service().release_public_key().clone()],
            vec![self.tam.service().public_key().clone()],
        );
        let anchors = anchors.unwrap();
        for secret in made.secrets {
            let number = self.devices.len();
            let prng = Prng::new(seed, &format!("years: device {number}"));
            let clock = Clock::new(&self.time);
            let clockless = number % 8 == 7;
            if clockless {
                clock.jump(-START_MS);
            }
            let counter = number % 2 == 1;
            let identity = secret.identity;
            let platform = SimPlatform::new(identity, &secret.tee_key, clock, prng, counter);
            let device = Device::new(number, platform, anchors.clone());
            let row = self.ca.get_mut().role().device(&device.ueid).unwrap();
            self.by_ueid.insert(device.ueid, number);
            self.cares.push(Care {
                batch: name.clone(),
                row: row.map(|row| row.row.id),
                clockless,
                ..Care::default()
            });
            self.devices.push(device);
        }
        self.batches.push(name);
    }

    /// A new release of the TA, everywhere.
    pub fn cut_release(&mut self) {
        let module = module(self.newest.0 as u32 % 3);
        let cut = self.ca.get_mut().run(|ca, rng, clock| {
            let new = NewRelease {
                ta_name: "enrol",
                module: &module,
                profiles: &[CMP_PROFILE],
                paper_exchange_key: None,
                available: &Availability::Everybody,
            };
            ca.release(&new, rng, clock.secs()).unwrap()
        });
        let cut = cut.unwrap();
        let everybody = Availability::Everybody;
        let registered = self.tam.run(|tam, _, clock| {
            tam.import_release(&cut.package, &everybody, clock.secs())
                .unwrap();
        });
        registered.unwrap();
        let known = self.verifier.get_mut().run(|v, _, clock| {
            v.import_reference_value(&cut.ta_envelope, clock.secs())
                .unwrap();
        });
        known.unwrap();
        self.newest = (cut.sequence, self.time.now_ms());
        self.tally.releases += 1;
    }

    // The passing of years.

    /// Plans the first events, and everything that comes again and again.
    pub fn begin(&mut self) {
        let now = self.time.now_ms();
        for d in 0..self.devices.len() {
            let at = now + self.below(60 * DAY_MS);
            self.queue.put(at, Event::Wake(d));
        }
        self.queue.put(now + 70 * DAY_MS, Event::Operate);
        self.queue.put(now + 7 * DAY_MS, Event::Sweep);
        self.queue.put(now + 91 * DAY_MS, Event::Audit);
        for (days, number, root) in ROLLOVERS {
            let at = now + days * DAY_MS + self.below(60 * DAY_MS);
            self.queue.put(at, Event::RollOver { number, root });
        }
    }

    /// Lets time pass until that moment. Says whether every invariant held.
    pub fn live(&mut self, until_ms: i64) -> Result<(), (&'static str, String)> {
        while let Some((at_ms, event)) = self.queue.next(until_ms) {
            self.time.advance_to(at_ms);
            self.happen(event);
            super::invariants::check(self)?;
        }
        self.time.advance_to(until_ms);
        Ok(())
    }

    fn happen(&mut self, event: Event) {
        let now = self.time.now_ms();
        match event {
            Event::Wake(d) => self.wake(d),
            Event::Late { device, message } => {
                self.at_ca(device, &message);
            }
            Event::Operate => {
                self.operate();
                let pause = 2 * DAY_MS + self.below(10 * DAY_MS);
                self.queue.put(now + pause, Event::Operate);
            }
            Event::Unhold(hold) => self.unhold(hold),
            Event::Lift(id) => self.lift(id),
            Event::SetRight => self.set_servers_right(),
            Event::SetDeviceRight(d) => self.devices[d].platform.clock.set_right(),
            Event::Sweep => {
                self.sweep();
                self.queue.put(now + 7 * DAY_MS, Event::Sweep);
            }
            Event::Help(on) => {
                self.ca.get_mut().set(settings(on));
                self.helping = on;
                self.help_asked = on;
                self.tally.helps += u64::from(on);
                if on {
                    self.queue.put(now + 14 * DAY_MS, Event::Help(false));
                }
            }
            Event::Look { party, serial } => self.look(party, &serial),
            Event::RollOver { number, root } => self.roll_over(number, root),
            Event::Audit => {
                self.audit();
                self.queue.put(now + 91 * DAY_MS, Event::Audit);
            }
        }
    }

    /// Faults stop, and the operator takes back whatever can be; then every device whose owner may
    /// want a certificate gets one.
    pub fn settle(&mut self) {
        self.calm = true;
        self.set_servers_right();
        for id in self.ledger.stops.iter().map(|s| s.id).collect::<Vec<_>>() {
            self.lift(id);
        }
        for hold in 0..self.holds.len() {
            self.unhold(hold);
        }
        self.ca.get_mut().set(settings(true));
        self.helping = true;
        for d in 0..self.devices.len() {
            if self.ledger.revoked_devices.contains(&d) {
                continue;
            }
            let device = &self.devices[d];
            device.platform.clock.switched_on();
            if !self.cares[d].clockless {
                device.platform.clock.set_right();
            }
            let mut log = Vec::new();
            for _ in 0..SETTLE_TRIES {
                self.contact(d);
                log.extend(self.visit(d));
                self.devices[d].power_off();
                if self.is_served(d) {
                    break;
                }
                self.time.advance(HOUR_MS as u64);
            }
            if !self.is_served(d) {
                let told = format!("device {d} at the end: {}", log.join("; "));
                self.ledger.locked_out.push(told);
            }
        }
        self.audit();
    }

    // Chance.

    pub fn below(&self, n: i64) -> i64 {
        self.rng.borrow_mut().below(n as u64) as i64
    }

    /// True so many times in a thousand, unless nothing goes wrong any more.
    pub fn ill_luck(&self, per_mille: i64) -> bool {
        !self.calm && self.below(1000) < per_mille
    }

    // Looking.

    pub fn now_secs(&self) -> u64 {
        (self.time.now_ms() / 1000) as u64
    }

    /// The certificates of a device at the CA, archived ones not.
    pub fn rows(&self, d: usize) -> Vec<Certificate> {
        let Some(row) = self.cares[d].row else {
            return Vec::new();
        };
        let ca = self.ca.borrow();
        let rows = ca.role().store.read("certificates of device", |tx| {
            certificate::of_device(tx, row, 100)
        });
        rows.unwrap()
    }

    /// The row of a serial number.
    pub fn row(&self, serial: &[u8]) -> Option<Certificate> {
        let ca = self.ca.borrow();
        let found = ca
            .role()
            .store
            .read("row", |tx| certificate::find(tx, serial));
        found.unwrap()
    }

    /// Whether a server's clock is off by more than servers bear.
    pub fn clocks_are_wrong(&mut self) -> bool {
        let clocks = [
            &self.ca.get_mut().clock,
            &self.tam.clock,
            &self.verifier.get_mut().clock,
        ];
        clocks.iter().any(|clock| clock.error_ms() > 20_000)
    }
}

/// The CA's settings; with a grace of many years while the operator lets devices return.
pub fn settings(helping: bool) -> CaSettings {
    let grace = if helping { "20y" } else { "60d" };
    CaSettings {
        profiles: format!(
            "[profile.{CMP_PROFILE}]\n\
             description = \"Devices of simulated years\"\n\
             key_algorithms = [\"P-256\"]\n\
             subject = [{{ O = \"Example Works\" }}, {{ CN = \"{{model}} {{serial}}\" }}, \
                        {{ serialNumber = \"{{serial}}\" }}]\n\
             key_usage = [\"digitalSignature\"]\n\
             extended_key_usage = [\"clientAuth\"]\n\
             validity = \"{VALIDITY_DAYS}d\"\n\
             renewal_window = \"{WINDOW_DAYS}d\"\n\
             renewal_grace = \"{grace}\"\n\
             [profile.{CMP_PROFILE}.san]\n\
             permanent_identifier = \"{{ueid}}\"\n"
        ),
        status: StatusSettings {
            base_url: Some("http://ca.example".into()),
            shard_size: 4_096,
            ..StatusSettings::default()
        },
    }
}

/// How long certificates last.
const VALIDITY_DAYS: u64 = 365;
/// How long before the end they are renewed: the overlap.
pub const WINDOW_DAYS: u64 = 30;
const PARTIES: usize = 24;
/// Days from the beginning, number of the generation, whether it has a new root.
const ROLLOVERS: [(i64, u32, bool); 4] = [
    (200, 2, false),
    (600, 3, true),
    (1_000, 4, false),
    (1_300, 5, true),
];
const BATCHES: usize = 40;
const SETTLE_TRIES: u32 = 4;
