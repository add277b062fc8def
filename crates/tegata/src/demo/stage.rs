//! The stage of the demo: directory, story, ports, servers; and leaving it tidy.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cli::{Demo, DemoProfile};
use crate::config::{self, Config};
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::interrupt;
use crate::story::{Act, Event, JsonTeller, Teller, TerminalTeller};
use crate::supervise::{self, Process, Start};

use super::relay::Relay;

/// Time the servers get until they listen.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// Below those that Linux gives whoever asks for any (`ip_local_port_range`), above those that have a meaning.
const PORTS: Range<u16> = 20_000..32_768;
/// How many of them are tried.
const PORT_TRIES_MAX: u32 = 100;

/// First words of a configuration that a demo may replace.
const OURS: &str = "# Written by `tegata demo`";

/// Tells the story, from any thread.
#[derive(Clone)]
pub struct Story {
    teller: Arc<Mutex<Box<dyn Teller>>>,
    started: Instant,
}

impl Story {
    /// For people, or for programs.
    #[must_use]
    pub fn new(json: bool, started: Instant) -> Self {
        let teller: Box<dyn Teller> = if json {
            Box::new(JsonTeller)
        } else {
            Box::new(TerminalTeller::new())
        };
        Self {
            teller: Arc::new(Mutex::new(teller)),
            started,
        }
    }

    /// Tells an event.
    pub fn tell(&self, event: &Event) {
        let at_ms = self.elapsed_ms();
        self.teller
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .tell(at_ms, event);
    }

    /// Tells an act.
    pub fn act(&self, act: Act) {
        self.tell(&Event::Act(act));
    }

    /// Begins a chapter.
    pub fn chapter(&self, title: &str, about: &str) {
        self.tell(&Event::Chapter {
            title: title.to_owned(),
            about: about.to_owned(),
        });
    }

    /// Milliseconds since the run began.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a person watches.
    #[must_use]
    pub fn watched(&self) -> bool {
        self.teller
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .watched()
    }
}

/// Where everything lies.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    /// A temporary directory is removed when all went well.
    temporary: bool,
}

impl Place {
    /// The directory that was given, or a new temporary one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(args: &Demo) -> Outcome<Self> {
        let (dir, temporary) = match &args.dir {
            Some(dir) => (dir.clone(), false),
            None => {
                let mut tag = [0; 4];
                // A clash merely means an error below; the name needs no secrecy.
                let _ = getrandom::fill(&mut tag);
                let name = format!("tegata-demo-{}", hex::encode(tag));
                (std::env::temp_dir().join(name), true)
            }
        };
        let for_a_while = temporary.then(|| dir.clone());
        interrupt::make_for_a_while(for_a_while.as_slice(), args.json)?;
        files::make_dir(&dir)?;
        let dir = dir
            .canonicalize()
            .map_err(|e| Fault::io("find", &dir, &e))?;
        files::make_dir(&dir.join("logs"))?;
        Ok(Self { dir, temporary })
    }

    /// A path below the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of the logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// Whether it stays.
    #[must_use]
    pub fn kept(&self) -> bool {
        !self.temporary
    }

    /// Removes a temporary directory.
    pub fn clear(&self) {
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Loopback ports for this run.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    ca: u16,
    tam: u16,
    verifier: u16,
}

impl Ports {
    /// Three that are free now, and that the kernel gives nobody who asks for any port: it would, in the time until
    /// the servers listen.
    ///
    /// # Errors
    /// There is no loopback interface.
    pub fn free() -> Outcome<Self> {
        let fault = |e: std::io::Error| {
            Fault::environment(
                "no-port",
                format!("cannot open a loopback port: {e}"),
                "Check that this machine has a loopback interface.",
            )
        };
        // All three are held open together, so that they differ.
        let mut held: Vec<TcpListener> = Vec::new();
        let mut tries = 0;
        while held.len() < 3 {
            let mut random = [0; 2];
            getrandom::fill(&mut random).map_err(|e| fault(e.into()))?;
            let port = PORTS.start + u16::from_le_bytes(random) % (PORTS.end - PORTS.start);
            tries += 1;
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(listener) => held.push(listener),
                Err(e) if tries >= PORT_TRIES_MAX => return Err(fault(e)),
                Err(_) => {}
            }
        }
        let ports: Vec<u16> = held
            .iter()
            .map(|listener| listener.local_addr().map(|a| a.port()))
            .collect::<Result<_, _>>()
            .map_err(fault)?;
        match ports.as_slice() {
            [ca, tam, verifier] => Ok(Self {
                ca: *ca,
                tam: *tam,
                verifier: *verifier,
            }),
            _ => Err(fault(std::io::Error::other("no ports"))),
        }
    }

    /// What the relay sends where, by the beginning of the path.
    #[must_use]
    pub fn routes(self) -> Vec<(String, String)> {
        let base = |port: u16| format!("http://127.0.0.1:{port}");
        vec![
            ("/.well-known/cmp".to_owned(), base(self.ca)),
            ("/ca/".to_owned(), base(self.ca)),
            ("/tam".to_owned(), base(self.tam)),
            ("/verifier/".to_owned(), base(self.verifier)),
        ]
    }
}

