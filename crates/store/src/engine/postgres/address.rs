//! Where a database is, and how it is reached: `postgres://USER@HOST:PORT/DATABASE?…`.
//!
//! A password in the address would be in process lists and copies of the configuration: it belongs into
//! a file (`password_file`) or into `PGPASSWORD`. It is never printed.
//!
//! A server on another machine is reached by TLS that verifies its name, unless the address says
//! `sslmode=disable`. There is no mode in which a server that is somebody else's is talked to.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use zeroize::Zeroizing;

use super::hosts::Hosts;
use super::tls::Tls;
use crate::StoreError;

/// Parameters of the client library that an address may have.
const PARAMETERS: [&str; 18] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

/// A database, and the schema in it that is the store.
pub(crate) struct Address {
    pub(super) hosts: Arc<Hosts>,
    /// Name of the schema: letters, digits and underscores.
    pub(super) schema: String,
    /// Most connections at once.
    pub(super) connections: usize,
    /// What it is called in errors; without the password.
    pub(super) place: PathBuf,
    /// Where the password is, if it is in a file.
    password_file: Option<PathBuf>,
}

/// Whether a store is given by the address of a database, and not by a path.
#[must_use]
pub fn is_address(store: &Path) -> bool {
    let is = |text: &str| SCHEMES.iter().any(|scheme| text.starts_with(scheme));
    store.to_str().is_some_and(is)
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// `Address` says what is wrong with it, `Refused` which file cannot be read.
    pub(crate) fn parse(address: &str) -> Result<Self, StoreError> {
        let (base, query) = address.split_once('?').unwrap_or((address, ""));
        let mut settings = Settings::default();
        let mut left = String::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| refused("a parameter without a value"))?;
            if !settings.take(key, value)? {
                check_pair(key, pair)?;
                left.push(if left.is_empty() { '?' } else { '&' });
                left.push_str(pair);
            }
        }
        let config = format!("{base}{left}").parse::<tokio_postgres::Config>();
        // Its own words could quote the address, password and all.
        let mut config = config.map_err(|_| {
            refused("not of the form postgres://USER@HOST:PORT/DATABASE?NAME=VALUE")
        })?;
        if config.get_hosts().is_empty() {
            return Err(refused("it names no host"));
        }
        let place = settings.place(&config);
        if config.get_password().is_some() {
            settings.password_file = None;
        } else if settings.password_file.is_none()
            && let Ok(password) = std::env::var("PGPASSWORD")
        {
            config.password(password);
        }
        if config.get_application_name().is_none() {
            config.application_name("tegata");
        }
        settings.bound(&mut config);
        // Absent for servers that are reached without TLS.
        let tls = match settings.by_tls(&config)? {
            true => Some(settings.tls(&place)?),
            false => None,
        };
        config.ssl_mode(match tls {
            Some(_) => SslMode::Require,
            None => SslMode::Disable,
        });
        let wait = config.get_connect_timeout().copied();
        let wait = wait.unwrap_or(CONNECT_WAIT);
        if wait > CONNECT_WAIT_MAX {
            return Err(refused("connect_timeout must be at most 600"));
        }
        let hosts = Hosts::new(&config, tls, wait);
        let hosts = hosts.ok_or_else(|| {
            refused("it must have one port, or one for each host, and one hostaddr for each host or none")
        })?;
        Ok(Self {
            hosts: Arc::new(hosts),
            schema: settings.schema,
            connections: settings.connections,
            place,
            password_file: settings.password_file,
        })
    }

    /// The password as its file has it now: a new one serves from the next connection on. `None` if the address has
    /// none, or has it itself.
    ///
    /// # Errors
    /// `Refused` if the file cannot be read, or everybody may read it.
    pub(super) fn password(&self) -> Result<Option<Zeroizing<String>>, StoreError> {
        let Some(file) = &self.password_file else {
            return Ok(None);
        };
        let unreadable = |e: &std::io::Error| unreadable(&self.place, "password_file", file, e);
        let mode = std::fs::metadata(file).map_err(|e| unreadable(&e))?.mode();
        if mode & 0o007 != 0 {
            let open = std::io::Error::other(format!(
                "everybody may read it (mode {:o}), make it 0600",
                mode & 0o777
            ));
            return Err(unreadable(&open));
        }
        let text = std::fs::read_to_string(file).map_err(|e| unreadable(&e))?;
        let text = Zeroizing::new(text);
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned().into()))
    }
}

/// Refuses a parameter that the client library does not understand. Neither its value is told nor a name that is none:
/// where a password has a question mark in it, they are parts of the password.
fn check_pair(key: &str, pair: &str) -> Result<(), StoreError> {
    let alone = format!("postgres://host/database?{pair}");
    if alone.parse::<tokio_postgres::Config>().is_ok() {
        return Ok(());
    }
    Err(StoreError::Address {
        what: match PARAMETERS.iter().find(|name| **name == key) {
            Some(name) => format!("{name} has a value that it cannot have").into(),
            None => format!(
                "a parameter that is none of schema, connections, password_file, sslmode, sslrootcert, {}",
                PARAMETERS.join(", ")
            )
            .into(),
        },
    })
}

