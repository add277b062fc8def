//! The protocol over an OP-TEE image that is played here, honest or not.

use std::sync::{Arc, Mutex};

use tegata_wire::ids::TaUuid;
use tegata_wire::rpc::{Info, Login, ORIGIN_TRUSTED_APP, ParamOut, RefusalCode, Stats};

use super::*;

/// An image as the protocol describes it: keeps what does not fit, runs nothing twice.
struct Played<F> {
    play: F,
    kept: Option<Vec<u8>>,
    /// Every command that came; [`LET_GO`] for what is no command.
    seen: Arc<Mutex<Vec<u32>>>,
}

const LET_GO: u32 = u32::MAX;

impl<F: FnMut(&Request) -> Reply + Send> Image for Played<F> {
    fn let_go(&mut self) {
        self.seen.lock().unwrap().push(LET_GO);
    }

    fn invoke(
        &mut self,
        command: u32,
        input: Option<&[u8]>,
        room: &mut [u8],
        _: Duration,
        canceller: &Canceller,
    ) -> Result<usize, ImageError> {
        if canceller.is_requested() {
            return Err(ImageError::Cancelled);
        }
        self.seen.lock().unwrap().push(command);
        let answer = match command {
            OPTEE_CMD_RPC => {
                let call: Call = rpc::content(input.unwrap()).unwrap();
                let reply = match &call.request {
                    Request::Hello { .. } => Reply::Hello { version: VERSION },
                    request => (self.play)(request),
                };
                cbor::to_vec(&Answer { id: call.id, reply }).unwrap()
            }
            OPTEE_CMD_FETCH => self.kept.take().unwrap(),
            other => panic!("command {other}"),
        };
        if answer.len() > room.len() {
            let needed = answer.len();
            self.kept = Some(answer);
            return Err(ImageError::Short { needed });
        }
        room[..answer.len()].copy_from_slice(&answer);
        Ok(answer.len())
    }
}

type Seen = Arc<Mutex<Vec<u32>>>;

fn played<F: FnMut(&Request) -> Reply + Send>(play: F) -> (ImageConnection<Played<F>>, Seen) {
    let seen = Seen::default();
    let image = Played {
        play,
        kept: None,
        seen: Arc::clone(&seen),
    };
    let connection = ImageConnection::open(image, TIMEOUT).unwrap();
    seen.lock().unwrap().clear();
    (connection, seen)
}

/// An image that answers every command with what is given.
struct Stubborn(fn(u32, &mut [u8]) -> Result<usize, ImageError>);

impl Image for Stubborn {
    fn let_go(&mut self) {}

    fn invoke(
        &mut self,
        command: u32,
        _: Option<&[u8]>,
        room: &mut [u8],
        _: Duration,
        _: &Canceller,
    ) -> Result<usize, ImageError> {
        (self.0)(command, room)
    }
}

fn ask(image: impl Image, request: Request) -> Error {
    let mut connection = ImageConnection { image, next: 0 };
    let asked = connection.call(request, TIMEOUT, &Canceller::default());
    asked.unwrap_err()
}

const TIMEOUT: Duration = Duration::from_secs(1);

fn none() -> [Param; 4] {
    Default::default()
}

#[test]
fn report_and_record_go_across() {
    let (mut connection, _) = played(|request| match request {
        Request::DeviceReport => Reply::DeviceReport(vec![7; 900]),
        Request::Provision { record } if record == b"right" => Reply::Done,
        _ => Reply::Refused {
            code: RefusalCode::BadRequest,
            message: "the record is for another device".into(),
        },
    });
    let mut call = |request| connection.call(request, TIMEOUT, &Canceller::default());
    let reply = call(Request::DeviceReport).unwrap();
    assert_eq!(reply, Reply::DeviceReport(vec![7; 900]));
    let record = b"right".to_vec();
    assert_eq!(call(Request::Provision { record }).unwrap(), Reply::Done);
    let record = b"wrong".to_vec();
    let error = call(Request::Provision { record }).unwrap_err();
    assert!(error.to_string().contains("another device"), "{error}");
    assert_eq!(error.origin(), Origin::Tee);
}

#[test]
fn an_answer_that_does_not_fit_is_fetched_and_nothing_runs_twice() {
    let mut runs = 0;
    let (mut connection, seen) = played(move |_| {
        runs += 1;
        assert_eq!(runs, 1);
        Reply::DeviceReport(vec![3; CONTROL_ROOM_LEN_BYTES * 3])
    });
    let asked = connection.call(Request::DeviceReport, TIMEOUT, &Canceller::default());
    let Reply::DeviceReport(bytes) = asked.unwrap() else {
        panic!()
    };
    assert_eq!(bytes.len(), CONTROL_ROOM_LEN_BYTES * 3);
    assert_eq!(*seen.lock().unwrap(), [OPTEE_CMD_RPC, OPTEE_CMD_FETCH]);
}

