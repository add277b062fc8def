//! Frames on a stream socket: a length and that many bytes, with deadlines.
//!
//! Invariants: memory grows with what has arrived, never with what is announced; a frame that has
//! begun must end within a deadline; what was in a frame is wiped from memory.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tegata_wire::rpc;
use zeroize::Zeroizing;

use super::sys;

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameIoError {
    /// The other side closed the connection between two frames.
    #[error("the connection was closed")]
    Closed,
    /// Nothing came, or nothing could be sent, in time.
    #[error("no progress in time")]
    TimedOut,
    /// The frame or its content is not of the protocol.
    #[error(transparent)]
    Frame(#[from] rpc::FrameError),
    /// The socket failed.
    #[error("socket: {0}")]
    Socket(#[source] io::Error),
}

impl From<io::Error> for FrameIoError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Socket(error),
        }
    }
}

/// Reads one frame of at most `max` bytes: waits `idle` for its first byte (for ever if `None`),
/// and `whole` for the rest.
///
/// # Errors
/// [`FrameIoError`]; the stream is of no use afterwards.
pub fn read(
    stream: &UnixStream,
    max: usize,
    idle: Option<Duration>,
    whole: Duration,
) -> Result<Zeroizing<Vec<u8>>, FrameIoError> {
    let mut socket = stream;
    read_by(stream, max, idle, whole, &mut |out| socket.read(out))
}

/// How bytes are taken from a socket.
type Take<'a> = dyn FnMut(&mut [u8]) -> io::Result<usize> + 'a;