/// Writes the configuration of this run; the keys and stores beside it stay.
///
/// # Errors
/// It cannot be written.
pub fn configure(place: &Place, ports: Ports, relay: &Relay) -> Outcome<Config> {
    let url = relay.url();
    let text = format!(
        "\
{OURS} at each start: the ports of this run.
# The roles reach each other through the demo's relay, so that every byte can be shown.

[ca]
listen = \"127.0.0.1:{}\"
status_url = \"http://127.0.0.1:{}\"

[tam]
listen = \"127.0.0.1:{}\"
public_url = \"{url}/tam\"
ca_url = \"{url}\"
verifier_url = \"{url}\"

[verifier]
listen = \"127.0.0.1:{}\"

[log]
format = \"json\"
filter = \"info\"
",
        ports.ca, ports.ca, ports.tam, ports.verifier
    );
    let path = place.path("tegata.toml");
    if path.exists() && !config::read_text(&path, "read")?.starts_with(OURS) {
        return Err(Fault::usage(
            "not-a-demo",
            format!("{} was not written by a demo", path.display()),
            "Choose another --dir; the demo never touches an installation of yours.",
        ));
    }
    files::replace(&path, text.as_bytes(), Readers::Everyone)?;
    config::load(&path)
}

/// Starts the three roles in a process of their own.
///
/// # Errors
/// They do not listen in time; the fault names their log.
pub fn start_servers(place: &Place) -> Outcome<Process> {
    let ready = place.path("servers.ready");
    let _ = std::fs::remove_file(&ready);
    let servers = supervise::start(Start {
        name: "the server process".to_owned(),
        args: vec![
            "serve".into(),
            "--roles".into(),
            "ca,tam,verifier".into(),
            "--config".into(),
            place.path("tegata.toml").into_os_string(),
            "--ready-file".into(),
            ready.clone().into_os_string(),
            "--end-with-parent".into(),
        ],
        log: &place.logs().join("servers.log"),
    })?;
    servers.wait_until(READY_LIMIT, || ready.exists())?;
    Ok(servers)
}

/// Words for the profile.
#[must_use]
pub fn profile_name(profile: DemoProfile) -> &'static str {
    match profile {
        DemoProfile::Default => "default",
        DemoProfile::Paper => "paper",
    }
}

/// What the two sets of keys protect, for the end of the story.
#[must_use]
pub fn difference(profile: DemoProfile) -> Event {
    let lines: &[&str] = match profile {
        DemoProfile::Default => &[
            "Delivery is asymmetric: the CA encrypts the TA's key to a key pair that only this TEE \
             holds. The TAM carries it and learns nothing; whoever owns the TAM can neither read the \
             TA nor forge a request.",
            "Each device has a CsrAuthKey of its own, derived from the release's master key: a TEE \
             that is broken open forges its own requests and no other device's.",
            "`tegata demo --profile paper` runs the paper's keys for comparison.",
        ],
        DemoProfile::Paper => &[
            "These are exactly the paper's keys: the TAM wraps the TA with the device's SK_TEE, so \
             whoever owns the TAM can read the TA, and with it SK_CSR.",
            "One SK_CSR serves every device of the release: one TEE that is broken open could \
             authenticate requests that name any device of the fleet. The CA still refuses any name \
             that the factory did not endorse, but not a forged request for one that it did.",
            "The default profile (`tegata demo`) closes both: asymmetric delivery, and a CsrAuthKey \
             for each device.",
        ],
    };
    Event::Remark {
        title: "What these keys protect".to_owned(),
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
    }
}
