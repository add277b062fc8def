//! What hostile and broken clients get from a port.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use tegata_store::{Faults, Store, StoreError, Tx, When, keys};
use tokio::sync::watch;

use super::body::Accepts;
use super::content::Content;
use super::frame::{self, Phase};
use super::places::Lane;
use super::problem::Problem;
use crate::config::Limits;
use crate::roles::{Reply, fetched, health, posted};

fn limits() -> Limits {
    Limits {
        connections: 6,
        connections_per_peer: 5,
        in_flight: 2,
        in_flight_per_peer: 2,
        header_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        answer_timeout: Duration::from_secs(5),
        connection_life: Duration::from_secs(5),
        leave: Duration::ZERO,
        stop_grace: Duration::from_millis(500),
    }
}

struct Port {
    address: SocketAddr,
    stop: watch::Sender<Phase>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Port {
    fn open() -> Self {
        Self::open_with(limits())
    }

    fn open_with(limits: Limits) -> Self {
        Self::open_on(limits, router(), Lane::wide())
    }

    fn open_on(limits: Limits, router: Router, lane: Lane) -> Self {
        let (stop, stopped) = watch::channel(Phase::Serving);
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let router = frame::guard(router, "test", &limits, lane);
                frame::run(listener, None, router, limits, stopped).await;
            });
        });
        Self {
            address: told.recv().unwrap(),
            stop,
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream
    }

    /// As another peer.
    fn connect_from(&self, address: &str) -> TcpStream {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            let from = SocketAddr::new(address.parse().unwrap(), 0);
            socket.bind(from).unwrap();
            socket.connect(self.address).await.unwrap()
        });
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let limit = Some(Duration::from_secs(5));
        stream.set_read_timeout(limit).unwrap();
        stream
    }

    /// Sends bytes, reads until the server closes, gives what came.
    fn talk(&self, bytes: &[u8]) -> String {
        talk_on(self.connect(), bytes)
    }
}

