//! Properties of the TA, its client and this TEE, and their enumeration.
//!
//! Spec: TEE Internal Core API 1.3.1 section 4.4. Tegata's own properties have the prefix
//! `dev.tegata.`: the hardware identity of the device, which no client can set.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use base64ct::{Base64, Encoding};
use tegata_wire::ids::TaUuid;
use uuid::Uuid;

use super::consts::*;
use super::fail::{Fail, Res, code, panic_with};
use super::mem::swap_uuid;
use super::state::{Ctx, GpState};
use crate::session::launch::ClientIdentity;

/// What a TA declares of itself in its module (docs/spec/ta-module.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaProperties {
    /// `gpd.ta.singleInstance`: all sessions share one instance.
    pub single_instance: bool,
    /// `gpd.ta.multiSession`: that instance takes several sessions at once.
    pub multi_session: bool,
    /// `gpd.ta.instanceKeepAlive`: it outlives its last session.
    pub instance_keep_alive: bool,
    /// `gpd.ta.doesNotCloseHandleOnCorruptObject`.
    pub does_not_close_handle_on_corrupt_object: bool,
    /// `gpd.ta.dataSize`: most bytes of linear memory.
    pub data_size: u32,
    /// `gpd.ta.stackSize` in bytes, for information.
    pub stack_size: u32,
    /// `gpd.ta.version`.
    pub version: String,
    /// `gpd.ta.description`.
    pub description: String,
    /// Other properties the TA names.
    pub own: BTreeMap<String, String>,
}

impl Default for TaProperties {
    fn default() -> Self {
        Self {
            single_instance: false,
            multi_session: false,
            instance_keep_alive: false,
            does_not_close_handle_on_corrupt_object: false,
            data_size: DATA_SIZE_DEFAULT,
            stack_size: 0,
            version: String::new(),
            description: String::new(),
            own: BTreeMap::new(),
        }
    }
}

/// Why a module's properties are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PropertiesError {
    /// The section is longer than 4096 bytes, is no text, or has more than 64 lines.
    #[error("property section is not at most {PROPERTIES_LEN_MAX} bytes of text")]
    Section,
    /// A line is not `name = value`, or its value is not of the name's type.
    #[error("property line {line} is wrong")]
    Line {
        /// Number of the line, from 1.
        line: usize,
    },
}

impl TaProperties {
    /// Parses the text of the module's `tegata.ta` section.
    ///
    /// # Errors
    /// [`PropertiesError`]; a name that GP reserves and this TEE does not know is an error too.
    pub fn parse(section: &[u8]) -> Result<Self, PropertiesError> {
        let text = core::str::from_utf8(section).map_err(|_| PropertiesError::Section)?;
        if section.len() > PROPERTIES_LEN_MAX || text.lines().count() > PROPERTIES_MAX {
            return Err(PropertiesError::Section);
        }
        let mut out = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line_is = line.trim();
            if line_is.is_empty() || line_is.starts_with('#') {
                continue;
            }
            let wrong = PropertiesError::Line { line: index + 1 };
            let (name, value) = line_is.split_once('=').ok_or(wrong.clone())?;
            out.set(name.trim(), value.trim()).ok_or(wrong)?;
        }
        Ok(out)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "gpd.ta.singleInstance" => self.single_instance = value.parse().ok()?,
            "gpd.ta.multiSession" => self.multi_session = value.parse().ok()?,
            "gpd.ta.instanceKeepAlive" => self.instance_keep_alive = value.parse().ok()?,
            "gpd.ta.doesNotCloseHandleOnCorruptObject" => {
                self.does_not_close_handle_on_corrupt_object = value.parse().ok()?;
            }
            "gpd.ta.dataSize" => self.data_size = value.parse().ok()?,
            "gpd.ta.stackSize" => self.stack_size = value.parse().ok()?,
            "gpd.ta.version" => self.version = value.to_string(),
            "gpd.ta.description" => self.description = value.to_string(),
            // Names of the standard and of this TEE are not the TA's to define.
            _ if name.starts_with("gpd.") || name.starts_with("dev.tegata.") => return None,
            _ if name.is_empty() || name.chars().any(char::is_whitespace) => return None,
            _ => {
                if self
                    .own
                    .insert(name.to_string(), value.to_string())
                    .is_some()
                {
                    return None;
                }
            }
        }
        Some(())
    }
}

