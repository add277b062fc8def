//! Cryptographic operations: allocation, keys, states, information.
//!
//! Spec: TEE Internal Core API 1.3.1 section 6.2.
//!
//! Invariants: an operation's key is a copy, wiped with it; its usage bits allowed the operation's
//! mode when it was set; a call in a state that GP does not allow panics the TA.

use super::consts::*;
use super::fail::{Fail, Res, code, panic_with};
use super::mem::Mem;
use super::object::Attributes;
use super::state::Ctx;
use super::symmetric::{Active, ActiveAe};

/// An operation with a handle.
pub struct Operation {
    pub(super) algorithm: u32,
    pub(super) mode: u32,
    pub(super) max_key_bits: u32,
    pub(super) key: Option<Key>,
    pub(super) active: Active,
}

/// The key of an operation.
#[derive(Clone)]
pub struct Key {
    pub(super) bits: u32,
    pub(super) attributes: Attributes,
}

/// What an algorithm is.
pub struct AlgorithmRule {
    /// `TEE_OPERATION_*`.
    pub class: u32,
    /// Modes it has.
    pub modes: &'static [u32],
    /// Types its key may have in the given mode; empty for digests.
    pub keys: &'static [u32],
    /// Digest, MAC or tag length in bytes, 0 if it has none of its own.
    pub length: u32,
}

const ENCRYPTION: &[u32] = &[TEE_MODE_ENCRYPT, TEE_MODE_DECRYPT];
const SIGNATURE: &[u32] = &[TEE_MODE_SIGN, TEE_MODE_VERIFY];

/// The rule of an algorithm; `None` for those this TEE does not have.
#[must_use]
pub const fn rule(algorithm: u32) -> Option<AlgorithmRule> {
    use super::consts as c;
    const fn is(
        class: u32,
        modes: &'static [u32],
        keys: &'static [u32],
        length: u32,
    ) -> Option<AlgorithmRule> {
        Some(AlgorithmRule {
            class,
            modes,
            keys,
            length,
        })
    }
    match algorithm {
        c::TEE_ALG_SHA256 => is(c::TEE_OPERATION_DIGEST, &[c::TEE_MODE_DIGEST], &[], 32),
        c::TEE_ALG_SHA384 => is(c::TEE_OPERATION_DIGEST, &[c::TEE_MODE_DIGEST], &[], 48),
        c::TEE_ALG_SHA512 => is(c::TEE_OPERATION_DIGEST, &[c::TEE_MODE_DIGEST], &[], 64),
        c::TEE_ALG_HMAC_SHA256 => is(
            c::TEE_OPERATION_MAC,
            &[c::TEE_MODE_MAC],
            &[c::TEE_TYPE_HMAC_SHA256],
            32,
        ),
        c::TEE_ALG_HMAC_SHA384 => is(
            c::TEE_OPERATION_MAC,
            &[c::TEE_MODE_MAC],
            &[c::TEE_TYPE_HMAC_SHA384],
            48,
        ),
        c::TEE_ALG_HMAC_SHA512 => is(
            c::TEE_OPERATION_MAC,
            &[c::TEE_MODE_MAC],
            &[c::TEE_TYPE_HMAC_SHA512],
            64,
        ),
        c::TEE_ALG_AES_CMAC => is(
            c::TEE_OPERATION_MAC,
            &[c::TEE_MODE_MAC],
            &[c::TEE_TYPE_AES],
            16,
        ),
        c::TEE_ALG_AES_CBC_NOPAD | c::TEE_ALG_AES_CTR => {
            is(c::TEE_OPERATION_CIPHER, ENCRYPTION, &[c::TEE_TYPE_AES], 0)
        }
        c::TEE_ALG_AES_GCM | c::TEE_ALG_AES_CCM => {
            is(c::TEE_OPERATION_AE, ENCRYPTION, &[c::TEE_TYPE_AES], 16)
        }
        c::TEE_ALG_ECDSA_SHA256 => is(
            c::TEE_OPERATION_ASYMMETRIC_SIGNATURE,
            SIGNATURE,
            &[c::TEE_TYPE_ECDSA_KEYPAIR, c::TEE_TYPE_ECDSA_PUBLIC_KEY],
            32,
        ),
        c::TEE_ALG_ECDSA_SHA384 => is(
            c::TEE_OPERATION_ASYMMETRIC_SIGNATURE,
            SIGNATURE,
            &[c::TEE_TYPE_ECDSA_KEYPAIR, c::TEE_TYPE_ECDSA_PUBLIC_KEY],
            48,
        ),
        c::TEE_ALG_ED25519 => is(
            c::TEE_OPERATION_ASYMMETRIC_SIGNATURE,
            SIGNATURE,
            &[c::TEE_TYPE_ED25519_KEYPAIR, c::TEE_TYPE_ED25519_PUBLIC_KEY],
            0,
        ),
        c::TEE_ALG_ECDH_DERIVE_SHARED_SECRET => is(
            c::TEE_OPERATION_KEY_DERIVATION,
            &[c::TEE_MODE_DERIVE],
            &[c::TEE_TYPE_ECDH_KEYPAIR],
            0,
        ),
        c::TEE_ALG_X25519 => is(
            c::TEE_OPERATION_KEY_DERIVATION,
            &[c::TEE_MODE_DERIVE],
            &[c::TEE_TYPE_X25519_KEYPAIR],
            0,
        ),
        c::TEE_ALG_HKDF => is(
            c::TEE_OPERATION_KEY_DERIVATION,
            &[c::TEE_MODE_DERIVE],
            &[c::TEE_TYPE_HKDF],
            0,
        ),
        _ => None,
    }
}

