//! The few calls of the kernel that Rust's libraries do not offer safely.
//!
//! All `unsafe` of the software backend is in this file, each with its reason. Everything here is
//! a thin wall: no decisions, no parsing.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::mm::{MapFlags, MlockFlags, ProtFlags};
use zeroize::Zeroize;

/// How well a [`SecretPage`] is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// `memfd_secret`: not even the kernel's own mapping has it.
    Secret,
    /// Locked in memory and left out of dumps.
    Locked,
    /// An ordinary page, left out of dumps: the limit on locked memory is used up.
    Plain,
}

/// One page for one secret: outside the heap, out of dumps, out of swap where the kernel allows.
pub struct SecretPage {
    at: ptr::NonNull<u8>,
    len: usize,
    kind: PageKind,
}

// SAFETY: the mapping belongs to this value alone and is only read after `new`; shared references
// from several threads read the same immutable bytes.
unsafe impl Send for SecretPage {}
// SAFETY: as above.
unsafe impl Sync for SecretPage {}

const PAGE_LEN: usize = 4096;

impl SecretPage {
    /// Moves `secret` (at most 4096 bytes) into a page of its own; the caller wipes the source.
    ///
    /// # Errors
    /// The kernel's error if there is no memory.
    pub fn new(secret: &[u8]) -> io::Result<Self> {
        if secret.is_empty() || secret.len() > PAGE_LEN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (at, kind) = match map_secret() {
            Ok(at) => (at, PageKind::Secret),
            Err(_) => map_locked()?,
        };
        // SAFETY: `at` is a fresh mapping of PAGE_LEN writable bytes that only this function
        // knows; `secret` is not longer and cannot overlap it.
        unsafe {
            // A fork would copy the page into a child that does not need it.
            let _ = rustix::mm::madvise(
                at.as_ptr().cast(),
                PAGE_LEN,
                rustix::mm::Advice::LinuxDontFork,
            );
            let _ = rustix::mm::madvise(
                at.as_ptr().cast(),
                PAGE_LEN,
                rustix::mm::Advice::LinuxDontDump,
            );
            ptr::copy_nonoverlapping(secret.as_ptr(), at.as_ptr(), secret.len());
        }
        Ok(Self {
            at,
            len: secret.len(),
            kind,
        })
    }

    /// How well it is hidden.
    #[must_use]
    pub const fn kind(&self) -> PageKind {
        self.kind
    }

    /// The secret.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        // SAFETY: `at` maps PAGE_LEN bytes until drop and `len` is not more; nobody writes.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl Drop for SecretPage {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no reference into it outlives `self`.
        unsafe {
            std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len).zeroize();
            let _ = rustix::mm::munmap(self.at.as_ptr().cast(), PAGE_LEN);
        }
    }
}

