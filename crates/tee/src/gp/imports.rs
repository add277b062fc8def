//! Every import a TA may have, by name, and the one way in and out of them.
//!
//! Modules `gp_tee_1` (the standard's functions) and `tegata_1` (ours). A TA that imports anything
//! else does not load. A [`Fail::Panic`] becomes a trap that names the function and ends the
//! instance; the host goes on.

use alloc::string::ToString;

use wasmi::{Caller, Error, Linker, Memory, StoreLimits};

use super::consts::TEE_ERROR_BAD_STATE;
use super::fail::{Fail, Res};
use super::mem::Mem;
use super::state::{Ctx, GpState};
use super::{
    asymmetric, client_api, extension, object, operation, persistent, property, state, symmetric,
    time,
};
use crate::session::launch::Panic;

/// What the Wasm store of an instance carries.
pub struct Host {
    /// State of the API.
    pub gp: GpState,
    /// The instance's memory, once it is there.
    pub memory: Option<Memory>,
    /// Limits on growth.
    pub limits: StoreLimits,
}

impl wasmi::errors::HostError for Panic {}

fn enter<R>(
    caller: &mut Caller<'_, Host>,
    function: &'static str,
    body: impl FnOnce(&mut Ctx<'_>) -> Res<R>,
) -> Result<Result<R, u32>, Error> {
    let panic = |code| {
        Error::host(Panic {
            code,
            function: function.to_string(),
        })
    };
    let Some(memory) = caller.data().memory else {
        return Err(panic(TEE_ERROR_BAD_STATE));
    };
    let (bytes, host) = memory.data_and_store_mut(&mut *caller);
    let result = body(&mut Ctx {
        mem: Mem(bytes),
        st: &mut host.gp,
    });
    let work = core::mem::take(&mut host.gp.work).saturating_add(CALL_FUEL);
    let fuel = caller.get_fuel()?;
    caller.set_fuel(fuel.saturating_sub(work))?;
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Fail::Code(code)) => Ok(Err(code)),
        Err(Fail::Panic(code)) => Err(panic(code)),
    }
}

/// Functions with a `TEE_Result`.
macro_rules! codes {
    ($linker:ident, $module:literal; $($name:literal = $body:expr, ($($arg:ident),*);)*) => {$(
        $linker.func_wrap(
            $module,
            $name,
            |mut caller: Caller<'_, Host>, $($arg: u32),*| -> Result<u32, Error> {
                let body = $body;
                let done: Result<(), u32> = enter(&mut caller, $name, |c| body(c, $($arg),*))?;
                Ok(done.map_or_else(|code| code, |()| 0))
            },
        )?;
    )*};
}

/// Functions without a result: an error code is a panic.
macro_rules! voids {
    ($linker:ident, $module:literal; $($name:literal = $body:expr, ($($arg:ident),*);)*) => {$(
        $linker.func_wrap(
            $module,
            $name,
            |mut caller: Caller<'_, Host>, $($arg: u32),*| -> Result<(), Error> {
                let body = $body;
                let done: Result<(), u32> = enter(&mut caller, $name, |c| body(c, $($arg),*))?;
                done.map_err(|code| Error::host(Panic { code, function: $name.to_string() }))
            },
        )?;
    )*};
}

/// Functions that answer a C `bool`.
macro_rules! flags {
    ($linker:ident, $module:literal; $($name:literal = $body:expr;)*) => {$(
        $linker.func_wrap(
            $module,
            $name,
            |mut caller: Caller<'_, Host>| -> Result<u32, Error> {
                let done: Result<u32, u32> = enter(&mut caller, $name, $body)?;
                done.map_err(|code| Error::host(Panic { code, function: $name.to_string() }))
            },
        )?;
    )*};
}

/// Defines all imports.
///
/// # Errors
/// Only if a name is defined twice.
pub fn define(l: &mut Linker<Host>) -> Result<(), wasmi::errors::LinkerError> {
    properties_and_system(l)?;
    objects(l)?;
    operations(l)?;
    extensions(l)
}

