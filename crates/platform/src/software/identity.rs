//! Who is on the other end of a connection, as the kernel says.
//!
//! A client's user and groups come with its socket, as they were when it connected. For
//! APPLICATION logins the program counts: a helper process hashes the executable behind the
//! client's process number. The helper exists because `teed` confines itself so far that it can
//! no longer look at processes; the helper can look and do nothing else.
//!
//! A program's identity is its process's alone: it is given only to the process that connected, for
//! a request that this process wrote, with nothing written before it waiting; and what any other
//! process writes to the connection afterwards ends it. So neither a descriptor that was handed on
//! nor a process that became another program after asking gets another's keys.
//!
//! Honest limit: the program is what the kernel calls it. An interpreter is one program for all
//! its scripts, and a process of the same user may inject code into another that allows it. So
//! APPLICATION logins separate programs that cooperate; separation against attack takes users.
//!
//! Trusted: the helper could name another program than the one that calls.

use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sha2::{Digest, Sha256};
use tegata_tee::session::launch::ClientIdentity;
use tegata_wire::ids as wire;
use tegata_wire::rpc::Login;

use super::{sandbox, sys, worker};

/// First argument of the helper's command line.
pub const MARKER: &str = "__tegata-identity";

/// The process on the other end of a connection, as of `connect`.
pub struct Peer {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Process id; for logs and for the helper.
    pub pid: i32,
    groups: Vec<u32>,
    /// Stands for this very process, not for a later one of that number.
    pidfd: Option<OwnedFd>,
}

/// Why an identity was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The caller is not in the group it names.
    #[error("the caller is not a member of group {gid}")]
    NotInGroup {
        /// The group.
        gid: u32,
    },
    /// The caller's program cannot be established.
    #[error("the caller's program cannot be established")]
    NoProgram,
}

impl Peer {
    /// Asks the kernel who is on the other end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let cred = rustix::net::sockopt::socket_peercred(stream)?;
        // Without SO_PEERPIDFD (before Linux 6.5): the number may already be another process's.
        // The check that it is alive when the hash is made is then all there is.
        let pidfd = sys::peer_pidfd(stream)
            .or_else(|_| {
                rustix::process::pidfd_open(cred.pid, rustix::process::PidfdFlags::empty())
                    .map_err(std::io::Error::from)
            })
            .ok();
        Ok(Self {
            uid: cred.uid.as_raw(),
            gid: cred.gid.as_raw(),
            pid: cred.pid.as_raw_pid(),
            groups: sys::peer_groups(stream).unwrap_or_default(),
            pidfd,
        })
    }

    /// The identity with which a session of this client is opened.
    ///
    /// # Errors
    /// [`LoginError`] if it is not this client's to have.
    pub fn identity(&self, login: Login, helper: &Helper) -> Result<ClientIdentity, LoginError> {
        Ok(match login {
            Login::Public => ClientIdentity::public(),
            Login::User => ClientIdentity::user(self.uid),
            Login::Group { gid } => ClientIdentity::group(self.member(gid)?),
            Login::Application => ClientIdentity::application(&self.program(helper)?),
            Login::UserApplication => {
                ClientIdentity::application_user(&self.program(helper)?, self.uid)
            }
            Login::GroupApplication { gid } => {
                let gid = self.member(gid)?;
                ClientIdentity::application_group(&self.program(helper)?, gid)
            }
            // A login of a later version of the protocol is nobody's here.
            _ => return Err(LoginError::NoProgram),
        })
    }

    fn member(&self, gid: u32) -> Result<u32, LoginError> {
        if gid == self.gid || self.groups.contains(&gid) {
            Ok(gid)
        } else {
            Err(LoginError::NotInGroup { gid })
        }
    }

    fn program(&self, helper: &Helper) -> Result<wire::Digest, LoginError> {
        let digest = helper.program(self.pid).ok_or(LoginError::NoProgram)?;
        // Only if the process still lives now was its number its own all the time.
        if self.alive() {
            Ok(wire::Digest(digest))
        } else {
            Err(LoginError::NoProgram)
        }
    }

    fn alive(&self) -> bool {
        let Some(pidfd) = &self.pidfd else {
            return false;
        };
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // A process's descriptor becomes readable when it ends.
        matches!(poll(&mut fds, Some(&now)), Ok(0))
    }
}

