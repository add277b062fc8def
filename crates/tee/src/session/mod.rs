//! Sessions and instances of TAs: lifetimes, callers, limits, cancellation, panics.
//!
//! Purpose: [`SessionManager`] is what a backend calls for GP's client API, once it has found out
//! who calls. It starts instances through a [`Launcher`], keeps GP's rules for single and multiple
//! instances and sessions, never runs two entry points of an instance at once, and ends what died.
//!
//! Invariants: a session is used by its owner only, and a foreign number looks like one that does
//! not exist; a client's identity is what the backend says, never what a message says; after a
//! panic every session of the instance answers `TEE_ERROR_TARGET_DEAD` from the TEE; a call that
//! would come back to a waiting instance is refused as busy.
//!
//! Trusted: the backend for caller identities, the launcher for isolation. Not trusted: TAs and
//! clients; both have limits.

pub mod access;
pub mod attach;
pub mod identity;
pub mod launch;

mod control;
mod locks;
mod services;
mod teep;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use tegata_wire::ids::{Digest, TaUuid};

use crate::gp::consts::*;
use crate::gp::host::{HostServices, LOG_LEN_BYTES_MAX, TaReply};
use crate::gp::params::{Params, ParamsOut, within_limits};
use crate::gp::state::printable;
use crate::storage::TaId;
use crate::wasm::{TaModule, WasmInstance};

pub use access::{Exclusive, LoadedTa, SharedTee, TeeAccess};
pub use attach::{Attached, Elsewhere};
pub use control::CallControl;
pub use launch::{
    ClientIdentity, Entry, LaunchError, LaunchSpec, Launcher, Lifetime, Outcome, Panic, TaInstance,
};
use locks::ObjectLocks;
use services::{InstanceServices, Running, instance_of, owner_of};
pub use teep::TaChange;

/// Who calls, as the backend found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Number of the client's connection; below 2^63 and never reused while sessions are open.
    pub owner: u64,
    /// Identity the session is opened with.
    pub client: ClientIdentity,
}

/// Limits on what clients and TAs may have open at once.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Sessions of one owner.
    pub sessions_per_owner: usize,
    /// Sessions in all.
    pub sessions: usize,
    /// Instances in all; each is a process in the software backend.
    pub instances: usize,
    /// How long a client waits for a busy instance, in milliseconds.
    pub busy_wait_ms_max: u64,
    /// Longest time an entry point may take, in milliseconds.
    pub entry_ms_max: u64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            sessions_per_owner: 16,
            sessions: 128,
            instances: 32,
            busy_wait_ms_max: 30_000,
            entry_ms_max: 60_000,
        }
    }
}

/// Opens, uses and closes sessions. Clones are the same manager.
#[derive(Clone)]
pub struct SessionManager {
    shared: Arc<Shared>,
}

struct Shared {
    state: spin::Mutex<State>,
    tee: Box<dyn TeeAccess>,
    launcher: Box<dyn Launcher>,
    limits: SessionLimits,
}

#[derive(Default)]
struct State {
    sessions: BTreeMap<u32, Session>,
    instances: BTreeMap<u64, Slot>,
    launching: BTreeSet<TaUuid>,
    locks: ObjectLocks,
    next_session: u32,
    next_instance: u64,
}

struct Session {
    owner: u64,
    instance: u64,
    /// Its `TA_OpenSessionEntryPoint` has not come to its end. Only the call that opens it closes
    /// it then, for only that call has the instance.
    opening: bool,
    /// The instance died under it.
    dead: bool,
    /// What its running call listens to.
    running: Option<CallControl>,
}

struct Slot {
    ta: TaId,
    measurement: Digest,
    lifetime: Lifetime,
    /// `None` while an entry point runs.
    instance: Option<Box<dyn TaInstance>>,
    running: Arc<spin::Mutex<Running>>,
    sessions: usize,
    /// Sessions that were closed while it ran: whoever gives it back closes them in it.
    closing: Vec<u32>,
    /// No new sessions: a newer release is installed, or the TA is gone.
    retired: bool,
}

/// An instance taken out of its slot to run an entry point.
struct Taken {
    number: u64,
    instance: Box<dyn TaInstance>,
}

/// What becomes of a session whose instance is busy for too long.
enum Later {
    /// It is closed when the instance is given back.
    Queued,
    /// The instance is not busy any more.
    Free,
    /// No other session needs the instance.
    Alone,
}

/// Why an instance cannot be had now.
enum Unavailable {
    Busy,
    Gone,
}

