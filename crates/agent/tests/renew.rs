//! Renewal as the agent drives it: what it does when the CA refuses, and what it leaves alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod played;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use played::{Http1, http, operation, server, tee, tee_at};
use tegata_agent::carrier::{HttpCarrier, PKIXCMP};
use tegata_agent::config::Config;
use tegata_agent::daemon::Daemon;
use tegata_agent::enrol::{EnrolError, Request as Wanted, Unwatched};
use tegata_agent::renew::{RenewError, Renewed, renew};
use tegata_client::{Context, TaUuid, codes};
use tegata_wire::cbor::{self, Value};
use tegata_wire::cmp::{
    MessageToProtect, PkiFailureInfo, PkiHeader, PkiStatusInfo, RawBody, UnverifiedPkiMessage,
    null_dn,
};
use tegata_wire::enrolment::CHECK_IN_FIRST;
use tegata_wire::rpc::{Param, Reply, Request};
use tegata_wire::x509::SignatureAlg;

const TA: TaUuid = TaUuid([5; 16]);
const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
const GRANTED: &[u8] = b"granted";
const BEGIN: u32 = 1;
const FINISH: u32 = 2;
const GET_CERTIFICATE: u32 = 4;
const LIST: u32 = 6;
const DELETE: u32 = 7;
const STATUS: u32 = 9;

fn message(body: &RawBody) -> Vec<u8> {
    let header = PkiHeader::new(null_dn(), null_dn());
    let message = MessageToProtect::new(&header, body).unwrap();
    message.into_der(None, &[]).unwrap()
}

fn kur() -> Vec<u8> {
    message(&RawBody::kur(&[0x30, 0], SignatureAlg::Ed25519, &[7; 64]).unwrap())
}

fn p10cr() -> Vec<u8> {
    message(&RawBody::p10cr(&[0x30, 0]).unwrap())
}

/// The CA's refusal in an error message, and in the answer that it gives to a request that it knows
/// is genuine.
fn error(text: &str) -> Vec<u8> {
    message(&RawBody::error(PkiFailureInfo::NOT_AUTHORIZED, text).unwrap())
}

fn refusal(text: &str) -> Vec<u8> {
    let status = PkiStatusInfo::rejection(PkiFailureInfo::NOT_AUTHORIZED, text);
    let kind = tegata_wire::cmp::BodyKind::Kup;
    message(&RawBody::not_granted(kind, 0, status).unwrap())
}

/// How the label stands in the TA.
#[derive(Clone)]
struct Label {
    due: bool,
    ended: bool,
    /// The CA's next message will tell the TA that the certificate has ended.
    learns: bool,
    request: Vec<u8>,
    given_up: u32,
}

impl Label {
    fn new(due: bool, ended: bool) -> Self {
        let request = if ended { p10cr() } else { kur() };
        Self {
            due,
            ended,
            learns: false,
            request,
            given_up: 0,
        }
    }

    fn status(&self) -> Vec<u8> {
        let number = |n: u64| Value::from(n);
        let entry = |key: u64, value: Value| (number(key), value);
        let map = vec![
            entry(1, number(3)),
            entry(2, number(1_000)),
            entry(3, number(9_000)),
            entry(4, number(8_000)),
            entry(5, Value::Bytes(vec![1, 2])),
            entry(6, Value::Bool(self.due)),
            entry(7, Value::Text("device".into())),
            entry(8, Value::from(-9)),
            entry(9, number(1)),
            entry(11, number(if self.ended { 9_001 } else { 8_500 })),
        ];
        cbor::encode(&Value::Map(map)).unwrap()
    }
}

/// A TA that behaves as docs/spec/enrolment-ta.md says, without the cryptography.
fn ta(label: &Arc<Mutex<Label>>) -> Context {
    tee(play(label))
}

fn play(label: &Arc<Mutex<Label>>) -> impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static {
    let label = Arc::clone(label);
    move |request| match request {
        Request::OpenSession { ta: TA, .. } => Some(operation(0, 3, [&[]; 4])),
        Request::CloseSession { .. } => Some(Reply::Done),
        Request::Invoke {
            command, params, ..
        } => {
            let mut label = label.lock().unwrap();
            let answer = match &params[1] {
                Param::MemrefInput { buffer } => buffer.as_slice(),
                _ => &[],
            };
            Some(match *command {
                BEGIN => operation(0, 0, [&[], &[], &label.request, b"/cmp/p/x"]),
                STATUS => operation(0, 0, [&[], &[], &label.status(), &[]]),
                GET_CERTIFICATE => operation(0, 0, [&[], &[], PEM, &[]]),
                DELETE => {
                    assert_eq!(params[1], Param::ValueInput { a: 1, b: 0 });
                    label.given_up += 1;
                    let makes_room = label.ended && label.request == kur();
                    label.request = if makes_room { p10cr() } else { kur() };
                    operation(0, 0, [&[]; 4])
                }
                LIST => operation(0, 0, [&[], &[], &list(), &[]]),
                FINISH if answer == GRANTED => {
                    label.due = false;
                    operation(0, 0, [&[]; 4])
                }
                FINISH => {
                    label.ended |= label.learns;
                    let message = UnverifiedPkiMessage::from_der(answer).unwrap();
                    if message.body().cert_rep().is_ok() && label.request == kur() {
                        label.request = p10cr();
                    }
                    operation(codes::TEEC_ERROR_ACCESS_DENIED, 0, [&[]; 4])
                }
                _ => return None,
            })
        }
        _ => None,
    }
}