/// A property's value.
enum Value {
    Text(String),
    Bool(bool),
    U32(u32),
    U64(u64),
    Binary(Vec<u8>),
    Uuid([u8; 16]),
    Identity(ClientIdentity),
}

/// Goes through the properties of a set.
#[derive(Default)]
pub struct PropertyEnumerator {
    set: Option<u32>,
    at: usize,
}

fn text(value: &str) -> Value {
    Value::Text(value.to_string())
}

fn properties(st: &GpState, set: u32) -> Res<Vec<(String, Value)>> {
    let named = |list: Vec<(&str, Value)>| {
        list.into_iter()
            .map(|(name, value)| (name.to_string(), value))
            .collect::<Vec<_>>()
    };
    match set {
        TEE_PROPSET_CURRENT_CLIENT => {
            // Without a session (in Create and Destroy) there is no client.
            let mut list = Vec::new();
            if let Some(client) = st.client {
                list.push(("gpd.client.identity", Value::Identity(client)));
                list.push(("gpd.client.endian", Value::U32(0)));
            }
            Ok(named(list))
        }
        TEE_PROPSET_CURRENT_TA => {
            let p = &st.properties;
            let mut list = named(alloc::vec![
                ("gpd.ta.appID", Value::Uuid(*st.ta.uuid.as_bytes())),
                ("gpd.ta.singleInstance", Value::Bool(p.single_instance)),
                ("gpd.ta.multiSession", Value::Bool(p.multi_session)),
                (
                    "gpd.ta.instanceKeepAlive",
                    Value::Bool(p.instance_keep_alive)
                ),
                ("gpd.ta.dataSize", Value::U32(p.data_size)),
                ("gpd.ta.stackSize", Value::U32(p.stack_size)),
                ("gpd.ta.version", text(&p.version)),
                ("gpd.ta.description", text(&p.description)),
                ("gpd.ta.endian", Value::U32(0)),
                (
                    "gpd.ta.doesNotCloseHandleOnCorruptObject",
                    Value::Bool(p.does_not_close_handle_on_corrupt_object),
                ),
            ]);
            list.extend(
                p.own
                    .iter()
                    .map(|(name, value)| (name.clone(), text(value))),
            );
            Ok(list)
        }
        TEE_PROPSET_TEE_IMPLEMENTATION => Ok(named(implementation(st))),
        _ => panic_with(TEE_ERROR_BAD_PARAMETERS),
    }
}

fn implementation(st: &GpState) -> Vec<(&'static str, Value)> {
    let info = &st.info;
    let mut list = alloc::vec![
        ("gpd.tee.apiversion", text("1.3.1")),
        ("gpd.tee.internalCore.version", Value::U32(0x0103_0100)),
        ("gpd.tee.description", text("Tegata TEE (Wasm)")),
        ("gpd.tee.deviceID", Value::Uuid(info.device_id)),
        ("gpd.tee.systemTime.protectionLevel", Value::U32(100)),
        ("gpd.tee.TAPersistentTime.protectionLevel", Value::U32(100)),
        ("gpd.tee.arith.maxBigIntSize", Value::U32(0)),
        ("gpd.tee.sockets.version", Value::U32(0)),
        ("gpd.tee.cryptography.ecc", Value::Bool(true)),
        ("gpd.tee.cryptography.nist", Value::Bool(true)),
        ("gpd.tee.cryptography.bsi-r", Value::Bool(false)),
        ("gpd.tee.cryptography.bsi-t", Value::Bool(false)),
        ("gpd.tee.cryptography.ietf", Value::Bool(true)),
        ("gpd.tee.cryptography.octa", Value::Bool(false)),
        (
            "gpd.tee.trustedStorage.antiRollback.protectionLevel",
            Value::U32(info.anti_rollback_level),
        ),
        (
            "gpd.tee.trustedStorage.rollbackDetection.protectionLevel",
            Value::U32(info.anti_rollback_level),
        ),
        (
            "gpd.tee.trustedos.implementation.version",
            text(&info.version)
        ),
        (
            "gpd.tee.trustedos.implementation.binaryversion",
            Value::Binary(info.version.clone().into_bytes()),
        ),
        ("gpd.tee.trustedos.manufacturer", text("Tegata")),
        (
            "gpd.tee.firmware.implementation.version",
            text(&info.hwversion)
        ),
        (
            "gpd.tee.firmware.implementation.binaryversion",
            Value::Binary(info.hwversion.clone().into_bytes()),
        ),
        ("gpd.tee.firmware.manufacturer", text(&maker(info.oem_pen))),
        ("dev.tegata.security.level", text(&info.security_level)),
        ("dev.tegata.ueid", Value::Binary(info.ueid.clone())),
        ("dev.tegata.serial", text(&info.serial)),
        ("dev.tegata.hwmodel", Value::Binary(info.hwmodel.clone())),
        ("dev.tegata.hwversion", text(&info.hwversion)),
    ];
    if let Some(pen) = info.oem_pen {
        list.push(("dev.tegata.oemid.pen", Value::U64(pen)));
    }
    if let Some(imei) = &info.imei {
        list.push(("dev.tegata.imei", text(imei)));
    }
    if let Some(mac) = &info.mac {
        list.push(("dev.tegata.mac", Value::Binary(mac.to_vec())));
    }
    list
}

