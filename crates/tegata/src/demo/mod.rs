//! `tegata demo`: everything at once on one machine, and the story of it.
//!
//! Nothing here is staged: the servers are the ones that `tegata serve` runs, the device is what
//! the factory makes, and the attacks are real messages. The demo merely starts the processes,
//! stands on the wire between them (see [`relay`]), and tells what it sees.

pub mod device;
mod fleet;
mod narrate;
mod relay;
mod stage;
mod verify;

use std::process::ExitCode;
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};

use crate::cli::{self, DemoProfile, ReleaseMode};
use crate::commands::factory::{self, Batch, ENROL_TA_NAME, Made, Order};
use crate::commands::{enrol, import, init, ta};
use crate::config::Config;
use crate::fault::{EXIT_FAILED, Fault, Outcome};
use crate::files;
use crate::interrupt;
use crate::stores::now_secs;
use crate::story::{Act, Event, Who};
use crate::supervise::Process;
use crate::{certificate, serve};

use device::Device;
use relay::{Alter, Exchange, Relay};
use stage::{Place, Ports, Story};

/// Time for the agent's first visit to the TAM.
const FIRST_VISIT_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);
/// Certificate profile of the demo.
const CERT_PROFILE: &str = "iot-device";

/// Runs the demo; whatever happens is told as part of the story.
pub fn run(args: &cli::Demo) -> ExitCode {
    let started = Instant::now();
    let story = Story::new(args.json, started);
    let opened = runtime().and_then(|runtime| Ok((runtime, Place::open(args)?)));
    let (runtime, place) = match opened {
        Ok(opened) => opened,
        Err(fault) => return failed(&story, &fault, ""),
    };
    let logs = place.logs();
    match play(args, &story, &place, &runtime) {
        Ok(()) => {
            place.clear();
            ExitCode::SUCCESS
        }
        // A directory with the logs of a failure stays, temporary or not.
        Err(fault) => failed(&story, &fault, &logs.display().to_string()),
    }
}

fn failed(story: &Story, fault: &Fault, log: &str) -> ExitCode {
    interrupt::end_if_told();
    story.tell(&Event::Failed {
        code: fault.code.to_owned(),
        what: fault.to_string(),
        mend: fault.mend.clone(),
        log: log.to_owned(),
    });
    ExitCode::from(fault.exit.max(EXIT_FAILED))
}

/// What stands while the demo runs.
struct Running {
    config: Config,
    relay: Relay,
    servers: Process,
    ta: ta::Released,
}

fn runtime() -> Outcome<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| {
            Fault::environment(
                "no-threads",
                format!("cannot start threads: {e}"),
                "Raise the limit on processes of this user (`ulimit -u`).",
            )
        })
}

fn play(args: &cli::Demo, story: &Story, place: &Place, runtime: &Runtime) -> Outcome<()> {
    story.tell(&Event::Opening {
        profile: stage::profile_name(args.profile).to_owned(),
        devices: args.devices,
        dir: place.dir().display().to_string(),
        kept: place.kept(),
    });
    let running = open(args, story, place, runtime)?;
    let batch = make_devices(args, story, place, &running)?;
    let Some(first) = batch.devices.first() else {
        return Err(Fault::failed(
            "bug",
            "the factory made no device",
            "Please report this.",
        ));
    };
    let (first, update) = first_device(story, place, &running, first)?;
    let first_certificate_ms = story.elapsed_ms();
    show_certificate(story, place, &first)?;
    let attacks_refused = attacks(args, story, place, &running, &first, &update)?;
    let rest = batch.devices.get(1..).unwrap_or_default();
    let mut certificates = 1;
    if !rest.is_empty() {
        certificates += fleet::run(args, story, place, &running.ta.ta, rest)?;
    }
    check_servers(&running)?;
    story.tell(&stage::difference(args.profile));
    story.tell(&Event::Ended {
        certificates,
        first_certificate_ms,
        total_ms: story.elapsed_ms(),
        attacks_refused,
    });
    if args.keep {
        keep(story, place, &first, &running);
    }
    first.stop();
    running.servers.stop();
    Ok(())
}

