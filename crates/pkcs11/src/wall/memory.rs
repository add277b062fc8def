//! Pointers of the caller, read and written.

use cryptoki_sys as ck;
use zeroize::Zeroizing;

use crate::module::{Output, Room};
use crate::object::Template;
use crate::operation::{Mechanism, Parameter};
use crate::rv::{Result, rv, ulong};

/// Most attributes in a template.
const TEMPLATE_MAX: usize = 256;
/// Most bytes in the parameter of a mechanism.
const PARAMETER_LEN_BYTES_MAX: usize = 1024;

pub(super) fn len(number: ck::CK_ULONG) -> Result<usize> {
    let len = usize::try_from(number).map_err(|_| rv!(CKR_ARGUMENTS_BAD))?;
    // No object is larger; also what "not available" would be as a length.
    isize::try_from(len).map_err(|_| rv!(CKR_ARGUMENTS_BAD))?;
    Ok(len)
}

/// Bytes that the caller gives.
///
/// # Safety
/// `data` is null or has `count` bytes for as long as `'a`.
pub(super) unsafe fn bytes<'a>(data: *const u8, count: ck::CK_ULONG) -> Result<&'a [u8]> {
    let count = len(count)?;
    if count == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(rv!(CKR_ARGUMENTS_BAD));
    }
    // SAFETY: not null; the caller says that so many bytes are there.
    Ok(unsafe { std::slice::from_raw_parts(data, count) })
}

/// Writes one value.
///
/// # Safety
/// `out` is null or may be written.
pub(super) unsafe fn put<T>(out: *mut T, value: T) -> Result<()> {
    if out.is_null() {
        return Err(rv!(CKR_ARGUMENTS_BAD));
    }
    // SAFETY: not null; the caller says that it may be written. It may lie anywhere.
    unsafe { out.write_unaligned(value) };
    Ok(())
}

/// Reads one value.
///
/// # Safety
/// `from` is null or may be read as a `T`.
pub(super) unsafe fn get<T: Copy>(from: *const T) -> Result<T> {
    if from.is_null() {
        return Err(rv!(CKR_ARGUMENTS_BAD));
    }
    // SAFETY: not null; the caller says that it is there.
    Ok(unsafe { from.read_unaligned() })
}

/// Gives a list: its length only if `out` is null, `CKR_BUFFER_TOO_SMALL` if there is no room.
///
/// # Safety
/// `count` is null or may be read and written; `out` is null or has room for `*count` values.
pub(super) unsafe fn list<T: Copy>(
    values: &[T],
    out: *mut T,
    count: *mut ck::CK_ULONG,
) -> Result<()> {
    // SAFETY: as this function's.
    let room = unsafe { get(count) }?;
    // SAFETY: as this function's.
    unsafe { put(count, ulong(values.len())) }?;
    if out.is_null() {
        return Ok(());
    }
    if len(room)? < values.len() {
        return Err(rv!(CKR_BUFFER_TOO_SMALL));
    }
    // SAFETY: there is room for `room` values, which is not less.
    unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), out, values.len()) };
    Ok(())
}

/// The room of a caller: none if it asks for the length.
///
/// # Safety
/// `count` is null or may be read.
pub(super) unsafe fn room(out: *mut u8, count: *mut ck::CK_ULONG) -> Result<Room> {
    // SAFETY: as this function's.
    let count = unsafe { get(count) }?;
    Ok(if out.is_null() {
        Room::Query
    } else {
        Room::Bytes(usize::try_from(count).unwrap_or(usize::MAX))
    })
}

/// Gives a result.
///
/// # Safety
/// `out` has the room that [`room`] found, `count` may be written.
pub(super) unsafe fn give(output: &Output, out: *mut u8, count: *mut ck::CK_ULONG) -> Result<()> {
    let needed = match output {
        Output::Length(len) | Output::TooSmall(len) => *len,
        Output::Bytes(bytes) => bytes.len(),
    };
    // SAFETY: as this function's.
    unsafe { put(count, ulong(needed)) }?;
    match output {
        Output::Length(_) => Ok(()),
        Output::TooSmall(_) => Err(rv!(CKR_BUFFER_TOO_SMALL)),
        Output::Bytes(bytes) => {
            // SAFETY: the operation made sure that there is room for the result.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), out, bytes.len()) };
            Ok(())
        }
    }
}

/// A template, copied.
///
/// # Safety
/// `first` is null or points to `count` attributes, each with its value.
pub(super) unsafe fn template(
    first: *const ck::CK_ATTRIBUTE,
    count: ck::CK_ULONG,
) -> Result<Template> {
    let count = len(count)?;
    if count == 0 {
        return Ok(Template::new());
    }
    if first.is_null() || count > TEMPLATE_MAX {
        return Err(rv!(CKR_ARGUMENTS_BAD));
    }
    let mut out = Template::with_capacity(count);
    for index in 0..count {
        // SAFETY: there are `count` attributes.
        let attribute = unsafe { get(first.add(index)) }?;
        // SAFETY: its value has the length it says.
        let value = unsafe { bytes(attribute.pValue.cast(), attribute.ulValueLen) };
        let value = value.map_err(|_| rv!(CKR_ATTRIBUTE_VALUE_INVALID))?;
        out.push((attribute.type_, Zeroizing::new(value.to_vec())));
    }
    Ok(out)
}

/// A mechanism with its parameter, copied; `None` if the pointer is null.
///
/// # Safety
/// `from` is null or a mechanism whose parameter is what its type says.
pub(super) unsafe fn mechanism(from: *const ck::CK_MECHANISM) -> Result<Option<Mechanism>> {
    if from.is_null() {
        return Ok(None);
    }
    // SAFETY: not null.
    let given = unsafe { get(from) }?;
    let kind = given.mechanism;
    let size = len(given.ulParameterLen)?;
    let pointer = given.pParameter;
    let parameter = if size == 0 {
        Parameter::None
    } else if pointer.is_null() {
        Parameter::Unknown
    } else if kind == ck::CKM_EDDSA && size == size_of::<ck::CK_EDDSA_PARAMS>() {
        // SAFETY: not null, and of this size.
        let params = unsafe { get(pointer.cast::<ck::CK_EDDSA_PARAMS>()) }?;
        Parameter::Eddsa {
            prehash: params.phFlag != ck::CK_FALSE,
            context: params.ulContextDataLen != 0,
        }
    } else if kind == ck::CKM_ECDH1_DERIVE && size == size_of::<ck::CK_ECDH1_DERIVE_PARAMS>() {
        // SAFETY: not null, and of this size.
        let params = unsafe { get(pointer.cast::<ck::CK_ECDH1_DERIVE_PARAMS>()) }?;
        if len(params.ulPublicDataLen)? > PARAMETER_LEN_BYTES_MAX {
            return Err(rv!(CKR_MECHANISM_PARAM_INVALID));
        }
        // SAFETY: the public data has the length it says.
        let public = unsafe { bytes(params.pPublicData, params.ulPublicDataLen) };
        Parameter::Ecdh {
            kdf: params.kdf,
            shared_data: params.ulSharedDataLen != 0,
            public: public
                .map_err(|_| rv!(CKR_MECHANISM_PARAM_INVALID))?
                .to_vec(),
        }
    } else {
        Parameter::Unknown
    };
    Ok(Some(Mechanism { kind, parameter }))
}

/// A text in a field of fixed length, filled up with blanks; cut between characters.
pub(super) fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut end = text.len().min(N);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let mut out = [b' '; N];
    for (to, from) in out.iter_mut().zip(text.as_bytes().iter().take(end)) {
        *to = *from;
    }
    out
}
