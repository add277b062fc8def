//! What linking an image needs beyond OP-TEE's dev kit; used by the build scripts of both.

/// The `libc` crate, which a few crates below name for this target, asks for libraries of Linux.
/// There are none in OP-TEE: empty ones satisfy the linker, and a symbol that is really missing is
/// still an error.
pub fn absent_libraries() -> Result<(), String> {
    let out = std::env::var("OUT_DIR").map_err(|error| error.to_string())?;
    for name in ["libc.a", "libm.a", "librt.a", "libpthread.a"] {
        let path = std::path::Path::new(&out).join(name);
        std::fs::write(path, "!<arch>\n").map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Nothing unwinds here: the tables that the compiled core library brings are left out.
pub fn without_unwind_tables() -> Result<(), String> {
    let out = std::env::var("OUT_DIR").map_err(|error| error.to_string())?;
    let path = std::path::Path::new(&out).join("ta.lds");
    let script = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let drop = "SECTIONS {\n /DISCARD/ : { *(.eh_frame) *(.eh_frame_hdr) *(.gcc_except_table*) }";
    let script = script.replacen("SECTIONS {", drop, 1);
    if !script.contains(drop) {
        return Err("the linker script has no SECTIONS".into());
    }
    // Written by this very run, and watched by cargo: as new as it is, the image would be built
    // anew each time.
    std::fs::write(&path, script)
        .and_then(|()| std::fs::File::options().write(true).open(&path))
        .and_then(|file| file.set_modified(std::time::UNIX_EPOCH))
        .map_err(|error| error.to_string())
}
