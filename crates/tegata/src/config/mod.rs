//! The configuration file `tegata.toml`: read once, checked once, then a plain value.
//!
//! Invariant: a [`Config`] that exists was checked; every path in it is absolute or relative to the
//! working directory, every count lies within its bounds. Unknown keys are refused, so that a
//! spelling mistake never silently becomes a default.
//! Trusted: whoever changes this file chooses keys, stores and policy of the roles.

mod database;
pub mod diagnostic;
mod est;
mod retention;
mod status;
pub mod url;
mod verify;

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::fault::{Fault, Outcome};

pub use database::Database;
use est::RawEst;
pub use est::{Est, ServerIdentity};
use retention::RawRetention;
use status::RawStatus;
pub use status::Status;
use verify::RawVerify;
pub use verify::{FreshnessRule, Verify};

/// Longest configuration file that is read, bytes. The longest real one has some 10 KiB.
const CONFIG_LEN_BYTES_MAX: u64 = 1024 * 1024;

/// The checked content of `tegata.toml`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file itself, for messages.
    pub path: PathBuf,
    /// Directory of the stores: `ca.db`, `tam.db`, `verifier.db`.
    pub store_dir: PathBuf,
    /// The database that the stores are in, in place of files in `store_dir`.
    pub database: Option<Database>,
    /// Directory of the sealing keys, and of the factory's sealed key.
    pub keys_dir: PathBuf,
    /// Directory of the public halves that other machines need too.
    pub trust_dir: PathBuf,
    /// Limits of every HTTP port.
    pub limits: Limits,
    /// How the log is written.
    pub log: Log,
    /// The CA role, when this machine runs it.
    pub ca: Option<Ca>,
    /// The TAM role, when this machine runs it.
    pub tam: Option<Tam>,
    /// The Verifier role, when this machine runs it.
    pub verifier: Option<Verifier>,
    /// The verify role, when this machine runs it.
    pub verify: Option<Verify>,
    /// Defaults for devices made at the factory station.
    pub factory: Factory,
}

/// Requests worked on at once where nobody says otherwise.
const IN_FLIGHT: u64 = 160;

/// Limits of an HTTP port. `docs/ops/limits.md` gives the reason of each.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once.
    pub connections: usize,
    /// Connections of one peer: an IPv4 address, or 64 bits of an IPv6 address.
    pub connections_per_peer: usize,
    /// Requests worked on at once; the next is answered 503 with `Retry-After`.
    pub in_flight: usize,
    /// Those of one peer.
    pub in_flight_per_peer: usize,
    /// Time for the whole request header.
    pub header_timeout: Duration,
    /// Time for the whole request body.
    pub body_timeout: Duration,
    /// Time for the answer, once the request was read.
    pub answer_timeout: Duration,
    /// Longest life of one connection; an agent simply opens the next.
    pub connection_life: Duration,
    /// How long the server goes on serving when it is told to stop, and says that it will go.
    pub leave: Duration,
    /// Time that requests in progress get then.
    pub stop_grace: Duration,
}

impl Limits {
    /// Time for an answer, from the end of the request's header.
    #[must_use]
    pub fn answer(&self) -> Duration {
        self.answer_timeout.saturating_add(self.body_timeout)
    }

    /// Time for a request, from its first byte until its answer is taken.
    #[must_use]
    pub fn request(&self) -> Duration {
        let header = self.header_timeout.saturating_add(self.body_timeout);
        header.saturating_add(self.answer())
    }
}

/// Form of the log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged and how.
#[derive(Debug, Clone)]
pub struct Log {
    /// Form of a line.
    pub format: LogFormat,
    /// Filter as in `RUST_LOG`, for example `info` or `tegata=debug`.
    pub filter: String,
}

