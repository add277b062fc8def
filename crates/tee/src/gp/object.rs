//! Objects: attributes, types and sizes, transient objects and the generic object functions.
//!
//! Spec: TEE Internal Core API 1.3.1 sections 5.5 and 5.6.
//!
//! Invariants: a key pair object holds a private value and the public value that belongs to it; an
//! initialized object of a type has all attributes of that type and no others; usage bits are only
//! ever cleared.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::consts::*;
use super::fail::{Fail, Res, code, panic_with};
use super::host::{ObjectToken, SecretBytes};
use super::keys;
use super::mem::GuestAttribute;
use super::state::{Ctx, GpState};

/// One attribute of an object.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attribute {
    /// Buffer attribute.
    Buffer(SecretBytes),
    /// Value attribute.
    Value(u32, u32),
}

/// Attributes by identifier.
pub type Attributes = BTreeMap<u32, Attribute>;

/// An object with a handle.
pub struct Object {
    pub(super) object_type: u32,
    pub(super) max_size_bits: u32,
    pub(super) size_bits: u32,
    pub(super) usage: u32,
    pub(super) initialized: bool,
    pub(super) attributes: Attributes,
    pub(super) stored: Option<Stored>,
}

/// The stored side of a persistent object.
pub struct Stored {
    pub(super) token: ObjectToken,
    pub(super) id: Vec<u8>,
    pub(super) flags: u32,
    pub(super) data: Zeroizing<Vec<u8>>,
    pub(super) position: u32,
}

/// An enumerator of persistent objects.
#[derive(Default)]
pub struct ObjectEnumerator {
    pub(super) ids: Option<Vec<Vec<u8>>>,
    pub(super) next: usize,
}

/// What a type is made of.
pub struct TypeRule {
    /// Smallest and largest size in bits, and the step between.
    sizes: (u32, u32, u32),
    /// Attributes, all required.
    attributes: &'static [u32],
}

const SECRET: &[u32] = &[TEE_ATTR_SECRET_VALUE];
const EC_PUBLIC: &[u32] = &[
    TEE_ATTR_ECC_PUBLIC_VALUE_X,
    TEE_ATTR_ECC_PUBLIC_VALUE_Y,
    TEE_ATTR_ECC_CURVE,
];
const EC_PAIR: &[u32] = &[
    TEE_ATTR_ECC_PRIVATE_VALUE,
    TEE_ATTR_ECC_PUBLIC_VALUE_X,
    TEE_ATTR_ECC_PUBLIC_VALUE_Y,
    TEE_ATTR_ECC_CURVE,
];

/// The rule of an object type; `None` for types this TEE does not know.
#[must_use]
pub const fn rule(object_type: u32) -> Option<TypeRule> {
    let (sizes, attributes): ((u32, u32, u32), &'static [u32]) = match object_type {
        TEE_TYPE_AES => ((128, 256, 64), SECRET),
        TEE_TYPE_HMAC_SHA256 => ((192, 1024, 8), SECRET),
        TEE_TYPE_HMAC_SHA384 | TEE_TYPE_HMAC_SHA512 => ((256, 1024, 8), SECRET),
        TEE_TYPE_GENERIC_SECRET | TEE_TYPE_HKDF => ((8, 4096, 8), SECRET),
        TEE_TYPE_ECDSA_PUBLIC_KEY | TEE_TYPE_ECDH_PUBLIC_KEY => ((256, 384, 128), EC_PUBLIC),
        TEE_TYPE_ECDSA_KEYPAIR | TEE_TYPE_ECDH_KEYPAIR => ((256, 384, 128), EC_PAIR),
        TEE_TYPE_ED25519_PUBLIC_KEY => ((256, 256, 1), &[TEE_ATTR_ED25519_PUBLIC_VALUE]),
        TEE_TYPE_ED25519_KEYPAIR => (
            (256, 256, 1),
            &[
                TEE_ATTR_ED25519_PRIVATE_VALUE,
                TEE_ATTR_ED25519_PUBLIC_VALUE,
            ],
        ),
        TEE_TYPE_X25519_PUBLIC_KEY => ((256, 256, 1), &[TEE_ATTR_X25519_PUBLIC_VALUE]),
        TEE_TYPE_X25519_KEYPAIR => (
            (256, 256, 1),
            &[TEE_ATTR_X25519_PRIVATE_VALUE, TEE_ATTR_X25519_PUBLIC_VALUE],
        ),
        _ => return None,
    };
    Some(TypeRule { sizes, attributes })
}

