//! The functions that do something: pointers in, the safe part, pointers out.
//!
//! Contract of every function here: its pointers are null or valid for what PKCS#11 says is there.
#![allow(non_snake_case, clippy::missing_safety_doc)] // Names and contract of the specification.

use cryptoki_sys as ck;
use std::ffi::c_void;

use super::memory::{bytes, get, give, list, mechanism, padded, put, room, template};
use super::{enter, environment, module, module_to_initialize};
use crate::module::{Doing, Module, SESSIONS_MAX};
use crate::object::is_unavailable;
use crate::operation::MECHANISMS;
use crate::rv::{Result, rv, ulong};

type Session = ck::CK_SESSION_HANDLE;
type Handle = ck::CK_OBJECT_HANDLE;
type Bytes = *mut ck::CK_BYTE;
type Count = *mut ck::CK_ULONG;
type Len = ck::CK_ULONG;
type Rv = ck::CK_RV;

pub(super) unsafe extern "C" fn C_Initialize(args: *mut c_void) -> Rv {
    enter(|| {
        let mut threads = true;
        if !args.is_null() {
            // SAFETY: the contract; not null.
            let args = unsafe { get(args.cast::<ck::CK_C_INITIALIZE_ARGS>()) }?;
            let given = [
                args.CreateMutex.is_some(),
                args.DestroyMutex.is_some(),
                args.LockMutex.is_some(),
                args.UnlockMutex.is_some(),
            ];
            let all = given.iter().all(|given| *given);
            if !args.pReserved.is_null() || (!all && given.iter().any(|given| *given)) {
                return Err(rv!(CKR_ARGUMENTS_BAD));
            }
            // We lock as the operating system does and cannot lock as the program does.
            if all && args.flags & ck::CKF_OS_LOCKING_OK == 0 {
                return Err(rv!(CKR_CANT_LOCK));
            }
            threads = args.flags & ck::CKF_LIBRARY_CANT_CREATE_OS_THREADS == 0;
        }
        module_to_initialize().initialize(environment, threads)
    })
}

pub(super) extern "C" fn C_Finalize(reserved: *mut c_void) -> Rv {
    enter(|| {
        if !reserved.is_null() {
            return Err(rv!(CKR_ARGUMENTS_BAD));
        }
        module()?.finalize()
    })
}

pub(super) unsafe extern "C" fn C_GetInfo(out: *mut ck::CK_INFO) -> Rv {
    enter(|| {
        module()?.ready()?;
        let info = ck::CK_INFO {
            cryptokiVersion: ck::CK_VERSION { major: 3, minor: 1 },
            manufacturerID: padded("Tegata"),
            flags: 0,
            libraryDescription: padded("Tegata TEE keys"),
            libraryVersion: version(env!("CARGO_PKG_VERSION")),
        };
        // SAFETY: the contract.
        unsafe { put(out, info) }
    })
}

pub(super) unsafe extern "C" fn C_GetSlotList(
    present: ck::CK_BBOOL,
    out: *mut ck::CK_SLOT_ID,
    count: Count,
) -> Rv {
    enter(|| {
        let slots = module()?.slots(present != ck::CK_FALSE)?;
        // SAFETY: the contract.
        unsafe { list(&slots, out, count) }
    })
}

pub(super) unsafe extern "C" fn C_GetSlotInfo(
    slot: ck::CK_SLOT_ID,
    out: *mut ck::CK_SLOT_INFO,
) -> Rv {
    enter(|| {
        let token = module()?.token(slot)?;
        let info = token.info();
        // A TEE process may stop and start.
        let mut flags = ck::CKF_REMOVABLE_DEVICE;
        if let Ok(info) = &info {
            flags |= ck::CKF_TOKEN_PRESENT;
            if info.security_level != "software" {
                flags |= ck::CKF_HW_SLOT;
            }
        }
        let info = ck::CK_SLOT_INFO {
            slotDescription: padded(&format!("TEE at {}", token.config.tee)),
            manufacturerID: padded("Tegata"),
            flags,
            hardwareVersion: ck::CK_VERSION::default(),
            firmwareVersion: version(info.as_ref().map_or("", |info| &info.version)),
        };
        // SAFETY: the contract.
        unsafe { put(out, info) }
    })
}

