//! `[store] database`: one database for the stores of any number of machines.

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::Check;
use crate::fault::{Fault, Outcome};

/// The address of a database; each role has a schema of its own in it.
#[derive(Clone)]
pub struct Database(String);

// It may name files of secrets, and somebody may have written a secret into it after all.
impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database(..)")
    }
}

impl Database {
    /// Where a role's store is in it.
    #[must_use]
    pub fn place(&self, role: &str) -> PathBuf {
        let sign = if self.0.contains('?') { '&' } else { '?' };
        format!("{}{sign}schema=tegata_{role}", self.0).into()
    }
}

impl Check<'_> {
    /// The address of a database. What is wrong with it is said without it: a password in it must not
    /// come into a log.
    pub(super) fn database(
        &self,
        base: &Path,
        value: Option<&Spanned<String>>,
    ) -> Outcome<Option<Database>> {
        let Some(value) = value else { return Ok(None) };
        let text = value.get_ref();
        let fault = |what: &str, mend: &str| {
            let path = self.path.display();
            Fault::usage(
                "bad-database",
                format!("{path}: [store] database {what}"),
                mend.to_owned(),
            )
        };
        if !tegata_store::is_address(Path::new(text)) {
            return Err(fault(
                "is not the address of a database",
                "Write postgres://USER@HOST:PORT/DATABASE, see docs/ops/scale.md.",
            ));
        }
        let (_, rest) = text.split_once("://").unwrap_or_default();
        let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
        if user.contains(':') || rest.contains("password=") {
            return Err(fault(
                "has a password in it",
                "Write the password into a file of mode 0600 and add ?password_file=FILE, or set \
                 PGPASSWORD.",
            ));
        }
        if rest.contains("schema=") {
            return Err(fault(
                "names a schema",
                "Leave it out: each role has its own, tegata_ca, tegata_tam, tegata_verifier and \
                 tegata_verify.",
            ));
        }
        Ok(Some(Database(with_files_of(base, text))))
    }
}

/// The address with its files beside the configuration, as all paths in it are.
fn with_files_of(base: &Path, address: &str) -> String {
    let Some((before, query)) = address.split_once('?') else {
        return address.to_owned();
    };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key @ ("password_file" | "sslrootcert"), file)) => {
            format!("{key}={}", base.join(file).display())
        }
        _ => pair.to_owned(),
    });
    format!("{before}?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // Tests.

    use std::path::Path;

    use crate::config::parse;

    #[test]
    fn an_address_is_taken_without_secrets_and_gives_each_role_its_schema() {
        let config = |address: &str| {
            let text = format!("[store]\ndatabase = \"{address}\"\n");
            parse(Path::new("t.toml"), &text)
        };
        let taken = config("postgres://tegata@db.example/fleet?sslmode=verify-full").unwrap();
        let place = taken.database.as_ref().unwrap().place("ca");
        let is = "postgres://tegata@db.example/fleet?sslmode=verify-full&schema=tegata_ca";
        assert_eq!(place, Path::new(is));
        assert!(!format!("{taken:?}").contains("db.example"));
        let files = "postgres://t@h/d?password_file=pw&connections=4&sslrootcert=/etc/roots.pem";
        let text = format!("[store]\ndatabase = \"{files}\"\n");
        let taken = parse(Path::new("/etc/tegata/t.toml"), &text).unwrap();
        let place = taken.database.as_ref().unwrap().place("ca");
        let place = place.to_str().unwrap();
        assert!(
            place.contains(
                "?password_file=/etc/tegata/pw&connections=4&sslrootcert=/etc/roots.pem&"
            )
        );
        for address in [
            "mysql://db.example/fleet",
            "postgres://tegata:hidden@db.example/fleet",
            "postgres://tegata@db.example/fleet?password=hidden",
            "postgres://tegata@db.example/fleet?schema=other",
        ] {
            let fault = format!("{:?}", config(address).unwrap_err());
            assert!(fault.contains("[store] database"), "{fault}");
            assert!(!fault.contains("hidden"), "{fault}");
        }
    }
}
