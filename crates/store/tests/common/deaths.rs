//! Stories that are told to a process which dies at each of its writes in turn.
//!
//! The process is the CA, the TAM and the Verifier of a world; the test is its devices and its operator.
//! On files the process kills itself. On a database it kills the backend that it writes through, and goes
//! on. Then the story begins again.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tegata_authority::UnixMs;
use tegata_authority::ca::cmp::{CmpDenial, MacPolicy};
use tegata_authority::ca::est::{EstDenial, Operation};
use tegata_authority::ca::revocation::{FinalReason, Word};
use tegata_authority::profile::{EXAMPLE, Profiles};
use tegata_authority::statement::{Before, Counted};
use tegata_authority::tam::availability::Availability;
use tegata_authority::verifier::AppraisalPolicy;
use tegata_crypto::{KeyAlg, PublicKey};
use tegata_store::archive::sweep_some;
use tegata_store::est::Asker;
use tegata_store::generation::{Kind, roll_over};
use tegata_store::issuer::{CmpOutcome, Issuer, NewRelease};
use tegata_store::revocation::scoped::{Predicate, say_to_all};
use tegata_store::revocation::stop::{lift, stop};
use tegata_store::revocation::{Target, say};
use tegata_store::role::{Role, RoleError};
use tegata_store::status::StatusServer;
use tegata_store::tam::{PeerFailure, Peers, TamServer, TeepAnswer};
use tegata_store::verifier::VerifierServer;
use tegata_store::{
    Faults, Store, StoreError, Tx, When, approval, root_list, secret, statement, teep,
};
use tegata_wire::enrolment::Delivery;
use tegata_wire::ids::{ReleaseDigest, Ueid};
use tegata_wire::x509::SanEntry;

use super::elsewhere::Watched;
use super::killer::{Killer, as_application, kill_9};
use super::place::{Sql, database};
use super::rolled::next;
use super::{Direct, SECS, Seeded, found, open_role, psa, secrets};

/// How long the archive waits, in seconds.
pub const KEEP: u64 = 90 * 86_400;

/// Who may get the releases that are cut.
pub const CUT_FOR: Availability = Availability::Percent(50);

/// There was no answer.
#[derive(Debug)]
pub struct Gone;

/// The process that a story is told to.
pub struct Server {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// Why it gave no answer to what it was asked last, if it said so.
    pub why: String,
    /// Whether the story was begun before.
    pub again: bool,
}

impl Server {
    /// One that dies nowhere.
    fn start(deaths: &Deaths) -> Self {
        let mut server = Self::run(deaths, NEVER, this_program());
        let ready = server.hear();
        assert!(ready.is_ok(), "it does not start: {}", server.why);
        server
    }

    /// `program` is this test's, or one that runs it.
    fn run(deaths: &Deaths, at: usize, mut program: Command) -> Self {
        let mut child = program
            .args(["--exact", "child_that_dies", "--ignored", "--nocapture"])
            .env("TEGATA_TEST_DIR", &deaths.dir)
            .env("TEGATA_TEST_AT", at.to_string())
            .env("TEGATA_TEST_IN_PROCESS", deaths.in_process.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            input: child.stdin.take(),
            child,
            lines,
            why: String::new(),
            again: at == NEVER,
        }
    }

    /// Asks for something; see [`serve`].
    pub fn ask(&mut self, what: &str, now: UnixMs, body: &[u8]) -> Result<Vec<u8>, Gone> {
        self.why.clear();
        let line = format!("{what} {} {}\n", now.0, hex::encode(body));
        let input = self.input.as_mut().unwrap();
        input.write_all(line.as_bytes()).map_err(|_| Gone)?;
        self.hear()
    }

    /// Asks for what is done already if the same was asked before and the answer was lost: then it must say `why`.
    pub fn ask_once(
        &mut self,
        what: &str,
        now: UnixMs,
        body: &[u8],
        why: &str,
    ) -> Result<(), Gone> {
        match self.ask(what, now, body) {
            Err(Gone) if self.again && self.why == why => Ok(()),
            said => said.map(drop),
        }
    }

    fn hear(&mut self) -> Result<Vec<u8>, Gone> {
        for line in self.lines.by_ref().map_while(Result::ok) {
            if let Some(said) = line.strip_prefix("said ") {
                return Ok(hex::decode(said).unwrap());
            }
            if let Some(why) = line.strip_prefix("not ") {
                self.why = why.to_owned();
                return Err(Gone);
            }
        }
        Err(Gone)
    }

