//! The receiver that belongs to `teed`: a process that reads it, and what it said last.
//!
//! Purpose: a satellite receiver on a serial line, or a gpsd of this machine, is read by a process
//! of its own, which opens it, confines itself as a worker does, and then only reads, parses and
//! writes fixes of 44 bytes. `teed` checks each and stamps it with its own clock.
//!
//! Invariants: no byte of the receiver is parsed in `teed`; a fix older than [`AGE_MAX`], sleep of the
//! machine included, is given to nobody; a gpsd is heard only if its process is root's or of the
//! account that is configured; the REE has no other way to hand one in.
//!
//! What the software backend cannot protect: root can write to the device file, pose as gpsd, or
//! change teed.toml; so can the account of gpsd, for its part. Evidence says `software`, and so does
//! what a statement is worth.
//!
//! Trusted: the process could say another position. Not trusted: the radio.

pub mod gpsd;
pub mod nmea;
mod owner;

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use rustix::termios::{self, OptionalActions};
use rustix::time::{ClockId, clock_gettime};
use tegata_tee::position::{NoPosition, Position, WORDS};

use super::config::PositionSource;
use super::sandbox::{self, WorkerWalls};
use super::sys;
use owner::Owner;

/// First argument of the process's command line.
pub const MARKER: &str = "__tegata-position";

/// The last fix, and when it came: time since the machine started.
type Last = Arc<Mutex<Option<(Position, Duration)>>>;

/// `teed`'s end of the receiver.
pub struct Receiver {
    source: PositionSource,
    owner: Option<Owner>,
    process: Option<Process>,
    last: Last,
    /// Walls that the process could not put up.
    pub missing: Vec<String>,
}

/// The process that reads the receiver; ended when this is dropped.
struct Process {
    channel: UnixStream,
    child: sys::Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; what is not waited for stays in the kernel's list.
        let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
        let _ = waitid(
            WaitId::PidFd(self.child.pidfd.as_fd()),
            WaitIdOptions::EXITED,
        );
    }
}

impl Receiver {
    /// Starts the process; the receiver is open when this returns. Before `teed` confines itself.
    ///
    /// # Errors
    /// A sentence: the device or gpsd cannot be used.
    pub fn start(source: &PositionSource) -> Result<Self, String> {
        let owner = match source.gpsd {
            None => None,
            Some(_) => Some(Owner::new(source.gpsd_user.as_deref())?),
        };
        let (process, missing) = spawn(source, owner.as_ref())?;
        Ok(Self {
            source: source.clone(),
            owner,
            process: Some(process),
            last: Arc::default(),
            missing,
        })
    }

    /// Listens from now on, in a thread of its own. After `teed` confined itself.
    #[must_use]
    pub fn listen(mut self) -> Self {
        let (last, source) = (Arc::clone(&self.last), self.source.clone());
        let (owner, mut process) = (self.owner.take(), self.process.take());
        std::thread::spawn(move || {
            loop {
                if let Some(process) = process.take() {
                    take_all(&process.channel, &last);
                    tracing::warn!("the receiver's process ended: no position until it is back");
                }
                std::thread::sleep(RESTART_AFTER);
                match spawn(&source, owner.as_ref()) {
                    Ok((again, _)) => {
                        tracing::info!("the receiver is back");
                        process = Some(again);
                    }
                    Err(error) => tracing::debug!(error, "the receiver is not back"),
                }
            }
        });
        self
    }

    /// The last fix, if it is fresh.
    ///
    /// # Errors
    /// [`NoPosition::NoFix`].
    pub fn position(&self) -> Result<Position, NoPosition> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (fix, came) = last.ok_or(NoPosition::NoFix)?;
        aged(fix, came, since_boot())
    }
}

/// Time since the machine started, the time it slept included: a fix of before is not of now.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A fix that came at `came`, as of `now`; only while it is fresh.
fn aged(fix: Position, came: Duration, now: Duration) -> Result<Position, NoPosition> {
    let age = now.checked_sub(came).ok_or(NoPosition::NoFix)?;
    if age > AGE_MAX {
        return Err(NoPosition::NoFix);
    }
    Ok(Position {
        age_ms: u32::try_from(age.as_millis()).unwrap_or(u32::MAX),
        ..fix
    })
}