pub(super) unsafe extern "C" fn C_GetTokenInfo(
    slot: ck::CK_SLOT_ID,
    out: *mut ck::CK_TOKEN_INFO,
) -> Rv {
    enter(|| {
        let (token, info, [sessions, read_write]) = module()?.token_info(slot)?;
        let unknown = ck::CK_UNAVAILABLE_INFORMATION;
        let info = ck::CK_TOKEN_INFO {
            label: padded(&token.config.label),
            manufacturerID: padded("Tegata"),
            model: padded(&info.hwmodel),
            serialNumber: padded(&info.serial),
            // No login is needed; who insists is not asked for a PIN.
            flags: ck::CKF_RNG
                | ck::CKF_TOKEN_INITIALIZED
                | ck::CKF_USER_PIN_INITIALIZED
                | ck::CKF_PROTECTED_AUTHENTICATION_PATH,
            ulMaxSessionCount: ulong(SESSIONS_MAX),
            ulSessionCount: ulong(sessions),
            ulMaxRwSessionCount: ulong(SESSIONS_MAX),
            ulRwSessionCount: ulong(read_write),
            ulMaxPinLen: 0,
            ulMinPinLen: 0,
            ulTotalPublicMemory: unknown,
            ulFreePublicMemory: unknown,
            ulTotalPrivateMemory: unknown,
            ulFreePrivateMemory: unknown,
            hardwareVersion: ck::CK_VERSION::default(),
            firmwareVersion: version(&info.version),
            utcTime: [b' '; 16],
        };
        // SAFETY: the contract.
        unsafe { put(out, info) }
    })
}

pub(super) unsafe extern "C" fn C_GetMechanismList(
    slot: ck::CK_SLOT_ID,
    out: *mut ck::CK_MECHANISM_TYPE,
    count: Count,
) -> Rv {
    enter(|| {
        module()?.token(slot)?;
        let kinds: Vec<_> = MECHANISMS.iter().map(|(kind, _)| *kind).collect();
        // SAFETY: the contract.
        unsafe { list(&kinds, out, count) }
    })
}

pub(super) unsafe extern "C" fn C_GetMechanismInfo(
    slot: ck::CK_SLOT_ID,
    kind: ck::CK_MECHANISM_TYPE,
    out: *mut ck::CK_MECHANISM_INFO,
) -> Rv {
    enter(|| {
        module()?.token(slot)?;
        let found = MECHANISMS.iter().find(|(known, _)| *known == kind);
        let (_, info) = found.ok_or(rv!(CKR_MECHANISM_INVALID))?;
        // SAFETY: the contract.
        unsafe { put(out, *info) }
    })
}

pub(super) extern "C" fn C_InitToken(slot: ck::CK_SLOT_ID, _: Bytes, _: Len, _: Bytes) -> Rv {
    enter(|| {
        module()?.token(slot)?;
        Err(rv!(CKR_FUNCTION_NOT_SUPPORTED))
    })
}

pub(super) unsafe extern "C" fn C_OpenSession(
    slot: ck::CK_SLOT_ID,
    flags: ck::CK_FLAGS,
    _application: *mut c_void,
    _notify: ck::CK_NOTIFY,
    out: *mut Session,
) -> Rv {
    enter(|| {
        let module = module()?;
        module.ready()?;
        if out.is_null() {
            return Err(rv!(CKR_ARGUMENTS_BAD));
        }
        let session = module.open_session(slot, flags)?;
        // SAFETY: the contract.
        unsafe { put(out, session) }
    })
}

pub(super) extern "C" fn C_CloseSession(session: Session) -> Rv {
    enter(|| module()?.close_session(session))
}

pub(super) extern "C" fn C_CloseAllSessions(slot: ck::CK_SLOT_ID) -> Rv {
    enter(|| module()?.close_all(slot))
}

