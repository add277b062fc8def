//! Frames on `agent.sock`, both ends.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tegata_wire::rpc;

/// Longest frame in bytes.
pub const FRAME_LEN_BYTES_MAX: usize = 512 * 1024;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The socket failed, or nothing came in time.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Not a message of the protocol.
    #[error(transparent)]
    Frame(#[from] rpc::FrameError),
}

/// Sends one message within `timeout` for each step of it.
///
/// # Errors
/// [`SocketError`].
pub fn send<T: Serialize>(
    mut stream: &UnixStream,
    message: &T,
    timeout: Duration,
) -> Result<(), SocketError> {
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream.write_all(&rpc::frame(message, FRAME_LEN_BYTES_MAX)?)?)
}

/// Receives one message within `timeout` in all.
///
/// # Errors
/// [`SocketError`].
pub fn receive<T: DeserializeOwned>(
    stream: &UnixStream,
    timeout: Duration,
) -> Result<T, SocketError> {
    let deadline = Instant::now() + timeout;
    let mut prefix = [0; 4];
    fill(stream, &mut prefix, deadline)?;
    let len = rpc::frame_len(prefix, FRAME_LEN_BYTES_MAX)?;
    let mut content = vec![0; len];
    fill(stream, &mut content, deadline)?;
    Ok(rpc::content(&content)?)
}

fn fill(
    mut stream: &UnixStream,
    mut out: &mut [u8],
    deadline: Instant,
) -> Result<(), std::io::Error> {
    while !out.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(out) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => out = out.get_mut(got..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