/// What an address says that is ours to do.
struct Settings {
    schema: String,
    connections: usize,
    password_file: Option<PathBuf>,
    sslmode: Option<String>,
    sslrootcert: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            schema: "tegata".to_owned(),
            connections: CONNECTIONS,
            password_file: None,
            sslmode: None,
            sslrootcert: None,
        }
    }
}

impl Settings {
    /// Takes a parameter; `false` for one that is the client library's.
    fn take(&mut self, key: &str, value: &str) -> Result<bool, StoreError> {
        match key {
            "schema" => {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                let begins = value.starts_with(|c: char| c.is_ascii_lowercase());
                if !begins || !value.chars().all(plain) || value.len() > 63 {
                    return Err(refused(
                        "schema must be of small letters, digits and underscores",
                    ));
                }
                self.schema = value.to_owned();
            }
            "connections" => {
                let number = value.parse().ok();
                let number = number.filter(|n| (1..=CONNECTIONS_MAX).contains(n));
                self.connections =
                    number.ok_or_else(|| refused("connections must be from 1 to 256"))?;
            }
            "password_file" => self.password_file = Some(value.into()),
            "sslmode" => self.sslmode = Some(value.to_owned()),
            "sslrootcert" => self.sslrootcert = Some(value.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn place(&self, config: &tokio_postgres::Config) -> PathBuf {
        let user = config.get_user().unwrap_or_default();
        let hosts: Vec<String> = config
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let database = config.get_dbname().unwrap_or(user);
        let (hosts, schema) = (hosts.join(","), &self.schema);
        format!("postgres://{user}@{hosts}:{port}/{database}?schema={schema}").into()
    }

    /// Whom the connection is with, and how long it may be silent.
    fn bound(&self, config: &mut tokio_postgres::Config) {
        // A standby answers too, with what was true a while ago.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        // With the greeting: what stands between, and gives each transaction another connection, cannot
        // take it along and says so. Afterwards it would put one store's rows into another's schema.
        let path = format!("-c search_path={}", self.schema);
        let options = match config.get_options() {
            Some(more) => format!("{more} {path}"),
            None => path,
        };
        config.options(options);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_WAIT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE_MAX);
        }
        if config.get_keepalives_idle() > SILENCE_MAX {
            config.keepalives_idle(SILENCE_MAX);
        }
        if config.get_keepalives_interval().is_none() {
            config.keepalives_interval(SILENCE_MAX / 2);
        }
        if config.get_keepalives_retries().is_none() {
            config.keepalives_retries(3);
        }
    }

    /// Whether TLS is to be used.
    fn by_tls(&self, config: &tokio_postgres::Config) -> Result<bool, StoreError> {
        let local = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
        };
        // An address beside a name is where the connection goes.
        let near = config.get_hosts().iter().all(local)
            && config
                .get_hostaddrs()
                .iter()
                .all(|address| address.is_loopback());
        match self.sslmode.as_deref() {
            None => Ok(!near),
            Some("disable") => Ok(false),
            // What verifies less than this is done as this.
            Some("require" | "verify-ca" | "verify-full") => Ok(true),
            Some(_) => Err(refused(
                "sslmode must be disable or verify-full: others would do without TLS unseen",
            )),
        }
    }

