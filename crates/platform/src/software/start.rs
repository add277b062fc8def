//! Starts `teed`: configuration, files, walls, and only then the socket.

use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anstream::{eprintln, println};
use clap::Parser;
use tegata_tee::platform::{BlobName, Platform};
use tegata_tee::session::{SessionLimits, SessionManager, SharedTee};
use tegata_tee::{Tee, TeeError};
use tegata_wire::rpc::{Answer, Call, Info, Reply, Request, VERSION};

use super::blobs::{BlobDir, OpenError};
use super::config::{Args, Config, ConfigError};
use super::device::{self, DeviceError};
use super::frames;
use super::gnss::Receiver;
use super::identity::Helper;
use super::launcher::{ProcessLauncher, WorkerSettings};
use super::machine::SoftwareMachine;
use super::sandbox::{self, Rules};
use super::server::{Lock, Server, ServerSettings};
use super::sys::PageKind;

/// Why `teed` does not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(
        "another teed runs on {}. One device has one TEE: stop the other one, or give this one a \
         device directory of its own.", dir.display()
    )]
    Locked { dir: PathBuf },
    #[error(
        "the storage directory {} cannot be used: {what}: {errno}. {hint}", dir.display()
    )]
    Storage {
        dir: PathBuf,
        what: &'static str,
        errno: rustix::io::Errno,
        hint: &'static str,
    },
    #[error(
        "the secure storage in {} does not open: {source}. Either it belongs to another \
         device.cbor, or it was damaged or changed: restore both from one backup, or move the \
         directory away to begin with no TA and no key.", dir.display()
    )]
    Core { dir: PathBuf, source: Box<TeeError> },
    #[error(
        "the storage in {} belongs to another device.cbor. Nothing was changed: set `device` or \
         `storage` in teed.toml right, or restore both from one backup.", dir.display()
    )]
    Foreign { dir: PathBuf },
    #[error("the socket {} cannot be made: {reason}", path.display())]
    Socket { path: PathBuf, reason: String },
    #[error("teed cannot confine itself: {0}")]
    Confine(#[source] std::io::Error),
    #[error("{0}")]
    Helper(String),
    #[error("the receiver of [position] in teed.toml cannot be used: {0}")]
    Receiver(String),
    #[error(
        "no worker can be started: {reason}. Without one no TA can run: see `journalctl -k` for \
         what the kernel refused, and docs/ops/software-backend.md for what it must offer."
    )]
    Worker { reason: String },
    #[error(
        "the walls {} of the sandbox cannot be put up here, and `require` in teed.toml asks for \
         them. docs/ops/software-backend.md tells what each needs; or take them out of `require`.",
        walls.join(", ")
    )]
    Required { walls: Vec<String> },
    #[error("cannot ask the running teed: {0}")]
    Ask(String),
}

