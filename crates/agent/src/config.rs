//! `agent.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tegata_client::{Login, TeeAddress};
use tegata_wire::ids::TaUuid;

/// By which way the TEE is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TeeKind {
    /// The socket of `tegata-teed`.
    #[default]
    Socket,
    /// OP-TEE, through the kernel.
    OpTee,
}

/// `agent.toml`. Every key has a default; unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// By which way the TEE is reached.
    pub tee: TeeKind,
    /// Socket of the TEE, if that is the way.
    pub tee_socket: PathBuf,
    /// Socket of this agent, for local applications.
    pub agent_socket: PathBuf,
    /// Who may connect to it, as permission bits in octal.
    pub agent_socket_mode: String,
    /// Where the TAM answers; empty for the one that the device names.
    pub tam_url: String,
    /// Where the CA answers: scheme, host and port.
    pub ca_url: String,
    /// Path of the CA's CMP resource, if the TA does not name one. `{profile}` stands for the
    /// profile that is asked for.
    pub cmp_path: String,
    /// Pause between two visits to the TAM, when nothing is wrong.
    pub poll_secs: u64,
    /// Pause between two looks whether a certificate of this daemon's own identity is to be renewed;
    /// 0 to leave them alone.
    pub renew_secs: u64,
    /// The TAs whose certificates are looked at, by UUID or by a name from `tas`; without any, the
    /// enrolment TA.
    pub renew_tas: Vec<String>,
    /// First pause after a failure; it doubles with each.
    pub retry_first_secs: u64,
    /// Longest pause after a failure.
    pub retry_max_secs: u64,
    /// Longest time for one HTTP request.
    pub http_timeout_secs: u64,
    /// Whose keys are enrolled and used unless the command line says, as [`login`] reads it.
    #[serde(deserialize_with = "login_entry")]
    pub login: Login,
    /// The enrolment TA of this device, by UUID or by a name from `tas`.
    pub enrol_ta: Option<String>,
    /// Names for TAs.
    pub tas: BTreeMap<String, String>,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log: String,
}

/// Who owns keys, in words: `user`, `group` (this process's own), `group:GID`, `application`,
/// `user-application`, `group-application`, or `public`.
///
/// # Errors
/// A sentence that names them.
pub fn login(text: &str) -> Result<Login, String> {
    let own_group = || {
        // The directory of a process belongs to its effective user and group.
        let own = std::fs::metadata("/proc/self");
        own.map(|own| std::os::unix::fs::MetadataExt::gid(&own))
            .map_err(|e| format!("the group of this process cannot be told ({e}): write group:GID"))
    };
    Ok(match text {
        "user" => Login::User,
        "public" => Login::Public,
        "application" => Login::Application,
        "user-application" => Login::UserApplication,
        "group" => Login::Group { gid: own_group()? },
        "group-application" => Login::GroupApplication { gid: own_group()? },
        other => match other.strip_prefix("group:").map(str::parse) {
            Some(Ok(gid)) => Login::Group { gid },
            _ => {
                return Err(
                    "one of user, group, group:GID, application, user-application, \
                            group-application, public"
                        .into(),
                );
            }
        },
    })
}