fn maker(pen: Option<u64>) -> String {
    pen.map_or_else(|| "unknown".to_string(), |pen| format!("PEN {pen}"))
}

fn lookup(c: &Ctx<'_>, set: u32, name: u32) -> Res<Value> {
    let (set, at) = if is_pseudo(set) {
        (set, None)
    } else {
        let enumerator = c.st.property_enumerators.get(set)?;
        match enumerator.set {
            Some(set) => (set, Some(enumerator.at)),
            None => return code(TEE_ERROR_ITEM_NOT_FOUND),
        }
    };
    let mut list = properties(c.st, set)?;
    let found = match at {
        Some(at) => (at < list.len()).then(|| list.swap_remove(at)),
        None => {
            let name = c.mem.c_string(name, NAME_LEN_MAX)?;
            list.into_iter().find(|(known, _)| *known == name)
        }
    };
    found.map_or(code(TEE_ERROR_ITEM_NOT_FOUND), |(_, value)| Ok(value))
}

const fn is_pseudo(set: u32) -> bool {
    matches!(
        set,
        TEE_PROPSET_CURRENT_CLIENT | TEE_PROPSET_CURRENT_TA | TEE_PROPSET_TEE_IMPLEMENTATION
    )
}

/// `TEE_GetPropertyAsString`: NUL-terminated; the size counts the NUL.
pub fn as_string(c: &mut Ctx<'_>, set: u32, name: u32, buffer: u32, len: u32) -> Res {
    let mut value = match lookup(c, set, name)? {
        Value::Text(value) => value,
        Value::Bool(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::Binary(value) => Base64::encode_string(&value),
        Value::Uuid(value) => TaUuid(value).to_string(),
        Value::Identity(id) => format!("{}:{}", id.login, Uuid::from_bytes(id.uuid).hyphenated()),
    };
    value.push('\0');
    c.mem.out_buffer(buffer, len, value.as_bytes())
}

/// `TEE_GetPropertyAsBool`: written as a C `bool`, one byte.
pub fn as_bool(c: &mut Ctx<'_>, set: u32, name: u32, out: u32) -> Res {
    match lookup(c, set, name)? {
        Value::Bool(value) => c.mem.write(out, &[u8::from(value)]),
        Value::Text(value) => match value.parse::<bool>() {
            Ok(value) => c.mem.write(out, &[u8::from(value)]),
            Err(_) => code(TEE_ERROR_BAD_FORMAT),
        },
        _ => code(TEE_ERROR_BAD_FORMAT),
    }
}

fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::U32(value) => Some(u64::from(*value)),
        Value::U64(value) => Some(*value),
        Value::Text(value) => value.parse().ok(),
        _ => None,
    }
}

/// `TEE_GetPropertyAsU32`.
pub fn as_u32(c: &mut Ctx<'_>, set: u32, name: u32, out: u32) -> Res {
    match integer(&lookup(c, set, name)?).and_then(|value| u32::try_from(value).ok()) {
        Some(value) => c.mem.put_u32(out, value),
        None => code(TEE_ERROR_BAD_FORMAT),
    }
}

/// `TEE_GetPropertyAsU64`.
pub fn as_u64(c: &mut Ctx<'_>, set: u32, name: u32, out: u32) -> Res {
    match integer(&lookup(c, set, name)?) {
        Some(value) => c.mem.write(out, &value.to_le_bytes()),
        None => code(TEE_ERROR_BAD_FORMAT),
    }
}