/// Servers, and the release: steps 1 and 2.
fn open(args: &cli::Demo, story: &Story, place: &Place, runtime: &Runtime) -> Outcome<Running> {
    story.chapter(
        "Servers",
        "CA, TAM and Verifier, each with its own store and keys. No database, no root.",
    );
    let ports = Ports::free()?;
    let probe = crate::config::parse(std::path::Path::new("tegata.toml"), "")?;
    let relay = runtime.block_on(Relay::start(ports.routes(), probe.limits))?;
    let config = stage::configure(place, ports, &relay)?;
    let begun = Instant::now();
    let made = init::make(&config, place.dir(), &init::Names::default())?;
    let count = made.made.len();
    story.act(
        Act::by(
            Who::Ca,
            "makes a root and an issuing CA; keys sealed at rest",
        )
        .took(begun.elapsed())
        .detail(format!(
            "{count} files made; ca.pem is what relying parties trust"
        )),
    );
    let begun = Instant::now();
    let servers = stage::start_servers(place)?;
    story.act(
        Act::by(
            Who::Demo,
            format!("starts the three roles, process {}", servers.pid()),
        )
        .took(begun.elapsed())
        .detail("loopback ports; all traffic passes the demo's relay, so you see every byte"),
    );
    story.chapter(
        "The CA writes the procedure",
        "Steps 1 and 2: a Trusted Application that enrols, and the keys only CA and TA will know.",
    );
    relay.record(true);
    let begun = Instant::now();
    let mode = match args.profile {
        DemoProfile::Default => ReleaseMode::Asymmetric,
        DemoProfile::Paper => ReleaseMode::Symmetric,
    };
    let released = ta::cut_and_publish(
        &config,
        &ta::Order {
            wasm: None,
            own: cli::OwnTa::Enrol,
            name: ENROL_TA_NAME,
            profiles: &[CERT_PROFILE, "iot-signing", "iot-agreement"],
            mode,
            sequence: None,
            available: "all",
        },
    )?;
    let secret = match args.profile {
        DemoProfile::Default => "CsrAuthKey master drawn: it never leaves the CA",
        DemoProfile::Paper => "SK_CSR drawn: one for all devices of this release",
    };
    story.act(
        Act::by(
            Who::Ca,
            format!(
                "cuts release #{} of the TA “{ENROL_TA_NAME}”",
                released.sequence
            ),
        )
        .step(1)
        .took(begun.elapsed())
        .detail(format!(
            "Wasm {}, SHA-256 {}…",
            crate::story::size(released.module_len_bytes),
            released.module_digest.get(..24).unwrap_or_default()
        ))
        .detail(format!(
            "profile {CERT_PROFILE}: names, key algorithm, usages, lifetime, trust anchor; two more"
        ))
        .detail(secret)
        .detail(format!(
            "signed SUIT manifest, digest {}…",
            released.digest.get(..24).unwrap_or_default()
        )),
    );
    for act in narrate::in_order(&relay.record(false)) {
        story.act(act);
    }
    Ok(Running {
        config,
        relay,
        servers,
        ta: released,
    })
}

fn make_devices(
    args: &cli::Demo,
    story: &Story,
    place: &Place,
    running: &Running,
) -> Outcome<Batch> {
    story.chapter(
        "The factory",
        "Each device gets an identity that its own system cannot change, and a root key.",
    );
    let begun = Instant::now();
    let batch = make_batch(args, place, running, args.devices, place.dir())?;
    let list = match batch.devices.as_slice() {
        [only] => format!("makes device {}", only.serial),
        [first, .., last] => format!("makes {} to {}", first.serial, last.serial),
        [] => "makes nothing".to_owned(),
    };
    let manifest_len = std::fs::metadata(&batch.manifest).map_or(0, |m| m.len());
    story.act(
        Act::by(Who::Factory, list)
            .took(begun.elapsed())
            .detail(format!(
                "signed manifest {}: identity and public keys, imported by CA, TAM and Verifier",
                crate::story::size(manifest_len)
            )),
    );
    if args.profile == DemoProfile::Paper {
        story.act(
            Act::by(Who::Factory, "hands the symmetric delivery keys to the TAM")
                .detail("the paper's SK_TEE: the TAM can now read every TA it delivers"),
        );
    }
    Ok(batch)
}

