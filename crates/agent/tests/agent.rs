//! The agent between a TEE, a TAM and a CA that are played here, with all that goes wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod played;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tegata_agent::carrier::{AgentCarrier, Carrier, HttpCarrier, PKIXCMP};
use tegata_agent::config::Config;
use tegata_agent::daemon::Daemon;
use tegata_agent::enrol::{self, Boundary, Crossing, EnrolError, Step, Watch, command};
use tegata_agent::http::HttpError;
use tegata_agent::teep::{self, Purpose, TEEP_CBOR, TeepError};
use tegata_client::{Context, TaUuid, codes};
use tegata_wire::rpc::{Contact, Param, Processed, Reply, Request};

use played::{Http1, http, operation, server, tee};

const TA: TaUuid = TaUuid([5; 16]);

#[test]
fn redirects_are_not_followed() {
    let target = server(|_| Http1::Answer(200, TEEP_CBOR, b"evil".to_vec()));
    let url = server(move |_| {
        Http1::Raw(
            format!(
                "HTTP/1.1 307 X\r\nlocation: {target}\r\ncontent-length: 0\r\n\
                 connection: close\r\n\r\n"
            )
            .into_bytes(),
        )
    });
    let error = http().post(&url, TEEP_CBOR, b"", 100).unwrap_err();
    assert!(
        matches!(error, HttpError::Status { status: 307, .. }),
        "{error}"
    );
    assert!(!error.is_retryable());
    let error = http().get(&url, 100).unwrap_err();
    assert!(
        matches!(error, HttpError::Status { status: 307, .. }),
        "{error}"
    );
}

#[test]
fn bodies_have_a_limit_whatever_they_announce() {
    let url = server(|_| Http1::Answer(200, TEEP_CBOR, vec![0; 1001]));
    let error = http().get(&url, 1000).unwrap_err();
    assert!(matches!(error, HttpError::TooLong { .. }), "{error}");
    assert_eq!(http().get(&url, 1001).unwrap().body.len(), 1001);
    // Without a length the end is not known beforehand.
    let url = server(|_| {
        let mut raw = b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\n".to_vec();
        raw.extend(vec![0; 100_000]);
        Http1::Raw(raw)
    });
    let error = http().get(&url, 1000).unwrap_err();
    assert!(matches!(error, HttpError::TooLong { .. }), "{error}");
}

#[test]
fn trouble_is_told_apart_from_refusal() {
    for (answer, retryable) in [
        (500, true),
        (503, true),
        (429, true),
        (404, false),
        (400, false),
        (403, false),
    ] {
        let url = server(move |_| Http1::Answer(answer, "text/plain", vec![]));
        assert_eq!(
            http().get(&url, 10).unwrap_err().is_retryable(),
            retryable,
            "{answer}"
        );
    }
    let url = server(|_| Http1::Close);
    assert!(http().get(&url, 10).unwrap_err().is_retryable());
    assert!(
        http()
            .get("https://example.com/", 10)
            .unwrap_err()
            .to_string()
            .contains("TLS")
    );
    assert!(http().get("file:///etc/passwd", 10).is_err());
}

#[test]
fn a_visit_goes_on_until_the_tam_has_nothing_more() {
    let cdn = server(|received| {
        assert_eq!(received.method, "GET");
        Http1::Answer(200, "application/octet-stream", b"wasm".to_vec())
    });
    let uri = format!("{cdn}/ta");
    let tee = tee(move |request| match request {
        Request::RequestTa { ta: TA } => Some(Reply::Contact(Some(Contact {
            tam_uri: String::new(),
            message: vec![],
        }))),
        Request::Process { message, payloads } => Some(Reply::Processed(match &message[..] {
            b"query" => Processed::Reply(b"response".to_vec()),
            b"update" if payloads.is_empty() => Processed::NeedPayload {
                uri: uri.clone(),
                max_bytes: 4,
            },
            b"update" => {
                assert_eq!(payloads[0].bytes, b"wasm");
                Processed::Reply(b"success".to_vec())
            }
            _ => return None,
        })),
        _ => None,
    });
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&bodies);
    let tam = server(move |received| {
        assert_eq!(received.method, "POST");
        assert_eq!(received.headers["accept"], TEEP_CBOR);
        seen.lock().unwrap().push(received.body.clone());
        match &received.body[..] {
            b"" => Http1::Answer(200, "application/teep+cbor; x=y", b"query".to_vec()),
            b"response" => Http1::Answer(200, TEEP_CBOR, b"update".to_vec()),
            _ => Http1::Raw(b"HTTP/1.1 204 X\r\nconnection: close\r\n\r\n".to_vec()),
        }
    });
    let mut events = Vec::new();
    let visit = teep::visit(&tee, &http(), Some(&tam), Purpose::Want(TA), &mut |e| {
        events.push(e)
    })
    .unwrap();
    assert_eq!(
        (visit.contacted, visit.messages, visit.fetched),
        (true, 2, 1)
    );
    assert_eq!(
        *bodies.lock().unwrap(),
        [b"".to_vec(), b"response".to_vec(), b"success".to_vec()]
    );
    assert_eq!(events.len(), 9);
}

