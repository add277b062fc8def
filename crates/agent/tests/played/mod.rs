//! A TEE and HTTP servers that are played.
#![allow(dead_code)] // Each test file uses its part.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tegata_agent::http::Http;
use tegata_client::Context;
use tegata_wire::rpc::{
    self, Answer, Call, FRAME_LEN_BYTES_MAX, ORIGIN_TRUSTED_APP, ParamOut, Reply, Request,
};

/// One answer of a played HTTP server.
pub enum Http1 {
    /// Status, media type, body.
    Answer(u16, &'static str, Vec<u8>),
    /// Any bytes at all.
    Raw(Vec<u8>),
    /// The connection is closed without an answer.
    Close,
}

pub struct Received {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

/// An HTTP server that answers each request with what `play` makes of it.
pub fn server(play: impl FnMut(Received) -> Http1 + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut play = play;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let Some(received) = receive(&stream) else {
                continue;
            };
            let _ = match play(received) {
                Http1::Answer(status, media, body) => {
                    let head = format!(
                        "HTTP/1.1 {status} X\r\ncontent-type: {media}\r\ncontent-length: {}\r\n\
                         connection: close\r\n\r\n",
                        body.len()
                    );
                    stream
                        .write_all(head.as_bytes())
                        .and_then(|()| stream.write_all(&body))
                }
                Http1::Raw(bytes) => stream.write_all(&bytes),
                Http1::Close => Ok(()),
            };
        }
    });
    url
}

fn receive(stream: &TcpStream) -> Option<Received> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim().split_once(':') {
            Some((name, value)) => {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            None => break,
        }
    }
    let len = headers
        .get("content-length")
        .and_then(|len| len.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    Some(Received {
        method,
        path,
        headers,
        body,
    })
}

/// A TEE that answers each request with what `play` makes of it; `None` closes the connection.
pub fn tee(play: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Context {
    let path: PathBuf = tempfile::tempdir().unwrap().keep().join("teed.sock");
    tee_at(&path, play);
    Context::new(path)
}

/// The same at a socket of that path.
pub fn tee_at(path: &Path, play: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) {
    let listener = UnixListener::bind(path).unwrap();
    let play = Arc::new(play);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, play) = (stream.unwrap(), Arc::clone(&play));
            std::thread::spawn(move || {
                while let Some(call) = read_call(&mut stream) {
                    let reply = match &call.request {
                        Request::Hello { version } => Some(Reply::Hello { version: *version }),
                        request => play(request),
                    };
                    let Some(reply) = reply else { break };
                    let answer = Answer { id: call.id, reply };
                    let frame = rpc::frame(&answer, FRAME_LEN_BYTES_MAX).unwrap();
                    if stream.write_all(&frame).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

fn read_call(stream: &mut UnixStream) -> Option<Call> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).ok()?;
    let mut content = vec![0; rpc::frame_len(prefix, 4 << 20).ok()?];
    stream.read_exact(&mut content).ok()?;
    rpc::content(&content).ok()
}

pub fn http() -> Http {
    Http::new(Duration::from_secs(5))
}

pub fn operation(code: u32, session: u32, out: [&[u8]; 4]) -> Reply {
    let params = out.map(|bytes| match bytes {
        [] => ParamOut::None,
        bytes => ParamOut::Memref {
            buffer: bytes.to_vec(),
            size: u32::try_from(bytes.len()).unwrap(),
        },
    });
    Reply::Operation {
        code,
        origin: ORIGIN_TRUSTED_APP,
        session,
        params,
    }
}
