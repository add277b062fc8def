//! `tegata bench deliver`: what it costs a TAM that each device gets a delivery of its own.
//!
//! A delivery is the last message of a session: the device knocks, is asked, answers with evidence, and gets an
//! Update that was made and signed for it, with the TA's key wrapped to it. Measured are
//!
//! * the session in which nothing is due: the device has the release already;
//! * the session with a delivery, the first time: the TAM asks the CA and keeps what it says;
//! * the same later: the delivery lies with the TAM, and the Update is made anew;
//! * that where the TAM has a `payload_url`: the Update has the wrapped key and no TA, which the device then fetches;
//! * the shared ciphertext, fetched from the same TAM: the same bytes for everybody.
//!
//! A TAM that authenticated each device and then served all of them one ciphertext would do the first and the last of
//! these. The target compares with that: a kept delivery, both ways, ÷ (session in which nothing is due +
//! ciphertext), by processor time of the TAM's process alone. CA and Verifier run on the client's processor.
//!
//! All but the first delivery have an open loop too: knocks at four fifths of their rate, then the answers at
//! four fifths of theirs, then what is fetched; a session's latency is the sum.

use std::path::PathBuf;

use axum::body::Bytes;
use tegata_authority::UnixSecs;
use tegata_authority::tam::availability::Availability;
use tegata_authority::verifier::{AppraisalPolicy, EXAMPLE};
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::cose::verify_sign1;
use tegata_crypto::suit::{DeliveryKeys, open_payload, verify_envelope};
use tegata_crypto::{OsRng, Provider as _, PublicKey, Rng as _};
use tegata_store::issuer::CutRelease;
use tegata_store::tam::TamServer;
use tegata_store::verifier::VerifierServer;
use tegata_wire::enrolment::{PersonalizationData, ReleasePackage};
use tegata_wire::suit::{Command, Section, UnverifiedEnvelope};
use tegata_wire::teep::{MEDIA_TYPE as TEEP, Message};

use super::attester::{Attester, Runs};
use super::bed::{Bed, Check, Found, OPEN, OPEN_SHARE, zeros};
use super::check::refused;
use super::figures::{self, Measured, Round, Tally};
use super::issue::target;
use super::load::{Ask, Driven, Pace, Refusals, Target};
use super::odd;
use super::plant::{MODULE, Nursery, Plant};
use super::report::{Aim, Goal, within};
use super::served::{Served, copy};
use super::subject::Subject;
use crate::cli::Role;
use crate::commands::import::{role_fault, role_store};
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::stores::now_secs;

/// Length of the TA, bytes: that of the enrolment TA as it is shipped.
const MODULE_LEN_BYTES: usize = 190_823;
/// Sessions of which requests and answers are in memory at a time: an Update has the whole TA in it.
const PIECE: usize = 500;
/// How each request of a session is sent: the knock, the answer, and where it is fetched, the TA.
type Paces = [Pace; 3];
/// From where a device fetches the TA, as it is told; here it fetches it from the TAM itself.
const PAYLOAD_URL: &str = "http://ta.example/tc";
/// One Update in so many is opened as its device would.
const OPENED: usize = 50;

/// Measures and keeps.
///
/// # Errors
/// An answer that is not what it must be; files, processes, processors.
pub fn run(bed: &Bed<'_>) -> Outcome<()> {
    let deliver = Deliver::furnish(bed)?;
    let subjects = [
        Subject::Nothing,
        Subject::Shared,
        Subject::UpToDate,
        Subject::DeliveredAgain,
        Subject::DeliveredFrom,
    ];
    let rounds = bed.rounds(&subjects, |subject| deliver.measure(subject))?;
    let cpu = |round: &Round, subject| Some(round.of(subject)?.cpu_us);
    let ratio = |subject| {
        within(&rounds, |round| {
            let shared = cpu(round, Subject::UpToDate)? + cpu(round, Subject::Shared)?;
            Some(cpu(round, subject)? / shared)
        })
    };
    let first = ratio(Subject::DeliveredFirst);
    let found = Found {
        targets: vec![
            Goal::new(
                "CPU of a session with a kept delivery ÷ one without and the shared ciphertext",
                Aim::AtMost(1.3),
                ratio(Subject::DeliveredAgain),
            ),
            Goal::new(
                "the same where the device fetches the TA",
                Aim::AtMost(1.3),
                ratio(Subject::DeliveredFrom),
            ),
        ],
        // Updates are no certificates: OpenSSL does not know them.
        verified_with_openssl: Some(0),
        notes: vec![
            format!(
                "The same the first time, when the TAM asks the CA: {:.2}.",
                first.map_or(0.0, |first| first.median)
            ),
            format!(
                "A session is two requests. CPU is the TAM's alone. Every Update was verified, one in {OPENED} \
                 opened with its device's key."
            ),
        ],
        ..Found::default()
    };
    bed.keep(&bed.results("deliver", rounds, found), None)
}