/// Makes and imports a batch below `out`.
fn make_batch(
    args: &cli::Demo,
    place: &Place,
    running: &Running,
    count: u32,
    out: &std::path::Path,
) -> Outcome<Batch> {
    // An earlier run in the same directory has a manifest already; it stays where it is.
    let earlier = out.join("manifest.cose");
    if earlier.exists() {
        let aside = out.join(format!("manifest-{}.cose", now_secs()));
        std::fs::rename(&earlier, &aside).map_err(|e| Fault::io("rename", &earlier, &e))?;
        let _ = std::fs::remove_file(out.join("delivery-keks.cbor"));
    }
    files::make_dir(out)?;
    let url = running.relay.url();
    let batch = factory::make(
        &running.config,
        &Order {
            count,
            out,
            model: &running.config.factory.model,
            batch: None,
            tam_url: &format!("{url}/tam"),
            ca_url: &url,
            paper: args.profile == DemoProfile::Paper,
        },
    )?;
    let roles = [cli::Role::Ca, cli::Role::Tam, cli::Role::Verifier];
    import::import(
        &running.config,
        &batch.manifest,
        batch.keks.as_deref(),
        &roles,
    )
    .map_err(|fault| {
        let log = place.logs().join("servers.log");
        Fault {
            mend: format!("{} The servers' log is {}.", fault.mend, log.display()),
            ..fault
        }
    })?;
    Ok(batch)
}

/// The first device, step by step: 3 to 14. Gives the device and the Update it received.
fn first_device(
    story: &Story,
    place: &Place,
    running: &Running,
    made: &Made,
) -> Outcome<(Device, Vec<u8>)> {
    story.chapter(
        "The TA reaches the TEE",
        "Steps 3 and 4: attestation first, then the TA, encrypted for this one device.",
    );
    let begun = Instant::now();
    let mut device = Device::start_tee(made, &place.logs())?;
    let info = device
        .context()
        .info()
        .map_err(|e| enrol::tee_fault("ask the TEE", &e))?;
    let missing = match info.missing.as_slice() {
        [] => "sandbox complete".to_owned(),
        missing => format!("sandbox lacks {}", missing.join(", ")),
    };
    story.act(
        Act::by(
            Who::Tee,
            format!("teed starts, process {}", device.teed.pid()),
        )
        .took(begun.elapsed())
        .detail(format!("security level {}, {missing}", info.security_level)),
    );
    running.relay.record(true);
    let begun = Instant::now();
    device.start_agent(&place.logs())?;
    let agent_pid = device.agent.as_ref().map_or(0, Process::pid);
    story.act(
        Act::by(
            Who::Agent,
            format!("agent starts, process {agent_pid}: it holds no secret"),
        )
        .took(begun.elapsed()),
    );
    let mut seen = first_visit(running);
    let mut update = update_in(&seen);
    if update.is_none() {
        story.act(visit_in_short(&seen));
        story.act(Act::by(
            Who::App,
            format!("needs the TA “{ENROL_TA_NAME}”: the agent asks again"),
        ));
        enrol::wait_for_ta(&made.dir, &running.ta.ta)?;
        seen = running.relay.record(true);
        update = update_in(&seen);
    }
    for act in narrate::in_order(&seen) {
        story.act(act);
    }
    story.act(
        Act::by(
            Who::Tee,
            "verifies CA and TAM, decrypts, checks the digest, installs",
        )
        .step(4)
        .detail("a sequence number that is not above the stored one would be refused"),
    );
    story.chapter(
        "The certificate",
        "Steps 5 to 14: the key is made in the TEE and stays there; nobody types anything.",
    );
    let enrolled = enrol::enrol(&made.dir, &running.ta.ta, "default", 5)?;
    let exchanges = running.relay.record(false);
    for act in acts_in_tee(&exchanges, &enrolled) {
        story.act(act);
    }
    for act in narrate::in_order(&exchanges) {
        story.act(act);
    }
    story.act(
        Act::by(
            Who::Tee,
            "checks signature, chain, key and identity; installs",
        )
        .step(14)
        .took(enrolled.finish)
        .detail("a certificate for another key or another device would be refused here"),
    );
    enrol::write_pem(&made.dir.join("cert.pem"), &enrolled)?;
    Ok((device, update.unwrap_or_default()))
}

