//! Which TEEs are tokens: a file, and the environment before it.
//!
//! `/etc/tegata/pkcs11.toml`, or the file that `TEGATA_PKCS11_CONFIG` names. The variables
//! `TEGATA_TEE_SOCKET`, `TEGATA_TEE_LOGIN`, `TEGATA_TEE_TA` and `TEGATA_TOKEN_LABEL` describe the
//! only token and leave the file unread. A program that runs with more rights than its caller
//! takes nothing from the environment.

use std::path::PathBuf;

use serde::Deserialize;
use tegata_client::{Login, TaUuid, TeeAddress};

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenConfig {
    /// Its TEE.
    pub tee: TeeAddress,
    /// Which identity of the caller owns its keys.
    pub login: Login,
    /// The TA that keeps the keys; `None`: the only one that is installed.
    pub ta: Option<TaUuid>,
    /// Label, at most 32 bytes.
    pub label: String,
    /// Most calls at the same time: each has a session with the TA.
    pub sessions: usize,
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {source}", path.display())]
    Parse {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{name} = {value:?}: {expected}")]
    Value {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("{tokens} tokens; at most {max} are possible")]
    TooMany { tokens: usize, max: usize },
}

/// The file with several tokens.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Entry>,
}

/// A token in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Entry {
    tee: Option<String>,
    socket: Option<PathBuf>,
    login: Option<String>,
    ta: Option<String>,
    label: Option<String>,
    sessions: Option<usize>,
}

/// Reads the configuration. `env` answers for the environment.
pub(crate) fn load(env: impl Fn(&str) -> Option<String>) -> Result<Vec<TokenConfig>, ConfigError> {
    let only = Entry {
        tee: env("TEGATA_TEE"),
        socket: env("TEGATA_TEE_SOCKET").map(PathBuf::from),
        login: env("TEGATA_TEE_LOGIN"),
        ta: env("TEGATA_TEE_TA"),
        label: env("TEGATA_TOKEN_LABEL"),
        sessions: None,
    };
    if only.socket.is_some() || only.tee.is_some() {
        return Ok(vec![only.check()?]);
    }
    let named = env("TEGATA_PKCS11_CONFIG").map(PathBuf::from);
    let path = named.clone().unwrap_or_else(|| PathBuf::from(CONFIG_PATH));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        // Without a file there is the TEE at its usual place, for the user.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            String::new()
        }
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    parse(&text, path)
}

fn parse(text: &str, path: PathBuf) -> Result<Vec<TokenConfig>, ConfigError> {
    let wrong = |source| ConfigError::Parse {
        path,
        source: Box::new(source),
    };
    // Two shapes, so that a mistake is named where it is.
    let several = text.lines().any(|line| line.trim_start().starts_with("[["));
    let entries = if several {
        toml::from_str::<File>(text).map_err(wrong)?.token
    } else {
        vec![toml::from_str::<Entry>(text).map_err(wrong)?]
    };
    if entries.len() > TOKENS_MAX {
        return Err(ConfigError::TooMany {
            tokens: entries.len(),
            max: TOKENS_MAX,
        });
    }
    entries.into_iter().map(Entry::check).collect()
}

impl Entry {
    fn check(self) -> Result<TokenConfig, ConfigError> {
        let tee = match self.tee.as_deref() {
            None | Some("socket") => {
                TeeAddress::Socket(self.socket.unwrap_or_else(|| PathBuf::from(SOCKET_PATH)))
            }
            Some("optee") => TeeAddress::OpTee,
            Some(value) => return Err(bad("tee", value, "\"socket\" or \"optee\"")),
        };
        let login = match self.login.as_deref() {
            None => Login::User,
            Some(text) => login(text).ok_or_else(|| bad("login", text, LOGINS))?,
        };
        let ta = match self.ta {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| bad("ta", &text, "a UUID"))?),
        };
        let label = self.label.unwrap_or_else(|| LABEL.into());
        if label.is_empty() || label.len() > 32 || label.chars().any(char::is_control) {
            return Err(bad("label", &label, "1 to 32 bytes of text"));
        }
        let sessions = self.sessions.unwrap_or(SESSIONS);
        if !(1..=16).contains(&sessions) {
            return Err(bad("sessions", &sessions.to_string(), "1 to 16"));
        }
        Ok(TokenConfig {
            tee,
            login,
            ta,
            label,
            sessions,
        })
    }
}

fn bad(name: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::Value {
        name,
        value: value.into(),
        expected,
    }
}

fn login(text: &str) -> Option<Login> {
    Some(match text {
        "user" => Login::User,
        "application" => Login::Application,
        "user-application" => Login::UserApplication,
        other => match other.split_once(':')? {
            ("group", gid) => Login::Group {
                gid: gid.parse().ok()?,
            },
            ("group-application", gid) => Login::GroupApplication {
                gid: gid.parse().ok()?,
            },
            _ => return None,
        },
    })
}

/// The file, unless another one is named.
const CONFIG_PATH: &str = "/etc/tegata/pkcs11.toml";
/// Where the packaged `tegata-teed` listens.
const SOCKET_PATH: &str = "/run/tegata/teed.sock";
/// Label of a token that was given none.
const LABEL: &str = "tegata";
/// Calls at the same time: a session is a process in the TEE, about 6 MB.
const SESSIONS: usize = 2;
/// Most tokens: programs look at each of them.
const TOKENS_MAX: usize = 16;
const LOGINS: &str = "one of user, application, user-application, group:GID, group-application:GID";

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests.
mod tests {
    use super::*;

    #[test]
    fn one_token_or_several_and_mistakes_are_named() {
        let parse = |text: &str| parse(text, "f".into());
        let default = parse("").unwrap();
        assert_eq!(default.len(), 1);
        assert_eq!(default[0].tee, TeeAddress::Socket(SOCKET_PATH.into()));
        let text = "[[token]]\nsocket = \"/a\"\n[[token]]\nlogin = \"group:7\"\nlabel = \"g\"\n";
        let two = parse(text).unwrap();
        assert_eq!(two[1].login, Login::Group { gid: 7 });
        for wrong in [
            "soket = \"/a\"",
            "login = \"root\"",
            "login = \"group:x\"",
            "ta = \"x\"",
            "label = \"\"",
            "sessions = 0",
            "tee = \"sgx\"",
            "[[token]]\nnope = 1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse(&"[[token]]\n".repeat(17)).is_err());
    }

    #[test]
    fn the_environment_comes_first() {
        let env = |name: &str| (name == "TEGATA_TEE_SOCKET").then(|| "/x".to_owned());
        let found = load(env).unwrap();
        assert_eq!(found[0].tee, TeeAddress::Socket("/x".into()));
        let env = |name: &str| (name == "TEGATA_PKCS11_CONFIG").then(|| "/nowhere".to_owned());
        assert!(load(env).is_err());
    }
}
