//! The appraisal policy, from a readable file.

use serde::Deserialize;
use tegata_wire::rats::eat::DebugStatus;
use toml::Spanned;

use crate::config::{ConfigError, Mistakes, choose_from, from_toml, parse_span_secs};

/// What wall stands around a TEE, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SecurityLevel {
    /// A sandboxed process of the same operating system.
    Software,
    /// A process, with keys in a TPM or secure element.
    SoftwareSealed,
    /// A secure world of its own: OP-TEE on TrustZone.
    Hardware,
}

impl SecurityLevel {
    /// Names in evidence, endorsements and policies, weakest first.
    const NAMES: [(&'static str, Self); 5] = [
        ("software", Self::Software),
        ("software-tpm", Self::SoftwareSealed),
        ("software-se", Self::SoftwareSealed),
        ("optee", Self::Hardware),
        ("hardware", Self::Hardware),
    ];

    /// The level of a name; `None` for an unknown one, which no policy accepts.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, level)| *level)
    }
}

/// What the Verifier asks of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppraisalPolicy {
    /// Its name, in every result.
    pub id: String,
    /// Weakest wall accepted.
    pub min_security_level: SecurityLevel,
    /// Runtimes accepted: name, and versions (`None`: every version of it).
    pub runtimes: Vec<(String, Option<Vec<String>>)>,
    /// Weakest debug status accepted.
    pub min_debug_status: DebugStatus,
    /// Whether a start without some part of the sandbox is accepted.
    pub accept_incomplete_sandbox: bool,
    /// Whether a TA that no reference value names is accepted.
    pub accept_unknown_tas: bool,
    /// Greatest age of evidence by its own clock, in seconds, where it has one.
    pub max_age_secs: u64,
    /// How long a result is good for, in seconds.
    pub result_secs: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    policy: Raw,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: Spanned<String>,
    min_security_level: Spanned<String>,
    runtimes: Spanned<Vec<RawRuntime>>,
    #[serde(default)]
    min_debug_status: Option<Spanned<String>>,
    #[serde(default)]
    accept_incomplete_sandbox: bool,
    #[serde(default)]
    accept_unknown_tas: bool,
    max_age: Option<Spanned<String>>,
    result_lifetime: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRuntime {
    name: String,
    versions: Option<Vec<String>>,
}

impl AppraisalPolicy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// Every mistake in it, each with line, column and what to write.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let raw = from_toml::<File>(text)?.policy;
        let mut m = Mistakes::new(text);
        if raw.id.get_ref().is_empty() || raw.id.get_ref().len() > 128 {
            m.add(
                raw.id.span(),
                "id is empty or longer than 128 bytes",
                "Write a short name.",
            );
        }
        let level = SecurityLevel::from_name(raw.min_security_level.get_ref());
        if level.is_none() {
            let word = raw.min_security_level.get_ref();
            let known = SecurityLevel::NAMES.map(|(n, _)| n);
            m.add(
                raw.min_security_level.span(),
                format!("there is no security level \"{word}\""),
                choose_from(word, &known),
            );
        }
        if raw.runtimes.get_ref().is_empty() {
            m.add(
                raw.runtimes.span(),
                "no runtime is accepted: every device would be refused",
                "Write for example [{ name = \"tegata-teed\" }].",
            );
        }
        let debug = raw
            .min_debug_status
            .map_or(Some(DebugStatus::Enabled), |word| {
                let found = DEBUG_NAMES
                    .iter()
                    .find(|(n, _)| n == word.get_ref())
                    .map(|(_, s)| *s);
                if found.is_none() {
                    m.add(
                        word.span(),
                        format!("there is no debug status \"{}\"", word.get_ref()),
                        choose_from(word.get_ref(), &DEBUG_NAMES.map(|(n, _)| n)),
                    );
                }
                found
            });
        let mut span = |text: Option<Spanned<String>>, default: u64| match text {
            None => default,
            Some(t) => parse_span_secs(t.get_ref())
                .filter(|s| *s > 0)
                .unwrap_or_else(|| {
                    m.add(
                        t.span(),
                        format!("\"{}\" is not a span of time", t.get_ref()),
                        "Write a number and a unit, for example \"5m\".",
                    );
                    default
                }),
        };
        let max_age_secs = span(raw.max_age, 300);
        let result_secs = span(raw.result_lifetime, 300);
        let runtimes = raw
            .runtimes
            .into_inner()
            .into_iter()
            .map(|r| (r.name, r.versions))
            .collect();
        let policy = level
            .zip(debug)
            .map(|(min_security_level, min_debug_status)| Self {
                id: raw.id.into_inner(),
                min_security_level,
                runtimes,
                min_debug_status,
                accept_incomplete_sandbox: raw.accept_incomplete_sandbox,
                accept_unknown_tas: raw.accept_unknown_tas,
                max_age_secs,
                result_secs,
            });
        m.finish(policy)
    }
}

/// Names of debug states, weakest first. Spec: RFC 9711 section 4.2.9
const DEBUG_NAMES: [(&str, DebugStatus); 5] = [
    ("enabled", DebugStatus::Enabled),
    ("disabled", DebugStatus::Disabled),
    ("disabled-since-boot", DebugStatus::DisabledSinceBoot),
    ("disabled-permanently", DebugStatus::DisabledPermanently),
    (
        "disabled-fully-and-permanently",
        DebugStatus::DisabledFullyAndPermanently,
    ),
];

/// A policy file to begin with.
pub const EXAMPLE: &str = include_str!("example.toml");