fn key_size_supported(algorithm: u32, bits: u32) -> bool {
    let Some(found) = rule(algorithm) else {
        return false;
    };
    match found.keys {
        [] => true,
        keys => keys
            .iter()
            .any(|object_type| super::object::size_supported(*object_type, bits)),
    }
}

/// The usage bit a mode asks of its key.
#[must_use]
pub const fn required_usage(class: u32, mode: u32) -> u32 {
    match (class, mode) {
        (TEE_OPERATION_DIGEST, _) => 0,
        (_, TEE_MODE_ENCRYPT) => TEE_USAGE_ENCRYPT,
        (_, TEE_MODE_DECRYPT) => TEE_USAGE_DECRYPT,
        (_, TEE_MODE_SIGN) => TEE_USAGE_SIGN,
        (_, TEE_MODE_VERIFY) => TEE_USAGE_VERIFY,
        (_, TEE_MODE_MAC) => TEE_USAGE_MAC,
        (_, TEE_MODE_DERIVE) => TEE_USAGE_DERIVE,
        _ => 0,
    }
}

impl Operation {
    pub(super) fn rule(&self) -> Res<AlgorithmRule> {
        rule(self.algorithm).ok_or(Fail::Panic(TEE_ERROR_BAD_STATE))
    }

    /// The key.
    ///
    /// # Errors
    /// The TA panics if none is set.
    pub(super) fn key(&self) -> Res<&Key> {
        self.key.as_ref().ok_or(Fail::Panic(TEE_ERROR_BAD_STATE))
    }

    /// Panics unless the operation is of this class, and if given of this mode.
    pub(super) fn expect(&self, class: u32, mode: Option<u32>) -> Res {
        let fits = self.rule()?.class == class && mode.is_none_or(|mode| mode == self.mode);
        if fits {
            Ok(())
        } else {
            panic_with(TEE_ERROR_BAD_PARAMETERS)
        }
    }