    /// Waits for its end, once nobody asks any more; by what signal it ended, if by one.
    fn end(mut self) -> Option<i32> {
        drop(self.input.take());
        let status = self.child.wait().unwrap();
        assert!(status.success() || status.signal().is_some(), "{status}");
        status.signal()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended, or the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Parts of what is asked, each with its length before it.
pub fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let each = parts.iter().map(|part| {
        let length = u32::try_from(part.len()).unwrap().to_be_bytes();
        [&length[..], part].concat()
    });
    each.collect::<Vec<_>>().concat()
}

/// The parts of [`joined`].
pub fn parts(mut body: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = body.split_first_chunk() {
        let (part, after) = rest.split_at(u32::from_be_bytes(*length) as usize);
        parts.push(part);
        body = after;
    }
    parts
}

/// The deaths of one story.
pub struct Deaths {
    dir: PathBuf,
    in_process: bool,
    /// Where they were: `before issue`, `after issue`, and so on.
    pub at: Vec<String>,
}

impl Deaths {
    /// Of a process on the stores in `dir`, with keys in it or elsewhere. The test has none of them open.
    pub fn new(dir: &Path, in_process: bool) -> Self {
        Self {
            dir: dir.to_owned(),
            in_process,
            at: Vec::new(),
        }
    }

    /// Tells a story to a process that dies at its next fault point, then again until it has an end. `false`
    /// once nobody died, and it had its end at once.
    pub fn tell(&mut self, mut story: impl FnMut(&mut Server) -> Result<(), Gone>) -> bool {
        let mark = self.dir.join(MARK);
        let incarnation = || Sql::open(&self.dir.join("ca.db")).incarnation();
        let before = incarnation();
        let mut server = Server::run(self, self.at.len(), this_program());
        let started = server.hear().is_ok();
        let came = match started {
            true => story(&mut server),
            false => Err(Gone),
        };
        let Ok(death) = std::fs::read_to_string(&mark) else {
            assert!(came.is_ok(), "nobody died: {}", server.why);
            assert_eq!(server.end(), None);
            return false;
        };
        std::fs::remove_file(&mark).unwrap();
        if database().is_none() {
            assert!(came.is_err(), "{death}: the dead answered");
        }
        let begun = Instant::now();
        while database().is_some() && incarnation().is_none_or(|now| Some(now) == before) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{death}");
        }
        // Who cannot start without the database ends, and is started again.
        if database().is_none() || !started {
            let killed = database().is_none().then_some(SIGKILL);
            assert_eq!(server.end(), killed, "{death}");
            server = Server::start(self);
        }
        self.at.push(death);
        server.again = true;
        let begun = Instant::now();
        while story(&mut server).is_err() {
            let death = self.at.last().unwrap();
            let status = server.child.try_wait().unwrap();
            assert!(status.is_none(), "{death}: then it ended, {status:?}");
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{death}: {}",
                server.why
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(server.end(), None);
        sound(&self.dir);
        true
    }

    /// Tells a story to a process that the kernel kills in place of its n-th `call` in a thread, then to another,
    /// which must end it. `false` if it had no need to be killed.
    pub fn killed_at(
        &self,
        call: &str,
        nth: usize,
        mut story: impl FnMut(&mut Server) -> Result<(), Gone>,
    ) -> bool {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
        strace.arg(format!("trace={call}")).arg("-e");
        strace.arg(format!("inject={call}:signal=SIGKILL:when={nth}"));
        strace.arg("--").arg(std::env::current_exe().unwrap());
        let mut server = Server::run(self, NEVER, strace);
        server.again = false;
        let came = server.hear().and_then(|_| story(&mut server));
        let Some(signal) = server.end() else {
            assert!(came.is_ok(), "{call} {nth}: it was not killed");
            return false;
        };
        assert_eq!(signal, SIGKILL, "{call} {nth}");
        let mut server = Server::start(self);
        assert!(story(&mut server).is_ok(), "{call} {nth}: {}", server.why);
        assert_eq!(server.end(), None, "{call} {nth}");
        sound(&self.dir);
        true
    }

