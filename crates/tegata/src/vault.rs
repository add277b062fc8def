//! Sealing keys, and private keys in files sealed under them.
//!
//! Each role has a sealing key of its own, so that the machine of one role cannot open the keys of
//! another even with its store in hand. The key lies in a file of mode 0600, or comes from the
//! environment and then never touches the disk.
//! Trusted: who reads a sealing key and the store beside it holds the role's keys.

use std::path::{Path, PathBuf};

use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::seal::{self, SealingKey};
use tegata_crypto::{CryptoError, KeyAlg, OsRng, PrivateKey, Provider as _, Secret};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};

/// From now on this process and those it starts leave no core dump behind: every command handles
/// keys at some time. What the kernel refuses is left as it is.
pub fn no_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
}

/// Nor through a dump that the kernel pipes to a program, nor to a debugger of the same user. For
/// servers only: a TEE must be able to see which program its client is.
pub fn undumpable() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Environment variable with a sealing key, 64 hexadecimal digits; it takes the place of the files.
pub const SEALING_KEY_ENV: &str = "TEGATA_SEALING_KEY";
/// Longest key file, bytes.
const KEY_FILE_LEN_BYTES_MAX: u64 = 16 * 1024;

/// File of the sealing key of `owner`: `ca`, `tam`, `verifier` or `factory`.
#[must_use]
pub fn sealing_key_path(config: &Config, owner: &str) -> PathBuf {
    config.keys_dir.join(format!("{owner}.sealing"))
}

/// The sealing key of `owner`, which must exist.
///
/// # Errors
/// A fault that says which file or variable is missing or wrong.
pub fn sealing_key(config: &Config, owner: &str) -> Outcome<SealingKey> {
    if let Some(key) = from_environment()? {
        return Ok(key);
    }
    let path = sealing_key_path(config, owner);
    if !path.exists() {
        return Err(Fault::environment(
            "no-sealing-key",
            format!(
                "the sealing key of the {owner} is missing: {}",
                path.display()
            ),
            format!(
                "Restore the file from your backup, or set {SEALING_KEY_ENV}. For a new \
                 installation run `tegata init` first; it never overwrites anything."
            ),
        ));
    }
    files::check_private(&path)?;
    let text = Zeroizing::new(files::read(&path, KEY_FILE_LEN_BYTES_MAX)?);
    parse(&text).ok_or_else(|| {
        Fault::environment(
            "bad-sealing-key",
            format!(
                "{} is not a sealing key: 64 hexadecimal digits",
                path.display()
            ),
            "Restore the file from your backup; keys sealed under it open with it alone.",
        )
    })
}

/// The sealing key of `owner`, made if there is none. Tells whether it was made.
///
/// # Errors
/// As [`sealing_key`], or the file cannot be written.
pub fn sealing_key_or_new(config: &Config, owner: &str) -> Outcome<(SealingKey, bool)> {
    let path = sealing_key_path(config, owner);
    if std::env::var_os(SEALING_KEY_ENV).is_some() || path.exists() {
        return Ok((sealing_key(config, owner)?, false));
    }
    let key = SealingKey::generate(&mut OsRng).map_err(|e| crypto_fault("draw a key", &e))?;
    let mut text = Zeroizing::new(hex::encode(key.expose_bytes().expose_secret()));
    text.push('\n');
    let made = files::write_new(&path, text.as_bytes(), Readers::Owner)?;
    Ok((sealing_key(config, owner)?, made))
}

fn from_environment() -> Outcome<Option<SealingKey>> {
    let Some(value) = std::env::var_os(SEALING_KEY_ENV) else {
        return Ok(None);
    };
    let text = Zeroizing::new(value.into_encoded_bytes());
    match parse(&text) {
        Some(key) => Ok(Some(key)),
        None => Err(Fault::environment(
            "bad-sealing-key",
            format!("{SEALING_KEY_ENV} is set but is not 64 hexadecimal digits"),
            "Set it to the sealing key, for example from `openssl rand -hex 32`.",
        )),
    }
}

fn parse(text: &[u8]) -> Option<SealingKey> {
    let mut key = Secret::new([0; 32]);
    hex::decode_to_slice(text.trim_ascii(), key.expose_secret_mut()).ok()?;
    Some(SealingKey::new(key))
}

/// A private key from a sealed file.
///
/// # Errors
/// The file is missing, or does not open under this sealing key.
pub fn open_key(path: &Path, sealing: &SealingKey, purpose: &str) -> Outcome<PrivateKey> {
    if !path.exists() {
        return Err(Fault::environment(
            "no-key",
            format!("the {purpose} is missing: {}", path.display()),
            "Restore the file from your backup, or take it from the machine that has it. A new installation begins \
             with `tegata init`.",
        ));
    }
    let blob = files::read(path, KEY_FILE_LEN_BYTES_MAX)?;
    let opened = seal::open(&AwsLc, sealing, purpose, &blob).map_err(|_| {
        Fault::environment(
            "key-does-not-open",
            format!("{} does not open under this sealing key", path.display()),
            format!(
                "Give the sealing key that was used when it was made ({SEALING_KEY_ENV} or the \
                 .sealing file), or restore both from the same backup."
            ),
        )
    })?;
    PrivateKey::from_pkcs8_der(opened.expose_secret())
        .map_err(|e| crypto_fault("read a private key", &e))
}

/// A private key from a sealed file, made if there is none. Tells whether it was made.
///
/// # Errors
/// As [`open_key`], or the file cannot be written.
pub fn open_key_or_new(
    path: &Path,
    sealing: &SealingKey,
    purpose: &str,
    alg: KeyAlg,
) -> Outcome<(PrivateKey, bool)> {
    if path.exists() {
        return Ok((open_key(path, sealing, purpose)?, false));
    }
    let key = AwsLc
        .generate(alg, &mut OsRng)
        .map_err(|e| crypto_fault("make a key", &e))?;
    let blob = key
        .to_pkcs8_der()
        .and_then(|der| seal::seal(&AwsLc, &mut OsRng, sealing, purpose, der.expose_secret()))
        .map_err(|e| crypto_fault("seal a key", &e))?;
    files::write_new(path, &blob, Readers::Owner)?;
    Ok((open_key(path, sealing, purpose)?, true))
}

/// A failure inside the cryptography: of the machine's generator, or a bug.
pub fn crypto_fault(doing: &str, error: &CryptoError) -> Fault {
    Fault::failed(
        "crypto",
        format!("cannot {doing}: {error}"),
        "Check that the system's random generator works; if it does, please report this.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_for_its_purpose_and_sealing_key_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("factory.key");
        let sealing = parse(&[b'a'; 64]).unwrap();
        let (key, made) = open_key_or_new(&path, &sealing, "factory key", KeyAlg::P256).unwrap();
        assert!(made);
        let again = open_key(&path, &sealing, "factory key").unwrap();
        assert_eq!(again.public_key(), key.public_key());
        let other = parse(&[b'b'; 64]).unwrap();
        assert_eq!(
            open_key(&path, &other, "factory key").unwrap_err().code,
            "key-does-not-open"
        );
        assert_eq!(
            open_key(&path, &sealing, "tam key").unwrap_err().code,
            "key-does-not-open"
        );
        assert!(parse(b"zz").is_none());
    }
}