/// The parent's end of the helper.
pub struct Helper {
    channel: Option<Mutex<UnixStream>>,
    /// Walls that the helper could not put up.
    pub missing: Vec<String>,
    _child: Option<sys::Child>,
}

impl Helper {
    /// Starts the helper. Must happen before the parent confines itself.
    ///
    /// # Errors
    /// A sentence if it cannot be started.
    pub fn start() -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("the identity helper cannot be started: {e}");
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let marker = CString::new(MARKER).map_err(|e| e.to_string())?;
        let child = sys::spawn_self(&[c"tegata-identity", &marker], 0, &theirs.into());
        let child = child.map_err(failed)?;
        ours.set_read_timeout(Some(ANSWER_TIMEOUT))
            .map_err(failed)?;
        ours.set_write_timeout(Some(ANSWER_TIMEOUT))
            .map_err(failed)?;
        let mut ready = [0u8; 1];
        (&ours).read_exact(&mut ready).map_err(failed)?;
        let missing = if ready == [READY] {
            Vec::new()
        } else {
            vec!["seccomp-helper".to_owned()]
        };
        Ok(Self {
            channel: Some(Mutex::new(ours)),
            missing,
            _child: Some(child),
        })
    }

    /// No helper: every APPLICATION login is refused.
    #[must_use]
    pub fn none() -> Self {
        Self {
            channel: None,
            missing: Vec::new(),
            _child: None,
        }
    }

    fn program(&self, pid: i32) -> Option<[u8; 32]> {
        self.ask(PROGRAM, pid)
    }

    /// Resident memory of a process in KiB: now, and the most it ever had.
    #[must_use]
    pub fn memory_kib(&self, pid: i32) -> Option<(u64, u64)> {
        let answer = self.ask(MEMORY, pid)?;
        let (now, rest) = answer.split_first_chunk()?;
        Some((
            u64::from_le_bytes(*now),
            u64::from_le_bytes(*rest.first_chunk()?),
        ))
    }

    fn ask(&self, what: u8, pid: i32) -> Option<[u8; 32]> {
        let channel = self.channel.as_ref()?;
        let channel = channel.lock().unwrap_or_else(PoisonError::into_inner);
        let mut socket: &UnixStream = &channel;
        let [a, b, c, d] = pid.to_le_bytes();
        socket.write_all(&[what, a, b, c, d]).ok()?;
        let mut answer = [0u8; 36];
        if let Err(error) = socket.read_exact(&mut answer) {
            // Out of step from here on: better no answer than somebody else's.
            let _ = socket.shutdown(std::net::Shutdown::Both);
            tracing::error!(%error, "the identity helper does not answer; restart teed");
            return None;
        }
        let (about, digest) = answer.split_at(4);
        let digest: [u8; 32] = digest.try_into().ok()?;
        (about == pid.to_le_bytes() && digest != [0; 32]).then_some(digest)
    }
}