/// Devices, their TA, and whom they believe.
struct Fleet {
    devices: Vec<Attester>,
    release: CutRelease,
    runs: Runs,
    module: Vec<u8>,
    /// The same as every device gets it.
    ciphertext: Bytes,
    /// The TAM's key.
    tam: PublicKey,
    /// The key that signs releases.
    releases: PublicKey,
}

/// An installation whose three roles know the devices and a release.
fn furnish(bed: &Bed<'_>) -> Outcome<(Plant, Fleet)> {
    let nursery = Nursery::open(&bed.path("plant"), "")?;
    let roles = (
        role_store(&nursery.config, Role::Tam)?,
        role_store(&nursery.config, Role::Verifier)?,
    );
    bed.bar.set_message("devices");
    let secrets = nursery.register(bed.devices(), &[&roles.0, &roles.1])?;
    let mut module = vec![0; MODULE_LEN_BYTES];
    let (head, rest) = module.split_at_mut(MODULE.len());
    head.copy_from_slice(MODULE);
    OsRng.fill(rest).map_err(odd)?;
    let release = nursery.release(&module)?;
    let package = ReleasePackage::decode(&release.package).map_err(odd)?;
    let now = UnixSecs(now_secs());
    let tam = TamServer::open(roles.0, None).map_err(|e| role_fault(&e))?;
    tam.import_release(&release.package, &Availability::Everybody, now)
        .map_err(|e| role_fault(&e))?;
    let policy = AppraisalPolicy::parse(EXAMPLE).map_err(|e| odd(format!("{e:?}")))?;
    let verifier = VerifierServer::open(roles.1, policy).map_err(|e| role_fault(&e))?;
    verifier
        .import_reference_value(&release.ta_envelope, now)
        .map_err(|e| role_fault(&e))?;
    let devices = secrets.into_iter().map(|secret| Attester::new(&secret));
    let fleet = Fleet {
        devices: devices.collect::<Outcome<_>>()?,
        runs: Runs::new(&release, &module)?,
        tam: tam.public_key().clone(),
        releases: nursery.issuer.release_public_key().clone(),
        ciphertext: package.ta_ciphertext.into(),
        release,
        module,
    };
    let plant = nursery.close(fleet.devices.iter().map(|device| &device.identity));
    Ok((plant, fleet))
}

/// A TAM on the servers' processor, and those that it asks on the client's.
pub struct Roles {
    /// The TAM.
    pub tam: Served,
    _ca: Served,
    _verifier: Served,
}

/// What whole sessions took, each of whose requests took so much.
fn whole(requests: &[Tally]) -> Outcome<Tally> {
    let [first, later @ ..] = requests else {
        return Err(odd("a session has no requests"));
    };
    let all = later
        .iter()
        .try_fold(first.clone(), |whole, next| whole.then(next));
    all.ok_or_else(|| odd("a request of a session is missing"))
}

/// What one run needs.
pub struct Deliver<'a> {
    bed: &'a Bed<'a>,
    plant: Plant,
    fleet: Fleet,
}

/// What a device of a session has and wants.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has the TA.
    Has,
    /// It asks for it.
    Wants,
    /// It asks for it, and fetches the TA from where it is told.
    Fetches,
}

impl<'a> Deliver<'a> {
    /// Makes the installation.
    ///
    /// # Errors
    /// Files, keys, stores.
    pub fn furnish(bed: &'a Bed<'a>) -> Outcome<Self> {
        let (plant, fleet) = furnish(bed)?;
        Ok(Self { bed, plant, fleet })
    }

