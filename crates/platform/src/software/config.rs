//! `teed.toml` and the command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use serde::Deserialize;

/// The software TEE of a Tegata device.
#[derive(Debug, Parser)]
#[command(
    name = "tegata-teed",
    version,
    about = "The software TEE: runs trusted applications in sandboxed processes",
    after_help = "Examples:\n  \
        tegata-teed --dir devices/01ab…           # as the factory made it\n  \
        tegata-teed --config /etc/tegata/teed.toml\n  \
        tegata-teed --dir devices/01ab… --stats   # what a running teed says of itself\n  \
        tegata-teed --dir devices/01ab… --check   # settings, files, sandbox; then end"
)]
pub struct Args {
    /// Device directory: holds device.cbor, teed.toml and tee/.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "config",
        required_unless_present = "config"
    )]
    pub dir: Option<PathBuf>,
    /// Configuration file; paths in it are relative to it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Ask the running teed for its figures, print them and end.
    #[arg(long)]
    pub stats: bool,
    /// Check configuration, files and sandbox, and end.
    #[arg(long, conflicts_with = "stats")]
    pub check: bool,
}

/// `teed.toml`. Every key has a default; unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the factory made: root key, identity, trust anchors.
    pub device: PathBuf,
    /// Directory of the secure storage.
    pub storage: PathBuf,
    /// Socket for clients.
    pub socket: PathBuf,
    /// Who may connect, as permission bits in octal. Everybody may by default: what a client may
    /// do depends on who it is, not on whether it can connect.
    pub socket_mode: String,
    /// True if nothing else runs under this account.
    pub dedicated_account: bool,
    /// First of `workers_max` accounts that nothing else uses; needs root. 0 for none.
    pub worker_account: u32,
    /// Users that may act as TEEP Broker, besides root and teed's own.
    pub broker_users: Vec<u32>,
    /// Walls of the sandbox that must stand, by name, or `["all"]`.
    pub require: Vec<String>,
    /// Most workers at once.
    pub workers_max: u32,
    /// Most connections at once.
    pub connections_max: u32,
    /// Most connections of one user at once.
    pub connections_per_user_max: u32,
    /// Most sessions of one user at once; fewer than workers, so that others can open one too.
    pub sessions_per_user_max: u32,
    /// A worker that is silent for so long is ended.
    pub worker_silence_secs: u64,
    /// A call into a TA that takes longer ends its instance.
    pub call_timeout_secs: u64,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log: String,
    /// The satellite receiver that belongs to the TEE; none when absent.
    pub position: Option<PositionSource>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            device: "device.cbor".into(),
            storage: "tee".into(),
            socket: "teed.sock".into(),
            socket_mode: "0666".into(),
            dedicated_account: false,
            worker_account: 60_900,
            broker_users: Vec::new(),
            require: Vec::new(),
            workers_max: 32,
            connections_max: 128,
            connections_per_user_max: 64,
            sessions_per_user_max: 24,
            worker_silence_secs: 30,
            call_timeout_secs: 60,
            log: "info".into(),
            position: None,
        }
    }
}

/// `[position]`: one of `device` and `gpsd`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionSource {
    /// Device that speaks NMEA 0183: a serial line, a pseudo-terminal, a pipe or a file.
    pub device: Option<PathBuf>,
    /// Speed of a serial line in bits a second; as it is set when absent.
    pub speed: Option<u32>,
    /// Address of a gpsd of this machine, as IP:port.
    pub gpsd: Option<std::net::SocketAddr>,
    /// Account that gpsd runs as, by name or number; `gpsd` when absent. Root may be it in any case.
    pub gpsd_user: Option<String>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}. Give another file with --config, or the device directory with --dir.", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// It is not well-formed; the text names line and column.
    #[error("{} is not right:\n{message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// A value makes no sense.
    #[error("{}: {key}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What is wrong and what is right.
        reason: String,
    },
}