fn map_secret() -> io::Result<ptr::NonNull<u8>> {
    // SAFETY: memfd_secret takes flags only and returns a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = RawFd::try_from(fd).map_err(|_| io::ErrorKind::Unsupported)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::fs::ftruncate(&fd, PAGE_LEN as u64)?;
    // SAFETY: a new mapping at an address of the kernel's choice; it aliases nothing.
    let at = unsafe {
        rustix::mm::mmap(
            ptr::null_mut(),
            PAGE_LEN,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            &fd,
            0,
        )
    }?;
    ptr::NonNull::new(at.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

fn map_locked() -> io::Result<(ptr::NonNull<u8>, PageKind)> {
    // SAFETY: a new anonymous mapping at an address of the kernel's choice; it aliases nothing.
    // Locking it changes no content.
    unsafe {
        let at = rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            PAGE_LEN,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )?;
        let locked = rustix::mm::mlock_with(at, PAGE_LEN, MlockFlags::empty()).is_ok();
        let kind = if locked {
            PageKind::Locked
        } else {
            PageKind::Plain
        };
        let at = ptr::NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok((at, kind))
    }
}

/// A child made by [`spawn_self`].
pub struct Child {
    /// Its process id as the parent sees it.
    pub pid: rustix::process::Pid,
    /// A descriptor that stands for exactly this process, never for a later one of that number.
    pub pidfd: OwnedFd,
}

/// Starts this very program anew, in new namespaces: `fork`, then at once `execve`.
///
/// The child gets `channel` as descriptor 0, `/dev/null` as 1, our standard error as 2, no other
/// descriptor and no environment.
///
/// # Errors
/// The kernel's error; `EPERM` if it grants no such namespaces.
pub fn spawn_self(args: &[&CStr], namespaces: libc::c_int, channel: &OwnedFd) -> io::Result<Child> {
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    let mut argv: Vec<*const libc::c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
    argv.push(ptr::null());
    let envp = [ptr::null::<libc::c_char>()];
    let exe: CString = c"/proc/self/exe".into();
    let flags = namespaces | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: RawFd = -1;
    let (channel, null) = (channel.as_raw_fd(), null.as_raw_fd());

    // SAFETY: without CLONE_VM the child has its own copy of this memory. A null stack means that
    // it goes on with ours, as after fork. Only the fourth and fifth argument differ between
    // architectures, and both are unused with these flags. `pidfd` outlives the call.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(flags),
            ptr::null_mut::<libc::c_void>(),
            &raw mut pidfd,
            ptr::null_mut::<libc::c_void>(),
            0,
        )
    };
    if pid == 0 {
        // In the child: other threads are gone and may have held locks, so no allocation and no
        // library call but plain system calls until execve.
        // SAFETY: all pointers were made before the clone and are still valid in our copy.
        unsafe {
            libc::dup2(channel, 0);
            libc::dup2(null, 1);
            // Descriptors that our own parent left open must not reach the worker.
            libc::syscall(
                libc::SYS_close_range,
                3u32,
                u32::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
            libc::execve(exe.as_ptr(), argv.as_ptr(), envp.as_ptr());
            libc::_exit(127);
        }
    }
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::Other)?;
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pidfd < 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::Other)?;
    // SAFETY: CLONE_PIDFD has stored a new descriptor of ours here.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid, pidfd })
}