    /// `handleState`: digests are born initialized.
    fn handle_state(&self) -> Res<u32> {
        let digest = self.rule()?.class == TEE_OPERATION_DIGEST;
        let mut flags = 0;
        if self.key.is_some() || digest {
            flags |= TEE_HANDLE_FLAG_KEY_SET;
        }
        if self.active.is_initialized() || digest {
            flags |= TEE_HANDLE_FLAG_INITIALIZED;
        }
        if matches!(self.active, Active::Extracting(_)) {
            flags |= TEE_HANDLE_FLAG_EXTRACTING;
        }
        Ok(flags)
    }

    fn digest_length(&self) -> Res<u32> {
        if let Active::Ae(ActiveAe { tag_len, .. }) = &self.active {
            return Ok(u32::try_from(*tag_len).unwrap_or(0));
        }
        self.rule().map(|rule| rule.length)
    }
}

/// `TEE_AllocateOperation`.
pub fn allocate_operation(
    c: &mut Ctx<'_>,
    out: u32,
    algorithm: u32,
    mode: u32,
    max_key_bits: u32,
) -> Res {
    c.mem.put_u32(out, TEE_HANDLE_NULL)?;
    let Some(found) = rule(algorithm) else {
        return code(TEE_ERROR_NOT_SUPPORTED);
    };
    if !found.modes.contains(&mode) || !key_size_supported(algorithm, max_key_bits) {
        return code(TEE_ERROR_NOT_SUPPORTED);
    }
    let operation = Operation {
        algorithm,
        mode,
        max_key_bits,
        key: None,
        active: Active::idle(algorithm),
    };
    let handle = c.st.operations.insert(operation)?;
    c.mem.put_u32(out, handle)
}

/// `TEE_FreeOperation`.
pub fn free_operation(c: &mut Ctx<'_>, operation: u32) -> Res {
    if operation == TEE_HANDLE_NULL {
        return Ok(());
    }
    c.st.operations.remove(operation).map(drop)
}

/// `TEE_GetOperationInfo`.
pub fn get_operation_info(c: &mut Ctx<'_>, operation: u32, out: u32) -> Res {
    let op = c.st.operations.get(operation)?;
    let class = op.rule()?.class;
    let words = [
        op.algorithm,
        class,
        op.mode,
        op.digest_length()?,
        op.max_key_bits,
        op.key.as_ref().map_or(0, |key| key.bits),
        if op.key.is_some() {
            required_usage(class, op.mode)
        } else {
            0
        },
        op.handle_state()?,
    ];
    c.mem.put_words(out, &words)
}

/// `TEE_GetOperationInfoMultiple`.
pub fn get_operation_info_multiple(
    c: &mut Ctx<'_>,
    operation: u32,
    out: u32,
    size_ptr: u32,
) -> Res {
    let op = c.st.operations.get(operation)?;
    let class = op.rule()?.class;
    let keys = u32::from(class != TEE_OPERATION_DIGEST);
    let state = match &op.active {
        Active::Extracting(_) => TEE_OPERATION_STATE_EXTRACTING,
        active if active.is_active() => TEE_OPERATION_STATE_ACTIVE,
        _ => TEE_OPERATION_STATE_INITIAL,
    };
    let mut words = alloc::vec![
        op.algorithm,
        class,
        op.mode,
        op.digest_length()?,
        op.max_key_bits,
        op.handle_state()?,
        state,
        keys,
    ];
    if keys == 1 {
        words.push(op.key.as_ref().map_or(0, |key| key.bits));
        words.push(if op.key.is_some() {
            required_usage(class, op.mode)
        } else {
            0
        });
    }
    let room = c.mem.u32(size_ptr)?;
    let needed = u32::try_from(words.len() * 4).unwrap_or(u32::MAX);
    c.mem.put_u32(size_ptr, needed)?;
    if room < needed {
        return code(TEE_ERROR_SHORT_BUFFER);
    }
    c.mem.put_words(out, &words)
}