    /// Asserts where the deaths were: before and after the commit of each of these.
    pub fn were_at(&self, commits: &[&str]) {
        let each = |commit| ["before", "after"].map(|when| format!("{when} {commit}"));
        let expected: Vec<String> = commits.iter().flat_map(each).collect();
        assert_eq!(self.at, expected);
    }
}

/// Asserts that the files are sound.
pub fn sound(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "db") {
            continue;
        }
        let conn = rusqlite::Connection::open(&path).unwrap();
        let said = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0));
        assert_eq!(said, Ok("ok".to_owned()), "{path:?}");
        let mut orphans = conn.prepare("PRAGMA foreign_key_check").unwrap();
        assert!(!orphans.exists([]).unwrap(), "{path:?}");
    }
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// Dies at the n-th fault point of all stores, and leaves word of where.
struct DieAt {
    at: usize,
    reached: Arc<AtomicUsize>,
    mark: PathBuf,
    /// Where the store is in a database, and the name of the connections to it.
    backend: Option<(Killer, String)>,
}

impl Faults for DieAt {
    fn reach(&self, step: &'static str, when: When) -> Result<(), StoreError> {
        if self.reached.fetch_add(1, Ordering::SeqCst) != self.at {
            return Ok(());
        }
        let when_str = when.as_str();
        std::fs::write(&self.mark, format!("{when_str} {step}")).unwrap();
        let Some((killer, application)) = &self.backend else {
            kill_9(&std::process::id().to_string());
            loop {
                std::thread::park();
            }
        };
        assert!(killer.kill(application), "there is no backend");
        match when {
            // The commit that comes now finds nobody.
            When::Before => Ok(()),
            When::After => Err(StoreError::Stopped {
                step,
                when: when_str,
            }),
        }
    }
}

/// Opens stores whose n-th fault point, counted over all of them, is deadly.
struct Opens {
    dir: PathBuf,
    at: usize,
    reached: Arc<AtomicUsize>,
}

impl Opens {
    fn role(&self, name: &str) -> Result<Role, RoleError> {
        let path = self.dir.join(format!("{name}.db"));
        let application = format!("dies_{name}_{}", std::process::id());
        let place = match database() {
            Some(_) => as_application(&path, &application),
            None => path.clone(),
        };
        let faults = DieAt {
            at: self.at,
            reached: Arc::clone(&self.reached),
            mark: self.dir.join(MARK),
            backend: database().map(|_| (Killer::new(&path), application)),
        };
        Ok(open_role(&place, Arc::new(faults))?)
    }
}

/// The process itself. It is asked by lines: what is wanted (of which profile or role, if need be, after a
/// slash), the time in milliseconds, a body in hex. It answers `said` and what, or `not` and why; the same when it
/// has started, or cannot.
pub fn serve() {
    // The harness has begun a line.
    println!();
    // No two of them draw the same numbers.
    let mut rng = Seeded(u64::from(std::process::id()) << 32);
    let process = match Process::open(&mut rng) {
        Ok(process) => process,
        Err(e) => return println!("not {e}"),
    };
    println!("said ");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let now = UnixMs(words[1].parse().unwrap());
        let body = hex::decode(words[2]).unwrap();
        // As a server does it: what is told was held until it was durable.
        let held = process.store(words[0]).coming();
        let held = held.work(|| process.answer(words[0], now, &body, &mut rng));
        match held.wait().unwrap_or_else(|e| Err(e.to_string())) {
            Ok(said) => println!("said {}", hex::encode(said)),
            Err(why) => println!("not {why}"),
        }
    }
}

/// A CA of the example's profile, which takes certificates by EST too, and of those for secrets and evidence.
pub fn issuer(role: Role, rng: &mut Seeded) -> Result<Issuer, RoleError> {
    let takes = "authentication = [\"ta\", \"certificate\"]\n[profile.device.san]";
    let device = EXAMPLE.replace("[profile.device.san]", takes);
    let profiles = [&device, secrets::PROFILES, &psa::profiles()].concat();
    let profiles = Profiles::parse(&profiles).unwrap();
    let ca = Issuer::open(role, profiles, MacPolicy::default())?;
    ca.with_psa_policy(psa::policy(), rng, SECS)
}

struct Process {
    opens: Opens,
    ca: Arc<Issuer>,
    tam: TamServer,
    verifier: VerifierServer,
}

