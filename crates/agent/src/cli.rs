//! The command line of `tegata-agent`.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anstream::{eprintln, print, println};
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use tegata_client::{Context, Login};
use tegata_wire::ids::TaUuid;

use crate::carrier::{AgentCarrier, Carrier, HttpCarrier};
use crate::config::{Config, ConfigError, login};
use crate::daemon::{Daemon, DaemonError};
use crate::enrol::{self, Boundary, Crossing, EnrolError, Step, Watch};
use crate::http::Http;
use crate::keys::KeysError;
use crate::retry::Patience;
use crate::starting;
use crate::teep::{self, Purpose, TeepError, TeepEvent, Visit};

mod device;
mod keys;
mod locate;
mod renew;

#[derive(Debug, Parser)]
#[command(
    name = "tegata-agent",
    version,
    about = "Carries bytes between a device's TEE, its TAM and its CA",
    after_help = "Examples:\n  \
        tegata-agent --dir devices/01ab… sync     # what the TAM has for this device\n  \
        tegata-agent --dir devices/01ab… enrol --label web --out cert.pem\n  \
        tegata-agent --dir devices/01ab… sign --label web --in FILE --out FILE.sig\n  \
        tegata-agent --config /etc/tegata/agent.toml run   # the daemon\n  \
        tegata-agent --dir devices/01ab… info     # what the TEE says of itself"
)]
struct Cli {
    /// Device directory: agent.toml and the sockets are in it.
    #[arg(long, value_name = "DIR", global = true, conflicts_with = "config")]
    dir: Option<PathBuf>,
    /// Configuration file; paths in it are relative to it.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print events and results as one JSON object on each line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run as a daemon: visit the TAM now and then, carry for local applications.
    Run,
    /// Visit the TAM once, now.
    Sync(Sync),
    /// Get a certificate from the CA, with a key that never leaves the TEE.
    #[command(after_help = "Example:\n  \
        tegata-agent --dir devices/01ab… enrol --label web --profile iot-signing \\\n    \
        --out cert.pem\n\n\
        The key belongs to the user that runs this; no other user can use it. Running it again \
        after a failure goes on where it stopped.")]
    Enrol(Enrol),
    /// Get the next certificate of this caller's labels, if it is due.
    #[command(after_help = "Example:\n  \
        tegata-agent --dir devices/01ab… renew              # all that are due\n  \
        tegata-agent --dir devices/01ab… renew web --now    # this one, due or not\n\n\
        The daemon does this by itself for the labels of its own user. Those of other users and \
        programs it cannot see: run this as their owner, from a timer.")]
    Renew(renew::Renew),
    /// Sign a file with a key of this caller, which never leaves the TEE.
    #[command(after_help = "Example:\n  \
        tegata-agent --dir devices/01ab… sign --label web \\\n    \
        --in report.json --out report.sig\n  \
        openssl dgst -sha256 -verify pub.pem -signature report.sig report.json\n\n\
        ECDSA over SHA-256 (P-256) or SHA-384 (P-384) of the file, in DER; Ed25519 over the file \
        itself, 64 bytes.")]
    Sign(keys::Sign),
    /// Read the certificate and chain of a label.
    #[command(after_help = "Example:\n  \
        tegata-agent --dir devices/01ab… certificate --label web --out cert.pem")]
    Certificate(keys::Certificate),
    /// List the labels under which this caller has keys.
    #[command(after_help = "Example:\n  tegata-agent --dir devices/01ab… list --json")]
    List(keys::Caller),
    /// Have the TEE sign where the device is, by the TEE's own receiver.
    #[command(after_help = "Example:\n  \
        nonce=$(curl -s http://verify.example:8443/v1/nonce | jq -r .nonce)\n  \
        tegata-agent --dir devices/01ab… locate --label gnss \\\n    \
        --nonce \"$nonce\" --out here.cose\n  \
        curl -s --data-binary @here.cose -H 'Content-Type: application/cose' \\\n    \
        http://verify.example:8443/v1/statements")]
    Locate(locate::Locate),
    /// At the factory: have a TEE that makes its own keys report who it is.
    #[command(after_help = "Example:\n  \
        tegata-agent --config agent.toml report --out device.report\n\n\
        Bring the file to the factory station: `tegata factory adopt --report device.report …`. It \
        holds public keys only.")]
    Report(device::Report),
    /// Hand the factory's word for this device to a TEE that makes its own keys.
    #[command(after_help = "Example:\n  \
        tegata-agent --config agent.toml provision --record device.cose\n\n\
        `tegata factory adopt` wrote the file. Doing it again with the same file changes nothing.")]
    Provision(device::Provision),
    /// Tell what the TEE is and how it is doing.
    Info,
}

