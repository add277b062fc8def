//! What the host keeps for one instance: handles, identities, the cancellation mask.
//!
//! Key material lives here, natively, and is wiped when its object or operation goes; a TA sees of
//! it only what GP lets it read.

use alloc::boxed::Box;
use alloc::string::String;

use super::consts::*;
use super::fail::{Fail, Res};
use super::handles::Handles;
use super::host::{CallSignal, HostServices, TeeInfo};
use super::mem::Mem;
use super::object::{Object, ObjectEnumerator};
use super::operation::Operation;
use super::property::{PropertyEnumerator, TaProperties};
use crate::session::launch::ClientIdentity;
use crate::storage::TaId;

/// State of one instance.
pub struct GpState {
    /// The TEE around the instance.
    pub services: Box<dyn HostServices>,
    /// Which TA this is.
    pub ta: TaId,
    /// Its declared properties.
    pub properties: TaProperties,
    /// Facts about the TEE and device.
    pub info: TeeInfo,
    /// Caller of the session whose entry point runs now.
    pub client: Option<ClientIdentity>,
    pub(super) objects: Handles<Object>,
    pub(super) operations: Handles<Operation>,
    pub(super) property_enumerators: Handles<PropertyEnumerator>,
    pub(super) object_enumerators: Handles<ObjectEnumerator>,
    pub(super) ta_sessions: Handles<u32>,
    pub(super) cancellation_masked: bool,
    pub(super) log_lines_left: u32,
    /// Set by `TEE_Panic` and programmer errors: (code, function).
    pub(crate) work: u64,
}

/// A call's view: the TA's memory and the host's state.
pub struct Ctx<'a> {
    /// Guest memory.
    pub mem: Mem<'a>,
    /// Host state.
    pub st: &'a mut GpState,
}

impl GpState {
    /// State of a fresh instance.
    #[must_use]
    pub fn new(
        services: Box<dyn HostServices>,
        ta: TaId,
        properties: TaProperties,
        info: TeeInfo,
    ) -> Self {
        Self {
            services,
            ta,
            properties,
            info,
            client: None,
            objects: Handles::new(1, OBJECTS_MAX),
            operations: Handles::new(2, OPERATIONS_MAX),
            property_enumerators: Handles::new(3, ENUMERATORS_MAX),
            object_enumerators: Handles::new(4, ENUMERATORS_MAX),
            ta_sessions: Handles::new(5, TA_SESSIONS_MAX),
            cancellation_masked: true,
            log_lines_left: LOG_LINES_PER_CALL,
            work: 0,
        }
    }

    /// Begins an entry point: cancellation is masked, the log budget is fresh.
    pub fn begin(&mut self, client: Option<ClientIdentity>) {
        self.client = client;
        self.cancellation_masked = true;
        self.log_lines_left = LOG_LINES_PER_CALL;
    }

    /// The signal for the running call.
    pub fn poll(&mut self) -> CallSignal {
        self.services.poll()
    }

    /// Notes work done natively for the TA, in units of Wasm fuel.
    pub fn charge(&mut self, fuel: u64) {
        self.work = self.work.saturating_add(fuel);
    }

    /// Notes native work over `len` bytes.
    pub fn charge_bytes(&mut self, len: u32) {
        self.charge(u64::from(len));
    }

    /// Random bytes; a generator that fails ends the TA rather than give it weak keys.
    pub fn random(&mut self, out: &mut [u8]) -> Res {
        self.services
            .random(out)
            .map_err(|_| Fail::Panic(TEE_ERROR_GENERIC))
    }
}

/// `TEE_Panic`.
pub fn panic(_: &mut Ctx<'_>, code: u32) -> Res {
    Err(Fail::Panic(code))
}

/// `TEE_GetCancellationFlag`: false while masked.
pub fn cancellation_flag(c: &mut Ctx<'_>) -> Res<u32> {
    let masked = c.st.cancellation_masked;
    Ok(u32::from(!masked && c.st.poll().cancel))
}

/// `TEE_UnmaskCancellation`: the previous mask.
pub fn unmask_cancellation(c: &mut Ctx<'_>) -> Res<u32> {
    Ok(u32::from(core::mem::replace(
        &mut c.st.cancellation_masked,
        false,
    )))
}

/// `TEE_MaskCancellation`: the previous mask.
pub fn mask_cancellation(c: &mut Ctx<'_>) -> Res<u32> {
    Ok(u32::from(core::mem::replace(
        &mut c.st.cancellation_masked,
        true,
    )))
}

/// A line of the TA's memory as text fit for a log: printable, one line, not too long.
#[must_use]
pub fn printable(bytes: &[u8], max: usize) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(max)
        .collect()
}

/// Open objects of one instance.
const OBJECTS_MAX: usize = 64;
/// Operations of one instance.
const OPERATIONS_MAX: usize = 64;
/// Enumerators of a kind of one instance.
const ENUMERATORS_MAX: usize = 16;
/// Sessions an instance may hold to other TAs.
const TA_SESSIONS_MAX: usize = 8;
/// Log lines a TA may write in one entry point.
const LOG_LINES_PER_CALL: u32 = 32;
