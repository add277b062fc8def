//! SHA-1, by which OCSP names issuers and responders. Nothing is signed with it and nothing trusted
//! for it: who finds a collision can name an issuer that does not exist.
//!
//! Spec: RFC 6960 sections 4.1.1 and 4.2.1, RFC 5019 section 2.1.1.

use sha1::{Digest as _, Sha1};

/// The SHA-1 of a name or a key, as OCSP names them.
#[must_use]
pub fn name_hash_sha1(data: &[u8]) -> [u8; 20] {
    Sha1::digest(data).into()
}
