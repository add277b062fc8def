//! The imports as they are: modules `gp_tee_1` and `tegata_1`. Use the wrappers.
#![allow(unsafe_code)] // The wall to the TEE.
#![allow(non_snake_case, missing_docs)] // GP's own names; the standard is their documentation.

/// `TEE_Attribute`: a buffer (address, length) or a value (a, b).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TEE_Attribute {
    pub attributeID: u32,
    pub a: u32,
    pub b: u32,
}

/// `TEE_Param`: a buffer (address, size) or a value (a, b).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TEE_Param {
    pub a: u32,
    pub b: u32,
}

#[link(wasm_import_module = "gp_tee_1")]
unsafe extern "C" {
    pub fn TEE_GetPropertyAsString(set: u32, name: *const u8, value: *mut u8, len: *mut u32)
    -> u32;
    pub fn TEE_GetPropertyAsBool(set: u32, name: *const u8, value: *mut u8) -> u32;
    pub fn TEE_GetPropertyAsU32(set: u32, name: *const u8, value: *mut u32) -> u32;
    pub fn TEE_GetPropertyAsU64(set: u32, name: *const u8, value: *mut u64) -> u32;
    pub fn TEE_GetPropertyAsBinaryBlock(
        set: u32,
        name: *const u8,
        value: *mut u8,
        len: *mut u32,
    ) -> u32;
    pub fn TEE_GetPropertyAsUUID(set: u32, name: *const u8, value: *mut u8) -> u32;
    pub fn TEE_GetPropertyAsIdentity(set: u32, name: *const u8, value: *mut u8) -> u32;
    pub fn TEE_AllocatePropertyEnumerator(enumerator: *mut u32) -> u32;
    pub fn TEE_FreePropertyEnumerator(enumerator: u32);
    pub fn TEE_StartPropertyEnumerator(enumerator: u32, set: u32);
    pub fn TEE_ResetPropertyEnumerator(enumerator: u32);
    pub fn TEE_GetPropertyName(enumerator: u32, name: *mut u8, len: *mut u32) -> u32;
    pub fn TEE_GetNextProperty(enumerator: u32) -> u32;
    pub fn TEE_Panic(code: u32);
    pub fn TEE_OpenTASession(
        destination: *const u8,
        timeout: u32,
        types: u32,
        params: *mut TEE_Param,
        session: *mut u32,
        origin: *mut u32,
    ) -> u32;
    pub fn TEE_CloseTASession(session: u32);
    pub fn TEE_InvokeTACommand(
        session: u32,
        timeout: u32,
        command: u32,
        types: u32,
        params: *mut TEE_Param,
        origin: *mut u32,
    ) -> u32;
    pub fn TEE_GetCancellationFlag() -> u32;
    pub fn TEE_UnmaskCancellation() -> u32;
    pub fn TEE_MaskCancellation() -> u32;
    pub fn TEE_GetObjectInfo1(object: u32, info: *mut u32) -> u32;
    pub fn TEE_RestrictObjectUsage1(object: u32, usage: u32) -> u32;
    pub fn TEE_GetObjectBufferAttribute(object: u32, id: u32, buf: *mut u8, len: *mut u32) -> u32;
    pub fn TEE_GetObjectValueAttribute(object: u32, id: u32, a: *mut u32, b: *mut u32) -> u32;
    pub fn TEE_CloseObject(object: u32);
    pub fn TEE_AllocateTransientObject(kind: u32, max_bits: u32, object: *mut u32) -> u32;
    pub fn TEE_FreeTransientObject(object: u32);
    pub fn TEE_ResetTransientObject(object: u32);
    pub fn TEE_PopulateTransientObject(object: u32, attrs: *const TEE_Attribute, n: u32) -> u32;
    pub fn TEE_CopyObjectAttributes1(to: u32, from: u32) -> u32;
    pub fn TEE_GenerateKey(object: u32, bits: u32, params: *const TEE_Attribute, n: u32) -> u32;
    pub fn TEE_OpenPersistentObject(
        storage: u32,
        id: *const u8,
        id_len: u32,
        flags: u32,
        object: *mut u32,
    ) -> u32;
    pub fn TEE_CreatePersistentObject(
        storage: u32,
        id: *const u8,
        id_len: u32,
        flags: u32,
        attributes: u32,
        data: *const u8,
        data_len: u32,
        object: *mut u32,
    ) -> u32;
    pub fn TEE_CloseAndDeletePersistentObject1(object: u32) -> u32;
    pub fn TEE_RenamePersistentObject(object: u32, id: *const u8, id_len: u32) -> u32;
    pub fn TEE_AllocatePersistentObjectEnumerator(enumerator: *mut u32) -> u32;
    pub fn TEE_FreePersistentObjectEnumerator(enumerator: u32);
    pub fn TEE_ResetPersistentObjectEnumerator(enumerator: u32);
    pub fn TEE_StartPersistentObjectEnumerator(enumerator: u32, storage: u32) -> u32;
    pub fn TEE_GetNextPersistentObject(
        enumerator: u32,
        info: *mut u32,
        id: *mut u8,
        id_len: *mut u32,
    ) -> u32;
    pub fn TEE_ReadObjectData(object: u32, buffer: *mut u8, size: u32, count: *mut u32) -> u32;
    pub fn TEE_WriteObjectData(object: u32, buffer: *const u8, size: u32) -> u32;
    pub fn TEE_TruncateObjectData(object: u32, size: u32) -> u32;
    pub fn TEE_SeekObjectData(object: u32, offset: i32, whence: u32) -> u32;
    pub fn TEE_AllocateOperation(op: *mut u32, algorithm: u32, mode: u32, max_bits: u32) -> u32;
    pub fn TEE_FreeOperation(op: u32);
    pub fn TEE_GetOperationInfo(op: u32, info: *mut u32);
    pub fn TEE_ResetOperation(op: u32);
    pub fn TEE_SetOperationKey(op: u32, key: u32) -> u32;
    pub fn TEE_CopyOperation(to: u32, from: u32);
    pub fn TEE_IsAlgorithmSupported(algorithm: u32, element: u32) -> u32;
    pub fn TEE_DigestUpdate(op: u32, chunk: *const u8, len: u32);
    pub fn TEE_DigestDoFinal(
        op: u32,
        chunk: *const u8,
        len: u32,
        hash: *mut u8,
        hash_len: *mut u32,
    ) -> u32;
    pub fn TEE_CipherInit(op: u32, iv: *const u8, iv_len: u32);
    pub fn TEE_CipherUpdate(op: u32, src: *const u8, n: u32, dst: *mut u8, len: *mut u32) -> u32;
    pub fn TEE_CipherDoFinal(op: u32, src: *const u8, n: u32, dst: *mut u8, len: *mut u32) -> u32;
    pub fn TEE_MACInit(op: u32, iv: *const u8, iv_len: u32);
    pub fn TEE_MACUpdate(op: u32, chunk: *const u8, len: u32);
    pub fn TEE_MACComputeFinal(op: u32, msg: *const u8, n: u32, mac: *mut u8, len: *mut u32)
    -> u32;
    pub fn TEE_MACCompareFinal(op: u32, msg: *const u8, n: u32, mac: *const u8, len: u32) -> u32;
    pub fn TEE_AEInit(
        op: u32,
        nonce: *const u8,
        nonce_len: u32,
        tag_bits: u32,
        aad_len: u32,
        payload_len: u32,
    ) -> u32;
    pub fn TEE_AEUpdateAAD(op: u32, aad: *const u8, len: u32);
    pub fn TEE_AEEncryptFinal(
        op: u32,
        src: *const u8,
        src_len: u32,
        dst: *mut u8,
        dst_len: *mut u32,
        tag: *mut u8,
        tag_len: *mut u32,
    ) -> u32;
    pub fn TEE_AEDecryptFinal(
        op: u32,
        src: *const u8,
        src_len: u32,
        dst: *mut u8,
        dst_len: *mut u32,
        tag: *const u8,
        tag_len: u32,
    ) -> u32;
    pub fn TEE_AsymmetricSignDigest(
        op: u32,
        params: *const TEE_Attribute,
        n: u32,
        digest: *const u8,
        digest_len: u32,
        signature: *mut u8,
        signature_len: *mut u32,
    ) -> u32;
    pub fn TEE_AsymmetricVerifyDigest(
        op: u32,
        params: *const TEE_Attribute,
        n: u32,
        digest: *const u8,
        digest_len: u32,
        signature: *const u8,
        signature_len: u32,
    ) -> u32;
    pub fn TEE_DeriveKey(op: u32, params: *const TEE_Attribute, n: u32, derived: u32);
    pub fn TEE_GenerateRandom(buffer: *mut u8, len: u32);
    pub fn TEE_GetSystemTime(time: *mut u32);
    pub fn TEE_GetREETime(time: *mut u32);
    pub fn TEE_GetTAPersistentTime(time: *mut u32) -> u32;
    pub fn TEE_SetTAPersistentTime(time: *const u32) -> u32;
    pub fn TEE_Wait(timeout_ms: u32) -> u32;
}