pub(super) unsafe extern "C" fn C_GetSessionInfo(
    session: Session,
    out: *mut ck::CK_SESSION_INFO,
) -> Rv {
    enter(|| {
        let session = module()?.session(session)?;
        let user = session
            .token
            .logged_in
            .load(std::sync::atomic::Ordering::Relaxed);
        let (state, more) = match (session.read_write, user) {
            (false, false) => (ck::CKS_RO_PUBLIC_SESSION, 0),
            (false, true) => (ck::CKS_RO_USER_FUNCTIONS, 0),
            (true, false) => (ck::CKS_RW_PUBLIC_SESSION, ck::CKF_RW_SESSION),
            (true, true) => (ck::CKS_RW_USER_FUNCTIONS, ck::CKF_RW_SESSION),
        };
        let info = ck::CK_SESSION_INFO {
            slotID: session.token.slot,
            state,
            flags: ck::CKF_SERIAL_SESSION | more,
            ulDeviceError: 0,
        };
        // SAFETY: the contract.
        unsafe { put(out, info) }
    })
}

pub(super) extern "C" fn C_GetOperationState(session: Session, _: Bytes, _: Count) -> Rv {
    enter(|| {
        let session = module()?.session(session)?;
        let work = session.work();
        let active = work.found.is_some()
            || work.digest.is_some()
            || work.sign.is_some()
            || work.verify.is_some();
        Err(if active {
            rv!(CKR_STATE_UNSAVEABLE)
        } else {
            rv!(CKR_OPERATION_NOT_INITIALIZED)
        })
    })
}

pub(super) extern "C" fn C_SetOperationState(
    session: Session,
    _: Bytes,
    _: Len,
    _: Handle,
    _: Handle,
) -> Rv {
    enter(|| {
        module()?.session(session)?;
        Err(rv!(CKR_SAVED_STATE_INVALID))
    })
}

pub(super) extern "C" fn C_Login(session: Session, user: ck::CK_USER_TYPE, _: Bytes, _: Len) -> Rv {
    enter(|| module()?.login(session, user))
}

pub(super) extern "C" fn C_LoginUser(
    session: Session,
    user: ck::CK_USER_TYPE,
    _pin: Bytes,
    _pin_len: Len,
    _name: Bytes,
    _name_len: Len,
) -> Rv {
    enter(|| module()?.login(session, user))
}

pub(super) extern "C" fn C_Logout(session: Session) -> Rv {
    enter(|| module()?.logout(session))
}

pub(super) extern "C" fn C_SessionCancel(session: Session, flags: ck::CK_FLAGS) -> Rv {
    enter(|| module()?.cancel(session, flags))
}

pub(super) extern "C" fn C_CopyObject(
    session: Session,
    object: Handle,
    _: *mut ck::CK_ATTRIBUTE,
    _: Len,
    _: *mut Handle,
) -> Rv {
    enter(|| {
        module()?.object(session, object)?;
        Err(rv!(CKR_ACTION_PROHIBITED))
    })
}

pub(super) extern "C" fn C_SetAttributeValue(
    session: Session,
    object: Handle,
    _: *mut ck::CK_ATTRIBUTE,
    _: Len,
) -> Rv {
    enter(|| {
        module()?.object(session, object)?;
        Err(rv!(CKR_ACTION_PROHIBITED))
    })
}

pub(super) extern "C" fn C_DestroyObject(session: Session, object: Handle) -> Rv {
    enter(|| module()?.token_of(session)?.destroy(object))
}

pub(super) unsafe extern "C" fn C_GetObjectSize(
    session: Session,
    object: Handle,
    out: Count,
) -> Rv {
    enter(|| {
        let object = module()?.object(session, object)?;
        // SAFETY: the contract.
        unsafe { put(out, ulong(object.size())) }
    })
}

