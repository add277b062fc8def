//! `tegata ca root-list`: the one thing that a root key signs after its CA was made, but for rollovers.

use der::pem::LineEnding;
use tegata_authority::UnixSecs;
use tegata_store::root_list::{Renewed, RootList, renew};

use crate::certificate::serial_text;
use crate::cli::{CaRootList, Role, show};
use crate::commands::import::{role_fault, role_store};
use crate::config;
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::stores::now_secs;

/// Signs a list of each root, stores them for the server, and writes them as PEM into one file.
///
/// # Errors
/// The configuration, the store, the sealing key, the file.
pub fn run(args: &CaRootList) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let role = role_store(&config, Role::Ca)?;
    let life_secs = args.days.saturating_mul(86_400);
    let lists = renew(&role, life_secs, UnixSecs(now_secs())).map_err(|e| role_fault(&e))?;
    let mut pem = String::new();
    for Renewed { list, .. } in &lists {
        let one = der::pem::encode_string("X509 CRL", LineEnding::LF, &list.der).map_err(|e| {
            Fault::failed(
                "bug",
                format!("cannot write a list as PEM: {e}"),
                "Please report this.",
            )
        })?;
        pem.push_str(&one);
    }
    files::replace(&args.out, pem.as_bytes(), Readers::Everyone)?;
    let path = |list: &RootList| format!("/crl/{}/full.crl", list.root_id);
    let newest = lists.first().map(|newest| &newest.list);
    if args.common.json {
        let all: Vec<_> = lists
            .iter()
            .map(|Renewed { list, revoked }| {
                let revoked = revoked.iter().map(|one| {
                    serde_json::json!({
                        "name": show::visible(&one.name), "serial": serial_text(&one.serial),
                        "at": one.at.0, "reason": "keyCompromise",
                    })
                });
                serde_json::json!({
                    "path": path(list), "next_update": list.next_update.0,
                    "revoked": revoked.collect::<Vec<_>>(),
                })
            })
            .collect();
        return show::json(&serde_json::json!({
            "file": args.out, "path": newest.map(path),
            "next_update": newest.map(|list| list.next_update.0), "roots": all,
        }));
    }
    for Renewed { list, revoked } in &lists {
        show::lines([
            format!("{} (also at {})", args.out.display(), path(list)),
            format!("good until {}", show::time(list.next_update.0)),
        ]);
        show::lines(revoked.iter().map(|one| {
            let (name, serial) = (show::visible(&one.name), serial_text(&one.serial));
            let since = show::time(one.at.0);
            format!("    revoked: {name} ({serial}), since {since} (keyCompromise)")
        }));
    }
    Ok(())
}
