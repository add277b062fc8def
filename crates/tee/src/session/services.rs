//! [`HostServices`] of an instance, over the TEE and the session manager.

use alloc::collections::BTreeSet;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use tegata_wire::ids::TaUuid;
use zeroize::Zeroizing;

use super::control::CallControl;
use super::locks::OpenObject;
use super::{Caller, SessionManager, Shared};
use crate::gp::consts::*;
use crate::gp::host::{
    CallSignal, ComponentKind, HostError, HostServices, ObjectToken, PersistentTime, TaReply,
    TeeInfo,
};
use crate::gp::params::Params;
use crate::position::Position;
use crate::session::launch::ClientIdentity;
use crate::storage::TaId;

/// What an instance is doing now.
#[derive(Clone, Default)]
pub(super) struct Running {
    /// The call that made it run.
    pub(super) control: CallControl,
    /// Instances that wait for this one, and this one: a call back to any of them is a cycle.
    pub(super) chain: BTreeSet<u64>,
    /// Lines it has written to the log since.
    pub(super) log_lines: u32,
}

/// Services of one instance; bound to its TA for ever.
pub(super) struct InstanceServices {
    pub(super) shared: Weak<Shared>,
    pub(super) instance: u64,
    pub(super) ta: TaId,
    pub(super) running: Arc<spin::Mutex<Running>>,
    /// Whether it may open sessions with other TAs.
    pub(super) calls_out: bool,
}

impl InstanceServices {
    fn shared(&self) -> Result<Arc<Shared>, HostError> {
        self.shared.upgrade().ok_or(HostError::Communication)
    }

    /// The TEE, for an instance that it still knows: what was ended may live on for a while, taken
    /// over, and gets nothing any more.
    fn live(&self) -> Result<Arc<Shared>, HostError> {
        let shared = self.shared()?;
        if shared.state.lock().instances.contains_key(&self.instance) {
            Ok(shared)
        } else {
            Err(HostError::Communication)
        }
    }

    fn id_of(&self, shared: &Shared, token: ObjectToken) -> Result<Vec<u8>, HostError> {
        Ok(shared
            .state
            .lock()
            .locks
            .get(token, self.instance)?
            .id
            .clone())
    }

    fn take(&self, shared: &Shared, id: &[u8], flags: u32) -> Result<ObjectToken, HostError> {
        let (ta, instance) = (self.ta, self.instance);
        let object = OpenObject {
            ta,
            id: id.to_vec(),
            flags,
            instance,
        };
        let mut state = shared.state.lock();
        // Under the same lock as the handles of a dead instance are given back.
        if !state.instances.contains_key(&instance) {
            return Err(HostError::Communication);
        }
        state.locks.take(object)
    }

    /// The manager, for calls to other TAs.
    fn manager(&self) -> Result<SessionManager, HostError> {
        if !self.calls_out {
            return Err(HostError::NotSupported);
        }
        let shared = self.live()?;
        Ok(SessionManager { shared })
    }

    fn caller(&self) -> (Caller, Running) {
        let running = self.running.lock().clone();
        let client = ClientIdentity::trusted_app(&self.ta.uuid);
        (
            Caller {
                owner: owner_of(self.instance),
                client,
            },
            running,
        )
    }
}

/// Owner number of the sessions an instance opens: never a client's.
pub(super) const fn owner_of(instance: u64) -> u64 {
    instance | (1 << 63)
}

/// The instance that owner number belongs to, if it is an instance's.
pub(super) const fn instance_of(owner: u64) -> Option<u64> {
    if owner & (1 << 63) == 0 {
        None
    } else {
        Some(owner & !(1 << 63))
    }
}

impl HostServices for InstanceServices {
    fn info(&mut self) -> Result<TeeInfo, HostError> {
        // The one question that comes before the instance is listed, while it is launched.
        self.shared()?.tee.info()
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), HostError> {
        self.live()?.tee.random(out)
    }

    fn system_time_ms(&mut self) -> Result<u64, HostError> {
        Ok(self.live()?.tee.system_time_ms())
    }

    fn ree_time_ms(&mut self) -> Result<u64, HostError> {
        Ok(self.live()?.tee.ree_time_ms())
    }

    fn persistent_time(&mut self) -> Result<Option<PersistentTime>, HostError> {
        self.live()?.tee.clock(&self.ta)
    }

    fn set_persistent_time(&mut self, time: PersistentTime) -> Result<(), HostError> {
        self.live()?.tee.set_clock(&self.ta, time)
    }

    fn poll(&mut self) -> CallSignal {
        match self.live() {
            Ok(shared) => self
                .running
                .lock()
                .control
                .signal(shared.tee.system_time_ms()),
            Err(_) => CallSignal {
                cancel: true,
                stop: true,
            },
        }
    }

    fn idle(&mut self, ms: u32) {
        if let Ok(shared) = self.live() {
            shared.tee.idle(ms);
        }
    }

    fn object_open(&mut self, id: &[u8], flags: u32) -> Result<(ObjectToken, Vec<u8>), HostError> {
        let shared = self.live()?;
        // The handle is taken first, so that nobody else can come between.
        let token = self.take(&shared, id, flags)?;
        match shared.tee.object_read(&self.ta, id) {
            Ok(mut content) => Ok((token, core::mem::take(&mut *content))),
            Err(error) => {
                self.object_close(token);
                Err(error)
            }
        }
    }

