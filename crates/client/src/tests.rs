//! The library against a TEE that is played here, honest or not.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tegata_wire::rpc::{
    self, Answer, Call, FRAME_LEN_BYTES_MAX, ORIGIN_TEE, ORIGIN_TRUSTED_APP, Param, ParamOut,
    Reply, Request,
};

use super::*;

/// A TEE that answers each call with what `play` makes of it; `None` closes the connection. Each
/// connection has a thread.
pub(crate) fn tee(
    play: impl Fn(&Request, &mut UnixStream) -> Option<Reply> + Send + Sync + 'static,
) -> PathBuf {
    let dir = tempfile::tempdir().unwrap().keep();
    let path = dir.join("teed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let play = Arc::new(play);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, play) = (stream.unwrap(), Arc::clone(&play));
            std::thread::spawn(move || serve(stream, &*play));
        }
    });
    path
}

fn serve(mut stream: UnixStream, play: &dyn Fn(&Request, &mut UnixStream) -> Option<Reply>) {
    while let Some(call) = read(&mut stream) {
        let reply = match &call.request {
            Request::Hello { .. } => Some(Reply::Hello {
                version: rpc::VERSION,
            }),
            request => play(request, &mut stream),
        };
        let Some(reply) = reply else { break };
        let answer = Answer { id: call.id, reply };
        let frame = rpc::frame(&answer, FRAME_LEN_BYTES_MAX).unwrap();
        if stream.write_all(&frame).is_err() {
            break;
        }
    }
}

fn read(stream: &mut UnixStream) -> Option<Call> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).ok()?;
    let mut content = vec![0; rpc::frame_len(prefix, FRAME_LEN_BYTES_MAX).ok()?];
    stream.read_exact(&mut content).ok()?;
    rpc::content(&content).ok()
}

pub(crate) fn returned(code: u32, origin: u32, session: u32) -> Reply {
    Reply::Operation {
        code,
        origin,
        session,
        params: Default::default(),
    }
}

pub(crate) fn opened(request: &Request) -> Option<Reply> {
    match request {
        Request::OpenSession { .. } => Some(returned(0, ORIGIN_TRUSTED_APP, 7)),
        Request::CloseSession { .. } => Some(Reply::Done),
        _ => None,
    }
}

pub(crate) const TA: TaUuid = TaUuid([1; 16]);

#[test]
fn parameters_go_in_and_come_back() {
    let path = tee(|request, _| {
        opened(request).or_else(|| {
            let Request::Invoke {
                session: 7,
                command: 5,
                params,
            } = request
            else {
                return None;
            };
            assert_eq!(
                params[0],
                Param::MemrefInput {
                    buffer: b"in".to_vec()
                }
            );
            assert_eq!(params[1], Param::MemrefOutput { size: 8 });
            assert_eq!(params[2], Param::ValueInout { a: 1, b: 2 });
            let out = [
                ParamOut::None,
                ParamOut::Memref {
                    buffer: b"out".to_vec(),
                    size: 3,
                },
                ParamOut::Value { a: 3, b: 4 },
                ParamOut::None,
            ];
            Some(Reply::Operation {
                code: 0,
                origin: ORIGIN_TRUSTED_APP,
                session: 0,
                params: out,
            })
        })
    });
    let session = Context::new(path)
        .open_session(&TA, Login::User, &mut Operation::empty())
        .unwrap();
    let mut operation = Operation::new([
        Parameter::memref_input(b"in"),
        Parameter::memref_output(8),
        Parameter::ValueInout(1, 2),
        Parameter::None,
    ]);
    session.invoke(5, &mut operation).unwrap();
    assert_eq!(operation.memref(1), b"out");
    assert_eq!(operation.size(1), Some(3));
    assert_eq!(operation.value(2), Some((3, 4)));
    session.close().unwrap();
}

#[test]
fn codes_come_with_their_origin() {
    let path = tee(|request, _| match request {
        Request::OpenSession { .. } => {
            Some(returned(codes::TEEC_ERROR_ITEM_NOT_FOUND, ORIGIN_TEE, 0))
        }
        _ => None,
    });
    let context = Context::new(path);
    let error = context.open_session(&TA, Login::Public, &mut Operation::empty());
    let error = error.err().unwrap();
    assert_eq!(error.code(), codes::TEEC_ERROR_ITEM_NOT_FOUND);
    assert_eq!(error.origin(), Origin::Tee);
    assert!(error.to_string().contains("TEEC_ERROR_ITEM_NOT_FOUND"));
}

