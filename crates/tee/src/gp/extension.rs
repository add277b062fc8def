//! Tegata's own imports, module `tegata_1`: what GP has no function for.
//!
//! A TA reads the components of its own release, asks for evidence, gets a key that only it on
//! this device can have, and writes to the TEE's log.

use zeroize::Zeroizing;

use super::consts::*;
use super::fail::{Res, code, panic_with};
use super::host::{ComponentKind, LOG_LEN_BYTES_MAX, SecretBytes, UNIQUE_KEY_CONTEXT_LEN_MAX};
use super::object::{Attribute, Attributes, is_secret_type};
use super::state::{Ctx, printable};

/// `tegata_component(kind, buffer, size)`: 1 procedure, 2 config.
pub fn component(c: &mut Ctx<'_>, kind: u32, buffer: u32, size: u32) -> Res {
    let Some(kind) = ComponentKind::from_guest(kind) else {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    };
    match c.st.services.component(kind)? {
        Some(bytes) => c.mem.out_buffer(buffer, size, &bytes),
        None => code(TEE_ERROR_ITEM_NOT_FOUND),
    }
}

/// `tegata_evidence(nonce, nonce_len, buffer, size)`: the nonce is 8 to 64 bytes.
pub fn evidence(c: &mut Ctx<'_>, nonce: u32, nonce_len: u32, buffer: u32, size: u32) -> Res {
    if !(8..=64).contains(&nonce_len) {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    let nonce = c.mem.bytes(nonce, nonce_len)?.to_vec();
    let made = c.st.services.evidence(&nonce)?;
    c.mem.out_buffer(buffer, size, &made)
}

/// `tegata_position(position)`: eleven words, see [`crate::position::Position::to_words`].
pub fn position(c: &mut Ctx<'_>, out: u32) -> Res {
    let position = c.st.services.position()?;
    c.mem.put_words(out, &position.to_words())
}

/// `tegata_ta_unique_key(context, context_len, object)`: fills an empty 256-bit secret object; the
/// key never enters the TA's memory unless the TA extracts it.
pub fn ta_unique_key(c: &mut Ctx<'_>, context: u32, context_len: u32, object: u32) -> Res {
    let context = c.mem.bytes(context, context_len)?.to_vec();
    let target = c.st.empty_object(object)?;
    let fits = is_secret_type(target.object_type) && target.max_size_bits >= 256;
    if !fits || context.len() > UNIQUE_KEY_CONTEXT_LEN_MAX {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    let key = c.st.services.ta_unique_key(&context)?;
    let secret = SecretBytes(Zeroizing::new(key.to_vec()));
    let attributes = Attributes::from([(TEE_ATTR_SECRET_VALUE, Attribute::Buffer(secret))]);
    c.st.empty_object(object)?.populate(attributes)
}

/// `tegata_log(text, len)`: at most 256 bytes a line and 32 lines an entry point; more is dropped.
pub fn log(c: &mut Ctx<'_>, ptr: u32, len: u32) -> Res {
    let line = printable(c.mem.bytes(ptr, len)?, LOG_LEN_BYTES_MAX);
    let Some(left) = c.st.log_lines_left.checked_sub(1) else {
        return Ok(());
    };
    c.st.log_lines_left = left;
    c.st.services.log(&line);
    Ok(())
}