#[derive(Debug, Args)]
struct Sync {
    /// A TA that is wanted: a UUID, or a name from agent.toml.
    #[arg(long, value_name = "TA", conflicts_with = "remove")]
    ta: Option<String>,
    /// A TA that is wanted no more.
    #[arg(long, value_name = "TA")]
    remove: Option<String>,
}

#[derive(Debug, Args)]
struct Enrol {
    /// Name of key and certificate, 1 to 64 bytes.
    #[arg(long, value_parser = enrol::label)]
    label: String,
    /// The enrolment TA: a UUID, or a name from agent.toml. Default: `enrol_ta`, or the only TA.
    #[arg(long, value_name = "TA")]
    ta: Option<String>,
    /// Certificate profile; default: the one of the TA's release.
    #[arg(long)]
    profile: Option<String>,
    /// Write certificate and chain (PEM) there instead of to the standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Whose key it is: `user`, `group`, `group:GID`, `application`, `user-application`,
    /// `group-application` or `public`. Default: `login` of agent.toml.
    #[arg(long, value_parser = login)]
    login: Option<Login>,
    /// Send messages through the agent's daemon instead of by this process.
    #[arg(long)]
    via_agent: bool,
    /// Make a new key and certificate although there is a certificate under this label.
    #[arg(long)]
    renew: bool,
}

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error(transparent)]
    Teep(#[from] TeepError),
    #[error(transparent)]
    Tee(#[from] tegata_client::Error),
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    #[error(
        "TA {ta} is not installed and the TAM did not bring it. See whether a release of it is \
         published for this device, then try `tegata-agent sync --ta {ta}`."
    )]
    NotInstalled { ta: TaUuid },
    #[error("{name:?} is no UUID, and agent.toml has no such name under [tas]")]
    UnknownTa { name: String },
    #[error("which TA? Give --ta, or set enrol_ta in agent.toml: {installed} TAs are installed")]
    WhichTa { installed: usize },
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("no CA is known: set `ca_url` in agent.toml")]
    NoCa,
    #[error("cannot read {}: {reason}", path.display())]
    Read { path: PathBuf, reason: String },
    #[error("cannot write {}: {source}", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// Entry of `tegata-agent`: `args` begin with the program's name.
