//! The Wasm host against modules that misbehave, each written by hand.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // Tests.

#[path = "support/mod.rs"]
mod support;

use support::{ALICE, BOB, Device};
use tegata_tee::gp::consts::*;
use tegata_tee::gp::params::{Param, ParamOut, Params};
use tegata_tee::wasm::{MODULE_LEN_BYTES_MAX, ModuleError, TaModule};

/// A TA whose InvokeCommand has this body; `head` goes before its functions.
fn ta(properties: &str, head: &str, invoke: &str) -> Vec<u8> {
    let text = format!(
        r#"(module {head}
  (@custom "tegata.ta" "{properties}")
  (memory (export "memory") 1)
  (global $top (mut i32) (i32.const 1024))
  (func (export "TA_CreateEntryPoint") (result i32) i32.const 0)
  (func (export "TA_DestroyEntryPoint"))
  (func (export "TA_OpenSessionEntryPoint") (param i32 i32 i32) (result i32) i32.const 0)
  (func (export "TA_CloseSessionEntryPoint") (param i32))
  (func (export "gp_alloc") (param i32) (result i32)
    global.get $top  global.get $top  local.get 0  i32.add  global.set $top)
  (func (export "gp_free") (param i32))
  (func $invoke (export "TA_InvokeCommandEntryPoint") (param i32 i32 i32 i32) (result i32)
    {invoke}))"#
    );
    wat::parse_str(text).unwrap()
}

fn refused(bytes: &[u8]) -> String {
    TaModule::new(bytes)
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

#[test]
fn modules_that_are_no_tas_do_not_load() {
    assert!(TaModule::new(&ta("", "", "i32.const 0")).is_ok());
    assert!(matches!(
        TaModule::new(&vec![0; MODULE_LEN_BYTES_MAX + 1]),
        Err(ModuleError::TooLarge { .. })
    ));
    assert!(refused(b"").contains("not valid"));
    assert!(
        refused(b"(module)").contains("not valid"),
        "text is not a module"
    );
    let float = ta("", "", "f32.const 1 drop i32.const 0");
    assert!(refused(&float).contains("float"), "{}", refused(&float));
    let start = ta("", "", "i32.const 0) (func $s) (start $s");
    assert!(refused(&start).contains("not valid"));
    let two = ta("", "", "i32.const 0) (memory 1");
    assert!(refused(&two).contains("not valid"));
    let empty = wat::parse_str("(module)").unwrap();
    assert!(refused(&empty).contains("export"));
    let lie = ta(
        "gpd.ta.version = 1\\0agpd.tee.deviceID = x",
        "",
        "i32.const 0",
    );
    assert!(refused(&lie).contains("properties"));
    // Every cut of a good module is refused, or at least does no harm.
    let good = ta("", "", "i32.const 0");
    for len in 0..good.len() {
        let _ = TaModule::new(&good[..len]);
    }
}

#[test]
fn a_code_section_without_functions_is_refused() {
    // Found by fuzzing: this divided by zero inside the engine.
    let mut module = b"\0asm\x01\0\0\0\x0a\xd1\x0f\0".to_vec();
    module.resize(module.len() + 2000, 0);
    assert!(matches!(
        TaModule::new(&module),
        Err(ModuleError::NoFunctions)
    ));
}

#[test]
fn unknown_imports_and_greedy_memories_do_not_start() {
    let device = Device::empty(1);
    let import = r#"(import "env" "system" (func (param i32)))"#;
    let uuid = device.install_module(1, &ta("", import, "i32.const 0"));
    assert_eq!(
        device.open_ta(&uuid, &ALICE).err(),
        Some(TEE_ERROR_BAD_FORMAT)
    );
    let small = ta("gpd.ta.dataSize = 1000", "", "i32.const 0");
    let uuid = device.install_module(2, &small);
    assert_eq!(
        device.open_ta(&uuid, &ALICE).err(),
        Some(TEE_ERROR_BAD_FORMAT)
    );
}

#[test]
fn traps_loops_and_panics_kill_the_instance_and_nothing_else() {
    let panic = r#"(import "gp_tee_1" "TEE_Panic" (func $panic (param i32)))"#;
    let random = r#"(import "gp_tee_1" "TEE_GenerateRandom" (func $r (param i32 i32)))"#;
    let cases = [
        ("", "unreachable"),
        ("", "i32.const -1 i32.load"),
        ("", "i32.const 1 i32.const 0 i32.div_u"),
        (
            "",
            "local.get 0 local.get 1 local.get 2 local.get 3 call $invoke",
        ),
        (panic, "i32.const 77 call $panic i32.const 0"),
        (random, "i32.const 65530 i32.const 100 call $r i32.const 0"),
    ];
    for (head, body) in cases {
        let device = Device::empty(1);
        let uuid = device.install_module(1, &ta("", head, body));
        let other = device.open_ta(&uuid, &BOB).unwrap();
        let session = device.open_ta(&uuid, &ALICE).unwrap();
        let reply = session.invoke(1, Params::default());
        assert_eq!(
            (reply.code, reply.origin),
            (TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE),
            "{body}"
        );
        let again = session.invoke(1, Params::default());
        assert_eq!(again.code, TEE_ERROR_TARGET_DEAD);
        drop(session);
        assert!(!device.log.lock().unwrap().is_empty(), "the log says why");
        drop(other);
        assert_eq!(device.manager.counts(), (0, 0));
        assert!(device.open_ta(&uuid, &ALICE).is_ok(), "a fresh instance");
    }
}

#[test]
fn an_endless_loop_ends_with_its_fuel_or_its_deadline() {
    let device = Device::empty(1);
    let uuid = device.install_module(1, &ta("", "", "(loop br 0) i32.const 0"));
    let session = device.open_ta(&uuid, &ALICE).unwrap();
    // The platform's clock stands still, so it is the client's leaving that stops it here.
    let control = tegata_tee::session::CallControl::until(0);
    let reply = device.manager.invoke(
        &session.caller,
        session.number,
        1,
        Params::default(),
        &control,
    );
    assert_eq!(reply.code, TEE_ERROR_CANCEL, "late before it began");
    let control = tegata_tee::session::CallControl::default();
    let stopper = control.clone();
    let timer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        stopper.stop();
    });
    let reply = device.manager.invoke(
        &session.caller,
        session.number,
        1,
        Params::default(),
        &control,
    );
    assert_eq!(reply.code, TEE_ERROR_TARGET_DEAD);
    timer.join().unwrap();
}

