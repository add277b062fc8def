//! The appraisal policy, from a readable file: `[policy]` for evidence of our TEE, which the Verifier reads,
//! and `[psa]` for PSA attestation tokens, which the CA reads. A file may have both.

use serde::Deserialize;
use tegata_wire::rats::eat::DebugStatus;
use tegata_wire::rats::psa::{Lifecycle, SoftwareComponent};
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

/// What the CA asks of a PSA attestation token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PsaPolicy {
    /// Its name, in the log.
    pub id: String,
    /// States of life that are accepted: [`Lifecycle::Secured`], and what the policy says besides.
    pub lifecycles: Vec<Lifecycle>,
    /// Whose tokens are accepted.
    pub callers: Callers,
    /// The software that is accepted; never empty.
    pub software: Vec<PsaReference>,
}

/// Who may have asked the Root of Trust for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// A secure partition alone: a positive client id.
    Secure,
    /// The normal world alone: a negative one.
    NonSecure,
    /// Both.
    Any,
}

impl Callers {
    const NAMES: [(&'static str, Self); 3] = [
        ("secure", Self::Secure),
        ("non-secure", Self::NonSecure),
        ("any", Self::Any),
    ];

    /// Whether a client id is of such a caller. 0 is of nobody.
    #[must_use]
    pub fn accept(self, client_id: i32) -> bool {
        match self {
            Self::Secure => client_id > 0,
            Self::NonSecure => client_id < 0,
            Self::Any => client_id != 0,
        }
    }
}

/// The reference value of a software component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PsaReference {
    /// Hash of the code.
    pub measurement: Vec<u8>,
    /// Hash of the key that signed it.
    pub signer: Vec<u8>,
    /// The type it must have; `None`: that is not looked at.
    pub kind: Option<String>,
    /// The version it must have; `None`: that is not looked at.
    pub version: Option<String>,
    /// The implementation that it is for; `None`: all.
    pub implementation_id: Option<[u8; 32]>,
}

