//! A network that its attacker owns, between devices and TAM: it passes on, remembers, and can give
//! one device what it recorded from another.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Longest silence of either side.
const SILENCE: Duration = Duration::from_secs(300);
/// Longest body.
const BODY_MAX: usize = 4 << 20;

/// What the threads share.
#[derive(Default)]
struct Shared {
    seen: Vec<Vec<u8>>,
    /// Given in place of the TAM's answer to the next message that is no first contact.
    replay: Option<Vec<u8>>,
}

/// The relay; it ends with the program.
pub struct Relay {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

impl Relay {
    /// Listens on a free port and passes on to `upstream`.
    ///
    /// # Errors
    /// There is no loopback interface.
    pub fn start(upstream: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let given = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&given);
                std::thread::spawn(move || {
                    // A device that breaks off is the suite's business, not the relay's.
                    let _ = pass_on(stream, upstream, &shared);
                });
            }
        });
        Ok(Self { port, shared })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Forgets what was seen.
    pub fn forget(&self) {
        held(&self.shared).seen.clear();
    }

    /// The answers that were given, oldest first.
    pub fn seen(&self) -> Vec<Vec<u8>> {
        held(&self.shared).seen.clone()
    }

    /// The largest message that the TAM gave: the one with the TA in it.
    pub fn largest_answer(&self) -> Result<Vec<u8>> {
        let largest = self.seen().into_iter().max_by_key(Vec::len);
        largest.context("nothing was seen")
    }

    /// The next message that is no first contact gets `answer`.
    pub fn replay(&self, answer: Vec<u8>) {
        held(&self.shared).replay = Some(answer);
    }

    /// Whether the answer to replay was given.
    pub fn replayed(&self) -> bool {
        held(&self.shared).replay.is_none()
    }
}

/// One request and its answer; then the connection ends.
fn pass_on(stream: TcpStream, upstream: u16, shared: &Mutex<Shared>) -> Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut device = BufReader::new(stream);
    let (head, request) = message(&mut device)?;
    let replay = if request.is_empty() {
        None
    } else {
        held(shared).replay.take()
    };
    let mut device = device.into_inner();
    let answer = if let Some(answer) = replay {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/teep+cbor\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            answer.len()
        );
        device.write_all(head.as_bytes())?;
        device.write_all(&answer)?;
        answer
    } else {
        let mut tam = TcpStream::connect(("127.0.0.1", upstream))?;
        tam.set_read_timeout(Some(SILENCE))?;
        let (first, rest) = head
            .split_once("\r\n")
            .context("a request has a first line")?;
        tam.write_all(format!("{first}\r\nConnection: close\r\n{rest}").as_bytes())?;
        tam.write_all(&request)?;
        let (head, answer) = message(&mut BufReader::new(tam))?;
        device.write_all(head.as_bytes())?;
        device.write_all(&answer)?;
        answer
    };
    held(shared).seen.push(answer);
    Ok(())
}

/// Head with its empty line, and body, of one HTTP message.
fn message(reader: &mut impl BufRead) -> Result<(String, Vec<u8>)> {
    let mut head = String::new();
    let mut len = 0;
    loop {
        let from = head.len();
        ensure!(
            reader.read_line(&mut head)? > 0,
            "the message ends in its head"
        );
        let line = head.get(from..).unwrap_or_default().trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            len = value.trim().parse()?;
        }
    }
    ensure!(len <= BODY_MAX, "a body of {len} bytes");
    let mut body = vec![0; len];
    reader.read_exact(&mut body)?;
    Ok((head, body))
}

/// The lock, whoever held it before.
fn held(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
