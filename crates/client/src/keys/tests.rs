//! Sessions that are shared, lost and found, with a TEE that is played here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tegata_wire::rpc::{
    Info, ORIGIN_TEE, ORIGIN_TRUSTED_APP, RefusalCode, Reply, Request, Stats, TrustedApp,
};

use super::*;
use crate::session::Timeouts;
use crate::tests::{TA, opened, output, returned, tee};

fn keys(path: std::path::PathBuf, sessions: usize) -> Keys {
    Keys::new(Context::new(path), Some(TA), Login::User, sessions)
}

#[test]
fn a_panic_in_a_call_frees_its_place() {
    let keys = keys(
        tee(|request, _| opened(request).or_else(|| Some(output(b"key")))),
        1,
    );
    let broken = std::panic::AssertUnwindSafe(|| {
        keys.call("a", |_| -> Result<(), Error> { panic!("a fault of ours") })
    });
    assert!(std::panic::catch_unwind(broken).is_err());
    assert_eq!(keys.lock().at_work, 0);
    assert_eq!(keys.public_key("a").unwrap(), b"key");
}

#[test]
fn a_call_that_timed_out_is_not_made_again() {
    let calls = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&calls);
    let path = tee(move |request, stream| {
        opened(request).or_else(|| {
            if seen.fetch_add(1, Ordering::Relaxed) == 0 {
                return Some(output(b"key"));
            }
            // Silent until the client gives up.
            let _ = std::io::Read::read(stream, &mut [0; 1]);
            None
        })
    });
    let timeouts = Timeouts {
        call: Duration::from_millis(100),
        ..Timeouts::default()
    };
    let context = Context::new(path).with_timeouts(timeouts);
    let keys = Keys::new(context, Some(TA), Login::User, 1);
    assert_eq!(keys.public_key("a").unwrap(), b"key");
    let error = keys.public_key("a").unwrap_err();
    assert!(matches!(error, KeyError::Tee(Error::TimedOut)), "{error}");
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

/// A TEE that has room for one session, and says so in one of its two ways.
fn tee_for_one(full: impl Fn() -> Reply + Send + Sync + 'static) -> std::path::PathBuf {
    let taken = AtomicBool::new(false);
    tee(move |request, _| match request {
        Request::OpenSession { .. } if taken.swap(true, Ordering::SeqCst) => Some(full()),
        Request::CloseSession { .. } => {
            taken.store(false, Ordering::SeqCst);
            Some(Reply::Done)
        }
        Request::Invoke { .. } => {
            std::thread::sleep(Duration::from_millis(50));
            Some(output(b"key"))
        }
        request => opened(request),
    })
}

#[test]
fn a_limit_of_the_tee_waits_for_an_own_session() {
    let seat = || returned(codes::TEEC_ERROR_OUT_OF_MEMORY, ORIGIN_TEE, 0);
    let worker = || Reply::Refused {
        code: RefusalCode::Busy,
        message: String::new(),
    };
    for path in [tee_for_one(seat), tee_for_one(worker)] {
        let shared = keys(path.clone(), 4);
        std::thread::scope(|scope| {
            let calls: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| shared.public_key("a").unwrap()))
                .collect();
            for call in calls {
                assert_eq!(call.join().unwrap(), b"key");
            }
        });
        // Another's session is not waited for.
        let other = keys(path.clone(), 4);
        let refused = other.public_key("a");
        assert!(matches!(refused, Err(KeyError::NoRoom(_))));
        shared.release();
        assert_eq!(other.public_key("a").unwrap(), b"key");
    }
}

fn info(installed: &[TaUuid]) -> Reply {
    Reply::Info(Info {
        ueid: "01aa".into(),
        serial: "s".into(),
        hwmodel: "m".into(),
        version: "1".into(),
        security_level: "software".into(),
        storage_root: "file".into(),
        anti_rollback_level: 0,
        missing: vec![],
        trusted_apps: installed
            .iter()
            .map(|ta| TrustedApp {
                ta: *ta,
                release: String::new(),
                sequence_number: 1,
                module_len_bytes: 1,
            })
            .collect(),
        stats: Stats::default(),
    })
}

#[test]
fn the_ta_is_looked_for_again_when_it_went() {
    const NEXT: TaUuid = TaUuid([2; 16]);
    // 0: none; 1: TA; 2: NEXT.
    let now = Arc::new(AtomicU32::new(0));
    let installed = Arc::clone(&now);
    let path = tee(move |request, _| {
        let there: &[TaUuid] = match installed.load(Ordering::SeqCst) {
            1 => &[TA],
            2 => &[NEXT],
            _ => &[],
        };
        match request {
            Request::Info => Some(info(there)),
            Request::OpenSession { ta, .. } if !there.contains(ta) => {
                Some(returned(codes::TEEC_ERROR_ITEM_NOT_FOUND, ORIGIN_TEE, 0))
            }
            request => opened(request).or_else(|| Some(output(b"key"))),
        }
    });
    let named = keys(path.clone(), 1);
    let found = Keys::new(Context::new(path), None, Login::User, 1);
    for keys in [&named, &found] {
        assert!(keys.list().unwrap_err().is_without_ta());
    }
    now.store(1, Ordering::SeqCst);
    for keys in [&named, &found] {
        assert_eq!(keys.public_key("a").unwrap(), b"key");
        keys.release();
    }
    now.store(2, Ordering::SeqCst);
    assert_eq!(found.public_key("a").unwrap(), b"key");
    found.release();
    now.store(0, Ordering::SeqCst);
    assert!(found.public_key("a").unwrap_err().is_without_ta());
    // A TA that refuses with the same code is there.
    let refusing = tee(|request, _| match request {
        Request::OpenSession { .. } => Some(returned(
            codes::TEEC_ERROR_ITEM_NOT_FOUND,
            ORIGIN_TRUSTED_APP,
            0,
        )),
        _ => None,
    });
    assert!(!keys(refusing, 1).list().unwrap_err().is_without_ta());
}

#[test]
fn a_key_that_came_during_the_agreement_has_not_agreed() {
    // The label is renewed behind the agreement.
    let renewed = AtomicBool::new(false);
    let path = tee(move |request, _| {
        opened(request).or_else(|| match request {
            Request::Invoke { command: 10, .. } => {
                renewed.store(true, Ordering::SeqCst);
                Some(output(b"secret of the old key"))
            }
            _ if renewed.load(Ordering::SeqCst) => Some(output(b"the new key")),
            _ => Some(output(b"the old key")),
        })
    });
    let agreed = keys(path, 1).ecdh("a", b"the new key", &[4; 65]);
    assert!(matches!(agreed, Err(KeyError::NoKey { .. })));
}