/// Takes fixes until the process is gone.
fn take_all(mut socket: &UnixStream, last: &Last) {
    let mut bytes = [0u8; WORDS * 4];
    while socket.read_exact(&mut bytes).is_ok() {
        let mut words = [0u32; WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let fix = Position::from_words(&words);
        if fix.is_plausible() {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some((fix, since_boot()));
        }
    }
}

/// Starts the process, waits until it has opened its source and confined itself, and looks whose
/// gpsd it has reached. It has read nothing yet.
fn spawn(source: &PositionSource, owner: Option<&Owner>) -> Result<(Process, Vec<String>), String> {
    let failed = |e: io::Error| format!("its process cannot be started: {e}");
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|e| e.to_string());
    let marker = text(MARKER.into())?;
    let (kind, place) = match (&source.device, source.gpsd) {
        (Some(device), _) => ("nmea", device.as_os_str().as_bytes().to_vec()),
        (None, Some(gpsd)) => ("gpsd", gpsd.to_string().into_bytes()),
        (None, None) => return Err("neither device nor gpsd is named".into()),
    };
    let (kind, place) = (text(kind.into())?, text(place)?);
    let speed = text(source.speed.unwrap_or(0).to_string().into_bytes())?;
    let args = [c"tegata-position", &marker, &kind, &place, &speed];
    let child = sys::spawn_self(&args, 0, &theirs.into()).map_err(failed)?;
    let process = Process {
        channel: ours,
        child,
    };
    let mut channel = &process.channel;
    channel
        .set_read_timeout(Some(OPEN_TIMEOUT))
        .map_err(failed)?;
    let mut answer = [0u8; 2];
    channel.read_exact(&mut answer).map_err(failed)?;
    let [state, len] = answer;
    let mut words = vec![0; len.into()];
    channel.read_exact(&mut words).map_err(failed)?;
    let words = String::from_utf8_lossy(&words).into_owned();
    if state != READY {
        return Err(words);
    }
    let (missing, local) = words.split_once(' ').unwrap_or((&words, ""));
    if let Some(gpsd) = source.gpsd {
        let local = local.parse().map_err(|_| "it did not connect")?;
        owner
            .ok_or("nobody says whose gpsd it is")?
            .check(gpsd, local)?;
    }
    channel.set_read_timeout(None).map_err(failed)?;
    let missing = missing.split(',').filter(|word| !word.is_empty());
    let missing = missing.map(|word| format!("{word}-position")).collect();
    Ok((process, missing))
}

/// Runs the process until its source or its parent is gone.
pub fn main(args: &[OsString]) -> ExitCode {
    let Ok(channel) = sys::channel_from_stdin() else {
        return ExitCode::from(70);
    };
    let _ = rustix::thread::set_name(c"tegata-position");
    let say = |state: u8, words: &str| {
        let words = words.get(..words.len().min(255)).unwrap_or_default();
        let len = u8::try_from(words.len()).unwrap_or(0);
        let message = [&[state, len], words.as_bytes()].concat();
        (&channel).write_all(&message).is_ok()
    };
    let mut source = match open(args) {
        Ok(source) => source,
        Err(error) => {
            say(FAILED, &error);
            return ExitCode::FAILURE;
        }
    };
    // Where its connection is, for `teed` to look whose the other end is.
    let local = match &source {
        Source::Gpsd(socket, _) => socket.local_addr().map(|local| local.to_string()),
        Source::Nmea(..) => Ok(String::new()),
    };
    let local = local.unwrap_or_default();
    // From here on it can read what it holds, and write to its parent.
    let walls = WorkerWalls {
        account: None,
        namespaces: 0,
        filter: true,
    };
    let Ok(missing) = sandbox::confine_worker(walls) else {
        return ExitCode::from(70);
    };
    let missing: Vec<_> = missing
        .into_iter()
        .filter(|wall| matches!(*wall, "seccomp" | "landlock"))
        .collect();
    let words = format!("{} {local}", missing.join(","));
    if !say(READY, &words) {
        return ExitCode::from(70);
    }
    source.read_all(&channel);
    ExitCode::SUCCESS
}

/// An open source.
enum Source {
    Nmea(File, nmea::Lines, nmea::Fixes),
    Gpsd(TcpStream, gpsd::Reports),
}

