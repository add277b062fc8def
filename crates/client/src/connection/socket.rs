//! A connection over the socket of `teed`: frames, numbers of calls, time-outs.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tegata_wire::rpc::{
    self, Answer, BROKER_FRAME_LEN_BYTES_MAX, Call, FRAME_LEN_BYTES_MAX, Reply, Request, VERSION,
};

use super::unexpected;
use crate::error::Error;
use crate::operation::Canceller;

/// A connection that has said hello.
pub(crate) struct SocketConnection {
    stream: Arc<UnixStream>,
    /// Which file the descriptor meant when it was made.
    file: Option<FileId>,
    next: u64,
    /// True once bytes may be missing in between: nothing more can be read.
    broken: bool,
}

impl SocketConnection {
    pub(crate) fn open(path: &Path, timeout: Duration) -> Result<Self, Error> {
        let unreachable = |source| Error::Unreachable {
            path: path.into(),
            source,
        };
        let (short, _dir) = short_socket_path(path).map_err(unreachable)?;
        let stream = connect(&short, timeout).map_err(|errno| match errno {
            Errno::AGAIN => Error::TimedOut,
            errno => unreachable(errno.into()),
        })?;
        let mut connection = Self {
            file: FileId::of(&stream),
            stream: Arc::new(stream),
            next: 0,
            broken: false,
        };
        match connection.call(Request::Hello { version: VERSION }, timeout)? {
            Reply::Hello { version: VERSION } => Ok(connection),
            other => Err(unexpected(other)),
        }
    }

    /// The socket is closed when this is dropped, and needs no word; unless somebody closed it
    /// already, as programs do with all descriptors after a fork, and the number means another
    /// file now: that one stays open.
    pub(crate) fn let_go(&mut self) {
        if self.file.is_none() || FileId::of(&*self.stream) != self.file {
            // Counted once too often, the stream is never closed.
            std::mem::forget(Arc::clone(&self.stream));
        }
    }

    /// Sends one request and waits for its answer.
    pub(crate) fn call(&mut self, request: Request, timeout: Duration) -> Result<Reply, Error> {
        let id = self.send(request, timeout)?;
        self.answer(id, timeout)
    }

    /// Sends one request; returns its number.
    fn send(&mut self, request: Request, timeout: Duration) -> Result<u64, Error> {
        if self.broken {
            return Err(Error::Closed);
        }
        self.next = self.next.wrapping_add(1);
        let call = Call {
            id: self.next,
            request,
        };
        // What does not fit is refused before a byte is sent; the connection stays good.
        let frame = rpc::frame(&call, BROKER_FRAME_LEN_BYTES_MAX)?;
        self.write(&frame, timeout)
            .inspect_err(|_| self.broken = true)?;
        Ok(self.next)
    }

    /// Waits for the answer to the request of this number.
    fn answer(&mut self, id: u64, timeout: Duration) -> Result<Reply, Error> {
        let got = self.read(timeout);
        match got {
            Ok(answer) if answer.id == id => match answer.reply {
                Reply::Refused { code, message } => Err(Error::Refused { code, message }),
                reply => Ok(reply),
            },
            Ok(_) => {
                self.broken = true;
                Err(Error::Protocol("an answer to another call"))
            }
            Err(error) => {
                self.broken = true;
                Err(error)
            }
        }
    }

    /// The same for a call that another thread may cancel: it comes either before the request, or
    /// after it.
    pub(crate) fn call_cancellable(
        &mut self,
        request: Request,
        timeout: Duration,
        canceller: &Canceller,
    ) -> Result<Reply, Error> {
        let stream = Arc::clone(&self.stream);
        let id = canceller.start(|| {
            let id = self.send(request, timeout)?;
            Ok((id, Box::new(move || cancel(&stream, id))))
        })?;
        let reply = self.answer(id, timeout);
        canceller.finish();
        reply
    }

    fn write(&self, frame: &[u8], timeout: Duration) -> Result<(), Error> {
        self.stream
            .set_write_timeout(Some(timeout))
            .map_err(Error::Socket)?;
        (&*self.stream).write_all(frame).map_err(io_error)
    }

    fn read(&self, timeout: Duration) -> Result<Answer, Error> {
        let deadline = Instant::now() + timeout;
        let mut prefix = [0u8; 4];
        self.fill(&mut prefix, deadline)?;
        let len = rpc::frame_len(prefix, BROKER_FRAME_LEN_BYTES_MAX)?;
        let mut content = vec![0; len];
        self.fill(&mut content, deadline)?;
        Ok(rpc::content(&content)?)
    }

    fn fill(&self, mut out: &mut [u8], deadline: Instant) -> Result<(), Error> {
        while !out.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut);
            }
            self.stream
                .set_read_timeout(Some(left))
                .map_err(Error::Socket)?;
            match (&*self.stream).read(out) {
                Ok(0) => return Err(Error::Closed),
                Ok(got) => out = out.get_mut(got..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error(error)),
            }
        }
        Ok(())
    }
}

/// A file, whatever numbers are its descriptors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId(rustix::fs::Dev, u64);

impl FileId {
    /// `None` if the descriptor is closed.
    pub(crate) fn of(file: impl AsFd) -> Option<Self> {
        let stat = rustix::fs::fstat(file).ok()?;
        Some(Self(stat.st_dev, stat.st_ino))
    }
}

/// Connects. `AGAIN` if the TEE takes no connection within `timeout`: its queue is full, and to
/// wait for a place in it would last as long as the TEE is stuck.
fn connect(path: &Path, timeout: Duration) -> rustix::io::Result<UnixStream> {
    let deadline = Instant::now() + timeout;
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    let address = SocketAddrUnix::new(path)?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::AGAIN);
        }
        set_socket_timeout(&socket, Timeout::Send, Some(left))?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(socket.into()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Asks the TEE to cancel a call. Nothing else is sent on this connection before the call has
/// ended, so the frame cannot fall into another one.
fn cancel(stream: &UnixStream, call: u64) {
    let request = Call {
        id: 0,
        request: Request::Cancel { call },
    };
    if let Ok(frame) = rpc::frame(&request, FRAME_LEN_BYTES_MAX) {
        let _ = (&*stream).write_all(&frame);
    }
}

fn io_error(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::TimedOut,
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => {
            Error::Closed
        }
        _ => Error::Socket(error),
    }
}

/// A path to the same socket that fits into the kernel's 107 bytes, and what keeps it valid.
///
/// # Errors
/// The system's if the path is too long and its directory cannot be opened.
pub fn short_socket_path(path: &Path) -> std::io::Result<(PathBuf, Option<OwnedFd>)> {
    if path.as_os_str().len() <= SOCKET_PATH_LEN_MAX {
        return Ok((path.into(), None));
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let dir: OwnedFd = std::fs::File::open(dir)?.into();
    let mut short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    short.push(name);
    Ok((short, Some(dir)))
}

/// The kernel's limit for the address of a Unix socket, without its final zero.
const SOCKET_PATH_LEN_MAX: usize = 107;

#[cfg(test)]
mod tests;