    fn tls(&self, place: &Path) -> Result<Tls, StoreError> {
        let file = self
            .sslrootcert
            .as_deref()
            .unwrap_or(Path::new(SYSTEM_ROOTS));
        let pem = std::fs::read(file).map_err(|e| unreadable(place, "sslrootcert", file, &e))?;
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(&pem) {
            // Systems' bundles have some that no verifier can use.
            let _ = cert.map(|cert| roots.add(cert));
        }
        if roots.is_empty() {
            return Err(refused("sslrootcert has no certificate in PEM"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| refused("TLS cannot be set up"))?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Tls::new(config))
    }
}

fn refused(what: &'static str) -> StoreError {
    StoreError::Address { what: what.into() }
}

fn unreadable(place: &Path, key: &str, file: &Path, e: &std::io::Error) -> StoreError {
    StoreError::Refused {
        path: place.to_path_buf(),
        cause: format!("{key} {}: {e}", file.display()),
    }
}

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// Connections of one store where the address does not say how many.
const CONNECTIONS: usize = 16;
const CONNECTIONS_MAX: usize = 256;
/// How long it may take to reach one host.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(600);
/// How long the other machine may say nothing while something is on its way to it.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Where systems keep the roots that they trust.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)] // Tests.

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn error(address: &str) -> String {
        match Address::parse(address) {
            Ok(_) => panic!("{address} was taken"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn a_path_is_no_address() {
        assert!(is_address(Path::new("postgres://h/d")));
        assert!(is_address(Path::new("postgresql://h/d")));
        assert!(!is_address(Path::new("/var/lib/tegata/ca.db")));
        assert!(!is_address(Path::new("postgres")));
    }

    #[test]
    fn what_errors_call_it_has_no_password() {
        let address = "postgres://tegata:hidden@127.0.0.1:5433/fleet?schema=ca&connections=4";
        let address = Address::parse(address).unwrap();
        let place = address.place.to_str().unwrap();
        assert_eq!(place, "postgres://tegata@127.0.0.1:5433/fleet?schema=ca");
        assert_eq!((address.schema.as_str(), address.connections), ("ca", 4));
        for text in [
            error("postgres://tegata:hidden@127.0.0.1:port/fleet"),
            error("postgres://tegata:hidden@h/fleet?sslmode=prefer"),
            error("postgres://tegata:hidden@h/fleet?nonsense=1"),
        ] {
            assert!(!text.contains("hidden"), "{text}");
        }
    }

    #[test]
    fn a_parameter_that_is_not_understood_is_told() {
        let unknown = error("postgres://u@127.0.0.1/d?conect_timeout=3");
        assert!(
            unknown.contains("a parameter that is none of")
                && unknown.contains(" connect_timeout,"),
            "{unknown}"
        );
        let wrong = error("postgres://u@127.0.0.1/d?keepalives_idle=soon");
        assert!(wrong.contains("keepalives_idle has a value"), "{wrong}");
        for name in PARAMETERS {
            let value = match name {
                "hostaddr" => "127.0.0.1",
                "target_session_attrs" => "any",
                "channel_binding" => "prefer",
                "load_balance_hosts" => "random",
                "sslnegotiation" => "postgres",
                _ => "1",
            };
            check_pair(name, &format!("{name}={value}")).unwrap();
        }
    }

    #[test]
    fn another_machine_is_reached_by_tls_unless_it_is_said_otherwise() {
        let tls = |address: &str| Address::parse(address).unwrap().hosts.by_tls();
        assert!(!tls("postgres://u@127.0.0.1/d"));
        assert!(!tls("postgres://u@%2Frun%2Fpostgresql/d"));
        assert!(!tls("postgres://u@db.example/d?sslmode=disable"));
        let roots = "sslrootcert=/nonexistent";
        let elsewhere = format!("postgres://u@localhost/d?hostaddr=192.0.2.1&{roots}");
        assert!(error(&elsewhere).contains("sslrootcert"));
        // Roots that are not there are no reason to do without.
        let none = error("postgres://u@db.example/d?sslrootcert=/nonexistent/roots.pem");
        assert!(
            none.contains("sslrootcert /nonexistent/roots.pem"),
            "{none}"
        );
        let some = error("postgres://u@127.0.0.1/d?sslmode=require&sslrootcert=/dev/null");
        assert!(some.contains("sslrootcert"), "{some}");
    }

    #[test]
    fn a_password_is_read_from_its_file_each_time_and_nobody_else_may() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let address = format!("postgres://u@127.0.0.1/d?password_file={}", file.display());
        let address = Address::parse(&address).unwrap();
        let said = || address.password().map(drop).unwrap_err().to_string();
        assert!(said().contains("No such file"), "{}", said());
        std::fs::write(&file, "first\r\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(said().contains("mode 644") && !said().contains("first"));
        mode(0o640);
        assert_eq!(**address.password().unwrap().unwrap(), *"first");
        std::fs::write(&file, "second").unwrap();
        assert_eq!(**address.password().unwrap().unwrap(), *"second");
        let within = Address::parse("postgres://u:p@127.0.0.1/d?password_file=/none").unwrap();
        assert!(within.password().unwrap().is_none());
    }

    #[test]
    fn no_host_is_waited_for_without_end() {
        let at = |secs: u64| format!("postgres://u@127.0.0.1/d?connect_timeout={secs}");
        assert!(Address::parse(&at(600)).is_ok());
        assert!(error(&at(601)).contains("connect_timeout"));
        assert!(error(&at(i64::MAX.unsigned_abs())).contains("connect_timeout"));
    }

    #[test]
    fn ports_and_addresses_are_those_of_hosts() {
        for address in [
            "postgres://u@a,b/d?port=1",
            "postgres://u@a,b/d?hostaddr=::1",
        ] {
            let said = error(&format!("{address}&sslmode=disable"));
            assert!(said.contains("for each host"), "{said}");
        }
    }

    #[test]
    fn a_schema_is_a_plain_name() {
        for schema in [
            "",
            "1a",
            "a-b",
            "A",
            "a\";DROP TABLE device;--",
            &"a".repeat(64),
        ] {
            assert!(error(&format!("postgres://u@127.0.0.1/d?schema={schema}")).contains("schema"));
        }
    }
}