fn properties_and_system(l: &mut Linker<Host>) -> Result<(), wasmi::errors::LinkerError> {
    codes! { l, "gp_tee_1";
        "TEE_GetPropertyAsString" = property::as_string, (set, name, buffer, len);
        "TEE_GetPropertyAsBool" = property::as_bool, (set, name, out);
        "TEE_GetPropertyAsU32" = property::as_u32, (set, name, out);
        "TEE_GetPropertyAsU64" = property::as_u64, (set, name, out);
        "TEE_GetPropertyAsBinaryBlock" = property::as_binary, (set, name, buffer, len);
        "TEE_GetPropertyAsUUID" = property::as_uuid, (set, name, out);
        "TEE_GetPropertyAsIdentity" = property::as_identity, (set, name, out);
        "TEE_AllocatePropertyEnumerator" = property::allocate_enumerator, (out);
        "TEE_GetPropertyName" = property::name, (enumerator, buffer, len);
        "TEE_GetNextProperty" = property::next, (enumerator);
        "TEE_OpenTASession" = client_api::open_ta_session,
            (destination, timeout, types, params, session, origin);
        "TEE_InvokeTACommand" = client_api::invoke_ta_command,
            (session, timeout, command, types, params, origin);
        "TEE_Wait" = time::wait, (timeout);
        "TEE_GetTAPersistentTime" = time::persistent_time, (out);
        "TEE_SetTAPersistentTime" = time::set_persistent_time, (time);
    }
    voids! { l, "gp_tee_1";
        "TEE_FreePropertyEnumerator" = property::free_enumerator, (enumerator);
        "TEE_StartPropertyEnumerator" = property::start_enumerator, (enumerator, set);
        "TEE_ResetPropertyEnumerator" = property::reset_enumerator, (enumerator);
        "TEE_Panic" = state::panic, (code);
        "TEE_CloseTASession" = client_api::close_ta_session, (session);
        "TEE_GetSystemTime" = time::system_time, (out);
        "TEE_GetREETime" = time::ree_time, (out);
        "TEE_GenerateRandom" = time::generate_random, (to, len);
    }
    flags! { l, "gp_tee_1";
        "TEE_GetCancellationFlag" = state::cancellation_flag;
        "TEE_UnmaskCancellation" = state::unmask_cancellation;
        "TEE_MaskCancellation" = state::mask_cancellation;
    }
    Ok(())
}

fn objects(l: &mut Linker<Host>) -> Result<(), wasmi::errors::LinkerError> {
    codes! { l, "gp_tee_1";
        "TEE_GetObjectInfo1" = object::get_object_info1, (object, info);
        "TEE_RestrictObjectUsage1" = object::restrict_object_usage1, (object, usage);
        "TEE_GetObjectBufferAttribute" = object::get_object_buffer_attribute,
            (object, id, buffer, size);
        "TEE_GetObjectValueAttribute" = object::get_object_value_attribute, (object, id, a, b);
        "TEE_AllocateTransientObject" = object::allocate_transient_object, (kind, max, out);
        "TEE_PopulateTransientObject" = object::populate_transient_object, (object, attrs, count);
        "TEE_CopyObjectAttributes1" = object::copy_object_attributes1, (to, from);
        "TEE_GenerateKey" = object::generate_key, (object, bits, params, count);
        "TEE_OpenPersistentObject" = persistent::open_persistent_object,
            (storage, id, id_len, flags, out);
        "TEE_CreatePersistentObject" = persistent::create_persistent_object,
            (storage, id, id_len, flags, attributes, data, data_len, out);
        "TEE_CloseAndDeletePersistentObject1" =
            persistent::close_and_delete_persistent_object1, (object);
        "TEE_RenamePersistentObject" = persistent::rename_persistent_object, (object, id, id_len);
        "TEE_AllocatePersistentObjectEnumerator" = persistent::allocate_enumerator, (out);
        "TEE_StartPersistentObjectEnumerator" = persistent::start_enumerator,
            (enumerator, storage);
        "TEE_GetNextPersistentObject" = persistent::get_next, (enumerator, info, id, id_len);
        "TEE_ReadObjectData" = persistent::read_object_data, (object, to, size, count);
        "TEE_WriteObjectData" = persistent::write_object_data, (object, from, size);
        "TEE_TruncateObjectData" = persistent::truncate_object_data, (object, size);
        "TEE_SeekObjectData" =
            |c: &mut Ctx<'_>, object, offset: u32, whence| {
                persistent::seek_object_data(c, object, offset.cast_signed(), whence)
            }, (object, offset, whence);
    }
    voids! { l, "gp_tee_1";
        "TEE_CloseObject" = object::close_object, (object);
        "TEE_FreeTransientObject" = object::free_transient_object, (object);
        "TEE_ResetTransientObject" = object::reset_transient_object, (object);
        "TEE_FreePersistentObjectEnumerator" = persistent::free_enumerator, (enumerator);
        "TEE_ResetPersistentObjectEnumerator" = persistent::reset_enumerator, (enumerator);
    }
    Ok(())
}

