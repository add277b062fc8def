//! Persistent objects, their enumeration and their data streams.
//!
//! Spec: TEE Internal Core API 1.3.1 sections 5.7 to 5.9.
//!
//! Invariants: an object is stored whole (attributes and data together) in one atomic write, so a
//! crash leaves the old object or the new one; the host keeps the share rules between instances.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tegata_wire::cbor;
use zeroize::Zeroizing;

use super::consts::*;
use super::fail::{Fail, Res, code, panic_with};
use super::host::{OBJECT_LEN_BYTES_MAX, SecretBytes};
use super::object::{Attributes, Object, ObjectEnumerator, Stored, rule};
use super::state::{Ctx, GpState};

/// A persistent object at rest (under the encryption of trusted storage).
#[derive(Serialize, Deserialize)]
struct ObjectFile {
    version: u8,
    object_type: u32,
    max_size_bits: u32,
    size_bits: u32,
    usage: u32,
    attributes: Vec<(u32, super::object::Attribute)>,
    data: SecretBytes,
}

const FILE_VERSION: u8 = 1;

fn encode(object: &Object, data: &[u8]) -> Res<Zeroizing<Vec<u8>>> {
    let file = ObjectFile {
        version: FILE_VERSION,
        object_type: object.object_type,
        max_size_bits: object.max_size_bits,
        size_bits: object.size_bits,
        usage: object.usage,
        attributes: object
            .attributes
            .iter()
            .map(|(id, a)| (*id, a.clone()))
            .collect(),
        data: SecretBytes::new(data.to_vec()),
    };
    let bytes = cbor::to_vec(&file).map_err(|_| Fail::Panic(TEE_ERROR_GENERIC))?;
    if bytes.len() > OBJECT_LEN_BYTES_MAX {
        return code(TEE_ERROR_STORAGE_NO_SPACE);
    }
    Ok(Zeroizing::new(bytes))
}

fn decode(bytes: &[u8]) -> Option<(Object, Zeroizing<Vec<u8>>)> {
    let file: ObjectFile = cbor::from_slice(bytes).ok()?;
    let known = file.object_type == TEE_TYPE_DATA || rule(file.object_type).is_some();
    if file.version != FILE_VERSION || !known {
        return None;
    }
    let attributes: Attributes = file.attributes.into_iter().collect();
    let object = Object {
        object_type: file.object_type,
        max_size_bits: file.max_size_bits,
        size_bits: file.size_bits,
        usage: file.usage,
        initialized: true,
        attributes,
        stored: None,
    };
    Some((object, file.data.0))
}

/// Takes usages away from an open object, in storage too. What is stored there is the object that
/// counts: another handle may have restricted or written it since this one was opened.
pub(super) fn restrict(st: &mut GpState, handle: u32, usage: u32) -> Res {
    let Some(stored) = &st.objects.get(handle)?.stored else {
        return panic_with(TEE_ERROR_BAD_STATE);
    };
    let token = stored.token;
    let content = Zeroizing::new(st.services.object_read(token)?);
    let Some((mut kept, data)) = decode(&content) else {
        return code(TEE_ERROR_CORRUPT_OBJECT);
    };
    kept.usage &= usage;
    let bytes = encode(&kept, &data)?;
    st.services.object_write(token, &bytes)?;
    let object = st.objects.get_mut(handle)?;
    object.usage &= kept.usage;
    Ok(())
}

