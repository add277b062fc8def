//! Instances of TAs apart from each other, and the images that run them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tegata_wire::rpc::OPTEE_HOST_UUID;

use super::world::{ALICE, World};
use crate::optee::programs::{OLDER, image_name};

/// A TA that counts (command 1), traps (command 2), and waits five minutes or until the call is
/// cancelled (command 3); each session is an instance.
const TRAPPING: &str = r#"(module
  (import "gp_tee_1" "TEE_UnmaskCancellation" (func $unmask (result i32)))
  (import "gp_tee_1" "TEE_Wait" (func $wait (param i32) (result i32)))
  (memory (export "memory") 1)
  (global $count (mut i32) (i32.const 0))
  (func (export "TA_CreateEntryPoint") (result i32) (i32.const 0))
  (func (export "TA_DestroyEntryPoint"))
  (func (export "TA_OpenSessionEntryPoint") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "TA_CloseSessionEntryPoint") (param i32))
  (func (export "TA_InvokeCommandEntryPoint") (param i32 i32 i32 i32) (result i32)
    (if (i32.eq (local.get 1) (i32.const 2)) (then unreachable))
    (if (i32.eq (local.get 1) (i32.const 3))
      (then (drop (call $unmask)) (return (call $wait (i32.const 300000)))))
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store (local.get 3) (global.get $count))
    (i32.const 0))
  (func (export "gp_alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "gp_free") (param i32)))"#;

/// The TA's module.
pub fn trapping_module(world: &World) -> Result<PathBuf> {
    let module = world.dir().join("trap.wasm");
    fs::write(&module, wat::parse_str(TRAPPING)?)?;
    Ok(module)
}

/// Of three instances that run at once, one traps; the others go on as if nothing were. A call that
/// waits is cancelled, and its instance lives on.
pub fn trap(world: &mut World) -> Result<String> {
    world.enrolled()?;
    let module = trapping_module(world)?;
    let ta = world.release("trap", Some(&module))?;
    let enrol = world.ta("enrol")?;
    world.agent("A", 0, &format!("sync --ta {ta}"))?.ok()?;
    let machine = world.machine("A")?;
    let seen = machine.run(ALICE, &format!("probe trap {ta} {enrol}"))?;
    let seen = seen.ok().context("three instances, one of which traps")?;
    Ok(seen.lines().collect::<Vec<_>>().join("; "))
}

/// OP-TEE has run version 2 of the host's image, and takes version 1 no more.
pub fn older_image(world: &mut World) -> Result<String> {
    world.enrolled()?;
    let machine = world.machine("A")?;
    let name = image_name(&OPTEE_HOST_UUID);
    let swap = format!(
        "cp /usr/lib/optee_armtz/{name} /tmp/newer.ta && cp /{OLDER}/{name} /usr/lib/optee_armtz/"
    );
    machine.run(0, &swap)?.ok()?;
    let refused = world.agent("A", ALICE, "list")?;
    machine
        .run(0, &format!("cp /tmp/newer.ta /usr/lib/optee_armtz/{name}"))?
        .ok()?;
    ensure!(refused.code != 0, "the older image ran: {}", refused.all());
    world.agent("A", ALICE, "list")?.ok()?;
    Ok(format!("told: {}", refused.all()))
}