/// The CA role.
#[derive(Debug, Clone)]
pub struct Ca {
    /// Address it listens on.
    pub listen: SocketAddr,
    /// File with the certificate profiles.
    pub profiles: PathBuf,
    /// Address at which services may ask for devices and their certificates; none when absent.
    pub devices: Option<SocketAddr>,
    /// The EST port; none when absent.
    pub est: Option<Est>,
    /// Makers whose certificates are proof of who asks.
    pub makers: Vec<MakerFile>,
    /// How the status of certificates is published.
    pub status: Status,
    /// How long a certificate that ended stays out of the archive, seconds.
    pub keep_secs: u64,
}

/// A maker, `[[ca.maker]]`: whose certificates may say which device asks.
#[derive(Debug, Clone)]
pub struct MakerFile {
    /// File with the roots of its device certificates, PEM.
    pub anchors: PathBuf,
    /// Models that it may speak for.
    pub models: Vec<String>,
}

/// The TAM role.
#[derive(Debug, Clone)]
pub struct Tam {
    /// Address it listens on.
    pub listen: SocketAddr,
    /// The TAM URI as devices see it; derived from `listen` when absent.
    pub public_url: Option<String>,
    /// Base URL of the CA; the CA of the same process when absent.
    pub ca_url: Option<String>,
    /// Base URL of the Verifier; the Verifier of the same process when absent.
    pub verifier_url: Option<String>,
    /// Base URL from which devices fetch encrypted TAs; inside the Update when absent.
    pub payload_url: Option<String>,
    /// How long Updates and deliveries are kept, seconds.
    pub keep_secs: u64,
}

/// The Verifier role.
#[derive(Debug, Clone)]
pub struct Verifier {
    /// Address it listens on.
    pub listen: SocketAddr,
    /// File with the appraisal policy.
    pub policy: PathBuf,
}