#[test]
fn a_tam_that_fails_is_reported_to_the_tee() {
    let errors = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&errors);
    let tee = tee(move |request| match request {
        Request::PolicyCheck => Some(Reply::Contact(Some(Contact {
            tam_uri: String::new(),
            message: vec![],
        }))),
        Request::ProcessError => {
            count.fetch_add(1, Ordering::Relaxed);
            Some(Reply::Done)
        }
        _ => None,
    });
    let visit = |url: &str| teep::visit(&tee, &http(), Some(url), Purpose::Check, &mut |_| ());
    let error = visit(&server(|_| Http1::Answer(500, "x", vec![]))).unwrap_err();
    assert!(error.is_retryable());
    let error = visit(&server(|_| {
        Http1::Answer(200, "text/html", b"login".to_vec())
    }))
    .unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert_eq!(errors.load(Ordering::Relaxed), 2);
    let none = teep::visit(&tee, &http(), None, Purpose::Check, &mut |_| ());
    assert!(matches!(none, Err(TeepError::NoTam)));
}

#[test]
fn a_tam_without_end_is_left() {
    let tee = tee(|request| match request {
        Request::PolicyCheck => Some(Reply::Contact(Some(Contact {
            tam_uri: String::new(),
            message: vec![],
        }))),
        Request::Process { .. } => Some(Reply::Processed(Processed::Reply(b"again".to_vec()))),
        _ => None,
    });
    let tam = server(|_| Http1::Answer(200, TEEP_CBOR, b"again".to_vec()));
    let visit = teep::visit(&tee, &http(), Some(&tam), Purpose::Check, &mut |_| ());
    assert!(matches!(visit, Err(TeepError::Endless)));
}

#[test]
fn a_payload_that_is_asked_for_twice_is_not_fetched_for_ever() {
    let cdn = server(|_| Http1::Answer(200, "x", b"y".to_vec()));
    let tee = tee(move |request| match request {
        Request::PolicyCheck => Some(Reply::Contact(Some(Contact {
            tam_uri: String::new(),
            message: vec![],
        }))),
        Request::Process { .. } => Some(Reply::Processed(Processed::NeedPayload {
            uri: cdn.clone(),
            max_bytes: 10,
        })),
        _ => None,
    });
    let tam = server(|_| Http1::Answer(200, TEEP_CBOR, b"m".to_vec()));
    let visit = teep::visit(&tee, &http(), Some(&tam), Purpose::Check, &mut |_| ());
    assert!(matches!(visit, Err(TeepError::Payload { .. })));
}

const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

/// An enrolment TA that does its part; `confirm` is what ENROL_FINISH gives.
fn enrolment_ta(confirm: &'static [u8]) -> Context {
    tee(move |request| match request {
        Request::OpenSession { ta: TA, .. } => Some(operation(0, 3, [&[]; 4])),
        Request::CloseSession { .. } => Some(Reply::Done),
        Request::Invoke {
            session: 3,
            command: number,
            params,
        } => {
            assert_eq!(
                params[0],
                Param::MemrefInput {
                    buffer: b"web".to_vec()
                }
            );
            let second = match &params[1] {
                Param::MemrefInput { buffer } => buffer.as_slice(),
                _ => &[],
            };
            Some(match (*number, second) {
                (command::ENROL_BEGIN, _) => operation(0, 0, [&[], &[], b"csr", b"/cmp/p/x"]),
                (command::ENROL_FINISH, b"cp") => operation(0, 0, [&[], &[], confirm, &[]]),
                (command::ENROL_CONFIRM, b"pkiconf") => operation(0, 0, [&[]; 4]),
                (command::GET_CERTIFICATE, _) => operation(0, 0, [&[], &[], PEM, &[]]),
                _ => operation(codes::TEEC_ERROR_SECURITY, 0, [&[]; 4]),
            })
        }
        _ => None,
    })
}