#[test]
fn outputs_of_a_ta_fit_at_once() {
    let (mut connection, seen) = played(|request| match request {
        Request::OpenSession { .. } => operation(Default::default()),
        Request::Invoke { .. } => operation([
            ParamOut::None,
            ParamOut::Memref {
                buffer: vec![1; 100_000],
                size: 100_000,
            },
            ParamOut::None,
            ParamOut::None,
        ]),
        _ => Reply::Done,
    });
    let mut call = |request| connection.call(request, TIMEOUT, &Canceller::default());
    let open = Request::OpenSession {
        ta: TaUuid([1; 16]),
        login: Login::User,
        params: none(),
    };
    call(open).unwrap();
    let mut params = none();
    params[1] = Param::MemrefOutput { size: 100_000 };
    let invoke = Request::Invoke {
        session: 1,
        command: 5,
        params,
    };
    call(invoke).unwrap();
    assert_eq!(
        call(Request::CloseSession { session: 1 }).unwrap(),
        Reply::Done
    );
    assert_eq!(*seen.lock().unwrap(), [OPTEE_CMD_RPC; 3]);
}

fn operation(params: [ParamOut; 4]) -> Reply {
    Reply::Operation {
        code: 0,
        origin: ORIGIN_TRUSTED_APP,
        session: 1,
        params,
    }
}

#[test]
fn what_a_lying_image_claims_costs_nothing() {
    let huge = Stubborn(|_, _| Err(ImageError::Short { needed: usize::MAX }));
    assert!(matches!(ask(huge, Request::Info), Error::Protocol(_)));
    // Short again when fetched: that is the end of it.
    let never = Stubborn(|_, room| {
        let needed = room.len() + 1;
        Err(ImageError::Short { needed })
    });
    assert!(matches!(ask(never, Request::Info), Error::Protocol(_)));
    let beyond = Stubborn(|_, room| Ok(room.len() + 1));
    assert!(matches!(ask(beyond, Request::Info), Error::Protocol(_)));
    let garbage = Stubborn(|_, room| {
        room[..3].copy_from_slice(&[0xff, 0, 1]);
        Ok(3)
    });
    assert!(matches!(ask(garbage, Request::Info), Error::Frame(_)));
    let empty = Stubborn(|_, _| Ok(0));
    assert!(matches!(ask(empty, Request::Info), Error::Frame(_)));
    let other_id = Stubborn(|_, room| {
        let reply = Reply::Done;
        let bytes = cbor::to_vec(&Answer { id: 99, reply }).unwrap();
        room[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    });
    assert!(matches!(ask(other_id, Request::Info), Error::Protocol(_)));
}

#[test]
fn a_call_that_is_too_long_is_not_sent() {
    let (mut connection, seen) = played(|_| Reply::Done);
    let request = Request::Process {
        message: vec![0; OPTEE_CALL_LEN_BYTES_MAX],
        payloads: vec![],
    };
    let error = connection.call(request, TIMEOUT, &Canceller::default());
    assert!(matches!(
        error,
        Err(Error::Frame(FrameError::TooLong { .. }))
    ));
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn codes_say_what_to_do() {
    let dead = |_: u32, _: &mut [u8]| {
        Err(ImageError::Failed {
            code: codes::TEEC_ERROR_TARGET_DEAD,
            origin: Origin::Tee,
        })
    };
    let error = ask(Stubborn(dead), Request::Info);
    assert_eq!(error.code(), codes::TEEC_ERROR_TARGET_DEAD);
    assert!(error.is_retryable());
    assert!(error.to_string().contains("a new session"), "{error}");
    for (code, word) in [
        (codes::TEEC_ERROR_ITEM_NOT_FOUND, "optee_armtz"),
        (codes::TEEC_ERROR_SECURITY, "TA_SIGN_KEY"),
        (codes::TEEC_ERROR_COMMUNICATION, "tee-supplicant"),
        (codes::TEEC_ERROR_OUT_OF_MEMORY, "CFG_TZDRAM_SIZE"),
        (codes::TEEC_ERROR_ACCESS_CONFLICT, "older"),
        (codes::TEEC_ERROR_BAD_FORMAT, "another device"),
        (0x1234_5678, "secure console"),
    ] {
        assert!(mend_open(code, "abc").contains(word), "{code:#x}");
    }
}

#[test]
fn the_way_to_the_kernel_is_explained() {
    let missing = mend_reach(std::path::Path::new("/nonexistent/tee0"));
    assert!(missing.contains("modprobe optee"), "{missing}");
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(mend_reach(file.path()).contains("not OP-TEE"));
    assert_eq!(group_name(0), "root");
    assert_eq!(group_name(u32::MAX - 7), (u32::MAX - 7).to_string());
}

#[test]
fn a_session_that_is_another_s_too_is_let_go_without_a_word() {
    let (mut connection, seen) = played(|_| Reply::Done);
    connection.let_go();
    drop(connection);
    assert_eq!(*seen.lock().unwrap(), [LET_GO]);
}

#[test]
fn cancelled_before_it_began() {
    let (mut connection, seen) = played(|_| Reply::Done);
    let canceller = Canceller::default();
    canceller.cancel();
    let error = connection.call(Request::Info, TIMEOUT, &canceller);
    assert!(matches!(error, Err(Error::Cancelled)));
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn information_is_what_it_is_over_a_socket() {
    let info = Info {
        ueid: "01".into(),
        serial: "SN".into(),
        hwmodel: "m".into(),
        version: "1".into(),
        security_level: "optee".into(),
        storage_root: "huk".into(),
        anti_rollback_level: 0,
        missing: vec![],
        trusted_apps: vec![],
        stats: Stats::default(),
    };
    let given = info.clone();
    let (mut connection, _) = played(move |_| Reply::Info(given.clone()));
    let asked = connection.call(Request::Info, TIMEOUT, &Canceller::default());
    assert_eq!(asked.unwrap(), Reply::Info(info));
}