/// True if objects of this type come in this size.
#[must_use]
pub const fn size_supported(object_type: u32, bits: u32) -> bool {
    match rule(object_type) {
        Some(TypeRule {
            sizes: (min, max, step),
            ..
        }) => bits >= min && bits <= max && (bits - min).is_multiple_of(step),
        None => false,
    }
}

/// True for types made of a single secret value.
#[must_use]
pub const fn is_secret_type(object_type: u32) -> bool {
    matches!(
        object_type,
        TEE_TYPE_AES
            | TEE_TYPE_HMAC_SHA256
            | TEE_TYPE_HMAC_SHA384
            | TEE_TYPE_HMAC_SHA512
            | TEE_TYPE_GENERIC_SECRET
            | TEE_TYPE_HKDF
    )
}

impl Object {
    fn fresh(object_type: u32, max_size_bits: u32) -> Self {
        Self {
            object_type,
            max_size_bits,
            size_bits: 0,
            usage: u32::MAX,
            initialized: false,
            attributes: Attributes::new(),
            stored: None,
        }
    }

    /// `TEE_ObjectInfo` as its seven words.
    pub(super) fn info(&self) -> [u32; 7] {
        let mut flags = 0;
        if self.initialized {
            flags |= TEE_HANDLE_FLAG_INITIALIZED;
        }
        let (mut len, mut position) = (0, 0);
        if let Some(stored) = &self.stored {
            flags |= TEE_HANDLE_FLAG_PERSISTENT | TEE_HANDLE_FLAG_INITIALIZED | stored.flags;
            len = u32::try_from(stored.data.len()).unwrap_or(u32::MAX);
            position = stored.position;
        }
        let usage = self.usage;
        [
            self.object_type,
            self.size_bits,
            self.max_size_bits,
            usage,
            len,
            position,
            flags,
        ]
    }

    /// Takes attributes for an uninitialized object.
    ///
    /// # Errors
    /// `TEE_ERROR_BAD_PARAMETERS` if values do not fit together; a panic if an attribute is
    /// missing or foreign, or too large for the object.
    pub(super) fn populate(&mut self, attributes: Attributes) -> Res {
        let Some(rule) = rule(self.object_type) else {
            return panic_with(TEE_ERROR_BAD_STATE);
        };
        let complete = rule.attributes.iter().all(|id| attributes.contains_key(id));
        if !complete || attributes.len() != rule.attributes.len() {
            return panic_with(TEE_ERROR_BAD_PARAMETERS);
        }
        let bits = keys::check(self.object_type, &attributes)?;
        if bits > self.max_size_bits {
            return panic_with(TEE_ERROR_BAD_PARAMETERS);
        }
        if !size_supported(self.object_type, bits) {
            return code(TEE_ERROR_BAD_PARAMETERS);
        }
        self.attributes = attributes;
        self.size_bits = bits;
        self.initialized = true;
        Ok(())
    }

    /// True for a transient object that holds nothing yet.
    pub(super) const fn is_empty_transient(&self) -> bool {
        self.stored.is_none() && !self.initialized
    }
}

impl GpState {
    /// An initialized object.
    ///
    /// # Errors
    /// The TA panics if there is none behind the handle, or if it is not initialized.
    pub(super) fn key_object(&self, handle: u32) -> Res<&Object> {
        let object = self.objects.get(handle)?;
        if !object.initialized {
            return panic_with(TEE_ERROR_BAD_STATE);
        }
        Ok(object)
    }

