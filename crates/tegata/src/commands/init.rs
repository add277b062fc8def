//! `tegata init`: keys, CA certificates, stores, configuration and trust between the roles.
//!
//! Everything is made once and nothing is overwritten: what is there stays, what is missing is
//! made, and both are said.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tegata_authority::UnixSecs;
use tegata_authority::ca::CaCertError;
use tegata_authority::ca::authority_cert::CaDraft;
use tegata_authority::verifier::EXAMPLE as VERIFIER_POLICY;
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::{KeyAlg, OsRng, PublicKey};
use tegata_store::Store;
use tegata_store::issuer::{CaSetup, Issuer};
use tegata_store::role::{Role as RoleStore, RoleError, Trust};

use crate::cli::{Init, Role, show};
use crate::commands::ca::ca_files::{CA_PEM, ca_files};
use crate::commands::factory::{FACTORY_KEY, factory_key_path};
use crate::commands::import::role_fault;
use crate::config::{self, Config};
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::serve::role_name;
use crate::stores::{self, now_secs, store_fault};
use crate::{roles, trust, vault};

/// The configuration that a new installation starts with.
const TEGATA_TOML: &str = include_str!("../../defaults/tegata.toml");
/// The profiles that a new installation starts with.
const PROFILES_TOML: &str = include_str!("../../defaults/profiles.toml");

/// Names and kinds of what is made.
#[derive(Debug)]
pub struct Names {
    /// Key of root and issuing CA.
    pub ca_key: KeyAlg,
    /// Organization in the CA certificates.
    pub name: String,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            ca_key: KeyAlg::P256,
            name: "Tegata".to_owned(),
        }
    }
}

/// What was made and what was there.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Made now.
    pub made: Vec<PathBuf>,
    /// There already, left as it was.
    pub kept: Vec<PathBuf>,
}

impl Summary {
    fn note(&mut self, path: &Path, made: bool) {
        if made {
            self.made.push(path.to_path_buf());
        } else {
            self.kept.push(path.to_path_buf());
        }
    }

    fn file(&mut self, path: &Path, content: &[u8], readers: Readers) -> Outcome<()> {
        let made = files::write_new(path, content, readers)?;
        self.note(path, made);
        Ok(())
    }
}

/// `tegata init`.
///
/// # Errors
/// Files, stores or keys that cannot be made or opened.
pub fn run(args: &Init) -> Outcome<()> {
    let dir = &args.dir;
    // Before anything is made.
    let draft = CaDraft::for_organization(&args.name);
    draft.check_names().map_err(|e| bad_name(&e))?;
    files::make_dir(dir)?;
    let config_path = dir.join("tegata.toml");
    let mut first = Summary::default();
    first.file(&config_path, TEGATA_TOML.as_bytes(), Readers::Everyone)?;
    let config = config::load(&config_path)?;
    let names = Names {
        ca_key: args.ca_key.alg(),
        name: args.name.clone(),
    };
    let mut summary = make(&config, dir, &names)?;
    summary.made.splice(0..0, first.made);
    summary.kept.splice(0..0, first.kept);
    if args.json {
        return show::json(&summary);
    }
    let mut lines = Vec::new();
    for (what, paths) in [("made", &summary.made), ("kept", &summary.kept)] {
        for path in paths {
            lines.push(format!("\x1b[2m{what}\x1b[0m  {}", path.display()));
        }
    }
    lines.push(String::new());
    lines.push("Next:".to_owned());
    lines.push(format!(
        "    tegata serve --roles ca,tam,verifier,verify --config {}",
        config_path.display()
    ));
    show::lines(lines);
    Ok(())
}