    fn measure(&self, subject: Subject) -> Outcome<Vec<Measured>> {
        if subject == Subject::Nothing {
            let (dir, cpu) = (self.bed.path("run"), self.bed.cpus.server);
            let len = self.fleet.release.package.len();
            let server = Served::nothing(&self.plant.dir, dir, cpu, len)?;
            let target = target(&server, "/", super::PKIXCMP, Refusals::Fault);
            let mut asks = std::iter::repeat_n(Ask::Post(Bytes::from_static(&[0; 64])), usize::MAX);
            let closed = self.closed();
            self.pieces(
                &server,
                &target,
                &mut asks,
                (self.warm_up(), closed),
                &mut zeros,
            )?;
            let asked = |count, [pace, ..]: Paces| {
                let some = (count, pace);
                let tally = self.pieces(&server, &target, &mut asks, some, &mut zeros)?;
                Ok(vec![tally])
            };
            return Ok(vec![self.loops(subject, asked)?]);
        }
        let fetched = subject == Subject::DeliveredFrom;
        let roles = self.start(fetched.then_some(PAYLOAD_URL))?;
        let server = &roles.tam;
        let every = self.fleet.devices.len();
        let closed = [self.closed(); 3];
        let sessions = |state| {
            self.loops(subject, |count, paces| {
                self.sessions(server, count, state, paces)
            })
        };
        let mut measured = match subject {
            Subject::Shared => {
                self.fetch(server, self.warm_up(), self.closed())?;
                let fetched = |count, [pace, ..]: Paces| Ok(vec![self.fetch(server, count, pace)?]);
                vec![self.loops(subject, fetched)?]
            }
            Subject::UpToDate => {
                // Once each before the clock runs: the TAM notes what a device has when it hears it first.
                self.sessions(server, every, State::Has, closed)?;
                vec![sessions(State::Has)?]
            }
            Subject::DeliveredFrom => {
                self.sessions(server, every, State::Fetches, closed)?;
                vec![sessions(State::Fetches)?]
            }
            _ => {
                self.sessions(server, self.warm_up(), State::Has, closed)?;
                // No open loop: a device has its first delivery once.
                let first = self.sessions(server, every, State::Wants, closed)?;
                vec![
                    Measured::closed(Subject::DeliveredFirst, &whole(&first)?),
                    sessions(State::Wants)?,
                ]
            }
        };
        let rss_bytes_max = Some(server.usage()?.rss_bytes_max);
        for one in &mut measured {
            one.rss_bytes_max = rss_bytes_max;
        }
        Ok(measured)
    }

    /// A closed loop, then an open one in which each request of a session comes at its share of its own rate.
    fn loops(
        &self,
        subject: Subject,
        mut run: impl FnMut(usize, Paces) -> Outcome<Vec<Tally>>,
    ) -> Outcome<Measured> {
        let count = self.bed.count();
        let closed = run(count, [self.closed(); 3])?;
        let mut paces = [self.closed(); 3];
        for (pace, tally) in paces.iter_mut().zip(&closed) {
            let rate = figures::per_second(tally.latencies.len(), tally.wall);
            *pace = Pace::Open(rate * OPEN_SHARE);
        }
        let open = run(count.div_ceil(OPEN), paces)?;
        let mut measured = Measured::closed(subject, &whole(&closed)?);
        measured.open = figures::open(measured.per_second * OPEN_SHARE, &whole(&open)?);
        Ok(measured)
    }

    fn closed(&self) -> Pace {
        Pace::Closed(self.bed.clients())
    }

    fn warm_up(&self) -> usize {
        self.bed.count().div_ceil(10)
    }

    /// Starts the three roles, each a process over a copy of the installation.
    ///
    /// # Errors
    /// Files, or a server that does not start.
    pub fn start(&self, payload_url: Option<&str>) -> Outcome<Roles> {
        let cpus = self.bed.cpus;
        let beside = |role: &str, dir| Served::role(role, &self.plant.dir, dir, cpus.client);
        let ca = beside("ca", self.bed.path("run-ca"))?;
        let verifier = beside("verifier", self.bed.path("run-verifier"))?;
        let dir = self.bed.path("run");
        copy(&self.plant.dir, &dir)?;
        self.tell(&dir.join("tegata.toml"), &ca, &verifier, payload_url)?;
        Ok(Roles {
            tam: Served::here("tam", dir, cpus.server)?,
            _ca: ca,
            _verifier: verifier,
        })
    }