/// Every attribute is looked at, whatever is wrong with another one. Spec: PKCS #11 3.1 5.7.5.
pub(super) unsafe extern "C" fn C_GetAttributeValue(
    session: Session,
    object: Handle,
    attributes: *mut ck::CK_ATTRIBUTE,
    count: Len,
) -> Rv {
    enter(|| {
        let object = module()?.object(session, object)?;
        let count = super::memory::len(count)?;
        if attributes.is_null() {
            return Err(rv!(CKR_ARGUMENTS_BAD));
        }
        let mut outcome = Ok(());
        for index in 0..count {
            // SAFETY: the contract: there are `count` attributes.
            let at = unsafe { attributes.add(index) };
            // SAFETY: as above.
            let mut attribute = unsafe { get(at) }?;
            let room = attribute.ulValueLen;
            let unavailable = ck::CK_UNAVAILABLE_INFORMATION;
            attribute.ulValueLen = match object.attribute(attribute.type_) {
                Err(rv) if is_unavailable(rv) => {
                    outcome = Err(rv);
                    unavailable
                }
                Err(rv) => return Err(rv),
                Ok(value) if attribute.pValue.is_null() => ulong(value.len()),
                Ok(value) if ulong(value.len()) > room => {
                    outcome = Err(rv!(CKR_BUFFER_TOO_SMALL));
                    unavailable
                }
                Ok(value) => {
                    let to = attribute.pValue.cast::<u8>();
                    // SAFETY: the contract: there is room for `room` bytes, which is not less.
                    unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), to, value.len()) };
                    ulong(value.len())
                }
            };
            // SAFETY: the contract: attributes may be written.
            unsafe { put(at, attribute) }?;
        }
        outcome
    })
}

pub(super) unsafe extern "C" fn C_FindObjectsInit(
    session: Session,
    attributes: *mut ck::CK_ATTRIBUTE,
    count: Len,
) -> Rv {
    enter(|| {
        let module = module()?;
        module.session(session)?;
        // SAFETY: the contract.
        let template = unsafe { template(attributes, count) }?;
        module.find_begin(session, &template)
    })
}

pub(super) unsafe extern "C" fn C_FindObjects(
    session: Session,
    out: *mut Handle,
    max: Len,
    count: Count,
) -> Rv {
    enter(|| {
        let module = module()?;
        module.session(session)?;
        let max = super::memory::len(max)?;
        if count.is_null() || (out.is_null() && max > 0) {
            return Err(rv!(CKR_ARGUMENTS_BAD));
        }
        let found = module.find_more(session, max)?;
        // SAFETY: the contract: room for `max` handles, and there are no more.
        unsafe { std::ptr::copy_nonoverlapping(found.as_ptr(), out, found.len()) };
        // SAFETY: the contract.
        unsafe { put(count, ulong(found.len())) }
    })
}

pub(super) extern "C" fn C_FindObjectsFinal(session: Session) -> Rv {
    enter(|| module()?.find_end(session))
}

pub(super) unsafe extern "C" fn C_DigestInit(session: Session, with: *mut ck::CK_MECHANISM) -> Rv {
    enter(|| {
        let module = module()?;
        module.session(session)?;
        // SAFETY: the contract.
        let mechanism = unsafe { mechanism(with) }?;
        module.digest_begin(session, mechanism.as_ref())
    })
}

pub(super) unsafe extern "C" fn C_Digest(
    session: Session,
    data: Bytes,
    data_len: Len,
    out: Bytes,
    out_len: Count,
) -> Rv {
    // SAFETY: the contract.
    enter(|| unsafe { digest_end(session, Some((data, data_len)), out, out_len) })
}

pub(super) unsafe extern "C" fn C_DigestUpdate(session: Session, data: Bytes, len: Len) -> Rv {
    enter(|| {
        let module = module()?;
        module.session(session)?;
        // SAFETY: the contract.
        let data = unsafe { bytes(data, len) };
        let data = or_end(module, session, ck::CKF_DIGEST, data)?;
        module.digest_update(session, data)
    })
}

pub(super) unsafe extern "C" fn C_DigestFinal(session: Session, out: Bytes, out_len: Count) -> Rv {
    // SAFETY: the contract.
    enter(|| unsafe { digest_end(session, None, out, out_len) })
}

/// # Safety
/// The contract.
unsafe fn digest_end(
    session: Session,
    data: Option<(Bytes, Len)>,
    out: Bytes,
    out_len: Count,
) -> Result<()> {
    let module = module()?;
    module.session(session)?;
    // SAFETY: the contract.
    let data = data.map(|(data, len)| unsafe { bytes(data, len) });
    let data = or_end(module, session, ck::CKF_DIGEST, data.transpose())?;
    // SAFETY: the contract.
    let room = or_end(module, session, ck::CKF_DIGEST, unsafe {
        room(out, out_len)
    })?;
    let output = module.digest_end(session, data, room)?;
    // SAFETY: the contract.
    unsafe { give(&output, out, out_len) }
}