/// Takes descriptor 0 as a socket. For a worker, whose parent put the channel there.
///
/// # Errors
/// If descriptor 0 is no stream socket.
pub fn channel_from_stdin() -> io::Result<std::os::unix::net::UnixStream> {
    let kind = rustix::net::sockopt::socket_type(rustix::stdio::stdin())?;
    if kind != rustix::net::SocketType::STREAM {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // A duplicate, so that the owner of the value never closes the standard descriptor.
    Ok(std::io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// A descriptor for the process on the other end of a Unix socket, as of `connect`.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 6.5.
pub fn peer_pidfd(socket: &impl AsFd) -> io::Result<OwnedFd> {
    let mut fd: RawFd = -1;
    get_sockopt(
        socket,
        SO_PEERPIDFD,
        ptr::from_mut(&mut fd).cast(),
        size_of::<RawFd>(),
    )?;
    if fd < 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets [`receive_from`] learn who wrote. Before the socket is connected, or to be inherited by the
/// connections of a listening one.
///
/// # Errors
/// The kernel's.
pub fn tell_writers(socket: &impl AsFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_passcred(socket, true)?)
}

/// Reads what there is, and by which process it was written; 0 for one that this process's
/// namespace does not see. Bytes of two writers never come in one piece.
///
/// # Errors
/// The kernel's.
pub fn receive_from(socket: &impl AsFd, out: &mut [u8]) -> io::Result<(usize, libc::pid_t)> {
    const ROOM: usize = 64;
    let mut control = [0u64; ROOM / size_of::<u64>()];
    let mut part = libc::iovec {
        iov_base: out.as_mut_ptr().cast(),
        iov_len: out.len(),
    };
    // SAFETY: an all-zero msghdr is a valid one; its padding differs between C libraries.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = ROOM as _; // the type differs between C libraries
    // Descriptors that a client sends along find no room and are dropped by the kernel.
    // SAFETY: the buffers that the message names live here and are as long as it says.
    let got = unsafe {
        let fd = socket.as_fd().as_raw_fd();
        libc::recvmsg(fd, &raw mut message, libc::MSG_CMSG_CLOEXEC)
    };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has filled in the header; the macros stay within the lengths it says.
    let pid = unsafe {
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        if !head.is_null()
            && (*head).cmsg_level == libc::SOL_SOCKET
            && (*head).cmsg_type == libc::SCM_CREDENTIALS
        {
            libc::CMSG_DATA(head)
                .cast::<libc::ucred>()
                .read_unaligned()
                .pid
        } else {
            0
        }
    };
    Ok((got, pid))
}

/// The supplementary groups of the process on the other end of a Unix socket, as of `connect`.
///
/// # Errors
/// The kernel's error; `ERANGE` above 1024 groups.
pub fn peer_groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 1024];
    let room = groups.len() * size_of::<u32>();
    let len = get_sockopt(
        socket,
        libc::SO_PEERGROUPS,
        groups.as_mut_ptr().cast(),
        room,
    )?;
    groups.truncate(len / size_of::<u32>());
    Ok(groups)
}

/// `SO_PEERPIDFD` of Linux 6.5, the same number on x86-64 and aarch64.
const SO_PEERPIDFD: libc::c_int = 77;

fn get_sockopt(
    socket: &impl AsFd,
    option: libc::c_int,
    out: *mut libc::c_void,
    room: usize,
) -> io::Result<usize> {
    let mut len = libc::socklen_t::try_from(room).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: both callers pass a buffer of `room` bytes that lives on; the kernel writes no more
    // than that and says how much.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            out,
            &raw mut len,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(len).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The system calls by which a hostile worker would try to break out, for the sandbox's tests.
///
/// Each is tried and its result returned; none is used otherwise.
pub mod attempts {
    use super::*;

    fn outcome(result: libc::c_long) -> io::Result<()> {
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// A new process by `fork`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn fork() -> io::Result<()> {
        // SAFETY: a plain fork; a child, if there is one, ends at once.
        let pid = unsafe {
            libc::syscall(
                libc::SYS_clone,
                libc::c_long::from(libc::SIGCHLD),
                0usize,
                0usize,
                0,
                0,
            )
        };
        if pid == 0 {
            // SAFETY: ends the child without running anything of ours.
            unsafe { libc::_exit(0) }
        }
        outcome(pid)
    }

    /// Another program by `execve`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn execve() -> io::Result<()> {
        let argv = [c"/bin/true".as_ptr(), ptr::null()];
        // SAFETY: the strings are static and both arrays end with a null pointer.
        outcome(unsafe { libc::execve(c"/bin/true".as_ptr(), argv.as_ptr(), &argv[1]).into() })
    }

    /// Attaching to another process.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn ptrace(pid: i32) -> io::Result<()> {
        // SAFETY: attaching touches no memory of ours.
        outcome(unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, 0usize, 0usize) })
    }

    /// Reading another process's memory.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn process_vm_read(pid: i32) -> io::Result<()> {
        let mut byte = 0u8;
        let local = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let remote = libc::iovec {
            iov_base: 0x1000 as *mut libc::c_void,
            iov_len: 1,
        };
        // SAFETY: one local buffer of one byte; the remote address is only looked at remotely.
        let got =
            unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        outcome(got as libc::c_long)
    }

    /// Memory that is writable and executable.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn map_executable() -> io::Result<()> {
        let prot = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping of the kernel's choice; never used.
        let at = unsafe { libc::mmap(ptr::null_mut(), PAGE_LEN, prot, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Making written memory executable.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn protect_executable() -> io::Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping of ours, whose protection is then changed; never used.
        let done = unsafe {
            let at = libc::mmap(ptr::null_mut(), PAGE_LEN, prot, flags, -1, 0);
            if at == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            libc::mprotect(at, PAGE_LEN, libc::PROT_READ | libc::PROT_EXEC)
        };
        outcome(done.into())
    }

    /// True if `fd` is an open descriptor.
    #[must_use]
    pub fn fd_is_open(fd: i32) -> bool {
        // SAFETY: fstat writes one `stat`, for which there is room.
        let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
        unsafe { libc::fstat(fd, stat.as_mut_ptr()) == 0 }
    }

    /// Any system call by number, with arguments that do no harm.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn raw(number: i64) -> io::Result<()> {
        // SAFETY: only called with numbers of calls that take no pointer to write to, or with
        // nulls where they take one.
        outcome(unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) })
    }
}
