//! What needs no TEE: calls as hostile C makes them, and handles.

use std::ptr::{null, null_mut};

use super::*;
use crate::memory::Pointer;

#[test]
fn nothing_is_followed_that_is_null() {
    let mut shared = TeecSharedMemory {
        buffer: null_mut(),
        size: 8,
        flags: MEM_INPUT,
        handle: 0,
        reserved: [0; 3],
    };
    let mut context = TeecContext::default();
    let mut session = TeecSession::default();
    // SAFETY: NULL is allowed everywhere; the rest is ours.
    unsafe {
        assert_eq!(
            TEEC_InitializeContext(null(), null_mut()),
            TEEC_ERROR_BAD_PARAMETERS
        );
        TEEC_FinalizeContext(null_mut());
        TEEC_ReleaseSharedMemory(null_mut());
        TEEC_CloseSession(null_mut());
        TEEC_RequestCancellation(null_mut());
        assert_eq!(
            TEEC_AllocateSharedMemory(&mut context, &mut shared),
            TEEC_ERROR_BAD_PARAMETERS
        );
        let code = TEEC_OpenSession(
            &mut context,
            &mut session,
            null(),
            LOGIN_USER,
            null(),
            null_mut(),
            null_mut(),
        );
        assert_eq!(code, TEEC_ERROR_BAD_PARAMETERS);
        let mut origin = 0;
        let code = TEEC_InvokeCommand(null_mut(), 1, null_mut(), &mut origin);
        assert_eq!((code, origin), (TEEC_ERROR_BAD_PARAMETERS, 1));
    }
}

#[test]
fn no_panic_gets_out() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut origin = 0;
    // SAFETY: room for an origin.
    let code = unsafe { result_with_origin(&mut origin, || panic!("a fault of ours")) };
    std::panic::set_hook(hook);
    assert_eq!((code, origin), (TEEC_ERROR_GENERIC, 1));
}

#[test]
fn handles_are_never_used_again_and_are_of_one_kind() {
    let block = || Block::registered(1, null_mut(), 0, MEM_INPUT);
    let first = registry().add_block(block());
    let _ = registry().remove_block(first);
    let second = registry().add_block(block());
    assert_ne!(first, second);
    assert!(registry().block(first).is_none());
    assert!(registry().session(second).is_none());
    assert!(!registry().has_context(second));
    let context = context_of(second);
    // SAFETY: ours.
    assert_eq!(unsafe { context_handle(&context) }, Ok(second));
    let _ = registry().remove_block(second);
}

#[test]
fn a_cancellation_before_the_call_marks_it_once() {
    let mut operation = TeecOperation {
        started: 0,
        param_types: 0,
        params: [TeecParameter {
            value: Value { a: 0, b: 0 },
        }; 4],
        reserved: 0,
    };
    // SAFETY: ours.
    unsafe {
        TEEC_RequestCancellation(&mut operation);
        assert_eq!(operation.started, CANCELLED_BEFORE);
        let code = run(&mut operation, 0, |_| Ok(()));
        assert_eq!(code, Err((TEEC_ERROR_CANCEL, Origin::Api)));
        assert_eq!(operation.started, STARTED);
        // It began; what comes after is for nobody.
        TEEC_RequestCancellation(&mut operation);
        assert_eq!(run(&mut operation, 0, |_| Ok(7)), Ok(7));
    }
}

#[test]
fn uuids_are_in_the_order_of_the_text() {
    let uuid = TeecUuid {
        time_low: 0x0102_0304,
        time_mid: 0x0506,
        time_hi_and_version: 0x0708,
        clock_seq_and_node: [9, 10, 11, 12, 13, 14, 15, 16],
    };
    let text = TaUuid(uuid.bytes()).to_string();
    assert_eq!(text, "01020304-0506-0708-090a-0b0c0d0e0f10");
}

#[test]
fn memory_of_ours_is_aligned_and_zeroed() {
    for size in [0, 1, 100_000] {
        let block = Block::allocated(1, size, MEM_INPUT).unwrap();
        assert_eq!(block.start.0.addr() % 16, 0);
        // SAFETY: the block has that many bytes.
        assert!(unsafe { block.start.read(size) }.iter().all(|b| *b == 0));
    }
    assert!(Block::allocated(1, usize::MAX, MEM_INPUT).is_none());
    // SAFETY: nothing is read or written.
    unsafe {
        assert!(Pointer(null_mut()).read(0).is_empty());
        Pointer(null_mut()).write(&[]);
    }
}

#[test]
fn logins_take_the_data_that_is_theirs() {
    let gid = 7u32;
    let data = (&raw const gid).cast();
    // SAFETY: NULL or a number.
    unsafe {
        assert_eq!(login(LOGIN_GROUP, data), Ok(Login::Group { gid: 7 }));
        assert_eq!(login(LOGIN_GROUP, null()), Err(BAD_PARAMETERS));
        assert_eq!(login(LOGIN_USER, null()), Ok(Login::User));
        assert_eq!(login(LOGIN_USER, data), Err(BAD_PARAMETERS));
        assert_eq!(login(3, null()), Err(BAD_PARAMETERS));
    }
}