/// `TEE_ResetOperation`: the key stays.
pub fn reset_operation(c: &mut Ctx<'_>, operation: u32) -> Res {
    let op = c.st.operations.get_mut(operation)?;
    if op.key.is_none() && op.rule()?.class != TEE_OPERATION_DIGEST {
        return panic_with(TEE_ERROR_BAD_STATE);
    }
    op.active = Active::idle(op.algorithm);
    Ok(())
}

/// `TEE_SetOperationKey`: the operation must be in its initial state, the key's type, size and
/// usage must fit; anything else panics.
pub fn set_operation_key(c: &mut Ctx<'_>, operation: u32, key: u32) -> Res {
    let op = c.st.operations.get(operation)?;
    let found = op.rule()?;
    if found.class == TEE_OPERATION_DIGEST || op.active.is_initialized() || op.active.is_active() {
        return panic_with(TEE_ERROR_BAD_STATE);
    }
    if key == TEE_HANDLE_NULL {
        c.st.operations.get_mut(operation)?.key = None;
        return Ok(());
    }
    let object = c.st.key_object(key)?;
    // Signing needs the private half; verifying takes either.
    let private_needed = matches!(op.mode, TEE_MODE_SIGN | TEE_MODE_DERIVE);
    let fits = match found.keys {
        [pair, public] => {
            object.object_type == *pair || (!private_needed && object.object_type == *public)
        }
        keys => keys.contains(&object.object_type),
    };
    if !fits || object.size_bits > op.max_key_bits {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    let usage = required_usage(found.class, op.mode);
    if object.usage & usage != usage {
        return panic_with(TEE_ERROR_ACCESS_DENIED);
    }
    let key = Key {
        bits: object.size_bits,
        attributes: object.attributes.clone(),
    };
    c.st.operations.get_mut(operation)?.key = Some(key);
    Ok(())
}

/// `TEE_SetOperationKey2`: no algorithm of this TEE takes two keys.
pub fn set_operation_key2(c: &mut Ctx<'_>, operation: u32, key1: u32, key2: u32) -> Res {
    let _ = (c.st.operations.get(operation)?, key1, key2);
    panic_with(TEE_ERROR_BAD_PARAMETERS)
}

/// `TEE_CopyOperation`: the same algorithm and mode, and room for the key.
pub fn copy_operation(c: &mut Ctx<'_>, to: u32, from: u32) -> Res {
    let source = c.st.operations.get(from)?;
    let (algorithm, mode) = (source.algorithm, source.mode);
    let (key, active) = (source.key.clone(), source.active.clone());
    let target = c.st.operations.get_mut(to)?;
    let fits = target.algorithm == algorithm
        && target.mode == mode
        && key
            .as_ref()
            .is_none_or(|key| key.bits <= target.max_key_bits);
    if !fits {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    target.key = key;
    target.active = active;
    Ok(())
}

/// `TEE_IsAlgorithmSupported`.
pub fn is_algorithm_supported(_: &mut Ctx<'_>, algorithm: u32, element: u32) -> Res {
    let known = match algorithm {
        TEE_ALG_ECDSA_SHA256 | TEE_ALG_ECDSA_SHA384 | TEE_ALG_ECDH_DERIVE_SHARED_SECRET => {
            matches!(element, TEE_ECC_CURVE_NIST_P256 | TEE_ECC_CURVE_NIST_P384)
        }
        TEE_ALG_ED25519 | TEE_ALG_X25519 => element == TEE_ECC_CURVE_25519,
        _ => rule(algorithm).is_some() && element == TEE_CRYPTO_ELEMENT_NONE,
    };
    if known {
        Ok(())
    } else {
        code(TEE_ERROR_NOT_SUPPORTED)
    }
}

/// Reads a chunk of input; an empty chunk may have any pointer.
pub(super) fn chunk<'m>(mem: &'m Mem<'_>, ptr: u32, len: u32) -> Res<&'m [u8]> {
    if len == 0 {
        Ok(&[])
    } else {
        mem.bytes(ptr, len)
    }
}
