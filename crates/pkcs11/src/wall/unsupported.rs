//! Functions that this library does not do. They still say first what else is wrong.
#![allow(non_snake_case)] // Names of the specification.

use cryptoki_sys as ck;
use std::ffi::c_void;

use super::{enter, module};
use crate::rv::rv;

/// Functions of a session that are not done; each takes the session first.
macro_rules! unsupported {
    ($($name:ident($($kind:ty),*);)*) => {
        $(
            pub(super) extern "C" fn $name(session: ck::CK_SESSION_HANDLE, $(_: $kind),*) -> ck::CK_RV {
                enter(|| {
                    module()?.session(session)?;
                    Err(rv!(CKR_FUNCTION_NOT_SUPPORTED))
                })
            }
        )*
    };
}

type Bytes = *mut ck::CK_BYTE;
type Count = *mut ck::CK_ULONG;
type Len = ck::CK_ULONG;
type Mechanism = *mut ck::CK_MECHANISM;
type Attributes = *mut ck::CK_ATTRIBUTE;
type Handle = ck::CK_OBJECT_HANDLE;

unsupported! {
    C_InitPIN(Bytes, Len);
    C_SetPIN(Bytes, Len, Bytes, Len);
    C_CreateObject(Attributes, Len, *mut Handle);
    C_EncryptInit(Mechanism, Handle);
    C_Encrypt(Bytes, Len, Bytes, Count);
    C_EncryptUpdate(Bytes, Len, Bytes, Count);
    C_EncryptFinal(Bytes, Count);
    C_DecryptInit(Mechanism, Handle);
    C_Decrypt(Bytes, Len, Bytes, Count);
    C_DecryptUpdate(Bytes, Len, Bytes, Count);
    C_DecryptFinal(Bytes, Count);
    C_DigestKey(Handle);
    C_SignRecoverInit(Mechanism, Handle);
    C_SignRecover(Bytes, Len, Bytes, Count);
    C_VerifyRecoverInit(Mechanism, Handle);
    C_VerifyRecover(Bytes, Len, Bytes, Count);
    C_DigestEncryptUpdate(Bytes, Len, Bytes, Count);
    C_DecryptDigestUpdate(Bytes, Len, Bytes, Count);
    C_SignEncryptUpdate(Bytes, Len, Bytes, Count);
    C_DecryptVerifyUpdate(Bytes, Len, Bytes, Count);
    C_GenerateKey(Mechanism, Attributes, Len, *mut Handle);
    C_GenerateKeyPair(Mechanism, Attributes, Len, Attributes, Len, *mut Handle, *mut Handle);
    C_WrapKey(Mechanism, Handle, Handle, Bytes, Count);
    C_UnwrapKey(Mechanism, Handle, Bytes, Len, Attributes, Len, *mut Handle);
    C_MessageEncryptInit(Mechanism, Handle);
    C_EncryptMessage(*mut c_void, Len, Bytes, Len, Bytes, Len, Bytes, Count);
    C_EncryptMessageBegin(*mut c_void, Len, Bytes, Len);
    C_EncryptMessageNext(*mut c_void, Len, Bytes, Len, Bytes, Count, ck::CK_FLAGS);
    C_MessageEncryptFinal();
    C_MessageDecryptInit(Mechanism, Handle);
    C_DecryptMessage(*mut c_void, Len, Bytes, Len, Bytes, Len, Bytes, Count);
    C_DecryptMessageBegin(*mut c_void, Len, Bytes, Len);
    C_DecryptMessageNext(*mut c_void, Len, Bytes, Len, Bytes, Count, ck::CK_FLAGS);
    C_MessageDecryptFinal();
    C_MessageSignInit(Mechanism, Handle);
    C_SignMessage(*mut c_void, Len, Bytes, Len, Bytes, Count);
    C_SignMessageBegin(*mut c_void, Len);
    C_SignMessageNext(*mut c_void, Len, Bytes, Len, Bytes, Count);
    C_MessageSignFinal();
    C_MessageVerifyInit(Mechanism, Handle);
    C_VerifyMessage(*mut c_void, Len, Bytes, Len, Bytes, Len);
    C_VerifyMessageBegin(*mut c_void, Len);
    C_VerifyMessageNext(*mut c_void, Len, Bytes, Len, Bytes, Len);
    C_MessageVerifyFinal();
}
