//! A session of the caller and what it has under way. Each has a lock of its own, so that threads
//! with sessions of their own do not wait for each other.

use std::collections::VecDeque;
use std::sync::Arc;

use cryptoki_sys as ck;

use crate::operation::{Intake, KeyUse};
use crate::token::Token;

/// A session.
pub(crate) struct Session {
    /// Its token.
    pub token: Arc<Token>,
    /// Asked for with `CKF_RW_SESSION`. There is nothing to write; programs ask all the same.
    pub read_write: bool,
    /// What `C_FindObjects` has not given yet.
    pub found: Option<VecDeque<ck::CK_OBJECT_HANDLE>>,
    pub digest: Option<(Intake, bool)>,
    pub sign: Option<KeyUse>,
    pub verify: Option<KeyUse>,
}

impl Session {
    pub(crate) const fn new(token: Arc<Token>, read_write: bool) -> Self {
        Self {
            token,
            read_write,
            found: None,
            digest: None,
            sign: None,
            verify: None,
        }
    }
}
