//! The attacker on the network: an HTTP proxy that carries, drops, alters, replays, delays, cuts.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// When something is done to an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The request has come and was not sent on.
    Before,
    /// The answer has come and was not handed on.
    After,
}

/// An exchange as the attacker sees it.
pub struct Seen<'a> {
    /// Number of the exchange, from 0.
    pub number: usize,
    pub path: &'a str,
    pub moment: Moment,
    /// Body of the request, or of the answer.
    pub body: &'a mut Vec<u8>,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, as the body is now.
    Carry,
    /// The connection is closed.
    Drop,
    /// Half of it goes on, then the connection is closed.
    Truncate,
    /// It goes on one byte at a time, then stops.
    Slow,
}

pub type Attacker = Box<dyn FnMut(Seen<'_>) -> Verdict + Send>;

struct Inner {
    attacker: Option<Attacker>,
    count: usize,
    kept: Vec<(String, Vec<u8>, Vec<u8>)>,
}

/// A running proxy; it goes with the process.
pub struct Proxy {
    address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

impl Proxy {
    pub fn start(servers: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Mutex::new(Inner {
            attacker: None,
            count: 0,
            kept: Vec::new(),
        }));
        let shared = Arc::clone(&inner);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, servers) = (Arc::clone(&shared), servers.clone());
                std::thread::spawn(move || {
                    let _ = carry(&stream, &servers, &shared);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, inner }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts an attacker there, or takes it away; exchanges are counted and kept from now on.
    pub fn attack(&self, attacker: Option<Attacker>) {
        let mut inner = self.inner.lock().unwrap();
        inner.attacker = attacker;
        inner.count = 0;
        inner.kept.clear();
    }

    /// Path, request and answer of each exchange since the last [`Proxy::attack`].
    pub fn kept(&self) -> Vec<(String, Vec<u8>, Vec<u8>)> {
        self.inner.lock().unwrap().kept.clone()
    }
}

fn carry(client: &TcpStream, servers: &[SocketAddr], shared: &Mutex<Inner>) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    let Some((head, mut body)) = read_message(client)? else {
        return Ok(());
    };
    let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
    let server = if path.starts_with("/tam") {
        1
    } else if path.starts_with("/verifier") {
        2
    } else {
        0
    };
    let number = {
        let mut inner = shared.lock().unwrap();
        inner.count += 1;
        inner.count - 1
    };
    let sent = body.clone();
    let verdict = judge(shared, number, &path, Moment::Before, &mut body);
    if verdict == Verdict::Drop {
        return Ok(());
    }
    let upstream = TcpStream::connect(servers[server])?;
    upstream.set_read_timeout(Some(Duration::from_secs(20)))?;
    send(&upstream, &head, &body, verdict)?;
    let Some((head, mut answer)) = read_message(&upstream)? else {
        return Ok(());
    };
    shared
        .lock()
        .unwrap()
        .kept
        .push((path.clone(), sent, answer.clone()));
    let verdict = judge(shared, number, &path, Moment::After, &mut answer);
    if verdict == Verdict::Drop {
        return Ok(());
    }
    send(client, &head, &answer, verdict)
}

fn judge(
    shared: &Mutex<Inner>,
    number: usize,
    path: &str,
    moment: Moment,
    body: &mut Vec<u8>,
) -> Verdict {
    // The attacker may take its time (it kills processes); others pass meanwhile.
    let attacker = shared.lock().unwrap().attacker.take();
    let Some(mut attacker) = attacker else {
        return Verdict::Carry;
    };
    let verdict = attacker(Seen {
        number,
        path,
        moment,
        body,
    });
    let mut inner = shared.lock().unwrap();
    if inner.attacker.is_none() {
        inner.attacker = Some(attacker);
    }
    verdict
}

/// First line with header fields, and body; `None` if the peer closed.
fn read_message(mut stream: &TcpStream) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk[..n]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            return Ok(None);
        }
        body.extend_from_slice(&chunk[..n]);
    }
    Ok(Some((head, body)))
}

fn send(mut stream: &TcpStream, head: &str, body: &[u8], verdict: Verdict) -> std::io::Result<()> {
    let mut out = String::new();
    for line in head.lines() {
        let name = line.split(':').next().unwrap_or("").to_ascii_lowercase();
        if name != "content-length" && name != "connection" {
            out.push_str(line);
            out.push_str("\r\n");
        }
    }
    out.push_str(&format!(
        "Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    if head.contains(" 204 ") {
        out = out.replace("Content-Length: 0\r\n", "");
    }
    let mut bytes = out.into_bytes();
    bytes.extend_from_slice(body);
    match verdict {
        Verdict::Truncate => stream.write_all(&bytes[..bytes.len() - body.len().div_ceil(2)]),
        Verdict::Slow => {
            for byte in bytes.iter().take(40) {
                stream.write_all(&[*byte])?;
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        }
        _ => stream.write_all(&bytes),
    }
}