/// Entry of `tegata-teed`: `args` begin with the program's name.
///
/// A program that embeds it calls [`super::reexec`] first in its `main`.
pub fn teed_main<A>(args: impl IntoIterator<Item = A>) -> ExitCode
where
    A: Into<OsString> + Clone,
{
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tegata-teed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), StartError> {
    let config = Config::load(args)?;
    if args.stats {
        print_info(&ask(&config)?);
        return Ok(());
    }
    start_log(&config);

    // Files first: the commonest mistakes are told before anything runs.
    let device = device::load(&config.device)?;
    let blobs = BlobDir::open(&config.storage).map_err(|error| storage_error(&config, error))?;
    let helper = Arc::new(Helper::start().map_err(StartError::Helper)?);
    let status = File::open("/proc/self/status").ok();
    let listener = if args.check {
        None
    } else {
        Some(listen(&config)?)
    };

    let receiver = match &config.position {
        None => None,
        Some(source) => Some(Receiver::start(source).map_err(StartError::Receiver)?),
    };

    // From here on nothing outside is within reach.
    let mut rules = Rules::program().map_err(StartError::Confine)?;
    rules.write.push(config.storage.clone());
    if let Some(source) = &config.position {
        // So that the receiver's process can be started again when it ended.
        rules.device.extend(source.device.clone());
        rules.connect.extend(source.gpsd.map(|gpsd| gpsd.port()));
    }
    let mut missing: Vec<String> = sandbox::confine_parent(&rules)
        .map_err(StartError::Confine)?
        .into_iter()
        .map(String::from)
        .collect();
    missing.extend(helper.missing.iter().cloned());
    missing.extend(receiver.iter().flat_map(|r| r.missing.iter().cloned()));
    match device.root_key.kind() {
        PageKind::Secret => {}
        PageKind::Locked => missing.push("memfd-secret".into()),
        PageKind::Plain => missing.extend(["memfd-secret".into(), "mlock".into()]),
    }

    // A worker is started and ended at once: what it lacks is known before anybody asks.
    let launcher = ProcessLauncher::new(worker_settings(&config));
    let trial = launcher.spawn().map_err(|e| StartError::Worker {
        reason: e.to_string(),
    })?;
    missing.extend(
        trial
            .missing
            .iter()
            .filter(|wall| {
                // An account that nothing else uses is as good as one given by root.
                !(config.dedicated_account && *wall == "dedicated-uid")
            })
            .cloned(),
    );
    drop(trial);
    missing.sort();
    missing.dedup();
    check_required(&config, &missing)?;

    let workers = launcher.stats();
    let _ = workers.observer.set(Arc::clone(&helper));
    let receiver = receiver.map(Receiver::listen);
    let machine = SoftwareMachine::new(device.identity, device.root_key, blobs, missing.clone())
        .with_receiver(receiver);
    let ueid = machine.identity().ueid;
    bind_storage(&config, &machine)?;
    let tee =
        Tee::new(machine, device.anchors, device.tam_uri).map_err(|source| StartError::Core {
            dir: config.storage.clone(),
            source: Box::new(source),
        })?;
    if missing.is_empty() {
        tracing::info!("sandbox whole");
    } else {
        tracing::warn!(
            missing = missing.join(","),
            "sandbox with gaps; evidence names them"
        );
    }
    let Some(listener) = listener else {
        println!("device      {ueid}");
        println!("storage     {}", config.storage.display());
        println!("missing     {}", list(&missing));
        println!("everything is in order");
        return Ok(());
    };

    let tee = Arc::new(Lock::new(tee));
    let shared = SharedTee::new(
        Arc::clone(&tee),
        |ms| std::thread::sleep(Duration::from_millis(ms.into())),
        |ta, line| tracing::info!(ta = %ta.uuid, line, "TA"),
    );
    let limits = SessionLimits {
        entry_ms_max: config.call_timeout_secs.saturating_mul(1000),
        instances: usize::try_from(config.workers_max).unwrap_or(usize::MAX),
        ..SessionLimits::default()
    };
    let sessions = SessionManager::new(shared, launcher, limits);
    let settings = ServerSettings {
        connections_max: config.connections_max,
        connections_per_user_max: config.connections_per_user_max,
        sessions_per_user_max: config.sessions_per_user_max,
        brokers: config.broker_users.clone(),
    };
    let server = Arc::new(Server::new(
        tee, sessions, helper, settings, workers, status,
    ));
    tracing::info!(
        %ueid, socket = %config.socket.display(), version = env!("CARGO_PKG_VERSION"), "teed ready"
    );
    server.run(&listener)
}

/// Ties the storage directory to this device. What another device sealed cannot be opened anyway;
/// this tells so, instead of showing an empty store beside it.
fn bind_storage(config: &Config, machine: &SoftwareMachine) -> Result<(), StartError> {
    let dir = || config.storage.clone();
    let failed = |source| StartError::Core {
        dir: dir(),
        source: Box::new(TeeError::Platform(source)),
    };
    // Derived for this use alone; tells nothing about any other key.
    let mark = machine
        .derive("tegata storage-binding v1", b"")
        .map_err(failed)?;
    let Some(name) = BlobName::new("software.device") else {
        return Ok(());
    };
    match machine.blob_read(&name).map_err(failed)? {
        Some(found) if found == mark.expose_secret() => Ok(()),
        Some(_) => Err(StartError::Foreign { dir: dir() }),
        None => machine
            .blob_write(&name, mark.expose_secret())
            .map_err(failed),
    }
}

fn start_log(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::new(format!("{log},wasmi=warn", log = config.log));
    // Fails only if a program that embeds this has its own log already, which is as well.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written, on a full disk, is lost: to complain of it on the same file would panic.
        .log_internal_errors(false)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}

fn worker_settings(config: &Config) -> WorkerSettings {
    let root = rustix::process::geteuid().is_root();
    WorkerSettings {
        first_account: Some(config.worker_account).filter(|first| root && *first != 0),
        workers_max: config.workers_max,
        silence_max: Duration::from_secs(config.worker_silence_secs),
    }
}

fn check_required(config: &Config, missing: &[String]) -> Result<(), StartError> {
    let all = config.require.iter().any(|wall| wall == "all");
    let walls: Vec<String> = missing
        .iter()
        .filter(|wall| all || config.require.contains(wall))
        .cloned()
        .collect();
    if walls.is_empty() {
        Ok(())
    } else {
        Err(StartError::Required { walls })
    }
}

fn storage_error(config: &Config, error: OpenError) -> StartError {
    use rustix::io::Errno;
    let dir = config.storage.clone();
    match error {
        OpenError::Locked => StartError::Locked { dir },
        OpenError::Io { what, errno } => StartError::Storage {
            dir,
            what,
            errno,
            hint: match errno {
                Errno::NOSPC | Errno::DQUOT => {
                    "The disk is full: free some space; nothing that was stored is lost."
                }
                Errno::ACCESS | Errno::PERM => {
                    "Give the directory to the account that runs teed (chown), mode 700."
                }
                Errno::ROFS => "The file system is mounted read-only: remount it for writing.",
                Errno::NOENT => "Its parent directory does not exist: check the path in teed.toml.",
                _ => "Check the path in teed.toml and the medium.",
            },
        },
    }
}