fn login_entry<'de, D: Deserializer<'de>>(entry: D) -> Result<Login, D::Error> {
    login(&String::deserialize(entry)?).map_err(serde::de::Error::custom)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tee: TeeKind::Socket,
            tee_socket: "teed.sock".into(),
            agent_socket: "agent.sock".into(),
            agent_socket_mode: "0660".into(),
            tam_url: String::new(),
            ca_url: String::new(),
            cmp_path: "/.well-known/cmp/p/{profile}".into(),
            poll_secs: 3600,
            renew_secs: 3600,
            renew_tas: Vec::new(),
            retry_first_secs: 2,
            retry_max_secs: 600,
            http_timeout_secs: 30,
            login: Login::User,
            enrol_ta: None,
            tas: BTreeMap::new(),
            log: "info".into(),
        }
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "cannot read {}: {source}. Give another file with --config, or the device directory with \
         --dir.", path.display()
    )]
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
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`], with the line where there is one.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.into(),
            source,
        })?;
        Self::parse(&text, path)
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
        let wrong = |key, reason: String| ConfigError::Value {
            path: path.into(),
            key,
            reason,
        };
        for (key, url) in [("tam_url", &config.tam_url), ("ca_url", &config.ca_url)] {
            if !url.is_empty() && !url.starts_with("http://") {
                return Err(wrong(key, format!("{url:?} must begin with http://")));
            }
        }
        if !config.cmp_path.starts_with('/') {
            return Err(wrong("cmp_path", "it must begin with /".into()));
        }
        for (key, secs, most) in [
            ("poll_secs", config.poll_secs, 31_536_000),
            ("retry_first_secs", config.retry_first_secs, 86_400),
            ("retry_max_secs", config.retry_max_secs, 86_400),
            ("http_timeout_secs", config.http_timeout_secs, 600),
        ] {
            if !(1..=most).contains(&secs) {
                return Err(wrong(key, format!("allowed are 1 to {most}")));
            }
        }
        if config.renew_secs > 31_536_000 {
            let reason = "allowed are 1 to 31536000, and 0 for never".into();
            return Err(wrong("renew_secs", reason));
        }
        if let Some(name) = config.renew_tas.iter().find(|n| config.ta(n).is_none()) {
            let reason = format!("{name:?} is no UUID and no name in `tas`");
            return Err(wrong("renew_tas", reason));
        }
        if config.mode().is_none() {
            return Err(wrong(
                "agent_socket_mode",
                "write it as octal text, such as \"0660\"".into(),
            ));
        }
        for uuid in config.tas.values() {
            if uuid.parse::<TaUuid>().is_err() {
                return Err(wrong("tas", format!("{uuid:?} is no UUID")));
            }
        }
        if let Some(name) = &config.enrol_ta
            && config.ta(name).is_none()
        {
            let reason = format!("{name:?} is no UUID and no name in `tas`");
            return Err(wrong("enrol_ta", reason));
        }
        let base = path.parent().unwrap_or(Path::new(""));
        config.tee_socket = base.join(&config.tee_socket);
        config.agent_socket = base.join(&config.agent_socket);
        Ok(config)
    }

    /// Where the TEE is.
    #[must_use]
    pub fn tee_address(&self) -> TeeAddress {
        match self.tee {
            TeeKind::Socket => TeeAddress::Socket(self.tee_socket.clone()),
            TeeKind::OpTee => TeeAddress::OpTee,
        }
    }

    /// The TA of that UUID or name.
    #[must_use]
    pub fn ta(&self, name: &str) -> Option<TaUuid> {
        self.tas.get(name).map_or(name, String::as_str).parse().ok()
    }

    /// The TAM's address, if one is configured.
    #[must_use]
    pub fn tam(&self) -> Option<&str> {
        Some(self.tam_url.as_str()).filter(|url| !url.is_empty())
    }

    /// Permission bits of the agent's socket.
    #[must_use]
    pub fn mode(&self) -> Option<u32> {
        u32::from_str_radix(&self.agent_socket_mode, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
    }

    /// Longest time for one HTTP request.
    #[must_use]
    pub const fn http_timeout(&self) -> Duration {
        Duration::from_secs(self.http_timeout_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/d/agent.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn a_file_of_the_factory_is_read() {
        let config = parse(
            "tam_url = \"http://127.0.0.1:1/tam\"\nca_url = \"http://127.0.0.1:2\"\n\
             enrol_ta = \"enrol\"\n[tas]\nenrol = \"6ba7b810-9dad-11d1-80b4-00c04fd430c8\"\n",
        )
        .unwrap();
        assert_eq!(config.tee_socket, Path::new("/d/teed.sock"));
        assert!(config.ta("enrol").is_some() && config.ta("other").is_none());
    }

    #[test]
    fn the_way_to_the_tee_is_chosen() {
        let socket = TeeAddress::Socket("/d/teed.sock".into());
        assert_eq!(parse("").unwrap().tee_address(), socket);
        assert_eq!(parse("tee = \"socket\"").unwrap().tee_address(), socket);
        let optee = parse("tee = \"optee\"").unwrap();
        assert_eq!(optee.tee_address(), TeeAddress::OpTee);
        assert!(parse("tee = \"sgx\"").unwrap_err().contains("optee"));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parse("tam_url = 3").unwrap_err().contains("line 1"));
        assert!(parse("\n\ntam = \"x\"").unwrap_err().contains("line 3"));
        assert!(
            parse("ca_url = \"ftp://x\"")
                .unwrap_err()
                .contains("http://")
        );
        assert!(parse("enrol_ta = \"x\"").unwrap_err().contains("no UUID"));
        assert!(parse("poll_secs = 0").unwrap_err().contains("poll_secs"));
        assert_eq!(parse("renew_secs = 0").unwrap().renew_secs, 0);
        let said = parse("renew_tas = [\"x\"]").unwrap_err();
        assert!(said.contains("renew_tas"), "{said}");
        let said = parse("log = \"info\"\nlogin = \"root\"").unwrap_err();
        assert!(
            said.contains("line 2") && said.contains("user-application"),
            "{said}"
        );
    }

    #[test]
    fn the_owner_of_keys_is_chosen_in_words() {
        let login = |text: &str| parse(&format!("login = \"{text}\"")).unwrap().login;
        assert_eq!(parse("").unwrap().login, Login::User);
        assert_eq!(login("user"), Login::User);
        assert_eq!(login("application"), Login::Application);
        assert_eq!(login("user-application"), Login::UserApplication);
        assert_eq!(login("group:7"), Login::Group { gid: 7 });
        let own = std::fs::metadata("/proc/self").unwrap();
        let gid = std::os::unix::fs::MetadataExt::gid(&own);
        assert_eq!(login("group"), Login::Group { gid });
        assert_eq!(login("group-application"), Login::GroupApplication { gid });
    }
}
