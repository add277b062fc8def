//! Instances that live elsewhere and call in.
//!
//! Purpose: where the operating system starts TA instances, and not this TEE (OP-TEE, with one
//! image instance for each), an instance comes with its first call. [`SessionManager::attach`]
//! binds it to one installed TA, for ever, and hands out the services of that TA alone.
//!
//! Invariants: an attached instance counts among the instances, holds its object locks until it is
//! dropped, and loses its components when its release is replaced, like any other. A
//! single-instance TA has one of them at most.
//!
//! Absent on purpose: sessions between TAs (GP's internal client API). Both ends would be in
//! other hands; the services answer `TEE_ERROR_NOT_SUPPORTED`.
//!
//! Trusted: who calls [`SessionManager::attach`] has established that the other side is the image
//! that runs TAs. Not trusted: that image after it has run a TA's code; it gets what the TA gets.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tegata_wire::ids::TaUuid;

use super::services::{InstanceServices, Running};
use super::{LaunchError, LaunchSpec, Launcher, Lifetime, SessionManager, Slot, TaInstance};
use crate::gp::host::{HostError, HostServices};
use crate::storage::TaId;
use crate::wasm;

/// An instance that lives elsewhere. Dropped when it is gone: what it held is given back.
pub struct Attached {
    manager: SessionManager,
    number: u64,
    services: InstanceServices,
}

impl Attached {
    /// The TA that it runs.
    #[must_use]
    pub const fn ta(&self) -> TaId {
        self.services.ta
    }

    /// The services of that TA; for [`crate::gp::host::serve`].
    pub fn services(&mut self) -> &mut dyn HostServices {
        &mut self.services
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.manager.forget(self.number);
    }
}

impl SessionManager {
    /// Binds a new instance that lives elsewhere to the installed TA `uuid`, and gives its module.
    ///
    /// # Errors
    /// [`HostError::ItemNotFound`]; [`HostError::Busy`] if it is a single-instance TA and runs;
    /// [`HostError::OutOfMemory`] at the limit of instances; [`HostError::BadFormat`] if the
    /// module's properties are wrong; or what storage reports.
    pub fn attach(&self, uuid: &TaUuid) -> Result<(Attached, Arc<Vec<u8>>), HostError> {
        let shared = &self.shared;
        let loaded = shared.tee.load(uuid)?.ok_or(HostError::ItemNotFound)?;
        let properties = wasm::declared_properties(&loaded.module).map_err(|error| {
            shared.tee.log(&loaded.id, &error.to_string());
            HostError::BadFormat
        })?;
        let lifetime = Lifetime::of(&properties);
        let running = Arc::new(spin::Mutex::new(Running::default()));
        let number = {
            let mut state = shared.state.lock();
            if state.instances.len() >= shared.limits.instances {
                return Err(HostError::OutOfMemory);
            }
            let runs = |slot: &Slot| slot.ta == loaded.id && slot.lifetime.single_instance;
            if lifetime.single_instance && state.instances.values().any(runs) {
                return Err(HostError::Busy);
            }
            state.next_instance = state.next_instance.wrapping_add(1) & !(1 << 63);
            let number = state.next_instance;
            let slot = Slot {
                ta: loaded.id,
                measurement: loaded.measurement,
                lifetime,
                // Never idle here: nothing of it can be taken.
                instance: None,
                running: Arc::clone(&running),
                sessions: 1,
                closing: Vec::new(),
                retired: false,
            };
            state.instances.insert(number, slot);
            number
        };
        if !self.is_current(&loaded) {
            self.forget(number);
            return Err(HostError::Busy);
        }
        let attached = Attached {
            manager: self.clone(),
            number,
            services: InstanceServices {
                shared: Arc::downgrade(shared),
                instance: number,
                ta: loaded.id,
                running,
                calls_out: false,
            },
        };
        Ok((attached, loaded.module))
    }
}

/// The launcher of a TEE whose instances all live elsewhere: it starts none.
pub struct Elsewhere;

impl Launcher for Elsewhere {
    fn launch(
        &self,
        _: &LaunchSpec,
        _: Box<dyn HostServices>,
    ) -> Result<Box<dyn TaInstance>, LaunchError> {
        Err(LaunchError::Start {
            reason: "instances are started elsewhere".to_string(),
        })
    }
}