fn read_by(
    stream: &UnixStream,
    max: usize,
    idle: Option<Duration>,
    whole: Duration,
    take: &mut Take<'_>,
) -> Result<Zeroizing<Vec<u8>>, FrameIoError> {
    let mut prefix = [0u8; 4];
    stream.set_read_timeout(idle)?;
    // The first byte apart: only its wait may be long.
    let (first, rest) = prefix.split_at_mut(1);
    loop {
        match take(first) {
            Ok(0) => return Err(FrameIoError::Closed),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let deadline = Instant::now() + whole;
    fill(stream, rest, deadline, take)?;
    let len = rpc::frame_len(prefix, max)?;
    let mut content = Zeroizing::new(Vec::with_capacity(len.min(CHUNK_LEN)));
    while content.len() < len {
        let start = content.len();
        let end = len.min(start.saturating_add(CHUNK_LEN));
        grow(&mut content, end);
        let Some(chunk) = content.get_mut(start..end) else {
            return Err(FrameIoError::Closed);
        };
        fill(stream, chunk, deadline, take)?;
    }
    Ok(content)
}

/// Reads one message; see [`read`].
///
/// # Errors
/// [`FrameIoError`]; the stream is of no use afterwards.
pub fn receive<T: DeserializeOwned>(
    stream: &UnixStream,
    max: usize,
    idle: Option<Duration>,
    whole: Duration,
) -> Result<T, FrameIoError> {
    let bytes = read(stream, max, idle, whole)?;
    Ok(rpc::content(&bytes)?)
}

/// As [`receive`], and whether all of it was written by process `pid`.
///
/// # Errors
/// As [`receive`].
pub fn receive_of<T: DeserializeOwned>(
    stream: &UnixStream,
    max: usize,
    idle: Option<Duration>,
    whole: Duration,
    pid: i32,
) -> Result<(T, bool), FrameIoError> {
    let mut own = true;
    let bytes = read_by(stream, max, idle, whole, &mut |out| {
        let (got, writer) = sys::receive_from(stream, out)?;
        own &= writer == pid || got == 0;
        Ok(got)
    })?;
    Ok((rpc::content(&bytes)?, own))
}

/// Sends one message of at most `max` bytes within `whole`.
///
/// # Errors
/// [`FrameIoError`]; if it is [`FrameIoError::Frame`], nothing was sent and the stream is whole.
pub fn send<T: Serialize>(
    stream: &UnixStream,
    message: &T,
    max: usize,
    whole: Duration,
) -> Result<(), FrameIoError> {
    let bytes = Zeroizing::new(rpc::frame(message, max)?);
    stream.set_write_timeout(Some(whole))?;
    let deadline = Instant::now() + whole;
    let mut left: &[u8] = &bytes;
    let mut socket = stream;
    while !left.is_empty() {
        match socket.write(left) {
            Ok(0) => return Err(FrameIoError::Closed),
            Ok(sent) => left = left.get(sent..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        if !left.is_empty() && Instant::now() >= deadline {
            return Err(FrameIoError::TimedOut);
        }
    }
    Ok(())
}

/// Reads one message and waits as long as it takes: a worker's side, whose parent is trusted.
///
/// # Errors
/// [`FrameIoError`]; the stream is of no use afterwards.
pub fn receive_blocking<T: DeserializeOwned>(
    mut stream: &UnixStream,
    max: usize,
) -> Result<T, FrameIoError> {
    let mut prefix = [0u8; 4];
    stream.read_exact(&mut prefix)?;
    let mut content = Zeroizing::new(vec![0; rpc::frame_len(prefix, max)?]);
    stream.read_exact(&mut content)?;
    Ok(rpc::content(&content)?)
}

/// Sends one message and waits as long as it takes; see [`receive_blocking`].
///
/// # Errors
/// [`FrameIoError`]; if it is [`FrameIoError::Frame`], nothing was sent and the stream is whole.
pub fn send_blocking<T: Serialize>(
    mut stream: &UnixStream,
    message: &T,
    max: usize,
) -> Result<(), FrameIoError> {
    let bytes = Zeroizing::new(rpc::frame(message, max)?);
    Ok(stream.write_all(&bytes)?)
}

/// Makes `content` `len` bytes long without leaving a copy of it behind.
fn grow(content: &mut Zeroizing<Vec<u8>>, len: usize) {
    if content.capacity() < len {
        let mut larger = Vec::with_capacity(len.max(content.capacity().saturating_mul(2)));
        larger.extend_from_slice(content);
        // The old buffer is wiped as it is dropped.
        *content = Zeroizing::new(larger);
    }
    content.resize(len, 0);
}

fn fill(
    stream: &UnixStream,
    mut out: &mut [u8],
    deadline: Instant,
    take: &mut Take<'_>,
) -> Result<(), FrameIoError> {
    while !out.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(FrameIoError::TimedOut);
        }
        stream.set_read_timeout(Some(left))?;
        match take(out) {
            Ok(0) => return Err(FrameIoError::Closed),
            Ok(got) => out = out.get_mut(got..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Largest step in which memory for a frame grows, in bytes.
const CHUNK_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Duration = Duration::from_millis(200);

    #[test]
    fn a_frame_arrives_whole() {
        let (a, b) = UnixStream::pair().unwrap();
        let text = "x".repeat(300_000);
        let sender = std::thread::spawn({
            let text = text.clone();
            move || send(&a, &text, 1 << 20, Duration::from_secs(5))
        });
        let got: String = receive(&b, 1 << 20, None, Duration::from_secs(5)).unwrap();
        assert!(got == text);
        sender.join().unwrap().unwrap();
    }

    #[test]
    fn a_frame_that_stops_half_way_times_out() {
        let (a, b) = UnixStream::pair().unwrap();
        (&a).write_all(&[10, 0, 0, 0, 1, 2]).unwrap();
        let got = read(&b, 100, None, WHOLE);
        assert!(matches!(got, Err(FrameIoError::TimedOut)));
    }

    #[test]
    fn an_announced_length_costs_no_memory() {
        let (a, b) = UnixStream::pair().unwrap();
        (&a).write_all(&u32::MAX.to_le_bytes()).unwrap();
        let got = read(&b, 1 << 20, None, WHOLE);
        assert!(matches!(
            got,
            Err(FrameIoError::Frame(rpc::FrameError::TooLong { .. }))
        ));
    }

    #[test]
    fn an_end_between_frames_and_within_one() {
        let (a, b) = UnixStream::pair().unwrap();
        (&a).write_all(&[2, 0, 0, 0, 1]).unwrap();
        drop(a);
        assert!(matches!(
            read(&b, 100, None, WHOLE),
            Err(FrameIoError::Closed)
        ));
        assert!(matches!(
            read(&b, 100, None, WHOLE),
            Err(FrameIoError::Closed)
        ));
    }

    #[test]
    fn silence_is_not_waited_for_longer_than_asked() {
        let (_a, b) = UnixStream::pair().unwrap();
        let got = read(&b, 100, Some(Duration::from_millis(20)), WHOLE);
        assert!(matches!(got, Err(FrameIoError::TimedOut)));
    }
}
