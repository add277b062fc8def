//! Answers that are kept until their reader has room for them.
//!
//! A client of OP-TEE says how much room it has before it knows what it needs. Running a command
//! again with more room would run it twice; so the answer is kept, and fetched.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::gp::consts::{TEE_ERROR_BAD_STATE, TEE_ERROR_SHORT_BUFFER};

/// Why a command gave no answer: a GP return code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `TEE_ERROR_*`.
    pub code: u32,
    /// With `TEE_ERROR_SHORT_BUFFER`: the room that is needed, in bytes.
    pub needed: Option<usize>,
}

impl Failure {
    /// A failure that says nothing but its code.
    #[must_use]
    pub const fn of(code: u32) -> Self {
        Self { code, needed: None }
    }
}

/// The last answer of a session, until it was handed over.
#[derive(Default)]
pub struct Kept(Option<Zeroizing<Vec<u8>>>);

impl Kept {
    /// Keeps an answer; one that nobody fetched is forgotten.
    pub fn put(&mut self, answer: Zeroizing<Vec<u8>>) {
        self.0 = Some(answer);
    }

    /// Hands the answer over if it fits into `room` bytes, and forgets it.
    ///
    /// # Errors
    /// `TEE_ERROR_SHORT_BUFFER` with the room it needs, and it is kept; `TEE_ERROR_BAD_STATE` if
    /// there is none.
    pub fn take(&mut self, room: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match self.0.take() {
            Some(answer) if answer.len() <= room => Ok(answer),
            Some(answer) => {
                let needed = Some(answer.len());
                self.0 = Some(answer);
                Err(Failure {
                    code: TEE_ERROR_SHORT_BUFFER,
                    needed,
                })
            }
            None => Err(Failure::of(TEE_ERROR_BAD_STATE)),
        }
    }
}