/// Defaults of the factory station.
#[derive(Debug, Clone)]
pub struct Factory {
    /// Name of the maker, in the manifest.
    pub maker: String,
    /// IANA Private Enterprise Number of the maker.
    pub maker_pen: u32,
    /// Domain of the maker; SUIT vendor and class identifiers derive from it.
    pub vendor: String,
    /// Model name when the command line gives none.
    pub model: String,
    /// Hardware version of the model.
    pub hwversion: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default)]
    store: RawStore,
    #[serde(default)]
    keys: RawKeys,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    log: RawLog,
    ca: Option<RawCa>,
    tam: Option<RawTam>,
    verifier: Option<RawVerifier>,
    verify: Option<RawVerify>,
    #[serde(default)]
    factory: RawFactory,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawStore {
    dir: Option<PathBuf>,
    database: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawKeys {
    dir: Option<PathBuf>,
    trust_dir: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    connections: Option<Spanned<u64>>,
    connections_per_peer: Option<Spanned<u64>>,
    in_flight: Option<Spanned<u64>>,
    in_flight_per_peer: Option<Spanned<u64>>,
    header_timeout_secs: Option<Spanned<u64>>,
    body_timeout_secs: Option<Spanned<u64>>,
    answer_timeout_secs: Option<Spanned<u64>>,
    connection_life_secs: Option<Spanned<u64>>,
    leave_secs: Option<Spanned<u64>>,
    stop_grace_secs: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLog {
    format: Option<LogFormat>,
    filter: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCa {
    listen: Spanned<String>,
    profiles: Option<PathBuf>,
    devices: Option<RawDevices>,
    est: Option<RawEst>,
    #[serde(default)]
    maker: Vec<RawMaker>,
    status_url: Option<Spanned<String>>,
    #[serde(default)]
    status: RawStatus,
    #[serde(default)]
    retention: RawRetention,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMaker {
    anchors: PathBuf,
    models: Spanned<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDevices {
    listen: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTam {
    listen: Spanned<String>,
    public_url: Option<Spanned<String>>,
    ca_url: Option<Spanned<String>>,
    verifier_url: Option<Spanned<String>>,
    payload_url: Option<Spanned<String>>,
    #[serde(default)]
    retention: RawRetention,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVerifier {
    listen: Spanned<String>,
    policy: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawFactory {
    maker: Option<Spanned<String>>,
    maker_pen: Option<u32>,
    vendor: Option<Spanned<String>>,
    model: Option<Spanned<String>>,
    hwversion: Option<String>,
}

/// Reads a text file of at most 1 MiB.
///
/// # Errors
/// The file is missing, unreadable, too long or not UTF-8.
pub fn read_text(path: &Path, doing: &str) -> Outcome<String> {
    let file = fs::File::open(path).map_err(|e| Fault::io(doing, path, &e))?;
    let mut text = String::new();
    let read = file
        .take(CONFIG_LEN_BYTES_MAX.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => Fault::usage(
                "bad-config",
                format!("{} is not UTF-8 text", path.display()),
                "Save the file as UTF-8.",
            ),
            _ => Fault::io(doing, path, &e),
        })?;
    if u64::try_from(read).unwrap_or(u64::MAX) > CONFIG_LEN_BYTES_MAX {
        return Err(Fault::usage(
            "bad-config",
            format!("{} is longer than 1 MiB", path.display()),
            "Check that this is the configuration file and not another one.",
        ));
    }
    Ok(text)
}

/// Reads and checks `tegata.toml`.
///
/// # Errors
/// A fault that names file, line and column, and says what to write instead.
pub fn load(path: &Path) -> Outcome<Config> {
    let text = read_text(path, "read the configuration").map_err(|fault| {
        if fault.code == "file-missing" {
            Fault::usage(
                "no-config",
                format!("there is no configuration file {}", path.display()),
                "Make one with `tegata init --dir DIR`, then pass `--config DIR/tegata.toml`.",
            )
        } else {
            fault
        }
    })?;
    parse(path, &text)
}

/// Checks the text of a configuration file; paths in it are taken relative to that file.
///
/// # Errors
fn makers(check: &Check<'_>, base: &Path, raw: Vec<RawMaker>) -> Outcome<Vec<MakerFile>> {
    let one = |maker: RawMaker| {
        if maker.models.get_ref().is_empty() {
            return Err(check.fault(
                maker.models.span(),
                "this maker speaks for no device",
                "Write the models of its devices, as `tegata device list` shows them.",
            ));
        }
        Ok(MakerFile {
            anchors: base.join(maker.anchors),
            models: maker.models.into_inner(),
        })
    };
    raw.into_iter().map(one).collect()
}

/// As [`load`].
pub fn parse(path: &Path, text: &str) -> Outcome<Config> {
    let raw: RawConfig = tegata_authority::config::from_toml(text)
        .map_err(|e| diagnostic::of_mistakes(path, text, &e))?;
    let check = Check { path, text };
    let base = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let file = |given: Option<PathBuf>, default: &str| {
        base.join(given.unwrap_or_else(|| PathBuf::from(default)))
    };
    let ca = match raw.ca {
        None => None,
        Some(ca) => {
            let status = ca.status.checked(&check, ca.status_url.as_ref())?;
            Some(Ca {
                listen: check.address(&ca.listen)?,
                profiles: file(ca.profiles, "profiles.toml"),
                devices: ca
                    .devices
                    .map(|devices| check.address(&devices.listen))
                    .transpose()?,
                est: ca.est.map(|est| est.checked(&check, &base)).transpose()?,
                makers: makers(&check, &base, ca.maker)?,
                // RFC 5280 section 3.3: not off the lists before one from after its end has it.
                keep_secs: ca
                    .retention
                    .checked(&check, status.settings.crl_life_secs)?,
                status,
            })
        }
    };
    let tam = match raw.tam {
        None => None,
        Some(tam) => Some(Tam {
            listen: check.address(&tam.listen)?,
            public_url: check.url(tam.public_url.as_ref())?,
            ca_url: check.url(tam.ca_url.as_ref())?,
            verifier_url: check.url(tam.verifier_url.as_ref())?,
            payload_url: check.url(tam.payload_url.as_ref())?,
            // A device may well be switched off for a week in the middle of an Update.
            keep_secs: tam.retention.checked(&check, 6 * 86_400)?,
        }),
    };
    let verifier = match raw.verifier {
        None => None,
        Some(verifier) => Some(Verifier {
            listen: check.address(&verifier.listen)?,
            policy: file(verifier.policy, "verifier.toml"),
        }),
    };
    let verify = match raw.verify {
        None => None,
        Some(verify) => {
            let verify = verify.checked(&check)?;
            Some(Verify {
                anchors: base.join(&verify.anchors),
                ..verify
            })
        }
    };
    let limits = &raw.limits;
    let in_flight = check.number(limits.in_flight.as_ref(), IN_FLIGHT, 1..=8_192)?;
    // One peer leaves some to all others.
    let in_flight_per_peer = in_flight.saturating_mul(3).div_ceil(4);
    Ok(Config {
        path: path.to_path_buf(),
        store_dir: file(raw.store.dir, "store"),
        database: check.database(&base, raw.store.database.as_ref())?,
        trust_dir: file(raw.keys.trust_dir, "trust"),
        keys_dir: file(raw.keys.dir, "keys"),
        limits: Limits {
            connections: check.count(limits.connections.as_ref(), 1024, 1..=65_536)?,
            connections_per_peer: check.count(
                limits.connections_per_peer.as_ref(),
                256,
                1..=65_536,
            )?,
            in_flight: usize::try_from(in_flight).unwrap_or(usize::MAX),
            in_flight_per_peer: check.count(
                limits.in_flight_per_peer.as_ref(),
                in_flight_per_peer,
                1..=8_192,
            )?,
            header_timeout: check.secs(limits.header_timeout_secs.as_ref(), 10, 1..=120)?,
            body_timeout: check.secs(limits.body_timeout_secs.as_ref(), 20, 1..=600)?,
            answer_timeout: check.secs(limits.answer_timeout_secs.as_ref(), 30, 1..=600)?,
            connection_life: check.secs(limits.connection_life_secs.as_ref(), 300, 5..=86_400)?,
            leave: check.secs(limits.leave_secs.as_ref(), 0, 0..=600)?,
            stop_grace: check.secs(limits.stop_grace_secs.as_ref(), 10, 0..=600)?,
        },
        log: Log {
            format: raw.log.format.unwrap_or(LogFormat::Text),
            filter: raw.log.filter.unwrap_or_else(|| "info".to_owned()),
        },
        ca,
        tam,
        verifier,
        verify,
        factory: Factory {
            maker: check.name(raw.factory.maker.as_ref(), "Example Devices")?,
            maker_pen: raw.factory.maker_pen.unwrap_or(32_473),
            vendor: check.name(raw.factory.vendor.as_ref(), "devices.example")?,
            model: check.name(raw.factory.model.as_ref(), "sensor-1")?,
            hwversion: raw.factory.hwversion.unwrap_or_else(|| "1.0".to_owned()),
        },
    })
}

/// Checks of single values; each points at the value it refuses.
struct Check<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Check<'_> {
    fn fault(&self, span: Range<usize>, what: &str, mend: &str) -> Fault {
        diagnostic::at(self.path, self.text, Some(span), what, mend)
    }

    fn address(&self, value: &Spanned<String>) -> Outcome<SocketAddr> {
        value.get_ref().parse().map_err(|_| {
            self.fault(
                value.span(),
                &format!("`{}` is not an address to listen on", value.get_ref()),
                "Write IP:port, for example \"127.0.0.1:8440\", \"[::]:8440\", or port 0 for any free port.",
            )
        })
    }

    fn url(&self, value: Option<&Spanned<String>>) -> Outcome<Option<String>> {
        let Some(value) = value else { return Ok(None) };
        let text = value.get_ref();
        url::check(text).map_err(|reason| {
            let what = format!("`{text}` is not an http:// URL: {reason}");
            self.fault(value.span(), &what, url::MEND)
        })?;
        Ok(Some(text.trim_end_matches('/').to_owned()))
    }

    fn number(
        &self,
        value: Option<&Spanned<u64>>,
        default: u64,
        allowed: RangeInclusive<u64>,
    ) -> Outcome<u64> {
        let Some(value) = value else {
            return Ok(default);
        };
        let number = *value.get_ref();
        if allowed.contains(&number) {
            return Ok(number);
        }
        let (low, high) = (allowed.start(), allowed.end());
        Err(self.fault(
            value.span(),
            &format!("{number} is outside of {low} to {high}"),
            &format!("Write a number from {low} to {high}; the default is {default}."),
        ))
    }

    fn count(
        &self,
        value: Option<&Spanned<u64>>,
        default: u64,
        allowed: RangeInclusive<u64>,
    ) -> Outcome<usize> {
        let number = self.number(value, default, allowed)?;
        Ok(usize::try_from(number).unwrap_or(usize::MAX))
    }

    fn secs(
        &self,
        value: Option<&Spanned<u64>>,
        default: u64,
        allowed: RangeInclusive<u64>,
    ) -> Outcome<Duration> {
        Ok(Duration::from_secs(self.number(value, default, allowed)?))
    }

    fn name(&self, value: Option<&Spanned<String>>, default: &str) -> Outcome<String> {
        let Some(value) = value else {
            return Ok(default.to_owned());
        };
        let name = value.get_ref();
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return Err(self.fault(
                value.span(),
                "this name is empty, longer than 64 bytes or has control characters",
                "Write a short name; Japanese text is fine.",
            ));
        }
        Ok(name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Fault {
        parse(Path::new("tegata.toml"), text).unwrap_err()
    }

    #[test]
    fn an_empty_file_is_a_configuration_without_roles() {
        let config = parse(Path::new("/etc/tegata/tegata.toml"), "").unwrap();
        assert!(config.ca.is_none() && config.tam.is_none() && config.verifier.is_none());
        assert_eq!(config.store_dir, Path::new("/etc/tegata/store"));
    }

    #[test]
    fn faults_point_at_line_and_column() {
        for (text, at, says) in [
            (
                "[ca]\nlisten = \"8440\"",
                "tegata.toml:2:10:",
                "not an address",
            ),
            (
                "[ca]\nlisten = \"1.2.3.4:1\"\nlisen = 1",
                "tegata.toml:3:1:",
                "lisen",
            ),
            ("[ca]\n", "tegata.toml:1:1:", "listen"),
            (
                "[limits]\nin_flight = 0",
                "tegata.toml:2:13:",
                "outside of 1 to 8192",
            ),
            (
                "[limits]\nin_flight = \"x\"",
                "tegata.toml:2:13:",
                "expected u64",
            ),
            (
                "[tam]\nlisten = \"1.2.3.4:1\"\nca_url = \"https://ca\"",
                "tegata.toml:3:10:",
                "not an http:// URL",
            ),
            (
                "[factory]\nmodel = \"\"",
                "tegata.toml:2:9:",
                "name is empty",
            ),
            ("nonsense", "tegata.toml:1:9:", ""),
        ] {
            let fault = refused(text);
            assert!(fault.what.starts_with(at), "{text:?} gave {}", fault.what);
            assert!(fault.what.contains(says), "{text:?} gave {}", fault.what);
            assert!(!fault.mend.is_empty());
        }
    }

    #[test]
    fn nobody_asks_for_devices_unless_a_port_is_named() {
        let ca = |text: &str| parse(Path::new("t"), text).unwrap().ca.unwrap();
        assert_eq!(ca("[ca]\nlisten = \"127.0.0.1:1\"").devices, None);
        let named = ca("[ca]\nlisten = \"127.0.0.1:1\"\n[ca.devices]\nlisten = \"127.0.0.1:2\"");
        assert_eq!(named.devices.unwrap().port(), 2);
    }

    #[test]
    fn japanese_names_are_fine() {
        let text = "[factory]\nmaker = \"手形工業株式会社\"\nmodel = \"温度計-1\"";
        assert_eq!(
            parse(Path::new("t"), text).unwrap().factory.model,
            "温度計-1"
        );
    }
}
