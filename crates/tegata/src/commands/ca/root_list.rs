//! `tegata ca root-list`: the one thing that the root key signs after the CA was made.

use der::pem::LineEnding;
use tegata_authority::UnixSecs;
use tegata_store::root_list::renew;

use crate::cli::{CaRootList, Role, show};
use crate::commands::import::{role_fault, role_store};
use crate::config;
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::stores::now_secs;

/// Signs a list, stores it for the server, and writes it as PEM.
///
/// # Errors
/// The configuration, the store, the sealing key, the file.
pub fn run(args: &CaRootList) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let role = role_store(&config, Role::Ca)?;
    let life_secs = args.days.saturating_mul(86_400);
    let list = renew(&role, life_secs, UnixSecs(now_secs())).map_err(|e| role_fault(&e))?;
    let pem = der::pem::encode_string("X509 CRL", LineEnding::LF, &list.der).map_err(|e| {
        Fault::failed(
            "bug",
            format!("cannot write a list as PEM: {e}"),
            "Please report this.",
        )
    })?;
    files::replace(&args.out, pem.as_bytes(), Readers::Everyone)?;
    let path = format!("/crl/{}/full.crl", list.root_id);
    if args.common.json {
        return show::json(&serde_json::json!({
            "file": args.out, "path": path, "next_update": list.next_update.0,
        }));
    }
    show::lines([
        format!("{} (also at {path})", args.out.display()),
        format!("good until {}", show::time(list.next_update.0)),
    ]);
    Ok(())
}