    /// Writes into the TAM's configuration where the others are, and the TAs.
    fn tell(
        &self,
        config: &PathBuf,
        ca: &Served,
        verifier: &Served,
        payload_url: Option<&str>,
    ) -> Outcome<()> {
        let text = std::fs::read_to_string(config).map_err(|e| Fault::io("read", config, &e))?;
        let mut urls = format!(
            "[tam]\nca_url = \"http://{}\"\nverifier_url = \"http://{}\"\n",
            ca.address, verifier.address
        );
        if let Some(url) = payload_url {
            urls.push_str(&format!("payload_url = \"{url}\"\n"));
        }
        let text = text.replacen("[tam]\n", &urls, 1);
        files::replace(config, text.as_bytes(), Readers::Everyone)
    }

    /// Requests piece by piece.
    fn pieces(
        &self,
        server: &Served,
        target: &Target,
        mut asks: &mut dyn Iterator<Item = Ask>,
        (count, pace): (usize, Pace),
        check: Check<'_>,
    ) -> Outcome<Tally> {
        let mut tally = Tally::default();
        for from in (0..count).step_by(PIECE) {
            let some = (from, PIECE.min(count - from), pace);
            tally.append(&self.bed.sent(server, target, &mut asks, some, check)?);
        }
        Ok(tally)
    }

    /// So many sessions of the devices by turns: what each of their requests took.
    ///
    /// # Errors
    /// An answer that is not what it must be.
    pub fn sessions(
        &self,
        server: &Served,
        count: usize,
        state: State,
        [knocking, answering, fetching]: Paces,
    ) -> Outcome<Vec<Tally>> {
        let target = self.target(server);
        let (mut knocked, mut answered) = (Tally::default(), Tally::default());
        let mut fetched = (state == State::Fetches).then(Tally::default);
        for from in (0..count).step_by(PIECE) {
            let some = PIECE.min(count - from);
            // 1. The device knocks, and is asked.
            let mut knocks = std::iter::repeat_n(Ask::Post(Bytes::new()), some);
            let mut responses = Vec::with_capacity(some);
            let mut check = |_: usize, driven: &Driven| {
                for query in driven.bodies() {
                    responses.push(self.answer(from + responses.len(), query, state)?);
                }
                Ok(())
            };
            let which = (from, some, knocking);
            let sent = self
                .bed
                .sent(server, &target, &mut knocks, which, &mut check)?;
            knocked.append(&sent);
            // 2. It answers, and gets what is due.
            let mut check = |from: usize, driven: &Driven| {
                for answered in &driven.answered {
                    let number = from + answered.number;
                    self.judge(number, &answered.body, state)?;
                }
                Ok(())
            };
            let mut responses = responses.into_iter();
            let which = (from, some, answering);
            let sent = self
                .bed
                .sent(server, &target, &mut responses, which, &mut check)?;
            answered.append(&sent);
            // 3. It fetches the TA.
            if let Some(fetched) = &mut fetched {
                fetched.append(&self.fetch(server, some, fetching)?);
            }
        }
        Ok([knocked, answered].into_iter().chain(fetched).collect())
    }

    /// The encrypted TA so many times, each of them whole.
    fn fetch(&self, server: &Served, count: usize, pace: Pace) -> Outcome<Tally> {
        let path = format!("/tam/tc/{}", self.fleet.release.digest);
        let target = target(server, &path, TEEP, Refusals::Fault);
        let mut asks = std::iter::repeat_n(Ask::Get(path), usize::MAX);
        let mut check = |_: usize, driven: &Driven| {
            let whole = |body: &Bytes| *body == self.fleet.ciphertext;
            match driven.bodies().all(whole) {
                true => Ok(()),
                false => Err(refused("a ciphertext is not that of the TA".to_owned())),
            }
        };
        self.pieces(server, &target, &mut asks, (count, pace), &mut check)
    }

    fn device(&self, number: usize) -> Outcome<&Attester> {
        let many = self.fleet.devices.len().max(1);
        let found = self.fleet.devices.get(number % many);
        found.ok_or_else(|| odd("there are no devices"))
    }

    /// Where devices visit the TAM.
    pub fn target(&self, server: &Served) -> Target {
        target(server, "/tam", TEEP, Refusals::Fault)
    }