impl Process {
    fn open(rng: &mut Seeded) -> Result<Self, RoleError> {
        let var = |name: &str| std::env::var(name).unwrap();
        let opens = Opens {
            dir: PathBuf::from(var("TEGATA_TEST_DIR")),
            at: var("TEGATA_TEST_AT").parse().unwrap(),
            reached: Arc::default(),
        };
        let keys = Watched {
            in_process: var("TEGATA_TEST_IN_PROCESS").parse().unwrap(),
            ..Watched::default()
        };
        let ca = Role {
            provider: Arc::new(keys),
            ..opens.role("ca")?
        };
        let policy = AppraisalPolicy::parse(tegata_authority::verifier::EXAMPLE).unwrap();
        Ok(Self {
            ca: Arc::new(issuer(ca, rng)?),
            tam: TamServer::open(opens.role("tam")?, None)?,
            verifier: VerifierServer::open(opens.role("verifier")?, policy)?,
            opens,
        })
    }

    /// The store of who is asked.
    fn store(&self, what: &str) -> &Arc<Store> {
        match what.split('/').next() {
            Some("teep") => &self.tam.role().store,
            _ => &self.ca.role().store,
        }
    }

    fn answer(
        &self,
        what: &str,
        now: UnixMs,
        body: &[u8],
        rng: &mut Seeded,
    ) -> Result<Vec<u8>, String> {
        let store = &self.ca.role().store;
        let secs = now.secs();
        let (what, of) = what.split_once('/').unwrap_or((what, "device"));
        let role = match of {
            "tam" => self.tam.role(),
            "verifier" => self.verifier.role(),
            _ => self.ca.role(),
        };
        let word = match what {
            "hold" | "hold-all" => Word::Hold,
            "unhold" | "unhold-all" => Word::Unhold,
            _ => Word::Revoke(FinalReason::KeyCompromise),
        };
        match what {
            "cmp" => {
                let answer = self.ca.cmp(of, body, rng, now);
                match answer.outcome {
                    CmpOutcome::Denied(CmpDenial::Unavailable(code)) => Err(code.to_owned()),
                    _ => Ok(answer.body),
                }
            }
            // The request; the certificate that is shown, or id and text of a secret, or nothing.
            "est" => {
                let profile = self.ca.est_profile(Some(of)).unwrap();
                let text = |part| std::str::from_utf8(part).unwrap();
                let (operation, csr, asker) = match *parts(body).as_slice() {
                    [csr] => (Operation::Enroll, csr, Asker::Nobody),
                    [csr, shown] => (Operation::Reenroll, csr, Asker::Certificate(shown)),
                    [csr, id, secret] => {
                        let (id, secret) = (text(id), text(secret));
                        (Operation::Enroll, csr, Asker::Secret { id, secret })
                    }
                    _ => panic!("{body:?}"),
                };
                let enrolled = self.ca.est_enrol(operation, profile, asker, csr, rng, now);
                match enrolled {
                    Err(EstDenial::Waiting) => Ok(Vec::new()),
                    enrolled => enrolled.map(|e| e.certificate).map_err(|e| e.to_string()),
                }
            }
            "nonce" => {
                let profile = self.ca.est_profile(Some(of)).unwrap();
                let fresh = self.ca.evidence_nonce(profile, rng, now).unwrap();
                Ok(fresh.unwrap().nonce.to_vec())
            }
            // What the request is called.
            "approve" => {
                let id = std::str::from_utf8(body).unwrap();
                let said = store.run_tx("decide", |tx| approval::say(tx, id, None, true, secs));
                let said = said.map_err(|e: StoreError| e.to_string())?;
                let stands = said.and_then(|row| row.approved) == Some(true);
                stands.then(Vec::new).ok_or_else(|| "decided".to_owned())
            }
            // A factory's manifest.
            "import" => {
                let imported = role.import_devices(body, secs).map_err(|e| e.to_string())?;
                Ok(imported.devices.to_be_bytes().to_vec())
            }
            // Their delivery keys.
            "import-keys" => {
                let imported = self.tam.import_keks(body, rng).map_err(|e| e.to_string())?;
                Ok(imported.to_be_bytes().to_vec())
            }
            // A module.
            "cut" => {
                let new = NewRelease {
                    ta_name: "enrol",
                    module: body,
                    profiles: &["device"],
                    paper_exchange_key: None,
                    available: &CUT_FOR,
                };
                let cut = self
                    .ca
                    .release(&new, rng, secs)
                    .map_err(|e| e.to_string())?;
                Ok(joined(&[&cut.package, &cut.ta_envelope]))
            }
            // A release's package, or the envelope of its TA.
            "register" if of == "verifier" => {
                let value = self.verifier.import_reference_value(body, secs);
                value.map(|_| Vec::new()).map_err(|e| e.to_string())
            }
            "register" => {
                let release = self.tam.register_release(body, secs);
                release.map(|_| Vec::new()).map_err(|e| e.to_string())
            }
            "teep" => {
                let peers = Direct {
                    ca: &self.ca,
                    verifier: &self.verifier,
                    now: secs,
                };
                let damaging = Damaging(&peers);
                let peers: &dyn Peers = match of {
                    "damaged" => &damaging,
                    _ => &peers,
                };
                match self.tam.teep(body, peers, rng, now) {
                    Ok((TeepAnswer::Message(message), _)) => Ok(message),
                    Ok((TeepAnswer::Nothing, _)) => Ok(Vec::new()),
                    Err(e) => Err(e.to_string()),
                }
            }
            // A serial number.
            "hold" | "unhold" | "revoke" => {
                let said = say(store, &Target::Certificate(body.to_vec()), word, secs);
                said.map(|_| Vec::new()).map_err(|e| e.to_string())
            }
            // A model.
            "hold-all" | "unhold-all" => {
                let done = say_to_all(store, &of_model(body), word, secs, |_| ());
                let done = done.map_err(|e| e.to_string())?;
                Ok(done.changed.to_be_bytes().to_vec())
            }
            "sweep" => loop {
                let part = sweep_some(store, KEEP, secs).map_err(|e| e.to_string())?;
                if part.rows() == 0 {
                    return Ok(Vec::new());
                }
            },
            // The number of the generation.
            "roll-issuing" | "roll-root" => {
                let kind = match what {
                    "roll-root" => Kind::Root,
                    _ => Kind::Issuing,
                };
                let made = roll_over(self.ca.role(), next(u32::from(body[0]), kind), rng, secs);
                made.map(|m| m.issuing.cert_der.clone())
                    .map_err(|e| e.to_string())
            }
            // A model.
            "stop" => {
                let stop = stop(store, &of_model(body), secs).map_err(|e| e.to_string())?;
                Ok(stop.id.to_be_bytes().to_vec())
            }
            // The number of a stop.
            "lift" => match lift(store, i64::from_be_bytes(body.try_into().unwrap())) {
                Ok(found) => found.then(Vec::new).ok_or_else(|| "no-stop".to_owned()),
                Err(e) => Err(e.to_string()),
            },
            // A UEID; its secret's id and text.
            "secret" => {
                let ueid = Ueid::from_slice(body).unwrap();
                let made = secret::make(role, &secrets::new_secret(ueid, "open", 1), rng, secs);
                let made = made.map_err(|e| e.to_string())?;
                let text = made.text.expose_secret();
                Ok(joined(&[made.id.as_bytes(), text.as_bytes()]))
            }
            // Its id.
            "remove-secret" => {
                let id = std::str::from_utf8(body).unwrap();
                let found = store.run_tx("remove secret", |tx| secret::remove(tx, id));
                let found = found.map_err(|e: StoreError| e.to_string())?;
                found.then(Vec::new).ok_or_else(|| "no-secret".to_owned())
            }
            // A key and a serial number.
            "add" => {
                let [iak, serial] = parts(body)[..] else {
                    panic!("{body:?}")
                };
                let iak = PublicKey::from_spki_der(iak).unwrap();
                let device = psa::device(&iak, std::str::from_utf8(serial).unwrap());
                let again = role.add_psa_device(&device, secs);
                again.map(|a| vec![u8::from(a)]).map_err(|e| e.to_string())
            }
            // A release and who may get it; the CA's word on it.
            "available" => {
                let [digest, rule] = parts(body)[..] else {
                    panic!("{body:?}")
                };
                let digest = ReleaseDigest(digest.try_into().unwrap());
                let rule = std::str::from_utf8(rule).unwrap().parse().unwrap();
                let told = match of {
                    "tam" => self.tam.set_availability(&digest, &rule),
                    _ => self.ca.set_availability(&digest, &rule),
                };
                let notice = told.and_then(|()| self.ca.notice(&digest));
                notice.map(|(_, notice)| notice).map_err(|e| e.to_string())
            }
            // Names of the stores, and the factory's key.
            "init" => {
                let [name, factory] = parts(body)[..] else {
                    panic!("{body:?}")
                };
                let name = std::str::from_utf8(name).unwrap();
                let factory = PublicKey::from_spki_der(factory).unwrap();
                let mut made = || {
                    let open = |role| self.opens.role(&format!("{name}{role}"));
                    let roles = [open("ca")?, open("tam")?, open("verifier")?];
                    found(roles, &factory, KeyAlg::P256, rng)
                };
                let (ca, ..) = made().map_err(|e| e.to_string())?;
                Ok(ca.root_certificate().to_vec())
            }
            "root-list" => {
                let lists = root_list::renew(role, KEEP, secs).map_err(|e| e.to_string())?;
                Ok(lists[0].list.der.clone())
            }
            // A request.
            "ocsp" => {
                let answer = StatusServer::new(Arc::clone(&self.ca)).ocsp(body, rng, secs);
                match answer.reason {
                    "ok" => Ok(answer.published.der.clone()),
                    why => Err(why.to_owned()),
                }
            }
            "est-identity" => {
                let names = [SanEntry::Dns("ca.example".into())];
                let identity = self.ca.est_identity(&names, rng, secs);
                let identity = identity.map_err(|e| e.to_string())?;
                let chain = identity.chain.iter().map(Vec::as_slice);
                Ok(joined(&chain.collect::<Vec<_>>()))
            }
            // All that the TAM may forget.
            "forget" => loop {
                let all = |tx: &Tx<'_>| teep::forget_some(tx, i64::MAX);
                let rows = self.tam.role().store.run_tx("forget", all);
                if rows.map_err(|e: StoreError| e.to_string())? == 0 {
                    return Ok(Vec::new());
                }
            },
            // A device and the number of its statement, at the verify role.
            "judge" => {
                let (ueid, number) = body.split_at(body.len() - 8);
                let ueid = Ueid::from_slice(ueid).unwrap();
                let counted = Counted {
                    number: u64::from_be_bytes(number.try_into().unwrap()),
                    made_at: 0,
                    seen_at: secs.0,
                };
                let fresh = |tx: &Tx<'_>| {
                    let before = statement::before(tx, &ueid, &[7; 32])?.counted;
                    let fresh = before.is_none_or(|last| last.number < counted.number);
                    let after = Before {
                        counted: fresh.then_some(counted),
                        place: None,
                    };
                    statement::put(tx, &ueid, &[7; 32], &after)?;
                    Ok::<_, StoreError>(fresh)
                };
                let role = self.opens.role("verify").map_err(|e| e.to_string())?;
                match role.store.run_tx("judge statement", fresh) {
                    Ok(fresh) => fresh.then(Vec::new).ok_or_else(|| "counted".to_owned()),
                    Err(e) => Err(e.to_string()),
                }
            }
            // A device that the verify role is to forget.
            "forget-device" => {
                let ueid = Ueid::from_slice(body).unwrap();
                let role = self.opens.role("verify").map_err(|e| e.to_string())?;
                let forget = |tx: &Tx<'_>| statement::forget(tx, &ueid, true);
                match role.store.run_tx("forget a device", forget) {
                    Ok(found) => found.then(Vec::new).ok_or_else(|| "nothing".to_owned()),
                    Err(e) => Err(e.to_string()),
                }
            }
            other => panic!("{other}"),
        }
    }
}

/// All of a model.
fn of_model(name: &[u8]) -> Predicate {
    Predicate {
        model: Some(String::from_utf8(name.to_vec()).unwrap()),
        ..Predicate::default()
    }
}

/// The TAM's peers, from which a delivery comes damaged.
struct Damaging<'a>(&'a Direct<'a>);

impl Peers for Damaging<'_> {
    fn appraise(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure> {
        self.0.appraise(request)
    }

    fn deliver(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure> {
        let mut delivery = Delivery::decode(&self.0.deliver(request)?).unwrap();
        *delivery.config_envelope.last_mut().unwrap() ^= 1;
        Ok(delivery.encode().unwrap())
    }

    fn attested(&self, word: &[u8]) -> Result<(), PeerFailure> {
        self.0.attested(word)
    }
}

const NEVER: usize = usize::MAX;
/// The file that says where somebody died.
const MARK: &str = "died-at";
const SIGKILL: i32 = 9;