fn object_id(c: &Ctx<'_>, ptr: u32, len: u32) -> Res<Vec<u8>> {
    if len > TEE_OBJECT_ID_MAX_LEN {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    Ok(c.mem.bytes(ptr, len)?.to_vec())
}

const ACCESS: u32 = TEE_DATA_FLAG_ACCESS_READ
    | TEE_DATA_FLAG_ACCESS_WRITE
    | TEE_DATA_FLAG_ACCESS_WRITE_META
    | TEE_DATA_FLAG_SHARE_READ
    | TEE_DATA_FLAG_SHARE_WRITE;

/// `TEE_OpenPersistentObject`.
pub fn open_persistent_object(
    c: &mut Ctx<'_>,
    storage: u32,
    id: u32,
    id_len: u32,
    flags: u32,
    out: u32,
) -> Res {
    c.mem.put_u32(out, TEE_HANDLE_NULL)?;
    let id = object_id(c, id, id_len)?;
    if flags & !ACCESS != 0 {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    if storage != TEE_STORAGE_PRIVATE {
        return code(TEE_ERROR_ITEM_NOT_FOUND);
    }
    let (token, content) = c.st.services.object_open(&id, flags)?;
    let content = Zeroizing::new(content);
    let Some((mut object, data)) = decode(&content) else {
        // Authentic but not ours to read: GP says a corrupt object is deleted.
        let _ = c.st.services.object_delete(token);
        return code(TEE_ERROR_CORRUPT_OBJECT);
    };
    object.stored = Some(Stored {
        token,
        id,
        flags,
        data,
        position: 0,
    });
    insert(c, object, token, out)
}

fn insert(c: &mut Ctx<'_>, object: Object, token: super::host::ObjectToken, out: u32) -> Res {
    match c.st.objects.insert(object) {
        Ok(handle) => c.mem.put_u32(out, handle),
        Err(fail) => {
            c.st.services.object_close(token);
            Err(fail)
        }
    }
}

/// `TEE_CreatePersistentObject`.
#[allow(clippy::too_many_arguments)] // The standard's own signature.
pub fn create_persistent_object(
    c: &mut Ctx<'_>,
    storage: u32,
    id: u32,
    id_len: u32,
    flags: u32,
    attributes: u32,
    data: u32,
    data_len: u32,
    out: u32,
) -> Res {
    if out != 0 {
        c.mem.put_u32(out, TEE_HANDLE_NULL)?;
    }
    let id = object_id(c, id, id_len)?;
    if flags & !(ACCESS | TEE_DATA_FLAG_OVERWRITE) != 0 {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    if storage != TEE_STORAGE_PRIVATE {
        return code(TEE_ERROR_ITEM_NOT_FOUND);
    }
    let data = c.mem.copy(data, data_len)?;
    let mut object = if attributes == TEE_HANDLE_NULL {
        Object {
            object_type: TEE_TYPE_DATA,
            max_size_bits: 0,
            size_bits: 0,
            usage: u32::MAX,
            initialized: true,
            attributes: Attributes::new(),
            stored: None,
        }
    } else {
        let source = c.st.key_object(attributes)?;
        Object {
            object_type: source.object_type,
            max_size_bits: source.max_size_bits,
            size_bits: source.size_bits,
            usage: source.usage,
            initialized: true,
            attributes: source.attributes.clone(),
            stored: None,
        }
    };
    c.st.charge_bytes(data_len);
    let content = encode(&object, &data)?;
    let token = c.st.services.object_create(&id, flags, &content)?;
    if out == 0 {
        c.st.services.object_close(token);
        return Ok(());
    }
    let flags = flags & ACCESS;
    object.stored = Some(Stored {
        token,
        id,
        flags,
        data,
        position: 0,
    });
    insert(c, object, token, out)
}

fn stored_with(object: &mut Object, access: u32) -> Res<&mut Stored> {
    match &mut object.stored {
        Some(stored) if stored.flags & access == access => Ok(stored),
        Some(_) => panic_with(TEE_ERROR_ACCESS_DENIED),
        None => panic_with(TEE_ERROR_BAD_STATE),
    }
}

/// `TEE_CloseAndDeletePersistentObject1`.
pub fn close_and_delete_persistent_object1(c: &mut Ctx<'_>, object: u32) -> Res {
    if object == TEE_HANDLE_NULL {
        return Ok(());
    }
    let slot = c.st.objects.get_mut(object)?;
    let token = stored_with(slot, TEE_DATA_FLAG_ACCESS_WRITE_META)?.token;
    c.st.objects.remove(object)?;
    c.st.services.object_delete(token)?;
    Ok(())
}

/// `TEE_RenamePersistentObject`.
pub fn rename_persistent_object(c: &mut Ctx<'_>, object: u32, id: u32, id_len: u32) -> Res {
    let new_id = object_id(c, id, id_len)?;
    let slot = c.st.objects.get_mut(object)?;
    let stored = stored_with(slot, TEE_DATA_FLAG_ACCESS_WRITE_META)?;
    let token = stored.token;
    c.st.services.object_rename(token, &new_id)?;
    if let Some(stored) = &mut c.st.objects.get_mut(object)?.stored {
        stored.id = new_id;
    }
    Ok(())
}

/// Takes over what another handle wrote meanwhile, where the share flags allow others to write.
fn refresh(c: &mut Ctx<'_>, object: u32) -> Res {
    let Some(stored) = &c.st.objects.get(object)?.stored else {
        return panic_with(TEE_ERROR_BAD_STATE);
    };
    if stored.flags & TEE_DATA_FLAG_SHARE_WRITE == 0 {
        return Ok(());
    }
    let content = Zeroizing::new(c.st.services.object_read(stored.token)?);
    let Some((fresh, data)) = decode(&content) else {
        return code(TEE_ERROR_CORRUPT_OBJECT);
    };
    let slot = c.st.objects.get_mut(object)?;
    slot.usage &= fresh.usage;
    if let Some(stored) = &mut slot.stored {
        stored.data = data;
    }
    Ok(())
}

/// `TEE_ReadObjectData`.
pub fn read_object_data(c: &mut Ctx<'_>, object: u32, to: u32, size: u32, count: u32) -> Res {
    refresh(c, object)?;
    let stored = stored_with(c.st.objects.get_mut(object)?, TEE_DATA_FLAG_ACCESS_READ)?;
    let start = usize::try_from(stored.position)
        .unwrap_or(usize::MAX)
        .min(stored.data.len());
    let rest = stored.data.get(start..).unwrap_or(&[]);
    let len = rest.len().min(usize::try_from(size).unwrap_or(usize::MAX));
    let part = Zeroizing::new(rest.get(..len).unwrap_or(&[]).to_vec());
    let read = u32::try_from(len).unwrap_or(u32::MAX);
    stored.position = stored.position.saturating_add(read);
    // The whole of the buffer must be the TA's, not only the part that is filled.
    c.mem.bytes(to, size)?;
    c.mem.write(to, &part)?;
    c.mem.put_u32(count, read)
}

/// `TEE_WriteObjectData`.
pub fn write_object_data(c: &mut Ctx<'_>, object: u32, from: u32, size: u32) -> Res {
    refresh(c, object)?;
    let bytes = c.mem.copy(from, size)?;
    let stored = stored_with(c.st.objects.get_mut(object)?, TEE_DATA_FLAG_ACCESS_WRITE)?;
    let Some(end) = stored.position.checked_add(size) else {
        return code(TEE_ERROR_OVERFLOW);
    };
    let position = usize::try_from(stored.position).map_err(|_| Fail::Code(TEE_ERROR_OVERFLOW))?;
    let end_at = usize::try_from(end).map_err(|_| Fail::Code(TEE_ERROR_OVERFLOW))?;
    if end_at > OBJECT_LEN_BYTES_MAX {
        return code(TEE_ERROR_STORAGE_NO_SPACE);
    }
    let mut data = stored.data.clone();
    if data.len() < end_at {
        data.resize(end_at, 0);
    }
    if let Some(part) = data.get_mut(position..end_at) {
        part.copy_from_slice(&bytes);
    }
    commit(c, object, data, end)
}

/// Replaces the data stream: stored first, then seen.
fn commit(c: &mut Ctx<'_>, object: u32, data: Zeroizing<Vec<u8>>, position: u32) -> Res {
    c.st.charge_bytes(u32::try_from(data.len()).unwrap_or(u32::MAX));
    let slot = c.st.objects.get(object)?;
    let Some(stored) = &slot.stored else {
        return panic_with(TEE_ERROR_BAD_STATE);
    };
    let (token, content) = (stored.token, encode(slot, &data)?);
    c.st.services.object_write(token, &content)?;
    if let Some(stored) = &mut c.st.objects.get_mut(object)?.stored {
        stored.data = data;
        stored.position = position;
    }
    Ok(())
}

/// `TEE_TruncateObjectData`.
pub fn truncate_object_data(c: &mut Ctx<'_>, object: u32, size: u32) -> Res {
    refresh(c, object)?;
    let stored = stored_with(c.st.objects.get_mut(object)?, TEE_DATA_FLAG_ACCESS_WRITE)?;
    let len = usize::try_from(size).map_err(|_| Fail::Code(TEE_ERROR_STORAGE_NO_SPACE))?;
    if len > OBJECT_LEN_BYTES_MAX {
        return code(TEE_ERROR_STORAGE_NO_SPACE);
    }
    let position = stored.position;
    let mut data = stored.data.clone();
    data.resize(len, 0);
    commit(c, object, data, position)
}

/// `TEE_SeekObjectData`.
pub fn seek_object_data(c: &mut Ctx<'_>, object: u32, offset: i32, whence: u32) -> Res {
    let Some(stored) = &mut c.st.objects.get_mut(object)?.stored else {
        return panic_with(TEE_ERROR_BAD_STATE);
    };
    let base = match whence {
        TEE_DATA_SEEK_SET => 0,
        TEE_DATA_SEEK_CUR => i64::from(stored.position),
        TEE_DATA_SEEK_END => i64::try_from(stored.data.len()).unwrap_or(i64::MAX),
        _ => return panic_with(TEE_ERROR_BAD_PARAMETERS),
    };
    // Below 0 GP stops at 0; above TEE_DATA_MAX_POSITION it is an error.
    match u32::try_from(base.saturating_add(i64::from(offset)).max(0)) {
        Ok(position) => {
            stored.position = position;
            Ok(())
        }
        Err(_) => code(TEE_ERROR_OVERFLOW),
    }
}

/// `TEE_AllocatePersistentObjectEnumerator`.
pub fn allocate_enumerator(c: &mut Ctx<'_>, out: u32) -> Res {
    let handle =
        c.st.object_enumerators
            .insert(ObjectEnumerator::default())?;
    c.mem.put_u32(out, handle)
}

/// `TEE_FreePersistentObjectEnumerator`.
pub fn free_enumerator(c: &mut Ctx<'_>, handle: u32) -> Res {
    if handle == TEE_HANDLE_NULL {
        return Ok(());
    }
    c.st.object_enumerators.remove(handle).map(drop)
}

/// `TEE_ResetPersistentObjectEnumerator`.
pub fn reset_enumerator(c: &mut Ctx<'_>, handle: u32) -> Res {
    if handle == TEE_HANDLE_NULL {
        return Ok(());
    }
    *c.st.object_enumerators.get_mut(handle)? = ObjectEnumerator::default();
    Ok(())
}

/// `TEE_StartPersistentObjectEnumerator`.
pub fn start_enumerator(c: &mut Ctx<'_>, handle: u32, storage: u32) -> Res {
    c.st.object_enumerators.get(handle)?;
    if storage != TEE_STORAGE_PRIVATE {
        return code(TEE_ERROR_ITEM_NOT_FOUND);
    }
    let ids = c.st.services.object_list()?;
    let empty = ids.is_empty();
    *c.st.object_enumerators.get_mut(handle)? = ObjectEnumerator {
        ids: Some(ids),
        next: 0,
    };
    if empty {
        code(TEE_ERROR_ITEM_NOT_FOUND)
    } else {
        Ok(())
    }
}

/// `TEE_GetNextPersistentObject`.
pub fn get_next(c: &mut Ctx<'_>, handle: u32, info: u32, id: u32, id_len: u32) -> Res {
    loop {
        let enumerator = c.st.object_enumerators.get_mut(handle)?;
        let Some(ids) = &enumerator.ids else {
            return code(TEE_ERROR_ITEM_NOT_FOUND);
        };
        let Some(next) = ids.get(enumerator.next).cloned() else {
            return code(TEE_ERROR_ITEM_NOT_FOUND);
        };
        enumerator.next = enumerator.next.saturating_add(1);
        if info != 0 {
            let Some(words) = peek_info(c.st, &next) else {
                continue; // deleted since the enumeration began
            };
            c.mem.put_words(info, &words)?;
        }
        let len = u32::try_from(next.len()).unwrap_or(u32::MAX);
        c.mem.write(id, &next)?;
        return c.mem.put_u32(id_len, len);
    }
}

fn peek_info(st: &mut GpState, id: &[u8]) -> Option<[u32; 7]> {
    // An object this instance holds open is described by its handle.
    let open = st
        .objects
        .values()
        .find(|o| o.stored.as_ref().is_some_and(|s| s.id == id));
    if let Some(open) = open {
        let mut words = open.info();
        mask_enumerated(&mut words);
        return Some(words);
    }
    // Without any access right: an enumeration disturbs nobody.
    let (token, content) = st.services.object_open(id, 0).ok()?;
    let content = Zeroizing::new(content);
    st.services.object_close(token);
    let (object, data) = decode(&content)?;
    let mut words = object.info();
    if let Some(slot) = words.get_mut(4) {
        *slot = u32::try_from(data.len()).unwrap_or(u32::MAX);
    }
    mask_enumerated(&mut words);
    Some(words)
}

/// In an enumeration the position is 0 and the flags say only what kind of handle would come.
fn mask_enumerated(words: &mut [u32; 7]) {
    let [.., position, flags] = words;
    *position = 0;
    *flags = TEE_HANDLE_FLAG_PERSISTENT | TEE_HANDLE_FLAG_INITIALIZED;
}