/// Steps 5 to 9: what the TEE did, as far as its request shows it.
fn acts_in_tee(exchanges: &[Exchange], enrolled: &enrol::Enrolled) -> Vec<Act> {
    let mut acts = vec![
        Act::by(
            Who::App,
            "asks its TEE for a certificate under the label “default”",
        )
        .step(5),
        Act::by(
            Who::Tee,
            "makes the DeviceKey in its key store; steps 6 to 9",
        )
        .step(6)
        .took(enrolled.begin),
    ];
    if let Some(facts) = narrate::request_facts(exchanges) {
        acts.push(
            Act::by(
                Who::Tee,
                "reads the hardware identity, which the open world cannot set",
            )
            .step(7)
            .detail(facts.names),
        );
        acts.push(
            Act::by(
                Who::Tee,
                format!(
                    "builds and signs the PKCS#10 request, {} B",
                    facts.csr_len_bytes
                ),
            )
            .step(8)
            .detail(facts.subject),
        );
        acts.push(
            Act::by(Who::Tee, "protects it: HMAC-SHA256 under the CsrAuthKey")
                .step(9)
                .detail(format!("senderKID {}", facts.sender_kid)),
        );
    }
    acts
}

/// The Update among the recorded exchanges.
fn update_in(exchanges: &[Exchange]) -> Option<Vec<u8>> {
    exchanges
        .iter()
        .map(|exchange| &exchange.answer)
        .find(|answer| {
            matches!(
                narrate::teep_message(answer),
                Some(tegata_wire::teep::Message::Update(_))
            )
        })
        .cloned()
}

