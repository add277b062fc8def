//! Header and linker script of the image.

#[path = "../link.rs"]
mod link;

use optee_utee_build::{Builder, LinkerType, TaConfig};
use tegata_wire::rpc::OPTEE_HOST_UUID;

/// An instance for each session: none of OP-TEE's flags.
const FLAGS: u32 = 0;
/// Heap in bytes; measured in docs/perf.md.
const HEAP: u32 = 2 * 1024 * 1024;
/// Stack in bytes; measured in docs/perf.md.
const STACK: u32 = 64 * 1024;

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../link.rs");
    let config = TaConfig::new_default_with_cargo_env(&OPTEE_HOST_UUID.to_string())
        .map_err(|error| format!("{error:?}"))?
        .ta_flags(FLAGS)
        .ta_data_size(HEAP)
        .ta_stack_size(STACK)
        .trace_level(2);
    link::absent_libraries()?;
    let builder = Builder::new(config).linker_type(LinkerType::Ld);
    builder.build().map_err(|error| format!("{error:?}"))?;
    link::without_unwind_tables()
}