#[test]
fn short_buffers_tell_the_room_needed() {
    let path = tee(|request, _| {
        opened(request).or_else(|| {
            let out = ParamOut::Memref {
                buffer: vec![],
                size: 500,
            };
            Some(Reply::Operation {
                code: codes::TEEC_ERROR_SHORT_BUFFER,
                origin: ORIGIN_TRUSTED_APP,
                session: 0,
                params: [out, ParamOut::None, ParamOut::None, ParamOut::None],
            })
        })
    });
    let session = Context::new(path)
        .open_session(&TA, Login::Public, &mut Operation::empty())
        .unwrap();
    let mut operation = Operation::new([
        Parameter::memref_output(10),
        Parameter::None,
        Parameter::None,
        Parameter::None,
    ]);
    let error = session.invoke(1, &mut operation).unwrap_err();
    assert_eq!(error.code(), codes::TEEC_ERROR_SHORT_BUFFER);
    assert_eq!(operation.size(0), Some(500));
    assert!(operation.memref(0).is_empty());
}

#[test]
fn a_lying_tee_cannot_write_where_no_room_is() {
    let path = tee(|request, _| {
        opened(request).or_else(|| {
            let out = ParamOut::Memref {
                buffer: vec![0; 50],
                size: 50,
            };
            Some(Reply::Operation {
                code: 0,
                origin: ORIGIN_TRUSTED_APP,
                session: 0,
                params: [out, ParamOut::None, ParamOut::None, ParamOut::None],
            })
        })
    });
    let session = Context::new(path)
        .open_session(&TA, Login::Public, &mut Operation::empty())
        .unwrap();
    let mut operation = Operation::new([
        Parameter::memref_output(10),
        Parameter::None,
        Parameter::None,
        Parameter::None,
    ]);
    assert!(matches!(
        session.invoke(1, &mut operation),
        Err(Error::Protocol(_))
    ));
    assert!(operation.memref(0).is_empty());
}

#[test]
fn silence_ends_in_a_time_out_and_breaks_the_connection() {
    let path = tee(|request, stream| {
        opened(request).or_else(|| {
            // Waits until the client gives up.
            let _ = stream.read(&mut [0; 1]);
            None
        })
    });
    let timeouts = Timeouts {
        call: Duration::from_millis(100),
        ..Timeouts::default()
    };
    let context = Context::new(path).with_timeouts(timeouts);
    let session = context
        .open_session(&TA, Login::Public, &mut Operation::empty())
        .unwrap();
    let error = session.invoke(1, &mut Operation::empty()).unwrap_err();
    assert!(matches!(error, Error::TimedOut));
    assert_eq!(error.origin(), Origin::Comms);
    let error = session.invoke(1, &mut Operation::empty()).unwrap_err();
    assert!(matches!(error, Error::Closed));
}

#[test]
fn a_call_is_cancelled_before_and_while_it_runs() {
    let path = tee(|request, stream| {
        opened(request).or_else(|| {
            let cancel = read(stream)?;
            assert!(matches!(cancel.request, Request::Cancel { .. }));
            Some(returned(codes::TEEC_ERROR_CANCEL, ORIGIN_TEE, 0))
        })
    });
    let session = Context::new(path)
        .open_session(&TA, Login::Public, &mut Operation::empty())
        .unwrap();
    let mut operation = Operation::empty();
    let canceller = operation.canceller();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        canceller.cancel();
    });
    let error = session.invoke(1, &mut operation).unwrap_err();
    assert_eq!(error.code(), codes::TEEC_ERROR_CANCEL);
    thread.join().unwrap();

    let mut operation = Operation::empty();
    operation.canceller().cancel();
    let error = session.invoke(1, &mut operation).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    assert_eq!(error.origin(), Origin::Api);
}

#[test]
fn nobody_listens() {
    let error = Context::new("/nonexistent/teed.sock").info().unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    assert!(error.is_retryable());
    assert!(error.to_string().contains("tegata-teed"));
}