/// A CA that answers, after failing the first `failures` times.
fn ca(failures: u32) -> String {
    let mut left = failures;
    server(move |received| {
        assert_eq!(received.path, "/cmp/p/x");
        assert_eq!(received.headers["content-type"], PKIXCMP);
        if left > 0 {
            left -= 1;
            return if left.is_multiple_of(2) {
                Http1::Close
            } else {
                Http1::Answer(503, "x", vec![])
            };
        }
        match &received.body[..] {
            b"csr" => Http1::Answer(200, PKIXCMP, b"cp".to_vec()),
            b"certconf" => Http1::Answer(200, PKIXCMP, b"pkiconf".to_vec()),
            _ => Http1::Answer(400, "x", vec![]),
        }
    })
}

#[derive(Default)]
struct Log {
    crossings: Vec<(Step, Boundary, usize, usize)>,
    retries: u32,
}

impl Watch for Log {
    fn crossed(&mut self, c: &Crossing) {
        self.crossings
            .push((c.step, c.boundary, c.sent_bytes, c.received_bytes));
    }

    fn retrying(&mut self, _: Step, _: &EnrolError, _: Duration) {
        self.retries += 1;
    }
}

fn request() -> enrol::Request {
    let mut request = enrol::Request::new(TA, "web");
    request.pause = Duration::from_millis(5);
    request
}

#[test]
fn an_enrolment_crosses_each_boundary_once() {
    let tee = enrolment_ta(b"certconf");
    let carrier = HttpCarrier::new(http(), &ca(0));
    let mut log = Log::default();
    let enrolled = enrol::enrol(&tee, &carrier, &request(), &mut log).unwrap();
    assert!(enrolled.confirmed);
    assert_eq!(enrolled.chain_pem.as_bytes(), PEM);
    assert_eq!(
        log.crossings,
        [
            (Step::Begin, Boundary::Tee, 3, 11),
            (Step::Issue, Boundary::Ca, 3, 2),
            (Step::Finish, Boundary::Tee, 5, 8),
            (Step::Confirm, Boundary::Ca, 8, 7),
            (Step::Complete, Boundary::Tee, 10, 0),
            (Step::Read, Boundary::Tee, 3, PEM.len()),
        ]
    );
    let again = enrol::certificate(&tee, &request()).unwrap();
    assert_eq!(again.as_bytes(), PEM);
}

#[test]
fn lost_answers_cost_a_repetition() {
    let tee = enrolment_ta(b"certconf");
    let carrier = HttpCarrier::new(http(), &ca(3));
    let mut log = Log::default();
    enrol::enrol(&tee, &carrier, &request(), &mut log).unwrap();
    assert_eq!(log.retries, 3);
}