pub fn agent_main<A>(args: impl IntoIterator<Item = A>) -> ExitCode
where
    A: Into<OsString> + Clone,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let json = args.iter().any(|arg| arg == "--json");
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            if json && error.use_stderr() {
                print_json(&json!({ "event": "error", "message": error.to_string() }));
            } else {
                let _ = error.print();
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if cli.json {
                print_json(&json!({ "event": "error", "message": error.to_string() }));
            } else {
                eprintln!("tegata-agent: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), CliError> {
    let path = match (&cli.config, &cli.dir) {
        (Some(file), _) => file.clone(),
        (None, Some(dir)) => dir.join("agent.toml"),
        (None, None) => PathBuf::from("agent.toml"),
    };
    let config = Config::load(&path)?;
    let tee = Context::at(config.tee_address());
    match &cli.command {
        Command::Run => {
            start_log(&config, cli.json);
            match Daemon::new(config).run()? {}
        }
        Command::Sync(args) => sync(cli, &config, &tee, args),
        Command::Enrol(args) => enrol(cli, &config, &tee, args),
        Command::Renew(args) => renew::run(cli, &config, &tee, args),
        Command::Sign(args) => keys::sign(cli, &config, &tee, args),
        Command::Certificate(args) => keys::certificate(cli, &config, &tee, args),
        Command::List(args) => keys::list(cli, &config, &tee, args),
        Command::Report(args) => device::report(cli, &tee, args),
        Command::Provision(args) => device::provision(cli, &tee, args),
        Command::Locate(args) => locate::run(cli, &config, &tee, args),
        Command::Info => info(cli, &tee),
    }
}

fn sync(cli: &Cli, config: &Config, tee: &Context, args: &Sync) -> Result<(), CliError> {
    let purpose = match (&args.ta, &args.remove) {
        (Some(ta), _) => Purpose::Want(named(config, ta)?),
        (None, Some(ta)) => Purpose::Unwant(named(config, ta)?),
        (None, None) => Purpose::Check,
    };
    starting::tee(tee)?;
    let http = Http::new(config.http_timeout());
    let visit = visit(cli, config, tee, &http, purpose)?;
    if cli.json {
        print_json(&json!({
            "event": "synced", "contacted": visit.contacted, "messages": visit.messages,
            "fetched": visit.fetched,
        }));
    } else if visit.contacted {
        println!("done: {} messages of the TAM handled", visit.messages);
    } else {
        println!("nothing to do");
    }
    Ok(())
}

/// Visits the TAM; where it is busy and says when to come again, once more from the beginning.
fn visit(
    cli: &Cli,
    config: &Config,
    tee: &Context,
    http: &Http,
    purpose: Purpose,
) -> Result<Visit, TeepError> {
    let patience = Patience::new(enrol::PATIENCE);
    loop {
        let visit = teep::visit(tee, http, config.tam(), purpose, &mut |event| {
            tell(cli, &event)
        });
        let pause = |error: &TeepError| patience.pause(error.retry_after()?);
        match visit {
            Err(error) if let Some(pause) = pause(&error) => {
                tell_retrying(cli, "visit", &error, pause);
                std::thread::sleep(pause);
            }
            done => return done,
        }
    }
}

fn enrol(cli: &Cli, config: &Config, tee: &Context, args: &Enrol) -> Result<(), CliError> {
    if config.ca_url.is_empty() && !args.via_agent {
        return Err(CliError::NoCa);
    }
    starting::tee(tee)?;
    let ta = which_ta(config, tee, args.ta.as_ref())?;
    let http = Http::new(config.http_timeout());
    let direct = HttpCarrier::new(http.clone(), &config.ca_url);
    let timeout = config.http_timeout().saturating_add(Duration::from_secs(5));
    let daemon = AgentCarrier::new(&config.agent_socket, timeout);
    let carrier: &dyn Carrier = if args.via_agent { &daemon } else { &direct };
    let mut request = enrol::Request::new(ta, &args.label);
    request.profile.clone_from(&args.profile);
    request.login = args.login.unwrap_or(config.login);
    let profile = args.profile.as_deref().unwrap_or("default");
    request.cmp_path = Some(config.cmp_path.replace("{profile}", profile));

    let mut watch = Teller { cli };
    let enrolled = match there(tee, &request, args.renew)
        .map_or_else(|| enrol::enrol(tee, carrier, &request, &mut watch), Ok)
    {
        // A device that was just made has no TA yet: fetch it and go on.
        Err(error) if enrol::ta_is_missing(&error) => {
            if args.via_agent {
                let sync = || daemon.sync(Some(ta));
                starting::ask(&config.agent_socket, starting::LIMIT, sync).map_err(|source| {
                    EnrolError::Carry {
                        step: Step::Open,
                        source,
                    }
                })?;
            } else {
                visit(cli, config, tee, &http, Purpose::Want(ta))?;
            }
            match enrol::enrol(tee, carrier, &request, &mut watch) {
                Err(error) if enrol::ta_is_missing(&error) => {
                    return Err(CliError::NotInstalled { ta });
                }
                other => other?,
            }
        }
        other => other?,
    };
    if let Some(path) = &args.out {
        write_out(path, enrolled.chain_pem.as_bytes())?;
    }
    if cli.json {
        print_json(&json!({
            "event": "enrolled", "label": args.label, "ta": ta.to_string(),
            "confirmed": enrolled.confirmed, "certificate": enrolled.chain_pem,
        }));
    } else if let Some(path) = &args.out {
        println!("certificate and chain: {}", path.display());
    } else {
        print!("{}", enrolled.chain_pem);
    }
    Ok(())
}

/// The certificate that this caller has under the label already, unless it wants another: one that
/// was cut off after its success and asks again wants the one that was made.
fn there(tee: &Context, request: &enrol::Request, renew: bool) -> Option<enrol::Enrolled> {
    if renew {
        return None;
    }
    let chain_pem = enrol::certificate(tee, request).ok()?;
    Some(enrol::Enrolled {
        chain_pem,
        confirmed: true,
    })
}

fn info(cli: &Cli, tee: &Context) -> Result<(), CliError> {
    let info = tee.info()?;
    if cli.json {
        print_json(&serde_json::to_value(&info).unwrap_or_default());
        return Ok(());
    }
    println!(
        "device          {} (serial {}, {})",
        info.ueid, info.serial, info.hwmodel
    );
    println!("TEE             {} {}", info.security_level, info.version);
    let missing = if info.missing.is_empty() {
        "none".into()
    } else {
        info.missing.join(", ")
    };
    println!("missing walls   {missing}");
    for ta in &info.trusted_apps {
        println!("TA              {} sequence {}", ta.ta, ta.sequence_number);
    }
    let stats = &info.stats;
    println!(
        "memory          teed {} KiB, worker {} KiB at most; {} calls in {} s",
        stats.rss_kib, stats.worker_rss_peak_kib, stats.calls, stats.uptime_secs
    );
    Ok(())
}

/// The TA that is named, the configured one, or the only one.
fn which_ta(config: &Config, tee: &Context, name: Option<&String>) -> Result<TaUuid, CliError> {
    match name.or(config.enrol_ta.as_ref()) {
        Some(name) => named(config, name),
        None => match tee.info()?.trusted_apps.as_slice() {
            [only] => Ok(only.ta),
            several => Err(CliError::WhichTa {
                installed: several.len(),
            }),
        },
    }
}

fn named(config: &Config, name: &str) -> Result<TaUuid, CliError> {
    config
        .ta(name)
        .ok_or_else(|| CliError::UnknownTa { name: name.into() })
}

/// Writes a result to a file.
fn write_out(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    write_whole(path, bytes).map_err(|source| CliError::Write {
        path: path.into(),
        source,
    })
}

/// Reads a file of at most `max` bytes.
fn read_in(path: &Path, max: u64) -> Result<Vec<u8>, CliError> {
    let wrong = |reason: String| CliError::Read {
        path: path.into(),
        reason,
    };
    let file = std::fs::File::open(path).map_err(|e| wrong(e.to_string()))?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, max + 1), &mut bytes)
        .map_err(|e| wrong(e.to_string()))?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= max) {
        Ok(bytes)
    } else {
        Err(wrong(format!("it is longer than {max} bytes")))
    }
}