    /// What the device of that number, by turns, says to a QueryRequest.
    ///
    /// # Errors
    /// It is none.
    pub fn answer(&self, number: usize, query: &[u8], state: State) -> Outcome<Ask> {
        let device = self.device(number)?;
        let Message::QueryRequest(query) = self.told(query)? else {
            return Err(refused(
                "a knock was not answered with a QueryRequest".to_owned(),
            ));
        };
        let challenge = query.challenge;
        let challenge =
            challenge.ok_or_else(|| refused("a QueryRequest has no challenge".to_owned()))?;
        let (runs, wants) = match state {
            State::Has => (Some(&self.fleet.runs), None),
            State::Wants | State::Fetches => (None, Some(&self.fleet.release)),
        };
        let evidence = device.evidence(challenge.as_bytes(), runs)?;
        let response = device.query_response(evidence, wants)?;
        Ok(Ask::Post(Bytes::from(response)))
    }

    /// A message that the TAM signed.
    fn told(&self, message: &[u8]) -> Outcome<Message> {
        let verified = verify_sign1(&AwsLc, message, &self.fleet.tam, b"", None);
        let verified = verified.map_err(|e| refused(format!("a message is not the TAM's: {e}")))?;
        Message::decode(verified.payload())
            .map_err(|e| refused(format!("a message of the TAM cannot be read: {e}")))
    }

    /// Whether the device of that number, by turns, got what is due.
    ///
    /// # Errors
    /// It did not.
    pub fn judge(&self, number: usize, answer: &[u8], state: State) -> Outcome<()> {
        if state == State::Has {
            return match answer {
                [] => Ok(()),
                _ => Err(refused(
                    "a device that has the release got something".to_owned(),
                )),
            };
        }
        if answer.is_empty() {
            return Err(refused(
                "a device that wants the release got nothing".to_owned(),
            ));
        }
        let Message::Update(update) = self.told(answer)? else {
            return Err(refused(
                "a device that wants the release got no Update".to_owned(),
            ));
        };
        let manifests = update.manifest_list.unwrap_or_default();
        let [envelope] = manifests.as_slice() else {
            return Err(refused("an Update has not one manifest".to_owned()));
        };
        if number.is_multiple_of(OPENED) {
            self.open(self.device(number)?, envelope, state)?;
        }
        Ok(())
    }

    /// Opens a manifest as a device does: signatures, then what is encrypted to it.
    fn open(&self, device: &Attester, envelope: &[u8], state: State) -> Outcome<()> {
        let verify = |bytes: &[u8], key: &PublicKey| {
            let alleged = UnverifiedEnvelope::decode(bytes).map_err(odd)?;
            verify_envelope(&AwsLc, alleged, key)
                .map_err(|e| refused(format!("a manifest does not verify: {e}")))
        };
        let dependent = verify(envelope, &self.fleet.tam)?;
        let part = |name: &str| {
            let part = dependent.integrated(name);
            part.ok_or_else(|| refused(format!("an Update has no {name}")))
        };
        for dependency in ["#dep-ta", "#dep-config"] {
            let _signed = verify(part(dependency)?, &self.fleet.releases)?;
        }
        let install = dependent.manifest().sequence(Section::Install);
        let install = install.ok_or_else(|| refused("a manifest installs nothing".to_owned()))?;
        let infos = install
            .commands()
            .iter()
            .filter_map(|command| match command {
                Command::OverrideParameters(p) => {
                    Some((p.encryption_info.clone()?, p.uri.clone()?))
                }
                _ => None,
            });
        let infos: Vec<(Vec<u8>, String)> = infos.collect();
        let [ta, config] = infos.as_slice() else {
            return Err(refused("a manifest does not say how to decrypt".to_owned()));
        };
        let from = format!("{PAYLOAD_URL}/{}", self.fleet.release.digest);
        let opened = |(info, uri): &(Vec<u8>, String)| {
            let keys = DeliveryKeys {
                kek: None,
                ecdh: Some(&device.delivery),
            };
            let encrypted = match state {
                State::Fetches if *uri == from => &self.fleet.ciphertext,
                _ => part(uri)?,
            };
            open_payload(&AwsLc, info, encrypted, keys)
                .map_err(|e| refused(format!("{uri} cannot be decrypted: {e}")))
        };
        let (module, config) = (opened(ta)?, opened(config)?);
        if AwsLc.sha256(module.expose_secret()) != AwsLc.sha256(&self.fleet.module) {
            return Err(refused("an Update brought another TA".to_owned()));
        }
        let data = PersonalizationData::decode(config.expose_secret()).map_err(odd)?;
        data.sender_kid(&device.identity.ueid).map_err(odd)?;
        Ok(())
    }
}
