//! Header and linker script of the image, and the factory's public key inside it.
//!
//! The key decides whose records this image believes: without one there is no image.

#[path = "../link.rs"]
mod link;

use std::fs;
use std::path::PathBuf;

use optee_utee_build::{Builder, LinkerType, TaConfig};
use tegata_crypto::PublicKey;
use tegata_wire::rpc::OPTEE_TEE_UUID;

/// Path of the factory's public key: a COSE_Key, or an SPKI in DER or PEM.
const FACTORY_KEY: &str = "TEGATA_FACTORY_KEY";
/// One instance for the device, many sessions, and it stays: `TA_FLAG_SINGLE_INSTANCE`,
/// `TA_FLAG_MULTI_SESSION` and `TA_FLAG_INSTANCE_KEEP_ALIVE` of OP-TEE's user_ta_header.h.
const FLAGS: u32 = 1 << 2 | 1 << 3 | 1 << 4;
/// Heap in bytes; measured in docs/perf.md.
const HEAP: u32 = 3 * 1024 * 1024;
/// Stack in bytes; measured in docs/perf.md.
const STACK: u32 = 96 * 1024;

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../link.rs");
    println!("cargo:rerun-if-env-changed={FACTORY_KEY}");
    let path = std::env::var(FACTORY_KEY).map_err(|_| {
        format!("set {FACTORY_KEY} to the factory's public key (COSE_Key, or SPKI as DER or PEM)")
    })?;
    println!("cargo:rerun-if-changed={path}");
    let bytes = fs::read(&path).map_err(|error| format!("{FACTORY_KEY} {path}: {error}"))?;
    let key = factory_key(&bytes).ok_or(format!("{FACTORY_KEY} {path}: not a public key"))?;
    let out = PathBuf::from(std::env::var("OUT_DIR").map_err(|error| error.to_string())?);
    fs::write(out.join("factory.key"), key).map_err(|error| error.to_string())?;

    let config = TaConfig::new_default_with_cargo_env(&OPTEE_TEE_UUID.to_string())
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

/// The key as a COSE_Key, whatever form it came in.
fn factory_key(bytes: &[u8]) -> Option<Vec<u8>> {
    let key = PublicKey::from_cose_key(bytes)
        .or_else(|_| PublicKey::from_spki_der(bytes))
        .or_else(|error| {
            let (label, der) = der::pem::decode_vec(bytes).map_err(|_| error.clone())?;
            if label != "PUBLIC KEY" {
                return Err(error);
            }
            PublicKey::from_spki_der(&der)
        });
    key.ok()?.to_cose_key().ok()
}