/// One label, installed.
fn list() -> Vec<u8> {
    let row = Value::Array(vec!["web".into(), 3.into()]);
    cbor::encode(&Value::Array(vec![row])).unwrap()
}

/// What came of a renewal: its outcome, the visits of the TAM, the kinds of requests.
struct Told {
    outcome: Result<Renewed, RenewError>,
    visits: u32,
    requests: Vec<&'static str>,
    label: Label,
}

/// Renews a label against a CA that says `play(kind of request, visits so far)`.
fn renewed(label: Label, now: bool, play: impl Fn(&str, u32) -> Vec<u8> + Send + 'static) -> Told {
    let label = Arc::new(Mutex::new(label));
    let visits = Arc::new(Mutex::new(0));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let (seen, visited) = (Arc::clone(&requests), Arc::clone(&visits));
    let url = server(move |received| {
        let kind = if received.body == kur() {
            "kur"
        } else {
            "p10cr"
        };
        seen.lock().unwrap().push(kind);
        Http1::Answer(200, PKIXCMP, play(kind, *visited.lock().unwrap()))
    });
    let mut wanted = Wanted::new(TA, "web");
    wanted.pause = Duration::from_millis(1);
    let mut check_in = || *visits.lock().unwrap() += 1;
    let outcome = renew(
        &ta(&label),
        &HttpCarrier::new(http(), &url),
        &wanted,
        now,
        &mut check_in,
        &mut Unwatched,
    );
    let visits = *visits.lock().unwrap();
    let requests = requests.lock().unwrap().clone();
    let label = label.lock().unwrap().clone();
    Told {
        outcome,
        visits,
        requests,
        label,
    }
}

fn done(told: &Told) -> bool {
    matches!(told.outcome, Ok(Renewed::Done(_)))
}

#[test]
fn what_is_not_due_is_left_alone_unless_somebody_wants_it() {
    let told = renewed(Label::new(false, false), false, |_, _| GRANTED.to_vec());
    let due = told.outcome.unwrap();
    let renew_at_secs = 8_000;
    assert_eq!(due, Renewed::NotDue { renew_at_secs });
    assert_eq!((told.visits, told.requests.len()), (0, 0));
    for (label, now) in [
        (Label::new(true, false), false),
        (Label::new(false, false), true),
    ] {
        let told = renewed(label, now, |_, _| GRANTED.to_vec());
        assert!(done(&told));
        assert_eq!((told.visits, told.requests), (0, vec!["kur"]));
    }
}

#[test]
fn a_device_that_was_off_checks_in_first() {
    let told = renewed(Label::new(true, true), false, |_, visits| match visits {
        0 => refusal(CHECK_IN_FIRST),
        _ => GRANTED.to_vec(),
    });
    assert!(done(&told));
    assert_eq!((told.visits, told.requests), (1, vec!["p10cr"]));
}

#[test]
fn a_refused_certificate_is_followed_by_what_the_release_asks_for() {
    let told = renewed(Label::new(true, false), false, |kind, _| match kind {
        "kur" => refusal("the certificate is revoked"),
        _ => GRANTED.to_vec(),
    });
    assert!(done(&told));
    assert_eq!((told.visits, told.requests), (0, vec!["kur", "p10cr"]));
}

#[test]
fn a_device_that_learns_that_it_was_off_checks_in_and_begins_again() {
    for genuine in [true, false] {
        let mut label = Label::new(true, false);
        label.learns = true;
        let told = renewed(label, false, move |kind, visits| match (kind, visits) {
            ("kur", _) if genuine => refusal("the certificate has ended"),
            ("kur", _) => error("the request could not be authenticated"),
            (_, 0) => refusal(CHECK_IN_FIRST),
            _ => GRANTED.to_vec(),
        });
        assert!(done(&told), "{:?}", told.outcome);
        assert_eq!(told.visits, 1);
        // The TA gave the kur up by itself, or the agent after a second error.
        let expected = if genuine { 0 } else { 1 };
        assert_eq!(told.label.given_up, expected);
        assert_eq!(told.requests.last(), Some(&"p10cr"));
    }
}

