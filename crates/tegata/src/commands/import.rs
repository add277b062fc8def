//! `tegata factory import`: a batch of devices enters the registries of the roles on this machine.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tegata_authority::UnixSecs;
use tegata_crypto::aws_lc::AwsLc;
use tegata_store::generation::ClockDoubt;
use tegata_store::role::{Role as RoleStore, RoleError};

use crate::cli::{Import, Role, show};
use crate::config::{self, Config};
use crate::fault::{Fault, Outcome};
use crate::serve::role_name;
use crate::stores::{self, now_secs, store_fault};
use crate::{files, vault};

/// Longest manifest, bytes.
const LEN_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What one role took.
#[derive(Debug, Serialize)]
pub struct Taken {
    role: &'static str,
    batch: String,
    maker: String,
    devices: usize,
    again: bool,
    delivery_keys: usize,
}

/// `tegata factory import`.
///
/// # Errors
/// Configuration, stores, or a manifest that is not to be believed.
pub fn run(args: &Import) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let roles = if args.roles.is_empty() {
        configured(&config)
    } else {
        args.roles.clone()
    };
    let taken = import(&config, &args.manifest, args.keks.as_deref(), &roles)?;
    if args.common.json {
        return show::json(&taken);
    }
    show::lines(taken.iter().map(|t| {
        let again = if t.again { ", as before" } else { "" };
        let keys = match t.delivery_keys {
            0 => String::new(),
            n => format!(", {n} delivery keys"),
        };
        let (batch, maker) = (show::visible(&t.batch), show::visible(&t.maker));
        format!(
            "{}: batch {batch} of {maker}, {} devices{keys}{again}",
            t.role, t.devices
        )
    }));
    Ok(())
}

/// The roles whose sections stand in the configuration.
fn configured(config: &Config) -> Vec<Role> {
    let sections = [
        (Role::Ca, config.ca.is_some()),
        (Role::Tam, config.tam.is_some()),
        (Role::Verifier, config.verifier.is_some()),
    ];
    sections
        .into_iter()
        .filter(|(_, here)| *here)
        .map(|(role, _)| role)
        .collect()
}

/// The means of a role: store, provider, sealing key.
///
/// # Errors
/// The store or the sealing key.
pub fn role_store(config: &Config, role: Role) -> Outcome<RoleStore> {
    Ok(RoleStore {
        store: Arc::new(stores::open(config, role)?),
        provider: Arc::new(AwsLc),
        sealing: Arc::new(vault::sealing_key(config, role_name(role))?),
    })
}

/// Imports a manifest, and delivery keys into the TAM.
///
/// # Errors
/// The first role that refuses; roles before it have taken the batch, and take it again unharmed.
pub fn import(
    config: &Config,
    manifest: &Path,
    keks: Option<&Path>,
    roles: &[Role],
) -> Outcome<Vec<Taken>> {
    let bytes = files::read(manifest, LEN_BYTES_MAX)?;
    let now = UnixSecs(now_secs());
    let mut taken = Vec::new();
    for role in roles {
        let store = role_store(config, *role)?;
        let imported = store
            .import_devices(&bytes, now)
            .map_err(|e| import_fault(manifest, *role, &e))?;
        let mut delivery_keys = 0;
        if let (Role::Tam, Some(path)) = (*role, keks) {
            files::check_private(path)?;
            let secret = zeroize::Zeroizing::new(files::read(path, LEN_BYTES_MAX)?);
            delivery_keys = crate::roles::tam::import_keks(store, &secret)
                .map_err(|e| import_fault(path, *role, &e))?;
        }
        taken.push(Taken {
            role: role_name(*role),
            batch: imported.batch,
            maker: imported.maker,
            devices: imported.devices,
            again: imported.again,
            delivery_keys,
        });
    }
    Ok(taken)
}

fn import_fault(path: &Path, role: Role, error: &RoleError) -> Fault {
    match error {
        RoleError::Store(error) => store_fault(error),
        RoleError::Factory(_) => Fault::failed(
            error.code(),
            format!(
                "the {} refuses the manifest {}: {error}",
                role_name(role),
                path.display()
            ),
            "Take the file as the factory wrote it, and check that its key is in trust/factory.pem \
             of this installation.",
        ),
        _ => role_fault(error),
    }
}

/// A role's error as a person reads it.
#[must_use]
pub fn role_fault(error: &RoleError) -> Fault {
    if let RoleError::Store(error) = error {
        return store_fault(error);
    }
    let text = match error {
        // Times as people read them.
        RoleError::Clock(ClockDoubt { now, what, at }) => format!(
            "the clock says {} and {what} {}: it may be wrong, and what is made now stays for good; \
             nothing was changed",
            show::time(now.0),
            show::time(at.0)
        ),
        RoleError::RootEnded { root, at } => format!(
            "root {root} ended on {}: it signs no issuing CA any more",
            show::date(at.0)
        ),
        RoleError::LeavesBehind { root, until } => format!(
            "who knows root {root} alone, which is valid until {}, would not find the new root: only \
             three roots back are linked; nothing was changed",
            show::date(until.0)
        ),
        _ => error.to_string(),
    };
    let mend = match error {
        RoleError::NoKey(_) => {
            "Restore the store from your backup, if it had keys. A new installation begins with `tegata init`."
        }
        RoleError::Sealed(_) => "Restore the sealing key that this store was made with.",
        RoleError::NoProfile(_) => "Choose one of the names in profiles.toml.",
        RoleError::NoRelease => "`tegata ta list` shows the releases.",
        RoleError::NoDevice(_) | RoleError::DeviceTaken(_) | RoleError::DeviceNamed(_) => {
            "`tegata device list` shows them."
        }
        RoleError::Generation { .. } | RoleError::OtherGeneration(_) => {
            "`tegata ca generations` shows them; give --generation the next number."
        }
        RoleError::Clock(_) => "Look at the clock. If it is right, say so with --clock-is-right.",
        RoleError::RootEnded { .. } => {
            "Make a new root, and an issuing CA under it, with `tegata ca rollover --root`."
        }
        RoleError::LeavesBehind { .. } => {
            "Wait until that root has ended, or say --leave-behind if no device and nobody else knows it \
             alone."
        }
        // A command has no log.
        RoleError::CaCert(_) | RoleError::Status(_) | RoleError::Crypto(_) => {
            "Nothing was changed. Check the clock and the CA certificates with `tegata ca generations`; \
             if they are right, report this sentence."
        }
        RoleError::ReleaseTaken => "Run the command again; it takes the next number.",
        _ => "The reason is in the sentence above; the log has more.",
    };
    match error {
        RoleError::NoKey(_) | RoleError::Sealed(_) => Fault::environment(error.code(), text, mend),
        _ => Fault::failed(error.code(), text, mend),
    }
}