fn operations(l: &mut Linker<Host>) -> Result<(), wasmi::errors::LinkerError> {
    codes! { l, "gp_tee_1";
        "TEE_AllocateOperation" = operation::allocate_operation, (out, algorithm, mode, max);
        "TEE_GetOperationInfoMultiple" = operation::get_operation_info_multiple, (op, out, size);
        "TEE_SetOperationKey" = operation::set_operation_key, (op, key);
        "TEE_SetOperationKey2" = operation::set_operation_key2, (op, key1, key2);
        "TEE_IsAlgorithmSupported" = operation::is_algorithm_supported, (algorithm, element);
        "TEE_DigestDoFinal" = symmetric::digest_do_final, (op, ptr, len, hash, hash_len);
        "TEE_DigestExtract" = symmetric::digest_extract, (op, hash, hash_len);
        "TEE_CipherUpdate" = symmetric::cipher_update, (op, src, src_len, dest, dest_len);
        "TEE_CipherDoFinal" = symmetric::cipher_do_final, (op, src, src_len, dest, dest_len);
        "TEE_MACComputeFinal" = symmetric::mac_compute_final, (op, ptr, len, mac, mac_len);
        "TEE_MACCompareFinal" = symmetric::mac_compare_final, (op, ptr, len, mac, mac_len);
        "TEE_AEInit" = symmetric::ae_init,
            (op, nonce, nonce_len, tag_bits, aad_len, payload_len);
        "TEE_AEUpdate" = symmetric::ae_update, (op, src, src_len, dest, dest_len);
        "TEE_AEEncryptFinal" = symmetric::ae_encrypt_final,
            (op, src, src_len, dest, dest_len, tag, tag_len);
        "TEE_AEDecryptFinal" = symmetric::ae_decrypt_final,
            (op, src, src_len, dest, dest_len, tag, tag_len);
        "TEE_AsymmetricEncrypt" = asymmetric::asymmetric_cipher,
            (op, params, count, src, src_len, dest, dest_len);
        "TEE_AsymmetricDecrypt" = asymmetric::asymmetric_cipher,
            (op, params, count, src, src_len, dest, dest_len);
        "TEE_AsymmetricSignDigest" = asymmetric::asymmetric_sign_digest,
            (op, params, count, digest, digest_len, signature, signature_len);
        "TEE_AsymmetricVerifyDigest" = asymmetric::asymmetric_verify_digest,
            (op, params, count, digest, digest_len, signature, signature_len);
    }
    voids! { l, "gp_tee_1";
        "TEE_FreeOperation" = operation::free_operation, (op);
        "TEE_GetOperationInfo" = operation::get_operation_info, (op, out);
        "TEE_ResetOperation" = operation::reset_operation, (op);
        "TEE_CopyOperation" = operation::copy_operation, (to, from);
        "TEE_DigestUpdate" = symmetric::digest_update, (op, ptr, len);
        "TEE_CipherInit" = symmetric::cipher_init, (op, iv, iv_len);
        "TEE_MACInit" = symmetric::mac_init, (op, iv, iv_len);
        "TEE_MACUpdate" = symmetric::mac_update, (op, ptr, len);
        "TEE_AEUpdateAAD" = symmetric::ae_update_aad, (op, ptr, len);
        "TEE_DeriveKey" = asymmetric::derive_key, (op, params, count, derived);
    }
    Ok(())
}

fn extensions(l: &mut Linker<Host>) -> Result<(), wasmi::errors::LinkerError> {
    codes! { l, "tegata_1";
        "tegata_component" = extension::component, (kind, buffer, size);
        "tegata_evidence" = extension::evidence, (nonce, nonce_len, buffer, size);
        "tegata_position" = extension::position, (position);
        "tegata_ta_unique_key" = extension::ta_unique_key, (context, context_len, object);
    }
    voids! { l, "tegata_1";
        "tegata_log" = extension::log, (ptr, len);
    }
    Ok(())
}

/// Fuel of any import call, beside its work.
const CALL_FUEL: u64 = 100;