/// `TEE_GetPropertyAsBinaryBlock`.
pub fn as_binary(c: &mut Ctx<'_>, set: u32, name: u32, buffer: u32, len: u32) -> Res {
    match lookup(c, set, name)? {
        Value::Binary(value) => c.mem.out_buffer(buffer, len, &value),
        Value::Text(value) => match Base64::decode_vec(&value) {
            Ok(value) => c.mem.out_buffer(buffer, len, &value),
            Err(_) => code(TEE_ERROR_BAD_FORMAT),
        },
        _ => code(TEE_ERROR_BAD_FORMAT),
    }
}

/// `TEE_GetPropertyAsUUID`.
pub fn as_uuid(c: &mut Ctx<'_>, set: u32, name: u32, out: u32) -> Res {
    match lookup(c, set, name)? {
        Value::Uuid(value) => c.mem.write(out, &swap_uuid(value)),
        _ => code(TEE_ERROR_BAD_FORMAT),
    }
}

/// `TEE_GetPropertyAsIdentity`.
pub fn as_identity(c: &mut Ctx<'_>, set: u32, name: u32, out: u32) -> Res {
    match lookup(c, set, name)? {
        Value::Identity(value) => {
            let mut bytes = value.login.to_le_bytes().to_vec();
            bytes.extend_from_slice(&swap_uuid(value.uuid));
            c.mem.write(out, &bytes)
        }
        _ => code(TEE_ERROR_BAD_FORMAT),
    }
}

/// `TEE_AllocatePropertyEnumerator`.
pub fn allocate_enumerator(c: &mut Ctx<'_>, out: u32) -> Res {
    let handle =
        c.st.property_enumerators
            .insert(PropertyEnumerator::default())?;
    c.mem.put_u32(out, handle)
}

/// `TEE_FreePropertyEnumerator`.
pub fn free_enumerator(c: &mut Ctx<'_>, enumerator: u32) -> Res {
    c.st.property_enumerators.remove(enumerator).map(drop)
}

/// `TEE_StartPropertyEnumerator`.
pub fn start_enumerator(c: &mut Ctx<'_>, enumerator: u32, set: u32) -> Res {
    if !is_pseudo(set) {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    *c.st.property_enumerators.get_mut(enumerator)? = PropertyEnumerator {
        set: Some(set),
        at: 0,
    };
    Ok(())
}

/// `TEE_ResetPropertyEnumerator`.
pub fn reset_enumerator(c: &mut Ctx<'_>, enumerator: u32) -> Res {
    *c.st.property_enumerators.get_mut(enumerator)? = PropertyEnumerator::default();
    Ok(())
}

fn enumerated(c: &Ctx<'_>, enumerator: u32) -> Res<(usize, Vec<(String, Value)>)> {
    let found = c.st.property_enumerators.get(enumerator)?;
    match found.set {
        Some(set) => Ok((found.at, properties(c.st, set)?)),
        None => code(TEE_ERROR_ITEM_NOT_FOUND),
    }
}

/// `TEE_GetPropertyName`: NUL-terminated.
pub fn name(c: &mut Ctx<'_>, enumerator: u32, buffer: u32, len: u32) -> Res {
    let (at, list) = enumerated(c, enumerator)?;
    let Some((name, _)) = list.into_iter().nth(at) else {
        return code(TEE_ERROR_ITEM_NOT_FOUND);
    };
    let mut name = name.into_bytes();
    name.push(0);
    c.mem.out_buffer(buffer, len, &name)
}

/// `TEE_GetNextProperty`.
pub fn next(c: &mut Ctx<'_>, enumerator: u32) -> Res {
    let (at, list) = enumerated(c, enumerator)?;
    let at = at.saturating_add(1).min(list.len());
    c.st.property_enumerators.get_mut(enumerator)?.at = at;
    if at < list.len() {
        Ok(())
    } else {
        Err(Fail::Code(TEE_ERROR_ITEM_NOT_FOUND))
    }
}

/// Longest property section in bytes.
pub const PROPERTIES_LEN_MAX: usize = 4096;
/// Most lines in it.
const PROPERTIES_MAX: usize = 64;
/// Longest property name in bytes.
const NAME_LEN_MAX: u32 = 256;
/// Linear memory of a TA that declares none: 1 MiB.
const DATA_SIZE_DEFAULT: u32 = 1024 * 1024;