fn talk_on(mut stream: TcpStream, bytes: &[u8]) -> String {
    // A server that has seen enough may close while we still write.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

impl Drop for Port {
    fn drop(&mut self) {
        let _ = self.stop.send(Phase::Stopping);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn router() -> Router {
    let accepts = Accepts {
        content_type: "application/test",
        answer_type: "application/answer",
        len_bytes_max: 1000,
        timeout: limits().body_timeout,
    };
    Router::new()
        .route(
            "/echo",
            posted(
                accepts,
                Arc::new(|_, body| Ok(Reply::ok("application/answer", body.to_vec()))),
            ),
        )
        .route(
            "/slow",
            fetched(Arc::new(|_, _| {
                std::thread::sleep(Duration::from_millis(700));
                Ok(Reply::nothing())
            })),
        )
        .merge(health("test", Arc::new(|_, _| Ok(Reply::nothing()))))
        .route(
            "/long",
            fetched(Arc::new(|_, _| {
                let long = Content::shared(vec![7; LONG]);
                Ok(Reply::ok("application/answer", long))
            })),
        )
}

/// Length of a long answer, bytes: more than the kernel's buffers between two sockets take.
const LONG: usize = 32 << 20;

#[test]
fn who_sends_too_much_hears_so() {
    let port = Port::open();
    let big = "x".repeat(1 << 20);
    for sent in [
        format!("Content-Length: {}\r\n\r\n{big}", big.len()),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{big}\r\n0\r\n\r\n",
            big.len()
        ),
    ] {
        for _ in 0..40 {
            let head = format!("POST /echo HTTP/1.1\r\n{CLOSE}Content-Type: application/test\r\n");
            // As clients do that read no answer before they have sent all.
            let mut stream = port.connect();
            stream
                .write_all(format!("{head}{sent}").as_bytes())
                .unwrap();
            let answer = talk_on(stream, b"");
            assert!(answer.contains("body-too-large"), "{answer}");
        }
    }
}

#[test]
fn one_peer_leaves_places_to_others_and_its_port_is_seen_to_live() {
    let in_flight_per_peer = 1;
    let port = Port::open_with(Limits {
        in_flight_per_peer,
        ..limits()
    });
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\n{CLOSE}\r\n");
    let mut first = port.connect();
    first.write_all(get("/slow").as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let refused = port.talk(get("/slow").as_bytes());
    assert!(refused.contains("too-many-requests-of-peer"), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    let other = port.connect_from("127.0.0.2");
    let other = std::thread::spawn(move || talk_on(other, get("/slow").as_bytes()));
    std::thread::sleep(Duration::from_millis(100));
    // Every place is taken now.
    let full = talk_on(port.connect_from("127.0.0.3"), get("/slow").as_bytes());
    assert!(full.contains("too-many-requests"), "{full}");
    let lives = port.talk(get("/healthz").as_bytes());
    assert!(lives.starts_with("HTTP/1.1 200"), "{lives}");
    assert!(talk_on(first, b"").starts_with("HTTP/1.1 204"));
    assert!(other.join().unwrap().starts_with("HTTP/1.1 204"));
    assert!(
        port.talk(get("/slow").as_bytes())
            .starts_with("HTTP/1.1 204")
    );
}

const CLOSE: &str = "Host: t\r\nConnection: close\r\n";

#[test]
fn bad_requests_get_their_problem() {
    let port = Port::open();
    let post = "Content-Type: application/test\r\n";
    let big = "x".repeat(1001);
    let many: String = (0..80).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (what, request, status, code) in [
        (
            "fine",
            format!("POST /echo HTTP/1.1\r\n{CLOSE}{post}Content-Length: 2\r\n\r\nhi"),
            "200",
            "hi",
        ),
        (
            "empty",
            format!("POST /echo HTTP/1.1\r\n{CLOSE}Content-Length: 0\r\n\r\n"),
            "200",
            "",
        ),
        (
            "no such",
            format!("GET / HTTP/1.1\r\n{CLOSE}\r\n"),
            "404",
            "not-found",
        ),
        (
            "no text",
            format!("GET /slow%ff HTTP/1.1\r\n{CLOSE}\r\n"),
            "404",
            "not-found",
        ),
        (
            "method",
            format!("DELETE /echo HTTP/1.1\r\n{CLOSE}\r\n"),
            "405",
            "method-not-allowed",
        ),
        (
            "media type",
            format!(
                "POST /echo HTTP/1.1\r\n{CLOSE}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"
            ),
            "415",
            "unsupported-media-type",
        ),
        (
            "no type",
            format!("POST /echo HTTP/1.1\r\n{CLOSE}Content-Length: 2\r\n\r\nhi"),
            "415",
            "unsupported-media-type",
        ),
        (
            "accept",
            format!(
                "POST /echo HTTP/1.1\r\n{CLOSE}{post}Accept: text/html\r\nContent-Length: 2\r\n\r\nhi"
            ),
            "406",
            "not-acceptable",
        ),
        (
            "declared",
            format!("POST /echo HTTP/1.1\r\n{CLOSE}{post}Content-Length: 99999999999\r\n\r\n"),
            "413",
            "body-too-large",
        ),
        (
            "chunked",
            format!(
                "POST /echo HTTP/1.1\r\n{CLOSE}{post}Transfer-Encoding: chunked\r\n\r\n3e9\r\n{big}\r\n0\r\n\r\n"
            ),
            "413",
            "body-too-large",
        ),
        (
            "bad chunk",
            format!("POST /echo HTTP/1.1\r\n{CLOSE}{post}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
            "400",
            "body-broken",
        ),
        (
            "slow body",
            format!("POST /echo HTTP/1.1\r\n{CLOSE}{post}Content-Length: 9\r\n\r\nhi"),
            "408",
            "body-timeout",
        ),
        (
            "garbage",
            "\x16\x03\x01\x02\x00\x01\x00\x01\n\r\n\r\n".to_owned(),
            "400",
            "",
        ),
        (
            "fields",
            format!("GET / HTTP/1.1\r\n{CLOSE}{many}\r\n"),
            "431",
            "",
        ),
        (
            "header size",
            format!("GET / HTTP/1.1\r\n{CLOSE}X: {}\r\n\r\n", "y".repeat(40_000)),
            "431",
            "",
        ),
    ] {
        let answer = port.talk(request.as_bytes());
        let first = answer.lines().next().unwrap_or("");
        assert!(first.contains(status), "{what}: {answer}");
        assert!(answer.contains(code), "{what}: {answer}");
        if !code.is_empty() && code != "hi" {
            assert!(
                answer.contains("application/problem+json"),
                "{what}: {answer}"
            );
            assert!(
                answer.contains("x-content-type-options: nosniff"),
                "{what}: {answer}"
            );
        }
    }
}

#[test]
fn a_slow_header_is_cut() {
    let port = Port::open();
    let started = Instant::now();
    let answer = port.talk(b"POST /echo HTTP/1.1\r\nHost:");
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(answer.is_empty() || answer.contains("408"), "{answer}");
    // An idle connection is not kept either.
    let started = Instant::now();
    port.talk(b"");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn too_many_are_told_to_come_back() {
    let port = Port::open();
    let held: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = port.connect();
            let request = format!("GET /slow HTTP/1.1\r\n{CLOSE}\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    // Both places of work are taken.
    let answer = port.talk(format!("GET /slow HTTP/1.1\r\n{CLOSE}\r\n").as_bytes());
    assert!(answer.contains("503"), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    assert!(answer.contains("too-many-requests"), "{answer}");
    // And now all connections that one peer may have; then all that there are.
    let idle: Vec<TcpStream> = (0..3).map(|_| port.connect()).collect();
    std::thread::sleep(Duration::from_millis(50));
    let request = format!("GET / HTTP/1.1\r\n{CLOSE}\r\n");
    let answer = port.talk(request.as_bytes());
    assert!(answer.contains("503"), "{answer}");
    assert!(answer.contains("too-many-of-peer"), "{answer}");
    assert!(answer.contains("retry-after: 2"), "{answer}");
    // Linux has all of 127.0.0.0/8 on its loopback interface: another peer.
    let other = port.connect_from("127.0.0.2");
    let answer = talk_on(port.connect_from("127.0.0.3"), request.as_bytes());
    assert!(answer.contains("too-many-connections"), "{answer}");
    assert!(answer.contains("retry-after: 2"), "{answer}");
    // Who goes makes room.
    drop(other);
    std::thread::sleep(Duration::from_millis(50));
    let answer = talk_on(port.connect_from("127.0.0.3"), request.as_bytes());
    assert!(answer.contains("404"), "{answer}");
    for mut stream in held {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }
    drop(idle);
}

#[test]
fn slow_bodies_hold_no_place_of_work() {
    let port = Port::open();
    // More of them than there are places, each with a body that does not come.
    let started = Instant::now();
    let slow: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = port.connect();
            let head = "Content-Type: application/test\r\nContent-Length: 9\r\n\r\nhi";
            let request = format!("POST /echo HTTP/1.1\r\n{CLOSE}{head}");
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(50));
    let answer = port.talk(format!("GET /slow HTTP/1.1\r\n{CLOSE}\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    for mut stream in slow {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("408"), "{answer}");
    }
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn work_that_nobody_waits_for_is_counted() {
    let port = Port::open();
    for _ in 0..2 {
        let mut stream = port.connect();
        let request = format!("GET /slow HTTP/1.1\r\n{CLOSE}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        // The client is gone; what it began is not.
        drop(stream);
    }
    std::thread::sleep(Duration::from_millis(100));
    let answer = port.talk(format!("GET /slow HTTP/1.1\r\n{CLOSE}\r\n").as_bytes());
    assert!(answer.contains("too-many-requests"), "{answer}");
    std::thread::sleep(Duration::from_millis(900));
    let answer = port.talk(format!("GET /slow HTTP/1.1\r\n{CLOSE}\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
}

#[test]
fn a_request_in_progress_survives_the_stop() {
    let port = Port::open();
    let mut stream = port.connect();
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n")
        .unwrap();
    std::thread::sleep(Duration::from_millis(400));
    port.stop.send(Phase::Stopping).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(TcpStream::connect(port.address).is_err());
}

#[test]
fn a_request_in_progress_survives_the_end_of_its_connections_life() {
    let port = Port::open_with(Limits {
        connection_life: Duration::from_millis(200),
        stop_grace: Duration::ZERO,
        ..limits()
    });
    let answer = port.talk(b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
}

#[test]
fn who_takes_nothing_of_an_answer_is_cut() {
    let port = Port::open();
    let asks = b"GET /long HTTP/1.1\r\nHost: t\r\n\r\n";
    let mut deaf = port.connect();
    deaf.write_all(asks).unwrap();
    std::thread::sleep(4 * limits().body_timeout);
    let mut taken = Vec::new();
    let _ = deaf.read_to_end(&mut taken);
    assert!(taken.len() < LONG, "{}", taken.len());
    // Who reads, however slowly, gets all of it.
    let mut slow = port.connect();
    slow.write_all(b"GET /long HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        .unwrap();
    let (mut piece, mut taken) = (vec![0; 4 << 20], 0);
    loop {
        match slow.read(&mut piece).unwrap() {
            0 => break,
            n => taken += n,
        }
        std::thread::sleep(limits().body_timeout / 30);
    }
    assert!(taken > LONG, "{taken}");
}

#[test]
fn a_server_that_leaves_serves_on_and_keeps_no_connection() {
    let port = Port::open();
    let health = format!("GET /healthz HTTP/1.1\r\n{CLOSE}\r\n");
    assert!(port.talk(health.as_bytes()).starts_with("HTTP/1.1 200"));
    // Kept open from before.
    let mut kept = port.connect();
    kept.write_all(b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n")
        .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    port.stop.send(Phase::Leaving).unwrap();
    let mut answer = String::new();
    kept.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    let answer = port.talk(health.as_bytes());
    assert!(
        answer.contains("503") && answer.contains("leaving"),
        "{answer}"
    );
    let answer = port.talk(b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[test]
fn who_was_connected_when_the_port_closes_is_answered() {
    let port = Port::open();
    let request = format!("GET / HTTP/1.1\r\n{CLOSE}\r\n");
    let mut late: Vec<TcpStream> = (0..2).map(|_| port.connect()).collect();
    // Nothing was sent when the server is told; it comes at once.
    port.stop.send(Phase::Stopping).unwrap();
    for stream in &mut late {
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
}

/// Stops after the commit of the step "lost".
struct Stops;

impl Faults for Stops {
    fn reach(&self, step: &'static str, when: When) -> Result<(), StoreError> {
        match (step, when) {
            ("lost", When::After) => Err(StoreError::Stopped {
                step,
                when: when.as_str(),
            }),
            _ => Ok(()),
        }
    }
}

#[test]
fn an_answer_is_sent_once_it_is_durable_and_not_at_all_if_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with(dir.path().join("t.db"), Arc::new(Stops)).unwrap();
    let store = Arc::new(store);
    let writes = |step: &'static str, name: &'static str| {
        let store = Arc::clone(&store);
        let work = move |_: &str, _: &[u8]| {
            let put = |tx: &Tx<'_>| keys::put_document(tx, name, &[1], 1);
            match store.run_tx_last(step, put) {
                Ok(()) => Ok(Reply::ok("application/answer", name.as_bytes().to_vec())),
                Err(e) => Err(Problem::of_store(&e)),
            }
        };
        fetched(Arc::new(work))
    };
    let router = Router::new()
        .route("/kept", writes("kept", "kept"))
        .route("/lost", writes("lost", "lost"));
    let few = crate::serve::few_threads().unwrap();
    let lane = Lane::narrow(few.handle(), &store);
    let port = Port::open_on(limits(), router, lane);
    let get = |path: &str| {
        port.talk(format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").as_bytes())
    };
    // More often than there are places: each is given back.
    for _ in 0..3 {
        let kept = get("/kept");
        assert!(kept.starts_with("HTTP/1.1 200 "), "{kept}");
        let found = store.read("t", |tx| keys::document(tx, "kept"));
        assert_eq!(
            found.unwrap_or_else(|e: StoreError| panic!("{e}")),
            Some(vec![1])
        );
        let lost = get("/lost");
        assert!(lost.starts_with("HTTP/1.1 503 "), "{lost}");
        assert!(lost.contains("store-stopped"), "{lost}");
    }
}