#[test]
fn a_slice_of_fuel_may_end_anywhere() {
    // 40 functions, each long and called once; before them a loop that burns most of a slice, each time a little less:
    // the slice ends in a function, between two, or on the way into one that nobody called before.
    let long = "(i32.add (i32.const 1)) ".repeat(300);
    let functions: String = (0..40)
        .map(|n| format!("(func $f{n} (result i32) i32.const 0 {long}) "))
        .collect();
    let calls: String = (0..40)
        .map(|n| format!("(local.set 4 (i32.add (local.get 4) (call $f{n}))) "))
        .collect();
    let body = format!(
        "(local i32)
        (loop (local.set 1 (i32.sub (local.get 1) (i32.const 1))) (br_if 0 (local.get 1)))
        {calls} (local.get 4)"
    );
    let module = ta("", "", &format!("{body}) {functions} (func"));
    for step in 0..60 {
        let device = Device::empty(1);
        let uuid = device.install_module(1, &module);
        let session = device.open_ta(&uuid, &ALICE).unwrap();
        let reply = session.invoke(500_000 + step * 25_000, Params::default());
        assert_eq!(
            reply.code,
            40 * 300,
            "{step}: {:?}",
            device.log.lock().unwrap()
        );
    }
}

#[test]
fn parameters_go_in_and_out_and_a_lying_size_gives_nothing() {
    let device = Device::empty(1);
    // Command 0: swaps a value; command 1: says it wrote a megabyte.
    let body = "local.get 1 (if (result i32) (then
        local.get 3 i32.const 1048576 i32.store offset=4 i32.const 0xffff0010)
      (else local.get 3 local.get 3 i32.load i32.const 1 i32.add i32.store i32.const 0))";
    let uuid = device.install_module(1, &ta("", "", body));
    let session = device.open_ta(&uuid, &ALICE).unwrap();
    let mut params = Params::default();
    params[0] = Param::ValueInout { a: 41, b: 7 };
    let reply = session.invoke(0, params);
    assert_eq!(reply.params[0], ParamOut::Value { a: 42, b: 7 });
    let mut params = Params::default();
    params[0] = Param::MemrefOutput { size: 8 };
    let reply = session.invoke(1, params);
    assert_eq!(
        (reply.code, reply.origin),
        (TEE_ERROR_SHORT_BUFFER, TEE_ORIGIN_TRUSTED_APP)
    );
    assert_eq!(
        reply.params[0],
        ParamOut::Memref {
            buffer: Vec::new(),
            size: 1 << 20
        }
    );
    let mut params = Params::default();
    params[0] = Param::MemrefOutput { size: u32::MAX };
    assert_eq!(session.invoke(0, params).code, TEE_ERROR_OUT_OF_MEMORY);
}

#[test]
fn what_went_in_and_out_is_wiped_before_the_ta_may_use_the_place_again() {
    let device = Device::empty(1);
    // The block of the session's opening ends at 1064; the first buffer of the next is at 1104.
    let body = "(i32.store offset=8 (local.get 3) (i32.load (i32.const 1104))) i32.const 0";
    let uuid = device.install_module(1, &ta("", "", body));
    let session = device.open_ta(&uuid, &ALICE).unwrap();
    let found = |first: Param| {
        let mut params = Params::default();
        params[0] = first;
        params[1] = Param::ValueOutput;
        match session.invoke(0, params).params[1] {
            ParamOut::Value { a, .. } => a,
            _ => panic!("no value"),
        }
    };
    let buffer = b"secret!!".to_vec();
    assert_eq!(
        found(Param::MemrefInput { buffer }),
        u32::from_le_bytes(*b"secr")
    );
    assert_eq!(found(Param::None), 0);
}