    /// An empty transient object, to fill.
    ///
    /// # Errors
    /// The TA panics if the handle names anything else.
    pub(super) fn empty_object(&mut self, handle: u32) -> Res<&mut Object> {
        let object = self.objects.get_mut(handle)?;
        if !object.is_empty_transient() {
            return panic_with(TEE_ERROR_BAD_STATE);
        }
        Ok(object)
    }
}

/// `TEE_GetObjectInfo1`.
pub fn get_object_info1(c: &mut Ctx<'_>, object: u32, info: u32) -> Res {
    let words = c.st.objects.get(object)?.info();
    c.mem.put_words(info, &words)
}

/// `TEE_RestrictObjectUsage1`: for a persistent object the restriction is stored.
pub fn restrict_object_usage1(c: &mut Ctx<'_>, object: u32, usage: u32) -> Res {
    if c.st.objects.get(object)?.stored.is_some() {
        super::persistent::restrict(c.st, object, usage)?;
    }
    c.st.objects.get_mut(object)?.usage &= usage;
    Ok(())
}

/// `TEE_GetObjectBufferAttribute`.
pub fn get_object_buffer_attribute(
    c: &mut Ctx<'_>,
    object: u32,
    id: u32,
    buffer: u32,
    size: u32,
) -> Res {
    let found = readable(c.st.key_object(object)?, id, false)?;
    let Attribute::Buffer(bytes) = found else {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    };
    c.mem.out_buffer(buffer, size, &bytes.0)
}

/// `TEE_GetObjectValueAttribute`.
pub fn get_object_value_attribute(
    c: &mut Ctx<'_>,
    object: u32,
    id: u32,
    a_ptr: u32,
    b_ptr: u32,
) -> Res {
    let found = readable(c.st.key_object(object)?, id, true)?;
    let Attribute::Value(a, b) = found else {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    };
    for (ptr, value) in [(a_ptr, a), (b_ptr, b)] {
        if ptr != 0 {
            c.mem.put_u32(ptr, value)?;
        }
    }
    Ok(())
}

