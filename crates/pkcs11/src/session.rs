//! A session of the caller and what it has under way. That has a lock of its own, so that threads
//! with sessions of their own do not wait for each other; what the session is needs none.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cryptoki_sys as ck;

use crate::operation::{Intake, KeyUse};
use crate::token::Token;

/// A session.
pub(crate) struct Session {
    /// Its token.
    pub token: Arc<Token>,
    /// Asked for with `CKF_RW_SESSION`. There is nothing to write; programs ask all the same.
    pub read_write: bool,
    work: Mutex<Work>,
}

/// What a session has under way.
#[derive(Default)]
pub(crate) struct Work {
    /// What `C_FindObjects` has not given yet.
    pub found: Option<VecDeque<ck::CK_OBJECT_HANDLE>>,
    pub digest: Option<(Intake, bool)>,
    pub sign: Option<KeyUse>,
    pub verify: Option<KeyUse>,
}

impl Session {
    pub(crate) fn new(token: Arc<Token>, read_write: bool) -> Self {
        Self {
            token,
            read_write,
            work: Mutex::default(),
        }
    }

    /// What it has under way. Held while the TEE works, so nobody takes this lock who holds
    /// another one; a thread that died in here left it usable.
    pub(crate) fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