/// Writes a file whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut temp = path.as_os_str().to_owned();
    temp.push(".new");
    let temp = PathBuf::from(temp);
    let mut file = std::fs::File::create(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temp, path)
}

fn start_log(config: &Config, json: bool) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(&config.log))
        .with_writer(std::io::stderr)
        // A line that cannot be written, on a full disk, is lost: to complain of it on the same file would panic.
        .log_internal_errors(false)
        .with_ansi(false)
        .with_target(false);
    // Fails only if a program that embeds this has its own log already, which is as well.
    let _ = if json {
        log.json().try_init()
    } else {
        log.try_init()
    };
}

fn tell(cli: &Cli, event: &TeepEvent) {
    if cli.json {
        let value = match event {
            TeepEvent::ToTam { url, bytes } => {
                json!({ "event": "to-tam", "url": url, "bytes": bytes })
            }
            TeepEvent::FromTam { bytes, took } => {
                json!({ "event": "from-tam", "bytes": bytes, "us": micros(*took) })
            }
            TeepEvent::Fetched { url, bytes, took } => {
                json!({ "event": "fetched", "url": url, "bytes": bytes, "us": micros(*took) })
            }
            TeepEvent::Handled { bytes, reply, took } => json!({
                "event": "tee-handled", "bytes": bytes, "reply": reply, "us": micros(*took)
            }),
        };
        print_json(&value);
        return;
    }
    match event {
        TeepEvent::ToTam { url, bytes: 0 } => eprintln!("agent -> TAM   first contact, {url}"),
        TeepEvent::ToTam { bytes, .. } => eprintln!("agent -> TAM   {bytes} bytes"),
        TeepEvent::FromTam { bytes: 0, .. } => eprintln!("agent <- TAM   nothing more"),
        TeepEvent::FromTam { bytes, took } => eprintln!("agent <- TAM   {bytes} bytes, {took:.1?}"),
        TeepEvent::Fetched { url, bytes, took } => {
            eprintln!("agent <- {url}   {bytes} bytes, {took:.1?}");
        }
        TeepEvent::Handled { bytes, reply, took } => eprintln!(
            "agent <> TEE   {bytes} bytes in, {} out, {took:.1?}",
            reply.unwrap_or(0)
        ),
    }
}

