//! What exists: contexts, sessions, blocks of memory, calls that run.
//!
//! Purpose: C holds handles, never addresses of ours. Whatever a structure contains, looking it up
//! gives the thing itself or nothing.
//!
//! Invariants: a handle is never used again. The one lock is held for moments, never over a call
//! to the TEE and never while something is dropped that may call it. It is free in the child of a
//! fork, and a child touches no session of its parent.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use tegata_client::{Canceller, Context, Session};

use crate::memory::Block;

/// An open session.
pub struct OpenSession {
    /// The session itself.
    pub session: Session,
    /// The context it was opened in.
    pub context: u64,
    /// The process that opened it: its connection is of no use to another.
    pub process: u32,
}

/// A call that runs.
pub struct Running {
    id: u64,
    /// Where C keeps the operation.
    operation: usize,
    process: u32,
    canceller: Canceller,
}

/// Everything that C may name.
pub struct Registry {
    next: u64,
    contexts: BTreeMap<u64, Context>,
    sessions: BTreeMap<u64, Arc<OpenSession>>,
    blocks: BTreeMap<u64, Arc<Block>>,
    running: Vec<Running>,
}

/// Kinds of handles, their upper bits: what C left uninitialized is no handle by chance.
#[derive(Clone, Copy)]
enum Kind {
    Context = 0x7E_6A_01,
    Session = 0x7E_6A_02,
    Block = 0x7E_6A_03,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    next: 1,
    contexts: BTreeMap::new(),
    sessions: BTreeMap::new(),
    blocks: BTreeMap::new(),
    running: Vec::new(),
});

thread_local! {
    /// Held by the thread that forks, from before until after.
    static HELD: RefCell<Option<MutexGuard<'static, Registry>>> = const { RefCell::new(None) };
}

/// The registry, locked.
pub fn registry() -> MutexGuard<'static, Registry> {
    static FORKS: Once = Once::new();
    FORKS.call_once(|| {
        // SAFETY: the handlers are functions of this library; it is never unloaded while they are
        // registered, since the system removes them with it.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork)) };
    });
    lock()
}

fn lock() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn before_fork() {
    let _ = HELD.try_with(|held| *held.borrow_mut() = Some(lock()));
}

extern "C" fn after_fork() {
    let _ = HELD.try_with(|held| drop(held.borrow_mut().take()));
}

impl Registry {
    fn handle(&mut self, kind: Kind) -> u64 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        (kind as u64) << 40 | (number & ((1 << 40) - 1))
    }

    /// A new context.
    pub fn add_context(&mut self, context: Context) -> u64 {
        let handle = self.handle(Kind::Context);
        self.contexts.insert(handle, context);
        handle
    }

    /// The context of this handle.
    pub fn context(&self, handle: u64) -> Option<Context> {
        self.contexts.get(&handle).cloned()
    }

    /// True if there is such a context.
    pub fn has_context(&self, handle: u64) -> bool {
        self.contexts.contains_key(&handle)
    }

    /// Ends a context. Its sessions, to be closed by the caller without the lock.
    #[must_use]
    pub fn remove_context(&mut self, handle: u64) -> Vec<Arc<OpenSession>> {
        self.contexts.remove(&handle);
        let of_it: Vec<u64> = self
            .sessions
            .iter()
            .filter_map(|(number, session)| (session.context == handle).then_some(*number))
            .collect();
        of_it
            .into_iter()
            .filter_map(|number| self.sessions.remove(&number))
            .collect()
    }

    /// A new session; given back if its context was finalized meanwhile.
    pub fn add_session(&mut self, session: OpenSession) -> Result<u64, OpenSession> {
        if !self.has_context(session.context) {
            return Err(session);
        }
        let handle = self.handle(Kind::Session);
        self.sessions.insert(handle, Arc::new(session));
        Ok(handle)
    }

    /// The session of this handle.
    pub fn session(&self, handle: u64) -> Option<Arc<OpenSession>> {
        self.sessions.get(&handle).cloned()
    }

    /// Ends a session, to be closed by the caller without the lock.
    #[must_use]
    pub fn remove_session(&mut self, handle: u64) -> Option<Arc<OpenSession>> {
        self.sessions.remove(&handle)
    }

    /// A new block.
    pub fn add_block(&mut self, block: Block) -> u64 {
        let handle = self.handle(Kind::Block);
        self.blocks.insert(handle, Arc::new(block));
        handle
    }

    /// The block of this handle.
    pub fn block(&self, handle: u64) -> Option<Arc<Block>> {
        self.blocks.get(&handle).cloned()
    }

    /// Ends a block. Memory of ours lives on while a call uses it.
    #[must_use]
    pub fn remove_block(&mut self, handle: u64) -> Option<Arc<Block>> {
        self.blocks.remove(&handle)
    }

    /// A call begins; the number that ends it.
    pub fn begin(&mut self, operation: usize, canceller: Canceller) -> u64 {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.running.push(Running {
            id,
            operation,
            process: std::process::id(),
            canceller,
        });
        id
    }

    /// A call has ended.
    pub fn end(&mut self, id: u64) {
        self.running.retain(|running| running.id != id);
    }

    /// Cancellers of the calls of this process that use the operation.
    pub fn cancellers(&self, operation: usize) -> Vec<Canceller> {
        let process = std::process::id();
        self.running
            .iter()
            .filter(|running| running.operation == operation && running.process == process)
            .map(|running| running.canceller.clone())
            .collect()
    }
}

/// Closes a session, or leaves it alone if it is the parent's.
pub fn close(session: Arc<OpenSession>) {
    if session.process == std::process::id() {
        drop(session);
    } else {
        // To drop it would tell the TEE, on the parent's connection, to close it.
        std::mem::forget(session);
    }
}