#[link(wasm_import_module = "tegata_1")]
unsafe extern "C" {
    pub fn tegata_component(kind: u32, buffer: *mut u8, size: *mut u32) -> u32;
    pub fn tegata_evidence(nonce: *const u8, len: u32, buffer: *mut u8, size: *mut u32) -> u32;
    pub fn tegata_position(position: *mut u32) -> u32;
    pub fn tegata_ta_unique_key(context: *const u8, len: u32, object: u32) -> u32;
    pub fn tegata_log(text: *const u8, len: u32);
}

/// A length as the imports take it. Linear memory is 32 bits wide, so it always fits.
#[must_use]
pub fn len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// A buffer attribute over `bytes`, which must live until the call that uses it.
#[must_use]
pub fn buffer(id: u32, bytes: &[u8]) -> TEE_Attribute {
    // Wasm addresses are 32 bits wide.
    let address = u32::try_from(bytes.as_ptr().addr()).unwrap_or(u32::MAX);
    TEE_Attribute {
        attributeID: id,
        a: address,
        b: len(bytes),
    }
}

/// A value attribute.
#[must_use]
pub const fn value(id: u32, a: u32) -> TEE_Attribute {
    TEE_Attribute {
        attributeID: id,
        a,
        b: 0,
    }
}

/// Calls `fill` with a buffer, and again with the size it asks for if that was too small.
///
/// # Errors
/// What `fill` returns.
pub fn sized(
    first: usize,
    mut fill: impl FnMut(*mut u8, *mut u32) -> u32,
) -> crate::Result<alloc::vec::Vec<u8>> {
    let mut out = alloc::vec![0u8; first];
    for _ in 0..2 {
        let mut size = len(&out);
        let code = fill(out.as_mut_ptr(), &raw mut size);
        let needed = usize::try_from(size).unwrap_or(usize::MAX);
        match code {
            crate::consts::TEE_ERROR_SHORT_BUFFER if needed > out.len() => out.resize(needed, 0),
            _ => {
                crate::error::check(code)?;
                out.truncate(needed);
                return Ok(out);
            }
        }
    }
    Err(crate::Error(crate::consts::TEE_ERROR_SHORT_BUFFER))
}
