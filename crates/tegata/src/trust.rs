//! Public keys as files: what one machine tells another whom to believe.
//!
//! Trusted: who can change these files chooses whom devices and roles believe.

use std::path::{Path, PathBuf};

use der::pem::LineEnding;
use tegata_crypto::PublicKey;

use crate::config::Config;
use crate::fault::{Fault, Outcome};
use crate::files;

/// Longest public key file, bytes.
const LEN_BYTES_MAX: u64 = 4096;

/// File of a role's public key: `release`, `tam`, `verifier` or `factory`.
#[must_use]
pub fn path(config: &Config, owner: &str) -> PathBuf {
    config.trust_dir.join(format!("{owner}.pem"))
}

/// A public key as PEM.
///
/// # Errors
/// Only by a fault of this program.
pub fn to_pem(key: &PublicKey) -> Outcome<String> {
    let bug = |e: String| Fault::failed("bug", e, "Please report this.");
    let der = key.to_spki_der().map_err(|e| bug(e.to_string()))?;
    der::pem::encode_string("PUBLIC KEY", LineEnding::LF, &der).map_err(|e| bug(e.to_string()))
}

/// Reads a public key.
///
/// # Errors
/// The file is missing or holds no key that we support.
pub fn read(path: &Path) -> Outcome<PublicKey> {
    if !path.exists() {
        return Err(Fault::environment(
            "no-trust",
            format!("the public key {} is missing", path.display()),
            "Copy the trust directory of the machine where `tegata init` ran.",
        ));
    }
    let text = files::read(path, LEN_BYTES_MAX)?;
    der::pem::decode_vec(&text)
        .ok()
        .filter(|(label, _)| *label == "PUBLIC KEY")
        .and_then(|(_, der)| PublicKey::from_spki_der(&der).ok())
        .ok_or_else(|| {
            Fault::environment(
                "bad-trust",
                format!("{} holds no public key that is supported", path.display()),
                "It must be a PEM \"PUBLIC KEY\" for P-256, P-384 or Ed25519.",
            )
        })
}