/// What the caller handed over for an operation that is under way. If that cannot be right, the
/// operation ends, as by every error but a buffer that is too small. Spec: PKCS #11 3.1 sections
/// 5.12, 5.13 and 5.15.
fn or_end<T>(module: &Module, session: Session, what: Len, given: Result<T>) -> Result<T> {
    given.inspect_err(|_| {
        let _ = module.cancel(session, what);
    })
}

pub(super) unsafe extern "C" fn C_SignInit(
    session: Session,
    with: *mut ck::CK_MECHANISM,
    key: Handle,
) -> Rv {
    // SAFETY: the contract.
    enter(|| unsafe { key_begin(Doing::Sign, session, with, key) })
}

pub(super) unsafe extern "C" fn C_VerifyInit(
    session: Session,
    with: *mut ck::CK_MECHANISM,
    key: Handle,
) -> Rv {
    // SAFETY: the contract.
    enter(|| unsafe { key_begin(Doing::Verify, session, with, key) })
}

/// # Safety
/// The contract.
unsafe fn key_begin(
    doing: Doing,
    session: Session,
    with: *mut ck::CK_MECHANISM,
    key: Handle,
) -> Result<()> {
    let module = module()?;
    module.session(session)?;
    // SAFETY: the contract.
    let mechanism = unsafe { mechanism(with) }?;
    module.key_begin(doing, session, mechanism.as_ref(), key)
}

pub(super) unsafe extern "C" fn C_Sign(
    session: Session,
    data: Bytes,
    data_len: Len,
    out: Bytes,
    out_len: Count,
) -> Rv {
    // SAFETY: the contract.
    enter(|| unsafe { sign_end(session, Some((data, data_len)), out, out_len) })
}

pub(super) unsafe extern "C" fn C_SignUpdate(session: Session, data: Bytes, len: Len) -> Rv {
    // SAFETY: the contract.
    enter(|| unsafe { key_update(Doing::Sign, session, data, len) })
}

pub(super) unsafe extern "C" fn C_SignFinal(session: Session, out: Bytes, out_len: Count) -> Rv {
    // SAFETY: the contract.
    enter(|| unsafe { sign_end(session, None, out, out_len) })
}

/// # Safety
/// The contract.
unsafe fn key_update(doing: Doing, session: Session, data: Bytes, len: Len) -> Result<()> {
    let module = module()?;
    module.session(session)?;
    let what = match doing {
        Doing::Sign => ck::CKF_SIGN,
        Doing::Verify => ck::CKF_VERIFY,
    };
    // SAFETY: the contract.
    let data = or_end(module, session, what, unsafe { bytes(data, len) })?;
    module.key_update(doing, session, data)
}

/// # Safety
/// The contract.
unsafe fn sign_end(
    session: Session,
    data: Option<(Bytes, Len)>,
    out: Bytes,
    out_len: Count,
) -> Result<()> {
    let module = module()?;
    module.session(session)?;
    // SAFETY: the contract.
    let room = or_end(module, session, ck::CKF_SIGN, unsafe { room(out, out_len) })?;
    let data = data.map(|(data, len)| {
        if data.is_null() && out.is_null() {
            // Who asks for the length may leave the data out.
            Ok([].as_slice())
        } else {
            // SAFETY: the contract.
            unsafe { bytes(data, len) }
        }
    });
    let data = or_end(module, session, ck::CKF_SIGN, data.transpose())?;
    let output = module.sign_end(session, data, room)?;
    // SAFETY: the contract.
    unsafe { give(&output, out, out_len) }
}

pub(super) unsafe extern "C" fn C_Verify(
    session: Session,
    data: Bytes,
    data_len: Len,
    signature: Bytes,
    signature_len: Len,
) -> Rv {
    enter(|| {
        let module = module()?;
        module.session(session)?;
        // SAFETY: the contract.
        let (data, signature) = unsafe { (bytes(data, data_len), bytes(signature, signature_len)) };
        let data = or_end(module, session, ck::CKF_VERIFY, data)?;
        let signature = or_end(module, session, ck::CKF_VERIFY, signature)?;
        module.verify_end(session, Some(data), signature)
    })
}