    fn object_create(
        &mut self,
        id: &[u8],
        flags: u32,
        content: &[u8],
    ) -> Result<ObjectToken, HostError> {
        let shared = self.live()?;
        if shared.state.lock().locks.in_use(&self.ta, id) {
            return Err(HostError::AccessConflict);
        }
        let token = self.take(&shared, id, flags & !TEE_DATA_FLAG_OVERWRITE)?;
        let replace = flags & TEE_DATA_FLAG_OVERWRITE != 0;
        match shared.tee.object_create(&self.ta, id, content, replace) {
            Ok(()) => Ok(token),
            Err(error) => {
                self.object_close(token);
                Err(error)
            }
        }
    }

    fn object_read(&mut self, token: ObjectToken) -> Result<Vec<u8>, HostError> {
        let shared = self.live()?;
        let id = self.id_of(&shared, token)?;
        shared
            .tee
            .object_read(&self.ta, &id)
            .map(|mut content| core::mem::take(&mut *content))
    }

    fn object_write(&mut self, token: ObjectToken, content: &[u8]) -> Result<(), HostError> {
        let shared = self.live()?;
        let id = self.id_of(&shared, token)?;
        shared.tee.object_write(&self.ta, &id, content)
    }

    fn object_rename(&mut self, token: ObjectToken, new_id: &[u8]) -> Result<(), HostError> {
        let shared = self.live()?;
        let id = self.id_of(&shared, token)?;
        shared.tee.object_rename(&self.ta, &id, new_id)?;
        shared.state.lock().locks.renamed(token, new_id);
        Ok(())
    }

    fn object_delete(&mut self, token: ObjectToken) -> Result<(), HostError> {
        let shared = self.live()?;
        let id = self.id_of(&shared, token)?;
        let done = shared.tee.object_delete(&self.ta, &id);
        self.object_close(token);
        done
    }

    fn object_close(&mut self, token: ObjectToken) {
        if let Ok(shared) = self.shared() {
            shared.state.lock().locks.release(token, self.instance);
        }
    }

    fn object_list(&mut self) -> Result<Vec<Vec<u8>>, HostError> {
        self.live()?.tee.object_list(&self.ta)
    }

    fn component(&mut self, kind: ComponentKind) -> Result<Option<Zeroizing<Vec<u8>>>, HostError> {
        let shared = self.live()?;
        let content = shared.tee.component(&self.ta, kind)?;
        // A session may outlive an update. What the CA made for the new release is not for the old
        // module: a request under its key would say that the new module made it. Looked at after
        // reading, for an update may come in between.
        let own = {
            let state = shared.state.lock();
            let slot = state.instances.get(&self.instance);
            slot.map(|slot| slot.measurement)
        };
        match (own, shared.tee.installed(&self.ta.uuid)?) {
            (Some(own), Some((ta, installed))) if ta == self.ta && installed == own => Ok(content),
            _ => Err(HostError::ItemNotFound),
        }
    }

    fn ta_unique_key(&mut self, context: &[u8]) -> Result<Zeroizing<[u8; 32]>, HostError> {
        self.live()?.tee.ta_unique_key(&self.ta, context)
    }

    fn evidence(&mut self, nonce: &[u8]) -> Result<Vec<u8>, HostError> {
        self.live()?.tee.evidence(nonce)
    }

    fn position(&mut self) -> Result<Position, HostError> {
        self.live()?.tee.position()
    }

    fn ta_open(
        &mut self,
        destination: [u8; 16],
        timeout_ms: u32,
        params: Params,
    ) -> Result<TaReply, HostError> {
        let manager = self.manager()?;
        let (caller, running) = self.caller();
        let control = manager.nested(&running.control, timeout_ms);
        let ta = TaUuid(destination);
        Ok(manager.open_from(&caller, &ta, params, &control, &running.chain))
    }

    fn ta_invoke(
        &mut self,
        session: u32,
        timeout_ms: u32,
        command: u32,
        params: Params,
    ) -> Result<TaReply, HostError> {
        let manager = self.manager()?;
        let (caller, running) = self.caller();
        let control = manager.nested(&running.control, timeout_ms);
        Ok(manager.invoke_from(&caller, session, command, params, &control, &running.chain))
    }

    fn ta_close(&mut self, session: u32) {
        if let Ok(manager) = self.manager() {
            let (caller, _) = self.caller();
            manager.close_session(&caller, session);
        }
    }

    fn log(&mut self, line: &str) {
        let Ok(shared) = self.live() else { return };
        // An instance that lives elsewhere has one entry point after another unseen; its host
        // counts the lines.
        if self.calls_out {
            let mut running = self.running.lock();
            if running.log_lines >= LOG_LINES_MAX {
                return;
            }
            running.log_lines = running.log_lines.saturating_add(1);
        }
        shared.tee.log(&self.ta, line);
    }
}

/// Most log lines that are taken from an instance between two takings of it: twice what the host
/// of its code lets through in an entry point, for the first taking has two.
const LOG_LINES_MAX: u32 = 64;