#[test]
fn a_ca_that_is_busy_is_asked_when_it_says_however_often() {
    let busy = |retry_after: &str, times: u32| {
        let head = format!(
            "HTTP/1.1 503 X\r\nretry-after: {retry_after}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let mut left = times;
        let url = server(move |received| {
            if left > 0 {
                left -= 1;
                return Http1::Raw(head.clone().into_bytes());
            }
            match &received.body[..] {
                b"csr" => Http1::Answer(200, PKIXCMP, b"cp".to_vec()),
                _ => Http1::Answer(400, "x", vec![]),
            }
        });
        let mut log = Log::default();
        let tee = enrolment_ta(b"");
        let carrier = HttpCarrier::new(http(), &url);
        let mut request = request();
        request.attempts = 2;
        let enrolled = enrol::enrol(&tee, &carrier, &request, &mut log);
        (enrolled.map(drop).map_err(|e| e.to_string()), log.retries)
    };
    assert_eq!(busy("0", 4), (Ok(()), 4));
    // Longer than anybody waits; then what is no number of seconds, as any other trouble.
    let (refused, retries) = busy("3600", 9);
    assert!(refused.unwrap_err().contains("503") && retries == 0);
    let (refused, retries) = busy("Fri, 31 Dec 1999 23:59:59 GMT", 9);
    assert!(refused.is_err() && retries == 1);
}

#[test]
fn an_implicit_confirmation_needs_no_second_round() {
    let carrier = HttpCarrier::new(http(), &ca(0));
    let enrolled = enrol::enrol(
        &enrolment_ta(b""),
        &carrier,
        &request(),
        &mut enrol::Unwatched,
    )
    .unwrap();
    assert!(!enrolled.confirmed);
}

#[test]
fn a_refusal_is_not_repeated() {
    let url = server(|_| Http1::Answer(403, "x", vec![]));
    let carrier = HttpCarrier::new(http(), &url);
    let mut log = Log::default();
    let tee = enrolment_ta(b"");
    let error = enrol::enrol(&tee, &carrier, &request(), &mut log).unwrap_err();
    assert_eq!((error.step(), log.retries), (Step::Issue, 0));
    let url = server(|_| Http1::Answer(200, PKIXCMP, b"forged".to_vec()));
    let carrier = HttpCarrier::new(http(), &url);
    let error = enrol::enrol(&tee, &carrier, &request(), &mut log).unwrap_err();
    assert_eq!((error.step(), log.retries), (Step::Finish, 0));
}

#[test]
fn a_worker_that_dies_is_replaced() {
    let deaths = AtomicU32::new(2);
    let tee = tee(move |request| match request {
        Request::OpenSession { .. } => Some(operation(0, 3, [&[]; 4])),
        Request::CloseSession { .. } => Some(Reply::Done),
        Request::Invoke {
            command: command::ENROL_BEGIN,
            ..
        } => {
            if deaths.fetch_sub(1, Ordering::Relaxed) > 0 {
                return Some(operation(codes::TEEC_ERROR_TARGET_DEAD, 0, [&[]; 4]));
            }
            deaths.store(0, Ordering::Relaxed);
            Some(operation(0, 0, [&[], &[], b"csr", b"/cmp/p/x"]))
        }
        Request::Invoke {
            command: command::ENROL_FINISH,
            ..
        } => Some(operation(0, 0, [&[]; 4])),
        Request::Invoke { .. } => Some(operation(0, 0, [&[], &[], PEM, &[]])),
        _ => None,
    });
    let carrier = HttpCarrier::new(http(), &ca(0));
    let mut log = Log::default();
    enrol::enrol(&tee, &carrier, &request(), &mut log).unwrap();
    assert_eq!(log.retries, 2);
}

#[test]
fn the_path_cannot_lead_to_another_host() {
    let carrier = HttpCarrier::new(http(), "http://127.0.0.1:9");
    for path in [
        "",
        "cmp",
        "//evil/x",
        "/a/../b",
        "/a b",
        "@evil/",
        "/a\r\nx: y",
        "/a?b",
        "/a#b",
    ] {
        let error = carrier.cmp(path, b"x").unwrap_err();
        assert!(
            !error.is_retryable() && error.to_string().contains("path"),
            "{path:?}: {error}"
        );
    }
}

#[test]
fn the_daemon_carries_for_applications_without_network() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("ca_url = \"{}\"\ntam_url = \"http://127.0.0.1:9\"\n", ca(0));
    let config = Config::parse(&text, &dir.path().join("agent.toml")).unwrap();
    let socket = config.agent_socket.clone();
    let daemon = Daemon::new(config);
    std::thread::spawn(move || daemon.run());
    while UnixStream::connect(&socket).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let carrier = AgentCarrier::new(&socket, Duration::from_secs(5));
    let enrolled = enrol::enrol(
        &enrolment_ta(b"certconf"),
        &carrier,
        &request(),
        &mut enrol::Unwatched,
    );
    assert!(enrolled.unwrap().confirmed);
    let error = carrier.cmp("/nowhere/../x", b"csr").unwrap_err();
    assert!(!error.is_retryable());
    // No TEE is there: said, and worth another try.
    let error = carrier.sync(None).unwrap_err();
    assert!(
        error.is_retryable() && error.to_string().contains("tegata-teed"),
        "{error}"
    );
    // What is no request is refused, and hurts nobody.
    let mut babbler = UnixStream::connect(&socket).unwrap();
    babbler.write_all(&[0xff; 64]).unwrap();
    assert!(carrier.cmp("/cmp/p/x", b"csr").is_ok());
    let second = Daemon::new(Config::parse("", &dir.path().join("agent.toml")).unwrap());
    let refused = second.run().err().unwrap().to_string();
    assert!(refused.contains("another agent"), "{refused}");
}

#[test]
fn the_command_line_teaches_and_names_mistakes() {
    let agent = env!("CARGO_BIN_EXE_tegata-agent");
    let run = |args: &[&str]| {
        std::process::Command::new(agent)
            .args(args)
            .output()
            .unwrap()
    };
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    assert!(help.contains("Examples:") && help.contains("enrol --label"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    let at = file.to_str().unwrap();
    let output = run(&["--config", at, "sync"]);
    assert!(!output.status.success());
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("cannot read")
    );
    std::fs::write(&file, "\ntam_urk = \"x\"\n").unwrap();
    let output = run(&["--config", at, "sync"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("line 2") && said.contains("tam_urk"),
        "{said}"
    );
    std::fs::write(&file, "").unwrap();
    let output = run(&["--config", at, "--json", "sync"]);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("\"error\"") && said.contains("tegata-teed"),
        "{said}"
    );
    let output = run(&["--config", at, "enrol", "--label", "web"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("ca_url"));
}
