//! What a hostile worker would try, tried from inside a real one.
//!
//! A worker started in probe mode confines itself as always and then makes the one attempt that it
//! is told, instead of running a TA. It has no TA, no key and no storage, so the mode gives nothing
//! to anybody who finds it. The tests of the sandbox are the only user.

use std::fs::File;
use std::io::{self, Read};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use super::super::sys::attempts;

/// One attempt to break out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // Each variant says what is tried.
pub enum Probe {
    /// None: the worker answers that it is there.
    Nothing,
    ReadFile {
        path: String,
    },
    WriteFile {
        path: String,
    },
    ListDirectory {
        path: String,
    },
    UdpSend,
    TcpConnect {
        port: u16,
    },
    UnixConnect {
        path: String,
    },
    Fork,
    Thread,
    Execve,
    Ptrace {
        pid: i32,
    },
    ProcessVmRead {
        pid: i32,
    },
    MapExecutable,
    ProtectExecutable,
    Signal {
        pid: i32,
    },
    /// Any system call by number.
    Call {
        number: i64,
    },
    /// More memory than the worker may have.
    Memory,
    /// Ends with a signal that would dump core.
    Abort,
    /// What the kernel says of this process: uid, gid, capabilities, dumpable, NoNewPrivs, limits.
    Status,
    /// Never answers.
    Hang,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ProbeOutcome {
    /// The wall has a hole.
    Succeeded,
    /// Refused with this `errno` (0 if the kernel gave none).
    Refused { errno: i32 },
    /// Facts about the process.
    Status(Vec<(String, u64)>),
}

pub(crate) fn attempt(probe: &Probe) -> ProbeOutcome {
    let result = match probe {
        Probe::Nothing => Ok(()),
        Probe::ReadFile { path } => {
            File::open(path).and_then(|mut file| file.read(&mut [0; 1]).map(|_| ()))
        }
        Probe::WriteFile { path } => std::fs::write(path, b"x"),
        Probe::ListDirectory { path } => std::fs::read_dir(path).map(|_| ()),
        Probe::UdpSend => UdpSocket::bind("0.0.0.0:0")
            .and_then(|socket| socket.send_to(b"x", "127.0.0.1:9").map(|_| ())),
        Probe::TcpConnect { port } => TcpStream::connect(("127.0.0.1", *port)).map(|_| ()),
        Probe::UnixConnect { path } => UnixStream::connect(path).map(|_| ()),
        Probe::Fork => attempts::fork(),
        Probe::Thread => std::thread::Builder::new().spawn(|| ()).map(|_| ()),
        Probe::Execve => attempts::execve(),
        Probe::Ptrace { pid } => attempts::ptrace(*pid),
        Probe::ProcessVmRead { pid } => attempts::process_vm_read(*pid),
        Probe::MapExecutable => attempts::map_executable(),
        Probe::ProtectExecutable => attempts::protect_executable(),
        Probe::Signal { pid } => signal(*pid),
        Probe::Call { number } => attempts::raw(*number),
        Probe::Memory => memory(),
        Probe::Abort => std::process::abort(),
        Probe::Status => return status(),
        Probe::Hang => loop {
            std::hint::spin_loop();
        },
    };
    match result {
        Ok(()) => ProbeOutcome::Succeeded,
        Err(error) => ProbeOutcome::Refused {
            errno: error.raw_os_error().unwrap_or(0),
        },
    }
}

fn signal(pid: i32) -> io::Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::test_kill_process(pid)?)
}

fn memory() -> io::Result<()> {
    let mut bytes: Vec<u8> = Vec::new();
    bytes
        .try_reserve_exact(1 << 30)
        .map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))
}

fn status() -> ProbeOutcome {
    let mut facts = vec![
        ("uid".into(), rustix::process::getuid().as_raw().into()),
        ("euid".into(), rustix::process::geteuid().as_raw().into()),
        (
            "pid".into(),
            u64::try_from(rustix::process::getpid().as_raw_pid()).unwrap_or(u64::MAX),
        ),
    ];
    facts.push(("files-open".into(), open_files()));
    ProbeOutcome::Status(facts)
}

/// Descriptors that are open, found without `/proc`.
fn open_files() -> u64 {
    (0..64).filter(|fd| attempts::fd_is_open(*fd)).count() as u64
}