/// Runs the helper until its parent is gone.
pub fn main(_args: &[OsString]) -> ExitCode {
    let Ok(channel) = sys::channel_from_stdin() else {
        return ExitCode::from(70);
    };
    let _ = rustix::thread::set_name(c"tegata-identity");
    let Ok(missing) = sandbox::confine_helper() else {
        return ExitCode::from(70);
    };
    let ready = if missing.is_empty() {
        READY
    } else {
        READY_WITHOUT_SECCOMP
    };
    let mut cache = HashMap::new();
    let mut socket = &channel;
    if socket.write_all(&[ready]).is_err() {
        return ExitCode::from(70);
    }
    let mut asked = [0u8; 5];
    while socket.read_exact(&mut asked).is_ok() {
        let [what, a, b, c, d] = asked;
        let pid = i32::from_le_bytes([a, b, c, d]);
        let digest = match what {
            PROGRAM => hash_program(pid, &mut cache),
            _ => memory(pid),
        };
        let digest = digest.unwrap_or([0; 32]);
        let mut answer = vec![a, b, c, d];
        answer.extend_from_slice(&digest);
        if socket.write_all(&answer).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn memory(pid: i32) -> Option<[u8; 32]> {
    let status = File::open(format!("/proc/{pid}/status")).ok()?;
    let mut answer = [0; 32];
    let (now, rest) = answer.split_first_chunk_mut()?;
    *now = worker::memory_kib(&status, "VmRSS:").to_le_bytes();
    *rest.first_chunk_mut()? = worker::memory_kib(&status, "VmHWM:").to_le_bytes();
    Some(answer)
}

/// What does not change while a file stays the same.
type FileKey = (u64, u64, i64, i64, u64);

fn hash_program(pid: i32, cache: &mut HashMap<FileKey, [u8; 32]>) -> Option<[u8; 32]> {
    let mut file = File::open(format!("/proc/{pid}/exe")).ok()?;
    let key = |file: &File| {
        let meta = file.metadata().ok()?;
        Some((
            meta.dev(),
            meta.ino(),
            meta.ctime(),
            meta.ctime_nsec(),
            meta.size(),
        ))
    };
    // The user who mounts such a file system decides at each read what a file holds: what runs
    // from there has no digest that says anything.
    if rustix::fs::fstatfs(&file).ok()?.f_type == FUSE {
        return None;
    }
    let before = key(&file)?;
    if before.4 > PROGRAM_LEN_BYTES_MAX {
        return None;
    }
    if let Some(known) = cache.get(&before) {
        return Some(*known);
    }
    let mut hash = Sha256::new();
    let mut chunk = vec![0u8; 64 * 1024];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(got) => hash.update(chunk.get(..got)?),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    // A file that changed meanwhile has no one digest.
    if key(&file)? != before {
        return None;
    }
    if cache.len() >= CACHE_MAX {
        cache.clear();
    }
    let digest = hash.finalize().into();
    cache.insert(before, digest);
    Some(digest)
}

/// What the helper is asked for.
const PROGRAM: u8 = 1;
const MEMORY: u8 = 2;
/// What the helper says first.
const READY: u8 = 1;
const READY_WITHOUT_SECCOMP: u8 = 2;
/// Hashing the largest program takes less than this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest program in bytes.
const PROGRAM_LEN_BYTES_MAX: u64 = 1 << 30;
/// `FUSE_SUPER_MAGIC`.
const FUSE: rustix::fs::FsWord = 0x6573_5546;
/// Most programs remembered.
const CACHE_MAX: usize = 256;

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "uid {} gid {} pid {}", self.uid, self.gid, self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_gets_its_own_identities_only() {
        let (a, _b) = UnixStream::pair().unwrap();
        let peer = Peer::of(&a).unwrap();
        let helper = Helper::none();
        let public = peer.identity(Login::Public, &helper).unwrap();
        assert_eq!((public.login, public.uuid), (0, [0; 16]));
        let user = peer.identity(Login::User, &helper).unwrap();
        assert_eq!(user, ClientIdentity::user(peer.uid));
        assert!(
            peer.identity(Login::Group { gid: peer.gid }, &helper)
                .is_ok()
        );
        let refused = peer.identity(Login::Group { gid: 0xdead }, &helper);
        assert_eq!(refused.unwrap_err(), LoginError::NotInGroup { gid: 0xdead });
        let refused = peer.identity(Login::Application, &helper);
        assert_eq!(refused.unwrap_err(), LoginError::NoProgram);
        assert!(peer.alive());
    }

    #[test]
    fn a_program_is_its_bytes() {
        let mut cache = HashMap::new();
        let me = i32::try_from(std::process::id()).unwrap();
        let first = hash_program(me, &mut cache).unwrap();
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(first, <[u8; 32]>::from(Sha256::digest(&bytes)));
        assert_eq!(hash_program(me, &mut cache), Some(first));
        assert_eq!(hash_program(i32::MAX, &mut cache), None);
    }
}