fn readable(object: &Object, id: u32, wants_value: bool) -> Res<Attribute> {
    if (id & TEE_ATTR_FLAG_VALUE != 0) != wants_value {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    let Some(found) = object.attributes.get(&id) else {
        return code(TEE_ERROR_ITEM_NOT_FOUND);
    };
    if id & TEE_ATTR_FLAG_PUBLIC == 0 && object.usage & TEE_USAGE_EXTRACTABLE == 0 {
        return code(TEE_ERROR_ACCESS_DENIED);
    }
    Ok(found.clone())
}

/// `TEE_CloseObject`.
pub fn close_object(c: &mut Ctx<'_>, object: u32) -> Res {
    if object == TEE_HANDLE_NULL {
        return Ok(());
    }
    let gone = c.st.objects.remove(object)?;
    if let Some(stored) = gone.stored {
        c.st.services.object_close(stored.token);
    }
    Ok(())
}

/// `TEE_AllocateTransientObject`.
pub fn allocate_transient_object(
    c: &mut Ctx<'_>,
    object_type: u32,
    max_size_bits: u32,
    out: u32,
) -> Res {
    c.mem.put_u32(out, TEE_HANDLE_NULL)?;
    if !size_supported(object_type, max_size_bits) {
        return code(TEE_ERROR_NOT_SUPPORTED);
    }
    let handle =
        c.st.objects
            .insert(Object::fresh(object_type, max_size_bits))?;
    c.mem.put_u32(out, handle)
}

/// `TEE_FreeTransientObject`.
pub fn free_transient_object(c: &mut Ctx<'_>, object: u32) -> Res {
    if object == TEE_HANDLE_NULL {
        return Ok(());
    }
    if c.st.objects.get(object)?.stored.is_some() {
        return panic_with(TEE_ERROR_BAD_STATE);
    }
    c.st.objects.remove(object).map(drop)
}

/// `TEE_ResetTransientObject`.
pub fn reset_transient_object(c: &mut Ctx<'_>, object: u32) -> Res {
    if object == TEE_HANDLE_NULL {
        return Ok(());
    }
    let slot = c.st.objects.get_mut(object)?;
    if slot.stored.is_some() {
        return panic_with(TEE_ERROR_BAD_STATE);
    }
    *slot = Object::fresh(slot.object_type, slot.max_size_bits);
    Ok(())
}

/// `TEE_PopulateTransientObject`.
pub fn populate_transient_object(c: &mut Ctx<'_>, object: u32, attrs: u32, count: u32) -> Res {
    let given = unique(c.mem.attributes(attrs, count)?)?;
    c.st.charge(KEY_FUEL);
    c.st.empty_object(object)?.populate(given)
}

/// Attributes by identifier; the TA panics if one is given twice.
pub(super) fn unique(given: Vec<GuestAttribute>) -> Res<Attributes> {
    let mut out = Attributes::new();
    for attribute in given {
        let (id, attribute) = match attribute {
            GuestAttribute::Buffer(id, bytes) => (id, Attribute::Buffer(SecretBytes(bytes))),
            GuestAttribute::Value(id, a, b) => (id, Attribute::Value(a, b)),
        };
        if out.insert(id, attribute).is_some() {
            return panic_with(TEE_ERROR_BAD_PARAMETERS);
        }
    }
    Ok(out)
}

/// `TEE_CopyObjectAttributes1`: the same type, or the public half of a key pair.
pub fn copy_object_attributes1(c: &mut Ctx<'_>, to: u32, from: u32) -> Res {
    let source = c.st.key_object(from)?;
    let (object_type, usage) = (source.object_type, source.usage);
    let attributes = source.attributes.clone();
    let target = c.st.empty_object(to)?;
    let public_of_pair =
        object_type & KEYPAIR_BIT != 0 && object_type & !KEYPAIR_BIT == target.object_type;
    if target.object_type != object_type && !public_of_pair {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    let Some(rule) = rule(target.object_type) else {
        return panic_with(TEE_ERROR_BAD_STATE);
    };
    let kept = attributes
        .into_iter()
        .filter(|(id, _)| rule.attributes.contains(id))
        .collect();
    target
        .populate(kept)
        .map_err(|_| Fail::Panic(TEE_ERROR_BAD_PARAMETERS))?;
    target.usage &= usage;
    Ok(())
}

/// `TEE_GenerateKey`.
pub fn generate_key(c: &mut Ctx<'_>, object: u32, bits: u32, params: u32, count: u32) -> Res {
    let params = unique(c.mem.attributes(params, count)?)?;
    let target = c.st.empty_object(object)?;
    let (object_type, max) = (target.object_type, target.max_size_bits);
    if !size_supported(object_type, bits) || bits > max {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    c.st.charge(KEY_FUEL);
    let made = if is_secret_type(object_type) {
        if !params.is_empty() {
            return panic_with(TEE_ERROR_BAD_PARAMETERS);
        }
        let len = usize::try_from(bits / 8).map_err(|_| Fail::Panic(TEE_ERROR_OVERFLOW))?;
        let mut secret = Zeroizing::new(vec![0; len]);
        c.st.random(&mut secret)?;
        Attributes::from([(
            TEE_ATTR_SECRET_VALUE,
            Attribute::Buffer(SecretBytes(secret)),
        )])
    } else {
        keys::generate(c.st, object_type, bits, &params)?
    };
    c.st.empty_object(object)?.populate(made)
}

/// Set in the type of key pairs, clear in the type of their public halves.
const KEYPAIR_BIT: u32 = 0x0100_0000;
/// Fuel for making or checking a key.
pub(super) const KEY_FUEL: u64 = 200_000;