pub(super) unsafe extern "C" fn C_VerifyUpdate(session: Session, data: Bytes, len: Len) -> Rv {
    // SAFETY: the contract.
    enter(|| unsafe { key_update(Doing::Verify, session, data, len) })
}

pub(super) unsafe extern "C" fn C_VerifyFinal(session: Session, signature: Bytes, len: Len) -> Rv {
    enter(|| {
        let module = module()?;
        module.session(session)?;
        // SAFETY: the contract.
        let signature = unsafe { bytes(signature, len) };
        let signature = or_end(module, session, ck::CKF_VERIFY, signature)?;
        module.verify_end(session, None, signature)
    })
}

pub(super) unsafe extern "C" fn C_DeriveKey(
    session: Session,
    with: *mut ck::CK_MECHANISM,
    base: Handle,
    attributes: *mut ck::CK_ATTRIBUTE,
    count: Len,
    out: *mut Handle,
) -> Rv {
    enter(|| {
        let module = module()?;
        module.session(session)?;
        // SAFETY: the contract.
        let mechanism = unsafe { mechanism(with) }?.ok_or(rv!(CKR_ARGUMENTS_BAD))?;
        // SAFETY: the contract.
        let template = unsafe { template(attributes, count) }?;
        if out.is_null() {
            return Err(rv!(CKR_ARGUMENTS_BAD));
        }
        let made = module.derive(session, &mechanism, base, &template)?;
        // SAFETY: the contract.
        unsafe { put(out, made) }
    })
}

pub(super) extern "C" fn C_SeedRandom(session: Session, _: Bytes, _: Len) -> Rv {
    enter(|| {
        module()?.session(session)?;
        Err(rv!(CKR_RANDOM_SEED_NOT_SUPPORTED))
    })
}

/// Random bytes of the operating system, which this process trusts with everything already.
pub(super) unsafe extern "C" fn C_GenerateRandom(session: Session, out: Bytes, count: Len) -> Rv {
    enter(|| {
        module()?.session(session)?;
        let count = super::memory::len(count)?;
        if count > 0 && out.is_null() {
            return Err(rv!(CKR_ARGUMENTS_BAD));
        }
        let mut chunk = [0u8; 256];
        let mut done = 0;
        while done < count {
            let part = chunk.len().min(count - done);
            let part = chunk.get_mut(..part).ok_or(rv!(CKR_GENERAL_ERROR))?;
            getrandom::fill(part).map_err(|_| rv!(CKR_FUNCTION_FAILED))?;
            // SAFETY: the contract: there is room for `count` bytes.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), out.add(done), part.len()) };
            done += part.len();
        }
        Ok(())
    })
}

pub(super) extern "C" fn C_GetFunctionStatus(session: Session) -> Rv {
    enter(|| {
        module()?.session(session)?;
        Err(rv!(CKR_FUNCTION_NOT_PARALLEL))
    })
}

pub(super) extern "C" fn C_CancelFunction(session: Session) -> Rv {
    C_GetFunctionStatus(session)
}

/// Slots do not tell when a TEE comes or goes.
pub(super) extern "C" fn C_WaitForSlotEvent(
    flags: ck::CK_FLAGS,
    _slot: *mut ck::CK_SLOT_ID,
    reserved: *mut c_void,
) -> Rv {
    enter(|| {
        module()?.ready()?;
        if !reserved.is_null() {
            return Err(rv!(CKR_ARGUMENTS_BAD));
        }
        Err(if flags & ck::CKF_DONT_BLOCK != 0 {
            rv!(CKR_NO_EVENT)
        } else {
            rv!(CKR_FUNCTION_NOT_SUPPORTED)
        })
    })
}

/// Major and minor of a version in text.
fn version(text: &str) -> ck::CK_VERSION {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    ck::CK_VERSION {
        major: parts.next().unwrap_or(0),
        minor: parts.next().unwrap_or(0),
    }
}