impl PsaPolicy {
    /// Reads the part `[psa]` of a policy file.
    ///
    /// # Errors
    /// Every mistake in it, each with line, column and what to write.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let file = from_toml::<File>(text)?;
        let mut m = Mistakes::new(text);
        let Some(raw) = file.psa else {
            let what = "there is no section [psa]: nothing says which PSA tokens are good";
            m.add(
                0..0,
                what,
                "Add one; docs/spec/appraisal.md has an example.",
            );
            return m.finish(None);
        };
        check_id(&mut m, &raw.id);
        let lifecycles = raw.lifecycles.map_or_else(
            || vec![Lifecycle::Secured],
            |words| lifecycles(&mut m, &words),
        );
        let callers = raw.callers.map_or(Some(Callers::Any), |word| {
            let found = Callers::NAMES
                .iter()
                .find(|(name, _)| name == word.get_ref());
            if found.is_none() {
                m.add(
                    word.span(),
                    format!("there are no callers \"{}\"", word.get_ref()),
                    choose_from(word.get_ref(), &Callers::NAMES.map(|(name, _)| name)),
                );
            }
            found.map(|(_, callers)| *callers)
        });
        if raw.software.get_ref().is_empty() {
            m.add(
                raw.software.span(),
                "no software is accepted: every device would be refused",
                "Add [[psa.software]] with measurement and signer.",
            );
        }
        let software = raw
            .software
            .into_inner()
            .into_iter()
            .filter_map(|one| one.checked(&mut m))
            .collect();
        let policy = callers.map(|callers| Self {
            id: raw.id.into_inner(),
            lifecycles,
            callers,
            software,
        });
        m.finish(policy)
    }

    /// A type that the reference values for that implementation name and none of these components has.
    #[must_use]
    pub fn missing<'a>(
        &'a self,
        found: &[SoftwareComponent],
        implementation_id: &[u8; 32],
    ) -> Option<&'a str> {
        let for_it = |one: &&PsaReference| {
            let only = one.implementation_id;
            only.is_none_or(|only| only == *implementation_id)
        };
        let mut wanted = self.software.iter().filter(for_it);
        wanted.find_map(|one| {
            let has = |found: &SoftwareComponent| found.kind == one.kind;
            one.kind.as_deref().filter(|_| !found.iter().any(has))
        })
    }

    /// Whether a component of that implementation is one of the reference values.
    #[must_use]
    pub fn knows(&self, found: &SoftwareComponent, implementation_id: &[u8; 32]) -> bool {
        self.software.iter().any(|one| {
            let fits =
                |wanted: &Option<String>, got: &Option<String>| wanted.is_none() || wanted == got;
            one.measurement == found.measurement
                && one.signer == found.signer
                && fits(&one.kind, &found.kind)
                && fits(&one.version, &found.version)
                && one
                    .implementation_id
                    .is_none_or(|only| only == *implementation_id)
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    policy: Option<Raw>,
    psa: Option<RawPsa>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPsa {
    id: Spanned<String>,
    lifecycles: Option<Spanned<Vec<Spanned<String>>>>,
    callers: Option<Spanned<String>>,
    software: Spanned<Vec<RawSoftware>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSoftware {
    measurement: Spanned<String>,
    signer: Spanned<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    version: Option<String>,
    implementation_id: Option<Spanned<String>>,
}

impl RawSoftware {
    fn checked(self, m: &mut Mistakes<'_>) -> Option<PsaReference> {
        let hashes = [32, 48, 64];
        let measurement = hex_of(m, &self.measurement, &hashes);
        let signer = hex_of(m, &self.signer, &hashes);
        let only = self.implementation_id.map(|id| hex_of(m, &id, &[32]));
        let implementation_id = match only {
            None => None,
            Some(bytes) => Some(bytes?.try_into().ok()?),
        };
        Some(PsaReference {
            measurement: measurement?,
            signer: signer?,
            kind: self.kind,
            version: self.version,
            implementation_id,
        })
    }
}

/// Bytes in hexadecimal, of one of these lengths.
fn hex_of(m: &mut Mistakes<'_>, word: &Spanned<String>, lengths: &[usize]) -> Option<Vec<u8>> {
    let bytes = hex::decode(word.get_ref()).ok();
    let bytes = bytes.filter(|bytes| lengths.contains(&bytes.len()));
    if bytes.is_none() {
        let digits: Vec<String> = lengths.iter().map(|len| (2 * len).to_string()).collect();
        m.add(
            word.span(),
            format!("this is not {} hexadecimal digits", digits.join(", ")),
            "Take it from the tool that signs the image, or from a token of a good device.",
        );
    }
    bytes
}

fn lifecycles(m: &mut Mistakes<'_>, words: &Spanned<Vec<Spanned<String>>>) -> Vec<Lifecycle> {
    // Of the other states RFC 9783 says that a token is not to be trusted.
    let possible = [Lifecycle::Secured, Lifecycle::NonPsaRotDebug];
    let mut out = Vec::new();
    for word in words.get_ref() {
        match possible.iter().find(|state| state.name() == word.get_ref()) {
            Some(state) => out.push(*state),
            None => m.add(
                word.span(),
                format!("no token is accepted of the state \"{}\"", word.get_ref()),
                choose_from(word.get_ref(), &possible.map(Lifecycle::name)),
            ),
        }
    }
    if words.get_ref().is_empty() {
        let what = "no state of life is accepted: every device would be refused";
        m.add(
            words.span(),
            what,
            "Write [\"secured\"], or remove the line, which is the same.",
        );
    }
    out
}

fn check_id(m: &mut Mistakes<'_>, id: &Spanned<String>) {
    if id.get_ref().is_empty() || id.get_ref().len() > 128 {
        m.add(
            id.span(),
            "id is empty or longer than 128 bytes",
            "Write a short name.",
        );
    }
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
    /// Reads the part `[policy]` of a policy file.
    ///
    /// # Errors
    /// Every mistake in it, each with line, column and what to write.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let raw = from_toml::<File>(text)?.policy;
        let mut m = Mistakes::new(text);
        let Some(raw) = raw else {
            let what = "there is no section [policy]: nothing says which evidence is good";
            m.add(
                0..0,
                what,
                "Add one; docs/spec/appraisal.md says what is in it.",
            );
            return m.finish(None);
        };
        check_id(&mut m, &raw.id);
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
