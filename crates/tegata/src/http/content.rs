//! The body of an answer, for as long as its peer takes to read it.
//!
//! A peer that reads slowly holds the memory of its answer. What is the same for everybody is one copy for all who
//! read it; what is long and made for one takes part in a bound that all share.

use axum::body::{Body, Bytes};
use tokio::sync::SemaphorePermit;

use super::body::Room;
use super::problem::Problem;

/// Bytes of an answer, and whose they are.
pub struct Content(Kind);

enum Kind {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Content {
    /// Bytes that others are sent too; they are dropped with the last of those answers.
    pub fn shared(owner: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self(Kind::Shared(Bytes::from_owner(owner)))
    }

    /// The body.
    ///
    /// # Errors
    /// 503 if too much is on its way to slow readers already.
    pub fn into_body(self) -> Result<Body, Problem> {
        let bytes = match self.0 {
            Kind::Shared(bytes) => bytes,
            Kind::Own(bytes) => {
                let len_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                match LONG_ANSWERS.take(len_bytes, "too-many-long-answers")? {
                    None => bytes.into(),
                    Some(_room) => Bytes::from_owner(Long { bytes, _room }),
                }
            }
        };
        Ok(Body::from(bytes))
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kind::Own(bytes))
    }
}

/// How long, not what: it may be for its reader alone.
impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whose, len) = match &self.0 {
            Kind::Own(bytes) => ("own", bytes.len()),
            Kind::Shared(bytes) => ("shared", bytes.len()),
        };
        write!(f, "Content({whose}, {len} bytes)")
    }
}

/// A long answer, with its room: both are given back once it was read, or its connection ends.
struct Long {
    bytes: Vec<u8>,
    _room: SemaphorePermit<'static>,
}

impl AsRef<[u8]> for Long {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// For answers until they are read.
static LONG_ANSWERS: Room = Room::new();

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // Tests.

    use super::*;

    #[test]
    fn long_answers_share_a_bound_until_they_are_dropped() {
        let long = || Content::from(vec![0; 32 << 20]).into_body();
        let held: Vec<Body> = (0..4).map(|_| long().unwrap()).collect();
        assert!(long().is_err());
        // What is short or shared needs none.
        assert!(Content::from(vec![0; 1024]).into_body().is_ok());
        assert!(Content::shared(vec![0; 32 << 20]).into_body().is_ok());
        drop(held);
        assert!(long().is_ok());
    }
}