/// Makes everything that the configuration names and that is missing.
///
/// # Errors
/// As [`run`].
pub fn make(config: &Config, dir: &Path, names: &Names) -> Outcome<Summary> {
    refuse_anew(config, dir)?;
    let mut summary = Summary::default();
    let now = UnixSecs(now_secs());
    for dir in [&config.store_dir, &config.keys_dir, &config.trust_dir] {
        files::make_dir(dir)?;
    }
    if let Some(ca) = &config.ca {
        summary.file(&ca.profiles, PROFILES_TOML.as_bytes(), Readers::Everyone)?;
    }
    if let Some(verifier) = &config.verifier {
        summary.file(
            &verifier.policy,
            VERIFIER_POLICY.as_bytes(),
            Readers::Everyone,
        )?;
    }
    // 1. Each role's own keys.
    let ca = role(config, Role::Ca, &mut summary)?;
    let issuer = init_ca(config, &ca, names, now)?;
    let present = issuer.generations().map_err(|e| role_fault(&e))?;
    let made = ca_files(&present, now)?.into_iter();
    for (name, pem) in made.filter(|(_, pem)| !pem.is_empty()) {
        summary.file(&dir.join(name), pem.as_bytes(), Readers::Everyone)?;
    }
    let tam = role(config, Role::Tam, &mut summary)?;
    let tam_keys = roles::tam::init(&tam, now).map_err(|e| role_fault(&e))?;
    let verifier = role(config, Role::Verifier, &mut summary)?;
    let ear_key = roles::verifier::init(&verifier, now).map_err(|e| role_fault(&e))?;
    let sealed = factory_key_path(config).exists();
    let (sealing, made) = sealing_key(config, "factory", sealed)?;
    if std::env::var_os(vault::SEALING_KEY_ENV).is_none() {
        summary.note(&vault::sealing_key_path(config, "factory"), made);
    }
    let (factory, made) = vault::open_key_or_new(
        &factory_key_path(config),
        &sealing,
        FACTORY_KEY,
        KeyAlg::P256,
    )?;
    summary.note(&factory_key_path(config), made);
    // 2. Public halves, for devices and other machines.
    let release_key = issuer.release_public_key();
    for (owner, key) in [
        ("release", release_key),
        ("tam", &tam_keys.signing),
        ("tam-exchange", &tam_keys.exchange),
        ("verifier", &ear_key),
        ("factory", factory.public_key()),
    ] {
        let pem = trust::to_pem(key)?;
        summary.file(
            &trust::path(config, owner),
            pem.as_bytes(),
            Readers::Everyone,
        )?;
    }
    // 3. Who believes whom; doing it again changes nothing.
    let believes: [(&RoleStore, Trust, &PublicKey, &str); 8] = [
        (&ca, Trust::Factory, factory.public_key(), "factory"),
        (&ca, Trust::Tam, &tam_keys.signing, "TAM"),
        (&ca, Trust::Verifier, &ear_key, "Verifier"),
        (&tam, Trust::Factory, factory.public_key(), "factory"),
        (&tam, Trust::Release, release_key, "CA release key"),
        (&tam, Trust::Verifier, &ear_key, "Verifier"),
        (&verifier, Trust::Factory, factory.public_key(), "factory"),
        (&verifier, Trust::Release, release_key, "CA release key"),
    ];
    for (role, purpose, key, label) in believes {
        role.trust(purpose, key, label, now)
            .map_err(|e| role_fault(&e))?;
    }
    Ok(summary)
}

/// Refuses to make keys whose public halves are there already: those are of keys that were lost, or are elsewhere, and
/// devices and relying parties trust no others. Public files are written after all keys, so an `init` that was
/// interrupted leaves none without its key.
fn refuse_anew(config: &Config, dir: &Path) -> Outcome<()> {
    let of = |owner| trust::path(config, owner);
    let refused = |half: &Path, place: String, has: &str| {
        Err(Fault::environment(
            "keys-lost",
            format!(
                "{} is there, but {place} {has}: nothing was made",
                half.display()
            ),
            "Restore it from your backup, or correct where the configuration looks for it; new keys would be \
             another CA, whose devices nobody knows. To begin anew all the same, take another --dir.",
        ))
    };
    for (role, halves) in [
        (Role::Ca, [of("release"), dir.join(CA_PEM)]),
        (Role::Tam, [of("tam"), of("tam-exchange")]),
        (Role::Verifier, [of("verifier"), of("verifier")]),
    ] {
        let half = halves.iter().find(|half| half.exists());
        if let Some(half) = half
            && !stores::has_keys(config, role)?
        {
            let place = format!("the store of the {}", role_name(role));
            return refused(half, place, "is missing or has no keys");
        }
    }
    let (half, key) = (of("factory"), factory_key_path(config));
    match half.exists() && !key.exists() {
        true => refused(&half, key.display().to_string(), "is missing"),
        false => Ok(()),
    }
}

/// Store and sealing key of a role, made if missing.
fn role(config: &Config, role: Role, summary: &mut Summary) -> Outcome<RoleStore> {
    let name = role_name(role);
    let path = stores::place(config, role);
    let fresh = !stores::exists(config, role)?;
    let (sealing, made) = sealing_key(config, name, !fresh)?;
    if std::env::var_os(vault::SEALING_KEY_ENV).is_none() {
        summary.note(&vault::sealing_key_path(config, name), made);
    }
    let store = Store::open(&path).map_err(|e| store_fault(&e))?;
    // As the store calls itself: the address of a database without what is secret.
    summary.note(store.path(), fresh);
    Ok(RoleStore {
        store: Arc::new(store),
        provider: Arc::new(AwsLc),
        sealing: Arc::new(sealing),
    })
}

/// The sealing key of an owner; a new one only while nothing is sealed under an old one.
fn sealing_key(
    config: &Config,
    owner: &str,
    sealed: bool,
) -> Outcome<(tegata_crypto::seal::SealingKey, bool)> {
    if sealed {
        return Ok((vault::sealing_key(config, owner)?, false));
    }
    vault::sealing_key_or_new(config, owner)
}

/// The CA in the store, made if there is none.
fn bad_name(error: &CaCertError) -> Fault {
    Fault::usage(
        "bad-name",
        format!("no CA certificate can be made: {error}"),
        "Choose a --name of 1 to 40 characters.",
    )
}

fn init_ca(config: &Config, role: &RoleStore, names: &Names, now: UnixSecs) -> Outcome<Issuer> {
    let setup = CaSetup {
        draft: CaDraft::for_organization(&names.name),
        root_alg: names.ca_key,
        issuing_alg: names.ca_key,
    };
    match Issuer::init(role, &setup, &mut OsRng, now) {
        Ok(()) | Err(RoleError::HasKey(_)) => {}
        Err(RoleError::CaCert(e)) => return Err(bad_name(&e)),
        Err(e) => return Err(role_fault(&e)),
    }
    let issuer = roles::ca::issuer(config)?;
    Ok(issuer)
}