/// Makes the socket. The storage's lock is held, so a socket that nobody answers on is stale.
fn listen(config: &Config) -> Result<UnixListener, StartError> {
    let path = &config.socket;
    let wrong = |reason: String| StartError::Socket {
        path: path.clone(),
        reason,
    };
    let (short, _dir) = short_path(path).map_err(|e| {
        wrong(format!(
            "its directory cannot be opened: {e}. Make it, or set `socket` in teed.toml"
        ))
    })?;
    if let Ok(meta) = std::fs::symlink_metadata(&short) {
        if !meta.file_type().is_socket() {
            return Err(wrong(
                "there is a file of that name that is no socket. Move it away".into(),
            ));
        }
        if UnixStream::connect(&short).is_ok() {
            return Err(wrong(
                "another process answers on it. Stop that one, or set `socket` in teed.toml".into(),
            ));
        }
        std::fs::remove_file(&short)
            .map_err(|e| wrong(format!("the stale one cannot be removed: {e}")))?;
        tracing::info!(socket = %path.display(), "stale socket removed");
    }
    let listener = UnixListener::bind(&short).map_err(|e| match e.kind() {
        ErrorKind::PermissionDenied => wrong(format!(
            "{e}. Give its directory to the account that runs teed, or set `socket` in teed.toml"
        )),
        ErrorKind::NotFound => wrong(format!("{e}. Make its directory")),
        _ => wrong(e.to_string()),
    })?;
    super::sys::tell_writers(&listener).map_err(|e| wrong(e.to_string()))?;
    let mode = std::fs::Permissions::from_mode(config.mode().unwrap_or(0o600));
    std::fs::set_permissions(&short, mode).map_err(|e| wrong(e.to_string()))?;
    Ok(listener)
}

/// The same socket under a path that fits into the kernel's 107 bytes.
fn short_path(path: &Path) -> std::io::Result<(PathBuf, Option<File>)> {
    use std::os::fd::AsRawFd;
    if path.as_os_str().len() <= 107 {
        return Ok((path.into(), None));
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let dir = File::open(dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    Ok((short, Some(dir)))
}

fn ask(config: &Config) -> Result<Info, StartError> {
    let failed = |e: &dyn std::fmt::Display| {
        StartError::Ask(format!(
            "{e}. Is it running on {}?",
            config.socket.display()
        ))
    };
    let (short, _dir) = short_path(&config.socket).map_err(|e| failed(&e))?;
    let stream = UnixStream::connect(short).map_err(|e| failed(&e))?;
    let wait = Duration::from_secs(10);
    let mut last = None;
    for (id, request) in [(1, Request::Hello { version: VERSION }), (2, Request::Info)] {
        let call = Call { id, request };
        frames::send(&stream, &call, 1 << 16, wait).map_err(|e| failed(&e))?;
        let answer: Answer =
            frames::receive(&stream, 1 << 20, Some(wait), wait).map_err(|e| failed(&e))?;
        last = Some(answer.reply);
    }
    match last {
        Some(Reply::Info(info)) => Ok(info),
        Some(Reply::Refused { message, .. }) => Err(StartError::Ask(message)),
        _ => Err(StartError::Ask("it answered something else".into())),
    }
}

fn print_info(info: &Info) {
    let s = &info.stats;
    println!(
        "device           {} (serial {}, {})",
        info.ueid, info.serial, info.hwmodel
    );
    println!(
        "security level   {} (root key in {}, anti-rollback {})",
        info.security_level, info.storage_root, info.anti_rollback_level
    );
    println!("missing walls    {}", list(&info.missing));
    for ta in &info.trusted_apps {
        println!(
            "TA               {} sequence {} ({} bytes) release {}",
            ta.ta, ta.sequence_number, ta.module_len_bytes, ta.release
        );
    }
    println!(
        "up               {} s, version {}",
        s.uptime_secs, info.version
    );
    println!(
        "memory           teed {} KiB, worker {} KiB now, {} KiB at most",
        s.rss_kib, s.worker_rss_kib, s.worker_rss_peak_kib
    );
    println!(
        "workers          {} now, {} started, the last ready after {} us",
        s.workers, s.workers_started, s.spawn_ready_us
    );
    println!(
        "connections      {}, sessions {}, calls {}",
        s.connections, s.sessions, s.calls
    );
}

fn list(walls: &[String]) -> String {
    if walls.is_empty() {
        "none".into()
    } else {
        walls.join(", ")
    }
}