fn tee_reply(code: u32) -> TaReply {
    TaReply {
        code,
        origin: TEE_ORIGIN_TEE,
        session: 0,
        params: ParamsOut::default(),
    }
}

fn ta_reply(code: u32, session: u32, params: ParamsOut) -> TaReply {
    TaReply {
        code,
        origin: TEE_ORIGIN_TRUSTED_APP,
        session,
        params,
    }
}

impl SessionManager {
    /// A manager over `tee` that starts instances with `launcher`.
    #[must_use]
    pub fn new(
        tee: impl TeeAccess + 'static,
        launcher: impl Launcher + 'static,
        limits: SessionLimits,
    ) -> Self {
        let shared = Shared {
            state: spin::Mutex::new(State::default()),
            tee: Box::new(tee),
            launcher: Box::new(launcher),
            limits,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// `TEEC_OpenSession`: the reply carries the number of the session.
    #[must_use]
    pub fn open_session(
        &self,
        caller: &Caller,
        ta: &TaUuid,
        params: Params,
        control: &CallControl,
    ) -> TaReply {
        self.open_from(caller, ta, params, control, &BTreeSet::new())
    }

    /// `TEEC_InvokeCommand`.
    #[must_use]
    pub fn invoke(
        &self,
        caller: &Caller,
        session: u32,
        command: u32,
        params: Params,
        control: &CallControl,
    ) -> TaReply {
        self.invoke_from(caller, session, command, params, control, &BTreeSet::new())
    }

    /// `TEEC_CloseSession`: closing what is not open does nothing.
    pub fn close_session(&self, caller: &Caller, session: u32) {
        let found = {
            let mut state = self.shared.state.lock();
            match state.sessions.get(&session) {
                Some(open) if open.owner == caller.owner => state.sessions.remove(&session),
                _ => None,
            }
        };
        let Some(found) = found else { return };
        if found.dead || found.opening {
            return;
        }
        loop {
            // A client that leaves does not wait for ever either.
            let control = self.entry_control(&CallControl::default());
            match self.take(found.instance, &control, &BTreeSet::new(), true) {
                Ok(mut taken) => {
                    let outcome = taken.instance.call(Entry::CloseSession { session });
                    return self.put_back(taken, &outcome, true);
                }
                Err(Unavailable::Busy) => match self.close_later(found.instance, session) {
                    Later::Queued => return,
                    Later::Free => {}
                    Later::Alone => return self.kill(found.instance),
                },
                Err(Unavailable::Gone) => return,
            }
        }
    }

    /// Leaves the closing of a session to whoever runs its instance now, unless nobody else needs
    /// that instance.
    fn close_later(&self, number: u64, session: u32) -> Later {
        let mut state = self.shared.state.lock();
        match state.instances.get_mut(&number) {
            Some(slot) if slot.instance.is_none() => {
                if slot.sessions > slot.closing.len().saturating_add(1) {
                    slot.closing.push(session);
                    Later::Queued
                } else {
                    Later::Alone
                }
            }
            // It came back, or is gone: the next attempt to take it says which.
            _ => Later::Free,
        }
    }

    /// The client's connection ended: its running calls are stopped and its sessions closed.
    pub fn owner_gone(&self, owner: u64) {
        let open: Vec<u32> = {
            let state = self.shared.state.lock();
            let own = state
                .sessions
                .iter()
                .filter(|(_, session)| session.owner == owner);
            own.map(|(number, session)| {
                if let Some(control) = &session.running {
                    let slot = state.instances.get(&session.instance);
                    // Other clients' sessions in the same instance must not die with this one.
                    match slot {
                        Some(slot) if slot.sessions > 1 => control.cancel(),
                        _ => control.stop(),
                    }
                }
                *number
            })
            .collect()
        };
        let caller = Caller {
            owner,
            client: ClientIdentity::public(),
        };
        for session in open {
            self.close_session(&caller, session);
        }
    }

    /// A TA was updated or removed: its instances are the old code, and stop. One that runs stops
    /// at its next slice; clients see `TEE_ERROR_TARGET_DEAD` and open a new session.
    pub fn retire(&self, ta: &TaUuid) {
        let old: Vec<u64> = {
            let mut state = self.shared.state.lock();
            let own = state
                .instances
                .iter_mut()
                .filter(|(_, slot)| slot.ta.uuid == *ta);
            own.map(|(number, slot)| {
                slot.retired = true;
                slot.running.lock().control.stop();
                *number
            })
            .collect()
        };
        for number in old {
            let none = BTreeSet::new();
            let Ok(taken) = self.try_take(number, &CallControl::default(), &none) else {
                continue;
            };
            if self.sessions_of(number) == 0 {
                self.end(taken);
            } else {
                // The old code does not run again, not even to close its sessions.
                drop(taken);
                self.kill(number);
            }
        }
    }

    /// Whether what was loaded is still installed. Asked once the instance can be retired, so that
    /// no update comes in between.
    fn is_current(&self, loaded: &LoadedTa) -> bool {
        let installed = self.shared.tee.installed(&loaded.id.uuid);
        installed == Ok(Some((loaded.id, loaded.measurement)))
    }

    fn is_retired(&self, number: u64) -> bool {
        let state = self.shared.state.lock();
        state.instances.get(&number).is_none_or(|slot| slot.retired)
    }

    fn sessions_of(&self, number: u64) -> usize {
        let state = self.shared.state.lock();
        state.instances.get(&number).map_or(0, |slot| slot.sessions)
    }

    /// Sessions and instances that are there now.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let state = self.shared.state.lock();
        (state.sessions.len(), state.instances.len())
    }

    /// Control of a call that a TA makes while it is itself called.
    fn nested(&self, outer: &CallControl, timeout_ms: u32) -> CallControl {
        outer.nested(self.shared.tee.system_time_ms(), timeout_ms)
    }

    fn cancelled(&self, control: &CallControl) -> bool {
        control.signal(self.shared.tee.system_time_ms()).cancel
    }

    /// The caller's control with the limit on an entry point's time.
    fn entry_control(&self, control: &CallControl) -> CallControl {
        let end = self
            .shared
            .tee
            .system_time_ms()
            .saturating_add(self.shared.limits.entry_ms_max);
        control.limited(end)
    }

    fn open_from(
        &self,
        caller: &Caller,
        ta: &TaUuid,
        params: Params,
        control: &CallControl,
        chain: &BTreeSet<u64>,
    ) -> TaReply {
        if self.cancelled(control) {
            return tee_reply(TEE_ERROR_CANCEL);
        }
        if !within_limits(&params) {
            return tee_reply(TEE_ERROR_OUT_OF_MEMORY);
        }
        let control = self.entry_control(control);
        let session = match self.reserve(caller) {
            Ok(session) => session,
            Err(code) => return tee_reply(code),
        };
        let reply = self.open_reserved(caller, ta, params, &control, chain, session);
        if reply.code != TEE_SUCCESS {
            self.shared.state.lock().sessions.remove(&session);
        }
        reply
    }

    fn open_reserved(
        &self,
        caller: &Caller,
        ta: &TaUuid,
        params: Params,
        control: &CallControl,
        chain: &BTreeSet<u64>,
        session: u32,
    ) -> TaReply {
        let mut taken = match self.instance_for(ta, control, chain, session) {
            Ok(taken) => taken,
            Err(reply) => return reply,
        };
        let entry = Entry::OpenSession {
            session,
            client: caller.client,
            params,
        };
        let outcome = taken.instance.call(entry);
        let opened = matches!(
            outcome,
            Outcome::Returned {
                code: TEE_SUCCESS,
                ..
            }
        );
        let wanted = match self.shared.state.lock().sessions.get_mut(&session) {
            Some(open) => {
                open.running = None;
                open.opening = false;
                true
            }
            None => false,
        };
        if opened && !wanted {
            // The client left meanwhile: nobody but this call knows of the session any more.
            let outcome = taken.instance.call(Entry::CloseSession { session });
            self.put_back(taken, &outcome, true);
            return tee_reply(TEE_ERROR_CANCEL);
        }
        // A refused session is closed without CloseSession.
        self.put_back(taken, &outcome, !opened);
        match outcome {
            Outcome::Returned { code, params } => {
                ta_reply(code, if opened { session } else { 0 }, params)
            }
            Outcome::Panicked(_) => tee_reply(TEE_ERROR_TARGET_DEAD),
        }
    }

    fn invoke_from(
        &self,
        caller: &Caller,
        session: u32,
        command: u32,
        params: Params,
        control: &CallControl,
        chain: &BTreeSet<u64>,
    ) -> TaReply {
        if self.cancelled(control) {
            return tee_reply(TEE_ERROR_CANCEL);
        }
        if !within_limits(&params) {
            return tee_reply(TEE_ERROR_OUT_OF_MEMORY);
        }
        let control = self.entry_control(control);
        let instance = {
            let mut state = self.shared.state.lock();
            match state.sessions.get_mut(&session) {
                Some(open) if open.owner == caller.owner => {
                    if open.dead {
                        return tee_reply(TEE_ERROR_TARGET_DEAD);
                    }
                    open.running = Some(control.clone());
                    open.instance
                }
                _ => return tee_reply(TEE_ERROR_ITEM_NOT_FOUND),
            }
        };
        let taken = self.take(instance, &control, chain, chain.is_empty());
        let reply = match taken {
            Ok(mut taken) => {
                let outcome = taken.instance.call(Entry::InvokeCommand {
                    session,
                    command,
                    params,
                });
                self.put_back(taken, &outcome, false);
                match outcome {
                    Outcome::Returned { code, params } => ta_reply(code, 0, params),
                    Outcome::Panicked(_) => tee_reply(TEE_ERROR_TARGET_DEAD),
                }
            }
            Err(Unavailable::Busy) if self.cancelled(&control) => tee_reply(TEE_ERROR_CANCEL),
            Err(Unavailable::Busy) => tee_reply(TEE_ERROR_BUSY),
            Err(Unavailable::Gone) => tee_reply(TEE_ERROR_TARGET_DEAD),
        };
        if let Some(open) = self.shared.state.lock().sessions.get_mut(&session) {
            open.running = None;
        }
        reply
    }

    /// Takes a session number, within the limits.
    fn reserve(&self, caller: &Caller) -> Result<u32, u32> {
        let limits = self.shared.limits;
        let mut state = self.shared.state.lock();
        // Nobody would close the sessions of an instance that is gone.
        if instance_of(caller.owner).is_some_and(|number| !state.instances.contains_key(&number)) {
            return Err(TEE_ERROR_TARGET_DEAD);
        }
        let own = state
            .sessions
            .values()
            .filter(|s| s.owner == caller.owner)
            .count();
        if own >= limits.sessions_per_owner || state.sessions.len() >= limits.sessions {
            return Err(TEE_ERROR_OUT_OF_MEMORY);
        }
        let number = loop {
            state.next_session = state.next_session.wrapping_add(1);
            let number = state.next_session;
            if number != 0 && !state.sessions.contains_key(&number) {
                break number;
            }
        };
        let session = Session {
            owner: caller.owner,
            instance: 0,
            opening: true,
            dead: false,
            running: None,
        };
        state.sessions.insert(number, session);
        Ok(number)
    }

    /// The instance a new session belongs to: the running one of a single-instance TA, or a new
    /// one. It comes taken, and counts the session already.
    #[allow(clippy::result_large_err)] // The error is the client's answer.
    fn instance_for(
        &self,
        ta: &TaUuid,
        control: &CallControl,
        chain: &BTreeSet<u64>,
        session: u32,
    ) -> Result<Taken, TaReply> {
        let tee = &self.shared.tee;
        let Some((id, measurement)) = tee.installed(ta).map_err(|error| tee_reply(error.code()))?
        else {
            return Err(tee_reply(TEE_ERROR_ITEM_NOT_FOUND));
        };
        let started = tee.system_time_ms();
        loop {
            let existing = {
                let mut state = self.shared.state.lock();
                let fits = |slot: &Slot| {
                    slot.ta == id
                        && slot.lifetime.single_instance
                        && !slot.retired
                        && slot.measurement == measurement
                };
                let found = state.instances.iter().find(|(_, slot)| fits(slot));
                let found = found.map(|(number, slot)| {
                    (*number, slot.lifetime.multi_session || slot.sessions == 0)
                });
                match found {
                    Some((number, true)) => Some(number),
                    Some((_, false)) => return Err(tee_reply(TEE_ERROR_BUSY)),
                    None if state.launching.insert(*ta) => None,
                    // Another client is starting this TA at this moment.
                    None => Some(u64::MAX),
                }
            };
            match existing {
                None => {
                    let launched = self.launch(ta, session, control, chain);
                    self.shared.state.lock().launching.remove(ta);
                    return launched;
                }
                Some(u64::MAX) => {}
                Some(number) => match self.try_take(number, control, chain) {
                    Ok(taken) => {
                        self.join(number, session, control);
                        return Ok(taken);
                    }
                    Err(Unavailable::Busy) if chain.contains(&number) || !chain.is_empty() => {
                        return Err(tee_reply(TEE_ERROR_BUSY));
                    }
                    Err(Unavailable::Busy | Unavailable::Gone) => {}
                },
            }
            if self.cancelled(control) {
                return Err(tee_reply(TEE_ERROR_CANCEL));
            }
            let waited = tee.system_time_ms().saturating_sub(started);
            if waited >= self.shared.limits.busy_wait_ms_max {
                return Err(tee_reply(TEE_ERROR_BUSY));
            }
            tee.idle(1);
        }
    }

    fn join(&self, number: u64, session: u32, control: &CallControl) {
        let mut state = self.shared.state.lock();
        if let Some(slot) = state.instances.get_mut(&number) {
            slot.sessions = slot.sessions.saturating_add(1);
        }
        if let Some(open) = state.sessions.get_mut(&session) {
            open.instance = number;
            open.running = Some(control.clone());
        }
    }

    /// Starts an instance and runs `TA_CreateEntryPoint`.
    #[allow(clippy::result_large_err)] // The error is the client's answer.
    fn launch(
        &self,
        ta: &TaUuid,
        session: u32,
        control: &CallControl,
        chain: &BTreeSet<u64>,
    ) -> Result<Taken, TaReply> {
        let loaded = match self.shared.tee.load(ta) {
            Ok(Some(loaded)) => loaded,
            Ok(None) => return Err(tee_reply(TEE_ERROR_ITEM_NOT_FOUND)),
            Err(error) => return Err(tee_reply(error.code())),
        };
        let number = {
            let mut state = self.shared.state.lock();
            if state.instances.len() >= self.shared.limits.instances {
                return Err(tee_reply(TEE_ERROR_OUT_OF_MEMORY));
            }
            state.next_instance = (state.next_instance.wrapping_add(1)) & !(1 << 63);
            state.next_instance
        };
        let mut chain = chain.clone();
        chain.insert(number);
        let running = Arc::new(spin::Mutex::new(Running {
            control: control.clone(),
            chain,
            log_lines: 0,
        }));
        let services: Box<dyn HostServices> = Box::new(InstanceServices {
            shared: Arc::downgrade(&self.shared),
            instance: number,
            ta: loaded.id,
            running: Arc::clone(&running),
            calls_out: true,
        });
        let spec = LaunchSpec {
            ta: loaded.id,
            module: Arc::clone(&loaded.module),
        };
        let mut instance = match self.shared.launcher.launch(&spec, services) {
            Ok(instance) => instance,
            Err(error) => {
                let line = alloc::format!("{error}");
                self.shared.tee.log(&loaded.id, &line);
                let code = match error {
                    LaunchError::Resources => TEE_ERROR_OUT_OF_MEMORY,
                    LaunchError::Module { .. } => TEE_ERROR_BAD_FORMAT,
                    LaunchError::Start { .. } => TEE_ERROR_GENERIC,
                };
                return Err(tee_reply(code));
            }
        };
        let slot = Slot {
            ta: loaded.id,
            measurement: loaded.measurement,
            lifetime: instance.lifetime(),
            instance: None,
            running,
            sessions: 0,
            closing: Vec::new(),
            retired: false,
        };
        self.shared.state.lock().instances.insert(number, slot);
        if !self.is_current(&loaded) {
            self.forget(number);
            return Err(tee_reply(TEE_ERROR_TARGET_DEAD));
        }
        let outcome = instance.call(Entry::Create);
        match outcome {
            Outcome::Returned {
                code: TEE_SUCCESS, ..
            } => {
                self.join(number, session, control);
                Ok(Taken { number, instance })
            }
            Outcome::Returned { code, .. } => {
                self.forget(number);
                Err(ta_reply(code, 0, ParamsOut::default()))
            }
            Outcome::Panicked(panic) => {
                self.log_panic(&loaded.id, &panic);
                self.forget(number);
                Err(tee_reply(TEE_ERROR_TARGET_DEAD))
            }
        }
    }

    /// Takes an instance to run it, waiting while it is busy if `wait`.
    fn take(
        &self,
        number: u64,
        control: &CallControl,
        chain: &BTreeSet<u64>,
        wait: bool,
    ) -> Result<Taken, Unavailable> {
        let started = self.shared.tee.system_time_ms();
        loop {
            match self.try_take(number, control, chain) {
                Err(Unavailable::Busy) if wait && !self.cancelled(control) => {
                    let waited = self.shared.tee.system_time_ms().saturating_sub(started);
                    if waited >= self.shared.limits.busy_wait_ms_max {
                        return Err(Unavailable::Busy);
                    }
                    self.shared.tee.idle(1);
                }
                other => return other,
            }
        }
    }

    fn try_take(
        &self,
        number: u64,
        control: &CallControl,
        chain: &BTreeSet<u64>,
    ) -> Result<Taken, Unavailable> {
        let mut state = self.shared.state.lock();
        let Some(slot) = state.instances.get_mut(&number) else {
            return Err(Unavailable::Gone);
        };
        let Some(instance) = slot.instance.take() else {
            return Err(Unavailable::Busy);
        };
        let mut chain = chain.clone();
        chain.insert(number);
        *slot.running.lock() = Running {
            control: control.clone(),
            chain,
            log_lines: 0,
        };
        Ok(Taken { number, instance })
    }

    /// A panic's line in the log. Its text may come from a worker that was taken over.
    fn log_panic(&self, ta: &TaId, panic: &Panic) {
        let line = alloc::format!("{panic}");
        let line = printable(line.as_bytes(), LOG_LEN_BYTES_MAX);
        self.shared.tee.log(ta, &line);
    }

    /// Gives an instance back after an entry point; `session_ended` says that it has one less.
    fn put_back(&self, mut taken: Taken, outcome: &Outcome, session_ended: bool) {
        let number = taken.number;
        let mut ended = usize::from(session_ended);
        let mut panicked = match outcome {
            Outcome::Panicked(panic) => Some(panic.clone()),
            Outcome::Returned { .. } => None,
        };
        loop {
            if let Some(panic) = panicked {
                let ta = {
                    let state = self.shared.state.lock();
                    state.instances.get(&number).map(|slot| slot.ta)
                };
                if let Some(ta) = ta {
                    self.log_panic(&ta, &panic);
                }
                drop(taken.instance);
                return self.kill(number);
            }
            let (queued, running) = {
                let mut state = self.shared.state.lock();
                let Some(slot) = state.instances.get_mut(&number) else {
                    return;
                };
                slot.sessions = slot.sessions.saturating_sub(ended);
                if slot.retired && slot.sessions > 0 {
                    drop(state);
                    drop(taken.instance);
                    return self.kill(number);
                }
                let queued = core::mem::take(&mut slot.closing);
                let stays = slot.sessions > 0 || (slot.lifetime.keep_alive && !slot.retired);
                if queued.is_empty() && stays {
                    slot.instance = Some(taken.instance);
                    return;
                }
                (queued, Arc::clone(&slot.running))
            };
            if queued.is_empty() {
                return self.end(taken);
            }
            // The call that ran has ended, with its signals; these have the time of one together.
            // Who retires the instance from here on stops them.
            running.lock().control = self.entry_control(&CallControl::default());
            ended = queued.len();
            panicked = queued.into_iter().find_map(|session| {
                if self.is_retired(number) {
                    return None;
                }
                match taken.instance.call(Entry::CloseSession { session }) {
                    Outcome::Panicked(panic) => Some(panic),
                    Outcome::Returned { .. } => None,
                }
            });
        }
    }

    /// Ends an instance in good order.
    fn end(&self, mut taken: Taken) {
        let _ = taken.instance.call(Entry::Destroy);
        let number = taken.number;
        drop(taken.instance);
        self.forget(number);
    }

    /// An instance is dead: so are all its sessions.
    fn kill(&self, number: u64) {
        {
            let mut state = self.shared.state.lock();
            for session in state.sessions.values_mut().filter(|s| s.instance == number) {
                session.dead = true;
                if let Some(control) = &session.running {
                    control.cancel();
                }
            }
        }
        self.forget(number);
    }

    /// Removes an instance and all it held: objects, and its sessions to other TAs.
    fn forget(&self, number: u64) {
        let slot = {
            let mut state = self.shared.state.lock();
            state.locks.release_all(number);
            state.instances.remove(&number)
        };
        // Dropped outside the lock: it may end a process.
        drop(slot);
        self.owner_gone(owner_of(number));
    }
}

/// Runs instances in this process, in this thread: for tests, and for backends whose own process
/// is already one TA's.
pub struct InProcess;

impl Launcher for InProcess {
    fn launch(
        &self,
        spec: &LaunchSpec,
        services: Box<dyn HostServices>,
    ) -> Result<Box<dyn TaInstance>, LaunchError> {
        let module = TaModule::new(&spec.module).map_err(|error| LaunchError::Module {
            reason: alloc::format!("{error}"),
        })?;
        Ok(Box::new(WasmInstance::new(&module, spec.ta, services)?))
    }
}