fn open(args: &[OsString]) -> Result<Source, String> {
    let [kind, place, speed] = args else {
        return Err("wrong arguments".into());
    };
    let shown = place.to_string_lossy().into_owned();
    let failed = |e: io::Error| format!("{shown}: {e}");
    if kind == "gpsd" {
        let address: SocketAddr = shown.parse().map_err(|_| shown.clone())?;
        let mut socket = TcpStream::connect_timeout(&address, OPEN_TIMEOUT / 3).map_err(failed)?;
        socket.write_all(WATCH).map_err(failed)?;
        // gpsd speaks first. Whoever does has accepted the connection; nothing is read of it yet.
        socket
            .set_read_timeout(Some(OPEN_TIMEOUT / 3))
            .map_err(failed)?;
        if socket.peek(&mut [0]).map_err(failed)? == 0 {
            return Err(format!("{shown}: closed at once"));
        }
        socket.set_read_timeout(None).map_err(failed)?;
        return Ok(Source::Gpsd(socket, gpsd::Reports::default()));
    }
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = OsString::from_vec(place.as_bytes().to_vec());
    // Not our controlling terminal; and no wait for a modem's carrier.
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(failed)?;
    if termios::isatty(&file) {
        let mut settings = termios::tcgetattr(&file).map_err(|e| failed(e.into()))?;
        settings.make_raw();
        let speed: u32 = speed.to_string_lossy().parse().unwrap_or(0);
        if speed != 0 {
            settings.set_speed(speed).map_err(|e| failed(e.into()))?;
        }
        termios::tcsetattr(&file, OptionalActions::Now, &settings).map_err(|e| failed(e.into()))?;
    }
    rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::empty()).map_err(|e| failed(e.into()))?;
    Ok(Source::Nmea(
        file,
        nmea::Lines::default(),
        nmea::Fixes::default(),
    ))
}

impl Source {
    /// Reads to the end; each fix goes to the parent at once.
    fn read_all(&mut self, mut parent: &UnixStream) {
        let mut chunk = [0u8; 4096];
        loop {
            let got = match self {
                Self::Nmea(file, ..) => file.read(&mut chunk),
                Self::Gpsd(socket, _) => socket.read(&mut chunk),
            };
            let bytes = match got {
                Ok(0) => return,
                Ok(got) => chunk.get(..got).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let mut gone = false;
            let mut give = |fix: Position| {
                let words = fix.to_words();
                let record: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                gone |= parent.write_all(&record).is_err();
            };
            match self {
                Self::Nmea(_, lines, fixes) => {
                    lines.feed(bytes, |line| {
                        if let Some(fix) = fixes.line(line) {
                            give(fix);
                        }
                    });
                }
                Self::Gpsd(_, reports) => reports.feed(bytes, give),
            }
            if gone {
                return;
            }
        }
    }
}

/// What makes gpsd send reports.
const WATCH: &[u8] = b"?WATCH={\"enable\":true,\"json\":true};\n";
/// What the process says first.
const READY: u8 = 1;
const FAILED: u8 = 2;
/// Opening a device or connecting takes less than this.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// A receiver says where it is each second; what is older than this is not now.
pub const AGE_MAX: Duration = Duration::from_secs(10);
/// A receiver that was unplugged needs a moment.
const RESTART_AFTER: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_is_given_out_while_it_is_fresh() {
        let fix = Position::default();
        let came = Duration::from_secs(1_000);
        let after = |ms: u64| aged(fix, came, came + Duration::from_millis(ms));
        assert_eq!(after(0).unwrap().age_ms, 0);
        assert_eq!(after(10_000).unwrap().age_ms, 10_000);
        assert_eq!(after(10_001), Err(NoPosition::NoFix));
        assert_eq!(
            aged(fix, came, came - Duration::from_millis(1)),
            Err(NoPosition::NoFix)
        );
    }

    #[test]
    fn the_clock_is_the_one_that_runs_while_the_machine_sleeps() {
        // As /proc/uptime does; a machine that never slept tells nothing more than that.
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let up: f64 = text.split(' ').next().unwrap().parse().unwrap();
        assert!((since_boot().as_secs_f64() - up).abs() < 10.0);
    }
}