impl Config {
    /// Reads `file`, or takes the defaults if it is not given and not there.
    ///
    /// # Errors
    /// [`ConfigError`], with the line where there is one.
    pub fn load(args: &Args) -> Result<Self, ConfigError> {
        let (path, optional) = match (&args.config, &args.dir) {
            (Some(file), _) => (file.clone(), false),
            (None, dir) => (dir.clone().unwrap_or_default().join("teed.toml"), true),
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Unreadable { path, source }),
        };
        Self::parse(&text, &path)
    }

    /// Reads the text of a file that lies at `path`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| ConfigError::Malformed {
            path: path.into(),
            message: error.to_string(),
        })?;
        let wrong = |key, reason: &str| ConfigError::Value {
            path: path.into(),
            key,
            reason: reason.into(),
        };
        if config.mode().is_none() {
            return Err(wrong(
                "socket_mode",
                "write it as octal text, such as \"0660\"",
            ));
        }
        if config.workers_max == 0 || config.workers_max > 1024 {
            return Err(wrong("workers_max", "allowed are 1 to 1024"));
        }
        if config.connections_max == 0 || config.connections_max > 4096 {
            return Err(wrong("connections_max", "allowed are 1 to 4096"));
        }
        if config.connections_per_user_max == 0 {
            return Err(wrong("connections_per_user_max", "at least 1"));
        }
        if config.sessions_per_user_max == 0 {
            return Err(wrong("sessions_per_user_max", "at least 1"));
        }
        if !(1..=3600).contains(&config.worker_silence_secs) {
            return Err(wrong("worker_silence_secs", "allowed are 1 to 3600"));
        }
        if !(1..=3600).contains(&config.call_timeout_secs) {
            return Err(wrong("call_timeout_secs", "allowed are 1 to 3600"));
        }
        if !matches!(
            config.log.as_str(),
            "error" | "warn" | "info" | "debug" | "trace"
        ) {
            return Err(wrong(
                "log",
                "allowed are error, warn, info, debug and trace",
            ));
        }
        if let Some(source) = &config.position {
            if source.device.is_some() == source.gpsd.is_some() {
                return Err(wrong("position", "give one of `device` and `gpsd`"));
            }
            if source.gpsd.is_some_and(|gpsd| !gpsd.ip().is_loopback()) {
                return Err(wrong(
                    "position.gpsd",
                    "gpsd has no authentication: only one of this machine, as 127.0.0.1:2947",
                ));
            }
            if source.gpsd.is_none() && source.gpsd_user.is_some() {
                return Err(wrong("position.gpsd_user", "there is no `gpsd` beside it"));
            }
        }
        let base = path.parent().unwrap_or(Path::new(""));
        let receiver = config.position.as_mut().and_then(|p| p.device.as_mut());
        let files = [&mut config.device, &mut config.storage, &mut config.socket];
        for file in files.into_iter().chain(receiver) {
            if file.as_os_str().is_empty() {
                return Err(wrong("device, storage, socket", "a path must not be empty"));
            }
            *file = base.join(&*file);
        }
        Ok(config)
    }

    /// Permission bits of the socket.
    #[must_use]
    pub fn mode(&self) -> Option<u32> {
        u32::from_str_radix(&self.socket_mode, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
    }

    /// How long a call into a TA may take.
    #[must_use]
    pub const fn call_timeout(&self) -> Duration {
        Duration::from_secs(self.call_timeout_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_gives_the_defaults_beside_it() {
        let config = Config::parse("", Path::new("/d/teed.toml")).unwrap();
        assert_eq!(config.socket, Path::new("/d/teed.sock"));
        assert_eq!(config.mode(), Some(0o666));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let say = |text| {
            Config::parse(text, Path::new("t.toml"))
                .unwrap_err()
                .to_string()
        };
        let text = say("log = \"info\"\nworkersmax = 3\n");
        assert!(
            text.contains("line 2") && text.contains("workersmax"),
            "{text}"
        );
        assert!(say("workers_max = \"x\"").contains("line 1"));
        assert!(say("socket_mode = \"999\"").contains("octal"));
        let text = say("[position]\ndevice = \"/dev/x\"\ngpsd_user = \"gpsd\"");
        assert!(text.contains("gpsd_user"), "{text}");
        assert!(say("[position]\ngpsd = \"10.0.0.1:2947\"").contains("of this machine"));
    }
}