#[test]
fn an_error_on_the_way_does_not_make_it_give_a_good_request_up() {
    let told = renewed(Label::new(true, false), false, |_, _| {
        error("not authenticated")
    });
    let Err(RenewError::Enrol(EnrolError::Refused { said, .. })) = &told.outcome else {
        panic!("{:?}", told.outcome)
    };
    assert_eq!(said, "not authenticated");
    assert_eq!((told.label.given_up, told.visits), (0, 0));
    assert_eq!(told.label.request, kur());
    assert_eq!(told.requests.len(), 2);
}

/// A CA that is busy, or whose operator has not decided, has refused nothing.
#[test]
fn what_the_ca_does_not_answer_now_is_not_given_up() {
    let busy = PkiStatusInfo::rejection(PkiFailureInfo::SYSTEM_UNAVAIL, "later");
    let waiting = PkiStatusInfo::waiting("the operator decides");
    let kup = tegata_wire::cmp::BodyKind::Kup;
    let error = message(&RawBody::error(PkiFailureInfo::SYSTEM_UNAVAIL, "later").unwrap());
    for (first, then) in [
        (error.clone(), error),
        (
            refusal("the certificate has ended"),
            message(&RawBody::not_granted(kup, 0, busy).unwrap()),
        ),
        (
            refusal("the certificate has ended"),
            message(&RawBody::not_granted(kup, 0, waiting).unwrap()),
        ),
    ] {
        let mut label = Label::new(true, false);
        label.learns = true;
        let told = renewed(label, false, move |kind, _| match kind {
            "kur" => first.clone(),
            _ => then.clone(),
        });
        assert!(told.outcome.is_err());
        assert_eq!(told.label.given_up, 0);
    }
}

/// A CA refused the certificate for a while, and then what the release asked for: that names the certificate,
/// so it may be granted later, and the next attempt goes on with it.
#[test]
fn what_the_release_asked_for_in_vain_is_asked_again() {
    for text in ["not for this device", CHECK_IN_FIRST] {
        let told = renewed(Label::new(true, false), false, move |kind, _| match kind {
            "kur" => refusal("the certificate has ended"),
            _ => refusal(text),
        });
        assert!(told.outcome.is_err());
        assert_eq!(told.label.given_up, 0);
        assert_eq!(told.label.request, p10cr());
        let asked = match text {
            CHECK_IN_FIRST => vec!["kur", "p10cr", "p10cr"],
            _ => vec!["kur", "p10cr"],
        };
        assert_eq!(told.requests, asked);
    }
}

#[test]
fn evidence_that_does_not_help_is_not_made_again_and_again() {
    for ended in [false, true] {
        let label = Label {
            request: p10cr(),
            ..Label::new(true, ended)
        };
        let told = renewed(label, false, |_, _| refusal(CHECK_IN_FIRST));
        let said = told.outcome.unwrap_err().to_string();
        assert!(said.contains("check in with the TAM"), "{said}");
        assert_eq!(told.visits, 1);
        assert!(told.requests.len() <= 2);
    }
}

#[test]
fn the_daemon_renews_what_is_due_and_tries_again() {
    let dir = tempfile::tempdir().unwrap();
    let label = Arc::new(Mutex::new(Label::new(true, false)));
    tee_at(&dir.path().join("teed.sock"), play(&label));
    let requests = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&requests);
    let url = server(move |_| {
        let mut seen = seen.lock().unwrap();
        *seen += 1;
        match *seen {
            1 => Http1::Close,
            2 => Http1::Answer(503, "x", Vec::new()),
            _ => Http1::Answer(200, PKIXCMP, GRANTED.to_vec()),
        }
    });
    let text = format!(
        "ca_url = \"{url}\"\ntam_url = \"http://127.0.0.1:9\"\nenrol_ta = \"{TA}\"\n\
         renew_secs = 1\nretry_first_secs = 1\n"
    );
    let config = Config::parse(&text, &dir.path().join("agent.toml")).unwrap();
    std::thread::spawn(move || Daemon::new(config).run());
    let begun = std::time::Instant::now();
    while label.lock().unwrap().due {
        let waited = begun.elapsed();
        assert!(
            waited < Duration::from_secs(60),
            "not renewed in {waited:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(*requests.lock().unwrap(), 3);
    // Renewed, and left alone from then on, although a wrong clock makes it due at once.
    label.lock().unwrap().due = true;
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(*requests.lock().unwrap(), 3);
}