#[test]
fn too_much_is_refused_here() {
    let path = tee(|request, _| opened(request));
    let mut operation = Operation::new([
        Parameter::memref_output(u32::MAX),
        Parameter::None,
        Parameter::None,
        Parameter::None,
    ]);
    let error = Context::new(path).open_session(&TA, Login::Public, &mut operation);
    assert!(matches!(error, Err(Error::TooLarge { .. })));
}

#[test]
fn long_paths_work_too() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let path = deep.join("teed.sock");
    let (short, _fd) = short_socket_path(&path).unwrap();
    let listener = UnixListener::bind(short).unwrap();
    let (short, _fd2) = short_socket_path(&path).unwrap();
    UnixStream::connect(short).unwrap();
    listener.accept().unwrap();
}

#[test]
fn a_program_without_op_tee_says_so() {
    if cfg!(feature = "optee") {
        return;
    }
    let error = Context::at(TeeAddress::OpTee).info().unwrap_err();
    assert_eq!(error.code(), codes::TEEC_ERROR_NOT_SUPPORTED);
    assert!(error.to_string().contains("--features optee"));
    assert!(!error.is_retryable());
}

pub(crate) fn output(bytes: &[u8]) -> Reply {
    let mut params: [ParamOut; 4] = Default::default();
    params[2] = ParamOut::Memref {
        buffer: bytes.to_vec(),
        size: u32::try_from(bytes.len()).unwrap(),
    };
    Reply::Operation {
        code: 0,
        origin: ORIGIN_TRUSTED_APP,
        session: 0,
        params,
    }
}

fn keys(path: PathBuf) -> keys::Keys {
    keys::Keys::new(Context::new(path), Some(TA), Login::User, 1)
}

#[test]
fn a_renewed_key_never_agrees_for_the_old_one() {
    let path = tee(|request, _| {
        opened(request).or_else(|| match request {
            Request::Invoke { command: 10, .. } => Some(output(b"secret")),
            Request::Invoke { command: 8, .. } => Some(output(b"the new key")),
            _ => None,
        })
    });
    let keys = keys(path);
    assert_eq!(keys.ecdh("a", b"the new key", &[4; 65]).unwrap(), b"secret");
    let refused = keys.ecdh("a", b"the old key", &[4; 65]);
    assert!(matches!(refused, Err(keys::KeyError::NoKey { .. })));
}

#[test]
fn a_session_that_died_since_its_last_use_is_replaced_once() {
    let calls = std::sync::atomic::AtomicU32::new(0);
    let path = tee(move |request, _| {
        opened(request).or_else(|| {
            // The second call and everything after the fourth finds the TA dead.
            let call = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Some(match call {
                1 | 3.. => returned(codes::TEEC_ERROR_TARGET_DEAD, ORIGIN_TEE, 0),
                _ => output(b"key"),
            })
        })
    });
    let keys = keys(path);
    assert_eq!(keys.public_key("a").unwrap(), b"key");
    assert_eq!(keys.public_key("a").unwrap(), b"key");
    assert!(matches!(
        keys.public_key("a"),
        Err(keys::KeyError::Tee(Error::Returned { .. }))
    ));
    keys.release();
}

#[test]
fn certificates_and_labels_of_a_liar_are_refused() {
    for answer in [&b""[..], b"no DER", &[0x30, 3, 1, 1], &[0x30, 0, 0x30]] {
        let path = tee(move |request, _| opened(request).or_else(|| Some(output(answer))));
        assert!(keys(path).certificates("a").is_err(), "{answer:?}");
    }
    let two = |request: &Request, _: &mut UnixStream| {
        opened(request).or_else(|| Some(output(&[0x30, 1, 1, 0x30, 0])))
    };
    let found = keys(tee(two)).certificates("a").unwrap();
    assert_eq!(found, [vec![0x30, 1, 1], vec![0x30, 0]]);
    // [["a", 3, "of a newer TA"]], [["a", 9]], [[3, 3]]
    for (answer, good) in [
        (&[0x81, 0x83, 0x61, 0x61, 3, 0x61, 0x62][..], true),
        (&[0x81, 0x82, 0x61, 0x61, 9], false),
        (&[0x81, 0x82, 3, 3], false),
    ] {
        let path = tee(move |request, _| opened(request).or_else(|| Some(output(answer))));
        assert_eq!(keys(path).list().is_ok(), good, "{answer:?}");
    }
}
