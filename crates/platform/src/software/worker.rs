//! The worker: a confined process that runs one instance of one TA.
//!
//! It is this very program, started anew, so that its memory layout, heap and keys are not the
//! parent's. It confines itself, says so, receives one module and then runs entry points until the
//! channel ends. Everything outside its own memory it asks of the parent.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;

use tegata_tee::gp::host::{HostError, HostReply, HostRequest, HostTransport, RemoteServices};
use tegata_tee::session::launch::{LaunchError, Outcome, TaInstance};
use tegata_tee::storage::TaId;
use tegata_tee::wasm::{TaModule, WasmInstance};

use super::channel::{FRAME_LEN_BYTES_MAX, FromWorker, Refusal, ToWorker};
use super::frames::{self, FrameIoError};
use super::sandbox::{self, Account, WorkerWalls, probe};
use super::sys;

/// First argument of a worker's command line.
pub const MARKER: &str = "__tegata-worker";

/// Last argument of a worker that is to be probed without its filter of system calls, so that the
/// walls behind it are tried too. Such a worker runs no TA.
pub const WITHOUT_FILTER: &str = "without-filter";

/// Runs a worker with the arguments after the marker: namespaces, uid, gid (`-` for none).
pub fn main(args: &[OsString]) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        // No words: who started this by hand gets no hint, and the parent sees the channel end.
        Err(_) => ExitCode::from(70),
    }
}

#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error("not started by teed")]
    NotStartedByTeed,
    #[error("a wall could not be put up: {0}")]
    Confine(#[from] std::io::Error),
    #[error(transparent)]
    Channel(#[from] FrameIoError),
}

fn run(args: &[OsString]) -> Result<(), WorkerError> {
    let walls = walls(args).ok_or(WorkerError::NotStartedByTeed)?;
    let stream = sys::channel_from_stdin().map_err(|_| WorkerError::NotStartedByTeed)?;
    let _ = rustix::thread::set_name(c"tegata-ta");
    // The second handle of the channel too: behind the walls a descriptor cannot be duplicated.
    let channel = Channel {
        stream: Arc::new(stream),
    };
    let shared = channel.clone();
    let missing = sandbox::confine_worker(walls)?;
    let missing = missing.into_iter().map(String::from).collect();
    channel.send(&FromWorker::Ready { missing })?;
    match channel.receive()? {
        ToWorker::Launch {
            signer,
            uuid,
            module,
        } if walls.filter => {
            let services = RemoteServices(shared);
            match load(TaId { signer, uuid }, &module.0, services) {
                Ok(instance) => {
                    drop(module);
                    channel.send(&FromWorker::Launched(instance.lifetime()))?;
                    serve(&channel, instance)
                }
                Err(error) => {
                    channel.send(&FromWorker::NotLaunched(Refusal::from(error)))?;
                    Ok(())
                }
            }
        }
        ToWorker::Probe(first) => {
            let mut next = first;
            loop {
                channel.send(&FromWorker::Probed(probe::attempt(&next)))?;
                match channel.receive()? {
                    ToWorker::Probe(probe) => next = probe,
                    _ => return Ok(()),
                }
            }
        }
        _ => Err(WorkerError::NotStartedByTeed),
    }
}

fn load(
    ta: TaId,
    module: &[u8],
    services: RemoteServices<Channel>,
) -> Result<WasmInstance, LaunchError> {
    let module = TaModule::new(module).map_err(|error| LaunchError::Module {
        reason: error.to_string(),
    })?;
    WasmInstance::new(&module, ta, Box::new(services))
}

fn serve(channel: &Channel, mut instance: WasmInstance) -> Result<(), WorkerError> {
    loop {
        match channel.receive() {
            Ok(ToWorker::Enter(entry)) => {
                let outcome = instance.call(entry);
                let dead = matches!(outcome, Outcome::Panicked(_));
                channel.send(&FromWorker::Finished { outcome })?;
                if dead {
                    return Ok(());
                }
            }
            Ok(_) => return Err(WorkerError::NotStartedByTeed),
            Err(WorkerError::Channel(FrameIoError::Closed)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn walls(args: &[OsString]) -> Option<WorkerWalls> {
    let number = |at: usize| args.get(at)?.to_str()?.parse::<u32>().ok();
    let namespaces = i32::try_from(number(0)?).ok()?;
    let account = match args.get(1)?.to_str()? {
        "-" => None,
        _ => Some(Account {
            uid: number(1)?,
            gid: number(2)?,
        }),
    };
    let filter = args.get(3).is_none_or(|last| last != WITHOUT_FILTER);
    Some(WorkerWalls {
        account,
        namespaces,
        filter,
    })
}

#[derive(Clone)]
struct Channel {
    /// The filter of system calls forbids to duplicate a descriptor, so it is shared.
    stream: Arc<UnixStream>,
}

impl Channel {
    fn send(&self, message: &FromWorker) -> Result<(), WorkerError> {
        Ok(frames::send_blocking(
            &self.stream,
            message,
            FRAME_LEN_BYTES_MAX,
        )?)
    }

    fn receive(&self) -> Result<ToWorker, WorkerError> {
        Ok(frames::receive_blocking(&self.stream, FRAME_LEN_BYTES_MAX)?)
    }
}

impl HostTransport for Channel {
    fn exchange(&mut self, request: HostRequest) -> Result<HostReply, HostError> {
        self.send(&FromWorker::Ask(request))
            .map_err(|_| HostError::Communication)?;
        match self.receive() {
            Ok(ToWorker::Answer(reply)) => Ok(reply),
            Ok(_) | Err(_) => Err(HostError::Communication),
        }
    }
}

/// Resident memory now (`VmRSS:`) or at most (`VmHWM:`) by an open `/proc/…/status`, in KiB; 0 if
/// it cannot be read.
pub(crate) fn memory_kib(status: &File, field: &str) -> u64 {
    let mut text = [0u8; 4096];
    let got = status.read_at(&mut text, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(text.get(..got).unwrap_or_default());
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}