/// Tells an enrolment as it happens.
struct Teller<'a> {
    cli: &'a Cli,
}

impl Watch for Teller<'_> {
    fn crossed(&mut self, crossing: &Crossing) {
        let Crossing {
            step,
            boundary,
            sent_bytes,
            received_bytes,
            took,
        } = crossing;
        let to = match boundary {
            Boundary::Tee => "TEE",
            Boundary::Ca => "CA",
        };
        if self.cli.json {
            print_json(&json!({
                "event": "crossed", "step": step.name(), "boundary": to.to_lowercase(),
                "sent": sent_bytes, "received": received_bytes, "us": micros(*took),
            }));
        } else {
            eprintln!(
                "agent <> {to:<5} {:<8} {sent_bytes} bytes in, {received_bytes} out, {took:.1?}",
                step.name()
            );
        }
    }

    fn retrying(&mut self, step: Step, error: &EnrolError, pause: Duration) {
        tell_retrying(self.cli, step.name(), error, pause);
    }
}

fn tell_retrying(cli: &Cli, step: &str, error: &dyn std::fmt::Display, pause: Duration) {
    if cli.json {
        print_json(&json!({
            "event": "retrying", "step": step, "message": error.to_string(),
            "pause_ms": u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
        }));
    } else {
        eprintln!("{error}; again in {pause:.1?}");
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

fn print_json(value: &serde_json::Value) {
    println!("{value}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// As a terminal of 80 columns shows it: what is copied from there must be the command that was meant.
    #[test]
    fn examples_can_be_copied_from_a_narrow_terminal() {
        let mut command = Cli::command();
        command.build();
        let subs = command.get_subcommands();
        let mut seen = 0;
        for command in subs.chain([&command]) {
            let help = command.get_after_help().map(ToString::to_string);
            let mut narrow = command.clone().term_width(80);
            let shown = narrow.render_long_help().to_string();
            for line in help.iter().flat_map(|help| help.lines()) {
                if line.starts_with("  ") {
                    seen += 1;
                    assert!(
                        shown.lines().any(|l| l == line),
                        "more than 80 columns: {line}"
                    );
                }
            }
        }
        assert!(seen > 15, "{seen} lines of examples");
    }
}
