//! `CsrAuthKey`: what the enrolment TA of one device authenticates its CSRs with.

use alloc::vec::Vec;

use crate::{CryptoError, Provider, Secret};

/// First part of the HKDF info; the version is in it, so that a change makes other keys.
const LABEL: &[u8] = b"tegata csr-auth v1";

/// Derives the `CsrAuthKey` of one device from the master of a release.
///
/// HKDF-SHA256(ikm = master, salt = empty, info = label ‖ release digest ‖ ueid), 32 bytes. The
/// digest has a fixed length, so label, digest and ueid cannot run into each other.
///
/// # Errors
/// [`CryptoError::WrongLength`] for a ueid outside 7..=33 bytes (RFC 9711 section 4.2.1).
pub fn device_csr_auth_key(
    provider: &dyn Provider,
    master: &Secret<[u8; 32]>,
    release_digest: &[u8; 32],
    ueid: &[u8],
) -> Result<Secret<[u8; 32]>, CryptoError> {
    if !(7..=33).contains(&ueid.len()) {
        return Err(CryptoError::WrongLength {
            what: "ueid",
            expected: 17,
            got: ueid.len(),
        });
    }
    let mut info = Vec::with_capacity(LABEL.len() + release_digest.len() + ueid.len());
    info.extend_from_slice(LABEL);
    info.extend_from_slice(release_digest);
    info.extend_from_slice(ueid);
    let mut key = Secret::new([0; 32]);
    provider.hkdf_sha256(master.expose_secret(), b"", &info, key.expose_secret_mut())?;
    Ok(key)
}