/// What the agent's first visit to the TAM put on the wire; it makes one when it starts.
fn first_visit(running: &Running) -> Vec<Exchange> {
    let until = Instant::now() + FIRST_VISIT_LIMIT;
    let mut seen = Vec::new();
    while Instant::now() < until {
        seen.extend(running.relay.record(true));
        if seen
            .iter()
            .any(|exchange| exchange.path == "/tam" && exchange.status != 200)
        {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    seen
}

/// A visit that brought nothing, as one act.
fn visit_in_short(seen: &[Exchange]) -> Act {
    let len = seen
        .iter()
        .filter(|exchange| exchange.path == "/tam")
        .map(|exchange| exchange.request.len().saturating_add(exchange.answer.len()))
        .sum();
    let took = seen
        .iter()
        .filter(|exchange| exchange.path == "/tam")
        .map(|exchange| exchange.took)
        .sum();
    Act::by(Who::Agent, "visits the TAM: attested; no TA is wanted yet")
        .step(3)
        .sent(Who::Tam, len)
        .took(took)
}

fn show_certificate(story: &Story, place: &Place, device: &Device) -> Outcome<()> {
    story.chapter(
        "What was issued",
        "Decoded from the certificate's own bytes, then checked by two implementations.",
    );
    let path = device.made.dir.join("cert.pem");
    let chain = certificate::read_pem(&path)?;
    let root = certificate::read_pem(&place.path("ca.pem"))?;
    let [leaf, issuing, ..] = chain.as_slice() else {
        return Err(Fault::failed(
            "no-chain",
            format!("{} does not hold a chain", path.display()),
            "The log of the device's teed says what it installed.",
        ));
    };
    let fields = certificate::fields(leaf)
        .map_err(|e| Fault::failed("bad-certificate", e.to_string(), "Please report this."))?;
    story.tell(&Event::Certificate {
        ueid: device.made.ueid.clone(),
        path: path.display().to_string(),
        len_bytes: u64::try_from(leaf.len()).unwrap_or(0),
        fields,
    });
    let root = root.first().cloned().unwrap_or_default();
    let checks = [
        Some(verify::ours(leaf, issuing, &root, now_secs())),
        verify::openssl(&place.path("ca.pem"), &path),
    ];
    for check in checks.into_iter().flatten() {
        story.tell(&check);
        if let Event::Verified {
            ok: false,
            by,
            detail,
        } = check
        {
            return Err(Fault::failed(
                "certificate-does-not-verify",
                format!("{by} refuses the certificate: {detail}"),
                format!("The certificate is kept as {}.", path.display()),
            ));
        }
    }
    Ok(())
}

/// Two attacks; gives how many were refused, which is both or the demo fails.
fn attacks(
    args: &cli::Demo,
    story: &Story,
    place: &Place,
    running: &Running,
    first: &Device,
    update: &[u8],
) -> Outcome<u32> {
    story.chapter(
        "Two attacks",
        "Real messages from an attacker who owns the network and the agent.",
    );
    altered_csr(story, running, first)?;
    foreign_ta(args, story, place, running, first, update)?;
    Ok(2)
}

fn altered_csr(story: &Story, running: &Running, device: &Device) -> Outcome<()> {
    let before = certificate_count(running)?;
    running.relay.record(true);
    running.relay.alter(Some(flip_a_bit()));
    let result = enrol::enrol(&device.made.dir, &running.ta.ta, "altered", 1);
    running.relay.alter(None);
    let exchanges = running.relay.record(false);
    let altered = exchanges.iter().find(|exchange| exchange.altered);
    let reason = altered.and_then(|exchange| narrate::failure(&exchange.answer));
    let after = certificate_count(running)?;
    let refused = result.is_err() && altered.is_some() && reason.is_some() && before == after;
    story.tell(&Event::Attack {
        name: "An altered CSR".to_owned(),
        attempt: vec![
            "The TEE makes a second key; on the way to the CA one bit of the certification request \
             inside the p10cr is flipped."
                .to_owned(),
        ],
        refused,
        by: Who::Ca,
        reason: reason.unwrap_or_else(|| "no refusal was seen".to_owned()),
        unharmed: format!("Nothing was issued: {after} certificate in the CA's store, as before."),
    });
    if refused {
        return Ok(());
    }
    Err(Fault::failed(
        "attack-succeeded",
        "the altered CSR was not refused as it must be",
        "Please report this with the logs.",
    ))
}

/// Flips one bit in the middle of the CSR inside a p10cr.
fn flip_a_bit() -> Alter {
    Box::new(|path, body| {
        if !path.starts_with("/.well-known/cmp") {
            return false;
        }
        let Ok(message) = tegata_wire::cmp::UnverifiedPkiMessage::from_der(body) else {
            return false;
        };
        let Ok(csr) = message.body().p10cr_csr() else {
            return false;
        };
        let (len, csr) = (csr.len(), csr.to_vec());
        let Some(at) = body.windows(len.max(1)).position(|window| window == csr) else {
            return false;
        };
        match body.get_mut(at.saturating_add(len / 2)) {
            Some(byte) => {
                *byte ^= 0x01;
                true
            }
            None => false,
        }
    })
}

fn certificate_count(running: &Running) -> Outcome<usize> {
    let store = crate::stores::open(&running.config, cli::Role::Ca)?;
    let rows = crate::commands::ca::all(&store).map_err(|e| crate::stores::store_fault(&e))?;
    Ok(rows.iter().filter(|row| row.der.is_some()).count())
}

fn foreign_ta(
    args: &cli::Demo,
    story: &Story,
    place: &Place,
    running: &Running,
    first: &Device,
    update: &[u8],
) -> Outcome<()> {
    if update.is_empty() {
        return Err(Fault::failed(
            "no-update-seen",
            "the first device's Update was not seen on the wire",
            "Please report this with the logs.",
        ));
    }
    let batch = make_batch(args, place, running, 1, &place.path("attack"))?;
    let Some(made) = batch.devices.first() else {
        return Err(Fault::failed(
            "bug",
            "the factory made no device",
            "Please report this.",
        ));
    };
    let other = Device::start_tee(made, &place.logs())?;
    let context = other.context();
    let answer = context.process_teep(update, &[]);
    let reason = match &answer {
        Ok(tegata_client::TeepOutcome::Reply(reply)) => match narrate::teep_message(reply) {
            Some(tegata_wire::teep::Message::Error(error)) => Some(format!(
                "TEEP Error {}: {}",
                error.err_code.number(),
                explained(
                    error
                        .err_msg
                        .unwrap_or_else(|| format!("{:?}", error.err_code))
                )
            )),
            Some(_) => None,
            None => Some("an answer that says nothing".to_owned()),
        },
        Ok(_) => Some("no answer: the message is not for this device".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    let info = context
        .info()
        .map_err(|e| enrol::tee_fault("ask the other TEE", &e))?;
    let refused = reason.is_some() && info.trusted_apps.is_empty();
    story.tell(&Event::Attack {
        name: "The TA of another device".to_owned(),
        attempt: vec![format!(
            "Device {} is fed, through its own agent's door, the very Update that the TAM signed \
             for device {}: {}.",
            made.serial,
            first.made.serial,
            crate::story::size(u64::try_from(update.len()).unwrap_or(0))
        )],
        refused,
        by: Who::Tee,
        reason: crate::cli::show::visible(&reason.unwrap_or_else(|| "it was accepted".to_owned())),
        unharmed: format!(
            "TAs installed on {}: {}.",
            made.serial,
            info.trusted_apps.len()
        ),
    });
    other.stop();
    if refused {
        return Ok(());
    }
    Err(Fault::failed(
        "attack-succeeded",
        "the Update of another device was not refused as it must be",
        "Please report this with the logs.",
    ))
}

/// SUIT says conditions by number; this one is the point of the attack.
///
/// Spec: draft-ietf-suit-manifest section 8.4.8.2
fn explained(text: String) -> String {
    if text.contains("condition 24") {
        format!("{text}: the device-identifier in the manifest is another device's")
    } else {
        text
    }
}

/// The servers must still be alive at the end.
fn check_servers(running: &Running) -> Outcome<()> {
    match running.servers.ended() {
        None => Ok(()),
        Some(status) => Err(Fault::failed(
            "servers-ended",
            format!("the server process ended early ({status})"),
            format!("Its log is {}.", running.servers.log().display()),
        )),
    }
}

/// Leaves everything running until Ctrl-C.
fn keep(story: &Story, place: &Place, first: &Device, running: &Running) {
    let config = place.path("tegata.toml").display().to_string();
    let device = first.made.dir.display().to_string();
    let commands = [
        (
            "another key and certificate on the first device",
            format!("tegata device enrol --device {device} --label tls"),
        ),
        (
            "what the CA has issued",
            format!("tegata ca list --config {config}"),
        ),
        (
            "what the TAM knows of the device",
            format!(
                "tegata device show --config {config} {}",
                first.made.ueid.get(..12).unwrap_or_default()
            ),
        ),
        (
            "a new release: the device takes it at its next visit to the TAM",
            format!(
                "tegata ta release --config {config} --name {ENROL_TA_NAME} --profile {CERT_PROFILE},iot-signing,iot-agreement"
            ),
        ),
        (
            "one more device, by hand",
            format!(
                "tegata factory make --config {config} --count 1 --out {}",
                place.path("more").display()
            ),
        ),
        (
            "is the CA well?",
            format!(
                "curl -s {}/healthz",
                serve::ca_listen(&running.config).unwrap_or_default()
            ),
        ),
    ];
    story.tell(&Event::Next {
        commands: commands
            .into_iter()
            .map(|(why, command)| (why.to_owned(), command))
            .collect(),
    });
    story.tell(&Event::Remark {
        title: "Running".to_owned(),
        lines: vec![
            "Servers, the first device's TEE and its agent run until you press Ctrl-C.".to_owned(),
        ],
    });
    loop {
        // The stop signal ends the process; a server that dies ends the waiting.
        if running.servers.ended().is_some() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
}
